/* What a registry has counted, and its models, pools and workers in lines for people. */
#include "async/pool.h"

#include <stdio.h>

void clipc__count_time(atomic_ullong histogram[CLIPC_N_BUCKETS], int64_t ns) {
  uint64_t us = ns > 0 ? (uint64_t)ns / 1000 : 0;
  int bucket = us == 0 ? 0 : 64 - __builtin_clzll(us); /* us < 2^bucket */
  if (bucket >= CLIPC_N_BUCKETS) bucket = CLIPC_N_BUCKETS - 1;
  atomic_fetch_add_explicit(&histogram[bucket], 1, memory_order_relaxed);
}

const char *clipc_capability_name(clipc_capability capability) {
  static const char *const names[CLIPC_N_CAPABILITIES] = {"image_embedding", "text_embedding", "vision", "text_to_text",
                                                          "text_to_image"};
  return (unsigned)capability < CLIPC_N_CAPABILITIES ? names[capability] : "unknown";
}

const char *clipc_worker_state_name(clipc_worker_state state) {
  static const char *const names[CLIPC_N_WORKER_STATES] = {"None", "Spawning", "Loading", "Ready", "Processing",
                                                           "Idle", "Evicting", "Dead",    "Failed"};
  return (unsigned)state < CLIPC_N_WORKER_STATES ? names[state] : "None";
}

size_t clipc_pool_workers(const clipc_pool *pool, clipc_worker_info *infos, size_t n) {
  if (pool == NULL) return 0;
  size_t n_seats = (size_t)atomic_load(&pool->n_seats);
  for (size_t i = 0; infos && i < n && i < n_seats; i++) {
    const struct clipc__seat *seat = atomic_load(&pool->seats[i]);
    int load = atomic_load(&seat->load);
    infos[i] = (clipc_worker_info){.state = (clipc_worker_state)atomic_load(&seat->state),
                                   .last_activity_ns = atomic_load(&seat->active_ns),
                                   .n_requests = load > 0 ? (size_t)load : 0,
                                   .n_done = atomic_load(&seat->n_calls)};
  }
  return n_seats;
}

static void copy_counts(uint64_t *to, const atomic_ullong *from, size_t n) {
  for (size_t i = 0; i < n; i++) to[i] = atomic_load_explicit(&from[i], memory_order_relaxed);
}

static void count_pool(const struct clipc_pool *pool, clipc_metrics *out) {
  out->n_under_way += atomic_load(&pool->n_under_way);
  for (int i = 0, n = atomic_load(&pool->n_seats); i < n; i++) {
    int state = atomic_load(&((const struct clipc__seat *)atomic_load(&pool->seats[i]))->state);
    if (state >= 0 && state < CLIPC_N_WORKER_STATES) out->workers[state]++;
  }
}

clipc_status clipc_registry_metrics(clipc_registry *registry, clipc_metrics *out, clipc_error *error) {
  if (registry == NULL || out == NULL)
    return clipc__fail(error, CLIPC_E_INVALID, "clipc_registry_metrics: %s is NULL", registry ? "out" : "registry");
  const struct clipc__counters *counters = &registry->counters;
  clipc_metrics metrics = {0};
  copy_counts(&metrics.n_requests, &counters->n_requests, 1);
  copy_counts(&metrics.n_items, &counters->n_items, 1);
  copy_counts(&metrics.n_batches, &counters->n_batches, 1);
  copy_counts(&metrics.n_batched, &counters->n_batched, 1);
  copy_counts(&metrics.n_loads, &counters->n_loads, 1);
  copy_counts(&metrics.n_evictions, &counters->n_evictions, 1);
  copy_counts(&metrics.n_spawned, &counters->n_spawned, 1);
  copy_counts(&metrics.n_lost, &counters->n_lost, 1);
  copy_counts(metrics.by_status, counters->by_status, CLIPC_N_STATUSES);
  copy_counts(metrics.by_capability, counters->by_capability, CLIPC_N_CAPABILITIES);
  copy_counts(metrics.queued_us, counters->queued, CLIPC_N_BUCKETS);
  copy_counts(metrics.computing_us, counters->computing, CLIPC_N_BUCKETS);
  const struct clipc__snapshot *snapshot = atomic_load(&registry->snapshot);
  for (size_t i = 0; snapshot && i < snapshot->n; i++)
    for (int c = 0; c < CLIPC_N_CAPABILITIES; c++) count_pool(&snapshot->entries[i]->pools[c], &metrics);
  clipc_status status =
      clipc_memory_usage(registry->runtime, &metrics.memory_used_bytes, &metrics.memory_budget_bytes, error);
  if (status == CLIPC_OK) *out = metrics;
  return status;
}

static void dump_pool(const struct clipc_pool *pool, void (*write)(void *, const char *), void *context) {
  char line[256];
  int n = atomic_load(&pool->n_seats);
  if (n == 0 && atomic_load(&pool->n_under_way) == 0) return;
  snprintf(line, sizeof line, "  pool %s: %zu under way, %zu being fetched", clipc_capability_name(pool->capability),
           atomic_load(&pool->n_under_way), atomic_load(&pool->n_fetching));
  write(context, line);
  int64_t now = clipc_runtime_now_ns(pool->registry->runtime);
  for (int i = 0; i < n; i++) {
    const struct clipc__seat *seat = atomic_load(&pool->seats[i]);
    snprintf(line, sizeof line, "    worker %d: %s, %d requests, %llu done, last active %.3f s ago", i,
             clipc_worker_state_name((clipc_worker_state)atomic_load(&seat->state)), atomic_load(&seat->load),
             (unsigned long long)atomic_load(&seat->n_calls), (double)(now - atomic_load(&seat->active_ns)) / 1e9);
    write(context, line);
  }
}

void clipc_registry_dump(clipc_registry *registry, void (*write)(void *context, const char *line), void *context) {
  static const char *const states[] = {"not loaded", "loading", "loaded"};
  if (registry == NULL || write == NULL) return;
  const struct clipc__snapshot *snapshot = atomic_load(&registry->snapshot);
  for (size_t i = 0; snapshot && i < snapshot->n; i++) {
    const struct clipc__entry *entry = snapshot->entries[i];
    char line[256];
    snprintf(line, sizeof line, "model %.160s: %s%s", entry->key, states[atomic_load(&entry->state)],
             atomic_load(&entry->evict) ? ", to be evicted" : "");
    write(context, line);
    for (int c = 0; c < CLIPC_N_CAPABILITIES; c++) dump_pool(&entry->pools[c], write, context);
  }
}
