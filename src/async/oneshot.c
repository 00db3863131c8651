/* One message from one sender to one receiver. One word says all: EMPTY, the task that waits, SENT, DROPPED, or
 * NO_RECEIVER. Each end is used up by one exchange of that word, and whoever finds the other end used up frees the
 * memory, which is the runtime's, as that of its tasks. */
#include "async/sched.h"

#include <string.h>

struct clipc_oneshot { /* the message lies behind it */
  atomic_uint no_task; /* nought, see slab.c */
  uint32_t message_bytes;
  _Atomic uintptr_t word;
  clipc_runtime *runtime;
};
/* Above these it is a task's address. */
enum { ONESHOT_EMPTY = 0, ONESHOT_SENT = 1, ONESHOT_DROPPED = 2, ONESHOT_NO_RECEIVER = 3 };

clipc_status clipc_oneshot_open(clipc_oneshot **out, clipc_runtime *runtime, size_t message_bytes, clipc_error *error) {
  if (out == NULL) return clipc__fail(error, CLIPC_E_INVALID, "clipc_oneshot_open: out is NULL");
  *out = NULL;
  if (runtime == NULL || message_bytes < 1 || message_bytes > 4096)
    return clipc__fail(error, CLIPC_E_INVALID, "clipc_oneshot_open: %s",
                       runtime ? "a message has 1 to 4096 bytes" : "runtime is NULL");
  if (!clipc__runtime_usable(runtime))
    return clipc__fail(error, CLIPC_E_RUNTIME_UNAVAILABLE, "the runtime belongs to the parent process");
  clipc_oneshot *oneshot = clipc__slab_take(runtime, sizeof *oneshot + message_bytes);
  if (oneshot == NULL) return clipc__no_memory(error, "a oneshot");
  oneshot->message_bytes = (uint32_t)message_bytes;
  atomic_store_explicit(&oneshot->word, ONESHOT_EMPTY, memory_order_relaxed);
  oneshot->runtime = runtime;
  *out = oneshot;
  return CLIPC_OK;
}

static void free_oneshot(clipc_oneshot *oneshot) {
  clipc__slab_give(oneshot->runtime, oneshot, sizeof *oneshot + oneshot->message_bytes);
}

static clipc_status use_sender_up(clipc_oneshot *oneshot, uintptr_t how) {
  uintptr_t before = atomic_exchange_explicit(&oneshot->word, how, memory_order_acq_rel);
  if (before == ONESHOT_NO_RECEIVER) {
    free_oneshot(oneshot);
    return CLIPC_E_CANCELLED;
  }
  if (before != ONESHOT_EMPTY) { /* the oneshot may be gone by now; the reference keeps the task */
    clipc__task_wake((clipc_task *)before);
    clipc_task_release((clipc_task *)before);
  }
  return CLIPC_OK;
}

clipc_status clipc_oneshot_send(clipc_oneshot *oneshot, const void *message) {
  memcpy(oneshot + 1, message, oneshot->message_bytes);
  return use_sender_up(oneshot, ONESHOT_SENT);
}

void clipc_oneshot_drop_sender(clipc_oneshot *oneshot) {
  if (oneshot) use_sender_up(oneshot, ONESHOT_DROPPED);
}

void clipc_oneshot_drop_receiver(clipc_oneshot *oneshot) {
  if (oneshot == NULL) return;
  uintptr_t before = atomic_exchange_explicit(&oneshot->word, ONESHOT_NO_RECEIVER, memory_order_acq_rel);
  if (before == ONESHOT_SENT || before == ONESHOT_DROPPED)
    free_oneshot(oneshot);
  else
    clipc_task_release((clipc_task *)before);
}

int clipc_oneshot_receive(clipc_task *task, clipc_oneshot *oneshot, void *message) {
  uintptr_t word = atomic_load_explicit(&oneshot->word, memory_order_acquire);
  while (word != ONESHOT_SENT && word != ONESHOT_DROPPED) {
    int blocked = clipc__task_blocked(task);
    if (blocked == CLIPC_E_CANCELLED) clipc_oneshot_drop_receiver(oneshot);
    if (blocked != CLIPC_OK) return blocked;
    if (word == (uintptr_t)task) return CLIPC_WAITING;
    clipc_task_retain(task);
    uintptr_t before = word;
    if (atomic_compare_exchange_strong_explicit(&oneshot->word, &word, (uintptr_t)task, memory_order_acq_rel,
                                                memory_order_acquire)) {
      clipc_task_release((clipc_task *)before);
      return CLIPC_WAITING;
    }
    clipc_task_release(task);
  }
  if (word == ONESHOT_SENT) memcpy(message, oneshot + 1, oneshot->message_bytes);
  free_oneshot(oneshot);
  return word == ONESHOT_SENT ? CLIPC_OK : CLIPC_E_CANCELLED;
}
