/* Eight lanes side by side, each over every eighth word w: state = (state + w) rotated, and the sum of the products of
 * the state's halves at every step. A state is a bijection of each word, and the rotation shows most exchanges of
 * places; those at a distance of whole rounds show in the products. By SSE2, which every x86-64 has, at about the speed
 * of memory; elsewhere in plain C. */
#include "base/checksum.h"

#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define CHECKSUM_LANES 8
#define CHECKSUM_BYTES (CHECKSUM_LANES * sizeof(uint64_t))
#define CHECKSUM_FACTOR UINT64_C(0x9e3779b97f4a7c15) /* odd */
#define CHECKSUM_ROTATION 29

struct checksum_lanes {
  uint64_t state[CHECKSUM_LANES], products[CHECKSUM_LANES];
};

#ifdef __SSE2__

static void checksum_add(struct checksum_lanes *lanes, const uint8_t *bytes, size_t n_blocks) {
  __m128i state[4], products[4];
  memcpy(state, lanes->state, sizeof state);
  memcpy(products, lanes->products, sizeof products);
  for (; n_blocks > 0; n_blocks--, bytes += CHECKSUM_BYTES)
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
      __m128i sum = _mm_add_epi64(state[i], _mm_loadu_si128((const __m128i *)(const void *)bytes + i));
      __m128i low = _mm_srli_epi64(sum, 64 - CHECKSUM_ROTATION), high = _mm_slli_epi64(sum, CHECKSUM_ROTATION);
      state[i] = _mm_or_si128(low, high);
      products[i] = _mm_add_epi64(products[i], _mm_mul_epu32(state[i], _mm_srli_epi64(state[i], 32)));
    }
  memcpy(lanes->state, state, sizeof state);
  memcpy(lanes->products, products, sizeof products);
}

#else

static void checksum_add(struct checksum_lanes *lanes, const uint8_t *bytes, size_t n_blocks) {
  for (; n_blocks > 0; n_blocks--, bytes += CHECKSUM_BYTES) {
    uint64_t words[CHECKSUM_LANES];
    memcpy(words, bytes, CHECKSUM_BYTES);
    for (size_t i = 0; i < CHECKSUM_LANES; i++) {
      uint64_t sum = lanes->state[i] + words[i];
      uint64_t state = sum << CHECKSUM_ROTATION | sum >> (64 - CHECKSUM_ROTATION);
      lanes->state[i] = state;
      lanes->products[i] += (uint64_t)(uint32_t)state * (state >> 32);
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
  struct checksum_lanes lanes = {.products = {0}};
  size_t n_whole = n_bytes / CHECKSUM_BYTES, left = n_bytes % CHECKSUM_BYTES;
  for (size_t i = 0; i < CHECKSUM_LANES; i++) lanes.state[i] = CHECKSUM_FACTOR * (2 * i + 1);
  checksum_add(&lanes, data, n_whole);
  if (left > 0) {
    uint8_t last[CHECKSUM_BYTES] = {0};
    memcpy(last, (const uint8_t *)data + n_whole * CHECKSUM_BYTES, left);
    checksum_add(&lanes, last, 1);
  }
  return (struct clipc__checksum){checksum_join(lanes.state, n_bytes), checksum_join(lanes.products, n_bytes)};
}

bool clipc__checksum_is(const void *data, size_t n_bytes, const struct clipc__checksum *expected) {
  struct clipc__checksum found = clipc__checksum(data, n_bytes);
  return found.words == expected->words && found.order == expected->order;
}

#undef CHECKSUM_LANES
#undef CHECKSUM_BYTES
#undef CHECKSUM_FACTOR
#undef CHECKSUM_ROTATION
