/* Fetching from a server that is slow, rude and endless, with names that lie, and thousands of fetches at once. */
#include "testing.h"

#include "async/fetch.h"
#include "async/net.h"
#include "web_server.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#if CLIPC_CURL

static const struct web_name names[] = {
    {"fixed.test", "127.0.0.1", NULL, NULL, 60},
    {"other.test", "127.0.0.1", NULL, NULL, 60},
    {"private.test", "10.1.2.3", NULL, NULL, 60},
    {"mixed.test", "10.1.2.3", NULL, "3ffe::1", 60}, /* a public one comes with it */
    {"loop6.test", NULL, NULL, "::1", 60},
    {"mapped.test", NULL, NULL, "::ffff:127.0.0.1", 60},
    {"nat64.test", NULL, NULL, "64:ff9b::7f00:1", 60},
    {"metadata.test", "169.254.169.254", NULL, NULL, 60},
    {"nothing.test", NULL, NULL, NULL, 60},
    {"silent.test", "silent", NULL, NULL, 60},
    {"garbage.test", "garbage", NULL, NULL, 60},
    {"changing.test", NULL, NULL, "3ffe::1", 0}, /* public, but nobody is there; then the loopback address */
    {"changing.test", "127.0.0.1", NULL, NULL, 0},
    {"turning.test", "127.0.0.1", NULL, NULL, 0},
    {"two.test", "127.0.0.2", "127.0.0.1", NULL, 60}, /* nobody listens at the first */
};

static struct web_server *server;
static char allowed[4][64];
static const char *const allow[] = {allowed[0], allowed[1], allowed[2], allowed[3]};

static int count_entries(const char *folder) {
  int n = 0;
  DIR *list = opendir(folder);
  while (readdir(list)) n++;
  closedir(list);
  return n;
}

static clipc_runtime *open_runtime(int n_threads, clipc_fetch_options fetch, const clipc_allocator *allocator) {
  clipc_runtime *runtime;
  clipc_runtime_options options = {.n_threads = n_threads, .fetch = fetch};
  if (allocator) options.allocator = *allocator;
  options.fetch.allow = allow;
  options.fetch.n_allow = 4;
  if (clipc_runtime_open(&runtime, &options, NULL) != CLIPC_OK) return NULL;
  if (clipc__fetch_name_servers(runtime, web_server_names(server), NULL) == CLIPC_OK) return runtime;
  clipc_runtime_close(runtime);
  return NULL;
}

/* ---- one fetch, in a task */

struct outcome {
  clipc_error error;
  size_t n_bytes;
  bool right, done;
};

struct fetch_job {
  int at;
  const char *url;
  int64_t timeout_ns, cancel_ns; /* 0 = none */
  struct outcome *outcome;
  struct clipc__fetch *fetch;
};

static void job_take_result(struct fetch_job *job, int status) {
  struct outcome *o = job->outcome;
  o->error.status = (clipc_status)status;
  o->done = clipc__fetch_done(job->fetch);
  if (!o->done) return; /* the task itself was cancelled */
  if (clipc__fetch_error(job->fetch)) o->error = *clipc__fetch_error(job->fetch);
  const struct clipc__bytes *body = clipc__fetch_body(job->fetch);
  o->n_bytes = body->n_bytes;
  o->right = true;
  for (size_t i = 0; i < body->n_bytes; i++) o->right &= body->data[i] == web_byte(i);
}

static int job_run(clipc_task *task, void *frame) {
  struct fetch_job *job = frame;
  clipc_runtime *runtime = clipc_task_runtime(task);
  int status = CLIPC_OK;
  CLIPC_TASK_BEGIN(job);
  int64_t deadline = job->timeout_ns ? clipc_runtime_now_ns(runtime) + job->timeout_ns : 0;
  status = clipc__fetch_start(&job->fetch, runtime, job->url, strlen(job->url), deadline, &job->outcome->error);
  if (status != CLIPC_OK) return status;
  if (job->cancel_ns > 0) {
    CLIPC_AWAIT(job, status, clipc_task_sleep(task, job->cancel_ns));
    clipc__fetch_cancel(job->fetch);
    clipc__fetch_cancel(job->fetch);
  }
  CLIPC_AWAIT(job, status, clipc__fetch_await(task, job->fetch));
  job_take_result(job, status);
  CLIPC_TASK_END(job, status);
}

static void job_drop(void *frame) {
  struct fetch_job *job = frame;
  clipc__fetch_close(job->fetch);
}

static const clipc_task_kind job_kind = {"test of fetching", job_run, job_drop, sizeof(struct fetch_job), 0};

static clipc_status run_job(clipc_runtime *runtime, struct fetch_job job, struct outcome *outcome) {
  clipc_task *task;
  clipc_status status, ended;
  memset(outcome, 0, sizeof *outcome);
  job.outcome = outcome;
  status = clipc_spawn(&task, runtime, &job_kind, &job, &outcome->error);
  if (status != CLIPC_OK) return status;
  clipc_error error = {CLIPC_OK, ""};
  while ((status = clipc_task_wait(task, 30000, &ended, &error)) == CLIPC_E_NO_MEMORY) /* of waiting itself */
    nanosleep(&(struct timespec){0, 100000}, NULL);
  if (status != CLIPC_OK) fail_msg("%s never ends: %s", job.url, error.message);
  clipc_task_release(task);
  return ended;
}

static clipc_task *start_job(clipc_runtime *runtime, struct fetch_job job, struct outcome *outcome) {
  memset(outcome, 0, sizeof *outcome);
  job.outcome = outcome;
  return test_task_start(runtime, &job_kind, &job);
}

static void assert_outcome(clipc_runtime *runtime, const char *url, clipc_status status, const char *words, size_t n) {
  struct outcome o;
  clipc_status got = run_job(runtime, (struct fetch_job){.url = url}, &o);
  if (got != status || strstr(o.error.message, words) == NULL)
    fail_msg("%s: %s: %s", url, clipc_status_name(got), o.error.message);
  if (status != CLIPC_OK) assert_true(o.error.message[0] != 0);
  assert_int_equal(o.n_bytes, n);
  if (got == CLIPC_OK) assert_true(o.right || strstr(url, "/wait"));
}

/* A URL of the server; sixteen at a time. */
static const char *named(const char *name, int which, const char *rest) {
  static char urls[16][600];
  static int next;
  char *url = urls[next++ % 16];
  snprintf(url, sizeof urls[0], "http://%s:%d%s", name, web_server_port(server, which), rest);
  return url;
}

static const char *at(int which, const char *rest) { return named("127.0.0.1", which, rest); }

static const char *redirect_to(const char *url) {
  char rest[520];
  snprintf(rest, sizeof rest, "/to?%.500s", url);
  return at(0, rest);
}

/* ---- tests */

static void bodies(clipc_runtime *runtime) {
  assert_outcome(runtime, at(0, "/ok?0"), CLIPC_OK, "", 0);
  assert_outcome(runtime, at(0, "/ok?1"), CLIPC_OK, "", 1);
  assert_outcome(runtime, at(0, "/ok?3000000"), CLIPC_OK, "", 3000000);
  assert_outcome(runtime, at(0, "/chunked?100000"), CLIPC_OK, "", 100000);
  assert_outcome(runtime, at(0, "/close?50000"), CLIPC_OK, "", 50000);
  assert_outcome(runtime, at(0, "/wait?30"), CLIPC_OK, "", 2);
  assert_outcome(runtime, named("fixed.test", 0, "/ok?77"), CLIPC_OK, "", 77);
  assert_outcome(runtime, named("FIXED.Test", 0, "/ok?78"), CLIPC_OK, "", 78);
  assert_outcome(runtime, redirect_to(at(0, "/ok?9")), CLIPC_OK, "", 9);
  assert_outcome(runtime, redirect_to("/ok?10"), CLIPC_OK, "", 10);
  assert_outcome(runtime, redirect_to(named("fixed.test", 0, "/to?/ok?11")), CLIPC_OK, "", 11);
}

static void bodies_of_a_runtime(int n_threads) {
  clipc_runtime *runtime = open_runtime(n_threads, (clipc_fetch_options){0}, NULL);
  bodies(runtime);
  clipc_runtime_close(runtime);
}

static void test_bodies(void **state) { (void)state, bodies_of_a_runtime(1); }
static void test_driven_by_the_host(void **state) { (void)state, bodies_of_a_runtime(CLIPC_HOST_DRIVEN); }

static void test_connections_are_used_again(void **state) {
  (void)state;
  clipc_runtime *runtime = open_runtime(1, (clipc_fetch_options){0}, NULL);
  int before = web_server_accepted(server, 0);
  for (int i = 0; i < 20; i++) assert_outcome(runtime, at(0, "/ok?100"), CLIPC_OK, "", 100);
  assert_outcome(runtime, at(0, "/status?404"), CLIPC_E_NETWORK, "404", 0);
  assert_outcome(runtime, redirect_to("/ok?5"), CLIPC_OK, "", 5);
  assert_int_equal(web_server_accepted(server, 0) - before, 1);
  clipc_runtime_close(runtime);
}

static void test_failures(void **state) {
  (void)state;
  clipc_fetch_options options = {.max_bytes = 1000, .total_timeout_ms = 400};
  clipc_runtime *runtime = open_runtime(1, options, NULL);
  assert_outcome(runtime, at(0, "/status?404"), CLIPC_E_NETWORK, "HTTP status 404", 0);
  assert_outcome(runtime, at(0, "/status?500"), CLIPC_E_NETWORK, "HTTP status 500", 0);
  assert_outcome(runtime, at(0, "/status?204"), CLIPC_E_NETWORK, "HTTP status 204", 0);
  assert_outcome(runtime, at(0, "/status?304"), CLIPC_E_NETWORK, "HTTP status 304", 0);
  assert_outcome(runtime, at(0, "/status?302"), CLIPC_E_NETWORK, "HTTP status 302", 0); /* to nowhere */
  assert_outcome(runtime, at(0, "/drop"), CLIPC_E_NETWORK, "127.0.0.1", 0);
  assert_outcome(runtime, at(0, "/cut"), CLIPC_E_NETWORK, "/cut", 0);
  assert_outcome(runtime, at(0, "/garbage"), CLIPC_E_NETWORK, "/garbage", 0);
  assert_outcome(runtime, at(0, "/hang"), CLIPC_E_TIMED_OUT, "/hang", 0);
  assert_outcome(runtime, at(0, "/trickle"), CLIPC_E_TIMED_OUT, "/trickle", 0);
  assert_outcome(runtime, at(0, "/endless"), CLIPC_E_LIMIT, "more than 1000 bytes", 0);
  assert_outcome(runtime, at(0, "/huge"), CLIPC_E_LIMIT, "more than 1000 bytes", 0);
  assert_outcome(runtime, at(0, "/headers"), CLIPC_E_LIMIT, "headers", 0);
  assert_outcome(runtime, at(0, "/ok?1000"), CLIPC_OK, "", 1000);
  assert_outcome(runtime, at(0, "/ok?1001"), CLIPC_E_LIMIT, "more than 1000", 0);
  assert_outcome(runtime, at(0, "/chunked?1001"), CLIPC_E_LIMIT, "more than 1000", 0);
  assert_outcome(runtime, at(0, "/circle"), CLIPC_E_LIMIT, "more than 5 redirects", 0);
  assert_outcome(runtime, "http://[::1]:1/", CLIPC_E_DENIED, "loopback", 0);
  struct outcome o;
  assert_int_equal(run_job(runtime, (struct fetch_job){.url = at(0, "/hang"), .timeout_ns = 50000000}, &o),
                   CLIPC_E_TIMED_OUT);
  assert_true(o.done);
  clipc_runtime_close(runtime);
}

/* What is not on the list is not reached, whatever way leads there: the second port counts who comes. */
static void test_denied(void **state) {
  (void)state;
  clipc_fetch_options options = {.connect_timeout_ms = 700};
  clipc_runtime *runtime = open_runtime(2, options, NULL);
  int port = web_server_port(server, 1);
  char text[8][128];
  assert_outcome(runtime, at(1, "/ok?1"), CLIPC_E_DENIED, "127.0.0.1, a loopback address", 0);
  assert_outcome(runtime, named("fixed.test", 1, "/ok?1"), CLIPC_E_DENIED, "fixed.test has 127.0.0.1", 0);
  assert_outcome(runtime, named("localhost", 1, "/ok?1"), CLIPC_E_DENIED, "loopback", 0); /* of the hosts file */
  assert_outcome(runtime, named("private.test", 0, "/"), CLIPC_E_DENIED, "10.1.2.3, a private", 0);
  assert_outcome(runtime, named("mixed.test", 0, "/"), CLIPC_E_DENIED, "10.1.2.3", 0);
  assert_outcome(runtime, named("loop6.test", 1, "/"), CLIPC_E_DENIED, "::1, the loopback", 0);
  assert_outcome(runtime, named("mapped.test", 1, "/"), CLIPC_E_DENIED, "IPv4 address in IPv6", 0);
  assert_outcome(runtime, named("nat64.test", 1, "/"), CLIPC_E_DENIED, "loopback", 0);
  assert_outcome(runtime, "http://metadata.test/latest/meta-data/", CLIPC_E_DENIED, "link-local", 0);
  static const char *const forms[] = {"2130706433", "0x7f.1", "0177.0.0.1", "127.1", "[::ffff:127.0.0.1]", "0"};
  for (size_t i = 0; i < COUNT(forms); i++) {
    snprintf(text[i], sizeof text[i], "http://%s:%d/ok?1", forms[i], port);
    assert_outcome(runtime, text[i], CLIPC_E_DENIED, "is not on the list", 0);
    assert_outcome(runtime, redirect_to(text[i]), CLIPC_E_DENIED, "is not on the list", 0);
  }
  assert_outcome(runtime, redirect_to(at(1, "/ok?1")), CLIPC_E_DENIED, "127.0.0.1", 0);
  assert_outcome(runtime, redirect_to(named("fixed.test", 1, "/")), CLIPC_E_DENIED, "fixed.test", 0);
  assert_outcome(runtime, redirect_to("file:///etc/passwd"), CLIPC_E_DENIED, "file is not fetched", 0);
  assert_outcome(runtime, redirect_to("http://user:secret@fixed.test/"), CLIPC_E_DENIED, "credentials", 0);
  assert_outcome(runtime, redirect_to("http://a..b/"), CLIPC_E_INVALID, "neither", 0);
  assert_outcome(runtime, "ftp://fixed.test/", CLIPC_E_DENIED, "ftp", 0);
  assert_outcome(runtime, "nonsense", CLIPC_E_INVALID, "begins with", 0);
  assert_int_equal(web_server_accepted(server, 1), 0);
  clipc_runtime_close(runtime);
}

static void test_names(void **state) {
  (void)state;
  clipc_fetch_options options = {.connect_timeout_ms = 300};
  clipc_runtime *runtime = open_runtime(1, options, NULL);
  assert_outcome(runtime, named("unknown.test", 0, "/"), CLIPC_E_NETWORK, "unknown.test", 0);
  assert_outcome(runtime, named("nothing.test", 0, "/"), CLIPC_E_NETWORK, "nothing.test", 0);
  assert_outcome(runtime, named("silent.test", 0, "/"), CLIPC_E_TIMED_OUT, "silent.test", 0);
  struct outcome o;
  for (int i = 0; i < 3; i++) /* the second socket may get the number of the first, which was refused */
    assert_outcome(runtime, named("two.test", 0, "/wait?20"), CLIPC_OK, "", 2);
  clipc_status status = run_job(runtime, (struct fetch_job){.url = named("garbage.test", 0, "/")}, &o);
  assert_true(status == CLIPC_E_NETWORK || status == CLIPC_E_TIMED_OUT);
  int before = web_server_questions(server);
  for (int i = 0; i < 10; i++) assert_outcome(runtime, named("fixed.test", 0, "/ok?5"), CLIPC_OK, "", 5);
  assert_true(web_server_questions(server) - before <= 2); /* an answer is kept as long as it says */
  clipc_runtime_close(runtime);
}

/* A name whose answer changes: the address that was checked is the one that is connected to. */
static void test_changing_names(void **state) {
  (void)state;
  clipc_fetch_options options = {.connect_timeout_ms = 300};
  clipc_runtime *runtime = open_runtime(1, options, NULL);
  struct outcome o;
  const char *url = named("changing.test", 1, "/ok?1");
  for (int i = 0; i < 3; i++) { /* within a second: nobody asks again */
    clipc_status status = run_job(runtime, (struct fetch_job){.url = url}, &o);
    if (status == CLIPC_E_DENIED && i > 0) break; /* it took longer than a second */
    assert_true(status == CLIPC_E_NETWORK || status == CLIPC_E_TIMED_OUT);
  }
  nanosleep(&(struct timespec){1, 100000000}, NULL);
  assert_outcome(runtime, url, CLIPC_E_DENIED, "127.0.0.1", 0);
  assert_int_equal(web_server_accepted(server, 1), 0);
  clipc_runtime_close(runtime);
}

static void test_cancel(void **state) {
  (void)state;
  int64_t soon = 20000000;
  clipc_fetch_options options = {.max_per_host = 1};
  clipc_runtime *runtime = open_runtime(1, options, NULL);
  struct outcome o;
  static const char *const rests[] = {"/hang", "/trickle", "/wait?5000"};
  for (size_t i = 0; i < COUNT(rests); i++) {
    assert_int_equal(run_job(runtime, (struct fetch_job){.url = at(0, rests[i]), .cancel_ns = soon}, &o),
                     CLIPC_E_CANCELLED);
    assert_true(o.done);
    assert_non_null(strstr(o.error.message, "cancelled"));
  }
  assert_int_equal(run_job(runtime, (struct fetch_job){.url = named("silent.test", 0, "/"), .cancel_ns = soon}, &o),
                   CLIPC_E_CANCELLED); /* while the name is asked for */
  assert_int_equal(run_job(runtime, (struct fetch_job){.url = at(0, "/ok?5"), .cancel_ns = 200000000}, &o),
                   CLIPC_OK); /* too late */
  assert_int_equal(o.n_bytes, 5);
  struct outcome outcomes[2];
  struct fetch_job job = {.url = at(0, "/hang")};
  clipc_task *first = start_job(runtime, job, &outcomes[0]);
  job.cancel_ns = soon; /* in the queue behind the first */
  assert_int_equal(test_task_finish(start_job(runtime, job, &outcomes[1])), CLIPC_E_CANCELLED);
  assert_false(clipc_task_ended(first, NULL));
  clipc_task_cancel(first); /* the task gives up: its fetch is closed with it */
  assert_int_equal(test_task_finish(first), CLIPC_E_CANCELLED);
  assert_outcome(runtime, at(0, "/ok?6"), CLIPC_OK, "", 6); /* the only place is free again */
  clipc_runtime_close(runtime);
}

static void test_shutdown(void **state) {
  (void)state;
  for (int drain_ms = 0; drain_ms <= 500; drain_ms += 500) {
    clipc_runtime *runtime = open_runtime(2, (clipc_fetch_options){.max_per_host = 2}, NULL);
    clipc_task *tasks[6];
    struct outcome outcomes[6];
    for (int i = 0; i < 6; i++) {
      struct fetch_job job = {.url = i == 5 ? named("fixed.test", 0, "/wait?50") : at(0, "/hang")};
      tasks[i] = start_job(runtime, job, &outcomes[i]);
    }
    nanosleep(&(struct timespec){0, 20000000}, NULL);
    assert_int_equal(clipc_runtime_shutdown(runtime, drain_ms, NULL), CLIPC_OK);
    for (int i = 0; i < 6; i++) {
      clipc_status ended;
      assert_true(clipc_task_ended(tasks[i], &ended));
      bool finishes = i == 5 && drain_ms > 0;
      assert_true(finishes ? ended == CLIPC_OK : ended == CLIPC_E_CANCELLED || ended == CLIPC_E_SHUTTING_DOWN);
      clipc_task_release(tasks[i]);
    }
    struct clipc__fetch *fetch;
    assert_int_equal(clipc__fetch_start(&fetch, runtime, "http://fixed.test/", 18, 0, NULL), CLIPC_E_SHUTTING_DOWN);
    assert_null(fetch);
    clipc_runtime_close(runtime);
  }
}

/* Thousands that wait, a few connections, no thread, no descriptor left. */
static void many_pending(size_t n, int max_connections) {
  int fds = count_entries("/proc/self/fd"), before = web_server_accepted(server, 0);
  clipc_fetch_options options = {.max_per_host = max_connections,
                                 .max_connections = max_connections,
                                 .total_timeout_ms = 20000,
                                 .max_bytes = 100000};
  clipc_runtime *runtime = open_runtime(2, options, NULL);
  int threads = count_entries("/proc/self/task"), most_threads = 0;
  static const char *const rests[] = {"/wait?15", "/ok?3000",    "/drop",    "/wait?3", "/chunked?700", "/circle",
                                      "/cut",     "/status?404", "/endless", "/wait?8", "/ok?1" /* not on the list */};
  static const clipc_status statuses[] = {CLIPC_OK,      CLIPC_OK,      CLIPC_E_NETWORK, CLIPC_OK,
                                          CLIPC_OK,      CLIPC_E_LIMIT, CLIPC_E_NETWORK, CLIPC_E_NETWORK,
                                          CLIPC_E_LIMIT, CLIPC_OK,      CLIPC_E_DENIED};
  char(*urls)[96] = calloc(n, sizeof *urls);
  clipc_task **tasks = calloc(n, sizeof *tasks);
  struct outcome *outcomes = calloc(n, sizeof *outcomes);
  int64_t start_ns = clipc_runtime_now_ns(runtime);
  for (size_t i = 0; i < n; i++) {
    strcpy(urls[i], named(i % 11 == 10 || i % 2 ? "127.0.0.1" : "fixed.test", i % 11 == 10, rests[i % 11]));
    tasks[i] = start_job(runtime, (struct fetch_job){.url = urls[i]}, &outcomes[i]);
  }
  for (size_t i = 0; i < n; i++) {
    clipc_status ended = test_task_finish(tasks[i]), wanted = statuses[i % 11];
    if (ended != wanted) fail_msg("%s: %s: %s", urls[i], clipc_status_name(ended), outcomes[i].error.message);
    if (i % 100 == 0) {
      int n_threads = count_entries("/proc/self/task");
      if (n_threads > most_threads) most_threads = n_threads;
    }
  }
  printf("%zu fetches in %.2f s, at most %d connections at once of %d allowed, %d made, threads %d then %d\n", n,
         1e-9 * (double)(clipc_runtime_now_ns(runtime) - start_ns), web_server_most_open(server), max_connections,
         web_server_accepted(server, 0) - before, threads, most_threads);
  assert_int_equal(most_threads, threads);
  assert_true(web_server_most_open(server) <= max_connections);
  assert_int_equal(web_server_accepted(server, 1), 0);
  clipc_runtime_close(runtime);
  for (int i = 0; i < 400 && count_entries("/proc/self/fd") != fds; i++)
    nanosleep(&(struct timespec){0, 5000000}, NULL);
  assert_int_equal(count_entries("/proc/self/fd"), fds); /* the server has closed its ends too */
  free(urls), free(tasks), free(outcomes);
}

static void restart_server(void) {
  if (server) web_server_stop(server);
  server = web_server_start(names, COUNT(names));
  assert_non_null(server);
  int port = web_server_port(server, 0);
  snprintf(allowed[0], sizeof allowed[0], "127.0.0.1:%d", port);
  snprintf(allowed[1], sizeof allowed[1], "Fixed.test:%d", port);
  snprintf(allowed[2], sizeof allowed[2], "silent.test:%d", port);
  snprintf(allowed[3], sizeof allowed[3], "two.test:%d", port);
}

static void test_many_pending(void **state) {
  (void)state;
  restart_server();
  bool is_long = getenv("CLIPC_LONG") != NULL;
  many_pending(is_long ? 10000 : 2000, is_long ? 500 : 50);
}

static void test_limit_per_host(void **state) {
  (void)state;
  restart_server();
  clipc_runtime *runtime = open_runtime(1, (clipc_fetch_options){.max_per_host = 3}, NULL);
  clipc_task *tasks[30];
  struct outcome outcomes[30];
  const char *url = at(0, "/wait?10");
  for (int i = 0; i < 30; i++) tasks[i] = start_job(runtime, (struct fetch_job){.url = url}, &outcomes[i]);
  for (int i = 0; i < 30; i++) assert_int_equal(test_task_finish(tasks[i]), CLIPC_OK);
  assert_int_equal(web_server_most_open(server), 3);
  clipc_runtime_close(runtime);
}

/* Cancelled, timed out, or left alone, at any moment, and in the end the runtime is shut under what is left. */
static void test_random_ends(void **state) {
  (void)state;
  enum { N = 400 };
  random_start(0);
  static const char *const rests[] = {"/wait?5", "/hang", "/trickle", "/ok?70000", "/drop", "/circle", "/endless"};
  static char urls[N][96];
  static struct outcome outcomes[N];
  clipc_task *tasks[N];
  for (int round = 0; round < 3; round++) {
    clipc_runtime *runtime = open_runtime(
        2, (clipc_fetch_options){.max_connections = 20, .total_timeout_ms = 100, .max_bytes = 80000}, NULL);
    for (int i = 0; i < N; i++) {
      const char *rest = rests[random_below(COUNT(rests))];
      uint32_t host = random_below(5);
      strcpy(urls[i], host == 0   ? named("silent.test", 0, rest)
                      : host == 1 ? named("fixed.test", 0, rest)
                                  : at(0, rest));
      struct fetch_job job = {.url = urls[i]};
      if (random_below(2)) job.cancel_ns = 1 + random_below(30000000);
      if (random_below(2)) job.timeout_ns = 1 + random_below(30000000);
      tasks[i] = start_job(runtime, job, &outcomes[i]);
      if (random_below(20) == 0) clipc_task_cancel(tasks[random_below((uint32_t)i + 1)]);
    }
    if (round == 2) nanosleep(&(struct timespec){0, random_below(50000000)}, NULL);
    for (int i = 0; i < N && round < 2; i++) assert_int_equal(clipc_task_wait(tasks[i], 20000, NULL, NULL), CLIPC_OK);
    assert_int_equal(clipc_runtime_shutdown(runtime, 0, NULL), CLIPC_OK);
    int n_fine = 0, n_cancelled = 0, n_late = 0;
    for (int i = 0; i < N; i++) {
      clipc_status ended = CLIPC_E_INVALID;
      assert_true(clipc_task_ended(tasks[i], &ended));
      assert_true(ended == CLIPC_OK || ended == CLIPC_E_NETWORK || ended == CLIPC_E_TIMED_OUT ||
                  ended == CLIPC_E_LIMIT || ended == CLIPC_E_CANCELLED || ended == CLIPC_E_SHUTTING_DOWN);
      if (ended == CLIPC_OK && !strstr(urls[i], "/wait"))
        assert_true(outcomes[i].right && outcomes[i].n_bytes == 70000);
      n_fine += ended == CLIPC_OK, n_cancelled += ended == CLIPC_E_CANCELLED, n_late += ended == CLIPC_E_TIMED_OUT;
      clipc_task_release(tasks[i]);
    }
    if (round < 2) assert_true(n_fine > 0 && n_cancelled > 0 && n_late > 0);
    clipc_runtime_close(runtime);
  }
}

static void test_no_memory(void **state) {
  (void)state;
  bool whole = false;
  for (size_t n = 1; !whole && n < 300; n++) {
    struct test_memory memory = {.fail_at = n};
    clipc_allocator allocator = test_allocator(&memory);
    clipc_runtime *runtime = open_runtime(1, (clipc_fetch_options){0}, &allocator);
    whole = memory.n_asked < n;
    if (runtime) {
      struct outcome o;
      clipc_status status =
          run_job(runtime, (struct fetch_job){.url = named("fixed.test", 0, "/to?/chunked?3000")}, &o);
      whole = memory.n_asked < n;
      if (status != CLIPC_E_NO_MEMORY && !(status == CLIPC_OK && o.n_bytes == 3000 && o.right))
        if (status != CLIPC_E_TIMED_OUT)
          fail_msg("allocation %zu: %s: %s", n, clipc_status_name(status), o.error.message);
      clipc_runtime_close(runtime);
    }
    if (memory.n_live != 0) fail_msg("allocation %zu: %zu pieces are left", n, memory.n_live);
  }
  assert_true(whole);
}

/* Nothing can be fetched by these options. */
static void assert_unusable(clipc_fetch_options fetch_options, clipc_status status, const char *words) {
  clipc_runtime *runtime;
  clipc_error error = {CLIPC_OK, ""};
  struct clipc__fetch *fetch;
  clipc_runtime_options options = {.n_threads = CLIPC_HOST_DRIVEN, .fetch = fetch_options};
  if (clipc_runtime_open(&runtime, &options, &error) == CLIPC_OK) {
    assert_int_equal(clipc__fetch_start(&fetch, runtime, "http://a/", 9, 0, &error), status);
    clipc_runtime_close(runtime);
  }
  assert_non_null(strstr(error.message, words));
}

static void test_bad_list(void **state) {
  (void)state;
  static const char *const wrong[] = {"127.0.0.1"};
  assert_unusable((clipc_fetch_options){.allow = wrong, .n_allow = 1}, CLIPC_E_INVALID, "fetch.allow");
}

static void test_proxy(void **state) {
  (void)state;
  char proxy[64], with_password[64];
  clipc_fetch_options direct = {.connect_timeout_ms = 2000}, by_proxy = {.connect_timeout_ms = 2000, .use_proxy = 1};
  snprintf(proxy, sizeof proxy, "fixed.test:%d", web_server_port(server, 1)); /* not on the list, and no need to be */
  snprintf(with_password, sizeof with_password, "http://user:p%%40ss@127.0.0.1:%d/", web_server_port(server, 1));
  setenv("http_proxy", proxy, 1);
  clipc_runtime *runtime = open_runtime(1, direct, NULL);
  assert_outcome(runtime, "http://far.test/ok?7", CLIPC_E_NETWORK, "far.test", 0);
  clipc_runtime_close(runtime);
  for (int i = 0; i < 2; i++) {
    runtime = open_runtime(1, by_proxy, NULL);
    int before = web_server_accepted(server, 1);
    assert_outcome(runtime, "http://far.test/ok?7", CLIPC_OK, "", 7);
    assert_outcome(runtime, "http://93.184.216.34:81/to?http://far.test/ok?8", CLIPC_OK, "", 8);
    assert_outcome(runtime, "http://10.1.2.3/ok?7", CLIPC_E_DENIED, "private", 0);
    assert_outcome(runtime, "http://far.test/to?http://[::1]/", CLIPC_E_DENIED, "loopback", 0);
    assert_true(web_server_accepted(server, 1) > before);
    clipc_runtime_close(runtime);
    setenv("http_proxy", with_password, 1);
  }
  setenv("no_proxy", "other.example, .far.test", 1);
  runtime = open_runtime(1, by_proxy, NULL);
  assert_outcome(runtime, "http://far.test/ok?7", CLIPC_E_NETWORK, "far.test", 0);
  assert_outcome(runtime, "http://a.far.test/ok?7", CLIPC_E_NETWORK, "far.test", 0);
  assert_outcome(runtime, "http://so-far.test/ok?7", CLIPC_OK, "", 7);
  clipc_runtime_close(runtime);
  setenv("http_proxy", "socks5://127.0.0.1:1080", 1);
  assert_unusable(by_proxy, CLIPC_E_UNSUPPORTED, "http_proxy: socks5");
  unsetenv("http_proxy"), unsetenv("no_proxy");
}

static int set_up(void **state) {
  (void)state;
  struct rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max < 8192 ? files.rlim_max : 8192;
  setrlimit(RLIMIT_NOFILE, &files);
  restart_server();
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  web_server_stop(server);
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_bodies),
      cmocka_unit_test(test_driven_by_the_host),
      cmocka_unit_test(test_connections_are_used_again),
      cmocka_unit_test(test_failures),
      cmocka_unit_test(test_denied),
      cmocka_unit_test(test_names),
      cmocka_unit_test(test_changing_names),
      cmocka_unit_test(test_cancel),
      cmocka_unit_test(test_shutdown),
      cmocka_unit_test(test_many_pending),
      cmocka_unit_test(test_limit_per_host),
      cmocka_unit_test(test_random_ends),
      cmocka_unit_test(test_no_memory),
      cmocka_unit_test(test_bad_list),
      cmocka_unit_test(test_proxy),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}

#else

static void test_unsupported(void **state) {
  (void)state;
  clipc_runtime *runtime = test_runtime_open(CLIPC_HOST_DRIVEN, 0);
  clipc_error error = {CLIPC_OK, ""};
  struct clipc__fetch *fetch;
  assert_int_equal(clipc__fetch_start(&fetch, runtime, "http://a/", 9, 0, &error), CLIPC_E_UNSUPPORTED);
  assert_null(fetch);
  assert_non_null(strstr(error.message, "CURL=0"));
  assert_int_equal(clipc__fetch_start(&fetch, runtime, "ftp://a/", 8, 0, &error), CLIPC_E_DENIED);
  clipc_runtime_close(runtime);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_unsupported)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}

#endif
