/* Packed files: the same vectors as the folder's, in every precision and after repacking; nothing of them is believed
 * before it is checked; they are written whole or not at all; each allocation may fail. */
#include "base/writer.h"
#include "configs.h"
#include "golden.h"
#include "model/packed.h"
#include "tokenizers.h"

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char *in_folder(const char *name) {
  static char paths[16][512];
  static int next;
  char *path = paths[next++ % 16];
  snprintf(path, sizeof paths[0], "%s/%s", test_folder, name);
  return path;
}

/* Packs a folder; returns the file's path. */
static char *pack_folder(const char *folder, const clipc_options *options, const char *name) {
  clipc_error error = {CLIPC_OK, ""};
  clipc_model *model = golden_open_model(folder, options);
  char *path = in_folder(name);
  if (clipc_model_pack(model, path, &error) != CLIPC_OK) fail_msg("%s", error.message);
  clipc_model_close(model);
  return path;
}

/* All cases of the towers that are open, pixels and ids: images first. */
static float *embed_all(const char *path, const struct golden *golden, const clipc_options *options, size_t *n_floats) {
  clipc_model *model = golden_open_model(path, options);
  clipc_session *session = golden_open_session(model, 4, 0);
  float *vectors = calloc(2 * GOLDEN_MOST_CASES * golden->dimension, sizeof *vectors);
  assert_non_null(vectors);
  *n_floats = 0;
  for (int tower = CLIPC_TOWER_IMAGE; tower <= CLIPC_TOWER_TEXT; tower++) {
    if (!(clipc_towers(model) & tower)) continue;
    struct golden_inputs *in = golden_gather(golden, tower, CLIPC_REFERENCE_AUTO);
    float *part = golden_embed(session, in, tower, golden->dimension);
    memcpy(vectors + *n_floats, part, in->n * golden->dimension * sizeof *part);
    *n_floats += in->n * golden->dimension;
    free(part);
    golden_inputs_free(in);
  }
  clipc_session_close(session);
  clipc_model_close(model);
  return vectors;
}

static double worst_cosine(const float *a, const float *b, size_t n, size_t dimension) {
  double worst = 1;
  for (size_t i = 0; i < n; i += dimension) worst = fmin(worst, (double)clipc_cosine(a + i, b + i, dimension));
  return worst;
}

static void expect(clipc_status status, clipc_status expected, const clipc_error *error, const char *says) {
  if (status != expected || error->status != expected || !strstr(error->message, says))
    fail_msg("%s (%s) where %s was expected to say \"%s\"", clipc_status_name(status), error->message,
             clipc_status_name(expected), says);
}

/* ---- the same numbers */

static void test_same_as_the_folder(void **state) {
  static const char *const models[] = {
      "hf-quick", "hf-sharded",     "hf-override",  "hf-text", "hf-vision-projection", "oc-clipa", "oc-mean",
      "oc-first", "oc-unprojected", "oc-old-names", "hf-words"};
  (void)state;
  for (size_t m = 0; m < COUNT(models); m++) {
    struct golden golden = golden_load(models[m]);
    char *folder = synthetic_folder(models[m], NULL);
    for (int precision = CLIPC_PRECISION_F32; precision <= CLIPC_PRECISION_INT8; precision++) {
      clipc_options as = {.precision = (clipc_precision)precision};
      size_t n, n_packed;
      float *expected = embed_all(folder, &golden, &as, &n);
      char *path = pack_folder(folder, &as, "same.clipc");
      for (int verify = CLIPC_VERIFY_USED; verify <= CLIPC_VERIFY_NONE; verify++) {
        clipc_options options = {
            .verify = (clipc_verify)verify, .read_weights = verify == CLIPC_VERIFY_ALL, .refuse_repack = 1};
        float *packed = embed_all(path, &golden, &options, &n_packed);
        assert_int_equal(n, n_packed);
        assert_true(n > 0);
        assert_memory_equal(packed, expected, n * sizeof *expected);
        free(packed);
      }
      free(expected);
    }
    test_folder_delete(folder);
    golden_free(&golden);
  }
}

static void test_repacked_for_other_kernels(void **state) {
  static const char *const models[] = {"hf-quick", "oc-mean", "oc-clipa"};
  static const clipc_options makers[] = {
      {.tier = CLIPC_TIER_PLAIN_C}, {.gemm = CLIPC_GEMM_OPENBLAS}, {.tier = CLIPC_TIER_BEST}};
  (void)state;
  for (size_t m = 0; m < COUNT(models); m++) {
    struct golden golden = golden_load(models[m]);
    char *folder = synthetic_folder(models[m], NULL);
    for (size_t i = 0; i < COUNT(makers) * 3 * 2; i++) {
      clipc_options as = makers[i % COUNT(makers)];
      as.precision = (clipc_precision)(i / COUNT(makers) % 3);
      clipc_options use = {.tier = i < COUNT(makers) * 3 ? CLIPC_TIER_BEST : CLIPC_TIER_PLAIN_C};
      if (as.gemm == CLIPC_GEMM_OPENBLAS && (as.precision != CLIPC_PRECISION_F32 || !clipc__has_blas())) continue;
      char *path = pack_folder(folder, &as, "other.clipc");
      clipc_options direct = use;
      direct.precision = as.precision;
      size_t n;
      float *expected = embed_all(folder, &golden, &direct, &n), *packed = embed_all(path, &golden, &use, &n);
      if (as.precision == CLIPC_PRECISION_INT8) /* limited pairs are made from other steps then */
        assert_true(worst_cosine(packed, expected, n, golden.dimension) > 0.999);
      else
        assert_memory_equal(packed, expected, n * sizeof *expected);
      clipc_model *model = golden_open_model(path, &use), *refused = model;
      clipc_error error = {CLIPC_OK, ""};
      use.refuse_repack = 1;
      int repacked = clipc_model_packing(model)->repacked;
      clipc_status status = clipc_model_open(&refused, path, &use, &error);
      assert_int_equal(status, repacked ? CLIPC_E_UNSUPPORTED : CLIPC_OK);
      if (repacked) expect(status, CLIPC_E_UNSUPPORTED, &error, "packed for");
      clipc_model_close(refused);
      clipc_model_close(model);
      free(expected);
      free(packed);
    }
    test_folder_delete(folder);
    golden_free(&golden);
  }
}

/* Every shape to every other: the same bytes as packed from the source. */
static void test_repacking_of_panels(void **state) {
  static const struct clipc__gemm shapes[] = {
      {.weights = CLIPC__F32, .panel_cols = 16, .group = 1},  {.weights = CLIPC__F32, .panel_cols = 32, .group = 1},
      {.weights = CLIPC__F32, .panel_cols = 128, .group = 0}, {.weights = CLIPC__BF16, .panel_cols = 8, .group = 4},
      {.weights = CLIPC__BF16, .panel_cols = 32, .group = 2}, {.weights = CLIPC__S8, .panel_cols = 16, .group = 4},
      {.weights = CLIPC__S8, .panel_cols = 32, .group = 2},   {.weights = CLIPC__S8, .panel_cols = 8, .group = 8},
      {.weights = CLIPC__S8, .panel_cols = 24, .group = 16}};
  (void)state;
  random_start(0);
  for (int round = 0; round < 60; round++) {
    size_t n_out = 1 + random_below(150), n_in = 1 + random_below(200);
    float *w = malloc(n_out * n_in * sizeof *w), *bias = malloc(n_out * sizeof *bias);
    for (size_t i = 0; i < n_out * n_in; i++) w[i] = random_float();
    for (size_t i = 0; i < n_out; i++) bias[i] = random_float();
    struct clipc__linear_source source = {.w = w, .w_stride = n_in, .bias = bias, .factor = 1.0f};
    for (size_t pair = 0; pair < COUNT(shapes) * COUNT(shapes); pair++) {
      const struct clipc__gemm *gemm[] = {&shapes[pair / COUNT(shapes)], &shapes[pair % COUNT(shapes)]};
      if (gemm[0]->weights != gemm[1]->weights) continue;
      struct clipc__linear packed[3]; /* from the source for both, and for the second from the first */
      for (size_t i = 0; i < 3; i++) {
        const struct clipc__gemm *g = gemm[i > 0];
        size_t n_panels = clipc__n_panels(g, n_out), n_cols = n_panels * g->panel_cols;
        packed[i] = (struct clipc__linear){
            g, n_out, n_in, malloc(n_panels * clipc__panel_bytes(g, n_in)), malloc(n_cols * 4), NULL, NULL};
        memset((void *)(uintptr_t)packed[i].panels, 0x5A, n_panels * clipc__panel_bytes(g, n_in));
        if (g->weights == CLIPC__S8) packed[i].scale = malloc(n_cols * 4), packed[i].sum = malloc(n_cols * 4);
        for (size_t panel = 0; panel < n_panels; panel++)
          if (i == 2)
            clipc__repack_panel(&packed[2], panel, &packed[0]);
          else
            clipc__pack_panel(g, n_out, n_in, panel, (void *)(uintptr_t)packed[i].panels,
                              (float *)(uintptr_t)packed[i].bias, (float *)(uintptr_t)packed[i].scale,
                              (int32_t *)(uintptr_t)packed[i].sum, &source);
      }
      size_t n_panels = clipc__n_panels(gemm[1], n_out), n_cols = n_panels * gemm[1]->panel_cols;
      assert_memory_equal(packed[2].panels, packed[1].panels, n_panels * clipc__panel_bytes(gemm[1], n_in));
      assert_memory_equal(packed[2].bias, packed[1].bias, n_cols * 4);
      if (packed[1].scale) assert_memory_equal(packed[2].scale, packed[1].scale, n_cols * 4);
      if (packed[1].sum) assert_memory_equal(packed[2].sum, packed[1].sum, n_cols * 4);
      for (size_t i = 0; i < 3; i++) {
        free((void *)(uintptr_t)packed[i].panels);
        free((void *)(uintptr_t)packed[i].bias);
        free((void *)(uintptr_t)packed[i].scale);
        free((void *)(uintptr_t)packed[i].sum);
      }
    }
    free(w);
    free(bias);
  }
}

/* Pairs keep to their limit whether packed from floats or from other panels, and sums are those of what is stored. */
static void test_limited_pairs(void **state) {
  static const struct clipc__gemm free_gemm = {.weights = CLIPC__S8, .panel_cols = 32, .group = 4},
                                  limited = {.weights = CLIPC__S8, .panel_cols = 16, .group = 4, .pair_limit = 128};
  enum { N_OUT = 37, N_IN = 131 };
  (void)state;
  random_start(0);
  static float w[N_OUT * N_IN];
  static int8_t panels[3][64 * 132];
  static float bias[64], scale[3][64];
  static int32_t sum[3][64];
  for (size_t i = 0; i < COUNT(w); i++)
    w[i] = random_float() * (i < N_IN ? 1 : 0.1f) + (i < N_IN ? 1.5f : 0); /* row 0: all pairs */
  struct clipc__linear_source source = {.w = w, .w_stride = N_IN, .factor = 1.0f};
  struct clipc__linear linears[3];
  for (size_t i = 0; i < 3; i++) {
    const struct clipc__gemm *g = i == 0 ? &free_gemm : &limited;
    linears[i] = (struct clipc__linear){g, N_OUT, N_IN, panels[i], bias, scale[i], sum[i]};
    for (size_t panel = 0; panel < clipc__n_panels(g, N_OUT); panel++)
      if (i == 2)
        clipc__repack_panel(&linears[2], panel, &linears[0]);
      else
        clipc__pack_panel(g, N_OUT, N_IN, panel, panels[i], bias, scale[i], sum[i], &source);
  }
  for (size_t i = 1; i < 3; i++)
    for (size_t col = 0; col < N_OUT; col++) {
      int total = 0, largest = 0;
      const int8_t *panel = panels[i] + col / 16 * clipc__panel_bytes(&limited, N_IN);
      for (size_t p = 0; p < 132; p += 2) {
        const int8_t *at = panel + (p / 4 * 16 + col % 16) * 4 + p % 4;
        if ((at[0] ^ at[1]) >= 0) assert_in_range(abs(at[0] + at[1]), 0, 128);
        total += at[0] + at[1];
        if (abs(at[0]) > largest) largest = abs(at[0]);
        for (size_t k = p; k < p + 2 && k < N_IN && i == 1; k++) /* wide steps rather than heavy cuts */
          assert_true(fabsf((float)at[k - p] * scale[i][col] - w[col * N_IN + k]) <= 12 * scale[i][col]);
      }
      assert_int_equal(total, sum[i][col]);
      assert_true(largest >= 60);
    }
  assert_true(clipc__packing_serves(&limited, &limited) && !clipc__packing_serves(&limited, &free_gemm));
  struct clipc__gemm stricter = limited, none = limited;
  stricter.pair_limit = 64;
  none.pair_limit = 0;
  assert_true(clipc__packing_serves(&limited, &stricter) && !clipc__packing_serves(&stricter, &limited));
  assert_true(clipc__packing_serves(&none, &limited) && !clipc__packing_serves(&limited, &none));
}

/* Reference, transparency and EXIF are the opener's; pixels and ids come out as from the folder. */
static void test_options_of_the_opener(void **state) {
  static const char *const models[] = {"hf-words", "oc-words"};
  static const char text[] = "A photo of &amp; the caf\xC3\xA9's <b>SIGN</b>";
  static const uint8_t rgb[61 * 47 * 3] = {9, 200, 100, 7};
  (void)state;
  for (size_t m = 0; m < COUNT(models); m++) {
    char *folder = synthetic_folder(models[m], NULL);
    char *path = pack_folder(folder, NULL, "opener.clipc");
    for (int i = 0; i < 4 * 2 * 2; i++) {
      clipc_options options = {
          .reference = (clipc_reference)(i % 4), .alpha = (clipc_alpha)(i / 4 % 2), .apply_exif = i / 8};
      clipc_model *both[] = {golden_open_model(folder, &options), golden_open_model(path, &options)};
      int32_t ids[2][128];
      size_t n_ids[2];
      float *pixels[2];
      clipc_image image = clipc_image_rgb(rgb, 47, 61, 183);
      for (int b = 0; b < 2; b++) {
        memset(ids[b], 0, sizeof ids[b]);
        assert_true(clipc_context_length(both[b]) <= 128);
        assert_int_equal(clipc_tokenize(both[b], text, sizeof text - 1, ids[b], &n_ids[b], NULL), CLIPC_OK);
        pixels[b] = calloc((size_t)clipc_image_height(both[b]) * (size_t)clipc_image_width(both[b]) * 3, sizeof(float));
        if (clipc_towers(both[b]) & CLIPC_TOWER_IMAGE)
          assert_int_equal(clipc_preprocess(both[b], &image, pixels[b], NULL), CLIPC_OK);
      }
      assert_int_equal(n_ids[0], n_ids[1]);
      assert_memory_equal(ids[0], ids[1], sizeof ids[0]);
      size_t n = (size_t)clipc_image_height(both[0]) * (size_t)clipc_image_width(both[0]) * 3;
      assert_memory_equal(pixels[0], pixels[1], n * sizeof(float));
      assert_memory_equal(clipc_model_preprocessing(both[0]), clipc_model_preprocessing(both[1]),
                          sizeof(clipc_preprocessing));
      assert_int_equal(clipc_model_reference(both[0]), clipc_model_reference(both[1]));
      assert_true(clipc_logit_scale(both[0]) == clipc_logit_scale(both[1]));
      for (int b = 0; b < 2; b++) free(pixels[b]), clipc_model_close(both[b]);
    }
    test_folder_delete(folder);
  }
}

/* One safetensors file of OpenAI's names and marks, without a configuration. */
static void put_openai_folder(void) {
  static const char block[] =
      "attn.in_proj_weight 192 64,attn.in_proj_bias 192 0,attn.out_proj.weight 64 64,"
      "attn.out_proj.bias 64 0,ln_1.weight 64 0,ln_1.bias 64 0,ln_2.weight 64 0,ln_2.bias 64 0,"
      "mlp.c_fc.weight 250 64,mlp.c_fc.bias 250 0,mlp.c_proj.weight 64 250,mlp.c_proj.bias 64 0,";
  static const char heads[] =
      "visual.class_embedding 64 0,visual.conv1.weight 64 -1,visual.positional_embedding 5 64,visual.ln_pre.weight 64 "
      "0,"
      "visual.ln_pre.bias 64 0,visual.ln_post.weight 64 0,visual.ln_post.bias 64 0,visual.proj 64 32,"
      "token_embedding.weight 300 64,positional_embedding 12 64,ln_final.weight 64 0,ln_final.bias 64 0,"
      "text_projection 64 32,logit_scale 0 0,input_resolution 0 0,vocab_size 0 0,context_length 0 0,";
  char *header = malloc(1 << 16);
  size_t at = (size_t)sprintf(header, "{"), n_data = 0;
  for (int list = 0; list < 3; list++) {
    static const char *const prefixes[] = {"", "visual.transformer.resblocks.0.", "transformer.resblocks.0."};
    char name[80];
    int rows, cols, used;
    for (const char *item = list == 0 ? heads : block; sscanf(item, "%79s %d %d,%n", name, &rows, &cols, &used) == 3;
         item += used) {
      size_t n = (size_t)(rows ? rows : 1) * (size_t)(cols > 0 ? cols : cols < 0 ? 48 : 1);
      at += (size_t)sprintf(header + at, "%s\"%s%s\":{\"dtype\":\"F32\",\"shape\":[", at > 1 ? "," : "", prefixes[list],
                            name);
      if (rows) at += (size_t)sprintf(header + at, "%d", rows);
      if (cols > 0) at += (size_t)sprintf(header + at, ",%d", cols);
      if (cols < 0) at += (size_t)sprintf(header + at, ",3,4,4");
      at += (size_t)sprintf(header + at, "],\"data_offsets\":[%zu,%zu]}", n_data, n_data + 4 * n);
      n_data += 4 * n;
    }
  }
  sprintf(header + at, "}");
  float *data = malloc(n_data);
  for (size_t i = 0; i < n_data / 4; i++) data[i] = 0.2f * random_float();
  safetensors_put("model.safetensors", header, data, n_data);
  free(header);
  free(data);
}

static void test_inferred_configuration(void **state) {
  (void)state;
  random_start(0);
  test_folder_empty();
  put_openai_folder();
  test_folder_put_text("preprocessor_config.json", "{\"size\":8,\"crop_size\":8,\"image_mean\":[0.1,0.2,0.3]}");
  for (int i = 0; i < 4 * 3; i++) {
    clipc_options options = {.reference = (clipc_reference)(i % 4), .towers = i / 4};
    char *path = pack_folder(test_folder, &options, "openai.clipc");
    clipc_model *both[] = {golden_open_model(test_folder, &options), golden_open_model(path, &options)};
    const struct clipc__config *a = &both[0]->config, *b = &both[1]->config;
    assert_memory_equal(clipc_model_preprocessing(both[0]) ? &a->preprocessing : NULL,
                        clipc_model_preprocessing(both[1]) ? &b->preprocessing : NULL,
                        clipc_model_preprocessing(both[0]) ? sizeof a->preprocessing : 0);
    assert_true(a->open_clip == b->open_clip && a->embedding_dimension == b->embedding_dimension &&
                a->reference == b->reference && a->text_cleaning == b->text_cleaning);
    assert_memory_equal(&a->vision.transformer, &b->vision.transformer, sizeof a->vision.transformer);
    assert_memory_equal(&a->text.transformer, &b->text.transformer, sizeof a->text.transformer);
    assert_true(a->vision.present == b->vision.present && a->vision.patch == b->vision.patch &&
                a->vision.pooling == b->vision.pooling && a->vision.ln_pre == b->vision.ln_pre &&
                a->vision.projection == b->vision.projection && a->vision.image_width == b->vision.image_width);
    assert_true(a->text.present == b->text.present && a->text.vocab_size == b->text.vocab_size &&
                a->text.context_length == b->text.context_length && a->text.pooling == b->text.pooling &&
                a->text.causal == b->text.causal && a->text.projection == b->text.projection);
    float vectors[2][32];
    for (int t = CLIPC_TOWER_IMAGE; t <= CLIPC_TOWER_TEXT; t++) {
      static const float pixels[3 * 8 * 8] = {1, 2, 3};
      if (!(clipc_towers(both[0]) & t)) continue;
      for (int m = 0; m < 2; m++) {
        clipc_session *session = golden_open_session(both[m], 1, 0);
        clipc_error error = {CLIPC_OK, ""};
        clipc_status status = t == CLIPC_TOWER_IMAGE
                                  ? clipc_embed_image_pixels(session, pixels, vectors[m], &error)
                                  : clipc_embed_ids(session, (const int32_t[]){3, 299, 7}, 3, vectors[m], &error);
        if (status != CLIPC_OK) fail_msg("%s", error.message);
        clipc_session_close(session);
      }
      assert_memory_equal(vectors[0], vectors[1], sizeof vectors[0]);
    }
    clipc_model_close(both[0]);
    clipc_model_close(both[1]);
  }
  test_folder_empty();
}

/* ---- damage */

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
  clipc_status status = clipc_model_open(&model, in_folder("used.clipc"), options, error);
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
      clipc_status status = clipc_model_open(&model, in_folder("damaged.clipc"), &options, &error);
      if (!cases[c].opens || verify == CLIPC_VERIFY_ALL) {
        expect(status, CLIPC_E_FORMAT, &error, cases[c].section);
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
          expect(status, CLIPC_E_FORMAT, &error, cases[c].section);
        else if (checks)
          assert_int_equal(status, CLIPC_OK);
        error = (clipc_error){CLIPC_OK, ""};
        status = clipc_embed_ids(session, (const int32_t[]){0, 1, 2}, 3, vector, &error);
        if (checks && cases[c].text_fails)
          expect(status, CLIPC_E_FORMAT, &error, cases[c].section);
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
    expect(clipc_embed_ids(session, (const int32_t[]){0, last}, 2, vector, &error), CLIPC_E_FORMAT, &error,
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
  expect(use_bytes(longer, bytes.n + 4096, NULL, &error), CLIPC_E_FORMAT, &error, "was packed with");
  free(longer);
  free(bytes.data);
}

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
    expect(use_bytes(copy, bytes.n, &(clipc_options){.verify = CLIPC_VERIFY_NONE}, &error), status, &error, says);     \
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
  expect(clipc_model_open(&model, "models/tiny/model.safetensors", NULL, &error), CLIPC_E_IO, &error,
         "not a packed model");
  expect(clipc_model_open(&model, "models/tinier", NULL, &error), CLIPC_E_IO, &error, "no such folder or file");
  char *folder = synthetic_folder("hf-quick", NULL);
  char *path = pack_folder(folder, &(clipc_options){.precision = CLIPC_PRECISION_BF16, .towers = CLIPC_TOWER_IMAGE},
                           "image.clipc");
  expect(clipc_model_open(&model, path, &(clipc_options){.precision = CLIPC_PRECISION_INT8}, &error),
         CLIPC_E_UNSUPPORTED, &error, "packed in bf16");
  expect(clipc_model_open(&model, path, &(clipc_options){.towers = CLIPC_TOWER_TEXT}, &error), CLIPC_E_MODEL, &error,
         "no text tower");
  expect(clipc_model_open(&model, path, &(clipc_options){.limits.max_header_bytes = 100}, &error), CLIPC_E_LIMIT,
         &error, "tables");
  expect(clipc_model_open(&model, path, &(clipc_options){.limits.max_config_bytes = 10}, &error), CLIPC_E_LIMIT, &error,
         "image.clipc/config.json");
  if (clipc__has_blas())
    expect(clipc_model_open(&model, path, &(clipc_options){.gemm = CLIPC_GEMM_OPENBLAS}, &error), CLIPC_E_UNSUPPORTED,
           &error, "OpenBLAS");
  assert_int_equal(clipc_model_open(&model, path, NULL, NULL), CLIPC_OK);
  assert_int_equal(clipc_model_precision(model), CLIPC_PRECISION_BF16);
  assert_int_equal(clipc_towers(model), CLIPC_TOWER_IMAGE);
  expect(clipc_model_pack(model, in_folder("again.clipc"), &error), CLIPC_E_UNSUPPORTED, &error, "packed file");
  expect(clipc_model_pack(NULL, path, &error), CLIPC_E_INVALID, &error, "model");
  expect(clipc_model_pack(model, NULL, &error), CLIPC_E_INVALID, &error, "path");
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

/* ---- first use by several threads at once */

static void *first_use(void *context) {
  clipc_model *model = context;
  int32_t ids[128];
  size_t n_ids;
  clipc_session *session = golden_open_session(model, 1, 0);
  float *vector = calloc(clipc_embedding_dimension(model), sizeof *vector);
  float *pixels = calloc(3 * (size_t)clipc_image_height(model) * (size_t)clipc_image_width(model), sizeof *pixels);
  bool fine = clipc_tokenize(model, "a cat", 5, ids, &n_ids, NULL) == CLIPC_OK &&
              clipc_embed_text(session, "a dog", vector, NULL) == CLIPC_OK &&
              clipc_embed_image_pixels(session, pixels, vector, NULL) == CLIPC_OK;
  free(vector);
  free(pixels);
  clipc_session_close(session);
  return fine ? model : NULL;
}

static void test_first_use_by_threads(void **state) {
  (void)state;
  char *folder = synthetic_folder("hf-words", NULL);
  char *path = pack_folder(folder, &(clipc_options){.tier = CLIPC_TIER_PLAIN_C}, "threads.clipc");
  for (int round = 0; round < 20; round++) {
    clipc_options options = {.n_threads = 2, .tier = round % 2 ? CLIPC_TIER_PLAIN_C : CLIPC_TIER_BEST};
    clipc_model *model = golden_open_model(path, &options);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) assert_int_equal(pthread_create(&threads[i], NULL, first_use, model), 0);
    for (int i = 0; i < 4; i++) {
      void *result;
      pthread_join(threads[i], &result);
      assert_non_null(result);
    }
    clipc_model_close(model);
  }
  test_folder_delete(folder);
}

static void test_tokeniser_comes_late(void **state) {
  (void)state;
  char *folder = synthetic_folder("hf-words", NULL);
  char broken[600];
  snprintf(broken, sizeof broken, "%s/vocab.json", folder);
  clipc_model *model = golden_open_model(folder, NULL);
  FILE *file = fopen(broken, "w");
  fputs("{\"a\": -1}", file);
  fclose(file);
  char *path = in_folder("late.clipc");
  assert_int_equal(clipc_model_pack(model, path, NULL), CLIPC_OK);
  clipc_model_close(model);
  model = golden_open_model(path, NULL); /* where the folder would be refused */
  clipc_error error = {CLIPC_OK, ""};
  int32_t ids[128];
  size_t n_ids;
  for (int again = 0; again < 2; again++)
    expect(clipc_tokenize(model, "a", 1, ids, &n_ids, &error), CLIPC_E_FORMAT, &error, "late.clipc/vocab.json");
  clipc_model_close(model);
  test_folder_delete(folder);
  folder = synthetic_folder("hf-quick", NULL);
  model = golden_open_model(pack_folder(folder, NULL, "late.clipc"), NULL);
  expect(clipc_tokenize(model, "a", 1, ids, &n_ids, &error), CLIPC_E_MODEL, &error, "no tokenizer.json");
  clipc_model_close(model);
  test_folder_delete(folder);
}

/* ---- writing */

static size_t files_in_folder(void) {
  char command[600];
  unsigned n = 0;
  snprintf(command, sizeof command, "ls -A '%s' | wc -l", test_folder);
  FILE *pipe = popen(command, "r");
  assert_int_equal(fscanf(pipe, "%u", &n), 1);
  pclose(pipe);
  return n;
}

static void test_written_whole_or_not_at_all(void **state) {
  (void)state;
  test_folder_empty();
  clipc_error error = {CLIPC_OK, ""};
  char *folder = synthetic_folder("hf-quick", NULL);
  clipc_model *model = golden_open_model(folder, NULL);
  char *path = in_folder("target.clipc");
  test_folder_put_text("target.clipc", "what was there before");
  struct rlimit before, small = {50000, 0};
  signal(SIGXFSZ, SIG_IGN);
  getrlimit(RLIMIT_FSIZE, &before);
  small.rlim_max = before.rlim_max;
  setrlimit(RLIMIT_FSIZE, &small);
  clipc_status status = clipc_model_pack(model, path, &error);
  setrlimit(RLIMIT_FSIZE, &before);
  expect(status, CLIPC_E_IO, &error, "target.clipc: cannot be written");
  char *kept = test_read_file(path, NULL);
  assert_string_equal(kept, "what was there before");
  free(kept);
  assert_int_equal(files_in_folder(), 1);
  assert_int_equal(symlink("target.clipc", in_folder("link.clipc")), 0); /* the link stays one */
  assert_int_equal(chmod(path, 0640), 0);
  assert_int_equal(clipc_model_pack(model, in_folder("link.clipc"), NULL), CLIPC_OK);
  struct stat info;
  assert_true(lstat(in_folder("link.clipc"), &info) == 0 && S_ISLNK(info.st_mode));
  assert_true(stat(path, &info) == 0 && (info.st_mode & 0777) == 0640);
  assert_int_equal(files_in_folder(), 2);
  clipc_model *packed = golden_open_model(path, NULL);
  assert_int_equal(clipc_model_pack(model, path, NULL), CLIPC_OK); /* under the one that is open */
  clipc_model_close(packed);
  expect(clipc_model_pack(model, test_folder, &error), CLIPC_E_IO, &error, "cannot be written");
  expect(clipc_model_pack(model, "/dev/null", &error), CLIPC_E_IO, &error, "not a regular file");
  expect(clipc_model_pack(model, "", &error), CLIPC_E_IO, &error, "cannot be written");
  expect(clipc_model_pack(model, in_folder("no/such/folder.clipc"), &error), CLIPC_E_IO, &error, "cannot be written");
  size_t n[2];
  char *bytes[] = {test_read_file(path, &n[0]), test_read_file(pack_folder(folder, NULL, "twin.clipc"), &n[1])};
  assert_int_equal(n[0], n[1]);
  assert_memory_equal(bytes[0], bytes[1], n[0]); /* the same model gives the same file */
  free(bytes[0]);
  free(bytes[1]);
  clipc_model_close(model);
  test_folder_delete(folder);
  test_folder_empty();
}

/* A writer that is ended by force leaves nothing under the name, and nothing at all where files need no name. */
static void test_killed_while_writing(void **state) {
  (void)state;
  static const clipc_allocator plain;
  test_folder_empty();
  pid_t child = fork();
  if (child == 0) {
    struct clipc__writer writer;
    if (clipc__writer_open(&writer, in_folder("killed.clipc"), &plain, NULL) != CLIPC_OK) _exit(1);
    for (int i = 0; i < 100; i++) clipc__writer_fill(&writer, (uint64_t)(i + 1) * 1000);
    raise(SIGKILL);
  }
  int how;
  assert_int_equal(waitpid(child, &how, 0), child);
  assert_true(WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL);
  assert_int_not_equal(access(in_folder("killed.clipc"), F_OK), 0);
  assert_true(files_in_folder() <= 1);
  struct clipc__writer writer; /* given up */
  assert_int_equal(clipc__writer_open(&writer, in_folder("given-up.clipc"), &plain, NULL), CLIPC_OK);
  clipc__writer_put(&writer, "abc", 3);
  assert_int_equal(clipc__writer_close(&writer, CLIPC_E_FORMAT, NULL), CLIPC_E_FORMAT);
  assert_int_not_equal(access(in_folder("given-up.clipc"), F_OK), 0);
  test_folder_empty();
}

/* ---- memory */

static clipc_status pack_and_use(const char *folder, struct test_memory *packing, struct test_memory *using) {
  static const int32_t ids[] = {1, 2};
  clipc_options options = {.n_threads = 1, .tier = CLIPC_TIER_PLAIN_C, .allocator = test_allocator(packing)};
  clipc_model *model = NULL;
  clipc_session *session = NULL;
  float vector[256], *pixels = NULL;
  clipc_error error = {CLIPC_OK, ""};
  char *path = in_folder("memory.clipc");
  clipc_status status = clipc_model_open(&model, folder, &options, &error);
  if (status == CLIPC_OK) status = clipc_model_pack(model, path, &error);
  clipc_model_close(model);
  assert_int_equal(packing->n_live, 0);
  if (status != CLIPC_OK) {
    assert_int_equal(error.status, status);
    return status;
  }
  options.tier = CLIPC_TIER_BEST; /* which repacks, where there is a better one */
  options.allocator = test_allocator(using);
  status = clipc_model_open(&model, path, &options, &error);
  if (status == CLIPC_OK) status = clipc_session_open(&session, model, NULL, &error);
  if (status == CLIPC_OK) {
    pixels = calloc(3 * (size_t)clipc_image_height(model) * (size_t)clipc_image_width(model), sizeof *pixels);
    status = clipc_embed_image_pixels(session, pixels, vector, &error);
  }
  if (status == CLIPC_OK) status = clipc_embed_ids(session, ids, 2, vector, &error);
  if (status == CLIPC_OK) status = clipc_embed_text(session, "a cat", vector, &error);
  if (status == CLIPC_E_NO_MEMORY && session) { /* once there is memory again, it works */
    size_t fail_at = using->fail_at;
    using->fail_at = 0;
    assert_int_equal(clipc_embed_image_pixels(session, pixels, vector, NULL), CLIPC_OK);
    assert_int_equal(clipc_embed_text(session, "a cat", vector, NULL), CLIPC_OK);
    using->fail_at = fail_at;
  }
  free(pixels);
  clipc_session_close(session);
  clipc_model_close(model);
  assert_int_equal(using->n_live, 0);
  assert_int_equal(error.status, status);
  return status;
}

static void test_failing_memory(void **state) {
  (void)state;
  char *folder = synthetic_folder("hf-words", NULL);
  clipc_status status = CLIPC_E_NO_MEMORY;
  size_t n = 0;
  for (int part = 0; part < 2; part++, status = CLIPC_E_NO_MEMORY, n = 0) {
    while (status != CLIPC_OK) {
      struct test_memory packing = {.fail_at = part == 0 ? ++n : 0}, using = {.fail_at = part == 1 ? ++n : 0};
      status = pack_and_use(folder, &packing, &using);
      if (status != CLIPC_OK) assert_int_equal(status, CLIPC_E_NO_MEMORY);
      assert_true(n < 2000);
    }
    assert_true(n > 20);
  }
  test_folder_delete(folder);
}

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

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_checksum),
      cmocka_unit_test(test_same_as_the_folder),
      cmocka_unit_test(test_repacked_for_other_kernels),
      cmocka_unit_test(test_repacking_of_panels),
      cmocka_unit_test(test_limited_pairs),
      cmocka_unit_test(test_options_of_the_opener),
      cmocka_unit_test(test_inferred_configuration),
      cmocka_unit_test(test_verify),
      cmocka_unit_test(test_rows_are_compared_one_by_one),
      cmocka_unit_test(test_altered_bytes),
      cmocka_unit_test(test_cut_short),
      cmocka_unit_test(test_lies),
      cmocka_unit_test(test_what_it_is_not),
      cmocka_unit_test(test_first_use_by_threads),
      cmocka_unit_test(test_tokeniser_comes_late),
      cmocka_unit_test(test_written_whole_or_not_at_all),
      cmocka_unit_test(test_killed_while_writing),
      cmocka_unit_test(test_failing_memory),
  };
  return cmocka_run_group_tests_name("pack", tests, test_folder_make, test_folder_remove);
}
