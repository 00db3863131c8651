/* Loading a model: a task that claims memory, runs the loader turn by turn, and hands the engine to the keeper. It ends
 * the same way whatever happens - a failure, a cancel, a loader that takes too long, a shutdown: what was claimed goes
 * back, the loader's frame is dropped, and the keeper finds the engine or the sentence in the entry. */
#include "async/pool.h"

#include <string.h>

struct loading {
  int at;
  struct clipc__entry *entry; /* with a reference to its registry */
  clipc_loader loader;
  void *frame; /* the loader's */
  clipc_engine engine;
  bool has_engine, is_begun;
  clipc_guard *guard, *more;
  struct clipc__claim claim;
  int64_t end_ns; /* of the time it may take; 0 = no limit */
  clipc_error error;
};

static bool loading_is_late(clipc_task *task, const struct loading *loading) {
  return loading->end_ns != 0 && clipc_runtime_now_ns(clipc_task_runtime(task)) >= loading->end_ns;
}

static int loading_late(struct loading *loading) {
  return (int)clipc__fail(&loading->error, CLIPC_E_TIMED_OUT, "the loader did not end within %lld ms",
                          (long long)loading->entry->registry->options.load_timeout_ms);
}

/* One turn of the loader, which may wait for something that never comes, or never stop. */
static int run_loader(clipc_task *task, struct loading *loading) {
  clipc_engine engine = {0};
  loading->is_begun = true;
  int status = loading->loader.run(task, loading->frame, &loading->loader, &engine, &loading->error);
  if (status == CLIPC_OK) {
    loading->engine = engine;
    loading->has_engine = true;
    return CLIPC_OK;
  }
  if (loading_is_late(task, loading)) return loading_late(loading);
  if (clipc_task_cancelled(task)) return (int)clipc__fail(&loading->error, CLIPC_E_CANCELLED, "loading was cancelled");
  if (status == CLIPC_WAITING) return clipc__task_blocked(task) == CLIPC_OK ? CLIPC_WAITING : loading_late(loading);
  if (status != CLIPC_YIELDING && loading->error.status == CLIPC_OK)
    clipc__fail(&loading->error, (clipc_status)status, "%s", clipc_status_name((clipc_status)status));
  return status;
}

/* The engine says how much it takes: where that is more than was expected, the rest is claimed, too. */
static int claim_rest(clipc_task *task, struct loading *loading) {
  uint64_t claimed = loading->loader.expected_bytes, taken = loading->engine.shared_bytes;
  if (taken <= claimed) return CLIPC_OK;
  return clipc__memory_claim(task, &loading->claim, &loading->more, taken - claimed, true, loading->entry,
                             &loading->error);
}

static int load_run(clipc_task *task, void *frame) {
  struct loading *loading = frame;
  int status = CLIPC_OK;
  CLIPC_TASK_BEGIN(loading);
  clipc_task_set_name(task, loading->entry->key);
  if (loading->end_ns != 0) clipc_task_set_deadline(task, loading->end_ns);
  if (loading->loader.expected_bytes > 0)
    CLIPC_AWAIT(loading, status,
                clipc__memory_claim(task, &loading->claim, &loading->guard, loading->loader.expected_bytes, true,
                                    loading->entry, &loading->error));
  if (status != CLIPC_OK) return status;
  for (;;) {
    CLIPC_AWAIT(loading, status, run_loader(task, loading));
    if (status != CLIPC_YIELDING) break;
    CLIPC_YIELD(loading);
  }
  if (status != CLIPC_OK) return status;
  CLIPC_AWAIT(loading, status, claim_rest(task, loading));
  CLIPC_TASK_END(loading, status);
}

static void hand_over(struct loading *loading) {
  struct clipc__entry *entry = loading->entry;
  entry->engine = loading->engine;
  if (entry->engine.shared_bytes > 0) clipc__memory_shrink(loading->guard, entry->engine.shared_bytes);
  entry->guard = loading->guard;
  entry->more = loading->more;
  loading->guard = loading->more = NULL;
  loading->has_engine = false;
  entry->load_error.status = CLIPC_OK;
}

static void load_drop(void *frame) {
  struct loading *loading = frame;
  struct clipc__entry *entry = loading->entry;
  clipc_registry *registry = entry->registry;
  clipc__memory_give_up(&loading->claim);
  bool claimed = loading->engine.shared_bytes <= loading->loader.expected_bytes || loading->more;
  if (loading->is_begun && loading->loader.drop) loading->loader.drop(loading->frame);
  clipc__free(&registry->allocator, loading->frame);
  if (loading->has_engine && claimed) {
    hand_over(loading);
  } else {
    if (loading->has_engine && loading->engine.release) loading->engine.release(loading->engine.self);
    clipc_memory_release(loading->guard);
    if (loading->error.status == CLIPC_OK) clipc__fail(&loading->error, CLIPC_E_CANCELLED, "loading was cancelled");
    entry->load_error = loading->error;
  }
  atomic_store(&entry->load_ended, true);
  clipc__registry_attend(registry);
  clipc__registry_release(registry);
}

clipc_status clipc__load_start(struct clipc__entry *entry, const clipc_loader *loader, clipc_error *error) {
  static const clipc_task_kind kind = {
      .name = "load", .run = load_run, .drop = load_drop, .frame_bytes = sizeof(struct loading)};
  clipc_registry *registry = entry->registry;
  struct loading loading = {.entry = entry, .loader = *loader};
  if (loading.loader.max_batch == 0) loading.loader.max_batch = registry->options.max_batch;
  if (registry->options.load_timeout_ms > 0)
    loading.end_ns = clipc_runtime_now_ns(registry->runtime) + registry->options.load_timeout_ms * 1000000;
  loading.frame = clipc__alloc_zeroed(&registry->allocator, loader->frame_bytes, 1);
  if (loading.frame == NULL) return clipc__no_memory(error, "a loader");
  clipc_task_release(entry->load_task);
  entry->load_task = NULL;
  atomic_store(&entry->load_ended, false);
  clipc__registry_retain(registry);
  clipc_status status = clipc_spawn(&entry->load_task, registry->runtime, &kind, &loading, error);
  if (status == CLIPC_OK) return CLIPC_OK;
  clipc__free(&registry->allocator, loading.frame);
  clipc__registry_release(registry);
  return status;
}
