/* The set of threads: every chunk once, slots never shared, many callers at once, stop and start again. */
#include "base/threads.h"
#include "testing.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

struct counting {
  atomic_int hits[1000];
  atomic_int in_slot[CLIPC__MAX_THREADS];
  atomic_int shared, highest;
  int busy;
};

static void count_chunk(void *context, size_t chunk, int slot) {
  struct counting *counting = context;
  if (atomic_fetch_add(&counting->in_slot[slot], 1) != 0) atomic_store(&counting->shared, 1);
  if (slot > atomic_load(&counting->highest)) atomic_store(&counting->highest, slot);
  for (int i = 0; i < counting->busy; i++) sched_yield();
  atomic_fetch_add(&counting->hits[chunk], 1);
  atomic_fetch_sub(&counting->in_slot[slot], 1);
}

static void check_once(int n_threads, size_t n_chunks, int busy) {
  struct counting counting;
  memset(&counting, 0, sizeof counting);
  counting.busy = busy;
  clipc__parallel(n_threads, n_chunks, count_chunk, &counting);
  for (size_t i = 0; i < 1000; i++) assert_int_equal(atomic_load(&counting.hits[i]), i < n_chunks);
  assert_int_equal(atomic_load(&counting.shared), 0);
  assert_true(atomic_load(&counting.highest) < n_threads);
}

static void every_chunk_runs_once(void **state) {
  (void)state;
  static const size_t sizes[] = {0, 1, 2, 3, 7, 64, 999, 1000};
  for (int n_threads = 1; n_threads <= 5; n_threads++)
    for (size_t i = 0; i < COUNT(sizes); i++)
      for (int busy = 0; busy < 3; busy++) check_once(n_threads, sizes[i], busy);
}

static void *call_often(void *unused) {
  (void)unused;
  for (int i = 0; i < 200; i++) {
    struct counting counting;
    memset(&counting, 0, sizeof counting);
    clipc__parallel(4, 40, count_chunk, &counting);
    for (int c = 0; c < 40; c++)
      if (atomic_load(&counting.hits[c]) != 1) return (void *)"a chunk did not run once";
    if (atomic_load(&counting.shared)) return (void *)"a slot was shared";
  }
  return NULL;
}

static void many_callers_at_once(void **state) {
  (void)state;
  pthread_t callers[4];
  for (int i = 0; i < 4; i++) assert_int_equal(pthread_create(&callers[i], NULL, call_often, NULL), 0);
  for (int i = 0; i < 4; i++) {
    void *trouble;
    pthread_join(callers[i], &trouble);
    assert_null(trouble);
  }
}

static void stops_and_starts_again(void **state) {
  (void)state;
  for (int i = 0; i < 3; i++) {
    check_once(3, 50, 1);
    clipc__threads_stop();
  }
  check_once(2, 10, 0);
}

static void usable_threads_follow_the_affinity_mask(void **state) {
  (void)state;
  int all = clipc__usable_threads();
  assert_true(all >= 1 && all <= CLIPC__MAX_THREADS);
  cpu_set_t before, one;
  assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
  CPU_ZERO(&one);
  for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
    if (CPU_ISSET(cpu, &before)) {
      CPU_SET(cpu, &one);
      break;
    }
  assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
  assert_int_equal(clipc__usable_threads(), 1);
  sched_setaffinity(0, sizeof before, &before);
  assert_int_equal(clipc__usable_threads(), all);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_chunk_runs_once),
      cmocka_unit_test(many_callers_at_once),
      cmocka_unit_test(stops_and_starts_again),
      cmocka_unit_test(usable_threads_follow_the_affinity_mask),
  };
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  clipc__threads_stop();
  return failed;
}
