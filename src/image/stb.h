/* What stb.c offers of stb_image to the readers of this room: DEFLATE. */
#ifndef CLIPC_IMAGE_STB_H
#define CLIPC_IMAGE_STB_H

#include "image/image.h"

/* Inflates a zlib stream into out[0..capacity).
 *   in       n_in bytes, followed by CLIPC__INFLATE_PAD zero bytes that belong to the caller
 *   needed   bytes that the caller wants; capacity must be at least needed + CLIPC__INFLATE_SLACK
 *   n_out    [out] bytes written: all of the stream, or at least needed of a longer one
 * Returns CLIPC_OK; _FORMAT when it is damaged, cut off, or its checksum is wrong; _NO_MEMORY. */
#define CLIPC__INFLATE_PAD 16u
#define CLIPC__INFLATE_SLACK 65536u
CLIPC_PRIVATE clipc_status clipc__inflate(uint8_t *out, size_t capacity, size_t needed, size_t *n_out,
                                          const uint8_t *in, size_t n_in, const clipc_allocator *allocator);

#endif
