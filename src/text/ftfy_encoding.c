/* Mojibake: UTF-8 that was once read as a single-byte encoding, found and undone.
 * In: valid UTF-8. Out: the same as ftfy 6.3.1's fix_encoding makes of it.
 * A text that looks bad is turned back to bytes by each encoding that has all its characters; the first whose bytes
 * read as UTF-8 wins. Else the stretches that look like UTF-8 are each mended like a text of their own (a stack of
 * frames, as a mended stretch may hold another), and else C1 controls become what windows-1252 has in their place.
 * "Bad" is ftfy's expression of some 40 short rules, each a row of sets of characters; all are followed at once by
 * Shift-And: bit b of the state says that the place b of some rule has just been matched. */
#include "text/ftfy.h"

#include <string.h>

#include "text/ftfy_encoding.inc"

struct clipc__ftfy_frame {
  struct clipc__bytes text, mended; /* mended: of the stretches before at, while they are gone through */
  size_t at;
  bool in_stretches;
};

/* ---- characters */

/* Python's \w. */
static bool ftfy_is_word(uint32_t code_point) {
  size_t low = 0, high = sizeof ftfy_word_turns / sizeof ftfy_word_turns[0];
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (ftfy_word_turns[middle] <= code_point)
      low = middle + 1;
    else
      high = middle;
  }
  return low & 1;
}

static const struct ftfy_class *ftfy_class_of(uint32_t code_point) {
  uint8_t class = FTFY_UNLISTED;
  if (code_point < 0x10000) class = ftfy_blocks[ftfy_block_of[code_point / FTFY_BLOCK]][code_point % FTFY_BLOCK];
  if (class == FTFY_UNLISTED) class = ftfy_is_word(code_point);
  return &ftfy_classes[class];
}

/* Whether text looks like mojibake, and which encodings have all its characters (a bit each). */
static bool ftfy_is_bad(uint32_t *encodings, const uint8_t *text, size_t n_bytes) {
  uint64_t state0 = 0, state1 = 0, begin0 = ftfy_bits_at_start[0], begin1 = ftfy_bits_at_start[1], ends = 0;
  bool ascii = true;
  *encodings = (1u << FTFY_N_ENCODINGS) - 1;
  for (size_t i = 0; i < n_bytes;) {
    uint32_t code_point = text[i];
    if (code_point < 0x80) {
      i++;
    } else {
      i += clipc__utf8_read(&code_point, text + i, n_bytes - i, NULL);
      ascii = false;
    }
    const struct ftfy_class *class = ftfy_class_of(code_point);
    *encodings &= class->encodings;
    state0 = (state0 << 1 | begin0) & class->rules[0];
    state1 = (state1 << 1 | begin1) & class->rules[1];
    ends |= (state0 & ftfy_bits_of_ends[0]) | (state1 & ftfy_bits_of_ends[1]);
    begin0 = ftfy_bits_later[0];
    begin1 = ftfy_bits_later[1];
  }
  return ends != 0 && !ascii;
}

/* ---- bytes of a single-byte encoding */

/* Appends text in the encoding, which has all its characters. */
static bool ftfy_encode(struct clipc__bytes *out, const struct ftfy_encoding *encoding, const uint8_t *text, size_t n) {
  if (!clipc__bytes_reserve(out, n)) return false;
  for (size_t i = 0; i < n;) {
    uint32_t code_point = text[i];
    if (code_point < 0x80) {
      out->data[out->n_bytes++] = text[i++];
      continue;
    }
    i += clipc__utf8_read(&code_point, text + i, n - i, NULL);
    size_t low = 0, high = encoding->n;
    while (high - low > 1) {
      size_t middle = (low + high) / 2;
      if (encoding->code_points[middle] <= code_point)
        low = middle;
      else
        high = middle;
    }
    out->data[out->n_bytes++] = encoding->bytes[low];
  }
  return true;
}

/* Sets of bytes, for the patterns below. */
enum {
  FTFY_SPACE = 1 << 0,
  FTFY_QUESTION = 1 << 1,
  FTFY_LOST = 1 << 2,      /* 0x1A, which stands for U+FFFD */
  FTFY_80_BF = 1 << 3,     /* those that continue a sequence */
  FTFY_NOT_SPACE = 1 << 4, /* of them, all but 0x85 and 0xA0 */
  FTFY_A0_AF = 1 << 5,
  FTFY_B0_BF = 1 << 6,
  FTFY_C2_DF = 1 << 7,
  FTFY_C2_C3 = 1 << 8,
  FTFY_OFTEN_A0 = 1 << 9, /* leads of two bytes that make a likely character with 0xA0 */
  FTFY_E0_EF = 1 << 10,
  FTFY_E0_E3 = 1 << 11,
  FTFY_E2_E3 = 1 << 12,
  FTFY_ED = 1 << 13,
  FTFY_F0_F4 = 1 << 14,
  FTFY_F0 = 1 << 15
};

static unsigned ftfy_byte_sets(uint8_t byte) {
  if (byte < 0x80) return byte == ' ' ? FTFY_SPACE : byte == '?' ? FTFY_QUESTION : byte == 0x1A ? FTFY_LOST : 0;
  if (byte < 0xC0) {
    unsigned sets = FTFY_80_BF | (byte != 0x85 && byte != 0xA0 ? FTFY_NOT_SPACE : 0);
    return sets | (byte >= 0xB0 ? FTFY_B0_BF : byte >= 0xA0 ? FTFY_A0_AF : 0);
  }
  if (byte < 0xE0) {
    bool often = byte == 0xC2 || byte == 0xC3 || byte == 0xC5 || byte == 0xCE || byte == 0xD0 || byte == 0xD9;
    return (byte >= 0xC2 ? FTFY_C2_DF : 0) | (byte == 0xC2 || byte == 0xC3 ? FTFY_C2_C3 : 0) |
           (often ? FTFY_OFTEN_A0 : 0);
  }
  if (byte < 0xF0) {
    return FTFY_E0_EF | (byte <= 0xE3 ? FTFY_E0_E3 : 0) | (byte == 0xE2 || byte == 0xE3 ? FTFY_E2_E3 : 0) |
           (byte == 0xED ? FTFY_ED : 0);
  }
  return (byte <= 0xF4 ? FTFY_F0_F4 : 0) | (byte == 0xF0 ? FTFY_F0 : 0);
}

enum { FTFY_LONGEST_PATTERN = 6 };

/* UTF-8 but for a space where 0xA0 may have been. */
static const uint16_t ftfy_spaced[][FTFY_LONGEST_PATTERN] = {
    {FTFY_OFTEN_A0, FTFY_SPACE},
    {FTFY_E2_E3, FTFY_SPACE, FTFY_NOT_SPACE},
    {FTFY_E0_E3, FTFY_NOT_SPACE, FTFY_SPACE},
    {FTFY_F0, FTFY_SPACE, FTFY_80_BF, FTFY_80_BF},
    {FTFY_F0, FTFY_80_BF, FTFY_SPACE, FTFY_80_BF},
    {FTFY_F0, FTFY_80_BF, FTFY_80_BF, FTFY_SPACE},
};

#define FTFY_LOSS (FTFY_LOST | FTFY_QUESTION)
#define FTFY_KEPT (FTFY_LOST | FTFY_80_BF)

/* UTF-8 or CESU-8 of which bytes were lost; at most one '?' is read as such. */
static const uint16_t ftfy_lossy[][FTFY_LONGEST_PATTERN] = {
    {FTFY_C2_DF, FTFY_LOST},
    {FTFY_C2_C3, FTFY_QUESTION},
    {FTFY_ED, FTFY_A0_AF, FTFY_LOSS, FTFY_ED, FTFY_B0_BF, FTFY_LOSS | FTFY_80_BF},
    {FTFY_ED, FTFY_A0_AF, FTFY_LOSS | FTFY_80_BF, FTFY_ED, FTFY_B0_BF, FTFY_LOSS},
    {FTFY_E0_EF, FTFY_LOSS, FTFY_KEPT},
    {FTFY_E0_EF, FTFY_KEPT, FTFY_LOSS},
    {FTFY_F0_F4, FTFY_LOSS, FTFY_KEPT, FTFY_KEPT},
    {FTFY_F0_F4, FTFY_KEPT, FTFY_LOSS, FTFY_KEPT},
    {FTFY_F0_F4, FTFY_KEPT, FTFY_KEPT, FTFY_LOSS},
    {FTFY_LOST},
};

/* The length of the first pattern that s begins with, 0 when it is none. */
static size_t ftfy_match(const uint16_t (*patterns)[FTFY_LONGEST_PATTERN], size_t n_patterns, const uint8_t *s,
                         size_t n) {
  unsigned first = ftfy_byte_sets(s[0]);
  for (size_t p = 0; first != 0 && p < n_patterns; p++) {
    if (!(patterns[p][0] & first)) continue;
    size_t length = 1;
    while (length < FTFY_LONGEST_PATTERN && patterns[p][length] != 0 && length < n &&
           (patterns[p][length] & ftfy_byte_sets(s[length])))
      length++;
    if (length == FTFY_LONGEST_PATTERN || patterns[p][length] == 0) return length;
  }
  return 0;
}

#define FTFY_MATCH(patterns, s, n) ftfy_match(patterns, sizeof patterns / sizeof patterns[0], s, n)

/* "\xC3 " is more often a word of its own ("à la") than the head of one; these, s[2..n), go on in Portuguese. */
static bool ftfy_a_grave_goes_on(const uint8_t *s, size_t n) {
  static const char *const ends[] = {" ", "quele", "quela", "quilo", "s "};
  for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
    size_t length = strlen(ends[i]);
    if (n >= 2 + length && memcmp(s + 2, ends[i], length) == 0) return true;
  }
  return false;
}

/* Puts back the 0xA0 that became spaces. */
static bool ftfy_restore_a0(struct clipc__bytes *out, const uint8_t *s, size_t n) {
  for (size_t i = 0; i < n;) {
    size_t length = FTFY_MATCH(ftfy_spaced, s + i, n - i);
    uint8_t piece[4];
    if (length == 0) {
      size_t start = i++;
      while (i < n && s[i] < 0xC0) i++;
      if (!clipc__bytes_append(out, s + start, i - start)) return false;
      continue;
    }
    for (size_t k = 0; k < length && k < sizeof piece; k++) piece[k] = s[i + k] == ' ' ? 0xA0 : s[i + k];
    bool keeps_space = s[i] == 0xC3 && !ftfy_a_grave_goes_on(s + i, n - i);
    if (keeps_space) piece[2] = ' ';
    if (!clipc__bytes_append(out, piece, length + keeps_space)) return false;
    i += length;
  }
  return true;
}

/* Makes U+FFFD of the sequences that lost bytes. */
static bool ftfy_replace_lossy(struct clipc__bytes *out, const uint8_t *s, size_t n) {
  for (size_t i = 0; i < n;) {
    size_t length = FTFY_MATCH(ftfy_lossy, s + i, n - i), start = i;
    if (length > 0) {
      i += length;
      if (!clipc__bytes_append(out, "\xEF\xBF\xBD", 3)) return false;
      continue;
    }
    i++;
    while (i < n && s[i] < 0xC0 && s[i] != 0x1A) i++;
    if (!clipc__bytes_append(out, s + start, i - start)) return false;
  }
  return true;
}

/* Reads s as UTF-8, CESU-8 or Java's (0xC0 0x80 for U+0000), as ftfy's utf-8-variants: false when it is neither.
 * That codec's expressions end in '$', which also holds before a last line feed; hence the two odd cases of '\n'.
 * out has room for n bytes. */
static bool ftfy_decode(struct clipc__bytes *out, const uint8_t *s, size_t n) {
  for (size_t i = 0; i < n;) {
    uint32_t code_point;
    bool valid;
    size_t left = n - i, taken = clipc__utf8_read(&code_point, s + i, left, &valid);
    if (valid) {
      memcpy(out->data + out->n_bytes, s + i, taken);
      out->n_bytes += taken;
      i += taken;
      continue;
    }
    if (s[i] == 0xC0 && left >= 2 && (s[i + 1] == 0x80 || (s[i + 1] == '\n' && left == 2))) {
      out->data[out->n_bytes++] = 0;
      i += 2;
      continue;
    }
    const uint8_t *c = s + i;
    if (left < 6 || c[0] != 0xED || (c[1] & 0xF0) != 0xA0 || (c[2] & 0xC0) != 0x80) return false;
    if (c[3] != 0xED || (c[4] & 0xF0) != 0xB0) return false;
    if ((c[5] & 0xC0) != 0x80 && !(c[5] == '\n' && left == 6)) return false;
    code_point = (c[1] & 0x0Fu) << 16 | (c[2] & 0x3Fu) << 10 | (c[4] & 0x0Fu) << 6 | (c[5] & 0x3Fu);
    out->n_bytes += clipc__utf8_write(out->data + out->n_bytes, code_point + 0x10000);
    i += 6;
  }
  return true;
}

/* ---- one text */

enum ftfy_outcome { FTFY_IS_DONE, FTFY_HAS_CHANGED, FTFY_GOES_ON, FTFY_NO_MEMORY };

static void ftfy_swap(struct clipc__bytes *a, struct clipc__bytes *b) {
  struct clipc__bytes held = *a;
  *a = *b;
  *b = held;
}

static bool ftfy_same(const struct clipc__bytes *a, const struct clipc__bytes *b) {
  return a->n_bytes == b->n_bytes && memcmp(a->data, b->data, a->n_bytes) == 0;
}

/* Undoes one layer of the whole text by the first encoding that fits; GOES_ON when it is bad and none does. */
static enum ftfy_outcome ftfy_undo_encoding(struct clipc__ftfy_stack *stack, struct clipc__ftfy_frame *frame) {
  uint32_t encodings;
  struct clipc__bytes *text = &frame->text, *encoded = &stack->encoded, *restored = &stack->restored;
  if (!ftfy_is_bad(&encodings, text->data, text->n_bytes)) return FTFY_IS_DONE;
  for (size_t e = 0; e < FTFY_N_ENCODINGS; e++) {
    if (!(encodings >> e & 1)) continue;
    const struct ftfy_encoding *encoding = &ftfy_encodings[e];
    encoded->n_bytes = 0;
    if (!ftfy_encode(encoded, encoding, text->data, text->n_bytes)) return FTFY_NO_MEMORY;
    if (encoding->restore_a0) {
      restored->n_bytes = 0;
      if (!ftfy_restore_a0(restored, encoded->data, encoded->n_bytes)) return FTFY_NO_MEMORY;
      ftfy_swap(encoded, restored);
    }
    if (encoding->sloppy) {
      restored->n_bytes = 0;
      if (!ftfy_replace_lossy(restored, encoded->data, encoded->n_bytes)) return FTFY_NO_MEMORY;
      ftfy_swap(encoded, restored);
    }
    frame->mended.n_bytes = 0;
    if (!clipc__bytes_reserve(&frame->mended, encoded->n_bytes)) return FTFY_NO_MEMORY;
    if (!ftfy_decode(&frame->mended, encoded->data, encoded->n_bytes)) continue;
    if (ftfy_same(text, &frame->mended)) return FTFY_IS_DONE;
    ftfy_swap(text, &frame->mended);
    return FTFY_HAS_CHANGED;
  }
  return FTFY_GOES_ON;
}

/* The bytes of the one sequence that s begins with if its characters were bytes of UTF-8, 0 when it does not. */
static size_t ftfy_sequence(const uint8_t *s, size_t n) {
  uint32_t code_point;
  size_t length = clipc__utf8_read(&code_point, s, n, NULL);
  unsigned first = ftfy_class_of(code_point)->clues & (FTFY_FIRST_OF_2 | FTFY_FIRST_OF_3 | FTFY_FIRST_OF_4);
  for (unsigned n_more = 1; n_more <= 3 && first >> (n_more - 1) && length < n; n_more++) {
    length += clipc__utf8_read(&code_point, s + length, n - length, NULL);
    if (!(ftfy_class_of(code_point)->clues & FTFY_CONTINUATION)) return 0;
    if (first & (FTFY_FIRST_OF_2 << (n_more - 1))) return length;
  }
  return 0;
}

/* Finds the next stretch of such sequences from at on, s[*start..*end), not after a character that could be the end
 * of one. */
static bool ftfy_find_stretch(size_t *start, size_t *end, const uint8_t *s, size_t n, size_t at) {
  bool blocked = false;
  uint32_t code_point;
  if (at > 0) {
    size_t before = at - 1;
    while (before > 0 && (s[before] & 0xC0) == 0x80) before--;
    clipc__utf8_read(&code_point, s + before, n - before, NULL);
    blocked = ftfy_class_of(code_point)->clues & FTFY_CONTINUATION_STRICT;
  }
  while (at < n) {
    size_t length = blocked || s[at] < 0x80 ? 0 : ftfy_sequence(s + at, n - at);
    if (length > 0) {
      *start = at;
      do at += length;
      while (at < n && (length = ftfy_sequence(s + at, n - at)) > 0);
      *end = at;
      return true;
    }
    at += clipc__utf8_read(&code_point, s + at, n - at, NULL);
    blocked = ftfy_class_of(code_point)->clues & FTFY_CONTINUATION_STRICT;
  }
  return false;
}

/* Makes of C1 controls what windows-1252 has there. */
static enum ftfy_outcome ftfy_replace_c1(struct clipc__ftfy_frame *frame) {
  const uint8_t *s = frame->text.data;
  size_t n = frame->text.n_bytes;
  struct clipc__bytes *out = &frame->mended;
  out->n_bytes = 0;
  for (size_t i = 0, start = 0; start < n; start = i) {
    while (i < n && !(s[i] == 0xC2 && s[i + 1] < 0xA0)) i++;
    if (!clipc__bytes_append(out, s + start, i - start)) return FTFY_NO_MEMORY;
    if (i == n) break;
    uint8_t character[4];
    if (!clipc__bytes_append(out, character, clipc__utf8_write(character, clipc__windows_1252(s[i + 1]))))
      return FTFY_NO_MEMORY;
    i += 2;
  }
  if (ftfy_same(&frame->text, out)) return FTFY_IS_DONE;
  ftfy_swap(&frame->text, out);
  return FTFY_HAS_CHANGED;
}

/* ---- texts in texts */

/* Makes frame number depth hold a copy of s, which is not in the frames' array itself. */
static bool ftfy_enter(struct clipc__ftfy_stack *stack, size_t depth, const uint8_t *s, size_t n) {
  if (depth == stack->n_frames) {
    size_t n_frames = depth < 4 ? 4 : 2 * depth;
    struct clipc__ftfy_frame *frames = clipc__alloc_zeroed(&stack->allocator, n_frames, sizeof *frames);
    if (frames == NULL) return false;
    if (depth > 0) memcpy(frames, stack->frames, depth * sizeof *frames);
    for (size_t i = depth; i < n_frames; i++) frames[i].text.allocator = frames[i].mended.allocator = stack->allocator;
    clipc__free(&stack->allocator, stack->frames);
    stack->frames = frames;
    stack->n_frames = n_frames;
  }
  struct clipc__ftfy_frame *frame = &stack->frames[depth];
  frame->text.n_bytes = 0;
  frame->in_stretches = false;
  return clipc__bytes_append(&frame->text, s, n);
}

/* Goes on with the stretches of the text of frame number *depth: to the next one, for which a frame is entered, or
 * past the last one. */
static enum ftfy_outcome ftfy_mend_stretches(struct clipc__ftfy_stack *stack, size_t *depth) {
  struct clipc__ftfy_frame *frame = &stack->frames[*depth];
  const uint8_t *s = frame->text.data;
  size_t n = frame->text.n_bytes, start, end;
  if (ftfy_find_stretch(&start, &end, s, n, frame->at)) {
    bool whole = start == 0 && end == n; /* the same again: it is not mended, or this would not end */
    if (!clipc__bytes_append(&frame->mended, s + frame->at, (whole ? end : start) - frame->at)) return FTFY_NO_MEMORY;
    frame->at = end;
    if (whole) return FTFY_GOES_ON;
    return ftfy_enter(stack, ++*depth, s + start, end - start) ? FTFY_GOES_ON : FTFY_NO_MEMORY;
  }
  if (!clipc__bytes_append(&frame->mended, s + frame->at, n - frame->at)) return FTFY_NO_MEMORY;
  frame->in_stretches = false;
  if (ftfy_same(&frame->text, &frame->mended)) return ftfy_replace_c1(frame);
  ftfy_swap(&frame->text, &frame->mended);
  return FTFY_HAS_CHANGED;
}

bool clipc__ftfy_fix_encoding(struct clipc__ftfy_stack *stack, struct clipc__bytes *text, bool *changed) {
  size_t depth = 0;
  if (text->n_bytes == 0) return true;
  stack->encoded.allocator = stack->restored.allocator = stack->allocator;
  if (!ftfy_enter(stack, 0, text->data, text->n_bytes)) return false;
  for (;;) {
    struct clipc__ftfy_frame *frame = &stack->frames[depth];
    enum ftfy_outcome outcome;
    if (frame->in_stretches) {
      outcome = ftfy_mend_stretches(stack, &depth);
    } else {
      outcome = ftfy_undo_encoding(stack, frame);
      if (outcome == FTFY_GOES_ON) {
        frame->in_stretches = true;
        frame->at = frame->mended.n_bytes = 0;
      }
    }
    if (outcome == FTFY_NO_MEMORY) return false;
    if (outcome == FTFY_HAS_CHANGED && depth == 0) *changed = true;
    if (outcome != FTFY_IS_DONE) continue;
    if (depth == 0) break;
    const struct clipc__bytes *part = &stack->frames[depth--].text;
    if (!clipc__bytes_append(&stack->frames[depth].mended, part->data, part->n_bytes)) return false;
  }
  ftfy_swap(text, &stack->frames[0].text);
  return true;
}

void clipc__ftfy_stack_free(struct clipc__ftfy_stack *stack) {
  for (size_t i = 0; i < stack->n_frames; i++) {
    clipc__bytes_free(&stack->frames[i].text);
    clipc__bytes_free(&stack->frames[i].mended);
  }
  clipc__free(&stack->allocator, stack->frames);
  clipc__bytes_free(&stack->encoded);
  clipc__bytes_free(&stack->restored);
}
