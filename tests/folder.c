/* A temporary folder, a counting allocator, random bits. */
#include "folder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

char folder[64];

int folder_make(void **state) {
  (void)state;
  strcpy(folder, "/tmp/clipc-folder-XXXXXX");
  return mkdtemp(folder) ? 0 : -1;
}

int folder_remove(void **state) {
  (void)state;
  char command[128];
  snprintf(command, sizeof command, "rm -rf '%s'", folder);
  return system(command);
}

void folder_drop(const char *name) {
  char path[256];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  unlink(path);
}

void folder_put(const char *name, const void *data, size_t n_bytes) {
  char path[256];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  unlink(path); /* some file systems flush what is written over an old file, which takes long */
  FILE *file = fopen(path, "wb");
  assert_non_null(file);
  assert_int_equal(fwrite(data, 1, n_bytes, file), n_bytes);
  assert_int_equal(fclose(file), 0);
}

void folder_put_text(const char *name, const char *text) {
  folder_put(name, text, strlen(text));
}

uint8_t *pack(const char *header, const void *data, size_t n_data, size_t *n_bytes) {
  uint64_t n_header = strlen(header);
  uint8_t *file = malloc(8 + n_header + n_data);
  assert_non_null(file);
  memcpy(file, &n_header, 8);
  memcpy(file + 8, header, n_header);
  if (n_data) memcpy(file + 8 + n_header, data, n_data);
  *n_bytes = 8 + n_header + n_data;
  return file;
}

void folder_put_packed(const char *name, const char *header, const void *data, size_t n_data) {
  size_t n;
  uint8_t *file = pack(header, data, n_data, &n);
  folder_put(name, file, n);
  free(file);
}

char *slurp(const char *path) {
  FILE *file = fopen(path, "rb");
  assert_non_null(file);
  fseek(file, 0, SEEK_END);
  long size = ftell(file);
  rewind(file);
  char *data = malloc((size_t)size + 1);
  assert_non_null(data);
  assert_int_equal(fread(data, 1, (size_t)size, file), size);
  fclose(file);
  data[size] = 0;
  return data;
}

static void *counted_allocate(void *context, size_t n_bytes) {
  struct counter *counter = context;
  if (++counter->n_made == counter->fail_at) return NULL;
  void *memory = malloc(n_bytes);
  counter->n_live += memory != NULL;
  return memory;
}

static void counted_release(void *context, void *memory) {
  ((struct counter *)context)->n_live--;
  free(memory);
}

clipc_allocator counting_allocator(struct counter *counter) {
  return (clipc_allocator){counted_allocate, counted_release, counter};
}

static uint64_t random_state;

void random_start(void) {
  const char *seed = getenv("CLIPC_SEED");
  random_state = seed ? strtoull(seed, NULL, 0) : 20240607;
  print_message("CLIPC_SEED=%llu\n", (unsigned long long)random_state);
}

uint32_t random_next(void) {
  random_state = random_state * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(random_state >> 33);
}
