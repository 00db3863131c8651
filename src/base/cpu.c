/* Asks the CPU what it can do: CPUID and XGETBV on x86, the auxiliary vector or sysctl on ARM. */
#include "base/cpu.h"

/* Every tier with the bits that it adds to those of the tier it stands on, in the order of the ladder. */
static const struct {
  clipc_tier tier;
  unsigned adds, stands_on;
  const char *name;
} cpu_ladder[] = {
    {CLIPC_TIER_PLAIN_C, 0, 0, "plain-c"},
    {CLIPC_TIER_AVX2, CLIPC__CPU_AVX2, 0, "avx2"},
    {CLIPC_TIER_AVX_VNNI, CLIPC__CPU_AVX_VNNI, CLIPC__CPU_AVX2, "avx-vnni"},
    {CLIPC_TIER_AVX512, CLIPC__CPU_AVX512, CLIPC__CPU_AVX2 | CLIPC__CPU_AVX_VNNI, "avx512"},
    {CLIPC_TIER_AVX512_VNNI, CLIPC__CPU_AVX512_VNNI, CLIPC__CPU_AVX2 | CLIPC__CPU_AVX_VNNI | CLIPC__CPU_AVX512,
     "avx512-vnni"},
    {CLIPC_TIER_AVX512_BF16, CLIPC__CPU_AVX512_BF16,
     CLIPC__CPU_AVX2 | CLIPC__CPU_AVX_VNNI | CLIPC__CPU_AVX512 | CLIPC__CPU_AVX512_VNNI, "avx512-bf16"},
    {CLIPC_TIER_NEON, CLIPC__CPU_NEON, 0, "neon"},
    {CLIPC_TIER_DOTPROD, CLIPC__CPU_DOTPROD, CLIPC__CPU_NEON, "dotprod"},
    {CLIPC_TIER_I8MM, CLIPC__CPU_I8MM, CLIPC__CPU_NEON | CLIPC__CPU_DOTPROD, "i8mm"},
    {CLIPC_TIER_NEON_BF16, CLIPC__CPU_NEON_BF16, CLIPC__CPU_NEON | CLIPC__CPU_DOTPROD | CLIPC__CPU_I8MM, "neon-bf16"},
};
#define N_RUNGS (sizeof cpu_ladder / sizeof *cpu_ladder)

unsigned clipc__tier_mask(clipc_tier limit) {
  if (limit == CLIPC_TIER_BEST) return ~0u;
  for (size_t i = 0; i < N_RUNGS; i++)
    if (cpu_ladder[i].tier == limit) return cpu_ladder[i].adds | cpu_ladder[i].stands_on;
  return 0;
}

clipc_tier clipc__tier_of(unsigned cpu) {
  clipc_tier best = CLIPC_TIER_PLAIN_C;
  for (size_t i = 0; i < N_RUNGS; i++)
    if (cpu & cpu_ladder[i].adds) best = cpu_ladder[i].tier;
  return best;
}

const char *clipc_tier_name(clipc_tier tier) {
  if (tier == CLIPC_TIER_BEST) return "best";
  for (size_t i = 0; i < N_RUNGS; i++)
    if (cpu_ladder[i].tier == tier) return cpu_ladder[i].name;
  return "unknown";
}

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>

static bool cpu_bit(unsigned reg, int bit) { return reg >> bit & 1; }

unsigned clipc__cpu_mask(void) {
  unsigned a, b, c, d, mask = 0;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
  bool fma = cpu_bit(c, 12), osxsave = cpu_bit(c, 27), avx = cpu_bit(c, 28), f16c = cpu_bit(c, 29);
  if (!osxsave || !avx) return 0;
  unsigned saved, high;
  __asm__("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
  if ((saved & 0x06) != 0x06 || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0; /* xmm, ymm */
  if (!(fma && f16c && cpu_bit(b, 5))) return 0;
  mask |= CLIPC__CPU_AVX2;
  bool zmm = (saved & 0xe6) == 0xe6, vnni = cpu_bit(c, 11);
  if (zmm && cpu_bit(b, 16) && cpu_bit(b, 17) && cpu_bit(b, 30) && cpu_bit(b, 31)) {
    mask |= CLIPC__CPU_AVX512;
    if (vnni) mask |= CLIPC__CPU_AVX512_VNNI;
  }
  if (a >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d)) {
    if (cpu_bit(a, 4)) mask |= CLIPC__CPU_AVX_VNNI;
    if (cpu_bit(a, 5) && (mask & CLIPC__CPU_AVX512_VNNI)) mask |= CLIPC__CPU_AVX512_BF16;
  }
  return mask;
}

#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>

unsigned clipc__cpu_mask(void) {
  unsigned long cap = getauxval(AT_HWCAP), cap2 = getauxval(AT_HWCAP2);
  unsigned mask = CLIPC__CPU_NEON;
  if (cap >> 20 & 1) mask |= CLIPC__CPU_DOTPROD; /* HWCAP_ASIMDDP */
  if ((mask & CLIPC__CPU_DOTPROD) && (cap2 >> 13 & 1)) mask |= CLIPC__CPU_I8MM;  /* HWCAP2_I8MM */
  if ((mask & CLIPC__CPU_I8MM) && (cap2 >> 14 & 1)) mask |= CLIPC__CPU_NEON_BF16; /* HWCAP2_BF16 */
  return mask;
}

#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>

static bool cpu_has(const char *name) {
  int value = 0;
  size_t bytes = sizeof value;
  return sysctlbyname(name, &value, &bytes, NULL, 0) == 0 && value;
}

unsigned clipc__cpu_mask(void) {
  unsigned mask = CLIPC__CPU_NEON;
  if (cpu_has("hw.optional.arm.FEAT_DotProd")) mask |= CLIPC__CPU_DOTPROD;
  if ((mask & CLIPC__CPU_DOTPROD) && cpu_has("hw.optional.arm.FEAT_I8MM")) mask |= CLIPC__CPU_I8MM;
  if ((mask & CLIPC__CPU_I8MM) && cpu_has("hw.optional.arm.FEAT_BF16")) mask |= CLIPC__CPU_NEON_BF16;
  return mask;
}

#elif defined(__aarch64__)
unsigned clipc__cpu_mask(void) { return CLIPC__CPU_NEON; }

#else
unsigned clipc__cpu_mask(void) { return 0; }
#endif

/* ---- denormals */

#if defined(__SSE2__)
#include <xmmintrin.h>

unsigned clipc__denormals_off(void) {
  unsigned mode = _mm_getcsr();
  _mm_setcsr(mode | 0x8040); /* flush to zero, denormals are zero */
  return mode;
}

void clipc__denormals_restore(unsigned mode) { _mm_setcsr(mode); }

#elif defined(__aarch64__)

unsigned clipc__denormals_off(void) {
  uint64_t mode;
  __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
  __asm__ volatile("msr fpcr, %0" : : "r"(mode | (uint64_t)1 << 24)); /* FZ */
  return (unsigned)mode;
}

void clipc__denormals_restore(unsigned mode) { __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)mode)); }

#else

unsigned clipc__denormals_off(void) { return 0; }

void clipc__denormals_restore(unsigned mode) { (void)mode; }

#endif

#undef N_RUNGS
