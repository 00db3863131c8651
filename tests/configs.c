/* What the tests of configurations share. */
#include "configs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const clipc_options default_options = {.limits = {.max_header_bytes = 100000000, .max_config_bytes = 64 << 20}};

void drop_all(void) {
  static const char *const names[] = {"config.json",
                                      "open_clip_config.json",
                                      "preprocessor_config.json",
                                      "processor_config.json",
                                      "model.safetensors",
                                      "open_clip_model.safetensors",
                                      "model.safetensors.index.json",
                                      "open_clip_pytorch_model.safetensors"};
  for (size_t i = 0; i < COUNT(names); i++) folder_drop(names[i]);
}

void put_json(const char *name, const cJSON *json) {
  char *text = cJSON_PrintUnformatted(json);
  assert_non_null(text);
  folder_put_text(name, text);
  free(text);
}

/* The rows of a golden, as an array. */
cJSON *golden_rows(const char *name) {
  char path[128];
  snprintf(path, sizeof path, "tests/goldens/weights/%s", name);
  FILE *file = fopen(path, "rb");
  assert_non_null(file);
  cJSON *rows = cJSON_CreateArray();
  size_t capacity = 1 << 20;
  char *line = malloc(capacity);
  assert_non_null(line);
  while (fgets(line, (int)capacity, file)) {
    cJSON *row = cJSON_Parse(line);
    assert_non_null(row);
    cJSON_AddItemToArray(rows, row);
  }
  free(line);
  fclose(file);
  return rows;
}

const cJSON *at(const cJSON *object, const char *key) {
  return cJSON_GetObjectItemCaseSensitive(object, key);
}

clipc_status read_config(struct clipc__config *config, clipc_reference reference, int towers, clipc_error *error) {
  clipc_options options = default_options;
  options.reference = reference;
  options.towers = towers;
  memset(error, 0, sizeof *error);
  clipc_status status = clipc__config_read(config, folder, &options, error);
  assert_int_equal(error->status, status);
  return status;
}

void check_refusals(const char *file, const struct refusal *cases, size_t n) {
  for (size_t i = 0; i < n; i++) {
    struct clipc__config config;
    clipc_error error;
    memset(&config, 0x5A, sizeof config);
    folder_put_text(file, cases[i].config);
    clipc_status status = read_config(&config, CLIPC_REFERENCE_AUTO, 0, &error);
    if (status != cases[i].status || !strstr(error.message, cases[i].said) || !strstr(error.message, file))
      fail_msg("%s: %s: %s", cases[i].config, clipc_status_name(status), error.message);
    for (size_t j = 0; j < sizeof config; j++) assert_int_equal(((unsigned char *)&config)[j], 0x5A); /* untouched */
  }
  drop_all();
}
