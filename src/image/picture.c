/* A picture's memory: modes, making, freeing. In: mode and size. Out: struct clipc__picture. */
#include "image/image.h"

size_t clipc__mode_bytes(enum clipc__mode mode) {
  switch (mode) {
  case CLIPC__MODE_1:
  case CLIPC__MODE_L:
  case CLIPC__MODE_P: return 1;
  case CLIPC__MODE_LA:
  case CLIPC__MODE_I16: return 2;
  case CLIPC__MODE_RGB: return 3;
  case CLIPC__MODE_RGBA:
  case CLIPC__MODE_CMYK:
  case CLIPC__MODE_I: return 4;
  }
  return 0;
}

void clipc__picture_describe(struct clipc__picture *picture, enum clipc__mode mode, int width, int height,
                             const clipc_allocator *allocator) {
  *picture = (struct clipc__picture){.allocator = *allocator, .mode = mode, .width = width, .height = height};
  picture->stride_bytes = (size_t)width * clipc__mode_bytes(mode);
  picture->orientation = 1;
  for (int i = 0; i < 256; i++) picture->palette[i][3] = 255;
}

clipc_status clipc__picture_make(struct clipc__picture *picture, enum clipc__mode mode, int width, int height,
                                 const clipc_allocator *allocator, clipc_error *error) {
  clipc__picture_describe(picture, mode, width, height, allocator);
  size_t n_bytes;
  if (clipc__multiply(&n_bytes, picture->stride_bytes, (size_t)height))
    picture->data = clipc__alloc(allocator, n_bytes, 1);
  if (picture->data != NULL) return CLIPC_OK;
  return clipc__fail(error, CLIPC_E_NO_MEMORY, "no memory for a picture of %d x %d pixels", width, height);
}

void clipc__picture_free(struct clipc__picture *picture) {
  if (!picture->borrowed) clipc__free(&picture->allocator, picture->data);
  picture->data = NULL;
}
