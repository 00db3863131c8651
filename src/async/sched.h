/* The insides of the scheduler, for task.c, queue.c, slab.c, timer.c, io.c, runtime.c, park.c, channel.c and oneshot.c.
 *
 *   wake --> queue.c: a worker's next one, its ring, the runtime's lists --> worker loop (runtime.c): run one turn
 *   nothing ready --> park.c: one sleeper watches descriptors and timers (io.c, timer.c), the others a semaphore
 *   each */
#ifndef CLIPC_SCHED_H
#define CLIPC_SCHED_H

#include "async/async.h"
#include "base/threads.h"

#include <pthread.h>
#include <semaphore.h>

/* ---- tasks. The frame lies behind the task. */

struct clipc__task_family; /* parent, children, a name: only for tasks that have one of them */

enum {
  CLIPC__TASK_QUEUED = 1,  /* in a queue, or to be put there when its turn is over */
  CLIPC__TASK_RUNNING = 2, /* in its function */
  CLIPC__TASK_ENDED = 4,
  CLIPC__TASK_CANCELLED = 8,
  CLIPC__TASK_IN_LINE = 16,   /* in a channel's line of senders, unless it has gone elsewhere since */
  CLIPC__TASK_WATCHED = 32,   /* a thread from outside waits for its end, by the runtime's signal `ended` */
  CLIPC__TASK_REFERENCE = 256 /* references are counted in the higher bits; none: the memory is free */
};

struct clipc__timer {                /* in a list of the wheel */
  struct clipc__timer *next, **link; /* link points to what points to it */
  _Atomic int64_t at_ns;             /* 0: not armed; else changed under the wheel's lock alone */
};

struct clipc_task {
  atomic_uint state;
  union {
    int status;           /* when it has ended */
    struct {              /* before */
      uint16_t select_at; /* where the next clipc_select begins */
      uint16_t messages;  /* that it may still send and receive in this turn */
    };
  };
  clipc_task *next; /* in a queue, or among free ones */
  const clipc_task_kind *kind;
  clipc_runtime *runtime;
  struct clipc__waiter joiner;
  struct clipc__task_family *family;
  int64_t deadline_ns, sleep_end_ns; /* 0 = none */
  struct clipc__timer timer;
};

CLIPC_PRIVATE void clipc__task_turn(clipc_task *task); /* runs one, taken from a queue, and does what its answer asks */
CLIPC_PRIVATE void clipc__task_end(clipc_task *task, int status);
CLIPC_PRIVATE bool clipc__task_retain_live(clipc_task *task); /* false when it is no task any more */
CLIPC_PRIVATE void clipc__task_name(const clipc_task *task, char name[40]);

/* ---- memory of tasks and oneshots (slab.c): free ones are kept by size, a few by each worker */

enum { CLIPC__SLAB_CLASSES = 32, CLIPC__SLAB_STEP = 16 }; /* up to 512 bytes; larger ones are the last class */

struct clipc__slab_list {
  clipc_task *first; /* linked by next, whatever they were */
  unsigned n;
};
struct clipc__slab_chunk;
struct clipc__slab {
  struct clipc__lock lock;
  struct clipc__slab_list free[CLIPC__SLAB_CLASSES];
  struct clipc__slab_chunk *chunks;
  void *fresh[CLIPC__SLAB_CLASSES]; /* not yet given out, of the newest chunk of each class */
  size_t n_fresh[CLIPC__SLAB_CLASSES];
  size_t n_left; /* when the runtime was let go: objects that are still out */
};
CLIPC_PRIVATE void *clipc__slab_take(clipc_runtime *runtime, size_t n_bytes); /* not zeroed */
CLIPC_PRIVATE void clipc__slab_give(clipc_runtime *runtime, void *memory, size_t n_bytes);
CLIPC_PRIVATE void clipc__slab_free_all(clipc_runtime *runtime);
/* Visits the tasks that live when it is called, without a lock; others that come or go meanwhile may be among them. */
CLIPC_PRIVATE void clipc__slab_each_task(clipc_runtime *runtime, void (*visit)(void *context, clipc_task *task),
                                         void *context);
/* When the runtime is to be freed, and nobody works for it any more: true when none of its objects is out; else the
 * last one that is given back calls clipc__runtime_free. */
CLIPC_PRIVATE bool clipc__slab_let_go(clipc_runtime *runtime);

/* ---- queues (queue.c) */

enum { CLIPC__RING = 256 };

struct clipc__worker {
  clipc_runtime *runtime;
  int index;
  unsigned turn;                /* counts turns: now and then something else comes first */
  unsigned n_next;              /* turns in a row that came from `next` */
  unsigned n_short;             /* and that were short tasks' */
  unsigned look_at, look_after; /* turn of the next look at timers and descriptors; turns from one to the next */
  int64_t looked_ns;
  clipc_task *next;                  /* woken last by this worker: its data are warm */
  atomic_bool in_turn;               /* of a task */
  atomic_bool is_helping;            /* with a product */
  bool searching, computed, between; /* computed: something long, since it was last looked at */
  bool has_watched;  /* it has left the descriptors and timers alone, and is to look whether one is near */
  bool is_unwatched; /* none was: it is to look again when one is set, or when it looks around */
  int64_t io_looked_ns;
  uint64_t random;
  atomic_llong n_started, n_ended; /* tasks, by this worker */
  struct clipc__slab_list kept[CLIPC__SLAB_CLASSES];
  sem_t wake;
  bool asleep;                   /* under park.lock */
  _Alignas(64) atomic_uint head; /* moved by the worker and by thieves */
  _Alignas(64) atomic_uint tail; /* moved by the worker */
  _Atomic(clipc_task *) ring[CLIPC__RING];
};

struct clipc__task_list { /* first in, first out, under a lock; n is looked at without it */
  struct clipc__lock lock;
  clipc_task *first, *last;
  atomic_uint n;
};

CLIPC_PRIVATE void clipc__queue_woken(clipc_task *task);   /* ready now, and likely to use what is in the cache */
CLIPC_PRIVATE void clipc__queue_yielded(clipc_task *task); /* ready, behind all others */
CLIPC_PRIVATE clipc_task *clipc__queue_take(struct clipc__worker *worker);
CLIPC_PRIVATE clipc_task *clipc__queue_take_short(clipc_runtime *runtime);
CLIPC_PRIVATE bool clipc__queue_any(clipc_runtime *runtime);
CLIPC_PRIVATE void clipc__queue_share_next(struct clipc__worker *worker); /* before something long */
CLIPC_PRIVATE void clipc__queue_close(clipc_runtime *runtime); /* it has stopped: no task is put into a list any more */
CLIPC_PRIVATE struct clipc__worker *clipc__worker_here(clipc_runtime *runtime); /* this thread's, or NULL */

/* ---- timers (timer.c): a hierarchical wheel of lists, ticks of 2^16 ns */

enum { CLIPC__WHEEL_LEVELS = 7, CLIPC__WHEEL_SLOTS = 64 };

struct clipc__wheel {
  struct clipc__lock lock;
  int64_t elapsed; /* ticks that are done with */
  uint64_t occupied[CLIPC__WHEEL_LEVELS];
  struct clipc__timer *slots[CLIPC__WHEEL_LEVELS][CLIPC__WHEEL_SLOTS];
  atomic_llong next_ns; /* when to look next; INT64_MAX = there is no timer */
};
CLIPC_PRIVATE void clipc__timer_arm(clipc_task *task, int64_t at_ns); /* at or soon after; instead of what was armed */
CLIPC_PRIVATE void clipc__timer_disarm(clipc_task *task);
CLIPC_PRIVATE void clipc__timer_fire(clipc_runtime *runtime, int64_t now_ns); /* wakes who is due */

/* ---- descriptors (io.c) */

struct clipc__poller {
  int epoll_fd, event_fd, timer_fd;
  atomic_bool rung; /* event_fd holds a wake-up */
  pthread_mutex_t mutex;
  int64_t alarm_ns;         /* that timer_fd is set to, under mutex; INT64_MAX = none */
  struct clipc__io **by_fd; /* [n_by_fd], under mutex */
  size_t n_by_fd;
  atomic_int n_watched;
};
CLIPC_PRIVATE clipc_status clipc__poller_open(struct clipc__poller *poller, clipc_error *error);
CLIPC_PRIVATE void clipc__poller_close(clipc_runtime *runtime);
/* Wakes the tasks of what happened; false when a signal came. is_rung_for: the caller is the one whom rings and the
 * alarm are to wake; others leave them alone, or he would sleep on. */
CLIPC_PRIVATE bool clipc__poller_look(clipc_runtime *runtime, int timeout_ms, bool is_rung_for);
CLIPC_PRIVATE void clipc__poller_ring(clipc_runtime *runtime);  /* ends a look that waits */
CLIPC_PRIVATE void clipc__poller_alarm(clipc_runtime *runtime); /* ends it when the next timer is due */

/* ---- sleep (park.c) */

struct clipc__park {
  struct clipc__lock lock;
  atomic_int n_asleep, n_searching;
  struct clipc__worker *watcher; /* the sleeper that looks at the descriptors; under lock */
};
CLIPC_PRIVATE void
clipc__park_wake_one(clipc_runtime *runtime); /* a task is ready: unless somebody is looking already */
CLIPC_PRIVATE void clipc__park_wake(clipc_runtime *runtime, int n);
/* Stays awake a little longer, for more work of a computation, or until it holds (NULL: nothing is waited for). */
CLIPC_PRIVATE void clipc__park_look(clipc_runtime *runtime, unsigned jobs_seen, bool (*holds)(const void *context),
                                    const void *context);
CLIPC_PRIVATE void clipc__park_wake_to_help(clipc_runtime *runtime, int n); /* a product wants n threads */
CLIPC_PRIVATE void clipc__park_sleep(struct clipc__worker *worker, unsigned jobs_seen);
CLIPC_PRIVATE void clipc__park_found(struct clipc__worker *worker); /* it was searching and has found something */
CLIPC_PRIVATE void
clipc__park_hand_over(struct clipc__worker *worker); /* it has watched, and may now be busy for long */

/* ---- runtimes (runtime.c) */

enum { CLIPC__OPEN = 0, CLIPC__DRAINING = 1, CLIPC__CANCELLING = 2, CLIPC__STOPPED = 3 };

struct clipc_runtime {
  clipc_runtime_options options; /* a copy, see clipc__options_copy */
  clipc_allocator allocator;
  atomic_int references, stage;
  unsigned fork_count; /* of the process when it was opened */
  int n_workers;       /* with threads; one more is the guest: the host, or a thread from outside that waits */
  struct clipc__worker *workers;
  pthread_mutex_t guest;
  struct clipc__crew crew;
  struct clipc__task_list injected, shorts;
  struct clipc__lock family_lock;
  struct clipc__slab slab;
  struct clipc__wheel wheel;
  struct clipc__poller poller;
  struct clipc__park park;
  struct clipc__signal ended;      /* of tasks that are WATCHED */
  atomic_llong n_started, n_ended; /* tasks, by threads that are no workers */
  atomic_llong clock_ns;           /* of a seeded runtime */
  pthread_mutex_t slots_mutex;
  void *slots[CLIPC__N_SLOTS];
  const struct clipc__slot_kind *slot_kinds[CLIPC__N_SLOTS];
};

CLIPC_PRIVATE void clipc__runtime_free(clipc_runtime *runtime);
/* Checks options (NULL = defaults) and copies them, with what they point to. On failure *copy holds nothing. */
CLIPC_PRIVATE clipc_status clipc__options_copy(clipc_runtime_options *copy, const clipc_runtime_options *options,
                                               clipc_error *error);
CLIPC_PRIVATE void clipc__options_free(clipc_runtime_options *copy);
CLIPC_PRIVATE long long clipc__runtime_n_tasks(const clipc_runtime *runtime);
CLIPC_PRIVATE void clipc__runtime_tick(struct clipc__worker *worker,
                                       int64_t now_ns);               /* timers and descriptors, without waiting */
CLIPC_PRIVATE bool clipc__runtime_turn(struct clipc__worker *worker); /* runs one task; false: none is ready */
CLIPC_PRIVATE bool clipc__runtime_help(struct clipc__worker *worker); /* with a product; false: there is none */

/* What runs on this thread. */
struct clipc__here {
  struct clipc__worker *worker;
  clipc_task *task;
  clipc_channel *owed; /* the task has made room in it, and its senders are still to be woken; with a reference */
  bool in_callback;
};
CLIPC_PRIVATE void clipc__channel_settle(struct clipc__here *here); /* at the end of the turn */
CLIPC_PRIVATE struct clipc__here *clipc__here(void);
CLIPC_PRIVATE void clipc__runtime_enter(struct clipc__worker *worker); /* this thread is the worker */
CLIPC_PRIVATE void clipc__runtime_leave(const struct clipc__here *before);
CLIPC_PRIVATE int64_t clipc__clock_ns(void);

#endif
