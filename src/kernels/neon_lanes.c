/* Products by one lane of x at a time: f32 by fmla, bf16 weights widened to f32 for fmla, int8 by sdot.
 * A lane is 4 bytes of a row of x: one float, or four s8. So f32 and int8 are the same loop around another instruction:
 * 6 rows x 16 columns, 24 sums; 16 bytes of each row are loaded at a time, then 16 bytes of panel for every 6
 * instructions. Widening costs instructions by the column, so that tile is higher: 10 rows x 8 columns.
 * Every row count is a function of its own with the same sums in the same order. */
#include "kernels/neon.h"

#if CLIPC__HAS_NEON
#include <string.h>

#define LANES_FMLA(sum, w, x, lane) __asm__ volatile("fmla %0.4s, %1.4s, %2.s[" #lane "]" : "+w"(sum) : "w"(w), "w"(x));
#define LANES_SDOT(sum, w, x, lane)                                                                                    \
  __asm__ volatile("sdot %0.4s, %1.16b, %2.4b[" #lane "]" : "+w"(sum) : "w"(w), "w"(x));

/* ---- 16 columns of 4 bytes */

#define LANES_ROWS 6
#define LANES_COLS 16

#define LANES_START(i, _)                                                                                              \
  const uint8_t *x##i = (const uint8_t *)input + i * x_stride;                                                         \
  uint8x16_t a##i, s##i##0 = zero, s##i##1 = zero, s##i##2 = zero, s##i##3 = zero;
#define LANES_LOAD(i, _)                                                                                               \
  a##i = vld1q_u8(x##i);                                                                                               \
  x##i += 16;
#define LANES_LOAD_ONE(i, _)                                                                                           \
  memcpy(&four_bytes, x##i, 4);                                                                                        \
  a##i = vreinterpretq_u8_u32(vdupq_n_u32(four_bytes));                                                                \
  x##i += 4;
#define LANES_MADD(i, MADD, w, lane, c) MADD(s##i##c, w, a##i, lane)
#define LANES_STEP(EACH, MADD, lane)                                                                                   \
  v = vld1q_u8(panel + lane * 64);                                                                                     \
  w = vld1q_u8(panel + lane * 64 + 16);                                                                                \
  NEON_IN_ORDER;                                                                                                       \
  EACH(LANES_MADD, MADD, v, lane, 0)                                                                                   \
  v = vld1q_u8(panel + lane * 64 + 32);                                                                                \
  NEON_IN_ORDER;                                                                                                       \
  EACH(LANES_MADD, MADD, w, lane, 1)                                                                                   \
  w = vld1q_u8(panel + lane * 64 + 48);                                                                                \
  NEON_IN_ORDER;                                                                                                       \
  EACH(LANES_MADD, MADD, v, lane, 2)                                                                                   \
  EACH(LANES_MADD, MADD, w, lane, 3)                                                                                   \
  NEON_IN_ORDER;
#define LANES_STORE(i, _)                                                                                              \
  vst1q_u8(sums + i * 64, s##i##0);                                                                                    \
  vst1q_u8(sums + i * 64 + 16, s##i##1);                                                                               \
  vst1q_u8(sums + i * 64 + 32, s##i##2);                                                                               \
  vst1q_u8(sums + i * 64 + 48, s##i##3);

#define LANES_PRODUCT(name, TARGET, MADD, EACH)                                                                        \
  TARGET static void name(uint8_t *sums, const void *input, size_t x_stride, const uint8_t *panel, size_t k_bytes,     \
                          const void *wanted, size_t wanted_bytes) {                                                   \
    struct neon_ahead ahead = neon_ahead_start(wanted, wanted_bytes, k_bytes / 16);                                    \
    const uint8x16_t zero = vdupq_n_u8(0);                                                                             \
    uint8x16_t v, w;                                                                                                   \
    uint32_t four_bytes;                                                                                               \
    EACH(LANES_START, _)                                                                                               \
    for (; k_bytes >= 16; k_bytes -= 16, panel += 256) {                                                               \
      EACH(LANES_LOAD, _)                                                                                              \
      LANES_STEP(EACH, MADD, 0)                                                                                        \
      LANES_STEP(EACH, MADD, 1)                                                                                        \
      LANES_STEP(EACH, MADD, 2)                                                                                        \
      LANES_STEP(EACH, MADD, 3)                                                                                        \
      neon_ahead_step(&ahead);                                                                                         \
    }                                                                                                                  \
    for (; k_bytes != 0; k_bytes -= 4, panel += 64) {                                                                  \
      EACH(LANES_LOAD_ONE, _)                                                                                          \
      LANES_STEP(EACH, MADD, 0)                                                                                        \
    }                                                                                                                  \
    EACH(LANES_STORE, _)                                                                                               \
  }

LANES_PRODUCT(lanes_f32_1_neon, NEON_BASE, LANES_FMLA, NEON_EACH_1)
LANES_PRODUCT(lanes_f32_2_neon, NEON_BASE, LANES_FMLA, NEON_EACH_2)
LANES_PRODUCT(lanes_f32_3_neon, NEON_BASE, LANES_FMLA, NEON_EACH_3)
LANES_PRODUCT(lanes_f32_4_neon, NEON_BASE, LANES_FMLA, NEON_EACH_4)
LANES_PRODUCT(lanes_f32_5_neon, NEON_BASE, LANES_FMLA, NEON_EACH_5)
LANES_PRODUCT(lanes_f32_6_neon, NEON_BASE, LANES_FMLA, NEON_EACH_6)
LANES_PRODUCT(lanes_s8_1_dotprod, NEON_DOTPROD, LANES_SDOT, NEON_EACH_1)
LANES_PRODUCT(lanes_s8_2_dotprod, NEON_DOTPROD, LANES_SDOT, NEON_EACH_2)
LANES_PRODUCT(lanes_s8_3_dotprod, NEON_DOTPROD, LANES_SDOT, NEON_EACH_3)
LANES_PRODUCT(lanes_s8_4_dotprod, NEON_DOTPROD, LANES_SDOT, NEON_EACH_4)
LANES_PRODUCT(lanes_s8_5_dotprod, NEON_DOTPROD, LANES_SDOT, NEON_EACH_5)
LANES_PRODUCT(lanes_s8_6_dotprod, NEON_DOTPROD, LANES_SDOT, NEON_EACH_6)

/* ---- 8 columns of bf16, widened to 4 bytes */

#define LANES_WIDE_ROWS 10
#define LANES_WIDE_COLS 8

#define LANES_WIDE_START(i, _)                                                                                         \
  const uint8_t *x##i = (const uint8_t *)input + i * x_stride;                                                         \
  uint8x16_t a##i, s##i##0 = zero, s##i##1 = zero;
#define LANES_WIDE_STEP(EACH, lane)                                                                                    \
  w = vld1q_u8(panel + lane * 16);                                                                                     \
  NEON_IN_ORDER;                                                                                                       \
  __asm__ volatile("shll %0.4s, %1.4h, #16" : "=w"(v) : "w"(w));                                                       \
  __asm__ volatile("shll2 %0.4s, %1.8h, #16" : "=w"(w) : "w"(w));                                                      \
  EACH(LANES_MADD, LANES_FMLA, v, lane, 0)                                                                             \
  EACH(LANES_MADD, LANES_FMLA, w, lane, 1)                                                                             \
  NEON_IN_ORDER;
#define LANES_WIDE_STORE(i, _)                                                                                         \
  vst1q_u8(sums + i * 32, s##i##0);                                                                                    \
  vst1q_u8(sums + i * 32 + 16, s##i##1);

#define LANES_WIDE_PRODUCT(name, EACH)                                                                                 \
  static void name(uint8_t *sums, const void *input, size_t x_stride, const uint8_t *panel, size_t k_bytes,            \
                   const void *wanted, size_t wanted_bytes) {                                                          \
    struct neon_ahead ahead = neon_ahead_start(wanted, wanted_bytes, k_bytes / 16);                                    \
    const uint8x16_t zero = vdupq_n_u8(0);                                                                             \
    uint8x16_t v, w;                                                                                                   \
    uint32_t four_bytes;                                                                                               \
    EACH(LANES_WIDE_START, _)                                                                                          \
    for (; k_bytes >= 16; k_bytes -= 16, panel += 64) {                                                                \
      EACH(LANES_LOAD, _)                                                                                              \
      LANES_WIDE_STEP(EACH, 0)                                                                                         \
      LANES_WIDE_STEP(EACH, 1)                                                                                         \
      LANES_WIDE_STEP(EACH, 2)                                                                                         \
      LANES_WIDE_STEP(EACH, 3)                                                                                         \
      neon_ahead_step(&ahead);                                                                                         \
    }                                                                                                                  \
    for (; k_bytes != 0; k_bytes -= 4, panel += 16) {                                                                  \
      EACH(LANES_LOAD_ONE, _)                                                                                          \
      LANES_WIDE_STEP(EACH, 0)                                                                                         \
    }                                                                                                                  \
    EACH(LANES_WIDE_STORE, _)                                                                                          \
  }

LANES_WIDE_PRODUCT(lanes_bf16_1_neon, NEON_EACH_1)
LANES_WIDE_PRODUCT(lanes_bf16_2_neon, NEON_EACH_2)
LANES_WIDE_PRODUCT(lanes_bf16_3_neon, NEON_EACH_3)
LANES_WIDE_PRODUCT(lanes_bf16_4_neon, NEON_EACH_4)
LANES_WIDE_PRODUCT(lanes_bf16_5_neon, NEON_EACH_5)
LANES_WIDE_PRODUCT(lanes_bf16_6_neon, NEON_EACH_6)
LANES_WIDE_PRODUCT(lanes_bf16_7_neon, NEON_EACH_7)
LANES_WIDE_PRODUCT(lanes_bf16_8_neon, NEON_EACH_8)
LANES_WIDE_PRODUCT(lanes_bf16_9_neon, NEON_EACH_9)
LANES_WIDE_PRODUCT(lanes_bf16_10_neon, NEON_EACH_10)

/* ---- by the number of rows */

typedef void lanes_product(uint8_t *sums, const void *input, size_t x_stride, const uint8_t *panel, size_t k_bytes,
                           const void *wanted, size_t wanted_bytes);

static void product_f32_neon(void *sums, const void *x, size_t x_stride, size_t rows, const void *panel, size_t k,
                             const void *ahead, size_t ahead_bytes) {
  static lanes_product *const by_rows[LANES_ROWS] = {lanes_f32_1_neon, lanes_f32_2_neon, lanes_f32_3_neon,
                                                     lanes_f32_4_neon, lanes_f32_5_neon, lanes_f32_6_neon};
  by_rows[rows - 1](sums, x, x_stride, panel, 4 * k, ahead, ahead_bytes);
}

static void product_s8_dotprod(void *sums, const void *x, size_t x_stride, size_t rows, const void *panel, size_t k,
                               const void *ahead, size_t ahead_bytes) {
  static lanes_product *const by_rows[LANES_ROWS] = {lanes_s8_1_dotprod, lanes_s8_2_dotprod, lanes_s8_3_dotprod,
                                                     lanes_s8_4_dotprod, lanes_s8_5_dotprod, lanes_s8_6_dotprod};
  by_rows[rows - 1](sums, x, x_stride, panel, k, ahead, ahead_bytes);
}

static void product_bf16_neon(void *sums, const void *x, size_t x_stride, size_t rows, const void *panel, size_t k,
                              const void *ahead, size_t ahead_bytes) {
  static lanes_product *const by_rows[LANES_WIDE_ROWS] = {
      lanes_bf16_1_neon, lanes_bf16_2_neon, lanes_bf16_3_neon, lanes_bf16_4_neon, lanes_bf16_5_neon,
      lanes_bf16_6_neon, lanes_bf16_7_neon, lanes_bf16_8_neon, lanes_bf16_9_neon, lanes_bf16_10_neon};
  by_rows[rows - 1](sums, x, x_stride, panel, 4 * k, ahead, ahead_bytes);
}

/* ---- peaks */

NEON_PEAK(peak_f32_neon, NEON_BASE, LANES_FMLA, 8)
NEON_PEAK(peak_s8_dotprod, NEON_DOTPROD, LANES_SDOT, 32)

void clipc__neon_lanes(struct clipc__kernels *kernels, unsigned cpu) {
  const struct clipc__gemm f32 = {.name = "neon",
                                  .weights = CLIPC__F32,
                                  .input = CLIPC__F32,
                                  .tile_rows = LANES_ROWS,
                                  .panel_cols = LANES_COLS,
                                  .group = 1,
                                  .product = product_f32_neon};
  kernels->gemm[CLIPC_PRECISION_F32] = kernels->small = f32;
  kernels->gemm[CLIPC_PRECISION_BF16] = (struct clipc__gemm){.name = "neon",
                                                             .weights = CLIPC__BF16,
                                                             .input = CLIPC__F32,
                                                             .tile_rows = LANES_WIDE_ROWS,
                                                             .panel_cols = LANES_WIDE_COLS,
                                                             .group = 1,
                                                             .product = product_bf16_neon};
  kernels->peak[CLIPC_PRECISION_F32] = kernels->peak[CLIPC_PRECISION_BF16] = peak_f32_neon;
  if (!(cpu & CLIPC__CPU_DOTPROD)) return;
  kernels->gemm[CLIPC_PRECISION_INT8] = (struct clipc__gemm){.name = "dotprod",
                                                             .weights = CLIPC__S8,
                                                             .input = CLIPC__S8,
                                                             .n_levels = 255,
                                                             .tile_rows = LANES_ROWS,
                                                             .panel_cols = LANES_COLS,
                                                             .group = 4,
                                                             .product = product_s8_dotprod,
                                                             .prepare = clipc__neon_prepare_s8};
  kernels->peak[CLIPC_PRECISION_INT8] = peak_s8_dotprod;
}

#undef LANES_FMLA
#undef LANES_SDOT
#undef LANES_ROWS
#undef LANES_COLS
#undef LANES_START
#undef LANES_LOAD
#undef LANES_LOAD_ONE
#undef LANES_MADD
#undef LANES_COL
#undef LANES_STEP
#undef LANES_STORE
#undef LANES_PRODUCT
#undef LANES_WIDE_ROWS
#undef LANES_WIDE_COLS
#undef LANES_WIDE_START
#undef LANES_WIDE_STEP
#undef LANES_WIDE_STORE
#undef LANES_WIDE_PRODUCT
#endif
