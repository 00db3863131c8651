/* The normative kernels in plain C: every other variant is compared with these.
 * Sums run over a few lanes in a fixed order, so that a compiler may vectorise them without being allowed
 * to reorder floats; the result depends on neither compiler nor CPU (but for the last bit of libm). */
#include "kernels/kernels.h"

#include <math.h>

#define LANES 16

static float dot_f32_ref(const float *x, const float *w, size_t k) {
  float lane[LANES] = {0};
  size_t p = 0;
  for (; p + LANES <= k; p += LANES)
    for (size_t l = 0; l < LANES; l++) lane[l] += x[p + l] * w[p + l];
  for (size_t l = 0; p < k; p++, l++) lane[l] += x[p] * w[p];
  for (size_t half = LANES / 2; half > 0; half /= 2)
    for (size_t l = 0; l < half; l++) lane[l] += lane[l + half];
  return lane[0];
}

static void gemm_nt_f32_ref(float *y, size_t y_stride, const float *x, size_t x_stride, const float *w, size_t w_stride,
                            size_t m, size_t n, size_t k, bool accumulate) {
  for (size_t j = 0; j < n; j++)
    for (size_t i = 0; i < m; i++) {
      float sum = dot_f32_ref(x + i * x_stride, w + j * w_stride, k);
      y[i * y_stride + j] = accumulate ? y[i * y_stride + j] + sum : sum;
    }
}

static void gemm_nn_f32_ref(float *y, size_t y_stride, const float *x, size_t x_stride, const float *w, size_t w_stride,
                            size_t m, size_t n, size_t k) {
  for (size_t i = 0; i < m; i++) {
    float *y_row = y + i * y_stride;
    for (size_t j = 0; j < n; j++) y_row[j] = 0.0f;
    for (size_t p = 0; p < k; p++) {
      const float factor = x[i * x_stride + p], *w_row = w + p * w_stride;
      for (size_t j = 0; j < n; j++) y_row[j] += factor * w_row[j];
    }
  }
}

static void layer_norm_f32_ref(float *y, const float *x, const float *weight, const float *bias, size_t rows,
                               size_t cols, float eps) {
  for (size_t r = 0; r < rows; r++, x += cols, y += cols) {
    double sum[4] = {0}, squares[4] = {0};
    for (size_t i = 0; i < cols; i++) sum[i % 4] += x[i];
    double mean = (sum[0] + sum[1] + sum[2] + sum[3]) / (double)cols;
    for (size_t i = 0; i < cols; i++) squares[i % 4] += (x[i] - mean) * (x[i] - mean);
    double variance = (squares[0] + squares[1] + squares[2] + squares[3]) / (double)cols;
    float shift = (float)mean, factor = (float)(1.0 / sqrt(variance + (double)eps));
    for (size_t i = 0; i < cols; i++) y[i] = (x[i] - shift) * factor * weight[i] + bias[i];
  }
}

static void softmax_f32_ref(float *x, size_t n, size_t n_all, float scale) {
  float largest = x[0] * scale, sum = 0.0f;
  for (size_t i = 0; i < n; i++) largest = fmaxf(largest, x[i] *= scale);
  for (size_t i = 0; i < n; i++) sum += x[i] = expf(x[i] - largest);
  for (size_t i = 0; i < n; i++) x[i] /= sum;
  for (size_t i = n; i < n_all; i++) x[i] = 0.0f;
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

void clipc__kernels_ref(struct clipc__kernels *kernels) {
  *kernels = (struct clipc__kernels){
      .gemm_nt_f32 = gemm_nt_f32_ref,
      .gemm_nn_f32 = gemm_nn_f32_ref,
      .layer_norm_f32 = layer_norm_f32_ref,
      .softmax_f32 = softmax_f32_ref,
      .activation_f32 = {[CLIPC__QUICK_GELU] = quick_gelu_f32_ref,
                         [CLIPC__GELU_ERF] = gelu_erf_f32_ref,
                         [CLIPC__GELU_TANH] = gelu_tanh_f32_ref},
  };
}

#undef LANES
