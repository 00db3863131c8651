/* What the tests of configurations share: goldens, reading with a reference, tables of refusals. */
#ifndef CLIPC_TESTS_CONFIGS_H
#define CLIPC_TESTS_CONFIGS_H

#include "folder.h"
#include "weights/weights.h"

#include <cjson/cJSON.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

extern const clipc_options default_options;

void drop_all(void);                                   /* every file a configuration is read from */
void put_json(const char *name, const cJSON *json);    /* to the folder */
cJSON *golden_rows(const char *name);                  /* tests/goldens/weights/name, an array; cJSON_Delete it */
const cJSON *at(const cJSON *object, const char *key); /* NULL when there is none */
clipc_status read_config(struct clipc__config *config, clipc_reference reference, int towers, clipc_error *error);

struct refusal {
  const char *config;
  clipc_status status;
  const char *said; /* part of the sentence */
};

/* Each config, written to file, is refused so, the file is named, and the output stays untouched. */
void check_refusals(const char *file, const struct refusal *cases, size_t n);

#endif
