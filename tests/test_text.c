/* The tokenisers against transformers and open_clip: goldens of make_text.py, merges, limits, long texts. With the
 * arguments "encode FOLDER CLEANING" it is the other side of make_text.py --check: texts come in as u32 length and
 * bytes, a line of ids goes out for each. */
#include "tokenizers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- goldens */

/* The ids with spaces between them, without start and end token. */
static void show_ids(char *out, size_t n_out, const int32_t *ids, size_t n_ids) {
  size_t at = 0;
  out[0] = '\0';
  for (size_t i = 1; i + 1 < n_ids; i++) at += (size_t)snprintf(out + at, n_out - at, "%s%d", i > 1 ? " " : "", ids[i]);
}

static size_t unescape(char *text) {
  char *out = text;
  for (const char *in = text; *in; in++) {
    if (*in == '%') {
      char digits[3] = {in[1], in[2], 0};
      *out++ = (char)strtol(digits, NULL, 16);
      in += 2;
    } else {
      *out++ = *in;
    }
  }
  return (size_t)(out - text);
}

/* Every line of a file of cases; the columns are cleanings in the order of their enum. */
static void check_cases(const char *path, int n_cleanings) {
  struct clipc__tokenizer *tokenizers[N_CLEANINGS];
  for (int i = 0; i < n_cleanings; i++) tokenizers[i] = tokenizer_must_open(TEXT_GOLDENS, (enum clipc__cleaning)i);
  char *text = test_read_file(path, NULL), *line = strchr(strchr(text, '\n') + 1, '\n') + 1;
  int n_cases = 0, n_wrong = 0;
  for (char *next; *line; line = next) {
    next = strchr(line, '\n') + 1;
    next[-1] = '\0';
    char *column = strchr(line, '\t'), *wanted = NULL;
    *column++ = '\0';
    size_t n_bytes = unescape(line);
    char *copy = malloc(n_bytes + 1); /* exactly as long as the text: reading on is seen */
    memcpy(copy, line, n_bytes);
    for (int i = 0; i < n_cleanings; i++, n_cases++) {
      char *end = strchr(column, '\t'), got[1024];
      if (end) *end = '\0';
      if (strcmp(column, "=") != 0) wanted = column;
      int32_t ids[TEXT_CONTEXT];
      size_t n_ids = 0;
      assert_int_equal(clipc__tokenize(tokenizers[i], ids, &n_ids, copy, n_bytes, NULL), CLIPC_OK);
      assert_int_equal(ids[0], 49406);
      assert_int_equal(ids[n_ids - 1], 49407);
      show_ids(got, sizeof got, ids, n_ids);
      if (strcmp(got, wanted) != 0 && ++n_wrong <= 20)
        print_error("%s of \"%s\"\n  wanted %s\n  got    %s\n", cleaning_names[i], line, wanted, got);
      column = end ? end + 1 : column;
    }
    free(copy);
  }
  free(text);
  for (int i = 0; i < n_cleanings; i++) clipc__tokenizer_close(tokenizers[i]);
  print_message("%s: %d cases\n", path, n_cases);
  assert_true(n_cases > 300);
  assert_int_equal(n_wrong, 0);
}

static void test_golden_strings(void **state) {
  (void)state;
  check_cases(TEXT_GOLDENS "strings.txt", 4);
}

static void test_fuzz_strings(void **state) {
  (void)state;
  check_cases(TEXT_GOLDENS "fuzz.txt", 2);
}

static size_t check_variant(const cJSON *variant, const struct merges *few) {
  const cJSON *merges = cJSON_GetObjectItem(variant, "merges"), *file;
  const char *name = cJSON_GetObjectItem(variant, "name")->valuestring;
  size_t n_wrong = 0;
  if (cJSON_IsNull(merges)) merges_put_files(few);
  cJSON_ArrayForEach(file, cJSON_GetObjectItem(variant, "files")) {
    cJSON *json = cJSON_Duplicate(file, true);
    if (strcmp(file->string, "tokenizer.json") == 0)
      whole_tokenizer_complete(json, few, strcmp(merges->valuestring, "pairs") == 0);
    test_folder_put_json(file->string, json);
    cJSON_Delete(json);
  }
  struct clipc__tokenizer *tokenizer = tokenizer_must_open(test_folder, CLIPC__CLEAN_HF);
  const cJSON *one;
  cJSON_ArrayForEach(one, cJSON_GetObjectItem(variant, "cases")) {
    const char *text = one->child->valuestring;
    const cJSON *wanted = one->child->next;
    int32_t ids[TEXT_CONTEXT];
    size_t n_ids;
    assert_int_equal(clipc__tokenize(tokenizer, ids, &n_ids, text, strlen(text), NULL), CLIPC_OK);
    bool same = n_ids == (size_t)cJSON_GetArraySize(wanted);
    for (size_t i = 0; same && i < n_ids; i++) same = cJSON_GetArrayItem(wanted, (int)i)->valueint == ids[i];
    if (same) continue;
    char got[1024], *shown = cJSON_PrintUnformatted(wanted);
    show_ids(got, sizeof got, ids, n_ids);
    print_error("%s: \"%s\"\n  wanted %s\n  got    %s\n", name, text, shown, got);
    free(shown);
    n_wrong++;
  }
  clipc__tokenizer_close(tokenizer);
  test_folder_empty();
  return n_wrong;
}

static void test_folders(void **state) {
  (void)state;
  char *text = test_read_file(TEXT_GOLDENS "folders.json", NULL);
  cJSON *goldens = cJSON_Parse(text), *variant;
  free(text);
  struct merges *few = merges_open((size_t)cJSON_GetObjectItem(goldens, "n_merges")->valueint);
  size_t n_wrong = 0;
  cJSON_ArrayForEach(variant, cJSON_GetObjectItem(goldens, "variants")) n_wrong += check_variant(variant, few);
  merges_close(few);
  cJSON_Delete(goldens);
  assert_int_equal(n_wrong, 0);
}

/* ---- merges, lengths and limits */

/* Where a merge makes a pair of a lower rank than its own the references part. "xyxy": tokenizers makes xy, then at
 * once xyx; open_clip makes both xy first. */
static void test_merge_order(void **state) {
  (void)state;
  struct clipc__arena arena = {0};
  struct clipc__bpe bpe = {0};
  assert_true(clipc__bpe_init(&bpe, 3, &arena));
  for (int i = 0; i < 256; i++) bpe.initial[i] = bpe.final[i] = i;
  clipc__bpe_add(&bpe, 0, 1000, 'x', 1001);  /* xy x -> xyx */
  clipc__bpe_add(&bpe, 1, 1000, 1000, 1002); /* xy xy -> xyxy */
  clipc__bpe_add(&bpe, 2, 'x', 'y', 1000);   /* x y -> xy */
  struct clipc__bpe_work work = {0};
  for (int hf = 0; hf < 2; hf++) {
    static const int32_t wanted[2][2] = {{1002, -1}, {1001, 'y'}};
    struct clipc__bytes ids = {0};
    bpe.hf = hf;
    assert_true(clipc__bpe_encode(&bpe, &work, &ids, (const uint8_t *)"xyxy", 4));
    assert_int_equal(ids.n_bytes / 4, hf ? 2 : 1);
    assert_memory_equal(ids.data, wanted[hf], ids.n_bytes);
    clipc__bytes_free(&ids);
  }
  clipc__bpe_work_free(&work);
  clipc__arena_free(&arena);
}

static void test_limits(void **state) {
  (void)state;
  static const clipc_allocator plain_allocator;
  struct clipc__tokenizer *tokenizer;
  struct clipc__tokenizer_options options = tokenizer_options(CLIPC__CLEAN_HF);
  clipc_error error = {0};
  options.context_length = 1;
  assert_int_equal(clipc__tokenizer_open(&tokenizer, &(struct clipc__store){.path = TEXT_GOLDENS}, &options,
                                         &plain_allocator, &error),
                   CLIPC_E_INVALID);
  options.context_length = 2;
  options.max_text_bytes = 5;
  assert_int_equal(
      clipc__tokenizer_open(&tokenizer, &(struct clipc__store){.path = TEXT_GOLDENS}, &options, &plain_allocator, NULL),
      CLIPC_OK);
  int32_t ids[2] = {0};
  size_t n_ids;
  assert_int_equal(clipc__tokenize(tokenizer, ids, &n_ids, "a cat", 5, NULL), CLIPC_OK);
  assert_true(n_ids == 2 && ids[0] == 49406 && ids[1] == 49407);
  ids[0] = -1;
  assert_int_equal(clipc__tokenize(tokenizer, ids, &n_ids, "a cat!", 6, &error), CLIPC_E_LIMIT);
  assert_string_equal(error.message, "text: 6 bytes are more than the limit of 5");
  assert_int_equal(ids[0], -1);
  assert_int_equal(clipc__tokenize(tokenizer, ids, &n_ids, NULL, 0, NULL), CLIPC_OK);
  clipc__tokenizer_close(tokenizer);
  clipc__tokenizer_close(NULL);
  options.max_config_bytes = 1000;
  assert_int_equal(clipc__tokenizer_open(&tokenizer, &(struct clipc__store){.path = TEXT_GOLDENS}, &options,
                                         &plain_allocator, &error),
                   CLIPC_E_LIMIT);
}

/* Texts at the limit of length, of one word, of marks in the wrong order, of tokens: none may take time that grows
 * with the square of its length (this test would not end), and each is cut to the context with its end token. */
static void test_long_texts(void **state) {
  (void)state;
  static const char *const patterns[] = {
      "a",        "ab",   "\xcc\x81\xcc\xa3", "<|endoftext|>", "!", "\xce\xa3'", " ", "&", "&amp;",
      "\xc3\x83", "\xff", "\xe4\xb8\x80",     "<|endoftext|",  "'s"};
#ifdef __SANITIZE_ADDRESS__
  enum { N = 1 << 17 };
#else
  enum { N = 1 << 20 };
#endif
  char *text = malloc(N);
  for (int cleaning = 0; cleaning < 2; cleaning++) {
    struct clipc__tokenizer *tokenizer = tokenizer_must_open(TEXT_GOLDENS, (enum clipc__cleaning)cleaning);
    for (size_t p = 0; p < COUNT(patterns); p++) {
      size_t n_pattern = strlen(patterns[p]), n_ids;
      for (size_t i = 0; i < N; i++) text[i] = patterns[p][i % n_pattern];
      int32_t ids[TEXT_CONTEXT];
      assert_int_equal(clipc__tokenize(tokenizer, ids, &n_ids, text, N, NULL), CLIPC_OK);
      assert_true(n_ids >= 2 && n_ids <= TEXT_CONTEXT);
      assert_int_equal(ids[n_ids - 1], 49407);
    }
    clipc__tokenizer_close(tokenizer);
  }
  free(text);
}

static void test_a_tokenizer_does_not_change(void **state) {
  (void)state;
  static const char text[] = "A photo of 2 tabby cats, sleeping on a pink couch; it's not the dog's.";
  for (int cleaning = 0; cleaning < 2; cleaning++) {
    struct clipc__tokenizer *tokenizer = tokenizer_must_open(TEXT_GOLDENS, (enum clipc__cleaning)cleaning);
    int32_t first[TEXT_CONTEXT], ids[TEXT_CONTEXT];
    size_t n_first, n_ids = 0;
    assert_int_equal(clipc__tokenize(tokenizer, first, &n_first, text, sizeof text - 1, NULL), CLIPC_OK);
    for (int i = 0; i < 2000; i++) {
      assert_int_equal(clipc__tokenize(tokenizer, ids, &n_ids, text, sizeof text - 1, NULL), CLIPC_OK);
      assert_int_equal(n_ids, n_first);
      assert_memory_equal(ids, first, n_ids * sizeof *ids);
    }
    clipc__tokenizer_close(tokenizer);
  }
}

/* ---- the other side of make_text.py --check */

static int encode_stdin(const char *folder, const char *cleaning) {
  int index = 0;
  while (index < N_CLEANINGS && strcmp(cleaning, cleaning_names[index]) != 0) index++;
  struct clipc__tokenizer *tokenizer;
  clipc_error error = {0};
  if (index == N_CLEANINGS ||
      tokenizer_open(&tokenizer, folder, (enum clipc__cleaning)index, NULL, &error) != CLIPC_OK) {
    fprintf(stderr, "%s\n", index == N_CLEANINGS ? "no such cleaning" : error.message);
    return 2;
  }
  uint32_t n_bytes;
  while (fread(&n_bytes, sizeof n_bytes, 1, stdin) == 1) {
    char *text = malloc(n_bytes + 1u);
    int32_t ids[TEXT_CONTEXT];
    size_t n_ids = 0;
    if (fread(text, 1, n_bytes, stdin) != n_bytes ||
        clipc__tokenize(tokenizer, ids, &n_ids, text, n_bytes, &error) != CLIPC_OK)
      return 2;
    free(text);
    for (size_t i = 0; i < n_ids; i++) printf("%s%d", i ? " " : "", ids[i]);
    putchar('\n');
  }
  clipc__tokenizer_close(tokenizer);
  return 0;
}

int main(int argc, char **argv) {
  if (argc == 4 && strcmp(argv[1], "encode") == 0) return encode_stdin(argv[2], argv[3]);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_golden_strings),
      cmocka_unit_test(test_fuzz_strings),
      cmocka_unit_test(test_folders),
      cmocka_unit_test(test_merge_order),
      cmocka_unit_test(test_limits),
      cmocka_unit_test(test_long_texts),
      cmocka_unit_test(test_a_tokenizer_does_not_change),
  };
  return cmocka_run_group_tests_name("text", tests, test_folder_make, test_folder_remove);
}
