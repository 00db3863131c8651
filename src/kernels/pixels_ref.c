/* The kernels of pictures in plain C: normative, every other variant gives the same bits; and the choice.
 * Resizing is Pillow 13's and torchvision 0.29's in fixed point; sums are taken modulo 2^32, which no weights of
 * theirs reach. The inverse DCT, upsampling and colours are those of libjpeg-turbo with its default settings. */
#include "kernels/pixels.h"

#include <string.h>

static inline uint8_t pixel_clip(int32_t value) { return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value); }

/* ---- resizing */

static inline uint32_t pixel_weight(const struct clipc__taps *taps, size_t at) {
  return (uint32_t)(taps->low[at] + (taps->high ? taps->high[at] * 32768 : 0));
}

/* One row; n_bands is a constant wherever this is inlined. */
static inline __attribute__((always_inline)) void resize_row_ref(uint8_t *out, const uint8_t *in,
                                                                 const struct clipc__taps *taps, int n_bands) {
  for (size_t i = 0; i < taps->n; i++) {
    const uint8_t *pixel = in + (ptrdiff_t)taps->first[i] * n_bands;
    uint32_t sum[4];
    for (int c = 0; c < n_bands; c++) sum[c] = (1u << taps->bits) >> 1;
    for (int t = 0; t < taps->count[i]; t++) {
      uint32_t weight = pixel_weight(taps, i * taps->n_row + (size_t)t);
      for (int c = 0; c < n_bands; c++) sum[c] += pixel[t * n_bands + c] * weight;
    }
    for (int c = 0; c < n_bands; c++) *out++ = pixel_clip((int32_t)sum[c] >> taps->bits);
  }
}

static void resize_across_ref(uint8_t *out, size_t out_stride, const uint8_t *in, size_t in_stride, size_t n_rows,
                              int n_bands, const struct clipc__taps *taps) {
  for (size_t y = 0; y < n_rows; y++, out += out_stride, in += in_stride) {
    switch (n_bands) {
    case 1: resize_row_ref(out, in, taps, 1); break;
    case 2: resize_row_ref(out, in, taps, 2); break;
    case 3: resize_row_ref(out, in, taps, 3); break;
    default: resize_row_ref(out, in, taps, 4); break;
    }
  }
}

/* A strip of samples at a time, so that its sums stay in the cache. */
static void resize_down_ref(uint8_t *out, const uint8_t *in, size_t in_stride, size_t n_samples,
                            const struct clipc__taps *taps, size_t i) {
  enum { STRIP = 512 };
  uint32_t sum[STRIP];
  in += (size_t)taps->first[i] * in_stride;
  for (size_t start = 0; start < n_samples; start += STRIP) {
    size_t n = n_samples - start < STRIP ? n_samples - start : STRIP;
    for (size_t s = 0; s < n; s++) sum[s] = (1u << taps->bits) >> 1;
    for (int t = 0; t < taps->count[i]; t++) {
      const uint8_t *row = in + (size_t)t * in_stride + start;
      uint32_t weight = pixel_weight(taps, i * taps->n_row + (size_t)t);
      for (size_t s = 0; s < n; s++) sum[s] += row[s] * weight;
    }
    for (size_t s = 0; s < n; s++) out[start + s] = pixel_clip((int32_t)sum[s] >> taps->bits);
  }
}

/* ---- inverse DCT */

static inline int16_t idct_saturate(int32_t value, int n_shift) {
  value >>= n_shift;
  if (n_shift >= 16) return (int16_t)value; /* fits */
  return (int16_t)(value < -32768 ? -32768 : value > 32767 ? 32767 : value);
}

/* One pass over the eight columns of in [8, 8]. Products are of 16 by 16 bits, which vectorises on any CPU.
 * Sums that libjpeg-turbo's vector code wraps to 16 bits or saturates, where coefficients are absurdly large,
 * are wrapped and saturated here too; the others cannot overflow 32 bits. */
static inline void idct_columns_ref(int16_t out[64], const int16_t in[64], int n_shift) {
  const int32_t half = 1 << (n_shift - 1);
  for (int i = 0; i < 8; i++) {
    int16_t c0 = in[i], c1 = in[8 + i], c2 = in[16 + i], c3 = in[24 + i];
    int16_t c4 = in[32 + i], c5 = in[40 + i], c6 = in[48 + i], c7 = in[56 + i];
    int16_t sum = (int16_t)(c0 + c4), difference = (int16_t)(c0 - c4), s3 = (int16_t)(c7 + c3), s4 = (int16_t)(c5 + c1);
    int32_t t0 = sum * 8192 + half, t1 = difference * 8192 + half; /* factors are of 2^13 */
    int32_t t2 = c2 * 4433 + c6 * (4433 - 15137), t3 = c2 * (4433 + 6270) + c6 * 4433;
    int32_t z3 = s3 * (9633 - 16069) + s4 * 9633, z4 = s3 * 9633 + s4 * (9633 - 3196);
    int32_t e0 = t0 + t3, e3 = t0 - t3, e1 = t1 + t2, e2 = t1 - t2;
    int32_t o0 = c7 * (2446 - 7373) - c1 * 7373 + z3, o1 = c5 * (16819 - 20995) - c3 * 20995 + z4;
    int32_t o2 = c3 * (25172 - 20995) - c5 * 20995 + z3, o3 = c1 * (12299 - 7373) - c7 * 7373 + z4;
    out[i] = idct_saturate(e0 + o3, n_shift);
    out[56 + i] = idct_saturate(e0 - o3, n_shift);
    out[8 + i] = idct_saturate(e1 + o2, n_shift);
    out[48 + i] = idct_saturate(e1 - o2, n_shift);
    out[16 + i] = idct_saturate(e2 + o1, n_shift);
    out[40 + i] = idct_saturate(e2 - o1, n_shift);
    out[24 + i] = idct_saturate(e3 + o0, n_shift);
    out[32 + i] = idct_saturate(e3 - o0, n_shift);
  }
}

/* Whether coefficients first..63 are all zero; first is a multiple of 4. */
static bool idct_is_zero_from(const int16_t block[64], int first) {
  uint64_t some = 0, words[16];
  memcpy(words, block, sizeof words);
  for (int i = first / 4; i < 16; i++) some |= words[i];
  return some == 0;
}

static void idct_block_ref(uint8_t *out, size_t stride, const int16_t block[64]) {
  int16_t a[64], b[64];
  if (idct_is_zero_from(block, 8)) { /* the columns are constant */
    if (idct_is_zero_from(block, 4) && (block[1] | block[2] | block[3]) == 0) {
      uint8_t value = pixel_clip((((int16_t)(block[0] * 4) + 16) >> 5) + 128);
      for (int y = 0; y < 8; y++) memset(out + (size_t)y * stride, value, 8);
      return;
    }
    for (int i = 0; i < 64; i++) a[i] = (int16_t)(block[i / 8] * 4);
  } else {
    idct_columns_ref(b, block, 13 - 2);
    for (int y = 0; y < 8; y++)
      for (int x = 0; x < 8; x++) a[x * 8 + y] = b[y * 8 + x];
  }
  idct_columns_ref(b, a, 13 + 2 + 3);
  uint8_t samples[64]; /* clipped before they are turned, for the compiler's vectors */
  for (int i = 0; i < 64; i++) {
    int16_t value = (int16_t)(b[i] + 128);
    samples[i] = (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
  }
  for (int y = 0; y < 8; y++)
    for (int x = 0; x < 8; x++) out[(size_t)y * stride + (size_t)x] = samples[x * 8 + y];
}

static void idct_ref(uint8_t *out, size_t stride, const int16_t *blocks, size_t n) {
  for (size_t i = 0; i < n; i++) idct_block_ref(out + 8 * i, stride, blocks + 64 * i);
}

/* ---- upsampling and colours */

static void upsample_h2_ref(uint8_t *out, const uint8_t *in, size_t n) {
  for (size_t i = 0; i < n; i++) {
    int before = in[i > 0 ? i - 1 : 0], after = in[i + 1 < n ? i + 1 : i];
    out[2 * i] = (uint8_t)((3 * in[i] + before + 1) >> 2);
    out[2 * i + 1] = (uint8_t)((3 * in[i] + after + 2) >> 2);
  }
}

static void upsample_h2v2_ref(uint8_t *out, const uint8_t *near, const uint8_t *far, size_t n) {
  int before = 3 * near[0] + far[0], sum = before;
  for (size_t i = 0; i < n; i++) {
    int after = i + 1 < n ? 3 * near[i + 1] + far[i + 1] : sum;
    out[2 * i] = (uint8_t)((3 * sum + before + 8) >> 4);
    out[2 * i + 1] = (uint8_t)((3 * sum + after + 7) >> 4);
    before = sum;
    sum = after;
  }
}

/* R = y + 1.402 cr, G = y - 0.344 cb - 0.714 cr, B = y + 1.772 cb, the factors times 65536 split into a whole
 * and a 16-bit part. Pieces of a row are computed apart and then interleaved, for the compiler's vectors. */
static void ycc_to_rgb_ref(uint8_t *out, const uint8_t *luma, const uint8_t *blue, const uint8_t *red, size_t n) {
  enum { PIECE = 256 };
  uint8_t r[PIECE], g[PIECE], b[PIECE];
  for (size_t from = 0; from < n; from += PIECE) {
    size_t n_piece = n - from < PIECE ? n - from : PIECE;
    for (size_t i = 0; i < n_piece; i++) {
      int16_t y = luma[from + i], cb = (int16_t)(blue[from + i] - 128), cr = (int16_t)(red[from + i] - 128);
      int16_t dr = (int16_t)((cr * 26345 + 32768) >> 16), db = (int16_t)((cb * -14942 + 32768) >> 16);
      int16_t dg = (int16_t)((cb * -22554 + cr * 18734 + 32768) >> 16);
      int16_t vr = (int16_t)(y + cr + dr), vg = (int16_t)(y - cr + dg), vb = (int16_t)(y + 2 * cb + db);
      r[i] = (uint8_t)(vr < 0 ? 0 : vr > 255 ? 255 : vr);
      g[i] = (uint8_t)(vg < 0 ? 0 : vg > 255 ? 255 : vg);
      b[i] = (uint8_t)(vb < 0 ? 0 : vb > 255 ? 255 : vb);
    }
    for (size_t i = 0; i < n_piece; i++, out += 3) {
      out[0] = r[i];
      out[1] = g[i];
      out[2] = b[i];
    }
  }
}

void clipc__pixel_kernels_init(struct clipc__pixel_kernels *kernels, unsigned cpu) {
  *kernels = (struct clipc__pixel_kernels){resize_across_ref, resize_down_ref,   idct_ref,
                                           upsample_h2_ref,   upsample_h2v2_ref, ycc_to_rgb_ref};
  if (cpu & CLIPC__CPU_AVX2) clipc__pixel_kernels_avx2(kernels);
  if (cpu & CLIPC__CPU_NEON) clipc__pixel_kernels_neon(kernels);
}
