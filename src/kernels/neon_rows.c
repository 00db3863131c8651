/* What stands around the products, for ARMv8-A: exp, activations, what becomes of a tile's sums, layer norm, softmax.
 * The rest of a row, under four numbers, goes through the same instructions in a vector filled up with zeros, so that a
 * value hangs on its row alone. */
#include "kernels/neon.h"

#if CLIPC__HAS_NEON
#include <math.h>
#include <string.h>

/* ---- rests of rows */

NEON_INLINE float32x4_t neon_load(const float *x, size_t n) {
  if (n >= 4) return vld1q_f32(x);
  float part[4] = {0};
  for (size_t i = 0; i < n; i++) part[i] = x[i];
  return vld1q_f32(part);
}

NEON_INLINE void neon_store(float *y, float32x4_t value, size_t n) {
  if (n >= 4) {
    vst1q_f32(y, value);
    return;
  }
  float part[4];
  vst1q_f32(part, value);
  for (size_t i = 0; i < n; i++) y[i] = part[i];
}

/* ---- exp and activations */

/* As large as this, floats are whole numbers: adding it rounds, and leaves the whole number plus 127, an exponent, in
 * the low bits. */
#define EXPONENT_IN_LOW_BITS 12583039.0f /* 1.5 * 2^23 + 127 */

/* a + b x. An fmla overwrites its summand, so that one from a constant costs a move too: polynomials are summed as
 * pairs of terms, then pairs of pairs, which also makes the chain shorter. */
NEON_INLINE float32x4_t neon_pair(float a, float b, float32x4_t x) {
  return vfmaq_f32(vdupq_n_f32(a), vdupq_n_f32(b), x);
}

/* 2^(n + rest), given n + EXPONENT_IN_LOW_BITS, -127 <= n <= 128 and |rest| <= 1/2: within 1.4 ulp. At n = -127 it is
 * 0, at 128 infinity. */
NEON_INLINE float32x4_t neon_exp2_parts(float32x4_t whole, float32x4_t rest) {
  float32x4_t square = vmulq_f32(rest, rest);
  float32x4_t p01 = neon_pair(1.0f, 0x1.62e43p-1f, rest); /* minimax, 2e-9 */
  float32x4_t p23 = neon_pair(0x1.ebfbdcp-3f, 0x1.c6aee8p-5f, rest);
  float32x4_t p45 = neon_pair(0x1.3b2d4cp-7f, 0x1.5f3e54p-10f, rest);
  float32x4_t p46 = vfmaq_n_f32(p45, square, 0x1.41fbbcp-13f);
  float32x4_t p = vfmaq_f32(p01, vfmaq_f32(p23, p46, square), square);
  return vmulq_f32(p, vreinterpretq_f32_s32(vshlq_n_s32(vreinterpretq_s32_f32(whole), 23)));
}

/* 2^x for x <= 128; from 2^-126.5 down 0, from 2^127.5 up infinity; NaN stays. */
NEON_INLINE float32x4_t neon_exp2(float32x4_t x) {
  const float32x4_t rounder = vdupq_n_f32(EXPONENT_IN_LOW_BITS);
  x = vmaxq_f32(x, vdupq_n_f32(-127.0f));
  float32x4_t whole = vaddq_f32(x, rounder);
  return neon_exp2_parts(whole, vsubq_f32(x, vsubq_f32(whole, rounder)));
}

/* e^x for x <= 0; from e^-87.68 down 0, NaN stays. */
NEON_INLINE float32x4_t neon_exp_below_1(float32x4_t x) {
  const float32x4_t rounder = vdupq_n_f32(EXPONENT_IN_LOW_BITS), log2_e = vdupq_n_f32(0x1.715476p+0f);
  x = vmaxq_f32(x, vdupq_n_f32(-88.0f));
  float32x4_t whole = vfmaq_f32(rounder, x, log2_e);
  float32x4_t rest = vfmaq_f32(vsubq_f32(rounder, whole), x, log2_e);
  return neon_exp2_parts(whole, vfmaq_n_f32(rest, x, 0x1.4ae0cp-26f)); /* what log2_e lacks */
}

/* x / (1 + 2^z) */
NEON_INLINE float32x4_t neon_over_one_plus_exp2(float32x4_t x, float32x4_t z) {
  float32x4_t power = neon_exp2(vminq_f32(z, vdupq_n_f32(128.0f)));
  return vdivq_f32(x, vaddq_f32(vdupq_n_f32(1.0f), power));
}

NEON_INLINE float32x4_t neon_quick_gelu(float32x4_t x) {
  return neon_over_one_plus_exp2(x, vmulq_n_f32(x, -2.45546696f)); /* -1.702 log2 e */
}

/* (1 + tanh u) / 2 = 1 / (1 + e^-2u) */
NEON_INLINE float32x4_t neon_gelu_tanh(float32x4_t x) {
  const float factor = -2.30220819f; /* -2 sqrt(2/pi) log2 e */
  float32x4_t inner = vfmaq_n_f32(vdupq_n_f32(factor), vmulq_f32(x, x), 0.044715f * factor);
  return neon_over_one_plus_exp2(x, vmulq_f32(x, inner));
}

/* x P(x), P being the normal distribution; -log2 P(-|x|) is a polynomial in |x|, within 8e-9 of P. It goes on rising
 * behind the range of its fit, 6, and is far over 127 at 16. */
NEON_INLINE float32x4_t neon_gelu_erf(float32x4_t x) {
  float32x4_t size = vminq_f32(vabsq_f32(x), vdupq_n_f32(16.0f));
  float32x4_t square = vmulq_f32(size, size), fourth = vmulq_f32(square, square);
  float32x4_t q01 = neon_pair(-1.0f, -1.1511051654815674f, size);
  float32x4_t q23 = neon_pair(-0.4592081904411316f, -0.052496179938316345f, size);
  float32x4_t q45 = neon_pair(0.00706342002376914f, -0.0001369363599224016f, size);
  float32x4_t q67 = neon_pair(-0.00018618024478200823f, 3.9377689972752705e-05f, size);
  float32x4_t q03 = vfmaq_f32(q01, q23, square), q47 = vfmaq_f32(q45, q67, square);
  float32x4_t q = vfmaq_f32(q03, vfmaq_n_f32(q47, fourth, -2.834912720572902e-06f), fourth);
  float32x4_t tail = neon_exp2(q), rest = vsubq_f32(vdupq_n_f32(1.0f), tail);
  return vmulq_f32(x, vbslq_f32(vcltzq_f32(x), tail, rest));
}

NEON_INLINE float32x4_t neon_activation(float32x4_t x, enum clipc__activation activation) {
  return activation == CLIPC__QUICK_GELU  ? neon_quick_gelu(x)
         : activation == CLIPC__GELU_ERF  ? neon_gelu_erf(x)
         : activation == CLIPC__GELU_TANH ? neon_gelu_tanh(x)
                                          : x;
}

NEON_INLINE void neon_activate(float *x, size_t n, enum clipc__activation activation) {
  size_t i = 0;
  for (; i + 4 <= n; i += 4) vst1q_f32(x + i, neon_activation(vld1q_f32(x + i), activation));
  if (i < n) neon_store(x + i, neon_activation(neon_load(x + i, n - i), activation), n - i);
}

static void quick_gelu_f32_neon(float *x, size_t n) { neon_activate(x, n, CLIPC__QUICK_GELU); }
static void gelu_erf_f32_neon(float *x, size_t n) { neon_activate(x, n, CLIPC__GELU_ERF); }
static void gelu_tanh_f32_neon(float *x, size_t n) { neon_activate(x, n, CLIPC__GELU_TANH); }

/* ---- what becomes of sums */

struct neon_sums {
  const void *first;
  size_t stride;
};
typedef void neon_finish_rows(float *y, size_t y_stride, struct neon_sums sums, size_t rows, size_t cols,
                              const struct clipc__finish *how);

/* cols is a multiple of four here. A function for each kind of sums, activation and output. */
#define FINISH_ROWS(name, is_int, activation, add)                                                                     \
  static void name(float *y, size_t y_stride, struct neon_sums sums, size_t rows, size_t cols,                         \
                   const struct clipc__finish *how) {                                                                  \
    neon_finish_as(y, y_stride, sums, rows, cols, how, is_int, activation, add);                                       \
  }
NEON_INLINE void neon_finish_as(float *y, size_t y_stride, struct neon_sums sums, size_t rows, size_t cols,
                                const struct clipc__finish *how, bool is_int, enum clipc__activation activation,
                                bool add) {
  const float32x4_t nothing = vdupq_n_f32(0.0f);
  const float *bias = how->bias;
  for (size_t i = 0; i < rows; i++, y += y_stride) {
    float row_scale = is_int ? how->rows[i].scale : 0.0f;
    int32_t zero = is_int ? how->rows[i].zero : 0;
    for (size_t j = 0; j < cols; j += 4) {
      size_t at = i * sums.stride + j;
      float32x4_t value;
      if (is_int) {
        int32x4_t whole = vmlsq_n_s32(vld1q_s32((const int32_t *)sums.first + at), vld1q_s32(how->sum + j), zero);
        float32x4_t unit = vmulq_n_f32(vld1q_f32(how->scale + j), row_scale);
        value = vfmaq_f32(bias != NULL ? vld1q_f32(bias + j) : nothing, vcvtq_f32_s32(whole), unit);
      } else {
        value = vld1q_f32((const float *)sums.first + at);
        if (bias != NULL) value = vaddq_f32(value, vld1q_f32(bias + j));
      }
      value = neon_activation(value, activation);
      vst1q_f32(y + j, add ? vaddq_f32(vld1q_f32(y + j), value) : value);
    }
  }
}

FINISH_ROWS(finish_f32_neon, false, CLIPC__NO_ACTIVATION, false)
FINISH_ROWS(finish_f32_add_neon, false, CLIPC__NO_ACTIVATION, true)
FINISH_ROWS(finish_f32_quick_neon, false, CLIPC__QUICK_GELU, false)
FINISH_ROWS(finish_f32_erf_neon, false, CLIPC__GELU_ERF, false)
FINISH_ROWS(finish_f32_tanh_neon, false, CLIPC__GELU_TANH, false)
FINISH_ROWS(finish_s32_neon, true, CLIPC__NO_ACTIVATION, false)
FINISH_ROWS(finish_s32_add_neon, true, CLIPC__NO_ACTIVATION, true)
FINISH_ROWS(finish_s32_quick_neon, true, CLIPC__QUICK_GELU, false)
FINISH_ROWS(finish_s32_erf_neon, true, CLIPC__GELU_ERF, false)
FINISH_ROWS(finish_s32_tanh_neon, true, CLIPC__GELU_TANH, false)

/* The last columns, n < 4, in arrays filled up with zeros. */
static void neon_finish_rest(neon_finish_rows *finish, float *y, size_t y_stride, struct neon_sums sums, size_t rows,
                             size_t col, size_t n, const struct clipc__finish *how) {
  struct clipc__finish part = *how;
  float out[4] = {0}, bias[4] = {0}, scale[4] = {0};
  int32_t sum[4] = {0}, from[4] = {0};
  if (how->bias != NULL) part.bias = memcpy(bias, how->bias + col, n * sizeof *bias);
  if (how->scale != NULL) {
    part.scale = memcpy(scale, how->scale + col, n * sizeof *scale);
    part.sum = memcpy(sum, how->sum + col, n * sizeof *sum);
  }
  y += col;
  for (size_t i = 0; i < rows; i++, y += y_stride) {
    memcpy(from, (const char *)sums.first + (i * sums.stride + col) * sizeof *from, n * sizeof *from);
    if (how->add) memcpy(out, y, n * sizeof *out);
    if (how->scale != NULL) part.rows = how->rows + i;
    finish(out, 4, (struct neon_sums){from, 4}, 1, 4, &part);
    memcpy(y, out, n * sizeof *out);
  }
}

static void finish_neon(float *y, size_t y_stride, const void *sums, size_t sums_stride, size_t rows, size_t cols,
                        const struct clipc__finish *how) {
  static neon_finish_rows *const by_kind[2][CLIPC__N_ACTIVATIONS] = {
      {finish_f32_neon, finish_f32_quick_neon, finish_f32_erf_neon, finish_f32_tanh_neon},
      {finish_s32_neon, finish_s32_quick_neon, finish_s32_erf_neon, finish_s32_tanh_neon}};
  struct neon_sums from = {sums, sums_stride};
  bool is_int = how->scale != NULL;
  neon_finish_rows *finish = by_kind[is_int][how->activation];
  if (how->add) finish = is_int ? finish_s32_add_neon : finish_f32_add_neon;
  size_t rest = cols % 4;
  finish(y, y_stride, from, rows, cols - rest, how);
  if (rest != 0) neon_finish_rest(finish, y, y_stride, from, rows, cols - rest, rest, how);
}

/* ---- layer norm */

/* The mean and the variance: a first mean in f32, then the sums of the differences from it and of their squares, of
 * which the first corrects the mean. */
static void neon_moments(float *mean, float *variance, const float *x, size_t n) {
  float32x4_t sum0 = vdupq_n_f32(0.0f), sum1 = sum0, square0 = sum0, square1 = sum0;
  size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    sum0 = vaddq_f32(sum0, vld1q_f32(x + i));
    sum1 = vaddq_f32(sum1, vld1q_f32(x + i + 4));
  }
  float sum = vaddvq_f32(vaddq_f32(sum0, sum1));
  for (; i < n; i++) sum += x[i];
  const float first = sum / (float)n;
  const float32x4_t centre = vdupq_n_f32(first);
  sum0 = sum1 = vdupq_n_f32(0.0f);
  for (i = 0; i + 8 <= n; i += 8) {
    float32x4_t low = vsubq_f32(vld1q_f32(x + i), centre), high = vsubq_f32(vld1q_f32(x + i + 4), centre);
    sum0 = vaddq_f32(sum0, low);
    sum1 = vaddq_f32(sum1, high);
    square0 = vfmaq_f32(square0, low, low);
    square1 = vfmaq_f32(square1, high, high);
  }
  float square = vaddvq_f32(vaddq_f32(square0, square1));
  sum = vaddvq_f32(vaddq_f32(sum0, sum1));
  for (; i < n; i++) {
    float off = x[i] - first;
    sum += off;
    square += off * off;
  }
  float correction = sum / (float)n, spread = square / (float)n - correction * correction;
  *mean = first + correction;
  *variance = spread < 0.0f ? 0.0f : spread;
}

NEON_INLINE float32x4_t neon_normalize(float32x4_t x, float32x4_t mean, float32x4_t factor) {
  return vmulq_f32(vsubq_f32(x, mean), factor);
}

static void layer_norm_f32_neon(float *y, size_t y_stride, const float *x, size_t x_stride, const float *weight,
                                const float *bias, size_t rows, size_t cols, float eps) {
  for (size_t r = 0; r < rows; r++, x += x_stride, y += y_stride) {
    float first, variance;
    neon_moments(&first, &variance, x, cols);
    const float32x4_t mean = vdupq_n_f32(first), factor = vdupq_n_f32(1.0f / sqrtf(variance + eps));
    size_t i = 0;
    for (; i + 4 <= cols; i += 4) {
      float32x4_t value = neon_normalize(vld1q_f32(x + i), mean, factor);
      if (weight != NULL) value = vfmaq_f32(vld1q_f32(bias + i), value, vld1q_f32(weight + i));
      vst1q_f32(y + i, value);
    }
    for (; i < cols; i++) {
      float32x4_t value = neon_normalize(vdupq_n_f32(x[i]), mean, factor);
      if (weight != NULL) value = vfmaq_n_f32(vdupq_n_f32(bias[i]), value, weight[i]);
      y[i] = vgetq_lane_f32(value, 0);
    }
  }
}

/* ---- softmax */

/* The largest; NaN if the first is, else what is NaN does not count, as in plain C. */
static float neon_largest(const float *x, size_t n) {
  float largest = x[0];
  size_t i = 0;
  float32x4_t most = vdupq_n_f32(largest);
  for (; i + 4 <= n; i += 4) most = vmaxnmq_f32(most, vld1q_f32(x + i));
  largest = vmaxnmvq_f32(most);
  for (; i < n; i++) largest = fmaxf(largest, x[i]);
  return largest;
}

static void softmax_f32_neon(float *x, size_t n, size_t n_all) {
  const float32x4_t largest = vdupq_n_f32(neon_largest(x, n));
  float32x4_t sums = vdupq_n_f32(0.0f);
  size_t i = 0;
  for (; i + 4 <= n; i += 4) {
    float32x4_t value = neon_exp_below_1(vsubq_f32(vld1q_f32(x + i), largest));
    vst1q_f32(x + i, value);
    sums = vaddq_f32(sums, value);
  }
  float sum = vaddvq_f32(sums);
  for (; i < n; i++) {
    x[i] = vgetq_lane_f32(neon_exp_below_1(vsubq_f32(vdupq_n_f32(x[i]), largest)), 0);
    sum += x[i];
  }
  float inverse = 1.0f / sum;
  for (i = 0; i + 4 <= n; i += 4) vst1q_f32(x + i, vmulq_n_f32(vld1q_f32(x + i), inverse));
  for (; i < n; i++) x[i] *= inverse;
  memset(x + n, 0, (n_all - n) * sizeof *x);
}

void clipc__neon_rows(struct clipc__kernels *kernels) {
  kernels->finish = finish_neon;
  kernels->layer_norm_f32 = layer_norm_f32_neon;
  kernels->softmax_f32 = softmax_f32_neon;
  kernels->activation_f32[CLIPC__QUICK_GELU] = quick_gelu_f32_neon;
  kernels->activation_f32[CLIPC__GELU_ERF] = gelu_erf_f32_neon;
  kernels->activation_f32[CLIPC__GELU_TANH] = gelu_tanh_f32_neon;
}

#undef EXPONENT_IN_LOW_BITS
#undef FINISH_ROWS
#endif
