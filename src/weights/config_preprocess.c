/* How pictures are prepared: preprocessor_config.json's or preprocess_cfg's fields -> clipc_preprocessing.
 * In: the fields, and the image tower's size. Out: resize, crop and normalisation, which end in that size.
 * Must match: transformers 5.23's CLIPImageProcessor, where null is not the default but nothing, and open_clip 3.3's
 * image_transform, where null is the default and the size always that of the tower. */
#include "weights/weights.h"

#include <cjson/cJSON.h>

#include <stdio.h>
#include <string.h>

enum { PROCESSOR_MAX_SIZE = 16384 };

static const float processor_mean[3] = {0.48145466f, 0.4578275f, 0.40821073f};
static const float processor_std[3] = {0.26862954f, 0.26130258f, 0.27577711f};

/* A size by any spelling. Sets one of: shortest; or height and width. */
struct processor_size {
  int shortest, height, width;
};

static void processor_size_object(struct processor_size *size, struct clipc__fields *fields, const char *name) {
  struct clipc__fields object = clipc__field_object(fields, name, name[0] == 's' ? "size." : "crop_size.");
  if (clipc__field_set(&object, "longest_edge"))
    clipc__field_refuse(&object, CLIPC_E_UNSUPPORTED, "longest_edge", "not supported");
  if (clipc__field_set(&object, "shortest_edge")) {
    size->shortest = clipc__field_int(&object, "shortest_edge", 0, 1, PROCESSOR_MAX_SIZE);
    if (clipc__field_set(&object, "height") || clipc__field_set(&object, "width"))
      clipc__field_refuse(fields, CLIPC_E_FORMAT, name, "shortest_edge stands beside height or width");
    return;
  }
  size->height = clipc__field_int(&object, "height", 0, 1, PROCESSOR_MAX_SIZE);
  size->width = clipc__field_int(&object, "width", 0, 1, PROCESSOR_MAX_SIZE);
  if (size->height == 0 || size->width == 0)
    clipc__field_refuse(fields, CLIPC_E_FORMAT, name, "shortest_edge, or height and width, are needed");
}

static struct processor_size processor_size_read(struct clipc__fields *fields, const char *name, bool square) {
  struct processor_size size = {0, 0, 0};
  const cJSON *item = clipc__field(fields, name);
  if (item == NULL) {
    if (square)
      size.height = size.width = 224;
    else
      size.shortest = 224;
  } else if (cJSON_IsNumber(item)) {
    int value = clipc__field_int(fields, name, 0, 1, PROCESSOR_MAX_SIZE);
    if (square)
      size.height = size.width = value;
    else
      size.shortest = value;
  } else if (cJSON_IsArray(item)) {
    clipc__field_pair(fields, name, 0, PROCESSOR_MAX_SIZE, &size.height, &size.width);
  } else if (cJSON_IsObject(item)) {
    processor_size_object(&size, fields, name);
  } else {
    clipc__field_refuse(fields, CLIPC_E_FORMAT, name, "a size is needed");
  }
  return size;
}

static void processor_type(struct clipc__fields *fields) {
  static const char *const known[] = {"CLIPImageProcessor", "CLIPImageProcessorFast", "CLIPImageProcessorPil",
                                      "CLIPFeatureExtractor"};
  const char *name = "image_processor_type";
  if (!clipc__field_set(fields, name)) name = "feature_extractor_type";
  if (!clipc__field_set(fields, name)) return;
  const char *type = clipc__field_string(fields, name, known[0]);
  for (size_t i = 0; i < sizeof known / sizeof *known; i++)
    if (strcmp(type, known[i]) == 0) return;
  clipc__field_refuse(fields, CLIPC_E_UNSUPPORTED, name, "only CLIPImageProcessor is supported");
}

static void processor_normalization(clipc_preprocessing *out, struct clipc__fields *fields) {
  out->do_rescale = clipc__field_flag(fields, "do_rescale", true);
  if (out->do_rescale) out->rescale_factor = clipc__field_number(fields, "rescale_factor", 1.0 / 255, 1e-12, 1e12);
  out->do_normalize = clipc__field_flag(fields, "do_normalize", true);
  if (!out->do_normalize) return;
  clipc__field_rgb(fields, "image_mean", out->mean, -1e6, 1e6);
  clipc__field_rgb(fields, "image_std", out->std, 1e-9, 1e6);
}

/* What a picture of any size ends in, against what the tower takes. */
static void processor_check_size(const struct clipc__config *config, struct clipc__fields *fields) {
  const clipc_preprocessing *spec = &config->preprocessing;
  int height = spec->crop_height, width = spec->crop_width;
  if (*fields->status != CLIPC_OK) return;
  if (height == 0 && spec->resize == CLIPC_RESIZE_EXACT) height = spec->resize_height, width = spec->resize_width;
  if (height == 0)
    clipc__field_refuse(fields, CLIPC_E_UNSUPPORTED, "do_center_crop", "without it pictures end in many sizes");
  else if (height != config->vision.image_height || width != config->vision.image_width)
    *fields->status = clipc__fail(fields->error, CLIPC_E_MODEL,
                                  "%s: pictures end in %d x %d pixels, but the image tower takes %d x %d", fields->file,
                                  height, width, config->vision.image_height, config->vision.image_width);
}

void clipc__preprocess_hf(struct clipc__config *config, struct clipc__fields *fields) {
  clipc_preprocessing *out = &config->preprocessing;
  memcpy(out->mean, processor_mean, sizeof out->mean);
  memcpy(out->std, processor_std, sizeof out->std);
  out->filter = CLIPC_FILTER_BICUBIC;
  processor_type(fields);
  if (!clipc__field_is_off(fields, "use_square_size"))
    clipc__field_refuse(fields, CLIPC_E_UNSUPPORTED, "use_square_size", "not supported");
  if (!clipc__field_is_off(fields, "do_pad"))
    clipc__field_refuse(fields, CLIPC_E_UNSUPPORTED, "do_pad", "not supported");
  out->resize = CLIPC_RESIZE_NONE;
  if (clipc__field_flag(fields, "do_resize", true)) {
    bool square = clipc__field_flag(fields, "default_to_square", false);
    struct processor_size size = processor_size_read(fields, "size", square);
    out->resize = size.shortest ? CLIPC_RESIZE_SHORTEST : CLIPC_RESIZE_EXACT;
    out->resize_height = size.shortest ? size.shortest : size.height;
    out->resize_width = size.shortest ? size.shortest : size.width;
    out->filter = (clipc_filter)clipc__field_int(fields, "resample", CLIPC_FILTER_BICUBIC, 0, 5);
    bool pillow_only = out->filter == CLIPC_FILTER_BOX || out->filter == CLIPC_FILTER_HAMMING;
    if (out->reference == CLIPC_REFERENCE_HF_TV && pillow_only)
      clipc__field_refuse(fields, CLIPC_E_UNSUPPORTED, "resample",
                          "reference hf-tv does nearest, lanczos, bilinear and bicubic");
  }
  if (clipc__field_flag(fields, "do_center_crop", true)) {
    struct processor_size size = processor_size_read(fields, "crop_size", true);
    if (size.shortest) clipc__field_refuse(fields, CLIPC_E_FORMAT, "crop_size", "height and width are needed");
    out->crop_height = size.height;
    out->crop_width = size.width;
  }
  processor_normalization(out, fields);
  processor_check_size(config, fields);
}

/* fill_color: one number for all three, or three. */
static void processor_fill(clipc_preprocessing *out, struct clipc__fields *cfg) {
  float fill[3] = {0, 0, 0};
  clipc__field_rgb(cfg, "fill_color", fill, 0, 255);
  for (int i = 0; i < 3; i++) out->fill[i] = (int)fill[i];
}

void clipc__preprocess_open_clip(struct clipc__config *config, struct clipc__fields *cfg) {
  clipc_preprocessing *out = &config->preprocessing;
  int height = config->vision.image_height, width = config->vision.image_width;
  memcpy(out->mean, processor_mean, sizeof out->mean);
  memcpy(out->std, processor_std, sizeof out->std);
  if (strcmp(clipc__field_string(cfg, "mode", "RGB"), "RGB") != 0)
    clipc__field_refuse(cfg, CLIPC_E_UNSUPPORTED, "mode", "only RGB is supported");
  const char *interpolation = clipc__field_string(cfg, "interpolation", "bicubic");
  bool bilinear = strcmp(interpolation, "bilinear") == 0;
  if (!bilinear && strcmp(interpolation, "bicubic") != 0 && strcmp(interpolation, "random") != 0)
    clipc__field_refuse(cfg, CLIPC_E_UNSUPPORTED, "interpolation", "not one of bicubic, bilinear, random");
  out->filter = bilinear ? CLIPC_FILTER_BILINEAR : CLIPC_FILTER_BICUBIC;
  const char *mode = clipc__field_string(cfg, "resize_mode", "shortest");
  out->resize_height = height;
  out->resize_width = width;
  out->crop_height = height;
  out->crop_width = width;
  if (strcmp(mode, "squash") == 0) {
    out->resize = CLIPC_RESIZE_EXACT;
    out->crop_height = out->crop_width = 0;
  } else if (strcmp(mode, "longest") == 0) {
    out->resize = CLIPC_RESIZE_LONGEST;
    processor_fill(out, cfg);
    if (out->reference != CLIPC_REFERENCE_OPENAI)
      clipc__field_refuse(cfg, CLIPC_E_UNSUPPORTED, "resize_mode", "only reference openai does it");
  } else if (strcmp(mode, "shortest") == 0) {
    out->resize = CLIPC_RESIZE_SHORTEST;
    if (height != width && out->reference != CLIPC_REFERENCE_OPENAI)
      clipc__field_refuse(cfg, CLIPC_E_UNSUPPORTED, "resize_mode", "a target that is not square is only of openai");
    if (height != width) out->filter = CLIPC_FILTER_BICUBIC; /* there open_clip forgets the interpolation */
  } else {
    clipc__field_refuse(cfg, CLIPC_E_UNSUPPORTED, "resize_mode", "not one of shortest, longest, squash");
  }
  out->do_rescale = out->do_normalize = 1;
  out->rescale_factor = 1.0 / 255;
  if (!clipc__field_is_off(cfg, "mean")) clipc__field_rgb(cfg, "mean", out->mean, -1e6, 1e6);
  if (!clipc__field_is_off(cfg, "std")) clipc__field_rgb(cfg, "std", out->std, 1e-9, 1e6);
}
