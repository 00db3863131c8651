/* What is for measuring: models of random weights, and the counts and rates that benchmarks divide by. The counts of
 * ViT-B/32 are worked out by hand here, from the paper's shapes. */
#include "model/model.h"
#include "testing.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

static clipc_model *open_shape(const char *shape, clipc_options options) {
  clipc_error error = {CLIPC_OK, ""};
  clipc_model *model = NULL;
  if (clipc_model_synthetic(&model, shape, &options, &error) != CLIPC_OK) fail_msg("%s: %s", shape, error.message);
  return model;
}

static float *embed(clipc_model *model, bool text) {
  static const int32_t ids[] = {49406, 320, 1125, 539, 320, 2368, 49407};
  clipc_session *session = NULL;
  float *vector = test_malloc(clipc_embedding_dimension(model) * sizeof *vector);
  assert_int_equal(clipc_session_open(&session, model, &(clipc_session_options){.max_batch = 1}, NULL), CLIPC_OK);
  if (text) {
    assert_int_equal(clipc_embed_ids(session, ids, COUNT(ids), vector, NULL), CLIPC_OK);
  } else {
    size_t n = 3 * (size_t)clipc_image_height(model) * (size_t)clipc_image_width(model);
    float *pixels = test_malloc(n * sizeof *pixels);
    for (size_t i = 0; i < n; i++) pixels[i] = (float)((i * 2654435761u >> 7) % 4001) / 1000.0f - 2.0f;
    assert_int_equal(clipc_embed_image_pixels(session, pixels, vector, NULL), CLIPC_OK);
    test_free(pixels);
  }
  clipc_session_close(session);
  return vector;
}

/* ---- synthetic models */

static void test_arguments(void **state) {
  (void)state;
  clipc_error error = {CLIPC_OK, ""};
  clipc_model *model = (clipc_model *)(void *)&error; /* not NULL */
  assert_int_equal(clipc_model_synthetic(NULL, "ViT-B-32", NULL, &error), CLIPC_E_INVALID);
  assert_int_equal(clipc_model_synthetic(&model, NULL, NULL, &error), CLIPC_E_INVALID);
  assert_null(model);
  assert_int_equal(clipc_model_synthetic(&model, "ViT-B-33", NULL, &error), CLIPC_E_INVALID);
  assert_string_equal(error.message, "there is no shape \"ViT-B-33\"; there are ViT-B-32, ViT-B-16, ViT-L-14, "
                                     "ViT-L-14-336, ViT-H-14, ViT-g-14, ViT-bigG-14");
  assert_int_equal(clipc_model_synthetic(&model, "ViT-B-32", &(clipc_options){.precision = 7}, &error),
                   CLIPC_E_INVALID);
  assert_non_null(strstr(error.message, "precision"));
}

/* Numbers of parameters as published for the two towers, in millions. */
static void test_shapes(void **state) {
  (void)state;
  static const struct {
    const char *name;
    int dimension, image, n_tokens;
    double vision, text;
  } shapes[] = {
      {"ViT-B-32", 512, 224, 50, 87.85, 63.43},         {"ViT-B-16", 512, 224, 197, 86.19, 63.43},
      {"ViT-L-14", 768, 224, 257, 303.97, 123.65},      {"ViT-L-14-336", 768, 336, 577, 304.29, 123.65},
      {"ViT-H-14", 1024, 224, 257, 632.08, 354.03},     {"ViT-g-14", 1024, 224, 257, 1012.65, 354.03},
      {"ViT-bigG-14", 1280, 224, 257, 1844.91, 694.66},
  };
  for (size_t i = 0; i < COUNT(shapes); i++) {
    struct clipc__config config;
    assert_int_equal(clipc__synthetic_config(&config, shapes[i].name, &(clipc_options){.n_threads = 1}, NULL),
                     CLIPC_OK);
    const struct clipc__transformer_config *v = &config.vision.transformer, *t = &config.text.transformer;
    double width = v->width, mlp = v->mlp_width, patch = config.vision.patch, dimension = config.embedding_dimension;
    double n_tokens = 1 + (config.vision.image_height / patch) * (config.vision.image_width / patch);
    double block = 4 * width * (width + 1) + 2 * width * mlp + mlp + width + 4 * width;
    double vision =
        3 * patch * patch * width + width + n_tokens * width + 4 * width + v->n_layers * block + width * dimension;
    width = t->width, mlp = t->mlp_width;
    block = 4 * width * (width + 1) + 2 * width * mlp + mlp + width + 4 * width;
    double text = 49408 * width + 77 * width + t->n_layers * block + 2 * width + width * dimension;
    assert_int_equal(config.embedding_dimension, shapes[i].dimension);
    assert_int_equal(config.vision.image_height, shapes[i].image);
    assert_int_equal((int)n_tokens, shapes[i].n_tokens);
    assert_true(fabs(vision / 1e6 - shapes[i].vision) < 0.0051);
    assert_true(fabs(text / 1e6 - shapes[i].text) < 0.0051);
    assert_int_equal(v->width % v->n_heads, 0);
    assert_int_equal(t->width / t->n_heads, 64);
    assert_int_equal(config.preprocessing.crop_height, shapes[i].image);
  }
}

static void check_vector(const float *vector, size_t n) {
  double square = 0;
  for (size_t i = 0; i < n; i++) square += (double)vector[i] * (double)vector[i];
  assert_true(fabs(square - 1) < 1e-5); /* finite too */
}

/* Every precision gives a vector of the right length, close to that of f32, and the same in every run. */
static void test_vectors(void **state) {
  (void)state;
  for (int text = 0; text < 2; text++) {
    if (SANITIZED && !text) continue; /* minutes */
    float *first = NULL;
    for (int precision = CLIPC_PRECISION_F32; precision <= CLIPC_PRECISION_INT8; precision++) {
      clipc_options options = {.precision = (clipc_precision)precision,
                               .towers = text ? CLIPC_TOWER_TEXT : CLIPC_TOWER_IMAGE};
      clipc_model *model = open_shape("ViT-B-32", options);
      assert_int_equal(clipc_embedding_dimension(model), 512);
      assert_int_equal(clipc_towers(model), options.towers);
      assert_int_equal(clipc_model_precision(model), precision);
      assert_true(strlen(clipc_model_kernels(model)) > 0);
      float *vector = embed(model, text);
      check_vector(vector, 512);
      if (first == NULL) {
        first = vector;
        options.n_threads = 1;
        clipc_model *again = open_shape("ViT-B-32", options);
        float *same = embed(again, text);
        assert_memory_equal(same, first, 512 * sizeof *first);
        test_free(same);
        clipc_model_close(again);
      } else {
        float cosine = clipc_cosine(vector, first, 512);
        if (cosine < 0.99f) fail_msg("%s: cosine %g", text ? "text" : "image", (double)cosine);
        test_free(vector);
      }
      clipc_model_close(model);
    }
    test_free(first);
  }
}

static void test_no_tokeniser(void **state) {
  (void)state;
  if (SANITIZED) return;
  clipc_model *model = open_shape("ViT-B-32", (clipc_options){.towers = CLIPC_TOWER_TEXT});
  int32_t ids[77];
  size_t n_ids;
  clipc_error error = {CLIPC_OK, ""};
  assert_int_equal(clipc_tokenize(model, "a", 1, ids, &n_ids, &error), CLIPC_E_MODEL);
  assert_string_equal(error.message, "a synthetic model has no tokeniser");
  assert_int_equal(clipc_vocabulary_size(model), 49408);
  assert_int_equal(clipc_context_length(model), 77);
  clipc_model_close(model);
}

/* The numbers are pinned: they must be the same on every machine and in every version, or times cannot be compared. */
static void test_numbers(void **state) {
  (void)state;
  clipc_model model = {.n_threads = 2};
  assert_int_equal(clipc__synthetic_config(&model.config, "ViT-B-32", &(clipc_options){.n_threads = 1}, NULL),
                   CLIPC_OK);
  struct clipc__arena arena = {.blocks = NULL};
  struct clipc__synthetic synthetic = {.model = &model};
  uint64_t shape[] = {768, 768};
  const float *q[2];
  for (int layer = 0; layer < 2; layer++)
    q[layer] = clipc__synthetic_tensor(&synthetic, CLIPC_TOWER_IMAGE, CLIPC__Q_WEIGHT, layer, 2, shape, &arena);
  assert_int_equal(test_crc32(0, q[0], 4096 * sizeof(float)), UINT32_C(0xfd93d72d));
  assert_memory_not_equal(q[0], q[1], 4096 * sizeof(float));
  static const struct {
    enum clipc__part part;
    double variance; /* of OpenAI's initialisation, 12 layers of width 768 */
  } parts[] = {{CLIPC__Q_WEIGHT, 1.0 / 768},
               {CLIPC__OUT_WEIGHT, 1.0 / 768 / 24},
               {CLIPC__FC1_WEIGHT, 0.5 / 768},
               {CLIPC__FC2_WEIGHT, 1.0 / 768 / 24},
               {CLIPC__PROJECTION_WEIGHT, 1.0 / 768}};
  for (size_t p = 0; p < COUNT(parts); p++) {
    const float *w = clipc__synthetic_tensor(&synthetic, CLIPC_TOWER_IMAGE, parts[p].part, 0, 2, shape, &arena);
    double sum = 0, square = 0, n = 768 * 768;
    for (size_t i = 0; i < 768 * 768; i++) sum += (double)w[i], square += (double)w[i] * (double)w[i];
    assert_true(fabs(sum / n) < 2e-4);
    assert_true(fabs(square / n / parts[p].variance - 1) < 1e-2);
  }
  const float *text = clipc__synthetic_tensor(&synthetic, CLIPC_TOWER_TEXT, CLIPC__Q_WEIGHT, 0, 2, shape, &arena);
  assert_memory_not_equal(q[0], text, 4096 * sizeof(float));
  const float *norm = clipc__synthetic_tensor(&synthetic, CLIPC_TOWER_TEXT, CLIPC__LN_1_WEIGHT, 0, 1, shape, &arena);
  for (size_t i = 0; i < 768; i++) assert_true(norm[i] > 0.6f && norm[i] < 1.4f);
  clipc__arena_free(&arena);
}

static void test_every_allocation_fails(void **state) {
  (void)state;
  for (size_t fail_at = 1;; fail_at++) {
    struct test_memory memory = {.fail_at = fail_at};
    clipc_options options = {.towers = CLIPC_TOWER_IMAGE, .allocator = test_allocator(&memory)};
    clipc_model *model = NULL;
    clipc_error error = {CLIPC_OK, ""};
    clipc_status status = clipc_model_synthetic(&model, "ViT-B-32", &options, &error);
    if (status == CLIPC_OK) {
      clipc_model_close(model);
      assert_int_equal(memory.n_live, 0);
      assert_true(fail_at > 10);
      return;
    }
    assert_int_equal(status, CLIPC_E_NO_MEMORY);
    assert_null(model);
    assert_int_equal(memory.n_live, 0);
  }
}

/* ---- counts and rates */

/* ViT-B/32. Image: 49 patches of 3072 numbers, 50 tokens of width 768, 12 blocks of which the last is computed for the
 * class token, but for keys and values; 8.82e9 with the whole of it. Text: width 512; attention sees what is before. */
static void test_operations(void **state) {
  (void)state;
  clipc_model model = {.n_threads = 1, .embedding_dimension = 512};
  assert_int_equal(clipc__synthetic_config(&model.config, "ViT-B-32", &(clipc_options){.n_threads = 1}, NULL),
                   CLIPC_OK);
  clipc__kernels_init(&model.kernels, 0, false);
  assert_int_equal(clipc__vision_shape(&model, NULL), CLIPC_OK);
  assert_int_equal(clipc__text_shape(&model, NULL), CLIPC_OK);
  double patches = 2.0 * 49 * 768 * 3072, projection = 2.0 * 768 * 512;
  double block = 50 * (8.0 * 768 * 768 + 4.0 * 768 * 3072) + 4.0 * 50 * 50 * 768;
  double last = 50 * 4.0 * 768 * 768 + 4.0 * 768 * 768 + 4.0 * 768 * 3072 + 4.0 * 50 * 768;
  assert_true(clipc_operations(&model, CLIPC_TOWER_IMAGE, 0) == patches + 11 * block + last + projection);
  assert_true(clipc_operations(&model, CLIPC_TOWER_IMAGE, 7) == 8232069120.0);
  assert_true(fabs((patches + 12 * block + projection) / 8.82e9 - 1) < 1e-3);
  assert_true(clipc_operations(&model, CLIPC_TOWER_TEXT, 77) == 5483180032.0);
  double row = 24.0 * 512 * 512; /* q, k, v, out, fc1 and fc2 of one token */
  assert_true(clipc_operations(&model, CLIPC_TOWER_TEXT, 1) == 12 * row + 12 * 4.0 * 512 + 2.0 * 512 * 512);
  double few = 11 * (8 * row + 4.0 * 512 * 36) + 8 * 4.0 * 512 * 512 + 20.0 * 512 * 512 + 4.0 * 8 * 512;
  assert_true(clipc_operations(&model, CLIPC_TOWER_TEXT, 8) == few + 2.0 * 512 * 512);
  assert_true(clipc_operations(&model, CLIPC_TOWER_TEXT, 78) == clipc_operations(&model, CLIPC_TOWER_TEXT, 77));
  model.text.config.pooling = CLIPC__POOL_FIRST; /* nothing behind the first token is computed */
  assert_true(clipc_operations(&model, CLIPC_TOWER_TEXT, 50) == clipc_operations(&model, CLIPC_TOWER_TEXT, 1));
  model.text.config.pooling = CLIPC__POOL_LAST; /* the pads before the last token are */
  assert_true(clipc_operations(&model, CLIPC_TOWER_TEXT, 8) == 5483180032.0);
  model.text.config.causal = false;
  assert_true(clipc_operations(&model, CLIPC_TOWER_TEXT, 8) == 5483180032.0 + 11 * 4.0 * 512 * (77 * 77 - 77 * 39));
  model.vision.config.pooling = CLIPC__POOL_MEAN;
  assert_true(clipc_operations(&model, CLIPC_TOWER_IMAGE, 0) == patches + 12 * block + projection);
  assert_true(clipc_operations(&model, CLIPC_TOWER_TEXT, 0) == 0);
  assert_true(clipc_operations(&model, 4, 8) == 0);
  model.config.text.present = false;
  assert_true(clipc_operations(&model, CLIPC_TOWER_TEXT, 8) == 0);
  assert_true(clipc_operations(NULL, CLIPC_TOWER_IMAGE, 0) == 0);
  clipc__arena_free(&model.arena);
}

static void test_peak(void **state) {
  (void)state;
  clipc_model model = {.n_threads = 1};
  for (int precision = CLIPC_PRECISION_F32; precision <= CLIPC_PRECISION_INT8; precision++) {
    model.options.precision = (clipc_precision)precision;
    clipc__kernels_init(&model.kernels, clipc__cpu_mask(), false);
    double peak = clipc_measure_peak(&model);
    print_message("note: one core's peak in precision %d: %.1f 10^9 operations per second\n", precision, peak / 1e9);
    assert_true(peak > 1e7 && peak < 1e14);
  }
  model.kernels.peak[CLIPC_PRECISION_INT8] = NULL;
  assert_true(clipc_measure_peak(&model) == 0);
  assert_true(clipc_measure_peak(NULL) == 0);
}

static void test_nothing(void **state) {
  (void)state;
  assert_string_equal(clipc_model_kernels(NULL), "");
  assert_int_equal(clipc_model_precision(NULL), CLIPC_PRECISION_F32);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_arguments),  cmocka_unit_test(test_shapes),
      cmocka_unit_test(test_vectors),    cmocka_unit_test(test_no_tokeniser),
      cmocka_unit_test(test_numbers),    cmocka_unit_test(test_every_allocation_fails),
      cmocka_unit_test(test_operations), cmocka_unit_test(test_peak),
      cmocka_unit_test(test_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
