/* Runtimes: driven by a host, shut down, shared, forked; threads counted, idle ones asleep, a heartbeat under load. */
#include "base/threads.h"
#include "testing.h"

#include <dirent.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int64_t now_ns(void) { return clipc_runtime_now_ns(NULL); }

static atomic_int n_turns, n_drops;
static void count_drop(void *frame) {
  (void)frame;
  atomic_fetch_add(&n_drops, 1);
}

struct sleeper {
  int at, ignores;
  int64_t ns;
};
static int sleep_for(clipc_task *task, void *frame) {
  struct sleeper *f = frame;
  atomic_fetch_add(&n_turns, 1);
  int status = clipc_task_sleep(task, f->ns);
  return status == CLIPC_E_CANCELLED && f->ignores ? CLIPC_WAITING : status;
}
static const clipc_task_kind sleeper_kind = {
    .name = "sleeper", .run = sleep_for, .drop = count_drop, .frame_bytes = sizeof(struct sleeper)};
#define HOUR 3600000000000

/* ---- options */

static void options_are_checked(void **state) {
  (void)state;
  clipc_runtime *runtime = (clipc_runtime *)&state;
  clipc_error error;
  const char *const hosts[] = {"localhost:80", NULL};
  const clipc_runtime_options bad[] = {{.n_threads = -2},
                                       {.n_threads = 257},
                                       {.n_threads = 1, .seed = 1},
                                       {.fetch = {.n_allow = 1}},
                                       {.fetch = {.allow = hosts, .n_allow = 2}},
                                       {.allocator = {.allocate = test_allocator(NULL).allocate}}};
  assert_int_equal(clipc_runtime_open(NULL, NULL, NULL), CLIPC_E_INVALID);
  for (size_t i = 0; i < COUNT(bad); i++) {
    assert_int_equal(clipc_runtime_open(&runtime, &bad[i], &error), CLIPC_E_INVALID);
    assert_null(runtime);
    assert_true(error.message[0] != 0);
    assert_int_equal(clipc_runtime_shared_options(&bad[i], NULL), CLIPC_E_INVALID);
  }
  for (size_t n = 1, asked = n; asked >= n; n++) {
    struct test_memory memory = {.fail_at = n};
    const clipc_runtime_options options = {
        .n_threads = 2, .fetch = {.allow = hosts, .n_allow = 1}, .allocator = test_allocator(&memory)};
    clipc_status status = clipc_runtime_open(&runtime, &options, NULL);
    assert_int_equal(status, memory.n_asked >= n ? CLIPC_E_NO_MEMORY : CLIPC_OK);
    clipc_runtime_close(runtime);
    assert_int_equal(memory.n_live, 0);
    asked = memory.n_asked;
  }
  clipc_runtime_close(NULL);
  clipc_runtime_dump(NULL, NULL, NULL);
  assert_int_equal(clipc_runtime_fd(NULL), -1);
  assert_int_equal(clipc_runtime_poll(NULL, 0, NULL), CLIPC_E_INVALID);
  assert_int_equal(clipc_runtime_shutdown(NULL, 0, NULL), CLIPC_E_INVALID);
}

/* ---- driven by the host */

static bool is_readable(clipc_runtime *runtime, int timeout_ms) {
  struct pollfd fd = {.fd = clipc_runtime_fd(runtime), .events = POLLIN};
  return poll(&fd, 1, timeout_ms) == 1;
}

static void *spawn_soon(void *runtime) {
  usleep(20000);
  assert_int_equal(clipc_spawn(NULL, runtime, &sleeper_kind, &(struct sleeper){.ns = 0}, NULL), CLIPC_OK);
  return NULL;
}

static int yield_often(clipc_task *task, void *frame) {
  (void)task;
  atomic_fetch_add(&n_turns, 1);
  return --*(int *)frame > 0 ? CLIPC_YIELDING : CLIPC_OK;
}

static void a_host_polls(void **state) {
  (void)state;
  clipc_runtime *runtime = test_runtime_open(CLIPC_HOST_DRIVEN, 0), *threads = test_runtime_open(1, 0);
  assert_int_equal(clipc_runtime_fd(threads), -1);
  assert_int_equal(clipc_runtime_poll(threads, 0, NULL), CLIPC_E_INVALID);
  clipc_runtime_close(threads);
  pthread_t thread;
  assert_int_equal(clipc_runtime_poll(runtime, 0, NULL), CLIPC_E_TIMED_OUT);
  assert_false(is_readable(runtime, 0));
  /* spawned: the descriptor says so */
  clipc_task *task = test_task_start(runtime, &sleeper_kind, &(struct sleeper){.ns = 30000000});
  assert_true(is_readable(runtime, 0));
  assert_int_equal(clipc_runtime_poll(runtime, 0, NULL), CLIPC_OK);
  assert_false(is_readable(runtime, 0));
  assert_int_equal(clipc_runtime_poll(runtime, 0, NULL), CLIPC_E_TIMED_OUT);
  /* a timer: readable when it is due, and not before */
  int64_t start_ns = now_ns();
  for (int polls = 0; !clipc_task_ended(task, NULL); polls++) { /* more than once: the wheel's slots on the way */
    assert_true(polls < 10);
    assert_true(is_readable(runtime, 5000));
    clipc_runtime_poll(runtime, 0, NULL);
  }
  assert_true(now_ns() - start_ns > 20000000 && now_ns() - start_ns < 2000000000);
  clipc_task_release(task);
  assert_false(is_readable(runtime, 0));
  /* another thread spawns: a poll that waits, and one of the descriptor */
  for (int timeout_ms = -1; timeout_ms <= 5000; timeout_ms += 5001) {
    pthread_create(&thread, NULL, spawn_soon, runtime);
    assert_int_equal(clipc_runtime_poll(runtime, timeout_ms, NULL), CLIPC_OK);
    pthread_join(thread, NULL);
  }
  pthread_create(&thread, NULL, spawn_soon, runtime);
  assert_true(is_readable(runtime, 5000));
  pthread_join(thread, NULL);
  assert_int_equal(clipc_runtime_poll(runtime, 0, NULL), CLIPC_OK);
  start_ns = now_ns();
  assert_int_equal(clipc_runtime_poll(runtime, 30, NULL), CLIPC_E_TIMED_OUT);
  assert_true(now_ns() - start_ns >= 29000000);
  /* one poll does a few hundred turns at most, and says that there are more */
  n_turns = 0;
  int n = 5000;
  task =
      test_task_start(runtime, &(clipc_task_kind){.name = "yields", .run = yield_often, .frame_bytes = sizeof n}, &n);
  for (int polls = 0; !clipc_task_ended(task, NULL); polls++) {
    int before = n_turns;
    assert_true(is_readable(runtime, 0));
    assert_int_equal(clipc_runtime_poll(runtime, -1, NULL), CLIPC_OK);
    assert_true(n_turns - before <= 500 && polls < 5000);
  }
  clipc_task_release(task);
  assert_int_equal(clipc_runtime_shutdown(runtime, -1, NULL), CLIPC_OK);
  assert_int_equal(clipc_runtime_poll(runtime, 0, NULL), CLIPC_E_SHUTTING_DOWN);
  clipc_runtime_close(runtime);
}

static void *poll_until_it_ends(void *runtime) {
  clipc_status status;
  do status = clipc_runtime_poll(runtime, -1, NULL);
  while (status == CLIPC_OK || status == CLIPC_E_TIMED_OUT);
  return (void *)(intptr_t)status;
}
static void shutdown_ends_a_poll(void **state) {
  (void)state;
  clipc_runtime *runtime = test_runtime_open(CLIPC_HOST_DRIVEN, 0);
  pthread_t thread;
  void *status;
  clipc_task *task = test_task_start(runtime, &sleeper_kind, &(struct sleeper){.ns = HOUR});
  pthread_create(&thread, NULL, poll_until_it_ends, runtime);
  usleep(20000);
  assert_int_equal(clipc_runtime_poll(runtime, 0, NULL), CLIPC_E_INVALID); /* one at a time */
  assert_int_equal(clipc_task_wait(task, 20, NULL, NULL), CLIPC_E_TIMED_OUT);
  assert_int_equal(clipc_runtime_shutdown(runtime, 0, NULL), CLIPC_OK);
  pthread_join(thread, &status);
  assert_int_equal((intptr_t)status, CLIPC_E_SHUTTING_DOWN);
  clipc_task_release(task);
  clipc_runtime_close(runtime);
}

/* ---- shutdown */

static void drains_or_cancels(void **state) {
  (void)state;
  for (int n_threads = CLIPC_HOST_DRIVEN; n_threads <= 2; n_threads += n_threads == CLIPC_HOST_DRIVEN ? 2 : 1)
    for (int drain_ms = -1; drain_ms <= 10; drain_ms += drain_ms == -1 ? 1 : 10) {
      clipc_runtime *runtime = test_runtime_open(n_threads, 0);
      clipc_task *soon = test_task_start(runtime, &sleeper_kind, &(struct sleeper){.ns = 3000000}), *late = NULL;
      clipc_status status;
      n_drops = 0;
      if (drain_ms >= 0) late = test_task_start(runtime, &sleeper_kind, &(struct sleeper){.ns = HOUR});
      assert_int_equal(clipc_runtime_shutdown(runtime, drain_ms, NULL), CLIPC_OK);
      assert_int_equal(clipc_runtime_shutdown(runtime, drain_ms, NULL), CLIPC_OK);
      assert_int_equal(clipc_task_ended(soon, &status), 1);
      if (drain_ms == -1) assert_int_equal(status, CLIPC_OK);
      if (drain_ms == 0) assert_int_equal(status, CLIPC_E_CANCELLED);
      if (late) {
        assert_int_equal(clipc_task_wait(late, 0, &status, NULL), CLIPC_OK);
        assert_int_equal(status, CLIPC_E_CANCELLED);
      }
      assert_int_equal(n_drops, late ? 2 : 1);
      clipc_error error = {CLIPC_OK, ""};
      clipc_task *none = soon;
      assert_int_equal(clipc_spawn(&none, runtime, &sleeper_kind, &(struct sleeper){.ns = 1}, &error),
                       CLIPC_E_SHUTTING_DOWN);
      assert_null(none);
      assert_non_null(strstr(error.message, "sleeper"));
      assert_int_equal(n_drops, late ? 2 : 1);
      clipc_task_release(soon), clipc_task_release(late);
      clipc_runtime_close(runtime);
    }
}

/* Tasks that ignore being cancelled for ten seconds; a thread waits for one of them. */
static void *wait_for_task(void *task) {
  clipc_status status = CLIPC_OK;
  assert_int_equal(clipc_task_wait(task, -1, &status, NULL), CLIPC_OK);
  return (void *)(intptr_t)status;
}
static void *drop_stubborn(void *context) {
  clipc_runtime *runtime = context;
  clipc_task *tasks[20];
  pthread_t thread;
  void *status;
  for (int i = 0; i < 20; i++)
    tasks[i] = test_task_start(runtime, &sleeper_kind, &(struct sleeper){.ns = HOUR, .ignores = i % 2});
  if (clipc_runtime_fd(runtime) < 0) pthread_create(&thread, NULL, wait_for_task, tasks[1]);
  usleep(10000);
  assert_int_equal(clipc_runtime_shutdown(runtime, 20, NULL), CLIPC_E_TIMED_OUT);
  if (clipc_runtime_fd(runtime) < 0) {
    pthread_join(thread, &status);
    assert_int_equal((intptr_t)status, CLIPC_E_SHUTTING_DOWN);
  }
  for (int i = 0; i < 20; i++) {
    clipc_status how;
    assert_int_equal(clipc_task_ended(tasks[i], &how), 1);
    assert_int_equal(how, i % 2 ? CLIPC_E_SHUTTING_DOWN : CLIPC_E_CANCELLED);
    clipc_task_cancel(tasks[i]);
    clipc_task_release(tasks[i]);
  }
  clipc_runtime_close(runtime);
  return NULL;
}
static void stubborn_tasks_are_dropped(void **state) {
  (void)state;
  n_drops = 0;
  pthread_t thread;
  pthread_create(&thread, NULL, drop_stubborn, test_runtime_open(2, 0));
  drop_stubborn(test_runtime_open(CLIPC_HOST_DRIVEN, 0));
  pthread_join(thread, NULL);
  assert_int_equal(n_drops, 40);
}

/* Threads that wait and spawn while another one shuts down. */
static void *spawn_without_end(void *runtime) {
  intptr_t n = 0;
  clipc_status status;
  while ((status = clipc_spawn(NULL, runtime, &sleeper_kind, &(struct sleeper){.ns = n % 5 * 100000}, NULL)) ==
         CLIPC_OK)
    n++;
  assert_int_equal(status, CLIPC_E_SHUTTING_DOWN);
  return (void *)n;
}
static void nothing_is_left_behind(void **state) {
  (void)state;
  for (int round = 0; round < 100; round++) {
    clipc_runtime *runtime = test_runtime_open(1 + round % 2, 0);
    pthread_t spawners[2], waiter;
    void *n[2];
    n_drops = 0;
    clipc_task *task = test_task_start(runtime, &sleeper_kind, &(struct sleeper){.ns = HOUR});
    pthread_create(&waiter, NULL, wait_for_task, task);
    for (int i = 0; i < 2; i++) pthread_create(&spawners[i], NULL, spawn_without_end, runtime);
    usleep((useconds_t)random_below(1000));
    assert_int_equal(clipc_runtime_shutdown(runtime, round % 3 - 1 ? 1 : 0, NULL), CLIPC_OK);
    for (int i = 0; i < 2; i++) pthread_join(spawners[i], &n[i]);
    pthread_join(waiter, NULL);
    assert_int_equal(n_drops, (intptr_t)n[0] + (intptr_t)n[1] + 1);
    clipc_task_release(task);
    clipc_runtime_close(runtime);
  }
}

/* ---- the process: threads, sleep */

static int count_threads(void) {
  int n = 0;
  DIR *folder = opendir("/proc/self/task");
  for (struct dirent *entry; folder && (entry = readdir(folder));) n += entry->d_name[0] != '.';
  if (folder) closedir(folder);
  return n;
}

/* Context switches of all threads but this one. */
static long long count_wakes(void) {
  long long n = 0, one;
  DIR *folder = opendir("/proc/self/task");
  for (struct dirent *entry; folder && (entry = readdir(folder));) {
    char path[300], line[200];
    snprintf(path, sizeof path, "/proc/self/task/%s/status", entry->d_name);
    FILE *file = entry->d_name[0] == '.' || atoi(entry->d_name) == getpid() ? NULL : fopen(path, "r");
    while (file && fgets(line, sizeof line, file))
      if (sscanf(line, "voluntary_ctxt_switches: %lld", &one) == 1) n += one;
    if (file) fclose(file);
  }
  if (folder) closedir(folder);
  return n;
}

static void open_tiny(clipc_model **model, clipc_session **session, clipc_gemm gemm, int n_threads) {
  clipc_options options = {.n_threads = n_threads, .gemm = gemm};
  clipc_error error = {CLIPC_OK, ""};
  *model = NULL;
  if (clipc_model_open(model, "models/tiny", &options, &error) == CLIPC_OK)
    clipc_session_open(session, *model, NULL, &error);
  if (error.status == CLIPC_E_UNSUPPORTED && gemm == CLIPC_GEMM_OPENBLAS) return;
  if (error.status != CLIPC_OK) fail_msg("%s", error.message);
}

static void threads_are_counted(void **state) {
  (void)state;
  clipc_model *models[2];
  clipc_session *sessions[2];
  float out[2048];
  for (int i = 0; i < 2; i++) open_tiny(&models[i], &sessions[i], i ? CLIPC_GEMM_OPENBLAS : CLIPC_GEMM_OWN, 2);
  clipc__threads_stop();
  int before = count_threads(); /* this one, and what OpenBLAS and a sanitizer make when they are loaded */
  assert_true(before <= 1 + (models[1] != NULL) * clipc__usable_threads() + 1);
  clipc_runtime *runtime = test_runtime_open(2, 0), *host = test_runtime_open(CLIPC_HOST_DRIVEN, 0);
  assert_int_equal(count_threads(), before + 2);
  for (int i = 0; i < 2; i++) {
    if (models[i] == NULL) continue; /* no OpenBLAS here */
    assert_int_equal(clipc_embed_text(sessions[i], "a red car", out, NULL), CLIPC_OK);
    assert_int_equal(clipc_embed_image(sessions[i], "models/tiny/pictures/red_car.jpg", out, NULL), CLIPC_OK);
    assert_int_equal(count_threads(), before + 2); /* products are computed by the runtime's */
  }
  for (int i = 0; i < 100; i++) {
    assert_int_equal(test_task_finish(test_task_start(runtime, &sleeper_kind, &(struct sleeper){.ns = 10000})),
                     CLIPC_OK);
    assert_int_equal(test_task_finish(test_task_start(host, &sleeper_kind, &(struct sleeper){.ns = 10000})), CLIPC_OK);
  }
  assert_int_equal(count_threads(), before + 2);
  clipc_runtime_close(runtime);
  clipc_runtime_close(host);
  for (int i = 0; i < 2; i++)
    if (models[i]) clipc_session_close(sessions[i]), clipc_model_close(models[i]);
  clipc__threads_stop();
  for (int i = 0; i < 1000 && count_threads() > before; i++) usleep(1000);
  assert_int_equal(count_threads(), before);
}

static void idle_threads_sleep(void **state) {
  (void)state;
  clipc_runtime *runtime = test_runtime_open(3, 0);
  clipc_task *task = test_task_start(runtime, &sleeper_kind, &(struct sleeper){.ns = HOUR}); /* one timer, far away */
  for (int i = 0; i < 20; i++)
    assert_int_equal(test_task_finish(test_task_start(runtime, &sleeper_kind, &(struct sleeper){.ns = 100000})),
                     CLIPC_OK);
  usleep(200000);
  long long before = count_wakes();
  sleep(2);
#if defined(__SANITIZE_THREAD__)
  assert_true(count_wakes() - before < 100); /* its own thread wakes ten times a second */
#else
  assert_int_equal(count_wakes() - before, 0);
#endif
  clipc_task_cancel(task);
  assert_int_equal(test_task_finish(task), CLIPC_E_CANCELLED);
  clipc_runtime_close(runtime);
}

/* ---- a heartbeat while a model computes on both threads */

struct heart {
  int at, *n_ticks;
  int64_t last_ns, *longest_ns;
};
static int beat(clipc_task *task, void *frame) {
  struct heart *f = frame;
  int status = CLIPC_OK;
  CLIPC_TASK_BEGIN(f);
  for (;;) {
    f->last_ns = clipc_runtime_now_ns(clipc_task_runtime(task));
    CLIPC_AWAIT(f, status, clipc_task_sleep(task, 1000000));
    if (status != CLIPC_OK) break;
    int64_t gap = clipc_runtime_now_ns(clipc_task_runtime(task)) - f->last_ns;
    if (gap > *f->longest_ns) *f->longest_ns = gap;
    ++*f->n_ticks;
  }
  CLIPC_TASK_END(f, status);
}
struct embedding {
  int at;
  clipc_session *session;
  clipc_image images[8];
  float *out;
};
static int embed_again(clipc_task *task, void *frame) {
  struct embedding *f = frame;
  int done = 0;
  if (f->at == 0) {
    if (clipc_task_cancelled(task)) return CLIPC_OK;
    clipc_status status = clipc_begin_images(f->session, f->images, 8, f->out, NULL, NULL);
    if (status != CLIPC_OK) return (int)status;
  }
  clipc_status status = clipc_step(f->session, &done, NULL);
  f->at = !done;
  return status == CLIPC_OK ? CLIPC_YIELDING : (int)status;
}
static void heart_beats_while_computing(void **state) {
  (void)state;
  static const clipc_task_kind heart_kind = {
      .name = "heart", .run = beat, .frame_bytes = sizeof(struct heart), .is_short = 1};
  static const clipc_task_kind embed_kind = {
      .name = "embedding", .run = embed_again, .frame_bytes = sizeof(struct embedding)};
  clipc_runtime *runtime = test_runtime_open(2, 0);
  clipc_model *models[2];
  clipc_session *sessions[2];
  clipc_task *tasks[2];
  int n_ticks = 0;
  int64_t longest_ns = 0;
  float *out = malloc(2 * 8 * 2048 * sizeof *out);
  for (int i = 0; i < 2; i++) {
    open_tiny(&models[i], &sessions[i], CLIPC_GEMM_OWN, 2);
    struct embedding embedding = {.session = sessions[i], .out = out + i * 8 * 2048};
    for (int k = 0; k < 8; k++) embedding.images[k] = clipc_image_path("models/tiny/pictures/red_car.jpg");
    tasks[i] = test_task_start(runtime, &embed_kind, &embedding);
  }
  clipc_task *heart = test_task_start(runtime, &heart_kind, &(struct heart){0, &n_ticks, 0, &longest_ns});
  usleep(1000000);
  clipc_task_cancel(heart);
  assert_int_equal(test_task_finish(heart), CLIPC_E_CANCELLED);
  for (int i = 0; i < 2; i++) {
    clipc_task_cancel(tasks[i]);
    assert_int_equal(test_task_finish(tasks[i]), CLIPC_OK);
    clipc_session_close(sessions[i]), clipc_model_close(models[i]);
  }
  clipc_runtime_close(runtime);
  free(out);
  print_message("%d ticks in 1 s, longest gap %.1f ms\n", n_ticks, (double)longest_ns * 1e-6);
  assert_true(n_ticks >= 20);
}

/* ---- who has watched the timers and is busy now lets another thread do so */

static atomic_bool was_reached;
static int reach(clipc_task *task, void *frame) {
  int status = clipc_task_sleep(task, ((struct sleeper *)frame)->ns);
  if (status == CLIPC_OK) atomic_store(&was_reached, true);
  return status;
}
static int be_busy(clipc_task *task, void *frame) {
  int status = clipc_task_sleep(task, ((struct sleeper *)frame)->ns);
  if (status != CLIPC_OK) return status;
  for (int64_t end = now_ns() + 5000000000; !atomic_load(&was_reached);)
    if (now_ns() > end) return CLIPC_E_TIMED_OUT;
  return CLIPC_OK;
}
static void somebody_watches_the_timers(void **state) {
  (void)state;
  static const clipc_task_kind busy_kind = {.name = "busy", .run = be_busy, .frame_bytes = sizeof(struct sleeper)};
  static const clipc_task_kind other_kind = {.name = "other", .run = reach, .frame_bytes = sizeof(struct sleeper)};
  clipc_runtime *runtime = test_runtime_open(2, 0);
  for (int i = 0; i < 5; i++) {
    atomic_store(&was_reached, false);
    clipc_task *busy = test_task_start(runtime, &busy_kind, &(struct sleeper){.ns = 2000000});
    clipc_task *other = test_task_start(runtime, &other_kind, &(struct sleeper){.ns = 8000000});
    usleep(20000); /* this thread would help */
    assert_int_equal(test_task_finish(busy), CLIPC_OK);
    assert_int_equal(test_task_finish(other), CLIPC_OK);
  }
  clipc_runtime_close(runtime);
}

/* ---- fork, and the shared runtime: in this order, for the shared one can be made once */

static void write_nothing(void *context, const char *line) { (void)context, (void)line; }

/* What is asked of the parent's registry is over at once. */
static bool is_refused(clipc_registry *registry) {
  const clipc_input input = {CLIPC_INPUT_TEXT, "a red car", 0};
  const clipc_request request = {.capability = CLIPC_TEXT_EMBEDDING, .inputs = &input, .n_inputs = 1};
  clipc_pending *pending = clipc_registry_submit(registry, "tiny", &request);
  bool refused = clipc_pending_done(pending) && clipc_pending_status(pending, NULL) == CLIPC_E_RUNTIME_UNAVAILABLE &&
                 clipc_pending_wait(pending, -1, NULL) == CLIPC_E_RUNTIME_UNAVAILABLE;
  clipc_pending_close(pending);
  clipc_registry_close(registry);
  return refused;
}

static int be_child(clipc_runtime **runtimes, clipc_registry *registry, clipc_task *task, clipc_session *session,
                    const float *expected, size_t n) {
  float out[2048];
  clipc_runtime *shared;
  clipc_registry *none;
  clipc_guard *guard;
  clipc_oneshot *oneshot;
  clipc_error error = {CLIPC_OK, ""};
  for (int i = 0; i < 2; i++) {
    if (clipc_spawn(NULL, runtimes[i], &sleeper_kind, &(struct sleeper){.ns = 1}, &error) !=
        CLIPC_E_RUNTIME_UNAVAILABLE)
      return 1;
    if (clipc_runtime_shutdown(runtimes[i], 0, NULL) != CLIPC_E_RUNTIME_UNAVAILABLE) return 2;
    clipc_runtime_dump(runtimes[i], write_nothing, NULL);
    if (clipc_oneshot_open(&oneshot, runtimes[i], 8, NULL) != CLIPC_E_RUNTIME_UNAVAILABLE || oneshot) return 12;
    if (clipc_memory_claim(&guard, runtimes[i], 8, NULL) != CLIPC_E_RUNTIME_UNAVAILABLE || guard) return 13;
    if (clipc_registry_open(&none, runtimes[i], NULL, NULL) != CLIPC_E_RUNTIME_UNAVAILABLE || none) return 14;
  }
  if (!is_refused(registry)) return 15;
  if (clipc_runtime_poll(runtimes[1], -1, NULL) != CLIPC_E_RUNTIME_UNAVAILABLE) return 3;
  if (clipc_task_wait(task, -1, NULL, NULL) != CLIPC_E_RUNTIME_UNAVAILABLE) return 4;
  clipc_task_cancel(task);
  clipc_task_release(clipc_task_retain(task));
  if (clipc_runtime_shared(&shared, NULL) != CLIPC_E_RUNTIME_UNAVAILABLE || shared) return 5;
  if (clipc_runtime_shared_options(NULL, NULL) != CLIPC_E_INVALID) return 6;
  clipc_runtime_close(runtimes[0]), clipc_runtime_close(runtimes[1]);
#if !defined(__SANITIZE_THREAD__) /* which allows no threads in a child */
  if (clipc_embed_text(session, "a red car", out, &error) != CLIPC_OK) return 7;
  if (memcmp(out, expected, n * sizeof *out) != 0) return 8;
  clipc_runtime *own;
  if (clipc_runtime_open(&own, &(clipc_runtime_options){.n_threads = 2}, &error) != CLIPC_OK) return 9;
  clipc_task *mine;
  if (clipc_spawn(&mine, own, &sleeper_kind, &(struct sleeper){.ns = 1}, NULL) != CLIPC_OK) return 10;
  if (clipc_task_wait(mine, 10000, NULL, NULL) != CLIPC_OK) return 11;
  clipc_task_release(mine);
  clipc_runtime_close(own);
#else
  (void)out, (void)session, (void)expected, (void)n;
#endif
  return 0;
}

static void children_have_no_runtime(void **state) {
  (void)state;
  clipc_runtime *runtimes[2] = {test_runtime_open(2, 0), test_runtime_open(CLIPC_HOST_DRIVEN, 0)}, *shared;
  clipc_runtime_options options = {.n_threads = 1};
  {
    char host[] = "localhost:80";
    const char *const hosts[] = {host};
    options.fetch.allow = hosts;
    options.fetch.n_allow = 1;
    assert_int_equal(clipc_runtime_shared_options(&(clipc_runtime_options){.n_threads = CLIPC_HOST_DRIVEN}, NULL),
                     CLIPC_E_INVALID);
    assert_int_equal(clipc_runtime_shared_options(&options, NULL), CLIPC_OK);
    assert_int_equal(clipc_runtime_shared_options(&options, NULL), CLIPC_OK); /* the last one counts */
    host[0] = 0;
  }
  assert_int_equal(clipc_runtime_shared(NULL, NULL), CLIPC_E_INVALID);
  assert_int_equal(clipc_runtime_shared(&shared, NULL), CLIPC_OK);
  assert_int_equal(clipc_runtime_shared_options(NULL, NULL), CLIPC_E_INVALID);
  clipc_task *task = test_task_start(runtimes[0], &sleeper_kind, &(struct sleeper){.ns = HOUR}), *in_shared;
  clipc_model *model;
  clipc_session *session;
  clipc_registry *registry;
  float expected[2048];
  assert_int_equal(clipc_registry_open(&registry, runtimes[0], NULL, NULL), CLIPC_OK);
  assert_int_equal(clipc_registry_add_model(registry, "tiny", "models/tiny", NULL, NULL), CLIPC_OK);
  open_tiny(&model, &session, CLIPC_GEMM_OWN, 2);
  assert_int_equal(clipc_embed_text(session, "a red car", expected, NULL), CLIPC_OK);
  for (int round = 0; round < 10; round++) {
    in_shared = test_task_start(shared, &sleeper_kind, &(struct sleeper){.ns = 1000000}); /* threads are busy */
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
      alarm(20);
      _exit(be_child(runtimes, registry, task, session, expected, clipc_embedding_dimension(model)));
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(test_task_finish(in_shared), CLIPC_OK); /* the parent goes on */
    assert_int_equal(test_task_finish(test_task_start(runtimes[0], &sleeper_kind, &(struct sleeper){.ns = 1})),
                     CLIPC_OK);
    assert_int_equal(test_task_finish(test_task_start(runtimes[1], &sleeper_kind, &(struct sleeper){.ns = 1})),
                     CLIPC_OK);
  }
  clipc_task_cancel(task);
  assert_int_equal(test_task_finish(task), CLIPC_E_CANCELLED);
  clipc_registry_close(registry);
  clipc_session_close(session);
  clipc_model_close(model);
  clipc_runtime_close(runtimes[0]);
  clipc_runtime_close(runtimes[1]);
}

static int ask_for_shared(clipc_task *task, void *frame) {
  (void)frame;
  clipc_runtime *shared;
  for (int i = 0; i < 100; i++) clipc_runtime_shared(&shared, NULL);
  return clipc_task_cancelled(task) ? CLIPC_E_CANCELLED : CLIPC_YIELDING;
}

static void shared_ends_for_good(void **state) {
  (void)state;
  clipc_runtime *shared, *again;
  assert_int_equal(clipc_runtime_shared(&shared, NULL), CLIPC_OK);
  assert_int_equal(clipc_runtime_shared(&again, NULL), CLIPC_OK);
  assert_ptr_equal(shared, again);
  static const clipc_task_kind asker = {.name = "asker", .run = ask_for_shared};
  clipc_task *task = test_task_start(shared, &sleeper_kind, &(struct sleeper){.ns = HOUR});
  assert_int_equal(clipc_spawn(NULL, shared, &asker, NULL, NULL), CLIPC_OK); /* until the end */
  usleep(5000);
  alarm(60);
  clipc_shutdown();
  alarm(0);
  clipc_status status;
  assert_int_equal(clipc_task_ended(task, &status), 1);
  assert_int_equal(status, CLIPC_E_CANCELLED);
  clipc_task_release(task);
  clipc_error error = {CLIPC_OK, ""};
  assert_int_equal(clipc_runtime_shared(&shared, &error), CLIPC_E_RUNTIME_UNAVAILABLE);
  assert_null(shared);
  assert_non_null(strstr(error.message, "shut down"));
  assert_int_equal(clipc_runtime_shared_options(NULL, NULL), CLIPC_E_INVALID);
  clipc_shutdown();
}

int main(void) {
  random_start(0);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(options_are_checked),
      cmocka_unit_test(threads_are_counted),
      cmocka_unit_test(a_host_polls),
      cmocka_unit_test(shutdown_ends_a_poll),
      cmocka_unit_test(drains_or_cancels),
      cmocka_unit_test(nothing_is_left_behind),
      cmocka_unit_test(stubborn_tasks_are_dropped),
      cmocka_unit_test(idle_threads_sleep),
      cmocka_unit_test(somebody_watches_the_timers),
      cmocka_unit_test(heart_beats_while_computing),
      cmocka_unit_test(children_have_no_runtime),
      cmocka_unit_test(shared_ends_for_good),
  };
  return cmocka_run_group_tests_name("runtime", tests, NULL, NULL);
}
