/* Pending results: open -> completing -> done, once. Whoever completes one holds a reference, so that the one who
 * asked may give his back at any moment; what is computed for a request that was cancelled or is late goes nowhere.
 * A stream's chunks lie in a list under a lock: the worker appends, the reader takes from the front. */
#include "async/pool.h"

#include <string.h>

enum { PENDING_OPEN, PENDING_COMPLETING, PENDING_DONE };

struct clipc__piece {
  struct clipc__piece *next;
  clipc_chunk chunk; /* its bytes lie behind */
};

/* ---- references */

clipc_pending *clipc__pending_retain(clipc_pending *pending) {
  atomic_fetch_add_explicit(&pending->references, 1, memory_order_relaxed);
  return pending;
}

void clipc__pending_release(clipc_pending *pending) {
  if (atomic_fetch_sub_explicit(&pending->references, 1, memory_order_acq_rel) > 1) return;
  clipc_allocator allocator = pending->allocator;
  struct clipc_call *call = &pending->call;
  for (struct clipc__piece *piece = pending->first_chunk, *next; piece; piece = next) {
    next = piece->next;
    clipc__free(&allocator, piece);
  }
  clipc__free(&allocator, pending->taken);
  for (size_t i = 0; call->bodies && i < call->request.n_inputs; i++)
    if (call->bodies[i]) clipc__fetch_close(call->bodies[i]);
  if (call->embeddings_apart) clipc__free(&allocator, call->embeddings);
  clipc__bytes_free(&call->text);
  clipc__free(&allocator, (void *)(uintptr_t)pending->result.pictures);
  clipc__waiter_clear(&pending->waiter);
  clipc__waiter_clear(&pending->worker);
  if (call->request.completions) clipc__completions_release(call->request.completions);
  clipc_runtime *runtime = pending->runtime;
  clipc__free(&allocator, pending);
  clipc__runtime_release(runtime);
}

/* ---- completing */

/* The pictures that nobody took, as an array; false when there is no memory for it. */
static bool keep_pictures(clipc_pending *pending) {
  clipc__lock(&pending->lock);
  pending->is_kept = true; /* the list stays from here on */
  pending->unread = pending->first_chunk;
  size_t n = 0;
  for (const struct clipc__piece *piece = pending->first_chunk; piece; piece = piece->next)
    n += piece->chunk.rgb != NULL;
  clipc__unlock(&pending->lock);
  if (n == 0) return true;
  clipc_chunk *pictures = clipc__alloc(&pending->allocator, n, sizeof *pictures);
  if (pictures == NULL) return false;
  pending->result.pictures = pictures;
  pending->result.n_pictures = n;
  for (const struct clipc__piece *piece = pending->first_chunk; piece; piece = piece->next)
    if (piece->chunk.rgb) *pictures++ = piece->chunk;
  return true;
}

static clipc_status fill_result(clipc_pending *pending) {
  struct clipc_call *call = &pending->call;
  clipc_result *result = &pending->result;
  result->n_items = call->n_items;
  result->item_errors = call->item_errors;
  if (call->embeddings) {
    result->dimension = call->dimension;
    result->embeddings = call->embeddings;
    for (size_t i = 0; i < call->n_items; i++)
      if (call->item_errors[i].status != CLIPC_OK)
        memset(call->embeddings + i * call->dimension, 0, call->dimension * sizeof *call->embeddings);
  }
  if (call->probabilities) {
    result->n_labels = call->request.n_labels;
    result->probabilities = call->probabilities;
  }
  result->text = call->text.data ? (const char *)call->text.data : NULL;
  result->text_bytes = call->text.n_bytes;
  return keep_pictures(pending) ? CLIPC_OK : clipc__no_memory(&pending->error, "a result");
}

bool clipc__pending_complete(clipc_pending *pending, clipc_status status, const clipc_error *error) {
  int open = PENDING_OPEN;
  if (!atomic_compare_exchange_strong(&pending->stage, &open, PENDING_COMPLETING)) return false;
  clipc__pending_retain(pending); /* the callback may give back the last reference */
  if (status == CLIPC_OK)
    status = fill_result(pending);
  else
    clipc__fail(&pending->error, status, "%s", error && error->message[0] ? error->message : clipc_status_name(status));
  pending->error.status = status;
  if (pending->pool) clipc__pool_left(pending->pool, pending);
  void (*done)(void *, clipc_pending *) = pending->call.request.done;
  clipc_completions *completions = pending->call.request.completions;
  atomic_store_explicit(&pending->stage, PENDING_DONE, memory_order_seq_cst);
  clipc__waiter_wake(&pending->waiter);
  clipc__waiter_wake(&pending->worker);
  clipc__signal_raise(&pending->signal);
  if (completions) clipc__completions_push(completions, pending);
  if (done) {
    bool before = clipc__callback_enter();
    done(pending->call.request.context, pending);
    clipc__callback_leave(before);
  }
  clipc__pending_release(pending);
  return true;
}

bool clipc__pending_fail(clipc_pending *pending, clipc_status status, const char *sentence) {
  clipc_error error;
  clipc__fail(&error, status, "%s", sentence);
  return clipc__pending_complete(pending, status, &error);
}

bool clipc__pending_finish(clipc_pending *pending) {
  const struct clipc_call *call = &pending->call;
  bool single = !call->request.is_batch && call->n_items == 1;
  return clipc__pending_complete(pending, single ? call->item_errors[0].status : CLIPC_OK, call->item_errors);
}

bool clipc__pending_is_open(const clipc_pending *pending) { return atomic_load(&pending->stage) == PENDING_OPEN; }

/* ---- looking, waiting, giving back */

int clipc_pending_done(const clipc_pending *pending) {
  return pending == NULL || atomic_load_explicit(&pending->stage, memory_order_seq_cst) == PENDING_DONE;
}

clipc_status clipc_pending_status(const clipc_pending *pending, clipc_error *error) {
  if (pending == NULL) return clipc__fail(error, CLIPC_E_INVALID, "the pending result is NULL");
  if (!clipc_pending_done(pending)) return CLIPC_OK;
  if (pending->error.status != CLIPC_OK && error) *error = pending->error;
  return pending->error.status;
}

const clipc_result *clipc_pending_result(const clipc_pending *pending) {
  return pending && clipc_pending_done(pending) && pending->error.status == CLIPC_OK ? &pending->result : NULL;
}

void *clipc_pending_context(const clipc_pending *pending) { return pending ? pending->call.request.context : NULL; }

int clipc_pending_await(clipc_task *task, clipc_pending *pending) {
  if (task == NULL || pending == NULL) return CLIPC_E_INVALID;
  if (!clipc_pending_done(pending)) {
    int status = clipc__task_blocked(task);
    if (status != CLIPC_OK) return status;
    clipc__waiter_set(&pending->waiter, task);
    if (!clipc_pending_done(pending)) return CLIPC_WAITING;
  }
  return pending->error.status;
}

static bool pending_is_done(const void *pending) { return clipc_pending_done(pending); }

clipc_status clipc_pending_wait(clipc_pending *pending, int timeout_ms, clipc_error *error) {
  if (pending == NULL) return clipc__fail(error, CLIPC_E_INVALID, "clipc_pending_wait: pending is NULL");
  if (clipc__must_not_block())
    return clipc__fail(error, CLIPC_E_WOULD_DEADLOCK, "clipc_pending_wait: called from inside a task or a callback");
  if (!clipc_pending_done(pending)) {
    clipc_status status = clipc__wait(pending->runtime, &pending->signal, pending_is_done, pending, timeout_ms, error);
    if (status != CLIPC_OK) return status;
  }
  return clipc_pending_status(pending, error);
}

void clipc_pending_cancel(clipc_pending *pending) {
  if (pending) clipc__pending_fail(pending, CLIPC_E_CANCELLED, "the request was cancelled");
}

void clipc_pending_close(clipc_pending *pending) {
  if (pending == NULL) return;
  clipc_completions *completions = pending->call.request.completions;
  bool unheard = completions ? clipc__completions_leave(completions, pending) : pending->call.request.done == NULL;
  if (unheard) clipc_pending_cancel(pending);
  clipc__pending_release(pending);
}

/* ---- chunks */

static bool take_chunk(clipc_pending *pending, clipc_chunk *chunk) {
  struct clipc__piece *old = NULL;
  clipc__lock(&pending->lock);
  struct clipc__piece *piece = pending->is_kept ? pending->unread : pending->first_chunk;
  if (piece) {
    *chunk = piece->chunk;
    pending->n_unread--;
    old = pending->taken;
    pending->taken = NULL;
    if (pending->is_kept) {
      pending->unread = piece->next;
    } else {
      pending->first_chunk = piece->next;
      if (piece->next == NULL) pending->last_chunk = NULL;
      pending->taken = piece;
    }
  }
  clipc__unlock(&pending->lock);
  clipc__free(&pending->allocator, old);
  if (piece) clipc__waiter_wake(&pending->worker);
  return piece != NULL;
}

/* What is to be said when no chunk is there: the end, the request's failure, or WAITING. A chunk may have come just
 * before the end: *again. */
static int chunks_over(clipc_pending *pending, clipc_chunk *chunk) {
  if (!clipc_pending_done(pending)) return CLIPC_WAITING;
  if (pending->error.status != CLIPC_OK) return pending->error.status;
  if (!take_chunk(pending, chunk)) *chunk = (clipc_chunk){0};
  return CLIPC_OK;
}

int clipc_pending_next_chunk(clipc_task *task, clipc_pending *pending, clipc_chunk *chunk) {
  if (task == NULL || pending == NULL || chunk == NULL) return CLIPC_E_INVALID;
  if (take_chunk(pending, chunk)) return CLIPC_OK;
  int status = chunks_over(pending, chunk);
  if (status != CLIPC_WAITING) return status;
  if ((status = clipc__task_blocked(task)) != CLIPC_OK) return status;
  clipc__waiter_set(&pending->waiter, task);
  return take_chunk(pending, chunk) ? CLIPC_OK : chunks_over(pending, chunk);
}

static bool chunk_or_end(const void *context) {
  clipc_pending *pending = (clipc_pending *)(uintptr_t)context;
  if (clipc_pending_done(pending)) return true;
  clipc__lock(&pending->lock);
  bool there = pending->first_chunk != NULL;
  clipc__unlock(&pending->lock);
  return there;
}

clipc_status clipc_pending_wait_chunk(clipc_pending *pending, int timeout_ms, clipc_chunk *chunk, clipc_error *error) {
  if (pending == NULL || chunk == NULL)
    return clipc__fail(error, CLIPC_E_INVALID, "clipc_pending_wait_chunk: %s is NULL", pending ? "chunk" : "pending");
  if (clipc__must_not_block())
    return clipc__fail(error, CLIPC_E_WOULD_DEADLOCK,
                       "clipc_pending_wait_chunk: called from inside a task or a callback");
  if (take_chunk(pending, chunk)) return CLIPC_OK;
  clipc_status status = clipc__wait(pending->runtime, &pending->signal, chunk_or_end, pending, timeout_ms, error);
  if (status != CLIPC_OK) return status;
  if (take_chunk(pending, chunk)) return CLIPC_OK;
  status = (clipc_status)chunks_over(pending, chunk);
  return status == CLIPC_OK ? CLIPC_OK : clipc_pending_status(pending, error);
}

static struct clipc__piece *copy_chunk(const clipc_allocator *allocator, const clipc_chunk *chunk) {
  size_t n_bytes = chunk->text_bytes, rows = 0;
  if (chunk->rgb &&
      (!clipc__multiply(&rows, (size_t)chunk->height, (size_t)chunk->width) || !clipc__multiply(&n_bytes, rows, 3)))
    return NULL;
  if (n_bytes > SIZE_MAX - sizeof(struct clipc__piece) - 1) return NULL;
  struct clipc__piece *piece = clipc__alloc(allocator, 1, sizeof *piece + n_bytes + 1);
  if (piece == NULL) return NULL;
  char *bytes = (char *)(piece + 1);
  if (n_bytes > 0) memcpy(bytes, chunk->rgb ? (const void *)chunk->rgb : chunk->text, n_bytes);
  bytes[n_bytes] = '\0';
  *piece = (struct clipc__piece){.chunk = *chunk};
  if (chunk->rgb)
    piece->chunk.rgb = (const uint8_t *)bytes, piece->chunk.text = NULL, piece->chunk.text_bytes = 0;
  else
    piece->chunk.text = bytes, piece->chunk.height = piece->chunk.width = 0;
  return piece;
}

static bool stream_is_full(clipc_pending *pending) {
  size_t capacity = pending->call.request.stream_capacity;
  if (capacity == 0 || clipc_pending_done(pending)) return false;
  clipc__lock(&pending->lock);
  bool full = pending->n_unread >= capacity;
  clipc__unlock(&pending->lock);
  return full;
}

int clipc_call_send(clipc_task *task, clipc_call *call, const clipc_chunk *chunk) {
  if (task == NULL || call == NULL || chunk == NULL || (chunk->text == NULL) == (chunk->rgb == NULL))
    return CLIPC_E_INVALID;
  if (chunk->rgb && (chunk->height < 1 || chunk->width < 1)) return CLIPC_E_INVALID;
  clipc_pending *pending = (clipc_pending *)call;
  if (call->request.max_chunks != 0 && call->n_sent >= call->request.max_chunks) return CLIPC_E_LIMIT;
  if (stream_is_full(pending)) {
    int status = clipc__task_blocked(task);
    if (status != CLIPC_OK) return status;
    clipc__waiter_set(&pending->worker, task);
    if (stream_is_full(pending)) return CLIPC_WAITING;
  }
  if (clipc_pending_done(pending)) return CLIPC_E_CANCELLED;
  struct clipc__piece *piece = copy_chunk(&pending->allocator, chunk);
  if (piece == NULL) return CLIPC_E_NO_MEMORY;
  if (chunk->text && !clipc__call_append_text(call, chunk->text, chunk->text_bytes)) {
    clipc__free(&pending->allocator, piece);
    return CLIPC_E_NO_MEMORY;
  }
  call->n_sent++;
  clipc__lock(&pending->lock);
  if (pending->last_chunk)
    pending->last_chunk->next = piece;
  else
    pending->first_chunk = piece;
  pending->last_chunk = piece;
  pending->n_unread++;
  clipc__unlock(&pending->lock);
  clipc__waiter_wake(&pending->waiter);
  clipc__signal_raise(&pending->signal);
  return CLIPC_OK;
}
