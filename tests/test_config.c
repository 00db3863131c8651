/* Hugging Face's config.json, the references, folders of two families.
 * Golden: tests/goldens/weights/hf_configs.jsonl (tests/goldens/make_weights.py). */
#include "configs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Hugging Face */

static enum clipc__activation activation_of(const char *name) {
  return strcmp(name, "quick_gelu") == 0 ? CLIPC__QUICK_GELU
         : strcmp(name, "gelu") == 0     ? CLIPC__GELU_ERF
                                         : CLIPC__GELU_TANH;
}

static void check_transformer(const char *name, const struct clipc__transformer_config *t, const cJSON *expect) {
  if (t->width != json_at(expect, "hidden_size")->valueint ||
      t->mlp_width != json_at(expect, "intermediate_size")->valueint ||
      t->n_layers != json_at(expect, "num_hidden_layers")->valueint ||
      t->n_heads != json_at(expect, "num_attention_heads")->valueint ||
      t->activation != activation_of(json_at(expect, "hidden_act")->valuestring) ||
      t->layer_norm_eps != (float)json_at(expect, "layer_norm_eps")->valuedouble)
    fail_msg("%s: the transformer differs", name);
}

static void check_hf(const char *name, const struct clipc__config *config, const cJSON *expect) {
  const cJSON *text = json_at(expect, "text"), *vision = json_at(expect, "vision");
  if (config->embedding_dimension != json_at(expect, "embedding")->valueint) fail_msg("%s: embedding_dimension", name);
  assert_int_equal(config->text.present, text != NULL);
  assert_int_equal(config->vision.present, vision != NULL);
  if (text) {
    int eos = json_at(text, "eos_token_id")->valueint;
    check_transformer(name, &config->text.transformer, text);
    if (config->text.vocab_size != json_at(text, "vocab_size")->valueint || config->text.eos_id != eos ||
        !config->text.causal || config->text.context_length != json_at(text, "max_position_embeddings")->valueint ||
        config->text.projection_bias || config->text.pooling != (eos == 2 ? CLIPC__POOL_ARGMAX : CLIPC__POOL_EOS))
      fail_msg("%s: the text tower differs", name);
  }
  if (vision) {
    check_transformer(name, &config->vision.transformer, vision);
    int size = json_at(vision, "image_size")->valueint;
    const clipc_preprocessing *p = &config->preprocessing;
    if (config->vision.image_height != size || config->vision.image_width != size || !config->vision.ln_pre ||
        config->vision.patch != json_at(vision, "patch_size")->valueint || config->vision.pooling != CLIPC__POOL_CLASS)
      fail_msg("%s: the image tower differs", name);
    if (p->resize != CLIPC_RESIZE_SHORTEST || p->resize_height != size || p->crop_height != size ||
        p->crop_width != size)
      fail_msg("%s: the default preprocessing differs", name);
  }
}

/* What transformers makes of each config: defaults, text_config_dict, eos 2, stand-alone towers. */
static void test_hf_goldens(void **state) {
  (void)state;
  cJSON *rows = config_golden_rows("hf_configs.jsonl");
  const cJSON *row;
  cJSON_ArrayForEach(row, rows) {
    const char *name = json_at(row, "name")->valuestring;
    struct clipc__config config;
    clipc_error error;
    test_folder_put_json("config.json", json_at(row, "config"));
    if (config_read(&config, CLIPC_REFERENCE_AUTO, 0, &error) != CLIPC_OK) fail_msg("%s: %s", name, error.message);
    assert_false(config.open_clip);
    assert_int_equal(config.reference, CLIPC_REFERENCE_HF);
    assert_int_equal(config.text_cleaning, CLIPC__TEXT_HF);
    check_hf(name, &config, json_at(row, "expect"));
    const cJSON *architectures = json_at(json_at(row, "config"), "architectures");
    const char *architecture = architectures ? architectures->child->valuestring : "CLIPModel";
    bool bare = strcmp(architecture, "CLIPTextModel") == 0 || strcmp(architecture, "CLIPVisionModel") == 0;
    if (config.text.present) assert_int_equal(config.text.projection, !bare);
    if (config.vision.present) assert_int_equal(config.vision.projection, !bare);
  }
  assert_true(cJSON_GetArraySize(rows) >= 23);
  cJSON_Delete(rows);
  test_folder_empty();
}

#define TEXT(fields) "{\"model_type\":\"clip\",\"text_config\":{" fields "}}"
#define VISION(fields) "{\"model_type\":\"clip\",\"vision_config\":{" fields "}}"

static void test_hf_refusals(void **state) {
  (void)state;
  static const struct refusal cases[] = {
      {"", CLIPC_E_FORMAT, "not JSON"},
      {"[]", CLIPC_E_FORMAT, "not a JSON object"},
      {"{\"model_type\":\"clip\"", CLIPC_E_FORMAT, "not JSON"},
      {"{\"model_type\":\"clip\"} x", CLIPC_E_FORMAT, "not JSON"},
      {"{\"model_type\":\"\xff\"}", CLIPC_E_FORMAT, "not JSON"},
      {"{}", CLIPC_E_UNSUPPORTED, "model_type is missing"},
      {"{\"model_type\":\"siglip\"}", CLIPC_E_UNSUPPORTED, "model_type is \"siglip\""},
      {"{\"model_type\":\"chinese_clip\",\"text_config\":{}}", CLIPC_E_UNSUPPORTED, "chinese_clip"},
      {"{\"model_type\":7}", CLIPC_E_FORMAT, "model_type is 7"},
      {"{\"model_type\":\"clip\",\"projection_dim\":0}", CLIPC_E_FORMAT, "projection_dim is 0"},
      {"{\"model_type\":\"clip\",\"projection_dim\":null}", CLIPC_E_FORMAT, "projection_dim is null"},
      {"{\"model_type\":\"clip\",\"projection_dim\":16385}", CLIPC_E_FORMAT, "projection_dim is 16385"},
      {"{\"model_type\":\"clip\",\"quantization_config\":{\"bits\":4}}", CLIPC_E_UNSUPPORTED, "quantization_config"},
      {"{\"model_type\":\"clip\",\"text_config\":[]}", CLIPC_E_FORMAT, "text_config is a list"},
      {TEXT("\"model_type\":\"xlm-roberta\""), CLIPC_E_UNSUPPORTED, "text_config.model_type is \"xlm-roberta\""},
      {TEXT("\"hidden_act\":\"relu\""), CLIPC_E_UNSUPPORTED, "text_config.hidden_act is \"relu\""},
      {TEXT("\"hidden_act\":null"), CLIPC_E_FORMAT, "text_config.hidden_act is null"},
      {TEXT("\"hidden_size\":500"), CLIPC_E_FORMAT, "text_config.num_attention_heads"},
      {TEXT("\"hidden_size\":\"512\""), CLIPC_E_FORMAT, "text_config.hidden_size is \"512\""},
      {TEXT("\"hidden_size\":512.5"), CLIPC_E_FORMAT, "text_config.hidden_size is 512.5"},
      {TEXT("\"hidden_size\":-512"), CLIPC_E_FORMAT, "text_config.hidden_size is -512"},
      {TEXT("\"hidden_size\":1e300"), CLIPC_E_FORMAT, "text_config.hidden_size is 1e+300"},
      {TEXT("\"hidden_size\":true"), CLIPC_E_FORMAT, "text_config.hidden_size is true"},
      {TEXT("\"num_hidden_layers\":0"), CLIPC_E_FORMAT, "num_hidden_layers is 0"},
      {TEXT("\"num_hidden_layers\":257"), CLIPC_E_FORMAT, "num_hidden_layers is 257"},
      {TEXT("\"num_attention_heads\":0"), CLIPC_E_FORMAT, "num_attention_heads is 0"},
      {TEXT("\"num_attention_heads\":512"), CLIPC_E_FORMAT, "num_attention_heads is 512"},
      {TEXT("\"intermediate_size\":65537"), CLIPC_E_FORMAT, "intermediate_size is 65537"},
      {TEXT("\"vocab_size\":4194305"), CLIPC_E_FORMAT, "vocab_size is 4194305"},
      {TEXT("\"max_position_embeddings\":1"), CLIPC_E_FORMAT, "max_position_embeddings is 1"},
      {TEXT("\"max_position_embeddings\":4097"), CLIPC_E_FORMAT, "max_position_embeddings is 4097"},
      {TEXT("\"layer_norm_eps\":0"), CLIPC_E_FORMAT, "layer_norm_eps is 0"},
      {TEXT("\"layer_norm_eps\":-1e-5"), CLIPC_E_FORMAT, "layer_norm_eps is -1e-05"},
      {TEXT("\"eos_token_id\":[1,2]"), CLIPC_E_FORMAT, "eos_token_id is a list"},
      {TEXT("\"eos_token_id\":null"), CLIPC_E_FORMAT, "eos_token_id is null"},
      {VISION("\"image_size\":[224,224]"), CLIPC_E_FORMAT, "vision_config.image_size is a list"},
      {VISION("\"image_size\":4097"), CLIPC_E_FORMAT, "image_size is 4097"},
      {VISION("\"patch_size\":0"), CLIPC_E_FORMAT, "patch_size is 0"},
      {VISION("\"patch_size\":225"), CLIPC_E_FORMAT, "patch_size is 225"},
      {VISION("\"patch_size\":600,\"image_size\":700"), CLIPC_E_FORMAT, "patch_size is 600"},
      {VISION("\"num_channels\":4"), CLIPC_E_UNSUPPORTED, "num_channels is 4"},
      {"{\"model_type\":\"clip\",\"vision_config_dict\":{\"hidden_act\":\"swish\"},\"vision_config\":{}}",
       CLIPC_E_UNSUPPORTED, "vision_config_dict.hidden_act is \"swish\""},
  };
  check_refusals("config.json", cases, COUNT(cases));
}

static void test_hf_shapes_of_folders(void **state) {
  (void)state;
  struct clipc__config config;
  clipc_error error;
  /* no model_type: told by its keys */
  test_folder_put_text("config.json", "{\"text_config\":{\"hidden_size\":64}}");
  assert_int_equal(config_read(&config, CLIPC_REFERENCE_AUTO, 0, &error), CLIPC_OK);
  assert_true(config.text.present && config.vision.present && config.text.transformer.width == 64);
  test_folder_put_text("config.json", "{\"hidden_size\":64,\"vocab_size\":100}");
  assert_int_equal(config_read(&config, CLIPC_REFERENCE_AUTO, 0, &error), CLIPC_OK);
  assert_true(config.text.present && !config.vision.present && config.text.projection &&
              config.embedding_dimension == 512);
  test_folder_put_text("config.json", "{\"hidden_size\":96,\"patch_size\":16,\"architectures\":[\"CLIPVisionModel\"]}");
  assert_int_equal(config_read(&config, CLIPC_REFERENCE_AUTO, 0, &error), CLIPC_OK);
  assert_true(!config.text.present && config.vision.present && !config.vision.projection &&
              config.embedding_dimension == 96);
  /* a full config that was saved beside one tower */
  test_folder_put_text(
      "config.json",
      "{\"model_type\":\"clip\",\"architectures\":[\"CLIPTextModelWithProjection\"],\"projection_dim\":9,"
      "\"text_config\":{\"hidden_size\":64,\"projection_dim\":24}}");
  assert_int_equal(config_read(&config, CLIPC_REFERENCE_AUTO, 0, &error), CLIPC_OK);
  assert_true(config.text.present && !config.vision.present && config.text.projection &&
              config.embedding_dimension == 24);
  /* of a key that comes twice the last counts */
  test_folder_put_text("config.json", "{\"model_type\":\"clip\",\"projection_dim\":1,\"projection_dim\":2}");
  assert_int_equal(config_read(&config, CLIPC_REFERENCE_AUTO, 0, &error), CLIPC_OK);
  assert_int_equal(config.embedding_dimension, 2);
  /* towers */
  test_folder_put_text("config.json", "{\"model_type\":\"clip\",\"vision_config\":{\"hidden_act\":\"nonsense\"}}");
  assert_int_equal(config_read(&config, CLIPC_REFERENCE_AUTO, CLIPC_TOWER_TEXT, &error), CLIPC_OK);
  assert_true(config.text.present && !config.vision.present);
  assert_int_equal(config_read(&config, CLIPC_REFERENCE_AUTO, CLIPC_TOWER_IMAGE, &error), CLIPC_E_UNSUPPORTED);
  test_folder_put_text("config.json", "{\"model_type\":\"clip_text_model\"}");
  assert_int_equal(config_read(&config, CLIPC_REFERENCE_AUTO, CLIPC_TOWER_IMAGE, &error), CLIPC_E_MODEL);
  assert_non_null(strstr(error.message, "no image tower"));
  test_folder_put_text("config.json", "{\"model_type\":\"clip_vision_model\"}");
  assert_int_equal(config_read(&config, CLIPC_REFERENCE_AUTO, CLIPC_TOWER_IMAGE | CLIPC_TOWER_TEXT, &error),
                   CLIPC_E_MODEL);
  assert_non_null(strstr(error.message, "no text tower"));
  test_folder_empty();
}

/* ---- references and folders of two families */

static void test_references(void **state) {
  (void)state;
  struct clipc__config config;
  clipc_error error;
  test_folder_put_text("config.json", "{\"model_type\":\"clip\",\"text_config\":{\"eos_token_id\":49407}}");
  test_folder_put_text("preprocessor_config.json", "{\"image_mean\":[0.1,0.2,0.3]}");
  assert_int_equal(config_read(&config, CLIPC_REFERENCE_AUTO, 0, &error), CLIPC_OK);
  assert_true(config.text.pooling == CLIPC__POOL_EOS && config.preprocessing.reference == CLIPC_REFERENCE_HF);
  assert_int_equal(config_read(&config, CLIPC_REFERENCE_HF_TV, 0, &error), CLIPC_OK);
  assert_true(config.text.pooling == CLIPC__POOL_EOS && config.preprocessing.reference == CLIPC_REFERENCE_HF_TV);
  assert_int_equal(config.text_cleaning, CLIPC__TEXT_HF);
  assert_int_equal(config_read(&config, CLIPC_REFERENCE_OPENAI, 0, &error), CLIPC_OK);
  assert_true(config.text.pooling == CLIPC__POOL_ARGMAX && config.preprocessing.reference == CLIPC_REFERENCE_OPENAI);
  assert_true(config.text_cleaning == CLIPC__TEXT_LOWER && config.preprocessing.mean[1] == 0.2f);
  clipc_options options = default_options;
  options.alpha = CLIPC_ALPHA_DROP;
  options.apply_exif = 1;
  assert_int_equal(clipc__config_read(&config, &(struct clipc__store){.path = test_folder}, &options, &error),
                   CLIPC_OK);
  assert_true(config.preprocessing.alpha == CLIPC_ALPHA_DROP && config.preprocessing.apply_exif == 1);
  test_folder_empty();
}

static void test_both_families(void **state) {
  (void)state;
  static const char hf[] = "{\"model_type\":\"clip\",\"projection_dim\":11}";
  static const char open_clip[] =
      "{\"model_cfg\":{\"embed_dim\":22,\"vision_cfg\":{\"patch_size\":32},\"text_cfg\":{\"tokenizer_kwargs\":"
      "{\"clean\":\"whitespace\"}}},\"preprocess_cfg\":{\"mean\":[0.5,0.5,0.5]}}";
  struct clipc__config config;
  clipc_error error;
  test_folder_put_text("config.json", hf);
  test_folder_put_text("open_clip_config.json", open_clip);
  test_folder_put_text("model.safetensors", "");
  assert_int_equal(config_read(&config, CLIPC_REFERENCE_AUTO, 0, &error), CLIPC_OK);
  assert_true(!config.open_clip && config.embedding_dimension == 11 && config.preprocessing.mean[0] == 0.48145466f);
  /* openai: open_clip's pictures and words, on Hugging Face's weights where open_clip's are not there */
  assert_int_equal(config_read(&config, CLIPC_REFERENCE_OPENAI, 0, &error), CLIPC_OK);
  assert_true(!config.open_clip && config.preprocessing.mean[0] == 0.5f &&
              config.text_cleaning == CLIPC__TEXT_WHITESPACE);
  test_folder_put_text("open_clip_model.safetensors", "");
  assert_int_equal(config_read(&config, CLIPC_REFERENCE_OPENAI, 0, &error), CLIPC_OK);
  assert_true(config.open_clip && config.embedding_dimension == 22);
  assert_int_equal(config_read(&config, CLIPC_REFERENCE_AUTO, 0, &error), CLIPC_OK);
  assert_true(!config.open_clip && config.reference == CLIPC_REFERENCE_HF);
  test_folder_empty();
  test_folder_put_text("config.json", hf); /* no Hugging Face weights */
  test_folder_put_text("open_clip_config.json", open_clip);
  assert_int_equal(config_read(&config, CLIPC_REFERENCE_AUTO, 0, &error), CLIPC_OK);
  assert_true(config.open_clip && config.reference == CLIPC_REFERENCE_OPENAI);
  test_folder_put_text("model.safetensors", ""); /* timm's config.json, and its own model.safetensors */
  test_folder_put_text("config.json", "{\"architecture\":\"vit_base_patch32_clip_224\",\"num_classes\":0}");
  assert_int_equal(config_read(&config, CLIPC_REFERENCE_AUTO, 0, &error), CLIPC_OK);
  assert_true(config.open_clip);
  test_folder_put_text("config.json", "{\"model_type\":\"timm_wrapper\"}");
  assert_int_equal(config_read(&config, CLIPC_REFERENCE_AUTO, 0, &error), CLIPC_OK);
  assert_true(config.open_clip);
  test_folder_empty();
  assert_int_equal(config_read(&config, CLIPC_REFERENCE_AUTO, 0, &error), CLIPC_E_IO);
  assert_non_null(strstr(error.message, "no config.json and no open_clip_config.json"));
  assert_int_equal(
      clipc__config_read(&config, &(struct clipc__store){.path = "/nonexistent/clipc"}, &default_options, &error),
      CLIPC_E_IO);
  clipc_options options = default_options;
  options.limits.max_config_bytes = 10;
  test_folder_put_text("config.json", hf);
  assert_int_equal(clipc__config_read(&config, &(struct clipc__store){.path = test_folder}, &options, &error),
                   CLIPC_E_LIMIT);
  test_folder_empty();
}

/* ---- failing memory, broken bytes */

static void test_failing_memory(void **state) {
  (void)state;
  test_folder_put_text("config.json", "{\"model_type\":\"clip\"}");
  test_folder_put_text("preprocessor_config.json", "{}");
  test_folder_put_text("open_clip_config.json", "{}");
  test_folder_put_text("model.safetensors", "");
  clipc_status status = CLIPC_E_NO_MEMORY;
  size_t n = 0;
  while (status != CLIPC_OK) {
    struct test_memory memory = {.fail_at = ++n};
    clipc_options options = default_options;
    options.allocator = test_allocator(&memory);
    struct clipc__config config;
    clipc_error error = {0};
    status = clipc__config_read(&config, &(struct clipc__store){.path = test_folder}, &options, &error);
    assert_int_equal(memory.n_live, 0);
    assert_int_equal(error.status, status);
    if (status != CLIPC_OK) assert_int_equal(status, CLIPC_E_NO_MEMORY);
    assert_true(n < 100);
  }
  assert_true(n > 8);
  test_folder_empty();
}

/* Mutated configs: a verdict with a sentence each time, and what is accepted is within its bounds. */
static void test_broken_bytes(void **state) {
  (void)state;
  random_start(20240607);
  static const char *const files[] = {"config.json", "open_clip_config.json"};
  static const char *const texts[] = {
      "{\"model_type\":\"clip\",\"projection_dim\":64,\"text_config\":{\"hidden_size\":64,\"num_attention_heads\":8,"
      "\"eos_token_id\":2},"
      "\"vision_config\":{\"image_size\":224,\"patch_size\":32,\"hidden_act\":\"gelu\",\"layer_norm_eps\":1e-5}}",
      "{\"model_cfg\":{\"embed_dim\":64,\"vision_cfg\":{\"width\":128,\"mlp_ratio\":4.5,\"image_size\":[224,96],"
      "\"patch_size\":32},"
      "\"text_cfg\":{\"heads\":8,\"width\":512}},\"preprocess_cfg\":{\"mean\":[0.5,0.5,0.5],\"resize_mode\":\"squash\"}"
      "}"};
  static const char alphabet[] = "{}[]\",:\\0123456789eE+-.tfn \x80\xff";
  for (int which = 0; which < 2; which++) {
    size_t n = strlen(texts[which]);
    int n_ok = 0;
    for (int round = 0; round < 4000; round++) {
      char mutant[512];
      strcpy(mutant, texts[which]);
      if (round < (int)n)
        mutant[round] = 0;
      else
        for (uint32_t k = 1 + random_below(3); k > 0; k--) {
          size_t to = random_below(n), from = random_below(n), length = random_below(10);
          if (random_below(2))
            mutant[to] = alphabet[random_below(sizeof alphabet - 1)];
          else if (to + length <= n && from + length <= n)
            memmove(mutant + to, mutant + from, length);
        }
      test_folder_put_text(files[which], mutant);
      struct clipc__config config;
      clipc_error error;
      clipc_status status = config_read(&config, CLIPC_REFERENCE_AUTO, 0, &error);
      if (status != CLIPC_OK) {
        assert_true(status == CLIPC_E_FORMAT || status == CLIPC_E_UNSUPPORTED || status == CLIPC_E_MODEL);
        assert_non_null(strstr(error.message, files[which]));
        continue;
      }
      n_ok++;
      const struct clipc__transformer_config *t =
          config.vision.present ? &config.vision.transformer : &config.text.transformer;
      assert_true(t->width >= 1 && t->width <= 16384 && t->n_heads >= 1 && t->width % t->n_heads == 0 &&
                  t->mlp_width >= 1 && t->mlp_width <= 65536 && t->n_layers >= 1 && t->layer_norm_eps > 0);
      if (config.vision.present)
        assert_true(config.vision.patch >= 1 && config.vision.patch <= config.vision.image_height &&
                    config.vision.patch <= config.vision.image_width);
    }
    assert_true(n_ok > 10);
    test_folder_empty();
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_hf_goldens),           cmocka_unit_test(test_hf_refusals),
      cmocka_unit_test(test_hf_shapes_of_folders), cmocka_unit_test(test_references),
      cmocka_unit_test(test_both_families),        cmocka_unit_test(test_failing_memory),
      cmocka_unit_test(test_broken_bytes),
  };
  return cmocka_run_group_tests_name("config", tests, test_folder_make, test_folder_remove);
}
