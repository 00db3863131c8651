/* The one set of threads of the process: made on first use, asleep when there is nothing to do. */
#ifndef CLIPC_THREADS_H
#define CLIPC_THREADS_H

#include "base/base.h"

/* One chunk of a job. slot is in 0 .. n_threads - 1 and no two chunks that run at the same time share
 * one, so that a job can keep scratch memory per slot. */
typedef void clipc__chunk_function(void *context, size_t chunk, int slot);

/* Runs chunks 0 .. n_chunks - 1, in any order, on at most n_threads threads, the caller being one of
 * them (slot 0); returns when all have run. Where threads cannot be made the caller runs more itself.
 * Any number of threads may call this at the same time; a chunk must not. */
CLIPC_PRIVATE void clipc__parallel(int n_threads, size_t n_chunks, clipc__chunk_function *run, void *context);

/* Threads of the set that somebody else feeds: the one hook by which the scheduler gets its threads and gives idle ones
 * other work. Each hired thread is inside main until that returns; there it takes part in jobs by
 * clipc__threads_help. */
struct clipc__crew {
  void (*main)(void *context, int index); /* index in 0 .. n - 1 */
  void (*wake)(void *context, int n); /* a job was posted: up to n threads of the crew should look; must not block */
  void *context;
  int n_inside, n_hired; /* from here on the set's own */
  struct clipc__crew *next;
};

/* Hires n threads; false where so many cannot be had, and then none is. */
CLIPC_PRIVATE bool clipc__threads_hire(struct clipc__crew *crew, int n);

/* Waits until each has left main, which the caller has asked for; they are the set's again. */
CLIPC_PRIVATE void clipc__threads_dismiss(struct clipc__crew *crew);

/* Takes part in a job that has room until none of its chunks is left; false when there is none. */
CLIPC_PRIVATE bool clipc__threads_help(void);

/* Jobs posted, ever: a crew's thread that found no room may sleep as long as this stays. */
CLIPC_PRIVATE unsigned clipc__threads_posted(void);

/* What this thread does when a computation begins and between any two chunks; NULL = nothing. */
CLIPC_PRIVATE void clipc__threads_between(void (*between)(void *context), void *context);

/* From here on forks are watched: before anything that must not be used in a child is made. Once is enough. */
CLIPC_PRIVATE void clipc__threads_watch_forks(void);

/* Forks since then that led to this process; made threads do not exist in a child. */
CLIPC_PRIVATE unsigned clipc__fork_count(void);

/* Threads this process may use by its affinity mask and its cgroup; at least 1. */
CLIPC_PRIVATE int clipc__usable_threads(void);

/* Stops and joins the threads; the next clipc__parallel makes them anew. Nothing may be running. */
CLIPC_PRIVATE void clipc__threads_stop(void);

#define CLIPC__MAX_THREADS 256

#endif
