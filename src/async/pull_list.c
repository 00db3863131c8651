/* What a repository has and which of it is wanted. In: the hub's JSON, or a folder. Out: names, sizes, hashes.
 * Names become files: only those of a fixed list and of shards are let through, so none can leave its folder. */
#include "async/pull.h"
#include "base/json.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static const char *const pull_vision_names[] = {"preprocessor_config.json", "processor_config.json", NULL};
static const char *const pull_text_names[] = {"tokenizer.json",
                                              "tokenizer_config.json",
                                              "special_tokens_map.json",
                                              "added_tokens.json",
                                              "vocab.json",
                                              "merges.txt",
                                              "bpe_simple_vocab_16e6.txt",
                                              NULL};
static const char *const pull_model_types[] = {"clip", "clip_text_model", "clip_vision_model", NULL};
enum { PULL_CONFIG_BYTES = 4 << 20 };
static const char *const pull_config_names[] = {"config.json", "open_clip_config.json", NULL};
static const char *const pull_weight_names[] = {"model.safetensors", CLIPC__PULL_INDEX, "open_clip_model.safetensors",
                                                "open_clip_pytorch_model.safetensors", NULL};

static bool pull_is_one_of(const char *name, const char *const *names) {
  for (; *names; names++)
    if (strcmp(name, *names) == 0) return true;
  return false;
}

/* model-00001-of-00004.safetensors */
bool clipc__pull_is_shard(const char *name) {
  int part = 0, n_parts = 0, end = 0;
  return sscanf(name, "model-%5d-of-%5d.safetensors%n", &part, &n_parts, &end) == 2 && end > 0 && name[end] == '\0' &&
         strspn(name + 6, "0123456789") == 5 && part > 0 && part <= n_parts;
}

static bool pull_may_be_needed(const char *name) {
  return pull_is_one_of(name, pull_vision_names) || pull_is_one_of(name, pull_text_names) ||
         pull_is_one_of(name, pull_config_names) || pull_is_one_of(name, pull_weight_names) ||
         clipc__pull_is_shard(name);
}

bool clipc__pull_is_hash(const char *text) {
  size_t n = strspn(text, "0123456789abcdef");
  return (n == 40 || n == 64) && text[n] == '\0';
}

static bool pull_list_add(struct clipc__pull_list *list, const struct clipc__pull_entry *entry) {
  if (!pull_may_be_needed(entry->name)) return true;
  for (size_t i = 0; i < list->n; i++)
    if (strcmp(list->entries[i].name, entry->name) == 0) return true;
  if (list->n == list->capacity) {
    size_t capacity = list->capacity * 2 + 16;
    struct clipc__pull_entry *more = clipc__alloc(&list->allocator, capacity, sizeof *more);
    if (more == NULL) return false;
    if (list->n > 0) memcpy(more, list->entries, list->n * sizeof *more);
    clipc__free(&list->allocator, list->entries);
    list->entries = more;
    list->capacity = capacity;
  }
  list->entries[list->n++] = *entry;
  return true;
}

void clipc__pull_list_free(struct clipc__pull_list *list) {
  clipc__free(&list->allocator, list->entries);
  list->entries = NULL;
  list->n = list->capacity = 0;
  list->commit[0] = '\0';
}

/* ---- the hub's answer */

/* A string into memory of n_bytes; one that is too long or holds a NUL becomes "". */
static bool pull_read_text(struct clipc__json *json, char *out, size_t n_bytes) {
  if (clipc__json_peek(json) != '"') return clipc__json_skip(json, 4);
  if (!clipc__json_string(json)) return false;
  bool fits =
      json->text.n_bytes < n_bytes && (json->text.n_bytes == 0 || !memchr(json->text.data, 0, json->text.n_bytes));
  if (fits && json->text.n_bytes > 0) memcpy(out, json->text.data, json->text.n_bytes);
  out[fits ? json->text.n_bytes : 0] = '\0';
  return true;
}

static bool pull_read_lfs(struct clipc__json *json, struct clipc__pull_entry *entry) {
  size_t n = 0;
  if (clipc__json_peek(json) != '{') return clipc__json_skip(json, 4);
  if (!clipc__json_open(json, '{')) return false;
  while (clipc__json_more(json, '}', &n)) {
    if (!clipc__json_key(json)) return false;
    bool is_hash = clipc__json_text_is(json, "sha256"), is_size = clipc__json_text_is(json, "size");
    if (is_hash) {
      if (!pull_read_text(json, entry->hash, sizeof entry->hash)) return false;
    } else if (is_size && clipc__json_peek(json) >= '0' && clipc__json_peek(json) <= '9') {
      if (!clipc__json_u64(json, &entry->n_bytes)) return false;
      entry->has_size = true;
    } else if (!clipc__json_skip(json, 5)) {
      return false;
    }
  }
  return json->trouble == NULL;
}

static bool pull_read_sibling(struct clipc__json *json, struct clipc__pull_entry *entry) {
  size_t n = 0;
  char blob[CLIPC__PULL_HASH] = "";
  *entry = (struct clipc__pull_entry){.name = ""};
  if (!clipc__json_open(json, '{')) return false;
  while (clipc__json_more(json, '}', &n)) {
    if (!clipc__json_key(json)) return false;
    if (clipc__json_text_is(json, "rfilename")) {
      if (!pull_read_text(json, entry->name, sizeof entry->name)) return false;
    } else if (clipc__json_text_is(json, "blobId")) {
      if (!pull_read_text(json, blob, sizeof blob)) return false;
    } else if (clipc__json_text_is(json, "lfs")) {
      if (!pull_read_lfs(json, entry)) return false;
    } else if (clipc__json_text_is(json, "size") && !entry->has_size && clipc__json_peek(json) >= '0' &&
               clipc__json_peek(json) <= '9') {
      if (!clipc__json_u64(json, &entry->n_bytes)) return false;
      entry->has_size = true;
    } else if (!clipc__json_skip(json, 3)) {
      return false;
    }
  }
  if (entry->hash[0] == '\0') memcpy(entry->hash, blob, sizeof blob);
  if (!clipc__pull_is_hash(entry->hash)) entry->hash[0] = '\0';
  return json->trouble == NULL;
}

static bool pull_read_siblings(struct clipc__json *json, struct clipc__pull_list *list, bool *no_memory) {
  size_t n = 0;
  struct clipc__pull_entry entry;
  if (!clipc__json_open(json, '[')) return false;
  while (clipc__json_more(json, ']', &n)) {
    if (!pull_read_sibling(json, &entry)) return false;
    if (!pull_list_add(list, &entry)) return *no_memory = true, false;
  }
  return json->trouble == NULL;
}

clipc_status clipc__pull_list_read(struct clipc__pull_list *list, const char *repository,
                                   const struct clipc__bytes *body, clipc_error *error) {
  struct clipc__json json = {.data = body->data, .n_bytes = body->n_bytes, .text.allocator = list->allocator};
  size_t n = 0;
  bool no_memory = false, good = body->n_bytes > 0 && clipc__utf8_valid(body->data, body->n_bytes);
  clipc__pull_list_free(list);
  good = good && clipc__json_open(&json, '{');
  while (good && clipc__json_more(&json, '}', &n)) {
    good = clipc__json_key(&json);
    if (good && clipc__json_text_is(&json, "sha"))
      good = pull_read_text(&json, list->commit, sizeof list->commit);
    else if (good && clipc__json_text_is(&json, "siblings"))
      good = pull_read_siblings(&json, list, &no_memory);
    else if (good)
      good = clipc__json_skip(&json, 1);
  }
  good = good && json.trouble == NULL && clipc__json_end(&json) && clipc__pull_is_hash(list->commit);
  no_memory |= json.no_memory;
  clipc__bytes_free(&json.text);
  if (good) return CLIPC_OK;
  clipc__pull_list_free(list);
  if (no_memory) return clipc__no_memory(error, repository);
  return clipc__fail(error, CLIPC_E_FORMAT, "%.100s: what the hub says about it is not its JSON", repository);
}

/* ---- the hub's converter */

static bool pull_read_discussion(struct clipc__json *json, uint64_t *number) {
  char title[96] = "", status[16] = "";
  uint64_t read = 0;
  bool is_request = false;
  size_t n = 0;
  if (!clipc__json_open(json, '{')) return false;
  while (clipc__json_more(json, '}', &n)) {
    bool good = clipc__json_key(json);
    uint8_t next = good ? clipc__json_peek(json) : 0;
    if (good && clipc__json_text_is(json, "num") && next >= '0' && next <= '9') {
      good = clipc__json_u64(json, &read);
    } else if (good && clipc__json_text_is(json, "title")) {
      good = pull_read_text(json, title, sizeof title);
    } else if (good && clipc__json_text_is(json, "status")) {
      good = pull_read_text(json, status, sizeof status);
    } else {
      is_request |= good && clipc__json_text_is(json, "isPullRequest") && next == 't';
      good = good && clipc__json_skip(json, 3);
    }
    if (!good) return false;
  }
  if (*number == 0 && is_request && strcmp(status, "open") == 0 &&
      strcmp(title, "Adding `safetensors` variant of this model") == 0)
    *number = read;
  return json->trouble == NULL;
}

uint64_t clipc__pull_conversion(const struct clipc__bytes *body, const clipc_allocator *allocator) {
  struct clipc__json json = {.data = body->data, .n_bytes = body->n_bytes, .text.allocator = *allocator};
  uint64_t number = 0;
  size_t n = 0, n_elements = 0;
  bool good = body->n_bytes > 0 && clipc__utf8_valid(body->data, body->n_bytes) && clipc__json_open(&json, '{');
  while (good && clipc__json_more(&json, '}', &n)) {
    good = clipc__json_key(&json);
    if (good && clipc__json_text_is(&json, "discussions")) {
      good = clipc__json_open(&json, '[');
      while (good && clipc__json_more(&json, ']', &n_elements)) good = pull_read_discussion(&json, &number);
    } else {
      good = good && clipc__json_skip(&json, 1);
    }
  }
  clipc__bytes_free(&json.text);
  return number;
}

/* ---- a folder */

clipc_status clipc__pull_list_folder(struct clipc__pull_list *list, const char *folder, clipc_error *error) {
  clipc__pull_list_free(list);
  DIR *names = opendir(folder);
  if (names == NULL) return clipc__fail(error, CLIPC_E_IO, "%s: cannot be read", folder);
  bool good = true;
  for (struct dirent *name; good && (name = readdir(names)) != NULL;) {
    struct clipc__pull_entry entry = {.has_size = false};
    char path[CLIPC__PULL_PATH];
    struct stat info;
    if (!pull_may_be_needed(name->d_name) || strlen(name->d_name) >= sizeof entry.name) continue;
    strcpy(entry.name, name->d_name);
    if ((size_t)snprintf(path, sizeof path, "%s/%s", folder, entry.name) >= sizeof path || stat(path, &info) != 0)
      continue;
    entry.n_bytes = (uint64_t)info.st_size;
    entry.has_size = true;
    good = pull_list_add(list, &entry);
  }
  closedir(names);
  return good ? CLIPC_OK : clipc__no_memory(error, folder);
}

/* ---- choosing */

bool clipc__pull_list_has(const struct clipc__pull_list *list, const char *name) {
  for (size_t i = 0; i < list->n; i++)
    if (strcmp(list->entries[i].name, name) == 0) return true;
  return false;
}

/* The weights of one of the two layouts, as clipc_model_open looks for them. */
bool clipc__pull_list_choose(struct clipc__pull_list *list, bool open_clip, int towers) {
  const char *weights = NULL;
  bool whole = clipc__pull_list_has(list, "model.safetensors"), index = clipc__pull_list_has(list, CLIPC__PULL_INDEX);
  bool hf = clipc__pull_list_has(list, CLIPC__PULL_CONFIG) && (whole || index);
  if (clipc__pull_list_has(list, "open_clip_config.json")) {
    if (clipc__pull_list_has(list, "open_clip_model.safetensors"))
      weights = "open_clip_model.safetensors";
    else if (clipc__pull_list_has(list, "open_clip_pytorch_model.safetensors"))
      weights = "open_clip_pytorch_model.safetensors";
  }
  if (weights && hf && !open_clip && clipc__pull_list_has(list, "preprocessor_config.json")) weights = NULL;
  if (weights == NULL && !whole && !index) return false;
  if (weights == NULL && whole) weights = "model.safetensors";
  size_t n = 0;
  for (size_t i = 0; i < list->n; i++) {
    const char *name = list->entries[i].name;
    bool weight = pull_is_one_of(name, pull_weight_names) || clipc__pull_is_shard(name);
    bool wanted =
        weight ? (weights ? strcmp(name, weights) == 0 : clipc__pull_is_shard(name) || strstr(name, ".index.json"))
               : !(towers == CLIPC_TOWER_IMAGE && pull_is_one_of(name, pull_text_names)) &&
                     !(towers == CLIPC_TOWER_TEXT && pull_is_one_of(name, pull_vision_names));
    if (wanted) list->entries[n++] = list->entries[i];
  }
  list->n = n;
  for (size_t i = 1; i < n; i++) /* first, since it tells whether the rest is wanted */
    if (strcmp(list->entries[i].name, CLIPC__PULL_CONFIG) == 0) {
      struct clipc__pull_entry entry = list->entries[i];
      list->entries[i] = list->entries[0];
      list->entries[0] = entry;
    }
  return true;
}

clipc_status clipc__pull_check_config(const char *path, const char *repository, const clipc_allocator *allocator,
                                      clipc_error *error) {
  char type[64] = "";
  struct clipc__file file;
  size_t n = 0;
  clipc_status status = clipc__file_open(&file, path, false, PULL_CONFIG_BYTES, allocator, error);
  if (status != CLIPC_OK) return status;
  struct clipc__json json = {.data = file.data, .n_bytes = file.n_bytes, .text.allocator = *allocator};
  bool ok = clipc__utf8_valid(file.data, file.n_bytes) && clipc__json_open(&json, '{');
  while (ok && clipc__json_more(&json, '}', &n)) {
    ok = clipc__json_key(&json);
    bool is_type = ok && clipc__json_text_is(&json, "model_type");
    ok = ok && (is_type ? pull_read_text(&json, type, sizeof type) : clipc__json_skip(&json, 2));
  }
  clipc__bytes_free(&json.text);
  clipc__file_close(&file);
  if (json.no_memory) return clipc__no_memory(error, path);
  if (!ok || json.trouble != NULL || type[0] == '\0' || pull_is_one_of(type, pull_model_types)) return CLIPC_OK;
  return clipc__fail(error, CLIPC_E_UNSUPPORTED,
                     "%.120s: its config.json says model_type \"%s\", and clipc runs CLIP alone", repository, type);
}
