/* Pictures to pixels against OpenAI's and open_clip's transform and both processors of transformers 5.23.
 * Goldens: tests/goldens/preprocess/pixels.txt, made by make_preprocess.py; the tables need no file. */
#include "testing.h"

#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pictures.h"

static const clipc_preprocessing clip224 = {
    .reference = CLIPC_REFERENCE_HF,
    .resize = CLIPC_RESIZE_SHORTEST,
    .resize_height = 224,
    .resize_width = 224,
    .filter = CLIPC_FILTER_BICUBIC,
    .crop_height = 224,
    .crop_width = 224,
    .do_rescale = 1,
    .rescale_factor = 1 / 255.0,
    .do_normalize = 1,
    .mean = {0.48145466f, 0.4578275f, 0.40821073f},
    .std = {0.26862954f, 0.26130258f, 0.27577711f},
};

static clipc_status preprocess(float *pixels, int height, int width, struct clipc__picture *picture,
                               const clipc_preprocessing *spec, clipc_error *error) {
  return clipc__preprocess_picture(pixels, height, width, picture, spec, clipc__cpu_mask(), error);
}

/* The CRC of the pixels that spec makes of a picture of the kind; fails the test when it does not work. */
static uint32_t pixels_crc(const char *kind, int width, int height, const clipc_preprocessing *spec, int to_height,
                           int to_width) {
  size_t n = 3 * (size_t)to_height * (size_t)to_width;
  float *pixels = malloc((n + 1) * sizeof *pixels);
  pixels[n] = 1234.5f;
  struct clipc__picture picture;
  clipc_error error = {0};
  pictures_make(&picture, kind, width, height, NULL);
  if (preprocess(pixels, to_height, to_width, &picture, spec, &error) != CLIPC_OK)
    fail_msg("%s %dx%d: %s", kind, width, height, error.message);
  assert_true(pixels[n] == 1234.5f);
  uint32_t crc = test_crc32(0, pixels, n * sizeof *pixels);
  free(pixels);
  return crc;
}

/* ---- the tables */

static void known_pixels_of_the_three_references(void **state) {
  (void)state;
  static const struct {
    const char *kind;
    int width, height;
    uint32_t openai, hf, hf_dropped, hf_tv;
  } known[] = {
      {"RGB", 640, 480, 0xdd115017, 0xdd115017, 0xdd115017, 0xba9ddd11},
      {"RGB", 333, 500, 0xa6181e0c, 0xa6181e0c, 0xa6181e0c, 0xc9217e60},
      {"RGB", 1920, 1080, 0x0fbcda0d, 0x0fbcda0d, 0x0fbcda0d, 0x26f36524},
      {"RGB", 300, 800, 0xda4367ff, 0xda4367ff, 0xda4367ff, 0x892d7d51},
      {"RGB", 100, 60, 0xbf1ae0ba, 0xbf1ae0ba, 0xbf1ae0ba, 0x7eecf9eb},
      {"RGBA", 64, 48, 0x2ee8b5a3, 0x8b9b9689, 0xda78f41e, 0x8422663d},
      {"RGBA", 333, 500, 0xaddc1817, 0xe57e35ab, 0xa6181e0c, 0x5384a684},
  };
  for (size_t i = 0; i < COUNT(known); i++) {
    clipc_preprocessing spec = clip224;
    for (int what = 0; what < 4; what++) {
      spec.reference = what == 0 ? CLIPC_REFERENCE_OPENAI : what == 3 ? CLIPC_REFERENCE_HF_TV : CLIPC_REFERENCE_HF;
      spec.alpha = what == 2 ? CLIPC_ALPHA_DROP : CLIPC_ALPHA_WHITE;
      uint32_t expected = what == 0   ? known[i].openai
                          : what == 1 ? known[i].hf
                          : what == 2 ? known[i].hf_dropped
                                      : known[i].hf_tv;
      assert_int_equal(pixels_crc(known[i].kind, known[i].width, known[i].height, &spec, 224, 224), expected);
    }
  }
}

/* Makes a grey picture with levels 0..255 and reads the table off. */
static void read_table(float table[3 * 256], const clipc_preprocessing *spec) {
  static const clipc_allocator plain;
  struct clipc__picture picture;
  clipc_preprocessing none = *spec;
  none.resize = CLIPC_RESIZE_NONE;
  none.crop_height = none.crop_width = 0;
  assert_int_equal(clipc__picture_make(&picture, CLIPC__MODE_L, 256, 1, &plain, NULL), CLIPC_OK);
  for (int v = 0; v < 256; v++) picture.data[v] = (uint8_t)v;
  assert_int_equal(preprocess(table, 1, 256, &picture, &none, NULL), CLIPC_OK);
}

static void known_tables_of_values(void **state) {
  (void)state;
  static float plain[3 * 256], fused[3 * 256];
  clipc_preprocessing spec = clip224;
  read_table(plain, &spec);
  assert_int_equal(test_crc32(0, plain, sizeof plain), 0x88a84fb3);
  spec.reference = CLIPC_REFERENCE_OPENAI;
  read_table(fused, &spec);
  assert_int_equal(test_crc32(0, fused, sizeof fused), 0x88a84fb3);
  spec.reference = CLIPC_REFERENCE_HF_TV;
  read_table(fused, &spec);
  assert_int_equal(test_crc32(0, fused, sizeof fused), 0xf5158a13);
  int n_differ = 0;
  for (int i = 0; i < 3 * 256; i++) n_differ += plain[i] != fused[i];
  assert_int_equal(n_differ, 537);
}

/* ---- crop offsets: the trap of (h - c) = 3 mod 4 */

static void crop_offsets_of_each_reference(void **state) {
  (void)state;
  for (int spare = -9; spare <= 40; spare++) {
    enum { CROP = 12 };
    int n = CROP + spare;
    float pixels[3 * CROP];
    for (int reference = CLIPC_REFERENCE_OPENAI; reference <= CLIPC_REFERENCE_HF_TV; reference++) {
      clipc_preprocessing spec = {.reference = (clipc_reference)reference, .crop_height = 1, .crop_width = CROP};
      static const clipc_allocator plain;
      struct clipc__picture picture;
      assert_int_equal(clipc__picture_make(&picture, CLIPC__MODE_L, n, 1, &plain, NULL), CLIPC_OK);
      for (int x = 0; x < n; x++) picture.data[x] = (uint8_t)(x + 1);
      assert_int_equal(preprocess(pixels, 1, CROP, &picture, &spec, NULL), CLIPC_OK);
      int offset; /* of the output's first pixel in the picture */
      if (spare >= 0)
        offset = reference == CLIPC_REFERENCE_OPENAI ? (int)rint(spare / 2.0) : spare / 2;
      else
        offset = reference == CLIPC_REFERENCE_HF ? -((1 - spare) / 2) : -(-spare / 2);
      for (int x = 0; x < CROP; x++) {
        int at = x + offset;
        assert_true(pixels[x] == (float)(at >= 0 && at < n ? at + 1 : 0));
      }
    }
  }
}

/* ---- goldens */

static void goldens_of_every_option(void **state) {
  (void)state;
  static const struct {
    const char *name;
    float mean[3], std[3];
  } statistics[] = {{"clip", {0.48145466f, 0.4578275f, 0.40821073f}, {0.26862954f, 0.26130258f, 0.27577711f}},
                    {"half", {0.5f, 0.5f, 0.5f}, {0.5f, 0.5f, 0.5f}},
                    {"imagenet", {0.485f, 0.456f, 0.406f}, {0.229f, 0.224f, 0.225f}}};
  FILE *file = fopen("tests/goldens/preprocess/pixels.txt", "r");
  if (file == NULL) fail_msg("tests/goldens/preprocess/pixels.txt cannot be opened (run in the repository root)");
  char kind[16], name[16];
  int reference, alpha, width, height, resize, filter, fill, to_height, to_width, n = 0;
  uint32_t expected;
  clipc_preprocessing spec = {0};
  while (fscanf(file, "%d %d %15s %d %d %d %d %d %d %d %d %d %d %lf %d %15s %d %d %x", &reference, &alpha, kind, &width,
                &height, &resize, &spec.resize_height, &spec.resize_width, &filter, &spec.crop_height, &spec.crop_width,
                &fill, &spec.do_rescale, &spec.rescale_factor, &spec.do_normalize, name, &to_height, &to_width,
                &expected) == 19) {
    spec.reference = (clipc_reference)reference;
    spec.alpha = (clipc_alpha)alpha;
    spec.resize = (clipc_resize_mode)resize;
    spec.filter = (clipc_filter)filter;
    for (int c = 0; c < 3; c++) spec.fill[c] = fill;
    for (size_t i = 0; i < 3; i++) {
      if (strcmp(statistics[i].name, name) != 0) continue;
      memcpy(spec.mean, statistics[i].mean, sizeof spec.mean);
      memcpy(spec.std, statistics[i].std, sizeof spec.std);
    }
    n++;
    if (pixels_crc(kind, width, height, &spec, to_height, to_width) != expected)
      fail_msg("line %d: reference %d, alpha %d, %s %dx%d, resize %d to %dx%d by filter %d, crop %dx%d", n, reference,
               alpha, kind, width, height, resize, spec.resize_height, spec.resize_width, filter, spec.crop_height,
               spec.crop_width);
  }
  assert_true(feof(file));
  fclose(file);
  assert_true(n > 1000);
}

/* The decoder's goldens, for what convert.c makes of real files: palettes, keys, alpha, CMYK, 16 bit. */
static void decoded_files_to_rgb(void **state) {
  (void)state;
  FILE *file = fopen("tests/goldens/decode/MANIFEST.txt", "r");
  if (file == NULL) fail_msg("tests/goldens/decode/MANIFEST.txt cannot be opened (run in the repository root)");
  static const clipc_limits limits = {1 << 28, 178956970, 1 << 20, 100000000, 1 << 26};
  static const clipc_allocator plain;
  char line[512], name[128], path[256], status[32], crc[2][16];
  int n = 0;
  while (fgets(line, sizeof line, file)) {
    if (sscanf(line, "%127s %31s %*s %*s %*s %*s %15s %15s", name, status, crc[0], crc[1]) != 4) continue;
    if (strcmp(status, "CLIPC_OK") != 0) continue;
    snprintf(path, sizeof path, "tests/goldens/decode/%s", name);
    size_t n_bytes;
    uint8_t *bytes = test_read_file(path, &n_bytes);
    for (int white = 0; white < 2; white++) {
      struct clipc__picture picture;
      clipc_error error = {0};
      if (strcmp(crc[white], "-") == 0) continue; /* a file that the reference itself cannot convert */
      const struct clipc__source source = {bytes, n_bytes, path, &limits, clipc__cpu_mask(), &plain, &error, NULL};
      if (clipc__source_decode(&picture, &source) != CLIPC_OK) fail_msg("%s", error.message);
      assert_int_equal(clipc__picture_to_rgb(&picture, white ? CLIPC_ALPHA_WHITE : CLIPC_ALPHA_DROP, NULL), CLIPC_OK);
      if (pictures_crc(&picture) != strtoul(crc[white], NULL, 16))
        fail_msg("%s %s", path, white ? "on white" : "dropped");
      clipc__picture_free(&picture);
    }
    free(bytes);
    n++;
  }
  fclose(file);
  assert_true(n > 400);
}

/* ---- options and refusals */

static void exif_is_applied_when_asked(void **state) {
  (void)state;
  float as_it_is[3 * 8 * 8], turned[3 * 8 * 8], asked[3 * 8 * 8];
  for (int orientation = 1; orientation <= 8; orientation++) {
    clipc_preprocessing spec = clip224;
    spec.resize_height = spec.resize_width = spec.crop_height = spec.crop_width = 8;
    struct clipc__picture picture;
    pictures_make(&picture, "RGB", 20, 15, NULL);
    assert_int_equal(preprocess(as_it_is, 8, 8, &picture, &spec, NULL), CLIPC_OK);
    pictures_make(&picture, "RGB", 20, 15, NULL);
    picture.orientation = orientation;
    assert_int_equal(preprocess(turned, 8, 8, &picture, &spec, NULL), CLIPC_OK);
    assert_memory_equal(turned, as_it_is, sizeof turned); /* off by default: the trap */
    spec.apply_exif = 1;
    pictures_make(&picture, "RGB", 20, 15, NULL);
    picture.orientation = orientation;
    assert_int_equal(preprocess(asked, 8, 8, &picture, &spec, NULL), CLIPC_OK);
    pictures_make(&picture, "RGB", 20, 15, NULL);
    picture.orientation = orientation;
    assert_int_equal(clipc__picture_transpose(&picture, NULL), CLIPC_OK);
    spec.apply_exif = 0;
    assert_int_equal(preprocess(turned, 8, 8, &picture, &spec, NULL), CLIPC_OK);
    assert_memory_equal(turned, asked, sizeof turned);
    if (orientation > 1) assert_memory_not_equal(asked, as_it_is, sizeof asked);
  }
}

static void a_colour_of_three_pads_in_rgb(void **state) {
  (void)state;
  clipc_preprocessing spec = {.reference = CLIPC_REFERENCE_OPENAI,
                              .resize = CLIPC_RESIZE_LONGEST,
                              .resize_height = 8,
                              .resize_width = 8,
                              .filter = CLIPC_FILTER_BICUBIC,
                              .fill = {10, 300, -5}};
  float pixels[3 * 8 * 8];
  static const char *const kinds[] = {"RGB", "RGBA", "P", "CMYK", "I16", "1"};
  for (size_t k = 0; k < 6; k++) {
    struct clipc__picture picture;
    pictures_make(&picture, kinds[k], 40, 20, NULL);
    assert_int_equal(preprocess(pixels, 8, 8, &picture, &spec, NULL), CLIPC_OK);
    for (int x = 0; x < 8; x++) {
      assert_true(pixels[x] == 10.0f && pixels[64 + x] == 255.0f && pixels[128 + x] == 0.0f);
      assert_true(pixels[56 + x] == 10.0f && pixels[64 + 56 + x] == 255.0f && pixels[128 + 56 + x] == 0.0f);
    }
  }
}

static void expect_refused(clipc_status expected, const char *word, const char *kind, int width, int height,
                           const clipc_preprocessing *spec) {
  float *pixels = malloc(3 * 224 * 224 * sizeof *pixels);
  pixels[0] = pixels[3 * 224 * 224 - 1] = 77.0f;
  clipc_error error = {0};
  struct test_memory memory = {0};
  clipc_allocator allocator = test_allocator(&memory);
  struct clipc__picture picture;
  pictures_make(&picture, kind, width, height, &allocator);
  assert_int_equal(preprocess(pixels, 224, 224, &picture, spec, &error), expected);
  assert_int_equal(error.status, expected);
  if (strstr(error.message, word) == NULL) fail_msg("no \"%s\" in \"%s\"", word, error.message);
  assert_true(pixels[0] == 77.0f && pixels[3 * 224 * 224 - 1] == 77.0f);
  assert_int_equal(memory.n_live, 0); /* the picture is consumed */
  free(pixels);
}

static void refusals(void **state) {
  (void)state;
  clipc_preprocessing spec = clip224;
  spec.crop_height = 225;
  expect_refused(CLIPC_E_UNSUPPORTED, "224x225", "RGB", 30, 20, &spec);
  spec.crop_height = spec.crop_width = 0;
  expect_refused(CLIPC_E_UNSUPPORTED, "336x224", "RGB", 30, 20, &spec);
  spec.resize = CLIPC_RESIZE_NONE;
  expect_refused(CLIPC_E_UNSUPPORTED, "30x20", "LA", 30, 20, &spec);
  spec = clip224;
  spec.resize_width = 0;
  expect_refused(CLIPC_E_INVALID, "size", "RGB", 30, 20, &spec);
  spec = clip224;
  spec.reference = CLIPC_REFERENCE_HF_TV;
  spec.filter = CLIPC_FILTER_HAMMING;
  expect_refused(CLIPC_E_UNSUPPORTED, "resample", "RGB", 30, 20, &spec);
  spec = clip224;
  spec.reference = CLIPC_REFERENCE_OPENAI;
  spec.resize = CLIPC_RESIZE_LONGEST; /* 224 by round(0.22) */
  expect_refused(CLIPC_E_LIMIT, "1x1000", "RGB", 1, 1000, &spec);
  spec = clip224; /* 224 by more than an int holds */
  expect_refused(CLIPC_E_LIMIT, "10000000x1", "L", 10000000, 1, &spec);
}

/* 224 x 22400000 when resized whole. */
static void thin_pictures_cost_no_more_than_the_crop(void **state) {
  (void)state;
  float *pixels = malloc(3 * 224 * 224 * sizeof *pixels);
  for (int upright = 0; upright < 2; upright++)
    for (int reference = CLIPC_REFERENCE_OPENAI; reference <= CLIPC_REFERENCE_HF_TV; reference++) {
      clipc_preprocessing spec = clip224;
      spec.reference = (clipc_reference)reference;
      struct test_memory memory = {0};
      clipc_allocator allocator = test_allocator(&memory);
      struct clipc__picture picture;
      pictures_make(&picture, "RGBA", upright ? 1 : 100000, upright ? 100000 : 1, &allocator);
      assert_int_equal(preprocess(pixels, 224, 224, &picture, &spec, NULL), CLIPC_OK);
      assert_true(memory.most_bytes < 1000000);
    }
  free(pixels);
}

static void no_memory_at_any_point(void **state) {
  (void)state;
  static const char *const kinds[] = {"RGB", "RGBA", "LA", "P", "I16", "CMYK", "RGBk"};
  float pixels[3 * 8 * 8];
  for (size_t k = 0; k < 7; k++)
    for (int reference = CLIPC_REFERENCE_OPENAI; reference <= CLIPC_REFERENCE_HF_TV; reference++)
      for (size_t nth = 1;; nth++) {
        clipc_preprocessing spec = clip224;
        spec.reference = (clipc_reference)reference;
        spec.apply_exif = 1;
        spec.resize = CLIPC_RESIZE_LONGEST;
        spec.resize_height = spec.resize_width = spec.crop_height = spec.crop_width = 8;
        struct test_memory memory = {0};
        clipc_allocator allocator = test_allocator(&memory);
        struct clipc__picture picture;
        pictures_make(&picture, kinds[k], 30, 17, &allocator);
        picture.orientation = 6;
        memory.fail_at = memory.n_asked + nth;
        pixels[0] = 77.0f;
        clipc_status status = preprocess(pixels, 8, 8, &picture, &spec, NULL);
        assert_int_equal(memory.n_live, 0);
        if (memory.n_asked < memory.fail_at) {
          assert_int_equal(status, CLIPC_OK);
          break;
        }
        assert_int_equal(status, CLIPC_E_NO_MEMORY);
        assert_true(pixels[0] == 77.0f);
      }
}

/* ---- files whose rows are resized as they are decoded */

static const clipc_limits file_limits = {1 << 28, 178956970, 1 << 20, 100000000, 1 << 26};

/* Steps of all kinds that end in 24 x 16. */
static clipc_preprocessing random_steps(int width) {
  clipc_preprocessing spec = clip224;
  spec.reference = (clipc_reference)(1 + random_below(3));
  spec.alpha = (clipc_alpha)random_below(2);
  spec.apply_exif = random_below(4) == 0;
  spec.resize = (clipc_resize_mode)random_below(4);
  spec.filter = (clipc_filter)(spec.reference == CLIPC_REFERENCE_HF_TV ? random_below(4) : random_below(6));
  spec.resize_height = 16 + (int)random_below(40);
  spec.resize_width = random_below(2) ? spec.resize_height : random_below(4) ? 24 + (int)random_below(40) : width;
  spec.crop_height = 16;
  spec.crop_width = 24;
  for (int c = 0; c < 3; c++) spec.fill[c] = 99;
  return spec;
}

/* A file by rows and the same as a whole picture, which other tests hold against the references: same outcome, same
 * pixels, by plain C and by all that the CPU has. */
static void expect_the_same_by_rows(const uint8_t *bytes, size_t n_bytes, const char *name) {
  static float whole[3 * 16 * 24], rows[3 * 16 * 24];
  struct test_memory memory = {0};
  clipc_allocator allocator = test_allocator(&memory);
  struct clipc__picture picture;
  clipc_error error = {0};
  struct clipc__source source = {bytes, n_bytes, name, &file_limits, 0, &allocator, &error, NULL};
  clipc_status status = clipc__source_decode(&picture, &source);
  clipc_preprocessing spec = random_steps(picture.width);
  if (status == CLIPC_OK) status = clipc__preprocess_picture(whole, 16, 24, &picture, &spec, 0, &error);
  for (int best = 0; best < 2; best++) {
    source.cpu = best ? clipc__cpu_mask() : 0;
    for (size_t i = 0; i < COUNT(rows); i++) rows[i] = 77.0f;
    error = (clipc_error){0};
    if (clipc__preprocess_source(rows, 16, 24, &source, &spec) != status)
      fail_msg("%s: %s, not %s", name, error.message, clipc_status_name(status));
    if (status != CLIPC_OK) assert_int_equal(strncmp(error.message, name, strlen(name)), 0);
    if (status != CLIPC_OK) assert_true(rows[0] == 77.0f && rows[COUNT(rows) - 1] == 77.0f);
    if (status == CLIPC_OK && memcmp(rows, whole, sizeof rows) != 0)
      fail_msg("%s: other pixels by rows (reference %d, resize %d to %dx%d by filter %d)", name, spec.reference,
               spec.resize, spec.resize_width, spec.resize_height, spec.filter);
    assert_int_equal(memory.n_live, 0);
  }
}

static void files_by_rows_and_as_a_whole(void **state) {
  (void)state;
  random_start(0);
  FILE *file = fopen("tests/goldens/decode/MANIFEST.txt", "r");
  assert_non_null(file);
  char line[512], name[128], path[256];
  while (fgets(line, sizeof line, file)) {
    if (sscanf(line, "%127s", name) != 1 || strncmp(name, "jpeg", 4) != 0) continue;
    snprintf(path, sizeof path, "tests/goldens/decode/%s", name);
    size_t n_bytes;
    uint8_t *bytes = test_read_file(path, &n_bytes);
    for (int round = 0; round < 12; round++) expect_the_same_by_rows(bytes, n_bytes, path);
    for (int round = 0; round < 4 && n_bytes > 0; round++) { /* and damaged behind the headers */
      bytes[n_bytes - 1 - random_below((uint32_t)(n_bytes + 1) / 2)] = (uint8_t)random_below(256);
      expect_the_same_by_rows(bytes, n_bytes, path);
    }
    free(bytes);
  }
  fclose(file);
}

#define ROCKET "tests/goldens/photos/rocket.jpg"

/* 640 x 427: neither its pixels nor what the crop drops are ever held. */
static void a_photograph_by_rows(void **state) {
  (void)state;
  size_t n = 3 * 224 * 224, n_bytes;
  float *whole = malloc(n * sizeof *whole), *rows = malloc(n * sizeof *rows);
  uint8_t *bytes = test_read_file(ROCKET, &n_bytes);
  assert_true(whole && rows);
  for (int reference = CLIPC_REFERENCE_OPENAI; reference <= CLIPC_REFERENCE_HF_TV; reference++) {
    clipc_preprocessing spec = clip224;
    spec.reference = (clipc_reference)reference;
    struct test_memory memory = {0};
    clipc_allocator allocator = test_allocator(&memory);
    struct clipc__picture picture;
    clipc_error error = {0};
    struct clipc__source source = {bytes, n_bytes, ROCKET, &file_limits, clipc__cpu_mask(), &allocator, &error, NULL};
    assert_int_equal(clipc__source_decode(&picture, &source), CLIPC_OK);
    assert_int_equal(preprocess(whole, 224, 224, &picture, &spec, &error), CLIPC_OK);
    memory.most_bytes = 0;
    assert_int_equal(clipc__preprocess_source(rows, 224, 224, &source, &spec), CLIPC_OK);
    assert_memory_equal(rows, whole, n * sizeof *rows);
    assert_true(memory.most_bytes < 400000);
  }
  free(bytes);
  free(whole);
  free(rows);
}

/* A resize that cannot begin for want of memory is left to the way by the whole picture. */
static void no_memory_at_any_point_by_rows(void **state) {
  (void)state;
  static float pixels[3 * 16 * 24], expected[3 * 16 * 24];
  static const char *const names[] = {"jpeg_420.jpg", "jpeg_420_progressive.jpg", "jpeg_made_ycck.jpg"};
  for (size_t k = 0; k < COUNT(names); k++) {
    char path[256];
    size_t n_bytes;
    snprintf(path, sizeof path, "tests/goldens/decode/%s", names[k]);
    uint8_t *bytes = test_read_file(path, &n_bytes);
    for (int after = 0; after < 2; after++)
      for (size_t nth = 0;; nth++) { /* the first round fails at none */
        struct test_memory memory = {.fail_at = nth, .and_after = nth > 0 && after};
        clipc_allocator allocator = test_allocator(&memory);
        clipc_error error = {0};
        struct clipc__source source = {bytes, n_bytes, path, &file_limits, clipc__cpu_mask(), &allocator, &error, NULL};
        clipc_preprocessing spec = clip224;
        spec.resize_height = spec.resize_width = 30;
        spec.crop_height = 16;
        spec.crop_width = 24;
        pixels[0] = 77.0f;
        clipc_status status = clipc__preprocess_source(pixels, 16, 24, &source, &spec);
        assert_int_equal(memory.n_live, 0);
        if (nth == 0) memcpy(expected, pixels, sizeof expected);
        if (status == CLIPC_OK) assert_memory_equal(pixels, expected, sizeof expected);
        if (status != CLIPC_OK)
          assert_true(status == CLIPC_E_NO_MEMORY && error.status == status && pixels[0] == 77.0f);
        if (nth > 0 && after) assert_int_equal(status, memory.n_asked < nth ? CLIPC_OK : CLIPC_E_NO_MEMORY);
        if (nth > 0 && memory.n_asked < nth) break;
      }
    free(bytes);
  }
}

/* Any picture and any options: a result in every pixel or a refusal with a sentence. */
static void random_options(void **state) {
  (void)state;
  random_start(0);
  static const char *const kinds[] = {"RGB", "RGBA", "LA",   "L",  "P",  "1",  "I16",
                                      "I",   "CMYK", "RGBk", "Lk", "1k", "Pt", "Ps"};
  for (int round = 0; round < 1500; round++) {
    clipc_preprocessing spec = {.reference = (clipc_reference)(1 + random_below(3)),
                                .alpha = (clipc_alpha)random_below(2),
                                .apply_exif = (int)random_below(2),
                                .resize = (clipc_resize_mode)random_below(4),
                                .filter = (clipc_filter)random_below(6),
                                .do_rescale = (int)random_below(2),
                                .rescale_factor = 1 / 255.0,
                                .do_normalize = (int)random_below(2),
                                .mean = {0.5f, 0.4f, 0.3f},
                                .std = {0.5f, 0.2f, 0.3f}};
    int height = 1 + (int)random_below(40), width = 1 + (int)random_below(40);
    spec.resize_height = (int)random_below(50);
    spec.resize_width = random_below(2) ? spec.resize_height : (int)random_below(50);
    spec.crop_height = random_below(4) ? height : 0;
    spec.crop_width = random_below(4) ? width : 0;
    for (int c = 0; c < 3; c++) spec.fill[c] = (int)random_below(256);
    struct clipc__picture picture;
    int limit = random_below(8) ? 60 : 3000, other = limit == 3000 ? 3 : 60;
    pictures_make(&picture, kinds[random_below(14)], 1 + (int)random_below((uint32_t)limit),
                  1 + (int)random_below((uint32_t)other), NULL);
    picture.orientation = (int)random_below(10);
    size_t n = 3 * (size_t)height * (size_t)width;
    float *pixels = malloc(n * sizeof *pixels);
    for (size_t i = 0; i < n; i++) pixels[i] = NAN;
    clipc_error error = {0};
    clipc_status status = preprocess(pixels, height, width, &picture, &spec, &error);
    if (status == CLIPC_OK)
      for (size_t i = 0; i < n; i++) assert_true(pixels[i] == pixels[i]);
    else
      assert_true(error.message[0] != '\0' && pixels[0] != pixels[0]);
    free(pixels);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(known_pixels_of_the_three_references),
      cmocka_unit_test(known_tables_of_values),
      cmocka_unit_test(crop_offsets_of_each_reference),
      cmocka_unit_test(goldens_of_every_option),
      cmocka_unit_test(decoded_files_to_rgb),
      cmocka_unit_test(exif_is_applied_when_asked),
      cmocka_unit_test(a_colour_of_three_pads_in_rgb),
      cmocka_unit_test(refusals),
      cmocka_unit_test(thin_pictures_cost_no_more_than_the_crop),
      cmocka_unit_test(no_memory_at_any_point),
      cmocka_unit_test(random_options),
      cmocka_unit_test(files_by_rows_and_as_a_whole),
      cmocka_unit_test(a_photograph_by_rows),
      cmocka_unit_test(no_memory_at_any_point_by_rows),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
