/* Who comes next. Each worker has a ring of ready tasks, first in first out, that others may steal from, and before it
 * `next`, the task that it woke last. Two lists under a lock are the runtime's: tasks from outside and what a full ring
 * spills, and short tasks, which come first of all.
 * Fairness: `next` is taken a few times in a row at most, short tasks some more times; every so many turns the list
 * from outside comes first; a task that yields goes behind all others. Timers and descriptors are looked at every so
 * many turns, fewer where turns take long. */
#include "async/sched.h"

enum { QUEUE_NEXT_IN_A_ROW = 3, QUEUE_SHORT_IN_A_ROW = 32, QUEUE_OUTSIDE_FIRST = 61, QUEUE_BATCH = 64 };
enum { QUEUE_LOOK = 16, QUEUE_LOOK_NS = 200000 }; /* turns between two looks at most, and about the time */

/* ---- lists */

static void list_push(struct clipc__task_list *list, clipc_task *task) {
  task->next = NULL;
  clipc__lock(&list->lock);
  if (atomic_load_explicit(&task->runtime->stage, memory_order_relaxed) != CLIPC__STOPPED) {
    if (list->last)
      list->last->next = task;
    else
      list->first = task;
    list->last = task;
    atomic_fetch_add(&list->n, 1);
  }
  clipc__unlock(&list->lock);
}

static void list_close(struct clipc__task_list *list) {
  clipc__lock(&list->lock);
  list->first = list->last = NULL;
  atomic_store(&list->n, 0);
  clipc__unlock(&list->lock);
}

void clipc__queue_close(clipc_runtime *runtime) {
  list_close(&runtime->injected);
  list_close(&runtime->shorts);
}

/* Under the lock: the k-th. */
static clipc_task *list_unlink(struct clipc__task_list *list, size_t k) {
  clipc_task *before = NULL, *task = list->first;
  for (; task && k > 0; k--) before = task, task = task->next;
  if (task == NULL) return NULL;
  *(before ? &before->next : &list->first) = task->next;
  if (list->last == task) list->last = before;
  atomic_fetch_sub(&list->n, 1);
  return task;
}

static clipc_task *list_take(struct clipc__task_list *list) {
  if (atomic_load(&list->n) == 0) return NULL;
  clipc__lock(&list->lock);
  clipc_task *task = list_unlink(list, 0);
  clipc__unlock(&list->lock);
  return task;
}

/* ---- rings: the owner moves tail, everybody head */

static bool ring_has_room(const struct clipc__worker *worker) { /* for the owner; and then it stays so */
  unsigned tail = atomic_load_explicit(&worker->tail, memory_order_relaxed);
  return tail - atomic_load_explicit(&worker->head, memory_order_acquire) < CLIPC__RING;
}

static bool ring_push(struct clipc__worker *worker, clipc_task *task) {
  if (!ring_has_room(worker)) return false;
  unsigned tail = atomic_load_explicit(&worker->tail, memory_order_relaxed);
  atomic_store_explicit(&worker->ring[tail % CLIPC__RING], task, memory_order_relaxed);
  atomic_store(&worker->tail, tail + 1);
  return true;
}

static bool ring_is_empty(const struct clipc__worker *worker) { /* for the owner */
  return atomic_load_explicit(&worker->head, memory_order_relaxed) ==
         atomic_load_explicit(&worker->tail, memory_order_relaxed);
}

static clipc_task *ring_take(struct clipc__worker *worker) {
  unsigned head = atomic_load_explicit(&worker->head, memory_order_acquire);
  for (;;) {
    if (head == atomic_load_explicit(&worker->tail, memory_order_relaxed)) return NULL;
    clipc_task *task = atomic_load_explicit(&worker->ring[head % CLIPC__RING], memory_order_relaxed);
    if (atomic_compare_exchange_weak_explicit(&worker->head, &head, head + 1, memory_order_acq_rel,
                                              memory_order_acquire))
      return task;
  }
}

/* Half of what the victim has; one of them is returned, the others go to the thief's ring, which is empty. */
static clipc_task *ring_steal(struct clipc__worker *thief, struct clipc__worker *victim) {
  unsigned tail = atomic_load_explicit(&thief->tail, memory_order_relaxed);
  unsigned head = atomic_load_explicit(&victim->head, memory_order_acquire);
  for (;;) {
    unsigned n = atomic_load_explicit(&victim->tail, memory_order_acquire) - head;
    n -= n / 2;
    if (n == 0) return NULL;
    if (n > CLIPC__RING / 2) { /* head was read too early */
      head = atomic_load_explicit(&victim->head, memory_order_acquire);
      continue;
    }
    for (unsigned i = 0; i < n; i++) {
      clipc_task *task = atomic_load_explicit(&victim->ring[(head + i) % CLIPC__RING], memory_order_relaxed);
      atomic_store_explicit(&thief->ring[(tail + i) % CLIPC__RING], task, memory_order_relaxed);
    }
    if (!atomic_compare_exchange_weak_explicit(&victim->head, &head, head + n, memory_order_acq_rel,
                                               memory_order_acquire))
      continue;
    clipc_task *last = atomic_load_explicit(&thief->ring[(tail + n - 1) % CLIPC__RING], memory_order_relaxed);
    atomic_store(&thief->tail, tail + n - 1);
    return last;
  }
}

/* ---- in */

static void push_local(struct clipc__worker *worker, clipc_task *task) {
  if (!ring_push(worker, task)) list_push(&worker->runtime->injected, task);
  clipc__park_wake_one(worker->runtime);
}

static bool queue_elsewhere(clipc_runtime *runtime, clipc_task *task) {
  struct clipc__task_list *list = task->kind->is_short ? &runtime->shorts : &runtime->injected;
  bool is_here = clipc__worker_here(runtime) != NULL;
  if (!task->kind->is_short && runtime->options.seed == 0 && is_here) return false;
  if (!is_here && !clipc__runtime_usable(runtime)) return true; /* in a child by fork: nobody runs it */
  list_push(list, task);
  clipc__park_wake_one(runtime);
  return true;
}

void clipc__queue_woken(clipc_task *task) {
  clipc_runtime *runtime = task->runtime;
  if (queue_elsewhere(runtime, task)) return;
  struct clipc__worker *worker = clipc__worker_here(runtime);
  clipc_task *before = worker->next;
  worker->next = task;
  if (before)
    push_local(worker, before);
  else if (!ring_is_empty(worker))
    clipc__park_wake_one(runtime); /* for one that has yielded alone */
}

/* The worker comes back to it at once where it has nothing else: then nobody is woken for it. */
void clipc__queue_yielded(clipc_task *task) {
  if (queue_elsewhere(task->runtime, task)) return;
  struct clipc__worker *worker = clipc__worker_here(task->runtime);
  if (worker->next || !ring_is_empty(worker) || !ring_push(worker, task)) push_local(worker, task);
}

void clipc__queue_share_next(struct clipc__worker *worker) {
  clipc_task *task = worker->next;
  worker->next = NULL;
  if (task) push_local(worker, task);
}

/* ---- out */

/* Several at once, so that the lock is taken seldom. */
static clipc_task *take_injected(struct clipc__worker *worker) {
  struct clipc__task_list *list = &worker->runtime->injected;
  unsigned n = atomic_load(&list->n);
  if (n == 0) return NULL;
  clipc__lock(&list->lock);
  clipc_task *first = list_unlink(list, 0);
  for (unsigned more = n / (unsigned)(worker->runtime->n_workers + 1), i = 0; i < more && i < QUEUE_BATCH; i++) {
    if (list->first == NULL || !ring_has_room(worker)) break;
    ring_push(worker, list_unlink(list, 0)); /* in this order: from then on others may run it, and it may be gone */
  }
  clipc__unlock(&list->lock);
  return first;
}

static uint64_t queue_random(struct clipc__worker *worker) { /* xorshift64 */
  worker->random ^= worker->random << 13;
  worker->random ^= worker->random >> 7;
  return worker->random ^= worker->random << 17;
}

static clipc_task *steal(struct clipc__worker *worker) {
  clipc_runtime *runtime = worker->runtime;
  int n = runtime->n_workers + 1, start = (int)(queue_random(worker) % (unsigned)n);
  for (int i = 0; i < n; i++) {
    struct clipc__worker *victim = &runtime->workers[(start + i) % n];
    clipc_task *task = victim == worker ? NULL : ring_steal(worker, victim);
    if (task) return task;
  }
  return NULL;
}

/* Any of the ready ones, drawn from the seed. */
static clipc_task *take_by_chance(struct clipc__worker *worker) {
  struct clipc__task_list *shorts = &worker->runtime->shorts, *others = &worker->runtime->injected;
  unsigned n_shorts = atomic_load(&shorts->n), n = n_shorts + atomic_load(&others->n);
  if (n == 0) return NULL;
  unsigned k = (unsigned)(queue_random(worker) % n);
  struct clipc__task_list *list = k < n_shorts ? shorts : others;
  clipc__lock(&list->lock);
  clipc_task *task = list_unlink(list, k < n_shorts ? k : k - n_shorts);
  clipc__unlock(&list->lock);
  return task;
}

clipc_task *clipc__queue_take_short(clipc_runtime *runtime) { return list_take(&runtime->shorts); }

static void look_around(struct clipc__worker *worker) {
  int64_t now = clipc_runtime_now_ns(worker->runtime), passed = now - worker->looked_ns;
  if (passed > QUEUE_LOOK_NS)
    worker->look_after = 1;
  else if (worker->look_after < QUEUE_LOOK)
    worker->look_after = worker->look_after ? worker->look_after * 2 : 1;
  worker->looked_ns = now;
  worker->look_at = worker->turn + worker->look_after;
  worker->has_watched |= worker->is_unwatched;
  clipc__runtime_tick(worker, now);
}

/* Of those that are not short. */
static clipc_task *take_long(struct clipc__worker *worker) {
  clipc_task *task;
  if (worker->next) {
    task = worker->next;
    worker->next = NULL;
    if (++worker->n_next <= QUEUE_NEXT_IN_A_ROW) return task;
    worker->n_next = 0;
    clipc_task *first = ring_take(worker);
    if (first == NULL) return task;
    push_local(worker, task);
    return first;
  }
  worker->n_next = 0;
  if ((task = ring_take(worker))) return task;
  if ((task = take_injected(worker))) return task;
  return steal(worker);
}

clipc_task *clipc__queue_take(struct clipc__worker *worker) {
  clipc_runtime *runtime = worker->runtime;
  if (runtime->options.seed != 0) return take_by_chance(worker);
  clipc_task *task = NULL;
  worker->turn++;
  if (worker->turn - worker->look_at < QUEUE_LOOK) look_around(worker);
  if (worker->turn % QUEUE_OUTSIDE_FIRST == 0 && (task = take_injected(worker))) return task;
  if (worker->n_short < QUEUE_SHORT_IN_A_ROW && (task = clipc__queue_take_short(runtime))) {
    worker->n_short++;
    return task;
  }
  worker->n_short = 0;
  task = take_long(worker);
  return task ? task : clipc__queue_take_short(runtime);
}

bool clipc__queue_any(clipc_runtime *runtime) {
  if (atomic_load(&runtime->injected.n) || atomic_load(&runtime->shorts.n)) return true;
  for (int i = 0; i <= runtime->n_workers; i++) {
    struct clipc__worker *worker = &runtime->workers[i];
    if (atomic_load(&worker->head) != atomic_load(&worker->tail)) return true;
  }
  return false;
}
