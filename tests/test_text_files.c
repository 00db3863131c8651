/* The files of tokenisers: vocabularies of every kind, broken and damaged ones, failing memory. */
#include "tokenizers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- vocabularies */

static void test_vocabulary_files(void **state) {
  (void)state;
  struct merges *few = merges_open(300);
  few->text[0] = '"'; /* OpenAI's header is another, and is skipped whatever it says */
  test_folder_put_text("bpe_simple_vocab_16e6.txt", few->text);
  few->text[0] = '#';
  for (int kind = 0; kind < 3; kind++) { /* OpenAI's list, merges.txt alone, both Hugging Face files */
    if (kind == 1) {
      test_folder_drop("bpe_simple_vocab_16e6.txt");
      test_folder_put_text("merges.txt", few->text);
    }
    if (kind == 2) merges_put_files(few);
    for (int cleaning = 0; cleaning < N_CLEANINGS; cleaning++) {
      struct clipc__tokenizer *tokenizer = tokenizer_must_open(test_folder, (enum clipc__cleaning)cleaning);
      int32_t ids[TEXT_CONTEXT];
      size_t n_ids;
      assert_int_equal(clipc__tokenize(tokenizer, ids, &n_ids, "the", 3, NULL), CLIPC_OK);
      int32_t the = 512; /* "th" + "e</w>": the id is that of the merge's place */
      for (size_t i = 0; i < few->n; i++)
        if (strcmp(few->left[i], "th") == 0 && strcmp(few->right[i], "e</w>") == 0) the = 512 + (int32_t)i;
      assert_int_equal(n_ids, 3);
      assert_int_equal(ids[0], 812);
      assert_int_equal(ids[1], the);
      assert_int_equal(ids[2], 813);
      clipc__tokenizer_close(tokenizer);
    }
  }
  test_folder_empty();
  merges_close(few);
}

/* A vocabulary without some bytes: transformers says the unknown token, open_clip has no answer. */
static void test_missing_bytes(void **state) {
  (void)state;
  test_folder_put_text("vocab.json", "{\"a\": 0, \"b\": 1, \"a</w>\": 2, \"b</w>\": 3, \"ab</w>\": 4,"
                                     " \"<|startoftext|>\": 7, \"<|endoftext|>\": 9}");
  test_folder_put_text("merges.txt", "#version: 0.2\na b</w>\n");
  struct clipc__tokenizer *tokenizer = tokenizer_must_open(test_folder, CLIPC__CLEAN_HF);
  int32_t ids[TEXT_CONTEXT], wanted[] = {7, 4, 9, 9, 0, 9, 9};
  size_t n_ids;
  assert_int_equal(clipc__tokenize(tokenizer, ids, &n_ids, "ab xy ay", 8, NULL), CLIPC_OK);
  assert_int_equal(n_ids, 7);
  assert_memory_equal(ids, wanted, sizeof wanted);
  clipc__tokenizer_close(tokenizer);
  clipc_error error = {0};
  assert_int_equal(tokenizer_open(&tokenizer, test_folder, CLIPC__CLEAN_LOWER, NULL, &error), CLIPC_E_FORMAT);
  assert_null(tokenizer);
  assert_non_null(strstr(error.message, "no token for byte 0"));
  test_folder_empty();
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
      {"{\"a\": 0, \"aa\": 1}", "a a\n", NULL, CLIPC_E_UNSUPPORTED, "no token ends in \"</w>\""},
      {"{\"a</w>\": 0, \"a\": 2, \"aa</w>\": 3}", "a a</w>\n", NULL, CLIPC_E_FORMAT,
       "has no token \"<|startoftext|>\""},
      {"{\"a</w>\": 0, \"<|startoftext|>\": 1, \"a\": 2, \"aa</w>\": 3}", "a a</w>\n", NULL, CLIPC_E_FORMAT,
       "has no token \"<|endoftext|>\""},
      {FINE, "", NULL, CLIPC_E_FORMAT, "merges.txt: holds no merges"},
      {FINE, "#version: 0.2\n", NULL, CLIPC_E_FORMAT, "merges.txt: holds no merges"},
      {FINE, "#version: 0.2\na a</w>\naa\n", NULL, CLIPC_E_FORMAT, "merges.txt: line 3 is not two tokens"},
      {FINE, "a a</w> a\n", NULL, CLIPC_E_FORMAT, "merges.txt: line 1 is not two tokens"},
      {FINE, "a a</w>\n\na a</w>\n", NULL, CLIPC_E_FORMAT, "merges.txt: line 2 is not two tokens"},
      {FINE, "a q\n", NULL, CLIPC_E_FORMAT, "merges.txt: merge 1 uses the unknown token \"q\""},
      {FINE, "a a</w>\na a\n", NULL, CLIPC_E_FORMAT, "merges.txt: merge 2 makes the unknown token \"aa\""},
      {FINE, "a \xff\n", NULL, CLIPC_E_FORMAT, "merges.txt: is not UTF-8"},
      {FINE, "a a</w>\n", "{\"unk_token\": \"<none>\"}", CLIPC_E_FORMAT, "no token for byte 0 and no unknown token"},
      {FINE, "a a</w>\n", "{\"tokenizer_class\": \"BertTokenizer\"}", CLIPC_E_UNSUPPORTED,
       "tokenizer_class BertTokenizer"},
      {FINE, "a a</w>\n", "{\"tokenizer_class\": \"CLIPTokenizer\", \"tokenizer_class\": \"BertTokenizer\"}",
       CLIPC_E_UNSUPPORTED, "tokenizer_class BertTokenizer"}, /* the last one counts, as in Python */
      {FINE, "a a</w>\n", "{\"truncation_side\": \"left\"}", CLIPC_E_UNSUPPORTED, "truncation_side left"},
      {FINE, "a a</w>\n", "{\"split_special_tokens\": true}", CLIPC_E_UNSUPPORTED, "split_special_tokens"},
      {FINE, "a a</w>\n", "{\"pad_token\": 7}", CLIPC_E_FORMAT, "pad_token is not a token"},
      {FINE, "a a</w>\n", "{\"bos_token\": \"<s>\"}", CLIPC_E_FORMAT, "has no token \"<s>\""},
      {FINE, "a a</w>\n", "{\"added_tokens_decoder\": {\"x\": {\"content\": \"y\"}}}", CLIPC_E_FORMAT,
       "x is not a token"},
      {FINE, "a a</w>\n", "{\"added_tokens_decoder\": [1]}", CLIPC_E_FORMAT, "added_tokens_decoder is not a token"},
      {FINE, "a a</w>\n", "{", CLIPC_E_FORMAT, "tokenizer_config.json: is not a JSON object"},
  };
  for (size_t i = 0; i < COUNT(cases); i++) {
    if (cases[i].vocab) test_folder_put_text("vocab.json", cases[i].vocab);
    if (cases[i].merges) test_folder_put_text("merges.txt", cases[i].merges);
    if (cases[i].config) test_folder_put_text("tokenizer_config.json", cases[i].config);
    struct clipc__tokenizer *tokenizer = (void *)test_folder; /* not NULL */
    clipc_error error = {0};
    clipc_status status = tokenizer_open(&tokenizer, test_folder, CLIPC__CLEAN_HF, NULL, &error);
    if (status != cases[i].status || strstr(error.message, cases[i].sentence) == NULL)
      fail_msg("case %zu gave %s: %s", i, clipc_status_name(status), error.message);
    assert_int_equal(error.status, status);
    assert_null(tokenizer);
    test_folder_empty();
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
  struct merges *few = merges_open(100);
  for (size_t i = 0; i < COUNT(cases); i++) {
    cJSON *json = whole_tokenizer(), *at = json;
    whole_tokenizer_complete(json, few, true);
    if (cases[i].object) at = cJSON_GetObjectItem(json, cases[i].object);
    cJSON_DeleteItemFromObject(at, cases[i].key);
    cJSON_AddItemToObject(at, cases[i].key, cJSON_Parse(cases[i].value));
    test_folder_put_json("tokenizer.json", json);
    cJSON_Delete(json);
    struct clipc__tokenizer *tokenizer;
    clipc_error error = {0};
    clipc_status status = tokenizer_open(&tokenizer, test_folder, CLIPC__CLEAN_HF, NULL, &error);
    if (status != cases[i].status || strstr(error.message, cases[i].sentence) == NULL)
      fail_msg("case %zu gave %s: %s", i, clipc_status_name(status), error.message);
    test_folder_empty();
  }
  merges_close(few);
  /* OpenAI's file as it is downloaded */
  test_folder_put_text("bpe_simple_vocab_16e6.txt.gz", "\x1f\x8b");
  struct clipc__tokenizer *tokenizer;
  clipc_error error = {0};
  assert_int_equal(tokenizer_open(&tokenizer, test_folder, CLIPC__CLEAN_LOWER, NULL, &error), CLIPC_E_UNSUPPORTED);
  assert_non_null(strstr(error.message, "gunzip"));
  test_folder_empty();
}

/* Damaged copies of sound files: anything may come of it but a crash or a leak. */
static void test_mutations(void **state) {
  (void)state;
  random_start(0);
  struct merges *few = merges_open(40);
  cJSON *json = whole_tokenizer(), *vocabulary = merges_vocabulary(few);
  whole_tokenizer_complete(json, few, true);
  char *sound[4] = {
      cJSON_PrintUnformatted(json), cJSON_PrintUnformatted(vocabulary), strdup(few->text),
      strdup("{\"pad_token\": \"!\", \"added_tokens_decoder\": {\"3\": {\"content\": \"<x>\", \"lstrip\": true}}}")};
  static const char *const names[4] = {"tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json"};
  cJSON_Delete(json);
  cJSON_Delete(vocabulary);
  int n_opened = 0;
  for (int round = 0; round < 600; round++) {
    bool whole = random_below(2);
    for (int i = whole ? 0 : 1; i < 4; i++) {
      if (whole && (i == 1 || i == 2)) continue;
      size_t n = strlen(sound[i]);
      char *copy = strdup(sound[i]);
      for (uint32_t k = random_below(3); k > 0; k--) {
        size_t at = random_below((uint32_t)n);
        if (random_below(8) == 0)
          n = at + 1;
        else
          copy[at] = random_below(2) ? (char)random_bits() : "\"\\{}[],:01-e. \n"[random_below(15)];
      }
      test_folder_put(names[i], copy, n);
      free(copy);
    }
    struct clipc__tokenizer *tokenizer;
    clipc_error error = {0};
    clipc_status status =
        tokenizer_open(&tokenizer, test_folder, random_below(4) ? CLIPC__CLEAN_HF : CLIPC__CLEAN_LOWER, NULL, &error);
    assert_true(status == CLIPC_OK ? tokenizer != NULL : tokenizer == NULL && error.message[0] != '\0');
    if (tokenizer) {
      int32_t ids[TEXT_CONTEXT];
      size_t n_ids;
      assert_int_equal(clipc__tokenize(tokenizer, ids, &n_ids, "The <x> photo!", 14, NULL), CLIPC_OK);
      n_opened++;
    }
    clipc__tokenizer_close(tokenizer);
    test_folder_empty();
  }
  print_message("%d of 600 damaged folders opened\n", n_opened);
  assert_true(n_opened > 20 && n_opened < 600);
  for (int i = 0; i < 4; i++) free(sound[i]);
  merges_close(few);
}

/* ---- memory */

static void test_no_memory(void **state) {
  (void)state;
  static const char text[] =
      "Caf\xc3\xa9 it\xe2\x80\x99s &amp; sch\xc3\x83\xc2\xb6n <x> ! \xff e\xcc\x81\xcc\xa3 \xce\x91\xce\xa3";
  struct merges *few = merges_open(100);
  for (int kind = 0; kind < 3; kind++) {
    if (kind == 0) {
      cJSON *json = whole_tokenizer();
      whole_tokenizer_complete(json, few, false);
      test_folder_put_json("tokenizer.json", json);
      cJSON_Delete(json);
    } else if (kind == 1) {
      merges_put_files(few);
    } else {
      test_folder_put_text("merges.txt", few->text);
    }
    test_folder_put_text("tokenizer_config.json", "{\"pad_token\": \"!\"}");
    test_folder_put_text("added_tokens.json", "{\"<x>\": 700}");
    for (int cleaning = 0; cleaning < 2; cleaning++) {
      struct clipc__tokenizer *tokenizer = NULL;
      size_t n = 1;
      for (clipc_status status = CLIPC_E_NO_MEMORY; status != CLIPC_OK; n++) {
        struct test_memory memory = {.fail_at = n};
        clipc_allocator allocator = test_allocator(&memory);
        clipc_error error = {0};
        int32_t ids[TEXT_CONTEXT] = {-5};
        size_t n_ids = 99;
        status = tokenizer_open(&tokenizer, test_folder, (enum clipc__cleaning)cleaning, &allocator, &error);
        if (status == CLIPC_OK) status = clipc__tokenize(tokenizer, ids, &n_ids, text, sizeof text - 1, &error);
        clipc__tokenizer_close(tokenizer);
        assert_int_equal(memory.n_live, 0);
        if (status == CLIPC_OK) break;
        assert_int_equal(status, CLIPC_E_NO_MEMORY);
        assert_int_equal(error.status, CLIPC_E_NO_MEMORY);
        assert_true(ids[0] == -5 && n_ids == 99);
      }
      assert_true(n > 10);
    }
    test_folder_empty();
  }
  merges_close(few);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_vocabulary_files), cmocka_unit_test(test_missing_bytes),
      cmocka_unit_test(test_broken_files),     cmocka_unit_test(test_other_tokenizers),
      cmocka_unit_test(test_mutations),        cmocka_unit_test(test_no_memory),
  };
  return cmocka_run_group_tests_name("text_files", tests, test_folder_make, test_folder_remove);
}
