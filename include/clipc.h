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
  CLIPC_E_NETWORK = 8,              /* 8 to 18 belong to the scheduler and the network; nothing returns them yet */
  CLIPC_E_DENIED = 9,
  CLIPC_E_CANCELLED = 10,
  CLIPC_E_TIMED_OUT = 11,
  CLIPC_E_QUEUE_FULL = 12,
  CLIPC_E_NO_WORKERS = 13,
  CLIPC_E_SPAWN_FAILED = 14,
  CLIPC_E_MEMORY_BUDGET = 15,
  CLIPC_E_RUNTIME_UNAVAILABLE = 16,
  CLIPC_E_WOULD_DEADLOCK = 17,
  CLIPC_E_SHUTTING_DOWN = 18
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
typedef enum clipc_precision { CLIPC_PRECISION_F32 = 0, CLIPC_PRECISION_BF16 = 1, CLIPC_PRECISION_INT8 = 2 } clipc_precision;

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
  CLIPC_TIER_DOTPROD = 17, /* int8 products */
  CLIPC_TIER_I8MM = 18,    /* int8 products, matrix by matrix */
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
  int towers;       /* CLIPC_TOWER_IMAGE | CLIPC_TOWER_TEXT; 0 = all that the folder has */
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
  int crop_height, crop_width;     /* centre crop; 0 = none */
  int fill[3];                     /* RGB of the padding of LONGEST [0..255] */
  int do_rescale;
  double rescale_factor;           /* 1/255 */
  int do_normalize;
  float mean[3], std[3];           /* RGB */
} clipc_preprocessing;

/* How this model's pictures are prepared; owned by the model, NULL without an image tower. */
CLIPC_API const clipc_preprocessing *clipc_model_preprocessing(const clipc_model *model);

/* ------------------------------------------------------------------ inputs */

/* A picture in one of four forms; make one with the functions below. Borrows what it points to. */
typedef enum clipc_image_kind { CLIPC_IMAGE_PATH = 1, CLIPC_IMAGE_BYTES = 2, CLIPC_IMAGE_RGB = 3, CLIPC_IMAGE_PIXELS = 4 } clipc_image_kind;

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
 * folder); from a packed file also what a broken or foreign tokeniser gives a folder when it is opened. Threads: safe. */
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
CLIPC_API clipc_status clipc_session_open(clipc_session **out, clipc_model *model,
                                          const clipc_session_options *options, clipc_error *error);

/* Frees the workspace; a computation that was begun is dropped. NULL is fine. */
CLIPC_API void clipc_session_close(clipc_session *session);

/* One picture, one vector: float [clipc_embedding_dimension].
 * Returns CLIPC_OK or what clipc_preprocess returns; _FORMAT also when the vector is not finite. */
CLIPC_API clipc_status clipc_embed_image(clipc_session *session, const char *path, float *embedding, clipc_error *error);
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
CLIPC_API clipc_status clipc_embed_images(clipc_session *session, const clipc_image *images, size_t n, float *embeddings,
                                          clipc_error *item_errors, clipc_error *error);
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
CLIPC_API clipc_status clipc_begin_images(clipc_session *session, const clipc_image *images, size_t n, float *embeddings,
                                          clipc_error *item_errors, clipc_error *error);
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

/* The kernels that the model's products use, such as "avx512-vnni" or "openblas"; owned by the library. NULL gives "". */
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

/* ----------------------------------------------------------------- process */

/* Stops the process's set of threads and waits for them; the next computation makes them anew. Call it
 * when nothing is computing, for instance before dlclose. */
CLIPC_API void clipc_shutdown(void);

#ifdef __cplusplus
}
#endif
#endif
