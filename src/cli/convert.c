/* clipc convert: a model folder as a new folder: other types of weights, shards, one tower alone.
 * In: a folder with safetensors. Out: a folder of the same kind, which appears when all of it is there. Ctrl-C leaves
 * nothing behind. */
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
    {MODEL, 'm', "model", "FOLDER", "a folder as Hugging Face or open_clip publish it, with safetensors"},
    {OUT, 'o', "out", "DIR", "the new folder; it must not be there yet, or be empty"},
    {TYPE, 0, "precision", "NAME", "type of the weights: f32, f16, bf16, or same [same]"},
    {TOWER, 0, "towers", "NAME", "all, or of a Hugging Face folder one alone: image or text [all]"},
    {SHARD_BYTES, 0, "shard-bytes", "N", "bytes of weights in one file at most, with an index [one file]"},
    {0},
};

static volatile sig_atomic_t convert_stopped;

static void stop_converting(int signal_number) {
  (void)signal_number;
  convert_stopped = 1;
}

/* Shows megabytes; other than 0 ends it. */
static int show_progress(void *context, uint64_t n_done, uint64_t n_bytes) {
  struct cli_progress *progress = context;
  if (progress->what == NULL) cli_progress_start(progress, "converting, MB", (size_t)(n_bytes / 1000000));
  cli_progress_step(progress, (size_t)(n_done / 1000000), 0);
  return convert_stopped != 0;
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

static int convert(const char *folder, const char *out, clipc_convert_options *options) {
  struct cli_progress progress = {0};
  clipc_conversion made;
  clipc_error error = {0};
  struct sigaction action = {.sa_handler = stop_converting, .sa_flags = (int)SA_RESETHAND};
  sigaction(SIGINT, &action, NULL);
  options->progress = show_progress;
  options->context = &progress;
  clipc_status status = clipc_convert(folder, out, options, &made, &error);
  cli_progress_clear(&progress);
  if (status == CLIPC_OK) return report(out, &made);
  cli_complain("%s", error.message);
  return status == CLIPC_E_CANCELLED ? CLI_STOPPED : CLI_FAILED;
}

static int run(const struct cli_command *command, int argc, char **argv) {
  struct cli_parser parser = {.command = command, .argc = argc, .argv = argv, .next = 1};
  clipc_convert_options options = {0};
  const char *folder = NULL, *out = NULL, *value;
  int id, choice;
  while ((id = cli_next(&parser, &value)) != CLI_END) {
    switch (id) {
    case CLI_BAD: return CLI_FAILED;
    case CLI_HELP: return cli_help(command);
    case MODEL: folder = value; break;
    case OUT: out = value; break;
    case TYPE:
      if ((choice = cli_choice(command, "precision", value, types)) < 0) return CLI_FAILED;
      options.type = (clipc_weights_type)choice;
      break;
    case TOWER:
      if ((options.towers = cli_choice(command, "towers", value, towers)) < 0) return CLI_FAILED;
      break;
    case SHARD_BYTES:
      if (!cli_number(command, "shard-bytes", value, 1, INT64_MAX, &options.shard_bytes)) return CLI_FAILED;
      break;
    default: return cli_usage_error(command, "what is \"%s\"? The folders are given as -m DIR -o DIR", value);
    }
  }
  if (folder == NULL) return cli_usage_error(command, "convert needs a model: -m DIR");
  if (out == NULL) return cli_usage_error(command, "convert needs a folder to make: -o DIR");
  return convert(folder, out, &options);
}

const struct cli_command cli_convert = {
    .name = "convert",
    .summary = "a model folder to a new one: f16, shards, one tower",
    .usage = "-m DIR -o DIR [--precision f32|f16|bf16] [--towers image|text] [--shard-bytes N]",
    .details =
        "Tensor names, configuration and tokeniser stay; transformers and open_clip read the new folder too. What a\n"
        "type cannot hold is refused by its tensor. One piece of a tensor is in memory at a time. For a file that\n"
        "opens at once there is clipc pack; .pt and .bin files are converted by weights_tools/convert.py.\n",
    .examples = "clipc convert -m models/tiny -o tiny-f16 --precision f16\n"
                "clipc convert -m ViT-L-14 -o ViT-L-14-image --towers image --shard-bytes 500000000\n",
    .options = own_options,
    .run = run,
};
