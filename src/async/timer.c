/* Timers: a hierarchical wheel. Level 0 has a slot for each of the next 64 ticks (2^16 ns), level 1 one for each 64 of
 * those, and so on; when time reaches a slot of a higher level its timers are put in again, lower. Arming and disarming
 * take constant time, and 7 levels reach 9 years. A timer is part of its task, which has at most one. */
#include "async/sched.h"

enum { WHEEL_BITS = 6, WHEEL_TICK_BITS = 16, WHEEL_WAKES = 64 };
#define WHEEL_FURTHEST (((int64_t)1 << (WHEEL_BITS * CLIPC__WHEEL_LEVELS)) - 1)

static int wheel_level(int64_t elapsed, int64_t tick) {
  uint64_t different = (uint64_t)(elapsed ^ tick) | (CLIPC__WHEEL_SLOTS - 1);
  int level = (63 - __builtin_clzll(different)) / WHEEL_BITS;
  return level < CLIPC__WHEEL_LEVELS ? level : CLIPC__WHEEL_LEVELS - 1;
}

/* The first tick that does not come before the moment, but one that is not done with. */
static int64_t wheel_tick(const struct clipc__wheel *wheel, int64_t at_ns) {
  int64_t tick = (at_ns >> WHEEL_TICK_BITS) + 1;
  if (tick <= wheel->elapsed) return wheel->elapsed + 1;
  return tick - wheel->elapsed > WHEEL_FURTHEST ? wheel->elapsed + WHEEL_FURTHEST : tick;
}

static void wheel_insert(struct clipc__wheel *wheel, struct clipc__timer *timer) {
  int64_t tick = wheel_tick(wheel, timer->at_ns);
  int level = wheel_level(wheel->elapsed, tick);
  int slot = (int)(tick >> (level * WHEEL_BITS)) & (CLIPC__WHEEL_SLOTS - 1);
  timer->link = &wheel->slots[level][slot];
  timer->next = *timer->link;
  if (timer->next) timer->next->link = &timer->next;
  *timer->link = timer;
  wheel->occupied[level] |= (uint64_t)1 << slot;
}

static void wheel_remove(struct clipc__wheel *wheel, struct clipc__timer *timer) {
  *timer->link = timer->next;
  if (timer->next) {
    timer->next->link = timer->link;
    return;
  }
  uintptr_t first = (uintptr_t)&wheel->slots[0][0], link = (uintptr_t)timer->link;
  if (link < first || link >= first + sizeof wheel->slots) return; /* there are others before it */
  size_t index = (link - first) / sizeof wheel->slots[0][0];
  wheel->occupied[index / CLIPC__WHEEL_SLOTS] &= ~((uint64_t)1 << index % CLIPC__WHEEL_SLOTS);
}

/* The tick at which something is to be done, and the slot that it is about; INT64_MAX = never. */
static int64_t wheel_next(struct clipc__wheel *wheel, struct clipc__timer ***which) {
  for (int level = 0; level < CLIPC__WHEEL_LEVELS; level++) {
    if (wheel->occupied[level] == 0) continue;
    int64_t unit = (int64_t)1 << (level * WHEEL_BITS), turn = unit << WHEEL_BITS;
    int now = (int)(wheel->elapsed / unit) & (CLIPC__WHEEL_SLOTS - 1);
    uint64_t rotated = wheel->occupied[level] >> now | (now ? wheel->occupied[level] << (CLIPC__WHEEL_SLOTS - now) : 0);
    int slot = (now + __builtin_ctzll(rotated)) & (CLIPC__WHEEL_SLOTS - 1);
    int64_t tick = wheel->elapsed / turn * turn + slot * unit;
    *which = &wheel->slots[level][slot];
    return tick < wheel->elapsed ? tick + turn : tick;
  }
  return INT64_MAX;
}

/* Under the lock, after a change. */
static int64_t wheel_publish(struct clipc__wheel *wheel) {
  struct clipc__timer **unused;
  int64_t tick = wheel_next(wheel, &unused); /* who sleeps to the end of time is never woken */
  int64_t next_ns = tick > INT64_MAX >> WHEEL_TICK_BITS ? INT64_MAX : tick << WHEEL_TICK_BITS;
  atomic_store(&wheel->next_ns, next_ns);
  return next_ns;
}

void clipc__timer_arm(clipc_task *task, int64_t at_ns) {
  struct clipc__wheel *wheel = &task->runtime->wheel;
  if (at_ns < 1) at_ns = 1;
  if (atomic_load_explicit(&task->timer.at_ns, memory_order_relaxed) == at_ns) return;
  clipc__lock(&wheel->lock);
  if (task->timer.at_ns != 0) wheel_remove(wheel, &task->timer);
  task->timer.at_ns = at_ns;
  wheel_insert(wheel, &task->timer);
  int64_t before = atomic_load(&wheel->next_ns);
  bool earlier = wheel_publish(wheel) < before;
  clipc__unlock(&wheel->lock);
  if (!earlier) return;
  clipc__poller_alarm(task->runtime);
  struct clipc__worker *worker = clipc__worker_here(task->runtime);
  if (worker) worker->has_watched |= worker->is_unwatched;
}

void clipc__timer_disarm(clipc_task *task) {
  struct clipc__wheel *wheel = &task->runtime->wheel;
  clipc__lock(&wheel->lock);
  if (task->timer.at_ns != 0) wheel_remove(wheel, &task->timer);
  task->timer.at_ns = 0;
  wheel_publish(wheel);
  clipc__unlock(&wheel->lock);
}

/* Under the lock. The task may end, and its memory go, as soon as its timer says that it is not armed. */
static void wheel_wake(struct clipc__timer *timer) {
  clipc__task_wake((clipc_task *)((char *)timer - offsetof(clipc_task, timer)));
  atomic_store_explicit(&timer->at_ns, 0, memory_order_release);
}

void clipc__timer_fire(clipc_runtime *runtime, int64_t now_ns) {
  struct clipc__wheel *wheel = &runtime->wheel;
  if (now_ns < atomic_load(&wheel->next_ns)) return;
  struct clipc__timer **slot;
  clipc__lock(&wheel->lock);
  for (int64_t tick; (tick = wheel_next(wheel, &slot)) <= now_ns >> WHEEL_TICK_BITS;) {
    wheel->elapsed = tick;
    bool is_due =
        slot < wheel->slots[1]; /* level 0: to be woken, and others want the lock, too; else all go lower at once */
    for (int n = 0; *slot && (!is_due || n < WHEEL_WAKES); n++) {
      struct clipc__timer *timer = *slot;
      wheel_remove(wheel, timer);
      if (timer->at_ns >> WHEEL_TICK_BITS < tick)
        wheel_wake(timer);
      else
        wheel_insert(wheel, timer);
    }
    clipc__unlock(&wheel->lock);
    clipc__lock(&wheel->lock);
  }
  if (wheel->elapsed < now_ns >> WHEEL_TICK_BITS) wheel->elapsed = now_ns >> WHEEL_TICK_BITS;
  wheel_publish(wheel);
  clipc__unlock(&wheel->lock);
}
