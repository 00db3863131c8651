/* clipc quality: what bf16 and int8 do to the vectors of one's own pictures.
 * In: a model folder, pictures. Out: for both, against f32: worst and mean cosine, recall of the nearest neighbours,
 * how much faster the image tower is, and which to take. Neighbours of a picture are looked for among the other
 * pictures, with query and collection in the same precision. */
#include "cli/flow.h"
#include "cli/progress.h"
#include "cli/writers.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { IMAGES = CLI_OWN, FORMAT, BATCH };

enum { LINES, JSON };
static const char *const formats[] = {"lines", "json", NULL};

static const struct cli_option own_options[] = {
    {IMAGES, 'i', "images", "FILE|DIR", "a folder's pictures, a picture, or - for paths on stdin; may be repeated"},
    {FORMAT, 'f', "format", "NAME", "lines or json [lines]"},
    {BATCH, 0, "batch", "N", "pictures computed at once [8]"},
    {0},
};

enum { N_PRECISIONS = 3, N_DEPTHS = 3, MOST_QUERIES = 1000, TIMED_PICTURES = 8 };
static const size_t depths[N_DEPTHS] = {1, 5, 10}; /* neighbours that are compared */
static const double ROUND_MS = 1500;               /* of timing, for all precisions together */

struct result {
  clipc_model *model;
  float *vectors; /* [pictures, dimension], of those that can be read */
  double worst, mean;
  size_t worst_picture;
  double recall[N_DEPTHS]; /* NAN where there are not so many neighbours */
  double ms;               /* of a picture in the image tower */
};

struct job {
  struct cli_inputs images;
  struct cli_model_options model;
  int format;
  uint64_t most;
  size_t dimension, n, n_failed;       /* n: pictures that can be read */
  size_t *pictures;                    /* [n] their places in images */
  struct result results[N_PRECISIONS]; /* by clipc_precision */
};

/* ---- vectors */

static bool open_models(struct job *job, const struct cli_command *command) {
  for (int p = 0; p < N_PRECISIONS; p++) {
    struct cli_model_options options = job->model;
    options.options.precision = (clipc_precision)p;
    if (!cli_model_open(&job->results[p].model, command, &options, CLIPC_TOWER_IMAGE)) return false;
    if (clipc_model_packing(job->results[p].model) == NULL) continue;
    cli_complain("%s: a packed file has one precision; quality compares those of a folder", options.folder);
    return false;
  }
  job->dimension = clipc_embedding_dimension(job->results[0].model);
  return true;
}

/* Embeds all pictures in one precision. The first one says which can be read. Returns the exit code. */
static int embed_pictures(struct job *job, int precision, struct cli_progress *progress, size_t n_before) {
  struct cli_flow flow;
  struct result *result = &job->results[precision];
  size_t n = 0, index;
  const float *vector;
  clipc_error error;
  int code = CLI_OK;
  result->vectors = cli_allocate(job->images.n, job->dimension * sizeof(float));
  if (!cli_flow_open(&flow, result->model, &job->images, job->most, false, &job->model)) return CLI_FAILED;
  while (cli_flow_next(&flow, &index, &vector, &error)) {
    cli_progress_step(progress, n_before + index + 1, job->n_failed);
    if (vector != NULL && precision > 0 && (n >= job->n || job->pictures[n] != index)) vector = NULL;
    if (vector != NULL) {
      job->pictures[n] = index;
      memcpy(result->vectors + n++ * job->dimension, vector, job->dimension * sizeof(float));
    } else if (precision == 0) {
      job->n_failed++;
      code = cli_code_after(code, &error);
      cli_progress_clear(progress);
      cli_complain_of(&job->images.items[index], &error);
    }
  }
  cli_flow_close(&flow);
  if (cli_was_stopped()) return CLI_STOPPED;
  if (precision == 0) job->n = n;
  if (n == job->n) return code;
  cli_complain("pictures that could be read the first time cannot be read any more");
  return CLI_FAILED;
}

/* ---- comparing */

/* Of two vectors of length 1. Eight sums: the order of additions is all that keeps one from being fast. */
static float product(const float *a, const float *b, size_t n) {
  float sums[8] = {0}, sum = 0;
  size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    for (size_t j = 0; j < 8; j++) sums[j] += a[i + j] * b[i + j];
  }
  for (; i < n; i++) sum += a[i] * b[i];
  for (size_t j = 0; j < 8; j++) sum += sums[j];
  return sum;
}

static void compare_vectors(struct job *job, int precision) {
  struct result *result = &job->results[precision];
  result->worst = 2;
  for (size_t i = 0; i < job->n; i++) {
    const size_t at = i * job->dimension;
    double cosine = (double)clipc_cosine(job->results[0].vectors + at, result->vectors + at, job->dimension);
    result->mean += cosine / (double)job->n;
    if (cosine >= result->worst) continue;
    result->worst = cosine;
    result->worst_picture = job->pictures[i];
  }
}

/* The nearest of the other pictures, nearest first. */
static void neighbours_of(const struct job *job, int precision, size_t query, float *scores, size_t *nearest,
                          size_t n_nearest) {
  const float *vectors = job->results[precision].vectors, *vector = vectors + query * job->dimension;
  for (size_t i = 0; i < job->n; i++) scores[i] = product(vector, vectors + i * job->dimension, job->dimension);
  scores[query] = -INFINITY;
  clipc_top_k(nearest, n_nearest, scores, job->n);
}

static size_t in_common(const size_t *a, const size_t *b, size_t n) {
  size_t common = 0;
  for (size_t i = 0; i < n; i++) {
    for (size_t j = 0; j < n; j++) common += a[i] == b[j];
  }
  return common;
}

static void compare_neighbours(struct job *job) {
  const size_t n_nearest = job->n - 1 < depths[N_DEPTHS - 1] ? job->n - 1 : depths[N_DEPTHS - 1];
  const size_t n_queries = job->n < MOST_QUERIES ? job->n : MOST_QUERIES;
  float *scores = cli_allocate(job->n, sizeof *scores);
  size_t *expected = cli_allocate(job->n, sizeof *expected), *found = cli_allocate(job->n, sizeof *found);
  struct cli_progress progress;
  cli_progress_start(&progress, "neighbours", n_queries);
  for (size_t q = 0; q < n_queries && !cli_was_stopped(); q++) {
    size_t query = q * job->n / n_queries; /* spread over all */
    neighbours_of(job, 0, query, scores, expected, n_nearest);
    for (int p = 1; p < N_PRECISIONS; p++) {
      neighbours_of(job, p, query, scores, found, n_nearest);
      for (int d = 0; d < N_DEPTHS && depths[d] <= n_nearest; d++) {
        job->results[p].recall[d] +=
            (double)in_common(expected, found, depths[d]) / (double)depths[d] / (double)n_queries;
      }
    }
    cli_progress_step(&progress, q + 1, 0);
  }
  cli_progress_clear(&progress);
  for (int p = 1; p < N_PRECISIONS; p++) {
    for (int d = 0; d < N_DEPTHS; d++) {
      if (depths[d] > n_nearest) job->results[p].recall[d] = NAN;
    }
  }
  free(scores);
  free(expected);
  free(found);
}

/* ---- timing */

/* The tower alone, on pictures that are ready; precisions take turns, so that all see the same machine. */
static bool time_towers(struct job *job) {
  clipc_model *model = job->results[0].model;
  const size_t n = job->n < TIMED_PICTURES ? job->n : TIMED_PICTURES;
  const size_t n_pixels = 3 * (size_t)clipc_image_height(model) * (size_t)clipc_image_width(model);
  float *pixels = cli_allocate(n * n_pixels, sizeof *pixels),
        *vectors = cli_allocate(n, job->dimension * sizeof(float));
  clipc_image images[TIMED_PICTURES];
  clipc_session *sessions[N_PRECISIONS] = {NULL};
  clipc_error error = {0};
  clipc_session_options options = {.max_batch = (int)n};
  for (size_t i = 0; i < n; i++) {
    clipc_image image = clipc_image_path(job->images.items[job->pictures[i]].text);
    clipc_preprocess(model, &image, pixels + i * n_pixels, &error);
    images[i] = clipc_image_pixels(pixels + i * n_pixels);
  }
  for (int p = 0; p < N_PRECISIONS && error.status == CLIPC_OK; p++) {
    clipc_session_open(&sessions[p], job->results[p].model, &options, &error);
    job->results[p].ms = INFINITY;
  }
  double begun = cli_now_ms();
  for (int round = 0; error.status == CLIPC_OK && (round < 3 || cli_now_ms() - begun < ROUND_MS); round++) {
    for (int p = 0; p < N_PRECISIONS && error.status == CLIPC_OK; p++) {
      double start = cli_now_ms();
      clipc_embed_images(sessions[p], images, n, vectors, NULL, &error);
      double took = (cli_now_ms() - start) / (double)n;
      if (took < job->results[p].ms) job->results[p].ms = took;
    }
  }
  for (int p = 0; p < N_PRECISIONS; p++) clipc_session_close(sessions[p]);
  free(pixels);
  free(vectors);
  if (error.status != CLIPC_OK) cli_complain("%s", error.message);
  return error.status == CLIPC_OK;
}

/* ---- the report */

/* Recall at the greatest depth there is; 1 where there is none. */
static double deepest_recall(const struct result *result) {
  double recall = 1;
  for (int d = 0; d < N_DEPTHS; d++) {
    if (!isnan(result->recall[d])) recall = result->recall[d];
  }
  return recall;
}

static double speed_of(const struct job *job, int precision) { return job->results[0].ms / job->results[precision].ms; }

/* The coarsest numbers that leave the ranking alone; bf16 where it halves the memory for next to nothing. */
static clipc_precision recommend(const struct job *job, char reason[160]) {
  const struct result *bf16 = &job->results[CLIPC_PRECISION_BF16], *int8 = &job->results[CLIPC_PRECISION_INT8];
  if (int8->worst >= 0.99 && deepest_recall(int8) >= 0.95) {
    snprintf(reason, 160, "a quarter of the memory, %.2f times as fast, and %.1f %% of the neighbours stay",
             speed_of(job, CLIPC_PRECISION_INT8), 100 * deepest_recall(int8));
    return CLIPC_PRECISION_INT8;
  }
  if (bf16->worst >= 0.999 && deepest_recall(bf16) >= 0.95) {
    snprintf(reason, 160,
             "half the memory, %.2f times as fast; int8 keeps %.1f %% of the neighbours, worst cosine %.4f",
             speed_of(job, CLIPC_PRECISION_BF16), 100 * deepest_recall(int8), int8->worst);
    return CLIPC_PRECISION_BF16;
  }
  snprintf(reason, 160, "on these pictures bf16 keeps %.1f %% of the neighbours, int8 %.1f %%",
           100 * deepest_recall(bf16), 100 * deepest_recall(int8));
  return CLIPC_PRECISION_F32;
}

static void print_lines(const struct job *job, struct cli_output *output) {
  char reason[160];
  clipc_precision best = recommend(job, reason);
  cli_print(output, "%zu pictures against f32 (%.2f ms each)\n", job->n, job->results[0].ms);
  cli_print(output, "%-6s %12s %12s %9s %9s %9s %10s\n", "", "worst cosine", "mean cosine", "recall@1", "@5", "@10",
            "speed");
  for (int p = 1; p < N_PRECISIONS; p++) {
    const struct result *result = &job->results[p];
    cli_print(output, "%-6s %12.6f %12.6f", cli_precision_name((clipc_precision)p), result->worst, result->mean);
    for (int d = 0; d < N_DEPTHS; d++) {
      if (isnan(result->recall[d])) {
        cli_print(output, " %9s", "");
      } else {
        cli_print(output, " %9.4f", result->recall[d]);
      }
    }
    cli_print(output, " %8.2f x\n", speed_of(job, p));
  }
  const struct cli_input *worst = &job->images.items[job->results[CLIPC_PRECISION_INT8].worst_picture];
  char *name = cli_clean(worst->text, worst->n_bytes);
  cli_print(output, "worst in int8: %s\nuse %s: %s\n", name, cli_precision_name(best), reason);
  free(name);
}

static void json_number(struct cli_output *output, const char *name, double value) {
  cli_print(output, ",\"%s\":", name);
  if (isfinite(value)) {
    cli_print(output, "%.9g", value);
  } else {
    cli_print(output, "null");
  }
}

static void print_json(const struct job *job, struct cli_output *output) {
  char reason[160];
  clipc_precision best = recommend(job, reason);
  cli_print(output, "{\"model\":");
  cli_json_string(output, job->model.folder, strlen(job->model.folder));
  cli_print(output, ",\"n_images\":%zu,\"n_failed\":%zu", job->n, job->n_failed);
  json_number(output, "f32_ms_per_image", job->results[0].ms);
  cli_print(output, ",\"precisions\":[");
  for (int p = 1; p < N_PRECISIONS; p++) {
    const struct result *result = &job->results[p];
    const struct cli_input *worst = &job->images.items[result->worst_picture];
    cli_print(output, "%s{\"precision\":\"%s\"", p > 1 ? "," : "", cli_precision_name((clipc_precision)p));
    json_number(output, "worst_cosine", result->worst);
    cli_print(output, ",\"worst_input\":");
    cli_json_string(output, worst->text, worst->n_bytes);
    json_number(output, "mean_cosine", result->mean);
    json_number(output, "recall_at_1", result->recall[0]);
    json_number(output, "recall_at_5", result->recall[1]);
    json_number(output, "recall_at_10", result->recall[2]);
    json_number(output, "ms_per_image", result->ms);
    json_number(output, "speed_ratio", speed_of(job, p));
    cli_print(output, "}");
  }
  cli_print(output, "],\"recommendation\":\"%s\",\"reason\":\"%s\"}\n", cli_precision_name(best), reason);
}

/* ---- the command */

static int measure(const struct cli_command *command, struct job *job) {
  if (job->images.n == 0) return cli_usage_error(command, "quality needs pictures: --images DIR");
  if (job->model.options.precision != CLIPC_PRECISION_F32)
    return cli_usage_error(command, "quality compares all precisions: --precision is not for it");
  struct cli_progress progress;
  int code = CLI_OK;
  job->pictures = cli_allocate(job->images.n, sizeof *job->pictures);
  if (!open_models(job, command)) return CLI_FAILED;
  cli_progress_start(&progress, "embedding", N_PRECISIONS * job->images.n);
  for (int p = 0; p < N_PRECISIONS; p++) {
    int after = embed_pictures(job, p, &progress, (size_t)p * job->images.n);
    if (after > code) code = after;
    if (code > CLI_ITEM_FAILED) break;
  }
  cli_progress_clear(&progress);
  if (code > CLI_ITEM_FAILED) return code;
  if (job->n == 0) {
    cli_complain("there is no picture to compare");
    return CLI_FAILED;
  }
  for (int p = 1; p < N_PRECISIONS; p++) compare_vectors(job, p);
  compare_neighbours(job);
  if (cli_was_stopped()) return CLI_STOPPED;
  if (!time_towers(job)) return CLI_FAILED;
  struct cli_output output;
  cli_output_open(&output, NULL);
  (job->format == JSON ? print_json : print_lines)(job, &output);
  return cli_output_close(&output, true) ? code : CLI_FAILED;
}

static bool own_option(const struct cli_command *command, void *context, int id, const char *value) {
  struct job *job = context;
  switch (id) {
  case IMAGES: return cli_add_image(&job->images, value);
  case FORMAT: return (job->format = cli_choice(command, "format", value, formats)) >= 0;
  case BATCH: return cli_number(command, "batch", value, 1, 4096, &job->most);
  default: cli_usage_error(command, "what is \"%s\"? Pictures are given as --images DIR", value); return false;
  }
}

static int run(const struct cli_command *command, int argc, char **argv) {
  struct job job = {.most = 8};
  int code = cli_parse(command, argc, argv, &job.model, own_option, &job);
  if (code == CLI_PARSED) code = measure(command, &job);
  for (int p = 0; p < N_PRECISIONS; p++) {
    clipc_model_close(job.results[p].model);
    free(job.results[p].vectors);
  }
  free(job.pictures);
  cli_inputs_free(&job.images);
  cli_model_options_free(&job.model);
  return code;
}

const struct cli_command cli_quality = {
    .name = "quality",
    .summary = "what bf16 and int8 do to your pictures' vectors",
    .usage = "-m DIR --images DIR [-f lines|json]",
    .details =
        "Recall@k is the part of a picture's k nearest other pictures in f32 that are still among the k nearest,\n"
        "averaged over at most 1000 pictures; it takes more than k pictures. Speed is that of the image tower\n"
        "alone, on 8 pictures at once, without decoding. int8 is recommended where no cosine is below 0.99 and\n"
        "95 % of the neighbours stay, else bf16 where no cosine is below 0.999 and 95 % stay.\n",
    .examples = "clipc quality -m models/tiny --images models/tiny/pictures\n"
                "clipc quality -m ViT-B-32 --images photos/ -f json\n",
    .options = own_options,
    .groups = CLI_TAKES_MODEL | CLI_TAKES_PICTURES,
    .run = run,
};
