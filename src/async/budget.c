/* The memory governor: one budget per runtime, guards that stand for parts of it, and tasks that wait until idle models
 * have been evicted for theirs. The budget is a promise, not a measurement: who claims takes no more than that.
 * Invariant: used = the sum of all guards. Guards keep the governor, not the runtime. */
#include "async/pool.h"

#include <malloc.h>
#include <stdio.h>
#include <unistd.h>

struct clipc__memory {
  clipc_allocator allocator;
  atomic_uint references;
  uint64_t budget;
  struct clipc__lock lock;
  uint64_t used;
  struct clipc__claim *waiting;
};

struct clipc_guard {
  struct clipc__memory *memory;
  uint64_t n_bytes;
};

/* ---- the budget */

static uint64_t read_memory_limit(const char *path) {
  unsigned long long n_bytes = 0; /* "max": no number */
  FILE *file = fopen(path, "re");
  if (file == NULL) return 0;
  if (fscanf(file, "%llu", &n_bytes) != 1) n_bytes = 0;
  fclose(file);
  return n_bytes;
}

static uint64_t default_budget(void) {
  long n_pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
  uint64_t n_bytes = n_pages > 0 && page > 0 ? (uint64_t)n_pages * (uint64_t)page : UINT64_C(1) << 30;
  uint64_t limit = read_memory_limit("/sys/fs/cgroup/memory.max");
  if (limit == 0) limit = read_memory_limit("/sys/fs/cgroup/memory/memory.limit_in_bytes");
  if (limit > 0 && limit < n_bytes) n_bytes = limit;
  return n_bytes / 4 * 3;
}

static void memory_release(struct clipc__memory *memory) {
  if (atomic_fetch_sub(&memory->references, 1) > 1) return;
  clipc_allocator allocator = memory->allocator;
  clipc__free(&allocator, memory);
}

static clipc_status memory_make(void **out, clipc_runtime *runtime, clipc_error *error) {
  struct clipc__memory *memory = clipc__alloc_zeroed(clipc__runtime_allocator(runtime), 1, sizeof *memory);
  if (memory == NULL) return clipc__no_memory(error, "the memory budget");
  memory->allocator = *clipc__runtime_allocator(runtime);
  memory->budget = clipc__runtime_options(runtime)->memory_budget_bytes;
  if (memory->budget == 0) memory->budget = default_budget();
  atomic_store(&memory->references, 1);
  *out = memory;
  return CLIPC_OK;
}

static void memory_slot_retain(void *memory) { atomic_fetch_add(&((struct clipc__memory *)memory)->references, 1); }
static void memory_slot_free(void *memory) { memory_release(memory); }

/* With a reference. */
static clipc_status memory_of(struct clipc__memory **out, clipc_runtime *runtime, clipc_error *error) {
  static const struct clipc__slot_kind kind = {
      .slot = CLIPC__SLOT_MEMORY, .make = memory_make, .retain = memory_slot_retain, .free = memory_slot_free};
  void *object = NULL;
  clipc_status status = clipc__runtime_slot(&object, runtime, &kind, error);
  *out = object;
  return status;
}

/* ---- guards */

/* Takes n_bytes of the budget where there are as many. */
static bool memory_take(struct clipc__memory *memory, uint64_t n_bytes) {
  clipc__lock(&memory->lock);
  bool fits = n_bytes <= memory->budget && memory->used <= memory->budget - n_bytes;
  if (fits) memory->used += n_bytes;
  clipc__unlock(&memory->lock);
  return fits;
}

static void wake_claims(struct clipc__memory *memory) {
  clipc__lock(&memory->lock);
  for (struct clipc__claim *claim = memory->waiting; claim; claim = claim->next) clipc__waiter_wake(&claim->waiter);
  clipc__unlock(&memory->lock);
}

static void memory_put_back(struct clipc__memory *memory, uint64_t n_bytes) {
  clipc__lock(&memory->lock);
  memory->used -= n_bytes;
  clipc__unlock(&memory->lock);
  wake_claims(memory);
}

static clipc_status over_budget(struct clipc__memory *memory, uint64_t n_bytes, clipc_error *error) {
  clipc__lock(&memory->lock);
  uint64_t used = memory->used;
  clipc__unlock(&memory->lock);
  return clipc__fail(error, CLIPC_E_MEMORY_BUDGET,
                     "%llu bytes are wanted, and of the budget of %llu bytes %llu are taken",
                     (unsigned long long)n_bytes, (unsigned long long)memory->budget, (unsigned long long)used);
}

/* A guard for memory that was taken; on failure that goes back. */
static clipc_status make_guard(clipc_guard **out, struct clipc__memory *memory, uint64_t n_bytes, clipc_error *error) {
  clipc_guard *guard = clipc__alloc(&memory->allocator, 1, sizeof *guard);
  if (guard == NULL) {
    memory_put_back(memory, n_bytes);
    return clipc__no_memory(error, "a guard");
  }
  atomic_fetch_add(&memory->references, 1);
  *guard = (clipc_guard){memory, n_bytes};
  *out = guard;
  return CLIPC_OK;
}

clipc_status clipc_memory_claim(clipc_guard **out, clipc_runtime *runtime, uint64_t n_bytes, clipc_error *error) {
  if (out == NULL) return clipc__fail(error, CLIPC_E_INVALID, "clipc_memory_claim: out is NULL");
  *out = NULL;
  if (runtime == NULL) return clipc__fail(error, CLIPC_E_INVALID, "clipc_memory_claim: runtime is NULL");
  struct clipc__memory *memory;
  clipc_status status = memory_of(&memory, runtime, error);
  if (status != CLIPC_OK) return status;
  status = memory_take(memory, n_bytes) ? make_guard(out, memory, n_bytes, error) : over_budget(memory, n_bytes, error);
  memory_release(memory);
  return status;
}

void clipc_memory_release(clipc_guard *guard) {
  if (guard == NULL) return;
  struct clipc__memory *memory = guard->memory;
  memory_put_back(memory, guard->n_bytes);
  clipc__free(&memory->allocator, guard);
  memory_release(memory);
}

void clipc__memory_shrink(clipc_guard *guard, uint64_t n_bytes) {
  if (guard == NULL || n_bytes >= guard->n_bytes) return;
  uint64_t n_spare = guard->n_bytes - n_bytes;
  guard->n_bytes = n_bytes;
  memory_put_back(guard->memory, n_spare);
}

clipc_status clipc_memory_usage(clipc_runtime *runtime, uint64_t *used, uint64_t *budget, clipc_error *error) {
  if (runtime == NULL) return clipc__fail(error, CLIPC_E_INVALID, "clipc_memory_usage: runtime is NULL");
  struct clipc__memory *memory;
  clipc_status status = memory_of(&memory, runtime, error);
  if (status != CLIPC_OK) return status;
  clipc__lock(&memory->lock);
  if (used) *used = memory->used;
  clipc__unlock(&memory->lock);
  if (budget) *budget = memory->budget;
  memory_release(memory);
  return CLIPC_OK;
}

/* ---- claims of tasks */

static void claim_enter(struct clipc__claim *claim, struct clipc__memory *memory) {
  if (claim->memory) return;
  claim->memory = memory;
  clipc__lock(&memory->lock);
  claim->previous = NULL;
  claim->next = memory->waiting;
  if (claim->next) claim->next->previous = claim;
  memory->waiting = claim;
  clipc__unlock(&memory->lock);
}

void clipc__memory_give_up(struct clipc__claim *claim) {
  struct clipc__memory *memory = claim->memory;
  if (memory == NULL) return;
  clipc__lock(&memory->lock);
  if (claim->next) claim->next->previous = claim->previous;
  if (claim->previous)
    claim->previous->next = claim->next;
  else
    memory->waiting = claim->next;
  clipc__unlock(&memory->lock);
  clipc__waiter_clear(&claim->waiter);
  *claim = (struct clipc__claim){0};
}

int clipc__memory_claim(clipc_task *task, struct clipc__claim *claim, clipc_guard **out, uint64_t n_bytes,
                        bool may_evict, const struct clipc__entry *except, clipc_error *error) {
  clipc_runtime *runtime = clipc_task_runtime(task);
  struct clipc__memory *memory;
  int status = (int)memory_of(&memory, runtime, error);
  if (status != CLIPC_OK) return status;
  bool taken = memory_take(memory, n_bytes);
  if (!taken && may_evict && n_bytes <= memory->budget) {
    if ((status = clipc__task_blocked(task)) == CLIPC_OK) {
      claim_enter(claim, memory);
      clipc__waiter_set(&claim->waiter, task); /* before anything is evicted: what frees memory from here on wakes */
      taken = memory_take(memory, n_bytes);
      if (!taken && clipc__registries_evict(runtime, except)) {
        memory_release(memory); /* the task's runtime keeps it */
        return CLIPC_WAITING;
      }
      if (!taken) taken = memory_take(memory, n_bytes); /* an eviction may just have ended */
    }
  }
  clipc__memory_give_up(claim);
  if (taken)
    status = (int)make_guard(out, memory, n_bytes, error);
  else if (status == CLIPC_OK)
    status = (int)over_budget(memory, n_bytes, error);
  memory_release(memory);
  return status;
}

void clipc__memory_look_again(clipc_runtime *runtime) {
  struct clipc__memory *memory;
  if (memory_of(&memory, runtime, NULL) != CLIPC_OK) return;
  wake_claims(memory);
  memory_release(memory);
}

void clipc__memory_trim(void) {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}
