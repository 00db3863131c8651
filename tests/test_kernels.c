/* The kernels: plain C against sums in double; every other variant against plain C; the drivers on any number of
 * threads against one. Odd sizes, unaligned pointers, guard floats around every output. */
#include "kernels/kernels.h"
#include "testing.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t random_size(size_t n) { return 1 + random_below(n); }

/* A buffer of n random floats that starts unaligned, with guards before and behind. */
#define GUARD 8
static float *make_floats(size_t n) {
  float *all = malloc((n + 2 * GUARD + 1) * sizeof *all);
  assert_non_null(all);
  for (size_t i = 0; i < n + 2 * GUARD + 1; i++) all[i] = 12345.0f;
  for (size_t i = 0; i < n; i++) all[GUARD + 1 + i] = random_float();
  return all + GUARD + 1;
}

static void free_floats(float *floats, size_t n) {
  for (size_t i = 1; i <= GUARD + 1; i++) assert_true(floats[-(ptrdiff_t)i] == 12345.0f);
  for (size_t i = 0; i < GUARD; i++) assert_true(floats[n + i] == 12345.0f);
  free(floats - GUARD - 1);
}

static void assert_near(double value, double expected, double bound, const char *what) {
  if (!(fabs(value - expected) <= bound)) fail_msg("%s: %.9g, expected %.9g within %.3g", what, value, expected, bound);
}

/* y against the definition in double; the bound scales with the sum of magnitudes. */
static void check_gemm(const struct clipc__kernels *kernels, size_t m, size_t n, size_t k, bool transposed,
                       bool accumulate) {
  size_t x_stride = k + random_below(3), y_stride = n + random_bits() % 3,
         w_stride = (transposed ? k : n) + random_below(3);
  size_t n_x = m * x_stride, n_w = (transposed ? n : k) * w_stride, n_y = m * y_stride;
  float *x = make_floats(n_x), *w = make_floats(n_w), *y = make_floats(n_y), *before = make_floats(n_y);
  memcpy(before, y, n_y * sizeof *y);
  if (transposed)
    kernels->gemm_nt_f32(y, y_stride, x, x_stride, w, w_stride, m, n, k, accumulate);
  else
    kernels->gemm_nn_f32(y, y_stride, x, x_stride, w, w_stride, m, n, k);
  for (size_t i = 0; i < m; i++)
    for (size_t j = 0; j < y_stride; j++) {
      double sum = accumulate ? before[i * y_stride + j] : 0, magnitude = fabs(sum) + 1e-3;
      for (size_t p = 0; p < k && j < n; p++) {
        double term = (double)x[i * x_stride + p] * (double)(transposed ? w[j * w_stride + p] : w[p * w_stride + j]);
        sum += term;
        magnitude += fabs(term);
      }
      if (j < n)
        assert_near(y[i * y_stride + j], sum, 4e-7 * magnitude, transposed ? "gemm_nt" : "gemm_nn");
      else
        assert_true(y[i * y_stride + j] == before[i * y_stride + j]); /* the gap between rows */
    }
  free_floats(x, n_x);
  free_floats(w, n_w);
  free_floats(y, n_y);
  free_floats(before, n_y);
}

static void products(void **state) {
  (void)state;
  static const clipc_tier tiers[] = {CLIPC_TIER_PLAIN_C, CLIPC_TIER_BEST};
  for (size_t t = 0; t < 2; t++) {
    struct clipc__kernels kernels;
    clipc__kernels_init(&kernels, tiers[t]);
    for (int i = 0; i < 60; i++) {
      size_t m = random_size(40), n = random_size(70), k = random_size(i % 2 ? 40 : 300);
      check_gemm(&kernels, m, n, k, true, false);
      check_gemm(&kernels, m, n, k, true, true);
      check_gemm(&kernels, m, n, k, false, false);
    }
    check_gemm(&kernels, 1, 1, 1, true, false);
    check_gemm(&kernels, 1, 1, 1, false, false);
  }
}

static void layer_norms(void **state) {
  (void)state;
  struct clipc__kernels kernels;
  clipc__kernels_init(&kernels, CLIPC_TIER_BEST);
  for (int i = 0; i < 40; i++) {
    size_t rows = random_size(5), cols = random_size(800), n = rows * cols;
    float offset = i % 3 == 0 ? 50.0f : 0.0f, eps = i % 2 ? 1e-5f : 1e-6f;
    float *x = make_floats(n), *y = make_floats(n), *weight = make_floats(cols), *bias = make_floats(cols);
    for (size_t j = 0; j < n; j++) x[j] += offset;
    kernels.layer_norm_f32(y, x, weight, bias, rows, cols, eps);
    for (size_t r = 0; r < rows; r++) {
      double mean = 0, variance = 0;
      for (size_t j = 0; j < cols; j++) mean += x[r * cols + j];
      mean /= (double)cols;
      for (size_t j = 0; j < cols; j++) variance += (x[r * cols + j] - mean) * (x[r * cols + j] - mean);
      variance /= (double)cols;
      for (size_t j = 0; j < cols; j++) {
        double expected = (x[r * cols + j] - mean) / sqrt(variance + (double)eps) * weight[j] + bias[j];
        assert_near(y[r * cols + j], expected, offset > 0 ? 2e-4 : 2e-6, "layer_norm");
      }
    }
    kernels.layer_norm_f32(x, x, weight, bias, rows, cols, eps); /* in place */
    assert_memory_equal(x, y, n * sizeof *x);
    free_floats(x, n);
    free_floats(y, n);
    free_floats(weight, cols);
    free_floats(bias, cols);
  }
}

static void softmax_masks_and_scales(void **state) {
  (void)state;
  struct clipc__kernels kernels;
  clipc__kernels_init(&kernels, CLIPC_TIER_BEST);
  for (int i = 0; i < 50; i++) {
    size_t n_all = random_size(300), n = random_size(n_all);
    float *x = make_floats(n_all), *before = make_floats(n_all), scale = i % 2 ? 0.125f : 300.0f;
    memcpy(before, x, n_all * sizeof *x);
    kernels.softmax_f32(x, n, n_all, scale);
    double largest = -1e30, sum = 0;
    for (size_t j = 0; j < n; j++) largest = fmax(largest, (double)scale * before[j]);
    for (size_t j = 0; j < n; j++) sum += exp((double)scale * before[j] - largest);
    for (size_t j = 0; j < n; j++) assert_near(x[j], exp((double)scale * before[j] - largest) / sum, 3e-5, "softmax");
    for (size_t j = n; j < n_all; j++) assert_true(x[j] == 0.0f);
    free_floats(x, n_all);
    free_floats(before, n_all);
  }
}

static double activation(enum clipc__activation kind, double x) {
  if (kind == CLIPC__QUICK_GELU) return x / (1 + exp(-1.702 * x));
  if (kind == CLIPC__GELU_ERF) return 0.5 * x * (1 + erf(x / sqrt(2)));
  return 0.5 * x * (1 + tanh(sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
}

static void activations(void **state) {
  (void)state;
  struct clipc__kernels kernels;
  clipc__kernels_init(&kernels, CLIPC_TIER_BEST);
  for (enum clipc__activation kind = CLIPC__QUICK_GELU; kind < CLIPC__N_ACTIVATIONS; kind++) {
    size_t n = 4001;
    float *x = make_floats(n);
    for (size_t i = 0; i < n; i++) x[i] = ((float)i - 2000.0f) / 100.0f; /* -20 .. 20 */
    kernels.activation_f32[kind](x, n);
    for (size_t i = 0; i < n; i++) {
      double expected = activation(kind, ((double)i - 2000.0) / 100.0);
      assert_near(x[i], expected, 1e-6 + 1e-6 * fabs(expected), "activation");
    }
    free_floats(x, n);
  }
  assert_null(kernels.activation_f32[CLIPC__NO_ACTIVATION]);
}

/* Linear layers side by side, with bias, activation, residual: against the definition. */
static void linear_layers(void **state) {
  (void)state;
  struct clipc__kernels kernels;
  clipc__kernels_init(&kernels, CLIPC_TIER_BEST);
  for (int i = 0; i < 40; i++) {
    size_t rows = i == 0 ? 1300 : random_size(60), n_out = random_size(i % 3 ? 90 : 400),
           n_in = random_size(i % 5 ? 120 : 1500);
    size_t n_linears = 1 + (size_t)i % 3, n_y = rows * n_out * n_linears;
    bool add = i % 4 == 3;
    enum clipc__activation kind =
        add ? CLIPC__NO_ACTIVATION : (enum clipc__activation)(random_bits() % CLIPC__N_ACTIVATIONS);
    struct clipc__linear linears[3];
    float *x = make_floats(rows * n_in), *y = make_floats(n_y), *before = make_floats(n_y);
    memcpy(before, y, n_y * sizeof *y);
    for (size_t l = 0; l < n_linears; l++)
      linears[l] = (struct clipc__linear){make_floats(n_out * n_in), l == 1 ? NULL : make_floats(n_out), n_out, n_in};
    struct clipc__compute compute = {&kernels, 1 + i % 3};
    clipc__linear_forward(&compute, y, n_out * n_linears, x, n_in, rows, linears, n_linears, kind,
                          add ? CLIPC__ADD : CLIPC__STORE);
    for (size_t r = 0; r < rows; r++)
      for (size_t c = 0; c < n_out * n_linears; c += 1 + random_below(7)) {
        const struct clipc__linear *linear = &linears[c / n_out];
        double sum = linear->bias ? linear->bias[c % n_out] : 0;
        for (size_t p = 0; p < n_in; p++) sum += (double)x[r * n_in + p] * (double)linear->weight[c % n_out * n_in + p];
        if (kind != CLIPC__NO_ACTIVATION) sum = activation(kind, sum);
        if (add) sum += before[r * n_out * n_linears + c];
        assert_near(y[r * n_out * n_linears + c], sum, 3e-5, "linear");
      }
    for (size_t l = 0; l < n_linears; l++) {
      free_floats((float *)(uintptr_t)linears[l].weight, n_out * n_in);
      if (linears[l].bias) free_floats((float *)(uintptr_t)linears[l].bias, n_out);
    }
    free_floats(x, rows * n_in);
    free_floats(y, n_y);
    free_floats(before, n_y);
  }
}

/* One query of one head, by the definition. */
static void attend(double *out, const float *q, const float *k, const float *v, size_t stride, size_t n_keys,
                   size_t head_dim) {
  double scores[200], largest = -1e30, sum = 0;
  for (size_t j = 0; j < n_keys; j++) {
    scores[j] = 0;
    for (size_t d = 0; d < head_dim; d++) scores[j] += (double)q[d] * (double)k[j * stride + d];
    scores[j] /= sqrt((double)head_dim);
    largest = fmax(largest, scores[j]);
  }
  for (size_t j = 0; j < n_keys; j++) sum += scores[j] = exp(scores[j] - largest);
  for (size_t d = 0; d < head_dim; d++) {
    out[d] = 0;
    for (size_t j = 0; j < n_keys; j++) out[d] += scores[j] / sum * (double)v[j * stride + d];
  }
}

static void attention_of_packed_sequences(void **state) {
  (void)state;
  struct clipc__kernels kernels;
  clipc__kernels_init(&kernels, CLIPC_TIER_BEST);
  for (int i = 0; i < 30; i++) {
    size_t n = random_size(4), n_heads = random_size(4), head_dim = random_size(24), width = n_heads * head_dim;
    size_t start[5] = {0}, pooled[4], longest = 0;
    for (size_t s = 0; s < n; s++) {
      size_t length = random_size(i % 4 ? 30 : 180);
      pooled[s] = random_below(length);
      start[s + 1] = start[s] + length;
      longest = length > longest ? length : longest;
    }
    bool causal = i % 2, pool = i % 3 == 0;
    size_t rows = start[n], n_queries = pool ? n : rows;
    struct clipc__sequences sequences = {n, start, causal};
    struct clipc__compute compute = {&kernels, 1 + i % 3};
    size_t n_scratch = (size_t)compute.n_threads * clipc__attention_scratch(longest);
    float *qkv = make_floats(rows * 3 * width), *q = make_floats(n_queries * width),
          *out = make_floats(n_queries * width);
    float *scratch = make_floats(n_scratch);
    clipc__attention(&compute, out, width, q, width, qkv + width, qkv + 2 * width, 3 * width, n_heads, head_dim,
                     &sequences, pool ? pooled : NULL, scratch, longest);
    for (size_t s = 0; s < n; s++)
      for (size_t t = 0; t < start[s + 1] - start[s]; t++) {
        if (pool && t != pooled[s]) continue;
        size_t row = pool ? s : start[s] + t;
        for (size_t h = 0; h < n_heads; h++) {
          double expected[24];
          const float *k = qkv + start[s] * 3 * width + width + h * head_dim;
          attend(expected, q + row * width + h * head_dim, k, k + width, 3 * width,
                 causal ? t + 1 : start[s + 1] - start[s], head_dim);
          for (size_t d = 0; d < head_dim; d++)
            assert_near(out[row * width + h * head_dim + d], expected[d], 2e-6, "attention");
        }
      }
    free_floats(qkv, rows * 3 * width);
    free_floats(q, n_queries * width);
    free_floats(out, n_queries * width);
    free_floats(scratch, n_scratch);
  }
}

/* OpenBLAS builds differ in whether they may be called by several threads at once: the sums of small integers are
 * exact, so any mixing of two products shows. */
struct product_race {
  const struct clipc__kernels *kernels;
  int n_wrong;
};

#define RACE_SIZE 96
static void *race_products(void *context) {
  struct product_race *race = context;
  static _Thread_local float x[RACE_SIZE * RACE_SIZE], w[RACE_SIZE * RACE_SIZE], y[RACE_SIZE * RACE_SIZE],
      expected[RACE_SIZE * RACE_SIZE];
  size_t own = (size_t)&x[0] >> 4;
  for (size_t i = 0; i < RACE_SIZE * RACE_SIZE; i++) {
    x[i] = (float)((i * 7 + own) % 23) - 11.0f;
    w[i] = (float)((i * 5 + own) % 19) - 9.0f;
  }
  for (size_t i = 0; i < RACE_SIZE; i++)
    for (size_t j = 0; j < RACE_SIZE; j++) {
      expected[i * RACE_SIZE + j] = 0.0f;
      for (size_t p = 0; p < RACE_SIZE; p++) expected[i * RACE_SIZE + j] += x[i * RACE_SIZE + p] * w[j * RACE_SIZE + p];
    }
  for (int i = 0; i < 4000; i++) {
    race->kernels->gemm_nt_f32(y, RACE_SIZE, x, RACE_SIZE, w, RACE_SIZE, RACE_SIZE, RACE_SIZE, RACE_SIZE, false);
    if (memcmp(y, expected, sizeof y) != 0) __atomic_fetch_add(&race->n_wrong, 1, __ATOMIC_RELAXED);
  }
  return NULL;
}

static void products_of_many_threads_stay_apart(void **state) {
  (void)state;
  struct clipc__kernels kernels;
  clipc__kernels_init(&kernels, CLIPC_TIER_BEST);
  struct product_race race = {&kernels, 0};
  pthread_t threads[6];
  for (int i = 0; i < 6; i++) assert_int_equal(pthread_create(&threads[i], NULL, race_products, &race), 0);
  for (int i = 0; i < 6; i++) pthread_join(threads[i], NULL);
  assert_int_equal(race.n_wrong, 0);
}

static int start(void **state) {
  (void)state;
  random_start(1);
  print_message("%s\n", clipc__kernels_build());
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(products),
      cmocka_unit_test(layer_norms),
      cmocka_unit_test(softmax_masks_and_scales),
      cmocka_unit_test(activations),
      cmocka_unit_test(linear_layers),
      cmocka_unit_test(attention_of_packed_sequences),
      cmocka_unit_test(products_of_many_threads_stay_apart),
  };
  return cmocka_run_group_tests(tests, start, NULL);
}
