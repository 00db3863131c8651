/* Pictures computed from formulas, the same as in tests/goldens/make_preprocess.py, and what their tests share. */
#ifndef CLIPC_TESTS_PICTURES_H
#define CLIPC_TESTS_PICTURES_H

#include "image/image.h"

/* Makes a picture of the kind ("RGB", "RGBA", "Pt", "I16low" ...: the goldens' first column). */
void pictures_make(struct clipc__picture *picture, const char *kind, int width, int height,
                   const clipc_allocator *allocator);

uint32_t pictures_crc32(const void *data, size_t n_bytes);   /* zlib's */
uint32_t pictures_crc(const struct clipc__picture *picture); /* of its pixels, without gaps */

/* An allocator that counts and fails: its context is a pictures_memory. */
struct pictures_memory {
  long fail_at; /* this allocation has no memory, counted from 0; -1 = none fails */
  long n_asked, n_held;
  size_t largest_bytes;
};
clipc_allocator pictures_allocator(struct pictures_memory *memory);

/* Random numbers from env CLIPC_SEED or the clock; the seed is printed once. */
uint32_t pictures_random(uint32_t n); /* 0 .. n - 1 */

#endif
