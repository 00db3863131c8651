/* Memory by the caller's allocator: aligned pieces, arenas, growing byte strings. */
#include "base/base.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define MEMORY_ALIGNMENT 64u

bool clipc__multiply(size_t *product, size_t a, size_t b) { return !__builtin_mul_overflow(a, b, product); }

void *clipc__alloc(const clipc_allocator *allocator, size_t n, size_t size) {
  size_t n_bytes, with_room;
  if (!clipc__multiply(&n_bytes, n, size)) return NULL;
  if (__builtin_add_overflow(n_bytes, MEMORY_ALIGNMENT + sizeof(void *), &with_room)) return NULL;
  void *base = allocator->allocate ? allocator->allocate(allocator->context, with_room) : malloc(with_room);
  if (base == NULL) return NULL;
  uintptr_t aligned = ((uintptr_t)base + sizeof(void *) + MEMORY_ALIGNMENT - 1) & ~(uintptr_t)(MEMORY_ALIGNMENT - 1);
  char *memory = (char *)base + (aligned - (uintptr_t)base);
  memcpy(memory - sizeof base, &base, sizeof base); /* for clipc__free */
  return memory;
}

void *clipc__alloc_zeroed(const clipc_allocator *allocator, size_t n, size_t size) {
  void *memory = clipc__alloc(allocator, n, size);
  return memory ? memset(memory, 0, n * size) : NULL;
}

void clipc__free(const clipc_allocator *allocator, void *memory) {
  if (memory == NULL) return;
  void *base;
  memcpy(&base, (char *)memory - sizeof base, sizeof base);
  if (allocator->release)
    allocator->release(allocator->context, base);
  else
    free(base);
}

/* ---- arena */

#define ARENA_BLOCK_BYTES 65536u
#define LARGE_PAGE ((size_t)2 << 20)

struct clipc__arena_block {
  struct clipc__arena_block *next;
  size_t used, capacity; /* of the bytes behind this header */
};

#define BLOCK_HEADER ((sizeof(struct clipc__arena_block) + MEMORY_ALIGNMENT - 1) & ~(size_t)(MEMORY_ALIGNMENT - 1))

/* Large memory that is walked through from end to end: fewer page faults, and fewer misses of the page table. */
static void want_large_pages(void *memory, size_t n_bytes) {
#ifdef MADV_HUGEPAGE
  uintptr_t first = ((uintptr_t)memory + LARGE_PAGE - 1) & ~(uintptr_t)(LARGE_PAGE - 1);
  uintptr_t end = ((uintptr_t)memory + n_bytes) & ~(uintptr_t)(LARGE_PAGE - 1);
  if (first < end) madvise((void *)first, end - first, MADV_HUGEPAGE); /* a wish: nothing hangs on it */
#else
  (void)memory, (void)n_bytes;
#endif
}

void *clipc__arena_take_unset(struct clipc__arena *arena, size_t n, size_t size) {
  size_t n_bytes, rounded;
  if (!clipc__multiply(&n_bytes, n, size)) return NULL;
  if (__builtin_add_overflow(n_bytes, MEMORY_ALIGNMENT - 1, &rounded)) return NULL;
  rounded &= ~(size_t)(MEMORY_ALIGNMENT - 1);
  struct clipc__arena_block *block = arena->blocks;
  if (block == NULL || block->capacity - block->used < rounded) {
    size_t capacity = rounded > ARENA_BLOCK_BYTES ? rounded : ARENA_BLOCK_BYTES, total;
    if (__builtin_add_overflow(capacity, BLOCK_HEADER, &total)) return NULL;
    block = clipc__alloc(&arena->allocator, total, 1);
    if (block == NULL) return NULL;
    if (arena->allocator.allocate == NULL) want_large_pages(block, total);
    *block = (struct clipc__arena_block){arena->blocks, 0, capacity};
    arena->blocks = block;
  }
  char *memory = (char *)block + BLOCK_HEADER + block->used;
  block->used += rounded;
  return memory;
}

void *clipc__arena_take(struct clipc__arena *arena, size_t n, size_t size) {
  void *memory = clipc__arena_take_unset(arena, n, size);
  return memory ? memset(memory, 0, n * size) : NULL;
}

char *clipc__arena_string(struct clipc__arena *arena, const char *string, size_t n_bytes) {
  char *copy = n_bytes == SIZE_MAX ? NULL : clipc__arena_take(arena, n_bytes + 1, 1);
  if (copy != NULL && n_bytes > 0) memcpy(copy, string, n_bytes);
  return copy;
}

void clipc__arena_free(struct clipc__arena *arena) {
  while (arena->blocks) {
    struct clipc__arena_block *next = arena->blocks->next;
    clipc__free(&arena->allocator, arena->blocks);
    arena->blocks = next;
  }
}

/* ---- bytes */

bool clipc__bytes_reserve(struct clipc__bytes *bytes, size_t n_more) {
  size_t needed;
  if (__builtin_add_overflow(bytes->n_bytes, n_more, &needed)) return false;
  if (needed <= bytes->capacity) return true;
  size_t capacity = bytes->capacity < 64 ? 64 : bytes->capacity;
  while (capacity < needed) capacity = capacity > SIZE_MAX / 2 ? needed : capacity * 2;
  uint8_t *data = clipc__alloc(&bytes->allocator, capacity, 1);
  if (data == NULL) return false;
  if (bytes->n_bytes > 0) memcpy(data, bytes->data, bytes->n_bytes);
  clipc__free(&bytes->allocator, bytes->data);
  bytes->data = data;
  bytes->capacity = capacity;
  return true;
}

bool clipc__bytes_append(struct clipc__bytes *bytes, const void *data, size_t n_bytes) {
  if (!clipc__bytes_reserve(bytes, n_bytes)) return false;
  if (n_bytes > 0) memcpy(bytes->data + bytes->n_bytes, data, n_bytes);
  bytes->n_bytes += n_bytes;
  return true;
}

void clipc__bytes_free(struct clipc__bytes *bytes) {
  clipc__free(&bytes->allocator, bytes->data);
  bytes->data = NULL;
  bytes->n_bytes = bytes->capacity = 0;
}

#undef MEMORY_ALIGNMENT
#undef ARENA_BLOCK_BYTES
#undef BLOCK_HEADER
