/* Vectors out of files that clipc embed wrote, one after the other. */
#ifndef CLIPC_CLI_VECTORS_H
#define CLIPC_CLI_VECTORS_H

#include "cli/cli.h"

#include <stdio.h>

struct cli_vectors {
  const char *path;
  FILE *file;
  bool is_array;
  size_t row, n_rows; /* row: of the vector that was read, from 0; n_rows: of an array */
  char *line;         /* of jsonl */
  size_t capacity, vector_capacity;
  /* the vector that was read */
  char fingerprint[CLIPC_FINGERPRINT_BYTES]; /* "": none is said */
  char *input;                               /* what it is of; "row 12" of an array */
  float *vector;                             /* [dimension] */
  size_t dimension;
};

/* Opens jsonl, or an .npy of little-endian float32 with its OUT.json beside it. Complains and returns false when it
 * cannot. */
bool cli_vectors_open(struct cli_vectors *vectors, const char *path);

/* Reads the next vector: 1; 0 at the end; -1 with a complaint. Items that failed when they were embedded are left
 * out. */
int cli_vectors_next(struct cli_vectors *vectors);

void cli_vectors_close(struct cli_vectors *vectors);

#endif
