/* Whole files to pictures: tells formats apart by their first bytes and calls the reader.
 * In: untrusted bytes. Out: a picture in the mode, and with the pixels, of Pillow 13's Image.open and load.
 * Limits on bytes and pixels are checked before a reader allocates. Formats that are known but not read are
 * named in the refusal. */
#include "image/decode.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

clipc_status clipc__source_fail(const struct clipc__source *source, clipc_status status, const char *format, ...) {
  char sentence[192];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(sentence, sizeof sentence, format, arguments);
  va_end(arguments);
  return clipc__fail(source->error, status, "%s: %s", source->name, sentence);
}

clipc_status clipc__source_no_memory(const struct clipc__source *source) {
  return clipc__source_fail(source, CLIPC_E_NO_MEMORY, "no memory to decode it");
}

clipc_status clipc__source_size(const struct clipc__source *source, uint64_t width, uint64_t height) {
  uint64_t n_pixels, most = source->limits->max_image_pixels;
  if (width == 0 || height == 0) return clipc__source_fail(source, CLIPC_E_FORMAT, "has no pixels");
  if (__builtin_mul_overflow(width, height, &n_pixels) || n_pixels > most || width > INT_MAX || height > INT_MAX)
    return clipc__source_fail(source, CLIPC_E_LIMIT, "%llu x %llu pixels are more than the limit of %llu",
                              (unsigned long long)width, (unsigned long long)height, (unsigned long long)most);
  return CLIPC_OK;
}

clipc_status clipc__source_picture(const struct clipc__source *source, struct clipc__picture *out,
                                   enum clipc__mode mode, uint64_t width, uint64_t height) {
  if (clipc__picture_make(out, mode, (int)width, (int)height, source->allocator, NULL) == CLIPC_OK) return CLIPC_OK;
  return clipc__source_fail(source, CLIPC_E_NO_MEMORY, "no memory for its %llu x %llu pixels",
                            (unsigned long long)width, (unsigned long long)height);
}

/* ---- formats */

struct image_magic {
  const char *bytes;
  uint8_t at, n; /* where in the file, how long */
  const char *name;
  clipc_status (*decode)(struct clipc__picture *out, const struct clipc__source *source); /* NULL: known, not read */
};

#define MAGIC(bytes, at, name, decode)                                                                                 \
  { bytes, at, sizeof(bytes) - 1, name, decode }
static const struct image_magic image_formats[] = {
    MAGIC("\xFF\xD8\xFF", 0, "JPEG", clipc__jpeg_decode),
    MAGIC("\x89PNG\r\n\x1A\n", 0, "PNG", clipc__png_decode),
    MAGIC("GIF87a", 0, "GIF", clipc__gif_decode),
    MAGIC("GIF89a", 0, "GIF", clipc__gif_decode),
    MAGIC("BM", 0, "BMP", clipc__bmp_decode),
    MAGIC("P1", 0, "PNM", clipc__pnm_decode),
    MAGIC("P2", 0, "PNM", clipc__pnm_decode),
    MAGIC("P3", 0, "PNM", clipc__pnm_decode),
    MAGIC("P4", 0, "PNM", clipc__pnm_decode),
    MAGIC("P5", 0, "PNM", clipc__pnm_decode),
    MAGIC("P6", 0, "PNM", clipc__pnm_decode),
    MAGIC("P7", 0, "PAM", NULL),
    MAGIC("PF", 0, "PFM", NULL),
    MAGIC("Pf", 0, "PFM", NULL),
    MAGIC("WEBP", 8, "WebP", NULL),
    MAGIC("ftypavif", 4, "AVIF", NULL),
    MAGIC("ftypavis", 4, "AVIF", NULL),
    MAGIC("ftyphei", 4, "HEIC", NULL),
    MAGIC("ftyphev", 4, "HEIC", NULL),
    MAGIC("ftypmif1", 4, "HEIC or AVIF", NULL),
    MAGIC("ftypmsf1", 4, "HEIC or AVIF", NULL),
    MAGIC("II*\0", 0, "TIFF", NULL),
    MAGIC("MM\0*", 0, "TIFF", NULL),
    MAGIC("II+\0", 0, "BigTIFF", NULL),
    MAGIC("MM\0+", 0, "BigTIFF", NULL),
    MAGIC("\xFF\x0A", 0, "JPEG XL", NULL),
    MAGIC("\0\0\0\x0CJXL ", 0, "JPEG XL", NULL),
    MAGIC("\0\0\0\x0CjP  ", 0, "JPEG 2000", NULL),
    MAGIC("\xFF\x4F\xFF\x51", 0, "JPEG 2000", NULL),
    MAGIC("\0\0\1\0", 0, "ICO", NULL),
    MAGIC("\0\0\2\0", 0, "CUR or TGA", NULL),
    MAGIC("8BPS", 0, "Photoshop", NULL),
    MAGIC("%PDF", 0, "PDF", NULL),
    MAGIC("<svg", 0, "SVG", NULL),
    MAGIC("<?xml", 0, "XML or SVG", NULL),
    MAGIC("DDS ", 0, "DDS", NULL),
    MAGIC("qoif", 0, "QOI", NULL),
    MAGIC("v/1\x01", 0, "OpenEXR", NULL),
    MAGIC("#?RADIANCE", 0, "Radiance HDR", NULL),
};
#undef MAGIC

static const struct image_magic *image_format(const uint8_t *bytes, size_t n_bytes) {
  for (size_t i = 0; i < sizeof image_formats / sizeof *image_formats; i++) {
    const struct image_magic *magic = &image_formats[i];
    if (n_bytes >= (size_t)magic->at + magic->n && memcmp(bytes + magic->at, magic->bytes, magic->n) == 0) return magic;
  }
  return NULL;
}

clipc_status clipc__source_decode(struct clipc__picture *out, const struct clipc__source *source) {
  *out = (struct clipc__picture){.allocator = *source->allocator};
  if (source->n_bytes == 0) return clipc__source_fail(source, CLIPC_E_FORMAT, "is empty");
  if (source->n_bytes > source->limits->max_image_bytes)
    return clipc__source_fail(source, CLIPC_E_LIMIT, "%zu bytes are more than the limit of %llu", source->n_bytes,
                              (unsigned long long)source->limits->max_image_bytes);
  const struct image_magic *format = image_format(source->bytes, source->n_bytes);
  if (format == NULL) return clipc__source_fail(source, CLIPC_E_FORMAT, "is no picture in a known format");
  if (format->decode == NULL)
    return clipc__source_fail(source, CLIPC_E_UNSUPPORTED, "is %s, which is not read (JPEG, PNG, GIF, BMP, PNM are)",
                              format->name);
  struct clipc__picture picture = {.allocator = *source->allocator};
  clipc_status status = format->decode(&picture, source);
  if (status == CLIPC_OK)
    *out = picture;
  else
    clipc__picture_free(&picture);
  return status;
}
