/* ftfy and html.unescape against the libraries (goldens of make_ftfy.py), long lines, failing memory, random texts. */
#include "text/text.h"

#include "testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FTFY_GOLDENS "tests/goldens/ftfy/"

typedef bool ftfy_function(struct clipc__bytes *out, const uint8_t *text, size_t n_bytes);

/* ---- goldens */

/* Undoes \\, \uXXXX and \UXXXXXXXX in place; returns the length. */
static size_t read_escapes(char *text) {
  char *out = text;
  for (const char *in = text; *in != '\0';) {
    if (*in != '\\') {
      *out++ = *in++;
    } else if (in[1] == '\\') {
      *out++ = '\\';
      in += 2;
    } else {
      size_t n_digits = in[1] == 'u' ? 4 : 8;
      char digits[9] = {0};
      assert_true(in[1] == 'u' || in[1] == 'U');
      memcpy(digits, in + 2, n_digits);
      out += clipc__utf8_write((uint8_t *)out, (uint32_t)strtoul(digits, NULL, 16));
      in += 2 + n_digits;
    }
  }
  return (size_t)(out - text);
}

static bool gives(ftfy_function *function, const char *text, size_t n, const char *expected, size_t n_expected) {
  struct clipc__bytes out = {0};
  assert_true(clipc__bytes_append(&out, "head", 4));
  assert_true(function(&out, (const uint8_t *)text, n));
  assert_true(out.n_bytes >= 4 && memcmp(out.data, "head", 4) == 0);
  bool same = out.n_bytes - 4 == n_expected && memcmp(out.data + 4, expected, n_expected) == 0;
  if (!same)
    print_error("%.*s gives %.*s, not %.*s\n", (int)n, text, (int)out.n_bytes - 4, (const char *)out.data + 4,
                (int)n_expected, expected);
  clipc__bytes_free(&out);
  return same;
}

/* Calls visit for each line of a golden file; returns their number. */
static size_t each_golden(const char *path, void (*visit)(char *input, char *output, void *context), void *context) {
  char *text = test_read_file(path, NULL), *rest = text;
  size_t n_lines = 0;
  while (rest && *rest) {
    char *line = strsep(&rest, "\n"), *tab = strchr(line, '\t');
    if (line[0] == '#' && n_lines == 0) continue;
    assert_non_null(tab);
    *tab = '\0';
    visit(line, tab + 1, context);
    n_lines++;
  }
  free(text);
  return n_lines;
}

struct golden_run {
  ftfy_function *function;
  size_t n_wrong;
};

static void visit_golden(char *input, char *output, void *context) {
  struct golden_run *run = context;
  size_t n_input = read_escapes(input), n_output = read_escapes(output);
  if (!gives(run->function, input, n_input, output, n_output)) run->n_wrong++;
}

static void test_fix_text(void **state) {
  (void)state;
  struct golden_run run = {clipc__ftfy, 0};
  assert_true(each_golden(FTFY_GOLDENS "fix_text.tsv", visit_golden, &run) > 600);
  assert_int_equal(run.n_wrong, 0);
}

static void test_html_unescape(void **state) {
  (void)state;
  struct golden_run run = {clipc__html_unescape, 0};
  assert_true(each_golden(FTFY_GOLDENS "html_unescape.tsv", visit_golden, &run) > 100);
  assert_int_equal(run.n_wrong, 0);
}

/* ---- long texts */

static char *repeat(const char *piece, size_t times, const char *tail) {
  size_t n = strlen(piece);
  char *text = malloc(n * times + strlen(tail) + 1);
  assert_non_null(text);
  for (size_t i = 0; i < times; i++) memcpy(text + i * n, piece, n);
  strcpy(text + n * times, tail);
  return text;
}

/* piece times over and then tail: all of it, and what it is to give. */
static void check_long(const char *piece, size_t times, const char *tail, const char *piece_out, size_t times_out,
                       const char *tail_out) {
  char *text = repeat(piece, times, tail), *expected = repeat(piece_out, times_out, tail_out);
  struct clipc__bytes out = {0};
  assert_true(clipc__ftfy(&out, (const uint8_t *)text, strlen(text)));
  assert_int_equal(out.n_bytes, strlen(expected));
  assert_memory_equal(out.data, expected, out.n_bytes);
  clipc__bytes_free(&out);
  free(text);
  free(expected);
}

/* A line is cut after a million characters, so that what belongs together may end in two pieces. */
static void test_million(void **state) {
  (void)state;
  check_long("a", 999998, "Ã©\n", "a", 999998, "é\n");
  check_long("a", 999999, "Ã©\n", "a", 999999, "Ã©\n");
  check_long("é", 1000000, "&amp;<", "é", 1000000, "&amp;<");
  check_long("é", 1000000, "a&amp;", "é", 1000000, "a&");
}

/* Each would take hours if a link, a mark or a stretch cost a pass over the whole text. */
static void test_long_is_fast(void **state) {
  (void)state;
  const size_t n = 100000;
  char *chain = repeat("amp;", n, "lt;"), *text = malloc(strlen(chain) + 2);
  assert_non_null(text);
  sprintf(text, "&%s", chain);
  check_long(text, 1, "", "<", 1, "");
  free(chain);
  free(text);
  check_long("&amp;", n, "", "&", n, "");
  check_long("\x1b[", n, "", "[", n, "");
  check_long("Ã©", n, "", "é", n, "");
  check_long("Ã©é ", n, "", "éé ", n, "");
  check_long("&#1", n, "", "&#1", n, "");
}

/* ---- failing memory */

static void visit_failing(char *input, char *output, void *context) {
  (void)context;
  size_t n_input = read_escapes(input), n_output = read_escapes(output);
  static ftfy_function *const functions[] = {clipc__ftfy, clipc__html_unescape};
  for (size_t f = 0; f < 2; f++) {
    bool done = false;
    for (size_t n = 1; !done; n++) {
      struct test_memory memory = {.fail_at = n, .and_after = 1};
      struct clipc__bytes out = {.allocator = test_allocator(&memory)};
      done = functions[f](&out, (const uint8_t *)input, n_input);
      if (!done) assert_int_equal(out.n_bytes, 0);
      if (done && f == 0) assert_int_equal(out.n_bytes, n_output);
      clipc__bytes_free(&out);
      assert_int_equal(memory.n_live, 0);
      assert_true(n < 1000);
    }
  }
}

static void test_no_memory(void **state) {
  (void)state;
  assert_true(each_golden(FTFY_GOLDENS "fix_text.tsv", visit_failing, NULL) > 0);
}

/* ---- random texts: nothing to compare with here, but valid UTF-8 must come out, and nothing break */

static uint32_t random_character(void) {
  static const uint16_t likely[] = {'&',  '#',  ';',    'x',    ' ',    '<',    '\n',   '\r',  0x1B,
                                    '[',  '?',  0x1A,   0xA0,   0xC0,   0xC2,   0xC3,   0xE2,  0xED,
                                    0xEF, 0xF0, 0x20AC, 0x2122, 0x201C, 0xFFFD, 0x0413, 0x0301};
  switch (random_below(6)) {
  case 0: return 0x20 + random_below(0x60);
  case 1: return 0x80 + random_below(0x80);
  case 2: return random_below(0x600);
  case 3: return random_below(40) ? 0x2000 + random_below(0x200) : 0x10000 + random_below(0x100000);
  default: return likely[random_below(COUNT(likely))];
  }
}

static void visit_mutated(char *input, char *output, void *context) {
  (void)output;
  (void)context;
  size_t n_input = read_escapes(input);
  for (int round = 0; round < 20; round++) {
    struct clipc__bytes text = {0}, out = {0};
    for (size_t i = 0; i < n_input || i == 0;) {
      uint32_t code_point = 0;
      size_t taken = n_input ? clipc__utf8_read(&code_point, (const uint8_t *)input + i, n_input - i, NULL) : 1;
      uint8_t bytes[4];
      uint32_t what = random_below(24);
      if (what == 0) code_point = random_character();
      if (what != 1) assert_true(clipc__bytes_append(&text, bytes, clipc__utf8_write(bytes, code_point)));
      if (what == 2) assert_true(clipc__bytes_append(&text, bytes, clipc__utf8_write(bytes, random_character())));
      i += taken;
    }
    /* of the exact length, so that a sanitizer sees every byte read too far */
    uint8_t *exact = malloc(text.n_bytes ? text.n_bytes : 1);
    assert_non_null(exact);
    if (text.n_bytes > 0) memcpy(exact, text.data, text.n_bytes);
    assert_true(clipc__ftfy(&out, exact, text.n_bytes));
    assert_true(clipc__html_unescape(&out, exact, text.n_bytes));
    assert_true(clipc__utf8_valid(out.data, out.n_bytes));
    free(exact);
    clipc__bytes_free(&text);
    clipc__bytes_free(&out);
  }
}

static void test_random(void **state) {
  (void)state;
  random_start(20240229);
  assert_true(each_golden(FTFY_GOLDENS "fix_text.tsv", visit_mutated, NULL) > 600);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_fix_text),     cmocka_unit_test(test_html_unescape), cmocka_unit_test(test_million),
      cmocka_unit_test(test_long_is_fast), cmocka_unit_test(test_no_memory),     cmocka_unit_test(test_random),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
