/* The list of things to compute, in command-line order.
 * In: --image and --text values, folders, lists of paths on stdin. Out: cli_inputs, each with memory of its own.
 * A folder gives its own pictures by their names' endings, sorted by name; hidden ones are left out. */
#include "cli/inputs.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

static const char *const endings[] = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".pnm", ".pgm", ".ppm", ".pbm"};
static const char no_pictures[] = "no pictures in this folder (.jpg .jpeg .png .bmp .gif .pnm .pgm .ppm .pbm)";

static struct cli_input *add(struct cli_inputs *inputs, bool is_text, const char *text, size_t n_bytes) {
  inputs->items = cli_grow(inputs->items, &inputs->capacity, inputs->n + 1, sizeof *inputs->items);
  struct cli_input *item = &inputs->items[inputs->n++];
  *item = (struct cli_input){.is_text = is_text, .text = cli_copy(text, n_bytes), .n_bytes = n_bytes};
  return item;
}

void cli_add_text(struct cli_inputs *inputs, const char *text, size_t n_bytes) { add(inputs, true, text, n_bytes); }

static bool is_folder(const char *path) {
  struct stat status;
  return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

static bool is_picture_name(const char *name) {
  size_t n = strlen(name);
  if (name[0] == '.') return false;
  for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
    size_t n_ending = strlen(endings[i]);
    if (n > n_ending && strcasecmp(name + n - n_ending, endings[i]) == 0) return true;
  }
  return false;
}

static int by_name(const void *left, const void *right) {
  return strcmp(((const struct cli_input *)left)->text, ((const struct cli_input *)right)->text);
}

/* Adds the pictures of a folder; returns what was wrong, or NULL. */
static const char *add_folder(struct cli_inputs *inputs, const char *folder) {
  DIR *open_folder = opendir(folder);
  if (open_folder == NULL) return strerror(errno);
  const size_t first = inputs->n, n_folder = strlen(folder);
  const char *slash = folder[n_folder - 1] == '/' ? "" : "/";
  struct dirent *entry;
  while (errno = 0, (entry = readdir(open_folder)) != NULL) {
    if (!is_picture_name(entry->d_name)) continue;
    size_t n_bytes = n_folder + strlen(slash) + strlen(entry->d_name);
    char *path = cli_allocate(n_bytes + 1, 1);
    snprintf(path, n_bytes + 1, "%s%s%s", folder, slash, entry->d_name);
    if (!is_folder(path)) add(inputs, false, path, n_bytes);
    free(path);
  }
  int error = errno;
  closedir(open_folder);
  if (inputs->n == first) return error != 0 ? strerror(error) : no_pictures;
  qsort(inputs->items + first, inputs->n - first, sizeof *inputs->items, by_name);
  return NULL;
}

/* All of a file or of stdin. */
static char *read_all(struct cli_inputs *inputs, const char *path, size_t *n_bytes) {
  bool from_stdin = strcmp(path, "-") == 0;
  if (from_stdin && inputs->used_stdin) {
    cli_complain("standard input can be read only once");
    return NULL;
  }
  inputs->used_stdin |= from_stdin;
  errno = 0;
  FILE *file = from_stdin ? stdin : fopen(path, "rb");
  char *data = NULL;
  size_t n = 0, capacity = 0;
  while (file != NULL) {
    data = cli_grow(data, &capacity, n + 65536, 1);
    size_t got = fread(data + n, 1, capacity - n, file);
    n += got;
    if (got == 0) break;
  }
  bool failed = file == NULL || ferror(file);
  int error = errno;
  if (file != NULL && !from_stdin) fclose(file);
  if (failed) {
    cli_complain("%s: cannot be read: %s", from_stdin ? "standard input" : path, strerror(error));
    free(data);
    return NULL;
  }
  *n_bytes = n;
  return data;
}

/* A path out of a list: one that is no good spoils only its own result. */
static void add_listed_path(struct cli_inputs *inputs, const char *path) {
  const char *trouble = is_folder(path) ? add_folder(inputs, path) : NULL;
  if (trouble != NULL) {
    add(inputs, false, path, strlen(path))->trouble = trouble;
  } else if (!is_folder(path)) {
    add(inputs, false, path, strlen(path));
  }
}

/* Splits a list; as_paths: its lines are paths of pictures, else texts. */
static bool add_list(struct cli_inputs *inputs, const char *path, bool as_paths, bool paths_or_labels) {
  size_t n_bytes;
  char *data = read_all(inputs, path, &n_bytes);
  if (data == NULL) return false;
  const char *at = data, *end = data + n_bytes;
  char separator = '\n';
  if (paths_or_labels) {
    if (n_bytes >= 3 && memcmp(at, "\xEF\xBB\xBF", 3) == 0) at += 3;
    if (at < end && memchr(at, '\0', (size_t)(end - at)) != NULL) separator = '\0'; /* as find -print0 writes */
  }
  while (at < end) {
    const char *stop = memchr(at, separator, (size_t)(end - at));
    const char *next = stop == NULL ? end : stop + 1;
    size_t n = (size_t)((stop == NULL ? end : stop) - at);
    if (separator == '\n' && n > 0 && at[n - 1] == '\r') n--;
    if (n > 0 || !paths_or_labels) {
      char *line = cli_copy(at, n);
      if (as_paths) {
        add_listed_path(inputs, line);
      } else {
        add(inputs, true, line, n);
      }
      free(line);
    }
    at = next;
  }
  free(data);
  return true;
}

bool cli_add_image(struct cli_inputs *inputs, const char *path) {
  if (strcmp(path, "-") == 0) return add_list(inputs, path, true, true);
  if (!is_folder(path)) {
    add(inputs, false, path, strlen(path));
    return true;
  }
  const char *trouble = add_folder(inputs, path);
  if (trouble != NULL) cli_complain("%s: %s", path, trouble);
  return trouble == NULL;
}

bool cli_add_lines(struct cli_inputs *inputs, const char *path, bool paths_or_labels) {
  return add_list(inputs, path, false, paths_or_labels);
}

void cli_inputs_free(struct cli_inputs *inputs) {
  for (size_t i = 0; i < inputs->n; i++) free(inputs->items[i].text);
  free(inputs->items);
  *inputs = (struct cli_inputs){0};
}
