/* What stb.c offers of stb_image to the readers of this room: DEFLATE and the JPEG Huffman decoder. */
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

/* The Huffman tables, bit reader and predictions of one JPEG. */
struct clipc__jpeg_reader;
CLIPC_PRIVATE struct clipc__jpeg_reader *clipc__jpeg_reader_make(const clipc_allocator *allocator); /* clipc__free it */

/* Defines a table: counts[16] codes per length, then the values (at most 256). False when it is no code. */
CLIPC_PRIVATE bool clipc__jpeg_reader_table(struct clipc__jpeg_reader *reader, bool ac, int slot, const uint8_t *counts,
                                            const uint8_t *values);
CLIPC_PRIVATE bool clipc__jpeg_reader_has_table(const struct clipc__jpeg_reader *reader, bool ac, int slot);

/* Starts on an interval of coded bytes, which must be followed by CLIPC__JPEG_PAD zero bytes. */
#define CLIPC__JPEG_PAD 16u
CLIPC_PRIVATE void clipc__jpeg_reader_start(struct clipc__jpeg_reader *reader, const uint8_t *coded, size_t n_bytes);

/* Whether more bits were used than the interval has; the missing ones were zeros. */
CLIPC_PRIVATE bool clipc__jpeg_reader_dry(const struct clipc__jpeg_reader *reader);

/* Decodes one block; each returns false on a code that is in no table. Coefficients are in natural order. */
CLIPC_PRIVATE bool clipc__jpeg_read_block(struct clipc__jpeg_reader *reader, int16_t block[64], int component, int dc,
                                          int ac, const uint16_t quantisers[64]); /* sequential, dequantised */
struct clipc__jpeg_band { /* of a progressive scan: coefficients first..last, bits high..low */
  int first, last, high, low;
};
CLIPC_PRIVATE bool clipc__jpeg_read_dc(struct clipc__jpeg_reader *reader, int16_t block[64], int component, int dc,
                                       const struct clipc__jpeg_band *band);
CLIPC_PRIVATE bool clipc__jpeg_read_ac(struct clipc__jpeg_reader *reader, int16_t block[64], int ac,
                                       const struct clipc__jpeg_band *band);

#endif
