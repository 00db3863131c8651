/* The facade's part for what lies in folders: fingerprints, tensors one by one, folders made anew. */
#include "base/threads.h"
#include "model/model.h"

#include <math.h>
#include <string.h>

/* ---- fingerprints */

clipc_status clipc_model_fingerprint(const clipc_model *model, char text[CLIPC_FINGERPRINT_BYTES], clipc_error *error) {
  if (model == NULL || text == NULL)
    return clipc__fail(error, CLIPC_E_INVALID, "clipc_model_fingerprint: %s is NULL", model ? "text" : "model");
  return clipc__space_of_model(text, model, error);
}

/* The hexadecimal digits before the colon; 0: no fingerprint. */
static size_t fingerprint_digits(const char *text) {
  size_t n = text ? strspn(text, "0123456789abcdef") : 0;
  return n == 32 && text[n] == ':' ? n : 0;
}

int clipc_fingerprint_same(const char *a, const char *b) {
  size_t n = fingerprint_digits(a);
  return n > 0 && n == fingerprint_digits(b) && memcmp(a, b, n) == 0;
}

/* ---- tensors */

#define FOLDERS_CHUNK ((size_t)1 << 16) /* numbers that are measured at once */
#define FOLDERS_PIECE ((size_t)512)
#define FOLDERS_CHUNKS_AT_ONCE ((size_t)64)

struct tensor_sums {
  uint64_t n_nan, n_infinite, n_finite;
  double least, most, squares;
};

struct tensor_measuring {
  const struct clipc__tensor *tensor;
  size_t first;             /* number of the first chunk */
  struct tensor_sums *sums; /* [FOLDERS_CHUNKS_AT_ONCE] */
};

static void measure_numbers(struct tensor_sums *sums, const float *numbers, size_t n) {
  for (size_t i = 0; i < n; i++) {
    double number = (double)numbers[i];
    sums->n_nan += isnan(number) != 0;
    sums->n_infinite += isinf(number) != 0;
    if (!isfinite(number)) continue;
    if (sums->n_finite == 0 || number < sums->least) sums->least = number;
    if (sums->n_finite == 0 || number > sums->most) sums->most = number;
    sums->n_finite++;
    sums->squares += number * number;
  }
}

static void measure_chunk(void *context, size_t chunk, int slot) {
  (void)slot;
  const struct tensor_measuring *measuring = context;
  float numbers[FOLDERS_PIECE];
  size_t first = measuring->first + chunk * FOLDERS_CHUNK, n = clipc__tensor_numbers(measuring->tensor) - first;
  if (n > FOLDERS_CHUNK) n = FOLDERS_CHUNK;
  measuring->sums[chunk] = (struct tensor_sums){.n_nan = 0};
  for (size_t done = 0, now; done < n; done += now) {
    now = n - done < FOLDERS_PIECE ? n - done : FOLDERS_PIECE;
    clipc__tensor_widen(numbers, measuring->tensor, first + done, now);
    measure_numbers(&measuring->sums[chunk], numbers, now);
  }
}

/* What the numbers are like. Chunks are added up in their order, so that threads do not change the norm. */
static void measure_tensor(clipc_tensor_info *info, struct tensor_measuring *measuring, int n_threads,
                           const struct clipc__tensors *tensors) {
  size_t n = clipc__tensor_numbers(measuring->tensor);
  struct tensor_sums all = {.n_nan = 0};
  for (measuring->first = 0; measuring->first < n; measuring->first += FOLDERS_CHUNKS_AT_ONCE * FOLDERS_CHUNK) {
    size_t n_chunks = (n - measuring->first + FOLDERS_CHUNK - 1) / FOLDERS_CHUNK;
    if (n_chunks > FOLDERS_CHUNKS_AT_ONCE) n_chunks = FOLDERS_CHUNKS_AT_ONCE;
    clipc__parallel(n_threads, n_chunks, measure_chunk, measuring);
    for (size_t i = 0; i < n_chunks; i++) {
      const struct tensor_sums *sums = &measuring->sums[i];
      all.n_nan += sums->n_nan;
      all.n_infinite += sums->n_infinite;
      if (sums->n_finite == 0) continue;
      if (all.n_finite == 0 || sums->least < all.least) all.least = sums->least;
      if (all.n_finite == 0 || sums->most > all.most) all.most = sums->most;
      all.n_finite += sums->n_finite;
      all.squares += sums->squares;
    }
    for (size_t i = 0; i < tensors->n_files && n_chunks == FOLDERS_CHUNKS_AT_ONCE; i++)
      clipc__file_rest(&tensors->files[i]);
  }
  info->n_nan = all.n_nan;
  info->n_infinite = all.n_infinite;
  info->least = all.least;
  info->most = all.most;
  info->norm = sqrt(all.squares);
}

static clipc_status visit_tensors(const struct clipc__tensors *tensors, const bool *used, const clipc_options *options,
                                  int (*visit)(void *context, const clipc_tensor_info *info), void *context,
                                  clipc_error *error) {
  struct tensor_measuring measuring = {
      .sums = clipc__alloc(&options->allocator, FOLDERS_CHUNKS_AT_ONCE, sizeof *measuring.sums)};
  if (measuring.sums == NULL) return clipc__no_memory(error, "the tensors");
  clipc_status status = CLIPC_OK;
  for (size_t i = 0; i < tensors->n_tensors && status == CLIPC_OK; i++) {
    const struct clipc__tensor *tensor = &tensors->tensors[i];
    clipc_tensor_info info = {.name = tensor->name,
                              .file = tensor->file,
                              .type = tensor->dtype_name,
                              .rank = tensor->rank,
                              .shape = tensor->shape,
                              .n_bytes = tensor->n_bytes,
                              .used = used[i],
                              .measured = tensor->dtype != CLIPC__DTYPE_OTHER};
    measuring.tensor = tensor;
    if (info.measured) measure_tensor(&info, &measuring, options->n_threads, tensors);
    if (visit(context, &info) != 0) status = clipc__fail(error, CLIPC_E_CANCELLED, "the walk was ended");
  }
  clipc__free(&options->allocator, measuring.sums);
  return status;
}

clipc_status clipc_inspect_tensors(const char *folder, const clipc_options *options,
                                   int (*visit)(void *context, const clipc_tensor_info *info), void *context,
                                   clipc_error *error) {
  if (folder == NULL || visit == NULL)
    return clipc__fail(error, CLIPC_E_INVALID, "clipc_inspect_tensors: %s is NULL", folder ? "visit" : "folder");
  clipc_options effective;
  struct clipc__store store = {.path = folder};
  struct clipc__config config = {0};
  struct clipc__tensors tensors = {.n_files = 0};
  enum clipc__naming naming;
  bool *used = NULL;
  clipc_status status = clipc__effective_options(&effective, options, error);
  if (status == CLIPC_OK && !clipc__is_folder(folder))
    status = clipc__fail(error, CLIPC_E_IO, "%s: is no folder, and only folders have tensors to list", folder);
  if (status == CLIPC_OK) status = clipc__config_read(&config, &store, &effective, error);
  if (status == CLIPC_OK) status = clipc__tensors_open(&tensors, folder, config.open_clip, &effective, error);
  if (status == CLIPC_OK) status = clipc__tensors_cover(&tensors, &config, error);
  if (status == CLIPC_OK) status = clipc__naming_detect(&naming, &tensors, &config, error);
  if (status == CLIPC_OK) {
    used = clipc__alloc_zeroed(&effective.allocator, tensors.n_tensors, sizeof *used);
    status = used ? clipc__parts_check(used, &tensors, &config, naming, error) : clipc__no_memory(error, folder);
  }
  if (status == CLIPC_OK) status = visit_tensors(&tensors, used, &effective, visit, context, error);
  clipc__tensors_close(&tensors);
  if (used != NULL) clipc__free(&effective.allocator, used);
  return status;
}

/* ---- folders made anew */

clipc_status clipc_convert(const char *folder, const char *out, const clipc_convert_options *options,
                           clipc_conversion *made, clipc_error *error) {
  static const clipc_convert_options defaults;
  if (folder == NULL || out == NULL)
    return clipc__fail(error, CLIPC_E_INVALID, "clipc_convert: %s is NULL", folder ? "out" : "folder");
  clipc_convert_options o = options ? *options : defaults;
  if ((unsigned)o.type > CLIPC_WEIGHTS_BF16)
    return clipc__fail(error, CLIPC_E_INVALID, "option type: unknown value %d", (int)o.type);
  clipc_options opener = {.towers = o.towers, .allocator = o.allocator, .limits = o.limits}, effective;
  clipc_status status = clipc__effective_options(&effective, &opener, error);
  if (status != CLIPC_OK) return status;
  if (o.towers == (CLIPC_TOWER_IMAGE | CLIPC_TOWER_TEXT)) o.towers = effective.towers = 0;
  return clipc__convert(folder, out, &o, &effective, made, error);
}

#undef FOLDERS_CHUNK
#undef FOLDERS_PIECE
#undef FOLDERS_CHUNKS_AT_ONCE
