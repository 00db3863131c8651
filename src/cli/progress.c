/* A progress bar with rate and time left, one line on stderr that is drawn over itself:
 *   pictures  ██████████████▌░░░░░░░░░░░░░  52 %  131/250  44.7/s  0:02 left
 * In: how much is done. It is drawn at most twenty times a second, in one write, never wider than the terminal. */
#include "cli/progress.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Rate and time left, as soon as something is done. */
static void describe(char *out, size_t n_bytes, const struct cli_progress *progress, double time) {
  double passed = 1e-3 * (time - progress->started);
  double percent = progress->n > 0 ? 100.0 * (double)progress->done / (double)progress->n : 100.0;
  size_t n =
      (size_t)(progress->is_bytes ? snprintf(out, n_bytes, "%3.0f %%  %.1f/%.1f MB", percent,
                                             1e-6 * (double)progress->done, 1e-6 * (double)progress->n)
                                  : snprintf(out, n_bytes, "%3.0f %%  %zu/%zu", percent, progress->done, progress->n));
  if (progress->done > progress->before && passed > 0) {
    double rate = (double)(progress->done - progress->before) / passed;
    double left = (double)(progress->n - progress->done) / rate;
    if (left > 359999) left = 359999;
    long seconds = (long)(left + 0.999); /* none are left only at the end */
    n += (size_t)(progress->is_bytes ? snprintf(out + n, n_bytes - n, "  %.1f MB/s", 1e-6 * rate)
                                     : snprintf(out + n, n_bytes - n, rate < 100 ? "  %.1f/s" : "  %.0f/s", rate));
    if (seconds >= 3600) {
      n += (size_t)snprintf(out + n, n_bytes - n, "  %ld:%02ld:%02ld left", seconds / 3600, seconds / 60 % 60,
                            seconds % 60);
    } else {
      n += (size_t)snprintf(out + n, n_bytes - n, "  %ld:%02ld left", seconds / 60, seconds % 60);
    }
  }
  if (progress->n_failed > 0) snprintf(out + n, n_bytes - n, "  %zu failed", progress->n_failed);
}

static void draw(struct cli_progress *progress, double time) {
  enum { MOST_COLUMNS = 40 };
  char bar[3 * MOST_COLUMNS + 1], rest[3 * MOST_COLUMNS + 1] = "", tail[160];
  describe(tail, sizeof tail, progress, time);
  size_t width = cli_terminal_width(STDERR_FILENO);
  if (strlen(tail) > progress->n_tail) progress->n_tail = strlen(tail); /* the bar's end stays where it is */
  size_t used =
      strlen(progress->what) + progress->n_tail + 5; /* two gaps; the last column stays free: some wrap there */
  size_t n_bar = width < used ? 0 : width - used;
  if (n_bar > MOST_COLUMNS) n_bar = MOST_COLUMNS;
  progress->drawn = time;
  progress->visible = true;
  if (n_bar < 6) {
    fprintf(stderr, "\r%.*s\033[K", width > 1 ? (int)(width - 1) : 0, tail);
  } else {
    double fraction = progress->n > 0 ? (double)progress->done / (double)progress->n : 1;
    size_t filled = cli_bar(bar, n_bar, fraction, progress->blocks);
    for (size_t i = filled; i < n_bar; i++) strcat(rest, progress->blocks ? "\xE2\x96\x91" : ".");
    fprintf(stderr, "\r%s  %s%s%s%s%s  %s\033[K", progress->what, progress->colours ? "\033[36m" : "", bar,
            progress->colours ? "\033[90m" : "", rest, progress->colours ? "\033[0m" : "", tail);
  }
  fflush(stderr);
}

static void start(struct cli_progress *progress) {
  struct cli_progress end = {
      .n = progress->n, .done = progress->n, .before = progress->n, .is_bytes = progress->is_bytes};
  char tail[160];
  describe(tail, sizeof tail, &end, 0);
  progress->n_tail = strlen(tail) + strlen(progress->is_bytes ? "  99.9 MB/s  0:00 left" : "  99.9/s  0:00 left");
  progress->shown = cli_is_terminal(STDERR_FILENO);
  progress->blocks = cli_draws_blocks();
  progress->colours = cli_colours(STDERR_FILENO);
  progress->started = cli_now_ms();
  if (progress->shown) draw(progress, progress->started);
}

void cli_progress_start(struct cli_progress *progress, const char *what, size_t n) {
  *progress = (struct cli_progress){.what = what, .n = n};
  start(progress);
}

void cli_progress_start_bytes(struct cli_progress *progress, const char *what, size_t n, size_t before) {
  *progress = (struct cli_progress){.what = what, .n = n, .done = before, .before = before, .is_bytes = true};
  start(progress);
}

void cli_progress_step(struct cli_progress *progress, size_t done, size_t n_failed) {
  progress->done = done;
  progress->n_failed = n_failed;
  if (!progress->shown) return;
  double time = cli_now_ms();
  if (!progress->visible || done == progress->n || time - progress->drawn >= 50) draw(progress, time);
}

void cli_progress_clear(struct cli_progress *progress) {
  if (!progress->visible) return;
  fputs("\r\033[K", stderr);
  fflush(stderr);
  progress->visible = false;
}
