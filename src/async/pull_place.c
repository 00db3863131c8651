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
    int number = mkdir(part, 0777) == 0 ? 0 : errno;
    if (number != 0 && number != EEXIST && !clipc__is_folder(part))
      return clipc__fail(error, CLIPC_E_IO, "%s: cannot be made: %s", part, strerror(number));
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

static bool pull_has_shards(const char *snapshot, int towers) {
  if (clipc__pull_shards_there(snapshot, towers)) return true;
  return towers == 0 && (clipc__pull_shards_there(snapshot, CLIPC_TOWER_IMAGE) ||
                         clipc__pull_shards_there(snapshot, CLIPC_TOWER_TEXT));
}

static bool pull_is_whole(const char *snapshot, int towers) {
  return (pull_has(snapshot, "config.json") || pull_has(snapshot, "open_clip_config.json")) &&
         (pull_has(snapshot, "model.safetensors") || pull_has(snapshot, "open_clip_model.safetensors") ||
          pull_has(snapshot, "open_clip_pytorch_model.safetensors") ||
          (pull_has(snapshot, CLIPC__PULL_INDEX) && pull_has_shards(snapshot, towers)));
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

static bool pull_find_snapshot(char *out, const char *folder, const char *revision, int towers) {
  char commit[CLIPC__PULL_HASH];
  if (clipc__pull_is_hash(revision))
    snprintf(commit, sizeof commit, "%s", revision);
  else if (!pull_read_ref(commit, folder, revision))
    return false;
  return clipc__pull_path(out, "%s/snapshots/%s", folder, commit) && strlen(out) < PULL_SHORT_PATH &&
         pull_is_whole(out, towers);
}

bool clipc__pull_cached(char *out, const char *cache, const char *repository, const char *revision, int towers) {
  char flat[CLIPC__PULL_NAME + 16], folder[PULL_SHORT_PATH], requests[PULL_SHORT_PATH + 16], name[96];
  clipc__pull_flatten(flat, sizeof flat, repository);
  if (snprintf(folder, sizeof folder, "%s/%s", cache, flat) >= (int)sizeof folder) return false;
  if (pull_find_snapshot(out, folder, revision, towers)) return true;
  if (strcmp(revision, "main") != 0) return false;
  snprintf(requests, sizeof requests, "%s/refs/refs/pr", folder); /* a conversion */
  DIR *names = opendir(requests);
  bool found = false;
  for (struct dirent *entry; names && !found && (entry = readdir(names)) != NULL;) {
    if (strspn(entry->d_name, "0123456789") != strlen(entry->d_name) || strlen(entry->d_name) > 9) continue;
    snprintf(name, sizeof name, "refs/pr/%.9s", entry->d_name);
    found = pull_find_snapshot(out, folder, name, towers);
  }
  if (names) closedir(names);
  return found;
}

/* A link says by the blob's name what it stands for; a file of a cache without links says its size alone. */
static bool pull_has_entry(const char *snapshot, const struct clipc__pull_entry *entry) {
  char path[PULL_SHORT_PATH * 2], there[PULL_SHORT_PATH];
  struct stat info;
  if (snprintf(path, sizeof path, "%s/%s", snapshot, entry->name) >= (int)sizeof path || stat(path, &info) != 0 ||
      !S_ISREG(info.st_mode) || !entry->has_size || (uint64_t)info.st_size != entry->n_bytes || entry->hash[0] == '\0')
    return false;
  ssize_t n = readlink(path, there, sizeof there - 1);
  there[n > 0 ? n : 0] = '\0';
  const char *slash = strrchr(there, '/');
  return slash == NULL || strcmp(slash + 1, entry->hash) == 0;
}

bool clipc__pull_is_there(char *snapshot, const char *folder, const struct clipc__pull_list *list) {
  bool there = clipc__pull_path(snapshot, "%s/snapshots/%s", folder, list->commit) && clipc__is_folder(snapshot);
  for (size_t i = 0; i < list->n && there; i++) there = pull_has_entry(snapshot, &list->entries[i]);
  return there;
}

/* ---- publishing */

/* Makes snapshot/name a link to its blob, in one step also where there is one. */
static __attribute__((noinline)) bool pull_link(const char *snapshot, const struct clipc__pull_entry *entry) {
  char path[PULL_SHORT_PATH + 128], beside[PULL_SHORT_PATH + 160], to[16 + CLIPC__PULL_HASH], there[128];
  snprintf(path, sizeof path, "%s/%s", snapshot, entry->name);
  snprintf(beside, sizeof beside, "%s/.%s.clipc", snapshot, entry->name); /* the next one removes it, if need be */
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

clipc_status clipc__pull_write_ref(const char *folder, const char *revision, const struct clipc__pull_list *list,
                                   clipc_error *error) {
  char path[PULL_SHORT_PATH], parent[PULL_SHORT_PATH], commit[CLIPC__PULL_HASH];
  struct clipc__writer writer;
  if (clipc__pull_is_hash(revision) || (pull_read_ref(commit, folder, revision) && strcmp(commit, list->commit) == 0))
    return CLIPC_OK;
  if (snprintf(path, sizeof path, "%s/refs/%s", folder, revision) >= (int)sizeof path)
    return clipc__fail(error, CLIPC_E_IO, "%.80s...: is too long a path", folder);
  snprintf(parent, sizeof parent, "%.*s", (int)(strrchr(path, '/') - path), path);
  clipc_status status = clipc__pull_make_folders(parent, error);
  if (status == CLIPC_OK) status = clipc__writer_open(&writer, path, &list->allocator, error);
  if (status != CLIPC_OK) return status;
  clipc__writer_put(&writer, list->commit, strlen(list->commit));
  return clipc__writer_close(&writer, CLIPC_OK, error);
}

void clipc__pull_tag_cache(const char *cache, const clipc_allocator *allocator) {
  static const char text[] = "Signature: 8a477f597d28d172789f06886806bc55\n"
                             "# A cache of models, which backups may leave out: https://bford.info/cachedir/\n";
  char path[PULL_SHORT_PATH];
  struct clipc__writer writer;
  if (snprintf(path, sizeof path, "%s/CACHEDIR.TAG", cache) >= (int)sizeof path || access(path, F_OK) == 0 ||
      clipc__writer_open(&writer, path, allocator, NULL) != CLIPC_OK)
    return;
  clipc__writer_put(&writer, text, sizeof text - 1);
  clipc__writer_close(&writer, CLIPC_OK, NULL);
}

/* Brings the names in folder/name to the disk. */
static bool pull_sync(const char *folder, const char *name) {
  char path[PULL_SHORT_PATH + 160];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  return clipc__sync_folder(path);
}

/* In the order in which they must not get lost: the blobs, the links to them, the snapshot, the reference to it. */
clipc_status clipc__pull_publish(char *snapshot, const char *folder, const char *revision,
                                 const struct clipc__pull_list *list, clipc_error *error) {
  char fresh[PULL_SHORT_PATH];
  if (snprintf(fresh, sizeof fresh, "%s/snapshots/.%s.clipc", folder, list->commit) >= (int)sizeof fresh)
    return clipc__fail(error, CLIPC_E_IO, "%.80s...: is too long a path", folder);
  clipc__pull_path(snapshot, "%s/snapshots/%s", folder, list->commit);
  bool is_there = clipc__is_folder(snapshot);
  const char *into = is_there ? snapshot : fresh;
  clipc_status status = clipc__pull_make_folders(into, error);
  if (status == CLIPC_OK && !pull_sync(folder, "blobs"))
    status = clipc__fail(error, CLIPC_E_IO, "%s/blobs: cannot be written: %s", folder, strerror(errno));
  for (int configs = 0; configs < 2; configs++) /* these last: without them it is no model */
    for (size_t i = 0; i < list->n && status == CLIPC_OK; i++)
      if (pull_is_config(list->entries[i].name) == (configs == 1) && !pull_link(into, &list->entries[i]))
        status =
            clipc__fail(error, CLIPC_E_IO, "%s/%s: cannot be made: %s", into, list->entries[i].name, strerror(errno));
  if (status == CLIPC_OK &&
      (!clipc__sync_folder(into) || (!is_there && rename(fresh, snapshot) != 0) || !pull_sync(folder, "snapshots")))
    status = clipc__fail(error, CLIPC_E_IO, "%s: cannot be made: %s", snapshot, strerror(errno));
  return status == CLIPC_OK ? clipc__pull_write_ref(folder, revision, list, error) : status;
}

/* ---- folders */

clipc_status clipc__pull_assemble(const char *work, const struct clipc__pull_file *files, size_t n, const char *folder,
                                  clipc_error *error) {
  char made[PULL_SHORT_PATH], path[PULL_SHORT_PATH + 128];
  snprintf(made, sizeof made, "%s/model", work);
  pull_remove_one(made); /* of one that was ended by force here */
  bool good = mkdir(made, 0777) == 0;
  for (size_t i = 0; good && i < n; i++) { /* a second name keeps the first, if this is ended by force */
    snprintf(path, sizeof path, "%s/%s", made, files[i].entry->name);
    good = link(files[i].final, path) == 0 || rename(files[i].final, path) == 0;
  }
  if (!good || !clipc__sync_folder(made) || rename(made, folder) != 0)
    return clipc__fail(error, CLIPC_E_IO, "%s: cannot be made: %s", folder, strerror(errno));
  snprintf(path, sizeof path, "%s/..", work); /* it lies beside the folder */
  clipc__sync_folder(path);
  return CLIPC_OK;
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
