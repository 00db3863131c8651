/* Sockets of libcurl and c-ares as sources of the scheduler, found by their number.
 * A source reports once and is watched anew after it was handled; what is not taken in one turn waits for the next. */
#include "async/watch.h"

#include <string.h>
#include <sys/epoll.h>

struct clipc__watch {
  struct clipc__io io;
  uint32_t wanted; /* EPOLLIN, EPOLLOUT */
  bool armed;
};

static bool watch_room(struct clipc__watches *watches, int fd) {
  if (fd < watches->n_by_fd) return true;
  int n = fd < INT32_MAX / 2 - 64 ? fd + fd / 2 + 64 : INT32_MAX;
  const clipc_allocator *allocator = clipc__runtime_allocator(watches->runtime);
  struct clipc__watch **by_fd = clipc__alloc_zeroed(allocator, (size_t)n, sizeof *by_fd);
  if (by_fd == NULL) return false;
  if (watches->n_by_fd > 0) memcpy(by_fd, watches->by_fd, (size_t)watches->n_by_fd * sizeof *by_fd);
  clipc__free(allocator, watches->by_fd);
  watches->by_fd = by_fd;
  watches->n_by_fd = n;
  return true;
}

static void watch_drop(struct clipc__watches *watches, int fd) {
  struct clipc__watch *watch = fd < watches->n_by_fd ? watches->by_fd[fd] : NULL;
  if (watch == NULL) return;
  clipc__io_forget(watches->runtime, &watch->io);
  clipc__free(clipc__runtime_allocator(watches->runtime), watch);
  watches->by_fd[fd] = NULL;
  watches->n--;
}

clipc_status clipc__watches_set(struct clipc__watches *watches, int fd, uint32_t events, clipc_error *error) {
  if (fd < 0) return clipc__fail(error, CLIPC_E_INVALID, "a socket's number is %d", fd);
  if (events == 0) {
    watch_drop(watches, fd);
    return CLIPC_OK;
  }
  if (!watch_room(watches, fd)) return clipc__no_memory(error, "a socket's events");
  struct clipc__watch *watch = watches->by_fd[fd];
  if (watch == NULL) {
    watch = clipc__alloc_zeroed(clipc__runtime_allocator(watches->runtime), 1, sizeof *watch);
    if (watch == NULL) return clipc__no_memory(error, "a socket's events");
    watch->io.fd = fd;
    watch->io.task = watches->task;
    watches->by_fd[fd] = watch;
    watches->n++;
  }
  watch->wanted = events;
  watch->armed = true;
  clipc_status status = clipc__io_watch(watches->runtime, &watch->io, events, error);
  if (status != CLIPC_OK) watch_drop(watches, fd);
  return status;
}

bool clipc__watches_turn(struct clipc__watches *watches, int n_most,
                         void (*ready)(void *context, int fd, uint32_t events), void *context) {
  for (int fd = 0; fd < watches->n_by_fd && watches->n > 0; fd++) {
    struct clipc__watch *watch = watches->by_fd[fd];
    if (watch == NULL || atomic_load_explicit(&watch->io.happened, memory_order_relaxed) == 0) continue;
    if (n_most-- == 0) return true;
    uint32_t happened = atomic_exchange(&watch->io.happened, 0), events = 0;
    if (happened & (EPOLLIN | EPOLLERR | EPOLLHUP)) events |= EPOLLIN;
    if (happened & (EPOLLOUT | EPOLLERR | EPOLLHUP)) events |= EPOLLOUT;
    watch->armed = false;
    ready(context, fd, events & watch->wanted);
    watch = watches->by_fd[fd]; /* may be gone, or another */
    if (watch && !watch->armed && clipc__watches_set(watches, fd, watch->wanted, NULL) != CLIPC_OK)
      clipc__log(watches->runtime, CLIPC_LOG_ERROR, "socket %d cannot be watched any more", fd);
  }
  return false;
}

void clipc__watches_free(struct clipc__watches *watches) {
  if (watches->by_fd == NULL) return;
  for (int fd = 0; fd < watches->n_by_fd; fd++) watch_drop(watches, fd);
  clipc__free(clipc__runtime_allocator(watches->runtime), watches->by_fd);
  watches->by_fd = NULL;
  watches->n_by_fd = watches->n = 0;
}
