/* Scores against naive double-precision forms, their edge cases, and the ranks against a full sort. */
#include "clipc.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "testing.h"

static int seed_once(void **state) {
  (void)state;
  random_start(20240229);
  return 0;
}

static double naive_cosine(const float *a, const float *b, size_t n) {
  long double ab = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < n; i++) {
    ab += (long double)a[i] * b[i];
    aa += (long double)a[i] * a[i];
    bb += (long double)b[i] * b[i];
  }
  return (double)(ab / sqrtl(aa * bb));
}

static void cosine_is_the_nearest_float_at_every_length(void **state) {
  (void)state;
  static float a[600], b[600];
  for (size_t n = 1; n < 600; n += n < 40 ? 1 : 37) {
    for (size_t i = 0; i < n; i++) a[i] = random_float(), b[i] = random_float();
    double want = naive_cosine(a, b, n);
    assert_true(fabs((double)clipc_cosine(a, b, n) - want) <= 6e-8);
    assert_true(clipc_cosine(a, a, n) == 1.0f);
    for (size_t i = 0; i < n; i++) b[i] = -a[i];
    assert_true(clipc_cosine(a, b, n) == -1.0f);
  }
}

static void cosine_holds_at_the_ends_of_the_range(void **state) {
  (void)state;
  const float zero[3] = {0}, one[3] = {1, 2, 3};
  const float large[3] = {FLT_MAX, -FLT_MAX, FLT_MAX}, small[3] = {1e-45f, -1e-45f, 1e-45f};
  assert_true(clipc_cosine(zero, one, 3) == 0.0f);
  assert_true(clipc_cosine(zero, zero, 3) == 0.0f);
  assert_true(clipc_cosine(large, large, 3) == 1.0f);
  assert_true(clipc_cosine(small, small, 3) == 1.0f);
  assert_true(clipc_cosine(large, small, 3) == 1.0f);
  assert_true(clipc_cosine(one, one, 0) == 0.0f);
  assert_true(clipc_cosine(NULL, one, 3) == 0.0f);
  const float nan_in[2] = {NAN, 1};
  assert_true(isnan(clipc_cosine(nan_in, one, 2)));
}

static void softmax_sums_to_one_and_never_overflows(void **state) {
  (void)state;
  float logits[257], probabilities[257];
  for (size_t n = 1; n <= 257; n += 16) {
    double sum_exp = 0, sum = 0;
    for (size_t i = 0; i < n; i++) logits[i] = 30 * random_float();
    for (size_t i = 0; i < n; i++) sum_exp += exp((double)logits[i]);
    clipc_softmax(probabilities, logits, n);
    for (size_t i = 0; i < n; i++) {
      double want = exp((double)logits[i]) / sum_exp;
      assert_true(fabs((double)probabilities[i] - want) <= 1e-7 * want);
      sum += (double)probabilities[i];
    }
    assert_true(fabs(sum - 1) < 1e-6);
    clipc_softmax(logits, logits, n); /* may alias */
    assert_memory_equal(logits, probabilities, n * sizeof *logits);
  }
  float wide[3] = {3e38f, -3e38f, 3e38f};
  clipc_softmax(wide, wide, 3);
  assert_true(wide[0] == 0.5f && wide[1] == 0.0f && wide[2] == 0.5f);
  float hidden[2] = {-INFINITY, 1};
  clipc_softmax(hidden, hidden, 2);
  assert_true(hidden[0] == 0.0f && hidden[1] == 1.0f);
  float spoilt[3] = {1, NAN, 2};
  clipc_softmax(spoilt, spoilt, 3);
  assert_true(isnan(spoilt[0]) && isnan(spoilt[1]) && isnan(spoilt[2]));
  float untouched = 7;
  clipc_softmax(&untouched, &untouched, 0);
  assert_true(untouched == 7.0f);
}

static void sigmoid_holds_at_both_ends(void **state) {
  (void)state;
  float x[6] = {0, 1, -1, 1000, -1000, NAN};
  clipc_sigmoid(x, x, 6);
  assert_true(x[0] == 0.5f);
  assert_true(fabs((double)x[1] - 0.7310585786300049) < 6e-8);
  assert_true(fabs((double)x[2] - 0.2689414213699951) < 3e-8);
  assert_true(x[3] == 1.0f && x[4] == 0.0f && isnan(x[5]));
}

static const float *sorted_scores;

static int compare_ranks(const void *left, const void *right) {
  size_t a = *(const size_t *)left, b = *(const size_t *)right;
  float x = sorted_scores[a], y = sorted_scores[b];
  if (isnan(x) != isnan(y)) return isnan(x) ? 1 : -1;
  if (!isnan(x) && x != y) return x > y ? -1 : 1;
  return a < b ? -1 : a > b;
}

static void top_k_is_the_head_of_a_full_sort(void **state) {
  (void)state;
  static float scores[300];
  static size_t all[300], top[304];
  for (int round = 0; round < 400; round++) {
    size_t n = random_below(300) + 1, k = random_bits() % (n + 4);
    for (size_t i = 0; i < n; i++) { /* few different values, so that ties and NaN are common */
      scores[i] = random_below(9) == 0 ? NAN : (float)(random_bits() % (round % 2 ? 7 : 100000)) - 3;
      if (random_below(20) == 0) scores[i] = random_below(2) ? INFINITY : -INFINITY;
      all[i] = i;
    }
    sorted_scores = scores;
    qsort(all, n, sizeof *all, compare_ranks);
    for (size_t i = 0; i < 304; i++) top[i] = SIZE_MAX;
    size_t got = clipc_top_k(top, k, scores, n);
    assert_int_equal(got, k < n ? k : n);
    assert_memory_equal(top, all, got * sizeof *top);
    assert_true(top[got] == SIZE_MAX);
  }
  assert_int_equal(clipc_top_k(top, 3, scores, 0), 0);
  assert_int_equal(clipc_top_k(NULL, 3, scores, 3), 0);
}

/* 130 texts: more than two of the blocks that the products are done in. */
static void logits_are_scaled_cosines(void **state) {
  (void)state;
  enum { n_images = 3, n_texts = 130 };
  clipc_model *model;
  clipc_error error = {0};
  clipc_model_open(&model, "models/tiny", NULL, &error);
  assert_string_equal(error.message, "");
  size_t dimension = clipc_embedding_dimension(model);
  float *images = malloc(n_images * dimension * sizeof *images), *texts = malloc(n_texts * dimension * sizeof *texts);
  float *logits = malloc((n_images * n_texts + 1) * sizeof *logits);
  assert_true(images != NULL && texts != NULL && logits != NULL);
  for (size_t i = 0; i < n_images * dimension; i++) images[i] = random_float();
  for (size_t i = 0; i < n_texts * dimension; i++) texts[i] = random_float();
  logits[n_images * n_texts] = 42;
  clipc_logits(model, logits, images, n_images, texts, n_texts);
  for (size_t i = 0; i < n_images; i++) {
    for (size_t j = 0; j < n_texts; j++) {
      double want =
          (double)clipc_logit_scale(model) * naive_cosine(images + i * dimension, texts + j * dimension, dimension) +
          (double)clipc_logit_bias(model);
      assert_true(fabs((double)logits[i * n_texts + j] - want) <= 1e-7 * (double)clipc_logit_scale(model));
    }
  }
  assert_true(logits[n_images * n_texts] == 42.0f);
  clipc_logits(model, logits, images, 0, texts, n_texts);
  clipc_logits(NULL, logits, images, n_images, texts, n_texts);
  free(images);
  free(texts);
  free(logits);
  clipc_model_close(model);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(cosine_is_the_nearest_float_at_every_length),
      cmocka_unit_test(cosine_holds_at_the_ends_of_the_range),
      cmocka_unit_test(softmax_sums_to_one_and_never_overflows),
      cmocka_unit_test(sigmoid_holds_at_both_ends),
      cmocka_unit_test(top_k_is_the_head_of_a_full_sort),
      cmocka_unit_test(logits_are_scaled_cosines),
  };
  return cmocka_run_group_tests_name("score", tests, seed_once, NULL);
}
