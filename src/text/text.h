/* The text room: UTF-8 -> cleaned text -> pieces -> token ids.
 * In the order of the way through: html.c, ftfy*.c (OpenAI's repairs), normalize.c (NFC), clean.c (the cleaning
 * of both references), added.c (tokens cut out of the text), pretokenize.c (pieces), bpe.c; tokenizer.c is the whole;
 * vocabulary.c, tokenizer_json.c and specials.c read the files of a folder; unicode.c knows the characters. */
#ifndef CLIPC_TEXT_H
#define CLIPC_TEXT_H

#include "base/base.h"
#include "base/sha256.h"
#include "base/store.h"

enum clipc__cleaning {
  CLIPC__CLEAN_HF,          /* transformers' CLIPTokenizer: NFC, white space, per-character lower case */
  CLIPC__CLEAN_LOWER,       /* OpenAI, open_clip "lower": ftfy, html.unescape twice, strip, collapse, str.lower */
  CLIPC__CLEAN_WHITESPACE,  /* open_clip "whitespace": as LOWER without lower() */
  CLIPC__CLEAN_CANONICALIZE /* open_clip "canonicalize" */
};

struct clipc__tokenizer_options {
  enum clipc__cleaning cleaning; /* not HF: open_clip's SimpleTokenizer rules throughout */
  size_t context_length;         /* start and end token included, >= 2 */
  uint64_t max_text_bytes, max_config_bytes;
};

struct clipc__tokenizer;

/* Opens tokenizer.json, or vocab.json and merges.txt, of a folder (or, for an open_clip folder without them,
 * whatever of these it has). Immutable once open; may be shared by threads.
 * Returns CLIPC_OK; _IO (the folder has none of the files: the sentence names them), _FORMAT (a broken
 * file, named), _UNSUPPORTED (a tokenizer.json of another kind, field named), _LIMIT, _NO_MEMORY. */
CLIPC_PRIVATE clipc_status clipc__tokenizer_open(struct clipc__tokenizer **out, const struct clipc__store *store,
                                                 const struct clipc__tokenizer_options *options,
                                                 const clipc_allocator *allocator, clipc_error *error);
/* The same in steps, each of about so much work as packing n_bytes of weights: *out is set by the last one. The opening
 * is freed by clipc__tokenizer_abandon, also after that; NULL is fine. The store must stay until then. */
struct clipc__tokenizer_opening;
CLIPC_PRIVATE clipc_status clipc__tokenizer_begin(struct clipc__tokenizer_opening **out,
                                                  const struct clipc__store *store,
                                                  const struct clipc__tokenizer_options *options,
                                                  const clipc_allocator *allocator, clipc_error *error);
CLIPC_PRIVATE clipc_status clipc__tokenizer_step(struct clipc__tokenizer_opening *opening,
                                                 struct clipc__tokenizer **out, size_t n_bytes, clipc_error *error);
CLIPC_PRIVATE void clipc__tokenizer_abandon(struct clipc__tokenizer_opening *opening);
CLIPC_PRIVATE void clipc__tokenizer_close(struct clipc__tokenizer *tokenizer);

/* A hash over all that text becomes ids by but for the cleaning and the context length, which are the options': the
 * same for files of other forms that say the same. _NO_MEMORY. */
CLIPC_PRIVATE clipc_status clipc__tokenizer_digest(const struct clipc__tokenizer *tokenizer,
                                                   uint8_t digest[CLIPC__SHA256_BYTES], clipc_error *error);

/* ids [out] int32 [context_length]: start, content (cut to context_length - 2), end. */
CLIPC_PRIVATE clipc_status clipc__tokenize(const struct clipc__tokenizer *tokenizer, int32_t *ids, size_t *n_ids,
                                           const char *utf8, size_t n_bytes, clipc_error *error);

/* ftfy 6.3.1's fix_text with its defaults: appends to out. In is valid UTF-8. False when memory ran out. */
CLIPC_PRIVATE bool clipc__ftfy(struct clipc__bytes *out, const uint8_t *text, size_t n_bytes);

/* Python's html.unescape: appends to out. In is valid UTF-8. False when memory ran out. */
CLIPC_PRIVATE bool clipc__html_unescape(struct clipc__bytes *out, const uint8_t *text, size_t n_bytes);

/* Unicode's normal form NFC by utf8proc: appends to out. In is valid UTF-8. False when memory ran out. */
CLIPC_PRIVATE bool clipc__nfc(struct clipc__bytes *out, const uint8_t *text, size_t n_bytes);

#endif
