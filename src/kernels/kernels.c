/* Selection: the plain C first, then each better tier in the mask overwrites what it does better. */
#include "kernels/kernels.h"

size_t clipc__number_bytes(enum clipc__number number) {
  static const size_t bytes[] = {
      [CLIPC__F32] = 4, [CLIPC__BF16] = 2, [CLIPC__S8] = 1, [CLIPC__U8] = 1, [CLIPC__S16] = 2};
  return bytes[number];
}

void clipc__kernels_init(struct clipc__kernels *kernels, unsigned cpu, bool blas) {
  clipc__kernels_ref(kernels);
  kernels->cpu = cpu;
  clipc__kernels_avx2(kernels, cpu);
  clipc__kernels_avx512(kernels, cpu);
  clipc__kernels_neon(kernels, cpu);
  if (blas) clipc__kernels_blas(kernels);
}
