/* f32 to the 16-bit types, as torch does it: to the nearest, ties to even.
 * In: numbers. Out: little-endian bytes, up to the first finite number that would become infinite. */
#include "weights/weights.h"

#include <string.h>

/* The upper half, rounded; a NaN stays one whatever its lower half was. */
static uint16_t narrow_bf16(uint32_t bits) {
  if ((bits & 0x7FFFFFFF) > 0x7F800000) return (uint16_t)(bits >> 16 | 0x40);
  return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

static uint16_t narrow_f16(uint32_t bits) {
  uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7FFFFFFF;
  if (magnitude > 0x7F800000) return (uint16_t)(sign | 0x7E00 | (magnitude >> 13 & 0x3FF));
  if (magnitude >= 0x47800000) return (uint16_t)(sign | 0x7C00); /* 65536 and more */
  if (magnitude >= 0x38800000) /* normal; a carry goes up into the exponent, at 65520 to infinity */
    return (uint16_t)(sign | (magnitude - 0x38000000 + 0xFFF + (magnitude >> 13 & 1)) >> 13);
  float number, shifted; /* subnormal: beside 0.5 a float's last bit is one of 2^-24 */
  memcpy(&number, &magnitude, sizeof number);
  shifted = number + 0.5f;
  memcpy(&magnitude, &shifted, sizeof magnitude);
  return (uint16_t)(sign | (magnitude - 0x3F000000));
}

size_t clipc__narrow(uint8_t *out, enum clipc__dtype dtype, const float *numbers, size_t n) {
  bool bf16 = dtype == CLIPC__DTYPE_BF16;
  uint16_t infinite = bf16 ? 0x7F80 : 0x7C00;
  for (size_t i = 0; i < n; i++) {
    uint32_t bits;
    memcpy(&bits, numbers + i, sizeof bits);
    uint16_t half = bf16 ? narrow_bf16(bits) : narrow_f16(bits);
    if ((half & 0x7FFF) == infinite && (bits & 0x7FFFFFFF) < 0x7F800000) return i;
    memcpy(out + 2 * i, &half, sizeof half);
  }
  return n;
}
