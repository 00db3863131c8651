/* Sleep: a worker that finds nothing to do. The first to sleep watches the descriptors and the timers, the others wait
 * on semaphores; nobody wakes without a reason. Also where threads from outside block, and the short lock.
 * Against lost wake-ups: who makes a task ready puts it into a queue and then looks who is asleep; who goes to sleep
 * says so and then looks into the queues (all in one order, sequentially consistent).
 * Against too many: a woken worker is searching until it finds something, and while one is, no other is woken; when it
 * finds something it wakes the next. */
#include "async/sched.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <time.h>
#ifdef __linux__
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

enum { LOOK_NS = 50000, LEAVE_NS = 5000, LOOKS_AT_ONCE = 64, LOCK_LOOKS = 32, HAND_OVER_NS = 20000000 };

void clipc__lock(struct clipc__lock *lock) {
  for (int looks = 0; atomic_exchange_explicit(&lock->held, 1, memory_order_acquire);)
    if (++looks % LOCK_LOOKS == 0) sched_yield(); /* whoever holds it may have lost its core */
}

void clipc__unlock(struct clipc__lock *lock) { atomic_store_explicit(&lock->held, 0, memory_order_release); }

/* ---- workers */

/* Under the lock: takes it from among those asleep; true when it was. */
static bool unsleep(struct clipc__park *park, struct clipc__worker *worker, bool searching) {
  if (!worker->asleep) return false;
  worker->asleep = false;
  worker->searching = searching;
  if (searching) atomic_fetch_add(&park->n_searching, 1);
  atomic_fetch_sub(&park->n_asleep, 1);
  return true;
}

static void wake_some(clipc_runtime *runtime, int n, bool searching) {
  struct clipc__park *park = &runtime->park;
  clipc__lock(&park->lock);
  for (int i = 0; i < runtime->n_workers && n > 0; i++) {
    struct clipc__worker *worker = &runtime->workers[i];
    if (worker == park->watcher || !unsleep(park, worker, searching)) continue;
    sem_post(&worker->wake);
    n--;
  }
  bool ring = n > 0 && park->watcher && unsleep(park, park->watcher, searching);
  clipc__unlock(&park->lock);
  if (ring) clipc__poller_ring(runtime);
}

void clipc__park_wake(clipc_runtime *runtime, int n) {
  if (atomic_load(&runtime->park.n_asleep) > 0) wake_some(runtime, n, false);
}

/* Workers that are awake without a task: they see new work by themselves, and look once more before they sleep. Who
 * helps with a product sees the next product, but no task. */
static int n_free_workers(clipc_runtime *runtime, bool for_tasks) {
  int n = 0;
  clipc__lock(&runtime->park.lock);
  for (int i = 0; i <= runtime->n_workers; i++) {
    const struct clipc__worker *worker = &runtime->workers[i];
    n += !worker->asleep && !atomic_load(&worker->in_turn) && !(for_tasks && atomic_load(&worker->is_helping));
  }
  clipc__unlock(&runtime->park.lock);
  return n;
}

void clipc__park_wake_to_help(clipc_runtime *runtime, int n) {
  if (atomic_load(&runtime->park.n_asleep) > 0) n -= n_free_workers(runtime, false);
  if (n > 0) clipc__park_wake(runtime, n);
}

void clipc__park_wake_one(clipc_runtime *runtime) {
  struct clipc__park *park = &runtime->park;
  if (runtime->n_workers == 0) {
    if (clipc__worker_here(runtime) == NULL) clipc__poller_ring(runtime);
  } else if (atomic_load(&park->n_asleep) > 0 && atomic_load(&park->n_searching) == 0 &&
             n_free_workers(runtime, true) == 0) {
    wake_some(runtime, 1, true);
  }
}

void clipc__park_found(struct clipc__worker *worker) {
  worker->searching = false;
  clipc_runtime *runtime = worker->runtime;
  if (atomic_fetch_sub(&runtime->park.n_searching, 1) == 1 && clipc__queue_any(runtime)) clipc__park_wake_one(runtime);
}

/* Another sleeper is to watch, as soon as something to watch for is near. */
void clipc__park_hand_over(struct clipc__worker *worker) {
  clipc_runtime *runtime = worker->runtime;
  worker->has_watched = worker->is_unwatched = false;
  if (atomic_load(&runtime->park.n_asleep) == 0) return; /* the next one to sleep watches */
  worker->is_unwatched = atomic_load(&runtime->poller.n_watched) == 0 &&
                         atomic_load(&runtime->wheel.next_ns) > clipc__clock_ns() + HAND_OVER_NS;
  if (!worker->is_unwatched) wake_some(runtime, 1, false);
}

/* Inside a computation the next piece of work is microseconds away. A task that has just come is left alone for a
 * moment: who sent it from outside and now waits for it runs it without changing threads. */
void clipc__park_look(clipc_runtime *runtime, unsigned jobs_seen, bool (*holds)(const void *context),
                      const void *context) {
  int64_t end = clipc__clock_ns() + LOOK_NS, seen_ns = 0;
  for (int looks = 0;; looks++) {
    int64_t now = clipc__clock_ns();
    if (now >= end || clipc__threads_posted() != jobs_seen || (holds && holds(context))) return;
    if (!clipc__queue_any(runtime))
      seen_ns = 0;
    else if (holds || (seen_ns != 0 && now - seen_ns >= LEAVE_NS))
      return;
    else if (seen_ns == 0)
      seen_ns = now;
    if (looks >= LOOKS_AT_ONCE) sched_yield();
  }
}

void clipc__park_sleep(struct clipc__worker *worker, unsigned jobs_seen) {
  clipc_runtime *runtime = worker->runtime;
  struct clipc__park *park = &runtime->park;
  if (worker->searching) {
    worker->searching = false;
    atomic_fetch_sub(&park->n_searching, 1);
  }
  clipc__lock(&park->lock);
  worker->asleep = true;
  atomic_fetch_add(&park->n_asleep, 1);
  bool watches = park->watcher == NULL;
  if (watches) park->watcher = worker;
  clipc__unlock(&park->lock);
  bool stays = !clipc__queue_any(runtime) && clipc__threads_posted() == jobs_seen &&
               atomic_load(&runtime->stage) != CLIPC__STOPPED;
  if (stays && watches) {
    clipc__poller_alarm(runtime);
    clipc__poller_look(runtime, -1, true);
    clipc__timer_fire(runtime, clipc_runtime_now_ns(runtime));
  }
  if (stays && !watches)
    while (sem_wait(&worker->wake) != 0) continue;
  clipc__lock(&park->lock);
  bool was_woken = !unsleep(park, worker, false);
  if (watches) park->watcher = NULL;
  worker->has_watched = watches;
  worker->is_unwatched = false;
  clipc__unlock(&park->lock);
  if (was_woken && !watches && !stays)
    while (sem_wait(&worker->wake) != 0) continue; /* the wake-up that came too late */
}

/* ---- threads from outside */

#ifdef __linux__
static void signal_block(struct clipc__signal *signal, const struct timespec *limit) {
  syscall(SYS_futex, &signal->state, FUTEX_WAIT_PRIVATE, 1, limit, NULL, 0);
}
static void signal_unblock(struct clipc__signal *signal) {
  syscall(SYS_futex, &signal->state, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}
#else
static void signal_block(struct clipc__signal *signal, const struct timespec *limit) {
  (void)signal, (void)limit, sched_yield();
}
static void signal_unblock(struct clipc__signal *signal) { (void)signal; }
#endif

void clipc__signal_raise(struct clipc__signal *signal) {
  if (atomic_exchange(&signal->state, 0) == 1) signal_unblock(signal);
}

static void guest_is_here(clipc_runtime *runtime, bool here) {
  clipc__lock(&runtime->park.lock);
  runtime->workers[runtime->n_workers].asleep = !here;
  clipc__unlock(&runtime->park.lock);
}

/* Runs what is ready and helps where something is computed, until it holds or there has been nothing to do for a
 * moment; one thread from outside at a time. */
static bool wait_as_guest(clipc_runtime *runtime, bool (*holds)(const void *context), const void *context,
                          int64_t end) {
  if (atomic_load(&runtime->stage) == CLIPC__STOPPED || pthread_mutex_trylock(&runtime->guest) != 0)
    return holds(context);
  struct clipc__worker *worker = &runtime->workers[runtime->n_workers];
  struct clipc__here before = *clipc__here();
  clipc__runtime_enter(worker);
  guest_is_here(runtime, true);
  bool done, looked = false;
  while (!(done = holds(context)) && atomic_load(&runtime->stage) != CLIPC__STOPPED &&
         (end == INT64_MAX || clipc__clock_ns() < end)) {
    unsigned jobs_seen = clipc__threads_posted();
    if (clipc__runtime_turn(worker) || clipc__runtime_help(worker)) {
      looked = false;
    } else {
      if (looked) break;
      clipc__park_look(runtime, jobs_seen, holds, context);
      looked = true;
    }
  }
  guest_is_here(runtime, false);
  clipc__queue_share_next(worker);
  if (clipc__queue_any(runtime)) clipc__park_wake_one(runtime); /* what has yielded to this thread, which goes */
  clipc__runtime_leave(&before);
  pthread_mutex_unlock(&runtime->guest);
  return done;
}

clipc_status clipc__wait(clipc_runtime *runtime, struct clipc__signal *signal, bool (*holds)(const void *context),
                         const void *context, int timeout_ms, clipc_error *error) {
  if (clipc__must_not_block())
    return clipc__fail(error, CLIPC_E_WOULD_DEADLOCK, "waiting inside a task or a callback would block the scheduler");
  if (!holds(context) && !clipc__runtime_usable(runtime))
    return clipc__fail(error, CLIPC_E_RUNTIME_UNAVAILABLE, "the runtime belongs to the parent process");
  int64_t start = clipc__clock_ns(), end = timeout_ms < 0 ? INT64_MAX : start + (int64_t)timeout_ms * 1000000;
  while (!holds(context)) {
    int64_t left = end - clipc__clock_ns();
    if (left <= 0) return clipc__fail(error, CLIPC_E_TIMED_OUT, "not done after %d ms", timeout_ms);
    if (runtime->n_workers == 0) {
      int poll_ms = left > 100000000 ? 100 : (int)(left / 1000000) + 1;
      clipc_status status = clipc_runtime_poll(runtime, poll_ms, NULL);
      if (status == CLIPC_OK || status == CLIPC_E_TIMED_OUT) continue; /* else somebody else polls, or it has stopped */
    } else if (wait_as_guest(runtime, holds, context, end)) {
      break;
    }
    left = end - clipc__clock_ns();
    struct timespec limit = {left / 1000000000, left % 1000000000};
    atomic_exchange(&signal->state, 1);
    if (!holds(context)) signal_block(signal, end == INT64_MAX ? NULL : &limit);
  }
  return CLIPC_OK;
}
