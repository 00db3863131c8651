/* Descriptors: one epoll holds the sources, an event descriptor that ends a wait, and a timer descriptor for the next
 * timer, so that a host can watch the one descriptor of the epoll. Sources are found by their number, under a lock,
 * when they have something to say: what was forgotten meanwhile is not touched. */
#include "async/sched.h"

#ifdef __linux__
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum { POLLER_EVENTS = 64 };

static bool watch_own(struct clipc__poller *poller, int fd) {
  struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
  return fd >= 0 && epoll_ctl(poller->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

clipc_status clipc__poller_open(struct clipc__poller *poller, clipc_error *error) {
  pthread_mutex_init(&poller->mutex, NULL);
  poller->alarm_ns = INT64_MAX;
  poller->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  poller->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  poller->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
  if (poller->epoll_fd >= 0 && watch_own(poller, poller->event_fd) && watch_own(poller, poller->timer_fd))
    return CLIPC_OK;
  return clipc__fail(error, CLIPC_E_RUNTIME_UNAVAILABLE, "a runtime's descriptors: %s", strerror(errno));
}

void clipc__poller_close(clipc_runtime *runtime) {
  struct clipc__poller *poller = &runtime->poller;
  int fds[] = {poller->epoll_fd, poller->event_fd, poller->timer_fd};
  for (int i = 0; i < 3; i++)
    if (fds[i] >= 0) close(fds[i]);
  clipc__free(&runtime->allocator, poller->by_fd);
  poller->by_fd = NULL;
  pthread_mutex_destroy(&poller->mutex);
}

static void poller_happened(struct clipc__poller *poller, const struct epoll_event *event, bool is_rung_for) {
  uint64_t unused;
  if (event->data.fd == poller->event_fd) { /* in this order: who rings in between is heard all the same, now */
    if (is_rung_for && read(poller->event_fd, &unused, sizeof unused) > 0) atomic_store(&poller->rung, false);
  } else if (event->data.fd == poller->timer_fd) {
    if (!is_rung_for) return;
    pthread_mutex_lock(&poller->mutex);
    if (read(poller->timer_fd, &unused, sizeof unused) > 0) poller->alarm_ns = INT64_MAX;
    pthread_mutex_unlock(&poller->mutex);
  } else {
    pthread_mutex_lock(&poller->mutex);
    struct clipc__io *io = (size_t)event->data.fd < poller->n_by_fd ? poller->by_fd[event->data.fd] : NULL;
    if (io) {
      atomic_fetch_or(&io->happened, event->events);
      clipc__task_wake(io->task);
    }
    pthread_mutex_unlock(&poller->mutex);
  }
}

bool clipc__poller_look(clipc_runtime *runtime, int timeout_ms, bool is_rung_for) {
  struct epoll_event events[POLLER_EVENTS];
  int n = epoll_wait(runtime->poller.epoll_fd, events, POLLER_EVENTS, timeout_ms);
  for (int i = 0; i < n; i++) poller_happened(&runtime->poller, &events[i], is_rung_for);
  return n >= 0;
}

void clipc__poller_ring(clipc_runtime *runtime) {
  if (atomic_exchange(&runtime->poller.rung, true)) return;
  uint64_t one = 1;
  while (write(runtime->poller.event_fd, &one, sizeof one) < 0 && errno == EINTR) continue;
}

void clipc__poller_alarm(clipc_runtime *runtime) {
  struct clipc__poller *poller = &runtime->poller;
  if (runtime->options.seed != 0) return;
  pthread_mutex_lock(&poller->mutex);
  int64_t next_ns = atomic_load(&runtime->wheel.next_ns);
  if (next_ns != poller->alarm_ns) {
    struct itimerspec when = {{0, 0}, {0, 0}};
    if (next_ns != INT64_MAX) when.it_value = (struct timespec){next_ns / 1000000000, next_ns % 1000000000};
    timerfd_settime(poller->timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
    poller->alarm_ns = next_ns;
  }
  pthread_mutex_unlock(&poller->mutex);
}

/* ---- sources */

static bool poller_room(struct clipc__poller *poller, const clipc_allocator *allocator, size_t fd) {
  if (fd < poller->n_by_fd) return true;
  size_t n = poller->n_by_fd * 2 > fd + 64 ? poller->n_by_fd * 2 : fd + 64;
  struct clipc__io **by_fd = clipc__alloc_zeroed(allocator, n, sizeof *by_fd);
  if (by_fd == NULL) return false;
  if (poller->n_by_fd) memcpy(by_fd, poller->by_fd, poller->n_by_fd * sizeof *by_fd);
  clipc__free(allocator, poller->by_fd);
  poller->by_fd = by_fd;
  poller->n_by_fd = n;
  return true;
}

/* Whether epoll knows the descriptor is epoll's to say: one that was closed is gone from it, one that was forgotten is
 * not. */
static bool poller_arm(struct clipc__poller *poller, const struct clipc__io *io, uint32_t events) {
  struct epoll_event event = {.events = events | EPOLLONESHOT, .data.fd = io->fd};
  int likely = io->is_watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, other = io->is_watched ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
  if (epoll_ctl(poller->epoll_fd, likely, io->fd, &event) == 0) return true;
  return (errno == ENOENT || errno == EEXIST) && epoll_ctl(poller->epoll_fd, other, io->fd, &event) == 0;
}

clipc_status clipc__io_watch(clipc_runtime *runtime, struct clipc__io *io, uint32_t events, clipc_error *error) {
  struct clipc__poller *poller = &runtime->poller;
  clipc_status status = CLIPC_OK;
  pthread_mutex_lock(&poller->mutex);
  if (!poller_room(poller, &runtime->allocator, (size_t)io->fd))
    status = clipc__no_memory(error, "a watched descriptor");
  else if (!poller_arm(poller, io, events))
    status = clipc__fail(error, CLIPC_E_IO, "watching descriptor %d: %s", io->fd, strerror(errno));
  if (status == CLIPC_OK) {
    if (!io->is_watched) atomic_fetch_add(&poller->n_watched, 1);
    poller->by_fd[io->fd] = io;
    io->is_watched = true;
  }
  pthread_mutex_unlock(&poller->mutex);
  return status;
}

/* epoll is not told: libcurl may have closed the descriptor already, and its number may be another's by now. What stays
 * armed speaks once more at most, to nobody. */
void clipc__io_forget(clipc_runtime *runtime, struct clipc__io *io) {
  if (!io->is_watched) return;
  struct clipc__poller *poller = &runtime->poller;
  pthread_mutex_lock(&poller->mutex);
  if (poller->by_fd[io->fd] == io) poller->by_fd[io->fd] = NULL;
  io->is_watched = false;
  atomic_fetch_sub(&poller->n_watched, 1);
  pthread_mutex_unlock(&poller->mutex);
}

#else /* no epoll: a runtime cannot be had */

clipc_status clipc__poller_open(struct clipc__poller *poller, clipc_error *error) {
  pthread_mutex_init(&poller->mutex, NULL);
  return clipc__fail(error, CLIPC_E_RUNTIME_UNAVAILABLE, "runtimes need Linux's epoll");
}
void clipc__poller_close(clipc_runtime *runtime) { pthread_mutex_destroy(&runtime->poller.mutex); }
bool clipc__poller_look(clipc_runtime *runtime, int timeout_ms, bool is_rung_for) {
  (void)runtime, (void)timeout_ms, (void)is_rung_for;
  return false;
}
void clipc__poller_ring(clipc_runtime *runtime) { (void)runtime; }
void clipc__poller_alarm(clipc_runtime *runtime) { (void)runtime; }
clipc_status clipc__io_watch(clipc_runtime *runtime, struct clipc__io *io, uint32_t events, clipc_error *error) {
  (void)runtime, (void)io, (void)events;
  return clipc__fail(error, CLIPC_E_RUNTIME_UNAVAILABLE, "runtimes need Linux's epoll");
}
void clipc__io_forget(clipc_runtime *runtime, struct clipc__io *io) { (void)runtime, (void)io; }

#endif
