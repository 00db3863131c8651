/* A folder becomes a model: configuration, tensors by name and shape, tokeniser.
 * Every tensor that is used is checked against the configuration here, then copied or packed into its tower's memory;
 * the towers rely on it. Only the token embedding stays where it lies in the mapped file. */
#include "base/threads.h"
#include "model/model.h"

#include <math.h>
#include <string.h>

#define LINEARS_PER_BLOCK 6
#define OTHER_LINEARS 2 /* patch embedding, projection */

/* What stays the same while the tensors of one tower are fetched. The first failure sticks: later fetches do
 * nothing, and the caller looks once. */
struct tower_loader {
  struct clipc_model *model;
  enum clipc__naming naming;
  int tower, layer;
  bool projection_bias;
  struct clipc__arena *staging; /* f32 that is not in the file as such, until it is packed */
  struct clipc__pack_job *jobs;
  size_t n_jobs;
  struct clipc__synthetic *synthetic; /* where tensors come from when there is no file; else NULL */
  clipc_status status;
  clipc_error *error;
};

static const float *fetch(struct tower_loader *loader, enum clipc__part part, int rank, const uint64_t *shape) {
  char buffer[CLIPC__NAME_BYTES];
  const float *data = NULL;
  if (loader->status != CLIPC_OK) return NULL;
  const char *name =
      clipc__part_name(buffer, loader->naming, loader->tower, part, loader->layer, loader->projection_bias);
  struct clipc__arena *arena = part == CLIPC__TOKEN_EMBEDDING ? &loader->model->arena : loader->staging;
  if (loader->synthetic != NULL) {
    data = clipc__synthetic_tensor(loader->synthetic, loader->tower, part, loader->layer, rank, shape, arena);
    if (data == NULL) loader->status = clipc__no_memory(loader->error, name);
    return data;
  }
  loader->status = clipc__tensor_f32(&data, &loader->model->tensors, name, rank, shape, arena, loader->error);
  return data;
}

static float fetch_number(struct tower_loader *loader, enum clipc__part part) {
  const float *number = fetch(loader, part, 0, NULL);
  return number ? number[0] : 0.0f;
}

static const float *fetch_vector(struct tower_loader *loader, enum clipc__part part, size_t n) {
  return fetch(loader, part, 1, (uint64_t[]){n});
}

static const float *fetch_matrix(struct tower_loader *loader, enum clipc__part part, size_t rows, size_t cols) {
  return fetch(loader, part, 2, (uint64_t[]){rows, cols});
}

/* Writes what was fetched to its place in the tower's memory. */
static void copy_to(struct tower_loader *loader, const float *placed, const float *fetched, size_t n) {
  if (loader->status == CLIPC_OK) memcpy((void *)(uintptr_t)placed, fetched, n * sizeof *fetched);
}

static void load_norm(struct tower_loader *loader, const struct clipc__norm *norm, enum clipc__part weight,
                      enum clipc__part bias, size_t width) {
  copy_to(loader, norm->weight, fetch_vector(loader, weight, width), width);
  copy_to(loader, norm->bias, fetch_vector(loader, bias, width), width);
}

static void pack_later(struct tower_loader *loader, const struct clipc__linear *linear,
                       struct clipc__linear_source source) {
  if (source.factor == 0.0f) source.factor = 1.0f;
  if (source.w_stride == 0) source.w_stride = linear->n_in;
  if (loader->status == CLIPC_OK)
    loader->jobs[loader->n_jobs++] = (struct clipc__pack_job){.linear = linear, .source = source};
}

static struct clipc__linear_source fetch_linear(struct tower_loader *loader, enum clipc__part weight,
                                                enum clipc__part bias, const struct clipc__linear *linear) {
  return (struct clipc__linear_source){.w = fetch_matrix(loader, weight, linear->n_out, linear->n_in),
                                       .bias = fetch_vector(loader, bias, linear->n_out)};
}

/* A layer behind a layer norm takes over its affine. */
static void fold_norm(struct tower_loader *loader, struct clipc__linear_source *source, enum clipc__part weight,
                      enum clipc__part bias, size_t width) {
  source->gain = fetch_vector(loader, weight, width);
  source->shift = fetch_vector(loader, bias, width);
}

static bool names_are_hf(const struct tower_loader *loader) {
  return loader->naming == CLIPC__NAMES_HF || loader->naming == CLIPC__NAMES_HF_BARE;
}

static void load_qkv(struct tower_loader *loader, const struct clipc__linear qkv[3], size_t width, size_t head_dim) {
  static const enum clipc__part weights[] = {CLIPC__Q_WEIGHT, CLIPC__K_WEIGHT, CLIPC__V_WEIGHT};
  static const enum clipc__part biases[] = {CLIPC__Q_BIAS, CLIPC__K_BIAS, CLIPC__V_BIAS};
  const float *fused = NULL, *fused_bias = NULL;
  if (!names_are_hf(loader)) {
    fused = fetch_matrix(loader, CLIPC__QKV_WEIGHT, 3 * width, width);
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

static void load_blocks(struct tower_loader *loader, const struct clipc__transformer *transformer) {
  const struct clipc__transformer_config *config = &transformer->config;
  size_t width = (size_t)config->width, head_dim = width / (size_t)config->n_heads;
  for (int layer = 0; layer < config->n_layers && loader->status == CLIPC_OK; layer++) {
    const struct clipc__block_weights *block = &transformer->blocks[layer];
    loader->layer = layer;
    load_qkv(loader, block->qkv, width, head_dim);
    pack_later(loader, &block->out, fetch_linear(loader, CLIPC__OUT_WEIGHT, CLIPC__OUT_BIAS, &block->out));
    struct clipc__linear_source fc1 = fetch_linear(loader, CLIPC__FC1_WEIGHT, CLIPC__FC1_BIAS, &block->fc1);
    fold_norm(loader, &fc1, CLIPC__LN_2_WEIGHT, CLIPC__LN_2_BIAS, width);
    pack_later(loader, &block->fc1, fc1);
    pack_later(loader, &block->fc2, fetch_linear(loader, CLIPC__FC2_WEIGHT, CLIPC__FC2_BIAS, &block->fc2));
  }
}

/* open_clip and OpenAI store a projection without bias as [in, out]. */
static void load_projection(struct tower_loader *loader, const struct clipc__linear *projection) {
  struct clipc__linear_source source = {.transposed = !names_are_hf(loader) && !loader->projection_bias};
  if (loader->projection_bias) source.bias = fetch_vector(loader, CLIPC__PROJECTION_BIAS, projection->n_out);
  size_t rows = source.transposed ? projection->n_in : projection->n_out;
  source.w_stride = source.transposed ? projection->n_out : projection->n_in;
  source.w = fetch_matrix(loader, CLIPC__PROJECTION_WEIGHT, rows, source.w_stride);
  pack_later(loader, projection, source);
}

/* The patch embedding takes over what makes pixels of levels. */
static void load_patch_embedding(struct tower_loader *loader, struct clipc__vision *vision) {
  size_t width = (size_t)vision->config.transformer.width, patch = (size_t)vision->config.patch;
  const float *kernel = fetch(loader, CLIPC__PATCH_EMBEDDING, 4, (uint64_t[]){width, 3, patch, patch});
  size_t area = patch * patch;
  float *gain = clipc__arena_take_unset(loader->staging, 2 * 3 * area, sizeof *gain), *shift = gain + 3 * area;
  if (gain == NULL && loader->status == CLIPC_OK) loader->status = clipc__no_memory(loader->error, "the patches");
  if (loader->status != CLIPC_OK) return;
  vision->levels = clipc__levels_of(&loader->model->config.preprocessing);
  for (size_t i = 0; i < 3 * area; i++) {
    gain[i] = vision->levels.gain[i / area];
    shift[i] = vision->levels.shift[i / area];
  }
  pack_later(loader, &vision->patch_embedding,
             (struct clipc__linear_source){.w = kernel, .gain = gain, .shift = shift});
}

static void load_vision(struct tower_loader *loader, struct clipc__vision *vision) {
  const struct clipc__vision_config *config = &vision->config;
  size_t width = (size_t)config->transformer.width;
  load_patch_embedding(loader, vision);
  copy_to(loader, vision->class_embedding, fetch_vector(loader, CLIPC__CLASS_EMBEDDING, width), width);
  copy_to(loader, vision->position_embedding, fetch_matrix(loader, CLIPC__POSITION_EMBEDDING, vision->n_tokens, width),
          vision->n_tokens * width);
  if (config->ln_pre) load_norm(loader, &vision->ln_pre, CLIPC__LN_PRE_WEIGHT, CLIPC__LN_PRE_BIAS, width);
  load_blocks(loader, &vision->transformer);
  load_norm(loader, &vision->ln_post, CLIPC__LN_FINAL_WEIGHT, CLIPC__LN_FINAL_BIAS, width);
  if (config->projection) load_projection(loader, &vision->projection);
}

static void load_text(struct tower_loader *loader, struct clipc__text *text) {
  const struct clipc__text_config *config = &text->config;
  size_t width = (size_t)config->transformer.width, context = (size_t)config->context_length;
  text->token_embedding = fetch_matrix(loader, CLIPC__TOKEN_EMBEDDING, (size_t)config->vocab_size, width);
  copy_to(loader, text->position_embedding, fetch_matrix(loader, CLIPC__POSITION_EMBEDDING, context, width),
          context * width);
  load_blocks(loader, &text->transformer);
  load_norm(loader, &text->ln_final, CLIPC__LN_FINAL_WEIGHT, CLIPC__LN_FINAL_BIAS, width);
  loader->projection_bias = config->projection_bias;
  if (config->projection) load_projection(loader, &text->projection);
}

/* Lays one tower out in memory of the model's arena, fetches it and packs it. */
static void load_tower(struct tower_loader *loader, int tower) {
  struct clipc_model *model = loader->model;
  struct clipc__layout layout = {.clear = true};
  bool image = tower == CLIPC_TOWER_IMAGE;
  struct clipc__arena staging = {.allocator = model->allocator};
  if (loader->status == CLIPC_OK)
    loader->status = image ? clipc__vision_shape(model, loader->error) : clipc__text_shape(model, loader->error);
  if (loader->status != CLIPC_OK) return;
  const struct clipc__transformer *transformer = image ? &model->vision.transformer : &model->text.transformer;
  image ? clipc__vision_layout(&layout, &model->vision) : clipc__text_layout(&layout, &model->text);
  layout.base = clipc__arena_take_unset(&model->arena, layout.n_bytes, 1);
  layout.n_bytes = 0;
  loader->tower = tower;
  loader->staging = &staging;
  loader->n_jobs = 0;
  loader->jobs = clipc__arena_take(&staging, (size_t)transformer->config.n_layers * LINEARS_PER_BLOCK + OTHER_LINEARS,
                                   sizeof *loader->jobs);
  if (layout.base == NULL || loader->jobs == NULL) {
    loader->status = clipc__no_memory(loader->error, image ? "the image tower" : "the text tower");
  } else if (image) {
    clipc__vision_layout(&layout, &model->vision);
    load_vision(loader, &model->vision);
  } else {
    clipc__text_layout(&layout, &model->text);
    load_text(loader, &model->text);
  }
  if (loader->status == CLIPC_OK) clipc__pack_linears(loader->jobs, loader->n_jobs, model->n_threads);
  model->memory[image ? 0 : 1] = layout;
  clipc__arena_free(&staging);
  for (size_t i = 0; i < model->tensors.n_files; i++) clipc__file_rest(&model->tensors.files[i]);
}

/* logit_scale is stored as a logarithm. A folder of one tower need not have it. */
static void load_scale(struct tower_loader *loader) {
  struct clipc_model *model = loader->model;
  loader->staging = &model->arena;
  char name[CLIPC__NAME_BYTES];
  model->logit_scale = 1.0f / 0.07f;
  bool both = model->vision.config.present && model->text.config.present;
  clipc__part_name(name, loader->naming, loader->tower, CLIPC__LOGIT_SCALE, 0, false);
  if (both || clipc__tensors_find(&model->tensors, name))
    model->logit_scale = expf(fetch_number(loader, CLIPC__LOGIT_SCALE));
  const char *bias_name = clipc__part_name(name, loader->naming, loader->tower, CLIPC__LOGIT_BIAS, 0, false);
  if (bias_name && clipc__tensors_find(&model->tensors, bias_name))
    model->logit_bias = fetch_number(loader, CLIPC__LOGIT_BIAS);
  if (loader->status == CLIPC_OK && !(isfinite(model->logit_scale) && isfinite(model->logit_bias)))
    loader->status = clipc__fail(loader->error, CLIPC_E_MODEL, "%s is not finite",
                                 isfinite(model->logit_scale) ? "logit_bias" : "the exponential of logit_scale");
}

clipc_status clipc__model_open_tokenizer(struct clipc__tokenizer **out, const struct clipc_model *model,
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
  return clipc__tokenizer_open(out, store, &options, &model->allocator, error);
}

/* A folder without tokeniser files still embeds ids: the sentence is kept for whoever asks for more. */
static clipc_status load_tokenizer(struct clipc_model *model, const struct clipc__store *store, clipc_error *error) {
  clipc_status status = clipc__model_open_tokenizer(&model->tokenizer, model, store, &model->tokenizer_error);
  if (status == CLIPC_OK || status == CLIPC_E_IO) return CLIPC_OK;
  if (error) *error = model->tokenizer_error;
  return status;
}

static clipc_status load_towers(struct tower_loader *loader) {
  struct clipc_model *model = loader->model;
  if (model->config.vision.present) load_tower(loader, CLIPC_TOWER_IMAGE);
  if (model->config.text.present) load_tower(loader, CLIPC_TOWER_TEXT);
  load_scale(loader);
  if (loader->status == CLIPC_OK) model->embedding_dimension = (size_t)model->config.embedding_dimension;
  return loader->status;
}

clipc_status clipc__model_load_synthetic(struct clipc_model *model, const char *shape, clipc_error *error) {
  model->arena.allocator = model->allocator;
  clipc_status status = clipc__synthetic_config(&model->config, shape, &model->options, error);
  if (status != CLIPC_OK) return status;
  struct clipc__synthetic synthetic = {.model = model};
  clipc__fail(&model->tokenizer_error, CLIPC_E_MODEL, "a synthetic model has no tokeniser");
  return load_towers(&(struct tower_loader){
      .model = model, .naming = CLIPC__NAMES_HF, .synthetic = &synthetic, .status = CLIPC_OK, .error = error});
}

/* Of what was read only the token embedding is used where it lies: the towers have their numbers in their own memory.
 */
static clipc_status rest_tensors(struct clipc_model *model, clipc_error *error) {
  struct clipc__tensors *tensors = &model->tensors;
  const char *rows = (const char *)model->text.token_embedding;
  for (size_t i = 0; i < tensors->n_files && rows != NULL; i++) {
    const struct clipc__file *file = &tensors->files[i];
    const char *data = (const char *)file->data;
    if (rows < data || rows >= data + file->n_bytes) continue;
    if (file->mapped) return CLIPC_OK;
    size_t n = (size_t)model->text.config.vocab_size * (size_t)model->text.config.transformer.width;
    float *copy = clipc__arena_take_unset(&model->arena, n, sizeof *copy);
    if (copy == NULL) return clipc__no_memory(error, "the token embedding");
    memcpy(copy, rows, n * sizeof *copy);
    model->text.token_embedding = copy;
  }
  clipc__tensors_close(tensors);
  return CLIPC_OK;
}

clipc_status clipc__model_load(struct clipc_model *model, const char *folder, clipc_error *error) {
  struct clipc__store store = {.path = folder};
  model->arena.allocator = model->allocator;
  model->folder = clipc__arena_string(&model->arena, folder, strlen(folder));
  if (model->folder == NULL) return clipc__no_memory(error, folder);
  clipc_status status = clipc__config_read(&model->config, &store, &model->options, error);
  if (status != CLIPC_OK) return status;
  status = clipc__tensors_open(&model->tensors, folder, model->config.open_clip, &model->options, error);
  if (status != CLIPC_OK) return status;
  model->weights_name = model->tensors.file_name;
  struct tower_loader loader = {.model = model, .status = CLIPC_OK, .error = error};
  status = clipc__naming_detect(&loader.naming, &model->tensors, &model->config, error);
  if (status != CLIPC_OK) return status;
  status = load_towers(&loader);
  if (status == CLIPC_OK) status = rest_tensors(model, error);
  if (status != CLIPC_OK) return status;
  return model->config.text.present ? load_tokenizer(model, &store, error) : CLIPC_OK;
}

void clipc__model_unload(struct clipc_model *model) {
  clipc__tokenizer_close(model->tokenizer);
  clipc__packed_close(model->packed);
  clipc__tensors_close(&model->tensors);
  clipc__arena_free(&model->arena);
}
