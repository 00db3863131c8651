/* Prints a digest of what every AVX-512 kernel makes of the same numbers, in both modes of denormals. Built three ways:
 * with the instructions emulated, as machine code for Bochs (freestanding), and as machine code for a CPU that has
 * them. Digests must be equal: the emulation is right, and so is what the compiler and the assembler made of the
 * kernels.
 *
 *   -DDIGEST_TIERS=3   of avx512, avx512-vnni, avx512-bf16 the first so many */
#include "kernels/kernels.h"

#include <immintrin.h>
#include <string.h>

#if __STDC_HOSTED__
#include <stdio.h>
static void put(const char *text) { fputs(text, stdout); }
#else
void put(const char *text);
#endif

#ifndef DIGEST_TIERS
#define DIGEST_TIERS 3
#endif
#define MOST_ROWS 14
#define MOST_COLS 32
#define MOST_K 260
#define STRIDE (MOST_K + 3) /* of inputs, in floats */

static uint64_t state = 1, digest = 0xcbf29ce484222325u;

static uint32_t bits(void) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(state >> 32);
}

static float number(float size) { return size * ((float)(int32_t)bits() * 0x1p-31f); }

static void numbers(float *x, size_t n, float size) {
  for (size_t i = 0; i < n; i++) x[i] = number(size);
}

static void digest_floats(const float *x, size_t n) {
  for (size_t i = 0; i < n; i++) {
    uint32_t word;
    memcpy(&word, &x[i], sizeof word);
    if (x[i] != x[i]) word = 0x7fc00000; /* which NaN it is hangs on the order of operands */
    digest = (digest ^ word) * 0x100000001b3u;
  }
}

static void digest_bytes(const void *data, size_t n) {
  for (size_t i = 0; i < n; i++) digest = (digest ^ ((const uint8_t *)data)[i]) * 0x100000001b3u;
}

static void show(const char *tier, const char *kernel) {
  char hex[18] = {0};
  for (int i = 0; i < 16; i++) hex[i] = "0123456789abcdef"[digest >> (60 - 4 * i) & 15];
  hex[16] = '\n';
  put(tier);
  put(" ");
  put(kernel);
  put(" ");
  put(hex);
  digest = 0xcbf29ce484222325u;
  state = 1;
}

static float x[MOST_ROWS * STRIDE], y[MOST_ROWS * STRIDE];
static _Alignas(64) uint8_t panel[MOST_K * MOST_COLS * 4], sums[MOST_ROWS * MOST_COLS * 4];
static char input[MOST_ROWS * STRIDE * 4];

/* Weights that any product takes: pairs of bytes stay within pair_limit. */
static void fill_panel(const struct clipc__gemm *gemm) {
  for (size_t i = 0; i < sizeof panel; i += 4) {
    float value = number(2.0f);
    uint32_t word = bits() & 0x3f3f3f3fu, signs = bits() & 0x01010101u;
    if (gemm->weights == CLIPC__F32) memcpy(&word, &value, sizeof word);
    if (gemm->weights == CLIPC__BF16) word = 0x3c003c00u | (word & 0x003f003fu) | (bits() & 0x81408140u);
    if (gemm->weights == CLIPC__S8) word = (word ^ signs * 0xff) + signs;
    memcpy(panel + i, &word, sizeof word);
  }
}

static void run_product(const struct clipc__gemm *gemm) {
  static const size_t groups[] = {1, 2, 3, 64, 65};
  for (size_t i = 0; i < sizeof groups / sizeof *groups; i++)
    for (size_t rows = 1; rows <= gemm->tile_rows; rows++) {
      size_t k = groups[i] * gemm->group;
      struct clipc__row_scale scale = {0, 0};
      numbers(x, MOST_ROWS * STRIDE, 3.0f);
      fill_panel(gemm);
      for (size_t r = 0; r < rows; r++) {
        if (gemm->prepare == NULL) {
          memcpy(input + r * STRIDE * 4, x + r * STRIDE, k * 4);
          continue;
        }
        if (rows == 7) x[r * STRIDE + k / 2] *= 1e30f;
        gemm->prepare(input + r * STRIDE * 4, &scale, x + r * STRIDE, k - rows % gemm->group, k, gemm->n_levels);
        digest_floats(&scale.scale, 1);
        digest_bytes(&scale.zero, sizeof scale.zero);
      }
      gemm->product(sums, input, STRIDE * 4, rows, panel, k, panel, sizeof panel);
      digest_bytes(sums, rows * gemm->panel_cols * 4);
    }
}

static void run_finish(const struct clipc__kernels *kernels) {
  static float bias[MOST_COLS], scale[MOST_COLS];
  static int32_t sum[MOST_COLS];
  static const struct clipc__row_scale rows[3] = {{0.01f, 3}, {0.5f, 255}, {1e-6f, 0}};
  for (size_t cols = 1; cols <= MOST_COLS; cols++)
    for (int activation = 0; activation <= CLIPC__N_ACTIVATIONS; activation++)
      for (int is_int = 0; is_int < 2; is_int++) {
        struct clipc__finish how = {.bias = cols % 3 ? bias : NULL, .activation = (enum clipc__activation)activation};
        if (activation == CLIPC__N_ACTIVATIONS) how.activation = CLIPC__NO_ACTIVATION, how.add = true;
        numbers(bias, MOST_COLS, 1.0f);
        numbers(scale, MOST_COLS, 0.02f);
        numbers(y, 3 * STRIDE, 4.0f);
        for (size_t i = 0; i < 3 * MOST_COLS; i++) {
          float value = number(9.0f);
          int32_t whole = (int32_t)(bits() >> 8) - 0x800000;
          memcpy(sums + 4 * i, is_int ? (void *)&whole : (void *)&value, 4);
          sum[i % MOST_COLS] = whole / 300;
        }
        if (is_int) how.scale = scale, how.sum = sum, how.rows = rows;
        kernels->finish(y, STRIDE, sums, MOST_COLS, 3, cols, &how);
        digest_floats(y, 3 * STRIDE);
      }
}

static void run_rows(const char *tier, const struct clipc__kernels *kernels) {
  static const char *const names[] = {"", "quick-gelu", "gelu-erf", "gelu-tanh"};
  static const float extremes[] = {0.0f, -0.0f, 1e-40f, -1e-30f, 3e38f, -3e38f, 88.8f, -88.8f, -87.4f, -104.5f};
  for (int activation = 1; activation < CLIPC__N_ACTIVATIONS; activation++) {
    for (size_t n = 1; n < 300; n++) {
      numbers(x, n, (float)(n % 90));
      x[n / 2] = n % 50 == 1 ? __builtin_nanf("") : n % 50 == 2 ? __builtin_inff() : extremes[n % 10];
      kernels->activation_f32[activation](x, n);
      digest_floats(x, n);
    }
    show(tier, names[activation]);
  }
  for (size_t n = 1; n < MOST_K; n++) {
    numbers(x, 2 * STRIDE, 5.0f);
    numbers(y, 2 * STRIDE, 5.0f);
    kernels->layer_norm_f32(y, STRIDE, x, STRIDE, n % 2 ? x + 1 : NULL, n % 2 ? x + 2 : NULL, 2, n, 1e-5f);
    digest_floats(y, 2 * STRIDE);
  }
  show(tier, "layer-norm");
  for (size_t n = 1; n < MOST_K; n++) {
    numbers(x, STRIDE, n % 3 ? 5.0f : 120.0f);
    if (n > 3) x[n / 2] = -__builtin_inff();
    kernels->softmax_f32(x, n, n + n % 3);
    digest_floats(x, STRIDE);
  }
  show(tier, "softmax");
}

int main(void) {
  static const char *const tiers[] = {"avx512", "avx512-vnni", "avx512-bf16"};
  static const unsigned masks[] = {CLIPC__CPU_AVX512, CLIPC__CPU_AVX512 | CLIPC__CPU_AVX512_VNNI,
                                   CLIPC__CPU_AVX512 | CLIPC__CPU_AVX512_BF16};
  static const char *const precisions[] = {"f32", "bf16", "int8"};
  for (int mode = 0; mode < 2; mode++) {
    put(mode ? "denormals count as nought\n" : "denormals count\n");
    _mm_setcsr(mode ? 0x9fc0 : 0x1f80);
    for (int tier = 0; tier < DIGEST_TIERS; tier++) {
      static struct clipc__kernels kernels;
      clipc__kernels_avx512(&kernels, masks[tier]);
      for (int p = tier; p < 3; p++) { /* what is new: all, int8, bf16 */
        int precision = tier == 2 ? 1 : tier == 1 ? 2 : p;
        run_product(&kernels.gemm[precision]);
        show(tiers[tier], precisions[precision]);
        if (tier > 0) break;
      }
      if (tier > 0) continue;
      run_finish(&kernels);
      show(tiers[tier], "finish");
      run_rows(tiers[tier], &kernels);
    }
  }
  _mm_setcsr(0x1f80);
  put("END\n");
  return 0;
}
