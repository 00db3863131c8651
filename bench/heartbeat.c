/* A task that wakes every millisecond while a model of ViT-L/14's size is made or opened, and while batches of pictures
 * are computed with it, in tasks on the same two threads: how long were its gaps?
 *   heartbeat [MODEL [THREADS [SECONDS]]]   MODEL: a folder or packed file, opened in steps; or a shape's name
 * [ViT-L-14], whose weights are made. One JSON line for each. */
#include "clipc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_TICKS = 1000000, BATCH = 8 };
static int64_t gaps[MAX_TICKS];

struct heart {
  int at, *n;
  int64_t last_ns;
};
static int beat(clipc_task *task, void *frame) {
  struct heart *f = frame;
  int status;
  CLIPC_TASK_BEGIN(f);
  f->last_ns = clipc_runtime_now_ns(NULL);
  while (*f->n < MAX_TICKS) {
    CLIPC_AWAIT(f, status, clipc_task_sleep(task, 1000000));
    if (status != CLIPC_OK) break;
    int64_t now_ns = clipc_runtime_now_ns(NULL);
    gaps[(*f->n)++] = now_ns - f->last_ns;
    f->last_ns = now_ns;
  }
  CLIPC_TASK_END(f, CLIPC_OK);
}

struct work {
  int at;
  const char *name;
  double seconds;
  int64_t end_ns;
  clipc_options options;
  clipc_opening *opening;
  clipc_model **model;
  clipc_session *session;
  clipc_image images[BATCH];
  float *embeddings;
};

/* A folder in steps; a shape in one go. */
static int load(clipc_task *task, void *frame) {
  struct work *f = frame;
  struct stat about;
  (void)task;
  if (stat(f->name, &about) != 0) return (int)clipc_model_synthetic(f->model, f->name, &f->options, NULL);
  clipc_status status = f->opening ? CLIPC_OK : clipc_model_open_begin(&f->opening, f->name, &f->options, NULL);
  if (status == CLIPC_OK) status = clipc_model_open_step(f->opening, f->model, NULL);
  if (status == CLIPC_OK && *f->model == NULL) return CLIPC_YIELDING;
  clipc_opening_close(f->opening);
  return (int)status;
}

static int compute(clipc_task *task, void *frame) {
  struct work *f = frame;
  clipc_status status = CLIPC_OK;
  int done = 0;
  (void)task;
  if (f->at == 0) {
    if (clipc_runtime_now_ns(NULL) > f->end_ns) return CLIPC_OK;
    status = clipc_begin_images(f->session, f->images, BATCH, f->embeddings, NULL, NULL);
  }
  if (status == CLIPC_OK) status = clipc_step(f->session, &done, NULL);
  f->at = status == CLIPC_OK && !done;
  return status == CLIPC_OK ? CLIPC_YIELDING : (int)status;
}

static int by_size(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

static void must(clipc_status status, const char *what) {
  if (status == CLIPC_OK) return;
  fprintf(stderr, "%s: %s\n", what, clipc_status_name(status));
  exit(1);
}

/* Runs the work's task with the heart beside it, and prints how that beat. */
static void measure(clipc_runtime *runtime, const char *what, clipc_task_function *run, struct work *work) {
  static const clipc_task_kind heart = {
      .name = "heart", .run = beat, .frame_bytes = sizeof(struct heart), .is_short = 1};
  clipc_task_kind kind = {.name = what, .run = run, .frame_bytes = sizeof *work};
  clipc_task *tasks[2];
  clipc_status status = CLIPC_OK;
  int n = 0;
  must(clipc_spawn(&tasks[0], runtime, &heart, &(struct heart){0, &n, 0}, NULL), "heart");
  int64_t start_ns = clipc_runtime_now_ns(NULL);
  work->end_ns = start_ns + (int64_t)(work->seconds * 1e9);
  must(clipc_spawn(&tasks[1], runtime, &kind, work, NULL), what);
  must(clipc_task_wait(tasks[1], -1, &status, NULL), what);
  must(status, what);
  double seconds = (double)(clipc_runtime_now_ns(NULL) - start_ns) * 1e-9;
  clipc_task_cancel(tasks[0]);
  must(clipc_task_wait(tasks[0], -1, NULL, NULL), "heart");
  clipc_task_release(tasks[0]), clipc_task_release(tasks[1]);
  if (n == 0) must(CLIPC_E_TIMED_OUT, "the heart never beat");
  qsort(gaps, (size_t)n, sizeof *gaps, by_size);
  printf("{\"row\": \"heartbeat, %s\", \"model\": \"%s\", \"seconds\": %.1f, \"ticks\": %d, \"median_ms\": %.2f, "
         "\"p99_ms\": %.2f, \"p999_ms\": %.2f, \"longest_ms\": %.2f}\n",
         what, work->name, seconds, n, (double)gaps[n / 2] * 1e-6, (double)gaps[(int64_t)n * 99 / 100] * 1e-6,
         (double)gaps[(int64_t)n * 999 / 1000] * 1e-6, (double)gaps[n - 1] * 1e-6);
  fflush(stdout);
}

int main(int argc, char **argv) {
  int n_threads = argc > 2 ? atoi(argv[2]) : 2;
  clipc_model *model = NULL;
  struct work work = {
      .name = argc > 1 ? argv[1] : "ViT-L-14", .seconds = argc > 3 ? atof(argv[3]) : 20, .model = &model};
  work.options.n_threads = n_threads;
  clipc_runtime *runtime;
  clipc_error error = {CLIPC_OK, ""};
  if (clipc_runtime_open(&runtime, &(clipc_runtime_options){.n_threads = n_threads}, &error) != CLIPC_OK)
    return fprintf(stderr, "%s\n", error.message), 1;
  measure(runtime, "loading", load, &work);
  must(clipc_session_open(&work.session, model, NULL, NULL), "session");
  uint8_t *rgb = malloc(480 * 640 * 3);
  work.embeddings = malloc(BATCH * clipc_embedding_dimension(model) * sizeof *work.embeddings);
  if (rgb == NULL || work.embeddings == NULL) must(CLIPC_E_NO_MEMORY, "pictures");
  for (size_t i = 0; i < 480 * 640 * 3; i++) rgb[i] = (uint8_t)(i * i >> 7);
  for (int i = 0; i < BATCH; i++) work.images[i] = clipc_image_rgb(rgb, 480, 640, 3 * 640);
  measure(runtime, "computing", compute, &work);
  clipc_session_close(work.session);
  clipc_model_close(model);
  free(rgb), free(work.embeddings);
  clipc_runtime_close(runtime);
  return 0;
}
