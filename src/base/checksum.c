/* Eight lanes side by side, each over every eighth word w: their sum; and a state, x + upper(x) lower(x) of x = state +
 * w. What is joined of the sums is a bijection of each word; the states mix every word into all that come after it. By
 * SSE2, which every x86-64 has, at the speed of memory; elsewhere in plain C. */
#include "base/checksum.h"

#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define CHECKSUM_LANES 8
#define CHECKSUM_BYTES (CHECKSUM_LANES * sizeof(uint64_t))
#define CHECKSUM_FACTOR UINT64_C(0x9e3779b97f4a7c15) /* odd */

struct checksum_lanes {
  uint64_t sum[CHECKSUM_LANES], state[CHECKSUM_LANES];
};

#ifdef __SSE2__

static void checksum_add(struct checksum_lanes *lanes, const uint8_t *bytes, size_t n_blocks) {
  __m128i sum[4], state[4];
  memcpy(sum, lanes->sum, sizeof sum);
  memcpy(state, lanes->state, sizeof state);
  for (; n_blocks > 0; n_blocks--, bytes += CHECKSUM_BYTES)
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
      __m128i words = _mm_loadu_si128((const __m128i *)(const void *)bytes + i), x = _mm_add_epi64(state[i], words);
      sum[i] = _mm_add_epi64(sum[i], words);
      state[i] = _mm_add_epi64(x, _mm_mul_epu32(x, _mm_srli_epi64(x, 32)));
    }
  memcpy(lanes->sum, sum, sizeof sum);
  memcpy(lanes->state, state, sizeof state);
}

#else

static void checksum_add(struct checksum_lanes *lanes, const uint8_t *bytes, size_t n_blocks) {
  for (; n_blocks > 0; n_blocks--, bytes += CHECKSUM_BYTES) {
    uint64_t words[CHECKSUM_LANES];
    memcpy(words, bytes, CHECKSUM_BYTES);
    for (size_t i = 0; i < CHECKSUM_LANES; i++) {
      uint64_t x = lanes->state[i] + words[i];
      lanes->sum[i] += words[i];
      lanes->state[i] = x + (uint64_t)(uint32_t)x * (x >> 32);
    }
  }
}

#endif

static uint64_t checksum_join(const uint64_t lanes[CHECKSUM_LANES], uint64_t start) {
  uint64_t joined = start;
  for (size_t i = 0; i < CHECKSUM_LANES; i++) {
    joined = (joined ^ lanes[i]) * CHECKSUM_FACTOR;
    joined ^= joined >> 32;
  }
  return joined;
}

struct clipc__checksum clipc__checksum(const void *data, size_t n_bytes) {
  struct checksum_lanes lanes = {.sum = {0}};
  size_t n_whole = n_bytes / CHECKSUM_BYTES, left = n_bytes % CHECKSUM_BYTES;
  for (size_t i = 0; i < CHECKSUM_LANES; i++) lanes.state[i] = CHECKSUM_FACTOR * (2 * i + 1);
  checksum_add(&lanes, data, n_whole);
  if (left > 0) {
    uint8_t last[CHECKSUM_BYTES] = {0};
    memcpy(last, (const uint8_t *)data + n_whole * CHECKSUM_BYTES, left);
    checksum_add(&lanes, last, 1);
  }
  return (struct clipc__checksum){checksum_join(lanes.sum, n_bytes), checksum_join(lanes.state, n_bytes)};
}

bool clipc__checksum_is(const void *data, size_t n_bytes, const struct clipc__checksum *expected) {
  struct clipc__checksum found = clipc__checksum(data, n_bytes);
  return found.words == expected->words && found.order == expected->order;
}

#undef CHECKSUM_LANES
#undef CHECKSUM_BYTES
#undef CHECKSUM_FACTOR
