/* The sockets of a library that says for itself which it has, and what it waits for on them. */
#ifndef CLIPC_WATCH_H
#define CLIPC_WATCH_H

#include "async/async.h"

struct clipc__watch;

/* Zero it but for runtime and task. One task owns it. */
struct clipc__watches {
  clipc_runtime *runtime;
  clipc_task *task;            /* woken when something happens */
  struct clipc__watch **by_fd; /* [n_by_fd], NULL where nothing is watched */
  int n_by_fd, n;
};

/* Waits for these events (EPOLLIN, EPOLLOUT) on a socket from now on; 0 = forget it, whether it is closed or not. */
CLIPC_PRIVATE clipc_status clipc__watches_set(struct clipc__watches *watches, int fd, uint32_t events,
                                              clipc_error *error);

/* Calls ready for sockets on which something happened, at most n_most of them; it may set others. True when there may
 * be more. */
CLIPC_PRIVATE bool clipc__watches_turn(struct clipc__watches *watches, int n_most,
                                       void (*ready)(void *context, int fd, uint32_t events), void *context);
CLIPC_PRIVATE void clipc__watches_free(struct clipc__watches *watches);

#endif
