/* The list of things to compute: pictures and texts in command-line order. */
#ifndef CLIPC_CLI_INPUTS_H
#define CLIPC_CLI_INPUTS_H

#include "cli/cli.h"

struct cli_input {
  clipc_input_kind kind; /* PATH, URL, BASE64 or TEXT */
  char *text;            /* the text, or the picture's path, URL or base64; NUL-terminated */
  size_t n_bytes;
  const char *trouble; /* why there is nothing to compute; NULL when there is */
};

/* Zero it to start with. */
struct cli_inputs {
  struct cli_input *items;
  size_t n, capacity;
  bool used_stdin;
};

/* Adds a picture, a folder's pictures, or for "-" the paths on stdin; complains and returns false when a
 * folder holds none or a list cannot be read. */
bool cli_add_image(struct cli_inputs *inputs, const char *path);

/* Adds a picture's URL or base64, or for "-" the lines of stdin as such; complains and returns false when a list cannot
 * be read. */
bool cli_add_remote(struct cli_inputs *inputs, clipc_input_kind kind, const char *value);

/* Adds one text. */
void cli_add_text(struct cli_inputs *inputs, const char *text, size_t n_bytes);

/* Adds the lines of a file, or of stdin for "-", as texts. labels: empty lines are left out, a byte
 * order mark is dropped, and NUL bytes may stand in for the ends of lines. */
bool cli_add_lines(struct cli_inputs *inputs, const char *path, bool labels);

/* The towers that these inputs need: CLIPC_TOWER_IMAGE, CLIPC_TOWER_TEXT or both. */
int cli_towers_of(const struct cli_inputs *inputs);

void cli_inputs_free(struct cli_inputs *inputs);

/* A line on stderr that names the input and what befell it. */
void cli_complain_of(const struct cli_input *input, const clipc_error *error);
void cli_complain_of_image(const char *path, const clipc_error *error);

/* The exit code after one more failed item: what the model lacks fails every item alike. */
int cli_code_after(int code, const clipc_error *error);

#endif
