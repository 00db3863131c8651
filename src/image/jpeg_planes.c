/* JPEG: coefficients to samples to pixels. In: planes of blocks. Out: L, RGB or CMYK.
 * The three stages that decide the last bit are written after what libjpeg-turbo computes with its default
 * settings (and its SIMD code, which agrees): the "islow" inverse DCT (jidctint), "fancy" upsampling
 * (jdsample) and colour conversion in 16-bit fixed point (jdcolor). */
#include "image/jpeg.h"

#include <string.h>

/* ---- planes */

clipc_status clipc__jpeg_frame_make(struct clipc__jpeg_frame *frame, const struct clipc__source *source) {
  frame->h_max = frame->v_max = 1;
  for (int c = 0; c < frame->n_components; c++) {
    if (frame->components[c].h > frame->h_max) frame->h_max = frame->components[c].h;
    if (frame->components[c].v > frame->v_max) frame->v_max = frame->components[c].v;
  }
  frame->mcus_x = (frame->width + 8 * frame->h_max - 1) / (8 * frame->h_max);
  frame->mcus_y = (frame->height + 8 * frame->v_max - 1) / (8 * frame->v_max);
  for (int c = 0; c < frame->n_components; c++) {
    struct clipc__jpeg_component *component = &frame->components[c];
    if (frame->h_max % component->h != 0 || frame->v_max % component->v != 0)
      return clipc__source_fail(source, CLIPC_E_UNSUPPORTED,
                                "is a JPEG with sampling factors %dx%d of %dx%d, no whole ratio", component->h,
                                component->v, frame->h_max, frame->v_max);
    component->width = (frame->width * component->h + frame->h_max - 1) / frame->h_max;
    component->height = (frame->height * component->v + frame->v_max - 1) / frame->v_max;
    component->stride = (size_t)frame->mcus_x * (size_t)component->h * 8;
    component->n_rows = (size_t)frame->mcus_y * (size_t)component->v * 8;
    size_t n_samples;
    if (!clipc__multiply(&n_samples, component->stride, component->n_rows)) return clipc__source_no_memory(source);
    component->plane = clipc__alloc(source->allocator, n_samples, 1);
    if (component->plane == NULL) return clipc__source_no_memory(source);
    memset(component->plane, 128, n_samples);
    if (!frame->progressive) continue;
    component->coefficients = clipc__alloc_zeroed(source->allocator, n_samples, sizeof(int16_t));
    if (component->coefficients == NULL) return clipc__source_no_memory(source);
  }
  return CLIPC_OK;
}

void clipc__jpeg_frame_free(struct clipc__jpeg_frame *frame, const clipc_allocator *allocator) {
  for (int c = 0; c < 4; c++) {
    clipc__free(allocator, frame->components[c].plane);
    clipc__free(allocator, frame->components[c].coefficients);
  }
}

/* ---- inverse DCT */

static inline uint8_t jpeg_clamp(int32_t value) { return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value); }

static inline int16_t jpeg_saturate16(int32_t value, int n_shift) {
  value >>= n_shift;
  if (n_shift >= 16) return (int16_t)value; /* fits */
  return (int16_t)(value < -32768 ? -32768 : value > 32767 ? 32767 : value);
}

/* One pass over the eight columns of in [8, 8]. Products are of 16 by 16 bits, which vectorises on any CPU.
 * Sums that libjpeg-turbo's vector code wraps to 16 bits or saturates, where coefficients are absurdly large,
 * are wrapped and saturated here too; the others cannot overflow 32 bits. */
static inline void jpeg_idct_columns(int16_t out[64], const int16_t in[64], int n_shift) {
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
    out[i] = jpeg_saturate16(e0 + o3, n_shift);
    out[56 + i] = jpeg_saturate16(e0 - o3, n_shift);
    out[8 + i] = jpeg_saturate16(e1 + o2, n_shift);
    out[48 + i] = jpeg_saturate16(e1 - o2, n_shift);
    out[16 + i] = jpeg_saturate16(e2 + o1, n_shift);
    out[40 + i] = jpeg_saturate16(e2 - o1, n_shift);
    out[24 + i] = jpeg_saturate16(e3 + o0, n_shift);
    out[32 + i] = jpeg_saturate16(e3 - o0, n_shift);
  }
}

/* Whether coefficients first..63 are all zero; first is a multiple of 4. */
static bool jpeg_is_zero_from(const int16_t block[64], int first) {
  uint64_t some = 0, words[16];
  memcpy(words, block, sizeof words);
  for (int i = first / 4; i < 16; i++) some |= words[i];
  return some == 0;
}

void clipc__jpeg_idct(uint8_t *out, size_t stride, const int16_t block[64]) {
  int16_t a[64], b[64];
  if (jpeg_is_zero_from(block, 8)) { /* the columns are constant */
    if (jpeg_is_zero_from(block, 4) && (block[1] | block[2] | block[3]) == 0) {
      uint8_t value = jpeg_clamp((((int16_t)(block[0] * 4) + 16) >> 5) + 128);
      for (int y = 0; y < 8; y++) memset(out + (size_t)y * stride, value, 8);
      return;
    }
    for (int i = 0; i < 64; i++) a[i] = (int16_t)(block[i / 8] * 4);
  } else {
    jpeg_idct_columns(b, block, 13 - 2);
    for (int y = 0; y < 8; y++)
      for (int x = 0; x < 8; x++) a[x * 8 + y] = b[y * 8 + x];
  }
  jpeg_idct_columns(b, a, 13 + 2 + 3);
  uint8_t samples[64]; /* clamped before they are turned, for the compiler's vectors */
  for (int i = 0; i < 64; i++) {
    int16_t value = (int16_t)(b[i] + 128);
    samples[i] = (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
  }
  for (int y = 0; y < 8; y++)
    for (int x = 0; x < 8; x++) out[(size_t)y * stride + (size_t)x] = samples[x * 8 + y];
}

static void jpeg_finish_progressive(struct clipc__jpeg_component *component) {
  const int16_t *coefficients = component->coefficients;
  for (size_t by = 0; by < component->n_rows; by += 8) {
    for (size_t bx = 0; bx < component->stride; bx += 8, coefficients += 64) {
      int16_t block[64];
      for (int i = 0; i < 64; i++) block[i] = (int16_t)(coefficients[i] * component->quantisers[i]);
      clipc__jpeg_idct(component->plane + by * component->stride + bx, component->stride, block);
    }
  }
}

/* ---- upsampling */

/* Row y of the picture from a component that has half as many columns: out[2 * n]. */
static void jpeg_row_h2(uint8_t *out, const uint8_t *in, int n) {
  out[0] = in[0];
  out[1] = (uint8_t)((3 * in[0] + in[1] + 2) >> 2);
  for (int i = 1; i < n - 1; i++) {
    out[2 * i] = (uint8_t)((3 * in[i] + in[i - 1] + 1) >> 2);
    out[2 * i + 1] = (uint8_t)((3 * in[i] + in[i + 1] + 2) >> 2);
  }
  out[2 * n - 2] = (uint8_t)((3 * in[n - 1] + in[n - 2] + 1) >> 2);
  out[2 * n - 1] = in[n - 1];
}

/* The same from half as many columns and rows; sums [n] is scratch. */
static void jpeg_row_h2v2(uint8_t *out, const uint8_t *near, const uint8_t *far, int n, uint16_t *sums) {
  for (int i = 0; i < n; i++) sums[i] = (uint16_t)(3 * near[i] + far[i]);
  out[0] = (uint8_t)((4 * sums[0] + 8) >> 4);
  out[1] = (uint8_t)((3 * sums[0] + sums[1] + 7) >> 4);
  for (int i = 1; i < n - 1; i++) {
    out[2 * i] = (uint8_t)((3 * sums[i] + sums[i - 1] + 8) >> 4);
    out[2 * i + 1] = (uint8_t)((3 * sums[i] + sums[i + 1] + 7) >> 4);
  }
  out[2 * n - 2] = (uint8_t)((3 * sums[n - 1] + sums[n - 2] + 8) >> 4);
  out[2 * n - 1] = (uint8_t)((4 * sums[n - 1] + 7) >> 4);
}

static void jpeg_row_v2(uint8_t *out, const uint8_t *near, const uint8_t *far, int n, int bias) {
  for (int i = 0; i < n; i++) out[i] = (uint8_t)((3 * near[i] + far[i] + bias) >> 2);
}

static void jpeg_row_repeat(uint8_t *out, const uint8_t *in, int n, int times) {
  for (int i = 0; i < n; i++)
    for (int j = 0; j < times; j++) *out++ = in[i];
}

/* The samples of picture row y: in the plane itself where that has the full size, else in out [2 or more
 * samples for each of the component's]. sums is scratch of the component's width. */
static const uint8_t *jpeg_row(const struct clipc__jpeg_frame *frame, int c, int y, uint8_t *out, uint16_t *sums) {
  const struct clipc__jpeg_component *component = &frame->components[c];
  int h = frame->h_max / component->h, v = frame->v_max / component->v, n = component->width;
  int row = y / v, other = y % v == 0 ? row - 1 : row + 1;
  if (other < 0) other = 0;
  if (other >= component->height) other = component->height - 1;
  const uint8_t *near = component->plane + (size_t)row * component->stride;
  const uint8_t *far = component->plane + (size_t)other * component->stride;
  if (h == 1 && v == 1) return near;
  if (h == 2 && v == 1 && n > 2)
    jpeg_row_h2(out, near, n);
  else if (h == 2 && v == 2 && n > 2)
    jpeg_row_h2v2(out, near, far, n, sums);
  else if (h == 1 && v == 2)
    jpeg_row_v2(out, near, far, n, y % 2 == 0 ? 1 : 2);
  else
    jpeg_row_repeat(out, near, n, h);
  return out;
}

/* ---- colours */

/* R = y + 1.402 cr, G = y - 0.344 cb - 0.714 cr, B = y + 1.772 cb, the factors times 65536 split into a whole
 * and a 16-bit part. Pieces of a row are computed apart and then interleaved, for the compiler's vectors. */
static void jpeg_row_ycc(uint8_t *out, size_t step, const uint8_t *const in[4], int n) {
  enum { PIECE = 256 };
  uint8_t r[PIECE], g[PIECE], b[PIECE];
  for (int from = 0; from < n; from += PIECE) {
    const uint8_t *luma = in[0] + from, *blue = in[1] + from, *red = in[2] + from;
    int n_piece = n - from < PIECE ? n - from : PIECE;
    for (int i = 0; i < n_piece; i++) {
      int16_t y = luma[i], cb = (int16_t)(blue[i] - 128), cr = (int16_t)(red[i] - 128);
      int16_t dr = (int16_t)((cr * 26345 + 32768) >> 16), db = (int16_t)((cb * -14942 + 32768) >> 16);
      int16_t dg = (int16_t)((cb * -22554 + cr * 18734 + 32768) >> 16);
      int16_t vr = (int16_t)(y + cr + dr), vg = (int16_t)(y - cr + dg), vb = (int16_t)(y + 2 * cb + db);
      r[i] = (uint8_t)(vr < 0 ? 0 : vr > 255 ? 255 : vr);
      g[i] = (uint8_t)(vg < 0 ? 0 : vg > 255 ? 255 : vg);
      b[i] = (uint8_t)(vb < 0 ? 0 : vb > 255 ? 255 : vb);
    }
    for (int i = 0; i < n_piece; i++, out += step) {
      out[0] = r[i];
      out[1] = g[i];
      out[2] = b[i];
    }
  }
}

static void jpeg_row_interleave(uint8_t *out, const uint8_t *const *in, int n_bands, size_t step, int n, uint8_t flip) {
  for (int c = 0; c < n_bands; c++)
    for (int i = 0; i < n; i++) out[(size_t)i * step + (size_t)c] = in[c][i] ^ flip;
}

/* Whether the first three components are luma and chroma, by libjpeg's rules. */
static bool jpeg_is_ycc(const struct clipc__jpeg_frame *frame) {
  const struct clipc__jpeg_component *c = frame->components;
  if (frame->n_components == 4) return frame->adobe > 0;
  if (frame->jfif) return true;
  if (frame->adobe >= 0) return frame->adobe != 0;
  return !(c[0].id == 'R' && c[1].id == 'G' && c[2].id == 'B');
}

static void jpeg_row_pixels(uint8_t *out, const struct clipc__jpeg_frame *frame, bool ycc, const uint8_t *const in[4]) {
  int n = frame->width;
  switch (frame->n_components) {
  case 1: memcpy(out, in[0], (size_t)n); break;
  case 3:
    if (ycc)
      jpeg_row_ycc(out, 3, in, n);
    else
      jpeg_row_interleave(out, in, 3, 3, n, 0);
    break;
  default:
    /* Pillow takes every CMYK for Adobe's, which is stored inverted; YCCK gives inverted CMY by itself. */
    if (ycc) {
      jpeg_row_ycc(out, 4, in, n);
      jpeg_row_interleave(out + 3, in + 3, 1, 4, n, 255);
    } else {
      jpeg_row_interleave(out, in, 4, 4, n, 255);
    }
  }
}

clipc_status clipc__jpeg_frame_render(struct clipc__jpeg_frame *frame, struct clipc__picture *out,
                                      const struct clipc__source *source) {
  static const enum clipc__mode modes[5] = {[1] = CLIPC__MODE_L, [3] = CLIPC__MODE_RGB, [4] = CLIPC__MODE_CMYK};
  clipc_status status =
      clipc__source_picture(source, out, modes[frame->n_components], (uint64_t)frame->width, (uint64_t)frame->height);
  if (status != CLIPC_OK) return status;
  size_t row_size = (size_t)frame->mcus_x * (size_t)frame->h_max * 8;
  uint8_t *rows = clipc__alloc(source->allocator, row_size, 4);
  uint16_t *sums = clipc__alloc(source->allocator, row_size, sizeof *sums);
  if (rows == NULL || sums == NULL) {
    clipc__free(source->allocator, rows);
    clipc__free(source->allocator, sums);
    return clipc__source_no_memory(source);
  }
  for (int c = 0; frame->progressive && c < frame->n_components; c++) jpeg_finish_progressive(&frame->components[c]);
  bool ycc = frame->n_components > 1 && jpeg_is_ycc(frame);
  for (int y = 0; y < frame->height; y++) {
    const uint8_t *in[4] = {0};
    for (int c = 0; c < frame->n_components; c++) in[c] = jpeg_row(frame, c, y, rows + (size_t)c * row_size, sums);
    jpeg_row_pixels(out->data + (size_t)y * out->stride_bytes, frame, ycc, in);
  }
  clipc__free(source->allocator, rows);
  clipc__free(source->allocator, sums);
  return CLIPC_OK;
}
