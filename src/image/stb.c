/* The one translation unit with stb_image (2.27 to 2.30): its DEFLATE.
 * In: compressed bytes. Out: bytes. Only that part is used; everything else that Pillow does with a picture (formats,
 * modes, JPEG) is in the other files. stb_image allocates nothing here, keeps no state outside the struct below, and
 * never asserts. It hides from its caller that the input ended, so that carries a pad of zeros that shows it. */
#include "image/stb.h"

#include <string.h>

#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
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
