/* clipc in a program's own poll loop, with no thread added: pictures are embedded step by step in a task while the loop
 * serves a timer of its own.   poll_loop MODEL PICTURE...
 *   make examples && build/examples/poll_loop models/tiny models/tiny/pictures/red_car.jpg
 * Alone: cc -Iinclude examples/poll_loop.c -Lbuild -lclipc -Wl,-rpath,build -o poll_loop */
#include <clipc.h>

#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <unistd.h>

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

static int every_ms(int ms) {
  int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
  struct itimerspec when = {{0, ms * 1000000L}, {0, ms * 1000000L}};
  if (fd >= 0) timerfd_settime(fd, 0, &when, NULL);
  return fd;
}

/* What makes clipc part of the loop: its descriptor is polled like any other, and clipc_runtime_poll does one slice. */
static void loop(clipc_runtime *runtime, const clipc_task *task) {
  struct pollfd fds[2] = {{.fd = clipc_runtime_fd(runtime), .events = POLLIN}, {.fd = every_ms(1), .events = POLLIN}};
  uint64_t n, ticks = 0;
  while (!clipc_task_ended(task, NULL)) {
    if (poll(fds, 2, -1) < 0) continue;
    if (fds[0].revents) clipc_runtime_poll(runtime, 0, NULL);
    if (fds[1].revents && read(fds[1].fd, &n, sizeof n) == sizeof n) ticks += n;
  }
  printf("meanwhile the loop's own timer ticked %llu times\n", (unsigned long long)ticks);
  close(fds[1].fd);
}

int main(int argc, char **argv) {
  static const clipc_task_kind kind = {
      .name = "pictures", .run = embed_pictures, .frame_bytes = sizeof(struct embedding)};
  const clipc_runtime_options driven = {.n_threads = CLIPC_HOST_DRIVEN};
  const clipc_options one_thread = {.n_threads = 1};
  clipc_error error = {CLIPC_OK, ""};
  clipc_runtime *runtime = NULL;
  clipc_model *model = NULL;
  clipc_task *task = NULL;
  struct embedding embedding = {.paths = argv + 2};
  if (argc < 3) {
    fprintf(stderr, "usage: poll_loop MODEL PICTURE...\n");
    return 2;
  }
  if (clipc_model_open(&model, argv[1], &one_thread, &error) == CLIPC_OK &&
      clipc_session_open(&embedding.session, model, NULL, &error) == CLIPC_OK &&
      clipc_runtime_open(&runtime, &driven, &error) == CLIPC_OK) {
    embedding.out = malloc(clipc_embedding_dimension(model) * sizeof *embedding.out);
    if (embedding.out && clipc_spawn(&task, runtime, &kind, &embedding, &error) == CLIPC_OK) loop(runtime, task);
  }
  if (error.status != CLIPC_OK) fprintf(stderr, "%s\n", error.message);
  clipc_task_release(task);
  clipc_runtime_close(runtime);
  clipc_session_close(embedding.session);
  clipc_model_close(model);
  free(embedding.out);
  return error.status != CLIPC_OK;
}
