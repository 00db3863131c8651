/* See pictures.h. */
#include "pictures.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

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

static void set_pixel(uint8_t *out, enum clipc__mode mode, bool low, int x, int y) {
  int base = 7 * x + 13 * y + 5 * (int)(((int64_t)x * y) % 31);
  int32_t wide = (int32_t)((701 * (int64_t)x + 1301 * (int64_t)y + 1003 * (((int64_t)x * y) % 31)) % 65536);
  uint8_t alpha = (uint8_t)(3 * x + 5 * y);
  for (int c = 0; c < 4; c++) {
    if (c < (int)clipc__mode_bytes(mode)) out[c] = (uint8_t)(base + 29 * c);
  }
  if (mode == CLIPC__MODE_1) out[0] = base & 64 ? 255 : 0;
  if (mode == CLIPC__MODE_RGBA) out[3] = alpha;
  if (mode == CLIPC__MODE_LA) out[1] = alpha;
  if (mode == CLIPC__MODE_I16) {
    uint16_t value = (uint16_t)(low ? wide % 512 : wide);
    memcpy(out, &value, sizeof value);
  }
  if (mode == CLIPC__MODE_I) {
    int32_t value = low ? wide % 512 - 100 : wide;
    memcpy(out, &value, sizeof value);
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
  size_t i = 0;
  while (strncmp(kind, modes[i].name, strlen(modes[i].name)) != 0) i++;
  if (clipc__picture_make(picture, modes[i].mode, width, height, allocator ? allocator : &plain, NULL) != CLIPC_OK)
    abort();
  set_kind(picture, kind);
  bool low = strstr(kind, "low") != NULL;
  for (int y = 0; y < height; y++)
    for (int x = 0; x < width; x++)
      set_pixel(picture->data + (size_t)y * picture->stride_bytes + (size_t)x * clipc__mode_bytes(picture->mode),
                picture->mode, low, x, y);
}

static uint32_t crc_more(uint32_t crc, const uint8_t *data, size_t n_bytes) {
  static uint32_t table[256];
  if (table[1] == 0)
    for (uint32_t i = 0; i < 256; i++) {
      table[i] = i;
      for (int bit = 0; bit < 8; bit++) table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0xEDB88320u : 0);
    }
  for (size_t i = 0; i < n_bytes; i++) crc = table[(crc ^ data[i]) & 255] ^ crc >> 8;
  return crc;
}

uint32_t pictures_crc32(const void *data, size_t n_bytes) {
  return ~crc_more(~0u, data, n_bytes);
}

uint32_t pictures_crc(const struct clipc__picture *picture) {
  uint32_t crc = ~0u;
  for (int y = 0; y < picture->height; y++)
    crc = crc_more(crc, picture->data + (size_t)y * picture->stride_bytes,
                   (size_t)picture->width * clipc__mode_bytes(picture->mode));
  return ~crc;
}

static void *memory_take(void *context, size_t n_bytes) {
  struct pictures_memory *memory = context;
  if (memory->n_asked++ == memory->fail_at) return NULL;
  memory->n_held++;
  if (n_bytes > memory->largest_bytes) memory->largest_bytes = n_bytes;
  return malloc(n_bytes);
}

static void memory_give(void *context, void *taken) {
  struct pictures_memory *memory = context;
  memory->n_held--;
  free(taken);
}

clipc_allocator pictures_allocator(struct pictures_memory *memory) {
  return (clipc_allocator){memory_take, memory_give, memory};
}

uint32_t pictures_random(uint32_t n) {
  static uint64_t state;
  if (state == 0) {
    const char *seed = getenv("CLIPC_SEED");
    state = seed ? strtoull(seed, NULL, 10) : (uint64_t)time(NULL);
    printf("CLIPC_SEED=%llu\n", (unsigned long long)state);
    state = state * 2 + 1;
  }
  state = state * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)((state >> 33) % n);
}
