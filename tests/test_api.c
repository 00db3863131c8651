/* The public functions with bad and odd arguments, on the bundled model: each gives its status and a sentence,
 * outputs stay untouched, nothing leaks. */
#include "clipc.h"
#include "testing.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MODEL "models/tiny"
#define PICTURE "models/tiny/pictures/red_circle.png"

struct fixture {
  clipc_model *model;
  clipc_session *session;
  size_t dimension;
};

static int open_fixture(void **state) {
  static struct fixture fixture;
  clipc_error error = {CLIPC_OK, ""};
  clipc_session_options options = {.max_batch = 3};
  if (clipc_model_open(&fixture.model, MODEL, NULL, &error) != CLIPC_OK ||
      clipc_session_open(&fixture.session, fixture.model, &options, &error) != CLIPC_OK) {
    printf("%s\n", error.message);
    return -1;
  }
  fixture.dimension = clipc_embedding_dimension(fixture.model);
  *state = &fixture;
  return 0;
}

static int close_fixture(void **state) {
  struct fixture *fixture = *state;
  clipc_session_close(fixture->session);
  clipc_model_close(fixture->model);
  clipc_shutdown();
  return 0;
}

/* The status, and that the sentence is there and says what it should. */
static void expect(clipc_status status, clipc_status expected, clipc_error *error, const char *says) {
  if (status != expected || error->status != expected || !strstr(error->message, says))
    fail_msg("%s (%s) where %s was expected to say \"%s\"", clipc_status_name(status), error->message,
             clipc_status_name(expected), says);
  *error = (clipc_error){CLIPC_OK, ""};
}

static void options_are_checked(void **state) {
  (void)state;
  clipc_error error = {CLIPC_OK, ""};
  clipc_model *model = (clipc_model *)&error;
  expect(clipc_model_open(NULL, MODEL, NULL, &error), CLIPC_E_INVALID, &error, "out");
  expect(clipc_model_open(&model, NULL, NULL, &error), CLIPC_E_INVALID, &error, "path");
  assert_null(model);
  expect(clipc_model_open(&model, "no/such/folder", NULL, &error), CLIPC_E_IO, &error, "no/such/folder");
  expect(clipc_model_open(&model, PICTURE, NULL, &error), CLIPC_E_IO, &error, PICTURE);
  expect(clipc_model_open(&model, "tests", NULL, &error), CLIPC_E_IO, &error, "config.json");
  static const struct {
    clipc_options options;
    clipc_status status;
    const char *says;
  } cases[] = {
      {{.gemm = (clipc_gemm)9}, CLIPC_E_INVALID, "gemm"},
      {{.gemm = CLIPC_GEMM_OPENBLAS, .precision = CLIPC_PRECISION_INT8}, CLIPC_E_UNSUPPORTED, "gemm"},
      {{.verify = (clipc_verify)9}, CLIPC_E_INVALID, "verify"},
      {{.precision = (clipc_precision)9}, CLIPC_E_INVALID, "precision"},
      {{.tier = (clipc_tier)9}, CLIPC_E_INVALID, "tier"},
      {{.reference = (clipc_reference)9}, CLIPC_E_INVALID, "reference"},
      {{.alpha = (clipc_alpha)9}, CLIPC_E_INVALID, "alpha"},
      {{.towers = 8}, CLIPC_E_INVALID, "towers"},
      {{.n_threads = -1}, CLIPC_E_INVALID, "n_threads"},
      {{.n_threads = 100000}, CLIPC_E_INVALID, "n_threads"},
      {{.limits = {.max_header_bytes = 10}}, CLIPC_E_LIMIT, "model.safetensors"},
      {{.limits = {.max_config_bytes = 10}}, CLIPC_E_LIMIT, "config.json"},
  };
  for (size_t i = 0; i < COUNT(cases); i++) {
    expect(clipc_model_open(&model, MODEL, &cases[i].options, &error), cases[i].status, &error, cases[i].says);
    assert_null(model);
    assert_int_equal(clipc_model_open(&model, MODEL, &cases[i].options, NULL), cases[i].status);
  }
  clipc_session *session = (clipc_session *)&error;
  expect(clipc_session_open(&session, NULL, NULL, &error), CLIPC_E_INVALID, &error, "model");
  assert_null(session);
  clipc_model_close(NULL);
  clipc_session_close(NULL);
  clipc_picture_free(NULL);
  assert_null(clipc_model_retain(NULL));
}

static void null_model_is_empty(void **state) {
  (void)state;
  size_t n = 7;
  assert_int_equal(clipc_embedding_dimension(NULL), 0);
  assert_null(clipc_supported_dimensions(NULL, &n));
  assert_int_equal(n, 0);
  assert_int_equal(clipc_towers(NULL), 0);
  assert_int_equal(clipc_image_height(NULL) + clipc_image_width(NULL), 0);
  assert_int_equal(clipc_context_length(NULL), 0);
  assert_null(clipc_model_preprocessing(NULL));
}

static void the_model_says_what_it_is(void **state) {
  struct fixture *f = *state;
  size_t n = 0;
  const size_t *dimensions = clipc_supported_dimensions(f->model, &n);
  assert_int_equal(n, 1);
  assert_int_equal(dimensions[0], f->dimension);
  assert_int_equal(clipc_towers(f->model), CLIPC_TOWER_IMAGE | CLIPC_TOWER_TEXT);
  assert_true(clipc_image_height(f->model) > 0 && clipc_image_height(f->model) == clipc_image_width(f->model));
  assert_int_equal(clipc_context_length(f->model), 32);
  assert_true(clipc_logit_scale(f->model) > 1.0f && clipc_logit_scale(f->model) < 200.0f);
  assert_true(clipc_logit_bias(f->model) == 0.0f);
  const clipc_preprocessing *p = clipc_model_preprocessing(f->model);
  assert_int_equal(p->reference, CLIPC_REFERENCE_HF);
  assert_int_equal(p->filter, CLIPC_FILTER_BICUBIC);
  assert_int_equal(p->crop_height, clipc_image_height(f->model));
}

static void pictures_that_cannot_be(void **state) {
  struct fixture *f = *state;
  clipc_error error = {CLIPC_OK, ""};
  float *vector = malloc(f->dimension * sizeof *vector);
  uint8_t rgb[12] = {0};
  vector[0] = 42.0f;
  expect(clipc_embed_image(f->session, NULL, vector, &error), CLIPC_E_INVALID, &error, "NULL");
  expect(clipc_embed_image(NULL, PICTURE, vector, &error), CLIPC_E_INVALID, &error, "session");
  expect(clipc_embed_image(f->session, PICTURE, NULL, &error), CLIPC_E_INVALID, &error, "embeddings");
  expect(clipc_embed_image(f->session, "no/picture.png", vector, &error), CLIPC_E_IO, &error, "no/picture.png");
  expect(clipc_embed_image(f->session, "tests", vector, &error), CLIPC_E_IO, &error, "folder");
  expect(clipc_embed_image(f->session, "models/tiny/config.json", vector, &error), CLIPC_E_FORMAT, &error,
         "config.json");
  expect(clipc_embed_image_bytes(f->session, "", 0, vector, &error), CLIPC_E_FORMAT, &error, "empty");
  expect(clipc_embed_image_bytes(f->session, NULL, 5, vector, &error), CLIPC_E_INVALID, &error, "NULL");
  expect(clipc_embed_image_bytes(f->session, "RIFF\x10\0\0\0WEBPVP8 ", 16, vector, &error), CLIPC_E_UNSUPPORTED, &error,
         "WebP");
  expect(clipc_embed_image_rgb(f->session, rgb, 0, 2, 6, vector, &error), CLIPC_E_INVALID, &error, "2 x 0");
  expect(clipc_embed_image_rgb(f->session, rgb, 2, -2, 6, vector, &error), CLIPC_E_INVALID, &error, "-2");
  expect(clipc_embed_image_rgb(f->session, rgb, 2, 2, 5, vector, &error), CLIPC_E_INVALID, &error, "stride");
  expect(clipc_embed_image_rgb(f->session, rgb, 1 << 30, 1 << 30, (size_t)3 << 30, vector, &error), CLIPC_E_LIMIT,
         &error, "limit");
  expect(clipc_embed_image_pixels(f->session, NULL, vector, &error), CLIPC_E_INVALID, &error, "NULL");
  clipc_image odd = {.kind = (clipc_image_kind)77, .data = rgb};
  expect(clipc_embed_images(f->session, &odd, 1, vector, NULL, &error), CLIPC_E_INVALID, &error, "kind");
  assert_true(vector[0] == 42.0f);
  static float nan_pixels[3 * 224 * 224];
  size_t n_pixels = 3 * (size_t)clipc_image_height(f->model) * (size_t)clipc_image_width(f->model);
  for (size_t i = 0; i < n_pixels && i < COUNT(nan_pixels); i++) nan_pixels[i] = NAN;
  expect(clipc_embed_image_pixels(f->session, nan_pixels, vector, &error), CLIPC_E_FORMAT, &error, "not finite");
  assert_true(vector[0] == 42.0f);
  free(vector);
}

static void limits_are_kept_before_decoding(void **state) {
  (void)state;
  clipc_error error = {CLIPC_OK, ""};
  clipc_picture picture;
  clipc_image image = clipc_image_path(PICTURE);
  clipc_options pixels = {.limits = {.max_image_pixels = 100}}, bytes = {.limits = {.max_image_bytes = 100}};
  expect(clipc_decode(&picture, &image, &pixels, &error), CLIPC_E_LIMIT, &error, "pixels");
  assert_null(picture.rgb);
  expect(clipc_decode(&picture, &image, &bytes, &error), CLIPC_E_LIMIT, &error, "100");
  expect(clipc_decode(NULL, &image, NULL, &error), CLIPC_E_INVALID, &error, "out");
  expect(clipc_decode(&picture, NULL, NULL, &error), CLIPC_E_INVALID, &error, "image");
  assert_int_equal(clipc_decode(&picture, &image, NULL, &error), CLIPC_OK);
  assert_non_null(picture.rgb);
  clipc_image rgb = clipc_image_rgb(picture.rgb, picture.height, picture.width, 3 * (size_t)picture.width);
  clipc_picture again;
  expect(clipc_decode(&again, &rgb, NULL, &error), CLIPC_E_INVALID, &error, "decoded");
  clipc_picture_free(&picture);
  assert_null(picture.rgb);
  clipc_picture_free(&picture);
}

static void texts_that_cannot_be(void **state) {
  struct fixture *f = *state;
  clipc_error error = {CLIPC_OK, ""};
  float *vector = malloc(f->dimension * sizeof *vector);
  int32_t ids[40] = {0};
  size_t n_ids = 5;
  vector[0] = 42.0f;
  expect(clipc_embed_text(f->session, NULL, vector, &error), CLIPC_E_INVALID, &error, "NULL");
  clipc_text nothing[3] = {clipc_text_string(NULL), clipc_text_ids(NULL, 3), clipc_text_utf8(NULL, 0)};
  for (int i = 0; i < 3; i++)
    expect(clipc_embed_texts(f->session, nothing + i, 1, vector, NULL, &error), CLIPC_E_INVALID, &error, "NULL");
  expect(clipc_embed_ids(f->session, NULL, 3, vector, &error), CLIPC_E_INVALID, &error, "ids");
  expect(clipc_embed_ids(f->session, ids, 0, vector, &error), CLIPC_E_INVALID, &error, "0 ids");
  expect(clipc_embed_ids(f->session, ids, 33, vector, &error), CLIPC_E_INVALID, &error, "33 ids");
  ids[2] = -1;
  expect(clipc_embed_ids(f->session, ids, 3, vector, &error), CLIPC_E_INVALID, &error, "-1");
  ids[2] = 1000000;
  expect(clipc_embed_ids(f->session, ids, 3, vector, &error), CLIPC_E_INVALID, &error, "1000000");
  expect(clipc_tokenize(NULL, "a", 1, ids, &n_ids, &error), CLIPC_E_INVALID, &error, "model");
  expect(clipc_tokenize(f->model, NULL, 1, ids, &n_ids, &error), CLIPC_E_INVALID, &error, "utf8");
  expect(clipc_tokenize(f->model, "a", 1, NULL, &n_ids, &error), CLIPC_E_INVALID, &error, "ids");
  expect(clipc_tokenize(f->model, "a", 1, ids, NULL, &error), CLIPC_E_INVALID, &error, "n_ids");
  char *huge = malloc((1 << 20) + 1);
  memset(huge, 'a', (1 << 20) + 1);
  expect(clipc_tokenize(f->model, huge, (1 << 20) + 1, ids, &n_ids, &error), CLIPC_E_LIMIT, &error, "limit");
  assert_int_equal(n_ids, 5);
  assert_true(vector[0] == 42.0f);
  assert_int_equal(clipc_tokenize(f->model, huge, 1 << 20, ids, &n_ids, &error), CLIPC_OK);
  assert_int_equal(n_ids, 32);
  assert_int_equal(clipc_tokenize(f->model, NULL, 0, ids, &n_ids, &error), CLIPC_OK);
  assert_int_equal(n_ids, 2);
  assert_int_equal(clipc_tokenize(f->model, "a\0b\xff\xc3(", 6, ids, &n_ids, &error), CLIPC_OK);
  assert_true(n_ids > 4);
  free(huge);
  free(vector);
}

static void a_bad_item_spoils_no_neighbour(void **state) {
  struct fixture *f = *state;
  enum { N = 8 };
  clipc_image images[N];
  clipc_error errors[N], error = {CLIPC_OK, ""};
  float *vectors = malloc(N * f->dimension * sizeof *vectors), *alone = malloc(f->dimension * sizeof *alone);
  for (size_t i = 0; i < N; i++) images[i] = clipc_image_path(i % 3 == 1 ? "nowhere.png" : PICTURE);
  for (size_t i = 0; i < N * f->dimension; i++) vectors[i] = -7.0f;
  expect(clipc_embed_images(f->session, images, N, vectors, errors, &error), CLIPC_E_IO, &error, "nowhere.png");
  assert_int_equal(clipc_embed_image(f->session, PICTURE, alone, &error), CLIPC_OK);
  for (size_t i = 0; i < N; i++) {
    assert_int_equal(errors[i].status, i % 3 == 1 ? CLIPC_E_IO : CLIPC_OK);
    for (size_t d = 0; d < f->dimension; d++) {
      float value = vectors[i * f->dimension + d];
      assert_true(i % 3 == 1 ? value == -7.0f : fabsf(value - alone[d]) < 1e-6f);
    }
  }
  clipc_text texts[3] = {clipc_text_string("a red circle"), clipc_text_ids(NULL, 0),
                         clipc_text_string("a blue square")};
  int32_t bad[2] = {-5, -5};
  texts[1] = clipc_text_ids(bad, 2);
  expect(clipc_embed_texts(f->session, texts, 3, vectors, errors, &error), CLIPC_E_INVALID, &error, "-5");
  assert_int_equal(errors[0].status, CLIPC_OK);
  assert_int_equal(errors[2].status, CLIPC_OK);
  assert_int_equal(clipc_embed_text(f->session, "a blue square", alone, &error), CLIPC_OK);
  for (size_t d = 0; d < f->dimension; d++) assert_true(fabsf(vectors[2 * f->dimension + d] - alone[d]) < 1e-6f);
  assert_int_equal(clipc_embed_images(f->session, NULL, 0, NULL, NULL, &error), CLIPC_OK);
  assert_int_equal(clipc_embed_texts(f->session, NULL, 0, NULL, NULL, &error), CLIPC_OK);
  expect(clipc_embed_images(f->session, NULL, 2, vectors, NULL, &error), CLIPC_E_INVALID, &error, "NULL");
  free(vectors);
  free(alone);
}

static void steps_are_counted_and_ordered(void **state) {
  struct fixture *f = *state;
  clipc_error error = {CLIPC_OK, ""};
  int done = 0, n_steps = 0;
  expect(clipc_step(f->session, &done, &error), CLIPC_E_INVALID, &error, "begun");
  expect(clipc_step(NULL, &done, &error), CLIPC_E_INVALID, &error, "session");
  expect(clipc_step(f->session, NULL, &error), CLIPC_E_INVALID, &error, "done");
  clipc_text texts[4];
  for (int i = 0; i < 4; i++) texts[i] = clipc_text_string("a photo of a red circle");
  float *vectors = malloc(4 * f->dimension * sizeof *vectors);
  assert_int_equal(clipc_begin_texts(f->session, texts, 4, vectors, NULL, &error), CLIPC_OK);
  while (!done) {
    assert_int_equal(clipc_step(f->session, &done, &error), CLIPC_OK);
    n_steps++;
  }
  assert_int_equal(n_steps, 2 * (1 + 4 + 1)); /* two pieces (max_batch 3): gather, four blocks, finish */
  for (size_t d = 0; d < f->dimension; d++) assert_true(fabsf(vectors[d] - vectors[3 * f->dimension + d]) < 1e-6f);
  expect(clipc_step(f->session, &done, &error), CLIPC_E_INVALID, &error, "begun");
  assert_int_equal(clipc_begin_texts(f->session, texts, 4, vectors, NULL, &error), CLIPC_OK);
  assert_int_equal(clipc_step(f->session, &done, &error), CLIPC_OK); /* dropped by the next begin */
  assert_int_equal(clipc_begin_texts(f->session, texts, 0, vectors, NULL, &error), CLIPC_OK);
  assert_int_equal(clipc_step(f->session, &done, &error), CLIPC_OK);
  assert_int_equal(done, 1);
  free(vectors);
}

static void prompt_ensembles(void **state) {
  struct fixture *f = *state;
  clipc_error error = {CLIPC_OK, ""};
  const char *templates[3] = {"a photo of a {}", "{} and {}", "nothing"}, *one = "a photo of a {}",
             *missing[1] = {NULL};
  size_t n = f->dimension;
  float *ensemble = malloc(n * sizeof(float)), *v = malloc(3 * n * sizeof(float));
  assert_int_equal(clipc_embed_prompts(f->session, "cat", templates, 3, ensemble, &error), CLIPC_OK);
  clipc_embed_text(f->session, "a photo of a cat", v, &error);
  clipc_embed_text(f->session, "cat and cat", v + n, &error);
  clipc_embed_text(f->session, "nothing", v + 2 * n, &error);
  double norm = 0;
  for (size_t i = 0; i < n; i++) norm += pow((double)v[i] + (double)v[n + i] + (double)v[2 * n + i], 2);
  for (size_t i = 0; i < n; i++)
    assert_true(fabs(ensemble[i] - ((double)v[i] + (double)v[n + i] + (double)v[2 * n + i]) / sqrt(norm)) < 1e-6);
  assert_int_equal(clipc_embed_prompts(f->session, "cat", &one, 1, ensemble, &error), CLIPC_OK);
  for (size_t i = 0; i < n; i++) assert_true(fabsf(ensemble[i] - v[i]) < 1e-6f);
  expect(clipc_embed_prompts(f->session, "cat", templates, 0, ensemble, &error), CLIPC_E_INVALID, &error, "template");
  expect(clipc_embed_prompts(f->session, "cat", missing, 1, ensemble, &error), CLIPC_E_INVALID, &error, "template 0");
  expect(clipc_embed_prompts(f->session, NULL, &one, 1, ensemble, &error), CLIPC_E_INVALID, &error, "label");
  free(ensemble);
  free(v);
}

static void towers_are_opened_apart(void **state) {
  (void)state;
  clipc_error error = {CLIPC_OK, ""};
  float *pixels = NULL, vector[2048];
  for (int tower = CLIPC_TOWER_IMAGE; tower <= CLIPC_TOWER_TEXT; tower++) {
    clipc_options options = {.towers = tower, .read_weights = tower == CLIPC_TOWER_TEXT, .n_threads = 1};
    clipc_model *model;
    clipc_session *session;
    assert_int_equal(clipc_model_open(&model, MODEL, &options, &error), CLIPC_OK);
    assert_int_equal(clipc_towers(model), tower);
    assert_int_equal(clipc_session_open(&session, model, NULL, &error), CLIPC_OK);
    clipc_model_close(model); /* the session keeps it */
    if (tower == CLIPC_TOWER_IMAGE) {
      expect(clipc_embed_text(session, "a", vector, &error), CLIPC_E_MODEL, &error, "text tower");
      assert_int_equal(clipc_embed_image(session, PICTURE, vector, &error), CLIPC_OK);
    } else {
      clipc_image image = clipc_image_path(PICTURE);
      expect(clipc_embed_image(session, PICTURE, vector, &error), CLIPC_E_MODEL, &error, "image tower");
      expect(clipc_preprocess(model, &image, vector, &error), CLIPC_E_MODEL, &error, "image tower");
      expect(clipc_preprocess(model, &image, pixels, &error), CLIPC_E_INVALID, &error, "pixels");
      assert_int_equal(clipc_embed_text(session, "a", vector, &error), CLIPC_OK);
    }
    clipc_session_close(session);
  }
}

/* A copy of the bundled model in which a part of a file reads otherwise (of the same length where it is binary). */
static void copy_model(const char *changed, const char *from, const char *to) {
  static const char *const names[] = {"config.json", "model.safetensors", "preprocessor_config.json", "vocab.json",
                                      "merges.txt"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    char path[256];
    size_t n;
    snprintf(path, sizeof path, "%s/%s", MODEL, names[i]);
    char *data = test_read_file(path, &n);
    assert_non_null(data);
    if (strcmp(names[i], changed) == 0) {
      char *at = memmem(data, n, from, strlen(from));
      assert_non_null(at);
      assert_int_equal(strlen(from), strlen(to));
      memcpy(at, to, strlen(to));
    }
    test_folder_put(names[i], data, n);
    free(data);
  }
}

static void a_vocabulary_beyond_the_tower_is_an_item_error(void **state) {
  (void)state;
  test_folder_make(NULL);
  clipc_error error = {CLIPC_OK, ""};
  clipc_model *model;
  clipc_session *session;
  float vector[256];
  copy_model("vocab.json", "\"red</w>\": ", "\"red</w>\":3");
  assert_int_equal(clipc_model_open(&model, test_folder, NULL, &error), CLIPC_OK);
  assert_int_equal(clipc_session_open(&session, model, NULL, &error), CLIPC_OK);
  expect(clipc_embed_text(session, "a red circle", vector, &error), CLIPC_E_FORMAT, &error,
         "not in the vocabulary of 3072");
  assert_int_equal(clipc_embed_text(session, "a circle", vector, &error), CLIPC_OK);
  clipc_session_close(session);
  clipc_model_close(model);
  test_folder_remove(NULL);
}

static void a_scale_that_is_not_finite_is_refused(void **state) {
  (void)state;
  clipc_error error = {CLIPC_OK, ""};
  clipc_model *model;
  size_t n, begin = 0;
  uint64_t n_header;
  char *weights = test_read_file(MODEL "/model.safetensors", &n);
  memcpy(&n_header, weights, 8);
  char *entry = strstr(weights + 8, "\"logit_scale\""), *offsets = entry ? strstr(entry, "\"data_offsets\":[") : NULL;
  assert_non_null(offsets);
  assert_int_equal(sscanf(offsets, "\"data_offsets\":[%zu", &begin), 1);
  float scale = 200.0f;
  memcpy(weights + 8 + n_header + begin, &scale, sizeof scale);
  test_folder_make(NULL);
  copy_model("", "", "");
  test_folder_put("model.safetensors", weights, n);
  expect(clipc_model_open(&model, test_folder, NULL, &error), CLIPC_E_MODEL, &error, "logit_scale");
  assert_null(model);
  test_folder_remove(NULL);
  free(weights);
}

/* ---- memory that runs out */

static clipc_status whole_life(clipc_allocator allocator, clipc_error *error) {
  clipc_options options = {.allocator = allocator, .n_threads = 2};
  clipc_model *model = NULL;
  clipc_session *session = NULL;
  const char *templates[2] = {"{}", "a drawing of a {}"};
  float vector[2048];
  clipc_status status = clipc_model_open(&model, MODEL, &options, error);
  if (status == CLIPC_OK) status = clipc_session_open(&session, model, NULL, error);
  if (status == CLIPC_OK) status = clipc_embed_image(session, PICTURE, vector, error);
  if (status == CLIPC_OK) status = clipc_embed_image(session, "models/tiny/pictures/red_car.jpg", vector, error);
  if (status == CLIPC_OK) status = clipc_embed_prompts(session, "red circle", templates, 2, vector, error);
  clipc_session_close(session);
  clipc_model_close(model);
  return status;
}

static void every_allocation_may_fail(void **state) {
  (void)state;
  size_t n = 1;
  for (;; n++) {
    struct test_memory memory = {.fail_at = n, .and_after = 1};
    clipc_error error = {CLIPC_OK, ""};
    clipc_status status = whole_life(test_allocator(&memory), &error);
    assert_int_equal(memory.n_live, 0);
    if (status == CLIPC_OK) break;
    expect(status, CLIPC_E_NO_MEMORY, &error, "memory");
  }
  assert_true(n > 20);
  printf("note: %zu allocations, each made to fail\n", n - 1);
}

static void *embed_in_a_thread(void *context) {
  clipc_model *model = clipc_model_retain(context);
  clipc_session *session;
  float first[2048], vector[2048];
  size_t n = clipc_embedding_dimension(model);
  const char *trouble = "a session could not be opened";
  if (clipc_session_open(&session, model, NULL, NULL) == CLIPC_OK) {
    trouble = NULL;
    for (int i = 0; i < 20 && !trouble; i++) {
      if (clipc_embed_image(session, PICTURE, i ? vector : first, NULL) != CLIPC_OK) trouble = "an embedding failed";
      if (i && !trouble && memcmp(first, vector, n * sizeof *first) != 0) trouble = "two runs differ";
    }
    clipc_session_close(session);
  }
  clipc_model_close(model);
  return (void *)trouble;
}

static void a_model_serves_many_threads(void **state) {
  struct fixture *f = *state;
  pthread_t threads[4];
  for (int i = 0; i < 4; i++) assert_int_equal(pthread_create(&threads[i], NULL, embed_in_a_thread, f->model), 0);
  for (int i = 0; i < 4; i++) {
    void *trouble;
    pthread_join(threads[i], &trouble);
    if (trouble) fail_msg("%s", (const char *)trouble);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(options_are_checked),
      cmocka_unit_test(null_model_is_empty),
      cmocka_unit_test(the_model_says_what_it_is),
      cmocka_unit_test(pictures_that_cannot_be),
      cmocka_unit_test(limits_are_kept_before_decoding),
      cmocka_unit_test(texts_that_cannot_be),
      cmocka_unit_test(a_bad_item_spoils_no_neighbour),
      cmocka_unit_test(steps_are_counted_and_ordered),
      cmocka_unit_test(prompt_ensembles),
      cmocka_unit_test(towers_are_opened_apart),
      cmocka_unit_test(a_vocabulary_beyond_the_tower_is_an_item_error),
      cmocka_unit_test(a_scale_that_is_not_finite_is_refused),
      cmocka_unit_test(every_allocation_may_fail),
      cmocka_unit_test(a_model_serves_many_threads),
  };
  return cmocka_run_group_tests(tests, open_fixture, close_fixture);
}
