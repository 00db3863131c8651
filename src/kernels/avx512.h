/* What the files of the AVX-512 tiers share. What a tier may use and the two products of bytes may be set from outside:
 * tests run the kernels on other CPUs. Everything here is for x86-64 alone. */
#ifndef CLIPC_KERNELS_AVX512_H
#define CLIPC_KERNELS_AVX512_H

#include "kernels/kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>

#ifndef AVX512_TARGET
#define AVX512_TARGET "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl"
#define AVX512_VNNI_TARGET AVX512_TARGET ",avx512vnni"
#define AVX512_BF16_TARGET AVX512_TARGET ",avx512bf16"
/* sum += four bytes of x times four of w, in each lane. With intrinsics gcc 12 keeps the sums in memory. */
#define AVX512_DOT_U8(sum, x, w) __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(w))
#define AVX512_DOT_U8_BY_PAIRS(sum, x, w, ones)                                                                        \
  do {                                                                                                                 \
    __m512i pairs;                                                                                                     \
    __asm__("vpmaddubsw %3, %2, %1\n\tvpmaddwd %4, %1, %1\n\tvpaddd %1, %0, %0"                                        \
            : "+v"(sum), "=&v"(pairs)                                                                                  \
            : "v"(x), "v"(w), "v"(ones));                                                                              \
  } while (0)
#endif

#define AVX512_CODE __attribute__((target(AVX512_TARGET)))
#define AVX512_VNNI_CODE __attribute__((target(AVX512_VNNI_TARGET)))
#define AVX512_BF16_CODE __attribute__((target(AVX512_BF16_TARGET)))
#define AVX512_INLINE static inline __attribute__((target(AVX512_TARGET), always_inline))

AVX512_INLINE __mmask16 avx512_lanes(size_t n) { /* the first n of 16, all of them for more */
  return (__mmask16)(n < 16 ? (1u << n) - 1 : 0xffff);
}

#endif
#endif
