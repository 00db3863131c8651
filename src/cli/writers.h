/* The formats of results: JSON values, NumPy arrays. */
#ifndef CLIPC_CLI_WRITERS_H
#define CLIPC_CLI_WRITERS_H

#include "cli/output.h"

/* A JSON string of any bytes; malformed UTF-8 becomes U+FFFD, one for each maximal ill-formed part. */
void cli_json_string(struct cli_output *output, const char *text, size_t n);

/* The shortest of 7 to 9 digits that reads back to the same float; null for what JSON has no number for. */
void cli_json_float(struct cli_output *output, float value);
void cli_json_floats(struct cli_output *output, const float *values, size_t n); /* an array */

/* {"status":...,"message":...} */
void cli_json_error(struct cli_output *output, const clipc_error *error);

/* The header of an .npy file (format 1.0) of little-endian float32 with this shape. */
void cli_npy_header(struct cli_output *output, const size_t *shape, size_t n_axes);

/* Little-endian float32, whatever the machine. */
void cli_floats(struct cli_output *output, const float *values, size_t n);

#endif
