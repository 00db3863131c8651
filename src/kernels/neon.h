/* What the files of the ARM tiers share. Everything here is for AArch64 alone; neon.c says what is taken when. */
#ifndef CLIPC_KERNELS_NEON_H
#define CLIPC_KERNELS_NEON_H

#include "kernels/kernels.h"

#if defined(__aarch64__) && !defined(__AARCH64EB__)
#define CLIPC__HAS_NEON 1
#else
#define CLIPC__HAS_NEON 0
#endif

#if CLIPC__HAS_NEON
#include <arm_neon.h>

/* Functions that need more than ARMv8-A. The instructions themselves are written as assembly, one in a statement:
 * clang 14 hides their intrinsics from such functions, and gcc and clang then make the same loop of them. */
#if defined(__clang__)
#define NEON_BASE
#define NEON_DOTPROD __attribute__((target("dotprod")))
#define NEON_I8MM __attribute__((target("i8mm")))
#define NEON_BF16 __attribute__((target("bf16")))
#define NEON_INLINE static inline __attribute__((always_inline))
#else
#define NEON_BASE
#define NEON_DOTPROD __attribute__((target("arch=armv8.2-a+dotprod")))
#define NEON_I8MM __attribute__((target("arch=armv8.2-a+i8mm")))
#define NEON_BF16 __attribute__((target("arch=armv8.2-a+bf16")))
/* with no more than ARMv8-A whatever -march says, or gcc would not inline it into those */
#define NEON_INLINE static inline __attribute__((always_inline, target("+nothing+simd")))
#endif

/* Loads stay where they are written: compilers draw them forward until registers run out. The instructions of a loop
 * are volatile for the same reason. */
#define NEON_IN_ORDER __asm__ volatile("" : : : "memory")

/* Does something for each row: named sums stay in registers with any compiler at any level of optimisation. */
#define NEON_EACH_1(what, ...) what(0, __VA_ARGS__)
#define NEON_EACH_2(what, ...) NEON_EACH_1(what, __VA_ARGS__) what(1, __VA_ARGS__)
#define NEON_EACH_3(what, ...) NEON_EACH_2(what, __VA_ARGS__) what(2, __VA_ARGS__)
#define NEON_EACH_4(what, ...) NEON_EACH_3(what, __VA_ARGS__) what(3, __VA_ARGS__)
#define NEON_EACH_5(what, ...) NEON_EACH_4(what, __VA_ARGS__) what(4, __VA_ARGS__)
#define NEON_EACH_6(what, ...) NEON_EACH_5(what, __VA_ARGS__) what(5, __VA_ARGS__)
#define NEON_EACH_7(what, ...) NEON_EACH_6(what, __VA_ARGS__) what(6, __VA_ARGS__)
#define NEON_EACH_8(what, ...) NEON_EACH_7(what, __VA_ARGS__) what(7, __VA_ARGS__)
#define NEON_EACH_9(what, ...) NEON_EACH_8(what, __VA_ARGS__) what(8, __VA_ARGS__)
#define NEON_EACH_10(what, ...) NEON_EACH_9(what, __VA_ARGS__) what(9, __VA_ARGS__)

/* A peak loop: 24 sums in registers, as the products have. */
#define NEON_PEAK_START(i, _) uint8x16_t s##i##0 = zero, s##i##1 = zero, s##i##2 = zero, s##i##3 = zero;
#define NEON_PEAK_STEP(i, MADD)                                                                                        \
  MADD(s##i##0, w, w, 0) MADD(s##i##1, w, w, 1) MADD(s##i##2, w, w, 2) MADD(s##i##3, w, w, 3)
#define NEON_PEAK_KEEP(i, _) __asm__ volatile("" : : "w"(s##i##0), "w"(s##i##1), "w"(s##i##2), "w"(s##i##3));
#define NEON_PEAK(name, TARGET, MADD, operations)                                                                      \
  TARGET static double name(size_t n_rounds) {                                                                         \
    const uint8x16_t zero = vdupq_n_u8(0), w = vreinterpretq_u8_f32(vdupq_n_f32(1.0f));                                \
    NEON_EACH_6(NEON_PEAK_START, _)                                                                                    \
    for (size_t round = 0; round < n_rounds; round++) {                                                                \
      NEON_EACH_6(NEON_PEAK_STEP, MADD)                                                                                \
    }                                                                                                                  \
    NEON_EACH_6(NEON_PEAK_KEEP, _)                                                                                     \
    return 24.0 * operations;                                                                                          \
  }

/* Memory that is prefetched as a loop goes on, into the second level: a panel may be larger than the first. */
struct neon_ahead {
  uintptr_t next, due;
  size_t step;
};

NEON_INLINE struct neon_ahead neon_ahead_start(const void *ahead, size_t ahead_bytes, size_t n_steps) {
  uintptr_t start = (uintptr_t)ahead;
  return (struct neon_ahead){start, start, n_steps == 0 ? 0 : (ahead_bytes + n_steps - 1) / n_steps};
}

NEON_INLINE void neon_ahead_step(struct neon_ahead *ahead) {
  ahead->due += ahead->step;
  for (; ahead->next < ahead->due; ahead->next += 64) __builtin_prefetch((const void *)ahead->next, 0, 2);
}

/* One per file. */
CLIPC_PRIVATE void clipc__neon_lanes(struct clipc__kernels *kernels, unsigned cpu);
CLIPC_PRIVATE void clipc__neon_s8(struct clipc__kernels *kernels);
CLIPC_PRIVATE void clipc__neon_mmla(struct clipc__kernels *kernels, unsigned cpu);
CLIPC_PRIVATE void clipc__neon_rows(struct clipc__kernels *kernels);

/* For every product of s8 inputs: the prepare of kernels.h. */
CLIPC_PRIVATE void clipc__neon_prepare_s8(void *out, struct clipc__row_scale *scale, const float *x, size_t k,
                                          size_t k_padded, int n_levels);
#endif

#endif
