/* Weights in several files: which of them hold tensors of the towers that are wanted.
 * In: the index, from the hub or a folder. Out: a list of files without the others; or whether they are all there.
 * A folder of one tower keeps the whole index, whose hash the hub knows; who opens it passes over the others' shards.
 */
#include "async/pull.h"
#include "weights/weights.h"

#include <string.h>

static const char pull_index_name[] = CLIPC__PULL_INDEX;

static bool pull_wants_tensor(const char *tensor, int towers) {
  int needed_by = clipc__name_towers(tensor);
  if (towers == 0) towers = CLIPC_TOWER_IMAGE | CLIPC_TOWER_TEXT;
  return (needed_by & towers) != 0 || (needed_by == 0 && towers == (CLIPC_TOWER_IMAGE | CLIPC_TOWER_TEXT));
}

/* The shards that are wanted, one after the other: the next behind *at, or NULL. */
static const char *pull_next_shard(const struct clipc__bytes *entries, size_t *at, int towers) {
  const struct clipc__index_entry *list = (const void *)entries->data;
  const size_t n = entries->n_bytes / sizeof *list;
  const char *last = *at > 0 ? list[*at - 1].shard : "";
  for (; *at < n; ++*at)
    if (strcmp(list[*at].shard, last) != 0 && pull_wants_tensor(list[*at].tensor, towers)) return list[(*at)++].shard;
  return NULL;
}

clipc_status clipc__pull_shards(struct clipc__pull_list *list, const char *repository, const struct clipc__bytes *body,
                                int towers, clipc_error *error) {
  struct clipc__bytes entries = {.allocator = list->allocator};
  struct clipc__arena arena = {.allocator = list->allocator};
  size_t n_before = list->n, n = 0, at = 0;
  clipc_status status = clipc__index_parse(&entries, &arena, pull_index_name, body->data, body->n_bytes, error);
  for (size_t i = 0; i < list->n && status == CLIPC_OK; i++) { /* what is no shard stays */
    struct clipc__pull_entry entry = list->entries[i];
    if (clipc__pull_is_shard(entry.name)) continue;
    list->entries[i] = list->entries[n];
    list->entries[n++] = entry;
  }
  for (const char *shard; status == CLIPC_OK && (shard = pull_next_shard(&entries, &at, towers)) != NULL;) {
    size_t i = n;
    while (i < n_before && strcmp(list->entries[i].name, shard) != 0) i++;
    if (i < n_before) {
      struct clipc__pull_entry entry = list->entries[i];
      list->entries[i] = list->entries[n];
      list->entries[n++] = entry;
    } else {
      status = clipc__fail(error, CLIPC_E_MODEL, "%.100s: its %s names %.80s, which it does not have", repository,
                           pull_index_name, shard);
    }
  }
  if (status == CLIPC_OK) list->n = n;
  clipc__bytes_free(&entries);
  clipc__arena_free(&arena);
  return status;
}

bool clipc__pull_shards_there(const char *folder, int towers) {
  struct clipc__bytes entries = {.n_bytes = 0};
  struct clipc__arena arena = {.blocks = NULL};
  const clipc_allocator allocator = {NULL, NULL, NULL};
  char *path = clipc__path_join(&allocator, folder, pull_index_name);
  size_t at = 0;
  bool there = path && clipc__index_read(&entries, &arena, path, CLIPC__PULL_INDEX_BYTES, NULL) == CLIPC_OK;
  clipc__free(&allocator, path);
  for (const char *shard; there && (shard = pull_next_shard(&entries, &at, towers)) != NULL;) {
    path = clipc__path_join(&allocator, folder, shard);
    there = path && clipc__is_file(path);
    clipc__free(&allocator, path);
  }
  clipc__bytes_free(&entries);
  clipc__arena_free(&arena);
  return there;
}
