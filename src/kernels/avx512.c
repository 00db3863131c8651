/* The AVX-512 tiers: products in tiles of 14 rows x 32 columns, 28 sums in registers. A step of any product takes 128
 * bytes of its panel, two registers: one k of f32, two of bf16, four of bytes.
 *   AVX-512       f32; bf16 widened and multiplied as f32, x is not rounded; bytes by vpmaddubsw, where pair_limit
 *                 keeps its i16 from overflowing: three instructions where vpmaddwd takes four
 *   AVX-512 VNNI  bytes by vpdpbusd          AVX-512 BF16  bf16 by vdpbf16ps, x rounded to bf16
 * Every number of rows has a function of its own, all of one text, so that a row's sums are the same bits whatever is
 * computed with it. What stands around the products is in avx512_rows.c. */
#include "kernels/avx512.h"

#if defined(__x86_64__)

#include <float.h>
#include <string.h>

#define AVX512_ROWS 14
#define AVX512_ROWS_S8 12 /* vpmaddubsw needs registers in between */
#define AVX512_COLS 32
#define AVX512_STEP_BYTES 128 /* of a panel */
#define AVX512_LINE 64

/* ---- products */

#define AVX512_ROWS_1(X) X(0)
#define AVX512_ROWS_2(X) AVX512_ROWS_1(X) X(1)
#define AVX512_ROWS_3(X) AVX512_ROWS_2(X) X(2)
#define AVX512_ROWS_4(X) AVX512_ROWS_3(X) X(3)
#define AVX512_ROWS_5(X) AVX512_ROWS_4(X) X(4)
#define AVX512_ROWS_6(X) AVX512_ROWS_5(X) X(5)
#define AVX512_ROWS_7(X) AVX512_ROWS_6(X) X(6)
#define AVX512_ROWS_8(X) AVX512_ROWS_7(X) X(7)
#define AVX512_ROWS_9(X) AVX512_ROWS_8(X) X(8)
#define AVX512_ROWS_10(X) AVX512_ROWS_9(X) X(9)
#define AVX512_ROWS_11(X) AVX512_ROWS_10(X) X(10)
#define AVX512_ROWS_12(X) AVX512_ROWS_11(X) X(11)
#define AVX512_ROWS_13(X) AVX512_ROWS_12(X) X(12)
#define AVX512_ROWS_14(X) AVX512_ROWS_13(X) X(13)

/* Fourteen places in x by two pointers and three strides: more would not fit in the general registers. */
#define AVX512_X_0 low
#define AVX512_X_1 low + stride
#define AVX512_X_2 low + 2 * stride
#define AVX512_X_3 low + stride3
#define AVX512_X_4 low + 4 * stride
#define AVX512_X_5 low + stride5
#define AVX512_X_6 low + 2 * stride3
#define AVX512_X_7 high
#define AVX512_X_8 high + stride
#define AVX512_X_9 high + 2 * stride
#define AVX512_X_10 high + stride3
#define AVX512_X_11 high + 4 * stride
#define AVX512_X_12 high + stride5
#define AVX512_X_13 high + 2 * stride3

#define AVX512_FETCH(address, hint) _mm_prefetch((const char *)(address), hint)

/* The compiler is to believe that a value is new: it must not make pointers or loops of its own out of it. */
#define AVX512_NEW(value) __asm__("" : "+r"(value));
#define AVX512_ADVANCE(bytes)                                                                                          \
  low += bytes;                                                                                                        \
  high += bytes;                                                                                                       \
  AVX512_NEW(low)                                                                                                      \
  AVX512_NEW(high)

/* Row i has sums of columns 0..15 and 16..31, a##i and b##i. */
#define AVX512_ZERO_F32(i) __m512 a##i = _mm512_setzero_ps(), b##i = a##i;
#define AVX512_ZERO_INT(i) __m512i a##i = _mm512_setzero_si512(), b##i = a##i;
#define AVX512_STORE_F32(i)                                                                                            \
  _mm512_store_ps((float *)sums + AVX512_COLS * (i), a##i);                                                            \
  _mm512_store_ps((float *)sums + AVX512_COLS * (i) + 16, b##i);
#define AVX512_STORE_INT(i)                                                                                            \
  _mm512_store_si512((int32_t *)sums + AVX512_COLS * (i), a##i);                                                       \
  _mm512_store_si512((int32_t *)sums + AVX512_COLS * (i) + 16, b##i);

#define AVX512_X_BYTES_F32 4 /* of a row of x in a step */
#define AVX512_FAR_F32 64
#define AVX512_ROW_F32(i)                                                                                              \
  {                                                                                                                    \
    __m512 number = _mm512_set1_ps(*(const float *)(const void *)(AVX512_X_##i));                                      \
    a##i = _mm512_fmadd_ps(number, w0, a##i);                                                                          \
    b##i = _mm512_fmadd_ps(number, w1, b##i);                                                                          \
  }
#define AVX512_STEP_F32(rows)                                                                                          \
  __m512 w0 = _mm512_load_ps((const float *)panel), w1 = _mm512_load_ps((const float *)panel + 16);                    \
  AVX512_ROWS_##rows(AVX512_ROW_F32)

/* The even k of a pair lie in the lower halves. */
#define AVX512_X_BYTES_WIDE 4 /* and as many between even and odd */
#define AVX512_FAR_WIDE 128
#define AVX512_STEP_WIDE(rows)                                                                                         \
  __m512 w0 = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_load_si512(panel), 16));                                    \
  __m512 w1 = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_load_si512(panel + 64), 16));                               \
  AVX512_ROWS_##rows(AVX512_ROW_F32) AVX512_ADVANCE(4) w0 =                                                            \
      _mm512_castsi512_ps(_mm512_maskz_loadu_epi16(0xaaaaaaaa, panel));                                                \
  w1 = _mm512_castsi512_ps(_mm512_maskz_loadu_epi16(0xaaaaaaaa, panel + 64));                                          \
  AVX512_ROWS_##rows(AVX512_ROW_F32)

#define AVX512_X_BYTES_BF16 4
#define AVX512_FAR_BF16 64
#define AVX512_ROW_BF16(i)                                                                                             \
  {                                                                                                                    \
    __m512bh pair = (__m512bh)avx512_broadcast(AVX512_X_##i);                                                          \
    a##i = _mm512_dpbf16_ps(a##i, pair, w0);                                                                           \
    b##i = _mm512_dpbf16_ps(b##i, pair, w1);                                                                           \
  }
#define AVX512_STEP_BF16(rows)                                                                                         \
  __m512bh w0 = (__m512bh)_mm512_load_si512(panel), w1 = (__m512bh)_mm512_load_si512(panel + 64);                      \
  AVX512_ROWS_##rows(AVX512_ROW_BF16)

#define AVX512_X_BYTES_VNNI 4
#define AVX512_FAR_VNNI 64
#define AVX512_ROW_VNNI(i)                                                                                             \
  {                                                                                                                    \
    __m512i four = avx512_broadcast(AVX512_X_##i);                                                                     \
    AVX512_DOT_U8(a##i, four, w0);                                                                                     \
    AVX512_DOT_U8(b##i, four, w1);                                                                                     \
  }
#define AVX512_STEP_VNNI(rows)                                                                                         \
  __m512i w0 = _mm512_load_si512(panel), w1 = _mm512_load_si512(panel + 64);                                           \
  AVX512_ROWS_##rows(AVX512_ROW_VNNI)

#define AVX512_X_BYTES_S8 4
#define AVX512_FAR_S8 128
#define AVX512_ROW_S8(i)                                                                                               \
  {                                                                                                                    \
    __m512i four = avx512_broadcast(AVX512_X_##i);                                                                     \
    AVX512_DOT_U8_BY_PAIRS(a##i, four, w0, ones);                                                                      \
    AVX512_DOT_U8_BY_PAIRS(b##i, four, w1, ones);                                                                      \
  }
#define AVX512_STEP_S8(rows)                                                                                           \
  __m512i w0 = _mm512_load_si512(panel), w1 = _mm512_load_si512(panel + 64);                                           \
  AVX512_ROWS_##rows(AVX512_ROW_S8)

AVX512_INLINE __m512i avx512_broadcast(const char *bytes) {
  int32_t four;
  memcpy(&four, bytes, sizeof four);
  return _mm512_set1_epi32(four);
}

typedef void avx512_tile(void *sums, const char *x, size_t stride, const char *panel, size_t steps, uintptr_t ahead,
                         size_t ahead_step, bool far);

#define AVX512_TILE(kind, sum, rows, code)                                                                             \
  static code void avx512_tile_##kind##_##rows(void *sums, const char *low, size_t stride, const char *panel,          \
                                               size_t steps, uintptr_t ahead, size_t ahead_step, bool far) {           \
    const char *high = low + ((rows) > 7 ? 7 : 0) * stride;                                                            \
    size_t stride3 = 3 * stride, stride5 = 5 * stride;                                                                 \
    const __m512i ones = _mm512_set1_epi16(1);                                                                         \
    (void)ones;                                                                                                        \
    AVX512_NEW(stride3)                                                                                                \
    AVX512_NEW(stride5)                                                                                                \
    AVX512_ROWS_##rows(AVX512_ZERO_##sum) do {                                                                         \
      if (far) {                                                                                                       \
        AVX512_FETCH(ahead, _MM_HINT_T1);                                                                              \
        AVX512_FETCH(ahead + AVX512_LINE, _MM_HINT_T1);                                                                \
      } else {                                                                                                         \
        AVX512_FETCH(ahead, _MM_HINT_T0);                                                                              \
        AVX512_FETCH(ahead + AVX512_LINE, _MM_HINT_T0);                                                                \
      }                                                                                                                \
      AVX512_NEW(far)                                                                                                  \
      AVX512_STEP_##kind(rows) panel += AVX512_STEP_BYTES;                                                             \
      ahead += ahead_step;                                                                                             \
      AVX512_ADVANCE(AVX512_X_BYTES_##kind)                                                                            \
    }                                                                                                                  \
    while (--steps > 0)                                                                                                \
      ;                                                                                                                \
    AVX512_ROWS_##rows(AVX512_STORE_##sum)                                                                             \
  }

#define AVX512_12_TILES(kind, sum, code)                                                                               \
  AVX512_TILE(kind, sum, 1, code)                                                                                      \
  AVX512_TILE(kind, sum, 2, code)                                                                                      \
  AVX512_TILE(kind, sum, 3, code)                                                                                      \
  AVX512_TILE(kind, sum, 4, code)                                                                                      \
  AVX512_TILE(kind, sum, 5, code)                                                                                      \
  AVX512_TILE(kind, sum, 6, code)                                                                                      \
  AVX512_TILE(kind, sum, 7, code)                                                                                      \
  AVX512_TILE(kind, sum, 8, code)                                                                                      \
  AVX512_TILE(kind, sum, 9, code)                                                                                      \
  AVX512_TILE(kind, sum, 10, code)                                                                                     \
  AVX512_TILE(kind, sum, 11, code)                                                                                     \
  AVX512_TILE(kind, sum, 12, code)
#define AVX512_14_TILES(kind, sum, code)                                                                               \
  AVX512_12_TILES(kind, sum, code)                                                                                     \
  AVX512_TILE(kind, sum, 13, code)                                                                                     \
  AVX512_TILE(kind, sum, 14, code)
#define AVX512_TABLE_12(kind)                                                                                          \
  avx512_tile_##kind##_1, avx512_tile_##kind##_2, avx512_tile_##kind##_3, avx512_tile_##kind##_4,                      \
      avx512_tile_##kind##_5, avx512_tile_##kind##_6, avx512_tile_##kind##_7, avx512_tile_##kind##_8,                  \
      avx512_tile_##kind##_9, avx512_tile_##kind##_10, avx512_tile_##kind##_11, avx512_tile_##kind##_12
#define AVX512_TABLE_14(kind) AVX512_TABLE_12(kind), avx512_tile_##kind##_13, avx512_tile_##kind##_14

/* A step fetches two lines at most. Where memory cannot keep up with the tile they go into the second cache only: the
 * few misses that the first one can wait for at a time are needed for the panel that is being read. That is so from one
 * tile or two on, as measured with AVX2. */
#define AVX512_PRODUCT(kind, sum, name, most_rows, k_of_a_step, code)                                                  \
  AVX512_##most_rows##_TILES(kind, sum, code) static void name(void *sums, const void *x, size_t x_stride,             \
                                                               size_t rows, const void *panel, size_t k,               \
                                                               const void *ahead, size_t ahead_bytes) {                \
    static avx512_tile *const tiles[most_rows] = {AVX512_TABLE_##most_rows(kind)};                                     \
    size_t steps = k / (k_of_a_step), ahead_step = (ahead_bytes + steps - 1) / steps;                                  \
    if (ahead_step > 2 * AVX512_LINE) ahead_step = 2 * AVX512_LINE;                                                    \
    tiles[rows - 1](sums, x, x_stride, panel, steps, (uintptr_t)ahead, ahead_step, ahead_step >= AVX512_FAR_##kind);   \
  }

AVX512_PRODUCT(F32, F32, avx512_product_f32, 14, 1, AVX512_CODE)
AVX512_PRODUCT(WIDE, F32, avx512_product_bf16_widened, 14, 2, AVX512_CODE)
AVX512_PRODUCT(S8, INT, avx512_product_s8, 12, 4, AVX512_CODE)
AVX512_PRODUCT(VNNI, INT, avx512_product_vnni, 14, 4, AVX512_VNNI_CODE)
AVX512_PRODUCT(BF16, F32, avx512_product_bf16, 14, 2, AVX512_BF16_CODE)

/* ---- inputs */

/* What a row's range is found from. */
struct avx512_range {
  __m512 low, high, poison; /* NaN as soon as anything is not finite */
};

AVX512_INLINE void avx512_widen(struct avx512_range *range, __m512 x) {
  range->low = _mm512_min_ps(x, range->low);
  range->high = _mm512_max_ps(x, range->high);
  range->poison = _mm512_fmadd_ps(x, _mm512_setzero_ps(), range->poison);
}

/* The range of a row, nought included, in n_levels steps; returns 1/scale, or 0 where there is no usable range. */
static AVX512_CODE float avx512_input_scale(struct clipc__row_scale *scale, const float *x, size_t k, int n_levels) {
  const __m512 zero = _mm512_setzero_ps();
  struct avx512_range even = {zero, zero, zero}, odd = even;
  size_t p = 0;
  for (; p + 32 <= k; p += 32) {
    avx512_widen(&even, _mm512_loadu_ps(x + p));
    avx512_widen(&odd, _mm512_loadu_ps(x + p + 16));
  }
  for (; p < k; p += 16) avx512_widen(&even, _mm512_maskz_loadu_ps(avx512_lanes(k - p), x + p));
  float low = _mm512_reduce_min_ps(_mm512_min_ps(even.low, odd.low));
  float high = _mm512_reduce_max_ps(_mm512_max_ps(even.high, odd.high));
  float poison = _mm512_reduce_add_ps(_mm512_add_ps(even.poison, odd.poison));
  float step = (high - low) / (float)n_levels;
  bool usable = step >= FLT_MIN && step <= FLT_MAX;
  float inverse = usable ? 1.0f / step : 0.0f;
  scale->scale = step + poison;
  scale->zero = usable ? _mm_cvtss_si32(_mm_set_ss(-low * inverse)) : 0; /* to nearest */
  return inverse;
}

/* Sixteen levels as i32, nought's included: rounded by adding them to 1.5 2^23, where a unit is the last bit. */
#define AVX512_ROUNDER 12582912.0f
AVX512_INLINE __m512i avx512_levels(__m512 x, float inverse, float zero) {
  __m512 sum = _mm512_fmadd_ps(x, _mm512_set1_ps(inverse), _mm512_set1_ps(AVX512_ROUNDER + zero));
  return _mm512_sub_epi32(_mm512_castps_si512(sum), _mm512_castps_si512(_mm512_set1_ps(AVX512_ROUNDER)));
}

/* n_levels is 255: packing saturates. */
static AVX512_CODE void avx512_prepare_u8(void *out, struct clipc__row_scale *scale, const float *x, size_t k,
                                          size_t k_padded, int n_levels) {
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  uint8_t *q = out;
  float inverse = avx512_input_scale(scale, x, k, n_levels), zero = (float)scale->zero;
  size_t p = 0;
  for (; p + 64 <= k; p += 64) {
    __m512i words0 = _mm512_packs_epi32(avx512_levels(_mm512_loadu_ps(x + p), inverse, zero),
                                        avx512_levels(_mm512_loadu_ps(x + p + 16), inverse, zero));
    __m512i words1 = _mm512_packs_epi32(avx512_levels(_mm512_loadu_ps(x + p + 32), inverse, zero),
                                        avx512_levels(_mm512_loadu_ps(x + p + 48), inverse, zero));
    _mm512_storeu_si512(q + p, _mm512_permutexvar_epi32(order, _mm512_packus_epi16(words0, words1)));
  }
  for (; p < k; p += 16) {
    __m512i levels = avx512_levels(_mm512_maskz_loadu_ps(avx512_lanes(k - p), x + p), inverse, zero);
    levels = _mm512_max_epi32(levels, _mm512_setzero_si512());
    _mm_mask_storeu_epi8(q + p, avx512_lanes(k - p), _mm512_cvtusepi32_epi8(levels));
  }
  memset(q + k, scale->zero, k_padded - k);
}

static AVX512_BF16_CODE void avx512_prepare_bf16(void *out, struct clipc__row_scale *scale, const float *x, size_t k,
                                                 size_t k_padded, int n_levels) {
  (void)scale, (void)n_levels;
  uint16_t *half = out;
  size_t p = 0;
  for (; p + 32 <= k; p += 32)
    _mm512_storeu_si512(half + p, (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(x + p + 16), _mm512_loadu_ps(x + p)));
  for (; p < k_padded; p += 16) {
    __m512 rest = _mm512_maskz_loadu_ps(p < k ? avx512_lanes(k - p) : 0, x + (p < k ? p : 0));
    _mm256_mask_storeu_epi16(half + p, avx512_lanes(k_padded - p), (__m256i)_mm512_cvtneps_pbh(rest));
  }
}

/* ---- peaks: 16 independent sums are enough for two units of six cycles */

#define AVX512_SIXTEEN(X) AVX512_ROWS_14(X) X(14) X(15)

#define AVX512_SUM_F32(i) __m512 a##i = _mm512_set1_ps((float)(i));
#define AVX512_PEAK_F32(i) a##i = _mm512_fmadd_ps(x, w, a##i);
#define AVX512_ADD_UP_F32(i) x = _mm512_add_ps(x, a##i);

static AVX512_CODE double avx512_peak_f32(size_t n_rounds) {
  volatile float start = 1.0f;
  __m512 x = _mm512_set1_ps(start), w = x;
  AVX512_SIXTEEN(AVX512_SUM_F32)
  for (size_t round = 0; round < n_rounds; round++) {
    AVX512_SIXTEEN(AVX512_PEAK_F32)
  }
  AVX512_SIXTEEN(AVX512_ADD_UP_F32)
  start = _mm512_cvtss_f32(x);
  return 16 * 16 * 2;
}

#define AVX512_PEAK_BF16(i) a##i = _mm512_dpbf16_ps(a##i, pairs, pairs);

static AVX512_BF16_CODE double avx512_peak_bf16(size_t n_rounds) {
  volatile float start = 1.0f;
  __m512 x = _mm512_set1_ps(start);
  __m512bh pairs = (__m512bh)_mm512_castps_si512(x);
  AVX512_SIXTEEN(AVX512_SUM_F32)
  for (size_t round = 0; round < n_rounds; round++) {
    AVX512_SIXTEEN(AVX512_PEAK_BF16)
  }
  AVX512_SIXTEEN(AVX512_ADD_UP_F32)
  start = _mm512_cvtss_f32(x);
  return 16 * 32 * 2;
}

#define AVX512_SUM_INT(i) __m512i a##i = _mm512_set1_epi32(i);
#define AVX512_PEAK_VNNI(i) AVX512_DOT_U8(a##i, x, w);
#define AVX512_ADD_UP_INT(i) x = _mm512_add_epi32(x, a##i);

static AVX512_VNNI_CODE double avx512_peak_vnni(size_t n_rounds) {
  volatile int start = 1;
  __m512i x = _mm512_set1_epi32(start), w = x;
  AVX512_SIXTEEN(AVX512_SUM_INT)
  for (size_t round = 0; round < n_rounds; round++) {
    AVX512_SIXTEEN(AVX512_PEAK_VNNI)
  }
  AVX512_SIXTEEN(AVX512_ADD_UP_INT)
  start = _mm_cvtsi128_si32(_mm512_castsi512_si128(x));
  return 16 * 64 * 2;
}

#define AVX512_PEAK_S8(i) AVX512_DOT_U8_BY_PAIRS(a##i, x, w, ones);

static AVX512_CODE double avx512_peak_s8(size_t n_rounds) {
  volatile int start = 1;
  __m512i x = _mm512_set1_epi32(start), w = x;
  const __m512i ones = _mm512_set1_epi16(1);
  AVX512_SIXTEEN(AVX512_SUM_INT)
  for (size_t round = 0; round < n_rounds; round++) {
    AVX512_SIXTEEN(AVX512_PEAK_S8)
  }
  AVX512_SIXTEEN(AVX512_ADD_UP_INT)
  start = _mm_cvtsi128_si32(_mm512_castsi512_si128(x));
  return 16 * 64 * 2;
}

/* ---- the table */

void clipc__kernels_avx512(struct clipc__kernels *kernels, unsigned cpu) {
  if (!(cpu & CLIPC__CPU_AVX512)) return;
  const struct clipc__gemm f32 = {.name = "avx512",
                                  .weights = CLIPC__F32,
                                  .input = CLIPC__F32,
                                  .tile_rows = AVX512_ROWS,
                                  .panel_cols = AVX512_COLS,
                                  .group = 1,
                                  .product = avx512_product_f32};
  struct clipc__gemm bf16 = f32, int8 = f32;
  bf16.weights = CLIPC__BF16;
  bf16.group = 2;
  bf16.product = avx512_product_bf16_widened;
  kernels->peak[CLIPC_PRECISION_F32] = kernels->peak[CLIPC_PRECISION_BF16] = avx512_peak_f32;
  if (cpu & CLIPC__CPU_AVX512_BF16) {
    bf16.name = "avx512-bf16";
    bf16.input = CLIPC__BF16;
    bf16.product = avx512_product_bf16;
    bf16.prepare = avx512_prepare_bf16;
    kernels->peak[CLIPC_PRECISION_BF16] = avx512_peak_bf16;
  }
  int8.weights = CLIPC__S8;
  int8.input = CLIPC__U8;
  int8.n_levels = 255;
  int8.group = 4;
  int8.prepare = avx512_prepare_u8;
  if (cpu & CLIPC__CPU_AVX512_VNNI) {
    int8.name = "avx512-vnni";
    int8.product = avx512_product_vnni;
    kernels->peak[CLIPC_PRECISION_INT8] = avx512_peak_vnni;
  } else {
    int8.tile_rows = AVX512_ROWS_S8;
    int8.pair_limit = 128;
    int8.product = avx512_product_s8;
    kernels->peak[CLIPC_PRECISION_INT8] = avx512_peak_s8;
  }
  kernels->gemm[CLIPC_PRECISION_F32] = kernels->small = f32;
  kernels->gemm[CLIPC_PRECISION_BF16] = bf16;
  kernels->gemm[CLIPC_PRECISION_INT8] = int8;
  clipc__kernels_avx512_rows(kernels);
}

#else

void clipc__kernels_avx512(struct clipc__kernels *kernels, unsigned cpu) { (void)kernels, (void)cpu; }

#endif
