/* The facade's way to a model: options, opening at once and in steps, packing, references.
 * clipc_model_open is a loop over the steps with as much in each as there is. */
#include "base/threads.h"
#include "model/opening.h"

#include <string.h>

/* What one thread packs in one step, in half a millisecond to one. */
#define STEP_BYTES ((size_t)1 << 20)

/* ---- options */

static uint64_t limit_or(uint64_t value, uint64_t otherwise) { return value ? value : otherwise; }

clipc_status clipc__effective_options(clipc_options *out, const clipc_options *options, clipc_error *error) {
  static const clipc_options defaults;
  clipc_options o = options ? *options : defaults;
  if ((unsigned)o.precision > CLIPC_PRECISION_INT8)
    return clipc__fail(error, CLIPC_E_INVALID, "option precision: unknown value %d", (int)o.precision);
  if (strcmp(clipc_tier_name(o.tier), "unknown") == 0)
    return clipc__fail(error, CLIPC_E_INVALID, "option tier: unknown value %d", (int)o.tier);
  if ((unsigned)o.gemm > CLIPC_GEMM_OPENBLAS)
    return clipc__fail(error, CLIPC_E_INVALID, "option gemm: unknown value %d", (int)o.gemm);
  if (o.gemm == CLIPC_GEMM_OPENBLAS && !clipc__has_blas())
    return clipc__fail(error, CLIPC_E_UNSUPPORTED,
                       "option gemm: OpenBLAS is not installed (libopenblas.so.0), or this build is without it");
  if (o.gemm == CLIPC_GEMM_OPENBLAS && o.precision != CLIPC_PRECISION_F32)
    return clipc__fail(error, CLIPC_E_UNSUPPORTED, "option gemm: OpenBLAS multiplies f32 alone");
  if ((unsigned)o.verify > CLIPC_VERIFY_NONE)
    return clipc__fail(error, CLIPC_E_INVALID, "option verify: unknown value %d", (int)o.verify);
  if ((unsigned)o.reference > CLIPC_REFERENCE_HF_TV)
    return clipc__fail(error, CLIPC_E_INVALID, "option reference: unknown value %d", (int)o.reference);
  if ((unsigned)o.alpha > CLIPC_ALPHA_DROP)
    return clipc__fail(error, CLIPC_E_INVALID, "option alpha: unknown value %d", (int)o.alpha);
  if (o.towers & ~(CLIPC_TOWER_IMAGE | CLIPC_TOWER_TEXT))
    return clipc__fail(error, CLIPC_E_INVALID, "option towers: unknown value %d", o.towers);
  if (o.n_threads < 0 || o.n_threads > CLIPC__MAX_THREADS)
    return clipc__fail(error, CLIPC_E_INVALID, "option n_threads: %d is not in 0 .. %d", o.n_threads,
                       CLIPC__MAX_THREADS);
  if (!o.allocator.allocate != !o.allocator.release)
    return clipc__fail(error, CLIPC_E_INVALID, "option allocator: allocate and release go together");
  if (o.n_threads == 0) o.n_threads = clipc__usable_threads();
  o.limits.max_image_bytes = limit_or(o.limits.max_image_bytes, UINT64_C(256) << 20);
  o.limits.max_image_pixels = limit_or(o.limits.max_image_pixels, 178956970);
  o.limits.max_text_bytes = limit_or(o.limits.max_text_bytes, UINT64_C(1) << 20);
  o.limits.max_header_bytes = limit_or(o.limits.max_header_bytes, 100000000);
  o.limits.max_config_bytes = limit_or(o.limits.max_config_bytes, UINT64_C(64) << 20);
  *out = o;
  return CLIPC_OK;
}

/* ---- a model of nothing */

/* OpenBLAS where nothing is hand-tuned, unless the plain C was asked for. */
static void choose_kernels(clipc_model *model) {
  const clipc_options *o = &model->options;
  unsigned cpu = clipc__cpu_mask() & clipc__tier_mask(o->tier);
  bool blas = o->gemm == CLIPC_GEMM_OPENBLAS || (o->gemm == CLIPC_GEMM_AUTO && cpu == 0 && o->tier == CLIPC_TIER_BEST);
  clipc__kernels_init(&model->kernels, cpu, blas);
}

/* A model of nothing yet but its options and kernels; NULL when there is no memory. */
static clipc_model *new_model(const clipc_options *effective, clipc_error *error) {
  clipc_model *model = clipc__alloc_zeroed(&effective->allocator, 1, sizeof *model);
  if (model == NULL) {
    clipc__no_memory(error, "the model");
    return NULL;
  }
  model->allocator = model->arena.allocator = effective->allocator;
  model->options = *effective;
  model->n_references = 1;
  model->n_threads = effective->n_threads;
  choose_kernels(model);
  return model;
}

/* ---- opening */

/* An opening with a model of nothing yet. who: the call, for sentences; path: of the folder or file, or the shape. */
static clipc_status new_opening(clipc_opening **out, const char *who, const char *what, const char *path,
                                const clipc_options *options, clipc_error *error) {
  if (path == NULL) return clipc__fail(error, CLIPC_E_INVALID, "%s: %s is NULL", who, what);
  clipc_options effective;
  clipc_status status = clipc__effective_options(&effective, options, error);
  if (status != CLIPC_OK) return status;
  clipc_opening *opening = clipc__alloc_zeroed(&effective.allocator, 1, sizeof *opening);
  if (opening == NULL) return clipc__no_memory(error, "the model");
  opening->allocator = effective.allocator;
  opening->model = new_model(&effective, error);
  opening->path = opening->model ? clipc__arena_string(&opening->model->arena, path, strlen(path)) : NULL;
  if (opening->path != NULL) {
    *out = opening;
    return CLIPC_OK;
  }
  clipc_opening_close(opening);
  return clipc__no_memory(error, "the model");
}

/* The steps that are left, one after the other, with as much in each as there is. */
static clipc_status open_at_once(clipc_model **out, clipc_opening *opening, clipc_status status, clipc_error *error) {
  while (status == CLIPC_OK && opening->stage != CLIPC__OPENING_DONE)
    status = clipc__opening_step(opening, SIZE_MAX, error);
  if (status == CLIPC_OK) {
    *out = opening->model;
    opening->model = NULL;
  }
  clipc_opening_close(opening);
  return status;
}

clipc_status clipc_model_open(clipc_model **out, const char *path, const clipc_options *options, clipc_error *error) {
  if (out == NULL) return clipc__fail(error, CLIPC_E_INVALID, "clipc_model_open: out is NULL");
  *out = NULL;
  clipc_opening *opening = NULL;
  clipc_status status = new_opening(&opening, "clipc_model_open", "path", path, options, error);
  return open_at_once(out, opening, status, error);
}

clipc_status clipc_model_open_begin(clipc_opening **out, const char *path, const clipc_options *options,
                                    clipc_error *error) {
  if (out == NULL) return clipc__fail(error, CLIPC_E_INVALID, "clipc_model_open_begin: out is NULL");
  *out = NULL;
  return new_opening(out, "clipc_model_open_begin", "path", path, options, error);
}

clipc_status clipc_model_open_step(clipc_opening *opening, clipc_model **out, clipc_error *error) {
  if (out == NULL) return clipc__fail(error, CLIPC_E_INVALID, "clipc_model_open_step: out is NULL");
  *out = NULL;
  if (opening == NULL || opening->model == NULL)
    return clipc__fail(error, CLIPC_E_INVALID, "clipc_model_open_step: %s",
                       opening ? "nothing is being opened any more" : "opening is NULL");
  clipc_status status = clipc__opening_step(opening, STEP_BYTES, error);
  if (status == CLIPC_OK && opening->stage != CLIPC__OPENING_DONE) return CLIPC_OK;
  clipc__opening_free(opening);
  if (status == CLIPC_OK)
    *out = opening->model;
  else
    clipc_model_close(opening->model);
  opening->model = NULL;
  return status;
}

double clipc_model_open_progress(const clipc_opening *opening) {
  if (opening == NULL) return 0.0;
  return opening->model ? clipc__opening_progress(opening) : 1.0;
}

void clipc__model_open_ready(clipc_opening *opening) { opening->ready = true; }

void clipc_opening_close(clipc_opening *opening) {
  if (opening == NULL) return;
  clipc_allocator allocator = opening->allocator;
  clipc__opening_free(opening);
  clipc_model_close(opening->model);
  clipc__free(&allocator, opening);
}

clipc_status clipc_model_synthetic(clipc_model **out, const char *shape, const clipc_options *options,
                                   clipc_error *error) {
  if (out == NULL) return clipc__fail(error, CLIPC_E_INVALID, "clipc_model_synthetic: out is NULL");
  *out = NULL;
  clipc_opening *opening = NULL;
  clipc_status status = new_opening(&opening, "clipc_model_synthetic", "shape", shape, options, error);
  if (status == CLIPC_OK) status = clipc__opening_shape(opening, shape, error);
  return open_at_once(out, opening, status, error);
}

/* ---- the model */

clipc_status clipc_model_pack(const clipc_model *model, const char *path, clipc_error *error) {
  if (model == NULL || path == NULL)
    return clipc__fail(error, CLIPC_E_INVALID, "clipc_model_pack: %s is NULL", model ? "path" : "model");
  if (model->packed != NULL)
    return clipc__fail(error, CLIPC_E_UNSUPPORTED,
                       "the model is from a packed file: pack the folder that it was made of");
  if (model->folder == NULL)
    return clipc__fail(error, CLIPC_E_UNSUPPORTED,
                       "the model is not from a folder, so there is nothing to pack it with");
  return clipc__model_write(model, path, error);
}

const clipc_packing *clipc_model_packing(const clipc_model *model) {
  return model && model->packed ? clipc__packed_packing(model->packed) : NULL;
}

clipc_model *clipc_model_retain(clipc_model *model) {
  if (model) __atomic_add_fetch(&model->n_references, 1, __ATOMIC_RELAXED);
  return model;
}

void clipc_model_close(clipc_model *model) {
  if (model == NULL || __atomic_sub_fetch(&model->n_references, 1, __ATOMIC_ACQ_REL) > 0) return;
  clipc_allocator allocator = model->allocator;
  clipc__model_unload(model);
  clipc__free(&allocator, model);
}

#undef STEP_BYTES
