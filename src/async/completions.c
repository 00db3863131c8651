/* The queue of finished requests: a list under a lock, with a descriptor that is readable while the list has something.
 * A request with a queue belongs to the queue until it comes out of it. Each holds a reference to the queue, so that it
 * may be closed at any time. */
#include "async/pending.h"

#include <sys/eventfd.h>
#include <unistd.h>

/* Where a request is, as pending->place. */
enum { COMPLETIONS_AWAITED, COMPLETIONS_INSIDE, COMPLETIONS_TAKEN, COMPLETIONS_UNWANTED };

struct clipc_completions {
  clipc_runtime *runtime;
  atomic_uint references;
  struct clipc__lock lock;
  clipc_pending *first, *last; /* by next_finished */
  bool closed, readable;
  int fd; /* -1 = not made yet */
  struct clipc__waiter waiter;
  struct clipc__signal signal;
};

clipc_status clipc_completions_open(clipc_completions **out, clipc_runtime *runtime, clipc_error *error) {
  if (out == NULL) return clipc__fail(error, CLIPC_E_INVALID, "clipc_completions_open: out is NULL");
  *out = NULL;
  if (runtime == NULL) return clipc__fail(error, CLIPC_E_INVALID, "clipc_completions_open: runtime is NULL");
  clipc_completions *completions = clipc__alloc_zeroed(clipc__runtime_allocator(runtime), 1, sizeof *completions);
  if (completions == NULL) return clipc__no_memory(error, "a queue of finished requests");
  completions->runtime = clipc__runtime_retain(runtime);
  completions->fd = -1;
  atomic_store(&completions->references, 1);
  *out = completions;
  return CLIPC_OK;
}

void clipc__completions_retain(clipc_completions *completions) {
  atomic_fetch_add_explicit(&completions->references, 1, memory_order_relaxed);
}

void clipc__completions_release(clipc_completions *completions) {
  if (atomic_fetch_sub_explicit(&completions->references, 1, memory_order_acq_rel) > 1) return;
  clipc_runtime *runtime = completions->runtime;
  if (completions->fd >= 0) close(completions->fd);
  clipc__waiter_clear(&completions->waiter);
  clipc__free(clipc__runtime_allocator(runtime), completions);
  clipc__runtime_release(runtime);
}

/* Under the lock: makes the descriptor say what is so. */
static void completions_show(clipc_completions *completions) {
  bool readable = completions->first != NULL;
  if (completions->fd < 0 || completions->readable == readable) return;
  uint64_t one = 1;
  ssize_t n = readable ? write(completions->fd, &one, sizeof one) : read(completions->fd, &one, sizeof one);
  if (n == (ssize_t)sizeof one) completions->readable = readable;
}

void clipc__completions_push(clipc_completions *completions, clipc_pending *pending) {
  clipc__lock(&completions->lock);
  bool orphaned = completions->closed && pending->place == COMPLETIONS_AWAITED;
  if (!orphaned && pending->place == COMPLETIONS_AWAITED) {
    pending->place = COMPLETIONS_INSIDE;
    pending->next_finished = NULL;
    if (completions->last)
      completions->last->next_finished = pending;
    else
      completions->first = pending;
    completions->last = pending;
    completions_show(completions);
  }
  clipc__unlock(&completions->lock);
  if (orphaned) {
    clipc__pending_release(pending);
    return;
  }
  clipc__waiter_wake(&completions->waiter);
  clipc__signal_raise(&completions->signal);
}

bool clipc__completions_leave(clipc_completions *completions, clipc_pending *pending) {
  clipc__lock(&completions->lock);
  bool under_way = pending->place == COMPLETIONS_AWAITED;
  if (under_way) pending->place = COMPLETIONS_UNWANTED;
  if (pending->place == COMPLETIONS_INSIDE) {
    clipc_pending **link = &completions->first, *before = NULL;
    while (*link != pending) before = *link, link = &before->next_finished;
    *link = pending->next_finished;
    if (completions->last == pending) completions->last = before;
    pending->place = COMPLETIONS_TAKEN;
    completions_show(completions);
  }
  clipc__unlock(&completions->lock);
  return under_way;
}

clipc_pending *clipc_completions_next(clipc_completions *completions) {
  if (completions == NULL) return NULL;
  clipc__lock(&completions->lock);
  clipc_pending *pending = completions->first;
  if (pending) {
    completions->first = pending->next_finished;
    if (completions->first == NULL) completions->last = NULL;
    pending->place = COMPLETIONS_TAKEN;
    completions_show(completions);
  }
  clipc__unlock(&completions->lock);
  return pending;
}

static bool completions_any(const void *context) {
  clipc_completions *completions = (clipc_completions *)(uintptr_t)context;
  clipc__lock(&completions->lock);
  bool any = completions->first != NULL;
  clipc__unlock(&completions->lock);
  return any;
}

int clipc_completions_await(clipc_task *task, clipc_completions *completions) {
  if (task == NULL || completions == NULL) return CLIPC_E_INVALID;
  if (completions_any(completions)) return CLIPC_OK;
  int status = clipc__task_blocked(task);
  if (status != CLIPC_OK) return status;
  clipc__waiter_set(&completions->waiter, task);
  return completions_any(completions) ? CLIPC_OK : CLIPC_WAITING;
}

clipc_status clipc_completions_wait(clipc_completions *completions, int timeout_ms, clipc_error *error) {
  if (completions == NULL) return clipc__fail(error, CLIPC_E_INVALID, "clipc_completions_wait: completions is NULL");
  if (clipc__must_not_block())
    return clipc__fail(error, CLIPC_E_WOULD_DEADLOCK,
                       "clipc_completions_wait: called from inside a task or a callback");
  if (completions_any(completions)) return CLIPC_OK;
  return clipc__wait(completions->runtime, &completions->signal, completions_any, completions, timeout_ms, error);
}

int clipc_completions_fd(clipc_completions *completions) {
  if (completions == NULL) return -1;
  clipc__lock(&completions->lock);
  if (completions->fd < 0) {
    completions->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    completions->readable = false;
    completions_show(completions);
  }
  int fd = completions->fd;
  clipc__unlock(&completions->lock);
  return fd;
}

void clipc_completions_close(clipc_completions *completions) {
  if (completions == NULL) return;
  clipc__lock(&completions->lock);
  completions->closed = true;
  clipc_pending *first = completions->first;
  completions->first = completions->last = NULL;
  for (clipc_pending *pending = first; pending; pending = pending->next_finished) pending->place = COMPLETIONS_TAKEN;
  clipc__unlock(&completions->lock);
  for (clipc_pending *pending = first, *next; pending; pending = next) {
    next = pending->next_finished;
    clipc__pending_release(pending);
  }
  clipc__completions_release(completions);
}
