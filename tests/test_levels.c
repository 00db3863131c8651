/* Pictures enter the image tower as levels; what makes pixels of them is folded into its first layer. Whatever the
 * steps of the configuration, and whoever's steps a packed file was folded for: pixels are what they say, and a picture
 * gives the vector of its pixels. */
#include "golden.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Most that the number of a unit vector may move when the towers' inputs are others for the same pixels. */
static const double bounds[] = {3e-6, 2e-3, 1e-2};

/* Of preprocessor_config.json. */
static const char *const steps[] = {
    "\"do_normalize\":true",
    "\"do_normalize\":false",
    "\"do_rescale\":false",
    "\"do_normalize\":false,\"do_rescale\":false",
    "\"rescale_factor\":0.007843137254901961",
    "\"do_normalize\":false,\"rescale_factor\":1e-10",
    "\"image_mean\":[0.9,0.0,-0.3],\"image_std\":[2.5,0.01,1.0]",
};

enum { WIDTH = 61, HEIGHT = 47, N_PICTURES = 3 };

/* Of high contrast, of low contrast, and of one colour. */
static void make_pictures(uint8_t rgb[N_PICTURES][HEIGHT * WIDTH * 3]) {
  synthetic_rgb(rgb[0], WIDTH, HEIGHT);
  for (size_t i = 0; i < sizeof rgb[0]; i++) {
    rgb[1][i] = (uint8_t)(90 + rgb[0][i] % 9);
    rgb[2][i] = (uint8_t)(i % 3 == 0 ? 201 : 17);
  }
}

static void put_text(const char *folder, const char *name, const char *text) {
  char path[512];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *file = fopen(path, "w");
  assert_non_null(file);
  fputs(text, file);
  assert_int_equal(fclose(file), 0);
}

struct vectors {
  float *of_pictures, *of_pixels, *of_others; /* [N_PICTURES, dimension]; others: pixels that are no levels */
  size_t n;
};

static float *embed_images(clipc_session *session, const clipc_image *images, size_t n_floats) {
  clipc_error error = {CLIPC_OK, ""};
  float *vectors = calloc(n_floats, sizeof *vectors);
  assert_non_null(vectors);
  if (clipc_embed_images(session, images, N_PICTURES, vectors, NULL, &error) != CLIPC_OK) fail_msg("%s", error.message);
  return vectors;
}

static struct vectors embed_each_way(const char *path, const clipc_options *options) {
  static uint8_t rgb[N_PICTURES][HEIGHT * WIDTH * 3];
  clipc_model *model = golden_open_model(path, options);
  clipc_session *session = golden_open_session(model, 2, 0);
  size_t height = (size_t)clipc_image_height(model), width = (size_t)clipc_image_width(model);
  struct vectors vectors = {.n = N_PICTURES * clipc_embedding_dimension(model)};
  clipc_image pictures[N_PICTURES], pixels[N_PICTURES], others[N_PICTURES];
  float *memory = calloc(2 * N_PICTURES, 3 * height * width * sizeof *memory), *at = memory;
  assert_non_null(memory);
  make_pictures(rgb);
  for (int i = 0; i < N_PICTURES; i++) {
    pictures[i] = clipc_image_rgb(rgb[i], HEIGHT, WIDTH, 3 * WIDTH);
    pixels[i] = clipc_image_pixels(at);
    assert_int_equal(clipc_preprocess(model, &pictures[i], at, NULL), CLIPC_OK);
    at += 3 * height * width;
    others[i] = clipc_image_pixels(at);
    synthetic_pixels(at, i, (int)height, (int)width);
    at += 3 * height * width;
  }
  vectors.of_pictures = embed_images(session, pictures, vectors.n);
  vectors.of_pixels = embed_images(session, pixels, vectors.n);
  vectors.of_others = embed_images(session, others, vectors.n);
  free(memory);
  clipc_session_close(session);
  clipc_model_close(model);
  return vectors;
}

static void vectors_free(struct vectors *vectors) {
  free(vectors->of_pictures);
  free(vectors->of_pixels);
  free(vectors->of_others);
}

static void assert_same(const float *a, const float *b, size_t n, double bound, const char *what) {
  double most = 0;
  for (size_t i = 0; i < n; i++) most = fmax(most, fabs((double)a[i] - (double)b[i]));
  if (!(most <= bound)) fail_msg("%s: %.3g apart", what, most);
}

static void test_whatever_the_steps(void **state) {
  static const clipc_reference references[] = {CLIPC_REFERENCE_HF, CLIPC_REFERENCE_HF_TV};
  (void)state;
  for (int precision = CLIPC_PRECISION_F32; precision <= CLIPC_PRECISION_INT8; precision++) {
    struct vectors usual = {.n = 0};
    for (size_t i = 0; i < COUNT(steps) * COUNT(references); i++) {
      char config[256], *folder = synthetic_folder("hf-quick", &(struct synthetic_change){.dtype = "F32"});
      const char *step = steps[i / COUNT(references)];
      snprintf(config, sizeof config, "{\"size\":50,\"crop_size\":50,%s}", step);
      put_text(folder, "preprocessor_config.json", config);
      clipc_options options = {.precision = (clipc_precision)precision, .reference = references[i % COUNT(references)]};
      struct vectors vectors = embed_each_way(folder, &options);
      test_folder_delete(folder);
      if (precision == CLIPC_PRECISION_INT8) /* pixels of whole levels are known for what they are */
        assert_memory_equal(vectors.of_pictures, vectors.of_pixels, vectors.n * sizeof(float));
      else
        assert_same(vectors.of_pictures, vectors.of_pixels, vectors.n, 3e-6, step);
      if (i == 0) {
        usual = vectors;
        continue;
      }
      assert_same(vectors.of_others, usual.of_others, vectors.n, bounds[precision], step);
      vectors_free(&vectors);
    }
    vectors_free(&usual);
  }
}

/* A folder whose references normalise differently: the weights in the file are folded for one of them. */
static void test_packed_for_other_steps(void **state) {
  (void)state;
  char *folder = synthetic_folder("hf-quick", &(struct synthetic_change){.dtype = "F32"}), packed[512];
  snprintf(packed, sizeof packed, "%s/packed.clipc", folder);
  put_text(folder, "open_clip_config.json",
           "{\"model_cfg\":{},\"preprocess_cfg\":{\"mean\":[0.3,0.5,0.7],\"std\":[0.5,0.25,0.2]}}");
  for (int precision = CLIPC_PRECISION_F32; precision <= CLIPC_PRECISION_INT8; precision++)
    for (int i = 0; i < 4; i++) {
      static const clipc_reference references[] = {CLIPC_REFERENCE_HF, CLIPC_REFERENCE_OPENAI};
      clipc_options options = {.precision = (clipc_precision)precision, .reference = references[i / 2]};
      clipc_model *model = golden_open_model(folder, &options);
      float mean = clipc_model_preprocessing(model)->mean[0];
      assert_true((mean == 0.3f) == (i / 2 == 1)); /* or nothing is tested */
      assert_int_equal(clipc_model_pack(model, packed, NULL), CLIPC_OK);
      clipc_model_close(model);
      options.reference = references[i % 2];
      struct vectors wanted = embed_each_way(folder, &options), got = embed_each_way(packed, &options);
      double bound = i / 2 == i % 2 ? 0 : bounds[precision];
      assert_same(got.of_pictures, wanted.of_pictures, got.n, bound, "pictures");
      assert_same(got.of_pixels, wanted.of_pixels, got.n, bound, "pixels");
      assert_same(got.of_others, wanted.of_others, got.n, bound, "other pixels");
      vectors_free(&wanted);
      vectors_free(&got);
    }
  test_folder_delete(folder);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_whatever_the_steps),
      cmocka_unit_test(test_packed_for_other_steps),
  };
  return cmocka_run_group_tests_name("levels", tests, NULL, NULL);
}
