/* Base64 text -> bytes, by RFC 4648 with both alphabets, and the head of data: URIs by RFC 2397.
 * Groups of four are looked up in one table while nothing but digits comes; white space, escapes, padding and the end
 * go through a slow loop of single characters, which hands back to the fast one at the next whole group. */
#include "image/base64.h"

#include <string.h>

#define B64_DIGIT 0x40 /* and the value in the six bits below */
#define B64_SPACE 0x80
#define B64_PAD 0x81

/* clang-format off */
static const uint8_t b64_kinds[256] = {
    ['A'] = 64, 65, 66, 67, 68, 69, 70, 71, 72, 73, 74, 75, 76, 77, 78, 79, 80, 81, 82, 83, 84, 85, 86, 87, 88,
    89,
    ['a'] = 90, 91, 92, 93, 94, 95, 96, 97, 98, 99, 100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111,
    112, 113, 114, 115,
    ['0'] = 116, 117, 118, 119, 120, 121, 122, 123, 124, 125,
    ['+'] = 126, ['-'] = 126, ['/'] = 127, ['_'] = 127, ['='] = B64_PAD,
    [' '] = B64_SPACE, ['\t'] = B64_SPACE, ['\n'] = B64_SPACE, ['\v'] = B64_SPACE, ['\f'] = B64_SPACE,
    ['\r'] = B64_SPACE,
};
/* clang-format on */

struct b64_reader {
  const char *text;
  size_t n, at;
  uint8_t *out; /* the next byte goes here */
  uint32_t bits;
  int n_digits; /* of the group that is being read, 0 .. 3 */
  int n_pads;
  bool is_uri; /* %XX is an escape */
};

/* As many whole groups of four digits as come in a row. */
static void b64_read_groups(struct b64_reader *r) {
  const uint8_t *s = (const uint8_t *)r->text + r->at, *end = (const uint8_t *)r->text + r->n;
  uint8_t *out = r->out;
  const uint32_t marks = B64_DIGIT * ((1u << 18) + (1u << 12) + (1u << 6) + 1u);
  while (end - s >= 8) {
    uint32_t a = b64_kinds[s[0]], b = b64_kinds[s[1]], c = b64_kinds[s[2]], d = b64_kinds[s[3]];
    uint32_t e = b64_kinds[s[4]], f = b64_kinds[s[5]], g = b64_kinds[s[6]], h = b64_kinds[s[7]];
    if (!(a & b & c & d & e & f & g & h & B64_DIGIT)) break;
    uint32_t first = (a << 18) + (b << 12) + (c << 6) + d - marks,
             second = (e << 18) + (f << 12) + (g << 6) + h - marks;
    out[0] = (uint8_t)(first >> 16), out[1] = (uint8_t)(first >> 8), out[2] = (uint8_t)first;
    out[3] = (uint8_t)(second >> 16), out[4] = (uint8_t)(second >> 8), out[5] = (uint8_t)second;
    s += 8, out += 6;
  }
  r->at = (size_t)(s - (const uint8_t *)r->text);
  r->out = out;
}

static int b64_hex(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  c |= 0x20;
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* One character, or one escape; false when it may not be there. */
static bool b64_read_one(struct b64_reader *r) {
  uint8_t c = (uint8_t)r->text[r->at];
  size_t length = 1;
  if (c == '%' && r->is_uri) {
    int high = r->n - r->at >= 3 ? b64_hex(r->text[r->at + 1]) : -1;
    int low = r->n - r->at >= 3 ? b64_hex(r->text[r->at + 2]) : -1;
    if (high < 0 || low < 0) return false;
    c = (uint8_t)(high * 16 + low);
    length = 3;
  }
  uint8_t kind = b64_kinds[c];
  if (kind == B64_PAD) {
    if (r->n_digits < 2 || r->n_digits + ++r->n_pads > 4) return false;
  } else if (kind != B64_SPACE) {
    if (kind == 0 || r->n_pads > 0) return false;
    r->bits = r->bits << 6 | (kind & 0x3Fu);
    if (++r->n_digits == 4) {
      *r->out++ = (uint8_t)(r->bits >> 16), *r->out++ = (uint8_t)(r->bits >> 8), *r->out++ = (uint8_t)r->bits;
      r->n_digits = 0, r->bits = 0;
    }
  }
  r->at += length;
  return true;
}

/* The last group: two digits are one byte and four bits of nought, three are two bytes and two such bits. */
static clipc_status b64_finish(struct b64_reader *r, clipc_error *error) {
  if (r->n_digits == 1)
    return clipc__fail(error, CLIPC_E_FORMAT, "base64: the text is cut off, one digit is left over");
  if (r->n_pads > 0 && r->n_digits + r->n_pads != 4)
    return clipc__fail(error, CLIPC_E_FORMAT, "base64: the padding does not fit the digits before it");
  if (r->n_digits == 0) return CLIPC_OK;
  int n_spare = r->n_digits == 2 ? 4 : 2;
  if (r->bits & ((1u << n_spare) - 1))
    return clipc__fail(error, CLIPC_E_FORMAT, "base64: the text is cut off, bits are left over");
  uint32_t bits = r->bits >> n_spare;
  if (r->n_digits == 3) *r->out++ = (uint8_t)(bits >> 8);
  *r->out++ = (uint8_t)bits;
  return CLIPC_OK;
}

static bool b64_same_word(const char *text, const char *word, size_t n) {
  for (size_t i = 0; i < n; i++)
    if ((text[i] >= 'A' && text[i] <= 'Z' ? text[i] + 32 : text[i]) != word[i]) return false;
  return true;
}

/* Passes over "data:...;base64,". */
static clipc_status b64_read_head(struct b64_reader *r, clipc_error *error) {
  static const char scheme[] = "data:", mark[] = ";base64";
  const size_t n_scheme = sizeof scheme - 1, n_mark = sizeof mark - 1;
  size_t start = 0;
  while (start < r->n && b64_kinds[(uint8_t)r->text[start]] == B64_SPACE) start++;
  if (r->n - start < n_scheme || !b64_same_word(r->text + start, scheme, n_scheme)) return CLIPC_OK;
  const char *head = r->text + start + n_scheme, *comma = memchr(head, ',', r->n - start - n_scheme);
  if (comma == NULL) return clipc__fail(error, CLIPC_E_FORMAT, "data URI: there is no comma before the data");
  if ((size_t)(comma - head) < n_mark || !b64_same_word(comma - n_mark, mark, n_mark))
    return clipc__fail(error, CLIPC_E_UNSUPPORTED, "data URI: it does not say ;base64 before the comma");
  r->at = (size_t)(comma + 1 - r->text);
  r->is_uri = true;
  return CLIPC_OK;
}

clipc_status clipc__base64_decode(struct clipc__bytes *out, const char *text, size_t n, uint64_t max_bytes,
                                  clipc_error *error) {
  struct b64_reader r = {.text = text, .n = n};
  clipc_status status = b64_read_head(&r, error);
  if (status != CLIPC_OK) return status;
  size_t n_most = (n - r.at) / 4 * 3 + 2;
  if (n_most > max_bytes && memchr(text + r.at, '%', n - r.at) == NULL) { /* told before memory is taken for it */
    size_t n_digits = 0;
    for (size_t i = r.at; i < n; i++) n_digits += (b64_kinds[(uint8_t)text[i]] & (B64_DIGIT | B64_SPACE)) == B64_DIGIT;
    if (n_digits / 4 * 3 + n_digits % 4 * 3 / 4 > max_bytes)
      return clipc__fail(error, CLIPC_E_LIMIT, "base64: more than %llu bytes", (unsigned long long)max_bytes);
  }
  if (!clipc__bytes_reserve(out, n_most)) return clipc__no_memory(error, "base64");
  r.out = out->data + out->n_bytes;
  while (r.at < n) {
    if (r.n_digits == 0 && r.n_pads == 0) b64_read_groups(&r);
    if (r.at < n && !b64_read_one(&r))
      return clipc__fail(error, CLIPC_E_FORMAT, "base64: byte %zu is wrong (0x%02X)", r.at,
                         (unsigned)(uint8_t)text[r.at]);
  }
  if ((status = b64_finish(&r, error)) != CLIPC_OK) return status;
  size_t n_decoded = (size_t)(r.out - (out->data + out->n_bytes));
  if (n_decoded > max_bytes)
    return clipc__fail(error, CLIPC_E_LIMIT, "base64: more than %llu bytes", (unsigned long long)max_bytes);
  out->n_bytes += n_decoded;
  return CLIPC_OK;
}

#undef B64_DIGIT
#undef B64_SPACE
#undef B64_PAD
