/* Channels, select and oneshots: order, room, ends that go, messages that nobody takes, waiting that is given up. */
#include "testing.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void on_each_runtime(void (*body)(clipc_runtime *runtime)) {
  static const struct {
    int n_threads;
    uint64_t seed;
  } kinds[] = {{2, 0}, {1, 0}, {CLIPC_HOST_DRIVEN, 0}, {CLIPC_HOST_DRIVEN, 1}, {CLIPC_HOST_DRIVEN, 2}};
  for (size_t i = 0; i < COUNT(kinds); i++) {
    clipc_runtime *runtime = test_runtime_open(kinds[i].n_threads, kinds[i].seed);
    body(runtime);
    assert_int_equal(clipc_runtime_shutdown(runtime, 5000, NULL), CLIPC_OK);
    clipc_runtime_close(runtime);
  }
}

static clipc_channel *open_channel(size_t n_bytes, size_t capacity, void (*drop)(void *message)) {
  clipc_channel *channel;
  assert_int_equal(clipc_channel_open(&channel, n_bytes, capacity, drop, NULL), CLIPC_OK);
  return channel;
}

static atomic_int n_dropped, sum_dropped;
static void drop_int(void *message) {
  int value;
  memcpy(&value, message, sizeof value);
  atomic_fetch_add(&n_dropped, 1);
  atomic_fetch_add(&sum_dropped, value);
}

/* ---- without a task */

static void bad_arguments(void **state) {
  (void)state;
  clipc_channel *channel = (clipc_channel *)&state;
  clipc_error error = {CLIPC_OK, ""};
  assert_int_equal(clipc_channel_open(NULL, 4, 4, NULL, NULL), CLIPC_E_INVALID);
  assert_int_equal(clipc_channel_open(&channel, 0, 4, NULL, &error), CLIPC_E_INVALID);
  assert_null(channel);
  assert_true(error.message[0] != 0);
  assert_int_equal(clipc_channel_open(&channel, 4097, 4, NULL, NULL), CLIPC_E_INVALID);
  assert_int_equal(clipc_channel_open(&channel, 8, SIZE_MAX / 4, NULL, NULL), CLIPC_E_NO_MEMORY);
  clipc_channel_close_sender(NULL);
  clipc_channel_close_receiver(NULL);
  clipc_oneshot_drop_sender(NULL);
  clipc_oneshot_drop_receiver(NULL);
  clipc_oneshot *oneshot = (clipc_oneshot *)&state;
  assert_int_equal(clipc_oneshot_open(&oneshot, NULL, 4, NULL), CLIPC_E_INVALID);
  assert_null(oneshot);
}

static void order_and_room(void **state) {
  (void)state;
  static const size_t sizes[] = {1, 3, 4, 8, 100, 4096};
  for (size_t s = 0; s < COUNT(sizes); s++)
    for (size_t capacity = 0; capacity < 5; capacity++) {
      clipc_channel *channel = open_channel(sizes[s], capacity, NULL);
      uint8_t sent[4096], got[4096];
      size_t n_sent = 0, n_got = 0, limit = capacity ? capacity : 100000;
      for (int i = 0; i < 3000; i++) {
        memset(sent, (int)(n_sent % 251), sizeof sent);
        if (random_below(8) < (i % 200 < 150 ? 5 : 2)) {
          clipc_status status = clipc_channel_try_send(channel, sent);
          assert_int_equal(status, n_sent - n_got < limit ? CLIPC_OK : CLIPC_E_QUEUE_FULL);
          n_sent += status == CLIPC_OK;
        } else {
          clipc_status status = clipc_channel_try_receive(channel, got);
          assert_int_equal(status, n_got < n_sent ? CLIPC_OK : CLIPC_E_QUEUE_FULL);
          for (size_t k = 0; status == CLIPC_OK && k < sizes[s]; k++) assert_int_equal(got[k], n_got % 251);
          n_got += status == CLIPC_OK;
        }
        assert_int_equal(clipc_channel_length(channel), n_sent - n_got);
      }
      clipc_channel_close_sender(channel);
      while (n_got++ < n_sent) assert_int_equal(clipc_channel_try_receive(channel, got), CLIPC_OK);
      assert_int_equal(clipc_channel_try_receive(channel, got), CLIPC_E_CANCELLED);
      clipc_channel_close_receiver(channel);
    }
}

static void messages_that_nobody_takes_are_dropped(void **state) {
  (void)state;
  for (int first = 0; first < 2; first++) {
    clipc_channel *channel = open_channel(sizeof(int), 0, drop_int);
    clipc_channel *second = clipc_channel_add_sender(channel);
    assert_ptr_equal(second, channel);
    n_dropped = sum_dropped = 0;
    int value;
    for (int i = 0; i < 100; i++) assert_int_equal(clipc_channel_try_send(channel, &i), CLIPC_OK);
    for (int i = 0; i < 10; i++) assert_int_equal(clipc_channel_try_receive(channel, &value), CLIPC_OK);
    clipc_channel_close_sender(channel);
    assert_int_equal(clipc_channel_try_receive(channel, &value), CLIPC_OK);
    if (first) clipc_channel_close_sender(channel);
    assert_int_equal(n_dropped, 0);
    clipc_channel_close_receiver(channel);
    assert_int_equal(n_dropped, 89);
    assert_int_equal(sum_dropped, 4950 - 55);
    if (!first) {
      assert_int_equal(clipc_channel_try_send(channel, &value), CLIPC_E_CANCELLED); /* not taken, not dropped */
      assert_int_equal(clipc_channel_length(channel), 0);
      clipc_channel_close_sender(channel);
    }
    assert_int_equal(n_dropped, 89);
  }
}

/* ---- senders and receivers in tasks */

struct sender {
  int at, i, n, id;
  int64_t deadline_ns;
  clipc_channel *channel;
};
static int send_some(clipc_task *task, void *frame) {
  struct sender *f = frame;
  int status = CLIPC_OK, value;
  CLIPC_TASK_BEGIN(f);
  if (f->deadline_ns) clipc_task_set_deadline(task, clipc_runtime_now_ns(clipc_task_runtime(task)) + f->deadline_ns);
  for (; f->i < f->n; f->i++) {
    CLIPC_AWAIT(f, status, (value = f->id * 1000000 + f->i, clipc_channel_send(task, f->channel, &value)));
    if (status != CLIPC_OK) return status;
  }
  CLIPC_TASK_END(f, CLIPC_OK);
}
static void close_my_sender(void *frame) { clipc_channel_close_sender(((struct sender *)frame)->channel); }
static const clipc_task_kind sender_kind = {
    .name = "sender", .run = send_some, .drop = close_my_sender, .frame_bytes = sizeof(struct sender)};

struct receiver {
  int at, n, n_stop, capacity, next[16];
  clipc_channel *channel;
  int *received;
};
static int receive_all(clipc_task *task, void *frame) {
  struct receiver *f = frame;
  int status = CLIPC_OK, value;
  CLIPC_TASK_BEGIN(f);
  for (;;) {
    CLIPC_AWAIT(f, status, clipc_channel_receive(task, f->channel, &value));
    if (status != CLIPC_OK) break;
    if (f->capacity && clipc_channel_length(f->channel) > (size_t)f->capacity) return CLIPC_E_LIMIT;
    if (value % 1000000 != f->next[value / 1000000]++) return CLIPC_E_FORMAT; /* of one sender: in order */
    if (++f->n == f->n_stop) break;
  }
  *f->received = f->n;
  CLIPC_TASK_END(f, status == CLIPC_E_CANCELLED ? CLIPC_OK : status);
}
static void close_my_receiver(void *frame) { clipc_channel_close_receiver(((struct receiver *)frame)->channel); }
static const clipc_task_kind receiver_kind = {
    .name = "receiver", .run = receive_all, .drop = close_my_receiver, .frame_bytes = sizeof(struct receiver)};

static void nothing_is_lost(clipc_runtime *runtime) {
  static const int capacities[] = {0, 1, 2, 7, 1000};
  for (size_t c = 0; c < COUNT(capacities); c++) {
    clipc_channel *channel = open_channel(sizeof(int), (size_t)capacities[c], drop_int);
    clipc_task *senders[10];
    int received = 0;
    for (int i = 0; i < 10; i++)
      senders[i] = test_task_start(runtime, &sender_kind,
                                   &(struct sender){.n = 500, .id = i, .channel = clipc_channel_add_sender(channel)});
    clipc_channel_close_sender(channel);
    clipc_task *receiver =
        test_task_start(runtime, &receiver_kind,
                        &(struct receiver){.channel = channel, .capacity = capacities[c], .received = &received});
    assert_int_equal(test_task_finish(receiver), CLIPC_OK);
    assert_int_equal(received, 5000);
    for (int i = 0; i < 10; i++) assert_int_equal(test_task_finish(senders[i]), CLIPC_OK);
  }
}

/* Senders that wait are told when the receiver goes. */
static void receiver_goes(clipc_runtime *runtime) {
  for (int capacity = 0; capacity < 4; capacity++) {
    clipc_channel *channel = open_channel(sizeof(int), (size_t)capacity, drop_int);
    clipc_task *senders[5];
    int received = 0;
    n_dropped = 0;
    for (int i = 0; i < 5; i++)
      senders[i] = test_task_start(runtime, &sender_kind,
                                   &(struct sender){.n = 100, .id = i, .channel = clipc_channel_add_sender(channel)});
    clipc_channel_close_sender(channel);
    assert_int_equal(
        test_task_finish(test_task_start(runtime, &receiver_kind,
                                         &(struct receiver){.channel = channel, .n_stop = 50, .received = &received})),
        CLIPC_OK);
    for (int i = 0; i < 5; i++) {
      clipc_status status = test_task_finish(senders[i]);
      assert_true(status == CLIPC_E_CANCELLED || status == CLIPC_OK);
      if (capacity) assert_true(i < 4 || status == CLIPC_E_CANCELLED || n_dropped > 0);
    }
    assert_int_equal(received, 50);
    if (capacity) assert_true(n_dropped <= capacity);
  }
}

/* A sender that waits for room in a bounded channel, gives up or ends, must not keep others from being woken. */
struct quitter {
  int at, turns;
  clipc_channel *channel;
};
static int stop_sending(clipc_task *task, void *frame) {
  struct quitter *f = frame;
  int value = 15 * 1000000;
  if (clipc_task_cancelled(task)) return CLIPC_E_CANCELLED; /* without asking again */
  if (f->turns++ > 3) return CLIPC_OK;
  int status = clipc_channel_send(task, f->channel, &value);
  if (status != CLIPC_WAITING) return status;
  return clipc_task_sleep(task, 1000000) == CLIPC_OK ? CLIPC_YIELDING : CLIPC_WAITING;
}
static void close_my_quitter(void *frame) { clipc_channel_close_sender(((struct quitter *)frame)->channel); }

static void who_gives_up_is_passed_over(clipc_runtime *runtime) {
  static const clipc_task_kind quitter_kind = {
      .name = "quitter", .run = stop_sending, .drop = close_my_quitter, .frame_bytes = sizeof(struct quitter)};
  for (int round = 0; round < 30; round++) {
    clipc_channel *channel = open_channel(sizeof(int), (size_t)(1 + round % 3), NULL);
    clipc_task *tasks[30];
    int zero = 14 * 1000000;
    while (clipc_channel_try_send(channel, &zero) == CLIPC_OK) zero++;
    for (int i = 0; i < 30; i++)
      tasks[i] =
          i % 3 == 0
              ? test_task_start(runtime, &sender_kind,
                                &(struct sender){.n = 1, .id = i / 3, .channel = clipc_channel_add_sender(channel)})
          : i % 3 == 1
              ? test_task_start(
                    runtime, &sender_kind,
                    &(struct sender){
                        .n = 1, .id = 13, .deadline_ns = 1000000, .channel = clipc_channel_add_sender(channel)})
              : test_task_start(runtime, &quitter_kind,
                                &(struct quitter){.channel = clipc_channel_add_sender(channel)});
    assert_int_equal(clipc_task_wait(tasks[0], 1 + round % 4, NULL, NULL), CLIPC_E_TIMED_OUT); /* all stand in line */
    for (int i = 2; i < 30; i += 6) clipc_task_cancel(tasks[i]);
    if (round & 1) { /* those with a deadline have gone */
      for (int i = 1; i < 30; i += 3) assert_int_equal(clipc_task_wait(tasks[i], 20000, NULL, NULL), CLIPC_OK);
    }
    clipc_channel_close_sender(channel);
    int n = 0;
    for (int value, status = CLIPC_OK; status != CLIPC_E_CANCELLED;) {
      for (int looks = 0; (status = (int)clipc_channel_try_receive(channel, &value)) == CLIPC_E_QUEUE_FULL; looks++) {
        assert_true(looks < 20000); /* a sender was forgotten */
        if (clipc_runtime_fd(runtime) >= 0)
          clipc_runtime_poll(runtime, 0, NULL);
        else
          usleep(200);
      }
      if (status == CLIPC_OK && value / 1000000 < 10) n++;
    }
    assert_int_equal(n, 10);
    for (int i = 0; i < 30; i++) {
      clipc_status status = test_task_finish(tasks[i]);
      if (i % 3 == 0) assert_int_equal(status, CLIPC_OK);
    }
    clipc_channel_close_receiver(channel);
  }
}

/* One who takes a single message, and then waits for what the sender that stands in line has to say. */
struct told {
  int at, value;
  clipc_channel *channel;
  clipc_oneshot *oneshot;
};
static int send_and_tell(clipc_task *task, void *frame) {
  struct told *f = frame;
  int status = CLIPC_OK;
  CLIPC_TASK_BEGIN(f);
  CLIPC_AWAIT(f, status, clipc_channel_send(task, f->channel, &f->value));
  if (status == CLIPC_OK) status = (int)clipc_oneshot_send(f->oneshot, &f->value);
  CLIPC_TASK_END(f, status);
}
static int take_and_listen(clipc_task *task, void *frame) {
  struct told *f = frame;
  int status = CLIPC_OK;
  CLIPC_TASK_BEGIN(f);
  CLIPC_AWAIT(f, status, clipc_channel_receive(task, f->channel, &f->value));
  if (status != CLIPC_OK) return status;
  CLIPC_AWAIT(f, status, clipc_oneshot_receive(task, f->oneshot, &f->value));
  CLIPC_TASK_END(f, status);
}
static int take_of_both(clipc_task *task, void *frame) { /* of a second channel, too, in the same turn */
  struct told *f = frame;
  int value;
  (void)task;
  assert_int_equal(clipc_channel_try_receive(f->channel, &value), CLIPC_OK);
  assert_int_equal(clipc_channel_try_receive(((struct told *)frame + 1)->channel, &value), CLIPC_OK);
  return CLIPC_OK;
}

static void room_is_told_of(clipc_runtime *runtime) {
  static const clipc_task_kind teller_kind = {
      .name = "teller", .run = send_and_tell, .frame_bytes = sizeof(struct told)};
  static const clipc_task_kind listener_kind = {
      .name = "listener", .run = take_and_listen, .frame_bytes = sizeof(struct told)};
  static const clipc_task_kind both_kind = {
      .name = "both", .run = take_of_both, .frame_bytes = 2 * sizeof(struct told)};
  for (int round = 0; round < 3; round++) { /* who makes room: a task, a thread from outside, a task in two channels */
    struct told told[2] = {{0}};
    clipc_task *tellers[2];
    for (int i = 0; i < 2; i++) {
      told[i].channel = open_channel(sizeof(int), 10, NULL);
      assert_int_equal(clipc_oneshot_open(&told[i].oneshot, runtime, sizeof(int), NULL), CLIPC_OK);
      while (clipc_channel_try_send(told[i].channel, &told[i].value) == CLIPC_OK) told[i].value++;
      tellers[i] = test_task_start(runtime, &teller_kind, &told[i]);
      assert_int_equal(clipc_task_wait(tellers[i], 5, NULL, NULL), CLIPC_E_TIMED_OUT); /* it stands in line */
    }
    if (round == 2) assert_int_equal(test_task_finish(test_task_start(runtime, &both_kind, told)), CLIPC_OK);
    for (int i = 0; i < 2; i++) {
      int value = -1;
      if (round == 0) assert_int_equal(test_task_finish(test_task_start(runtime, &listener_kind, &told[i])), CLIPC_OK);
      if (round == 1) assert_int_equal(clipc_channel_try_receive(told[i].channel, &value), CLIPC_OK);
      assert_int_equal(test_task_finish(tellers[i]), CLIPC_OK);
      if (round > 0) clipc_oneshot_drop_receiver(told[i].oneshot);
      clipc_channel_close_sender(told[i].channel), clipc_channel_close_receiver(told[i].channel);
    }
  }
}

/* ---- select */

struct chooser {
  int at, counts[4], n, longest, since[4], closed_at_end;
  clipc_channel *channels[4];
  int *result;
};
static int choose(clipc_task *task, void *frame) {
  struct chooser *f = frame;
  int status = CLIPC_OK, value;
  size_t which;
  CLIPC_TASK_BEGIN(f);
  for (;;) {
    CLIPC_AWAIT(f, status, clipc_select(task, f->channels, 4, &which, &value));
    if (status != CLIPC_OK) break;
    if (value / 1000000 != (int)which) return CLIPC_E_FORMAT;
    f->counts[which]++;
    f->n++;
    for (size_t i = 0; i < 4; i++) {
      f->since[i] = i == which || !f->channels[i] || clipc_channel_length(f->channels[i]) == 0 ? 0 : f->since[i] + 1;
      if (f->since[i] > f->longest) f->longest = f->since[i];
    }
  }
  f->result[0] = f->n;
  f->result[1] = f->longest;
  for (int i = 0; i < 4; i++) clipc_channel_close_receiver(f->channels[i]);
  CLIPC_TASK_END(f, status);
}

static void select_is_fair(clipc_runtime *runtime) {
  static const clipc_task_kind kind = {.name = "chooser", .run = choose, .frame_bytes = sizeof(struct chooser)};
  for (int round = 0; round < 4; round++) {
    int result[2];
    struct chooser chooser = {.result = result};
    for (int i = 0; i < 4; i++) {
      if (i == round) continue; /* NULL is passed over */
      chooser.channels[i] = open_channel(sizeof(int), round == 3 ? 0 : 8, NULL);
      struct sender sender = {.n = i == 1 ? 2000 : 500, .id = i, .channel = chooser.channels[i]};
      assert_int_equal(clipc_spawn(NULL, runtime, &sender_kind, &sender, NULL), CLIPC_OK);
    }
    assert_int_equal(test_task_finish(test_task_start(runtime, &kind, &chooser)), CLIPC_E_CANCELLED);
    assert_int_equal(result[0], round == 1 ? 1500 : 3000);
    assert_true(result[1] <= 3); /* a ready one is passed over by each other one once at most */
  }
}

struct timed {
  int at, timeouts, values;
  clipc_channel *channels[2];
};
static int choose_with_timer(clipc_task *task, void *frame) {
  struct timed *f = frame;
  int status = CLIPC_OK, value;
  size_t which;
  CLIPC_TASK_BEGIN(f);
  while (f->values < 3) {
    clipc_task_set_deadline(task, clipc_runtime_now_ns(clipc_task_runtime(task)) + 2000000);
    CLIPC_AWAIT(f, status, clipc_select(task, f->channels, 2, &which, &value));
    if (status == CLIPC_OK) f->values++;
    if (status == CLIPC_E_TIMED_OUT && ++f->timeouts % 2 == 0) clipc_channel_try_send(f->channels[1], &f->timeouts);
  }
  CLIPC_TASK_END(f, f->timeouts == 6 ? CLIPC_OK : CLIPC_E_FORMAT);
}
static void select_with_a_timer(clipc_runtime *runtime) {
  static const clipc_task_kind kind = {.name = "timed", .run = choose_with_timer, .frame_bytes = sizeof(struct timed)};
  struct timed timed = {.channels = {open_channel(sizeof(int), 1, NULL), open_channel(sizeof(int), 1, NULL)}};
  assert_int_equal(test_task_finish(test_task_start(runtime, &kind, &timed)), CLIPC_OK);
  for (int i = 0; i < 2; i++)
    clipc_channel_close_sender(timed.channels[i]), clipc_channel_close_receiver(timed.channels[i]);
}

/* ---- oneshots */

struct once {
  int at, turns;
  int64_t deadline_ns;
  clipc_oneshot *oneshot;
  uint8_t expected[700];
};
static int receive_once(clipc_task *task, void *frame) {
  struct once *f = frame;
  uint8_t message[700] = {0};
  int status = CLIPC_OK;
  CLIPC_TASK_BEGIN(f);
  if (f->deadline_ns) clipc_task_set_deadline(task, clipc_runtime_now_ns(clipc_task_runtime(task)) + f->deadline_ns);
  CLIPC_AWAIT(f, status, clipc_oneshot_receive(task, f->oneshot, message));
  if (status == CLIPC_E_TIMED_OUT) { /* the end is not used up */
    clipc_task_set_deadline(task, 0);
    CLIPC_AWAIT(f, status, clipc_oneshot_receive(task, f->oneshot, message));
  }
  if (status == CLIPC_OK && memcmp(message, f->expected, 700) != 0) return CLIPC_E_FORMAT;
  CLIPC_TASK_END(f, status);
}
static const clipc_task_kind once_kind = {.name = "once", .run = receive_once, .frame_bytes = sizeof(struct once)};

static void *send_from_outside(void *context) {
  struct once *once = context;
  usleep(once->turns * 100);
  if (once->at == 2)
    clipc_oneshot_drop_sender(once->oneshot);
  else
    once->at = (int)clipc_oneshot_send(once->oneshot, once->expected);
  return NULL;
}
static void oneshots(clipc_runtime *runtime) {
  struct once once;
  memset(&once, 0, sizeof once);
  memset(once.expected, 9, sizeof once.expected);
  for (int i = 0; i < 60; i++) {
    once.deadline_ns = i % 3 == 0 ? 500000 : 0;
    assert_int_equal(clipc_oneshot_open(&once.oneshot, runtime, 700, NULL), CLIPC_OK);
    struct once copy = once; /* what the thread does: 0 sends, 2 drops */
    copy.at = i % 2 * 2;
    copy.turns = i % 10;
    pthread_t thread;
    pthread_create(&thread, NULL, send_from_outside, &copy);
    clipc_task *task = test_task_start(runtime, &once_kind, &once);
    clipc_status status = test_task_finish(task);
    pthread_join(thread, NULL);
    assert_int_equal(status, copy.at == 2 ? CLIPC_E_CANCELLED : CLIPC_OK);
  }
  assert_int_equal(clipc_oneshot_open(&once.oneshot, runtime, 700, NULL), CLIPC_OK);
  clipc_oneshot_drop_receiver(once.oneshot);
  assert_int_equal(clipc_oneshot_send(once.oneshot, once.expected), CLIPC_E_CANCELLED);
  assert_int_equal(clipc_oneshot_open(&once.oneshot, runtime, 700, NULL), CLIPC_OK);
  assert_int_equal(clipc_oneshot_send(once.oneshot, once.expected), CLIPC_OK); /* before anybody waits */
  assert_int_equal(test_task_finish(test_task_start(runtime, &once_kind, &once)), CLIPC_OK);
  for (int size = 1; size <= 4096; size *= 2) {
    assert_int_equal(clipc_oneshot_open(&once.oneshot, runtime, (size_t)size, NULL), CLIPC_OK);
    clipc_oneshot_drop_sender(once.oneshot);
    clipc_oneshot_drop_receiver(once.oneshot);
  }
  assert_int_equal(clipc_oneshot_open(&once.oneshot, runtime, 4097, NULL), CLIPC_E_INVALID);
  assert_int_equal(clipc_oneshot_open(&once.oneshot, runtime, 0, NULL), CLIPC_E_INVALID);
}

/* ---- foreign threads */

static void *send_many(void *context) {
  struct sender *sender = context;
  for (int i = 0; i < sender->n;) {
    int value = sender->id * 1000000 + i;
    clipc_status status = clipc_channel_try_send(sender->channel, &value);
    if (status == CLIPC_OK)
      i++;
    else
      usleep(50);
  }
  clipc_channel_close_sender(sender->channel);
  return NULL;
}
static void threads_send(clipc_runtime *runtime) {
  clipc_channel *channel = open_channel(sizeof(int), 16, NULL);
  pthread_t threads[4];
  struct sender senders[4];
  int received = 0;
  for (int i = 0; i < 4; i++) {
    senders[i] = (struct sender){.n = 1000, .id = i, .channel = clipc_channel_add_sender(channel)};
    pthread_create(&threads[i], NULL, send_many, &senders[i]);
  }
  clipc_channel_close_sender(channel);
  assert_int_equal(
      test_task_finish(test_task_start(runtime, &receiver_kind,
                                       &(struct receiver){.channel = channel, .capacity = 16, .received = &received})),
      CLIPC_OK);
  assert_int_equal(received, 4000);
  for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
}

#define EACH(NAME)                                                                                                     \
  static void test_##NAME(void **state) {                                                                              \
    (void)state;                                                                                                       \
    on_each_runtime(NAME);                                                                                             \
  }
EACH(nothing_is_lost)
EACH(receiver_goes)
EACH(who_gives_up_is_passed_over)
EACH(room_is_told_of)
EACH(select_is_fair)
EACH(select_with_a_timer)
EACH(oneshots)
EACH(threads_send)

int main(void) {
  random_start(0);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(bad_arguments),
      cmocka_unit_test(order_and_room),
      cmocka_unit_test(messages_that_nobody_takes_are_dropped),
      cmocka_unit_test(test_nothing_is_lost),
      cmocka_unit_test(test_receiver_goes),
      cmocka_unit_test(test_who_gives_up_is_passed_over),
      cmocka_unit_test(test_room_is_told_of),
      cmocka_unit_test(test_select_is_fair),
      cmocka_unit_test(test_select_with_a_timer),
      cmocka_unit_test(test_oneshots),
      cmocka_unit_test(test_threads_send),
  };
  return cmocka_run_group_tests_name("channels", tests, NULL, NULL);
}
