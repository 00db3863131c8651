/* The memory governor: one budget, guards that are given back once, eviction of what was idle longest. */
#include "fake_engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const int TEXTS = CLIPC_CAN(CLIPC_TEXT_EMBEDDING);

static uint64_t used_bytes(clipc_runtime *runtime) {
  uint64_t used;
  assert_int_equal(clipc_memory_usage(runtime, &used, NULL, NULL), CLIPC_OK);
  return used;
}

static void test_guards(void **state) {
  (void)state;
  clipc_runtime *runtime = fake_runtime(&(clipc_runtime_options){.n_threads = 1, .memory_budget_bytes = 1000});
  uint64_t budget;
  assert_int_equal(clipc_memory_usage(runtime, NULL, &budget, NULL), CLIPC_OK);
  assert_int_equal(budget, 1000);
  clipc_guard *a, *b, *c;
  clipc_error error;
  assert_int_equal(clipc_memory_claim(&a, runtime, 600, NULL), CLIPC_OK);
  assert_int_equal(clipc_memory_claim(&b, runtime, 401, &error), CLIPC_E_MEMORY_BUDGET);
  assert_null(b);
  assert_string_equal(error.message, "401 bytes are wanted, and of the budget of 1000 bytes 600 are taken");
  assert_int_equal(clipc_memory_claim(&b, runtime, 400, NULL), CLIPC_OK);
  assert_int_equal(used_bytes(runtime), 1000);
  assert_int_equal(clipc_memory_claim(&c, runtime, UINT64_MAX, NULL), CLIPC_E_MEMORY_BUDGET);
  assert_int_equal(clipc_memory_claim(&c, runtime, 0, NULL), CLIPC_OK);
  clipc_memory_release(c);
  clipc_memory_release(a);
  clipc_memory_release(NULL);
  assert_int_equal(used_bytes(runtime), 400);
  assert_int_equal(clipc_memory_claim(NULL, runtime, 1, NULL), CLIPC_E_INVALID);
  assert_int_equal(clipc_memory_claim(&c, NULL, 1, NULL), CLIPC_E_INVALID);
  assert_int_equal(clipc_memory_usage(NULL, NULL, NULL, NULL), CLIPC_E_INVALID);
  clipc_runtime_close(runtime);
  clipc_memory_release(b); /* after the runtime */
  runtime = fake_runtime(NULL);
  assert_int_equal(clipc_memory_usage(runtime, NULL, &budget, NULL), CLIPC_OK);
  assert_true(budget > 1 << 20); /* of the cgroup or the machine */
  clipc_runtime_close(runtime);
}

/* A model counts once, whatever the number of its workers. */
static void test_shared_once(void **state) {
  (void)state;
  clipc_runtime *runtime = fake_runtime(&(clipc_runtime_options){.n_threads = 2, .memory_budget_bytes = 100000});
  clipc_registry *registry = fake_registry(runtime, NULL);
  struct fake fake = {.expected_bytes = 5000, .shared_bytes = 10000, .worker_bytes = 300};
  fake_add(registry, "a", TEXTS, &fake);
  assert_int_equal(wait_and_close(ask(registry, "a", "x")), CLIPC_OK);
  EVENTUALLY(fake.n_opened == 2);
  EVENTUALLY(used_bytes(runtime) == 10600);
  struct fake modest = {.expected_bytes = 9000, .shared_bytes = 4000}; /* less than was expected: the rest goes back */
  fake_add(registry, "b", TEXTS, &modest);
  assert_int_equal(wait_and_close(ask(registry, "b", "x")), CLIPC_OK);
  assert_int_equal(used_bytes(runtime), 14600);
  clipc_registry_close(registry);
  assert_int_equal(used_bytes(runtime), 0);
  clipc_runtime_close(runtime);
}

static void test_least_recently_used_goes(void **state) {
  (void)state;
  clipc_runtime *runtime = fake_runtime(&(clipc_runtime_options){.n_threads = 2, .memory_budget_bytes = 1000});
  clipc_registry *registry = fake_registry(runtime, &(clipc_registry_options){.max_workers = 1});
  clipc_registry *other = fake_registry(runtime, &(clipc_registry_options){.max_workers = 1}); /* one budget for both */
  struct fake fakes[4];
  const char *keys[] = {"a", "b", "c", "d"};
  for (int i = 0; i < 4; i++) {
    fakes[i] = (struct fake){.expected_bytes = 400, .shared_bytes = 400, .worker_bytes = 50};
    fakes[i].release_ms = 3; /* meanwhile no second one is sent away for the same claim */
    fake_add(i == 1 ? other : registry, keys[i], TEXTS, &fakes[i]);
  }
  assert_int_equal(wait_and_close(ask(registry, "a", "x")), CLIPC_OK);
  nap();
  assert_int_equal(wait_and_close(ask(other, "b", "x")), CLIPC_OK);
  nap();
  assert_int_equal(wait_and_close(ask(registry, "a", "x")), CLIPC_OK);
  assert_int_equal(used_bytes(runtime), 900);
  nap();
  assert_int_equal(wait_and_close(ask(registry, "c", "x")), CLIPC_OK); /* b was idle longest */
  assert_int_equal(fakes[0].n_released, 0);
  assert_int_equal(fakes[1].n_released, 1);
  assert_int_equal(used_bytes(runtime), 900);
  assert_int_equal(wait_and_close(ask(other, "b", "x")), CLIPC_OK); /* and comes back, in place of a */
  assert_int_equal(fakes[0].n_released, 1);
  assert_int_equal(fakes[2].n_released, 0);
  fakes[1].gate = fakes[2].gate = 1; /* what is busy stays */
  clipc_pending *b = ask(other, "b", "x"), *c = ask(registry, "c", "x");
  clipc_error error;
  clipc_pending *d = ask(registry, "d", "x");
  assert_int_equal(clipc_pending_wait(d, 20000, &error), CLIPC_E_MEMORY_BUDGET);
  assert_int_equal(strncmp(error.message, "d: 400 bytes are wanted", 23), 0);
  clipc_pending_close(d);
  fakes[1].gate = fakes[2].gate = 0;
  assert_int_equal(wait_and_close(b), CLIPC_OK);
  assert_int_equal(wait_and_close(c), CLIPC_OK);
  assert_int_equal(wait_and_close(ask(registry, "d", "x")), CLIPC_OK);
  clipc_metrics metrics;
  assert_int_equal(clipc_registry_metrics(registry, &metrics, NULL), CLIPC_OK);
  assert_int_equal(metrics.memory_budget_bytes, 1000);
  assert_true(metrics.memory_used_bytes <= 1000);
  clipc_registry_close(registry);
  clipc_registry_close(other);
  assert_int_equal(used_bytes(runtime), 0);
  clipc_runtime_close(runtime);
}

/* Too large for the budget: nobody is evicted for it. And more workers than there is room for are simply not made. */
static void test_too_large(void **state) {
  (void)state;
  clipc_runtime *runtime = fake_runtime(&(clipc_runtime_options){.n_threads = 2, .memory_budget_bytes = 1000});
  clipc_registry *registry = fake_registry(runtime, NULL);
  struct fake small = {.shared_bytes = 500, .worker_bytes = 300}, large = {.expected_bytes = 1001},
              liar = {.expected_bytes = 10, .shared_bytes = 2000};
  fake_add(registry, "small", TEXTS, &small);
  fake_add(registry, "large", TEXTS, &large);
  fake_add(registry, "liar", TEXTS, &liar);
  assert_int_equal(wait_and_close(ask(registry, "small", "x")), CLIPC_OK);
  assert_int_equal(wait_and_close(ask(registry, "large", "x")), CLIPC_E_MEMORY_BUDGET);
  assert_int_equal(wait_and_close(ask(registry, "liar", "x")), CLIPC_E_MEMORY_BUDGET);
  assert_int_equal(liar.n_released, 1);
  EVENTUALLY(used_bytes(runtime) == 800);
  small.gate = 1;
  clipc_pending *pending[8];
  for (int i = 0; i < 8; i++) pending[i] = ask(registry, "small", "x"), nap();
  small.gate = 0;
  for (int i = 0; i < 8; i++) assert_int_equal(wait_and_close(pending[i]), CLIPC_OK);
  assert_int_equal(small.n_opened, 1);
  assert_int_equal(small.n_released, 0);
  clipc_registry_close(registry);
  assert_int_equal(used_bytes(runtime), 0);
  clipc_runtime_close(runtime);
}

static size_t resident_kb(void) {
  FILE *file = fopen("/proc/self/statm", "r");
  unsigned long total, resident = 0;
  if (file && fscanf(file, "%lu %lu", &total, &resident) != 2) resident = 0;
  if (file) fclose(file);
  return resident * 4;
}

/* What is evicted really goes back to the system. */
static void test_resident(void **state) {
  (void)state;
  if (!test_full_sizes()) skip(); /* sanitizers keep what was freed */
  clipc_runtime *runtime = fake_runtime(NULL);
  clipc_registry *registry = fake_registry(runtime, NULL);
  struct fake fake = {.touched_bytes = 200 << 20};
  fake_add(registry, "a", TEXTS, &fake);
  assert_int_equal(clipc_registry_add_model(registry, "tiny", "models/tiny", NULL, NULL), CLIPC_OK);
  size_t before = resident_kb();
  assert_int_equal(wait_and_close(ask(registry, "tiny", "x")), CLIPC_OK);
  assert_int_equal(wait_and_close(ask(registry, "a", "x")), CLIPC_OK);
  size_t loaded = resident_kb();
  assert_true(loaded > before + (200 << 10));
  assert_int_equal(clipc_registry_evict(registry, "a", NULL), CLIPC_OK);
  assert_int_equal(clipc_registry_evict(registry, "tiny", NULL), CLIPC_OK);
  clipc_metrics metrics = {0};
  EVENTUALLY(clipc_registry_metrics(registry, &metrics, NULL) == CLIPC_OK && metrics.n_evictions == 2);
  size_t after = resident_kb();
  if (after > before + (8 << 10)) fail_msg("%zu KiB before, %zu loaded, %zu after the eviction", before, loaded, after);
  clipc_registry_close(registry);
  clipc_runtime_close(runtime);
}

/* The tiny model says what it takes, and its workers what they do. */
static void test_clip_is_counted(void **state) {
  (void)state;
  clipc_runtime *runtime = fake_runtime(NULL);
  clipc_registry *registry = fake_registry(runtime, &(clipc_registry_options){.max_workers = 1});
  assert_int_equal(clipc_registry_add_model(registry, "tiny", "models/tiny", NULL, NULL), CLIPC_OK);
  assert_int_equal(wait_and_close(ask(registry, "tiny", "x")), CLIPC_OK);
  uint64_t one = used_bytes(runtime);
  assert_true(one > 1 << 20 && one < 64 << 20);
  assert_int_equal(clipc_registry_evict(registry, "tiny", NULL), CLIPC_OK);
  EVENTUALLY(used_bytes(runtime) == 0);
  clipc_registry_close(registry);
  clipc_runtime_close(runtime);
}

/* ---- failing the n-th allocation */

static clipc_status run_all(struct test_memory *memory, struct fake *fake) {
  clipc_runtime *runtime;
  const clipc_runtime_options options = {.n_threads = CLIPC_HOST_DRIVEN, .allocator = test_allocator(memory)};
  clipc_status status = clipc_runtime_open(&runtime, &options, NULL);
  if (status != CLIPC_OK) return status;
  clipc_registry *registry = NULL;
  clipc_loader loader = fake_loader(fake);
  status = clipc_registry_open(&registry, runtime, &(clipc_registry_options){.max_workers = 1}, NULL);
  if (status == CLIPC_OK)
    status = clipc_registry_add(registry, "a", TEXTS | CLIPC_CAN(CLIPC_TEXT_TO_TEXT), &loader, NULL);
  const clipc_input inputs[] = {{CLIPC_INPUT_TEXT, "x", 0}, {CLIPC_INPUT_TEXT, "yy", 0}};
  const clipc_request requests[] = {{.capability = CLIPC_TEXT_EMBEDDING, .inputs = inputs, .n_inputs = 2},
                                    {.capability = CLIPC_TEXT_TO_TEXT, .prompt = "p"}};
  for (size_t i = 0; i < COUNT(requests) && status == CLIPC_OK; i++) {
    clipc_pending *pending = clipc_registry_submit(registry, "a", &requests[i]);
    status = pending ? clipc_pending_wait(pending, 20000, NULL) : CLIPC_E_NO_MEMORY;
    clipc_pending_close(pending);
  }
  clipc_registry_close(registry);
  clipc_runtime_close(runtime);
  return status;
}

static void test_allocations(void **state) {
  (void)state;
  for (size_t fail_at = 1;; fail_at++) {
    struct test_memory memory = {.fail_at = fail_at};
    struct fake fake = {.expected_bytes = 10, .shared_bytes = 20, .worker_bytes = 5, .chunks = 3};
    clipc_status status = run_all(&memory, &fake);
    if (memory.n_live != 0) fail_msg("%zu live after allocation %zu failed", memory.n_live, fail_at);
    assert_int_equal(fake.n_opened, fake.n_closed);
    assert_int_equal(fake.n_loads, fake.n_released);
    if (fail_at > memory.n_asked) {
      assert_int_equal(status, CLIPC_OK);
      assert_true(fail_at > 10);
      return;
    }
    if (status != CLIPC_OK && status != CLIPC_E_NO_MEMORY && status != CLIPC_E_SPAWN_FAILED &&
        status != CLIPC_E_RUNTIME_UNAVAILABLE)
      fail_msg("allocation %zu: %s", fail_at, clipc_status_name(status));
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_guards),
      cmocka_unit_test(test_shared_once),
      cmocka_unit_test(test_least_recently_used_goes),
      cmocka_unit_test(test_too_large),
      cmocka_unit_test(test_resident),
      cmocka_unit_test(test_clip_is_counted),
      cmocka_unit_test(test_allocations),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
