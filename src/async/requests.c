/* A request becomes a pending result: one piece of memory that holds the request's copy and the room for its answer.
 *   pending | item errors | embeddings | probabilities | inputs | labels | bodies | bytes and strings
 * Base64 text is copied as it is and decoded in place by the worker that takes it. */
#include "async/pending.h"
#include "image/base64.h"

#include <string.h>

/* ---- what may be asked */

static bool request_wants_pictures(clipc_capability capability) {
  return capability == CLIPC_IMAGE_EMBEDDING || capability == CLIPC_VISION;
}

static const char *input_fault(const clipc_request *request, const clipc_input *input) {
  if (input->data == NULL) return "an input's data is NULL";
  bool is_text = input->kind == CLIPC_INPUT_TEXT;
  if (input->kind < CLIPC_INPUT_PATH || input->kind > CLIPC_INPUT_TEXT) return "an input is of no known kind";
  if (is_text && request_wants_pictures(request->capability)) return "a text where a picture is wanted";
  if (!is_text && !request_wants_pictures(request->capability)) return "a picture where a text is wanted";
  if (input->kind == CLIPC_INPUT_BYTES && input->n_bytes == 0) return "an input of BYTES without any";
  return NULL;
}

const char *clipc__request_fault(const clipc_request *request) {
  if (request == NULL) return "the request is NULL";
  if ((unsigned)request->capability >= CLIPC_N_CAPABILITIES) return "the request is for no known capability";
  bool generates = request->capability >= CLIPC_TEXT_TO_TEXT;
  if (generates && request->prompt == NULL) return "the prompt is NULL";
  if (generates && request->n_inputs != 0) return "only a prompt is taken, no inputs";
  if (!generates && request->n_inputs == 0 && !request->is_batch) return "the request has no inputs";
  if (request->n_inputs > 0 && request->inputs == NULL) return "the inputs are NULL";
  if (request->n_labels > 0 && request->labels == NULL) return "the labels are NULL";
  if (request->n_labels > 0 && request->capability != CLIPC_VISION) return "labels are for VISION alone";
  if (request->timeout_ms < -1) return "the time limit is below -1";
  if (request->done && request->completions) return "a callback and a queue at once";
  for (size_t i = 0; i < request->n_labels; i++)
    if (request->labels[i] == NULL) return "a label is NULL";
  for (size_t i = 0; i < request->n_inputs; i++) {
    const char *fault = input_fault(request, &request->inputs[i]);
    if (fault) return fault;
  }
  return NULL;
}

/* ---- the copy */

static size_t input_bytes(const clipc_input *input) {
  return input->n_bytes > 0 || input->kind == CLIPC_INPUT_BYTES ? input->n_bytes : strlen(input->data);
}

/* Memory that is given out from one piece, or only counted where base is NULL. */
struct request_room {
  char *base;
  size_t n_bytes;
  bool overflow;
};

static void *room_take(struct request_room *room, size_t n, size_t size, size_t alignment) {
  size_t n_bytes, at = (room->n_bytes + alignment - 1) & ~(alignment - 1);
  if (!clipc__multiply(&n_bytes, n, size) || at < room->n_bytes || n_bytes > SIZE_MAX / 2 - at) {
    room->overflow = true;
    return NULL;
  }
  room->n_bytes = at + n_bytes;
  return room->base ? room->base + at : NULL;
}

static const char *room_string(struct request_room *room, const char *string, size_t n_bytes) {
  char *copy = room_take(room, n_bytes + 1, 1, 1);
  if (copy == NULL) return NULL;
  memcpy(copy, string, n_bytes);
  copy[n_bytes] = '\0';
  return copy;
}

static bool has_urls(const clipc_request *request) {
  for (size_t i = 0; i < request->n_inputs; i++)
    if (request->inputs[i].kind == CLIPC_INPUT_URL) return true;
  return false;
}

/* Lays out, and where there is room copies, everything behind the pending result. */
static void lay_out_call(struct request_room *room, clipc_call *call, const clipc_request *request, size_t dimension) {
  size_t n = request->n_inputs, n_labels = request->n_labels, n_floats = dimension;
  bool vectors = request->capability <= CLIPC_VISION && dimension > 0;
  call->n_items = request->capability >= CLIPC_TEXT_TO_TEXT ? 1 : n;
  call->item_errors = room_take(room, call->n_items, sizeof *call->item_errors, _Alignof(clipc_error));
  if (vectors && clipc__multiply(&n_floats, n, dimension))
    call->embeddings = room_take(room, n_floats, sizeof *call->embeddings, 64);
  call->dimension = vectors ? dimension : 0;
  if (n_labels > 0) {
    if (!clipc__multiply(&n_floats, n, n_labels)) room->overflow = true;
    call->probabilities = room_take(room, n_floats, sizeof *call->probabilities, 64);
  }
  call->inputs = room_take(room, n, sizeof *call->inputs, 16);
  const char **labels = room_take(room, n_labels, sizeof *labels, 16);
  call->bodies = has_urls(request) ? room_take(room, n, sizeof *call->bodies, 16) : NULL;
  for (size_t i = 0; i < n; i++) {
    const clipc_input *input = &request->inputs[i];
    size_t n_bytes = input_bytes(input);
    const char *copy = room_string(room, input->data, n_bytes);
    if (input->kind == CLIPC_INPUT_BASE64) room_take(room, 8, 1, 1); /* what the decoder asks for beyond */
    if (copy) call->inputs[i] = (clipc_input){input->kind, copy, n_bytes};
  }
  for (size_t i = 0; i < n_labels; i++) {
    const char *copy = room_string(room, request->labels[i], strlen(request->labels[i]));
    if (copy) labels[i] = copy;
  }
  call->request.prompt = request->prompt ? room_string(room, request->prompt, strlen(request->prompt)) : NULL;
  call->request.inputs = call->inputs;
  call->request.labels = labels;
}

clipc_status clipc__pending_make(clipc_pending **out, clipc_runtime *runtime, const clipc_request *request,
                                 size_t dimension, clipc_error *error) {
  static const clipc_request nothing = {.is_batch = 1};
  const clipc_allocator *allocator = clipc__runtime_allocator(runtime);
  if (request == NULL) request = &nothing;
  struct request_room room = {.n_bytes = sizeof(clipc_pending)};
  clipc_call counted = {0};
  lay_out_call(&room, &counted, request, dimension);
  clipc_pending *pending = room.overflow ? NULL : clipc__alloc(allocator, 1, room.n_bytes);
  *out = pending;
  if (pending == NULL) return clipc__no_memory(error, "a request");
  memset(pending, 0, sizeof *pending);
  room = (struct request_room){.base = (char *)pending, .n_bytes = sizeof *pending};
  clipc_call *call = &pending->call;
  call->request = *request;
  lay_out_call(&room, call, request, dimension);
  for (size_t i = 0; i < call->n_items; i++)
    call->item_errors[i].status = CLIPC_OK, call->item_errors[i].message[0] = 0;
  if (call->bodies) memset(call->bodies, 0, request->n_inputs * sizeof *call->bodies);
  if (call->probabilities) memset(call->probabilities, 0, call->n_items * request->n_labels * sizeof(float));
  call->text.allocator = pending->allocator = *allocator;
  pending->runtime = clipc__runtime_retain(runtime);
  if (request->completions) clipc__completions_retain(request->completions);
  atomic_store_explicit(&pending->references, 2, memory_order_relaxed);
  return CLIPC_OK;
}

/* ---- decoding */

/* The bytes take the text's place: the decoder writes behind what it has read. */
static void decode_input(clipc_call *call, size_t item, uint64_t max_bytes) {
  clipc_input *input = &call->inputs[item];
  struct clipc__bytes bytes = {.data = (uint8_t *)(uintptr_t)input->data, .capacity = input->n_bytes + 8};
  clipc_status status = clipc__base64_decode(&bytes, input->data, input->n_bytes, max_bytes, &call->item_errors[item]);
  if (status == CLIPC_OK && bytes.n_bytes == 0)
    clipc__fail(&call->item_errors[item], CLIPC_E_FORMAT, "base64: there is nothing in it");
  *input = (clipc_input){CLIPC_INPUT_BYTES, bytes.data, bytes.n_bytes};
}

bool clipc__call_decode(clipc_call *call, size_t *at, uint64_t max_bytes) {
  enum { ENOUGH = 1 << 20 }; /* about a millisecond */
  size_t n_bytes = 0;
  for (; *at < call->request.n_inputs; ++*at) {
    if (call->inputs[*at].kind != CLIPC_INPUT_BASE64) continue;
    if (n_bytes >= ENOUGH) return false;
    n_bytes += call->inputs[*at].n_bytes;
    decode_input(call, *at, max_bytes);
  }
  return true;
}

bool clipc__call_all_failed(const clipc_call *call) {
  for (size_t i = 0; i < call->n_items; i++)
    if (call->item_errors[i].status == CLIPC_OK) return false;
  return call->n_items > 0;
}
