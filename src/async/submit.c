/* From a request to the channel of a worker. What has URLs goes by way of a task that fetches them, so that no worker
 * waits for a network. Of two seats drawn by chance the one with less to do gets the request; where there is no seat
 * the pool's backlog keeps it until the keeper has made one. Invariant: a request is in its pool's list from here until
 * it is complete; whoever holds it on the way - backlog, channel, task - holds one reference, and completes it or hands
 * it on. */
#include "async/pool.h"

#include <string.h>

/* ---- the list of what is under way */

bool clipc__pool_enter(struct clipc_pool *pool, clipc_pending *pending) {
  const clipc_registry *registry = pool->registry;
  clipc__lock(&pool->lock);
  bool open = !pool->closed && !atomic_load(&registry->closing) && !atomic_load(&registry->stopping);
  bool earlier = open && pending->deadline_ns != 0 && pending->deadline_ns < pool->earliest_ns;
  if (open) {
    pending->pool = pool;
    pending->next = NULL;
    pending->previous = pool->last;
    if (pool->last)
      pool->last->next = pending;
    else
      pool->first = pending;
    pool->last = pending;
    atomic_fetch_add(&pool->n_under_way, 1);
    if (earlier) pool->earliest_ns = pending->deadline_ns;
    clipc__registry_retain(pool->registry);
  }
  clipc__unlock(&pool->lock);
  if (earlier) clipc__registry_attend(pool->registry);
  return open;
}

void clipc__pool_left(struct clipc_pool *pool, clipc_pending *pending) {
  clipc_registry *registry = pool->registry;
  clipc__lock(&pool->lock);
  if (pending->next)
    pending->next->previous = pending->previous;
  else
    pool->last = pending->previous;
  if (pending->previous)
    pending->previous->next = pending->next;
  else
    pool->first = pending->next;
  bool last = atomic_fetch_sub(&pool->n_under_way, 1) == 1;
  clipc__unlock(&pool->lock);
  unsigned status = pending->error.status;
  if (status < CLIPC_N_STATUSES)
    atomic_fetch_add_explicit(&registry->counters.by_status[status], 1, memory_order_relaxed);
  if (last && (atomic_load(&registry->stopping) || atomic_load(&pool->entry->evict))) clipc__registry_attend(registry);
  clipc__registry_release(registry);
}

enum { SUBMIT_VICTIMS = 32, SUBMIT_REST_NS = 200 }; /* all are looked at: for each so much time till the next look */

/* Open ones that were due by then, with a reference each. */
static size_t due_requests(struct clipc_pool *pool, int64_t due_ns, bool all, clipc_pending *victims[SUBMIT_VICTIMS]) {
  size_t n = 0;
  clipc__lock(&pool->lock);
  int64_t earliest = INT64_MAX;
  for (clipc_pending *pending = pool->first; pending && n < SUBMIT_VICTIMS; pending = pending->next) {
    bool due = all || (pending->deadline_ns != 0 && pending->deadline_ns <= due_ns);
    if (due && clipc__pending_is_open(pending))
      victims[n++] = clipc__pending_retain(pending);
    else if (!due && pending->deadline_ns != 0 && pending->deadline_ns < earliest)
      earliest = pending->deadline_ns;
  }
  if (n < SUBMIT_VICTIMS && !all) pool->earliest_ns = earliest; /* all were seen */
  clipc__unlock(&pool->lock);
  return n;
}

void clipc__pool_fail(struct clipc_pool *pool, clipc_status status, const char *sentence) {
  clipc_pending *victims[SUBMIT_VICTIMS];
  for (size_t n; (n = due_requests(pool, 0, true, victims)) > 0;)
    for (size_t i = 0; i < n; i++) {
      clipc__pending_fail(victims[i], status, sentence);
      clipc__pending_release(victims[i]);
    }
}

int64_t clipc__pool_expire(struct clipc_pool *pool, int64_t now_ns) {
  clipc_pending *victims[SUBMIT_VICTIMS];
  clipc__lock(&pool->lock);
  int64_t earliest = pool->earliest_ns;
  clipc__unlock(&pool->lock);
  if (earliest > now_ns) return earliest;
  for (size_t n; (n = due_requests(pool, now_ns, false, victims)) > 0;)
    for (size_t i = 0; i < n; i++) {
      clipc__pending_fail(victims[i], CLIPC_E_TIMED_OUT, "the request was not complete in time");
      clipc__pending_release(victims[i]);
    }
  int64_t rest_end_ns = now_ns + (int64_t)atomic_load(&pool->n_under_way) * SUBMIT_REST_NS;
  clipc__lock(&pool->lock);
  if (pool->earliest_ns < rest_end_ns) pool->earliest_ns = rest_end_ns;
  earliest = pool->earliest_ns;
  clipc__unlock(&pool->lock);
  return earliest;
}

/* ---- to a seat */

bool clipc__seat_is_empty(const struct clipc__seat *seat) {
  int state = atomic_load(&seat->state);
  return state == CLIPC_WORKER_DEAD || state == CLIPC_WORKER_FAILED;
}

clipc_pending *clipc__seat_take(struct clipc__seat *seat, enum clipc__queue queue) {
  clipc_pending *pending;
  return clipc_channel_try_receive(seat->channels[queue], &pending) == CLIPC_OK ? pending : NULL;
}

static size_t seats_between(const struct clipc_pool *pool, int least, int most, struct clipc__seat *seats[]) {
  size_t n = 0;
  for (int i = 0, n_seats = atomic_load(&pool->n_seats); i < n_seats; i++) {
    struct clipc__seat *seat = atomic_load(&pool->seats[i]);
    int state = atomic_load(&seat->state);
    if (state >= least && state <= most) seats[n++] = seat;
  }
  return n;
}

static uint32_t draw(struct clipc_pool *pool) {
  uint32_t x = atomic_fetch_add_explicit(&pool->drawn, 0x9E3779B9u, memory_order_relaxed);
  x = (x ^ x >> 16) * 0x7FEB352Du;
  x = (x ^ x >> 15) * 0x846CA68Bu;
  return x ^ x >> 16;
}

/* Of two that are as loaded the one that worked last: its memory is still in the caches, and the other may go. */
static bool is_better(const struct clipc__seat *a, const struct clipc__seat *b) {
  int a_load = atomic_load(&a->load), b_load = atomic_load(&b->load);
  if (a_load != b_load) return a_load < b_load;
  return atomic_load_explicit(&a->active_ns, memory_order_relaxed) >
         atomic_load_explicit(&b->active_ns, memory_order_relaxed);
}

/* The less loaded of two of those that work, or else of those that are about to. */
static size_t choose_seat(struct clipc_pool *pool, struct clipc__seat *seats[], size_t *n) {
  *n = seats_between(pool, CLIPC_WORKER_READY, CLIPC_WORKER_IDLE, seats);
  if (*n == 0) *n = seats_between(pool, CLIPC_WORKER_SPAWNING, CLIPC_WORKER_LOADING, seats);
  if (*n <= 1) return 0;
  uint32_t drawn = draw(pool);
  size_t a = (drawn & 0xFFFF) % *n, b = (drawn >> 16) % (*n - 1);
  if (b >= a) b++;
  return is_better(seats[b], seats[a]) ? b : a;
}

void clipc__seat_posted(struct clipc__seat *seat) {
  if (clipc__seat_is_empty(seat)) clipc__registry_attend(seat->pool->registry);
}

static bool post(struct clipc__seat *seat, clipc_pending *pending) {
  pending->seat = seat;
  int before = atomic_fetch_add(&seat->load, 1);
  struct clipc_pool *pool = seat->pool;
  if (clipc_channel_try_send(seat->channels[pending->queue], &pending) != CLIPC_OK) {
    atomic_fetch_sub(&seat->load, 1);
    return false;
  }
  clipc__seat_posted(seat);
  if (before > 0 && !atomic_exchange(&pool->wants_more, true)) clipc__registry_attend(pool->registry);
  return true;
}

/* False: it is full. */
static bool enter_backlog(struct clipc_pool *pool, clipc_pending *pending, bool forced) {
  enum clipc__queue queue = pending->queue;
  clipc__lock(&pool->lock);
  bool room = forced || pool->n_waiting[queue] < pool->capacities[queue];
  if (room) {
    pool->n_waiting[queue]++;
    pending->next_waiting = NULL;
    if (pool->last_waiting)
      pool->last_waiting->next_waiting = pending;
    else
      pool->first_waiting = pending;
    pool->last_waiting = pending;
    atomic_fetch_add(&pool->n_backlog, 1);
  }
  clipc__unlock(&pool->lock);
  return room;
}

clipc_pending *clipc__pool_backlog(struct clipc_pool *pool) {
  clipc__lock(&pool->lock);
  clipc_pending *pending = pool->first_waiting;
  if (pending) {
    pool->n_waiting[pending->queue]--;
    pool->first_waiting = pending->next_waiting;
    if (pool->first_waiting == NULL) pool->last_waiting = NULL;
    atomic_fetch_sub(&pool->n_backlog, 1);
  }
  clipc__unlock(&pool->lock);
  return pending;
}

static bool post_to_any(struct clipc_pool *pool, clipc_pending *pending, size_t *n) {
  struct clipc__seat *seats[CLIPC__MAX_SEATS];
  size_t chosen = choose_seat(pool, seats, n);
  for (size_t i = 0; i < *n; i++)
    if (post(seats[(chosen + i) % *n], pending)) return true;
  return false;
}

clipc_status clipc__pool_dispatch(struct clipc_pool *pool, clipc_pending *pending) {
  clipc_registry *registry = pool->registry;
  size_t n;
  if (post_to_any(pool, pending, &n)) return CLIPC_OK;
  if (n > 0) { /* all are full */
    if (!atomic_exchange(&pool->wants_more, true)) clipc__registry_attend(registry);
    return CLIPC_E_QUEUE_FULL;
  }
  if (!enter_backlog(pool, pending, false)) return CLIPC_E_QUEUE_FULL;
  clipc__registry_attend(registry);
  return CLIPC_OK;
}

bool clipc__pool_redispatch(struct clipc_pool *pool, clipc_pending *pending) {
  size_t n;
  return post_to_any(pool, pending, &n) || !enter_backlog(pool, pending, true);
}

/* ---- fetching first */

struct fetching {
  int at;
  size_t next;              /* input */
  clipc_pending *pending;   /* a reference; NULL: it was handed on */
  struct clipc__seat *seat; /* whose channel has no room */
};

static void start_fetches(clipc_task *task, clipc_pending *pending) {
  struct clipc_call *call = &pending->call;
  for (size_t i = 0; i < call->request.n_inputs; i++) {
    const clipc_input *input = &call->inputs[i];
    if (input->kind == CLIPC_INPUT_URL)
      clipc__fetch_start(&call->bodies[i], clipc_task_runtime(task), input->data, input->n_bytes, pending->deadline_ns,
                         &call->item_errors[i]);
  }
}

/* Until every fetch is over, or nobody waits for the request any more. */
static int await_bodies(clipc_task *task, struct fetching *fetching) {
  clipc_pending *pending = fetching->pending;
  struct clipc_call *call = &pending->call;
  for (; fetching->next < call->request.n_inputs; fetching->next++) {
    struct clipc__fetch *fetch = call->bodies[fetching->next];
    if (fetch == NULL) continue;
    int status = clipc__fetch_await(task, fetch);
    if (status == CLIPC_WAITING) {
      clipc__waiter_set(&pending->worker, task);
      return clipc_pending_done(pending) ? CLIPC_E_CANCELLED : CLIPC_WAITING;
    }
    if (!clipc__fetch_done(fetch)) return status; /* the task's own */
    const clipc_error *error = clipc__fetch_error(fetch);
    if (error)
      call->item_errors[fetching->next] = *error;
    else
      call->inputs[fetching->next] =
          (clipc_input){CLIPC_INPUT_BYTES, clipc__fetch_body(fetch)->data, clipc__fetch_body(fetch)->n_bytes};
  }
  return CLIPC_OK;
}

/* Waits for room where the queue is full: what was fetched is not thrown away. */
static int hand_on(clipc_task *task, struct fetching *fetching) {
  struct clipc_pool *pool = fetching->pending->pool;
  if (fetching->seat == NULL) {
    struct clipc__seat *seats[CLIPC__MAX_SEATS];
    if (clipc__pool_dispatch(pool, fetching->pending) == CLIPC_OK) return CLIPC_OK;
    size_t n, chosen = choose_seat(pool, seats, &n);
    if (n == 0) {
      clipc_registry *registry = pool->registry;
      clipc__pool_redispatch(pool, fetching->pending);
      clipc__registry_attend(registry);
      return CLIPC_OK;
    }
    fetching->seat = seats[chosen];
    fetching->pending->seat = fetching->seat;
    atomic_fetch_add(&fetching->seat->load, 1);
  }
  int status = clipc_channel_send(task, fetching->seat->channels[fetching->pending->queue], &fetching->pending);
  if (status == CLIPC_WAITING) return status;
  if (status == CLIPC_OK)
    clipc__seat_posted(fetching->seat);
  else
    atomic_fetch_sub(&fetching->seat->load, 1);
  return status;
}

static int fetching_run(clipc_task *task, void *frame) {
  struct fetching *fetching = frame;
  int status = CLIPC_OK;
  CLIPC_TASK_BEGIN(fetching);
  start_fetches(task, fetching->pending);
  CLIPC_AWAIT(fetching, status, await_bodies(task, fetching));
  if (status != CLIPC_OK) return status;
  if (clipc__call_all_failed(&fetching->pending->call)) {
    clipc__pending_finish(fetching->pending);
    return CLIPC_OK;
  }
  CLIPC_AWAIT(fetching, status, hand_on(task, fetching));
  if (status == CLIPC_OK) fetching->pending = NULL;
  CLIPC_TASK_END(fetching, status);
}

static void give_up_fetching(struct fetching *fetching) {
  clipc_pending *pending = fetching->pending;
  if (pending == NULL) return;
  struct clipc_call *call = &pending->call;
  for (size_t i = 0; i < call->request.n_inputs; i++)
    if (call->bodies[i]) clipc__fetch_cancel(call->bodies[i]);
  clipc__pending_fail(pending, CLIPC_E_SHUTTING_DOWN, "the runtime was shut down");
  clipc__pending_release(pending);
}

struct fetching_frame {
  struct fetching fetching; /* first */
  struct clipc_pool *pool;  /* with a reference to its registry */
};

static void fetching_drop(void *frame) {
  struct fetching_frame *whole = frame;
  give_up_fetching(&whole->fetching);
  atomic_fetch_sub(&whole->pool->n_fetching, 1);
  clipc__registry_release(whole->pool->registry);
}

static clipc_status fetch_first(struct clipc_pool *pool, clipc_pending *pending, clipc_error *error) {
  static const clipc_task_kind kind = {.name = "request's fetch",
                                       .run = fetching_run,
                                       .drop = fetching_drop,
                                       .frame_bytes = sizeof(struct fetching_frame),
                                       .is_short = 1};
  if (atomic_fetch_add(&pool->n_fetching, 1) >= pool->capacities[CLIPC__QUEUE_URL]) {
    atomic_fetch_sub(&pool->n_fetching, 1);
    return clipc__fail(error, CLIPC_E_QUEUE_FULL, "%zu requests are being fetched already",
                       pool->capacities[CLIPC__QUEUE_URL]);
  }
  struct fetching_frame frame = {.fetching = {.pending = pending}, .pool = pool};
  clipc__registry_retain(pool->registry);
  clipc_status status = clipc_spawn(NULL, pending->runtime, &kind, &frame, error);
  if (status == CLIPC_OK) return CLIPC_OK;
  atomic_fetch_sub(&pool->n_fetching, 1);
  clipc__registry_release(pool->registry);
  return status;
}

/* ---- requests */

clipc_pending *clipc__request_refuse(clipc_runtime *runtime, const clipc_request *request, clipc_status status,
                                     const char *sentence) {
  clipc_request rest = {.is_batch = 1};
  if (request) {
    rest.done = request->done;
    rest.completions = request->done ? NULL : request->completions;
    rest.context = request->context;
  }
  clipc_pending *pending;
  if (clipc__pending_make(&pending, runtime, &rest, 0, NULL) != CLIPC_OK) return NULL;
  clipc_pending *own = pending;
  if (status == CLIPC_OK)
    clipc__pending_finish(pending);
  else
    clipc__pending_fail(pending, status, sentence);
  clipc__pending_release(own);
  return pending;
}

static enum clipc__queue queue_of(const clipc_request *request) {
  if (request->is_batch || request->n_inputs > 1) return CLIPC__QUEUE_BATCH;
  if (request->n_inputs == 0) return CLIPC__QUEUE_SINGLE;
  return request->inputs[0].kind == CLIPC_INPUT_URL      ? CLIPC__QUEUE_URL
         : request->inputs[0].kind == CLIPC_INPUT_BASE64 ? CLIPC__QUEUE_BASE64
                                                         : CLIPC__QUEUE_SINGLE;
}

void clipc__request_time(clipc_pending *pending, const clipc_registry *registry) {
  pending->submitted_ns = clipc_runtime_now_ns(registry->runtime);
  int64_t timeout_ms = pending->call.request.timeout_ms;
  if (timeout_ms == 0) timeout_ms = registry->options.request_timeout_ms;
  if (timeout_ms > 0 && timeout_ms < (INT64_MAX - pending->submitted_ns) / 1000000)
    pending->deadline_ns = pending->submitted_ns + timeout_ms * 1000000;
}

static void start_request(struct clipc_pool *pool, clipc_pending *pending) {
  clipc_error error = {CLIPC_OK, ""};
  clipc_status status;
  if (pending->call.bodies) {
    status = fetch_first(pool, pending, &error);
  } else {
    status = clipc__pool_dispatch(pool, pending);
    if (status != CLIPC_OK)
      clipc__fail(&error, status, "%.100s: %zu requests wait already", pool->entry->key,
                  pool->capacities[pending->queue]);
  }
  if (status == CLIPC_OK) return;
  clipc__pending_complete(pending, status, &error);
  clipc__pending_release(pending);
}

clipc_pending *clipc_pool_submit(clipc_pool *pool, const clipc_request *given) {
  if (pool == NULL) return NULL;
  clipc_registry *registry = pool->registry;
  clipc_runtime *runtime = registry->runtime;
  if (given == NULL) return clipc__request_refuse(runtime, NULL, CLIPC_E_INVALID, "the request is NULL");
  if (!clipc__runtime_usable(runtime))
    return clipc__request_refuse(runtime, given, CLIPC_E_RUNTIME_UNAVAILABLE, "the runtime is the parent process's");
  clipc_request request = *given;
  request.capability = pool->capability;
  const char *fault = clipc__request_fault(&request);
  if (fault) return clipc__request_refuse(runtime, given, CLIPC_E_INVALID, fault);
  if (request.n_inputs > 1) request.is_batch = 1;
  clipc_pending *pending;
  if (clipc__pending_make(&pending, runtime, &request, atomic_load(&pool->entry->dimension), NULL) != CLIPC_OK)
    return clipc__request_refuse(runtime, given, CLIPC_E_NO_MEMORY, "there is no memory for the request");
  pending->queue = queue_of(&request);
  clipc__request_time(pending, registry);
  atomic_store_explicit(&pool->entry->used_ns, pending->submitted_ns, memory_order_relaxed);
  atomic_fetch_add_explicit(&registry->counters.n_requests, 1, memory_order_relaxed);
  atomic_fetch_add_explicit(&registry->counters.by_capability[pool->capability], 1, memory_order_relaxed);
  clipc_pending *answer = pending; /* its other reference may be used up before this returns */
  if (!clipc__pool_enter(pool, pending)) {
    clipc__pending_fail(pending, CLIPC_E_SHUTTING_DOWN, "the registry is being closed");
    clipc__pending_release(pending);
  } else if (pending->call.n_items == 0) {
    clipc__pending_finish(pending);
    clipc__pending_release(pending);
  } else {
    start_request(pool, pending);
  }
  return answer;
}

clipc_pending *clipc_registry_submit(clipc_registry *registry, const char *key, const clipc_request *request) {
  if (registry == NULL) return NULL;
  if (request == NULL || key == NULL)
    return clipc__request_refuse(registry->runtime, request, CLIPC_E_INVALID,
                                 key ? "the request is NULL" : "the key is NULL");
  struct clipc__entry *entry = clipc__registry_find(registry, key);
  if ((unsigned)request->capability >= CLIPC_N_CAPABILITIES)
    return clipc__request_refuse(registry->runtime, request, CLIPC_E_INVALID, "the request is for no known capability");
  clipc_error error;
  if (entry == NULL)
    clipc__fail(&error, CLIPC_E_NO_WORKERS, "%s: no model has this name", key);
  else if (!(entry->capabilities & CLIPC_CAN(request->capability)))
    clipc__fail(&error, CLIPC_E_NO_WORKERS, "%s: the model is not for %s", key,
                clipc_capability_name(request->capability));
  else
    return clipc_pool_submit(&entry->pools[request->capability], request);
  return clipc__request_refuse(registry->runtime, request, CLIPC_E_NO_WORKERS, error.message);
}
