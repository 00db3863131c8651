/* The tokeniser: a text becomes start token, content, end token.
 * In: UTF-8, which may be malformed. Out: at most context_length ids.
 * CLEAN_HF matches transformers' CLIPTokenizer: added tokens are cut out of the raw text, the rest is cleaned piece by
 * piece. The others match open_clip's SimpleTokenizer: the whole text is cleaned, and only <start_of_text> and
 * <end_of_text> are special. Once the context is full the rest of the text cannot change the result. */
#include "text/tokenizer.h"

#include <string.h>

#define TOKENIZER_MAX_TEXT ((uint64_t)1 << 26) /* cleaned, it still fits 31 bits */

struct clipc__tokenizer {
  struct clipc__arena arena;
  struct clipc__tokenizer_options options;
  struct clipc__bpe bpe;
  struct clipc__specials specials;
};

/* What the vocabulary leaves to be said. */
static clipc_status tokenizer_finish(struct clipc__tokenizer *t, struct clipc__vocabulary *v, clipc_error *error) {
  bool hf = t->options.cleaning == CLIPC__CLEAN_HF;
  t->bpe.hf = hf;
  t->specials.unknown = -1;
  if (hf) {
    clipc_status status = clipc__specials_open(&t->specials, &t->arena, v, &t->options, error);
    if (status != CLIPC_OK) return status;
  } else {
    t->specials.start = clipc__vocabulary_find(v, "<|startoftext|>", 15);
    t->specials.end = clipc__vocabulary_find(v, "<|endoftext|>", 13);
    if (t->specials.start < 0 || t->specials.end < 0)
      return clipc__fail(error, CLIPC_E_FORMAT, "%s: has no token \"%s\"", v->path,
                         t->specials.start < 0 ? "<|startoftext|>" : "<|endoftext|>");
  }
  for (unsigned byte = 0; byte < 256; byte++) {
    bool missing = t->bpe.initial[byte] < 0 || t->bpe.final[byte] < 0;
    if (missing && t->specials.unknown < 0)
      return clipc__fail(error, CLIPC_E_FORMAT, "%s: has no token for byte %u and no unknown token", v->path, byte);
    if (t->bpe.initial[byte] < 0) t->bpe.initial[byte] = t->specials.unknown;
    if (t->bpe.final[byte] < 0) t->bpe.final[byte] = t->specials.unknown;
  }
  return CLIPC_OK;
}

struct clipc__tokenizer_opening {
  struct clipc__tokenizer *tokenizer;
  struct clipc__vocabulary vocabulary;
  bool finished; /* and only the vocabulary is still to be closed */
};

clipc_status clipc__tokenizer_begin(struct clipc__tokenizer_opening **out, const struct clipc__store *store,
                                    const struct clipc__tokenizer_options *options, const clipc_allocator *allocator,
                                    clipc_error *error) {
  *out = NULL;
  if (options->context_length < 2)
    return clipc__fail(error, CLIPC_E_INVALID, "%s: a context of %zu has no room for start and end token", store->path,
                       options->context_length);
  struct clipc__tokenizer_opening *opening = clipc__alloc_zeroed(allocator, 1, sizeof *opening);
  struct clipc__tokenizer *t = clipc__alloc_zeroed(allocator, 1, sizeof *t);
  if (opening == NULL || t == NULL) {
    clipc__free(allocator, opening);
    clipc__free(allocator, t);
    return clipc__no_memory(error, "the tokeniser");
  }
  t->arena.allocator = *allocator;
  t->options = *options;
  opening->tokenizer = t;
  opening->vocabulary.store = store;
  opening->vocabulary.arena.allocator = *allocator;
  *out = opening;
  return CLIPC_OK;
}

clipc_status clipc__tokenizer_step(struct clipc__tokenizer_opening *opening, struct clipc__tokenizer **out,
                                   size_t n_bytes, clipc_error *error) {
  struct clipc__tokenizer *t = opening->tokenizer;
  struct clipc__vocabulary *v = &opening->vocabulary;
  *out = NULL;
  if (v->stage != CLIPC__VOCABULARY_DONE)
    return clipc__vocabulary_step(v, &t->bpe, &t->arena, &t->options, n_bytes, error);
  if (!opening->finished) {
    opening->finished = true;
    return tokenizer_finish(t, v, error);
  }
  if (clipc__vocabulary_close_some(v, n_bytes)) return CLIPC_OK;
  clipc__vocabulary_close(v);
  *out = t;
  opening->tokenizer = NULL;
  return CLIPC_OK;
}

void clipc__tokenizer_abandon(struct clipc__tokenizer_opening *opening) {
  if (opening == NULL) return;
  clipc_allocator allocator = opening->vocabulary.arena.allocator;
  clipc__vocabulary_close(&opening->vocabulary);
  clipc__tokenizer_close(opening->tokenizer);
  clipc__free(&allocator, opening);
}

clipc_status clipc__tokenizer_open(struct clipc__tokenizer **out, const struct clipc__store *store,
                                   const struct clipc__tokenizer_options *options, const clipc_allocator *allocator,
                                   clipc_error *error) {
  struct clipc__tokenizer_opening *opening;
  *out = NULL;
  clipc_status status = clipc__tokenizer_begin(&opening, store, options, allocator, error);
  while (status == CLIPC_OK && *out == NULL) status = clipc__tokenizer_step(opening, out, SIZE_MAX, error);
  clipc__tokenizer_abandon(opening);
  return status;
}

void clipc__tokenizer_close(struct clipc__tokenizer *t) {
  if (t == NULL) return;
  clipc_allocator allocator = t->arena.allocator;
  clipc__arena_free(&t->arena);
  clipc__free(&allocator, t);
}

/* ---- what it is */

static void digest_added(struct clipc__sha256 *sha, const struct clipc__added *added) {
  clipc__sha256_add(sha, &(uint64_t){added->n_tokens}, sizeof(uint64_t));
  for (size_t i = 0; i < added->n_tokens; i++) {
    const struct clipc__added_token *token = &added->tokens[i];
    int32_t rules[] = {(int32_t)token->n_bytes, token->id, token->single_word, token->lstrip, token->rstrip};
    clipc__sha256_add(sha, rules, sizeof rules);
    clipc__sha256_add(sha, token->content, token->n_bytes);
  }
}

/* Pairs by their ranks, with what they become: the table's own order hangs on its size. */
static bool digest_merges(struct clipc__sha256 *sha, const struct clipc__bpe *bpe, const clipc_allocator *allocator) {
  size_t n = 0;
  for (size_t slot = 0; slot <= bpe->mask; slot++)
    if (bpe->pairs[slot] != UINT64_MAX && bpe->ranks[slot] >= n) n = (size_t)bpe->ranks[slot] + 1;
  uint64_t *pairs = clipc__alloc(allocator, n, sizeof *pairs);
  if (pairs == NULL) return false;
  for (size_t i = 0; i < n; i++) pairs[i] = UINT64_MAX; /* a rank whose pair has a later one */
  for (size_t slot = 0; slot <= bpe->mask; slot++)
    if (bpe->pairs[slot] != UINT64_MAX) pairs[bpe->ranks[slot]] = bpe->pairs[slot];
  clipc__sha256_add(sha, &(uint64_t){n}, sizeof(uint64_t));
  for (size_t i = 0; i < n; i++) {
    if (pairs[i] == UINT64_MAX) continue;
    clipc__sha256_add(sha, &pairs[i], sizeof *pairs);
    clipc__sha256_add(sha, &bpe->merged[i], sizeof *bpe->merged);
  }
  clipc__free(allocator, pairs);
  return true;
}

clipc_status clipc__tokenizer_digest(const struct clipc__tokenizer *t, uint8_t digest[CLIPC__SHA256_BYTES],
                                     clipc_error *error) {
  struct clipc__sha256 sha;
  int32_t rules[] = {t->bpe.hf, t->specials.start, t->specials.end, t->specials.unknown};
  clipc__sha256_begin(&sha, false);
  clipc__sha256_add(&sha, rules, sizeof rules);
  clipc__sha256_add(&sha, t->bpe.initial, sizeof t->bpe.initial);
  clipc__sha256_add(&sha, t->bpe.final, sizeof t->bpe.final);
  digest_added(&sha, &t->specials.raw);
  digest_added(&sha, &t->specials.cleaned);
  if (!digest_merges(&sha, &t->bpe, &t->arena.allocator)) return clipc__no_memory(error, "the tokeniser's hash");
  clipc__sha256_end(&sha, digest);
  return CLIPC_OK;
}

/* ---- encoding */

struct tokenizer_run {
  const struct clipc__tokenizer *tokenizer;
  struct clipc__bytes text, cleaned, ids; /* ids as int32 */
  struct clipc__bpe_work work;
  size_t max_ids; /* of the content */
};

static bool tokenizer_is_full(const struct tokenizer_run *run) {
  return run->ids.n_bytes / sizeof(int32_t) >= run->max_ids;
}

static bool tokenizer_encode(struct tokenizer_run *run, const uint8_t *text, size_t n_bytes) {
  const struct clipc__tokenizer *t = run->tokenizer;
  struct clipc__pieces pieces = {.text = text, .n_bytes = n_bytes, .hf = t->bpe.hf};
  while (!tokenizer_is_full(run) && clipc__pieces_next(&pieces)) {
    int32_t id = pieces.kind == CLIPC__PIECE_START ? t->specials.start : t->specials.end;
    bool done = pieces.kind == CLIPC__PIECE_WORD
                    ? clipc__bpe_encode(&t->bpe, &run->work, &run->ids, pieces.piece, pieces.n_piece)
                    : clipc__bytes_append(&run->ids, &id, sizeof id);
    if (!done) return false;
  }
  return true;
}

/* A stretch between raw tokens: cleaned, and searched for the tokens that are matched in cleaned text. */
static bool tokenizer_stretch(struct tokenizer_run *run, const uint8_t *text, size_t n_bytes) {
  run->cleaned.n_bytes = 0;
  if (!clipc__clean_hf(&run->cleaned, text, n_bytes)) return false;
  struct clipc__added_walk walk = {&run->tokenizer->specials.cleaned, run->cleaned.data, run->cleaned.n_bytes, .id = 0};
  while (!tokenizer_is_full(run) && clipc__added_next(&walk)) {
    bool done = walk.id >= 0 ? clipc__bytes_append(&run->ids, &walk.id, sizeof walk.id)
                             : tokenizer_encode(run, walk.stretch, walk.n_stretch);
    if (!done) return false;
  }
  return true;
}

static bool tokenizer_hf(struct tokenizer_run *run, const uint8_t *text, size_t n_bytes) {
  struct clipc__added_walk walk = {&run->tokenizer->specials.raw, text, n_bytes, .id = 0};
  while (!tokenizer_is_full(run) && clipc__added_next(&walk)) {
    bool done = walk.id >= 0 ? clipc__bytes_append(&run->ids, &walk.id, sizeof walk.id)
                             : tokenizer_stretch(run, walk.stretch, walk.n_stretch);
    if (!done) return false;
  }
  return true;
}

/* Makes the text valid: one U+FFFD for each maximal ill-formed part. */
static bool tokenizer_repair(struct clipc__bytes *out, const uint8_t *text, size_t n_bytes) {
  for (size_t i = 0; i < n_bytes;) {
    uint32_t code_point;
    i += clipc__utf8_read(&code_point, text + i, n_bytes - i, NULL);
    if (!clipc__bytes_reserve(out, 4)) return false;
    out->n_bytes += clipc__utf8_write(out->data + out->n_bytes, code_point);
  }
  return true;
}

static bool tokenizer_whole(struct tokenizer_run *run, const uint8_t *text, size_t n_bytes) {
  const struct clipc__tokenizer *t = run->tokenizer;
  if (!clipc__utf8_valid(text, n_bytes)) {
    if (!tokenizer_repair(&run->text, text, n_bytes)) return false;
    text = run->text.data;
    n_bytes = run->text.n_bytes;
  }
  if (t->bpe.hf) return tokenizer_hf(run, text, n_bytes);
  return clipc__clean_open_clip(&run->cleaned, text, n_bytes, t->options.cleaning) &&
         tokenizer_encode(run, run->cleaned.data, run->cleaned.n_bytes);
}

clipc_status clipc__tokenize(const struct clipc__tokenizer *t, int32_t *ids, size_t *n_ids, const char *utf8,
                             size_t n_bytes, clipc_error *error) {
  uint64_t limit = t->options.max_text_bytes < TOKENIZER_MAX_TEXT ? t->options.max_text_bytes : TOKENIZER_MAX_TEXT;
  if (n_bytes > limit)
    return clipc__fail(error, CLIPC_E_LIMIT, "text: %zu bytes are more than the limit of %llu", n_bytes,
                       (unsigned long long)limit);
  clipc_allocator allocator = t->arena.allocator;
  struct tokenizer_run run = {.tokenizer = t,
                              .text.allocator = allocator,
                              .cleaned.allocator = allocator,
                              .ids.allocator = allocator,
                              .work.allocator = allocator,
                              .max_ids = t->options.context_length - 2};
  bool done = n_bytes == 0 || tokenizer_whole(&run, (const uint8_t *)utf8, n_bytes);
  if (done) {
    size_t n = run.ids.n_bytes / sizeof *ids;
    if (n > run.max_ids) n = run.max_ids;
    ids[0] = t->specials.start;
    if (n > 0) memcpy(ids + 1, run.ids.data, n * sizeof *ids);
    ids[n + 1] = t->specials.end;
    *n_ids = n + 2;
  }
  clipc__bytes_free(&run.text);
  clipc__bytes_free(&run.cleaned);
  clipc__bytes_free(&run.ids);
  clipc__bpe_work_free(&run.work);
  return done ? CLIPC_OK : clipc__no_memory(error, "the tokens of a text");
}
