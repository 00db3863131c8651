/* What a request costs beyond its computation, with the bundled model; JSON lines.
 *   requests overhead [PICTURE]  medians of: the synchronous call; the same awaited in a task; waited for from
 *                                outside; out of a completion queue that is never empty. The ways take turns.
 *   requests throughput [N]      N [100000] base64 requests from 8 threads through bounded queues, against a plain
 *                                loop of synchronous batches that decodes the same base64; memory after the first
 *                                thousand and at the end
 * Run from the top folder. */
#include "clipc.h"
#include "image/base64.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { N_SENDERS = 8, BATCH = 32, IN_FLIGHT = 4, OVERHEAD_ROUNDS = 40, OVERHEAD_REQUESTS = 50, SAMPLES = 2000 };

static double now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static long status_kb(const char *field) {
  char line[256];
  long value = 0;
  FILE *file = fopen("/proc/self/status", "r");
  while (file && fgets(line, sizeof line, file))
    if (strncmp(line, field, strlen(field)) == 0) sscanf(line + strlen(field), ": %ld", &value);
  if (file) fclose(file);
  return value;
}

static void must(int status, const clipc_error *error, const char *what) {
  if (status == CLIPC_OK) return;
  fprintf(stderr, "%s: %s: %s\n", what, clipc_status_name((clipc_status)status), error ? error->message : "");
  exit(1);
}

static int by_size(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double median(double *values, size_t n) {
  qsort(values, n, sizeof *values, by_size);
  return values[n / 2];
}

static uint8_t *read_file(const char *path, size_t *n_bytes) {
  FILE *file = fopen(path, "rb");
  if (file == NULL) fprintf(stderr, "%s cannot be read\n", path), exit(1);
  fseek(file, 0, SEEK_END);
  *n_bytes = (size_t)ftell(file);
  rewind(file);
  uint8_t *bytes = malloc(*n_bytes);
  if (fread(bytes, 1, *n_bytes, file) != *n_bytes) exit(1);
  fclose(file);
  return bytes;
}

struct stage {
  clipc_model *model;
  clipc_session *session;
  clipc_runtime *runtime;
  clipc_registry *registry;
  clipc_input input;
};

static int open_model(clipc_task *task, void *frame, const clipc_loader *loader, clipc_engine *engine,
                      clipc_error *error) {
  (void)task, (void)frame;
  return clipc_model_engine(engine, (clipc_model *)(uintptr_t)loader->source,
                            &(clipc_session_options){.max_batch = (int)loader->max_batch}, error);
}

static void open_model_of(struct stage *stage, size_t max_batch) {
  clipc_error error = {CLIPC_OK, ""};
  clipc_session_options options = {.max_batch = (int)max_batch};
  must(clipc_model_open(&stage->model, "models/tiny", NULL, &error), &error, "models/tiny");
  must(clipc_session_open(&stage->session, stage->model, &options, &error), &error, "session");
}

static void open_registry(struct stage *stage, size_t max_batch, int max_workers) {
  clipc_error error = {CLIPC_OK, ""};
  clipc_registry_options options = {.max_batch = max_batch, .min_workers = max_workers, .max_workers = max_workers};
  must(clipc_runtime_open(&stage->runtime, NULL, &error), &error, "runtime");
  must(clipc_registry_open(&stage->registry, stage->runtime, &options, &error), &error, "registry");
  clipc_loader loader = {.name = "open model", .run = open_model, .source = stage->model};
  must(clipc_registry_add(stage->registry, "tiny", CLIPC_CAN(CLIPC_IMAGE_EMBEDDING), &loader, &error), &error, "add");
}

static void close_registry(struct stage *stage) {
  clipc_registry_close(stage->registry);
  clipc_runtime_close(stage->runtime);
}

static void close_model(struct stage *stage) {
  clipc_session_close(stage->session);
  clipc_model_close(stage->model);
}

static clipc_pending *submit(struct stage *stage, clipc_completions *completions) {
  clipc_request request = {
      .capability = CLIPC_IMAGE_EMBEDDING, .inputs = &stage->input, .n_inputs = 1, .completions = completions};
  return clipc_registry_submit(stage->registry, "tiny", &request);
}

/* ---- overhead */

struct awaiting {
  int at, i;
  struct stage *stage;
  clipc_pending *pending;
  double *took, started;
};

static int await_requests(clipc_task *task, void *frame) {
  struct awaiting *f = frame;
  int status;
  CLIPC_TASK_BEGIN(f);
  for (; f->i < OVERHEAD_REQUESTS; f->i++) {
    f->started = now_ns();
    f->pending = submit(f->stage, NULL);
    CLIPC_AWAIT(f, status, clipc_pending_await(task, f->pending));
    f->took[f->i] = now_ns() - f->started;
    must(status, NULL, "await");
    clipc_pending_close(f->pending);
  }
  CLIPC_TASK_END(f, CLIPC_OK);
}

static void round_sync(struct stage *stage, double *took) {
  float embedding[2048];
  for (int i = 0; i < OVERHEAD_REQUESTS; i++) {
    double start = now_ns();
    must(clipc_embed_image_bytes(stage->session, stage->input.data, stage->input.n_bytes, embedding, NULL), NULL,
         "embed");
    took[i] = now_ns() - start;
  }
}

static void round_task(struct stage *stage, double *took) {
  static const clipc_task_kind kind = {.name = "await", .run = await_requests, .frame_bytes = sizeof(struct awaiting)};
  clipc_task *task;
  must(clipc_spawn(&task, stage->runtime, &kind, &(struct awaiting){.stage = stage, .took = took}, NULL), NULL,
       "spawn");
  must(clipc_task_wait(task, -1, NULL, NULL), NULL, "wait");
  clipc_task_release(task);
}

static void round_wait(struct stage *stage, double *took) {
  for (int i = 0; i < OVERHEAD_REQUESTS; i++) {
    double start = now_ns();
    clipc_pending *pending = submit(stage, NULL);
    clipc_error error = {CLIPC_OK, ""};
    must(clipc_pending_wait(pending, -1, &error), &error, "wait");
    took[i] = now_ns() - start;
    clipc_pending_close(pending);
  }
}

/* A queue that is never empty: some requests are always under way; the time between two that come out of it. */
struct queueing {
  int at, sent, received;
  struct stage *stage;
  clipc_completions *completions;
  double *took, last;
};

static int keep_queue(clipc_task *task, void *frame) {
  struct queueing *f = frame;
  int status;
  CLIPC_TASK_BEGIN(f);
  f->last = now_ns();
  while (f->received < OVERHEAD_REQUESTS) {
    for (; f->sent < OVERHEAD_REQUESTS && f->sent < f->received + IN_FLIGHT; f->sent++)
      submit(f->stage, f->completions);
    CLIPC_AWAIT(f, status, clipc_completions_await(task, f->completions));
    must(status, NULL, "queue");
    for (clipc_pending *pending; (pending = clipc_completions_next(f->completions)); f->received++) {
      double now = now_ns();
      f->took[f->received] = now - f->last;
      f->last = now;
      must(clipc_pending_status(pending, NULL), NULL, "queue");
      clipc_pending_close(pending);
    }
  }
  CLIPC_TASK_END(f, CLIPC_OK);
}

static void round_queue(struct stage *stage, double *took) {
  static const clipc_task_kind kind = {.name = "queue", .run = keep_queue, .frame_bytes = sizeof(struct queueing)};
  struct queueing frame = {.stage = stage, .took = took};
  clipc_task *task;
  must(clipc_completions_open(&frame.completions, stage->runtime, NULL), NULL, "completions");
  must(clipc_spawn(&task, stage->runtime, &kind, &frame, NULL), NULL, "spawn");
  must(clipc_task_wait(task, -1, NULL, NULL), NULL, "wait");
  clipc_task_release(task);
  clipc_completions_close(frame.completions);
}

/* The synchronous calls come where no runtime is open: its idle workers would help them, on their own terms. */
static void overhead(const char *picture) {
  struct stage stage;
  size_t n_bytes;
  open_model_of(&stage, 1);
  stage.input = (clipc_input){.kind = CLIPC_INPUT_BYTES, .data = read_file(picture, &n_bytes)};
  stage.input.n_bytes = n_bytes;
  static const struct {
    const char *name;
    void (*run)(struct stage *stage, double *took);
  } ways[] = {{"synchronous call", round_sync},
              {"awaited in a task", round_task},
              {"queue that is never empty", round_queue},
              {"waited for from outside", round_wait}};
  enum { N_WAYS = sizeof ways / sizeof *ways };
  static double took[N_WAYS][SAMPLES];
  long n_before = 0, n_after = 0;
  for (int round = 0; round < OVERHEAD_ROUNDS; round++) {
    ways[0].run(&stage, took[0] + round * OVERHEAD_REQUESTS); /* twice: the first warms up */
    ways[0].run(&stage, took[0] + round * OVERHEAD_REQUESTS);
    open_registry(&stage, 1, 1);
    ways[1].run(&stage, took[1] + round * OVERHEAD_REQUESTS); /* loads the model */
    n_before = status_kb("Threads");
    for (int way = 1; way < N_WAYS; way++) ways[way].run(&stage, took[way] + round * OVERHEAD_REQUESTS);
    n_after = status_kb("Threads");
    close_registry(&stage);
  }
  double base = 0;
  for (int way = 0; way < N_WAYS; way++) {
    double us = median(took[way], SAMPLES) * 1e-3;
    if (way == 0) base = us;
    printf("{\"way\": \"%s\", \"median_us\": %.1f, \"least_us\": %.1f, \"overhead_us\": %.1f}\n", ways[way].name, us,
           took[way][0] * 1e-3, us - base);
  }
  printf("{\"threads_before_requests\": %ld, \"threads_after\": %ld}\n", n_before, n_after);
  free((void *)(uintptr_t)stage.input.data);
  close_model(&stage);
}

/* ---- throughput */

static atomic_llong n_completed, n_refused;

struct sender {
  struct stage *stage;
  int n;
};

static void *send_requests(void *context) {
  struct sender *sender = context;
  enum { WINDOW = 64 };
  clipc_pending *window[WINDOW] = {NULL};
  for (int i = 0; i < sender->n + WINDOW; i++) {
    clipc_pending **place = &window[i % WINDOW];
    clipc_error error = {CLIPC_OK, ""};
    if (*place) {
      must(clipc_pending_wait(*place, -1, &error), &error, "request");
      atomic_fetch_add(&n_completed, 1);
      clipc_pending_close(*place);
      *place = NULL;
    }
    while (i < sender->n) {
      *place = submit(sender->stage, NULL);
      if (clipc_pending_status(*place, NULL) != CLIPC_E_QUEUE_FULL) break;
      clipc_pending_close(*place);
      atomic_fetch_add(&n_refused, 1);
      sched_yield();
    }
  }
  return NULL;
}

static double plain_loop(struct stage *stage, int n) {
  size_t dimension = clipc_embedding_dimension(stage->model);
  float *embeddings = malloc(BATCH * dimension * sizeof *embeddings);
  clipc_image images[BATCH];
  double start = now_ns();
  for (int done = 0; done < n; done += BATCH) {
    struct clipc__bytes bytes[BATCH] = {{{0}, NULL, 0, 0}};
    for (int i = 0; i < BATCH; i++) {
      must(clipc__base64_decode(&bytes[i], stage->input.data, stage->input.n_bytes, 1 << 20, NULL), NULL, "base64");
      images[i] = clipc_image_bytes(bytes[i].data, bytes[i].n_bytes);
    }
    must(clipc_embed_images(stage->session, images, BATCH, embeddings, NULL, NULL), NULL, "batch");
    for (int i = 0; i < BATCH; i++) clipc__bytes_free(&bytes[i]);
  }
  double seconds = (now_ns() - start) * 1e-9;
  free(embeddings);
  return n / seconds;
}

/* In a process of its own, where no runtime's idle workers come to help. */
static double plain_loop_alone(struct stage *stage, int n) {
  int ends[2];
  double rate = 0;
  if (pipe(ends) != 0) exit(1);
  pid_t child = fork();
  if (child == 0) {
    rate = plain_loop(stage, n);
    _exit(write(ends[1], &rate, sizeof rate) == sizeof rate ? 0 : 1);
  }
  if (child < 0 || read(ends[0], &rate, sizeof rate) != sizeof rate) exit(1);
  waitpid(child, NULL, 0);
  close(ends[0]), close(ends[1]);
  return rate;
}

static double eight_threads(struct stage *stage, int n) {
  pthread_t threads[N_SENDERS];
  struct sender sender = {stage, n / N_SENDERS};
  double start = now_ns();
  for (int i = 0; i < N_SENDERS; i++) pthread_create(&threads[i], NULL, send_requests, &sender);
  for (int i = 0; i < N_SENDERS; i++) pthread_join(threads[i], NULL);
  return n / ((now_ns() - start) * 1e-9);
}

static void throughput(int n) {
  enum { PIECES = 10, FIRST = 1000 };
  static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  struct stage stage;
  open_model_of(&stage, BATCH);
  open_registry(&stage, BATCH, 2);
  size_t n_bytes, n_text = 0;
  uint8_t *bytes = read_file("models/tiny/pictures/red_car.jpg", &n_bytes);
  char *text = malloc(n_bytes * 2 + 8);
  for (size_t i = 0; i < n_bytes; i += 3) {
    unsigned group = (unsigned)bytes[i] << 16 | (i + 1 < n_bytes ? (unsigned)bytes[i + 1] << 8 : 0) |
                     (i + 2 < n_bytes ? bytes[i + 2] : 0);
    for (int k = 0; k < 4; k++) text[n_text++] = i + (size_t)k <= n_bytes ? alphabet[group >> (18 - 6 * k) & 63] : '=';
  }
  stage.input = (clipc_input){CLIPC_INPUT_BASE64, text, n_text};
  eight_threads(&stage, FIRST / N_SENDERS * N_SENDERS);
  long kb_first = status_kb("VmRSS"), sent = FIRST / N_SENDERS * N_SENDERS;
  double plain[PIECES], pool[PIECES];
  n = n / PIECES / BATCH / N_SENDERS * BATCH * N_SENDERS; /* of one piece: the two take turns */
  for (int piece = 0; piece < PIECES; piece++) {
    plain[piece] = plain_loop_alone(&stage, n);
    pool[piece] = eight_threads(&stage, n);
    sent += n;
  }
  double plain_median = median(plain, PIECES), pool_median = median(pool, PIECES);
  printf("{\"requests\": %ld, \"completed\": %lld, \"refused_then_sent_again\": %lld, \"plain_per_s\": %.0f, "
         "\"pool_per_s\": %.0f, "
         "\"ratio_of_medians\": %.3f, \"ratio_of_best\": %.3f, \"rss_first_kb\": %ld, \"rss_end_kb\": %ld}\n",
         sent, atomic_load(&n_completed), atomic_load(&n_refused), plain_median, pool_median,
         pool_median / plain_median, pool[PIECES - 1] / plain[PIECES - 1], kb_first, status_kb("VmRSS"));
  free(bytes);
  close_registry(&stage);
  close_model(&stage);
  free(text);
}

int main(int argc, char **argv) {
  if (argc > 1 && strcmp(argv[1], "overhead") == 0)
    overhead(argc > 2 ? argv[2] : "models/tiny/pictures/red_car.jpg");
  else if (argc > 1 && strcmp(argv[1], "throughput") == 0)
    throughput(argc > 2 ? atoi(argv[2]) : 100000);
  else
    return fprintf(stderr, "requests overhead [PICTURE] | throughput [N]\n"), 2;
  return 0;
}
