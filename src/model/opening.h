/* Opening a model in steps: opening.c goes from one stage to the next; load.c, packed.c and the rooms below do them.
 * A step's work is measured in bytes: of weights as f32 that are packed, and so much of anything else as takes about as
 * long. SIZE_MAX does all of what a stage can do at once. */
#ifndef CLIPC_OPENING_H
#define CLIPC_OPENING_H

#include "model/model.h"

/* ---- a folder's towers (load.c) */

#define CLIPC__LINEARS_AT_ONCE 8 /* most of a unit */

/* A tensor that is not f32 in its file, on its way to memory. */
struct clipc__widening {
  const struct clipc__tensor *tensor;
  float *out;
};

/* Fetches and packs towers, one after the other, unit by unit: what comes before the blocks, each block, what comes
 * behind them. What stays the same while the tensors of one unit are fetched is here too. The first failure sticks:
 * later fetches do nothing, and the caller looks once. */
struct clipc__loader {
  struct clipc_model *model;
  enum clipc__naming naming;
  struct clipc__synthetic *synthetic; /* where tensors come from when there is no file; else NULL */
  int tower, layer;
  bool projection_bias;
  int unit; /* of the tower: 0, 1 .. n_layers, n_layers + 1 */
  bool fetched;
  struct clipc__arena staging; /* f32 that is not in the file as such, until it is packed */
  struct clipc__pack_job jobs[CLIPC__LINEARS_AT_ONCE];
  size_t n_jobs;
  struct clipc__widening widenings[CLIPC__LINEARS_AT_ONCE];
  size_t n_widenings, next_widening, next_number;
  struct clipc__packing packing;
  size_t n_read; /* bytes of weights since the files were last told to rest */
  float *rows;   /* the token embedding's place in memory, while it is copied there */
  clipc_status status;
  clipc_error *error;
};

/* Lays a tower out in memory of the model's arena. */
CLIPC_PRIVATE clipc_status clipc__loader_begin(struct clipc__loader *loader, int tower, clipc_error *error);
/* One step; *done is set when the tower is loaded. */
CLIPC_PRIVATE clipc_status clipc__loader_step(struct clipc__loader *loader, size_t n_bytes, bool *done,
                                              clipc_error *error);
/* Behind the last tower: logit scale and bias. */
CLIPC_PRIVATE clipc_status clipc__loader_scale(struct clipc__loader *loader, clipc_error *error);
/* Gives back what was read of the files and is not used; *done is set at the end. */
CLIPC_PRIVATE clipc_status clipc__loader_rest(struct clipc__loader *loader, size_t n_bytes, bool *done,
                                              clipc_error *error);
CLIPC_PRIVATE double clipc__loader_progress(const struct clipc__loader *loader); /* of this tower, 0 .. 1 */
CLIPC_PRIVATE void clipc__loader_free(struct clipc__loader *loader);

/* Begins to open the tokeniser that the model's configuration asks for. */
CLIPC_PRIVATE clipc_status clipc__model_begin_tokenizer(struct clipc__tokenizer_opening **out,
                                                        const struct clipc_model *model,
                                                        const struct clipc__store *store, clipc_error *error);

/* ---- a packed file (packed.c) */

/* One step of opening the file; *done is set when it is open. */
CLIPC_PRIVATE clipc_status clipc__packed_step(struct clipc_model *model, const char *path, size_t n_bytes, bool *done,
                                              clipc_error *error);
/* One step of what clipc__model_tower_ready and clipc__model_tokenizer do, while nobody else has the model. A file
 * without a tokeniser is none the worse for it. */
CLIPC_PRIVATE clipc_status clipc__packed_tower_step(struct clipc_model *model, int tower, size_t n_bytes, bool *done,
                                                    clipc_error *error);
CLIPC_PRIVATE clipc_status clipc__packed_tokenizer_step(struct clipc_model *model, size_t n_bytes, bool *done,
                                                        clipc_error *error);
CLIPC_PRIVATE double clipc__packed_progress(const struct clipc_model *model, int tower); /* of its stage, 0 .. 1 */

/* ---- the whole (opening.c) */

enum clipc__opening_stage {
  CLIPC__OPENING_LOOK,
  CLIPC__OPENING_CONFIG,
  CLIPC__OPENING_TENSORS,
  CLIPC__OPENING_NAMES,
  CLIPC__OPENING_IMAGE,
  CLIPC__OPENING_TEXT,
  CLIPC__OPENING_SCALE,
  CLIPC__OPENING_REST,
  CLIPC__OPENING_TOKENIZER,
  CLIPC__OPENING_PACKED,
  CLIPC__OPENING_READY_IMAGE,
  CLIPC__OPENING_READY_TEXT,
  CLIPC__OPENING_READY_TOKENIZER,
  CLIPC__OPENING_DONE
};

struct clipc_opening {
  clipc_allocator allocator;
  struct clipc_model *model; /* of nothing but options and kernels when it begins; NULL: handed out, or failed */
  const char *path;          /* of the model's arena */
  bool ready;                /* what comes before the first use of a packed file is done too */
  enum clipc__opening_stage stage;
  bool begun; /* the stage, where it has more than one step */
  struct clipc__store store;
  struct clipc__synthetic synthetic;
  struct clipc__loader loader;
  struct clipc__tokenizer_opening *tokenizer;
};

/* One step: a stage, or a part of one that takes each thread about n_bytes. At stage DONE the model is open. */
CLIPC_PRIVATE clipc_status clipc__opening_step(struct clipc_opening *opening, size_t n_bytes, clipc_error *error);
/* Begins with a synthetic shape instead of a path. */
CLIPC_PRIVATE clipc_status clipc__opening_shape(struct clipc_opening *opening, const char *shape, clipc_error *error);
CLIPC_PRIVATE double clipc__opening_progress(const struct clipc_opening *opening);
/* What is half made, but for the model. */
CLIPC_PRIVATE void clipc__opening_free(struct clipc_opening *opening);

/* Of the facade (open.c): asks an opening that was begun for what comes before the first use too: a packed file's
 * checksums, repacking and tokeniser. What is damaged then fails the opening. */
CLIPC_PRIVATE void clipc__model_open_ready(clipc_opening *opening);

#endif
