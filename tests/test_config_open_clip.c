/* open_clip_config.json, and how pictures are prepared: preprocess_cfg, preprocessor_config.json.
 * Goldens: tests/goldens/weights/open_clip.jsonl, preprocess.jsonl (tests/goldens/make_weights.py). */
#include "configs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- open_clip */

static void check_open_clip_tower(const char *name, const struct clipc__transformer_config *t, const cJSON *expect) {
  const int got[4] = {t->width, t->n_layers, t->n_heads, t->mlp_width};
  for (int i = 0; i < 4; i++)
    if (got[i] != cJSON_GetArrayItem(expect, i)->valueint) fail_msg("%s: number %d is %d", name, i, got[i]);
}

/* Every configuration that open_clip ships is read with its numbers, or refused by the field. */
static void test_open_clip_goldens(void **state) {
  (void)state;
  cJSON *rows = config_golden_rows("open_clip.jsonl");
  const cJSON *row;
  int n_accepted = 0;
  cJSON_ArrayForEach(row, rows) {
    const char *name = json_at(row, "name")->valuestring, *refused = json_at(row, "refused")->valuestring;
    cJSON *file = cJSON_CreateObject();
    cJSON_AddItemReferenceToObject(file, "model_cfg", (cJSON *)(uintptr_t)json_at(row, "model_cfg"));
    test_folder_put_json("open_clip_config.json", file);
    cJSON_Delete(file);
    struct clipc__config config;
    clipc_error error;
    clipc_status status = config_read(&config, CLIPC_REFERENCE_AUTO, 0, &error);
    if (*refused) {
      if (status != CLIPC_E_UNSUPPORTED || !strstr(error.message, refused))
        fail_msg("%s: %s: %s", name, refused, error.message);
      continue;
    }
    if (status != CLIPC_OK) fail_msg("%s: %s", name, error.message);
    n_accepted++;
    const cJSON *expect = json_at(row, "expect"), *vision = json_at(expect, "vision"), *text = json_at(expect, "text");
    assert_true(config.open_clip && config.reference == CLIPC_REFERENCE_OPENAI && config.vision.present &&
                config.text.present);
    assert_int_equal(config.embedding_dimension, json_at(expect, "embedding")->valueint);
    check_open_clip_tower(name, &config.vision.transformer, vision);
    check_open_clip_tower(name, &config.text.transformer, text);
    assert_int_equal(config.vision.image_height, cJSON_GetArrayItem(vision, 4)->valueint);
    assert_int_equal(config.vision.image_width, cJSON_GetArrayItem(vision, 4)->valueint);
    assert_int_equal(config.vision.patch, cJSON_GetArrayItem(vision, 5)->valueint);
    assert_int_equal(config.text.vocab_size, cJSON_GetArrayItem(text, 4)->valueint);
    assert_int_equal(config.text.context_length, cJSON_GetArrayItem(text, 5)->valueint);
    bool quick = cJSON_IsTrue(json_at(json_at(row, "model_cfg"), "quick_gelu"));
    assert_int_equal(config.vision.transformer.activation, quick ? CLIPC__QUICK_GELU : CLIPC__GELU_ERF);
    assert_int_equal(config.text.transformer.activation, quick ? CLIPC__QUICK_GELU : CLIPC__GELU_ERF);
    const cJSON *no_ln_pre = json_at(json_at(json_at(row, "model_cfg"), "vision_cfg"), "no_ln_pre");
    assert_int_equal(config.vision.ln_pre, !cJSON_IsTrue(no_ln_pre));
  }
  assert_true(n_accepted >= 40);
  cJSON_Delete(rows);
  test_folder_empty();
}

#define MODEL(fields) "{\"model_cfg\":{\"embed_dim\":512,\"vision_cfg\":{},\"text_cfg\":{}" fields "}}"
#define VISION_CFG(fields) "{\"model_cfg\":{\"embed_dim\":512,\"text_cfg\":{},\"vision_cfg\":{" fields "}}}"
#define TEXT_CFG(fields) "{\"model_cfg\":{\"embed_dim\":512,\"vision_cfg\":{},\"text_cfg\":{" fields "}}}"
#define PREPROCESS_CFG(fields)                                                                                         \
  "{\"model_cfg\":{\"embed_dim\":512,\"vision_cfg\":{},\"text_cfg\":{}},\"preprocess_cfg\":{" fields "}}"

static void test_open_clip_refusals(void **state) {
  (void)state;
  static const struct refusal cases[] = {
      {"{}", CLIPC_E_FORMAT, "model_cfg is missing"},
      {"{\"model_cfg\":{\"vision_cfg\":{},\"text_cfg\":{}}}", CLIPC_E_FORMAT, "model_cfg.embed_dim is missing"},
      {"{\"model_cfg\":{\"embed_dim\":512,\"text_cfg\":{}}}", CLIPC_E_MODEL, "vision_cfg is missing"},
      {"{\"model_cfg\":{\"embed_dim\":512,\"vision_cfg\":{}}}", CLIPC_E_MODEL, "text_cfg is missing"},
      {MODEL(",\"multimodal_cfg\":{\"width\":1}"), CLIPC_E_UNSUPPORTED, "multimodal_cfg"},
      {MODEL(",\"surprise\":1"), CLIPC_E_UNSUPPORTED, "model_cfg.surprise is 1"},
      {MODEL(",\"quick_gelu\":1"), CLIPC_E_FORMAT, "quick_gelu is 1"},
      {VISION_CFG("\"layers\":[3,4,6,3]"), CLIPC_E_UNSUPPORTED, "vision_cfg.layers is a list: ResNet"},
      {VISION_CFG("\"timm_model_name\":\"vit_base\""), CLIPC_E_UNSUPPORTED, "timm_model_name is \"vit_base\""},
      {VISION_CFG("\"attentional_pool\":true"), CLIPC_E_UNSUPPORTED, "attentional_pool is true"},
      {VISION_CFG("\"ls_init_value\":0"), CLIPC_E_UNSUPPORTED, "ls_init_value is 0"},
      {VISION_CFG("\"qk_norm\":true"), CLIPC_E_UNSUPPORTED, "qk_norm is true"},
      {VISION_CFG("\"scale_heads\":true"), CLIPC_E_UNSUPPORTED, "scale_heads is true"},
      {VISION_CFG("\"global_average_pool\":true"), CLIPC_E_UNSUPPORTED, "global_average_pool is true"},
      {VISION_CFG("\"block_type\":\"custom\""), CLIPC_E_UNSUPPORTED, "block_type is \"custom\""},
      {VISION_CFG("\"pos_embed_type\":\"rope\""), CLIPC_E_UNSUPPORTED, "pos_embed_type"},
      {VISION_CFG("\"pool_type\":\"none\""), CLIPC_E_UNSUPPORTED, "pool_type is \"none\""},
      {VISION_CFG("\"patch_size\":[16,8]"), CLIPC_E_UNSUPPORTED, "patch_size is a list: only square"},
      {VISION_CFG("\"patch_size\":300"), CLIPC_E_FORMAT, "patch_size is 300"},
      {VISION_CFG("\"image_size\":[224,10]"), CLIPC_E_FORMAT, "patch_size"},
      {VISION_CFG("\"image_size\":[224,224,3]"), CLIPC_E_FORMAT, "image_size is a list"},
      {VISION_CFG("\"width\":32"), CLIPC_E_FORMAT, "head_width"},
      {VISION_CFG("\"width\":200"), CLIPC_E_FORMAT, "head_width"},
      {VISION_CFG("\"head_width\":0"), CLIPC_E_FORMAT, "head_width is 0"},
      {VISION_CFG("\"mlp_ratio\":0"), CLIPC_E_FORMAT, "mlp_ratio is 0"},
      {VISION_CFG("\"mlp_ratio\":1000"), CLIPC_E_FORMAT, "mlp_ratio is 1000"},
      {VISION_CFG("\"norm_kwargs\":{\"bias\":true}"), CLIPC_E_UNSUPPORTED, "vision_cfg.norm_kwargs.bias is true"},
      {VISION_CFG("\"act_kwargs\":{\"approximate\":\"x\"}"), CLIPC_E_UNSUPPORTED, "act_kwargs.approximate is \"x\""},
      {TEXT_CFG("\"hf_model_name\":\"roberta-base\""), CLIPC_E_UNSUPPORTED, "hf_model_name is \"roberta-base\""},
      {TEXT_CFG("\"embed_cls\":true"), CLIPC_E_UNSUPPORTED, "embed_cls is true"},
      {TEXT_CFG("\"pool_type\":\"none\""), CLIPC_E_UNSUPPORTED, "text_cfg.pool_type is \"none\""},
      {TEXT_CFG("\"heads\":7"), CLIPC_E_FORMAT, "heads is 7"},
      {TEXT_CFG("\"proj_type\":\"mlp\""), CLIPC_E_UNSUPPORTED, "proj_type is \"mlp\""},
      {TEXT_CFG("\"proj_type\":\"none\",\"width\":256"), CLIPC_E_FORMAT, "proj_type is \"none\""},
      {TEXT_CFG("\"tokenizer_kwargs\":{\"clean\":\"x\"}"), CLIPC_E_UNSUPPORTED, "tokenizer_kwargs.clean is \"x\""},
      {TEXT_CFG("\"tokenizer_kwargs\":{\"reduction_mask\":\"syntax\"}"), CLIPC_E_UNSUPPORTED, "reduction_mask"},
      {MODEL(",\"quick_gelu\":true,\"vision_cfg\":{\"act_kwargs\":{\"approximate\":\"tanh\"}}"), CLIPC_E_UNSUPPORTED,
       "act_kwargs"},
      {PREPROCESS_CFG("\"mode\":\"L\""), CLIPC_E_UNSUPPORTED, "preprocess_cfg.mode is \"L\""},
      {PREPROCESS_CFG("\"interpolation\":\"lanczos\""), CLIPC_E_UNSUPPORTED, "interpolation is \"lanczos\""},
      {PREPROCESS_CFG("\"resize_mode\":\"stretch\""), CLIPC_E_UNSUPPORTED, "resize_mode is \"stretch\""},
      {PREPROCESS_CFG("\"mean\":[0.5,0.5]"), CLIPC_E_FORMAT, "mean is a list"},
      {PREPROCESS_CFG("\"std\":[0,1,1]"), CLIPC_E_FORMAT, "std is a list"},
      {PREPROCESS_CFG("\"resize_mode\":\"longest\",\"fill_color\":256"), CLIPC_E_FORMAT, "fill_color is 256"},
  };
  check_refusals("open_clip_config.json", cases, COUNT(cases));
}

static void test_open_clip_options(void **state) {
  (void)state;
  struct clipc__config config;
  clipc_error error;
  test_folder_put_text(
      "open_clip_config.json",
      "{\"model_cfg\":{\"embed_dim\":64,\"custom_text\":true,\"init_logit_bias\":-10,\"vision_cfg\":{\"width\":88,"
      "\"head_width\":44,\"layers\":2,"
      "\"mlp_ratio\":4.3637,\"image_size\":[48,64],\"patch_size\":16,\"no_ln_pre\":true,\"pool_type\":\"avg\",\"final_"
      "ln_after_pool\":true,"
      "\"act_kwargs\":{\"approximate\":\"tanh\"},\"norm_kwargs\":{\"eps\":1e-6},\"timm_model_name\":null,\"qk_norm\":"
      "false,\"unheard\":null,"
      "\"patch_dropout\":0.5},\"text_cfg\":{\"width\":64,\"heads\":2,\"layers\":1,\"context_length\":16,\"vocab_size\":"
      "99,"
      "\"no_causal_mask\":true,\"pool_type\":\"last\",\"proj_bias\":true,\"pad_id\":5,\"eos_id\":98,\"mlp_ratio\":2.0,"
      "\"tokenizer_kwargs\":{\"clean\":\"canonicalize\"}}},"
      "\"preprocess_cfg\":{\"mean\":[0.5,0.25,0.125],\"std\":0.5,\"interpolation\":\"bilinear\",\"resize_mode\":"
      "\"squash\",\"size\":7,\"junk\":1,"
      "\"fill_color\":null}}");
  assert_int_equal(config_read(&config, CLIPC_REFERENCE_AUTO, 0, &error), CLIPC_OK);
  const struct clipc__vision_config *v = &config.vision;
  assert_true(v->transformer.n_heads == 2 && v->transformer.mlp_width == 384 && v->transformer.n_layers == 2);
  assert_true(v->transformer.activation == CLIPC__GELU_TANH && v->transformer.layer_norm_eps == 1e-6f);
  assert_true(v->image_height == 48 && v->image_width == 64 && v->patch == 16 && !v->ln_pre &&
              v->pooling == CLIPC__POOL_MEAN);
  assert_true(v->pool_before_ln && v->projection);
  const struct clipc__text_config *t = &config.text;
  assert_true(!t->causal && t->pooling == CLIPC__POOL_LAST && t->projection && t->projection_bias && t->eos_id == 98);
  assert_true(t->pad_id == 0 && t->transformer.mlp_width == 128 && t->transformer.activation == CLIPC__GELU_ERF);
  const clipc_preprocessing *p = &config.preprocessing;
  assert_true(p->resize == CLIPC_RESIZE_EXACT && p->resize_height == 48 && p->resize_width == 64 &&
              p->crop_height == 0);
  assert_true(p->filter == CLIPC_FILTER_BILINEAR && p->mean[1] == 0.25f && p->std[2] == 0.5f && p->do_rescale &&
              p->do_normalize);
  assert_int_equal(config.text_cleaning, CLIPC__TEXT_CANONICALIZE);
  assert_int_equal(config_read(&config, CLIPC_REFERENCE_HF_TV, 0, &error), CLIPC_OK);
  assert_true(config.text_cleaning == CLIPC__TEXT_HF && config.reference == CLIPC_REFERENCE_HF_TV &&
              p->reference == CLIPC_REFERENCE_HF_TV);
  assert_int_equal(config.text.pooling, CLIPC__POOL_LAST);
  test_folder_empty();
}

static void test_open_clip_resize_modes(void **state) {
  (void)state;
  struct clipc__config config;
  clipc_error error;
  const clipc_preprocessing *p = &config.preprocessing;
  test_folder_put_text(
      "open_clip_config.json",
      PREPROCESS_CFG("\"resize_mode\":\"longest\",\"fill_color\":[1,2,3],\"interpolation\":\"random\""));
  assert_int_equal(config_read(&config, CLIPC_REFERENCE_AUTO, 0, &error), CLIPC_OK);
  assert_true(p->resize == CLIPC_RESIZE_LONGEST && p->crop_height == 224 && p->crop_width == 224 && p->fill[0] == 1 &&
              p->fill[2] == 3);
  assert_int_equal(p->filter, CLIPC_FILTER_BICUBIC);
  assert_int_equal(config_read(&config, CLIPC_REFERENCE_HF, 0, &error), CLIPC_E_UNSUPPORTED);
  assert_non_null(strstr(error.message, "resize_mode is \"longest\""));
  test_folder_put_text("open_clip_config.json", PREPROCESS_CFG("\"interpolation\":\"bilinear\""));
  assert_int_equal(config_read(&config, CLIPC_REFERENCE_AUTO, 0, &error), CLIPC_OK);
  assert_true(p->resize == CLIPC_RESIZE_SHORTEST && p->filter == CLIPC_FILTER_BILINEAR && p->crop_height == 224);
  /* trap 12a: a target that is not square forgets the interpolation */
  test_folder_put_text("open_clip_config.json",
                       "{\"model_cfg\":{\"embed_dim\":512,\"vision_cfg\":{\"image_size\":[224,160]},\"text_cfg\":{}},"
                       "\"preprocess_cfg\":{\"interpolation\":\"bilinear\"}}");
  assert_int_equal(config_read(&config, CLIPC_REFERENCE_AUTO, 0, &error), CLIPC_OK);
  assert_true(p->resize == CLIPC_RESIZE_SHORTEST && p->filter == CLIPC_FILTER_BICUBIC && p->resize_height == 224 &&
              p->resize_width == 160);
  test_folder_empty();
}

/* ---- preprocessor_config.json */

static void expect_size(const cJSON *size, int *shortest, int *height, int *width) {
  const cJSON *edge = json_at(size, "shortest_edge"), *h = json_at(size, "height"), *w = json_at(size, "width");
  *shortest = edge ? edge->valueint : 0;
  *height = h ? h->valueint : *shortest;
  *width = w ? w->valueint : *shortest;
}

static void expect_rgb(const float rgb[3], const cJSON *expect) {
  for (int i = 0; i < 3; i++) {
    const cJSON *one = cJSON_IsArray(expect) ? cJSON_GetArrayItem(expect, i) : expect;
    assert_true(rgb[i] == (float)one->valuedouble);
  }
}

static void test_preprocess_goldens(void **state) {
  (void)state;
  cJSON *rows = config_golden_rows("preprocess.jsonl");
  const cJSON *row;
  cJSON_ArrayForEach(row, rows) {
    const cJSON *expect = json_at(row, "expect");
    int shortest, height, width, crop_height = 0, crop_width = 0, unused;
    bool resize = cJSON_IsTrue(json_at(expect, "do_resize")), crop = cJSON_IsTrue(json_at(expect, "do_center_crop"));
    expect_size(json_at(expect, "size"), &shortest, &height, &width);
    if (crop) expect_size(json_at(expect, "crop_size"), &unused, &crop_height, &crop_width);
    char text[256];
    snprintf(text, sizeof text,
             "{\"model_cfg\":{\"embed_dim\":512,\"vision_cfg\":{\"image_size\":[%d,%d]},\"text_cfg\":{}}}",
             crop ? crop_height : height, crop ? crop_width : width);
    test_folder_put_text("open_clip_config.json", text);
    test_folder_put_json("preprocessor_config.json", json_at(row, "config"));
    struct clipc__config config;
    clipc_error error;
    char *shown = cJSON_PrintUnformatted(json_at(row, "config"));
    if (config_read(&config, CLIPC_REFERENCE_HF, 0, &error) != CLIPC_OK) fail_msg("%s: %s", shown, error.message);
    free(shown);
    const clipc_preprocessing *p = &config.preprocessing;
    assert_int_equal(p->resize, !resize ? CLIPC_RESIZE_NONE : shortest ? CLIPC_RESIZE_SHORTEST : CLIPC_RESIZE_EXACT);
    if (resize) {
      assert_int_equal(p->resize_height, height);
      assert_int_equal(p->resize_width, width);
      assert_int_equal(p->filter, json_at(expect, "resample")->valueint);
    }
    assert_int_equal(p->crop_height, crop_height);
    assert_int_equal(p->crop_width, crop_width);
    assert_int_equal(p->do_rescale, cJSON_IsTrue(json_at(expect, "do_rescale")));
    if (p->do_rescale) assert_true(p->rescale_factor == json_at(expect, "rescale_factor")->valuedouble);
    assert_int_equal(p->do_normalize, cJSON_IsTrue(json_at(expect, "do_normalize")));
    if (p->do_normalize) expect_rgb(p->mean, json_at(expect, "image_mean"));
    if (p->do_normalize) expect_rgb(p->std, json_at(expect, "image_std"));
  }
  assert_true(cJSON_GetArraySize(rows) >= 18);
  cJSON_Delete(rows);
  test_folder_empty();
}

static void test_preprocess_refusals(void **state) {
  (void)state;
  static const struct refusal cases[] = {
      {"{\"image_processor_type\":\"SiglipImageProcessor\"}", CLIPC_E_UNSUPPORTED,
       "image_processor_type is \"SiglipImageProcessor\""},
      {"{\"feature_extractor_type\":\"ViTFeatureExtractor\"}", CLIPC_E_UNSUPPORTED,
       "feature_extractor_type is \"ViTFeatureExtractor\""},
      {"{\"size\":336,\"crop_size\":336}", CLIPC_E_MODEL, "336 x 336 pixels, but the image tower takes 224 x 224"},
      {"{\"size\":{\"height\":224,\"width\":200},\"do_center_crop\":false}", CLIPC_E_MODEL, "224 x 200 pixels"},
      {"{\"do_center_crop\":false}", CLIPC_E_UNSUPPORTED, "do_center_crop is false"},
      {"{\"do_resize\":false,\"do_center_crop\":false}", CLIPC_E_UNSUPPORTED, "do_center_crop is false"},
      {"{\"size\":{\"longest_edge\":224}}", CLIPC_E_UNSUPPORTED, "size.longest_edge is 224"},
      {"{\"size\":{\"shortest_edge\":224,\"longest_edge\":300}}", CLIPC_E_UNSUPPORTED, "size.longest_edge is 300"},
      {"{\"size\":{\"shortest_edge\":224,\"height\":224}}", CLIPC_E_FORMAT, "size is an object"},
      {"{\"size\":{\"height\":224}}", CLIPC_E_FORMAT, "size is an object"},
      {"{\"size\":{}}", CLIPC_E_FORMAT, "size is an object"},
      {"{\"size\":null}", CLIPC_E_FORMAT, "size is null"},
      {"{\"size\":0}", CLIPC_E_FORMAT, "size is 0"},
      {"{\"size\":1e9}", CLIPC_E_FORMAT, "size is 1000000000"},
      {"{\"size\":\"224\"}", CLIPC_E_FORMAT, "size is \"224\""},
      {"{\"crop_size\":null}", CLIPC_E_FORMAT, "crop_size is null"},
      {"{\"crop_size\":{\"shortest_edge\":224}}", CLIPC_E_FORMAT, "crop_size is an object"},
      {"{\"resample\":6}", CLIPC_E_FORMAT, "resample is 6"},
      {"{\"resample\":null}", CLIPC_E_FORMAT, "resample is null"},
      {"{\"resample\":\"bicubic\"}", CLIPC_E_FORMAT, "resample is \"bicubic\""},
      {"{\"do_resize\":1}", CLIPC_E_FORMAT, "do_resize is 1"},
      {"{\"rescale_factor\":0}", CLIPC_E_FORMAT, "rescale_factor is 0"},
      {"{\"rescale_factor\":null}", CLIPC_E_FORMAT, "rescale_factor is null"},
      {"{\"image_std\":[1,1,0]}", CLIPC_E_FORMAT, "image_std is a list"},
      {"{\"image_mean\":null}", CLIPC_E_FORMAT, "image_mean is null"},
      {"{\"image_mean\":[0,0,0,0]}", CLIPC_E_FORMAT, "image_mean is a list"},
      {"{\"do_pad\":true}", CLIPC_E_UNSUPPORTED, "do_pad is true"},
      {"{\"use_square_size\":true}", CLIPC_E_UNSUPPORTED, "use_square_size is true"},
      {"[1]", CLIPC_E_FORMAT, "not a JSON object"},
  };
  for (size_t i = 0; i < COUNT(cases); i++) {
    test_folder_put_text("config.json", "{\"model_type\":\"clip\"}");
    check_refusals("preprocessor_config.json", &cases[i], 1);
  }
  struct clipc__config config;
  clipc_error error;
  test_folder_put_text("config.json",
                       "{\"model_type\":\"clip\"}"); /* a text tower alone does not ask how pictures are prepared */
  test_folder_put_text("preprocessor_config.json", "{\"image_processor_type\":\"SiglipImageProcessor\"}");
  assert_int_equal(config_read(&config, CLIPC_REFERENCE_AUTO, CLIPC_TOWER_TEXT, &error), CLIPC_OK);
  for (int resample = 0; resample <= 5; resample++) { /* torchvision has neither box nor hamming */
    char text[32], says[32];
    snprintf(text, sizeof text, "{\"resample\":%d}", resample);
    snprintf(says, sizeof says, "resample is %d", resample);
    test_folder_put_text("preprocessor_config.json", text);
    assert_int_equal(config_read(&config, CLIPC_REFERENCE_HF, 0, &error), CLIPC_OK);
    assert_int_equal(config_read(&config, CLIPC_REFERENCE_HF_TV, 0, &error),
                     resample < 4 ? CLIPC_OK : CLIPC_E_UNSUPPORTED);
    if (resample >= 4) assert_non_null(strstr(error.message, says));
  }
  test_folder_empty();
}

/* transformers 5 saves a processor as processor_config.json alone, and that goes before the old file. */
static void test_processor_config(void **state) {
  (void)state;
  struct clipc__config config;
  clipc_error error;
  test_folder_put_text("config.json",
                       "{\"model_type\":\"clip\",\"vision_config\":{\"image_size\":336,\"patch_size\":14}}");
  test_folder_put_text("preprocessor_config.json", "{\"size\":224,\"crop_size\":224}");
  assert_int_equal(config_read(&config, CLIPC_REFERENCE_AUTO, 0, &error), CLIPC_E_MODEL);
  test_folder_put_text(
      "processor_config.json",
      "{\"image_processor\":{\"image_processor_type\":\"CLIPImageProcessor\",\"size\":{\"shortest_edge\":350},"
      "\"crop_size\":{\"height\":336,\"width\":336}},\"processor_class\":\"CLIPProcessor\"}");
  assert_int_equal(config_read(&config, CLIPC_REFERENCE_AUTO, 0, &error), CLIPC_OK);
  assert_true(config.preprocessing.resize_height == 350 && config.preprocessing.crop_height == 336);
  test_folder_put_text("processor_config.json", "{\"processor_class\":\"CLIPProcessor\"}");
  assert_int_equal(config_read(&config, CLIPC_REFERENCE_AUTO, 0, &error), CLIPC_E_MODEL);
  test_folder_put_text("processor_config.json", "{\"image_processor\":{\"do_pad\":true}}");
  assert_int_equal(config_read(&config, CLIPC_REFERENCE_AUTO, 0, &error), CLIPC_E_UNSUPPORTED);
  assert_non_null(strstr(error.message, "processor_config.json: image_processor.do_pad is true"));
  test_folder_empty();
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_open_clip_goldens),  cmocka_unit_test(test_open_clip_refusals),
      cmocka_unit_test(test_open_clip_options),  cmocka_unit_test(test_open_clip_resize_modes),
      cmocka_unit_test(test_preprocess_goldens), cmocka_unit_test(test_preprocess_refusals),
      cmocka_unit_test(test_processor_config),
  };
  return cmocka_run_group_tests_name("config_open_clip", tests, test_folder_make, test_folder_remove);
}
