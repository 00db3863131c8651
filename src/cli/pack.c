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

static bool is_packed(const char *path) {
  clipc_error error = {0};
  clipc_model *model = NULL;
  bool packed = clipc_model_open(&model, path, NULL, &error) == CLIPC_OK;
  clipc_model_close(model);
  return packed;
}

/* Whether a file that the model is made of would be replaced. */
static bool is_of_model(const char *path, const char *folder) {
  const char *slash = strrchr(path, '/');
  char *parent = slash != NULL ? cli_copy(path, (size_t)(slash + 1 - path)) : cli_copy(".", 1);
  struct stat file, there, model;
  bool inside = stat(path, &file) == 0 && S_ISREG(file.st_mode) && stat(parent, &there) == 0 &&
                stat(folder, &model) == 0 && there.st_ino == model.st_ino && there.st_dev == model.st_dev;
  free(parent);
  return inside && !is_packed(path);
}

struct job {
  struct cli_model_options model;
  const char *out;
  int tower;
};

static int pack(const struct cli_command *command, const struct job *job) {
  if (job->out == NULL) return cli_usage_error(command, "pack needs a file to write: -o FILE");
  if (strcmp(job->out, "-") == 0)
    return cli_usage_error(command, "a packed file is mapped, so it cannot be a stream: -o FILE");
  if (job->model.folder != NULL && is_of_model(job->out, job->model.folder)) {
    cli_complain("%s: is a file of the model; a packed file needs a name of its own", job->out);
    return CLI_FAILED;
  }
  clipc_model *model;
  clipc_error error = {0};
  if (job->model.folder != NULL) show("reading ", job->model.folder);
  bool done = cli_model_open(&model, command, &job->model, job->tower);
  if (done) show("writing ", job->out);
  done = done && clipc_model_pack(model, job->out, &error) == CLIPC_OK;
  show("", "");
  if (error.status != CLIPC_OK) cli_complain("%s", error.message);
  int code = done ? report(model, job->out) : CLI_FAILED;
  clipc_model_close(model);
  return code;
}

static bool own_option(const struct cli_command *command, void *context, int id, const char *value) {
  struct job *job = context;
  switch (id) {
  case OUT: job->out = value; return true;
  case TOWER: return (job->tower = cli_choice(command, "tower", value, towers)) >= 0;
  default: cli_usage_error(command, "what is \"%s\"? The model is given as -m DIR", value); return false;
  }
}

static int run(const struct cli_command *command, int argc, char **argv) {
  struct job job = {0};
  int code = cli_parse(command, argc, argv, &job.model, own_option, &job);
  return code == CLI_PARSED ? pack(command, &job) : code;
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
