/* The goldens of whole models (tests/goldens/models/<model>/golden.txt) and what tests do with them. */
#ifndef CLIPC_TESTS_GOLDEN_H
#define CLIPC_TESTS_GOLDEN_H

#include "synthetic.h"

#define TOLERANCE 1e-5 /* between normalised vectors */
#define MOST_CASES 32
#define COUNT(array) (sizeof(array) / sizeof *(array))

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

bool golden_read(struct golden *golden, const char *model); /* false with a sentence on stderr */
void golden_free(struct golden *golden);

/* These fail the running test when they cannot. */
struct golden load_golden(const char *name);
char *make_folder(const char *name, const struct synthetic_change *change);
clipc_model *open_model(const char *folder, const clipc_options *options);
clipc_session *open_session(clipc_model *model, int max_batch, int raw);

/* Largest difference of the normalised vectors; NaN when there is one. */
double difference(const float *vector, const float *expected, size_t n);

/* Inputs of one tower in the order of the golden's cases, all embedded by one call. */
struct inputs {
  size_t n, cases[MOST_CASES];
  clipc_image images[MOST_CASES];
  clipc_text texts[MOST_CASES];
  void *memory[MOST_CASES];
};

/* The golden's pixels and ids (tower), and its pictures and texts of this reference. */
struct inputs *gather(const struct golden *golden, int tower, clipc_reference reference);
void inputs_free(struct inputs *in);

/* The vectors of all inputs of a tower by one call, [n, dimension]; to be freed. */
float *embed(clipc_session *session, const struct inputs *in, int tower, size_t dimension);

/* Opens the folder and embeds everything that gather gives for the towers that are open: the largest difference to the
 * goldens. *n_compared (may be NULL) is added to. */
double compare(const struct golden *golden, const char *folder, const clipc_options *options, int max_batch,
               size_t *n_compared);

#endif
