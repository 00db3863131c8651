/* The weight files of a folder: which are opened, shards, names, views.
 * Golden: tests/goldens/weights/names.jsonl (tests/goldens/make_weights.py). */
#include "configs.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- folders and shards */

static const char shard_1[] = "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
                              "\"extra\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[4,12]}}";
static const char shard_2[] = "{\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}";

static void put_shards(void) {
  const float one[3] = {1, 0, 0}, two[2] = {2, 3};
  safetensors_put("s-1.safetensors", shard_1, one, 12);
  safetensors_put("s-2.safetensors", shard_2, two, 8);
}

static clipc_status open_index(const char *index, clipc_error *error) {
  struct clipc__tensors tensors;
  test_folder_put_text("model.safetensors.index.json", index);
  clipc_status status = clipc__tensors_open(&tensors, test_folder, false, &default_options, error);
  if (status != CLIPC_OK) return status;
  const struct clipc__tensor *a = clipc__tensors_find(&tensors, "a"), *b = clipc__tensors_find(&tensors, "b");
  assert_non_null(a);
  assert_non_null(b);
  assert_null(clipc__tensors_find(&tensors, "extra"));
  assert_int_equal(tensors.n_files, 2);
  float values[3];
  memcpy(values, a->data, 4);
  memcpy(values + 1, b->data, 8);
  assert_true(values[0] == 1 && values[1] == 2 && values[2] == 3);
  assert_non_null(strstr(b->file, "s-2.safetensors"));
  clipc__tensors_close(&tensors);
  return CLIPC_OK;
}

static void test_shards(void **state) {
  (void)state;
  clipc_error error = {0};
  put_shards();
  assert_int_equal(
      open_index(
          "{\"metadata\":{\"total_size\":20},\"weight_map\":{\"a\":\"s-1.safetensors\",\"b\":\"s-2.safetensors\"}}",
          &error),
      CLIPC_OK);
  static const struct {
    const char *index;
    clipc_status status;
    const char *said[2];
  } bad[] = {
      {"{\"weight_map\":{\"a\":\"s-1.safetensors\",\"b\":\"s-1.safetensors\"}}",
       CLIPC_E_MODEL,
       {"s-1.safetensors", "tensor b"}},
      {"{\"weight_map\":{\"a\":\"s-1.safetensors\",\"b\":\"s-3.safetensors\"}}", CLIPC_E_IO, {"s-3.safetensors", ""}},
      {"{\"weight_map\":{\"a\":\"../s-1.safetensors\"}}", CLIPC_E_FORMAT, {"index.json", "plain file name"}},
      {"{\"weight_map\":{\"a\":\"/etc/passwd\"}}", CLIPC_E_FORMAT, {"index.json", "plain file name"}},
      {"{\"weight_map\":{\"a\":\"x\\\\y\"}}", CLIPC_E_FORMAT, {"index.json", "plain file name"}},
      {"{\"weight_map\":{\"a\":\"..\"}}", CLIPC_E_FORMAT, {"index.json", "plain file name"}},
      {"{\"weight_map\":{\"a\":\".\"}}", CLIPC_E_FORMAT, {"index.json", "plain file name"}},
      {"{\"weight_map\":{\"a\":\"\"}}", CLIPC_E_FORMAT, {"index.json", "plain file name"}},
      {"{\"weight_map\":{\"a\":\"s\\u0000\"}}", CLIPC_E_FORMAT, {"index.json", "plain file name"}},
      {"{\"weight_map\":{\"a\\u0000\":\"s-1.safetensors\"}}", CLIPC_E_FORMAT, {"index.json", "NUL"}},
      {"{\"weight_map\":{\"a\":\"s-1.safetensors\",\"a\":\"s-1.safetensors\"}}",
       CLIPC_E_FORMAT,
       {"index.json", "tensor a comes twice"}},
      {"{\"weight_map\":{\"a\":1}}", CLIPC_E_FORMAT, {"index.json", "string"}},
      {"{\"weight_map\":{}}", CLIPC_E_FORMAT, {"index.json", "empty"}},
      {"{\"weight_map\":{},\"weight_map\":{}}", CLIPC_E_FORMAT, {"index.json", "twice"}},
      {"{\"metadata\":{}}", CLIPC_E_FORMAT, {"index.json", "weight_map is missing"}},
      {"{\"metadata\":{},}", CLIPC_E_FORMAT, {"index.json", "string"}},
      {"[]", CLIPC_E_FORMAT, {"index.json", "object"}},
      {"", CLIPC_E_FORMAT, {"index.json", "object"}},
      {"{\"weight_map\":{\"a\":\"s-1.safetensors\"}} x", CLIPC_E_FORMAT, {"index.json", "follows"}},
      {"{\"\xff\":1}", CLIPC_E_FORMAT, {"index.json", "UTF-8"}},
  };
  for (size_t i = 0; i < COUNT(bad); i++) {
    memset(&error, 0, sizeof error);
    clipc_status status = open_index(bad[i].index, &error);
    if (status != bad[i].status || error.status != status || !strstr(error.message, bad[i].said[0]) ||
        !strstr(error.message, bad[i].said[1]))
      fail_msg("%s: %s: %s", bad[i].index, clipc_status_name(status), error.message);
  }
  test_folder_drop("model.safetensors.index.json");
}

static void test_folder_files(void **state) {
  (void)state;
  static const char *const names[] = {"open_clip_model.safetensors", "open_clip_pytorch_model.safetensors",
                                      "model.safetensors"};
  struct clipc__tensors tensors;
  clipc_error error = {0};
  assert_int_equal(clipc__tensors_open(&tensors, test_folder, false, &default_options, &error), CLIPC_E_IO);
  assert_non_null(strstr(error.message, "model.safetensors"));
  test_folder_put("pytorch_model.bin", "x", 1);
  assert_int_equal(clipc__tensors_open(&tensors, test_folder, false, &default_options, &error), CLIPC_E_MODEL);
  assert_non_null(strstr(error.message, "pytorch_model.bin must be converted"));
  test_folder_drop("pytorch_model.bin");
  for (size_t i = 0; i < 3; i++) { /* an earlier name is taken before a later one */
    for (size_t j = i; j < 3; j++) {
      char header[80];
      snprintf(header, sizeof header, "{\"t%zu\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}", j);
      safetensors_put(names[j], header, "x", 1);
    }
    for (int read = 0; read <= 1; read++) {
      clipc_options options = default_options;
      options.read_weights = read;
      char wanted[8];
      snprintf(wanted, sizeof wanted, "t%zu", i);
      assert_int_equal(clipc__tensors_open(&tensors, test_folder, true, &options, &error), CLIPC_OK);
      assert_non_null(clipc__tensors_find(&tensors, wanted));
      assert_int_equal(tensors.files[0].mapped, !read);
      clipc__tensors_close(&tensors);
    }
    test_folder_drop(names[i]);
  }
}

static void test_module_prefix(void **state) {
  (void)state;
  struct clipc__tensors tensors;
  safetensors_put("model.safetensors",
                  "{\"module.b\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]},"
                  "\"module.a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[1,2]}}",
                  "xy", 2);
  assert_int_equal(clipc__tensors_open(&tensors, test_folder, true, &default_options, NULL), CLIPC_OK);
  assert_non_null(clipc__tensors_find(&tensors, "a"));
  assert_non_null(clipc__tensors_find(&tensors, "b"));
  clipc__tensors_close(&tensors);
  safetensors_put("model.safetensors",
                  "{\"module.b\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]},"
                  "\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[1,2]}}",
                  "xy", 2);
  assert_int_equal(clipc__tensors_open(&tensors, test_folder, true, &default_options, NULL), CLIPC_OK);
  assert_null(clipc__tensors_find(&tensors, "b"));
  clipc__tensors_close(&tensors);
  test_folder_drop("model.safetensors");
}

/* A name with a NUL is valid but must not answer for its first part; so with a rank above ours. */
static void test_safetensors_unusable(void **state) {
  (void)state;
  safetensors_put("model.safetensors",
                  "{\"a\\u0000b\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]},"
                  "\"deep\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[4,8]}}",
                  "\0\0\0\0\0\0\0\0", 8);
  struct clipc__tensors tensors;
  struct clipc__arena arena = {0};
  clipc_error error = {0};
  const float *data = NULL;
  assert_int_equal(clipc__tensors_open(&tensors, test_folder, false, &default_options, &error), CLIPC_OK);
  assert_int_equal(tensors.n_tensors, 1);
  assert_null(clipc__tensors_find(&tensors, "a"));
  const uint64_t shape[9] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
  assert_int_equal(clipc__tensor_f32(&data, &tensors, "deep", 9, shape, &arena, &error), CLIPC_E_MODEL);
  assert_int_equal(clipc__tensor_f32(&data, &tensors, "deep", 1, shape, &arena, &error), CLIPC_E_MODEL);
  assert_null(data);
  clipc__tensors_close(&tensors);
  clipc__arena_free(&arena);
  test_folder_drop("model.safetensors");
}

/* What is wrong is said with the tensor it is about. */
static void test_safetensors_sentences(void **state) {
  (void)state;
  static const struct {
    const char *header, *part;
  } broken[] = {
      {"{\"a\":{\"dtype\":\"F99\",\"shape\":[2],\"data_offsets\":[0,8]}}", "tensor a: unknown dtype"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,8]}}", "tensor a: data_offsets"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
       "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}",
       "tensor a comes twice"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", "tensor a begins at byte 4"},
  };
  for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
    struct clipc__tensors tensors;
    clipc_error error = {0};
    safetensors_put("model.safetensors", broken[i].header, "\0\0\0\0\0\0\0", 8);
    assert_int_equal(clipc__tensors_open(&tensors, test_folder, false, &default_options, &error), CLIPC_E_FORMAT);
    if (!strstr(error.message, broken[i].part)) fail_msg("%s, not: %s", error.message, broken[i].part);
  }
  test_folder_drop("model.safetensors");
}

/* ---- views */

static float half_value(uint16_t half) {
  int exponent = half >> 10 & 31, mantissa = half & 1023;
  float magnitude = exponent == 0   ? ldexpf((float)mantissa, -24)
                    : exponent < 31 ? ldexpf((float)(1024 + mantissa), exponent - 25)
                    : mantissa      ? NAN
                                    : INFINITY;
  return half & 0x8000 ? -magnitude : magnitude;
}

/* Every F16 and every BF16, at an even and an odd address. */
static void test_widening(void **state) {
  (void)state;
  static const uint64_t shape[2] = {256, 256};
  uint16_t *all = malloc(65536 * 2);
  assert_non_null(all);
  for (uint32_t i = 0; i < 65536; i++) all[i] = (uint16_t)i;
  for (int brain = 0; brain <= 1; brain++)
    for (int pad = 0; pad <= 1; pad++) {
      char header[128];
      snprintf(header, sizeof header, "{\"t\":{\"dtype\":\"%s\",\"shape\":[256,256],\"data_offsets\":[0,131072]}}%s",
               brain ? "BF16" : "F16", pad ? " " : "");
      safetensors_put("model.safetensors", header, all, 131072);
      struct clipc__tensors tensors;
      struct clipc__arena arena = {0};
      const float *wide;
      assert_int_equal(clipc__tensors_open(&tensors, test_folder, false, &default_options, NULL), CLIPC_OK);
      assert_int_equal(clipc__tensor_f32(&wide, &tensors, "t", 2, shape, &arena, NULL), CLIPC_OK);
      for (uint32_t i = 0; i < 65536; i++) {
        float expected = half_value((uint16_t)i);
        uint32_t bits = i << 16, got;
        if (brain) memcpy(&expected, &bits, 4);
        memcpy(&got, &wide[i], 4);
        memcpy(&bits, &expected, 4);
        if (isnan(expected) ? !isnan(wide[i]) || (got ^ (i << 16)) >> 31 : got != bits)
          fail_msg("%s %04x -> %08x", brain ? "BF16" : "F16", i, got);
      }
      clipc__tensors_close(&tensors);
      clipc__arena_free(&arena);
    }
  free(all);
  test_folder_drop("model.safetensors");
}

static void test_views(void **state) {
  (void)state;
  static const char aligned[] =
      "{\"w\":{\"dtype\":\"F32\",\"shape\":[2,1],\"data_offsets\":[0,8]},\"s\":{\"dtype\":\"F32\",\"shape\":[1],"
      "\"data_offsets\":[8,12]},\"i\":{\"dtype\":\"I64\",\"shape\":[2,1],\"data_offsets\":[12,28]}}";
  const float values[7] = {1.5f, -2.5f, 4.0f, 0, 0, 0, 0};
  const uint64_t shape[2] = {2, 1}, other[2] = {1, 2};
  for (int pad = 0; pad < 8; pad++) {
    char header[256] = "";
    strcat(header, aligned);
    for (int i = 0; i < pad; i++) strcat(header, " ");
    safetensors_put("model.safetensors", header, values, 28);
    struct clipc__tensors tensors;
    struct clipc__arena arena = {0};
    clipc_error error = {0};
    const float *data = NULL;
    assert_int_equal(clipc__tensors_open(&tensors, test_folder, false, &default_options, &error), CLIPC_OK);
    assert_int_equal(clipc__tensor_f32(&data, &tensors, "w", 2, shape, &arena, &error), CLIPC_OK);
    assert_int_equal((uintptr_t)data % 4, 0);
    assert_true(data[0] == 1.5f && data[1] == -2.5f);
    bool in_place = (const uint8_t *)data == clipc__tensors_find(&tensors, "w")->data;
    assert_int_equal(in_place, (8 + strlen(header)) % 4 == 0);
    assert_int_equal(clipc__tensor_f32(&data, &tensors, "s", 0, NULL, &arena, &error), CLIPC_OK);
    assert_true(*data == 4.0f);
    data = NULL;
    assert_int_equal(clipc__tensor_f32(&data, &tensors, "w", 2, other, &arena, &error), CLIPC_E_MODEL);
    assert_non_null(strstr(error.message, "[2, 1]"));
    assert_non_null(strstr(error.message, "[1, 2]"));
    assert_int_equal(clipc__tensor_f32(&data, &tensors, "w", 1, shape, &arena, &error), CLIPC_E_MODEL);
    assert_int_equal(clipc__tensor_f32(&data, &tensors, "w", 0, NULL, &arena, &error), CLIPC_E_MODEL);
    assert_int_equal(clipc__tensor_f32(&data, &tensors, "i", 2, shape, &arena, &error), CLIPC_E_MODEL);
    assert_non_null(strstr(error.message, "dtype"));
    assert_int_equal(clipc__tensor_f32(&data, &tensors, "nope", 2, shape, &arena, &error), CLIPC_E_MODEL);
    assert_non_null(strstr(error.message, "tensor nope is missing"));
    assert_null(data);
    clipc__tensors_close(&tensors);
    clipc__arena_free(&arena);
  }
  test_folder_drop("model.safetensors");
}

/* ---- names */

static void part_shape(uint64_t *shape, int *rank, const struct clipc__config *config, int tower, enum clipc__part part,
                       bool hf, bool linear) {
  bool image = tower == CLIPC_TOWER_IMAGE;
  const struct clipc__transformer_config *t = image ? &config->vision.transformer : &config->text.transformer;
  uint64_t d = (uint64_t)t->width, m = (uint64_t)t->mlp_width, e = (uint64_t)config->embedding_dimension;
  uint64_t p = (uint64_t)config->vision.patch;
  *rank = 1;
  shape[0] = d;
  switch (part) {
  case CLIPC__PATCH_EMBEDDING: *rank = 4, shape[1] = 3, shape[2] = shape[3] = p; break;
  case CLIPC__POSITION_EMBEDDING:
    *rank = 2, shape[1] = d;
    shape[0] = image ? 1 + (uint64_t)config->vision.image_height / p * ((uint64_t)config->vision.image_width / p)
                     : (uint64_t)config->text.context_length;
    break;
  case CLIPC__TOKEN_EMBEDDING: *rank = 2, shape[0] = (uint64_t)config->text.vocab_size, shape[1] = d; break;
  case CLIPC__Q_WEIGHT:
  case CLIPC__K_WEIGHT:
  case CLIPC__V_WEIGHT:
  case CLIPC__OUT_WEIGHT: *rank = 2, shape[1] = d; break;
  case CLIPC__QKV_WEIGHT: *rank = 2, shape[0] = 3 * d, shape[1] = d; break;
  case CLIPC__QKV_BIAS: shape[0] = 3 * d; break;
  case CLIPC__FC1_WEIGHT: *rank = 2, shape[0] = m, shape[1] = d; break;
  case CLIPC__FC1_BIAS: shape[0] = m; break;
  case CLIPC__FC2_WEIGHT: *rank = 2, shape[1] = m; break;
  case CLIPC__PROJECTION_WEIGHT: *rank = 2, shape[hf || linear ? 1 : 0] = d, shape[hf || linear ? 0 : 1] = e; break;
  case CLIPC__PROJECTION_BIAS: shape[0] = e; break;
  case CLIPC__LOGIT_SCALE:
  case CLIPC__LOGIT_BIAS: *rank = 0; break;
  default: break;
  }
}

/* Takes the named tensor of its exact shape off the list of those not yet asked for. */
static void take_part(cJSON *left, const char *model, const struct clipc__config *config, enum clipc__naming naming,
                      int tower, enum clipc__part part, int layer) {
  bool hf = naming == CLIPC__NAMES_HF || naming == CLIPC__NAMES_HF_BARE;
  bool linear = tower == CLIPC_TOWER_TEXT && config->text.projection_bias;
  char name[CLIPC__NAME_BYTES];
  if (!clipc__part_name(name, naming, tower, part, layer, linear)) return;
  bool projection = tower == CLIPC_TOWER_IMAGE ? config->vision.projection : config->text.projection;
  if ((part == CLIPC__PROJECTION_WEIGHT || part == CLIPC__PROJECTION_BIAS) && !projection) return;
  if ((part == CLIPC__LN_PRE_WEIGHT || part == CLIPC__LN_PRE_BIAS) && !config->vision.ln_pre) return;
  cJSON *item = cJSON_DetachItemFromObjectCaseSensitive(left, name);
  if (item == NULL) {
    if (part == CLIPC__LOGIT_SCALE || part == CLIPC__LOGIT_BIAS) return;
    fail_msg("%s: no %s", model, name);
  }
  uint64_t shape[4];
  int rank;
  part_shape(shape, &rank, config, tower, part, hf, linear);
  assert_int_equal(cJSON_GetArraySize(item), rank);
  for (int i = 0; i < rank; i++)
    if (cJSON_GetArrayItem(item, i)->valuedouble != (double)shape[i]) fail_msg("%s: shape of %s", model, name);
  cJSON_Delete(item);
}

/* A file of these tensors, as U8 zeros. */
static void put_tensors(const cJSON *tensors) {
  struct clipc__bytes header = {0};
  size_t offset = 0;
  const cJSON *item, *size;
  assert_true(clipc__bytes_append(&header, "{", 1));
  cJSON_ArrayForEach(item, tensors) {
    char entry[256], *shape = cJSON_PrintUnformatted(item);
    size_t n_elements = 1;
    cJSON_ArrayForEach(size, item) n_elements *= (size_t)size->valuedouble;
    int n = snprintf(entry, sizeof entry, "%s\"%s\":{\"dtype\":\"U8\",\"shape\":%s,\"data_offsets\":[%zu,%zu]}",
                     header.n_bytes > 1 ? "," : "", item->string, shape, offset, offset + n_elements);
    assert_true(clipc__bytes_append(&header, entry, (size_t)n));
    offset += n_elements;
    free(shape);
  }
  assert_true(clipc__bytes_append(&header, "}", 2));
  void *zeros = calloc(offset, 1);
  assert_non_null(zeros);
  safetensors_put("model.safetensors", (const char *)header.data, zeros, offset);
  free(zeros);
  clipc__bytes_free(&header);
}

/* OpenAI's checkpoints have no config: the rest of what their shapes say. */
static void check_inferred(const struct clipc__config *config, const cJSON *expect) {
  const cJSON *heads = cJSON_GetObjectItem(expect, "heads"), *layers = cJSON_GetObjectItem(expect, "layers");
  const struct clipc__transformer_config *image = &config->vision.transformer, *text = &config->text.transformer;
  assert_int_equal(config->vision.image_height, cJSON_GetObjectItem(expect, "image_size")->valueint);
  assert_int_equal(image->n_heads, cJSON_GetArrayItem(heads, 0)->valueint);
  assert_int_equal(text->n_heads, cJSON_GetArrayItem(heads, 1)->valueint);
  assert_int_equal(image->n_layers, cJSON_GetArrayItem(layers, 0)->valueint);
  assert_int_equal(text->n_layers, cJSON_GetArrayItem(layers, 1)->valueint);
  assert_true(cJSON_IsTrue(cJSON_GetObjectItem(expect, "quick_gelu")));
  assert_true(image->activation == CLIPC__QUICK_GELU && text->activation == CLIPC__QUICK_GELU);
  assert_true(config->text.causal && config->text.pooling == CLIPC__POOL_ARGMAX && config->vision.ln_pre);
  assert_int_equal(config->reference, CLIPC_REFERENCE_OPENAI);
}

/* Every tensor of a real state dict is asked for by exactly one part, with its shape; only position_ids are left. */
static void test_names(void **state) {
  (void)state;
  cJSON *rows = config_golden_rows("names.jsonl"), *row;
  bool seen[4] = {false, false, false, false};
  cJSON_ArrayForEach(row, rows) {
    const char *model = cJSON_GetObjectItem(row, "name")->valuestring,
               *file = cJSON_GetObjectItem(row, "file")->valuestring;
    char *config_text = cJSON_PrintUnformatted(cJSON_GetObjectItem(row, "config"));
    cJSON *left = cJSON_GetObjectItem(row, "tensors");
    if (*file) test_folder_put_text(file, config_text);
    free(config_text);
    put_tensors(left);
    struct clipc__config config;
    struct clipc__tensors tensors;
    enum clipc__naming naming = CLIPC__NAMES_HF;
    clipc_error error = {0};
    if (clipc__config_read(&config, &(struct clipc__store){.path = test_folder}, &default_options, &error) !=
            CLIPC_OK ||
        clipc__tensors_open(&tensors, test_folder, config.open_clip, &default_options, &error) != CLIPC_OK ||
        clipc__naming_detect(&naming, &tensors, &config, &error) != CLIPC_OK)
      fail_msg("%s: %s", model, error.message);
    seen[naming] = true;
    const cJSON *expect = cJSON_GetObjectItem(row, "expect");
    if (expect) {
      check_inferred(&config, expect);
      cJSON_DeleteItemFromObject(left, "input_resolution");
      cJSON_DeleteItemFromObject(left, "context_length");
      cJSON_DeleteItemFromObject(left, "vocab_size");
    }
    for (int tower = CLIPC_TOWER_IMAGE; tower <= CLIPC_TOWER_TEXT; tower++) {
      bool present = tower == CLIPC_TOWER_IMAGE ? config.vision.present : config.text.present;
      int n_layers = tower == CLIPC_TOWER_IMAGE ? config.vision.transformer.n_layers : config.text.transformer.n_layers;
      for (int part = 0; present && part < CLIPC__N_PARTS; part++) {
        bool block = part >= CLIPC__LN_1_WEIGHT && part <= CLIPC__FC2_BIAS;
        for (int layer = 0; layer < (block ? n_layers : 1); layer++)
          take_part(left, model, &config, naming, tower, (enum clipc__part)part, layer);
      }
    }
    const cJSON *item;
    cJSON_ArrayForEach(item, left) if (!strstr(item->string, "position_ids"))
        fail_msg("%s: nobody asks for %s", model, item->string);
    clipc__tensors_close(&tensors);
    if (*file) test_folder_drop(file);
  }
  assert_true(cJSON_GetArraySize(rows) >= 15);
  cJSON_Delete(rows);
  for (int i = 0; i < 4; i++) assert_true(seen[i]);
  test_folder_drop("model.safetensors");
}

/* open_clip's names without OpenAI's marks may mean another activation: nothing is inferred. */
static void test_not_inferred(void **state) {
  (void)state;
  static const struct {
    const char *header, *said;
  } cases[] = {
      {"{\"token_embedding.weight\":{\"dtype\":\"U8\",\"shape\":[1,1],\"data_offsets\":[0,1]}}", "not OpenAI's"},
      {"{\"input_resolution\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]},\"vocab_size\":{\"dtype\":\"U8\","
       "\"shape\":[0],\"data_offsets\":[1,1]}}",
       "tensor text_projection is missing"},
      {"{\"input_resolution\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]},\"vocab_size\":{\"dtype\":\"U8\","
       "\"shape\":[0],\"data_offsets\":[1,1]},\"text_projection\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[1,"
       "1]}}",
       "tensor text_projection is misshapen"}};
  for (size_t i = 0; i < COUNT(cases); i++) {
    struct clipc__config config;
    clipc_error error = {0};
    safetensors_put("model.safetensors", cases[i].header, "x", 1);
    assert_int_not_equal(
        clipc__config_read(&config, &(struct clipc__store){.path = test_folder}, &default_options, &error), CLIPC_OK);
    if (!strstr(error.message, cases[i].said)) fail_msg("%s", error.message);
  }
  test_folder_drop("model.safetensors");
}

static void test_naming_refused(void **state) {
  (void)state;
  safetensors_put("model.safetensors",
                  "{\"visual.class_embedding\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}", "x", 1);
  struct clipc__tensors tensors;
  enum clipc__naming naming = CLIPC__NAMES_HF_BARE;
  clipc_error error = {0};
  assert_int_equal(clipc__tensors_open(&tensors, test_folder, true, &default_options, &error), CLIPC_OK);
  struct clipc__config config = {.open_clip = true, .vision.present = true, .text.present = true};
  assert_int_equal(clipc__naming_detect(&naming, &tensors, &config, &error), CLIPC_E_MODEL);
  assert_non_null(strstr(error.message, "model.safetensors"));
  assert_non_null(strstr(error.message, "token_embedding.weight"));
  assert_int_equal(naming, CLIPC__NAMES_HF_BARE);
  config.text.present = false;
  assert_int_equal(clipc__naming_detect(&naming, &tensors, &config, &error), CLIPC_OK);
  assert_int_equal(naming, CLIPC__NAMES_OPEN_CLIP);
  clipc__tensors_close(&tensors);
  test_folder_drop("model.safetensors");
}

/* ---- failing memory */

static clipc_status open_counted(struct test_memory *memory, bool sharded) {
  clipc_options options = default_options;
  options.allocator = test_allocator(memory);
  options.read_weights = 1;
  struct clipc__tensors tensors;
  struct clipc__arena arena = {.allocator = options.allocator};
  clipc_error error = {0};
  clipc_status status = clipc__tensors_open(&tensors, test_folder, false, &options, &error);
  if (status == CLIPC_OK) {
    const float *data;
    static const uint64_t shape[1] = {1};
    status = clipc__tensor_f32(&data, &tensors, sharded ? "a" : "h", 1, shape, &arena, &error);
    clipc__tensors_close(&tensors);
  }
  clipc__arena_free(&arena);
  assert_int_equal(error.status, status);
  return status;
}

static void test_failing_memory(void **state) {
  (void)state;
  for (int sharded = 0; sharded <= 1; sharded++) {
    if (sharded) {
      static const char index[] = "{\"weight_map\":{\"a\":\"s-1.safetensors\",\"b\":\"s-2.safetensors\"}}";
      put_shards();
      test_folder_put_text("model.safetensors.index.json", index);
    } else {
      safetensors_put("model.safetensors", "{\"h\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[0,2]}}", "\0\0",
                      2);
    }
    clipc_status status = CLIPC_E_NO_MEMORY;
    size_t n = 0;
    while (status != CLIPC_OK) {
      struct test_memory memory = {.fail_at = ++n};
      status = open_counted(&memory, sharded);
      assert_int_equal(memory.n_live, 0);
      if (status != CLIPC_OK) assert_int_equal(status, CLIPC_E_NO_MEMORY);
      assert_true(n < 200);
    }
    assert_true(n > 4);
    test_folder_drop("model.safetensors");
  }
  test_folder_drop("model.safetensors.index.json");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_shards),
      cmocka_unit_test(test_folder_files),
      cmocka_unit_test(test_module_prefix),
      cmocka_unit_test(test_safetensors_unusable),
      cmocka_unit_test(test_safetensors_sentences),
      cmocka_unit_test(test_widening),
      cmocka_unit_test(test_views),
      cmocka_unit_test(test_names),
      cmocka_unit_test(test_naming_refused),
      cmocka_unit_test(test_not_inferred),
      cmocka_unit_test(test_failing_memory),
  };
  return cmocka_run_group_tests_name("weights", tests, test_folder_make, test_folder_remove);
}
