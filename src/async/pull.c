/* Getting weights: the API, and the task that lists a repository, takes the lock, goes on with the files, and gives the
 * model its place. In: a name and options. Out: a folder that is whole, or a sentence.
 * Model files are taken by the commit of the list, so that they fit together. */
#include "async/pull.h"
#include "base/sha256.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PULL_MS INT64_C(1000000)
enum { PULL_LOCK_MS = 50, PULL_LIST_BYTES = 16 << 20 };
enum pull_stage { PULL_LIST, PULL_REQUESTS, PULL_INDEX, PULL_LOCK, PULL_FILES, PULL_FINISH };

/* ---- references */

static void pull_release_reference(struct clipc_pull *pull) {
  if (atomic_fetch_sub(&pull->references, 1) != 1) return;
  const clipc_allocator allocator = pull->allocator;
  clipc_runtime *runtime = pull->runtime;
  for (size_t i = 0; i < pull->n_files; i++) clipc__pull_file_free(&pull->files[i]);
  clipc__free(&allocator, pull->files);
  clipc__pull_list_free(&pull->list);
  if (pull->authorization) explicit_bzero(pull->authorization, strlen(pull->authorization));
  char *const strings[] = {pull->endpoint, pull->authorization,    pull->cache, pull->folder, pull->revision,
                           pull->work,     pull->repository_folder};
  for (size_t i = 0; i < sizeof strings / sizeof *strings; i++) clipc__free(&allocator, strings[i]);
  clipc__free(&allocator, pull);
  clipc__runtime_release(runtime);
}

void clipc__pull_hold(struct clipc_pull *pull) {
  atomic_fetch_add(&pull->references, 1);
  atomic_fetch_add(&pull->holders, 1);
}

void clipc__pull_let_go(struct clipc_pull *pull) {
  if (atomic_fetch_sub(&pull->holders, 1) == 1 && pull->lock_fd >= 0) close(pull->lock_fd);
  pull_release_reference(pull);
}

static char *pull_copy(const clipc_allocator *allocator, const char *text) {
  size_t n = strlen(text) + 1;
  char *copy = clipc__alloc(allocator, n, 1);
  return copy ? memcpy(copy, text, n) : NULL;
}

/* ---- the list */

/* A revision as part of a path: refs/pr/1 is refs%2Fpr%2F1. */
static void pull_escape(char *out, size_t n_bytes, const char *text) {
  size_t n = 0;
  for (; *text && n + 4 < n_bytes; text++) {
    bool plain = (*text >= 'a' && *text <= 'z') || (*text >= 'A' && *text <= 'Z') || (*text >= '0' && *text <= '9') ||
                 strchr("-._~", *text);
    n += (size_t)snprintf(out + n, n_bytes - n, plain ? "%c" : "%%%02X", (unsigned char)*text);
  }
  out[n] = '\0';
}

/* Gets the URL in scratch, which is what, into memory: CLIPC_OK with the fetch over and well, WAITING, or a failure. */
static int pull_get(clipc_task *task, struct clipc_pull *pull, const char *what, clipc_error *error) {
  const char *url = pull->scratch;
  if (pull->fetch == NULL) {
    if (clipc_runtime_now_ns(pull->runtime) < pull->wake_ns) {
      int slept = clipc_task_sleep_until(task, pull->wake_ns);
      return slept == CLIPC_OK ? CLIPC_YIELDING : slept;
    }
    struct clipc__fetch_wants wants = {
        .secret = pull->authorization, .max_bytes = PULL_LIST_BYTES, .stall_s = pull->stall_s};
    clipc_status status = clipc__fetch_start_with(&pull->fetch, pull->runtime, url, strlen(url), &wants, 0, error);
    if (status != CLIPC_OK) return status;
  }
  int status = clipc__fetch_await(task, pull->fetch);
  if (status == CLIPC_WAITING || !clipc__fetch_done(pull->fetch)) return status;
  if (clipc__fetch_error(pull->fetch) == NULL) return CLIPC_OK;
  status = clipc__pull_again(pull, pull->fetch, what, false, &pull->n_failures, &pull->wake_ns, error);
  clipc__fetch_close(pull->fetch);
  pull->fetch = NULL;
  return status == CLIPC_OK ? CLIPC_YIELDING : status;
}

static int pull_relist(struct clipc_pull *pull) {
  clipc__fetch_close(pull->fetch);
  pull->fetch = NULL;
  pull->n_failures = 0;
  pull->wake_ns = 0;
  pull->stage = PULL_LIST;
  return CLIPC_YIELDING;
}

/* No safetensors, and no conversion: another repository, or the end. */
static int pull_try_equal(struct clipc_pull *pull, clipc_error *error) {
  const char *equal = clipc__pull_equal(pull->name.repository);
  char *main_branch = equal && strcmp(pull->revision, "main") == 0 ? pull->revision : NULL;
  if (main_branch == NULL)
    return clipc__fail(error, CLIPC_E_MODEL,
                       "%.120s: has no weights in safetensors; get its pytorch_model.bin and "
                       "convert it: weights_tools/convert.py FILE -o FOLDER",
                       pull->name.repository);
  snprintf(pull->name.repository, sizeof pull->name.repository, "%s", equal);
  return pull_relist(pull);
}

/* Its files have been chosen. */
static int pull_chosen(struct clipc_pull *pull) {
  pull->stage = clipc__pull_list_has(&pull->list, CLIPC__PULL_INDEX) ? PULL_INDEX : PULL_LOCK;
  return CLIPC_YIELDING;
}

static int pull_list_offline(struct clipc_pull *pull, clipc_error *error) {
  const char *repository = pull->name.repository, *equal = clipc__pull_equal(repository);
  bool found =
      pull->cache && (clipc__pull_cached(pull->path, pull->cache, repository, pull->revision, pull->towers) ||
                      (equal && clipc__pull_cached(pull->path, pull->cache, equal, pull->revision, pull->towers)));
  if (!found)
    return clipc__fail(error, CLIPC_E_IO, "%.120s: is not in the cache, and offline nothing is fetched", repository);
  pull->is_there = pull->folder == NULL;
  pull->stage = PULL_FINISH;
  if (pull->is_there) return CLIPC_YIELDING;
  clipc_status status = clipc__pull_list_folder(&pull->list, pull->path, error);
  clipc__pull_list_choose(&pull->list, pull->name.open_clip, pull->towers);
  return status == CLIPC_OK ? pull_chosen(pull) : (int)status;
}

static int pull_list_stage(clipc_task *task, struct clipc_pull *pull, clipc_error *error) {
  char revision[256];
  if (pull->offline) return pull_list_offline(pull, error);
  pull_escape(revision, sizeof revision, pull->revision);
  if (!clipc__pull_path(pull->scratch, "%s/api/models/%s/revision/%s?blobs=true", pull->endpoint, pull->name.repository,
                        revision))
    return clipc__fail(error, CLIPC_E_LIMIT, "%.80s: the address is too long", pull->endpoint);
  int status = pull_get(task, pull, pull->name.repository, error);
  if (status != CLIPC_OK) return status;
  status = clipc__pull_list_read(&pull->list, pull->name.repository, clipc__fetch_body(pull->fetch), error);
  pull_relist(pull); /* the fetch is done with */
  if (status != CLIPC_OK) return status;
  if (clipc__pull_list_choose(&pull->list, pull->name.open_clip, pull->towers)) return pull_chosen(pull);
  if (pull->asked_conversion || strcmp(pull->revision, "main") != 0) return pull_try_equal(pull, error);
  pull->stage = PULL_REQUESTS;
  return CLIPC_YIELDING;
}

/* Which shards are needed. What comes here is not kept: the index is also one of the files, with its hash. */
static int pull_index_stage(clipc_task *task, struct clipc_pull *pull, clipc_error *error) {
  struct clipc__pull_list *list = &pull->list;
  struct clipc__file file;
  int status;
  if (pull->offline) {
    clipc__pull_path(pull->scratch, "%s/%s", pull->path, CLIPC__PULL_INDEX);
    status = clipc__file_open(&file, pull->scratch, false, CLIPC__PULL_INDEX_BYTES, &pull->allocator, error);
    if (status != CLIPC_OK) return status;
    const struct clipc__bytes text = {.data = (uint8_t *)(uintptr_t)file.data, .n_bytes = file.n_bytes};
    status = clipc__pull_shards(list, pull->name.repository, &text, pull->towers, error);
    clipc__file_close(&file);
  } else {
    if (!clipc__pull_path(pull->scratch, "%s/%s/resolve/%s/%s", pull->endpoint, pull->name.repository, list->commit,
                          CLIPC__PULL_INDEX))
      return clipc__fail(error, CLIPC_E_LIMIT, "%.80s: the address is too long", pull->endpoint);
    status = pull_get(task, pull, CLIPC__PULL_INDEX, error);
    if (status != CLIPC_OK) return status;
    status = clipc__pull_shards(list, pull->name.repository, clipc__fetch_body(pull->fetch), pull->towers, error);
    pull_relist(pull); /* the fetch is done with */
  }
  pull->stage = PULL_LOCK;
  return status == CLIPC_OK ? CLIPC_YIELDING : status;
}

/* The hub's converter leaves its safetensors as a request to the repository. */
static int pull_requests_stage(clipc_task *task, struct clipc_pull *pull, clipc_error *error) {
  char revision[64];
  clipc_error why = {CLIPC_OK, ""};
  bool fits = clipc__pull_path(pull->scratch,
                               "%s/api/models/%s/discussions?p=0&type=pull_request&status=open"
                               "&author=SFconvertbot",
                               pull->endpoint, pull->name.repository);
  int status = !fits ? CLIPC_E_LIMIT : pull_get(task, pull, pull->name.repository, &why);
  if (status == CLIPC_WAITING || status == CLIPC_YIELDING) return status;
  if (status == CLIPC_E_NO_MEMORY || status == CLIPC_E_NETWORK || status == CLIPC_E_CANCELLED) {
    *error = why; /* nothing is known then; another refusal says that there are no requests */
    return status;
  }
  uint64_t number = status == CLIPC_OK ? clipc__pull_conversion(clipc__fetch_body(pull->fetch), &pull->allocator) : 0;
  pull->asked_conversion = true;
  if (number == 0) return pull_try_equal(pull, error);
  snprintf(revision, sizeof revision, "refs/pr/%llu", (unsigned long long)number);
  char *copy = pull_copy(&pull->allocator, revision);
  if (copy == NULL) return clipc__no_memory(error, pull->name.repository);
  clipc__free(&pull->allocator, pull->revision);
  pull->revision = copy;
  return pull_relist(pull);
}

/* ---- the lock and the places of the files */

/* Keeps the path in scratch; false: no memory. */
static bool pull_keep(char **out, const struct clipc_pull *pull, bool fits) {
  *out = fits ? pull_copy(&pull->allocator, pull->scratch) : NULL;
  return *out != NULL;
}

static clipc_status pull_make_paths(struct clipc_pull *pull, clipc_error *error) {
  enum { MOST = 900 }; /* what is put behind them is to fit too */
  char flat[CLIPC__PULL_NAME + 16], *path = pull->scratch;
  clipc__pull_flatten(flat, sizeof flat, pull->name.repository);
  bool fits = true, good = true;
  if (pull->cache) {
    fits = clipc__pull_path(path, "%s/%s", pull->cache, flat) && strlen(path) < MOST;
    good = pull_keep(&pull->repository_folder, pull, fits);
  }
  if (good && pull->folder) { /* beside it, hidden */
    const char *slash = strrchr(pull->folder, '/');
    int n = slash ? (int)(slash + 1 - pull->folder) : 0;
    fits = clipc__pull_path(path, "%.*s.%s.clipc-pull", n, pull->folder, pull->folder + n) && strlen(path) < MOST;
  } else if (good) {
    fits = clipc__pull_path(path, "%s/.locks/%s", pull->cache, flat) && strlen(path) < MOST;
  }
  if (good && pull_keep(&pull->work, pull, fits)) return CLIPC_OK;
  return clipc__fail(error, fits ? CLIPC_E_NO_MEMORY : CLIPC_E_INVALID, "%.80s: %s",
                     pull->folder ? pull->folder : pull->cache, fits ? "no memory" : "is too long a path");
}

bool clipc__pull_name_final(struct clipc__pull_file *file) {
  struct clipc_pull *pull = file->pull;
  const struct clipc__pull_entry *entry = file->entry;
  bool fits = pull->folder ? clipc__pull_path(pull->scratch, "%s/%s.%s.whole", pull->work, entry->name, entry->hash)
                           : clipc__pull_path(pull->scratch, "%s/blobs/%s", pull->repository_folder, entry->hash);
  return pull_keep(&file->final, pull, fits);
}

/* What may be copied instead of fetched: offline the file of the snapshot, whose hash is the name of the blob that it
 * links to (which may itself be a link, into a store of several models); a cache without links says none. */
static bool pull_find_source(struct clipc_pull *pull, struct clipc__pull_file *file) {
  struct clipc__pull_entry *entry = file->entry;
  if (pull->offline) {
    char link[CLIPC__PULL_PATH];
    if (!clipc__pull_path(pull->scratch, "%s/%s", pull->path, entry->name)) return false;
    ssize_t n = readlink(pull->scratch, link, sizeof link - 1);
    link[n > 0 ? n : 0] = '\0';
    const char *slash = strrchr(link, '/'), *blob = slash ? slash + 1 : link;
    if (clipc__pull_is_hash(blob)) memcpy(entry->hash, blob, strlen(blob) + 1);
    return pull_keep(&file->source, pull, true);
  }
  bool found = pull->repository_folder && entry->hash[0] &&
               clipc__pull_path(pull->scratch, "%s/blobs/%s", pull->repository_folder, entry->hash) &&
               clipc__is_file(pull->scratch);
  return !found || pull_keep(&file->source, pull, true);
}

static bool pull_place_file(struct clipc_pull *pull, struct clipc__pull_file *file) {
  const struct clipc__pull_entry *entry = file->entry;
  if (pull->in_place)
    return pull_keep(&file->part, pull, clipc__pull_path(pull->scratch, "%s/%s", pull->folder, entry->name));
  if (pull->folder && !pull_find_source(pull, file)) return false;
  /* Parts of other contents are others. By the end of their names Python's tools remove those that were given up. */
  const char *mark = entry->hash[0] ? entry->hash : pull->list.commit;
  bool fits = clipc__pull_path(pull->scratch, "%s%s/%s-%s.clipc.incomplete",
                               pull->folder ? pull->work : pull->repository_folder, pull->folder ? "" : "/blobs", mark,
                               entry->name);
  return pull_keep(&file->part, pull, fits) && (entry->hash[0] == '\0' || clipc__pull_name_final(file));
}

static clipc_status pull_place_files(struct clipc_pull *pull, clipc_error *error) {
  if (pull->folder == NULL) {
    clipc__pull_path(pull->scratch, "%s/blobs", pull->repository_folder);
    clipc_status status = clipc__pull_make_folders(pull->scratch, error);
    if (status != CLIPC_OK) return status;
  }
  pull->files = clipc__alloc_zeroed(&pull->allocator, pull->list.n, sizeof *pull->files);
  if (pull->files == NULL) return clipc__no_memory(error, "files");
  uint64_t n_bytes = 0;
  for (size_t i = 0; i < pull->list.n; i++) {
    struct clipc__pull_file *file = &pull->files[i];
    *file = (struct clipc__pull_file){.pull = pull, .entry = &pull->list.entries[i], .fd = -1, .source_fd = -1};
    pull->n_files = i + 1;
    n_bytes += file->entry->n_bytes;
    if (!pull_place_file(pull, file)) return clipc__no_memory(error, file->entry->name);
  }
  atomic_store(&pull->n_all, pull->n_files);
  atomic_store(&pull->n_bytes, n_bytes);
  return CLIPC_OK;
}

/* All of it is in the cache, which need not even be writable then. */
static bool pull_has_all(struct clipc_pull *pull) {
  pull->is_there = clipc__pull_is_there(pull->path, pull->repository_folder, &pull->list);
  if (!pull->is_there) return false;
  uint64_t n_bytes = 0;
  for (size_t i = 0; i < pull->list.n; i++) n_bytes += pull->list.entries[i].n_bytes;
  atomic_store(&pull->n_all, pull->list.n);
  atomic_store(&pull->n_done, pull->list.n);
  atomic_store(&pull->n_bytes, n_bytes);
  atomic_store(&pull->n_bytes_done, n_bytes);
  pull->stage = PULL_FINISH;
  return true;
}

static int pull_lock_stage(clipc_task *task, struct clipc_pull *pull, clipc_error *error) {
  clipc_status status = pull->work ? CLIPC_OK : pull_make_paths(pull, error);
  if (status == CLIPC_OK && pull->folder == NULL && pull_has_all(pull)) return CLIPC_YIELDING;
  if (status == CLIPC_OK && pull->folder && clipc__is_file(pull->folder))
    status = clipc__fail(error, CLIPC_E_IO, "%s: is a file, not a folder", pull->folder);
  if (status == CLIPC_OK) status = clipc__pull_make_folders(pull->work, error);
  if (status != CLIPC_OK) return status;
  clipc__pull_path(pull->scratch, "%s/clipc-pull.lock", pull->work);
  if ((status = clipc__pull_lock(&pull->lock_fd, pull->scratch, error)) != CLIPC_OK) return status;
  if (pull->lock_fd < 0) {
    int slept = clipc_task_sleep_until(task, clipc_runtime_now_ns(pull->runtime) + PULL_LOCK_MS * PULL_MS);
    return slept == CLIPC_OK ? CLIPC_YIELDING : slept;
  }
  pull->in_place = pull->folder && clipc__is_folder(pull->folder) && !clipc__is_empty_folder(pull->folder);
  pull->stage = PULL_FILES;
  status = pull_place_files(pull, error);
  return status == CLIPC_OK ? CLIPC_YIELDING : (int)status;
}

/* ---- files */

/* Files that may be fetched now: Hugging Face's configuration alone, until it has said that this is a CLIP. */
static size_t pull_n_open(const struct clipc_pull *pull) {
  bool decides = strcmp(pull->files[0].entry->name, CLIPC__PULL_CONFIG) == 0 &&
                 !clipc__pull_list_has(&pull->list, "open_clip_config.json");
  return decides && !pull->in_place && !pull->config_seen ? 1 : pull->n_files;
}

static int pull_files_stage(clipc_task *task, struct clipc_pull *pull, clipc_error *error) {
  int n_active = 0;
  size_t n_done = 0, n_open = pull_n_open(pull);
  bool more = false;
  int64_t wake_ns = INT64_MAX;
  for (size_t i = 0; i < n_open; i++) {
    struct clipc__pull_file *file = &pull->files[i];
    if (file->state != CLIPC__PULL_FILE_DONE && (file->state != CLIPC__PULL_FILE_NEW || n_active < pull->n_parallel)) {
      n_active++;
      int status = clipc__pull_file_turn(task, file, error);
      if (status != CLIPC_OK && status != CLIPC_WAITING && status != CLIPC_YIELDING) return status;
      more |= status == CLIPC_YIELDING;
      if (file->state == CLIPC__PULL_FILE_RESTING && file->wake_ns < wake_ns) wake_ns = file->wake_ns;
    }
    n_done += file->state == CLIPC__PULL_FILE_DONE;
  }
  if (n_open < pull->n_files && n_done == n_open) {
    int status = clipc__pull_check_config(pull->files[0].final, pull->name.repository, &pull->allocator, error);
    pull->config_seen = true;
    return status == CLIPC_OK ? CLIPC_YIELDING : status;
  }
  atomic_store(&pull->n_done, n_done);
  if (n_done == pull->n_files) pull->stage = PULL_FINISH;
  if (n_done == pull->n_files || more) return CLIPC_YIELDING;
  if (wake_ns == INT64_MAX) return CLIPC_WAITING;
  int slept = clipc_task_sleep_until(task, wake_ns);
  return slept == CLIPC_OK ? CLIPC_YIELDING : slept;
}

static clipc_status pull_finish_stage(struct clipc_pull *pull, clipc_error *error) {
  if (pull->is_there) {
    if (!pull->offline) clipc__pull_write_ref(pull->repository_folder, pull->revision, &pull->list, NULL);
    return CLIPC_OK;
  }
  if (pull->folder == NULL) {
    clipc__pull_tag_cache(pull->cache, &pull->allocator);
    return clipc__pull_publish(pull->path, pull->repository_folder, pull->revision, &pull->list, error);
  }
  clipc_status status =
      pull->in_place ? CLIPC_OK : clipc__pull_assemble(pull->work, pull->files, pull->n_files, pull->folder, error);
  if (status != CLIPC_OK) return status;
  snprintf(pull->path, sizeof pull->path, "%s", pull->folder);
  clipc__pull_remove(pull->work);
  return CLIPC_OK;
}

/* ---- the task */

struct pull_frame {
  struct clipc_pull *pull; /* NULL when it is over */
};

static void pull_end(struct pull_frame *frame, int status, const clipc_error *error) {
  struct clipc_pull *pull = frame->pull;
  frame->pull = NULL;
  atomic_store(&pull->cancelled, true); /* what is still fetched stops */
  clipc__fetch_close(pull->fetch);
  pull->fetch = NULL;
  for (size_t i = 0; i < pull->n_files; i++) {
    struct clipc__fetch *fetch = pull->files[i].fetch;
    pull->files[i].fetch = NULL;
    clipc__fetch_close(fetch);
  }
  if (status != CLIPC_OK) {
    pull->error = *error;
    pull->error.status = (clipc_status)status;
  }
  atomic_fetch_add(&pull->references, 1);
  clipc__pull_let_go(pull);
  atomic_store(&pull->over, true);
  pull_release_reference(pull);
}

static int pull_run(clipc_task *task, void *frame) {
  struct clipc_pull *pull = ((struct pull_frame *)frame)->pull;
  clipc_error error = {CLIPC_OK, ""};
  int status = CLIPC_OK;
  if (clipc_task_cancelled(task) || atomic_load(&pull->cancelled)) {
    status = clipc__fail(&error, CLIPC_E_CANCELLED, "%s: cancelled", pull->name.repository);
  } else {
    switch ((enum pull_stage)pull->stage) {
    case PULL_LIST: status = pull_list_stage(task, pull, &error); break;
    case PULL_REQUESTS: status = pull_requests_stage(task, pull, &error); break;
    case PULL_INDEX: status = pull_index_stage(task, pull, &error); break;
    case PULL_LOCK: status = pull_lock_stage(task, pull, &error); break;
    case PULL_FILES: status = pull_files_stage(task, pull, &error); break;
    case PULL_FINISH: status = pull_finish_stage(pull, &error); break;
    }
  }
  if (status == CLIPC_E_CANCELLED && error.message[0] == '\0')
    clipc__fail(&error, CLIPC_E_CANCELLED, "%s: cancelled", pull->name.repository);
  if (status != CLIPC_WAITING && status != CLIPC_YIELDING) pull_end(frame, status, &error);
  return status;
}

static void pull_drop(void *frame) {
  clipc_error error = {CLIPC_OK, ""};
  clipc__fail(&error, CLIPC_E_SHUTTING_DOWN, "the runtime is shutting down");
  if (((struct pull_frame *)frame)->pull) pull_end(frame, CLIPC_E_SHUTTING_DOWN, &error);
}

static const clipc_task_kind pull_kind = {"pull", pull_run, pull_drop, sizeof(struct pull_frame), 0};

/* ---- the API */

/* A copy without '/' at the end; NULL for NULL. */
static char *pull_copy_trimmed(const clipc_allocator *allocator, const char *text, bool *good) {
  if (text == NULL || *good == false) return NULL;
  char *copy = pull_copy(allocator, text);
  size_t n = copy ? strlen(copy) : 0;
  while (n > 1 && copy[n - 1] == '/') copy[--n] = '\0';
  *good = copy != NULL;
  return copy;
}

static bool pull_take_token(struct clipc_pull *pull, const char *token) {
  static const char head[] = "Authorization: Bearer ";
  size_t n = strlen(token);
  pull->authorization = clipc__alloc(&pull->allocator, sizeof head + n, 1);
  if (pull->authorization == NULL) return false;
  memcpy(pull->authorization, head, sizeof head - 1);
  memcpy(pull->authorization + sizeof head - 1, token, n + 1);
  return true;
}

static const char *pull_fault(const clipc_pull_options *options) {
  if (options->folder == NULL && options->cache == NULL) return "neither a folder nor a cache is given";
  if ((options->folder && *options->folder == '\0') || (options->cache && *options->cache == '\0'))
    return "the folder's name is empty";
  if (options->towers < 0 || options->towers > (CLIPC_TOWER_IMAGE | CLIPC_TOWER_TEXT))
    return "there are no such towers";
  if (options->n_parallel < 0 || options->n_parallel > 64) return "n_parallel is not 0 to 64";
  for (const char *c = options->token; c && *c; c++)
    if (*c <= ' ' || *c > '~') return "the token has white space or control characters in it";
  if (options->revision && (*options->revision == '\0' || *options->revision == '/' || strlen(options->revision) > 80 ||
                            strstr(options->revision, "..") || strstr(options->revision, "//")))
    return "the revision is not one";
  return NULL;
}

static clipc_status pull_fill(struct clipc_pull *pull, const clipc_pull_options *options, clipc_error *error) {
  const clipc_allocator *allocator = &pull->allocator;
  bool good = true;
  pull->endpoint =
      pull_copy_trimmed(allocator, options->endpoint ? options->endpoint : "https://huggingface.co", &good);
  pull->cache = pull_copy_trimmed(allocator, options->cache, &good);
  pull->folder = pull_copy_trimmed(allocator, options->folder, &good);
  pull->revision = pull_copy_trimmed(allocator, options->revision ? options->revision : "main", &good);
  if (!good || (options->token && *options->token && !pull_take_token(pull, options->token)))
    return clipc__no_memory(error, "a model to get");
  pull->towers = options->towers == (CLIPC_TOWER_IMAGE | CLIPC_TOWER_TEXT) ? 0 : options->towers;
  pull->n_parallel = options->n_parallel > 0 ? options->n_parallel : 4;
  pull->n_retries = options->n_retries > 0 ? options->n_retries : options->n_retries < 0 ? 0 : 5;
  pull->stall_s = options->stall_timeout_s > 0 ? options->stall_timeout_s : 30;
  pull->offline = options->offline != 0;
  pull->sha_instructions = clipc__sha256_has_instructions();
  return CLIPC_OK;
}

clipc_status clipc_pull_begin(clipc_pull **out, clipc_runtime *runtime, const char *name,
                              const clipc_pull_options *options, clipc_error *error) {
  if (out) *out = NULL;
  if (out == NULL || runtime == NULL || name == NULL || options == NULL)
    return clipc__fail(error, CLIPC_E_INVALID, "clipc_pull_begin: an argument is NULL");
  struct clipc__pull_name resolved;
  const char *fault = pull_fault(options);
  if (fault) return clipc__fail(error, CLIPC_E_INVALID, "%.80s: %s", name, fault);
  clipc_status status = clipc__pull_resolve(&resolved, name, error);
  if (status != CLIPC_OK) return status;
  const clipc_allocator *allocator = clipc__runtime_allocator(runtime);
  struct clipc_pull *pull = clipc__alloc_zeroed(allocator, 1, sizeof *pull);
  if (pull == NULL) return clipc__no_memory(error, "a model to get");
  pull->allocator = pull->list.allocator = *allocator;
  pull->runtime = clipc__runtime_retain(runtime);
  pull->name = resolved;
  pull->lock_fd = -1;
  atomic_store(&pull->references, 2);
  atomic_store(&pull->holders, 1);
  struct pull_frame frame = {pull};
  status = pull_fill(pull, options, error);
  if (status == CLIPC_OK) status = clipc_spawn(&pull->task, runtime, &pull_kind, &frame, error);
  if (status == CLIPC_OK) {
    *out = pull;
  } else {
    pull_release_reference(pull);
    pull_release_reference(pull);
  }
  return status;
}

clipc_status clipc_pull_wait(clipc_pull *pull, int timeout_ms, clipc_error *error) {
  if (pull == NULL) return clipc__fail(error, CLIPC_E_INVALID, "clipc_pull_wait: pull is NULL");
  return clipc_task_wait(pull->task, timeout_ms, NULL, error);
}

clipc_status clipc_pull_status(const clipc_pull *pull, clipc_error *error) {
  if (pull == NULL) return clipc__fail(error, CLIPC_E_INVALID, "clipc_pull_status: pull is NULL");
  if (!atomic_load(&pull->over) || pull->error.status == CLIPC_OK) return CLIPC_OK;
  if (error) *error = pull->error;
  return pull->error.status;
}

const char *clipc_pull_path(const clipc_pull *pull) {
  return pull && atomic_load(&pull->over) && pull->error.status == CLIPC_OK ? pull->path : NULL;
}

clipc_pull_progress clipc_pull_how_far(const clipc_pull *pull) {
  clipc_pull_progress progress = {0};
  if (pull == NULL) return progress;
  progress.done = atomic_load(&pull->over);
  progress.n_files = atomic_load(&pull->n_all);
  progress.n_files_done = atomic_load(&pull->n_done);
  progress.n_bytes = atomic_load(&pull->n_bytes);
  progress.n_bytes_done = atomic_load(&pull->n_bytes_done);
  return progress;
}

void clipc_pull_cancel(clipc_pull *pull) {
  if (pull == NULL) return;
  clipc_task_cancel(pull->task);
}

void clipc_pull_close(clipc_pull *pull) {
  if (pull == NULL) return;
  clipc_task_cancel(pull->task);
  clipc_task_release(pull->task);
  pull_release_reference(pull);
}

clipc_status clipc_pull_find(char *path, size_t n_bytes, const char *name, const char *revision, const char *cache,
                             clipc_error *error) {
  struct clipc__pull_name resolved;
  char found[CLIPC__PULL_PATH];
  if (path == NULL || name == NULL || cache == NULL)
    return clipc__fail(error, CLIPC_E_INVALID, "clipc_pull_find: an argument is NULL");
  clipc_pull_options options = {.cache = cache, .revision = revision};
  const char *fault = pull_fault(&options);
  if (fault) return clipc__fail(error, CLIPC_E_INVALID, "%.80s: %s", name, fault);
  clipc_status status = clipc__pull_resolve(&resolved, name, error);
  if (status != CLIPC_OK) return status;
  const char *equal = clipc__pull_equal(resolved.repository);
  revision = revision ? revision : "main";
  if (!clipc__pull_cached(found, cache, resolved.repository, revision, 0) &&
      !(equal && clipc__pull_cached(found, cache, equal, revision, 0)))
    return clipc__fail(error, CLIPC_E_IO, "%.120s: is not in the cache %.80s", resolved.repository, cache);
  if (strlen(found) >= n_bytes) return clipc__fail(error, CLIPC_E_LIMIT, "%.120s: the path is too long", found);
  strcpy(path, found);
  return CLIPC_OK;
}

#undef PULL_MS
