/* Where a model's small files come from: a folder, or a packed file that holds them under their names. */
#ifndef CLIPC_STORE_H
#define CLIPC_STORE_H

#include "base/base.h"

struct clipc__member {
  const char *name;
  const uint8_t *data; /* NULL: known to have been there, and no more */
  size_t n_bytes;
};

struct clipc__store {
  const char *path; /* of the folder, or of the packed file */
  bool packed;
  const struct clipc__member *members; /* [n_members] of a packed file */
  size_t n_members;
};

/* path/name in memory of the allocator, for a folder and for sentences; NULL when there is none. */
CLIPC_PRIVATE char *clipc__store_path(const struct clipc__store *store, const char *name,
                                      const clipc_allocator *allocator);
/* Whether there is a file by that path, which clipc__store_path made. */
CLIPC_PRIVATE bool clipc__store_has(const struct clipc__store *store, const char *path);
/* Its bytes, read, with a NUL behind them; as clipc__file_open. */
CLIPC_PRIVATE clipc_status clipc__store_open(struct clipc__file *file, const struct clipc__store *store,
                                             const char *path, uint64_t max_bytes, const clipc_allocator *allocator,
                                             clipc_error *error);

#endif
