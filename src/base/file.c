/* Whole files, mapped or read. In: a path. Out: bytes that stay until clipc__file_close.
 * Only regular files are opened: a pipe or a device could block or never end. */
#include "base/base.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static clipc_status read_all(struct clipc__file *file, int fd, const char *path, size_t n_bytes, clipc_error *error) {
  uint8_t *data = clipc__alloc(&file->allocator, n_bytes + 1, 1);
  if (data == NULL) return clipc__fail(error, CLIPC_E_NO_MEMORY, "%s: no memory for %zu bytes", path, n_bytes);
  size_t done = 0;
  while (done < n_bytes) {
    ssize_t got = read(fd, data + done, n_bytes - done);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      clipc__free(&file->allocator, data);
      return clipc__fail(error, CLIPC_E_IO, "%s: cannot be read: %s", path,
                         got < 0 ? strerror(errno) : "it became shorter");
    }
    done += (size_t)got;
  }
  data[n_bytes] = 0;
  file->data = data;
  return CLIPC_OK;
}

static clipc_status open_descriptor(struct clipc__file *file, int fd, const char *path, bool map, uint64_t max_bytes,
                                    clipc_error *error) {
  struct stat info;
  if (fstat(fd, &info) != 0) return clipc__fail(error, CLIPC_E_IO, "%s: cannot be read: %s", path, strerror(errno));
  if (S_ISDIR(info.st_mode)) return clipc__fail(error, CLIPC_E_IO, "%s: is a folder, not a file", path);
  if (!S_ISREG(info.st_mode)) return clipc__fail(error, CLIPC_E_IO, "%s: is not a regular file", path);
  uint64_t n_bytes = (uint64_t)info.st_size;
  if (n_bytes > max_bytes || n_bytes >= SIZE_MAX)
    return clipc__fail(error, CLIPC_E_LIMIT, "%s: %llu bytes are more than the limit of %llu", path,
                       (unsigned long long)n_bytes, (unsigned long long)max_bytes);
  file->n_bytes = (size_t)n_bytes;
  if (!map || n_bytes == 0) return read_all(file, fd, path, file->n_bytes, error);
  void *data = mmap(NULL, file->n_bytes, PROT_READ, MAP_PRIVATE, fd, 0);
  if (data == MAP_FAILED) return clipc__fail(error, CLIPC_E_IO, "%s: cannot be mapped: %s", path, strerror(errno));
  file->data = data;
  file->mapped = true;
  return CLIPC_OK;
}

clipc_status clipc__file_open(struct clipc__file *file, const char *path, bool map, uint64_t max_bytes,
                              const clipc_allocator *allocator, clipc_error *error) {
  struct clipc__file opened = {.allocator = *allocator};
  *file = opened;
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return clipc__fail(error, CLIPC_E_IO, "%s: cannot be opened: %s", path, strerror(errno));
  clipc_status status = open_descriptor(&opened, fd, path, map, max_bytes, error);
  close(fd);
  if (status == CLIPC_OK) *file = opened;
  return status;
}

void clipc__file_close(struct clipc__file *file) {
  if (file->data == NULL) return;
  if (file->mapped)
    munmap((void *)(uintptr_t)file->data, file->n_bytes);
  else
    clipc__free(&file->allocator, (void *)(uintptr_t)file->data);
  file->data = NULL;
  file->n_bytes = 0;
}

void clipc__file_rest(const struct clipc__file *file) {
#ifdef MADV_DONTNEED
  if (file->mapped) madvise((void *)(uintptr_t)file->data, file->n_bytes, MADV_DONTNEED);
#else
  (void)file;
#endif
}

bool clipc__is_empty_folder(const char *path) {
  DIR *folder = opendir(path);
  if (folder == NULL) return false;
  size_t n = 0;
  for (struct dirent *entry; n == 0 && (entry = readdir(folder)) != NULL;)
    n += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
  closedir(folder);
  return n == 0;
}

bool clipc__is_folder(const char *path) {
  struct stat info;
  return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

bool clipc__is_file(const char *path) {
  struct stat info;
  return stat(path, &info) == 0 && S_ISREG(info.st_mode);
}

char *clipc__path_join(const clipc_allocator *allocator, const char *folder, const char *name) {
  size_t n_folder = strlen(folder), n_name = strlen(name);
  bool slash = n_folder > 0 && folder[n_folder - 1] != '/';
  char *path = clipc__alloc(allocator, n_folder + slash + n_name + 1, 1);
  if (path == NULL) return NULL;
  memcpy(path, folder, n_folder);
  if (slash) path[n_folder] = '/';
  memcpy(path + n_folder + slash, name, n_name + 1);
  return path;
}
