/* Every variant of the kernels of pictures that this CPU has, against the plain C: random data from a printed seed
 * (CLIPC_SEED), odd sizes, unaligned pointers, and guard bytes around what may be written. What may be read lies in
 * a block of exactly that size, so that a sanitizer sees every byte read beyond it. Plain C itself is held against
 * the references by test_resize and test_decode. It stands alone, so that it also runs on an emulated CPU. */
#include "kernels/pixels.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static uint64_t random_state;

static uint32_t random_below(uint32_t n) { /* 0 .. n - 1 */
  random_state = random_state * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)((random_state >> 33) % n);
}

__attribute__((format(printf, 1, 2), noreturn)) static void fail(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vprintf(format, arguments);
  va_end(arguments);
  puts(" FAILED");
  exit(1);
}

static void *get(size_t n_bytes) {
  void *memory = malloc(n_bytes);
  if (memory == NULL) fail("no memory");
  return memory;
}

static struct clipc__pixel_kernels plain, tried;

enum { GUARD = 64, GUARD_BYTE = 0xA5 };

/* An output at an odd address between guards. */
struct output {
  uint8_t *block, *at;
  size_t n_bytes;
};

static struct output output_make(size_t n_bytes) {
  size_t shift = random_below(32);
  struct output output = {get(n_bytes + 2 * GUARD + 32), NULL, n_bytes};
  memset(output.block, GUARD_BYTE, n_bytes + 2 * GUARD + 32);
  output.at = output.block + GUARD + shift;
  return output;
}

static void output_check(const struct output *expected, const struct output *given, const char *name) {
  if (memcmp(expected->at, given->at, given->n_bytes) != 0) {
    size_t i = 0;
    while (expected->at[i] == given->at[i]) i++;
    fail("%s: byte %zu of %zu is %d, not %d", name, i, given->n_bytes, given->at[i], expected->at[i]);
  }
  for (int i = 1; i <= GUARD; i++)
    if (given->at[-i] != GUARD_BYTE || given->at[given->n_bytes + (size_t)i - 1] != GUARD_BYTE)
      fail("%s wrote beyond its output", name);
}

static void output_free(struct output *expected, struct output *given) {
  free(expected->block);
  free(given->block);
}

/* An input of exactly n bytes at an address of any alignment. */
struct input {
  uint8_t *block, *at;
};

static struct input input_make(size_t n_bytes) {
  size_t shift = random_below(32);
  struct input input = {get(n_bytes + shift), NULL};
  input.at = input.block + shift;
  uint32_t kind = random_below(4); /* noise, extremes, a level, noise */
  for (size_t i = 0; i < n_bytes; i++)
    input.at[i] = (uint8_t)(kind == 1 ? (random_below(2) ? 255 : 0) : kind == 2 ? 255 : random_below(256));
  return input;
}

/* ---- resizing */

struct weights {
  struct clipc__taps taps;
  int32_t *first;
  int16_t *low;
};

/* Weights as a resize has them: by fours where the axis is long enough, zeros behind them. */
static struct weights weights_make(size_t n, size_t n_in, size_t most, bool wide) {
  size_t n_row = (most + 3) / 4 * 4;
  struct weights made = {.first = get(2 * n * sizeof(int32_t)), .low = get(2 * n * n_row * sizeof(int16_t))};
  memset(made.low, 0, 2 * n * n_row * sizeof(int16_t));
  int32_t *count = made.first + n;
  int16_t *high = made.low + n * n_row;
  for (size_t i = 0; i < n; i++) {
    size_t taken = 1 + random_below((uint32_t)(most < n_in ? most : n_in));
    taken = (taken + 3) / 4 * 4 <= n_in ? (taken + 3) / 4 * 4 : n_in < 4 ? taken : n_in / 4 * 4;
    count[i] = (int32_t)taken;
    made.first[i] = (int32_t)random_below((uint32_t)(n_in - taken + 1));
    if (random_below(4) == 0) made.first[i] = (int32_t)(n_in - taken);
    for (size_t t = 0; t < taken; t++) {
      made.low[i * n_row + t] = (int16_t)(random_below(65536) - 32768);
      high[i * n_row + t] = (int16_t)(random_below(512) - 256);
    }
  }
  made.taps = (struct clipc__taps){
      n, n_in, n_row, made.first, count, made.low, wide ? high : NULL, wide ? 22 : (int)random_below(23)};
  return made;
}

static void weights_free(struct weights *weights) {
  free(weights->first);
  free(weights->low);
}

static void resize_across(void) {
  for (int round = 0; round < 1500; round++) {
    size_t n = 1 + random_below(40), n_in = 1 + random_below(round % 4 ? 90 : 9), n_rows = 1 + random_below(9);
    int n_bands = 1 + (int)random_below(4);
    struct weights weights = weights_make(n, n_in, 1 + random_below(60), round % 2);
    size_t in_stride = n_in * (size_t)n_bands + random_below(9), out_stride = n * (size_t)n_bands + random_below(9);
    size_t n_out_bytes = (n_rows - 1) * out_stride + n * (size_t)n_bands;
    struct input in = input_make((n_rows - 1) * in_stride + n_in * (size_t)n_bands);
    struct output expected = output_make(n_out_bytes), given = output_make(n_out_bytes);
    plain.resize_across(expected.at, out_stride, in.at, in_stride, n_rows, n_bands, &weights.taps);
    tried.resize_across(given.at, out_stride, in.at, in_stride, n_rows, n_bands, &weights.taps);
    output_check(&expected, &given, "resize_across");
    output_free(&expected, &given);
    free(in.block);
    weights_free(&weights);
  }
}

static void resize_down(void) {
  for (int round = 0; round < 1500; round++) {
    size_t n = 1 + random_below(4), n_in = 1 + random_below(70), n_samples = 1 + random_below(200);
    struct weights weights = weights_make(n, n_in, 1 + random_below(60), round % 2);
    size_t in_stride = n_samples + random_below(9), i = random_below((uint32_t)n);
    struct input in = input_make((n_in - 1) * in_stride + n_samples);
    struct output expected = output_make(n_samples), given = output_make(n_samples);
    plain.resize_down(expected.at, in.at, in_stride, n_samples, &weights.taps, i);
    tried.resize_down(given.at, in.at, in_stride, n_samples, &weights.taps, i);
    output_check(&expected, &given, "resize_down");
    output_free(&expected, &given);
    free(in.block);
    weights_free(&weights);
  }
}

/* ---- JPEG */

/* A block as files have it, or with coefficients beyond reason. */
static void random_block(int16_t block[64]) {
  uint32_t kind = random_below(6), n = kind == 0 ? 1 : kind == 1 ? 8 : 64;
  memset(block, 0, 64 * sizeof *block);
  for (uint32_t i = 0; i < n; i++) {
    if (kind >= 4)
      block[i] = (int16_t)random_below(65536);
    else if (random_below(3) == 0)
      block[i] = (int16_t)((int)random_below(2048) - 1024) >> random_below(8);
  }
  if (random_below(8) == 0) block[0] = (int16_t)random_below(65536);
}

static void inverse_dct(void) {
  for (int round = 0; round < 4000; round++) {
    size_t n = 1 + random_below(7), stride = 8 * n + random_below(9), n_bytes = 7 * stride + 8 * n;
    int16_t *blocks = get(n * 64 * sizeof *blocks);
    for (size_t i = 0; i < n; i++) random_block(blocks + 64 * i);
    struct output expected = output_make(n_bytes), given = output_make(n_bytes);
    plain.idct(expected.at, stride, blocks, n);
    tried.idct(given.at, stride, blocks, n);
    output_check(&expected, &given, "idct");
    output_free(&expected, &given);
    free(blocks);
  }
}

static void upsampling(void) {
  for (size_t n = 1; n < 400; n++) {
    struct input near = input_make(n), far = input_make(n);
    struct output expected = output_make(2 * n), given = output_make(2 * n);
    plain.upsample_h2(expected.at, near.at, n);
    tried.upsample_h2(given.at, near.at, n);
    output_check(&expected, &given, "upsample_h2");
    plain.upsample_h2v2(expected.at, near.at, far.at, n);
    tried.upsample_h2v2(given.at, near.at, far.at, n);
    output_check(&expected, &given, "upsample_h2v2");
    output_free(&expected, &given);
    free(near.block);
    free(far.block);
  }
}

static void colours_of_any_length(void) {
  for (size_t n = 1; n < 400; n++) {
    struct input y = input_make(n), cb = input_make(n), cr = input_make(n);
    struct output expected = output_make(3 * n), given = output_make(3 * n);
    plain.ycc_to_rgb(expected.at, y.at, cb.at, cr.at, n);
    tried.ycc_to_rgb(given.at, y.at, cb.at, cr.at, n);
    output_check(&expected, &given, "ycc_to_rgb");
    output_free(&expected, &given);
    free(y.block);
    free(cb.block);
    free(cr.block);
  }
}

/* All 2^24, so that rounding by other factors is proved; the plain C against libjpeg's tables, in its own words. */
static void every_colour(void) {
  static uint8_t y[256], cb[256], cr[256], expected[768], given[768];
  for (int i = 0; i < 256; i++) y[i] = (uint8_t)i;
  for (int c = 0; c < 65536; c++) {
    memset(cb, c & 255, sizeof cb);
    memset(cr, c >> 8, sizeof cr);
    plain.ycc_to_rgb(expected, y, cb, cr, 256);
    tried.ycc_to_rgb(given, y, cb, cr, 256);
    if (memcmp(expected, given, sizeof given) != 0) fail("cb %d, cr %d", c & 255, c >> 8);
    int blue = (c & 255) - 128, red = (c >> 8) - 128, luma = c * 7 & 255;
    int rgb[3] = {luma + ((91881 * red + 32768) >> 16), luma + ((-22554 * blue - 46802 * red + 32768) >> 16),
                  luma + ((116130 * blue + 32768) >> 16)};
    for (int band = 0; band < 3; band++) {
      int level = rgb[band] < 0 ? 0 : rgb[band] > 255 ? 255 : rgb[band];
      if (expected[3 * luma + band] != level) fail("y %d, cb %d, cr %d", luma, c & 255, c >> 8);
    }
  }
}

int main(void) {
  static const struct {
    unsigned bit;
    const char *name;
  } rungs[] = {{0, "plain C"}, {CLIPC__CPU_AVX2, "AVX2"}, {CLIPC__CPU_NEON, "NEON"}};
  static void (*const tests[])(void) = {resize_across, resize_down,           inverse_dct,
                                        upsampling,    colours_of_any_length, every_colour};
  const char *seed = getenv("CLIPC_SEED");
  random_state = seed ? strtoull(seed, NULL, 0) : (uint64_t)time(NULL);
  printf("CLIPC_SEED=%llu\n", (unsigned long long)random_state);
  clipc__pixel_kernels_init(&plain, 0);
  for (size_t i = 0; i < sizeof rungs / sizeof *rungs; i++) {
    if (rungs[i].bit != 0 && !(clipc__cpu_mask() & rungs[i].bit)) continue;
    printf("%s:", rungs[i].name);
    fflush(stdout);
    clipc__pixel_kernels_init(&tried, rungs[i].bit);
    for (size_t t = 0; t < sizeof tests / sizeof *tests; t++) tests[t]();
    puts(" OK");
  }
  return 0;
}
