/* Fingerprints of embedding spaces: the same for the same vectors, whatever holds the weights; another for every
 * weight, rule and option that vectors hang on. SHA-256 by its published values, in both its ways. */
#include "base/sha256.h"
#include "configs.h"
#include "model/model.h"
#include "packs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- SHA-256 */

static void sha256_of(char hex[65], const void *data, size_t n_bytes, size_t step, bool fast) {
  struct clipc__sha256 sha;
  uint8_t digest[CLIPC__SHA256_BYTES];
  clipc__sha256_begin(&sha, fast);
  for (size_t at = 0; at < n_bytes; at += step)
    clipc__sha256_add(&sha, (const char *)data + at, n_bytes - at < step ? n_bytes - at : step);
  clipc__sha256_end(&sha, digest);
  for (int i = 0; i < 32; i++) sprintf(hex + 2 * i, "%02x", digest[i]);
}

static void test_sha256(void **state) {
  static const struct {
    const char *text, *hex;
  } known[] = {{"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
               {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
               {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
               {"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqr"
                "stnopqrstu",
                "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"}};
  char hex[65], other[65];
  (void)state;
  for (int fast = 0; fast <= clipc__sha256_has_instructions(); fast++) {
    for (size_t i = 0; i < COUNT(known); i++) {
      sha256_of(hex, known[i].text, strlen(known[i].text), 7, fast);
      assert_string_equal(hex, known[i].hex);
    }
    char *million = malloc(1000000);
    memset(million, 'a', 1000000);
    sha256_of(hex, million, 1000000, 999, fast);
    assert_string_equal(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    for (size_t n = 0; n < 200; n++) {
      sha256_of(hex, million, n, 1, false);
      sha256_of(other, million, n, 64, fast);
      assert_string_equal(hex, other);
    }
    free(million);
  }
}

/* ---- the same */

static const char *fingerprint_of(const char *path, const clipc_options *options) {
  static char texts[8][CLIPC_FINGERPRINT_BYTES];
  static int next;
  char *text = texts[next++ % 8];
  clipc_error error = {CLIPC_OK, ""};
  clipc_model *model = golden_open_model(path, options);
  if (clipc_model_fingerprint(model, text, &error) != CLIPC_OK) fail_msg("%s", error.message);
  clipc_model_close(model);
  return text;
}

static void same(const char *a, const char *b) {
  if (!clipc_fingerprint_same(a, b)) fail_msg("%s where %s was expected", a, b);
}

static void differ(const char *a, const char *b) {
  if (clipc_fingerprint_same(a, b)) fail_msg("%s twice", a);
}

static void test_whatever_holds_it(void **state) {
  static const char *const models[] = {"hf-words", "hf-sharded", "hf-vision-projection", "hf-text",
                                       "oc-words", "oc-clipa",   "oc-unprojected",       "oc-old-names"};
  static const char *const names[] = {":f32", ":bf16", ":int8"};
  (void)state;
  const char *before = NULL;
  for (size_t m = 0; m < COUNT(models); m++) {
    char *folder = synthetic_folder(models[m], NULL);
    char expected[CLIPC_FINGERPRINT_BYTES];
    strcpy(expected, fingerprint_of(folder, NULL));
    assert_int_equal(strlen(expected), 36);
    if (before != NULL) differ(expected, before);
    clipc_model *model = golden_open_model(folder, NULL);
    int towers = clipc_towers(model);
    clipc_model_close(model);
    for (int i = 0; i < 6; i++) {
      clipc_options options = {.precision = (clipc_precision)(i % 3),
                               .tier = i % 2 ? CLIPC_TIER_PLAIN_C : CLIPC_TIER_BEST,
                               .n_threads = 1 + i % 3,
                               .read_weights = i / 3,
                               .towers = i / 2 & towers}; /* 0, one of them, the other */
      same(fingerprint_of(folder, &options), expected);
      assert_string_equal(fingerprint_of(folder, &options) + 32, names[i % 3]);
      const char *packed = fingerprint_of(pack_folder(folder, &options, "space.clipc"), NULL);
      same(packed, expected);
      assert_string_equal(packed + 32, names[i % 3]);
    }
    test_folder_delete(folder);
    folder = synthetic_folder(models[m], &(struct synthetic_change){.dtype = "F32"});
    char wide[CLIPC_FINGERPRINT_BYTES];
    strcpy(wide, fingerprint_of(folder, NULL));
    test_folder_delete(folder);
    folder = synthetic_folder(models[m], &(struct synthetic_change){.dtype = "BF16"}); /* holds the values exactly */
    same(fingerprint_of(folder, NULL), wide);
    test_folder_delete(folder);
    free((void *)(uintptr_t)before);
    before = strdup(expected);
  }
  free((void *)(uintptr_t)before);
}

/* The same network as Hugging Face spells it: fused tensors cut up, projections the other way round. */
static void put_in_other_spelling(const struct clipc__tensors *tensors, const struct clipc__config *config) {
  struct clipc__parts parts = {.config = config, .naming = CLIPC__NAMES_HF};
  char *header = malloc(1 << 20);
  size_t at = (size_t)sprintf(header, "{"), n_data = 0;
  float *data = malloc(64 << 20);
  while (clipc__parts_next(&parts)) {
    char stored[CLIPC__NAME_BYTES];
    bool q = parts.part >= CLIPC__Q_WEIGHT && parts.part <= CLIPC__V_BIAS;
    enum clipc__part from = parts.part;
    if (q) from = (parts.part - CLIPC__Q_WEIGHT) % 2 ? CLIPC__QKV_BIAS : CLIPC__QKV_WEIGHT;
    clipc__part_name(stored, CLIPC__NAMES_OPEN_CLIP, parts.tower ? parts.tower : CLIPC_TOWER_TEXT, from, parts.layer,
                     false);
    const struct clipc__tensor *tensor = clipc__tensors_find(tensors, stored);
    assert_non_null(tensor);
    size_t n = 1, n_all = clipc__tensor_numbers(tensor), third = q ? (size_t)(parts.part - CLIPC__Q_WEIGHT) / 2 : 0;
    at += (size_t)sprintf(header + at, "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[", n_data ? "," : "", parts.name);
    for (int d = 0; d < parts.rank; d++) {
      at += (size_t)sprintf(header + at, "%s%zu", d ? "," : "", (size_t)parts.shape[d]);
      n *= parts.shape[d];
    }
    at += (size_t)sprintf(header + at, "],\"data_offsets\":[%zu,%zu]}", 4 * n_data, 4 * (n_data + n));
    assert_int_equal(n_all, q ? 3 * n : n);
    float *numbers = malloc(n_all * sizeof *numbers);
    clipc__tensor_widen(numbers, tensor, 0, n_all);
    if (parts.part == CLIPC__PROJECTION_WEIGHT)
      for (size_t i = 0; i < n; i++)
        data[n_data + i] = numbers[i % parts.shape[1] * parts.shape[0] + i / parts.shape[1]];
    else
      memcpy(data + n_data, numbers + third * n, n * sizeof *data);
    free(numbers);
    n_data += n;
  }
  sprintf(header + at, "}");
  safetensors_put("model.safetensors", header, data, 4 * n_data);
  free(header);
  free(data);
}

static void test_spelling(void **state) {
  (void)state;
  clipc_options options = default_options;
  options.reference = CLIPC_REFERENCE_OPENAI;
  options.n_threads = 2;
  char *folder = synthetic_folder("oc-quick", NULL);
  struct clipc__space spaces[2];
  struct clipc__config config;
  struct clipc__tensors tensors;
  clipc_error error = {CLIPC_OK, ""};
  assert_int_equal(clipc__space_of_folder(&spaces[0], &config, folder, &options, &error), CLIPC_OK);
  assert_int_equal(clipc__tensors_open(&tensors, folder, true, &options, &error), CLIPC_OK);
  test_folder_empty();
  put_in_other_spelling(&tensors, &config);
  char json[1024];
  const struct clipc__transformer_config *v = &config.vision.transformer, *t = &config.text.transformer;
  snprintf(
      json, sizeof json,
      "{\"model_type\":\"clip\",\"projection_dim\":%d,\"vision_config\":{\"hidden_size\":%d,\"intermediate_size\":%d,"
      "\"num_hidden_layers\":%d,\"num_attention_heads\":%d,\"image_size\":%d,\"patch_size\":%d},\"text_config\":{"
      "\"hidden_size\":%d,\"intermediate_size\":%d,\"num_hidden_layers\":%d,\"num_attention_heads\":%d,"
      "\"vocab_size\":%d,\"max_position_embeddings\":%d,\"eos_token_id\":2}}",
      config.embedding_dimension, v->width, v->mlp_width, v->n_layers, v->n_heads, config.vision.image_width,
      config.vision.patch, t->width, t->mlp_width, t->n_layers, t->n_heads, config.text.vocab_size,
      config.text.context_length);
  test_folder_put_text("config.json", json);
  clipc_status status = clipc__space_of_folder(&spaces[1], &config, test_folder, &options, &error);
  if (status != CLIPC_OK) fail_msg("%s", error.message);
  assert_memory_equal(spaces[0].weights, spaces[1].weights, sizeof spaces[0].weights);
  assert_int_equal(spaces[0].towers, spaces[1].towers);
  clipc__tensors_close(&tensors);
  test_folder_delete(folder);
  test_folder_empty();
}

/* ---- another */

/* Changes one byte of one tensor's last number. */
static void spoil(const char *path, const struct clipc__tensors *tensors, const struct clipc__tensor *tensor) {
  FILE *file = fopen(path, "r+b");
  assert_non_null(file);
  long at = (long)(tensor->data - tensors->files[0].data) + (long)tensor->n_bytes - 1;
  fseek(file, at, SEEK_SET);
  int byte = fgetc(file);
  fseek(file, at, SEEK_SET);
  fputc(byte ^ 0x80, file); /* the sign */
  fclose(file);
}

static void test_every_weight(void **state) {
  static const char *const models[] = {"hf-quick", "oc-erf", "oc-clipa"};
  (void)state;
  for (size_t m = 0; m < COUNT(models); m++) {
    char *folder = synthetic_folder(models[m], NULL), path[512];
    clipc_options options = default_options;
    struct clipc__space space, changed;
    struct clipc__config config;
    struct clipc__tensors tensors;
    enum clipc__naming naming;
    options.n_threads = 1;
    assert_int_equal(clipc__space_of_folder(&space, &config, folder, &options, NULL), CLIPC_OK);
    assert_int_equal(clipc__tensors_open(&tensors, folder, config.open_clip, &options, NULL), CLIPC_OK);
    assert_int_equal(clipc__naming_detect(&naming, &tensors, &config, NULL), CLIPC_OK);
    bool *used = calloc(tensors.n_tensors, 1);
    assert_int_equal(clipc__parts_check(used, &tensors, &config, naming, NULL), CLIPC_OK);
    snprintf(path, sizeof path, "%s/%s", folder, tensors.file_name);
    size_t n_used = 0;
    for (size_t i = 0; i < tensors.n_tensors; i++) {
      const struct clipc__tensor *tensor = &tensors.tensors[i];
      bool counts = used[i] && strncmp(tensor->name, "logit_", 6) != 0;
      if (tensor->n_bytes == 0) continue;
      spoil(path, &tensors, tensor);
      assert_int_equal(clipc__space_of_folder(&changed, &config, folder, &options, NULL), CLIPC_OK);
      if ((memcmp(changed.weights, space.weights, sizeof space.weights) != 0) != counts)
        fail_msg("%s: %s", tensor->name, counts ? "does not count" : "counts");
      spoil(path, &tensors, tensor);
      n_used += counts;
    }
    assert_true(n_used > 20);
    free(used);
    clipc__tensors_close(&tensors);
    test_folder_delete(folder);
  }
}

/* Each of these, said to a folder or an opener, makes another space. */
static void test_rules_and_options(void **state) {
  static const clipc_options others[] = {{.reference = CLIPC_REFERENCE_OPENAI},
                                         {.reference = CLIPC_REFERENCE_HF_TV},
                                         {.alpha = CLIPC_ALPHA_DROP},
                                         {.apply_exif = 1}};
  static const struct {
    const char *from, *to;
  } changes[] = {{"\"hidden_act\": \"quick_gelu\"", "\"hidden_act\": \"gelu\""},
                 {"\"eos_token_id\": 1113", "\"eos_token_id\": 1112"},
                 {"\"num_attention_heads\": 2", "\"num_attention_heads\": 1"},
                 {"\"quick_gelu\"", "\"quick_gelu\", \"layer_norm_eps\": 1e-6"}};
  (void)state;
  char *folder = synthetic_folder("hf-words", NULL), path[600], expected[CLIPC_FINGERPRINT_BYTES];
  strcpy(expected, fingerprint_of(folder, NULL));
  char *packed = pack_folder(folder, NULL, "rules.clipc");
  for (size_t i = 0; i < COUNT(others); i++) {
    const char *other = fingerprint_of(folder, &others[i]);
    differ(other, expected);
    same(fingerprint_of(packed, &others[i]), other);
    for (size_t j = 0; j < i; j++) differ(other, fingerprint_of(folder, &others[j]));
  }
  clipc_options openai[] = {{.reference = CLIPC_REFERENCE_OPENAI},
                            {.reference = CLIPC_REFERENCE_OPENAI, .alpha = CLIPC_ALPHA_DROP}};
  same(fingerprint_of(folder, &openai[0]), fingerprint_of(folder, &openai[1])); /* which it never looks at */
  snprintf(path, sizeof path, "%s/preprocessor_config.json", folder);
  unlink(path);
  FILE *file = fopen(path, "w");
  fputs("{\"size\":32,\"crop_size\":32,\"image_mean\":[0.5,0.5,0.5]}", file);
  fclose(file);
  differ(fingerprint_of(folder, NULL), expected);
  unlink(path);
  size_t n_bytes;
  snprintf(path, sizeof path, "%s/merges.txt", folder);
  char before[CLIPC_FINGERPRINT_BYTES], *merges = test_read_file(path, &n_bytes);
  strcpy(before, fingerprint_of(folder, NULL));
  file = fopen(path, "w");
  assert_non_null(strstr(merges, "\n"));
  size_t n_last = n_bytes - 1;
  while (n_last > 0 && merges[n_last - 1] != '\n') n_last--;
  fwrite(merges, 1, n_last, file); /* without the last merge */
  fclose(file);
  differ(fingerprint_of(folder, NULL), before);
  free(merges);
  test_folder_delete(folder);
  for (size_t i = 0; i < COUNT(changes); i++) {
    struct synthetic_change change = {.config_from = changes[i].from, .config_to = changes[i].to};
    folder = synthetic_folder("hf-words", &change);
    differ(fingerprint_of(folder, NULL), expected);
    test_folder_delete(folder);
  }
}

/* ---- the call */

static void test_comparing(void **state) {
  static const char a[] = "00112233445566778899aabbccddeeff:f32", b[] = "00112233445566778899aabbccddeeff:int8";
  static const char c[] = "00112233445566778899aabbccddeef0:f32", short_one[] = "0011223344556677:f32";
  (void)state;
  assert_true(clipc_fingerprint_same(a, a) && clipc_fingerprint_same(a, b));
  assert_false(clipc_fingerprint_same(a, c) || clipc_fingerprint_same(a, short_one));
  assert_false(clipc_fingerprint_same(short_one, short_one) || clipc_fingerprint_same("", ""));
  assert_false(clipc_fingerprint_same(NULL, a) || clipc_fingerprint_same(a, NULL) ||
               clipc_fingerprint_same(NULL, NULL));
}

static void test_what_has_none(void **state) {
  char text[CLIPC_FINGERPRINT_BYTES] = "untouched";
  clipc_error error = {CLIPC_OK, ""};
  clipc_model *model;
  (void)state;
  assert_int_equal(clipc_model_fingerprint(NULL, text, &error), CLIPC_E_INVALID);
  assert_int_equal(clipc_model_synthetic(&model, "ViT-B-32", &(clipc_options){.towers = CLIPC_TOWER_TEXT}, &error),
                   CLIPC_OK);
  assert_int_equal(clipc_model_fingerprint(model, text, &error), CLIPC_E_UNSUPPORTED);
  assert_int_equal(clipc_model_fingerprint(model, NULL, &error), CLIPC_E_INVALID);
  clipc_model_close(model);
  char *folder = synthetic_folder("hf-words", NULL), path[600];
  model = golden_open_model(folder, NULL);
  snprintf(path, sizeof path, "%s/model.safetensors", folder);
  unlink(path);
  assert_int_equal(clipc_model_fingerprint(model, text, &error), CLIPC_E_IO);
  assert_int_equal(clipc_model_pack(model, pack_path("gone.clipc"), &error), CLIPC_E_IO);
  assert_string_equal(text, "untouched");
  clipc_model_close(model);
  test_folder_delete(folder);
}

/* What is broken beside the tower that is open does not count. */
static void test_half_a_folder(void **state) {
  (void)state;
  char *folder = synthetic_folder("hf-words", &(struct synthetic_change){.drop = "text_model.final_layer_norm.bias"});
  clipc_options image = {.towers = CLIPC_TOWER_IMAGE};
  char expected[CLIPC_FINGERPRINT_BYTES];
  strcpy(expected, fingerprint_of(folder, &image));
  same(fingerprint_of(pack_folder(folder, &image, "half.clipc"), NULL), expected);
  test_folder_delete(folder);
  folder = synthetic_folder("hf-words", NULL);
  differ(fingerprint_of(folder, &image), expected);
  test_folder_delete(folder);
}

static void test_failing_memory(void **state) {
  static const char *const models[] = {"hf-words", "oc-words"};
  (void)state;
  for (size_t m = 0; m < COUNT(models); m++) {
    char *folder = synthetic_folder(models[m], NULL);
    clipc_status status = CLIPC_E_NO_MEMORY;
    for (size_t n = 1; status != CLIPC_OK; n++) {
      struct test_memory memory = {.n_asked = 0};
      clipc_options options = {.n_threads = 1, .allocator = test_allocator(&memory)};
      clipc_model *model = golden_open_model(folder, &options);
      clipc_error error = {CLIPC_OK, ""};
      char text[CLIPC_FINGERPRINT_BYTES];
      size_t n_live = memory.n_live;
      memory.fail_at = memory.n_asked + n;
      status = clipc_model_fingerprint(model, text, &error);
      if (status != CLIPC_OK && status != CLIPC_E_NO_MEMORY) fail_msg("%s", error.message);
      assert_int_equal(memory.n_live, n_live);
      clipc_model_close(model);
      assert_int_equal(memory.n_live, 0);
      assert_true(n < 2000);
    }
    test_folder_delete(folder);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_sha256),
      cmocka_unit_test(test_whatever_holds_it),
      cmocka_unit_test(test_spelling),
      cmocka_unit_test(test_every_weight),
      cmocka_unit_test(test_rules_and_options),
      cmocka_unit_test(test_comparing),
      cmocka_unit_test(test_what_has_none),
      cmocka_unit_test(test_half_a_folder),
      cmocka_unit_test(test_failing_memory),
  };
  return cmocka_run_group_tests_name("space", tests, test_folder_make, test_folder_remove);
}
