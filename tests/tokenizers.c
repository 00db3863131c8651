/* See tokenizers.h. */
#include "tokenizers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const cleaning_names[N_CLEANINGS] = {"hf", "lower", "whitespace", "canonicalize"};

static const clipc_allocator plain_allocator;

struct clipc__tokenizer_options tokenizer_options(enum clipc__cleaning cleaning) {
  return (struct clipc__tokenizer_options){cleaning, TEXT_CONTEXT, 1 << 20, 64 << 20};
}

clipc_status tokenizer_open(struct clipc__tokenizer **out, const char *folder, enum clipc__cleaning cleaning,
                            const clipc_allocator *allocator, clipc_error *error) {
  struct clipc__tokenizer_options options = tokenizer_options(cleaning);
  return clipc__tokenizer_open(out, &(struct clipc__store){.path = folder}, &options,
                               allocator ? allocator : &plain_allocator, error);
}

struct clipc__tokenizer *tokenizer_must_open(const char *folder, enum clipc__cleaning cleaning) {
  struct clipc__tokenizer *tokenizer;
  clipc_error error = {0};
  if (tokenizer_open(&tokenizer, folder, cleaning, NULL, &error) != CLIPC_OK) fail_msg("%s", error.message);
  return tokenizer;
}

struct merges *merges_open(size_t n) {
  struct merges *few = calloc(1, sizeof *few);
  few->text = test_read_file(TEXT_GOLDENS "merges.txt", NULL);
  char *line = strchr(few->text, '\n') + 1;
  for (; few->n < n; few->n++) {
    char *space = strchr(line, ' '), *end = strchr(space, '\n');
    few->left[few->n] = strndup(line, (size_t)(space - line));
    few->right[few->n] = strndup(space + 1, (size_t)(end - space - 1));
    line = end + 1;
  }
  *line = '\0';
  return few;
}

void merges_close(struct merges *few) {
  for (size_t i = 0; i < few->n; i++) {
    free(few->left[i]);
    free(few->right[i]);
  }
  free(few->text);
  free(few);
}

cJSON *merges_vocabulary(const struct merges *few) {
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
  for (size_t i = 0; i < few->n; i++) {
    snprintf(name, sizeof name, "%s%s", few->left[i], few->right[i]);
    cJSON_AddNumberToObject(vocabulary, name, 512 + (double)i);
  }
  cJSON_AddNumberToObject(vocabulary, "<|startoftext|>", 512 + (double)few->n);
  cJSON_AddNumberToObject(vocabulary, "<|endoftext|>", 513 + (double)few->n);
  return vocabulary;
}

static cJSON *merges_list(const struct merges *few, bool pairs) {
  cJSON *merges = cJSON_CreateArray();
  char text[512];
  for (size_t i = 0; i < few->n; i++) {
    const char *pair[2] = {few->left[i], few->right[i]};
    snprintf(text, sizeof text, "%s %s", pair[0], pair[1]);
    cJSON_AddItemToArray(merges, pairs ? cJSON_CreateStringArray(pair, 2) : cJSON_CreateString(text));
  }
  return merges;
}

void merges_put_files(const struct merges *few) {
  cJSON *vocabulary = merges_vocabulary(few);
  test_folder_put_json("vocab.json", vocabulary);
  cJSON_Delete(vocabulary);
  test_folder_put_text("merges.txt", few->text);
}

cJSON *whole_tokenizer(void) {
  char *text = test_read_file(TEXT_GOLDENS "folders.json", NULL);
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

void whole_tokenizer_complete(cJSON *json, const struct merges *few, bool pairs) {
  cJSON *model = cJSON_GetObjectItem(json, "model");
  cJSON_AddItemToObject(model, "vocab", merges_vocabulary(few));
  cJSON_AddItemToObject(model, "merges", merges_list(few, pairs));
}
