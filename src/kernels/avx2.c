/* The AVX2 tier (with FMA): products in tiles of 6 rows x 16 columns, 12 sums in registers, and AVX-VNNI for bytes.
 * A step of any product takes 64 bytes of its panel: one k of f32, two of bf16, four of bytes. bf16 weights are widened
 * and multiplied as f32, x is not rounded. Bytes without VNNI go by vpmaddubsw, twice as fast as vpmaddwd here: its i16
 * cannot overflow because of pair_limit. Rows are many variants of one text, so that a row's sums are the same bits
 * whatever is computed with it. What stands around the products is in avx2_rows.c. */
#include "kernels/kernels.h"

#if defined(__x86_64__)

#include <float.h>
#include <immintrin.h>
#include <string.h>

#define AVX2_CODE __attribute__((target("avx2,fma")))
#if (defined(__clang__) && __clang_major__ >= 12) || (!defined(__clang__) && __GNUC__ >= 11)
#define AVX2_HAS_VNNI
#define AVX2_VNNI_CODE __attribute__((target("avx2,fma,avxvnni")))
#endif

#define AVX2_ROWS 6
#define AVX2_COLS 16
#define AVX2_LINE 64 /* bytes of a panel in a step, and of a cache line */

/* ---- products */

#define AVX2_ROWS_1(X) X(0)
#define AVX2_ROWS_2(X) AVX2_ROWS_1(X) X(1)
#define AVX2_ROWS_3(X) AVX2_ROWS_2(X) X(2)
#define AVX2_ROWS_4(X) AVX2_ROWS_3(X) X(3)
#define AVX2_ROWS_5(X) AVX2_ROWS_4(X) X(4)
#define AVX2_ROWS_6(X) AVX2_ROWS_5(X) X(5)

/* Row i has its place in x, x##i, and its sums of columns 0..7 and 8..15, a##i and b##i. */
#define AVX2_ZERO_F32(i)                                                                                               \
  const char *x##i = x + x_stride * (i);                                                                               \
  __m256 a##i = _mm256_setzero_ps(), b##i = a##i;
#define AVX2_ZERO_INT(i)                                                                                               \
  const char *x##i = x + x_stride * (i);                                                                               \
  __m256i a##i = _mm256_setzero_si256(), b##i = a##i;
#define AVX2_STORE_F32(i)                                                                                              \
  _mm256_store_ps((float *)sums + AVX2_COLS * (i), a##i);                                                              \
  _mm256_store_ps((float *)sums + AVX2_COLS * (i) + 8, b##i);
#define AVX2_STORE_INT(i)                                                                                              \
  _mm256_store_si256((__m256i *)sums + 2 * (i), a##i);                                                                 \
  _mm256_store_si256((__m256i *)sums + 2 * (i) + 1, b##i);

/* The empty assembly ends one row before the next begins: gcc 12 would fetch so much ahead that sums go to memory. */
#define AVX2_MULTIPLY_F32(i, at)                                                                                       \
  {                                                                                                                    \
    __m256 number = _mm256_broadcast_ss((const float *)(const void *)(x##i + (at)));                                   \
    a##i = _mm256_fmadd_ps(number, w0, a##i);                                                                          \
    b##i = _mm256_fmadd_ps(number, w1, b##i);                                                                          \
    __asm__ volatile("" : "+x"(a##i), "+x"(b##i));                                                                     \
  }

#define AVX2_X_F32 4 /* bytes of x in a step */
#define AVX2_ROW_F32(i) AVX2_MULTIPLY_F32(i, at)
#define AVX2_STEP_F32(rows)                                                                                            \
  __m256 w0 = _mm256_load_ps((const float *)panel), w1 = _mm256_load_ps((const float *)panel + 8);                     \
  AVX2_ROWS_##rows(AVX2_ROW_F32);

/* The even k of a pair lie in the lower halves. */
#define AVX2_X_BF16 8
#define AVX2_ROW_EVEN(i) AVX2_MULTIPLY_F32(i, at)
#define AVX2_ROW_ODD(i) AVX2_MULTIPLY_F32(i, at + 4)
#define AVX2_PAIRS(i) _mm256_load_si256((const __m256i *)panel + (i))
#define AVX2_STEP_BF16(rows)                                                                                           \
  __m256 w0 = _mm256_castsi256_ps(_mm256_slli_epi32(AVX2_PAIRS(0), 16));                                               \
  __m256 w1 = _mm256_castsi256_ps(_mm256_slli_epi32(AVX2_PAIRS(1), 16));                                               \
  AVX2_ROWS_##rows(AVX2_ROW_EVEN);                                                                                     \
  w0 = _mm256_castsi256_ps(_mm256_and_si256(AVX2_PAIRS(0), upper_half));                                               \
  w1 = _mm256_castsi256_ps(_mm256_and_si256(AVX2_PAIRS(1), upper_half));                                               \
  AVX2_ROWS_##rows(AVX2_ROW_ODD);

/* In assembly, because gcc 12 and clang 14 keep a sum in memory here, at a third of the speed: 12 sums, the ones, one
 * vector of weights and two products are all the registers that there are. */
#define AVX2_X_S8 4
#define AVX2_ROW_S8(i)                                                                                                 \
  {                                                                                                                    \
    __m256i product0, product1;                                                                                        \
    __asm__("vpbroadcastd %[four], %[p1]\n\t"                                                                          \
            "vpmaddubsw %[w0], %[p1], %[p0]\n\t"                                                                       \
            "vpmaddubsw %[w1], %[p1], %[p1]\n\t"                                                                       \
            "vpmaddwd %[ones], %[p0], %[p0]\n\t"                                                                       \
            "vpmaddwd %[ones], %[p1], %[p1]\n\t"                                                                       \
            "vpaddd %[p0], %[a], %[a]\n\t"                                                                             \
            "vpaddd %[p1], %[b], %[b]"                                                                                 \
            : [a] "+x"(a##i), [b] "+x"(b##i), [p0] "=&x"(product0), [p1] "=&x"(product1)                               \
            : [four] "m"(*(const char(*)[4])(x##i + at)), [w0] "x"(w0), [w1] "m"(*(const __m256i *)(panel + 32)),      \
              [ones] "x"(ones));                                                                                       \
  }
#define AVX2_STEP_S8(rows)                                                                                             \
  __m256i w0 = _mm256_load_si256((const __m256i *)panel);                                                              \
  AVX2_ROWS_##rows(AVX2_ROW_S8);

#define AVX2_X_VNNI 4
#define AVX2_ROW_VNNI(i)                                                                                               \
  {                                                                                                                    \
    __m256i four = avx2_broadcast_four(x##i + at);                                                                     \
    a##i = _mm256_dpbusd_avx_epi32(a##i, four, w0);                                                                    \
    b##i = _mm256_dpbusd_avx_epi32(b##i, four, w1);                                                                    \
  }
#define AVX2_STEP_VNNI(rows)                                                                                           \
  __m256i w0 = _mm256_load_si256((const __m256i *)panel), w1 = _mm256_load_si256((const __m256i *)panel + 1);          \
  AVX2_ROWS_##rows(AVX2_ROW_VNNI);

static inline AVX2_CODE __m256i avx2_broadcast_four(const void *bytes) {
  int32_t four;
  memcpy(&four, bytes, sizeof four);
  return _mm256_set1_epi32(four);
}

#define AVX2_TILE(kind, sum, rows, code)                                                                               \
  static code void avx2_tile_##kind##_##rows(void *sums, const char *x, size_t x_stride, const char *panel,            \
                                             size_t steps, uintptr_t ahead, size_t ahead_step, bool far) {             \
    const __m256i upper_half = _mm256_set1_epi32((int)0xffff0000), ones = _mm256_set1_epi16(1);                        \
    (void)upper_half, (void)ones;                                                                                      \
    AVX2_ROWS_##rows(AVX2_ZERO_##sum);                                                                                 \
    for (size_t at = 0; at < steps * AVX2_X_##kind; at += AVX2_X_##kind) {                                             \
      if (far)                                                                                                         \
        _mm_prefetch((const char *)ahead, _MM_HINT_T1);                                                                \
      else                                                                                                             \
        _mm_prefetch((const char *)ahead, _MM_HINT_T0);                                                                \
      AVX2_STEP_##kind(rows);                                                                                          \
      panel += AVX2_LINE;                                                                                              \
      ahead += ahead_step;                                                                                             \
    }                                                                                                                  \
    AVX2_ROWS_##rows(AVX2_STORE_##sum);                                                                                \
  }

/* One prefetch a step, of a line at most. Where memory cannot keep up with the tile it goes into the second cache only:
 * the few misses that the first one can wait for at a time are needed for the panel that is being read. From so many
 * bytes a step on that is faster (measured on Zen 4; up to 1.6 times). */
#define AVX2_FAR_F32 32
#define AVX2_FAR_BF16 64
#define AVX2_FAR_S8 65
#define AVX2_FAR_VNNI 65

#define AVX2_PRODUCT(kind, sum, name, k_of_a_step, code)                                                               \
  AVX2_TILE(kind, sum, 1, code)                                                                                        \
  AVX2_TILE(kind, sum, 2, code)                                                                                        \
  AVX2_TILE(kind, sum, 3, code)                                                                                        \
  AVX2_TILE(kind, sum, 4, code)                                                                                        \
  AVX2_TILE(kind, sum, 5, code)                                                                                        \
  AVX2_TILE(kind, sum, 6, code)                                                                                        \
  static code void name(void *sums, const void *x, size_t x_stride, size_t rows, const void *panel, size_t k,          \
                        const void *ahead, size_t ahead_bytes) {                                                       \
    static void (*const tiles[AVX2_ROWS])(void *, const char *, size_t, const char *, size_t, uintptr_t, size_t,       \
                                          bool) = {avx2_tile_##kind##_1, avx2_tile_##kind##_2, avx2_tile_##kind##_3,   \
                                                   avx2_tile_##kind##_4, avx2_tile_##kind##_5, avx2_tile_##kind##_6};  \
    size_t steps = k / (k_of_a_step), ahead_step = (ahead_bytes + steps - 1) / steps;                                  \
    if (ahead_step > AVX2_LINE) ahead_step = AVX2_LINE;                                                                \
    tiles[rows - 1](sums, x, x_stride, panel, steps, (uintptr_t)ahead, ahead_step, ahead_step >= AVX2_FAR_##kind);     \
  }

AVX2_PRODUCT(F32, F32, avx2_product_f32, 1, AVX2_CODE)
AVX2_PRODUCT(BF16, F32, avx2_product_bf16, 2, AVX2_CODE)
AVX2_PRODUCT(S8, INT, avx2_product_s8, 4, AVX2_CODE)
#ifdef AVX2_HAS_VNNI
AVX2_PRODUCT(VNNI, INT, avx2_product_vnni, 4, AVX2_VNNI_CODE)
#endif

/* ---- inputs */

static AVX2_CODE float avx2_lowest(__m256 x) {
  __m128 low = _mm_min_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  low = _mm_min_ps(low, _mm_movehl_ps(low, low));
  return _mm_cvtss_f32(_mm_min_ss(low, _mm_movehdup_ps(low)));
}

/* The range of a row, nought included, in n_levels steps; returns 1/scale, or 0 where there is no usable range. */
static AVX2_CODE float avx2_input_scale(struct clipc__row_scale *scale, const float *x, size_t k, int n_levels) {
  const __m256 zero = _mm256_setzero_ps();
  __m256 low8 = zero, minus_high8 = zero, poison8 = zero; /* NaN as soon as anything is not finite */
  size_t p = 0;
  for (; p + 8 <= k; p += 8) {
    __m256 v = _mm256_loadu_ps(x + p), minus = _mm256_sub_ps(zero, v);
    low8 = _mm256_min_ps(v, low8); /* the second one if there is a NaN */
    minus_high8 = _mm256_min_ps(minus, minus_high8);
    poison8 = _mm256_add_ps(poison8, _mm256_mul_ps(v, zero));
  }
  float low = avx2_lowest(low8), high = -avx2_lowest(minus_high8), poison = 0.0f;
  float poisons[8];
  _mm256_storeu_ps(poisons, poison8);
  for (int i = 0; i < 8; i++) poison += poisons[i];
  for (; p < k; p++) {
    low = x[p] < low ? x[p] : low;
    high = x[p] > high ? x[p] : high;
    poison += 0.0f * x[p];
  }
  float step = (high - low) / (float)n_levels;
  bool usable = step >= FLT_MIN && step <= FLT_MAX;
  float inverse = usable ? 1.0f / step : 0.0f;
  scale->scale = step + poison;
  scale->zero = usable ? _mm_cvtss_si32(_mm_set_ss(-low * inverse)) : 0; /* to nearest */
  return inverse;
}

static AVX2_CODE void avx2_prepare_u8(void *out, struct clipc__row_scale *scale, const float *x, size_t k,
                                      size_t k_padded, int n_levels) {
  uint8_t *q = out;
  float inverse = avx2_input_scale(scale, x, k, n_levels);
  const __m256 factor = _mm256_set1_ps(inverse), zero = _mm256_set1_ps((float)scale->zero);
  const __m256 lowest = _mm256_setzero_ps(), highest = _mm256_set1_ps((float)n_levels);
  for (size_t p = 0; p < k; p += 8) {
    float rest[8] = {0};
    if (p + 8 > k) memcpy(rest, x + p, (k - p) * sizeof *x);
    __m256 v = _mm256_mul_ps(_mm256_loadu_ps(p + 8 > k ? rest : x + p), factor);
    v = _mm256_add_ps(_mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), zero);
    v = _mm256_min_ps(_mm256_max_ps(v, lowest), highest); /* NaN becomes lowest */
    __m256i whole = _mm256_cvtps_epi32(v);
    __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
    __m128i bytes = _mm_packus_epi16(words, words);
    if (p + 8 <= k)
      _mm_storel_epi64((__m128i *)(void *)(q + p), bytes);
    else
      memcpy(q + p, &bytes, k - p);
  }
  memset(q + k, scale->zero, k_padded - k);
}

/* ---- peaks: 12 independent sums, as in a tile of 6 rows */

#define AVX2_TWELVE(X) AVX2_ROWS_6(X) X(6) X(7) X(8) X(9) X(10) X(11)

#define AVX2_SUM_F32(i) __m256 a##i = _mm256_set1_ps((float)(i));
#define AVX2_PEAK_F32(i) a##i = _mm256_fmadd_ps(x, w, a##i);
#define AVX2_ADD_UP_F32(i) x = _mm256_add_ps(x, a##i);

static AVX2_CODE double avx2_peak_f32(size_t n_rounds) {
  volatile float start = 1.0f;
  __m256 x = _mm256_set1_ps(start), w = x;
  AVX2_TWELVE(AVX2_SUM_F32)
  for (size_t round = 0; round < n_rounds; round++) {
    AVX2_TWELVE(AVX2_PEAK_F32)
  }
  AVX2_TWELVE(AVX2_ADD_UP_F32)
  start = _mm256_cvtss_f32(x);
  return 12 * 8 * 2;
}

/* In assembly, so that the compiler believes that every product is another one. */
#define AVX2_SUM_INT(i) __m256i a##i = _mm256_set1_epi32(i);
#define AVX2_PEAK_S8(i)                                                                                                \
  __asm__ volatile("vpmaddubsw %[w], %[x], %[product]\n\t"                                                             \
                   "vpmaddwd %[ones], %[product], %[product]\n\t"                                                      \
                   "vpaddd %[product], %[sum], %[sum]"                                                                 \
                   : [sum] "+x"(a##i), [product] "=&x"(product)                                                        \
                   : [x] "x"(x), [w] "x"(w), [ones] "x"(ones));
#define AVX2_PEAK_VNNI(i) a##i = _mm256_dpbusd_avx_epi32(a##i, x, w);
#define AVX2_ADD_UP_INT(i) x = _mm256_add_epi32(x, a##i);

static AVX2_CODE double avx2_peak_s8(size_t n_rounds) {
  volatile int start = 1;
  __m256i x = _mm256_set1_epi32(start), w = x, product;
  const __m256i ones = _mm256_set1_epi16(1);
  AVX2_TWELVE(AVX2_SUM_INT)
  for (size_t round = 0; round < n_rounds; round++) {
    AVX2_TWELVE(AVX2_PEAK_S8)
  }
  AVX2_TWELVE(AVX2_ADD_UP_INT)
  start = _mm256_extract_epi32(x, 0);
  return 12 * 32 * 2;
}

#ifdef AVX2_HAS_VNNI
static AVX2_VNNI_CODE double avx2_peak_vnni(size_t n_rounds) {
  volatile int start = 1;
  __m256i x = _mm256_set1_epi32(start), w = x;
  AVX2_TWELVE(AVX2_SUM_INT)
  for (size_t round = 0; round < n_rounds; round++) {
    AVX2_TWELVE(AVX2_PEAK_VNNI)
  }
  AVX2_TWELVE(AVX2_ADD_UP_INT)
  start = _mm256_extract_epi32(x, 0);
  return 12 * 32 * 2;
}
#endif

/* ---- the table */

void clipc__kernels_avx2(struct clipc__kernels *kernels, unsigned cpu) {
  if (!(cpu & CLIPC__CPU_AVX2)) return;
  const struct clipc__gemm f32 = {.name = "avx2",
                                  .weights = CLIPC__F32,
                                  .input = CLIPC__F32,
                                  .tile_rows = AVX2_ROWS,
                                  .panel_cols = AVX2_COLS,
                                  .group = 1,
                                  .product = avx2_product_f32};
  struct clipc__gemm bf16 = f32, int8 = f32;
  bf16.weights = CLIPC__BF16;
  bf16.group = 2;
  bf16.product = avx2_product_bf16;
  int8.weights = CLIPC__S8;
  int8.input = CLIPC__U8;
  int8.n_levels = 255;
  int8.group = 4;
  int8.pair_limit = 128;
  int8.product = avx2_product_s8;
  int8.prepare = avx2_prepare_u8;
  kernels->gemm[CLIPC_PRECISION_F32] = kernels->small = f32;
  kernels->gemm[CLIPC_PRECISION_BF16] = bf16;
  kernels->peak[CLIPC_PRECISION_F32] = kernels->peak[CLIPC_PRECISION_BF16] = avx2_peak_f32;
  kernels->peak[CLIPC_PRECISION_INT8] = avx2_peak_s8;
#ifdef AVX2_HAS_VNNI
  if (cpu & CLIPC__CPU_AVX_VNNI) {
    int8.name = "avx-vnni";
    int8.pair_limit = 0;
    int8.product = avx2_product_vnni;
    kernels->peak[CLIPC_PRECISION_INT8] = avx2_peak_vnni;
  }
#endif
  kernels->gemm[CLIPC_PRECISION_INT8] = int8;
  clipc__kernels_avx2_rows(kernels);
}

#else

void clipc__kernels_avx2(struct clipc__kernels *kernels, unsigned cpu) { (void)kernels, (void)cpu; }

#endif
