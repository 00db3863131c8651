/* Where results go: stdout, or a file that appears under its name only when it is whole. */
#ifndef CLIPC_CLI_OUTPUT_H
#define CLIPC_CLI_OUTPUT_H

#include "cli/cli.h"

#include <stdio.h>

struct cli_output {
  FILE *stream;
  const char *name; /* for complaints */
  char *target;     /* the file that the temporary one is to become; NULL when written in place */
  int error;        /* errno of the first write that failed */
  bool terminal;    /* stdout is a terminal that understands control sequences */
};

/* Opens path, or stdout for NULL and "-"; complains and returns false when it cannot. A regular file is
 * written beside its final place. */
bool cli_output_open(struct cli_output *output, const char *path);

void cli_write(struct cli_output *output, const void *data, size_t n_bytes);
void cli_print(struct cli_output *output, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Hands on what is buffered; false when a write has failed so far. */
bool cli_flush(struct cli_output *output);

/* Closes. keep: the file takes its final name if all of it could be written; otherwise it is removed.
 * Returns false, with a complaint, when something could not be written. */
bool cli_output_close(struct cli_output *output, bool keep);

/* Removes the temporary file, if there is one; for exits out of the middle. */
void cli_output_abandon(void);

#endif
