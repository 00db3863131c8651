/* The drivers that share layers out to threads, and repacking, against the definition in double precision: every tier
 * of this CPU, every precision, any number of threads. The kernels themselves are checkasm's part. */
#include "base/threads.h"
#include "kernels/kernels.h"
#include "testing.h"

#include <float.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t random_size(size_t n) { return 1 + random_below((uint32_t)n); }

/* ---- tables */

static struct {
  const char *name;
  struct clipc__kernels kernels;
} tables[16];
static size_t n_tables;

static void find_tables(void) {
  unsigned cpu = clipc__cpu_mask();
  n_tables = 0;
  for (int tier = CLIPC_TIER_PLAIN_C; tier < 32; tier++) {
    unsigned mask = clipc__tier_mask((clipc_tier)tier) & cpu;
    if (clipc__tier_of(mask) != (clipc_tier)tier) continue;
    tables[n_tables].name = clipc_tier_name((clipc_tier)tier);
    clipc__kernels_init(&tables[n_tables++].kernels, mask, false);
  }
  if (!clipc__has_blas()) return;
  tables[n_tables].name = "openblas";
  clipc__kernels_init(&tables[n_tables++].kernels, 0, true);
}

/* ---- memory */

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
  if (floats == NULL) return;
  for (size_t i = 1; i <= GUARD + 1; i++) assert_true(floats[-(ptrdiff_t)i] == 12345.0f);
  for (size_t i = 0; i < GUARD; i++) assert_true(floats[n + i] == 12345.0f);
  free(floats - GUARD - 1);
}

/* Bytes aligned to 64, as floats NaN, with guards behind. */
static char *make_bytes(size_t n_bytes) {
  char *bytes = aligned_alloc(64, (n_bytes + 64 + 63) / 64 * 64);
  assert_non_null(bytes);
  memset(bytes, 0xff, n_bytes + 64);
  return bytes;
}

static void free_bytes(char *bytes, size_t n_bytes) {
  for (size_t i = 0; i < 64; i++) assert_int_equal((uint8_t)bytes[n_bytes + i], 0xff);
  free(bytes);
}

static void assert_near(double value, double expected, double bound, const char *table, const char *what) {
  if (!(fabs(value - expected) <= bound))
    fail_msg("%s, %s: %.9g, expected %.9g within %.3g", table, what, value, expected, bound);
}

/* What layers run on. */
static struct clipc__compute make_compute(const struct clipc__kernels *kernels, int n_threads, size_t max_rows,
                                          size_t n_in, size_t scratch_bytes) {
  struct clipc__compute compute = {.kernels = kernels, .n_threads = n_threads};
  compute.scratch_bytes = (scratch_bytes + 63) / 64 * 64;
  compute.prepared = make_bytes(max_rows * clipc__input_stride(n_in));
  compute.row_scale = malloc(max_rows * sizeof *compute.row_scale);
  compute.scratch = make_bytes((size_t)n_threads * compute.scratch_bytes);
  assert_non_null(compute.row_scale);
  return compute;
}

static void free_compute(struct clipc__compute *compute, size_t max_rows, size_t n_in) {
  free_bytes(compute->prepared, max_rows * clipc__input_stride(n_in));
  free_bytes(compute->scratch, (size_t)compute->n_threads * compute->scratch_bytes);
  free(compute->row_scale);
}

/* ---- packed layers */

struct test_layer {
  struct clipc__linear linear;
  size_t panel_bytes, n_cols; /* of all panels */
  char *panels;
  float *bias, *scale;
  int32_t *sum;
};

static struct test_layer empty_layer(const struct clipc__gemm *gemm, size_t n_out, size_t n_in, bool bias) {
  struct test_layer layer = {.n_cols = clipc__n_panels(gemm, n_out) * gemm->panel_cols};
  layer.panel_bytes = clipc__n_panels(gemm, n_out) * clipc__panel_bytes(gemm, n_in);
  layer.panels = make_bytes(layer.panel_bytes);
  if (bias) layer.bias = make_floats(layer.n_cols);
  if (gemm->weights == CLIPC__S8) {
    layer.scale = make_floats(layer.n_cols);
    layer.sum = malloc(layer.n_cols * sizeof *layer.sum);
    assert_non_null(layer.sum);
  }
  layer.linear = (struct clipc__linear){gemm, n_out, n_in, layer.panels, layer.bias, layer.scale, layer.sum};
  return layer;
}

static struct test_layer make_layer(const struct clipc__gemm *gemm, size_t n_out, size_t n_in, bool has_bias) {
  struct test_layer layer = empty_layer(gemm, n_out, n_in, has_bias);
  float *w = make_floats(n_out * n_in), *bias = has_bias ? make_floats(n_out) : NULL;
  struct clipc__linear_source source = {.w = w, .w_stride = n_in, .bias = bias, .factor = 1.0f};
  for (size_t panel = 0; panel < clipc__n_panels(gemm, n_out); panel++)
    clipc__pack_panel(gemm, n_out, n_in, panel, layer.panels, layer.bias, layer.scale, layer.sum, &source);
  free_floats(w, n_out * n_in);
  free_floats(bias, n_out);
  return layer;
}

static void free_layer(struct test_layer *layer) {
  free_bytes(layer->panels, layer->panel_bytes);
  free_floats(layer->bias, layer->n_cols);
  free_floats(layer->scale, layer->n_cols);
  free(layer->sum);
}

/* Weight p of column col as it is packed, in steps where weights are integers. */
static double packed_weight(const struct clipc__linear *linear, size_t col, size_t p) {
  const struct clipc__gemm *gemm = linear->gemm;
  size_t k = clipc__k_padded(gemm, linear->n_in), group = gemm->group ? gemm->group : k, cols = gemm->panel_cols;
  const char *panel = (const char *)linear->panels + col / cols * clipc__panel_bytes(gemm, linear->n_in);
  size_t at = (p / group * cols + col % cols) * group + p % group;
  if (gemm->weights == CLIPC__S8) return ((const int8_t *)panel)[at];
  if (gemm->weights == CLIPC__F32) return (double)((const float *)panel)[at];
  uint32_t bits = (uint32_t)((const uint16_t *)panel)[at] << 16;
  float value;
  memcpy(&value, &bits, sizeof value);
  return (double)value;
}

static double exact_activation(enum clipc__activation kind, double x) {
  if (kind == CLIPC__QUICK_GELU) return x / (1 + exp(-1.702 * x));
  if (kind == CLIPC__GELU_ERF) return 0.5 * x * (1 + erf(x / sqrt(2)));
  if (kind == CLIPC__GELU_TANH) return 0.5 * x * (1 + tanh(sqrt(2 / acos(-1)) * (x + 0.044715 * x * x * x)));
  return x;
}

/* ---- linear layers */

struct layer_case {
  const char *table;
  size_t rows, n_in, n_out, n_linears, y_stride;
  bool add;
  enum clipc__activation activation;
  struct clipc__rows x;
  struct test_layer layers[3];
  const float *before; /* y, where it is added to */
};

/* Row r of x as the layer sees it, and what rounding may do to it. */
static double layer_input(double *in, const struct layer_case *c, size_t r) {
  const struct clipc__gemm *gemm = c->layers[0].linear.gemm;
  const float *x = c->x.x + r * c->x.stride;
  double mean = 0, variance = 0, low = 0, high = 0;
  for (size_t p = 0; p < c->n_in; p++) in[p] = (double)x[p];
  for (size_t p = 0; p < c->n_in; p++) mean += in[p] / (double)c->n_in;
  for (size_t p = 0; p < c->n_in; p++) variance += (in[p] - mean) * (in[p] - mean) / (double)c->n_in;
  for (size_t p = 0; p < c->n_in; p++) {
    if (c->x.normalize) in[p] = (in[p] - mean) / sqrt(variance + (double)c->x.eps);
    low = fmin(low, in[p]);
    high = fmax(high, in[p]);
  }
  double off = (c->x.normalize ? 4e-6 : 0) + 1e-7;
  if (gemm->n_levels > 0) return 0.501 * (high - low) / gemm->n_levels + off;
  return (gemm->input == CLIPC__BF16 ? 0x1.01p-8 * fmax(high, -low) : 0) + off;
}

static void check_layer_row(const struct layer_case *c, const float *y, size_t r) {
  double *in = malloc(c->n_in * sizeof *in);
  assert_non_null(in);
  double off = layer_input(in, c, r);
  for (size_t col = random_below(3); col < c->n_out * c->n_linears; col += 1 + random_below(7)) {
    const struct clipc__linear *linear = &c->layers[col / c->n_out].linear;
    size_t j = col % c->n_out;
    double scale = linear->scale ? (double)linear->scale[j] : 1, sum = linear->bias ? (double)linear->bias[j] : 0;
    double bound = 1e-5 + 1e-6 * fabs(sum);
    for (size_t p = 0; p < c->n_in; p++) {
      double w = packed_weight(linear, j, p) * scale;
      sum += w * in[p];
      bound += fabs(w) * (off + 1e-6 * fabs(in[p]));
    }
    sum = exact_activation(c->activation, sum) + (c->add ? (double)c->before[r * c->y_stride + col] : 0);
    assert_near((double)y[r * c->y_stride + col], sum, 1.2 * bound, c->table, "linear");
  }
  free(in);
}

/* Some rows of the same layers alone, on other threads: the same bits. */
static void check_rows_alone(const struct clipc__kernels *kernels, const struct layer_case *c, const float *y) {
  size_t first = random_below((uint32_t)c->rows), n = random_size(c->rows - first), width = c->n_linears * c->n_out;
  const struct clipc__gemm *gemm = c->layers[0].linear.gemm;
  int n_threads = 1 + (int)random_below(3);
  struct clipc__compute compute = make_compute(kernels, n_threads, n, c->n_in, clipc__linear_scratch(gemm, c->n_in));
  struct clipc__linear linears[3];
  float *alone = make_floats(n * width);
  for (size_t l = 0; l < c->n_linears; l++) linears[l] = c->layers[l].linear;
  for (size_t r = 0; c->add && r < n; r++)
    memcpy(alone + r * width, c->before + (first + r) * c->y_stride, width * sizeof *alone);
  struct clipc__rows x = c->x;
  x.x += first * x.stride;
  x.n = n;
  clipc__linear_forward(&compute, alone, width, &x, linears, c->n_linears, c->activation,
                        c->add ? CLIPC__ADD : CLIPC__STORE);
  for (size_t r = 0; r < n; r++)
    if (memcmp(alone + r * width, y + (first + r) * c->y_stride, width * sizeof *y) != 0)
      fail_msg("%s: row %zu of %zu differs among %zu rows on %d threads", c->table, first + r, c->rows, n, n_threads);
  free_floats(alone, n * width);
  free_compute(&compute, n, c->n_in);
}

static void check_layers(size_t table, int precision, int i) {
  const struct clipc__kernels *kernels = &tables[table].kernels;
  const struct clipc__gemm *gemm = &kernels->gemm[precision];
  struct layer_case c = {.table = tables[table].name,
                         .rows = i % 10 == 0 ? 500 : random_size(i % 2 ? 60 : 8),
                         .n_in = random_size(i % 5 ? 120 : 1100),
                         .n_out = random_size(i % 3 ? 90 : 300),
                         .n_linears = 1 + (size_t)i % 3,
                         .add = i % 4 == 3};
  size_t width = c.n_out * c.n_linears, stride = c.n_in + random_below(3);
  c.y_stride = width + random_below(3);
  c.activation = c.add ? CLIPC__NO_ACTIVATION : (enum clipc__activation)random_below(CLIPC__N_ACTIVATIONS);
  size_t n_x = c.rows * stride, n_y = c.rows * c.y_stride;
  float *x = make_floats(n_x), *y = make_floats(n_y), *before = make_floats(n_y);
  memcpy(before, y, n_y * sizeof *y);
  c.before = before;
  c.x = (struct clipc__rows){.x = x, .stride = stride, .n = c.rows, .normalize = i % 3 == 1, .eps = 1e-5f};
  struct clipc__linear linears[3];
  for (size_t l = 0; l < c.n_linears; l++) {
    c.layers[l] = make_layer(gemm, c.n_out, c.n_in, l != 1);
    linears[l] = c.layers[l].linear;
  }
  struct clipc__compute compute = make_compute(kernels, 1 + i % 4, c.rows, c.n_in, clipc__linear_scratch(gemm, c.n_in));
  clipc__linear_forward(&compute, y, c.y_stride, &c.x, linears, c.n_linears, c.activation,
                        c.add ? CLIPC__ADD : CLIPC__STORE);
  for (size_t r = 0; r<c.rows; r += c.rows> 100 ? 1 + random_below(30) : 1) check_layer_row(&c, y, r);
  for (size_t r = 0; r < c.rows; r++)
    for (size_t col = width; col < c.y_stride; col++) /* the gap between rows */
      assert_true(y[r * c.y_stride + col] == before[r * c.y_stride + col]);
  if (gemm->group != 0) check_rows_alone(kernels, &c, y); /* OpenBLAS promises no bits */
  for (size_t l = 0; l < c.n_linears; l++) free_layer(&c.layers[l]);
  free_compute(&compute, c.rows, c.n_in);
  free_floats(x, n_x);
  free_floats(y, n_y);
  free_floats(before, n_y);
}

static void linear_layers(void **state) {
  (void)state;
  for (size_t table = 0; table < n_tables; table++)
    for (int precision = 0; precision < 3; precision++)
      for (int i = 0; i < 30; i++) check_layers(table, precision, i);
}

/* ---- levels */

/* The layer over rows of random levels within low .. high; y of the whole matrix. */
static void forward_levels(float *y, const struct clipc__compute *compute, const struct test_layer *layer,
                           const float *x, size_t rows, bool levels) {
  struct clipc__rows in = {.x = x, .stride = layer->linear.n_in, .n = rows, .levels = levels};
  clipc__linear_forward(compute, y, layer->linear.n_out, &in, &layer->linear, 1, CLIPC__NO_ACTIVATION, CLIPC__STORE);
}

/* Nothing is rounded but the finished sum, however narrow the range of a row. */
static void check_exact_levels(const char *table, const struct test_layer *layer, const float *levels, const float *y,
                               size_t rows) {
  const struct clipc__linear *linear = &layer->linear;
  for (size_t i = 0; i < rows * linear->n_out; i++) {
    size_t col = i % linear->n_out;
    int32_t sum = 0;
    for (size_t p = 0; p < linear->n_in; p++)
      sum += (int32_t)levels[i / linear->n_out * linear->n_in + p] * (int32_t)packed_weight(linear, col, p);
    float expected = (float)sum * linear->scale[col];
    if (y[i] != expected) fail_msg("%s: %.9g, expected exactly %.9g", table, (double)y[i], (double)expected);
  }
}

static void levels_are_exact(void **state) {
  (void)state;
  for (size_t i = 0; i < 12 * n_tables; i++) {
    const char *table = tables[i / 12].name;
    const struct clipc__kernels *kernels = &tables[i / 12].kernels;
    const struct clipc__gemm *gemm = &kernels->gemm[CLIPC_PRECISION_INT8];
    size_t rows = random_size(40), n_in = i % 12 ? random_size(300) : 3072, n_out = random_size(70), n = rows * n_in;
    struct test_layer layer = make_layer(gemm, n_out, n_in, false);
    float *levels = make_floats(n), *near = make_floats(n), *y = make_floats(rows * n_out),
          *other = make_floats(rows * n_out);
    struct clipc__compute compute =
        make_compute(kernels, 1 + (int)i % 3, rows, n_in, clipc__linear_scratch(gemm, n_in));
    for (size_t p = 0; p < n; p++) {
      uint32_t range = p / n_in % 3 == 0 ? 256 : p / n_in % 3 == 1 ? 17 : 1;
      levels[p] = (float)random_below(range) - 128.0f + (float)(p / n_in % 239 * (range < 256));
      near[p] = levels[p] + 1e-4f * random_float();
    }
    forward_levels(y, &compute, &layer, levels, rows, true);
    check_exact_levels(table, &layer, levels, y, rows);
    forward_levels(y, &compute, &layer, near, rows, true); /* as somebody's scaling to and fro leaves them */
    check_exact_levels(table, &layer, levels, y, rows);
    static const float others[] = {127.5f, 128.0f, -129.0f, 0.002f, 1e9f, -3e38f, INFINITY, NAN};
    for (size_t r = 0; r < rows; r++) levels[r * n_in + random_below((uint32_t)n_in)] = others[random_below(8)];
    forward_levels(y, &compute, &layer, levels, rows, true); /* then a row is as any */
    forward_levels(other, &compute, &layer, levels, rows, false);
    for (size_t p = 0; p < rows * n_out; p++)
      if (y[p] != other[p] && !(isnan(y[p]) && isnan(other[p]))) fail_msg("%s: rows that are not levels", table);
    free_compute(&compute, rows, n_in);
    free_floats(levels, n), free_floats(near, n);
    free_floats(y, rows * n_out), free_floats(other, rows * n_out);
    free_layer(&layer);
  }
}

/* ---- layer norm */

static void layer_norms(void **state) {
  (void)state;
  for (size_t table = 0; table < n_tables; table++)
    for (int i = 0; i < 12; i++) {
      size_t rows = random_size(i % 2 ? 5 : 300), cols = random_size(400), n = rows * cols;
      float *x = make_floats(n), *y = make_floats(n), *weight = make_floats(cols), *bias = make_floats(cols);
      struct clipc__compute compute = {.kernels = &tables[table].kernels, .n_threads = 1 + i % 3};
      clipc__layer_norm(&compute, y, x, weight, bias, rows, cols, 1e-5f);
      for (size_t r = 0; r < rows; r++) {
        double mean = 0, variance = 0;
        for (size_t j = 0; j < cols; j++) mean += (double)x[r * cols + j] / (double)cols;
        for (size_t j = 0; j < cols; j++)
          variance += ((double)x[r * cols + j] - mean) * ((double)x[r * cols + j] - mean) / (double)cols;
        double factor = 1 / sqrt(variance + 1e-5);
        for (size_t j = 0; j < cols; j++) {
          double expected = ((double)x[r * cols + j] - mean) * factor * (double)weight[j] + (double)bias[j];
          assert_near((double)y[r * cols + j], expected, 2e-6 + 1e-6 * factor, tables[table].name, "layer_norm");
        }
      }
      clipc__layer_norm(&compute, x, x, weight, bias, rows, cols, 1e-5f); /* in place */
      assert_memory_equal(x, y, n * sizeof *x);
      free_floats(x, n);
      free_floats(y, n);
      free_floats(weight, cols);
      free_floats(bias, cols);
    }
}

/* ---- attention */

/* One query of one head, by the definition. */
static void attend(double *out, const float *q, const float *k, const float *v, size_t stride, size_t n_keys,
                   size_t head_dim) {
  double scores[300], largest = -INFINITY, sum = 0;
  for (size_t j = 0; j < n_keys; j++) {
    scores[j] = 0;
    for (size_t d = 0; d < head_dim; d++) scores[j] += (double)q[d] * (double)k[j * stride + d];
    largest = fmax(largest, scores[j]);
  }
  for (size_t j = 0; j < n_keys; j++) sum += scores[j] = exp(scores[j] - largest);
  for (size_t d = 0; d < head_dim; d++) {
    out[d] = 0;
    for (size_t j = 0; j < n_keys; j++) out[d] += scores[j] / sum * (double)v[j * stride + d];
  }
}

#define MOST_HEAD_DIM 80

static void check_attention(size_t table, int i) {
  const struct clipc__kernels *kernels = &tables[table].kernels;
  size_t n = random_size(4), n_heads = random_size(4), head_dim = random_size(i % 3 ? 24 : MOST_HEAD_DIM);
  size_t width = n_heads * head_dim, start[5] = {0}, pooled[4], longest = 0, kv_stride = 3 * width + random_below(3);
  for (size_t s = 0; s < n; s++) {
    size_t length = random_size(i % 4 ? 40 : 280);
    pooled[s] = random_below((uint32_t)length);
    start[s + 1] = start[s] + length;
    longest = length > longest ? length : longest;
  }
  bool causal = i % 2, pool = i % 3 == 0;
  size_t rows = start[n], n_queries = pool ? n : rows, out_stride = width + random_below(3);
  struct clipc__sequences sequences = {n, start, causal};
  struct clipc__compute compute =
      make_compute(kernels, 1 + i % 3, 1, 1, clipc__attention_scratch(&kernels->small, head_dim, longest));
  float *qkv = make_floats(rows * kv_stride), *q = make_floats(n_queries * width);
  float *out = make_floats(n_queries * out_stride);
  const float *k = qkv + width, *v = qkv + 2 * width;
  clipc__attention(&compute, out, out_stride, q, width, k, v, kv_stride, n_heads, head_dim, &sequences,
                   pool ? pooled : NULL);
  for (size_t s = 0; s < n; s++)
    for (size_t t = 0; t < start[s + 1] - start[s]; t++) {
      if (pool && t != pooled[s]) continue;
      size_t row = pool ? s : start[s] + t, n_keys = causal ? t + 1 : start[s + 1] - start[s];
      for (size_t h = 0; h < n_heads; h++) {
        double expected[MOST_HEAD_DIM];
        size_t at = start[s] * kv_stride + h * head_dim;
        attend(expected, q + row * width + h * head_dim, k + at, v + at, kv_stride, n_keys, head_dim);
        for (size_t d = 0; d < head_dim; d++)
          assert_near((double)out[row * out_stride + h * head_dim + d], expected[d], 4e-6, tables[table].name,
                      "attention");
      }
    }
  free_compute(&compute, 1, 1);
  free_floats(qkv, rows * kv_stride);
  free_floats(q, n_queries * width);
  free_floats(out, n_queries * out_stride);
}

static void attention_of_packed_sequences(void **state) {
  (void)state;
  for (size_t table = 0; table < n_tables; table++)
    for (int i = 0; i < 24; i++) check_attention(table, i);
}

/* ---- repacking */

/* A column moved: the same numbers, unless two neighbours come to more than the new gemm allows; then every weight is
 * rounded anew, and such a pair is cut. */
static void check_moved_column(const struct test_layer *moved, const struct test_layer *old, size_t col) {
  const struct clipc__gemm *to = moved->linear.gemm, *from = old->linear.gemm;
  bool limited = to->pair_limit > 0 && to->pair_limit != from->pair_limit;
  bool real = col < moved->linear.n_out;
  size_t n_in = moved->linear.n_in, k = clipc__k_padded(to, n_in);
  double scale = moved->scale ? (double)moved->scale[col] : 1, pair = 0, pair_was = 0;
  double scale_was = real && old->scale ? (double)old->scale[col] : scale;
  assert_true(moved->bias[col] == (real ? old->bias[col] : 0.0f));
  if (!limited) assert_true(scale == (real ? scale_was : moved->scale ? 0 : 1));
  for (size_t p = 0; p < k; p++) {
    double value = packed_weight(&moved->linear, col, p), was = 0, next = 0;
    if (real && p < n_in) was = packed_weight(&old->linear, col, p);
    if (real && p + 1 < n_in) next = packed_weight(&old->linear, col, p + 1);
    pair = p % 2 ? pair + value : value;
    if (p % 2 == 0) pair_was = fabs(was + next) * scale_was;
    if (!limited) {
      assert_true(value == was);
      continue;
    }
    double over = pair_was - (to->pair_limit - 1) * scale, off = fabs(value * scale - was * scale_was);
    assert_true(off <= 0.51 * scale + (over > 0 ? 0.5 * over + scale : 0));
    if (p % 2) assert_true(fabs(pair) <= to->pair_limit);
  }
}

static void check_repacking(const struct clipc__gemm *from, const struct clipc__gemm *to) {
  size_t n_out = random_size(150), n_in = random_size(200);
  struct test_layer old = make_layer(from, n_out, n_in, true), moved = empty_layer(to, n_out, n_in, true);
  for (size_t panel = clipc__n_panels(to, n_out); panel-- > 0;) clipc__repack_panel(&moved.linear, panel, &old.linear);
  for (size_t col = 0; col < moved.n_cols; col++) {
    double sum = 0;
    for (size_t p = 0; p < clipc__k_padded(to, n_in); p++) sum += packed_weight(&moved.linear, col, p);
    if (moved.sum) assert_true((double)moved.sum[col] == sum);
    check_moved_column(&moved, &old, col);
  }
  free_layer(&old);
  free_layer(&moved);
}

/* Between the tiers of this CPU, and between shapes that others have. */
static void weights_move_between_tiers(void **state) {
  (void)state;
  static const unsigned cols[] = {8, 16, 32, 128}, groups[] = {0, 1, 2, 4, 8};
  for (size_t from = 0; from < n_tables; from++)
    for (size_t to = 0; to < n_tables; to++)
      for (int precision = 0; precision < 3; precision++) {
        const struct clipc__gemm *a = &tables[from].kernels.gemm[precision], *b = &tables[to].kernels.gemm[precision];
        if (from == to) assert_true(clipc__packing_serves(a, b));
        check_repacking(a, b);
      }
  for (int i = 0; i < 90; i++) {
    struct clipc__gemm shapes[2] = {{.weights = CLIPC__F32 + i % 3}, {.weights = CLIPC__F32 + i % 3}};
    for (int s = 0; s < 2; s++) {
      shapes[s].panel_cols = cols[random_below(COUNT(cols))];
      shapes[s].group = groups[random_below(COUNT(groups))];
      shapes[s].pair_limit = shapes[s].weights == CLIPC__S8 && random_below(3) == 0 ? 128 : 0;
    }
    check_repacking(&shapes[0], &shapes[1]);
  }
}

/* ---- races */

/* OpenBLAS builds differ in whether they may be called by several threads at once: the sums of small integers are
 * exact, so any mixing of two products shows. */
struct product_race {
  const struct clipc__gemm *gemm;
  int n_wrong;
};

#define RACE_SIZE 96
static void *race_products(void *context) {
  struct product_race *race = context;
  static _Thread_local float x[RACE_SIZE * RACE_SIZE], w[128 * RACE_SIZE];
  static _Thread_local _Alignas(64) float panel[128 * RACE_SIZE], y[128 * RACE_SIZE], expected[128 * RACE_SIZE];
  size_t own = (size_t)&x[0] >> 4, cols = race->gemm->panel_cols, rows = race->gemm->tile_rows;
  if (rows > RACE_SIZE) rows = RACE_SIZE;
  for (size_t i = 0; i < RACE_SIZE * RACE_SIZE; i++) x[i] = (float)((i * 7 + own) % 23) - 11.0f;
  for (size_t i = 0; i < cols * RACE_SIZE; i++) w[i] = (float)((i * 5 + own) % 19) - 9.0f;
  for (size_t i = 0; i < rows; i++)
    for (size_t j = 0; j < cols; j++) {
      expected[i * cols + j] = 0.0f;
      for (size_t p = 0; p < RACE_SIZE; p++) expected[i * cols + j] += x[i * RACE_SIZE + p] * w[j * RACE_SIZE + p];
    }
  struct clipc__linear_source source = {.w = w, .w_stride = RACE_SIZE, .factor = 1.0f};
  clipc__pack_panel(race->gemm, cols, RACE_SIZE, 0, panel, NULL, NULL, NULL, &source);
  for (int i = 0; i < 3000; i++) {
    race->gemm->product(y, x, RACE_SIZE * sizeof *x, rows, panel, RACE_SIZE, panel, 0);
    if (memcmp(y, expected, rows * cols * sizeof *y) != 0) __atomic_fetch_add(&race->n_wrong, 1, __ATOMIC_RELAXED);
  }
  return NULL;
}

static void products_of_many_threads_stay_apart(void **state) {
  (void)state;
  for (size_t table = 0; table < n_tables; table++) {
    const struct clipc__gemm *gemm = &tables[table].kernels.gemm[CLIPC_PRECISION_F32];
    if (gemm->panel_cols > 128) continue;
    struct product_race race = {gemm, 0};
    pthread_t threads[6];
    for (int i = 0; i < 6; i++) assert_int_equal(pthread_create(&threads[i], NULL, race_products, &race), 0);
    for (int i = 0; i < 6; i++) pthread_join(threads[i], NULL);
    assert_int_equal(race.n_wrong, 0);
  }
}

static int start(void **state) {
  (void)state;
  random_start(1);
  find_tables();
  for (size_t i = 0; i < n_tables; i++) print_message("%s%s", tables[i].name, i + 1 < n_tables ? ", " : "\n");
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(linear_layers),
      cmocka_unit_test(levels_are_exact),
      cmocka_unit_test(layer_norms),
      cmocka_unit_test(attention_of_packed_sequences),
      cmocka_unit_test(weights_move_between_tiers),
      cmocka_unit_test(products_of_many_threads_stay_apart),
  };
  return cmocka_run_group_tests(tests, start, NULL);
}
