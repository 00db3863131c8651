/* The weight files of a folder: one safetensors file, or the shards that an index lists -> one table by name.
 * In: a folder. Out: every file validated completely, each opened once.
 * The index alone says which tensors there are: what a shard holds beyond its list is an extra and left out. */
#include "weights/weights.h"

#include "base/json.h"

#include <stdlib.h>
#include <string.h>

#define INDEX_MAX_SHARDS 4096u

/* Opens one file as the n-th of the folder and reads its tensors. path is of the arena. */
static clipc_status index_open_file(struct clipc__tensors *out, const char *path, const clipc_options *options,
                                    struct clipc__tensor **tensors, size_t *n_tensors, clipc_error *error) {
  struct clipc__file *file = &out->files[out->n_files];
  clipc_status status = clipc__file_open(file, path, !options->read_weights, UINT64_MAX, &out->arena.allocator, error);
  if (status != CLIPC_OK) return status;
  out->n_files++;
  return clipc__safetensors_read(tensors, n_tensors, &out->arena, file, path, options->limits.max_header_bytes, error);
}

static char *index_path(struct clipc__arena *arena, const char *folder, const char *name) {
  char *path = clipc__path_join(&arena->allocator, folder, name);
  char *copy = path ? clipc__arena_string(arena, path, strlen(path)) : NULL;
  clipc__free(&arena->allocator, path);
  return copy;
}

/* ---- the index */

static bool index_shard_name_ok(const uint8_t *name, size_t n) {
  if (n == 0 || n > 255 || memchr(name, 0, n) || memchr(name, '/', n) || memchr(name, '\\', n)) return false;
  for (size_t i = 1; i < n; i++)
    if (name[i] == '.' && name[i - 1] == '.') return false;
  return !(n == 1 && name[0] == '.');
}

static bool index_no_memory(struct clipc__json *json) {
  json->no_memory = true;
  return clipc__json_fail(json, "no memory");
}

/* "weight_map": {"tensor name": "file name", ...} */
static bool index_weight_map(struct clipc__json *json, struct clipc__arena *arena, struct clipc__bytes *entries) {
  size_t n = 0;
  const char *last_shard = NULL; /* neighbours mostly lie in one shard: its name is kept once */
  if (!clipc__json_open(json, '{')) return false;
  while (clipc__json_more(json, '}', &n)) {
    struct clipc__index_entry entry;
    if (!clipc__json_key(json)) return false;
    if (json->text.n_bytes > 0 && memchr(json->text.data, 0, json->text.n_bytes))
      return clipc__json_fail(json, "a tensor name holds a NUL");
    entry.tensor = clipc__arena_string(arena, (const char *)json->text.data, json->text.n_bytes);
    if (entry.tensor == NULL) return index_no_memory(json);
    if (!clipc__json_string(json)) return false;
    if (!index_shard_name_ok(json->text.data, json->text.n_bytes))
      return clipc__json_fail(json, "a shard must be a plain file name");
    if (last_shard == NULL || !clipc__json_text_is(json, last_shard))
      last_shard = clipc__arena_string(arena, (const char *)json->text.data, json->text.n_bytes);
    if (last_shard == NULL) return index_no_memory(json);
    entry.shard = last_shard;
    if (!clipc__bytes_append(entries, &entry, sizeof entry)) return index_no_memory(json);
  }
  return json->trouble == NULL;
}

static bool index_scan(struct clipc__json *json, struct clipc__arena *arena, struct clipc__bytes *entries) {
  bool has_map = false;
  size_t n = 0;
  if (!clipc__json_open(json, '{')) return false;
  while (clipc__json_more(json, '}', &n)) {
    if (!clipc__json_key(json)) return false;
    if (!clipc__json_text_is(json, "weight_map")) {
      if (!clipc__json_skip(json, 1)) return false;
      continue;
    }
    if (has_map) return clipc__json_fail(json, "weight_map comes twice");
    has_map = true;
    if (!index_weight_map(json, arena, entries)) return false;
  }
  if (json->trouble) return false;
  if (!has_map) return clipc__json_fail(json, "weight_map is missing");
  return clipc__json_end(json);
}

static int index_by_tensor(const void *a, const void *b) {
  return strcmp(((const struct clipc__index_entry *)a)->tensor, ((const struct clipc__index_entry *)b)->tensor);
}

static int index_by_shard(const void *a, const void *b) {
  int order = strcmp(((const struct clipc__index_entry *)a)->shard, ((const struct clipc__index_entry *)b)->shard);
  return order != 0 ? order : index_by_tensor(a, b);
}

clipc_status clipc__index_parse(struct clipc__bytes *entries, struct clipc__arena *arena, const char *path,
                                const void *data, size_t n_bytes, clipc_error *error) {
  struct clipc__json json = {.data = data, .n_bytes = n_bytes, .text.allocator = arena->allocator};
  bool utf8 = n_bytes == 0 || clipc__utf8_valid(data, n_bytes);
  bool ok = utf8 && index_scan(&json, arena, entries);
  clipc__bytes_free(&json.text);
  if (json.no_memory) return clipc__no_memory(error, path);
  if (!utf8) return clipc__fail(error, CLIPC_E_FORMAT, "%s: not UTF-8", path);
  if (!ok) return clipc__fail(error, CLIPC_E_FORMAT, "%s: byte %zu: %s", path, json.at, json.trouble);
  struct clipc__index_entry *list = (struct clipc__index_entry *)(void *)entries->data;
  size_t n = entries->n_bytes / sizeof *list;
  if (n == 0) return clipc__fail(error, CLIPC_E_FORMAT, "%s: weight_map is empty", path);
  qsort(list, n, sizeof *list, index_by_tensor);
  for (size_t i = 1; i < n; i++)
    if (index_by_tensor(&list[i - 1], &list[i]) == 0)
      return clipc__fail(error, CLIPC_E_FORMAT, "%s: tensor %s comes twice", path, list[i].tensor);
  qsort(list, n, sizeof *list, index_by_shard);
  return CLIPC_OK;
}

clipc_status clipc__index_read(struct clipc__bytes *entries, struct clipc__arena *arena, const char *path,
                               uint64_t max_bytes, clipc_error *error) {
  struct clipc__file file;
  clipc_status status = clipc__file_open(&file, path, false, max_bytes, &arena->allocator, error);
  if (status != CLIPC_OK) return status;
  status = clipc__index_parse(entries, arena, path, file.data, file.n_bytes, error);
  clipc__file_close(&file);
  return status;
}

/* ---- tables */

static int index_by_name(const void *a, const void *b) {
  return strcmp(((const struct clipc__tensor *)a)->name, ((const struct clipc__tensor *)b)->name);
}

static const struct clipc__tensor *index_find(const struct clipc__tensor *tensors, size_t n, const char *name) {
  struct clipc__tensor key = {.name = name};
  return n == 0 ? NULL : bsearch(&key, tensors, n, sizeof *tensors, index_by_name);
}

/* Opens the shard of entries[0..n) and copies the listed tensors to out->tensors. */
static clipc_status index_open_shard(struct clipc__tensors *out, const char *folder,
                                     const struct clipc__index_entry *entries, size_t n, const clipc_options *options,
                                     clipc_error *error) {
  struct clipc__tensor *tensors;
  size_t n_tensors;
  const char *path = index_path(&out->arena, folder, entries[0].shard);
  if (path == NULL) return clipc__no_memory(error, entries[0].shard);
  clipc_status status = index_open_file(out, path, options, &tensors, &n_tensors, error);
  if (status != CLIPC_OK) return status;
  for (size_t i = 0; i < n; i++) {
    const struct clipc__tensor *tensor = index_find(tensors, n_tensors, entries[i].tensor);
    if (tensor == NULL)
      return clipc__fail(error, CLIPC_E_MODEL, "%s: the index lists tensor %s here, but it is not there", path,
                         entries[i].tensor);
    out->tensors[out->n_tensors++] = *tensor;
  }
  return CLIPC_OK;
}

/* A shard that is not there is no failure yet: the folder may have been got for one tower alone. */
static clipc_status index_look(bool *is_there, struct clipc__tensors *out, const char *folder,
                               const struct clipc__index_entry *entries, size_t n, clipc_error *error) {
  bool no_memory = false;
  *is_there = clipc__folder_has(folder, entries[0].shard, &out->arena.allocator, &no_memory);
  for (size_t i = 0; i < n && !*is_there; i++) out->absent_towers |= clipc__name_towers(entries[i].tensor);
  if (!*is_there && !no_memory) out->absent_shard = index_path(&out->arena, folder, entries[0].shard);
  if (no_memory || (!*is_there && out->absent_shard == NULL)) return clipc__no_memory(error, entries[0].shard);
  if (out->absent_towers != (CLIPC_TOWER_IMAGE | CLIPC_TOWER_TEXT)) return CLIPC_OK;
  return clipc__fail(error, CLIPC_E_IO, "%s: is not there, and the index lists tensor %s in it", out->absent_shard,
                     entries[0].tensor);
}

static clipc_status index_open_shards(struct clipc__tensors *out, const char *folder,
                                      const struct clipc__index_entry *entries, size_t n, const char *path,
                                      const clipc_options *options, clipc_error *error) {
  size_t n_shards = 1;
  for (size_t i = 1; i < n; i++) n_shards += strcmp(entries[i].shard, entries[i - 1].shard) != 0;
  if (n_shards > INDEX_MAX_SHARDS)
    return clipc__fail(error, CLIPC_E_LIMIT, "%s: %zu shards are above the limit of %u", path, n_shards,
                       INDEX_MAX_SHARDS);
  out->files = clipc__arena_take(&out->arena, n_shards, sizeof *out->files);
  out->tensors = clipc__arena_take(&out->arena, n, sizeof *out->tensors);
  if (out->files == NULL || out->tensors == NULL) return clipc__no_memory(error, path);
  for (size_t first = 0; first < n;) {
    bool is_there;
    size_t end = first + 1;
    while (end < n && strcmp(entries[end].shard, entries[first].shard) == 0) end++;
    clipc_status status = index_look(&is_there, out, folder, entries + first, end - first, error);
    if (status == CLIPC_OK && is_there)
      status = index_open_shard(out, folder, entries + first, end - first, options, error);
    if (status != CLIPC_OK) return status;
    first = end;
  }
  qsort(out->tensors, out->n_tensors, sizeof *out->tensors, index_by_name);
  return CLIPC_OK;
}

static clipc_status index_open_single(struct clipc__tensors *out, const char *path, const clipc_options *options,
                                      clipc_error *error) {
  out->files = clipc__arena_take(&out->arena, 1, sizeof *out->files);
  if (out->files == NULL) return clipc__no_memory(error, path);
  return index_open_file(out, path, options, &out->tensors, &out->n_tensors, error);
}

/* Checkpoints of data-parallel training: every name begins with "module.", which says nothing. */
static void index_strip_module(struct clipc__tensors *tensors) {
  static const char prefix[] = "module.";
  for (size_t i = 0; i < tensors->n_tensors; i++)
    if (strncmp(tensors->tensors[i].name, prefix, sizeof prefix - 1) != 0) return;
  for (size_t i = 0; i < tensors->n_tensors; i++) tensors->tensors[i].name += sizeof prefix - 1;
}

/* ---- the folder */

static const char *const index_hf_files[] = {"model.safetensors", "model.safetensors.index.json", NULL};
static const char *const index_open_clip_files[] = {"open_clip_model.safetensors",
                                                    "open_clip_pytorch_model.safetensors", "model.safetensors",
                                                    "model.safetensors.index.json", NULL};

bool clipc__folder_has(const char *folder, const char *name, const clipc_allocator *allocator, bool *no_memory) {
  char *path = clipc__path_join(allocator, folder, name);
  if (path == NULL) *no_memory = true;
  bool found = path && clipc__is_file(path);
  clipc__free(allocator, path);
  return found;
}

static clipc_status index_none_found(const char *folder, const char *wanted, const clipc_allocator *allocator,
                                     clipc_error *error) {
  static const char *const others[] = {"pytorch_model.bin", "open_clip_pytorch_model.bin",
                                       "pytorch_model.bin.index.json", "model.pt", "model.bin"};
  bool no_memory = false;
  for (size_t i = 0; i < sizeof others / sizeof *others; i++)
    if (clipc__folder_has(folder, others[i], allocator, &no_memory))
      return clipc__fail(error, CLIPC_E_MODEL,
                         "%s: has no %s; its %s must be converted to safetensors first (weights_tools/convert.py does)",
                         folder, wanted, others[i]);
  if (no_memory) return clipc__no_memory(error, folder);
  return clipc__fail(error, CLIPC_E_IO, "%s: has no %s", folder, wanted);
}

static clipc_status index_open_folder(struct clipc__tensors *out, const char *folder, bool open_clip,
                                      const clipc_options *options, clipc_error *error) {
  const clipc_allocator *allocator = &out->arena.allocator;
  const char *const *names = open_clip ? index_open_clip_files : index_hf_files;
  bool no_memory = false;
  const char *wanted = names[0];
  while (*names && !no_memory && !clipc__folder_has(folder, *names, allocator, &no_memory)) names++;
  if (no_memory) return clipc__no_memory(error, folder);
  if (*names == NULL) return index_none_found(folder, wanted, allocator, error);
  out->file_name = *names;
  const char *path = index_path(&out->arena, folder, *names);
  if (path == NULL) return clipc__no_memory(error, folder);
  size_t n_path = strlen(path);
  if (n_path < 5 || strcmp(path + n_path - 5, ".json") != 0) return index_open_single(out, path, options, error);
  struct clipc__bytes entries = {.allocator = *allocator};
  clipc_status status = clipc__index_read(&entries, &out->arena, path, options->limits.max_config_bytes, error);
  if (status == CLIPC_OK)
    status = index_open_shards(out, folder, (const struct clipc__index_entry *)(const void *)entries.data,
                               entries.n_bytes / sizeof(struct clipc__index_entry), path, options, error);
  clipc__bytes_free(&entries);
  return status;
}

clipc_status clipc__tensors_open(struct clipc__tensors *out, const char *folder, bool open_clip,
                                 const clipc_options *options, clipc_error *error) {
  struct clipc__tensors opened = {.arena.allocator = options->allocator};
  clipc_status status = index_open_folder(&opened, folder, open_clip, options, error);
  if (status != CLIPC_OK) {
    clipc__tensors_close(&opened);
    return status;
  }
  index_strip_module(&opened);
  *out = opened;
  return CLIPC_OK;
}

void clipc__tensors_close(struct clipc__tensors *tensors) {
  for (size_t i = 0; i < tensors->n_files; i++) clipc__file_close(&tensors->files[i]);
  clipc__arena_free(&tensors->arena); /* files and tensors lie in it */
  tensors->files = NULL;
  tensors->tensors = NULL;
  tensors->n_files = tensors->n_tensors = 0;
}

const struct clipc__tensor *clipc__tensors_find(const struct clipc__tensors *tensors, const char *name) {
  return index_find(tensors->tensors, tensors->n_tensors, name);
}

clipc_status clipc__tensors_cover(const struct clipc__tensors *tensors, const struct clipc__config *config,
                                  clipc_error *error) {
  bool image = config->vision.present && (tensors->absent_towers & CLIPC_TOWER_IMAGE) != 0;
  bool text = config->text.present && (tensors->absent_towers & CLIPC_TOWER_TEXT) != 0;
  if (!image && !text) return CLIPC_OK;
  return clipc__fail(error, CLIPC_E_MODEL,
                     "%s: is not there, and the index lists weights of the %s tower in it: ask for the %s tower alone, "
                     "or get the rest",
                     tensors->absent_shard, image ? "image" : "text", image ? "text" : "image");
}
