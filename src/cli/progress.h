/* A progress bar on stderr, where that is a terminal. */
#ifndef CLIPC_CLI_PROGRESS_H
#define CLIPC_CLI_PROGRESS_H

#include "cli/cli.h"

struct cli_progress {
  const char *what;
  size_t n, done, n_failed;
  size_t before; /* was done at the start, and says nothing about the rate */
  bool is_bytes;
  size_t n_tail;         /* columns kept for the text behind the bar */
  double started, drawn; /* cli_now_ms */
  bool shown;            /* stderr is a terminal */
  bool blocks, colours;
  bool visible; /* the line is on the terminal now */
};

void cli_progress_start(struct cli_progress *progress, const char *what, size_t n);
void cli_progress_start_bytes(struct cli_progress *progress, const char *what, size_t n, size_t before);
void cli_progress_step(struct cli_progress *progress, size_t done, size_t n_failed);

/* Takes the bar off the terminal: before anything else is printed, and at the end. */
void cli_progress_clear(struct cli_progress *progress);

#endif
