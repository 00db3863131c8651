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

/* Threads this process may use by its affinity mask and its cgroup; at least 1. */
CLIPC_PRIVATE int clipc__usable_threads(void);

/* Stops and joins the threads; the next clipc__parallel makes them anew. Nothing may be running. */
CLIPC_PRIVATE void clipc__threads_stop(void);

#define CLIPC__MAX_THREADS 256

#endif
