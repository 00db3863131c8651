/* Cutting added tokens out of a text.
 * In: valid UTF-8 and a set of tokens. Out: stretches of text and token ids, in order.
 * Matches the added vocabulary of tokenizers: the leftmost match, of those the longest; a single_word token touches
 * no word character; lstrip and rstrip take the white space beside the token with it. */
#include "text/tokenizer.h"

#include <string.h>

/* By first byte, then longest first; equals stay in order. Stable and without allocation: a merge is not needed for
 * the few tokens a CLIP has, and specials.c bounds their number. */
void clipc__added_sort(struct clipc__added *added) {
  struct clipc__added_token *tokens = added->tokens;
  for (size_t i = 1; i < added->n_tokens; i++) {
    struct clipc__added_token token = tokens[i];
    size_t j = i;
    for (; j > 0; j--) {
      const struct clipc__added_token *before = &tokens[j - 1];
      if (before->content[0] < token.content[0]) break;
      if (before->content[0] == token.content[0] && before->n_bytes >= token.n_bytes) break;
      tokens[j] = *before;
    }
    tokens[j] = token;
  }
  size_t at = 0;
  for (unsigned byte = 0; byte < 256; byte++) {
    added->first[byte] = (uint32_t)at;
    while (at < added->n_tokens && tokens[at].content[0] == byte) at++;
  }
  added->first[256] = (uint32_t)at;
}

static const struct clipc__added_token *added_match(const struct clipc__added *added, const uint8_t *text, size_t n) {
  for (uint32_t i = added->first[text[0]]; i < added->first[text[0] + 1]; i++) {
    const struct clipc__added_token *token = &added->tokens[i];
    if (token->n_bytes <= n && memcmp(token->content, text, token->n_bytes) == 0) return token;
  }
  return NULL;
}

/* The code point that ends before text + at, at >= 1, and where it begins. */
static uint32_t added_before(const uint8_t *text, size_t at, size_t *begin) {
  uint32_t code_point;
  size_t i = at - 1;
  while (i > 0 && (text[i] & 0xC0) == 0x80) i--;
  clipc__utf8_read(&code_point, text + i, at - i, NULL);
  *begin = i;
  return code_point;
}

static bool added_stands_alone(const uint8_t *text, size_t n_bytes, size_t begin, size_t end) {
  uint32_t code_point;
  size_t ignored;
  if (begin > 0 && clipc__char_properties(added_before(text, begin, &ignored)) & CLIPC__CHAR_WORD_HF) return false;
  if (end == n_bytes) return true;
  clipc__utf8_read(&code_point, text + end, n_bytes - end, NULL);
  return !(clipc__char_properties(code_point) & CLIPC__CHAR_WORD_HF);
}

static size_t added_strip_left(const uint8_t *text, size_t begin, size_t least) {
  size_t before;
  if (begin <= least) return least; /* spaces that the token before has taken */
  while (begin > least && clipc__char_is_space(added_before(text, begin, &before))) begin = before;
  return begin;
}

static size_t added_strip_right(const uint8_t *text, size_t n_bytes, size_t end) {
  while (end < n_bytes) {
    uint32_t code_point;
    size_t taken = clipc__utf8_read(&code_point, text + end, n_bytes - end, NULL);
    if (!clipc__char_is_space(code_point)) break;
    end += taken;
  }
  return end;
}

static bool added_give(struct clipc__added_walk *w, size_t begin, size_t end, int32_t id) {
  w->stretch = w->text + begin;
  w->n_stretch = end - begin;
  w->id = id;
  return true;
}

bool clipc__added_next(struct clipc__added_walk *w) {
  if (w->waiting) {
    w->waiting = false;
    w->start = w->waiting_end;
    return added_give(w, w->start, w->start, w->waiting_id);
  }
  while (w->position < w->n_bytes) {
    const struct clipc__added_token *token = added_match(w->added, w->text + w->position, w->n_bytes - w->position);
    if (token == NULL) {
      w->position++;
      continue;
    }
    size_t begin = w->position, end = begin + token->n_bytes;
    w->position = end; /* matches never overlap, and stripping does not move the search */
    if (token->single_word && !added_stands_alone(w->text, w->n_bytes, begin, end)) continue;
    if (token->lstrip) begin = added_strip_left(w->text, begin, w->start);
    if (token->rstrip) end = added_strip_right(w->text, w->n_bytes, end);
    if (w->start < begin) {
      w->waiting = true;
      w->waiting_id = token->id;
      w->waiting_end = end;
      return added_give(w, w->start, begin, -1);
    }
    w->start = end;
    return added_give(w, begin, begin, token->id);
  }
  if (w->start >= w->n_bytes) return false;
  size_t start = w->start;
  w->start = w->n_bytes;
  return added_give(w, start, w->n_bytes, -1);
}
