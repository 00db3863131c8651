/* What happens to rows of floats between products: finish, activations, layer norm, softmax, transposing. An output has
 * the same bits wherever it stands: at another address, in the body of a vector or in its tail. */
#include "checkasm.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool same_bits(float a, float b) { return memcmp(&a, &b, sizeof a) == 0 || (isnan(a) && isnan(b)); }

/* value against exact, where neither NaN nor infinity is within any bound of something finite. */
static bool is_near(float value, double exact, double bound) {
  if (isnan(exact)) return isnan(value);
  return isinf(exact) ? (double)value == exact : fabs((double)value - exact) <= bound;
}

/* ---- finish */

struct finish_case {
  size_t rows, cols, sums_stride, y_stride;
  bool integers;
  void *sums;
  struct clipc__finish how;
  const float *before; /* y, where it is added to */
  float *y;
};

static const char *kind_of(const struct finish_case *c) {
  return c->integers ? (c->how.add ? "integers, add" : "integers") : c->how.add ? "floats, add" : "floats";
}

/* What inputs that are all the lowest, all the highest, or all about nought make of weights that sum up to sum, the
 * most there can be: with zero * sum it fits 32 bits, and no more. */
static int32_t extreme_sum(int32_t sum, int32_t zero, bool bytes) {
  size_t which = random_below(3);
  if (which == 2) return zero * sum + (int32_t)random_below(20001) - 10000;
  return sum * (which ? (bytes ? 255 : 1023) : (bytes ? 0 : -1024));
}

static void random_case(struct finish_case *c) {
  c->integers = random_below(2);
  c->rows = random_size(16);
  c->cols = random_below(4) ? random_size(70) : random_size(600);
  c->sums_stride = c->cols + random_below(40);
  c->y_stride = c->cols + random_below(4);
  c->how.add = random_below(3) == 0;
  c->how.activation = c->how.add ? CLIPC__NO_ACTIVATION : random_below(CLIPC__N_ACTIVATIONS);
  size_t n_sums = (c->rows - 1) * c->sums_stride + c->cols, n_y = (c->rows - 1) * c->y_stride + c->cols;
  c->sums = pen(n_sums * sizeof(float), 4);
  c->y = pen(n_y * sizeof(float), 4);
  float *bias = random_below(3) ? pen(c->cols * sizeof *bias, 4) : NULL;
  if (bias) random_floats(bias, c->cols, 2.0f);
  c->how.bias = bias;
  if (!c->integers) {
    random_floats(c->sums, n_sums, 8.0f);
    if (random_below(4) == 0) ((float *)c->sums)[random_below(n_sums)] = random_below(2) ? NAN : INFINITY;
  } else {
    bool bytes = random_below(2); /* levels of 8 bits, or of 11 */
    int32_t sum = 127 * (int)CLIPC__INT8_MAX_K;
    float *scale = pen(c->cols * sizeof *scale, 4);
    int32_t *sums = pen(c->cols * sizeof *sums, 4);
    struct clipc__row_scale *row_scale = pen(c->rows * sizeof *row_scale, 4);
    for (size_t j = 0; j < c->cols; j++) {
      scale[j] = fabsf(random_float()) / 127;
      sums[j] = random_below(8) == 0 ? (random_below(2) ? sum : -sum) : (int)random_below(20000) - 10000;
    }
    for (size_t r = 0; r < c->rows; r++) {
      row_scale[r].scale = random_below(12) == 0 ? NAN : fabsf(random_float()) / 1000;
      row_scale[r].zero = bytes ? (int)random_below(256) : (int)random_below(2048) - 1024;
      for (size_t j = 0; j < c->cols; j++)
        ((int32_t *)c->sums)[r * c->sums_stride + j] =
            abs(sums[j]) == sum ? extreme_sum(sums[j], row_scale[r].zero, bytes) : (int)random_below(2000000) - 1000000;
    }
    c->how.scale = scale;
    c->how.sum = sums;
    c->how.rows = row_scale;
  }
}

static double finished(const struct finish_case *c, size_t r, size_t j, double *bound) {
  double value, before = c->how.add ? (double)c->before[r * c->y_stride + j] : 0, exact;
  *bound = 0;
  if (c->integers) {
    int64_t whole = ((const int32_t *)c->sums)[r * c->sums_stride + j];
    whole -= (int64_t)c->how.rows[r].zero * c->how.sum[j];
    value = (double)c->how.rows[r].scale * (double)c->how.scale[j] * (double)whole;
    *bound = 4 * HALF_ULP * fabs(value) + FLT_MIN;
  } else {
    value = (double)((const float *)c->sums)[r * c->sums_stride + j];
  }
  if (c->how.bias) {
    value += (double)c->how.bias[j];
    *bound = 1.01 * *bound + HALF_ULP * fabs(value) + FLT_MIN;
  }
  exact = c->how.activation ? exact_activation(c->how.activation, value) : value;
  if (c->how.activation) *bound = 1.2 * *bound + activation_bound(value);
  if (c->how.add) *bound = 1.01 * *bound + HALF_ULP * fabs(exact + before) + FLT_MIN;
  return exact + before;
}

/* One output alone, with what belongs to it, must have the bits that it has in the midst of the others. */
static void check_alone(const struct clipc__kernels *kernels, const struct finish_case *c) {
  size_t r = random_below(c->rows), j = random_below(c->cols), cols = random_size(c->cols - j);
  struct clipc__finish how = c->how;
  if (how.bias) how.bias += j;
  if (how.scale) how.scale += j, how.sum += j, how.rows += r;
  float *y = pen(cols * sizeof *y, 4);
  if (how.add) memcpy(y, c->before + r * c->y_stride + j, cols * sizeof *y);
  kernels->finish(y, cols, (const float *)c->sums + r * c->sums_stride + j, c->sums_stride, 1, cols, &how);
  size_t i = 0;
  while (i < cols && same_bits(y[i], c->y[r * c->y_stride + j + i])) i++;
  check(i == cols, "[%zu, %zu] differs when %zu columns are finished alone", r, j + i, cols);
}

void check_finish(const struct clipc__kernels *kernels, int which) {
  (void)which;
  float *before = get(16 * 604 * sizeof *before);
  for (int i = 0; i < (checkasm_quick ? 150 : 3000); i++) {
    struct finish_case c = {.before = before};
    random_case(&c);
    random_floats(before, c.rows * c.y_stride, 3.0f);
    for (size_t r = 0; c.how.add && r < c.rows; r++)
      memcpy(c.y + r * c.y_stride, before + r * c.y_stride, c.cols * sizeof *before);
    about("finish %zu x %zu, %s, activation %d%s", c.rows, c.cols, kind_of(&c), (int)c.how.activation,
          c.how.bias ? ", bias" : "");
    kernels->finish(c.y, c.y_stride, c.sums, c.sums_stride, c.rows, c.cols, &c.how);
    bool ok = true;
    for (size_t r = 0; ok && r < c.rows; r++)
      for (size_t j = 0; ok && j < c.cols; j++) {
        double bound, exact = finished(&c, r, j, &bound);
        ok = is_near(c.y[r * c.y_stride + j], exact, bound);
        if (!ok)
          check(false, "[%zu, %zu]: %.9g, should be %.9g within %.2g", r, j, (double)c.y[r * c.y_stride + j], exact,
                bound);
      }
    if (ok) check(true, "all");
    check_gaps(c.y, c.rows, c.cols, c.y_stride);
    check_alone(kernels, &c);
    pens_check();
  }
  free(before);
}

/* ---- activations */

/* The float of this number among all that are not NaN, in rising order from minus infinity. */
static float float_of_order(uint32_t order) {
  uint32_t bits = order <= 0x7f800000u ? 0xff800000u - order : order - 0x7f800001u;
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}
#define N_FLOATS 0xff000002u

/* Left of all that matters an activation goes to nought, and in the reference formulas through infinity: -inf * 0. */
static bool activation_is_right(enum clipc__activation activation, float x, float y, double *off) {
  *off = 0;
  if (x == -INFINITY) return isnan(y) || y == 0.0f;
  if (isnan(x) || isinf(x)) return isnan(x) ? isnan(y) : y == INFINITY;
  double exact = exact_activation(activation, (double)x), error = fabs((double)y - exact);
  if (error > FLT_MIN) *off = error / (HALF_ULP * fabs((double)x));
  return error <= activation_bound((double)x);
}

static void check_activation_block(const struct clipc__kernels *kernels, enum clipc__activation activation,
                                   const float *x, size_t n, double *worst, float *worst_x) {
  float *y = pen_copy(x, n * sizeof *x, 4);
  kernels->activation_f32[activation](y, n);
  size_t bad = n;
  for (size_t i = 0; i < n; i++) {
    double off;
    if (!activation_is_right(activation, x[i], y[i], &off) && bad == n) bad = i;
    if (off > *worst) *worst = off, *worst_x = x[i];
  }
  check(bad == n, "of %.9g is %.9g, should be %.9g", bad < n ? (double)x[bad] : 0, bad < n ? (double)y[bad] : 0,
        bad < n ? exact_activation(activation, (double)x[bad]) : 0);
  size_t at = random_below(n), n_alone = random_size(n - at < 20 ? n - at : 20);
  float *alone = pen_copy(x + at, n_alone * sizeof *x, 4);
  kernels->activation_f32[activation](alone, n_alone);
  size_t i = 0;
  while (i < n_alone && same_bits(alone[i], y[at + i])) i++;
  check(i == n_alone, "of %.9g differs among %zu numbers", i < n_alone ? (double)x[at + i] : 0, n_alone);
  pens_check();
}

void check_activation(const struct clipc__kernels *kernels, int which) {
  enum clipc__activation activation = (enum clipc__activation)which;
  float x[600], worst_x = 0;
  double worst = 0;
  for (size_t n = 1; n <= 70; n++) {
    about("%zu numbers", n);
    random_floats(x, n, 6.0f);
    if (random_below(3) == 0) x[random_below(n)] = NAN;
    check_activation_block(kernels, activation, x, n, &worst, &worst_x);
  }
  about("everywhere"); /* all floats in even steps from -inf to inf, with the ends */
  uint32_t step = (checkasm_quick ? 60000u : 700u) + (uint32_t)random_below(101);
  for (uint32_t order = 0; order < N_FLOATS - 600 * step; order += 600 * step) {
    for (uint32_t i = 0; i < 600; i++) x[i] = float_of_order(order + i * step);
    check_activation_block(kernels, activation, x, 600, &worst, &worst_x);
  }
  for (uint32_t i = 0; i < 600; i++) x[i] = float_of_order(N_FLOATS - 1 - i * step);
  check_activation_block(kernels, activation, x, 600, &worst, &worst_x);
  about("between -100 and 100");
  for (int i = 0; i < (checkasm_quick ? 20 : 4000); i++) {
    float range = i % 3 == 0 ? 100.0f : i % 3 == 1 ? 12.0f : 2.0f;
    random_floats(x, 600, range);
    check_activation_block(kernels, activation, x, 600, &worst, &worst_x);
  }
  note("off by at most %.2f half ulps of x (8 are allowed), at %.6g", worst, (double)worst_x);
}

/* ---- layer norm */

enum norm_kind { NORM_PLAIN, NORM_FAR, NORM_CONSTANT, NORM_LARGE, NORM_SMALL, NORM_OUTLIERS, NORM_NAN, NORM_KINDS };

static void random_norm_row(float *x, size_t cols, enum norm_kind kind) {
  float size = kind == NORM_LARGE ? 1e15f : kind == NORM_SMALL ? 1e-20f : 3.0f, mean = 0.0f;
  if (kind == NORM_FAR) mean = 1e4f * random_float();
  if (kind == NORM_CONSTANT) size = 0.0f, mean = 1000.0f * random_float();
  random_floats(x, cols, size);
  for (size_t i = 0; i < cols; i++) x[i] += mean;
  for (int i = 0; i < 4 && kind == NORM_OUTLIERS; i++) x[random_below(cols)] *= 300.0f;
  if (kind == NORM_NAN) x[random_below(cols)] = random_below(2) ? NAN : INFINITY;
}

/* One row against the definition; returns whether all is well. */
static bool norm_row_is_right(const float *y, const float *x, const float *weight, const float *bias, size_t cols,
                              double eps) {
  double mean = 0, variance = 0, largest = 0;
  for (size_t i = 0; i < cols; i++) mean += (double)x[i] / (double)cols;
  for (size_t i = 0; i < cols; i++) {
    variance += ((double)x[i] - mean) * ((double)x[i] - mean) / (double)cols;
    largest = fmax(largest, fabs((double)x[i]));
  }
  double factor = 1 / sqrt(variance + eps);
  for (size_t i = 0; i < cols; i++) {
    double normal = ((double)x[i] - mean) * factor, exact = normal;
    /* the mean, from sums in f32 in some vectors' lanes, rounded; x less the mean, rounded; then a few roundings */
    double bound = 16 * HALF_ULP * fabs(mean) * factor + HALF_ULP * largest * factor + 8 * HALF_ULP * fabs(normal);
    if (weight) {
      exact = normal * (double)weight[i] + (double)bias[i];
      bound = bound * fabs((double)weight[i]) + 2 * HALF_ULP * (fabs(normal * (double)weight[i]) + fabs(exact));
    }
    if (is_near(y[i], exact, bound + FLT_MIN)) continue;
    check(false, "[%zu]: %.9g, should be %.9g within %.2g", i, (double)y[i], exact, bound);
    return false;
  }
  return true;
}

static void check_norm_of(const struct clipc__kernels *kernels, size_t cols, enum norm_kind kind) {
  size_t rows = random_size(5), x_stride = cols + random_below(5), y_stride = cols + random_below(5);
  size_t n_x = (rows - 1) * x_stride + cols, n_y = (rows - 1) * y_stride + cols;
  static const float epsilons[] = {1e-5f, 1e-6f, 1e-12f};
  float eps = epsilons[random_below(3)], *x = pen(n_x * sizeof *x, 4), *y = pen(n_y * sizeof *y, 4);
  bool affine = random_below(2), ok = true;
  float *weight = affine ? pen(cols * sizeof *weight, 4) : NULL, *bias = affine ? pen(cols * sizeof *bias, 4) : NULL;
  if (affine) random_floats(weight, cols, 2.0f), random_floats(bias, cols, 1.0f);
  for (size_t r = 0; r < rows; r++) random_norm_row(x + r * x_stride, cols, r % 2 ? NORM_PLAIN : kind);
  about("layer norm of %zu rows of %zu, kind %d, eps %g%s", rows, cols, (int)kind, (double)eps,
        affine ? ", affine" : "");
  kernels->layer_norm_f32(y, y_stride, x, x_stride, weight, bias, rows, cols, eps);
  for (size_t r = 0; ok && r < rows; r++)
    ok = norm_row_is_right(y + r * y_stride, x + r * x_stride, weight, bias, cols, (double)eps);
  if (ok) check(true, "all");
  check_gaps(y, rows, cols, y_stride);
  size_t r = random_below(rows);
  kernels->layer_norm_f32(x + r * x_stride, cols, x + r * x_stride, cols, weight, bias, 1, cols, eps); /* in place */
  size_t i = 0;
  while (i < cols && same_bits(x[r * x_stride + i], y[r * y_stride + i])) i++;
  check(i == cols, "[%zu, %zu] differs in place and alone", r, i);
  pens_check();
}

void check_layer_norm(const struct clipc__kernels *kernels, int which) {
  (void)which;
  for (enum norm_kind kind = 0; kind < NORM_KINDS; kind++) {
    for (size_t cols = 1; cols <= (checkasm_quick ? 40 : 140); cols++) check_norm_of(kernels, cols, kind);
    for (int i = 0; i < (checkasm_quick ? 2 : 30); i++) check_norm_of(kernels, random_size(1300), kind);
    check_norm_of(kernels, 768, kind);
  }
}

/* ---- softmax */

enum softmax_kind { SOFT_PLAIN, SOFT_EQUAL, SOFT_WIDE, SOFT_LARGE, SOFT_MASKED, SOFT_NAN, SOFT_KINDS };

static void random_scores(float *x, size_t n, enum softmax_kind kind) {
  float size = kind == SOFT_WIDE ? 90.0f : kind == SOFT_LARGE ? 1e30f : 6.0f, equal = 50.0f * random_float();
  random_floats(x, n, size);
  for (size_t i = 0; i < n; i++) {
    if (kind == SOFT_EQUAL) x[i] = equal;
    if (kind == SOFT_MASKED && i > 0 && random_below(2)) x[i] = -INFINITY;
  }
  if (kind == SOFT_NAN) x[random_below(n)] = NAN;
}

static void check_softmax_of(const struct clipc__kernels *kernels, size_t n, enum softmax_kind kind) {
  size_t n_all = n + (random_below(2) ? random_below(40) : 0), bad = n_all;
  float *x = pen(n_all * sizeof *x, 4), *y = pen(n_all * sizeof *y, 4), *shorter = pen(n * sizeof *y, 4);
  random_floats(x, n_all, 1e6f); /* what is masked must not matter */
  random_scores(x, n, kind);
  memcpy(y, x, n_all * sizeof *x);
  memcpy(shorter, x, n * sizeof *x);
  about("softmax of %zu of %zu, kind %d", n, n_all, (int)kind);
  kernels->softmax_f32(y, n, n_all);
  double largest = -INFINITY, sum = 0;
  for (size_t i = 0; i < n; i++) largest = isnan(x[i]) ? NAN : fmax(largest, (double)x[i]);
  for (size_t i = 0; i < n; i++) sum += exp((double)x[i] - largest);
  for (size_t i = 0; bad == n_all && i < n_all; i++) {
    double below = i < n ? (double)x[i] - largest : -INFINITY,
           exact = kind == SOFT_NAN && i < n ? (double)NAN : exp(below) / sum;
    double bound = ((6 - fmax(below, -110)) * HALF_ULP + sum_bound(n)) * exact + 2 * FLT_MIN;
    if (i >= n ? y[i] != 0.0f : !is_near(y[i], exact, bound)) bad = i;
  }
  check(bad == n_all, "[%zu]: %.9g, should be %.9g", bad, bad < n_all ? (double)y[bad] : 0,
        bad < n ? exp((double)x[bad] - largest) / sum : 0);
  kernels->softmax_f32(shorter, n, n);
  size_t i = 0;
  while (i < n && same_bits(shorter[i], y[i])) i++;
  check(i == n, "[%zu] differs when nothing is masked", i);
  pens_check();
}

void check_softmax(const struct clipc__kernels *kernels, int which) {
  (void)which;
  for (enum softmax_kind kind = 0; kind < SOFT_KINDS; kind++) {
    for (size_t n = 1; n <= (checkasm_quick ? 40 : 140); n++) check_softmax_of(kernels, n, kind);
    for (int i = 0; i < (checkasm_quick ? 3 : 60); i++) check_softmax_of(kernels, random_size(1100), kind);
  }
}

/* ---- transpose */

static void check_transpose_of(const struct clipc__kernels *kernels, size_t rows, size_t cols) {
  size_t x_stride = cols + random_below(9), y_stride = rows + random_below(9);
  size_t n_x = (rows - 1) * x_stride + cols, n_y = (cols - 1) * y_stride + rows, wrong = 0;
  float *x = pen(n_x * sizeof *x, 4), *y = pen(n_y * sizeof *y, 4);
  random_floats(x, n_x, 1.0f);
  about("transpose of %zu x %zu, strides %zu and %zu", rows, cols, x_stride, y_stride);
  kernels->transpose_f32(y, y_stride, x, x_stride, rows, cols);
  for (size_t i = 0; i < rows; i++)
    for (size_t j = 0; j < cols; j++) wrong += !same_bits(y[j * y_stride + i], x[i * x_stride + j]);
  check(wrong == 0, "%zu of %zu numbers are not where they belong", wrong, rows * cols);
  check_gaps(y, cols, rows, y_stride);
  pens_check();
}

void check_transpose(const struct clipc__kernels *kernels, int which) {
  (void)which;
  for (int i = 0; i < (checkasm_quick ? 60 : 600); i++) check_transpose_of(kernels, random_size(40), random_size(90));
}

/* ---- peak */

void check_peak(const struct clipc__kernels *kernels, int which) {
  (void)which;
  for (int precision = 0; precision < 3; precision++) {
    if (kernels->peak[precision] == NULL) continue;
    about("peak %d", precision);
    double operations = kernels->peak[precision](random_size(1000));
    check(operations > 0 && operations == kernels->peak[precision](0), "%g operations a round", operations);
  }
}
