/* What the tests of the weights room share: crafted folders, goldens, reading with a reference, tables of refusals. */
#ifndef CLIPC_TESTS_CONFIGS_H
#define CLIPC_TESTS_CONFIGS_H

#include "testing.h"
#include "weights/weights.h"

#include <cjson/cJSON.h>

extern const clipc_options default_options;

cJSON *config_golden_rows(const char *name);                /* tests/goldens/weights/name, an array; cJSON_Delete it */
const cJSON *json_at(const cJSON *object, const char *key); /* NULL when there is none */

/* Reads the configuration of the tests' folder. */
clipc_status config_read(struct clipc__config *config, clipc_reference reference, int towers, clipc_error *error);

struct refusal {
  const char *config;
  clipc_status status;
  const char *said; /* part of the sentence */
};

/* Each config, written to file, is refused so, the file is named, and the output stays untouched. */
void check_refusals(const char *file, const struct refusal *cases, size_t n);

/* A safetensors file of this header; to be freed, or in the tests' folder. */
uint8_t *safetensors_pack(const char *header, const void *data, size_t n_data, size_t *n_bytes);
void safetensors_put(const char *name, const char *header, const void *data, size_t n_data);

#endif
