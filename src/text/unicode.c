/* What the reference tokenisers know about characters, from tables that tools/make_unicode_tables.py makes.
 * In: a code point. Out: its properties and its lower case.
 * The references differ in their Unicode versions, so the tables hold what each of them answers. */
#include "text/tokenizer.h"

struct unicode_lower_run {
  uint32_t first, last;
  int8_t step;
  int32_t difference;
  int8_t hf_only;
};

#include "text/unicode_tables.inc"

unsigned clipc__char_properties(uint32_t code_point) {
  if (code_point < 0x80) { /* the same in all */
    uint32_t letter = (code_point | 0x20) - 'a';
    if (letter < 26) return CLIPC__CHAR_LETTER_HF | CLIPC__CHAR_LETTER | CLIPC__CHAR_WORD_HF | CLIPC__CHAR_CASED;
    if (code_point - '0' < 10) return CLIPC__CHAR_NUMBER_HF | CLIPC__CHAR_NUMBER | CLIPC__CHAR_WORD_HF;
  }
  size_t low = 0,
         high = sizeof unicode_properties / sizeof unicode_properties[0]; /* row[low] <= code point < row[high] */
  while (high - low > 1) {
    size_t middle = (low + high) / 2;
    if (unicode_properties[middle] >> 11 <= code_point)
      low = middle;
    else
      high = middle;
  }
  return unicode_properties[low] & 0x7FF;
}

bool clipc__char_is_space(uint32_t c) {
  return c == ' ' || c - 9 < 5 || c == 0x85 || c == 0xA0 || c == 0x1680 || c - 0x2000 < 11 || c == 0x2028 ||
         c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

uint32_t clipc__char_lower(uint32_t code_point, bool hf) {
  if (code_point < 0x80) return code_point - 'A' < 26 ? code_point + 32 : code_point;
  size_t low = 0, high = sizeof unicode_lower / sizeof unicode_lower[0];
  while (high - low > 1) {
    size_t middle = (low + high) / 2;
    if (unicode_lower[middle].first <= code_point)
      low = middle;
    else
      high = middle;
  }
  const struct unicode_lower_run *run = &unicode_lower[low];
  if (code_point < run->first || code_point > run->last || (run->hf_only && !hf)) return code_point;
  if ((code_point - run->first) % (uint32_t)run->step != 0) return code_point;
  return (uint32_t)((int32_t)code_point + run->difference);
}
