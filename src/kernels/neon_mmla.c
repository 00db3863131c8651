/* Products by the matrix instructions, 2 rows x 2 columns at a time: int8 by smmla (8 numbers of k), bf16 by bfmmla
 * (4). Both eat 8 bytes of each row and column, so they are the same loop: 6 rows x 16 columns, 24 sums of 2 x 2. 16
 * bytes of two rows are loaded, then traded so that each register holds 8 bytes of both; the panel lies so already. An
 * odd last row is paired with itself. bfmmla adds four products with roundings of its own and takes denormals as
 * noughts; what it gives for one row does not hang on the other. */
#include "kernels/neon.h"

#if CLIPC__HAS_NEON

#define MMLA_SMMLA(sum, a, w, _) __asm__ volatile("smmla %0.4s, %1.16b, %2.16b" : "+w"(sum) : "w"(a), "w"(w));
#define MMLA_BFMMLA(sum, a, w, _) __asm__ volatile("bfmmla %0.4s, %1.8h, %2.8h" : "+w"(sum) : "w"(a), "w"(w));

#define MMLA_ROWS 6
#define MMLA_COLS 16

/* The first halves of a and b, or the second. */
#define MMLA_LOW(to, a, b) __asm__ volatile("trn1 %0.2d, %1.2d, %2.2d" : "=w"(to) : "w"(a), "w"(b));
#define MMLA_HIGH(to, a, b) __asm__ volatile("trn2 %0.2d, %1.2d, %2.2d" : "=w"(to) : "w"(a), "w"(b));

/* A pair of rows: x and y walk along them, a and b hold the first and second 8 bytes of both. */
#define MMLA_START(i, _)                                                                                               \
  const uint8_t *x##i = (const uint8_t *)input + 2 * i * x_stride, *y##i = x##i + (2 * i + 1 < rows ? x_stride : 0);   \
  uint8x16_t a##i, b##i, s##i##0 = zero, s##i##1 = zero, s##i##2 = zero, s##i##3 = zero, s##i##4 = zero,               \
                         s##i##5 = zero, s##i##6 = zero, s##i##7 = zero;
#define MMLA_LOAD(i, _)                                                                                                \
  b##i = vld1q_u8(x##i);                                                                                               \
  w = vld1q_u8(y##i);                                                                                                  \
  NEON_IN_ORDER;                                                                                                       \
  MMLA_LOW(a##i, b##i, w)                                                                                              \
  MMLA_HIGH(b##i, b##i, w)                                                                                             \
  x##i += 16;                                                                                                          \
  y##i += 16;
#define MMLA_LOAD_HALF(i, _) a##i = vcombine_u8(vld1_u8(x##i), vld1_u8(y##i));
#define MMLA_MADD(i, MADD, a, w, c) MADD(s##i##c, a##i, w, _)
#define MMLA_COLS_2(EACH, MADD, a, offset, c, d)                                                                       \
  NEON_IN_ORDER;                                                                                                       \
  EACH(MMLA_MADD, MADD, a, v, c)                                                                                       \
  if (c < 6) v = vld1q_u8(panel + offset + 16 * c + 32);                                                               \
  NEON_IN_ORDER;                                                                                                       \
  EACH(MMLA_MADD, MADD, a, w, d)                                                                                       \
  if (c < 6) w = vld1q_u8(panel + offset + 16 * d + 32);
#define MMLA_STEP(EACH, MADD, a, offset)                                                                               \
  v = vld1q_u8(panel + offset);                                                                                        \
  w = vld1q_u8(panel + offset + 16);                                                                                   \
  MMLA_COLS_2(EACH, MADD, a, offset, 0, 1)                                                                             \
  MMLA_COLS_2(EACH, MADD, a, offset, 2, 3)                                                                             \
  MMLA_COLS_2(EACH, MADD, a, offset, 4, 5)                                                                             \
  MMLA_COLS_2(EACH, MADD, a, offset, 6, 7)                                                                             \
  NEON_IN_ORDER;
#define MMLA_STORE_PAIR(i, offset, c, d)                                                                               \
  MMLA_LOW(v, s##i##c, s##i##d)                                                                                        \
  vst1q_u8(sums + 128 * i + offset, v);                                                                                \
  MMLA_HIGH(w, s##i##c, s##i##d)                                                                                       \
  if (2 * i + 1 < rows) vst1q_u8(sums + 128 * i + 64 + offset, w);
#define MMLA_STORE(i, _)                                                                                               \
  MMLA_STORE_PAIR(i, 0, 0, 1)                                                                                          \
  MMLA_STORE_PAIR(i, 16, 2, 3)                                                                                         \
  MMLA_STORE_PAIR(i, 32, 4, 5)                                                                                         \
  MMLA_STORE_PAIR(i, 48, 6, 7)

#define MMLA_PRODUCT(name, TARGET, MADD, EACH)                                                                         \
  TARGET static void name(uint8_t *sums, const void *input, size_t x_stride, size_t rows, const uint8_t *panel,        \
                          size_t k_bytes, const void *wanted, size_t wanted_bytes) {                                   \
    struct neon_ahead ahead = neon_ahead_start(wanted, wanted_bytes, k_bytes / 16);                                    \
    const uint8x16_t zero = vdupq_n_u8(0);                                                                             \
    uint8x16_t v, w;                                                                                                   \
    EACH(MMLA_START, _)                                                                                                \
    for (; k_bytes >= 16; k_bytes -= 16, panel += 256) {                                                               \
      EACH(MMLA_LOAD, _)                                                                                               \
      MMLA_STEP(EACH, MADD, a, 0)                                                                                      \
      MMLA_STEP(EACH, MADD, b, 128)                                                                                    \
      neon_ahead_step(&ahead);                                                                                         \
    }                                                                                                                  \
    if (k_bytes != 0) {                                                                                                \
      EACH(MMLA_LOAD_HALF, _)                                                                                          \
      MMLA_STEP(EACH, MADD, a, 0)                                                                                      \
    }                                                                                                                  \
    EACH(MMLA_STORE, _)                                                                                                \
  }

MMLA_PRODUCT(mmla_s8_2_i8mm, NEON_I8MM, MMLA_SMMLA, NEON_EACH_1)
MMLA_PRODUCT(mmla_s8_4_i8mm, NEON_I8MM, MMLA_SMMLA, NEON_EACH_2)
MMLA_PRODUCT(mmla_s8_6_i8mm, NEON_I8MM, MMLA_SMMLA, NEON_EACH_3)
MMLA_PRODUCT(mmla_bf16_2_bf16, NEON_BF16, MMLA_BFMMLA, NEON_EACH_1)
MMLA_PRODUCT(mmla_bf16_4_bf16, NEON_BF16, MMLA_BFMMLA, NEON_EACH_2)
MMLA_PRODUCT(mmla_bf16_6_bf16, NEON_BF16, MMLA_BFMMLA, NEON_EACH_3)

static void product_s8_i8mm(void *sums, const void *x, size_t x_stride, size_t rows, const void *panel, size_t k,
                            const void *ahead, size_t ahead_bytes) {
  if (rows > 4)
    mmla_s8_6_i8mm(sums, x, x_stride, rows, panel, k, ahead, ahead_bytes);
  else if (rows > 2)
    mmla_s8_4_i8mm(sums, x, x_stride, rows, panel, k, ahead, ahead_bytes);
  else
    mmla_s8_2_i8mm(sums, x, x_stride, rows, panel, k, ahead, ahead_bytes);
}

static void product_bf16_bf16(void *sums, const void *x, size_t x_stride, size_t rows, const void *panel, size_t k,
                              const void *ahead, size_t ahead_bytes) {
  if (rows > 4)
    mmla_bf16_6_bf16(sums, x, x_stride, rows, panel, 2 * k, ahead, ahead_bytes);
  else if (rows > 2)
    mmla_bf16_4_bf16(sums, x, x_stride, rows, panel, 2 * k, ahead, ahead_bytes);
  else
    mmla_bf16_2_bf16(sums, x, x_stride, rows, panel, 2 * k, ahead, ahead_bytes);
}

/* To nearest, ties to even; NaN stays NaN. */
NEON_BF16 static void prepare_bf16_bf16(void *out, struct clipc__row_scale *scale, const float *x, size_t k,
                                        size_t k_padded, int n_levels) {
  (void)scale, (void)n_levels;
  uint8_t *to = out;
  size_t p = 0;
  for (; p + 8 <= k; p += 8, to += 16) {
    float32x4_t low = vld1q_f32(x + p), high = vld1q_f32(x + p + 4);
    uint8x16_t both;
    __asm__("bfcvtn %0.4h, %1.4s" : "=w"(both) : "w"(low));
    __asm__("bfcvtn2 %0.8h, %1.4s" : "+w"(both) : "w"(high));
    vst1q_u8(to, both);
  }
  for (; p < k; p++, to += 2) {
    float32x4_t value = vld1q_dup_f32(x + p);
    uint8x16_t half;
    __asm__("bfcvtn %0.4h, %1.4s" : "=w"(half) : "w"(value));
    to[0] = vgetq_lane_u8(half, 0);
    to[1] = vgetq_lane_u8(half, 1);
  }
  for (; p < k_padded; p++, to += 2) to[0] = to[1] = 0;
}

/* ---- peaks */

NEON_PEAK(peak_s8_i8mm, NEON_I8MM, MMLA_SMMLA, 64)
NEON_PEAK(peak_bf16_bf16, NEON_BF16, MMLA_BFMMLA, 32)

void clipc__neon_mmla(struct clipc__kernels *kernels, unsigned cpu) {
  if (cpu & CLIPC__CPU_I8MM) {
    kernels->gemm[CLIPC_PRECISION_INT8] = (struct clipc__gemm){.name = "i8mm",
                                                               .weights = CLIPC__S8,
                                                               .input = CLIPC__S8,
                                                               .n_levels = 255,
                                                               .tile_rows = MMLA_ROWS,
                                                               .panel_cols = MMLA_COLS,
                                                               .group = 8,
                                                               .product = product_s8_i8mm,
                                                               .prepare = clipc__neon_prepare_s8};
    kernels->peak[CLIPC_PRECISION_INT8] = peak_s8_i8mm;
  }
  if (cpu & CLIPC__CPU_NEON_BF16) {
    kernels->gemm[CLIPC_PRECISION_BF16] = (struct clipc__gemm){.name = "neon-bf16",
                                                               .weights = CLIPC__BF16,
                                                               .input = CLIPC__BF16,
                                                               .tile_rows = MMLA_ROWS,
                                                               .panel_cols = MMLA_COLS,
                                                               .group = 4,
                                                               .product = product_bf16_bf16,
                                                               .prepare = prepare_bf16_bf16};
    kernels->peak[CLIPC_PRECISION_BF16] = peak_bf16_bf16;
  }
}

#undef MMLA_SMMLA
#undef MMLA_BFMMLA
#undef MMLA_ROWS
#undef MMLA_COLS
#undef MMLA_START
#undef MMLA_LOAD
#undef MMLA_LOAD_HALF
#undef MMLA_MADD
#undef MMLA_COLS_2
#undef MMLA_STEP
#undef MMLA_STORE_PAIR
#undef MMLA_STORE
#undef MMLA_LOW
#undef MMLA_HIGH
#undef MMLA_PRODUCT
#endif
