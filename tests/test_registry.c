/* Registries: models by name, their pools and workers, from the cold start to eviction. */
#include "fake_engine.h"
#include "web_server.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const int EMBEDS = CLIPC_CAN(CLIPC_TEXT_EMBEDDING);

static int count_state(clipc_registry *registry, clipc_worker_state state) {
  clipc_metrics metrics;
  assert_int_equal(clipc_registry_metrics(registry, &metrics, NULL), CLIPC_OK);
  return (int)metrics.workers[state];
}

static int count_alive(clipc_registry *registry) {
  return count_state(registry, CLIPC_WORKER_READY) + count_state(registry, CLIPC_WORKER_IDLE) +
         count_state(registry, CLIPC_WORKER_PROCESSING);
}

/* ---- names and options */

static void test_options(void **state) {
  (void)state;
  clipc_runtime *runtime = fake_runtime(NULL);
  clipc_registry *registry;
  const clipc_registry_options bad[] = {{.min_workers = 3, .max_workers = 2},
                                        {.max_workers = 65},
                                        {.max_workers = -1},
                                        {.min_workers = -2},
                                        {.idle_ms = -2},
                                        {.load_timeout_ms = -2},
                                        {.request_timeout_ms = -5},
                                        {.max_batch = 1 << 20},
                                        {.max_delay_us = -1},
                                        {.url_queue_capacity = (size_t)1 << 40}};
  for (size_t i = 0; i < COUNT(bad); i++) {
    clipc_error error = {CLIPC_OK, ""};
    assert_int_equal(clipc_registry_open(&registry, runtime, &bad[i], &error), CLIPC_E_INVALID);
    assert_null(registry);
    assert_int_equal(strncmp(error.message, "option ", 7), 0);
  }
  assert_int_equal(clipc_registry_open(NULL, runtime, NULL, NULL), CLIPC_E_INVALID);
  assert_int_equal(clipc_registry_open(&registry, NULL, NULL, NULL), CLIPC_E_INVALID);
  registry = fake_registry(runtime, NULL);
  struct fake fake = {0};
  clipc_loader loader = fake_loader(&fake);
  fake_add(registry, "a", EMBEDS, &fake);
  assert_int_equal(clipc_registry_add(registry, "a", EMBEDS, &loader, NULL), CLIPC_E_INVALID);
  assert_int_equal(clipc_registry_add(registry, "b", 0, &loader, NULL), CLIPC_E_INVALID);
  assert_int_equal(clipc_registry_add(registry, "b", 1 << CLIPC_N_CAPABILITIES, &loader, NULL), CLIPC_E_INVALID);
  assert_int_equal(clipc_registry_add(registry, "b", EMBEDS, NULL, NULL), CLIPC_E_INVALID);
  assert_int_equal(clipc_registry_add(registry, NULL, EMBEDS, &loader, NULL), CLIPC_E_INVALID);
  assert_int_equal(clipc_registry_add_model(registry, "m", NULL, NULL, NULL), CLIPC_E_INVALID);
  clipc_image_embedding table;
  assert_int_equal(clipc_registry_image_embedding(registry, "a", &table, NULL), CLIPC_E_NO_WORKERS);
  assert_int_equal(clipc_registry_image_embedding(registry, "x", &table, NULL), CLIPC_E_NO_WORKERS);
  assert_int_equal(clipc_registry_image_embedding(registry, "a", NULL, NULL), CLIPC_E_INVALID);
  assert_null(clipc_registry_pool(registry, "a", CLIPC_VISION));
  assert_non_null(clipc_registry_pool(registry, "a", CLIPC_TEXT_EMBEDDING));
  assert_int_equal(clipc_registry_evict(registry, "x", NULL), CLIPC_E_NO_WORKERS);
  assert_string_equal(clipc_worker_state_name(CLIPC_WORKER_PROCESSING), "Processing");
  assert_string_equal(clipc_capability_name(CLIPC_TEXT_TO_IMAGE), "text_to_image");
  clipc_registry_close(registry);
  clipc_registry_close(NULL);
  clipc_runtime_close(runtime);
}

/* ---- workers */

static void test_cold_start_and_growth(void **state) {
  (void)state;
  clipc_runtime *runtime = fake_runtime(NULL);
  clipc_registry *registry = fake_registry(runtime, &(clipc_registry_options){.idle_ms = 60, .max_batch = 1});
  struct fake fake = {.load_turns = 30};
  fake_add(registry, "a", EMBEDS, &fake);
  assert_int_equal(wait_and_close(ask(registry, "a", "x")), CLIPC_OK);
  EVENTUALLY(count_alive(registry) == 2); /* from none to two */
  assert_int_equal(fake.n_loads, 1);
  fake.gate = 1;
  clipc_pending *pending[40];
  for (int i = 0; i < 40; i++) pending[i] = ask(registry, "a", "x"), nap();
  EVENTUALLY(fake.n_opened == 4); /* all were busy: up to max_workers */
  fake.gate = 0;
  for (int i = 0; i < 40; i++) assert_int_equal(wait_and_close(pending[i]), CLIPC_OK);
  EVENTUALLY(count_alive(registry) == 1 && fake.n_closed == 3); /* down to min_workers */
  assert_int_equal(fake.n_released, 0);
  assert_int_equal(wait_and_close(ask(registry, "a", "x")), CLIPC_OK);
  clipc_metrics metrics;
  assert_int_equal(clipc_registry_metrics(registry, &metrics, NULL), CLIPC_OK);
  assert_int_equal(metrics.n_lost, 0);
  clipc_registry_close(registry);
  assert_int_equal(fake.n_released, 1);
  assert_int_equal(fake.n_opened, fake.n_closed);
  clipc_runtime_close(runtime);
}

static void test_no_minimum(void **state) {
  (void)state;
  clipc_runtime *runtime = fake_runtime(NULL);
  clipc_registry *registry = fake_registry(runtime, &(clipc_registry_options){.min_workers = -1, .idle_ms = 20});
  struct fake fake = {0};
  fake_add(registry, "a", EMBEDS, &fake);
  for (int round = 1; round <= 3; round++) {
    assert_int_equal(wait_and_close(ask(registry, "a", "x")), CLIPC_OK);
    EVENTUALLY(fake.n_released == round); /* the model goes with its last worker, and comes back */
  }
  assert_int_equal(fake.n_loads, 3);
  clipc_registry_close(registry);
  clipc_runtime_close(runtime);
}

static void test_evict(void **state) {
  (void)state;
  clipc_runtime *runtime = fake_runtime(NULL);
  clipc_registry *registry = fake_registry(runtime, NULL);
  struct fake fake = {0};
  fake_add(registry, "a", EMBEDS, &fake);
  assert_int_equal(clipc_registry_evict(registry, "a", NULL), CLIPC_OK); /* not loaded: fine */
  for (int round = 1; round <= 20; round++) {
    clipc_pending *pending[10];
    for (int i = 0; i < 10; i++) {
      pending[i] = ask(registry, "a", "x");
      if (i == 5) assert_int_equal(clipc_registry_evict(registry, "a", NULL), CLIPC_OK);
    }
    for (int i = 0; i < 10; i++) assert_int_equal(wait_and_close(pending[i]), CLIPC_OK); /* none is lost */
  }
  assert_int_equal(clipc_registry_evict(registry, "a", NULL), CLIPC_OK);
  EVENTUALLY(fake.n_released == fake.n_loads);
  clipc_registry_close(registry);
  clipc_runtime_close(runtime);
}

static void test_ping(void **state) {
  (void)state;
  clipc_runtime *runtime = fake_runtime(NULL);
  clipc_registry *registry = fake_registry(runtime, NULL);
  struct fake fake = {0};
  fake_add(registry, "a", EMBEDS, &fake);
  clipc_pool *pool = clipc_registry_pool(registry, "a", CLIPC_TEXT_EMBEDDING);
  assert_int_equal(wait_and_close(clipc_pool_ping(pool, 0, NULL)), CLIPC_E_NO_WORKERS);
  assert_int_equal(wait_and_close(ask(registry, "a", "x")), CLIPC_OK);
  EVENTUALLY(count_alive(registry) == 2);
  int n = fake.n_calls;
  clipc_pending *ping = clipc_pool_ping(pool, 1, NULL);
  assert_int_equal(clipc_pending_wait(ping, 20000, NULL), CLIPC_OK);
  assert_true(clipc_pending_result(ping)->embeddings[0] == 1.0f); /* it really ran */
  assert_int_equal(fake.n_calls, n + 1);
  clipc_pending_close(ping);
  atomic_store(&fake.compute_status, CLIPC_E_MODEL);
  assert_int_equal(wait_and_close(clipc_pool_ping(pool, 0, NULL)), CLIPC_E_MODEL);
  atomic_store(&fake.compute_status, CLIPC_OK);
  EVENTUALLY(fake.n_opened == 3 && fake.n_closed == 1); /* it died, and was replaced */
  EVENTUALLY(count_alive(registry) == 2);
  clipc_metrics metrics;
  assert_int_equal(clipc_registry_metrics(registry, &metrics, NULL), CLIPC_OK);
  assert_int_equal(metrics.n_lost, 1);
  assert_int_equal(metrics.n_spawned, 3);
  clipc_worker_info infos[8];
  assert_int_equal(clipc_pool_workers(pool, infos, 8), 2);
  assert_int_equal(clipc_pool_workers(pool, infos, 0), 2);
  assert_true(infos[0].last_activity_ns > 0 && infos[0].last_activity_ns <= clipc_runtime_now_ns(runtime));
  assert_int_equal(wait_and_close(ask(registry, "a", "x")), CLIPC_OK);
  clipc_registry_close(registry);
  clipc_runtime_close(runtime);
}

/* A worker that dies leaves its queue to others: nothing is lost. */
static void test_death_loses_nothing(void **state) {
  (void)state;
  clipc_runtime *runtime = fake_runtime(NULL);
  clipc_registry *registry = fake_registry(runtime, &(clipc_registry_options){.max_workers = 1, .max_batch = 1});
  struct fake fake = {0};
  fake_add(registry, "a", EMBEDS, &fake);
  clipc_pool *pool = clipc_registry_pool(registry, "a", CLIPC_TEXT_EMBEDDING);
  assert_int_equal(wait_and_close(ask(registry, "a", "x")), CLIPC_OK);
  fake.gate = 1;
  clipc_pending *first = ask(registry, "a", "x");
  EVENTUALLY(count_state(registry, CLIPC_WORKER_PROCESSING) == 1);
  clipc_pending *ping = clipc_pool_ping(pool, 0, NULL), *pending[30];
  for (int i = 0; i < 30; i++) pending[i] = ask(registry, "a", "x");
  clipc_pending_cancel(first);
  atomic_store(&fake.compute_status, CLIPC_E_MODEL);
  fake.gate = 0;
  int status = wait_and_close(ping);
  atomic_store(&fake.compute_status, CLIPC_OK);
  assert_int_equal(status, CLIPC_E_MODEL);
  int n_ok = 0;
  for (int i = 0; i < 30; i++) {
    status = wait_and_close(pending[i]);
    assert_true(status == CLIPC_OK || status == CLIPC_E_MODEL); /* some may have met the broken engine */
    n_ok += status == CLIPC_OK;
  }
  clipc_pending_close(first);
  EVENTUALLY(fake.n_opened == 2);
  assert_int_equal(wait_and_close(ask(registry, "a", "x")), CLIPC_OK);
  clipc_registry_close(registry);
  clipc_runtime_close(runtime);
}

static void test_queue_full(void **state) {
  (void)state;
  clipc_runtime *runtime = fake_runtime(NULL);
  clipc_registry *registry = fake_registry(
      runtime, &(clipc_registry_options){.max_workers = 1, .text_embed_queue_capacity = 5, .max_batch = 1});
  struct fake fake = {.gate = 1};
  fake_add(registry, "a", EMBEDS, &fake);
  clipc_pending *first = ask(registry, "a", "x");
  EVENTUALLY(count_state(registry, CLIPC_WORKER_PROCESSING) == 1);
  clipc_pending *pending[12];
  int n_full = 0, n_ok = 0;
  for (int i = 0; i < 12; i++) pending[i] = ask(registry, "a", "x");
  for (int i = 0; i < 12; i++) n_full += clipc_pending_status(pending[i], NULL) == CLIPC_E_QUEUE_FULL;
  fake.gate = 0;
  for (int i = 0; i < 12; i++) n_ok += wait_and_close(pending[i]) == CLIPC_OK;
  assert_int_equal(wait_and_close(first), CLIPC_OK);
  assert_int_equal(n_full, 7);
  assert_int_equal(n_ok, 5);
  clipc_registry_close(registry);
  clipc_runtime_close(runtime);
}

/* ---- batches that form by themselves */

static void test_dynamic_batches(void **state) {
  (void)state;
  clipc_runtime *runtime = fake_runtime(NULL);
  clipc_registry *registry = fake_registry(runtime, &(clipc_registry_options){.max_workers = 1, .max_batch = 8});
  struct fake fake = {.max_batch = 64};
  fake_add(registry, "a", EMBEDS, &fake);
  assert_int_equal(wait_and_close(ask(registry, "a", "x")), CLIPC_OK);
  fake.gate = 1;
  clipc_pending *first = ask(registry, "a", "x");
  EVENTUALLY(count_state(registry, CLIPC_WORKER_PROCESSING) == 1);
  fake.n_batches = 0;
  clipc_pending *pending[24];
  for (int i = 0; i < 24; i++) pending[i] = ask(registry, "a", i == 3 ? "poison" : i == 12 ? "venom" : "fine");
  fake.gate = 0;
  assert_int_equal(wait_and_close(first), CLIPC_OK);
  for (int i = 0; i < 24; i++) /* neither a poisoned item nor one that fails them all spoils the others */
    assert_int_equal(wait_and_close(pending[i]), i == 3 ? CLIPC_E_FORMAT : i == 12 ? CLIPC_E_MODEL : CLIPC_OK);
  assert_int_equal(fake.most_items, 8);
  assert_int_equal(fake.n_batches, 1 + 3 + 8); /* the first one; three of eight; and those with venom once more alone */
  clipc_metrics metrics;
  assert_int_equal(clipc_registry_metrics(registry, &metrics, NULL), CLIPC_OK);
  assert_int_equal(metrics.n_items, 26);
  assert_int_equal(metrics.n_batches, 5);
  assert_int_equal(metrics.n_batched, 24);
  clipc_registry_close(registry);
  clipc_runtime_close(runtime);
}

static void test_delay(void **state) {
  (void)state;
  clipc_runtime *runtime = fake_runtime(NULL);
  clipc_registry *registry =
      fake_registry(runtime, &(clipc_registry_options){.max_workers = 1, .max_batch = 4, .max_delay_us = 3000000});
  struct fake fake = {.max_batch = 64};
  fake_add(registry, "a", EMBEDS, &fake);
  clipc_pending *pending[4];
  int64_t start = clipc_runtime_now_ns(runtime);
  for (int i = 0; i < 4; i++) pending[i] = ask(registry, "a", "x"), nap(), nap();
  for (int i = 0; i < 4; i++) assert_int_equal(wait_and_close(pending[i]), CLIPC_OK);
  assert_true(clipc_runtime_now_ns(runtime) - start < 2900000000); /* full: computed at once */
  assert_int_equal(fake.n_batches, 1);
  clipc_registry_close(registry);
  registry = fake_registry(runtime, &(clipc_registry_options){.max_workers = 1, .max_batch = 4, .max_delay_us = 20000});
  struct fake lonely = {.max_batch = 64};
  fake_add(registry, "a", EMBEDS, &lonely);
  start = clipc_runtime_now_ns(runtime);
  assert_int_equal(wait_and_close(ask(registry, "a", "x")), CLIPC_OK);
  assert_true(clipc_runtime_now_ns(runtime) - start >= 20000000);
  clipc_registry_close(registry);
  clipc_runtime_close(runtime);
}

/* ---- loading */

struct asker {
  clipc_registry *registry;
  atomic_int n_ok;
};

static void *ask_often(void *context) {
  struct asker *asker = context;
  for (int i = 0; i < 100; i++) {
    clipc_pending *pending = ask(asker->registry, "a", "x");
    if (clipc_pending_wait(pending, 20000, NULL) == CLIPC_OK) atomic_fetch_add(&asker->n_ok, 1);
    clipc_pending_close(pending);
  }
  return NULL;
}

static void test_first_requests_load_once(void **state) {
  (void)state;
  clipc_runtime *runtime = fake_runtime(NULL);
  clipc_registry *registry = fake_registry(runtime, NULL);
  struct fake fake = {.load_turns = 1000, .max_batch = 8}, other = {0};
  fake_add(registry, "a", EMBEDS, &fake);
  struct asker asker = {.registry = registry};
  pthread_t threads[8];
  for (int i = 0; i < 8; i++) pthread_create(&threads[i], NULL, ask_often, &asker);
  fake_add(registry, "b", EMBEDS, &other); /* and a name is added meanwhile */
  assert_int_equal(wait_and_close(ask(registry, "b", "x")), CLIPC_OK);
  for (int i = 0; i < 8; i++) pthread_join(threads[i], NULL);
  assert_int_equal(asker.n_ok, 800);
  assert_int_equal(fake.n_loads, 1);
  clipc_registry_close(registry);
  clipc_runtime_close(runtime);
}

static void check_load_failure(const struct fake *like, clipc_status status, const char *sentence) {
  clipc_runtime *runtime = fake_runtime(NULL);
  clipc_registry *registry = fake_registry(runtime, &(clipc_registry_options){.load_timeout_ms = 50});
  struct fake fake = *like;
  fake.expected_bytes = 1000;
  fake_add(registry, "a", EMBEDS, &fake);
  for (int round = 1; round <= 2; round++) { /* the second time it is tried again */
    clipc_pending *pending[5];
    for (int i = 0; i < 5; i++) pending[i] = ask(registry, "a", "x");
    for (int i = 0; i < 5; i++) {
      clipc_error error = {CLIPC_OK, ""};
      assert_int_equal(clipc_pending_wait(pending[i], 20000, &error), status);
      if (!strstr(error.message, sentence)) fail_msg("\"%s\" does not say \"%s\"", error.message, sentence);
      assert_int_equal(strncmp(error.message, "a: ", 3), 0);
      clipc_pending_close(pending[i]);
    }
    uint64_t used = 1; /* a model without workers goes a moment after them */
    EVENTUALLY(clipc_memory_usage(runtime, &used, NULL, NULL) == CLIPC_OK && used == 0);
  }
  clipc_registry_close(registry);
  assert_int_equal(fake.n_opened, 0);
  assert_int_equal(fake.n_loads, fake.n_released);
  clipc_runtime_close(runtime);
}

static void test_load_failures(void **state) {
  (void)state;
  check_load_failure(&(struct fake){.load_turns = 3, .load_status = CLIPC_E_IO}, CLIPC_E_SPAWN_FAILED,
                     "the fake broke");
  check_load_failure(&(struct fake){.load_never = 1}, CLIPC_E_SPAWN_FAILED, "did not end within 50 ms");
  check_load_failure(&(struct fake){.load_never = 2}, CLIPC_E_SPAWN_FAILED, "did not end within 50 ms");
  check_load_failure(&(struct fake){.load_never = 3}, CLIPC_E_SPAWN_FAILED, "did not end within 50 ms");
  check_load_failure(&(struct fake){.open_fails = 1}, CLIPC_E_SPAWN_FAILED, "the fake has no worker");
}

static void test_close_while_loading(void **state) {
  (void)state;
  for (int never = 1; never <= 3; never++) {
    clipc_runtime *runtime = fake_runtime(NULL);
    clipc_registry *registry = fake_registry(runtime, NULL);
    struct fake fake = {.load_never = never, .expected_bytes = 10};
    fake_add(registry, "a", EMBEDS, &fake);
    clipc_pending *pending = ask(registry, "a", "x");
    nap(), nap();
    clipc_registry_close(registry);
    assert_int_equal(wait_and_close(pending), CLIPC_E_SHUTTING_DOWN);
    assert_int_equal(fake.n_dropped, 1);
    clipc_runtime_close(runtime);
  }
}

/* ---- spawning by hand */

static void test_spawn_worker(void **state) {
  (void)state;
  clipc_runtime *runtime = fake_runtime(NULL);
  clipc_registry *registry = fake_registry(runtime, &(clipc_registry_options){.max_workers = 2});
  struct fake fake = {.load_turns = 5}, broken = {.load_status = CLIPC_E_MODEL};
  fake_add(registry, "a", EMBEDS, &fake);
  fake_add(registry, "b", EMBEDS, &fake);
  clipc_pool *pool = clipc_registry_pool(registry, "a", CLIPC_TEXT_EMBEDDING);
  clipc_pending *spawned;
  clipc_guard *guard;
  uint64_t used;
  clipc_error error;
  assert_int_equal(clipc_memory_claim(&guard, runtime, 1 << 20, NULL), CLIPC_OK);
  clipc_loader loader = fake_loader(&broken);
  assert_int_equal(clipc_pool_spawn_worker(pool, CLIPC_TEXT_EMBEDDING, "a", &loader, 1, guard, &spawned, NULL),
                   CLIPC_OK);
  assert_int_equal(clipc_pending_wait(spawned, 20000, &error), CLIPC_E_SPAWN_FAILED);
  assert_string_equal(error.message, "a: the fake broke");
  clipc_pending_close(spawned);
  clipc_memory_usage(runtime, &used, NULL, NULL);
  assert_int_equal(used, 0);
  assert_int_equal(clipc_memory_claim(&guard, runtime, 1 << 20, NULL), CLIPC_OK);
  assert_int_equal(clipc_pool_spawn_worker(pool, CLIPC_TEXT_EMBEDDING, "a", NULL, 1, guard, &spawned, NULL), CLIPC_OK);
  assert_int_equal(clipc_pending_wait(spawned, 20000, &error), CLIPC_OK);
  clipc_pending_close(spawned);
  assert_int_equal(clipc_pool_spawn_worker(pool, CLIPC_TEXT_EMBEDDING, "a", NULL, 3, NULL, &spawned, NULL), CLIPC_OK);
  assert_int_equal(clipc_pending_wait(spawned, 20000, &error), CLIPC_OK);
  clipc_pending_close(spawned);
  clipc_memory_usage(runtime, &used, NULL, NULL);
  assert_int_equal(used, 4 << 20);
  assert_int_equal(clipc_pool_spawn_worker(pool, CLIPC_TEXT_EMBEDDING, "a", NULL, 0, NULL, &spawned, NULL), CLIPC_OK);
  assert_int_equal(wait_and_close(spawned), CLIPC_E_LIMIT);
  assert_int_equal(clipc_memory_claim(&guard, runtime, 1 << 20, NULL), CLIPC_OK); /* wrong calls give it back, too */
  assert_int_equal(clipc_pool_spawn_worker(pool, CLIPC_VISION, "a", NULL, 0, guard, &spawned, NULL), CLIPC_E_INVALID);
  assert_null(spawned);
  assert_int_equal(clipc_pool_spawn_worker(pool, CLIPC_TEXT_EMBEDDING, "b", NULL, 0, NULL, NULL, NULL),
                   CLIPC_E_INVALID);
  assert_int_equal(clipc_pool_spawn_worker(NULL, CLIPC_TEXT_EMBEDDING, "a", NULL, 0, NULL, NULL, NULL),
                   CLIPC_E_INVALID);
  clipc_memory_usage(runtime, &used, NULL, NULL);
  assert_int_equal(used, 4 << 20);
  assert_int_equal(wait_and_close(ask(registry, "a", "x")), CLIPC_OK);
  assert_int_equal(fake.n_opened, 2);
  clipc_registry_close(registry);
  clipc_memory_usage(runtime, &used, NULL, NULL);
  assert_int_equal(used, 0);
  clipc_runtime_close(runtime);
}

/* ---- URLs: fetched before a worker is asked for */

static void test_urls(void **state) {
  (void)state;
  struct web_server *server = web_server_start(NULL, 0);
  assert_non_null(server);
  char allowed[64], closed[] = "127.0.0.1:1", url[256];
  int port = web_server_port(server, 0);
  snprintf(allowed, sizeof allowed, "127.0.0.1:%d", port);
  const char *const allow[] = {allowed, closed};
  clipc_runtime *runtime =
      fake_runtime(&(clipc_runtime_options){.n_threads = 2, .fetch = {.allow = allow, .n_allow = 2}});
  clipc_registry *registry = fake_registry(runtime, &(clipc_registry_options){.url_queue_capacity = 4});
  struct fake fake = {.max_batch = 8};
  fake_add(registry, "a", CLIPC_CAN(CLIPC_IMAGE_EMBEDDING), &fake);
  clipc_image_embedding table;
  assert_int_equal(clipc_registry_image_embedding(registry, "a", &table, NULL), CLIPC_OK);
  snprintf(url, sizeof url, "http://%s/ok?1000", allowed);
  clipc_pending *pending = table.embed_image_url(table.self, url, NULL);
  clipc_status status = clipc_pending_wait(pending, 20000, NULL);
  if (status != CLIPC_E_UNSUPPORTED) { /* built or run without libcurl */
    assert_int_equal(status, CLIPC_OK);
    const clipc_result *result = clipc_pending_result(pending);
    assert_true(result->embeddings[0] == 1000.0f && result->embeddings[1] == web_byte(0));
    const struct {
      const char *url;
      clipc_status status;
    } bad[] = {{"http://127.0.0.1:2/", CLIPC_E_DENIED},
               {"http://127.0.0.1:1/", CLIPC_E_NETWORK},
               {"ftp://example.com/", CLIPC_E_DENIED},
               {"http://user@example.com/", CLIPC_E_DENIED},
               {"nothing at all", CLIPC_E_INVALID}};
    for (size_t i = 0; i < COUNT(bad); i++)
      assert_int_equal(wait_and_close(table.embed_image_url(table.self, bad[i].url, NULL)), bad[i].status);
    char missing[256], slow[256];
    snprintf(missing, sizeof missing, "http://%s/status?404", allowed);
    snprintf(slow, sizeof slow, "http://%s/hang", allowed);
    const clipc_input inputs[] = {{CLIPC_INPUT_URL, url, 0},
                                  {CLIPC_INPUT_URL, missing, 0},
                                  {CLIPC_INPUT_BASE64, "YWI", 0},
                                  {CLIPC_INPUT_URL, url, 0}};
    clipc_pending *batch = table.batch_embed_images(table.self, inputs, COUNT(inputs), NULL);
    assert_int_equal(clipc_pending_wait(batch, 20000, NULL), CLIPC_OK);
    result = clipc_pending_result(batch);
    assert_true(result->embeddings[0] == 1000.0f && result->embeddings[8] == 2.0f && result->embeddings[12] == 1000.0f);
    assert_int_equal(result->item_errors[1].status, CLIPC_E_NETWORK);
    clipc_pending_close(batch);
    clipc_pending *hanging[6];
    for (int i = 0; i < 6; i++)
      hanging[i] = table.embed_image_url(table.self, slow, &(clipc_request){.timeout_ms = 300});
    for (int i = 4; i < 6; i++) assert_int_equal(wait_and_close(hanging[i]), CLIPC_E_QUEUE_FULL);
    clipc_pending_cancel(hanging[0]);
    assert_int_equal(wait_and_close(hanging[0]), CLIPC_E_CANCELLED);
    for (int i = 1; i < 4; i++) assert_int_equal(wait_and_close(hanging[i]), CLIPC_E_TIMED_OUT);
    clipc_pending *left = table.embed_image_url(table.self, slow, NULL);
    clipc_pending *queued = table.embed_image_url(table.self, url, NULL);
    assert_int_equal(wait_and_close(queued), CLIPC_OK); /* a slow one holds nobody up */
    clipc_registry_close(registry);
    assert_int_equal(wait_and_close(left), CLIPC_E_SHUTTING_DOWN);
  } else {
    clipc_registry_close(registry);
  }
  clipc_pending_close(pending);
  clipc_runtime_close(runtime);
  web_server_stop(server);
}

/* ---- a host that polls */

static void test_host_driven(void **state) {
  (void)state;
  clipc_runtime *runtime = fake_runtime(&(clipc_runtime_options){.n_threads = CLIPC_HOST_DRIVEN});
  clipc_registry *registry = fake_registry(runtime, NULL);
  assert_int_equal(clipc_registry_add_model(registry, "tiny", "models/tiny", NULL, NULL), CLIPC_OK);
  clipc_image_embedding table;
  assert_int_equal(clipc_registry_image_embedding(registry, "tiny", &table, NULL), CLIPC_OK);
  clipc_pending *pending = table.embed_image(table.self, "models/tiny/pictures/red_car.jpg", NULL);
  int n = 0;
  while (!clipc_pending_done(pending) && n++ < 100000) clipc_runtime_poll(runtime, 1000, NULL);
  assert_int_equal(clipc_pending_status(pending, NULL), CLIPC_OK);
  clipc_pending_close(pending);
  pending = table.embed_image(table.self, "models/tiny/pictures/red_car.jpg", NULL);
  for (n = 0; !clipc_pending_done(pending) && n < 100000; n++) clipc_runtime_poll(runtime, 1000, NULL);
  assert_true(n > 4); /* the tower's blocks: one poll computes one at most */
  clipc_pending_close(pending);
  pending = table.embed_image(table.self, "models/tiny/pictures/red_car.jpg", NULL);
  assert_int_equal(wait_and_close(pending), CLIPC_OK); /* waiting polls */
  clipc_registry_close(registry);
  clipc_runtime_close(runtime);
}

static void count_line(void *context, const char *line) {
  assert_true(strlen(line) < 256);
  ++*(int *)context;
}

static void test_dump_and_metrics(void **state) {
  (void)state;
  clipc_runtime *runtime = fake_runtime(NULL);
  clipc_registry *registry = fake_registry(runtime, NULL);
  struct fake fake = {0};
  fake_add(registry, "a", EMBEDS, &fake);
  for (int i = 0; i < 10; i++) assert_int_equal(wait_and_close(ask(registry, "a", "x")), CLIPC_OK);
  int n_lines = 0;
  clipc_registry_dump(registry, count_line, &n_lines);
  assert_int_equal(n_lines, 4); /* the model, its pool, two workers */
  clipc_metrics metrics;
  assert_int_equal(clipc_registry_metrics(registry, &metrics, NULL), CLIPC_OK);
  uint64_t queued = 0, computing = 0;
  for (int i = 0; i < CLIPC_N_BUCKETS; i++) queued += metrics.queued_us[i], computing += metrics.computing_us[i];
  assert_int_equal(queued, 10);
  assert_int_equal(computing, 10);
  assert_int_equal(metrics.n_requests, 10);
  assert_int_equal(metrics.by_capability[CLIPC_TEXT_EMBEDDING], 10);
  assert_int_equal(metrics.by_status[CLIPC_OK], 10);
  assert_int_equal(metrics.n_under_way, 0);
  assert_int_equal(clipc_registry_metrics(NULL, &metrics, NULL), CLIPC_E_INVALID);
  clipc_registry_close(registry);
  clipc_runtime_close(runtime);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_options),       cmocka_unit_test(test_cold_start_and_growth),
      cmocka_unit_test(test_no_minimum),    cmocka_unit_test(test_evict),
      cmocka_unit_test(test_ping),          cmocka_unit_test(test_death_loses_nothing),
      cmocka_unit_test(test_queue_full),    cmocka_unit_test(test_dynamic_batches),
      cmocka_unit_test(test_delay),         cmocka_unit_test(test_first_requests_load_once),
      cmocka_unit_test(test_load_failures), cmocka_unit_test(test_close_while_loading),
      cmocka_unit_test(test_spawn_worker),  cmocka_unit_test(test_urls),
      cmocka_unit_test(test_host_driven),   cmocka_unit_test(test_dump_and_metrics),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
