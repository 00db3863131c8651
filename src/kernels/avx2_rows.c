/* The AVX2 tier (with FMA), what stands around the products: exp, activations, what becomes of a tile's sums, layer
 * norm, softmax. A vector may be the rest of a row: then its lanes behind the row are read as zero and not written, and
 * all others go through the same instructions, so that a value hangs on its row alone. */
#include "kernels/kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <math.h>

#define AVX2_CODE __attribute__((target("avx2,fma")))
#define AVX2_INLINE static inline __attribute__((target("avx2,fma"), always_inline))

/* ---- rests of rows */

AVX2_INLINE __m256i avx2_mask(size_t n) { /* the first n of 8 lanes, all of them for more */
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n < 8 ? (int)n : 8), lane);
}

AVX2_INLINE __m256 avx2_load(const float *x, size_t n) {
  return n >= 8 ? _mm256_loadu_ps(x) : _mm256_maskload_ps(x, avx2_mask(n));
}

/* vmaskmovps stores are microcoded on AMD's CPUs. */
AVX2_INLINE void avx2_store(float *y, __m256 value, size_t n) {
  if (n >= 8) {
    _mm256_storeu_ps(y, value);
    return;
  }
  __m128 part = _mm256_castps256_ps128(value);
  if (n & 4) {
    _mm_storeu_ps(y, part);
    part = _mm256_extractf128_ps(value, 1);
    y += 4;
  }
  if (n & 2) {
    _mm_storel_pi((__m64 *)(void *)y, part);
    part = _mm_movehl_ps(part, part);
    y += 2;
  }
  if (n & 1) _mm_store_ss(y, part);
}

AVX2_INLINE float avx2_add_up(__m256 x) {
  __m128 sum = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
  return _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)));
}

/* ---- exp and activations */

/* 2^n e^r with n whole and |r| <= ln 2 / 2, e^r by its minimax polynomial: within 1.5 ulp. Below the normal numbers 0,
 * above the finite ones infinity, NaN stays. */
AVX2_INLINE __m256 avx2_exp(__m256 x) {
  const __m256 least = _mm256_set1_ps(-87.33654f), most = _mm256_set1_ps(88.72283f);
  __m256 n =
      _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.62e4p-1f), x); /* the upper 15 bits of ln 2, then the rest */
  r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.7f7d1cp-20f), r);
  __m256 r2 = _mm256_mul_ps(r, r);
  __m256 p = _mm256_fmadd_ps(r, _mm256_set1_ps(0x1.1239e4p-7f), _mm256_set1_ps(0x1.5558f2p-5f));
  __m256 q = _mm256_fmadd_ps(r, _mm256_set1_ps(0x1.555492p-3f), _mm256_set1_ps(0x1.fffffcp-2f));
  p = _mm256_fmadd_ps(r2, _mm256_set1_ps(0x1.6a2434p-10f), p);
  p = _mm256_fmadd_ps(r2, p, q);
  p = _mm256_fmadd_ps(r2, p, r);
  p = _mm256_add_ps(p, _mm256_set1_ps(1.0f));
  __m256i exponent = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
  __m256 y = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), exponent));
  y = _mm256_blendv_ps(y, _mm256_set1_ps(INFINITY), _mm256_cmp_ps(x, most, _CMP_GT_OQ));
  return _mm256_and_ps(y, _mm256_cmp_ps(x, least, _CMP_NLT_UQ));
}

/* x / (1 + e^z) */
AVX2_INLINE __m256 avx2_over_one_plus_exp(__m256 x, __m256 z) {
  return _mm256_div_ps(x, _mm256_add_ps(_mm256_set1_ps(1.0f), avx2_exp(z)));
}

AVX2_INLINE __m256 avx2_quick_gelu(__m256 x) {
  return avx2_over_one_plus_exp(x, _mm256_mul_ps(x, _mm256_set1_ps(-1.702f)));
}

/* (1 + tanh u) / 2 = 1 / (1 + e^-2u) */
AVX2_INLINE __m256 avx2_gelu_tanh(__m256 x) {
  __m256 cubic = _mm256_mul_ps(_mm256_mul_ps(x, x), _mm256_mul_ps(x, _mm256_set1_ps(0.044715f)));
  return avx2_over_one_plus_exp(x, _mm256_mul_ps(_mm256_add_ps(x, cubic), _mm256_set1_ps(-1.59576912f)));
}

/* x P(x), P being the normal distribution; ln P(-|x|) is a polynomial in |x|, to within 1.2e-8 of P, and at 16 far
 * below where e^ is 0. */
AVX2_INLINE __m256 avx2_gelu_erf(__m256 x) {
  __m256 size = _mm256_min_ps(_mm256_andnot_ps(_mm256_set1_ps(-0.0f), x), _mm256_set1_ps(16.0f));
  __m256 size2 = _mm256_mul_ps(size, size), size4 = _mm256_mul_ps(size2, size2);
  __m256 q = _mm256_fmadd_ps(size, _mm256_set1_ps(2.737706927e-5f), _mm256_set1_ps(-1.294442045e-4f));
  __m256 p = _mm256_fmadd_ps(size, _mm256_set1_ps(-9.395532106e-5f), _mm256_set1_ps(4.894705024e-3f));
  q = _mm256_fmadd_ps(size2, _mm256_set1_ps(-1.971896381e-6f), q);
  q = _mm256_fmadd_ps(size2, q, p);
  p = _mm256_fmadd_ps(size, _mm256_set1_ps(-3.638664633e-2f), _mm256_set1_ps(-3.182992041e-1f));
  p = _mm256_fmadd_ps(size2, p,
                      _mm256_fmadd_ps(size, _mm256_set1_ps(-7.978852987e-1f), _mm256_set1_ps(-6.931471825e-1f)));
  q = _mm256_fmadd_ps(size4, q, p);
  __m256 tail = avx2_exp(q), rest = _mm256_sub_ps(_mm256_set1_ps(1.0f), tail);
  return _mm256_mul_ps(x, _mm256_blendv_ps(rest, tail, x)); /* the sign chooses */
}

AVX2_INLINE __m256 avx2_activation(__m256 x, enum clipc__activation activation) {
  return activation == CLIPC__QUICK_GELU  ? avx2_quick_gelu(x)
         : activation == CLIPC__GELU_ERF  ? avx2_gelu_erf(x)
         : activation == CLIPC__GELU_TANH ? avx2_gelu_tanh(x)
                                          : x;
}

AVX2_INLINE void avx2_activate(float *x, size_t n, enum clipc__activation activation) {
  for (size_t i = 0; i < n; i += 8) avx2_store(x + i, avx2_activation(avx2_load(x + i, n - i), activation), n - i);
}

static AVX2_CODE void avx2_quick_gelu_f32(float *x, size_t n) { avx2_activate(x, n, CLIPC__QUICK_GELU); }
static AVX2_CODE void avx2_gelu_erf_f32(float *x, size_t n) { avx2_activate(x, n, CLIPC__GELU_ERF); }
static AVX2_CODE void avx2_gelu_tanh_f32(float *x, size_t n) { avx2_activate(x, n, CLIPC__GELU_TANH); }

/* ---- what becomes of sums */

struct avx2_sums {
  const void *first;
  size_t stride;
};

/* Eight columns, or n < 8, of all rows. Inlined for each activation, kind of sums and output. */
AVX2_INLINE void avx2_finish_columns(float *y, size_t y_stride, struct avx2_sums sums, size_t rows, size_t col,
                                     size_t n, const struct clipc__finish *how, bool is_int,
                                     enum clipc__activation activation, bool add) {
  const __m256 bias = how->bias ? avx2_load(how->bias + col, n) : _mm256_setzero_ps();
  __m256 scale = _mm256_setzero_ps();
  __m256i sum = _mm256_setzero_si256();
  if (is_int) {
    scale = avx2_load(how->scale + col, n);
    sum = _mm256_maskload_epi32(how->sum + col, avx2_mask(n));
  }
  for (size_t i = 0; i < rows; i++) {
    float *out = y + i * y_stride + col;
    __m256 value;
    if (is_int) {
      const int32_t *row = (const int32_t *)sums.first + i * sums.stride + col;
      __m256i whole =
          n >= 8 ? _mm256_loadu_si256((const __m256i *)(const void *)row) : _mm256_maskload_epi32(row, avx2_mask(n));
      whole = _mm256_sub_epi32(whole, _mm256_mullo_epi32(sum, _mm256_set1_epi32(how->rows[i].zero)));
      __m256 unit = _mm256_mul_ps(scale, _mm256_set1_ps(how->rows[i].scale));
      value = _mm256_fmadd_ps(_mm256_cvtepi32_ps(whole), unit, bias);
    } else {
      value = _mm256_add_ps(avx2_load((const float *)sums.first + i * sums.stride + col, n), bias);
    }
    value = avx2_activation(value, activation);
    if (add) value = _mm256_add_ps(avx2_load(out, n), value);
    avx2_store(out, value, n);
  }
}

AVX2_INLINE void avx2_finish_as(float *y, size_t y_stride, struct avx2_sums sums, size_t rows, size_t cols,
                                const struct clipc__finish *how, bool is_int, enum clipc__activation activation,
                                bool add) {
  size_t col = 0;
  for (; col + 8 <= cols; col += 8) avx2_finish_columns(y, y_stride, sums, rows, col, 8, how, is_int, activation, add);
  if (col < cols) avx2_finish_columns(y, y_stride, sums, rows, col, cols - col, how, is_int, activation, add);
}

/* One function for each activation: few enough registers, and no more code than is needed in the cache. */
#define AVX2_FINISH(name, activation, add)                                                                             \
  static AVX2_CODE void name(float *y, size_t y_stride, struct avx2_sums sums, size_t rows, size_t cols,               \
                             const struct clipc__finish *how) {                                                        \
    if (how->scale)                                                                                                    \
      avx2_finish_as(y, y_stride, sums, rows, cols, how, true, activation, add);                                       \
    else                                                                                                               \
      avx2_finish_as(y, y_stride, sums, rows, cols, how, false, activation, add);                                      \
  }
AVX2_FINISH(avx2_finish_store, CLIPC__NO_ACTIVATION, false)
AVX2_FINISH(avx2_finish_add, CLIPC__NO_ACTIVATION, true)
AVX2_FINISH(avx2_finish_quick_gelu, CLIPC__QUICK_GELU, false)
AVX2_FINISH(avx2_finish_gelu_erf, CLIPC__GELU_ERF, false)
AVX2_FINISH(avx2_finish_gelu_tanh, CLIPC__GELU_TANH, false)

static AVX2_CODE void avx2_finish(float *y, size_t y_stride, const void *first, size_t sums_stride, size_t rows,
                                  size_t cols, const struct clipc__finish *how) {
  struct avx2_sums sums = {first, sums_stride};
  if (how->add)
    avx2_finish_add(y, y_stride, sums, rows, cols, how);
  else if (how->activation == CLIPC__QUICK_GELU)
    avx2_finish_quick_gelu(y, y_stride, sums, rows, cols, how);
  else if (how->activation == CLIPC__GELU_ERF)
    avx2_finish_gelu_erf(y, y_stride, sums, rows, cols, how);
  else if (how->activation == CLIPC__GELU_TANH)
    avx2_finish_gelu_tanh(y, y_stride, sums, rows, cols, how);
  else
    avx2_finish_store(y, y_stride, sums, rows, cols, how);
}

/* ---- rows */

static AVX2_CODE float avx2_row_mean(const float *x, size_t n) {
  __m256 sum0 = _mm256_setzero_ps(), sum1 = sum0;
  size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    sum0 = _mm256_add_ps(sum0, _mm256_loadu_ps(x + i));
    sum1 = _mm256_add_ps(sum1, _mm256_loadu_ps(x + i + 8));
  }
  for (; i < n; i += 8) sum0 = _mm256_add_ps(sum0, avx2_load(x + i, n - i));
  return avx2_add_up(_mm256_add_ps(sum0, sum1)) / (float)n;
}

/* The mean and the mean square of x[i] - shift. */
static AVX2_CODE void avx2_row_moments(float *mean, float *square, const float *x, size_t n, __m256 shift) {
  __m256 sum0 = _mm256_setzero_ps(), sum1 = sum0, squares0 = sum0, squares1 = sum0;
  size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    __m256 v0 = _mm256_sub_ps(_mm256_loadu_ps(x + i), shift), v1 = _mm256_sub_ps(_mm256_loadu_ps(x + i + 8), shift);
    sum0 = _mm256_add_ps(sum0, v0);
    sum1 = _mm256_add_ps(sum1, v1);
    squares0 = _mm256_fmadd_ps(v0, v0, squares0);
    squares1 = _mm256_fmadd_ps(v1, v1, squares1);
  }
  for (; i < n; i += 8) {
    __m256 v = _mm256_sub_ps(avx2_load(x + i, n - i), shift);
    v = _mm256_and_ps(v, _mm256_castsi256_ps(avx2_mask(n - i)));
    sum0 = _mm256_add_ps(sum0, v);
    squares0 = _mm256_fmadd_ps(v, v, squares0);
  }
  *mean = avx2_add_up(_mm256_add_ps(sum0, sum1)) / (float)n;
  *square = avx2_add_up(_mm256_add_ps(squares0, squares1)) / (float)n;
}

/* What rounding left of the mean, rest, is taken off too: it counts where a row is nearly constant. */
static AVX2_CODE void avx2_layer_norm_f32(float *y, size_t y_stride, const float *x, size_t x_stride,
                                          const float *weight, const float *bias, size_t rows, size_t cols, float eps) {
  for (size_t r = 0; r < rows; r++, x += x_stride, y += y_stride) {
    const __m256 shift = _mm256_set1_ps(avx2_row_mean(x, cols));
    float rest, square;
    avx2_row_moments(&rest, &square, x, cols, shift);
    float variance = square - rest * rest, scale = 1.0f / sqrtf((variance < 0.0f ? 0.0f : variance) + eps);
    const __m256 factor = _mm256_set1_ps(scale), offset = _mm256_set1_ps(-rest * scale);
    for (size_t i = 0; i < cols; i += 8) {
      __m256 v = _mm256_fmadd_ps(_mm256_sub_ps(avx2_load(x + i, cols - i), shift), factor, offset);
      if (weight) v = _mm256_fmadd_ps(v, avx2_load(weight + i, cols - i), avx2_load(bias + i, cols - i));
      avx2_store(y + i, v, cols - i);
    }
  }
}

/* e^(x[i] - most) in place; returns them, the lanes behind the row being 0. */
AVX2_INLINE __m256 avx2_softmax_exp(float *x, size_t n, __m256 most) {
  __m256 v = avx2_exp(_mm256_sub_ps(avx2_load(x, n), most));
  avx2_store(x, v, n);
  return n >= 8 ? v : _mm256_and_ps(v, _mm256_castsi256_ps(avx2_mask(n)));
}

static AVX2_CODE void avx2_softmax_f32(float *x, size_t n, size_t n_all) {
  __m256 most8 = _mm256_set1_ps(-INFINITY), sum8 = _mm256_setzero_ps();
  size_t i = 0, whole = n & ~(size_t)7;
  for (; i < whole; i += 8) most8 = _mm256_max_ps(_mm256_loadu_ps(x + i), most8); /* the second one if there is a NaN */
  if (i < n) {
    __m256 v = _mm256_max_ps(avx2_load(x + i, n - i), most8);
    most8 = _mm256_blendv_ps(most8, v, _mm256_castsi256_ps(avx2_mask(n - i)));
  }
  __m128 most = _mm_max_ps(_mm256_castps256_ps128(most8), _mm256_extractf128_ps(most8, 1));
  most = _mm_max_ps(most, _mm_movehl_ps(most, most));
  most8 = _mm256_broadcastss_ps(_mm_max_ss(most, _mm_movehdup_ps(most)));
  for (i = 0; i < whole; i += 8) sum8 = _mm256_add_ps(sum8, avx2_softmax_exp(x + i, 8, most8));
  if (i < n) sum8 = _mm256_add_ps(sum8, avx2_softmax_exp(x + i, n - i, most8));
  const __m256 factor = _mm256_set1_ps(1.0f / avx2_add_up(sum8));
  for (i = 0; i < whole; i += 8) _mm256_storeu_ps(x + i, _mm256_mul_ps(_mm256_loadu_ps(x + i), factor));
  if (i < n) avx2_store(x + i, _mm256_mul_ps(avx2_load(x + i, n - i), factor), n - i);
  for (i = n; i < n_all; i++) x[i] = 0.0f;
}

/* Eight by eight: pairs of rows, then pairs of pairs, then the halves. */
static AVX2_CODE void avx2_transpose_8(float *y, size_t y_stride, const float *x, size_t x_stride) {
  __m256 pairs[8], fours[8];
  for (size_t i = 0; i < 8; i += 2) {
    __m256 a = _mm256_loadu_ps(x + i * x_stride), b = _mm256_loadu_ps(x + (i + 1) * x_stride);
    pairs[i] = _mm256_unpacklo_ps(a, b);
    pairs[i + 1] = _mm256_unpackhi_ps(a, b);
  }
  for (size_t i = 0; i < 8; i += 4)
    for (size_t j = 0; j < 2; j++) {
      fours[i + 2 * j] = _mm256_shuffle_ps(pairs[i + j], pairs[i + 2 + j], 0x44);
      fours[i + 2 * j + 1] = _mm256_shuffle_ps(pairs[i + j], pairs[i + 2 + j], 0xee);
    }
  for (size_t j = 0; j < 4; j++) {
    _mm256_storeu_ps(y + j * y_stride, _mm256_permute2f128_ps(fours[j], fours[4 + j], 0x20));
    _mm256_storeu_ps(y + (4 + j) * y_stride, _mm256_permute2f128_ps(fours[j], fours[4 + j], 0x31));
  }
}

static AVX2_CODE void avx2_transpose_f32(float *y, size_t y_stride, const float *x, size_t x_stride, size_t rows,
                                         size_t cols) {
  size_t whole_rows = rows & ~(size_t)7, whole_cols = cols & ~(size_t)7;
  for (size_t i = 0; i < whole_rows; i += 8)
    for (size_t j = 0; j < whole_cols; j += 8)
      avx2_transpose_8(y + j * y_stride + i, y_stride, x + i * x_stride + j, x_stride);
  for (size_t i = 0; i < rows; i++)
    for (size_t j = i < whole_rows ? whole_cols : 0; j < cols; j++) y[j * y_stride + i] = x[i * x_stride + j];
}

void clipc__kernels_avx2_rows(struct clipc__kernels *kernels) {
  kernels->transpose_f32 = avx2_transpose_f32;
  kernels->finish = avx2_finish;
  kernels->layer_norm_f32 = avx2_layer_norm_f32;
  kernels->softmax_f32 = avx2_softmax_f32;
  kernels->activation_f32[CLIPC__QUICK_GELU] = avx2_quick_gelu_f32;
  kernels->activation_f32[CLIPC__GELU_ERF] = avx2_gelu_erf_f32;
  kernels->activation_f32[CLIPC__GELU_TANH] = avx2_gelu_tanh_f32;
}

#endif
