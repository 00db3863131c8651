/* The cleaning of a text before it is split.
 * In: valid UTF-8. Out: valid UTF-8 appended to a byte string.
 * Matches the normalizer of transformers' CLIPTokenizer (NFC, white space, lower case character by character) and
 * open_clip's clean functions (ftfy, html.unescape twice, str.split, str.lower with its final sigma). */
#include "text/tokenizer.h"

#include <string.h>

enum { CLEAN_DOTTED_I = 0x130, CLEAN_SIGMA = 0x3A3, CLEAN_FINAL_SIGMA = 0x3C2, CLEAN_DOT_ABOVE = 0x307 };

static bool clean_write(struct clipc__bytes *out, uint32_t code_point) {
  if (!clipc__bytes_reserve(out, 4)) return false;
  out->n_bytes += clipc__utf8_write(out->data + out->n_bytes, code_point);
  return true;
}

static bool clean_write_lower(struct clipc__bytes *out, uint32_t code_point, bool hf) {
  if (code_point == CLEAN_DOTTED_I) return clean_write(out, 'i') && clean_write(out, CLEAN_DOT_ABOVE);
  return clean_write(out, clipc__char_lower(code_point, hf));
}

bool clipc__clean_hf(struct clipc__bytes *out, const uint8_t *text, size_t n_bytes) {
  struct clipc__bytes composed = {.allocator = out->allocator};
  bool done = clipc__nfc_hf(&composed, text, n_bytes) && clipc__bytes_reserve(out, composed.n_bytes);
  bool in_space = false;
  for (size_t i = 0; done && i < composed.n_bytes;) {
    uint32_t code_point;
    i += clipc__utf8_read(&code_point, composed.data + i, composed.n_bytes - i, NULL);
    bool space = clipc__char_is_space(code_point);
    if (!space)
      done = clean_write_lower(out, code_point, true);
    else if (!in_space)
      done = clean_write(out, ' ');
    in_space = space;
  }
  clipc__bytes_free(&composed);
  return done;
}

/* " ".join(text.split()); canonicalize first reads '_' as a space and drops the other ASCII punctuation. */
static bool clean_collapse(struct clipc__bytes *out, const uint8_t *text, size_t n_bytes, bool canonicalize) {
  bool first = true, in_space = true;
  if (!clipc__bytes_reserve(out, n_bytes)) return false;
  for (size_t i = 0; i < n_bytes;) {
    uint32_t c;
    i += clipc__utf8_read(&c, text + i, n_bytes - i, NULL);
    if (canonicalize) {
      if (c == '_') c = ' ';
      if (c - '!' < 15 || c - ':' < 7 || c - '[' < 6 || c - '{' < 4) continue;
    }
    bool space = clipc__char_is_space(c) || c - 0x1C < 4;
    if (!space && in_space && !first && !clean_write(out, ' ')) return false;
    if (!space && !clean_write(out, c)) return false;
    if (!space) first = false;
    in_space = space;
  }
  return true;
}

/* Whether the first character of text that is not case-ignorable is cased. */
static bool clean_cased_follows(const uint8_t *text, size_t n_bytes) {
  for (size_t i = 0; i < n_bytes;) {
    uint32_t code_point;
    i += clipc__utf8_read(&code_point, text + i, n_bytes - i, NULL);
    unsigned properties = clipc__char_properties(code_point);
    if (!(properties & CLIPC__CHAR_CASE_IGNORABLE)) return properties & CLIPC__CHAR_CASED;
  }
  return false;
}

/* str.lower: a capital sigma at the end of a word becomes the final form. */
static bool clean_lower(struct clipc__bytes *out, const uint8_t *text, size_t n_bytes) {
  bool after_cased = false;
  for (size_t i = 0; i < n_bytes;) {
    uint32_t code_point;
    i += clipc__utf8_read(&code_point, text + i, n_bytes - i, NULL);
    bool is_final = code_point == CLEAN_SIGMA && after_cased && !clean_cased_follows(text + i, n_bytes - i);
    if (!(is_final ? clean_write(out, CLEAN_FINAL_SIGMA) : clean_write_lower(out, code_point, false))) return false;
    unsigned properties = clipc__char_properties(code_point);
    if (!(properties & CLIPC__CHAR_CASE_IGNORABLE)) after_cased = properties & CLIPC__CHAR_CASED;
  }
  return true;
}

bool clipc__clean_open_clip(struct clipc__bytes *out, const uint8_t *text, size_t n_bytes,
                            enum clipc__cleaning cleaning) {
  struct clipc__bytes a = {.allocator = out->allocator}, b = a;
  bool done = clipc__ftfy(&a, text, n_bytes) && clipc__html_unescape(&b, a.data, a.n_bytes);
  a.n_bytes = 0;
  done = done && clipc__html_unescape(&a, b.data, b.n_bytes);
  b.n_bytes = 0;
  if (cleaning == CLIPC__CLEAN_WHITESPACE) {
    done = done && clean_collapse(out, a.data, a.n_bytes, false);
  } else { /* lower() sees no difference between one space and several */
    done = done && clean_collapse(&b, a.data, a.n_bytes, cleaning == CLIPC__CLEAN_CANONICALIZE);
    done = done && clean_lower(out, b.data, b.n_bytes);
  }
  clipc__bytes_free(&a);
  clipc__bytes_free(&b);
  return done;
}
