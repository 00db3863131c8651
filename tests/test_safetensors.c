/* Single safetensors files: the reference's verdicts, limits, broken bytes.
 * Golden: tests/goldens/weights/safetensors.tsv (tests/goldens/make_weights.py). */
#include "configs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Reads bytes as a safetensors file; they lie in memory of exactly their size, so that ASan sees every step beyond. */
static clipc_status read_bytes(const uint8_t *bytes, size_t n, uint64_t limit, size_t *n_tensors, clipc_error *error) {
  struct clipc__arena arena = {0};
  uint8_t *copy = malloc(n ? n : 1);
  assert_non_null(copy);
  if (n) memcpy(copy, bytes, n);
  struct clipc__file file = {.data = copy, .n_bytes = n};
  struct clipc__tensor *tensors = NULL;
  size_t found = 0;
  clipc_status status = clipc__safetensors_read(&tensors, &found, &arena, &file, "x.safetensors", limit, error);
  for (size_t i = 0; status == CLIPC_OK && i < found; i++) {
    volatile uint8_t sink;
    for (uint64_t j = 0; j < tensors[i].n_bytes; j++) sink = tensors[i].data[j];
    (void)sink;
    if (i) assert_true(strcmp(tensors[i - 1].name, tensors[i].name) < 0);
  }
  if (n_tensors) *n_tensors = found;
  clipc__arena_free(&arena);
  free(copy);
  return status;
}

static size_t unhex(uint8_t *out, const char *hex) {
  size_t n = 0;
  for (; hex[0] && hex[1]; hex += 2) {
    char two[3] = {hex[0], hex[1], 0};
    out[n++] = (uint8_t)strtoul(two, NULL, 16);
  }
  return n;
}

/* ---- safetensors */

/* The library's verdict on every crafted file, or ours where it is stricter on purpose. */
static void test_safetensors_matrix(void **state) {
  (void)state;
  char *text = test_read_file("tests/goldens/weights/safetensors.tsv", NULL);
  size_t n_cases = 0, n_accepted = 0;
  for (char *line = text, *next; *line; line = next) {
    next = strchr(line, '\n');
    *next++ = 0;
    char *name = line, *theirs = strchr(name, '\t'), *ours = strchr(theirs + 1, '\t'), *hex = strchr(ours + 1, '\t');
    *theirs++ = *ours++ = *hex++ = 0;
    uint8_t *bytes = malloc(strlen(hex) / 2 + 1);
    assert_non_null(bytes);
    size_t n = unhex(bytes, hex);
    clipc_error error = {0};
    clipc_status status = read_bytes(bytes, n, 100000000, NULL, &error);
    bool expected = *ours == '1';
    if ((status == CLIPC_OK) != expected || (status != CLIPC_OK && status != CLIPC_E_FORMAT && status != CLIPC_E_LIMIT))
      fail_msg("%s: expected %s, got %s: %s", name, expected ? "accepted" : "refused", clipc_status_name(status),
               error.message);
    if (!expected) assert_non_null(strstr(error.message, "x.safetensors: "));
    n_cases++;
    n_accepted += expected;
    free(bytes);
  }
  free(text);
  assert_true(n_cases >= 200 && n_accepted >= 60);
}

static void test_safetensors_limits(void **state) {
  (void)state;
  size_t n, n_tensors = 9;
  clipc_error error = {0};
  uint8_t *file = safetensors_pack("{}      ", "", 0, &n);
  assert_int_equal(read_bytes(file, n, 8, &n_tensors, &error), CLIPC_OK);
  assert_int_equal(n_tensors, 0);
  assert_int_equal(read_bytes(file, n, 7, NULL, &error), CLIPC_E_LIMIT);
  free(file);
  /* a header of exactly the reference's limit, and one byte more */
  for (uint64_t extra = 0; extra <= 1; extra++) {
    uint64_t n_header = 100000000 + extra;
    uint8_t *big = malloc(8 + n_header);
    assert_non_null(big);
    memset(big, ' ', 8 + n_header);
    memcpy(big, &n_header, 8);
    memcpy(big + 8, "{}", 2);
    struct clipc__file whole = {.data = big, .n_bytes = 8 + n_header};
    struct clipc__arena arena = {0};
    struct clipc__tensor *tensors;
    clipc_status status = clipc__safetensors_read(&tensors, &n, &arena, &whole, "x", 100000000, &error);
    assert_int_equal(status, extra ? CLIPC_E_LIMIT : CLIPC_OK);
    clipc__arena_free(&arena);
    free(big);
  }
}

/* Every truncation and many mutations of a rich header: a verdict each time, no step outside the file. */
static void test_broken_bytes(void **state) {
  (void)state;
  random_start(20240607);
  static const char header[] =
      " {\"__metadata__\":{\"format\":\"pt\",\"\\u0041\":\"\\ud83d\\ude00\"},\"a\":{\"dtype\":\"F32\",\"shape\":[1,1],"
      "\"data_offsets\":[0,4]},"
      "\"b\\n\":{\"shape\":[2,2],\"dtype\":\"BF16\",\"x\":[{\"y\":-1.5e3},[]],\"data_offsets\":[4,12]},"
      "\"z\":{\"dtype\":\"I64\",\"shape\":[0,7],\"data_offsets\":[12,12]},\"f\":{\"data_offsets\":[12,13],\"dtype\":"
      "\"F4\",\"shape\":[2]}} ";
  size_t n, n_ok = 0;
  uint8_t *file = safetensors_pack(header, "0123456789abc", 13, &n);
  assert_int_equal(read_bytes(file, n, 1000, NULL, NULL), CLIPC_OK);
  for (size_t i = 0; i < n; i++) assert_int_equal(read_bytes(file, i, 1000, NULL, NULL), CLIPC_E_FORMAT);
  uint8_t *mutant = malloc(n);
  assert_non_null(mutant);
  static const char alphabet[] = "{}[]\",:\\0123456789eE+-.uabtf \n\x80\xff";
  for (int round = 0; round < 60000; round++) {
    memcpy(mutant, file, n);
    for (uint32_t k = 1 + random_below(3); k > 0; k--) {
      size_t at = random_below(n), from = random_below(n), length = random_below(12);
      uint32_t kind = random_below(3);
      if (kind == 0)
        mutant[at] = (uint8_t)alphabet[random_below(sizeof alphabet - 1)];
      else if (kind == 1)
        mutant[at] ^= (uint8_t)(1u << random_below(8));
      else if (at + length <= n && from + length <= n)
        memmove(mutant + at, mutant + from, length);
    }
    clipc_error error = {0};
    clipc_status status = read_bytes(mutant, n, 1000, NULL, &error);
    assert_true(status == CLIPC_OK || status == CLIPC_E_FORMAT || status == CLIPC_E_LIMIT);
    assert_int_equal(error.status, status);
    n_ok += status == CLIPC_OK;
  }
  assert_true(n_ok > 0 && n_ok < 30000);
  free(mutant);
  free(file);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_safetensors_matrix),
      cmocka_unit_test(test_safetensors_limits),
      cmocka_unit_test(test_broken_bytes),
  };
  return cmocka_run_group_tests_name("safetensors", tests, NULL, NULL);
}
