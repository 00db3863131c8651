/* clipc embed: pictures and texts to vectors, one result per input in command-line order.
 * In: --image, --url, --base64 and --text, lists on stdin. Out: jsonl (as they come), json, npy or raw. An item that
 * fails has an error in place of its vector, or a row of NaN; its neighbours are not touched. */
#include "cli/flow.h"
#include "cli/progress.h"
#include "cli/writers.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { IMAGE = CLI_OWN, URL, BASE64, TEXT, TEXTS, NO_NORMALIZE, FINGERPRINT, FORMAT, OUT, BATCH };

enum { JSONL, JSON, NPY, RAW };
static const char *const formats[] = {"jsonl", "json", "npy", "raw", NULL};

static const struct cli_option own_options[] = {
    {IMAGE, 'i', "image", "FILE|DIR", "a picture, a folder's pictures, or - for paths on stdin; may be repeated"},
    {URL, 'u', "url", "URL", "a picture by http or https, or - for URLs on stdin; may be repeated"},
    {BASE64, 0, "base64", "TEXT", "a picture as base64 or data: URI, or - for lines on stdin; may be repeated"},
    {TEXT, 0, "text", "TEXT", "a text; may be repeated"},
    {TEXTS, 0, "texts", "FILE", "every line of a file, or of stdin for -, is a text"},
    {NO_NORMALIZE, 0, "no-normalize", NULL, "vectors as they leave the projection, not of length 1"},
    {FINGERPRINT, 0, "fingerprint", NULL, "with each vector the fingerprint of its space; beside an array in OUT.json"},
    {FORMAT, 'f', "format", "NAME", "jsonl, json, npy or raw [jsonl]"},
    {OUT, 'o', "out", "FILE", "write to a file, which appears when it is whole [stdout]"},
    {BATCH, 0, "batch", "N", "inputs computed at once [8]"},
    {0},
};

struct job {
  struct cli_inputs inputs;
  struct cli_model_options model;
  const char *out;
  int format;
  bool raw, with_fingerprint;
  char fingerprint[CLIPC_FINGERPRINT_BYTES]; /* "": not asked for */
  uint64_t most;
};

static bool is_array(const struct job *job) { return job->format == NPY || job->format == RAW; }

static void write_object(struct cli_output *output, const struct job *job, const struct cli_input *item,
                         const clipc_error *error, const float *row, size_t dimension) {
  enum { MOST_BASE64 = 48 }; /* enough to know it by */
  bool cut = item->kind == CLIPC_INPUT_BASE64 && item->n_bytes > MOST_BASE64;
  cli_print(output, "{\"kind\":\"%s\",\"input\":", item->kind == CLIPC_INPUT_TEXT ? "text" : "image");
  cli_json_string(output, item->text, cut ? MOST_BASE64 : item->n_bytes);
  if (job->fingerprint[0] != '\0') cli_print(output, ",\"fingerprint\":\"%s\"", job->fingerprint);
  if (error->status == CLIPC_OK) {
    cli_print(output, ",\"embedding\":");
    cli_json_floats(output, row, dimension);
  } else {
    cli_print(output, ",\"error\":");
    cli_json_error(output, error);
  }
  cli_write(output, "}", 1);
}

static void write_result(struct cli_output *output, const struct job *job, bool is_first, const struct cli_input *item,
                         const clipc_error *error, const float *row, size_t dimension) {
  if (is_array(job)) {
    for (size_t i = 0; row == NULL && i < dimension; i++) cli_floats(output, &(float){NAN}, 1);
    if (row != NULL) cli_floats(output, row, dimension);
  } else {
    if (job->format == JSON) cli_print(output, is_first ? "[\n" : ",\n");
    write_object(output, job, item, error, row, dimension);
    if (job->format == JSONL) cli_write(output, "\n", 1);
  }
}

/* Computes and writes; returns the exit code so far. Stops when nothing can be written, or by Ctrl-C: then an array has
 * rows of NaN for what was not done, and a list ends. */
static int embed_all(const struct job *job, struct cli_flow *flow, struct cli_output *output, size_t dimension) {
  const struct cli_inputs *inputs = &job->inputs;
  struct cli_progress progress;
  size_t n_failed = 0, n_written = 0, index;
  const float *row;
  clipc_error error;
  int code = CLI_OK;
  if (job->format == NPY) cli_npy_header(output, (const size_t[]){inputs->n, dimension}, 2);
  cli_progress_start(&progress, "embedding", inputs->n);
  while (cli_flow_next(flow, &index, &row, &error)) {
    if (output->terminal) cli_progress_clear(&progress);
    for (; is_array(job) && n_written < index; n_written++)
      write_result(output, job, false, NULL, NULL, NULL, dimension);
    write_result(output, job, n_written++ == 0, &inputs->items[index], &error, row, dimension);
    if (error.status != CLIPC_OK) {
      n_failed++;
      code = cli_code_after(code, &error);
      cli_progress_clear(&progress);
      cli_complain_of(&inputs->items[index], &error);
    }
    if (!cli_flush(output)) break;
    cli_progress_step(&progress, index + 1, n_failed);
  }
  cli_progress_clear(&progress);
  if (cli_was_stopped()) {
    cli_complain("stopped: %zu of %zu inputs are done", n_written, inputs->n);
    code = CLI_STOPPED;
  }
  for (; is_array(job) && n_written < inputs->n; n_written++)
    write_result(output, job, false, NULL, NULL, NULL, dimension);
  if (job->format == JSON) cli_print(output, n_written == 0 ? "[]\n" : "\n]\n");
  return code;
}

/* What belongs to an array and has no place in it. */
static bool write_beside(const struct job *job, size_t dimension) {
  struct cli_output output;
  size_t n_path = strlen(job->out) + 6;
  char *path = cli_allocate(n_path, 1);
  snprintf(path, n_path, "%s.json", job->out);
  bool fine = cli_output_open(&output, path);
  if (fine) {
    cli_print(&output, "{\"fingerprint\":\"%s\",\"shape\":[%zu,%zu],\"type\":\"f32\"}\n", job->fingerprint,
              job->inputs.n, dimension);
    fine = cli_output_close(&output, true);
  }
  free(path);
  return fine;
}

static bool find_fingerprint(struct job *job, const clipc_model *model) {
  clipc_error error = {0};
  if (clipc_model_fingerprint(model, job->fingerprint, &error) == CLIPC_OK) return true;
  cli_complain("%s", error.message);
  return false;
}

static int embed(const struct cli_command *command, struct job *job) {
  const struct cli_inputs *inputs = &job->inputs;
  const bool to_stdout = job->out == NULL || strcmp(job->out, "-") == 0;
  if (inputs->n == 0 && inputs->used_stdin) {
    cli_complain("standard input names nothing to embed");
    return CLI_FAILED;
  }
  if (inputs->n == 0) return cli_usage_error(command, "nothing to embed: give --image, --url, --base64 or --text");
  if (job->with_fingerprint && is_array(job) && to_stdout)
    return cli_usage_error(command, "--fingerprint is written beside an array, so that needs a file: -o FILE");
  if (is_array(job) && to_stdout && isatty(STDOUT_FILENO))
    return cli_usage_error(command, "%s is not for a terminal: give -o FILE", formats[job->format]);
  clipc_model *model = NULL;
  struct cli_flow flow = {0};
  struct cli_output output = {0};
  int code = CLI_FAILED;
  if (!cli_model_open(&model, command, &job->model, cli_towers_of(inputs))) goto done;
  if (job->with_fingerprint && !find_fingerprint(job, model)) goto done;
  if (!cli_flow_open(&flow, model, inputs, job->most, job->raw, &job->model)) goto done;
  if (!cli_output_open(&output, job->out)) goto done;
  code = embed_all(job, &flow, &output, clipc_embedding_dimension(model));
  if (!cli_output_close(&output, true)) code = CLI_FAILED;
  bool beside = job->with_fingerprint && is_array(job);
  if (code != CLI_FAILED && beside && !write_beside(job, clipc_embedding_dimension(model))) code = CLI_FAILED;
done:
  cli_flow_close(&flow);
  clipc_model_close(model);
  return code;
}

static bool own_option(const struct cli_command *command, void *context, int id, const char *value) {
  struct job *job = context;
  if (id == CLI_PLAIN && strcmp(value, "-") == 0) id = IMAGE;
  switch (id) {
  case IMAGE: return cli_add_image(&job->inputs, value);
  case URL: return cli_add_remote(&job->inputs, CLIPC_INPUT_URL, value);
  case BASE64: return cli_add_remote(&job->inputs, CLIPC_INPUT_BASE64, value);
  case TEXT: cli_add_text(&job->inputs, value, strlen(value)); break;
  case TEXTS: return cli_add_lines(&job->inputs, value, false);
  case NO_NORMALIZE: job->raw = true; break;
  case FINGERPRINT: job->with_fingerprint = true; break;
  case FORMAT: return (job->format = cli_choice(command, "format", value, formats)) >= 0;
  case OUT: job->out = value; break;
  case BATCH: return cli_number(command, "batch", value, 1, 4096, &job->most);
  default:
    cli_usage_error(command, "\"%s\" needs to be told what it is: --image, --url or --text before it", value);
    return false;
  }
  return true;
}

static int run(const struct cli_command *command, int argc, char **argv) {
  struct job job = {.most = 8};
  int code = cli_parse(command, argc, argv, &job.model, own_option, &job);
  if (code == CLI_PARSED) code = embed(command, &job);
  cli_inputs_free(&job.inputs);
  cli_model_options_free(&job.model);
  return code;
}

const struct cli_command cli_embed = {
    .name = "embed",
    .summary = "pictures and texts to vectors",
    .usage = "-m MODEL [--image FILE|DIR]... [--url URL]... [--text TEXT]... [-f FORMAT] [-o OUT]",
    .details =
        "One result per input, in command-line order. A line of jsonl, an element of json:\n"
        "  {\"kind\":\"image\",\"input\":\"cat.jpg\",\"embedding\":[...]}\n"
        "  {\"kind\":\"text\",\"input\":\"a cat\",\"error\":{\"status\":\"CLIPC_E_...\",\"message\":\"...\"}}\n"
        "npy is float32 [inputs, dimension], raw the same without a header, little-endian; an input that\n"
        "failed is a row of NaN there. A folder's pictures are those ending in .jpg .jpeg .png .bmp .gif\n"
        ".pnm .pgm .ppm .pbm, by name. Lists on stdin may come from find -print0.\n"
        "With --fingerprint an object has \"fingerprint\" before its vector, an array a file OUT.json beside it:\n"
        "  {\"fingerprint\":\"0f31...:f32\",\"shape\":[inputs,dimension],\"type\":\"f32\"}\n"
        "Vectors may be compared when their fingerprints are the same up to the colon. A folder's weights are\n"
        "read once more for it; a packed file has it at hand.\n"
        "\n"
        "Fetching, decoding and computing overlap. Private and local addresses are refused unless --allow names\n"
        "them. Ctrl-C keeps what is done: a list ends there, an array has rows of NaN for the rest; exit code 130.\n",
    .examples = "clipc embed -m models/tiny --url https://example.org/cat.jpg\n"
                "clipc embed -m models/tiny --image cat.png --text \"a photo of a cat\"\n"
                "clipc embed -m models/tiny --image photos/ -f npy -o photos.npy\n"
                "find . -name '*.jpg' | clipc embed -m models/tiny --image - > photos.jsonl\n",
    .options = own_options,
    .groups = CLI_TAKES_MODEL | CLI_TAKES_PICTURES | CLI_TAKES_URLS,
    .run = run,
};
