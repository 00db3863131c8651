/* The special and added tokens of a folder, as transformers 5.23 builds its CLIPTokenizer from the files.
 * In: tokenizer_config.json, special_tokens_map.json, added_tokens.json and the added_tokens of tokenizer.json, each
 * if it is there. Out: start, end and unknown token; the tokens to cut out of the raw and of the cleaned text.
 * tokenizer_config.json's added_tokens_decoder, where it exists, replaces the other three. Every named token becomes
 * an added one: a pad_token "!" is cut out of every text. */
#include "text/tokenizer.h"

#include <cjson/cJSON.h>

#include <stdlib.h>
#include <string.h>

#define SPECIALS_MAX 4096u /* added tokens, all files together */

enum {
  SPECIALS_BOS,
  SPECIALS_EOS,
  SPECIALS_UNK,
  SPECIALS_SEP,
  SPECIALS_PAD,
  SPECIALS_CLS,
  SPECIALS_MASK,
  N_SPECIALS_NAMED
};
static const char *const specials_names[N_SPECIALS_NAMED] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                                             "pad_token", "cls_token", "mask_token"};

struct specials_token {
  const char *content; /* lies in one of the JSON trees */
  size_t n_bytes;
  int64_t index; /* as its file says; only for the order */
  int32_t id;
  bool single_word, lstrip, rstrip, normalized;
};

struct specials_context {
  struct clipc__specials *specials;
  struct clipc__arena *arena;
  struct clipc__vocabulary *vocabulary;
  const char *path; /* of the file at hand */
  clipc_error *error;
  cJSON *config, *map, *added;
  const cJSON *named[N_SPECIALS_NAMED];
  struct specials_token *tokens; /* those with an index first */
  size_t n_tokens, n_indexed;
};

static bool specials_flag(const cJSON *object, const char *name, bool otherwise) {
  const cJSON *item = clipc__json_field(object, name);
  return cJSON_IsBool(item) ? cJSON_IsTrue(item) : otherwise;
}

static clipc_status specials_push(struct specials_context *c, const struct specials_token *token) {
  if (c->n_tokens >= SPECIALS_MAX)
    return clipc__fail(c->error, CLIPC_E_LIMIT, "%s: more than %u added tokens", c->path, SPECIALS_MAX);
  c->tokens[c->n_tokens++] = *token;
  return CLIPC_OK;
}

static clipc_status specials_malformed(struct specials_context *c, const char *field) {
  return clipc__fail(c->error, CLIPC_E_FORMAT, "%s: %.80s is not a token", c->path, field);
}

/* A token as an object with its flags or, if it is special by its place, as a plain string. */
static bool specials_read(struct specials_token *token, const cJSON *item, bool special) {
  *token = (struct specials_token){0};
  const cJSON *content = cJSON_IsObject(item) ? clipc__json_field(item, "content") : special ? item : NULL;
  if (!cJSON_IsString(content)) return false;
  token->content = content->valuestring;
  token->n_bytes = strlen(content->valuestring);
  if (cJSON_IsObject(item)) {
    token->single_word = specials_flag(item, "single_word", false);
    token->lstrip = specials_flag(item, "lstrip", false);
    token->rstrip = specials_flag(item, "rstrip", false);
    token->normalized = specials_flag(item, "normalized", !special && !specials_flag(item, "special", false));
  }
  return true;
}

/* Adds a token under an index, or replaces the one that has it. */
static clipc_status specials_at(struct specials_context *c, const struct specials_token *token) {
  for (size_t i = 0; i < c->n_tokens; i++) {
    if (c->tokens[i].index != token->index) continue;
    c->tokens[i] = *token;
    return CLIPC_OK;
  }
  return specials_push(c, token);
}

/* added_tokens_decoder: {"49406": {"content": ...}, ...} */
static clipc_status specials_from_decoder(struct specials_context *c, const cJSON *decoder) {
  if (!cJSON_IsObject(decoder)) return specials_malformed(c, "added_tokens_decoder");
  clipc_status status = CLIPC_OK;
  for (const cJSON *item = decoder->child; item && status == CLIPC_OK; item = item->next) {
    struct specials_token token;
    char *end;
    if (!specials_read(&token, item, false)) return specials_malformed(c, item->string);
    token.index = strtol(item->string, &end, 10);
    if (end == item->string || *end != '\0') return specials_malformed(c, item->string);
    status = specials_at(c, &token);
  }
  return status;
}

static bool specials_is_named(const struct specials_context *c, const char *content) {
  for (int i = 0; i < N_SPECIALS_NAMED; i++) {
    struct specials_token token;
    if (c->named[i] && specials_read(&token, c->named[i], true) && strcmp(token.content, content) == 0) return true;
  }
  return false;
}

/* added_tokens.json: {"<token>": 49408, ...}, then the added_tokens of tokenizer.json: [{"id": ..., "content": ...}] */
static clipc_status specials_from_lists(struct specials_context *c) {
  clipc_status status = CLIPC_OK;
  for (const cJSON *item = c->added ? c->added->child : NULL; item && status == CLIPC_OK; item = item->next) {
    if (!cJSON_IsNumber(item)) return specials_malformed(c, item->string);
    struct specials_token token = {.content = item->string,
                                   .n_bytes = strlen(item->string),
                                   .normalized = !specials_is_named(c, item->string),
                                   .index = item->valueint};
    status = specials_at(c, &token);
  }
  const cJSON *list = c->vocabulary->whole ? clipc__json_field(c->vocabulary->json, "added_tokens") : NULL;
  if (list == NULL || status != CLIPC_OK) return status;
  c->path = c->vocabulary->path;
  if (!cJSON_IsArray(list)) return clipc__fail(c->error, CLIPC_E_FORMAT, "%s: added_tokens is not an array", c->path);
  for (const cJSON *item = list->child; item && status == CLIPC_OK; item = item->next) {
    struct specials_token token;
    const cJSON *id = clipc__json_field(item, "id");
    if (!cJSON_IsNumber(id) || !specials_read(&token, item, false))
      return specials_malformed(c, "an entry of added_tokens");
    token.index = id->valueint;
    status = specials_at(c, &token);
  }
  return status;
}

static int specials_by_index(const void *a, const void *b) {
  int64_t x = ((const struct specials_token *)a)->index, y = ((const struct specials_token *)b)->index;
  return (x > y) - (x < y);
}

/* A named token or one of a list: it is added unless an indexed one has its name. */
static clipc_status specials_add_named(struct specials_context *c, const cJSON *item) {
  struct specials_token token;
  if (!specials_read(&token, item, true)) return specials_malformed(c, item->string ? item->string : "a special token");
  for (size_t i = 0; i < c->n_indexed; i++)
    if (strcmp(c->tokens[i].content, token.content) == 0) return CLIPC_OK;
  return specials_push(c, &token);
}

static bool specials_is_extra_name(const char *key) {
  size_t n = strlen(key);
  if (n < 6 || strcmp(key + n - 6, "_token") != 0) return false;
  for (int i = 0; i < N_SPECIALS_NAMED; i++)
    if (strcmp(key, specials_names[i]) == 0) return false;
  return true;
}

/* Every token that is to be added, in the order in which transformers adds them. */
static clipc_status specials_collect(struct specials_context *c) {
  static const char *const lists[2] = {"extra_special_tokens", "additional_special_tokens"};
  const cJSON *decoder = clipc__json_field(c->config, "added_tokens_decoder");
  clipc_status status = decoder ? specials_from_decoder(c, decoder) : specials_from_lists(c);
  if (status != CLIPC_OK) return status;
  qsort(c->tokens, c->n_tokens, sizeof *c->tokens, specials_by_index);
  c->n_indexed = c->n_tokens;
  for (int i = 0; i < N_SPECIALS_NAMED && status == CLIPC_OK; i++)
    if (c->named[i]) status = specials_add_named(c, c->named[i]);
  for (const cJSON *item = c->config ? c->config->child : NULL; item && status == CLIPC_OK; item = item->next)
    if (cJSON_IsString(item) && specials_is_extra_name(item->string)) status = specials_add_named(c, item);
  for (int i = 0; i < 2 && status == CLIPC_OK; i++) {
    const cJSON *list = clipc__json_field(c->map, lists[i]);
    if (list == NULL) list = clipc__json_field(c->config, lists[i]);
    if (!cJSON_IsArray(list) && !cJSON_IsObject(list)) continue;
    const cJSON *item = list->child;
    for (; item && status == CLIPC_OK; item = item->next) status = specials_add_named(c, item);
    if (list->child) break;
  }
  return status;
}

/* Ids as tokenizers gives them: of the vocabulary where the name is known, else counted on from its size. */
static void specials_number(struct specials_context *c) {
  int32_t n_vocabulary = (int32_t)c->vocabulary->n_tokens, largest = -1;
  for (size_t i = 0; i < c->n_tokens; i++) {
    struct specials_token *token = &c->tokens[i];
    token->id = -1;
    for (size_t j = 0; j < i && token->id < 0; j++)
      if (strcmp(c->tokens[j].content, token->content) == 0) token->id = c->tokens[j].id;
    if (token->id < 0 && token->n_bytes > 0)
      token->id = clipc__vocabulary_find(c->vocabulary, token->content, token->n_bytes);
    if (token->id < 0 && token->n_bytes > 0) token->id = largest >= n_vocabulary ? largest + 1 : n_vocabulary;
    if (token->id > largest) largest = token->id;
  }
}

/* Puts a token into the raw or the cleaned set. */
static clipc_status specials_place(struct specials_context *c, const struct specials_token *token) {
  struct clipc__bytes cleaned = {.allocator = c->arena->allocator};
  struct clipc__added *set = token->normalized ? &c->specials->cleaned : &c->specials->raw;
  struct clipc__added_token *place = &set->tokens[set->n_tokens];
  *place = (struct clipc__added_token){
      (const uint8_t *)token->content, token->n_bytes, token->id, token->single_word, token->lstrip, token->rstrip};
  bool done = true;
  if (token->normalized) {
    done = clipc__clean_hf(&cleaned, place->content, place->n_bytes);
    place->content = cleaned.data;
    place->n_bytes = cleaned.n_bytes;
  }
  if (done && place->n_bytes > 0) {
    place->content = (uint8_t *)clipc__arena_string(c->arena, (const char *)place->content, place->n_bytes);
    done = place->content != NULL;
    set->n_tokens += done;
  }
  clipc__bytes_free(&cleaned);
  return done ? CLIPC_OK : clipc__no_memory(c->error, "the added tokens");
}

static clipc_status specials_sets(struct specials_context *c) {
  struct clipc__specials *s = c->specials;
  s->raw.tokens = clipc__arena_take(c->arena, c->n_tokens, sizeof *s->raw.tokens);
  s->cleaned.tokens = clipc__arena_take(c->arena, c->n_tokens, sizeof *s->cleaned.tokens);
  if (s->raw.tokens == NULL || s->cleaned.tokens == NULL) return clipc__no_memory(c->error, "the added tokens");
  for (size_t i = 0; i < c->n_tokens; i++) {
    bool given_again = c->tokens[i].n_bytes == 0; /* an empty one is none; of several the last one holds */
    for (size_t j = i + 1; j < c->n_tokens && !given_again; j++) given_again = c->tokens[j].id == c->tokens[i].id;
    clipc_status status = given_again ? CLIPC_OK : specials_place(c, &c->tokens[i]);
    if (status != CLIPC_OK) return status;
  }
  clipc__added_sort(&s->raw);
  clipc__added_sort(&s->cleaned);
  return CLIPC_OK;
}

/* The names of the framing tokens: special_tokens_map.json over tokenizer_config.json over CLIP's own. */
static void specials_name(struct specials_context *c, const cJSON *defaults) {
  for (int i = 0; i < N_SPECIALS_NAMED; i++) {
    const cJSON *item = clipc__json_field(c->map, specials_names[i]);
    if (item == NULL) item = clipc__json_field(c->config, specials_names[i]);
    bool pad_is_off = i == SPECIALS_PAD && cJSON_IsNull(item);
    if ((item == NULL || cJSON_IsNull(item)) && !pad_is_off) item = clipc__json_field(defaults, specials_names[i]);
    c->named[i] = cJSON_IsNull(item) ? NULL : item;
  }
}

static int32_t specials_id(const struct specials_context *c, int named, const char **content) {
  struct specials_token token;
  *content = "";
  if (c->named[named] == NULL || !specials_read(&token, c->named[named], true)) return -1;
  *content = token.content;
  for (size_t i = 0; i < c->n_indexed; i++)
    if (strcmp(c->tokens[i].content, token.content) == 0) return c->tokens[i].id;
  return clipc__vocabulary_find(c->vocabulary, token.content, token.n_bytes);
}

static clipc_status specials_frame(struct specials_context *c) {
  const char *name;
  c->specials->start = specials_id(c, SPECIALS_BOS, &name);
  if (c->specials->start >= 0) c->specials->end = specials_id(c, SPECIALS_EOS, &name);
  if (c->specials->start < 0 || c->specials->end < 0)
    return clipc__fail(c->error, CLIPC_E_FORMAT, "%s: has no token \"%.80s\"", c->vocabulary->path, name);
  struct specials_token unknown;
  bool named = c->named[SPECIALS_UNK] && specials_read(&unknown, c->named[SPECIALS_UNK], true);
  c->specials->unknown = named ? clipc__vocabulary_find(c->vocabulary, unknown.content, unknown.n_bytes) : -1;
  return CLIPC_OK;
}

/* What the config asks for besides tokens. */
static clipc_status specials_check_config(struct specials_context *c) {
  static const char *const classes[] = {"CLIPTokenizer", "CLIPTokenizerFast", "PreTrainedTokenizerFast",
                                        "TokenizersBackend"};
  const cJSON *class_name = clipc__json_field(c->config, "tokenizer_class");
  bool known = !cJSON_IsString(class_name);
  for (size_t i = 0; i < 4 && !known; i++) known = strcmp(class_name->valuestring, classes[i]) == 0;
  if (!known)
    return clipc__fail(c->error, CLIPC_E_UNSUPPORTED, "%s: tokenizer_class %.60s is not CLIP's", c->path,
                       class_name->valuestring);
  const cJSON *side = clipc__json_field(c->config, "truncation_side");
  if (cJSON_IsString(side) && strcmp(side->valuestring, "left") == 0)
    return clipc__fail(c->error, CLIPC_E_UNSUPPORTED, "%s: truncation_side left is not supported", c->path);
  if (cJSON_IsTrue(clipc__json_field(c->config, "split_special_tokens")))
    return clipc__fail(c->error, CLIPC_E_UNSUPPORTED, "%s: split_special_tokens is not supported", c->path);
  return CLIPC_OK;
}

static clipc_status specials_load(struct specials_context *c, cJSON **json, const char *name,
                                  const struct clipc__tokenizer_options *options) {
  c->path = clipc__vocabulary_path(c->vocabulary, name);
  if (c->path == NULL) return clipc__no_memory(c->error, name);
  return clipc__tokenizer_json(json, c->vocabulary->store, c->path, options->max_config_bytes, true,
                               &c->arena->allocator, c->error);
}

static clipc_status specials_build(struct specials_context *c, const cJSON *defaults,
                                   const struct clipc__tokenizer_options *options) {
  clipc_status status = specials_load(c, &c->config, "tokenizer_config.json", options);
  if (status == CLIPC_OK) status = specials_check_config(c);
  if (status == CLIPC_OK && !clipc__json_field(c->config, "added_tokens_decoder")) {
    status = specials_load(c, &c->map, "special_tokens_map.json", options);
    if (status == CLIPC_OK) status = specials_load(c, &c->added, "added_tokens.json", options);
  }
  if (status != CLIPC_OK) return status;
  specials_name(c, defaults);
  c->tokens = clipc__arena_take(&c->vocabulary->arena, SPECIALS_MAX, sizeof *c->tokens);
  if (c->tokens == NULL) return clipc__no_memory(c->error, "the added tokens");
  status = specials_collect(c);
  if (status != CLIPC_OK) return status;
  specials_number(c);
  status = specials_frame(c);
  return status == CLIPC_OK ? specials_sets(c) : status;
}

clipc_status clipc__specials_open(struct clipc__specials *specials, struct clipc__arena *arena,
                                  struct clipc__vocabulary *vocabulary, const struct clipc__tokenizer_options *options,
                                  clipc_error *error) {
  struct specials_context c = {.specials = specials, .arena = arena, .vocabulary = vocabulary, .error = error};
  cJSON *defaults = cJSON_Parse("{\"bos_token\": \"<|startoftext|>\", \"eos_token\": \"<|endoftext|>\","
                                " \"unk_token\": \"<|endoftext|>\", \"pad_token\": \"<|endoftext|>\"}");
  clipc_status status = defaults ? specials_build(&c, defaults, options) : clipc__no_memory(error, "the added tokens");
  cJSON_Delete(defaults);
  cJSON_Delete(c.config);
  cJSON_Delete(c.map);
  cJSON_Delete(c.added);
  return status;
}
