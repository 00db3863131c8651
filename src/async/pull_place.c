/* Where models lie: the hub's cache (models--org--name with blobs, snapshots and refs), folders that are being made,
 * and locks. Invariant: what has its last name is whole. */
#include "async/pull.h"
#include "base/writer.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PULL_SHORT_PATH = 1024 }; /* for several on the stack */

bool clipc__pull_path(char *out, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  int n = vsnprintf(out, CLIPC__PULL_PATH, format, arguments);
  va_end(arguments);
  return n >= 0 && n < CLIPC__PULL_PATH;
}

clipc_status clipc__pull_make_folders(const char *path, clipc_error *error) {
  char part[PULL_SHORT_PATH];
  size_t n = strlen(path);
  if (n >= sizeof part) return clipc__fail(error, CLIPC_E_IO, "%.80s...: is too long a path", path);
  memcpy(part, path, n + 1);
  for (size_t i = 1; i <= n; i++) {
    if (part[i] != '/' && part[i] != '\0') continue;
    part[i] = '\0';
    if (mkdir(part, 0777) != 0 && errno != EEXIST && !clipc__is_folder(part))
      return clipc__fail(error, CLIPC_E_IO, "%s: cannot be made: %s", part, strerror(errno));
    part[i] = path[i];
  }
  if (clipc__is_folder(path) || access(path, F_OK) != 0) return CLIPC_OK; /* who removed it has just been ready */
  return clipc__fail(error, CLIPC_E_IO, "%s: is not a folder", path);
}

static void pull_remove_one(const char *folder) {
  DIR *names = opendir(folder);
  if (names == NULL) return;
  for (struct dirent *name; (name = readdir(names)) != NULL;)
    if (strcmp(name->d_name, ".") != 0 && strcmp(name->d_name, "..") != 0) unlinkat(dirfd(names), name->d_name, 0);
  closedir(names);
  rmdir(folder);
}

void clipc__pull_remove(const char *folder) {
  char inner[PULL_SHORT_PATH + 8];
  if (strlen(folder) >= PULL_SHORT_PATH) return;
  snprintf(inner, sizeof inner, "%s/model", folder);
  pull_remove_one(inner);
  pull_remove_one(folder);
}

void clipc__pull_flatten(char *out, size_t n_bytes, const char *repository) {
  const char *slash = strchr(repository, '/');
  snprintf(out, n_bytes, "models--%.*s--%s", (int)(slash ? slash - repository : 0), repository,
           slash ? slash + 1 : repository);
}

/* ---- finding */

static bool pull_has(const char *folder, const char *name) {
  char path[PULL_SHORT_PATH * 2];
  return snprintf(path, sizeof path, "%s/%s", folder, name) < (int)sizeof path && clipc__is_file(path);
}

/* All shards of a model in several files. */
static bool pull_has_shards(const char *folder) {
  DIR *names = opendir(folder);
  int n_found = 0, n_parts = 0, part, n;
  for (struct dirent *name; names && (name = readdir(names)) != NULL;)
    if (sscanf(name->d_name, "model-%5d-of-%5d.safetensors", &part, &n) == 2 && pull_has(folder, name->d_name))
      n_found++, n_parts = n;
  if (names) closedir(names);
  return n_found > 0 && n_found == n_parts;
}

static bool pull_is_whole(const char *snapshot) {
  return (pull_has(snapshot, "config.json") || pull_has(snapshot, "open_clip_config.json")) &&
         (pull_has(snapshot, "model.safetensors") || pull_has(snapshot, "open_clip_model.safetensors") ||
          pull_has(snapshot, "open_clip_pytorch_model.safetensors") ||
          (pull_has(snapshot, "model.safetensors.index.json") && pull_has_shards(snapshot)));
}

/* The commit that a revision stands for. */
static bool pull_read_ref(char commit[CLIPC__PULL_HASH], const char *folder, const char *revision) {
  char path[PULL_SHORT_PATH * 2];
  if (snprintf(path, sizeof path, "%s/refs/%s", folder, revision) >= (int)sizeof path) return false;
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return false;
  ssize_t n = read(fd, commit, CLIPC__PULL_HASH - 1);
  close(fd);
  commit[n > 0 ? n : 0] = '\0';
  commit[strcspn(commit, "\r\n \t")] = '\0';
  return clipc__pull_is_hash(commit);
}

static bool pull_find_snapshot(char *out, const char *folder, const char *revision) {
  char commit[CLIPC__PULL_HASH];
  if (clipc__pull_is_hash(revision))
    snprintf(commit, sizeof commit, "%s", revision);
  else if (!pull_read_ref(commit, folder, revision))
    return false;
  return clipc__pull_path(out, "%s/snapshots/%s", folder, commit) && strlen(out) < PULL_SHORT_PATH &&
         pull_is_whole(out);
}

bool clipc__pull_cached(char *out, const char *cache, const char *repository, const char *revision) {
  char flat[CLIPC__PULL_NAME + 16], folder[PULL_SHORT_PATH], requests[PULL_SHORT_PATH + 16], name[96];
  clipc__pull_flatten(flat, sizeof flat, repository);
  if (snprintf(folder, sizeof folder, "%s/%s", cache, flat) >= (int)sizeof folder) return false;
  if (pull_find_snapshot(out, folder, revision)) return true;
  if (strcmp(revision, "main") != 0) return false;
  snprintf(requests, sizeof requests, "%s/refs/refs/pr", folder); /* a conversion */
  DIR *names = opendir(requests);
  bool found = false;
  for (struct dirent *entry; names && !found && (entry = readdir(names)) != NULL;) {
    if (strspn(entry->d_name, "0123456789") != strlen(entry->d_name) || strlen(entry->d_name) > 9) continue;
    snprintf(name, sizeof name, "refs/pr/%.9s", entry->d_name);
    found = pull_find_snapshot(out, folder, name);
  }
  if (names) closedir(names);
  return found;
}

/* ---- publishing */

/* Makes snapshot/name a link to its blob, in one step also where there is one. */
static __attribute__((noinline)) bool pull_link(const char *snapshot, const struct clipc__pull_entry *entry) {
  char path[PULL_SHORT_PATH + 128], beside[PULL_SHORT_PATH + 160], to[16 + CLIPC__PULL_HASH], there[128];
  snprintf(path, sizeof path, "%s/%s", snapshot, entry->name);
  snprintf(beside, sizeof beside, "%s/.%s.clipc-%ld", snapshot, entry->name, (long)getpid());
  snprintf(to, sizeof to, "../../blobs/%s", entry->hash);
  ssize_t n = readlink(path, there, sizeof there);
  if (n == (ssize_t)strlen(to) && memcmp(there, to, (size_t)n) == 0) return true;
  unlink(beside);
  if (symlink(to, beside) == 0 && rename(beside, path) == 0) return true;
  int number = errno;
  unlink(beside);
  errno = number;
  return false;
}

static bool pull_is_config(const char *name) {
  return strcmp(name, "config.json") == 0 || strcmp(name, "open_clip_config.json") == 0;
}

static __attribute__((noinline)) clipc_status pull_write_ref(const char *folder, const char *revision,
                                                             const char *commit, const clipc_allocator *allocator,
                                                             clipc_error *error) {
  char path[PULL_SHORT_PATH], parent[PULL_SHORT_PATH];
  struct clipc__writer writer;
  if (snprintf(path, sizeof path, "%s/refs/%s", folder, revision) >= (int)sizeof path)
    return clipc__fail(error, CLIPC_E_IO, "%.80s...: is too long a path", folder);
  snprintf(parent, sizeof parent, "%.*s", (int)(strrchr(path, '/') - path), path);
  clipc_status status = clipc__pull_make_folders(parent, error);
  if (status == CLIPC_OK) status = clipc__writer_open(&writer, path, allocator, error);
  if (status != CLIPC_OK) return status;
  clipc__writer_put(&writer, commit, strlen(commit));
  return clipc__writer_close(&writer, CLIPC_OK, error);
}

clipc_status clipc__pull_publish(char *snapshot, const char *folder, const char *revision,
                                 const struct clipc__pull_list *list, const clipc_allocator *allocator,
                                 clipc_error *error) {
  char fresh[PULL_SHORT_PATH];
  if (snprintf(fresh, sizeof fresh, "%s/snapshots/.%s.clipc", folder, list->commit) >= (int)sizeof fresh)
    return clipc__fail(error, CLIPC_E_IO, "%.80s...: is too long a path", folder);
  clipc__pull_path(snapshot, "%s/snapshots/%s", folder, list->commit);
  bool is_there = clipc__is_folder(snapshot);
  const char *into = is_there ? snapshot : fresh;
  clipc_status status = clipc__pull_make_folders(into, error);
  for (int configs = 0; configs < 2; configs++) /* these last: without them it is no model */
    for (size_t i = 0; i < list->n && status == CLIPC_OK; i++)
      if (pull_is_config(list->entries[i].name) == (configs == 1) && !pull_link(into, &list->entries[i]))
        status =
            clipc__fail(error, CLIPC_E_IO, "%s/%s: cannot be made: %s", into, list->entries[i].name, strerror(errno));
  if (status == CLIPC_OK && !is_there && rename(fresh, snapshot) != 0)
    status = clipc__fail(error, CLIPC_E_IO, "%s: cannot be made: %s", snapshot, strerror(errno));
  if (status == CLIPC_OK && !clipc__pull_is_hash(revision))
    status = pull_write_ref(folder, revision, list->commit, allocator, error);
  return status;
}

/* ---- folders */

clipc_status clipc__pull_assemble(const char *work, const struct clipc__pull_file *files, size_t n, const char *folder,
                                  clipc_error *error) {
  char made[PULL_SHORT_PATH], path[PULL_SHORT_PATH + 128];
  snprintf(made, sizeof made, "%s/model", work);
  pull_remove_one(made); /* of one that was ended by force here */
  bool good = mkdir(made, 0777) == 0;
  for (size_t i = 0; good && i < n; i++) {
    snprintf(path, sizeof path, "%s/%s", made, files[i].entry->name);
    good = rename(files[i].final, path) == 0;
  }
  if (good && rename(made, folder) == 0) return CLIPC_OK;
  return clipc__fail(error, CLIPC_E_IO, "%s: cannot be made: %s", folder, strerror(errno));
}

/* ---- locks */

clipc_status clipc__pull_lock(int *fd, const char *path, clipc_error *error) {
  struct stat ours, theirs;
  *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (*fd < 0 && errno == ENOENT) return CLIPC_OK; /* who had it took the folder away */
  if (*fd < 0) return clipc__fail(error, CLIPC_E_IO, "%s: cannot be made: %s", path, strerror(errno));
  if (flock(*fd, LOCK_EX | LOCK_NB) == 0) {
    /* Whoever had it may have removed it. */
    if (fstat(*fd, &ours) == 0 && stat(path, &theirs) == 0 && ours.st_ino == theirs.st_ino) return CLIPC_OK;
  } else if (errno != EWOULDBLOCK && errno != EINTR) {
    clipc__fail(error, CLIPC_E_IO, "%s: cannot be locked: %s", path, strerror(errno));
    close(*fd);
    *fd = -1;
    return CLIPC_E_IO;
  }
  close(*fd);
  *fd = -1;
  return CLIPC_OK;
}
