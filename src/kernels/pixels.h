/* The kernels of pictures: what takes the time between a JPEG's coefficients and resized pixels. All are exact:
 * every variant gives the bits of the plain C in pixels_ref.c. Exactly the stated bytes are read and written; no
 * alignment is needed; outputs must not overlap inputs. */
#ifndef CLIPC_KERNELS_PIXELS_H
#define CLIPC_KERNELS_PIXELS_H

#include "base/cpu.h"

/* How the outputs of one axis are made of its inputs: output i is the sum over t < count[i] of input first[i] + t
 * times weight[i, t], which is high[i, t] * 2^15 + low[i, t], in fixed point of so many bits, rounded and clipped. */
struct clipc__taps {
  size_t n, n_in;               /* outputs; inputs, all that may be read */
  size_t n_row;                 /* weights from output to output */
  const int32_t *first, *count; /* [n]; within n_in */
  const int16_t *low, *high;    /* [n, n_row]; high may be NULL, when weights are low alone */
  int bits;                     /* 0..22 */
};

/* Weights are read by fours: count is a multiple of it wherever n_in is no less. */
#define CLIPC__TAPS_STEP 4

struct clipc__pixel_kernels {
  /* Along rows: out [n_rows, taps->n, n_bands], in [n_rows, taps->n_in, n_bands], 1 to 4 bands; strides in bytes. */
  void (*resize_across)(uint8_t *out, size_t out_stride, const uint8_t *in, size_t in_stride, size_t n_rows,
                        int n_bands, const struct clipc__taps *taps);
  /* Down columns, row i of the outputs: out [n_samples], in [taps->n_in, n_samples] of in_stride bytes. */
  void (*resize_down)(uint8_t *out, const uint8_t *in, size_t in_stride, size_t n_samples,
                      const struct clipc__taps *taps, size_t i);
  /* Inverse DCT as libjpeg's jidctint ("islow"): n blocks [n, 64] of dequantised coefficients in natural order to
   * n 8 x 8 squares of samples side by side, n >= 1. */
  void (*idct)(uint8_t *out, size_t stride, const int16_t *blocks, size_t n);
  /* libjpeg's "fancy" upsampling: out [2n] from in [n], n >= 1; and from the nearer and the farther of two rows. */
  void (*upsample_h2)(uint8_t *out, const uint8_t *in, size_t n);
  void (*upsample_h2v2)(uint8_t *out, const uint8_t *near, const uint8_t *far, size_t n);
  /* YCbCr to RGB as libjpeg: out [n, 3]. */
  void (*ycc_to_rgb)(uint8_t *out, const uint8_t *y, const uint8_t *cb, const uint8_t *cr, size_t n);
};

/* Fills the table with the plain C, then with what is better and within the mask. */
CLIPC_PRIVATE void clipc__pixel_kernels_init(struct clipc__pixel_kernels *kernels, unsigned cpu);
CLIPC_PRIVATE void clipc__pixel_kernels_avx2(struct clipc__pixel_kernels *kernels); /* nothing on other CPUs */
CLIPC_PRIVATE void clipc__pixel_kernels_neon(struct clipc__pixel_kernels *kernels);

#endif
