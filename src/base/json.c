/* Strict JSON, token by token.
 * In: valid UTF-8. Out: strings with their escapes decoded, unsigned integers, or a reason why not.
 * Stricter than most readers: nothing is tolerated that RFC 8259 does not allow. Nothing recurses. */
#include "base/json.h"

#include <string.h>

bool clipc__json_fail(struct clipc__json *json, const char *trouble) {
  if (json->trouble == NULL) json->trouble = trouble;
  return false;
}

uint8_t clipc__json_peek(struct clipc__json *json) {
  while (json->at < json->n_bytes) {
    uint8_t c = json->data[json->at];
    if (c != ' ' && c != '\t' && c != '\n' && c != '\r') return c;
    json->at++;
  }
  return 0;
}

static bool json_take(struct clipc__json *json, uint8_t c, const char *trouble) {
  if (json->at == json->n_bytes || clipc__json_peek(json) != c || json->at == json->n_bytes)
    return clipc__json_fail(json, trouble);
  json->at++;
  return true;
}

bool clipc__json_open(struct clipc__json *json, uint8_t bracket) {
  return json_take(json, bracket, bracket == '{' ? "an object is expected" : "an array is expected");
}

bool clipc__json_more(struct clipc__json *json, uint8_t close, size_t *n) {
  if (json->trouble) return false;
  if (clipc__json_peek(json) == close) {
    json->at++;
    return false;
  }
  if (*n > 0 && !json_take(json, ',', close == '}' ? "',' or '}' is expected" : "',' or ']' is expected")) return false;
  ++*n;
  return true;
}

bool clipc__json_key(struct clipc__json *json) {
  return clipc__json_string(json) && json_take(json, ':', "':' is expected");
}

static bool json_append(struct clipc__json *json, const void *data, size_t n_bytes) {
  if (clipc__bytes_append(&json->text, data, n_bytes)) return true;
  json->no_memory = true;
  return clipc__json_fail(json, "no memory");
}

static bool json_hex4(struct clipc__json *json, uint32_t *unit) {
  uint32_t value = 0;
  for (int i = 0; i < 4; i++) {
    uint8_t c = json->at < json->n_bytes ? json->data[json->at] : 0;
    uint32_t digit = c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
                     : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a' + 10)
                     : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A' + 10)
                                            : 16;
    if (digit == 16) return clipc__json_fail(json, "\\u needs four hexadecimal digits");
    value = value << 4 | digit;
    json->at++;
  }
  *unit = value;
  return true;
}

/* Behind a backslash: takes the escape and appends what it stands for. */
static bool json_escape(struct clipc__json *json) {
  static const char names[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
  uint8_t c = json->at < json->n_bytes ? json->data[json->at] : 0;
  const char *name = c ? strchr(names, c) : NULL;
  if (name) {
    json->at++;
    return json_append(json, &meanings[name - names], 1);
  }
  uint32_t unit, low;
  if (c != 'u') return clipc__json_fail(json, "unknown escape in a string");
  json->at++;
  if (!json_hex4(json, &unit)) return false;
  if (unit >= 0xDC00 && unit <= 0xDFFF) return clipc__json_fail(json, "lone surrogate in a string");
  if (unit >= 0xD800 && unit <= 0xDBFF) {
    if (json->n_bytes - json->at < 2 || json->data[json->at] != '\\' || json->data[json->at + 1] != 'u')
      return clipc__json_fail(json, "lone surrogate in a string");
    json->at += 2;
    if (!json_hex4(json, &low)) return false;
    if (low < 0xDC00 || low > 0xDFFF) return clipc__json_fail(json, "lone surrogate in a string");
    unit = 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
  }
  uint8_t utf8[4];
  return json_append(json, utf8, clipc__utf8_write(utf8, unit));
}

bool clipc__json_string(struct clipc__json *json) {
  json->text.n_bytes = 0;
  if (!json_take(json, '"', "a string is expected")) return false;
  for (;;) {
    size_t from = json->at;
    while (json->at < json->n_bytes && json->data[json->at] >= 0x20 && json->data[json->at] != '"' &&
           json->data[json->at] != '\\')
      json->at++;
    if (!json_append(json, json->data + from, json->at - from)) return false;
    if (json->at == json->n_bytes) return clipc__json_fail(json, "a string has no end");
    uint8_t c = json->data[json->at];
    if (c < 0x20) return clipc__json_fail(json, "control character in a string");
    json->at++;
    if (c == '"') return true;
    if (!json_escape(json)) return false;
  }
}

static bool json_is_digit(const struct clipc__json *json) {
  return json->at < json->n_bytes && json->data[json->at] >= '0' && json->data[json->at] <= '9';
}

bool clipc__json_u64(struct clipc__json *json, uint64_t *value) {
  clipc__json_peek(json);
  if (!json_is_digit(json)) return clipc__json_fail(json, "an unsigned integer is expected");
  bool zero = json->data[json->at] == '0';
  uint64_t sum = 0;
  for (; json_is_digit(json); json->at++) {
    if (__builtin_mul_overflow(sum, (uint64_t)10, &sum) ||
        __builtin_add_overflow(sum, (uint64_t)(json->data[json->at] - '0'), &sum))
      return clipc__json_fail(json, "an integer is above 2^64 - 1");
    if (zero && json->at + 1 < json->n_bytes && json->data[json->at + 1] >= '0' && json->data[json->at + 1] <= '9')
      return clipc__json_fail(json, "an integer begins with 0");
  }
  uint8_t next = json->at < json->n_bytes ? json->data[json->at] : 0;
  if (next == '.' || next == 'e' || next == 'E') return clipc__json_fail(json, "an unsigned integer is expected");
  *value = sum;
  return true;
}

static bool json_word(struct clipc__json *json, const char *word) {
  size_t n = strlen(word);
  if (json->n_bytes - json->at < n || memcmp(json->data + json->at, word, n) != 0)
    return clipc__json_fail(json, "a value is expected");
  json->at += n;
  return true;
}

bool clipc__json_null(struct clipc__json *json) {
  clipc__json_peek(json);
  return json_word(json, "null");
}

static bool json_digits(struct clipc__json *json) {
  if (!json_is_digit(json)) return clipc__json_fail(json, "a digit is expected");
  while (json_is_digit(json)) json->at++;
  return true;
}

static bool json_skip_number(struct clipc__json *json) {
  if (json->data[json->at] == '-') json->at++;
  bool zero = json->at < json->n_bytes && json->data[json->at] == '0';
  if (zero)
    json->at++;
  else if (!json_digits(json))
    return false;
  if (json->at < json->n_bytes && json->data[json->at] == '.') {
    json->at++;
    if (!json_digits(json)) return false;
  }
  if (json->at < json->n_bytes && (json->data[json->at] | 0x20) == 'e') {
    json->at++;
    if (json->at < json->n_bytes && (json->data[json->at] == '+' || json->data[json->at] == '-')) json->at++;
    if (!json_digits(json)) return false;
  }
  return true;
}

static bool json_skip_scalar(struct clipc__json *json, uint8_t first) {
  switch (first) {
  case '"': return clipc__json_string(json);
  case 't': return json_word(json, "true");
  case 'f': return json_word(json, "false");
  case 'n': return json_word(json, "null");
  default:
    if (first == '-' || (first >= '0' && first <= '9')) return json_skip_number(json);
    return clipc__json_fail(json, "a value is expected");
  }
}

bool clipc__json_skip(struct clipc__json *json, size_t depth) {
  uint8_t closes[CLIPC__JSON_MAX_DEPTH];
  size_t counts[CLIPC__JSON_MAX_DEPTH], n_open = 0;
  do {
    uint8_t first = clipc__json_peek(json);
    if (first == '{' || first == '[') {
      if (n_open + depth >= CLIPC__JSON_MAX_DEPTH) return clipc__json_fail(json, "nested too deeply");
      json->at++;
      closes[n_open] = first == '{' ? '}' : ']';
      counts[n_open++] = 0;
    } else if (!json_skip_scalar(json, first)) {
      return false;
    }
    while (n_open > 0 && !clipc__json_more(json, closes[n_open - 1], &counts[n_open - 1])) {
      if (json->trouble) return false;
      n_open--;
    }
    if (n_open > 0 && closes[n_open - 1] == '}' && !clipc__json_key(json)) return false;
  } while (n_open > 0);
  return true;
}

bool clipc__json_end(struct clipc__json *json) {
  clipc__json_peek(json);
  return json->at == json->n_bytes || clipc__json_fail(json, "something follows the JSON text");
}

bool clipc__json_text_is(const struct clipc__json *json, const char *string) {
  size_t n = strlen(string);
  return json->text.n_bytes == n && (n == 0 || memcmp(json->text.data, string, n) == 0);
}
