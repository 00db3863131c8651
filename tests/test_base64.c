/* Base64: vectors of Python's base64 module, both alphabets, white space, padding, data: URIs, and what is refused. */
#include "testing.h"

#include "image/base64.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static clipc_status decode(struct clipc__bytes *out, const char *text, clipc_error *error) {
  return clipc__base64_decode(out, text, strlen(text), UINT64_MAX, error);
}

static void assert_decodes(const char *text, const char *bytes, size_t n) {
  struct clipc__bytes out = {{0}, NULL, 0, 0};
  clipc_error error = {CLIPC_OK, ""};
  assert_int_equal(decode(&out, text, &error), CLIPC_OK);
  assert_int_equal(out.n_bytes, n);
  if (n > 0) assert_memory_equal(out.data, bytes, n);
  clipc__bytes_free(&out);
}

static void assert_refused(const char *text, clipc_status status, const char *words) {
  struct clipc__bytes out = {{0}, NULL, 0, 0};
  clipc_error error = {CLIPC_OK, ""};
  assert_int_equal(decode(&out, text, &error), status);
  assert_int_equal(error.status, status);
  assert_non_null(strstr(error.message, words));
  assert_int_equal(out.n_bytes, 0);
  clipc__bytes_free(&out);
}

static void test_vectors(void **state) { /* base64.b64encode, base64.urlsafe_b64encode */
  (void)state;
  assert_decodes("", "", 0);
  assert_decodes("pQ==", "\xa5", 1);
  assert_decodes("Tco=", "\x4d\xca", 2);
  assert_decodes("GCUw", "\x18\x25\x30", 3);
  assert_decodes("ux1tEw==", "\xbb\x1d\x6d\x13", 4);
  assert_decodes("LN7WI3s=", "\x2c\xde\xd6\x23\x7b", 5);
  assert_decodes("LtkeP3IfyxlxF0SU1kk8nQ==", "\x2e\xd9\x1e\x3f\x72\x1f\xcb\x19\x71\x17\x44\x94\xd6\x49\x3c\x9d", 16);
  static const char long_one[] = "\x5c\x34\x60\xbe\x31\x20\x1e\x69\xfe\xda\xa0\xee\xe8\xb9\x99\x7f\x5c\x7c\x29\x99\xfd"
                                 "\xaf\xe5\x93\x25\x3c\xd6\x54\xaf\x4d\xfa\xd7\x14";
  assert_decodes("XDRgvjEgHmn+2qDu6LmZf1x8KZn9r+WTJTzWVK9N+tcU", long_one, 33);
  assert_decodes("XDRgvjEgHmn-2qDu6LmZf1x8KZn9r-WTJTzWVK9N-tcU", long_one, 33);
  assert_decodes("+//++u+++/8=", "\xfb\xff\xfe\xfa\xef\xbe\xfb\xff", 8);
  assert_decodes("-__--u---_8=", "\xfb\xff\xfe\xfa\xef\xbe\xfb\xff", 8);
}

static void test_white_space_and_padding(void **state) {
  (void)state;
  assert_decodes("  G C\tU\r\nw\v\f", "\x18\x25\x30", 3);
  assert_decodes("ux1t\r\nEw==\r\n", "\xbb\x1d\x6d\x13", 4);
  assert_decodes("ux1tEw = \n =", "\xbb\x1d\x6d\x13", 4);
  assert_decodes("ux1tEw", "\xbb\x1d\x6d\x13", 4); /* no padding at all */
  assert_decodes("LN7WI3s", "\x2c\xde\xd6\x23\x7b", 5);
  assert_decodes(" \n", "", 0);
}

static void test_data_uris(void **state) {
  (void)state;
  assert_decodes("data:image/png;base64,GCUw", "\x18\x25\x30", 3);
  assert_decodes("data:;base64,GCUw", "\x18\x25\x30", 3);
  assert_decodes(" \nDATA:image/png;charset=utf-8;BASE64,GC Uw\n", "\x18\x25\x30", 3);
  assert_decodes("data:image/jpeg;base64,pQ%3D%3d", "\xa5", 1);
  assert_decodes("data:image/jpeg;base64,%2B//%2b%2Bu+++%2F8=", "\xfb\xff\xfe\xfa\xef\xbe\xfb\xff", 8);
  assert_decodes("data:image/jpeg;base64,", "", 0);
  assert_refused("data:image/png,GCUw", CLIPC_E_UNSUPPORTED, "data URI");
  assert_refused("data:,GCUw", CLIPC_E_UNSUPPORTED, "base64");
  assert_refused("data:image/png;base64 ,GCUw", CLIPC_E_UNSUPPORTED, "base64");
  assert_refused("data:image/png;base64", CLIPC_E_FORMAT, "comma");
  assert_refused("data:image/png;base64,GC%4", CLIPC_E_FORMAT, "byte 24");
  assert_refused("data:image/png;base64,GC%zzUw", CLIPC_E_FORMAT, "0x25");
  assert_refused("GCU%77", CLIPC_E_FORMAT, "byte 3"); /* escapes belong to URIs */
  assert_refused("xdata:image/png;base64,GCUw", CLIPC_E_FORMAT, "byte 5");
}

static void test_refused(void **state) {
  (void)state;
  assert_refused("G", CLIPC_E_FORMAT, "cut off");
  assert_refused("GCUwG", CLIPC_E_FORMAT, "cut off");
  assert_refused("pR==", CLIPC_E_FORMAT, "bits are left over");
  assert_refused("pR", CLIPC_E_FORMAT, "bits are left over");
  assert_refused("Tcp=", CLIPC_E_FORMAT, "bits are left over");
  assert_refused("pQ=", CLIPC_E_FORMAT, "padding");
  assert_refused("pQ===", CLIPC_E_FORMAT, "byte 4");
  assert_refused("Tco==", CLIPC_E_FORMAT, "byte 4");
  assert_refused("GCUw=", CLIPC_E_FORMAT, "byte 4");
  assert_refused("=", CLIPC_E_FORMAT, "byte 0");
  assert_refused("p=Q=", CLIPC_E_FORMAT, "byte 1");
  assert_refused("pQ=A", CLIPC_E_FORMAT, "byte 3");
  assert_refused("pQ==GCUw", CLIPC_E_FORMAT, "byte 4");
  assert_refused("GCUwGCUwGCUwGCUw!", CLIPC_E_FORMAT, "0x21");
  assert_refused("GCUwGCUwGCUwGC\xC3\xA4w", CLIPC_E_FORMAT, "0xC3");
  struct clipc__bytes out = {{0}, NULL, 0, 0};
  clipc_error error = {CLIPC_OK, ""};
  assert_int_equal(clipc__base64_decode(&out, "GC\0Uw", 5, 100, &error), CLIPC_E_FORMAT); /* a NUL in it */
  clipc__bytes_free(&out);
}

/* Every byte in every place of two groups: digits of an alphabet and white space alone are taken. */
static void test_every_character(void **state) {
  (void)state;
  for (int place = 0; place < 12; place++)
    for (int c = 0; c < 256; c++) {
      char text[13] = "QUJDREVGR0hJ";
      text[place] = (char)c;
      struct clipc__bytes out = {{0}, NULL, 0, 0};
      clipc_status status = clipc__base64_decode(&out, text, 12, 100, NULL);
      bool digit = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '+' || c == '/' ||
                   c == '-' || c == '_';
      bool space = c == ' ' || (c >= '\t' && c <= '\r');
      if (digit) assert_int_equal(status, CLIPC_OK);
      if (!digit && !space && c != '=') assert_int_equal(status, CLIPC_E_FORMAT);
      if (space) /* eleven digits: bits may be left over */
        assert_true(status == CLIPC_OK || status == CLIPC_E_FORMAT);
      if (c == '=') assert_int_equal(status, place == 11 ? CLIPC_E_FORMAT : CLIPC_E_FORMAT);
      clipc__bytes_free(&out);
    }
}

static void test_limit(void **state) {
  (void)state;
  static const char text[] = "LN7WI3s=", spaced[] = "L N 7 W I 3 s = ";
  struct clipc__bytes out = {{0}, NULL, 0, 0};
  clipc_error error = {CLIPC_OK, ""};
  assert_int_equal(clipc__base64_decode(&out, text, 8, 5, &error), CLIPC_OK);
  assert_int_equal(clipc__base64_decode(&out, spaced, 16, 5, &error), CLIPC_OK);
  assert_int_equal(out.n_bytes, 10); /* appended */
  assert_int_equal(clipc__base64_decode(&out, text, 8, 4, &error), CLIPC_E_LIMIT);
  assert_non_null(strstr(error.message, "more than 4 bytes"));
  assert_int_equal(clipc__base64_decode(&out, "data:;base64,LN7WI3s%3D", 23, 4, &error), CLIPC_E_LIMIT);
  assert_int_equal(clipc__base64_decode(&out, "data:;base64,LN7WI3s%3D", 23, 5, &error), CLIPC_OK);
  assert_int_equal(clipc__base64_decode(&out, "", 0, 0, &error), CLIPC_OK);
  assert_int_equal(out.n_bytes, 15);
  clipc__bytes_free(&out);

  struct test_memory memory = {.fail_at = 1};
  struct clipc__bytes failing = {test_allocator(&memory), NULL, 0, 0};
  assert_int_equal(clipc__base64_decode(&failing, text, 8, 5, &error), CLIPC_E_NO_MEMORY);
  memory.fail_at = 0, memory.n_asked = 0;
  char *large = malloc(1 << 20);
  memset(large, 'A', 1 << 20);
  assert_int_equal(clipc__base64_decode(&failing, large, 1 << 20, 1000, &error), CLIPC_E_LIMIT);
  assert_int_equal(memory.n_asked, 0); /* too much is told before memory is taken for it */
  free(large);
  assert_int_equal(memory.n_live, 0);
}

static size_t encode(char *out, const uint8_t *bytes, size_t n, bool url, bool pad) {
  const char *digits = url ? "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
                           : "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  size_t m = 0;
  for (size_t i = 0; i < n; i += 3) {
    uint32_t bits =
        (uint32_t)bytes[i] << 16 | (i + 1 < n ? (uint32_t)bytes[i + 1] << 8 : 0) | (i + 2 < n ? bytes[i + 2] : 0);
    size_t n_digits = n - i >= 3 ? 4 : n - i + 1;
    for (size_t k = 0; k < n_digits; k++) out[m++] = digits[bits >> (18 - 6 * k) & 63];
    for (size_t k = n_digits; pad && k < 4; k++) out[m++] = '=';
  }
  return m;
}

static void test_random(void **state) {
  (void)state;
  random_start(0);
  uint8_t bytes[300];
  char text[1600];
  for (int round = 0; round < 20000; round++) {
    size_t n = random_below(sizeof bytes + 1);
    for (size_t i = 0; i < n; i++) bytes[i] = (uint8_t)random_bits();
    size_t m = encode(text, bytes, n, random_below(2), random_below(2));
    for (uint32_t spaces = random_below(4); spaces > 0 && random_below(2); spaces--) {
      size_t at = random_below((uint32_t)m + 1);
      memmove(text + at + 1, text + at, m++ - at);
      text[at] = "\n\r\t "[random_below(4)];
    }
    char *exact = malloc(m + (m == 0)); /* no byte behind it may be looked at */
    memcpy(exact, text, m);
    struct clipc__bytes out = {{0}, NULL, 0, 0};
    assert_int_equal(clipc__base64_decode(&out, exact, m, n, NULL), CLIPC_OK);
    assert_int_equal(out.n_bytes, n);
    if (n > 0) assert_memory_equal(out.data, bytes, n);
    if (m > 0) exact[random_below((uint32_t)m)] = (char)random_bits();
    clipc__base64_decode(&out, exact, m, sizeof bytes, NULL);
    clipc__bytes_free(&out);
    free(exact);
  }
}

static void test_speed(void **state) {
  (void)state;
  enum { N = 6 << 20 };
  uint8_t *bytes = malloc(N);
  char *text = malloc(N / 3 * 4 + 4);
  for (size_t i = 0; i < N; i++) bytes[i] = (uint8_t)random_bits();
  size_t m = encode(text, bytes, N, false, true);
  double best = 1e9;
  struct clipc__bytes out = {{0}, NULL, 0, 0};
  for (int round = 0; round < 12; round++) {
    struct timespec before, after;
    out.n_bytes = 0;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
    assert_int_equal(clipc__base64_decode(&out, text, m, N, NULL), CLIPC_OK);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
    double seconds = (double)(after.tv_sec - before.tv_sec) + 1e-9 * (double)(after.tv_nsec - before.tv_nsec);
    if (seconds < best) best = seconds;
  }
  assert_memory_equal(out.data, bytes, N);
  printf("base64: %.2f GB/s of text\n", (double)m / best * 1e-9);
  clipc__bytes_free(&out);
  free(bytes), free(text);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_vectors),         cmocka_unit_test(test_white_space_and_padding),
      cmocka_unit_test(test_data_uris),       cmocka_unit_test(test_refused),
      cmocka_unit_test(test_every_character), cmocka_unit_test(test_limit),
      cmocka_unit_test(test_random),          cmocka_unit_test(test_speed),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
