/* What an engine sees of a request: where its items' vectors, probabilities, failures and texts go. */
#include "async/pending.h"

#include <string.h>

const clipc_request *clipc_call_request(const clipc_call *call) { return call ? &call->request : NULL; }

int clipc_call_cancelled(const clipc_call *call) { return clipc_pending_done((const clipc_pending *)call); }

size_t clipc_call_items(const clipc_call *call) { return call ? call->n_items : 0; }

/* Room that was not there when the request was made, because nobody knew the dimension. */
static void make_rows(clipc_call *call, size_t dimension) {
  size_t n_floats;
  if (!clipc__multiply(&n_floats, call->n_items, dimension)) return;
  if (call->embeddings_apart) clipc__free(&((clipc_pending *)call)->allocator, call->embeddings);
  call->embeddings = clipc__alloc(&((clipc_pending *)call)->allocator, n_floats, sizeof *call->embeddings);
  call->embeddings_apart = call->embeddings != NULL;
  call->dimension = call->embeddings ? dimension : 0;
}

float *clipc__call_rows(clipc_call *call, size_t dimension) {
  if (call->embeddings == NULL || call->dimension != dimension) make_rows(call, dimension);
  return call->embeddings;
}

float *clipc_call_embedding(clipc_call *call, size_t item) {
  if (call == NULL || call->embeddings == NULL || item >= call->n_items) return NULL;
  return call->embeddings + item * call->dimension;
}

float *clipc_call_probabilities(clipc_call *call, size_t item) {
  if (call == NULL || call->probabilities == NULL || item >= call->n_items) return NULL;
  return call->probabilities + item * call->request.n_labels;
}

clipc_error *clipc_call_item_error(clipc_call *call, size_t item) {
  return call == NULL || item >= call->n_items ? NULL : &call->item_errors[item];
}

bool clipc__call_append_text(clipc_call *call, const char *text, size_t n_bytes) {
  struct clipc__bytes *bytes = &call->text;
  if (n_bytes == SIZE_MAX || !clipc__bytes_reserve(bytes, n_bytes + 1)) return false;
  if (n_bytes > 0) memcpy(bytes->data + bytes->n_bytes, text, n_bytes);
  bytes->n_bytes += n_bytes;
  bytes->data[bytes->n_bytes] = '\0';
  return true;
}

clipc_status clipc_call_set_text(clipc_call *call, const char *text, size_t n_bytes) {
  if (call == NULL || (text == NULL && n_bytes > 0)) return CLIPC_E_INVALID;
  call->text.n_bytes = 0;
  return clipc__call_append_text(call, text, n_bytes) ? CLIPC_OK : CLIPC_E_NO_MEMORY;
}
