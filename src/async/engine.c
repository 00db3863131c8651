/* Our CLIP as an engine, by the calls that a user has: a session per worker, one clipc_step per turn.
 *
 *   calls --pieces of max_batch items--> clipc_begin_images / _texts --steps--> rows --> each call's vectors
 *   VISION: then each call's labels become vectors, unless they are the last ones, and softmax of the logits is the
 * answer
 *
 * Items are the same whoever shares their piece. What a model and its sessions take is counted by an allocator between
 * theirs and the user's, for the memory governor. */
#include "async/async.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- the engine: a model and its memory */

struct clip_model {
  clipc_allocator inner;   /* of all zeros: malloc */
  clipc_allocator counted; /* theirs, which counts */
  atomic_size_t n_bytes;   /* that the model and its sessions have */
  clipc_model *model;
  size_t max_batch;
  bool raw; /* as clipc_session_options */
};

enum { CLIP_HEADER = 16 }; /* before each piece of memory: its size */

static void *counted_allocate(void *context, size_t n_bytes) {
  struct clip_model *clip = context;
  if (n_bytes > SIZE_MAX - CLIP_HEADER) return NULL;
  char *memory = clip->inner.allocate ? clip->inner.allocate(clip->inner.context, n_bytes + CLIP_HEADER)
                                      : malloc(n_bytes + CLIP_HEADER);
  if (memory == NULL) return NULL;
  memcpy(memory, &n_bytes, sizeof n_bytes);
  atomic_fetch_add_explicit(&clip->n_bytes, n_bytes, memory_order_relaxed);
  return memory + CLIP_HEADER;
}

static void counted_release(void *context, void *memory) {
  struct clip_model *clip = context;
  char *start = (char *)memory - CLIP_HEADER;
  size_t n_bytes;
  memcpy(&n_bytes, start, sizeof n_bytes);
  atomic_fetch_sub_explicit(&clip->n_bytes, n_bytes, memory_order_relaxed);
  if (clip->inner.release)
    clip->inner.release(clip->inner.context, start);
  else
    free(start);
}

/* A model is still to be set. */
static struct clip_model *make_clip(const clipc_allocator *inner, size_t max_batch) {
  struct clip_model *clip = clipc__alloc_zeroed(inner, 1, sizeof *clip);
  if (clip == NULL) return NULL;
  clip->inner = *inner;
  clip->counted = (clipc_allocator){counted_allocate, counted_release, clip};
  clip->max_batch = max_batch == 0 ? 32 : max_batch > 65536 ? 65536 : max_batch;
  return clip;
}

static void clip_release(void *self) {
  struct clip_model *clip = self;
  clipc_allocator inner = clip->inner;
  clipc_model_close(clip->model);
  clipc__free(&inner, clip);
}

/* ---- a worker */

struct clip_item {
  size_t call, item;
};

/* The labels of one request, said as the model is to read them. */
struct clip_labels {
  struct clipc__bytes bytes; /* prompt and labels, to tell them from others */
  struct clipc__bytes said;
  clipc_text *texts; /* [n] */
  float *rows;       /* [n, dimension] */
  size_t n;
};

struct clip_worker {
  struct clip_model *clip;
  clipc_session *session;
  clipc_image *images; /* of a piece: [max_batch] each */
  clipc_text *texts;
  struct clip_item *items;
  clipc_error *errors;
  float *rows; /* [max_batch, dimension] */
  size_t n_piece;
  struct clip_item next; /* the first item that was in no piece yet */
  struct clip_labels labels;
};

static void free_labels(struct clip_labels *labels) {
  const clipc_allocator allocator = labels->bytes.allocator;
  clipc__bytes_free(&labels->bytes);
  clipc__bytes_free(&labels->said);
  clipc__free(&allocator, labels->texts);
  clipc__free(&allocator, labels->rows);
  labels->texts = NULL;
  labels->rows = NULL;
  labels->n = 0;
}

static void clip_close_worker(void *self, void *worker) {
  struct clip_worker *w = worker;
  const struct clip_model *clip = self;
  void *arrays[] = {w->images, w->texts, w->items, w->errors, w->rows};
  for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) clipc__free(&clip->counted, arrays[i]);
  free_labels(&w->labels);
  clipc_session_close(w->session);
  clipc__free(&clip->counted, w);
}

static clipc_status clip_open_worker(void *self, void **worker, clipc_error *error) {
  struct clip_model *clip = self;
  const size_t n = clip->max_batch, dimension = clipc_embedding_dimension(clip->model);
  struct clip_worker *w = clipc__alloc_zeroed(&clip->counted, 1, sizeof *w);
  if (w == NULL) return clipc__no_memory(error, "a worker");
  w->clip = clip;
  w->labels.bytes.allocator = w->labels.said.allocator = clip->counted;
  w->images = clipc__alloc(&clip->counted, n, sizeof *w->images);
  w->texts = clipc__alloc(&clip->counted, n, sizeof *w->texts);
  w->items = clipc__alloc(&clip->counted, n, sizeof *w->items);
  w->errors = clipc__alloc(&clip->counted, n, sizeof *w->errors);
  w->rows = clipc__alloc(&clip->counted, n, dimension * sizeof *w->rows);
  clipc_status status = CLIPC_OK;
  if (!w->images || !w->texts || !w->items || !w->errors || !w->rows) status = clipc__no_memory(error, "a worker");
  const clipc_session_options options = {.max_batch = (int)n, .raw = clip->raw};
  if (status == CLIPC_OK) status = clipc_session_open(&w->session, clip->model, &options, error);
  if (status == CLIPC_OK)
    *worker = w;
  else
    clip_close_worker(clip, w);
  return status;
}

/* ---- pieces */

static void put_into_piece(struct clip_worker *w, const clipc_input *input) {
  size_t at = w->n_piece++;
  w->items[at] = w->next;
  if (input->kind == CLIPC_INPUT_TEXT)
    w->texts[at] = clipc_text_utf8(input->data, input->n_bytes);
  else
    w->images[at] = input->kind == CLIPC_INPUT_PATH ? clipc_image_path(input->data)
                                                    : clipc_image_bytes(input->data, input->n_bytes);
}

/* The next items that have not failed. */
static void gather_items(struct clip_worker *w, clipc_call *const *calls, size_t n_calls) {
  w->n_piece = 0;
  for (; w->next.call < n_calls; w->next.call++, w->next.item = 0) {
    const clipc_request *request = clipc_call_request(calls[w->next.call]);
    for (; w->next.item < request->n_inputs; w->next.item++) {
      if (w->n_piece == w->clip->max_batch) return;
      if (clipc_call_item_error(calls[w->next.call], w->next.item)->status == CLIPC_OK)
        put_into_piece(w, &request->inputs[w->next.item]);
    }
  }
}

static clipc_status begin_piece(struct clip_worker *w, bool texts, clipc_error *error) {
  return texts ? clipc_begin_texts(w->session, w->texts, w->n_piece, w->rows, w->errors, error)
               : clipc_begin_images(w->session, w->images, w->n_piece, w->rows, w->errors, error);
}

static void hand_out(struct clip_worker *w, clipc_call *const *calls) {
  const size_t dimension = clipc_embedding_dimension(w->clip->model);
  for (size_t i = 0; i < w->n_piece; i++) {
    clipc_call *call = calls[w->items[i].call];
    if (w->errors[i].status == CLIPC_OK)
      memcpy(clipc_call_embedding(call, w->items[i].item), w->rows + i * dimension, dimension * sizeof *w->rows);
    else
      *clipc_call_item_error(call, w->items[i].item) = w->errors[i];
  }
}

/* ---- labels */

/* Prompt and labels as one string of bytes. */
static bool spell_labels(struct clipc__bytes *bytes, const clipc_request *request) {
  const char *prompt = request->prompt ? request->prompt : "";
  bool fits = clipc__bytes_append(bytes, prompt, strlen(prompt) + 1);
  for (size_t i = 0; i < request->n_labels && fits; i++)
    fits = clipc__bytes_append(bytes, request->labels[i], strlen(request->labels[i]) + 1);
  return fits;
}

static bool say_label(struct clipc__bytes *said, const char *prompt, const char *label) {
  const char *hole = prompt ? strstr(prompt, "{}") : NULL;
  if (hole == NULL) return clipc__bytes_append(said, label, strlen(label));
  return clipc__bytes_append(said, prompt, (size_t)(hole - prompt)) &&
         clipc__bytes_append(said, label, strlen(label)) && clipc__bytes_append(said, hole + 2, strlen(hole + 2));
}

static bool say_labels(struct clip_labels *labels, const clipc_request *request) {
  for (size_t i = 0; i < request->n_labels; i++) {
    size_t before = labels->said.n_bytes;
    if (!say_label(&labels->said, request->prompt, request->labels[i])) return false;
    labels->texts[i] = (clipc_text){.n_bytes = labels->said.n_bytes - before};
  }
  size_t at = 0;
  for (size_t i = 0; i < request->n_labels; at += labels->texts[i++].n_bytes)
    labels->texts[i].utf8 = labels->said.data ? (const char *)labels->said.data + at : "";
  return true;
}

/* *same: the vectors of these labels are there. Else they are about to be computed. */
static clipc_status begin_labels(struct clip_worker *w, const clipc_request *request, bool *same, clipc_error *error) {
  struct clip_labels *labels = &w->labels;
  const clipc_allocator *allocator = &w->clip->counted;
  const size_t dimension = clipc_embedding_dimension(w->clip->model);
  struct clipc__bytes bytes = {.allocator = *allocator};
  if (!spell_labels(&bytes, request)) {
    clipc__bytes_free(&bytes);
    return clipc__no_memory(error, "labels");
  }
  *same = labels->n == request->n_labels && labels->bytes.n_bytes == bytes.n_bytes &&
          memcmp(labels->bytes.data, bytes.data, bytes.n_bytes) == 0;
  if (*same) {
    clipc__bytes_free(&bytes);
    return CLIPC_OK;
  }
  free_labels(labels);
  labels->bytes = bytes;
  labels->texts = clipc__alloc(allocator, request->n_labels, sizeof *labels->texts);
  labels->rows = clipc__alloc(allocator, request->n_labels, dimension * sizeof *labels->rows);
  if (labels->texts == NULL || labels->rows == NULL || !say_labels(labels, request))
    return clipc__no_memory(error, "labels");
  return clipc_begin_texts(w->session, labels->texts, request->n_labels, labels->rows, NULL, error);
}

static clipc_status answer_call(struct clip_worker *w, clipc_call *call, clipc_error *error) {
  const clipc_request *request = clipc_call_request(call);
  for (size_t i = clipc_call_items(call); i-- > 0;) { /* the first one's answer stays */
    if (clipc_call_item_error(call, i)->status != CLIPC_OK) continue;
    float *scores = clipc_call_probabilities(call, i);
    clipc_logits(w->clip->model, scores, clipc_call_embedding(call, i), 1, w->labels.rows, request->n_labels);
    clipc_softmax(scores, scores, request->n_labels);
    size_t best = 0;
    clipc_top_k(&best, 1, scores, request->n_labels);
    if (i == 0 && clipc_call_set_text(call, request->labels[best], strlen(request->labels[best])) != CLIPC_OK)
      return clipc__no_memory(error, "an answer");
  }
  return CLIPC_OK;
}

static void check_labels(clipc_call *const *calls, size_t n_calls) {
  for (size_t c = 0; c < n_calls; c++)
    for (size_t i = 0; clipc_call_request(calls[c])->n_labels == 0 && i < clipc_call_items(calls[c]); i++)
      clipc__fail(clipc_call_item_error(calls[c], i), CLIPC_E_UNSUPPORTED,
                  "a CLIP chooses among labels; there are none");
}

/* ---- computing */

enum { CLIP_START, CLIP_GATHER, CLIP_PIECE, CLIP_LABELS, CLIP_LABELS_STEP };
enum { CLIP_MOMENT_NS = 1000000 };

/* One step of the session; what an item got is in its error, not in the status. */
static clipc_status clip_step(struct clip_worker *w, int *done, clipc_error *error) {
  clipc_status status = clipc_step(w->session, done, error);
  return *done ? CLIPC_OK : status;
}

/* Goes through the calls' labels; next.call is the one whose turn it is. */
static int compute_labels(struct clip_worker *w, clipc_call *const *calls, size_t n_calls, int *at,
                          clipc_error *error) {
  clipc_status status = CLIPC_OK;
  for (; w->next.call < n_calls && status == CLIPC_OK; w->next.call++) {
    clipc_call *call = calls[w->next.call];
    if (clipc_call_request(call)->n_labels == 0) continue;
    bool same = *at == CLIP_LABELS_STEP; /* they have just been computed */
    if (!same && (status = begin_labels(w, clipc_call_request(call), &same, error)) != CLIPC_OK) break;
    if (!same) {
      *at = CLIP_LABELS_STEP;
      return CLIPC_YIELDING;
    }
    *at = CLIP_LABELS;
    w->labels.n = clipc_call_request(call)->n_labels;
    status = answer_call(w, call, error);
  }
  return (int)status;
}

static int clip_turn(struct clip_worker *w, clipc_call *const *calls, size_t n_calls, int *at, clipc_error *error) {
  const clipc_capability capability = clipc_call_request(calls[0])->capability;
  clipc_status status;
  int done = 0;
  switch (*at) {
  case CLIP_START:
    w->next = (struct clip_item){0, 0};
    if (capability == CLIPC_VISION) check_labels(calls, n_calls);
    /* fallthrough */
  case CLIP_GATHER:
    gather_items(w, calls, n_calls);
    *at = CLIP_PIECE;
    if (w->n_piece > 0) {
      status = begin_piece(w, capability == CLIPC_TEXT_EMBEDDING, error);
      return status == CLIPC_OK ? CLIPC_YIELDING : (int)status;
    }
    if (capability != CLIPC_VISION) return CLIPC_OK;
    *at = CLIP_LABELS;
    w->next = (struct clip_item){0, 0};
    return compute_labels(w, calls, n_calls, at, error);
  case CLIP_PIECE:
    if ((status = clip_step(w, &done, error)) != CLIPC_OK) return (int)status;
    if (done) {
      hand_out(w, calls);
      *at = CLIP_GATHER;
      if (capability != CLIPC_VISION && w->next.call == n_calls) return CLIPC_OK;
    }
    return CLIPC_YIELDING;
  case CLIP_LABELS_STEP:
    status = clipc_step(w->session, &done, error);
    if (status != CLIPC_OK) return (int)status; /* a label that is no text */
    if (!done) return CLIPC_YIELDING;
    return compute_labels(w, calls, n_calls, at, error);
  default: return CLIPC_E_INVALID;
  }
}

/* A step of a small model takes less than it costs to go to the end of the queue: as many as fit into a moment are one
 * turn. A host that polls gets them one by one. */
static int clip_compute(clipc_task *task, void *self, void *worker, clipc_call *const *calls, size_t n_calls, int *at,
                        clipc_error *error) {
  (void)self;
  const clipc_runtime *runtime = clipc_task_runtime(task);
  const int64_t moment_ns = clipc__runtime_options(runtime)->n_threads == CLIPC_HOST_DRIVEN ? 0 : CLIP_MOMENT_NS;
  const int64_t end_ns = clipc_runtime_now_ns(runtime) + moment_ns;
  int status;
  do status = clip_turn(worker, calls, n_calls, at, error);
  while (status == CLIPC_YIELDING && clipc_runtime_now_ns(runtime) < end_ns);
  return status;
}

/* ---- engines and loaders */

static clipc_engine clip_engine(struct clip_model *clip) {
  return (clipc_engine){.self = clip,
                        .dimension = clipc_embedding_dimension(clip->model),
                        .open_worker = clip_open_worker,
                        .close_worker = clip_close_worker,
                        .compute = clip_compute,
                        .max_batch = clip->max_batch,
                        .release = clip_release};
}

clipc_status clipc_model_engine(clipc_engine *out, clipc_model *model, const clipc_session_options *options,
                                clipc_error *error) {
  if (out == NULL || model == NULL)
    return clipc__fail(error, CLIPC_E_INVALID, "clipc_model_engine: %s is NULL", out ? "model" : "out");
  int max_batch = options ? options->max_batch : 0;
  if (max_batch < 0 || max_batch > 65536)
    return clipc__fail(error, CLIPC_E_INVALID, "max_batch: %d is not in 0 .. 65536", max_batch);
  struct clip_model *clip = make_clip(&(clipc_allocator){0}, (size_t)max_batch);
  if (clip == NULL) return clipc__no_memory(error, "an engine");
  clip->raw = options && options->raw;
  clip->model = clipc_model_retain(model);
  *out = clip_engine(clip);
  return CLIPC_OK;
}

struct clip_loading {
  struct clip_model *clip;
  clipc_opening *opening;
};

static clipc_status clip_begin_loading(struct clip_loading *loading, const clipc_loader *loader, clipc_error *error) {
  if (loader->source == NULL) return clipc__fail(error, CLIPC_E_INVALID, "clipc_model_loader: path is NULL");
  clipc_options options = loader->options ? *(const clipc_options *)loader->options : (clipc_options){0};
  if ((options.allocator.allocate == NULL) != (options.allocator.release == NULL))
    return clipc__fail(error, CLIPC_E_INVALID, "option allocator: one function of two");
  loading->clip = make_clip(&options.allocator, loader->max_batch);
  if (loading->clip == NULL) return clipc__no_memory(error, "an engine");
  options.allocator = loading->clip->counted;
  return clipc_model_open_begin(&loading->opening, loader->source, &options, error);
}

/* What one worker takes is what one took. */
static clipc_status measure_clip(struct clip_model *clip, clipc_engine *engine, clipc_error *error) {
  const clipc_packing *packing = clipc_model_packing(clip->model);
  size_t before = atomic_load(&clip->n_bytes);
  void *worker = NULL;
  clipc_status status = clip_open_worker(clip, &worker, error);
  if (status != CLIPC_OK) return status;
  engine->shared_bytes = before + (packing ? packing->n_bytes : 0);
  engine->worker_bytes = atomic_load(&clip->n_bytes) - before;
  clip_close_worker(clip, worker);
  return CLIPC_OK;
}

static int clip_load(clipc_task *task, void *frame, const clipc_loader *loader, clipc_engine *engine,
                     clipc_error *error) {
  (void)task;
  struct clip_loading *loading = frame;
  clipc_status status;
  if (loading->opening == NULL) {
    status = clip_begin_loading(loading, loader, error);
    return status == CLIPC_OK ? CLIPC_YIELDING : (int)status;
  }
  status = clipc_model_open_step(loading->opening, &loading->clip->model, error);
  if (status != CLIPC_OK) return (int)status;
  if (loading->clip->model == NULL) return CLIPC_YIELDING;
  *engine = clip_engine(loading->clip);
  if ((status = measure_clip(loading->clip, engine, error)) != CLIPC_OK) return (int)status;
  loading->clip = NULL;
  return CLIPC_OK;
}

static void clip_drop_loading(void *frame) {
  struct clip_loading *loading = frame;
  clipc_opening_close(loading->opening);
  if (loading->clip) clip_release(loading->clip);
}

/* The bytes of a packed file, or of a folder's weights. */
static uint64_t weight_bytes(const char *path) {
  struct stat about;
  if (stat(path, &about) != 0) return 0;
  if (!S_ISDIR(about.st_mode)) return (uint64_t)about.st_size;
  uint64_t n_bytes = 0;
  DIR *folder = opendir(path);
  static const char ending[] = ".safetensors";
  for (struct dirent *file; folder && (file = readdir(folder)) != NULL;) {
    size_t n = strlen(file->d_name);
    if (n < sizeof ending || strcmp(file->d_name + n - (sizeof ending - 1), ending) != 0) continue;
    if (fstatat(dirfd(folder), file->d_name, &about, 0) == 0) n_bytes += (uint64_t)about.st_size;
  }
  if (folder) closedir(folder);
  return n_bytes;
}

clipc_loader clipc_model_loader(const char *path, const clipc_options *options) {
  return (clipc_loader){.name = "CLIP",
                        .run = clip_load,
                        .drop = clip_drop_loading,
                        .frame_bytes = sizeof(struct clip_loading),
                        .source = path,
                        .options = options,
                        .expected_bytes = path ? weight_bytes(path) : 0};
}
