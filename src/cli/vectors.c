/* Vectors out of files that clipc embed wrote: lines of JSON, or .npy.
 * In: files that may be anything. Out: vectors with their inputs and fingerprints, or a sentence with the file and the
 * line. Of a line "input", "fingerprint" and "embedding" are looked at, in any order; the rest must be JSON and no
 * more. */
#include "cli/vectors.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- JSON */

struct scan {
  const char *at; /* NUL-terminated */
};

static char next_of(struct scan *scan) {
  scan->at += strspn(scan->at, " \t\r\n");
  return *scan->at;
}

static bool take(struct scan *scan, char c) {
  if (next_of(scan) != c) return false;
  scan->at++;
  return true;
}

static int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if ((c | 32) >= 'a' && (c | 32) <= 'f') return (c | 32) - 'a' + 10;
  return -1;
}

static bool scan_unit(struct scan *scan, uint32_t *unit) {
  *unit = 0;
  for (int i = 0; i < 4; i++) {
    int digit = hex_digit(*scan->at);
    if (digit < 0) return false;
    *unit = *unit << 4 | (uint32_t)digit;
    scan->at++;
  }
  return true;
}

static size_t write_utf8(char *out, uint32_t c) {
  if (c < 0x80) {
    out[0] = (char)c;
    return 1;
  }
  size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
  static const unsigned char heads[] = {0, 0, 0xC0, 0xE0, 0xF0};
  for (size_t i = n - 1; i > 0; i--, c >>= 6) out[i] = (char)(0x80 | (c & 0x3F));
  out[0] = (char)(heads[n] | c);
  return n;
}

/* A string's bytes, escapes decoded; never longer than it is written. out may be NULL to pass over it. */
static bool scan_string(struct scan *scan, char *out) {
  static const char names[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
  char character[4];
  if (!take(scan, '"')) return false;
  while (*scan->at != '"') {
    size_t n = 1;
    character[0] = *scan->at++;
    if ((unsigned char)character[0] < ' ') return false; /* the end of the line too */
    if (character[0] == '\\') {
      const char *name = *scan->at != '\0' ? strchr(names, *scan->at) : NULL;
      uint32_t unit, low;
      if (name != NULL) {
        character[0] = meanings[name - names];
        scan->at++;
      } else {
        if (*scan->at++ != 'u' || !scan_unit(scan, &unit)) return false;
        if (unit >= 0xD800 && unit < 0xDC00 && scan->at[0] == '\\' && scan->at[1] == 'u') {
          scan->at += 2;
          if (!scan_unit(scan, &low) || low < 0xDC00 || low > 0xDFFF) return false;
          unit = 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
        }
        n = write_utf8(character, unit);
      }
    }
    if (out != NULL) memcpy(out, character, n);
    if (out != NULL) out += n;
  }
  scan->at++;
  if (out != NULL) *out = '\0';
  return true;
}

static bool scan_number(struct scan *scan, double *number) {
  char first = next_of(scan), *end;
  if (first != '-' && (first < '0' || first > '9')) return false;
  *number = strtod(scan->at, &end);
  bool fine = end != scan->at && end[-1] != 'f' && end[-1] != 'F'; /* no hexadecimal ones, no "inf" */
  scan->at = end;
  return fine;
}

/* Any value; brackets may be depth deep. */
static bool scan_over(struct scan *scan, int depth) {
  static const char *const words[] = {"true", "false", "null"};
  char open = next_of(scan), close = open == '{' ? '}' : ']';
  double number;
  if (open == '"') return scan_string(scan, NULL);
  for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
    if (strncmp(scan->at, words[i], strlen(words[i])) != 0) continue;
    scan->at += strlen(words[i]);
    return true;
  }
  if (open != '{' && open != '[') return scan_number(scan, &number);
  if (depth == 0) return false;
  scan->at++;
  if (take(scan, close)) return true;
  do {
    if (open == '{' && !(scan_string(scan, NULL) && take(scan, ':'))) return false;
    if (!scan_over(scan, depth - 1)) return false;
  } while (take(scan, ','));
  return take(scan, close);
}

static bool scan_vector(struct scan *scan, struct cli_vectors *vectors) {
  vectors->dimension = 0;
  if (!take(scan, '[')) return false;
  do {
    double number;
    if (!scan_number(scan, &number)) return false;
    vectors->vector =
        cli_grow(vectors->vector, &vectors->vector_capacity, vectors->dimension + 1, sizeof *vectors->vector);
    vectors->vector[vectors->dimension++] = (float)number;
  } while (take(scan, ','));
  return take(scan, ']');
}

/* {"input":...,"fingerprint":...,"embedding":[...]} and what else there may be. */
static bool scan_object(struct scan *scan, struct cli_vectors *vectors, bool *has_vector) {
  const size_t n_line = strlen(scan->at);
  char *text = cli_allocate(n_line + 1, 1);
  bool fine = take(scan, '{');
  *has_vector = false;
  while (fine && next_of(scan) != '}') {
    fine = scan_string(scan, text) && take(scan, ':');
    if (fine && strcmp(text, "embedding") == 0) {
      fine = *has_vector = scan_vector(scan, vectors);
    } else if (fine && strcmp(text, "input") == 0) {
      fine = scan_string(scan, text);
      free(vectors->input);
      vectors->input = fine ? cli_copy(text, strlen(text)) : NULL;
    } else if (fine && strcmp(text, "fingerprint") == 0) {
      fine = scan_string(scan, text);
      if (fine) snprintf(vectors->fingerprint, sizeof vectors->fingerprint, "%s", text);
    } else {
      fine = fine && scan_over(scan, 16);
    }
    if (!take(scan, ',')) break;
  }
  fine = fine && take(scan, '}') && next_of(scan) == '\0';
  free(text);
  return fine;
}

/* ---- lines */

static int complain(const struct cli_vectors *vectors, const char *what) {
  cli_complain("%s: %s", vectors->path, what);
  return -1;
}

static int next_line(struct cli_vectors *vectors) {
  bool has_vector = false;
  while (!has_vector) {
    errno = 0;
    if (getline(&vectors->line, &vectors->capacity, vectors->file) < 0)
      return ferror(vectors->file) ? complain(vectors, strerror(errno)) : 0;
    vectors->row++;
    struct scan scan = {vectors->line};
    if (next_of(&scan) == '\0') continue;
    vectors->fingerprint[0] = '\0';
    free(vectors->input);
    vectors->input = NULL;
    if (!scan_object(&scan, vectors, &has_vector)) {
      cli_complain("%s: line %zu is not a line of clipc embed", vectors->path, vectors->row);
      return -1;
    }
    if (has_vector && vectors->input == NULL) vectors->input = cli_copy("", 0);
  }
  return 1;
}

/* ---- arrays */

/* What stands behind a key of the header, "'shape': " say; "" where it is not there. */
static const char *header_value(const char *header, const char *key) {
  const char *at = strstr(header, key);
  return at == NULL ? "" : at + strlen(key);
}

static bool open_array(struct cli_vectors *vectors) {
  unsigned char start[10];
  if (fread(start, 1, sizeof start, vectors->file) != sizeof start || start[6] != 1) return false;
  size_t n_header = (size_t)start[8] | (size_t)start[9] << 8;
  char *header = cli_allocate(n_header + 1, 1), end = '\0';
  bool fine = fread(header, 1, n_header, vectors->file) == n_header;
  unsigned long long n_rows = 0, dimension = 0;
  fine = fine && strncmp(header_value(header, "'descr': "), "'<f4'", 5) == 0;
  fine = fine && strncmp(header_value(header, "'fortran_order': "), "False", 5) == 0;
  fine = fine && sscanf(header_value(header, "'shape': "), "(%llu, %llu%c", &n_rows, &dimension, &end) == 3;
  free(header);
  if (!fine || (end != ')' && end != ',') || dimension == 0 || dimension > 1u << 20) return false;
  vectors->n_rows = (size_t)n_rows;
  vectors->dimension = (size_t)dimension;
  vectors->vector = cli_allocate(vectors->dimension, sizeof *vectors->vector);
  return true;
}

/* The fingerprint beside an array; there may be none. */
static bool read_beside(struct cli_vectors *vectors) {
  size_t n_path = strlen(vectors->path) + 6, capacity = 0;
  char *path = cli_allocate(n_path, 1), *line = NULL;
  bool fine = true, has_vector;
  snprintf(path, n_path, "%s.json", vectors->path);
  FILE *file = fopen(path, "rb");
  if (file != NULL && getline(&line, &capacity, file) > 0) {
    struct scan scan = {line};
    fine = scan_object(&scan, vectors, &has_vector) && !has_vector;
    if (!fine) cli_complain("%s: is not what clipc embed writes beside an array", path);
  }
  if (file != NULL) fclose(file);
  free(line);
  free(path);
  return fine;
}

static int next_row(struct cli_vectors *vectors) {
  bool failed = true;
  while (failed) {
    if (vectors->n_rows == 0) return 0;
    vectors->n_rows--;
    for (size_t i = 0; i < vectors->dimension; i++) {
      unsigned char bytes[4];
      if (fread(bytes, 1, 4, vectors->file) != 4) return complain(vectors, "is cut short");
      uint32_t bits =
          (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
      memcpy(&vectors->vector[i], &bits, sizeof bits);
    }
    vectors->row++;
    failed = isnan(vectors->vector[0]);
  }
  char name[32];
  snprintf(name, sizeof name, "row %zu", vectors->row - 1);
  free(vectors->input);
  vectors->input = cli_copy(name, strlen(name));
  return 1;
}

/* ---- files */

bool cli_vectors_open(struct cli_vectors *vectors, const char *path) {
  *vectors = (struct cli_vectors){.path = path, .file = fopen(path, "rb")};
  if (vectors->file == NULL) {
    complain(vectors, strerror(errno));
    return false;
  }
  int first = getc(vectors->file);
  if (first != EOF) ungetc(first, vectors->file);
  vectors->is_array = first == 0x93;
  if (!vectors->is_array) return true;
  if (!open_array(vectors)) {
    complain(vectors, "is not an .npy of little-endian float32 in two dimensions");
    return false;
  }
  return read_beside(vectors);
}

int cli_vectors_next(struct cli_vectors *vectors) { return vectors->is_array ? next_row(vectors) : next_line(vectors); }

void cli_vectors_close(struct cli_vectors *vectors) {
  if (vectors->file != NULL) fclose(vectors->file);
  free(vectors->line);
  free(vectors->input);
  free(vectors->vector);
  *vectors = (struct cli_vectors){0};
}
