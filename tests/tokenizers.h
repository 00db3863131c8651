/* What the tests of tokenisers share: opening one, and the vocabulary of the first merges as files of each kind. */
#ifndef CLIPC_TESTS_TOKENIZERS_H
#define CLIPC_TESTS_TOKENIZERS_H

#include "testing.h"
#include "text/tokenizer.h"

#include <cjson/cJSON.h>

#define TEXT_GOLDENS "tests/goldens/text/"
#define TEXT_CONTEXT 77

enum { N_CLEANINGS = 4 };
extern const char *const cleaning_names[N_CLEANINGS]; /* in the order of enum clipc__cleaning */

/* Opens with TEXT_CONTEXT and ample limits. */
clipc_status tokenizer_open(struct clipc__tokenizer **out, const char *folder, enum clipc__cleaning cleaning,
                            const clipc_allocator *allocator, clipc_error *error);
struct clipc__tokenizer *tokenizer_must_open(const char *folder, enum clipc__cleaning cleaning);
struct clipc__tokenizer_options tokenizer_options(enum clipc__cleaning cleaning);

/* The first merges of the real vocabulary. */
struct merges {
  char *text; /* merges.txt of these */
  char *left[1024], *right[1024];
  size_t n;
};
struct merges *merges_open(size_t n);
void merges_close(struct merges *few);
cJSON *merges_vocabulary(const struct merges *few); /* vocab.json: bytes, merges, start and end token */
void merges_put_files(const struct merges *few);    /* vocab.json and merges.txt to the tests' folder */
cJSON *whole_tokenizer(void);                       /* a tokenizer.json of the goldens, without a vocabulary */
void whole_tokenizer_complete(cJSON *json, const struct merges *few, bool pairs);

#endif
