/* The runtime of the process, waiting for tasks from outside, and the picture of a runtime for people. */
#include "async/sched.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* ---- the shared runtime: the one mutable global besides the threads */

static struct {
  pthread_mutex_t mutex;
  clipc_runtime_options options;
  clipc_runtime *runtime;
  bool was_shut_down;
  atomic_uint fork_count; /* of the process that has made it, and 1 more */
} shared = {.mutex = PTHREAD_MUTEX_INITIALIZER};

/* The mutex, too, may be held for ever in a child. */
static bool shared_is_parents(void) {
  unsigned count = atomic_load(&shared.fork_count);
  return count != 0 && count != clipc__fork_count() + 1;
}

clipc_status clipc_runtime_shared_options(const clipc_runtime_options *options, clipc_error *error) {
  if (options && options->n_threads == CLIPC_HOST_DRIVEN)
    return clipc__fail(error, CLIPC_E_INVALID, "option n_threads: the shared runtime has threads of its own");
  clipc_runtime_options copy, before;
  clipc_status status = clipc__options_copy(&copy, options, error);
  if (status != CLIPC_OK) return status;
  bool is_late = shared_is_parents();
  if (!is_late) {
    pthread_mutex_lock(&shared.mutex);
    is_late = shared.runtime || shared.was_shut_down;
    before = is_late ? copy : shared.options;
    if (!is_late) shared.options = copy;
    pthread_mutex_unlock(&shared.mutex);
  } else {
    before = copy;
  }
  clipc__options_free(&before);
  return is_late ? clipc__fail(error, CLIPC_E_INVALID, "the shared runtime has been made already") : CLIPC_OK;
}

clipc_status clipc_runtime_shared(clipc_runtime **out, clipc_error *error) {
  if (out == NULL) return clipc__fail(error, CLIPC_E_INVALID, "clipc_runtime_shared: out is NULL");
  *out = NULL;
  if (shared_is_parents())
    return clipc__fail(error, CLIPC_E_RUNTIME_UNAVAILABLE, "the shared runtime belongs to the parent process");
  clipc__threads_watch_forks();
  clipc_status status = CLIPC_OK;
  pthread_mutex_lock(&shared.mutex);
  atomic_store(&shared.fork_count, clipc__fork_count() + 1);
  if (shared.was_shut_down)
    status = clipc__fail(error, CLIPC_E_RUNTIME_UNAVAILABLE, "the shared runtime was shut down");
  else if (shared.runtime == NULL)
    status = clipc_runtime_open(&shared.runtime, &shared.options, error);
  if (status == CLIPC_OK) *out = shared.runtime;
  pthread_mutex_unlock(&shared.mutex);
  return status;
}

void clipc_shutdown(void) {
  if (clipc__must_not_block()) return;
  if (!shared_is_parents()) {
    pthread_mutex_lock(&shared.mutex);
    if (shared.runtime) {
      clipc_runtime_close(shared.runtime);
      shared.runtime = NULL;
      shared.was_shut_down = true;
      clipc__options_free(&shared.options);
    }
    pthread_mutex_unlock(&shared.mutex);
  }
  clipc__threads_stop();
}

/* ---- a thread from outside waits for a task: a small task joins it, and raises a flag */

struct outside_wait {
  clipc_task *other;
  struct clipc__signal signal;
  atomic_int references; /* the thread's and the task's */
  atomic_bool ended, gave_up;
  const clipc_allocator *allocator;
};

static void leave_outside_wait(struct outside_wait *wait) {
  if (atomic_fetch_sub(&wait->references, 1) == 1) clipc__free(wait->allocator, wait);
}

static int join_for_outside(clipc_task *task, void *frame) {
  struct outside_wait *wait = *(struct outside_wait **)frame;
  int status = clipc_task_join(task, wait->other, NULL);
  if (status != CLIPC_E_CANCELLED || atomic_load(&wait->gave_up)) return status;
  clipc__waiter_set(&wait->other->joiner, task); /* cancelled by a shutdown, which ends the other task, too: soon */
  if (!clipc_task_ended(wait->other, NULL)) return CLIPC_WAITING;
  clipc__waiter_clear(&wait->other->joiner);
  return CLIPC_OK;
}

static void joined_for_outside(void *frame) {
  struct outside_wait *wait = *(struct outside_wait **)frame;
  clipc_task_release(wait->other);
  atomic_store(&wait->ended, true);
  clipc__signal_raise(&wait->signal);
  leave_outside_wait(wait);
}

static bool outside_wait_ended(const void *context) {
  return atomic_load(&((const struct outside_wait *)context)->ended);
}

/* While a shutdown takes nothing new: that ends soon, or drops what is left. */
static clipc_status look_until_ended(clipc_task *task, int timeout_ms, clipc_status *status, clipc_error *error) {
  int64_t start = clipc__clock_ns();
  while (!clipc_task_ended(task, status)) {
    if (timeout_ms >= 0 && clipc__clock_ns() - start >= (int64_t)timeout_ms * 1000000)
      return clipc__fail(error, CLIPC_E_TIMED_OUT, "not done after %d ms", timeout_ms);
    nanosleep(&(struct timespec){0, 200000}, NULL);
  }
  return CLIPC_OK;
}

clipc_status clipc_task_wait(clipc_task *task, int timeout_ms, clipc_status *status, clipc_error *error) {
  static const clipc_task_kind kind = {.name = "wait",
                                       .run = join_for_outside,
                                       .drop = joined_for_outside,
                                       .frame_bytes = sizeof(struct outside_wait *)};
  if (task == NULL) return clipc__fail(error, CLIPC_E_INVALID, "clipc_task_wait: task is NULL");
  if (clipc__must_not_block())
    return clipc__fail(error, CLIPC_E_WOULD_DEADLOCK, "clipc_task_wait inside a task or a callback");
  if (clipc_task_ended(task, status)) return CLIPC_OK;
  clipc_runtime *runtime = task->runtime;
  struct outside_wait *wait = clipc__alloc_zeroed(&runtime->allocator, 1, sizeof *wait);
  if (wait == NULL) return clipc__no_memory(error, "waiting");
  wait->other = clipc_task_retain(task);
  wait->allocator = &runtime->allocator;
  atomic_store(&wait->references, 2);
  clipc_task *joiner;
  clipc_error unheard;
  clipc_status result = clipc_spawn(&joiner, runtime, &kind, &wait, &unheard);
  if (result != CLIPC_OK) {
    clipc_task_release(task);
    clipc__free(&runtime->allocator, wait);
    if (result == CLIPC_E_SHUTTING_DOWN) return look_until_ended(task, timeout_ms, status, error);
    return clipc__fail(error, result, "%s", unheard.message);
  }
  result = clipc__wait(runtime, &wait->signal, outside_wait_ended, wait, timeout_ms, error);
  if (result != CLIPC_OK) {
    atomic_store(&wait->gave_up, true);
    clipc_task_cancel(joiner);
  }
  clipc_task_release(joiner);
  leave_outside_wait(wait);
  return result == CLIPC_OK ? look_until_ended(task, timeout_ms, status, error) : result;
}

/* ---- for people */

void clipc__log(const clipc_runtime *runtime, clipc_log_level level, const char *format, ...) {
  if (runtime->options.log == NULL) return;
  char message[256];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
  bool before = clipc__callback_enter();
  runtime->options.log(runtime->options.log_context, level, message);
  clipc__callback_leave(before);
}

struct dump {
  void (*write)(void *context, const char *line);
  void *context;
  int64_t now_ns;
};

static void dump_task(void *context, clipc_task *task) {
  const struct dump *dump = context;
  char name[40], line[128], when[32] = "";
  unsigned state = atomic_load(&task->state);
  int64_t at_ns = atomic_load(&task->timer.at_ns);
  if (state & CLIPC__TASK_ENDED) return;
  clipc__task_name(task, name);
  if (at_ns != 0) snprintf(when, sizeof when, ", in %.3f s", (double)(at_ns - dump->now_ns) * 1e-9);
  snprintf(line, sizeof line, "task %s: %s%s%s", name,
           state & CLIPC__TASK_RUNNING  ? "running"
           : state & CLIPC__TASK_QUEUED ? "ready"
                                        : "waiting",
           when, state & CLIPC__TASK_CANCELLED ? ", cancelled" : "");
  dump->write(dump->context, line);
}

void clipc_runtime_dump(clipc_runtime *runtime, void (*write)(void *context, const char *line), void *context) {
  if (runtime == NULL || write == NULL || !clipc__runtime_usable(runtime)) return;
  struct dump dump = {write, context, clipc_runtime_now_ns(runtime)};
  static const char *const stages[] = {"open", "draining", "cancelling", "stopped"};
  char line[160];
  snprintf(line, sizeof line,
           "runtime: %s, %d threads (%d asleep), %lld tasks, %u ready from outside, %d descriptors watched",
           stages[atomic_load(&runtime->stage)], runtime->n_workers, atomic_load(&runtime->park.n_asleep),
           clipc__runtime_n_tasks(runtime), atomic_load(&runtime->injected.n), atomic_load(&runtime->poller.n_watched));
  write(context, line);
  bool before = clipc__callback_enter();
  clipc__slab_each_task(runtime, dump_task, &dump);
  clipc__callback_leave(before);
}
