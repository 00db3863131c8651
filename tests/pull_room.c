/* See pull_room.h. */
#include "pull_room.h"

#include "base/base.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct pull_room room = {.files = {{"README.md", (const uint8_t *)"hello", 5, false},
                                   {"config.json", (const uint8_t *)"{\"model_type\": \"clip\"}\n", 23, false},
                                   {"tokenizer.json", (const uint8_t *)"{}", 2, false},
                                   {"preprocessor_config.json", (const uint8_t *)"{ }", 3, false},
                                   {"model.safetensors", NULL, 0, true},
                                   {"pytorch_model.bin", (const uint8_t *)"PK", 2, true}}};
static uint8_t room_large[ROOM_LARGE_BYTES];

void room_serve(const struct hub_file *files, size_t n_files) {
  if (room.server) hub_server_stop(room.server);
  room.server = hub_server_start(files ? files : room.files, files ? n_files : ROOM_FILES);
  assert_non_null(room.server);
  for (int i = 0; i < 2; i++) {
    snprintf(room.allowed[i], sizeof room.allowed[i], "127.0.0.1:%d", hub_server_port(room.server, i));
    room.allow[i] = room.allowed[i];
  }
  snprintf(room.endpoint, sizeof room.endpoint, "http://%s", room.allowed[0]);
  clipc_runtime_close(room.runtime);
  clipc_runtime_options options = {.n_threads = 2, .fetch = {.allow = room.allow, .n_allow = 2}};
  assert_int_equal(clipc_runtime_open(&room.runtime, &options, NULL), CLIPC_OK);
}

int room_set_up(void **state) {
  (void)state;
  for (size_t i = 0; i < ROOM_LARGE_BYTES; i++) room_large[i] = (uint8_t)(i * 7 + i / 251);
  room.files[ROOM_LARGE].data = room_large;
  room.files[ROOM_LARGE].n_bytes = ROOM_LARGE_BYTES;
  room_serve(NULL, 0);
  test_folder = test_folder_new("pull of models"); /* spaces in the path */
  return 0;
}

int room_tear_down(void **state) {
  (void)state;
  char command[512];
  clipc_runtime_close(room.runtime);
  hub_server_stop(room.server);
  room.runtime = NULL;
  room.server = NULL;
  snprintf(command, sizeof command, "rm -rf '%s'", test_folder);
  return system(command);
}

const char *room_in(const char *name) {
  static char paths[8][1024];
  static int at;
  at = (at + 1) % 8;
  snprintf(paths[at], sizeof paths[at], "%s/%s", test_folder, name);
  return paths[at];
}

size_t room_count(const char *folder) {
  size_t n = 0;
  DIR *names = opendir(folder);
  if (names == NULL) return 0;
  for (struct dirent *name; (name = readdir(names)) != NULL;)
    n += strcmp(name->d_name, ".") != 0 && strcmp(name->d_name, "..") != 0;
  closedir(names);
  return n;
}

clipc_status room_pull(const char *name, clipc_pull_options options) {
  clipc_pull *pull;
  if (options.endpoint == NULL) options.endpoint = room.endpoint;
  room.error = (clipc_error){CLIPC_OK, ""};
  if (clipc_pull_begin(&pull, room.runtime, name, &options, &room.error) != CLIPC_OK) return room.error.status;
  clipc_status waited;
  while ((waited = clipc_pull_wait(pull, 60000, &room.error)) == CLIPC_E_NO_MEMORY) /* of waiting itself */
    nanosleep(&(struct timespec){0, 100000}, NULL);
  assert_int_equal(waited, CLIPC_OK);
  room.error = (clipc_error){CLIPC_OK, ""};
  clipc_status status = clipc_pull_status(pull, &room.error);
  if (status == CLIPC_OK) snprintf(room.path, sizeof room.path, "%s", clipc_pull_path(pull));
  clipc_pull_progress far = clipc_pull_how_far(pull);
  assert_int_equal(far.done, 1);
  if (status == CLIPC_OK && !options.offline) assert_int_equal(far.n_files, far.n_files_done);
  clipc_pull_close(pull);
  return status;
}

void assert_whole(const char *folder) {
  static const int both[] = {ROOM_LARGE, ROOM_CONFIG};
  for (int i = 0; i < 2; i++) {
    char path[1100];
    size_t n;
    const struct hub_file *file = &room.files[both[i]];
    snprintf(path, sizeof path, "%s/%s", folder, file->name);
    uint8_t *data = test_read_file(path, &n);
    assert_int_equal(n, file->n_bytes);
    assert_memory_equal(data, file->data, n);
    free(data);
  }
}

/* ---- the program */

char room_program[1024];

void room_find_program(const char *self) {
  const char *slash = strrchr(self, '/');
  snprintf(room_program, sizeof room_program, "%.*s/../clipc", slash ? (int)(slash - self) : 1, slash ? self : ".");
}

pid_t room_start(const char *const *words, const char *out, const char *const *environment) {
  static const char *const unwanted[] = {"HF_HUB_CACHE",
                                         "HUGGINGFACE_HUB_CACHE",
                                         "HF_HUB_OFFLINE",
                                         "TRANSFORMERS_OFFLINE",
                                         "HF_TOKEN_PATH",
                                         "HUGGING_FACE_HUB_TOKEN",
                                         "XDG_CACHE_HOME",
                                         "http_proxy",
                                         "all_proxy",
                                         "ALL_PROXY",
                                         "HF_HUB_DISABLE_IMPLICIT_TOKEN"};
  const char *argv[24] = {room_program, NULL};
  size_t n = 1;
  for (; *words && n < 20; words++) argv[n++] = *words;
  if (strcmp(argv[1], "pull") == 0) argv[n++] = "--allow", argv[n++] = room.allowed[1];
  argv[n] = NULL;
  pid_t child = fork();
  if (child != 0) return child;
  for (size_t i = 0; i < COUNT(unwanted); i++) unsetenv(unwanted[i]);
  setenv("HF_ENDPOINT", room.endpoint, 1);
  setenv("HF_HOME", room_in("home"), 1);
  setenv("HF_TOKEN", "secret", 1);
  for (; environment && *environment; environment++) {
    if (strchr(*environment, '='))
      putenv((char *)(uintptr_t)*environment);
    else
      unsetenv(*environment);
  }
  if (!freopen(room_in(out), "w", stdout) || !freopen(room_in("complaints"), "w", stderr)) _exit(99);
  execv(room_program, (char *const *)(uintptr_t)argv);
  _exit(98);
}

int room_wait(pid_t child) {
  int status;
  assert_int_equal(waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int room_run(const char *const *words, const char *out) { return room_wait(room_start(words, out, NULL)); }
