/* What every room stands on: linkage, status, memory, files, UTF-8.
 * Every .c of the library includes this (or a header that does) before any system header. */
#ifndef CLIPC_BASE_H
#define CLIPC_BASE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* sched_getaffinity; the one place for feature-test macros */
#endif

/* A product must not be fused with the sum behind it, whatever the compiler's flags are: pixels would change. */
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=off")
#endif

#include "clipc.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Linkage of internal functions that cross files; the one-file delivery makes them static. */
#ifndef CLIPC_PRIVATE
#define CLIPC_PRIVATE __attribute__((visibility("hidden")))
#endif

/* ---- status (error.c) */

/* Fills *error (may be NULL) and returns status. Too long a sentence loses its middle, control
 * characters become '?', and the result is valid UTF-8 whatever the arguments held. */
CLIPC_PRIVATE clipc_status clipc__fail(clipc_error *error, clipc_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
CLIPC_PRIVATE clipc_status clipc__no_memory(clipc_error *error, const char *what);

/* ---- memory (memory.c). An allocator of all zeros is malloc and free. */

/* n * size bytes, aligned to 64, not zeroed; NULL on overflow or when there is none. n * size = 0 gives
 * a valid pointer. */
CLIPC_PRIVATE void *clipc__alloc(const clipc_allocator *allocator, size_t n, size_t size);
CLIPC_PRIVATE void *clipc__alloc_zeroed(const clipc_allocator *allocator, size_t n, size_t size);
CLIPC_PRIVATE void clipc__free(const clipc_allocator *allocator, void *memory); /* NULL is fine */
CLIPC_PRIVATE bool clipc__multiply(size_t *product, size_t a, size_t b);        /* false on overflow */

/* Memory that is freed together: an arena of blocks. Zero it but for allocator. */
struct clipc__arena_block;
struct clipc__arena {
  clipc_allocator allocator;
  struct clipc__arena_block *blocks;
};
CLIPC_PRIVATE void *clipc__arena_take(struct clipc__arena *arena, size_t n, size_t size);       /* 64-aligned, zeroed */
CLIPC_PRIVATE void *clipc__arena_take_unset(struct clipc__arena *arena, size_t n, size_t size); /* not zeroed */
CLIPC_PRIVATE char *clipc__arena_string(struct clipc__arena *arena, const char *string, size_t n_bytes);
CLIPC_PRIVATE void clipc__arena_free(struct clipc__arena *arena);

/* A growing string of bytes. Zero it but for allocator. Append returns false, changing nothing, when
 * there is no memory. */
struct clipc__bytes {
  clipc_allocator allocator;
  uint8_t *data;
  size_t n_bytes, capacity;
};
CLIPC_PRIVATE bool clipc__bytes_reserve(struct clipc__bytes *bytes, size_t n_more);
CLIPC_PRIVATE bool clipc__bytes_append(struct clipc__bytes *bytes, const void *data, size_t n_bytes);
CLIPC_PRIVATE void clipc__bytes_free(struct clipc__bytes *bytes);

/* ---- files (file.c) */

/* The contents of a file, mapped or read. Always NUL-terminated when read (the NUL is not counted). */
struct clipc__file {
  clipc_allocator allocator;
  const uint8_t *data;
  size_t n_bytes;
  bool mapped;
};
CLIPC_PRIVATE clipc_status clipc__file_open(struct clipc__file *file, const char *path, bool map, uint64_t max_bytes,
                                            const clipc_allocator *allocator, clipc_error *error);
CLIPC_PRIVATE void clipc__file_close(struct clipc__file *file);
/* What was read of a mapped file need not stay in memory; it is read again where it is looked at. */
CLIPC_PRIVATE void clipc__file_rest(const struct clipc__file *file);
CLIPC_PRIVATE bool clipc__is_folder(const char *path);
CLIPC_PRIVATE bool clipc__is_empty_folder(const char *path); /* false also where it cannot be read */
CLIPC_PRIVATE bool clipc__is_file(const char *path);
/* folder/name in memory of the allocator (clipc__free it); NULL when there is none. */
CLIPC_PRIVATE char *clipc__path_join(const clipc_allocator *allocator, const char *folder, const char *name);

/* ---- UTF-8 (utf8.c) */

/* Reads one code point of s[0..n), n >= 1, and returns the bytes it took (1..4). An ill-formed sequence
 * gives 0xFFFD for each maximal subpart (Unicode 3.9, as Python's "replace"); *valid (may be NULL) says. */
CLIPC_PRIVATE size_t clipc__utf8_read(uint32_t *code_point, const uint8_t *s, size_t n, bool *valid);
CLIPC_PRIVATE size_t clipc__utf8_write(uint8_t out[4], uint32_t code_point); /* returns 1..4 */
CLIPC_PRIVATE bool clipc__utf8_valid(const uint8_t *s, size_t n);

#endif
