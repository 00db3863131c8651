/* The AVX-512 tiers and AVX-VNNI as checkasm sees them, emulated: linked instead of the library's own, with a CPU that
 * has them all. Where the real one has no AVX2 there is nothing to emulate them with. */
#include "kernels/kernels.h"

#include "avx512.h"

#include "../../src/kernels/avx2.c"
#include "../../src/kernels/avx512.c"
#include "../../src/kernels/avx512_rows.c"

unsigned emulated_cpu_mask(void);
unsigned emulated_cpu_mask(void) {
  unsigned real = clipc__cpu_mask();
  return real & CLIPC__CPU_AVX2 ? real | clipc__tier_mask(CLIPC_TIER_AVX512_BF16) : real;
}
