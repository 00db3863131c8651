/* SHA-1 (FIPS 180-4), by which git and the hub name small files. No protection against those who mean harm. */
#ifndef CLIPC_SHA1_H
#define CLIPC_SHA1_H

#include "base/base.h"

#define CLIPC__SHA1_BYTES 20

struct clipc__sha1 {
  uint32_t state[5];
  uint64_t n_bytes; /* so far */
  uint8_t block[64];
};

CLIPC_PRIVATE void clipc__sha1_begin(struct clipc__sha1 *sha);
CLIPC_PRIVATE void clipc__sha1_add(struct clipc__sha1 *sha, const void *data, size_t n_bytes);
CLIPC_PRIVATE void clipc__sha1_end(struct clipc__sha1 *sha, uint8_t digest[CLIPC__SHA1_BYTES]);

#endif
