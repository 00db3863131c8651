/* clipc classify: which label fits a picture.
 * In: pictures, labels, templates. Every label is embedded once, each picture once; the scores are the softmax over
 * the labels of logit_scale x cosine. Out: a table with bars for people, or jsonl for programs, best label first. */
#include "cli/flow.h"
#include "cli/progress.h"
#include "cli/writers.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { IMAGE = CLI_OWN, URL, BASE64, LABEL, LABELS, TEMPLATE, TOP, FORMAT, OUT, BATCH };

enum { TABLE, JSONL };
static const char *const formats[] = {"table", "jsonl", NULL};

static const struct cli_option own_options[] = {
    {IMAGE, 'i', "image", "FILE|DIR", "a picture, a folder's pictures, or - for paths on stdin; may be repeated"},
    {URL, 'u', "url", "URL", "a picture by http or https, or - for URLs on stdin; may be repeated"},
    {BASE64, 0, "base64", "TEXT", "a picture as base64 or data: URI, or - for lines on stdin; may be repeated"},
    {LABEL, 'l', "label", "TEXT", "a label; may be repeated"},
    {LABELS, 0, "labels", "FILE", "every line of a file, or of stdin for -, is a label"},
    {TEMPLATE, 0, "template", "TEXT", "the sentence around a label, at {}; several are averaged [a photo of a {}]"},
    {TOP, 'k', "top", "N", "show the N best labels [all]"},
    {FORMAT, 'f', "format", "NAME", "table or jsonl [table]"},
    {OUT, 'o', "out", "FILE", "write to a file, which appears when it is whole [stdout]"},
    {BATCH, 0, "batch", "N", "pictures computed at once [8]"},
    {0},
};

struct job {
  struct cli_inputs images, labels;
  struct cli_list templates;
  struct cli_model_options model;
  const char *out;
  int format;
  uint64_t top, most;
};

/* What the labels are to every picture. */
struct scores {
  float *labels;        /* [n_labels, dimension] */
  float *logits, *ps;   /* [n_labels] */
  size_t *order;        /* [top] */
  char **shown;         /* [n_labels], fit for a terminal; only for a table */
  size_t widest, n_top; /* columns of the widest; labels to show */
};

static void scores_free(struct scores *scores, size_t n_labels) {
  for (size_t i = 0; scores->shown != NULL && i < n_labels; i++) free(scores->shown[i]);
  free(scores->shown);
  free(scores->labels);
  free(scores->logits);
  free(scores->ps);
  free(scores->order);
}

static bool scores_make(struct scores *scores, const struct job *job, clipc_session *session, size_t dimension) {
  const size_t n = job->labels.n;
  struct cli_progress progress;
  *scores = (struct scores){.n_top = job->top < n ? (size_t)job->top : n};
  scores->labels = cli_allocate(n, dimension * sizeof(float));
  scores->logits = cli_allocate(n, sizeof(float));
  scores->ps = cli_allocate(n, sizeof(float));
  scores->order = cli_allocate(n, sizeof(size_t));
  scores->shown = cli_allocate(n, sizeof(char *));
  cli_progress_start(&progress, "labels", n);
  for (size_t i = 0; i < n; i++) {
    const struct cli_input *label = &job->labels.items[i];
    clipc_error error = {0};
    scores->shown[i] = cli_clean(label->text, label->n_bytes);
    size_t columns = cli_columns(scores->shown[i]);
    if (columns > scores->widest) scores->widest = columns;
    if (clipc_embed_prompts(session, label->text, job->templates.items, job->templates.n,
                            scores->labels + i * dimension, &error) != CLIPC_OK) {
      cli_progress_clear(&progress);
      cli_complain("label \"%s\": %s", label->text, error.message);
      return false;
    }
    cli_progress_step(&progress, i + 1, 0);
  }
  cli_progress_clear(&progress);
  return true;
}

static void write_line(struct cli_output *output, const struct job *job, const struct scores *scores,
                       const struct cli_input *image, const clipc_error *error) {
  cli_print(output, "{\"input\":");
  cli_json_string(output, image->text, image->n_bytes);
  if (error->status != CLIPC_OK) {
    cli_print(output, ",\"error\":");
    cli_json_error(output, error);
    cli_print(output, "}\n");
    return;
  }
  cli_print(output, ",\"labels\":[");
  for (size_t rank = 0; rank < scores->n_top; rank++) {
    size_t i = scores->order[rank];
    cli_print(output, "%s{\"label\":", rank > 0 ? "," : "");
    cli_json_string(output, job->labels.items[i].text, job->labels.items[i].n_bytes);
    cli_print(output, ",\"score\":");
    cli_json_float(output, scores->ps[i]);
    cli_print(output, ",\"logit\":");
    cli_json_float(output, scores->logits[i]);
    cli_print(output, "}");
  }
  cli_print(output, "]}\n");
}

/* cat.jpg
 *   a cat  ███████████████████████████████████▊       89.6 %
 *   a dog  ████▏                                      10.4 % */
static void write_table(struct cli_output *output, const struct scores *scores, const struct cli_input *image) {
  enum { MOST_COLUMNS = 40 };
  char bar[3 * MOST_COLUMNS + 1];
  const bool to_stdout = output->stream == stdout;
  const bool colours = to_stdout && cli_colours(STDOUT_FILENO), blocks = cli_draws_blocks();
  size_t width = to_stdout ? cli_terminal_width(STDOUT_FILENO) : 80;
  if (width < 40) width = 40;
  const size_t rest = 2 + 2 + 2 + 7 + 1; /* indentation, two gaps, "100.0 %", the last column */
  size_t n_label = scores->widest < (width - rest) / 2 ? scores->widest : (width - rest) / 2;
  size_t n_bar = width - rest - n_label < MOST_COLUMNS ? width - rest - n_label : MOST_COLUMNS;

  char *path = cli_clean(image->text, image->n_bytes);
  cli_print(output, "%s%s%s\n", colours ? "\033[1m" : "", path, colours ? "\033[0m" : "");
  free(path);
  for (size_t rank = 0; rank < scores->n_top; rank++) {
    size_t i = scores->order[rank];
    const char *label = scores->shown[i];
    bool cut = cli_columns(label) > n_label;
    size_t n_bytes = cli_fit(label, cut ? n_label - 1 : n_label);
    char *column = cli_allocate(n_bytes + 4, 1);
    memcpy(column, label, n_bytes);
    if (cut) strcpy(column + n_bytes, blocks ? "\xE2\x80\xA6" : "~");
    size_t padding = n_label - cli_columns(column);
    size_t filled = cli_bar(bar, n_bar, (double)scores->ps[i], blocks);
    cli_print(output, "  %s%s%*s  %s%s%s%*s  %5.1f %%\n", colours && rank == 0 ? "\033[1m" : "", column, (int)padding,
              "", colours ? (rank == 0 ? "\033[0;32m" : "\033[36m") : "", bar, colours ? "\033[0m" : "",
              (int)(n_bar - filled), "", 100 * (double)scores->ps[i]);
    free(column);
  }
}

/* Computes and writes; returns the exit code so far. Stops when nothing can be written, or by Ctrl-C. */
static int classify_all(const struct job *job, const clipc_model *model, struct cli_flow *flow, struct scores *scores,
                        struct cli_output *output) {
  struct cli_progress progress;
  size_t n_done = 0, n_failed = 0, n_shown = 0, index;
  const float *embedding;
  clipc_error error;
  int code = CLI_OK;
  cli_progress_start(&progress, "pictures", job->images.n);
  while (cli_flow_next(flow, &index, &embedding, &error)) {
    const struct cli_input *image = &job->images.items[index];
    n_done++;
    if (output->terminal) cli_progress_clear(&progress);
    if (error.status == CLIPC_OK) {
      clipc_logits(model, scores->logits, embedding, 1, scores->labels, job->labels.n);
      clipc_softmax(scores->ps, scores->logits, job->labels.n);
      clipc_top_k(scores->order, scores->n_top, scores->logits, job->labels.n);
    } else {
      n_failed++;
      code = cli_code_after(code, &error);
      cli_progress_clear(&progress);
      cli_complain_of(image, &error);
    }
    if (job->format == JSONL) {
      write_line(output, job, scores, image, &error);
    } else if (error.status == CLIPC_OK) {
      if (n_shown++ > 0) cli_print(output, "\n");
      write_table(output, scores, image);
    }
    if (!cli_flush(output)) break;
    cli_progress_step(&progress, index + 1, n_failed);
  }
  cli_progress_clear(&progress);
  if (!cli_was_stopped()) return code;
  cli_complain("stopped: %zu of %zu pictures are done", n_done, job->images.n);
  return CLI_STOPPED;
}

/* The labels' vectors, by a session that is gone before the pictures come. */
static bool embed_labels(struct scores *scores, const struct job *job, clipc_model *model) {
  clipc_session_options options = {.max_batch = (int)(job->most < job->templates.n ? job->most : job->templates.n)};
  clipc_session *session;
  clipc_error error = {0};
  if (clipc_session_open(&session, model, &options, &error) != CLIPC_OK) {
    cli_complain("%s", error.message);
    return false;
  }
  bool made = scores_make(scores, job, session, clipc_embedding_dimension(model));
  clipc_session_close(session);
  return made;
}

static int classify(const struct cli_command *command, struct job *job) {
  if (job->images.n == 0) return cli_usage_error(command, "nothing to classify: give --image, --url or --base64");
  if (job->labels.n == 0) return cli_usage_error(command, "no labels to choose from: give --label");
  if (job->templates.n == 0) cli_list_add(&job->templates, "a photo of a {}");
  clipc_model *model = NULL;
  struct cli_flow flow = {0};
  struct scores scores = {0};
  struct cli_output output = {0};
  int code = CLI_FAILED;
  if (!cli_model_open(&model, command, &job->model, CLIPC_TOWER_IMAGE | CLIPC_TOWER_TEXT)) goto done;
  if (!embed_labels(&scores, job, model)) goto done;
  if (!cli_flow_open(&flow, model, &job->images, job->most, false, &job->model)) goto done;
  if (!cli_output_open(&output, job->out)) goto done;
  code = classify_all(job, model, &flow, &scores, &output);
  if (!cli_output_close(&output, true)) code = CLI_FAILED;
done:
  scores_free(&scores, job->labels.n);
  cli_flow_close(&flow);
  clipc_model_close(model);
  return code;
}

static bool own_option(const struct cli_command *command, void *context, int id, const char *value) {
  struct job *job = context;
  if (id == CLI_PLAIN && strcmp(value, "-") == 0) id = IMAGE;
  if (id == IMAGE || id == URL || id == BASE64) job->images.used_stdin |= job->labels.used_stdin;
  switch (id) {
  case IMAGE: return cli_add_image(&job->images, value);
  case URL: return cli_add_remote(&job->images, CLIPC_INPUT_URL, value);
  case BASE64: return cli_add_remote(&job->images, CLIPC_INPUT_BASE64, value);
  case LABEL: cli_add_text(&job->labels, value, strlen(value)); break;
  case LABELS: job->labels.used_stdin = job->images.used_stdin; return cli_add_lines(&job->labels, value, true);
  case TEMPLATE:
    if (strstr(value, "{}") == NULL) {
      cli_usage_error(command, "--template \"%s\" has no {} where the label goes", value);
      return false;
    }
    cli_list_add(&job->templates, value);
    break;
  case TOP: return cli_number(command, "top", value, 1, INT64_MAX, &job->top);
  case FORMAT: return (job->format = cli_choice(command, "format", value, formats)) >= 0;
  case OUT: job->out = value; break;
  case BATCH: return cli_number(command, "batch", value, 1, 4096, &job->most);
  default:
    cli_usage_error(command, "\"%s\" needs to be told what it is: --image or --label before it", value);
    return false;
  }
  return true;
}

static int run(const struct cli_command *command, int argc, char **argv) {
  struct job job = {.most = 8, .top = INT64_MAX};
  int code = cli_parse(command, argc, argv, &job.model, own_option, &job);
  if (code == CLI_PARSED) code = classify(command, &job);
  cli_inputs_free(&job.images);
  cli_inputs_free(&job.labels);
  free(job.templates.items);
  cli_model_options_free(&job.model);
  return code;
}

const struct cli_command cli_classify = {
    .name = "classify",
    .summary = "which of your labels fits a picture",
    .usage = "-m MODEL --image FILE|DIR... [--url URL]... --label TEXT... [--template TEXT]... [-f FORMAT]",
    .details =
        "Scores are the softmax over the labels of logit_scale x cosine, the best label first. A line of jsonl:\n"
        "  {\"input\":\"cat.jpg\",\"labels\":[{\"label\":\"cat\",\"score\":0.9,\"logit\":25.1},...]}\n"
        "  {\"input\":\"dog.jpg\",\"error\":{\"status\":\"CLIPC_E_...\",\"message\":\"...\"}}\n",
    .examples = "clipc classify -m models/tiny --image cat.png --label cat --label dog\n"
                "clipc classify -m models/tiny --image photos/ --labels animals.txt -k 3\n"
                "clipc classify -m models/tiny --image cat.png --label cat --label dog \\\n"
                "  --template \"a photo of a {}\" --template \"a drawing of a {}\"\n",
    .options = own_options,
    .groups = CLI_TAKES_MODEL | CLI_TAKES_PICTURES | CLI_TAKES_URLS,
    .run = run,
};
