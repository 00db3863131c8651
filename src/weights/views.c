/* A named tensor as f32 of the shape the network needs.
 * In: a validated table. Out: the floats where they lie when they are aligned F32, else widened into an arena.
 * Widening is exact: every F16 and BF16, subnormals, infinities and the bits of NaNs included. */
#include "weights/weights.h"

#include <stdio.h>
#include <string.h>

/* "[2, 3]", cut short where it would not fit. */
static void views_shape_text(char *text, size_t n_text, int rank, const uint64_t *shape) {
  size_t at = (size_t)snprintf(text, n_text, "[");
  int shown = rank < CLIPC__MAX_RANK ? rank : CLIPC__MAX_RANK;
  for (int i = 0; i < shown && at < n_text; i++)
    at += (size_t)snprintf(text + at, n_text - at, "%s%llu", i ? ", " : "", (unsigned long long)shape[i]);
  if (at < n_text) snprintf(text + at, n_text - at, "%s]", rank > shown ? ", ..." : "");
}

static void views_widen_f16(float *out, const uint8_t *in, size_t n) {
  for (size_t i = 0; i < n; i++) {
    uint16_t half;
    memcpy(&half, in + 2 * i, 2);
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, bits = (uint32_t)(half & 0x7FFF) << 13;
    uint32_t exponent = bits & 0x0F800000;
    if (exponent == 0) { /* zero or subnormal: 2^-14 (1 + m), less 2^-14, is exact */
      float magnitude, one = 0x1p-14f;
      bits += 0x38800000;
      memcpy(&magnitude, &bits, 4);
      magnitude -= one;
      memcpy(&bits, &magnitude, 4);
    } else {
      bits += exponent == 0x0F800000 ? 0x70000000 : 0x38000000; /* infinity and NaN, or normal */
    }
    bits |= sign;
    memcpy(out + i, &bits, 4);
  }
}

static void views_widen_bf16(float *out, const uint8_t *in, size_t n) {
  for (size_t i = 0; i < n; i++) {
    uint16_t half;
    memcpy(&half, in + 2 * i, 2);
    uint32_t bits = (uint32_t)half << 16;
    memcpy(out + i, &bits, 4);
  }
}

/* Rank 0 is also written as [1]. */
static bool views_shape_fits(const struct clipc__tensor *tensor, int rank, const uint64_t *shape) {
  if (rank == 0) return tensor->rank == 0 || (tensor->rank == 1 && tensor->shape[0] == 1);
  if (tensor->rank != rank || rank > CLIPC__MAX_RANK) return false;
  for (int i = 0; i < rank; i++)
    if (tensor->shape[i] != shape[i]) return false;
  return true;
}

clipc_status clipc__tensor_typed(const struct clipc__tensor **out, const struct clipc__tensors *tensors,
                                 const char *name, int rank, const uint64_t *shape, clipc_error *error) {
  const struct clipc__tensor *tensor = clipc__tensors_find(tensors, name);
  if (tensor == NULL) {
    const char *file = tensors->n_tensors > 0 ? tensors->tensors[0].file : "the weight file";
    return clipc__fail(error, CLIPC_E_MODEL, "%s: tensor %s is missing", file, name);
  }
  if (!views_shape_fits(tensor, rank, shape)) {
    char has[80], needs[80];
    views_shape_text(has, sizeof has, tensor->rank, tensor->shape);
    views_shape_text(needs, sizeof needs, rank, shape);
    return clipc__fail(error, CLIPC_E_MODEL, "%s: tensor %s has shape %s where the config needs %s", tensor->file, name,
                       has, needs);
  }
  if (tensor->dtype == CLIPC__DTYPE_OTHER)
    return clipc__fail(error, CLIPC_E_MODEL, "%s: tensor %s is not of dtype F32, F16 or BF16", tensor->file, name);
  *out = tensor;
  return CLIPC_OK;
}

const float *clipc__tensor_in_place(const struct clipc__tensor *tensor) {
  bool fits = tensor->dtype == CLIPC__DTYPE_F32 && ((uintptr_t)tensor->data & 3) == 0;
  return fits ? (const float *)(const void *)tensor->data : NULL;
}

float *clipc__tensor_room(const struct clipc__tensor *tensor, struct clipc__arena *arena, clipc_error *error) {
  float *room = clipc__arena_take_unset(arena, clipc__tensor_numbers(tensor), sizeof *room);
  if (room == NULL) clipc__fail(error, CLIPC_E_NO_MEMORY, "%s: no memory for tensor %s", tensor->file, tensor->name);
  return room;
}

size_t clipc__tensor_numbers(const struct clipc__tensor *tensor) {
  return (size_t)tensor->n_bytes / (tensor->dtype == CLIPC__DTYPE_F32 ? 4 : 2);
}

void clipc__tensor_widen(float *out, const struct clipc__tensor *tensor, size_t first, size_t n) {
  if (tensor->dtype == CLIPC__DTYPE_F16)
    views_widen_f16(out, tensor->data + 2 * first, n);
  else if (tensor->dtype == CLIPC__DTYPE_BF16)
    views_widen_bf16(out, tensor->data + 2 * first, n);
  else
    memcpy(out, tensor->data + 4 * first, 4 * n);
}

clipc_status clipc__tensor_f32(const float **out, const struct clipc__tensors *tensors, const char *name, int rank,
                               const uint64_t *shape, struct clipc__arena *arena, clipc_error *error) {
  const struct clipc__tensor *tensor = NULL;
  clipc_status status = clipc__tensor_typed(&tensor, tensors, name, rank, shape, error);
  if (status != CLIPC_OK) return status;
  const float *in_place = clipc__tensor_in_place(tensor);
  float *wide = in_place ? NULL : clipc__tensor_room(tensor, arena, error);
  if (in_place == NULL && wide == NULL) return CLIPC_E_NO_MEMORY;
  if (wide != NULL) clipc__tensor_widen(wide, tensor, 0, clipc__tensor_numbers(tensor));
  *out = wide ? wide : in_place;
  return CLIPC_OK;
}
