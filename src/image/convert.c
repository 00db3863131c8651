/* A picture turned upright, and a picture of any mode turned into opaque RGB.
 * In: any picture of image.h. Out: the same picture, its pixels replaced in place (new memory, because
 * they may be borrowed). Matches ImageOps.exif_transpose and convert("RGB") of Pillow 13, and
 * convert_to_rgb of transformers 5.23, which lays whatever has transparency on white. */
#include "image/image.h"

#include <string.h>

/* Takes over the pixels of made; the other fields of picture stay as they are. */
static void convert_adopt(struct clipc__picture *picture, struct clipc__picture *made) {
  struct clipc__picture old = *picture;
  picture->mode = made->mode;
  picture->width = made->width;
  picture->height = made->height;
  picture->stride_bytes = made->stride_bytes;
  picture->data = made->data;
  picture->borrowed = false;
  clipc__picture_free(&old);
}

/* ---- orientation */

static void transpose_pixels(uint8_t *out, const uint8_t *from, ptrdiff_t step, int n, size_t size) {
  switch (size) { /* constant sizes, so that each memcpy is a move */
  case 1:
    for (ptrdiff_t i = 0; i < n; i++) out[i] = from[i * step];
    break;
  case 2:
    for (ptrdiff_t i = 0; i < n; i++) memcpy(out + 2 * i, from + i * step, 2);
    break;
  case 3:
    for (ptrdiff_t i = 0; i < n; i++) memcpy(out + 3 * i, from + i * step, 3);
    break;
  default:
    for (ptrdiff_t i = 0; i < n; i++) memcpy(out + 4 * i, from + i * step, 4);
  }
}

clipc_status clipc__picture_transpose(struct clipc__picture *picture, clipc_error *error) {
  int orientation = picture->orientation;
  if (orientation < 2 || orientation > 8) {
    picture->orientation = 1;
    return CLIPC_OK;
  }
  bool turned = orientation >= 5; /* rows become columns */
  bool from_right = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  bool from_bottom = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  size_t size = clipc__mode_bytes(picture->mode), columns = (size_t)picture->width, rows = (size_t)picture->height;
  struct clipc__picture made;
  clipc_status status = clipc__picture_make(&made, picture->mode, turned ? picture->height : picture->width,
                                            turned ? picture->width : picture->height, &picture->allocator, error);
  if (status != CLIPC_OK) return status;

  /* The first pixel of the result in the source, and the way from one to the next in a row and a column. */
  const uint8_t *first =
      picture->data + (from_right ? (columns - 1) * size : 0) + (from_bottom ? (rows - 1) * picture->stride_bytes : 0);
  ptrdiff_t across = from_right ? -(ptrdiff_t)size : (ptrdiff_t)size;
  ptrdiff_t down = from_bottom ? -(ptrdiff_t)picture->stride_bytes : (ptrdiff_t)picture->stride_bytes;
  ptrdiff_t step_x = turned ? down : across, step_y = turned ? across : down;
  enum { TILE = 64 }; /* pixels; a turned picture is read along columns, so stay in the cache */
  for (int x = 0; x < made.width; x += TILE) {
    int n = made.width - x < TILE ? made.width - x : TILE;
    for (int y = 0; y < made.height; y++)
      transpose_pixels(made.data + (size_t)y * made.stride_bytes + (size_t)x * size, first + x * step_x + y * step_y,
                       step_x, n, size);
  }
  convert_adopt(picture, &made);
  picture->orientation = 1;
  return CLIPC_OK;
}

/* ---- colour */

static uint8_t convert_ink(unsigned ink, unsigned not_black) { /* CMYK: 255 - K, less its share of the ink */
  unsigned t = ink * not_black + 128;
  return (uint8_t)(not_black - (((t >> 8) + t) >> 8));
}

static void convert_grey(uint8_t *out, uint8_t grey) { out[0] = out[1] = out[2] = grey; }

/* One row to RGB, whatever says transparency left out. */
static void convert_row(uint8_t *out, const uint8_t *in, const struct clipc__picture *picture) {
  int n = picture->width;
  switch (picture->mode) {
  case CLIPC__MODE_1:
    for (int i = 0; i < n; i++) convert_grey(out + 3 * i, in[i] ? 255 : 0);
    break;
  case CLIPC__MODE_L:
    for (int i = 0; i < n; i++) convert_grey(out + 3 * i, in[i]);
    break;
  case CLIPC__MODE_LA:
    for (int i = 0; i < n; i++) convert_grey(out + 3 * i, in[2 * i]);
    break;
  case CLIPC__MODE_P:
    for (int i = 0; i < n; i++) memcpy(out + 3 * i, picture->palette[in[i]], 3);
    break;
  case CLIPC__MODE_RGB: memcpy(out, in, 3 * (size_t)n); break;
  case CLIPC__MODE_RGBA:
    for (int i = 0; i < n; i++) memcpy(out + 3 * i, in + 4 * i, 3);
    break;
  case CLIPC__MODE_CMYK:
    for (int i = 0; i < n; i++)
      for (int c = 0; c < 3; c++) out[3 * i + c] = convert_ink(in[4 * i + c], 255u - in[4 * i + 3]);
    break;
  case CLIPC__MODE_I16: /* clipped, not scaled */
    for (int i = 0; i < n; i++) {
      uint16_t value;
      memcpy(&value, in + 2 * i, sizeof value);
      convert_grey(out + 3 * i, value > 255 ? 255 : (uint8_t)value);
    }
    break;
  case CLIPC__MODE_I:
    for (int i = 0; i < n; i++) {
      int32_t value;
      memcpy(&value, in + 4 * i, sizeof value);
      convert_grey(out + 3 * i, value > 255 ? 255 : value < 0 ? 0 : (uint8_t)value);
    }
    break;
  }
}

static void convert_blend(uint8_t *out, unsigned alpha) { /* over white */
  for (int c = 0; c < 3; c++) out[c] = (uint8_t)((out[c] * alpha + 255 * (255 - alpha) + 127) / 255);
}

/* Lays a row that convert_row wrote on white by the transparency of its source row. The key is compared
 * as Pillow does: its low byte, with the pixel after it has become RGB, even for 16 bit. */
static void convert_row_on_white(uint8_t *out, const uint8_t *in, const struct clipc__picture *picture) {
  int n = picture->width;
  if (picture->mode == CLIPC__MODE_LA) {
    for (int i = 0; i < n; i++) convert_blend(out + 3 * i, in[2 * i + 1]);
  } else if (picture->mode == CLIPC__MODE_RGBA) {
    for (int i = 0; i < n; i++) convert_blend(out + 3 * i, in[4 * i + 3]);
  } else if (picture->mode == CLIPC__MODE_P && picture->transparency == CLIPC__PALETTE_ALPHA) {
    for (int i = 0; i < n; i++) convert_blend(out + 3 * i, picture->palette[in[i]][3]);
  } else if (picture->transparency == CLIPC__COLOR_KEY) {
    bool grey = picture->mode != CLIPC__MODE_RGB;
    uint8_t key[3];
    for (int c = 0; c < 3; c++) key[c] = (uint8_t)picture->key[grey ? 0 : c];
    for (int i = 0; i < n; i++)
      if (memcmp(out + 3 * i, key, 3) == 0) memset(out + 3 * i, 255, 3);
  }
}

clipc_status clipc__picture_to_rgb(struct clipc__picture *picture, clipc_alpha alpha, clipc_error *error) {
  bool on_white = alpha == CLIPC_ALPHA_WHITE;
  if (picture->mode != CLIPC__MODE_RGB || (on_white && picture->transparency == CLIPC__COLOR_KEY)) {
    struct clipc__picture made;
    clipc_status status =
        clipc__picture_make(&made, CLIPC__MODE_RGB, picture->width, picture->height, &picture->allocator, error);
    if (status != CLIPC_OK) return status;
    for (int y = 0; y < picture->height; y++) {
      uint8_t *out = made.data + (size_t)y * made.stride_bytes;
      const uint8_t *in = picture->data + (size_t)y * picture->stride_bytes;
      convert_row(out, in, picture);
      if (on_white) convert_row_on_white(out, in, picture);
    }
    convert_adopt(picture, &made);
  }
  picture->transparency = CLIPC__OPAQUE;
  return CLIPC_OK;
}
