/* Pictures computed from formulas, the same as in tests/goldens/make_preprocess.py, and what their tests share. */
#ifndef CLIPC_TESTS_PICTURES_H
#define CLIPC_TESTS_PICTURES_H

#include "image/image.h"

/* Makes a picture of the kind ("RGB", "RGBA", "Pt", "I16low" ...: the goldens' first column). */
void pictures_make(struct clipc__picture *picture, const char *kind, int width, int height,
                   const clipc_allocator *allocator);

uint32_t pictures_crc(const struct clipc__picture *picture); /* CRC-32 of its pixels, without gaps */

#endif
