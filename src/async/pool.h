/* Models, their pools and workers.
 *
 *   registry --key--> entry (a model: engine, memory) --capability--> pool --> seats, each with a worker
 *
 *   registry.c  names, lookups, opening and closing      submit.c  a request goes to a seat's channel; fetching first
 *   tables.c    the five capabilities                    ping.c    whether a worker works
 *   keeper.c    the one task that changes pools: spawns, evicts, replaces, times out; spawn.c  its seats and orders
 *   loading.c      the task of a loader                     worker.c  the task of a worker
 *   budget.c    the budget                               metrics.c what is counted */
#ifndef CLIPC_POOL_H
#define CLIPC_POOL_H

#include "async/fetch.h"
#include "async/pending.h"

/* A seat's channels: four of requests (enum clipc__queue), then these. */
enum { CLIPC__SEAT_HEALTH = CLIPC__N_QUEUES, CLIPC__SEAT_SHUTDOWN, CLIPC__N_SEAT_CHANNELS };
enum { CLIPC__MAX_SEATS = 64 };

/* Where one worker after another sits: requests wait in its channels, whoever takes them out. While it is empty the
 * keeper does. */
struct clipc__seat {
  struct clipc_pool *pool;
  int index;
  clipc_channel *channels[CLIPC__N_SEAT_CHANNELS];
  atomic_int state; /* clipc_worker_state; DEAD and FAILED: empty */
  atomic_int load;  /* requests that were given to it and are not done */
  atomic_bool left; /* its worker has gone, and the keeper has not seen it yet */
  atomic_bool load_failed;
  atomic_llong active_ns;
  atomic_ullong n_calls;
  struct clipc__waiter waiter; /* its worker, until the model is loaded */
  bool told_to_go;             /* the keeper's */
  bool was_ready;              /* the last worker's; written by it */
  clipc_error failure;         /* why it FAILED; the worker's, before `left` */
  clipc_error load_error;      /* why the model could not be loaded; the keeper's, before `load_failed` */
};

struct clipc_pool {
  struct clipc_registry *registry;
  struct clipc__entry *entry;
  clipc_capability capability;
  size_t capacities[CLIPC__N_QUEUES];
  _Atomic(struct clipc__seat *) seats[CLIPC__MAX_SEATS]; /* [n_seats] made once, never freed before the pool */
  atomic_int n_seats;
  atomic_uint drawn;                                /* random choices */
  atomic_bool wants_more;                           /* all workers were busy */
  atomic_size_t n_fetching, n_under_way, n_backlog; /* n_backlog: from first_waiting on */
  struct clipc__lock lock;                          /* of what follows */
  bool closed;                                      /* nothing new is taken */
  clipc_pending *first, *last;                      /* under way, by next and previous */
  clipc_pending *first_waiting, *last_waiting;      /* no seat is there yet */
  size_t n_waiting[CLIPC__N_QUEUES];
  int64_t earliest_ns; /* when to look for those that are late; INT64_MAX */
  struct clipc__order *orders;
  /* the keeper's own */
  int n_lost;           /* workers that died and are not replaced yet */
  int64_t no_growth_ns; /* until then the budget is known to be short */
};

enum clipc__load_state { CLIPC__UNLOADED, CLIPC__LOADING, CLIPC__LOADED };

/* A model by its name. */
struct clipc__entry {
  struct clipc_registry *registry;
  char *key;
  int capabilities; /* bits */
  clipc_loader loader;
  char *path;            /* of clipc_registry_add_model; else NULL */
  clipc_options options; /* the same's */
  struct clipc_pool pools[CLIPC_N_CAPABILITIES];
  atomic_int state;       /* clipc__load_state, changed by the keeper */
  atomic_bool evict;      /* it is to go, now or when it is idle */
  atomic_bool load_ended; /* what follows was written by the load task */
  clipc_task *load_task;
  clipc_error load_error;
  clipc_engine engine;       /* LOADED */
  clipc_guard *guard, *more; /* for its memory: what was expected, and what it took beyond */
  size_t dimensions;         /* the one that there is; written before */
  atomic_size_t dimension;   /* of the engine that was loaded first; 0 before */
  atomic_llong used_ns;      /* a request was made */
};

struct clipc__snapshot {         /* the entries at one moment; replaced as a whole */
  struct clipc__snapshot *older; /* kept until the registry goes: somebody may be looking */
  size_t n;
  struct clipc__entry *entries[];
};

struct clipc__counters { /* clipc_metrics, as it is counted */
  atomic_ullong n_requests, n_items, n_batches, n_batched, n_loads, n_evictions, n_spawned, n_lost;
  atomic_ullong by_status[CLIPC_N_STATUSES], by_capability[CLIPC_N_CAPABILITIES];
  atomic_ullong queued[CLIPC_N_BUCKETS], computing[CLIPC_N_BUCKETS];
};

struct clipc_registry {
  clipc_runtime *runtime;
  clipc_allocator allocator;
  clipc_registry_options options; /* defaults filled in */
  atomic_size_t references;       /* the user, the keeper, tasks of workers, loads and fetches, requests under way */
  _Atomic(struct clipc__snapshot *) snapshot;
  struct clipc__lock lock; /* of adding */
  atomic_bool attention;   /* something for the keeper to do */
  struct clipc__waiter keeper;
  atomic_bool keeper_over;
  struct clipc__signal over; /* keeper_over */
  atomic_bool closing;       /* clipc_registry_close: nothing is finished any more */
  atomic_bool stopping;      /* the runtime's shutdown: what is under way may finish */
  struct clipc__counters counters;
  struct clipc__registries *registries; /* of the runtime */
  clipc_registry *next_registry;        /* in them */
};

/* ---- registry.c */
CLIPC_PRIVATE void clipc__registry_retain(clipc_registry *registry);
CLIPC_PRIVATE void clipc__registry_release(clipc_registry *registry);
CLIPC_PRIVATE void clipc__registry_attend(clipc_registry *registry); /* wakes the keeper */
CLIPC_PRIVATE struct clipc__entry *clipc__registry_find(const clipc_registry *registry, const char *key);
/* Tells the model that was idle longest to go, but `except`: 1 = there was one, or one is going already; 0 = none. */
CLIPC_PRIVATE bool clipc__registries_evict(clipc_runtime *runtime, const struct clipc__entry *except);

/* ---- submit.c */
/* A pending result that is over already; NULL without memory. */
CLIPC_PRIVATE clipc_pending *clipc__request_refuse(clipc_runtime *runtime, const clipc_request *request,
                                                   clipc_status status, const char *sentence);
/* When it was made, and when it must be complete. */
CLIPC_PRIVATE void clipc__request_time(clipc_pending *pending, const clipc_registry *registry);
/* Into the list of what is under way; false: the pool is closed. */
CLIPC_PRIVATE bool clipc__pool_enter(struct clipc_pool *pool, clipc_pending *pending);
/* A request of the pool is complete. */
CLIPC_PRIVATE void clipc__pool_left(struct clipc_pool *pool, clipc_pending *pending);
/* Gives a request, and the reference that comes with it, to a seat, or where there is none to the backlog; CLIPC_OK or
 * _QUEUE_FULL. */
CLIPC_PRIVATE clipc_status clipc__pool_dispatch(struct clipc_pool *pool, clipc_pending *pending);
/* The same of one that was let in already: no seat with room: the backlog has it (false), and the keeper is not told.
 */
CLIPC_PRIVATE bool clipc__pool_redispatch(struct clipc_pool *pool, clipc_pending *pending);
/* Completes all that is under way. */
CLIPC_PRIVATE void clipc__pool_fail(struct clipc_pool *pool, clipc_status status, const char *sentence);
/* Completes those whose time is over, and returns the next deadline; INT64_MAX = none. */
CLIPC_PRIVATE int64_t clipc__pool_expire(struct clipc_pool *pool, int64_t now_ns);
/* The oldest of the backlog, or NULL. */
CLIPC_PRIVATE clipc_pending *clipc__pool_backlog(struct clipc_pool *pool);
CLIPC_PRIVATE void clipc__seat_posted(struct clipc__seat *seat); /* after a message: its worker may just have gone */
CLIPC_PRIVATE bool clipc__seat_is_empty(const struct clipc__seat *seat);
CLIPC_PRIVATE clipc_pending *clipc__seat_take(struct clipc__seat *seat, enum clipc__queue queue); /* without waiting */

/* ---- keeper.c */
CLIPC_PRIVATE clipc_status clipc__keeper_spawn(clipc_registry *registry,
                                               clipc_error *error); /* takes a reference over */
struct clipc__keeper {
  clipc_registry *registry; /* with a reference */
  int64_t next_ns;          /* when to look, whatever happens; INT64_MAX = need not */
};

/* ---- loading.c */
CLIPC_PRIVATE clipc_status clipc__load_start(struct clipc__entry *entry, const clipc_loader *loader,
                                             clipc_error *error);

/* ---- worker.c */
struct clipc__order { /* a worker that is wanted */
  struct clipc__order *next;
  bool has_loader;
  clipc_loader loader;
  uint64_t worker_bytes;  /* 0 = as the engine says */
  clipc_guard *guard;     /* NULL = is still to be claimed */
  clipc_pending *spawned; /* NULL = nobody asks; else a reference */
  bool may_evict;         /* other models, for its memory */
};
/* Fills the seat; the order's guard and pending go with it, whatever comes. The keeper calls it. */
CLIPC_PRIVATE clipc_status clipc__worker_start(struct clipc__seat *seat, const struct clipc__order *order,
                                               clipc_error *error);
/* The status that those get who wait for something that could not be spawned. */
CLIPC_PRIVATE clipc_status clipc__spawn_status(clipc_status status);

/* ---- spawn.c */
/* Makes a worker, and has the model loaded where it is not. The keeper calls it; the order's guard and pending are used
 * up, whatever comes. */
CLIPC_PRIVATE clipc_status clipc__pool_spawn(struct clipc_pool *pool, const struct clipc__order *order,
                                             clipc_error *error);

/* ---- budget.c */
struct clipc__claim { /* all zero at first; in the task's frame */
  struct clipc__claim *next, *previous;
  struct clipc__memory *memory; /* whose list it is in */
  struct clipc__waiter waiter;
};
/* In a task: claims n_bytes, evicting idle models (but `except`) where it must and may. CLIPC_OK, _WAITING,
 * _MEMORY_BUDGET, _NO_MEMORY, _CANCELLED, _TIMED_OUT. After another answer than WAITING the claim is as at first. */
CLIPC_PRIVATE int clipc__memory_claim(clipc_task *task, struct clipc__claim *claim, clipc_guard **out, uint64_t n_bytes,
                                      bool may_evict, const struct clipc__entry *except, clipc_error *error);
CLIPC_PRIVATE void clipc__memory_give_up(struct clipc__claim *claim); /* where the task ends before an answer */
CLIPC_PRIVATE void clipc__memory_shrink(clipc_guard *guard, uint64_t n_bytes); /* to less; NULL is fine */
CLIPC_PRIVATE void clipc__memory_look_again(clipc_runtime *runtime);           /* something was evicted */
CLIPC_PRIVATE void clipc__memory_trim(void); /* freed memory goes back to the system */

/* ---- metrics.c */
CLIPC_PRIVATE void clipc__count_time(atomic_ullong histogram[CLIPC_N_BUCKETS], int64_t ns);

#endif
