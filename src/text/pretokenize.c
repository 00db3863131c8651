/* Splitting cleaned text into the pieces that are encoded on their own; white space is dropped.
 * In: valid UTF-8. Out: pieces, in order, that point into it.
 * Matches the patterns of CLIPTokenizer (Split, then ByteLevel) and of open_clip's SimpleTokenizer (ignoring case):
 *   specials | 's | 't | 're | 've | 'm | 'll | 'd | letters | one number | anything else but white space */
#include "text/tokenizer.h"

#include <string.h>

#define PIECE_LONG_S 0x17F /* the one other character that matches a letter of a contraction or special */

/* Ignoring case it is the letter iota, so it is not "anything else", but it is no letter either: it is dropped. */
#define PIECE_YPOGEGRAMMENI 0x345

enum piece_class { PIECE_SPACE, PIECE_LETTER, PIECE_NUMBER, PIECE_OTHER };

static enum piece_class piece_classify(size_t *taken, const struct clipc__pieces *p, size_t position) {
  uint32_t code_point;
  *taken = clipc__utf8_read(&code_point, p->text + position, p->n_bytes - position, NULL);
  if (clipc__char_is_space(code_point)) return PIECE_SPACE;
  if (code_point == PIECE_YPOGEGRAMMENI && !p->hf) return PIECE_SPACE;
  unsigned properties = clipc__char_properties(code_point);
  if (properties & (p->hf ? CLIPC__CHAR_LETTER_HF : CLIPC__CHAR_LETTER)) return PIECE_LETTER;
  if (properties & (p->hf ? CLIPC__CHAR_NUMBER_HF : CLIPC__CHAR_NUMBER)) return PIECE_NUMBER;
  return PIECE_OTHER;
}

/* Bytes of text that match pattern (lower-case ASCII), 0 = it does not. Open_clip's ignores case. */
static size_t piece_match(const struct clipc__pieces *p, size_t position, const char *pattern) {
  size_t i = position;
  for (; *pattern != '\0'; pattern++) {
    if (i >= p->n_bytes) return 0;
    uint32_t code_point;
    i += clipc__utf8_read(&code_point, p->text + i, p->n_bytes - i, NULL);
    if (!p->hf) code_point = code_point == PIECE_LONG_S ? 's' : code_point - 'A' < 26 ? code_point + 32 : code_point;
    if (code_point != (unsigned char)*pattern) return 0;
  }
  return i - position;
}

static size_t piece_contraction(const struct clipc__pieces *p) {
  static const char contractions[7][4] = {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};
  size_t n = 0;
  for (size_t i = 0; i < 7 && n == 0; i++) n = piece_match(p, p->position, contractions[i]);
  return n;
}

static bool piece_give(struct clipc__pieces *p, size_t n, enum clipc__piece_kind kind) {
  p->piece = p->text + p->position;
  p->n_piece = n;
  p->kind = kind;
  p->position += n;
  return true;
}

/* The special strings. CLIPTokenizer's second step cuts them again, into "<|", the word and "|>"; open_clip gives
 * an id only to the exact spelling, any other is a word. */
static bool piece_special(struct clipc__pieces *p) {
  if (p->text[p->position] != '<') return false;
  size_t start = piece_match(p, p->position, p->hf ? "<|startoftext|>" : "<start_of_text>");
  size_t end = start > 0 ? 0 : piece_match(p, p->position, p->hf ? "<|endoftext|>" : "<end_of_text>");
  if (start + end == 0) return false;
  if (p->hf) {
    p->special_end = p->position + start + end;
    return piece_give(p, 2, CLIPC__PIECE_WORD);
  }
  const uint8_t *at = p->text + p->position;
  if (start > 0)
    return piece_give(p, start, memcmp(at, "<start_of_text>", 15) == 0 ? CLIPC__PIECE_START : CLIPC__PIECE_WORD);
  return piece_give(p, end, memcmp(at, "<end_of_text>", 13) == 0 ? CLIPC__PIECE_END : CLIPC__PIECE_WORD);
}

bool clipc__pieces_next(struct clipc__pieces *p) {
  if (p->position < p->special_end) { /* "startoftext", then "|>" */
    size_t left = p->special_end - p->position;
    return piece_give(p, left > 2 ? left - 2 : left, CLIPC__PIECE_WORD);
  }
  size_t taken;
  enum piece_class first;
  for (;; p->position += taken) {
    if (p->position >= p->n_bytes) return false;
    first = piece_classify(&taken, p, p->position);
    if (first != PIECE_SPACE) break;
  }
  if (piece_special(p)) return true;
  size_t n = p->text[p->position] == '\'' ? piece_contraction(p) : 0;
  if (n > 0) return piece_give(p, n, CLIPC__PIECE_WORD);
  n = taken;
  if (first != PIECE_NUMBER)
    for (; p->position + n < p->n_bytes; n += taken)
      if (piece_classify(&taken, p, p->position + n) != first) break;
  return piece_give(p, n, CLIPC__PIECE_WORD);
}
