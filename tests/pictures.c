/* See pictures.h. */
#include "pictures.h"

#include "testing.h"

#include <stdlib.h>
#include <string.h>

static void set_kind(struct clipc__picture *picture, const char *kind) {
  for (int i = 0; i < 256; i++) {
    for (int c = 0; c < 3; c++) picture->palette[i][c] = (uint8_t)(67 * i + 91 * c + 13);
    picture->palette[i][3] = 255;
  }
  picture->n_palette = 256;
  if (strcmp(kind, "Ps") == 0) {
    picture->n_palette = 200;
    for (int i = 200; i < 256; i++) memset(picture->palette[i], 0, 3);
  } else if (strcmp(kind, "Pt") == 0) {
    picture->transparency = CLIPC__PALETTE_ALPHA;
    for (int i = 0; i < 256; i++) picture->palette[i][3] = (uint8_t)(29 * i + 7);
  } else if (kind[strlen(kind) - 1] == 'k') {
    static const uint16_t rgb_key[3] = {25, 54, 83};
    picture->transparency = CLIPC__COLOR_KEY;
    memcpy(picture->key, rgb_key, sizeof rgb_key);
    if (picture->mode != CLIPC__MODE_RGB) picture->key[0] = strcmp(kind, "Lk") == 0 ? 13 : 255;
  }
}

/* One row: the goldens come from thousands of pictures, so this is quick. */
static void set_row(uint8_t *out, enum clipc__mode mode, bool low, int width, int y) {
  int n_bytes = (int)clipc__mode_bytes(mode);
  for (int x = 0; x < width; x++, out += n_bytes) {
    int noise = x % 31 * (y % 31) % 31, base = 7 * x + 13 * y + 5 * noise;
    if (mode == CLIPC__MODE_I16 || mode == CLIPC__MODE_I) {
      int32_t wide = (int32_t)((701 * (int64_t)x + 1301 * (int64_t)y + 1003 * noise) % 65536);
      if (low) wide = wide % 512 - (mode == CLIPC__MODE_I ? 100 : 0);
      uint16_t half = (uint16_t)wide;
      memcpy(out, n_bytes == 2 ? (void *)&half : (void *)&wide, (size_t)n_bytes);
    } else if (mode == CLIPC__MODE_1) {
      out[0] = base & 64 ? 255 : 0;
    } else {
      for (int c = 0; c < n_bytes; c++) out[c] = (uint8_t)(base + 29 * c);
      if (mode == CLIPC__MODE_RGBA || mode == CLIPC__MODE_LA) out[n_bytes - 1] = (uint8_t)(3 * x + 5 * y);
    }
  }
}

void pictures_make(struct clipc__picture *picture, const char *kind, int width, int height,
                   const clipc_allocator *allocator) {
  static const struct {
    const char *name;
    enum clipc__mode mode;
  } modes[] = {{"RGBA", CLIPC__MODE_RGBA}, {"RGB", CLIPC__MODE_RGB}, {"LA", CLIPC__MODE_LA},
               {"L", CLIPC__MODE_L},       {"P", CLIPC__MODE_P},     {"1", CLIPC__MODE_1},
               {"I16", CLIPC__MODE_I16},   {"I", CLIPC__MODE_I},     {"CMYK", CLIPC__MODE_CMYK}};
  static const clipc_allocator plain;
  clipc_error error = {0};
  size_t i = 0;
  while (strncmp(kind, modes[i].name, strlen(modes[i].name)) != 0) i++;
  if (clipc__picture_make(picture, modes[i].mode, width, height, allocator ? allocator : &plain, &error) != CLIPC_OK)
    fail_msg("%s", error.message);
  set_kind(picture, kind);
  bool low = strstr(kind, "low") != NULL;
  for (int y = 0; y < height; y++)
    set_row(picture->data + (size_t)y * picture->stride_bytes, picture->mode, low, width, y);
}

uint32_t pictures_crc(const struct clipc__picture *picture) {
  uint32_t crc = 0;
  for (int y = 0; y < picture->height; y++)
    crc = test_crc32(crc, picture->data + (size_t)y * picture->stride_bytes,
                     (size_t)picture->width * clipc__mode_bytes(picture->mode));
  return crc;
}
