/* The kernels of pictures for AVX2; contracts in pixels.h, the same bits as pixels_ref.c.
 * Sums of 8 by 22 bit products are two sums of 8 by 16 bit products, which one instruction adds in pairs. Blocks of
 * the inverse DCT go in pairs, one in each half of the registers. */
#include "kernels/pixels.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#define PIXELS_AVX2 __attribute__((target("avx2")))
#define PIXELS_AVX2_INLINE static inline __attribute__((target("avx2"), always_inline))

/* For what is too small for vectors. */
static struct clipc__pixel_kernels pixels_plain_avx2(void) {
  struct clipc__pixel_kernels plain;
  clipc__pixel_kernels_init(&plain, 0);
  return plain;
}

/* ---- resizing */

/* Four weights, for the four pairs of words of each half. */
PIXELS_AVX2_INLINE __m256i resize_weights_avx2(const int16_t *weights) {
  int64_t four;
  memcpy(&four, weights, sizeof four);
  return _mm256_set1_epi64x(four);
}

/* Words of four pixels of three bands from the first twelve bytes of a load: red, green | blue, nothing; or of four
 * bands. A number added to the order takes bytes further on; NIL stays nothing. */
PIXELS_AVX2_INLINE __m256i resize_order_avx2(int n_bands) {
  enum { NIL = -128 };
  if (n_bands == 4)
    return _mm256_setr_epi8(0, NIL, 4, NIL, 8, NIL, 12, NIL, 1, NIL, 5, NIL, 9, NIL, 13, NIL, /* half */ 2, NIL, 6, NIL,
                            10, NIL, 14, NIL, 3, NIL, 7, NIL, 11, NIL, 15, NIL);
  return _mm256_setr_epi8(0, NIL, 3, NIL, 6, NIL, 9, NIL, 1, NIL, 4, NIL, 7, NIL, 10, NIL, /* half */ 2, NIL, 5, NIL, 8,
                          NIL, 11, NIL, NIL, NIL, NIL, NIL, NIL, NIL, NIL, NIL);
}

/* Four pixels of a row, in words. */
PIXELS_AVX2_INLINE __m256i resize_words_avx2(const uint8_t *pixels, __m256i order) {
  __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)pixels);
  return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(bytes), order);
}

/* What the outputs of a row have in common. */
struct resize_common_avx2 {
  __m256i order, half;
  __m128i bits;
  ptrdiff_t n_row_bytes;
};

struct resize_sums_avx2 { /* of two rows: the sums of more would not fit into the registers */
  __m256i low0, low1, high0, high1;
};

/* Adds four pixels of both rows. */
PIXELS_AVX2_INLINE void resize_add_avx2(struct resize_sums_avx2 *sums, const uint8_t *in0, const uint8_t *in1,
                                        const int16_t *low, const int16_t *high, bool wide, __m256i order) {
  __m256i words0 = resize_words_avx2(in0, order), words1 = resize_words_avx2(in1, order);
  __m256i low_weights = resize_weights_avx2(low);
  sums->low0 = _mm256_add_epi32(sums->low0, _mm256_madd_epi16(words0, low_weights));
  sums->low1 = _mm256_add_epi32(sums->low1, _mm256_madd_epi16(words1, low_weights));
  if (!wide) return;
  __m256i high_weights = resize_weights_avx2(high);
  sums->high0 = _mm256_add_epi32(sums->high0, _mm256_madd_epi16(words0, high_weights));
  sums->high1 = _mm256_add_epi32(sums->high1, _mm256_madd_epi16(words1, high_weights));
}

/* One output of two rows of three or four bands, in words, from the n pixels whose first byte is at. */
PIXELS_AVX2_INLINE __m256i resize_two_avx2(const uint8_t *in0, const uint8_t *in1, ptrdiff_t at, ptrdiff_t n,
                                           const int16_t *low, const int16_t *high, int n_bands, bool wide,
                                           const struct resize_common_avx2 *common) {
  const __m256i zero = _mm256_setzero_si256();
  struct resize_sums_avx2 sums = {zero, zero, zero, zero};
  const uint8_t *pixels0 = in0 + at, *pixels1 = in1 + at;
  ptrdiff_t t = 0, last = n - CLIPC__TAPS_STEP, last_at = at + last * n_bands;
  for (; t < last; t += CLIPC__TAPS_STEP)
    resize_add_avx2(&sums, pixels0 + t * n_bands, pixels1 + t * n_bands, low + t, high + t, wide, common->order);
  /* A load of three bands reads four bytes too many. */
  ptrdiff_t load_at = last_at + 16 > common->n_row_bytes ? common->n_row_bytes - 16 : last_at;
  __m256i order = _mm256_add_epi8(common->order, _mm256_set1_epi8((char)(last_at - load_at)));
  resize_add_avx2(&sums, in0 + load_at, in1 + load_at, low + t, high + t, wide, order);
  if (wide) {
    sums.low0 = _mm256_add_epi32(sums.low0, _mm256_slli_epi32(sums.high0, 15));
    sums.low1 = _mm256_add_epi32(sums.low1, _mm256_slli_epi32(sums.high1, 15));
  }
  return _mm256_sra_epi32(_mm256_add_epi32(_mm256_hadd_epi32(sums.low0, sums.low1), common->half), common->bits);
}

/* Four rows of three or four bands; rows may be the same. */
PIXELS_AVX2_INLINE void resize_rows_avx2(uint8_t *const out[4], const uint8_t *const in[4], int n_bands, bool wide,
                                         const struct clipc__taps *taps) {
  const struct resize_common_avx2 common = {resize_order_avx2(n_bands),
                                            _mm256_set1_epi32((int32_t)((1u << taps->bits) >> 1)),
                                            _mm_cvtsi32_si128(taps->bits), (ptrdiff_t)taps->n_in * n_bands};
  for (size_t i = 0; i < taps->n; i++) {
    const int16_t *low = taps->low + i * taps->n_row, *high = wide ? taps->high + i * taps->n_row : low;
    ptrdiff_t at = (ptrdiff_t)taps->first[i] * n_bands, n = taps->count[i];
    __m256i first = resize_two_avx2(in[0], in[1], at, n, low, high, n_bands, wide, &common);
    __m256i second = resize_two_avx2(in[2], in[3], at, n, low, high, n_bands, wide, &common);
    __m256i words = _mm256_packs_epi32(first, second), bytes = _mm256_packus_epi16(words, words);
    __m128i halves = _mm_unpacklo_epi16(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1));
    uint8_t pixels[16];
    _mm_storeu_si128((__m128i *)(void *)pixels, halves);
    size_t to = i * (size_t)n_bands;
    if (n_bands == 4 || i + 1 < taps->n) /* the fourth byte of three bands is written over by the next pixel */
      for (int r = 0; r < 4; r++) memcpy(out[r] + to, pixels + 4 * r, 4);
    else
      for (int r = 0; r < 4; r++) memcpy(out[r] + to, pixels + 4 * r, 3);
  }
}

/* Four rows of one band, four pixels of each at a time. */
PIXELS_AVX2_INLINE void resize_grey_rows_avx2(uint8_t *const out[4], const uint8_t *const in[4], bool wide,
                                              const struct clipc__taps *taps) {
  const __m256i half = _mm256_set1_epi32((int32_t)((1u << taps->bits) >> 1));
  const __m128i bits = _mm_cvtsi32_si128(taps->bits);
  for (size_t i = 0; i < taps->n; i++) {
    const int16_t *low = taps->low + i * taps->n_row, *high = wide ? taps->high + i * taps->n_row : NULL;
    __m256i low_sum = _mm256_setzero_si256(), high_sum = low_sum;
    for (int t = 0; t < taps->count[i]; t += CLIPC__TAPS_STEP) {
      int32_t pixels[4];
      for (int r = 0; r < 4; r++) memcpy(&pixels[r], in[r] + taps->first[i] + t, 4);
      __m256i words = _mm256_cvtepu8_epi16(_mm_setr_epi32(pixels[0], pixels[1], pixels[2], pixels[3]));
      low_sum = _mm256_add_epi32(low_sum, _mm256_madd_epi16(words, resize_weights_avx2(low + t)));
      if (wide) high_sum = _mm256_add_epi32(high_sum, _mm256_madd_epi16(words, resize_weights_avx2(high + t)));
    }
    __m256i total = _mm256_add_epi32(low_sum, _mm256_slli_epi32(high_sum, 15));
    total = _mm256_sra_epi32(_mm256_add_epi32(_mm256_hadd_epi32(total, total), half), bits);
    __m256i words = _mm256_packs_epi32(total, total), bytes = _mm256_packus_epi16(words, words);
    int first = _mm256_extract_epi16(bytes, 0), second = _mm256_extract_epi16(bytes, 8);
    out[0][i] = (uint8_t)first;
    out[1][i] = (uint8_t)(first >> 8);
    out[2][i] = (uint8_t)second;
    out[3][i] = (uint8_t)(second >> 8);
  }
}

PIXELS_AVX2 static void resize_four_avx2(uint8_t *const out[4], const uint8_t *const in[4], int n_bands,
                                         const struct clipc__taps *taps) {
  switch (n_bands * 2 + (taps->high != NULL)) {
  case 2: resize_grey_rows_avx2(out, in, false, taps); break;
  case 3: resize_grey_rows_avx2(out, in, true, taps); break;
  case 6: resize_rows_avx2(out, in, 3, false, taps); break;
  case 7: resize_rows_avx2(out, in, 3, true, taps); break;
  case 8: resize_rows_avx2(out, in, 4, false, taps); break;
  default: resize_rows_avx2(out, in, 4, true, taps); break;
  }
}

PIXELS_AVX2 static void resize_across_avx2(uint8_t *out, size_t out_stride, const uint8_t *in, size_t in_stride,
                                           size_t n_rows, int n_bands, const struct clipc__taps *taps) {
  bool by_fours = taps->n_in >= 8; /* that loads of 16 bytes find a place in the row */
  for (size_t i = 0; i < taps->n; i++) by_fours = by_fours && taps->count[i] % CLIPC__TAPS_STEP == 0;
  if (!by_fours || n_bands == 2) {
    pixels_plain_avx2().resize_across(out, out_stride, in, in_stride, n_rows, n_bands, taps);
    return;
  }
  for (size_t y = 0; y < n_rows; y += 4) {
    uint8_t *to[4];
    const uint8_t *from[4];
    for (size_t r = 0; r < 4; r++) { /* a missing row is the last one again */
      size_t row = y + r < n_rows ? y + r : n_rows - 1;
      to[r] = out + row * out_stride;
      from[r] = in + row * in_stride;
    }
    resize_four_avx2(to, from, n_bands, taps);
  }
}

/* Two weights, the second for the second of two rows. */
PIXELS_AVX2_INLINE __m256i resize_pair_avx2(const int16_t *weights) {
  int32_t pair;
  memcpy(&pair, weights, sizeof pair);
  return _mm256_set1_epi32(pair);
}

/* 32 samples of an output row. */
PIXELS_AVX2_INLINE void resize_strip_avx2(uint8_t *out, const uint8_t *in, size_t in_stride,
                                          const struct clipc__taps *taps, size_t i, bool wide) {
  const int16_t *low = taps->low + i * taps->n_row, *high = wide ? taps->high + i * taps->n_row : NULL;
  const __m256i zero = _mm256_setzero_si256(), half = _mm256_set1_epi32((int32_t)((1u << taps->bits) >> 1));
  __m256i low_sum[4] = {half, half, half, half}, high_sum[4] = {zero, zero, zero, zero};
  for (int t = 0, n = taps->count[i]; t < n; t += 2) {
    const uint8_t *row = in + (size_t)t * in_stride;
    __m256i a = _mm256_loadu_si256((const __m256i *)(const void *)row);
    __m256i b = t + 1 < n ? _mm256_loadu_si256((const __m256i *)(const void *)(row + in_stride)) : zero;
    __m256i first = _mm256_unpacklo_epi8(a, b), second = _mm256_unpackhi_epi8(a, b);
    __m256i words[4] = {_mm256_unpacklo_epi8(first, zero), _mm256_unpackhi_epi8(first, zero),
                        _mm256_unpacklo_epi8(second, zero), _mm256_unpackhi_epi8(second, zero)};
    __m256i low_pair = resize_pair_avx2(low + t), high_pair = wide ? resize_pair_avx2(high + t) : zero;
    for (int j = 0; j < 4; j++) {
      low_sum[j] = _mm256_add_epi32(low_sum[j], _mm256_madd_epi16(words[j], low_pair));
      if (wide) high_sum[j] = _mm256_add_epi32(high_sum[j], _mm256_madd_epi16(words[j], high_pair));
    }
  }
  __m128i bits = _mm_cvtsi32_si128(taps->bits);
  for (int j = 0; j < 4; j++) {
    if (wide) low_sum[j] = _mm256_add_epi32(low_sum[j], _mm256_slli_epi32(high_sum[j], 15));
    low_sum[j] = _mm256_sra_epi32(low_sum[j], bits);
  }
  __m256i first = _mm256_packs_epi32(low_sum[0], low_sum[1]), second = _mm256_packs_epi32(low_sum[2], low_sum[3]);
  _mm256_storeu_si256((__m256i *)(void *)out, _mm256_packus_epi16(first, second));
}

PIXELS_AVX2 static void resize_down_avx2(uint8_t *out, const uint8_t *in, size_t in_stride, size_t n_samples,
                                         const struct clipc__taps *taps, size_t i) {
  if (n_samples < 32) {
    pixels_plain_avx2().resize_down(out, in, in_stride, n_samples, taps, i);
    return;
  }
  in += (size_t)taps->first[i] * in_stride;
  for (size_t s = 0; s < n_samples; s += 32) {
    size_t at = s + 32 <= n_samples ? s : n_samples - 32; /* the last strip may cover some again */
    if (taps->high)
      resize_strip_avx2(out + at, in + at, in_stride, taps, i, true);
    else
      resize_strip_avx2(out + at, in + at, in_stride, taps, i, false);
  }
}

/* ---- inverse DCT */

/* first * a + second * b in each of the columns: out[0] of the first four of each half, out[1] of the others. */
PIXELS_AVX2_INLINE void idct_rotate_avx2(__m256i out[2], const __m256i pairs[2], int first, int second) {
  __m256i factors = _mm256_set1_epi32((int32_t)((uint32_t)(uint16_t)second << 16 | (uint16_t)first));
  out[0] = _mm256_madd_epi16(pairs[0], factors);
  out[1] = _mm256_madd_epi16(pairs[1], factors);
}

PIXELS_AVX2_INLINE void idct_pairs_avx2(__m256i out[2], __m256i first, __m256i second) {
  out[0] = _mm256_unpacklo_epi16(first, second);
  out[1] = _mm256_unpackhi_epi16(first, second);
}

/* One pass over the columns of two blocks, row i in v[i]; see idct_columns_ref. */
PIXELS_AVX2_INLINE void idct_columns_avx2(__m256i v[8], int n_shift) {
  const __m256i zero = _mm256_setzero_si256(), half = _mm256_set1_epi32(1 << (n_shift - 1));
  __m256i t0[2], t1[2], t2[2], t3[2], z3[2], z4[2], o0[2], o1[2], o2[2], o3[2], pairs[2];
  idct_pairs_avx2(t0, zero, _mm256_add_epi16(v[0], v[4])); /* times 65536 */
  idct_pairs_avx2(t1, zero, _mm256_sub_epi16(v[0], v[4]));
  idct_pairs_avx2(pairs, v[2], v[6]);
  idct_rotate_avx2(t2, pairs, 4433, 4433 - 15137);
  idct_rotate_avx2(t3, pairs, 4433 + 6270, 4433);
  idct_pairs_avx2(pairs, _mm256_add_epi16(v[7], v[3]), _mm256_add_epi16(v[5], v[1]));
  idct_rotate_avx2(z3, pairs, 9633 - 16069, 9633);
  idct_rotate_avx2(z4, pairs, 9633, 9633 - 3196);
  idct_pairs_avx2(pairs, v[7], v[1]);
  idct_rotate_avx2(o0, pairs, 2446 - 7373, -7373);
  idct_rotate_avx2(o3, pairs, -7373, 12299 - 7373);
  idct_pairs_avx2(pairs, v[5], v[3]);
  idct_rotate_avx2(o1, pairs, 16819 - 20995, -20995);
  idct_rotate_avx2(o2, pairs, -20995, 25172 - 20995);
  __m256i up[4][2], down[4][2];
  for (int h = 0; h < 2; h++) {
    __m256i even0 = _mm256_add_epi32(_mm256_srai_epi32(t0[h], 3), half);
    __m256i even1 = _mm256_add_epi32(_mm256_srai_epi32(t1[h], 3), half);
    __m256i e[4] = {_mm256_add_epi32(even0, t3[h]), _mm256_add_epi32(even1, t2[h]), _mm256_sub_epi32(even1, t2[h]),
                    _mm256_sub_epi32(even0, t3[h])};
    __m256i o[4] = {_mm256_add_epi32(o3[h], z4[h]), _mm256_add_epi32(o2[h], z3[h]), _mm256_add_epi32(o1[h], z4[h]),
                    _mm256_add_epi32(o0[h], z3[h])};
    for (int i = 0; i < 4; i++) {
      up[i][h] = _mm256_srai_epi32(_mm256_add_epi32(e[i], o[i]), n_shift);
      down[i][h] = _mm256_srai_epi32(_mm256_sub_epi32(e[i], o[i]), n_shift);
    }
  }
  for (int i = 0; i < 4; i++) {
    v[i] = _mm256_packs_epi32(up[i][0], up[i][1]);
    v[7 - i] = _mm256_packs_epi32(down[i][0], down[i][1]);
  }
}

PIXELS_AVX2_INLINE void idct_transpose_avx2(__m256i v[8]) {
  __m256i a[8], b[8];
  for (int i = 0; i < 4; i++) {
    a[2 * i] = _mm256_unpacklo_epi16(v[2 * i], v[2 * i + 1]);
    a[2 * i + 1] = _mm256_unpackhi_epi16(v[2 * i], v[2 * i + 1]);
  }
  for (int i = 0; i < 2; i++) {
    b[4 * i] = _mm256_unpacklo_epi32(a[4 * i], a[4 * i + 2]);
    b[4 * i + 1] = _mm256_unpackhi_epi32(a[4 * i], a[4 * i + 2]);
    b[4 * i + 2] = _mm256_unpacklo_epi32(a[4 * i + 1], a[4 * i + 3]);
    b[4 * i + 3] = _mm256_unpackhi_epi32(a[4 * i + 1], a[4 * i + 3]);
  }
  for (int i = 0; i < 4; i++) {
    v[2 * i] = _mm256_unpacklo_epi64(b[i], b[4 + i]);
    v[2 * i + 1] = _mm256_unpackhi_epi64(b[i], b[4 + i]);
  }
}

/* Columns of words in v to rows of bytes in rows: two rows of each block in its half. */
PIXELS_AVX2_INLINE void idct_bytes_avx2(__m256i rows[4], const __m256i v[8]) {
  __m256i a = _mm256_packs_epi16(v[0], v[4]), b = _mm256_packs_epi16(v[1], v[5]);
  __m256i c = _mm256_packs_epi16(v[2], v[6]), d = _mm256_packs_epi16(v[3], v[7]);
  __m256i ac = _mm256_unpacklo_epi8(a, c), bd = _mm256_unpacklo_epi8(b, d);
  __m256i ac4 = _mm256_unpackhi_epi8(a, c), bd4 = _mm256_unpackhi_epi8(b, d);
  __m256i low = _mm256_unpacklo_epi8(ac, bd), low4 = _mm256_unpacklo_epi8(ac4, bd4); /* rows 0 to 3 */
  __m256i high = _mm256_unpackhi_epi8(ac, bd), high4 = _mm256_unpackhi_epi8(ac4, bd4);
  const __m256i middle = _mm256_set1_epi8(-128);
  rows[0] = _mm256_add_epi8(_mm256_unpacklo_epi32(low, low4), middle);
  rows[1] = _mm256_add_epi8(_mm256_unpackhi_epi32(low, low4), middle);
  rows[2] = _mm256_add_epi8(_mm256_unpacklo_epi32(high, high4), middle);
  rows[3] = _mm256_add_epi8(_mm256_unpackhi_epi32(high, high4), middle);
}

/* Samples of two blocks; where one has but a first row, its columns are constant and wrap. */
PIXELS_AVX2_INLINE void idct_two_avx2(__m256i rows[4], const int16_t *first, const int16_t *second) {
  __m256i v[8];
  for (int i = 0; i < 8; i++)
    v[i] =
        _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)(first + 8 * i))),
                                _mm_loadu_si128((const __m128i *)(const void *)(second + 8 * i)), 1);
  __m256i some = v[1];
  for (int i = 2; i < 8; i++) some = _mm256_or_si256(some, v[i]);
  __m256i zeros = _mm256_cmpeq_epi64(some, _mm256_setzero_si256());
  zeros = _mm256_and_si256(zeros, _mm256_shuffle_epi32(zeros, 0x4E));
  __m256i constant = _mm256_slli_epi16(v[0], 2);
  if (_mm256_testc_si256(zeros, _mm256_set1_epi32(-1))) {
    for (int i = 0; i < 8; i++) v[i] = constant;
  } else {
    idct_columns_avx2(v, 13 - 2);
    for (int i = 0; i < 8; i++) v[i] = _mm256_blendv_epi8(v[i], constant, zeros);
  }
  idct_transpose_avx2(v);
  idct_columns_avx2(v, 13 + 2 + 3);
  idct_bytes_avx2(rows, v);
}

PIXELS_AVX2 static void idct_avx2(uint8_t *out, size_t stride, const int16_t *blocks, size_t n) {
  __m256i rows[4];
  size_t i = 0;
  for (; i + 2 <= n; i += 2, out += 16) {
    idct_two_avx2(rows, blocks + 64 * i, blocks + 64 * i + 64);
    for (size_t y = 0; y < 4; y++) {
      __m256i both = _mm256_permute4x64_epi64(rows[y], 0xD8); /* row, row | row, row */
      _mm_storeu_si128((__m128i *)(void *)(out + 2 * y * stride), _mm256_castsi256_si128(both));
      _mm_storeu_si128((__m128i *)(void *)(out + (2 * y + 1) * stride), _mm256_extracti128_si256(both, 1));
    }
  }
  if (i == n) return;
  idct_two_avx2(rows, blocks + 64 * i, blocks + 64 * i);
  for (size_t y = 0; y < 4; y++) {
    __m128i both = _mm256_castsi256_si128(rows[y]);
    _mm_storel_epi64((__m128i *)(void *)(out + 2 * y * stride), both);
    _mm_storel_epi64((__m128i *)(void *)(out + (2 * y + 1) * stride), _mm_srli_si128(both, 8));
  }
}

/* ---- upsampling */

PIXELS_AVX2_INLINE __m256i upsample_load_avx2(const uint8_t *p) {
  return _mm256_loadu_si256((const __m256i *)(const void *)p);
}

/* 3 a + b of 32 bytes: sums[0] of the first eight of each half, sums[1] of the others. */
PIXELS_AVX2_INLINE void upsample_weigh_avx2(__m256i sums[2], __m256i a, __m256i b) {
  const __m256i factors = _mm256_set1_epi16(1 << 8 | 3);
  sums[0] = _mm256_maddubs_epi16(_mm256_unpacklo_epi8(a, b), factors);
  sums[1] = _mm256_maddubs_epi16(_mm256_unpackhi_epi8(a, b), factors);
}

/* Words of even and odd outputs, below 256, to 64 bytes. */
PIXELS_AVX2_INLINE void upsample_store_avx2(uint8_t *out, const __m256i even[2], const __m256i odd[2]) {
  __m256i first = _mm256_or_si256(even[0], _mm256_slli_epi16(odd[0], 8));
  __m256i second = _mm256_or_si256(even[1], _mm256_slli_epi16(odd[1], 8));
  _mm256_storeu_si256((__m256i *)(void *)out, _mm256_permute2x128_si256(first, second, 0x20));
  _mm256_storeu_si256((__m256i *)(void *)(out + 32), _mm256_permute2x128_si256(first, second, 0x31));
}

/* Both walk over the inputs that have two neighbours, 32 at a time, some twice at the end. */
PIXELS_AVX2 static void upsample_h2_avx2(uint8_t *out, const uint8_t *in, size_t n) {
  if (n < 34) {
    pixels_plain_avx2().upsample_h2(out, in, n);
    return;
  }
  const __m256i one = _mm256_set1_epi16(1), two = _mm256_set1_epi16(2);
  for (size_t i = 1;; i += 32) {
    if (i + 33 > n) i = n - 33;
    __m256i even[2], odd[2], here = upsample_load_avx2(in + i);
    upsample_weigh_avx2(even, here, upsample_load_avx2(in + i - 1));
    upsample_weigh_avx2(odd, here, upsample_load_avx2(in + i + 1));
    for (int h = 0; h < 2; h++) {
      even[h] = _mm256_srli_epi16(_mm256_add_epi16(even[h], one), 2);
      odd[h] = _mm256_srli_epi16(_mm256_add_epi16(odd[h], two), 2);
    }
    upsample_store_avx2(out + 2 * i, even, odd);
    if (i == n - 33) break;
  }
  out[0] = in[0];
  out[1] = (uint8_t)((3 * in[0] + in[1] + 2) >> 2);
  out[2 * n - 2] = (uint8_t)((3 * in[n - 1] + in[n - 2] + 1) >> 2);
  out[2 * n - 1] = in[n - 1];
}

PIXELS_AVX2 static void upsample_h2v2_avx2(uint8_t *out, const uint8_t *near, const uint8_t *far, size_t n) {
  if (n < 34) {
    pixels_plain_avx2().upsample_h2v2(out, near, far, n);
    return;
  }
  const __m256i seven = _mm256_set1_epi16(7), eight = _mm256_set1_epi16(8);
  for (size_t i = 1;; i += 32) {
    if (i + 33 > n) i = n - 33;
    __m256i before[2], here[2], after[2], even[2], odd[2];
    upsample_weigh_avx2(before, upsample_load_avx2(near + i - 1), upsample_load_avx2(far + i - 1));
    upsample_weigh_avx2(here, upsample_load_avx2(near + i), upsample_load_avx2(far + i));
    upsample_weigh_avx2(after, upsample_load_avx2(near + i + 1), upsample_load_avx2(far + i + 1));
    for (int h = 0; h < 2; h++) {
      __m256i thrice = _mm256_add_epi16(here[h], _mm256_add_epi16(here[h], here[h]));
      even[h] = _mm256_srli_epi16(_mm256_add_epi16(_mm256_add_epi16(thrice, eight), before[h]), 4);
      odd[h] = _mm256_srli_epi16(_mm256_add_epi16(_mm256_add_epi16(thrice, seven), after[h]), 4);
    }
    upsample_store_avx2(out + 2 * i, even, odd);
    if (i == n - 33) break;
  }
  int first = 3 * near[0] + far[0], second = 3 * near[1] + far[1];
  int last = 3 * near[n - 1] + far[n - 1], last_but_one = 3 * near[n - 2] + far[n - 2];
  out[0] = (uint8_t)((4 * first + 8) >> 4);
  out[1] = (uint8_t)((3 * first + second + 7) >> 4);
  out[2 * n - 2] = (uint8_t)((3 * last + last_but_one + 8) >> 4);
  out[2 * n - 1] = (uint8_t)((4 * last + 7) >> 4);
}

/* ---- colours */

/* Products of 16 bits are rounded shifts by 15: 13173 and -7471 stand for halves of the factors in ycc_to_rgb_ref,
 * and give the same for every chroma. */
PIXELS_AVX2_INLINE void ycc_sixteen_avx2(__m256i rgb[3], __m256i y, __m256i cb, __m256i cr) {
  const __m256i green = _mm256_set1_epi32((int32_t)(18734u << 16 | (uint16_t)-22554));
  const __m256i half = _mm256_set1_epi32(32768);
  __m256i dr = _mm256_mulhrs_epi16(cr, _mm256_set1_epi16(13173));
  __m256i db = _mm256_mulhrs_epi16(cb, _mm256_set1_epi16(-7471));
  __m256i first = _mm256_madd_epi16(_mm256_unpacklo_epi16(cb, cr), green);
  __m256i second = _mm256_madd_epi16(_mm256_unpackhi_epi16(cb, cr), green);
  __m256i dg = _mm256_packs_epi32(_mm256_srai_epi32(_mm256_add_epi32(first, half), 16),
                                  _mm256_srai_epi32(_mm256_add_epi32(second, half), 16));
  rgb[0] = _mm256_add_epi16(_mm256_add_epi16(y, cr), dr);
  rgb[1] = _mm256_add_epi16(_mm256_sub_epi16(y, cr), dg);
  rgb[2] = _mm256_add_epi16(_mm256_add_epi16(y, db), _mm256_add_epi16(cb, cb));
}

/* 32 bytes of each band to 96: byte p of band c belongs at 3 p + c, and is first brought to that modulo 16. */
PIXELS_AVX2_INLINE void ycc_interleave_avx2(uint8_t *out, __m256i r, __m256i g, __m256i b) {
  const __m256i to_r = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 11, 6, 1, 12, 7, 2, 13, 8, 3, 14, 9, 4, 15, 10, 5));
  const __m256i to_g = _mm256_broadcastsi128_si256(_mm_setr_epi8(5, 0, 11, 6, 1, 12, 7, 2, 13, 8, 3, 14, 9, 4, 15, 10));
  const __m256i to_b = _mm256_broadcastsi128_si256(_mm_setr_epi8(10, 5, 0, 11, 6, 1, 12, 7, 2, 13, 8, 3, 14, 9, 4, 15));
  const __m256i at_1 = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, -1, 0, 0, -1, 0, 0, -1, 0, 0, -1, 0, 0, -1, 0, 0));
  const __m256i at_2 = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 0, -1, 0, 0, -1, 0, 0, -1, 0, 0, -1, 0, 0, -1, 0));
  r = _mm256_shuffle_epi8(r, to_r);
  g = _mm256_shuffle_epi8(g, to_g);
  b = _mm256_shuffle_epi8(b, to_b);
  __m256i first = _mm256_blendv_epi8(_mm256_blendv_epi8(r, g, at_1), b, at_2);
  __m256i second = _mm256_blendv_epi8(_mm256_blendv_epi8(g, b, at_1), r, at_2);
  __m256i third = _mm256_blendv_epi8(_mm256_blendv_epi8(b, r, at_1), g, at_2);
  _mm_storeu_si128((__m128i *)(void *)out, _mm256_castsi256_si128(first));
  _mm_storeu_si128((__m128i *)(void *)(out + 16), _mm256_castsi256_si128(second));
  _mm_storeu_si128((__m128i *)(void *)(out + 32), _mm256_castsi256_si128(third));
  _mm_storeu_si128((__m128i *)(void *)(out + 48), _mm256_extracti128_si256(first, 1));
  _mm_storeu_si128((__m128i *)(void *)(out + 64), _mm256_extracti128_si256(second, 1));
  _mm_storeu_si128((__m128i *)(void *)(out + 80), _mm256_extracti128_si256(third, 1));
}

PIXELS_AVX2 static void ycc_to_rgb_avx2(uint8_t *out, const uint8_t *luma, const uint8_t *blue, const uint8_t *red,
                                        size_t n) {
  const __m256i zero = _mm256_setzero_si256(), middle = _mm256_set1_epi16(128);
  if (n < 32) {
    pixels_plain_avx2().ycc_to_rgb(out, luma, blue, red, n);
    return;
  }
  for (size_t s = 0; s < n; s += 32) {
    size_t i = s + 32 <= n ? s : n - 32;
    __m256i y = upsample_load_avx2(luma + i), cb = upsample_load_avx2(blue + i), cr = upsample_load_avx2(red + i);
    __m256i low[3], high[3], bands[3];
    ycc_sixteen_avx2(low, _mm256_unpacklo_epi8(y, zero), _mm256_sub_epi16(_mm256_unpacklo_epi8(cb, zero), middle),
                     _mm256_sub_epi16(_mm256_unpacklo_epi8(cr, zero), middle));
    ycc_sixteen_avx2(high, _mm256_unpackhi_epi8(y, zero), _mm256_sub_epi16(_mm256_unpackhi_epi8(cb, zero), middle),
                     _mm256_sub_epi16(_mm256_unpackhi_epi8(cr, zero), middle));
    for (int c = 0; c < 3; c++) bands[c] = _mm256_packus_epi16(low[c], high[c]);
    ycc_interleave_avx2(out + 3 * i, bands[0], bands[1], bands[2]);
  }
}

void clipc__pixel_kernels_avx2(struct clipc__pixel_kernels *kernels) {
  *kernels = (struct clipc__pixel_kernels){resize_across_avx2, resize_down_avx2,   idct_avx2,
                                           upsample_h2_avx2,   upsample_h2v2_avx2, ycc_to_rgb_avx2};
}

#undef PIXELS_AVX2
#undef PIXELS_AVX2_INLINE

#else
void clipc__pixel_kernels_avx2(struct clipc__pixel_kernels *kernels) { (void)kernels; }
#endif
