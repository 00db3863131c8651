/* The insides of getting weights, for pull*.c.
 *
 *   begin --> list the repository --> index of shards --> lock --> files, some at once --> the folder takes its name
 *                 |  no safetensors: the conversion's revision, then an equal repository
 * One task does it all; what a fetch brings is written by the fetch's own task. */
#ifndef CLIPC_PULL_H
#define CLIPC_PULL_H

#include "async/fetch.h"

enum { CLIPC__PULL_NAME = 224, CLIPC__PULL_PATH = 1024, CLIPC__PULL_HASH = 65, CLIPC__PULL_INDEX_BYTES = 16 << 20 };
#define CLIPC__PULL_INDEX "model.safetensors.index.json"
#define CLIPC__PULL_CONFIG "config.json"

/* ---- names (pull_names.c) */
struct clipc__pull_name {
  char repository[CLIPC__PULL_NAME];
  bool open_clip; /* the caller named it as open_clip does */
};
CLIPC_PRIVATE clipc_status clipc__pull_resolve(struct clipc__pull_name *out, const char *name, clipc_error *error);
/* Another repository with the same weights in safetensors, or NULL. */
CLIPC_PRIVATE const char *clipc__pull_equal(const char *repository);
/* "; near it: A, B, C", or "". */
CLIPC_PRIVATE void clipc__pull_nearest(char *out, size_t n_bytes, const char *name);

/* ---- what a repository has (pull_list.c) */
struct clipc__pull_entry {
  char name[96];
  char hash[CLIPC__PULL_HASH]; /* hexadecimal: SHA-256, or git's SHA-1 of a blob; "" = not said */
  uint64_t n_bytes;
  bool has_size;
};
struct clipc__pull_list {
  clipc_allocator allocator;
  char commit[CLIPC__PULL_HASH];
  struct clipc__pull_entry *entries;
  size_t n, capacity;
};
/* Of the hub's answer only files that a model may need are kept. */
CLIPC_PRIVATE clipc_status clipc__pull_list_read(struct clipc__pull_list *list, const char *repository,
                                                 const struct clipc__bytes *json, clipc_error *error);
/* Those of a folder on the disk. */
CLIPC_PRIVATE clipc_status clipc__pull_list_folder(struct clipc__pull_list *list, const char *folder,
                                                   clipc_error *error);
/* Keeps those that are wanted; false where there are no weights in safetensors among them. */
CLIPC_PRIVATE bool clipc__pull_list_choose(struct clipc__pull_list *list, bool open_clip, int towers);
/* _UNSUPPORTED where a config.json says that it is of no CLIP; all else is left to who opens the folder. */
CLIPC_PRIVATE clipc_status clipc__pull_check_config(const char *path, const char *repository,
                                                    const clipc_allocator *allocator, clipc_error *error);
CLIPC_PRIVATE void clipc__pull_list_free(struct clipc__pull_list *list);
/* The number of the open request that the hub's converter made; 0 = none. */
CLIPC_PRIVATE uint64_t clipc__pull_conversion(const struct clipc__bytes *json, const clipc_allocator *allocator);
CLIPC_PRIVATE bool clipc__pull_is_hash(const char *text);
CLIPC_PRIVATE bool clipc__pull_is_shard(const char *name);
CLIPC_PRIVATE bool clipc__pull_list_has(const struct clipc__pull_list *list, const char *name);

/* ---- weights in several files (pull_shards.c) */
/* Takes out of a chosen list the shards that these towers do not need (0: none), by the text of the index. */
CLIPC_PRIVATE clipc_status clipc__pull_shards(struct clipc__pull_list *list, const char *repository,
                                              const struct clipc__bytes *index, int towers, clipc_error *error);
CLIPC_PRIVATE bool clipc__pull_shards_there(const char *folder, int towers);

/* ---- places (pull_place.c). Paths are CLIPC__PULL_PATH long; false: too long. */
CLIPC_PRIVATE bool clipc__pull_path(char *out, const char *format, ...) __attribute__((format(printf, 2, 3)));
CLIPC_PRIVATE clipc_status clipc__pull_make_folders(const char *path, clipc_error *error); /* parents too */
CLIPC_PRIVATE void clipc__pull_remove(const char *folder); /* with the files in it, and their folders to one depth */
CLIPC_PRIVATE void clipc__pull_flatten(char *out, size_t n_bytes, const char *repository); /* models--a--b */
/* The snapshot of a model in the hub's cache; false where none is whole. towers: those whose weights must be there;
 * 0 = whichever. */
CLIPC_PRIVATE bool clipc__pull_cached(char *out, const char *cache, const char *repository, const char *revision,
                                      int towers);
/* Whether all files of the list are in the cache's snapshot of its commit, as the list says they are. */
CLIPC_PRIVATE bool clipc__pull_is_there(char *snapshot, const char *repository_folder,
                                        const struct clipc__pull_list *list);
/* Links the files of a list into snapshots/<commit>, and makes refs/<revision> say so. */
CLIPC_PRIVATE clipc_status clipc__pull_publish(char *snapshot, const char *repository_folder, const char *revision,
                                               const struct clipc__pull_list *list, clipc_error *error);
CLIPC_PRIVATE clipc_status clipc__pull_write_ref(const char *repository_folder, const char *revision,
                                                 const struct clipc__pull_list *list, clipc_error *error);
/* Marks a cache as such for backups, as the tag's specification has it; a failure does no harm. */
CLIPC_PRIVATE void clipc__pull_tag_cache(const char *cache, const clipc_allocator *allocator);
/* Makes a folder of whole files, in one step. */
struct clipc__pull_file;
CLIPC_PRIVATE clipc_status clipc__pull_assemble(const char *work, const struct clipc__pull_file *files, size_t n,
                                                const char *folder, clipc_error *error);
/* Takes a lock without waiting: -1 in *fd while another has it. */
CLIPC_PRIVATE clipc_status clipc__pull_lock(int *fd, const char *path, clipc_error *error);

/* ---- one file (pull_file.c) */
enum clipc__pull_state {
  CLIPC__PULL_FILE_NEW,
  CLIPC__PULL_FILE_COPYING,  /* out of the cache */
  CLIPC__PULL_FILE_MOVING,   /* a fetch is under way */
  CLIPC__PULL_FILE_RESTING,  /* until wake_ns */
  CLIPC__PULL_FILE_CHECKING, /* of all its bytes */
  CLIPC__PULL_FILE_DONE
};
struct clipc__pull_check;
struct clipc__pull_file {
  struct clipc_pull *pull;
  struct clipc__pull_entry *entry;
  enum clipc__pull_state state;
  char *part, *final; /* where it grows, and its last name; NULL while that is not known */
  char *source;       /* the blob of the cache that is copied, or NULL */
  int fd, source_fd;
  atomic_ullong n_done;
  struct clipc__fetch *fetch;
  int n_failures;
  int64_t wake_ns;
  uint64_t most_done;
  bool restarted; /* nothing in it is from before */
  struct clipc__pull_check *check;
};
/* Goes on: CLIPC_OK = done, WAITING, YIELDING, or a failure. */
CLIPC_PRIVATE int clipc__pull_file_turn(clipc_task *task, struct clipc__pull_file *file, clipc_error *error);
CLIPC_PRIVATE void clipc__pull_file_free(struct clipc__pull_file *file);

/* ---- pull.c, pull_again.c */
struct clipc_pull {
  atomic_uint references; /* the caller's, the task's, and one of each fetch that writes */
  atomic_uint holders;    /* of them those that may write: the lock is theirs */
  atomic_bool over, cancelled;
  clipc_allocator allocator;
  clipc_runtime *runtime;
  clipc_task *task;
  char *endpoint, *authorization, *cache, *folder; /* NULL where there is none; without a '/' at the end */
  char *revision, *work, *repository_folder;
  char path[CLIPC__PULL_PATH], scratch[CLIPC__PULL_PATH]; /* scratch: the task's, for one path or URL at a time */
  struct clipc__pull_name name;
  int towers, n_parallel, n_retries, stall_s;
  bool offline, in_place, is_there, asked_conversion, sha_instructions, config_seen;
  int stage;
  struct clipc__pull_list list;
  struct clipc__pull_file *files;
  size_t n_files;
  int lock_fd;
  /* of the list */
  struct clipc__fetch *fetch;
  int n_failures;
  int64_t wake_ns;
  clipc_error error; /* written before over is set */
  atomic_ullong n_bytes, n_bytes_done;
  atomic_size_t n_all, n_done;
};
/* After a fetch has failed: the moment when it is tried again, or the failure. */
CLIPC_PRIVATE clipc_status clipc__pull_again(struct clipc_pull *pull, const struct clipc__fetch *fetch,
                                             const char *what, bool progressed, int *n_failures, int64_t *wake_ns,
                                             clipc_error *error);
/* Says where a file of a known hash is to lie in the end; false: no memory. */
CLIPC_PRIVATE bool clipc__pull_name_final(struct clipc__pull_file *file);
CLIPC_PRIVATE void clipc__pull_hold(struct clipc_pull *pull);
CLIPC_PRIVATE void clipc__pull_let_go(struct clipc_pull *pull);

#endif
