/* The C half of tests/goldens/make_models.py: the same weights, pictures and folders from the same names.
 * Values have at most eight significant bits, so a tensor needs a table of 256 values and a hash of every index. */
#include "synthetic.h"

#include "testing.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_RANK 8
#define N_BUFFER 65536

/* ---- the rule */

static uint32_t hash_name(const char *name) {
  uint32_t h = 0x811c9dc5u;
  for (; *name; name++) h = (h ^ (uint8_t)*name) * 0x01000193u;
  return h;
}

static inline uint8_t hash_byte(uint32_t name, uint32_t i) {
  uint32_t x = name ^ i * 0x9e3779b9u;
  x = (x ^ x >> 16) * 0x7feb352du;
  x = (x ^ x >> 15) * 0x846ca68bu;
  return (uint8_t)(x >> 24);
}

static bool ends_in(const char *name, const char *end) {
  size_t n = strlen(name), n_end = strlen(end);
  return n >= n_end && !strcmp(name + n - n_end, end);
}

/* The value of hash byte b in a tensor of this name and shape. */
static float weight_of(int b, const char *name, int rank, const uint64_t *shape) {
  uint64_t row = 1;
  int e = 0;
  if (rank == 0 || (rank == 1 && shape[0] == 1)) return ends_in(name, "logit_bias") ? -161.0f / 16 : 85.0f / 32;
  if (rank == 1) return ends_in(name, ".weight") ? 1 + (float)(b / 4 - 32) / 128 : (float)(2 * b - 255) / 2048;
  for (int r = 1; r < rank; r++) row *= shape[r];
  while (4ull << 2 * e <= row) e++;
  return (float)(2 * b - 255) / (float)(256 << e);
}

float synthetic_weight(const char *name, int rank, const uint64_t *shape, uint64_t i) {
  return weight_of(hash_byte(hash_name(name), (uint32_t)i), name, rank, shape);
}

void synthetic_pixels(float *pixels, int which, int height, int width) {
  char name[32];
  size_t n = (size_t)height * (size_t)width;
  snprintf(name, sizeof name, "pixels.%d", which);
  uint32_t noise = hash_name(name);
  snprintf(name, sizeof name, "colour.%d", which);
  for (uint32_t c = 0; c < 3; c++) {
    float colour = (float)(2 * hash_byte(hash_name(name), c) - 255) / 64;
    for (size_t i = c * n; i < (c + 1) * n; i++) {
      pixels[i] = (float)(2 * hash_byte(noise, (uint32_t)i) - 255) / 256 + colour;
    }
  }
}

void synthetic_rgb(uint8_t *rgb, int width, int height) {
  for (int y = 0; y < height; y++)
    for (int x = 0; x < width; x++)
      for (int c = 0; c < 3; c++) *rgb++ = (uint8_t)(7 * x + 13 * y + 29 * c + 5 * (x * y % 31));
}

/* ---- tensors.txt */

struct listed {
  char name[120], dtype[8];
  int rank, file; /* file: which of the folder's */
  float outlier;  /* the factor of the eight channels */
  uint64_t shape[MAX_RANK], n, n_bytes;
};

struct listing {
  char files[8][64];
  int n_files;
  struct listed *tensors;
  size_t n_tensors;
};

/* a/b, to be freed. */
static char *join(const char *a, const char *b) {
  size_t n = strlen(a) + strlen(b) + 2;
  char *path = malloc(n);
  if (!path) abort();
  snprintf(path, n, "%s/%s", a, b);
  return path;
}

static bool complain(const char *what, const char *path) {
  fprintf(stderr, "synthetic: %s: %s\n", path, what);
  return false;
}

static uint64_t dtype_bytes(const char *dtype) {
  return !strcmp(dtype, "I64") ? 8 : !strcmp(dtype, "F32") ? 4 : !strcmp(dtype, "U8") ? 1 : 2;
}

static bool list_shape(struct listed *tensor, const char *text) {
  tensor->rank = 0;
  for (char *end; *text != '-' && tensor->rank < MAX_RANK; text = end + 1) {
    tensor->shape[tensor->rank++] = strtoull(text, &end, 10);
    if (end == text || !*end) return end != text;
  }
  return *text == '-';
}

/* What trained CLIPs have: few channels of a layer norm far above the others. */
static float outlier_factor(const char *name) {
  static const char *const readers[] = {"q_proj.weight", "k_proj.weight", "v_proj.weight", "fc1.weight"};
  if (ends_in(name, "layer_norm1.weight") || ends_in(name, "layer_norm2.weight")) return 50;
  for (size_t i = 0; i < COUNT(readers); i++)
    if (ends_in(name, readers[i])) return 3.0f / 50;
  return 1;
}

static bool list_read(struct listing *list, const char *path, const struct synthetic_change *change) {
  char line[256], shape[64];
  FILE *in = fopen(path, "r");
  if (!in) return complain("cannot be opened", path);
  bool ok = true;
  while (ok && fgets(line, sizeof line, in)) {
    struct listed *grown = realloc(list->tensors, (list->n_tensors + 1) * sizeof *grown);
    if (!grown) {
      ok = false;
      break;
    }
    list->tensors = grown;
    struct listed *t = &grown[list->n_tensors];
    memset(t, 0, sizeof *t);
    if (list->n_files < 8 && sscanf(line, "file %63s", list->files[list->n_files]) == 1) {
      list->n_files++;
      continue;
    }
    ok = sscanf(line, "%7s %63s %119s", t->dtype, shape, t->name) == 3 && list_shape(t, shape) && list->n_files > 0;
    if (change->drop && !strcmp(t->name, change->drop)) continue;
    if (change->widen && !strcmp(t->name, change->widen) && t->rank) t->shape[t->rank - 1]++;
    if (change->dtype && strchr(t->dtype, 'F')) snprintf(t->dtype, sizeof t->dtype, "%s", change->dtype);
    t->file = list->n_files - 1;
    t->outlier = change->outliers ? outlier_factor(t->name) : 1;
    t->n = 1;
    for (int r = 0; r < t->rank; r++) t->n *= t->shape[r];
    t->n_bytes = t->n * dtype_bytes(t->dtype);
    list->n_tensors++;
  }
  fclose(in);
  return ok ? true : complain("a line cannot be read", path);
}

/* ---- safetensors */

/* The bits of a value that has few enough significant ones for the dtype. */
static uint32_t dtype_bits(const char *dtype, float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  if (!strcmp(dtype, "F32")) return bits;
  if (!strcmp(dtype, "BF16")) return bits >> 16;
  int exponent = (int)(bits >> 23 & 255) - 127 + 15; /* 1..30 here */
  return bits >> 31 << 15 | (uint32_t)exponent << 10 | (bits >> 13 & 1023);
}

static bool write_tensor(FILE *out, const struct listed *t, uint8_t *buffer) {
  uint32_t bits[256], name = hash_name(t->name);
  bool integers = !strchr(t->dtype, 'F');
  for (int b = 0; b < 256; b++) bits[b] = integers ? 0 : dtype_bits(t->dtype, weight_of(b, t->name, t->rank, t->shape));
  size_t size = dtype_bytes(t->dtype);
  for (uint64_t at = 0; at < t->n; at += N_BUFFER) {
    uint32_t n = t->n - at < N_BUFFER ? (uint32_t)(t->n - at) : N_BUFFER;
    if (integers) {
      for (uint64_t i = 0; i < n; i++) {
        uint64_t value = at + i;
        memcpy(buffer + i * size, &value, size);
      }
    } else if (size == 2) {
      for (uint32_t i = 0; i < n; i++)
        ((uint16_t *)(void *)buffer)[i] = (uint16_t)bits[hash_byte(name, (uint32_t)at + i)];
    } else {
      for (uint32_t i = 0; i < n; i++) ((uint32_t *)(void *)buffer)[i] = bits[hash_byte(name, (uint32_t)at + i)];
      uint64_t width = t->rank ? t->shape[t->rank - 1] : 1;
      for (uint32_t i = 0; t->outlier != 1 && i < n; i++)
        if ((at + i) % width % (width / 8) == 3) ((float *)(void *)buffer)[i] *= t->outlier;
    }
    if (fwrite(buffer, size, n, out) != n) return false;
  }
  return true;
}

static bool write_safetensors(const struct listing *list, int file, const char *folder) {
  char *path = join(folder, list->files[file]);
  size_t capacity = 16 + 320 * list->n_tensors, at = 0;
  char *header = malloc(capacity);
  uint8_t *buffer = malloc(8 * N_BUFFER);
  FILE *out = fopen(path, "wb");
  bool ok = header && buffer && out;
  uint64_t offset = 0;
  for (size_t i = 0; ok && i < list->n_tensors; i++) {
    const struct listed *t = &list->tensors[i];
    if (t->file != file) continue;
    at += (size_t)snprintf(header + at, capacity - at, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[", at ? "," : "{",
                           t->name, t->dtype);
    for (int r = 0; r < t->rank; r++)
      at += (size_t)snprintf(header + at, capacity - at, "%s%" PRIu64, r ? "," : "", t->shape[r]);
    at += (size_t)snprintf(header + at, capacity - at, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", offset,
                           offset + t->n_bytes);
    offset += t->n_bytes;
  }
  if (ok) {
    header[at++] = '}';
    while (at % 8) header[at++] = ' ';
    uint64_t n_header = at;
    ok = fwrite(&n_header, 8, 1, out) == 1 && fwrite(header, 1, at, out) == at;
  }
  for (size_t i = 0; ok && i < list->n_tensors; i++)
    if (list->tensors[i].file == file) ok = write_tensor(out, &list->tensors[i], buffer);
  if (out && fclose(out)) ok = false;
  if (!ok) complain("cannot be written", path);
  free(header);
  free(buffer);
  free(path);
  return ok;
}

static bool write_index(const struct listing *list, const char *folder) {
  char *path = join(folder, "model.safetensors.index.json");
  FILE *out = fopen(path, "w");
  free(path);
  if (!out) return complain("no index can be written", folder);
  fputs("{\"metadata\": {\"total_size\": 0}, \"weight_map\": {", out);
  for (size_t i = 0; i < list->n_tensors; i++)
    fprintf(out, "%s\n  \"%s\": \"%s\"", i ? "," : "", list->tensors[i].name, list->files[list->tensors[i].file]);
  fputs("\n}}\n", out);
  return fclose(out) ? complain("no index can be written", folder) : true;
}

/* ---- folders */

/* Copies a text file with every occurrence of from replaced. */
static bool copy_text(const char *source, const char *target, const char *from, const char *to) {
  char *text = test_read_file(source, NULL);
  FILE *out = text ? fopen(target, "w") : NULL;
  bool found = !from;
  for (const char *at = text, *hit; out && at; at = hit ? hit + strlen(from) : NULL) {
    hit = from ? strstr(at, from) : NULL;
    fprintf(out, "%.*s%s", hit ? (int)(hit - at) : (int)strlen(at), at, hit ? to : "");
    found = found || hit;
  }
  free(text);
  if (!out) return complain("cannot be copied", source);
  return fclose(out) || !found ? complain("lacks what is to be replaced", source) : true;
}

static bool write_folder(const char *folder, const char *model, const struct synthetic_change *change) {
  static const char *const configs[] = {"config.json", "open_clip_config.json", "preprocessor_config.json",
                                        "vocab.json", "merges.txt"};
  struct listing list = {.n_files = 0};
  char *golden = join("tests/goldens/models", model), *path;
  bool ok = true;
  for (int i = 0; ok && i < 5; i++) {
    path = join(golden, configs[i]);
    char *target = join(folder, configs[i]);
    if (!access(path, R_OK)) ok = copy_text(path, target, i < 2 ? change->config_from : NULL, change->config_to);
    free(path);
    free(target);
  }
  path = join(golden, "tensors.txt");
  ok = ok && list_read(&list, path, change);
  free(path);
  for (int i = 0; ok && i < list.n_files; i++) ok = write_safetensors(&list, i, folder);
  if (ok && list.n_files > 1) ok = write_index(&list, folder);
  free(list.tensors);
  free(golden);
  return ok;
}

char *synthetic_folder(const char *model, const struct synthetic_change *change) {
  static const struct synthetic_change none;
  char *folder = test_folder_new(model);
  if (!write_folder(folder, model, change ? change : &none)) fail_msg("%s: cannot be written", folder);
  return folder;
}
