/* Writes a packed file (packed.h).
 * In: a model from a folder, whose towers are packed in memory, and the small files of that folder. Out: one file,
 * which takes its name when all of it is on the disk. The same model gives the same bytes. */
#include "model/packed.h"

#include "base/threads.h"
#include "base/writer.h"

#include <stdio.h>
#include <string.h>

static const char *const pack_config_files[] = {"config.json", "open_clip_config.json", "processor_config.json",
                                                "preprocessor_config.json", NULL};
static const char *const pack_tokenizer_files[] = {
    "tokenizer.json",          "vocab.json",        "merges.txt", "bpe_simple_vocab_16e6.txt", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", NULL};

const char *const *clipc__config_files(void) { return pack_config_files; }

const char *const *clipc__tokenizer_files(void) { return pack_tokenizer_files; }

struct pack_job {
  const struct clipc_model *model;
  struct clipc__store folder;
  struct packed_header header;
  struct packed_section sections[PACKED_MAX_SECTIONS];
  const void *data[PACKED_MAX_SECTIONS];
  struct clipc__file files[PACKED_MAX_SECTIONS]; /* of small files, as they were read */
  uint64_t first_checksum[PACKED_MAX_SECTIONS];
  struct clipc__checksum *checksums;
  char inferred[CLIPC__INFERRED_BYTES];
  struct clipc__config whole; /* of the folder, whatever of it is open */
  clipc_status status;
  clipc_error *error;
};

/* ---- what goes in */

static void pack_add(struct pack_job *job, const char *name, enum packed_kind kind, const void *data, size_t n_bytes) {
  size_t i = job->header.n_sections++;
  struct packed_section *section = &job->sections[i];
  snprintf(section->name, sizeof section->name, "%s", name);
  section->kind = kind;
  section->chunk_bytes = kind == PACKED_TOKENS ? PACKED_ROWS_CHUNK : PACKED_CHUNK;
  section->n_bytes = n_bytes;
  job->data[i] = data;
  job->first_checksum[i] = job->header.n_checksums;
  job->header.n_checksums += (uint32_t)packed_n_chunks(section);
}

/* Reads a small file of the folder, if it is there. */
static bool pack_file(struct pack_job *job, const char *name) {
  const clipc_allocator *allocator = &job->model->allocator;
  if (job->status != CLIPC_OK) return false;
  struct clipc__file *file = &job->files[job->header.n_sections];
  char *path = clipc__store_path(&job->folder, name, allocator);
  bool found = path && clipc__store_has(&job->folder, path);
  if (path == NULL) job->status = clipc__no_memory(job->error, name);
  if (found)
    job->status =
        clipc__store_open(file, &job->folder, path, job->model->options.limits.max_config_bytes, allocator, job->error);
  clipc__free(allocator, path);
  if (!found || job->status != CLIPC_OK) return false;
  pack_add(job, name, PACKED_FILE, file->data, file->n_bytes);
  return true;
}

static void pack_files(struct pack_job *job) {
  bool configured = false;
  for (size_t i = 0; pack_config_files[i] != NULL; i++) {
    bool found = pack_file(job, pack_config_files[i]);
    configured |= found && i < 2;
  }
  if (!configured) {
    clipc__config_inferred_text(job->inferred, &job->whole);
    pack_add(job, CLIPC__INFERRED_FILE, PACKED_FILE, job->inferred, strlen(job->inferred));
  }
  pack_add(job, job->model->weights_name, PACKED_MARK, NULL, 0);
  if (!job->model->config.text.present) return;
  bool whole = false;
  for (size_t i = 0; pack_tokenizer_files[i] != NULL; i++) {
    bool of_parts = i >= 1 && i <= 3; /* which tokenizer.json makes needless */
    if (of_parts && whole) continue;
    whole |= pack_file(job, pack_tokenizer_files[i]) && i == 0;
  }
}

static void pack_towers(struct pack_job *job) {
  const struct clipc_model *model = job->model;
  if (model->config.vision.present)
    pack_add(job, "image tower", PACKED_IMAGE, model->memory[0].base, model->memory[0].n_bytes);
  if (!model->config.text.present) return;
  pack_add(job, "text tower", PACKED_TEXT, model->memory[1].base, model->memory[1].n_bytes);
  size_t n_floats = (size_t)model->text.config.vocab_size * (size_t)model->text.transformer.config.width;
  pack_add(job, "token embedding", PACKED_TOKENS, model->text.token_embedding, n_floats * sizeof(float));
}

static struct packed_gemm pack_gemm(const struct clipc__gemm *gemm) {
  struct packed_gemm packed = {.weights = gemm->weights,
                               .panel_cols = gemm->panel_cols,
                               .group = gemm->group,
                               .pair_limit = (uint32_t)gemm->pair_limit};
  snprintf(packed.name, sizeof packed.name, "%s", gemm->name);
  return packed;
}

static void pack_header(struct pack_job *job) {
  const struct clipc_model *model = job->model;
  const struct clipc__transformer *transformer =
      model->config.vision.present ? &model->vision.transformer : &model->text.transformer;
  const struct clipc__linear *outer =
      model->config.vision.present ? &model->vision.projection : &model->text.projection;
  struct packed_header *header = &job->header;
  memcpy(header->magic, PACKED_MAGIC, sizeof header->magic);
  header->version = PACKED_VERSION;
  header->byte_order = PACKED_BYTE_ORDER;
  header->precision = (uint32_t)model->options.precision;
  header->towers =
      (model->config.vision.present ? CLIPC_TOWER_IMAGE : 0u) | (model->config.text.present ? CLIPC_TOWER_TEXT : 0u);
  header->logit_scale = model->logit_scale;
  header->logit_bias = model->logit_bias;
  header->gemm[0] = pack_gemm(transformer->blocks[0].out.gemm);
  header->gemm[1] = pack_gemm(outer->gemm);
  if (model->config.vision.present) header->levels = model->vision.levels;
  uint64_t at =
      sizeof *header + header->n_sections * sizeof *job->sections + header->n_checksums * sizeof *job->checksums;
  for (size_t i = 0; i < header->n_sections; i++) {
    job->sections[i].offset = packed_align(at);
    at = job->sections[i].offset + job->sections[i].n_bytes;
  }
  header->n_bytes = packed_align(at);
}

/* ---- checksums and writing */

static void pack_checksum(void *context, size_t chunk, int slot) {
  (void)slot;
  struct pack_job *job = context;
  size_t i = job->header.n_sections - 1;
  while (job->first_checksum[i] > chunk || packed_n_chunks(&job->sections[i]) == 0) i--;
  const struct packed_section *section = &job->sections[i];
  uint64_t begin = (chunk - job->first_checksum[i]) * section->chunk_bytes, left = section->n_bytes - begin;
  job->checksums[chunk] = clipc__checksum((const char *)job->data[i] + begin,
                                          (size_t)(left < section->chunk_bytes ? left : section->chunk_bytes));
}

/* The checksum of the tables takes them in one piece. */
static clipc_status pack_seal(struct pack_job *job) {
  struct packed_header *header = &job->header;
  struct clipc__bytes tables = {.allocator = job->model->allocator};
  size_t covered = offsetof(struct packed_header, checksum) + sizeof header->checksum;
  bool done = clipc__bytes_append(&tables, (const char *)header + covered, sizeof *header - covered) &&
              clipc__bytes_append(&tables, job->sections, header->n_sections * sizeof *job->sections) &&
              clipc__bytes_append(&tables, job->checksums, header->n_checksums * sizeof *job->checksums);
  if (done) header->checksum = clipc__checksum(tables.data, tables.n_bytes);
  clipc__bytes_free(&tables);
  return done ? CLIPC_OK : clipc__no_memory(job->error, "the tables of a packed file");
}

static clipc_status pack_write(struct pack_job *job, const char *path) {
  struct clipc__writer writer = {.path = NULL};
  const struct packed_header *header = &job->header;
  clipc_status status = clipc__writer_open(&writer, path, &job->model->allocator, job->error);
  if (status != CLIPC_OK) return status;
  clipc__writer_put(&writer, header, sizeof *header);
  clipc__writer_put(&writer, job->sections, header->n_sections * sizeof *job->sections);
  clipc__writer_put(&writer, job->checksums, header->n_checksums * sizeof *job->checksums);
  for (size_t i = 0; i < header->n_sections; i++) {
    clipc__writer_fill(&writer, job->sections[i].offset);
    clipc__writer_put(&writer, job->data[i], (size_t)job->sections[i].n_bytes);
  }
  clipc__writer_fill(&writer, header->n_bytes);
  return clipc__writer_close(&writer, status, job->error);
}

clipc_status clipc__model_write(const struct clipc_model *model, const char *path, clipc_error *error) {
  struct pack_job *job = clipc__alloc_zeroed(&model->allocator, 1, sizeof *job);
  if (job == NULL) return clipc__no_memory(error, path);
  job->model = model;
  job->folder.path = model->folder;
  job->error = error;
  job->status = clipc__space_of_folder(&job->header.space, &job->whole, model->folder, &model->options, error);
  pack_files(job);
  if (job->status == CLIPC_OK) {
    pack_towers(job);
    pack_header(job);
    job->checksums = clipc__alloc(&model->allocator, job->header.n_checksums, sizeof *job->checksums);
    if (job->checksums == NULL) job->status = clipc__no_memory(error, path);
  }
  if (job->status == CLIPC_OK) {
    clipc__parallel(model->n_threads, job->header.n_checksums, pack_checksum, job);
    job->status = pack_seal(job);
  }
  if (job->status == CLIPC_OK) job->status = pack_write(job, path);
  clipc_status status = job->status;
  for (size_t i = 0; i < PACKED_MAX_SECTIONS; i++) clipc__file_close(&job->files[i]);
  clipc__free(&model->allocator, job->checksums);
  clipc__free(&model->allocator, job);
  return status;
}
