/* clipc convert: a model folder as a new folder: other types of weights, shards, one tower alone.
 * In: a folder with safetensors. Out: a folder of the same kind, which appears when all of it is there. Ctrl-C, and
 * being told to end, leave nothing behind. */
#include "cli/hub.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/progress.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum { MODEL = CLI_OWN, OUT, TYPE, TOWER, SHARD_BYTES };

static const char *const types[] = {"same", "f32", "f16", "bf16", NULL}; /* as clipc_weights_type */
static const char *const towers[] = {"all", "image", "text", NULL};

/* "precision" here is that of the files, so the shared options of models would mislead. */
static const struct cli_option own_options[] = {
    {MODEL, 'm', "model", "MODEL",
     "a folder as Hugging Face or open_clip publish it, with safetensors, or what clipc pull was given"},
    {OUT, 'o', "out", "DIR", "the new folder; it must not be there yet, or be empty"},
    {TYPE, 0, "precision", "NAME", "type of the weights: f32, f16, bf16, or same [same]"},
    {TOWER, 0, "tower", "NAME", "all, or of a Hugging Face folder one alone: image or text [all]"},
    {SHARD_BYTES, 0, "shard-bytes", "N", "bytes of weights in one file at most, with an index [one file]"},
    {0},
};

/* Shows megabytes; other than 0 ends it. */
static int show_progress(void *context, uint64_t n_done, uint64_t n_bytes) {
  struct cli_progress *progress = context;
  if (progress->what == NULL) cli_progress_start(progress, "converting, MB", (size_t)(n_bytes / 1000000));
  cli_progress_step(progress, (size_t)(n_done / 1000000), 0);
  return cli_was_stopped();
}

static int report(const char *out, const clipc_conversion *made) {
  struct cli_output output;
  if (!cli_output_open(&output, NULL)) return CLI_FAILED;
  char *name = cli_clean(out, strlen(out));
  cli_print(&output, "%s: %zu tensors, %.1f MB in %zu file%s\nfingerprint %s\n", name, made->n_tensors,
            (double)made->n_bytes / 1e6, made->n_files, made->n_files == 1 ? "" : "s", made->fingerprint);
  free(name);
  return cli_output_close(&output, true) ? CLI_OK : CLI_FAILED;
}

struct job {
  const char *folder, *out;
  clipc_convert_options options;
};

static int convert(const struct cli_command *command, struct job *job) {
  if (job->folder == NULL) return cli_usage_error(command, "convert needs a model: -m DIR");
  if (job->out == NULL) return cli_usage_error(command, "convert needs a folder to make: -o DIR");
  struct cli_progress progress = {0};
  clipc_conversion made;
  clipc_error error = {0};
  cli_catch_stop(SIGINT), cli_catch_stop(SIGTERM), cli_catch_stop(SIGHUP);
  job->options.progress = show_progress;
  job->options.context = &progress;
  clipc_status status = clipc_convert(job->folder, job->out, &job->options, &made, &error);
  cli_progress_clear(&progress);
  if (status == CLIPC_OK) return report(job->out, &made);
  cli_hub_complain(job->folder, &error);
  return status == CLIPC_E_CANCELLED ? CLI_STOPPED : CLI_FAILED;
}

static bool own_option(const struct cli_command *command, void *context, int id, const char *value) {
  struct job *job = context;
  int choice = 0;
  switch (id) {
  case MODEL: job->folder = cli_hub_model(value); return true;
  case OUT: job->out = value; return true;
  case TYPE:
    if ((choice = cli_choice(command, "precision", value, types)) >= 0) job->options.type = (clipc_weights_type)choice;
    return choice >= 0;
  case TOWER: return (job->options.towers = cli_choice(command, "tower", value, towers)) >= 0;
  case SHARD_BYTES: return cli_number(command, "shard-bytes", value, 1, INT64_MAX, &job->options.shard_bytes);
  default: cli_usage_error(command, "what is \"%s\"? The folders are given as -m DIR -o DIR", value); return false;
  }
}

static int run(const struct cli_command *command, int argc, char **argv) {
  struct job job = {0};
  int code = cli_parse(command, argc, argv, NULL, own_option, &job);
  return code == CLI_PARSED ? convert(command, &job) : code;
}

const struct cli_command cli_convert = {
    .name = "convert",
    .summary = "a model folder to a new one: f16, shards, one tower",
    .usage = "-m DIR -o DIR [--precision f32|f16|bf16] [--tower image|text] [--shard-bytes N]",
    .details =
        "Tensor names, configuration and tokeniser stay; transformers and open_clip read the new folder too. What a\n"
        "type cannot hold is refused by its tensor. One piece of a tensor is in memory at a time. For a file that\n"
        "opens at once there is clipc pack; .pt and .bin files are converted by weights_tools/convert.py.\n",
    .examples = "clipc convert -m models/tiny -o tiny-f16 --precision f16\n"
                "clipc convert -m ViT-L-14 -o ViT-L-14-image --tower image --shard-bytes 500000000\n",
    .options = own_options,
    .run = run,
};
