/* A folder as a new folder: other types of weights, shards, one tower alone.
 * In: a folder as clipc_model_open takes it. Out: a folder of that kind, which takes its name when all of it is on the
 * disk. Tensors go through in pieces: memory is a few pieces, and the table of names.
 * The files are laid out as the safetensors library does it: wide types first, then by name. */
#include "model/model.h"

#include "base/writer.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define CONVERT_NUMBERS ((size_t)1 << 16) /* in one piece */
#define CONVERT_REST_BYTES ((uint64_t)16 << 20)
#define CONVERT_MOST_SHARDS 4096u

struct convert_tensor {
  const struct clipc__tensor *from;
  enum clipc__dtype dtype; /* to be */
  uint64_t n_bytes;
  size_t n_element; /* bytes */
};

struct convert_job {
  const clipc_convert_options *options;
  const clipc_options *opener;
  const char *from, *to;
  struct clipc__config config;
  struct clipc__tensors tensors;
  struct convert_tensor *list; /* [n] */
  size_t n, n_shards;
  uint64_t n_bytes, n_done, n_read; /* n_read: since the files were last told to rest */
  bool single;                      /* one tower is taken out of two */
  char *folder;                     /* beside its final place, until it takes its name */
  int lock;                         /* of that folder: its descriptor */
  float *numbers;                   /* [CONVERT_NUMBERS] */
  uint8_t *narrow;
  clipc_error *error;
};

/* ---- what goes in */

static int convert_by_size_and_name(const void *a, const void *b) {
  const struct convert_tensor *x = a, *y = b;
  if (x->n_element != y->n_element) return x->n_element < y->n_element ? 1 : -1;
  return strcmp(x->from->name, y->from->name);
}

static size_t convert_element_bytes(const struct clipc__tensor *tensor) {
  uint64_t n = 1;
  for (int i = 0; i < tensor->rank && i < CLIPC__MAX_RANK; i++) n *= tensor->shape[i];
  return n > 0 ? (size_t)(tensor->n_bytes / n) : 1;
}

/* What the towers use is converted, logit scale and bias included; what they do not use is kept, unless one tower is
 * taken out. */
static clipc_status convert_list(struct convert_job *job, const bool *used) {
  static const enum clipc__dtype types[] = {CLIPC__DTYPE_OTHER, CLIPC__DTYPE_F32, CLIPC__DTYPE_F16, CLIPC__DTYPE_BF16};
  enum clipc__dtype type = types[job->options->type];
  job->list = clipc__alloc(&job->opener->allocator, job->tensors.n_tensors, sizeof *job->list);
  if (job->list == NULL) return clipc__no_memory(job->error, job->from);
  for (size_t i = 0; i < job->tensors.n_tensors; i++) {
    const struct clipc__tensor *tensor = &job->tensors.tensors[i];
    struct convert_tensor *entry = &job->list[job->n];
    if (!used[i] && job->single) continue;
    if (tensor->rank > CLIPC__MAX_RANK)
      return clipc__fail(job->error, CLIPC_E_UNSUPPORTED, "%s: tensor %s has %d dimensions", tensor->file, tensor->name,
                         tensor->rank);
    *entry = (struct convert_tensor){tensor, tensor->dtype, tensor->n_bytes, convert_element_bytes(tensor)};
    if (used[i] && type != CLIPC__DTYPE_OTHER && type != tensor->dtype) {
      entry->dtype = type;
      entry->n_element = type == CLIPC__DTYPE_F32 ? 4 : 2;
      entry->n_bytes = (uint64_t)clipc__tensor_numbers(tensor) * entry->n_element;
    }
    job->n_bytes += entry->n_bytes;
    job->n++;
  }
  qsort(job->list, job->n, sizeof *job->list, convert_by_size_and_name);
  return CLIPC_OK;
}

/* The end of the shard that begins at first. */
static size_t convert_shard_end(const struct convert_job *job, size_t first) {
  uint64_t most = job->options->shard_bytes, n_bytes = job->list[first].n_bytes;
  size_t end = first + 1;
  while (end < job->n && (most == 0 || (n_bytes <= most && job->list[end].n_bytes <= most - n_bytes)))
    n_bytes += job->list[end++].n_bytes;
  return end;
}

static clipc_status convert_open(struct convert_job *job) {
  struct clipc__store store = {.path = job->from};
  clipc_options opener = *job->opener;
  enum clipc__naming naming;
  opener.towers = job->options->towers;
  if (!clipc__is_folder(job->from))
    return clipc__fail(job->error, CLIPC_E_IO, "%s: there is no such folder; packed files are not converted",
                       job->from);
  clipc_status status = clipc__config_read(&job->config, &store, &opener, job->error);
  if (status == CLIPC_OK && opener.towers != 0) {
    struct clipc__config whole;
    clipc_options all = opener;
    all.towers = 0;
    job->single = clipc__config_read(&whole, &store, &all, NULL) != CLIPC_OK || /* broken where it is not needed */
                  (whole.vision.present && whole.text.present);
    if (job->single && job->config.open_clip)
      return clipc__fail(job->error, CLIPC_E_UNSUPPORTED,
                         "%s: open_clip has no folders of one tower; clipc pack can leave one out", job->from);
  }
  if (status == CLIPC_OK)
    status = clipc__tensors_open(&job->tensors, job->from, job->config.open_clip, &opener, job->error);
  if (status == CLIPC_OK) status = clipc__tensors_cover(&job->tensors, &job->config, job->error);
  if (status == CLIPC_OK) status = clipc__naming_detect(&naming, &job->tensors, &job->config, job->error);
  if (status != CLIPC_OK) return status;
  bool *used = clipc__alloc_zeroed(&opener.allocator, job->tensors.n_tensors, sizeof *used);
  if (used == NULL) return clipc__no_memory(job->error, job->from);
  status = clipc__parts_check(used, &job->tensors, &job->config, naming, job->error);
  if (status == CLIPC_OK) status = convert_list(job, used);
  clipc__free(&opener.allocator, used);
  for (size_t i = 0; status == CLIPC_OK && i < job->n; job->n_shards++) i = convert_shard_end(job, i);
  if (status == CLIPC_OK && job->n_shards > CONVERT_MOST_SHARDS)
    return clipc__fail(job->error, CLIPC_E_LIMIT, "%s: shards of %llu bytes would be %zu; %u are the most", job->to,
                       (unsigned long long)job->options->shard_bytes, job->n_shards, CONVERT_MOST_SHARDS);
  return status;
}

/* ---- JSON */

static bool convert_put(struct clipc__bytes *out, const char *text) {
  return clipc__bytes_append(out, text, strlen(text));
}

static bool convert_put_string(struct clipc__bytes *out, const char *string) {
  bool done = convert_put(out, "\"");
  for (const char *at = string; *at != '\0' && done; at++) {
    char escaped[8] = {*at, '\0'};
    if (*at == '"' || *at == '\\')
      snprintf(escaped, sizeof escaped, "\\%c", *at);
    else if ((unsigned char)*at < ' ')
      snprintf(escaped, sizeof escaped, "\\u%04x", (unsigned)*at);
    done = convert_put(out, escaped);
  }
  return done && convert_put(out, "\"");
}

/* {"__metadata__":{...},"name":{"dtype":...,"shape":[...],"data_offsets":[...]},...} and spaces up to a multiple of 8.
 */
static bool convert_header(struct clipc__bytes *out, const struct convert_job *job, size_t first, size_t end) {
  static const char *const names[] = {"F32", "F16", "BF16"};
  char text[64];
  uint64_t at = 0;
  bool done = convert_put(out, "{\"__metadata__\":{\"format\":\"pt\"}"); /* which transformers wants */
  for (size_t i = first; i < end && done; i++) {
    const struct convert_tensor *entry = &job->list[i];
    const struct clipc__tensor *tensor = entry->from;
    const char *type = entry->dtype == CLIPC__DTYPE_OTHER ? tensor->dtype_name : names[entry->dtype];
    done = convert_put(out, ",") && convert_put_string(out, tensor->name) && convert_put(out, ":{\"dtype\":\"") &&
           convert_put(out, type) && convert_put(out, "\",\"shape\":[");
    for (int d = 0; d < tensor->rank && done; d++) {
      snprintf(text, sizeof text, "%s%llu", d > 0 ? "," : "", (unsigned long long)tensor->shape[d]);
      done = convert_put(out, text);
    }
    snprintf(text, sizeof text, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)at,
             (unsigned long long)(at + entry->n_bytes));
    done = done && convert_put(out, text);
    at += entry->n_bytes;
  }
  done = done && convert_put(out, "}");
  while (done && out->n_bytes % 8 != 0) done = convert_put(out, " ");
  return done;
}

/* ---- writing */

/* Opens a file of the new folder; sentences name its final place. */
static clipc_status convert_create(struct clipc__writer *writer, const struct convert_job *job, const char *name,
                                   char **path, char **shown) {
  const clipc_allocator *allocator = &job->opener->allocator;
  *path = clipc__path_join(allocator, job->folder, name);
  *shown = clipc__path_join(allocator, job->to, name);
  clipc_status status = CLIPC_OK;
  if (*path == NULL || *shown == NULL)
    status = clipc__no_memory(job->error, name);
  else
    status = clipc__writer_open(writer, *path, allocator, job->error);
  if (status == CLIPC_OK) writer->path = *shown;
  return status;
}

static void convert_release(const struct convert_job *job, char *path, char *shown) {
  clipc__free(&job->opener->allocator, path);
  clipc__free(&job->opener->allocator, shown);
}

static clipc_status convert_file(const struct convert_job *job, const char *name, const void *data, size_t n_bytes) {
  struct clipc__writer writer;
  char *path, *shown;
  clipc_status status = convert_create(&writer, job, name, &path, &shown);
  if (status == CLIPC_OK) {
    clipc__writer_put(&writer, data, n_bytes);
    status = clipc__writer_close(&writer, CLIPC_OK, job->error);
  }
  convert_release(job, path, shown);
  return status;
}

/* Counts on; what was read need not stay in memory. */
static clipc_status convert_advance(struct convert_job *job, uint64_t n_written, uint64_t n_read) {
  job->n_done += n_written;
  job->n_read += n_read;
  if (job->n_read >= CONVERT_REST_BYTES) {
    for (size_t i = 0; i < job->tensors.n_files; i++) clipc__file_rest(&job->tensors.files[i]);
    job->n_read = 0;
  }
  if (job->options->progress == NULL || job->options->progress(job->options->context, job->n_done, job->n_bytes) == 0)
    return CLIPC_OK;
  return clipc__fail(job->error, CLIPC_E_CANCELLED, "%s: the conversion was cancelled", job->to);
}

static clipc_status convert_narrow(struct convert_job *job, const struct convert_tensor *entry, size_t n) {
  size_t n_narrow = clipc__narrow(job->narrow, entry->dtype, job->numbers, n);
  if (n_narrow == n) return CLIPC_OK;
  return clipc__fail(job->error, CLIPC_E_UNSUPPORTED, "%s: tensor %s holds %g, which %s cannot hold", entry->from->file,
                     entry->from->name, (double)job->numbers[n_narrow],
                     entry->dtype == CLIPC__DTYPE_F16 ? "F16" : "BF16");
}

static clipc_status convert_tensor(struct convert_job *job, const struct convert_tensor *entry,
                                   struct clipc__writer *writer) {
  const struct clipc__tensor *tensor = entry->from;
  clipc_status status = CLIPC_OK;
  bool as_it_is = entry->dtype == tensor->dtype;
  uint64_t n_all = as_it_is ? tensor->n_bytes : (uint64_t)clipc__tensor_numbers(tensor);
  uint64_t most = as_it_is ? CONVERT_NUMBERS * sizeof(float) : CONVERT_NUMBERS;
  for (uint64_t done = 0; done < n_all && status == CLIPC_OK;) {
    size_t n = (size_t)(n_all - done < most ? n_all - done : most);
    uint64_t n_written = as_it_is ? n : n * entry->n_element;
    const void *bytes = as_it_is ? (const void *)(tensor->data + done) : job->numbers;
    if (!as_it_is) clipc__tensor_widen(job->numbers, tensor, (size_t)done, n);
    if (!as_it_is && entry->dtype != CLIPC__DTYPE_F32) {
      status = convert_narrow(job, entry, n);
      bytes = job->narrow;
    }
    if (status != CLIPC_OK) return status;
    clipc__writer_put(writer, bytes, (size_t)n_written);
    if (writer->error != 0) return CLIPC_OK; /* told when it is closed */
    status = convert_advance(job, n_written, as_it_is ? n : n * (tensor->n_bytes / n_all));
    done += n;
  }
  return status;
}

static clipc_status convert_shard(struct convert_job *job, const char *name, size_t first, size_t end) {
  struct clipc__writer writer;
  char *path, *shown;
  struct clipc__bytes header = {.allocator = job->opener->allocator};
  clipc_status status = CLIPC_OK;
  if (!convert_header(&header, job, first, end)) status = clipc__no_memory(job->error, name);
  if (status != CLIPC_OK) {
    clipc__bytes_free(&header);
    return status;
  }
  status = convert_create(&writer, job, name, &path, &shown);
  if (status == CLIPC_OK) {
    clipc__writer_put(&writer, &(uint64_t){header.n_bytes}, sizeof(uint64_t));
    clipc__writer_put(&writer, header.data, header.n_bytes);
    for (size_t i = first; i < end && status == CLIPC_OK && writer.error == 0; i++)
      status = convert_tensor(job, &job->list[i], &writer);
    status = clipc__writer_close(&writer, status, job->error);
  }
  convert_release(job, path, shown);
  clipc__bytes_free(&header);
  return status;
}

/* {"metadata":{"total_size":...},"weight_map":{"name":"file",...}} */
static clipc_status convert_index(const struct convert_job *job) {
  struct clipc__bytes out = {.allocator = job->opener->allocator};
  char text[96];
  size_t shard = 0, end = 0;
  snprintf(text, sizeof text, "{\"metadata\":{\"total_size\":%llu},\"weight_map\":{", (unsigned long long)job->n_bytes);
  bool done = convert_put(&out, text);
  for (size_t i = 0; i < job->n && done; i++) {
    if (i == end) {
      end = convert_shard_end(job, i);
      shard++;
    }
    snprintf(text, sizeof text, ":\"model-%05zu-of-%05zu.safetensors\"", shard, job->n_shards);
    done = (i == 0 || convert_put(&out, ",\n")) && convert_put_string(&out, job->list[i].from->name) &&
           convert_put(&out, text);
  }
  done = done && convert_put(&out, "}}\n");
  clipc_status status = done ? convert_file(job, "model.safetensors.index.json", out.data, out.n_bytes)
                             : clipc__no_memory(job->error, job->to);
  clipc__bytes_free(&out);
  return status;
}

static clipc_status convert_weights(struct convert_job *job) {
  const char *name = job->tensors.file_name;
  char shard_name[64];
  size_t n_name = strlen(name);
  bool was_index = n_name > 5 && strcmp(name + n_name - 5, ".json") == 0;
  if (job->n_shards == 1) return convert_shard(job, was_index ? "model.safetensors" : name, 0, job->n);
  clipc_status status = CLIPC_OK;
  for (size_t shard = 1, first = 0; first < job->n && status == CLIPC_OK; shard++) {
    size_t end = convert_shard_end(job, first);
    snprintf(shard_name, sizeof shard_name, "model-%05zu-of-%05zu.safetensors", shard, job->n_shards);
    status = convert_shard(job, shard_name, first, end);
    first = end;
  }
  return status == CLIPC_OK ? convert_index(job) : status;
}

static clipc_status convert_copy(const struct convert_job *job, const char *name) {
  const clipc_allocator *allocator = &job->opener->allocator;
  struct clipc__file file;
  char *path = clipc__path_join(allocator, job->from, name);
  if (path == NULL) return clipc__no_memory(job->error, name);
  clipc_status status = CLIPC_OK;
  if (clipc__is_file(path)) {
    status = clipc__file_open(&file, path, false, job->opener->limits.max_config_bytes, allocator, job->error);
    if (status == CLIPC_OK) {
      status = convert_file(job, name, file.data, file.n_bytes);
      clipc__file_close(&file);
    }
  }
  clipc__free(allocator, path);
  return status;
}

static clipc_status convert_small_files(const struct convert_job *job) {
  clipc_status status = CLIPC_OK;
  struct clipc__store store = {.path = job->from};
  bool pictures = job->config.vision.present;
  for (const char *const *name = clipc__config_files(); *name && status == CLIPC_OK; name++) {
    bool of_pictures = strstr(*name, "processor") != NULL;
    if (job->single && strcmp(*name, "config.json") == 0) {
      struct clipc__bytes text = {.allocator = job->opener->allocator};
      status = clipc__config_single(&text, &store, job->options->towers, job->opener, job->error);
      if (status == CLIPC_OK) status = convert_file(job, *name, text.data, text.n_bytes);
      clipc__bytes_free(&text);
    } else if (pictures || !of_pictures) {
      status = convert_copy(job, *name);
    }
  }
  for (const char *const *name = clipc__tokenizer_files(); *name && status == CLIPC_OK; name++)
    if (job->config.text.present) status = convert_copy(job, *name);
  return status;
}

/* ---- the folder */

static clipc_status convert_failed(const struct convert_job *job, int number) {
  return clipc__fail(job->error, CLIPC_E_IO, "%s: cannot be written: %s", job->to, strerror(number));
}

/* The bytes of a path before its last name, slashes at the end left out. */
static size_t convert_parent(const char *path) {
  size_t n = strlen(path);
  while (n > 1 && path[n - 1] == '/') n--;
  while (n > 0 && path[n - 1] != '/') n--;
  return n;
}

static void convert_empty(int descriptor) {
  int copy = dup(descriptor);
  DIR *folder = copy < 0 ? NULL : fdopendir(copy);
  if (folder == NULL && copy >= 0) close(copy);
  if (folder != NULL) rewinddir(folder); /* the copy stands where the descriptor stands */
  for (struct dirent *entry; folder != NULL && (entry = readdir(folder)) != NULL;)
    if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) unlinkat(descriptor, entry->d_name, 0);
  if (folder != NULL) closedir(folder);
}

/* Makes a folder that is locked, or takes over one whose owner was ended by force: nobody holds its lock. Returns its
 * descriptor; -1 with errno EEXIST where another process has it. */
static int convert_take_folder(const char *path) {
  struct stat ours, there;
  bool made = mkdir(path, 0777) == 0;
  if (!made && errno != EEXIST) return -1;
  int descriptor = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  bool locked = descriptor >= 0 && flock(descriptor, LOCK_EX | LOCK_NB) == 0;
  if (descriptor >= 0 && !locked && made && errno != EWOULDBLOCK) return descriptor; /* a file system without locks */
  if (locked && fstat(descriptor, &ours) == 0 && lstat(path, &there) == 0 && ours.st_ino == there.st_ino &&
      ours.st_dev == there.st_dev) { /* else it has got its name meanwhile */
    convert_empty(descriptor);
    return descriptor;
  }
  if (descriptor >= 0) close(descriptor);
  errno = EEXIST;
  return -1;
}

static clipc_status convert_make_folder(struct convert_job *job) {
  struct stat info;
  if (*job->to == '\0') return convert_failed(job, ENOENT);
  if (lstat(job->to, &info) == 0 && !(S_ISDIR(info.st_mode) && clipc__is_empty_folder(job->to)))
    return clipc__fail(job->error, CLIPC_E_IO, "%s: is there already; a conversion makes a new folder", job->to);
  size_t n = convert_parent(job->to), n_name = strcspn(job->to + n, "/"), n_bytes = n + 256;
  char *path = clipc__alloc(&job->opener->allocator, n_bytes, 1);
  if (path == NULL) return clipc__no_memory(job->error, job->to);
  if (n_name > 200) n_name = 200;
  int number = EEXIST;
  for (unsigned attempt = 0; attempt < 1000 && number == EEXIST; attempt++) {
    snprintf(path, n_bytes, "%.*s.%.*s.clipc-%u.tmp", (int)n, job->to, (int)n_name, job->to + n, attempt);
    job->lock = convert_take_folder(path);
    number = job->lock >= 0 ? 0 : errno;
  }
  if (number == 0) {
    job->folder = path;
    return CLIPC_OK;
  }
  clipc__free(&job->opener->allocator, path);
  return convert_failed(job, number);
}

/* Gives the folder its name, or takes it away with all that is in it. */
static clipc_status convert_close_folder(struct convert_job *job, clipc_status status) {
  if (job->folder == NULL) return status;
  bool keep = status == CLIPC_OK && clipc__sync_folder(job->folder);
  if (keep && rename(job->folder, job->to) != 0) keep = false;
  if (status == CLIPC_OK && !keep) status = convert_failed(job, errno);
  if (!keep) {
    convert_empty(job->lock);
    rmdir(job->folder);
  }
  close(job->lock);
  size_t n = convert_parent(job->to);
  job->folder[n] = '\0'; /* which begins with the same parent */
  if (keep) clipc__sync_folder(n > 0 ? job->folder : ".");
  clipc__free(&job->opener->allocator, job->folder);
  job->folder = NULL;
  return status;
}

clipc_status clipc__convert(const char *from, const char *to, const clipc_convert_options *options,
                            const clipc_options *opener, clipc_conversion *made, clipc_error *error) {
  struct convert_job *job = clipc__alloc_zeroed(&opener->allocator, 1, sizeof *job);
  if (job == NULL) return clipc__no_memory(error, from);
  job->options = options;
  job->opener = opener;
  job->from = from;
  job->to = to;
  job->error = error;
  clipc_status status = convert_open(job);
  if (status == CLIPC_OK) status = convert_make_folder(job);
  if (status == CLIPC_OK) {
    job->numbers = clipc__alloc(&opener->allocator, CONVERT_NUMBERS, sizeof *job->numbers);
    job->narrow = clipc__alloc(&opener->allocator, CONVERT_NUMBERS, 2);
    if (job->numbers == NULL || job->narrow == NULL) status = clipc__no_memory(error, from);
  }
  if (status == CLIPC_OK) status = convert_weights(job);
  if (status == CLIPC_OK) status = convert_small_files(job);
  struct clipc__space space;
  clipc_options all = *opener;
  all.towers = 0;
  if (status == CLIPC_OK) status = clipc__space_of_folder(&space, &job->config, job->folder, &all, error);
  status = convert_close_folder(job, status);
  if (status == CLIPC_OK && made != NULL) {
    *made = (clipc_conversion){.n_tensors = job->n, .n_files = job->n_shards, .n_bytes = job->n_bytes};
    clipc__space_text(made->fingerprint, &space, &job->config, CLIPC_PRECISION_F32);
  }
  clipc__tensors_close(&job->tensors);
  clipc__free(&opener->allocator, job->list);
  clipc__free(&opener->allocator, job->numbers);
  clipc__free(&opener->allocator, job->narrow);
  clipc__free(&opener->allocator, job);
  return status;
}

#undef CONVERT_NUMBERS
#undef CONVERT_REST_BYTES
#undef CONVERT_MOST_SHARDS
