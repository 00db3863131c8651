/* The network of OpenAI's own checkpoints, which come without a config: told by the shapes of the tensors.
 * In: a table with open_clip's names and OpenAI's three marks. Out: both towers of clipc__config.
 * Must match: OpenAI's build_model: heads of 64, quick_gelu, the whole of it known. Without the marks the same names
 * may belong to a network with another activation or other heads, so nothing is inferred then. */
#include "weights/weights.h"

#include <stdio.h>

struct infer_source {
  const struct clipc__tensors *tensors;
  clipc_error *error;
  clipc_status status;
};

/* Size of one dimension of a tensor of that rank, within 1..max. */
static int infer_size(struct infer_source *source, const char *name, int rank, int dimension, int max) {
  const struct clipc__tensor *tensor = clipc__tensors_find(source->tensors, name);
  if (source->status != CLIPC_OK) return 1;
  if (tensor && tensor->rank == rank && tensor->shape[dimension] >= 1 && tensor->shape[dimension] <= (uint64_t)max)
    return (int)tensor->shape[dimension];
  source->status = clipc__fail(source->error, CLIPC_E_MODEL, "%s: tensor %s is %s, so the network cannot be inferred",
                               source->tensors->tensors[0].file, name, tensor ? "misshapen" : "missing");
  return 1;
}

static void infer_transformer(struct clipc__transformer_config *out, struct infer_source *source, const char *prefix,
                              int width) {
  char name[CLIPC__NAME_BYTES];
  int n = 0;
  for (; n < CLIPC__MAX_LAYERS; n++) {
    snprintf(name, sizeof name, "%stransformer.resblocks.%d.attn.in_proj_weight", prefix, n);
    if (clipc__tensors_find(source->tensors, name) == NULL) break;
  }
  snprintf(name, sizeof name, "%stransformer.resblocks.0.mlp.c_fc.weight", prefix);
  *out = (struct clipc__transformer_config){.width = width,
                                            .n_layers = n,
                                            .n_heads = width / 64,
                                            .mlp_width = infer_size(source, name, 2, 0, CLIPC__MAX_MLP),
                                            .layer_norm_eps = 1e-5f,
                                            .activation = CLIPC__QUICK_GELU};
  if (source->status == CLIPC_OK && (n < 1 || width % 64 != 0))
    source->status = clipc__fail(source->error, CLIPC_E_UNSUPPORTED, "%s: %slayers and heads of 64 do not fit width %d",
                                 source->tensors->tensors[0].file, prefix, width);
}

static void infer_vision(struct clipc__vision_config *vision, struct infer_source *source) {
  static const char position[] = "visual.positional_embedding";
  int width = infer_size(source, "visual.conv1.weight", 4, 0, CLIPC__MAX_WIDTH);
  int n_tokens = infer_size(source, position, 2, 0, 1 + CLIPC__MAX_IMAGE * CLIPC__MAX_IMAGE), grid = 1;
  vision->patch = infer_size(source, "visual.conv1.weight", 4, 3, CLIPC__MAX_PATCH);
  while (grid * grid < n_tokens - 1) grid++;
  if (source->status == CLIPC_OK && (grid * grid != n_tokens - 1 || grid * vision->patch > CLIPC__MAX_IMAGE))
    source->status = clipc__fail(source->error, CLIPC_E_UNSUPPORTED, "%s: tensor %s has %d rows: no square of patches",
                                 source->tensors->tensors[0].file, position, n_tokens);
  vision->present = vision->ln_pre = vision->projection = true;
  vision->image_height = vision->image_width = grid * vision->patch;
  vision->pooling = CLIPC__POOL_CLASS;
  infer_transformer(&vision->transformer, source, "visual.", width);
}

static void infer_text(struct clipc__text_config *text, struct infer_source *source) {
  int width = infer_size(source, "token_embedding.weight", 2, 1, CLIPC__MAX_WIDTH);
  text->present = text->causal = text->projection = true;
  text->vocab_size = infer_size(source, "token_embedding.weight", 2, 0, CLIPC__MAX_VOCAB);
  text->context_length = infer_size(source, "positional_embedding", 2, 0, CLIPC__MAX_CONTEXT);
  text->pooling = CLIPC__POOL_ARGMAX;
  text->eos_id = text->vocab_size - 1;
  infer_transformer(&text->transformer, source, "", width);
  if (source->status == CLIPC_OK && text->context_length < 2)
    source->status = clipc__fail(source->error, CLIPC_E_FORMAT, "%s: tensor positional_embedding has 1 row",
                                 source->tensors->tensors[0].file);
}

clipc_status clipc__config_infer(struct clipc__config *config, const struct clipc__tensors *tensors, const char *folder,
                                 int towers, clipc_error *error) {
  struct infer_source source = {tensors, error, CLIPC_OK};
  if (!clipc__tensors_find(tensors, "input_resolution") || !clipc__tensors_find(tensors, "vocab_size"))
    return clipc__fail(error, CLIPC_E_IO,
                       "%s: has no config.json and no open_clip_config.json, and its weights are not OpenAI's", folder);
  if (towers == 0) towers = CLIPC_TOWER_IMAGE | CLIPC_TOWER_TEXT;
  config->embedding_dimension = infer_size(&source, "text_projection", 2, 1, CLIPC__MAX_WIDTH);
  if (towers & CLIPC_TOWER_IMAGE) infer_vision(&config->vision, &source);
  if (towers & CLIPC_TOWER_TEXT) infer_text(&config->text, &source);
  return source.status;
}

/* A ratio from which the width gives just this MLP width, cut to a whole number. */
static double infer_mlp_ratio(const struct clipc__transformer_config *config) {
  return (config->mlp_width + 0.5) / config->width;
}

void clipc__config_inferred_text(char text[CLIPC__INFERRED_BYTES], const struct clipc__config *config) {
  const struct clipc__vision_config *v = &config->vision;
  const struct clipc__text_config *t = &config->text;
  size_t n = CLIPC__INFERRED_BYTES, at = 0;
  at += (size_t)snprintf(text + at, n - at, "{\"embed_dim\": %d, \"quick_gelu\": true", config->embedding_dimension);
  if (v->present)
    at += (size_t)snprintf(text + at, n - at,
                           ", \"vision_cfg\": {\"width\": %d, \"layers\": %d, \"mlp_ratio\": %.17g, "
                           "\"patch_size\": %d, \"image_size\": %d}",
                           v->transformer.width, v->transformer.n_layers, infer_mlp_ratio(&v->transformer), v->patch,
                           v->image_height);
  if (t->present)
    at += (size_t)snprintf(text + at, n - at,
                           ", \"text_cfg\": {\"width\": %d, \"layers\": %d, \"heads\": %d, \"mlp_ratio\": %.17g, "
                           "\"vocab_size\": %d, \"context_length\": %d, \"eos_id\": %d}",
                           t->transformer.width, t->transformer.n_layers, t->transformer.n_heads,
                           infer_mlp_ratio(&t->transformer), t->vocab_size, t->context_length, t->eos_id);
  snprintf(text + at, n - at, "}\n");
}
