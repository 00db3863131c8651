/* Memory of tasks and oneshots: chunks of one size each, free ones in lists by size, some of them kept by each worker
 * so that the usual case takes no lock. Chunks are given back when the runtime is, which is not before the last object
 * that somebody holds; one too large for a list is a chunk of its own, and goes at once. The first word of every object
 * can be read at any time: below CLIPC__TASK_REFERENCE it is no task. */
#include "async/sched.h"

#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#define SLAB_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SLAB_ASAN 1
#endif
#endif
#ifdef SLAB_ASAN
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(memory, n_bytes) ((void)(memory), (void)(n_bytes))
#define ASAN_UNPOISON_MEMORY_REGION(memory, n_bytes) ((void)(memory), (void)(n_bytes))
#endif

enum { SLAB_CHUNK_BYTES = 1 << 16, SLAB_KEEP = 128, SLAB_LARGEST = (CLIPC__SLAB_CLASSES - 1) * CLIPC__SLAB_STEP };

struct clipc__slab_chunk { /* the objects lie behind it */
  struct clipc__slab_chunk *next, *previous;
  size_t object_bytes, n_objects;
};

/* What a free object begins with: as a task does. */
struct slab_free {
  atomic_uint state;
  int unused;
  clipc_task *next;
};

static size_t slab_class(size_t n_bytes) {
  return n_bytes > SLAB_LARGEST ? 0 : (n_bytes + CLIPC__SLAB_STEP - 1) / CLIPC__SLAB_STEP;
}

/* Under the lock. Class 0 is for what is too large for the others: a chunk for each. */
static void *slab_carve(clipc_runtime *runtime, size_t class, size_t n_bytes) {
  struct clipc__slab *slab = &runtime->slab;
  if (class == 0 || slab->n_fresh[class] == 0) {
    size_t object_bytes = class ? class * CLIPC__SLAB_STEP : (n_bytes + 63) / 64 * 64;
    size_t n_objects = class ? (SLAB_CHUNK_BYTES - sizeof(struct clipc__slab_chunk)) / object_bytes : 1;
    struct clipc__slab_chunk *chunk =
        clipc__alloc_zeroed(&runtime->allocator, 1, sizeof *chunk + n_objects * object_bytes);
    if (chunk == NULL) return NULL;
    chunk->object_bytes = object_bytes;
    chunk->n_objects = n_objects;
    chunk->next = slab->chunks;
    if (chunk->next) chunk->next->previous = chunk;
    slab->chunks = chunk;
    if (class == 0) return chunk + 1;
    slab->fresh[class] = chunk + 1;
    slab->n_fresh[class] = n_objects;
  }
  void *memory = slab->fresh[class];
  slab->fresh[class] = (char *)memory + class * CLIPC__SLAB_STEP;
  slab->n_fresh[class]--;
  return memory;
}

static void *slab_pop(struct clipc__slab_list *list) {
  struct slab_free *object = (struct slab_free *)list->first;
  if (object == NULL) return NULL;
  list->first = object->next;
  list->n--;
  return object;
}

static void slab_push(struct clipc__slab_list *list, void *memory) {
  struct slab_free *object = memory;
  object->next = list->first;
  list->first = memory;
  list->n++;
}

void *clipc__slab_take(clipc_runtime *runtime, size_t n_bytes) {
  size_t class = slab_class(n_bytes);
  struct clipc__worker *worker = clipc__worker_here(runtime);
  void *memory = worker && class ? slab_pop(&worker->kept[class]) : NULL;
  if (memory == NULL) {
    struct clipc__slab *slab = &runtime->slab;
    clipc__lock(&slab->lock);
    memory = class ? slab_pop(&slab->free[class]) : NULL;
    if (memory == NULL) memory = slab_carve(runtime, class, n_bytes);
    for (void *more; worker && class && worker->kept[class].n < SLAB_KEEP / 2 && (more = slab_pop(&slab->free[class]));)
      slab_push(&worker->kept[class], more);
    clipc__unlock(&slab->lock);
  }
  if (memory) ASAN_UNPOISON_MEMORY_REGION(memory, n_bytes);
  return memory;
}

/* An object was given back: gives the lock back, and the runtime where it was the last one of it. */
static void slab_leave(clipc_runtime *runtime, struct clipc__slab_chunk *chunk) {
  struct clipc__slab *slab = &runtime->slab;
  clipc_allocator allocator = runtime->allocator;
  bool last = slab->n_left > 0 && --slab->n_left == 0;
  clipc__unlock(&slab->lock); /* from here on it may be gone, unless last */
  clipc__free(&allocator, chunk);
  if (last) clipc__runtime_free(runtime);
}

static void slab_drop_chunk(clipc_runtime *runtime, struct clipc__slab_chunk *chunk) {
  struct clipc__slab *slab = &runtime->slab;
  ASAN_UNPOISON_MEMORY_REGION(chunk, sizeof *chunk + chunk->object_bytes);
  clipc__lock(&slab->lock);
  if (chunk->next) chunk->next->previous = chunk->previous;
  *(chunk->previous ? &chunk->previous->next : &slab->chunks) = chunk->next;
  slab_leave(runtime, chunk);
}

void clipc__slab_give(clipc_runtime *runtime, void *memory, size_t n_bytes) {
  size_t class = slab_class(n_bytes);
  struct clipc__slab *slab = &runtime->slab;
  atomic_store_explicit(&((struct slab_free *)memory)->state, 0, memory_order_release);
  if (n_bytes > sizeof(struct slab_free))
    ASAN_POISON_MEMORY_REGION((char *)memory + sizeof(struct slab_free), n_bytes - sizeof(struct slab_free));
  if (class == 0) {
    slab_drop_chunk(runtime, (struct clipc__slab_chunk *)memory - 1);
    return;
  }
  struct clipc__worker *worker = clipc__worker_here(runtime);
  if (worker) {
    struct clipc__slab_list *kept = &worker->kept[class];
    slab_push(kept, memory);
    if (kept->n <= SLAB_KEEP) return;
    clipc__lock(&slab->lock);
    while (kept->n > SLAB_KEEP / 2) slab_push(&slab->free[class], slab_pop(kept));
    clipc__unlock(&slab->lock);
    return;
  }
  clipc__lock(&slab->lock);
  slab_push(&slab->free[class], memory);
  slab_leave(runtime, NULL);
}

bool clipc__slab_let_go(clipc_runtime *runtime) {
  struct clipc__slab *slab = &runtime->slab;
  size_t n = 0;
  clipc__lock(&slab->lock);
  for (struct clipc__slab_chunk *chunk = slab->chunks; chunk; chunk = chunk->next) n += chunk->n_objects;
  for (int class = 0; class < CLIPC__SLAB_CLASSES; class ++) {
    n -= slab->n_fresh[class] + slab->free[class].n;
    for (int i = 0; runtime->workers && i <= runtime->n_workers; i++) n -= runtime->workers[i].kept[class].n;
  }
  slab->n_left = n;
  clipc__unlock(&slab->lock);
  return n == 0;
}

void clipc__slab_free_all(clipc_runtime *runtime) {
  for (struct clipc__slab_chunk *chunk = runtime->slab.chunks, *next; chunk; chunk = next) {
    next = chunk->next;
    ASAN_UNPOISON_MEMORY_REGION(chunk, sizeof *chunk + chunk->n_objects * chunk->object_bytes);
    clipc__free(&runtime->allocator, chunk);
  }
  runtime->slab.chunks = NULL;
}

/* The first task that lives behind the i-th object of the chunk, with a reference; under the lock. */
static clipc_task *slab_next_task(struct clipc__slab_chunk **chunk, size_t *i) {
  for (; *chunk; *chunk = (*chunk)->next, *i = 0)
    while (*i < (*chunk)->n_objects) {
      clipc_task *task = (clipc_task *)((char *)(*chunk + 1) + (*i)++ * (*chunk)->object_bytes);
      if (clipc__task_retain_live(task)) return task;
    }
  return NULL;
}

void clipc__slab_each_task(clipc_runtime *runtime, void (*visit)(void *context, clipc_task *task), void *context) {
  struct clipc__slab *slab = &runtime->slab;
  clipc__lock(&slab->lock);
  struct clipc__slab_chunk *chunk = slab->chunks;
  size_t i = 0;
  clipc_task *task = slab_next_task(&chunk, &i);
  clipc__unlock(&slab->lock);
  while (task) { /* whose chunk stays until its reference is given back */
    visit(context, task);
    clipc__lock(&slab->lock);
    clipc_task *next = slab_next_task(&chunk, &i);
    clipc__unlock(&slab->lock);
    clipc_task_release(task);
    task = next;
  }
}
