/* Pending results: a request, its answer and who waits for it, in one piece of memory.
 *   pending.c    states, waiting, chunks of streams     completions.c  the queue of finished ones
 *   requests.c   makes one from a clipc_request         call.c         what engines see of it */
#ifndef CLIPC_PENDING_H
#define CLIPC_PENDING_H

#include "async/async.h"

struct clipc__seat; /* pool.h */
struct clipc__fetch;

/* The channels of a worker that carry requests. */
enum clipc__queue { CLIPC__QUEUE_SINGLE, CLIPC__QUEUE_URL, CLIPC__QUEUE_BASE64, CLIPC__QUEUE_BATCH, CLIPC__N_QUEUES };

/* A request as an engine sees it. All that the request points to lies behind the pending result, but what was fetched.
 */
struct clipc_call {
  clipc_request request;
  clipc_input *inputs;      /* request.inputs */
  size_t n_items;           /* inputs, or 1 where there is only a prompt */
  clipc_error *item_errors; /* [n_items] */
  size_t dimension;         /* of the rows of embeddings */
  float *embeddings;        /* [n_items, dimension]; NULL until an engine asks */
  bool embeddings_apart;    /* in memory of their own */
  float *probabilities;     /* [n_items, n_labels], VISION */
  struct clipc__bytes text;
  size_t n_sent;                /* chunks */
  struct clipc__fetch **bodies; /* [n_inputs] of URLs, NULL where there is none; kept as long as the call */
};

struct clipc__piece; /* a chunk in the list of a stream */

struct clipc_pending {
  struct clipc_call call; /* first: a call is its pending result */
  atomic_uint references; /* the caller's, and one of whoever is to complete it */
  atomic_int stage;
  clipc_runtime *runtime;
  clipc_allocator allocator;
  clipc_error error;
  clipc_result result;
  struct clipc__signal signal;
  struct clipc__waiter waiter; /* the task that awaits it, or its chunks */
  struct clipc__waiter worker; /* the task that computes it, where that waits */
  struct clipc__lock lock;     /* of the chunks */
  struct clipc__piece *first_chunk, *last_chunk, *unread, *taken;
  size_t n_unread;
  bool is_kept; /* complete: chunks stay, for result.pictures */
  int place;    /* in the queue of finished ones, under its lock */
  enum clipc__queue queue;
  struct clipc_pool *pool; /* whose list it is in until it is complete; NULL = none */
  struct clipc__seat *seat;
  clipc_pending *next, *previous;                /* in the pool's list */
  clipc_pending *next_waiting;                   /* in the pool's backlog: also when it is complete already */
  clipc_pending *next_finished;                  /* in the queue of finished ones */
  int64_t submitted_ns, started_ns, deadline_ns; /* 0 = none */
};

/* The copy of a request, with room for rows of `dimension` (0 = not known yet); two references. The request may be
 * NULL. It is not looked at whether the request makes sense. */
CLIPC_PRIVATE clipc_status clipc__pending_make(clipc_pending **out, clipc_runtime *runtime,
                                               const clipc_request *request, size_t dimension, clipc_error *error);
/* NULL, or what is wrong with a request. */
CLIPC_PRIVATE const char *clipc__request_fault(const clipc_request *request);
CLIPC_PRIVATE clipc_pending *clipc__pending_retain(clipc_pending *pending);
CLIPC_PRIVATE void clipc__pending_release(clipc_pending *pending);

/* Completes it, unless it is complete: true when it was this call. error may be NULL where status is CLIPC_OK. The
 * caller holds a reference. The user's callback runs in here. */
CLIPC_PRIVATE bool clipc__pending_complete(clipc_pending *pending, clipc_status status, const clipc_error *error);
/* The same as its items say: a request of one that is no batch has its item's status. */
CLIPC_PRIVATE bool clipc__pending_finish(clipc_pending *pending);
CLIPC_PRIVATE bool clipc__pending_is_open(const clipc_pending *pending); /* nobody has begun to complete it */
CLIPC_PRIVATE bool clipc__pending_fail(clipc_pending *pending, clipc_status status, const char *sentence);

/* The queue of finished ones. */
CLIPC_PRIVATE void clipc__completions_retain(clipc_completions *completions);
CLIPC_PRIVATE void clipc__completions_release(clipc_completions *completions);
CLIPC_PRIVATE void clipc__completions_push(clipc_completions *completions, clipc_pending *pending);
/* The caller gives it up: true when it is still under way. */
CLIPC_PRIVATE bool clipc__completions_leave(clipc_completions *completions, clipc_pending *pending);

/* Turns BASE64 inputs into BYTES, in place, from item *at on; false after a few hundred KB: there is more to do. What
 * cannot be decoded gets its item's error. */
CLIPC_PRIVATE bool clipc__call_decode(clipc_call *call, size_t *at, uint64_t max_bytes);
/* Its rows of vectors, made now where there was no room yet; NULL when there is no memory. */
CLIPC_PRIVATE float *clipc__call_rows(clipc_call *call, size_t dimension);
/* Adds to the text of the result, a NUL behind it; false when there is no memory. */
CLIPC_PRIVATE bool clipc__call_append_text(clipc_call *call, const char *text, size_t n_bytes);
/* Every item has failed already, and there is at least one. */
CLIPC_PRIVATE bool clipc__call_all_failed(const clipc_call *call);

#endif
