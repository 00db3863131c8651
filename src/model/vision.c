/* The image tower (a ViT):
 *
 *   pixels [3, H, W] -> patches [grid, 3 * patch * patch] -> patch_embedding [grid, width]
 *   tokens = [class_embedding; patches] + position_embedding -> ln_pre -> blocks
 *   class token (or the mean of the patch tokens) -> ln_post -> projection [embedding]
 *
 * Follows transformers' CLIPVisionModelWithProjection and open_clip's VisionTransformer. */
#include "model/model.h"

#include <string.h>

/* The conv of stride patch as a product: one row of patches per token, in the order of the weight
 * [width, 3, patch, patch]. Border pixels that fill no whole patch are left out. */
static void cut_patches(float *patches, const float *pixels, const struct clipc__vision *vision) {
  size_t patch = (size_t)vision->config.patch, height = (size_t)vision->config.image_height;
  size_t width = (size_t)vision->config.image_width;
  for (size_t row = 0; row < vision->grid_height; row++)
    for (size_t col = 0; col < vision->grid_width; col++)
      for (size_t channel = 0; channel < 3; channel++)
        for (size_t y = 0; y < patch; y++, patches += patch)
          memcpy(patches, pixels + (channel * height + row * patch + y) * width + col * patch, patch * sizeof *patches);
}

void clipc__vision_begin(struct clipc__workspace *ws, const struct clipc__vision *vision, size_t n) {
  const struct clipc__transformer_config *config = &vision->transformer.config;
  size_t width = (size_t)config->width, n_tokens = vision->n_tokens, n_patches = n_tokens - 1;
  size_t patch_floats = vision->patch_embedding.n_in;
  size_t image_floats = 3 * (size_t)vision->config.image_height * (size_t)vision->config.image_width;
  for (size_t s = 0; s <= n; s++) ws->start[s] = s * n_tokens;
  for (size_t s = 0; s < n; s++) {
    float *hidden = ws->hidden + s * n_tokens * width;
    cut_patches(ws->wide, ws->pixels + s * image_floats, vision);
    memcpy(hidden, vision->class_embedding, width * sizeof *hidden);
    clipc__linear_forward(&ws->compute, hidden + width, width,
                          &(struct clipc__rows){.x = ws->wide, .stride = patch_floats, .n = n_patches},
                          &vision->patch_embedding, 1, CLIPC__NO_ACTIVATION, CLIPC__STORE);
    for (size_t i = 0; i < n_tokens * width; i++) hidden[i] += vision->position_embedding[i];
    ws->pooled_at[s] = 0;
  }
  if (vision->config.ln_pre)
    clipc__layer_norm(&ws->compute, ws->hidden, ws->hidden, vision->ln_pre.weight, vision->ln_pre.bias, n * n_tokens,
                      width, config->layer_norm_eps);
  ws->sequences = (struct clipc__sequences){n, ws->start, false};
  ws->next_block = 0;
}

bool clipc__vision_pools_one_token(const struct clipc__vision *vision) {
  return vision->config.pooling == CLIPC__POOL_CLASS;
}

/* pooled[s] = mean of rows 1 .. n_tokens - 1 of sequence s */
static void mean_of_patches(float *pooled, const float *x, size_t n, size_t n_tokens, size_t width) {
  for (size_t s = 0; s < n; s++, pooled += width) {
    const float *row = x + s * n_tokens * width;
    memset(pooled, 0, width * sizeof *pooled);
    for (size_t t = 1; t < n_tokens; t++)
      for (size_t i = 0; i < width; i++) pooled[i] += row[t * width + i];
    for (size_t i = 0; i < width; i++) pooled[i] /= (float)(n_tokens - 1);
  }
}

void clipc__vision_finish(struct clipc__workspace *ws, const struct clipc__vision *vision, float *embeddings) {
  const struct clipc__transformer_config *config = &vision->transformer.config;
  const struct clipc__norm *ln = &vision->ln_post;
  size_t width = (size_t)config->width, n = ws->sequences.n;
  float *pooled = ws->pooled; /* where the last block leaves a class token */
  if (!clipc__vision_pools_one_token(vision) && vision->config.pool_before_ln)
    mean_of_patches(pooled, ws->hidden, n, vision->n_tokens, width);
  if (clipc__vision_pools_one_token(vision) || vision->config.pool_before_ln) {
    clipc__layer_norm(&ws->compute, pooled, pooled, ln->weight, ln->bias, n, width, config->layer_norm_eps);
  } else {
    clipc__layer_norm(&ws->compute, ws->attended, ws->hidden, ln->weight, ln->bias, n * vision->n_tokens, width,
                      config->layer_norm_eps);
    mean_of_patches(pooled, ws->attended, n, vision->n_tokens, width);
  }
  if (vision->config.projection)
    clipc__linear_forward(&ws->compute, embeddings, vision->projection.n_out,
                          &(struct clipc__rows){.x = pooled, .stride = width, .n = n}, &vision->projection, 1,
                          CLIPC__NO_ACTIVATION, CLIPC__STORE);
  else
    memcpy(embeddings, pooled, n * width * sizeof *embeddings);
}
