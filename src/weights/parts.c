/* The parts of a network, one after the other.
 * In: a configuration and a spelling. Out: each part that the configuration has, with the name and shape of its tensor.
 * Must match: what load.c fetches. */
#include "weights/weights.h"

/* Whether the network has it; the spelling may still have no name for it. */
static bool parts_wanted(const struct clipc__parts *parts) {
  const struct clipc__config *config = parts->config;
  bool image = parts->tower == CLIPC_TOWER_IMAGE;
  switch (parts->part) {
  case CLIPC__LN_PRE_WEIGHT:
  case CLIPC__LN_PRE_BIAS: return image && config->vision.ln_pre;
  case CLIPC__PROJECTION_WEIGHT: return image ? config->vision.projection : config->text.projection;
  case CLIPC__PROJECTION_BIAS: return !image && config->text.projection_bias;
  default: return true;
  }
}

/* The part behind this one, wanted or not; false at the end of all. */
static bool parts_step(struct clipc__parts *parts) {
  const struct clipc__config *config = parts->config;
  if (!parts->begun) {
    parts->begun = true;
    parts->tower = config->vision.present ? CLIPC_TOWER_IMAGE : CLIPC_TOWER_TEXT;
    parts->part = 0;
    return true;
  }
  int n_layers =
      parts->tower == CLIPC_TOWER_IMAGE ? config->vision.transformer.n_layers : config->text.transformer.n_layers;
  if (parts->tower != 0 && parts->part == CLIPC__FC2_BIAS && ++parts->layer < n_layers) {
    parts->part = CLIPC__LN_1_WEIGHT;
    return true;
  }
  if (parts->part == CLIPC__FC2_BIAS) parts->layer = 0;
  parts->part++;
  if (parts->tower == 0 || parts->part < CLIPC__LOGIT_SCALE) return parts->part < CLIPC__N_PARTS;
  bool text_next = parts->tower == CLIPC_TOWER_IMAGE && config->text.present;
  parts->tower = text_next ? CLIPC_TOWER_TEXT : 0;
  parts->part = text_next ? 0 : CLIPC__LOGIT_SCALE;
  return true;
}

static void parts_set(struct clipc__parts *parts, int rank, uint64_t a, uint64_t b) {
  parts->rank = rank;
  parts->shape[0] = a;
  parts->shape[1] = b;
}

static void parts_block_shape(struct clipc__parts *parts, uint64_t width, uint64_t mlp) {
  switch (parts->part) {
  case CLIPC__Q_WEIGHT:
  case CLIPC__K_WEIGHT:
  case CLIPC__V_WEIGHT:
  case CLIPC__OUT_WEIGHT: parts_set(parts, 2, width, width); return;
  case CLIPC__QKV_WEIGHT: parts_set(parts, 2, 3 * width, width); return;
  case CLIPC__QKV_BIAS: parts_set(parts, 1, 3 * width, 0); return;
  case CLIPC__FC1_WEIGHT: parts_set(parts, 2, mlp, width); return;
  case CLIPC__FC1_BIAS: parts_set(parts, 1, mlp, 0); return;
  case CLIPC__FC2_WEIGHT: parts_set(parts, 2, width, mlp); return;
  default: parts_set(parts, 1, width, 0);
  }
}

static void parts_shape(struct clipc__parts *parts) {
  const struct clipc__config *config = parts->config;
  const struct clipc__vision_config *vision = &config->vision;
  bool image = parts->tower == CLIPC_TOWER_IMAGE;
  const struct clipc__transformer_config *transformer = image ? &vision->transformer : &config->text.transformer;
  uint64_t width = (uint64_t)transformer->width, embedding = (uint64_t)config->embedding_dimension;
  uint64_t patch = (uint64_t)vision->patch, n_positions = (uint64_t)config->text.context_length;
  bool hf = parts->naming == CLIPC__NAMES_HF || parts->naming == CLIPC__NAMES_HF_BARE;
  bool plain = hf || (!image && config->text.projection_bias); /* [out, in]; otherwise [in, out] */
  if (image) n_positions = 1 + (uint64_t)vision->image_height / patch * ((uint64_t)vision->image_width / patch);
  switch (parts->part) {
  case CLIPC__PATCH_EMBEDDING:
    parts_set(parts, 4, width, 3);
    parts->shape[2] = parts->shape[3] = patch;
    return;
  case CLIPC__POSITION_EMBEDDING: parts_set(parts, 2, n_positions, width); return;
  case CLIPC__TOKEN_EMBEDDING: parts_set(parts, 2, (uint64_t)config->text.vocab_size, width); return;
  case CLIPC__PROJECTION_WEIGHT: parts_set(parts, 2, plain ? embedding : width, plain ? width : embedding); return;
  case CLIPC__PROJECTION_BIAS: parts_set(parts, 1, embedding, 0); return;
  case CLIPC__LOGIT_SCALE:
  case CLIPC__LOGIT_BIAS: parts_set(parts, 0, 0, 0); return;
  default: parts_block_shape(parts, width, (uint64_t)transformer->mlp_width);
  }
}

bool clipc__parts_next(struct clipc__parts *parts) {
  while (parts_step(parts)) {
    const char *name = NULL;
    if (parts_wanted(parts))
      name = clipc__part_name(parts->name, parts->naming, parts->tower, parts->part, parts->layer,
                              parts->config->text.projection_bias);
    if (name == NULL) continue;
    bool both = parts->config->vision.present && parts->config->text.present;
    parts->optional = parts->part == CLIPC__LOGIT_BIAS || (parts->part == CLIPC__LOGIT_SCALE && !both);
    parts_shape(parts);
    return true;
  }
  return false;
}

clipc_status clipc__parts_check(bool *used, const struct clipc__tensors *tensors, const struct clipc__config *config,
                                enum clipc__naming naming, clipc_error *error) {
  struct clipc__parts parts = {.config = config, .naming = naming};
  while (clipc__parts_next(&parts)) {
    const struct clipc__tensor *tensor;
    if (parts.optional && clipc__tensors_find(tensors, parts.name) == NULL) continue;
    clipc_status status = clipc__tensor_typed(&tensor, tensors, parts.name, parts.rank, parts.shape, error);
    if (status != CLIPC_OK) return status;
    if (used != NULL) used[tensor - tensors->tensors] = true;
  }
  return CLIPC_OK;
}
