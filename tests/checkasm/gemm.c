/* Products: the panels that weights are packed into, the rows that inputs become, the sums, and all of it in a chain.
 * Integer sums must be exact. Sums of f32 must be within sum_bound, and exact where every partial sum is a small whole
 * number, so that a term too many or too few is seen at any k. The same row has the same bits in every tile. */
#include "checkasm.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MOST_ROWS 24 /* of a tile that are tried */

const struct clipc__gemm *gemm_of(const struct clipc__kernels *kernels, int which) {
  return which == 3 ? &kernels->small : &kernels->gemm[which];
}

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

static bool is_integer(const struct clipc__gemm *gemm) { return gemm->weights == CLIPC__S8; }

static size_t group_of(const struct clipc__gemm *gemm) { return gemm->group ? gemm->group : 1; }

static int lowest_input(const struct clipc__gemm *gemm) {
  return gemm->input == CLIPC__U8 ? 0 : -(gemm->n_levels + 1) / 2;
}

static int highest_input(const struct clipc__gemm *gemm) { return lowest_input(gemm) + gemm->n_levels; }

/* ---- numbers in any format */

static double get_number(const void *numbers, enum clipc__number format, size_t i) {
  const char *at = (const char *)numbers + i * clipc__number_bytes(format);
  float f32;
  uint16_t u16;
  uint32_t bits;
  int16_t s16;
  if (format == CLIPC__S8) return *(const int8_t *)at;
  if (format == CLIPC__U8) return *(const uint8_t *)at;
  if (format == CLIPC__S16) return memcpy(&s16, at, sizeof s16), s16;
  if (format == CLIPC__F32) return (double)(memcpy(&f32, at, sizeof f32), f32);
  memcpy(&u16, at, sizeof u16);
  bits = (uint32_t)u16 << 16;
  return (double)(memcpy(&f32, &bits, sizeof f32), f32);
}

static uint16_t bf16_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  if (isnan(value)) return (uint16_t)(bits >> 16 | 0x40);
  return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

/* Stores value as near as the format can. */
static void set_number(void *numbers, enum clipc__number format, size_t i, double value) {
  char *at = (char *)numbers + i * clipc__number_bytes(format);
  float f32 = (float)value;
  uint16_t bf16 = bf16_of(f32);
  if (format == CLIPC__F32)
    memcpy(at, &f32, sizeof f32);
  else if (format == CLIPC__BF16)
    memcpy(at, &bf16, sizeof bf16);
  else if (format == CLIPC__S16)
    memcpy(at, &(int16_t){(int16_t)value}, sizeof(int16_t));
  else if (format == CLIPC__U8)
    *(uint8_t *)at = (uint8_t)value;
  else
    *(int8_t *)at = (int8_t)value;
}

/* Where weight p of column col lies in its panel. */
static size_t panel_index(const struct clipc__gemm *gemm, size_t k, size_t p, size_t col) {
  size_t group = gemm->group ? gemm->group : k;
  return (p / group * gemm->panel_cols + col) * group + p % group;
}

/* ---- shape */

void check_shape(const struct clipc__kernels *kernels, int which) {
  static const enum clipc__number weights[] = {CLIPC__F32, CLIPC__BF16, CLIPC__S8, CLIPC__F32};
  const struct clipc__gemm *gemm = gemm_of(kernels, which);
  about("shape");
  check(gemm->name != NULL && gemm->name[0] != '\0', "no name");
  check(gemm->weights == weights[which], "weights of the wrong format");
  check(gemm->product != NULL, "no product");
  check((gemm->prepare == NULL) == (gemm->input == CLIPC__F32), "prepare and the format of inputs contradict");
  bool integers = gemm->input == CLIPC__U8 || gemm->input == CLIPC__S8 || gemm->input == CLIPC__S16;
  check(integers == is_integer(gemm), "inputs and weights do not go together");
  check(gemm->n_levels == (!integers ? 0 : gemm->input == CLIPC__S16 ? 2047 : 255), "%d levels", gemm->n_levels);
  check(gemm->tile_rows >= 1, "no rows");
  check(gemm->panel_cols >= 8 && gemm->panel_cols % 8 == 0, "%u columns", gemm->panel_cols);
  if (which == 3) check(gemm->group == 1, "attention packs in groups of one, not %u", gemm->group);
}

/* ---- packing */

struct layer {
  struct clipc__linear_source source;
  size_t n_out, n_in;
  char *panels;
  float *bias, *scale;
  int32_t *sum;
};

/* A layer of random weights, with random parts of what may be folded into it, packed. */
static struct layer random_layer(const struct clipc__gemm *gemm, size_t n_out, size_t n_in, float size) {
  struct layer layer = {.n_out = n_out, .n_in = n_in};
  struct clipc__linear_source *source = &layer.source;
  source->transposed = random_below(3) == 0;
  size_t rows = source->transposed ? n_in : n_out, cols = source->transposed ? n_out : n_in;
  source->w_stride = cols + random_below(3);
  source->factor = random_below(2) ? 0.125f * 1.4142135f : 1.0f;
  size_t n_w = (rows - 1) * source->w_stride + cols;
  float *w = pen(n_w * sizeof *w, 4), *vectors[3] = {NULL, NULL, NULL};
  size_t lengths[3] = {n_out, n_in, n_in};
  random_floats(w, n_w, size);
  bool halfway = random_below(2); /* between two bf16, often */
  for (size_t i = 0; halfway && i < n_w; i++) w[i] = roundf(w[i] * 512) / 512;
  for (int i = 0; i < 3; i++)
    if (random_below(2)) random_floats(vectors[i] = pen(lengths[i] * sizeof(float), 4), lengths[i], 1.0f);
  source->w = w;
  source->bias = vectors[0];
  source->gain = vectors[1];
  source->shift = vectors[2];
  size_t n_panels = clipc__n_panels(gemm, n_out), n_cols = n_panels * gemm->panel_cols;
  layer.panels = pen(n_panels * clipc__panel_bytes(gemm, n_in), 64);
  if (source->bias || source->shift) layer.bias = pen(n_cols * sizeof(float), 4);
  if (is_integer(gemm)) {
    layer.scale = pen(n_cols * sizeof(float), 4);
    layer.sum = pen(n_cols * sizeof(int32_t), 4);
  }
  about("pack %zu x %zu, stride %zu%s%s%s%s", n_out, n_in, source->w_stride, source->transposed ? ", transposed" : "",
        source->bias ? ", bias" : "", source->gain ? ", gain" : "", source->shift ? ", shift" : "");
  for (size_t panel = n_panels; panel-- > 0;)
    clipc__pack_panel(gemm, n_out, n_in, panel, layer.panels, layer.bias, layer.scale, layer.sum, source);
  return layer;
}

static double stored_weight(const struct layer *layer, size_t col, size_t p) {
  const struct clipc__linear_source *source = &layer->source;
  return (double)source->w[source->transposed ? p * source->w_stride + col : col * source->w_stride + p];
}

static double exact_weight(const struct layer *layer, size_t col, size_t p) {
  double gain = layer->source.gain ? (double)layer->source.gain[p] : 1.0;
  return stored_weight(layer, col, p) * gain * (double)layer->source.factor;
}

static double exact_bias(const struct layer *layer, size_t col, double *magnitude) {
  double sum = layer->source.bias ? (double)layer->source.bias[col] : 0.0, size = fabs(sum);
  for (size_t p = 0; layer->source.shift && p < layer->n_in; p++) {
    double term = stored_weight(layer, col, p) * (double)layer->source.shift[p];
    sum += term;
    size += fabs(term);
  }
  *magnitude = size * (double)layer->source.factor;
  return sum * (double)layer->source.factor;
}

static double packed_weight(const struct clipc__gemm *gemm, const struct layer *layer, size_t col, size_t p) {
  size_t cols = gemm->panel_cols;
  const char *panel = layer->panels + col / cols * clipc__panel_bytes(gemm, layer->n_in);
  return get_number(panel, gemm->weights, panel_index(gemm, clipc__k_padded(gemm, layer->n_in), p, col % cols));
}

static double wanted_weight(const struct layer *layer, size_t col, size_t p) {
  return col < layer->n_out && p < layer->n_in ? exact_weight(layer, col, p) : 0.0;
}

/* What the packed weight may be off: rounding, and where it and its neighbour are limited together, half of what the
 * two are above the limit. */
static double packed_bound(const struct clipc__gemm *gemm, const struct layer *layer, size_t col, size_t p,
                           double step) {
  double exact = wanted_weight(layer, col, p), bound = 3 * HALF_ULP * fabs(exact) + (exact != 0 ? FLT_MIN : 0);
  if (gemm->weights == CLIPC__F32) return bound;
  if (gemm->weights == CLIPC__BF16) return bound + 0x1.0001p-8 * fabs(exact);
  double pair = fabs(exact + wanted_weight(layer, col, p ^ 1)), over = pair - (gemm->pair_limit - 1) * step;
  return bound + 0.5001 * step + (gemm->pair_limit > 0 && over > 0 ? 0.5 * over + step : 0);
}

static bool is_packed_right(const struct clipc__gemm *gemm, const struct layer *layer, size_t col, size_t p,
                            double step) {
  double exact = wanted_weight(layer, col, p), value = packed_weight(gemm, layer, col, p);
  if (gemm->weights != CLIPC__S8 && layer->source.gain == NULL && layer->source.factor == 1.0f) { /* rounded once */
    float nearest;
    set_number(&nearest, gemm->weights, 0, exact);
    return value == get_number(&nearest, gemm->weights, 0);
  }
  return fabs(value * step - exact) <= packed_bound(gemm, layer, col, p, step) &&
         (gemm->weights != CLIPC__S8 || fabs(value) <= 127);
}

static void check_packed_column(const struct clipc__gemm *gemm, const struct layer *layer, size_t col) {
  double step = layer->scale ? (double)layer->scale[col] : 1.0, largest = 0.0, sum = 0.0, before = 0.0;
  size_t k = clipc__k_padded(gemm, layer->n_in), bad = k, bad_pair = k;
  for (size_t p = 0; p < k; p++) {
    double exact = wanted_weight(layer, col, p), value = packed_weight(gemm, layer, col, p);
    sum += value;
    largest = fmax(largest, fabs(exact));
    if (!is_packed_right(gemm, layer, col, p, step)) bad = p;
    if (gemm->pair_limit && p % 2 && value * before > 0 && fabs(value + before) > gemm->pair_limit) bad_pair = p;
    before = value;
  }
  check(bad == k, "column %zu: weight %zu is %g, should be %g", col, bad,
        bad < k ? packed_weight(gemm, layer, col, bad) * step : 0, bad < k ? wanted_weight(layer, col, bad) : 0);
  check(bad_pair == k, "column %zu: weight %zu and its neighbour are more than %d", col, bad_pair, gemm->pair_limit);
  if (layer->scale) {
    double finest = largest / 127, coarsest = gemm->pair_limit ? 2.01 : 1 + 4 * HALF_ULP; /* a step is chosen there */
    check(step >= finest * (1 - 4 * HALF_ULP) - FLT_MIN && step <= finest * coarsest + FLT_MIN,
          "column %zu: scale %g of %g", col, step, largest);
    check(layer->sum[col] == (int32_t)sum, "column %zu: sum %d, not %g", col, (int)layer->sum[col], sum);
  }
  if (!layer->bias) return;
  double magnitude = 0, bias = col < layer->n_out ? exact_bias(layer, col, &magnitude) : 0.0;
  check(fabs((double)layer->bias[col] - bias) <= (sum_bound(layer->n_in) + 4 * HALF_ULP) * magnitude,
        "column %zu: bias %g, should be %g", col, (double)layer->bias[col], bias);
}

void check_pack(const struct clipc__kernels *kernels, int which) {
  const struct clipc__gemm *gemm = gemm_of(kernels, which);
  for (int i = 0; i < (checkasm_quick ? 8 : 30); i++) {
    size_t n_out = random_size(5 * gemm->panel_cols / 2), n_in = random_size(i % 3 ? 40 : 300);
    struct layer layer = random_layer(gemm, n_out, n_in, 1.0f);
    for (size_t col = 0; col < clipc__n_panels(gemm, n_out) * gemm->panel_cols; col++)
      check_packed_column(gemm, &layer, col);
    pens_check();
  }
  /* what is not finite is not hidden */
  for (int i = 0; i < 4; i++) {
    size_t n_in = random_size(200), p = random_below(n_in), cols = gemm->panel_cols, col = random_below(cols);
    float *w = pen(cols * n_in * sizeof *w, 4);
    random_floats(w, cols * n_in, 1.0f);
    w[col * n_in + p] = i % 2 ? NAN : INFINITY;
    struct layer layer = {{.w = w, .w_stride = n_in, .factor = 1.0f}, cols, n_in, NULL, NULL, NULL, NULL};
    layer.panels = pen(clipc__panel_bytes(gemm, n_in), 64);
    layer.scale = pen(cols * sizeof(float), 4);
    layer.sum = pen(cols * sizeof(int32_t), 4);
    about("pack %zu x %zu with a weight that is not finite", cols, n_in);
    clipc__pack_panel(gemm, cols, n_in, 0, layer.panels, NULL, layer.scale, layer.sum, &layer.source);
    double value = is_integer(gemm) ? (double)layer.scale[col] : packed_weight(gemm, &layer, col, p);
    check(i % 2 || is_integer(gemm) ? isnan(value) : isinf(value), "it became %g", value);
    pens_check();
  }
}

/* ---- input rows */

enum row_kind {
  ROW_RANDOM,
  ROW_POSITIVE,
  ROW_NEGATIVE,
  ROW_CONSTANT,
  ROW_ZEROS,
  ROW_OUTLIER,
  ROW_TIES,
  ROW_HALF_WAY,
  ROW_TINY,
  ROW_DENORMAL,
  ROW_HUGE,
  ROW_NAN,
  ROW_INFINITE,
  ROW_KINDS
};

static void random_row(float *x, size_t k, enum row_kind kind) {
  float size = ldexpf(1.0f, (int)random_below(21) - 10), constant = size * random_float();
  /* cut into 255 steps, nought is half way between two, and by rounding the lowest or highest is just out of range */
  static const float ranges[][2] = {{-0x1.a68p+3f, 0x1.aa4p+4f}, {-0x1.4cp+0f, 0x1.abp+2f}, {-0x1.77p+1f, 0x1.dbp+1f}};
  const float *half_way = ranges[random_below(COUNT(ranges))];
  if (kind == ROW_TINY) size = ldexpf(1.0f, -100);
  if (kind == ROW_DENORMAL) size = ldexpf(1.0f, -130);
  if (kind == ROW_HUGE) size = ldexpf(1.0f, 120);
  random_floats(x, k, size);
  for (size_t p = 0; p < k; p++) {
    if (kind == ROW_POSITIVE) x[p] = fabsf(x[p]) + size;
    if (kind == ROW_NEGATIVE) x[p] = -fabsf(x[p]) - size;
    if (kind == ROW_CONSTANT) x[p] = constant;
    if (kind == ROW_ZEROS) x[p] = random_below(2) ? 0.0f : -0.0f;
    if (kind == ROW_TIES) x[p] = (float)((int)random_below(2048) - 1000) * 0.5f;
    if (kind == ROW_HALF_WAY) x[p] = random_below(2) ? half_way[0] : half_way[1];
    if (random_below(16) == 0 && kind != ROW_CONSTANT) x[p] = 0.0f;
  }
  size_t at = random_below(k);
  if (kind == ROW_OUTLIER) x[at] = 60 * size;
  if (kind == ROW_NAN) x[at] = NAN;
  if (kind == ROW_INFINITE) x[at] = random_below(2) ? INFINITY : -INFINITY;
}

static void check_bf16_row(const uint16_t *out, const float *x, size_t k, size_t k_padded) {
  bool ok = true;
  size_t bad = 0;
  for (size_t p = 0; ok && p < k_padded; p++) {
    float value = p < k ? x[p] : 0.0f;
    bool nought = (out[p] & 0x7fff) == 0 && fabsf(value) < FLT_MIN; /* the CPU's instruction drops denormals */
    if (isnan(value))
      ok = isnan(get_number(out, CLIPC__BF16, p));
    else if (p >= k)
      ok = out[p] == 0;
    else
      ok = nought || out[p] == bf16_of(value);
    if (!ok) bad = p;
  }
  check(ok, "[%zu]: %g became %g", bad, bad < k ? (double)x[bad] : 0.0, get_number(out, CLIPC__BF16, bad));
}

static void check_integer_row(const struct clipc__gemm *gemm, const void *out, const struct clipc__row_scale *scale,
                              const float *x, size_t k, size_t k_padded) {
  double low = 0, high = 0, step = (double)scale->scale, worst = 0;
  bool finite = true, in_range = true, tail = true;
  size_t bad = 0;
  for (size_t p = 0; p < k; p++) {
    finite = finite && isfinite(x[p]);
    low = fmin(low, (double)x[p]);
    high = fmax(high, (double)x[p]);
  }
  if (!finite) {
    check(isnan(step), "not finite, but the scale is %g", step);
    return;
  }
  double exact_step = (high - low) / gemm->n_levels;
  check(fabs(step - exact_step) <= 8 * HALF_ULP * exact_step + FLT_MIN, "a step of %.9g, should be %.9g", step,
        exact_step);
  check(scale->zero >= lowest_input(gemm) && scale->zero <= highest_input(gemm), "nought is %d", (int)scale->zero);
  double slack =
      (0.5 + gemm->n_levels * 8 * HALF_ULP) * step + (exact_step < 4 * FLT_MIN ? 4 * FLT_MIN * gemm->n_levels : 0);
  for (size_t p = 0; p < k_padded; p++) {
    double q = get_number(out, gemm->input, p);
    in_range = in_range && q >= lowest_input(gemm) && q <= highest_input(gemm);
    tail = tail && (p < k || q == scale->zero);
    if (p >= k) continue;
    double off = fabs(step * (q - scale->zero) - (double)x[p]) - slack;
    if (x[p] == 0.0f && q != scale->zero) off = INFINITY;
    if (!(off <= worst)) worst = isnan(off) ? INFINITY : off, bad = p;
  }
  check(in_range, "a level outside the range");
  check(tail, "behind the row there is something else than nought");
  check(worst == 0, "[%zu]: %.9g became %.9g, steps are %.9g", bad, (double)x[bad],
        step * (get_number(out, gemm->input, bad) - scale->zero), step);
}

void check_prepare(const struct clipc__kernels *kernels, int which) {
  const struct clipc__gemm *gemm = gemm_of(kernels, which);
  int n_rounds = checkasm_quick ? 8 : 60;
  for (int i = 0; i < n_rounds; i++)
    for (enum row_kind kind = 0; kind < ROW_KINDS; kind++) {
      size_t k = i < 40 && !checkasm_quick ? (size_t)i + 1 : random_size(i % 2 ? 70 : 3200), group = group_of(gemm);
      size_t k_padded = ((k + group - 1) / group + (random_below(4) ? 0 : random_below(3))) * group;
      size_t bytes = clipc__number_bytes(gemm->input);
      float *x = pen(k * sizeof *x, 4);
      void *out = pen(k_padded * bytes, bytes);
      struct clipc__row_scale *scale = pen(sizeof *scale, 4);
      random_row(x, k, kind);
      about("prepare %zu numbers, %zu with padding, kind %d", k, k_padded, (int)kind);
      gemm->prepare(out, scale, x, k, k_padded, gemm->n_levels);
      if (is_integer(gemm))
        check_integer_row(gemm, out, scale, x, k, k_padded);
      else
        check_bf16_row(out, x, k, k_padded);
      pens_check();
    }
}

/* ---- sums */

enum product_kind { RANDOM_NUMBERS, WHOLE_NUMBERS, HIGHEST, LOWEST, EXTREMES, NOT_FINITE, PRODUCT_KINDS };

struct product_case {
  const struct clipc__gemm *gemm;
  size_t rows, k, row_bytes;
  char *x; /* [rows, k] */
  void *panel;
  double *x_exact, *w_exact, *exact, *size; /* x [rows, k], w [k, cols], sums and sums of magnitudes [rows, cols] */
};

static double random_input(const struct clipc__gemm *gemm, enum product_kind kind) {
  if (is_integer(gemm)) {
    bool low = kind == LOWEST || (kind == EXTREMES && random_below(2));
    if (kind == HIGHEST || kind == LOWEST || kind == EXTREMES) return low ? lowest_input(gemm) : highest_input(gemm);
    return lowest_input(gemm) + (int)random_below((size_t)gemm->n_levels + 1);
  }
  return kind == WHOLE_NUMBERS ? (double)random_below(17) - 8 : (double)random_float();
}

/* Weights p and p + 1 of a column, as the gemm allows them. */
static void random_weights(double w[2], const struct clipc__gemm *gemm, enum product_kind kind) {
  double most = 127, limit = gemm->pair_limit > 0 ? gemm->pair_limit : 254;
  for (int i = 0; i < 2; i++) {
    if (!is_integer(gemm))
      w[i] = kind == WHOLE_NUMBERS ? (double)random_below(17) - 8 : (double)random_float();
    else if (kind == HIGHEST || kind == LOWEST)
      w[i] = most;
    else
      w[i] = kind == EXTREMES ? (random_below(2) ? most : -most) : (double)random_below(255) - most;
  }
  if (!is_integer(gemm) || w[0] * w[1] <= 0 || fabs(w[0] + w[1]) <= limit) return;
  double first = limit - most + (double)random_below((size_t)(2 * most - limit) + 1); /* both together at the limit */
  w[0] = w[0] < 0 ? -first : first;
  w[1] = w[1] < 0 ? first - limit : limit - first;
}

static void fill_case(struct product_case *c, enum product_kind kind) {
  const struct clipc__gemm *gemm = c->gemm;
  size_t cols = gemm->panel_cols;
  for (size_t i = 0; i < c->rows * c->k; i++) {
    set_number(c->x, gemm->input, i, random_input(gemm, kind));
    if (kind == NOT_FINITE && random_below(2 * c->k) == 0)
      set_number(c->x, gemm->input, i, random_below(2) ? (double)NAN : (double)INFINITY);
    c->x_exact[i] = get_number(c->x, gemm->input, i);
  }
  double pair[2];
  for (size_t j = 0; j < cols; j++)
    for (size_t p = 0; p < c->k; p++) {
      size_t at = panel_index(gemm, c->k, p, j);
      if (p % 2 == 0) random_weights(pair, gemm, kind);
      set_number(c->panel, gemm->weights, at, pair[p % 2]);
      if (kind == NOT_FINITE && random_below(4 * c->k) == 0) set_number(c->panel, gemm->weights, at, (double)-INFINITY);
      c->w_exact[p * cols + j] = get_number(c->panel, gemm->weights, at);
    }
  for (size_t i = 0; i < c->rows; i++) {
    double *sum = c->exact + i * cols, *size = c->size + i * cols;
    for (size_t j = 0; j < cols; j++) sum[j] = size[j] = 0;
    for (size_t p = 0; p < c->k; p++)
      for (size_t j = 0; j < cols; j++) {
        double term = c->x_exact[i * c->k + p] * c->w_exact[p * cols + j];
        sum[j] += term;
        size[j] += fabs(term);
      }
  }
}

/* Multiplies rows first .. of the case, from memory of their own, and leaves the sums in a pen. */
static void *multiply(const struct product_case *c, size_t first, size_t rows) {
  const struct clipc__gemm *gemm = c->gemm;
  size_t bytes = clipc__number_bytes(gemm->input), stride = c->row_bytes + random_below(6) * bytes;
  if (random_below(2)) stride = clipc__input_stride(c->k);
  char *x = pen((rows - 1) * stride + c->row_bytes, bytes);
  for (size_t i = 0; i < rows; i++) memcpy(x + i * stride, c->x + (first + i) * c->row_bytes, c->row_bytes);
  size_t panel_bytes = clipc__panel_bytes(gemm, c->k);
  void *panel = pen_copy(c->panel, panel_bytes, 64), *sums = pen(rows * gemm->panel_cols * sizeof(float), 64);
  const void *ahead[] = {panel, (char *)panel + panel_bytes, pen_outside(), (const void *)(uintptr_t)64};
  size_t which = random_below(COUNT(ahead)), ahead_bytes = random_below(2) ? 0 : random_below(2 * panel_bytes);
  gemm->product(sums, x, stride, rows, panel, c->k, ahead[which], ahead_bytes);
  return sums;
}

static void check_sums(const struct product_case *c, const void *sums, enum product_kind kind) {
  size_t cols = c->gemm->panel_cols, bad = 0;
  double relative = sum_bound(c->k) * (c->gemm->input == CLIPC__BF16 ? 2 : 1); /* some round to odd: a whole ulp */
  bool ok = true, exactly = is_integer(c->gemm) || kind == WHOLE_NUMBERS;
  for (size_t i = 0; ok && i < c->rows * cols; i++) {
    double exact = c->exact[i], bound = exactly ? 0 : relative * c->size[i] + (double)c->k * FLT_MIN;
    double sum = is_integer(c->gemm) ? ((const int32_t *)sums)[i] : (double)((const float *)sums)[i];
    ok = isfinite(exact) ? fabs(sum - exact) <= bound : isnan(exact) ? isnan(sum) : sum == exact;
    if (!ok) bad = i;
  }
  check(ok, "[%zu, %zu]: %.9g, should be %.9g", bad / cols, bad % cols,
        is_integer(c->gemm) ? ((const int32_t *)sums)[bad] : (double)((const float *)sums)[bad], c->exact[bad]);
}

/* One k and kind: the whole tile against double precision, then every number of rows against the whole tile. */
static void check_product_of(const struct clipc__gemm *gemm, size_t k, enum product_kind kind) {
  size_t cols = gemm->panel_cols, rows = smaller(gemm->tile_rows, MOST_ROWS);
  struct product_case c = {.gemm = gemm, .rows = rows, .k = k, .row_bytes = k * clipc__number_bytes(gemm->input)};
  c.x = get(rows * c.row_bytes);
  c.panel = get(clipc__panel_bytes(gemm, k));
  c.x_exact = get(rows * k * sizeof(double));
  c.w_exact = get(cols * k * sizeof(double));
  c.exact = get(rows * cols * sizeof(double));
  c.size = get(rows * cols * sizeof(double));
  float *whole = get(rows * cols * sizeof(float));
  fill_case(&c, kind);
  about("product of %zu rows, k %zu, kind %d", rows, k, (int)kind);
  memcpy(whole, multiply(&c, 0, rows), rows * cols * sizeof(float));
  pens_check();
  check_sums(&c, whole, kind);
  for (size_t n = 1; n <= rows && gemm->group != 0; n++) { /* OpenBLAS promises no bits */
    size_t first = random_below(rows - n + 1);
    about("product of %zu rows, k %zu, kind %d", n, k, (int)kind);
    const float *sums = multiply(&c, first, n);
    if (kind == NOT_FINITE) { /* the bits of a NaN are nobody's business */
      for (size_t i = 0; i < n * cols; i++)
        if (isnan(sums[i]) && isnan(whole[first * cols + i])) whole[first * cols + i] = sums[i];
    }
    size_t i = 0;
    while (i < n * cols && memcmp(&sums[i], &whole[first * cols + i], sizeof(float)) == 0) i++;
    check(i == n * cols, "[%zu, %zu] differs from the same row in a tile of %zu", i / cols, i % cols, rows);
    pens_check();
    if (checkasm_quick && k > 64) n += 2;
  }
  void *all[] = {c.x, c.panel, c.x_exact, c.w_exact, c.exact, c.size, whole};
  for (size_t i = 0; i < COUNT(all); i++) free(all[i]);
}

void check_product(const struct clipc__kernels *kernels, int which) {
  const struct clipc__gemm *gemm = gemm_of(kernels, which);
  size_t unit = group_of(gemm);
  for (enum product_kind kind = 0; kind < PRODUCT_KINDS; kind++) {
    if (is_integer(gemm) ? kind == WHOLE_NUMBERS || kind == NOT_FINITE : kind >= HIGHEST && kind <= EXTREMES) continue;
    for (size_t i = 1; i <= (checkasm_quick ? 5 : 17); i++) check_product_of(gemm, i * unit, kind);
    for (size_t i = 0; i < (checkasm_quick ? 2 : 30); i++)
      check_product_of(gemm, (1 + random_below(700 / unit)) * unit, kind);
    if (checkasm_quick) continue;
    check_product_of(gemm, 768 / unit * unit, kind);
    check_product_of(gemm, (1 + random_below(4096 / unit)) * unit, kind);
  }
  if (is_integer(gemm)) {
    static const enum product_kind kinds[] = {HIGHEST, LOWEST, EXTREMES};
    for (size_t i = 0; i < COUNT(kinds); i++) check_product_of(gemm, CLIPC__INT8_MAX_K / unit * unit, kinds[i]);
  }
}

/* ---- pack, prepare, product, finish */

/* What it may be off that inputs are rounded, that weights were (that much is known), and that sums are. */
static double chain_bound(const struct clipc__gemm *gemm, const struct layer *layer, size_t col, const float *x,
                          double x_step) {
  double w_step = layer->scale ? (double)layer->scale[col] : 1, bound = 0;
  for (size_t p = 0; p < layer->n_in; p++) {
    double packed = packed_weight(gemm, layer, col, p) * w_step, size = fabs((double)x[p]), w = fabs(packed);
    double x_off = gemm->input == CLIPC__BF16 ? 0x1.01p-8 * size : 0.501 * x_step;
    bound += size * fabs(packed - exact_weight(layer, col, p)) + x_off * w + size * w * sum_bound(layer->n_in);
  }
  return bound + (double)layer->n_in * FLT_MIN;
}

static void check_chain_of(const struct clipc__kernels *kernels, const struct clipc__gemm *gemm, size_t n_in) {
  size_t cols = gemm->panel_cols, rows = random_size(smaller(gemm->tile_rows, MOST_ROWS)),
         n_out = random_size(2 * cols);
  size_t k = clipc__k_padded(gemm, n_in), stride = clipc__input_stride(n_in), y_stride = n_out + random_below(3);
  struct layer layer = random_layer(gemm, n_out, n_in, 0.1f);
  float *x = pen(rows * n_in * sizeof *x, 4), *y = pen(((rows - 1) * y_stride + n_out) * sizeof *y, 4);
  char *input = pen((rows - 1) * stride + k * sizeof(float), 4);
  struct clipc__row_scale *scales = pen(rows * sizeof *scales, 4);
  void *sums = pen(rows * cols * sizeof(float), 64);
  enum clipc__activation activation = random_below(CLIPC__N_ACTIVATIONS);
  bool ok = true;
  for (size_t i = 0; i < rows; i++) {
    random_row(x + i * n_in, n_in, random_below(ROW_TIES + 1));
    if (gemm->prepare) {
      gemm->prepare(input + i * stride, &scales[i], x + i * n_in, n_in, k, gemm->n_levels);
    } else {
      memset(input + i * stride, 0, k * sizeof(float));
      memcpy(input + i * stride, x + i * n_in, n_in * sizeof(float));
    }
  }
  for (size_t col = 0; col < n_out; col += cols) {
    struct clipc__finish how = {.bias = layer.bias ? layer.bias + col : NULL,
                                .scale = layer.scale ? layer.scale + col : NULL,
                                .sum = layer.sum ? layer.sum + col : NULL,
                                .rows = is_integer(gemm) ? scales : NULL,
                                .activation = activation};
    const char *panel = layer.panels + col / cols * clipc__panel_bytes(gemm, n_in);
    gemm->product(sums, input, stride, rows, panel, k, panel, 0);
    kernels->finish(y + col, y_stride, sums, cols, rows, smaller(cols, n_out - col), &how);
  }
  about("chain: %zu rows, %zu -> %zu, activation %d", rows, n_in, n_out, (int)activation);
  for (size_t i = 0; i < rows; i++)
    for (size_t col = 0; col < n_out; col++) {
      double bias_size, sum = exact_bias(&layer, col, &bias_size), value = (double)y[i * y_stride + col];
      for (size_t p = 0; p < n_in; p++) sum += (double)x[i * n_in + p] * exact_weight(&layer, col, p);
      double bound = chain_bound(gemm, &layer, col, x + i * n_in, is_integer(gemm) ? (double)scales[i].scale : 0);
      bound = 1.2 * (bound + (sum_bound(n_in) + 8 * HALF_ULP) * (bias_size + fabs(sum))) + activation_bound(sum);
      double exact = exact_activation(activation, sum);
      if (fabs(value - exact) <= bound) continue;
      check(false, "[%zu, %zu]: %.9g, should be %.9g within %.2g", i, col, value, exact, bound);
      ok = false;
    }
  if (ok) check(true, "all");
  check_gaps(y, rows, n_out, y_stride);
  pens_check();
}

void check_chain(const struct clipc__kernels *kernels, int which) {
  const struct clipc__gemm *gemm = gemm_of(kernels, which);
  for (int i = 0; i < (checkasm_quick ? 6 : 40); i++) check_chain_of(kernels, gemm, random_size(i % 4 ? 60 : 900));
}
