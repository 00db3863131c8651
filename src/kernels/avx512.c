/* The AVX-512 tiers. */
#include "kernels/kernels.h"

void clipc__kernels_avx512(struct clipc__kernels *kernels, unsigned cpu) { (void)kernels, (void)cpu; }
