/* See testing.h. */
#include "testing.h"

#include <cjson/cJSON.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* ---- memory */

static void *test_allocate(void *context, size_t n_bytes) {
  struct test_memory *memory = context;
  size_t number = __atomic_add_fetch(&memory->n_asked, 1, __ATOMIC_SEQ_CST);
  if (number == memory->fail_at || (memory->and_after && number > memory->fail_at)) return NULL;
  __atomic_add_fetch(&memory->n_live, 1, __ATOMIC_SEQ_CST);
  size_t most = __atomic_load_n(&memory->most_bytes, __ATOMIC_SEQ_CST);
  while (n_bytes > most &&
         !__atomic_compare_exchange_n(&memory->most_bytes, &most, n_bytes, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
  }
  return malloc(n_bytes);
}

static void test_release(void *context, void *allocated) {
  struct test_memory *memory = context;
  __atomic_sub_fetch(&memory->n_live, 1, __ATOMIC_SEQ_CST);
  free(allocated);
}

clipc_allocator test_allocator(struct test_memory *memory) {
  return (clipc_allocator){test_allocate, test_release, memory};
}

/* ---- files */

void *test_read_file(const char *path, size_t *n_bytes) {
  FILE *file = fopen(path, "rb");
  if (!file) fail_msg("%s: cannot be opened (tests run in the repository root)", path);
  fseek(file, 0, SEEK_END);
  long size = ftell(file);
  rewind(file);
  char *data = size < 0 ? NULL : malloc((size_t)size + 1);
  if (!data || fread(data, 1, (size_t)size, file) != (size_t)size) fail_msg("%s: cannot be read", path);
  fclose(file);
  data[size] = '\0';
  if (n_bytes) *n_bytes = (size_t)size;
  return data;
}

/* Folders of tests that failed on the way are removed at exit. */
static char *live_folders[64];

static void delete_live_folders(void) {
  for (size_t i = 0; i < COUNT(live_folders); i++) test_folder_delete(live_folders[i]);
}

char *test_folder_new(const char *word) {
  static int registered;
  const char *parent = getenv("TMPDIR");
  char path[512];
  snprintf(path, sizeof path, "%.400s/clipc-%.40s-XXXXXX", parent && *parent ? parent : "/tmp", word);
  char *folder = mkdtemp(path) ? strdup(path) : NULL;
  if (!folder) fail_msg("%s: cannot be made", path);
  if (!registered) registered = atexit(delete_live_folders) == 0;
  size_t i = 0;
  while (i < COUNT(live_folders) && live_folders[i]) i++;
  assert_true(i < COUNT(live_folders));
  return live_folders[i] = folder;
}

static void remove_files(const char *folder) {
  char path[1024];
  DIR *files = opendir(folder);
  for (struct dirent *file; files && (file = readdir(files));) {
    snprintf(path, sizeof path, "%s/%s", folder, file->d_name);
    if (strcmp(file->d_name, ".") != 0 && strcmp(file->d_name, "..") != 0) unlink(path);
  }
  if (files) closedir(files);
}

void test_folder_delete(char *folder) {
  if (!folder) return;
  remove_files(folder);
  rmdir(folder);
  for (size_t i = 0; i < COUNT(live_folders); i++)
    if (live_folders[i] == folder) live_folders[i] = NULL;
  free(folder);
}

char *test_folder;

int test_folder_make(void **state) {
  (void)state;
  test_folder = test_folder_new("test");
  return 0;
}

int test_folder_remove(void **state) {
  (void)state;
  test_folder_delete(test_folder);
  test_folder = NULL;
  return 0;
}

void test_folder_empty(void) { remove_files(test_folder); }

void test_folder_drop(const char *name) {
  char path[1024];
  snprintf(path, sizeof path, "%s/%s", test_folder, name);
  unlink(path);
}

void test_folder_put(const char *name, const void *data, size_t n_bytes) {
  char path[1024];
  test_folder_drop(name); /* some file systems flush what is written over an old file, which takes long */
  snprintf(path, sizeof path, "%s/%s", test_folder, name);
  FILE *file = fopen(path, "wb");
  assert_non_null(file);
  assert_int_equal(fwrite(data, 1, n_bytes, file), n_bytes);
  assert_int_equal(fclose(file), 0);
}

void test_folder_put_text(const char *name, const char *text) { test_folder_put(name, text, strlen(text)); }

void test_folder_put_json(const char *name, const cJSON *json) {
  char *text = cJSON_PrintUnformatted(json);
  assert_non_null(text);
  test_folder_put_text(name, text);
  free(text);
}

/* ---- random numbers and checksums */

static uint64_t random_state;

void random_start(uint64_t seed) {
  const char *given = getenv("CLIPC_SEED");
  random_state = given ? strtoull(given, NULL, 0) : seed ? seed : (uint64_t)time(NULL);
  print_message("CLIPC_SEED=%llu\n", (unsigned long long)random_state);
}

uint32_t random_bits(void) {
  random_state = random_state * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(random_state >> 33);
}

uint32_t random_below(uint32_t n) { return random_bits() % n; }

float random_float(void) { return (float)random_bits() / 1073741824.0f - 1.0f; }

uint32_t test_crc32(uint32_t crc, const void *data, size_t n_bytes) {
  static uint32_t table[256];
  const uint8_t *bytes = data;
  if (table[1] == 0)
    for (uint32_t i = 0; i < 256; i++) {
      table[i] = i;
      for (int bit = 0; bit < 8; bit++) table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0xEDB88320u : 0);
    }
  crc = ~crc;
  for (size_t i = 0; i < n_bytes; i++) crc = table[(crc ^ bytes[i]) & 255] ^ crc >> 8;
  return ~crc;
}

bool test_full_sizes(void) {
  const char *left_out = getenv("CLIPC_SKIP_FULL");
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  left_out = "a sanitizer build";
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
  left_out = "a sanitizer build";
#endif
#endif
  return left_out == NULL || *left_out == '\0';
}
/* ---- runtimes and tasks */

clipc_runtime *test_runtime_open(int n_threads, uint64_t seed) {
  clipc_runtime *runtime;
  clipc_runtime_options options = {.n_threads = n_threads, .seed = seed};
  clipc_error error = {CLIPC_OK, ""};
  if (clipc_runtime_open(&runtime, &options, &error) != CLIPC_OK) fail_msg("%s", error.message);
  return runtime;
}

clipc_task *test_task_start(clipc_runtime *runtime, const clipc_task_kind *kind, const void *frame) {
  clipc_task *task;
  clipc_error error = {CLIPC_OK, ""};
  if (clipc_spawn(&task, runtime, kind, frame, &error) != CLIPC_OK) fail_msg("%s", error.message);
  return task;
}

clipc_status test_task_finish(clipc_task *task) {
  clipc_status status = CLIPC_E_INVALID;
  clipc_error error = {CLIPC_OK, ""};
  if (clipc_task_wait(task, 30000, &status, &error) != CLIPC_OK) fail_msg("%s", error.message);
  clipc_task_release(task);
  return status;
}
