/* The weights room: a folder -> its configuration and its tensors, validated.
 * safetensors.c and index.c (on base/json.h); config.c with config_fields.c, config_hf.c, config_open_clip.c,
 * config_preprocess.c (on cJSON) and config_infer.c; names.c, parts.c; views.c; narrow.c,
 * config_single.c */
#ifndef CLIPC_WEIGHTS_H
#define CLIPC_WEIGHTS_H

#include "base/base.h"
#include "base/store.h"
#include "kernels/kernels.h" /* enum clipc__activation */

/* ---- configuration: what the folder says the network is */

enum clipc__pooling {
  CLIPC__POOL_CLASS,  /* image: token 0 */
  CLIPC__POOL_MEAN,   /* image: mean over the patch tokens, class token left out (open_clip "avg") */
  CLIPC__POOL_ARGMAX, /* text: first position of the largest id */
  CLIPC__POOL_FIRST,  /* text: position 0 */
  CLIPC__POOL_LAST,   /* text: last position of the padded context */
  CLIPC__POOL_EOS     /* text: first position of eos_id, 0 when there is none */
};

struct clipc__transformer_config {
  int width, n_layers, n_heads, mlp_width; /* width = n_heads * head_dim */
  float layer_norm_eps;
  enum clipc__activation activation;
};

struct clipc__vision_config {
  bool present;
  struct clipc__transformer_config transformer;
  int image_height, image_width, patch; /* border pixels not covered by a whole patch are dropped */
  bool ln_pre;
  enum clipc__pooling pooling;
  bool pool_before_ln; /* open_clip final_ln_after_pool */
  bool projection;     /* false: a stand-alone folder whose output is the pooled state */
};

struct clipc__text_config {
  bool present;
  struct clipc__transformer_config transformer;
  int vocab_size, context_length;
  bool causal;
  enum clipc__pooling pooling;
  int eos_id, pad_id; /* pad_id fills the context where pads are attended (not causal) or pooled (LAST) */
  bool projection, projection_bias;
};

/* How the folder spells its tensor names. */
enum clipc__naming {
  CLIPC__NAMES_HF,            /* text_model.encoder.layers.0.self_attn.q_proj.weight */
  CLIPC__NAMES_HF_BARE,       /* encoder.layers.0...: transformers 5's stand-alone CLIPTextModel, CLIPVisionModel */
  CLIPC__NAMES_OPEN_CLIP,     /* visual.transformer.resblocks.0..., transformer.resblocks.0... (also OpenAI) */
  CLIPC__NAMES_OPEN_CLIP_TEXT /* the same with text.transformer...: open_clip's custom_text */
};

struct clipc__config {
  bool open_clip; /* open_clip_config.json, else config.json */
  int embedding_dimension;
  struct clipc__vision_config vision;
  struct clipc__text_config text;
  clipc_reference reference;         /* resolved, never AUTO */
  clipc_preprocessing preprocessing; /* complete: mean, std, sizes; ends in image_height x image_width */
  enum { CLIPC__TEXT_HF, CLIPC__TEXT_LOWER, CLIPC__TEXT_WHITESPACE, CLIPC__TEXT_CANONICALIZE } text_cleaning;
};

/* Reads and checks config.json or open_clip_config.json, preprocessor_config.json and what else the folder
 * says of the network. options chooses the reference, alpha, EXIF and towers; limits holds effective
 * values. Every int is in a sane range, every product of them fits an int64.
 * Returns CLIPC_OK; _IO, _FORMAT (JSON or a field broken), _UNSUPPORTED (field and value named), _LIMIT,
 * _MODEL (an asked-for tower is not there), _NO_MEMORY. */
CLIPC_PRIVATE clipc_status clipc__config_read(struct clipc__config *config, const struct clipc__store *store,
                                              const clipc_options *options, clipc_error *error);

/* What was inferred of a folder without a configuration, as JSON: the file that stands for it in a packed file. */
#define CLIPC__INFERRED_FILE "inferred_config.json"
#define CLIPC__INFERRED_BYTES 512
CLIPC_PRIVATE void clipc__config_inferred_text(char text[CLIPC__INFERRED_BYTES], const struct clipc__config *config);

/* ---- safetensors */

enum clipc__dtype { CLIPC__DTYPE_F32, CLIPC__DTYPE_F16, CLIPC__DTYPE_BF16, CLIPC__DTYPE_OTHER };
#define CLIPC__MAX_RANK 8

struct clipc__tensor {
  const char *name; /* UTF-8, NUL-terminated; owned by the table */
  const char *file; /* path, for sentences */
  enum clipc__dtype dtype;
  const char *dtype_name; /* as the file has it; a static string */
  int rank;
  uint64_t shape[CLIPC__MAX_RANK];
  const uint8_t *data; /* little-endian, any alignment */
  uint64_t n_bytes;
};

/* The tensors of a folder: one file, or the shards of an index. Tensors are sorted by name. */
struct clipc__tensors {
  struct clipc__arena arena;
  struct clipc__file *files;
  size_t n_files;
  struct clipc__tensor *tensors;
  size_t n_tensors;
  const char *file_name;    /* of the weights or their index within the folder; a static string */
  int absent_towers;        /* 0, or the one whose shards are not all there: the folder was got for the other alone */
  const char *absent_shard; /* one of those, its path; NULL = there is none */
};

/* Opens and completely validates the weights of a folder: for Hugging Face model.safetensors, else
 * model.safetensors.index.json with its shards; for open_clip the first of open_clip_model.safetensors,
 * open_clip_pytorch_model.safetensors, model.safetensors. Where a folder holds only .bin or .pt the sentence says to
 * convert. Status as clipc_model_open. */
CLIPC_PRIVATE clipc_status clipc__tensors_open(struct clipc__tensors *out, const char *folder, bool open_clip,
                                               const clipc_options *options, clipc_error *error);
/* _MODEL where shards are absent that a tower of the configuration needs. */
CLIPC_PRIVATE clipc_status clipc__tensors_cover(const struct clipc__tensors *tensors,
                                                const struct clipc__config *config, clipc_error *error);
CLIPC_PRIVATE void clipc__tensors_close(struct clipc__tensors *tensors);
CLIPC_PRIVATE const struct clipc__tensor *clipc__tensors_find(const struct clipc__tensors *tensors, const char *name);

/* An index: which tensor lies in which shard. entries is of struct clipc__index_entry, sorted by shard, then tensor;
 * its strings are of the arena. path is for sentences. */
struct clipc__index_entry {
  const char *tensor, *shard;
};
CLIPC_PRIVATE clipc_status clipc__index_parse(struct clipc__bytes *entries, struct clipc__arena *arena,
                                              const char *path, const void *data, size_t n_bytes, clipc_error *error);
CLIPC_PRIVATE clipc_status clipc__index_read(struct clipc__bytes *entries, struct clipc__arena *arena, const char *path,
                                             uint64_t max_bytes, clipc_error *error);

/* ---- names: one table of parts, spelled for each naming */

enum clipc__part {
  CLIPC__CLASS_EMBEDDING,
  CLIPC__PATCH_EMBEDDING,
  CLIPC__POSITION_EMBEDDING,
  CLIPC__TOKEN_EMBEDDING,
  CLIPC__LN_PRE_WEIGHT,
  CLIPC__LN_PRE_BIAS,
  CLIPC__LN_1_WEIGHT,
  CLIPC__LN_1_BIAS,
  CLIPC__Q_WEIGHT,
  CLIPC__Q_BIAS,
  CLIPC__K_WEIGHT,
  CLIPC__K_BIAS,
  CLIPC__V_WEIGHT,
  CLIPC__V_BIAS, /* Hugging Face */
  CLIPC__QKV_WEIGHT,
  CLIPC__QKV_BIAS, /* open_clip */
  CLIPC__OUT_WEIGHT,
  CLIPC__OUT_BIAS,
  CLIPC__LN_2_WEIGHT,
  CLIPC__LN_2_BIAS,
  CLIPC__FC1_WEIGHT,
  CLIPC__FC1_BIAS,
  CLIPC__FC2_WEIGHT,
  CLIPC__FC2_BIAS,
  CLIPC__LN_FINAL_WEIGHT,
  CLIPC__LN_FINAL_BIAS,
  CLIPC__PROJECTION_WEIGHT, /* HF, and open_clip with proj_bias: [E, D]; otherwise open_clip: [D, E] */
  CLIPC__PROJECTION_BIAS,
  CLIPC__LOGIT_SCALE,
  CLIPC__LOGIT_BIAS,
  CLIPC__N_PARTS
};

/* Which spelling the tensors use for the towers of the config; _MODEL with a sentence when none fits. */
CLIPC_PRIVATE clipc_status clipc__naming_detect(enum clipc__naming *naming, const struct clipc__tensors *tensors,
                                                const struct clipc__config *config, clipc_error *error);

#define CLIPC__NAME_BYTES 128
/* Writes the name of a part: tower is CLIPC_TOWER_IMAGE or CLIPC_TOWER_TEXT, layer only used for block parts.
 * projection_linear: open_clip's text projection is a Linear (".weight", ".bias"). Returns name, or NULL when the
 * spelling has no such part. */
CLIPC_PRIVATE const char *clipc__part_name(char name[CLIPC__NAME_BYTES], enum clipc__naming naming, int tower,
                                           enum clipc__part part, int layer, bool projection_linear);

/* The towers that need the tensor of this name, in any spelling: 0 for logit scale and bias, which one tower does
 * without; both for a name that is not known. */
CLIPC_PRIVATE int clipc__name_towers(const char *name);

/* Walks over the parts of the network of a configuration in their fixed order: the image tower, the text tower, logit
 * scale and bias; of a tower what comes before the blocks, each block, what comes behind them; in each the order of
 * the enum. Zero it but for config and naming. What the spelling has no name for is left out. */
struct clipc__parts {
  const struct clipc__config *config;
  enum clipc__naming naming;
  bool begun;
  int tower, layer;             /* [out] tower 0: of neither */
  enum clipc__part part;        /* [out] */
  char name[CLIPC__NAME_BYTES]; /* [out] */
  int rank;                     /* [out] */
  uint64_t shape[4];            /* [out] [rank] that its tensor must have */
  bool optional;                /* [out] whether it may be missing */
};
CLIPC_PRIVATE bool clipc__parts_next(struct clipc__parts *parts); /* false at the end */
/* Whether every part is there, of its shape, and of a type that can be had as f32: _MODEL with the sentence of the
 * first that is not. used [n_tensors of tensors], may be NULL: set to true for those that are parts. */
CLIPC_PRIVATE clipc_status clipc__parts_check(bool *used, const struct clipc__tensors *tensors,
                                              const struct clipc__config *config, enum clipc__naming naming,
                                              clipc_error *error);

/* ---- typed views */

/* The named tensor as f32 of the given shape (rank 0 with shape NULL accepts [] and [1]): where it lies when it is
 * F32 and 4-aligned, else widened or copied into the arena. _MODEL when it is missing, misshapen (both
 * shapes in the sentence) or not of F32, F16, BF16. */
CLIPC_PRIVATE clipc_status clipc__tensor_f32(const float **out, const struct clipc__tensors *tensors, const char *name,
                                             int rank, const uint64_t *shape, struct clipc__arena *arena,
                                             clipc_error *error);

/* The same in parts: the tensor, when it is there, of that shape, and of a dtype that can be had as f32; its numbers
 * where they lie, or NULL when they must be widened; room for them, not zeroed, or NULL with the error set; and n of
 * them from first on, widened. */
CLIPC_PRIVATE clipc_status clipc__tensor_typed(const struct clipc__tensor **out, const struct clipc__tensors *tensors,
                                               const char *name, int rank, const uint64_t *shape, clipc_error *error);
CLIPC_PRIVATE const float *clipc__tensor_in_place(const struct clipc__tensor *tensor);
CLIPC_PRIVATE float *clipc__tensor_room(const struct clipc__tensor *tensor, struct clipc__arena *arena,
                                        clipc_error *error);
CLIPC_PRIVATE size_t clipc__tensor_numbers(const struct clipc__tensor *tensor);
CLIPC_PRIVATE void clipc__tensor_widen(float *out, const struct clipc__tensor *tensor, size_t first, size_t n);

/* ---- for writing folders */

/* n numbers as F16 or BF16, rounded to the nearest, ties to even; what is not a number stays that. Returns how many
 * were written: less than n before a finite number that the type has no finite number for. */
CLIPC_PRIVATE size_t clipc__narrow(uint8_t *out, enum clipc__dtype dtype, const float *numbers, size_t n);

/* Appends the text of a config.json for one tower of a Hugging Face folder that clipc__config_read found both in, as
 * transformers saves the tower alone with its projection. Status as clipc__config_read. */
CLIPC_PRIVATE clipc_status clipc__config_single(struct clipc__bytes *out, const struct clipc__store *store, int tower,
                                                const clipc_options *options, clipc_error *error);

/* ---- inside the room */

/* Validates one opened safetensors file. *out [*n_out] is of the arena, sorted by name; a tensor whose name holds a NUL
 * or whose rank is above CLIPC__MAX_RANK is valid but cannot be had. path must live as long as the tensors. */
CLIPC_PRIVATE clipc_status clipc__safetensors_read(struct clipc__tensor **out, size_t *n_out,
                                                   struct clipc__arena *arena, const struct clipc__file *file,
                                                   const char *path, uint64_t max_header_bytes, clipc_error *error);

/* Whether folder/name is a regular file; sets *no_memory when it could not be looked up. */
CLIPC_PRIVATE bool clipc__folder_has(const char *folder, const char *name, const clipc_allocator *allocator,
                                     bool *no_memory);

struct cJSON;

/* A JSON object that is read field by field. The first trouble stays in status and *error; later reads then give
 * the default. Of a key that comes twice the last counts, as in Python. */
struct clipc__fields {
  const struct cJSON *object; /* NULL reads as an empty one */
  const char *file;           /* for sentences */
  const char *path;           /* where the object lies: "" or "text_config." */
  bool null_is_absent;        /* else null is refused where a value is needed */
  clipc_status *status;
  clipc_error *error;
};
CLIPC_PRIVATE clipc_status clipc__fields_load(struct cJSON **out, const struct clipc__store *store, const char *path,
                                              const clipc_options *options, clipc_error *error);
CLIPC_PRIVATE const struct cJSON *clipc__field(const struct clipc__fields *fields, const char *name);
CLIPC_PRIVATE bool clipc__field_set(const struct clipc__fields *fields, const char *name); /* there and not null */
CLIPC_PRIVATE int clipc__field_int(struct clipc__fields *fields, const char *name, int absent, int min, int max);
CLIPC_PRIVATE double clipc__field_number(struct clipc__fields *fields, const char *name, double absent, double min,
                                         double max);
CLIPC_PRIVATE bool clipc__field_flag(struct clipc__fields *fields, const char *name, bool absent); /* null: false */
CLIPC_PRIVATE const char *clipc__field_string(struct clipc__fields *fields, const char *name, const char *absent);
CLIPC_PRIVATE struct clipc__fields clipc__field_object(struct clipc__fields *fields, const char *name,
                                                       const char *path);
/* A number for all three, or an array of three. */
CLIPC_PRIVATE void clipc__field_rgb(struct clipc__fields *fields, const char *name, float rgb[3], double min,
                                    double max);
/* One size for both, or [height, width]. */
CLIPC_PRIVATE void clipc__field_pair(struct clipc__fields *fields, const char *name, int absent, int max, int *height,
                                     int *width);
/* Refuses the field with its value in the sentence; what follows a colon: "file: path.name is value: why". */
CLIPC_PRIVATE void clipc__field_refuse(struct clipc__fields *fields, clipc_status status, const char *name,
                                       const char *why);
/* Whether the field is a list that holds the string. */
CLIPC_PRIVATE bool clipc__field_lists(const struct clipc__fields *fields, const char *name, const char *string);
/* True when the field is absent, null, false, 0, "" or an empty list or object. */
CLIPC_PRIVATE bool clipc__field_is_off(const struct clipc__fields *fields, const char *name);
CLIPC_PRIVATE bool clipc__item_is_off(const struct cJSON *item);

enum {
  CLIPC__MAX_WIDTH = 16384,
  CLIPC__MAX_LAYERS = 256,
  CLIPC__MAX_HEADS = 256,
  CLIPC__MAX_MLP = 65536,
  CLIPC__MAX_VOCAB = 4194304,
  CLIPC__MAX_CONTEXT = 4096,
  CLIPC__MAX_IMAGE = 4096,
  CLIPC__MAX_PATCH = 512
};

CLIPC_PRIVATE void clipc__config_hf(struct clipc__config *config, struct clipc__fields *top, int towers);
CLIPC_PRIVATE void clipc__config_open_clip(struct clipc__config *config, struct clipc__fields *model, int towers);
/* By the tensors' shapes, of a folder with neither config; only for checkpoints that bear OpenAI's marks. */
CLIPC_PRIVATE clipc_status clipc__config_infer(struct clipc__config *config, const struct clipc__tensors *tensors,
                                               const char *folder, int towers, clipc_error *error);
/* open_clip's text_cfg.tokenizer_kwargs.clean. */
CLIPC_PRIVATE int clipc__config_cleaning(struct clipc__fields *text);
/* Fills the resize, crop and normalisation of config->preprocessing by the image processor's or preprocess_cfg's
 * fields, and checks that they end in the image tower's size. */
CLIPC_PRIVATE void clipc__preprocess_hf(struct clipc__config *config, struct clipc__fields *processor);
CLIPC_PRIVATE void clipc__preprocess_open_clip(struct clipc__config *config, struct clipc__fields *cfg);

#endif
