/* The AVX-512 tier, what stands around the products: exp, activations, what becomes of a tile's sums, layer norm,
 * softmax. A vector may be the rest of a row: then its lanes behind the row are read as zero and not written, and all
 * others go through the same instructions, so that a value hangs on its row alone. */
#include "kernels/avx512.h"

#if defined(__x86_64__)

#include <math.h>

/* ---- rests of rows */

AVX512_INLINE __m512 avx512_load(const float *x, size_t n) {
  return n >= 16 ? _mm512_loadu_ps(x) : _mm512_maskz_loadu_ps(avx512_lanes(n), x);
}

AVX512_INLINE __m512i avx512_load_int(const int32_t *x, size_t n) {
  return n >= 16 ? _mm512_loadu_si512(x) : _mm512_maskz_loadu_epi32(avx512_lanes(n), x);
}

AVX512_INLINE void avx512_store(float *y, __m512 value, size_t n) {
  if (n >= 16)
    _mm512_storeu_ps(y, value);
  else
    _mm512_mask_storeu_ps(y, avx512_lanes(n), value);
}

/* ---- exp and activations */

/* 2^t, part being t without its whole part: 2^part by its minimax polynomial with 1 at 0, within 1 ulp. Infinities of t
 * give infinity and 0, NaN stays. */
AVX512_INLINE __m512 avx512_scaled_exp2(__m512 t, __m512 part) {
  __m512 p = _mm512_set1_ps(0x1.c54176p-13f);
  p = _mm512_fmadd_ps(p, part, _mm512_set1_ps(0x1.46d64cp-10f));
  p = _mm512_fmadd_ps(p, part, _mm512_set1_ps(0x1.3d0b92p-7f));
  p = _mm512_fmadd_ps(p, part, _mm512_set1_ps(0x1.c68912p-5f));
  p = _mm512_fmadd_ps(p, part, _mm512_set1_ps(0x1.ebfd58p-3f));
  p = _mm512_fmadd_ps(p, part, _mm512_set1_ps(0x1.62e42cp-1f));
  p = _mm512_fmadd_ps(p, part, _mm512_set1_ps(1.0f));
  return _mm512_scalef_ps(p, t); /* by the whole part */
}

AVX512_INLINE __m512 avx512_part(__m512 t) { /* t - floor(t), 0 of infinity */
  return _mm512_reduce_ps(t, _MM_FROUND_TO_NEG_INF);
}

AVX512_INLINE __m512 avx512_exp2(__m512 t) { return avx512_scaled_exp2(t, avx512_part(t)); }

/* e^x for x <= 0: what the product with 1 / ln 2 loses is put back. Below the normal numbers it goes to 0. */
AVX512_INLINE __m512 avx512_exp_negative(__m512 x) {
  const __m512 factor = _mm512_set1_ps(0x1.715476p+0f), factor_rest = _mm512_set1_ps(0x1.4ae0cp-26f);
  x = _mm512_max_ps(_mm512_set1_ps(-104.0f), x); /* the second one if there is a NaN */
  __m512 t = _mm512_mul_ps(x, factor);
  __m512 lost = _mm512_fmadd_ps(x, factor_rest, _mm512_fmsub_ps(x, factor, t));
  return avx512_scaled_exp2(t, _mm512_add_ps(avx512_part(t), lost));
}

/* x / (1 + 2^t). Where the error of t counts in 2^t, x is multiplied by almost nothing. */
AVX512_INLINE __m512 avx512_over_one_plus_exp2(__m512 x, __m512 t) {
  return _mm512_div_ps(x, _mm512_add_ps(_mm512_set1_ps(1.0f), avx512_exp2(t)));
}

AVX512_INLINE __m512 avx512_quick_gelu(__m512 x) { /* e^(-1.702 x) */
  return avx512_over_one_plus_exp2(x, _mm512_mul_ps(x, _mm512_set1_ps(-2.45546696f)));
}

/* (1 + tanh u) / 2 = 1 / (1 + e^-2u), u = sqrt(2 / pi) (x + 0.044715 x^3) */
AVX512_INLINE __m512 avx512_gelu_tanh(__m512 x) {
  __m512 square = _mm512_mul_ps(x, x);
  __m512 factor = _mm512_fmadd_ps(square, _mm512_set1_ps(-0.102943240f), _mm512_set1_ps(-2.30220820f));
  return avx512_over_one_plus_exp2(x, _mm512_mul_ps(x, factor));
}

/* x P(x), P being the normal distribution; log2 P(-|x|) is a polynomial in |x|, -1 at 0, to within 8e-9 of P. It falls
 * without end, to where 2^ is 0. */
AVX512_INLINE __m512 avx512_gelu_erf(__m512 x) {
  __m512 size = _mm512_abs_ps(x);
  __m512 q = _mm512_set1_ps(-2.83491272e-6f);
  q = _mm512_fmadd_ps(q, size, _mm512_set1_ps(3.937769e-5f));
  q = _mm512_fmadd_ps(q, size, _mm512_set1_ps(-1.86180245e-4f));
  q = _mm512_fmadd_ps(q, size, _mm512_set1_ps(-1.36936345e-4f));
  q = _mm512_fmadd_ps(q, size, _mm512_set1_ps(7.06342002e-3f));
  q = _mm512_fmadd_ps(q, size, _mm512_set1_ps(-5.24961799e-2f));
  q = _mm512_fmadd_ps(q, size, _mm512_set1_ps(-4.5920819e-1f));
  q = _mm512_fmadd_ps(q, size, _mm512_set1_ps(-1.15110517f));
  q = _mm512_fmadd_ps(q, size, _mm512_set1_ps(-1.0f));
  __m512 tail = avx512_exp2(q), rest = _mm512_sub_ps(_mm512_set1_ps(1.0f), tail);
  __mmask16 negative = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ);
  return _mm512_mul_ps(x, _mm512_mask_blend_ps(negative, rest, tail));
}

AVX512_INLINE __m512 avx512_activation(__m512 x, enum clipc__activation activation) {
  return activation == CLIPC__QUICK_GELU  ? avx512_quick_gelu(x)
         : activation == CLIPC__GELU_ERF  ? avx512_gelu_erf(x)
         : activation == CLIPC__GELU_TANH ? avx512_gelu_tanh(x)
                                          : x;
}

AVX512_INLINE void avx512_activate(float *x, size_t n, enum clipc__activation activation) {
  for (size_t i = 0; i < n; i += 16)
    avx512_store(x + i, avx512_activation(avx512_load(x + i, n - i), activation), n - i);
}

static AVX512_CODE void avx512_quick_gelu_f32(float *x, size_t n) { avx512_activate(x, n, CLIPC__QUICK_GELU); }
static AVX512_CODE void avx512_gelu_erf_f32(float *x, size_t n) { avx512_activate(x, n, CLIPC__GELU_ERF); }
static AVX512_CODE void avx512_gelu_tanh_f32(float *x, size_t n) { avx512_activate(x, n, CLIPC__GELU_TANH); }

/* ---- what becomes of sums */

struct avx512_sums {
  const void *first;
  size_t stride;
};

/* Sixteen columns, or n < 16, of all rows. Inlined for each activation, kind of sums and output. */
AVX512_INLINE void avx512_finish_columns(float *y, size_t y_stride, struct avx512_sums sums, size_t rows, size_t col,
                                         size_t n, const struct clipc__finish *how, bool is_int,
                                         enum clipc__activation activation, bool add) {
  const __m512 bias = how->bias ? avx512_load(how->bias + col, n) : _mm512_setzero_ps();
  __m512 scale = _mm512_setzero_ps();
  __m512i sum = _mm512_setzero_si512();
  if (is_int) {
    scale = avx512_load(how->scale + col, n);
    sum = avx512_load_int(how->sum + col, n);
  }
  for (size_t i = 0; i < rows; i++) {
    float *out = y + i * y_stride + col;
    __m512 value;
    if (is_int) {
      __m512i whole = avx512_load_int((const int32_t *)sums.first + i * sums.stride + col, n);
      whole = _mm512_sub_epi32(whole, _mm512_mullo_epi32(sum, _mm512_set1_epi32(how->rows[i].zero)));
      __m512 unit = _mm512_mul_ps(scale, _mm512_set1_ps(how->rows[i].scale));
      value = _mm512_fmadd_ps(_mm512_cvtepi32_ps(whole), unit, bias);
    } else {
      value = _mm512_add_ps(avx512_load((const float *)sums.first + i * sums.stride + col, n), bias);
    }
    value = avx512_activation(value, activation);
    if (add) value = _mm512_add_ps(avx512_load(out, n), value);
    avx512_store(out, value, n);
  }
}

AVX512_INLINE void avx512_finish_as(float *y, size_t y_stride, struct avx512_sums sums, size_t rows, size_t cols,
                                    const struct clipc__finish *how, bool is_int, enum clipc__activation activation,
                                    bool add) {
  size_t col = 0;
  for (; col + 16 <= cols; col += 16)
    avx512_finish_columns(y, y_stride, sums, rows, col, 16, how, is_int, activation, add);
  if (col < cols) avx512_finish_columns(y, y_stride, sums, rows, col, cols - col, how, is_int, activation, add);
}

/* One function for each activation: no more code than is needed in the cache. */
#define AVX512_FINISH(name, activation, add)                                                                           \
  static AVX512_CODE void name(float *y, size_t y_stride, struct avx512_sums sums, size_t rows, size_t cols,           \
                               const struct clipc__finish *how) {                                                      \
    if (how->scale)                                                                                                    \
      avx512_finish_as(y, y_stride, sums, rows, cols, how, true, activation, add);                                     \
    else                                                                                                               \
      avx512_finish_as(y, y_stride, sums, rows, cols, how, false, activation, add);                                    \
  }
AVX512_FINISH(avx512_finish_store, CLIPC__NO_ACTIVATION, false)
AVX512_FINISH(avx512_finish_add, CLIPC__NO_ACTIVATION, true)
AVX512_FINISH(avx512_finish_quick_gelu, CLIPC__QUICK_GELU, false)
AVX512_FINISH(avx512_finish_gelu_erf, CLIPC__GELU_ERF, false)
AVX512_FINISH(avx512_finish_gelu_tanh, CLIPC__GELU_TANH, false)

static AVX512_CODE void avx512_finish(float *y, size_t y_stride, const void *first, size_t sums_stride, size_t rows,
                                      size_t cols, const struct clipc__finish *how) {
  struct avx512_sums sums = {first, sums_stride};
  if (how->add)
    avx512_finish_add(y, y_stride, sums, rows, cols, how);
  else if (how->activation == CLIPC__QUICK_GELU)
    avx512_finish_quick_gelu(y, y_stride, sums, rows, cols, how);
  else if (how->activation == CLIPC__GELU_ERF)
    avx512_finish_gelu_erf(y, y_stride, sums, rows, cols, how);
  else if (how->activation == CLIPC__GELU_TANH)
    avx512_finish_gelu_tanh(y, y_stride, sums, rows, cols, how);
  else
    avx512_finish_store(y, y_stride, sums, rows, cols, how);
}

/* ---- rows */

static AVX512_CODE float avx512_row_mean(const float *x, size_t n) {
  __m512 sum0 = _mm512_setzero_ps(), sum1 = sum0, sum2 = sum0, sum3 = sum0;
  size_t i = 0;
  for (; i + 64 <= n; i += 64) {
    sum0 = _mm512_add_ps(sum0, _mm512_loadu_ps(x + i));
    sum1 = _mm512_add_ps(sum1, _mm512_loadu_ps(x + i + 16));
    sum2 = _mm512_add_ps(sum2, _mm512_loadu_ps(x + i + 32));
    sum3 = _mm512_add_ps(sum3, _mm512_loadu_ps(x + i + 48));
  }
  for (; i < n; i += 16) sum0 = _mm512_add_ps(sum0, avx512_load(x + i, n - i));
  sum0 = _mm512_add_ps(_mm512_add_ps(sum0, sum1), _mm512_add_ps(sum2, sum3));
  return _mm512_reduce_add_ps(sum0) / (float)n;
}

AVX512_INLINE __m512 avx512_add_square(__m512 sum, __m512 x, __m512 shift) {
  x = _mm512_sub_ps(x, shift);
  return _mm512_fmadd_ps(x, x, sum);
}

static AVX512_CODE float avx512_row_variance(const float *x, size_t n, float mean) {
  const __m512 shift = _mm512_set1_ps(mean);
  __m512 sum0 = _mm512_setzero_ps(), sum1 = sum0, sum2 = sum0, sum3 = sum0;
  size_t i = 0;
  for (; i + 64 <= n; i += 64) {
    sum0 = avx512_add_square(sum0, _mm512_loadu_ps(x + i), shift);
    sum1 = avx512_add_square(sum1, _mm512_loadu_ps(x + i + 16), shift);
    sum2 = avx512_add_square(sum2, _mm512_loadu_ps(x + i + 32), shift);
    sum3 = avx512_add_square(sum3, _mm512_loadu_ps(x + i + 48), shift);
  }
  for (; i < n; i += 16) sum0 = avx512_add_square(sum0, _mm512_mask_loadu_ps(shift, avx512_lanes(n - i), x + i), shift);
  sum0 = _mm512_add_ps(_mm512_add_ps(sum0, sum1), _mm512_add_ps(sum2, sum3));
  return _mm512_reduce_add_ps(sum0) / (float)n;
}

static AVX512_CODE void avx512_layer_norm_f32(float *y, size_t y_stride, const float *x, size_t x_stride,
                                              const float *weight, const float *bias, size_t rows, size_t cols,
                                              float eps) {
  for (size_t r = 0; r < rows; r++, x += x_stride, y += y_stride) {
    float mean = avx512_row_mean(x, cols);
    const __m512 shift = _mm512_set1_ps(mean);
    const __m512 factor = _mm512_set1_ps(1.0f / sqrtf(avx512_row_variance(x, cols, mean) + eps));
    for (size_t i = 0; i < cols; i += 16) {
      __m512 v = _mm512_mul_ps(_mm512_sub_ps(avx512_load(x + i, cols - i), shift), factor);
      if (weight) v = _mm512_fmadd_ps(v, avx512_load(weight + i, cols - i), avx512_load(bias + i, cols - i));
      avx512_store(y + i, v, cols - i);
    }
  }
}

static AVX512_CODE void avx512_softmax_f32(float *x, size_t n, size_t n_all) {
  const __m512 lowest = _mm512_set1_ps(-INFINITY);
  __m512 most = lowest, sum = _mm512_setzero_ps();
  for (size_t i = 0; i < n; i += 16) /* the second one if there is a NaN */
    most = _mm512_max_ps(_mm512_mask_loadu_ps(lowest, avx512_lanes(n - i), x + i), most);
  most = _mm512_set1_ps(_mm512_reduce_max_ps(most));
  for (size_t i = 0; i < n; i += 16) {
    __m512 v = avx512_exp_negative(_mm512_sub_ps(avx512_load(x + i, n - i), most));
    sum = _mm512_mask_add_ps(sum, avx512_lanes(n - i), sum, v);
    avx512_store(x + i, v, n - i);
  }
  const __m512 factor = _mm512_set1_ps(1.0f / _mm512_reduce_add_ps(sum));
  for (size_t i = 0; i < n; i += 16) avx512_store(x + i, _mm512_mul_ps(avx512_load(x + i, n - i), factor), n - i);
  for (size_t i = n; i < n_all; i++) x[i] = 0.0f;
}

void clipc__kernels_avx512_rows(struct clipc__kernels *kernels) {
  kernels->finish = avx512_finish;
  kernels->layer_norm_f32 = avx512_layer_norm_f32;
  kernels->softmax_f32 = avx512_softmax_f32;
  kernels->activation_f32[CLIPC__QUICK_GELU] = avx512_quick_gelu_f32;
  kernels->activation_f32[CLIPC__GELU_ERF] = avx512_gelu_erf_f32;
  kernels->activation_f32[CLIPC__GELU_TANH] = avx512_gelu_tanh_f32;
}

#endif
