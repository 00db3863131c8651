/* The vocabulary and the merges of a folder.
 * In: tokenizer.json; or vocab.json and merges.txt; or OpenAI's list of merges alone, from which the ids follow.
 * Out: names with their ids, and the tables of bpe.c.
 * Nothing in the files is trusted: ids are whole, distinct and bounded, every merge names known symbols. */
#include "text/tokenizer.h"

#include <cjson/cJSON.h>

#include <stdio.h>
#include <string.h>

#define OPENAI_FILE "bpe_simple_vocab_16e6.txt"
/* Weights that take as long to pack as a byte of JSON, a name or a merge takes here. */
#define BYTES_OF_JSON 8u
#define BYTES_OF_NAME 128u
#define BYTES_OF_MERGE 256u

#define OPENAI_MERGES 48894u /* 49152 - 256 - 2: the rest of the file was never used */

struct clipc__token {
  const char *name;
  uint32_t n_bytes;
  int32_t id;
};

/* ---- names */

static bool vocabulary_reserve(struct clipc__vocabulary *v, size_t n_tokens) {
  size_t n_slots = 64;
  while (n_slots < n_tokens * 2) n_slots *= 2;
  v->mask = n_slots - 1;
  v->tokens = clipc__arena_take(&v->arena, n_tokens, sizeof *v->tokens);
  v->slots = clipc__arena_take(&v->arena, n_slots, sizeof *v->slots);
  return v->tokens != NULL && v->slots != NULL;
}

static size_t vocabulary_slot(const struct clipc__vocabulary *v, const char *name, size_t n_bytes) {
  uint64_t hash = 0xCBF29CE484222325u;
  for (size_t i = 0; i < n_bytes; i++) hash = (hash ^ (unsigned char)name[i]) * 0x100000001B3u;
  size_t slot = (size_t)(hash ^ hash >> 32) & v->mask;
  for (; v->slots[slot] != 0; slot = (slot + 1) & v->mask) {
    const struct clipc__token *token = &v->tokens[v->slots[slot] - 1];
    if (token->n_bytes == n_bytes && memcmp(token->name, name, n_bytes) == 0) break;
  }
  return slot;
}

int32_t clipc__vocabulary_find(const struct clipc__vocabulary *v, const char *name, size_t n_bytes) {
  size_t slot = vocabulary_slot(v, name, n_bytes);
  return v->slots[slot] == 0 ? -1 : v->tokens[v->slots[slot] - 1].id;
}

/* Room was made by vocabulary_reserve. False when the name was there; its id is then the new one. */
static bool vocabulary_add(struct clipc__vocabulary *v, const char *name, size_t n_bytes, int32_t id) {
  size_t slot = vocabulary_slot(v, name, n_bytes);
  if (v->slots[slot] != 0) {
    v->tokens[v->slots[slot] - 1].id = id;
    return false;
  }
  v->tokens[v->n_tokens] = (struct clipc__token){name, (uint32_t)n_bytes, id};
  v->slots[slot] = (uint32_t)++v->n_tokens;
  return true;
}

/* The printable form of a byte, as GPT-2 chose it: UTF-8 of one code point. */
static size_t vocabulary_byte_symbol(uint8_t out[4], unsigned byte) {
  bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte != 173);
  if (printable) return clipc__utf8_write(out, byte);
  unsigned n_before = byte <= 32 ? byte : byte <= 160 ? byte - 127 + 33 : 67; /* others below it */
  return clipc__utf8_write(out, 256 + n_before);
}

/* Looks the names and ids through, and makes room for them. */
static clipc_status vocabulary_look(struct clipc__vocabulary *v, const cJSON *object, const char *field,
                                    clipc_error *error) {
  size_t n = 0, largest = 0;
  if (!cJSON_IsObject(object))
    return clipc__fail(error, CLIPC_E_FORMAT, "%s: %s is not an object of tokens and ids", v->path, field);
  for (const cJSON *item = object->child; item; item = item->next, n++) {
    double id = cJSON_IsNumber(item) ? item->valuedouble : -1;
    if (!(id >= 0 && id < (double)CLIPC__MAX_TOKENS) || id != (double)(int32_t)id)
      return clipc__fail(error, CLIPC_E_FORMAT, "%s: the id of token \"%.80s\" is not a whole number from 0 to %zu",
                         v->path, item->string, CLIPC__MAX_TOKENS - 1);
    if ((size_t)id > largest) largest = (size_t)id;
  }
  if (n > CLIPC__MAX_TOKENS)
    return clipc__fail(error, CLIPC_E_LIMIT, "%s: %zu tokens are more than %zu", v->path, n, CLIPC__MAX_TOKENS);
  v->taken = vocabulary_reserve(v, n) ? clipc__arena_take(&v->arena, largest + 1, 1) : NULL;
  if (v->taken == NULL) return clipc__no_memory(error, v->path);
  v->item = object->child;
  return CLIPC_OK;
}

static clipc_status vocabulary_names(struct clipc__vocabulary *v, size_t n, clipc_error *error) {
  for (; v->item && n > 0; v->item = v->item->next, n--) {
    const cJSON *item = v->item;
    int32_t id = (int32_t)item->valuedouble;
    if (v->taken[id]++)
      return clipc__fail(error, CLIPC_E_FORMAT, "%s: token \"%.80s\" has the id %d of another", v->path, item->string,
                         (int)id);
    if (!vocabulary_add(v, item->string, strlen(item->string), id))
      return clipc__fail(error, CLIPC_E_FORMAT, "%s: token \"%.80s\" is there twice", v->path, item->string);
  }
  return CLIPC_OK;
}

/* ---- merges */

struct vocabulary_merge {
  const char *left, *right; /* not terminated */
  size_t n_left, n_right;
};

/* How much of a name goes into a sentence. */
static int vocabulary_shown(size_t n_bytes) { return n_bytes < 80 ? (int)n_bytes : 80; }

/* Looks a merge up and hands it to bpe. */
static clipc_status vocabulary_merge(struct clipc__vocabulary *v, struct clipc__bpe *bpe,
                                     const struct vocabulary_merge *m, clipc_error *error) {
  struct clipc__bytes *joined = &v->joined;
  const char *path = v->merges_path;
  size_t rank = v->rank++;
  joined->n_bytes = 0;
  if (!clipc__bytes_append(joined, m->left, m->n_left) || !clipc__bytes_append(joined, m->right, m->n_right))
    return clipc__no_memory(error, path);
  int32_t left = clipc__vocabulary_find(v, m->left, m->n_left);
  int32_t right = clipc__vocabulary_find(v, m->right, m->n_right);
  int32_t merged = clipc__vocabulary_find(v, (const char *)joined->data, joined->n_bytes);
  if (left < 0 || right < 0)
    return clipc__fail(error, CLIPC_E_FORMAT, "%s: merge %zu uses the unknown token \"%.*s\"", path, rank + 1,
                       vocabulary_shown(left < 0 ? m->n_left : m->n_right), left < 0 ? m->left : m->right);
  if (merged < 0)
    return clipc__fail(error, CLIPC_E_FORMAT, "%s: merge %zu makes the unknown token \"%.*s\"", path, rank + 1,
                       vocabulary_shown(joined->n_bytes), (const char *)joined->data);
  clipc__bpe_add(bpe, (uint32_t)rank, left, right, merged);
  return CLIPC_OK;
}

/* One symbol, one space, one symbol. */
static bool vocabulary_split(struct vocabulary_merge *m, const char *text, size_t n_bytes) {
  const char *space = memchr(text, ' ', n_bytes);
  if (space == NULL) return false;
  *m = (struct vocabulary_merge){text, space + 1, (size_t)(space - text), (size_t)(text + n_bytes - space - 1)};
  return m->n_left > 0 && m->n_right > 0 && memchr(m->right, ' ', m->n_right) == NULL;
}

static clipc_status vocabulary_json_list(struct clipc__vocabulary *v, const cJSON *array, clipc_error *error) {
  if (!cJSON_IsArray(array)) return clipc__fail(error, CLIPC_E_FORMAT, "%s: model.merges is not an array", v->path);
  for (const cJSON *item = array->child; item; item = item->next) v->n_merges++;
  if (v->n_merges > CLIPC__MAX_TOKENS)
    return clipc__fail(error, CLIPC_E_LIMIT, "%s: %zu merges are more than %zu", v->path, v->n_merges,
                       CLIPC__MAX_TOKENS);
  v->item = array->child;
  return CLIPC_OK;
}

static clipc_status vocabulary_json_merges(struct clipc__vocabulary *v, struct clipc__bpe *bpe, size_t n,
                                           clipc_error *error) {
  for (; v->item && n > 0; v->item = v->item->next, n--) {
    const cJSON *item = v->item;
    struct vocabulary_merge m = {0};
    const cJSON *left = cJSON_IsArray(item) ? item->child : NULL, *right = left ? left->next : NULL;
    bool fine = false;
    if (cJSON_IsString(item)) {
      fine = vocabulary_split(&m, item->valuestring, strlen(item->valuestring));
    } else if (cJSON_IsString(left) && cJSON_IsString(right) && right->next == NULL) {
      m = (struct vocabulary_merge){left->valuestring, right->valuestring, strlen(left->valuestring),
                                    strlen(right->valuestring)};
      fine = true;
    }
    if (!fine) return clipc__fail(error, CLIPC_E_FORMAT, "%s: merge %zu is not two tokens", v->path, v->rank + 1);
    clipc_status status = vocabulary_merge(v, bpe, &m, error);
    if (status != CLIPC_OK) return status;
  }
  return CLIPC_OK;
}

/* The next merge; 0 at the end, -1 for a line that is not two tokens. */
static int vocabulary_line(struct clipc__merge_lines *l, struct vocabulary_merge *m) {
  while (l->position < l->n_bytes && l->n_given < l->max_lines) {
    const char *line = l->text + l->position, *end = memchr(line, '\n', l->n_bytes - l->position);
    size_t n = end ? (size_t)(end - line) : l->n_bytes - l->position;
    l->position += n + (end != NULL);
    l->line++;
    if (n > 0 && line[n - 1] == '\r') n--;
    if ((l->line == 1 && l->skip_first) || (n >= 8 && memcmp(line, "#version", 8) == 0)) continue;
    if (n == 0 && l->position >= l->n_bytes) break; /* an empty line at the end */
    l->n_given++;
    return vocabulary_split(m, line, n) ? 1 : -1;
  }
  return 0;
}

/* Where there is no vocab.json: 256 bytes, 256 at the end of a word, the merges in order, start and end token. */
static clipc_status vocabulary_lay_bytes(struct clipc__vocabulary *v, clipc_error *error) {
  char *room = clipc__arena_take(&v->arena, v->lines.n_bytes + 512 * 6, 1);
  if (room == NULL || !vocabulary_reserve(v, v->n_merges + 514)) return clipc__no_memory(error, v->merges_path);
  for (int32_t i = 0; i < 256; i++) { /* in the order of the printable forms */
    unsigned byte = i < 94 ? (unsigned)i + 33 : i < 106 ? (unsigned)i - 94 + 161 : (unsigned)i - 106 + 174;
    if (i >= 188) byte = i < 221 ? (unsigned)i - 188 : i < 255 ? (unsigned)i - 221 + 127 : 173;
    size_t n = vocabulary_byte_symbol((uint8_t *)room, byte);
    memcpy(room + n, room, n);
    memcpy(room + 2 * n, "</w>", 4);
    vocabulary_add(v, room, n, i);
    vocabulary_add(v, room + n, n + 4, i + 256);
    room += 2 * n + 4;
  }
  v->room = room;
  return CLIPC_OK;
}

/* Up to n names of merges, and true; false when there are no more. */
static bool vocabulary_lay_merges(struct clipc__vocabulary *v, size_t n) {
  struct vocabulary_merge m;
  for (; n > 0; n--) {
    if (vocabulary_line(&v->lines, &m) <= 0) break;
    memcpy(v->room, m.left, m.n_left);
    memcpy(v->room + m.n_left, m.right, m.n_right);
    vocabulary_add(v, v->room, m.n_left + m.n_right, 512 + (int32_t)v->rank++);
    v->room += m.n_left + m.n_right;
  }
  if (n == 0) return true;
  vocabulary_add(v, "<|startoftext|>", 15, 512 + (int32_t)v->rank);
  vocabulary_add(v, "<|endoftext|>", 13, 512 + (int32_t)v->rank + 1);
  return false;
}

static struct clipc__merge_lines vocabulary_lines(const struct clipc__vocabulary *v) {
  return (struct clipc__merge_lines){.text = (const char *)v->file.data,
                                     .n_bytes = v->file.n_bytes,
                                     .max_lines = v->openai ? OPENAI_MERGES : SIZE_MAX,
                                     .skip_first = v->openai};
}

/* Opens the list of merges and looks it through. */
static clipc_status vocabulary_text_list(struct clipc__vocabulary *v, const struct clipc__tokenizer_options *options,
                                         clipc_error *error) {
  const char *path = v->merges_path;
  clipc_status status =
      clipc__store_open(&v->file, v->store, path, options->max_config_bytes, &v->arena.allocator, error);
  if (status != CLIPC_OK) return status;
  struct vocabulary_merge m;
  struct clipc__merge_lines all = vocabulary_lines(v);
  for (int given; (given = vocabulary_line(&all, &m)) != 0;)
    if (given < 0) return clipc__fail(error, CLIPC_E_FORMAT, "%s: line %zu is not two tokens", path, all.line);
  if (all.n_given > CLIPC__MAX_TOKENS - 514)
    return clipc__fail(error, CLIPC_E_LIMIT, "%s: %zu merges are more than %zu", path, all.n_given,
                       CLIPC__MAX_TOKENS - 514);
  if (all.n_given == 0) return clipc__fail(error, CLIPC_E_FORMAT, "%s: holds no merges", path);
  if (!clipc__utf8_valid(v->file.data, all.position))
    return clipc__fail(error, CLIPC_E_FORMAT, "%s: is not UTF-8", path);
  v->n_merges = all.n_given;
  v->lines = vocabulary_lines(v);
  return CLIPC_OK;
}

static clipc_status vocabulary_text_merges(struct clipc__vocabulary *v, struct clipc__bpe *bpe, size_t n,
                                           clipc_error *error) {
  struct vocabulary_merge m;
  clipc_status status = CLIPC_OK;
  for (; status == CLIPC_OK && n > 0 && v->rank < v->n_merges && vocabulary_line(&v->lines, &m) > 0; n--)
    status = vocabulary_merge(v, bpe, &m, error);
  return status;
}

/* ---- JSON */

/* The first string escape \u0000, which would end a name early, or SIZE_MAX. */
static size_t json_nul(const uint8_t *text, size_t n_bytes) {
  for (size_t i = 0; i < n_bytes; i++) {
    if (text[i] == 0) return i;
    if (text[i] != '\\') continue;
    if (n_bytes - i >= 6 && memcmp(text + i, "\\u0000", 6) == 0) return i;
    i++;
  }
  return SIZE_MAX;
}

static clipc_status json_read(struct clipc__file *file, const struct clipc__store *store, const char *path,
                              uint64_t max_bytes, const clipc_allocator *allocator, clipc_error *error) {
  clipc_status status = clipc__store_open(file, store, path, max_bytes, allocator, error);
  if (status != CLIPC_OK) return status;
  size_t nul = json_nul(file->data, file->n_bytes);
  if (nul != SIZE_MAX) return clipc__fail(error, CLIPC_E_FORMAT, "%s: holds a NUL character at byte %zu", path, nul);
  if (!clipc__utf8_valid(file->data, file->n_bytes))
    return clipc__fail(error, CLIPC_E_FORMAT, "%s: is not UTF-8", path);
  return CLIPC_OK;
}

/* What parsing came to, end being where it stopped. */
static clipc_status json_check(const cJSON *json, const struct clipc__file *file, const char *end, const char *path,
                               clipc_error *error) {
  const char *text = (const char *)file->data;
  while (json && end < text + file->n_bytes && strchr(" \t\r\n", *end)) end++;
  if (cJSON_IsObject(json) && end == text + file->n_bytes) return CLIPC_OK;
  return clipc__fail(error, CLIPC_E_FORMAT, "%s: is not a JSON object: it breaks at byte %zu", path,
                     (size_t)(end - text));
}

clipc_status clipc__tokenizer_json(cJSON **out, const struct clipc__store *store, const char *path, uint64_t max_bytes,
                                   bool optional, const clipc_allocator *allocator, clipc_error *error) {
  struct clipc__file file = {.data = NULL};
  *out = NULL;
  if (optional && !clipc__store_has(store, path)) return CLIPC_OK;
  clipc_status status = json_read(&file, store, path, max_bytes, allocator, error);
  if (status == CLIPC_OK) {
    const char *end = (const char *)file.data;
    *out = cJSON_ParseWithLengthOpts(end, file.n_bytes, &end, false);
    status = json_check(*out, &file, end, path, error);
  }
  if (status != CLIPC_OK) {
    cJSON_Delete(*out);
    *out = NULL;
  }
  clipc__file_close(&file);
  return status;
}

/* ---- the folder */

char *clipc__vocabulary_path(struct clipc__vocabulary *v, const char *name) {
  char *joined = clipc__store_path(v->store, name, &v->arena.allocator);
  char *path = joined ? clipc__arena_string(&v->arena, joined, strlen(joined)) : NULL;
  clipc__free(&v->arena.allocator, joined);
  return path;
}

/* Chooses the file, and reads it when it is JSON. */
static clipc_status vocabulary_find_file(struct clipc__vocabulary *v, const struct clipc__tokenizer_options *options,
                                         clipc_error *error) {
  char *whole = clipc__vocabulary_path(v, "tokenizer.json"), *names = clipc__vocabulary_path(v, "vocab.json");
  char *merges = clipc__vocabulary_path(v, "merges.txt"), *openai = clipc__vocabulary_path(v, OPENAI_FILE);
  char *packed = clipc__vocabulary_path(v, OPENAI_FILE ".gz");
  if (!whole || !names || !merges || !openai || !packed) return clipc__no_memory(error, v->store->path);
  v->whole = clipc__store_has(v->store, whole);
  v->stage = CLIPC__VOCABULARY_PARSE;
  if (v->whole || clipc__store_has(v->store, names)) {
    v->path = v->whole ? whole : names;
    v->merges_path = v->whole ? whole : merges;
    clipc_status status = json_read(&v->file, v->store, v->path, options->max_config_bytes, &v->arena.allocator, error);
    v->pieces = (struct clipc__json_pieces){
        .text = (const char *)v->file.data, .n_text = v->file.n_bytes, .piece.allocator = v->arena.allocator};
    return status;
  }
  v->stage = CLIPC__VOCABULARY_LIST;
  v->openai = clipc__store_has(v->store, openai);
  v->path = v->merges_path = v->openai ? openai : merges;
  if (v->openai || clipc__store_has(v->store, merges)) return CLIPC_OK;
  if (clipc__store_has(v->store, packed))
    return clipc__fail(error, CLIPC_E_UNSUPPORTED, "%s: is compressed; run gunzip on it", packed);
  return clipc__fail(error, CLIPC_E_IO, "%s: has no tokenizer.json, no vocab.json with merges.txt and no %s",
                     v->store->path, OPENAI_FILE);
}

static clipc_status vocabulary_parse(struct clipc__vocabulary *v, size_t n_bytes,
                                     const struct clipc__tokenizer_options *options, clipc_error *error) {
  if (!clipc__json_pieces_step(&v->pieces, n_bytes)) return CLIPC_OK;
  if (v->pieces.no_memory) return clipc__no_memory(error, v->path);
  v->json = v->pieces.root;
  v->pieces.root = NULL;
  clipc_status status = json_check(v->json, &v->file, v->pieces.stop, v->path, error);
  if (status == CLIPC_OK && v->whole)
    status = clipc__tokenizer_json_check(v->json, v->path, options->cleaning == CLIPC__CLEAN_HF, error);
  clipc__file_close(&v->file);
  v->stage = CLIPC__VOCABULARY_LOOK;
  return status;
}

/* The symbols of single bytes. */
static clipc_status vocabulary_bytes(struct clipc__vocabulary *v, struct clipc__bpe *bpe, clipc_error *error) {
  size_t n_endings = 0;
  for (unsigned byte = 0; byte < 256; byte++) {
    char symbol[8];
    size_t n = vocabulary_byte_symbol((uint8_t *)symbol, byte);
    memcpy(symbol + n, "</w>", 4);
    bpe->initial[byte] = clipc__vocabulary_find(v, symbol, n);
    bpe->final[byte] = clipc__vocabulary_find(v, symbol, n + 4);
    n_endings += bpe->final[byte] >= 0;
  }
  if (n_endings == 0)
    return clipc__fail(error, CLIPC_E_UNSUPPORTED, "%s: no token ends in \"</w>\": this is not a CLIP vocabulary",
                       v->path);
  v->stage = CLIPC__VOCABULARY_DONE;
  return CLIPC_OK;
}

/* The list of merges, and what comes of it: names, where they are made of merges, and the tables of bpe. */
static clipc_status vocabulary_list(struct clipc__vocabulary *v, struct clipc__bpe *bpe, struct clipc__arena *arena,
                                    const struct clipc__tokenizer_options *options, clipc_error *error) {
  const cJSON *model = clipc__json_field(v->json, "model");
  clipc_status status = v->whole ? vocabulary_json_list(v, clipc__json_field(model, "merges"), error)
                                 : vocabulary_text_list(v, options, error);
  if (status == CLIPC_OK && v->json == NULL) status = vocabulary_lay_bytes(v, error);
  if (status != CLIPC_OK) return status;
  v->joined.allocator = v->arena.allocator;
  v->stage = v->json == NULL ? CLIPC__VOCABULARY_LAYOUT : CLIPC__VOCABULARY_MERGES;
  return clipc__bpe_init(bpe, v->n_merges, arena) ? CLIPC_OK : clipc__no_memory(error, v->merges_path);
}

clipc_status clipc__vocabulary_step(struct clipc__vocabulary *v, struct clipc__bpe *bpe, struct clipc__arena *arena,
                                    const struct clipc__tokenizer_options *options, size_t n_bytes,
                                    clipc_error *error) {
  const cJSON *names;
  clipc_status status;
  switch (v->stage) {
  case CLIPC__VOCABULARY_FIND: return vocabulary_find_file(v, options, error);
  case CLIPC__VOCABULARY_PARSE: return vocabulary_parse(v, n_bytes / BYTES_OF_JSON + 1, options, error);
  case CLIPC__VOCABULARY_LOOK:
    names = v->whole ? clipc__json_field(clipc__json_field(v->json, "model"), "vocab") : v->json;
    v->stage = CLIPC__VOCABULARY_NAMES;
    return vocabulary_look(v, names, v->whole ? "model.vocab" : "the whole", error);
  case CLIPC__VOCABULARY_NAMES:
    status = vocabulary_names(v, n_bytes / BYTES_OF_NAME + 1, error);
    if (status == CLIPC_OK && v->item == NULL) v->stage = CLIPC__VOCABULARY_LIST;
    return status;
  case CLIPC__VOCABULARY_LIST: return vocabulary_list(v, bpe, arena, options, error);
  case CLIPC__VOCABULARY_LAYOUT:
    if (vocabulary_lay_merges(v, n_bytes / BYTES_OF_NAME + 1)) return CLIPC_OK;
    v->lines = vocabulary_lines(v);
    v->rank = 0;
    v->stage = CLIPC__VOCABULARY_MERGES;
    return CLIPC_OK;
  default:
    status = v->whole ? vocabulary_json_merges(v, bpe, n_bytes / BYTES_OF_MERGE + 1, error)
                      : vocabulary_text_merges(v, bpe, n_bytes / BYTES_OF_MERGE + 1, error);
    return status == CLIPC_OK && v->rank == v->n_merges ? vocabulary_bytes(v, bpe, error) : status;
  }
}

bool clipc__vocabulary_close_some(struct clipc__vocabulary *v, size_t n_bytes) {
  size_t n = n_bytes / BYTES_OF_NAME + 1;
  cJSON *model = v->whole ? cJSON_GetObjectItemCaseSensitive(v->json, "model") : NULL;
  cJSON *lists[] = {v->whole ? cJSON_GetObjectItemCaseSensitive(model, "vocab") : v->json,
                    cJSON_GetObjectItemCaseSensitive(model, "merges")};
  for (int i = 0; i < 2; i++)
    for (; lists[i] != NULL && lists[i]->child != NULL; n--) {
      if (n == 0) return true;
      cJSON_Delete(cJSON_DetachItemViaPointer(lists[i], lists[i]->child));
    }
  return false;
}

void clipc__vocabulary_close(struct clipc__vocabulary *v) {
  clipc__json_pieces_free(&v->pieces);
  clipc__file_close(&v->file);
  clipc__bytes_free(&v->joined);
  cJSON_Delete(v->json);
  v->json = NULL;
  clipc__arena_free(&v->arena);
}

#undef BYTES_OF_JSON
#undef BYTES_OF_NAME
#undef BYTES_OF_MERGE
