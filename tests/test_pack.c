/* Packed files: the same vectors as the folder's, in every precision; configurations, options and tokenisers as from
 * the folder; first use by many threads; written whole or not at all; each allocation may fail. */
#include "base/writer.h"
#include "configs.h"
#include "model/model.h"
#include "packs.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- the same as the folder */

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
      float *expected = pack_embed_all(folder, &golden, &as, &n);
      char *path = pack_folder(folder, &as, "same.clipc");
      for (int verify = CLIPC_VERIFY_USED; verify <= CLIPC_VERIFY_NONE; verify++) {
        clipc_options options = {
            .verify = (clipc_verify)verify, .read_weights = verify == CLIPC_VERIFY_ALL, .refuse_repack = 1};
        float *packed = pack_embed_all(path, &golden, &options, &n_packed);
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

/* ---- first use */

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
  char *path = pack_path("late.clipc");
  assert_int_equal(clipc_model_pack(model, path, NULL), CLIPC_OK);
  clipc_model_close(model);
  model = golden_open_model(path, NULL); /* where the folder would be refused */
  clipc_error error = {CLIPC_OK, ""};
  int32_t ids[128];
  size_t n_ids;
  for (int again = 0; again < 2; again++)
    pack_expect(clipc_tokenize(model, "a", 1, ids, &n_ids, &error), CLIPC_E_FORMAT, &error, "late.clipc/vocab.json");
  clipc_model_close(model);
  test_folder_delete(folder);
  folder = synthetic_folder("hf-quick", NULL);
  model = golden_open_model(pack_folder(folder, NULL, "late.clipc"), NULL);
  pack_expect(clipc_tokenize(model, "a", 1, ids, &n_ids, &error), CLIPC_E_MODEL, &error, "no tokenizer.json");
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
  char *path = pack_path("target.clipc");
  test_folder_put_text("target.clipc", "what was there before");
  struct rlimit before, small = {50000, 0};
  signal(SIGXFSZ, SIG_IGN);
  getrlimit(RLIMIT_FSIZE, &before);
  small.rlim_max = before.rlim_max;
  setrlimit(RLIMIT_FSIZE, &small);
  clipc_status status = clipc_model_pack(model, path, &error);
  setrlimit(RLIMIT_FSIZE, &before);
  pack_expect(status, CLIPC_E_IO, &error, "target.clipc: cannot be written");
  char *kept = test_read_file(path, NULL);
  assert_string_equal(kept, "what was there before");
  free(kept);
  assert_int_equal(files_in_folder(), 1);
  assert_int_equal(symlink("target.clipc", pack_path("link.clipc")), 0); /* the link stays one */
  assert_int_equal(chmod(path, 0640), 0);
  assert_int_equal(clipc_model_pack(model, pack_path("link.clipc"), NULL), CLIPC_OK);
  struct stat info;
  assert_true(lstat(pack_path("link.clipc"), &info) == 0 && S_ISLNK(info.st_mode));
  assert_true(stat(path, &info) == 0 && (info.st_mode & 0777) == 0640);
  assert_int_equal(files_in_folder(), 2);
  clipc_model *packed = golden_open_model(path, NULL);
  assert_int_equal(clipc_model_pack(model, path, NULL), CLIPC_OK); /* under the one that is open */
  clipc_model_close(packed);
  pack_expect(clipc_model_pack(model, test_folder, &error), CLIPC_E_IO, &error, "cannot be written");
  pack_expect(clipc_model_pack(model, "/dev/null", &error), CLIPC_E_IO, &error, "not a regular file");
  pack_expect(clipc_model_pack(model, "", &error), CLIPC_E_IO, &error, "cannot be written");
  pack_expect(clipc_model_pack(model, pack_path("no/such/folder.clipc"), &error), CLIPC_E_IO, &error,
              "cannot be written");
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
    if (clipc__writer_open(&writer, pack_path("killed.clipc"), &plain, NULL) != CLIPC_OK) _exit(1);
    for (int i = 0; i < 100; i++) clipc__writer_fill(&writer, (uint64_t)(i + 1) * 1000);
    raise(SIGKILL);
  }
  int how;
  assert_int_equal(waitpid(child, &how, 0), child);
  assert_true(WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL);
  assert_int_not_equal(access(pack_path("killed.clipc"), F_OK), 0);
  assert_true(files_in_folder() <= 1);
  struct clipc__writer writer; /* given up */
  assert_int_equal(clipc__writer_open(&writer, pack_path("given-up.clipc"), &plain, NULL), CLIPC_OK);
  clipc__writer_put(&writer, "abc", 3);
  assert_int_equal(clipc__writer_close(&writer, CLIPC_E_FORMAT, NULL), CLIPC_E_FORMAT);
  assert_int_not_equal(access(pack_path("given-up.clipc"), F_OK), 0);
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
  char *path = pack_path("memory.clipc");
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

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_same_as_the_folder),     cmocka_unit_test(test_options_of_the_opener),
      cmocka_unit_test(test_inferred_configuration), cmocka_unit_test(test_first_use_by_threads),
      cmocka_unit_test(test_tokeniser_comes_late),   cmocka_unit_test(test_written_whole_or_not_at_all),
      cmocka_unit_test(test_killed_while_writing),   cmocka_unit_test(test_failing_memory),
  };
  return cmocka_run_group_tests_name("pack", tests, test_folder_make, test_folder_remove);
}
