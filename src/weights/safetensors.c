/* safetensors: a file -> its tensors, or a sentence why not.
 * In: untrusted bytes. Out: tensors whose name, dtype, shape and byte range are proven to fit together and to fill
 * the file without hole, overlap or rest. Nothing is used before all of it is checked.
 * Must match: safetensors 0.8's reader in all that it refuses. On purpose refused as well: a tensor name that comes
 * twice, and serde's second spellings (an entry as an array, a dtype as an object). */
#include "weights/weights.h"

#include "base/json.h"

#include <stdlib.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensors are used where they lie, in little-endian");

struct safetensors_entry {
  struct clipc__tensor tensor;
  uint64_t begin, end;
  size_t n_name; /* names may hold NUL bytes */
};

struct safetensors_dtype {
  const char *name;
  int n_bits;
  enum clipc__dtype dtype;
};

static const struct safetensors_dtype safetensors_dtypes[] = {
    {"F32", 32, CLIPC__DTYPE_F32},          {"F16", 16, CLIPC__DTYPE_F16},          {"BF16", 16, CLIPC__DTYPE_BF16},
    {"BOOL", 8, CLIPC__DTYPE_OTHER},        {"F4", 4, CLIPC__DTYPE_OTHER},          {"F6_E2M3", 6, CLIPC__DTYPE_OTHER},
    {"F6_E3M2", 6, CLIPC__DTYPE_OTHER},     {"U8", 8, CLIPC__DTYPE_OTHER},          {"I8", 8, CLIPC__DTYPE_OTHER},
    {"F8_E5M2", 8, CLIPC__DTYPE_OTHER},     {"F8_E4M3", 8, CLIPC__DTYPE_OTHER},     {"F8_E8M0", 8, CLIPC__DTYPE_OTHER},
    {"F8_E4M3FNUZ", 8, CLIPC__DTYPE_OTHER}, {"F8_E5M2FNUZ", 8, CLIPC__DTYPE_OTHER}, {"I16", 16, CLIPC__DTYPE_OTHER},
    {"U16", 16, CLIPC__DTYPE_OTHER},        {"I32", 32, CLIPC__DTYPE_OTHER},        {"U32", 32, CLIPC__DTYPE_OTHER},
    {"F64", 64, CLIPC__DTYPE_OTHER},        {"I64", 64, CLIPC__DTYPE_OTHER},        {"U64", 64, CLIPC__DTYPE_OTHER},
    {"C64", 64, CLIPC__DTYPE_OTHER},
};

/* "shape": counted in elements, left to right, as the reference does: an overflow counts before a later 0. */
static bool safetensors_shape(struct clipc__json *json, struct clipc__tensor *tensor, uint64_t *n_elements) {
  size_t n = 0;
  uint64_t product = 1;
  if (!clipc__json_open(json, '[')) return false;
  while (clipc__json_more(json, ']', &n)) {
    uint64_t size;
    if (!clipc__json_u64(json, &size)) return false;
    if (__builtin_mul_overflow(product, size, &product))
      return clipc__json_fail(json, "a shape is beyond 2^64 elements");
    if (n <= CLIPC__MAX_RANK) tensor->shape[n - 1] = size;
    if (n > INT32_MAX) return clipc__json_fail(json, "a shape has too many dimensions");
  }
  tensor->rank = (int)n;
  *n_elements = product;
  return json->trouble == NULL;
}

static bool safetensors_offsets(struct clipc__json *json, struct safetensors_entry *entry) {
  size_t n = 0;
  if (!clipc__json_open(json, '[')) return false;
  while (clipc__json_more(json, ']', &n)) {
    uint64_t offset;
    if (!clipc__json_u64(json, &offset)) return false;
    if (n == 1)
      entry->begin = offset;
    else if (n == 2)
      entry->end = offset;
    else
      return clipc__json_fail(json, "data_offsets has more than two numbers");
  }
  if (json->trouble) return false;
  return n == 2 || clipc__json_fail(json, "data_offsets needs two numbers");
}

static bool safetensors_dtype_read(struct clipc__json *json, const struct safetensors_dtype **out) {
  if (!clipc__json_string(json)) return false;
  for (size_t i = 0; i < sizeof safetensors_dtypes / sizeof *safetensors_dtypes; i++)
    if (clipc__json_text_is(json, safetensors_dtypes[i].name)) {
      *out = &safetensors_dtypes[i];
      return true;
    }
  return clipc__json_fail(json, "unknown dtype");
}

/* One tensor: {"dtype": ..., "shape": ..., "data_offsets": ...} in any order, unknown fields passed over. */
static bool safetensors_entry_read(struct clipc__json *json, struct safetensors_entry *entry) {
  const struct safetensors_dtype *dtype = NULL;
  bool has_shape = false, has_offsets = false;
  uint64_t n_elements = 0, n_bits;
  size_t n = 0;
  if (!clipc__json_open(json, '{')) return false;
  while (clipc__json_more(json, '}', &n)) {
    if (!clipc__json_key(json)) return false;
    bool is_dtype = clipc__json_text_is(json, "dtype"), is_shape = clipc__json_text_is(json, "shape");
    bool is_offsets = clipc__json_text_is(json, "data_offsets");
    if ((is_dtype && dtype) || (is_shape && has_shape) || (is_offsets && has_offsets))
      return clipc__json_fail(json, "a field comes twice");
    has_shape |= is_shape;
    has_offsets |= is_offsets;
    bool ok = is_dtype     ? safetensors_dtype_read(json, &dtype)
              : is_shape   ? safetensors_shape(json, &entry->tensor, &n_elements)
              : is_offsets ? safetensors_offsets(json, entry)
                           : clipc__json_skip(json, 2);
    if (!ok) return false;
  }
  if (json->trouble) return false;
  if (!dtype || !has_shape || !has_offsets) return clipc__json_fail(json, "dtype, shape or data_offsets is missing");
  if (__builtin_mul_overflow(n_elements, (uint64_t)dtype->n_bits, &n_bits))
    return clipc__json_fail(json, "a tensor is beyond 2^64 bits");
  if (n_bits % 8 != 0) return clipc__json_fail(json, "a tensor does not end on a whole byte");
  if (entry->end < entry->begin) return clipc__json_fail(json, "data_offsets run backwards");
  if (entry->end - entry->begin != n_bits / 8) return clipc__json_fail(json, "data_offsets do not fit dtype and shape");
  entry->tensor.dtype = dtype->dtype;
  entry->tensor.dtype_name = dtype->name;
  entry->tensor.n_bytes = n_bits / 8;
  return true;
}

/* "__metadata__": null, or an object from strings to strings. */
static bool safetensors_metadata(struct clipc__json *json) {
  if (clipc__json_peek(json) == 'n') return clipc__json_null(json);
  size_t n = 0;
  if (!clipc__json_open(json, '{')) return false;
  while (clipc__json_more(json, '}', &n))
    if (!clipc__json_key(json) || !clipc__json_string(json)) return false;
  return json->trouble == NULL;
}

/* All entries of the header, appended to entries (an array of struct safetensors_entry). at is the tensor whose entry
 * is read, NULL before the first. */
static bool safetensors_header(struct clipc__json *json, struct clipc__bytes *entries, struct clipc__arena *arena,
                               const char **at) {
  bool has_metadata = false;
  size_t n = 0;
  if (!clipc__json_open(json, '{')) return false;
  while (clipc__json_more(json, '}', &n)) {
    if (!clipc__json_key(json)) return false;
    if (clipc__json_text_is(json, "__metadata__")) {
      if (has_metadata) return clipc__json_fail(json, "__metadata__ comes twice");
      has_metadata = true;
      if (!safetensors_metadata(json)) return false;
      continue;
    }
    struct safetensors_entry entry = {.n_name = json->text.n_bytes};
    entry.tensor.name = clipc__arena_string(arena, (const char *)json->text.data, json->text.n_bytes);
    if (entry.tensor.name == NULL) {
      json->no_memory = true;
      return clipc__json_fail(json, "no memory");
    }
    *at = entry.tensor.name;
    if (!safetensors_entry_read(json, &entry)) return false;
    if (!clipc__bytes_append(entries, &entry, sizeof entry)) {
      json->no_memory = true;
      return clipc__json_fail(json, "no memory");
    }
  }
  return json->trouble == NULL && clipc__json_end(json);
}

static int safetensors_by_offset(const void *a, const void *b) {
  const struct safetensors_entry *x = a, *y = b;
  if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
  return x->end < y->end ? -1 : x->end > y->end;
}

static int safetensors_by_name(const void *a, const void *b) {
  const struct safetensors_entry *x = a, *y = b;
  int order = memcmp(x->tensor.name, y->tensor.name, x->n_name < y->n_name ? x->n_name : y->n_name);
  return order != 0 ? order : x->n_name < y->n_name ? -1 : x->n_name > y->n_name;
}

/* The byte ranges follow each other from 0 to the end of the file. */
static clipc_status safetensors_check_ranges(struct safetensors_entry *entries, size_t n_entries, uint64_t n_data,
                                             const char *path, clipc_error *error) {
  uint64_t end = 0;
  if (n_entries > 0) qsort(entries, n_entries, sizeof *entries, safetensors_by_offset);
  for (size_t i = 0; i < n_entries; i++) {
    if (entries[i].begin != end)
      return clipc__fail(error, CLIPC_E_FORMAT, "%s: tensor %s begins at byte %llu, but the one before it ends at %llu",
                         path, entries[i].tensor.name, (unsigned long long)entries[i].begin, (unsigned long long)end);
    end = entries[i].end;
  }
  if (end != n_data)
    return clipc__fail(error, CLIPC_E_FORMAT, "%s: the tensors take %llu bytes, but the file holds %llu for them", path,
                       (unsigned long long)end, (unsigned long long)n_data);
  return CLIPC_OK;
}

/* The ranges, and that no name comes twice, which is told first. Leaves the entries sorted by name. */
static clipc_status safetensors_check(struct safetensors_entry *entries, size_t n_entries, uint64_t n_data,
                                      const char *path, clipc_error *error) {
  clipc_status status = safetensors_check_ranges(entries, n_entries, n_data, path, error);
  if (n_entries > 0) qsort(entries, n_entries, sizeof *entries, safetensors_by_name);
  for (size_t i = 1; i < n_entries; i++)
    if (safetensors_by_name(&entries[i - 1], &entries[i]) == 0)
      return clipc__fail(error, CLIPC_E_FORMAT, "%s: tensor %s comes twice", path, entries[i].tensor.name);
  return status;
}

static clipc_status safetensors_entries(struct clipc__bytes *entries, struct clipc__arena *arena,
                                        const struct clipc__file *file, const char *path, uint64_t n_header,
                                        clipc_error *error) {
  struct clipc__json json = {.data = file->data + 8, .n_bytes = (size_t)n_header, .text.allocator = arena->allocator};
  if (!clipc__utf8_valid(json.data, json.n_bytes))
    return clipc__fail(error, CLIPC_E_FORMAT, "%s: the header is not UTF-8", path);
  const char *at = NULL;
  bool ok = safetensors_header(&json, entries, arena, &at);
  clipc__bytes_free(&json.text);
  if (ok) return CLIPC_OK;
  if (json.no_memory) return clipc__fail(error, CLIPC_E_NO_MEMORY, "%s: no memory for the header", path);
  return clipc__fail(error, CLIPC_E_FORMAT, "%s: header byte %zu%s%s: %s", path, json.at, at ? ", tensor " : "",
                     at ? at : "", json.trouble);
}

clipc_status clipc__safetensors_read(struct clipc__tensor **out, size_t *n_out, struct clipc__arena *arena,
                                     const struct clipc__file *file, const char *path, uint64_t max_header_bytes,
                                     clipc_error *error) {
  uint64_t n_header = 0;
  if (file->n_bytes < 8)
    return clipc__fail(error, CLIPC_E_FORMAT, "%s: %zu bytes are too few for safetensors", path, file->n_bytes);
  if (file->n_bytes > 23 && memcmp(file->data, "version https://git-lfs", 23) == 0)
    return clipc__fail(error, CLIPC_E_FORMAT, "%s: is a git-lfs pointer, not the weights: git lfs pull fetches them",
                       path);
  memcpy(&n_header, file->data, 8);
  if (n_header > file->n_bytes - 8)
    return clipc__fail(error, CLIPC_E_FORMAT,
                       "%s: not safetensors, or cut short: a header of %llu bytes in a file of %zu", path,
                       (unsigned long long)n_header, file->n_bytes);
  if (n_header > max_header_bytes)
    return clipc__fail(error, CLIPC_E_LIMIT, "%s: a header of %llu bytes is above the limit of %llu", path,
                       (unsigned long long)n_header, (unsigned long long)max_header_bytes);
  struct clipc__bytes bytes = {.allocator = arena->allocator};
  clipc_status status = safetensors_entries(&bytes, arena, file, path, n_header, error);
  struct safetensors_entry *entries = (struct safetensors_entry *)(void *)bytes.data;
  size_t n = bytes.n_bytes / sizeof *entries, kept = 0;
  if (status == CLIPC_OK) status = safetensors_check(entries, n, file->n_bytes - 8 - n_header, path, error);
  struct clipc__tensor *tensors = status == CLIPC_OK ? clipc__arena_take(arena, n, sizeof *tensors) : NULL;
  if (status == CLIPC_OK && tensors == NULL) status = clipc__no_memory(error, path);
  for (size_t i = 0; status == CLIPC_OK && i < n; i++) {
    if (strlen(entries[i].tensor.name) != entries[i].n_name) continue; /* a NUL inside: nothing asks for it */
    tensors[kept] = entries[i].tensor;
    tensors[kept].file = path;
    tensors[kept++].data = file->data + 8 + n_header + entries[i].begin;
  }
  clipc__bytes_free(&bytes);
  if (status != CLIPC_OK) return status;
  *out = tensors;
  *n_out = kept;
  return CLIPC_OK;
}
