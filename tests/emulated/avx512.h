/* Runs AVX-512, VNNI, BF16 and AVX-VNNI code on any x86-64 CPU with AVX2 and FMA, for tests: the intrinsics that the
 * kernels use, in plain C on the compiler's own vector types. Included before the kernels, it sets their target macros
 * too. An intrinsic that is missing here does not compile ("target specific option mismatch"). Lanes that are masked
 * off are not touched in memory, and an aligned access to an odd place traps, as on the CPU.
 *
 * Floats are rounded as MXCSR says, but for BF16: to nearest, denormals being nought, as the manual has it. */
#ifndef CLIPC_EMULATED_AVX512_H
#define CLIPC_EMULATED_AVX512_H

#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#define EMU_TARGET "avx2,fma"
#define EMU static __attribute__((noinline, unused, target(EMU_TARGET))) /* inlined, they compile for a minute */

/* What the kernels take from outside. */
#define AVX512_TARGET EMU_TARGET
#define AVX512_VNNI_TARGET EMU_TARGET
#define AVX512_BF16_TARGET EMU_TARGET
#define AVX512_DOT_U8(sum, x, w) sum = emu_dot_u8(sum, x, w)
#define AVX512_DOT_U8_BY_PAIRS(sum, x, w, ones) sum = emu_dot_u8_by_pairs(sum, x, w, ones)

/* The lanes of a register. A vector goes in and out by memcpy; one of 256 or 128 bits fills the lower part. */
typedef union {
  float f[16];
  int32_t i[16];
  uint32_t u[16];
  int16_t s[32];
  uint16_t w[32];
  int8_t b[64];
  uint8_t c[64];
} emu_lanes;

#define EMU_GET(vector)                                                                                                \
  __extension__({                                                                                                      \
    emu_lanes emu_got;                                                                                                 \
    memset(&emu_got, 0, sizeof emu_got);                                                                               \
    memcpy(&emu_got, &(vector), sizeof(vector));                                                                       \
    emu_got;                                                                                                           \
  })
#define EMU_PUT(type, lanes)                                                                                           \
  __extension__({                                                                                                      \
    type emu_put;                                                                                                      \
    memcpy(&emu_put, &(lanes), sizeof emu_put);                                                                        \
    emu_put;                                                                                                           \
  })

/* ---- lane by lane: a, b, c are the lanes of one field */

#define EMU_UNARY(name, to, from, out, in, n, expression)                                                              \
  EMU to emu_##name(from first) {                                                                                      \
    emu_lanes x = EMU_GET(first), y;                                                                                   \
    for (int lane = 0; lane < n; lane++) {                                                                             \
      __typeof__(x.in[0]) a = x.in[lane];                                                                              \
      y.out[lane] = (__typeof__(y.out[0]))(expression);                                                                \
    }                                                                                                                  \
    return EMU_PUT(to, y);                                                                                             \
  }
#define EMU_BINARY(name, type, field, n, expression)                                                                   \
  EMU type emu_##name(type first, type second) {                                                                       \
    emu_lanes x = EMU_GET(first), y = EMU_GET(second);                                                                 \
    for (int lane = 0; lane < n; lane++) {                                                                             \
      __typeof__(x.field[0]) a = x.field[lane], b = y.field[lane];                                                     \
      x.field[lane] = (__typeof__(x.field[0]))(expression);                                                            \
    }                                                                                                                  \
    return EMU_PUT(type, x);                                                                                           \
  }
#define EMU_TERNARY(name, expression)                                                                                  \
  EMU __m512 emu_##name(__m512 first, __m512 second, __m512 third) {                                                   \
    emu_lanes x = EMU_GET(first), y = EMU_GET(second), z = EMU_GET(third);                                             \
    for (int lane = 0; lane < 16; lane++) {                                                                            \
      float a = x.f[lane], b = y.f[lane], c = z.f[lane];                                                               \
      x.f[lane] = (expression);                                                                                        \
    }                                                                                                                  \
    return EMU_PUT(__m512, x);                                                                                         \
  }

/* a * 2^floor(b), rounded once: a double holds it */
EMU float emu_scaled(float a, float b) {
  if (isnan(a) || isnan(b)) return a + b;
  if (isinf(b)) return b > 0 ? a * INFINITY : a * 0.0f;
  double whole = floor((double)b);
  return (float)ldexp((double)a, whole > 900 ? 900 : whole < -900 ? -900 : (int)whole);
}

/* a - floor(a), rounded down too: less than 1, and nought is -0 */
EMU float emu_part(float a) {
  if (isnan(a) || isinf(a)) return isnan(a) ? a : 0.0f;
  double part = (double)a - floor((double)a);
  float rounded = (float)part;
  if ((double)rounded > part || rounded == 1.0f) rounded = nextafterf(rounded, 0.0f);
  return rounded == 0.0f ? -0.0f : rounded;
}

EMU_BINARY(add_ps, __m512, f, 16, a + b)
EMU_BINARY(sub_ps, __m512, f, 16, a - b)
EMU_BINARY(mul_ps, __m512, f, 16, a *b)
EMU_BINARY(div_ps, __m512, f, 16, a / b)
EMU_BINARY(min_ps, __m512, f, 16, a < b ? a : b)
EMU_BINARY(max_ps, __m512, f, 16, a > b ? a : b)
EMU_BINARY(scalef_ps, __m512, f, 16, emu_scaled(a, b))
EMU_BINARY(add_epi32, __m512i, u, 16, a + b)
EMU_BINARY(sub_epi32, __m512i, u, 16, a - b)
EMU_BINARY(mullo_epi32, __m512i, u, 16, a *b)
EMU_BINARY(max_epi32, __m512i, i, 16, a > b ? a : b)
EMU_TERNARY(fmadd_ps, __builtin_fmaf(a, b, c))
EMU_TERNARY(fmsub_ps, __builtin_fmaf(a, b, -c))
EMU_UNARY(abs_ps, __m512, __m512, f, f, 16, fabsf(a))
EMU_UNARY(part_ps, __m512, __m512, f, f, 16, emu_part(a))
EMU_UNARY(cvtepi32_ps, __m512, __m512i, f, i, 16, a)
EMU_UNARY(cvtusepi32_epi8, __m128i, __m512i, c, u, 16, a > 255 ? 255 : a)
EMU_UNARY(set1_ps, __m512, float, f, f, 16, (a = x.f[0]))
EMU_UNARY(set1_epi32, __m512i, int32_t, i, i, 16, (a = x.i[0]))
EMU_UNARY(set1_epi16, __m512i, int16_t, s, s, 32, (a = x.s[0]))

EMU __m512i emu_slli_epi32(__m512i first, unsigned n) {
  emu_lanes x = EMU_GET(first);
  for (int lane = 0; lane < 16; lane++) x.u[lane] = n > 31 ? 0 : x.u[lane] << n;
  return EMU_PUT(__m512i, x);
}

/* From halves to halves, as the compilers do it. */
#define EMU_REDUCE(name, expression)                                                                                   \
  EMU float emu_##name(__m512 first) {                                                                                 \
    emu_lanes x = EMU_GET(first);                                                                                      \
    for (int n = 8; n > 0; n /= 2)                                                                                     \
      for (int lane = 0; lane < n; lane++) {                                                                           \
        float a = x.f[lane], b = x.f[lane + n];                                                                        \
        x.f[lane] = (expression);                                                                                      \
      }                                                                                                                \
    return x.f[0];                                                                                                     \
  }
EMU_REDUCE(reduce_add_ps, a + b)
EMU_REDUCE(reduce_min_ps, a < b ? a : b)
EMU_REDUCE(reduce_max_ps, a > b ? a : b)

EMU __mmask16 emu_less(__m512 first, __m512 second) {
  emu_lanes x = EMU_GET(first), y = EMU_GET(second);
  unsigned mask = 0;
  for (int lane = 0; lane < 16; lane++) mask |= (unsigned)(x.f[lane] < y.f[lane]) << lane;
  return (__mmask16)mask;
}

EMU __m512 emu_chosen(__m512 old, __mmask16 mask, __m512 value) {
  emu_lanes x = EMU_GET(old), y = EMU_GET(value);
  for (int lane = 0; lane < 16; lane++)
    if (mask >> lane & 1) x.f[lane] = y.f[lane];
  return EMU_PUT(__m512, x);
}

EMU __m128i emu_lowest(__m512i first) { return EMU_PUT(__m128i, first); }

/* ---- memory */

EMU const void *emu_aligned(const void *place) {
  if ((uintptr_t)place % 64 != 0) __builtin_trap();
  return place;
}

/* Lanes of n_bytes bytes. */
#define EMU_MASKED(type, suffix, n_bytes)                                                                              \
  EMU type emu_load_##suffix(type old, uint64_t mask, const void *from) {                                              \
    for (size_t at = 0; at < sizeof old; at += n_bytes)                                                                \
      if (mask >> at / n_bytes & 1) memcpy((char *)&old + at, (const char *)from + at, n_bytes);                       \
    return old;                                                                                                        \
  }                                                                                                                    \
  EMU void emu_store_##suffix(void *to, uint64_t mask, type value) {                                                   \
    for (size_t at = 0; at < sizeof value; at += n_bytes)                                                              \
      if (mask >> at / n_bytes & 1) memcpy((char *)to + at, (const char *)&value + at, n_bytes);                       \
  }
EMU_MASKED(__m512, ps, 4)
EMU_MASKED(__m512i, epi32, 4)
EMU_MASKED(__m512i, epi16, 2)
EMU_MASKED(__m256i, epi16_256, 2)
EMU_MASKED(__m128i, epi8_128, 1)
#define EMU_ALL (~(uint64_t)0)

/* ---- across lanes */

EMU int emu_clamp(int value, int low, int high) { return value < low ? low : value > high ? high : value; }

EMU __m512i emu_packs_epi32(__m512i first, __m512i second) {
  emu_lanes x = EMU_GET(first), y = EMU_GET(second), z;
  for (int i = 0; i < 32; i++) z.s[i] = (int16_t)emu_clamp((i & 4 ? &y : &x)->i[i / 8 * 4 + i % 4], -32768, 32767);
  return EMU_PUT(__m512i, z);
}

EMU __m512i emu_packus_epi16(__m512i first, __m512i second) {
  emu_lanes x = EMU_GET(first), y = EMU_GET(second), z;
  for (int i = 0; i < 64; i++) z.c[i] = (uint8_t)emu_clamp((i & 8 ? &y : &x)->s[i / 16 * 8 + i % 8], 0, 255);
  return EMU_PUT(__m512i, z);
}

EMU __m512i emu_permutexvar_epi32(__m512i index, __m512i first) {
  emu_lanes k = EMU_GET(index), x = EMU_GET(first), y;
  for (int lane = 0; lane < 16; lane++) y.u[lane] = x.u[k.u[lane] & 15];
  return EMU_PUT(__m512i, y);
}

/* ---- sums of products */

EMU void emu_add_u8_products(emu_lanes *sums, const emu_lanes *x, const emu_lanes *w, int n) {
  for (int i = 0; i < 4 * n; i++) sums->u[i / 4] += (uint32_t)(x->c[i] * w->b[i]);
}

EMU __m512i emu_dot_u8(__m512i sums, __m512i first, __m512i second) { /* vpdpbusd */
  emu_lanes z = EMU_GET(sums), x = EMU_GET(first), y = EMU_GET(second);
  emu_add_u8_products(&z, &x, &y, 16);
  return EMU_PUT(__m512i, z);
}

EMU __m256i emu_dot_u8_256(__m256i sums, __m256i first, __m256i second) {
  emu_lanes z = EMU_GET(sums), x = EMU_GET(first), y = EMU_GET(second);
  emu_add_u8_products(&z, &x, &y, 8);
  return EMU_PUT(__m256i, z);
}

/* vpmaddubsw, which saturates, vpmaddwd, vpaddd */
EMU __m512i emu_dot_u8_by_pairs(__m512i sums, __m512i first, __m512i second, __m512i factors) {
  emu_lanes z = EMU_GET(sums), x = EMU_GET(first), y = EMU_GET(second), f = EMU_GET(factors);
  for (int i = 0; i < 32; i++) {
    int pair = emu_clamp(x.c[2 * i] * y.b[2 * i] + x.c[2 * i + 1] * y.b[2 * i + 1], -32768, 32767);
    z.u[i / 2] += (uint32_t)(pair * f.s[i]);
  }
  return EMU_PUT(__m512i, z);
}

/* ---- BF16 */

EMU float emu_without_denormals(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  if ((bits & 0x7f800000u) == 0) bits &= 0x80000000u;
  memcpy(&value, &bits, sizeof bits);
  return value;
}

EMU float emu_from_bf16(uint16_t half) {
  uint32_t bits = (uint32_t)half << 16;
  float value;
  memcpy(&value, &bits, sizeof bits);
  return emu_without_denormals(value);
}

EMU uint16_t emu_to_bf16(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  if ((bits & 0x7f800000u) == 0) return (uint16_t)(bits >> 16 & 0x8000);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(bits >> 16 | 0x40);
  return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* vdpbf16ps: the odd products first, then the even ones, each fused. */
EMU __m512 emu_dpbf16_ps(__m512 sums, __m512bh first, __m512bh second) {
  emu_lanes z = EMU_GET(sums), x = EMU_GET(first), y = EMU_GET(second);
  for (int lane = 0; lane < 16; lane++)
    for (int odd = 1; odd >= 0; odd--) {
      float a = emu_from_bf16(x.w[2 * lane + odd]), b = emu_from_bf16(y.w[2 * lane + odd]);
      z.f[lane] = emu_without_denormals(__builtin_fmaf(a, b, emu_without_denormals(z.f[lane])));
    }
  return EMU_PUT(__m512, z);
}

EMU __m512bh emu_cvtne2ps_pbh(__m512 upper, __m512 lower) {
  emu_lanes x = EMU_GET(lower), y = EMU_GET(upper), z;
  for (int lane = 0; lane < 32; lane++) z.w[lane] = emu_to_bf16((lane < 16 ? &x : &y)->f[lane % 16]);
  return EMU_PUT(__m512bh, z);
}

EMU __m256bh emu_cvtneps_pbh(__m512 first) {
  emu_lanes x = EMU_GET(first), z;
  for (int lane = 0; lane < 16; lane++) z.w[lane] = emu_to_bf16(x.f[lane]);
  return EMU_PUT(__m256bh, z);
}

/* ---- the names: some are macros of <immintrin.h> */

#undef _mm512_castps_si512
#undef _mm512_castsi512_ps
#undef _mm512_castsi512_si128
#undef _mm512_cmp_ps_mask
#undef _mm512_permutexvar_epi32
#undef _mm512_reduce_ps
#undef _mm512_setr_epi32
#undef _mm512_slli_epi32

#define _mm512_add_ps emu_add_ps
#define _mm512_sub_ps emu_sub_ps
#define _mm512_mul_ps emu_mul_ps
#define _mm512_div_ps emu_div_ps
#define _mm512_min_ps emu_min_ps
#define _mm512_max_ps emu_max_ps
#define _mm512_abs_ps emu_abs_ps
#define _mm512_scalef_ps emu_scalef_ps
#define _mm512_fmadd_ps emu_fmadd_ps
#define _mm512_fmsub_ps emu_fmsub_ps
#define _mm512_add_epi32 emu_add_epi32
#define _mm512_sub_epi32 emu_sub_epi32
#define _mm512_mullo_epi32 emu_mullo_epi32
#define _mm512_max_epi32 emu_max_epi32
#define _mm512_slli_epi32 emu_slli_epi32
#define _mm512_cvtepi32_ps emu_cvtepi32_ps
#define _mm512_cvtusepi32_epi8 emu_cvtusepi32_epi8
#define _mm512_reduce_add_ps emu_reduce_add_ps
#define _mm512_reduce_min_ps emu_reduce_min_ps
#define _mm512_reduce_max_ps emu_reduce_max_ps
#define _mm512_reduce_ps(x, mode) emu_part_ps(x)     /* the kernels round down, to whole numbers */
#define _mm512_cmp_ps_mask(a, b, how) emu_less(a, b) /* the kernels ask nothing else */
#define _mm512_set1_ps emu_set1_ps
#define _mm512_set1_epi32 emu_set1_epi32
#define _mm512_set1_epi16 emu_set1_epi16
#define _mm512_setzero_ps() emu_set1_ps(0.0f)
#define _mm512_setzero_si512() emu_set1_epi32(0)
#define _mm512_setr_epi32(...) emu_load_epi32(emu_set1_epi32(0), EMU_ALL, (const int32_t[16]){__VA_ARGS__})
#define _mm512_castps_si512(x) ((__m512i)(x))
#define _mm512_castsi512_ps(x) ((__m512)(x))
#define _mm512_castsi512_si128 emu_lowest
#define _mm512_cvtss_f32(x) ((x)[0])
#define _mm512_loadu_ps(p) emu_load_ps(emu_set1_ps(0.0f), EMU_ALL, p)
#define _mm512_load_ps(p) _mm512_loadu_ps(emu_aligned(p))
#define _mm512_loadu_si512(p) emu_load_epi32(emu_set1_epi32(0), EMU_ALL, p)
#define _mm512_load_si512(p) _mm512_loadu_si512(emu_aligned(p))
#define _mm512_maskz_loadu_ps(mask, p) emu_load_ps(emu_set1_ps(0.0f), mask, p)
#define _mm512_mask_loadu_ps emu_load_ps
#define _mm512_maskz_loadu_epi32(mask, p) emu_load_epi32(emu_set1_epi32(0), mask, p)
#define _mm512_maskz_loadu_epi16(mask, p) emu_load_epi16(emu_set1_epi32(0), mask, p)
#define _mm512_storeu_ps(p, x) emu_store_ps(p, EMU_ALL, x)
#define _mm512_store_ps(p, x) emu_store_ps((void *)(uintptr_t)emu_aligned(p), EMU_ALL, x)
#define _mm512_storeu_si512(p, x) emu_store_epi32(p, EMU_ALL, x)
#define _mm512_store_si512(p, x) emu_store_epi32((void *)(uintptr_t)emu_aligned(p), EMU_ALL, x)
#define _mm512_mask_storeu_ps emu_store_ps
#define _mm256_mask_storeu_epi16 emu_store_epi16_256
#define _mm_mask_storeu_epi8 emu_store_epi8_128
#define _mm512_mask_add_ps(old, mask, a, b) emu_chosen(old, mask, emu_add_ps(a, b))
#define _mm512_mask_blend_ps(mask, a, b) emu_chosen(a, mask, b)
#define _mm512_packs_epi32 emu_packs_epi32
#define _mm512_packus_epi16 emu_packus_epi16
#define _mm512_permutexvar_epi32 emu_permutexvar_epi32
#define _mm512_dpbf16_ps emu_dpbf16_ps
#define _mm512_cvtne2ps_pbh emu_cvtne2ps_pbh
#define _mm512_cvtneps_pbh emu_cvtneps_pbh
#define _mm256_dpbusd_avx_epi32 emu_dot_u8_256

#endif
