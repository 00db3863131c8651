/* The image room: bytes of a file -> a picture in the mode Pillow opens it in -> pixels of the tower.
 * decode.c (with jpeg.c, png.c, gif.c, bmp.c, pnm.c on stb.c) -> convert.c, resize.c -> preprocess.c */
#ifndef CLIPC_IMAGE_H
#define CLIPC_IMAGE_H

#include "base/cpu.h"

/* Pillow's modes. The reference decides what happens first, so a picture keeps its mode until then. */
enum clipc__mode {
  CLIPC__MODE_1,    /* u8 per pixel, 0 or 255; resized by NEAREST whatever the filter */
  CLIPC__MODE_L,    /* u8 grey */
  CLIPC__MODE_LA,   /* u8 [2] grey, alpha */
  CLIPC__MODE_P,    /* u8 index into palette; resized by NEAREST whatever the filter */
  CLIPC__MODE_RGB,  /* u8 [3] */
  CLIPC__MODE_RGBA, /* u8 [4], alpha not premultiplied */
  CLIPC__MODE_CMYK, /* u8 [4], 255 = full ink */
  CLIPC__MODE_I16,  /* u16 grey in native order ("I;16": 16-bit PNG) */
  CLIPC__MODE_I     /* i32 grey in native order ("I": 16-bit PGM) */
};

enum clipc__transparency {                      /* Pillow's info["transparency"] */
                           CLIPC__OPAQUE,       /* none, or an alpha band says it */
                           CLIPC__COLOR_KEY,    /* pixels equal to key are transparent: L and 1: key[0]; RGB: key[0..2];
                                                   I16: key[0] */
                           CLIPC__PALETTE_ALPHA /* palette[i][3] holds the alpha of entry i */
};

struct clipc__picture {
  clipc_allocator allocator;
  enum clipc__mode mode;
  int width, height;   /* >= 1 */
  size_t stride_bytes; /* from row to row */
  uint8_t *data;       /* [height, stride_bytes] */
  bool borrowed;       /* data belongs to the caller: do not write, do not free */
  enum clipc__transparency transparency;
  uint16_t key[3];
  uint8_t palette[256][4]; /* P: RGBA, alpha 255 unless PALETTE_ALPHA; black beyond n_palette */
  int n_palette;
  int orientation; /* EXIF, 1..8; 1 = upright or not said */
};

CLIPC_PRIVATE size_t clipc__mode_bytes(enum clipc__mode mode); /* bytes per pixel */

/* An opaque upright picture of width x height pixels of the mode (rows without gaps), which has no data yet. */
CLIPC_PRIVATE void clipc__picture_describe(struct clipc__picture *picture, enum clipc__mode mode, int width, int height,
                                           const clipc_allocator *allocator);

/* The same with data, not cleared. Returns CLIPC_OK or _NO_MEMORY (*picture then holds no data). */
CLIPC_PRIVATE clipc_status clipc__picture_make(struct clipc__picture *picture, enum clipc__mode mode, int width,
                                               int height, const clipc_allocator *allocator, clipc_error *error);
CLIPC_PRIVATE void clipc__picture_free(struct clipc__picture *picture);

/* A part of a picture. */
struct clipc__window {
  int x, y, width, height;
};

/* Takes the rows of a picture as they are made, when nobody wants the whole picture. */
struct clipc__row_sink {
  /* picture holds all but pixels. True: *needed is the part of it whose rows will be taken, each once and in order.
   * False: the picture is wanted as usual. */
  bool (*open)(struct clipc__row_sink *sink, const struct clipc__picture *picture, struct clipc__window *needed);
  /* n rows [needed.width] from row y of the picture on */
  void (*take)(struct clipc__row_sink *sink, int y, int n, const uint8_t *rows, size_t stride_bytes);
};

/* A whole file in memory, and what reading it is subject to. */
struct clipc__source {
  const uint8_t *bytes;
  size_t n_bytes;
  const char *name;           /* a path, or "image bytes": opens each sentence */
  const clipc_limits *limits; /* effective values (no zeros) */
  unsigned cpu;               /* CLIPC__CPU_... that may be used */
  const clipc_allocator *allocator;
  clipc_error *error;
  struct clipc__row_sink *sink; /* NULL: none; a reader may leave it alone */
};

/* Decodes a file by its first bytes. Pixels are those of Pillow 13 after Image.open and load.
 * Returns CLIPC_OK; _FORMAT, _UNSUPPORTED, _LIMIT, _NO_MEMORY; *out is empty on failure, and where the sink took the
 * rows. */
CLIPC_PRIVATE clipc_status clipc__source_decode(struct clipc__picture *out, const struct clipc__source *source);

/* Turns the picture upright in place by its orientation (ImageOps.exif_transpose). */
CLIPC_PRIVATE clipc_status clipc__picture_transpose(struct clipc__picture *picture, clipc_error *error);

/* Converts in place to MODE_RGB, opaque: Pillow's convert("RGB") with DROP, transformers 5.23's
 * convert_to_rgb with WHITE. A no-op on opaque RGB. */
CLIPC_PRIVATE clipc_status clipc__picture_to_rgb(struct clipc__picture *picture, clipc_alpha alpha, clipc_error *error);

/* Resizes a picture to width x height and gives the window of it, which must lie inside, as new memory in *out.
 *   torchvision false: Pillow 13's Image.resize in the picture's own mode: two passes in 8-bit fixed point, in Pillow
 * 13's order; 1 and P by NEAREST; LA and RGBA premultiplied; I16 and I by their own paths. torchvision true: its
 * antialiased resize of a uint8 tensor: MODE_RGB only; NEAREST (as transformers asks for it: "nearest-exact"),
 * BILINEAR, BICUBIC and LANCZOS (others: _UNSUPPORTED). A picture whose sides are too unequal for the tables is _LIMIT.
 */
CLIPC_PRIVATE clipc_status clipc__resize_window(struct clipc__picture *out, const struct clipc__picture *in, int width,
                                                int height, const struct clipc__window *window, clipc_filter filter,
                                                bool torchvision, unsigned cpu, clipc_error *error);

/* The whole way of a file's bytes: decoding, then as clipc__preprocess_picture. Where the steps allow it, a picture's
 * rows are resized as they are decoded, and what the crop drops is not made. pixels are untouched on failure. */
CLIPC_PRIVATE clipc_status clipc__preprocess_source(float *pixels, int height, int width,
                                                    const struct clipc__source *source,
                                                    const clipc_preprocessing *spec);

/* The whole way of a picture: orientation, colour, resize, crop, rescale, normalise by the chosen reference.
 * picture is consumed (freed, also on failure). pixels [out] float [3, crop_height or resized height, ...width];
 * the caller has made sure that the spec ends in height x width; another size is _UNSUPPORTED. */
CLIPC_PRIVATE clipc_status clipc__preprocess_picture(float *pixels, int height, int width,
                                                     struct clipc__picture *picture, const clipc_preprocessing *spec,
                                                     unsigned cpu, clipc_error *error);

#endif
