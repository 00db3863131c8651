/* Resizing, turning and converting pictures against Pillow 13, torchvision 0.29 and transformers 5.23.
 * Goldens: tests/goldens/preprocess, made by make_preprocess.py; the first tables need no file. */
#include "testing.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pictures.h"

/* ---- the tables: RGB, resized as a whole */

struct known {
  int width, height, to_width, to_height;
  clipc_filter filter;
  uint32_t crc;
};

static const struct known pillow[] = {
    {640, 480, 298, 224, CLIPC_FILTER_BICUBIC, 0x3dcafc19},    {640, 480, 341, 256, CLIPC_FILTER_BILINEAR, 0xa8726db4},
    {640, 480, 224, 224, CLIPC_FILTER_BICUBIC, 0x886e64e6},    {333, 500, 224, 336, CLIPC_FILTER_BICUBIC, 0xe5ace6de},
    {333, 500, 256, 384, CLIPC_FILTER_BILINEAR, 0x06561504},   {333, 500, 224, 224, CLIPC_FILTER_BICUBIC, 0x9ffb4524},
    {225, 224, 225, 224, CLIPC_FILTER_BICUBIC, 0xbe793ebe},    {225, 224, 224, 224, CLIPC_FILTER_BICUBIC, 0xb27d9cf2},
    {224, 224, 256, 256, CLIPC_FILTER_BILINEAR, 0x5df41030},   {100, 60, 373, 224, CLIPC_FILTER_BICUBIC, 0xf9eb5784},
    {100, 60, 224, 224, CLIPC_FILTER_BICUBIC, 0x4e4d3308},     {37, 1000, 224, 6054, CLIPC_FILTER_BICUBIC, 0x5138dd9a},
    {37, 1000, 224, 224, CLIPC_FILTER_BICUBIC, 0xcf2f021e},    {300, 800, 224, 597, CLIPC_FILTER_BICUBIC, 0xd255334d},
    {5, 700, 224, 300, CLIPC_FILTER_BICUBIC, 0x14a93d0a},      {1, 1, 224, 224, CLIPC_FILTER_BICUBIC, 0xa6f553d9},
    {2, 3, 224, 336, CLIPC_FILTER_BICUBIC, 0xc8036f51},        {1920, 1080, 398, 224, CLIPC_FILTER_BICUBIC, 0xb9893528},
    {1920, 1080, 455, 256, CLIPC_FILTER_BILINEAR, 0x264099cc}, {1920, 1080, 224, 224, CLIPC_FILTER_BICUBIC, 0x60f3fc9a},
    {224, 301, 224, 301, CLIPC_FILTER_BICUBIC, 0xe9d8e992},
};

static const struct known torchvision[] = {
    {640, 480, 298, 224, CLIPC_FILTER_BICUBIC, 0x50ee328a},   {333, 500, 224, 336, CLIPC_FILTER_BICUBIC, 0xa392a0d1},
    {1920, 1080, 398, 224, CLIPC_FILTER_BICUBIC, 0xccb52908}, {100, 60, 373, 224, CLIPC_FILTER_BICUBIC, 0xd5cbd1ba},
    {333, 500, 224, 224, CLIPC_FILTER_BICUBIC, 0x77a9e70b},
};

/* The whole picture. */
static clipc_status resize_whole(struct clipc__picture *out, const struct clipc__picture *in, int width, int height,
                                 clipc_filter filter, bool by_torchvision, clipc_error *error) {
  struct clipc__window whole = {0, 0, width, height};
  return clipc__resize_window(out, in, width, height, &whole, filter, by_torchvision, clipc__cpu_mask(), error);
}

/* By plain C and by all that the CPU has. */
static void expect_resized(const char *kind, const struct known *known, bool by_torchvision) {
  struct clipc__picture in, out;
  struct clipc__window whole = {0, 0, known->to_width, known->to_height};
  pictures_make(&in, kind, known->width, known->height, NULL);
  for (int best = 0; best < 2; best++) {
    clipc_error error = {0};
    assert_int_equal(clipc__resize_window(&out, &in, known->to_width, known->to_height, &whole, known->filter,
                                          by_torchvision, best ? clipc__cpu_mask() : 0, &error),
                     CLIPC_OK);
    if (pictures_crc(&out) != known->crc)
      fail_msg("%s %dx%d to %dx%d by filter %d of %s, %s: %08x, not %08x", kind, known->width, known->height,
               known->to_width, known->to_height, known->filter, by_torchvision ? "torchvision" : "Pillow",
               best ? "best kernels" : "plain C", pictures_crc(&out), known->crc);
    clipc__picture_free(&out);
  }
  clipc__picture_free(&in);
}

static void known_values_of_pillow(void **state) {
  (void)state;
  for (size_t i = 0; i < COUNT(pillow); i++) expect_resized("RGB", &pillow[i], false);
}

static void known_values_of_torchvision(void **state) {
  (void)state;
  for (size_t i = 0; i < COUNT(torchvision); i++) expect_resized("RGB", &torchvision[i], true);
}

static FILE *open_golden(const char *path) {
  FILE *file = fopen(path, "r");
  if (file == NULL) fail_msg("%s: cannot be opened (tests run in the repository root)", path);
  return file;
}

static void goldens_of_every_mode_and_filter(void **state) {
  (void)state;
  FILE *file = open_golden("tests/goldens/preprocess/resize.txt");
  char kind[16], other[16];
  struct known known;
  int filter, n = 0;
  while (fscanf(file, "%15s %d %d %d %d %d %x %15s", kind, &known.width, &known.height, &known.to_width,
                &known.to_height, &filter, &known.crc, other) == 8) {
    known.filter = (clipc_filter)filter;
    expect_resized(kind, &known, false);
    if (strcmp(other, "-") != 0) {
      known.crc = (uint32_t)strtoul(other, NULL, 16);
      expect_resized(kind, &known, true);
    }
    n++;
  }
  fclose(file);
  assert_true(n > 500);
}

/* ---- what must hold for any picture */

static const char *const kinds[] = {"RGB", "RGBA", "LA", "L", "P", "1", "I16", "I", "CMYK"};

static void a_window_is_a_part_of_the_whole(void **state) {
  (void)state;
  random_start(0);
  for (int round = 0; round < 600; round++) {
    struct clipc__picture in, whole, part;
    const char *kind = kinds[random_below(9)];
    bool by_torchvision = strcmp(kind, "RGB") == 0 && round % 2;
    pictures_make(&in, kind, 1 + (int)random_below(90), 1 + (int)random_below(90), NULL);
    int width = 1 + (int)random_below(90), height = 1 + (int)random_below(90);
    if (round % 7 == 0) width = in.width;
    if (round % 11 == 0) height = in.height;
    clipc_filter filter = (clipc_filter)random_below(by_torchvision ? 4 : 6);
    struct clipc__window window = {(int)random_below((uint32_t)width), (int)random_below((uint32_t)height), 0, 0};
    window.width = 1 + (int)random_below((uint32_t)(width - window.x));
    window.height = 1 + (int)random_below((uint32_t)(height - window.y));
    struct clipc__window all = {0, 0, width, height};
    assert_int_equal(
        clipc__resize_window(&whole, &in, width, height, &all, filter, by_torchvision, clipc__cpu_mask(), NULL),
        CLIPC_OK);
    assert_int_equal(
        clipc__resize_window(&part, &in, width, height, &window, filter, by_torchvision, clipc__cpu_mask(), NULL),
        CLIPC_OK);
    size_t bytes = clipc__mode_bytes(in.mode);
    for (int y = 0; y < window.height; y++)
      assert_memory_equal(part.data + (size_t)y * part.stride_bytes,
                          whole.data + (size_t)(y + window.y) * whole.stride_bytes + (size_t)window.x * bytes,
                          (size_t)window.width * bytes);
    clipc__picture_free(&in);
    clipc__picture_free(&whole);
    clipc__picture_free(&part);
  }
}

static void extremes_give_a_window_or_a_limit(void **state) {
  (void)state;
  struct clipc__picture in, out;
  clipc_error error = {0};
  struct clipc__window window = {0, 11199888, 224, 224};
  pictures_make(&in, "RGB", 1, 100000, NULL);
  assert_int_equal(
      clipc__resize_window(&out, &in, 224, 22400000, &window, CLIPC_FILTER_BICUBIC, false, clipc__cpu_mask(), NULL),
      CLIPC_OK);
  clipc__picture_free(&out);
  assert_int_equal(
      clipc__resize_window(&out, &in, 224, 22400000, &window, CLIPC_FILTER_NEAREST, false, clipc__cpu_mask(), NULL),
      CLIPC_OK);
  clipc__picture_free(&out);
  assert_int_equal(
      clipc__resize_window(&out, &in, 224, INT_MAX, &window, CLIPC_FILTER_BICUBIC, true, clipc__cpu_mask(), &error),
      CLIPC_E_LIMIT);
  assert_non_null(strstr(error.message, "100000"));
  assert_int_equal(resize_whole(&out, &in, 20000, 100000, CLIPC_FILTER_BICUBIC, false, &error), CLIPC_E_LIMIT);
  clipc__picture_free(&in);

  /* A side that nobody could hold pixels of: the tables are refused before any is read. */
  uint8_t pixel[3] = {1, 2, 3};
  struct clipc__picture thin = {
      .mode = CLIPC__MODE_RGB, .width = INT_MAX, .height = 1, .data = pixel, .borrowed = true};
  assert_int_equal(resize_whole(&out, &thin, 1, 2, CLIPC_FILTER_LANCZOS, false, &error), CLIPC_E_LIMIT);
}

static void nonsense_is_refused(void **state) {
  (void)state;
  struct clipc__picture in, out;
  clipc_error error = {0};
  pictures_make(&in, "RGB", 4, 4, NULL);
  memset(&out, 0x5A, sizeof out);
  struct clipc__picture before = out;
  assert_int_equal(resize_whole(&out, &in, 0, 4, CLIPC_FILTER_BICUBIC, false, &error), CLIPC_E_INVALID);
  struct clipc__window outside = {3, 0, 3, 3};
  assert_int_equal(clipc__resize_window(&out, &in, 5, 5, &outside, CLIPC_FILTER_BOX, false, clipc__cpu_mask(), &error),
                   CLIPC_E_INVALID);
  assert_int_equal(resize_whole(&out, &in, 5, 5, CLIPC_FILTER_BOX, true, &error), CLIPC_E_UNSUPPORTED);
  assert_non_null(strstr(error.message, "resample"));
  assert_int_equal(resize_whole(&out, &in, 5, 5, CLIPC_FILTER_HAMMING, true, &error), CLIPC_E_UNSUPPORTED);
  assert_memory_equal(&out, &before, sizeof out);
  clipc__picture_free(&in);
}

/* ---- turning and converting */

static void all_turns(void **state) {
  (void)state;
  FILE *file = open_golden("tests/goldens/preprocess/turn.txt");
  char kind[16];
  int width, height, orientation, n = 0;
  uint32_t crc;
  while (fscanf(file, "%15s %d %d %d %x", kind, &width, &height, &orientation, &crc) == 5) {
    struct clipc__picture picture;
    pictures_make(&picture, kind, width, height, NULL);
    picture.orientation = orientation;
    assert_int_equal(clipc__picture_transpose(&picture, NULL), CLIPC_OK);
    assert_int_equal(picture.orientation, 1);
    assert_int_equal(picture.width, orientation >= 5 ? height : width);
    if (pictures_crc(&picture) != crc) fail_msg("%s %dx%d turned by %d", kind, width, height, orientation);
    clipc__picture_free(&picture);
    n++;
  }
  fclose(file);
  assert_int_equal(n, 216);
}

static void all_conversions(void **state) {
  (void)state;
  FILE *file = open_golden("tests/goldens/preprocess/rgb.txt");
  char kind[16];
  int width, height, n = 0;
  uint32_t crc[2];
  while (fscanf(file, "%15s %d %d %x %x", kind, &width, &height, &crc[0], &crc[1]) == 5) {
    for (int white = 0; white < 2; white++) {
      struct clipc__picture picture;
      pictures_make(&picture, kind, width, height, NULL);
      assert_int_equal(clipc__picture_to_rgb(&picture, white ? CLIPC_ALPHA_WHITE : CLIPC_ALPHA_DROP, NULL), CLIPC_OK);
      assert_int_equal(picture.mode, CLIPC__MODE_RGB);
      assert_int_equal(picture.transparency, CLIPC__OPAQUE);
      if (pictures_crc(&picture) != crc[white])
        fail_msg("%s %dx%d %s", kind, width, height, white ? "on white" : "dropped");
      clipc__picture_free(&picture);
    }
    n++;
  }
  fclose(file);
  assert_int_equal(n, 51);
}

/* transformers' rule for every colour and alpha: the rounded quotient, not a shift that comes close. */
static void every_colour_and_alpha_on_white(void **state) {
  (void)state;
  struct clipc__picture picture;
  static const clipc_allocator plain;
  assert_int_equal(clipc__picture_make(&picture, CLIPC__MODE_LA, 256, 256, &plain, NULL), CLIPC_OK);
  for (int i = 0; i < 65536; i++) {
    picture.data[2 * i] = (uint8_t)i;
    picture.data[2 * i + 1] = (uint8_t)(i >> 8);
  }
  assert_int_equal(clipc__picture_to_rgb(&picture, CLIPC_ALPHA_WHITE, NULL), CLIPC_OK);
  for (int i = 0; i < 65536; i++) {
    int c = i & 255, a = i >> 8;
    assert_int_equal(picture.data[3 * i], (c * a + 255 * (255 - a) + 127) / 255);
  }
  clipc__picture_free(&picture);
}

/* PNG's 16-bit keys: Pillow compares their low byte with the pixel after clipping. */
static void a_sixteen_bit_key_is_cut_to_its_low_byte(void **state) {
  (void)state;
  static const uint16_t levels[] = {0, 5, 255, 256, 261, 300, 1280, 65535};
  static const struct {
    uint16_t key;
    uint8_t grey[8];
  } cases[] = {{5, {0, 255, 255, 255, 255, 255, 255, 255}},
               {261, {0, 255, 255, 255, 255, 255, 255, 255}},
               {300, {0, 5, 255, 255, 255, 255, 255, 255}},
               {1280, {255, 5, 255, 255, 255, 255, 255, 255}}};
  for (size_t i = 0; i < 4; i++) {
    struct clipc__picture picture = {.mode = CLIPC__MODE_I16,
                                     .width = 8,
                                     .height = 1,
                                     .stride_bytes = 16,
                                     .data = (uint8_t *)(uintptr_t)levels,
                                     .borrowed = true,
                                     .transparency = CLIPC__COLOR_KEY,
                                     .key = {cases[i].key}};
    assert_int_equal(clipc__picture_to_rgb(&picture, CLIPC_ALPHA_WHITE, NULL), CLIPC_OK);
    for (int x = 0; x < 8; x++) assert_int_equal(picture.data[3 * x], cases[i].grey[x]);
    clipc__picture_free(&picture);
  }
}

static void borrowed_pixels_are_left_alone(void **state) {
  (void)state;
  enum { WIDTH = 7, HEIGHT = 5, STRIDE = 32 };
  uint8_t pixels[HEIGHT * STRIDE], before[HEIGHT * STRIDE];
  for (size_t i = 0; i < sizeof pixels; i++) pixels[i] = (uint8_t)(i * 37);
  memcpy(before, pixels, sizeof pixels);
  struct clipc__picture tight, view = {.mode = CLIPC__MODE_RGB,
                                       .width = WIDTH,
                                       .height = HEIGHT,
                                       .stride_bytes = STRIDE,
                                       .data = pixels,
                                       .borrowed = true,
                                       .orientation = 6};
  assert_int_equal(clipc__picture_to_rgb(&view, CLIPC_ALPHA_WHITE, NULL), CLIPC_OK);
  assert_ptr_equal(view.data, pixels); /* opaque RGB: nothing to do */

  static struct clipc__picture resized, resized_tight;
  pictures_make(&tight, "RGB", WIDTH, HEIGHT, NULL);
  for (int y = 0; y < HEIGHT; y++) memcpy(tight.data + y * 3 * WIDTH, pixels + y * STRIDE, 3 * WIDTH);
  for (int filter = 0; filter < 6; filter++) {
    assert_int_equal(resize_whole(&resized, &view, 11, 3, (clipc_filter)filter, false, NULL), CLIPC_OK);
    assert_int_equal(resize_whole(&resized_tight, &tight, 11, 3, (clipc_filter)filter, false, NULL), CLIPC_OK);
    assert_int_equal(pictures_crc(&resized), pictures_crc(&resized_tight));
    clipc__picture_free(&resized);
    clipc__picture_free(&resized_tight);
  }
  clipc__picture_free(&tight);

  assert_int_equal(clipc__picture_transpose(&view, NULL), CLIPC_OK);
  assert_int_equal(view.width, HEIGHT);
  assert_memory_equal(pixels, before, sizeof pixels);
  clipc__picture_free(&view);
}

static void no_memory_at_any_point(void **state) {
  (void)state;
  for (size_t k = 0; k < 9; k++)
    for (int what = 0; what < 4; what++)
      for (size_t nth = 1;; nth++) {
        struct test_memory memory = {0};
        clipc_allocator allocator = test_allocator(&memory);
        struct clipc__picture in, out = {0};
        pictures_make(&in, kinds[k], 20, 13, &allocator);
        in.orientation = 7;
        memory.fail_at = memory.n_asked + nth;
        uint32_t crc = pictures_crc(&in);
        clipc_status status = what == 0   ? resize_whole(&out, &in, 9, 17, CLIPC_FILTER_BICUBIC, false, NULL)
                              : what == 1 ? resize_whole(&out, &in, 9, 7, CLIPC_FILTER_NEAREST, false, NULL)
                              : what == 2 ? clipc__picture_transpose(&in, NULL)
                                          : clipc__picture_to_rgb(&in, CLIPC_ALPHA_WHITE, NULL);
        bool reached = memory.n_asked >= memory.fail_at;
        assert_int_equal(status, reached ? CLIPC_E_NO_MEMORY : CLIPC_OK);
        if (reached) assert_int_equal(pictures_crc(&in), crc);
        if (status == CLIPC_OK && what < 2) clipc__picture_free(&out);
        clipc__picture_free(&in);
        assert_int_equal(memory.n_live, 0);
        if (!reached) break;
      }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(known_values_of_pillow),
      cmocka_unit_test(known_values_of_torchvision),
      cmocka_unit_test(goldens_of_every_mode_and_filter),
      cmocka_unit_test(a_window_is_a_part_of_the_whole),
      cmocka_unit_test(extremes_give_a_window_or_a_limit),
      cmocka_unit_test(nonsense_is_refused),
      cmocka_unit_test(all_turns),
      cmocka_unit_test(all_conversions),
      cmocka_unit_test(every_colour_and_alpha_on_white),
      cmocka_unit_test(a_sixteen_bit_key_is_cut_to_its_low_byte),
      cmocka_unit_test(borrowed_pixels_are_left_alone),
      cmocka_unit_test(no_memory_at_any_point),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
