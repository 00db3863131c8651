/* The shapes of a tower's parts, and their places in the tower's one piece of memory.
 * The order here is the order of a packed file. */
#include "model/model.h"

#include <string.h>

#define LAYOUT_ALIGNMENT 64u

static const void *place(struct clipc__layout *layout, size_t n, size_t size) {
  size_t at = layout->n_bytes;
  layout->n_bytes += (n * size + LAYOUT_ALIGNMENT - 1) & ~(size_t)(LAYOUT_ALIGNMENT - 1);
  if (layout->base == NULL) return NULL;
  if (layout->clear) memset(layout->base + at + n * size, 0, layout->n_bytes - at - n * size);
  return layout->base + at;
}

static void place_linear(struct clipc__layout *layout, struct clipc__linear *linear, bool bias) {
  const struct clipc__gemm *gemm = linear->gemm;
  size_t n_panels = clipc__n_panels(gemm, linear->n_out), n_cols = n_panels * gemm->panel_cols;
  bool is_int = gemm->weights == CLIPC__S8;
  linear->panels = place(layout, n_panels, clipc__panel_bytes(gemm, linear->n_in));
  if (bias) linear->bias = place(layout, n_cols, sizeof *linear->bias);
  if (is_int) linear->scale = place(layout, n_cols, sizeof *linear->scale);
  if (is_int) linear->sum = place(layout, n_cols, sizeof *linear->sum);
}

static void place_norm(struct clipc__layout *layout, struct clipc__norm *norm, size_t width) {
  norm->weight = place(layout, width, sizeof *norm->weight);
  norm->bias = place(layout, width, sizeof *norm->bias);
}

static void place_blocks(struct clipc__layout *layout, struct clipc__transformer *transformer) {
  for (int layer = 0; layer < transformer->config.n_layers; layer++) {
    struct clipc__block_weights *block = &transformer->blocks[layer];
    for (int i = 0; i < 3; i++) place_linear(layout, &block->qkv[i], true);
    place_linear(layout, &block->out, true);
    place_linear(layout, &block->fc1, true);
    place_linear(layout, &block->fc2, true);
  }
}

void clipc__vision_layout(struct clipc__layout *layout, struct clipc__vision *vision) {
  size_t width = (size_t)vision->transformer.config.width;
  place_linear(layout, &vision->patch_embedding, true);
  vision->class_embedding = place(layout, width, sizeof(float));
  vision->position_embedding = place(layout, vision->n_tokens, width * sizeof(float));
  if (vision->config.ln_pre) place_norm(layout, &vision->ln_pre, width);
  place_blocks(layout, &vision->transformer);
  place_norm(layout, &vision->ln_post, width);
  if (vision->config.projection) place_linear(layout, &vision->projection, false);
}

void clipc__text_layout(struct clipc__layout *layout, struct clipc__text *text) {
  size_t width = (size_t)text->transformer.config.width;
  text->position_embedding = place(layout, (size_t)text->config.context_length, width * sizeof(float));
  place_blocks(layout, &text->transformer);
  place_norm(layout, &text->ln_final, width);
  if (text->config.projection) place_linear(layout, &text->projection, text->config.projection_bias);
}

/* ---- shapes */

static struct clipc__linear shape_linear(const struct clipc__gemm *gemm, size_t n_out, size_t n_in) {
  return (struct clipc__linear){.gemm = gemm, .n_out = n_out, .n_in = n_in};
}

static clipc_status shape_blocks(struct clipc_model *model, struct clipc__transformer *transformer,
                                 const struct clipc__transformer_config *config, clipc_error *error) {
  const struct clipc__gemm *gemm = &model->kernels.gemm[model->options.precision];
  size_t width = (size_t)config->width, mlp_width = (size_t)config->mlp_width;
  if (gemm->weights == CLIPC__S8 && (width > CLIPC__INT8_MAX_K || mlp_width > CLIPC__INT8_MAX_K))
    return clipc__fail(error, CLIPC_E_UNSUPPORTED, "option precision: int8 does layers of up to %u inputs, not of %zu",
                       CLIPC__INT8_MAX_K, width > mlp_width ? width : mlp_width);
  transformer->config = *config;
  transformer->blocks = clipc__arena_take(&model->arena, (size_t)config->n_layers, sizeof *transformer->blocks);
  if (transformer->blocks == NULL) return clipc__no_memory(error, "the blocks");
  for (int layer = 0; layer < config->n_layers; layer++) {
    struct clipc__block_weights *block = &transformer->blocks[layer];
    for (int i = 0; i < 3; i++) block->qkv[i] = shape_linear(gemm, width, width);
    block->out = shape_linear(gemm, width, width);
    block->fc1 = shape_linear(gemm, mlp_width, width);
    block->fc2 = shape_linear(gemm, width, mlp_width);
  }
  return CLIPC_OK;
}

/* The last layer of a tower is small, and what it rounds nothing evens out: not in int8. */
static const struct clipc__gemm *projection_gemm(const struct clipc_model *model) {
  bool is_int = model->options.precision == CLIPC_PRECISION_INT8;
  return &model->kernels.gemm[is_int ? CLIPC_PRECISION_BF16 : model->options.precision];
}

clipc_status clipc__vision_shape(struct clipc_model *model, clipc_error *error) {
  struct clipc__vision *vision = &model->vision;
  const struct clipc__vision_config *config = &model->config.vision;
  size_t width = (size_t)config->transformer.width, patch = (size_t)config->patch;
  vision->config = *config;
  vision->grid_height = (size_t)config->image_height / patch;
  vision->grid_width = (size_t)config->image_width / patch;
  vision->n_tokens = 1 + vision->grid_height * vision->grid_width;
  clipc_precision precision = model->options.precision;
  if (3 * patch * patch > CLIPC__INT8_MAX_K && precision == CLIPC_PRECISION_INT8) precision = CLIPC_PRECISION_BF16;
  vision->patch_embedding = shape_linear(&model->kernels.gemm[precision], width, 3 * patch * patch);
  vision->projection = shape_linear(projection_gemm(model), (size_t)model->config.embedding_dimension, width);
  return shape_blocks(model, &vision->transformer, &config->transformer, error);
}

bool clipc__text_needs_pads(const struct clipc__text_config *config) {
  return !config->causal || config->pooling == CLIPC__POOL_LAST;
}

clipc_status clipc__text_shape(struct clipc_model *model, clipc_error *error) {
  struct clipc__text *text = &model->text;
  const struct clipc__text_config *config = &model->config.text;
  if (clipc__text_needs_pads(config) && (config->pad_id < 0 || config->pad_id >= config->vocab_size))
    return clipc__fail(error, CLIPC_E_MODEL, "the text tower's pad_id %d is not in its vocabulary of %d",
                       config->pad_id, config->vocab_size);
  text->config = *config;
  text->projection = shape_linear(projection_gemm(model), (size_t)model->config.embedding_dimension,
                                  (size_t)config->transformer.width);
  return shape_blocks(model, &text->transformer, &config->transformer, error);
}

#undef LAYOUT_ALIGNMENT
