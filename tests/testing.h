/* What every test starts with: cmocka and the headers that it wants first, and helpers that several tests share. */
#ifndef CLIPC_TESTING_H
#define CLIPC_TESTING_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>
#include <cmocka.h>

#include "clipc.h"

struct cJSON;

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* ---- memory that is counted and fails, from any thread */

struct test_memory {
  size_t fail_at;    /* the allocation of this number, from 1, gets nothing; 0: none fails */
  int and_after;     /* and no later one gets anything */
  size_t n_asked;    /* allocations, those that failed among them */
  size_t n_live;     /* not yet released */
  size_t most_bytes; /* the largest allocation */
};
clipc_allocator test_allocator(struct test_memory *memory);

/* ---- files; what goes wrong fails the running test */

void *test_read_file(const char *path, size_t *n_bytes); /* NUL-terminated; n_bytes may be NULL; free it */

char *test_folder_new(const char *word); /* under TMPDIR or /tmp, word in its name; removed at exit at the latest */
void test_folder_delete(char *folder);   /* with the files in it; NULL is fine */

/* The folder of a group of tests, with its set-up and tear-down. */
extern char *test_folder;
int test_folder_make(void **state);
int test_folder_remove(void **state);
void test_folder_empty(void);
void test_folder_drop(const char *name); /* a missing one is fine */
void test_folder_put(const char *name, const void *data, size_t n_bytes);
void test_folder_put_text(const char *name, const char *text);
void test_folder_put_json(const char *name, const struct cJSON *json);

/* ---- runtimes and tasks; what goes wrong fails the running test */

clipc_runtime *test_runtime_open(int n_threads, uint64_t seed);
clipc_task *test_task_start(clipc_runtime *runtime, const clipc_task_kind *kind, const void *frame);
clipc_status test_task_finish(clipc_task *task); /* how it ended, within 30 s; the handle is given back */

/* ---- time */

/* False in sanitizer builds and where CLIPC_SKIP_FULL is set: models of full size are left out. */
bool test_full_sizes(void);

/* ---- random numbers and checksums */

/* Starts the sequence that env CLIPC_SEED names, else seed, else (0) one by the clock; prints which. */
void random_start(uint64_t seed);
uint32_t random_bits(void);        /* 31 bits */
uint32_t random_below(uint32_t n); /* 0 .. n - 1 */
float random_float(void);          /* [-1, 1) */

uint32_t test_crc32(uint32_t crc, const void *data, size_t n_bytes); /* zlib's; crc: of what came before, or 0 */

#endif
