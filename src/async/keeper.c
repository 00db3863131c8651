/* The keeper of a registry: one task that changes its pools. It looks when its attention was called - a request found
 * no seat or all were busy, a load or a worker came to its end, somebody ordered a worker or an eviction - and when a
 * deadline or an idle worker's time is over; where there is neither it sleeps.
 *   cold          two workers, and the model is loaded            all busy     one more, where the budget allows
 *   a worker died one in its place                                idle         down to min_workers
 *   eviction      all are told to go; when they have, the model is freed */
#include "async/pool.h"

#include <string.h>

struct pool_census {
  int n_seated, n_accepting, n_starting, n_busy;
};

static struct pool_census take_census(const struct clipc_pool *pool) {
  struct pool_census census = {0};
  for (int i = 0, n = atomic_load(&pool->n_seats); i < n; i++) {
    struct clipc__seat *seat = atomic_load(&pool->seats[i]);
    int state = atomic_load(&seat->state);
    if (clipc__seat_is_empty(seat) && !atomic_load(&seat->left)) continue;
    census.n_seated++;
    if (clipc__seat_is_empty(seat) || seat->told_to_go) continue;
    census.n_accepting++;
    census.n_starting += state <= CLIPC_WORKER_LOADING;
    census.n_busy += atomic_load(&seat->load) > 0;
  }
  return census;
}

static void tell_to_go(struct clipc__seat *seat) {
  const clipc_pending *nothing = NULL;
  if (seat->told_to_go || clipc__seat_is_empty(seat)) return;
  if (clipc_channel_try_send(seat->channels[CLIPC__SEAT_SHUTDOWN], &nothing) == CLIPC_OK) seat->told_to_go = true;
}

static void tell_all_to_go(struct clipc_pool *pool) {
  for (int i = 0, n = atomic_load(&pool->n_seats); i < n; i++) tell_to_go(atomic_load(&pool->seats[i]));
}

/* ---- workers that have gone */

/* Requests that were left in an empty seat's channels go to others. */
static void empty_channels(struct clipc__seat *seat) {
  clipc_pending *pending;
  while (clipc_channel_try_receive(seat->channels[CLIPC__SEAT_SHUTDOWN], &pending) == CLIPC_OK) continue;
  for (int channel = 0; channel <= CLIPC__SEAT_HEALTH; channel++)
    while (clipc_channel_try_receive(seat->channels[channel], &pending) == CLIPC_OK) {
      atomic_fetch_sub(&seat->load, 1);
      if (channel == CLIPC__SEAT_HEALTH) clipc__pending_fail(pending, CLIPC_E_NO_WORKERS, "the worker has gone");
      if (clipc_pending_done(pending))
        clipc__pending_release(pending);
      else
        clipc__pool_redispatch(seat->pool, pending);
    }
}

/* Sees off those that have gone; the failure of one that never was ready is left in *failure. */
static void see_off(struct clipc_pool *pool, int64_t now_ns, clipc_error *failure) {
  for (int i = 0, n = atomic_load(&pool->n_seats); i < n; i++) {
    struct clipc__seat *seat = atomic_load(&pool->seats[i]);
    if (!clipc__seat_is_empty(seat)) continue;
    if (atomic_load(&seat->left)) {
      if (!seat->was_ready) {
        *failure = seat->failure;
        pool->no_growth_ns = now_ns + 1000000000;
      } else if (!seat->told_to_go) {
        pool->n_lost++;
        atomic_fetch_add(&pool->registry->counters.n_lost, 1);
        clipc__log(pool->registry->runtime, CLIPC_LOG_WARNING, "%s: a worker for %s has died", pool->entry->key,
                   clipc_capability_name(pool->capability));
      }
      atomic_store(&seat->left, false);
    }
    empty_channels(seat);
  }
}

/* ---- workers that are wanted */

static struct clipc__order *take_orders(struct clipc_pool *pool) {
  clipc__lock(&pool->lock);
  struct clipc__order *orders = pool->orders;
  pool->orders = NULL;
  clipc__unlock(&pool->lock);
  return orders;
}

static void carry_out_orders(struct clipc_pool *pool, bool refuse) {
  for (struct clipc__order *order = take_orders(pool), *next; order; order = next) {
    next = order->next;
    if (refuse) {
      clipc_memory_release(order->guard);
      if (order->spawned) {
        clipc__pending_fail(order->spawned, CLIPC_E_SHUTTING_DOWN, "the registry is being closed");
        clipc__pending_release(order->spawned);
      }
    } else {
      clipc__pool_spawn(pool, order, NULL);
    }
    clipc__free(&pool->registry->allocator, order);
  }
}

static bool spawn_one(struct clipc_pool *pool, bool may_evict, clipc_error *failure) {
  return clipc__pool_spawn(pool, &(struct clipc__order){.may_evict = may_evict}, failure) == CLIPC_OK;
}

/* Returns when to look again. */
static int64_t spawn_what_is_wanted(struct clipc_pool *pool, int64_t now_ns, clipc_error *failure) {
  const int most = pool->registry->options.max_workers;
  struct pool_census census = take_census(pool);
  bool demand = atomic_load(&pool->n_under_way) > 0;
  if (census.n_accepting == 0 && demand && failure->status == CLIPC_OK) {
    pool->n_lost = 0;
    int wanted = most - census.n_seated < 2 ? most - census.n_seated : 2;
    for (int i = 0; i < wanted; i++)
      if (!spawn_one(pool, i == 0, failure)) break;
    return INT64_MAX;
  }
  for (; pool->n_lost > 0 && census.n_seated < most; pool->n_lost--, census.n_seated++)
    if (!spawn_one(pool, true, failure)) break;
  pool->n_lost = 0;
  if (!atomic_load(&pool->wants_more) || census.n_seated >= most || census.n_starting > 0) return INT64_MAX;
  if (census.n_busy < census.n_accepting || !demand) {
    atomic_store(&pool->wants_more, false);
    return INT64_MAX;
  }
  if (now_ns < pool->no_growth_ns) return pool->no_growth_ns;
  atomic_store(&pool->wants_more, false);
  clipc_error ignored;
  spawn_one(pool, false, &ignored);
  return INT64_MAX;
}

static void flush_backlog(struct clipc_pool *pool) {
  for (size_t n = atomic_load(&pool->n_backlog); n > 0; n--) {
    clipc_pending *pending = clipc__pool_backlog(pool);
    if (pending == NULL) return;
    if (clipc_pending_done(pending))
      clipc__pending_release(pending);
    else if (!clipc__pool_redispatch(pool, pending))
      return;
  }
}

/* Tells idle workers above the minimum to go. Returns when to look again. */
static int64_t thin_out(struct clipc_pool *pool, int64_t now_ns) {
  const clipc_registry_options *options = &pool->registry->options;
  int n_spare = take_census(pool).n_accepting - options->min_workers;
  int64_t next_ns = INT64_MAX, idle_ns = options->idle_ms * 1000000;
  if (options->idle_ms < 0) return next_ns;
  for (int i = atomic_load(&pool->n_seats) - 1; i >= 0 && n_spare > 0; i--) {
    struct clipc__seat *seat = atomic_load(&pool->seats[i]);
    int state = atomic_load(&seat->state);
    if (clipc__seat_is_empty(seat) || seat->told_to_go) continue;
    bool idle = (state == CLIPC_WORKER_READY || state == CLIPC_WORKER_IDLE) && atomic_load(&seat->load) == 0;
    int64_t due_ns = (idle ? atomic_load(&seat->active_ns) : now_ns) + idle_ns;
    if (due_ns <= now_ns) {
      tell_to_go(seat);
      n_spare--;
    } else if (due_ns < next_ns) {
      next_ns = due_ns;
    }
  }
  return next_ns;
}

/* Returns when to look again; *n_seated counts on. */
static int64_t look_at_pool(struct clipc_pool *pool, int64_t now_ns, int *n_seated) {
  const clipc_registry *registry = pool->registry;
  const struct clipc__entry *entry = pool->entry;
  bool closing = atomic_load(&registry->closing), stopping = atomic_load(&registry->stopping);
  bool evict = atomic_load(&entry->evict);
  clipc_error failure = {CLIPC_OK, ""};
  int64_t next_ns = clipc__pool_expire(pool, now_ns);
  see_off(pool, now_ns, &failure);
  if (closing || stopping || !evict) carry_out_orders(pool, closing || stopping);
  if (closing || evict || (stopping && atomic_load(&pool->n_under_way) == 0)) {
    tell_all_to_go(pool);
  } else {
    int64_t again_ns = spawn_what_is_wanted(pool, now_ns, &failure);
    if (again_ns < next_ns) next_ns = again_ns;
    if (!stopping && (again_ns = thin_out(pool, now_ns)) < next_ns) next_ns = again_ns;
  }
  int n_now = take_census(pool).n_seated;
  if (failure.status != CLIPC_OK && n_now == 0) clipc__pool_fail(pool, failure.status, failure.message);
  flush_backlog(pool);
  *n_seated += n_now;
  return next_ns;
}

/* ---- models */

static void wake_workers(struct clipc__entry *entry, bool failed) {
  for (int c = 0; c < CLIPC_N_CAPABILITIES; c++)
    for (int i = 0, n = atomic_load(&entry->pools[c].n_seats); i < n; i++) {
      struct clipc__seat *seat = atomic_load(&entry->pools[c].seats[i]);
      if (failed && !clipc__seat_is_empty(seat) && !atomic_load(&seat->load_failed)) {
        seat->load_error = entry->load_error;
        atomic_store(&seat->load_failed, true);
      }
      clipc__waiter_wake(&seat->waiter);
    }
}

/* What came of loading. */
static void see_load(struct clipc__entry *entry) {
  if (atomic_load(&entry->state) != CLIPC__LOADING || !atomic_load(&entry->load_ended)) return;
  bool failed = entry->load_error.status != CLIPC_OK;
  if (!failed) {
    if (atomic_load(&entry->dimension) == 0) {
      entry->dimensions = entry->engine.dimension;
      atomic_store(&entry->dimension, entry->engine.dimension);
    }
    atomic_fetch_add(&entry->registry->counters.n_loads, 1);
  } else {
    clipc__log(entry->registry->runtime, CLIPC_LOG_ERROR, "%s: %s", entry->key, entry->load_error.message);
  }
  atomic_store(&entry->state, failed ? CLIPC__UNLOADED : CLIPC__LOADED);
  wake_workers(entry, failed);
}

static void unload(struct clipc__entry *entry) {
  clipc_registry *registry = entry->registry;
  atomic_store(&entry->evict, true); /* until its memory is back, who wants some waits for that and evicts no other */
  atomic_store(&entry->state, CLIPC__UNLOADED);
  if (entry->engine.release) entry->engine.release(entry->engine.self);
  entry->engine = (clipc_engine){0};
  clipc__memory_trim();
  clipc_memory_release(entry->guard);
  clipc_memory_release(entry->more);
  entry->guard = entry->more = NULL;
  atomic_store(&entry->evict, false);
  clipc__memory_look_again(registry->runtime);
  if (!atomic_load(&registry->closing)) atomic_fetch_add(&registry->counters.n_evictions, 1);
  atomic_store(&registry->attention, true); /* somebody may want it again */
}

static int64_t look_at_entry(struct clipc__entry *entry, int64_t now_ns, bool *over) {
  int64_t next_ns = INT64_MAX;
  int n_seated = 0;
  size_t n_under_way = 0;
  see_load(entry);
  for (int c = 0; c < CLIPC_N_CAPABILITIES; c++) {
    int64_t again_ns = look_at_pool(&entry->pools[c], now_ns, &n_seated);
    if (again_ns < next_ns) next_ns = again_ns;
    n_under_way += atomic_load(&entry->pools[c].n_under_way);
  }
  int state = atomic_load(&entry->state);
  if (state == CLIPC__LOADING && atomic_load(&entry->registry->closing)) clipc_task_cancel(entry->load_task);
  if (state == CLIPC__LOADED && n_seated == 0) unload(entry);
  if (state == CLIPC__UNLOADED && n_seated == 0 && atomic_exchange(&entry->evict, false)) {
    clipc__memory_look_again(entry->registry->runtime);
    atomic_store(&entry->registry->attention, true); /* what came meanwhile was not looked at */
  }
  if (n_seated > 0 || state == CLIPC__LOADING || n_under_way > 0) *over = false;
  return next_ns;
}

/* ---- the task */

static int64_t look_at_all(clipc_registry *registry, int64_t now_ns, bool *over) {
  int64_t next_ns = INT64_MAX;
  const struct clipc__snapshot *snapshot = atomic_load(&registry->snapshot);
  *over = atomic_load(&registry->closing) || atomic_load(&registry->stopping);
  for (size_t i = 0; snapshot && i < snapshot->n; i++) {
    int64_t again_ns = look_at_entry(snapshot->entries[i], now_ns, over);
    if (again_ns < next_ns) next_ns = again_ns;
  }
  return next_ns;
}

static int keeper_run(clipc_task *task, void *frame) {
  struct clipc__keeper *keeper = frame;
  clipc_registry *registry = keeper->registry;
  int64_t now_ns = clipc_runtime_now_ns(registry->runtime);
  if (atomic_exchange(&registry->attention, false) || now_ns >= keeper->next_ns) {
    bool over;
    keeper->next_ns = look_at_all(registry, now_ns, &over);
    if (over) return CLIPC_OK;
    clipc_task_set_deadline(task, keeper->next_ns == INT64_MAX ? 0 : keeper->next_ns);
    if (atomic_load(&registry->attention)) return CLIPC_YIELDING;
  }
  int status = clipc__task_blocked(task);
  if (status == CLIPC_E_TIMED_OUT) return CLIPC_YIELDING;
  if (status != CLIPC_OK) return status;
  clipc__waiter_set(&registry->keeper, task);
  return atomic_load(&registry->attention) ? CLIPC_YIELDING : CLIPC_WAITING;
}

static void keeper_drop(void *frame) {
  clipc_registry *registry = ((struct clipc__keeper *)frame)->registry;
  const struct clipc__snapshot *snapshot = atomic_load(&registry->snapshot);
  for (size_t i = 0; snapshot && i < snapshot->n; i++)
    for (int c = 0; c < CLIPC_N_CAPABILITIES; c++) carry_out_orders(&snapshot->entries[i]->pools[c], true);
  atomic_store(&registry->keeper_over, true);
  clipc__signal_raise(&registry->over);
  clipc__memory_look_again(registry->runtime);
  clipc__registry_release(registry);
}

clipc_status clipc__keeper_spawn(clipc_registry *registry, clipc_error *error) {
  static const clipc_task_kind kind = {
      .name = "keeper", .run = keeper_run, .drop = keeper_drop, .frame_bytes = sizeof(struct clipc__keeper)};
  return clipc_spawn(NULL, registry->runtime, &kind, &(struct clipc__keeper){.registry = registry}, error);
}
