/* A strict JSON scanner that is pulled: no tree, no recursion, RFC 8259 to the letter.
 * For what must not be read two ways (safetensors headers, shard indexes); configs may use a tree. */
#ifndef CLIPC_JSON_H
#define CLIPC_JSON_H

#include "base/base.h"

#define CLIPC__JSON_MAX_DEPTH 127 /* of a skipped value, the whole text's nesting included by the caller's count */

/* Zero it but for data, n_bytes and text.allocator; free text with clipc__bytes_free. Every function returns false on
 * failure and then says why in trouble (a static string; no_memory when it was memory) with at at the place. */
struct clipc__json {
  const uint8_t *data; /* valid UTF-8: the caller has checked */
  size_t n_bytes, at;
  struct clipc__bytes text; /* the last string or key, escapes decoded; may hold NUL bytes */
  const char *trouble;
  bool no_memory;
};

CLIPC_PRIVATE bool clipc__json_fail(struct clipc__json *json, const char *trouble); /* always false */
/* The first byte of the next token, without taking it; 0 at the end. */
CLIPC_PRIVATE uint8_t clipc__json_peek(struct clipc__json *json);
/* Takes '{' or '['. */
CLIPC_PRIVATE bool clipc__json_open(struct clipc__json *json, uint8_t bracket);
/* Whether another element follows in the object or array that close ('}' or ']') ends; takes the comma or the
 * bracket. n counts the elements so far, 0 before the first. False without trouble at the end. */
CLIPC_PRIVATE bool clipc__json_more(struct clipc__json *json, uint8_t close, size_t *n);
CLIPC_PRIVATE bool clipc__json_key(struct clipc__json *json);    /* a string and its colon */
CLIPC_PRIVATE bool clipc__json_string(struct clipc__json *json); /* lone surrogates and raw control characters fail */
CLIPC_PRIVATE bool clipc__json_u64(struct clipc__json *json,
                                   uint64_t *value); /* digits only: no sign, point, exponent */
CLIPC_PRIVATE bool clipc__json_null(struct clipc__json *json);
/* Takes any value. depth: how many brackets are open around it. */
CLIPC_PRIVATE bool clipc__json_skip(struct clipc__json *json, size_t depth);
CLIPC_PRIVATE bool clipc__json_end(struct clipc__json *json); /* nothing but white space is left */
/* Whether text equals a string. */
CLIPC_PRIVATE bool clipc__json_text_is(const struct clipc__json *json, const char *string);

#endif
