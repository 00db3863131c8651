/* The runtime of the process, waiting for tasks from outside, and the picture of a runtime for people. */
#include "async/sched.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- the shared runtime: the one mutable global besides the threads */

static struct {
  pthread_mutex_t mutex, ending; /* ending: of clipc_shutdown; tasks never want it */
  clipc_runtime_options options;
  clipc_runtime *runtime;
  bool was_shut_down;
  atomic_uint fork_count; /* of the process that has made it, and 1 more */
} shared = {.mutex = PTHREAD_MUTEX_INITIALIZER, .ending = PTHREAD_MUTEX_INITIALIZER};

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
  atomic_store(&shared.fork_count, clipc__fork_count() + 1); /* before: a child must not want the mutex */
  pthread_mutex_lock(&shared.mutex);
  if (shared.was_shut_down)
    status = clipc__fail(error, CLIPC_E_RUNTIME_UNAVAILABLE, "the shared runtime was shut down");
  else if (shared.runtime == NULL)
    status = clipc_runtime_open(&shared.runtime, &shared.options, error);
  if (status == CLIPC_OK) *out = shared.runtime;
  pthread_mutex_unlock(&shared.mutex);
  return status;
}

/* Tasks that have yet to end may ask for the shared runtime: it is closed under no lock of theirs. */
static void close_shared(void) {
  pthread_mutex_lock(&shared.mutex);
  clipc_runtime *runtime = shared.runtime;
  shared.runtime = NULL;
  if (runtime) {
    shared.was_shut_down = true;
    clipc__options_free(&shared.options);
  }
  pthread_mutex_unlock(&shared.mutex);
  clipc_runtime_close(runtime);
}

void clipc_shutdown(void) {
  if (clipc__must_not_block()) return;
  if (shared_is_parents()) {
    clipc__threads_stop();
    return;
  }
  pthread_mutex_lock(&shared.ending);
  close_shared();
  clipc__threads_stop();
  pthread_mutex_unlock(&shared.ending);
}

/* ---- a thread from outside waits for a task: it marks the task, whose end then wakes those who wait so */

static bool task_has_ended(const void *task) { return clipc_task_ended(task, NULL); }

clipc_status clipc_task_wait(clipc_task *task, int timeout_ms, clipc_status *status, clipc_error *error) {
  if (task == NULL) return clipc__fail(error, CLIPC_E_INVALID, "clipc_task_wait: task is NULL");
  if (clipc__must_not_block())
    return clipc__fail(error, CLIPC_E_WOULD_DEADLOCK, "clipc_task_wait inside a task or a callback");
  atomic_fetch_or(&task->state, CLIPC__TASK_WATCHED);
  clipc_status result = clipc__wait(task->runtime, &task->runtime->ended, task_has_ended, task, timeout_ms, error);
  if (result == CLIPC_OK) clipc_task_ended(task, status);
  return result;
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
