/* clipc pack: a model folder to one packed file, which opens at once.
 * In: a model folder, a precision, a tier. Out: the file, under its name when all of it is there. */
#include "cli/options.h"
#include "cli/output.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { OUT = CLI_OWN, TOWER };

static const char *const towers[] = {"all", "image", "text", NULL};

static const struct cli_option own_options[] = {
    {OUT, 'o', "out", "FILE", "the packed file; one of that name is replaced"},
    {TOWER, 0, "tower", "NAME", "what to pack: all, image or text [all]"},
    {0},
};

/* What is being done, on a terminal; "" takes it away. */
static void show(const char *what, const char *name) {
  if (!cli_is_terminal(STDERR_FILENO)) return;
  char *clean = cli_clean(name, strlen(name));
  size_t width = cli_terminal_width(STDERR_FILENO);
  clean[cli_fit(clean, width > 20 ? width - 20 : 0)] = '\0';
  fprintf(stderr, "\r%s%s\033[K", what, clean);
  fflush(stderr);
  free(clean);
}

/* Of the file, which has it at hand. */
static bool read_fingerprint(char fingerprint[CLIPC_FINGERPRINT_BYTES], const char *path, clipc_reference reference) {
  clipc_options options = {.reference = reference};
  clipc_error error = {0};
  clipc_model *packed;
  bool fine = clipc_model_open(&packed, path, &options, &error) == CLIPC_OK &&
              clipc_model_fingerprint(packed, fingerprint, &error) == CLIPC_OK;
  clipc_model_close(packed);
  if (!fine) cli_complain("%s", error.message);
  return fine;
}

static int report(const clipc_model *model, const char *path) {
  struct stat info;
  struct cli_output output;
  char fingerprint[CLIPC_FINGERPRINT_BYTES];
  if (!read_fingerprint(fingerprint, path, clipc_model_reference(model))) return CLI_FAILED;
  double megabytes = stat(path, &info) == 0 ? (double)info.st_size / 1e6 : 0;
  if (!cli_output_open(&output, NULL)) return CLI_FAILED;
  char *name = cli_clean(path, strlen(path));
  cli_print(&output, "%s: %.1f MB, %s for %s\nfingerprint %s\n", name, megabytes,
            cli_precision_name(clipc_model_precision(model)), clipc_model_kernels(model), fingerprint);
  free(name);
  return cli_output_close(&output, true) ? CLI_OK : CLI_FAILED;
}

static int run(const struct cli_command *command, int argc, char **argv) {
  struct cli_parser parser = {.command = command, .argc = argc, .argv = argv, .next = 1};
  struct cli_model_options options = {0};
  const char *out = NULL, *value;
  int tower = 0, id;
  while ((id = cli_next(&parser, &value)) != CLI_END) {
    if (id == CLI_BAD) return CLI_FAILED;
    if (id == CLI_HELP) return cli_help(command);
    if (id == CLI_PLAIN) return cli_usage_error(command, "what is \"%s\"? The model is given as -m DIR", value);
    if (id == OUT) {
      out = value;
    } else if (id == TOWER) {
      if ((tower = cli_choice(command, "tower", value, towers)) < 0) return CLI_FAILED;
    } else if (!cli_model_option(command, &options, id, value)) {
      return CLI_FAILED;
    }
  }
  if (out == NULL) return cli_usage_error(command, "pack needs a file to write: -o FILE");
  if (strcmp(out, "-") == 0)
    return cli_usage_error(command, "a packed file is mapped, so it cannot be a stream: -o FILE");
  clipc_model *model;
  clipc_error error = {0};
  if (options.folder != NULL) show("reading ", options.folder);
  bool done = cli_model_open(&model, command, &options, tower);
  if (done) show("writing ", out);
  done = done && clipc_model_pack(model, out, &error) == CLIPC_OK;
  show("", "");
  if (error.status != CLIPC_OK) cli_complain("%s", error.message);
  int code = done ? report(model, out) : CLI_FAILED;
  clipc_model_close(model);
  return code;
}

const struct cli_command cli_pack = {
    .name = "pack",
    .summary = "a model folder to one file that opens at once",
    .usage = "-m DIR [--precision NAME] [--tier NAME] -o FILE",
    .details = "The file holds everything: weights as the kernels want them, configuration, tokeniser. Every command\n"
               "takes it as -m FILE. CPUs of other tiers take it too and repack it in memory, or refuse it with\n"
               "--refuse-repack. Reference, transparency and EXIF are still chosen when it is used.\n",
    .examples = "clipc pack -m models/tiny -o tiny.clipc\n"
                "clipc pack -m ViT-B-32 --precision int8 -o b32-int8.clipc\n"
                "clipc embed -m b32-int8.clipc --image cat.jpg\n",
    .options = own_options,
    .groups = CLI_TAKES_MODEL,
    .run = run,
};
