/* Tasks: spawn, join, yield, sleep, cancel, deadlines, families, fairness; with threads, driven by a host, and seeded.
 */
#include "async/sched.h"
#include "testing.h"

#include <pthread.h>
#include <string.h>
#include <unistd.h>

static void wait_until_empty(clipc_runtime *runtime) {
  for (int i = 0; i < 5000 && clipc__runtime_n_tasks(runtime) > 0; i++) {
    if (clipc_runtime_fd(runtime) >= 0)
      clipc_runtime_poll(runtime, 1, NULL);
    else
      usleep(1000);
  }
  assert_int_equal(clipc__runtime_n_tasks(runtime), 0);
}

/* A test's body, with every kind of runtime, which has no task when it is over. Seeded ones last, where time jumps:
 * there nothing waits for long. */
static void on_each_runtime(void (*body)(clipc_runtime *runtime), size_t n_kinds) {
  static const struct {
    int n_threads;
    uint64_t seed;
  } kinds[] = {{2, 0}, {1, 0}, {CLIPC_HOST_DRIVEN, 0}, {CLIPC_HOST_DRIVEN, 1}};
  for (size_t i = 0; i < n_kinds; i++) {
    clipc_runtime *runtime = test_runtime_open(kinds[i].n_threads, kinds[i].seed);
    body(runtime);
    wait_until_empty(runtime);
    assert_int_equal(clipc_runtime_shutdown(runtime, 2000, NULL), CLIPC_OK);
    clipc_runtime_close(runtime);
  }
}

static atomic_int n_turns, n_drops;

/* ---- start and end */

struct answer {
  int at, status, yields;
  uint8_t filling[4000];
};
static int give_answer(clipc_task *task, void *frame) {
  struct answer *f = frame;
  atomic_fetch_add(&n_turns, 1);
  for (int i = 0; i < 4000; i++) assert_int_equal(f->filling[i], (uint8_t)i);
  assert_ptr_equal(clipc_task_frame(task), frame);
  return f->yields-- > 0 ? CLIPC_YIELDING : f->status;
}
static void count_drop(void *frame) {
  (void)frame;
  atomic_fetch_add(&n_drops, 1);
}

static void ends_once(clipc_runtime *runtime) {
  static const clipc_task_kind kind = {
      .name = "answer", .run = give_answer, .drop = count_drop, .frame_bytes = sizeof(struct answer)};
  struct answer answer = {.yields = 2};
  clipc_task *tasks[50];
  n_turns = n_drops = 0;
  for (int i = 0; i < 4000; i++) answer.filling[i] = (uint8_t)i;
  for (int i = 0; i < 50; i++) {
    answer.status = i % 19;
    tasks[i] = test_task_start(runtime, &kind, &answer);
    assert_int_equal(clipc_spawn(NULL, runtime, &kind, &answer, NULL), CLIPC_OK); /* detached */
  }
  for (int i = 0; i < 50; i++) {
    clipc_task *again = clipc_task_retain(tasks[i]);
    assert_int_equal(test_task_finish(tasks[i]), i % 19);
    clipc_status status;
    assert_int_equal(clipc_task_ended(again, &status), 1);
    assert_int_equal(status, i % 19);
    clipc_task_cancel(again); /* nothing happens */
    assert_int_equal(clipc_task_wait(again, 0, &status, NULL), CLIPC_OK);
    clipc_task_release(again);
  }
  assert_int_equal(clipc_runtime_shutdown(runtime, -1, NULL), CLIPC_OK);
  assert_int_equal(n_drops, 100);
  assert_int_equal(n_turns, 300);
}

static int look_at_zeros(clipc_task *task, void *frame) {
  (void)task;
  for (int i = 0; i < 300; i++)
    if (((uint8_t *)frame)[i]) return CLIPC_E_INVALID;
  memset(frame, 255, 300);
  return CLIPC_OK;
}
static void frame_is_zero(clipc_runtime *runtime) {
  static const clipc_task_kind kind = {.name = "zeros", .run = look_at_zeros, .frame_bytes = 300};
  for (int i = 0; i < 300; i++) assert_int_equal(test_task_finish(test_task_start(runtime, &kind, NULL)), CLIPC_OK);
}

static void bad_arguments(clipc_runtime *runtime) {
  static const clipc_task_kind kind = {.name = "zeros", .run = look_at_zeros, .frame_bytes = 300},
                               empty = {.name = "empty"};
  clipc_task *task = (clipc_task *)&kind;
  clipc_error error;
  assert_int_equal(clipc_spawn(&task, NULL, &kind, NULL, &error), CLIPC_E_INVALID);
  assert_null(task);
  assert_int_equal(clipc_spawn(NULL, runtime, NULL, NULL, NULL), CLIPC_E_INVALID);
  assert_int_equal(clipc_spawn(NULL, runtime, &empty, NULL, NULL), CLIPC_E_INVALID);
  assert_int_equal(clipc_spawn_child(&task, NULL, &kind, NULL, NULL), CLIPC_E_INVALID);
  assert_int_equal(clipc_task_wait(NULL, 0, NULL, NULL), CLIPC_E_INVALID);
  clipc_task_release(NULL);
  clipc_task_cancel(NULL);
  assert_null(clipc_task_retain(NULL));
  assert_int_equal(clipc_task_ended(NULL, NULL), 0);
}

/* ---- join */

struct joiner {
  int at, i, n;
  clipc_task *others[10];
};
static int join_all(clipc_task *task, void *frame) {
  struct joiner *f = frame;
  clipc_status how;
  int status = CLIPC_OK;
  CLIPC_TASK_BEGIN(f);
  if (clipc_task_join(task, task, NULL) != CLIPC_E_WOULD_DEADLOCK) return CLIPC_E_FORMAT;
  if (clipc_task_join(task, NULL, NULL) != CLIPC_E_INVALID) return CLIPC_E_FORMAT;
  for (; f->i < f->n; f->i++) {
    CLIPC_AWAIT(f, status, clipc_task_join(task, f->others[f->i], &how));
    if (status != CLIPC_OK) return status;
    if (how != (clipc_status)f->i) return CLIPC_E_MODEL;
  }
  CLIPC_TASK_END(f, CLIPC_OK);
}
static const clipc_task_kind joiner_kind = {.name = "joiner", .run = join_all, .frame_bytes = sizeof(struct joiner)};

struct late {
  int at, status;
  int64_t ns;
};
static int end_late(clipc_task *task, void *frame) {
  struct late *f = frame;
  int status = CLIPC_OK;
  CLIPC_TASK_BEGIN(f);
  CLIPC_AWAIT(f, status, clipc_task_sleep(task, f->ns));
  if (status != CLIPC_OK) return status;
  CLIPC_TASK_END(f, f->status);
}
static const clipc_task_kind late_kind = {
    .name = "late", .run = end_late, .drop = count_drop, .frame_bytes = sizeof(struct late)};

static void joins(clipc_runtime *runtime) {
  struct joiner joiner = {.n = 10};
  for (int i = 0; i < 10; i++)
    joiner.others[i] = test_task_start(runtime, &late_kind, &(struct late){0, i, i % 3 * 1000000});
  assert_int_equal(test_task_finish(test_task_start(runtime, &joiner_kind, &joiner)), CLIPC_OK);
  for (int i = 0; i < 10; i++) clipc_task_release(joiner.others[i]);
}

/* ---- sleep */

struct sleeper {
  int at;
  int64_t ns, woken;
  int64_t *late; /* the most */
};
static int sleep_exactly(clipc_task *task, void *frame) {
  struct sleeper *f = frame;
  int status = CLIPC_OK;
  CLIPC_TASK_BEGIN(f);
  f->woken = clipc_runtime_now_ns(clipc_task_runtime(task)) + f->ns;
  CLIPC_AWAIT(f, status, clipc_task_sleep(task, f->ns));
  int64_t late = clipc_runtime_now_ns(clipc_task_runtime(task)) - f->woken;
  if (late < 0) return CLIPC_E_TIMED_OUT;
  if (f->late && late > *f->late) *f->late = late;
  CLIPC_TASK_END(f, status);
}
static const clipc_task_kind sleeper_kind = {
    .name = "sleeper", .run = sleep_exactly, .frame_bytes = sizeof(struct sleeper)};

static void sleeps(clipc_runtime *runtime) {
  clipc_task *tasks[200];
  for (int i = 0; i < 200; i++)
    tasks[i] = test_task_start(runtime, &sleeper_kind, &(struct sleeper){.ns = random_below(30000000)});
  for (int i = 0; i < 200; i++) assert_int_equal(test_task_finish(tasks[i]), CLIPC_OK);
  assert_int_equal(test_task_finish(test_task_start(runtime, &sleeper_kind, &(struct sleeper){.ns = -5})), CLIPC_OK);
  tasks[0] = test_task_start(runtime, &late_kind, &(struct late){0, CLIPC_OK, INT64_MAX});
  clipc_task_cancel(tasks[0]);
  assert_int_equal(test_task_finish(tasks[0]), CLIPC_E_CANCELLED);
}

/* Time jumps in a seeded runtime: every level of the wheel, both sides of its borders, and beyond its nine years. */
static void wheel_wakes_at_the_right_tick(void **state) {
  (void)state;
  for (uint64_t seed = 1; seed <= 20; seed++) {
    clipc_runtime *runtime = test_runtime_open(CLIPC_HOST_DRIVEN, seed);
    int64_t late = 0;
    clipc_task *tasks[400];
    int n = 0;
    for (int bit = 0; bit < 60; bit++)
      for (int delta = -1; delta <= 1; delta++)
        tasks[n++] = test_task_start(runtime, &sleeper_kind,
                                     &(struct sleeper){.ns = ((int64_t)1 << bit) + delta * 65536, .late = &late});
    while (n < 400)
      tasks[n++] = test_task_start(
          runtime, &sleeper_kind,
          &(struct sleeper){.ns = (int64_t)(((uint64_t)random_bits() << 31 | random_bits()) >> random_below(62)),
                            .late = &late});
    for (int i = 0; i < n; i++) assert_int_equal(test_task_finish(tasks[i]), CLIPC_OK);
    assert_true(late <= 2 * 65536);
    clipc_runtime_close(runtime);
  }
}

/* ---- what a task can wait for: cancelled, and with a deadline */

enum wait { WAIT_SLEEP, WAIT_JOIN, WAIT_RECEIVE, WAIT_SEND, WAIT_SELECT, WAIT_ONESHOT, N_WAITS };
struct waiting {
  int at, what;
  int64_t deadline_ns; /* from now; 0 = none */
  clipc_task *other;
  clipc_channel *empty, *full;
  clipc_oneshot *oneshot;
};
static int wait_for(clipc_task *task, struct waiting *f) {
  char message[8] = {0};
  size_t which;
  switch (f->what) {
  case WAIT_SLEEP: return clipc_task_sleep(task, 3600000000000);
  case WAIT_JOIN: return clipc_task_join(task, f->other, NULL);
  case WAIT_RECEIVE: return clipc_channel_receive(task, f->empty, message);
  case WAIT_SEND: return clipc_channel_send(task, f->full, message);
  case WAIT_SELECT: return clipc_select(task, (clipc_channel *const[]){NULL, f->empty}, 2, &which, message);
  default: return clipc_oneshot_receive(task, f->oneshot, message);
  }
}
static int wait_forever(clipc_task *task, void *frame) {
  struct waiting *f = frame;
  int status = CLIPC_OK;
  CLIPC_TASK_BEGIN(f);
  if (f->deadline_ns) {
    f->deadline_ns += clipc_runtime_now_ns(clipc_task_runtime(task));
    clipc_task_set_deadline(task, f->deadline_ns);
  }
  CLIPC_AWAIT(f, status, wait_for(task, f));
  if (status == CLIPC_E_TIMED_OUT) {
    if (clipc_runtime_now_ns(clipc_task_runtime(task)) < f->deadline_ns) return CLIPC_E_FORMAT; /* early */
    if (wait_for(task, f) != CLIPC_E_TIMED_OUT) return CLIPC_E_FORMAT;                          /* it holds */
    clipc_task_set_deadline(task, 0);
    CLIPC_AWAIT(f, status, clipc_task_sleep(task, 1000));
    if (status != CLIPC_OK) return CLIPC_E_FORMAT;
    if (f->oneshot) clipc_oneshot_drop_receiver(f->oneshot);
    return CLIPC_E_TIMED_OUT;
  }
  if (f->oneshot && f->what != WAIT_ONESHOT) clipc_oneshot_drop_receiver(f->oneshot);
  CLIPC_TASK_END(f, status);
}

static void every_wait(clipc_runtime *runtime, int64_t deadline_ns) {
  static const clipc_task_kind kind = {
      .name = "waiting", .run = wait_forever, .drop = count_drop, .frame_bytes = sizeof(struct waiting)};
  struct waiting frame = {.deadline_ns = deadline_ns};
  char message[8] = {0};
  n_drops = 0;
  frame.other = test_task_start(runtime, &late_kind, &(struct late){.ns = 3600000000000});
  assert_int_equal(clipc_channel_open(&frame.empty, 8, 1, NULL, NULL), CLIPC_OK);
  assert_int_equal(clipc_channel_open(&frame.full, 8, 1, NULL, NULL), CLIPC_OK);
  assert_int_equal(clipc_channel_try_send(frame.full, message), CLIPC_OK);
  for (frame.what = 0; frame.what < N_WAITS; frame.what++)
    for (int early = 0; early < 2; early++) {
      assert_int_equal(clipc_oneshot_open(&frame.oneshot, runtime, 8, NULL), CLIPC_OK);
      clipc_task *task = test_task_start(runtime, &kind, &frame);
      if (!deadline_ns && !early)
        assert_int_equal(clipc_task_wait(task, 2, NULL, NULL), CLIPC_E_TIMED_OUT); /* so that it waits */
      if (!deadline_ns) clipc_task_cancel(task);
      assert_int_equal(test_task_finish(task), deadline_ns ? CLIPC_E_TIMED_OUT : CLIPC_E_CANCELLED);
      assert_int_equal(clipc_oneshot_send(frame.oneshot, message), CLIPC_E_CANCELLED);
    }
  assert_int_equal(n_drops, 2 * N_WAITS);
  clipc_task_cancel(frame.other);
  assert_int_equal(test_task_finish(frame.other), CLIPC_E_CANCELLED);
  clipc_channel_close_sender(frame.empty), clipc_channel_close_receiver(frame.empty);
  clipc_channel_close_sender(frame.full), clipc_channel_close_receiver(frame.full);
}
static void every_wait_is_cancelled(clipc_runtime *runtime) { every_wait(runtime, 0); }
static void every_wait_has_a_deadline(clipc_runtime *runtime) { every_wait(runtime, 3000000); }

/* ---- families */

struct parent {
  int at, depth, ends_first;
  atomic_int *n_cancelled, *n_started;
};
static int be_parent(clipc_task *task, void *frame) {
  static const clipc_task_kind kind = {
      .name = "family", .run = be_parent, .drop = count_drop, .frame_bytes = sizeof(struct parent)};
  struct parent *f = frame;
  int status = CLIPC_OK;
  CLIPC_TASK_BEGIN(f);
  atomic_fetch_add(f->n_started, 1);
  struct parent child = {0, f->depth - 1, 0, f->n_cancelled, f->n_started};
  for (int i = 0; i < 3 && f->depth > 0; i++)
    if (clipc_spawn_child(NULL, task, &kind, &child, NULL) != CLIPC_OK) return CLIPC_E_NO_MEMORY;
  if (f->ends_first) {
    while (atomic_load(f->n_started) < 13) CLIPC_YIELD(f);
    return CLIPC_OK;
  }
  CLIPC_AWAIT(f, status, clipc_task_sleep(task, 3600000000000));
  if (status == CLIPC_E_CANCELLED) atomic_fetch_add(f->n_cancelled, 1);
  CLIPC_TASK_END(f, status);
}
static void families(clipc_runtime *runtime) {
  static const clipc_task_kind kind = {
      .name = "top", .run = be_parent, .drop = count_drop, .frame_bytes = sizeof(struct parent)};
  for (int ends_first = 0; ends_first < 2; ends_first++) {
    atomic_int n_cancelled = 0, n_started = 0;
    n_drops = 0;
    clipc_task *top = test_task_start(runtime, &kind, &(struct parent){0, 2, ends_first, &n_cancelled, &n_started});
    clipc_task *alone = test_task_start(runtime, &late_kind, &(struct late){0, CLIPC_OK, 5000000});
    if (!ends_first) {
      while (atomic_load(&n_started) < 13) clipc_task_wait(top, 1, NULL, NULL);
      clipc_task_cancel(top);
    }
    assert_int_equal(test_task_finish(top), ends_first ? CLIPC_OK : CLIPC_E_CANCELLED);
    assert_int_equal(test_task_finish(alone), CLIPC_OK); /* no relation */
    wait_until_empty(runtime);
    assert_int_equal(n_cancelled, ends_first ? 12 : 13);
    assert_int_equal(n_drops, 14);
  }
}

/* ---- fairness: who never stops is passed by others */

static atomic_bool enough;
struct spinner {
  int at, how;
  clipc_channel *to, *from;
};
static int spin(clipc_task *task, void *frame) {
  struct spinner *f = frame;
  char message = 0;
  int status = CLIPC_OK;
  if (atomic_load(&enough)) {
    clipc_channel_close_sender(f->to);
    clipc_channel_close_receiver(f->from);
    return CLIPC_OK;
  }
  if (f->how == 0) return CLIPC_YIELDING;
  if (f->how == 1) { /* wakes itself */
    clipc__task_wake(task);
    return CLIPC_WAITING;
  }
  while ((status = clipc_channel_receive(task, f->from, &message)) == CLIPC_OK)
    if (clipc_channel_try_send(f->to, &message) != CLIPC_OK) break;
  return status == CLIPC_WAITING ? CLIPC_WAITING : CLIPC_YIELDING;
}
static int do_nothing(clipc_task *task, void *frame) {
  struct late *f = frame;
  int status = CLIPC_OK;
  CLIPC_TASK_BEGIN(f);
  for (; f->status < 20; f->status++) CLIPC_YIELD(f);
  for (; f->status < 23; f->status++) CLIPC_AWAIT(f, status, clipc_task_sleep(task, 1000000));
  CLIPC_TASK_END(f, CLIPC_OK);
}

static void nobody_starves(clipc_runtime *runtime) {
  static const clipc_task_kind spinners[] = {
      {.name = "spinner", .run = spin, .frame_bytes = sizeof(struct spinner)},
      {.name = "spinner", .run = spin, .frame_bytes = sizeof(struct spinner), .is_short = 1}};
  static const clipc_task_kind others[] = {
      {.name = "other", .run = do_nothing, .frame_bytes = sizeof(struct late)},
      {.name = "other", .run = do_nothing, .frame_bytes = sizeof(struct late), .is_short = 1}};
  for (int round = 0; round < 12; round++) { /* who spins is short or not, and how; and who wants to come through */
    clipc_task *tasks[4];
    atomic_store(&enough, false);
    for (int i = 0; i < 4; i += 2) {
      struct spinner a = {.how = round / 4}, b = a;
      clipc_channel_open(&a.to, 1, 0, NULL, NULL), clipc_channel_open(&b.to, 1, 0, NULL, NULL);
      a.from = b.to, b.from = a.to;
      for (int k = 0; k < 3; k++) clipc_channel_try_send(a.to, "");
      tasks[i] = test_task_start(runtime, &spinners[round & 1], &a);
      tasks[i + 1] = test_task_start(runtime, &spinners[round & 1], &b);
    }
    if (runtime->options.seed) { /* its time stands still as long as something is ready */
      assert_int_equal(clipc_task_wait(tasks[0], 5, NULL, NULL), CLIPC_E_TIMED_OUT);
      atomic_store(&enough, true);
    }
    assert_int_equal(test_task_finish(test_task_start(runtime, &others[round / 2 & 1], &(struct late){0})), CLIPC_OK);
    atomic_store(&enough, true);
    for (int i = 0; i < 4; i++) test_task_finish(tasks[i]);
  }
}

/* ---- inside a task nothing may block; a thread from outside may come again */

static int try_to_block(clipc_task *task, void *frame) {
  clipc_task *other = *(clipc_task **)frame;
  clipc_runtime *runtime = clipc_task_runtime(task);
  clipc_error error = {CLIPC_OK, ""};
  if (clipc_task_wait(other, 0, NULL, &error) != CLIPC_E_WOULD_DEADLOCK) return CLIPC_E_FORMAT;
  if (error.status != CLIPC_E_WOULD_DEADLOCK || error.message[0] == 0) return CLIPC_E_FORMAT;
  if (clipc_runtime_shutdown(runtime, 0, NULL) != CLIPC_E_WOULD_DEADLOCK) return CLIPC_E_FORMAT;
  if (clipc_runtime_fd(runtime) >= 0 && clipc_runtime_poll(runtime, 0, NULL) != CLIPC_E_WOULD_DEADLOCK)
    return CLIPC_E_FORMAT;
  clipc_runtime_close(runtime);
  clipc_shutdown();
  return clipc__runtime_is_stopping(runtime) ? CLIPC_E_FORMAT : CLIPC_OK;
}
static void nothing_blocks_inside(clipc_runtime *runtime) {
  static const clipc_task_kind kind = {.name = "blocking", .run = try_to_block, .frame_bytes = sizeof(clipc_task *)};
  clipc_task *other = test_task_start(runtime, &late_kind, &(struct late){.ns = 3600000000000});
  assert_int_equal(test_task_finish(test_task_start(runtime, &kind, &other)), CLIPC_OK);
  for (int i = 0; i < 5; i++) assert_int_equal(clipc_task_wait(other, i, NULL, NULL), CLIPC_E_TIMED_OUT);
  clipc_task_cancel(other);
  assert_int_equal(test_task_finish(other), CLIPC_E_CANCELLED);
}

/* A wait ends in time although there is always something to run meanwhile. */
static void waits_end_in_time(clipc_runtime *runtime) {
  static const clipc_task_kind kind = {.name = "spinner", .run = spin, .frame_bytes = sizeof(struct spinner)};
  atomic_store(&enough, false);
  clipc_task *tasks[20];
  for (int i = 0; i < 20; i++) tasks[i] = test_task_start(runtime, &kind, &(struct spinner){.how = 0});
  int64_t before = clipc__clock_ns();
  alarm(60);
  assert_int_equal(clipc_task_wait(tasks[0], 20, NULL, NULL), CLIPC_E_TIMED_OUT);
  alarm(0);
  assert_true(clipc__clock_ns() - before < 5000000000);
  atomic_store(&enough, true);
  for (int i = 0; i < 20; i++) assert_int_equal(test_task_finish(tasks[i]), CLIPC_OK);
}

/* ---- for people */

struct lines {
  char text[4096];
};
static void keep_line(void *context, const char *line) {
  strncat(((struct lines *)context)->text, line, 1000);
  strcat(((struct lines *)context)->text, "\n");
}
static int be_called(clipc_task *task, void *frame) {
  struct late *f = frame;
  if (f->at++ == 0) clipc_task_set_name(task, "request 17, whose name is cut where it becomes too long");
  return clipc_task_sleep(task, 3600000000000);
}
static void names_are_dumped(clipc_runtime *runtime) {
  static const clipc_task_kind kind = {.name = "nameless", .run = be_called, .frame_bytes = sizeof(struct late)};
  struct lines lines = {""};
  clipc_task *task = test_task_start(runtime, &kind, NULL);
  assert_int_equal(clipc_task_wait(task, 5, NULL, NULL), CLIPC_E_TIMED_OUT);
  clipc_runtime_dump(runtime, keep_line, &lines);
  assert_non_null(strstr(lines.text, "runtime: open"));
  assert_non_null(strstr(lines.text, "task request 17, whose name is cut where it : waiting, in 3"));
  clipc_task_cancel(task);
  assert_int_equal(test_task_finish(task), CLIPC_E_CANCELLED);
}

/* ---- memory */

static int name_and_child(clipc_task *task, void *frame) {
  static const clipc_task_kind kind = {.name = "child", .run = look_at_zeros, .drop = count_drop, .frame_bytes = 2000};
  clipc_error error = {CLIPC_OK, ""};
  (void)frame;
  clipc_task *child;
  clipc_status status = clipc_spawn_child(&child, task, &kind, NULL, &error);
  clipc_task_set_name(task, "named");
  clipc_task_release(child);
  return status;
}
static void no_memory_is_told(void **state) {
  (void)state;
  static const clipc_task_kind kind = {.name = "child", .run = name_and_child, .frame_bytes = 900};
  for (size_t n = 1, went_well = 0; !went_well; n++) {
    struct test_memory memory = {.fail_at = n};
    clipc_runtime_options options = {.n_threads = CLIPC_HOST_DRIVEN, .allocator = test_allocator(&memory)};
    clipc_runtime *runtime;
    clipc_task *task;
    clipc_oneshot *oneshot;
    clipc_error error = {CLIPC_OK, ""};
    n_drops = 0;
    clipc_status status = clipc_runtime_open(&runtime, &options, &error), how = CLIPC_OK;
    if (status == CLIPC_OK) {
      if ((status = clipc_spawn(&task, runtime, &kind, NULL, &error)) == CLIPC_OK) {
        status = clipc_task_wait(task, 10000, &how, &error);
        if (status == CLIPC_OK) status = how;
        clipc_task_release(task);
      }
      clipc_status opened = clipc_oneshot_open(&oneshot, runtime, 700, &error);
      if (opened == CLIPC_OK) clipc_oneshot_drop_sender(oneshot), clipc_oneshot_drop_receiver(oneshot);
      if (opened != CLIPC_OK) status = opened;
      clipc_runtime_close(runtime);
    }
    went_well = status == CLIPC_OK && memory.n_asked < n;
    if (status != CLIPC_OK) assert_int_equal(status, CLIPC_E_NO_MEMORY);
    assert_int_equal(memory.n_live, 0);
    assert_true(n < 100);
  }
}

/* Handles, ends of channels and of oneshots that are given back after the runtime. */
static int hold_on(clipc_task *task, void *frame) {
  struct waiting *f = frame;
  char message[8] = {0};
  int status = f->what == WAIT_ONESHOT ? clipc_oneshot_receive(task, f->oneshot, message)
               : f->what == WAIT_SEND  ? clipc_channel_send(task, f->full, message)
                                       : clipc_channel_receive(task, f->empty, message);
  return status;
}
static void handles_outlive_the_runtime(void **state) {
  (void)state;
  static const clipc_task_kind kind = {.name = "holding", .run = hold_on, .frame_bytes = sizeof(struct waiting)};
  for (int n_threads = -1; n_threads < 3; n_threads += 1 + (n_threads == -1)) {
    struct test_memory memory = {0};
    clipc_runtime_options options = {.n_threads = n_threads, .allocator = test_allocator(&memory)};
    clipc_runtime *runtime;
    assert_int_equal(clipc_runtime_open(&runtime, &options, NULL), CLIPC_OK);
    struct waiting frame = {0};
    assert_int_equal(clipc_channel_open(&frame.empty, 8, 1, NULL, NULL), CLIPC_OK);
    assert_int_equal(clipc_channel_open(&frame.full, 8, 1, NULL, NULL), CLIPC_OK);
    assert_int_equal(clipc_channel_try_send(frame.full, "1234567"), CLIPC_OK);
    assert_int_equal(clipc_oneshot_open(&frame.oneshot, runtime, 600, NULL), CLIPC_OK);
    clipc_task *tasks[N_WAITS];
    for (frame.what = 0; frame.what < N_WAITS; frame.what++)
      tasks[frame.what] = test_task_start(runtime, &kind, &frame);
    char message[600];
    clipc_task_wait(tasks[0], 5, NULL, NULL);
    clipc_runtime_close(runtime);
    assert_int_equal(clipc_oneshot_send(frame.oneshot, memset(message, 7, sizeof message)), CLIPC_E_CANCELLED);
    for (int i = 0; i < N_WAITS; i++) {
      clipc_status status = CLIPC_OK;
      assert_int_equal(clipc_task_ended(tasks[i], &status), 1);
      assert_int_equal(status, CLIPC_E_CANCELLED);
      clipc_task_release(tasks[i]);
    }
    clipc_channel_close_receiver(frame.empty), clipc_channel_close_sender(frame.empty);
    clipc_channel_close_sender(frame.full), clipc_channel_close_receiver(frame.full);
    assert_int_equal(memory.n_live, 0);
  }
}

#define EACH(NAME)                                                                                                     \
  static void test_##NAME(void **state) {                                                                              \
    (void)state;                                                                                                       \
    on_each_runtime(NAME, 4);                                                                                          \
  }
#define EACH_BUT_SEEDED(NAME)                                                                                          \
  static void test_##NAME(void **state) {                                                                              \
    (void)state;                                                                                                       \
    on_each_runtime(NAME, 3);                                                                                          \
  }
EACH(ends_once)
EACH(frame_is_zero)
EACH(bad_arguments)
EACH(joins)
EACH(sleeps)
EACH_BUT_SEEDED(every_wait_is_cancelled)
EACH(every_wait_has_a_deadline)
EACH_BUT_SEEDED(families)
EACH(nobody_starves)
EACH_BUT_SEEDED(nothing_blocks_inside)
EACH(waits_end_in_time)
EACH_BUT_SEEDED(names_are_dumped)

int main(void) {
  random_start(0);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_ends_once),
      cmocka_unit_test(test_frame_is_zero),
      cmocka_unit_test(test_bad_arguments),
      cmocka_unit_test(test_joins),
      cmocka_unit_test(test_sleeps),
      cmocka_unit_test(wheel_wakes_at_the_right_tick),
      cmocka_unit_test(test_every_wait_is_cancelled),
      cmocka_unit_test(test_every_wait_has_a_deadline),
      cmocka_unit_test(test_families),
      cmocka_unit_test(test_nobody_starves),
      cmocka_unit_test(test_nothing_blocks_inside),
      cmocka_unit_test(test_waits_end_in_time),
      cmocka_unit_test(test_names_are_dumped),
      cmocka_unit_test(no_memory_is_told),
      cmocka_unit_test(handles_outlive_the_runtime),
  };
  return cmocka_run_group_tests_name("tasks", tests, NULL, NULL);
}
