/* The facade's first half: what a model can be asked, and the stages on their own. Arguments are checked here; the
 * rooms below rely on it. */
#include "base/threads.h"
#include "image/image.h"
#include "model/model.h"

#include <string.h>

const char *clipc_version(void) { return CLIPC_VERSION; }

const char *clipc_build_info(void) { return "f32, bf16 and int8; kernels for AVX2, AVX-512 and NEON, and plain C"; }

clipc_tier clipc_cpu_tier(void) { return clipc__tier_of(clipc__cpu_mask()); }


/* ---- model */

size_t clipc_embedding_dimension(const clipc_model *model) { return model ? model->embedding_dimension : 0; }

const size_t *clipc_supported_dimensions(const clipc_model *model, size_t *n) {
  if (n) *n = model ? 1 : 0;
  return model ? &model->embedding_dimension : NULL;
}

int clipc_towers(const clipc_model *model) {
  if (model == NULL) return 0;
  return (model->config.vision.present ? CLIPC_TOWER_IMAGE : 0) | (model->config.text.present ? CLIPC_TOWER_TEXT : 0);
}

int clipc_image_height(const clipc_model *model) {
  return model && model->config.vision.present ? model->config.vision.image_height : 0;
}

int clipc_image_width(const clipc_model *model) {
  return model && model->config.vision.present ? model->config.vision.image_width : 0;
}

size_t clipc_context_length(const clipc_model *model) {
  return model && model->config.text.present ? (size_t)model->config.text.context_length : 0;
}

size_t clipc_vocabulary_size(const clipc_model *model) {
  return model && model->config.text.present ? (size_t)model->config.text.vocab_size : 0;
}

clipc_reference clipc_model_reference(const clipc_model *model) {
  return model ? model->config.reference : CLIPC_REFERENCE_AUTO;
}

float clipc_logit_scale(const clipc_model *model) { return model ? model->logit_scale : 0.0f; }

float clipc_logit_bias(const clipc_model *model) { return model ? model->logit_bias : 0.0f; }

const clipc_preprocessing *clipc_model_preprocessing(const clipc_model *model) {
  return model && model->config.vision.present ? &model->config.preprocessing : NULL;
}

/* ---- inputs */

clipc_image clipc_image_path(const char *path) { return (clipc_image){.kind = CLIPC_IMAGE_PATH, .data = path}; }

clipc_image clipc_image_bytes(const void *bytes, size_t n_bytes) {
  return (clipc_image){.kind = CLIPC_IMAGE_BYTES, .data = bytes, .n_bytes = n_bytes};
}

clipc_image clipc_image_rgb(const uint8_t *rgb, int height, int width, size_t stride_bytes) {
  return (clipc_image){
      .kind = CLIPC_IMAGE_RGB, .data = rgb, .height = height, .width = width, .stride_bytes = stride_bytes};
}

clipc_image clipc_image_pixels(const float *pixels) {
  return (clipc_image){.kind = CLIPC_IMAGE_PIXELS, .data = pixels};
}

clipc_text clipc_text_utf8(const char *utf8, size_t n_bytes) { return (clipc_text){.utf8 = utf8, .n_bytes = n_bytes}; }

clipc_text clipc_text_string(const char *string) { return clipc_text_utf8(string, string ? strlen(string) : 0); }

clipc_text clipc_text_ids(const int32_t *ids, size_t n_ids) { return (clipc_text){.ids = ids, .n_ids = n_ids}; }

/* ---- stages */

/* What reading a PATH or BYTES image is subject to; options are effective. *file is to be closed, also on failure. */
static clipc_status source_of(struct clipc__source *source, struct clipc__file *file, const clipc_image *image,
                              const clipc_options *options, clipc_error *error) {
  *file = (struct clipc__file){.allocator = options->allocator};
  if (image->data == NULL) return clipc__fail(error, CLIPC_E_INVALID, "the image's data is NULL");
  *source = (struct clipc__source){.bytes = image->data,
                                   .n_bytes = image->n_bytes,
                                   .name = "image bytes",
                                   .limits = &options->limits,
                                   .cpu = clipc__cpu_mask() & clipc__tier_mask(options->tier),
                                   .allocator = &options->allocator,
                                   .error = error};
  if (image->kind == CLIPC_IMAGE_BYTES) return CLIPC_OK;
  clipc_status status =
      clipc__file_open(file, image->data, false, options->limits.max_image_bytes, &options->allocator, error);
  source->bytes = file->data;
  source->n_bytes = file->n_bytes;
  source->name = image->data;
  return status;
}

/* The picture of an RGB image, whose pixels are borrowed. */
static clipc_status rgb_picture_of(struct clipc__picture *picture, const clipc_image *image,
                                   const clipc_options *options, clipc_error *error) {
  if (image->data == NULL) return clipc__fail(error, CLIPC_E_INVALID, "the image's data is NULL");
  if (image->kind != CLIPC_IMAGE_RGB)
    return clipc__fail(error, CLIPC_E_INVALID, "the image's kind %d is not a picture", (int)image->kind);
  if (image->height < 1 || image->width < 1)
    return clipc__fail(error, CLIPC_E_INVALID, "an image of %d x %d pixels", image->width, image->height);
  if ((uint64_t)image->width * (uint64_t)image->height > options->limits.max_image_pixels)
    return clipc__fail(error, CLIPC_E_LIMIT, "%d x %d pixels are more than the limit of %llu", image->width,
                       image->height, (unsigned long long)options->limits.max_image_pixels);
  if (image->stride_bytes < 3 * (size_t)image->width)
    return clipc__fail(error, CLIPC_E_INVALID, "a stride of %zu bytes is too small for %d RGB pixels",
                       image->stride_bytes, image->width);
  *picture = (struct clipc__picture){.allocator = options->allocator,
                                     .mode = CLIPC__MODE_RGB,
                                     .width = image->width,
                                     .height = image->height,
                                     .stride_bytes = image->stride_bytes,
                                     .data = (uint8_t *)(uintptr_t)image->data,
                                     .borrowed = true,
                                     .orientation = 1};
  return CLIPC_OK;
}

clipc_status clipc_decode(clipc_picture *out, const clipc_image *image, const clipc_options *options,
                          clipc_error *error) {
  if (out == NULL) return clipc__fail(error, CLIPC_E_INVALID, "clipc_decode: out is NULL");
  *out = (clipc_picture){0};
  if (image == NULL) return clipc__fail(error, CLIPC_E_INVALID, "clipc_decode: image is NULL");
  if (image->kind != CLIPC_IMAGE_PATH && image->kind != CLIPC_IMAGE_BYTES)
    return clipc__fail(error, CLIPC_E_INVALID, "clipc_decode: only a path or bytes can be decoded");
  clipc_options effective;
  clipc_status status = clipc__effective_options(&effective, options, error);
  if (status != CLIPC_OK) return status;
  struct clipc__picture picture;
  struct clipc__source source;
  struct clipc__file file;
  status = source_of(&source, &file, image, &effective, error);
  if (status == CLIPC_OK) status = clipc__source_decode(&picture, &source);
  clipc__file_close(&file);
  if (status != CLIPC_OK) return status;
  if (effective.apply_exif) status = clipc__picture_transpose(&picture, error);
  if (status == CLIPC_OK) status = clipc__picture_to_rgb(&picture, CLIPC_ALPHA_DROP, error);
  if (status == CLIPC_OK)
    *out = (clipc_picture){picture.data, picture.height, picture.width, effective.allocator};
  else
    clipc__picture_free(&picture);
  return status;
}

void clipc_picture_free(clipc_picture *picture) {
  if (picture == NULL) return;
  clipc__free(&picture->allocator, picture->rgb);
  *picture = (clipc_picture){0};
}

clipc_status clipc__preprocess(const clipc_model *model, const clipc_image *image, const clipc_preprocessing *steps,
                               float *pixels, clipc_error *error) {
  int height = clipc_image_height(model), width = clipc_image_width(model);
  if (image->kind == CLIPC_IMAGE_PATH || image->kind == CLIPC_IMAGE_BYTES) {
    struct clipc__source source;
    struct clipc__file file;
    clipc_status status = source_of(&source, &file, image, &model->options, error);
    if (status == CLIPC_OK) status = clipc__preprocess_source(pixels, height, width, &source, steps);
    clipc__file_close(&file);
    return status;
  }
  struct clipc__picture picture;
  clipc_status status = rgb_picture_of(&picture, image, &model->options, error);
  if (status != CLIPC_OK) return status;
  clipc_error inner = {CLIPC_OK, ""};
  unsigned cpu = clipc__cpu_mask() & clipc__tier_mask(model->options.tier);
  status = clipc__preprocess_picture(pixels, height, width, &picture, steps, cpu, &inner);
  return status == CLIPC_OK ? CLIPC_OK : clipc__fail(error, status, "the picture: %s", inner.message);
}

clipc_status clipc_preprocess(const clipc_model *model, const clipc_image *image, float *pixels, clipc_error *error) {
  if (model == NULL || image == NULL || pixels == NULL)
    return clipc__fail(error, CLIPC_E_INVALID, "clipc_preprocess: %s is NULL",
                       !model   ? "model"
                       : !image ? "image"
                                : "pixels");
  if (!model->config.vision.present)
    return clipc__fail(error, CLIPC_E_MODEL, "the model was opened without an image tower");
  return clipc__preprocess(model, image, &model->config.preprocessing, pixels, error);
}

clipc_status clipc_tokenize(const clipc_model *model, const char *utf8, size_t n_bytes, int32_t *ids, size_t *n_ids,
                            clipc_error *error) {
  if (model == NULL || ids == NULL || n_ids == NULL || (utf8 == NULL && n_bytes > 0))
    return clipc__fail(error, CLIPC_E_INVALID, "clipc_tokenize: %s is NULL",
                       !model   ? "model"
                       : !ids   ? "ids"
                       : !n_ids ? "n_ids"
                                : "utf8");
  if (!model->config.text.present)
    return clipc__fail(error, CLIPC_E_MODEL, "the model was opened without a text tower");
  const struct clipc__tokenizer *tokenizer;
  clipc_status status = clipc__model_tokenizer(&tokenizer, model, error);
  return status == CLIPC_OK ? clipc__tokenize(tokenizer, ids, n_ids, utf8, n_bytes, error) : status;
}
