/* Fetching: the API that tasks call, and the one task per runtime that does it.
 * Started and cancelled fetches come as news under a lock. The task starts what has a place, lets libcurl and c-ares go
 * on with what happened on their sockets, ends what is out of time, and sleeps until something comes. It ends a
 * minute after the last fetch, and with it everything that it had open; the next fetch starts another. Whatever
 * becomes of the task, every fetch is over exactly once. */
#include "async/fetch.h"
#include "async/address.h"
#include "async/fetch_engine.h"

#include <string.h>

#if CLIPC_CURL

#include <pthread.h>
#include <signal.h>
#include <time.h>

#define FETCH_IDLE_NS INT64_C(60000000000)    /* how long connections are kept */
#define FETCH_LOOK_NS INT64_C(5000000)        /* between two looks at everybody's time */
enum { FETCH_STARTS = 8, FETCH_EVENTS = 32 }; /* of one turn, which is to be short */

typedef struct clipc__engine_of_fetches fetch_engine;

/* ---- references */

static void fetch_engine_release(fetch_engine *engine) {
  if (atomic_fetch_sub(&engine->references, 1) != 1) return;
  clipc_runtime *runtime = engine->runtime;
  clipc__waiter_clear(&engine->waiter);
  clipc__proxies_free(&engine->proxies, engine->allocator);
  clipc__free(engine->allocator, engine);
  clipc__runtime_release(runtime);
}

static void fetch_release(struct clipc__fetch *fetch) {
  if (atomic_fetch_sub(&fetch->references, 1) != 1) return;
  fetch_engine *engine = fetch->engine;
  clipc__waiter_clear(&fetch->waiter);
  clipc__bytes_free(&fetch->body);
  clipc__url_free(&fetch->url);
  if (fetch->secret) explicit_bzero(fetch->secret, strlen(fetch->secret));
  clipc__free(engine->allocator, fetch->secret);
  clipc__free(engine->allocator, fetch->secret_host);
  if (fetch->wants.release) fetch->wants.release(fetch->wants.context);
  clipc__free(engine->allocator, fetch);
  fetch_engine_release(engine);
}

/* The last word on a fetch; the engine's reference goes. */
static void fetch_tell(struct clipc__fetch *fetch, clipc_status status, const clipc_error *error) {
  if (status != CLIPC_OK) {
    clipc__bytes_free(&fetch->body);
    fetch->error = *error;
    fetch->error.status = status;
  }
  fetch->state = CLIPC__FETCH_OVER;
  atomic_store(&fetch->over, true);
  clipc__waiter_wake(&fetch->waiter);
  fetch_release(fetch);
}

void clipc__fetch_finish(struct clipc__fetch *fetch, clipc_status status, const clipc_error *error) {
  fetch_engine *engine = fetch->engine;
  clipc__transfer_stop(fetch);
  clipc__origin_leave(fetch);
  if (fetch->next) fetch->next->previous = fetch->previous;
  if (fetch->previous)
    fetch->previous->next = fetch->next;
  else
    engine->first = fetch->next;
  fetch->next = fetch->previous = NULL;
  fetch_tell(fetch, status, error);
}

static void fetch_finish_cancelled(struct clipc__fetch *fetch) {
  clipc_error error;
  clipc__fail(&error, CLIPC_E_CANCELLED, "%.*s: cancelled", CLIPC__FETCH_NAME(fetch));
  clipc__fetch_finish(fetch, CLIPC_E_CANCELLED, &error);
}

/* ---- the task */

/* TLS libraries write to sockets without MSG_NOSIGNAL: the signal of a closed one must not end the process. */
struct fetch_signals {
  sigset_t before;
  bool was_pending;
};

static void fetch_hold_signals(struct fetch_signals *signals) {
  sigset_t pipe, pending;
  sigemptyset(&pipe);
  sigaddset(&pipe, SIGPIPE);
  sigpending(&pending);
  signals->was_pending = sigismember(&pending, SIGPIPE) == 1;
  pthread_sigmask(SIG_BLOCK, &pipe, &signals->before);
}

static void fetch_let_signals(const struct fetch_signals *signals) {
  sigset_t pipe, pending;
  sigpending(&pending);
  if (!signals->was_pending && sigismember(&pending, SIGPIPE) == 1) {
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    sigtimedwait(&pipe, NULL, &(struct timespec){0, 0});
  }
  pthread_sigmask(SIG_SETMASK, &signals->before, NULL);
}

static clipc_status fetch_open(fetch_engine *engine, clipc_error *error) {
  if (engine->multi) return CLIPC_OK;
  engine->look_ns = INT64_MAX;
  clipc_status status = clipc__resolver_open(&engine->resolver, engine->task, engine->name_servers, error);
  if (status == CLIPC_OK && (status = clipc__transfers_open(engine, error)) != CLIPC_OK) {
    clipc__resolver_close(engine->resolver);
    engine->resolver = NULL;
  }
  return status;
}

/* Nothing is fetched any more. */
static void fetch_shut(fetch_engine *engine) {
  clipc__resolver_close(engine->resolver);
  engine->resolver = NULL;
  clipc__transfers_close(engine);
  clipc__origins_free(engine);
}

static void fetch_admit(fetch_engine *engine, struct clipc__fetch *fetch) {
  fetch->previous = NULL;
  fetch->next = engine->first;
  if (fetch->next) fetch->next->previous = fetch;
  engine->first = fetch;
  if (fetch->give_up_ns < engine->look_ns) engine->look_ns = fetch->give_up_ns;
  clipc_error error;
  clipc_status status = fetch_open(engine, &error);
  if (status == CLIPC_OK) status = clipc__origin_queue(fetch, false, &error);
  if (status != CLIPC_OK) clipc__fetch_finish(fetch, status, &error);
}

static void fetch_read_news(fetch_engine *engine) {
  clipc__lock(&engine->lock);
  struct clipc__fetch *fetch = engine->first_news;
  engine->first_news = engine->last_news = NULL;
  clipc__unlock(&engine->lock);
  while (fetch) {
    struct clipc__fetch *next = fetch->next_news;
    clipc__lock(&engine->lock);
    fetch->in_news = false; /* from here on it may come again */
    clipc__unlock(&engine->lock);
    if (fetch->state == CLIPC__FETCH_NEW) {
      fetch->state = CLIPC__FETCH_QUEUED; /* without an origin yet */
      fetch_admit(engine, fetch);
    }
    if (fetch->state != CLIPC__FETCH_OVER && atomic_load(&fetch->cancelled)) fetch_finish_cancelled(fetch);
    fetch_release(fetch);
    fetch = next;
  }
}

/* Ends those whose time is up. Not more often than every few milliseconds: everybody is looked at. */
static void fetch_look_at_times(fetch_engine *engine, int64_t now_ns) {
  if (now_ns < engine->look_ns) return;
  int64_t earliest_ns = INT64_MAX;
  for (struct clipc__fetch *fetch = engine->first, *next; fetch; fetch = next) {
    next = fetch->next;
    int64_t until_ns = fetch->give_up_ns;
    if (fetch->state == CLIPC__FETCH_RESOLVING && fetch->connect_ns < until_ns) until_ns = fetch->connect_ns;
    int64_t stalled_ns = fetch->state == CLIPC__FETCH_MOVING && fetch->wants.stall_s > 0
                             ? fetch->alive_ns + fetch->wants.stall_s * INT64_C(1000000000)
                             : INT64_MAX;
    if (stalled_ns < until_ns) until_ns = stalled_ns;
    if (now_ns >= until_ns) {
      clipc_error error;
      clipc__fail(&error, CLIPC_E_TIMED_OUT, "%.*s: %s", CLIPC__FETCH_NAME(fetch),
                  until_ns == stalled_ns                   ? "nothing came for too long"
                  : fetch->state == CLIPC__FETCH_QUEUED    ? "its time was up before a connection was free"
                  : fetch->state == CLIPC__FETCH_RESOLVING ? "its time was up before the name was resolved"
                                                           : "its time was up");
      clipc__fetch_finish(fetch, CLIPC_E_TIMED_OUT, &error);
    } else if (until_ns < earliest_ns) {
      earliest_ns = until_ns;
    }
  }
  engine->look_ns = earliest_ns < now_ns + FETCH_LOOK_NS ? now_ns + FETCH_LOOK_NS : earliest_ns;
}

/* One turn; true when there is more to do at once. */
static bool fetch_work(fetch_engine *engine) {
  fetch_read_news(engine);
  if (engine->multi == NULL) return false;
  int64_t now_ns = clipc_runtime_now_ns(engine->runtime);
  clipc__resolver_turn(engine->resolver);
  bool more = clipc__transfers_turn(engine, FETCH_EVENTS);
  more |= clipc__origins_turn(engine, FETCH_STARTS, now_ns);
  fetch_look_at_times(engine, now_ns);
  if (engine->broken || clipc__resolver_broken(engine->resolver)) {
    clipc_error error;
    clipc__no_memory(&error, "a connection");
    while (engine->first) clipc__fetch_finish(engine->first, CLIPC_E_NO_MEMORY, &error);
    fetch_shut(engine);
  }
  return more;
}

static int64_t fetch_next_ns(const fetch_engine *engine, int64_t now_ns) {
  if (engine->first == NULL) return engine->idle_ns + FETCH_IDLE_NS;
  int64_t next_ns = clipc__resolver_next_ns(engine->resolver, now_ns);
  if (engine->timer_ns != 0 && engine->timer_ns < next_ns) next_ns = engine->timer_ns;
  return engine->look_ns < next_ns ? engine->look_ns : next_ns;
}

/* True when the task may end: no news can come to it any more. */
static bool fetch_leave(fetch_engine *engine) {
  fetch_shut(engine);
  clipc__lock(&engine->lock);
  bool over = engine->first_news == NULL;
  if (over) engine->has_task = false;
  clipc__unlock(&engine->lock);
  return over;
}

/* Ends what nobody has seen yet: there is no task, or it ends here. */
static void fetch_refuse_news(fetch_engine *engine, clipc_status status, const clipc_error *error) {
  clipc__lock(&engine->lock);
  struct clipc__fetch *fetch = engine->first_news;
  engine->first_news = engine->last_news = NULL;
  engine->has_task = false;
  clipc__unlock(&engine->lock);
  while (fetch) {
    clipc__lock(&engine->lock);
    struct clipc__fetch *next = fetch->next_news;
    bool is_new = fetch->state == CLIPC__FETCH_NEW;
    if (is_new) fetch->state = CLIPC__FETCH_OVER; /* it is this thread's to tell */
    fetch->in_news = false;                       /* from here on it may come again, to another thread */
    clipc__unlock(&engine->lock);
    if (is_new) fetch_tell(fetch, status, error);
    fetch_release(fetch);
    fetch = next;
  }
}

struct fetch_frame {
  fetch_engine *engine; /* a reference; NULL when the task has left */
};

static int fetch_run(clipc_task *task, void *frame) {
  fetch_engine *engine = ((struct fetch_frame *)frame)->engine;
  struct fetch_signals signals;
  engine->task = task;
  if (clipc_task_cancelled(task)) return CLIPC_E_CANCELLED; /* and fetch_drop ends the others */
  fetch_hold_signals(&signals);
  bool more = fetch_work(engine), over = false;
  int64_t now_ns = clipc_runtime_now_ns(engine->runtime);
  if (engine->first == NULL && !more) {
    if (engine->idle_ns == 0) engine->idle_ns = now_ns;
    if (atomic_load(&engine->stopping) || now_ns >= engine->idle_ns + FETCH_IDLE_NS) {
      over = fetch_leave(engine);
      engine->idle_ns = 0;
      more = true;
    }
  } else {
    engine->idle_ns = 0;
  }
  fetch_let_signals(&signals);
  if (over) {
    ((struct fetch_frame *)frame)->engine = NULL;
    fetch_engine_release(engine);
    return CLIPC_OK;
  }
  if (more) return CLIPC_YIELDING;
  clipc__waiter_set(&engine->waiter, task);
  clipc__lock(&engine->lock);
  more = engine->first_news != NULL;
  clipc__unlock(&engine->lock);
  more |= engine->first == NULL && atomic_load(&engine->stopping); /* it may have come in between, too */
  if (more || clipc_task_sleep_until(task, fetch_next_ns(engine, now_ns)) != CLIPC_WAITING) return CLIPC_YIELDING;
  return CLIPC_WAITING;
}

/* Cancelled or dropped: nothing is fetched any more. */
static void fetch_drop(void *frame) {
  fetch_engine *engine = ((struct fetch_frame *)frame)->engine;
  if (engine == NULL) return;
  struct fetch_signals signals;
  clipc_error error;
  clipc__fail(&error, CLIPC_E_SHUTTING_DOWN, "URL: the runtime is shutting down");
  fetch_hold_signals(&signals);
  while (engine->first) clipc__fetch_finish(engine->first, CLIPC_E_SHUTTING_DOWN, &error);
  fetch_shut(engine);
  fetch_refuse_news(engine, CLIPC_E_SHUTTING_DOWN, &error);
  fetch_let_signals(&signals);
  fetch_engine_release(engine);
}

static const clipc_task_kind fetch_kind = {"fetch", fetch_run, fetch_drop, sizeof(struct fetch_frame), 1};

/* ---- the runtime's engine */

static clipc_status fetch_make_engine(void **out, clipc_runtime *runtime, clipc_error *error) {
  const clipc_allocator *allocator = clipc__runtime_allocator(runtime);
  clipc_fetch_options options = clipc__runtime_options(runtime)->fetch;
  clipc_status status = clipc__address_check_list(&options, error);
  if (status != CLIPC_OK) return status;
  const struct clipc__net *net = clipc__net(error);
  if (net == NULL) return CLIPC_E_UNSUPPORTED;
  if (options.max_bytes == 0) options.max_bytes = (uint64_t)64 << 20;
  if (options.max_redirects == 0) options.max_redirects = 5;
  if (options.connect_timeout_ms <= 0) options.connect_timeout_ms = 10000;
  if (options.total_timeout_ms <= 0) options.total_timeout_ms = 30000;
  if (options.max_per_host <= 0) options.max_per_host = 8;
  if (options.max_connections <= 0) options.max_connections = 256;
  struct clipc__proxies proxies = {.exceptions = NULL};
  if (options.use_proxy && (status = clipc__proxies_read(&proxies, allocator, error)) != CLIPC_OK) return status;
  fetch_engine *engine = clipc__alloc_zeroed(allocator, 1, sizeof *engine);
  if (engine == NULL) {
    clipc__proxies_free(&proxies, allocator);
    return clipc__no_memory(error, "fetching");
  }
  engine->proxies = proxies;
  atomic_store(&engine->references, 1);
  engine->runtime = clipc__runtime_retain(runtime);
  engine->allocator = allocator;
  engine->net = net;
  engine->options = options;
  engine->look_ns = INT64_MAX;
  *out = engine;
  return CLIPC_OK;
}

static void fetch_stop_engine(void *object) {
  fetch_engine *engine = object;
  atomic_store(&engine->stopping, true);
  clipc__waiter_wake(&engine->waiter);
}

static void fetch_retain_engine(void *object) { atomic_fetch_add(&((fetch_engine *)object)->references, 1); }
static void fetch_free_engine(void *object) { fetch_engine_release(object); }

static const struct clipc__slot_kind fetch_slot = {CLIPC__SLOT_FETCH, fetch_make_engine, fetch_stop_engine,
                                                   fetch_retain_engine, fetch_free_engine};

/* Hands a fetch to the task; true when there is none and the caller must start it. */
static bool fetch_post(struct clipc__fetch *fetch) {
  fetch_engine *engine = fetch->engine;
  clipc__lock(&engine->lock);
  bool needs_task = !engine->has_task;
  if (!fetch->in_news) {
    atomic_fetch_add(&fetch->references, 1);
    fetch->in_news = true;
    fetch->next_news = NULL;
    if (engine->first_news)
      engine->last_news->next_news = fetch;
    else
      engine->first_news = fetch;
    engine->last_news = fetch;
  }
  engine->has_task = true;
  clipc__unlock(&engine->lock);
  clipc__waiter_wake(&engine->waiter);
  return needs_task;
}

static clipc_status fetch_hand_over(struct clipc__fetch *fetch, clipc_error *error) {
  fetch_engine *engine = fetch->engine;
  if (!fetch_post(fetch)) return CLIPC_OK;
  struct fetch_frame frame = {engine};
  clipc_error why = {CLIPC_OK, ""};
  atomic_fetch_add(&engine->references, 1);
  clipc_status status = clipc_spawn(NULL, engine->runtime, &fetch_kind, &frame, &why);
  if (status == CLIPC_OK) return CLIPC_OK;
  if (error) *error = why;
  fetch_refuse_news(engine, status, &why);
  fetch_engine_release(engine);
  return status;
}

/* ---- what tasks call */

static char *fetch_copy(const clipc_allocator *allocator, const char *text) {
  size_t n = strlen(text) + 1;
  char *copy = clipc__alloc(allocator, n, 1);
  return copy ? memcpy(copy, text, n) : NULL;
}

/* False: no memory. */
static bool fetch_take_secret(struct clipc__fetch *fetch) {
  if (fetch->wants.secret == NULL) return true;
  fetch->secret = fetch_copy(fetch->engine->allocator, fetch->wants.secret);
  fetch->secret_host = fetch_copy(fetch->engine->allocator, fetch->url.host);
  fetch->secret_port = fetch->url.port;
  fetch->secret_https = fetch->url.is_https;
  fetch->wants.secret = NULL;
  return fetch->secret && fetch->secret_host;
}

clipc_status clipc__fetch_start(struct clipc__fetch **out, clipc_runtime *runtime, const char *url, size_t n,
                                int64_t deadline_ns, clipc_error *error) {
  return clipc__fetch_start_with(out, runtime, url, n, &(struct clipc__fetch_wants){.from = 0}, deadline_ns, error);
}

static clipc_status fetch_make(struct clipc__fetch **out, clipc_runtime *runtime, const char *url, size_t n,
                               clipc_error *error) {
  *out = NULL;
  void *slot;
  struct clipc__url parsed = {.text = NULL};
  const clipc_allocator *allocator = clipc__runtime_allocator(runtime);
  clipc_status status = clipc__url_parse(&parsed, allocator, url, n, error);
  if (status != CLIPC_OK || (status = clipc__runtime_slot(&slot, runtime, &fetch_slot, error)) != CLIPC_OK) {
    clipc__url_free(&parsed);
    return status;
  }
  fetch_engine *engine = slot;
  struct clipc__fetch *fetch = clipc__alloc_zeroed(allocator, 1, sizeof *fetch);
  if (fetch == NULL) {
    fetch_engine_release(engine);
    clipc__url_free(&parsed);
    return clipc__no_memory(error, "a fetch");
  }
  fetch->engine = engine; /* with the slot's reference */
  atomic_store(&fetch->references, 2);
  fetch->body.allocator = *allocator;
  fetch->url = parsed;
  fetch->reply.retry_after_s = -1;
  *out = fetch;
  return CLIPC_OK;
}

clipc_status clipc__fetch_start_with(struct clipc__fetch **out, clipc_runtime *runtime, const char *url, size_t n,
                                     const struct clipc__fetch_wants *wants, int64_t deadline_ns, clipc_error *error) {
  *out = NULL;
  struct clipc__fetch *fetch;
  clipc_status status = fetch_make(&fetch, runtime, url, n, error);
  if (status != CLIPC_OK) {
    if (wants->release) wants->release(wants->context);
    return status;
  }
  fetch->wants = *wants;
  fetch->deadline_ns = deadline_ns;
  fetch->give_up_ns = deadline_ns ? deadline_ns : INT64_MAX;
  if (!fetch_take_secret(fetch)) {
    atomic_store(&fetch->references, 1); /* the engine has not seen it */
    status = clipc__no_memory(error, "a fetch");
  } else {
    status = fetch_hand_over(fetch, error);
  }
  if (status == CLIPC_OK)
    *out = fetch;
  else
    fetch_release(fetch);
  return status;
}

const struct clipc__fetch_reply *clipc__fetch_reply(const struct clipc__fetch *fetch) { return &fetch->reply; }

bool clipc__fetch_done(const struct clipc__fetch *fetch) {
  return atomic_load_explicit(&fetch->over, memory_order_acquire);
}

int clipc__fetch_await(clipc_task *task, struct clipc__fetch *fetch) {
  if (clipc__fetch_done(fetch)) return (int)fetch->error.status;
  int status = clipc__task_blocked(task);
  if (status != CLIPC_OK) return status;
  clipc__waiter_set(&fetch->waiter, task);
  return clipc__fetch_done(fetch) ? (int)fetch->error.status : CLIPC_WAITING;
}

const clipc_error *clipc__fetch_error(const struct clipc__fetch *fetch) {
  return !clipc__fetch_done(fetch) || fetch->error.status == CLIPC_OK ? NULL : &fetch->error;
}

const struct clipc__bytes *clipc__fetch_body(const struct clipc__fetch *fetch) { return &fetch->body; }

void clipc__fetch_cancel(struct clipc__fetch *fetch) {
  if (clipc__fetch_done(fetch) || atomic_exchange(&fetch->cancelled, true)) return;
  fetch_hand_over(fetch, NULL);
}

void clipc__fetch_close(struct clipc__fetch *fetch) {
  if (fetch == NULL) return;
  clipc__fetch_cancel(fetch);
  fetch_release(fetch);
}

clipc_status clipc__fetch_name_servers(clipc_runtime *runtime, const char *servers, clipc_error *error) {
  void *slot;
  clipc_status status = clipc__runtime_slot(&slot, runtime, &fetch_slot, error);
  if (status != CLIPC_OK) return status;
  ((fetch_engine *)slot)->name_servers = servers;
  fetch_engine_release(slot);
  return CLIPC_OK;
}

#undef FETCH_IDLE_NS
#undef FETCH_LOOK_NS

#else

clipc_status clipc__fetch_start(struct clipc__fetch **out, clipc_runtime *runtime, const char *url, size_t n,
                                int64_t deadline_ns, clipc_error *error) {
  (void)deadline_ns;
  *out = NULL;
  struct clipc__url parsed = {.text = NULL};
  return clipc__url_parse(&parsed, clipc__runtime_allocator(runtime), url, n, error); /* at best _UNSUPPORTED */
}

clipc_status clipc__fetch_start_with(struct clipc__fetch **out, clipc_runtime *runtime, const char *url, size_t n,
                                     const struct clipc__fetch_wants *wants, int64_t deadline_ns, clipc_error *error) {
  if (wants->release) wants->release(wants->context);
  return clipc__fetch_start(out, runtime, url, n, deadline_ns, error);
}

/* There is no fetch. */
const struct clipc__fetch_reply *clipc__fetch_reply(const struct clipc__fetch *fetch) { return (void)fetch, NULL; }
int clipc__fetch_await(clipc_task *task, struct clipc__fetch *fetch) {
  return (void)task, (void)fetch, CLIPC_E_UNSUPPORTED;
}
bool clipc__fetch_done(const struct clipc__fetch *fetch) { return (void)fetch, true; }
const clipc_error *clipc__fetch_error(const struct clipc__fetch *fetch) { return (void)fetch, NULL; }
const struct clipc__bytes *clipc__fetch_body(const struct clipc__fetch *fetch) { return (void)fetch, NULL; }
void clipc__fetch_cancel(struct clipc__fetch *fetch) { (void)fetch; }
void clipc__fetch_close(struct clipc__fetch *fetch) { (void)fetch; }

clipc_status clipc__fetch_name_servers(clipc_runtime *runtime, const char *servers, clipc_error *error) {
  (void)runtime, (void)servers;
  return clipc__fail(error, CLIPC_E_UNSUPPORTED, "name servers: this build has no libcurl (CURL=0)");
}

#endif
