/* Opens a packed file (packed.h) and hands its parts out.
 * In: untrusted bytes. Out: a model whose towers point into the file. When it is opened everything that says where
 * something lies is proven to fit, so that weights may hold any bytes; tables and small files are compared with their
 * checksums then, a tower's weights on all threads when it is first computed with, the rows of the token embedding
 * when they are first looked at.
 * Weights in another shape than this model's kernels want are repacked in memory before the tower is first used. */
#include "model/packed.h"

#include "base/threads.h"
#include "model/opening.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

static clipc_status packed_broken(const struct clipc__packed *packed, const char *what, clipc_error *error) {
  return clipc__fail(error, CLIPC_E_FORMAT, "%s: %s", packed->path, what);
}

/* ---- tables */

bool clipc__is_packed(const char *path) {
  char magic[8];
  FILE *file = fopen(path, "rbe");
  if (file == NULL) return false;
  bool is = fread(magic, 1, sizeof magic, file) == sizeof magic && memcmp(magic, PACKED_MAGIC, sizeof magic) == 0;
  fclose(file);
  return is;
}

static clipc_status packed_read_header(struct clipc__packed *packed, uint64_t max_bytes, clipc_error *error) {
  const struct clipc__file *file = &packed->file;
  struct packed_header *header = &packed->header;
  if (file->n_bytes < sizeof *header) return packed_broken(packed, "a packed file that is cut short", error);
  memcpy(header, file->data, sizeof *header);
  if (memcmp(header->magic, PACKED_MAGIC, sizeof header->magic) != 0)
    return packed_broken(packed, "is not a packed file", error);
  if (header->byte_order == __builtin_bswap32(PACKED_BYTE_ORDER))
    return clipc__fail(error, CLIPC_E_UNSUPPORTED, "%s: was packed for a machine of the other byte order",
                       packed->path);
  if (header->byte_order != PACKED_BYTE_ORDER) return packed_broken(packed, "its header is damaged", error);
  if (header->version != PACKED_VERSION)
    return clipc__fail(error, CLIPC_E_UNSUPPORTED, "%s: is a packed file of version %u, where this clipc reads %u",
                       packed->path, header->version, PACKED_VERSION);
  uint64_t n_tables = sizeof *header + (uint64_t)header->n_sections * sizeof *packed->sections +
                      (uint64_t)header->n_checksums * sizeof *packed->checksums;
  if (n_tables > max_bytes && n_tables <= file->n_bytes)
    return clipc__fail(error, CLIPC_E_LIMIT, "%s: tables of %llu bytes are above the limit of %llu", packed->path,
                       (unsigned long long)n_tables, (unsigned long long)max_bytes);
  size_t covered = offsetof(struct packed_header, checksum) + sizeof header->checksum;
  if (n_tables > file->n_bytes ||
      !clipc__checksum_is(file->data + covered, (size_t)n_tables - covered, &header->checksum))
    return packed_broken(packed, "its tables are damaged or cut short", error);
  if (header->n_bytes != file->n_bytes)
    return clipc__fail(error, CLIPC_E_FORMAT, "%s: has %zu bytes where it was packed with %llu", packed->path,
                       file->n_bytes, (unsigned long long)header->n_bytes);
  if (header->n_sections > PACKED_MAX_SECTIONS) return packed_broken(packed, "has too many sections", error);
  memcpy(packed->sections, file->data + sizeof *header, header->n_sections * sizeof *packed->sections);
  const uint8_t *checksums = file->data + sizeof *header + header->n_sections * sizeof *packed->sections;
  packed->checksums = (const struct clipc__checksum *)(const void *)checksums;
  return CLIPC_OK;
}

static bool packed_is_nought(const uint8_t *bytes, uint64_t n) {
  for (uint64_t i = 0; i < n; i++)
    if (bytes[i] != 0) return false;
  return true;
}

/* A name for sentences and for looking up: printable, and no path. */
static bool packed_name_fits(const char name[40]) {
  size_t n = strnlen(name, 40);
  for (size_t i = 0; i < n; i++)
    if (name[i] < ' ' || name[i] > '~' || name[i] == '/') return false;
  return n > 0 && n < 40;
}

/* The sections lie one behind the other, with nothing but noughts between them, up to the end. */
static clipc_status packed_check_sections(struct clipc__packed *packed, clipc_error *error) {
  const struct packed_header *header = &packed->header;
  const uint8_t *data = packed->file.data;
  uint64_t n_checksums = 0, end = (uint64_t)((const uint8_t *)packed->checksums - data) +
                                  sizeof *packed->checksums * header->n_checksums;
  for (size_t i = 0; i <= header->n_sections; i++) {
    const struct packed_section *section = i < header->n_sections ? &packed->sections[i] : NULL;
    uint64_t offset = section ? section->offset : header->n_bytes;
    if (offset % PACKED_ALIGNMENT != 0 || offset < end || offset > header->n_bytes ||
        offset - end >= PACKED_ALIGNMENT || !packed_is_nought(data + end, offset - end))
      return packed_broken(packed, "is damaged between its sections", error);
    if (section == NULL) break;
    uint32_t chunk = section->chunk_bytes;
    if (!packed_name_fits(section->name) || section->kind > PACKED_TOKENS ||
        section->n_bytes > header->n_bytes - offset || chunk < PACKED_ALIGNMENT || chunk > 1u << 30 ||
        (chunk & (chunk - 1)) != 0 || (section->kind == PACKED_MARK && section->n_bytes > 0))
      return packed_broken(packed, "its table of sections makes no sense", error);
    packed->first_checksum[i] = n_checksums;
    n_checksums += packed_n_chunks(section);
    end = offset + section->n_bytes;
  }
  if (n_checksums != header->n_checksums) return packed_broken(packed, "its table of sections makes no sense", error);
  return CLIPC_OK;
}

static const struct packed_section *packed_find(const struct clipc__packed *packed, enum packed_kind kind) {
  for (size_t i = 0; i < packed->header.n_sections; i++)
    if (packed->sections[i].kind == kind) return &packed->sections[i];
  return NULL;
}

static bool packed_levels_fit(const struct packed_header *header) {
  bool fit = true;
  for (int c = 0; c < 3 && (header->towers & CLIPC_TOWER_IMAGE) != 0; c++)
    fit &= isnormal(header->levels.gain[c]) && header->levels.gain[c] > 0.0f && isfinite(header->levels.shift[c]);
  return fit;
}

/* The gemms say how many bytes weights take: any value that gets past here can be computed with. */
static clipc_status packed_check_gemms(struct clipc__packed *packed, clipc_error *error) {
  static const enum clipc__number numbers[3][2] = {
      {CLIPC__F32, CLIPC__F32}, {CLIPC__BF16, CLIPC__BF16}, {CLIPC__S8, CLIPC__BF16}};
  const struct packed_header *header = &packed->header;
  bool fits = header->precision <= CLIPC_PRECISION_INT8 && header->towers >= 1 && header->towers <= 3 &&
              header->space.towers <= 3 && (header->towers & ~header->space.towers) == 0 &&
              isfinite(header->logit_scale) && isfinite(header->logit_bias) && packed_levels_fit(header);
  for (size_t i = 0; i < 2 && fits; i++) {
    const struct packed_gemm *gemm = &header->gemm[i];
    fits = strnlen(gemm->name, sizeof gemm->name) < sizeof gemm->name &&
           gemm->weights == (uint32_t)numbers[header->precision][i] && gemm->panel_cols >= 8 &&
           gemm->panel_cols <= 4096 && gemm->panel_cols % 8 == 0 && gemm->group <= 64 &&
           (gemm->group & (gemm->group - 1)) == 0 && gemm->pair_limit <= 254;
    packed->gemm[i] = (struct clipc__gemm){.name = gemm->name,
                                           .weights = (enum clipc__number)gemm->weights,
                                           .panel_cols = gemm->panel_cols,
                                           .group = gemm->group,
                                           .pair_limit = (int)gemm->pair_limit};
  }
  if (!fits) return packed_broken(packed, "its header makes no sense", error);
  return CLIPC_OK;
}

/* ---- opening */

/* The small files always, all else if it is asked for; a part of a section at a time. */
static clipc_status packed_check_step(struct clipc__packed *packed, const clipc_options *options, size_t n_bytes,
                                      bool *done, clipc_error *error) {
  const struct packed_section *section = &packed->sections[packed->section];
  if (packed->section == packed->header.n_sections) {
    *done = true;
    return CLIPC_OK;
  }
  bool wanted = section->kind == PACKED_FILE || options->verify == CLIPC_VERIFY_ALL;
  if (wanted && !clipc__packed_check_some(packed, section, &packed->next_chunk, options->n_threads, n_bytes))
    return clipc__packed_damaged(packed, section, error);
  if (wanted && packed->next_chunk < packed_n_chunks(section)) return CLIPC_OK;
  packed->section++;
  packed->next_chunk = 0;
  return CLIPC_OK;
}

static void packed_list(struct clipc__packed *packed) {
  struct clipc__store *store = &packed->store;
  *store = (struct clipc__store){.path = packed->path, .packed = true, .members = packed->members};
  for (size_t i = 0; i < packed->header.n_sections; i++) {
    const struct packed_section *section = &packed->sections[i];
    packed->listed[i] = (clipc_section){section->name, section->offset, section->n_bytes};
    if (section->kind != PACKED_FILE && section->kind != PACKED_MARK) continue;
    const uint8_t *data = section->kind == PACKED_FILE ? packed->file.data + section->offset : NULL;
    packed->members[store->n_members++] = (struct clipc__member){section->name, data, (size_t)section->n_bytes};
  }
  packed->packing = (clipc_packing){.kernels = packed->header.gemm[0].name,
                                    .n_bytes = packed->header.n_bytes,
                                    .sections = packed->listed,
                                    .n_sections = packed->header.n_sections};
}

/* The file, and its tables. */
static clipc_status packed_open(struct clipc_model *model, const char *path, clipc_error *error) {
  const clipc_options *options = &model->options;
  struct clipc__packed *packed = clipc__alloc_zeroed(&model->allocator, 1, sizeof *packed);
  if (packed == NULL) return clipc__no_memory(error, path);
  packed->allocator = model->allocator;
  pthread_mutex_init(&packed->mutex, NULL);
  model->packed = packed;
  packed->path = clipc__arena_string(&model->arena, path, strlen(path));
  if (packed->path == NULL) return clipc__no_memory(error, path);
  clipc_status status =
      clipc__file_open(&packed->file, packed->path, !options->read_weights, UINT64_MAX, &packed->allocator, error);
  if (status == CLIPC_OK) status = packed_read_header(packed, options->limits.max_header_bytes, error);
  if (status == CLIPC_OK) status = packed_check_sections(packed, error);
  if (status == CLIPC_OK) status = packed_check_gemms(packed, error);
  return status;
}

/* The options of the opener against what the file has; the model's become the file's. */
static clipc_status packed_choose(struct clipc_model *model, clipc_error *error) {
  static const char *const names[] = {"f32", "bf16", "int8"};
  const struct clipc__packed *packed = model->packed;
  clipc_options *o = &model->options;
  int towers = (int)packed->header.towers;
  clipc_precision precision = (clipc_precision)packed->header.precision;
  if (o->precision != CLIPC_PRECISION_F32 && o->precision != precision)
    return clipc__fail(error, CLIPC_E_UNSUPPORTED, "option precision: %s is packed in %s, not in %s", packed->path,
                       names[precision], names[o->precision]);
  if (o->gemm == CLIPC_GEMM_OPENBLAS && precision != CLIPC_PRECISION_F32)
    return clipc__fail(error, CLIPC_E_UNSUPPORTED, "option gemm: OpenBLAS multiplies f32 alone, and %s is packed in %s",
                       packed->path, names[precision]);
  if ((o->towers & ~towers) != 0)
    return clipc__fail(error, CLIPC_E_MODEL, "%s: the file has no %s tower", packed->path,
                       towers == CLIPC_TOWER_TEXT ? "image" : "text");
  o->precision = precision;
  if (o->towers == 0) o->towers = towers;
  return CLIPC_OK;
}

/* The copy of a transformer as the file has it. */
static struct clipc__block_weights *packed_blocks(struct clipc__arena *arena, const struct clipc__transformer *own,
                                                  const struct clipc__gemm *gemm) {
  size_t n_layers = (size_t)own->config.n_layers;
  struct clipc__block_weights *blocks = clipc__arena_take(arena, n_layers, sizeof *blocks);
  if (blocks == NULL) return NULL;
  memcpy(blocks, own->blocks, n_layers * sizeof *blocks);
  for (size_t i = 0; i < n_layers; i++) {
    struct clipc__block_weights *block = &blocks[i];
    block->qkv[0].gemm = block->qkv[1].gemm = block->qkv[2].gemm = gemm;
    block->out.gemm = block->fc1.gemm = block->fc2.gemm = gemm;
  }
  return blocks;
}

/* A tower as it lies in the file: the shapes of the model's, with the file's gemms, pointing into the file. n_bytes is
 * what it takes. */
clipc_status clipc__packed_vision(struct clipc__vision *vision, struct clipc__layout *layout,
                                  const struct clipc_model *model, struct clipc__arena *arena, clipc_error *error) {
  const struct clipc__packed *packed = model->packed;
  *vision = model->vision;
  vision->transformer.blocks = packed_blocks(arena, &model->vision.transformer, &packed->gemm[0]);
  if (vision->transformer.blocks == NULL) return clipc__no_memory(error, packed->path);
  bool patches_as_blocks = model->vision.patch_embedding.gemm == model->vision.transformer.blocks[0].out.gemm;
  vision->patch_embedding.gemm = &packed->gemm[patches_as_blocks ? 0 : 1];
  vision->projection.gemm = &packed->gemm[1];
  clipc__vision_layout(layout, vision);
  return CLIPC_OK;
}

clipc_status clipc__packed_text(struct clipc__text *text, struct clipc__layout *layout, const struct clipc_model *model,
                                struct clipc__arena *arena, clipc_error *error) {
  const struct clipc__packed *packed = model->packed;
  *text = model->text;
  text->transformer.blocks = packed_blocks(arena, &model->text.transformer, &packed->gemm[0]);
  if (text->transformer.blocks == NULL) return clipc__no_memory(error, packed->path);
  text->projection.gemm = &packed->gemm[1];
  clipc__text_layout(layout, text);
  return CLIPC_OK;
}

static clipc_status packed_measure(size_t *n_bytes, const struct clipc_model *model, bool image, clipc_error *error) {
  struct clipc__arena arena = {.allocator = model->allocator};
  struct clipc__layout layout = {.base = NULL};
  union {
    struct clipc__vision vision;
    struct clipc__text text;
  } stored;
  clipc_status status = image ? clipc__packed_vision(&stored.vision, &layout, model, &arena, error)
                              : clipc__packed_text(&stored.text, &layout, model, &arena, error);
  clipc__arena_free(&arena);
  *n_bytes = layout.n_bytes;
  return status;
}

static clipc_status packed_wrong_size(const struct clipc__packed *packed, const struct packed_section *section,
                                      size_t needed, clipc_error *error) {
  return clipc__fail(error, CLIPC_E_FORMAT, "%s: section \"%s\" has %llu bytes where its configuration needs %zu",
                     packed->path, section->name, (unsigned long long)section->n_bytes, needed);
}

/* Shapes one tower, and lays it out in the file where it lies there as it is wanted. */
static clipc_status packed_open_tower(struct clipc_model *model, bool image, clipc_error *error) {
  struct clipc__packed *packed = model->packed;
  struct packed_tower *tower = &packed->towers[image ? 0 : 1];
  clipc_status status = image ? clipc__vision_shape(model, error) : clipc__text_shape(model, error);
  if (status != CLIPC_OK) return status;
  if (image) model->vision.levels = packed->header.levels;
  tower->section = packed_find(packed, image ? PACKED_IMAGE : PACKED_TEXT);
  if (tower->section == NULL) return packed_broken(packed, "lacks the section of a tower", error);
  const struct clipc__transformer *transformer = image ? &model->vision.transformer : &model->text.transformer;
  const struct clipc__gemm *outer = image ? model->vision.projection.gemm : model->text.projection.gemm;
  const struct clipc__gemm *inner = transformer->blocks[0].out.gemm;
  tower->repack = !clipc__packing_serves(inner, &packed->gemm[0]) || !clipc__packing_serves(outer, &packed->gemm[1]);
  packed->packing.repacked |= tower->repack;
  if (tower->repack && model->options.refuse_repack)
    return clipc__fail(error, CLIPC_E_UNSUPPORTED, "%s: is packed for %s, where this CPU's kernels are %s",
                       packed->path, packed->gemm[0].name, inner->name);
  size_t needed;
  status = packed_measure(&needed, model, image, error);
  if (status != CLIPC_OK) return status;
  if (tower->section->n_bytes != needed) return packed_wrong_size(packed, tower->section, needed, error);
  if (model->options.verify != CLIPC_VERIFY_USED) tower->checked = PACKED_SOUND; /* it was, or is not to be */
  if (tower->repack) return CLIPC_OK;
  struct clipc__layout layout = {.base = (char *)(uintptr_t)packed->file.data + tower->section->offset};
  image ? clipc__vision_layout(&layout, &model->vision) : clipc__text_layout(&layout, &model->text);
  return CLIPC_OK;
}

static clipc_status packed_open_rows(struct clipc_model *model, clipc_error *error) {
  struct clipc__packed *packed = model->packed;
  const struct packed_section *section = packed_find(packed, PACKED_TOKENS);
  size_t needed = (size_t)model->text.config.vocab_size * (size_t)model->text.transformer.config.width * sizeof(float);
  if (section == NULL) return packed_broken(packed, "lacks the section of the token embedding", error);
  if (section->n_bytes != needed) return packed_wrong_size(packed, section, needed, error);
  model->text.token_embedding = (const float *)(const void *)(packed->file.data + section->offset);
  packed->rows_section = section;
  if (model->options.verify != CLIPC_VERIFY_USED) return CLIPC_OK;
  packed->rows = clipc__alloc_zeroed(&packed->allocator, (size_t)packed_n_chunks(section), 1);
  return packed->rows != NULL ? CLIPC_OK : clipc__no_memory(error, packed->path);
}

static clipc_status packed_open_towers(struct clipc_model *model, clipc_error *error) {
  const struct clipc__packed *packed = model->packed;
  clipc_status status = CLIPC_OK;
  if (model->config.vision.present) status = packed_open_tower(model, true, error);
  if (status == CLIPC_OK && model->config.text.present) status = packed_open_tower(model, false, error);
  if (status == CLIPC_OK && model->config.text.present) status = packed_open_rows(model, error);
  if (status != CLIPC_OK) return status;
  model->logit_scale = packed->header.logit_scale;
  model->logit_bias = packed->header.logit_bias;
  model->embedding_dimension = (size_t)model->config.embedding_dimension;
  return CLIPC_OK;
}

clipc_status clipc__packed_step(struct clipc_model *model, const char *path, size_t n_bytes, bool *done,
                                clipc_error *error) {
  struct clipc__packed *packed = model->packed;
  clipc_status status;
  bool stage_done = true;
  if (packed == NULL) {
    status = packed_open(model, path, error);
    if (status == CLIPC_OK) model->packed->stage = PACKED_AT_CHECKSUMS;
    return status;
  }
  switch (packed->stage) {
  case PACKED_AT_CHECKSUMS:
    stage_done = false;
    status = packed_check_step(packed, &model->options, n_bytes, &stage_done, error);
    if (stage_done) packed_list(packed);
    break;
  case PACKED_AT_CONFIG:
    status = packed_choose(model, error);
    if (status == CLIPC_OK) status = clipc__config_read(&model->config, &packed->store, &model->options, error);
    break;
  default:
    status = packed_open_towers(model, error);
    *done = status == CLIPC_OK;
    return status;
  }
  if (status == CLIPC_OK && stage_done) packed->stage++;
  return status;
}

void clipc__packed_close(struct clipc__packed *packed) {
  if (packed == NULL) return;
  clipc__tokenizer_abandon(packed->tokenizer_opening);
  clipc__tokenizer_close(packed->tokenizer);
  for (int i = 0; i < 2; i++) clipc__arena_free(&packed->towers[i].arena);
  clipc__free(&packed->allocator, packed->rows);
  clipc__file_close(&packed->file);
  pthread_mutex_destroy(&packed->mutex);
  clipc__free(&packed->allocator, packed);
}

const clipc_packing *clipc__packed_packing(const struct clipc__packed *packed) { return &packed->packing; }
