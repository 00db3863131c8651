/* A picture resized in its own mode, the whole of it or a window of the result.
 * Two passes, one per axis, each a convolution with the filter stretched to the scale; what lies between
 * them is rounded to the type of the pixels, so the order of the passes shows in the result.
 * u8: int32 fixed-point weights. I16 and I: double weights. 1, P and NEAREST: one pixel each.
 * Coordinates are those of the whole picture; a plane is a part of it that knows where it lies.
 * Must match, to the last bit, Image.resize of Pillow 13 and resize of torchvision 0.29 on uint8 tensors. */
#include "image/image.h"

#include <limits.h>
#include <math.h>
#include <string.h>

#define RESIZE_PI 3.14159265358979323846
#define RESIZE_MAX_BYTES ((size_t)1 << 30)   /* of one table of weights or one buffer */
#define RESIZE_MAX_WEIGHTS ((size_t)1 << 28) /* looked through for the largest */

/* ---- filters */

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

/* ---- axes */

/* How the outputs [first, first + n) of one axis are made from its inputs. Output first + i is the sum over
 * t < count[i] of input low[i] + t times weight t of row i. */
struct resize_axis {
  int n_in, n_out;  /* of the whole axis */
  int first, n;     /* the outputs wanted */
  int from, to;     /* the inputs needed for them */
  int n_taps;       /* from row to row of the weights */
  int bits;         /* fixed point */
  int *low, *count; /* [n] */
  double *weight;   /* [n, n_taps]; for I16 and I */
  int32_t *fixed;   /* [n, n_taps]; for u8 */
};

static void resize_axis_free(struct resize_axis *axis, const clipc_allocator *allocator) {
  clipc__free(allocator, axis->low);
  clipc__free(allocator, axis->weight);
  clipc__free(allocator, axis->fixed);
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
static int resize_torchvision_bits(double *scratch, const struct resize_axis *axis, double scale, clipc_filter filter) {
  double largest = 0.0;
  for (int i = 0; i < axis->n_out; i++) {
    int low, count = resize_weights(scratch, &low, i, scale, axis->n_in, filter);
    for (int t = 0; t < count; t++) largest = scratch[t] > largest ? scratch[t] : largest;
  }
  for (int bits = 0; bits < 22; bits++)
    if ((int)(0.5 + largest * (1 << (bits + 1))) >= 1 << 15) return bits;
  return 22;
}

/* How the pixels are computed. */
enum resize_rule { RESIZE_PILLOW_U8, RESIZE_PILLOW_WIDE, RESIZE_TORCHVISION };

static void resize_axis_fill(struct resize_axis *axis, double *scratch, clipc_filter filter, enum resize_rule rule) {
  /* Pillow holds the length as a float. */
  double scale = (rule == RESIZE_TORCHVISION ? (double)axis->n_in : (double)(float)axis->n_in) / axis->n_out;
  axis->bits = rule == RESIZE_TORCHVISION ? resize_torchvision_bits(scratch, axis, scale, filter) : 22;
  for (int i = 0; i < axis->n; i++) {
    size_t row = (size_t)i * (size_t)axis->n_taps;
    double *weight = axis->weight ? axis->weight + row : scratch;
    axis->count[i] = resize_weights(weight, &axis->low[i], axis->first + i, scale, axis->n_in, filter);
    if (axis->fixed)
      for (int t = 0; t < axis->count[i]; t++) axis->fixed[row + (size_t)t] = resize_fixed(weight[t], axis->bits);
  }
  axis->from = axis->low[0];
  axis->to = axis->low[axis->n - 1] + axis->count[axis->n - 1];
}

/* Fills *axis, which holds n_in, n_out, first and n. An axis whose length stays needs no weights. */
static clipc_status resize_axis_make(struct resize_axis *axis, clipc_filter filter, enum resize_rule rule,
                                     const clipc_allocator *allocator, clipc_error *error) {
  axis->from = axis->first;
  axis->to = axis->first + axis->n;
  if (axis->n_in == axis->n_out) return CLIPC_OK;
  double scale = (double)axis->n_in / axis->n_out;
  size_t n = (size_t)axis->n;
  size_t n_taps = (size_t)ceil(resize_filter_support(filter) * (scale < 1.0 ? 1.0 : scale)) * 2 + 1;
  if (n * n_taps > RESIZE_MAX_BYTES / sizeof(double) ||
      (rule == RESIZE_TORCHVISION && (size_t)axis->n_out * n_taps > RESIZE_MAX_WEIGHTS))
    return clipc__fail(error, CLIPC_E_LIMIT, "a side of %d pixels is too long to be resized to %d", axis->n_in,
                       axis->n_out);
  axis->n_taps = (int)n_taps;
  axis->low = clipc__alloc(allocator, 2 * n, sizeof *axis->low);
  axis->count = axis->low ? axis->low + n : NULL;
  double *scratch = clipc__alloc(allocator, n_taps, sizeof *scratch);
  void *table;
  if (rule == RESIZE_PILLOW_WIDE)
    table = axis->weight = clipc__alloc(allocator, n * n_taps, sizeof *axis->weight);
  else
    table = axis->fixed = clipc__alloc(allocator, n * n_taps, sizeof *axis->fixed);
  bool enough = axis->low && scratch && table;
  if (enough) resize_axis_fill(axis, scratch, filter, rule);
  clipc__free(allocator, scratch);
  return enough ? CLIPC_OK : clipc__no_memory(error, "the weights of a resize");
}

/* ---- passes */

/* Pixels [height, stride_bytes] of a picture whose pixel (x, y) is the first. */
struct resize_plane {
  uint8_t *data;
  size_t stride_bytes;
  int x, y, width, height;
};

static uint8_t *resize_at(const struct resize_plane *plane, int x, int y, size_t pixel_bytes) {
  return plane->data + (size_t)(y - plane->y) * plane->stride_bytes + (size_t)(x - plane->x) * pixel_bytes;
}

static inline uint8_t resize_clip(int32_t value) { return value < 0 ? 0 : value > 255 ? 255 : (uint8_t)value; }

/* One row along x. n_bands is a constant wherever this is inlined. */
static inline __attribute__((always_inline)) void resize_row_u8(uint8_t *out, const uint8_t *in, int in_x,
                                                                const struct resize_axis *axis, int n_bands) {
  for (int i = 0; i < axis->n; i++) {
    const uint8_t *pixel = in + (size_t)(axis->low[i] - in_x) * (size_t)n_bands;
    const int32_t *weight = axis->fixed + (size_t)i * (size_t)axis->n_taps;
    int32_t sum[4];
    for (int c = 0; c < n_bands; c++) sum[c] = (1 << axis->bits) >> 1;
    for (int t = 0; t < axis->count[i]; t++)
      for (int c = 0; c < n_bands; c++) sum[c] += pixel[t * n_bands + c] * weight[t];
    for (int c = 0; c < n_bands; c++) out[i * n_bands + c] = resize_clip(sum[c] >> axis->bits);
  }
}

static void resize_across_u8(const struct resize_plane *out, const struct resize_plane *in,
                             const struct resize_axis *axis, int n_bands) {
  for (int y = out->y; y < out->y + out->height; y++) {
    uint8_t *to = resize_at(out, out->x, y, (size_t)n_bands);
    const uint8_t *from = resize_at(in, in->x, y, (size_t)n_bands);
    switch (n_bands) {
    case 1: resize_row_u8(to, from, in->x, axis, 1); break;
    case 2: resize_row_u8(to, from, in->x, axis, 2); break;
    case 3: resize_row_u8(to, from, in->x, axis, 3); break;
    default: resize_row_u8(to, from, in->x, axis, 4); break;
    }
  }
}

/* Down the columns, a strip of samples at a time; which band a sample belongs to does not matter. */
static void resize_down_u8(const struct resize_plane *out, const struct resize_plane *in,
                           const struct resize_axis *axis, int n_bands) {
  enum { STRIP = 512 };
  int32_t sum[STRIP];
  size_t n_samples = (size_t)out->width * (size_t)n_bands;
  for (int i = 0; i < axis->n; i++) {
    const int32_t *weight = axis->fixed + (size_t)i * (size_t)axis->n_taps;
    uint8_t *to = resize_at(out, out->x, axis->first + i, (size_t)n_bands);
    const uint8_t *from = resize_at(in, out->x, axis->low[i], (size_t)n_bands);
    for (size_t start = 0; start < n_samples; start += STRIP) {
      size_t n = n_samples - start < STRIP ? n_samples - start : STRIP;
      for (size_t s = 0; s < n; s++) sum[s] = (1 << axis->bits) >> 1;
      for (int t = 0; t < axis->count[i]; t++) {
        const uint8_t *row = from + (size_t)t * in->stride_bytes + start;
        for (size_t s = 0; s < n; s++) sum[s] += row[s] * weight[t];
      }
      for (size_t s = 0; s < n; s++) to[start + s] = resize_clip(sum[s] >> axis->bits);
    }
  }
}

/* I16 and I share these, each sample an int32; I16 is clipped after each pass. */
static int32_t resize_round(double sum, bool clip_to_u16) {
  double lowest = clip_to_u16 ? 0.0 : (double)INT32_MIN, highest = clip_to_u16 ? 65535.0 : (double)INT32_MAX;
  double rounded = sum >= 0.0 ? sum + 0.5 : sum - 0.5;
  return rounded <= lowest ? (int32_t)lowest : rounded >= highest ? (int32_t)highest : (int32_t)rounded;
}

static void resize_wide(const struct resize_plane *out, const struct resize_plane *in, const struct resize_axis *axis,
                        bool down, bool clip_to_u16) {
  size_t step = down ? in->stride_bytes / sizeof(int32_t) : 1;
  for (int y = out->y; y < out->y + out->height; y++) {
    int32_t *to = (int32_t *)(void *)resize_at(out, out->x, y, sizeof *to);
    for (int x = out->x; x < out->x + out->width; x++) {
      int i = (down ? y : x) - axis->first;
      const double *weight = axis->weight + (size_t)i * (size_t)axis->n_taps;
      int from_x = down ? x : axis->low[i], from_y = down ? axis->low[i] : y;
      const int32_t *from = (const int32_t *)(const void *)resize_at(in, from_x, from_y, sizeof *from);
      double sum = 0.0;
      for (int t = 0; t < axis->count[i]; t++) sum += from[(size_t)t * step] * weight[t];
      to[x - out->x] = resize_round(sum, clip_to_u16);
    }
  }
}

/* ---- both axes */

static clipc_status resize_plane_make(struct resize_plane *plane, const struct resize_axis *x,
                                      const struct resize_axis *y, bool x_done, bool y_done, size_t pixel_bytes,
                                      const clipc_allocator *allocator, clipc_error *error) {
  plane->x = x_done ? x->first : x->from;
  plane->y = y_done ? y->first : y->from;
  plane->width = x_done ? x->n : x->to - x->from;
  plane->height = y_done ? y->n : y->to - y->from;
  plane->stride_bytes = (size_t)plane->width * pixel_bytes;
  size_t n_bytes;
  if (!clipc__multiply(&n_bytes, plane->stride_bytes, (size_t)plane->height) || n_bytes > RESIZE_MAX_BYTES)
    return clipc__fail(error, CLIPC_E_LIMIT, "resizing a picture of %dx%d pixels to %dx%d takes too much memory",
                       x->n_in, y->n_in, x->n_out, y->n_out);
  plane->data = clipc__alloc(allocator, n_bytes, 1);
  return plane->data ? CLIPC_OK : clipc__no_memory(error, "a resized picture");
}

struct resize_job {
  struct resize_axis x, y;
  enum resize_rule rule;
  bool clip_to_u16; /* WIDE */
  int n_bands;
  const clipc_allocator *allocator;
};

/* One pass to a new plane, or nothing (*out = *in) where the length of that axis stays. */
static clipc_status resize_pass(struct resize_plane *out, const struct resize_plane *in, const struct resize_job *job,
                                bool down, bool other_done, clipc_error *error) {
  const struct resize_axis *axis = down ? &job->y : &job->x;
  *out = *in;
  if (axis->n_in == axis->n_out) return CLIPC_OK;
  bool wide = job->rule == RESIZE_PILLOW_WIDE;
  clipc_status status = resize_plane_make(out, &job->x, &job->y, !down || other_done, down || other_done,
                                          wide ? sizeof(int32_t) : (size_t)job->n_bands, job->allocator, error);
  if (status != CLIPC_OK) return status;
  if (wide)
    resize_wide(out, in, axis, down, job->clip_to_u16);
  else if (down)
    resize_down_u8(out, in, axis, job->n_bands);
  else
    resize_across_u8(out, in, axis, job->n_bands);
  return CLIPC_OK;
}

/* Both passes; *result is in itself or newly allocated, and holds the window at least. */
static clipc_status resize_both(struct resize_plane *result, const struct resize_plane *in, struct resize_job *job,
                                clipc_filter filter, clipc_error *error) {
  struct resize_axis *x = &job->x, *y = &job->y;
  /* Pillow 13 begins with the axis that shrinks the picture more; torchvision always goes across first. */
  int64_t less_high = (int64_t)y->n_in - y->n_out, less_wide = (int64_t)x->n_in - x->n_out;
  bool down_first = job->rule != RESIZE_TORCHVISION && less_high > 0 && less_high > 2 * less_wide;
  struct resize_plane middle = {0};
  clipc_status status = resize_axis_make(x, filter, job->rule, job->allocator, error);
  if (status == CLIPC_OK) status = resize_axis_make(y, filter, job->rule, job->allocator, error);
  if (status == CLIPC_OK) status = resize_pass(&middle, in, job, down_first, false, error);
  if (status == CLIPC_OK) {
    status = resize_pass(result, &middle, job, !down_first, true, error);
    if (middle.data != in->data && (status != CLIPC_OK || result->data != middle.data))
      clipc__free(job->allocator, middle.data);
  }
  resize_axis_free(x, job->allocator);
  resize_axis_free(y, job->allocator);
  return status;
}

/* ---- modes */

static void resize_premultiply(uint8_t *pixel, int n, int n_bands) {
  for (; n > 0; n--, pixel += n_bands)
    for (int c = 0; c < n_bands - 1; c++) {
      unsigned t = (unsigned)pixel[c] * pixel[n_bands - 1] + 128;
      pixel[c] = (uint8_t)(((t >> 8) + t) >> 8);
    }
}

static void resize_unpremultiply(uint8_t *pixel, int n, int n_bands) {
  for (; n > 0; n--, pixel += n_bands) {
    unsigned alpha = pixel[n_bands - 1];
    if (alpha == 0 || alpha == 255) continue;
    for (int c = 0; c < n_bands - 1; c++) {
      unsigned value = 255u * pixel[c] / alpha;
      pixel[c] = value > 255 ? 255 : (uint8_t)value;
    }
  }
}

/* A copy of in that the passes can read: premultiplied, or widened to int32. */
static clipc_status resize_prepare(struct resize_plane *plane, const struct clipc__picture *in,
                                   const struct resize_job *job, clipc_error *error) {
  size_t pixel_bytes = job->rule == RESIZE_PILLOW_WIDE ? sizeof(int32_t) : (size_t)job->n_bands;
  *plane = (struct resize_plane){NULL, (size_t)in->width * pixel_bytes, 0, 0, in->width, in->height};
  plane->data = clipc__alloc(job->allocator, (size_t)in->height, plane->stride_bytes);
  if (plane->data == NULL) return clipc__no_memory(error, "a picture to resize");
  for (int y = 0; y < in->height; y++) {
    uint8_t *to = plane->data + (size_t)y * plane->stride_bytes;
    const uint8_t *from = in->data + (size_t)y * in->stride_bytes;
    if (in->mode == CLIPC__MODE_I16) {
      for (int x = 0; x < in->width; x++) {
        uint16_t value;
        memcpy(&value, from + 2 * x, sizeof value);
        ((int32_t *)(void *)to)[x] = value;
      }
      continue;
    }
    memcpy(to, from, plane->stride_bytes);
    if (in->mode == CLIPC__MODE_LA || in->mode == CLIPC__MODE_RGBA) resize_premultiply(to, in->width, job->n_bands);
  }
  return CLIPC_OK;
}

/* The window of a result to the picture that is handed out. */
static void resize_finish(struct clipc__picture *out, const struct resize_plane *plane,
                          const struct clipc__window *window, const struct resize_job *job) {
  size_t pixel_bytes = job->rule == RESIZE_PILLOW_WIDE ? sizeof(int32_t) : (size_t)job->n_bands;
  for (int y = 0; y < window->height; y++) {
    uint8_t *to = out->data + (size_t)y * out->stride_bytes;
    const uint8_t *from = resize_at(plane, window->x, window->y + y, pixel_bytes);
    if (out->mode == CLIPC__MODE_I16) {
      for (int x = 0; x < window->width; x++) {
        uint16_t value = (uint16_t)((const int32_t *)(const void *)from)[x];
        memcpy(to + 2 * x, &value, sizeof value);
      }
      continue;
    }
    memcpy(to, from, (size_t)window->width * pixel_bytes);
    if (out->mode == CLIPC__MODE_LA || out->mode == CLIPC__MODE_RGBA)
      resize_unpremultiply(to, window->width, job->n_bands);
  }
}

static clipc_status resize_filtered(struct clipc__picture *out, const struct clipc__picture *in, int width, int height,
                                    const struct clipc__window *window, clipc_filter filter, bool torchvision,
                                    clipc_error *error) {
  bool wide = in->mode == CLIPC__MODE_I16 || in->mode == CLIPC__MODE_I;
  struct resize_job job = {
      .x = {.n_in = in->width, .n_out = width, .first = window->x, .n = window->width},
      .y = {.n_in = in->height, .n_out = height, .first = window->y, .n = window->height},
      .rule = torchvision ? RESIZE_TORCHVISION
              : wide      ? RESIZE_PILLOW_WIDE
                          : RESIZE_PILLOW_U8,
      .clip_to_u16 = in->mode == CLIPC__MODE_I16,
      .n_bands = wide ? 1 : (int)clipc__mode_bytes(in->mode),
      .allocator = &in->allocator,
  };
  struct resize_plane source = {in->data, in->stride_bytes, 0, 0, in->width, in->height}, result = {0};
  bool prepared = wide || in->mode == CLIPC__MODE_LA || in->mode == CLIPC__MODE_RGBA;
  clipc_status status = CLIPC_OK;
  if (prepared) status = resize_prepare(&source, in, &job, error);
  if (status == CLIPC_OK) status = resize_both(&result, &source, &job, filter, error);
  if (status == CLIPC_OK) {
    resize_finish(out, &result, window, &job);
    if (result.data != source.data) clipc__free(job.allocator, result.data);
  }
  if (prepared) clipc__free(job.allocator, source.data);
  return status;
}

/* ---- nearest */

/* How the position of an output among the inputs is rounded. */
enum resize_nearest_rule {
  RESIZE_NEAREST_WALK,     /* Pillow: the scale added up along the axis */
  RESIZE_NEAREST_MULTIPLY, /* Pillow, 16 bit */
  RESIZE_NEAREST_SMALL,    /* torch "nearest-exact" in float, output sides of 128 or less together */
  RESIZE_NEAREST_LARGE     /* the same, larger outputs: by way of the pixel's corner, with one fused rounding */
};

/* Which input each wanted output takes. */
static void resize_nearest_axis(int *from, int first, int n, int n_in, int n_out, enum resize_nearest_rule rule) {
  double scale = (double)(float)n_in / n_out, walk = scale * 0.5;
  double float_scale = (double)((float)n_in / (float)n_out);
  if (rule == RESIZE_NEAREST_WALK)
    for (int i = 0; i < first; i++) walk += scale;
  for (int i = 0; i < n; i++) {
    double output = first + i + 0.5, at = walk;
    if (rule == RESIZE_NEAREST_MULTIPLY) at = output * scale;
    if (rule == RESIZE_NEAREST_SMALL) at = (double)(float)(output * float_scale);
    if (rule == RESIZE_NEAREST_LARGE) {
      float corner = (float)(output * float_scale - 0.5);
      at = (double)((corner < 0.0f ? 0.0f : corner) + 0.5f);
    }
    from[i] = at < n_in - 1 ? (int)at : n_in - 1;
    walk += scale;
  }
}

static clipc_status resize_nearest(struct clipc__picture *out, const struct clipc__picture *in, int width, int height,
                                   const struct clipc__window *window, bool torchvision, clipc_error *error) {
  size_t pixel_bytes = clipc__mode_bytes(in->mode);
  int *from_x = clipc__alloc(&in->allocator, (size_t)window->width + (size_t)window->height, sizeof *from_x);
  if (from_x == NULL) return clipc__no_memory(error, "the positions of a resize");
  int *from_y = from_x + window->width;
  enum resize_nearest_rule rule = in->mode == CLIPC__MODE_I16 ? RESIZE_NEAREST_MULTIPLY : RESIZE_NEAREST_WALK;
  if (torchvision) rule = (int64_t)width + height <= 128 ? RESIZE_NEAREST_SMALL : RESIZE_NEAREST_LARGE;
  resize_nearest_axis(from_x, window->x, window->width, in->width, width, rule);
  resize_nearest_axis(from_y, window->y, window->height, in->height, height, rule);
  for (int y = 0; y < window->height; y++) {
    uint8_t *to = out->data + (size_t)y * out->stride_bytes;
    const uint8_t *row = in->data + (size_t)from_y[y] * in->stride_bytes;
    for (int x = 0; x < window->width; x++)
      memcpy(to + (size_t)x * pixel_bytes, row + (size_t)from_x[x] * pixel_bytes, pixel_bytes);
  }
  clipc__free(&in->allocator, from_x);
  return CLIPC_OK;
}

/* ---- entries */

clipc_status clipc__resize_window(struct clipc__picture *out, const struct clipc__picture *in, int width, int height,
                                  const struct clipc__window *window, clipc_filter filter, bool torchvision,
                                  clipc_error *error) {
  if (width < 1 || height < 1 || window->x < 0 || window->y < 0 || window->width < 1 || window->height < 1 ||
      window->width > width - window->x || window->height > height - window->y)
    return clipc__fail(error, CLIPC_E_INVALID, "a picture cannot be resized to %dx%d pixels", width, height);
  bool same = width == in->width && height == in->height; /* then a copy: nothing is premultiplied */
  if (torchvision && !same && (filter == CLIPC_FILTER_BOX || filter == CLIPC_FILTER_HAMMING))
    return clipc__fail(error, CLIPC_E_UNSUPPORTED, "resample: torchvision has no %s filter for tensors",
                       filter == CLIPC_FILTER_BOX ? "box" : "hamming");
  if (torchvision && in->mode != CLIPC__MODE_RGB)
    return clipc__fail(error, CLIPC_E_INVALID, "torchvision's resize takes RGB pictures alone");
  if ((size_t)window->width * (size_t)window->height > RESIZE_MAX_BYTES / clipc__mode_bytes(in->mode))
    return clipc__fail(error, CLIPC_E_LIMIT, "a picture of %dx%d pixels is too large to be resized to", width, height);
  struct clipc__picture made;
  clipc_status status = clipc__picture_make(&made, in->mode, window->width, window->height, &in->allocator, error);
  if (status != CLIPC_OK) return status;
  if (same || filter == CLIPC_FILTER_NEAREST || in->mode == CLIPC__MODE_1 || in->mode == CLIPC__MODE_P)
    status = resize_nearest(&made, in, width, height, window, torchvision, error);
  else
    status = resize_filtered(&made, in, width, height, window, filter, torchvision, error);
  if (status != CLIPC_OK) {
    clipc__picture_free(&made);
    return status;
  }
  made.transparency = in->transparency;
  memcpy(made.key, in->key, sizeof made.key);
  memcpy(made.palette, in->palette, sizeof made.palette);
  made.n_palette = in->n_palette;
  made.orientation = in->orientation;
  *out = made;
  return CLIPC_OK;
}
