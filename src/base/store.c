/* Small files by name, from a folder or out of a packed file.
 * In: a path that clipc__store_path made. Out: bytes of the caller's, whichever it is, and the same sentences. */
#include "base/store.h"

#include <string.h>

char *clipc__store_path(const struct clipc__store *store, const char *name, const clipc_allocator *allocator) {
  return clipc__path_join(allocator, store->path, name);
}

static const struct clipc__member *store_member(const struct clipc__store *store, const char *path) {
  const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
  for (size_t i = 0; i < store->n_members; i++)
    if (strcmp(store->members[i].name, name) == 0) return &store->members[i];
  return NULL;
}

bool clipc__store_has(const struct clipc__store *store, const char *path) {
  return store->packed ? store_member(store, path) != NULL : clipc__is_file(path);
}

clipc_status clipc__store_open(struct clipc__file *file, const struct clipc__store *store, const char *path,
                               uint64_t max_bytes, const clipc_allocator *allocator, clipc_error *error) {
  if (!store->packed) return clipc__file_open(file, path, false, max_bytes, allocator, error);
  const struct clipc__member *member = store_member(store, path);
  *file = (struct clipc__file){.allocator = *allocator};
  if (member == NULL || member->data == NULL) return clipc__fail(error, CLIPC_E_IO, "%s: is not in the file", path);
  if (member->n_bytes > max_bytes)
    return clipc__fail(error, CLIPC_E_LIMIT, "%s: %zu bytes are more than the limit of %llu", path, member->n_bytes,
                       (unsigned long long)max_bytes);
  uint8_t *data = clipc__alloc(allocator, member->n_bytes + 1, 1);
  if (data == NULL) return clipc__fail(error, CLIPC_E_NO_MEMORY, "%s: no memory for %zu bytes", path, member->n_bytes);
  memcpy(data, member->data, member->n_bytes);
  data[member->n_bytes] = 0;
  file->data = data;
  file->n_bytes = member->n_bytes;
  return CLIPC_OK;
}
