/* The strict JSON scanner. */
#include "testing.h"

#include "base/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- JSON */

static void test_json_strings(void **state) {
  (void)state;
  static const struct {
    const char *in, *out;
  } cases[] = {{"\"\"", ""},
               {" \n\"a\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "a\"\\/\b\f\n\r\t"},
               {"\"\\u00e9\\u4E2D\\ud83d\\ude00\"", "\xC3\xA9\xE4\xB8\xAD\xF0\x9F\x98\x80"},
               {"\"\\ud800\"", NULL},
               {"\"\\ud800\\u0041\"", NULL},
               {"\"\\udc00\"", NULL},
               {"\"\\u12g4\"", NULL},
               {"\"\\x41\"", NULL},
               {"\"a", NULL},
               {"\"a\\", NULL},
               {"\"a\tb\"", NULL},
               {"a", NULL},
               {"", NULL}};
  for (size_t i = 0; i < COUNT(cases); i++) {
    struct clipc__json json = {.data = (const uint8_t *)cases[i].in, .n_bytes = strlen(cases[i].in)};
    bool ok = clipc__json_string(&json) && clipc__json_end(&json);
    assert_int_equal(ok, cases[i].out != NULL);
    if (ok)
      assert_true(clipc__json_text_is(&json, cases[i].out));
    else
      assert_non_null(json.trouble);
    clipc__bytes_free(&json.text);
  }
}

static void test_json_numbers(void **state) {
  (void)state;
  static const struct {
    const char *in;
    bool ok;
    uint64_t value;
  } cases[] = {{"0", true, 0},
               {" 7 ", true, 7},
               {"18446744073709551615", true, UINT64_MAX},
               {"18446744073709551616", false, 0},
               {"99999999999999999999", false, 0},
               {"01", false, 0},
               {"00", false, 0},
               {"-1", false, 0},
               {"-0", false, 0},
               {"+1", false, 0},
               {"1.0", false, 0},
               {"1e0", false, 0},
               {"1E0", false, 0},
               {"", false, 0},
               {"x", false, 0},
               {"1x", false, 0}};
  for (size_t i = 0; i < COUNT(cases); i++) {
    struct clipc__json json = {.data = (const uint8_t *)cases[i].in, .n_bytes = strlen(cases[i].in)};
    uint64_t value = 0;
    bool ok = clipc__json_u64(&json, &value);
    if (ok && strpbrk(cases[i].in, ".eE")) fail_msg("%s is no integer", cases[i].in);
    ok = ok && clipc__json_end(&json);
    assert_int_equal(ok, cases[i].ok);
    assert_int_equal(ok ? value : 0, cases[i].value);
  }
}

static bool skips(const char *text, size_t depth) {
  struct clipc__json json = {.data = (const uint8_t *)text, .n_bytes = strlen(text)};
  bool ok = clipc__json_skip(&json, depth) && clipc__json_end(&json);
  clipc__bytes_free(&json.text);
  return ok;
}

static void test_json_skip(void **state) {
  (void)state;
  static const char *const good[] = {"0",
                                     "-0",
                                     "-1.5e+10",
                                     "1E-2",
                                     "true",
                                     "false",
                                     "null",
                                     "\"x\"",
                                     "[]",
                                     "{}",
                                     "[1,[2,{}],{\"a\":[]}]",
                                     "{\"a\":1,\"b\":{\"c\":[null]}}",
                                     " [ ] "};
  static const char *const bad[] = {
      "",     "01",    "-",       "1.",       ".5",    "1e",           "1e+", "tru", "nan", "[1,]",
      "[,1]", "[1 2]", "{\"a\"}", "{\"a\":}", "{a:1}", "{\"a\":1,}",   "[",   "{",   "]",   "[}",
      "{]",   "1 1",   "[1]]",    "'a'",      "{1:2}", "[\"\\ud800\"]"};
  for (size_t i = 0; i < COUNT(good); i++) assert_true(skips(good[i], 0));
  for (size_t i = 0; i < COUNT(bad); i++) assert_false(skips(bad[i], 0));
  char deep[300];
  for (size_t n = 126; n <= 128; n++) {
    memset(deep, '[', n);
    memset(deep + n, ']', n);
    deep[2 * n] = 0;
    assert_int_equal(skips(deep, 0), n <= 127);
    assert_int_equal(skips(deep, 1), n <= 126);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_json_strings),
      cmocka_unit_test(test_json_numbers),
      cmocka_unit_test(test_json_skip),
  };
  return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
