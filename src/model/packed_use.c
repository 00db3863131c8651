/* What comes before the first use of a packed file's parts (packed.h): a tower's weights are compared with their
 * checksums on all threads, and repacked in memory where this model's kernels want another shape; the rows of the token
 * embedding are compared when they are first looked at; the tokeniser is built with the first text. Safe from any
 * thread: towers and tokeniser go forward under the file's mutex, rows by atomic states. What is damaged is told of at
 * every use. */
#include "model/packed.h"

#include "base/threads.h"
#include "model/opening.h"

#include <string.h>

#define PACKED_LINEARS_PER_BLOCK 6
#define PACKED_OUTER_LINEARS 2

/* ---- checksums */

struct packed_check {
  const struct clipc__packed *packed;
  const struct packed_section *section;
  size_t first;
  int damaged; /* atomic */
};

static bool packed_chunk_is_sound(const struct clipc__packed *packed, const struct packed_section *section,
                                  size_t chunk) {
  uint64_t begin = (uint64_t)chunk * section->chunk_bytes, left = section->n_bytes - begin;
  size_t n = (size_t)(left < section->chunk_bytes ? left : section->chunk_bytes);
  return clipc__checksum_is(packed->file.data + section->offset + begin, n,
                            &packed->checksums[packed->first_checksum[section - packed->sections] + chunk]);
}

static void packed_check_chunk(void *context, size_t chunk, int slot) {
  (void)slot;
  struct packed_check *check = context;
  if (!packed_chunk_is_sound(check->packed, check->section, check->first + chunk))
    __atomic_store_n(&check->damaged, 1, __ATOMIC_RELAXED);
}

clipc_status clipc__packed_damaged(const struct clipc__packed *packed, const struct packed_section *section,
                                   clipc_error *error) {
  return clipc__fail(error, CLIPC_E_FORMAT, "%s: section \"%s\" is damaged: its checksum is another", packed->path,
                     section->name);
}

/* Compares chunks from *next on, of about n_bytes; false when one is damaged. *next is the number of chunks at the end.
 */
bool clipc__packed_check_some(const struct clipc__packed *packed, const struct packed_section *section, size_t *next,
                              int n_threads, size_t n_bytes) {
  struct packed_check check = {.packed = packed, .section = section, .first = *next};
  size_t n = (size_t)packed_n_chunks(section) - *next, most = n_bytes / section->chunk_bytes + 1;
  if (n > most) n = most;
  clipc__parallel(n_threads, n, packed_check_chunk, &check);
  *next += n;
  return !check.damaged;
}

/* ---- first use */

struct packed_jobs {
  struct clipc__pack_job *list;
  size_t n;
};

static void packed_add(struct packed_jobs *jobs, const struct clipc__linear *to, const struct clipc__linear *from) {
  jobs->list[jobs->n++] = (struct clipc__pack_job){.linear = to, .packed = from};
}

static void packed_add_blocks(struct packed_jobs *jobs, const struct clipc__transformer *to,
                              const struct clipc__transformer *from) {
  for (int i = 0; i < to->config.n_layers; i++) {
    const struct clipc__block_weights *own = &to->blocks[i], *stored = &from->blocks[i];
    for (int l = 0; l < 3; l++) packed_add(jobs, &own->qkv[l], &stored->qkv[l]);
    packed_add(jobs, &own->out, &stored->out);
    packed_add(jobs, &own->fc1, &stored->fc1);
    packed_add(jobs, &own->fc2, &stored->fc2);
  }
}

static void packed_copy(const float *to, const float *from, size_t n) {
  memcpy((float *)(uintptr_t)to, from, n * sizeof *from);
}

static void packed_copy_norm(const struct clipc__norm *to, const struct clipc__norm *from, size_t width) {
  packed_copy(to->weight, from->weight, width);
  packed_copy(to->bias, from->bias, width);
}

/* own is laid out in memory by the time that this is called. */
static void packed_move_vision(struct packed_jobs *jobs, const struct clipc__vision *own,
                               const struct clipc__vision *stored) {
  size_t width = (size_t)own->transformer.config.width;
  packed_add(jobs, &own->patch_embedding, &stored->patch_embedding);
  packed_copy(own->class_embedding, stored->class_embedding, width);
  packed_copy(own->position_embedding, stored->position_embedding, own->n_tokens * width);
  if (own->config.ln_pre) packed_copy_norm(&own->ln_pre, &stored->ln_pre, width);
  packed_add_blocks(jobs, &own->transformer, &stored->transformer);
  packed_copy_norm(&own->ln_post, &stored->ln_post, width);
  if (own->config.projection) packed_add(jobs, &own->projection, &stored->projection);
}

static void packed_move_text(struct packed_jobs *jobs, const struct clipc__text *own,
                             const struct clipc__text *stored) {
  size_t width = (size_t)own->transformer.config.width;
  packed_copy(own->position_embedding, stored->position_embedding, (size_t)own->config.context_length * width);
  packed_add_blocks(jobs, &own->transformer, &stored->transformer);
  packed_copy_norm(&own->ln_final, &stored->ln_final, width);
  if (own->config.projection) packed_add(jobs, &own->projection, &stored->projection);
}

/* Lays the tower out in memory, to be packed anew. */
static clipc_status packed_repack(struct clipc_model *model, bool image, clipc_error *error) {
  struct clipc__packed *packed = model->packed;
  struct packed_tower *tower = &packed->towers[image ? 0 : 1];
  struct clipc__layout stored = {.base = (char *)(uintptr_t)packed->file.data + tower->section->offset};
  struct clipc__layout layout = {.base = NULL};
  tower->arena.allocator = model->allocator;
  clipc_status status = image ? clipc__packed_vision(&tower->stored_vision, &stored, model, &tower->arena, error)
                              : clipc__packed_text(&tower->stored_text, &stored, model, &tower->arena, error);
  if (status != CLIPC_OK) return status;
  const struct clipc__transformer *transformer = image ? &model->vision.transformer : &model->text.transformer;
  struct packed_jobs jobs = {
      .list = clipc__arena_take(&tower->arena,
                                (size_t)transformer->config.n_layers * PACKED_LINEARS_PER_BLOCK + PACKED_OUTER_LINEARS,
                                sizeof *jobs.list)};
  image ? clipc__vision_layout(&layout, &model->vision) : clipc__text_layout(&layout, &model->text);
  layout.base = jobs.list ? clipc__arena_take_unset(&model->arena, layout.n_bytes, 1) : NULL;
  layout.n_bytes = 0;
  if (layout.base == NULL) return clipc__no_memory(error, packed->path);
  if (image) {
    clipc__vision_layout(&layout, &model->vision);
    packed_move_vision(&jobs, &model->vision, &tower->stored_vision);
  } else {
    clipc__text_layout(&layout, &model->text);
    packed_move_text(&jobs, &model->text, &tower->stored_text);
  }
  clipc__packing_begin(&tower->packing, jobs.list, jobs.n);
  return CLIPC_OK;
}

/* A step of it; the file's part is not needed any more afterwards. */
static clipc_status packed_repack_step(struct clipc_model *model, bool image, size_t n_bytes, clipc_error *error) {
  struct clipc__packed *packed = model->packed;
  struct packed_tower *tower = &packed->towers[image ? 0 : 1];
  clipc_status status = CLIPC_OK;
  if (!tower->repacking) {
    status = packed_repack(model, image, error);
    tower->repacking = status == CLIPC_OK;
  } else {
    tower->repack = !clipc__packing_step(&tower->packing, model->n_threads, n_bytes);
    clipc__file_rest(&packed->file);
  }
  if (status != CLIPC_OK || !tower->repack) clipc__arena_free(&tower->arena);
  return status;
}

clipc_status clipc__packed_tower_step(struct clipc_model *model, int which, size_t n_bytes, bool *done,
                                      clipc_error *error) {
  struct clipc__packed *packed = model->packed;
  bool image = which == CLIPC_TOWER_IMAGE;
  struct packed_tower *tower = &packed->towers[image ? 0 : 1];
  clipc_status status = CLIPC_OK;
  if (!tower->ready && tower->checked == PACKED_UNSEEN) {
    if (!clipc__packed_check_some(packed, tower->section, &tower->next_chunk, model->n_threads, n_bytes))
      tower->checked = PACKED_DAMAGED;
    else if (tower->next_chunk == packed_n_chunks(tower->section))
      tower->checked = PACKED_SOUND;
    if (tower->checked != PACKED_DAMAGED) return CLIPC_OK;
  }
  if (tower->checked == PACKED_DAMAGED) return clipc__packed_damaged(packed, tower->section, error);
  if (!tower->ready && tower->repack) return packed_repack_step(model, image, n_bytes, error);
  if (!tower->ready && !image && clipc__text_needs_pads(&model->text.config))
    status = clipc__model_ids_ready(model, &model->text.config.pad_id, 1, error);
  *done = status == CLIPC_OK;
  if (*done) __atomic_store_n(&tower->ready, 1, __ATOMIC_RELEASE);
  return status;
}

clipc_status clipc__model_tower_ready(struct clipc_model *model, int tower, clipc_error *error) {
  struct clipc__packed *packed = model->packed;
  bool image = tower == CLIPC_TOWER_IMAGE, done = false;
  if (packed == NULL || __atomic_load_n(&packed->towers[image ? 0 : 1].ready, __ATOMIC_ACQUIRE)) return CLIPC_OK;
  clipc_status status = CLIPC_OK;
  pthread_mutex_lock(&packed->mutex);
  while (!done && status == CLIPC_OK) status = clipc__packed_tower_step(model, tower, SIZE_MAX, &done, error);
  pthread_mutex_unlock(&packed->mutex);
  return status;
}

double clipc__packed_progress(const struct clipc_model *model, int which) {
  const struct packed_tower *tower = &model->packed->towers[which == CLIPC_TOWER_IMAGE ? 0 : 1];
  const struct clipc__packing *packing = &tower->packing;
  if (packing->n_panels > 0) return (double)packing->next_panel / (double)packing->n_panels;
  return tower->repack ? 0.0 : (double)tower->next_chunk / (double)(packed_n_chunks(tower->section) + 1);
}

/* Two threads may compare the same chunk: both come to the same end. */
clipc_status clipc__model_ids_ready(const struct clipc_model *model, const int32_t *ids, size_t n_ids,
                                    clipc_error *error) {
  struct clipc__packed *packed = model->packed;
  if (packed == NULL || packed->rows == NULL) return CLIPC_OK;
  const struct packed_section *section = packed->rows_section;
  size_t row_bytes = (size_t)model->text.transformer.config.width * sizeof(float);
  for (size_t i = 0; i < n_ids; i++) {
    size_t begin = (size_t)ids[i] * row_bytes, last = (begin + row_bytes - 1) / section->chunk_bytes;
    for (size_t chunk = begin / section->chunk_bytes; chunk <= last; chunk++) {
      uint8_t state = __atomic_load_n(&packed->rows[chunk], __ATOMIC_RELAXED);
      if (state == PACKED_UNSEEN) {
        state = packed_chunk_is_sound(packed, section, chunk) ? PACKED_SOUND : PACKED_DAMAGED;
        __atomic_store_n(&packed->rows[chunk], state, __ATOMIC_RELAXED);
      }
      if (state == PACKED_DAMAGED) return clipc__packed_damaged(packed, section, error);
    }
  }
  return CLIPC_OK;
}

/* Under the mutex. What came of it is kept, unless there was no memory. */
static clipc_status packed_tokenizer_step(const struct clipc_model *model, size_t n_bytes, clipc_error *outcome) {
  struct clipc__packed *packed = model->packed;
  clipc_status status = CLIPC_OK;
  *outcome = packed->tokenizer_error;
  if (packed->tokenizer != NULL || outcome->status != CLIPC_OK) return outcome->status;
  if (packed->tokenizer_opening == NULL)
    status = clipc__model_begin_tokenizer(&packed->tokenizer_opening, model, &packed->store, outcome);
  else
    status = clipc__tokenizer_step(packed->tokenizer_opening, &packed->tokenizer, n_bytes, outcome);
  if (status == CLIPC_OK && packed->tokenizer == NULL) return CLIPC_OK;
  clipc__tokenizer_abandon(packed->tokenizer_opening);
  packed->tokenizer_opening = NULL;
  if (status == CLIPC_E_IO) outcome->status = CLIPC_E_MODEL; /* there are no files for one */
  if (status != CLIPC_E_NO_MEMORY) packed->tokenizer_error = *outcome;
  return outcome->status;
}

clipc_status clipc__packed_tokenizer_step(struct clipc_model *model, size_t n_bytes, bool *done, clipc_error *error) {
  clipc_error outcome;
  clipc_status status = packed_tokenizer_step(model, n_bytes, &outcome);
  *done = model->packed->tokenizer != NULL || status == CLIPC_E_MODEL;
  return status == CLIPC_OK || status == CLIPC_E_MODEL ? CLIPC_OK : clipc__fail(error, status, "%s", outcome.message);
}

clipc_status clipc__model_tokenizer(const struct clipc__tokenizer **out, const struct clipc_model *model,
                                    clipc_error *error) {
  struct clipc__packed *packed = model->packed;
  if (packed == NULL) {
    *out = model->tokenizer;
    return *out ? CLIPC_OK : clipc__fail(error, CLIPC_E_MODEL, "%s", model->tokenizer_error.message);
  }
  clipc_error outcome;
  pthread_mutex_lock(&packed->mutex);
  while (packed_tokenizer_step(model, SIZE_MAX, &outcome) == CLIPC_OK && packed->tokenizer == NULL) continue;
  *out = packed->tokenizer;
  pthread_mutex_unlock(&packed->mutex);
  return outcome.status == CLIPC_OK ? CLIPC_OK : clipc__fail(error, outcome.status, "%s", outcome.message);
}

#undef PACKED_LINEARS_PER_BLOCK
#undef PACKED_OUTER_LINEARS
