/* Times the kernels of every tier: products with weights streamed from memory as the drivers do it, the rest out of the
 * cache. All tiers and shapes take turns, round after round, and the best of each counts: the machine is not ours
 * alone. The peak of a tier's instructions is measured in the same rounds. */
#include "checkasm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define POOL_BYTES ((size_t)200 << 20) /* of weights: more than any cache */
#define N_TURNS 15
#define TURN_SECONDS 0.003 /* less than a scheduler's slice */
#define MOST_K 3072
#define BLOCK_BYTES ((size_t)384 << 10) /* of input rows that are walked through by panel after panel */

static const size_t bench_rows[] = {1, 8, 50, 196, 1600};
static const size_t bench_k[] = {768, 3072};
static const char *const precision_names[] = {"f32", "bf16", "int8"};

static char *pool, *inputs;
static size_t pool_at;
static float *sums, *numbers, *results;

/* Of this thread alone: others run too. */
static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

/* As many of the rows as a chunk has: they stay in the second cache while panels go by. */
static size_t block_of(const struct clipc__gemm *gemm, size_t rows, size_t k) {
  size_t most = BLOCK_BYTES / (k * clipc__number_bytes(gemm->input)) / gemm->tile_rows * gemm->tile_rows;
  if (most < gemm->tile_rows) most = gemm->tile_rows;
  size_t n_blocks = (rows + most - 1) / most, even = (rows + n_blocks - 1) / n_blocks;
  even = (even + gemm->tile_rows - 1) / gemm->tile_rows * gemm->tile_rows;
  return smaller(rows, even);
}

struct product_bench {
  const struct clipc__kernels *kernels;
  const struct clipc__gemm *gemm;
  size_t rows, k;
};

/* The next panels of the pool, each by all rows. */
static void run_product(const struct product_bench *job, size_t n_panels) {
  static const float zeros[256];
  static const int32_t column_sums[256];
  static const struct clipc__row_scale row_scales[1024];
  const struct clipc__gemm *gemm = job->gemm;
  struct clipc__finish how = {.bias = zeros};
  if (gemm->weights == CLIPC__S8) how.scale = zeros, how.sum = column_sums, how.rows = row_scales;
  size_t stride = clipc__input_stride(job->k), panel_bytes = clipc__panel_bytes(gemm, job->k), cols = gemm->panel_cols;
  size_t n_tiles = (job->rows + gemm->tile_rows - 1) / gemm->tile_rows;
  for (; n_panels > 0; n_panels--) {
    pool_at = pool_at + 2 * panel_bytes > POOL_BYTES ? 0 : pool_at + panel_bytes;
    const char *panel = pool + pool_at, *next = panel + panel_bytes;
    for (size_t tile = 0, row = 0; tile < n_tiles; tile++) {
      size_t height = (job->rows - row + n_tiles - tile - 1) / (n_tiles - tile), part = panel_bytes / n_tiles;
      const char *ahead = n_tiles == 1 ? panel + 4096 : next + tile * part;
      gemm->product(sums, inputs + row * stride, stride, height, panel, job->k, ahead, part);
      job->kernels->finish(results, cols, sums, cols, height, cols, &how);
      row += height;
    }
  }
}

/* Operations per second. */
static double time_product(const struct clipc__kernels *kernels, int precision, size_t rows, size_t k) {
  const struct clipc__gemm *gemm = &kernels->gemm[precision];
  struct product_bench job = {kernels, gemm, block_of(gemm, rows, k), k};
  double operations = 2.0 * (double)job.rows * (double)k * gemm->panel_cols; /* of a panel */
  for (size_t n_panels = 1;; n_panels *= 2) {
    double start = now();
    run_product(&job, n_panels);
    double spent = now() - start;
    if (spent > TURN_SECONDS) return operations * (double)n_panels / spent;
  }
}

static double time_peak(const struct clipc__kernels *kernels, int precision) {
  for (size_t n_rounds = 1000; kernels->peak[precision] != NULL; n_rounds *= 2) {
    double start = now(), operations = kernels->peak[precision](n_rounds), spent = now() - start;
    if (spent > TURN_SECONDS) return operations * (double)n_rounds / spent;
  }
  return 0;
}

/* ---- kernels of rows: nanoseconds an element */

enum row_bench {
  BENCH_PREPARE_BF16,
  BENCH_PREPARE_INT8,
  BENCH_FINISH_F32,
  BENCH_FINISH_INT8,
  BENCH_QUICK_GELU,
  BENCH_GELU_ERF,
  BENCH_GELU_TANH,
  BENCH_LAYER_NORM,
  BENCH_SOFTMAX_50,
  BENCH_SOFTMAX_257,
  N_ROW_BENCHES
};
static const char *const row_bench_names[] = {
    "bf16.prepare",        "int8.prepare",         "finish",     "finish of integers", "activation.quick_gelu",
    "activation.gelu_erf", "activation.gelu_tanh", "layer_norm", "softmax of 50",      "softmax of 257"};

/* Runs one kernel on 768 numbers or so; returns how many. */
static size_t run_row_kernel(const struct clipc__kernels *kernels, enum row_bench which) {
  static struct clipc__row_scale row_scale[24];
  static const float scales[32];
  static const int32_t column_sums[32];
  struct clipc__finish how = {.bias = numbers};
  const struct clipc__gemm *gemm = &kernels->gemm[which == BENCH_PREPARE_BF16 ? 1 : 2];
  size_t n = which == BENCH_SOFTMAX_50 ? 50 : which == BENCH_SOFTMAX_257 ? 257 : 768;
  switch (which) {
  case BENCH_PREPARE_BF16:
  case BENCH_PREPARE_INT8:
    if (gemm->prepare == NULL) return 0;
    gemm->prepare(results, row_scale, numbers, n, n, gemm->n_levels);
    break;
  case BENCH_FINISH_INT8:
    how.scale = scales, how.sum = column_sums, how.rows = row_scale;
    /* fall through */
  case BENCH_FINISH_F32: kernels->finish(results, 32, sums, 32, 24, 32, &how); break;
  case BENCH_LAYER_NORM: kernels->layer_norm_f32(results, n, numbers, n, NULL, NULL, 1, n, 1e-5f); break;
  case BENCH_SOFTMAX_50:
  case BENCH_SOFTMAX_257:
    memcpy(results, numbers, n * sizeof *results);
    kernels->softmax_f32(results, n, n);
    break;
  default: /* activations work in place: on fresh numbers each time */
    memcpy(results, numbers, n * sizeof *results);
    kernels->activation_f32[CLIPC__QUICK_GELU + (int)(which - BENCH_QUICK_GELU)](results, n);
  }
  return n;
}

static double time_row_kernel(const struct clipc__kernels *kernels, enum row_bench which) {
  size_t n = 0;
  double start = now(), spent;
  do {
    for (int i = 0; i < 20; i++) n += run_row_kernel(kernels, which);
    spent = now() - start;
  } while (spent < TURN_SECONDS / 4 && n > 0);
  return n ? spent / (double)n * 1e9 : 0;
}

/* ---- tables */

struct timing {
  double peak[3], product[3][COUNT(bench_rows)][COUNT(bench_k)]; /* operations per second */
  double row[N_ROW_BENCHES];                                     /* ns */
};

static bool wanted(const char *only, const char *kernel) { return only == NULL || strstr(kernel, only) != NULL; }

static void raise_to(double *best, double value) { *best = value > *best ? value : *best; }

static bool times_product(const struct tier_table *tiers, size_t n, int precision, const char *only) {
  char name[32];
  snprintf(name, sizeof name, "%s.product", precision_names[precision]);
  return wanted(only, name) && is_new_gemm(tiers, n, precision);
}

static void time_tier(const struct tier_table *tiers, size_t n, struct timing *best, const char *only) {
  const struct clipc__kernels *kernels = &tiers[n].kernels;
  for (int p = 0; p < 3; p++) {
    if (!times_product(tiers, n, p, only)) continue;
    raise_to(&best->peak[p], time_peak(kernels, p));
    for (size_t r = 0; r < COUNT(bench_rows); r++)
      for (size_t k = 0; k < COUNT(bench_k); k++)
        raise_to(&best->product[p][r][k], time_product(kernels, p, bench_rows[r], bench_k[k]));
  }
  for (enum row_bench b = 0; b < N_ROW_BENCHES; b++) {
    if (!wanted(only, row_bench_names[b])) continue;
    double ns = time_row_kernel(kernels, b);
    if (best->row[b] == 0 || ns < best->row[b]) best->row[b] = ns;
  }
}

static void print_products(const struct tier_table *tiers, const struct timing *timings, size_t n_tiers, int precision,
                           const char *only) {
  bool any = false;
  for (size_t t = 0; t < n_tiers; t++) any = any || times_product(tiers, t, precision, only);
  if (!any) return;
  printf("\n%s: GFLOP/s (share of the measured peak), weights from memory\n%-14s%-16s%7s", precision_names[precision],
         "tier", "kernel", "peak");
  for (size_t k = 0; k < COUNT(bench_k); k++)
    for (size_t r = 0; r < COUNT(bench_rows); r++) printf("%5zu x %-5zu", bench_rows[r], bench_k[k]);
  printf("\n");
  for (size_t t = 0; t < n_tiers; t++) {
    const struct timing *timing = &timings[t];
    double peak = timing->peak[precision];
    for (size_t other = 0; other < n_tiers && tiers[t].kernels.gemm[precision].group == 0; other++)
      raise_to(&peak, timings[other].peak[precision]); /* OpenBLAS chooses its own instructions */
    if (!times_product(tiers, t, precision, only)) continue;
    printf("%-14s%-16s%7.1f", tiers[t].name, tiers[t].kernels.gemm[precision].name, peak * 1e-9);
    for (size_t k = 0; k < COUNT(bench_k); k++)
      for (size_t r = 0; r < COUNT(bench_rows); r++) {
        double rate = timing->product[precision][r][k];
        printf("%7.1f", rate * 1e-9);
        if (peak > 0)
          printf(" %3.0f%%", 100 * rate / peak);
        else
          printf("     ");
        printf(" ");
      }
    printf("\n");
  }
}

static void print_rows(const struct tier_table *tiers, const struct timing *timings, size_t n_tiers, const char *only) {
  bool any = false;
  for (enum row_bench b = 0; b < N_ROW_BENCHES; b++) any = any || wanted(only, row_bench_names[b]);
  if (!any) return;
  printf("\nns an element, out of the cache\n%-24s", "kernel");
  for (size_t t = 0; t < n_tiers; t++) printf("%13s", tiers[t].name);
  printf("\n");
  for (enum row_bench b = 0; b < N_ROW_BENCHES; b++) {
    if (!wanted(only, row_bench_names[b])) continue;
    printf("%-24s", row_bench_names[b]);
    for (size_t t = 0; t < n_tiers; t++)
      if (timings[t].row[b] > 0)
        printf("%13.3f", timings[t].row[b]);
      else
        printf("%13s", "-");
    printf("\n");
  }
}

/* Any bytes will do as weights and inputs, so long as they are ordinary floats, ordinary bf16 and ordinary integers. */
static void fill_with_numbers(char *memory, size_t n_bytes) {
  size_t once = smaller(n_bytes, (size_t)1 << 20) / 4;
  for (size_t i = 0; i < once; i++) {
    uint32_t bits = 0x3c003c00u | (random_bits() & 0x80ff80ffu); /* 0.008 to 0.03, either sign, in both formats */
    memcpy(memory + 4 * i, &bits, sizeof bits);
  }
  for (size_t at = 4 * once; at < n_bytes; at += 4 * once) memcpy(memory + at, memory, smaller(4 * once, n_bytes - at));
}

void bench(const struct tier_table *tiers, size_t n_tiers, const char *only) {
  struct timing *timings = get(n_tiers * sizeof *timings);
  clipc_allocator allocator = {0};
  size_t input_bytes = 1024 * clipc__input_stride(MOST_K); /* more rows than any block has */
  memset(timings, 0, n_tiers * sizeof *timings);
  pool = clipc__alloc(&allocator, POOL_BYTES + 4 * MOST_K * 256, 1);
  inputs = clipc__alloc(&allocator, input_bytes, 1);
  sums = clipc__alloc(&allocator, 512 * 128, sizeof *sums);
  numbers = clipc__alloc(&allocator, 4096, sizeof *numbers);
  results = clipc__alloc(&allocator, 512 * 128, sizeof *results);
  if (pool && inputs && sums && numbers && results) {
    fill_with_numbers(pool, POOL_BYTES + 4 * MOST_K * 256);
    fill_with_numbers(inputs, input_bytes);
    memset(sums, 0, 512 * 128 * sizeof *sums);
    random_floats(numbers, 4096, 3.0f);
    for (int turn = 0; turn < N_TURNS; turn++)
      for (size_t t = 0; t < n_tiers; t++) time_tier(tiers, t, &timings[t], only);
    printf("one thread; the best of %d turns, all tiers taking turns\n", N_TURNS);
    for (int p = 0; p < 3; p++) print_products(tiers, timings, n_tiers, p, only);
    print_rows(tiers, timings, n_tiers, only);
  }
  void *all[] = {pool, inputs, sums, numbers, results};
  for (size_t i = 0; i < COUNT(all); i++) clipc__free(&allocator, all[i]);
  free(timings);
}
