/* Runtimes: workers on the process's threads, or a host that polls; the shared one; shutdown.
 * A worker runs ready tasks, else takes part in matrix products, else sleeps. Between two chunks of a product it looks
 * at timers and descriptors, runs short tasks, and shares what it kept to itself. */
#include "async/sched.h"

#include <sched.h>
#include <string.h>
#include <time.h>

enum { POLL_TURNS = 256, SHORT_TURNS = 16, IO_LOOK_NS = 100000 };
#define CANCEL_LIMIT_NS 10000000000 /* for tasks that do not end although they were cancelled */
#define CANCEL_AGAIN_NS 50000000

static _Thread_local struct clipc__here here_now;

struct clipc__here *clipc__here(void) {
  return &here_now;
}

struct clipc__worker *clipc__worker_here(clipc_runtime *runtime) {
  struct clipc__worker *worker = here_now.worker;
  return worker && worker->runtime == runtime ? worker : NULL;
}

clipc_task *clipc__task_running(void) { return here_now.task; }
bool clipc__must_not_block(void) { return here_now.task != NULL || here_now.in_callback; }

bool clipc__callback_enter(void) {
  bool before = here_now.in_callback;
  here_now.in_callback = true;
  return before;
}

void clipc__callback_leave(bool before) { here_now.in_callback = before; }

int64_t clipc__clock_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t clipc_runtime_now_ns(const clipc_runtime *runtime) {
  return runtime && runtime->options.seed ? atomic_load(&runtime->clock_ns) : clipc__clock_ns();
}

/* ---- workers */

void clipc__runtime_tick(struct clipc__worker *worker, int64_t now_ns) {
  clipc_runtime *runtime = worker->runtime;
  clipc__timer_fire(runtime, now_ns);
  if (atomic_load_explicit(&runtime->poller.n_watched, memory_order_relaxed) == 0) return;
  if (now_ns - worker->io_looked_ns < IO_LOOK_NS) return;
  worker->io_looked_ns = now_ns;
  clipc__poller_look(runtime, 0, false);
}

/* What was left to this worker till now is somebody else's: it says that it is busy, and then looks. */
static void become_busy(struct clipc__worker *worker, atomic_bool *how) {
  atomic_store(how, true);
  if (atomic_load(&worker->runtime->park.n_asleep) > 0 && clipc__queue_any(worker->runtime))
    clipc__park_wake_one(worker->runtime);
}

static void between_chunks_of_a_product(void *context) {
  struct clipc__worker *worker = context;
  clipc_runtime *runtime = worker->runtime;
  worker->computed = true;
  if (!atomic_load(&worker->in_turn) && !atomic_load(&worker->is_helping)) become_busy(worker, &worker->is_helping);
  if (worker->between) return; /* a short task that computes */
  worker->between = true;
  if (worker->next) clipc__queue_share_next(worker);
  clipc__runtime_tick(worker, clipc_runtime_now_ns(runtime));
  clipc_task *task;
  for (int n = 0; n < SHORT_TURNS && (task = clipc__queue_take_short(runtime)); n++) clipc__task_turn(task);
  worker->between = false;
}

void clipc__runtime_enter(struct clipc__worker *worker) {
  here_now = (struct clipc__here){.worker = worker};
  clipc__threads_between(between_chunks_of_a_product, worker);
}

void clipc__runtime_leave(const struct clipc__here *before) {
  here_now = *before;
  clipc__threads_between(before->worker ? between_chunks_of_a_product : NULL, before->worker);
}

bool clipc__runtime_turn(struct clipc__worker *worker) {
  clipc_task *task = clipc__queue_take(worker);
  if (task == NULL) return false;
  if (worker->searching) clipc__park_found(worker);
  if (worker->has_watched && !task->kind->is_short) clipc__park_hand_over(worker);
  become_busy(worker, &worker->in_turn);
  clipc__task_turn(task);
  atomic_store_explicit(&worker->in_turn, false, memory_order_release);
  return true;
}

bool clipc__runtime_help(struct clipc__worker *worker) {
  bool helped = clipc__threads_help();
  if (helped) atomic_store_explicit(&worker->is_helping, false, memory_order_release);
  return helped;
}

static void worker_main(void *context, int index) {
  clipc_runtime *runtime = context;
  struct clipc__worker *worker = &runtime->workers[index];
  struct clipc__here before = here_now;
  clipc__runtime_enter(worker);
  bool helped = false;
  while (atomic_load_explicit(&runtime->stage, memory_order_acquire) != CLIPC__STOPPED) {
    if (clipc__runtime_turn(worker)) continue;
    if (worker->searching) clipc__park_found(worker); /* who helps with a product does not look for tasks */
    unsigned jobs_seen = clipc__threads_posted();
    if (clipc__runtime_help(worker)) {
      helped = true;
    } else if (helped) {
      clipc__park_look(runtime, jobs_seen, NULL, NULL);
      helped = false;
    } else {
      clipc__park_sleep(worker, jobs_seen);
    }
  }
  clipc__runtime_leave(&before);
}

static void crew_wake(void *context, int n) { clipc__park_wake_to_help(context, n); }

/* ---- open */

static clipc_status check_options(const clipc_runtime_options *options, clipc_error *error) {
  if (options->n_threads < CLIPC_HOST_DRIVEN || options->n_threads > CLIPC__MAX_THREADS)
    return clipc__fail(error, CLIPC_E_INVALID, "option n_threads: %d is not in -1 .. %d", options->n_threads,
                       CLIPC__MAX_THREADS);
  if (options->seed != 0 && options->n_threads != CLIPC_HOST_DRIVEN)
    return clipc__fail(error, CLIPC_E_INVALID, "option seed: only for a runtime that is driven by its host");
  if (options->fetch.n_allow > 0 && options->fetch.allow == NULL)
    return clipc__fail(error, CLIPC_E_INVALID, "option fetch.allow is NULL");
  if (!options->allocator.allocate != !options->allocator.release)
    return clipc__fail(error, CLIPC_E_INVALID, "option allocator: both functions or neither");
  return CLIPC_OK;
}

void clipc__options_free(clipc_runtime_options *copy) {
  char **allow = (char **)copy->fetch.allow;
  for (size_t i = 0; allow && i < copy->fetch.n_allow; i++) clipc__free(&copy->allocator, allow[i]);
  clipc__free(&copy->allocator, allow);
  *copy = (clipc_runtime_options){0};
}

clipc_status clipc__options_copy(clipc_runtime_options *copy, const clipc_runtime_options *options,
                                 clipc_error *error) {
  *copy = (clipc_runtime_options){0};
  if (options == NULL) return CLIPC_OK;
  clipc_status status = check_options(options, error);
  if (status != CLIPC_OK) return status;
  const char *const *from = options->fetch.allow;
  size_t n = options->fetch.n_allow;
  char **allow = n ? clipc__alloc_zeroed(&options->allocator, n, sizeof *allow) : NULL;
  if (n && allow == NULL) return clipc__no_memory(error, "a runtime");
  *copy = *options;
  copy->fetch.allow = (const char *const *)allow;
  for (size_t i = 0; i < n && status == CLIPC_OK; i++) {
    size_t n_bytes = from[i] ? strlen(from[i]) + 1 : 0;
    allow[i] = n_bytes ? clipc__alloc(&copy->allocator, n_bytes, 1) : NULL;
    if (n_bytes == 0)
      status = clipc__fail(error, CLIPC_E_INVALID, "option fetch.allow: entry %zu is NULL", i);
    else if (allow[i] == NULL)
      status = clipc__no_memory(error, "a runtime");
    else
      memcpy(allow[i], from[i], n_bytes);
  }
  if (status != CLIPC_OK) clipc__options_free(copy);
  return status;
}

static clipc_status make_workers(clipc_runtime *runtime, clipc_error *error) {
  int n = runtime->options.n_threads;
  runtime->n_workers = n == CLIPC_HOST_DRIVEN ? 0 : n ? n : clipc__usable_threads();
  runtime->workers = clipc__alloc_zeroed(&runtime->allocator, (size_t)runtime->n_workers + 1, sizeof *runtime->workers);
  if (runtime->workers == NULL) return clipc__no_memory(error, "a runtime");
  for (int i = 0; i <= runtime->n_workers; i++) {
    struct clipc__worker *worker = &runtime->workers[i];
    worker->runtime = runtime;
    worker->index = i;
    worker->random = (runtime->options.seed + (uint64_t)i + 1) * 0x9E3779B97F4A7C15u; /* seeds that are near, spread */
    worker->random ^= worker->random >> 32;
    if (worker->random == 0) worker->random = 1;
    worker->asleep = i == runtime->n_workers; /* the guest is not there yet */
    sem_init(&worker->wake, 0, 0);
  }
  return CLIPC_OK;
}

clipc_status clipc_runtime_open(clipc_runtime **out, const clipc_runtime_options *options, clipc_error *error) {
  if (out == NULL) return clipc__fail(error, CLIPC_E_INVALID, "clipc_runtime_open: out is NULL");
  *out = NULL;
  clipc_runtime_options chosen;
  clipc_status status = clipc__options_copy(&chosen, options, error);
  if (status != CLIPC_OK) return status;
  clipc_runtime *runtime = clipc__alloc_zeroed(&chosen.allocator, 1, sizeof *runtime);
  if (runtime == NULL) {
    clipc__options_free(&chosen);
    return clipc__no_memory(error, "a runtime");
  }
  clipc__threads_watch_forks();
  runtime->options = chosen;
  runtime->allocator = chosen.allocator;
  runtime->fork_count = clipc__fork_count();
  atomic_store(&runtime->references, 1);
  runtime->wheel.elapsed = clipc_runtime_now_ns(runtime) >> 16;
  atomic_store(&runtime->wheel.next_ns, INT64_MAX);
  pthread_mutex_init(&runtime->guest, NULL);
  pthread_mutex_init(&runtime->slots_mutex, NULL);
  runtime->poller.epoll_fd = runtime->poller.event_fd = runtime->poller.timer_fd = -1;
  status = clipc__poller_open(&runtime->poller, error);
  if (status == CLIPC_OK) status = make_workers(runtime, error);
  if (status == CLIPC_OK) {
    runtime->crew = (struct clipc__crew){.main = worker_main, .wake = crew_wake, .context = runtime};
    if (runtime->n_workers > 0 && !clipc__threads_hire(&runtime->crew, runtime->n_workers))
      status = clipc__fail(error, CLIPC_E_RUNTIME_UNAVAILABLE, "%d threads cannot be made", runtime->n_workers);
  }
  if (status == CLIPC_OK) {
    *out = runtime;
  } else {
    atomic_store(&runtime->stage, CLIPC__STOPPED);
    clipc__runtime_release(runtime);
  }
  return status;
}

/* ---- the parts that other files see */

const clipc_allocator *clipc__runtime_allocator(const clipc_runtime *runtime) { return &runtime->allocator; }
const clipc_runtime_options *clipc__runtime_options(const clipc_runtime *runtime) { return &runtime->options; }
bool clipc__runtime_is_stopping(const clipc_runtime *runtime) { return atomic_load(&runtime->stage) != CLIPC__OPEN; }
bool clipc__runtime_usable(const clipc_runtime *runtime) { return runtime->fork_count == clipc__fork_count(); }

clipc_runtime *clipc__runtime_retain(clipc_runtime *runtime) {
  atomic_fetch_add(&runtime->references, 1);
  return runtime;
}

void clipc__runtime_release(clipc_runtime *runtime) {
  if (atomic_fetch_sub(&runtime->references, 1) == 1 && clipc__slab_let_go(runtime)) clipc__runtime_free(runtime);
}

void clipc__runtime_free(clipc_runtime *runtime) {
  clipc__slab_free_all(runtime);
  clipc__poller_close(runtime);
  if (runtime->workers)
    for (int i = 0; i <= runtime->n_workers; i++) sem_destroy(&runtime->workers[i].wake);
  clipc__free(&runtime->allocator, runtime->workers);
  clipc__options_free(&runtime->options);
  pthread_mutex_destroy(&runtime->guest);
  pthread_mutex_destroy(&runtime->slots_mutex);
  clipc_allocator allocator = runtime->allocator;
  clipc__free(&allocator, runtime);
}

clipc_status clipc__runtime_slot(void **out, clipc_runtime *runtime, const struct clipc__slot_kind *kind,
                                 clipc_error *error) {
  clipc_status status = CLIPC_OK;
  *out = NULL;
  if (!clipc__runtime_usable(runtime))
    return clipc__fail(error, CLIPC_E_RUNTIME_UNAVAILABLE, "the runtime belongs to the parent process");
  pthread_mutex_lock(&runtime->slots_mutex);
  if (runtime->slots[kind->slot] == NULL) {
    if (atomic_load(&runtime->stage) != CLIPC__OPEN)
      status = clipc__fail(error, CLIPC_E_SHUTTING_DOWN, "the runtime is shutting down");
    else if ((status = kind->make(&runtime->slots[kind->slot], runtime, error)) == CLIPC_OK)
      runtime->slot_kinds[kind->slot] = kind;
  }
  if (status == CLIPC_OK) kind->retain(*out = runtime->slots[kind->slot]);
  pthread_mutex_unlock(&runtime->slots_mutex);
  return status;
}

/* ---- driven by the host */

int clipc_runtime_fd(const clipc_runtime *runtime) {
  return runtime && runtime->n_workers == 0 ? runtime->poller.epoll_fd : -1;
}

static bool run_ready(struct clipc__worker *worker) {
  int n = 0;
  worker->computed = false;
  while (n < POLL_TURNS && !worker->computed && clipc__runtime_turn(worker)) n++;
  return n > 0;
}

/* Nothing is ready: a seeded runtime's clock goes on to the next timer. */
static bool jump_ahead(clipc_runtime *runtime) {
  int64_t next_ns = atomic_load(&runtime->wheel.next_ns);
  if (runtime->options.seed == 0 || next_ns == INT64_MAX || atomic_load(&runtime->poller.n_watched) > 0) return false;
  if (next_ns > atomic_load(&runtime->clock_ns)) atomic_store(&runtime->clock_ns, next_ns);
  clipc__timer_fire(runtime, next_ns);
  return true;
}

static bool poll_as_host(clipc_runtime *runtime, int timeout_ms) {
  struct clipc__worker *worker = &runtime->workers[0];
  int64_t end = timeout_ms > 0 ? clipc__clock_ns() + (int64_t)timeout_ms * 1000000 : 0;
  int wait_ms = 0;
  bool ran, goes_on;
  do {
    goes_on = clipc__poller_look(runtime, wait_ms, true) && timeout_ms != 0;
    clipc__timer_fire(runtime, clipc_runtime_now_ns(runtime));
    ran = run_ready(worker);
    while (!ran && jump_ahead(runtime)) ran = run_ready(worker);
    if (ran || !goes_on) break;
    clipc__poller_alarm(runtime);
    int64_t left = timeout_ms > 0 ? end - clipc__clock_ns() : 0;
    wait_ms = timeout_ms > 0 ? (int)((left + 999999) / 1000000) : -1;
  } while ((timeout_ms < 0 || wait_ms > 0) && atomic_load(&runtime->stage) != CLIPC__STOPPED);
  clipc__queue_share_next(worker);
  if (clipc__queue_any(runtime)) clipc__poller_ring(runtime); /* the host is to come again */
  clipc__poller_alarm(runtime);
  return ran;
}

clipc_status clipc_runtime_poll(clipc_runtime *runtime, int timeout_ms, clipc_error *error) {
  if (runtime == NULL || runtime->n_workers != 0)
    return clipc__fail(error, CLIPC_E_INVALID, "clipc_runtime_poll: the runtime is %s",
                       runtime ? "not driven by its host" : "NULL");
  if (clipc__must_not_block()) return clipc__fail(error, CLIPC_E_WOULD_DEADLOCK, "clipc_runtime_poll inside a task");
  if (!clipc__runtime_usable(runtime))
    return clipc__fail(error, CLIPC_E_RUNTIME_UNAVAILABLE, "the runtime belongs to the parent process");
  if (pthread_mutex_trylock(&runtime->guest) != 0)
    return clipc__fail(error, CLIPC_E_INVALID, "clipc_runtime_poll: another thread polls");
  if (atomic_load(&runtime->stage) == CLIPC__STOPPED) {
    pthread_mutex_unlock(&runtime->guest);
    return clipc__fail(error, CLIPC_E_SHUTTING_DOWN, "the runtime was shut down");
  }
  struct clipc__here before = here_now;
  clipc__runtime_enter(&runtime->workers[0]);
  bool ran = poll_as_host(runtime, timeout_ms);
  clipc__runtime_leave(&before);
  bool stopped = atomic_load(&runtime->stage) == CLIPC__STOPPED; /* meanwhile, by another thread */
  pthread_mutex_unlock(&runtime->guest);
  if (stopped) return clipc__fail(error, CLIPC_E_SHUTTING_DOWN, "the runtime was shut down");
  return ran ? CLIPC_OK : clipc__fail(error, CLIPC_E_TIMED_OUT, "nothing was ready");
}

/* ---- shutdown */

long long clipc__runtime_n_tasks(const clipc_runtime *runtime) {
  long long ended = atomic_load(&runtime->n_ended), started; /* those first: what ends meanwhile is still counted */
  for (int i = 0; i <= runtime->n_workers; i++) ended += atomic_load(&runtime->workers[i].n_ended);
  started = atomic_load(&runtime->n_started);
  for (int i = 0; i <= runtime->n_workers; i++) started += atomic_load(&runtime->workers[i].n_started);
  return started - ended;
}

/* Until no task is left; false when the time is up. */
static bool wait_for_tasks(clipc_runtime *runtime, int64_t limit_ns) {
  for (int64_t start = clipc__clock_ns(); clipc__runtime_n_tasks(runtime) > 0;) {
    if (limit_ns >= 0 && clipc__clock_ns() - start >= limit_ns) return false;
    clipc_status status = runtime->n_workers == 0 ? clipc_runtime_poll(runtime, 1, NULL) : CLIPC_E_INVALID;
    if (status != CLIPC_OK && status != CLIPC_E_TIMED_OUT) nanosleep(&(struct timespec){0, 200000}, NULL);
  }
  return true;
}

static void cancel_one(void *unused, clipc_task *task) {
  (void)unused;
  if (!clipc_task_cancelled(task)) clipc_task_cancel(task);
}

/* More than once, for tasks that were being started meanwhile. */
static bool cancel_tasks(clipc_runtime *runtime) {
  for (int64_t end = clipc__clock_ns() + CANCEL_LIMIT_NS; clipc__clock_ns() < end;) {
    clipc__slab_each_task(runtime, cancel_one, NULL);
    if (wait_for_tasks(runtime, CANCEL_AGAIN_NS)) return true;
  }
  return false;
}

static void drop_one(void *unused, clipc_task *task) {
  (void)unused;
  if (!clipc_task_ended(task, NULL)) clipc__task_end(task, CLIPC_E_SHUTTING_DOWN);
}

/* Nobody runs tasks any more: what is left is dropped. */
static void drop_tasks(clipc_runtime *runtime) {
  bool before = clipc__callback_enter();
  clipc__queue_close(runtime);
  clipc__slab_each_task(runtime, drop_one, NULL);
  clipc__callback_leave(before);
}

static void stop_slots(clipc_runtime *runtime) {
  pthread_mutex_lock(&runtime->slots_mutex);
  for (int i = 0; i < CLIPC__N_SLOTS; i++)
    if (runtime->slots[i] && runtime->slot_kinds[i]->stop) runtime->slot_kinds[i]->stop(runtime->slots[i]);
  pthread_mutex_unlock(&runtime->slots_mutex);
}

/* Others may still be asking for them, and keep what they got. */
static void free_slots(clipc_runtime *runtime) {
  for (int i = 0; i < CLIPC__N_SLOTS; i++) {
    pthread_mutex_lock(&runtime->slots_mutex);
    void *object = runtime->slots[i];
    runtime->slots[i] = NULL;
    pthread_mutex_unlock(&runtime->slots_mutex);
    if (object) runtime->slot_kinds[i]->free(object);
  }
}

clipc_status clipc_runtime_shutdown(clipc_runtime *runtime, int drain_ms, clipc_error *error) {
  if (runtime == NULL) return clipc__fail(error, CLIPC_E_INVALID, "clipc_runtime_shutdown: runtime is NULL");
  if (clipc__must_not_block())
    return clipc__fail(error, CLIPC_E_WOULD_DEADLOCK, "clipc_runtime_shutdown inside a task");
  if (!clipc__runtime_usable(runtime))
    return clipc__fail(error, CLIPC_E_RUNTIME_UNAVAILABLE, "the runtime belongs to the parent process");
  int expected = CLIPC__OPEN;
  if (!atomic_compare_exchange_strong(&runtime->stage, &expected, CLIPC__DRAINING)) return CLIPC_OK;
  stop_slots(runtime);
  bool ended = drain_ms != 0 && wait_for_tasks(runtime, drain_ms < 0 ? -1 : (int64_t)drain_ms * 1000000);
  atomic_store(&runtime->stage, CLIPC__CANCELLING);
  if (!ended) ended = cancel_tasks(runtime);
  atomic_store(&runtime->stage, CLIPC__STOPPED);
  if (runtime->n_workers > 0) {
    clipc__park_wake(runtime, runtime->n_workers);
    clipc__threads_dismiss(&runtime->crew);
  }
  clipc__poller_ring(runtime);
  pthread_mutex_lock(&runtime->guest); /* who is in there leaves, and nobody comes any more */
  pthread_mutex_unlock(&runtime->guest);
  if (!ended) drop_tasks(runtime);
  free_slots(runtime);
  return ended ? CLIPC_OK
               : clipc__fail(error, CLIPC_E_TIMED_OUT, "tasks that did not end when they were cancelled were dropped");
}

void clipc_runtime_close(clipc_runtime *runtime) {
  if (runtime == NULL || clipc__must_not_block() || !clipc__runtime_usable(runtime)) return;
  clipc_runtime_shutdown(runtime, 0, NULL);
  clipc__runtime_release(runtime);
}
