/* Decoding against Pillow, by plain C and by all that the CPU has: every file of tests/goldens/decode (see
 * make_decode.py) must give the mode, size, pixels, conversions and orientation of its line in MANIFEST.txt, or the
 * refusal that stands there. Then: limits, sentences, failing allocations, and files cut and changed at random
 * (CLIPC_SEED). */
#include "pictures.h"
#include "testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GOLDENS "tests/goldens/decode/"

static const clipc_limits default_limits = {.max_image_bytes = 256u << 20, .max_image_pixels = 178956970};

static uint8_t *read_picture(const char *name, size_t *n_bytes) {
  char path[256];
  snprintf(path, sizeof path, GOLDENS "%s", name);
  return test_read_file(path, n_bytes);
}

static clipc_status decode_golden_by(struct clipc__picture *out, const char *name, const clipc_limits *limits,
                                     unsigned cpu, struct test_memory *memory, clipc_error *error) {
  const clipc_allocator allocator = test_allocator(memory);
  size_t n;
  uint8_t *bytes = read_picture(name, &n);
  const struct clipc__source source = {bytes, n, name, limits, cpu, &allocator, error, NULL};
  clipc_status status = clipc__source_decode(out, &source);
  free(bytes);
  return status;
}

static clipc_status decode_golden(struct clipc__picture *out, const char *name, const clipc_limits *limits,
                                  struct test_memory *memory, clipc_error *error) {
  return decode_golden_by(out, name, limits, clipc__cpu_mask(), memory, error);
}

/* ---- the manifest */

struct golden {
  char name[64], status[32], mode[8], crc_data[16], crc_rgb[16], crc_white[16];
  int width, height, orientation;
};

/* Reads the next line; false at the end. */
static bool read_golden(FILE *manifest, struct golden *golden) {
  char line[256];
  if (fgets(line, sizeof line, manifest) == NULL) return false;
  memset(golden, 0, sizeof *golden);
  int n =
      sscanf(line, "%63s %31s %7s %d %d %15s %15s %15s %d", golden->name, golden->status, golden->mode, &golden->width,
             &golden->height, golden->crc_data, golden->crc_rgb, golden->crc_white, &golden->orientation);
  assert_true(n >= 2);
  return true;
}

static bool same_crc(const struct clipc__picture *picture, const char *expected) {
  char crc[16];
  snprintf(crc, sizeof crc, "%08x", (unsigned)pictures_crc(picture));
  return strcmp(crc, expected) == 0;
}

static bool check_golden(const struct golden *golden) {
  static const char *const modes[] = {"1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I"};
  struct test_memory memory = {0};
  clipc_error error = {0};
  struct clipc__picture picture;
  bool good = true;
  for (int alpha = CLIPC_ALPHA_WHITE; alpha <= CLIPC_ALPHA_DROP; alpha++) {
    unsigned cpu = alpha == CLIPC_ALPHA_DROP ? clipc__cpu_mask() : 0;
    clipc_status status = decode_golden_by(&picture, golden->name, &default_limits, cpu, &memory, &error);
    if (strcmp(clipc_status_name(status), golden->status) != 0) {
      print_error("%s: %s instead of %s: %s\n", golden->name, clipc_status_name(status), golden->status, error.message);
      return false;
    }
    if (status != CLIPC_OK) {
      assert_null(picture.data);
      assert_int_equal(memory.n_live, 0);
      assert_int_equal(strncmp(error.message, golden->name, strlen(golden->name)), 0);
      return true;
    }
    const char *expected = alpha == CLIPC_ALPHA_DROP ? golden->crc_rgb : golden->crc_white;
    good = good && strcmp(modes[picture.mode], golden->mode) == 0 && picture.width == golden->width &&
           picture.height == golden->height && picture.orientation == golden->orientation;
    good = good && picture.stride_bytes == (size_t)picture.width * clipc__mode_bytes(picture.mode);
    good = good && same_crc(&picture, golden->crc_data);
    assert_int_equal(clipc__picture_to_rgb(&picture, (clipc_alpha)alpha, &error), CLIPC_OK);
    good = good && (expected[0] == '-' || same_crc(&picture, expected));
    clipc__picture_free(&picture);
    assert_int_equal(memory.n_live, 0);
  }
  if (!good) print_error("%s: differs from Pillow\n", golden->name);
  return good;
}

static void test_goldens(void **state) {
  (void)state;
  FILE *manifest = fopen(GOLDENS "MANIFEST.txt", "r");
  assert_non_null(manifest);
  struct golden golden;
  int n = 0, n_bad = 0;
  for (; read_golden(manifest, &golden); n++) n_bad += !check_golden(&golden);
  fclose(manifest);
  print_message("%d files, %d bad\n", n, n_bad);
  assert_true(n > 700);
  assert_int_equal(n_bad, 0);
}

/* ---- limits and sentences */

static const char *const kinds[] = {"jpeg_420.jpg",
                                    "jpeg_420_progressive.jpg",
                                    "jpeg_made_ycck.jpg",
                                    "jpeg_420_restart.jpg",
                                    "png_2_8.png",
                                    "png_0_16_adam7.png",
                                    "png_palette_alpha_8.png",
                                    "gif_8_interlaced.gif",
                                    "gif_part.gif",
                                    "bmp_8_13x9.bmp",
                                    "bmp_rle8.bmp",
                                    "bmp_24_13x9.bmp",
                                    "pnm_1.pbm",
                                    "pnm_3_1000.ppm",
                                    "pnm_5_65535.pgm",
                                    "pnm_6_255.ppm"};
enum { N_KINDS = COUNT(kinds) };

static void test_limits(void **state) {
  (void)state;
  for (int i = 0; i < N_KINDS; i++) {
    struct test_memory memory = {0};
    struct clipc__picture picture;
    clipc_error error = {0};
    assert_int_equal(decode_golden(&picture, kinds[i], &default_limits, &memory, &error), CLIPC_OK);
    uint64_t n_pixels = (uint64_t)picture.width * (uint64_t)picture.height;
    clipc__picture_free(&picture);

    clipc_limits limits = default_limits;
    limits.max_image_pixels = n_pixels;
    assert_int_equal(decode_golden(&picture, kinds[i], &limits, &memory, &error), CLIPC_OK);
    clipc__picture_free(&picture);
    limits.max_image_pixels--;
    assert_int_equal(decode_golden(&picture, kinds[i], &limits, &memory, &error), CLIPC_E_LIMIT);
    assert_int_equal(error.status, CLIPC_E_LIMIT);
    char number[32];
    snprintf(number, sizeof number, "limit of %llu", (unsigned long long)limits.max_image_pixels);
    assert_non_null(strstr(error.message, number));
    assert_null(picture.data);

    limits = default_limits;
    limits.max_image_bytes = 10;
    assert_int_equal(decode_golden(&picture, kinds[i], &limits, &memory, &error), CLIPC_E_LIMIT);
    assert_non_null(strstr(error.message, "bytes are more than the limit of 10"));
    assert_int_equal(memory.n_live, 0);
  }
}

static void test_limits_come_first(void **state) {
  (void)state;
  static const char *const huge[] = {"png_huge.png", "png_huger.png",          "png_too_wide.png", "gif_huge.gif",
                                     "bmp_huge.bmp", "bmp_negative_width.bmp", "pnm_6_huge.ppm",   "pnm_6_huger.ppm"};
  for (size_t i = 0; i < COUNT(huge); i++) {
    struct test_memory memory = {0};
    struct clipc__picture picture;
    assert_int_equal(decode_golden(&picture, huge[i], &default_limits, &memory, NULL), CLIPC_E_LIMIT);
    assert_true(memory.most_bytes == 0);
  }
  /* A stream that inflates to more than the picture needs is not inflated further. */
  struct test_memory memory = {0};
  struct clipc__picture picture;
  assert_int_equal(decode_golden(&picture, "png_long_rows.png", &default_limits, &memory, NULL), CLIPC_OK);
  clipc__picture_free(&picture);
  assert_true(memory.most_bytes < 70000);
}

static void test_sentences(void **state) {
  (void)state;
  static const struct {
    const char *name, *words;
  } cases[] = {
      {"other.webp", "WebP"},
      {"other.avif", "AVIF"},
      {"other.heic", "HEIC"},
      {"other.tiff", "TIFF"},
      {"other_mm.tiff", "TIFF"},
      {"other.ico", "ICO"},
      {"other.jp2", "JPEG 2000"},
      {"other.jxl", "JPEG XL"},
      {"other_box.jxl", "JPEG XL"},
      {"other.psd", "Photoshop"},
      {"other.svg", "SVG"},
      {"other.pdf", "PDF"},
      {"other_empty", "is empty"},
      {"other_text", "no picture in a known format"},
      {"jpeg_made_arithmetic.jpg", "arithmetic"},
      {"jpeg_made_12bit.jpg", "12 bits"},
      {"jpeg_truncated_half.jpg", "JPEG is truncated"},
      {"jpeg_progressive_truncated.jpg", "JPEG is truncated"},
      {"bmp_compression_4.bmp", "compression 4"},
      {"png_huge.png", "60000 x 60000"},
  };
  for (size_t i = 0; i < COUNT(cases); i++) {
    struct test_memory memory = {0};
    struct clipc__picture picture;
    clipc_error error = {0};
    assert_int_not_equal(decode_golden(&picture, cases[i].name, &default_limits, &memory, &error), CLIPC_OK);
    if (strstr(error.message, cases[i].words) == NULL) fail_msg("'%s' lacks '%s'", error.message, cases[i].words);
  }
}

/* ---- trouble */

static void test_failing_allocations(void **state) {
  (void)state;
  for (int i = 0; i < N_KINDS; i++) {
    clipc_status status = CLIPC_E_NO_MEMORY;
    for (size_t n = 1; status != CLIPC_OK; n++) {
      struct test_memory memory = {.fail_at = n, .and_after = 1};
      struct clipc__picture picture;
      clipc_error error = {0};
      status = decode_golden(&picture, kinds[i], &default_limits, &memory, &error);
      if (status != CLIPC_OK) {
        assert_int_equal(status, CLIPC_E_NO_MEMORY);
        assert_int_equal(error.status, CLIPC_E_NO_MEMORY);
        assert_null(picture.data);
      }
      clipc__picture_free(&picture);
      assert_int_equal(memory.n_live, 0);
      assert_true(n < 100);
    }
  }
}

/* Decodes bytes in a block of exactly their size, so that a sanitizer sees every read beyond them. Plain C and the
 * best of the CPU agree about damaged files too. */
static void decode_damaged(const uint8_t *bytes, size_t n, const char *name) {
  struct test_memory memory = {0};
  const clipc_allocator allocator = test_allocator(&memory);
  clipc_limits limits = {.max_image_bytes = 1u << 20, .max_image_pixels = 1u << 16};
  uint8_t *copy = malloc(n > 0 ? n : 1);
  assert_non_null(copy);
  memcpy(copy, bytes, n);
  clipc_status first = CLIPC_OK;
  uint32_t crc = 0;
  for (int best = 0; best < 2; best++) {
    struct clipc__picture picture;
    clipc_error error = {0};
    const struct clipc__source source = {copy,       n,      name, &limits, best ? clipc__cpu_mask() : 0,
                                         &allocator, &error, NULL};
    clipc_status status = clipc__source_decode(&picture, &source);
    if (status == CLIPC_OK)
      assert_true(picture.data != NULL && picture.width > 0 && picture.height > 0);
    else
      assert_true(picture.data == NULL && error.status == status && error.message[0] != '\0');
    uint32_t given = status == CLIPC_OK ? pictures_crc(&picture) : 0;
    if (best && (status != first || given != crc)) fail_msg("%s: plain C and the best kernels differ", name);
    first = status;
    crc = given;
    clipc__picture_free(&picture);
    assert_int_equal(memory.n_live, 0);
  }
  free(copy);
}

static void damage_golden(const char *name) {
  size_t n_whole;
  uint8_t *whole = read_picture(name, &n_whole), *bytes = malloc(n_whole + 1);
  assert_non_null(bytes);
  for (int round = 0; round < 8 && n_whole > 0; round++) {
    size_t n = n_whole;
    memcpy(bytes, whole, n);
    if (round % 2 == 1) n = random_below((uint32_t)n);
    for (uint32_t k = random_below(4); k > 0 && n > 0; k--) {
      /* Half the changes hit the header, where most decisions are made. */
      size_t at = random_below(random_below(2) && n > 64 ? 64 : (uint32_t)n);
      bytes[at] = (uint8_t)random_below(256);
    }
    decode_damaged(bytes, n, name);
  }
  free(bytes);
  free(whole);
}

static void test_damaged_files(void **state) {
  (void)state;
  random_start(1);
  FILE *manifest = fopen(GOLDENS "MANIFEST.txt", "r");
  assert_non_null(manifest);
  struct golden golden;
  while (read_golden(manifest, &golden))
    if (golden.name[0] != '.') damage_golden(golden.name); /* not the photographs */
  fclose(manifest);
}

static void test_every_cut(void **state) {
  (void)state;
  for (int i = 0; i < N_KINDS; i++) {
    size_t n_whole;
    uint8_t *whole = read_picture(kinds[i], &n_whole);
    for (size_t n = 0; n < n_whole && n < 2000; n++) decode_damaged(whole, n, kinds[i]);
    free(whole);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_goldens),
      cmocka_unit_test(test_limits),
      cmocka_unit_test(test_limits_come_first),
      cmocka_unit_test(test_sentences),
      cmocka_unit_test(test_failing_allocations),
      cmocka_unit_test(test_damaged_files),
      cmocka_unit_test(test_every_cut),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
