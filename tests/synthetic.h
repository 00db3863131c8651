/* Model folders whose weights are computed from the tensors' names.
 * The rule, the lists of tensors and the goldens: tests/goldens/make_models.py, tests/goldens/models/. */
#ifndef CLIPC_TESTS_SYNTHETIC_H
#define CLIPC_TESTS_SYNTHETIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "clipc.h"

/* How a folder is to differ from its golden description; all zero: not at all. */
struct synthetic_change {
  const char *dtype;                   /* all floating-point tensors as "F32", "F16" or "BF16" */
  const char *drop;                    /* the tensor of this name is left out */
  const char *widen;                   /* the tensor of this name has one more in its last dimension */
  const char *config_from, *config_to; /* every occurrence in the configuration is replaced */
  bool outliers; /* eight channels of the layer norms of every block have their gain times 50, and count three times as
                    much as others in what reads them; F32 of Hugging Face's names */
};

/* Writes the folder of tests/goldens/models/<model> and returns its path, which test_folder_delete removes and frees.
 * Fails the running test when it cannot. */
char *synthetic_folder(const char *model, const struct synthetic_change *change);

/* value i of the tensor of this name and shape */
float synthetic_weight(const char *name, int rank, const uint64_t *shape, uint64_t i);
void synthetic_pixels(float *pixels, int which, int height, int width); /* float [3, height, width] */
void synthetic_rgb(uint8_t *rgb, int width, int height);                /* u8 [height, width, 3], a formula */

#endif
