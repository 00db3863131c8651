/* Channels: many senders, one receiver, a ring of messages under a short lock. A bounded one that is full lets its
 * senders wait in line; when it has been emptied to the half, or the receiver's turn ends, as many are woken as there
 * is room for, so that not every message costs a wake-up. One who was woken may have gone elsewhere: when nothing is
 * left, all that wait are woken. An unbounded one doubles its ring. A task that sends and receives without end in one
 * turn is made to yield now and then. */
#include "async/sched.h"

#include <string.h>

struct clipc_channel {
  struct clipc__lock lock;
  bool has_receiver;
  uint32_t n_senders, n_ends; /* n_ends: both kinds; the last one frees */
  uint32_t message_bytes;
  size_t capacity; /* 0 = unbounded */
  size_t n_ring, first, n;
  uint8_t *ring;
  void (*drop)(void *message);
  struct clipc__waiter receiver;
  clipc_task **line; /* senders that wait, by reference: a ring */
  size_t n_line_ring, line_first, n_line;
};

enum { CHANNEL_MAX_MESSAGE = 4096, CHANNEL_FIRST_RING = 64 };
static const clipc_allocator channel_memory; /* malloc: a channel belongs to no runtime */

clipc_status clipc_channel_open(clipc_channel **out, size_t message_bytes, size_t capacity, void (*drop)(void *message),
                                clipc_error *error) {
  if (out == NULL) return clipc__fail(error, CLIPC_E_INVALID, "clipc_channel_open: out is NULL");
  *out = NULL;
  if (message_bytes < 1 || message_bytes > CHANNEL_MAX_MESSAGE)
    return clipc__fail(error, CLIPC_E_INVALID, "clipc_channel_open: messages of %zu bytes", message_bytes);
  clipc_channel *channel = clipc__alloc_zeroed(&channel_memory, 1, sizeof *channel);
  size_t n_ring = capacity ? capacity : CHANNEL_FIRST_RING;
  uint8_t *ring = clipc__alloc(&channel_memory, n_ring, message_bytes);
  if (channel == NULL || ring == NULL) {
    clipc__free(&channel_memory, channel);
    clipc__free(&channel_memory, ring);
    return clipc__no_memory(error, "a channel");
  }
  channel->has_receiver = true;
  channel->n_senders = 1;
  channel->n_ends = 2;
  channel->message_bytes = (uint32_t)message_bytes;
  channel->capacity = capacity;
  channel->n_ring = n_ring;
  channel->ring = ring;
  channel->drop = drop;
  *out = channel;
  return CLIPC_OK;
}

static void *message_at(clipc_channel *channel, size_t i) {
  size_t at = channel->first + i;
  return channel->ring + (at < channel->n_ring ? at : at - channel->n_ring) * channel->message_bytes;
}

static void copy_message(void *to, const void *from, size_t n_bytes) {
  if (n_bytes == sizeof(uint64_t))
    memcpy(to, from, sizeof(uint64_t)); /* the usual pointer, without a call */
  else
    memcpy(to, from, n_bytes);
}

/* Whether the task may do more in this turn; if not, it is woken at once, and waits behind others. */
static bool channel_may_go_on(clipc_task *task) {
  if (task->messages > 0) {
    task->messages--;
    return true;
  }
  clipc__task_wake(task);
  return false;
}

/* ---- the line of senders, under the lock */

static bool stands_in_line(const clipc_channel *channel, const clipc_task *task) {
  if (!(atomic_load_explicit(&task->state, memory_order_relaxed) & CLIPC__TASK_IN_LINE)) return false;
  for (size_t i = 0; i < channel->n_line; i++)
    if (channel->line[(channel->line_first + i) % channel->n_line_ring] == task) return true;
  return false;
}

static bool stand_in_line(clipc_channel *channel, clipc_task *task) {
  if (stands_in_line(channel, task)) return true;
  if (channel->n_line == channel->n_line_ring) {
    size_t n = channel->n_line_ring ? channel->n_line_ring * 2 : 8;
    clipc_task **line = clipc__alloc(&channel_memory, n, sizeof *line);
    if (line == NULL) return false;
    for (size_t i = 0; i < channel->n_line; i++)
      line[i] = channel->line[(channel->line_first + i) % channel->n_line_ring];
    clipc__free(&channel_memory, channel->line);
    channel->line = line;
    channel->n_line_ring = n;
    channel->line_first = 0;
  }
  atomic_fetch_or_explicit(&task->state, CLIPC__TASK_IN_LINE, memory_order_relaxed);
  channel->line[(channel->line_first + channel->n_line++) % channel->n_line_ring] = clipc_task_retain(task);
  return true;
}

static void wake_line(clipc_channel *channel, size_t n) {
  for (; n > 0 && channel->n_line > 0; n--) {
    clipc_task *task = channel->line[channel->line_first];
    channel->line_first = (channel->line_first + 1) % channel->n_line_ring;
    channel->n_line--;
    atomic_fetch_and_explicit(&task->state, ~(unsigned)CLIPC__TASK_IN_LINE, memory_order_relaxed);
    clipc__task_wake(task);
    clipc_task_release(task);
  }
}

/* Somebody has made room, and others stand in line. A receiver that goes on taking wakes them when the channel is empty
 * to the half; one that stops before does so at the end of its turn, since it may wait for what they have to say. */
static void wake_for_room(clipc_channel *channel) {
  struct clipc__here *here = clipc__here();
  if (channel->n <= channel->capacity / 2 || here->task == NULL || (here->owed && here->owed != channel)) {
    wake_line(channel, channel->capacity - channel->n);
  } else if (here->owed == NULL) {
    here->owed = channel;
    channel->n_ends++;
  }
}

/* ---- ends */

clipc_channel *clipc_channel_add_sender(clipc_channel *channel) {
  clipc__lock(&channel->lock);
  channel->n_senders++;
  channel->n_ends++;
  clipc__unlock(&channel->lock);
  return channel;
}

/* When nobody sends or receives any more. */
static void drop_messages(clipc_channel *channel) {
  clipc__lock(&channel->lock);
  size_t n = channel->n;
  channel->n = 0;
  clipc__unlock(&channel->lock);
  if (channel->drop)
    for (size_t i = 0; i < n; i++) channel->drop(message_at(channel, i));
}

/* Gives the lock back. */
static void leave_channel(clipc_channel *channel) {
  bool last = --channel->n_ends == 0;
  clipc__unlock(&channel->lock);
  if (!last) return;
  drop_messages(channel);
  clipc__waiter_clear(&channel->receiver);
  clipc__free(&channel_memory, channel->line);
  clipc__free(&channel_memory, channel->ring);
  clipc__free(&channel_memory, channel);
}

void clipc__channel_settle(struct clipc__here *here) {
  clipc_channel *channel = here->owed;
  here->owed = NULL;
  clipc__lock(&channel->lock);
  if (channel->n < channel->capacity) wake_line(channel, channel->capacity - channel->n);
  leave_channel(channel);
}

void clipc_channel_close_sender(clipc_channel *channel) {
  if (channel == NULL) return;
  clipc__lock(&channel->lock);
  if (--channel->n_senders == 0) clipc__waiter_wake(&channel->receiver);
  if (channel->n < channel->capacity) wake_line(channel, channel->capacity - channel->n); /* it may have been woken */
  leave_channel(channel);
}

void clipc_channel_close_receiver(clipc_channel *channel) {
  if (channel == NULL) return;
  clipc__lock(&channel->lock);
  channel->has_receiver = false;
  wake_line(channel, channel->n_line);
  clipc__waiter_clear(&channel->receiver);
  clipc__unlock(&channel->lock);
  drop_messages(channel);
  clipc__lock(&channel->lock);
  leave_channel(channel);
}

/* ---- sending */

static bool grow_ring(clipc_channel *channel) {
  size_t n = channel->n_ring * 2;
  uint8_t *ring = clipc__alloc(&channel_memory, n, channel->message_bytes);
  if (ring == NULL) return false;
  for (size_t i = 0; i < channel->n; i++)
    memcpy(ring + i * channel->message_bytes, message_at(channel, i), channel->message_bytes);
  clipc__free(&channel_memory, channel->ring);
  channel->ring = ring;
  channel->n_ring = n;
  channel->first = 0;
  return true;
}

/* Under the lock. */
static clipc_status put_message(clipc_channel *channel, const void *message) {
  if (!channel->has_receiver) return CLIPC_E_CANCELLED;
  if (channel->n == channel->n_ring) {
    if (channel->capacity != 0) return CLIPC_E_QUEUE_FULL;
    if (!grow_ring(channel)) return CLIPC_E_NO_MEMORY;
  }
  copy_message(message_at(channel, channel->n), message, channel->message_bytes);
  channel->n++;
  if (atomic_load_explicit(&channel->receiver.task, memory_order_relaxed)) clipc__waiter_wake(&channel->receiver);
  return CLIPC_OK;
}

clipc_status clipc_channel_try_send(clipc_channel *channel, const void *message) {
  clipc__lock(&channel->lock);
  clipc_status status = put_message(channel, message);
  clipc__unlock(&channel->lock);
  return status;
}

int clipc_channel_send(clipc_task *task, clipc_channel *channel, const void *message) {
  if (!channel_may_go_on(task)) return CLIPC_WAITING;
  clipc__lock(&channel->lock);
  int status = put_message(channel, message);
  if (status == CLIPC_E_QUEUE_FULL && !stand_in_line(channel, task)) status = CLIPC_E_NO_MEMORY;
  clipc__unlock(&channel->lock);
  if (status != CLIPC_E_QUEUE_FULL) return status;
  status = clipc__task_blocked(task);
  return status == CLIPC_OK ? CLIPC_WAITING : status;
}

/* ---- receiving */

/* Under the lock: OK, QUEUE_FULL (nothing there) or CANCELLED (nor will there be). */
static clipc_status take_message(clipc_channel *channel, void *message) {
  if (channel->n == 0) {
    wake_line(channel, channel->n_line);
    return channel->n_senders > 0 ? CLIPC_E_QUEUE_FULL : CLIPC_E_CANCELLED;
  }
  copy_message(message, message_at(channel, 0), channel->message_bytes);
  channel->first = channel->first + 1 == channel->n_ring ? 0 : channel->first + 1;
  channel->n--;
  if (channel->n_line > 0) wake_for_room(channel);
  return CLIPC_OK;
}

clipc_status clipc_channel_try_receive(clipc_channel *channel, void *message) {
  clipc__lock(&channel->lock);
  clipc_status status = take_message(channel, message);
  clipc__unlock(&channel->lock);
  return status;
}

int clipc_channel_receive(clipc_task *task, clipc_channel *channel, void *message) {
  if (!channel_may_go_on(task)) return CLIPC_WAITING;
  clipc__lock(&channel->lock);
  int status = take_message(channel, message);
  if (status == CLIPC_E_QUEUE_FULL) clipc__waiter_set(&channel->receiver, task);
  clipc__unlock(&channel->lock);
  if (status != CLIPC_E_QUEUE_FULL) return status;
  status = clipc__task_blocked(task);
  return status == CLIPC_OK ? CLIPC_WAITING : status;
}

size_t clipc_channel_length(const clipc_channel *channel) {
  clipc_channel *locked = (clipc_channel *)channel;
  clipc__lock(&locked->lock);
  size_t n = channel->n;
  clipc__unlock(&locked->lock);
  return n;
}

/* Begins at the channel behind the one that was taken from last, which the task remembers. */
int clipc_select(clipc_task *task, clipc_channel *const *channels, size_t n, size_t *which, void *message) {
  bool may_come = false;
  if (!channel_may_go_on(task)) return CLIPC_WAITING;
  for (size_t k = 0, i = task->select_at < n ? task->select_at : 0; k < n; k++, i = i + 1 == n ? 0 : i + 1) {
    clipc_channel *channel = channels[i];
    if (channel == NULL) continue;
    clipc__lock(&channel->lock);
    clipc_status status = take_message(channel, message);
    if (status == CLIPC_E_QUEUE_FULL) clipc__waiter_set(&channel->receiver, task);
    clipc__unlock(&channel->lock);
    may_come |= status == CLIPC_E_QUEUE_FULL;
    if (status != CLIPC_OK) continue;
    task->select_at = (uint16_t)(i + 1 == n ? 0 : i + 1);
    *which = i;
    return CLIPC_OK;
  }
  if (!may_come) return CLIPC_E_CANCELLED;
  int blocked = clipc__task_blocked(task);
  return blocked == CLIPC_OK ? CLIPC_WAITING : blocked;
}
