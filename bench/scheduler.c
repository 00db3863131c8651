/* The scheduler: nanoseconds per operation, least of 5 rounds, and bytes per pending task; the same rows as
 * bench/tokio measures. scheduler [THREADS]; one JSON line per row. */
#include "clipc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MILLION = 1000000, ROUNDS = 5 };

static double now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static double resident_bytes(void) {
  long unused, pages = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (file == NULL || fscanf(file, "%ld %ld", &unused, &pages) != 2) pages = 0;
  if (file) fclose(file);
  return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

static void must(int status, const char *what) {
  if (status == CLIPC_OK) return;
  fprintf(stderr, "%s: %s\n", what, clipc_status_name((clipc_status)status));
  exit(1);
}

static int do_nothing(clipc_task *task, void *frame) {
  (void)task, (void)frame;
  return CLIPC_OK;
}
static const clipc_task_kind empty_kind = {.name = "empty", .run = do_nothing};

/* ---- spawn and join */

struct one_by_one {
  int at, i;
  clipc_task *child;
};
static int one_by_one(clipc_task *task, void *frame) {
  struct one_by_one *f = frame;
  int status;
  CLIPC_TASK_BEGIN(f);
  for (; f->i < MILLION; f->i++) {
    must(clipc_spawn(&f->child, clipc_task_runtime(task), &empty_kind, NULL, NULL), "spawn");
    CLIPC_AWAIT(f, status, clipc_task_join(task, f->child, NULL));
    clipc_task_release(f->child);
  }
  CLIPC_TASK_END(f, CLIPC_OK);
}

struct all_first {
  int at, i;
  clipc_task **children;
};
static int all_first(clipc_task *task, void *frame) {
  struct all_first *f = frame;
  int status;
  CLIPC_TASK_BEGIN(f);
  f->children = malloc(MILLION * sizeof *f->children);
  for (int i = 0; i < MILLION; i++)
    must(clipc_spawn(&f->children[i], clipc_task_runtime(task), &empty_kind, NULL, NULL), "spawn");
  for (; f->i < MILLION; f->i++) {
    CLIPC_AWAIT(f, status, clipc_task_join(task, f->children[f->i], NULL));
    clipc_task_release(f->children[f->i]);
  }
  free(f->children);
  CLIPC_TASK_END(f, CLIPC_OK);
}

/* ---- yield */

struct yielder {
  int at, i;
};
static int yielder(clipc_task *task, void *frame) {
  struct yielder *f = frame;
  (void)task;
  CLIPC_TASK_BEGIN(f);
  for (; f->i < MILLION; f->i++) CLIPC_YIELD(f);
  CLIPC_TASK_END(f, CLIPC_OK);
}

/* ---- request over a channel, answer over a oneshot */

enum { N_REQUESTS = 200000 };
struct server {
  int at;
  clipc_channel *requests;
};
static int serve(clipc_task *task, void *frame) {
  struct server *f = frame;
  clipc_oneshot *answer;
  int one = 1, status;
  while ((status = clipc_channel_receive(task, f->requests, &answer)) == CLIPC_OK) clipc_oneshot_send(answer, &one);
  if (status == CLIPC_WAITING) return CLIPC_WAITING;
  clipc_channel_close_receiver(f->requests);
  return CLIPC_OK;
}
struct client {
  int at, i, answer;
  clipc_channel *requests;
  clipc_oneshot *oneshot;
  clipc_task *server;
};
static int client(clipc_task *task, void *frame) {
  static const clipc_task_kind server_kind = {.name = "server", .run = serve, .frame_bytes = sizeof(struct server)};
  struct client *f = frame;
  int status;
  CLIPC_TASK_BEGIN(f);
  must(clipc_channel_open(&f->requests, sizeof f->oneshot, 64, NULL, NULL), "channel");
  must(clipc_spawn(&f->server, clipc_task_runtime(task), &server_kind, &(struct server){0, f->requests}, NULL),
       "spawn");
  for (; f->i < N_REQUESTS; f->i++) {
    must(clipc_oneshot_open(&f->oneshot, clipc_task_runtime(task), sizeof f->answer, NULL), "oneshot");
    CLIPC_AWAIT(f, status, clipc_channel_send(task, f->requests, &f->oneshot));
    CLIPC_AWAIT(f, status, clipc_oneshot_receive(task, f->oneshot, &f->answer));
    must(status, "receive");
  }
  clipc_channel_close_sender(f->requests);
  CLIPC_AWAIT(f, status, clipc_task_join(task, f->server, NULL));
  clipc_task_release(f->server);
  CLIPC_TASK_END(f, CLIPC_OK);
}

/* ---- channels */

struct producer {
  int at;
  uint64_t i, n;
  clipc_channel *channel;
};
static int produce(clipc_task *task, void *frame) {
  struct producer *f = frame;
  int status;
  CLIPC_TASK_BEGIN(f);
  for (; f->i < f->n; f->i++) {
    CLIPC_AWAIT(f, status, clipc_channel_send(task, f->channel, &f->i));
    must(status, "send");
  }
  clipc_channel_close_sender(f->channel);
  CLIPC_TASK_END(f, CLIPC_OK);
}
static const clipc_task_kind producer_kind = {
    .name = "producer", .run = produce, .frame_bytes = sizeof(struct producer)};

struct consumer {
  int at, n_producers;
  uint64_t sum, n;
  clipc_channel *channels[4];
};
static int consume(clipc_task *task, void *frame) {
  struct consumer *f = frame;
  uint64_t value;
  int status;
  CLIPC_TASK_BEGIN(f);
  must(clipc_channel_open(&f->channels[0], sizeof value, 1024, NULL, NULL), "channel");
  for (int i = 0; i < f->n_producers; i++) {
    struct producer producer = {.n = (uint64_t)(MILLION / f->n_producers),
                                .channel = clipc_channel_add_sender(f->channels[0])};
    must(clipc_spawn(NULL, clipc_task_runtime(task), &producer_kind, &producer, NULL), "spawn");
  }
  clipc_channel_close_sender(f->channels[0]);
  for (;;) {
    CLIPC_AWAIT(f, status, clipc_channel_receive(task, f->channels[0], &value));
    if (status != CLIPC_OK) break;
    f->n++;
    f->sum += value;
  }
  if (f->n != MILLION) must(CLIPC_E_INVALID, "messages lost");
  clipc_channel_close_receiver(f->channels[0]);
  CLIPC_TASK_END(f, CLIPC_OK);
}
static int choose(clipc_task *task, void *frame) {
  struct consumer *f = frame;
  uint64_t value;
  size_t which;
  int status;
  CLIPC_TASK_BEGIN(f);
  for (int i = 0; i < 4; i++) {
    must(clipc_channel_open(&f->channels[i], sizeof value, 256, NULL, NULL), "channel");
    struct producer producer = {.n = MILLION / 4, .channel = f->channels[i]};
    must(clipc_spawn(NULL, clipc_task_runtime(task), &producer_kind, &producer, NULL), "spawn");
  }
  for (;;) {
    CLIPC_AWAIT(f, status, clipc_select(task, f->channels, 4, &which, &value));
    if (status != CLIPC_OK) break;
    f->n++;
    f->sum += value;
  }
  if (f->n != MILLION) must(CLIPC_E_INVALID, "messages lost");
  for (int i = 0; i < 4; i++) clipc_channel_close_receiver(f->channels[i]);
  CLIPC_TASK_END(f, CLIPC_OK);
}

/* ---- timers */

enum { N_TIMERS = 100000 };
static int sleep_once(clipc_task *task, void *frame) {
  (void)frame;
  return clipc_task_sleep(task, 1000000);
}
static int many_timers(clipc_task *task, void *frame) {
  static const clipc_task_kind sleeper = {.name = "sleeper", .run = sleep_once};
  struct all_first *f = frame;
  int status;
  CLIPC_TASK_BEGIN(f);
  f->children = malloc(N_TIMERS * sizeof *f->children);
  for (int i = 0; i < N_TIMERS; i++)
    must(clipc_spawn(&f->children[i], clipc_task_runtime(task), &sleeper, NULL, NULL), "spawn");
  for (; f->i < N_TIMERS; f->i++) {
    CLIPC_AWAIT(f, status, clipc_task_join(task, f->children[f->i], NULL));
    clipc_task_release(f->children[f->i]);
  }
  free(f->children);
  CLIPC_TASK_END(f, CLIPC_OK);
}

/* ---- memory */

struct pending {
  clipc_oneshot *oneshot;
};
static int wait_for_oneshot(clipc_task *task, void *frame) {
  int value;
  return clipc_oneshot_receive(task, ((struct pending *)frame)->oneshot, &value);
}

static void measure_memory(clipc_runtime *runtime) {
  static const clipc_task_kind kind = {
      .name = "pending", .run = wait_for_oneshot, .frame_bytes = sizeof(struct pending)};
  clipc_oneshot **senders = malloc(MILLION * sizeof *senders);
  memset(senders, 0, MILLION * sizeof *senders);
  double before = resident_bytes();
  for (int i = 0; i < MILLION; i++) {
    must(clipc_oneshot_open(&senders[i], runtime, sizeof(int), NULL), "oneshot");
    must(clipc_spawn(NULL, runtime, &kind, &(struct pending){senders[i]}, NULL), "spawn");
  }
  usleep(500000);
  double bytes = (resident_bytes() - before) / MILLION;
  for (int i = 0; i < MILLION; i++) clipc_oneshot_send(senders[i], &i);
  free(senders);
  printf("{\"row\": \"pending task on a oneshot\", \"bytes\": %.0f}\n", bytes);
}

/* ---- rows */

static void measure(clipc_runtime *runtime, const char *row, clipc_task_function *run, const void *frame,
                    size_t frame_bytes, int n) {
  clipc_task_kind kind = {.name = row, .run = run, .frame_bytes = frame_bytes};
  double best = 1e300;
  for (int round = 0; round < ROUNDS; round++) {
    clipc_task *task;
    double start = now_ns();
    must(clipc_spawn(&task, runtime, &kind, frame, NULL), row);
    must(clipc_task_wait(task, -1, NULL, NULL), row);
    double ns = (now_ns() - start) / n;
    if (ns < best) best = ns;
    clipc_task_release(task);
  }
  printf("{\"row\": \"%s\", \"ns\": %.1f}\n", row, best);
  fflush(stdout);
}

int main(int argc, char **argv) {
  clipc_runtime_options options = {.n_threads = argc > 1 ? atoi(argv[1]) : 2};
  clipc_runtime *runtime;
  clipc_error error = {CLIPC_OK, ""};
  if (clipc_runtime_open(&runtime, &options, &error) != CLIPC_OK) return fprintf(stderr, "%s\n", error.message), 1;
  measure_memory(runtime); /* first: nothing is kept yet */
  struct consumer one = {.n_producers = 1}, four = {.n_producers = 4};
  measure(runtime, "spawn and join, one by one", one_by_one, NULL, sizeof(struct one_by_one), MILLION);
  measure(runtime, "spawn all, then join", all_first, NULL, sizeof(struct all_first), MILLION);
  measure(runtime, "yield", yielder, NULL, sizeof(struct yielder), MILLION);
  measure(runtime, "request and answer, oneshot", client, NULL, sizeof(struct client), N_REQUESTS);
  measure(runtime, "bounded channel, 1 producer", consume, &one, sizeof one, MILLION);
  measure(runtime, "bounded channel, 4 producers", consume, &four, sizeof four, MILLION);
  measure(runtime, "select of 4", choose, NULL, sizeof(struct consumer), MILLION);
  measure(runtime, "timers of 1 ms, 100,000", many_timers, NULL, sizeof(struct all_first), N_TIMERS);
  clipc_runtime_close(runtime);
  return 0;
}
