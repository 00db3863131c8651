/* The scheduler under a crowd of tasks that spawn, cancel, sleep, send, select and answer one another by chance until
 * it is shut down at some moment: with threads, and seeded, where hundreds of orders are tried and each can be had
 * again. CLIPC_SEED=n repeats a run. Whatever happens: a task that was spawned is dropped once, a message that was sent
 * is received or dropped once, no memory is left. */
#include "async/sched.h"
#include "testing.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { N_CHANNELS = 6, N_CONSUMERS = 2, MAX_TASKS = 3000, MAX_MESSAGES = 30000, N_HANDLES = 64 };

static struct world {
  clipc_runtime *runtime;
  clipc_channel *channels[N_CHANNELS];
  atomic_int n_tasks, n_messages;
  atomic_uchar spawned[MAX_TASKS], dropped[MAX_TASKS], sent[MAX_MESSAGES], fate[MAX_MESSAGES];
  pthread_mutex_t mutex;
  clipc_task *handles[N_HANDLES];
  bool traces, closing; /* closing, under the mutex: the world's own ends of the channels are gone */
  uint64_t trace;
} world;

static uint64_t mix(uint64_t x) { /* splitmix64 */
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
  x = (x ^ x >> 27) * 0x94D049BB133111EBu;
  return x ^ x >> 31;
}

static void note(int who, int what, int status) {
  if (!world.traces) return;
  world.trace = mix(world.trace ^ (uint64_t)who << 40 ^ (uint64_t)what << 32 ^ (uint32_t)status) ^
                (uint64_t)clipc_runtime_now_ns(world.runtime);
}

static void take_message(int id) {
  if (atomic_fetch_add(&world.fate[id], 1) != 0) fail_msg("message %d came twice", id);
}
static void drop_message(void *message) {
  int id;
  memcpy(&id, message, sizeof id);
  note(id, 1, 0);
  take_message(id);
}

/* ---- consumers own the receivers */

struct consumer {
  int at, first;
  clipc_channel *channels[N_CHANNELS / N_CONSUMERS];
  uint64_t random;
};
static int consume(clipc_task *task, void *frame) {
  struct consumer *f = frame;
  const size_t n = N_CHANNELS / N_CONSUMERS;
  int status = CLIPC_OK, id = 0;
  size_t which = 0;
  CLIPC_TASK_BEGIN(f);
  for (;;) {
    f->random = mix(f->random);
    clipc_task_set_deadline(task, f->random % 4 && f->random / 16 % 3 ? 0 : /* of one channel never without */
                                      clipc_runtime_now_ns(world.runtime) + (int64_t)(f->random % 1000) * 1000);
    if (f->random / 16 % 3)
      CLIPC_AWAIT(f, status, clipc_select(task, f->channels, n, &which, &id));
    else
      CLIPC_AWAIT(f, status,
                  (which = f->random % n,
                   f->channels[which] ? clipc_channel_receive(task, f->channels[which], &id) : CLIPC_E_TIMED_OUT));
    note(f->first, 2 + (int)which, status);
    if (status == CLIPC_OK) {
      if (id < 0 || id >= MAX_MESSAGES) fail_msg("message %d was never sent", id);
      take_message(id);
    } else if (status == CLIPC_E_CANCELLED && (clipc_task_cancelled(task) || f->random / 16 % 3)) {
      break;
    }
    if (f->random % 200 == 0) { /* a receiver goes early */
      which = f->random / 200 % n;
      clipc_channel_close_receiver(f->channels[which]);
      f->channels[which] = NULL;
    }
    if (f->random % 50 == 1) CLIPC_YIELD(f);
  }
  CLIPC_TASK_END(f, status);
}
static void drop_consumer(void *frame) {
  struct consumer *f = frame;
  for (size_t i = 0; i < N_CHANNELS / N_CONSUMERS; i++) clipc_channel_close_receiver(f->channels[i]);
}

/* ---- answerers own the sender of a oneshot */

struct answerer {
  int at, value;
  int64_t ns;
  clipc_oneshot *oneshot;
};
static int answer(clipc_task *task, void *frame) {
  struct answerer *f = frame;
  int status = clipc_task_sleep(task, f->ns);
  if (status == CLIPC_WAITING) return status;
  clipc_oneshot *oneshot = f->oneshot;
  f->oneshot = NULL;
  if (f->value % 4)
    status = (int)clipc_oneshot_send(oneshot, &f->value);
  else
    clipc_oneshot_drop_sender(oneshot);
  note(f->value, 20, status);
  return status;
}
static void drop_answerer(void *frame) { clipc_oneshot_drop_sender(((struct answerer *)frame)->oneshot); }

/* ---- actors do as they like */

struct actor {
  int at, id, n_steps, to, message;
  uint64_t random;
  clipc_channel *sender;
  clipc_task *child;
  clipc_oneshot *oneshot;
};
static int act(clipc_task *task, void *frame);
static void drop_actor(void *frame) {
  struct actor *f = frame;
  note(f->id, 3, 0);
  clipc_channel_close_sender(f->sender);
  clipc_task_release(f->child);
  clipc_oneshot_drop_receiver(f->oneshot);
  if (atomic_fetch_add(&world.dropped[f->id], 1) != 0) fail_msg("task %d was dropped twice", f->id);
}
static const clipc_task_kind actor_kinds[2] = {
    {.name = "actor", .run = act, .drop = drop_actor, .frame_bytes = sizeof(struct actor)},
    {.name = "short actor", .run = act, .drop = drop_actor, .frame_bytes = sizeof(struct actor), .is_short = 1}};
static const clipc_task_kind answerer_kind = {
    .name = "answerer", .run = answer, .drop = drop_answerer, .frame_bytes = sizeof(struct answerer)};

static void remember(clipc_task *task, uint64_t random) {
  clipc_task *other = NULL;
  pthread_mutex_lock(&world.mutex);
  if (task) {
    other = world.handles[random % N_HANDLES];
    world.handles[random % N_HANDLES] = clipc_task_retain(task);
  } else {
    other = clipc_task_retain(world.handles[random % N_HANDLES]);
  }
  pthread_mutex_unlock(&world.mutex);
  if (!task) clipc_task_cancel(other);
  clipc_task_release(other);
}

static void spawn_actor(clipc_task **out, clipc_task *parent, uint64_t random) {
  int id = atomic_fetch_add(&world.n_tasks, 1), to = (int)(random % N_CHANNELS);
  if (out) *out = NULL;
  if (id >= MAX_TASKS) return;
  struct actor actor = {.id = id, .n_steps = (int)(random / 8 % 20), .to = to, .random = mix(random)};
  pthread_mutex_lock(&world.mutex);
  if (!world.closing) actor.sender = clipc_channel_add_sender(world.channels[to]);
  pthread_mutex_unlock(&world.mutex);
  if (actor.sender == NULL) return;
  const clipc_task_kind *kind = &actor_kinds[random / 256 % 2];
  clipc_task *task;
  atomic_store(&world.spawned[id], 1);
  clipc_status status = parent ? clipc_spawn_child(&task, parent, kind, &actor, NULL)
                               : clipc_spawn(&task, world.runtime, kind, &actor, NULL);
  if (status != CLIPC_OK) {
    assert_int_equal(status, CLIPC_E_SHUTTING_DOWN);
    atomic_store(&world.spawned[id], 0);
    clipc_channel_close_sender(actor.sender);
    return;
  }
  if (random / 512 % 3 == 0) remember(task, random / 2048);
  if (out)
    *out = task;
  else
    clipc_task_release(task);
}

static int new_message(void) {
  int id = atomic_fetch_add(&world.n_messages, 1);
  return id < MAX_MESSAGES ? id : -1;
}
/* Counted before: it may be received before the call is over. */
static int send_message(clipc_task *task, struct actor *f) {
  atomic_store(&world.sent[f->message], 1);
  int status = clipc_channel_send(task, f->sender, &f->message);
  if (status != CLIPC_OK) atomic_store(&world.sent[f->message], 0);
  return status;
}

static int act(clipc_task *task, void *frame) {
  struct actor *f = frame;
  int status = CLIPC_OK, value = 0;
  CLIPC_TASK_BEGIN(f);
  for (; f->n_steps > 0; f->n_steps--) {
    f->random = mix(f->random);
    note(f->id, 4 + (int)(f->random % 16), 0);
    if (f->random % 64 == 0)
      clipc_task_set_deadline(task, clipc_runtime_now_ns(world.runtime) + (int64_t)(f->random / 64 % 500) * 1000);
    if (f->random / 64 % 16 < 5) {
      if ((f->message = new_message()) < 0) continue;
      CLIPC_AWAIT(f, status, send_message(task, f));
    } else if (f->random / 64 % 16 < 7) {
      CLIPC_AWAIT(f, status, clipc_task_sleep(task, (int64_t)(f->random / 1024 % 300) * 1000));
    } else if (f->random / 64 % 16 < 9) {
      CLIPC_YIELD(f);
    } else if (f->random / 64 % 16 < 11) {
      spawn_actor(NULL, f->random & 1 ? task : NULL, mix(f->random ^ 1));
    } else if (f->random / 64 % 16 < 13) {
      clipc_task_release(f->child);
      spawn_actor(&f->child, f->random & 1 ? task : NULL, mix(f->random ^ 2));
      if (f->child == NULL) continue;
      CLIPC_AWAIT(f, status, clipc_task_join(task, f->child, NULL));
    } else if (f->random / 64 % 16 < 14) {
      remember(NULL, f->random / 1024);
    } else if (f->oneshot == NULL) {
      if (clipc_oneshot_open(&f->oneshot, world.runtime, sizeof value, NULL) != CLIPC_OK) return CLIPC_E_NO_MEMORY;
      struct answerer answerer = {0, f->id, (int64_t)(f->random / 1024 % 200) * 1000, f->oneshot};
      if (clipc_spawn(NULL, world.runtime, &answerer_kind, &answerer, NULL) != CLIPC_OK)
        clipc_oneshot_drop_sender(f->oneshot);
    } else {
      CLIPC_AWAIT(f, status, clipc_oneshot_receive(task, f->oneshot, &value));
      if (status != CLIPC_E_TIMED_OUT) f->oneshot = NULL;
      if (status == CLIPC_OK && value != f->id) fail_msg("task %d was answered %d", f->id, value);
    }
    note(f->id, 30, status);
    if (clipc_task_cancelled(task) && f->random % 3) break; /* others go on for a while */
  }
  CLIPC_TASK_END(f, CLIPC_OK);
}

/* ---- a world's life */

static void begin_world(int n_threads, uint64_t seed, struct test_memory *memory) {
  memset(&world, 0, sizeof world);
  pthread_mutex_init(&world.mutex, NULL);
  clipc_runtime_options options = {
      .n_threads = n_threads, .seed = n_threads < 0 ? seed : 0, .allocator = test_allocator(memory)};
  assert_int_equal(clipc_runtime_open(&world.runtime, &options, NULL), CLIPC_OK);
  world.traces = n_threads < 0;
  for (int i = 0; i < N_CHANNELS; i++)
    assert_int_equal(
        clipc_channel_open(&world.channels[i], sizeof(int), mix(seed + (uint64_t)i) % 5, drop_message, NULL), CLIPC_OK);
  static const clipc_task_kind kind = {
      .name = "consumer", .run = consume, .drop = drop_consumer, .frame_bytes = sizeof(struct consumer)};
  for (int i = 0; i < N_CONSUMERS; i++) {
    struct consumer consumer = {.first = i, .random = mix(seed ^ (uint64_t)i)};
    for (int k = 0; k < N_CHANNELS / N_CONSUMERS; k++)
      consumer.channels[k] = world.channels[i * N_CHANNELS / N_CONSUMERS + k];
    assert_int_equal(clipc_spawn(NULL, world.runtime, &kind, &consumer, NULL), CLIPC_OK);
  }
  for (uint64_t i = 0; i < 20; i++) spawn_actor(NULL, NULL, mix(seed * 31 + i));
}

static void end_world(int drain_ms, const struct test_memory *memory) {
  pthread_mutex_lock(&world.mutex);
  world.closing = true;
  pthread_mutex_unlock(&world.mutex);
  for (int i = 0; i < N_CHANNELS; i++) clipc_channel_close_sender(world.channels[i]);
  assert_int_equal(clipc_runtime_shutdown(world.runtime, drain_ms, NULL), CLIPC_OK);
  assert_int_equal(clipc__runtime_n_tasks(world.runtime), 0);
  for (int i = 0; i < N_HANDLES; i++) clipc_task_release(world.handles[i]);
  clipc_runtime_close(world.runtime);
  for (int i = 0; i < MAX_TASKS; i++)
    if (world.spawned[i] != world.dropped[i])
      fail_msg("task %d was spawned %d times and dropped %d times", i, world.spawned[i], world.dropped[i]);
  for (int i = 0; i < MAX_MESSAGES; i++)
    if (world.sent[i] != world.fate[i])
      fail_msg("message %d was sent %d times and came %d times", i, world.sent[i], world.fate[i]);
  assert_int_equal(memory->n_live, 0);
  pthread_mutex_destroy(&world.mutex);
}

static uint64_t live_seeded(uint64_t seed, int *n_tasks) {
  struct test_memory memory = {0};
  uint64_t random = mix(seed);
  begin_world(CLIPC_HOST_DRIVEN, seed, &memory);
  for (uint64_t polls = random % 40; polls > 0; polls--) {
    clipc_runtime_poll(world.runtime, 0, NULL);
    if (polls % 4 == 0) remember(NULL, mix(random + polls));
  }
  end_world(random / 64 % 2 ? 0 : -1, &memory);
  *n_tasks += world.n_tasks < MAX_TASKS ? world.n_tasks : MAX_TASKS;
  return world.trace;
}

static uint64_t first_seed(void) {
  const char *given = getenv("CLIPC_SEED");
  return given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
}

static void seeded_worlds(void **state) {
  (void)state;
  uint64_t seed = first_seed(), before = 0;
  int n_same = 0, n_tasks = 0, n = getenv("CLIPC_SEED") ? 1 : 300;
  for (int i = 0; i < n; i++) {
    print_message(i % 100 ? "" : "seeds from %llu\n", (unsigned long long)seed + (unsigned)i);
    uint64_t trace = live_seeded(seed + (uint64_t)i, &n_tasks);
    if (i % 10 == 0 && live_seeded(seed + (uint64_t)i, &n_tasks) != trace)
      fail_msg("CLIPC_SEED=%llu: two runs differ", (unsigned long long)seed + (unsigned)i);
    n_same += trace == before;
    before = trace;
  }
  print_message("%d tasks\n", n_tasks);
  assert_int_equal(n_same, 0);
}

static void *meddle(void *context) { /* a thread from outside */
  uint64_t random = *(uint64_t *)context;
  for (int i = 0; i < 200; i++) {
    random = mix(random);
    if (random % 4 == 0) spawn_actor(NULL, NULL, random / 4);
    if (random % 4 == 1) remember(NULL, random / 4);
    if (random % 4 == 2) {
      clipc_task *task; /* one that nobody else joins */
      spawn_actor(&task, NULL, random / 4);
      if (task) clipc_task_wait(task, (int)(random / 4096 % 2), NULL, NULL);
      clipc_task_release(task);
    }
    if (random % 4 == 3) usleep((useconds_t)(random / 4 % 50));
  }
  return NULL;
}

static void worlds_with_threads(void **state) {
  (void)state;
  uint64_t seed = first_seed();
  int n_tasks = 0, n_worlds = 0;
  for (int64_t end = clipc__clock_ns() + 3000000000; clipc__clock_ns() < end; seed++, n_worlds++) {
    struct test_memory memory = {0};
    uint64_t random = mix(seed), contexts[2] = {random + 1, random + 2};
    pthread_t threads[2];
    begin_world(1 + (int)(random % 3), seed, &memory);
    for (int i = 0; i < 2; i++) pthread_create(&threads[i], NULL, meddle, &contexts[i]);
    usleep((useconds_t)(random / 8 % 8000));
    if (random / 65536 %
        2) { /* the threads go on while it shuts down; they use ends of channels, so that those are kept */
      assert_int_equal(clipc_runtime_shutdown(world.runtime, (int)(random / 131072 % 3), NULL), CLIPC_OK);
    }
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    end_world((int)(random / 131072 % 4) - 1, &memory);
    n_tasks += world.n_tasks < MAX_TASKS ? world.n_tasks : MAX_TASKS;
  }
  print_message("%d worlds, %d tasks\n", n_worlds, n_tasks);
}

int main(void) {
  print_message("CLIPC_SEED=%llu and on\n", (unsigned long long)first_seed());
  const struct CMUnitTest tests[] = {cmocka_unit_test(seeded_worlds), cmocka_unit_test(worlds_with_threads)};
  return cmocka_run_group_tests_name("stress", tests, NULL, NULL);
}
