/* Selection: the plain C first, then each better tier within the limit overwrites what it has. */
#include "kernels/kernels.h"

void clipc__kernels_init(struct clipc__kernels *kernels, clipc_tier limit) {
  clipc__kernels_ref(kernels);
  if (limit == CLIPC_TIER_PLAIN_C) return;
  clipc__kernels_blas(kernels);
}
