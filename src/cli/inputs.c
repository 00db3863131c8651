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

static struct cli_input *add(struct cli_inputs *inputs, clipc_input_kind kind, const char *text, size_t n_bytes) {
  inputs->items = cli_grow(inputs->items, &inputs->capacity, inputs->n + 1, sizeof *inputs->items);
  struct cli_input *item = &inputs->items[inputs->n++];
  *item = (struct cli_input){.kind = kind, .text = cli_copy(text, n_bytes), .n_bytes = n_bytes};
  return item;
}

void cli_add_text(struct cli_inputs *inputs, const char *text, size_t n_bytes) {
  add(inputs, CLIPC_INPUT_TEXT, text, n_bytes);
}

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
    if (!is_folder(path)) add(inputs, CLIPC_INPUT_PATH, path, n_bytes);
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
    add(inputs, CLIPC_INPUT_PATH, path, strlen(path))->trouble = trouble;
  } else if (!is_folder(path)) {
    add(inputs, CLIPC_INPUT_PATH, path, strlen(path));
  }
}

/* Splits a list of inputs of one kind. Empty lines are texts when keep_empty. */
static bool add_list(struct cli_inputs *inputs, const char *path, clipc_input_kind kind, bool keep_empty) {
  size_t n_bytes;
  char *data = read_all(inputs, path, &n_bytes);
  if (data == NULL) return false;
  const char *at = data, *end = data + n_bytes;
  char separator = '\n';
  if (!keep_empty) {
    if (n_bytes >= 3 && memcmp(at, "\xEF\xBB\xBF", 3) == 0) at += 3;
    if (at < end && memchr(at, '\0', (size_t)(end - at)) != NULL) separator = '\0'; /* as find -print0 writes */
  }
  while (at < end) {
    const char *stop = memchr(at, separator, (size_t)(end - at));
    const char *next = stop == NULL ? end : stop + 1;
    size_t n = (size_t)((stop == NULL ? end : stop) - at);
    if (separator == '\n' && n > 0 && at[n - 1] == '\r') n--;
    if (n > 0 || keep_empty) {
      char *line = cli_copy(at, n);
      if (kind == CLIPC_INPUT_PATH) {
        add_listed_path(inputs, line);
      } else {
        add(inputs, kind, line, n);
      }
      free(line);
    }
    at = next;
  }
  free(data);
  return true;
}

bool cli_add_image(struct cli_inputs *inputs, const char *path) {
  if (strcmp(path, "-") == 0) return add_list(inputs, path, CLIPC_INPUT_PATH, false);
  if (!is_folder(path)) {
    add(inputs, CLIPC_INPUT_PATH, path, strlen(path));
    return true;
  }
  const char *trouble = add_folder(inputs, path);
  if (trouble != NULL) cli_complain("%s: %s", path, trouble);
  return trouble == NULL;
}

bool cli_add_remote(struct cli_inputs *inputs, clipc_input_kind kind, const char *value) {
  if (strcmp(value, "-") == 0) return add_list(inputs, value, kind, false);
  add(inputs, kind, value, strlen(value));
  return true;
}

bool cli_add_lines(struct cli_inputs *inputs, const char *path, bool labels) {
  return add_list(inputs, path, CLIPC_INPUT_TEXT, !labels);
}

int cli_towers_of(const struct cli_inputs *inputs) {
  int towers = 0;
  for (size_t i = 0; i < inputs->n; i++)
    towers |= inputs->items[i].kind == CLIPC_INPUT_TEXT ? CLIPC_TOWER_TEXT : CLIPC_TOWER_IMAGE;
  return towers;
}

void cli_inputs_free(struct cli_inputs *inputs) {
  for (size_t i = 0; i < inputs->n; i++) free(inputs->items[i].text);
  free(inputs->items);
  *inputs = (struct cli_inputs){0};
}

void cli_complain_of_image(const char *path, const clipc_error *error) {
  if (strncmp(error->message, path, strlen(path)) == 0) { /* most sentences of the library start with the file */
    cli_complain("%s", error->message);
  } else {
    cli_complain("%s: %s", path, error->message);
  }
}

void cli_complain_of(const struct cli_input *input, const clipc_error *error) {
  enum { MOST_COLUMNS = 60 };
  if (input->kind == CLIPC_INPUT_PATH || input->kind == CLIPC_INPUT_URL) {
    cli_complain_of_image(input->text, error);
    return;
  }
  char *clean = cli_clean(input->text, input->n_bytes);
  size_t n = cli_fit(clean, MOST_COLUMNS);
  cli_complain("%s \"%.*s%s\": %s", input->kind == CLIPC_INPUT_TEXT ? "text" : "base64", (int)n, clean,
               clean[n] != '\0' ? "..." : "", error->message);
  free(clean);
}

int cli_code_after(int code, const clipc_error *error) {
  return code == CLI_FAILED || error->status == CLIPC_E_MODEL ? CLI_FAILED : CLI_ITEM_FAILED;
}
