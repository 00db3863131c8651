/* The tokenisers against transformers and open_clip: goldens of make_text.py, folders of every kind, broken files,
 * failing memory, malformed text. With the arguments "encode FOLDER CLEANING" it is the other side of
 * make_text.py --check: texts come in as u32 length and bytes, a line of ids goes out for each. */
#include "text/tokenizer.h"

#include "testing.h"

#include <cjson/cJSON.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define GOLDENS "tests/goldens/text/"
#define CONTEXT 77

enum { N_CLEANINGS = 4 };
static const char *const cleaning_names[N_CLEANINGS] = {"hf", "lower", "whitespace", "canonicalize"};

static const clipc_allocator plain_allocator;

static struct clipc__tokenizer_options options_of(enum clipc__cleaning cleaning) {
  return (struct clipc__tokenizer_options){cleaning, CONTEXT, 1 << 20, 64 << 20};
}

/* ---- temporary folders */

struct folder {
  char path[64];
};

static struct folder folder_make(void) {
  struct folder folder = {"/tmp/clipc-text-XXXXXX"};
  assert_non_null(mkdtemp(folder.path));
  return folder;
}

static void folder_write(const struct folder *folder, const char *name, const void *data, size_t n_bytes) {
  char path[256];
  snprintf(path, sizeof path, "%s/%s", folder->path, name);
  FILE *file = fopen(path, "wb");
  assert_non_null(file);
  assert_int_equal(fwrite(data, 1, n_bytes, file), n_bytes);
  assert_int_equal(fclose(file), 0);
}

static void folder_text(const struct folder *folder, const char *name, const char *text) {
  folder_write(folder, name, text, strlen(text));
}

static void folder_remove(const struct folder *folder) {
  static const char *const names[] = {"vocab.json",
                                      "merges.txt",
                                      "tokenizer.json",
                                      "tokenizer_config.json",
                                      "special_tokens_map.json",
                                      "added_tokens.json",
                                      "bpe_simple_vocab_16e6.txt",
                                      "bpe_simple_vocab_16e6.txt.gz"};
  char path[256];
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
    snprintf(path, sizeof path, "%s/%s", folder->path, names[i]);
    unlink(path);
  }
  assert_int_equal(rmdir(folder->path), 0);
}

static char *read_text(const char *path, size_t *n_bytes) {
  struct clipc__file file;
  assert_int_equal(clipc__file_open(&file, path, false, 64 << 20, &plain_allocator, NULL), CLIPC_OK);
  char *text = malloc(file.n_bytes + 1);
  assert_non_null(text);
  memcpy(text, file.data, file.n_bytes + 1);
  if (n_bytes) *n_bytes = file.n_bytes;
  clipc__file_close(&file);
  return text;
}

/* ---- the vocabulary of the first n merges, as files of each kind */

struct small {
  char *text; /* merges.txt of n merges */
  char *left[1024], *right[1024];
  size_t n;
};

static struct small *small_open(size_t n) {
  struct small *small = calloc(1, sizeof *small);
  small->text = read_text(GOLDENS "merges.txt", NULL);
  char *line = strchr(small->text, '\n') + 1;
  for (; small->n < n; small->n++) {
    char *space = strchr(line, ' '), *end = strchr(space, '\n');
    small->left[small->n] = strndup(line, (size_t)(space - line));
    small->right[small->n] = strndup(space + 1, (size_t)(end - space - 1));
    line = end + 1;
  }
  *line = '\0';
  return small;
}

static void small_close(struct small *small) {
  for (size_t i = 0; i < small->n; i++) {
    free(small->left[i]);
    free(small->right[i]);
  }
  free(small->text);
  free(small);
}

static cJSON *small_vocabulary(const struct small *small) {
  cJSON *vocabulary = cJSON_CreateObject();
  char name[512];
  for (int final = 0; final < 2; final++) {
    int id = 256 * final;
    for (int others = 0; others < 2; others++) {
      for (int byte = 0, n_others = 0; byte < 256; byte++) {
        bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
        uint32_t point = (uint32_t)(printable ? byte : 256 + n_others++);
        if (printable == others) continue;
        size_t n = clipc__utf8_write((uint8_t *)name, point);
        strcpy(name + n, final ? "</w>" : "");
        cJSON_AddNumberToObject(vocabulary, name, id++);
      }
    }
  }
  for (size_t i = 0; i < small->n; i++) {
    snprintf(name, sizeof name, "%s%s", small->left[i], small->right[i]);
    cJSON_AddNumberToObject(vocabulary, name, 512 + (double)i);
  }
  cJSON_AddNumberToObject(vocabulary, "<|startoftext|>", 512 + (double)small->n);
  cJSON_AddNumberToObject(vocabulary, "<|endoftext|>", 513 + (double)small->n);
  return vocabulary;
}

static cJSON *small_merges(const struct small *small, bool pairs) {
  cJSON *merges = cJSON_CreateArray();
  char text[512];
  for (size_t i = 0; i < small->n; i++) {
    const char *pair[2] = {small->left[i], small->right[i]};
    snprintf(text, sizeof text, "%s %s", pair[0], pair[1]);
    cJSON_AddItemToArray(merges, pairs ? cJSON_CreateStringArray(pair, 2) : cJSON_CreateString(text));
  }
  return merges;
}

static void folder_json(const struct folder *folder, const char *name, const cJSON *json) {
  char *text = cJSON_PrintUnformatted(json);
  folder_text(folder, name, text);
  free(text);
}

static void folder_bare(const struct folder *folder, const struct small *small) {
  cJSON *vocabulary = small_vocabulary(small);
  folder_json(folder, "vocab.json", vocabulary);
  cJSON_Delete(vocabulary);
  folder_text(folder, "merges.txt", small->text);
}

/* A tokenizer.json as the goldens hold it, without vocabulary. */
static cJSON *whole_template(void) {
  char *text = read_text(GOLDENS "folders.json", NULL);
  cJSON *goldens = cJSON_Parse(text), *variant, *found = NULL;
  free(text);
  cJSON_ArrayForEach(variant, cJSON_GetObjectItem(goldens, "variants")) {
    const char *name = cJSON_GetObjectItem(variant, "name")->valuestring;
    if (strcmp(name, "whole, pairs") == 0)
      found = cJSON_Duplicate(cJSON_GetObjectItem(cJSON_GetObjectItem(variant, "files"), "tokenizer.json"), true);
  }
  cJSON_Delete(goldens);
  assert_non_null(found);
  return found;
}

static void whole_complete(cJSON *json, const struct small *small, bool pairs) {
  cJSON *model = cJSON_GetObjectItem(json, "model");
  cJSON_AddItemToObject(model, "vocab", small_vocabulary(small));
  cJSON_AddItemToObject(model, "merges", small_merges(small, pairs));
}

/* ---- goldens */

static struct clipc__tokenizer *must_open(const char *folder, enum clipc__cleaning cleaning) {
  struct clipc__tokenizer *tokenizer;
  struct clipc__tokenizer_options options = options_of(cleaning);
  clipc_error error = {0};
  if (clipc__tokenizer_open(&tokenizer, folder, &options, &plain_allocator, &error) != CLIPC_OK)
    fail_msg("%s", error.message);
  return tokenizer;
}

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
  for (int i = 0; i < n_cleanings; i++) tokenizers[i] = must_open(GOLDENS, (enum clipc__cleaning)i);
  char *text = read_text(path, NULL), *line = strchr(strchr(text, '\n') + 1, '\n') + 1;
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
      int32_t ids[CONTEXT];
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
  check_cases(GOLDENS "strings.txt", 4);
}

static void test_fuzz_strings(void **state) {
  (void)state;
  check_cases(GOLDENS "fuzz.txt", 2);
}

static size_t check_variant(const cJSON *variant, const struct small *small) {
  struct folder folder = folder_make();
  const cJSON *merges = cJSON_GetObjectItem(variant, "merges"), *file;
  const char *name = cJSON_GetObjectItem(variant, "name")->valuestring;
  size_t n_wrong = 0;
  if (cJSON_IsNull(merges)) folder_bare(&folder, small);
  cJSON_ArrayForEach(file, cJSON_GetObjectItem(variant, "files")) {
    cJSON *json = cJSON_Duplicate(file, true);
    if (strcmp(file->string, "tokenizer.json") == 0)
      whole_complete(json, small, strcmp(merges->valuestring, "pairs") == 0);
    folder_json(&folder, file->string, json);
    cJSON_Delete(json);
  }
  struct clipc__tokenizer *tokenizer = must_open(folder.path, CLIPC__CLEAN_HF);
  const cJSON *one;
  cJSON_ArrayForEach(one, cJSON_GetObjectItem(variant, "cases")) {
    const char *text = one->child->valuestring;
    const cJSON *wanted = one->child->next;
    int32_t ids[CONTEXT];
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
  folder_remove(&folder);
  return n_wrong;
}

static void test_folders(void **state) {
  (void)state;
  char *text = read_text(GOLDENS "folders.json", NULL);
  cJSON *goldens = cJSON_Parse(text), *variant;
  free(text);
  struct small *small = small_open((size_t)cJSON_GetObjectItem(goldens, "n_merges")->valueint);
  size_t n_wrong = 0;
  cJSON_ArrayForEach(variant, cJSON_GetObjectItem(goldens, "variants")) n_wrong += check_variant(variant, small);
  small_close(small);
  cJSON_Delete(goldens);
  assert_int_equal(n_wrong, 0);
}

/* ---- vocabularies */

static void test_vocabulary_files(void **state) {
  (void)state;
  struct small *small = small_open(300);
  struct folder folder = folder_make();
  small->text[0] = '"'; /* OpenAI's header is another, and is skipped whatever it says */
  folder_text(&folder, "bpe_simple_vocab_16e6.txt", small->text);
  small->text[0] = '#';
  for (int kind = 0; kind < 3; kind++) { /* OpenAI's list, merges.txt alone, both Hugging Face files */
    char path[256];
    if (kind == 1) {
      snprintf(path, sizeof path, "%s/bpe_simple_vocab_16e6.txt", folder.path);
      unlink(path);
      folder_text(&folder, "merges.txt", small->text);
    }
    if (kind == 2) folder_bare(&folder, small);
    for (int cleaning = 0; cleaning < N_CLEANINGS; cleaning++) {
      struct clipc__tokenizer *tokenizer = must_open(folder.path, (enum clipc__cleaning)cleaning);
      assert_int_equal(clipc__tokenizer_vocab_size(tokenizer), 814);
      int32_t ids[CONTEXT];
      size_t n_ids;
      assert_int_equal(clipc__tokenize(tokenizer, ids, &n_ids, "the", 3, NULL), CLIPC_OK);
      int32_t the = 512; /* "th" + "e</w>": the id is that of the merge's place */
      for (size_t i = 0; i < small->n; i++)
        if (strcmp(small->left[i], "th") == 0 && strcmp(small->right[i], "e</w>") == 0) the = 512 + (int32_t)i;
      assert_int_equal(n_ids, 3);
      assert_int_equal(ids[0], 812);
      assert_int_equal(ids[1], the);
      assert_int_equal(ids[2], 813);
      clipc__tokenizer_close(tokenizer);
    }
  }
  folder_remove(&folder);
  small_close(small);
}

/* A vocabulary without some bytes: transformers says the unknown token, open_clip has no answer. */
static void test_missing_bytes(void **state) {
  (void)state;
  struct folder folder = folder_make();
  folder_text(&folder, "vocab.json",
              "{\"a\": 0, \"b\": 1, \"a</w>\": 2, \"b</w>\": 3, \"ab</w>\": 4,"
              " \"<|startoftext|>\": 7, \"<|endoftext|>\": 9}");
  folder_text(&folder, "merges.txt", "#version: 0.2\na b</w>\n");
  struct clipc__tokenizer *tokenizer = must_open(folder.path, CLIPC__CLEAN_HF);
  int32_t ids[CONTEXT], wanted[] = {7, 4, 9, 9, 0, 9, 9};
  size_t n_ids;
  assert_int_equal(clipc__tokenize(tokenizer, ids, &n_ids, "ab xy ay", 8, NULL), CLIPC_OK);
  assert_int_equal(n_ids, 7);
  assert_memory_equal(ids, wanted, sizeof wanted);
  clipc__tokenizer_close(tokenizer);
  struct clipc__tokenizer_options options = options_of(CLIPC__CLEAN_LOWER);
  clipc_error error = {0};
  assert_int_equal(clipc__tokenizer_open(&tokenizer, folder.path, &options, &plain_allocator, &error), CLIPC_E_FORMAT);
  assert_null(tokenizer);
  assert_non_null(strstr(error.message, "no token for byte 0"));
  folder_remove(&folder);
}

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

/* ---- broken files */

struct broken {
  const char *vocab, *merges, *config; /* NULL: not there */
  clipc_status status;
  const char *sentence; /* a part of it */
};

static void test_broken_files(void **state) {
  (void)state;
#define FRAME "\"<|startoftext|>\": 5, \"<|endoftext|>\": 6"
#define FINE "{\"a\": 0, \"a</w>\": 1, \"aa</w>\": 2, " FRAME "}"
  static const struct broken cases[] = {
      {NULL, NULL, NULL, CLIPC_E_IO, "has no tokenizer.json, no vocab.json"},
      {FINE, NULL, NULL, CLIPC_E_IO, "merges.txt: cannot be opened"},
      {"", "#version: 0.2\n", NULL, CLIPC_E_FORMAT, "vocab.json: is not a JSON object"},
      {"{\"a\": 0", "#version: 0.2\n", NULL, CLIPC_E_FORMAT, "vocab.json: is not a JSON object: it breaks at byte"},
      {FINE "x", "#version: 0.2\n", NULL, CLIPC_E_FORMAT, "vocab.json: is not a JSON object"},
      {"[\"a\"]", "#version: 0.2\n", NULL, CLIPC_E_FORMAT, "vocab.json: is not a JSON object"},
      {"{\"a\\u0000b\": 0}", "#version: 0.2\n", NULL, CLIPC_E_FORMAT, "vocab.json: holds a NUL character at byte 3"},
      {"{\"a\xff\": 0}", "#version: 0.2\n", NULL, CLIPC_E_FORMAT, "vocab.json: is not UTF-8"},
      {"{\"a\": -1}", "#version: 0.2\n", NULL, CLIPC_E_FORMAT, "the id of token \"a\" is not a whole number"},
      {"{\"a\": 0.5}", "#version: 0.2\n", NULL, CLIPC_E_FORMAT, "the id of token \"a\" is not a whole number"},
      {"{\"a\": \"0\"}", "#version: 0.2\n", NULL, CLIPC_E_FORMAT, "the id of token \"a\" is not a whole number"},
      {"{\"a\": 4194304}", "#version: 0.2\n", NULL, CLIPC_E_FORMAT, "the id of token \"a\" is not a whole number"},
      {"{\"a\": 1e999}", "#version: 0.2\n", NULL, CLIPC_E_FORMAT, "the id of token \"a\" is not a whole number"},
      {"{\"a\": 0, \"a\": 1}", "#version: 0.2\n", NULL, CLIPC_E_FORMAT, "token \"a\" is there twice"},
      {"{\"a\": 0, \"b\": 0}", "#version: 0.2\n", NULL, CLIPC_E_FORMAT, "token \"b\" has the id 0 of another"},
      {"{}", "#version: 0.2\n", NULL, CLIPC_E_UNSUPPORTED, "no token ends in \"</w>\""},
      {"{\"a</w>\": 0}", "#version: 0.2\n", NULL, CLIPC_E_FORMAT, "has no token \"<|startoftext|>\""},
      {"{\"a</w>\": 0, \"<|startoftext|>\": 1}", "", NULL, CLIPC_E_FORMAT, "has no token \"<|endoftext|>\""},
      {FINE, "#version: 0.2\na a</w>\naa\n", NULL, CLIPC_E_FORMAT, "merges.txt: line 3 is not two tokens"},
      {FINE, "a a</w> a\n", NULL, CLIPC_E_FORMAT, "merges.txt: line 1 is not two tokens"},
      {FINE, "a a</w>\n\na a</w>\n", NULL, CLIPC_E_FORMAT, "merges.txt: line 2 is not two tokens"},
      {FINE, "a q\n", NULL, CLIPC_E_FORMAT, "merges.txt: merge 1 uses the unknown token \"q\""},
      {FINE, "a a</w>\na a\n", NULL, CLIPC_E_FORMAT, "merges.txt: merge 2 makes the unknown token \"aa\""},
      {FINE, "a \xff\n", NULL, CLIPC_E_FORMAT, "merges.txt: is not UTF-8"},
      {FINE, "", "{\"unk_token\": \"<none>\"}", CLIPC_E_FORMAT, "no token for byte 0 and no unknown token"},
      {FINE, "", "{\"tokenizer_class\": \"BertTokenizer\"}", CLIPC_E_UNSUPPORTED, "tokenizer_class BertTokenizer"},
      {FINE, "", "{\"truncation_side\": \"left\"}", CLIPC_E_UNSUPPORTED, "truncation_side left"},
      {FINE, "", "{\"split_special_tokens\": true}", CLIPC_E_UNSUPPORTED, "split_special_tokens"},
      {FINE, "", "{\"pad_token\": 7}", CLIPC_E_FORMAT, "pad_token is not a token"},
      {FINE, "", "{\"bos_token\": \"<s>\"}", CLIPC_E_FORMAT, "has no token \"<s>\""},
      {FINE, "", "{\"added_tokens_decoder\": {\"x\": {\"content\": \"y\"}}}", CLIPC_E_FORMAT, "x is not a token"},
      {FINE, "", "{\"added_tokens_decoder\": [1]}", CLIPC_E_FORMAT, "added_tokens_decoder is not a token"},
      {FINE, "", "{", CLIPC_E_FORMAT, "tokenizer_config.json: is not a JSON object"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    struct folder folder = folder_make();
    if (cases[i].vocab) folder_text(&folder, "vocab.json", cases[i].vocab);
    if (cases[i].merges) folder_text(&folder, "merges.txt", cases[i].merges);
    if (cases[i].config) folder_text(&folder, "tokenizer_config.json", cases[i].config);
    struct clipc__tokenizer *tokenizer = (void *)&folder;
    struct clipc__tokenizer_options options = options_of(CLIPC__CLEAN_HF);
    clipc_error error = {0};
    clipc_status status = clipc__tokenizer_open(&tokenizer, folder.path, &options, &plain_allocator, &error);
    if (status != cases[i].status || strstr(error.message, cases[i].sentence) == NULL)
      fail_msg("case %zu gave %s: %s", i, clipc_status_name(status), error.message);
    assert_int_equal(error.status, status);
    assert_null(tokenizer);
    folder_remove(&folder);
  }
}

/* Each names a field of a sound tokenizer.json and what it becomes. */
static void test_other_tokenizers(void **state) {
  (void)state;
  static const struct {
    const char *object, *key, *value, *sentence;
    clipc_status status;
  } cases[] = {
      {NULL, "model", "[]", "has no model", CLIPC_E_FORMAT},
      {"model", "type", "\"WordPiece\"", "model.type is not what CLIP uses: WordPiece", CLIPC_E_UNSUPPORTED},
      {"model", "type", "\"Unigram\"", "model.type", CLIPC_E_UNSUPPORTED},
      {"model", "end_of_word_suffix", "null", "model.end_of_word_suffix", CLIPC_E_UNSUPPORTED},
      {"model", "continuing_subword_prefix", "\"##\"", "model.continuing_subword_prefix", CLIPC_E_UNSUPPORTED},
      {"model", "byte_fallback", "true", "model.byte_fallback", CLIPC_E_UNSUPPORTED},
      {"model", "dropout", "0.1", "model.dropout", CLIPC_E_UNSUPPORTED},
      {"model", "merges", "{}", "model.merges is not an array", CLIPC_E_FORMAT},
      {"model", "merges", "[[\"a\"]]", "merge 1 is not two tokens", CLIPC_E_FORMAT},
      {"model", "merges", "[\"a b c\"]", "merge 1 is not two tokens", CLIPC_E_FORMAT},
      {"model", "vocab", "[[\"a\", 0]]", "model.vocab is not an object", CLIPC_E_FORMAT},
      {NULL, "normalizer", "null", "normalizer", CLIPC_E_UNSUPPORTED},
      {NULL, "normalizer", "{\"type\": \"BertNormalizer\"}", "normalizer is not what CLIP uses: BertNormalizer",
       CLIPC_E_UNSUPPORTED},
      {NULL, "pre_tokenizer", "{\"type\": \"ByteLevel\", \"add_prefix_space\": true}", "pre_tokenizer.add_prefix_space",
       CLIPC_E_UNSUPPORTED},
      {NULL, "pre_tokenizer", "{\"type\": \"Whitespace\"}", "pre_tokenizer is not what CLIP uses: Whitespace",
       CLIPC_E_UNSUPPORTED},
      {NULL, "post_processor", "{\"type\": \"BertProcessing\"}", "post_processor", CLIPC_E_UNSUPPORTED},
      {NULL, "truncation", "{\"direction\": \"Left\"}", "truncation.direction", CLIPC_E_UNSUPPORTED},
      {NULL, "added_tokens", "{}", "added_tokens is not an array", CLIPC_E_FORMAT},
      {NULL, "added_tokens", "[{\"id\": 3}]", "an entry of added_tokens is not a token", CLIPC_E_FORMAT},
  };
  struct small *small = small_open(100);
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    cJSON *json = whole_template(), *at = json;
    whole_complete(json, small, true);
    if (cases[i].object) at = cJSON_GetObjectItem(json, cases[i].object);
    cJSON_DeleteItemFromObject(at, cases[i].key);
    cJSON_AddItemToObject(at, cases[i].key, cJSON_Parse(cases[i].value));
    struct folder folder = folder_make();
    folder_json(&folder, "tokenizer.json", json);
    cJSON_Delete(json);
    struct clipc__tokenizer *tokenizer;
    struct clipc__tokenizer_options options = options_of(CLIPC__CLEAN_HF);
    clipc_error error = {0};
    clipc_status status = clipc__tokenizer_open(&tokenizer, folder.path, &options, &plain_allocator, &error);
    if (status != cases[i].status || strstr(error.message, cases[i].sentence) == NULL)
      fail_msg("case %zu gave %s: %s", i, clipc_status_name(status), error.message);
    folder_remove(&folder);
  }
  small_close(small);
  struct folder folder = folder_make(); /* OpenAI's file as it is downloaded */
  folder_text(&folder, "bpe_simple_vocab_16e6.txt.gz", "\x1f\x8b");
  struct clipc__tokenizer *tokenizer;
  struct clipc__tokenizer_options options = options_of(CLIPC__CLEAN_LOWER);
  clipc_error error = {0};
  assert_int_equal(clipc__tokenizer_open(&tokenizer, folder.path, &options, &plain_allocator, &error),
                   CLIPC_E_UNSUPPORTED);
  assert_non_null(strstr(error.message, "gunzip"));
  folder_remove(&folder);
}

/* Damaged copies of sound files: anything may come of it but a crash or a leak. */
static void test_mutations(void **state) {
  (void)state;
  const char *given = getenv("CLIPC_SEED");
  unsigned seed = given ? (unsigned)strtoul(given, NULL, 10) : (unsigned)time(NULL);
  print_message("CLIPC_SEED=%u\n", seed);
  srand(seed);
  struct small *small = small_open(40);
  cJSON *json = whole_template(), *vocabulary = small_vocabulary(small);
  whole_complete(json, small, true);
  char *sound[4] = {
      cJSON_PrintUnformatted(json), cJSON_PrintUnformatted(vocabulary), strdup(small->text),
      strdup("{\"pad_token\": \"!\", \"added_tokens_decoder\": {\"3\": {\"content\": \"<x>\", \"lstrip\": true}}}")};
  static const char *const names[4] = {"tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json"};
  cJSON_Delete(json);
  cJSON_Delete(vocabulary);
  int n_opened = 0;
  for (int round = 0; round < 600; round++) {
    struct folder folder = folder_make();
    bool whole = rand() % 2;
    for (int i = whole ? 0 : 1; i < 4; i++) {
      if (whole && (i == 1 || i == 2)) continue;
      size_t n = strlen(sound[i]);
      char *copy = strdup(sound[i]);
      for (int k = rand() % 3; k > 0; k--) {
        size_t at = (size_t)rand() % n;
        if (rand() % 8 == 0)
          n = at + 1;
        else
          copy[at] = rand() % 2 ? (char)rand() : "\"\\{}[],:01-e. \n"[rand() % 15];
      }
      folder_write(&folder, names[i], copy, n);
      free(copy);
    }
    struct clipc__tokenizer *tokenizer;
    struct clipc__tokenizer_options options = options_of(rand() % 4 ? CLIPC__CLEAN_HF : CLIPC__CLEAN_LOWER);
    clipc_error error = {0};
    clipc_status status = clipc__tokenizer_open(&tokenizer, folder.path, &options, &plain_allocator, &error);
    assert_true(status == CLIPC_OK ? tokenizer != NULL : tokenizer == NULL && error.message[0] != '\0');
    if (tokenizer) {
      int32_t ids[CONTEXT];
      size_t n_ids;
      assert_int_equal(clipc__tokenize(tokenizer, ids, &n_ids, "The <x> photo!", 14, NULL), CLIPC_OK);
      n_opened++;
    }
    clipc__tokenizer_close(tokenizer);
    folder_remove(&folder);
  }
  print_message("%d of 600 damaged folders opened\n", n_opened);
  for (int i = 0; i < 4; i++) free(sound[i]);
  small_close(small);
}

/* ---- memory */

struct failing {
  long left; /* allocations until one fails; negative: none does */
  long live;
};

static void *failing_allocate(void *context, size_t n_bytes) {
  struct failing *failing = context;
  if (failing->left-- == 0) return NULL;
  failing->live++;
  return malloc(n_bytes);
}

static void failing_release(void *context, void *memory) {
  ((struct failing *)context)->live--;
  free(memory);
}

static void test_no_memory(void **state) {
  (void)state;
  static const char text[] =
      "Caf\xc3\xa9 it\xe2\x80\x99s &amp; sch\xc3\x83\xc2\xb6n <x> ! \xff e\xcc\x81\xcc\xa3 \xce\x91\xce\xa3";
  struct small *small = small_open(100);
  for (int kind = 0; kind < 3; kind++) {
    struct folder folder = folder_make();
    if (kind == 0) {
      cJSON *json = whole_template();
      whole_complete(json, small, false);
      folder_json(&folder, "tokenizer.json", json);
      cJSON_Delete(json);
    } else if (kind == 1) {
      folder_bare(&folder, small);
    } else {
      folder_text(&folder, "merges.txt", small->text);
    }
    folder_text(&folder, "tokenizer_config.json", "{\"pad_token\": \"!\"}");
    folder_text(&folder, "added_tokens.json", "{\"<x>\": 700}");
    for (int cleaning = 0; cleaning < 2; cleaning++) {
      struct clipc__tokenizer_options options = options_of((enum clipc__cleaning)cleaning);
      struct clipc__tokenizer *tokenizer = NULL;
      long n = 0;
      for (clipc_status status = CLIPC_E_NO_MEMORY; status != CLIPC_OK; n++) {
        struct failing failing = {n, 0};
        clipc_allocator allocator = {failing_allocate, failing_release, &failing};
        clipc_error error = {0};
        int32_t ids[CONTEXT] = {-5};
        size_t n_ids = 99;
        status = clipc__tokenizer_open(&tokenizer, folder.path, &options, &allocator, &error);
        if (status == CLIPC_OK) status = clipc__tokenize(tokenizer, ids, &n_ids, text, sizeof text - 1, &error);
        clipc__tokenizer_close(tokenizer);
        assert_int_equal(failing.live, 0);
        if (status == CLIPC_OK) break;
        assert_int_equal(status, CLIPC_E_NO_MEMORY);
        assert_int_equal(error.status, CLIPC_E_NO_MEMORY);
        assert_true(ids[0] == -5 && n_ids == 99);
      }
      assert_true(n > 10);
    }
    folder_remove(&folder);
  }
  small_close(small);
}

/* ---- lengths and limits */

static void test_limits(void **state) {
  (void)state;
  struct clipc__tokenizer *tokenizer;
  struct clipc__tokenizer_options options = options_of(CLIPC__CLEAN_HF);
  clipc_error error = {0};
  options.context_length = 1;
  assert_int_equal(clipc__tokenizer_open(&tokenizer, GOLDENS, &options, &plain_allocator, &error), CLIPC_E_INVALID);
  options.context_length = 2;
  options.max_text_bytes = 5;
  assert_int_equal(clipc__tokenizer_open(&tokenizer, GOLDENS, &options, &plain_allocator, NULL), CLIPC_OK);
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
  assert_int_equal(clipc__tokenizer_open(&tokenizer, GOLDENS, &options, &plain_allocator, &error), CLIPC_E_LIMIT);
}

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* A mebibyte of one word, of marks in the wrong order, of tokens, of anything: done in seconds even under a sanitizer.
 */
static void test_long_texts(void **state) {
  (void)state;
  static const char *const patterns[] = {
      "a",        "ab",   "\xcc\x81\xcc\xa3", "<|endoftext|>", "!", "\xce\xa3'", " ", "&", "&amp;",
      "\xc3\x83", "\xff", "\xe4\xb8\x80",     "<|endoftext|",  "'s"};
  enum { N = 1 << 20 };
  char *text = malloc(N);
  for (int cleaning = 0; cleaning < 2; cleaning++) {
    struct clipc__tokenizer *tokenizer = must_open(GOLDENS, (enum clipc__cleaning)cleaning);
    for (size_t p = 0; p < sizeof patterns / sizeof patterns[0]; p++) {
      size_t n_pattern = strlen(patterns[p]), n_ids;
      for (size_t i = 0; i < N; i++) text[i] = patterns[p][i % n_pattern];
      int32_t ids[CONTEXT];
      double start = seconds();
      assert_int_equal(clipc__tokenize(tokenizer, ids, &n_ids, text, N, NULL), CLIPC_OK);
      double taken = seconds() - start;
      if (taken > 1) print_message("%s, 1 MiB of \"%s\": %.1f s\n", cleaning_names[cleaning], patterns[p], taken);
      assert_true(taken < 60);
    }
    clipc__tokenizer_close(tokenizer);
  }
  free(text);
}

static void test_speed(void **state) {
  (void)state;
  static const char text[] = "A photo of 2 tabby cats, sleeping on a pink couch; it's not the dog's.";
  for (int cleaning = 0; cleaning < 2; cleaning++) {
    double start = seconds(), opened;
    struct clipc__tokenizer *tokenizer = must_open(GOLDENS, (enum clipc__cleaning)cleaning);
    opened = seconds();
    int32_t ids[CONTEXT];
    size_t n_ids = 0;
    for (int i = 0; i < 2000; i++) clipc__tokenize(tokenizer, ids, &n_ids, text, sizeof text - 1, NULL);
    double done = seconds();
    print_message("%s: opened in %.1f ms, %.1f us for a text of %zu ids\n", cleaning_names[cleaning],
                  (opened - start) * 1e3, (done - opened) / 2000 * 1e6, n_ids);
    clipc__tokenizer_close(tokenizer);
  }
}

/* ---- the other side of make_text.py --check */

static int encode_stdin(const char *folder, const char *cleaning) {
  int index = 0;
  while (index < N_CLEANINGS && strcmp(cleaning, cleaning_names[index]) != 0) index++;
  struct clipc__tokenizer_options options = options_of((enum clipc__cleaning)index);
  struct clipc__tokenizer *tokenizer;
  clipc_error error = {0};
  if (index == N_CLEANINGS ||
      clipc__tokenizer_open(&tokenizer, folder, &options, &plain_allocator, &error) != CLIPC_OK) {
    fprintf(stderr, "%s\n", index == N_CLEANINGS ? "no such cleaning" : error.message);
    return 2;
  }
  uint32_t n_bytes;
  while (fread(&n_bytes, sizeof n_bytes, 1, stdin) == 1) {
    char *text = malloc(n_bytes + 1u);
    int32_t ids[CONTEXT];
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
      cmocka_unit_test(test_golden_strings), cmocka_unit_test(test_fuzz_strings),
      cmocka_unit_test(test_folders),        cmocka_unit_test(test_vocabulary_files),
      cmocka_unit_test(test_missing_bytes),  cmocka_unit_test(test_merge_order),
      cmocka_unit_test(test_broken_files),   cmocka_unit_test(test_other_tokenizers),
      cmocka_unit_test(test_mutations),      cmocka_unit_test(test_no_memory),
      cmocka_unit_test(test_limits),         cmocka_unit_test(test_long_texts),
      cmocka_unit_test(test_speed),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
