/* clipc bench: how fast one tower is on prepared inputs, so that the tower alone is measured.
 * In: a model, or a shape with random weights; random pixels, or random ids of an exact number, from a fixed seed.
 * Out: one JSON object on a line. Times of items are those of a run divided by its batch. What the CPU can do at most
 * is measured in the same run, before, between and after the timed computations: it moves with the machine's load. */
#include "cli/options.h"
#include "cli/writers.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { SHAPE = CLI_OWN, TOWER, BATCH, TOKENS, SECONDS };

enum { LEAST_RUNS = 3, PEAK_PARTS = 4 };

static const char *const towers[] = {"image", "text", NULL};

static const struct cli_option own_options[] = {
    {SHAPE, 0, "shape", "NAME", "random weights in place of a model: ViT-B-32, ViT-B-16, ViT-L-14, ..."},
    {TOWER, 0, "tower", "NAME", "image or text [image]"},
    {BATCH, 0, "batch", "N", "items computed at once [1]"},
    {TOKENS, 0, "tokens", "N", "ids of a text, start and end token included [77, or the model's most]"},
    {SECONDS, 0, "seconds", "S", "how long to measure [3]"},
    {0},
};

struct job {
  struct cli_model_options model;
  const char *shape;
  bool text;
  uint64_t batch, tokens;
  double seconds;
  /* what is computed */
  clipc_model *opened;
  clipc_session *session;
  clipc_image *images; /* [batch] */
  clipc_text *texts;   /* [batch] */
  float *pixels, *embeddings;
  int32_t *ids;
  /* what is measured */
  double open_ms, first_ms, peak; /* operations per second of a core */
  double *times;                  /* milliseconds of an item, [n_times] */
  size_t n_times, capacity;
};

/* ---- inputs */

static uint32_t next_random(uint32_t *state) {
  *state = *state * 1664525u + 1013904223u;
  return *state >> 8;
}

static void make_images(struct job *job) {
  size_t n = 3 * (size_t)clipc_image_height(job->opened) * (size_t)clipc_image_width(job->opened);
  uint32_t state = 1;
  job->images = cli_allocate(job->batch, sizeof *job->images);
  job->pixels = cli_allocate(job->batch * n, sizeof *job->pixels);
  for (size_t i = 0; i < job->batch * n; i++) job->pixels[i] = (float)next_random(&state) / 4194304.0f - 2.0f;
  for (size_t i = 0; i < job->batch; i++) job->images[i] = clipc_image_pixels(job->pixels + i * n);
}

/* Start token, random ids below the end token, end token: nothing is cut off behind an end token in the middle. */
static void make_texts(struct job *job) {
  size_t n = job->tokens, context = clipc_context_length(job->opened), n_marks = 0;
  int32_t end = (int32_t)clipc_vocabulary_size(job->opened) - 1, start = end > 0 ? end - 1 : 0;
  uint32_t state = 1;
  int32_t *marks = cli_allocate(context, sizeof *marks);
  if (clipc_tokenize(job->opened, "", 0, marks, &n_marks, NULL) == CLIPC_OK) start = marks[0], end = marks[n_marks - 1];
  free(marks);
  job->texts = cli_allocate(job->batch, sizeof *job->texts);
  job->ids = cli_allocate(job->batch * n, sizeof *job->ids);
  for (size_t i = 0; i < job->batch; i++) {
    int32_t *ids = job->ids + i * n;
    for (size_t t = 0; t < n; t++) ids[t] = end > 0 ? (int32_t)(next_random(&state) % (uint32_t)end) : 0;
    ids[0] = start;
    ids[n - 1] = end;
    job->texts[i] = clipc_text_ids(ids, n);
  }
}

/* ---- measuring */

static bool compute(struct job *job, size_t n) {
  clipc_error error = {0};
  if (job->text) {
    clipc_embed_texts(job->session, job->texts, n, job->embeddings, NULL, &error);
  } else {
    clipc_embed_images(job->session, job->images, n, job->embeddings, NULL, &error);
  }
  if (error.status == CLIPC_OK) return true;
  cli_complain("%s", error.message);
  return false;
}

static void measure_peak(struct job *job) {
  double peak = clipc_measure_peak(job->opened);
  if (peak > job->peak) job->peak = peak;
}

/* How far it is, on a terminal: a line that is drawn over itself, five times a second. */
static void show_progress(const struct job *job, double left_ms, double *drawn) {
  double time = cli_now_ms();
  if (time - *drawn < 200) return;
  *drawn = time;
  fprintf(stderr, "\r%s  %zu runs, %.2f ms an item, %.0f s left\033[K", job->text ? "texts" : "images", job->n_times,
          job->times[job->n_times - 1], left_ms > 0 ? ceil(left_ms / 1e3) : 0.0);
  fflush(stderr);
}

static bool measure_times(struct job *job) {
  const bool shown = cli_is_terminal(STDERR_FILENO);
  double drawn = 0, passed = 0;
  bool fine = compute(job, job->batch); /* the first one fills the caches */
  for (int part = 0; fine && part < PEAK_PARTS; part++) {
    measure_peak(job);
    double until = job->seconds * 1e3 * (part + 1) / PEAK_PARTS; /* of computing, the peak's time apart */
    bool last = part == PEAK_PARTS - 1;
    while (fine && (passed < until || (last && job->n_times < LEAST_RUNS))) {
      double start = cli_now_ms();
      fine = compute(job, job->batch);
      double took = cli_now_ms() - start;
      passed += took;
      job->times = cli_grow(job->times, &job->capacity, job->n_times + 1, sizeof *job->times);
      job->times[job->n_times++] = took / (double)job->batch;
      if (shown) show_progress(job, job->seconds * 1e3 - passed, &drawn);
    }
  }
  if (shown) fputs("\r\033[K", stderr);
  if (fine) measure_peak(job);
  return fine;
}

static bool open_model(struct job *job, const struct cli_command *command) {
  int wanted = job->text ? CLIPC_TOWER_TEXT : CLIPC_TOWER_IMAGE;
  if (job->shape == NULL) return cli_model_open(&job->opened, command, &job->model, wanted);
  clipc_options options = job->model.options;
  clipc_error error = {0};
  options.towers = wanted;
  if (clipc_model_synthetic(&job->opened, job->shape, &options, &error) == CLIPC_OK) return true;
  cli_complain("%s", error.message);
  return false;
}

static bool measure(struct job *job, const struct cli_command *command) {
  double start = cli_now_ms();
  if (!open_model(job, command)) return false;
  job->open_ms = cli_now_ms() - start;
  size_t context = clipc_context_length(job->opened);
  if (job->text && job->tokens == 0) job->tokens = context < 77 ? context : 77;
  if (job->text && job->tokens > context) {
    cli_complain("--tokens %zu: a text of this model has at most %zu", (size_t)job->tokens, context);
    return false;
  }
  if (job->text) {
    make_texts(job);
  } else {
    make_images(job);
  }
  job->embeddings = cli_allocate(job->batch, clipc_embedding_dimension(job->opened) * sizeof *job->embeddings);
  clipc_error error = {0};
  clipc_session_options options = {.max_batch = (int)job->batch};
  double begun = cli_now_ms(); /* making the inputs does not count */
  if (clipc_session_open(&job->session, job->opened, &options, &error) != CLIPC_OK) {
    cli_complain("%s", error.message);
    return false;
  }
  if (!compute(job, 1)) return false;
  job->first_ms = job->open_ms + cli_now_ms() - begun;
  return measure_times(job);
}

/* ---- the report */

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double peak_rss_mb(void) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
#ifdef __APPLE__
  return (double)usage.ru_maxrss / 1e6;
#else
  return (double)usage.ru_maxrss * 1024 / 1e6;
#endif
}

static void report(struct job *job, struct cli_output *output) {
  const size_t n = job->n_times;
  const char *kernels = clipc_model_kernels(job->opened), *name = job->shape ? job->shape : job->model.folder;
  double operations =
      clipc_operations(job->opened, job->text ? CLIPC_TOWER_TEXT : CLIPC_TOWER_IMAGE, (size_t)job->tokens);
  qsort(job->times, n, sizeof *job->times, by_value);
  double least = job->times[0], median = n % 2 ? job->times[n / 2] : (job->times[n / 2 - 1] + job->times[n / 2]) / 2;
  double share = operations / (1e-3 * least) / (job->peak * clipc_model_threads(job->opened));
  cli_print(output, "{\"%s\":", job->shape ? "shape" : "model");
  cli_json_string(output, name, strlen(name));
  cli_print(output, ",\"tower\":\"%s\",\"precision\":\"%s\",\"tier\":\"%s\",\"gemm\":\"%s\",", towers[job->text],
            cli_precision_name(clipc_model_precision(job->opened)), kernels,
            strcmp(kernels, "openblas") == 0 ? kernels : "own");
  cli_print(output, "\"batch\":%zu,\"tokens\":", (size_t)job->batch);
  if (job->text) {
    cli_print(output, "%zu", (size_t)job->tokens);
  } else {
    cli_print(output, "null");
  }
  cli_print(output, ",\"threads\":%d,\"runs\":%zu,", clipc_model_threads(job->opened), n);
  cli_print(output, "\"ms_per_item_min\":%.4f,\"ms_per_item_median\":%.4f,\"ms_per_item_p95\":%.4f,", least, median,
            job->times[(n * 95 + 99) / 100 - 1]);
  cli_print(output, "\"items_per_second\":%.3f,\"open_ms\":%.2f,\"first_ms\":%.2f,\"peak_rss_mb\":%.1f,", 1e3 / median,
            job->open_ms, job->first_ms, peak_rss_mb());
  cli_print(output, "\"gop_per_item\":%.4f,\"peak_gops\":%.1f,\"peak_share\":", operations / 1e9, job->peak / 1e9);
  if (isfinite(share)) {
    cli_print(output, "%.4f}\n", share);
  } else {
    cli_print(output, "null}\n");
  }
}

static void release(struct job *job) {
  clipc_session_close(job->session);
  clipc_model_close(job->opened);
  free(job->images);
  free(job->texts);
  free(job->pixels);
  free(job->ids);
  free(job->embeddings);
  free(job->times);
}

/* ---- the command line */

static bool seconds_option(const struct cli_command *command, struct job *job, const char *value) {
  char *end = NULL;
  job->seconds = strtod(value, &end);
  bool number = value[0] >= '0' && value[0] <= '9' && value[1] != 'x' && value[1] != 'X' && *end == '\0';
  if (number && job->seconds > 0 && job->seconds <= 3600) return true;
  cli_usage_error(command, "--seconds takes a number above 0 and up to 3600, not \"%s\"", value);
  return false;
}

static bool own_option(const struct cli_command *command, void *context, int id, const char *value) {
  struct job *job = context;
  int choice;
  switch (id) {
  case SHAPE: job->shape = value; break;
  case TOWER:
    choice = cli_choice(command, "tower", value, towers);
    job->text = choice == 1;
    return choice >= 0;
  case BATCH: return cli_number(command, "batch", value, 1, 4096, &job->batch);
  case TOKENS: return cli_number(command, "tokens", value, 2, 4096, &job->tokens);
  case SECONDS: return seconds_option(command, job, value);
  default: cli_usage_error(command, "bench takes no plain argument: \"%s\"", value); return false;
  }
  return true;
}

static int bench(const struct cli_command *command, struct job *job) {
  if (!job->shape == !job->model.folder) {
    return cli_usage_error(command, job->shape ? "bench takes a model or a shape, not both"
                                               : "bench needs a model or a shape: -m MODEL or --shape NAME");
  }
  if (!job->text && job->tokens > 0) return cli_usage_error(command, "--tokens is for --tower text");
  struct cli_output output;
  if (!cli_output_open(&output, NULL)) return CLI_FAILED;
  bool fine = measure(job, command);
  if (fine) report(job, &output);
  return cli_output_close(&output, fine) && fine ? CLI_OK : CLI_FAILED;
}

static int run(const struct cli_command *command, int argc, char **argv) {
  struct job job = {.batch = 1, .seconds = 3};
  int code = cli_parse(command, argc, argv, &job.model, own_option, &job);
  if (code == CLI_PARSED) code = bench(command, &job);
  release(&job);
  return code;
}

const struct cli_command cli_bench = {
    .name = "bench",
    .summary = "how fast one tower is, as one line of JSON",
    .usage = "-m MODEL | --shape NAME [--tower image|text] [--batch N] [--seconds S]",
    .details = "ms_per_item_min, _median and _p95 are a run's time divided by its batch, items_per_second is of the\n"
               "median. open_ms is the time to open the model, first_ms that to the first vector, opening included.\n"
               "tier is what the products really use. gop_per_item counts multiplications and additions of what is\n"
               "really computed, in 10^9. peak_gops is what one core can do at most, measured in between, in 10^9\n"
               "operations per second; peak_share is the fastest run's part of it on all threads. The inputs are\n"
               "ready before: nothing is decoded or tokenised.\n",
    .examples = "clipc bench --shape ViT-B-32 --precision int8 --threads 2\n"
                "clipc bench -m models/tiny --tower text --tokens 8 --batch 32 --seconds 1\n",
    .options = own_options,
    .groups = CLI_TAKES_MODEL,
    .run = run,
};
