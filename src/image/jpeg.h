/* Between the files of the JPEG reader: jpeg.c walks through the file, jpeg_huffman.c decodes blocks of coefficients,
 * jpeg_render.c makes rows of pixels of them. */
#ifndef CLIPC_IMAGE_JPEG_H
#define CLIPC_IMAGE_JPEG_H

#include "image/decode.h"
#include "kernels/pixels.h"

/* Coefficients are counted up to here: beyond 63, where zeros to the end and damaged files lead, all are the last. */
#define CLIPC__JPEG_ORDER 128

/* ---- Huffman codes (jpeg_huffman.c) */

/* The Huffman tables, bit reader and predictions of one JPEG. */
struct clipc__jpeg_reader;
CLIPC_PRIVATE struct clipc__jpeg_reader *clipc__jpeg_reader_make(const clipc_allocator *allocator); /* clipc__free it */

/* Defines a table: counts[16] codes per length, then the values (at most 256). False when it is no code. */
CLIPC_PRIVATE bool clipc__jpeg_reader_table(struct clipc__jpeg_reader *reader, bool ac, int slot, const uint8_t *counts,
                                            const uint8_t *values);
CLIPC_PRIVATE bool clipc__jpeg_reader_has_table(const struct clipc__jpeg_reader *reader, bool ac, int slot);

/* Starts on an interval of coded bytes, without the zeros that are stuffed behind 0xFF in the file. */
CLIPC_PRIVATE void clipc__jpeg_reader_start(struct clipc__jpeg_reader *reader, const uint8_t *coded, size_t n_bytes);

/* Whether more bits were used than the interval has; the missing ones were zeros. */
CLIPC_PRIVATE bool clipc__jpeg_reader_dry(const struct clipc__jpeg_reader *reader);

/* Decodes one block, of zeros before; each returns false on a code that is in no table. Coefficients are in natural
 * order, quantisers in the file's. */
CLIPC_PRIVATE bool clipc__jpeg_read_block(struct clipc__jpeg_reader *reader, int16_t block[64], int component, int dc,
                                          int ac,
                                          const uint16_t quantisers[CLIPC__JPEG_ORDER]); /* sequential, dequantised */
struct clipc__jpeg_band { /* of a progressive scan: coefficients first..last, bits high..low */
  int first, last, high, low;
};
CLIPC_PRIVATE bool clipc__jpeg_read_dc(struct clipc__jpeg_reader *reader, int16_t block[64], int component, int dc,
                                       const struct clipc__jpeg_band *band);
CLIPC_PRIVATE bool clipc__jpeg_read_ac(struct clipc__jpeg_reader *reader, int16_t block[64], int ac,
                                       const struct clipc__jpeg_band *band);

/* Multiplies the coefficients of a progressive block, in natural order, by the quantisers, in the file's. */
CLIPC_PRIVATE void clipc__jpeg_dequantise(int16_t block[64], const uint16_t quantisers[CLIPC__JPEG_ORDER]);

/* ---- the frame (jpeg_render.c) */

struct clipc__jpeg_component {
  int id, h, v, slot;                     /* sampling factors; which quantisation table */
  int width, height;                      /* in samples */
  int blocks_x, blocks_y;                 /* of whole MCUs */
  int16_t *coefficients;                  /* [blocks_y, blocks_x, 64], where they come in more than one scan */
  uint16_t quantisers[CLIPC__JPEG_ORDER]; /* those in force when its first scan began */
  bool has_quantisers;
  uint8_t *plane; /* [2 rows of MCUs, blocks_x * 8]: row y of samples is y modulo its height */
};

struct clipc__jpeg_frame {
  bool progressive, jfif;
  int adobe; /* transform of the Adobe marker; -1: no such marker */
  int width, height, n_components, h_max, v_max, mcus_x, mcus_y;
  struct clipc__jpeg_component components[4];
};

/* Fills in the sizes from those of the picture and the sampling factors. */
CLIPC_PRIVATE clipc_status clipc__jpeg_frame_make(struct clipc__jpeg_frame *frame, const struct clipc__source *source);
/* Allocates coefficients of the whole picture. */
CLIPC_PRIVATE clipc_status clipc__jpeg_frame_keep(struct clipc__jpeg_frame *frame, const struct clipc__source *source);
CLIPC_PRIVATE void clipc__jpeg_frame_free(struct clipc__jpeg_frame *frame, const clipc_allocator *allocator);

/* ---- rows of pixels (jpeg_render.c) */

struct clipc__jpeg_render {
  struct clipc__jpeg_frame *frame;
  const struct clipc__source *source;
  struct clipc__picture *out;
  struct clipc__pixel_kernels kernels;
  bool ycc;
  struct clipc__window needed; /* the whole picture, or what the sink asks for */
  int next_row;                /* of the picture, to be made */
  size_t pixel_bytes;
  uint8_t *samples[4]; /* a row of each component, in the size of the picture */
  uint8_t *rows;       /* pixels for the sink; NULL: they go to the picture */
};

/* Makes out: L, RGB, or CMYK with 255 = full ink; without pixels when the source's sink takes them. */
CLIPC_PRIVATE clipc_status clipc__jpeg_render_begin(struct clipc__jpeg_render *render, struct clipc__jpeg_frame *frame,
                                                    struct clipc__picture *out, int orientation,
                                                    const struct clipc__source *source);
/* Whether anything of MCUs [from, to) of row my is wanted. */
CLIPC_PRIVATE bool clipc__jpeg_render_wants(const struct clipc__jpeg_render *render, int my, int from, int to);
/* n dequantised blocks side by side, from block bx, by on: to samples. Rows of MCUs come in order. */
CLIPC_PRIVATE void clipc__jpeg_render_blocks(struct clipc__jpeg_render *render, int component, int bx, int by, int n,
                                             const int16_t *blocks);
/* Row my of the MCUs is there: makes what rows of pixels can be made. */
CLIPC_PRIVATE void clipc__jpeg_render_row(struct clipc__jpeg_render *render, int my);
/* All rows from the coefficients that were kept. */
CLIPC_PRIVATE void clipc__jpeg_render_kept(struct clipc__jpeg_render *render);
CLIPC_PRIVATE void clipc__jpeg_render_end(struct clipc__jpeg_render *render);

#endif
