/* clipc in libuv's loop, with no thread added: pictures are embedded step by step in a task while the loop serves a
 * timer of its own.   libuv_loop MODEL PICTURE...   (made where pkg-config knows libuv)
 *   make examples && build/examples/libuv_loop models/tiny models/tiny/pictures/red_car.jpg
 * Alone: cc -Iinclude examples/libuv_loop.c -Lbuild -lclipc -Wl,-rpath,build -o libuv_loop \
 *   $(pkg-config --cflags --libs libuv) */
#include <clipc.h>

#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

/* The task: one turn begins a picture, or computes a block of a tower. */
struct embedding {
  clipc_session *session;
  char **paths; /* those that are left; NULL ends them */
  clipc_image image;
  float *out;
  int is_running;
};

static int embed_pictures(clipc_task *task, void *frame) {
  struct embedding *f = frame;
  clipc_error error = {CLIPC_OK, ""};
  int done = 0;
  if (clipc_task_cancelled(task)) return CLIPC_E_CANCELLED;
  if (*f->paths == NULL) return CLIPC_OK;
  if (!f->is_running) {
    f->image = clipc_image_path(*f->paths);
    if (clipc_begin_images(f->session, &f->image, 1, f->out, NULL, &error) == CLIPC_OK) f->is_running = 1;
  } else if (clipc_step(f->session, &done, &error) == CLIPC_OK && done) {
    printf("%s: %.4f %.4f %.4f ...\n", *f->paths, (double)f->out[0], (double)f->out[1], (double)f->out[2]);
  }
  if (error.status != CLIPC_OK) printf("%s\n", error.message);
  if (done || error.status != CLIPC_OK) f->paths++, f->is_running = 0;
  return CLIPC_YIELDING;
}

/* What the loop knows. */
struct host {
  clipc_runtime *runtime;
  clipc_task *task;
  uv_poll_t watch;
  uv_timer_t timer;
  unsigned long ticks;
};

/* What makes clipc part of the loop: when its descriptor is readable, clipc_runtime_poll does one slice. */
static void on_readable(uv_poll_t *watch, int status, int events) {
  struct host *host = watch->data;
  (void)status, (void)events;
  clipc_runtime_poll(host->runtime, 0, NULL);
  if (clipc_task_ended(host->task, NULL)) uv_stop(watch->loop);
}

static void on_timer(uv_timer_t *timer) { ((struct host *)timer->data)->ticks++; }

static void run_loop(struct host *host) {
  uv_loop_t *loop = uv_default_loop();
  uv_poll_init(loop, &host->watch, clipc_runtime_fd(host->runtime));
  uv_timer_init(loop, &host->timer);
  host->watch.data = host->timer.data = host;
  uv_poll_start(&host->watch, UV_READABLE, on_readable);
  uv_timer_start(&host->timer, on_timer, 1, 1);
  uv_run(loop, UV_RUN_DEFAULT);
  uv_close((uv_handle_t *)&host->watch, NULL);
  uv_close((uv_handle_t *)&host->timer, NULL);
  uv_run(loop, UV_RUN_DEFAULT);
  uv_loop_close(loop);
  printf("meanwhile the loop's own timer ticked %lu times\n", host->ticks);
}

int main(int argc, char **argv) {
  static const clipc_task_kind kind = {
      .name = "pictures", .run = embed_pictures, .frame_bytes = sizeof(struct embedding)};
  const clipc_runtime_options driven = {.n_threads = CLIPC_HOST_DRIVEN};
  const clipc_options one_thread = {.n_threads = 1};
  clipc_error error = {CLIPC_OK, ""};
  clipc_model *model = NULL;
  struct host host = {.ticks = 0};
  struct embedding embedding = {.paths = argv + 2};
  if (argc < 3) {
    fprintf(stderr, "usage: libuv_loop MODEL PICTURE...\n");
    return 2;
  }
  if (clipc_model_open(&model, argv[1], &one_thread, &error) == CLIPC_OK &&
      clipc_session_open(&embedding.session, model, NULL, &error) == CLIPC_OK &&
      clipc_runtime_open(&host.runtime, &driven, &error) == CLIPC_OK) {
    embedding.out = malloc(clipc_embedding_dimension(model) * sizeof *embedding.out);
    if (embedding.out && clipc_spawn(&host.task, host.runtime, &kind, &embedding, &error) == CLIPC_OK) run_loop(&host);
  }
  if (error.status != CLIPC_OK) fprintf(stderr, "%s\n", error.message);
  clipc_task_release(host.task);
  clipc_runtime_close(host.runtime);
  clipc_session_close(embedding.session);
  clipc_model_close(model);
  free(embedding.out);
  return error.status != CLIPC_OK;
}
