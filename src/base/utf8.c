/* UTF-8, one code point at a time.
 * Follows Unicode 3.9, table 3-7: an ill-formed sequence ends before the first byte that cannot go on,
 * and each such maximal subpart reads as one U+FFFD, as Python's bytes.decode("utf-8", "replace"). */
#include "base/base.h"

#include <string.h>

size_t clipc__utf8_read(uint32_t *code_point, const uint8_t *s, size_t n, bool *valid) {
  uint8_t first = s[0];
  size_t n_more = first < 0x80 ? 0 : first < 0xC2 ? 9 : first < 0xE0 ? 1 : first < 0xF0 ? 2 : first < 0xF5 ? 3 : 9;
  uint32_t value = n_more == 0 ? first : first & (0x3Fu >> n_more);
  size_t taken = 1;
  if (n_more <= 3) {
    uint8_t low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;  /* no overlong forms */
    uint8_t high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF; /* no surrogates, none past 10FFFF */
    for (; taken <= n_more && taken < n && s[taken] >= low && s[taken] <= high; taken++) {
      value = value << 6 | (s[taken] & 0x3Fu);
      low = 0x80;
      high = 0xBF;
    }
  }
  bool ok = taken == n_more + 1;
  if (valid) *valid = ok;
  *code_point = ok ? value : 0xFFFD;
  return taken;
}

size_t clipc__utf8_write(uint8_t out[4], uint32_t code_point) {
  if (code_point < 0x80) {
    out[0] = (uint8_t)code_point;
    return 1;
  }
  size_t n = code_point < 0x800 ? 2 : code_point < 0x10000 ? 3 : 4;
  static const uint8_t lead[5] = {0, 0, 0xC0, 0xE0, 0xF0};
  for (size_t i = n; i-- > 1; code_point >>= 6) out[i] = (uint8_t)(0x80 | (code_point & 0x3F));
  out[0] = (uint8_t)(lead[n] | code_point);
  return n;
}

bool clipc__utf8_valid(const uint8_t *s, size_t n) {
  bool valid = true;
  uint32_t code_point;
  for (size_t i = 0; valid && i < n;) {
    uint64_t eight = UINT64_C(0x8080808080808080); /* mostly these are ASCII */
    if (n - i >= sizeof eight) memcpy(&eight, s + i, sizeof eight);
    i += eight & UINT64_C(0x8080808080808080) ? clipc__utf8_read(&code_point, s + i, n - i, &valid) : sizeof eight;
  }
  return valid;
}
