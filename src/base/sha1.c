/* SHA-1 as FIPS 180-4 has it, in plain C: it is for files of a few megabytes. */
#include "base/sha1.h"

#include <string.h>

static uint32_t sha1_rotate(uint32_t x, int n) { return x << n | x >> (32 - n); }

static void sha1_block(uint32_t state[5], const uint8_t *data) {
  uint32_t w[80], a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];
  for (int i = 0; i < 16; i++)
    w[i] = (uint32_t)data[4 * i] << 24 | (uint32_t)data[4 * i + 1] << 16 | (uint32_t)data[4 * i + 2] << 8 |
           (uint32_t)data[4 * i + 3];
  for (int i = 16; i < 80; i++) w[i] = sha1_rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
  for (int i = 0; i < 80; i++) {
    uint32_t f = i < 20   ? ((b & c) | (~b & d)) + 0x5A827999u
                 : i < 40 ? (b ^ c ^ d) + 0x6ED9EBA1u
                 : i < 60 ? ((b & c) | (b & d) | (c & d)) + 0x8F1BBCDCu
                          : (b ^ c ^ d) + 0xCA62C1D6u;
    uint32_t next = sha1_rotate(a, 5) + f + e + w[i];
    e = d, d = c, c = sha1_rotate(b, 30), b = a, a = next;
  }
  state[0] += a, state[1] += b, state[2] += c, state[3] += d, state[4] += e;
}

void clipc__sha1_begin(struct clipc__sha1 *sha) {
  *sha = (struct clipc__sha1){.state = {0x67452301u, 0xEFCDAB89u, 0x98BADCFEu, 0x10325476u, 0xC3D2E1F0u}};
}

void clipc__sha1_add(struct clipc__sha1 *sha, const void *data, size_t n_bytes) {
  const uint8_t *bytes = data;
  while (n_bytes > 0) {
    size_t at = (size_t)(sha->n_bytes % 64), n = 64 - at < n_bytes ? 64 - at : n_bytes;
    memcpy(sha->block + at, bytes, n);
    sha->n_bytes += n;
    bytes += n;
    n_bytes -= n;
    if (at + n == 64) sha1_block(sha->state, sha->block);
  }
}

void clipc__sha1_end(struct clipc__sha1 *sha, uint8_t digest[CLIPC__SHA1_BYTES]) {
  uint64_t n_bits = sha->n_bytes * 8;
  uint8_t tail[72] = {0x80}, length[8];
  for (int i = 0; i < 8; i++) length[i] = (uint8_t)(n_bits >> (56 - 8 * i));
  size_t at = (size_t)(sha->n_bytes % 64);
  clipc__sha1_add(sha, tail, (at < 56 ? 56 : 120) - at);
  clipc__sha1_add(sha, length, sizeof length);
  for (int i = 0; i < CLIPC__SHA1_BYTES; i++) digest[i] = (uint8_t)(sha->state[i / 4] >> (24 - 8 * (i % 4)));
}
