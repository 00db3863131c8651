/* clipc pull as users run it: found by name afterwards, at once in two processes, ended by force, with little memory,
 * where the disk refuses, and as the environment says. */
#include "pull_room.h"

#include "base/base.h"

#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void rest_ms(long ms) { nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL); }

/* What it complained of, in turn with what comes next. */
static const char *complaints(void) {
  static char text[1024];
  char *read = test_read_file(room_in("complaints"), NULL);
  snprintf(text, sizeof text, "%s", read);
  free(read);
  return text;
}

static const char *first_line(const char *name) {
  static char line[1024];
  char *read = test_read_file(room_in(name), NULL);
  snprintf(line, sizeof line, "%.*s", (int)strcspn(read, "\n"), read);
  free(read);
  return line;
}

static void it_pulls_and_finds(void **state) {
  (void)state;
  static struct hub_file tiny[] = {{"config.json", NULL, 0, false},
                                   {"merges.txt", NULL, 0, false},
                                   {"model.safetensors", NULL, 0, true},
                                   {"preprocessor_config.json", NULL, 0, false},
                                   {"special_tokens_map.json", NULL, 0, false},
                                   {"tokenizer_config.json", NULL, 0, false},
                                   {"vocab.json", NULL, 0, false}};
  void *data[COUNT(tiny)];
  char path[256];
  for (size_t i = 0; i < COUNT(tiny); i++) {
    snprintf(path, sizeof path, "models/tiny/%s", tiny[i].name);
    tiny[i].data = data[i] = test_read_file(path, &tiny[i].n_bytes);
  }
  room_serve(tiny, COUNT(tiny));
  ROOM_BEHAVE(.gated = true, .cut_at = 1000000, .n_cuts = 2);
  const char *const pull[] = {"pull", "org/tiny", NULL};
  if (room_run(pull, "out") != 0) fail_msg("%s", complaints());
  assert_string_equal(complaints(), ""); /* no bar where there is no terminal */
  assert_non_null(strstr(first_line("out"), "/home/hub/models--org--tiny/snapshots/"));
  assert_true(clipc__is_folder(first_line("out")));
  const char *const by_name[] = {"embed", "-m", "org/tiny", "--text", "a cat", NULL};
  const char *const by_path[] = {"embed", "-m", "models/tiny", "--text", "a cat", NULL};
  assert_int_equal(room_run(by_name, "a"), 0);
  assert_int_equal(room_run(by_path, "b"), 0);
  char *a = test_read_file(room_in("a"), NULL), *b = test_read_file(room_in("b"), NULL);
  assert_true(strlen(a) > 100);
  assert_string_equal(a, b);
  free(a), free(b);
  const char *const convert[] = {"convert", "-m", "org/tiny", "-o", room_in("converted"), NULL};
  const char *const inspect[] = {"inspect", "org/tiny", NULL};
  assert_int_equal(room_run(convert, "out"), 0);
  assert_int_equal(room_run(inspect, "out"), 0);
  const char *const absent[][5] = {{"embed", "-m", "org/none", "--text", "a"},
                                   {"convert", "-m", "org/none", "-o", "x"}};
  for (size_t i = 0; i < COUNT(absent); i++) {
    const char *const words[] = {absent[i][0], absent[i][1], absent[i][2], absent[i][3], absent[i][4], NULL};
    assert_int_equal(room_run(words, "out"), 2);
    assert_non_null(strstr(complaints(), "org/none: there is no such folder or file, nor a model of that name"));
  }
  const char *const offline[] = {"pull", "org/tiny", "--offline", NULL}, *const bad[] = {"pull", "ViT-B-33", NULL};
  assert_int_equal(room_run(offline, "out"), 0);
  assert_int_equal(room_run(bad, "out"), 2);
  assert_non_null(strstr(complaints(), "ViT-B-32"));
  assert_int_equal(hub_server_tokens(room.server, 1), 0);
  room_serve(NULL, 0);
  for (size_t i = 0; i < COUNT(tiny); i++) free(data[i]);
}

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

static void a_large_file_needs_little_memory(void **state) {
  (void)state;
  size_t n = (size_t)(test_full_sizes() ? 200 : 50) << 20;
  uint8_t *data = malloc(n);
  for (size_t i = 0; i < n; i++) data[i] = (uint8_t)(i * 7 + i / 251 + i / 65537);
  struct hub_file files[ROOM_FILES];
  memcpy(files, room.files, sizeof files);
  files[ROOM_LARGE].data = data;
  files[ROOM_LARGE].n_bytes = n;
  room_serve(files, ROOM_FILES);
  ROOM_BEHAVE(.cut_at = (long)n / 3, .n_cuts = 1);
  const char *const words[] = {"pull", "org/model", "-o", room_in("large"), NULL};
  struct timespec start, end;
  clock_gettime(CLOCK_MONOTONIC, &start);
  pid_t child = room_start(words, "out", NULL);
  int status;
  long peak_kib = 0;
  while (waitpid(child, &status, WNOHANG) == 0) {
    long peak = read_peak_kib(child);
    if (peak > peak_kib) peak_kib = peak;
    rest_ms(1);
  }
  clock_gettime(CLOCK_MONOTONIC, &end);
  struct stat info;
  assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  assert_int_equal(stat(room_in("large/model.safetensors"), &info), 0);
  assert_int_equal((size_t)info.st_size, n);
  print_message("%zu MiB in %.2f s, peak %.1f MiB\n", n >> 20,
                (double)(end.tv_sec - start.tv_sec) + 1e-9 * (double)(end.tv_nsec - start.tv_nsec),
                (double)peak_kib / 1024);
  assert_true(peak_kib > 1024);
  if (test_full_sizes()) assert_true(peak_kib < 32 * 1024); /* else it may be a sanitizer's */
  room_serve(NULL, 0);
  free(data);
}

/* Two places: a folder of its own, in one that is made, and the cache. */
static const char *const *words_for(bool cache) {
  static const char *in_cache[] = {"pull", "org/model", NULL}, *in_folder[] = {"pull", "org/model", "-o", NULL, NULL};
  in_folder[3] = room_in("models/\xC3\xBC ber");
  return cache ? in_cache : in_folder;
}

static void two_programs_do_the_work_once(void **state) {
  (void)state;
  ROOM_BEHAVE(.slow = true);
  for (int cache = 0; cache < 2; cache++) {
    int n = hub_server_files(room.server);
    pid_t children[3];
    for (int i = 0; i < 3; i++) children[i] = room_start(words_for(cache), "out", NULL);
    for (int i = 0; i < 3; i++)
      if (room_wait(children[i]) != 0) fail_msg("%s", complaints());
    assert_whole(first_line("out"));
    assert_int_equal(hub_server_files(room.server) - n, 4);
  }
}

/* Ended by force at any moment: nothing under its name, and what came is not fetched again. */
static void what_was_ended_by_force_is_gone_on_with(void **state) {
  (void)state;
  random_start(0);
  for (int cache = 0; cache < 2; cache++) {
    uint64_t sent = hub_server_sent(room.server);
    ROOM_BEHAVE(.slow = true);
    for (int i = 0; i < 12; i++) {
      pid_t child = room_start(words_for(cache), "out", NULL);
      rest_ms(i == 0 ? 150 : 20 + (long)random_below(60));
      kill(child, SIGKILL);
      if (room_wait(child) == 0) break; /* it was ready */
    }
    ROOM_BEHAVE(0);
    assert_int_equal(room_run(words_for(cache), "out"), 0);
    assert_whole(first_line("out"));
    /* What was on its way at each end, at most, came twice. */
    assert_true(hub_server_sent(room.server) - sent < ROOM_LARGE_BYTES + 12 * 8000);
    if (!cache) assert_int_equal(room_count(room_in("models")), 1); /* nothing is left beside it */
  }
  assert_int_equal(room_count(room_in("home/hub/models--org--model/blobs")), 4);
  assert_int_equal(room_count(room_in("home/hub/models--org--model/snapshots")), 1);
}

static void the_environment_is_obeyed(void **state) {
  (void)state;
  char place[8][1100], home[1100], token_path[1100];
  snprintf(home, sizeof home, "HOME=%s", test_folder);
  snprintf(place[0], sizeof place[0], "HF_HOME=%s/one", test_folder);
  snprintf(place[1], sizeof place[1], "HF_HUB_CACHE=%s/two", test_folder);
  snprintf(place[2], sizeof place[2], "HUGGINGFACE_HUB_CACHE=%s/three", test_folder);
  snprintf(place[3], sizeof place[3], "XDG_CACHE_HOME=%s/four", test_folder);
  const struct {
    const char *variables[3], *where;
  } cases[] = {{{place[0]}, "one/hub"},
               {{place[1], place[0]}, "two"},
               {{place[2]}, "three"},
               {{place[3], "HF_HOME"}, "four/huggingface/hub"},
               {{home, "HF_HOME"}, ".cache/huggingface/hub"},
               {{home, "HF_HOME=~/six"}, "six/hub"},
               {{home, "HF_HOME=${HOME}/se$7ven"}, "se$7ven/hub"},
               {{home, "HF_HUB_CACHE=$HOME/eight/$"}, "eight/$"}};
  const char *const pull[] = {"pull", "org/model", NULL};
  for (size_t i = 0; i < COUNT(cases); i++) {
    const char *const environment[] = {cases[i].variables[0], cases[i].variables[1], NULL};
    if (room_wait(room_start(pull, "out", environment)) != 0) fail_msg("%zu: %s", i, complaints());
    char path[1200];
    snprintf(path, sizeof path, "%s/%s/models--org--model/snapshots/%s", test_folder, cases[i].where, hub_commit);
    assert_string_equal(first_line("out"), path);
    snprintf(path, sizeof path, "%s/CACHEDIR.TAG", cases[i].where);
    assert_string_equal(first_line(path), "Signature: 8a477f597d28d172789f06886806bc55");
  }
  static const char *const offline[][3] = {{"HF_HUB_OFFLINE=1"}, {"HF_HUB_OFFLINE=True"}, {"TRANSFORMERS_OFFLINE=yes"}};
  const char *const other[] = {"pull", "org/other", NULL};
  for (size_t i = 0; i < COUNT(offline); i++) {
    assert_int_equal(room_wait(room_start(other, "out", offline[i])), 2);
    assert_non_null(strstr(complaints(), "not in the cache"));
  }
  ROOM_BEHAVE(.gated = true);
  test_folder_put_text("token file", "\n secret \r\n");
  snprintf(token_path, sizeof token_path, "HF_TOKEN_PATH=%s/token file", test_folder);
  const struct {
    const char *variables[3];
    bool good;
  } tokens[] = {{{"HF_TOKEN"}, false},
                {{"HF_TOKEN= secret\n"}, true},
                {{"HF_TOKEN=", "HUGGING_FACE_HUB_TOKEN=secret"}, true},
                {{"HF_TOKEN", token_path}, true},
                {{"HF_HUB_DISABLE_IMPLICIT_TOKEN=1"}, false}};
  for (size_t i = 0; i < COUNT(tokens); i++) {
    char folder[64];
    snprintf(folder, sizeof folder, "token%zu", i);
    const char *const words[] = {"pull", "org/model", "-o", room_in(folder), NULL};
    const char *const environment[] = {tokens[i].variables[0], tokens[i].variables[1], NULL};
    int code = room_wait(room_start(words, "out", environment));
    if (code != (tokens[i].good ? 0 : 2)) fail_msg("%zu: %d: %s", i, code, complaints());
    if (!tokens[i].good) assert_non_null(strstr(complaints(), "is gated"));
  }
}

/* Runs the words as somebody who may not do everything; -1: such a one cannot run the program at all. */
static int run_as_nobody(const char *const *words) {
  pid_t child = fork();
  if (child != 0) {
    int code = room_wait(child);
    return code >= 97 ? -1 : code;
  }
  if (geteuid() == 0 && (setgroups(0, NULL) != 0 || setgid(65534) != 0 || setuid(65534) != 0)) _exit(97);
  if (access(room_program, X_OK) != 0) _exit(97);
  _exit(room_wait(room_start(words, "out", NULL)) & 127);
}

static void what_may_not_be_written_is_named(void **state) {
  (void)state;
  const char *const pull[] = {"pull", "org/model", NULL};
  if (chmod(test_folder, 0777) != 0) skip();
  mkdir(room_in("closed"), 0755);
  const char *const folder[] = {"pull", "org/model", "-o", room_in("closed/model"), NULL};
  if (geteuid() != 0) chmod(room_in("closed"), 0555);
  int code = run_as_nobody(folder);
  if (code == -1) skip(); /* the program lies where nobody may go */
  if (code != 2) fail_msg("%d: %s", code, complaints());
  assert_non_null(strstr(complaints(), "closed/.model.clipc-pull: cannot be made: Permission denied"));
  assert_int_equal(room_count(room_in("closed")), 0);
  /* A cache that another made: read, but not written. */
  unlink(room_in("complaints")), unlink(room_in("out"));
  assert_int_equal(room_run(pull, "out"), 0);
  char command[1200];
  snprintf(command, sizeof command, "chmod -R a+rX,a-w '%s'", room_in("home"));
  assert_int_equal(system(command), 0);
  unlink(room_in("complaints")), unlink(room_in("out"));
  if (run_as_nobody(pull) != 0) fail_msg("%s", complaints());
  assert_whole(first_line("out"));
  const char *const other[] = {"pull", "org/other", NULL};
  assert_int_equal(run_as_nobody(other), 2);
  assert_non_null(strstr(complaints(), "Permission denied"));
  snprintf(command, sizeof command, "chmod -R u+w '%s'", room_in("home"));
  assert_int_equal(system(command), 0);
}

int main(int argc, char **argv) {
  (void)argc;
  room_find_program(argv[0]);
#define TEST(name) cmocka_unit_test_setup_teardown(name, room_set_up, room_tear_down)
  const struct CMUnitTest tests[] = {
      TEST(it_pulls_and_finds),
      TEST(a_large_file_needs_little_memory),
      TEST(two_programs_do_the_work_once),
      TEST(what_was_ended_by_force_is_gone_on_with),
      TEST(the_environment_is_obeyed),
      TEST(what_may_not_be_written_is_named),
  };
  if (access(room_program, X_OK) != 0) {
    printf("skipped: %s is not there\n", room_program);
    return 77;
  }
  return cmocka_run_group_tests_name("clipc pull", tests, NULL, NULL);
}
