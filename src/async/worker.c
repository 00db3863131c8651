/* The one worker, of all five capabilities: waits for its model, makes what it owns, then takes requests out of its
 * seat's channels and computes together what waits together. An engine computes in turns; between them the scheduler
 * runs others, and calls that nobody waits for any more are dropped. Invariant: each call that was taken holds one
 * reference, and is finished exactly once, here or in drop. */
#include "async/pool.h"

struct seated {
  int at;
  struct clipc__seat *seat; /* with a reference to the registry */
  clipc_guard *guard;
  clipc_pending *spawned; /* who wants to know when it is ready; NULL = nobody */
  uint64_t worker_bytes;
  struct clipc__claim claim;
  bool may_evict, is_open, leaving, probing, broken;
  void *own;          /* the engine's */
  clipc_call **calls; /* [max_batch] that are computed next, or now */
  size_t n_calls, n_items, max_batch;
  clipc_pending *held; /* was taken, and did not fit */
  size_t first, n_now; /* calls that the engine has */
  int engine_at;
  size_t decoding, decoding_at; /* call, item */
  size_t which;                 /* the channel of the message */
  clipc_pending *message;
  clipc_error error;
};

static const clipc_engine *engine_of(const struct seated *w) { return &w->seat->pool->entry->engine; }
static clipc_registry *registry_of(const struct seated *w) { return w->seat->pool->registry; }

static void set_state(struct seated *w, clipc_worker_state state) {
  atomic_store(&w->seat->state, (int)state);
  atomic_store_explicit(&w->seat->active_ns, clipc_runtime_now_ns(registry_of(w)->runtime), memory_order_relaxed);
}

/* ---- getting ready */

static int model_is_there(struct seated *w) {
  if (atomic_load(&w->seat->load_failed)) {
    w->error = w->seat->load_error;
    return (int)w->error.status;
  }
  return atomic_load(&w->seat->pool->entry->state) == CLIPC__LOADED ? CLIPC_OK : CLIPC_WAITING;
}

static int await_model(clipc_task *task, struct seated *w) {
  int status = model_is_there(w);
  if (status != CLIPC_WAITING) return status;
  if ((status = clipc__task_blocked(task)) != CLIPC_OK) return status;
  clipc__waiter_set(&w->seat->waiter, task);
  return model_is_there(w);
}

static int claim_workspace(clipc_task *task, struct seated *w) {
  uint64_t n_bytes = w->worker_bytes ? w->worker_bytes : engine_of(w)->worker_bytes;
  if (w->guard || n_bytes == 0) return CLIPC_OK;
  return clipc__memory_claim(task, &w->claim, &w->guard, n_bytes, w->may_evict, w->seat->pool->entry, &w->error);
}

static clipc_status open_seat(struct seated *w) {
  const clipc_engine *engine = engine_of(w);
  w->max_batch = engine->max_batch ? engine->max_batch : 1;
  if (w->max_batch > registry_of(w)->options.max_batch) w->max_batch = registry_of(w)->options.max_batch;
  w->calls = clipc__alloc(&registry_of(w)->allocator, w->max_batch, sizeof *w->calls);
  if (w->calls == NULL) return clipc__no_memory(&w->error, "a worker");
  clipc_status status = engine->open_worker ? engine->open_worker(engine->self, &w->own, &w->error) : CLIPC_OK;
  if (status != CLIPC_OK) {
    if (w->error.status == CLIPC_OK) clipc__fail(&w->error, status, "no worker: %s", clipc_status_name(status));
    return status;
  }
  w->is_open = true;
  w->seat->was_ready = true;
  atomic_fetch_add(&registry_of(w)->counters.n_spawned, 1);
  set_state(w, CLIPC_WORKER_READY);
  if (w->spawned) {
    clipc__pending_finish(w->spawned);
    clipc__pending_release(w->spawned);
    w->spawned = NULL;
  }
  clipc__registry_attend(registry_of(w)); /* for the backlog */
  return CLIPC_OK;
}

/* ---- gathering */

static void call_is_over(struct seated *w, clipc_pending *pending) {
  atomic_fetch_sub(&w->seat->load, 1);
  clipc__pending_release(pending);
}

/* Into the next computation, or held back; false when that is full. */
static bool add_call(struct seated *w, clipc_pending *pending) {
  if (clipc_pending_done(pending)) {
    call_is_over(w, pending);
    return true;
  }
  if (w->n_calls > 0 && (w->n_calls == w->max_batch || pending->call.n_items > w->max_batch - w->n_items)) {
    w->held = pending;
    return false;
  }
  w->calls[w->n_calls++] = &pending->call;
  w->n_items += pending->call.n_items;
  return w->n_items < w->max_batch;
}

static void gather_waiting(struct seated *w) {
  if (w->held) {
    clipc_pending *held = w->held;
    w->held = NULL;
    if (!add_call(w, held)) return;
  }
  for (int queue = 0; queue < CLIPC__N_QUEUES; queue++)
    for (clipc_pending *pending;
         w->n_items < w->max_batch && (pending = clipc__seat_take(w->seat, (enum clipc__queue)queue)) != NULL;)
      if (!add_call(w, pending)) return;
}

/* One message of any channel: a request, a ping, or to go. */
static int await_message(clipc_task *task, struct seated *w) {
  if (w->held) return CLIPC_OK;
  int status = clipc_select(task, w->seat->channels, CLIPC__N_SEAT_CHANNELS, &w->which, &w->message);
  if (status != CLIPC_OK) return status;
  if (w->which == CLIPC__SEAT_SHUTDOWN)
    w->leaving = true;
  else if (w->which == CLIPC__SEAT_HEALTH)
    w->probing = add_call(w, w->message) ? w->n_calls > 0 : true;
  else
    add_call(w, w->message);
  return CLIPC_OK;
}

/* Whether it is worth while to wait for company. */
static bool may_delay(const struct seated *w) {
  return registry_of(w)->options.max_delay_us > 0 && w->n_calls > 0 && w->n_items < w->max_batch && !w->held &&
         !w->leaving && !w->probing;
}

static int await_company(clipc_task *task, struct seated *w) {
  while (may_delay(w)) {
    int status = clipc_select(task, w->seat->channels, CLIPC__N_QUEUES, &w->which, &w->message);
    if (status != CLIPC_OK) return status; /* TIMED_OUT: that was long enough */
    add_call(w, w->message);
  }
  return CLIPC_OK;
}

/* ---- computing */

static void finish_call(struct seated *w, size_t i, clipc_status status, const clipc_error *error) {
  clipc_pending *pending = (clipc_pending *)w->calls[i];
  clipc__count_time(registry_of(w)->counters.computing,
                    clipc_runtime_now_ns(registry_of(w)->runtime) - pending->started_ns);
  atomic_fetch_add_explicit(&w->seat->n_calls, 1, memory_order_relaxed);
  if (w->probing && (status != CLIPC_OK || pending->call.item_errors[0].status != CLIPC_OK)) w->broken = true;
  atomic_fetch_sub(&w->seat->load, 1); /* first: whoever hears of it may ask for the next one */
  if (status == CLIPC_OK)
    clipc__pending_finish(pending);
  else
    clipc__pending_complete(pending, status, error);
  clipc__pending_release(pending);
}

/* Decodes base64, and makes room for vectors; what has failed by then is finished without being computed. False: there
 * is more to decode. */
static bool prepare_calls(struct seated *w) {
  for (; w->decoding < w->n_calls; w->decoding++, w->decoding_at = 0)
    if (!clipc__call_decode(w->calls[w->decoding], &w->decoding_at, UINT64_MAX)) return false;
  size_t dimension = w->seat->pool->capability <= CLIPC_VISION ? engine_of(w)->dimension : 0;
  int64_t now = clipc_runtime_now_ns(registry_of(w)->runtime);
  struct clipc__counters *counters = &registry_of(w)->counters;
  size_t n = 0;
  w->n_items = 0;
  for (size_t i = 0; i < w->n_calls; i++) {
    clipc_call *call = w->calls[i];
    clipc_pending *pending = (clipc_pending *)call;
    pending->started_ns = now;
    clipc__count_time(counters->queued, now - pending->submitted_ns);
    clipc_error error = {CLIPC_OK, ""};
    bool no_room = dimension > 0 && clipc__call_rows(call, dimension) == NULL;
    if (no_room) clipc__no_memory(&error, "the vectors of a request");
    if (no_room || clipc__call_all_failed(call)) {
      finish_call(w, i, error.status, &error);
    } else {
      w->calls[n++] = call;
      w->n_items += call->n_items;
    }
  }
  w->n_calls = w->n_now = n;
  w->first = w->decoding = w->decoding_at = 0;
  w->engine_at = 0;
  if (n == 0) return true;
  atomic_fetch_add_explicit(&counters->n_items, w->n_items, memory_order_relaxed);
  atomic_fetch_add_explicit(&counters->n_batches, 1, memory_order_relaxed);
  if (n > 1) atomic_fetch_add_explicit(&counters->n_batched, n, memory_order_relaxed);
  return true;
}

/* Nobody waits for any of the calls that the engine has. */
static bool nobody_waits(const struct seated *w) {
  for (size_t i = w->first; i < w->first + w->n_now; i++)
    if (!clipc_call_cancelled(w->calls[i])) return false;
  return true;
}

static int wait_with_engine(clipc_task *task, struct seated *w) {
  for (size_t i = w->first; i < w->first + w->n_now; i++)
    clipc__waiter_set(&((clipc_pending *)w->calls[i])->worker, task);
  return nobody_waits(w) ? CLIPC_YIELDING : CLIPC_WAITING; /* a cancel may have come in between */
}

/* One turn of the engine: CLIPC_OK when the last call is finished. Calls that failed together are computed once more,
 * each alone. */
static int compute_turn(clipc_task *task, struct seated *w) {
  if (w->first == w->n_calls) return CLIPC_OK;
  if (clipc_task_cancelled(task)) return CLIPC_E_CANCELLED;
  const clipc_engine *engine = engine_of(w);
  int status = CLIPC_E_CANCELLED;
  w->error.status = CLIPC_OK, w->error.message[0] = '\0';
  if (!nobody_waits(w)) {
    status = engine->compute(task, engine->self, w->own, w->calls + w->first, w->n_now, &w->engine_at, &w->error);
    if (status == CLIPC_YIELDING) return status;
    if (status == CLIPC_WAITING) return wait_with_engine(task, w);
  }
  w->engine_at = 0;
  if (status != CLIPC_OK && w->n_now > 1 && !nobody_waits(w)) {
    w->n_now = 1;
    return CLIPC_YIELDING;
  }
  if (status != CLIPC_OK && w->error.status == CLIPC_OK)
    clipc__fail(&w->error, (clipc_status)status, "%s", clipc_status_name((clipc_status)status));
  if (status == CLIPC_E_CANCELLED && clipc_task_cancelled(task)) return status; /* drop says why */
  for (; w->n_now > 0; w->n_now--) finish_call(w, w->first++, (clipc_status)status, &w->error);
  w->n_now = w->first < w->n_calls ? 1 : 0;
  return w->n_now > 0 ? CLIPC_YIELDING : CLIPC_OK;
}

static void be_done(struct seated *w) {
  w->n_calls = w->n_items = w->first = w->n_now = 0;
  w->probing = false;
  w->error.status = CLIPC_OK;
  set_state(w, w->leaving ? CLIPC_WORKER_EVICTING : CLIPC_WORKER_IDLE);
  if (atomic_load(&w->seat->pool->n_backlog) > 0) clipc__registry_attend(registry_of(w));
}

/* ---- the task */

static int worker_run(clipc_task *task, void *frame) {
  struct seated *w = frame;
  int status = CLIPC_OK;
  CLIPC_TASK_BEGIN(w);
  set_state(w, CLIPC_WORKER_LOADING);
  CLIPC_AWAIT(w, status, await_model(task, w));
  if (status != CLIPC_OK) return status;
  CLIPC_AWAIT(w, status, claim_workspace(task, w));
  if (status != CLIPC_OK || (status = (int)open_seat(w)) != CLIPC_OK) return status;
  while (!w->broken) {
    if (!w->leaving) {
      CLIPC_AWAIT(w, status, await_message(task, w));
      if (status != CLIPC_OK) return status;
    }
    if (w->leaving) atomic_store(&w->seat->state, CLIPC_WORKER_EVICTING);
    if (!w->probing) gather_waiting(w);
    if (may_delay(w)) {
      clipc_task_set_deadline(task, clipc_runtime_now_ns(registry_of(w)->runtime) +
                                        registry_of(w)->options.max_delay_us * 1000);
      CLIPC_AWAIT(w, status, await_company(task, w));
      clipc_task_set_deadline(task, 0);
    }
    if (w->leaving && w->n_calls == 0) return CLIPC_OK;
    if (w->n_calls == 0) continue;
    if (!w->leaving) set_state(w, CLIPC_WORKER_PROCESSING);
    while (!prepare_calls(w)) CLIPC_YIELD(w);
    for (;;) {
      CLIPC_AWAIT(w, status, compute_turn(task, w));
      if (status != CLIPC_YIELDING) break;
      CLIPC_YIELD(w);
    }
    if (status != CLIPC_OK) return status;
    be_done(w);
  }
  CLIPC_TASK_END(w, CLIPC_OK);
}

static void end_call(struct seated *w, clipc_pending *pending) {
  clipc__pending_fail(pending, CLIPC_E_SHUTTING_DOWN, "the runtime was shut down");
  call_is_over(w, pending);
}

/* What befell those that wait for a worker that was never ready. */
static void tell_failure(struct seated *w) {
  struct clipc__seat *seat = w->seat;
  if (w->error.status == CLIPC_OK) clipc__fail(&w->error, CLIPC_E_SHUTTING_DOWN, "the runtime was shut down");
  clipc_status status = clipc__spawn_status(w->error.status);
  clipc__fail(&seat->failure, status, "%.100s: %s", seat->pool->entry->key, w->error.message);
}

static void worker_drop(void *frame) {
  struct seated *w = frame;
  struct clipc__seat *seat = w->seat;
  clipc_registry *registry = registry_of(w);
  clipc__memory_give_up(&w->claim);
  for (; w->first < w->n_calls; w->first++) end_call(w, (clipc_pending *)w->calls[w->first]);
  if (w->held) end_call(w, w->held);
  if (w->is_open && engine_of(w)->close_worker) engine_of(w)->close_worker(engine_of(w)->self, w->own);
  clipc__free(&registry->allocator, w->calls);
  clipc_memory_release(w->guard);
  if (!w->is_open) tell_failure(w);
  if (w->spawned) {
    clipc__pending_complete(w->spawned, seat->failure.status, &seat->failure);
    clipc__pending_release(w->spawned);
  }
  atomic_store(&seat->state, w->is_open ? CLIPC_WORKER_DEAD : CLIPC_WORKER_FAILED);
  atomic_store(&seat->left, true);
  clipc__registry_attend(registry);
  clipc__registry_release(registry);
}

clipc_status clipc__spawn_status(clipc_status status) {
  return status == CLIPC_E_MEMORY_BUDGET || status == CLIPC_E_SHUTTING_DOWN ? status : CLIPC_E_SPAWN_FAILED;
}

clipc_status clipc__worker_start(struct clipc__seat *seat, const struct clipc__order *order, clipc_error *error) {
  static const clipc_task_kind kind = {
      .name = "worker", .run = worker_run, .drop = worker_drop, .frame_bytes = sizeof(struct seated)};
  clipc_registry *registry = seat->pool->registry;
  struct seated w = {.seat = seat,
                     .guard = order->guard,
                     .spawned = order->spawned,
                     .worker_bytes = order->worker_bytes,
                     .may_evict = order->may_evict};
  seat->told_to_go = seat->was_ready = false;
  seat->failure.status = CLIPC_OK;
  atomic_store(&seat->load_failed, false);
  atomic_store(&seat->left, false);
  atomic_store(&seat->active_ns, clipc_runtime_now_ns(registry->runtime));
  atomic_store(&seat->state, CLIPC_WORKER_SPAWNING);
  clipc__registry_retain(registry);
  clipc_error inner = {CLIPC_OK, ""};
  clipc_status status = clipc_spawn(NULL, registry->runtime, &kind, &w, &inner);
  if (status == CLIPC_OK) return CLIPC_OK;
  atomic_store(&seat->state, CLIPC_WORKER_FAILED);
  clipc_memory_release(order->guard);
  clipc__fail(&seat->failure, clipc__spawn_status(status), "%.100s: %s", seat->pool->entry->key, inner.message);
  if (order->spawned) {
    clipc__pending_complete(order->spawned, seat->failure.status, &seat->failure);
    clipc__pending_release(order->spawned);
  }
  if (error) *error = seat->failure;
  clipc__registry_release(registry);
  return status;
}
