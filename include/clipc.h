/* clipc: CLIP in C. Pictures and sentences in, the vectors of the reference implementations out.
 *
 *   #include <clipc.h>
 *   #include <stdio.h>
 *   int main(void) {
 *     clipc_model *model = NULL; clipc_session *session = NULL;
 *     clipc_error error = {CLIPC_OK, ""}; float image[2048], text[2048];
 *     if (clipc_model_open(&model, "models/tiny", NULL, &error) == CLIPC_OK &&
 *         clipc_session_open(&session, model, NULL, &error) == CLIPC_OK &&
 *         clipc_embed_image(session, "models/tiny/pictures/red_car.jpg", image, &error) == CLIPC_OK &&
 *         clipc_embed_text(session, "a photo of a red car", text, &error) == CLIPC_OK)
 *       printf("%.4f\n", clipc_cosine(image, text, clipc_embedding_dimension(model)));
 *     if (error.status != CLIPC_OK) puts(error.message);
 *     clipc_session_close(session), clipc_model_close(model);
 *     return error.status; }
 *
 * Objects. A clipc_model is immutable, reference-counted and may be used by any number of threads at
 * once. A clipc_session is the workspace of one running computation: one thread at a time, one
 * computation at a time; a model may have many sessions. Every other type is a plain struct whose
 * all-zero value asks for the defaults.
 *
 * Errors. A call that can fail returns a clipc_status and fills the caller's clipc_error (which may be
 * NULL) with that status and one sentence naming the file, tensor, field or option. On success the
 * clipc_error is left as it was. On failure outputs are untouched, except that a constructor sets its
 * object to NULL. The library never prints, exits or aborts.
 *
 * Memory. Arrays are row-major, shapes are written [rows, cols]. Pointers that are passed in are
 * borrowed for the call alone unless it says otherwise. Computing allocates nothing in the towers;
 * decoding a picture and cleaning a text do.
 *
 * Threads. Matrix products are shared out to one set of threads per process, made on first use; the
 * calling thread takes part. OpenBLAS is loaded when a model first asks for it, and then set to one thread: it
 * is called from clipc's own.
 *
 * SPDX-License-Identifier: MIT */
#ifndef CLIPC_H
#define CLIPC_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CLIPC_VERSION_MAJOR 0
#define CLIPC_VERSION_MINOR 1
#define CLIPC_VERSION_PATCH 0
#define CLIPC_VERSION "0.1.0"

#ifndef CLIPC_API
#if defined(__GNUC__) || defined(__clang__)
#define CLIPC_API __attribute__((visibility("default")))
#else
#define CLIPC_API
#endif
#endif

/* ------------------------------------------------------------------ status */

/* What became of a call; the values are pinned and will never change. */
typedef enum clipc_status {
  CLIPC_OK = 0,
  CLIPC_E_INVALID = 1,              /* a bad argument: NULL, a size of nought, a value out of range */
  CLIPC_E_IO = 2,                   /* a file cannot be opened, read or written */
  CLIPC_E_FORMAT = 3,               /* bytes that are damaged or of no known format */
  CLIPC_E_UNSUPPORTED = 4,          /* well-formed, but asks for what clipc does not do */
  CLIPC_E_LIMIT = 5,                /* larger than a limit of clipc_limits */
  CLIPC_E_NO_MEMORY = 6,            /* an allocation failed */
  CLIPC_E_MODEL = 7,                /* the model lacks a tensor, tower or file, or has one of a wrong shape */
  CLIPC_E_NETWORK = 8,              /* a server cannot be found or reached, or answers something else */
  CLIPC_E_DENIED = 9,               /* a URL or an address that must not be fetched from */
  CLIPC_E_CANCELLED = 10,           /* somebody cancelled it, or the other end is gone */
  CLIPC_E_TIMED_OUT = 11,           /* a deadline passed */
  CLIPC_E_QUEUE_FULL = 12,          /* a bounded queue has no room now */
  CLIPC_E_NO_WORKERS = 13,          /* no model of that name has the capability */
  CLIPC_E_SPAWN_FAILED = 14,        /* a model could not be loaded, or a worker not be made */
  CLIPC_E_MEMORY_BUDGET = 15,       /* it would not fit into the runtime's memory budget */
  CLIPC_E_RUNTIME_UNAVAILABLE = 16, /* no runtime can be had here */
  CLIPC_E_WOULD_DEADLOCK = 17,      /* a call that blocks, from inside a task or a callback */
  CLIPC_E_SHUTTING_DOWN = 18        /* the runtime or registry is ending */
} clipc_status;

/* A status and its sentence; owned by the caller, NUL-terminated, UTF-8. */
typedef struct clipc_error {
  clipc_status status;
  char message[256];
} clipc_error;

/* The name of a status as it is written in this header ("CLIPC_E_IO"); a static string, never NULL. */
CLIPC_API const char *clipc_status_name(clipc_status status);

/* The version of the library that is linked ("0.1.0"); a static string. */
CLIPC_API const char *clipc_version(void);

/* How the library was built and what it computes with, one line; a static string. */
CLIPC_API const char *clipc_build_info(void);

/* ----------------------------------------------------------------- options */

/* In which numbers the towers' products compute; sums are f32 (i32 for int8), and everything between products is f32.
 *   F32   as the references
 *   BF16  weights in bf16; where the CPU multiplies bf16, inputs too. Cosine to F32 at least 0.9999
 *   INT8  weights int8 with a scale per output, inputs int8 (or finer, where that is as fast) with a scale per token,
 *         made on the fly. Cosine to F32 at least 0.999 in towers of width 64 and more */
typedef enum clipc_precision {
  CLIPC_PRECISION_F32 = 0,
  CLIPC_PRECISION_BF16 = 1,
  CLIPC_PRECISION_INT8 = 2
} clipc_precision;

/* Upper limit on the kernels that may be chosen: each tier stands on those before it of the same architecture, and a
 * CPU that has less takes the best that it has. PLAIN_C is the normative reference. */
typedef enum clipc_tier {
  CLIPC_TIER_BEST = 0,
  CLIPC_TIER_PLAIN_C = 1,
  CLIPC_TIER_AVX2 = 2,        /* with FMA and F16C */
  CLIPC_TIER_AVX_VNNI = 3,    /* int8 products on 256 bits */
  CLIPC_TIER_AVX512 = 4,      /* F, BW, DQ, VL */
  CLIPC_TIER_AVX512_VNNI = 5, /* int8 products */
  CLIPC_TIER_AVX512_BF16 = 6, /* bf16 products */
  CLIPC_TIER_NEON = 16,
  CLIPC_TIER_DOTPROD = 17,  /* int8 products */
  CLIPC_TIER_I8MM = 18,     /* int8 products, matrix by matrix */
  CLIPC_TIER_NEON_BF16 = 19 /* bf16 products */
} clipc_tier;

/* The tier's name as the program writes it ("avx2"); a static string, never NULL. */
CLIPC_API const char *clipc_tier_name(clipc_tier tier);

/* The best tier of this CPU. */
CLIPC_API clipc_tier clipc_cpu_tier(void);

/* Whose matrix products a tower uses. AUTO = OWN where the CPU has a tier above PLAIN_C, else OPENBLAS where it can
 * be loaded. OPENBLAS does F32 only. */
typedef enum clipc_gemm { CLIPC_GEMM_AUTO = 0, CLIPC_GEMM_OWN = 1, CLIPC_GEMM_OPENBLAS = 2 } clipc_gemm;

/* What is compared with its checksum in a packed file, besides header, tables, configuration and tokeniser, which
 * always are: the weights of a tower when it is first used, all weights when the file is opened, or none. */
typedef enum clipc_verify { CLIPC_VERIFY_USED = 0, CLIPC_VERIFY_ALL = 1, CLIPC_VERIFY_NONE = 2 } clipc_verify;

/* Which program's numbers are given: pixels, text cleaning and pooling rules together. */
typedef enum clipc_reference {
  CLIPC_REFERENCE_AUTO = 0,   /* HF for a Hugging Face folder, OPENAI for an open_clip folder */
  CLIPC_REFERENCE_OPENAI = 1, /* OpenAI CLIP and open_clip */
  CLIPC_REFERENCE_HF = 2,     /* transformers with its Pillow image processor */
  CLIPC_REFERENCE_HF_TV = 3   /* transformers 5 with torchvision installed (its default there) */
} clipc_reference;

/* What the HF references do with transparency; OPENAI always resizes premultiplied, then drops it. */
typedef enum clipc_alpha {
  CLIPC_ALPHA_WHITE = 0, /* composite on white, as transformers 5.21 and later do with an opened picture */
  CLIPC_ALPHA_DROP = 1   /* drop, as transformers up to 5.20, and 5.x for paths and URLs */
} clipc_alpha;

/* Towers to open; the others are neither validated nor loaded. */
enum { CLIPC_TOWER_IMAGE = 1, CLIPC_TOWER_TEXT = 2 };

/* Where the library takes memory from. Both functions or neither; they are called from several threads
 * at once. cJSON, which reads the JSON files while a model is opened, takes its memory from malloc. */
typedef struct clipc_allocator {
  void *(*allocate)(void *context, size_t n_bytes); /* aligned as malloc does; NULL when there is none */
  void (*release)(void *context, void *memory);     /* never called with NULL */
  void *context;
} clipc_allocator;

/* Limits on what is read; 0 = the default in brackets. Over a limit: CLIPC_E_LIMIT, before any decoding. */
typedef struct clipc_limits {
  uint64_t max_image_bytes;  /* of an encoded picture [256 MiB] */
  uint64_t max_image_pixels; /* width x height, from the header [178,956,970, as Pillow] */
  uint64_t max_text_bytes;   /* of one text [1 MiB] */
  uint64_t max_header_bytes; /* of a safetensors header [100,000,000, as the reference] */
  uint64_t max_config_bytes; /* of a JSON or vocabulary file [64 MiB] */
} clipc_limits;

typedef struct clipc_options {
  clipc_precision precision; /* a packed file has its own: F32 here takes it as it is, another must be the file's */
  clipc_tier tier;
  clipc_gemm gemm;
  clipc_verify verify;
  int refuse_repack; /* 1: a file packed for another tier family is refused; 0: repacked in memory */
  clipc_reference reference;
  clipc_alpha alpha;
  int apply_exif;   /* 1: turn pictures upright by their EXIF orientation first; the references do not [0] */
  int towers;       /* CLIPC_TOWER_IMAGE | CLIPC_TOWER_TEXT; 0 = all that the configuration has */
  int n_threads;    /* threads that one computation may use, the caller included; 0 = as many as the
                       process may use by its affinity mask and its cgroup */
  int read_weights; /* 1: read weight files into memory; 0: map them. A mapped file must not be truncated
                       while the model is open */
  clipc_allocator allocator;
  clipc_limits limits;
} clipc_options;

/* ------------------------------------------------------------------- model */

typedef struct clipc_model clipc_model;

/* Opens a CLIP folder as Hugging Face or open_clip publish it, or a file that clipc_model_pack wrote.
 *   out      [out] the model, one reference; NULL on failure
 *   path     a folder with config.json or open_clip_config.json and safetensors weights; or a packed file
 *   options  NULL = defaults; copied
 * A folder is validated completely before it returns, and its weights are packed for the kernels in memory of the
 * model. Of a packed file the tables, the configuration and the bytes of the tokeniser are; its weights are used where
 * they lie, and compared with their checksums (option verify) and, where need be, repacked when a tower is first
 * computed with. A tokeniser in it that is not CLIP's is told of when a text is first given.
 * Returns CLIPC_OK; _INVALID, _IO (a file is missing or unreadable), _FORMAT (damaged file),
 * _UNSUPPORTED (a config that asks for another network; a packed file of another version, precision or, with
 * refuse_repack, shape), _MODEL (tensor or tower missing or misshapen), _LIMIT, _NO_MEMORY. Threads: safe.
 * Cost: O(weights); of a packed file O(its small files). */
CLIPC_API clipc_status clipc_model_open(clipc_model **out, const char *path, const clipc_options *options,
                                        clipc_error *error);

/* The same in steps, for hosts that have other things to do meanwhile: begin, step until *out is set or a step fails,
 * close the opening. A step reads a small file, checks a header, or packs a slice of weights: about two milliseconds at
 * most, longer only where a disk is waited for.
 *   begin     out [out] the opening, which the caller closes; NULL on failure. path and options are copied. Returns
 *             CLIPC_OK, _INVALID, _UNSUPPORTED (an option that this build or machine cannot do), _NO_MEMORY
 *   step      out [out] the model, one reference, by the last step; NULL before, and on failure. Returns as
 *             clipc_model_open, and once the model was handed out or a step has failed _INVALID
 *   progress  0 .. 1, by how long the parts take; 1 when it is over. 0 for NULL
 *   close     frees the opening at any time, with what is half made, but not a model that was handed out; NULL is fine
 * Threads: an opening belongs to one thread at a time; steps share their work out as computing does. */
typedef struct clipc_opening clipc_opening;
CLIPC_API clipc_status clipc_model_open_begin(clipc_opening **out, const char *path, const clipc_options *options,
                                              clipc_error *error);
CLIPC_API clipc_status clipc_model_open_step(clipc_opening *opening, clipc_model **out, clipc_error *error);
CLIPC_API double clipc_model_open_progress(const clipc_opening *opening);
CLIPC_API void clipc_opening_close(clipc_opening *opening);

/* Writes a model as one packed file: its weights as the kernels that it was opened for want them, its configuration and
 * its tokeniser. clipc_model_open then maps the file, and neither reads nor converts anything that is not used.
 *   model  opened from a folder, whose small files are read again now; its towers, its precision and the shape of its
 *          weights (option tier) become the file's, while reference, alpha and EXIF stay with whoever opens it
 *   path   a file of that name is replaced; it appears when all of it is on the disk, and whatever fails or ends the
 *          process before that leaves what was there
 * Returns CLIPC_OK; _INVALID (NULL), _UNSUPPORTED (the model is not from a folder), _IO (the folder's files cannot be
 * read any more, or the file cannot be written), _LIMIT, _NO_MEMORY. Threads: safe. Cost: writes the weights. */
CLIPC_API clipc_status clipc_model_pack(const clipc_model *model, const char *path, clipc_error *error);

/* What lies in a packed file. */
typedef struct clipc_section {
  const char *name;         /* "image tower", "config.json" */
  uint64_t offset, n_bytes; /* in the file */
} clipc_section;

typedef struct clipc_packing {
  const char *kernels; /* for which it was packed ("avx512-vnni"); those of the same shape use it as it lies */
  int repacked;        /* 1: this model's kernels are of another shape, so a tower is repacked when it is first used */
  uint64_t n_bytes;    /* of the file */
  const clipc_section *sections;
  size_t n_sections;
} clipc_packing;

/* The packed file that the model is from; owned by the model, NULL when it is not from one. */
CLIPC_API const clipc_packing *clipc_model_packing(const clipc_model *model);

/* The fingerprint of the model's embedding space: vectors may be compared when those of their models are the same up to
 * the colon, behind which comes the precision ("0f31...c8:int8"). The digits are a hash of the weights' values,
 * whatever files, spelling or 16-bit type hold them, of the configuration, of the steps that make pixels, and of the
 * tokeniser; reference, transparency and EXIF therefore count, logit scale and bias do not. They are those of the
 * folder, whichever towers are open or were packed.
 *   text  [out] NUL-terminated
 * Returns CLIPC_OK; _INVALID (NULL), _UNSUPPORTED (a synthetic model), _NO_MEMORY; of a folder, which is read again
 * now, also what opening it returns. Threads: safe. Cost: reads all weights of a folder, at some 1.5 GB/s and thread; a
 * packed file keeps what was read when it was packed. */
enum { CLIPC_FINGERPRINT_BYTES = 48 };
CLIPC_API clipc_status clipc_model_fingerprint(const clipc_model *model, char text[CLIPC_FINGERPRINT_BYTES],
                                               clipc_error *error);

/* 1 where two fingerprints are of one space, whatever their precisions; 0 also for NULL and for what is no
 * fingerprint. */
CLIPC_API int clipc_fingerprint_same(const char *a, const char *b);

/* One tensor of a folder. */
typedef struct clipc_tensor_info {
  const char *name, *file; /* UTF-8; file: its path */
  const char *type;        /* as the file has it: "F32", "F16", "I64" */
  int rank;
  const uint64_t *shape; /* [rank]; of more than 8 dimensions the first 8 */
  uint64_t n_bytes;
  int used;     /* 1: the towers that are looked at read it; 0: it is ignored */
  int measured; /* 1: of type F32, F16 or BF16, so that the following holds */
  uint64_t n_nan, n_infinite;
  double least, most, norm; /* of the finite numbers; norm: L2. 0 where there are none */
} clipc_tensor_info;

/* Calls visit for every tensor of a folder, sorted by name, with what its numbers are like. The towers' tensors must be
 * there and of the right shapes.
 *   folder   as of clipc_model_open; a packed file holds no tensors
 *   options  NULL = defaults; towers, n_threads, allocator and limits are looked at
 *   visit    the info is the library's, until it returns; other than 0 ends the walk: CLIPC_E_CANCELLED
 * Returns CLIPC_OK; as clipc_model_open; _CANCELLED. Threads: safe. Cost: reads all weights. */
CLIPC_API clipc_status clipc_inspect_tensors(const char *folder, const clipc_options *options,
                                             int (*visit)(void *context, const clipc_tensor_info *info), void *context,
                                             clipc_error *error);

/* The type that weights are stored in. 16 bits round to the nearest, ties to even. */
typedef enum clipc_weights_type {
  CLIPC_WEIGHTS_AS_THEY_ARE = 0,
  CLIPC_WEIGHTS_F32 = 1,
  CLIPC_WEIGHTS_F16 = 2,
  CLIPC_WEIGHTS_BF16 = 3
} clipc_weights_type;

typedef struct clipc_convert_options {
  clipc_weights_type type; /* of what the towers use; other tensors stay as they are */
  int towers;           /* CLIPC_TOWER_IMAGE or CLIPC_TOWER_TEXT alone, of a Hugging Face folder; 0 = all that it has */
  uint64_t shard_bytes; /* of tensors in one file at most, where one tensor is not larger; 0 = one file of all */
  int (*progress)(void *context, uint64_t n_done,
                  uint64_t n_bytes); /* now and then; other than 0 cancels; may be NULL */
  void *context;
  clipc_allocator allocator;
  clipc_limits limits;
} clipc_convert_options;

/* What came of it. */
typedef struct clipc_conversion {
  size_t n_tensors, n_files;                 /* n_files: of weights */
  uint64_t n_bytes;                          /* of the tensors */
  char fingerprint[CLIPC_FINGERPRINT_BYTES]; /* as clipc_model_fingerprint gives it for the new folder, in f32 */
} clipc_conversion;

/* Writes a folder anew: its weights as safetensors in another type, in shards, or of one tower alone; its configuration
 * and tokeniser with them. Tensor names stay; one tower of a Hugging Face folder becomes what transformers saves as
 * CLIPVisionModelWithProjection or CLIPTextModelWithProjection, and keeps logit_scale. One tensor is in memory at a
 * time, a piece of it at most.
 *   folder   as of clipc_model_open; its tensors are checked by name, shape and type first
 *   out      a folder that is not there yet, or empty; it appears when all of it is on the disk. What ends the process
 *            before that leaves a hidden folder beside it (".NAME.clipc-0.tmp"), which the next one takes over
 *   options  NULL = defaults
 *   made     [out] may be NULL
 * Returns CLIPC_OK; as clipc_model_open; _IO (out is there, or cannot be written), _UNSUPPORTED (one tower of a folder
 * of open_clip's; a number beyond what the type can hold, tensor named), _CANCELLED. Threads: safe. Cost: reads the
 * weights, writes them, and reads them again for the fingerprint. */
CLIPC_API clipc_status clipc_convert(const char *folder, const char *out, const clipc_convert_options *options,
                                     clipc_conversion *made, clipc_error *error);

/* Takes one more reference and returns the model. Threads: safe. NULL gives NULL. */
CLIPC_API clipc_model *clipc_model_retain(clipc_model *model);

/* Gives one reference back; the last one frees the model. Threads: safe. NULL is fine. */
CLIPC_API void clipc_model_close(clipc_model *model);

/* Length of an embedding; at least 1. 0 for NULL. */
CLIPC_API size_t clipc_embedding_dimension(const clipc_model *model);

/* The embedding lengths that the model offers, [*n]; for a CLIP one entry. Owned by the model. */
CLIPC_API const size_t *clipc_supported_dimensions(const clipc_model *model, size_t *n);

/* CLIPC_TOWER_IMAGE | CLIPC_TOWER_TEXT as opened; 0 for NULL. */
CLIPC_API int clipc_towers(const clipc_model *model);

/* Height and width in pixels of the image tower's input; 0 without an image tower. */
CLIPC_API int clipc_image_height(const clipc_model *model);
CLIPC_API int clipc_image_width(const clipc_model *model);

/* Most ids of a text, start and end token included; 0 without a text tower. */
CLIPC_API size_t clipc_context_length(const clipc_model *model);

/* Rows of the token embedding: ids are 0 .. clipc_vocabulary_size - 1; 0 without a text tower. */
CLIPC_API size_t clipc_vocabulary_size(const clipc_model *model);

/* The reference that the model was opened for; never AUTO, but for NULL. */
CLIPC_API clipc_reference clipc_model_reference(const clipc_model *model);

/* The factor on the cosine: exp of the stored logit_scale (about 100 for trained models). Where a
 * folder of one tower stores none, 1/0.07. */
CLIPC_API float clipc_logit_scale(const clipc_model *model);

/* The number added to the scaled cosine; 0 for models without one. */
CLIPC_API float clipc_logit_bias(const clipc_model *model);

/* How a picture becomes pixels: the steps in their order. */
typedef enum clipc_resize_mode {
  CLIPC_RESIZE_NONE = 0,
  CLIPC_RESIZE_SHORTEST = 1, /* shorter side to the size, aspect kept */
  CLIPC_RESIZE_EXACT = 2,    /* both sides, aspect ignored ("squash") */
  CLIPC_RESIZE_LONGEST = 3   /* longer side to the size, aspect kept, then padded (open_clip) */
} clipc_resize_mode;

/* Resampling filters, with Pillow's numbers. */
typedef enum clipc_filter {
  CLIPC_FILTER_NEAREST = 0,
  CLIPC_FILTER_LANCZOS = 1,
  CLIPC_FILTER_BILINEAR = 2,
  CLIPC_FILTER_BICUBIC = 3,
  CLIPC_FILTER_BOX = 4,
  CLIPC_FILTER_HAMMING = 5
} clipc_filter;

typedef struct clipc_preprocessing {
  clipc_reference reference; /* never AUTO */
  clipc_alpha alpha;
  int apply_exif;
  clipc_resize_mode resize;
  int resize_height, resize_width; /* SHORTEST: both hold the shorter side, unless the target is not square */
  clipc_filter filter;
  int crop_height, crop_width; /* centre crop; 0 = none */
  int fill[3];                 /* RGB of the padding of LONGEST [0..255] */
  int do_rescale;
  double rescale_factor; /* 1/255 */
  int do_normalize;
  float mean[3], std[3]; /* RGB */
} clipc_preprocessing;

/* How this model's pictures are prepared; owned by the model, NULL without an image tower. */
CLIPC_API const clipc_preprocessing *clipc_model_preprocessing(const clipc_model *model);

/* A tower as its configuration was understood. */
typedef struct clipc_tower_info {
  int width, n_layers, n_heads, mlp_width;
  float layer_norm_eps;
  const char *activation; /* "quick_gelu", "gelu", "gelu_tanh" */
  const char *pooling;    /* image: "class", "mean"; text: "argmax", "first", "last", "eos" */
  int patch;              /* image: pixels of a patch's side; 0 for text */
  int n_tokens;           /* image: patches and class token; text: the context length */
  int causal;             /* text: a token sees those before it alone */
  int projection;         /* 1: a layer behind the tower makes the embedding */
  uint64_t n_parameters;  /* projection included, logit scale not */
} clipc_tower_info;

/* Fills *out for CLIPC_TOWER_IMAGE or CLIPC_TOWER_TEXT. CLIPC_OK; _INVALID (NULL, no such tower), _MODEL (it is not
 * open). */
CLIPC_API clipc_status clipc_model_tower(const clipc_model *model, int tower, clipc_tower_info *out,
                                         clipc_error *error);

/* ------------------------------------------------------------------ inputs */

/* A picture in one of four forms; make one with the functions below. Borrows what it points to. */
typedef enum clipc_image_kind {
  CLIPC_IMAGE_PATH = 1,
  CLIPC_IMAGE_BYTES = 2,
  CLIPC_IMAGE_RGB = 3,
  CLIPC_IMAGE_PIXELS = 4
} clipc_image_kind;

typedef struct clipc_image {
  clipc_image_kind kind;
  const void *data;    /* PATH: char[]; BYTES: an encoded file; RGB: u8 [height, width, 3]; PIXELS: float [3, H, W] */
  size_t n_bytes;      /* BYTES */
  int height, width;   /* RGB, in pixels */
  size_t stride_bytes; /* RGB, from row to row, at least 3 * width */
} clipc_image;

CLIPC_API clipc_image clipc_image_path(const char *path);
CLIPC_API clipc_image clipc_image_bytes(const void *bytes, size_t n_bytes);
CLIPC_API clipc_image clipc_image_rgb(const uint8_t *rgb, int height, int width, size_t stride_bytes);
CLIPC_API clipc_image clipc_image_pixels(const float *pixels);

/* A text as UTF-8 (utf8 not NULL) or as token ids (ids not NULL, and then utf8 is not looked at). Borrows
 * what it points to. UTF-8 may hold NUL bytes;
 * a malformed sequence reads as one U+FFFD per maximal ill-formed part, as Python's "replace" does. */
typedef struct clipc_text {
  const char *utf8;
  size_t n_bytes;
  const int32_t *ids; /* start and end token included, unpadded or padded to at most the context length */
  size_t n_ids;
} clipc_text;

CLIPC_API clipc_text clipc_text_utf8(const char *utf8, size_t n_bytes);
CLIPC_API clipc_text clipc_text_string(const char *string);
CLIPC_API clipc_text clipc_text_ids(const int32_t *ids, size_t n_ids);

/* ------------------------------------------------------------------ stages */

/* A decoded picture, u8 [height, width, 3], rows without gaps; give it back with clipc_picture_free. */
typedef struct clipc_picture {
  uint8_t *rgb;
  int height, width;
  clipc_allocator allocator; /* that rgb came from */
} clipc_picture;

/* Decodes a PATH or BYTES image to RGB as Pillow's convert("RGB") gives it: alpha dropped, first frame.
 *   out      [out] owns its pixels; zeroed on failure
 *   options  NULL = defaults; apply_exif, allocator and limits are looked at
 * Reads JPEG, PNG, GIF, BMP and PNM. Returns CLIPC_OK; _INVALID, _IO, _FORMAT, _UNSUPPORTED (WebP,
 * AVIF, HEIC, TIFF and others, by name), _LIMIT, _NO_MEMORY. Threads: safe. */
CLIPC_API clipc_status clipc_decode(clipc_picture *out, const clipc_image *image, const clipc_options *options,
                                    clipc_error *error);

/* Frees the pixels and zeroes the struct; NULL is fine. */
CLIPC_API void clipc_picture_free(clipc_picture *picture);

/* Makes the image tower's input from a picture of any kind but PIXELS.
 *   pixels  [out] float [3, image_height, image_width]
 * Returns as clipc_decode, and _MODEL when the model was opened without an image tower. Threads: safe. */
CLIPC_API clipc_status clipc_preprocess(const clipc_model *model, const clipc_image *image, float *pixels,
                                        clipc_error *error);

/* Cleans, splits and encodes one text: start token, content, end token; no padding.
 *   ids    [out] int32 [clipc_context_length]; untouched beyond *n_ids
 *   n_ids  [out] 2 .. clipc_context_length; a longer text is cut and still ends with the end token
 * Returns CLIPC_OK; _INVALID, _LIMIT, _NO_MEMORY, _MODEL (no text tower, or no tokeniser files in the
 * folder); from a packed file also what a broken or foreign tokeniser gives a folder when it is opened. Threads:
 * safe. */
CLIPC_API clipc_status clipc_tokenize(const clipc_model *model, const char *utf8, size_t n_bytes, int32_t *ids,
                                      size_t *n_ids, clipc_error *error);

/* ----------------------------------------------------------------- session */

typedef struct clipc_session clipc_session;

typedef struct clipc_session_options {
  int max_batch; /* most items computed at once [8]; larger batches go in pieces of this size, pictures in smaller
                    ones where that is faster (about 512 patches) */
  int raw;       /* 1: embeddings as they leave the projection; 0: divided by their L2 norm */
} clipc_session_options;

/* Makes the workspace of one running computation.
 *   out      [out] the session; NULL on failure
 *   model    keeps a reference to it
 *   options  NULL = defaults; copied
 * Returns CLIPC_OK; _INVALID, _NO_MEMORY (the workspace is allocated here, once). Threads: safe; the
 * session then belongs to one thread at a time. */
CLIPC_API clipc_status clipc_session_open(clipc_session **out, clipc_model *model, const clipc_session_options *options,
                                          clipc_error *error);

/* Frees the workspace; a computation that was begun is dropped. NULL is fine. */
CLIPC_API void clipc_session_close(clipc_session *session);

/* The residual stream of one item at one place of its tower: one of what transformers calls hidden_states. */
typedef struct clipc_layer {
  int tower;           /* CLIPC_TOWER_IMAGE or CLIPC_TOWER_TEXT */
  int layer, n_layers; /* 0: what the first block is given; i: what the i-th block left; up to n_layers */
  size_t item;         /* which of the computation's items */
  size_t n_tokens, width;
  const float *hidden; /* [n_tokens, width], the session's, until the observer returns */
} clipc_layer;

/* Shows what the session computes between its blocks to an observer, from the next step on.
 *   session  NULL is fine
 *   observe  called for layer 0 .. n_layers of every item that is computed, for all items of a piece before the next
 *            layer, by the thread that steps the session; must not use the session. NULL = nobody any more
 *   context  handed on
 * Layer 0 is behind the positions and, in pictures, behind ln_pre; no layer is behind the last norm. Tokens of a
 * picture: its class token, then its patches by rows. Of a text: those that the tower looks at, which are up to the one
 * that is pooled where the tower is causal, else the whole context.
 * The stream is f32 in every precision. Embeddings are the same but for the rounding of sums. Cost: the last block is
 * computed for all tokens, not for the pooled one alone; nothing is copied, and nothing is done where nobody looks. */
CLIPC_API void clipc_session_observe(clipc_session *session, void (*observe)(void *context, const clipc_layer *layer),
                                     void *context);

/* One picture, one vector: float [clipc_embedding_dimension].
 * Returns CLIPC_OK or what clipc_preprocess returns; _FORMAT also when the vector is not finite. */
CLIPC_API clipc_status clipc_embed_image(clipc_session *session, const char *path, float *embedding,
                                         clipc_error *error);
CLIPC_API clipc_status clipc_embed_image_bytes(clipc_session *session, const void *bytes, size_t n_bytes,
                                               float *embedding, clipc_error *error);
CLIPC_API clipc_status clipc_embed_image_rgb(clipc_session *session, const uint8_t *rgb, int height, int width,
                                             size_t stride_bytes, float *embedding, clipc_error *error);
CLIPC_API clipc_status clipc_embed_image_pixels(clipc_session *session, const float *pixels, float *embedding,
                                                clipc_error *error);

/* One text, one vector: float [clipc_embedding_dimension].
 * Returns CLIPC_OK or what clipc_tokenize returns; _INVALID for ids outside the vocabulary. */
CLIPC_API clipc_status clipc_embed_text(clipc_session *session, const char *text, float *embedding, clipc_error *error);
CLIPC_API clipc_status clipc_embed_ids(clipc_session *session, const int32_t *ids, size_t n_ids, float *embedding,
                                       clipc_error *error);

/* Many items of any kinds, each with its own result.
 *   embeddings   [out] float [n, clipc_embedding_dimension]; the row of an item that failed is untouched
 *   item_errors  [out] [n], may be NULL; each is set, to CLIPC_OK or to what befell the item
 * Returns CLIPC_OK when every item succeeded, else the status of the first that did not (the others are
 * there all the same). n = 0 is fine. Results do not depend on how the items are grouped beyond the
 * rounding of sums in f32. */
CLIPC_API clipc_status clipc_embed_images(clipc_session *session, const clipc_image *images, size_t n,
                                          float *embeddings, clipc_error *item_errors, clipc_error *error);
CLIPC_API clipc_status clipc_embed_texts(clipc_session *session, const clipc_text *texts, size_t n, float *embeddings,
                                         clipc_error *item_errors, clipc_error *error);

/* The same in steps, for hosts that interleave computations: begin, then step until *done is 1. Every
 * step decodes or tokenises one piece, computes one transformer block, or writes one piece of results.
 *   done  [out] 1 after the last step, whatever it returned; 0 before
 * Everything passed to begin is borrowed until then. Every successful begin on the session, and so every
 * clipc_embed_* call, drops what was running there; its rows and item_errors then stay as they are.
 * Begin returns CLIPC_OK, _INVALID or _MODEL; when it is the first to use a tower of a packed file also _FORMAT (it is
 * damaged, and stays so) or _NO_MEMORY. A step returns CLIPC_OK, _INVALID (nothing was begun), and
 * the last one as clipc_embed_images does. */
CLIPC_API clipc_status clipc_begin_images(clipc_session *session, const clipc_image *images, size_t n,
                                          float *embeddings, clipc_error *item_errors, clipc_error *error);
CLIPC_API clipc_status clipc_begin_texts(clipc_session *session, const clipc_text *texts, size_t n, float *embeddings,
                                         clipc_error *item_errors, clipc_error *error);
CLIPC_API clipc_status clipc_step(clipc_session *session, int *done, clipc_error *error);

/* One vector for a label said in several ways, as open_clip builds its zero-shot classifier: every
 * template with "{}" replaced by the label is embedded and normalised, their mean is normalised again.
 *   templates  [n_templates], n_templates >= 1; one without "{}" is used as it stands
 *   embedding  [out] float [clipc_embedding_dimension], L2-normalised whatever the session's choice
 * Returns CLIPC_OK or what clipc_embed_texts returns; _INVALID (NULL, no template), _NO_MEMORY. Cost: one
 * text per template, in batches; allocates the prompts and their vectors. */
CLIPC_API clipc_status clipc_embed_prompts(clipc_session *session, const char *label, const char *const *templates,
                                           size_t n_templates, float *embedding, clipc_error *error);

/* ------------------------------------------------------------------ scores */

/* Cosine of two vectors [dimension]; 0 when one of them is all zero. */
CLIPC_API float clipc_cosine(const float *a, const float *b, size_t dimension);

/* logits[i, j] = logit_scale * cosine(images[i], texts[j]) + logit_bias.
 *   logits [n_images, n_texts], images [n_images, dimension], texts [n_texts, dimension]; none NULL */
CLIPC_API void clipc_logits(const clipc_model *model, float *logits, const float *images, size_t n_images,
                            const float *texts, size_t n_texts);

/* probabilities[i] = exp(logits[i]) / sum; may alias; n >= 1; infinite logits give NaN, as torch's softmax.
 * A CLIP's way to compare labels. */
CLIPC_API void clipc_softmax(float *probabilities, const float *logits, size_t n);

/* probabilities[i] = 1 / (1 + exp(-logits[i])); may alias. The way of models trained pair by pair. */
CLIPC_API void clipc_sigmoid(float *probabilities, const float *logits, size_t n);

/* Indices of the k largest scores, largest first, ties in index order, NaN last; returns min(k, n).
 *   indices [out] [k] */
CLIPC_API size_t clipc_top_k(size_t *indices, size_t k, const float *scores, size_t n);

/* --------------------------------------------------------------- measuring */

/* Opens a model of random weights in a well-known shape, for measuring where no file is at hand. It has no tokeniser.
 *   shape  "ViT-B-32", "ViT-B-16", "ViT-L-14", ...; an unknown one gives _INVALID and the list in the sentence
 * Returns as clipc_model_open. The weights are the same in every run. */
CLIPC_API clipc_status clipc_model_synthetic(clipc_model **out, const char *shape, const clipc_options *options,
                                             clipc_error *error);

/* The kernels that the model's products use, such as "avx512-vnni" or "openblas"; owned by the library. NULL gives
 * "". */
CLIPC_API const char *clipc_model_kernels(const clipc_model *model);

/* The numbers that the model computes in. */
CLIPC_API clipc_precision clipc_model_precision(const clipc_model *model);

/* Threads that one computation may use, the caller included; 0 for NULL. */
CLIPC_API int clipc_model_threads(const clipc_model *model);

/* Operations (a multiplication and an addition are two) that one embedding takes: what is really computed.
 *   n_tokens  of a text; not looked at for CLIPC_TOWER_IMAGE */
CLIPC_API double clipc_operations(const clipc_model *model, int tower, size_t n_tokens);

/* Measures what one core can multiply and add at most with the instructions that the model's products use, in
 * operations per second: independent sums in registers, the best of several short runs. Takes about 50 ms. */
CLIPC_API double clipc_measure_peak(const clipc_model *model);

/* ----------------------------------------------------------------- runtime */

/* The scheduler: everything that waits or computes is a task on it. A process has one that is shared, made on first
 * use; hosts with a loop of their own, and tests, open others. */
typedef struct clipc_runtime clipc_runtime;

/* Answers of a task that has not ended, and of what it waits for; never the outcome of a call that is over. */
enum { CLIPC_WAITING = -1, CLIPC_YIELDING = -2 };

/* Which addresses fetches may reach, and how much they may take; 0 = the default in brackets. */
typedef struct clipc_fetch_options {
  const char *const *allow; /* [n_allow] "host:port", exact: reached even where the address is private; copied */
  size_t n_allow;
  uint64_t max_bytes;     /* of one body [64 MiB] */
  int max_redirects;      /* [5]; -1 = none */
  int connect_timeout_ms; /* resolving included [10,000] */
  int total_timeout_ms;   /* [30,000] */
  int max_per_host;       /* connections at once [8] */
  int max_connections;    /* of the runtime at once [256] */
  int use_proxy; /* 1: http_proxy and kin of the environment are obeyed; names are then resolved by the proxy, and
                               their addresses not checked [0] */
} clipc_fetch_options;

typedef enum clipc_log_level {
  CLIPC_LOG_ERROR = 1,
  CLIPC_LOG_WARNING = 2,
  CLIPC_LOG_INFO = 3,
  CLIPC_LOG_DEBUG = 4
} clipc_log_level;

typedef struct clipc_runtime_options {
  int n_threads; /* that run tasks; 0 = as many as the process may use; CLIPC_HOST_DRIVEN = none: the host polls */
  uint64_t seed; /* not 0, and only HOST_DRIVEN: which ready task comes next is drawn from it, and time jumps to the
                    next timer when nothing is ready; for tests that look for a bad order */
  uint64_t memory_budget_bytes; /* for models and workspaces of its pools; 0 = three quarters of what the cgroup or else
                                   the machine has */
  clipc_fetch_options fetch;
  void (*log)(void *context, clipc_log_level level, const char *message); /* from any thread; NULL = nobody listens */
  void *log_context;
  clipc_allocator allocator;
} clipc_runtime_options;

enum { CLIPC_HOST_DRIVEN = -1 };

/* Opens a runtime of its own.
 *   out      [out] the runtime, one reference; NULL on failure
 *   options  NULL = defaults; copied
 * Returns CLIPC_OK; _INVALID; _RUNTIME_UNAVAILABLE (no thread or no descriptor can be had, or the system has no
 * epoll); _NO_MEMORY. Threads: safe. */
CLIPC_API clipc_status clipc_runtime_open(clipc_runtime **out, const clipc_runtime_options *options,
                                          clipc_error *error);

/* Says how the shared runtime will be made. Returns CLIPC_OK; _INVALID, also when it exists already. Threads: safe. */
CLIPC_API clipc_status clipc_runtime_shared_options(const clipc_runtime_options *options, clipc_error *error);

/* The runtime of the process, made by the first call; owned by the process: never close it, and use it no more after
 * clipc_shutdown.
 * Returns CLIPC_OK, or _RUNTIME_UNAVAILABLE when it cannot be made, was shut down by clipc_shutdown, or belongs to the
 * parent of a process that was forked since. Threads: safe. */
CLIPC_API clipc_status clipc_runtime_shared(clipc_runtime **out, clipc_error *error);

/* Ends a runtime: nothing new is taken, what is under way may finish (drain) or is cancelled, and everything
 * still pending is completed with CLIPC_E_SHUTTING_DOWN. Its threads are gone when it returns.
 *   drain_ms  how long running tasks may take to finish before they are cancelled; 0 = cancel at once; -1 = no limit
 * Returns CLIPC_OK (also when it was shut down before); _TIMED_OUT (tasks that ignore being cancelled for 10 s are
 * dropped); _WOULD_DEADLOCK from inside a task of it. Threads: one at a time. */
CLIPC_API clipc_status clipc_runtime_shutdown(clipc_runtime *runtime, int drain_ms, clipc_error *error);

/* Shuts down at once where that was not done, and gives the reference back: memory is freed with the last pending
 * result. NULL is fine. From inside a task of it nothing happens. */
CLIPC_API void clipc_runtime_close(clipc_runtime *runtime);

/* A descriptor that is readable when a HOST_DRIVEN runtime has something to do; owned by the runtime, to be watched for
 * reading and never read. -1 for other runtimes. */
CLIPC_API int clipc_runtime_fd(const clipc_runtime *runtime);

/* Runs what is ready in a HOST_DRIVEN runtime on the calling thread, at most one block of a tower or a few hundred
 * short turns, then returns.
 *   timeout_ms  how long to wait when nothing is ready; 0 = not at all; -1 = as long as it takes
 * Returns CLIPC_OK (something ran), _TIMED_OUT (nothing was ready), _INVALID (not HOST_DRIVEN), _WOULD_DEADLOCK (from
 * inside a task), _SHUTTING_DOWN. Threads: one at a time. */
CLIPC_API clipc_status clipc_runtime_poll(clipc_runtime *runtime, int timeout_ms, clipc_error *error);

/* Writes what there is, for people, a line at a time: the runtime, then each task with its name and what it does.
 * `write` must not block nor call the runtime. Threads: safe; a busy runtime changes meanwhile. */
CLIPC_API void clipc_runtime_dump(clipc_runtime *runtime, void (*write)(void *context, const char *line),
                                  void *context);

/* Nanoseconds of the runtime's clock, which deadlines are given in; it never goes back. */
CLIPC_API int64_t clipc_runtime_now_ns(const clipc_runtime *runtime);

/* -------------------------------------------------------------------- tasks */

/* A task is a stackless coroutine: a small struct (its frame) and a function that is called again and again. Each call
 * goes on from where the last one stopped, and returns
 *   CLIPC_WAITING   it asked for something that is not there yet; it is called when that changes (or earlier: ask
 *                   again)
 *   CLIPC_YIELDING  it has more to do; others come first
 *   a clipc_status  it has ended
 * The macros below write that as straight code; a plain enum and switch does as well. A task runs on one thread at a
 * time, but not always on the same one. It must not block, and should not compute for more than some milliseconds. */
typedef struct clipc_task clipc_task;
typedef int clipc_task_function(clipc_task *task, void *frame);

/* What all tasks of one kind share; static, it is kept by reference. */
typedef struct clipc_task_kind {
  const char *name; /* for clipc_runtime_dump */
  clipc_task_function *run;
  void (*drop)(void *frame); /* called once when the task is over, whatever way; may be NULL */
  size_t frame_bytes;
  int is_short; /* 1: turns take microseconds: they are run first, even between the chunks of a matrix product */
} clipc_task_kind;

/* The straight code. FRAME has a member `int at`, nought at the start; what must outlive a wait lies in the frame,
 * since local variables do not. STATUS is an int lvalue that CALL's answer is put in.
 *
 *   struct ticker { int at, left; };
 *   static int tick(clipc_task *task, void *frame) {
 *     struct ticker *t = frame; int status;
 *     CLIPC_TASK_BEGIN(t);
 *     for (; t->left > 0; t->left--) CLIPC_AWAIT(t, status, clipc_task_sleep(task, 1000000));
 *     CLIPC_TASK_END(t, status == CLIPC_OK ? CLIPC_OK : status); } */
#define CLIPC_TASK_BEGIN(FRAME)                                                                                        \
  switch ((FRAME)->at) {                                                                                               \
  case 0:
#define CLIPC_AWAIT(FRAME, STATUS, CALL)                                                                               \
  do {                                                                                                                 \
    (FRAME)->at = __LINE__;                                                                                            \
    CLIPC_TASK_RESUME(__LINE__)                                                                                        \
    (STATUS) = (CALL);                                                                                                 \
    if ((STATUS) == CLIPC_WAITING) return CLIPC_WAITING;                                                               \
  } while (0)
#define CLIPC_YIELD(FRAME)                                                                                             \
  do {                                                                                                                 \
    (FRAME)->at = __LINE__;                                                                                            \
    return CLIPC_YIELDING;                                                                                             \
  case __LINE__:;                                                                                                      \
  } while (0)
#define CLIPC_TASK_END(FRAME, STATUS)                                                                                  \
  }                                                                                                                    \
  (void)(FRAME);                                                                                                       \
  return (STATUS)
#if defined(__GNUC__) || defined(__clang__)
#define CLIPC_TASK_RESUME(LINE)                                                                                        \
  __attribute__((fallthrough));                                                                                        \
  case LINE:
#else
#define CLIPC_TASK_RESUME(LINE) case LINE:
#endif

/* Starts a task.
 *   out    [out] a handle, to be joined and given back by clipc_task_release; NULL pointer = detached
 *   frame  [kind->frame_bytes] copied into the task; NULL = all zero
 * The task is independent of the one that starts it. Returns CLIPC_OK; _INVALID; _NO_MEMORY; _SHUTTING_DOWN (drop is
 * not called: the frame is still the caller's). Threads: safe, in tasks and outside. Cost: some tens of nanoseconds, no
 * system call while the runtime is busy. */
CLIPC_API clipc_status clipc_spawn(clipc_task **out, clipc_runtime *runtime, const clipc_task_kind *kind,
                                   const void *frame, clipc_error *error);

/* The same, as a child of the running task: cancelling the parent, or its end, cancels the child. */
CLIPC_API clipc_status clipc_spawn_child(clipc_task **out, clipc_task *parent, const clipc_task_kind *kind,
                                         const void *frame, clipc_error *error);

/* One more handle, and one less; a task runs on without any. NULL is fine. Threads: safe. */
CLIPC_API clipc_task *clipc_task_retain(clipc_task *task);
CLIPC_API void clipc_task_release(clipc_task *task);

/* Asks a task to end: what it waits for, now or later, answers CLIPC_E_CANCELLED. Once it has ended nothing happens.
 * Children are cancelled with it. Threads: safe. */
CLIPC_API void clipc_task_cancel(clipc_task *task);

/* 1 when the task was asked to end. For long computations, to look at between their pieces. */
CLIPC_API int clipc_task_cancelled(const clipc_task *task);

/* 1 when it has ended; *status (may be NULL) is what its function returned, CLIPC_E_SHUTTING_DOWN when it was
 * dropped. */
CLIPC_API int clipc_task_ended(const clipc_task *task, clipc_status *status);

CLIPC_API clipc_runtime *clipc_task_runtime(const clipc_task *task);
CLIPC_API void *clipc_task_frame(clipc_task *task);

/* A name of this one task for clipc_runtime_dump; copied, cut at 39 bytes; without memory for it the kind's stays. Call
 * it in the task. */
CLIPC_API void clipc_task_set_name(clipc_task *task, const char *name);

/* Sets the moment (of clipc_runtime_now_ns) from which on everything the task waits for answers CLIPC_E_TIMED_OUT
 * unless it is there; 0 = none. It holds until it is set again. Call it in the task. */
CLIPC_API void clipc_task_set_deadline(clipc_task *task, int64_t deadline_ns);

/* What a task may wait for. Each answers CLIPC_WAITING (return it from the task's function), CLIPC_OK, its own
 * statuses, _CANCELLED or _TIMED_OUT; each is called by the running task alone, with itself as `task`. */

/* Until the moment / for a while from the first call on; a task sleeps for one thing at a time. */
CLIPC_API int clipc_task_sleep_until(clipc_task *task, int64_t moment_ns);
CLIPC_API int clipc_task_sleep(clipc_task *task, int64_t duration_ns);

/* Until another task has ended; CLIPC_OK means that it has, *status (may be NULL) how. One joiner at a time. */
CLIPC_API int clipc_task_join(clipc_task *task, clipc_task *other, clipc_status *status);

/* From a thread outside: blocks until the task has ended.
 *   timeout_ms  -1 = no limit
 * Returns CLIPC_OK (*status says how it ended), _TIMED_OUT, _WOULD_DEADLOCK from inside a task. The waiting thread may
 * run tasks of the runtime meanwhile; of a HOST_DRIVEN runtime it polls, so that one thread alone may call it. */
CLIPC_API clipc_status clipc_task_wait(clipc_task *task, int timeout_ms, clipc_status *status, clipc_error *error);

/* ----------------------------------------------------------------- channels */

/* Queue of messages of one size, from many senders to one receiver. Messages are copied; one that nobody took is given
 * to `drop`. */
typedef struct clipc_channel clipc_channel;

/* Makes a channel with one sender and the receiver's end; both ends are this one pointer.
 *   capacity  messages; 0 = unbounded
 *   drop      may be NULL
 * Returns CLIPC_OK, _INVALID (message_bytes 0 or above 4096), _NO_MEMORY (a bounded channel takes all its memory
 * here). */
CLIPC_API clipc_status clipc_channel_open(clipc_channel **out, size_t message_bytes, size_t capacity,
                                          void (*drop)(void *message), clipc_error *error);
CLIPC_API clipc_channel *clipc_channel_add_sender(clipc_channel *channel);
CLIPC_API void clipc_channel_close_sender(clipc_channel *channel);   /* NULL is fine */
CLIPC_API void clipc_channel_close_receiver(clipc_channel *channel); /* NULL is fine */

/* Sends from anywhere, without waiting: CLIPC_OK, _QUEUE_FULL, _CANCELLED (there is no receiver), _NO_MEMORY (unbounded
 * only). The message is taken only with CLIPC_OK. Threads: safe. */
CLIPC_API clipc_status clipc_channel_try_send(clipc_channel *channel, const void *message);

/* Sends from a task: as try_send, but waits for room. */
CLIPC_API int clipc_channel_send(clipc_task *task, clipc_channel *channel, const void *message);

/* Takes the oldest message: CLIPC_OK, or _CANCELLED when no sender and no message is left. */
CLIPC_API int clipc_channel_receive(clipc_task *task, clipc_channel *channel, void *message);
CLIPC_API clipc_status clipc_channel_try_receive(clipc_channel *channel,
                                                 void *message); /* _QUEUE_FULL: nothing there */
CLIPC_API size_t clipc_channel_length(const clipc_channel *channel);

/* Takes a message of whichever channel has one, in turn where several have; NULL entries are passed over.
 *   which    [out] its index
 *   message  [out] room for the largest
 * CLIPC_OK, or _CANCELLED when none can ever have one. A time limit is the task's deadline. */
CLIPC_API int clipc_select(clipc_task *task, clipc_channel *const *channels, size_t n, size_t *which, void *message);

/* One message from one sender to one receiver. */
typedef struct clipc_oneshot clipc_oneshot;

/* Makes one; both ends are this one pointer, and each is to be used up: by sending or dropping, by receiving or
 * dropping.
 *   message_bytes  1 .. 4096 */
CLIPC_API clipc_status clipc_oneshot_open(clipc_oneshot **out, clipc_runtime *runtime, size_t message_bytes,
                                          clipc_error *error);

/* Uses the sender's end up: CLIPC_OK, or _CANCELLED when the receiver is gone (the message is not taken). Threads:
 * safe. */
CLIPC_API clipc_status clipc_oneshot_send(clipc_oneshot *oneshot, const void *message);
CLIPC_API void clipc_oneshot_drop_sender(clipc_oneshot *oneshot);

/* CLIPC_OK or _CANCELLED (the sender was dropped, or the task was cancelled). Any answer but WAITING and _TIMED_OUT
 * uses the receiver's end up. */
CLIPC_API int clipc_oneshot_receive(clipc_task *task, clipc_oneshot *oneshot, void *message);
CLIPC_API void clipc_oneshot_drop_receiver(clipc_oneshot *oneshot);

/* --------------------------------------------------------- pending results */

/* The result of a request, not there yet. It is completed exactly once, whatever becomes of the request. Poll it, await
 * it in a task, wait for it from outside, give it a callback, or let it come out of a completion queue. It keeps what
 * it needs of its runtime and registry: either may be closed first. */
typedef struct clipc_pending clipc_pending;

/* One piece of a stream: some text, or a picture u8 [height, width, 3]. */
typedef struct clipc_chunk {
  const char *text; /* NUL-terminated; NULL for a picture */
  size_t text_bytes;
  const uint8_t *rgb;
  int height, width;
} clipc_chunk;

/* What a request gave; what is not of its capability is zero. Owned by the pending result. */
typedef struct clipc_result {
  size_t n_items;
  const clipc_error *item_errors; /* [n_items] */
  size_t dimension;
  const float *embeddings; /* [n_items, dimension]; rows of failed items are zero */
  size_t n_labels;
  const float *probabilities; /* VISION with labels: [n_items, n_labels]; rows of failed items are zero */
  const char *text;           /* VISION: about the first picture; TEXT_TO_TEXT: all chunks; NUL-terminated */
  size_t text_bytes;
  size_t n_pictures;
  const clipc_chunk *pictures; /* TEXT_TO_IMAGE: [n_pictures] those that nobody took as chunks before the end */
} clipc_result;

/* 1 when it is complete. Threads: safe. NULL gives 1. */
CLIPC_API int clipc_pending_done(const clipc_pending *pending);

/* The status of a complete one, with its sentence; CLIPC_OK while it is not. NULL gives _INVALID. */
CLIPC_API clipc_status clipc_pending_status(const clipc_pending *pending, clipc_error *error);

/* The result of one that is complete with CLIPC_OK; NULL for others. A request of one item that is no batch has its
 * item's status; items of a batch may have failed all the same, each with its own sentence. Valid until
 * clipc_pending_close. */
CLIPC_API const clipc_result *clipc_pending_result(const clipc_pending *pending);

/* In a task: CLIPC_WAITING until it is complete, then its status, as often as it is asked. _CANCELLED and _TIMED_OUT
 * are also the waiting task's own; clipc_pending_done tells them apart. One task at a time. */
CLIPC_API int clipc_pending_await(clipc_task *task, clipc_pending *pending);

/* From a thread outside: blocks until it is complete, then its status and sentence; as often as you like.
 *   timeout_ms  -1 = no limit
 * Also _TIMED_OUT (the request goes on), and _WOULD_DEADLOCK, at once and even when it is complete, from inside a task
 * or a callback. The waiting thread may run the request itself. Threads: safe. */
CLIPC_API clipc_status clipc_pending_wait(clipc_pending *pending, int timeout_ms, clipc_error *error);

/* Asks the request to stop: unless it is complete, it is completed here and now with CLIPC_E_CANCELLED, its callback
 * included. What is being computed for it is dropped as soon as the engine comes up for air. Once it is complete
 * nothing happens. Threads: safe. */
CLIPC_API void clipc_pending_cancel(clipc_pending *pending);

/* Takes the oldest chunk of a stream, in a task. CLIPC_OK with text and rgb both NULL is the end, told after the last
 * chunk of a request that succeeded; a chunk is valid until the next call. Else CLIPC_WAITING, or the request's status
 * (told after the chunks that came before). One reader at a time, and not together with clipc_pending_await. */
CLIPC_API int clipc_pending_next_chunk(clipc_task *task, clipc_pending *pending, clipc_chunk *chunk);

/* The same from a thread outside; as clipc_pending_wait. */
CLIPC_API clipc_status clipc_pending_wait_chunk(clipc_pending *pending, int timeout_ms, clipc_chunk *chunk,
                                                clipc_error *error);

/* Gives it back: a request under way is cancelled first, but where a callback is to hear of it: that is called all the
 * same, and must then not close it again. NULL is fine. Threads: safe, once. */
CLIPC_API void clipc_pending_close(clipc_pending *pending);

/* Finished requests in the order of their end, for hosts with many under way. A request with a queue belongs to it: it
 * is closed by whoever takes it out; closed before that, it is cancelled and stays out. */
typedef struct clipc_completions clipc_completions;
CLIPC_API clipc_status clipc_completions_open(clipc_completions **out, clipc_runtime *runtime, clipc_error *error);
/* The next finished one, which the caller now closes; NULL when there is none. Threads: safe. */
CLIPC_API clipc_pending *clipc_completions_next(clipc_completions *completions);
/* Until there is a finished one: in a task (one at a time), and from a thread outside as clipc_pending_wait. */
CLIPC_API int clipc_completions_await(clipc_task *task, clipc_completions *completions);
CLIPC_API clipc_status clipc_completions_wait(clipc_completions *completions, int timeout_ms, clipc_error *error);
/* Readable while there is a finished one, to be watched and never read; owned by the queue; made by the first call; -1
 * when it cannot be. */
CLIPC_API int clipc_completions_fd(clipc_completions *completions);
/* Closes those inside; those under way go on, and are closed when they end. NULL is fine. */
CLIPC_API void clipc_completions_close(clipc_completions *completions);

/* ----------------------------------------------------------------- requests */

/* What models can do. */
typedef enum clipc_capability {
  CLIPC_IMAGE_EMBEDDING = 0,
  CLIPC_TEXT_EMBEDDING = 1,
  CLIPC_VISION = 2,       /* pictures and a prompt or labels to text */
  CLIPC_TEXT_TO_TEXT = 3, /* a prompt to a stream of chunks */
  CLIPC_TEXT_TO_IMAGE = 4 /* a prompt to a stream of pictures */
} clipc_capability;
enum { CLIPC_N_CAPABILITIES = 5 };

/* Its name ("image_embedding"); a static string, never NULL. */
CLIPC_API const char *clipc_capability_name(clipc_capability capability);

/* One item of a request. */
typedef enum clipc_input_kind {
  CLIPC_INPUT_PATH = 1,   /* a picture's file */
  CLIPC_INPUT_URL = 2,    /* http or https: fetched by a task of its own, before a worker is asked for */
  CLIPC_INPUT_BASE64 = 3, /* a picture's file; either alphabet, white space, "data:" URIs */
  CLIPC_INPUT_BYTES = 4,  /* a picture's file */
  CLIPC_INPUT_TEXT = 5    /* UTF-8 */
} clipc_input_kind;

typedef struct clipc_input {
  clipc_input_kind kind;
  const void *data;
  size_t n_bytes; /* 0: data is a NUL-terminated string (not for BYTES) */
} clipc_input;

/* A request. All of it is copied when it is made. */
typedef struct clipc_request {
  clipc_capability capability;
  const clipc_input *inputs; /* [n_inputs]: TEXT for TEXT_EMBEDDING, pictures for IMAGE_EMBEDDING and VISION */
  size_t n_inputs;           /* 0 for the two that generate; else at least 1, or 0 in a batch: done at once */
  const char *prompt;        /* what TEXT_TO_TEXT and TEXT_TO_IMAGE go on from; VISION: may be NULL */
  const char *const *labels; /* VISION: [n_labels] to choose from */
  size_t n_labels;
  int is_batch;           /* 1: takes the batch queue, and items fail one by one, whatever n_inputs is; as two
                                    inputs and more do anyway */
  uint64_t max_chunks;    /* of a stream; 0 = the model's own limit */
  size_t stream_capacity; /* chunks that wait unread before the model waits for its reader; 0 = it never waits */
  uint64_t seed;          /* of what models draw by chance */
  int64_t timeout_ms;     /* until it must be complete, waiting and fetching included; else it is completed with
                                    CLIPC_E_TIMED_OUT. 0 = request_timeout_ms of the registry; -1 = none */
  /* Called once when it is complete, from any thread, also from inside the call that makes or cancels it; NULL = none.
   * It may call everything that does not block, clipc_pending_close too; what blocks answers CLIPC_E_WOULD_DEADLOCK. */
  void (*done)(void *context, clipc_pending *pending);
  clipc_completions *completions; /* the queue that it comes out of; NULL = none; not together with done */
  void *context;                  /* for done; clipc_pending_context gives it back */
} clipc_request;

CLIPC_API void *clipc_pending_context(const clipc_pending *pending);

/* The five capabilities as tables of functions, which a user's own model can fill as well as a registry: code that
 * takes a table does not know whose it is. Every function returns a pending result at once and never NULL, but where
 * there is no memory even for that; what cannot be done is told by its status. `more` may be NULL; of it prompt (of
 * VISION), max_chunks, stream_capacity, seed, timeout_ms, done, completions and context are looked at. */
typedef struct clipc_image_embedding {
  void *self;
  clipc_pending *(*embed_image)(void *self, const char *path, const clipc_request *more);
  clipc_pending *(*embed_image_url)(void *self, const char *url, const clipc_request *more);
  clipc_pending *(*embed_image_base64)(void *self, const char *base64, size_t n_bytes, const clipc_request *more);
  clipc_pending *(*batch_embed_images)(void *self, const clipc_input *inputs, size_t n, const clipc_request *more);
  size_t (*embedding_dimension)(void *self);                    /* 0 before the model is loaded */
  const size_t *(*supported_dimensions)(void *self, size_t *n); /* NULL and 0 before */
} clipc_image_embedding;

typedef struct clipc_text_embedding {
  void *self;
  clipc_pending *(*embed_text)(void *self, const char *text, const clipc_request *more);
  clipc_pending *(*batch_embed_texts)(void *self, const char *const *texts, size_t n, const clipc_request *more);
  size_t (*embedding_dimension)(void *self);
  const size_t *(*supported_dimensions)(void *self, size_t *n);
} clipc_text_embedding;

typedef struct clipc_vision {
  void *self;
  clipc_pending *(*describe)(void *self, const clipc_input *image, const char *prompt, const clipc_request *more);
  clipc_pending *(*classify)(void *self, const clipc_input *image, const char *const *labels, size_t n_labels,
                             const clipc_request *more);
} clipc_vision;

typedef struct clipc_text_to_text {
  void *self;
  clipc_pending *(*generate)(void *self, const char *prompt, const clipc_request *more);
} clipc_text_to_text;

typedef struct clipc_text_to_image {
  void *self;
  clipc_pending *(*draw)(void *self, const char *prompt, const clipc_request *more);
} clipc_text_to_image;

/* ------------------------------------------------------------------ memory */

/* A part of a runtime's memory budget, claimed before memory is taken and given back once. */
typedef struct clipc_guard clipc_guard;

/* Claims n_bytes. Returns CLIPC_OK; _INVALID; _MEMORY_BUDGET (at once: nothing is evicted for it); _NO_MEMORY. Threads:
 * safe. */
CLIPC_API clipc_status clipc_memory_claim(clipc_guard **out, clipc_runtime *runtime, uint64_t n_bytes,
                                          clipc_error *error);

/* Gives it back. NULL is fine. Threads: safe. The runtime may have been closed. */
CLIPC_API void clipc_memory_release(clipc_guard *guard);

/* Bytes that are claimed, and the budget. Either may be NULL. */
CLIPC_API clipc_status clipc_memory_usage(clipc_runtime *runtime, uint64_t *used, uint64_t *budget, clipc_error *error);

/* ------------------------------------------------------------------ engines */

/* A request as an engine sees it: decoded from base64 or fetched already, so that inputs are PATH, BYTES or TEXT. An
 * item whose error is set already (what it names could not be fetched or decoded) is to be passed over. */
typedef struct clipc_call clipc_call;
CLIPC_API const clipc_request *clipc_call_request(const clipc_call *call);
/* Inputs, or 1 for a prompt. */
CLIPC_API size_t clipc_call_items(const clipc_call *call);
/* 1 when nobody waits for it any more: it was cancelled, or is late. */
CLIPC_API int clipc_call_cancelled(const clipc_call *call);
/* Where item i's vector goes: float [dimension of the engine]; NULL where the engine has none. */
CLIPC_API float *clipc_call_embedding(clipc_call *call, size_t item);
/* Where item i's probabilities go: float [n_labels of the request]; NULL without labels. */
CLIPC_API float *clipc_call_probabilities(clipc_call *call, size_t item);
/* Where item i's own failure goes; CLIPC_OK at first. */
CLIPC_API clipc_error *clipc_call_item_error(clipc_call *call, size_t item);
/* Sends a chunk of a stream; copied. In the engine's compute: CLIPC_OK, CLIPC_WAITING (the reader is behind: return it
 * and ask again), _CANCELLED (nobody waits any more), _LIMIT (max_chunks were sent), _INVALID, _NO_MEMORY. */
CLIPC_API int clipc_call_send(clipc_task *task, clipc_call *call, const clipc_chunk *chunk);
/* Sets the text of the result (VISION); copied. CLIPC_OK, _INVALID or _NO_MEMORY. */
CLIPC_API clipc_status clipc_call_set_text(clipc_call *call, const char *text, size_t n_bytes);

/* A model as workers run it: immutable, shared by all of them. What a loader fills. */
typedef struct clipc_engine {
  void *self;
  size_t dimension;      /* of its embeddings; 0 = none */
  uint64_t shared_bytes; /* the memory of self */
  uint64_t worker_bytes; /* what one worker adds */
  /* Makes and frees what one worker owns; both NULL when it owns nothing. */
  clipc_status (*open_worker)(void *self, void **worker, clipc_error *error);
  void (*close_worker)(void *self, void *worker);
  /* Computes n_calls calls of one capability together. It is called in a worker's task until it returns a status:
   * CLIPC_WAITING as in any task, CLIPC_YIELDING after every piece of some milliseconds (a block of a tower). CLIPC_OK
   * = every call has its result, or its items' errors; another status fails the calls with *error: where they were
   * several, each is computed once more alone, so that one cannot spoil the others. The first call has *at = 0; what it
   * leaves there comes back. When nobody waits for any of the calls any more it is not called again for them, and
   * what comes next begins with *at = 0 anew. */
  int (*compute)(clipc_task *task, void *self, void *worker, clipc_call *const *calls, size_t n_calls, int *at,
                 clipc_error *error);
  size_t max_batch;            /* items computed together at most; 0 = 1. A call with more comes alone */
  void (*release)(void *self); /* once, when the last worker is gone; may be NULL */
} clipc_engine;

/* Makes an engine, as a task: run until it returns a status, CLIPC_YIELDING after every few milliseconds. *engine is
 * looked at after CLIPC_OK alone; a sentence goes into *error. One that does not end in time, or is cancelled, is not
 * run again, but for what it waits for, which answers _CANCELLED or _TIMED_OUT once. */
typedef struct clipc_loader clipc_loader;
struct clipc_loader {
  const char *name; /* for diagnostics */
  int (*run)(clipc_task *task, void *frame, const clipc_loader *loader, clipc_engine *engine, clipc_error *error);
  void (*drop)(void *frame); /* called once when run is over, whatever way: frees what the frame holds; may be NULL */
  size_t frame_bytes;        /* of the frame, which is all zero at first */
  const void *source, *options; /* what run makes of them; by reference, as long as the model may be loaded (again) */
  size_t max_batch;             /* items that are wanted together; a registry puts its own number here. 0 = 32 */
  uint64_t expected_bytes;      /* of shared memory; claimed from the budget before it runs */
};

/* The loader of a CLIP folder or packed file (source: its path; options: clipc_options or NULL, both by reference), for
 * IMAGE_EMBEDDING, TEXT_EMBEDDING and VISION. VISION labels pictures: a request needs labels, each of which is put into
 * the prompt's "{}" where there is one; the answer's text is the likeliest label. */
CLIPC_API clipc_loader clipc_model_loader(const char *path, const clipc_options *options);

/* The engine of a model that is open already, whose memory is its owner's affair: a reference is taken, and given back
 * by release.
 *   options  of its workers' sessions; NULL or a max_batch of 0: 32 at once
 * Returns CLIPC_OK, _INVALID, _NO_MEMORY. */
CLIPC_API clipc_status clipc_model_engine(clipc_engine *out, clipc_model *model, const clipc_session_options *options,
                                          clipc_error *error);

/* ------------------------------------------------------------------ registry */

/* Models by name, with the pools of their workers. A model is loaded by the first request for it, once however many
 * come at the same moment, which wait meanwhile. */
typedef struct clipc_registry clipc_registry;

/* The workers of one model for one capability; the registry's. */
typedef struct clipc_pool clipc_pool;

typedef struct clipc_registry_options {
  /* How many requests may wait at each worker, and where there is none yet; 0 = the default. Above: CLIPC_E_QUEUE_FULL
   * at once. Requests of one input wait by what they are for, or by what the input is; those of several in the batch
   * queue. */
  size_t image_embed_queue_capacity, text_embed_queue_capacity, vision_queue_capacity; /* [256 each] */
  size_t text_to_text_queue_capacity, text_to_image_queue_capacity;                    /* [256 each] */
  size_t url_queue_capacity, base64_queue_capacity, batch_queue_capacity; /* [256 each]; as many URLs may be fetched */
  int min_workers;            /* that stay when there is nothing to do [1]; -1 = none, and then the model goes too */
  int max_workers;            /* 1 .. 64 [4, or min_workers]; a cold start makes two where that allows; one more comes
                                 whenever all are busy */
  int64_t idle_ms;            /* after which a worker above min_workers goes [60,000]; -1 = it stays */
  int64_t request_timeout_ms; /* [60,000]; -1 = none */
  int64_t load_timeout_ms;    /* [600,000]; -1 = none */
  size_t max_batch;           /* items computed together at most [32] */
  int64_t max_delay_us;       /* that a request may wait for company [0: what waits already is computed together] */
} clipc_registry_options;

/* Makes a registry on a runtime.
 *   options  NULL = defaults; copied
 * Returns CLIPC_OK; _INVALID (NULL, a minimum above its maximum, a number out of range); _NO_MEMORY; _SHUTTING_DOWN. */
CLIPC_API clipc_status clipc_registry_open(clipc_registry **out, clipc_runtime *runtime,
                                           const clipc_registry_options *options, clipc_error *error);

/* Completes what is under way with CLIPC_E_SHUTTING_DOWN, ends all workers and frees their models. From a thread
 * outside it waits for that; from inside a task or a callback it happens soon after. NULL is fine. Nothing else may be
 * called with the registry, its pools or its tables afterwards. */
CLIPC_API void clipc_registry_close(clipc_registry *registry);

/* Adds a model that a loader makes.
 *   key           its name; copied
 *   capabilities  CLIPC_CAN(...) of each, or-ed
 *   loader        copied; its source and options are the caller's until the registry is closed
 * Returns CLIPC_OK; _INVALID (also a key that is there already); _NO_MEMORY; _SHUTTING_DOWN. Threads: safe. */
#define CLIPC_CAN(CAPABILITY) (1 << (CAPABILITY))
CLIPC_API clipc_status clipc_registry_add(clipc_registry *registry, const char *key, int capabilities,
                                          const clipc_loader *loader, clipc_error *error);

/* Adds a CLIP folder or packed file, for the three capabilities that clipc_model_loader is for; what it lacks a tower
 * for fails when it is asked. Path and options are copied. Nothing is opened yet. Returns as clipc_registry_add. */
CLIPC_API clipc_status clipc_registry_add_model(clipc_registry *registry, const char *key, const char *path,
                                                const clipc_options *options, clipc_error *error);

/* Makes a request: at once, without waiting; never NULL, but without a registry or memory even for that. It is done
 * with
 *   CLIPC_OK                see clipc_pending_result
 *   _INVALID                the request makes no sense
 *   _NO_WORKERS             no model has this key, or the one that has it lacks the capability
 *   _QUEUE_FULL             at once: try again later
 *   _SPAWN_FAILED           the model could not be loaded or no worker be made: with the loader's sentence
 *   _MEMORY_BUDGET          there is no room for it, with all idle models evicted
 *   _TIMED_OUT, _CANCELLED, _SHUTTING_DOWN (also when it was made after the shutdown)
 *   what its one item got (a picture's _IO or _FORMAT, a URL's _NETWORK or _DENIED), or what the engine says
 * Threads: safe, in tasks, callbacks and outside. Looking the key up takes no lock. */
CLIPC_API clipc_pending *clipc_registry_submit(clipc_registry *registry, const char *key, const clipc_request *request);

/* The pool of a model and capability, as long as the registry is open; NULL when there is none. And a request to it,
 * whose capability is not looked at. */
CLIPC_API clipc_pool *clipc_registry_pool(clipc_registry *registry, const char *key, clipc_capability capability);
CLIPC_API clipc_pending *clipc_pool_submit(clipc_pool *pool, const clipc_request *request);

/* The pools of a model as tables of functions. CLIPC_OK; _INVALID; _NO_WORKERS as above. The tables are good as long as
 * the registry is open. */
CLIPC_API clipc_status clipc_registry_image_embedding(clipc_registry *registry, const char *key,
                                                      clipc_image_embedding *table, clipc_error *error);
CLIPC_API clipc_status clipc_registry_text_embedding(clipc_registry *registry, const char *key,
                                                     clipc_text_embedding *table, clipc_error *error);
CLIPC_API clipc_status clipc_registry_vision(clipc_registry *registry, const char *key, clipc_vision *table,
                                             clipc_error *error);
CLIPC_API clipc_status clipc_registry_text_to_text(clipc_registry *registry, const char *key, clipc_text_to_text *table,
                                                   clipc_error *error);
CLIPC_API clipc_status clipc_registry_text_to_image(clipc_registry *registry, const char *key,
                                                    clipc_text_to_image *table, clipc_error *error);

/* Makes one more worker in a pool, before anybody asks for it.
 *   capability, registry_key  the pool's own, said once more: others give _INVALID
 *   loader         for a model that is not loaded; NULL = the one that it was added with. Copied
 *   per_worker_mb  what one worker needs beyond the shared model, in MiB, rounded up; 0 = as the engine says
 *   guard          memory that was claimed for it; it is the worker's from here on, and given back once: when the
 *                  worker goes, or cannot be made (this call's failure included). NULL = it is claimed now, and idle
 *                                 models are evicted for it
 *   spawned        [out] complete when the worker is ready: CLIPC_OK, _SPAWN_FAILED with the loader's sentence, _LIMIT
 *                  (max_workers are there), _MEMORY_BUDGET, _SHUTTING_DOWN; may be NULL. To be closed, which cancels
 *                                 nothing
 * Returns CLIPC_OK; _INVALID, _NO_MEMORY, _SHUTTING_DOWN. Threads: safe. */
CLIPC_API clipc_status clipc_pool_spawn_worker(clipc_pool *pool, clipc_capability capability, const char *registry_key,
                                               const clipc_loader *loader, uint64_t per_worker_mb, clipc_guard *guard,
                                               clipc_pending **spawned, clipc_error *error);

/* What a worker is doing. */
typedef enum clipc_worker_state {
  CLIPC_WORKER_SPAWNING = 1, /* its memory is being claimed and its workspace made */
  CLIPC_WORKER_LOADING = 2,  /* the model is being loaded */
  CLIPC_WORKER_READY = 3,    /* it has not had a request yet */
  CLIPC_WORKER_PROCESSING = 4,
  CLIPC_WORKER_IDLE = 5,     /* it waits for the next request */
  CLIPC_WORKER_EVICTING = 6, /* told to go: it does what waits at it, then it is dead */
  CLIPC_WORKER_DEAD = 7,     /* it has gone; it is replaced unless it was told to go */
  CLIPC_WORKER_FAILED = 8    /* it could not be made */
} clipc_worker_state;
enum { CLIPC_N_WORKER_STATES = 9 };

/* The state's name ("Processing"); a static string, never NULL. */
CLIPC_API const char *clipc_worker_state_name(clipc_worker_state state);

typedef struct clipc_worker_info {
  clipc_worker_state state;
  int64_t last_activity_ns; /* by clipc_runtime_now_ns */
  size_t n_requests;        /* given to it and not done */
  uint64_t n_done;
} clipc_worker_info;

/* What a pool's workers are doing: fills at most n infos, those that have gone included, and returns how many there
 * are. */
CLIPC_API size_t clipc_pool_workers(const clipc_pool *pool, clipc_worker_info *infos, size_t n);

/* Asks a worker whether it works: it really runs the model, on a small input of its capability, as soon as it is not
 * busy. A worker that fails is dead, and replaced.
 *   worker  its number in clipc_pool_workers
 *   more    as in the tables; may be NULL
 * Completed with CLIPC_OK, what the model says, or _NO_WORKERS (there is no worker of that number). */
CLIPC_API clipc_pending *clipc_pool_ping(clipc_pool *pool, size_t worker, const clipc_request *more);

/* Tells a model's workers to finish what waits at them and go, and frees it, until the next request. CLIPC_OK (also
 * when it is not loaded); _INVALID; _NO_WORKERS (no such key). It happens soon after. */
CLIPC_API clipc_status clipc_registry_evict(clipc_registry *registry, const char *key, clipc_error *error);

/* What has been counted since the registry was opened. Numbers of one moment need not fit together to the last one. */
enum { CLIPC_N_STATUSES = 19, CLIPC_N_BUCKETS = 32 };
typedef struct clipc_metrics {
  uint64_t n_requests;                          /* made */
  uint64_t by_status[CLIPC_N_STATUSES];         /* completed, by clipc_status */
  uint64_t by_capability[CLIPC_N_CAPABILITIES]; /* made */
  uint64_t n_under_way;
  uint64_t n_items, n_batches, n_batched;  /* items computed; computations; requests that shared one */
  uint64_t n_loads, n_evictions;           /* of models */
  uint64_t n_spawned, n_lost;              /* workers; those that died without being told to go */
  uint64_t workers[CLIPC_N_WORKER_STATES]; /* now, by clipc_worker_state */
  /* Requests that waited, and were computed, in less than 2^i microseconds; each is in the first bucket that fits. */
  uint64_t queued_us[CLIPC_N_BUCKETS], computing_us[CLIPC_N_BUCKETS];
  uint64_t memory_used_bytes, memory_budget_bytes; /* of the runtime */
} clipc_metrics;
CLIPC_API clipc_status clipc_registry_metrics(clipc_registry *registry, clipc_metrics *out, clipc_error *error);

/* Writes a line for each model, pool and worker, as clipc_runtime_dump does for tasks. Threads: safe. */
CLIPC_API void clipc_registry_dump(clipc_registry *registry, void (*write)(void *context, const char *line),
                                   void *context);

/* ---------------------------------------------------------- getting weights */

/* A model that is being got from the Hugging Face hub, by a task of a runtime whose options of fetching hold (of
 * total_timeout_ms and max_bytes, files are free). */
typedef struct clipc_pull clipc_pull;

typedef struct clipc_pull_options {
  const char *folder;   /* where the model is to lie; NULL = in the cache */
  const char *cache;    /* the hub's cache ("~/.cache/huggingface/hub", spelt out), read and added to as Python's
                           programs do it; NULL = none. One of the two must be there */
  const char *revision; /* a branch, tag or commit [main] */
  const char *endpoint; /* the hub [https://huggingface.co] */
  const char *token;    /* for the endpoint's host alone, whatever it redirects to; NULL = none */
  int towers;           /* CLIPC_TOWER_IMAGE or _TEXT: what only the other needs is left out, shards too; 0 = all */
  int offline;          /* 1: what is in the cache has to do */
  int n_parallel;       /* files at once [4] */
  int n_retries;        /* one after the other, without a byte in between [5]; -1 = none */
  int stall_timeout_s;  /* without a byte [30] */
} clipc_pull_options;

/* Begins to get a model.
 *   out      [out] to be closed; NULL on failure
 *   name     "org/name", "hf-hub:org/name", or a short name of OpenAI's and open_clip's: "ViT-B/32",
 *            "ViT-B-32::openai", "ViT-B-32__laion2b_s34b_b79k"
 *   options  copied
 * Only the files that clipc opens are fetched. Where a repository's main revision has no safetensors, the hub's own
 * conversion is taken, or else a repository that is known to have the same weights. Files that were cut off go on
 * where they were left, also by another process; every one is compared with its size and its hash. A folder appears
 * when all of it is there; one that is there and is this model is left as it is. Two of these at once, for the same
 * model and place, do the work once.
 * Returns CLIPC_OK; _INVALID (a name that nobody knows, with the nearest); _NO_MEMORY; _SHUTTING_DOWN. */
CLIPC_API clipc_status clipc_pull_begin(clipc_pull **out, clipc_runtime *runtime, const char *name,
                                        const clipc_pull_options *options, clipc_error *error);

/* From a thread outside: blocks until it is over; timeout_ms -1 = no limit. CLIPC_OK, _TIMED_OUT, _WOULD_DEADLOCK. */
CLIPC_API clipc_status clipc_pull_wait(clipc_pull *pull, int timeout_ms, clipc_error *error);

/* What became of one that is over; CLIPC_OK while it is not.
 *   _NETWORK (no such model or revision, no connection), _TIMED_OUT, _DENIED (the hub's page to accept, or an address),
 *   _MODEL (it has no safetensors), _FORMAT (a wrong size or hash), _IO (the disk; the folder is there and is another;
 *   not in the cache), _UNSUPPORTED (CURL=0), _CANCELLED, _SHUTTING_DOWN, _LIMIT, _NO_MEMORY */
CLIPC_API clipc_status clipc_pull_status(const clipc_pull *pull, clipc_error *error);

/* The model's folder, when it is over and went well, else NULL; until it is closed. */
CLIPC_API const char *clipc_pull_path(const clipc_pull *pull);

typedef struct clipc_pull_progress {
  int done;                       /* 1: it is over */
  size_t n_files, n_files_done;   /* 0 until the repository was listed */
  uint64_t n_bytes, n_bytes_done; /* what was there counts as done; less than before when something begins anew */
} clipc_pull_progress;
CLIPC_API clipc_pull_progress clipc_pull_how_far(const clipc_pull *pull);

/* Stops it; what was fetched stays for the next time. It is over soon after. */
CLIPC_API void clipc_pull_cancel(clipc_pull *pull);

/* Cancels it unless it is over, and frees it. NULL is fine. */
CLIPC_API void clipc_pull_close(clipc_pull *pull);

/* The folder of a model in the hub's cache, without the network.
 *   path      [out, n_bytes] NUL-terminated
 *   revision  NULL = main
 * Returns CLIPC_OK; _INVALID; _IO (it is not there, or not whole); _LIMIT (n_bytes). */
CLIPC_API clipc_status clipc_pull_find(char *path, size_t n_bytes, const char *name, const char *revision,
                                       const char *cache, clipc_error *error);

/* ----------------------------------------------------------------- process */

/* Shuts the shared runtime down at once, for good, then stops the process's set of threads and waits for them; the next
 * computation makes those anew. Call it when nothing is computing and no other runtime is open, for instance before
 * dlclose. From inside a task nothing happens. */
CLIPC_API void clipc_shutdown(void);

#ifdef __cplusplus
}
#endif
#endif
