/* Packs the weights of a linear layer, f32 in natural order, into the panels of one gemm, once, when a model is opened:
 * for every precision and tier, by the shapes that travel with the gemm. A layer norm's affine and a factor fold in. */
#include "kernels/kernels.h"

#include <math.h>
#include <string.h>

#define PACK_BLOCK 64u /* numbers of a row at once: a block of all columns stays in the first cache */

size_t clipc__n_panels(const struct clipc__gemm *gemm, size_t n_out) {
  return (n_out + gemm->panel_cols - 1) / gemm->panel_cols;
}

size_t clipc__k_padded(const struct clipc__gemm *gemm, size_t n_in) {
  return gemm->group == 0 ? n_in : (n_in + gemm->group - 1) / gemm->group * gemm->group;
}

size_t clipc__panel_bytes(const struct clipc__gemm *gemm, size_t n_in) {
  return clipc__k_padded(gemm, n_in) * gemm->panel_cols * clipc__number_bytes(gemm->weights);
}

/* values[i] = w[col, first + i] as stored. */
static void read_weights(float *values, const struct clipc__linear_source *source, size_t col, size_t first, size_t n) {
  if (!source->transposed) {
    memcpy(values, source->w + col * source->w_stride + first, n * sizeof *values);
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

static float folded_bias(const struct clipc__linear_source *source, size_t col, size_t n_in) {
  double bias = source->bias ? (double)source->bias[col] : 0.0;
  float values[PACK_BLOCK];
  for (size_t first = 0; source->shift && first < n_in; first += PACK_BLOCK) {
    size_t n = n_in - first < PACK_BLOCK ? n_in - first : PACK_BLOCK;
    read_weights(values, source, col, first, n);
    for (size_t i = 0; i < n; i++) bias += (double)values[i] * (double)source->shift[first + i];
  }
  return (float)(bias * (double)source->factor);
}

/* The largest weight of a column is 127 steps. NaN and infinity give a scale that is NaN. */
static float column_scale(const struct clipc__linear_source *source, size_t col, size_t n_in) {
  float values[PACK_BLOCK], largest = 0.0f, poison = 0.0f;
  for (size_t first = 0; first < n_in; first += PACK_BLOCK) {
    size_t n = n_in - first < PACK_BLOCK ? n_in - first : PACK_BLOCK;
    read_weights(values, source, col, first, n);
    apply_gain(values, source, first, n);
    for (size_t i = 0; i < n; i++) {
      float size = fabsf(values[i]);
      largest = size > largest ? size : largest;
      poison += 0.0f * values[i];
    }
  }
  return largest / 127.0f + poison;
}

static uint16_t f32_to_bf16(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(bits >> 16 | 0x40); /* NaN stays one */
  return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);                 /* to nearest, ties to even */
}

static int8_t to_s8(float steps) {
  float nearest = rintf(steps);
  return nearest >= 127.0f ? 127 : nearest > -127.0f ? (int8_t)nearest : -127;
}

/* Writes a block of one column; p counts from the start of k. */
static int32_t store_weights(const struct clipc__gemm *gemm, void *panel, size_t k, size_t col, size_t first,
                             const float *values, size_t n, float inverse) {
  size_t group = gemm->group ? gemm->group : k, cols = gemm->panel_cols;
  int32_t sum = 0;
  for (size_t i = 0; i < n; i++) {
    size_t p = first + i, at = group == 1 ? p * cols + col : (p / group * cols + col) * group + p % group;
    if (gemm->weights == CLIPC__F32) {
      ((float *)panel)[at] = values[i];
    } else if (gemm->weights == CLIPC__BF16) {
      ((uint16_t *)panel)[at] = f32_to_bf16(values[i]);
    } else {
      int8_t q = to_s8(values[i] * inverse);
      ((int8_t *)panel)[at] = q;
      sum += q;
    }
  }
  return sum;
}

void clipc__pack_panel(const struct clipc__gemm *gemm, size_t n_out, size_t n_in, size_t index, void *panels,
                       float *bias, float *scale, int32_t *sum, const struct clipc__linear_source *source) {
  size_t panel_bytes = clipc__panel_bytes(gemm, n_in), first_col = index * gemm->panel_cols;
  size_t cols = n_out - first_col < gemm->panel_cols ? n_out - first_col : gemm->panel_cols;
  char *panel = (char *)panels + index * panel_bytes;
  bool is_int = gemm->weights == CLIPC__S8;
  if (cols < gemm->panel_cols || clipc__k_padded(gemm, n_in) != n_in) memset(panel, 0, panel_bytes);
  for (size_t j = 0; j < gemm->panel_cols; j++) {
    if (bias) bias[first_col + j] = j < cols ? folded_bias(source, first_col + j, n_in) : 0.0f;
    if (is_int) scale[first_col + j] = j < cols ? column_scale(source, first_col + j, n_in) : 0.0f;
    if (is_int) sum[first_col + j] = 0;
  }
  float values[PACK_BLOCK];
  for (size_t first = 0; first < n_in; first += PACK_BLOCK) {
    size_t n = n_in - first < PACK_BLOCK ? n_in - first : PACK_BLOCK;
    for (size_t j = 0; j < cols; j++) {
      size_t col = first_col + j;
      read_weights(values, source, col, first, n);
      apply_gain(values, source, first, n);
      float inverse = is_int && scale[col] > 0.0f ? 1.0f / scale[col] : 0.0f;
      int32_t added = store_weights(gemm, panel, n_in, j, first, values, n, inverse);
      if (is_int) sum[col] += added;
    }
  }
}

#undef PACK_BLOCK
