/* See configs.h. */
#include "configs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const clipc_options default_options = {.limits = {.max_header_bytes = 100000000, .max_config_bytes = 64 << 20}};

cJSON *config_golden_rows(const char *name) {
  char path[128];
  snprintf(path, sizeof path, "tests/goldens/weights/%s", name);
  char *text = test_read_file(path, NULL), *rest = text;
  cJSON *rows = cJSON_CreateArray();
  while (rest && *rest) {
    cJSON *row = cJSON_Parse(strsep(&rest, "\n"));
    assert_non_null(row);
    cJSON_AddItemToArray(rows, row);
  }
  free(text);
  return rows;
}

const cJSON *json_at(const cJSON *object, const char *key) { return cJSON_GetObjectItemCaseSensitive(object, key); }

clipc_status config_read(struct clipc__config *config, clipc_reference reference, int towers, clipc_error *error) {
  clipc_options options = default_options;
  options.reference = reference;
  options.towers = towers;
  memset(error, 0, sizeof *error);
  clipc_status status = clipc__config_read(config, &(struct clipc__store){.path = test_folder}, &options, error);
  assert_int_equal(error->status, status);
  return status;
}

void check_refusals(const char *file, const struct refusal *cases, size_t n) {
  for (size_t i = 0; i < n; i++) {
    struct clipc__config config;
    clipc_error error;
    memset(&config, 0x5A, sizeof config);
    test_folder_put_text(file, cases[i].config);
    clipc_status status = config_read(&config, CLIPC_REFERENCE_AUTO, 0, &error);
    if (status != cases[i].status || !strstr(error.message, cases[i].said) || !strstr(error.message, file))
      fail_msg("%s: %s: %s", cases[i].config, clipc_status_name(status), error.message);
    for (size_t j = 0; j < sizeof config; j++) assert_int_equal(((unsigned char *)&config)[j], 0x5A); /* untouched */
  }
  test_folder_empty();
}

uint8_t *safetensors_pack(const char *header, const void *data, size_t n_data, size_t *n_bytes) {
  uint64_t n_header = strlen(header);
  uint8_t *file = malloc(8 + n_header + n_data);
  assert_non_null(file);
  memcpy(file, &n_header, 8);
  memcpy(file + 8, header, n_header);
  if (n_data) memcpy(file + 8 + n_header, data, n_data);
  *n_bytes = 8 + n_header + n_data;
  return file;
}

void safetensors_put(const char *name, const char *header, const void *data, size_t n_data) {
  size_t n;
  uint8_t *file = safetensors_pack(header, data, n_data, &n);
  test_folder_put(name, file, n);
  free(file);
}
