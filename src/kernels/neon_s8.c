/* int8 on ARMv8-A alone, and the quantiser of all s8 inputs.
 * A column of the panel has 16 bytes of k together, as x has: smull and smlal multiply them lane by lane, two products
 * to an s16, sadalp adds those in pairs to four i32 sums for each output, which are added up at the end. Two products
 * fit because weights are packed as -127 to 127. 4 rows x 4 columns, twice. */
#include "kernels/neon.h"

#if CLIPC__HAS_NEON
#include <float.h>
#include <math.h>
#include <string.h>

#define S8_ROWS 4
#define S8_COLS 8
#define S8_GROUP 16
#define S8_COLS_AT_ONCE 4

#define S8_START(i, _)                                                                                                 \
  const int8_t *x##i = (const int8_t *)((const char *)input + i * x_stride);                                           \
  int8x16_t a##i;                                                                                                      \
  int32x4_t s##i##0 = zero, s##i##1 = zero, s##i##2 = zero, s##i##3 = zero;
#define S8_LOAD(i, _) a##i = vld1q_s8(x##i + p);
#define S8_MADD(i, c)                                                                                                  \
  products = vmull_s8(vget_low_s8(a##i), vget_low_s8(w));                                                              \
  products = vmlal_high_s8(products, a##i, w);                                                                         \
  s##i##c = vpadalq_s16(s##i##c, products);
#define S8_COL(EACH, c)                                                                                                \
  w = vld1q_s8(panel + c * S8_GROUP);                                                                                  \
  NEON_IN_ORDER;                                                                                                       \
  EACH(S8_MADD, c)
#define S8_STORE(i, _)                                                                                                 \
  vst1q_s32(sums + i * S8_COLS, vpaddq_s32(vpaddq_s32(s##i##0, s##i##1), vpaddq_s32(s##i##2, s##i##3)));

/* Four columns; the panel has eight. */
#define S8_PRODUCT(name, EACH)                                                                                         \
  static void name(int32_t *sums, const void *input, size_t x_stride, const int8_t *panel, size_t k,                   \
                   struct neon_ahead *ahead) {                                                                         \
    const int32x4_t zero = vdupq_n_s32(0);                                                                             \
    int8x16_t w;                                                                                                       \
    int16x8_t products;                                                                                                \
    EACH(S8_START, _)                                                                                                  \
    for (size_t p = 0; p < k; p += S8_GROUP, panel += S8_COLS * S8_GROUP) {                                            \
      EACH(S8_LOAD, _)                                                                                                 \
      S8_COL(EACH, 0)                                                                                                  \
      S8_COL(EACH, 1)                                                                                                  \
      S8_COL(EACH, 2)                                                                                                  \
      S8_COL(EACH, 3)                                                                                                  \
      neon_ahead_step(ahead);                                                                                          \
    }                                                                                                                  \
    EACH(S8_STORE, _)                                                                                                  \
  }

S8_PRODUCT(s8_1_neon, NEON_EACH_1)
S8_PRODUCT(s8_2_neon, NEON_EACH_2)
S8_PRODUCT(s8_3_neon, NEON_EACH_3)
S8_PRODUCT(s8_4_neon, NEON_EACH_4)

static void product_s8_neon(void *out, const void *x, size_t x_stride, size_t rows, const void *packed, size_t k,
                            const void *wanted, size_t wanted_bytes) {
  typedef void s8_product(int32_t *sums, const void *input, size_t x_stride, const int8_t *panel, size_t k,
                          struct neon_ahead *ahead);
  static s8_product *const by_rows[S8_ROWS] = {s8_1_neon, s8_2_neon, s8_3_neon, s8_4_neon};
  int32_t *sums = out;
  const int8_t *panel = packed;
  struct neon_ahead ahead = neon_ahead_start(wanted, wanted_bytes, 2 * (k / S8_GROUP));
  for (size_t first = 0; first < S8_COLS; first += S8_COLS_AT_ONCE)
    by_rows[rows - 1](sums + first, x, x_stride, panel + first * S8_GROUP, k, &ahead);
}

/* ---- quantising */

struct s8_range {
  float32x4_t low, high, poison; /* the sum of 0 * x, which is NaN as soon as anything is not finite */
};

NEON_INLINE void s8_widen(struct s8_range *range, float32x4_t x) {
  range->low = vminnmq_f32(range->low, x);
  range->high = vmaxnmq_f32(range->high, x);
  range->poison = vfmaq_f32(range->poison, vdupq_n_f32(0.0f), x);
}

/* The least and the largest of the row and nought; returns the poison. */
static float s8_find_range(float *low, float *high, const float *x, size_t k) {
  const float32x4_t zero = vdupq_n_f32(0.0f);
  struct s8_range even = {zero, zero, zero}, odd = even;
  float rest[8] = {0};
  for (; k >= 8; k -= 8, x += 8) {
    s8_widen(&even, vld1q_f32(x));
    s8_widen(&odd, vld1q_f32(x + 4));
  }
  memcpy(rest, x, k * sizeof *x);
  s8_widen(&even, vld1q_f32(rest));
  s8_widen(&odd, vld1q_f32(rest + 4));
  *low = vminnmvq_f32(vminnmq_f32(even.low, odd.low));
  *high = vmaxnmvq_f32(vmaxnmq_f32(even.high, odd.high));
  return vaddvq_f32(vaddq_f32(even.poison, odd.poison));
}

struct s8_quantiser {
  float32x4_t inverse;
  int32x4_t zero;
  int8x8_t lowest, highest;
};

NEON_INLINE void s8_quantise_8(int8_t *q, const float *x, const struct s8_quantiser *to) {
  int32x4_t first = vaddq_s32(vcvtnq_s32_f32(vmulq_f32(vld1q_f32(x), to->inverse)), to->zero);
  int32x4_t second = vaddq_s32(vcvtnq_s32_f32(vmulq_f32(vld1q_f32(x + 4), to->inverse)), to->zero);
  int8x8_t both = vqmovn_s16(vcombine_s16(vqmovn_s32(first), vqmovn_s32(second)));
  vst1_s8(q, vmax_s8(vmin_s8(both, to->highest), to->lowest));
}

void clipc__neon_prepare_s8(void *out, struct clipc__row_scale *scale, const float *x, size_t k, size_t k_padded,
                            int n_levels) {
  int8_t *q = out, part[8];
  float low, high, poison = s8_find_range(&low, &high, x, k), rest[8] = {0};
  float step = (high - low) / (float)n_levels;
  bool usable = step >= FLT_MIN && step <= FLT_MAX; /* else nothing but noughts, or something not finite */
  float inverse = usable ? 1.0f / step : 0.0f;
  int lowest = -(n_levels + 1) / 2, highest = lowest + n_levels;
  int zero = usable ? lowest + (int)rintf(-low * inverse) : lowest;
  const struct s8_quantiser to = {vdupq_n_f32(inverse), vdupq_n_s32(zero), vdup_n_s8((int8_t)lowest),
                                  vdup_n_s8((int8_t)highest)};
  size_t p = 0;
  for (; p + 8 <= k; p += 8) s8_quantise_8(q + p, x + p, &to);
  memcpy(rest, x + p, (k - p) * sizeof *x);
  s8_quantise_8(part, rest, &to);
  memcpy(q + p, part, k - p);
  memset(q + k, zero, k_padded - k);
  *scale = (struct clipc__row_scale){step + poison, zero};
}

/* ---- peak */

#define S8_PEAK_START(i, _) int32x4_t s##i = zero;
#define S8_PEAK_STEP(i, _)                                                                                             \
  __asm__ volatile("smull %0.8h, %2.8b, %2.8b\n\tsmlal2 %0.8h, %2.16b, %2.16b\n\tsadalp %1.4s, %0.8h"                  \
                   : "=&w"(products), "+w"(s##i)                                                                       \
                   : "w"(w));
#define S8_PEAK_KEEP(i, _) __asm__ volatile("" : : "w"(s##i));

static double peak_s8_neon(size_t n_rounds) {
  const int32x4_t zero = vdupq_n_s32(0);
  const int8x16_t w = vdupq_n_s8(1);
  int16x8_t products;
  NEON_EACH_8(S8_PEAK_START, _)
  for (size_t round = 0; round < n_rounds; round++) {
    NEON_EACH_8(S8_PEAK_STEP, _)
  }
  NEON_EACH_8(S8_PEAK_KEEP, _)
  return 8 * 32.0;
}

void clipc__neon_s8(struct clipc__kernels *kernels) {
  kernels->gemm[CLIPC_PRECISION_INT8] = (struct clipc__gemm){.name = "neon",
                                                             .weights = CLIPC__S8,
                                                             .input = CLIPC__S8,
                                                             .n_levels = 255,
                                                             .tile_rows = S8_ROWS,
                                                             .panel_cols = S8_COLS,
                                                             .group = S8_GROUP,
                                                             .product = product_s8_neon,
                                                             .prepare = clipc__neon_prepare_s8};
  kernels->peak[CLIPC_PRECISION_INT8] = peak_s8_neon;
}

#undef S8_ROWS
#undef S8_COLS
#undef S8_GROUP
#undef S8_COLS_AT_ONCE
#undef S8_START
#undef S8_LOAD
#undef S8_MADD
#undef S8_COL
#undef S8_STORE
#undef S8_PRODUCT
#undef S8_PEAK_START
#undef S8_PEAK_STEP
#undef S8_PEAK_KEEP
#endif
