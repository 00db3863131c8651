/* A temporary folder of crafted files, and an allocator that counts and fails: for tests of whatever reads a folder. */
#ifndef CLIPC_TESTS_FOLDER_H
#define CLIPC_TESTS_FOLDER_H

#include "base/base.h" /* before the system's headers */
#include "testing.h"

extern char folder[64];        /* its path */
int folder_make(void **state); /* set-up and tear-down of a group */
int folder_remove(void **state);

void folder_put(const char *name, const void *data, size_t n_bytes);
void folder_put_text(const char *name, const char *text);
void folder_put_packed(const char *name, const char *header, const void *data, size_t n_data); /* safetensors */
void folder_drop(const char *name); /* a missing one is fine */

uint8_t *pack(const char *header, const void *data, size_t n_data, size_t *n_bytes); /* safetensors; free it */
char *slurp(const char *path);                                                       /* NUL-terminated; free it */

struct counter {
  size_t n_live, n_made, fail_at; /* the allocation of that number fails */
};
clipc_allocator counting_allocator(struct counter *counter);

/* Random bits from CLIPC_SEED, which is printed; the same sequence for the same seed. */
void random_start(void);
uint32_t random_next(void);

#endif
