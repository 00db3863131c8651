/* ftfy 6.3.1's fix_text with its defaults.
 * In: valid UTF-8. Out: the same with entities read, mojibake undone (ftfy_encoding.c), ligatures, widths, quotes and
 * line breaks made plain, terminal escapes and control characters dropped, in NFC; all that over again until nothing
 * changes. Lines are treated each by itself; a line of more than a million characters in pieces of a million. Once a
 * '<' was seen, entities stay as they are from that line on. What Python does character by character in one function
 * after another is one table here (ftfy_chars.inc). Surrogates do not occur in UTF-8, so none are mended. */
#include "text/ftfy.h"

#include <string.h>

#include "text/ftfy_chars.inc"

enum { FTFY_LONGEST_PIECE = 1000000 };

struct ftfy_work {
  struct clipc__bytes text, next, before; /* before: the text at the head of a round */
  struct clipc__ftfy_stack stack;
};

/* ---- entities */

/* "&amp;amp;amp;lt;" loses one "amp;" in every round. Where a round does nothing but that, the rounds after it are the
 * same as long as two links of each chain are left (no rule of ftfy looks that far), so that n_levels of them are
 * taken at once. */
struct ftfy_chains {
  size_t n_levels; /* links to take from each chain, for the caller to set */
  size_t n_left;   /* links left in the shortest chain, 0 when anything else was read; SIZE_MAX when nothing was */
};

/* Takes the links of a chain from behind its '&': returns the bytes taken, and all the links there were. */
static size_t ftfy_take_links(size_t *n_links, const uint8_t *s, size_t n, size_t n_levels) {
  uint8_t value[8];
  size_t n_value, at = 0, taken = 0, length;
  *n_links = 0;
  while ((length = clipc__html_entity(value, &n_value, s + at, n - at)) > 0 && n_value == 1 && value[0] == '&') {
    at += length;
    if (++*n_links <= n_levels) taken = at;
  }
  return taken;
}

static bool ftfy_unescape(struct clipc__bytes *out, const uint8_t *s, size_t n, struct ftfy_chains *chains) {
  size_t done = 0, i = 0;
  chains->n_left = SIZE_MAX;
  for (const uint8_t *found; i < n && (found = memchr(s + i, '&', n - i)) != NULL;) {
    size_t start = (size_t)(found - s), n_value, n_links, n_left = 0;
    uint8_t value[8];
    i = start + 1;
    size_t length = clipc__html_entity(value, &n_value, s + i, n - i);
    if (length == 0) continue;
    if (n_value == 1 && value[0] == '&') {
      length = ftfy_take_links(&n_links, s + i, n - i, chains->n_levels);
      n_left = n_links < chains->n_levels ? 0 : n_links - chains->n_levels;
      /* the one badness rule that has any character in its middle, U+0412 before it */
      if (start >= 2 && s[start - 2] == 0xD0 && s[start - 1] == 0x92) n_left = 0;
    }
    if (n_left < chains->n_left) chains->n_left = n_left;
    i += length;
    if (!clipc__bytes_append(out, s + done, start - done) || !clipc__bytes_append(out, value, n_value)) return false;
    done = i;
  }
  return clipc__bytes_append(out, s + done, n - done);
}

/* ---- single characters */

static const char *ftfy_change_of(uint32_t code_point) {
  size_t low = 0, high = sizeof ftfy_changes / sizeof ftfy_changes[0];
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (ftfy_changes[middle].code_point == code_point) return ftfy_changes[middle].text;
    if (ftfy_changes[middle].code_point < code_point)
      low = middle + 1;
    else
      high = middle;
  }
  return NULL;
}

/* Writes text plain: C1, ligatures, widths, quotes, line breaks. */
static bool ftfy_make_plain(struct clipc__bytes *out, const uint8_t *s, size_t n, bool *changed) {
  size_t done = 0;
  for (size_t i = 0; i < n;) {
    uint32_t code_point;
    size_t start = i;
    const char *change = NULL;
    if (s[i] < 0x80) {
      if (s[i++] != '\r') continue;
      change = i < n && s[i] == '\n' ? "" : "\n";
    } else {
      i += clipc__utf8_read(&code_point, s + i, n - i, NULL);
      change = ftfy_change_of(code_point);
      if (change == NULL) continue;
    }
    *changed = true;
    if (!clipc__bytes_append(out, s + done, start - done) || !clipc__bytes_append(out, change, strlen(change)))
      return false;
    done = i;
  }
  return clipc__bytes_append(out, s + done, n - done);
}

/* Python's \d. */
static bool ftfy_is_digit(uint32_t code_point) {
  size_t n_turns = 0;
  while (n_turns < sizeof ftfy_digit_turns / sizeof ftfy_digit_turns[0] && ftfy_digit_turns[n_turns] <= code_point)
    n_turns++;
  return n_turns & 1;
}

/* The bytes of the terminal escape that s begins with: ESC [ digits and semicolons, a letter; 0 when it does not. */
static size_t ftfy_terminal_escape(const uint8_t *s, size_t n) {
  if (n < 3 || s[0] != 0x1B || s[1] != '[') return 0;
  uint32_t code_point;
  for (size_t i = 2; i < n;) {
    size_t taken = clipc__utf8_read(&code_point, s + i, n - i, NULL);
    if ((code_point >= 'a' && code_point <= 'z') || (code_point >= 'A' && code_point <= 'Z')) return i + 1;
    if (code_point != ';' && !ftfy_is_digit(code_point)) return 0;
    i += taken;
  }
  return 0;
}

/* The bytes of the control character that s begins with, 0 when it does not: those without a place in text. */
static size_t ftfy_control(const uint8_t *s, size_t n) {
  if (s[0] < 0x20) return s[0] != '\t' && s[0] != '\n' && s[0] != '\f' && s[0] != '\r';
  if (s[0] < 0xE2) return s[0] == 0x7F;
  uint32_t code_point;
  size_t taken = clipc__utf8_read(&code_point, s, n, NULL);
  bool is = (code_point >= 0x206A && code_point <= 0x206F) || code_point == 0xFEFF ||
            (code_point >= 0xFFF9 && code_point <= 0xFFFC);
  return is ? taken : 0;
}

/* Drops terminal escapes and control characters, in place. */
static void ftfy_drop_controls(struct clipc__bytes *text, bool *changed) {
  uint8_t *s = text->data;
  size_t n = text->n_bytes, kept = 0;
  for (size_t i = 0; i < n;) {
    size_t dropped = ftfy_terminal_escape(s + i, n - i);
    if (dropped == 0) dropped = ftfy_control(s + i, n - i);
    if (dropped == 0) s[kept++] = s[i++];
    i += dropped;
  }
  if (kept < n) *changed = true;
  text->n_bytes = kept;
}

/* ---- pieces */

static void ftfy_exchange(struct clipc__bytes *a, struct clipc__bytes *b) {
  struct clipc__bytes held = *a;
  *a = *b;
  *b = held;
}

/* NFC. What has nothing past U+02FF is in it already. */
static bool ftfy_compose(struct ftfy_work *work, bool *changed) {
  const uint8_t *s = work->text.data;
  size_t n = work->text.n_bytes, i = 0;
  while (i < n && s[i] < 0xCC) i++;
  if (i == n) return true;
  work->next.n_bytes = 0;
  if (!clipc__nfc(&work->next, s, n)) return false;
  if (work->next.n_bytes == n && memcmp(work->next.data, s, n) == 0) return true;
  *changed = true;
  ftfy_exchange(&work->text, &work->next);
  return true;
}

/* Whether no step can do anything to s. */
static bool ftfy_is_plain(const uint8_t *s, size_t n, bool read_entities) {
  for (size_t i = 0; i < n; i++) {
    if (s[i] >= 0x7F || (s[i] == '&' && read_entities)) return false;
    if (s[i] < 0x20 && s[i] != '\n' && s[i] != '\t' && s[i] != '\f') return false;
  }
  return true;
}

/* One round of all the steps over work->text. */
static bool ftfy_round(struct ftfy_work *work, bool read_entities, struct ftfy_chains *chains) {
  chains->n_left = SIZE_MAX;
  if (read_entities) {
    work->next.n_bytes = 0;
    if (!ftfy_unescape(&work->next, work->text.data, work->text.n_bytes, chains)) return false;
    ftfy_exchange(&work->text, &work->next);
  }
  if (ftfy_is_plain(work->text.data, work->text.n_bytes, false)) return true;
  bool changed = false;
  if (!clipc__ftfy_fix_encoding(&work->stack, &work->text, &changed)) return false;
  work->next.n_bytes = 0;
  if (!ftfy_make_plain(&work->next, work->text.data, work->text.n_bytes, &changed)) return false;
  ftfy_exchange(&work->text, &work->next);
  ftfy_drop_controls(&work->text, &changed);
  if (!ftfy_compose(work, &changed)) return false;
  if (changed) chains->n_left = 0;
  return true;
}

static bool ftfy_fix_piece(struct clipc__bytes *out, struct ftfy_work *work, const uint8_t *s, size_t n,
                           bool read_entities) {
  if (ftfy_is_plain(s, n, read_entities)) return clipc__bytes_append(out, s, n);
  struct ftfy_chains chains = {1, 0};
  work->text.n_bytes = 0;
  if (!clipc__bytes_append(&work->text, s, n)) return false;
  do {
    work->before.n_bytes = 0;
    if (!clipc__bytes_append(&work->before, work->text.data, work->text.n_bytes)) return false;
    if (!ftfy_round(work, read_entities, &chains)) return false;
    chains.n_levels = chains.n_left > 3 && chains.n_left < SIZE_MAX ? chains.n_left - 2 : 1;
  } while (work->text.n_bytes != work->before.n_bytes ||
           memcmp(work->text.data, work->before.data, work->text.n_bytes) != 0);
  return clipc__bytes_append(out, work->text.data, work->text.n_bytes);
}

/* The length of the piece that s begins with: a line with its end, or a million characters of it. */
static size_t ftfy_piece(const uint8_t *s, size_t n) {
  const uint8_t *end = memchr(s, '\n', n);
  size_t length = end ? (size_t)(end - s) + 1 : n;
  if (length <= FTFY_LONGEST_PIECE) return length;
  size_t n_characters = 0;
  for (size_t i = 0; i < length; i++) {
    if ((s[i] & 0xC0) != 0x80 && n_characters++ == FTFY_LONGEST_PIECE) return i;
  }
  return length;
}

bool clipc__ftfy(struct clipc__bytes *out, const uint8_t *text, size_t n_bytes) {
  struct ftfy_work work = {{.allocator = out->allocator},
                           {.allocator = out->allocator},
                           {.allocator = out->allocator},
                           {.allocator = out->allocator}};
  size_t n_before = out->n_bytes;
  bool read_entities = true;
  bool ok = clipc__bytes_reserve(&work.text, 64) && clipc__bytes_reserve(&work.next, 64) &&
            clipc__bytes_reserve(&work.before, 64); /* so that none is ever NULL */
  for (size_t at = 0; ok && at < n_bytes;) {
    size_t length = ftfy_piece(text + at, n_bytes - at);
    if (memchr(text + at, '<', length)) read_entities = false;
    ok = ftfy_fix_piece(out, &work, text + at, length, read_entities);
    at += length;
  }
  if (!ok) out->n_bytes = n_before;
  clipc__bytes_free(&work.text);
  clipc__bytes_free(&work.next);
  clipc__bytes_free(&work.before);
  clipc__ftfy_stack_free(&work.stack);
  return ok;
}
