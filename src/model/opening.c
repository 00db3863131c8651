/* The stages of opening a model, from a path to something that computes.
 * In: a model of options and kernels alone. Out: the model filled, or the first failure's sentence.
 * Invariant: between two steps everything half made hangs on the model or on the opening, so that giving up is freeing
 * both. */
#include "model/opening.h"

#include <string.h>

#define OPENING_THREADS 4u

/* What a step's threads do together. More of them might not come, and then the step is one thread's. */
static size_t opening_shared(const struct clipc_opening *opening, size_t n_bytes) {
  size_t n = (size_t)opening->model->n_threads, shared;
  if (n > OPENING_THREADS) n = OPENING_THREADS;
  return clipc__multiply(&shared, n_bytes, n) ? shared : SIZE_MAX;
}

static bool opening_wants(const struct clipc_opening *opening, enum clipc__opening_stage stage) {
  const struct clipc_model *model = opening->model;
  switch (stage) {
  case CLIPC__OPENING_IMAGE:
  case CLIPC__OPENING_READY_IMAGE: return model->config.vision.present;
  case CLIPC__OPENING_TEXT:
  case CLIPC__OPENING_READY_TEXT:
  case CLIPC__OPENING_READY_TOKENIZER: return model->config.text.present;
  case CLIPC__OPENING_TOKENIZER: return model->config.text.present && opening->synthetic.model == NULL;
  default: return true;
  }
}

/* What comes behind a stage that is done. */
static enum clipc__opening_stage opening_next(const struct clipc_opening *opening) {
  enum clipc__opening_stage stage = opening->stage;
  do {
    if (stage == CLIPC__OPENING_TOKENIZER || (stage == CLIPC__OPENING_PACKED && !opening->ready))
      return CLIPC__OPENING_DONE;
    stage++;
  } while (!opening_wants(opening, stage));
  return stage;
}

static clipc_status opening_look(struct clipc_opening *opening, clipc_error *error) {
  struct clipc_model *model = opening->model;
  const char *path = opening->path;
  if (clipc__is_file(path)) {
    if (!clipc__is_packed(path))
      return clipc__fail(error, CLIPC_E_IO, "%s: is a file, but not a packed model; other models are given as a folder",
                         path);
    opening->stage = CLIPC__OPENING_PACKED;
    return CLIPC_OK;
  }
  if (!clipc__is_folder(path))
    return clipc__fail(error, CLIPC_E_IO, "%s: there is no such folder or file; nothing is downloaded", path);
  model->folder = clipc__arena_string(&model->arena, path, strlen(path));
  if (model->folder == NULL) return clipc__no_memory(error, path);
  opening->store.path = model->folder;
  opening->stage = CLIPC__OPENING_CONFIG;
  return CLIPC_OK;
}

static clipc_status opening_tower(struct clipc_opening *opening, int tower, size_t n_bytes, bool *done,
                                  clipc_error *error) {
  if (opening->begun) return clipc__loader_step(&opening->loader, n_bytes, done, error);
  opening->begun = true;
  return clipc__loader_begin(&opening->loader, tower, error);
}

/* A folder without tokeniser files still embeds ids: the sentence is kept for whoever asks for more. */
static clipc_status opening_tokenizer(struct clipc_opening *opening, size_t n_bytes, bool *done, clipc_error *error) {
  struct clipc_model *model = opening->model;
  clipc_status status;
  if (opening->tokenizer == NULL)
    status = clipc__model_begin_tokenizer(&opening->tokenizer, model, &opening->store, &model->tokenizer_error);
  else
    status = clipc__tokenizer_step(opening->tokenizer, &model->tokenizer, n_bytes, &model->tokenizer_error);
  *done = model->tokenizer != NULL || status == CLIPC_E_IO;
  if (status == CLIPC_OK || status == CLIPC_E_IO) return CLIPC_OK;
  if (error) *error = model->tokenizer_error;
  return status;
}

static clipc_status opening_do(struct clipc_opening *opening, size_t n_bytes, bool *done, clipc_error *error) {
  struct clipc_model *model = opening->model;
  size_t n_shared = opening_shared(opening, n_bytes);
  *done = false;
  switch (opening->stage) {
  case CLIPC__OPENING_LOOK: return opening_look(opening, error);
  case CLIPC__OPENING_IMAGE: return opening_tower(opening, CLIPC_TOWER_IMAGE, n_shared, done, error);
  case CLIPC__OPENING_TEXT: return opening_tower(opening, CLIPC_TOWER_TEXT, n_shared, done, error);
  case CLIPC__OPENING_REST: return clipc__loader_rest(&opening->loader, n_bytes, done, error);
  case CLIPC__OPENING_TOKENIZER: return opening_tokenizer(opening, n_bytes, done, error);
  case CLIPC__OPENING_PACKED: return clipc__packed_step(model, opening->path, n_shared, done, error);
  case CLIPC__OPENING_READY_IMAGE: return clipc__packed_tower_step(model, CLIPC_TOWER_IMAGE, n_shared, done, error);
  case CLIPC__OPENING_READY_TEXT: return clipc__packed_tower_step(model, CLIPC_TOWER_TEXT, n_shared, done, error);
  case CLIPC__OPENING_READY_TOKENIZER: return clipc__packed_tokenizer_step(model, n_bytes, done, error);
  default: break;
  }
  *done = true; /* the others are one step */
  switch (opening->stage) {
  case CLIPC__OPENING_CONFIG: return clipc__config_read(&model->config, &opening->store, &model->options, error);
  case CLIPC__OPENING_TENSORS: {
    clipc_status status =
        clipc__tensors_open(&model->tensors, model->folder, model->config.open_clip, &model->options, error);
    if (status == CLIPC_OK) status = clipc__tensors_cover(&model->tensors, &model->config, error);
    if (status == CLIPC_OK) model->weights_name = model->tensors.file_name;
    return status;
  }
  case CLIPC__OPENING_NAMES:
    return clipc__naming_detect(&opening->loader.naming, &model->tensors, &model->config, error);
  case CLIPC__OPENING_SCALE: return clipc__loader_scale(&opening->loader, error);
  default: return CLIPC_OK;
  }
}

clipc_status clipc__opening_step(struct clipc_opening *opening, size_t n_bytes, clipc_error *error) {
  bool done;
  opening->loader.model = opening->model;
  clipc_status status = opening_do(opening, n_bytes, &done, error);
  if (status != CLIPC_OK || !done) return status;
  opening->stage = opening_next(opening);
  opening->begun = false;
  return CLIPC_OK;
}

clipc_status clipc__opening_shape(struct clipc_opening *opening, const char *shape, clipc_error *error) {
  struct clipc_model *model = opening->model;
  clipc_status status = clipc__synthetic_config(&model->config, shape, &model->options, error);
  if (status != CLIPC_OK) return status;
  clipc__fail(&model->tokenizer_error, CLIPC_E_MODEL, "a synthetic model has no tokeniser");
  opening->synthetic.model = model;
  opening->loader.synthetic = &opening->synthetic;
  opening->loader.naming = CLIPC__NAMES_HF;
  opening->stage = model->config.vision.present ? CLIPC__OPENING_IMAGE : CLIPC__OPENING_TEXT;
  return CLIPC_OK;
}

/* By the time that the stages take: towers by their weights, the tokeniser as a share of it all. */
double clipc__opening_progress(const struct clipc_opening *opening) {
  enum clipc__opening_stage stage = opening->stage;
  if (stage == CLIPC__OPENING_DONE) return 1.0;
  if (stage < CLIPC__OPENING_IMAGE || stage == CLIPC__OPENING_PACKED) return 0.0;
  if (stage == CLIPC__OPENING_TOKENIZER || stage == CLIPC__OPENING_READY_TOKENIZER) return 0.95;
  const struct clipc__config *config = &opening->model->config;
  double weights[2] = {0.0, 0.0};
  const struct clipc__transformer_config *towers[2] = {&config->vision.transformer, &config->text.transformer};
  for (int i = 0; i < 2; i++)
    if (i == 0 ? config->vision.present : config->text.present)
      weights[i] = (double)towers[i]->n_layers * towers[i]->width * towers[i]->width;
  bool packed = stage >= CLIPC__OPENING_PACKED;
  bool image = stage == CLIPC__OPENING_IMAGE || stage == CLIPC__OPENING_READY_IMAGE;
  bool text = stage == CLIPC__OPENING_TEXT || stage == CLIPC__OPENING_READY_TEXT;
  if (!image && !text) return 0.95; /* what is left of the towers is short */
  double part = 0.0;
  if (packed)
    part = clipc__packed_progress(opening->model, image ? CLIPC_TOWER_IMAGE : CLIPC_TOWER_TEXT);
  else if (opening->begun)
    part = clipc__loader_progress(&opening->loader);
  return 0.95 * (image ? weights[0] * part : weights[0] + weights[1] * part) / (weights[0] + weights[1]);
}

void clipc__opening_free(struct clipc_opening *opening) {
  clipc__tokenizer_abandon(opening->tokenizer);
  opening->tokenizer = NULL;
  clipc__loader_free(&opening->loader);
}

#undef OPENING_THREADS
