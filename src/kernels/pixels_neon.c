/* The kernels of pictures for NEON (ARMv8-A); contracts in pixels.h, the same bits as pixels_ref.c.
 * Sums of 8 by 22 bit products are two sums of 8 by 16 bit products, of four pixels at a time. */
#include "kernels/pixels.h"

#if defined(__aarch64__)
#include <arm_neon.h>
#include <string.h>

#define PIXELS_NEON_INLINE static inline __attribute__((always_inline))

/* For what is too small for vectors. */
static struct clipc__pixel_kernels pixels_plain_neon(void) {
  struct clipc__pixel_kernels plain;
  clipc__pixel_kernels_init(&plain, 0);
  return plain;
}

/* ---- resizing */

/* What the outputs of a row have in common: where the bytes of four words of two bands each lie in a load. */
struct resize_common_neon {
  uint8x16_t order[2];
  ptrdiff_t n_row_bytes;
};

PIXELS_NEON_INLINE void resize_order_neon(struct resize_common_neon *common, int n_bands) {
  uint8_t order[2][16];
  memset(order, 255, sizeof order); /* nothing is there, however far on it is looked */
  for (int c = 0; c < n_bands; c++)
    for (int t = 0; t < CLIPC__TAPS_STEP; t++) order[c / 2][c % 2 * 8 + 2 * t] = (uint8_t)(t * n_bands + c);
  common->order[0] = vld1q_u8(order[0]);
  common->order[1] = vld1q_u8(order[1]);
}

/* Output i of a row of one, three or four bands. A load of 16 bytes is more than four pixels of fewer than four bands:
 * at the end of the row it begins earlier. */
PIXELS_NEON_INLINE void resize_pixel_neon(uint8_t *out, const uint8_t *in, int n_bands, bool wide,
                                          const struct clipc__taps *taps, size_t i,
                                          const struct resize_common_neon *common) {
  const int16_t *low = taps->low + i * taps->n_row, *high = wide ? taps->high + i * taps->n_row : low;
  const ptrdiff_t first = (ptrdiff_t)taps->first[i] * n_bands;
  int32x4_t low_sum[4], high_sum[4];
  for (int c = 0; c < n_bands; c++) low_sum[c] = high_sum[c] = vdupq_n_s32(0);
  for (ptrdiff_t t = 0; t < taps->count[i]; t += CLIPC__TAPS_STEP) {
    ptrdiff_t at = first + t * n_bands, load_at = at + 16 > common->n_row_bytes ? common->n_row_bytes - 16 : at;
    uint8x16_t bytes = vld1q_u8(in + load_at), further = vdupq_n_u8((uint8_t)(at - load_at));
    int16x8_t words[2]; /* a place beyond 15 gives 0 */
    words[0] = vreinterpretq_s16_u8(vqtbl1q_u8(bytes, vqaddq_u8(common->order[0], further)));
    if (n_bands > 2) words[1] = vreinterpretq_s16_u8(vqtbl1q_u8(bytes, vqaddq_u8(common->order[1], further)));
    int16x4_t low_weights = vld1_s16(low + t), high_weights = vld1_s16(high + t);
    for (int c = 0; c < n_bands; c++) {
      int16x4_t band = c % 2 == 0 ? vget_low_s16(words[c / 2]) : vget_high_s16(words[c / 2]);
      low_sum[c] = vmlal_s16(low_sum[c], band, low_weights);
      if (wide) high_sum[c] = vmlal_s16(high_sum[c], band, high_weights);
    }
  }
  for (int c = 0; c < n_bands; c++) {
    uint32_t sum = (uint32_t)vaddvq_s32(low_sum[c]) + ((1u << taps->bits) >> 1);
    if (wide) sum += (uint32_t)vaddvq_s32(high_sum[c]) << 15;
    int32_t value = (int32_t)sum >> taps->bits;
    out[i * (size_t)n_bands + (size_t)c] = (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
  }
}

PIXELS_NEON_INLINE void resize_rows_neon(uint8_t *out, size_t out_stride, const uint8_t *in, size_t in_stride,
                                         size_t n_rows, int n_bands, bool wide, const struct clipc__taps *taps) {
  struct resize_common_neon common = {.n_row_bytes = (ptrdiff_t)taps->n_in * n_bands};
  resize_order_neon(&common, n_bands);
  for (size_t y = 0; y < n_rows; y++)
    for (size_t i = 0; i < taps->n; i++)
      resize_pixel_neon(out + y * out_stride, in + y * in_stride, n_bands, wide, taps, i, &common);
}

static void resize_across_neon(uint8_t *out, size_t out_stride, const uint8_t *in, size_t in_stride, size_t n_rows,
                               int n_bands, const struct clipc__taps *taps) {
  bool by_fours = taps->n_in * (size_t)n_bands >= 16, wide = taps->high != NULL;
  for (size_t i = 0; i < taps->n; i++) by_fours = by_fours && taps->count[i] % CLIPC__TAPS_STEP == 0;
  switch (by_fours ? n_bands * 2 + wide : 0) {
  case 2: resize_rows_neon(out, out_stride, in, in_stride, n_rows, 1, false, taps); break;
  case 3: resize_rows_neon(out, out_stride, in, in_stride, n_rows, 1, true, taps); break;
  case 6: resize_rows_neon(out, out_stride, in, in_stride, n_rows, 3, false, taps); break;
  case 7: resize_rows_neon(out, out_stride, in, in_stride, n_rows, 3, true, taps); break;
  case 8: resize_rows_neon(out, out_stride, in, in_stride, n_rows, 4, false, taps); break;
  case 9: resize_rows_neon(out, out_stride, in, in_stride, n_rows, 4, true, taps); break;
  default: pixels_plain_neon().resize_across(out, out_stride, in, in_stride, n_rows, n_bands, taps);
  }
}

/* 16 samples of an output row. */
PIXELS_NEON_INLINE void resize_strip_neon(uint8_t *out, const uint8_t *in, size_t in_stride,
                                          const struct clipc__taps *taps, size_t i, bool wide) {
  const int16_t *low = taps->low + i * taps->n_row, *high = wide ? taps->high + i * taps->n_row : low;
  const int32x4_t shift = vdupq_n_s32(-taps->bits), half = vdupq_n_s32((int32_t)((1u << taps->bits) >> 1));
  int32x4_t low_sum[4], high_sum[4];
  for (int j = 0; j < 4; j++) {
    low_sum[j] = half;
    high_sum[j] = vdupq_n_s32(0);
  }
  for (int t = 0; t < taps->count[i]; t++, in += in_stride) {
    uint8x16_t bytes = vld1q_u8(in);
    int16x8_t first = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(bytes)));
    int16x8_t second = vreinterpretq_s16_u16(vmovl_u8(vget_high_u8(bytes)));
    int16x4_t words[4] = {vget_low_s16(first), vget_high_s16(first), vget_low_s16(second), vget_high_s16(second)};
    for (int j = 0; j < 4; j++) {
      low_sum[j] = vmlal_n_s16(low_sum[j], words[j], low[t]);
      if (wide) high_sum[j] = vmlal_n_s16(high_sum[j], words[j], high[t]);
    }
  }
  for (int j = 0; j < 4; j++) low_sum[j] = vshlq_s32(vaddq_s32(low_sum[j], vshlq_n_s32(high_sum[j], 15)), shift);
  int16x8_t first = vcombine_s16(vqmovn_s32(low_sum[0]), vqmovn_s32(low_sum[1]));
  int16x8_t second = vcombine_s16(vqmovn_s32(low_sum[2]), vqmovn_s32(low_sum[3]));
  vst1q_u8(out, vcombine_u8(vqmovun_s16(first), vqmovun_s16(second)));
}

static void resize_down_neon(uint8_t *out, const uint8_t *in, size_t in_stride, size_t n_samples,
                             const struct clipc__taps *taps, size_t i) {
  if (n_samples < 16) {
    pixels_plain_neon().resize_down(out, in, in_stride, n_samples, taps, i);
    return;
  }
  in += (size_t)taps->first[i] * in_stride;
  for (size_t s = 0; s < n_samples; s += 16) {
    size_t at = s + 16 <= n_samples ? s : n_samples - 16; /* the last strip may cover some again */
    if (taps->high)
      resize_strip_neon(out + at, in + at, in_stride, taps, i, true);
    else
      resize_strip_neon(out + at, in + at, in_stride, taps, i, false);
  }
}

/* ---- inverse DCT */

/* Four columns of one pass, the words of row i in c[i], to up[i] (rows 0 to 3) and down[i] (rows 7 to 4), not yet
 * shifted; see idct_columns_ref. */
PIXELS_NEON_INLINE void idct_four_neon(int32x4_t up[4], int32x4_t down[4], const int16x4_t c[8]) {
  int16x4_t s3 = vadd_s16(c[7], c[3]), s4 = vadd_s16(c[5], c[1]);
  int32x4_t t0 = vshll_n_s16(vadd_s16(c[0], c[4]), 13), t1 = vshll_n_s16(vsub_s16(c[0], c[4]), 13);
  int32x4_t t2 = vmlal_n_s16(vmull_n_s16(c[2], 4433), c[6], 4433 - 15137);
  int32x4_t t3 = vmlal_n_s16(vmull_n_s16(c[2], 4433 + 6270), c[6], 4433);
  int32x4_t z3 = vmlal_n_s16(vmull_n_s16(s3, 9633 - 16069), s4, 9633);
  int32x4_t z4 = vmlal_n_s16(vmull_n_s16(s3, 9633), s4, 9633 - 3196);
  int32x4_t o[4] = {vmlal_n_s16(vmlal_n_s16(z4, c[1], 12299 - 7373), c[7], -7373),
                    vmlal_n_s16(vmlal_n_s16(z3, c[3], 25172 - 20995), c[5], -20995),
                    vmlal_n_s16(vmlal_n_s16(z4, c[5], 16819 - 20995), c[3], -20995),
                    vmlal_n_s16(vmlal_n_s16(z3, c[7], 2446 - 7373), c[1], -7373)};
  int32x4_t e[4] = {vaddq_s32(t0, t3), vaddq_s32(t1, t2), vsubq_s32(t1, t2), vsubq_s32(t0, t3)};
  for (int i = 0; i < 4; i++) {
    up[i] = vaddq_s32(e[i], o[i]);
    down[i] = vsubq_s32(e[i], o[i]);
  }
}

PIXELS_NEON_INLINE void idct_columns_neon(int16x8_t v[8], bool first_pass) {
  int16x4_t low[8], high[8];
  for (int i = 0; i < 8; i++) {
    low[i] = vget_low_s16(v[i]);
    high[i] = vget_high_s16(v[i]);
  }
  int32x4_t rows[2][8]; /* of the low and the high columns */
  for (int half = 0; half < 2; half++) {
    int32x4_t down[4];
    idct_four_neon(rows[half], down, half ? high : low);
    for (int i = 0; i < 4; i++) rows[half][7 - i] = down[i];
  }
  for (int i = 0; i < 8; i++) {
    if (first_pass)
      v[i] = vcombine_s16(vqrshrn_n_s32(rows[0][i], 13 - 2), vqrshrn_n_s32(rows[1][i], 13 - 2));
    else
      v[i] = vcombine_s16(vmovn_s32(vrshrq_n_s32(rows[0][i], 18)), vmovn_s32(vrshrq_n_s32(rows[1][i], 18)));
  }
}

PIXELS_NEON_INLINE void idct_transpose_neon(int16x8_t v[8]) {
  int32x4_t a[8], b[8];
  for (int i = 0; i < 4; i++) {
    a[2 * i] = vreinterpretq_s32_s16(vtrn1q_s16(v[2 * i], v[2 * i + 1]));
    a[2 * i + 1] = vreinterpretq_s32_s16(vtrn2q_s16(v[2 * i], v[2 * i + 1]));
  }
  for (int i = 0; i < 2; i++)
    for (int j = 0; j < 2; j++) {
      b[4 * i + j] = vtrn1q_s32(a[4 * i + j], a[4 * i + 2 + j]);
      b[4 * i + 2 + j] = vtrn2q_s32(a[4 * i + j], a[4 * i + 2 + j]);
    }
  for (int i = 0; i < 4; i++) {
    int64x2_t top = vreinterpretq_s64_s32(b[i]), bottom = vreinterpretq_s64_s32(b[4 + i]);
    v[i] = vreinterpretq_s16_s64(vtrn1q_s64(top, bottom));
    v[4 + i] = vreinterpretq_s16_s64(vtrn2q_s64(top, bottom));
  }
}

static void idct_neon(uint8_t *out, size_t stride, const int16_t *blocks, size_t n) {
  for (size_t i = 0; i < n; i++, out += 8, blocks += 64) {
    int16x8_t v[8];
    for (int y = 0; y < 8; y++) v[y] = vld1q_s16(blocks + 8 * y);
    int16x8_t some = v[1];
    for (int y = 2; y < 8; y++) some = vorrq_s16(some, v[y]);
    if (vmaxvq_u16(vreinterpretq_u16_s16(some)) == 0) { /* the columns are constant, and wrap */
      v[0] = vshlq_n_s16(v[0], 2);
      for (int y = 1; y < 8; y++) v[y] = v[0];
    } else {
      idct_columns_neon(v, true);
    }
    idct_transpose_neon(v);
    idct_columns_neon(v, false);
    idct_transpose_neon(v);
    for (int y = 0; y < 8; y++) {
      uint8x8_t row = vreinterpret_u8_s8(vqmovn_s16(v[y]));
      vst1_u8(out + (size_t)y * stride, vadd_u8(row, vdup_n_u8(128)));
    }
  }
}

/* ---- upsampling */

/* 3 a + b */
PIXELS_NEON_INLINE uint16x8_t upsample_weigh_neon(uint8x8_t a, uint8x8_t b) {
  return vaddw_u8(vmull_u8(a, vdup_n_u8(3)), b);
}

/* The ends, which lack a neighbour; both walk over the rest eight at a time, some twice at the end. */
static void upsample_h2_neon(uint8_t *out, const uint8_t *in, size_t n) {
  if (n < 10) {
    pixels_plain_neon().upsample_h2(out, in, n);
    return;
  }
  for (size_t i = 1;; i += 8) {
    if (i + 9 > n) i = n - 9;
    uint8x8_t here = vld1_u8(in + i);
    uint16x8_t before = upsample_weigh_neon(here, vld1_u8(in + i - 1));
    uint16x8_t after = upsample_weigh_neon(here, vld1_u8(in + i + 1));
    uint8x8x2_t pairs = {{vshrn_n_u16(vaddq_u16(before, vdupq_n_u16(1)), 2), vrshrn_n_u16(after, 2)}};
    vst2_u8(out + 2 * i, pairs);
    if (i == n - 9) break;
  }
  out[0] = in[0];
  out[1] = (uint8_t)((3 * in[0] + in[1] + 2) >> 2);
  out[2 * n - 2] = (uint8_t)((3 * in[n - 1] + in[n - 2] + 1) >> 2);
  out[2 * n - 1] = in[n - 1];
}

static void upsample_h2v2_neon(uint8_t *out, const uint8_t *near, const uint8_t *far, size_t n) {
  if (n < 10) {
    pixels_plain_neon().upsample_h2v2(out, near, far, n);
    return;
  }
  for (size_t i = 1;; i += 8) {
    if (i + 9 > n) i = n - 9;
    uint16x8_t before = upsample_weigh_neon(vld1_u8(near + i - 1), vld1_u8(far + i - 1));
    uint16x8_t here = upsample_weigh_neon(vld1_u8(near + i), vld1_u8(far + i));
    uint16x8_t after = upsample_weigh_neon(vld1_u8(near + i + 1), vld1_u8(far + i + 1));
    uint16x8_t thrice = vmulq_n_u16(here, 3);
    uint8x8x2_t pairs = {{vrshrn_n_u16(vaddq_u16(thrice, before), 4),
                          vshrn_n_u16(vaddq_u16(vaddq_u16(thrice, after), vdupq_n_u16(7)), 4)}};
    vst2_u8(out + 2 * i, pairs);
    if (i == n - 9) break;
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
PIXELS_NEON_INLINE uint8x8x3_t ycc_eight_neon(uint8x8_t luma, uint8x8_t blue, uint8x8_t red) {
  int16x8_t y = vreinterpretq_s16_u16(vmovl_u8(luma));
  int16x8_t cb = vreinterpretq_s16_u16(vsubl_u8(blue, vdup_n_u8(128)));
  int16x8_t cr = vreinterpretq_s16_u16(vsubl_u8(red, vdup_n_u8(128)));
  int32x4_t first = vmlal_n_s16(vmull_n_s16(vget_low_s16(cb), -22554), vget_low_s16(cr), 18734);
  int32x4_t second = vmlal_n_s16(vmull_n_s16(vget_high_s16(cb), -22554), vget_high_s16(cr), 18734);
  int16x8_t dg = vcombine_s16(vrshrn_n_s32(first, 16), vrshrn_n_s32(second, 16));
  int16x8_t r = vaddq_s16(vaddq_s16(y, cr), vqrdmulhq_n_s16(cr, 13173));
  int16x8_t g = vaddq_s16(vsubq_s16(y, cr), dg);
  int16x8_t b = vaddq_s16(vaddq_s16(y, vaddq_s16(cb, cb)), vqrdmulhq_n_s16(cb, -7471));
  uint8x8x3_t rgb = {{vqmovun_s16(r), vqmovun_s16(g), vqmovun_s16(b)}};
  return rgb;
}

static void ycc_to_rgb_neon(uint8_t *out, const uint8_t *luma, const uint8_t *blue, const uint8_t *red, size_t n) {
  if (n < 8) {
    pixels_plain_neon().ycc_to_rgb(out, luma, blue, red, n);
    return;
  }
  for (size_t s = 0; s < n; s += 8) {
    size_t i = s + 8 <= n ? s : n - 8;
    vst3_u8(out + 3 * i, ycc_eight_neon(vld1_u8(luma + i), vld1_u8(blue + i), vld1_u8(red + i)));
  }
}

void clipc__pixel_kernels_neon(struct clipc__pixel_kernels *kernels) {
  *kernels = (struct clipc__pixel_kernels){resize_across_neon, resize_down_neon,   idct_neon,
                                           upsample_h2_neon,   upsample_h2v2_neon, ycc_to_rgb_neon};
}

#undef PIXELS_NEON_INLINE

#else
void clipc__pixel_kernels_neon(struct clipc__pixel_kernels *kernels) { (void)kernels; }
#endif
