/* A checksum as fast as memory: it finds accidents, not forgeries. */
#ifndef CLIPC_CHECKSUM_H
#define CLIPC_CHECKSUM_H

#include "base/base.h"

struct clipc__checksum {
  uint64_t words; /* changes for certain when bytes within one aligned group of 8 change */
  uint64_t order; /* changes with any other change and exchange of places, but for an accident */
};

/* Part of the format of packed files: it never changes. */
CLIPC_PRIVATE struct clipc__checksum clipc__checksum(const void *data, size_t n_bytes);
CLIPC_PRIVATE bool clipc__checksum_is(const void *data, size_t n_bytes, const struct clipc__checksum *expected);

#endif
