/* An engine for tests: it counts what is asked of it, waits while its gate is closed, and fails when it is told to. */
#ifndef CLIPC_FAKE_ENGINE_H
#define CLIPC_FAKE_ENGINE_H

#include <stdatomic.h>

#include "testing.h"

struct fake {
  /* what it does; zero = as a good engine would */
  size_t dimension, max_batch;
  uint64_t expected_bytes, shared_bytes, worker_bytes;
  int load_turns;            /* that the loader yields before it is done */
  int load_never;            /* 1: it yields for ever, 2: it waits for something that never comes, 3: it sleeps */
  clipc_status load_status;  /* not OK: the loader fails with "the fake broke" */
  atomic_int open_fails;     /* no worker can be made */
  atomic_int gate;           /* not 0: computing waits, asleep */
  atomic_int stuck;          /* not 0: computing waits for something that never comes */
  atomic_int compute_status; /* of every computation */
  int chunks;                /* that a stream has */
  size_t touched_bytes;      /* that the loader takes and writes */
  int release_ms;            /* how long it takes to go */
  /* what was asked */
  atomic_int n_loads, n_dropped, n_released, n_opened, n_closed, n_batches, n_calls, most_items;
  void *touched;
};

/* Texts are embedded as [length, first byte, ...]; "poison" fails as an item, "venom" makes the whole computation fail.
 */
clipc_loader fake_loader(struct fake *fake);

clipc_runtime *fake_runtime(const clipc_runtime_options *options); /* NULL = two threads */
clipc_registry *fake_registry(clipc_runtime *runtime, const clipc_registry_options *options);
void fake_add(clipc_registry *registry, const char *key, int capabilities, struct fake *fake);

clipc_pending *ask(clipc_registry *registry, const char *key, const char *text); /* one text to be embedded */
clipc_status wait_and_close(clipc_pending *pending);                             /* 20 s at most */
/* Sleeps until it holds, 20 s at most. */
#define EVENTUALLY(CONDITION)                                                                                          \
  do {                                                                                                                 \
    for (int ms_ = 0; !(CONDITION) && ms_ < 20000; ms_++) nap();                                                       \
    assert_true(CONDITION);                                                                                            \
  } while (0)
void nap(void); /* a millisecond */

#endif
