/* The weights of a resize along one axis. In: lengths, filter, rule. Out: tables for the passes.
 * A filter is stretched to the scale; weights that sum to 1 are computed in double and, for u8, rounded to fixed
 * point: 22 bits for Pillow 13, as many as 16-bit weights allow for torchvision 0.29. */
#include "image/resize.h"

#include <math.h>
#include <string.h>

#define RESIZE_PI 3.14159265358979323846
#define RESIZE_MAX_WEIGHTS ((size_t)1 << 28) /* looked through for the largest */

static double resize_sinc(double x) { return x == 0.0 ? 1.0 : sin(x * RESIZE_PI) / (x * RESIZE_PI); }

static double resize_filter_support(clipc_filter filter) {
  switch (filter) {
  case CLIPC_FILTER_LANCZOS: return 3.0;
  case CLIPC_FILTER_BICUBIC: return 2.0;
  case CLIPC_FILTER_BILINEAR:
  case CLIPC_FILTER_HAMMING: return 1.0;
  default: return 0.5;
  }
}

static double resize_filter(clipc_filter filter, double x) {
  double magnitude = fabs(x);
  switch (filter) {
  case CLIPC_FILTER_LANCZOS: return -3.0 <= x && x < 3.0 ? resize_sinc(x) * resize_sinc(x / 3.0) : 0.0;
  case CLIPC_FILTER_BICUBIC: /* a = -1/2 */
    if (magnitude < 1.0) return (1.5 * magnitude - 2.5) * magnitude * magnitude + 1.0;
    if (magnitude < 2.0) return (((magnitude - 5.0) * magnitude + 8.0) * magnitude - 4.0) * -0.5;
    return 0.0;
  case CLIPC_FILTER_BILINEAR: return magnitude < 1.0 ? 1.0 - magnitude : 0.0;
  case CLIPC_FILTER_HAMMING: /* its constants are single precision in Pillow */
    return magnitude < 1.0 ? resize_sinc(magnitude) * (0.54f + 0.46f * cos(magnitude * RESIZE_PI)) : 0.0;
  default: return x > -0.5 && x <= 0.5 ? 1.0 : 0.0; /* BOX */
  }
}

/* The weights of one output, which sum to 1; returns their count. */
static int resize_weights(double *weight, int *low, int output, double scale, int n_in, clipc_filter filter) {
  double stretch = scale < 1.0 ? 1.0 : scale, support = resize_filter_support(filter) * stretch;
  double center = (output + 0.5) * scale, step = 1.0 / stretch, sum = 0.0;
  double lowest = center - support + 0.5, highest = center + support + 0.5;
  int from = lowest > 0.0 ? (int)lowest : 0, to = highest < n_in ? (int)highest : n_in;
  for (int t = 0; t < to - from; t++) {
    weight[t] = resize_filter(filter, (t + from - center + 0.5) * step);
    sum += weight[t];
  }
  if (sum != 0.0)
    for (int t = 0; t < to - from; t++) weight[t] /= sum;
  *low = from;
  return to - from;
}

static int32_t resize_fixed(double weight, int bits) {
  double scaled = weight * (1 << bits);
  return (int32_t)(scaled < 0.0 ? scaled - 0.5 : scaled + 0.5);
}

/* torchvision takes as many bits as let the largest weight of the axis stay in 16. */
static int resize_torchvision_bits(double *scratch, const struct clipc__resize_axis *axis, double scale,
                                   clipc_filter filter) {
  double largest = 0.0;
  for (int i = 0; i < axis->n_out; i++) {
    int low, count = resize_weights(scratch, &low, i, scale, axis->n_in, filter);
    for (int t = 0; t < count; t++) largest = scratch[t] > largest ? scratch[t] : largest;
  }
  for (int bits = 0; bits < 22; bits++)
    if ((int)(0.5 + largest * (1 << (bits + 1))) >= 1 << 15) return bits;
  return 22;
}

/* Fills up the weights of output i with zeros to a multiple of four, in front where inputs end before that. */
static void resize_fill_up(struct clipc__resize_axis *axis, int i) {
  int32_t *first = axis->positions + i, *count = first + axis->n;
  int whole = (*count + CLIPC__TAPS_STEP - 1) / CLIPC__TAPS_STEP * CLIPC__TAPS_STEP, n_in = axis->to - axis->from;
  if (whole > n_in) return;
  int before = *first + whole - n_in;
  if (before > 0) {
    size_t row = (size_t)i * axis->taps.n_row, n_row = axis->taps.n_row, n = (size_t)axis->n * n_row;
    for (int half = 0; half < (axis->taps.high ? 2 : 1); half++) {
      int16_t *weights = axis->weights + (size_t)half * n + row;
      memmove(weights + before, weights, (size_t)*count * sizeof *weights);
      memset(weights, 0, (size_t)before * sizeof *weights);
    }
    *first -= before;
  }
  *count = whole;
}

static void resize_axis_fill(struct clipc__resize_axis *axis, double *scratch, clipc_filter filter,
                             enum clipc__resize_rule rule, bool by_fours) {
  /* Pillow holds the length as a float. */
  double scale = (rule == CLIPC__TORCHVISION ? (double)axis->n_in : (double)(float)axis->n_in) / axis->n_out;
  size_t n = (size_t)axis->n, n_row = axis->taps.n_row;
  int32_t *first = axis->positions, *count = first + n;
  axis->taps.bits = rule == CLIPC__TORCHVISION ? resize_torchvision_bits(scratch, axis, scale, filter) : 22;
  for (int i = 0; i < axis->n; i++) {
    size_t row = (size_t)i * n_row;
    double *weight = axis->weight ? axis->weight + row : scratch;
    count[i] = resize_weights(weight, &first[i], axis->first + i, scale, axis->n_in, filter);
    for (int t = 0; axis->weights && t < count[i]; t++) {
      int32_t fixed = resize_fixed(weight[t], axis->taps.bits);
      int32_t high = rule == CLIPC__TORCHVISION ? 0 : (fixed + (1 << 14)) >> 15;
      axis->weights[row + (size_t)t] = (int16_t)(fixed - high * (1 << 15));
      if (axis->taps.high) axis->weights[n * n_row + row + (size_t)t] = (int16_t)high;
    }
  }
  axis->from = first[0];
  axis->to = first[n - 1] + count[n - 1];
  axis->taps.n_in = (size_t)(axis->to - axis->from);
  for (int i = 0; i < axis->n; i++) {
    first[i] -= axis->from;
    if (by_fours && axis->weights) resize_fill_up(axis, i);
  }
}

clipc_status clipc__resize_axis_make(struct clipc__resize_axis *axis, clipc_filter filter, enum clipc__resize_rule rule,
                                     bool by_fours, const clipc_allocator *allocator, clipc_error *error) {
  axis->from = axis->first;
  axis->to = axis->first + axis->n;
  if (axis->n_in == axis->n_out) return CLIPC_OK;
  double scale = (double)axis->n_in / axis->n_out;
  size_t n = (size_t)axis->n;
  size_t n_taps = (size_t)ceil(resize_filter_support(filter) * (scale < 1.0 ? 1.0 : scale)) * 2 + 1;
  n_taps = (n_taps + CLIPC__TAPS_STEP - 1) / CLIPC__TAPS_STEP * CLIPC__TAPS_STEP;
  if (n * n_taps > CLIPC__RESIZE_MAX_BYTES / sizeof(double) ||
      (rule == CLIPC__TORCHVISION && (size_t)axis->n_out * n_taps > RESIZE_MAX_WEIGHTS))
    return clipc__fail(error, CLIPC_E_LIMIT, "a side of %d pixels is too long to be resized to %d", axis->n_in,
                       axis->n_out);
  axis->positions = clipc__alloc(allocator, 2 * n, sizeof *axis->positions);
  double *scratch = clipc__alloc(allocator, n_taps, sizeof *scratch);
  size_t n_halves = rule == CLIPC__TORCHVISION ? 1 : 2;
  void *table;
  if (rule == CLIPC__PILLOW_WIDE)
    table = axis->weight = clipc__alloc(allocator, n * n_taps, sizeof *axis->weight);
  else
    table = axis->weights = clipc__alloc_zeroed(allocator, n * n_taps, n_halves * sizeof *axis->weights);
  bool enough = axis->positions && scratch && table;
  if (enough) {
    int16_t *high = axis->weights && n_halves == 2 ? axis->weights + n * n_taps : NULL;
    axis->taps = (struct clipc__taps){.n = n,
                                      .n_row = n_taps,
                                      .first = axis->positions,
                                      .count = axis->positions + n,
                                      .low = axis->weights,
                                      .high = high};
    resize_axis_fill(axis, scratch, filter, rule, by_fours);
  }
  clipc__free(allocator, scratch);
  return enough ? CLIPC_OK : clipc__no_memory(error, "the weights of a resize");
}

void clipc__resize_axis_free(struct clipc__resize_axis *axis, const clipc_allocator *allocator) {
  clipc__free(allocator, axis->positions);
  clipc__free(allocator, axis->weight);
  clipc__free(allocator, axis->weights);
}
