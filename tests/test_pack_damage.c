/* Packed files that are damaged, cut short, or lie, and the checksum that shows it: nothing of a file is believed
 * before it is checked, and what is not compared does no harm. */
#include "model/packed.h"
#include "packs.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the checksum */

static bool same_checksum(const void *a, const void *b, size_t n) {
  struct clipc__checksum sum = clipc__checksum(a, n);
  return clipc__checksum_is(b, n, &sum);
}

static void test_checksum(void **state) {
  (void)state;
  random_start(0);
  static uint8_t bytes[4096 + 61], copy[sizeof bytes];
  for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = i < 1024 ? 0 : (uint8_t)random_bits();
  for (int round = 0; round < 20000; round++) {
    size_t n = round % 5 ? sizeof bytes : 1 + random_below(sizeof bytes), at = random_below((uint32_t)n);
    memcpy(copy, bytes, n);
    assert_true(same_checksum(bytes, copy, n));
    copy[at] ^= (uint8_t)(1u << random_below(8));
    assert_true(clipc__checksum(copy, n).words != clipc__checksum(bytes, n).words);
    memcpy(copy, bytes, n);
    size_t size = round % 2 ? 8 : 64, from = random_below((uint32_t)(4096 / size)),
           to = random_below((uint32_t)(4096 / size));
    if (n == sizeof bytes && memcmp(bytes + from * size, bytes + to * size, size) != 0) { /* they change places */
      memcpy(copy + from * size, bytes + to * size, size);
      memcpy(copy + to * size, bytes + from * size, size);
      assert_false(same_checksum(bytes, copy, n));
    }
  }
  /* floats that differ in their upper bits alone, far apart: what a sum by places confuses */
  static uint32_t words[1 << 18], moved[1 << 18];
  for (int round = 0; round < 200; round++) {
    for (size_t i = 0; i < COUNT(words); i++)
      words[i] = round % 3 == 0 ? 0 : random_bits() % 2 ? 0x3f800000 : round % 3 == 1 ? 0xbf800000 : 0x40000000;
    size_t distance = (size_t)16 << random_below(14),
           at = 8 * random_below((uint32_t)((COUNT(words) - distance) / 8)) + 1;
    words[at] = 0x3f800000, words[at + distance] = round % 2 ? 0xbf800000 : 0x40000000;
    memcpy(moved, words, sizeof words);
    moved[at] = words[at + distance], moved[at + distance] = words[at];
    assert_false(same_checksum(words, moved, sizeof words));
  }
  /* pinned: it is in the files */
  static const uint8_t few[] = "The value is part of the format, and so it never changes: this holds it to that.";
  const struct clipc__checksum of_nothing = {UINT64_C(0x22e2ae0d2f55b7f7), UINT64_C(0x0000000000000000)},
                               of_few = {UINT64_C(0xb88a8c788e078615), UINT64_C(0x7066d9b5a396b46a)};
  assert_true(clipc__checksum_is(few, 0, &of_nothing) && clipc__checksum_is(few, sizeof few - 1, &of_few));
}

/* ---- packed bytes */

struct packed_bytes {
  uint8_t *data;
  size_t n;
  struct packed_header header;
  struct packed_section sections[PACKED_MAX_SECTIONS];
};

static struct packed_bytes packed_make(const char *model, const clipc_options *options) {
  char *folder = synthetic_folder(model, NULL);
  struct packed_bytes bytes = {.data = test_read_file(pack_folder(folder, options, "whole.clipc"), &bytes.n)};
  test_folder_delete(folder);
  memcpy(&bytes.header, bytes.data, sizeof bytes.header);
  memcpy(bytes.sections, bytes.data + sizeof bytes.header, bytes.header.n_sections * sizeof *bytes.sections);
  return bytes;
}

static const struct packed_section *section_named(const struct packed_bytes *bytes, const char *name) {
  for (size_t i = 0; i < bytes->header.n_sections; i++)
    if (strcmp(bytes->sections[i].name, name) == 0) return &bytes->sections[i];
  fail_msg("no section %s", name);
  return NULL;
}

/* Header and tables as given, with a checksum that fits them. */
static void packed_seal(uint8_t *data, size_t n) {
  struct packed_header header;
  memcpy(&header, data, sizeof header);
  uint64_t n_tables = sizeof header + (uint64_t)header.n_sections * 64 + (uint64_t)header.n_checksums * 16;
  if (n_tables > n) return;
  header.checksum = clipc__checksum(data + 32, (size_t)n_tables - 32);
  memcpy(data, &header, sizeof header);
}

/* Opens the bytes and computes with what opens: the first failure, or CLIPC_OK. */
static clipc_status use_bytes(const uint8_t *data, size_t n, const clipc_options *options, clipc_error *error) {
  clipc_model *model;
  clipc_session *session = NULL;
  test_folder_put("used.clipc", data, n);
  *error = (clipc_error){CLIPC_OK, ""};
  clipc_status status = clipc_model_open(&model, pack_path("used.clipc"), options, error);
  if (status != CLIPC_OK) assert_null(model);
  if (status == CLIPC_OK) status = clipc_session_open(&session, model, NULL, error);
  float *vector = status == CLIPC_OK ? calloc(clipc_embedding_dimension(model), sizeof *vector) : NULL;
  if (vector && clipc_towers(model) & CLIPC_TOWER_IMAGE) {
    size_t n_floats = 3 * (size_t)clipc_image_height(model) * (size_t)clipc_image_width(model);
    float *pixels = calloc(n_floats, sizeof *pixels);
    status = clipc_embed_image_pixels(session, pixels, vector, error);
    free(pixels);
  }
  if (vector && status == CLIPC_OK && clipc_towers(model) & CLIPC_TOWER_TEXT) {
    int32_t ids[] = {1, (int32_t)clipc_vocabulary_size(model) - 1};
    status = clipc_embed_ids(session, ids, 2, vector, error);
    if (status == CLIPC_OK) status = clipc_embed_text(session, "a cat", vector, error);
    if (status == CLIPC_E_MODEL) status = CLIPC_OK; /* no tokeniser */
  }
  free(vector);
  clipc_session_close(session);
  clipc_model_close(model);
  assert_int_equal(error->status == CLIPC_E_MODEL ? CLIPC_OK : error->status, status);
  return status;
}

/* ---- damage */

static void test_verify(void **state) {
  (void)state;
  struct packed_bytes bytes = packed_make("hf-words", NULL);
  static const struct {
    const char *section;
    bool image_fails, text_fails, opens;
  } cases[] = {{"config.json", 1, 1, 0}, {"vocab.json", 1, 1, 0}, {"merges.txt", 1, 1, 0},
               {"image tower", 1, 0, 1}, {"text tower", 0, 1, 1}, {"token embedding", 0, 1, 1}};
  for (size_t c = 0; c < COUNT(cases); c++) {
    const struct packed_section *section = section_named(&bytes, cases[c].section);
    bytes.data[section->offset + 40] ^= 0x10; /* of the first rows, in the token embedding */
    test_folder_put("damaged.clipc", bytes.data, bytes.n);
    for (int verify = CLIPC_VERIFY_USED; verify <= CLIPC_VERIFY_NONE; verify++) {
      clipc_options options = {.verify = (clipc_verify)verify};
      clipc_error error = {CLIPC_OK, ""};
      clipc_model *model;
      clipc_status status = clipc_model_open(&model, pack_path("damaged.clipc"), &options, &error);
      if (!cases[c].opens || verify == CLIPC_VERIFY_ALL) {
        pack_expect(status, CLIPC_E_FORMAT, &error, cases[c].section);
        assert_non_null(strstr(error.message, "damaged.clipc"));
        continue;
      }
      assert_int_equal(status, CLIPC_OK);
      for (int again = 0; again < 3; again++) { /* not only the first session */
        clipc_session *session = golden_open_session(model, 1, 0);
        float *vector = calloc(clipc_embedding_dimension(model), sizeof *vector);
        float *pixels =
            calloc(3 * (size_t)clipc_image_height(model) * (size_t)clipc_image_width(model), sizeof *pixels);
        bool checks = verify == CLIPC_VERIFY_USED;
        error = (clipc_error){CLIPC_OK, ""};
        status = clipc_embed_image_pixels(session, pixels, vector, &error);
        if (checks && cases[c].image_fails)
          pack_expect(status, CLIPC_E_FORMAT, &error, cases[c].section);
        else if (checks)
          assert_int_equal(status, CLIPC_OK);
        error = (clipc_error){CLIPC_OK, ""};
        status = clipc_embed_ids(session, (const int32_t[]){0, 1, 2}, 3, vector, &error);
        if (checks && cases[c].text_fails)
          pack_expect(status, CLIPC_E_FORMAT, &error, cases[c].section);
        else if (checks)
          assert_int_equal(status, CLIPC_OK);
        free(vector);
        free(pixels);
        clipc_session_close(session);
      }
      clipc_model_close(model);
    }
    bytes.data[section->offset + 40] ^= 0x10;
  }
  free(bytes.data);
}

/* Only the parts of the token embedding that are looked at are compared. */
static void test_rows_are_compared_one_by_one(void **state) {
  (void)state;
  char *path = pack_folder("models/tiny", NULL, "rows.clipc");
  struct packed_bytes bytes = {.data = test_read_file(path, &bytes.n)};
  memcpy(&bytes.header, bytes.data, sizeof bytes.header);
  memcpy(bytes.sections, bytes.data + sizeof bytes.header, bytes.header.n_sections * sizeof *bytes.sections);
  const struct packed_section *section = section_named(&bytes, "token embedding");
  assert_true(section->n_bytes > 3 * PACKED_ROWS_CHUNK);
  bytes.data[section->offset + section->n_bytes - 1] ^= 1;
  test_folder_put("rows.clipc", bytes.data, bytes.n);
  clipc_model *model = golden_open_model(path, NULL);
  clipc_session *session = golden_open_session(model, 1, 0);
  float *vector = calloc(clipc_embedding_dimension(model), sizeof *vector);
  clipc_error error = {CLIPC_OK, ""};
  int32_t last = (int32_t)clipc_vocabulary_size(model) - 1;
  for (int again = 0; again < 2; again++) {
    assert_int_equal(clipc_embed_ids(session, (const int32_t[]){0, 1}, 2, vector, NULL), CLIPC_OK);
    pack_expect(clipc_embed_ids(session, (const int32_t[]){0, last}, 2, vector, &error), CLIPC_E_FORMAT, &error,
                "token embedding");
  }
  free(vector);
  clipc_session_close(session);
  clipc_model_close(model);
  free(bytes.data);
}

/* Any one byte changed: with all checksums it is always noticed, without it may do no harm. */
static void test_altered_bytes(void **state) {
  (void)state;
  random_start(0);
  struct packed_bytes bytes = packed_make("hf-words", &(clipc_options){.precision = CLIPC_PRECISION_INT8});
  uint64_t n_tables = sizeof bytes.header + bytes.header.n_sections * 64 + bytes.header.n_checksums * 16;
  for (size_t i = 0; i < 1200; i++) {
    size_t at = i < n_tables && i < 500 ? i : random_below((uint32_t)bytes.n);
    if (i >= 500 && i % 4 == 0) { /* where the last bytes of a section are, and what is behind them */
      const struct packed_section *section = &bytes.sections[random_below(bytes.header.n_sections)];
      at = section->offset + section->n_bytes + random_below(8) - 4;
      if (at >= bytes.n) at = bytes.n - 1;
    }
    uint8_t change = (uint8_t)(1 + random_below(255));
    clipc_error error;
    bytes.data[at] ^= change;
    clipc_status status = use_bytes(bytes.data, bytes.n, &(clipc_options){.verify = CLIPC_VERIFY_ALL}, &error);
    if (status == CLIPC_OK) fail_msg("byte %zu changed by %02x is not noticed", at, change);
    if (i % 3 == 0) use_bytes(bytes.data, bytes.n, &(clipc_options){.verify = CLIPC_VERIFY_USED}, &error);
    if (i % 3 == 1) use_bytes(bytes.data, bytes.n, &(clipc_options){.verify = CLIPC_VERIFY_NONE}, &error);
    bytes.data[at] ^= change;
  }
  clipc_error error;
  assert_int_equal(use_bytes(bytes.data, bytes.n, NULL, &error), CLIPC_OK);
  free(bytes.data);
}

static void test_cut_short(void **state) {
  (void)state;
  random_start(0);
  struct packed_bytes bytes = packed_make("hf-words", NULL);
  size_t lengths[400] = {0, 1, 7, 8, 9, 15, 16, 23, 24, 127, 128, 129, 4095, 4096}, n = 14;
  for (size_t i = 0; i < bytes.header.n_sections; i++)
    for (int d = -1; d <= 1; d++) {
      lengths[n++] = bytes.sections[i].offset + (size_t)d;
      lengths[n++] = bytes.sections[i].offset + bytes.sections[i].n_bytes + (size_t)d;
    }
  while (n < COUNT(lengths) - 1) lengths[n++] = random_below((uint32_t)bytes.n);
  lengths[n++] = bytes.n - 1;
  for (size_t i = 0; i < n; i++) {
    if (lengths[i] >= bytes.n) continue;
    clipc_error error;
    clipc_options options = {.verify = (clipc_verify)(i % 3), .read_weights = i % 2};
    clipc_status status = use_bytes(bytes.data, lengths[i], &options, &error);
    if (status != (lengths[i] < 8 ? CLIPC_E_IO : CLIPC_E_FORMAT)) fail_msg("%zu bytes: %s", lengths[i], error.message);
  }
  uint8_t *longer = calloc(bytes.n + 4096, 1);
  memcpy(longer, bytes.data, bytes.n);
  clipc_error error;
  pack_expect(use_bytes(longer, bytes.n + 4096, NULL, &error), CLIPC_E_FORMAT, &error, "was packed with");
  free(longer);
  free(bytes.data);
}

/* ---- what was never a packed file of ours */

/* Tables that lie under a checksum that fits. */
static void test_lies(void **state) {
  (void)state;
  random_start(0);
  struct packed_bytes bytes = packed_make("hf-words", &(clipc_options){.tier = CLIPC_TIER_PLAIN_C});
  uint8_t *copy = malloc(bytes.n);
  struct packed_header *header = (struct packed_header *)(void *)copy;
  struct packed_section *sections = (struct packed_section *)(void *)(copy + sizeof *header);
  size_t image = (size_t)(section_named(&bytes, "image tower") - bytes.sections);
  size_t tokens = (size_t)(section_named(&bytes, "token embedding") - bytes.sections);
#define LIE(change, status, says)                                                                                      \
  do {                                                                                                                 \
    clipc_error error;                                                                                                 \
    memcpy(copy, bytes.data, bytes.n);                                                                                 \
    change;                                                                                                            \
    packed_seal(copy, bytes.n);                                                                                        \
    pack_expect(use_bytes(copy, bytes.n, &(clipc_options){.verify = CLIPC_VERIFY_NONE}, &error), status, &error,       \
                says);                                                                                                 \
  } while (0)
  LIE(header->version += 1, CLIPC_E_UNSUPPORTED, "of version");
  LIE(header->version -= 1, CLIPC_E_UNSUPPORTED, "of version");
  LIE(header->byte_order = 0x04030201, CLIPC_E_UNSUPPORTED, "byte order");
  LIE(header->byte_order = 7, CLIPC_E_FORMAT, "header");
  LIE(header->magic[2] = 'x', CLIPC_E_IO, "not a packed model");
  LIE(header->precision = 3, CLIPC_E_FORMAT, "header");
  LIE(header->precision = CLIPC_PRECISION_INT8, CLIPC_E_FORMAT, "header");
  LIE(header->towers = 0, CLIPC_E_FORMAT, "header");
  LIE(header->towers = CLIPC_TOWER_IMAGE | 8, CLIPC_E_FORMAT, "header");
  LIE(header->logit_scale = NAN, CLIPC_E_FORMAT, "header");
  LIE(header->levels.gain[0] = 0, CLIPC_E_FORMAT, "header");
  LIE(header->levels.gain[1] = -1, CLIPC_E_FORMAT, "header");
  LIE(header->levels.gain[2] = 1e-40f, CLIPC_E_FORMAT, "header");
  LIE(header->levels.gain[2] = NAN, CLIPC_E_FORMAT, "header");
  LIE(header->levels.shift[0] = INFINITY, CLIPC_E_FORMAT, "header");
  LIE(header->n_bytes += 4096, CLIPC_E_FORMAT, "was packed with");
  LIE(header->n_sections = UINT32_MAX, CLIPC_E_FORMAT, "tables");
  LIE(header->n_checksums = UINT32_MAX, CLIPC_E_FORMAT, "tables");
  LIE(header->n_checksums -= 1, CLIPC_E_FORMAT, "");
  LIE(header->gemm[0].panel_cols = 0, CLIPC_E_FORMAT, "header");
  LIE(header->gemm[0].panel_cols = 12, CLIPC_E_FORMAT, "header");
  LIE(header->gemm[0].panel_cols = UINT32_MAX - 7, CLIPC_E_FORMAT, "header");
  LIE(header->gemm[0].panel_cols = 4096, CLIPC_E_FORMAT, "image tower");
  LIE(header->gemm[1].group = 3, CLIPC_E_FORMAT, "header");
  LIE(header->gemm[1].group = 64, CLIPC_E_FORMAT, "image tower");
  LIE(header->gemm[0].weights = CLIPC__U8, CLIPC_E_FORMAT, "header");
  LIE(memset(header->gemm[0].name, 'x', 16), CLIPC_E_FORMAT, "header");
  LIE(sections[image].offset += 4096, CLIPC_E_FORMAT, "sections");
  LIE(sections[image].offset = 0, CLIPC_E_FORMAT, "sections");
  LIE(sections[image].offset = UINT64_MAX - 4095, CLIPC_E_FORMAT, "sections");
  LIE(sections[image].n_bytes = UINT64_MAX, CLIPC_E_FORMAT, "sections");
  LIE(sections[image].n_bytes -= 64, CLIPC_E_FORMAT, "");
  LIE(sections[image].kind = PACKED_FILE, CLIPC_E_FORMAT, "tower");
  LIE(sections[image].kind = 99, CLIPC_E_FORMAT, "sections");
  LIE(sections[image].chunk_bytes = 0, CLIPC_E_FORMAT, "sections");
  LIE(sections[image].chunk_bytes = 4096, CLIPC_E_FORMAT, "sections");
  LIE(memset(sections[image].name, 'x', 40), CLIPC_E_FORMAT, "sections");
  LIE(strcpy(sections[image].name, "../x"), CLIPC_E_FORMAT, "sections");
  LIE(sections[tokens].kind = PACKED_TEXT, CLIPC_E_FORMAT, "token embedding");
  LIE(strcpy(sections[0].name, "other.json"), CLIPC_E_IO, "no config.json");
#undef LIE
  for (int i = 0; i < 3000; i++) { /* anything, by chance: no crash */
    clipc_error error;
    memcpy(copy, bytes.data, bytes.n);
    for (int k = 0; k <= i % 3; k++) {
      uint32_t *word = (uint32_t *)(void *)copy + 8 +
                       random_below(((uint32_t)sizeof *header + bytes.header.n_sections * 64) / 4 - 8);
      uint32_t values[] = {random_bits(),          0,           UINT32_MAX, *word + 1, *word - 1, *word * 2,
                           1u << random_below(32), *word + 4096};
      *word = values[random_below(COUNT(values))];
    }
    packed_seal(copy, bytes.n);
    use_bytes(copy, bytes.n,
              &(clipc_options){.verify = CLIPC_VERIFY_NONE, .tier = i % 2 ? CLIPC_TIER_PLAIN_C : CLIPC_TIER_BEST},
              &error);
  }
  free(copy);
  free(bytes.data);
}

static void test_what_it_is_not(void **state) {
  (void)state;
  clipc_error error = {CLIPC_OK, ""};
  clipc_model *model;
  pack_expect(clipc_model_open(&model, "models/tiny/model.safetensors", NULL, &error), CLIPC_E_IO, &error,
              "not a packed model");
  pack_expect(clipc_model_open(&model, "models/tinier", NULL, &error), CLIPC_E_IO, &error, "no such folder or file");
  char *folder = synthetic_folder("hf-quick", NULL);
  char *path = pack_folder(folder, &(clipc_options){.precision = CLIPC_PRECISION_BF16, .towers = CLIPC_TOWER_IMAGE},
                           "image.clipc");
  pack_expect(clipc_model_open(&model, path, &(clipc_options){.precision = CLIPC_PRECISION_INT8}, &error),
              CLIPC_E_UNSUPPORTED, &error, "packed in bf16");
  pack_expect(clipc_model_open(&model, path, &(clipc_options){.towers = CLIPC_TOWER_TEXT}, &error), CLIPC_E_MODEL,
              &error, "no text tower");
  pack_expect(clipc_model_open(&model, path, &(clipc_options){.limits.max_header_bytes = 100}, &error), CLIPC_E_LIMIT,
              &error, "tables");
  pack_expect(clipc_model_open(&model, path, &(clipc_options){.limits.max_config_bytes = 10}, &error), CLIPC_E_LIMIT,
              &error, "image.clipc/config.json");
  if (clipc__has_blas())
    pack_expect(clipc_model_open(&model, path, &(clipc_options){.gemm = CLIPC_GEMM_OPENBLAS}, &error),
                CLIPC_E_UNSUPPORTED, &error, "OpenBLAS");
  assert_int_equal(clipc_model_open(&model, path, NULL, NULL), CLIPC_OK);
  assert_int_equal(clipc_model_precision(model), CLIPC_PRECISION_BF16);
  assert_int_equal(clipc_towers(model), CLIPC_TOWER_IMAGE);
  pack_expect(clipc_model_pack(model, pack_path("again.clipc"), &error), CLIPC_E_UNSUPPORTED, &error, "packed file");
  pack_expect(clipc_model_pack(NULL, path, &error), CLIPC_E_INVALID, &error, "model");
  pack_expect(clipc_model_pack(model, NULL, &error), CLIPC_E_INVALID, &error, "path");
  const clipc_packing *packing = clipc_model_packing(model);
  assert_true(packing && packing->n_sections >= 3 && !packing->repacked);
  assert_string_equal(packing->sections[0].name, "config.json");
  clipc_model_close(model);
  model = golden_open_model(folder, NULL);
  assert_null(clipc_model_packing(model));
  assert_null(clipc_model_packing(NULL));
  clipc_model_close(model);
  test_folder_delete(folder);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_checksum),
      cmocka_unit_test(test_verify),
      cmocka_unit_test(test_rows_are_compared_one_by_one),
      cmocka_unit_test(test_altered_bytes),
      cmocka_unit_test(test_cut_short),
      cmocka_unit_test(test_lies),
      cmocka_unit_test(test_what_it_is_not),
  };
  return cmocka_run_group_tests_name("pack_damage", tests, test_folder_make, test_folder_remove);
}
