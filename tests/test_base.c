/* The base room: sentences, memory, files, UTF-8. */
#include "base/base.h"
#include "testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const clipc_allocator by_malloc;

static void sentences_fit_and_stay_clean(void **state) {
  (void)state;
  clipc_error error = {CLIPC_OK, "as it was"};
  assert_int_equal(clipc__fail(NULL, CLIPC_E_IO, "%s", "nobody listens"), CLIPC_E_IO);
  assert_int_equal(clipc__fail(&error, CLIPC_E_MODEL, "%s: no tensor %d", "file", 7), CLIPC_E_MODEL);
  assert_int_equal(error.status, CLIPC_E_MODEL);
  assert_string_equal(error.message, "file: no tensor 7");
  clipc__fail(&error, CLIPC_E_FORMAT,
              "a\x1b[31mb\n\xff"
              "c\xc3\xa9");
  assert_string_equal(error.message, "a?[31mb??c\xc3\xa9");
  char longest[3000];
  memset(longest, 'x', sizeof longest - 1);
  longest[sizeof longest - 1] = '\0';
  memcpy(longest, "/begin", 6);
  for (size_t cut = 200; cut < 900; cut++) { /* every way a two-byte character may be cut */
    char path[1000];
    for (size_t i = 0; i + 1 < cut; i += 2) memcpy(path + i, "\xc3\xa9", 2);
    path[cut & ~(size_t)1] = '\0';
    clipc__fail(&error, CLIPC_E_IO, "/%s: the end", path);
    assert_true(strlen(error.message) <= 255);
    assert_true(clipc__utf8_valid((const uint8_t *)error.message, strlen(error.message)));
    assert_non_null(strstr(error.message, ": the end"));
  }
  clipc__fail(&error, CLIPC_E_IO, "%s", longest);
  assert_true(strlen(error.message) <= 255 && strncmp(error.message, "/begin", 6) == 0);
}

static void statuses_are_pinned(void **state) {
  (void)state;
  static const char *const names[] = {"CLIPC_OK",
                                      "CLIPC_E_INVALID",
                                      "CLIPC_E_IO",
                                      "CLIPC_E_FORMAT",
                                      "CLIPC_E_UNSUPPORTED",
                                      "CLIPC_E_LIMIT",
                                      "CLIPC_E_NO_MEMORY",
                                      "CLIPC_E_MODEL",
                                      "CLIPC_E_NETWORK",
                                      "CLIPC_E_DENIED",
                                      "CLIPC_E_CANCELLED",
                                      "CLIPC_E_TIMED_OUT",
                                      "CLIPC_E_QUEUE_FULL",
                                      "CLIPC_E_NO_WORKERS",
                                      "CLIPC_E_SPAWN_FAILED",
                                      "CLIPC_E_MEMORY_BUDGET",
                                      "CLIPC_E_RUNTIME_UNAVAILABLE",
                                      "CLIPC_E_WOULD_DEADLOCK",
                                      "CLIPC_E_SHUTTING_DOWN"};
  for (int i = 0; i < (int)COUNT(names); i++) assert_string_equal(clipc_status_name((clipc_status)i), names[i]);
  assert_string_equal(clipc_status_name((clipc_status)99), "CLIPC_E_UNKNOWN");
}

static void memory_is_aligned_and_checked(void **state) {
  (void)state;
  for (size_t n = 0; n < 300; n += 7) {
    char *memory = clipc__alloc(&by_malloc, n, 3);
    assert_non_null(memory);
    assert_int_equal((uintptr_t)memory % 64, 0);
    memset(memory, 1, 3 * n);
    clipc__free(&by_malloc, memory);
  }
  assert_null(clipc__alloc(&by_malloc, SIZE_MAX / 2, 3));
  assert_null(clipc__alloc(&by_malloc, SIZE_MAX - 10, 1));
  clipc__free(&by_malloc, NULL);

  struct clipc__arena arena = {.allocator = by_malloc};
  for (size_t n = 1; n < 200000; n = n * 3 + 1) {
    unsigned char *piece = clipc__arena_take(&arena, n, 1);
    assert_non_null(piece);
    assert_int_equal((uintptr_t)piece % 64, 0);
    for (size_t i = 0; i < n; i++) assert_int_equal(piece[i], 0);
    memset(piece, 0xAA, n);
  }
  assert_null(clipc__arena_take(&arena, SIZE_MAX - 5, 1));
  assert_null(clipc__arena_take(&arena, SIZE_MAX / 4, 8));
  assert_string_equal(clipc__arena_string(&arena, "abcdef", 3), "abc");
  clipc__arena_free(&arena);

  struct clipc__bytes bytes = {.allocator = by_malloc};
  for (int i = 0; i < 1000; i++) assert_true(clipc__bytes_append(&bytes, "0123456789", 10));
  assert_int_equal(bytes.n_bytes, 10000);
  assert_memory_equal(bytes.data + 9990, "0123456789", 10);
  assert_false(clipc__bytes_reserve(&bytes, SIZE_MAX - 100));
  assert_int_equal(bytes.n_bytes, 10000);
  clipc__bytes_free(&bytes);
}

static void files_are_mapped_or_read(void **state) {
  (void)state;
  char *path = clipc__path_join(&by_malloc, test_folder, "file");
  test_folder_put_text("file", "twelve bytes");
  struct clipc__file file;
  clipc_error error = {CLIPC_OK, ""};
  for (int map = 0; map < 2; map++) {
    assert_int_equal(clipc__file_open(&file, path, map, 12, &by_malloc, &error), CLIPC_OK);
    assert_int_equal(file.n_bytes, 12);
    assert_memory_equal(file.data, "twelve bytes", 12);
    clipc__file_close(&file);
    clipc__file_close(&file);
    assert_int_equal(clipc__file_open(&file, path, map, 11, &by_malloc, &error), CLIPC_E_LIMIT);
    assert_non_null(strstr(error.message, "12 bytes are more than the limit of 11"));
    assert_int_equal(clipc__file_open(&file, test_folder, map, 100, &by_malloc, &error), CLIPC_E_IO);
    assert_non_null(strstr(error.message, "is a folder"));
    assert_int_equal(clipc__file_open(&file, "/dev/zero", map, 100, &by_malloc, &error), CLIPC_E_IO);
    assert_int_equal(clipc__file_open(&file, "/nowhere/at/all", map, 100, &by_malloc, &error), CLIPC_E_IO);
    assert_non_null(strstr(error.message, "/nowhere/at/all"));
    assert_null(file.data);
  }
  assert_int_equal(truncate(path, 0), 0);
  for (int map = 0; map < 2; map++) {
    assert_int_equal(clipc__file_open(&file, path, map, 100, &by_malloc, &error), CLIPC_OK);
    assert_int_equal(file.n_bytes, 0);
    assert_non_null(file.data);
    clipc__file_close(&file);
  }
  assert_true(clipc__is_folder(test_folder) && !clipc__is_folder(path) && clipc__is_file(path) &&
              !clipc__is_file(test_folder));
  clipc__free(&by_malloc, path);
}

/* Maximal subparts, as Python's bytes.decode("utf-8", "replace"): the number of U+FFFD of each ill-formed string. */
static void ill_formed_utf8_follows_the_rule(void **state) {
  (void)state;
  static const struct {
    const char *bytes;
    size_t n;
    const char *reads;
  } cases[] = {
      {"a\xC3\xA9z", 4, "a\xC3\xA9z"},
      {"\xF0\x9F\x98\x80", 4, "\xF0\x9F\x98\x80"},
      {"\x80", 1, "\xEF\xBF\xBD"},
      {"\xC0\xAF", 2, "\xEF\xBF\xBD\xEF\xBF\xBD"},
      {"\xE0\x80\xAF", 3, "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
      {"\xED\xA0\x80", 3, "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
      {"\xF4\x90\x80\x80", 4, "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
      {"\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", 9,
       "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"
       "A"},
      {"\xE2\x82", 2, "\xEF\xBF\xBD"},
      {"\xF5\x80", 2, "\xEF\xBF\xBD\xEF\xBF\xBD"},
  };
  for (size_t c = 0; c < COUNT(cases); c++) {
    uint8_t out[64];
    size_t n_out = 0;
    bool all_valid = true;
    for (size_t i = 0; i < cases[c].n;) {
      uint32_t code_point;
      bool valid;
      i += clipc__utf8_read(&code_point, (const uint8_t *)cases[c].bytes + i, cases[c].n - i, &valid);
      n_out += clipc__utf8_write(out + n_out, code_point);
      all_valid = all_valid && valid;
    }
    assert_int_equal(n_out, strlen(cases[c].reads));
    assert_memory_equal(out, cases[c].reads, n_out);
    assert_int_equal(all_valid, clipc__utf8_valid((const uint8_t *)cases[c].bytes, cases[c].n));
    assert_int_equal(all_valid, c < 2);
  }
  for (uint32_t code_point = 0; code_point < 0x110000; code_point++) { /* every scalar value goes there and back */
    if (code_point >= 0xD800 && code_point < 0xE000) continue;
    uint8_t bytes[4];
    uint32_t again;
    bool valid;
    size_t n = clipc__utf8_write(bytes, code_point);
    assert_true(clipc__utf8_read(&again, bytes, n, &valid) == n && valid && again == code_point);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(sentences_fit_and_stay_clean),     cmocka_unit_test(statuses_are_pinned),
      cmocka_unit_test(memory_is_aligned_and_checked),    cmocka_unit_test(files_are_mapped_or_read),
      cmocka_unit_test(ill_formed_utf8_follows_the_rule),
  };
  return cmocka_run_group_tests(tests, test_folder_make, test_folder_remove);
}
