/* Packs the weights of a linear layer, f32 in natural order, into the panels of one gemm, once, when a model is opened:
 * for every precision and tier, by the shapes that travel with the gemm. A layer norm's affine and a factor fold in.
 * What was packed for one gemm is also repacked for another here: the same numbers in other places.
 * Weights go in blocks of a column: read, multiplied, rounded, and put down in units of a group. */
#include "kernels/kernels.h"

#include <math.h>
#include <string.h>

#define PACK_BLOCK 64u /* numbers of a column at once: a block of all columns stays in the first cache */
#define PACK_INFINITY 0x7f800000

size_t clipc__n_panels(const struct clipc__gemm *gemm, size_t n_out) {
  return (n_out + gemm->panel_cols - 1) / gemm->panel_cols;
}

size_t clipc__k_padded(const struct clipc__gemm *gemm, size_t n_in) {
  return gemm->group == 0 ? n_in : (n_in + gemm->group - 1) / gemm->group * gemm->group;
}

size_t clipc__panel_bytes(const struct clipc__gemm *gemm, size_t n_in) {
  return clipc__k_padded(gemm, n_in) * gemm->panel_cols * clipc__number_bytes(gemm->weights);
}

static size_t pack_smaller(size_t a, size_t b) { return a < b ? a : b; }

/* ---- places */

/* n groups of so many bytes, one behind the other in block, stride apart in a panel. */
static inline void move_groups(char *place, size_t stride, char *block, size_t n_bytes, size_t n, bool to_panel) {
  for (size_t i = 0; i < n; i++, place += stride, block += n_bytes)
    memcpy(to_panel ? place : block, to_panel ? block : place, n_bytes);
}

/* A block of a column, n numbers from p = first on, to or from its places in a panel. */
static void move_block(const struct clipc__gemm *gemm, char *panel, size_t k, size_t col, size_t first, char *block,
                       size_t n, bool to_panel) {
  size_t size = clipc__number_bytes(gemm->weights);
  if (gemm->group == 0) { /* a column lies together */
    move_groups(panel + (col * k + first) * size, 0, block, n * size, 1, to_panel);
    return;
  }
  size_t n_bytes = gemm->group * size, stride = gemm->panel_cols * n_bytes,
         n_groups = (n + gemm->group - 1) / gemm->group;
  char *place = panel + first / gemm->group * stride + col * n_bytes;
  switch (n_bytes) { /* a copy of known size is one instruction */
  case 2: move_groups(place, stride, block, 2, n_groups, to_panel); break;
  case 4: move_groups(place, stride, block, 4, n_groups, to_panel); break;
  case 8: move_groups(place, stride, block, 8, n_groups, to_panel); break;
  default: move_groups(place, stride, block, n_bytes, n_groups, to_panel); break;
  }
}

/* A block of a column of a layer out of its panels. */
static void take_block(const struct clipc__linear *layer, size_t col, size_t first, char *block, size_t n) {
  const struct clipc__gemm *gemm = layer->gemm;
  size_t panel = col / gemm->panel_cols * clipc__panel_bytes(gemm, layer->n_in);
  move_block(gemm, (char *)(uintptr_t)layer->panels + panel, layer->n_in, col % gemm->panel_cols, first, block, n,
             false);
}

/* ---- numbers */

/* values[i] = w[col, first + i] as stored. */
static void read_weights(float *values, const struct clipc__linear_source *source, size_t col, size_t first, size_t n) {
  if (source->w == NULL) {
    int8_t block[PACK_BLOCK];
    take_block(source->packed, col, first, (char *)block, n);
    for (size_t i = 0; i < n; i++) values[i] = (float)block[i] * source->packed->scale[col];
    return;
  }
  if (!source->transposed) {
    const float *w = source->w + col * source->w_stride + first;
    if (n == PACK_BLOCK) /* mostly, and then it is a few moves */
      memcpy(values, w, PACK_BLOCK * sizeof *values);
    else
      memcpy(values, w, n * sizeof *values);
    return;
  }
  for (size_t i = 0; i < n; i++) values[i] = source->w[(first + i) * source->w_stride + col];
}

static void apply_gain(float *values, const struct clipc__linear_source *source, size_t first, size_t n) {
  if (source->gain != NULL)
    for (size_t i = 0; i < n; i++) values[i] *= source->gain[first + i];
  if (source->factor != 1.0f)
    for (size_t i = 0; i < n; i++) values[i] *= source->factor;
}

static void round_to_bf16(uint16_t *out, const float *values, size_t n) {
  for (size_t i = 0; i < n; i++) {
    uint32_t bits, rounded;
    memcpy(&bits, &values[i], sizeof bits);
    rounded = (bits + 0x7fffu + (bits >> 16 & 1)) >> 16; /* to nearest, ties to even */
    out[i] = (uint16_t)((bits & 0x7fffffffu) > PACK_INFINITY ? bits >> 16 | 0x40 : rounded); /* NaN stays one */
  }
}

/* In whole steps, ties to even. Nothing here branches, so that it goes by vectors without any instruction set. */
static void round_to_steps(int32_t *out, const float *values, size_t n, float inverse) {
  const float shift = 12582912.0f; /* 1.5 * 2^23: added to it a number becomes whole, and its lower bits are that */
  for (size_t i = 0; i < n; i++) {
    float steps = values[i] * inverse + shift;
    uint32_t bits;
    memcpy(&bits, &steps, sizeof bits);
    int32_t whole = (int32_t)(bits - 0x4B400000u);
    whole = whole < 127 ? whole : 127;
    out[i] = whole > -127 ? whole : -127;
  }
}

/* Both of a pair give half of what is too much. */
static void limit_pairs(int32_t *steps, size_t n, int limit) {
  for (size_t i = 0; i + 1 < n; i += 2) {
    int32_t a = steps[i], b = steps[i + 1], sum = a + b;
    int32_t over = (sum > limit ? sum - limit : 0) + (sum < -limit ? sum + limit : 0);
    over = (a ^ b) < 0 ? 0 : over;
    steps[i] = a - over / 2;
    steps[i + 1] = b - (over - over / 2);
  }
}

static int32_t store_s8(int8_t *out, const int32_t *steps, size_t n) {
  int32_t sum = 0;
  for (size_t i = 0; i < n; i++) {
    out[i] = (int8_t)steps[i];
    sum += steps[i];
  }
  return sum;
}

/* ---- columns */

/* What is to be known of a column before it is packed. */
struct pack_column {
  float bias;
  float largest; /* the size of its largest weight; NaN when one is not finite */
};

static struct pack_column look_at_column(const struct clipc__linear_source *source, size_t col, size_t n_in,
                                         bool want_largest) {
  enum { LANES = 8 };
  double sums[LANES] = {0}, bias = source->bias ? (double)source->bias[col] : 0.0;
  int32_t most = 0; /* floats of one sign are in the order of their bits */
  float largest;
  for (size_t first = 0; (source->shift || want_largest) && first < n_in; first += PACK_BLOCK) {
    float values[PACK_BLOCK];
    size_t n = pack_smaller(PACK_BLOCK, n_in - first), i = 0;
    read_weights(values, source, col, first, n);
    if (source->shift != NULL) {
      const float *shift = source->shift + first;
      for (; i + LANES <= n; i += LANES)
        for (size_t l = 0; l < LANES; l++) sums[l] += (double)values[i + l] * (double)shift[i + l];
      for (; i < n; i++) sums[0] += (double)values[i] * (double)shift[i];
    }
    if (!want_largest) continue;
    int32_t bits[PACK_BLOCK];
    apply_gain(values, source, first, n);
    memcpy(bits, values, n * sizeof *bits);
    for (i = 0; i < n; i++) {
      int32_t size = bits[i] & INT32_MAX;
      most = size > most ? size : most;
    }
  }
  for (size_t l = 0; l < LANES; l++) bias += sums[l];
  memcpy(&largest, &most, sizeof largest);
  return (struct pack_column){(float)(bias * (double)source->factor), most >= PACK_INFINITY ? NAN : largest};
}

/* Where pairs are limited, the step that errs least: a small one cuts pairs off, a large one rounds coarsely. By the
 * sum of the squared errors, of steps for which the largest weight is 127, 127 / 1.1 .. 127 / 2 of them. */
static float limited_step(const struct clipc__linear_source *source, size_t col, size_t n_in, float step, int limit) {
  enum { STEPS = 11 };
  double cut[STEPS] = {0}, least = INFINITY;
  for (size_t first = 0; first < n_in; first += PACK_BLOCK) {
    float values[PACK_BLOCK], over[PACK_BLOCK / 2];
    int32_t bits[PACK_BLOCK / 2], most = 0; /* of the floats above: those that are above nought are in their order */
    size_t n = pack_smaller(PACK_BLOCK, n_in - first);
    if (n < PACK_BLOCK) memset(values, 0, sizeof values);
    read_weights(values, source, col, first, n);
    apply_gain(values, source, first, n);
    for (size_t i = 0; i < PACK_BLOCK / 2; i++)
      over[i] = fabsf(values[2 * i] + values[2 * i + 1]) - (float)limit * step;
    memcpy(bits, over, sizeof bits);
    for (size_t i = 0; i < PACK_BLOCK / 2; i++) most = bits[i] > most ? bits[i] : most;
    for (size_t i = 0; most > 0 && i < PACK_BLOCK / 2; i++)
      for (int s = 0; over[i] > 0.0f && s < STEPS; s++) {
        float left = over[i] - 0.1f * (float)s * (float)limit * step;
        if (left > 0.0f) cut[s] += 0.5 * (double)left * (double)left;
      }
  }
  float best = step;
  for (int s = 0; s < STEPS; s++) {
    float size = step * (1.0f + 0.1f * (float)s);
    double error = cut[s] + (double)n_in / 12.0 * (double)size * (double)size;
    if (error < least) least = error, best = size;
  }
  return best;
}

/* The largest weight of a column is 127 steps. NaN and infinity give a scale that is NaN. */
static float column_scale(const struct clipc__gemm *gemm, const struct clipc__linear_source *source, size_t col,
                          size_t n_in, float largest) {
  float step = largest / 127.0f;
  return gemm->pair_limit > 0 && step > 0.0f ? limited_step(source, col, n_in, step, gemm->pair_limit) : step;
}

/* ---- panels */

void clipc__pack_panel(const struct clipc__gemm *gemm, size_t n_out, size_t n_in, size_t index, void *panels,
                       float *bias, float *scale, int32_t *sum, const struct clipc__linear_source *source) {
  size_t panel_bytes = clipc__panel_bytes(gemm, n_in), first_col = index * gemm->panel_cols;
  size_t cols = pack_smaller(gemm->panel_cols, n_out - first_col);
  char *panel = (char *)panels + index * panel_bytes;
  bool is_int = gemm->weights == CLIPC__S8;
  if (cols < gemm->panel_cols) memset(panel, 0, panel_bytes);
  for (size_t j = 0; j < gemm->panel_cols; j++) {
    size_t col = first_col + j;
    struct pack_column seen = {0.0f, 0.0f};
    if (j < cols) seen = look_at_column(source, col, n_in, is_int);
    if (bias) bias[col] = seen.bias;
    if (is_int) scale[col] = j < cols ? column_scale(gemm, source, col, n_in, seen.largest) : 0.0f;
    if (is_int) sum[col] = 0;
  }
  float values[PACK_BLOCK];
  for (size_t first = 0; first < n_in; first += PACK_BLOCK) {
    size_t n = pack_smaller(PACK_BLOCK, n_in - first);
    for (size_t j = 0; j < cols; j++) {
      union {
        float f32[PACK_BLOCK];
        uint16_t bf16[PACK_BLOCK];
        int8_t s8[PACK_BLOCK];
      } block;
      size_t col = first_col + j;
      if (n < PACK_BLOCK) memset(&block, 0, sizeof block); /* what fills up the last group */
      float *floats = gemm->weights == CLIPC__F32 ? block.f32 : values;
      read_weights(floats, source, col, first, n);
      apply_gain(floats, source, first, n);
      if (gemm->weights == CLIPC__BF16) round_to_bf16(block.bf16, values, n);
      if (is_int) {
        int32_t steps[PACK_BLOCK];
        round_to_steps(steps, values, n, scale[col] > 0.0f ? 1.0f / scale[col] : 0.0f);
        if (gemm->pair_limit > 0) limit_pairs(steps, n, gemm->pair_limit);
        sum[col] += store_s8(block.s8, steps, n);
      }
      move_block(gemm, panel, n_in, j, first, (char *)&block, n, true);
    }
  }
}

/* ---- repacking */

static bool keeps_limit(const struct clipc__gemm *packed, int limit) {
  return limit == 0 || (packed->pair_limit > 0 && packed->pair_limit <= limit);
}

bool clipc__packing_serves(const struct clipc__gemm *wanted, const struct clipc__gemm *packed) {
  return wanted->weights == packed->weights && wanted->panel_cols == packed->panel_cols &&
         wanted->group == packed->group && keeps_limit(packed, wanted->pair_limit);
}

void clipc__repack_panel(const struct clipc__linear *to, size_t index, const struct clipc__linear *from) {
  const struct clipc__gemm *gemm = to->gemm;
  size_t n_in = to->n_in, panel_bytes = clipc__panel_bytes(gemm, n_in), first_col = index * gemm->panel_cols;
  size_t cols = pack_smaller(gemm->panel_cols, to->n_out - first_col), size = clipc__number_bytes(gemm->weights);
  char *panel = (char *)(uintptr_t)to->panels + index * panel_bytes;
  float *bias = (float *)(uintptr_t)to->bias, *scale = (float *)(uintptr_t)to->scale;
  int32_t *sum = (int32_t *)(uintptr_t)to->sum;
  if (!keeps_limit(from->gemm, gemm->pair_limit)) { /* other steps may be better now */
    struct clipc__linear_source source = {.bias = from->bias, .factor = 1.0f, .packed = from};
    clipc__pack_panel(gemm, to->n_out, n_in, index, (char *)(uintptr_t)to->panels, bias, scale, sum, &source);
    return;
  }
  if (cols < gemm->panel_cols) memset(panel, 0, panel_bytes);
  for (size_t j = 0; j < gemm->panel_cols; j++) {
    if (bias) bias[first_col + j] = j < cols ? from->bias[first_col + j] : 0.0f;
    if (scale) scale[first_col + j] = j < cols ? from->scale[first_col + j] : 0.0f;
    if (sum) sum[first_col + j] = j < cols ? from->sum[first_col + j] : 0;
  }
  for (size_t first = 0; first < n_in; first += PACK_BLOCK) {
    size_t n = pack_smaller(PACK_BLOCK, n_in - first);
    for (size_t j = 0; j < cols; j++) {
      char block[PACK_BLOCK * sizeof(float)];
      take_block(from, first_col + j, first, block, n);
      if (n < PACK_BLOCK) memset(block + n * size, 0, sizeof block - n * size);
      move_block(gemm, panel, n_in, j, first, block, n, true);
    }
  }
}

#undef PACK_BLOCK
#undef PACK_INFINITY
