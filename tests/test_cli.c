/* The program's parts by themselves: what is written reads back, what is parsed is told apart, what is drawn fits.
 * The sources are included, so that results can be caught in memory instead of a file. */
#include "cli/terminal.c"
#include "cli/options.c"
#include "cli/hub.c"
#include "cli/writers.c"

#include <float.h>

#include "testing.h"

static char caught[1 << 16];
static size_t n_caught;

void cli_write(struct cli_output *output, const void *data, size_t n_bytes) {
  (void)output;
  assert_true(n_caught + n_bytes < sizeof caught);
  memcpy(caught + n_caught, data, n_bytes);
  caught[n_caught += n_bytes] = '\0';
}

void cli_print(struct cli_output *output, const char *format, ...) {
  char text[1024];
  va_list arguments;
  va_start(arguments, format);
  int n = vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  assert_true(n >= 0 && (size_t)n < sizeof text);
  cli_write(output, text, (size_t)n);
}

int cli_help(const struct cli_command *command) {
  (void)command;
  return CLI_OK;
}

void cli_output_abandon(void) {}

static const char *json_of(const char *text, size_t n) {
  n_caught = 0;
  cli_json_string(NULL, text, n);
  return caught;
}

static void json_strings_hold_any_bytes(void **state) {
  (void)state;
  assert_string_equal(json_of("", 0), "\"\"");
  assert_string_equal(json_of("a\"b\\c\n\t\r\x01\x7F", 10), "\"a\\\"b\\\\c\\n\\t\\u000d\\u0001\\u007f\"");
  assert_string_equal(json_of("\0x", 2), "\"\\u0000x\"");
  assert_string_equal(json_of("\xC3\xA9\xE2\x82\xAC\xF0\x9F\x90\xB1", 9), "\"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x90\xB1\"");
  assert_string_equal(json_of("\xE2\x80\xA8", 3), "\"\\u2028\"");
}

/* One U+FFFD for each maximal ill-formed part, as Python's "replace" and Unicode 3.9 have it. */
static void malformed_utf8_is_replaced_part_by_part(void **state) {
  (void)state;
  static const struct {
    const char *bytes;
    int n_bad;
    const char *rest;
  } cases[] = {
      {"\xFF", 1, ""},           {"\xC0\xAF", 2, ""},
      {"\xE2\x82", 1, ""},       {"\xE2\x82z", 1, "z"},
      {"\xED\xA0\x80", 3, ""},   {"\xF4\x90\x80\x80", 4, ""},
      {"\xF0\x9F\x90", 1, ""},   {"\x80\x80", 2, ""},
      {"\xE0\x80\x80", 3, ""},   {"\xF0\x80\x80\x80", 4, ""},
      {"\xF0\x9F\x90z", 1, "z"}, {"\xC3z", 1, "z"},
      {"\xF5\x80", 2, ""},       {"\xE2\xE2\x82\xAC", 1, "\xE2\x82\xAC"},
  };
  for (size_t i = 0; i < COUNT(cases); i++) {
    char want[64] = "\"";
    for (int bad = 0; bad < cases[i].n_bad; bad++) strcat(want, "\xEF\xBF\xBD");
    strcat(strcat(want, cases[i].rest), "\"");
    assert_string_equal(json_of(cases[i].bytes, strlen(cases[i].bytes)), want);
  }
}

static void assert_reads_back(float value) {
  n_caught = 0;
  cli_json_float(NULL, value);
  float read = strtof(caught, NULL);
  if (memcmp(&read, &value, sizeof read) != 0) fail_msg("%a was written as %s", (double)value, caught);
  if (strpbrk(caught, "0123456789") == NULL || strlen(caught) > 15) fail_msg("%s is no number", caught);
}

static void floats_read_back_to_themselves(void **state) {
  (void)state;
  random_start(77);
  const float ends[] = {0,        -0.0f,   1,        -1,        0.1f,     1.0f / 3, FLT_MAX,
                        -FLT_MAX, FLT_MIN, 1.4e-45f, -1.4e-45f, 16777216, 1e10f};
  for (size_t i = 0; i < COUNT(ends); i++) assert_reads_back(ends[i]);
  for (int i = 0; i < 200000; i++) {
    uint32_t bits = random_bits();
    bits ^= random_bits() << 16; /* the topmost as well */
    float value;
    memcpy(&value, &bits, sizeof value);
    if (isfinite(value)) assert_reads_back(value);
  }
  n_caught = 0;
  cli_json_floats(NULL, (const float[]){0.5f, -0.0f, NAN, INFINITY}, 4);
  assert_string_equal(caught, "[0.5,-0.0,null,null]");
}

static void npy_headers_fill_whole_lines_of_64(void **state) {
  (void)state;
  const size_t shapes[][4] = {{7}, {3, 512}, {1, 3, 224, 224}, {SIZE_MAX, SIZE_MAX, SIZE_MAX, SIZE_MAX}};
  const size_t n_axes[] = {1, 2, 4, 4};
  const char *const texts[] = {"(7,)", "(3, 512)", "(1, 3, 224, 224)", "(18446744073709551615, 18446744073709551615, "};
  for (size_t i = 0; i < 4; i++) {
    n_caught = 0;
    cli_npy_header(NULL, shapes[i], n_axes[i]);
    assert_int_equal(n_caught % 64, 0);
    assert_memory_equal(caught, "\x93NUMPY\x01\x00", 8);
    assert_int_equal((unsigned char)caught[8] + 256 * (unsigned char)caught[9], n_caught - 10);
    assert_int_equal(caught[n_caught - 1], '\n');
    const char *shape = strstr(caught + 10, "'shape': (");
    if (sizeof(size_t) < 8 && i == 3) continue;
    assert_non_null(shape);
    assert_memory_equal(shape + 9, texts[i], strlen(texts[i]));
    assert_non_null(strstr(caught + 10, "{'descr': '<f4', 'fortran_order': False, "));
  }
}

static void floats_are_little_endian(void **state) {
  (void)state;
  float values[600];
  for (int i = 0; i < 600; i++) values[i] = (float)i;
  values[0] = 1.5f;
  n_caught = 0;
  cli_floats(NULL, values, 600);
  assert_int_equal(n_caught, 2400);
  assert_memory_equal(caught, "\0\0\xC0\x3F", 4);
  for (int i = 1; i < 600; i++) {
    uint32_t bits = 0;
    for (int byte = 3; byte >= 0; byte--) bits = bits << 8 | (unsigned char)caught[4 * i + byte];
    float read;
    memcpy(&read, &bits, sizeof read);
    assert_true(read == (float)i);
  }
}

enum { TEST_FLAG = CLI_OWN, TEST_VALUE };

static const struct cli_option test_options[] = {
    {TEST_FLAG, 'f', "flag", NULL, ""}, {TEST_VALUE, 'v', "value", "V", ""}, {0}};
static const struct cli_command test_command = {
    .name = "test", .options = test_options, .groups = CLI_TAKES_MODEL | CLI_TAKES_PICTURES};

static void options_come_in_every_spelling(void **state) {
  (void)state;
  static const char *const words[] = {"test", "--flag", "--value",   "--flag", "--value=", "--value=a=b",
                                      "-fv1", "-v",     "-2",        "-v=3",   "plain",    "-",
                                      "--",   "--flag", "--value=4", "--"};
  static const struct {
    int id;
    const char *value;
  } want[] = {{TEST_FLAG, NULL},    {TEST_VALUE, "--flag"}, {TEST_VALUE, ""},      {TEST_VALUE, "a=b"},
              {TEST_FLAG, NULL},    {TEST_VALUE, "1"},      {TEST_VALUE, "-2"},    {TEST_VALUE, "3"},
              {CLI_PLAIN, "plain"}, {CLI_PLAIN, "-"},       {CLI_PLAIN, "--flag"}, {CLI_PLAIN, "--value=4"},
              {CLI_PLAIN, "--"}};
  struct cli_parser parser = {.command = &test_command, .argc = COUNT(words), .next = 1};
  parser.argv = (char **)(uintptr_t)words;
  for (size_t i = 0; i < COUNT(want); i++) {
    const char *value = NULL;
    assert_int_equal(cli_next(&parser, &value), want[i].id);
    if (want[i].value != NULL) assert_string_equal(value, want[i].value);
  }
  const char *value;
  assert_int_equal(cli_next(&parser, &value), CLI_END);
}

struct taken {
  int ids[8];
  size_t n;
};

static bool take_test_option(const struct cli_command *command, void *job, int id, const char *value) {
  struct taken *taken = job;
  assert_ptr_equal(command, &test_command);
  taken->ids[taken->n++] = id;
  return value == NULL || strcmp(value, "wrong") != 0;
}

static void shared_options_go_to_the_model_and_the_rest_to_the_job(void **state) {
  (void)state;
  static const struct {
    const char *words[7];
    int code;
    size_t n_taken;
  } cases[] = {{{"test", "-f", "-t3", "--flag", "--exif", "plain"}, CLI_PARSED, 3},
               {{"test", "-f", "--help", "--flag"}, CLI_OK, 1},
               {{"test", "-v", "wrong", "--flag"}, CLI_FAILED, 1},
               {{"test", "-f", "--threads", "x", "--flag"}, CLI_FAILED, 1},
               {{"test", "-f", "--nothing", "--flag"}, CLI_FAILED, 1}};
  for (size_t i = 0; i < COUNT(cases); i++) {
    struct cli_model_options model = {0};
    struct taken taken = {.n = 0};
    int argc = 0;
    while (cases[i].words[argc] != NULL) argc++;
    char **argv = (char **)(uintptr_t)cases[i].words;
    assert_int_equal(cli_parse(&test_command, argc, argv, &model, take_test_option, &taken), cases[i].code);
    assert_int_equal(taken.n, cases[i].n_taken);
    if (i > 0) continue;
    assert_int_equal(model.options.n_threads, 3);
    assert_int_equal(model.options.apply_exif, 1);
    assert_int_equal(taken.ids[0], TEST_FLAG);
    assert_int_equal(taken.ids[2], CLI_PLAIN);
  }
}

static void check_distinct(const struct cli_option *option, void *context) {
  struct names *seen = context;
  for (size_t i = 0; i < seen->n; i++) assert_string_not_equal(seen->names[i], option->name);
  seen->names[seen->n++] = option->name;
}

static void shared_options_do_not_collide(void **state) {
  (void)state;
  struct names seen = {.n = 0};
  cli_each_option(&test_command, check_distinct, &seen);
  assert_true(seen.n > 10 && seen.n < COUNT(seen.names));
}

static void near_words_are_found_and_far_ones_not(void **state) {
  (void)state;
  static const char *const words[] = {"embed", "classify", "tokenize", "decode"};
  assert_string_equal(cli_nearest("emebd", words, 4), "embed");
  assert_string_equal(cli_nearest("tokenise", words, 4), "tokenize");
  assert_string_equal(cli_nearest("clasify", words, 4), "classify");
  assert_null(cli_nearest("x", words, 4));
  assert_null(cli_nearest("encoding", words, 4));
  assert_null(cli_nearest("a-word-longer-than-thirty-one-bytes-is-fine", words, 4));
}

static void columns_and_cuts_agree(void **state) {
  (void)state;
  const char *text = "a\xC3\xA9\xE7\x8C\xAB"
                     "e\xCC\x81\xF0\x9F\x90\xB1z"; /* a, e acute, a wide letter, e + accent, a cat, z */
  assert_int_equal(cli_columns(text), 8);
  assert_int_equal(cli_fit(text, 8), strlen(text));
  assert_int_equal(cli_fit(text, 3), 3); /* the wide letter does not fit */
  assert_int_equal(cli_fit(text, 4), 6);
  assert_int_equal(cli_fit(text, 5), 9); /* an accent stays with its letter */
  assert_int_equal(cli_fit(text, 0), 0);
  char *clean = cli_clean("a\033[31m\nb\xFF\xC2\x85", 11);
  assert_string_equal(clean, "a?[31m?b\xEF\xBF\xBD?");
  free(clean);
}

static void bars_never_leave_their_room(void **state) {
  (void)state;
  char bar[3 * 40 + 1];
  for (size_t n = 0; n <= 40; n++) {
    for (int i = -10; i <= 1010; i++) {
      double fraction = i / 1000.0;
      for (int blocks = 0; blocks < 2; blocks++) {
        size_t filled = cli_bar(bar, n, fraction, blocks);
        assert_true(filled <= n);
        assert_int_equal(cli_columns(bar), filled);
        if (i >= 1000) assert_int_equal(filled, n);
        if (i <= 0) assert_int_equal(filled, 0);
      }
    }
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(json_strings_hold_any_bytes),
      cmocka_unit_test(malformed_utf8_is_replaced_part_by_part),
      cmocka_unit_test(floats_read_back_to_themselves),
      cmocka_unit_test(npy_headers_fill_whole_lines_of_64),
      cmocka_unit_test(floats_are_little_endian),
      cmocka_unit_test(options_come_in_every_spelling),
      cmocka_unit_test(shared_options_do_not_collide),
      cmocka_unit_test(near_words_are_found_and_far_ones_not),
      cmocka_unit_test(columns_and_cuts_agree),
      cmocka_unit_test(bars_never_leave_their_room),
      cmocka_unit_test(shared_options_go_to_the_model_and_the_rest_to_the_job),
  };
  return cmocka_run_group_tests_name("cli", tests, NULL, NULL);
}
