/* Getting weights from a hub that redirects, cuts, lies and stalls: what has its last name is whole and right. */
#include "pull_room.h"

#include "async/pull.h"
#include "base/sha1.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

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
      {"ViT-B-32/laion2b_s34b_b79k", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", true},
      {"ViT-B/32/openai", "timm/vit_base_patch32_clip_224.openai", true},
      {"ViT-L/14@336px::openai", "timm/vit_large_patch14_clip_336.openai", true},
      {"VIT-B-32__LAION2B-S34B-B79K", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", true},
      {"ViT-H-14", "laion/CLIP-ViT-H-14-laion2B-s32B-b79K", true},
      {"hf://openai/clip-vit-base-patch32", "openai/clip-vit-base-patch32", false},
      {"https://huggingface.co/openai/clip-vit-base-patch32", "openai/clip-vit-base-patch32", false},
  };
  struct clipc__pull_name name;
  clipc_error error;
  for (size_t i = 0; i < COUNT(cases); i++) {
    assert_int_equal(clipc__pull_resolve(&name, cases[i].name, &error), CLIPC_OK);
    assert_string_equal(name.repository, cases[i].repository);
    assert_int_equal(name.open_clip, cases[i].open_clip);
  }
  static const char *const bad[] = {"",
                                    "/",
                                    "a/b/c",
                                    "../x",
                                    "a/..",
                                    "a/.b",
                                    ".a/b",
                                    "a b/c",
                                    "a/b?",
                                    "a/b#c",
                                    "a//b",
                                    "ViT-B-32::",
                                    "a/b\n",
                                    "hf-hub:",
                                    "hf-hub:../b",
                                    "-a/b",
                                    "ViT-B-32::laion2b",
                                    "ViT-B-32__openai2",
                                    "https://example.com/a/b"};
  for (size_t i = 0; i < COUNT(bad); i++) assert_int_equal(clipc__pull_resolve(&name, bad[i], &error), CLIPC_E_INVALID);
  assert_int_equal(clipc__pull_resolve(&name, "ViT-B-33", &error), CLIPC_E_INVALID);
  assert_non_null(strstr(error.message, "ViT-B-32"));
  assert_int_equal(clipc__pull_resolve(&name, "ViT-B-32::laion2b_s34b_b79", &error), CLIPC_E_INVALID);
  assert_non_null(strstr(error.message, "near it: ViT-B-32::laion2b_s34b_b79k"));
}

static void every_known_name_is_found_in_every_spelling(void **state) {
  (void)state;
  static const char *const rows[][3] = {
#define PULL_NAME(architecture, tag, repository) {architecture, tag, repository},
#include "async/pull_names.inc"
#undef PULL_NAME
  };
  static const char *const formats[] = {"%s::%s", "%s__%s", "%s/%s"};
  struct clipc__pull_name name;
  char text[128];
  for (size_t i = 0; i < COUNT(rows); i++) {
    for (size_t f = 0; f < COUNT(formats); f++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
      snprintf(text, sizeof text, formats[f], rows[i][0], rows[i][1]);
#pragma GCC diagnostic pop
      assert_int_equal(clipc__pull_resolve(&name, text, NULL), CLIPC_OK);
      assert_string_equal(name.repository, rows[i][2]);
      assert_true(name.open_clip);
    }
    for (size_t k = 0; k < i; k++) /* no pair comes twice */
      assert_true(strcmp(rows[i][0], rows[k][0]) != 0 || strcmp(rows[i][1], rows[k][1]) != 0);
  }
}

static void only_what_is_needed_comes_and_lies_in_the_folder(void **state) {
  (void)state;
  const char *folder = room_in("new/ein Modell \xC3\xA4");
  assert_pulled("org/model", .folder = folder);
  assert_string_equal(room.path, folder);
  assert_whole(folder);
  assert_int_equal(room_count(folder), 4);
  assert_int_equal(room_count(room_in("new")), 1); /* nothing is left beside it */
  int n = hub_server_files(room.server);
  assert_pulled("org/model", .folder = folder); /* it is there */
  assert_int_equal(hub_server_files(room.server), n);
  FILE *file = fopen(room_in("new/ein Modell \xC3\xA4/config.json"), "w");
  fputs("another", file);
  fclose(file);
  assert_refused(CLIPC_E_IO, "is there already", "org/model", .folder = folder);
  const char *vision = room_in("vision");
  assert_pulled("org/model", .folder = vision, .towers = CLIPC_TOWER_IMAGE);
  assert_int_equal(room_count(vision), 3);
}

static void the_cache_is_that_of_python(void **state) {
  (void)state;
  const char *cache = room_in("home/hub");
  char path[1100], link[200] = "", found[1024];
  assert_pulled("org/model", .cache = cache);
  snprintf(path, sizeof path, "%s/models--org--model/snapshots/%s", cache, hub_commit);
  assert_string_equal(room.path, path);
  assert_whole(path);
  strcat(path, "/model.safetensors");
  assert_true(readlink(path, link, sizeof link - 1) == 12 + 64 && strncmp(link, "../../blobs/", 12) == 0);
  snprintf(path, sizeof path, "%s/models--org--model/refs/main", cache);
  char *ref = test_read_file(path, NULL);
  assert_string_equal(ref, hub_commit);
  free(ref);
  assert_int_equal(clipc_pull_find(found, sizeof found, "org/model", NULL, cache, NULL), CLIPC_OK);
  assert_string_equal(found, room.path);
  assert_int_equal(clipc_pull_find(found, sizeof found, "org/other", NULL, cache, NULL), CLIPC_E_IO);
  assert_pulled("org/model", .cache = cache, .offline = 1, .endpoint = "http://nowhere.test");
  assert_string_equal(found, room.path);
  /* Into a folder, from the cache: not a byte comes. */
  uint64_t sent = hub_server_sent(room.server);
  assert_pulled("org/model", .cache = cache, .folder = room_in("copied"));
  assert_pulled("org/model", .cache = cache, .folder = room_in("offline"), .offline = 1);
  assert_int_equal(hub_server_sent(room.server), sent);
  assert_whole(room_in("copied"));
  assert_whole(room_in("offline"));
  assert_refused(CLIPC_E_IO, "not in the cache", "org/other", .cache = cache, .offline = 1);
  /* What the list does not say, the headers do. */
  ROOM_BEHAVE(.no_blobs = true);
  assert_pulled("org/second", .cache = cache);
  assert_whole(room.path);
}

static void a_cut_at_any_byte_is_resumed(void **state) {
  (void)state;
  char name[32];
  long cuts[60];
  random_start(0);
  for (int i = 0; i < 60; i++)
    cuts[i] = i < 4 ? i : i < 6 ? ROOM_LARGE_BYTES - i + 3 : (long)random_below(ROOM_LARGE_BYTES);
  for (int i = 0; i < 60; i++) {
    ROOM_BEHAVE(.cut_at = cuts[i], .n_cuts = cuts[i] == 0 ? 1 : 1 + i % 3);
    uint64_t sent = hub_server_sent(room.server);
    snprintf(name, sizeof name, "cut%d", i);
    assert_pulled("org/model", .folder = room_in(name), .towers = CLIPC_TOWER_IMAGE);
    assert_whole(room_in(name));
    assert_true(hub_server_sent(room.server) - sent <= ROOM_LARGE_BYTES + 100); /* nothing came twice */
  }
  assert_true(hub_server_ranges(room.server) >= 50);
}

static void what_was_left_is_gone_on_with(void **state) {
  (void)state;
  static const long cuts[] = {1, 50000, ROOM_LARGE_BYTES - 1};
  for (size_t i = 0; i < COUNT(cuts); i++) {
    char name[32];
    snprintf(name, sizeof name, "left%zu", i);
    const char *folder = room_in(name);
    ROOM_BEHAVE(.cut_at = cuts[i], .n_cuts = 1);
    assert_refused(CLIPC_E_NETWORK, "", "org/model", .folder = folder, .n_retries = -1);
    assert_false(clipc__is_folder(folder));
    uint64_t sent = hub_server_sent(room.server);
    ROOM_BEHAVE(0);
    assert_pulled("org/model", .folder = folder);
    assert_whole(folder);
    assert_true(hub_server_sent(room.server) - sent <= (uint64_t)(ROOM_LARGE_BYTES - cuts[i]) + 100);
  }
  /* What is left may be damaged, or of a server that does not know ranges. */
  const char *folder = room_in("damaged");
  ROOM_BEHAVE(.cut_at = 60000, .n_cuts = 1, .wrong_bytes = true);
  assert_refused(CLIPC_E_NETWORK, "", "org/model", .folder = folder, .n_retries = -1);
  ROOM_BEHAVE(0);
  assert_pulled("org/model", .folder = folder);
  assert_whole(folder);
  ROOM_BEHAVE(.cut_at = 60000, .n_cuts = 2, .no_ranges = true);
  assert_pulled("org/model", .folder = room_in("no ranges"));
  assert_whole(room_in("no ranges"));
  ROOM_BEHAVE(.cut_at = 60000, .n_cuts = 1000, .no_ranges = true);
  assert_refused(CLIPC_E_NETWORK, "", "org/model", .folder = room_in("no end"), .n_retries = 2);
}

static void a_wrong_hash_never_lands(void **state) {
  (void)state;
  ROOM_BEHAVE(.wrong_bytes = true);
  assert_refused(CLIPC_E_FORMAT, "hash", "org/model", .folder = room_in("wrong"));
  assert_false(clipc__is_folder(room_in("wrong")));
  const char *cache = room_in("cache");
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
  const char *folder = room_in("gated");
  ROOM_BEHAVE(.gated = true);
  assert_refused(CLIPC_E_DENIED, "none was sent", "org/model", .folder = folder);
  assert_refused(CLIPC_E_DENIED, "has not been let in", "org/model", .folder = folder, .token = "wrong");
  assert_null(strstr(room.error.message, "wrong"));
  assert_pulled("org/model", .folder = folder, .token = "secret");
  assert_true(hub_server_tokens(room.server, 0) >= 5);
  assert_int_equal(hub_server_tokens(room.server, 1), 0);
  assert_refused(CLIPC_E_INVALID, "token", "org/model", .folder = room_in("x"), .token = "a\r\nX: b");
}

/* Every way in which the hub says no: what the sentence names. %s is the page of the model. */
static void a_refusal_says_what_to_do(void **state) {
  (void)state;
  static const struct {
    int list, file;
    const char *code, *message, *token;
    clipc_status status;
    const char *words[2];
  } cases[] = {
      {0,
       401,
       "GatedRepo",
       "Access to model org/model is restricted.",
       NULL,
       CLIPC_E_DENIED,
       {"%s: is gated", "none was sent"}},
      {0,
       403,
       "GatedRepo",
       "Access to model org/model is restricted and you are not in the authorized list.",
       "t",
       CLIPC_E_DENIED,
       {"%s: is gated", "has not been let in"}},
      {0,
       403,
       "GatedRepo",
       "Your request to access model org/model is awaiting a review from the repo authors.",
       "t",
       CLIPC_E_DENIED,
       {"%s: is gated", "awaits its authors"}},
      {0,
       403,
       "GatedRepo",
       "Please enable access to public gated repositories in your fine-grained token settings.",
       "t",
       CLIPC_E_DENIED,
       {"%s: is gated", "settings on the hub"}},
      {401, 0, "GatedRepo", NULL, NULL, CLIPC_E_DENIED, {"%s: is gated", "none was sent"}},
      {401,
       0,
       "RepoNotFound",
       "Invalid username or password.",
       NULL,
       CLIPC_E_NETWORK,
       {"org/model: the hub has no such model", "private and no token was sent"}},
      {404,
       0,
       "RepoNotFound",
       "Repository not found",
       "t",
       CLIPC_E_NETWORK,
       {"org/model: the hub has no such model", "not the token's to see"}},
      {401, 0, NULL, NULL, NULL, CLIPC_E_NETWORK, {"no such model", "private"}},
      {401,
       0,
       NULL,
       "Invalid credentials in Authorization header",
       "t",
       CLIPC_E_DENIED,
       {"org/model: ", "does not take the token"}},
      {404, 0, "RevisionNotFound", "Invalid rev id", NULL, CLIPC_E_NETWORK, {"org/model: ", "no revision \"main\""}},
      {0, 404, "EntryNotFound", NULL, NULL, CLIPC_E_NETWORK, {".json: ", "no such file in org/model"}},
      {0, 404, NULL, NULL, NULL, CLIPC_E_NETWORK, {".json: ", "no such file in org/model"}},
      {403, 0, NULL, "Access to this resource is disabled.", "t", CLIPC_E_DENIED, {"%s: ", "disabled"}},
      {403,
       0,
       NULL,
       "This organisation wants another token",
       "t",
       CLIPC_E_DENIED,
       {"%s: HTTP status 403: This organisation", "; a token was sent"}},
      {0, 403, NULL, NULL, NULL, CLIPC_E_DENIED, {"%s: HTTP status 403; no token was sent", ""}},
  };
  for (size_t i = 0; i < COUNT(cases); i++) {
    ROOM_BEHAVE(.list_status = cases[i].list, .file_status = cases[i].file, .error_code = cases[i].code,
                .error_message = cases[i].message);
    clipc_status status =
        room_pull("org/model", (clipc_pull_options){.folder = room_in("no"), .token = cases[i].token, .n_parallel = 1});
    for (int k = 0; k < 2; k++) {
      char page[128], words[256];
      snprintf(page, sizeof page, "%s/org/model", room.endpoint);
      const char *name = strstr(cases[i].words[k], "%s");
      snprintf(words, sizeof words, "%s%s", name ? page : "", cases[i].words[k] + (name ? 2 : 0));
      if (status != cases[i].status || strstr(room.error.message, words) == NULL)
        fail_msg("%zu: %s: %s (not: %s)", i, clipc_status_name(status), room.error.message, words);
    }
  }
  ROOM_BEHAVE(.list_status = 404);
  assert_refused(CLIPC_E_NETWORK, "openai/clip-vit-base-patch32", "openai/clip-vit-base-patch23",
                 .folder = room_in("no"));
  assert_false(clipc__is_folder(room_in("no")));
}

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void those_who_ask_too_often_wait(void **state) {
  (void)state;
  double before = seconds();
  ROOM_BEHAVE(.n_refusals = 1, .refusal = 429, .retry_after = "1");
  assert_pulled("org/model", .folder = room_in("often"));
  assert_true(seconds() - before >= 1);
  before = seconds();
  ROOM_BEHAVE(.n_refusals = 1, .refusal = 429, .rate_limit = "\"resolvers\";r=0;t=1");
  assert_pulled("org/model", .folder = room_in("too often"));
  assert_true(seconds() - before >= 1);
  ROOM_BEHAVE(.n_refusals = 2, .refusal = 503, .retry_after = "0");
  assert_pulled("org/model", .folder = room_in("busy"));
  ROOM_BEHAVE(.n_refusals = 100, .refusal = 429, .retry_after = "100000");
  assert_refused(CLIPC_E_NETWORK, "429", "org/model", .folder = room_in("never"));
  ROOM_BEHAVE(.n_refusals = 100, .refusal = 503, .retry_after = "0");
  assert_refused(CLIPC_E_NETWORK, "503", "org/model", .folder = room_in("never"));
  assert_false(clipc__is_folder(room_in("never")));
}

static void a_stall_is_noticed(void **state) {
  (void)state;
  ROOM_BEHAVE(.cut_at = 1000, .n_cuts = 100, .hang = true);
  assert_refused(CLIPC_E_TIMED_OUT, "nothing came", "org/model", .folder = room_in("stall"), .stall_timeout_s = 1,
                 .n_retries = -1);
  ROOM_BEHAVE(.slow = true);
  assert_pulled("org/model", .folder = room_in("slow"), .stall_timeout_s = 1);
}

static void without_safetensors_there_are_other_ways(void **state) {
  (void)state;
  ROOM_BEHAVE(.no_safetensors = true);
  assert_refused(CLIPC_E_MODEL, "convert", "org/model", .folder = room_in("none"));
  assert_false(clipc__is_folder(room_in("none")));
  assert_pulled("openai/clip-vit-base-patch32", .folder = room_in("equal")); /* timm's, which are the same weights */
  assert_whole(room_in("equal"));
  assert_refused(CLIPC_E_MODEL, "convert", "openai/clip-vit-base-patch32", .folder = room_in("none"), .revision = "v1");
  ROOM_BEHAVE(.no_safetensors = true, .conversion = true);
  const char *cache = room_in("converted");
  char found[1024];
  assert_pulled("org/model", .cache = cache);
  assert_whole(room.path);
  assert_int_equal(clipc_pull_find(found, sizeof found, "org/model", NULL, cache, NULL), CLIPC_OK);
  assert_string_equal(found, room.path);
}

/* What is no CLIP is refused before its weights are fetched. */
static void another_architecture_is_refused(void **state) {
  (void)state;
  static const char bert[] = "{\"architectures\":[\"BertModel\"],\"model_type\":\"bert\",\"hidden_size\":8}";
  static const char *const others[] = {"{\"hidden_size\":8}", "{\"model_type\":\"clip\"}", "not even JSON"};
  const struct hub_file *large = &room.files[ROOM_LARGE];
  struct hub_file files[2] = {{large->name, large->data, large->n_bytes, true}, {"config.json", NULL, 0, false}};
  for (size_t i = 0; i <= COUNT(others); i++) {
    files[1].data = (const uint8_t *)(i == 0 ? bert : others[i - 1]);
    files[1].n_bytes = strlen((const char *)files[1].data);
    room_serve(files, 2);
    if (i > 0) {
      assert_pulled("org/model", .cache = room_in(i == 1 ? "some" : i == 2 ? "clip" : "odd"));
      continue;
    }
    assert_refused(CLIPC_E_UNSUPPORTED, "org/model: its config.json says model_type \"bert\"", "org/model",
                   .folder = room_in("bert"));
    assert_refused(CLIPC_E_UNSUPPORTED, "model_type", "org/model", .cache = room_in("bert cache"));
    assert_false(clipc__is_folder(room_in("bert")));
    assert_true(hub_server_sent(room.server) < large->n_bytes);
  }
  room_serve(NULL, 0);
}

static void two_at_once_do_the_work_once(void **state) {
  (void)state;
  clipc_pull *pulls[6];
  ROOM_BEHAVE(.slow = true);
  for (int places = 0; places < 2; places++) {
    int n = hub_server_files(room.server);
    clipc_pull_options options = {.endpoint = room.endpoint};
    if (places)
      options.cache = room_in("shared cache");
    else
      options.folder = room_in("shared");
    for (size_t i = 0; i < COUNT(pulls); i++)
      assert_int_equal(clipc_pull_begin(&pulls[i], room.runtime, "org/model", &options, NULL), CLIPC_OK);
    for (size_t i = 0; i < COUNT(pulls); i++) {
      assert_int_equal(clipc_pull_wait(pulls[i], 60000, NULL), CLIPC_OK);
      if (clipc_pull_status(pulls[i], &room.error) != CLIPC_OK) fail_msg("%s", room.error.message);
      assert_whole(clipc_pull_path(pulls[i]));
      clipc_pull_close(pulls[i]);
    }
    assert_int_equal(hub_server_files(room.server) - n, 4);
  }
}

static void cancelling_leaves_nothing_under_its_name(void **state) {
  (void)state;
  clipc_pull *pull;
  ROOM_BEHAVE(.slow = true);
  char name[32];
  for (int i = 0; i < 20; i++) {
    snprintf(name, sizeof name, "cancelled%d", i); /* one of its own: what came would add up */
    clipc_pull_options options = {.endpoint = room.endpoint, .folder = room_in(name)};
    assert_int_equal(clipc_pull_begin(&pull, room.runtime, "org/model", &options, NULL), CLIPC_OK);
    nanosleep(&(struct timespec){0, 3000000L * i}, NULL);
    if (i % 2) {
      clipc_pull_cancel(pull);
      assert_int_equal(clipc_pull_wait(pull, 10000, NULL), CLIPC_OK);
      assert_int_equal(clipc_pull_status(pull, NULL), CLIPC_E_CANCELLED);
    }
    clipc_pull_close(pull);
    assert_false(clipc__is_folder(room_in(name)));
  }
  ROOM_BEHAVE(0);
  assert_pulled("org/model", .folder = room_in(name));
  assert_whole(room_in(name));
}

static void disks_that_refuse_are_named(void **state) {
  (void)state;
  FILE *file = fopen(room_in("file"), "w");
  fclose(file);
  assert_refused(CLIPC_E_IO, "file", "org/model", .folder = room_in("file"));
  assert_refused(CLIPC_E_IO, "file", "org/model", .folder = room_in("file/model"));
  assert_refused(CLIPC_E_INVALID, "neither", "org/model", .folder = NULL);
  struct rlimit before, small = {50000, 50000};
  getrlimit(RLIMIT_FSIZE, &before);
  signal(SIGXFSZ, SIG_IGN);
  small.rlim_max = before.rlim_max;
  setrlimit(RLIMIT_FSIZE, &small); /* as a full disk */
  assert_refused(CLIPC_E_IO, "cannot be written", "org/model", .folder = room_in("full"));
  setrlimit(RLIMIT_FSIZE, &before);
  assert_false(clipc__is_folder(room_in("full")));
  assert_pulled("org/model", .folder = room_in("full"));
  assert_whole(room_in("full"));
}

/* Whichever allocation fails, it says so or does without, and leaks nothing. */
static void no_memory_is_told(void **state) {
  (void)state;
  struct test_memory memory = {0};
  clipc_runtime *shared = room.runtime;
  int n_failed = 0;
  for (size_t at = 1; at < 400; at++) {
    char name[32];
    snprintf(name, sizeof name, "memory%zu", at);
    memory = (struct test_memory){.fail_at = at};
    clipc_runtime_options options = {
        .n_threads = 1, .fetch = {.allow = room.allow, .n_allow = 2}, .allocator = test_allocator(&memory)};
    if (clipc_runtime_open(&room.runtime, &options, NULL) != CLIPC_OK) continue;
    clipc_status status = room_pull("org/model", (clipc_pull_options){.folder = room_in(name)});
    clipc_runtime_close(room.runtime);
    if (memory.n_live != 0) fail_msg("%zu blocks are left after allocation %zu failed", memory.n_live, at);
    assert_true(status == CLIPC_OK || status == CLIPC_E_NO_MEMORY);
    n_failed += status != CLIPC_OK;
    if (status == CLIPC_OK)
      assert_whole(room_in(name));
    else
      assert_false(clipc__is_folder(room_in(name)));
    if (memory.n_asked < at) {
      print_message("%zu allocations, %d of them needed\n", at - 1, n_failed);
      break;
    }
  }
  room.runtime = shared;
  assert_true(n_failed > 10);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, room_set_up, room_tear_down)
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(sha1_is_that_of_the_standard),
      cmocka_unit_test(names_are_those_users_know),
      cmocka_unit_test(every_known_name_is_found_in_every_spelling),
      TEST(only_what_is_needed_comes_and_lies_in_the_folder),
      TEST(the_cache_is_that_of_python),
      TEST(a_cut_at_any_byte_is_resumed),
      TEST(what_was_left_is_gone_on_with),
      TEST(a_wrong_hash_never_lands),
      TEST(the_token_stays_with_its_host),
      TEST(a_refusal_says_what_to_do),
      TEST(those_who_ask_too_often_wait),
      TEST(a_stall_is_noticed),
      TEST(without_safetensors_there_are_other_ways),
      TEST(another_architecture_is_refused),
      TEST(two_at_once_do_the_work_once),
      TEST(cancelling_leaves_nothing_under_its_name),
      TEST(disks_that_refuse_are_named),
      TEST(no_memory_is_told),
  };
  return cmocka_run_group_tests_name("pull", tests, NULL, NULL);
}
