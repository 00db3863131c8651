/* The facade's second half: sessions, and the computation of many items as a machine of small steps.
 *
 *   gather a piece (decode and preprocess, or tokenise; items that fail drop out) -> block, block, ...
 *   -> finish (pool, project, normalise, hand out) -> the next piece, until the items are used up
 *
 * The synchronous calls are loops over clipc_step. */
#include "base/threads.h"
#include "model/model.h"

#include <math.h>
#include <string.h>

enum embed_stage { EMBED_IDLE, EMBED_GATHER, EMBED_BLOCKS, EMBED_FINISH };

struct clipc_session {
  clipc_model *model;
  bool raw;
  void (*observe)(void *context, const clipc_layer *layer); /* NULL: nobody looks */
  void *observe_context;
  struct clipc__workspace workspace;
  /* buffers of one piece, [max_batch] */
  size_t *items; /* which item each sequence is */
  size_t *n_ids;
  clipc_error *outcomes; /* of each item of the piece, before failures drop out */
  float *results;        /* [max_batch, dimension] */
  /* what is being computed */
  enum embed_stage stage;
  const clipc_image *images; /* one of the two */
  const clipc_text *texts;
  size_t n_items, next_item, n_sequences;
  float *embeddings;
  clipc_error *item_errors;
  clipc_error first_error; /* of item first_failed; n_items = none */
  size_t first_failed;
};

clipc_status clipc_session_open(clipc_session **out, clipc_model *model, const clipc_session_options *options,
                                clipc_error *error) {
  if (out == NULL) return clipc__fail(error, CLIPC_E_INVALID, "clipc_session_open: out is NULL");
  *out = NULL;
  if (model == NULL) return clipc__fail(error, CLIPC_E_INVALID, "clipc_session_open: model is NULL");
  int max_batch = options && options->max_batch ? options->max_batch : 8;
  if (max_batch < 1 || max_batch > 65536)
    return clipc__fail(error, CLIPC_E_INVALID, "option max_batch: %d is not in 1 .. 65536", max_batch);
  const clipc_allocator *allocator = &model->allocator;
  size_t n = (size_t)max_batch;
  clipc_session *session = clipc__alloc_zeroed(allocator, 1, sizeof *session);
  if (session == NULL) return clipc__no_memory(error, "a session");
  session->model = clipc_model_retain(model);
  session->raw = options && options->raw;
  clipc_status status = clipc__workspace_make(&session->workspace, model, n, error);
  if (status == CLIPC_OK) {
    session->items = clipc__alloc(allocator, n, sizeof *session->items);
    session->n_ids = clipc__alloc(allocator, n, sizeof *session->n_ids);
    session->outcomes = clipc__alloc(allocator, n, sizeof *session->outcomes);
    session->results = clipc__alloc(allocator, n, model->embedding_dimension * sizeof *session->results);
    if (!session->items || !session->n_ids || !session->outcomes || !session->results)
      status = clipc__no_memory(error, "a session");
  }
  if (status == CLIPC_OK)
    *out = session;
  else
    clipc_session_close(session);
  return status;
}

void clipc_session_close(clipc_session *session) {
  if (session == NULL) return;
  clipc_model *model = session->model;
  void *buffers[] = {session->items, session->n_ids, session->outcomes, session->results};
  for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++) clipc__free(&model->allocator, buffers[i]);
  clipc__workspace_free(&session->workspace, model);
  clipc__free(&model->allocator, session);
  clipc_model_close(model);
}

const clipc_model *clipc__session_model(const clipc_session *session) { return session->model; }

void clipc_session_observe(clipc_session *session, void (*observe)(void *context, const clipc_layer *layer),
                           void *context) {
  if (session == NULL) return;
  session->observe = observe;
  session->observe_context = context;
}

/* ---- gathering a piece */

static size_t image_floats(const clipc_session *session) {
  return 3 * (size_t)clipc_image_height(session->model) * (size_t)clipc_image_width(session->model);
}

/* Pictures become levels at once, pixels are turned into them. The weights may be folded for other levels than the
 * steps lead to, as those of a packed file whose opener has other steps: then pictures become pixels first. */
static void gather_levels(float *levels, const clipc_model *model, const clipc_image *image, clipc_error *outcome) {
  const struct clipc__vision *vision = &model->vision;
  clipc_preprocessing steps = model->config.preprocessing;
  struct clipc__levels made = clipc__levels_of(&steps);
  bool same = memcmp(&made, &vision->levels, sizeof made) == 0;
  if (same) {
    steps.do_rescale = 0;
    steps.do_normalize = 1;
    for (int c = 0; c < 3; c++) steps.mean[c] = CLIPC__LEVEL_OFFSET, steps.std[c] = 1.0f;
  }
  if (clipc__preprocess(model, image, &steps, levels, outcome) == CLIPC_OK && !same)
    clipc__vision_levels(levels, levels, vision);
}

static void gather_image(void *context, size_t index, int slot) {
  (void)slot;
  clipc_session *session = context;
  const clipc_image *image = &session->images[session->next_item + index];
  clipc_error *outcome = &session->outcomes[index];
  float *levels = session->workspace.pixels + index * image_floats(session);
  if (image->kind != CLIPC_IMAGE_PIXELS)
    gather_levels(levels, session->model, image, outcome);
  else if (image->data == NULL)
    clipc__fail(outcome, CLIPC_E_INVALID, "the image's pixels are NULL");
  else
    clipc__vision_levels(levels, image->data, &session->model->vision);
}

/* Ids become rows of the token embedding: whoever made them, they are checked. */
static void check_ids(const clipc_session *session, const int32_t *ids, size_t n_ids, bool ours, clipc_error *outcome) {
  int vocab_size = session->model->text.config.vocab_size;
  for (size_t i = 0; i < n_ids; i++)
    if (ids[i] < 0 || ids[i] >= vocab_size) {
      clipc__fail(outcome, ours ? CLIPC_E_FORMAT : CLIPC_E_INVALID,
                  "%s %d at position %zu is not in the vocabulary of %d", ours ? "the tokeniser's id" : "id",
                  (int)ids[i], i, vocab_size);
      return;
    }
  clipc__model_ids_ready(session->model, ids, n_ids, outcome);
}

static void gather_text(void *context, size_t index, int slot) {
  (void)slot;
  clipc_session *session = context;
  const clipc_text *text = &session->texts[session->next_item + index];
  clipc_error *outcome = &session->outcomes[index];
  size_t context_length = clipc_context_length(session->model), n_ids = text->n_ids;
  int32_t *ids = session->workspace.ids + index * context_length;
  if (text->ids == NULL) {
    if (text->utf8 == NULL || n_ids > 0)
      clipc__fail(outcome, CLIPC_E_INVALID, "the %s NULL", n_ids > 0 ? "ids are" : "text is");
    else
      clipc_tokenize(session->model, text->utf8, text->n_bytes, ids, &n_ids, outcome);
  } else if (n_ids < 1 || n_ids > context_length) {
    clipc__fail(outcome, CLIPC_E_INVALID, "%zu ids: a text has 1 to %zu", n_ids, context_length);
  } else {
    memcpy(ids, text->ids, n_ids * sizeof *ids);
  }
  if (outcome->status != CLIPC_OK) return;
  check_ids(session, ids, n_ids, text->ids == NULL, outcome);
  session->n_ids[index] = n_ids;
}

static void set_outcome(clipc_session *session, size_t item, const clipc_error *outcome) {
  if (session->item_errors) session->item_errors[item] = *outcome;
  if (outcome->status == CLIPC_OK || item >= session->first_failed) return;
  session->first_error = *outcome;
  session->first_failed = item;
}

/* Moves what succeeded together: sequence s of the piece is item items[s]. */
static void drop_failures(clipc_session *session, size_t n_piece) {
  struct clipc__workspace *ws = &session->workspace;
  size_t context = clipc_context_length(session->model), floats = image_floats(session), n = 0;
  for (size_t i = 0; i < n_piece; i++) {
    set_outcome(session, session->next_item + i, &session->outcomes[i]);
    if (session->outcomes[i].status != CLIPC_OK) continue;
    if (n < i && session->images) memcpy(ws->pixels + n * floats, ws->pixels + i * floats, floats * sizeof *ws->pixels);
    if (n < i && session->texts) {
      memcpy(ws->ids + n * context, ws->ids + i * context, context * sizeof *ws->ids);
      session->n_ids[n] = session->n_ids[i];
    }
    session->items[n++] = session->next_item + i;
  }
  session->n_sequences = n;
}

/* Hands the residual stream, which holds every token here, to the observer, item by item. */
static void show_layer(const clipc_session *session) {
  if (session->observe == NULL) return;
  const struct clipc__workspace *ws = &session->workspace;
  const clipc_model *model = session->model;
  const struct clipc__transformer_config *config =
      session->images ? &model->vision.transformer.config : &model->text.transformer.config;
  clipc_layer layer = {.tower = session->images ? CLIPC_TOWER_IMAGE : CLIPC_TOWER_TEXT,
                       .layer = ws->next_block,
                       .n_layers = config->n_layers,
                       .width = (size_t)config->width};
  for (size_t s = 0; s < session->n_sequences; s++) {
    layer.item = session->items[s];
    layer.n_tokens = ws->sequences.start[s + 1] - ws->sequences.start[s];
    layer.hidden = ws->hidden + ws->sequences.start[s] * layer.width;
    session->observe(session->observe_context, &layer);
  }
}

static void gather_piece(clipc_session *session) {
  size_t left = session->n_items - session->next_item,
         max_batch = session->images ? session->workspace.max_images : session->workspace.max_batch;
  size_t n_piece = left < max_batch ? left : max_batch;
  memset(session->outcomes, 0, n_piece * sizeof *session->outcomes);
  if (session->texts)
    memset(session->workspace.ids, 0, n_piece * clipc_context_length(session->model) * sizeof(int32_t));
  clipc__parallel(session->model->n_threads, n_piece, session->images ? gather_image : gather_text, session);
  drop_failures(session, n_piece);
  session->next_item += n_piece;
  if (session->n_sequences == 0) return;
  if (session->images)
    clipc__vision_begin(&session->workspace, &session->model->vision, session->n_sequences);
  else
    clipc__text_begin(&session->workspace, &session->model->text, session->n_sequences, session->n_ids);
  session->stage = EMBED_BLOCKS;
  show_layer(session);
}

/* ---- computing and handing out */

/* Who looks at the layers sees every token of the last one, and the pooled ones are taken out of it afterwards. */
static void compute_block(clipc_session *session) {
  const clipc_model *model = session->model;
  const struct clipc__transformer *transformer =
      session->images ? &model->vision.transformer : &model->text.transformer;
  bool pool = session->texts || clipc__vision_pools_one_token(&model->vision);
  clipc__block_step(&session->workspace, transformer, pool && session->observe == NULL);
  bool last = session->workspace.next_block == transformer->config.n_layers;
  if (last && pool && session->observe != NULL)
    clipc__take_pooled(&session->workspace, (size_t)transformer->config.width);
  if (last) session->stage = EMBED_FINISH;
  show_layer(session);
}

/* x / max(|x|, 1e-12), as torch.nn.functional.normalize; false when x is not finite. */
static bool normalize(float *x, size_t n, bool raw) {
  double sum = 0;
  for (size_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
  if (!isfinite(sum)) return false;
  if (raw) return true;
  double norm = sqrt(sum);
  float divisor = (float)(norm > 1e-12 ? norm : 1e-12);
  for (size_t i = 0; i < n; i++) x[i] /= divisor;
  return true;
}

static void finish_piece(clipc_session *session) {
  size_t dimension = session->model->embedding_dimension;
  if (session->images)
    clipc__vision_finish(&session->workspace, &session->model->vision, session->results);
  else
    clipc__text_finish(&session->workspace, &session->model->text, session->results);
  for (size_t s = 0; s < session->n_sequences; s++) {
    float *result = session->results + s * dimension;
    clipc_error outcome = {CLIPC_OK, ""};
    if (normalize(result, dimension, session->raw))
      memcpy(session->embeddings + session->items[s] * dimension, result, dimension * sizeof *result);
    else
      clipc__fail(&outcome, CLIPC_E_FORMAT, "the embedding is not finite");
    set_outcome(session, session->items[s], &outcome);
  }
  session->stage = EMBED_GATHER;
}

clipc_status clipc_step(clipc_session *session, int *done, clipc_error *error) {
  if (session == NULL || done == NULL)
    return clipc__fail(error, CLIPC_E_INVALID, "clipc_step: %s is NULL", session ? "done" : "session");
  if (session->stage == EMBED_IDLE) return clipc__fail(error, CLIPC_E_INVALID, "clipc_step: nothing was begun");
  *done = 0;
  if (session->stage == EMBED_GATHER && session->next_item < session->n_items)
    gather_piece(session);
  else if (session->stage == EMBED_BLOCKS)
    compute_block(session);
  else if (session->stage == EMBED_FINISH)
    finish_piece(session);
  if (session->stage != EMBED_GATHER || session->next_item < session->n_items) return CLIPC_OK;
  session->stage = EMBED_IDLE;
  *done = 1;
  if (session->first_error.status != CLIPC_OK && error) *error = session->first_error;
  return session->first_error.status;
}

/* ---- begin, and the synchronous calls */

static clipc_status begin_items(clipc_session *session, int tower, const clipc_image *images, const clipc_text *texts,
                                size_t n, float *embeddings, clipc_error *item_errors, clipc_error *error) {
  if (session == NULL) return clipc__fail(error, CLIPC_E_INVALID, "the session is NULL");
  if (!(clipc_towers(session->model) & tower))
    return clipc__fail(error, CLIPC_E_MODEL, "the model was opened without %s tower",
                       tower == CLIPC_TOWER_IMAGE ? "an image" : "a text");
  if (n > 0 && images == NULL && texts == NULL) return clipc__fail(error, CLIPC_E_INVALID, "the items are NULL");
  if (n > 0 && embeddings == NULL) return clipc__fail(error, CLIPC_E_INVALID, "embeddings is NULL");
  clipc_status status = clipc__model_tower_ready(session->model, tower, error);
  if (status != CLIPC_OK) return status;
  session->images = images;
  session->texts = texts;
  session->n_items = session->first_failed = n;
  session->next_item = session->n_sequences = 0;
  session->embeddings = embeddings;
  session->item_errors = item_errors;
  session->first_error = (clipc_error){CLIPC_OK, ""};
  session->stage = EMBED_GATHER;
  return CLIPC_OK;
}

clipc_status clipc_begin_images(clipc_session *session, const clipc_image *images, size_t n, float *embeddings,
                                clipc_error *item_errors, clipc_error *error) {
  return begin_items(session, CLIPC_TOWER_IMAGE, images, NULL, n, embeddings, item_errors, error);
}

clipc_status clipc_begin_texts(clipc_session *session, const clipc_text *texts, size_t n, float *embeddings,
                               clipc_error *item_errors, clipc_error *error) {
  return begin_items(session, CLIPC_TOWER_TEXT, NULL, texts, n, embeddings, item_errors, error);
}

static clipc_status run_to_end(clipc_session *session, clipc_status begun, clipc_error *error) {
  clipc_status status = begun;
  for (int done = 0; status == CLIPC_OK && !done;) status = clipc_step(session, &done, error);
  return status;
}

clipc_status clipc_embed_images(clipc_session *session, const clipc_image *images, size_t n, float *embeddings,
                                clipc_error *item_errors, clipc_error *error) {
  return run_to_end(session, clipc_begin_images(session, images, n, embeddings, item_errors, error), error);
}

clipc_status clipc_embed_texts(clipc_session *session, const clipc_text *texts, size_t n, float *embeddings,
                               clipc_error *item_errors, clipc_error *error) {
  return run_to_end(session, clipc_begin_texts(session, texts, n, embeddings, item_errors, error), error);
}

static clipc_status embed_one_image(clipc_session *session, clipc_image image, float *embedding, clipc_error *error) {
  return clipc_embed_images(session, &image, 1, embedding, NULL, error);
}

static clipc_status embed_one_text(clipc_session *session, clipc_text text, float *embedding, clipc_error *error) {
  return clipc_embed_texts(session, &text, 1, embedding, NULL, error);
}

clipc_status clipc_embed_image(clipc_session *session, const char *path, float *embedding, clipc_error *error) {
  return embed_one_image(session, clipc_image_path(path), embedding, error);
}

clipc_status clipc_embed_image_bytes(clipc_session *session, const void *bytes, size_t n_bytes, float *embedding,
                                     clipc_error *error) {
  return embed_one_image(session, clipc_image_bytes(bytes, n_bytes), embedding, error);
}

clipc_status clipc_embed_image_rgb(clipc_session *session, const uint8_t *rgb, int height, int width,
                                   size_t stride_bytes, float *embedding, clipc_error *error) {
  return embed_one_image(session, clipc_image_rgb(rgb, height, width, stride_bytes), embedding, error);
}

clipc_status clipc_embed_image_pixels(clipc_session *session, const float *pixels, float *embedding,
                                      clipc_error *error) {
  return embed_one_image(session, clipc_image_pixels(pixels), embedding, error);
}

clipc_status clipc_embed_text(clipc_session *session, const char *text, float *embedding, clipc_error *error) {
  if (text == NULL) return clipc__fail(error, CLIPC_E_INVALID, "the text is NULL");
  return embed_one_text(session, clipc_text_string(text), embedding, error);
}

clipc_status clipc_embed_ids(clipc_session *session, const int32_t *ids, size_t n_ids, float *embedding,
                             clipc_error *error) {
  if (ids == NULL) return clipc__fail(error, CLIPC_E_INVALID, "ids is NULL");
  return embed_one_text(session, clipc_text_ids(ids, n_ids), embedding, error);
}
