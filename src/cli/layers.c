/* clipc layers: the residual stream between a tower's blocks, what transformers calls hidden_states.
 * In: --image and --text. Out, input by input in command-line order: a table for people, jsonl, or an .npy array of
 * [layers, tokens, width] each. Nothing is kept: a layer is written as it is computed. */
#include "cli/inputs.h"
#include "cli/options.h"
#include "cli/writers.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { IMAGE = CLI_OWN, TEXT, FORMAT, OUT };

enum { TABLE, JSONL, NPY };
static const char *const formats[] = {"table", "jsonl", "npy", NULL};

static const struct cli_option own_options[] = {
    {IMAGE, 'i', "image", "FILE|DIR", "a picture, a folder's pictures, or - for paths on stdin; may be repeated"},
    {TEXT, 0, "text", "TEXT", "a text; may be repeated"},
    {FORMAT, 'f', "format", "NAME", "table, jsonl or npy [table]"},
    {OUT, 'o', "out", "FILE", "write to a file, which appears when it is whole [stdout]"},
    {0},
};

struct job {
  struct cli_inputs inputs;
  struct cli_model_options model;
  const char *out;
  int format;
};

/* What an observer writes to. */
struct view {
  struct cli_output *output;
  int format;
  const struct cli_input *item;
  bool shown; /* the item's layers */
};

/* Of all numbers of a layer; NaN where one of them is. */
struct figures {
  double norm; /* mean length of the rows */
  double least, most, magnitude;
};

static struct figures figures_of(const clipc_layer *layer) {
  struct figures figures = {0, INFINITY, -INFINITY, 0};
  for (size_t t = 0; t < layer->n_tokens; t++) {
    double sum = 0;
    for (size_t i = 0; i < layer->width; i++) {
      double x = (double)layer->hidden[t * layer->width + i];
      sum += x * x;
      figures.magnitude += fabs(x);
      if (!(x >= figures.least)) figures.least = x;
      if (!(x <= figures.most)) figures.most = x;
    }
    figures.norm += sqrt(sum);
  }
  figures.norm /= (double)layer->n_tokens;
  figures.magnitude /= (double)(layer->n_tokens * layer->width);
  if (isnan(figures.magnitude)) figures.least = figures.most = NAN;
  return figures;
}

static void table_row(const struct view *view, const clipc_layer *layer) {
  if (layer->layer == 0) {
    char *name = cli_clean(view->item->text, view->item->n_bytes);
    bool is_text = layer->tower == CLIPC_TOWER_TEXT;
    cli_print(view->output, "%s %s%s%s: %zu tokens of width %zu\n", is_text ? "text" : "image", is_text ? "\"" : "",
              name, is_text ? "\"" : "", layer->n_tokens, layer->width);
    cli_print(view->output, "%5s %11s %11s %11s %11s\n", "layer", "norm", "min", "max", "mean |x|");
    free(name);
  }
  struct figures figures = figures_of(layer);
  cli_print(view->output, "%5d %11.5g %11.5g %11.5g %11.5g\n", layer->layer, figures.norm, figures.least, figures.most,
            figures.magnitude);
}

static void start_object(struct cli_output *output, const struct cli_input *item) {
  cli_print(output, "{\"kind\":\"%s\",\"input\":", item->kind == CLIPC_INPUT_TEXT ? "text" : "image");
  cli_json_string(output, item->text, item->n_bytes);
}

static void object_part(const struct view *view, const clipc_layer *layer) {
  if (layer->layer == 0) {
    start_object(view->output, view->item);
    cli_print(view->output, ",\"n_tokens\":%zu,\"width\":%zu,\"layers\":[", layer->n_tokens, layer->width);
  }
  struct figures figures = figures_of(layer);
  const float values[] = {(float)figures.norm, (float)figures.least, (float)figures.most, (float)figures.magnitude};
  static const char *const names[] = {"norm", "min", "max", "mean_abs"};
  for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
    cli_print(view->output, "%s\"%s\":", i > 0 ? "," : layer->layer > 0 ? ",{" : "{", names[i]);
    cli_json_float(view->output, values[i]);
  }
  cli_print(view->output, "}%s", layer->layer == layer->n_layers ? "]}\n" : "");
}

static void show(void *context, const clipc_layer *layer) {
  struct view *view = context;
  view->shown = true;
  if (view->format == TABLE) {
    table_row(view, layer);
  } else if (view->format == JSONL) {
    object_part(view, layer);
  } else {
    if (layer->layer == 0) {
      cli_npy_header(view->output, (const size_t[]){(size_t)layer->n_layers + 1, layer->n_tokens, layer->width}, 3);
    }
    cli_floats(view->output, layer->hidden, layer->n_tokens * layer->width);
  }
}

/* What takes the place of an input that has no layers. */
static void write_failure(const struct view *view, const clipc_error *error) {
  if (view->format == JSONL) {
    start_object(view->output, view->item);
    cli_print(view->output, ",\"error\":");
    cli_json_error(view->output, error);
    cli_print(view->output, "}\n");
  } else if (view->format == NPY) {
    cli_npy_header(view->output, (const size_t[]){0, 0, 0}, 3);
  }
}

/* Returns the exit code so far. An embedding that is not finite fails, but has layers that may show why. */
static int show_input(clipc_session *session, struct view *view, float *embedding, int code) {
  const struct cli_input *item = view->item;
  clipc_error error = {0};
  view->shown = false;
  if (item->trouble != NULL) {
    error.status = CLIPC_E_IO;
    snprintf(error.message, sizeof error.message, "%s", item->trouble);
  } else if (item->kind == CLIPC_INPUT_TEXT) {
    clipc_embed_texts(session, &(clipc_text){.utf8 = item->text, .n_bytes = item->n_bytes}, 1, embedding, NULL, &error);
  } else {
    clipc_embed_image(session, item->text, embedding, &error);
  }
  if (error.status == CLIPC_OK) return code;
  cli_complain_of(item, &error);
  if (!view->shown) write_failure(view, &error);
  return cli_code_after(code, &error);
}

static int show_all(const struct job *job, clipc_model *model) {
  struct cli_output output = {0};
  struct view view = {.output = &output, .format = job->format};
  const clipc_session_options options = {.max_batch = 1};
  clipc_session *session;
  clipc_error error = {0};
  if (clipc_session_open(&session, model, &options, &error) != CLIPC_OK) {
    cli_complain("%s", error.message);
    return CLI_FAILED;
  }
  int code = CLI_FAILED;
  if (cli_output_open(&output, job->out)) {
    float *embedding = cli_allocate(clipc_embedding_dimension(model), sizeof *embedding);
    clipc_session_observe(session, show, &view);
    code = CLI_OK;
    for (size_t i = 0; i < job->inputs.n && code != CLI_FAILED; i++) {
      view.item = &job->inputs.items[i];
      code = show_input(session, &view, embedding, code);
      if (!cli_flush(&output)) break;
    }
    if (!cli_output_close(&output, code != CLI_FAILED)) code = CLI_FAILED;
    free(embedding);
  }
  clipc_session_close(session);
  return code;
}

static int layers(const struct cli_command *command, const struct job *job) {
  if (job->inputs.n == 0 && job->inputs.used_stdin) {
    cli_complain("standard input names nothing to look at");
    return CLI_FAILED;
  }
  if (job->inputs.n == 0) return cli_usage_error(command, "nothing to look at: give --image or --text");
  if (job->format == NPY && (job->out == NULL || strcmp(job->out, "-") == 0) && isatty(STDOUT_FILENO))
    return cli_usage_error(command, "npy is not for a terminal: give -o FILE");
  int towers = cli_towers_of(&job->inputs);
  clipc_model *model;
  if (!cli_model_open(&model, command, &job->model, towers)) return CLI_FAILED;
  int code = show_all(job, model);
  clipc_model_close(model);
  return code;
}

static bool own_option(const struct cli_command *command, void *context, int id, const char *value) {
  struct job *job = context;
  switch (id) {
  case IMAGE: return cli_add_image(&job->inputs, value);
  case TEXT: cli_add_text(&job->inputs, value, strlen(value)); return true;
  case FORMAT: return (job->format = cli_choice(command, "format", value, formats)) >= 0;
  case OUT: job->out = value; return true;
  default:
    cli_usage_error(command, "\"%s\" needs to be told what it is: --image or --text before it", value);
    return false;
  }
}

static int run(const struct cli_command *command, int argc, char **argv) {
  struct job job = {0};
  int code = cli_parse(command, argc, argv, &job.model, own_option, &job);
  if (code == CLI_PARSED) code = layers(command, &job);
  cli_inputs_free(&job.inputs);
  return code;
}

const struct cli_command cli_layers = {
    .name = "layers",
    .summary = "what a tower holds between its blocks",
    .usage = "-m MODEL [--image FILE|DIR]... [--text TEXT]... [-f FORMAT] [-o OUT]",
    .details = "Layer 0 is what the first block is given, behind the positions (and ln_pre); layer i what the i-th\n"
               "block left, as transformers' hidden_states have it. The last norm comes behind them.\n"
               "Rows are a picture's class token and its patches; a text's tokens up to the one that is pooled, or\n"
               "the whole context where the tower is not causal.\n"
               "\n"
               "table shows the rows' mean length, the least and the greatest number, and the mean of the absolute\n"
               "values; jsonl the same, a line per input:\n"
               "  {\"kind\":\"text\",\"input\":\"a cat\",\"n_tokens\":4,\"width\":64,\"layers\":[\n"
               "    {\"norm\":1.2,\"min\":-0.5,\"max\":0.4,\"mean_abs\":0.1}, ...]}\n"
               "npy is float32 [layers, tokens, width]; of several inputs one array behind the other, which np.load\n"
               "takes from an open file one by one. An input that failed has the shape (0, 0, 0).\n",
    .examples = "clipc layers -m models/tiny --text \"a photo of a red car\"\n"
                "clipc layers -m models/tiny --precision int8 --image cat.jpg -f npy -o cat.npy\n"
                "clipc layers -m models/tiny --image photos/ -f jsonl | jq '.layers[-1].norm'\n",
    .options = own_options,
    .groups = CLI_TAKES_MODEL | CLI_TAKES_PICTURES,
    .run = run,
};
