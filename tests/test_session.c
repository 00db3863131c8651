/* Sessions: number formats, tiers, threads, batches and steps give the same vectors; items that fail spoil no others;
 * each allocation may fail. The models are those of test_model.c. */
#include "golden.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what must not change a result */

/* All cases of both towers, pixels and ids: images first. */
static float *embed_both(const char *folder, const struct golden *golden, const clipc_options *options, int max_batch,
                         int raw, size_t *n_floats) {
  clipc_model *model = golden_open_model(folder, options);
  clipc_session *session = golden_open_session(model, max_batch, raw);
  float *vectors = calloc(GOLDEN_MOST_CASES * golden->dimension, sizeof *vectors);
  size_t at = 0;
  assert_non_null(vectors);
  for (int tower = CLIPC_TOWER_IMAGE; tower <= CLIPC_TOWER_TEXT; tower++) {
    struct golden_inputs *in = golden_gather(golden, tower, CLIPC_REFERENCE_AUTO);
    float *part = golden_embed(session, in, tower, golden->dimension);
    memcpy(vectors + at, part, in->n * golden->dimension * sizeof *part);
    at += in->n * golden->dimension;
    free(part);
    golden_inputs_free(in);
  }
  clipc_session_close(session);
  clipc_model_close(model);
  *n_floats = at;
  return vectors;
}

static double most_apart(const float *a, const float *b, size_t n) {
  double most = 0;
  for (size_t i = 0; i < n; i++)
    if (!(fabs((double)a[i] - (double)b[i]) <= most)) most = fabs((double)a[i] - (double)b[i]);
  return most;
}

static void test_number_formats_are_the_same(void **state) {
  static const char *const dtypes[] = {"F16", "BF16"};
  static const char *const models[] = {"hf-quick", "oc-eos"};
  (void)state;
  for (size_t m = 0; m < COUNT(models); m++) {
    struct golden golden = golden_load(models[m]);
    size_t n;
    char *folder = synthetic_folder(models[m], &(struct synthetic_change){.dtype = "F32"});
    float *f32 = embed_both(folder, &golden, NULL, 0, 0, &n);
    float *read = embed_both(folder, &golden, &(clipc_options){.read_weights = 1}, 0, 0, &n);
    assert_memory_equal(f32, read, n * sizeof *f32);
    free(read);
    test_folder_delete(folder);
    for (size_t d = 0; d < COUNT(dtypes); d++) {
      folder = synthetic_folder(models[m], &(struct synthetic_change){.dtype = dtypes[d]});
      float *other = embed_both(folder, &golden, NULL, 0, 0, &n);
      assert_memory_equal(f32, other, n * sizeof *f32);
      free(other);
      test_folder_delete(folder);
    }
    free(f32);
    golden_free(&golden);
  }
}

static void test_tiers_and_threads_agree(void **state) {
  static const char *const models[] = {"hf-quick", "oc-clipa", "oc-mean"};
  (void)state;
  for (size_t m = 0; m < COUNT(models); m++) {
    struct golden golden = golden_load(models[m]);
    char *folder = synthetic_folder(models[m], NULL);
    size_t n;
    float *best = embed_both(folder, &golden, &(clipc_options){.n_threads = 1}, 4, 0, &n);
    float *two = embed_both(folder, &golden, &(clipc_options){.n_threads = 2}, 4, 0, &n);
    float *plain = embed_both(folder, &golden, &(clipc_options){.tier = CLIPC_TIER_PLAIN_C}, 4, 0, &n);
    assert_true(most_apart(best, two, n) <= 2e-6);
    assert_true(most_apart(best, plain, n) <= 2e-6);
    size_t n_compared = 0;
    assert_true(golden_compare(&golden, folder, &(clipc_options){.tier = CLIPC_TIER_PLAIN_C}, 4, &n_compared) <=
                GOLDEN_TOLERANCE);
    free(best);
    free(two);
    free(plain);
    test_folder_delete(folder);
    golden_free(&golden);
  }
}

static void test_batches_agree_with_single_items(void **state) {
  static const char *const models[] = {"hf-quick", "oc-clipa", "oc-mean", "oc-first"};
  (void)state;
  for (size_t m = 0; m < COUNT(models); m++) {
    struct golden golden = golden_load(models[m]);
    char *folder = synthetic_folder(models[m], NULL);
    size_t n;
    float *single = embed_both(folder, &golden, NULL, 1, 0, &n);
    for (int max_batch = 2; max_batch <= 16; max_batch += 7) {
      float *batch = embed_both(folder, &golden, NULL, max_batch, 0, &n);
      assert_true(most_apart(single, batch, n) <= 2e-6);
      free(batch);
    }
    free(single);
    test_folder_delete(folder);
    golden_free(&golden);
  }
}

static void test_raw_and_normalized(void **state) {
  (void)state;
  struct golden golden = golden_load("hf-quick");
  char *folder = synthetic_folder("hf-quick", NULL);
  size_t n, dimension = golden.dimension;
  float *raw = embed_both(folder, &golden, NULL, 0, 1, &n), *unit = embed_both(folder, &golden, NULL, 0, 0, &n);
  size_t at = 0;
  for (int tower = CLIPC_TOWER_IMAGE; tower <= CLIPC_TOWER_TEXT; tower++) {
    struct golden_inputs *in = golden_gather(&golden, tower, CLIPC_REFERENCE_AUTO);
    for (size_t i = 0; i < in->n; i++, at += dimension) {
      const float *expected = golden.cases[in->cases[i]].expected;
      double norm = 0, length = 0;
      for (size_t k = 0; k < dimension; k++) {
        norm += (double)expected[k] * (double)expected[k];
        length += (double)unit[at + k] * (double)unit[at + k];
      }
      assert_true(fabs(length - 1) < 1e-6);
      assert_true(sqrt(norm) > 1.5); /* or raw and normalised would not tell */
      assert_true(most_apart(raw + at, expected, dimension) <= GOLDEN_TOLERANCE * sqrt(norm));
      assert_true(vector_difference(unit + at, raw + at, dimension) < 1e-6);
    }
    golden_inputs_free(in);
  }
  free(raw);
  free(unit);
  test_folder_delete(folder);
  golden_free(&golden);
}

static void test_steps(void **state) {
  (void)state;
  struct golden golden = golden_load("hf-quick");
  char *folder = synthetic_folder("hf-quick", NULL);
  clipc_model *model = golden_open_model(folder, NULL);
  clipc_session *session = golden_open_session(model, 2, 0);
  struct golden_inputs *images = golden_gather(&golden, CLIPC_TOWER_IMAGE, CLIPC_REFERENCE_AUTO);
  struct golden_inputs *texts = golden_gather(&golden, CLIPC_TOWER_TEXT, CLIPC_REFERENCE_AUTO);
  float *whole = golden_embed(session, texts, CLIPC_TOWER_TEXT, golden.dimension);
  float *stepped = calloc(texts->n * golden.dimension, sizeof *stepped);
  int done = 0, n_steps = 0;
  assert_int_equal(clipc_step(session, &done, NULL), CLIPC_E_INVALID); /* nothing was begun */
  /* A computation that is dropped half-way for another one leaves no trace. */
  assert_int_equal(clipc_begin_images(session, images->images, images->n, stepped, NULL, NULL), CLIPC_OK);
  for (int i = 0; i < 3; i++) assert_int_equal(clipc_step(session, &done, NULL), CLIPC_OK);
  assert_int_equal(clipc_begin_texts(session, texts->texts, texts->n, stepped, NULL, NULL), CLIPC_OK);
  for (done = 0; !done; n_steps++) assert_int_equal(clipc_step(session, &done, NULL), CLIPC_OK);
  assert_true(n_steps >= 3 * (int)(texts->n / 2)); /* pieces of two, three blocks each */
  assert_memory_equal(whole, stepped, texts->n * golden.dimension * sizeof *whole);
  assert_int_equal(clipc_begin_images(session, NULL, 0, NULL, NULL, NULL), CLIPC_OK);
  done = 0;
  assert_int_equal(clipc_step(session, &done, NULL), CLIPC_OK);
  assert_int_equal(done, 1);
  assert_int_equal(clipc_embed_texts(session, NULL, 0, NULL, NULL, NULL), CLIPC_OK);
  assert_int_equal(clipc_begin_images(session, images->images, images->n, stepped, NULL, NULL), CLIPC_OK);
  assert_int_equal(clipc_step(session, &done, NULL), CLIPC_OK);
  clipc_session_close(session); /* while something is running */
  clipc_model_close(model);
  free(whole);
  free(stepped);
  golden_inputs_free(images);
  golden_inputs_free(texts);
  test_folder_delete(folder);
  golden_free(&golden);
}

struct worker {
  clipc_model *model;
  const struct golden *golden;
  int n_wrong; /* vectors that are not the reference's */
};

static void *work(void *context) {
  struct worker *worker = context;
  const struct golden *golden = worker->golden;
  clipc_session *session = NULL;
  clipc_session_options options = {.max_batch = 3};
  struct golden_inputs *in = golden_gather(golden, CLIPC_TOWER_TEXT, CLIPC_REFERENCE_AUTO);
  float *vectors = calloc(in->n * golden->dimension, sizeof *vectors);
  worker->n_wrong += clipc_session_open(&session, worker->model, &options, NULL) != CLIPC_OK;
  clipc_model_close(worker->model); /* the session holds a reference of its own */
  for (int round = 0; session && round < 400; round++) {
    worker->n_wrong += clipc_embed_texts(session, in->texts, in->n, vectors, NULL, NULL) != CLIPC_OK;
    for (size_t i = 0; i < in->n; i++) {
      const float *expected = golden->cases[in->cases[i]].expected;
      worker->n_wrong +=
          !(vector_difference(vectors + i * golden->dimension, expected, golden->dimension) <= GOLDEN_TOLERANCE);
    }
  }
  clipc_session_close(session);
  free(vectors);
  golden_inputs_free(in);
  return NULL;
}

/* A matrix library that is not safe to call from several threads shows here. */
static void test_one_model_many_threads(void **state) {
  (void)state;
  struct golden golden = golden_load("hf-quick");
  char *folder = synthetic_folder("hf-quick", NULL);
  clipc_model *model = golden_open_model(folder, &(clipc_options){.n_threads = 2});
  struct worker workers[3];
  pthread_t threads[3];
  for (int i = 0; i < 3; i++) {
    workers[i] = (struct worker){clipc_model_retain(model), &golden, 0};
    assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
  }
  clipc_model_close(model);
  for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
  for (int i = 0; i < 3; i++) assert_int_equal(workers[i].n_wrong, 0);
  clipc_shutdown();
  test_folder_delete(folder);
  golden_free(&golden);
}

/* ---- what may go wrong */

static void test_bad_items_spoil_nothing(void **state) {
  (void)state;
  struct golden golden = golden_load("hf-quick");
  char *folder = synthetic_folder("hf-quick", NULL);
  clipc_model *model = golden_open_model(folder, NULL);
  size_t dimension = golden.dimension, n_pixels = 3 * (size_t)golden.height * (size_t)golden.width;
  const int32_t good[] = {118, 17, 45, 9, 88, 23, 119}, high[] = {118, 120, 119}, negative[] = {118, -1, 119},
                many[21] = {118};
  const clipc_text texts[] = {clipc_text_ids(high, 3),  clipc_text_ids(good, 7), clipc_text_ids(negative, 3),
                              clipc_text_ids(many, 21), clipc_text_ids(good, 7), clipc_text_ids(good, 0),
                              clipc_text_ids(NULL, 3),  clipc_text_ids(good, 7)};
  const bool text_bad[] = {true, false, true, true, false, true, true, false};
  float *pixels = malloc(n_pixels * sizeof *pixels), *not_finite = malloc(n_pixels * sizeof *pixels);
  float *vectors = malloc(8 * dimension * sizeof *vectors), *alone = calloc(dimension, sizeof *alone);
  synthetic_pixels(pixels, 0, golden.height, golden.width);
  memcpy(not_finite, pixels, n_pixels * sizeof *pixels);
  not_finite[0] = NAN;
  const clipc_image images[] = {clipc_image_pixels(pixels),         clipc_image_pixels(not_finite),
                                clipc_image_pixels(NULL),           clipc_image_pixels(pixels),
                                clipc_image_rgb(NULL, 0, 0, 0),     {.data = pixels},
                                clipc_image_path("tests/none.jpg"), clipc_image_pixels(pixels)};
  const bool image_bad[] = {false, true, true, false, true, true, true, false};
  for (int max_batch = 1; max_batch <= 9; max_batch += 2) {
    clipc_session *session = golden_open_session(model, max_batch, 0);
    for (int tower = CLIPC_TOWER_IMAGE; tower <= CLIPC_TOWER_TEXT; tower++) {
      bool is_text = tower == CLIPC_TOWER_TEXT;
      clipc_error errors[8], error = {CLIPC_OK, ""};
      for (size_t i = 0; i < 8; i++) errors[i] = (clipc_error){CLIPC_E_CANCELLED, ""};
      for (size_t i = 0; i < 8 * dimension; i++) vectors[i] = 77;
      clipc_status status = is_text ? clipc_embed_texts(session, texts, 8, vectors, errors, &error)
                                    : clipc_embed_images(session, images, 8, vectors, errors, &error);
      assert_int_equal(status, errors[is_text ? 0 : 1].status);
      assert_int_equal(error.status, status);
      if (is_text)
        assert_int_equal(clipc_embed_ids(session, good, 7, alone, NULL), CLIPC_OK);
      else
        assert_int_equal(clipc_embed_image_pixels(session, pixels, alone, NULL), CLIPC_OK);
      for (size_t i = 0; i < 8; i++) {
        bool bad = is_text ? text_bad[i] : image_bad[i];
        assert_int_equal(errors[i].status != CLIPC_OK, bad);
        assert_int_equal(errors[i].message[0] != 0, bad);
        for (size_t k = 0; k < dimension; k++) {
          float expected = bad ? 77 : alone[k];
          assert_true(fabsf(vectors[i * dimension + k] - expected) <= 2e-6f);
        }
      }
      assert_int_equal(errors[is_text ? 0 : 1].status, is_text ? CLIPC_E_INVALID : CLIPC_E_FORMAT);
    }
    clipc_session_close(session);
  }
  free(pixels);
  free(not_finite);
  free(vectors);
  free(alone);
  clipc_model_close(model);
  test_folder_delete(folder);
  golden_free(&golden);
}

static clipc_status run_counted(struct test_memory *memory, const char *folder, const struct golden *golden) {
  clipc_options options = {.allocator = test_allocator(memory), .n_threads = 1};
  struct golden_inputs *in = golden_gather(golden, CLIPC_TOWER_IMAGE, CLIPC_REFERENCE_AUTO);
  float *vectors = calloc(GOLDEN_MOST_CASES * golden->dimension, sizeof *vectors);
  clipc_model *model = NULL;
  clipc_session *session = NULL;
  clipc_error error = {CLIPC_OK, ""};
  clipc_status status = clipc_model_open(&model, folder, &options, &error);
  if (status == CLIPC_OK) status = clipc_session_open(&session, model, NULL, &error);
  size_t before = memory->n_asked;
  if (status == CLIPC_OK) status = clipc_embed_images(session, in->images, in->n, vectors, NULL, &error);
  if (status == CLIPC_OK) status = clipc_embed_ids(session, (const int32_t[]){118, 17, 119}, 3, vectors, &error);
  if (status == CLIPC_OK) assert_int_equal(memory->n_asked, before); /* the towers allocate nothing */
  if (status != CLIPC_OK) assert_true(error.status == status && error.message[0]);
  clipc_session_close(session);
  clipc_model_close(model);
  free(vectors);
  golden_inputs_free(in);
  return status;
}

static void test_every_allocation_may_fail(void **state) {
  static const char *const models[] = {"hf-quick", "hf-sharded", "oc-eos"};
  (void)state;
  for (size_t m = 0; m < COUNT(models); m++) {
    struct golden golden = golden_load(models[m]);
    char *folder = synthetic_folder(models[m], NULL);
    size_t fail_at = 1;
    for (clipc_status status = CLIPC_E_NO_MEMORY; status != CLIPC_OK; fail_at++) {
      struct test_memory memory = {.fail_at = fail_at};
      status = run_counted(&memory, folder, &golden);
      assert_int_equal(memory.n_live, 0);
      assert_true(status == CLIPC_OK ? memory.n_asked < fail_at : status == CLIPC_E_NO_MEMORY);
    }
    printf("%s: %zu allocations failed in turn\n", models[m], fail_at - 2);
    test_folder_delete(folder);
    golden_free(&golden);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_number_formats_are_the_same),
      cmocka_unit_test(test_tiers_and_threads_agree),
      cmocka_unit_test(test_batches_agree_with_single_items),
      cmocka_unit_test(test_raw_and_normalized),
      cmocka_unit_test(test_steps),
      cmocka_unit_test(test_one_model_many_threads),
      cmocka_unit_test(test_bad_items_spoil_nothing),
      cmocka_unit_test(test_every_allocation_may_fail),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
