/* What the CPU can do, as one mask that is passed on as an argument. */
#ifndef CLIPC_BASE_CPU_H
#define CLIPC_BASE_CPU_H

#include "base/base.h"

enum clipc__cpu {
  CLIPC__CPU_AVX2 = 1 << 0,     /* with FMA and F16C */
  CLIPC__CPU_AVX_VNNI = 1 << 1, /* vpdpbusd on 256 bits, without AVX-512 */
  CLIPC__CPU_AVX512 = 1 << 2,   /* F, BW, DQ, VL */
  CLIPC__CPU_AVX512_VNNI = 1 << 3,
  CLIPC__CPU_AVX512_BF16 = 1 << 4,
  CLIPC__CPU_NEON = 1 << 8, /* ARMv8-A */
  CLIPC__CPU_DOTPROD = 1 << 9,
  CLIPC__CPU_I8MM = 1 << 10,
  CLIPC__CPU_NEON_BF16 = 1 << 11
};

/* What this CPU and its operating system offer; a rung only with all rungs it stands on. Asks anew at every call. */
CLIPC_PRIVATE unsigned clipc__cpu_mask(void);

/* The bits that a tier and those below it may use; 0 for PLAIN_C, all for BEST. */
CLIPC_PRIVATE unsigned clipc__tier_mask(clipc_tier limit);

/* The best tier that the mask allows. */
CLIPC_PRIVATE clipc_tier clipc__tier_of(unsigned cpu);

/* Between the two, denormal floats count as nought on this thread: they would cost a hundred times as much as
 * others. */
CLIPC_PRIVATE unsigned clipc__denormals_off(void); /* returns what restore wants */
CLIPC_PRIVATE void clipc__denormals_restore(unsigned mode);

#endif
