#include "kernels/kernels.h"
void clipc__kernels_neon(struct clipc__kernels *kernels, unsigned cpu) { (void)kernels, (void)cpu; }
