/* Hugging Face's config.json -> the network.
 * In: the fields of a CLIPConfig, CLIPTextConfig or CLIPVisionConfig. Out: both towers of clipc__config.
 * Must match: transformers 5.23, its defaults for absent keys, and text_config_dict and vision_config_dict of old
 * exports: one that is not null replaces the whole sub-config, by the defaults where it is silent.
 * Keys that no CLIP reads are passed over: published files are full of them. */
#include "weights/weights.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

static enum clipc__activation hf_activation(struct clipc__fields *fields) {
  const char *name = clipc__field_string(fields, "hidden_act", "quick_gelu");
  if (strcmp(name, "quick_gelu") == 0) return CLIPC__QUICK_GELU;
  if (strcmp(name, "gelu") == 0) return CLIPC__GELU_ERF;
  if (strcmp(name, "gelu_pytorch_tanh") == 0 || strcmp(name, "gelu_new") == 0) return CLIPC__GELU_TANH;
  clipc__field_refuse(fields, CLIPC_E_UNSUPPORTED, "hidden_act",
                      "not one of quick_gelu, gelu, gelu_pytorch_tanh, gelu_new");
  return CLIPC__QUICK_GELU;
}

static void hf_transformer(struct clipc__transformer_config *out, struct clipc__fields *fields, int width,
                           int n_heads) {
  out->width = clipc__field_int(fields, "hidden_size", width, 1, CLIPC__MAX_WIDTH);
  out->mlp_width = clipc__field_int(fields, "intermediate_size", 4 * width, 1, CLIPC__MAX_MLP);
  out->n_layers = clipc__field_int(fields, "num_hidden_layers", 12, 1, CLIPC__MAX_LAYERS);
  out->n_heads = clipc__field_int(fields, "num_attention_heads", n_heads, 1, CLIPC__MAX_HEADS);
  out->layer_norm_eps = (float)clipc__field_number(fields, "layer_norm_eps", 1e-5, 1e-12, 1.0);
  out->activation = hf_activation(fields);
  if (out->width % out->n_heads != 0)
    clipc__field_refuse(fields, CLIPC_E_FORMAT, "num_attention_heads", "hidden_size is not a multiple of it");
}

static void hf_text(struct clipc__text_config *text, struct clipc__fields *fields) {
  text->present = true;
  hf_transformer(&text->transformer, fields, 512, 8);
  text->vocab_size = clipc__field_int(fields, "vocab_size", 49408, 1, CLIPC__MAX_VOCAB);
  text->context_length = clipc__field_int(fields, "max_position_embeddings", 77, 2, CLIPC__MAX_CONTEXT);
  text->causal = true;
  text->eos_id = clipc__field_int(fields, "eos_token_id", 49407, INT_MIN, INT_MAX);
  text->pad_id =
      clipc__field_set(fields, "pad_token_id") ? clipc__field_int(fields, "pad_token_id", 1, INT_MIN, INT_MAX) : 1;
  text->pooling = text->eos_id == 2 ? CLIPC__POOL_ARGMAX : CLIPC__POOL_EOS; /* 2 marks configs of before 4.31 */
  text->projection = true;
}

static void hf_vision(struct clipc__vision_config *vision, struct clipc__fields *fields) {
  vision->present = true;
  hf_transformer(&vision->transformer, fields, 768, 12);
  int size = clipc__field_int(fields, "image_size", 224, 1, CLIPC__MAX_IMAGE);
  vision->image_height = vision->image_width = size;
  vision->patch = clipc__field_int(fields, "patch_size", 32, 1, CLIPC__MAX_PATCH);
  if (vision->patch > size) clipc__field_refuse(fields, CLIPC_E_FORMAT, "patch_size", "it is larger than image_size");
  if (clipc__field_int(fields, "num_channels", 3, 1, INT_MAX) != 3)
    clipc__field_refuse(fields, CLIPC_E_UNSUPPORTED, "num_channels", "only pictures of 3 channels are supported");
  vision->ln_pre = true;
  vision->pooling = CLIPC__POOL_CLASS;
  vision->projection = true;
}

/* The sub-config as transformers resolves it: the _dict of old exports, else the plain one. */
static struct clipc__fields hf_sub_config(struct clipc__fields *top, bool text) {
  const char *old = text ? "text_config_dict" : "vision_config_dict", *plain = text ? "text_config" : "vision_config";
  if (clipc__field_set(top, old))
    return clipc__field_object(top, old, text ? "text_config_dict." : "vision_config_dict.");
  struct clipc__fields fields = clipc__field_object(top, plain, text ? "text_config." : "vision_config.");
  const char *type = text ? "clip_text_model" : "clip_vision_model";
  if (clipc__field_set(&fields, "model_type") && strcmp(clipc__field_string(&fields, "model_type", type), type) != 0)
    clipc__field_refuse(&fields, CLIPC_E_UNSUPPORTED, "model_type", "not the tower of a CLIP ViT");
  return fields;
}

/* "CLIPTextModel" and the like: which class the folder was saved from; NULL when it does not say. */
static const char *hf_architecture(struct clipc__fields *top) {
  static const char *const known[] = {"CLIPModel", "CLIPTextModel", "CLIPTextModelWithProjection", "CLIPVisionModel",
                                      "CLIPVisionModelWithProjection"};
  for (size_t i = 0; i < sizeof known / sizeof *known; i++)
    if (clipc__field_lists(top, "architectures", known[i])) return known[i];
  return NULL;
}

/* A folder of one tower: the fields lie at the top level, or (saved beside a full config) in the sub-config. */
static void hf_single(struct clipc__config *config, struct clipc__fields *fields, bool text, const char *architecture) {
  bool projection = architecture == NULL || strstr(architecture, "WithProjection") != NULL;
  if (text)
    hf_text(&config->text, fields);
  else
    hf_vision(&config->vision, fields);
  config->text.projection = text && projection;
  config->vision.projection = !text && projection;
  int width = text ? config->text.transformer.width : config->vision.transformer.width;
  config->embedding_dimension =
      projection ? clipc__field_int(fields, "projection_dim", 512, 1, CLIPC__MAX_WIDTH) : width;
}

/* model_type, or by the keys what it must be. */
static const char *hf_model_type(struct clipc__fields *top) {
  if (clipc__field_set(top, "model_type")) return clipc__field_string(top, "model_type", "");
  if (clipc__field(top, "text_config") || clipc__field(top, "vision_config") || clipc__field(top, "text_config_dict") ||
      clipc__field(top, "vision_config_dict"))
    return "clip";
  if (clipc__field(top, "hidden_size") && clipc__field(top, "vocab_size")) return "clip_text_model";
  if (clipc__field(top, "hidden_size") && clipc__field(top, "patch_size")) return "clip_vision_model";
  return "";
}

void clipc__config_hf(struct clipc__config *config, struct clipc__fields *top, int towers) {
  const char *type = hf_model_type(top), *architecture = hf_architecture(top);
  bool only_text = strcmp(type, "clip_text_model") == 0, only_vision = strcmp(type, "clip_vision_model") == 0;
  bool full = strcmp(type, "clip") == 0;
  if (!full && !only_text && !only_vision)
    clipc__field_refuse(top, CLIPC_E_UNSUPPORTED, "model_type", "not one of clip, clip_text_model, clip_vision_model");
  if (clipc__field_set(top, "quantization_config"))
    clipc__field_refuse(top, CLIPC_E_UNSUPPORTED, "quantization_config", "quantised checkpoints are not supported");
  if (full && architecture && strcmp(architecture, "CLIPModel") != 0) {
    only_text = strncmp(architecture, "CLIPText", 8) == 0;
    only_vision = !only_text;
  }
  int has = only_text ? CLIPC_TOWER_TEXT : only_vision ? CLIPC_TOWER_IMAGE : CLIPC_TOWER_TEXT | CLIPC_TOWER_IMAGE;
  if (*top->status == CLIPC_OK && (towers & ~has) != 0) {
    *top->status = clipc__fail(top->error, CLIPC_E_MODEL, "%s: the folder has no %s tower", top->file,
                               only_text ? "image" : "text");
    return;
  }
  if (towers == 0) towers = has;
  if (only_text || only_vision) {
    struct clipc__fields fields = full ? hf_sub_config(top, only_text) : *top;
    hf_single(config, &fields, only_text, architecture);
    return;
  }
  config->embedding_dimension = clipc__field_int(top, "projection_dim", 512, 1, CLIPC__MAX_WIDTH);
  if (towers & CLIPC_TOWER_TEXT) {
    struct clipc__fields fields = hf_sub_config(top, true);
    hf_text(&config->text, &fields);
  }
  if (towers & CLIPC_TOWER_IMAGE) {
    struct clipc__fields fields = hf_sub_config(top, false);
    hf_vision(&config->vision, &fields);
  }
}
