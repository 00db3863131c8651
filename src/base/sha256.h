/* SHA-256 (FIPS 180-4), for what is kept and compared years later. */
#ifndef CLIPC_SHA256_H
#define CLIPC_SHA256_H

#include "base/base.h"

#define CLIPC__SHA256_BYTES 32

struct clipc__sha256 {
  uint32_t state[8];
  uint64_t n_bytes; /* so far */
  uint8_t block[64];
  bool fast; /* by the CPU's own instructions */
};

/* Whether this CPU has instructions for it. Asks anew at every call, which a virtual machine may take long for. */
CLIPC_PRIVATE bool clipc__sha256_has_instructions(void);

/* fast: what the call above said; false does everywhere. */
CLIPC_PRIVATE void clipc__sha256_begin(struct clipc__sha256 *sha, bool fast);
CLIPC_PRIVATE void clipc__sha256_add(struct clipc__sha256 *sha, const void *data, size_t n_bytes);
CLIPC_PRIVATE void clipc__sha256_end(struct clipc__sha256 *sha, uint8_t digest[CLIPC__SHA256_BYTES]);

#endif
