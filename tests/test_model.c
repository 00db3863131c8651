/* Whole models against transformers and open_clip: folders of synthetic weights (synthetic.h), embedded through the
 * public header and compared with the goldens, at most 1e-5 apart once normalised. Then what must
 * change a result (every field of a configuration) and what must fail (every tensor that is missing or misshapen).
 * CLIPC_SKIP_FULL=1 leaves the full size out, as sanitizer builds do. */
#include "golden.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static double widest; /* the largest difference of all goldens */

/* ---- the goldens */

static void check_facts(const struct golden *golden, const char *folder) {
  clipc_model *model = golden_open_model(folder, NULL);
  size_t n;
  assert_int_equal(clipc_image_height(model), golden->height);
  assert_int_equal(clipc_image_width(model), golden->width);
  assert_int_equal(clipc_supported_dimensions(model, &n)[0], golden->dimension);
  assert_int_equal(n, 1);
  assert_true(fabsf(clipc_logit_scale(model) - golden->logit_scale) <= 2e-6f * golden->logit_scale);
  assert_true(clipc_logit_bias(model) == golden->logit_bias);
  assert_int_equal(!!(clipc_towers(model) & CLIPC_TOWER_IMAGE), golden->height > 0);
  assert_true((clipc_model_preprocessing(model) != NULL) == (golden->height > 0));
  clipc_model_close(model);
}

static void check_golden(const char *name) {
  static const clipc_reference references[] = {CLIPC_REFERENCE_OPENAI, CLIPC_REFERENCE_HF, CLIPC_REFERENCE_HF_TV};
  struct golden golden = golden_load(name);
  char *folder = synthetic_folder(name, NULL);
  size_t n = 0;
  check_facts(&golden, folder);
  double most = golden_compare(&golden, folder, NULL, 3, &n);
  for (size_t r = 0; r < COUNT(references); r++) {
    struct golden pictures = golden; /* the pictures among the cases, in this reference's way */
    struct golden_case cases[GOLDEN_MOST_CASES];
    pictures.cases = cases;
    pictures.n_cases = 0;
    for (size_t i = 0; i < golden.n_cases; i++)
      if (golden.cases[i].reference == references[r]) cases[pictures.n_cases++] = golden.cases[i];
    if (pictures.n_cases == 0) continue;
    double d = golden_compare(&pictures, folder, &(clipc_options){.reference = references[r]}, 0, &n);
    if (!(d <= most)) most = d;
  }
  printf("%-22s %2zu embeddings, largest difference %.1e\n", name, n, most);
  assert_true(n >= golden.n_cases);
  assert_true(most <= GOLDEN_TOLERANCE);
  if (most > widest) widest = most;
  test_folder_delete(folder);
  golden_free(&golden);
}

static void test_golden(void **state) { check_golden(*state); }

static void test_full_size(void **state) {
  (void)state;
  if (!test_full_sizes()) {
    print_message("note: ViT-B/32 at full size is left out\n");
    skip();
  }
  check_golden("hf-vit-b-32");
}

/* ---- what must change it */

/* Every field that decides what the network computes, changed in the configuration alone: were it not read,
 * the goldens of that model would still be met. */
static const struct {
  const char *model, *from, *to;
} fields[] = {
    {"hf-quick", "\"hidden_act\": \"quick_gelu\"", "\"hidden_act\": \"gelu\""},
    {"hf-erf", "\"hidden_act\": \"gelu\"", "\"hidden_act\": \"quick_gelu\""},
    {"hf-erf", "\"hidden_act\": \"gelu\"", "\"hidden_act\": \"gelu_new\""},
    {"hf-tanh", "gelu_pytorch_tanh", "gelu"},
    {"hf-tanh", "gelu_new", "gelu"},
    {"hf-quick", "\"num_attention_heads\": 3", "\"num_attention_heads\": 1"},
    {"hf-quick", "\"num_attention_heads\": 4", "\"num_attention_heads\": 1"},
    {"hf-erf", "\"layer_norm_eps\": 0.001", "\"layer_norm_eps\": 0.00001"},
    {"hf-erf", "\"layer_norm_eps\": 0.01", "\"layer_norm_eps\": 0.00001"},
    {"hf-quick", "\"eos_token_id\": 2", "\"eos_token_id\": 7"},
    {"hf-erf", "\"eos_token_id\": 119", "\"eos_token_id\": 2"},
    {"hf-tanh", "\"eos_token_id\": 7", "\"eos_token_id\": 119"},
    {"oc-quick", "\"quick_gelu\": true", "\"quick_gelu\": false"},
    {"oc-quick", "\"head_width\": 32", "\"head_width\": 48"},
    {"oc-quick", "\"heads\": 4", "\"heads\": 8"},
    {"oc-erf", "\"patch_size\": 16", "\"patch_size\": 16, \"head_width\": 32"},
    {"oc-erf", "\"vocab_size\": 120", "\"vocab_size\": 120, \"heads\": 4"},
    {"oc-clipa", "\"pool_type\": \"avg\"", "\"pool_type\": \"tok\""},
    {"oc-clipa", "\"final_ln_after_pool\": true", "\"final_ln_after_pool\": false"},
    {"oc-clipa", "\"no_causal_mask\": true", "\"no_causal_mask\": false"},
    {"oc-clipa", "\"pool_type\": \"last\"", "\"pool_type\": \"argmax\""},
    {"oc-mean", "\"pool_type\": \"avg\"", "\"pool_type\": \"avg\", \"final_ln_after_pool\": true"},
    {"oc-mean", "\"no_causal_mask\": true", "\"no_causal_mask\": false"},
    {"oc-mean", "\"pool_type\": \"avg\"", "\"pool_type\": \"avg\", \"no_ln_pre\": true"},
    {"oc-eos", "\"eos_id\": 7", "\"eos_id\": 2"},
    {"oc-eos", "\"pool_type\": \"eos\"", "\"pool_type\": \"argmax\""},
    {"oc-eos", "\"approximate\": \"tanh\"", "\"approximate\": \"none\""},
    {"oc-eos", "\"eps\": 0.001", "\"eps\": 0.00001"},
    {"oc-first", "\"pool_type\": \"first\"", "\"pool_type\": \"argmax\""},
    {"oc-old-names", "\"pool_type\": \"last\"", "\"pool_type\": \"argmax\""},
};

static void test_every_field_is_read(void **state) {
  (void)state;
  double least = 1;
  for (size_t i = 0; i < COUNT(fields); i++) {
    struct golden golden = golden_load(fields[i].model);
    struct synthetic_change change = {.config_from = fields[i].from, .config_to = fields[i].to};
    char *folder = synthetic_folder(fields[i].model, &change);
    double d = golden_compare(&golden, folder, NULL, 0, NULL);
    if (d < 3 * GOLDEN_TOLERANCE)
      fail_msg("%s: %s -> %s changes only %.1e", fields[i].model, fields[i].from, fields[i].to, d);
    if (d < least) least = d;
    test_folder_delete(folder);
    golden_free(&golden);
  }
  printf("%zu fields, the least of their effects %.1e\n", COUNT(fields), least);
}

/* ---- what must fail */

static void expect_refusal(const char *model, const struct synthetic_change *change, const char *tensor) {
  char *folder = synthetic_folder(model, change);
  clipc_model *out = (clipc_model *)(void *)folder; /* not NULL */
  clipc_error error = {CLIPC_OK, ""};
  clipc_status status = clipc_model_open(&out, folder, NULL, &error);
  /* Where the missing tensor tells one spelling from another, the sentence may have it without "text.". */
  const char *named = change->drop && !strncmp(tensor, "text.", 5) ? tensor + 5 : tensor;
  if (status != CLIPC_E_MODEL || !strstr(error.message, named))
    fail_msg("%s, %s: %s, \"%s\"", model, tensor, clipc_status_name(status), error.message);
  assert_null(out);
  assert_int_equal(error.status, status);
  test_folder_delete(folder);
}

/* Pads become rows of the token embedding where they are attended or pooled. */
static void test_pads_beyond_the_vocabulary(void **state) {
  (void)state;
  expect_refusal(
      "oc-mean",
      &(struct synthetic_change){.config_from = "\"vocab_size\": 120",
                                 .config_to = "\"vocab_size\": 120, \"pad_id\": 120, \"hf_tokenizer_name\": \"x\""},
      "pad_id");
}

/* Each tensor of a model in turn is left out and misshapen; each is named. */
static void test_missing_and_misshapen_tensors(void **state) {
  static const char *const models[] = {"hf-override", "oc-eos", "oc-old-names", "hf-text", "hf-vision-projection"};
  (void)state;
  size_t n = 0;
  for (size_t m = 0; m < COUNT(models); m++) {
    char path[128], line[256], dtype[8], shape[64], name[128];
    snprintf(path, sizeof path, "tests/goldens/models/%s/tensors.txt", models[m]);
    FILE *list = fopen(path, "r");
    assert_non_null(list);
    while (fgets(line, sizeof line, list)) {
      if (sscanf(line, "%7s %63s %127s", dtype, shape, name) != 3 || strstr(name, "logit_bias")) continue;
      expect_refusal(models[m], &(struct synthetic_change){.drop = name}, name);
      if (strcmp(shape, "-")) expect_refusal(models[m], &(struct synthetic_change){.widen = name}, name);
      n++;
    }
    fclose(list);
  }
  printf("%zu tensors left out and misshapen\n", n);
}

static void test_towers_on_their_own(void **state) {
  (void)state;
  struct golden golden = golden_load("hf-quick");
  /* The other tower is neither validated nor loaded. */
  char *folder = synthetic_folder("hf-quick", &(struct synthetic_change){.drop = "text_model.final_layer_norm.bias"});
  float *vector = calloc(golden.dimension, sizeof *vector);
  clipc_error error = {CLIPC_OK, ""};
  clipc_model *model;
  assert_int_equal(clipc_model_open(&model, folder, NULL, &error), CLIPC_E_MODEL);
  assert_int_equal(clipc_model_open(&model, folder, &(clipc_options){.towers = CLIPC_TOWER_TEXT}, &error),
                   CLIPC_E_MODEL);
  size_t n = 0;
  assert_true(golden_compare(&golden, folder, &(clipc_options){.towers = CLIPC_TOWER_IMAGE}, 0, &n) <=
              GOLDEN_TOLERANCE);
  assert_true(n > 0);
  model = golden_open_model(folder, &(clipc_options){.towers = CLIPC_TOWER_IMAGE});
  assert_int_equal(clipc_towers(model), CLIPC_TOWER_IMAGE);
  assert_int_equal(clipc_context_length(model), 0);
  clipc_session *session = golden_open_session(model, 0, 0);
  assert_int_equal(clipc_embed_ids(session, (const int32_t[]){118, 119}, 2, vector, &error), CLIPC_E_MODEL);
  clipc_session_close(session);
  clipc_model_close(model);
  test_folder_delete(folder);
  folder = synthetic_folder("hf-quick", &(struct synthetic_change){.drop = "vision_model.embeddings.class_embedding"});
  n = 0;
  assert_true(golden_compare(&golden, folder, &(clipc_options){.towers = CLIPC_TOWER_TEXT}, 0, &n) <= GOLDEN_TOLERANCE);
  assert_true(n > 0);
  model = golden_open_model(folder, &(clipc_options){.towers = CLIPC_TOWER_TEXT});
  assert_int_equal(clipc_towers(model), CLIPC_TOWER_TEXT);
  assert_int_equal(clipc_image_height(model), 0);
  assert_null(clipc_model_preprocessing(model));
  session = golden_open_session(model, 0, 0);
  assert_int_equal(clipc_embed_image_pixels(session, vector, vector, &error), CLIPC_E_MODEL);
  clipc_session_close(session);
  clipc_model_close(model);
  test_folder_delete(folder);
  free(vector);
  golden_free(&golden);
}

static int print_widest(void **state) {
  (void)state;
  printf("note: largest difference of an embedding to its reference: %.1e\n", widest);
  return 0;
}

#define GOLDEN(test, model)                                                                                            \
  { "golden_" #test, test_golden, NULL, NULL, (void *)(uintptr_t)model }

int main(void) {
  const struct CMUnitTest tests[] = {
      GOLDEN(hf_quick, "hf-quick"),
      GOLDEN(hf_erf, "hf-erf"),
      GOLDEN(hf_tanh, "hf-tanh"),
      GOLDEN(hf_override, "hf-override"),
      GOLDEN(hf_sharded, "hf-sharded"),
      GOLDEN(hf_defaults, "hf-defaults"),
      GOLDEN(hf_text, "hf-text"),
      GOLDEN(hf_text_prefix, "hf-text-prefix"),
      GOLDEN(hf_text_projection, "hf-text-projection"),
      GOLDEN(hf_vision, "hf-vision"),
      GOLDEN(hf_vision_prefix, "hf-vision-prefix"),
      GOLDEN(hf_vision_projection, "hf-vision-projection"),
      GOLDEN(oc_quick, "oc-quick"),
      GOLDEN(oc_erf, "oc-erf"),
      GOLDEN(oc_clipa, "oc-clipa"),
      GOLDEN(oc_mean, "oc-mean"),
      GOLDEN(oc_eos, "oc-eos"),
      GOLDEN(oc_first, "oc-first"),
      GOLDEN(oc_old_names, "oc-old-names"),
      GOLDEN(oc_unprojected, "oc-unprojected"),
      GOLDEN(hf_words, "hf-words"),
      GOLDEN(oc_words, "oc-words"),
      cmocka_unit_test(test_full_size),
      cmocka_unit_test(test_every_field_is_read),
      cmocka_unit_test(test_missing_and_misshapen_tensors),
      cmocka_unit_test(test_pads_beyond_the_vocabulary),
      cmocka_unit_test(test_towers_on_their_own),
  };
  return cmocka_run_group_tests(tests, NULL, print_widest);
}
