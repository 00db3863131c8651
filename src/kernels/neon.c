/* The ARM tiers of AArch64, little-endian: which kernel each rung of the ladder brings. On other CPUs it is empty.
 *   NEON      neon_lanes.c (f32; bf16 weights widened), neon_s8.c (int8), neon_rows.c (all that is no product)
 *   DOTPROD   neon_lanes.c: int8 by sdot
 *   I8MM      neon_mmla.c: int8 by smmla
 *   BF16      neon_mmla.c: bf16 by bfmmla */
#include "kernels/neon.h"

void clipc__kernels_neon(struct clipc__kernels *kernels, unsigned cpu) {
#if CLIPC__HAS_NEON
  if (!(cpu & CLIPC__CPU_NEON)) return;
  clipc__neon_rows(kernels);
  clipc__neon_s8(kernels);
  clipc__neon_lanes(kernels, cpu);
  clipc__neon_mmla(kernels, cpu);
#else
  (void)kernels, (void)cpu;
#endif
}
