/* SHA-256 in plain C, and by the SHA extensions of x86 where the CPU has them: five times as fast.
 * Must match: FIPS 180-4. */
#include "base/sha256.h"

#include <string.h>

#if defined(__x86_64__)
#define SHA256_X86 1
#include <cpuid.h>
#include <immintrin.h>
#endif

_Alignas(16) static const uint32_t sha256_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

/* ---- blocks of 64 bytes */

static uint32_t sha256_turn(uint32_t x, int n) { return x >> n | x << (32 - n); }

static void sha256_plain(uint32_t state[8], const uint8_t *bytes, size_t n_blocks) {
  uint32_t w[64];
  for (; n_blocks > 0; n_blocks--, bytes += 64) {
    for (int i = 0; i < 16; i++)
      w[i] = (uint32_t)bytes[4 * i] << 24 | (uint32_t)bytes[4 * i + 1] << 16 | (uint32_t)bytes[4 * i + 2] << 8 |
             bytes[4 * i + 3];
    for (int i = 16; i < 64; i++) {
      uint32_t s0 = sha256_turn(w[i - 15], 7) ^ sha256_turn(w[i - 15], 18) ^ w[i - 15] >> 3;
      uint32_t s1 = sha256_turn(w[i - 2], 17) ^ sha256_turn(w[i - 2], 19) ^ w[i - 2] >> 10;
      w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
    uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
    for (int i = 0; i < 64; i++) {
      uint32_t s1 = sha256_turn(e, 6) ^ sha256_turn(e, 11) ^ sha256_turn(e, 25);
      uint32_t t1 = h + s1 + ((e & f) ^ (~e & g)) + sha256_constants[i] + w[i];
      uint32_t s0 = sha256_turn(a, 2) ^ sha256_turn(a, 13) ^ sha256_turn(a, 22);
      uint32_t t2 = s0 + ((a & b) ^ (a & c) ^ (b & c));
      h = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d;
    state[4] += e, state[5] += f, state[6] += g, state[7] += h;
  }
}

#ifdef SHA256_X86

#define SHA256_TARGET __attribute__((target("sha,sse4.1,ssse3")))

/* Four words of the schedule out of the sixteen before them. */
SHA256_TARGET static __m128i sha256_next_words(const __m128i w[4]) {
  __m128i sum = _mm_add_epi32(_mm_sha256msg1_epu32(w[0], w[1]), _mm_alignr_epi8(w[3], w[2], 4));
  return _mm_sha256msg2_epu32(sum, w[3]);
}

/* The instructions want the state as (a, b, e, f) and (c, d, g, h), a and c in the highest lanes. */
SHA256_TARGET static void sha256_x86(uint32_t state[8], const uint8_t *bytes, size_t n_blocks) {
  const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
  __m128i dcba, hgfe, abef, cdgh;
  memcpy(&dcba, state, sizeof dcba);
  memcpy(&hgfe, state + 4, sizeof hgfe);
  __m128i cdab = _mm_shuffle_epi32(dcba, 0xB1), efgh = _mm_shuffle_epi32(hgfe, 0x1B);
  abef = _mm_alignr_epi8(cdab, efgh, 8);
  cdgh = _mm_blend_epi16(efgh, cdab, 0xF0);
  for (; n_blocks > 0; n_blocks--, bytes += 64) {
    __m128i abef_before = abef, cdgh_before = cdgh, w[4];
    for (int i = 0; i < 4; i++) {
      memcpy(&w[i], bytes + 16 * i, sizeof w[i]);
      w[i] = _mm_shuffle_epi8(w[i], big_endian);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) {
      const __m128i *constants = (const __m128i *)(const void *)(sha256_constants + 4 * i);
      __m128i sum = _mm_add_epi32(w[0], _mm_load_si128(constants));
      cdgh = _mm_sha256rnds2_epu32(cdgh, abef, sum);
      abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(sum, 0x0E));
      __m128i next = sha256_next_words(w);
      w[0] = w[1], w[1] = w[2], w[2] = w[3], w[3] = next;
    }
    abef = _mm_add_epi32(abef, abef_before);
    cdgh = _mm_add_epi32(cdgh, cdgh_before);
  }
  __m128i feba = _mm_shuffle_epi32(abef, 0x1B), dchg = _mm_shuffle_epi32(cdgh, 0xB1);
  dcba = _mm_blend_epi16(feba, dchg, 0xF0);
  hgfe = _mm_alignr_epi8(dchg, feba, 8);
  memcpy(state, &dcba, sizeof dcba);
  memcpy(state + 4, &hgfe, sizeof hgfe);
}

bool clipc__sha256_has_instructions(void) {
  unsigned a, b, c, d;
  bool sse = __get_cpuid(1, &a, &b, &c, &d) && (c & bit_SSSE3) != 0 && (c & bit_SSE4_1) != 0;
  return sse && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_SHA) != 0;
}

#else

bool clipc__sha256_has_instructions(void) { return false; }

#endif

/* ---- messages */

static void sha256_blocks(struct clipc__sha256 *sha, const uint8_t *bytes, size_t n_blocks) {
#ifdef SHA256_X86
  if (sha->fast) {
    sha256_x86(sha->state, bytes, n_blocks);
    return;
  }
#endif
  sha256_plain(sha->state, bytes, n_blocks);
}

void clipc__sha256_begin(struct clipc__sha256 *sha, bool fast) {
  *sha = (struct clipc__sha256){
      .state = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19},
      .fast = fast};
}

void clipc__sha256_add(struct clipc__sha256 *sha, const void *data, size_t n_bytes) {
  const uint8_t *bytes = data;
  size_t held = (size_t)(sha->n_bytes % 64);
  sha->n_bytes += n_bytes;
  if (held > 0) {
    size_t n = n_bytes < 64 - held ? n_bytes : 64 - held;
    memcpy(sha->block + held, bytes, n);
    bytes += n;
    n_bytes -= n;
    if (held + n < 64) return;
    sha256_blocks(sha, sha->block, 1);
  }
  sha256_blocks(sha, bytes, n_bytes / 64);
  if (n_bytes % 64 > 0) memcpy(sha->block, bytes + n_bytes / 64 * 64, n_bytes % 64);
}

void clipc__sha256_end(struct clipc__sha256 *sha, uint8_t digest[CLIPC__SHA256_BYTES]) {
  uint8_t tail[72] = {0x80};
  uint64_t n_bits = 8 * sha->n_bytes;
  size_t held = (size_t)(sha->n_bytes % 64), n_pad = (held < 56 ? 56 : 120) - held;
  for (int i = 0; i < 8; i++) tail[n_pad + (size_t)i] = (uint8_t)(n_bits >> (56 - 8 * i));
  clipc__sha256_add(sha, tail, n_pad + 8);
  for (int i = 0; i < 32; i++) digest[i] = (uint8_t)(sha->state[i / 4] >> (24 - 8 * (i % 4)));
}

#undef SHA256_X86
#undef SHA256_TARGET
