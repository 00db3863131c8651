/* Computing a list of inputs in pieces of bounded size. */
#ifndef CLIPC_CLI_BATCH_H
#define CLIPC_CLI_BATCH_H

#include "cli/inputs.h"

struct cli_batch {
  clipc_session *session;
  size_t most, dimension;
  float *embeddings;   /* [most, dimension] */
  clipc_error *errors; /* [most]; CLIPC_OK where the row holds a finite embedding */
  clipc_image *images; /* [most] */
  clipc_text *texts;   /* [most] */
};

/* Opens a session for pieces of at most `most` items; complains and returns false when it cannot. */
bool cli_batch_open(struct cli_batch *batch, clipc_model *model, size_t most, bool raw);

/* Computes inputs from `first` on, as many as are of one kind and fit; returns how many, at least 1.
 * embeddings and errors are those of these inputs. */
size_t cli_batch_run(struct cli_batch *batch, const struct cli_inputs *inputs, size_t first);

/* A line on stderr that names the input and what befell it. */
void cli_complain_of(const struct cli_input *input, const clipc_error *error);
void cli_complain_of_image(const char *path, const clipc_error *error);

/* The exit code after one more failed item: what the model lacks fails every item alike. */
int cli_code_after(int code, const clipc_error *error);

void cli_batch_close(struct cli_batch *batch);

#endif
