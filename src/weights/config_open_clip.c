/* open_clip_config.json's model_cfg -> the network.
 * In: the fields of model_cfg. Out: both towers of clipc__config.
 * Must match: open_clip 3.3's CLIPVisionCfg and CLIPTextCfg, their defaults and what the towers make of them.
 * A key may change the numbers, so none passes unseen: one that is neither read nor known to be harmless must be off
 * (null, false, 0, "" or empty), or the config is refused by its name. */
#include "weights/weights.h"

#include <cjson/cJSON.h>

#include <limits.h>
#include <stdio.h>
#include <string.h>

/* Read below, or of training, tokenising or other towers alone. */
/* clang-format off */
static const char *const open_clip_model_keys[] = {
    "embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "custom_text", "init_logit_scale", "init_logit_bias",
    "nonscalar_logit_scale", "output_dict", "cast_dtype", NULL};
static const char *const open_clip_vision_keys[] = {
    "layers", "width", "head_width", "mlp_ratio", "patch_size", "image_size", "patch_dropout", "attn_pooler_queries",
    "attn_pooler_heads", "no_ln_pre", "pos_embed_type", "final_ln_after_pool", "pool_type", "output_tokens",
    "act_kwargs", "norm_kwargs", "block_type", "timm_model_pretrained", "timm_pool", "timm_proj", "timm_proj_bias",
    "timm_drop", "timm_drop_path", "ls_init_value", NULL};
static const char *const open_clip_text_keys[] = {
    "context_length", "vocab_size", "hf_tokenizer_name", "tokenizer_mode", "tokenizer_kwargs", "width", "heads",
    "layers", "mlp_ratio", "pad_id", "eos_id", "no_causal_mask", "final_ln_after_pool", "pool_type", "proj_bias",
    "proj_type", "output_tokens", "act_kwargs", "norm_kwargs", "block_type", "hf_model_pretrained", "hf_proj_type",
    "hf_pooler_type", "ls_init_value", NULL};
/* clang-format on */

static void open_clip_check_keys(struct clipc__fields *fields, const char *const *known) {
  const cJSON *item;
  cJSON_ArrayForEach(item, fields->object) {
    const char *const *key = known;
    while (*key && strcmp(*key, item->string) != 0) key++;
    if (*key == NULL && !clipc__item_is_off(item))
      clipc__field_refuse(fields, CLIPC_E_UNSUPPORTED, item->string, "not supported");
  }
}

static void open_clip_only(struct clipc__fields *fields, const char *name, const char *a, const char *b) {
  const char *value = clipc__field_string(fields, name, a);
  if (strcmp(value, a) != 0 && strcmp(value, b) != 0)
    clipc__field_refuse(fields, CLIPC_E_UNSUPPORTED, name, "not supported");
}

/* quick_gelu, or GELU with act_kwargs. */
static enum clipc__activation open_clip_activation(struct clipc__fields *fields, const char *path, bool quick_gelu) {
  static const char *const known[] = {"approximate", NULL};
  struct clipc__fields kwargs = clipc__field_object(fields, "act_kwargs", path);
  open_clip_check_keys(&kwargs, known);
  if (quick_gelu && !clipc__field_is_off(fields, "act_kwargs"))
    clipc__field_refuse(fields, CLIPC_E_UNSUPPORTED, "act_kwargs", "quick_gelu takes none");
  open_clip_only(&kwargs, "approximate", "none", "tanh");
  bool approximate = strcmp(clipc__field_string(&kwargs, "approximate", "none"), "tanh") == 0;
  return quick_gelu ? CLIPC__QUICK_GELU : approximate ? CLIPC__GELU_TANH : CLIPC__GELU_ERF;
}

static void open_clip_transformer(struct clipc__transformer_config *out, struct clipc__fields *fields, int width,
                                  const char *norm_path) {
  static const char *const known[] = {"eps", NULL};
  out->width = clipc__field_int(fields, "width", width, 1, CLIPC__MAX_WIDTH);
  out->n_layers = clipc__field_int(fields, "layers", 12, 1, CLIPC__MAX_LAYERS);
  double mlp = out->width * clipc__field_number(fields, "mlp_ratio", 4.0, 1e-4, CLIPC__MAX_MLP);
  if (mlp < 1 || mlp >= CLIPC__MAX_MLP + 1.0)
    clipc__field_refuse(fields, CLIPC_E_FORMAT, "mlp_ratio", "width times it is out of range");
  else
    out->mlp_width = (int)mlp; /* cut, not rounded: bigG's 4.9231 gives 8192 */
  struct clipc__fields norm = clipc__field_object(fields, "norm_kwargs", norm_path);
  open_clip_check_keys(&norm, known);
  out->layer_norm_eps = (float)clipc__field_number(&norm, "eps", 1e-5, 1e-12, 1.0);
  if (clipc__field_set(fields, "ls_init_value"))
    clipc__field_refuse(fields, CLIPC_E_UNSUPPORTED, "ls_init_value", "LayerScale is not supported");
  open_clip_only(fields, "block_type", "default", "");
}

static void open_clip_heads(struct clipc__transformer_config *out, struct clipc__fields *fields, const char *name,
                            int n) {
  if (n < 1 || n > CLIPC__MAX_HEADS)
    clipc__field_refuse(fields, CLIPC_E_FORMAT, name, "the number of heads is out of range");
  else if (out->width % n != 0)
    clipc__field_refuse(fields, CLIPC_E_FORMAT, name, "width is not a multiple of the heads");
  else
    out->n_heads = n;
}

static void open_clip_vision(struct clipc__vision_config *vision, struct clipc__fields *fields, bool quick_gelu) {
  if (!clipc__field_is_off(fields, "timm_model_name"))
    clipc__field_refuse(fields, CLIPC_E_UNSUPPORTED, "timm_model_name", "timm towers are not supported");
  if (cJSON_IsArray(clipc__field(fields, "layers")))
    clipc__field_refuse(fields, CLIPC_E_UNSUPPORTED, "layers", "ResNet towers are not supported");
  open_clip_check_keys(fields, open_clip_vision_keys);
  vision->present = true;
  open_clip_transformer(&vision->transformer, fields, 768, "model_cfg.vision_cfg.norm_kwargs.");
  int head_width = clipc__field_int(fields, "head_width", 64, 1, CLIPC__MAX_WIDTH);
  open_clip_heads(&vision->transformer, fields, "head_width", vision->transformer.width / head_width);
  vision->transformer.activation = open_clip_activation(fields, "model_cfg.vision_cfg.act_kwargs.", quick_gelu);
  int patch_width;
  clipc__field_pair(fields, "image_size", 224, CLIPC__MAX_IMAGE, &vision->image_height, &vision->image_width);
  clipc__field_pair(fields, "patch_size", 16, CLIPC__MAX_PATCH, &vision->patch, &patch_width);
  if (vision->patch != patch_width)
    clipc__field_refuse(fields, CLIPC_E_UNSUPPORTED, "patch_size", "only square patches are supported");
  if (vision->patch > vision->image_height || vision->patch > vision->image_width)
    clipc__field_refuse(fields, CLIPC_E_FORMAT, "patch_size", "it is larger than image_size");
  vision->ln_pre = !clipc__field_flag(fields, "no_ln_pre", false);
  open_clip_only(fields, "pool_type", "tok", "avg");
  vision->pooling =
      strcmp(clipc__field_string(fields, "pool_type", "tok"), "avg") == 0 ? CLIPC__POOL_MEAN : CLIPC__POOL_CLASS;
  vision->pool_before_ln = clipc__field_flag(fields, "final_ln_after_pool", false);
  open_clip_only(fields, "pos_embed_type", "learnable", "sin_cos_2d"); /* both are stored */
  vision->projection = true;
}

static enum clipc__pooling open_clip_text_pooling(struct clipc__fields *fields) {
  const char *pool = clipc__field_string(fields, "pool_type", "argmax");
  if (strcmp(pool, "argmax") == 0) return CLIPC__POOL_ARGMAX;
  if (strcmp(pool, "first") == 0) return CLIPC__POOL_FIRST;
  if (strcmp(pool, "last") == 0) return CLIPC__POOL_LAST;
  if (strcmp(pool, "eos") == 0) return CLIPC__POOL_EOS;
  clipc__field_refuse(fields, CLIPC_E_UNSUPPORTED, "pool_type", "not one of argmax, first, last, eos");
  return CLIPC__POOL_ARGMAX;
}

static void open_clip_text(struct clipc__text_config *text, struct clipc__fields *fields, bool quick_gelu,
                           int embedding_dimension) {
  if (!clipc__field_is_off(fields, "hf_model_name"))
    clipc__field_refuse(fields, CLIPC_E_UNSUPPORTED, "hf_model_name",
                        "text towers of other families are not supported");
  open_clip_check_keys(fields, open_clip_text_keys);
  text->present = true;
  open_clip_transformer(&text->transformer, fields, 512, "model_cfg.text_cfg.norm_kwargs.");
  open_clip_heads(&text->transformer, fields, "heads", clipc__field_int(fields, "heads", 8, 1, CLIPC__MAX_HEADS));
  text->transformer.activation = open_clip_activation(fields, "model_cfg.text_cfg.act_kwargs.", quick_gelu);
  text->vocab_size = clipc__field_int(fields, "vocab_size", 49408, 1, CLIPC__MAX_VOCAB);
  text->context_length = clipc__field_int(fields, "context_length", 77, 2, CLIPC__MAX_CONTEXT);
  text->causal = !clipc__field_flag(fields, "no_causal_mask", false);
  text->pooling = open_clip_text_pooling(fields);
  text->eos_id = clipc__field_int(fields, "eos_id", 2, INT_MIN, INT_MAX);
  /* SimpleTokenizer pads with 0 whatever pad_id says, which only names the pad of other tokenisers. */
  int pad_id = clipc__field_int(fields, "pad_id", 0, 0, CLIPC__MAX_VOCAB);
  text->pad_id = clipc__field_is_off(fields, "hf_tokenizer_name") ? 0 : pad_id;
  open_clip_only(fields, "proj_type", "linear", "none");
  text->projection = strcmp(clipc__field_string(fields, "proj_type", "linear"), "linear") == 0;
  text->projection_bias = text->projection && clipc__field_flag(fields, "proj_bias", false);
  if (!text->projection && text->transformer.width != embedding_dimension)
    clipc__field_refuse(fields, CLIPC_E_FORMAT, "proj_type", "width is not embed_dim");
}

int clipc__config_cleaning(struct clipc__fields *text) {
  bool simple = clipc__field_is_off(text, "hf_tokenizer_name");
  struct clipc__fields kwargs = clipc__field_object(text, "tokenizer_kwargs", "model_cfg.text_cfg.tokenizer_kwargs.");
  if (simple && !clipc__field_is_off(&kwargs, "additional_special_tokens"))
    clipc__field_refuse(&kwargs, CLIPC_E_UNSUPPORTED, "additional_special_tokens", "not supported");
  if (simple && !clipc__field_is_off(&kwargs, "reduction_mask"))
    clipc__field_refuse(&kwargs, CLIPC_E_UNSUPPORTED, "reduction_mask", "not supported");
  const char *clean = clipc__field_string(&kwargs, "clean", simple ? "lower" : "whitespace");
  if (strcmp(clean, "lower") == 0) return CLIPC__TEXT_LOWER;
  if (strcmp(clean, "whitespace") == 0) return CLIPC__TEXT_WHITESPACE;
  if (strcmp(clean, "canonicalize") == 0) return CLIPC__TEXT_CANONICALIZE;
  clipc__field_refuse(&kwargs, CLIPC_E_UNSUPPORTED, "clean", "not one of lower, whitespace, canonicalize");
  return CLIPC__TEXT_LOWER;
}

void clipc__config_open_clip(struct clipc__config *config, struct clipc__fields *model, int towers) {
  if (!clipc__field_is_off(model, "multimodal_cfg"))
    clipc__field_refuse(model, CLIPC_E_UNSUPPORTED, "multimodal_cfg", "CoCa is not supported");
  open_clip_check_keys(model, open_clip_model_keys);
  if (!clipc__field_set(model, "embed_dim")) clipc__field_refuse(model, CLIPC_E_FORMAT, "embed_dim", "it is needed");
  config->embedding_dimension = clipc__field_int(model, "embed_dim", 512, 1, CLIPC__MAX_WIDTH);
  bool quick_gelu = clipc__field_flag(model, "quick_gelu", false);
  if (towers == 0) towers = CLIPC_TOWER_IMAGE | CLIPC_TOWER_TEXT;
  if (towers & CLIPC_TOWER_IMAGE) {
    if (!clipc__field_set(model, "vision_cfg")) clipc__field_refuse(model, CLIPC_E_MODEL, "vision_cfg", "it is needed");
    struct clipc__fields fields = clipc__field_object(model, "vision_cfg", "model_cfg.vision_cfg.");
    open_clip_vision(&config->vision, &fields, quick_gelu);
  }
  if (towers & CLIPC_TOWER_TEXT) {
    if (!clipc__field_set(model, "text_cfg")) clipc__field_refuse(model, CLIPC_E_MODEL, "text_cfg", "it is needed");
    struct clipc__fields fields = clipc__field_object(model, "text_cfg", "model_cfg.text_cfg.");
    open_clip_text(&config->text, &fields, quick_gelu, config->embedding_dimension);
  }
}
