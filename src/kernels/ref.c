/* The normative kernels in plain C: every other variant is compared with these.
 * One sum per output, in the order of k, so that a compiler may vectorise across columns without being allowed to
 * reorder floats; the result depends on neither compiler nor CPU (but for the last bit of libm). */
#include "kernels/kernels.h"

#include <float.h>
#include <math.h>
#include <string.h>

#define REF_ROWS 4
#define REF_COLS 16
#define REF_GROUP 2 /* of bf16 and int8 */

/* Any CPU's: the compiler splits them where it must. */
typedef float ref_f32x4 __attribute__((vector_size(16)));
typedef uint32_t ref_u32x4 __attribute__((vector_size(16)));

static void product_f32_ref(void *out, const void *input, size_t x_stride, size_t rows, const void *packed, size_t k,
                            const void *ahead, size_t ahead_bytes) {
  (void)ahead, (void)ahead_bytes;
  float *sums = out;
  for (size_t i = 0; i < rows; i++, sums += REF_COLS) {
    const float *x = (const float *)((const char *)input + i * x_stride), *panel = packed;
    ref_f32x4 sum[REF_COLS / 4] = {0}, w[REF_COLS / 4]; /* gcc would vectorise the loop over p, ten times slower */
    for (size_t p = 0; p < k; p++, panel += REF_COLS) {
      memcpy(w, panel, sizeof w);
      for (size_t j = 0; j < REF_COLS / 4; j++) sum[j] += x[p] * w[j];
    }
    memcpy(sums, sum, sizeof sum);
  }
}

/* A pair of bf16 is a word, the first in its lower half; a bf16 is the upper half of an f32. */
static void product_bf16_ref(void *out, const void *input, size_t x_stride, size_t rows, const void *packed, size_t k,
                             const void *ahead, size_t ahead_bytes) {
  (void)ahead, (void)ahead_bytes;
  float *sums = out;
  for (size_t i = 0; i < rows; i++, sums += REF_COLS) {
    const float *x = (const float *)((const char *)input + i * x_stride);
    const uint32_t *panel = packed;
    ref_f32x4 sum[REF_COLS / 4] = {0};
    for (size_t p = 0; p < k; p += REF_GROUP, panel += REF_COLS)
      for (size_t j = 0; j < REF_COLS / 4; j++) {
        ref_u32x4 pairs;
        memcpy(&pairs, panel + 4 * j, sizeof pairs);
        sum[j] += x[p] * (ref_f32x4)(pairs << 16);
        sum[j] += x[p + 1] * (ref_f32x4)(pairs & 0xffff0000u);
      }
    memcpy(sums, sum, sizeof sum);
  }
}

static void product_s8_ref(void *out, const void *input, size_t x_stride, size_t rows, const void *packed, size_t k,
                           const void *ahead, size_t ahead_bytes) {
  (void)ahead, (void)ahead_bytes;
  int32_t *sums = out;
  for (size_t i = 0; i < rows; i++, sums += REF_COLS) {
    const int16_t *x = (const int16_t *)((const char *)input + i * x_stride);
    const int8_t *panel = packed;
    int32_t sum[REF_COLS] = {0};
    for (size_t p = 0; p < k; p += REF_GROUP, panel += REF_COLS * REF_GROUP)
      for (size_t g = 0; g < REF_GROUP; g++)
        for (size_t j = 0; j < REF_COLS; j++) sum[j] += x[p + g] * panel[j * REF_GROUP + g];
    memcpy(sums, sum, sizeof sum);
  }
}

static void prepare_s16_ref(void *out, struct clipc__row_scale *scale, const float *x, size_t k, size_t k_padded,
                            int n_levels) {
  int16_t *q = out;
  float low = 0.0f, high = 0.0f, poison = 0.0f; /* NaN as soon as anything is not finite */
  for (size_t p = 0; p < k; p++) {
    low = fminf(low, x[p]);
    high = fmaxf(high, x[p]);
    poison += 0.0f * x[p];
  }
  float step = (high - low) / (float)n_levels;
  bool usable = step >= FLT_MIN && step <= FLT_MAX; /* else nothing but noughts, or something not finite */
  float inverse = usable ? 1.0f / step : 0.0f;
  int lowest = -(n_levels + 1) / 2, highest = lowest + n_levels;
  int zero = usable ? lowest + (int)rintf(-low * inverse) : lowest;
  for (size_t p = 0; p < k; p++) {
    float nearest = rintf(x[p] * inverse) + (float)zero;
    q[p] = nearest >= (float)highest ? (int16_t)highest : nearest > (float)lowest ? (int16_t)nearest : (int16_t)lowest;
  }
  for (size_t p = k; p < k_padded; p++) q[p] = (int16_t)zero;
  *scale = (struct clipc__row_scale){step + poison, zero};
}

static void layer_norm_f32_ref(float *y, size_t y_stride, const float *x, size_t x_stride, const float *weight,
                               const float *bias, size_t rows, size_t cols, float eps) {
  for (size_t r = 0; r < rows; r++, x += x_stride, y += y_stride) {
    double sum[4] = {0}, squares[4] = {0};
    for (size_t i = 0; i < cols; i++) sum[i % 4] += x[i];
    double mean = (sum[0] + sum[1] + sum[2] + sum[3]) / (double)cols;
    for (size_t i = 0; i < cols; i++) squares[i % 4] += (x[i] - mean) * (x[i] - mean);
    double variance = (squares[0] + squares[1] + squares[2] + squares[3]) / (double)cols;
    float shift = (float)mean, factor = (float)(1.0 / sqrt(variance + (double)eps));
    for (size_t i = 0; i < cols; i++) y[i] = (x[i] - shift) * factor;
    if (weight != NULL)
      for (size_t i = 0; i < cols; i++) y[i] = y[i] * weight[i] + bias[i];
  }
}

static void softmax_f32_ref(float *x, size_t n, size_t n_all) {
  float largest = x[0], sum = 0.0f;
  for (size_t i = 1; i < n; i++) largest = fmaxf(largest, x[i]);
  for (size_t i = 0; i < n; i++) sum += x[i] = expf(x[i] - largest);
  for (size_t i = 0; i < n; i++) x[i] /= sum;
  for (size_t i = n; i < n_all; i++) x[i] = 0.0f;
}

static void transpose_f32_ref(float *y, size_t y_stride, const float *x, size_t x_stride, size_t rows, size_t cols) {
  for (size_t i = 0; i < rows; i++)
    for (size_t j = 0; j < cols; j++) y[j * y_stride + i] = x[i * x_stride + j];
}

static void quick_gelu_f32_ref(float *x, size_t n) {
  for (size_t i = 0; i < n; i++) x[i] = x[i] / (1.0f + expf(-1.702f * x[i]));
}

static void gelu_erf_f32_ref(float *x, size_t n) {
  for (size_t i = 0; i < n; i++) x[i] = 0.5f * x[i] * (1.0f + erff(x[i] * 0.70710678f));
}

static void gelu_tanh_f32_ref(float *x, size_t n) {
  for (size_t i = 0; i < n; i++)
    x[i] = 0.5f * x[i] * (1.0f + tanhf(0.79788456f * (x[i] + 0.044715f * x[i] * x[i] * x[i])));
}

static void (*const activation_ref[CLIPC__N_ACTIVATIONS])(float *x, size_t n) = {
    [CLIPC__QUICK_GELU] = quick_gelu_f32_ref,
    [CLIPC__GELU_ERF] = gelu_erf_f32_ref,
    [CLIPC__GELU_TANH] = gelu_tanh_f32_ref,
};

#define FINISH_COLS 256 /* at once */

static void finish_ref(float *y, size_t y_stride, const void *sums, size_t sums_stride, size_t rows, size_t cols,
                       const struct clipc__finish *how) {
  float value[FINISH_COLS];
  for (size_t i = 0; i < rows; i++)
    for (size_t first = 0; first < cols; first += FINISH_COLS) {
      size_t n = cols - first < FINISH_COLS ? cols - first : FINISH_COLS, at = i * sums_stride + first;
      float *out = y + i * y_stride + first;
      if (how->scale == NULL)
        memcpy(value, (const float *)sums + at, n * sizeof *value);
      else
        for (size_t j = 0; j < n; j++) {
          int32_t whole = ((const int32_t *)sums)[at + j] - how->rows[i].zero * how->sum[first + j];
          value[j] = (float)whole * (how->rows[i].scale * how->scale[first + j]);
        }
      if (how->bias != NULL)
        for (size_t j = 0; j < n; j++) value[j] += how->bias[first + j];
      if (how->activation != CLIPC__NO_ACTIVATION) activation_ref[how->activation](value, n);
      for (size_t j = 0; j < n; j++) out[j] = how->add ? out[j] + value[j] : value[j];
    }
}

#define PEAK_SUMS 64

/* The multiplications and additions of product_f32_ref, out of the cache. */
static double peak_ref(size_t n_rounds) {
  volatile float start = 1.0f;
  float sum[PEAK_SUMS], factor = start;
  for (size_t j = 0; j < PEAK_SUMS; j++) sum[j] = (float)j;
  for (size_t round = 0; round < n_rounds; round++)
    for (size_t j = 0; j < PEAK_SUMS; j++) sum[j] = sum[j] * factor + factor;
  for (size_t j = 0; j < PEAK_SUMS; j++) start += sum[j];
  return 2.0 * PEAK_SUMS;
}

void clipc__kernels_ref(struct clipc__kernels *kernels) {
  const struct clipc__gemm f32 = {.name = "plain-c",
                                  .weights = CLIPC__F32,
                                  .input = CLIPC__F32,
                                  .tile_rows = REF_ROWS,
                                  .panel_cols = REF_COLS,
                                  .group = 1,
                                  .product = product_f32_ref};
  struct clipc__gemm bf16 = f32, int8 = f32;
  bf16.weights = CLIPC__BF16;
  bf16.group = REF_GROUP;
  bf16.product = product_bf16_ref;
  int8.weights = CLIPC__S8;
  int8.input = CLIPC__S16;
  int8.n_levels = 2047;
  int8.group = REF_GROUP;
  int8.product = product_s8_ref;
  int8.prepare = prepare_s16_ref;
  *kernels = (struct clipc__kernels){
      .gemm = {[CLIPC_PRECISION_F32] = f32, [CLIPC_PRECISION_BF16] = bf16, [CLIPC_PRECISION_INT8] = int8},
      .small = f32,
      .finish = finish_ref,
      .layer_norm_f32 = layer_norm_f32_ref,
      .softmax_f32 = softmax_f32_ref,
      .transpose_f32 = transpose_f32_ref,
      .peak = {peak_ref, peak_ref, peak_ref},
  };
  memcpy(kernels->activation_f32, activation_ref, sizeof activation_ref);
}

#undef REF_ROWS
#undef REF_COLS
#undef REF_GROUP
#undef FINISH_COLS
#undef PEAK_SUMS
