/* What the programs of this folder share: their options, a model or a shape, inputs, and one run of a tower. */
#ifndef CLIPC_BENCH_SETUP_H
#define CLIPC_BENCH_SETUP_H

#include "model/model.h"

struct setup {
  const char *shape, *folder; /* one of the two */
  bool text;
  size_t tokens;
  double seconds;
  clipc_options options;
  int precisions[3], n_precisions;
  size_t batches[8];
  int n_batches;
  /* made by setup_open for one precision and batch */
  clipc_model *model;
  clipc_session *session;
  size_t batch;
  clipc_image *images;
  clipc_text *texts;
  float *pixels, *embeddings;
  int32_t *ids;
};

extern const char *const setup_precisions[3];

/* Reads the command line; help and complaints end the program. about: the first lines of the help. */
void setup_parse(struct setup *setup, int argc, char **argv, const char *about);

/* Opens the model, a session and inputs; a failure ends the program. */
void setup_open(struct setup *setup, int precision, size_t batch);
void setup_close(struct setup *setup);

/* The whole tower once, on the whole batch. */
void setup_run(struct setup *setup);

double setup_ms(void);
double setup_random(void);          /* near a normal distribution */
void *setup_memory(size_t n_bytes); /* aligned to 64, zeroed; free it */

#endif
