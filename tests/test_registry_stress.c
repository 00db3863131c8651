/* Registries under everything at once, by a printed seed (CLIPC_SEED): requests, cancels, evictions, pings, broken
 * engines and loaders, spawned workers, and a shutdown at any moment. Whatever happens, every request is completed
 * exactly once, every worker is closed, every model is released, and no memory stays claimed. Half of the rounds run on
 * a seeded runtime, on which the order of tasks is drawn, too. */
#include "fake_engine.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_MODELS = 3, N_REQUESTS = 60 };

struct request_seen {
  clipc_pending *pending;
  atomic_int n_done; /* callbacks */
  int has_callback, is_spawned;
};

struct round {
  clipc_runtime *runtime;
  clipc_registry *registry;
  struct fake fakes[N_MODELS];
  struct request_seen seen[N_REQUESTS];
  int n_seen, host_driven;
};

static const char *const names[N_MODELS] = {"a", "b", "c"};

static void count_done(void *context, clipc_pending *pending) {
  assert_true(clipc_pending_done(pending));
  atomic_fetch_add(&((struct request_seen *)context)->n_done, 1);
}

static void start_round(struct round *round) {
  memset(round, 0, sizeof *round);
  round->host_driven = random_below(2) == 0;
  const clipc_runtime_options options = {.n_threads = round->host_driven ? CLIPC_HOST_DRIVEN : 1 + (int)random_below(3),
                                         .seed = round->host_driven ? 1 + random_bits() : 0,
                                         .memory_budget_bytes = 600 + random_below(1000)};
  round->runtime = fake_runtime(&options);
  const clipc_registry_options pools = {.max_workers = 1 + (int)random_below(4),
                                        .min_workers = random_below(2) ? -1 : 1,
                                        .idle_ms = 1 + random_below(20),
                                        .text_embed_queue_capacity = 1 + random_below(20),
                                        .max_batch = 1 + random_below(8),
                                        .load_timeout_ms = 200,
                                        .request_timeout_ms = 300, /* what is stuck is not woken by anything else */
                                        .max_delay_us = random_below(2) * random_below(2000)};
  round->registry = fake_registry(round->runtime, &pools);
  for (int i = 0; i < N_MODELS; i++) {
    round->fakes[i] = (struct fake){.load_turns = (int)random_below(20),
                                    .expected_bytes = random_below(400),
                                    .shared_bytes = random_below(400),
                                    .worker_bytes = random_below(100),
                                    .max_batch = 8,
                                    .chunks = 5,
                                    .load_never = random_below(15) == 0 ? 2 + (int)random_below(2) : 0,
                                    .load_status = random_below(10) == 0 ? CLIPC_E_IO : CLIPC_OK};
    if (round->fakes[i].load_never == 2 && !round->host_driven)
      round->fakes[i].load_never = 1; /* there time stands still */
    fake_add(round->registry, names[i], CLIPC_CAN(CLIPC_TEXT_EMBEDDING) | CLIPC_CAN(CLIPC_TEXT_TO_TEXT),
             &round->fakes[i]);
  }
}

static void make_request(struct round *round) {
  static const char *const texts[] = {"x", "poison", "venom", "some words"};
  if (round->n_seen == N_REQUESTS) return;
  struct request_seen *seen = &round->seen[round->n_seen++];
  const clipc_input inputs[] = {{CLIPC_INPUT_TEXT, texts[random_below(4)], 0}, {CLIPC_INPUT_TEXT, "y", 0}};
  clipc_request request = {.capability = CLIPC_TEXT_EMBEDDING,
                           .inputs = inputs,
                           .n_inputs = 1 + random_below(2),
                           .timeout_ms = random_below(4) ? 0 : 1 + (int)random_below(20)};
  if (random_below(4) == 0)
    request = (clipc_request){.capability = CLIPC_TEXT_TO_TEXT, .prompt = "p", .max_chunks = random_below(7)};
  seen->has_callback = random_below(2) == 0;
  if (seen->has_callback) request.done = count_done, request.context = seen;
  const char *name = names[random_below(N_MODELS)];
  seen->pending = random_below(12) ? clipc_registry_submit(round->registry, name, &request)
                                   : clipc_pool_ping(clipc_registry_pool(round->registry, name, CLIPC_TEXT_EMBEDDING),
                                                     random_below(4), seen->has_callback ? &request : NULL);
  assert_non_null(seen->pending);
}

static void spawn_by_hand(struct round *round) {
  if (round->n_seen == N_REQUESTS) return;
  struct request_seen *seen = &round->seen[round->n_seen++];
  const char *name = names[random_below(N_MODELS)];
  clipc_guard *guard = NULL;
  if (random_below(2)) clipc_memory_claim(&guard, round->runtime, random_below(100), NULL);
  clipc_pool_spawn_worker(clipc_registry_pool(round->registry, name, CLIPC_TEXT_EMBEDDING), CLIPC_TEXT_EMBEDDING, name,
                          NULL, 0, guard, &seen->pending, NULL);
  seen->is_spawned = 1;
}

static void do_something(struct round *round) {
  struct fake *fake = &round->fakes[random_below(N_MODELS)];
  struct request_seen *seen = round->n_seen ? &round->seen[random_below((uint32_t)round->n_seen)] : NULL;
  switch (random_below(16)) {
  case 0: fake->gate = random_below(3) == 0; break;
  case 1: fake->compute_status = random_below(3) ? CLIPC_OK : CLIPC_E_MODEL; break;
  case 2: fake->open_fails = random_below(4) == 0; break;
  case 3: fake->stuck = random_below(4) == 0; break;
  case 4: clipc_registry_evict(round->registry, names[random_below(N_MODELS)], NULL); break;
  case 5:
  case 6:
    if (seen && seen->pending && !seen->is_spawned) clipc_pending_cancel(seen->pending);
    break;
  case 7: spawn_by_hand(round); break;
  case 8:
    if (seen && seen->pending && !seen->has_callback) clipc_pending_close(seen->pending), seen->pending = NULL;
    break;
  case 9:
    if (!round->host_driven) nap();
    break;
  default: make_request(round);
  }
  for (int i = 0; round->host_driven && i < 5; i++) clipc_runtime_poll(round->runtime, 0, NULL);
}

static void show_line(void *context, const char *line) {
  (void)context;
  puts(line);
}

static void end_round(struct round *round) {
  for (int i = 0; i < N_MODELS; i++)
    round->fakes[i].gate = round->fakes[i].stuck = round->fakes[i].compute_status = round->fakes[i].open_fails = 0;
  uint32_t way = random_below(3);
  if (way == 0) clipc_registry_close(round->registry);
  if (way == 1) assert_int_equal(clipc_runtime_shutdown(round->runtime, (int)random_below(5), NULL), CLIPC_OK);
  for (int i = 0; i < round->n_seen; i++) {
    struct request_seen *seen = &round->seen[i];
    if (seen->pending == NULL) continue;
    clipc_status status = clipc_pending_wait(seen->pending, 30000, NULL);
    if (!clipc_pending_done(seen->pending)) clipc_registry_dump(round->registry, show_line, NULL);
    if (!clipc_pending_done(seen->pending)) fail_msg("request %d is not complete: %s", i, clipc_status_name(status));
    if (way != 2 && status != clipc_pending_status(seen->pending, NULL)) fail_msg("request %d changed its mind", i);
    clipc_pending_close(seen->pending);
  }
  uint64_t used = 0;
  if (way != 0) clipc_registry_close(round->registry);
  if (way != 1) assert_int_equal(clipc_memory_usage(round->runtime, &used, NULL, NULL), CLIPC_OK);
  assert_int_equal(used, 0);
  clipc_runtime_close(round->runtime);
  for (int i = 0; i < round->n_seen; i++)
    if (round->seen[i].has_callback && round->seen[i].n_done != 1)
      fail_msg("callback %d was called %d times", i, round->seen[i].n_done);
  for (int i = 0; i < N_MODELS; i++) {
    assert_int_equal(round->fakes[i].n_opened, round->fakes[i].n_closed);
    assert_int_equal(round->fakes[i].n_loads, round->fakes[i].n_released);
  }
}

static void test_stress(void **state) {
  (void)state;
  static struct round round;
  const char *rounds = getenv("CLIPC_ROUNDS");
  random_start(0);
  for (int r = 0, n = rounds ? atoi(rounds) : 60; r < n; r++) {
    start_round(&round);
    for (uint32_t i = 0, n_steps = random_below(120); i < n_steps; i++) do_something(&round);
    end_round(&round);
  }
}

/* Many threads, each with its own requests, while models come and go. */
struct sender {
  clipc_registry *registry;
  int first;
  atomic_int n_complete, n_ok;
};

static void *send_many(void *context) {
  struct sender *sender = context;
  for (int i = 0; i < 400; i++) {
    clipc_pending *pending = ask(sender->registry, names[(i + sender->first) % N_MODELS], "x");
    if (i % 7 == 0) clipc_pending_cancel(pending);
    clipc_status status = clipc_pending_wait(pending, 30000, NULL);
    atomic_fetch_add(&sender->n_complete, clipc_pending_done(pending));
    atomic_fetch_add(&sender->n_ok, status == CLIPC_OK);
    clipc_pending_close(pending);
  }
  return NULL;
}

static void test_threads_and_evictions(void **state) {
  (void)state;
  clipc_runtime *runtime = fake_runtime(&(clipc_runtime_options){.n_threads = 3, .memory_budget_bytes = 1000});
  clipc_registry *registry = fake_registry(runtime, &(clipc_registry_options){.max_batch = 8, .idle_ms = 3});
  struct fake fakes[N_MODELS];
  for (int i = 0; i < N_MODELS; i++) {
    fakes[i] =
        (struct fake){.expected_bytes = 300, .shared_bytes = 300, .worker_bytes = 30, .max_batch = 8, .load_turns = 3};
    fake_add(registry, names[i], CLIPC_CAN(CLIPC_TEXT_EMBEDDING), &fakes[i]);
  }
  struct sender senders[6];
  pthread_t threads[6];
  for (int i = 0; i < 6; i++) {
    senders[i] = (struct sender){.registry = registry, .first = i};
    pthread_create(&threads[i], NULL, send_many, &senders[i]);
  }
  for (int i = 0; i < 100; i++) clipc_registry_evict(registry, names[i % N_MODELS], NULL), nap();
  int n_ok = 0;
  for (int i = 0; i < 6; i++) {
    pthread_join(threads[i], NULL);
    assert_int_equal(senders[i].n_complete, 400);
    n_ok += senders[i].n_ok;
  }
  assert_true(n_ok > 6 * 400 / 2);
  clipc_registry_close(registry);
  for (int i = 0; i < N_MODELS; i++) assert_int_equal(fakes[i].n_loads, fakes[i].n_released);
  clipc_runtime_close(runtime);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_stress), cmocka_unit_test(test_threads_and_evictions)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
