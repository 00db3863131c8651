/* See fake_engine.h. */
#include "fake_engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static clipc_status fake_open_worker(void *self, void **worker, clipc_error *error) {
  struct fake *fake = self;
  if (fake->open_fails) {
    snprintf(error->message, sizeof error->message, "the fake has no worker");
    return error->status = CLIPC_E_NO_MEMORY;
  }
  atomic_fetch_add(&fake->n_opened, 1);
  *worker = malloc(1);
  return CLIPC_OK;
}

static void fake_close_worker(void *self, void *worker) {
  atomic_fetch_add(&((struct fake *)self)->n_closed, 1);
  free(worker);
}

static void fake_release(void *self) {
  struct fake *fake = self;
  free(fake->touched);
  fake->touched = NULL;
  if (fake->release_ms > 0) nanosleep(&(struct timespec){0, fake->release_ms * 1000000L}, NULL);
  atomic_fetch_add(&fake->n_released, 1);
}

static void fake_embed(clipc_call *call, size_t item, size_t dimension) {
  const clipc_input *input = &clipc_call_request(call)->inputs[item];
  const char *text = input->data;
  if (input->n_bytes == 6 && memcmp(text, "poison", 6) == 0) {
    clipc_error *error = clipc_call_item_error(call, item);
    error->status = CLIPC_E_FORMAT;
    snprintf(error->message, sizeof error->message, "the item is poisoned");
    return;
  }
  float *row = clipc_call_embedding(call, item);
  for (size_t i = 0; i < dimension; i++) row[i] = 0;
  row[0] = (float)input->n_bytes;
  if (dimension > 1) row[1] = (float)(unsigned char)text[0];
}

static bool has_venom(clipc_call *call) {
  for (size_t i = 0; i < clipc_call_request(call)->n_inputs; i++)
    if (strncmp(clipc_call_request(call)->inputs[i].data, "venom", 5) == 0) return true;
  return false;
}

static int fake_stream(clipc_task *task, struct fake *fake, clipc_call *call, int *at) {
  char word[32];
  while (*at < fake->chunks) {
    int n = snprintf(word, sizeof word, "%d ", *at);
    int status = clipc_call_send(task, call, &(clipc_chunk){.text = word, .text_bytes = (size_t)n});
    if (status == CLIPC_E_LIMIT) return CLIPC_OK;
    if (status != CLIPC_OK) return status;
    ++*at;
  }
  return CLIPC_OK;
}

static int fake_compute(clipc_task *task, void *self, void *worker, clipc_call *const *calls, size_t n_calls, int *at,
                        clipc_error *error) {
  struct fake *fake = self;
  (void)worker;
  if (fake->stuck) return CLIPC_WAITING;
  while (fake->gate) {
    int status = clipc_task_sleep(task, 300000);
    if (status != CLIPC_OK) return status;
  }
  if (clipc_call_request(calls[0])->capability == CLIPC_TEXT_TO_TEXT) return fake_stream(task, fake, calls[0], at);
  size_t n_items = 0;
  for (size_t c = 0; c < n_calls; c++) n_items += clipc_call_items(calls[c]);
  int most = fake->most_items;
  while (most < (int)n_items && !atomic_compare_exchange_weak(&fake->most_items, &most, (int)n_items)) continue;
  atomic_fetch_add(&fake->n_batches, 1);
  atomic_fetch_add(&fake->n_calls, (int)n_calls);
  if (fake->compute_status) return fake->compute_status;
  for (size_t c = 0; c < n_calls; c++)
    if (has_venom(calls[c])) {
      snprintf(error->message, sizeof error->message, "there was venom");
      return error->status = CLIPC_E_MODEL;
    }
  for (size_t c = 0; c < n_calls; c++)
    for (size_t i = 0; i < clipc_call_items(calls[c]); i++) fake_embed(calls[c], i, fake->dimension);
  return CLIPC_OK;
}

struct fake_frame {
  int turns;
  struct fake *fake;
};

static int fake_load(clipc_task *task, void *frame, const clipc_loader *loader, clipc_engine *engine,
                     clipc_error *error) {
  struct fake *fake = (struct fake *)(uintptr_t)loader->source;
  struct fake_frame *f = frame;
  f->fake = fake;
  if (fake->load_never == 1) return CLIPC_YIELDING;
  if (fake->load_never == 2) return CLIPC_WAITING;
  if (fake->load_never == 3) return clipc_task_sleep(task, INT64_C(3600) * 1000000000);
  if (f->turns++ < fake->load_turns) return CLIPC_YIELDING;
  if (fake->load_status != CLIPC_OK) {
    snprintf(error->message, sizeof error->message, "the fake broke");
    return error->status = fake->load_status;
  }
  if (fake->touched_bytes > 0) {
    fake->touched = malloc(fake->touched_bytes);
    memset(fake->touched, 1, fake->touched_bytes);
  }
  *engine = (clipc_engine){.self = fake,
                           .dimension = fake->dimension,
                           .shared_bytes = fake->shared_bytes,
                           .worker_bytes = fake->worker_bytes,
                           .open_worker = fake_open_worker,
                           .close_worker = fake_close_worker,
                           .compute = fake_compute,
                           .max_batch = fake->max_batch,
                           .release = fake_release};
  atomic_fetch_add(&fake->n_loads, 1);
  return CLIPC_OK;
}

static void fake_drop(void *frame) {
  struct fake_frame *f = frame;
  if (f->fake) atomic_fetch_add(&f->fake->n_dropped, 1);
}

clipc_loader fake_loader(struct fake *fake) {
  if (fake->dimension == 0) fake->dimension = 4;
  return (clipc_loader){.name = "fake",
                        .run = fake_load,
                        .drop = fake_drop,
                        .frame_bytes = sizeof(struct fake_frame),
                        .source = fake,
                        .expected_bytes = fake->expected_bytes};
}

clipc_runtime *fake_runtime(const clipc_runtime_options *options) {
  const clipc_runtime_options two = {.n_threads = 2};
  clipc_error error = {CLIPC_OK, ""};
  clipc_runtime *runtime;
  if (clipc_runtime_open(&runtime, options ? options : &two, &error) != CLIPC_OK) fail_msg("%s", error.message);
  return runtime;
}

clipc_registry *fake_registry(clipc_runtime *runtime, const clipc_registry_options *options) {
  clipc_error error = {CLIPC_OK, ""};
  clipc_registry *registry;
  if (clipc_registry_open(&registry, runtime, options, &error) != CLIPC_OK) fail_msg("%s", error.message);
  return registry;
}

void fake_add(clipc_registry *registry, const char *key, int capabilities, struct fake *fake) {
  clipc_error error = {CLIPC_OK, ""};
  clipc_loader loader = fake_loader(fake);
  if (clipc_registry_add(registry, key, capabilities, &loader, &error) != CLIPC_OK) fail_msg("%s", error.message);
}

clipc_pending *ask(clipc_registry *registry, const char *key, const char *text) {
  const clipc_input input = {CLIPC_INPUT_TEXT, text, 0};
  const clipc_request request = {.capability = CLIPC_TEXT_EMBEDDING, .inputs = &input, .n_inputs = 1};
  clipc_pending *pending = clipc_registry_submit(registry, key, &request);
  assert_non_null(pending);
  return pending;
}

clipc_status wait_and_close(clipc_pending *pending) {
  assert_non_null(pending);
  clipc_status status = clipc_pending_wait(pending, 20000, NULL);
  assert_true(clipc_pending_done(pending));
  clipc_pending_close(pending);
  return status;
}

void nap(void) { nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL); }
