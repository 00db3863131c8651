/* The image tower (a ViT):
 *
 *   levels [3, H, W] -> patches [grid, 3 * patch * patch] -> patch_embedding [grid, width]
 *   tokens = [class_embedding; patches] + position_embedding -> ln_pre -> blocks
 *   class token (or the mean of the patch tokens) -> ln_post -> projection [embedding]
 *
 * Follows transformers' CLIPVisionModelWithProjection and open_clip's VisionTransformer. */
#include "base/threads.h"
#include "model/model.h"

#include <math.h>
#include <string.h>

struct clipc__levels clipc__levels_of(const clipc_preprocessing *steps) {
  struct clipc__levels levels;
  for (int c = 0; c < 3; c++) {
    double factor = steps->do_rescale ? steps->rescale_factor : 1.0;
    double mean = steps->do_normalize ? (double)steps->mean[c] : 0.0;
    double std = steps->do_normalize ? (double)steps->std[c] : 1.0;
    levels.gain[c] = (float)(factor / std);
    levels.shift[c] = (float)((CLIPC__LEVEL_OFFSET * factor - mean) / std);
  }
  return levels;
}

/* Pixels that somebody else made lose digits against a shift far above what towers take; with steps that lead there,
 * pictures lose less by the other way: as pixels. */
struct clipc__levels clipc__levels_to_fold(const clipc_preprocessing *steps) {
  struct clipc__levels levels = clipc__levels_of(steps);
  for (int c = 0; c < 3; c++)
    if (fabsf(levels.shift[c]) > 4.0f) return (struct clipc__levels){.gain = {1 / 64.0f, 1 / 64.0f, 1 / 64.0f}};
  return levels;
}

void clipc__vision_levels(float *levels, const float *pixels, const struct clipc__vision *vision) {
  size_t plane = (size_t)vision->config.image_height * (size_t)vision->config.image_width;
  unsigned mode = clipc__denormals_off();
  for (size_t c = 0; c < 3; c++, levels += plane, pixels += plane) {
    float factor = 1.0f / vision->levels.gain[c], shift = vision->levels.shift[c];
    for (size_t i = 0; i < plane; i++) levels[i] = (pixels[i] - shift) * factor;
  }
  clipc__denormals_restore(mode);
}

struct patch_job {
  struct clipc__workspace *ws;
  const struct clipc__vision *vision;
};

/* The conv of stride patch as a product: one row of patches per token, in the order of the weight
 * [width, 3, patch, patch]. Border pixels that fill no whole patch are left out. A chunk: a row of an image's grid. */
static void cut_patches(void *context, size_t chunk, int slot) {
  (void)slot;
  const struct patch_job *job = context;
  const struct clipc__vision *vision = job->vision;
  size_t patch = (size_t)vision->config.patch, height = (size_t)vision->config.image_height;
  size_t width = (size_t)vision->config.image_width, n_in = vision->patch_embedding.n_in;
  size_t image = chunk / vision->grid_height, row = chunk % vision->grid_height;
  const float *levels = job->ws->pixels + image * 3 * height * width;
  float *patches = job->ws->wide + chunk * vision->grid_width * n_in;
  for (size_t col = 0; col < vision->grid_width; col++)
    for (size_t channel = 0; channel < 3; channel++)
      for (size_t y = 0; y < patch; y++, patches += patch)
        memcpy(patches, levels + (channel * height + row * patch + y) * width + col * patch, patch * sizeof *patches);
}

/* [class_embedding; patches] + position_embedding */
static void place_tokens(void *context, size_t image, int slot) {
  (void)slot;
  const struct patch_job *job = context;
  size_t width = (size_t)job->vision->transformer.config.width, n_patches = job->vision->n_tokens - 1;
  const float *patches = job->ws->attended + image * n_patches * width, *position = job->vision->position_embedding;
  float *hidden = job->ws->hidden + image * (n_patches + 1) * width;
  for (size_t i = 0; i < width; i++) hidden[i] = job->vision->class_embedding[i] + position[i];
  for (size_t i = 0; i < n_patches * width; i++) hidden[width + i] = patches[i] + position[width + i];
}

void clipc__vision_begin(struct clipc__workspace *ws, const struct clipc__vision *vision, size_t n) {
  const struct clipc__transformer_config *config = &vision->transformer.config;
  size_t width = (size_t)config->width, n_tokens = vision->n_tokens;
  struct patch_job job = {ws, vision};
  struct clipc__rows patches = {
      .x = ws->wide, .stride = vision->patch_embedding.n_in, .n = n * (n_tokens - 1), .levels = true};
  clipc__parallel(ws->compute.n_threads, n * vision->grid_height, cut_patches, &job);
  clipc__linear_forward(&ws->compute, ws->attended, width, &patches, &vision->patch_embedding, 1, CLIPC__NO_ACTIVATION,
                        CLIPC__STORE);
  clipc__parallel(ws->compute.n_threads, n, place_tokens, &job);
  for (size_t s = 0; s < n; s++) ws->pooled_at[s] = 0;
  for (size_t s = 0; s <= n; s++) ws->start[s] = s * n_tokens;
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
