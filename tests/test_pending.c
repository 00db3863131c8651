/* Pending results: completed exactly once, whoever waits, cancels, closes or shuts down meanwhile. */
#include "fake_engine.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct world {
  clipc_runtime *runtime;
  clipc_registry *registry;
  struct fake fake;
};

static int set_up(void **state) {
  struct world *world = calloc(1, sizeof *world);
  world->runtime = fake_runtime(NULL);
  world->registry = fake_registry(world->runtime, NULL);
  world->fake.chunks = 40;
  fake_add(world->registry, "fake", CLIPC_CAN(CLIPC_TEXT_EMBEDDING) | CLIPC_CAN(CLIPC_TEXT_TO_TEXT), &world->fake);
  *state = world;
  return 0;
}

static int tear_down(void **state) {
  struct world *world = *state;
  world->fake.gate = world->fake.stuck = 0;
  clipc_registry_close(world->registry);
  assert_int_equal(world->fake.n_opened, world->fake.n_closed);
  assert_int_equal(world->fake.n_loads, world->fake.n_released);
  clipc_runtime_close(world->runtime);
  free(world);
  return 0;
}

static void test_waits(void **state) {
  struct world *world = *state;
  clipc_pending *pending = ask(world->registry, "fake", "hello");
  for (int i = 0; i < 3; i++) assert_int_equal(clipc_pending_wait(pending, 20000, NULL), CLIPC_OK);
  assert_true(clipc_pending_done(pending));
  const clipc_result *result = clipc_pending_result(pending);
  assert_int_equal(result->n_items, 1);
  assert_int_equal(result->dimension, 4);
  assert_true(result->embeddings[0] == 5.0f && result->embeddings[1] == 'h');
  assert_int_equal(result->item_errors[0].status, CLIPC_OK);
  clipc_pending_cancel(pending); /* too late: nothing happens */
  assert_int_equal(clipc_pending_status(pending, NULL), CLIPC_OK);
  assert_non_null(clipc_pending_result(pending));
  clipc_pending_close(pending);
  clipc_pending_close(NULL);
  assert_int_equal(clipc_pending_done(NULL), 1);
  assert_int_equal(clipc_pending_status(NULL, NULL), CLIPC_E_INVALID);
  assert_int_equal(clipc_pending_wait(NULL, 0, NULL), CLIPC_E_INVALID);
  assert_null(clipc_pending_result(NULL));
}

static void test_failures(void **state) {
  struct world *world = *state;
  clipc_error error;
  clipc_pending *pending = ask(world->registry, "fake", "poison");
  assert_int_equal(clipc_pending_wait(pending, 20000, &error), CLIPC_E_FORMAT);
  assert_string_equal(error.message, "the item is poisoned");
  assert_null(clipc_pending_result(pending));
  clipc_pending_close(pending);
  pending = ask(world->registry, "fake", "venom");
  assert_int_equal(clipc_pending_wait(pending, 20000, &error), CLIPC_E_MODEL);
  assert_string_equal(error.message, "there was venom");
  clipc_pending_close(pending);
}

static void test_batches(void **state) {
  struct world *world = *state;
  clipc_text_embedding table;
  assert_int_equal(clipc_registry_text_embedding(world->registry, "fake", &table, NULL), CLIPC_OK);
  assert_int_equal(table.embedding_dimension(table.self), 0);
  const char *texts[] = {"a", "poison", "ccc"};
  clipc_pending *pending = table.batch_embed_texts(table.self, texts, 3, NULL);
  assert_int_equal(clipc_pending_wait(pending, 20000, NULL), CLIPC_OK);
  const clipc_result *result = clipc_pending_result(pending);
  assert_int_equal(result->n_items, 3);
  assert_int_equal(result->item_errors[0].status, CLIPC_OK);
  assert_int_equal(result->item_errors[1].status, CLIPC_E_FORMAT);
  assert_string_equal(result->item_errors[1].message, "the item is poisoned");
  assert_true(result->embeddings[0] == 1.0f && result->embeddings[4] == 0.0f && result->embeddings[8] == 3.0f);
  clipc_pending_close(pending);
  pending = table.batch_embed_texts(table.self, texts + 1, 1, NULL); /* a batch of one is a batch */
  assert_int_equal(clipc_pending_wait(pending, 20000, NULL), CLIPC_OK);
  assert_int_equal(clipc_pending_result(pending)->item_errors[0].status, CLIPC_E_FORMAT);
  clipc_pending_close(pending);
  pending = table.batch_embed_texts(table.self, texts, 0, NULL);
  assert_int_equal(clipc_pending_wait(pending, 20000, NULL), CLIPC_OK);
  assert_int_equal(clipc_pending_result(pending)->n_items, 0);
  clipc_pending_close(pending);
  size_t n;
  assert_int_equal(table.embedding_dimension(table.self), 4);
  assert_int_equal(*table.supported_dimensions(table.self, &n), 4);
  assert_int_equal(n, 1);
}

static void test_cancel(void **state) {
  struct world *world = *state;
  world->fake.gate = 1;
  clipc_pending *computing = ask(world->registry, "fake", "a"), *waiting[8];
  for (int i = 0; i < 8; i++) waiting[i] = ask(world->registry, "fake", "b");
  assert_int_equal(clipc_pending_wait(computing, 30, NULL), CLIPC_E_TIMED_OUT); /* the request goes on */
  assert_false(clipc_pending_done(computing));
  clipc_pending_cancel(computing);
  assert_true(clipc_pending_done(computing));
  clipc_error error;
  assert_int_equal(clipc_pending_wait(computing, 0, &error), CLIPC_E_CANCELLED);
  assert_string_equal(error.message, "the request was cancelled");
  for (int i = 0; i < 4; i++) clipc_pending_cancel(waiting[i]);
  world->fake.gate = 0;
  for (int i = 0; i < 8; i++) assert_int_equal(wait_and_close(waiting[i]), i < 4 ? CLIPC_E_CANCELLED : CLIPC_OK);
  clipc_pending_close(computing);
  world->fake.stuck = 1; /* an engine that waits for ever is left when nobody waits for it */
  for (int i = 0; i < 4; i++) waiting[i] = ask(world->registry, "fake", "c");
  nap(), nap();
  for (int i = 0; i < 4; i++) clipc_pending_cancel(waiting[i]), clipc_pending_close(waiting[i]);
  world->fake.stuck = 0;
  assert_int_equal(wait_and_close(ask(world->registry, "fake", "d")), CLIPC_OK);
}

static void test_close_under_way(void **state) {
  struct world *world = *state;
  world->fake.gate = 1;
  for (int i = 0; i < 20; i++) clipc_pending_close(ask(world->registry, "fake", "gone"));
  world->fake.gate = 0;
  assert_int_equal(wait_and_close(ask(world->registry, "fake", "d")), CLIPC_OK);
  clipc_metrics metrics;
  assert_int_equal(clipc_registry_metrics(world->registry, &metrics, NULL), CLIPC_OK);
  assert_int_equal(metrics.by_status[CLIPC_E_CANCELLED], 20);
  assert_int_equal(metrics.by_status[CLIPC_OK], 1);
}

static void test_time_limit(void **state) {
  struct world *world = *state;
  const clipc_input input = {CLIPC_INPUT_TEXT, "late", 4};
  clipc_request request = {.capability = CLIPC_TEXT_EMBEDDING, .inputs = &input, .n_inputs = 1, .timeout_ms = 40};
  world->fake.gate = 1;
  clipc_pending *pending[6];
  for (int i = 0; i < 6; i++) pending[i] = clipc_registry_submit(world->registry, "fake", &request);
  request.timeout_ms = -1;
  clipc_pending *patient = clipc_registry_submit(world->registry, "fake", &request);
  for (int i = 0; i < 6; i++)
    assert_int_equal(wait_and_close(pending[i]), CLIPC_E_TIMED_OUT); /* queued and computing */
  assert_false(clipc_pending_done(patient));
  world->fake.gate = 0;
  assert_int_equal(wait_and_close(patient), CLIPC_OK);
  request.timeout_ms = -2;
  assert_int_equal(wait_and_close(clipc_registry_submit(world->registry, "fake", &request)), CLIPC_E_INVALID);
}

/* ---- callbacks */

struct heard {
  clipc_registry *registry;
  atomic_int n, blocked, status;
  clipc_pending *_Atomic second;
};

static void on_done(void *context, clipc_pending *pending) {
  struct heard *heard = context;
  assert_true(clipc_pending_done(pending));
  assert_ptr_equal(clipc_pending_context(pending), context);
  atomic_store(&heard->status, clipc_pending_status(pending, NULL));
  int would_deadlock = clipc_pending_wait(pending, -1, NULL) == CLIPC_E_WOULD_DEADLOCK;
  clipc_pending *second = ask(heard->registry, "fake", "again");
  would_deadlock &= clipc_pending_wait(second, -1, NULL) == CLIPC_E_WOULD_DEADLOCK;
  atomic_store(&heard->blocked, would_deadlock);
  atomic_store(&heard->second, second);
  clipc_pending_close(pending);
  atomic_fetch_add(&heard->n, 1);
}

static void test_callback(void **state) {
  struct world *world = *state;
  struct heard heard = {.registry = world->registry};
  const clipc_input input = {CLIPC_INPUT_TEXT, "x", 0};
  clipc_request request = {
      .capability = CLIPC_TEXT_EMBEDDING, .inputs = &input, .n_inputs = 1, .done = on_done, .context = &heard};
  clipc_registry_submit(world->registry, "fake", &request);
  EVENTUALLY(heard.n == 1);
  assert_int_equal(heard.blocked, 1);
  assert_int_equal(heard.status, CLIPC_OK);
  assert_int_equal(wait_and_close(heard.second), CLIPC_OK);
  world->fake.gate = 1; /* cancelling calls it, too: here and now */
  clipc_pending_cancel(clipc_registry_submit(world->registry, "fake", &request));
  assert_int_equal(heard.n, 2);
  assert_int_equal(heard.status, CLIPC_E_CANCELLED);
  world->fake.gate = 0;
  assert_int_equal(wait_and_close(heard.second), CLIPC_OK);
  clipc_registry_submit(world->registry, "nobody", &request); /* and so does a request that is refused */
  assert_int_equal(heard.n, 3);
  assert_int_equal(heard.status, CLIPC_E_NO_WORKERS);
  assert_int_equal(wait_and_close(heard.second), CLIPC_OK);
}

static void on_done_closed(void *context, clipc_pending *pending) {
  assert_true(clipc_pending_result(pending)->embeddings[0] == 1.0f);
  atomic_fetch_add((atomic_int *)context, 1);
}

static void test_callback_of_a_closed_one(void **state) {
  struct world *world = *state;
  atomic_int n = 0;
  const clipc_input input = {CLIPC_INPUT_TEXT, "x", 0};
  const clipc_request request = {
      .capability = CLIPC_TEXT_EMBEDDING, .inputs = &input, .n_inputs = 1, .done = on_done_closed, .context = &n};
  world->fake.gate = 1;
  clipc_pending_close(clipc_registry_submit(world->registry, "fake", &request));
  world->fake.gate = 0;
  EVENTUALLY(n == 1);
}

/* ---- tasks */

struct awaiter {
  int at, i, status;
  clipc_registry *registry;
  clipc_pending *pending;
  atomic_int *n_right;
};

static int await_requests(clipc_task *task, void *frame) {
  struct awaiter *a = frame;
  CLIPC_TASK_BEGIN(a);
  for (a->i = 0; a->i < 50; a->i++) {
    a->pending = ask(a->registry, "fake", a->i % 2 ? "poison" : "fine");
    if (clipc_pending_wait(a->pending, -1, NULL) != CLIPC_E_WOULD_DEADLOCK) return CLIPC_E_INVALID;
    CLIPC_AWAIT(a, a->status, clipc_pending_await(task, a->pending));
    if (a->status == (a->i % 2 ? CLIPC_E_FORMAT : CLIPC_OK) && clipc_pending_done(a->pending))
      atomic_fetch_add(a->n_right, 1);
    clipc_pending_close(a->pending);
  }
  CLIPC_TASK_END(a, CLIPC_OK);
}

static void test_await(void **state) {
  static const clipc_task_kind kind = {.name = "awaiter", .run = await_requests, .frame_bytes = sizeof(struct awaiter)};
  struct world *world = *state;
  atomic_int n_right = 0;
  clipc_task *tasks[4];
  for (int i = 0; i < 4; i++)
    assert_int_equal(clipc_spawn(&tasks[i], world->runtime, &kind,
                                 &(struct awaiter){.registry = world->registry, .n_right = &n_right}, NULL),
                     CLIPC_OK);
  for (int i = 0; i < 4; i++) {
    clipc_status status;
    assert_int_equal(clipc_task_wait(tasks[i], 20000, &status, NULL), CLIPC_OK);
    assert_int_equal(status, CLIPC_OK);
    clipc_task_release(tasks[i]);
  }
  assert_int_equal(n_right, 200);
}

/* ---- the queue of finished ones */

static void test_completions(void **state) {
  struct world *world = *state;
  clipc_completions *completions;
  assert_int_equal(clipc_completions_open(NULL, world->runtime, NULL), CLIPC_E_INVALID);
  assert_int_equal(clipc_completions_open(&completions, NULL, NULL), CLIPC_E_INVALID);
  assert_int_equal(clipc_completions_open(&completions, world->runtime, NULL), CLIPC_OK);
  const clipc_input input = {CLIPC_INPUT_TEXT, "x", 0};
  clipc_request request = {
      .capability = CLIPC_TEXT_EMBEDDING, .inputs = &input, .n_inputs = 1, .completions = completions};
  int fd = clipc_completions_fd(completions), seen = 0;
  assert_int_equal(poll(&(struct pollfd){fd, POLLIN, 0}, 1, 0), 0);
  assert_null(clipc_completions_next(completions));
  assert_int_equal(clipc_completions_wait(completions, 10, NULL), CLIPC_E_TIMED_OUT);
  for (int i = 0; i < 100; i++) {
    request.context = world;
    clipc_registry_submit(world->registry, "fake", &request);
  }
  while (seen < 100) {
    assert_int_equal(poll(&(struct pollfd){fd, POLLIN, 0}, 1, 20000), 1);
    for (clipc_pending *pending; (pending = clipc_completions_next(completions)) != NULL; seen++) {
      assert_int_equal(clipc_pending_status(pending, NULL), CLIPC_OK);
      clipc_pending_close(pending);
    }
  }
  assert_int_equal(poll(&(struct pollfd){fd, POLLIN, 0}, 1, 0), 0);
  world->fake.gate = 1; /* closed early: stays out */
  clipc_pending *early = clipc_registry_submit(world->registry, "fake", &request);
  clipc_pending_close(early);
  assert_null(clipc_completions_next(completions));
  for (int i = 0; i < 10; i++) clipc_registry_submit(world->registry, "fake", &request);
  world->fake.gate = 0;
  assert_int_equal(clipc_completions_wait(completions, 20000, NULL), CLIPC_OK);
  world->fake.gate = 1;
  for (int i = 0; i < 10; i++) clipc_registry_submit(world->registry, "fake", &request);
  clipc_completions_close(completions); /* some inside, some under way */
  world->fake.gate = 0;
  assert_int_equal(wait_and_close(ask(world->registry, "fake", "d")), CLIPC_OK);
  clipc_completions_close(NULL);
}

static void test_close_finished_in_queue(void **state) {
  struct world *world = *state;
  clipc_completions *completions;
  assert_int_equal(clipc_completions_open(&completions, world->runtime, NULL), CLIPC_OK);
  const clipc_input input = {CLIPC_INPUT_TEXT, "x", 0};
  clipc_request request = {
      .capability = CLIPC_TEXT_EMBEDDING, .inputs = &input, .n_inputs = 1, .completions = completions};
  clipc_pending *pending[3];
  for (int i = 0; i < 3; i++) pending[i] = clipc_registry_submit(world->registry, "fake", &request);
  EVENTUALLY(clipc_pending_done(pending[0]) && clipc_pending_done(pending[1]) && clipc_pending_done(pending[2]));
  nap();
  clipc_pending_close(pending[1]);
  for (int i = 0; i < 2; i++) {
    clipc_pending *next = clipc_completions_next(completions);
    assert_true(next == pending[0] || next == pending[2]);
    clipc_pending_close(next);
  }
  assert_null(clipc_completions_next(completions));
  clipc_completions_close(completions);
}

/* ---- streams */

static void test_stream(void **state) {
  struct world *world = *state;
  clipc_text_to_text table;
  assert_int_equal(clipc_registry_text_to_text(world->registry, "fake", &table, NULL), CLIPC_OK);
  clipc_pending *pending =
      table.generate(table.self, "p", NULL); /* nobody takes chunks: the text is there all the same */
  assert_int_equal(clipc_pending_wait(pending, 20000, NULL), CLIPC_OK);
  const clipc_result *result = clipc_pending_result(pending);
  assert_int_equal(strncmp(result->text, "0 1 2 3 ", 8), 0);
  assert_int_equal(result->text_bytes, strlen(result->text));
  clipc_chunk chunk;
  for (int i = 0; i < 40; i++) {
    assert_int_equal(clipc_pending_wait_chunk(pending, 0, &chunk, NULL), CLIPC_OK);
    assert_int_equal(atoi(chunk.text), i);
  }
  for (int i = 0; i < 2; i++) {
    assert_int_equal(clipc_pending_wait_chunk(pending, 0, &chunk, NULL), CLIPC_OK);
    assert_true(chunk.text == NULL && chunk.rgb == NULL);
  }
  clipc_pending_close(pending);
  clipc_request more = {.stream_capacity = 3};
  pending = table.generate(table.self, "p", &more);
  assert_int_equal(clipc_pending_wait(pending, 50, NULL), CLIPC_E_TIMED_OUT); /* the model waits for its reader */
  int n = 0;
  while (clipc_pending_wait_chunk(pending, 20000, &chunk, NULL) == CLIPC_OK && chunk.text)
    assert_int_equal(atoi(chunk.text), n++);
  assert_int_equal(n, 40);
  clipc_pending_close(pending);
  more.max_chunks = 5;
  more.stream_capacity = 0;
  pending = table.generate(table.self, "p", &more);
  assert_int_equal(clipc_pending_wait(pending, 20000, NULL), CLIPC_OK);
  assert_string_equal(clipc_pending_result(pending)->text, "0 1 2 3 4 ");
  clipc_pending_close(pending);
  more.stream_capacity = 1;
  more.max_chunks = 0;
  pending = table.generate(table.self, "p", &more); /* cancelled while it waits for the reader */
  assert_int_equal(clipc_pending_wait_chunk(pending, 20000, &chunk, NULL), CLIPC_OK);
  clipc_pending_cancel(pending);
  while (clipc_pending_wait_chunk(pending, 0, &chunk, NULL) == CLIPC_OK) continue;
  assert_int_equal(clipc_pending_wait_chunk(pending, 0, &chunk, NULL), CLIPC_E_CANCELLED);
  clipc_pending_close(pending);
  assert_int_equal(wait_and_close(table.generate(table.self, NULL, NULL)), CLIPC_E_INVALID);
}

struct reader {
  int at, n, status;
  clipc_pending *pending;
  clipc_chunk chunk;
};

static int read_chunks(clipc_task *task, void *frame) {
  struct reader *r = frame;
  CLIPC_TASK_BEGIN(r);
  for (;;) {
    CLIPC_AWAIT(r, r->status, clipc_pending_next_chunk(task, r->pending, &r->chunk));
    if (r->status != CLIPC_OK || r->chunk.text == NULL) break;
    if (atoi(r->chunk.text) != r->n++) return CLIPC_E_FORMAT;
    if (r->n % 7 == 0) CLIPC_YIELD(r);
  }
  CLIPC_TASK_END(r, r->n == 40 ? r->status : CLIPC_E_LIMIT);
}

static void test_stream_in_a_task(void **state) {
  static const clipc_task_kind kind = {.name = "reader", .run = read_chunks, .frame_bytes = sizeof(struct reader)};
  struct world *world = *state;
  for (size_t capacity = 0; capacity < 4; capacity++) {
    const clipc_request request = {.capability = CLIPC_TEXT_TO_TEXT, .prompt = "p", .stream_capacity = capacity};
    clipc_pending *pending = clipc_registry_submit(world->registry, "fake", &request);
    clipc_task *task;
    assert_int_equal(clipc_spawn(&task, world->runtime, &kind, &(struct reader){.pending = pending}, NULL), CLIPC_OK);
    clipc_status status;
    assert_int_equal(clipc_task_wait(task, 20000, &status, NULL), CLIPC_OK);
    assert_int_equal(status, CLIPC_OK);
    clipc_task_release(task);
    clipc_pending_close(pending);
  }
}

/* ---- requests that make no sense */

static void test_invalid(void **state) {
  struct world *world = *state;
  const clipc_input text = {CLIPC_INPUT_TEXT, "x", 0}, picture = {CLIPC_INPUT_PATH, "x", 0},
                    none = {CLIPC_INPUT_TEXT, NULL, 0}, odd = {(clipc_input_kind)9, "x", 0};
  const char *label = "x";
  const clipc_request requests[] = {
      {.capability = (clipc_capability)7, .inputs = &text, .n_inputs = 1},
      {.capability = CLIPC_TEXT_EMBEDDING},
      {.capability = CLIPC_TEXT_EMBEDDING, .n_inputs = 1},
      {.capability = CLIPC_TEXT_EMBEDDING, .inputs = &picture, .n_inputs = 1},
      {.capability = CLIPC_TEXT_EMBEDDING, .inputs = &none, .n_inputs = 1},
      {.capability = CLIPC_TEXT_EMBEDDING, .inputs = &odd, .n_inputs = 1},
      {.capability = CLIPC_TEXT_EMBEDDING, .inputs = &text, .n_inputs = 1, .labels = &label, .n_labels = 1},
      {.capability = CLIPC_TEXT_TO_TEXT},
      {.capability = CLIPC_TEXT_TO_TEXT, .prompt = "p", .inputs = &text, .n_inputs = 1},
  };
  for (size_t i = 0; i < COUNT(requests); i++) {
    clipc_error error = {CLIPC_OK, ""};
    clipc_pending *pending = clipc_registry_submit(world->registry, "fake", &requests[i]);
    assert_true(clipc_pending_done(pending));
    assert_int_equal(clipc_pending_status(pending, &error), CLIPC_E_INVALID);
    assert_true(error.message[0] != '\0');
    clipc_pending_close(pending);
  }
  assert_int_equal(wait_and_close(clipc_registry_submit(world->registry, "fake", NULL)), CLIPC_E_INVALID);
  assert_int_equal(wait_and_close(clipc_registry_submit(world->registry, NULL, &requests[0])), CLIPC_E_INVALID);
  assert_null(clipc_registry_submit(NULL, "fake", &requests[0]));
  assert_int_equal(wait_and_close(ask(world->registry, "nobody", "x")), CLIPC_E_NO_WORKERS);
  const clipc_request vision = {.capability = CLIPC_VISION, .inputs = &picture, .n_inputs = 1};
  assert_int_equal(wait_and_close(clipc_registry_submit(world->registry, "fake", &vision)), CLIPC_E_NO_WORKERS);
}

/* ---- shutting down */

static void test_shutdown_drains(void **state) {
  struct world *world = *state;
  world->fake.gate = 1;
  clipc_pending *pending[40];
  for (int i = 0; i < 40; i++) pending[i] = ask(world->registry, "fake", "x");
  nap();
  world->fake.gate = 0;
  assert_int_equal(clipc_runtime_shutdown(world->runtime, -1, NULL), CLIPC_OK);
  for (int i = 0; i < 40; i++) assert_int_equal(wait_and_close(pending[i]), CLIPC_OK);
  assert_int_equal(wait_and_close(ask(world->registry, "fake", "late")), CLIPC_E_SHUTTING_DOWN);
}

static void test_shutdown_cancels(void **state) {
  struct world *world = *state;
  world->fake.gate = 1;
  clipc_pending *pending[40];
  for (int i = 0; i < 40; i++) pending[i] = ask(world->registry, "fake", "x");
  nap();
  assert_int_equal(clipc_runtime_shutdown(world->runtime, 0, NULL), CLIPC_OK);
  for (int i = 0; i < 40; i++) assert_int_equal(wait_and_close(pending[i]), CLIPC_E_SHUTTING_DOWN);
  assert_int_equal(wait_and_close(ask(world->registry, "fake", "late")), CLIPC_E_SHUTTING_DOWN);
}

static void test_pending_outlives_all(void **state) {
  (void)state;
  struct fake fake = {.gate = 1};
  clipc_runtime *runtime = fake_runtime(NULL);
  clipc_registry *registry = fake_registry(runtime, NULL);
  fake_add(registry, "fake", CLIPC_CAN(CLIPC_TEXT_EMBEDDING), &fake);
  clipc_pending *pending = ask(registry, "fake", "x"), *done;
  nap();
  clipc_registry_close(registry); /* with a request under way */
  assert_int_equal(fake.n_loads, fake.n_released);
  done = pending;
  assert_int_equal(clipc_pending_status(done, NULL), CLIPC_E_SHUTTING_DOWN);
  clipc_runtime_close(runtime);
  assert_int_equal(clipc_pending_wait(pending, -1, NULL), CLIPC_E_SHUTTING_DOWN);
  clipc_pending_close(pending);
}

static void test_registry_outlives_runtime(void **state) {
  (void)state;
  struct fake fake = {.gate = 0};
  clipc_runtime *runtime = fake_runtime(NULL);
  clipc_registry *registry = fake_registry(runtime, NULL);
  fake_add(registry, "fake", CLIPC_CAN(CLIPC_TEXT_EMBEDDING), &fake);
  assert_int_equal(wait_and_close(ask(registry, "fake", "x")), CLIPC_OK);
  clipc_runtime_close(runtime);
  assert_int_equal(wait_and_close(ask(registry, "fake", "x")), CLIPC_E_SHUTTING_DOWN);
  clipc_registry_close(registry);
  assert_int_equal(fake.n_released, 1);
}

/* A request that is cancelled while it waits for a worker is in two lists for a moment: that of those that wait, and
 * that of the finished ones. */
static void test_cancelled_in_the_backlog(void **state) {
  (void)state;
  enum { N = 5 };
  clipc_runtime *runtime = fake_runtime(NULL);
  clipc_registry *registry = fake_registry(runtime, NULL);
  struct fake fake = {.load_never = 3, .max_batch = 8}; /* so that all of them wait */
  fake_add(registry, "a", CLIPC_CAN(CLIPC_TEXT_EMBEDDING), &fake);
  clipc_completions *completions;
  assert_int_equal(clipc_completions_open(&completions, runtime, NULL), CLIPC_OK);
  const clipc_input input = {CLIPC_INPUT_TEXT, "x", 0};
  const clipc_request request = {
      .capability = CLIPC_TEXT_EMBEDDING, .inputs = &input, .n_inputs = 1, .completions = completions};
  clipc_pending *pendings[N];
  for (int i = 0; i < N; i++) pendings[i] = clipc_registry_submit(registry, "a", &request);
  for (int i = N - 1; i >= 0; i -= 2) clipc_pending_cancel(pendings[i]);
  clipc_registry_close(registry); /* the others */
  int n_cancelled = 0, n_ended = 0;
  for (clipc_pending *pending; (pending = clipc_completions_next(completions)) != NULL; clipc_pending_close(pending)) {
    clipc_status status = clipc_pending_status(pending, NULL);
    n_cancelled += status == CLIPC_E_CANCELLED;
    n_ended += status == CLIPC_E_SHUTTING_DOWN;
  }
  assert_int_equal(n_cancelled, 3);
  assert_int_equal(n_ended, 2);
  clipc_completions_close(completions);
  clipc_runtime_close(runtime);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_waits, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_failures, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_batches, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_cancel, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_close_under_way, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_time_limit, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_callback, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_callback_of_a_closed_one, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_await, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_completions, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_close_finished_in_queue, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_stream, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_stream_in_a_task, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_invalid, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_shutdown_drains, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_shutdown_cancels, set_up, tear_down),
      cmocka_unit_test(test_cancelled_in_the_backlog),
      cmocka_unit_test(test_pending_outlives_all),
      cmocka_unit_test(test_registry_outlives_runtime),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
