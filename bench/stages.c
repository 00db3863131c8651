/* Where a tower's time goes: its stages, and what the kernels do in each. The library's own code runs, nothing is
 * rebuilt here: the linker puts this file's functions around the room of kernels' drivers (--wrap), and the model's
 * table of kernels is replaced by one that takes the time of each call. A stage is told by the layer that it is called
 * with. The vectors must be those of the plain run, and what the timers cost is printed. */
#include "base/threads.h"
#include "setup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PATCH, QKV, ATTENTION, OUT, FC1, FC2, PROJECTION, NORMS, REST, N_STAGES };
static const char *const stage_names[] = {"patch", "qkv",        "attention", "out", "fc1",
                                          "fc2",   "projection", "norms",     "rest"};

enum { PRODUCT, PREPARE, NORM, FINISH, SOFTMAX, N_PARTS };

/* This program measures one computation at a time. */
static struct {
  const struct clipc_model *model;
  const struct clipc__transformer *transformer;
  struct clipc__kernels real;
  int stage;
  uint64_t wall_ns[N_STAGES], part_ns[N_STAGES][N_PARTS];
} watch;

static uint64_t now_ns(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* ---- kernels, timed; from any thread */

static void count(int part, uint64_t start) {
  __atomic_fetch_add(&watch.part_ns[watch.stage][part], now_ns() - start, __ATOMIC_RELAXED);
}

#define TIMED_PRODUCT(name, gemm)                                                                                      \
  static void product_##name(void *sums, const void *x, size_t x_stride, size_t rows, const void *panel, size_t k,     \
                             const void *ahead, size_t ahead_bytes) {                                                  \
    uint64_t start = now_ns();                                                                                         \
    watch.real.gemm.product(sums, x, x_stride, rows, panel, k, ahead, ahead_bytes);                                    \
    count(PRODUCT, start);                                                                                             \
  }                                                                                                                    \
  static void prepare_##name(void *out, struct clipc__row_scale *scale, const float *x, size_t k, size_t k_padded,     \
                             int n_levels) {                                                                           \
    uint64_t start = now_ns();                                                                                         \
    watch.real.gemm.prepare(out, scale, x, k, k_padded, n_levels);                                                     \
    count(PREPARE, start);                                                                                             \
  }
TIMED_PRODUCT(f32, gemm[0])
TIMED_PRODUCT(bf16, gemm[1])
TIMED_PRODUCT(int8, gemm[2])
TIMED_PRODUCT(small, small)

static void finish(float *y, size_t y_stride, const void *sums, size_t sums_stride, size_t rows, size_t cols,
                   const struct clipc__finish *how) {
  uint64_t start = now_ns();
  watch.real.finish(y, y_stride, sums, sums_stride, rows, cols, how);
  count(FINISH, start);
}

static void layer_norm(float *y, size_t y_stride, const float *x, size_t x_stride, const float *weight,
                       const float *bias, size_t rows, size_t cols, float eps) {
  uint64_t start = now_ns();
  watch.real.layer_norm_f32(y, y_stride, x, x_stride, weight, bias, rows, cols, eps);
  count(NORM, start);
}

static void softmax(float *x, size_t n, size_t n_all) {
  uint64_t start = now_ns();
  watch.real.softmax_f32(x, n, n_all);
  count(SOFTMAX, start);
}

static void watch_gemm(struct clipc__gemm *gemm, int i) {
  static void (*const products[])(void *, const void *, size_t, size_t, const void *, size_t, const void *,
                                  size_t) = {product_f32, product_bf16, product_int8, product_small};
  static void (*const prepares[])(void *, struct clipc__row_scale *, const float *, size_t, size_t,
                                  int) = {prepare_f32, prepare_bf16, prepare_int8, prepare_small};
  gemm->product = products[i];
  if (gemm->prepare != NULL) gemm->prepare = prepares[i];
}

static void start_watching(clipc_model *model, bool text) {
  watch.model = model;
  watch.transformer = text ? &model->text.transformer : &model->vision.transformer;
  watch.real = model->kernels;
  for (int i = 0; i < 3; i++) watch_gemm(&model->kernels.gemm[i], i);
  watch_gemm(&model->kernels.small, 3);
  model->kernels.finish = finish;
  model->kernels.layer_norm_f32 = layer_norm;
  model->kernels.softmax_f32 = softmax;
}

static void stop_watching(clipc_model *model) { model->kernels = watch.real; }

/* ---- drivers, wrapped */

#define WRAPPED(result, name, ...)                                                                                     \
  result __real_##name(__VA_ARGS__);                                                                                   \
  result __wrap_##name(__VA_ARGS__);                                                                                   \
  result __wrap_##name(__VA_ARGS__)

static int stage_of(const struct clipc__linear *linear) {
  if (linear == &watch.model->vision.patch_embedding) return PATCH;
  if (linear == &watch.model->vision.projection || linear == &watch.model->text.projection) return PROJECTION;
  for (int i = 0; i < watch.transformer->config.n_layers; i++) {
    const struct clipc__block_weights *block = &watch.transformer->blocks[i];
    if (linear >= block->qkv && linear < block->qkv + 3) return QKV;
    if (linear == &block->out) return OUT;
    if (linear == &block->fc1) return FC1;
    if (linear == &block->fc2) return FC2;
  }
  return REST;
}

static uint64_t enter(int stage) {
  watch.stage = stage;
  return now_ns();
}

static void leave(uint64_t start) {
  watch.wall_ns[watch.stage] += now_ns() - start;
  watch.stage = REST;
}

WRAPPED(void, clipc__linear_forward, const struct clipc__compute *compute, float *y, size_t y_stride,
        const struct clipc__rows *x, const struct clipc__linear *linears, size_t n_linears,
        enum clipc__activation activation, enum clipc__linear_output output) {
  uint64_t start = watch.model ? enter(stage_of(linears)) : 0;
  __real_clipc__linear_forward(compute, y, y_stride, x, linears, n_linears, activation, output);
  if (watch.model) leave(start);
}

WRAPPED(void, clipc__attention, const struct clipc__compute *compute, float *out, size_t out_stride, const float *q,
        size_t q_stride, const float *k, const float *v, size_t kv_stride, size_t n_heads, size_t head_dim,
        const struct clipc__sequences *sequences, const size_t *pooled) {
  uint64_t start = enter(ATTENTION);
  __real_clipc__attention(compute, out, out_stride, q, q_stride, k, v, kv_stride, n_heads, head_dim, sequences, pooled);
  leave(start);
}

WRAPPED(void, clipc__layer_norm, const struct clipc__compute *compute, float *y, const float *x, const float *weight,
        const float *bias, size_t rows, size_t cols, float eps) {
  uint64_t start = enter(NORMS);
  __real_clipc__layer_norm(compute, y, x, weight, bias, rows, cols, eps);
  leave(start);
}

/* ---- the table */

static double timed_run(struct setup *setup) {
  double start = setup_ms();
  setup_run(setup);
  return setup_ms() - start;
}

/* Of each stage its fastest time in any of the watched runs, and what the kernels took of it then. */
struct fastest {
  double ms; /* of a whole run */
  uint64_t wall_ns[N_STAGES], part_ns[N_STAGES][N_PARTS];
};

static void watched_run(struct setup *setup, struct fastest *fastest) {
  memset(watch.wall_ns, 0, sizeof watch.wall_ns);
  memset(watch.part_ns, 0, sizeof watch.part_ns);
  start_watching(setup->model, setup->text);
  watch.stage = REST;
  double ms = timed_run(setup);
  stop_watching(setup->model);
  bool first = fastest->ms == 0;
  if (first || ms < fastest->ms) fastest->ms = ms;
  watch.wall_ns[REST] = (uint64_t)(ms * 1e6);
  for (int i = 0; i < REST; i++) watch.wall_ns[REST] -= watch.wall_ns[i];
  for (int i = 0; i < N_STAGES; i++) {
    if (!first && watch.wall_ns[i] >= fastest->wall_ns[i]) continue;
    fastest->wall_ns[i] = watch.wall_ns[i];
    memcpy(fastest->part_ns[i], watch.part_ns[i], sizeof watch.part_ns[i]);
  }
}

static void print_table(const struct setup *setup, const struct fastest *fastest, double plain) {
  static const int order[] = {PRODUCT, FINISH, PREPARE, NORM, SOFTMAX};
  int n_threads = setup->model->n_threads;
  double all = 0;
  for (int i = 0; i < N_STAGES; i++) all += (double)fastest->wall_ns[i];
  printf("%s %s, %s (%s), batch %zu, %d thread%s: %.3f ms an item, %.3f with timers\n",
         setup->shape ? setup->shape : setup->folder, setup->text ? "text" : "image",
         setup_precisions[clipc_model_precision(setup->model)], clipc_model_kernels(setup->model), setup->batch,
         n_threads, n_threads > 1 ? "s" : "", plain / (double)setup->batch, fastest->ms / (double)setup->batch);
  printf("%-12s%10s%8s   of which %%: product finish prepare   norm softmax  other\n", "stage", "ms/item", "share");
  for (int i = 0; i < N_STAGES; i++) {
    double wall = (double)fastest->wall_ns[i], threads = i == REST ? 1 : n_threads, other = 100;
    if (wall == 0) continue;
    printf("%-12s%10.4f%7.1f%%   %11s", stage_names[i], wall / 1e6 / (double)setup->batch, 100 * wall / all, "");
    for (int p = 0; p < N_PARTS; p++) {
      double percent = 100 * (double)fastest->part_ns[i][order[p]] / (wall * threads);
      other -= percent;
      printf("%8.1f", percent);
    }
    printf("%7.1f\n", other);
  }
  printf("\n");
  fflush(stdout);
}

static void profile(struct setup *setup) {
  struct fastest fastest = {0};
  double plain = 0;
  size_t n_bytes = setup->batch * clipc_embedding_dimension(setup->model) * sizeof(float);
  float *expected = setup_memory(n_bytes);
  timed_run(setup);
  memcpy(expected, setup->embeddings, n_bytes);
  double begun = setup_ms();
  for (int n = 0; n < 5 || setup_ms() - begun < setup->seconds * 1e3; n++) {
    double ms = timed_run(setup);
    if (plain == 0 || ms < plain) plain = ms;
    watched_run(setup, &fastest);
    if (memcmp(expected, setup->embeddings, n_bytes) != 0) {
      fprintf(stderr, "stages: the watched run gives other vectors\n");
      exit(1);
    }
  }
  free(expected);
  watch.model = NULL;
  print_table(setup, &fastest, plain);
}

int main(int argc, char **argv) {
  struct setup setup;
  setup_parse(
      &setup, argc, argv,
      "Where a tower's time goes, stage by stage: a table for each precision and batch, of each stage's fastest\n"
      "time. Shares are of their sum; of a stage's time on all threads, what the kernels take, the other being\n"
      "joins, waiting and what stands around the kernels. Rest: gathering, patches, positions, pooling.\n");
  for (int p = 0; p < setup.n_precisions; p++)
    for (int b = 0; b < setup.n_batches; b++) {
      setup_open(&setup, setup.precisions[p], setup.batches[b]);
      profile(&setup);
      setup_close(&setup);
    }
  clipc_shutdown();
  return 0;
}
