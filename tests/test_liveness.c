/* Somebody always comes: a ready task is run, a timer is watched, a thread that waits is told, a shutdown ends. */
#include "base/threads.h"
#include "testing.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

static int64_t now_ns(void) { return clipc_runtime_now_ns(NULL); }

struct sleeper {
  int64_t ns;
};
static int sleep_for(clipc_task *task, void *frame) { return clipc_task_sleep(task, ((struct sleeper *)frame)->ns); }
static const clipc_task_kind sleeper_kind = {
    .name = "sleeper", .run = sleep_for, .frame_bytes = sizeof(struct sleeper)};

/* ---- timers */

/* Time jumps from timer to timer, but not to its end. */
static void nobody_comes_to_the_end_of_time(void **state) {
  (void)state;
  clipc_runtime *runtime = test_runtime_open(CLIPC_HOST_DRIVEN, 1);
  clipc_task *task = test_task_start(runtime, &sleeper_kind, &(struct sleeper){INT64_MAX});
  alarm(20);
  for (int polls = 0; clipc_runtime_poll(runtime, 0, NULL) == CLIPC_OK; polls++) assert_true(polls < 1000);
  alarm(0);
  clipc_task_cancel(task);
  assert_int_equal(test_task_finish(task), CLIPC_E_CANCELLED);
  clipc_runtime_close(runtime);
}

/* ---- who has watched the timers and is busy now lets another thread do so, also where none was near when it began:
 * the task that it ran first set one */

static atomic_bool was_reached;
static int reach(clipc_task *task, void *frame) {
  (void)task, (void)frame;
  atomic_store(&was_reached, true);
  return CLIPC_OK;
}
static void await_reached(void) { /* asleep: inside the library this thread would help */
  for (int ms = 0; ms < 3000 && !atomic_load(&was_reached); ms++) usleep(1000);
  assert_true(atomic_load(&was_reached));
}
static int be_busy(clipc_task *task, void *frame) {
  (void)task, (void)frame;
  for (int64_t end = now_ns() + 5000000000; !atomic_load(&was_reached);)
    if (now_ns() > end) return CLIPC_E_TIMED_OUT;
  return CLIPC_OK;
}
struct turner {
  int at;
  clipc_task **busy;
};
static int turn_and_sleep(clipc_task *task, void *frame) {
  static const clipc_task_kind busy_kind = {.name = "busy", .run = be_busy};
  struct turner *f = frame;
  int status = CLIPC_OK;
  CLIPC_TASK_BEGIN(f);
  CLIPC_AWAIT(f, status, clipc_task_sleep(task, 30000000));
  if (clipc_spawn(f->busy, clipc_task_runtime(task), &busy_kind, NULL, NULL) != CLIPC_OK) return CLIPC_E_NO_MEMORY;
  CLIPC_AWAIT(f, status, clipc_task_sleep(task, 3000000));
  atomic_store(&was_reached, true);
  CLIPC_TASK_END(f, status);
}
static void somebody_comes_to_watch(void **state) {
  (void)state;
  static const clipc_task_kind kind = {.name = "turner", .run = turn_and_sleep, .frame_bytes = sizeof(struct turner)};
  clipc_runtime *runtime = test_runtime_open(2, 0);
  for (int i = 0; i < 3; i++) {
    clipc_task *busy = NULL;
    atomic_store(&was_reached, false);
    clipc_task *turner = test_task_start(runtime, &kind, &(struct turner){.busy = &busy});
    await_reached();
    assert_int_equal(test_task_finish(turner), CLIPC_OK);
    assert_int_equal(test_task_finish(busy), CLIPC_OK);
  }
  clipc_runtime_close(runtime);
}

/* ---- who helps with a product is not there for tasks: another one is woken for them */

static void chunk_until_reached(void *context, size_t chunk, int slot) {
  (void)chunk, (void)slot;
  for (int64_t end = now_ns() + 5000000000; !atomic_load(&was_reached) && now_ns() < end;) usleep(100);
  if (!atomic_load(&was_reached)) atomic_store((atomic_bool *)context, true);
}
static int compute_until_reached(clipc_task *task, void *frame) {
  atomic_bool late = false;
  (void)task, (void)frame;
  clipc__parallel(2, 2, chunk_until_reached, &late);
  return atomic_load(&late) ? CLIPC_E_TIMED_OUT : CLIPC_OK;
}
static void somebody_is_there_for_tasks(void **state) {
  (void)state;
  static const clipc_task_kind kind = {.name = "computing", .run = compute_until_reached};
  static const clipc_task_kind other_kind = {.name = "other", .run = reach};
  clipc_runtime *runtime = test_runtime_open(3, 0);
  for (int i = 0; i < 5; i++) {
    atomic_store(&was_reached, false);
    usleep(5000);
    clipc_task *computing = test_task_start(runtime, &kind, NULL);
    usleep(10000);
    clipc_task *other = test_task_start(runtime, &other_kind, NULL);
    await_reached();
    assert_int_equal(test_task_finish(computing), CLIPC_OK);
    assert_int_equal(test_task_finish(other), CLIPC_OK);
  }
  clipc_runtime_close(runtime);
}

/* ---- waiting from outside */

/* Threads wait for a task as many as like, and beside the one that joins it. */
static void *wait_for_ok(void *task) {
  clipc_status status = CLIPC_E_INVALID;
  clipc_status waited = clipc_task_wait(task, 20000, &status, NULL);
  return (void *)(intptr_t)(waited == CLIPC_OK ? status : waited);
}
static int join_it(clipc_task *task, void *frame) { return clipc_task_join(task, *(clipc_task **)frame, NULL); }
static void many_wait(void **state) {
  (void)state;
  static const clipc_task_kind joiner_kind = {.name = "joiner", .run = join_it, .frame_bytes = sizeof(clipc_task *)};
  clipc_runtime *runtime = test_runtime_open(2, 0);
  for (int round = 0; round < 50; round++) {
    pthread_t threads[4];
    clipc_task *task = test_task_start(runtime, &sleeper_kind, &(struct sleeper){random_below(2000000)});
    for (int i = 0; i < 4; i++) pthread_create(&threads[i], NULL, wait_for_ok, task);
    clipc_task *joining = test_task_start(runtime, &joiner_kind, &task);
    for (int i = 0; i < 4; i++) {
      void *status;
      pthread_join(threads[i], &status);
      assert_int_equal((intptr_t)status, CLIPC_OK);
    }
    assert_int_equal(test_task_finish(joining), CLIPC_OK);
    clipc_task_release(task);
  }
  clipc_runtime_close(runtime);
}

/* ---- what hangs on a runtime, asked for while that is shut down */

static void *ask_until_it_ends(void *runtime) {
  clipc_status status = CLIPC_OK;
  while (status == CLIPC_OK) {
    clipc_guard *guard = NULL;
    clipc_registry *registry = NULL;
    status = clipc_memory_claim(&guard, runtime, 1, NULL);
    if (status == CLIPC_OK) status = clipc_memory_usage(runtime, NULL, NULL, NULL);
    if (status == CLIPC_OK) status = clipc_registry_open(&registry, runtime, NULL, NULL);
    clipc_registry_close(registry);
    clipc_memory_release(guard);
  }
  return (void *)(intptr_t)status;
}
static void asking_while_it_ends(void **state) {
  (void)state;
  for (int round = 0; round < 60; round++) {
    clipc_runtime *runtime = test_runtime_open(1, 0);
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) pthread_create(&threads[i], NULL, ask_until_it_ends, runtime);
    usleep((useconds_t)random_below(3000));
    assert_int_equal(clipc_runtime_shutdown(runtime, round % 2 ? -1 : 0, NULL), CLIPC_OK);
    for (int i = 0; i < 3; i++) {
      void *status;
      pthread_join(threads[i], &status);
      assert_int_equal((intptr_t)status, CLIPC_E_SHUTTING_DOWN);
    }
    clipc_runtime_close(runtime);
  }
}

/* A task may go on while its runtime drains, but makes no registry that would never be told to end. */
static int open_late(clipc_task *task, void *frame) {
  struct sleeper *f = frame;
  clipc_registry *registry;
  int status = clipc_task_sleep(task, f->ns);
  if (status != CLIPC_OK) return status;
  status = (int)clipc_registry_open(&registry, clipc_task_runtime(task), NULL, NULL);
  return status == CLIPC_E_SHUTTING_DOWN && registry == NULL ? CLIPC_OK : CLIPC_E_FORMAT;
}
static void no_registry_while_draining(void **state) {
  (void)state;
  static const clipc_task_kind kind = {.name = "late", .run = open_late, .frame_bytes = sizeof(struct sleeper)};
  clipc_runtime *runtime = test_runtime_open(1, 0);
  clipc_registry *registry;
  assert_int_equal(clipc_registry_open(&registry, runtime, NULL, NULL), CLIPC_OK);
  clipc_registry_close(registry);
  clipc_task *task = test_task_start(runtime, &kind, &(struct sleeper){.ns = 50000000});
  alarm(30);
  assert_int_equal(clipc_runtime_shutdown(runtime, -1, NULL), CLIPC_OK);
  alarm(0);
  assert_int_equal(test_task_finish(task), CLIPC_OK);
  clipc_runtime_close(runtime);
}

int main(void) {
  random_start(0);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(nobody_comes_to_the_end_of_time),
      cmocka_unit_test(somebody_comes_to_watch),
      cmocka_unit_test(somebody_is_there_for_tasks),
      cmocka_unit_test(many_wait),
      cmocka_unit_test(asking_while_it_ends),
      cmocka_unit_test(no_registry_while_draining),
  };
  return cmocka_run_group_tests_name("liveness", tests, NULL, NULL);
}
