/* Characters written as HTML entities.
 * In: valid UTF-8. Out: the same with "&eacute;", "&#233;" and "&#xE9;" read as the character they name, by the rules
 * of HTML 5 as Python 3.11's html.unescape has them, or by ftfy's stricter ones (clipc__html_entity).
 * One thing differs from Python: a decimal number of more than 4300 digits raises there; here it is U+FFFD like
 * every number past the last code point. */
#include "text/ftfy.h"

#include <string.h>

#include "text/html_entities.inc"

#define HTML_N_ENTITIES (sizeof html_entities / sizeof html_entities[0])

enum { HTML_LONGEST_BARE = 6, HTML_LONGEST_RUN = 32, HTML_LONGEST_FTFY_RUN = 24 };

static const struct html_entity *html_find(const uint8_t *name, size_t n) {
  size_t low = 0, high = HTML_N_ENTITIES;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    const struct html_entity *entity = &html_entities[middle];
    size_t n_common = n < entity->n_name ? n : entity->n_name;
    int order = memcmp(html_pool + entity->at, name, n_common);
    if (order == 0 && n == entity->n_name) return entity;
    if (order < 0 || (order == 0 && entity->n_name < n))
      low = middle + 1;
    else
      high = middle;
  }
  return NULL;
}

static bool html_is_letter_or_digit(uint8_t byte) {
  return (byte >= '0' && byte <= '9') || ((byte | 0x20) >= 'a' && (byte | 0x20) <= 'z');
}

/* The letters and digits at the head of text; one more than limit when there are more than that. */
static size_t html_run(const uint8_t *text, size_t n, size_t limit) {
  size_t length = 0;
  while (length < n && length <= limit && html_is_letter_or_digit(text[length])) length++;
  return length;
}

/* Reads the digits of a numeric reference from behind its "&#"; returns the bytes taken, 0 when there are no digits.
 * What is past the last code point reads as 0x110000. */
static size_t html_number(uint32_t *number, const uint8_t *text, size_t n) {
  bool hexadecimal = n > 0 && (text[0] | 0x20) == 'x';
  size_t start = hexadecimal ? 1 : 0, i = start;
  uint32_t value = 0;
  for (; i < n; i++) {
    uint8_t lower = text[i] | 0x20;
    uint32_t digit;
    if (text[i] >= '0' && text[i] <= '9')
      digit = text[i] - (uint32_t)'0';
    else if (hexadecimal && lower >= 'a' && lower <= 'f')
      digit = lower - (uint32_t)'a' + 10;
    else
      break;
    value = value * (hexadecimal ? 16 : 10) + digit;
    if (value > 0x110000) value = 0x110000;
  }
  *number = value;
  return i > start ? i : 0;
}

uint32_t clipc__windows_1252(uint32_t code_point) {
  static const uint16_t c1[32] = {0x20AC, 0x0081, 0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021,
                                  0x02C6, 0x2030, 0x0160, 0x2039, 0x0152, 0x008D, 0x017D, 0x008F,
                                  0x0090, 0x2018, 0x2019, 0x201C, 0x201D, 0x2022, 0x2013, 0x2014,
                                  0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0x009D, 0x017E, 0x0178};
  return code_point >= 0x80 && code_point < 0xA0 ? c1[code_point - 0x80] : code_point;
}

/* The character that a numeric reference stands for; returns its bytes, 0 when the number stands for nothing. */
static size_t html_character(uint8_t out[4], uint32_t number) {
  if (number == 0 || number > 0x10FFFF || (number >= 0xD800 && number < 0xE000)) number = 0xFFFD;
  if (number < 0x09 || number == 0x0B || (number >= 0x0E && number < 0x20) || number == 0x7F) return 0;
  if ((number >= 0xFDD0 && number < 0xFDF0) || (number & 0xFFFE) == 0xFFFE) return 0;
  return clipc__utf8_write(out, clipc__windows_1252(number));
}

bool clipc__html_unescape(struct clipc__bytes *out, const uint8_t *text, size_t n_bytes) {
  size_t n_before = out->n_bytes, done = 0, i = 0;
  if (n_bytes == 0) return true;
  if (!clipc__bytes_reserve(out, n_bytes)) return false;
  for (const uint8_t *found; i < n_bytes && (found = memchr(text + i, '&', n_bytes - i)) != NULL;) {
    size_t start = (size_t)(found - text), n_value;
    const uint8_t *rest = found + 1, *value;
    size_t n_rest = n_bytes - start - 1, taken = 0;
    uint8_t character[4];
    i = start + 1;
    if (n_rest > 0 && rest[0] == '#') {
      uint32_t number;
      taken = html_number(&number, rest + 1, n_rest - 1);
      if (taken == 0) continue;
      taken++;
      if (taken < n_rest && rest[taken] == ';') taken++;
      n_value = html_character(character, number);
      value = character;
    } else {
      const struct html_entity *entity = NULL;
      size_t run = html_run(rest, n_rest, HTML_LONGEST_RUN);
      if (run <= HTML_LONGEST_RUN && run < n_rest && rest[run] == ';') entity = html_find(rest, run);
      taken = run + 1;
      if (entity == NULL) {
        for (taken = run < HTML_LONGEST_BARE ? run : HTML_LONGEST_BARE; taken >= 2; taken--) {
          entity = html_find(rest, taken);
          if (entity != NULL && (entity->flags & HTML_BARE)) break;
          entity = NULL;
        }
      }
      if (entity == NULL) continue;
      n_value = entity->n_value;
      value = (const uint8_t *)html_pool + entity->at + entity->n_name;
    }
    i = start + 1 + taken;
    if (!clipc__bytes_append(out, text + done, start - done) || !clipc__bytes_append(out, value, n_value)) {
      out->n_bytes = n_before;
      return false;
    }
    done = i;
  }
  if (clipc__bytes_append(out, text + done, n_bytes - done)) return true;
  out->n_bytes = n_before;
  return false;
}

/* ftfy reads the names that end in ';', and those of lower case also in capitals: then the value is in capitals too. */
static size_t html_ftfy_name(uint8_t value[8], const uint8_t *name, size_t n) {
  if (n == 3 && memcmp(name, "amp", 3) == 0) { /* by far the most frequent, and what chains are made of */
    value[0] = '&';
    return 1;
  }
  const struct html_entity *entity = html_find(name, n);
  const char *pool = html_pool;
  if (entity != NULL) {
    memcpy(value, pool + entity->at + entity->n_name, entity->n_value);
    return entity->n_value;
  }
  uint8_t lower[HTML_LONGEST_FTFY_RUN];
  for (size_t i = 0; i < n; i++) {
    if (name[i] >= 'a') return 0;
    lower[i] = name[i] >= 'A' ? name[i] | 0x20 : name[i];
  }
  entity = html_find(lower, n);
  if (entity == NULL || !(entity->flags & HTML_UPPER)) return 0;
  pool += entity->at + entity->n_name;
  if (entity->n_upper > 0) {
    memcpy(value, pool + entity->n_value, entity->n_upper);
    return entity->n_upper;
  }
  memcpy(value, pool, entity->n_value);
  return entity->n_value;
}

size_t clipc__html_entity(uint8_t value[8], size_t *n_value, const uint8_t *text, size_t n_bytes) {
  size_t hash = n_bytes > 0 && text[0] == '#' ? 1 : 0;
  size_t run = html_run(text + hash, n_bytes - hash, HTML_LONGEST_FTFY_RUN), taken = hash + run + 1;
  if (run == 0 || run > HTML_LONGEST_FTFY_RUN || taken > n_bytes || text[taken - 1] != ';') return 0;
  if (hash == 0) {
    *n_value = html_ftfy_name(value, text, run);
    return *n_value > 0 ? taken : 0;
  }
  uint32_t number;
  if (html_number(&number, text + 1, run) != run || number == ';') return 0; /* ftfy wants the ';' gone */
  *n_value = html_character(value, number);
  return taken;
}
