/* PNG: chunks, transparency and palettes; rows in png_rows.c's terms below, DEFLATE from stb.h.
 * In: an untrusted file. Out: mode 1, L, LA, P, RGB, RGBA or I16 as Pillow 13 opens it: 16-bit colours keep
 * their high byte, 2- and 4-bit grey is stretched, the first picture of an animation is taken.
 * Pillow's strictness is followed: checksums count before the data, inside it only zlib's does; a stream may
 * end early, but only where a row ends; chunks behind the data must be whole, and may still say tRNS. */
#include "image/decode.h"
#include "image/stb.h"

#include <string.h>

struct png_file {
  const struct clipc__source *source;
  uint32_t width, height;
  int depth, colour, n_bits; /* n_bits: per pixel */
  bool interlaced, has_header, animated;
  uint8_t palette[768];
  size_t n_palette_bytes;
  uint8_t alphas[256];
  int n_alphas; /* -1: no tRNS */
  bool has_key;
  uint16_t key[3];
  int orientation;
};

struct png_chunk {
  const uint8_t *name, *data;
  size_t n, next; /* next: where the following chunk begins */
};

static clipc_status png_fail(const struct png_file *png, const char *sentence) {
  return clipc__source_fail(png->source, CLIPC_E_FORMAT, "%s", sentence);
}

static uint32_t png_crc(const uint8_t *bytes, size_t n) {
  static const uint32_t nibbles[16] = {0x00000000, 0x1DB71064, 0x3B6E20C8, 0x26D930AC, 0x76DC4190, 0x6B6B51F4,
                                       0x4DB26158, 0x5005713C, 0xEDB88320, 0xF00F9344, 0xD6D6A3E8, 0xCB61B38C,
                                       0x9B64C2B0, 0x86D3D2D4, 0xA00AE278, 0xBDBDF21C};
  uint32_t crc = 0xFFFFFFFF;
  for (size_t i = 0; i < n; i++) {
    crc = crc >> 4 ^ nibbles[(crc ^ bytes[i]) & 15];
    crc = crc >> 4 ^ nibbles[(crc ^ (uint32_t)bytes[i] >> 4) & 15];
  }
  return ~crc;
}

static bool png_is(const struct png_chunk *chunk, const char *name) { return memcmp(chunk->name, name, 4) == 0; }

static bool png_is_word(const uint8_t *name) {
  for (int i = 0; i < 4; i++) {
    uint8_t c = name[i], lower = c | 32;
    if (!((lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') || c == '_')) return false;
  }
  return true;
}

/* The chunk at at; false when there is no whole name there. data may be cut short: n says what the chunk
 * claims, next is beyond the file then. */
static bool png_chunk_at(const struct png_file *png, size_t at, struct png_chunk *chunk) {
  const struct clipc__source *source = png->source;
  if (source->n_bytes < 8 || at > source->n_bytes - 8) return false;
  chunk->n = clipc__be32(source->bytes + at);
  chunk->name = source->bytes + at + 4;
  chunk->data = source->bytes + at + 8;
  chunk->next = at + 12 + chunk->n;
  return true;
}

/* ---- chunks */

static clipc_status png_read_header(struct png_file *png, const struct png_chunk *chunk) {
  static const uint8_t n_bands[7] = {[0] = 1, [2] = 3, [3] = 1, [4] = 2, [6] = 4};
  const uint8_t *p = chunk->data;
  if (chunk->n < 13) return png_fail(png, "PNG header is cut short");
  png->width = clipc__be32(p);
  png->height = clipc__be32(p + 4);
  png->depth = p[8];
  png->colour = p[9];
  png->interlaced = p[12] != 0;
  bool power = png->depth == 1 || png->depth == 2 || png->depth == 4 || png->depth == 8 || png->depth == 16;
  bool known = png->colour <= 6 && n_bands[png->colour] > 0 && power;
  if (!known || (png->depth == 16 && png->colour == 3) || (png->depth < 8 && png->colour != 0 && png->colour != 3))
    return clipc__source_fail(png->source, CLIPC_E_FORMAT, "PNG has colour type %d with %d bits, which does not exist",
                              png->colour, png->depth);
  if (p[11] != 0) return png_fail(png, "PNG has an unknown filter method");
  png->n_bits = png->depth * n_bands[png->colour];
  png->has_header = true;
  return clipc__source_size(png->source, png->width, png->height);
}

/* Pillow keeps a single transparent entry, all others opaque, as its index, and takes alphas as they come
 * otherwise. The pattern it uses lets a last byte 0x0A pass for the end of a line. */
static void png_read_alphas(struct png_file *png, const uint8_t *p, size_t n) {
  size_t n_zeros = 0, n_others = 0, end = n > 0 && p[n - 1] == '\n' ? n - 1 : n;
  for (size_t i = 0; i < end; i++) {
    n_zeros += p[i] == 0;
    n_others += p[i] != 0 && p[i] != 255;
  }
  if (n_zeros == 1 && n_others == 0) n = end;
  png->n_alphas = (int)(n < 256 ? n : 256);
  memcpy(png->alphas, p, (size_t)png->n_alphas);
}

static clipc_status png_read_transparency(struct png_file *png, const struct png_chunk *chunk) {
  const uint8_t *p = chunk->data;
  if (png->colour == 3) {
    png_read_alphas(png, p, chunk->n);
  } else if (png->colour == 0 || png->colour == 2) {
    size_t n = png->colour == 2 ? 3 : 1;
    if (chunk->n < 2 * n) return png_fail(png, "PNG transparency is cut short");
    png->has_key = true;
    for (size_t i = 0; i < n; i++) png->key[i] = (uint16_t)clipc__be16(p + 2 * i);
    if (png->depth == 1 && png->colour == 0) png->key[0] = png->key[0] != 0 ? 255 : 0;
  }
  return CLIPC_OK;
}

static clipc_status png_read_chunk(struct png_file *png, const struct png_chunk *chunk) {
  if (png_is(chunk, "IHDR")) return png_read_header(png, chunk);
  if (png_is(chunk, "tRNS")) return png_read_transparency(png, chunk);
  if (png_is(chunk, "acTL") && chunk->n >= 8) png->animated = clipc__be32(chunk->data) > 1;
  if (png_is(chunk, "eXIf")) png->orientation = clipc__exif_orientation(chunk->data, chunk->n);
  static const char xmp[] = "XML:com.adobe.xmp\0\0\0\0"; /* uncompressed, no language, no translation */
  if (png_is(chunk, "iTXt") && chunk->n >= sizeof xmp && memcmp(chunk->data, xmp, sizeof xmp) == 0 &&
      png->orientation == 0)
    png->orientation = clipc__xmp_orientation(chunk->data + sizeof xmp, chunk->n - sizeof xmp);
  return CLIPC_OK;
}

/* Reads the chunks before the data; *at is left at the first IDAT. */
static clipc_status png_read_front(struct png_file *png, size_t *at) {
  struct png_chunk chunk;
  for (*at = 8;; *at = chunk.next) {
    if (!png_chunk_at(png, *at, &chunk)) return png_fail(png, "PNG is truncated");
    if (!png_is_word(chunk.name)) return png_fail(png, "PNG is damaged");
    if (png_is(&chunk, "IEND")) return png_fail(png, "PNG has no picture data");
    if (png_is(&chunk, "IDAT")) return png->has_header ? CLIPC_OK : png_fail(png, "PNG has no header before its data");
    if (chunk.next > png->source->n_bytes) return png_fail(png, "PNG is truncated");
    if (png_crc(chunk.name, chunk.n + 4) != clipc__be32(chunk.data + chunk.n))
      return png_fail(png, "PNG has a wrong checksum before its data");
    if (png_is(&chunk, "PLTE") && png->has_header && png->colour == 3) {
      if (chunk.n > sizeof png->palette) return png_fail(png, "PNG palette has more than 256 entries");
      memcpy(png->palette, chunk.data, chunk.n);
      png->n_palette_bytes = chunk.n;
      continue;
    }
    clipc_status status = png->has_header || png_is(&chunk, "IHDR") ? png_read_chunk(png, &chunk) : CLIPC_OK;
    if (status != CLIPC_OK) return status;
  }
}

/* Reads the chunks from at, behind the data. */
static clipc_status png_read_back(struct png_file *png, size_t at) {
  struct png_chunk chunk;
  for (; png_chunk_at(png, at, &chunk) && png_is_word(chunk.name) && !png_is(&chunk, "IEND"); at = chunk.next) {
    if (png->animated && png_is(&chunk, "fcTL")) break;
    if (chunk.next > png->source->n_bytes + 4) return png_fail(png, "PNG is truncated"); /* its CRC may lack */
    if (png_is(&chunk, "PLTE") || png_is(&chunk, "IHDR")) continue;
    clipc_status status = png_read_chunk(png, &chunk);
    if (status != CLIPC_OK) return status;
  }
  return CLIPC_OK;
}

/* Joins the IDATs from *at into *stream with the pad that clipc__inflate wants; *at is left behind them. */
static clipc_status png_join_data(struct png_file *png, size_t *at, uint8_t **stream, size_t *n_stream) {
  struct png_chunk chunk;
  size_t n_file = png->source->n_bytes, n = 0, from = *at;
  while (png_chunk_at(png, *at, &chunk) && png_is(&chunk, "IDAT")) {
    size_t room = n_file - (*at + 8);
    n += chunk.n < room ? chunk.n : room;
    *at = chunk.next < n_file ? chunk.next : n_file;
  }
  *stream = clipc__alloc(png->source->allocator, n + CLIPC__INFLATE_PAD, 1);
  if (*stream == NULL) return clipc__source_no_memory(png->source);
  uint8_t *out = *stream;
  for (*at = from; png_chunk_at(png, *at, &chunk) && png_is(&chunk, "IDAT");) {
    size_t room = n_file - (*at + 8), size = chunk.n < room ? chunk.n : room;
    memcpy(out, chunk.data, size);
    out += size;
    *at = chunk.next < n_file ? chunk.next : n_file;
  }
  memset(out, 0, CLIPC__INFLATE_PAD);
  *n_stream = n;
  return CLIPC_OK;
}

/* ---- rows */

struct png_pass { /* pixels x0 + i * dx, y0 + j * dy */
  uint8_t x0, y0, dx, dy;
};
static const struct png_pass png_whole[1] = {{0, 0, 1, 1}};
static const struct png_pass png_adam7[7] = {{0, 0, 8, 8}, {4, 0, 8, 8}, {0, 4, 4, 8}, {2, 0, 4, 4},
                                             {0, 2, 2, 4}, {1, 0, 2, 2}, {0, 1, 1, 2}};

static size_t png_steps(uint32_t size, uint8_t first, uint8_t step) {
  return size > first ? ((size_t)size - first + step - 1) / step : 0;
}

static size_t png_row_bytes(const struct png_file *png, size_t n_pixels) {
  return (n_pixels * (size_t)png->n_bits + 7) / 8;
}

static int png_paeth(int a, int b, int c) {
  int p = a + b - c, pa = p > a ? p - a : a - p, pb = p > b ? p - b : b - p, pc = p > c ? p - c : c - p;
  return pa <= pb && pa <= pc ? a : pb <= pc ? b : c;
}

/* Undoes the filter of a row in place; above is the row before it or NULL. */
static bool png_unfilter(uint8_t *row, const uint8_t *above, size_t n, size_t n_pixel, uint8_t filter) {
  size_t first = n_pixel < n ? n_pixel : n;
  switch (filter) {
  case 0: return true;
  case 1:
    for (size_t i = n_pixel; i < n; i++) row[i] = (uint8_t)(row[i] + row[i - n_pixel]);
    return true;
  case 2:
    for (size_t i = 0; above && i < n; i++) row[i] = (uint8_t)(row[i] + above[i]);
    return true;
  case 3:
    for (size_t i = 0; above && i < first; i++) row[i] = (uint8_t)(row[i] + above[i] / 2);
    for (size_t i = n_pixel; i < n; i++) row[i] = (uint8_t)(row[i] + (row[i - n_pixel] + (above ? above[i] : 0)) / 2);
    return true;
  case 4:
    if (above == NULL) return png_unfilter(row, above, n, n_pixel, 1);
    for (size_t i = 0; i < first; i++) row[i] = (uint8_t)(row[i] + above[i]);
    for (size_t i = n_pixel; i < n; i++)
      row[i] = (uint8_t)(row[i] + png_paeth(row[i - n_pixel], above[i], above[i - n_pixel]));
    return true;
  default: return false;
  }
}

/* Writes n pixels of an unfiltered row to out, step bytes apart. */
static void png_unpack(const struct png_file *png, uint8_t *out, size_t step, const uint8_t *row, size_t n) {
  int depth = png->depth;
  if (depth < 8) {
    uint8_t mask = (uint8_t)((1 << depth) - 1), scale = (uint8_t)(png->colour == 3 ? 1 : 255 / mask);
    for (size_t i = 0; i < n; i++) {
      size_t bit = i * (size_t)depth;
      out[i * step] = (uint8_t)((row[bit / 8] >> (8 - depth - (int)(bit % 8)) & mask) * scale);
    }
  } else if (depth == 16 && png->colour == 0) {
    for (size_t i = 0; i < n; i++) {
      uint16_t value = (uint16_t)clipc__be16(row + 2 * i);
      memcpy(out + i * step, &value, sizeof value);
    }
  } else if (depth == 16 && png->colour == 4) {
    for (size_t i = 0; i < n; i++) {
      uint8_t *p = out + i * step;
      p[0] = p[1] = p[2] = row[4 * i];
      p[3] = row[4 * i + 2];
    }
  } else {
    size_t n_bands = (size_t)(png->n_bits / depth), wide = depth == 16 ? 2 : 1;
    if (wide == 1 && step == n_bands) {
      memcpy(out, row, n * n_bands);
      return;
    }
    for (size_t i = 0; i < n; i++)
      for (size_t c = 0; c < n_bands; c++) out[i * step + c] = row[(i * n_bands + c) * wide];
  }
}

/* Bytes of all rows with their filter bytes; 0 on overflow. */
static size_t png_needed_bytes(const struct png_file *png, const struct png_pass *passes, int n_passes) {
  size_t needed = 0, pass;
  for (int i = 0; i < n_passes; i++) {
    size_t columns = png_steps(png->width, passes[i].x0, passes[i].dx),
           rows = png_steps(png->height, passes[i].y0, passes[i].dy);
    if (columns == 0) continue;
    if (!clipc__multiply(&pass, png_row_bytes(png, columns) + 1, rows) || __builtin_add_overflow(needed, pass, &needed))
      return 0;
  }
  return needed;
}

/* Unfilters and unpacks n bytes of rows; fewer than all leave the rest 0, but they must end with a row. */
static clipc_status png_place_rows(const struct png_file *png, struct clipc__picture *out, uint8_t *bytes, size_t n,
                                   const struct png_pass *passes, int n_passes) {
  size_t n_pixel = (size_t)(png->n_bits + 7) / 8, size = clipc__mode_bytes(out->mode);
  for (int i = 0; i < n_passes && n > 0; i++) {
    size_t columns = png_steps(png->width, passes[i].x0, passes[i].dx),
           rows = png_steps(png->height, passes[i].y0, passes[i].dy);
    size_t row_bytes = png_row_bytes(png, columns);
    const uint8_t *above = NULL;
    for (size_t y = 0; columns > 0 && y < rows && n > 0; y++) {
      if (n < row_bytes + 1) return png_fail(png, "PNG data is truncated");
      if (!png_unfilter(bytes + 1, above, row_bytes, n_pixel, bytes[0])) return png_fail(png, "PNG data is damaged");
      uint8_t *target = out->data + (passes[i].y0 + y * passes[i].dy) * out->stride_bytes + passes[i].x0 * size;
      png_unpack(png, target, passes[i].dx * size, bytes + 1, columns);
      above = bytes + 1;
      bytes += row_bytes + 1;
      n -= row_bytes + 1;
    }
  }
  return CLIPC_OK;
}

static clipc_status png_inflate_rows(struct png_file *png, struct clipc__picture *out, const uint8_t *stream,
                                     size_t n_stream) {
  const struct clipc__source *source = png->source;
  const struct png_pass *passes = png->interlaced ? png_adam7 : png_whole;
  int n_passes = png->interlaced ? 7 : 1;
  size_t needed = png_needed_bytes(png, passes, n_passes), n = 0;
  if (needed == 0 || needed > SIZE_MAX - CLIPC__INFLATE_SLACK) return clipc__source_no_memory(source);
  uint8_t *bytes = clipc__alloc(source->allocator, needed + CLIPC__INFLATE_SLACK, 1);
  if (bytes == NULL) return clipc__source_no_memory(source);
  clipc_status status =
      clipc__inflate(bytes, needed + CLIPC__INFLATE_SLACK, needed, &n, stream, n_stream, source->allocator);
  if (status == CLIPC_E_NO_MEMORY)
    status = clipc__source_no_memory(source);
  else if (status != CLIPC_OK || n == 0)
    status = png_fail(png, "PNG data is damaged or truncated");
  else if (n < needed)
    memset(out->data, 0, (size_t)out->height * out->stride_bytes);
  if (status == CLIPC_OK) status = png_place_rows(png, out, bytes, n < needed ? n : needed, passes, n_passes);
  clipc__free(source->allocator, bytes);
  return status;
}

/* ---- the file */

static enum clipc__mode png_mode(const struct png_file *png) {
  switch (png->colour) {
  case 0: return png->depth == 1 ? CLIPC__MODE_1 : png->depth == 16 ? CLIPC__MODE_I16 : CLIPC__MODE_L;
  case 2: return CLIPC__MODE_RGB;
  case 3: return CLIPC__MODE_P;
  case 4: return png->depth == 16 ? CLIPC__MODE_RGBA : CLIPC__MODE_LA;
  default: return CLIPC__MODE_RGBA;
  }
}

static void png_describe(const struct png_file *png, struct clipc__picture *out) {
  if (png->orientation > 0) out->orientation = png->orientation;
  out->n_palette = (int)(png->n_palette_bytes / 3);
  for (int i = 0; i < out->n_palette; i++) memcpy(out->palette[i], png->palette + 3 * i, 3);
  if (png->n_alphas >= 0) {
    out->transparency = CLIPC__PALETTE_ALPHA;
    for (int i = 0; i < png->n_alphas; i++) out->palette[i][3] = png->alphas[i];
  } else if (png->has_key) {
    out->transparency = CLIPC__COLOR_KEY;
    memcpy(out->key, png->key, sizeof out->key);
  }
}

clipc_status clipc__png_decode(struct clipc__picture *out, const struct clipc__source *source) {
  struct png_file png = {.source = source, .n_alphas = -1};
  uint8_t *stream = NULL;
  size_t at = 0, n_stream = 0;
  clipc_status status = png_read_front(&png, &at);
  if (status == CLIPC_OK) status = png_join_data(&png, &at, &stream, &n_stream);
  if (status == CLIPC_OK) status = clipc__source_picture(source, out, png_mode(&png), png.width, png.height);
  if (status == CLIPC_OK) status = png_inflate_rows(&png, out, stream, n_stream);
  if (status == CLIPC_OK) status = png_read_back(&png, at);
  if (status == CLIPC_OK) png_describe(&png, out);
  clipc__free(source->allocator, stream);
  return status;
}
