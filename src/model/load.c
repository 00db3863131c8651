/* A folder becomes a model: configuration, tensors by name and shape, tokeniser.
 * Every tensor that is used is checked against the configuration here, then copied or packed into its tower's memory;
 * the towers rely on it. Only the token embedding stays where it lies in the mapped file. */
#include "model/opening.h"

#include "base/threads.h"

#include <math.h>
#include <string.h>

#define WIDEN_CHUNK ((size_t)1 << 15)
#define REST_BYTES ((size_t)16 << 20)

static const float *fetch_tensor(struct clipc__loader *loader, enum clipc__part part, int rank, const uint64_t *shape,
                                 bool later) {
  char buffer[CLIPC__NAME_BYTES];
  const float *data = NULL;
  if (loader->status != CLIPC_OK) return NULL;
  const char *name =
      clipc__part_name(buffer, loader->naming, loader->tower, part, loader->layer, loader->projection_bias);
  const struct clipc__tensors *tensors = &loader->model->tensors;
  struct clipc__arena *arena = part == CLIPC__TOKEN_EMBEDDING ? &loader->model->arena : &loader->staging;
  if (loader->synthetic != NULL) {
    data = clipc__synthetic_tensor(loader->synthetic, loader->tower, part, loader->layer, rank, shape, arena);
    if (data == NULL) loader->status = clipc__no_memory(loader->error, name);
    return data;
  }
  if (!later) {
    loader->status = clipc__tensor_f32(&data, tensors, name, rank, shape, arena, loader->error);
    return data;
  }
  const struct clipc__tensor *tensor = NULL;
  loader->status = clipc__tensor_typed(&tensor, tensors, name, rank, shape, loader->error);
  if (loader->status == CLIPC_OK) data = clipc__tensor_in_place(tensor);
  if (loader->status != CLIPC_OK || data != NULL) return data;
  float *wide = clipc__tensor_room(tensor, arena, loader->error);
  if (wide == NULL)
    loader->status = CLIPC_E_NO_MEMORY;
  else
    loader->widenings[loader->n_widenings++] = (struct clipc__widening){tensor, wide};
  return wide;
}

static const float *fetch(struct clipc__loader *loader, enum clipc__part part, int rank, const uint64_t *shape) {
  return fetch_tensor(loader, part, rank, shape, false);
}

/* The same of weights, whose numbers need not be there before they are packed. */
static const float *fetch_weights(struct clipc__loader *loader, enum clipc__part part, size_t rows, size_t cols) {
  return fetch_tensor(loader, part, 2, (uint64_t[]){rows, cols}, true);
}

static float fetch_number(struct clipc__loader *loader, enum clipc__part part) {
  const float *number = fetch(loader, part, 0, NULL);
  return number ? number[0] : 0.0f;
}

static const float *fetch_vector(struct clipc__loader *loader, enum clipc__part part, size_t n) {
  return fetch(loader, part, 1, (uint64_t[]){n});
}

static const float *fetch_matrix(struct clipc__loader *loader, enum clipc__part part, size_t rows, size_t cols) {
  return fetch(loader, part, 2, (uint64_t[]){rows, cols});
}

/* Writes what was fetched to its place in the tower's memory. */
static void copy_to(struct clipc__loader *loader, const float *placed, const float *fetched, size_t n) {
  if (loader->status == CLIPC_OK) memcpy((void *)(uintptr_t)placed, fetched, n * sizeof *fetched);
}

static void load_norm(struct clipc__loader *loader, const struct clipc__norm *norm, enum clipc__part weight,
                      enum clipc__part bias, size_t width) {
  copy_to(loader, norm->weight, fetch_vector(loader, weight, width), width);
  copy_to(loader, norm->bias, fetch_vector(loader, bias, width), width);
}

static void pack_later(struct clipc__loader *loader, const struct clipc__linear *linear,
                       struct clipc__linear_source source) {
  if (source.factor == 0.0f) source.factor = 1.0f;
  if (source.w_stride == 0) source.w_stride = linear->n_in;
  if (loader->status == CLIPC_OK)
    loader->jobs[loader->n_jobs++] = (struct clipc__pack_job){.linear = linear, .source = source};
}

static struct clipc__linear_source fetch_linear(struct clipc__loader *loader, enum clipc__part weight,
                                                enum clipc__part bias, const struct clipc__linear *linear) {
  return (struct clipc__linear_source){.w = fetch_weights(loader, weight, linear->n_out, linear->n_in),
                                       .bias = fetch_vector(loader, bias, linear->n_out)};
}

/* A layer behind a layer norm takes over its affine. */
static void fold_norm(struct clipc__loader *loader, struct clipc__linear_source *source, enum clipc__part weight,
                      enum clipc__part bias, size_t width) {
  source->gain = fetch_vector(loader, weight, width);
  source->shift = fetch_vector(loader, bias, width);
}

static bool names_are_hf(const struct clipc__loader *loader) {
  return loader->naming == CLIPC__NAMES_HF || loader->naming == CLIPC__NAMES_HF_BARE;
}

static void load_qkv(struct clipc__loader *loader, const struct clipc__linear qkv[3], size_t width, size_t head_dim) {
  static const enum clipc__part weights[] = {CLIPC__Q_WEIGHT, CLIPC__K_WEIGHT, CLIPC__V_WEIGHT};
  static const enum clipc__part biases[] = {CLIPC__Q_BIAS, CLIPC__K_BIAS, CLIPC__V_BIAS};
  const float *fused = NULL, *fused_bias = NULL;
  if (!names_are_hf(loader)) {
    fused = fetch_weights(loader, CLIPC__QKV_WEIGHT, 3 * width, width);
    fused_bias = fetch_vector(loader, CLIPC__QKV_BIAS, 3 * width);
  }
  for (size_t i = 0; i < 3 && loader->status == CLIPC_OK; i++) {
    struct clipc__linear_source source = {.w = NULL};
    if (fused == NULL)
      source = fetch_linear(loader, weights[i], biases[i], &qkv[i]);
    else
      source = (struct clipc__linear_source){.w = fused + i * width * width, .bias = fused_bias + i * width};
    fold_norm(loader, &source, CLIPC__LN_1_WEIGHT, CLIPC__LN_1_BIAS, width);
    if (i == 0) source.factor = 1.0f / sqrtf((float)head_dim);
    pack_later(loader, &qkv[i], source);
  }
}

static void load_block(struct clipc__loader *loader, const struct clipc__transformer *transformer) {
  const struct clipc__transformer_config *config = &transformer->config;
  const struct clipc__block_weights *block = &transformer->blocks[loader->layer];
  size_t width = (size_t)config->width;
  load_qkv(loader, block->qkv, width, width / (size_t)config->n_heads);
  pack_later(loader, &block->out, fetch_linear(loader, CLIPC__OUT_WEIGHT, CLIPC__OUT_BIAS, &block->out));
  struct clipc__linear_source fc1 = fetch_linear(loader, CLIPC__FC1_WEIGHT, CLIPC__FC1_BIAS, &block->fc1);
  fold_norm(loader, &fc1, CLIPC__LN_2_WEIGHT, CLIPC__LN_2_BIAS, width);
  pack_later(loader, &block->fc1, fc1);
  pack_later(loader, &block->fc2, fetch_linear(loader, CLIPC__FC2_WEIGHT, CLIPC__FC2_BIAS, &block->fc2));
}

/* open_clip and OpenAI store a projection without bias as [in, out]. */
static void load_projection(struct clipc__loader *loader, const struct clipc__linear *projection) {
  struct clipc__linear_source source = {.transposed = !names_are_hf(loader) && !loader->projection_bias};
  if (loader->projection_bias) source.bias = fetch_vector(loader, CLIPC__PROJECTION_BIAS, projection->n_out);
  size_t rows = source.transposed ? projection->n_in : projection->n_out;
  source.w_stride = source.transposed ? projection->n_out : projection->n_in;
  source.w = fetch_weights(loader, CLIPC__PROJECTION_WEIGHT, rows, source.w_stride);
  pack_later(loader, projection, source);
}

/* The patch embedding takes over what makes pixels of levels. */
static void load_patch_embedding(struct clipc__loader *loader, struct clipc__vision *vision) {
  size_t width = (size_t)vision->config.transformer.width, patch = (size_t)vision->config.patch;
  const float *kernel = fetch_tensor(loader, CLIPC__PATCH_EMBEDDING, 4, (uint64_t[]){width, 3, patch, patch}, true);
  size_t area = patch * patch;
  float *gain = clipc__arena_take_unset(&loader->staging, 3 * area, sizeof *gain);
  float *shift = clipc__arena_take_unset(&loader->staging, 3 * area, sizeof *shift);
  if (loader->status == CLIPC_OK && (gain == NULL || shift == NULL))
    loader->status = clipc__no_memory(loader->error, "the patch embedding");
  if (loader->status != CLIPC_OK) return;
  vision->levels = clipc__levels_to_fold(&loader->model->config.preprocessing);
  for (size_t i = 0; i < 3 * area; i++) {
    gain[i] = vision->levels.gain[i / area];
    shift[i] = vision->levels.shift[i / area];
  }
  pack_later(loader, &vision->patch_embedding,
             (struct clipc__linear_source){.w = kernel, .gain = gain, .shift = shift});
}

/* What comes before the blocks. */
static void load_vision_front(struct clipc__loader *loader, struct clipc__vision *vision) {
  size_t width = (size_t)vision->config.transformer.width;
  load_patch_embedding(loader, vision);
  copy_to(loader, vision->class_embedding, fetch_vector(loader, CLIPC__CLASS_EMBEDDING, width), width);
  copy_to(loader, vision->position_embedding, fetch_matrix(loader, CLIPC__POSITION_EMBEDDING, vision->n_tokens, width),
          vision->n_tokens * width);
  if (vision->config.ln_pre) load_norm(loader, &vision->ln_pre, CLIPC__LN_PRE_WEIGHT, CLIPC__LN_PRE_BIAS, width);
}

static void load_text_front(struct clipc__loader *loader, struct clipc__text *text) {
  size_t width = (size_t)text->config.transformer.width, context = (size_t)text->config.context_length;
  text->token_embedding = fetch_weights(loader, CLIPC__TOKEN_EMBEDDING, (size_t)text->config.vocab_size, width);
  copy_to(loader, text->position_embedding, fetch_matrix(loader, CLIPC__POSITION_EMBEDDING, context, width),
          context * width);
}

/* What comes behind them. */
static void load_vision_back(struct clipc__loader *loader, struct clipc__vision *vision) {
  size_t width = (size_t)vision->config.transformer.width;
  load_norm(loader, &vision->ln_post, CLIPC__LN_FINAL_WEIGHT, CLIPC__LN_FINAL_BIAS, width);
  if (vision->config.projection) load_projection(loader, &vision->projection);
}

static void load_text_back(struct clipc__loader *loader, struct clipc__text *text) {
  size_t width = (size_t)text->config.transformer.width;
  load_norm(loader, &text->ln_final, CLIPC__LN_FINAL_WEIGHT, CLIPC__LN_FINAL_BIAS, width);
  loader->projection_bias = text->config.projection_bias;
  if (text->config.projection) load_projection(loader, &text->projection);
}

/* ---- in steps */

static const struct clipc__transformer *loader_transformer(const struct clipc__loader *loader) {
  const struct clipc_model *model = loader->model;
  return loader->tower == CLIPC_TOWER_IMAGE ? &model->vision.transformer : &model->text.transformer;
}

clipc_status clipc__loader_begin(struct clipc__loader *loader, int tower, clipc_error *error) {
  struct clipc_model *model = loader->model;
  struct clipc__layout layout = {.clear = true};
  bool image = tower == CLIPC_TOWER_IMAGE;
  clipc_status status = image ? clipc__vision_shape(model, error) : clipc__text_shape(model, error);
  if (status != CLIPC_OK) return status;
  image ? clipc__vision_layout(&layout, &model->vision) : clipc__text_layout(&layout, &model->text);
  layout.base = clipc__arena_take_unset(&model->arena, layout.n_bytes, 1);
  layout.n_bytes = 0;
  if (layout.base == NULL) return clipc__no_memory(error, image ? "the image tower" : "the text tower");
  image ? clipc__vision_layout(&layout, &model->vision) : clipc__text_layout(&layout, &model->text);
  model->memory[image ? 0 : 1] = layout;
  loader->tower = tower;
  loader->unit = 0;
  loader->staging.allocator = model->allocator;
  return CLIPC_OK;
}

static clipc_status fetch_unit(struct clipc__loader *loader, clipc_error *error) {
  struct clipc_model *model = loader->model;
  const struct clipc__transformer *transformer = loader_transformer(loader);
  bool image = loader->tower == CLIPC_TOWER_IMAGE;
  loader->n_jobs = loader->n_widenings = loader->next_widening = loader->next_number = 0;
  loader->status = CLIPC_OK;
  loader->error = error;
  loader->layer = loader->unit - 1;
  if (loader->unit == 0)
    image ? load_vision_front(loader, &model->vision) : load_text_front(loader, &model->text);
  else if (loader->unit <= transformer->config.n_layers)
    load_block(loader, transformer);
  else
    image ? load_vision_back(loader, &model->vision) : load_text_back(loader, &model->text);
  clipc__packing_begin(&loader->packing, loader->jobs, loader->n_jobs);
  loader->fetched = true;
  return loader->status;
}

static void widen_chunk(void *context, size_t chunk, int slot) {
  (void)slot;
  const struct clipc__loader *loader = context;
  const struct clipc__widening *widening = &loader->widenings[loader->next_widening];
  size_t first = loader->next_number + chunk * WIDEN_CHUNK, n = clipc__tensor_numbers(widening->tensor) - first;
  clipc__tensor_widen(widening->out + first, widening->tensor, first, n < WIDEN_CHUNK ? n : WIDEN_CHUNK);
}

static void widen_step(struct clipc__loader *loader, size_t n_bytes) {
  size_t n_numbers = clipc__tensor_numbers(loader->widenings[loader->next_widening].tensor);
  size_t n_chunks = (n_numbers - loader->next_number + WIDEN_CHUNK - 1) / WIDEN_CHUNK;
  size_t most = n_bytes / (WIDEN_CHUNK * sizeof(float)) + 1;
  if (n_chunks > most) n_chunks = most;
  clipc__parallel(loader->model->n_threads, n_chunks, widen_chunk, loader);
  loader->next_number += n_chunks * WIDEN_CHUNK;
  if (loader->next_number < n_numbers) return;
  loader->next_number = 0;
  loader->next_widening++;
}

clipc_status clipc__loader_step(struct clipc__loader *loader, size_t n_bytes, bool *done, clipc_error *error) {
  if (!loader->fetched) return fetch_unit(loader, error);
  if (loader->next_widening < loader->n_widenings) {
    widen_step(loader, n_bytes);
    return CLIPC_OK;
  }
  const struct clipc__tensors *tensors = &loader->model->tensors;
  if (!clipc__packing_step(&loader->packing, loader->model->n_threads, n_bytes)) return CLIPC_OK;
  *done = ++loader->unit > loader_transformer(loader)->config.n_layers + 1;
  for (size_t i = 0; i < loader->n_jobs; i++)
    loader->n_read += loader->jobs[i].linear->n_out * loader->jobs[i].linear->n_in * sizeof(float);
  if (loader->n_read >= REST_BYTES || *done) { /* now and then: what is looked at again must be mapped again */
    for (size_t i = 0; i < tensors->n_files; i++) clipc__file_rest(&tensors->files[i]);
    loader->n_read = 0;
  }
  if (loader->synthetic == NULL || *done) clipc__arena_free(&loader->staging);
  loader->fetched = false;
  return CLIPC_OK;
}

double clipc__loader_progress(const struct clipc__loader *loader) {
  const struct clipc__packing *packing = &loader->packing;
  bool packs = loader->fetched && packing->n_panels > 0;
  return (loader->unit + (packs ? (double)packing->next_panel / (double)packing->n_panels : 0.0)) /
         (loader_transformer(loader)->config.n_layers + 2);
}

void clipc__loader_free(struct clipc__loader *loader) { clipc__arena_free(&loader->staging); }

/* logit_scale is stored as a logarithm. A folder of one tower need not have it. */
clipc_status clipc__loader_scale(struct clipc__loader *loader, clipc_error *error) {
  struct clipc_model *model = loader->model;
  loader->error = error;
  char name[CLIPC__NAME_BYTES];
  model->logit_scale = 1.0f / 0.07f;
  bool both = model->vision.config.present && model->text.config.present;
  clipc__part_name(name, loader->naming, loader->tower, CLIPC__LOGIT_SCALE, 0, false);
  if (both || clipc__tensors_find(&model->tensors, name))
    model->logit_scale = expf(fetch_number(loader, CLIPC__LOGIT_SCALE));
  const char *bias_name = clipc__part_name(name, loader->naming, loader->tower, CLIPC__LOGIT_BIAS, 0, false);
  if (bias_name && clipc__tensors_find(&model->tensors, bias_name))
    model->logit_bias = fetch_number(loader, CLIPC__LOGIT_BIAS);
  if (loader->status != CLIPC_OK) return loader->status;
  if (!isfinite(model->logit_scale) || !isfinite(model->logit_bias))
    return clipc__fail(error, CLIPC_E_MODEL, "%s: %s is not finite", model->folder,
                       isfinite(model->logit_scale) ? "logit_bias" : "the exponential of logit_scale");
  model->embedding_dimension = (size_t)model->config.embedding_dimension;
  return CLIPC_OK;
}

clipc_status clipc__model_begin_tokenizer(struct clipc__tokenizer_opening **out, const struct clipc_model *model,
                                          const struct clipc__store *store, clipc_error *error) {
  static const enum clipc__cleaning cleaning[] = {[CLIPC__TEXT_HF] = CLIPC__CLEAN_HF,
                                                  [CLIPC__TEXT_LOWER] = CLIPC__CLEAN_LOWER,
                                                  [CLIPC__TEXT_WHITESPACE] = CLIPC__CLEAN_WHITESPACE,
                                                  [CLIPC__TEXT_CANONICALIZE] = CLIPC__CLEAN_CANONICALIZE};
  struct clipc__tokenizer_options options = {
      .cleaning = cleaning[model->config.text_cleaning],
      .context_length = (size_t)model->config.text.context_length,
      .max_text_bytes = model->options.limits.max_text_bytes,
      .max_config_bytes = model->options.limits.max_config_bytes,
  };
  return clipc__tokenizer_begin(out, store, &options, &model->allocator, error);
}

/* Of what was read only the token embedding is used where it lies: the towers have their numbers in their own memory.
 */
clipc_status clipc__loader_rest(struct clipc__loader *loader, size_t n_bytes, bool *done, clipc_error *error) {
  struct clipc_model *model = loader->model;
  struct clipc__tensors *tensors = &model->tensors;
  const float *rows = model->text.token_embedding;
  size_t n = (size_t)model->text.config.vocab_size * (size_t)model->text.config.transformer.width;
  const struct clipc__file *file = NULL;
  for (size_t i = 0; i < tensors->n_files && rows != NULL; i++) {
    const char *data = (const char *)tensors->files[i].data;
    if ((const char *)rows >= data && (const char *)rows < data + tensors->files[i].n_bytes) file = &tensors->files[i];
  }
  *done = file == NULL || file->mapped;
  if (file != NULL && file->mapped) return CLIPC_OK;
  if (file != NULL && loader->rows == NULL) {
    loader->rows = clipc__arena_take_unset(&model->arena, n, sizeof *rows);
    loader->next_number = 0;
    return loader->rows ? CLIPC_OK : clipc__no_memory(error, "the token embedding");
  }
  if (file != NULL) {
    size_t left = n - loader->next_number, most = n_bytes / sizeof *rows + 4096;
    size_t now = left < most ? left : most;
    memcpy(loader->rows + loader->next_number, rows + loader->next_number, now * sizeof *rows);
    loader->next_number += now;
    if (now < left) return CLIPC_OK;
    model->text.token_embedding = loader->rows;
    return CLIPC_OK;
  }
  clipc__tensors_close(tensors);
  return CLIPC_OK;
}

void clipc__model_unload(struct clipc_model *model) {
  clipc__tokenizer_close(model->tokenizer);
  clipc__packed_close(model->packed);
  clipc__tensors_close(&model->tensors);
  clipc__arena_free(&model->arena);
}

#undef WIDEN_CHUNK
#undef REST_BYTES
