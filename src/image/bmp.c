/* BMP: Windows headers of every size and OS/2's, palettes, bit fields, RLE4 and RLE8.
 * In: an untrusted file. Out: mode P, L or 1 (palettes that are a grey ramp), RGB, or RGBA (bit fields with
 * alpha), as Pillow 13 opens it; the same layouts of bit fields, and no others, are read. */
#include "image/decode.h"

#include <string.h>

enum { BMP_RAW = 0, BMP_RLE8 = 1, BMP_RLE4 = 2, BMP_BITFIELDS = 3 };

/* How a pixel of more than 8 bits is stored. */
struct bmp_layout {
  int bits;
  uint32_t masks[4];              /* red, green, blue, alpha */
  int8_t red, green, blue, alpha; /* byte of each; -1: none; 16 bits: bits of green in green */
};

static const struct bmp_layout bmp_layouts[] = {
    {32, {0xFF0000, 0xFF00, 0xFF, 0}, 2, 1, 0, -1},         {32, {0xFF000000, 0xFF0000, 0xFF00, 0}, 3, 2, 1, -1},
    {32, {0xFF000000, 0xFF00, 0xFF, 0}, 3, 1, 0, -1},       {32, {0xFF000000, 0xFF0000, 0xFF00, 0xFF}, 3, 2, 1, 0},
    {32, {0xFF, 0xFF00, 0xFF0000, 0xFF000000}, 0, 1, 2, 3}, {32, {0xFF0000, 0xFF00, 0xFF, 0xFF000000}, 2, 1, 0, 3},
    {32, {0xFF000000, 0xFF00, 0xFF, 0xFF0000}, 3, 1, 0, 2}, {32, {0, 0, 0, 0}, 2, 1, 0, 3},
    {24, {0xFF0000, 0xFF00, 0xFF, 0}, 2, 1, 0, -1},         {16, {0xF800, 0x7E0, 0x1F, 0}, -1, 6, -1, -1},
    {16, {0x7C00, 0x3E0, 0x1F, 0}, -1, 5, -1, -1},
};

struct bmp_file {
  const struct clipc__source *source;
  uint32_t width, height, bits, compression, n_colours, header_size;
  bool top_down;
  size_t at; /* behind what was read */
  size_t offset;
  const struct bmp_layout *layout; /* more than 8 bits */
  const uint8_t *palette;
  size_t n_palette_bytes, entry_bytes;
  enum clipc__mode mode;
};

static clipc_status bmp_unsupported(const struct bmp_file *bmp, const char *what, uint32_t value) {
  return clipc__source_fail(bmp->source, CLIPC_E_UNSUPPORTED, "is a BMP with %s %u, which is not read", what, value);
}

static clipc_status bmp_truncated(const struct bmp_file *bmp) {
  return clipc__source_fail(bmp->source, CLIPC_E_FORMAT, "BMP is truncated");
}

static clipc_status bmp_find_layout(struct bmp_file *bmp, const uint32_t masks[4]) {
  size_t n_masks = bmp->bits == 32 ? 4 : 3;
  for (size_t i = 0; i < sizeof bmp_layouts / sizeof *bmp_layouts; i++) {
    bmp->layout = &bmp_layouts[i];
    if (bmp->layout->bits == (int)bmp->bits && memcmp(bmp->layout->masks, masks, n_masks * sizeof *masks) == 0)
      return CLIPC_OK;
  }
  return clipc__source_fail(bmp->source, CLIPC_E_UNSUPPORTED,
                            "is a BMP with bit fields %x, %x, %x, %x, which are not read", masks[0], masks[1], masks[2],
                            masks[3]);
}

/* The bit fields: in the header from its 40th byte, or behind a header of 40. */
static clipc_status bmp_read_fields(struct bmp_file *bmp) {
  uint32_t masks[4] = {0xFF0000, 0xFF00, 0xFF, 0};
  if (bmp->compression == BMP_BITFIELDS) {
    const uint8_t *p = bmp->source->bytes + 14 + 40;
    if (bmp->header_size == 40) {
      if (bmp->source->n_bytes < bmp->at + 12) return bmp_truncated(bmp);
      bmp->at += 12;
    }
    for (int i = 0; i < 3; i++) masks[i] = clipc__le32(p + 4 * i);
    masks[3] = bmp->header_size >= 56 ? clipc__le32(p + 12) : 0;
  } else if (bmp->bits == 16) {
    memcpy(masks, bmp_layouts[sizeof bmp_layouts / sizeof *bmp_layouts - 1].masks, sizeof masks);
  }
  return bmp_find_layout(bmp, masks);
}

static clipc_status bmp_read_header(struct bmp_file *bmp) {
  const struct clipc__source *source = bmp->source;
  const uint8_t *p = source->bytes;
  if (source->n_bytes < 18) return bmp_truncated(bmp);
  uint32_t size = bmp->header_size = clipc__le32(p + 14);
  bmp->offset = clipc__le32(p + 10);
  if (size != 12 && size != 40 && size != 52 && size != 56 && size != 64 && size != 108 && size != 124)
    return bmp_unsupported(bmp, "a header of size", size);
  bmp->at = 14 + (size_t)size;
  if (source->n_bytes < bmp->at) return bmp_truncated(bmp);
  if (size == 12) {
    bmp->width = clipc__le16(p + 18);
    bmp->height = clipc__le16(p + 20);
    bmp->bits = clipc__le16(p + 24);
    bmp->entry_bytes = 3;
  } else {
    bmp->top_down = p[25] == 0xFF;
    bmp->width = clipc__le32(p + 18);
    bmp->height = bmp->top_down ? 0 - clipc__le32(p + 22) : clipc__le32(p + 22);
    bmp->bits = clipc__le16(p + 28);
    bmp->compression = clipc__le32(p + 30);
    bmp->n_colours = clipc__le32(p + 46);
    bmp->entry_bytes = 4;
  }
  uint32_t bits = bmp->bits;
  if (bits != 1 && bits != 4 && bits != 8 && bits != 16 && bits != 24 && bits != 32)
    return bmp_unsupported(bmp, "bits per pixel of", bits);
  if (bmp->compression > (bits <= 8 ? BMP_RLE4 : BMP_BITFIELDS) ||
      (bits > 8 && (bmp->compression == BMP_RLE8 || bmp->compression == BMP_RLE4)))
    return bmp_unsupported(bmp, "compression", bmp->compression);
  if (bmp->n_colours == 0 && bits <= 8) bmp->n_colours = 1u << bits;
  return clipc__source_size(source, bmp->width, bmp->height);
}

/* Takes the palette; one that is the ramp 0, 1, 2..., or black and white, makes the picture L or 1. */
static clipc_status bmp_read_palette(struct bmp_file *bmp) {
  const struct clipc__source *source = bmp->source;
  size_t n = bmp->n_colours, left = source->n_bytes - bmp->at;
  if (n > 65536) return clipc__source_fail(source, CLIPC_E_FORMAT, "BMP palette has %zu entries", n);
  if (bmp->offset == 14 + (size_t)bmp->header_size) bmp->offset += bmp->entry_bytes * n;
  bmp->palette = source->bytes + bmp->at;
  bmp->n_palette_bytes = bmp->entry_bytes * n < left ? bmp->entry_bytes * n : left;
  bmp->at += bmp->n_palette_bytes;
  bool grey = true;
  for (size_t i = 0; i < n && grey; i++) {
    uint8_t value = (uint8_t)(n == 2 ? i * 255 : i);
    const uint8_t *entry = bmp->palette + i * bmp->entry_bytes;
    grey = (i + 1) * bmp->entry_bytes <= bmp->n_palette_bytes && entry[0] == value && entry[1] == value &&
           entry[2] == value;
  }
  bmp->mode = !grey ? CLIPC__MODE_P : n <= 2 ? CLIPC__MODE_1 : CLIPC__MODE_L;
  if (!grey && bmp->n_palette_bytes > 256 * bmp->entry_bytes)
    return clipc__source_fail(source, CLIPC_E_FORMAT, "BMP palette has %zu entries", n);
  return CLIPC_OK;
}

/* ---- pixels */

static void bmp_unpack_colours(const struct bmp_file *bmp, uint8_t *out, const uint8_t *in) {
  const struct bmp_layout *layout = bmp->layout;
  if (bmp->bits == 16) {
    uint32_t n_green = (uint32_t)layout->green, most = (1u << n_green) - 1;
    for (uint32_t x = 0; x < bmp->width; x++, in += 2, out += 3) {
      uint32_t pixel = clipc__le16(in);
      out[0] = (uint8_t)((pixel >> (5 + n_green) & 31) * 255 / 31);
      out[1] = (uint8_t)((pixel >> 5 & most) * 255 / most);
      out[2] = (uint8_t)((pixel & 31) * 255 / 31);
    }
    return;
  }
  size_t step = bmp->bits / 8;
  for (uint32_t x = 0; x < bmp->width; x++, in += step) {
    *out++ = in[layout->red];
    *out++ = in[layout->green];
    *out++ = in[layout->blue];
    if (layout->alpha >= 0) *out++ = in[layout->alpha];
  }
}

/* n_bits: of a stored pixel. */
static void bmp_unpack_indices(const struct bmp_file *bmp, uint8_t *out, const uint8_t *in, uint32_t n_bits) {
  uint32_t mask = (1u << n_bits) - 1;
  for (uint32_t x = 0; x < bmp->width; x++) {
    uint32_t bit = x % (8 / n_bits) * n_bits, value = in[x / (8 / n_bits)] >> (8 - n_bits - bit) & mask;
    out[x] = (uint8_t)(bmp->mode == CLIPC__MODE_1 && value ? 255 : value);
  }
}

static uint8_t *bmp_row(const struct bmp_file *bmp, struct clipc__picture *out, uint32_t y) {
  return out->data + (size_t)(bmp->top_down ? y : bmp->height - 1 - y) * out->stride_bytes;
}

static clipc_status bmp_read_raw(const struct bmp_file *bmp, struct clipc__picture *out) {
  /* Pillow reads grey palettes as plain grey, so each pixel takes 8 bits, or 1, whatever the header says. */
  uint32_t n_bits = bmp->mode == CLIPC__MODE_1 ? 1 : bmp->mode == CLIPC__MODE_L ? 8 : bmp->bits;
  size_t stride = ((size_t)bmp->width * bmp->bits + 31) / 32 * 4, row_bytes = ((size_t)bmp->width * n_bits + 7) / 8;
  if (stride < row_bytes)
    return clipc__source_fail(bmp->source, CLIPC_E_FORMAT, "BMP has a grey palette with too few bits");
  size_t n = bmp->source->n_bytes, offset = bmp->offset ? bmp->offset : bmp->at;
  if (offset > n || row_bytes > n - offset || (n - offset - row_bytes) / stride < bmp->height - 1)
    return bmp_truncated(bmp);
  const uint8_t *in = bmp->source->bytes + offset;
  for (uint32_t y = 0; y < bmp->height; y++, in += stride) {
    if (bmp->bits > 8)
      bmp_unpack_colours(bmp, bmp_row(bmp, out, y), in);
    else
      bmp_unpack_indices(bmp, bmp_row(bmp, out, y), in, n_bits);
  }
  return CLIPC_OK;
}

struct bmp_run { /* the pixels of an RLE picture, in one line */
  const struct bmp_file *bmp;
  struct clipc__picture *picture;
  size_t n, most;
};

static void bmp_put(struct bmp_run *run, uint8_t value) {
  if (run->n == run->most) return;
  uint32_t width = run->bmp->width;
  uint8_t *row = bmp_row(run->bmp, run->picture, (uint32_t)(run->n / width));
  row[run->n++ % width] = run->bmp->mode == CLIPC__MODE_1 && value ? 255 : value;
}

/* Pixels as they stand; false where the file ends. */
static bool bmp_put_absolute(struct bmp_run *run, size_t *at, uint32_t count, bool nibbles) {
  const struct clipc__source *source = run->bmp->source;
  size_t n = run->most - run->n < count ? run->most - run->n : count, n_bytes = nibbles ? (n + 1) / 2 : n;
  if (source->n_bytes - *at < n_bytes) return false;
  const uint8_t *p = source->bytes + *at;
  for (size_t i = 0; i < n; i++) bmp_put(run, nibbles ? (i % 2 ? p[i / 2] & 15 : p[i / 2] >> 4) : p[i]);
  *at += n_bytes;
  *at += *at % 2;
  return true;
}

/* Pillow's rules: pixels follow one another whatever the row, a row's length only bounds runs; what the
 * stream leaves out at the end is an error. */
static clipc_status bmp_read_rle(const struct bmp_file *bmp, struct clipc__picture *out) {
  const uint8_t *bytes = bmp->source->bytes;
  size_t at = bmp->offset ? bmp->offset : bmp->at, n_file = bmp->source->n_bytes, x = 0;
  struct bmp_run run = {.bmp = bmp, .picture = out, .most = (size_t)bmp->width * bmp->height};
  bool nibbles = bmp->compression == BMP_RLE4;
  while (run.n < run.most && at < n_file && n_file - at >= 2) {
    uint32_t count = bytes[at], value = bytes[at + 1];
    at += 2;
    if (count > 0) {
      size_t room = bmp->width > x ? bmp->width - x : 0, n = count < room ? count : room;
      for (size_t i = 0; i < n; i++) bmp_put(&run, (uint8_t)(!nibbles ? value : i % 2 ? value & 15 : value >> 4));
      x += n;
    } else if (value == 0) {
      while (run.n % bmp->width != 0) bmp_put(&run, 0);
      x = 0;
    } else if (value == 1) {
      break;
    } else if (value == 2) {
      if (n_file - at < 2) break;
      size_t n = bytes[at] + (size_t)bytes[at + 1] * bmp->width;
      for (at += 2; n > 0 && run.n < run.most; n--) bmp_put(&run, 0);
      x = run.n % bmp->width;
    } else {
      if (!bmp_put_absolute(&run, &at, value, nibbles)) break;
      x += value;
    }
  }
  return run.n == run.most ? CLIPC_OK : bmp_truncated(bmp);
}

clipc_status clipc__bmp_decode(struct clipc__picture *out, const struct clipc__source *source) {
  struct bmp_file bmp = {.source = source};
  clipc_status status = bmp_read_header(&bmp);
  if (status == CLIPC_OK) status = bmp.bits <= 8 ? bmp_read_palette(&bmp) : bmp_read_fields(&bmp);
  if (status != CLIPC_OK) return status;
  if (bmp.bits > 8) bmp.mode = bmp.layout->alpha >= 0 ? CLIPC__MODE_RGBA : CLIPC__MODE_RGB;
  status = clipc__source_picture(source, out, bmp.mode, bmp.width, bmp.height);
  if (status != CLIPC_OK) return status;
  bool rle = bmp.compression == BMP_RLE8 || bmp.compression == BMP_RLE4;
  status = rle ? bmp_read_rle(&bmp, out) : bmp_read_raw(&bmp, out);
  if (status == CLIPC_OK && bmp.mode == CLIPC__MODE_P) {
    out->n_palette = (int)(bmp.n_palette_bytes / bmp.entry_bytes);
    for (int i = 0; i < out->n_palette; i++)
      for (int c = 0; c < 3; c++) out->palette[i][c] = bmp.palette[(size_t)i * bmp.entry_bytes + 2 - (size_t)c];
  }
  return status;
}
