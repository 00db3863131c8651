/* Tasks: from spawn to end. A task's state is one word: flags, and references in the bits above.
 *   woken: QUEUED is set; whoever sets it first puts the task into a queue, unless it is RUNNING, whose turn's end does
 *   turn:  QUEUED becomes RUNNING, the function runs, RUNNING is cleared; QUEUED again by then: back into the queue
 * Invariants: a task is in at most one queue, and runs on at most one thread; the scheduler holds one reference until
 * it has ended; drop is called exactly once. */
#include "async/sched.h"

#include <stdio.h>
#include <string.h>

enum { TASK_MESSAGES = 128 }; /* sent and received in one turn; then others come first */

struct clipc__task_family {
  clipc_task *parent, *first_child, *next, *previous; /* under the runtime's family_lock */
  char name[40];
};

void *clipc_task_frame(clipc_task *task) { return task + 1; }
clipc_runtime *clipc_task_runtime(const clipc_task *task) { return task->runtime; }

static size_t task_bytes(const clipc_task_kind *kind) { return sizeof(clipc_task) + kind->frame_bytes; }

/* ---- references */

clipc_task *clipc_task_retain(clipc_task *task) {
  if (task) atomic_fetch_add_explicit(&task->state, CLIPC__TASK_REFERENCE, memory_order_relaxed);
  return task;
}

bool clipc__task_retain_live(clipc_task *task) {
  unsigned state = atomic_load(&task->state);
  while (state >= CLIPC__TASK_REFERENCE)
    if (atomic_compare_exchange_weak(&task->state, &state, state + CLIPC__TASK_REFERENCE)) return true;
  return false;
}

static bool was_last_reference(clipc_task *task) {
  unsigned before = atomic_fetch_sub_explicit(&task->state, CLIPC__TASK_REFERENCE, memory_order_acq_rel);
  return before < 2 * CLIPC__TASK_REFERENCE;
}

static void free_task(clipc_task *task, size_t n_bytes) {
  clipc_runtime *runtime = task->runtime;
  if (!clipc__runtime_usable(runtime)) return; /* its locks may be held by threads that are not here */
  if (task->family) clipc__free(&runtime->allocator, task->family);
  clipc__slab_give(runtime, task, n_bytes);
}

void clipc_task_release(clipc_task *task) {
  if (task && was_last_reference(task)) free_task(task, task_bytes(task->kind));
}

/* ---- wakes */

void clipc__task_wake(clipc_task *task) {
  unsigned before = atomic_fetch_or_explicit(&task->state, CLIPC__TASK_QUEUED, memory_order_acq_rel);
  if (!(before & (CLIPC__TASK_QUEUED | CLIPC__TASK_RUNNING | CLIPC__TASK_ENDED))) clipc__queue_woken(task);
}

void clipc__waiter_set(struct clipc__waiter *waiter, clipc_task *task) {
  if (atomic_load(&waiter->task) == task) return;
  clipc_task_release(atomic_exchange(&waiter->task, clipc_task_retain(task)));
}

void clipc__waiter_wake(struct clipc__waiter *waiter) {
  clipc_task *task = atomic_exchange(&waiter->task, NULL);
  if (task == NULL) return;
  clipc__task_wake(task);
  clipc_task_release(task);
}

void clipc__waiter_clear(struct clipc__waiter *waiter) { clipc_task_release(atomic_exchange(&waiter->task, NULL)); }

/* ---- start and end */

static void count_task(clipc_runtime *runtime, bool started) {
  struct clipc__worker *worker = clipc__worker_here(runtime);
  if (worker == NULL) {
    atomic_fetch_add(started ? &runtime->n_started : &runtime->n_ended, 1);
    return;
  }
  atomic_llong *counter = started ? &worker->n_started : &worker->n_ended; /* nobody else writes it */
  atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1, memory_order_release);
}

static clipc_task *make_task(clipc_runtime *runtime, const clipc_task_kind *kind, const void *frame,
                             struct clipc__task_family *family, bool handle) {
  clipc_task *task = clipc__slab_take(runtime, task_bytes(kind));
  if (task == NULL) return NULL;
  task->select_at = task->messages = 0;
  task->next = NULL;
  task->kind = kind;
  task->runtime = runtime;
  atomic_store_explicit(&task->joiner.task, NULL, memory_order_relaxed);
  task->family = family;
  task->deadline_ns = task->sleep_end_ns = 0;
  task->timer.at_ns = 0;
  if (frame)
    memcpy(task + 1, frame, kind->frame_bytes);
  else
    memset(task + 1, 0, kind->frame_bytes);
  unsigned references = handle ? 2 : 1;
  atomic_store_explicit(&task->state, references * CLIPC__TASK_REFERENCE + CLIPC__TASK_QUEUED, memory_order_release);
  return task;
}

/* A task is counted before the stage is looked at, as shutdown does it the other way round: either it is refused, or
 * waited for. */
static clipc_status begin_spawn(clipc_runtime *runtime, const clipc_task_kind *kind, clipc_error *error) {
  if (runtime == NULL || kind == NULL || kind->run == NULL)
    return clipc__fail(error, CLIPC_E_INVALID, "clipc_spawn: %s is NULL",
                       runtime == NULL ? "runtime"
                       : kind == NULL  ? "kind"
                                       : "the kind's function");
  if (!clipc__runtime_usable(runtime))
    return clipc__fail(error, CLIPC_E_RUNTIME_UNAVAILABLE, "%s: the runtime belongs to the parent process", kind->name);
  count_task(runtime, true);
  int stage = atomic_load(&runtime->stage);
  const clipc_task *here = clipc__task_running();
  if (stage == CLIPC__OPEN || (stage == CLIPC__DRAINING && here && here->runtime == runtime)) return CLIPC_OK;
  count_task(runtime, false);
  return clipc__fail(error, CLIPC_E_SHUTTING_DOWN, "%s: the runtime is shutting down", kind->name);
}

clipc_status clipc_spawn(clipc_task **out, clipc_runtime *runtime, const clipc_task_kind *kind, const void *frame,
                         clipc_error *error) {
  if (out) *out = NULL;
  clipc_status status = begin_spawn(runtime, kind, error);
  if (status != CLIPC_OK) return status;
  clipc_task *task = make_task(runtime, kind, frame, NULL, out != NULL);
  if (task == NULL) {
    count_task(runtime, false);
    return clipc__no_memory(error, "a task");
  }
  if (out) *out = task;
  clipc__queue_woken(task);
  return CLIPC_OK;
}

static struct clipc__task_family *make_family(clipc_runtime *runtime) {
  return clipc__alloc_zeroed(&runtime->allocator, 1, sizeof(struct clipc__task_family));
}

/* Of the running task; others may look at it, under the lock. */
static struct clipc__task_family *family_of(clipc_task *task) {
  if (task->family) return task->family;
  struct clipc__task_family *family = make_family(task->runtime);
  clipc__lock(&task->runtime->family_lock);
  task->family = family;
  clipc__unlock(&task->runtime->family_lock);
  return family;
}

clipc_status clipc_spawn_child(clipc_task **out, clipc_task *parent, const clipc_task_kind *kind, const void *frame,
                               clipc_error *error) {
  if (out) *out = NULL;
  if (parent == NULL) return clipc__fail(error, CLIPC_E_INVALID, "clipc_spawn_child: parent is NULL");
  clipc_runtime *runtime = parent->runtime;
  clipc_status status = begin_spawn(runtime, kind, error);
  if (status != CLIPC_OK) return status;
  struct clipc__task_family *above = family_of(parent), *own = above ? make_family(runtime) : NULL;
  clipc_task *task = own ? make_task(runtime, kind, frame, own, out != NULL) : NULL;
  if (task == NULL) {
    clipc__free(&runtime->allocator, own);
    count_task(runtime, false);
    return clipc__no_memory(error, "a task");
  }
  clipc__lock(&runtime->family_lock);
  own->parent = parent;
  own->next = above->first_child;
  if (own->next) own->next->family->previous = task;
  above->first_child = task;
  bool cancelled = atomic_load(&parent->state) & CLIPC__TASK_CANCELLED;
  if (cancelled) atomic_fetch_or(&task->state, CLIPC__TASK_CANCELLED);
  clipc__unlock(&runtime->family_lock);
  if (out) *out = task;
  clipc__queue_woken(task);
  return CLIPC_OK;
}

/* Under family_lock: the task, and all below it. */
static void cancel_tree(clipc_task *top) {
  for (clipc_task *task = top; task;) {
    atomic_fetch_or(&task->state, CLIPC__TASK_CANCELLED);
    clipc__task_wake(task);
    struct clipc__task_family *family = task->family;
    if (family && family->first_child) {
      task = family->first_child;
      continue;
    }
    while (task != top && task->family->next == NULL) task = task->family->parent;
    task = task == top ? NULL : task->family->next;
  }
}

void clipc_task_cancel(clipc_task *task) {
  if (task == NULL || atomic_load(&task->state) & CLIPC__TASK_ENDED || !clipc__runtime_usable(task->runtime)) return;
  clipc__lock(&task->runtime->family_lock);
  cancel_tree(task);
  clipc__unlock(&task->runtime->family_lock);
}

static void leave_family(clipc_task *task) {
  struct clipc__task_family *family = task->family;
  clipc__lock(&task->runtime->family_lock);
  while (family->first_child) {
    clipc_task *child = family->first_child;
    family->first_child = child->family->next;
    child->family->parent = child->family->next = child->family->previous = NULL;
    cancel_tree(child);
  }
  if (family->next) family->next->family->previous = family->previous;
  if (family->previous)
    family->previous->family->next = family->next;
  else if (family->parent)
    family->parent->family->first_child = family->next;
  family->parent = family->next = family->previous = NULL;
  clipc__unlock(&task->runtime->family_lock);
}

void clipc__task_end(clipc_task *task, int status) {
  clipc_runtime *runtime = task->runtime;
  if (task->timer.at_ns != 0) clipc__timer_disarm(task);
  if (task->family) leave_family(task);
  if (task->kind->drop) {
    task->kind->drop(task + 1);
    if (task->family) leave_family(task); /* drop may have spawned */
  }
  size_t n_bytes = task_bytes(task->kind); /* now: who waits for the end may hold its kind on the stack */
  task->status = status;
  unsigned before = atomic_fetch_or_explicit(&task->state, CLIPC__TASK_ENDED, memory_order_acq_rel);
  clipc__waiter_wake(&task->joiner);
  if (before & CLIPC__TASK_WATCHED) clipc__signal_raise(&runtime->ended);
  if (was_last_reference(task)) free_task(task, n_bytes);
  count_task(runtime, false);
}

void clipc__task_turn(clipc_task *task) {
  struct clipc__here *here = clipc__here();
  clipc_task *outer = here->task;
  atomic_fetch_xor_explicit(&task->state, CLIPC__TASK_QUEUED | CLIPC__TASK_RUNNING, memory_order_acq_rel);
  here->task = task;
  task->messages = TASK_MESSAGES;
  int answer = task->kind->run(task, task + 1);
  if (answer == CLIPC_WAITING) {
    unsigned before = atomic_fetch_and_explicit(&task->state, ~(unsigned)CLIPC__TASK_RUNNING, memory_order_acq_rel);
    if (before & CLIPC__TASK_QUEUED) clipc__queue_yielded(task); /* else it may be gone already */
  } else if (answer == CLIPC_YIELDING) {
    atomic_fetch_or_explicit(&task->state, CLIPC__TASK_QUEUED, memory_order_relaxed);
    atomic_fetch_and_explicit(&task->state, ~(unsigned)CLIPC__TASK_RUNNING, memory_order_release);
    clipc__queue_yielded(task);
  } else {
    clipc__task_end(task, answer);
  }
  here->task = outer;
  if (here->owed) clipc__channel_settle(here);
}

/* ---- what a task may ask and wait for */

int clipc_task_cancelled(const clipc_task *task) {
  return task && atomic_load_explicit(&task->state, memory_order_acquire) & CLIPC__TASK_CANCELLED ? 1 : 0;
}

int clipc_task_ended(const clipc_task *task, clipc_status *status) {
  if (task == NULL || !(atomic_load_explicit(&task->state, memory_order_acquire) & CLIPC__TASK_ENDED)) return 0;
  if (status) *status = (clipc_status)task->status;
  return 1;
}

void clipc_task_set_name(clipc_task *task, const char *name) {
  struct clipc__task_family *family = task && name ? family_of(task) : NULL;
  if (family == NULL) return;
  clipc__lock(&task->runtime->family_lock);
  snprintf(family->name, sizeof family->name, "%s", name);
  clipc__unlock(&task->runtime->family_lock);
}

void clipc__task_name(const clipc_task *task, char name[40]) {
  clipc__lock(&task->runtime->family_lock);
  bool own = task->family && task->family->name[0];
  snprintf(name, 40, "%s", own ? task->family->name : task->kind->name ? task->kind->name : "");
  clipc__unlock(&task->runtime->family_lock);
}

void clipc_task_set_deadline(clipc_task *task, int64_t deadline_ns) { task->deadline_ns = deadline_ns; }

int clipc__task_blocked(clipc_task *task) {
  if (clipc_task_cancelled(task)) return CLIPC_E_CANCELLED;
  if (task->deadline_ns == 0) return CLIPC_OK;
  if (clipc_runtime_now_ns(task->runtime) >= task->deadline_ns) return CLIPC_E_TIMED_OUT;
  clipc__timer_arm(task, task->deadline_ns);
  return CLIPC_OK;
}

int clipc_task_sleep_until(clipc_task *task, int64_t moment_ns) {
  if (clipc_task_cancelled(task)) return CLIPC_E_CANCELLED;
  int64_t now = clipc_runtime_now_ns(task->runtime), deadline = task->deadline_ns;
  if (now >= moment_ns) return CLIPC_OK;
  if (deadline != 0 && now >= deadline) return CLIPC_E_TIMED_OUT;
  clipc__timer_arm(task, deadline != 0 && deadline < moment_ns ? deadline : moment_ns);
  return CLIPC_WAITING;
}

int clipc_task_sleep(clipc_task *task, int64_t duration_ns) {
  if (task->sleep_end_ns == 0 &&
      __builtin_add_overflow(clipc_runtime_now_ns(task->runtime), duration_ns, &task->sleep_end_ns))
    task->sleep_end_ns = INT64_MAX;
  int status = clipc_task_sleep_until(task, task->sleep_end_ns);
  if (status != CLIPC_WAITING) task->sleep_end_ns = 0;
  return status;
}

int clipc_task_join(clipc_task *task, clipc_task *other, clipc_status *status) {
  if (other == NULL) return CLIPC_E_INVALID;
  if (clipc_task_ended(other, status)) return CLIPC_OK;
  if (other == task) return CLIPC_E_WOULD_DEADLOCK;
  int blocked = clipc__task_blocked(task);
  if (blocked != CLIPC_OK) return blocked;
  clipc__waiter_set(&other->joiner, task);
  if (!clipc_task_ended(other, status)) return CLIPC_WAITING;
  clipc__waiter_clear(&other->joiner); /* it may have ended before the slot was filled */
  return CLIPC_OK;
}
