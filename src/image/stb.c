/* The one translation unit with stb_image (2.27 to 2.30): its DEFLATE and its JPEG Huffman decoder.
 * In: compressed bytes. Out: bytes, or blocks of coefficients. Only those parts are compiled in; everything
 * else that Pillow does with a picture (formats, modes, IDCT, upsampling, colours) is in the other files.
 * stb_image allocates nothing here, keeps no state outside the structs below, and never asserts.
 * Both decoders hide from their caller that the input ended, so inputs carry a pad of zeros that shows it. */
#include "image/stb.h"

#include <string.h>

#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_ONLY_JPEG
#define STBI_ONLY_PNG
#define STBI_ONLY_GIF
#define STBI_NO_STDIO
#define STBI_NO_SIMD
#define STBI_NO_FAILURE_STRINGS
#define STBI_NO_LINEAR
#define STBI_NO_HDR
#define STBI_ASSERT(condition) ((void)0)
/* 2.27 defines one function under another name than it declares it by. */
#define stbi__unpremultiply_on_load_thread stbi_set_unpremultiply_on_load_thread

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wunused-variable"
#pragma GCC diagnostic ignored "-Wunused-but-set-variable"
#pragma GCC diagnostic ignored "-Wsign-compare"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#if __has_include(<stb/stb_image.h>)
#include <stb/stb_image.h>
#else
#include <stb_image.h>
#endif
#pragma GCC diagnostic pop

/* ---- DEFLATE */

static uint32_t adler32_of(const uint8_t *bytes, size_t n) {
  uint32_t a = 1, b = 0;
  while (n > 0) {
    size_t run = n < 5552 ? n : 5552; /* most bytes before b can overflow */
    for (size_t i = 0; i < run; i++) b += a += bytes[i];
    a %= 65521;
    b %= 65521;
    bytes += run;
    n -= run;
  }
  return b << 16 | a;
}

clipc_status clipc__inflate(uint8_t *out, size_t capacity, size_t needed, size_t *n_out, const uint8_t *in, size_t n_in,
                            const clipc_allocator *allocator) {
  stbi__zbuf *z = clipc__alloc_zeroed(allocator, 1, sizeof *z);
  if (z == NULL) return CLIPC_E_NO_MEMORY;
  z->zbuffer = (stbi_uc *)(uintptr_t)in; /* only read */
  z->zbuffer_end = z->zbuffer + n_in + CLIPC__INFLATE_PAD;
  z->zout_start = z->zout = (char *)out;
  z->zout_end = z->zout_start + capacity;
  bool whole = stbi__parse_zlib(z, 1);
  size_t n_written = (size_t)(z->zout - z->zout_start);
  ptrdiff_t used = z->zbuffer - in - (z->num_bits > 0 ? z->num_bits / 8 : 0);
  clipc__free(allocator, z);
  *n_out = n_written;
  if (n_written > needed) return CLIPC_OK; /* a longer stream; what follows is nobody's business */
  if (!whole || used < 0 || (size_t)used > n_in) return CLIPC_E_FORMAT;
  if (n_in - (size_t)used < 4) return n_written == needed ? CLIPC_OK : CLIPC_E_FORMAT; /* no room for a checksum */
  const uint8_t *sum = in + used;
  uint32_t stored = (uint32_t)sum[0] << 24 | (uint32_t)sum[1] << 16 | (uint32_t)sum[2] << 8 | sum[3];
  return stored == adler32_of(out, n_written) ? CLIPC_OK : CLIPC_E_FORMAT;
}

/* ---- JPEG */

struct clipc__jpeg_reader {
  stbi__context context;
  stbi__jpeg jpeg;
  bool has_table[2][4];
  const uint8_t *coded_end; /* before the pad */
};

struct clipc__jpeg_reader *clipc__jpeg_reader_make(const clipc_allocator *allocator) {
  struct clipc__jpeg_reader *reader = clipc__alloc_zeroed(allocator, 1, sizeof *reader);
  if (reader != NULL) reader->jpeg.s = &reader->context;
  return reader;
}

bool clipc__jpeg_reader_table(struct clipc__jpeg_reader *reader, bool ac, int slot, const uint8_t *counts,
                              const uint8_t *values) {
  stbi__huffman *table = ac ? &reader->jpeg.huff_ac[slot] : &reader->jpeg.huff_dc[slot];
  int count[16], n_values = 0;
  for (int i = 0; i < 16; i++) n_values += count[i] = counts[i];
  reader->has_table[ac][slot] = false;
  if (n_values > 256) return false;
  memset(table, 0, sizeof *table);
  if (!stbi__build_huffman(table, count)) return false;
  memcpy(table->values, values, (size_t)n_values);
  if (ac) stbi__build_fast_ac(reader->jpeg.fast_ac[slot], table);
  reader->has_table[ac][slot] = true;
  return true;
}

bool clipc__jpeg_reader_has_table(const struct clipc__jpeg_reader *reader, bool ac, int slot) {
  return reader->has_table[ac][slot];
}

void clipc__jpeg_reader_start(struct clipc__jpeg_reader *reader, const uint8_t *coded, size_t n_bytes) {
  reader->context.img_buffer = (stbi_uc *)(uintptr_t)coded; /* only read */
  reader->context.img_buffer_end = reader->context.img_buffer + n_bytes + CLIPC__JPEG_PAD;
  reader->coded_end = coded + n_bytes;
  stbi__jpeg_reset(&reader->jpeg);
}

bool clipc__jpeg_reader_dry(const struct clipc__jpeg_reader *reader) {
  ptrdiff_t n_pad = reader->context.img_buffer - reader->coded_end;
  return n_pad > 0 && (n_pad >= (ptrdiff_t)CLIPC__JPEG_PAD || n_pad * 8 > reader->jpeg.code_bits);
}

/* A prediction counts modulo 2^16, as it is stored: so it cannot overflow however long the picture. */
static void jpeg_wrap_prediction(struct clipc__jpeg_reader *reader, int component) {
  int *prediction = &reader->jpeg.img_comp[component].dc_pred;
  *prediction = (int16_t)*prediction;
}

bool clipc__jpeg_read_block(struct clipc__jpeg_reader *reader, int16_t block[64], int component, int dc, int ac,
                            const uint16_t quantisers[64]) {
  stbi__jpeg *jpeg = &reader->jpeg;
  bool done = stbi__jpeg_decode_block(jpeg, block, &jpeg->huff_dc[dc], &jpeg->huff_ac[ac], jpeg->fast_ac[ac], component,
                                      (stbi__uint16 *)(uintptr_t)quantisers);
  jpeg_wrap_prediction(reader, component);
  return done;
}

static void jpeg_set_band(struct clipc__jpeg_reader *reader, const struct clipc__jpeg_band *band) {
  reader->jpeg.spec_start = band->first;
  reader->jpeg.spec_end = band->last;
  reader->jpeg.succ_high = band->high;
  reader->jpeg.succ_low = band->low;
}

bool clipc__jpeg_read_dc(struct clipc__jpeg_reader *reader, int16_t block[64], int component, int dc,
                         const struct clipc__jpeg_band *band) {
  jpeg_set_band(reader, band);
  bool done = stbi__jpeg_decode_block_prog_dc(&reader->jpeg, block, &reader->jpeg.huff_dc[dc], component);
  jpeg_wrap_prediction(reader, component);
  return done;
}

bool clipc__jpeg_read_ac(struct clipc__jpeg_reader *reader, int16_t block[64], int ac,
                         const struct clipc__jpeg_band *band) {
  jpeg_set_band(reader, band);
  return stbi__jpeg_decode_block_prog_ac(&reader->jpeg, block, &reader->jpeg.huff_ac[ac], reader->jpeg.fast_ac[ac]);
}
