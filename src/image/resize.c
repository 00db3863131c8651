/* A picture resized in its own mode, the whole of it or a window of the result.
 * Two passes, one per axis, each a convolution with the filter stretched to the scale; what lies between
 * them is rounded to the type of the pixels, so the order of the passes shows in the result.
 * u8: weights in fixed point, by the kernels of pictures. I16 and I: double weights. 1, P and NEAREST: one pixel each.
 * Coordinates are those of the whole picture; a plane is a part of it that knows where it lies.
 * Where the rows go first, they may also come one after the other: a decoder need not keep the picture.
 * Must match, to the last bit, Image.resize of Pillow 13 and resize of torchvision 0.29 on uint8 tensors. */
#include "image/resize.h"

#include <limits.h>
#include <string.h>

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

struct resize_job {
  struct clipc__resize_axis x, y;
  enum clipc__resize_rule rule;
  bool clip_to_u16; /* WIDE */
  int n_bands;
  struct clipc__pixel_kernels kernels;
  const clipc_allocator *allocator;
};

static void resize_across_u8(const struct resize_plane *out, const struct resize_plane *in,
                             const struct resize_job *job) {
  size_t n_bands = (size_t)job->n_bands;
  job->kernels.resize_across(out->data, out->stride_bytes, resize_at(in, job->x.from, out->y, n_bands),
                             in->stride_bytes, (size_t)out->height, job->n_bands, &job->x.taps);
}

/* Down the columns; which band a sample belongs to does not matter. */
static void resize_down_u8(const struct resize_plane *out, const struct resize_plane *in,
                           const struct resize_job *job) {
  size_t n_bands = (size_t)job->n_bands;
  const uint8_t *from = resize_at(in, out->x, job->y.from, n_bands);
  for (size_t i = 0; i < job->y.taps.n; i++)
    job->kernels.resize_down(out->data + i * out->stride_bytes, from, in->stride_bytes, (size_t)out->width * n_bands,
                             &job->y.taps, i);
}

/* I16 and I share these, each sample an int32; I16 is clipped after each pass. */
static int32_t resize_round(double sum, bool clip_to_u16) {
  double lowest = clip_to_u16 ? 0.0 : (double)INT32_MIN, highest = clip_to_u16 ? 65535.0 : (double)INT32_MAX;
  double rounded = sum >= 0.0 ? sum + 0.5 : sum - 0.5;
  return rounded <= lowest ? (int32_t)lowest : rounded >= highest ? (int32_t)highest : (int32_t)rounded;
}

static void resize_wide(const struct resize_plane *out, const struct resize_plane *in,
                        const struct clipc__resize_axis *axis, bool down, bool clip_to_u16) {
  size_t step = down ? in->stride_bytes / sizeof(int32_t) : 1;
  for (int y = out->y; y < out->y + out->height; y++) {
    int32_t *to = (int32_t *)(void *)resize_at(out, out->x, y, sizeof *to);
    for (int x = out->x; x < out->x + out->width; x++) {
      int i = (down ? y : x) - axis->first;
      const double *weight = axis->weight + (size_t)i * axis->taps.n_row;
      int low = axis->from + axis->taps.first[i], from_x = down ? x : low, from_y = down ? low : y;
      const int32_t *from = (const int32_t *)(const void *)resize_at(in, from_x, from_y, sizeof *from);
      double sum = 0.0;
      for (int t = 0; t < axis->taps.count[i]; t++) sum += from[(size_t)t * step] * weight[t];
      to[x - out->x] = resize_round(sum, clip_to_u16);
    }
  }
}

/* ---- both axes */

static clipc_status resize_plane_make(struct resize_plane *plane, const struct clipc__resize_axis *x,
                                      const struct clipc__resize_axis *y, bool x_done, bool y_done, size_t pixel_bytes,
                                      const clipc_allocator *allocator, clipc_error *error) {
  plane->x = x_done ? x->first : x->from;
  plane->y = y_done ? y->first : y->from;
  plane->width = x_done ? x->n : x->to - x->from;
  plane->height = y_done ? y->n : y->to - y->from;
  plane->stride_bytes = (size_t)plane->width * pixel_bytes;
  size_t n_bytes;
  if (!clipc__multiply(&n_bytes, plane->stride_bytes, (size_t)plane->height) || n_bytes > CLIPC__RESIZE_MAX_BYTES)
    return clipc__fail(error, CLIPC_E_LIMIT, "resizing a picture of %dx%d pixels to %dx%d takes too much memory",
                       x->n_in, y->n_in, x->n_out, y->n_out);
  plane->data = clipc__alloc(allocator, n_bytes, 1);
  return plane->data ? CLIPC_OK : clipc__no_memory(error, "a resized picture");
}

/* One pass to a new plane, or nothing (*out = *in) where the length of that axis stays. */
static clipc_status resize_pass(struct resize_plane *out, const struct resize_plane *in, const struct resize_job *job,
                                bool down, bool other_done, clipc_error *error) {
  const struct clipc__resize_axis *axis = down ? &job->y : &job->x;
  *out = *in;
  if (axis->n_in == axis->n_out) return CLIPC_OK;
  bool wide = job->rule == CLIPC__PILLOW_WIDE;
  clipc_status status = resize_plane_make(out, &job->x, &job->y, !down || other_done, down || other_done,
                                          wide ? sizeof(int32_t) : (size_t)job->n_bands, job->allocator, error);
  if (status != CLIPC_OK) return status;
  if (wide)
    resize_wide(out, in, axis, down, job->clip_to_u16);
  else if (down)
    resize_down_u8(out, in, job);
  else
    resize_across_u8(out, in, job);
  return CLIPC_OK;
}

/* Pillow 13 begins with the axis that shrinks the picture more; torchvision always goes across first. */
static bool resize_goes_down_first(const struct resize_job *job) {
  int64_t less_high = (int64_t)job->y.n_in - job->y.n_out, less_wide = (int64_t)job->x.n_in - job->x.n_out;
  return job->rule != CLIPC__TORCHVISION && less_high > 0 && less_high > 2 * less_wide;
}

/* Both passes; *result is in itself or newly allocated, and holds the window at least. */
static clipc_status resize_both(struct resize_plane *result, const struct resize_plane *in, struct resize_job *job,
                                clipc_filter filter, clipc_error *error) {
  struct clipc__resize_axis *x = &job->x, *y = &job->y;
  bool down_first = resize_goes_down_first(job);
  struct resize_plane middle = {0};
  clipc_status status = clipc__resize_axis_make(x, filter, job->rule, true, job->allocator, error);
  if (status == CLIPC_OK) status = clipc__resize_axis_make(y, filter, job->rule, false, job->allocator, error);
  if (status == CLIPC_OK) status = resize_pass(&middle, in, job, down_first, false, error);
  if (status == CLIPC_OK) {
    status = resize_pass(result, &middle, job, !down_first, true, error);
    if (middle.data != in->data && (status != CLIPC_OK || result->data != middle.data))
      clipc__free(job->allocator, middle.data);
  }
  clipc__resize_axis_free(x, job->allocator);
  clipc__resize_axis_free(y, job->allocator);
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
  size_t pixel_bytes = job->rule == CLIPC__PILLOW_WIDE ? sizeof(int32_t) : (size_t)job->n_bands;
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
  size_t pixel_bytes = job->rule == CLIPC__PILLOW_WIDE ? sizeof(int32_t) : (size_t)job->n_bands;
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

static struct resize_job resize_job_of(const struct clipc__picture *in, int width, int height,
                                       const struct clipc__window *window, bool torchvision, unsigned cpu) {
  bool wide = in->mode == CLIPC__MODE_I16 || in->mode == CLIPC__MODE_I;
  struct resize_job job = {
      .x = {.n_in = in->width, .n_out = width, .first = window->x, .n = window->width},
      .y = {.n_in = in->height, .n_out = height, .first = window->y, .n = window->height},
      .rule = torchvision ? CLIPC__TORCHVISION
              : wide      ? CLIPC__PILLOW_WIDE
                          : CLIPC__PILLOW_U8,
      .clip_to_u16 = in->mode == CLIPC__MODE_I16,
      .n_bands = wide ? 1 : (int)clipc__mode_bytes(in->mode),
      .allocator = &in->allocator,
  };
  clipc__pixel_kernels_init(&job.kernels, cpu);
  return job;
}

static clipc_status resize_filtered(struct clipc__picture *out, const struct clipc__picture *in, int width, int height,
                                    const struct clipc__window *window, clipc_filter filter, bool torchvision,
                                    unsigned cpu, clipc_error *error) {
  struct resize_job job = resize_job_of(in, width, height, window, torchvision, cpu);
  struct resize_plane source = {in->data, in->stride_bytes, 0, 0, in->width, in->height}, result = {0};
  bool prepared = job.rule == CLIPC__PILLOW_WIDE || in->mode == CLIPC__MODE_LA || in->mode == CLIPC__MODE_RGBA;
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
                                  unsigned cpu, clipc_error *error) {
  if (width < 1 || height < 1 || window->x < 0 || window->y < 0 || window->width < 1 || window->height < 1 ||
      window->width > width - window->x || window->height > height - window->y)
    return clipc__fail(error, CLIPC_E_INVALID, "a picture cannot be resized to %dx%d pixels", width, height);
  bool same = width == in->width && height == in->height; /* then a copy: nothing is premultiplied */
  if (torchvision && !same && (filter == CLIPC_FILTER_BOX || filter == CLIPC_FILTER_HAMMING))
    return clipc__fail(error, CLIPC_E_UNSUPPORTED, "resample: torchvision has no %s filter for tensors",
                       filter == CLIPC_FILTER_BOX ? "box" : "hamming");
  if (torchvision && in->mode != CLIPC__MODE_RGB)
    return clipc__fail(error, CLIPC_E_INVALID, "torchvision's resize takes RGB pictures alone");
  if ((size_t)window->width * (size_t)window->height > CLIPC__RESIZE_MAX_BYTES / clipc__mode_bytes(in->mode))
    return clipc__fail(error, CLIPC_E_LIMIT, "a picture of %dx%d pixels is too large to be resized to", width, height);
  struct clipc__picture made;
  clipc_status status = clipc__picture_make(&made, in->mode, window->width, window->height, &in->allocator, error);
  if (status != CLIPC_OK) return status;
  if (same || filter == CLIPC_FILTER_NEAREST || in->mode == CLIPC__MODE_1 || in->mode == CLIPC__MODE_P)
    status = resize_nearest(&made, in, width, height, window, torchvision, error);
  else
    status = resize_filtered(&made, in, width, height, window, filter, torchvision, cpu, error);
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

/* ---- rows as they come */

struct clipc__resizer {
  clipc_allocator allocator;
  struct clipc__picture form; /* what the result is like */
  struct resize_job job;
  struct resize_plane middle; /* rows that went across */
};

clipc_status clipc__resizer_make(struct clipc__resizer **out, const struct clipc__picture *in, int width, int height,
                                 const struct clipc__window *window, clipc_filter filter, bool torchvision,
                                 unsigned cpu, clipc_error *error) {
  *out = NULL;
  bool plain = in->mode == CLIPC__MODE_L || in->mode == CLIPC__MODE_RGB || in->mode == CLIPC__MODE_CMYK;
  struct resize_job job = resize_job_of(in, width, height, window, torchvision, cpu);
  bool same = width == in->width && height == in->height;
  if (!plain || filter == CLIPC_FILTER_NEAREST || same || resize_goes_down_first(&job)) return CLIPC_OK;
  struct clipc__resizer *made = clipc__alloc_zeroed(&in->allocator, 1, sizeof *made);
  if (made == NULL) return clipc__no_memory(error, "a resize");
  made->allocator = in->allocator;
  made->form = *in;
  made->job = job;
  made->job.allocator = &made->allocator;
  struct clipc__resize_axis *x = &made->job.x, *y = &made->job.y;
  clipc_status status = clipc__resize_axis_make(x, filter, job.rule, true, &made->allocator, error);
  if (status == CLIPC_OK) status = clipc__resize_axis_make(y, filter, job.rule, false, &made->allocator, error);
  if (status == CLIPC_OK)
    status = resize_plane_make(&made->middle, x, y, true, false, (size_t)job.n_bands, &made->allocator, error);
  if (status == CLIPC_OK)
    *out = made;
  else
    clipc__resizer_free(made);
  return status;
}

void clipc__resizer_free(struct clipc__resizer *resizer) {
  if (resizer == NULL) return;
  clipc_allocator allocator = resizer->allocator;
  clipc__resize_axis_free(&resizer->job.x, &allocator);
  clipc__resize_axis_free(&resizer->job.y, &allocator);
  clipc__free(&allocator, resizer->middle.data);
  clipc__free(&allocator, resizer);
}

struct clipc__window clipc__resizer_needs(const struct clipc__resizer *resizer) {
  const struct clipc__resize_axis *x = &resizer->job.x, *y = &resizer->job.y;
  return (struct clipc__window){x->from, y->from, x->to - x->from, y->to - y->from};
}

void clipc__resizer_take(struct clipc__resizer *resizer, int y, int n, const uint8_t *rows, size_t stride_bytes) {
  const struct resize_job *job = &resizer->job;
  const struct resize_plane *middle = &resizer->middle;
  uint8_t *to = resize_at(middle, middle->x, y, (size_t)job->n_bands);
  if (job->x.n_in != job->x.n_out)
    job->kernels.resize_across(to, middle->stride_bytes, rows, stride_bytes, (size_t)n, job->n_bands, &job->x.taps);
  else
    for (size_t i = 0; i < (size_t)n; i++)
      memcpy(to + i * middle->stride_bytes, rows + i * stride_bytes, middle->stride_bytes);
}

clipc_status clipc__resizer_finish(struct clipc__resizer *resizer, struct clipc__picture *out, clipc_error *error) {
  const struct resize_job *job = &resizer->job;
  struct clipc__picture made;
  clipc_status status = clipc__picture_make(&made, resizer->form.mode, job->x.n, job->y.n, &resizer->allocator, error);
  if (status != CLIPC_OK) return status;
  struct resize_plane result = {made.data, made.stride_bytes, job->x.first, job->y.first, made.width, made.height};
  if (job->y.n_in != job->y.n_out)
    resize_down_u8(&result, &resizer->middle, job);
  else
    memcpy(made.data, resizer->middle.data, made.stride_bytes * (size_t)made.height);
  made.orientation = resizer->form.orientation;
  *out = made;
  return CLIPC_OK;
}
