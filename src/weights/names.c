/* One table of the network's parts, and how each publisher spells them.
 * In: a part, a tower, a layer. Out: the tensor's name.
 * Must match: transformers' CLIPModel, CLIPTextModel, CLIPVisionModel; open_clip's CLIP and CustomTextCLIP; OpenAI. */
#include "weights/weights.h"

#include <stdio.h>
#include <string.h>

struct names_row {
  const char *hf, *open_clip;           /* "#" opens the name of a block part: the layer's prefix comes before it */
  const char *hf_text, *open_clip_text; /* where the text tower says it otherwise; "" = it has none */
};

static const struct names_row names_table[CLIPC__N_PARTS] = {
    [CLIPC__CLASS_EMBEDDING] = {"embeddings.class_embedding", "class_embedding", "", ""},
    [CLIPC__PATCH_EMBEDDING] = {"embeddings.patch_embedding.weight", "conv1.weight", "", ""},
    [CLIPC__POSITION_EMBEDDING] = {"embeddings.position_embedding.weight", "positional_embedding", NULL, NULL},
    [CLIPC__TOKEN_EMBEDDING] = {NULL, NULL, "embeddings.token_embedding.weight", "token_embedding.weight"},
    [CLIPC__LN_PRE_WEIGHT] = {"pre_layrnorm.weight", "ln_pre.weight", "", ""},
    [CLIPC__LN_PRE_BIAS] = {"pre_layrnorm.bias", "ln_pre.bias", "", ""},
    [CLIPC__LN_1_WEIGHT] = {"#layer_norm1.weight", "#ln_1.weight", NULL, NULL},
    [CLIPC__LN_1_BIAS] = {"#layer_norm1.bias", "#ln_1.bias", NULL, NULL},
    [CLIPC__Q_WEIGHT] = {"#self_attn.q_proj.weight", NULL, NULL, NULL},
    [CLIPC__Q_BIAS] = {"#self_attn.q_proj.bias", NULL, NULL, NULL},
    [CLIPC__K_WEIGHT] = {"#self_attn.k_proj.weight", NULL, NULL, NULL},
    [CLIPC__K_BIAS] = {"#self_attn.k_proj.bias", NULL, NULL, NULL},
    [CLIPC__V_WEIGHT] = {"#self_attn.v_proj.weight", NULL, NULL, NULL},
    [CLIPC__V_BIAS] = {"#self_attn.v_proj.bias", NULL, NULL, NULL},
    [CLIPC__QKV_WEIGHT] = {NULL, "#attn.in_proj_weight", NULL, NULL},
    [CLIPC__QKV_BIAS] = {NULL, "#attn.in_proj_bias", NULL, NULL},
    [CLIPC__OUT_WEIGHT] = {"#self_attn.out_proj.weight", "#attn.out_proj.weight", NULL, NULL},
    [CLIPC__OUT_BIAS] = {"#self_attn.out_proj.bias", "#attn.out_proj.bias", NULL, NULL},
    [CLIPC__LN_2_WEIGHT] = {"#layer_norm2.weight", "#ln_2.weight", NULL, NULL},
    [CLIPC__LN_2_BIAS] = {"#layer_norm2.bias", "#ln_2.bias", NULL, NULL},
    [CLIPC__FC1_WEIGHT] = {"#mlp.fc1.weight", "#mlp.c_fc.weight", NULL, NULL},
    [CLIPC__FC1_BIAS] = {"#mlp.fc1.bias", "#mlp.c_fc.bias", NULL, NULL},
    [CLIPC__FC2_WEIGHT] = {"#mlp.fc2.weight", "#mlp.c_proj.weight", NULL, NULL},
    [CLIPC__FC2_BIAS] = {"#mlp.fc2.bias", "#mlp.c_proj.bias", NULL, NULL},
    [CLIPC__LN_FINAL_WEIGHT] = {"post_layernorm.weight", "ln_post.weight", "final_layer_norm.weight",
                                "ln_final.weight"},
    [CLIPC__LN_FINAL_BIAS] = {"post_layernorm.bias", "ln_post.bias", "final_layer_norm.bias", "ln_final.bias"},
};

/* Projections and logits stand outside the towers' prefixes in Hugging Face's spelling, inside in open_clip's. */
static const char *names_head(char name[CLIPC__NAME_BYTES], enum clipc__naming naming, int tower, enum clipc__part part,
                              bool linear) {
  bool hf = naming == CLIPC__NAMES_HF || naming == CLIPC__NAMES_HF_BARE;
  const char *prefix = naming == CLIPC__NAMES_OPEN_CLIP_TEXT ? "text." : "";
  const char *text = NULL;
  switch (part) {
  case CLIPC__LOGIT_SCALE: prefix = "", text = "logit_scale"; break;
  case CLIPC__LOGIT_BIAS: prefix = "", text = hf ? NULL : "logit_bias"; break;
  case CLIPC__PROJECTION_WEIGHT:
    if (tower == CLIPC_TOWER_IMAGE)
      prefix = "", text = hf ? "visual_projection.weight" : "visual.proj";
    else
      text = hf || linear ? "text_projection.weight" : "text_projection";
    break;
  case CLIPC__PROJECTION_BIAS: text = !hf && linear && tower == CLIPC_TOWER_TEXT ? "text_projection.bias" : NULL; break;
  default: break;
  }
  if (text == NULL) return NULL;
  snprintf(name, CLIPC__NAME_BYTES, "%s%s", prefix, text);
  return name;
}

const char *clipc__part_name(char name[CLIPC__NAME_BYTES], enum clipc__naming naming, int tower, enum clipc__part part,
                             int layer, bool projection_linear) {
  bool hf = naming == CLIPC__NAMES_HF || naming == CLIPC__NAMES_HF_BARE, image = tower == CLIPC_TOWER_IMAGE;
  if (part >= CLIPC__PROJECTION_WEIGHT) return names_head(name, naming, tower, part, projection_linear);
  const struct names_row *row = &names_table[part];
  const char *leaf = hf ? row->hf : row->open_clip, *text_leaf = hf ? row->hf_text : row->open_clip_text;
  if (!image && text_leaf) leaf = text_leaf;
  if (leaf == NULL || *leaf == '\0') return NULL;
  const char *prefix = "";
  if (naming == CLIPC__NAMES_HF) prefix = image ? "vision_model." : "text_model.";
  if (!hf) prefix = image ? "visual." : naming == CLIPC__NAMES_OPEN_CLIP_TEXT ? "text." : "";
  if (*leaf == '#')
    snprintf(name, CLIPC__NAME_BYTES, "%s%s.%d.%s", prefix, hf ? "encoder.layers" : "transformer.resblocks", layer,
             leaf + 1);
  else
    snprintf(name, CLIPC__NAME_BYTES, "%s%s", prefix, leaf);
  return name;
}

static bool names_fit(enum clipc__naming naming, const struct clipc__tensors *tensors,
                      const struct clipc__config *config) {
  char name[CLIPC__NAME_BYTES];
  if (config->vision.present && !clipc__tensors_find(tensors, clipc__part_name(name, naming, CLIPC_TOWER_IMAGE,
                                                                               CLIPC__CLASS_EMBEDDING, 0, false)))
    return false;
  if (config->text.present &&
      !clipc__tensors_find(tensors, clipc__part_name(name, naming, CLIPC_TOWER_TEXT, CLIPC__TOKEN_EMBEDDING, 0, false)))
    return false;
  return true;
}

clipc_status clipc__naming_detect(enum clipc__naming *naming, const struct clipc__tensors *tensors,
                                  const struct clipc__config *config, clipc_error *error) {
  static const enum clipc__naming orders[2][4] = {
      {CLIPC__NAMES_HF, CLIPC__NAMES_HF_BARE, CLIPC__NAMES_OPEN_CLIP, CLIPC__NAMES_OPEN_CLIP_TEXT},
      {CLIPC__NAMES_OPEN_CLIP, CLIPC__NAMES_OPEN_CLIP_TEXT, CLIPC__NAMES_HF, CLIPC__NAMES_HF_BARE}};
  const enum clipc__naming *order = orders[config->open_clip];
  for (int i = 0; i < 4; i++)
    if (names_fit(order[i], tensors, config)) {
      *naming = order[i];
      return CLIPC_OK;
    }
  char name[CLIPC__NAME_BYTES];
  const char *file = tensors->n_tensors > 0 ? tensors->tensors[0].file : "the weight file";
  int tower = config->vision.present ? CLIPC_TOWER_IMAGE : CLIPC_TOWER_TEXT;
  enum clipc__part part = config->vision.present ? CLIPC__CLASS_EMBEDDING : CLIPC__TOKEN_EMBEDDING;
  clipc__part_name(name, order[0], tower, part, 0, false);
  if (clipc__tensors_find(tensors, name)) /* the first tower is there, so the second is not */
    clipc__part_name(name, order[0], CLIPC_TOWER_TEXT, CLIPC__TOKEN_EMBEDDING, 0, false);
  return clipc__fail(error, CLIPC_E_MODEL, "%s: none of the known spellings: there is no tensor %s", file, name);
}

int clipc__name_towers(const char *name) {
  static const struct {
    const char *prefix;
    int towers;
  } heads[] = {{"vision_model.", CLIPC_TOWER_IMAGE},
               {"visual_projection.", CLIPC_TOWER_IMAGE},
               {"visual.", CLIPC_TOWER_IMAGE},
               {"text_model.", CLIPC_TOWER_TEXT},
               {"text_projection", CLIPC_TOWER_TEXT},
               {"text.", CLIPC_TOWER_TEXT},
               {"transformer.", CLIPC_TOWER_TEXT},
               {"token_embedding.", CLIPC_TOWER_TEXT},
               {"positional_embedding", CLIPC_TOWER_TEXT},
               {"ln_final.", CLIPC_TOWER_TEXT},
               {"logit_scale", 0},
               {"logit_bias", 0}};
  if (strncmp(name, "module.", 7) == 0) name += 7;
  for (size_t i = 0; i < sizeof heads / sizeof *heads; i++)
    if (strncmp(name, heads[i].prefix, strlen(heads[i].prefix)) == 0) return heads[i].towers;
  return CLIPC_TOWER_IMAGE | CLIPC_TOWER_TEXT;
}
