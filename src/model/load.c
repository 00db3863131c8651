/* A folder becomes a model: configuration, tensors by name and shape, tokeniser.
 * Weights stay where they lie in the mapped file; only open_clip's projections, stored [in, out], are transposed.
 * Every tensor that is used is checked against the configuration here; the towers rely on it. */
#include "model/model.h"

#include <math.h>

/* What stays the same while the tensors of one tower are fetched. The first failure sticks: later fetches do
 * nothing, and the caller looks once. */
struct tower_loader {
  struct clipc_model *model;
  enum clipc__naming naming;
  int tower, layer;
  bool projection_bias;
  clipc_status status;
  clipc_error *error;
};

static const float *fetch(struct tower_loader *loader, enum clipc__part part, int rank, const uint64_t *shape) {
  char buffer[CLIPC__NAME_BYTES];
  const float *data = NULL;
  if (loader->status != CLIPC_OK) return NULL;
  const char *name =
      clipc__part_name(buffer, loader->naming, loader->tower, part, loader->layer, loader->projection_bias);
  loader->status =
      clipc__tensor_f32(&data, &loader->model->tensors, name, rank, shape, &loader->model->arena, loader->error);
  return data;
}

static float fetch_number(struct tower_loader *loader, enum clipc__part part) {
  const float *number = fetch(loader, part, 0, NULL);
  return number ? number[0] : 0.0f;
}

static const float *fetch_vector(struct tower_loader *loader, enum clipc__part part, int n) {
  return fetch(loader, part, 1, (uint64_t[]){(uint64_t)n});
}

static const float *fetch_matrix(struct tower_loader *loader, enum clipc__part part, int rows, int cols) {
  return fetch(loader, part, 2, (uint64_t[]){(uint64_t)rows, (uint64_t)cols});
}

static struct clipc__norm fetch_norm(struct tower_loader *loader, enum clipc__part weight, enum clipc__part bias,
                                     int width) {
  return (struct clipc__norm){fetch_vector(loader, weight, width), fetch_vector(loader, bias, width)};
}

static struct clipc__linear fetch_linear(struct tower_loader *loader, enum clipc__part weight, enum clipc__part bias,
                                         int n_out, int n_in) {
  return (struct clipc__linear){fetch_matrix(loader, weight, n_out, n_in), fetch_vector(loader, bias, n_out),
                                (size_t)n_out, (size_t)n_in};
}

static void fetch_qkv(struct tower_loader *loader, struct clipc__linear qkv[3], int width) {
  if (loader->naming == CLIPC__NAMES_HF || loader->naming == CLIPC__NAMES_HF_BARE) {
    qkv[0] = fetch_linear(loader, CLIPC__Q_WEIGHT, CLIPC__Q_BIAS, width, width);
    qkv[1] = fetch_linear(loader, CLIPC__K_WEIGHT, CLIPC__K_BIAS, width, width);
    qkv[2] = fetch_linear(loader, CLIPC__V_WEIGHT, CLIPC__V_BIAS, width, width);
    return;
  }
  struct clipc__linear fused = fetch_linear(loader, CLIPC__QKV_WEIGHT, CLIPC__QKV_BIAS, 3 * width, width);
  if (loader->status != CLIPC_OK) return;
  size_t n = (size_t)width;
  for (size_t i = 0; i < 3; i++) qkv[i] = (struct clipc__linear){fused.weight + i * n * n, fused.bias + i * n, n, n};
}

static void fetch_blocks(struct tower_loader *loader, struct clipc__transformer *transformer,
                         const struct clipc__transformer_config *config) {
  int width = config->width;
  transformer->config = *config;
  transformer->blocks = clipc__arena_take(&loader->model->arena, (size_t)config->n_layers, sizeof *transformer->blocks);
  if (transformer->blocks == NULL && loader->status == CLIPC_OK)
    loader->status = clipc__no_memory(loader->error, "the blocks");
  for (int layer = 0; layer < config->n_layers && loader->status == CLIPC_OK; layer++) {
    struct clipc__block_weights *block = &transformer->blocks[layer];
    loader->layer = layer;
    block->ln_1 = fetch_norm(loader, CLIPC__LN_1_WEIGHT, CLIPC__LN_1_BIAS, width);
    fetch_qkv(loader, block->qkv, width);
    block->out = fetch_linear(loader, CLIPC__OUT_WEIGHT, CLIPC__OUT_BIAS, width, width);
    block->ln_2 = fetch_norm(loader, CLIPC__LN_2_WEIGHT, CLIPC__LN_2_BIAS, width);
    block->fc1 = fetch_linear(loader, CLIPC__FC1_WEIGHT, CLIPC__FC1_BIAS, config->mlp_width, width);
    block->fc2 = fetch_linear(loader, CLIPC__FC2_WEIGHT, CLIPC__FC2_BIAS, width, config->mlp_width);
  }
}

static struct clipc__linear fetch_projection(struct tower_loader *loader, int width) {
  int n_out = loader->model->config.embedding_dimension;
  struct clipc__linear projection = {NULL, NULL, (size_t)n_out, (size_t)width};
  bool is_hf = loader->naming == CLIPC__NAMES_HF || loader->naming == CLIPC__NAMES_HF_BARE;
  if (loader->projection_bias) projection.bias = fetch_vector(loader, CLIPC__PROJECTION_BIAS, n_out);
  if (is_hf || loader->projection_bias) {
    projection.weight = fetch_matrix(loader, CLIPC__PROJECTION_WEIGHT, n_out, width);
    return projection;
  }
  const float *stored = fetch_matrix(loader, CLIPC__PROJECTION_WEIGHT, width, n_out); /* [in, out] */
  if (loader->status != CLIPC_OK) return projection;
  float *weight = clipc__arena_take(&loader->model->arena, projection.n_out * projection.n_in, sizeof *weight);
  if (weight == NULL) {
    loader->status = clipc__no_memory(loader->error, "a projection");
    return projection;
  }
  for (size_t i = 0; i < projection.n_out; i++)
    for (size_t j = 0; j < projection.n_in; j++) weight[i * projection.n_in + j] = stored[j * projection.n_out + i];
  projection.weight = weight;
  return projection;
}

static void load_vision(struct tower_loader *loader, struct clipc__vision *vision) {
  const struct clipc__vision_config *config = &loader->model->config.vision;
  int width = config->transformer.width, patch = config->patch;
  vision->config = *config;
  vision->grid_height = (size_t)(config->image_height / patch);
  vision->grid_width = (size_t)(config->image_width / patch);
  vision->n_tokens = 1 + vision->grid_height * vision->grid_width;
  uint64_t patch_shape[4] = {(uint64_t)width, 3, (uint64_t)patch, (uint64_t)patch};
  vision->patch_embedding.weight = fetch(loader, CLIPC__PATCH_EMBEDDING, 4, patch_shape);
  vision->patch_embedding.n_out = (size_t)width;
  vision->patch_embedding.n_in = 3 * (size_t)patch * (size_t)patch;
  vision->class_embedding = fetch_vector(loader, CLIPC__CLASS_EMBEDDING, width);
  vision->position_embedding = fetch_matrix(loader, CLIPC__POSITION_EMBEDDING, (int)vision->n_tokens, width);
  if (config->ln_pre) vision->ln_pre = fetch_norm(loader, CLIPC__LN_PRE_WEIGHT, CLIPC__LN_PRE_BIAS, width);
  fetch_blocks(loader, &vision->transformer, &config->transformer);
  vision->ln_post = fetch_norm(loader, CLIPC__LN_FINAL_WEIGHT, CLIPC__LN_FINAL_BIAS, width);
  if (config->projection) vision->projection = fetch_projection(loader, width);
}

static void load_text(struct tower_loader *loader, struct clipc__text *text) {
  const struct clipc__text_config *config = &loader->model->config.text;
  int width = config->transformer.width;
  text->config = *config;
  bool pads_count = !config->causal || config->pooling == CLIPC__POOL_LAST;
  if (pads_count && (config->pad_id < 0 || config->pad_id >= config->vocab_size)) {
    loader->status =
        clipc__fail(loader->error, CLIPC_E_MODEL, "the text tower's pad_id %d is not in its vocabulary of %d",
                    config->pad_id, config->vocab_size);
    return;
  }
  text->token_embedding = fetch_matrix(loader, CLIPC__TOKEN_EMBEDDING, config->vocab_size, width);
  text->position_embedding = fetch_matrix(loader, CLIPC__POSITION_EMBEDDING, config->context_length, width);
  fetch_blocks(loader, &text->transformer, &config->transformer);
  text->ln_final = fetch_norm(loader, CLIPC__LN_FINAL_WEIGHT, CLIPC__LN_FINAL_BIAS, width);
  loader->projection_bias = config->projection_bias;
  if (config->projection) text->projection = fetch_projection(loader, width);
}

/* logit_scale is stored as a logarithm. A folder of one tower need not have it. */
static void load_scale(struct tower_loader *loader) {
  struct clipc_model *model = loader->model;
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

/* A folder without tokeniser files still embeds ids: the sentence is kept for whoever asks for more. */
static clipc_status load_tokenizer(struct clipc_model *model, const char *folder, clipc_error *error) {
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
  clipc_status status =
      clipc__tokenizer_open(&model->tokenizer, folder, &options, &model->allocator, &model->tokenizer_error);
  if (status == CLIPC_OK || status == CLIPC_E_IO) return CLIPC_OK;
  if (error) *error = model->tokenizer_error;
  return status;
}

clipc_status clipc__model_load(struct clipc_model *model, const char *folder, clipc_error *error) {
  model->arena.allocator = model->allocator;
  clipc_status status = clipc__config_read(&model->config, folder, &model->options, error);
  if (status != CLIPC_OK) return status;
  status = clipc__tensors_open(&model->tensors, folder, model->config.open_clip, &model->options, error);
  if (status != CLIPC_OK) return status;
  struct tower_loader loader = {.model = model, .status = CLIPC_OK, .error = error};
  status = clipc__naming_detect(&loader.naming, &model->tensors, &model->config, error);
  if (status != CLIPC_OK) return status;
  if (model->config.vision.present) {
    loader.tower = CLIPC_TOWER_IMAGE;
    load_vision(&loader, &model->vision);
  }
  if (model->config.text.present) {
    loader.tower = CLIPC_TOWER_TEXT;
    load_text(&loader, &model->text);
  }
  load_scale(&loader);
  if (loader.status != CLIPC_OK) return loader.status;
  model->embedding_dimension = (size_t)model->config.embedding_dimension;
  return model->config.text.present ? load_tokenizer(model, folder, error) : CLIPC_OK;
}

void clipc__model_unload(struct clipc_model *model) {
  clipc__tokenizer_close(model->tokenizer);
  clipc__tensors_close(&model->tensors);
  clipc__arena_free(&model->arena);
}
