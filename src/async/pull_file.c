/* One file of a model: out of the cache, or fetched from where it was left, looked at whole, and given its last name.
 * In: its entry of the list. Out: a file under its last name whose size and hash are the hub's, or a failure.
 * The fetch's task writes; it stops before the file is looked at, and a reference keeps what it writes to. */
#include "async/pull.h"
#include "base/sha1.h"
#include "base/sha256.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PULL_SLICE = 1 << 18, PULL_BUFFER = 1 << 16, PULL_LEAST_LIMIT = 1 << 16 };
#define PULL_MOST_BYTES ((uint64_t)1 << 42)

struct clipc__pull_check {
  struct clipc__sha1 sha1;
  struct clipc__sha256 sha256;
  uint64_t at;
  uint8_t buffer[PULL_BUFFER];
};

static void pull_close(int *fd) {
  if (*fd >= 0) close(*fd);
  *fd = -1;
}

void clipc__pull_file_free(struct clipc__pull_file *file) {
  const clipc_allocator *allocator = &file->pull->allocator;
  pull_close(&file->fd);
  pull_close(&file->source_fd);
  clipc__free(allocator, file->part);
  clipc__free(allocator, file->final);
  clipc__free(allocator, file->source);
  clipc__free(allocator, file->check);
}

/* n_done and the pull's sum follow what is on the disk. */
static void pull_set_done(struct clipc__pull_file *file, uint64_t n) {
  uint64_t before = atomic_exchange(&file->n_done, n);
  atomic_fetch_add(&file->pull->n_bytes_done, n - before);
}

/* The place that the user chose, not the hidden one. */
static clipc_status pull_file_failed(const struct clipc__pull_file *file, clipc_error *error) {
  const struct clipc_pull *pull = file->pull;
  const int number = errno;
  return clipc__fail(error, CLIPC_E_IO, "%.130s: %s cannot be written: %s", pull->folder ? pull->folder : pull->cache,
                     file->entry->name, strerror(number));
}

/* ---- what the fetch brings; in the fetch's task */

static bool pull_write(void *context, uint64_t offset, const void *data, size_t n_bytes, clipc_error *error) {
  struct clipc__pull_file *file = context;
  const char *bytes = data;
  if (atomic_load(&file->pull->cancelled)) return clipc__fail(error, CLIPC_E_CANCELLED, "cancelled"), false;
  if (offset == 0 && file->n_done > 0) { /* the server begins anew */
    if (ftruncate(file->fd, 0) != 0) return pull_file_failed(file, error), false;
    pull_set_done(file, 0);
  }
  if (offset != file->n_done)
    return clipc__fail(error, CLIPC_E_FORMAT, "%s: the server sent another part than was asked for", file->entry->name),
           false;
  while (n_bytes > 0) {
    ssize_t n = pwrite(file->fd, bytes, n_bytes, (off_t)offset);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      if (n == 0) errno = EIO;
      return pull_file_failed(file, error), false;
    }
    bytes += n;
    offset += (uint64_t)n;
    n_bytes -= (size_t)n;
    pull_set_done(file, offset);
  }
  return true;
}

static void pull_release(void *context) { clipc__pull_let_go(((struct clipc__pull_file *)context)->pull); }

static clipc_status pull_file_fetch(struct clipc__pull_file *file, clipc_error *error) {
  struct clipc_pull *pull = file->pull;
  char url[1024];
  if (snprintf(url, sizeof url, "%s/%s/resolve/%s/%s", pull->endpoint, pull->name.repository, pull->list.commit,
               file->entry->name) >= (int)sizeof url)
    return clipc__fail(error, CLIPC_E_LIMIT, "%.80s: the address is too long", pull->endpoint);
  uint64_t most = file->entry->has_size ? file->entry->n_bytes : PULL_MOST_BYTES;
  if (most < PULL_LEAST_LIMIT) most = PULL_LEAST_LIMIT; /* it also holds for pages that tell of an error */
  struct clipc__fetch_wants wants = {
      .secret = pull->authorization,
      .accept = "Accept-Encoding: identity",
      .from = file->n_done,
      .max_bytes = most,
      .stall_s = pull->stall_s,
      .write = pull_write,
      .release = pull_release,
      .context = file,
  };
  clipc__pull_hold(pull);
  clipc_status status = clipc__fetch_start_with(&file->fetch, pull->runtime, url, strlen(url), &wants, 0, error);
  if (status == CLIPC_OK) file->state = CLIPC__PULL_FILE_MOVING;
  return status;
}

/* ---- states */

static clipc_status pull_file_begin(struct clipc__pull_file *file, clipc_error *error) {
  struct stat info;
  const struct clipc__pull_entry *entry = file->entry;
  if (file->pull->in_place) {
    file->fd = open(file->part, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file->fd < 0 || fstat(file->fd, &info) != 0)
      return clipc__fail(error, CLIPC_E_IO, "%s: is there already, and has no %s of this model", file->pull->folder,
                         entry->name);
    pull_set_done(file, (uint64_t)info.st_size);
    file->state = CLIPC__PULL_FILE_CHECKING;
    return CLIPC_OK;
  }
  if (file->final && stat(file->final, &info) == 0 && S_ISREG(info.st_mode) &&
      (!entry->has_size || (uint64_t)info.st_size == entry->n_bytes) && entry->hash[0] != '\0') { /* was whole before */
    pull_set_done(file, (uint64_t)info.st_size);
    file->state = CLIPC__PULL_FILE_DONE;
    return CLIPC_OK;
  }
  file->fd = open(file->part, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
  if (file->fd < 0 || fstat(file->fd, &info) != 0) return pull_file_failed(file, error);
  uint64_t n_there = (uint64_t)info.st_size;
  if (entry->has_size && n_there > entry->n_bytes) n_there = 0;
  if (n_there == 0 && ftruncate(file->fd, 0) != 0) return pull_file_failed(file, error);
  pull_set_done(file, n_there);
  file->restarted = n_there == 0;
  if (file->source && (file->source_fd = open(file->source, O_RDONLY | O_CLOEXEC | O_NONBLOCK)) >= 0) {
    file->state = CLIPC__PULL_FILE_COPYING;
    file->restarted = file->pull->offline; /* a damaged cache is no reason to give up */
    return CLIPC_OK;
  }
  if (entry->has_size && n_there == entry->n_bytes && entry->hash[0] != '\0') {
    file->state = CLIPC__PULL_FILE_CHECKING;
    return CLIPC_OK;
  }
  if (file->pull->offline)
    return clipc__fail(error, CLIPC_E_IO, "%s: is not in the cache, and offline nothing is fetched", entry->name);
  return pull_file_fetch(file, error);
}

static bool pull_make_check(struct clipc__pull_file *file, clipc_error *error) {
  if (file->check) return true;
  file->check = clipc__alloc(&file->pull->allocator, 1, sizeof *file->check);
  if (file->check == NULL) return clipc__no_memory(error, file->entry->name), false;
  char head[32];
  int n = snprintf(head, sizeof head, "blob %llu", (unsigned long long)file->n_done) + 1; /* and its NUL */
  clipc__sha1_begin(&file->check->sha1);
  clipc__sha1_add(&file->check->sha1, head, (size_t)n);
  clipc__sha256_begin(&file->check->sha256, file->pull->sha_instructions);
  file->check->at = 0;
  return true;
}

static int pull_file_copy(struct clipc__pull_file *file, clipc_error *error) {
  if (!pull_make_check(file, error)) return CLIPC_E_NO_MEMORY;
  for (size_t left = PULL_SLICE; left > 0;) {
    ssize_t n = pread(file->source_fd, file->check->buffer, PULL_BUFFER, (off_t)file->n_done);
    if (n < 0) return clipc__fail(error, CLIPC_E_IO, "%s: cannot be read: %s", file->source, strerror(errno));
    if (n > 0 && !pull_write(file, file->n_done, file->check->buffer, (size_t)n, error)) return error->status;
    left -= (size_t)n < left ? (size_t)n : left;
    if (n > 0) continue;
    pull_close(&file->source_fd);
    clipc__free(&file->pull->allocator, file->check);
    file->check = NULL;
    file->state = CLIPC__PULL_FILE_CHECKING;
    break;
  }
  return CLIPC_YIELDING;
}

/* The fetch is over. */
static int pull_file_arrived(struct clipc__pull_file *file, clipc_error *error) {
  const struct clipc_error *why = clipc__fetch_error(file->fetch);
  const struct clipc__fetch_reply *reply = clipc__fetch_reply(file->fetch);
  struct clipc__pull_entry *entry = file->entry;
  clipc_status status = CLIPC_OK;
  if (why && reply->status == 416 && file->n_done > 0) { /* what was left is of another file */
    file->restarted = true;
    if (ftruncate(file->fd, 0) != 0) status = pull_file_failed(file, error);
    pull_set_done(file, 0);
    file->wake_ns = 0;
    file->state = CLIPC__PULL_FILE_RESTING;
  } else if (why) {
    bool progressed = file->n_done > file->most_done; /* a server without ranges must not be asked for ever */
    if (progressed) file->most_done = file->n_done;
    status =
        clipc__pull_again(file->pull, file->fetch, entry->name, progressed, &file->n_failures, &file->wake_ns, error);
    file->state = CLIPC__PULL_FILE_RESTING;
  } else {
    const char *hash = reply->linked_etag[0] ? reply->linked_etag : reply->etag;
    if (entry->hash[0] == '\0' && clipc__pull_is_hash(hash)) strcpy(entry->hash, hash);
    if (entry->hash[0] == '\0')
      status = clipc__fail(error, CLIPC_E_FORMAT, "%s: the hub says no hash to compare it with", entry->name);
    else if (clipc__pull_is_hash(reply->linked_etag) && strcmp(reply->linked_etag, entry->hash) != 0)
      status = clipc__fail(error, CLIPC_E_FORMAT, "%s: the hub says two different hashes of it", entry->name);
    file->state = CLIPC__PULL_FILE_CHECKING;
  }
  clipc__fetch_close(file->fetch);
  file->fetch = NULL;
  return status == CLIPC_OK ? CLIPC_YIELDING : (int)status;
}

static void pull_hex(char *out, const uint8_t *digest, size_t n) {
  for (size_t i = 0; i < n; i++) sprintf(out + 2 * i, "%02x", digest[i]);
}

static clipc_status pull_file_settle(struct clipc__pull_file *file, const char *hash, clipc_error *error) {
  struct clipc__pull_entry *entry = file->entry;
  if (file->source && file->pull->offline && entry->hash[0] == '\0')
    strcpy(entry->hash, hash); /* the cache says none */
  bool right = strcmp(hash, entry->hash) == 0 && (!entry->has_size || entry->n_bytes == file->n_done);
  if (file->pull->in_place) {
    if (!right)
      return clipc__fail(error, CLIPC_E_IO, "%s: is there already, and its %s is not this model's", file->pull->folder,
                         entry->name);
  } else if (!right) {
    if (file->restarted) {
      unlink(file->part);
      return clipc__fail(error, CLIPC_E_FORMAT, "%s: what came has another %s than the hub says; nothing of it is kept",
                         entry->name, entry->has_size && entry->n_bytes != file->n_done ? "size" : "hash");
    }
    file->restarted = true; /* what was there from before may have been at fault */
    if (ftruncate(file->fd, 0) != 0) return pull_file_failed(file, error);
    pull_set_done(file, 0);
    return pull_file_fetch(file, error);
  } else if (file->final == NULL && !clipc__pull_name_final(file)) {
    return clipc__no_memory(error, entry->name);
  } else if (fsync(file->fd) != 0 || rename(file->part, file->final) != 0) {
    return pull_file_failed(file, error);
  }
  pull_close(&file->fd);
  file->state = CLIPC__PULL_FILE_DONE;
  return CLIPC_OK;
}

static int pull_file_check(struct clipc__pull_file *file, clipc_error *error) {
  struct clipc__pull_check *check;
  if (!pull_make_check(file, error)) return CLIPC_E_NO_MEMORY;
  check = file->check;
  bool is_sha256 = strlen(file->entry->hash) == 64;
  for (size_t left = PULL_SLICE; left > 0;) {
    ssize_t n = pread(file->fd, check->buffer, PULL_BUFFER, (off_t)check->at);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return clipc__fail(error, CLIPC_E_IO, "%s: cannot be read: %s", file->part, strerror(errno));
    if (n == 0) {
      uint8_t digest[CLIPC__SHA256_BYTES];
      char hash[CLIPC__PULL_HASH];
      if (is_sha256)
        clipc__sha256_end(&check->sha256, digest);
      else
        clipc__sha1_end(&check->sha1, digest);
      pull_hex(hash, digest, is_sha256 ? CLIPC__SHA256_BYTES : CLIPC__SHA1_BYTES);
      clipc__free(&file->pull->allocator, check);
      file->check = NULL;
      clipc_status status = pull_file_settle(file, hash, error);
      return status == CLIPC_OK ? CLIPC_YIELDING : (int)status;
    }
    if (is_sha256)
      clipc__sha256_add(&check->sha256, check->buffer, (size_t)n);
    else
      clipc__sha1_add(&check->sha1, check->buffer, (size_t)n);
    check->at += (size_t)n;
    left -= (size_t)n < left ? (size_t)n : left;
  }
  return CLIPC_YIELDING;
}

int clipc__pull_file_turn(clipc_task *task, struct clipc__pull_file *file, clipc_error *error) {
  clipc_status status = CLIPC_OK;
  switch (file->state) {
  case CLIPC__PULL_FILE_NEW: status = pull_file_begin(file, error); break;
  case CLIPC__PULL_FILE_COPYING: return pull_file_copy(file, error);
  case CLIPC__PULL_FILE_MOVING:
    if (clipc__fetch_await(task, file->fetch) == CLIPC_WAITING) return CLIPC_WAITING;
    if (!clipc__fetch_done(file->fetch)) return CLIPC_WAITING; /* the pull's own task is to end */
    return pull_file_arrived(file, error);
  case CLIPC__PULL_FILE_RESTING:
    if (clipc_runtime_now_ns(file->pull->runtime) < file->wake_ns) return CLIPC_WAITING;
    status = pull_file_fetch(file, error);
    break;
  case CLIPC__PULL_FILE_CHECKING: return pull_file_check(file, error);
  case CLIPC__PULL_FILE_DONE: return CLIPC_OK;
  }
  return status == CLIPC_OK ? CLIPC_YIELDING : (int)status;
}

#undef PULL_MOST_BYTES
