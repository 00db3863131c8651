/* The fingerprint of an embedding space: models whose vectors may be compared have the same one.
 * In: a folder, or what a packed file keeps of it. Out: 32 hexadecimal digits, a colon, the precision.
 * The digits are half of a SHA-256 over the weights' hash, then all of the configuration that vectors hang on, the
 * steps before the image tower included, then the tokeniser's hash; the weights' hash is over each part in the order of
 * enum clipc__part: its name in Hugging Face's spelling, its shape, and the SHA-256 of every 2^18 numbers as f32. So
 * neither files, shards nor spelling count, nor F16 or BF16 in place of F32 where the values are the same; logit scale
 * and bias do not either, which no vector hangs on. */
#include "model/packed.h"

#include "base/threads.h"

#include <stdio.h>
#include <string.h>

#define SPACE_CHUNK ((size_t)1 << 18) /* numbers; a part of the fingerprint */
#define SPACE_CHUNKS_AT_ONCE ((size_t)16)

/* One part of the network, and where its numbers are. */
struct space_part {
  const struct clipc__tensor *tensor;
  size_t first, n; /* numbers of the tensor */
  size_t n_rows;   /* of the tensor where that is transposed, else 0 */
  int rank;        /* as Hugging Face has it */
  uint64_t shape[CLIPC__MAX_RANK];
  char name[CLIPC__NAME_BYTES];
  size_t first_chunk;
};

struct space_job {
  const struct clipc__config *config;
  const struct clipc__tensors *tensors;
  enum clipc__naming naming;
  struct clipc__bytes parts; /* struct space_part */
  size_t n_chunks, next_chunk;
  uint8_t (*digests)[CLIPC__SHA256_BYTES];
  bool fast;
  clipc_error *error;
};

static const struct space_part *space_parts(const struct space_job *job, size_t *n) {
  *n = job->parts.n_bytes / sizeof(struct space_part);
  return (const struct space_part *)(const void *)job->parts.data;
}

/* ---- which numbers */

/* The parts of a fused tensor lie behind one another; a projection without bias lies transposed. */
static clipc_status space_place(struct space_part *part, bool fused, int third, bool transposed, clipc_error *error) {
  const struct clipc__tensor *tensor = part->tensor;
  bool fits = tensor->dtype != CLIPC__DTYPE_OTHER && tensor->rank <= CLIPC__MAX_RANK &&
              (!fused || (tensor->rank >= 1 && tensor->shape[0] % 3 == 0)) && (!transposed || tensor->rank == 2);
  if (!fits)
    return clipc__fail(error, CLIPC_E_MODEL, "%s: tensor %s is not of dtype F32, F16 or BF16, or misshapen",
                       tensor->file, tensor->name);
  part->rank = tensor->rank;
  memcpy(part->shape, tensor->shape, sizeof part->shape);
  part->n = clipc__tensor_numbers(tensor);
  if (fused) {
    part->shape[0] /= 3;
    part->n /= 3;
    part->first = (size_t)third * part->n;
  }
  if (transposed) {
    part->shape[0] = tensor->shape[1];
    part->shape[1] = tensor->shape[0];
    part->n_rows = (size_t)tensor->shape[0];
  }
  return CLIPC_OK;
}

static clipc_status space_add(struct space_job *job, int tower, enum clipc__part which, int layer, const char *name) {
  bool linear = job->config->text.projection_bias;
  bool hf = job->naming == CLIPC__NAMES_HF || job->naming == CLIPC__NAMES_HF_BARE;
  bool fused = !hf && which >= CLIPC__Q_WEIGHT && which <= CLIPC__V_BIAS;
  bool transposed = !hf && which == CLIPC__PROJECTION_WEIGHT && (tower == CLIPC_TOWER_IMAGE || !linear);
  int third = (which - CLIPC__Q_WEIGHT) / 2;
  bool bias = (which - CLIPC__Q_WEIGHT) % 2 != 0;
  char stored[CLIPC__NAME_BYTES] = "";
  clipc__part_name(stored, job->naming, tower, fused ? bias ? CLIPC__QKV_BIAS : CLIPC__QKV_WEIGHT : which, layer,
                   linear);
  struct space_part part = {.tensor = clipc__tensors_find(job->tensors, stored), .first_chunk = job->n_chunks};
  const char *file = job->tensors->n_tensors > 0 ? job->tensors->tensors[0].file : "the weight file";
  if (part.tensor == NULL) return clipc__fail(job->error, CLIPC_E_MODEL, "%s: tensor %s is missing", file, stored);
  snprintf(part.name, sizeof part.name, "%s", name);
  clipc_status status = space_place(&part, fused, third, transposed, job->error);
  if (status != CLIPC_OK) return status;
  job->n_chunks += (part.n + SPACE_CHUNK - 1) / SPACE_CHUNK;
  return clipc__bytes_append(&job->parts, &part, sizeof part) ? CLIPC_OK : clipc__no_memory(job->error, stored);
}

static clipc_status space_list(struct space_job *job) {
  struct clipc__parts parts = {.config = job->config, .naming = CLIPC__NAMES_HF};
  clipc_status status = CLIPC_OK;
  while (status == CLIPC_OK && clipc__parts_next(&parts) && parts.tower != 0)
    status = space_add(job, parts.tower, parts.part, parts.layer, parts.name);
  if (status == CLIPC_OK && job->config->text.projection_bias) /* which Hugging Face does not have */
    status = space_add(job, CLIPC_TOWER_TEXT, CLIPC__PROJECTION_BIAS, 0, "text_projection.bias");
  return status;
}

/* ---- the weights' hash */

static void space_numbers(struct clipc__sha256 *sha, const struct space_part *part, size_t first, size_t n) {
  float numbers[512];
  const float *in_place = part->n_rows == 0 ? clipc__tensor_in_place(part->tensor) : NULL;
  if (in_place != NULL) {
    clipc__sha256_add(sha, in_place + part->first + first, n * sizeof *in_place);
    return;
  }
  size_t n_cols = part->n_rows > 0 ? part->n / part->n_rows : 0;
  for (size_t done = 0, now; done < n; done += now) {
    now = n - done < sizeof numbers / sizeof *numbers ? n - done : sizeof numbers / sizeof *numbers;
    if (part->n_rows == 0) clipc__tensor_widen(numbers, part->tensor, part->first + first + done, now);
    for (size_t i = 0; i < now && part->n_rows > 0; i++) {
      size_t at = first + done + i, col = at / part->n_rows, row = at % part->n_rows;
      clipc__tensor_widen(numbers + i, part->tensor, row * n_cols + col, 1);
    }
    clipc__sha256_add(sha, numbers, now * sizeof *numbers);
  }
}

static void space_chunk(void *context, size_t chunk, int slot) {
  (void)slot;
  const struct space_job *job = context;
  size_t n_parts, low = 0, at = job->next_chunk + chunk;
  const struct space_part *parts = space_parts(job, &n_parts);
  for (size_t high = n_parts; high - low > 1;) { /* parts[low].first_chunk <= at */
    size_t middle = low + (high - low) / 2;
    *(parts[middle].first_chunk <= at ? &low : &high) = middle;
  }
  size_t first = (at - parts[low].first_chunk) * SPACE_CHUNK, left = parts[low].n - first;
  struct clipc__sha256 sha;
  clipc__sha256_begin(&sha, job->fast);
  space_numbers(&sha, &parts[low], first, left < SPACE_CHUNK ? left : SPACE_CHUNK);
  clipc__sha256_end(&sha, job->digests[at]);
}

static void space_seal(const struct space_job *job, uint8_t digest[CLIPC__SHA256_BYTES]) {
  struct clipc__sha256 sha;
  size_t n_parts;
  const struct space_part *parts = space_parts(job, &n_parts);
  clipc__sha256_begin(&sha, job->fast);
  for (size_t i = 0; i < n_parts; i++) {
    size_t end = i + 1 < n_parts ? parts[i + 1].first_chunk : job->n_chunks;
    clipc__sha256_add(&sha, parts[i].name, strlen(parts[i].name) + 1);
    clipc__sha256_add(&sha, &(uint64_t){(uint64_t)parts[i].rank}, sizeof(uint64_t));
    clipc__sha256_add(&sha, parts[i].shape, (size_t)parts[i].rank * sizeof *parts[i].shape);
    clipc__sha256_add(&sha, job->digests[parts[i].first_chunk], (end - parts[i].first_chunk) * sizeof *job->digests);
  }
  clipc__sha256_end(&sha, digest);
}

static clipc_status space_weights(uint8_t digest[CLIPC__SHA256_BYTES], const struct clipc__tensors *tensors,
                                  const struct clipc__config *config, const clipc_options *options,
                                  clipc_error *error) {
  struct space_job job = {.config = config, .tensors = tensors, .parts.allocator = options->allocator, .error = error};
  clipc_status status = clipc__naming_detect(&job.naming, tensors, config, error);
  if (status == CLIPC_OK) status = clipc__parts_check(NULL, tensors, config, job.naming, error);
  if (status == CLIPC_OK) status = space_list(&job);
  if (status == CLIPC_OK) {
    job.fast = clipc__sha256_has_instructions();
    job.digests = clipc__alloc(&options->allocator, job.n_chunks, sizeof *job.digests);
    if (job.digests == NULL) status = clipc__no_memory(error, "the fingerprint");
  }
  while (status == CLIPC_OK && job.next_chunk < job.n_chunks) {
    size_t left = job.n_chunks - job.next_chunk, n = left < SPACE_CHUNKS_AT_ONCE ? left : SPACE_CHUNKS_AT_ONCE;
    clipc__parallel(options->n_threads, n, space_chunk, &job);
    job.next_chunk += n;
    for (size_t i = 0; i < tensors->n_files; i++) clipc__file_rest(&tensors->files[i]);
  }
  if (status == CLIPC_OK) space_seal(&job, digest);
  clipc__free(&options->allocator, job.digests);
  clipc__bytes_free(&job.parts);
  return status;
}

/* ---- the tokeniser's */

/* By the rules of one family; noughts where the folder has no tokeniser, or none that these rules can read. */
static clipc_status space_tokenizer(uint8_t digest[CLIPC__SHA256_BYTES], bool hf, const struct clipc__store *store,
                                    const struct clipc__config *config, const clipc_options *options,
                                    clipc_error *error) {
  struct clipc__tokenizer_options rules = {.cleaning = hf ? CLIPC__CLEAN_HF : CLIPC__CLEAN_LOWER,
                                           .context_length = (size_t)config->text.context_length,
                                           .max_text_bytes = options->limits.max_text_bytes,
                                           .max_config_bytes = options->limits.max_config_bytes};
  struct clipc__tokenizer *tokenizer;
  clipc_error why = {.status = CLIPC_OK};
  memset(digest, 0, CLIPC__SHA256_BYTES);
  clipc_status status = clipc__tokenizer_open(&tokenizer, store, &rules, &options->allocator, &why);
  if (status == CLIPC_E_NO_MEMORY) return clipc__fail(error, status, "%s", why.message);
  if (status != CLIPC_OK) return CLIPC_OK;
  status = clipc__tokenizer_digest(tokenizer, digest, error);
  clipc__tokenizer_close(tokenizer);
  return status;
}

static clipc_status space_read(struct clipc__space *out, struct clipc__config *config, const char *folder,
                               const clipc_options *options, clipc_error *error) {
  struct clipc__store store = {.path = folder};
  struct clipc__tensors tensors = {.n_files = 0};
  struct clipc__space space = {.towers = 0};
  clipc_status status = clipc__config_read(config, &store, options, error);
  if (status == CLIPC_OK) status = clipc__tensors_open(&tensors, folder, config->open_clip, options, error);
  if (status == CLIPC_OK) status = clipc__tensors_cover(&tensors, config, error);
  if (status == CLIPC_OK) status = space_weights(space.weights, &tensors, config, options, error);
  clipc__tensors_close(&tensors);
  for (int i = 0; i < 2 && status == CLIPC_OK && config->text.present; i++)
    status = space_tokenizer(space.tokenizer[i], i == 0, &store, config, options, error);
  if (status != CLIPC_OK) return status;
  space.towers = (config->vision.present ? CLIPC_TOWER_IMAGE : 0u) | (config->text.present ? CLIPC_TOWER_TEXT : 0u);
  *out = space;
  return CLIPC_OK;
}

clipc_status clipc__space_of_folder(struct clipc__space *out, struct clipc__config *config, const char *folder,
                                    const clipc_options *options, clipc_error *error) {
  clipc_options all = *options;
  clipc_error inner = {.status = CLIPC_OK};
  all.towers = 0;
  all.read_weights = 0; /* they are looked at once */
  clipc_status status = space_read(out, config, folder, &all, &inner);
  if (status != CLIPC_OK && status != CLIPC_E_NO_MEMORY && options->towers != 0) { /* only that much is a model */
    all.towers = options->towers;
    status = space_read(out, config, folder, &all, &inner);
  }
  return status == CLIPC_OK ? CLIPC_OK : clipc__fail(error, status, "%s", inner.message);
}

/* ---- the whole */

static void space_int(struct clipc__sha256 *sha, int64_t value) { clipc__sha256_add(sha, &value, sizeof value); }

static void space_float(struct clipc__sha256 *sha, float value) { clipc__sha256_add(sha, &value, sizeof value); }

static void space_ints(struct clipc__sha256 *sha, const int *values, size_t n) {
  for (size_t i = 0; i < n; i++) space_int(sha, values[i]);
}

static void space_transformer(struct clipc__sha256 *sha, const struct clipc__transformer_config *c) {
  space_ints(sha, (const int[]){c->width, c->n_layers, c->n_heads, c->mlp_width, (int)c->activation}, 5);
  space_float(sha, c->layer_norm_eps);
}

static void space_preprocessing(struct clipc__sha256 *sha, const clipc_preprocessing *p) {
  bool openai = p->reference == CLIPC_REFERENCE_OPENAI, pads = p->resize == CLIPC_RESIZE_LONGEST;
  space_ints(sha, (const int[]){(int)p->reference, openai ? 0 : (int)p->alpha, p->apply_exif != 0, (int)p->resize}, 4);
  space_ints(sha, (const int[]){p->resize_height, p->resize_width, (int)p->filter, p->crop_height, p->crop_width}, 5);
  space_ints(sha, pads ? p->fill : (const int[3]){0}, 3);
  space_ints(sha, (const int[]){p->do_rescale != 0, p->do_normalize != 0}, 2);
  if (p->do_rescale) clipc__sha256_add(sha, &p->rescale_factor, sizeof p->rescale_factor);
  for (int c = 0; c < 3 && p->do_normalize; c++) {
    space_float(sha, p->mean[c]);
    space_float(sha, p->std[c]);
  }
}

void clipc__space_text(char text[CLIPC_FINGERPRINT_BYTES], const struct clipc__space *space,
                       const struct clipc__config *config, clipc_precision precision) {
  static const char *const precisions[] = {"f32", "bf16", "int8"};
  const struct clipc__vision_config *v = &config->vision;
  const struct clipc__text_config *t = &config->text;
  struct clipc__sha256 sha;
  uint8_t digest[CLIPC__SHA256_BYTES];
  clipc__sha256_begin(&sha, false);
  clipc__sha256_add(&sha, "clipc space 1", 13);
  clipc__sha256_add(&sha, space->weights, sizeof space->weights);
  space_ints(&sha, (const int[]){config->embedding_dimension, v->present, t->present}, 3);
  if (v->present) {
    space_transformer(&sha, &v->transformer);
    space_ints(&sha, (const int[]){v->image_height, v->image_width, v->patch, v->ln_pre, (int)v->pooling}, 5);
    space_ints(&sha, (const int[]){v->pool_before_ln, v->projection}, 2);
    space_preprocessing(&sha, &config->preprocessing);
  }
  if (t->present) {
    int eos = t->pooling == CLIPC__POOL_EOS ? t->eos_id : 0, pad = clipc__text_needs_pads(t) ? t->pad_id : 0;
    space_transformer(&sha, &t->transformer);
    space_ints(&sha, (const int[]){t->vocab_size, t->context_length, t->causal, (int)t->pooling, eos, pad}, 6);
    space_ints(&sha, (const int[]){t->projection, t->projection_bias, (int)config->text_cleaning}, 3);
    clipc__sha256_add(&sha, space->tokenizer[config->text_cleaning == CLIPC__TEXT_HF ? 0 : 1], CLIPC__SHA256_BYTES);
  }
  clipc__sha256_end(&sha, digest);
  for (size_t i = 0; i < 16; i++) snprintf(text + 2 * i, 3, "%02x", digest[i]);
  snprintf(text + 32, CLIPC_FINGERPRINT_BYTES - 32, ":%s", precisions[precision]);
}

clipc_status clipc__space_of_model(char text[CLIPC_FINGERPRINT_BYTES], const struct clipc_model *model,
                                   clipc_error *error) {
  struct clipc__space space;
  struct clipc__config config = {0};
  clipc_status status;
  if (model->packed != NULL) {
    clipc_options options = model->options;
    space = model->packed->header.space;
    options.towers = (int)space.towers;
    status = clipc__config_read(&config, &model->packed->store, &options, error);
  } else if (model->folder != NULL) {
    status = clipc__space_of_folder(&space, &config, model->folder, &model->options, error);
  } else {
    status = clipc__fail(error, CLIPC_E_UNSUPPORTED, "a synthetic model has no fingerprint");
  }
  if (status == CLIPC_OK) clipc__space_text(text, &space, &config, model->options.precision);
  return status;
}

#undef SPACE_CHUNK
#undef SPACE_CHUNKS_AT_ONCE
