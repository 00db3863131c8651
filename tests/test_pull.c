/* Getting weights from a hub that redirects, cuts, lies and stalls: what has its last name is whole and right. */
#include "testing.h"

#include "async/pull.h"
#include "base/sha1.h"
#include "hub_server.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct hub_file files[] = {
    {"README.md", (const uint8_t *)"hello", 5, false},
    {"config.json", (const uint8_t *)"{\"model_type\": \"clip\"}\n", 23, false},
    {"tokenizer.json", (const uint8_t *)"{}", 2, false},
    {"preprocessor_config.json", (const uint8_t *)"{ }", 3, false},
    {"model.safetensors", NULL, 0, true},
    {"pytorch_model.bin", (const uint8_t *)"PK", 2, true},
};
enum { LARGE = 4, LARGE_BYTES = 100003 };
static uint8_t large[LARGE_BYTES];
static struct hub_manners manners;
static struct hub_server *server;
static clipc_runtime *runtime;
static char endpoint[64];

/* ---- the room of a test */

static void remove_tree(const char *path) {
  char command[512];
  snprintf(command, sizeof command, "rm -rf '%s'", path);
  assert_int_equal(system(command), 0);
}

static int set_up(void **state) {
  (void)state;
  char allowed[2][32];
  const char *const allow[] = {allowed[0], allowed[1]};
  manners = (struct hub_manners){.retry_after_s = -1, .cut_at = -1, .safetensors = true};
  for (size_t i = 0; i < LARGE_BYTES; i++) large[i] = (uint8_t)(i * 7 + i / 251);
  files[LARGE].data = large;
  files[LARGE].n_bytes = LARGE_BYTES;
  server = hub_server_start(files, COUNT(files), &manners);
  assert_non_null(server);
  for (int i = 0; i < 2; i++) snprintf(allowed[i], sizeof allowed[i], "127.0.0.1:%d", hub_server_port(server, i));
  snprintf(endpoint, sizeof endpoint, "http://127.0.0.1:%d", hub_server_port(server, 0));
  clipc_runtime_options options = {.n_threads = 2, .fetch = {.allow = allow, .n_allow = 2}};
  assert_int_equal(clipc_runtime_open(&runtime, &options, NULL), CLIPC_OK);
  test_folder = test_folder_new("pull of models"); /* a space in the path */
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  clipc_runtime_close(runtime);
  hub_server_stop(server);
  remove_tree(test_folder);
  return 0;
}

static const char *in_folder(const char *name) {
  static char paths[4][1024];
  static int at;
  at = (at + 1) % 4;
  snprintf(paths[at], sizeof paths[at], "%s/%s", test_folder, name);
  return paths[at];
}

static size_t count_entries(const char *folder) {
  size_t n = 0;
  DIR *names = opendir(folder);
  if (names == NULL) return 0;
  for (struct dirent *name; (name = readdir(names)) != NULL;)
    n += strcmp(name->d_name, ".") != 0 && strcmp(name->d_name, "..") != 0;
  closedir(names);
  return n;
}

static clipc_error last_error;
static char last_path[1024];

static clipc_status pull_name(const char *name, clipc_pull_options options) {
  clipc_pull *pull;
  if (options.endpoint == NULL) options.endpoint = endpoint;
  last_error = (clipc_error){CLIPC_OK, ""};
  if (clipc_pull_begin(&pull, runtime, name, &options, &last_error) != CLIPC_OK) return last_error.status;
  clipc_status waited;
  while ((waited = clipc_pull_wait(pull, 60000, &last_error)) == CLIPC_E_NO_MEMORY) /* of waiting itself */
    nanosleep(&(struct timespec){0, 100000}, NULL);
  assert_int_equal(waited, CLIPC_OK);
  last_error = (clipc_error){CLIPC_OK, ""};
  clipc_status status = clipc_pull_status(pull, &last_error);
  if (status == CLIPC_OK) snprintf(last_path, sizeof last_path, "%s", clipc_pull_path(pull));
  clipc_pull_progress far = clipc_pull_how_far(pull);
  assert_int_equal(far.done, 1);
  if (status == CLIPC_OK && !options.offline) assert_int_equal(far.n_files, far.n_files_done);
  clipc_pull_close(pull);
  return status;
}

#define assert_pulled(name, ...)                                                                                       \
  do {                                                                                                                 \
    if (pull_name(name, (clipc_pull_options){__VA_ARGS__}) != CLIPC_OK) fail_msg("%s", last_error.message);            \
  } while (0)
#define assert_refused(code, words, name, ...)                                                                         \
  do {                                                                                                                 \
    clipc_status got = pull_name(name, (clipc_pull_options){__VA_ARGS__});                                             \
    if (got != (code) || strstr(last_error.message, words) == NULL)                                                    \
      fail_msg("%s: %s", clipc_status_name(got), last_error.message);                                                  \
  } while (0)

static void assert_whole(const char *folder) {
  char path[1100];
  size_t n;
  snprintf(path, sizeof path, "%s/model.safetensors", folder);
  uint8_t *data = test_read_file(path, &n);
  assert_int_equal(n, LARGE_BYTES);
  assert_memory_equal(data, large, n);
  free(data);
  snprintf(path, sizeof path, "%s/config.json", folder);
  data = test_read_file(path, &n);
  assert_int_equal(n, files[1].n_bytes);
  free(data);
}

/* ---- tests */

static void sha1_is_that_of_the_standard(void **state) {
  (void)state;
  static const char *const cases[][2] = {
      {"", "da39a3ee5e6b4b0d3255bfef95601890afd80709"},
      {"abc", "a9993e364706816aba3e25717850c26c9cd0d89d"},
      {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", "84983e441c3bd26ebaae4aa1f95129e5e54670f1"}};
  for (size_t i = 0; i < COUNT(cases); i++) {
    struct clipc__sha1 sha;
    uint8_t digest[20];
    char text[41];
    clipc__sha1_begin(&sha);
    for (const char *c = cases[i][0]; *c; c++) clipc__sha1_add(&sha, c, 1);
    clipc__sha1_end(&sha, digest);
    for (int k = 0; k < 20; k++) sprintf(text + 2 * k, "%02x", digest[k]);
    assert_string_equal(text, cases[i][1]);
  }
}

static void names_are_those_users_know(void **state) {
  (void)state;
  static const struct {
    const char *name, *repository;
    bool open_clip;
  } cases[] = {
      {"openai/clip-vit-base-patch32", "openai/clip-vit-base-patch32", false},
      {"hf-hub:laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", true},
      {"ViT-B/32", "timm/vit_base_patch32_clip_224.openai", true},
      {"ViT-L/14@336px", "timm/vit_large_patch14_clip_336.openai", true},
      {"ViT-B-32__openai", "timm/vit_base_patch32_clip_224.openai", true},
      {"ViT-B-32::laion2b_s34b_b79k", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", true},
      {"vit-b-16-quickgelu::dfn2b", "apple/DFN2B-CLIP-ViT-B-16", true},
  };
  struct clipc__pull_name name;
  clipc_error error;
  for (size_t i = 0; i < COUNT(cases); i++) {
    assert_int_equal(clipc__pull_resolve(&name, cases[i].name, &error), CLIPC_OK);
    assert_string_equal(name.repository, cases[i].repository);
    assert_int_equal(name.open_clip, cases[i].open_clip);
  }
  static const char *const bad[] = {"",     "/",     "a/b/c", "../x",    "a/..",  "a/.b",    ".a/b",        "a b/c",
                                    "a/b?", "a/b#c", "a//b",  "ViT-Z/1", "a/b\n", "hf-hub:", "hf-hub:../b", "-a/b"};
  for (size_t i = 0; i < COUNT(bad); i++)
    if (strcmp(bad[i], "ViT-Z/1") != 0) assert_int_equal(clipc__pull_resolve(&name, bad[i], &error), CLIPC_E_INVALID);
  assert_int_equal(clipc__pull_resolve(&name, "ViT-B-33", &error), CLIPC_E_INVALID);
  assert_non_null(strstr(error.message, "ViT-B-32"));
}

static void only_what_is_needed_comes_and_lies_in_the_folder(void **state) {
  (void)state;
  const char *folder = in_folder("new/ein Modell \xC3\xA4");
  assert_pulled("org/model", .folder = folder);
  assert_string_equal(last_path, folder);
  assert_whole(folder);
  assert_int_equal(count_entries(folder), 4);
  assert_int_equal(count_entries(in_folder("new")), 1); /* nothing is left beside it */
  int n = hub_server_files(server);
  assert_pulled("org/model", .folder = folder); /* it is there */
  assert_int_equal(hub_server_files(server), n);
  FILE *file = fopen(in_folder("new/ein Modell \xC3\xA4/config.json"), "w");
  fputs("another", file);
  fclose(file);
  assert_refused(CLIPC_E_IO, "is there already", "org/model", .folder = folder);
  const char *vision = in_folder("vision");
  assert_pulled("org/model", .folder = vision, .towers = CLIPC_TOWER_IMAGE);
  assert_int_equal(count_entries(vision), 3);
}

static void the_cache_is_that_of_python(void **state) {
  (void)state;
  const char *cache = in_folder("home/hub");
  char path[1100], link[200] = "", found[1024];
  assert_pulled("org/model", .cache = cache);
  snprintf(path, sizeof path, "%s/models--org--model/snapshots/%s", cache, hub_commit);
  assert_string_equal(last_path, path);
  assert_whole(path);
  strcat(path, "/model.safetensors");
  assert_true(readlink(path, link, sizeof link - 1) == 12 + 64 && strncmp(link, "../../blobs/", 12) == 0);
  snprintf(path, sizeof path, "%s/models--org--model/refs/main", cache);
  char *ref = test_read_file(path, NULL);
  assert_string_equal(ref, hub_commit);
  free(ref);
  assert_int_equal(clipc_pull_find(found, sizeof found, "org/model", NULL, cache, NULL), CLIPC_OK);
  assert_string_equal(found, last_path);
  assert_int_equal(clipc_pull_find(found, sizeof found, "org/other", NULL, cache, NULL), CLIPC_E_IO);
  assert_pulled("org/model", .cache = cache, .offline = 1, .endpoint = "http://nowhere.test");
  assert_string_equal(found, last_path);
  /* Into a folder, from the cache: not a byte comes. */
  uint64_t sent = hub_server_sent(server);
  assert_pulled("org/model", .cache = cache, .folder = in_folder("copied"));
  assert_pulled("org/model", .cache = cache, .folder = in_folder("offline"), .offline = 1);
  assert_int_equal(hub_server_sent(server), sent);
  assert_whole(in_folder("copied"));
  assert_whole(in_folder("offline"));
  assert_refused(CLIPC_E_IO, "not in the cache", "org/other", .cache = cache, .offline = 1);
  /* What the list does not say, the headers do. */
  manners.no_blobs = true;
  assert_pulled("org/second", .cache = cache);
  assert_whole(last_path);
}

static void a_cut_at_any_byte_is_resumed(void **state) {
  (void)state;
  char name[32];
  long cuts[60];
  random_start(0);
  for (int i = 0; i < 60; i++) cuts[i] = i < 4 ? i : i < 6 ? LARGE_BYTES - i + 3 : (long)random_below(LARGE_BYTES);
  for (int i = 0; i < 60; i++) {
    manners.cut_at = cuts[i];
    manners.n_cuts = cuts[i] == 0 ? 1 : 1 + i % 3;
    uint64_t sent = hub_server_sent(server);
    snprintf(name, sizeof name, "cut%d", i);
    assert_pulled("org/model", .folder = in_folder(name), .towers = CLIPC_TOWER_IMAGE);
    assert_whole(in_folder(name));
    assert_true(hub_server_sent(server) - sent <= LARGE_BYTES + 100); /* nothing came twice */
  }
  assert_true(hub_server_ranges(server) >= 50);
}

static void what_was_left_is_gone_on_with(void **state) {
  (void)state;
  static const long cuts[] = {1, 50000, LARGE_BYTES - 1};
  for (size_t i = 0; i < COUNT(cuts); i++) {
    char name[32];
    snprintf(name, sizeof name, "left%zu", i);
    const char *folder = in_folder(name);
    manners.cut_at = cuts[i];
    manners.n_cuts = 1;
    assert_refused(CLIPC_E_NETWORK, "", "org/model", .folder = folder, .n_retries = -1);
    assert_false(clipc__is_folder(folder));
    uint64_t sent = hub_server_sent(server);
    manners.n_cuts = 0;
    assert_pulled("org/model", .folder = folder);
    assert_whole(folder);
    assert_true(hub_server_sent(server) - sent <= (uint64_t)(LARGE_BYTES - cuts[i]) + 100);
  }
  /* What is left may be damaged, or of a server that does not know ranges. */
  const char *folder = in_folder("damaged");
  manners.cut_at = 60000, manners.n_cuts = 1, manners.wrong_bytes = true;
  assert_refused(CLIPC_E_NETWORK, "", "org/model", .folder = folder, .n_retries = -1);
  manners.wrong_bytes = false;
  assert_pulled("org/model", .folder = folder);
  assert_whole(folder);
  manners.cut_at = 60000, manners.n_cuts = 2, manners.no_ranges = true;
  assert_pulled("org/model", .folder = in_folder("no ranges"));
  assert_whole(in_folder("no ranges"));
  manners.cut_at = 60000, manners.n_cuts = 1000;
  assert_refused(CLIPC_E_NETWORK, "", "org/model", .folder = in_folder("no end"), .n_retries = 2);
}

static void a_wrong_hash_never_lands(void **state) {
  (void)state;
  manners.wrong_bytes = true;
  assert_refused(CLIPC_E_FORMAT, "hash", "org/model", .folder = in_folder("wrong"));
  assert_false(clipc__is_folder(in_folder("wrong")));
  const char *cache = in_folder("cache");
  char found[1024], blobs[1100];
  assert_refused(CLIPC_E_FORMAT, "hash", "org/model", .cache = cache);
  assert_int_equal(clipc_pull_find(found, sizeof found, "org/model", NULL, cache, NULL), CLIPC_E_IO);
  snprintf(blobs, sizeof blobs, "%s/models--org--model/blobs", cache);
  DIR *names = opendir(blobs);
  for (struct dirent *name; (name = readdir(names)) != NULL;) assert_true(strlen(name->d_name) != 64); /* SHA-256 */
  closedir(names);
}

static void the_token_stays_with_its_host(void **state) {
  (void)state;
  manners.gated = true;
  assert_refused(CLIPC_E_DENIED, "org/model and give", "org/model", .folder = in_folder("gated"));
  assert_refused(CLIPC_E_DENIED, "401", "org/model", .folder = in_folder("gated"), .token = "wrong");
  assert_null(strstr(last_error.message, "wrong"));
  assert_pulled("org/model", .folder = in_folder("gated"), .token = "secret");
  assert_true(hub_server_tokens(server, 0) >= 5);
  assert_int_equal(hub_server_tokens(server, 1), 0);
  assert_refused(CLIPC_E_INVALID, "token", "org/model", .folder = in_folder("x"), .token = "a\r\nX: b");
  manners.list_status = 403;
  assert_refused(CLIPC_E_DENIED, "403", "org/model", .folder = in_folder("x"), .token = "secret");
}

static void those_who_ask_too_often_wait(void **state) {
  (void)state;
  struct timespec before, after;
  clock_gettime(CLOCK_MONOTONIC, &before);
  manners.n_refusals = 1, manners.refusal = 429, manners.retry_after_s = 1;
  assert_pulled("org/model", .folder = in_folder("often"));
  clock_gettime(CLOCK_MONOTONIC, &after);
  assert_true(after.tv_sec - before.tv_sec + 1e-9 * (double)(after.tv_nsec - before.tv_nsec) >= 1);
  manners.n_refusals = 2, manners.refusal = 503, manners.retry_after_s = 0;
  assert_pulled("org/model", .folder = in_folder("busy"));
  manners.n_refusals = 100, manners.refusal = 429, manners.retry_after_s = 100000;
  assert_refused(CLIPC_E_NETWORK, "429", "org/model", .folder = in_folder("never"));
  manners.n_refusals = 100, manners.refusal = 503, manners.retry_after_s = 0;
  assert_refused(CLIPC_E_NETWORK, "503", "org/model", .folder = in_folder("never"));
  manners.n_refusals = 0, manners.list_status = 401, manners.error_code = "RepoNotFound";
  assert_refused(CLIPC_E_NETWORK, "no such model", "org/typo", .folder = in_folder("never"));
  manners.list_status = 404;
  assert_refused(CLIPC_E_NETWORK, "openai/clip-vit-base-patch32", "openai/clip-vit-base-patch23",
                 .folder = in_folder("never"));
  assert_false(clipc__is_folder(in_folder("never")));
}

static void a_stall_is_noticed(void **state) {
  (void)state;
  manners.cut_at = 1000, manners.n_cuts = 100, manners.hang = true;
  assert_refused(CLIPC_E_TIMED_OUT, "nothing came", "org/model", .folder = in_folder("stall"), .stall_timeout_s = 1,
                 .n_retries = -1);
  manners.hang = false, manners.n_cuts = 0, manners.slow = true;
  assert_pulled("org/model", .folder = in_folder("slow"), .stall_timeout_s = 1);
}

static void without_safetensors_there_are_other_ways(void **state) {
  (void)state;
  manners.safetensors = false;
  assert_refused(CLIPC_E_MODEL, "convert", "org/model", .folder = in_folder("none"));
  assert_false(clipc__is_folder(in_folder("none")));
  manners.conversion = true;
  const char *cache = in_folder("converted");
  char found[1024];
  assert_pulled("org/model", .cache = cache);
  assert_whole(last_path);
  assert_int_equal(clipc_pull_find(found, sizeof found, "org/model", NULL, cache, NULL), CLIPC_OK);
  assert_string_equal(found, last_path);
}

static void two_at_once_do_the_work_once(void **state) {
  (void)state;
  clipc_pull *pulls[6];
  manners.slow = true;
  for (int places = 0; places < 2; places++) {
    int n = hub_server_files(server);
    clipc_pull_options options = {.endpoint = endpoint};
    if (places)
      options.cache = in_folder("shared cache");
    else
      options.folder = in_folder("shared");
    for (size_t i = 0; i < COUNT(pulls); i++)
      assert_int_equal(clipc_pull_begin(&pulls[i], runtime, "org/model", &options, NULL), CLIPC_OK);
    for (size_t i = 0; i < COUNT(pulls); i++) {
      assert_int_equal(clipc_pull_wait(pulls[i], 60000, NULL), CLIPC_OK);
      if (clipc_pull_status(pulls[i], &last_error) != CLIPC_OK) fail_msg("%s", last_error.message);
      assert_whole(clipc_pull_path(pulls[i]));
      clipc_pull_close(pulls[i]);
    }
    assert_int_equal(hub_server_files(server) - n, 4);
  }
}

static void cancelling_leaves_nothing_under_its_name(void **state) {
  (void)state;
  clipc_pull *pull;
  manners.slow = true;
  char name[32];
  for (int i = 0; i < 20; i++) {
    snprintf(name, sizeof name, "cancelled%d", i); /* one of its own: what came would add up */
    clipc_pull_options options = {.endpoint = endpoint, .folder = in_folder(name)};
    assert_int_equal(clipc_pull_begin(&pull, runtime, "org/model", &options, NULL), CLIPC_OK);
    nanosleep(&(struct timespec){0, 3000000L * i}, NULL);
    if (i % 2) {
      clipc_pull_cancel(pull);
      assert_int_equal(clipc_pull_wait(pull, 10000, NULL), CLIPC_OK);
      assert_int_equal(clipc_pull_status(pull, NULL), CLIPC_E_CANCELLED);
    }
    clipc_pull_close(pull);
    assert_false(clipc__is_folder(in_folder(name)));
  }
  manners.slow = false;
  assert_pulled("org/model", .folder = in_folder(name));
  assert_whole(in_folder(name));
}

static void disks_that_refuse_are_named(void **state) {
  (void)state;
  FILE *file = fopen(in_folder("file"), "w");
  fclose(file);
  assert_refused(CLIPC_E_IO, "file", "org/model", .folder = in_folder("file"));
  assert_refused(CLIPC_E_IO, "file", "org/model", .folder = in_folder("file/model"));
  assert_refused(CLIPC_E_INVALID, "neither", "org/model", .folder = NULL);
  struct rlimit before, small = {50000, 50000};
  getrlimit(RLIMIT_FSIZE, &before);
  signal(SIGXFSZ, SIG_IGN);
  small.rlim_max = before.rlim_max;
  setrlimit(RLIMIT_FSIZE, &small); /* as a full disk */
  assert_refused(CLIPC_E_IO, "cannot be written", "org/model", .folder = in_folder("full"));
  setrlimit(RLIMIT_FSIZE, &before);
  assert_false(clipc__is_folder(in_folder("full")));
  assert_pulled("org/model", .folder = in_folder("full"));
  assert_whole(in_folder("full"));
}

/* ---- the program */

static char program[1024];

/* The most memory that a process had so far; 0 before it is the program (until then it has ours). */
static long read_peak_kib(pid_t process) {
  char path[64], line[256], name[64] = "";
  long peak = 0;
  snprintf(path, sizeof path, "/proc/%d/status", (int)process);
  FILE *file = fopen(path, "r");
  while (file && fgets(line, sizeof line, file)) {
    sscanf(line, "Name: %63s", name);
    sscanf(line, "VmHWM: %ld", &peak);
  }
  if (file) fclose(file);
  return strcmp(name, "clipc") == 0 ? peak : 0;
}

/* Runs it with the words, the environment's hub being ours; its exit code. peak_kib may be NULL. */
static int run_program(const char *const *words, const char *out, long *peak_kib) {
  char second[64];
  const char *argv[16] = {program, NULL};
  size_t n = 1;
  snprintf(second, sizeof second, "127.0.0.1:%d", hub_server_port(server, 1));
  for (; *words; words++) argv[n++] = *words;
  if (strcmp(argv[1], "pull") == 0) argv[n++] = "--allow", argv[n++] = second;
  argv[n] = NULL;
  pid_t child = fork();
  if (child == 0) {
    setenv("HF_ENDPOINT", endpoint, 1);
    setenv("HF_HOME", in_folder("home"), 1);
    setenv("HF_TOKEN", "secret", 1);
    unsetenv("HF_HUB_CACHE"), unsetenv("HF_HUB_OFFLINE"), unsetenv("http_proxy"), unsetenv("all_proxy"),
        unsetenv("ALL_PROXY");
    if (!freopen(out, "w", stdout) || !freopen(in_folder("complaints"), "w", stderr)) _exit(99);
    execv(program, (char *const *)(uintptr_t)argv);
    _exit(98);
  }
  int status;
  if (peak_kib) *peak_kib = 0;
  for (pid_t ended; (ended = waitpid(child, &status, peak_kib ? WNOHANG : 0)) != child;) {
    assert_int_equal(ended, 0);
    long peak = read_peak_kib(child);
    if (peak > *peak_kib) *peak_kib = peak;
    nanosleep(&(struct timespec){0, 1000000}, NULL);
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void the_program_pulls_and_finds(void **state) {
  (void)state;
  if (access(program, X_OK) != 0) skip();
  static struct hub_file tiny[] = {{"config.json", NULL, 0, false},
                                   {"merges.txt", NULL, 0, false},
                                   {"model.safetensors", NULL, 0, true},
                                   {"preprocessor_config.json", NULL, 0, false},
                                   {"special_tokens_map.json", NULL, 0, false},
                                   {"tokenizer_config.json", NULL, 0, false},
                                   {"vocab.json", NULL, 0, false}};
  void *data[COUNT(tiny)];
  char path[256];
  struct hub_server *before = server;
  for (size_t i = 0; i < COUNT(tiny); i++) {
    snprintf(path, sizeof path, "models/tiny/%s", tiny[i].name);
    tiny[i].data = data[i] = test_read_file(path, &tiny[i].n_bytes);
  }
  server = hub_server_start(tiny, COUNT(tiny), &manners);
  snprintf(endpoint, sizeof endpoint, "http://127.0.0.1:%d", hub_server_port(server, 0));
  manners.gated = true;
  manners.cut_at = 1000000, manners.n_cuts = 2;
  const char *out = in_folder("out"), *const pull[] = {"pull", "org/tiny", NULL};
  int code = run_program(pull, out, NULL);
  char *complaints = test_read_file(in_folder("complaints"), NULL);
  if (code != 0) fail_msg("%d: %s", code, complaints);
  assert_string_equal(complaints, "");
  free(complaints);
  char *named = test_read_file(out, NULL);
  named[strcspn(named, "\n")] = '\0';
  assert_non_null(strstr(named, "/home/hub/models--org--tiny/snapshots/"));
  assert_true(clipc__is_folder(named));
  free(named);
  const char *const by_name[] = {"embed", "-m", "org/tiny", "--text", "a cat", NULL};
  const char *const by_path[] = {"embed", "-m", "models/tiny", "--text", "a cat", NULL};
  assert_int_equal(run_program(by_name, in_folder("a"), NULL), 0);
  assert_int_equal(run_program(by_path, in_folder("b"), NULL), 0);
  char *a = test_read_file(in_folder("a"), NULL), *b = test_read_file(in_folder("b"), NULL);
  assert_true(strlen(a) > 100);
  assert_string_equal(a, b);
  free(a), free(b);
  const char *const offline[] = {"pull", "org/tiny", "--offline", NULL}, *const bad[] = {"pull", "ViT-B-33", NULL};
  assert_int_equal(run_program(offline, out, NULL), 0);
  assert_int_equal(run_program(bad, out, NULL), 2);
  assert_int_equal(hub_server_tokens(server, 1), 0);
  hub_server_stop(server);
  server = before;
  for (size_t i = 0; i < COUNT(tiny); i++) free(data[i]);
}

static void a_large_file_needs_little_memory(void **state) {
  (void)state;
  if (access(program, X_OK) != 0) skip();
  size_t n = (size_t)(getenv("CLIPC_LONG") ? 200 : 64) << 20;
  uint8_t *data = malloc(n);
  for (size_t i = 0; i < n; i++) data[i] = (uint8_t)(i * 7 + i / 251 + i / 65537);
  struct hub_server *before = server;
  files[LARGE].data = data;
  files[LARGE].n_bytes = n;
  server = hub_server_start(files, COUNT(files), &manners);
  snprintf(endpoint, sizeof endpoint, "http://127.0.0.1:%d", hub_server_port(server, 0));
  manners.cut_at = (long)n / 3, manners.n_cuts = 1;
  const char *const words[] = {"pull", "org/model", "-o", in_folder("large"), NULL};
  long peak_kib;
  struct timespec start, end;
  clock_gettime(CLOCK_MONOTONIC, &start);
  int code = run_program(words, in_folder("out"), &peak_kib);
  clock_gettime(CLOCK_MONOTONIC, &end);
  struct stat info;
  assert_int_equal(code, 0);
  assert_int_equal(stat(in_folder("large/model.safetensors"), &info), 0);
  assert_int_equal((size_t)info.st_size, n);
  print_message("%zu MiB in %.2f s, peak %.1f MiB\n", n >> 20,
                (double)(end.tv_sec - start.tv_sec) + 1e-9 * (double)(end.tv_nsec - start.tv_nsec),
                (double)peak_kib / 1024);
  assert_true(peak_kib > 1024);
  if (test_full_sizes()) assert_true(peak_kib < 32 * 1024); /* else it may be a sanitizer's */
  hub_server_stop(server);
  server = before;
  free(data);
}

/* Whichever allocation fails, it says so or does without, and leaks nothing. */
static void no_memory_is_told(void **state) {
  (void)state;
  char allowed[2][32];
  const char *const allow[] = {allowed[0], allowed[1]};
  for (int i = 0; i < 2; i++) snprintf(allowed[i], sizeof allowed[i], "127.0.0.1:%d", hub_server_port(server, i));
  struct test_memory memory = {0};
  clipc_runtime *shared = runtime;
  int n_failed = 0;
  for (size_t at = 1; at < 400; at++) {
    char name[32];
    snprintf(name, sizeof name, "memory%zu", at);
    memory = (struct test_memory){.fail_at = at};
    clipc_runtime_options options = {
        .n_threads = 1, .fetch = {.allow = allow, .n_allow = 2}, .allocator = test_allocator(&memory)};
    if (clipc_runtime_open(&runtime, &options, NULL) != CLIPC_OK) continue;
    clipc_status status = pull_name("org/model", (clipc_pull_options){.folder = in_folder(name)});
    clipc_runtime_close(runtime);
    if (memory.n_live != 0) fail_msg("%zu blocks are left after allocation %zu failed", memory.n_live, at);
    assert_true(status == CLIPC_OK || status == CLIPC_E_NO_MEMORY);
    n_failed += status != CLIPC_OK;
    if (status == CLIPC_OK)
      assert_whole(in_folder(name));
    else
      assert_false(clipc__is_folder(in_folder(name)));
    if (memory.n_asked < at) {
      print_message("%zu allocations, %d of them needed\n", at - 1, n_failed);
      break;
    }
  }
  runtime = shared;
  assert_true(n_failed > 10);
}

int main(int argc, char **argv) {
  (void)argc;
  const char *slash = strrchr(argv[0], '/');
  snprintf(program, sizeof program, "%.*s/../clipc", slash ? (int)(slash - argv[0]) : 1, slash ? argv[0] : ".");
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(sha1_is_that_of_the_standard),
      cmocka_unit_test(names_are_those_users_know),
      TEST(only_what_is_needed_comes_and_lies_in_the_folder),
      TEST(the_cache_is_that_of_python),
      TEST(a_cut_at_any_byte_is_resumed),
      TEST(what_was_left_is_gone_on_with),
      TEST(a_wrong_hash_never_lands),
      TEST(the_token_stays_with_its_host),
      TEST(those_who_ask_too_often_wait),
      TEST(a_stall_is_noticed),
      TEST(without_safetensors_there_are_other_ways),
      TEST(two_at_once_do_the_work_once),
      TEST(cancelling_leaves_nothing_under_its_name),
      TEST(disks_that_refuse_are_named),
      TEST(the_program_pulls_and_finds),
      TEST(a_large_file_needs_little_memory),
      TEST(no_memory_is_told),
  };
  return cmocka_run_group_tests_name("pull", tests, NULL, NULL);
}
