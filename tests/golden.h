/* The goldens of whole models (tests/goldens/models/<model>/golden.txt) and what tests do with them. */
#ifndef CLIPC_TESTS_GOLDEN_H
#define CLIPC_TESTS_GOLDEN_H

#include "synthetic.h"
#include "testing.h"

#define GOLDEN_TOLERANCE 1e-5 /* between normalised vectors */
#define GOLDEN_MOST_CASES 32

enum golden_kind { GOLDEN_PIXELS, GOLDEN_RGB, GOLDEN_IDS, GOLDEN_TEXT };

struct golden_case {
  enum golden_kind kind;
  int which;                 /* PIXELS */
  int width, height;         /* RGB */
  clipc_reference reference; /* RGB, TEXT: else AUTO */
  int32_t *ids;              /* IDS */
  size_t n_ids;
  char *text;      /* TEXT */
  float *expected; /* [dimension], not normalised */
};

struct golden {
  size_t dimension;
  int height, width; /* 0 without an image tower */
  float logit_scale, logit_bias;
  size_t n_cases;
  struct golden_case *cases;
};

/* Those of one model. What cannot be done here and below fails the running test. */
struct golden golden_load(const char *name);
void golden_free(struct golden *golden);

clipc_model *golden_open_model(const char *folder, const clipc_options *options);
clipc_session *golden_open_session(clipc_model *model, int max_batch, int raw);

/* Largest difference of the normalised vectors; NaN when there is one. */
double vector_difference(const float *vector, const float *expected, size_t n);

/* Inputs of one tower in the order of the golden's cases, all embedded by one call. */
struct golden_inputs {
  size_t n, cases[GOLDEN_MOST_CASES];
  clipc_image images[GOLDEN_MOST_CASES];
  clipc_text texts[GOLDEN_MOST_CASES];
  void *memory[GOLDEN_MOST_CASES];
};

/* The golden's pixels and ids (tower), and its pictures and texts of this reference. */
struct golden_inputs *golden_gather(const struct golden *golden, int tower, clipc_reference reference);
void golden_inputs_free(struct golden_inputs *in);

/* The vectors of all inputs of a tower by one call, [n, dimension]; to be freed. */
float *golden_embed(clipc_session *session, const struct golden_inputs *in, int tower, size_t dimension);

/* Opens the folder and embeds everything that gather gives for the towers that are open: the largest difference to the
 * goldens. *n_compared (may be NULL) is added to. */
double golden_compare(const struct golden *golden, const char *folder, const clipc_options *options, int max_batch,
                      size_t *n_compared);

#endif
