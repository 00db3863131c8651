/* clipc search: the nearest of the vectors that clipc embed wrote.
 * In: a model, files of vectors, texts and pictures to look for. Out: for each the best matches by cosine, greatest
 * first. Vectors of another embedding space are refused: their cosines would be numbers without a meaning. */
#include "cli/inputs.h"
#include "cli/options.h"
#include "cli/vectors.h"
#include "cli/writers.h"

#include <stdlib.h>
#include <string.h>

enum { VECTORS = CLI_OWN, IMAGE, TEXT, TOP, ANY_SPACE, FORMAT };

enum { LINES, JSONL };
static const char *const formats[] = {"lines", "jsonl", NULL};

static const struct cli_option own_options[] = {
    {VECTORS, 0, "vectors", "FILE", "jsonl or npy of clipc embed --fingerprint; may be repeated"},
    {IMAGE, 'i', "image", "FILE|DIR", "a picture to look for, a folder's, or - for paths on stdin; may be repeated"},
    {TEXT, 0, "text", "TEXT", "a text to look for; may be repeated"},
    {TOP, 'k', "top", "N", "matches to show [10]"},
    {ANY_SPACE, 0, "any-space", NULL, "take vectors that do not say of which space they are"},
    {FORMAT, 'f', "format", "NAME", "lines or jsonl [lines]"},
    {0},
};

struct match {
  char *input;
  float cosine;
};

struct query {
  const struct cli_input *input;
  float *vector;         /* [dimension]; NULL: it could not be embedded */
  struct match *matches; /* [n_matches], greatest cosine first */
  size_t n_matches;
};

struct job {
  struct cli_inputs inputs;
  struct cli_model_options model;
  struct cli_list files;
  struct query *queries; /* [inputs.n] */
  char fingerprint[CLIPC_FINGERPRINT_BYTES];
  size_t dimension;
  uint64_t top;
  bool any_space;
  int format;
};

/* ---- queries */

static int embed_queries(struct job *job, clipc_model *model) {
  clipc_session *session;
  clipc_session_options options = {.max_batch = 1};
  clipc_error error = {0};
  int code = CLI_OK;
  if (clipc_model_fingerprint(model, job->fingerprint, &error) != CLIPC_OK ||
      clipc_session_open(&session, model, &options, &error) != CLIPC_OK) {
    cli_complain("%s", error.message);
    return CLI_FAILED;
  }
  job->dimension = clipc_embedding_dimension(model);
  for (size_t i = 0; i < job->inputs.n; i++) {
    const struct cli_input *input = &job->inputs.items[i];
    struct query *query = &job->queries[i];
    float *vector = cli_allocate(job->dimension, sizeof *vector);
    clipc_text text = clipc_text_utf8(input->text, input->n_bytes);
    clipc_image image = clipc_image_path(input->text);
    error = (clipc_error){0};
    query->input = input;
    if (input->trouble != NULL) {
      error.status = CLIPC_E_IO;
      snprintf(error.message, sizeof error.message, "%s", input->trouble);
    } else if (input->kind == CLIPC_INPUT_TEXT) {
      clipc_embed_texts(session, &text, 1, vector, NULL, &error);
    } else {
      clipc_embed_images(session, &image, 1, vector, NULL, &error);
    }
    if (error.status == CLIPC_OK) {
      query->vector = vector;
      continue;
    }
    free(vector);
    code = cli_code_after(code, &error);
    cli_complain_of(input, &error);
  }
  clipc_session_close(session);
  return code;
}

/* ---- searching */

static void offer(struct query *query, size_t top, const char *input, float cosine) {
  size_t n = query->n_matches, at;
  if (n == top && !(cosine > query->matches[n - 1].cosine)) return;
  if (n == top) free(query->matches[n - 1].input);
  if (n < top) query->n_matches = ++n;
  for (at = n - 1; at > 0 && cosine > query->matches[at - 1].cosine; at--) query->matches[at] = query->matches[at - 1];
  query->matches[at] = (struct match){cli_copy(input, strlen(input)), cosine};
}

/* Whether vectors may be compared with the queries; complains when they may not. */
static bool fits(const struct job *job, const struct cli_vectors *vectors) {
  if (vectors->fingerprint[0] == '\0' && !job->any_space) {
    cli_complain(
        "%s: does not say of which embedding space it is; clipc embed --fingerprint does, --any-space takes it",
        vectors->path);
    return false;
  }
  if (vectors->fingerprint[0] != '\0' && !clipc_fingerprint_same(vectors->fingerprint, job->fingerprint)) {
    cli_complain("%s: is of another embedding space than the model: %s, not %s", vectors->path, vectors->fingerprint,
                 job->fingerprint);
    return false;
  }
  if (vectors->dimension == job->dimension) return true;
  cli_complain("%s: has vectors of %zu numbers, where the model's have %zu", vectors->path, vectors->dimension,
               job->dimension);
  return false;
}

static bool search_file(struct job *job, const char *path) {
  struct cli_vectors vectors;
  int more = -1;
  if (cli_vectors_open(&vectors, path)) {
    while ((more = cli_vectors_next(&vectors)) > 0) {
      if (!fits(job, &vectors)) {
        more = -1;
        break;
      }
      for (size_t i = 0; i < job->inputs.n; i++) {
        struct query *query = &job->queries[i];
        if (query->vector == NULL) continue;
        offer(query, (size_t)job->top, vectors.input, clipc_cosine(query->vector, vectors.vector, job->dimension));
      }
    }
  }
  cli_vectors_close(&vectors);
  return more == 0;
}

/* ---- the report */

static void print_lines(struct cli_output *output, const struct query *query, bool several) {
  char *name = cli_clean(query->input->text, query->input->n_bytes);
  if (several) cli_print(output, "%s\n", name);
  free(name);
  for (size_t i = 0; i < query->n_matches; i++) {
    char *input = cli_clean(query->matches[i].input, strlen(query->matches[i].input));
    cli_print(output, "%s%7.4f  %s\n", several ? "  " : "", (double)query->matches[i].cosine, input);
    free(input);
  }
}

static void print_json(struct cli_output *output, const struct query *query) {
  cli_print(output, "{\"query\":");
  cli_json_string(output, query->input->text, query->input->n_bytes);
  cli_print(output, ",\"matches\":[");
  for (size_t i = 0; i < query->n_matches; i++) {
    cli_print(output, "%s{\"input\":", i > 0 ? "," : "");
    cli_json_string(output, query->matches[i].input, strlen(query->matches[i].input));
    cli_print(output, ",\"cosine\":");
    cli_json_float(output, query->matches[i].cosine);
    cli_print(output, "}");
  }
  cli_print(output, "]}\n");
}

/* ---- the command */

static int search(const struct cli_command *command, struct job *job) {
  if (job->files.n == 0) return cli_usage_error(command, "nothing to search: give --vectors FILE");
  if (job->inputs.n == 0) return cli_usage_error(command, "nothing to look for: give --text or --image");
  struct cli_output output;
  clipc_model *model;
  job->queries = cli_allocate(job->inputs.n, sizeof *job->queries);
  if (!cli_model_open(&model, command, &job->model, cli_towers_of(&job->inputs))) return CLI_FAILED;
  int code = embed_queries(job, model);
  clipc_model_close(model);
  if (code == CLI_FAILED) return code;
  for (size_t i = 0; i < job->inputs.n; i++)
    job->queries[i].matches = cli_allocate((size_t)job->top, sizeof *job->queries[i].matches);
  for (size_t i = 0; i < job->files.n; i++)
    if (!search_file(job, job->files.items[i])) return CLI_FAILED;
  cli_output_open(&output, NULL);
  for (size_t i = 0; i < job->inputs.n; i++) {
    if (job->queries[i].vector == NULL) continue;
    if (job->format == JSONL) {
      print_json(&output, &job->queries[i]);
    } else {
      print_lines(&output, &job->queries[i], job->inputs.n > 1);
    }
  }
  return cli_output_close(&output, true) ? code : CLI_FAILED;
}

static bool own_option(const struct cli_command *command, void *context, int id, const char *value) {
  struct job *job = context;
  switch (id) {
  case VECTORS: cli_list_add(&job->files, value); break;
  case IMAGE: return cli_add_image(&job->inputs, value);
  case TEXT: cli_add_text(&job->inputs, value, strlen(value)); break;
  case TOP: return cli_number(command, "top", value, 1, 1000000, &job->top);
  case ANY_SPACE: job->any_space = true; break;
  case FORMAT: return (job->format = cli_choice(command, "format", value, formats)) >= 0;
  default:
    cli_usage_error(command, "\"%s\" needs to be told what it is: --text or --vectors before it", value);
    return false;
  }
  return true;
}

static int run(const struct cli_command *command, int argc, char **argv) {
  struct job job = {.top = 10};
  int code = cli_parse(command, argc, argv, &job.model, own_option, &job);
  if (code == CLI_PARSED) code = search(command, &job);
  for (size_t i = 0; job.queries != NULL && i < job.inputs.n; i++) {
    for (size_t m = 0; m < job.queries[i].n_matches; m++) free(job.queries[i].matches[m].input);
    free(job.queries[i].matches);
    free(job.queries[i].vector);
  }
  free(job.queries);
  free(job.files.items);
  cli_inputs_free(&job.inputs);
  cli_model_options_free(&job.model);
  return code;
}

const struct cli_command cli_search = {
    .name = "search",
    .summary = "the nearest of the vectors that embed wrote",
    .usage = "-m MODEL --vectors FILE... (--text TEXT | --image FILE|DIR)... [-k N] [-f lines|jsonl]",
    .details =
        "Every vector is compared: no index is made. Vectors whose fingerprint is not the model's are refused, since\n"
        "cosines between two embedding spaces mean nothing; precisions may differ. Rows of an array are called\n"
        "\"row 0\", \"row 1\", ... A line of jsonl:\n"
        "  {\"query\":\"a red car\",\"matches\":[{\"input\":\"car.jpg\",\"cosine\":0.31},...]}\n",
    .examples = "clipc embed -m models/tiny --fingerprint --image photos/ > photos.jsonl\n"
                "clipc search -m models/tiny --vectors photos.jsonl --text \"a red car\" -k 3\n",
    .options = own_options,
    .groups = CLI_TAKES_MODEL | CLI_TAKES_PICTURES,
    .run = run,
};
