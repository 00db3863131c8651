/* Between the two files of the JPEG reader: the frame with its planes of samples. */
#ifndef CLIPC_IMAGE_JPEG_H
#define CLIPC_IMAGE_JPEG_H

#include "image/decode.h"
#include "image/stb.h"

struct clipc__jpeg_component {
  int id, h, v, slot;      /* sampling factors; which quantisation table */
  int width, height;       /* in samples */
  size_t stride, n_rows;   /* of the plane: whole MCUs */
  uint8_t *plane;          /* [n_rows, stride]; grey where no data came */
  int16_t *coefficients;   /* progressive: [n_rows / 8, stride / 8, 64] */
  uint16_t quantisers[64]; /* those in force when its first scan began */
  bool has_quantisers;
};

struct clipc__jpeg_frame {
  bool progressive, jfif;
  int adobe; /* transform of the Adobe marker; -1: no such marker */
  int width, height, n_components, h_max, v_max, mcus_x, mcus_y;
  struct clipc__jpeg_component components[4];
};

/* Allocates the planes from the sizes and sampling factors. */
CLIPC_PRIVATE clipc_status clipc__jpeg_frame_make(struct clipc__jpeg_frame *frame, const struct clipc__source *source);
CLIPC_PRIVATE void clipc__jpeg_frame_free(struct clipc__jpeg_frame *frame, const clipc_allocator *allocator);

/* Inverse DCT of dequantised coefficients in natural order into 8 x 8 samples, as jidctint.c ("islow"). */
CLIPC_PRIVATE void clipc__jpeg_idct(uint8_t *out, size_t stride, const int16_t block[64]);

/* Upsamples and converts the planes to a picture: L, RGB, or CMYK with 255 = full ink. */
CLIPC_PRIVATE clipc_status clipc__jpeg_frame_render(struct clipc__jpeg_frame *frame, struct clipc__picture *out,
                                                    const struct clipc__source *source);

#endif
