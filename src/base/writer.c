/* Writes a file under no name, or under a temporary one beside its place, brings it to the disk and renames it.
 * Invariant: under the final name there is what was there before, or the whole of the new file. */
#include "base/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef PATH_MAX
#define PATH_MAX 4096
#endif

enum { WRITER_PIECE = 1 << 24 };

static clipc_status writer_failed(const struct clipc__writer *writer, int number, clipc_error *error) {
  return clipc__fail(error, CLIPC_E_IO, "%s: cannot be written: %s", writer->path, strerror(number));
}

static void writer_release(struct clipc__writer *writer) {
  clipc__free(&writer->allocator, writer->target);
  clipc__free(&writer->allocator, writer->temporary);
  writer->target = writer->temporary = NULL;
}

/* The bytes of target before its last name; "" is the current folder. */
static int writer_folder_length(const char *target) {
  const char *slash = strrchr(target, '/');
  return slash == NULL ? 0 : (int)(slash + 1 - target);
}

static void writer_next_name(struct clipc__writer *writer, unsigned attempt) {
  int n = writer_folder_length(writer->target);
  snprintf(writer->temporary, PATH_MAX, "%.*s.clipc-%ld-%u.tmp", n, writer->target, (long)getpid(), attempt);
}

/* Opens the file; errno says why not. */
static bool writer_make(struct clipc__writer *writer) {
#ifdef O_TMPFILE
  int n = writer_folder_length(writer->target);
  snprintf(writer->temporary, PATH_MAX, "%.*s", n > 0 ? n : 1, n > 0 ? writer->target : ".");
  if (access("/proc/self/fd", X_OK) == 0) /* by which it gets its name */
    writer->descriptor = open(writer->temporary, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0666);
  if (writer->descriptor >= 0) return true;
#endif
  for (unsigned attempt = 0; attempt < 1000; attempt++) {
    writer_next_name(writer, attempt);
    writer->descriptor = open(writer->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    writer->named = writer->descriptor >= 0;
    if (writer->named || errno != EEXIST) break;
  }
  return writer->named;
}

clipc_status clipc__writer_open(struct clipc__writer *writer, const char *path, const clipc_allocator *allocator,
                                clipc_error *error) {
  struct clipc__writer made = {.allocator = *allocator, .path = path, .descriptor = -1};
  struct stat info;
  bool exists = stat(path, &info) == 0;
  if (*path == '\0') return writer_failed(&made, ENOENT, error);
  if (exists && S_ISDIR(info.st_mode)) return writer_failed(&made, EISDIR, error);
  if (exists && !S_ISREG(info.st_mode))
    return clipc__fail(error, CLIPC_E_IO, "%s: cannot be written: it is not a regular file", path);
  if (exists && access(path, W_OK) != 0) return writer_failed(&made, errno, error);
  if (strlen(path) > PATH_MAX - 64) return writer_failed(&made, ENAMETOOLONG, error);
  made.target = clipc__alloc(allocator, PATH_MAX, 1);
  made.temporary = clipc__alloc(allocator, PATH_MAX, 1);
  clipc_status status = CLIPC_OK;
  if (made.target == NULL || made.temporary == NULL)
    status = clipc__no_memory(error, path);
  else if (!exists)
    strcpy(made.target, path);
  else if (realpath(path, made.target) == NULL) /* a link keeps pointing there */
    status = writer_failed(&made, errno, error);
  if (status == CLIPC_OK && strlen(made.target) > PATH_MAX - 64) status = writer_failed(&made, ENAMETOOLONG, error);
  if (status == CLIPC_OK && !writer_make(&made)) status = writer_failed(&made, errno, error);
  if (status != CLIPC_OK) {
    writer_release(&made);
    return status;
  }
  if (exists) (void)!fchmod(made.descriptor, info.st_mode & 0777); /* as far as that is allowed */
  *writer = made;
  return CLIPC_OK;
}

/* Large files begin their way to the disk while the rest is still written. */
void clipc__writer_put(struct clipc__writer *writer, const void *data, size_t n_bytes) {
  const char *bytes = data;
  while (n_bytes > 0 && writer->error == 0) {
    ssize_t n = write(writer->descriptor, bytes, n_bytes < WRITER_PIECE ? n_bytes : WRITER_PIECE);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      writer->error = n < 0 ? errno : EIO;
      return;
    }
#ifdef SYNC_FILE_RANGE_WRITE
    if (n == WRITER_PIECE) sync_file_range(writer->descriptor, (off_t)writer->n_bytes, n, SYNC_FILE_RANGE_WRITE);
#endif
    bytes += n;
    n_bytes -= (size_t)n;
    writer->n_bytes += (size_t)n;
  }
}

void clipc__writer_fill(struct clipc__writer *writer, uint64_t n_bytes) {
  static const char noughts[512];
  while (writer->n_bytes < n_bytes && writer->error == 0) {
    uint64_t left = n_bytes - writer->n_bytes;
    clipc__writer_put(writer, noughts, left < sizeof noughts ? (size_t)left : sizeof noughts);
  }
}

/* Gives a file without a name its temporary one: renaming puts it in another's place, linking does not. */
static bool writer_name(struct clipc__writer *writer) {
  char descriptor[64];
  snprintf(descriptor, sizeof descriptor, "/proc/self/fd/%d", writer->descriptor);
  for (unsigned attempt = 0; attempt < 1000 && !writer->named; attempt++) {
    writer_next_name(writer, attempt);
    writer->named = linkat(AT_FDCWD, descriptor, AT_FDCWD, writer->temporary, AT_SYMLINK_FOLLOW) == 0;
    if (!writer->named && errno != EEXIST) break;
  }
  return writer->named;
}

clipc_status clipc__writer_close(struct clipc__writer *writer, clipc_status status, clipc_error *error) {
  int number = writer->error;
  if (status == CLIPC_OK && number == 0 && fsync(writer->descriptor) != 0) number = errno;
  if (status == CLIPC_OK && number == 0 && !writer->named && !writer_name(writer)) number = errno;
  if (close(writer->descriptor) != 0 && number == 0) number = errno;
  bool keep = status == CLIPC_OK && number == 0;
  if (keep && rename(writer->temporary, writer->target) != 0) {
    number = errno;
    keep = false;
  }
  if (!keep && writer->named) unlink(writer->temporary);
  if (keep) { /* its name too; the file is whole whether that succeeds or not */
    int n = writer_folder_length(writer->target);
    writer->target[n] = '\0';
    clipc__sync_folder(n > 0 ? writer->target : ".");
  }
  if (status == CLIPC_OK && !keep) status = writer_failed(writer, number, error);
  writer_release(writer);
  return status;
}

bool clipc__sync_folder(const char *path) {
  int descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return false;
  bool done = fsync(descriptor) == 0 || errno == EINVAL || errno == EROFS;
  int number = errno;
  close(descriptor);
  errno = number;
  return done;
}
