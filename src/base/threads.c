/* The one place that makes threads. A job lies on its caller's stack and in the list of jobs until its
 * chunks are given out; a sleeping thread takes part in the first job that has room for it, and stays with
 * it until no chunk is left. Caller and helpers draw chunks from one atomic counter.
 * Invariant: a job leaves the list, and its stack, only when no helper is inside.
 * Waking a sleeper can take longer than a chunk, so who waits inside a computation looks for SPIN_NS first, giving its
 * core away after the first looks. */
#include "base/threads.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

struct thread_job {
  clipc__chunk_function *run;
  void *context;
  size_t n_chunks;
  atomic_size_t next_chunk;
  int n_joined, max_helpers; /* under set.mutex */
  atomic_int n_inside;       /* written under set.mutex */
  struct thread_job *next;
};

struct set_thread {
  pthread_t thread;
  struct clipc__crew *crew; /* that it works for */
};

static struct {
  pthread_mutex_t mutex;
  pthread_cond_t work; /* a job has room, or a crew wants threads */
  pthread_cond_t left; /* a helper has left a job, or a thread its crew */
  struct thread_job *jobs;
  struct clipc__crew *crews;
  struct set_thread threads[CLIPC__MAX_THREADS];
  int n_threads;
  bool stopping;
  atomic_uint n_posted; /* jobs, ever; written under mutex */
  atomic_uint n_forks;
} set = {.mutex = PTHREAD_MUTEX_INITIALIZER, .work = PTHREAD_COND_INITIALIZER, .left = PTHREAD_COND_INITIALIZER};

static _Thread_local struct {
  void (*run)(void *context);
  void *context;
} between_chunks;

#define SPIN_NS 50000
#define SPIN_LOOKS 64 /* before the core is offered to others */

static bool job_was_posted(const void *seen) { return atomic_load(&set.n_posted) != *(const unsigned *)seen; }

static bool nobody_inside(const void *job) {
  return atomic_load_explicit(&((const struct thread_job *)job)->n_inside, memory_order_acquire) == 0;
}

static int64_t thread_now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Looks until it holds, for a short while. */
static bool spin_until(bool (*holds)(const void *), const void *what) {
  int64_t end = thread_now_ns() + SPIN_NS;
  for (int looks = 0; thread_now_ns() < end; looks++) {
    if (holds(what)) return true;
    if (looks >= SPIN_LOOKS) sched_yield();
  }
  return false;
}

static void run_chunks(struct thread_job *job, int slot) {
  size_t chunk;
  while ((chunk = atomic_fetch_add_explicit(&job->next_chunk, 1, memory_order_relaxed)) < job->n_chunks) {
    if (between_chunks.run) between_chunks.run(between_chunks.context);
    job->run(job->context, chunk, slot);
  }
}

static struct thread_job *job_with_room(void) {
  for (struct thread_job *job = set.jobs; job; job = job->next)
    if (job->n_joined < job->max_helpers &&
        atomic_load_explicit(&job->next_chunk, memory_order_relaxed) < job->n_chunks)
      return job;
  return NULL;
}

/* Under set.mutex, which it gives away meanwhile. */
static void take_part(struct thread_job *job) {
  int slot = ++job->n_joined;
  atomic_fetch_add(&job->n_inside, 1);
  pthread_mutex_unlock(&set.mutex);
  run_chunks(job, slot);
  pthread_mutex_lock(&set.mutex);
  if (atomic_fetch_sub(&job->n_inside, 1) == 1) pthread_cond_broadcast(&set.left);
}

/* Under set.mutex, which it gives away meanwhile. */
static void work_for_crew(struct set_thread *thread) {
  struct clipc__crew *crew = thread->crew;
  int index = crew->n_inside++;
  pthread_mutex_unlock(&set.mutex);
  crew->main(crew->context, index);
  pthread_mutex_lock(&set.mutex);
  thread->crew = NULL;
  crew->n_hired--;
  pthread_cond_broadcast(&set.left);
}

static void *thread_main(void *context) {
  struct set_thread *thread = context;
  bool may_spin = false; /* there was work just now: more is likely */
  pthread_mutex_lock(&set.mutex);
  while (!set.stopping) {
    struct thread_job *job = job_with_room();
    if (thread->crew != NULL) {
      work_for_crew(thread);
    } else if (job != NULL) {
      may_spin = true;
      take_part(job);
    } else if (may_spin) {
      unsigned seen = atomic_load(&set.n_posted);
      pthread_mutex_unlock(&set.mutex);
      may_spin = spin_until(job_was_posted, &seen);
      pthread_mutex_lock(&set.mutex);
    } else {
      pthread_cond_wait(&set.work, &set.mutex);
    }
  }
  pthread_mutex_unlock(&set.mutex);
  return NULL;
}

/* Under set.mutex. Signals stay with the host's threads. */
static void make_threads(int n_wanted) {
  if (n_wanted > CLIPC__MAX_THREADS) n_wanted = CLIPC__MAX_THREADS;
  if (set.n_threads >= n_wanted) return;
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  for (; set.n_threads < n_wanted; set.n_threads++) {
    struct set_thread *thread = &set.threads[set.n_threads];
    thread->crew = NULL;
    if (pthread_create(&thread->thread, NULL, thread_main, thread) != 0) break;
  }
  pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* ---- fork: a child has none of the threads, and no lock of theirs must stay held in it */

static void before_fork(void) { pthread_mutex_lock(&set.mutex); }
static void after_fork_in_parent(void) { pthread_mutex_unlock(&set.mutex); }
static void after_fork_in_child(void) {
  set.jobs = NULL;
  set.crews = NULL;
  set.n_threads = 0;
  between_chunks.run = NULL;
  pthread_cond_init(&set.work, NULL);
  pthread_cond_init(&set.left, NULL);
  atomic_fetch_add(&set.n_forks, 1);
  pthread_mutex_unlock(&set.mutex);
}

static void watch_forks(void) { pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child); }

/* Under no lock; before the first thread is made. */
void clipc__threads_watch_forks(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, watch_forks);
}

unsigned clipc__fork_count(void) { return atomic_load(&set.n_forks); }

/* ---- crews */

bool clipc__threads_hire(struct clipc__crew *crew, int n) {
  clipc__threads_watch_forks();
  pthread_mutex_lock(&set.mutex);
  int n_free = 0;
  for (int i = 0; i < set.n_threads; i++) n_free += set.threads[i].crew == NULL;
  int n_before = set.n_threads;
  make_threads(n_before + n - (n_free < n ? n_free : n));
  if (set.n_threads - n_before + n_free < n) {
    pthread_mutex_unlock(&set.mutex);
    return false;
  }
  crew->n_inside = 0;
  crew->n_hired = n;
  for (int i = set.n_threads - 1; n > 0; i--) /* the newest first: they sleep */
    if (set.threads[i].crew == NULL) set.threads[i].crew = crew, n--;
  crew->next = set.crews;
  set.crews = crew;
  pthread_cond_broadcast(&set.work);
  pthread_mutex_unlock(&set.mutex);
  return true;
}

void clipc__threads_dismiss(struct clipc__crew *crew) {
  pthread_mutex_lock(&set.mutex);
  while (crew->n_hired > 0) pthread_cond_wait(&set.left, &set.mutex);
  struct clipc__crew **link = &set.crews;
  while (*link && *link != crew) link = &(*link)->next;
  if (*link) *link = crew->next;
  pthread_mutex_unlock(&set.mutex);
}

bool clipc__threads_help(void) {
  pthread_mutex_lock(&set.mutex);
  struct thread_job *job = job_with_room();
  if (job) take_part(job);
  pthread_mutex_unlock(&set.mutex);
  return job != NULL;
}

unsigned clipc__threads_posted(void) { return atomic_load(&set.n_posted); }

void clipc__threads_between(void (*between)(void *context), void *context) {
  between_chunks.run = between;
  between_chunks.context = context;
}

/* ---- jobs */

void clipc__parallel(int n_threads, size_t n_chunks, clipc__chunk_function *run, void *context) {
  struct thread_job job = {.run = run, .context = context, .n_chunks = n_chunks};
  if (n_chunks < (size_t)n_threads) n_threads = (int)n_chunks;
  if (n_threads <= 1) {
    run_chunks(&job, 0);
    return;
  }
  job.max_helpers = n_threads - 1;
  clipc__threads_watch_forks();
  pthread_mutex_lock(&set.mutex);
  make_threads(job.max_helpers);
  struct thread_job **end = &set.jobs;
  while (*end) end = &(*end)->next;
  *end = &job;
  atomic_fetch_add(&set.n_posted, 1);
  for (int i = 0; i < job.max_helpers; i++) pthread_cond_signal(&set.work);
  for (struct clipc__crew *crew = set.crews; crew; crew = crew->next) crew->wake(crew->context, job.max_helpers);
  pthread_mutex_unlock(&set.mutex);

  run_chunks(&job, 0);

  pthread_mutex_lock(&set.mutex);
  struct thread_job **link = &set.jobs;
  while (*link != &job) link = &(*link)->next;
  *link = job.next; /* nobody can join any more */
  pthread_mutex_unlock(&set.mutex);
  if (spin_until(nobody_inside, &job)) return;
  pthread_mutex_lock(&set.mutex);
  while (atomic_load(&job.n_inside) > 0) pthread_cond_wait(&set.left, &set.mutex);
  pthread_mutex_unlock(&set.mutex);
}

void clipc__threads_stop(void) {
  pthread_mutex_lock(&set.mutex);
  set.stopping = true;
  pthread_cond_broadcast(&set.work);
  pthread_mutex_unlock(&set.mutex);
  for (int i = 0; i < set.n_threads; i++) pthread_join(set.threads[i].thread, NULL);
  set.n_threads = 0;
  set.stopping = false;
}

/* ceil(quota / period) of the cgroup, 0 when there is no quota. */
static int cgroup_threads(void) {
  long long quota = 0, period = 0;
  FILE *file = fopen("/sys/fs/cgroup/cpu.max", "re"); /* version 2; "max 100000" without a quota */
  if (file != NULL) {
    if (fscanf(file, "%lld %lld", &quota, &period) != 2) quota = 0;
    fclose(file);
  } else {
    FILE *quota_file = fopen("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "re");
    FILE *period_file = fopen("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "re");
    if (quota_file && period_file &&
        (fscanf(quota_file, "%lld", &quota) != 1 || fscanf(period_file, "%lld", &period) != 1))
      quota = 0;
    if (quota_file) fclose(quota_file);
    if (period_file) fclose(period_file);
  }
  if (quota <= 0 || period <= 0) return 0;
  long long threads = (quota + period - 1) / period;
  return threads > CLIPC__MAX_THREADS ? CLIPC__MAX_THREADS : (int)threads;
}

int clipc__usable_threads(void) {
  int n = 0;
#ifdef __linux__
  cpu_set_t mask;
  if (sched_getaffinity(0, sizeof mask, &mask) == 0) n = CPU_COUNT(&mask);
#endif
  if (n <= 0) n = (int)sysconf(_SC_NPROCESSORS_ONLN);
  int quota = cgroup_threads();
  if (quota > 0 && quota < n) n = quota;
  return n < 1 ? 1 : n > CLIPC__MAX_THREADS ? CLIPC__MAX_THREADS : n;
}
