/* clipc version: what is linked and how it was built. */
#include "cli/options.h"
#include "cli/output.h"

static int run(const struct cli_command *command, int argc, char **argv) {
  struct cli_parser parser = {.command = command, .argc = argc, .argv = argv, .next = 1};
  const char *value;
  switch (cli_next(&parser, &value)) {
  case CLI_END: break;
  case CLI_HELP: return cli_help(command);
  case CLI_PLAIN: return cli_usage_error(command, "version takes no arguments, but got \"%s\"", value);
  default: return CLI_FAILED;
  }
  struct cli_output output;
  if (!cli_output_open(&output, NULL)) return CLI_FAILED;
  cli_print(&output, "clipc %s\n%s\n", clipc_version(), clipc_build_info());
  return cli_output_close(&output, true) ? CLI_OK : CLI_FAILED;
}

const struct cli_command cli_version = {
    .name = "version",
    .summary = "the version, and how it was built",
    .usage = "",
    .examples = "clipc version\n",
    .run = run,
};
