/* Models by name. Names are looked up in a snapshot that is replaced as a whole when one is added, so that lookups take
 * no lock; models stay until the registry goes. All registries of a runtime are in one list, for its shutdown and for
 * the memory governor. */
#include "async/pool.h"

#include <string.h>

/* ---- the registries of a runtime */

struct clipc__registries {
  clipc_allocator allocator;
  atomic_uint references; /* the runtime's, and one of each registry */
  struct clipc__lock lock;
  clipc_registry *first;
};

static void registries_release(struct clipc__registries *registries) {
  if (atomic_fetch_sub(&registries->references, 1) > 1) return;
  clipc_allocator allocator = registries->allocator;
  clipc__free(&allocator, registries);
}

static clipc_status registries_make(void **out, clipc_runtime *runtime, clipc_error *error) {
  struct clipc__registries *registries = clipc__alloc_zeroed(clipc__runtime_allocator(runtime), 1, sizeof *registries);
  if (registries == NULL) return clipc__no_memory(error, "the list of registries");
  registries->allocator = *clipc__runtime_allocator(runtime);
  atomic_store(&registries->references, 1);
  *out = registries;
  return CLIPC_OK;
}

/* The first registry, or the one behind `registry`, with a reference in place of that one's. */
static clipc_registry *next_registry(struct clipc__registries *registries, clipc_registry *registry) {
  clipc__lock(&registries->lock);
  clipc_registry *next = registry ? registry->next_registry : registries->first;
  /* one whose references are used up waits for the lock to leave the list */
  while (next) {
    size_t n = atomic_load(&next->references);
    while (n > 0 && !atomic_compare_exchange_weak(&next->references, &n, n + 1)) {
    }
    if (n > 0) break;
    next = next->next_registry;
  }
  clipc__unlock(&registries->lock);
  if (registry) clipc__registry_release(registry);
  return next;
}

static void close_pools(clipc_registry *registry) {
  const struct clipc__snapshot *snapshot = atomic_load(&registry->snapshot);
  for (size_t i = 0; snapshot && i < snapshot->n; i++)
    for (int c = 0; c < CLIPC_N_CAPABILITIES; c++) {
      struct clipc_pool *pool = &snapshot->entries[i]->pools[c];
      clipc__lock(&pool->lock);
      pool->closed = true;
      clipc__unlock(&pool->lock);
    }
}

static void fail_pools(clipc_registry *registry, const char *sentence) {
  const struct clipc__snapshot *snapshot = atomic_load(&registry->snapshot);
  for (size_t i = 0; snapshot && i < snapshot->n; i++)
    for (int c = 0; c < CLIPC_N_CAPABILITIES; c++)
      clipc__pool_fail(&snapshot->entries[i]->pools[c], CLIPC_E_SHUTTING_DOWN, sentence);
}

static void registries_stop(void *object) {
  struct clipc__registries *registries = object;
  for (clipc_registry *registry = NULL; (registry = next_registry(registries, registry)) != NULL;) {
    atomic_store(&registry->stopping, true);
    close_pools(registry);
    clipc__registry_attend(registry);
  }
}

static void registries_retain(void *registries) {
  atomic_fetch_add(&((struct clipc__registries *)registries)->references, 1);
}

static void registries_free(void *object) {
  struct clipc__registries *registries = object;
  for (clipc_registry *registry = NULL; (registry = next_registry(registries, registry)) != NULL;)
    fail_pools(registry, "the runtime was shut down");
  registries_release(registries);
}

/* With a reference. */
static clipc_status registries_of(struct clipc__registries **out, clipc_runtime *runtime, clipc_error *error) {
  static const struct clipc__slot_kind kind = {.slot = CLIPC__SLOT_POOLS,
                                               .make = registries_make,
                                               .stop = registries_stop,
                                               .retain = registries_retain,
                                               .free = registries_free};
  void *object = NULL;
  clipc_status status = clipc__runtime_slot(&object, runtime, &kind, error);
  *out = object;
  return status;
}

static void registries_leave(clipc_registry *registry) {
  struct clipc__registries *registries = registry->registries;
  clipc__lock(&registries->lock);
  clipc_registry **link = &registries->first;
  while (*link != registry) link = &(*link)->next_registry;
  *link = registry->next_registry;
  clipc__unlock(&registries->lock);
  registries_release(registries);
}

/* ---- eviction for others */

static bool entry_is_idle(const struct clipc__entry *entry) {
  for (int c = 0; c < CLIPC_N_CAPABILITIES; c++)
    if (atomic_load(&entry->pools[c].n_under_way) > 0) return false;
  return atomic_load(&entry->state) == CLIPC__LOADED;
}

/* Its memory comes back soon, or just has. */
static bool entry_is_going(const struct clipc__entry *entry) {
  return atomic_load(&entry->evict) && (atomic_load(&entry->state) == CLIPC__UNLOADED || entry_is_idle(entry));
}

bool clipc__registries_evict(clipc_runtime *runtime, const struct clipc__entry *except) {
  struct clipc__registries *registries;
  if (registries_of(&registries, runtime, NULL) != CLIPC_OK) return false;
  struct clipc__entry *oldest = NULL;
  bool going = false;
  for (clipc_registry *registry = NULL; (registry = next_registry(registries, registry)) != NULL;) {
    const struct clipc__snapshot *snapshot = atomic_load(&registry->snapshot);
    for (size_t i = 0; snapshot && i < snapshot->n; i++) {
      struct clipc__entry *entry = snapshot->entries[i];
      if (entry != except && entry_is_going(entry)) going = true;
      if (entry == except || !entry_is_idle(entry)) continue;
      if (oldest && atomic_load(&entry->used_ns) >= atomic_load(&oldest->used_ns)) continue;
      clipc__registry_retain(registry);
      if (oldest) clipc__registry_release(oldest->registry);
      oldest = entry;
    }
  }
  if (oldest && !going) {
    atomic_store(&oldest->evict, true);
    clipc__registry_attend(oldest->registry);
    going = true;
  }
  if (oldest) clipc__registry_release(oldest->registry);
  registries_release(registries);
  return going;
}

/* ---- opening */

static clipc_status check_number(const char *name, int64_t value, int64_t least, int64_t most, clipc_error *error) {
  if (value >= least && value <= most) return CLIPC_OK;
  return clipc__fail(error, CLIPC_E_INVALID, "option %s: %lld is not in %lld .. %lld", name, (long long)value,
                     (long long)least, (long long)most);
}

static clipc_status fill_registry_options(clipc_registry_options *out, const clipc_registry_options *given,
                                          clipc_error *error) {
  *out = given ? *given : (clipc_registry_options){0};
  size_t *capacities[] = {&out->image_embed_queue_capacity,   &out->text_embed_queue_capacity,
                          &out->vision_queue_capacity,        &out->text_to_text_queue_capacity,
                          &out->text_to_image_queue_capacity, &out->url_queue_capacity,
                          &out->base64_queue_capacity,        &out->batch_queue_capacity};
  for (size_t i = 0; i < sizeof capacities / sizeof *capacities; i++) {
    if (*capacities[i] == 0) *capacities[i] = 256;
    if (*capacities[i] > 1 << 20)
      return clipc__fail(error, CLIPC_E_INVALID, "option queue_capacity: %zu is above 1048576", *capacities[i]);
  }
  if (out->min_workers == 0) out->min_workers = 1;
  if (out->max_workers == 0) out->max_workers = out->min_workers > 4 ? out->min_workers : 4;
  if (out->idle_ms == 0) out->idle_ms = 60000;
  if (out->request_timeout_ms == 0) out->request_timeout_ms = 60000;
  if (out->load_timeout_ms == 0) out->load_timeout_ms = 600000;
  if (out->max_batch == 0) out->max_batch = 32;
  const int64_t year_ms = INT64_C(366) * 24 * 3600 * 1000;
  clipc_status status = check_number("max_workers", out->max_workers, 1, CLIPC__MAX_SEATS, error);
  if (status == CLIPC_OK) status = check_number("min_workers", out->min_workers, -1, out->max_workers, error);
  if (status == CLIPC_OK) status = check_number("idle_ms", out->idle_ms, -1, year_ms, error);
  if (status == CLIPC_OK) status = check_number("request_timeout_ms", out->request_timeout_ms, -1, year_ms, error);
  if (status == CLIPC_OK) status = check_number("load_timeout_ms", out->load_timeout_ms, -1, year_ms, error);
  if (status == CLIPC_OK && out->max_batch > 65536)
    status = clipc__fail(error, CLIPC_E_INVALID, "option max_batch: %zu is above 65536", out->max_batch);
  if (status == CLIPC_OK) status = check_number("max_delay_us", out->max_delay_us, 0, 60000000, error);
  if (out->min_workers < 0) out->min_workers = 0;
  return status;
}

clipc_status clipc_registry_open(clipc_registry **out, clipc_runtime *runtime, const clipc_registry_options *options,
                                 clipc_error *error) {
  if (out == NULL) return clipc__fail(error, CLIPC_E_INVALID, "clipc_registry_open: out is NULL");
  *out = NULL;
  if (runtime == NULL) return clipc__fail(error, CLIPC_E_INVALID, "clipc_registry_open: runtime is NULL");
  clipc_registry_options filled;
  clipc_status status = fill_registry_options(&filled, options, error);
  if (status != CLIPC_OK) return status;
  struct clipc__registries *registries;
  if ((status = registries_of(&registries, runtime, error)) != CLIPC_OK) return status;
  const clipc_allocator *allocator = clipc__runtime_allocator(runtime);
  clipc_registry *registry = clipc__alloc_zeroed(allocator, 1, sizeof *registry);
  if (registry == NULL) {
    registries_release(registries);
    return clipc__no_memory(error, "a registry");
  }
  registry->allocator = *allocator;
  registry->options = filled;
  registry->runtime = clipc__runtime_retain(runtime);
  atomic_store(&registry->references, 2); /* the user's and the keeper's */
  registry->registries = registries;
  clipc__lock(&registries->lock);
  registry->next_registry = registries->first;
  registries->first = registry;
  clipc__unlock(&registries->lock);
  if (clipc__runtime_is_stopping(runtime)) /* a task's: it came too late to be told to stop */
    status = clipc__fail(error, CLIPC_E_SHUTTING_DOWN, "the runtime is shutting down");
  else
    status = clipc__keeper_spawn(registry, error);
  if (status != CLIPC_OK) {
    clipc__registry_release(registry);
    clipc__registry_release(registry);
    return status;
  }
  *out = registry;
  return CLIPC_OK;
}

/* ---- going */

void clipc__registry_retain(clipc_registry *registry) {
  atomic_fetch_add_explicit(&registry->references, 1, memory_order_relaxed);
}

static void free_seat(const clipc_allocator *allocator, struct clipc__seat *seat) {
  for (int i = 0; i < CLIPC__N_SEAT_CHANNELS; i++) {
    clipc_channel_close_sender(seat->channels[i]);
    clipc_channel_close_receiver(seat->channels[i]);
  }
  clipc__waiter_clear(&seat->waiter);
  clipc__free(allocator, seat);
}

/* What is left waited for a worker when the keeper went: it is complete, but for its place in the line. */
static void free_backlog(struct clipc_pool *pool) {
  for (clipc_pending *pending; (pending = clipc__pool_backlog(pool)) != NULL; clipc__pending_release(pending))
    clipc__pending_fail(pending, CLIPC_E_SHUTTING_DOWN, "the registry was closed");
}

static void free_entry(const clipc_allocator *allocator, struct clipc__entry *entry) {
  if (atomic_load(&entry->state) == CLIPC__LOADED && entry->engine.release) entry->engine.release(entry->engine.self);
  clipc_memory_release(entry->guard);
  clipc_memory_release(entry->more);
  clipc_task_release(entry->load_task);
  for (int c = 0; c < CLIPC_N_CAPABILITIES; c++) {
    free_backlog(&entry->pools[c]);
    for (int i = 0; i < atomic_load(&entry->pools[c].n_seats); i++)
      free_seat(allocator, atomic_load(&entry->pools[c].seats[i]));
  }
  clipc__free(allocator, entry->path);
  clipc__free(allocator, entry->key);
  clipc__free(allocator, entry);
}

void clipc__registry_release(clipc_registry *registry) {
  if (atomic_fetch_sub_explicit(&registry->references, 1, memory_order_acq_rel) > 1) return;
  registries_leave(registry);
  clipc_allocator allocator = registry->allocator;
  struct clipc__snapshot *snapshot = atomic_load(&registry->snapshot);
  for (size_t i = 0; snapshot && i < snapshot->n; i++) free_entry(&allocator, snapshot->entries[i]);
  for (struct clipc__snapshot *older; snapshot; snapshot = older) {
    older = snapshot->older;
    clipc__free(&allocator, snapshot);
  }
  clipc__waiter_clear(&registry->keeper);
  clipc_runtime *runtime = registry->runtime;
  clipc__free(&allocator, registry);
  clipc__runtime_release(runtime);
}

void clipc__registry_attend(clipc_registry *registry) {
  atomic_store(&registry->attention, true);
  clipc__waiter_wake(&registry->keeper);
}

static bool keeper_is_over(const void *registry) {
  return atomic_load(&((const clipc_registry *)registry)->keeper_over);
}

void clipc_registry_close(clipc_registry *registry) {
  if (registry == NULL || !clipc__runtime_usable(registry->runtime)) return; /* locks may be held for ever in a child */
  atomic_store(&registry->closing, true);
  close_pools(registry);
  fail_pools(registry, "the registry was closed");
  clipc__registry_attend(registry);
  if (!clipc__must_not_block()) clipc__wait(registry->runtime, &registry->over, keeper_is_over, registry, -1, NULL);
  clipc__registry_release(registry);
}

/* ---- adding and finding */

static struct clipc__entry *find_in(const struct clipc__snapshot *snapshot, const char *key) {
  for (size_t i = 0; snapshot && i < snapshot->n; i++)
    if (strcmp(snapshot->entries[i]->key, key) == 0) return snapshot->entries[i];
  return NULL;
}

struct clipc__entry *clipc__registry_find(const clipc_registry *registry, const char *key) {
  return find_in(atomic_load_explicit(&registry->snapshot, memory_order_acquire), key);
}

static char *copy_string(const clipc_allocator *allocator, const char *string) {
  size_t n_bytes = strlen(string) + 1;
  char *copy = clipc__alloc(allocator, n_bytes, 1);
  return copy ? memcpy(copy, string, n_bytes) : NULL;
}

static void set_up_pools(struct clipc__entry *entry, const clipc_registry_options *options) {
  const size_t single[CLIPC_N_CAPABILITIES] = {options->image_embed_queue_capacity, options->text_embed_queue_capacity,
                                               options->vision_queue_capacity, options->text_to_text_queue_capacity,
                                               options->text_to_image_queue_capacity};
  for (int c = 0; c < CLIPC_N_CAPABILITIES; c++) {
    struct clipc_pool *pool = &entry->pools[c];
    pool->registry = entry->registry;
    pool->entry = entry;
    pool->capability = (clipc_capability)c;
    pool->capacities[CLIPC__QUEUE_SINGLE] = single[c];
    pool->capacities[CLIPC__QUEUE_URL] = options->url_queue_capacity;
    pool->capacities[CLIPC__QUEUE_BASE64] = options->base64_queue_capacity;
    pool->capacities[CLIPC__QUEUE_BATCH] = options->batch_queue_capacity;
    pool->earliest_ns = INT64_MAX;
  }
}

/* Publishes a snapshot with one entry more. */
static clipc_status publish_entry(clipc_registry *registry, struct clipc__entry *entry, clipc_error *error) {
  clipc__lock(&registry->lock);
  struct clipc__snapshot *now = atomic_load(&registry->snapshot);
  size_t n = now ? now->n : 0;
  clipc__unlock(&registry->lock);
  for (;;) { /* memory is taken outside of the lock: somebody else may have added meanwhile */
    struct clipc__snapshot *next =
        clipc__alloc(&registry->allocator, 1, sizeof *next + (n + 1) * sizeof *next->entries);
    if (next == NULL) return clipc__no_memory(error, "a model's name");
    clipc__lock(&registry->lock);
    now = atomic_load(&registry->snapshot);
    bool same = (now ? now->n : 0) == n, taken = find_in(now, entry->key) != NULL;
    n = now ? now->n : 0;
    if (same && !taken) {
      next->older = now;
      next->n = n + 1;
      if (n > 0) memcpy(next->entries, now->entries, n * sizeof *next->entries);
      next->entries[n] = entry;
      atomic_store_explicit(&registry->snapshot, next, memory_order_release);
    }
    clipc__unlock(&registry->lock);
    if (same && !taken) return CLIPC_OK;
    clipc__free(&registry->allocator, next);
    if (taken) return clipc__fail(error, CLIPC_E_INVALID, "%s: there is a model of that name", entry->key);
  }
}

static clipc_status add_entry(clipc_registry *registry, const char *key, int capabilities, const clipc_loader *loader,
                              const char *path, const clipc_options *options, clipc_error *error) {
  if (atomic_load(&registry->closing) || atomic_load(&registry->stopping))
    return clipc__fail(error, CLIPC_E_SHUTTING_DOWN, "%s: the registry is being closed", key);
  const clipc_allocator *allocator = &registry->allocator;
  struct clipc__entry *entry = clipc__alloc_zeroed(allocator, 1, sizeof *entry);
  if (entry == NULL) return clipc__no_memory(error, "a model's name");
  entry->registry = registry;
  entry->capabilities = capabilities;
  entry->key = copy_string(allocator, key);
  entry->path = path ? copy_string(allocator, path) : NULL;
  if (options) entry->options = *options;
  entry->loader = loader ? *loader : clipc_model_loader(entry->path, &entry->options);
  entry->loader.max_batch = registry->options.max_batch;
  set_up_pools(entry, &registry->options);
  clipc_status status = entry->key == NULL || (path && entry->path == NULL) ? clipc__no_memory(error, "a model's name")
                                                                            : publish_entry(registry, entry, error);
  if (status != CLIPC_OK) free_entry(allocator, entry);
  return status;
}

clipc_status clipc_registry_add(clipc_registry *registry, const char *key, int capabilities, const clipc_loader *loader,
                                clipc_error *error) {
  if (registry == NULL || key == NULL || loader == NULL || loader->run == NULL)
    return clipc__fail(error, CLIPC_E_INVALID, "clipc_registry_add: %s is NULL",
                       registry == NULL ? "registry"
                       : key == NULL    ? "key"
                       : loader == NULL ? "loader"
                                        : "the loader's function");
  if (capabilities <= 0 || capabilities >= CLIPC_CAN(CLIPC_N_CAPABILITIES))
    return clipc__fail(error, CLIPC_E_INVALID, "%s: %d stands for no set of capabilities", key, capabilities);
  return add_entry(registry, key, capabilities, loader, NULL, NULL, error);
}

clipc_status clipc_registry_add_model(clipc_registry *registry, const char *key, const char *path,
                                      const clipc_options *options, clipc_error *error) {
  if (registry == NULL || key == NULL || path == NULL)
    return clipc__fail(error, CLIPC_E_INVALID, "clipc_registry_add_model: %s is NULL",
                       registry == NULL ? "registry"
                       : key == NULL    ? "key"
                                        : "path");
  int capabilities = CLIPC_CAN(CLIPC_IMAGE_EMBEDDING) | CLIPC_CAN(CLIPC_TEXT_EMBEDDING) | CLIPC_CAN(CLIPC_VISION);
  return add_entry(registry, key, capabilities, NULL, path, options, error);
}

clipc_pool *clipc_registry_pool(clipc_registry *registry, const char *key, clipc_capability capability) {
  if (registry == NULL || key == NULL || (unsigned)capability >= CLIPC_N_CAPABILITIES) return NULL;
  struct clipc__entry *entry = clipc__registry_find(registry, key);
  return entry && entry->capabilities & CLIPC_CAN(capability) ? &entry->pools[capability] : NULL;
}

clipc_status clipc_registry_evict(clipc_registry *registry, const char *key, clipc_error *error) {
  if (registry == NULL || key == NULL)
    return clipc__fail(error, CLIPC_E_INVALID, "clipc_registry_evict: %s is NULL", registry ? "key" : "registry");
  struct clipc__entry *entry = clipc__registry_find(registry, key);
  if (entry == NULL) return clipc__fail(error, CLIPC_E_NO_WORKERS, "%s: no model has this name", key);
  atomic_store(&entry->evict, true);
  clipc__registry_attend(registry);
  return CLIPC_OK;
}
