/* clipc tokenize: texts to token ids, a JSON array per line and text.
 * In: the arguments, or lines of stdin for "-". Out: start token, content, end token; no padding. */
#include "cli/inputs.h"
#include "cli/options.h"
#include "cli/writers.h"

#include <stdlib.h>
#include <string.h>

enum { OUT = CLI_OWN };

static const struct cli_option own_options[] = {
    {OUT, 'o', "out", "FILE", "write to a file, which appears when it is whole [stdout]"},
    {0},
};

/* Returns the exit code so far. For a text that has no ids null takes the line: lines and texts keep in step. */
static int write_ids(struct cli_output *output, const clipc_model *model, const struct cli_input *item, int32_t *ids,
                     int code) {
  size_t n_ids = 0;
  clipc_error error = {0};
  if (clipc_tokenize(model, item->text, item->n_bytes, ids, &n_ids, &error) != CLIPC_OK) {
    cli_complain_of(item, &error);
    cli_print(output, "null\n");
    return cli_code_after(code, &error);
  }
  for (size_t i = 0; i < n_ids; i++) cli_print(output, "%s%ld", i == 0 ? "[" : ",", (long)ids[i]);
  cli_print(output, "]\n");
  return code;
}

static int tokenize(const struct cli_command *command, const struct cli_inputs *inputs,
                    const struct cli_model_options *options, const char *out) {
  clipc_model *model;
  struct cli_output output = {0};
  if (!cli_model_open(&model, command, options, CLIPC_TOWER_TEXT)) return CLI_FAILED;
  int code = CLI_FAILED;
  if (cli_output_open(&output, out)) {
    int32_t *ids = cli_allocate(clipc_context_length(model), sizeof *ids);
    code = CLI_OK;
    for (size_t i = 0; i < inputs->n && output.error == 0 && code != CLI_FAILED; i++) {
      code = write_ids(&output, model, &inputs->items[i], ids, code);
    }
    if (!cli_output_close(&output, true)) code = CLI_FAILED;
    free(ids);
  }
  clipc_model_close(model);
  return code;
}

static int parse(const struct cli_command *command, struct cli_inputs *inputs, int argc, char **argv) {
  struct cli_parser parser = {.command = command, .argc = argc, .argv = argv, .next = 1};
  struct cli_model_options options = {0};
  const char *value, *out = NULL;
  int id;
  while ((id = cli_next(&parser, &value)) != CLI_END) {
    if (id == CLI_BAD) return CLI_FAILED;
    if (id == CLI_HELP) return cli_help(command);
    if (id == OUT) {
      out = value;
    } else if (id != CLI_PLAIN) {
      if (!cli_model_option(command, &options, id, value)) return CLI_FAILED;
    } else if (strcmp(value, "-") == 0 && !parser.only_plain) {
      if (!cli_add_lines(inputs, value, false)) return CLI_FAILED;
    } else {
      cli_add_text(inputs, value, strlen(value));
    }
  }
  if (inputs->n == 0 && !inputs->used_stdin) return cli_usage_error(command, "nothing to tokenize: give a text");
  return tokenize(command, inputs, &options, out);
}

static int run(const struct cli_command *command, int argc, char **argv) {
  struct cli_inputs inputs = {0};
  int code = parse(command, &inputs, argc, argv);
  cli_inputs_free(&inputs);
  return code;
}

const struct cli_command cli_tokenize = {
    .name = "tokenize",
    .summary = "texts to token ids",
    .usage = "-m DIR TEXT...",
    .details = "One JSON array per line and text, with start and end token, without padding, cut to the model's\n"
               "context; null for a text that failed. - reads texts from stdin, a line each; after -- it is a text.\n",
    .examples = "clipc tokenize -m models/tiny \"a photo of a cat\" \"a photo of a dog\"\n"
                "clipc tokenize -m models/tiny - < captions.txt > ids.jsonl\n",
    .options = own_options,
    .groups = CLI_TAKES_MODEL,
    .run = run,
};
