/* The scheduler's room: what its files give one another beyond clipc.h.
 *   sched.h    the insides of runtimes, tasks and workers: task.c, queue.c, runtime.c, timer.c, io.c alone
 * Everything here may be called from any thread unless it says otherwise. */
#ifndef CLIPC_ASYNC_H
#define CLIPC_ASYNC_H

#include "base/base.h"

#include <stdatomic.h>

/* ---- runtime */

CLIPC_PRIVATE const clipc_allocator *clipc__runtime_allocator(const clipc_runtime *runtime);
/* Defaults are filled in. */
CLIPC_PRIVATE const clipc_runtime_options *clipc__runtime_options(const clipc_runtime *runtime);
CLIPC_PRIVATE clipc_runtime *clipc__runtime_retain(clipc_runtime *runtime); /* keeps its memory, not its threads */
CLIPC_PRIVATE void clipc__runtime_release(clipc_runtime *runtime);
CLIPC_PRIVATE bool clipc__runtime_is_stopping(const clipc_runtime *runtime); /* spawn answers _SHUTTING_DOWN */
CLIPC_PRIVATE bool clipc__runtime_usable(const clipc_runtime *runtime);      /* not another process's */
CLIPC_PRIVATE void clipc__log(const clipc_runtime *runtime, clipc_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* What other files hang on a runtime, one per slot: made by the first who asks, under a lock; stop is called when
 * shutdown begins (to let tasks end), free when no task is left. Who asks gets a reference of its own (retain), since
 * the runtime may be shut down meanwhile. _SHUTTING_DOWN; _RUNTIME_UNAVAILABLE in a child by fork; what make says. */
enum clipc__slot { CLIPC__SLOT_FETCH, CLIPC__SLOT_MEMORY, CLIPC__SLOT_POOLS, CLIPC__N_SLOTS };
struct clipc__slot_kind {
  enum clipc__slot slot;
  clipc_status (*make)(void **out, clipc_runtime *runtime, clipc_error *error);
  void (*stop)(void *object); /* may be NULL */
  void (*retain)(void *object);
  void (*free)(void *object); /* the runtime's reference goes */
};
CLIPC_PRIVATE clipc_status clipc__runtime_slot(void **out, clipc_runtime *runtime, const struct clipc__slot_kind *kind,
                                               clipc_error *error);

/* True on a thread that is inside a task's function, a callback of the library or clipc_runtime_poll: it must not
 * block. */
CLIPC_PRIVATE bool clipc__must_not_block(void);
/* Marks the thread so while a user's callback runs outside a task. Returns what it was, for leave. */
CLIPC_PRIVATE bool clipc__callback_enter(void);
CLIPC_PRIVATE void clipc__callback_leave(bool before);

/* Blocks a thread from outside until holds(context), which becomes true by way of clipc__signal; it runs tasks of the
 * runtime meanwhile. CLIPC_OK, _TIMED_OUT, _WOULD_DEADLOCK. runtime may have been shut down. */
struct clipc__signal {
  atomic_uint state; /* 0 = nobody waits */
};
CLIPC_PRIVATE clipc_status clipc__wait(clipc_runtime *runtime, struct clipc__signal *signal,
                                       bool (*holds)(const void *context), const void *context, int timeout_ms,
                                       clipc_error *error);
/* After holds became true; cheap when nobody waits. */
CLIPC_PRIVATE void clipc__signal_raise(struct clipc__signal *signal);

/* ---- waiting, for whatever a task may wait for. A slot holds one task, by reference:
 *
 *   int thing_poll(clipc_task *task, struct thing *thing) {
 *     if (thing_is_there(thing)) return CLIPC_OK;
 *     int status = clipc__task_blocked(task);         (cancelled, or past its deadline?)
 *     if (status != CLIPC_OK) return status;
 *     clipc__waiter_set(&thing->waiter, task);
 *     return thing_is_there(thing) ? CLIPC_OK : CLIPC_WAITING; }   (looked at again: it may have come in between)
 *
 * and who makes it be there calls clipc__waiter_wake afterwards. Wakes too many do no harm. */
struct clipc__waiter {
  _Atomic(clipc_task *) task;
};
CLIPC_PRIVATE void clipc__waiter_set(struct clipc__waiter *waiter, clipc_task *task);
CLIPC_PRIVATE void clipc__waiter_wake(struct clipc__waiter *waiter);
/* Forgets the task; before the slot's memory goes. */
CLIPC_PRIVATE void clipc__waiter_clear(struct clipc__waiter *waiter);
/* CLIPC_OK, _CANCELLED, _TIMED_OUT; arms the deadline's timer. */
CLIPC_PRIVATE int clipc__task_blocked(clipc_task *task);
CLIPC_PRIVATE void clipc__task_wake(clipc_task *task);
CLIPC_PRIVATE clipc_task *clipc__task_running(void); /* on this thread; NULL outside */

/* A short lock for a few instructions, never held across a call that may wait. Zero = free. */
struct clipc__lock {
  atomic_uint held;
};
CLIPC_PRIVATE void clipc__lock(struct clipc__lock *lock);
CLIPC_PRIVATE void clipc__unlock(struct clipc__lock *lock);

/* ---- descriptors (io.c). A source is watched for one moment: when one of the events happens it is put into
 * `happened` and the task is woken, and nothing more comes until it is watched again. */
struct clipc__io {
  int fd;
  atomic_uint happened; /* EPOLLIN, EPOLLOUT, EPOLLERR, EPOLLHUP; the task takes them out */
  clipc_task *task;     /* to be woken; outlives the watch */
  bool is_watched;      /* by epoll at all; under the owner's control */
};
CLIPC_PRIVATE clipc_status clipc__io_watch(clipc_runtime *runtime, struct clipc__io *io, uint32_t events,
                                           clipc_error *error);
/* Also after the descriptor was closed. After it no thread looks at *io any more. */
CLIPC_PRIVATE void clipc__io_forget(clipc_runtime *runtime, struct clipc__io *io);

#endif
