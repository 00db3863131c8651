/* Seats, and orders for workers to sit in them. An order comes from the keeper, or from a caller of
 * clipc_pool_spawn_worker; the keeper alone makes seats and fills them. */
#include "async/pool.h"

static void drop_request(void *message) {
  clipc_pending *pending = *(clipc_pending **)message;
  if (pending == NULL) return; /* a message to go */
  clipc__pending_fail(pending, CLIPC_E_SHUTTING_DOWN, "the registry was closed");
  clipc__pending_release(pending);
}

static struct clipc__seat *make_seat(struct clipc_pool *pool, clipc_error *error) {
  enum { PINGS = 16, GOODBYES = 4 };
  clipc_registry *registry = pool->registry;
  struct clipc__seat *seat = clipc__alloc_zeroed(&registry->allocator, 1, sizeof *seat);
  if (seat == NULL) {
    clipc__no_memory(error, "a worker");
    return NULL;
  }
  seat->pool = pool;
  seat->index = atomic_load(&pool->n_seats);
  atomic_store(&seat->state, CLIPC_WORKER_DEAD);
  clipc_status status = CLIPC_OK;
  for (int i = 0; i < CLIPC__N_SEAT_CHANNELS && status == CLIPC_OK; i++) {
    size_t capacity = i < CLIPC__N_QUEUES ? pool->capacities[i] : i == CLIPC__SEAT_HEALTH ? PINGS : GOODBYES;
    status = clipc_channel_open(&seat->channels[i], sizeof(clipc_pending *), capacity, drop_request, error);
  }
  if (status != CLIPC_OK) {
    for (int i = 0; i < CLIPC__N_SEAT_CHANNELS; i++) {
      clipc_channel_close_sender(seat->channels[i]);
      clipc_channel_close_receiver(seat->channels[i]);
    }
    clipc__free(&registry->allocator, seat);
    return NULL;
  }
  atomic_store(&pool->seats[seat->index], seat);
  atomic_store(&pool->n_seats, seat->index + 1);
  return seat;
}

static struct clipc__seat *empty_seat(struct clipc_pool *pool, clipc_error *error) {
  int n = atomic_load(&pool->n_seats);
  for (int i = 0; i < n; i++) {
    struct clipc__seat *seat = atomic_load(&pool->seats[i]);
    if (clipc__seat_is_empty(seat) && !atomic_load(&seat->left)) return seat;
  }
  if (n < pool->registry->options.max_workers) return make_seat(pool, error);
  clipc__fail(error, CLIPC_E_LIMIT, "%.100s: there are %d workers already", pool->entry->key, n);
  return NULL;
}

/* What waits for a load that cannot even begin. */
static void fail_load(struct clipc__entry *entry, const clipc_error *error) {
  entry->load_error = *error;
  atomic_store(&entry->load_ended, true);
  atomic_store(&entry->state, CLIPC__LOADING); /* for the keeper to see it end */
  clipc__registry_attend(entry->registry);
}

clipc_status clipc__pool_spawn(struct clipc_pool *pool, const struct clipc__order *order, clipc_error *error) {
  clipc_error inner = {CLIPC_OK, ""};
  struct clipc__seat *seat = empty_seat(pool, &inner);
  if (seat == NULL) {
    clipc_memory_release(order->guard);
    if (order->spawned) {
      clipc__pending_complete(order->spawned, inner.status == CLIPC_E_LIMIT ? CLIPC_E_LIMIT : CLIPC_E_SPAWN_FAILED,
                              &inner);
      clipc__pending_release(order->spawned);
    }
    if (error) *error = inner;
    return inner.status;
  }
  clipc_status status = clipc__worker_start(seat, order, error);
  struct clipc__entry *entry = pool->entry;
  if (status != CLIPC_OK || atomic_load(&entry->state) != CLIPC__UNLOADED) return status;
  if (clipc__load_start(entry, order->has_loader ? &order->loader : &entry->loader, &inner) == CLIPC_OK)
    atomic_store(&entry->state, CLIPC__LOADING);
  else
    fail_load(entry, &inner);
  return CLIPC_OK;
}

/* ---- from outside */

static clipc_status check_order(const clipc_pool *pool, clipc_capability capability, const char *registry_key,
                                const clipc_loader *loader, uint64_t per_worker_mb, clipc_error *error) {
  if (pool == NULL || registry_key == NULL || (loader && loader->run == NULL))
    return clipc__fail(error, CLIPC_E_INVALID, "clipc_pool_spawn_worker: %s is NULL",
                       pool == NULL           ? "pool"
                       : registry_key == NULL ? "registry_key"
                                              : "the loader's function");
  if (capability != pool->capability || clipc__registry_find(pool->registry, registry_key) != pool->entry)
    return clipc__fail(error, CLIPC_E_INVALID, "%s for %s is not what the pool is for", registry_key,
                       clipc_capability_name(capability));
  if (per_worker_mb > UINT64_MAX >> 20)
    return clipc__fail(error, CLIPC_E_INVALID, "%llu MiB for a worker", (unsigned long long)per_worker_mb);
  return CLIPC_OK;
}

static clipc_status place_order(struct clipc_pool *pool, struct clipc__order *order, clipc_error *error) {
  clipc_registry *registry = pool->registry;
  clipc__lock(&pool->lock);
  bool open = !pool->closed && !atomic_load(&registry->closing) && !atomic_load(&registry->stopping);
  if (open) {
    order->next = pool->orders;
    pool->orders = order;
  }
  clipc__unlock(&pool->lock);
  if (!open) return clipc__fail(error, CLIPC_E_SHUTTING_DOWN, "%s: the registry is being closed", pool->entry->key);
  clipc__registry_attend(registry);
  return CLIPC_OK;
}

clipc_status clipc_pool_spawn_worker(clipc_pool *pool, clipc_capability capability, const char *registry_key,
                                     const clipc_loader *loader, uint64_t per_worker_mb, clipc_guard *guard,
                                     clipc_pending **spawned, clipc_error *error) {
  if (spawned) *spawned = NULL;
  clipc_status status = check_order(pool, capability, registry_key, loader, per_worker_mb, error);
  struct clipc__order *order = NULL;
  clipc_pending *pending = NULL;
  if (status == CLIPC_OK) {
    order = clipc__alloc_zeroed(&pool->registry->allocator, 1, sizeof *order);
    if (order == NULL) status = clipc__no_memory(error, "an order for a worker");
  }
  if (status == CLIPC_OK && spawned) {
    const clipc_request nobody_cancels = {.is_batch = 1};
    status = clipc__pending_make(&pending, pool->registry->runtime, &nobody_cancels, 0, error);
  }
  if (status == CLIPC_OK) {
    order->has_loader = loader != NULL;
    if (loader) order->loader = *loader;
    order->worker_bytes = per_worker_mb << 20;
    order->guard = guard;
    order->spawned = pending;
    order->may_evict = true;
    status = place_order(pool, order, error);
  }
  if (status == CLIPC_OK) {
    if (spawned) *spawned = pending;
    return CLIPC_OK;
  }
  if (pending) {
    clipc__pending_release(pending);
    clipc__pending_release(pending);
  }
  if (order) clipc__free(&pool->registry->allocator, order);
  clipc_memory_release(guard);
  return status;
}
