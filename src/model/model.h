/* The model room: weights and configuration become two towers; a workspace carries one computation through
 * them block by block. load.c -> vision.c, text.c on block.c */
#ifndef CLIPC_MODEL_H
#define CLIPC_MODEL_H

#include "base/base.h"
#include "base/sha256.h"
#include "kernels/kernels.h"
#include "text/text.h"
#include "weights/weights.h"

struct clipc__norm {
  const float *weight, *bias; /* [width] */
};

/* The affines of ln_1 and ln_2 are folded into qkv and fc1, 1/sqrt(head_dim) into q. */
struct clipc__block_weights {
  struct clipc__linear qkv[3]; /* [width, width] each */
  struct clipc__linear out;    /* [width, width] */
  struct clipc__linear fc1;    /* [mlp_width, width] */
  struct clipc__linear fc2;    /* [width, mlp_width] */
};

struct clipc__transformer {
  struct clipc__transformer_config config;
  struct clipc__block_weights *blocks; /* [n_layers] */
};

/* What a tower takes for a pixel: its level of 0 .. 255 less 128, so that whole levels are exact in bf16 and in eight
 * bits. Pixel = gain * level + shift, by colour, is folded into the patch embedding. */
struct clipc__levels {
  float gain[3], shift[3]; /* gain above nought */
};
#define CLIPC__LEVEL_OFFSET 128

struct clipc__vision {
  struct clipc__vision_config config;
  size_t grid_height, grid_width, n_tokens; /* n_tokens = 1 + grid_height * grid_width */
  struct clipc__levels levels;
  struct clipc__linear patch_embedding; /* [width, 3 * patch * patch] */
  const float *class_embedding;         /* [width] */
  const float *position_embedding;      /* [n_tokens, width] */
  struct clipc__norm ln_pre;            /* unless config.ln_pre is false */
  struct clipc__transformer transformer;
  struct clipc__norm ln_post;
  struct clipc__linear projection; /* [embedding, width], where config.projection */
};

struct clipc__text {
  struct clipc__text_config config;
  const float *token_embedding;    /* [vocab_size, width]; not in the tower's piece of memory */
  const float *position_embedding; /* [context_length, width] */
  struct clipc__transformer transformer;
  struct clipc__norm ln_final;
  struct clipc__linear projection; /* [embedding, width], where config.projection */
};

/* A tower's numbers lie in one piece of memory, in an order that its configuration and the gemms fix. Laying out
 * counts, and where base is set points the tower's parts into it; what lies there is filled in, or mapped. */
struct clipc__layout {
  char *base; /* aligned to 64, or NULL */
  size_t n_bytes;
  bool clear; /* sets what lies between the parts to nought */
};

/* What the fingerprint of an embedding space is made of, apart from the configuration and the precision (space.c).
 * Kept in packed files as it lies. */
struct clipc__space {
  uint8_t weights[CLIPC__SHA256_BYTES];
  uint8_t tokenizer[2][CLIPC__SHA256_BYTES]; /* by transformers' rules, by open_clip's; noughts where there is none */
  uint32_t towers;                           /* that the weights are of */
  uint32_t nought;
};

struct clipc_model {
  clipc_allocator allocator;
  int n_references; /* atomic */
  int n_threads;
  clipc_options options; /* with effective limits and threads */
  struct clipc__kernels kernels;
  struct clipc__config config;
  struct clipc__tensors tensors;  /* of the folder, while something points into it */
  const char *folder;             /* its path; NULL: not from a folder */
  const char *weights_name;       /* of the weight file within the folder */
  struct clipc__packed *packed;   /* the packed file that the model is from, or NULL */
  struct clipc__arena arena;      /* the towers' memory */
  struct clipc__layout memory[2]; /* the image and the text tower's piece of it; not those of a packed file */
  struct clipc__vision vision;    /* config.present says whether it is open */
  struct clipc__text text;
  struct clipc__tokenizer *tokenizer; /* of a folder; NULL: tokenizer_error says why */
  clipc_error tokenizer_error;
  size_t embedding_dimension;
  float logit_scale, logit_bias;
};

/* A model is filled by an opening (opening.h), and freed by this, however far that came. */
CLIPC_PRIVATE void clipc__model_unload(struct clipc_model *model);

/* ---- packed files (pack.c writes, packed.c opens: towers are laid out in the file, but neither compared with their
 * checksums nor brought into another shape before they are used, and the tokeniser is not opened) */

CLIPC_PRIVATE void clipc__packed_close(struct clipc__packed *packed);
CLIPC_PRIVATE const struct clipc_packing *clipc__packed_packing(const struct clipc__packed *packed);
/* Whether a file begins as a packed file does. */
CLIPC_PRIVATE bool clipc__is_packed(const char *path);

/* What comes before the first computation with a tower: on a packed file's, the checksums and the repacking. Safe from
 * any thread. _FORMAT (file and section named; the same at every call) or _NO_MEMORY (which may be tried again). */
CLIPC_PRIVATE clipc_status clipc__model_tower_ready(struct clipc_model *model, int tower, clipc_error *error);
/* The same for the rows of the token embedding that belong to these ids, which are in the vocabulary. */
CLIPC_PRIVATE clipc_status clipc__model_ids_ready(const struct clipc_model *model, const int32_t *ids, size_t n_ids,
                                                  clipc_error *error);
/* The tokeniser, opened now if it was not yet; _MODEL where there are no files for one. Safe from any thread. */
CLIPC_PRIVATE clipc_status clipc__model_tokenizer(const struct clipc__tokenizer **out, const struct clipc_model *model,
                                                  clipc_error *error);

/* Writes a model that is from a folder as a packed file. */
CLIPC_PRIVATE clipc_status clipc__model_write(const struct clipc_model *model, const char *path, clipc_error *error);

/* What the readers of configurations and tokenisers look for in a folder (config.c, vocabulary.c, specials.c); each
 * list ends with NULL. */
CLIPC_PRIVATE const char *const *clipc__config_files(void);
CLIPC_PRIVATE const char *const *clipc__tokenizer_files(void);

/* A folder as a new folder (conversion.c). from and to are not NULL, options in range, opener effective. */
CLIPC_PRIVATE clipc_status clipc__convert(const char *from, const char *to, const clipc_convert_options *options,
                                          const clipc_options *opener, clipc_conversion *made, clipc_error *error);

/* Reads all weights of a folder, whatever towers are open, and its tokeniser.
 *   config  [out] of the same towers */
CLIPC_PRIVATE clipc_status clipc__space_of_folder(struct clipc__space *out, struct clipc__config *config,
                                                  const char *folder, const clipc_options *options, clipc_error *error);
CLIPC_PRIVATE void clipc__space_text(char text[CLIPC_FINGERPRINT_BYTES], const struct clipc__space *space,
                                     const struct clipc__config *config, clipc_precision precision);
/* The fingerprint of a model, from a folder or a packed file. */
CLIPC_PRIVATE clipc_status clipc__space_of_model(char text[CLIPC_FINGERPRINT_BYTES], const struct clipc_model *model,
                                                 clipc_error *error);

/* Where random weights come from (synthetic.c). All zero but for model; used for one tower after the other. */
struct clipc__synthetic {
  const struct clipc_model *model;
  int tower;
  const float *parts[CLIPC__N_PARTS];
};
CLIPC_PRIVATE clipc_status clipc__synthetic_config(struct clipc__config *config, const char *shape,
                                                   const clipc_options *options, clipc_error *error);
/* A tensor in memory of the arena, which lives as long as the tower is loaded; NULL when there is no memory. */
CLIPC_PRIVATE const float *clipc__synthetic_tensor(struct clipc__synthetic *synthetic, int tower, enum clipc__part part,
                                                   int layer, int rank, const uint64_t *shape,
                                                   struct clipc__arena *arena);

/* Sets shapes and gemms of a tower by the model's configuration and precision, blocks of its arena included. */
CLIPC_PRIVATE clipc_status clipc__vision_shape(struct clipc_model *model, clipc_error *error);
CLIPC_PRIVATE clipc_status clipc__text_shape(struct clipc_model *model, clipc_error *error);
/* Whether pads count in a text that is shorter than the context; pad_id is then in the vocabulary. */
CLIPC_PRIVATE bool clipc__text_needs_pads(const struct clipc__text_config *config);
CLIPC_PRIVATE void clipc__vision_layout(struct clipc__layout *layout, struct clipc__vision *vision);
CLIPC_PRIVATE void clipc__text_layout(struct clipc__layout *layout, struct clipc__text *text);

/* Linear layers to be packed, all panels of all of them, and how far that is. */
struct clipc__pack_job {
  const struct clipc__linear *linear; /* laid out; what it points to is written */
  struct clipc__linear_source source;
  const struct clipc__linear *packed; /* for another gemm; NULL: from source */
  size_t first_panel;                 /* of all jobs' */
};
struct clipc__packing {
  const struct clipc__pack_job *jobs; /* [n_jobs], the caller's */
  size_t n_jobs, n_panels, next_panel;
};
CLIPC_PRIVATE void clipc__packing_begin(struct clipc__packing *packing, struct clipc__pack_job *jobs, size_t n_jobs);
/* Packs as many panels as are made of so many bytes of f32, and at least one; true when all are packed. */
CLIPC_PRIVATE bool clipc__packing_step(struct clipc__packing *packing, int n_threads, size_t n_bytes);

/* ---- one computation: up to max_batch sequences of one tower, packed without padding */

struct clipc__workspace {
  size_t max_batch;  /* most sequences at once */
  size_t max_images; /* the same of the image tower: at most max_batch */
  float *pixels;     /* [max_images, 3, image_height, image_width] levels; what vision_begin starts from */
  int32_t *ids;      /* [max_batch, context_length]; what text_begin starts from */
  float *hidden;     /* [rows, width] the residual stream */
  float *attended;   /* [rows, width] output of attention; before the blocks of a layer norm */
  float *wide;       /* [rows, 3 * width] q, k, v; or [rows, mlp_width]; or the patches */
  float *pooled;     /* [2, sequences, width] the residual stream of the pooled tokens alone; their queries */
  size_t *start;     /* [max_batch + 1] first row of each sequence */
  size_t *pooled_at; /* [max_batch] position of the token that speaks for the sequence */
  struct clipc__compute compute;
  struct clipc__sequences sequences;
  int next_block;
};

CLIPC_PRIVATE clipc_status clipc__workspace_make(struct clipc__workspace *workspace, const struct clipc_model *model,
                                                 size_t max_batch, clipc_error *error);
CLIPC_PRIVATE void clipc__workspace_free(struct clipc__workspace *workspace, const struct clipc_model *model);

/* The levels that these steps make pixels of. */
CLIPC_PRIVATE struct clipc__levels clipc__levels_of(const clipc_preprocessing *steps);
/* Those that are folded where a model has these steps: mostly the same. */
CLIPC_PRIVATE struct clipc__levels clipc__levels_to_fold(const clipc_preprocessing *steps);
/* Turns pixels [3, image_height, image_width] into the tower's levels, whole or not; levels may be pixels. */
CLIPC_PRIVATE void clipc__vision_levels(float *levels, const float *pixels, const struct clipc__vision *vision);

/* Embeds patches or tokens: workspace->pixels or ->ids to hidden, next_block = 0. n_ids [n] counts of ids,
 * which lie in rows of context_length. */
CLIPC_PRIVATE void clipc__vision_begin(struct clipc__workspace *workspace, const struct clipc__vision *vision,
                                       size_t n);
CLIPC_PRIVATE void clipc__text_begin(struct clipc__workspace *workspace, const struct clipc__text *text, size_t n,
                                     const size_t *n_ids);

/* Computes block next_block of the transformer and counts on. pool: this tower's result hangs on one token of
 * each sequence, so the last block is computed for that token alone. */
CLIPC_PRIVATE void clipc__block_step(struct clipc__workspace *workspace, const struct clipc__transformer *transformer,
                                     bool pool);

/* The pooled tokens of hidden to pooled, as the finish wants them after a last block that was computed for all. */
CLIPC_PRIVATE void clipc__take_pooled(struct clipc__workspace *workspace, size_t width);

/* Pools, normalises and projects: hidden to embeddings [n, embedding_dimension]. */
CLIPC_PRIVATE void clipc__vision_finish(struct clipc__workspace *workspace, const struct clipc__vision *vision,
                                        float *embeddings);
CLIPC_PRIVATE void clipc__text_finish(struct clipc__workspace *workspace, const struct clipc__text *text,
                                      float *embeddings);
CLIPC_PRIVATE bool clipc__vision_pools_one_token(const struct clipc__vision *vision);

/* clipc_preprocess by other steps than the model's (clipc.c). */
CLIPC_PRIVATE clipc_status clipc__preprocess(const struct clipc_model *model, const clipc_image *image,
                                             const clipc_preprocessing *steps, float *pixels, clipc_error *error);

/* Checks options (NULL = defaults) and fills in what they leave open (open.c). */
CLIPC_PRIVATE clipc_status clipc__effective_options(clipc_options *out, const clipc_options *options,
                                                    clipc_error *error);

/* The model of a session (embed.c); borrowed. */
CLIPC_PRIVATE const struct clipc_model *clipc__session_model(const clipc_session *session);

#endif
