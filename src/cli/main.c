/* The program clipc: finds the command, prints the help. Everything it does goes through clipc.h.
 * Exit codes: 0 all fine, 1 some item failed, 2 usage or model error. */
#include "cli/options.h"
#include "cli/output.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static const struct cli_command *const commands[] = {&cli_embed,      &cli_search,  &cli_classify, &cli_tokenize,
                                                     &cli_preprocess, &cli_decode,  &cli_inspect,  &cli_layers,
                                                     &cli_pack,       &cli_convert, &cli_quality,  &cli_zeroshot_eval,
                                                     &cli_bench,      &cli_pull,    &cli_version};
enum { N_COMMANDS = sizeof commands / sizeof *commands };

static const struct cli_command *find_command(const char *name) {
  for (size_t i = 0; i < N_COMMANDS; i++) {
    if (strcmp(commands[i]->name, name) == 0) return commands[i];
  }
  return NULL;
}

/* Lines of text, each with two spaces before it. */
static void print_indented(struct cli_output *output, const char *text) {
  while (*text != '\0') {
    size_t n = strcspn(text, "\n");
    cli_print(output, "%s%.*s\n", n > 0 ? "  " : "", (int)n, text);
    text += n + (text[n] == '\n');
  }
}

struct help {
  struct cli_output *output;
  size_t width; /* of the options' names */
};

static size_t option_width(const struct cli_option *option) {
  return strlen(option->name) + (option->value != NULL ? strlen(option->value) + 1 : 0);
}

static void measure_option(const struct cli_option *option, void *context) {
  struct help *help = context;
  if (option_width(option) > help->width) help->width = option_width(option);
}

static void print_option(const struct cli_option *option, void *context) {
  struct help *help = context;
  cli_print(help->output, option->letter != 0 ? "  -%c, " : "      ", option->letter);
  cli_print(help->output, "--%s%s%s%*s  %s\n", option->name, option->value != NULL ? " " : "",
            option->value != NULL ? option->value : "", (int)(help->width - option_width(option)), "", option->help);
}

int cli_help(const struct cli_command *command) {
  struct cli_output output;
  if (!cli_output_open(&output, NULL)) return CLI_FAILED;
  cli_print(&output, "clipc %s: %s\n\nUsage: clipc %s %s\n\nOptions:\n", command->name, command->summary, command->name,
            command->usage);
  struct help help = {.output = &output};
  cli_each_option(command, measure_option, &help);
  cli_each_option(command, print_option, &help);
  if (command->details != NULL) cli_print(&output, "\n%s", command->details);
  cli_print(&output, "\nExamples:\n");
  print_indented(&output, command->examples);
  return cli_output_close(&output, true) ? CLI_OK : CLI_FAILED;
}

static const char closing[] = "\n"
                              "Example:\n"
                              "  clipc classify -m models/tiny --image models/tiny/pictures \\\n"
                              "    --label \"a red circle\" --label \"a blue square\"\n"
                              "\n"
                              "clipc COMMAND --help explains a command. Results go to stdout, errors to stderr.\n"
                              "Exit code: 0 all fine, 1 some item failed, 2 usage or model error.\n";

static void print_usage(struct cli_output *output) {
  cli_print(output, "clipc %s: CLIP in C. Pictures and sentences in, vectors out.\n\n", clipc_version());
  cli_print(output, "Usage: clipc COMMAND [options]\n\nCommands:\n");
  for (size_t i = 0; i < N_COMMANDS; i++) {
    cli_print(output, "  %-15s%s\n", commands[i]->name, commands[i]->summary);
  }
  cli_print(output, "%s", closing);
}

static int help(int argc, char **argv) {
  const struct cli_command *command = argc > 0 ? find_command(argv[0]) : NULL;
  if (command != NULL) return cli_help(command);
  if (argc > 0) return cli_usage_error(NULL, "there is no command \"%s\"", argv[0]);
  struct cli_output output;
  if (!cli_output_open(&output, NULL)) return CLI_FAILED;
  print_usage(&output);
  return cli_output_close(&output, true) ? CLI_OK : CLI_FAILED;
}

static int unknown_command(const char *word) {
  const char *names[N_COMMANDS];
  for (size_t i = 0; i < N_COMMANDS; i++) names[i] = commands[i]->name;
  const char *nearest = cli_nearest(word, names, N_COMMANDS);
  if (nearest != NULL) return cli_usage_error(NULL, "there is no command \"%s\"; did you mean %s?", word, nearest);
  return cli_usage_error(NULL, "there is no command \"%s\"", word);
}

/* A closed stdin, stdout or stderr would lend its number to the next file that is opened, which results or
 * complaints would then be written into. In its place comes a descriptor on which reading or writing fails. */
static void fill_standard_descriptors(void) {
  for (int descriptor = 0; descriptor < 3; descriptor++) {
    if (fcntl(descriptor, F_GETFD) >= 0) continue;
    if (open("/dev/null", descriptor == 0 ? O_WRONLY : O_RDONLY) != descriptor) return;
  }
}

int main(int argc, char **argv) {
  fill_standard_descriptors();
  signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is told of like a full disk */
  if (argc < 2) {
    struct cli_output output = {.stream = stderr, .name = "standard error"};
    print_usage(&output);
    return CLI_FAILED;
  }
  const char *word = argv[1];
  if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) return help(0, NULL);
  if (strcmp(word, "help") == 0) return help(argc - 2, argv + 2);
  if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0) return cli_version.run(&cli_version, 1, argv + 1);
  if (word[0] == '-') return cli_usage_error(NULL, "a command comes first, not \"%s\"", word);
  const struct cli_command *command = find_command(word);
  int code = command == NULL ? unknown_command(word) : command->run(command, argc - 1, argv + 1);
  clipc_shutdown();
  return code;
}
