/* A picture to the pixels of the image tower: upright, RGB, resized, cropped or padded, scaled, normalised.
 * In: a picture of any mode and the steps of clipc_preprocessing. Out: float [3, height, width].
 * OPENAI (OpenAI CLIP, open_clip) resizes and crops the picture in its own mode and turns it to RGB last;
 * HF and HF_TV (transformers 5.23 on Pillow, on torchvision) turn it to RGB first. Only the part of the
 * resized picture that the crop keeps is computed. Every value comes from a table [3, 256]: a pixel has but
 * 256 levels, and the table follows each reference's rounding step by step. */
#include "image/decode.h"
#include "image/resize.h"

#include <limits.h>
#include <math.h>
#include <string.h>

/* ---- sizes */

/* int(size * long / short) as Python computes it: an exact product, a division in double. */
static double preprocess_longer(int size, int longer, int shorter) {
  return floor((double)((int64_t)size * longer) / shorter);
}

/* open_clip's ResizeKeepRatio: the shorter (or longer) side to its target, both rounded half to even. */
static void preprocess_keep_ratio(double *height, double *width, const struct clipc__picture *picture,
                                  const clipc_preprocessing *spec) {
  double ratio_h = (double)picture->height / spec->resize_height;
  double ratio_w = (double)picture->width / spec->resize_width;
  bool longest = spec->resize == CLIPC_RESIZE_LONGEST;
  double ratio = (ratio_h > ratio_w) == longest ? ratio_h : ratio_w;
  *height = rint(picture->height / ratio);
  *width = rint(picture->width / ratio);
}

/* The size that the picture is resized to. */
static clipc_status preprocess_resized_size(int *height, int *width, const struct clipc__picture *picture,
                                            const clipc_preprocessing *spec, clipc_error *error) {
  double h = picture->height, w = picture->width;
  if (spec->resize != CLIPC_RESIZE_NONE && (spec->resize_height < 1 || spec->resize_width < 1))
    return clipc__fail(error, CLIPC_E_INVALID, "size: %dx%d is no size to resize to", spec->resize_height,
                       spec->resize_width);
  if (spec->resize == CLIPC_RESIZE_EXACT) {
    h = spec->resize_height;
    w = spec->resize_width;
  } else if (spec->resize == CLIPC_RESIZE_SHORTEST && spec->resize_height == spec->resize_width) {
    bool upright = picture->width <= picture->height;
    h = upright ? preprocess_longer(spec->resize_height, picture->height, picture->width) : spec->resize_height;
    w = upright ? spec->resize_width : preprocess_longer(spec->resize_width, picture->width, picture->height);
  } else if (spec->resize != CLIPC_RESIZE_NONE) {
    preprocess_keep_ratio(&h, &w, picture, spec);
  }
  if (h < 1 || w < 1 || h > INT_MAX || w > INT_MAX)
    return clipc__fail(error, CLIPC_E_LIMIT, "a picture of %dx%d pixels is too long and thin to be resized",
                       picture->width, picture->height);
  *height = (int)h;
  *width = (int)w;
  return CLIPC_OK;
}

/* One axis of the crop: outputs [out, out + n) are the resized picture's [from, from + n), the rest padding. */
struct preprocess_span {
  int from, out, n;
};

static struct preprocess_span preprocess_crop(int n_resized, int n_crop, clipc_reference reference) {
  int spare = n_resized - n_crop, half = spare / 2;
  if (spare < 0) {
    /* Of an odd border transformers on Pillow gives the larger half to the top and left, all others the smaller. */
    int border = reference == CLIPC_REFERENCE_HF ? (1 - spare) / 2 : -spare / 2;
    return (struct preprocess_span){0, border, n_resized};
  }
  bool up = reference == CLIPC_REFERENCE_OPENAI && spare % 4 == 3; /* half to even; transformers: down */
  return (struct preprocess_span){half + up, 0, n_crop};
}

/* ---- values */

/* What level v of channel c becomes, in the arithmetic of the reference. */
static void preprocess_table(float table[3][256], const clipc_preprocessing *spec) {
  bool torchvision = spec->reference == CLIPC_REFERENCE_HF_TV;
  bool fused = torchvision && spec->do_rescale && spec->do_normalize; /* (v - mean / factor) / (std / factor) */
  float inverse = fused ? (float)(1.0 / spec->rescale_factor) : 1.0f;
  for (int c = 0; c < 3; c++) {
    float mean = spec->mean[c] * inverse, std = spec->std[c] * inverse;
    for (int v = 0; v < 256; v++) {
      float value = (float)v;
      if (spec->do_rescale && !fused)
        value = torchvision ? value * (float)spec->rescale_factor : (float)(v * spec->rescale_factor);
      if (spec->do_normalize) value = (value - mean) / std;
      table[c][v] = value;
    }
  }
}

/* The colour of the padding, as it comes out in RGB: for OPENAI the number is a pixel of the picture's own
 * mode (for P an index, for CMYK an amount of ink). A colour of three numbers is RGB. */
static clipc_status preprocess_fill(uint8_t fill[3], const struct clipc__picture *picture,
                                    const clipc_preprocessing *spec, clipc_error *error) {
  for (int c = 0; c < 3; c++) {
    int level = spec->resize == CLIPC_RESIZE_LONGEST ? spec->fill[c] : 0;
    fill[c] = level < 0 ? 0 : level > 255 ? 255 : (uint8_t)level;
  }
  if (picture->mode == CLIPC__MODE_RGB || fill[0] != fill[1] || fill[0] != fill[2]) return CLIPC_OK;
  struct clipc__picture pixel = *picture;
  uint8_t bytes[4] = {fill[0], fill[0], fill[0], fill[0]};
  if (picture->mode == CLIPC__MODE_I16 || picture->mode == CLIPC__MODE_I) memset(bytes + 1, 0, 3);
  pixel.data = bytes;
  pixel.borrowed = true;
  pixel.width = pixel.height = 1;
  clipc_status status = clipc__picture_to_rgb(&pixel, CLIPC_ALPHA_DROP, error);
  if (status != CLIPC_OK) return status;
  memcpy(fill, pixel.data, 3);
  clipc__picture_free(&pixel);
  return CLIPC_OK;
}

/* ---- the way */

static void preprocess_write(float *pixels, int height, int width, const struct clipc__picture *picture,
                             const struct preprocess_span *rows, const struct preprocess_span *columns,
                             const uint8_t fill[3], float table[3][256]) {
  size_t plane = (size_t)height * (size_t)width;
  for (int c = 0; c < 3; c++) {
    float *out = pixels + (size_t)c * plane;
    if (rows->n < height || columns->n < width)
      for (size_t i = 0; i < plane; i++) out[i] = table[c][fill[c]];
    for (int y = 0; y < rows->n; y++) {
      const uint8_t *in = picture->data + (size_t)y * picture->stride_bytes + c;
      float *to = out + (size_t)(rows->out + y) * (size_t)width + columns->out;
      for (int x = 0; x < columns->n; x++) to[x] = table[c][in[3 * x]];
    }
  }
}

/* What becomes of a picture that enters the resize. */
struct preprocess_plan {
  int resized_height, resized_width;
  struct preprocess_span rows, columns;
  struct clipc__window window; /* of the resized picture, which the crop keeps */
  clipc_filter filter;
  bool torchvision;
  uint8_t fill[3];
};

static clipc_status preprocess_make_plan(struct preprocess_plan *plan, int height, int width,
                                         const struct clipc__picture *picture, const clipc_preprocessing *spec,
                                         clipc_error *error) {
  clipc_status status = preprocess_resized_size(&plan->resized_height, &plan->resized_width, picture, spec, error);
  if (status != CLIPC_OK) return status;
  bool pads = spec->resize == CLIPC_RESIZE_LONGEST; /* always to its size */
  int crop_height = spec->crop_height > 0 ? spec->crop_height : pads ? spec->resize_height : plan->resized_height;
  int crop_width = spec->crop_width > 0 ? spec->crop_width : pads ? spec->resize_width : plan->resized_width;
  if (crop_height != height || crop_width != width)
    return clipc__fail(error, CLIPC_E_UNSUPPORTED,
                       "a picture of %dx%d pixels is prepared to %dx%d (width x height), but the model takes %dx%d",
                       picture->width, picture->height, crop_width, crop_height, width, height);
  plan->rows = preprocess_crop(plan->resized_height, height, spec->reference);
  plan->columns = preprocess_crop(plan->resized_width, width, spec->reference);
  plan->window = (struct clipc__window){plan->columns.from, plan->rows.from, plan->columns.n, plan->rows.n};
  /* For a target that is not square open_clip's "shortest" is bicubic whatever the config says. */
  bool keep_ratio = spec->resize == CLIPC_RESIZE_SHORTEST && spec->resize_height != spec->resize_width;
  plan->filter = keep_ratio ? CLIPC_FILTER_BICUBIC : spec->filter;
  plan->torchvision = spec->reference == CLIPC_REFERENCE_HF_TV;
  return preprocess_fill(plan->fill, picture, spec, error);
}

/* The window of the resized picture, which is consumed, to pixels. */
static clipc_status preprocess_finish(float *pixels, int height, int width, struct clipc__picture *resized,
                                      const struct preprocess_plan *plan, const clipc_preprocessing *spec,
                                      clipc_error *error) {
  /* OPENAI alone has anything to drop here; grey that came by rows becomes RGB here. */
  clipc_status status = clipc__picture_to_rgb(resized, CLIPC_ALPHA_DROP, error);
  float(*table)[256] = status == CLIPC_OK ? clipc__alloc(&resized->allocator, 3, sizeof *table) : NULL;
  if (table != NULL) {
    preprocess_table(table, spec);
    preprocess_write(pixels, height, width, resized, &plan->rows, &plan->columns, plan->fill, table);
    clipc__free(&resized->allocator, table);
  } else if (status == CLIPC_OK) {
    status = clipc__no_memory(error, "a table of pixel values");
  }
  clipc__picture_free(resized);
  return status;
}

clipc_status clipc__preprocess_picture(float *pixels, int height, int width, struct clipc__picture *picture,
                                       const clipc_preprocessing *spec, unsigned cpu, clipc_error *error) {
  clipc_status status = CLIPC_OK;
  struct preprocess_plan plan;
  struct clipc__picture resized;
  if (spec->apply_exif) status = clipc__picture_transpose(picture, error);
  if (status == CLIPC_OK && spec->reference != CLIPC_REFERENCE_OPENAI)
    status = clipc__picture_to_rgb(picture, spec->alpha, error);
  if (status == CLIPC_OK) status = preprocess_make_plan(&plan, height, width, picture, spec, error);
  if (status == CLIPC_OK)
    status = clipc__resize_window(&resized, picture, plan.resized_width, plan.resized_height, &plan.window, plan.filter,
                                  plan.torchvision, cpu, error);
  clipc__picture_free(picture);
  return status == CLIPC_OK ? preprocess_finish(pixels, height, width, &resized, &plan, spec, error) : status;
}

/* ---- files: rows go into the resize as they are decoded */

struct preprocess_sink {
  struct clipc__row_sink sink; /* first: what the decoder knows */
  const clipc_preprocessing *spec;
  int height, width;
  unsigned cpu;
  struct preprocess_plan plan;
  struct clipc__resizer *resizer; /* NULL: the picture comes as a whole */
};

/* Whatever does not go, or fails, is left to the way by the whole picture, which says why. */
static bool preprocess_open(struct clipc__row_sink *base, const struct clipc__picture *picture,
                            struct clipc__window *needed) {
  struct preprocess_sink *sink = (struct preprocess_sink *)(void *)base;
  const clipc_preprocessing *spec = sink->spec;
  struct preprocess_plan *plan = &sink->plan;
  /* Grey becomes RGB behind the resize instead of before it: bands do not mix. CMYK would be rounded otherwise. */
  bool by_bands = picture->mode == CLIPC__MODE_L || picture->mode == CLIPC__MODE_RGB;
  if ((spec->apply_exif && picture->orientation > 1) || (spec->reference != CLIPC_REFERENCE_OPENAI && !by_bands) ||
      preprocess_make_plan(plan, sink->height, sink->width, picture, spec, NULL) != CLIPC_OK ||
      clipc__resizer_make(&sink->resizer, picture, plan->resized_width, plan->resized_height, &plan->window,
                          plan->filter, plan->torchvision, sink->cpu, NULL) != CLIPC_OK ||
      sink->resizer == NULL)
    return false;
  *needed = clipc__resizer_needs(sink->resizer);
  return true;
}

static void preprocess_take(struct clipc__row_sink *base, int y, int n, const uint8_t *rows, size_t stride_bytes) {
  clipc__resizer_take(((struct preprocess_sink *)(void *)base)->resizer, y, n, rows, stride_bytes);
}

clipc_status clipc__preprocess_source(float *pixels, int height, int width, const struct clipc__source *source,
                                      const clipc_preprocessing *spec) {
  struct preprocess_sink sink = {
      .sink = {preprocess_open, preprocess_take}, .spec = spec, .height = height, .width = width, .cpu = source->cpu};
  struct clipc__source by_rows = *source;
  by_rows.sink = &sink.sink;
  struct clipc__picture picture, resized;
  clipc_status status = clipc__source_decode(&picture, &by_rows);
  if (status == CLIPC_OK) {
    clipc_error error = {CLIPC_OK, ""};
    if (sink.resizer == NULL) {
      status = clipc__preprocess_picture(pixels, height, width, &picture, spec, source->cpu, &error);
    } else {
      status = clipc__resizer_finish(sink.resizer, &resized, &error);
      if (status == CLIPC_OK) status = preprocess_finish(pixels, height, width, &resized, &sink.plan, spec, &error);
    }
    if (status != CLIPC_OK) clipc__fail(source->error, status, "%s: %s", source->name, error.message);
  }
  clipc__resizer_free(sink.resizer);
  return status;
}
