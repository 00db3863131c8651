/* Between the two files of resizing: how the outputs of one axis are made of its inputs. */
#ifndef CLIPC_IMAGE_RESIZE_H
#define CLIPC_IMAGE_RESIZE_H

#include "image/image.h"
#include "kernels/pixels.h"

#define CLIPC__RESIZE_MAX_BYTES ((size_t)1 << 30) /* of one table of weights or one buffer */

/* How the pixels are computed: u8 by weights in fixed point, Pillow's or torchvision's; I16 and I by doubles. */
enum clipc__resize_rule { CLIPC__PILLOW_U8, CLIPC__PILLOW_WIDE, CLIPC__TORCHVISION };

/* The outputs [first, first + n) of one axis, which need the inputs [from, to). */
struct clipc__resize_axis {
  int n_in, n_out; /* of the whole axis */
  int first, n;
  int from, to;
  struct clipc__taps taps; /* inputs count from from; the weights of u8 */
  double *weight;          /* [n, taps.n_row]: those of I16 and I */
  int32_t *positions;      /* taps.first and taps.count */
  int16_t *weights;        /* taps.low and taps.high */
};

/* Fills *axis, which holds n_in, n_out, first and n. An axis whose length stays needs no weights. by_fours: for
 * the pass along rows. Returns CLIPC_OK; _LIMIT, _NO_MEMORY: free it all the same. */
CLIPC_PRIVATE clipc_status clipc__resize_axis_make(struct clipc__resize_axis *axis, clipc_filter filter,
                                                   enum clipc__resize_rule rule, bool by_fours,
                                                   const clipc_allocator *allocator, clipc_error *error);
CLIPC_PRIVATE void clipc__resize_axis_free(struct clipc__resize_axis *axis, const clipc_allocator *allocator);

/* A resize that takes the rows of a picture as a decoder makes them. */
struct clipc__resizer;

/* As clipc__resize_window, of a picture whose pixels are still to come. *out is NULL, with CLIPC_OK, where that cannot
 * be: modes other than L, RGB and CMYK, NEAREST, sizes that stay, and pictures that are resized down columns first. */
CLIPC_PRIVATE clipc_status clipc__resizer_make(struct clipc__resizer **out, const struct clipc__picture *in, int width,
                                               int height, const struct clipc__window *window, clipc_filter filter,
                                               bool torchvision, unsigned cpu, clipc_error *error);
CLIPC_PRIVATE void clipc__resizer_free(struct clipc__resizer *resizer); /* NULL is fine */

/* The part of the picture that is needed; n rows of it from row y on, in any order; the resized window. */
CLIPC_PRIVATE struct clipc__window clipc__resizer_needs(const struct clipc__resizer *resizer);
CLIPC_PRIVATE void clipc__resizer_take(struct clipc__resizer *resizer, int y, int n, const uint8_t *rows,
                                       size_t stride_bytes);
CLIPC_PRIVATE clipc_status clipc__resizer_finish(struct clipc__resizer *resizer, struct clipc__picture *out,
                                                 clipc_error *error);

#endif
