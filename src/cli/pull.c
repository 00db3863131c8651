/* clipc pull: a model from the Hugging Face hub, into its cache or a folder.
 * In: a name; the environment's HF_ variables. Out: the model's folder, and its path on stdout. */
#include "cli/hub.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/progress.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum { OUT = CLI_OWN, REVISION, INCLUDE, OFFLINE, PARALLEL, ALLOWED };

static const char *const includes[] = {"all", "vision", "text", NULL};

static const struct cli_option own_options[] = {
    {OUT, 'o', "out", "DIR", "the model's folder [in the hub's cache, where every command finds it by its name]"},
    {REVISION, 0, "revision", "NAME", "a branch, tag or commit [main]"},
    {INCLUDE, 0, "include", "TOWER", "vision or text: what only the other tower needs is left out [all]"},
    {OFFLINE, 0, "offline", NULL, "what is in the cache has to do"},
    {PARALLEL, 0, "parallel", "N", "files at once [4]"},
    {ALLOWED, 0, "allow", "HOST:PORT", "fetch from there although the address is private; may be repeated"},
    {0},
};

struct pull_job {
  const char *name;
  clipc_pull_options options;
  struct cli_list allow;
};

/* The user chose the endpoint, so it may be a private address: its "host:port". To be freed; NULL for none. */
static char *endpoint_origin(const char *endpoint) {
  bool https = endpoint != NULL && strncmp(endpoint, "https://", 8) == 0;
  if (!https && (endpoint == NULL || strncmp(endpoint, "http://", 7) != 0)) return NULL;
  const char *host = endpoint + (https ? 8 : 7);
  size_t n = strcspn(host, "/?#"), n_name = host[0] == '[' ? strcspn(host, "]") : 0;
  bool has_port = n_name < n && memchr(host + n_name, ':', n - n_name) != NULL;
  char *origin = cli_allocate(n + 8, 1);
  memcpy(origin, host, n);
  if (!has_port) strcat(origin, https ? ":443" : ":80");
  return origin;
}

static void watch(clipc_pull *pull) {
  enum { LOOK_MS = 50 };
  struct cli_progress progress = {0};
  bool begun = false, told = false;
  clipc_pull_progress state;
  do {
    clipc_pull_wait(pull, LOOK_MS, NULL);
    state = clipc_pull_how_far(pull);
    if (cli_was_stopped() && !told) {
      clipc_pull_cancel(pull);
      told = true;
    }
    if (state.n_bytes == 0 || state.done) continue;
    if (!begun) cli_progress_start_bytes(&progress, "pull", state.n_bytes, state.n_bytes_done);
    begun = true;
    cli_progress_step(&progress, state.n_bytes_done < state.n_bytes ? state.n_bytes_done : state.n_bytes, 0);
  } while (!state.done);
  if (begun) cli_progress_clear(&progress);
}

static int report(const char *path) {
  struct cli_output output;
  if (!cli_output_open(&output, NULL)) return CLI_FAILED;
  cli_print(&output, "%s\n", path);
  return cli_output_close(&output, true) ? CLI_OK : CLI_FAILED;
}

static int pull_model(struct pull_job *job) {
  struct cli_hub hub;
  cli_hub_read(&hub);
  char *origin = endpoint_origin(hub.endpoint);
  if (origin != NULL) cli_list_add(&job->allow, origin);
  job->options.cache = hub.cache;
  job->options.endpoint = hub.endpoint;
  job->options.token = hub.token;
  job->options.offline |= hub.offline;
  clipc_runtime_options options = {.n_threads = 2,
                                   .fetch = {.allow = job->allow.items, .n_allow = job->allow.n, .use_proxy = 1}};
  clipc_runtime *runtime;
  clipc_pull *pull = NULL;
  clipc_error error = {0};
  cli_catch_stop(SIGINT);
  if (clipc_runtime_open(&runtime, &options, &error) == CLIPC_OK &&
      clipc_pull_begin(&pull, runtime, job->name, &job->options, &error) == CLIPC_OK) {
    watch(pull);
    clipc_pull_status(pull, &error);
  }
  int code = CLI_FAILED;
  if (error.status == CLIPC_E_CANCELLED && cli_was_stopped())
    cli_complain("stopped; what was fetched stays for the next time"), code = CLI_STOPPED;
  else if (error.status != CLIPC_OK)
    cli_complain("%s", error.message);
  else
    code = report(clipc_pull_path(pull));
  clipc_pull_close(pull);
  clipc_runtime_close(runtime);
  cli_hub_free(&hub);
  free(origin);
  return code;
}

static bool own_option(const struct cli_command *command, void *context, int id, const char *value) {
  struct pull_job *job = context;
  uint64_t number = 0;
  if (id == CLI_PLAIN && job->name != NULL) {
    cli_usage_error(command, "pull takes one name; what is \"%s\"?", value);
    return false;
  }
  switch (id) {
  case OUT: job->options.folder = value; break;
  case REVISION: job->options.revision = value; break;
  case OFFLINE: job->options.offline = 1; break;
  case INCLUDE: return (job->options.towers = cli_choice(command, "include", value, includes)) >= 0; /* CLIPC_TOWER_ */
  case PARALLEL:
    if (!cli_number(command, "parallel", value, 1, 64, &number)) return false;
    job->options.n_parallel = (int)number;
    break;
  case ALLOWED: cli_list_add(&job->allow, value); break;
  default: job->name = value;
  }
  return true;
}

static int run(const struct cli_command *command, int argc, char **argv) {
  struct pull_job job = {0};
  int code = cli_parse(command, argc, argv, NULL, own_option, &job);
  if (code == CLI_PARSED && job.name == NULL)
    code = cli_usage_error(command, "pull needs a model: clipc pull openai/clip-vit-base-patch32");
  if (code == CLI_PARSED) code = pull_model(&job);
  free(job.allow.items);
  return code;
}

const struct cli_command cli_pull = {
    .name = "pull",
    .summary = "a model from the Hugging Face hub",
    .usage = "NAME [-o DIR] [--revision NAME] [--include TOWER]",
    .details = "NAME is a repository (org/name, hf-hub:org/name) or a short name (ViT-B/32, ViT-B-32::openai,\n"
               "ViT-B-32__laion2b_s34b_b79k). Only files that clipc opens are fetched, from where they were cut off,\n"
               "and each is compared with its hash; a folder appears when all of it is there. Its path is printed.\n"
               "With --include, files of the tokeniser or the preprocessing are left out, and of weights in several\n"
               "files those that the tower does not need; a single file comes whole (clipc pack --tower shrinks it).\n"
               "HF_ENDPOINT, HF_TOKEN, HF_HOME, HF_HUB_CACHE and HF_HUB_OFFLINE are obeyed; the cache is the one of\n"
               "Python's programs, and -m NAME finds the main revision that either has put there; of another\n"
               "revision give the printed path.\n",
    .examples = "clipc pull openai/clip-vit-base-patch32\n"
                "clipc embed -m openai/clip-vit-base-patch32 --text \"a cat\"\n"
                "clipc pull ViT-B-32::laion2b_s34b_b79k -o ViT-B-32\n",
    .options = own_options,
    .run = run,
};
