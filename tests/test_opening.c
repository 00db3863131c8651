/* Opening in steps: the same model, the same sentences, nothing left behind at whatever step it is given up; and JSON
 * that is parsed a piece at a time. */
#include "golden.h"
#include "model/opening.h"
#include "text/tokenizer.h"

#include <cjson/cJSON.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define N_VECTOR 4096

/* ---- ways to open */

/* step_bytes: 0: by the public steps; else by steps of so much. */
struct steps {
  size_t step_bytes;
  bool ready;
  size_t give_up; /* after so many steps; 0: never */
  size_t n_steps; /* [out] */
};

static clipc_status step_once(clipc_opening *opening, const struct steps *steps, clipc_model **out,
                              clipc_error *error) {
  if (steps->step_bytes == 0) return clipc_model_open_step(opening, out, error);
  clipc_status status = clipc__opening_step(opening, steps->step_bytes, error);
  if (status == CLIPC_OK && opening->stage == CLIPC__OPENING_DONE) {
    *out = opening->model;
    opening->model = NULL;
  }
  return status;
}

static clipc_status open_in_steps(clipc_model **out, const char *path, const clipc_options *options,
                                  struct steps *steps, clipc_error *error) {
  clipc_opening *opening = (clipc_opening *)(void *)&opening;
  double progress = 0;
  *out = NULL;
  steps->n_steps = 0;
  clipc_status status = clipc_model_open_begin(&opening, path, options, error);
  if (status != CLIPC_OK) assert_null(opening);
  if (status == CLIPC_OK && steps->ready) clipc__model_open_ready(opening);
  while (status == CLIPC_OK && *out == NULL && (steps->give_up == 0 || steps->n_steps < steps->give_up)) {
    status = step_once(opening, steps, out, error);
    steps->n_steps++;
    double now = clipc_model_open_progress(opening);
    assert_true(status != CLIPC_OK || (now >= progress && now <= 1));
    progress = now;
  }
  if (*out != NULL) assert_true(status == CLIPC_OK && progress == 1);
  clipc_opening_close(opening);
  return status;
}

/* Vectors of everything that the model embeds. */
static size_t embed_everything(float vectors[N_VECTOR], clipc_model *model, clipc_error *error) {
  static const int32_t ids[] = {3, 1, 2};
  size_t dimension = clipc_embedding_dimension(model), n = 0;
  clipc_session *session = golden_open_session(model, 2, 0);
  clipc_status status = CLIPC_OK;
  assert_true(3 * dimension <= N_VECTOR);
  if (clipc_towers(model) & CLIPC_TOWER_IMAGE) {
    int height = clipc_image_height(model), width = clipc_image_width(model);
    float *pixels = calloc(3 * (size_t)height * (size_t)width, sizeof *pixels);
    synthetic_pixels(pixels, 1, height, width);
    status = clipc_embed_image_pixels(session, pixels, vectors, error);
    free(pixels);
    n += dimension;
  }
  if (status == CLIPC_OK && clipc_towers(model) & CLIPC_TOWER_TEXT) {
    status = clipc_embed_ids(session, ids, COUNT(ids), vectors + n, error);
    n += dimension;
    clipc_error none = {CLIPC_OK, ""};
    if (status == CLIPC_OK) clipc_embed_text(session, "a photo of a red car", vectors + n, &none);
    if (status == CLIPC_OK && none.status == CLIPC_OK) n += dimension;
    assert_true(none.status == CLIPC_OK || none.status == CLIPC_E_MODEL); /* not all have words */
  }
  clipc_session_close(session);
  return status == CLIPC_OK ? n : 0;
}

static void compare_ways(const char *path, const clipc_options *options) {
  static float expected[N_VECTOR], vectors[N_VECTOR];
  static const struct steps ways[] = {{.step_bytes = 0},     {.step_bytes = 0, .ready = true},
                                      {.step_bytes = 1},     {.step_bytes = 1, .ready = true},
                                      {.step_bytes = 70000}, {.step_bytes = SIZE_MAX}};
  clipc_error error = {CLIPC_OK, ""};
  clipc_model *model;
  if (clipc_model_open(&model, path, options, &error) != CLIPC_OK) fail_msg("%s", error.message);
  size_t n = embed_everything(expected, model, &error), most = 0;
  float scale = clipc_logit_scale(model), bias = clipc_logit_bias(model);
  clipc_model_close(model);
  assert_true(n > 0);
  for (size_t w = 0; w < COUNT(ways); w++) {
    struct steps steps = ways[w];
    if (open_in_steps(&model, path, options, &steps, &error) != CLIPC_OK) fail_msg("%s", error.message);
    assert_int_equal(embed_everything(vectors, model, &error), n);
    assert_memory_equal(vectors, expected, n * sizeof *vectors);
    assert_true(clipc_logit_scale(model) == scale && clipc_logit_bias(model) == bias);
    clipc_model_close(model);
    if (steps.n_steps > most) most = steps.n_steps;
    assert_true(steps.n_steps >= 2);
  }
  assert_true(most > 20);
}

static char *in_test_folder(const char *name) {
  static char path[1024];
  snprintf(path, sizeof path, "%s/%s", test_folder, name);
  return path;
}

static char *packed_of(const char *folder, const clipc_options *options) {
  clipc_error error = {CLIPC_OK, ""};
  clipc_model *model = golden_open_model(folder, options);
  char *path = in_test_folder("steps.clipc");
  if (clipc_model_pack(model, path, &error) != CLIPC_OK) fail_msg("%s", error.message);
  clipc_model_close(model);
  return path;
}

static void test_same_model(void **state) {
  (void)state;
  static const struct {
    const char *name;
    struct synthetic_change change;
    clipc_options options;
  } folders[] = {
      {"hf-quick", {.dtype = "F16"}, {.n_threads = 1}},
      {"hf-quick", {.dtype = "BF16"}, {.precision = CLIPC_PRECISION_INT8}},
      {"hf-sharded", {0}, {.read_weights = 1}},
      {"hf-words", {0}, {.precision = CLIPC_PRECISION_BF16, .read_weights = 1}},
      {"hf-words", {.dtype = "F16"}, {.towers = CLIPC_TOWER_TEXT}},
      {"oc-words", {.dtype = "F16"}, {.n_threads = 3}},
      {"oc-clipa", {0}, {.tier = CLIPC_TIER_PLAIN_C}},
      {"hf-vision-projection", {0}, {0}},
  };
  compare_ways("models/tiny", NULL);
  for (size_t f = 0; f < COUNT(folders); f++) {
    char *folder = synthetic_folder(folders[f].name, &folders[f].change);
    compare_ways(folder, &folders[f].options);
    test_folder_delete(folder);
  }
}

static void test_same_packed(void **state) {
  (void)state;
  for (int i = 0; i < 6; i++) {
    clipc_options options = {.precision = (clipc_precision)(i % 3),
                             .tier = i < 3 ? CLIPC_TIER_BEST : CLIPC_TIER_PLAIN_C};
    char *path = packed_of("models/tiny", &options);
    options.tier = CLIPC_TIER_BEST;
    for (int verify = 0; verify < 3; verify++) {
      options.verify = (clipc_verify)verify;
      options.read_weights = verify == 2;
      compare_ways(path, &options);
    }
  }
  test_folder_empty();
}

/* ---- misuse, and the ends */

static void test_ends(void **state) {
  (void)state;
  clipc_error error = {CLIPC_OK, ""};
  clipc_opening *opening = (clipc_opening *)(void *)&error;
  clipc_model *model = (clipc_model *)(void *)&error;
  assert_int_equal(clipc_model_open_begin(NULL, "models/tiny", NULL, &error), CLIPC_E_INVALID);
  assert_int_equal(clipc_model_open_begin(&opening, NULL, NULL, &error), CLIPC_E_INVALID);
  assert_null(opening);
  assert_int_equal(clipc_model_open_begin(&opening, "models/tiny", &(clipc_options){.towers = 8}, &error),
                   CLIPC_E_INVALID);
  assert_null(opening);
  assert_int_equal(clipc_model_open_step(NULL, &model, &error), CLIPC_E_INVALID);
  assert_null(model);
  assert_true(clipc_model_open_progress(NULL) == 0);
  clipc_opening_close(NULL);
  /* a path that is not there is told of by a step; then it is over */
  assert_int_equal(clipc_model_open_begin(&opening, "models/tinier", NULL, &error), CLIPC_OK);
  assert_int_equal(clipc_model_open_step(opening, NULL, &error), CLIPC_E_INVALID);
  assert_int_equal(clipc_model_open_step(opening, &model, &error), CLIPC_E_IO);
  assert_non_null(strstr(error.message, "no such folder or file"));
  assert_true(clipc_model_open_progress(opening) == 1);
  assert_int_equal(clipc_model_open_step(opening, &model, &error), CLIPC_E_INVALID);
  assert_null(model);
  clipc_opening_close(opening);
  /* handed out: the opening may go at once, the model stays */
  error = (clipc_error){CLIPC_OK, "as it was"};
  assert_int_equal(clipc_model_open_begin(&opening, "models/tiny", NULL, &error), CLIPC_OK);
  while (model == NULL) assert_int_equal(clipc_model_open_step(opening, &model, &error), CLIPC_OK);
  assert_string_equal(error.message, "as it was");
  clipc_model *again = model;
  assert_int_equal(clipc_model_open_step(opening, &again, &error), CLIPC_E_INVALID);
  assert_null(again);
  clipc_opening_close(opening);
  assert_true(clipc_embedding_dimension(model) > 0);
  clipc_model_close(model);
}

/* ---- given up, and without memory */

static void give_up_everywhere(const char *path, const struct steps *how, clipc_options options) {
  clipc_model *model = NULL;
  for (size_t give_up = 1; model == NULL; give_up++) {
    struct test_memory memory = {0};
    struct steps steps = *how;
    clipc_error error = {CLIPC_OK, ""};
    options.allocator = test_allocator(&memory);
    steps.give_up = give_up;
    if (open_in_steps(&model, path, &options, &steps, &error) != CLIPC_OK) fail_msg("%s", error.message);
    clipc_model_close(model);
    assert_int_equal(memory.n_live, 0);
    assert_true(give_up < 20000);
  }
}

static void fail_everywhere(const char *path, const struct steps *how, clipc_options options) {
  clipc_status status = CLIPC_E_NO_MEMORY;
  size_t n = 0;
  while (status != CLIPC_OK) {
    struct test_memory memory = {.fail_at = ++n};
    struct steps steps = *how;
    clipc_error error = {CLIPC_OK, ""};
    clipc_model *model;
    options.allocator = test_allocator(&memory);
    status = open_in_steps(&model, path, &options, &steps, &error);
    clipc_model_close(model);
    assert_int_equal(memory.n_live, 0);
    assert_int_equal(error.status, status);
    if (status != CLIPC_OK) assert_int_equal(status, CLIPC_E_NO_MEMORY);
  }
  assert_true(n > 10);
}

static void test_given_up_and_failing_memory(void **state) {
  (void)state;
  const clipc_options plain = {.tier = CLIPC_TIER_PLAIN_C, .n_threads = 1}, reads = {.read_weights = 1};
  char *folder = synthetic_folder("hf-words", &(struct synthetic_change){.dtype = "F16"});
  for (int i = 0; i < 4; i++) {
    const struct steps steps = {.step_bytes = i < 2 ? 0 : 30000, .ready = true};
    give_up_everywhere(folder, &steps, i % 2 ? plain : reads);
    fail_everywhere(folder, &steps, i % 2 ? plain : reads);
  }
  char *path = packed_of(folder, &plain); /* which the best tier repacks, where there is a better one */
  for (int i = 0; i < 4; i++) {
    const struct steps steps = {.step_bytes = i < 2 ? 0 : 30000, .ready = i % 2};
    give_up_everywhere(path, &steps, reads);
    fail_everywhere(path, &steps, (clipc_options){.verify = CLIPC_VERIFY_ALL});
  }
  test_folder_delete(folder);
  test_folder_empty();
}

/* ---- damage */

/* Both ways fail alike, or neither does. Returns the status. */
static clipc_status fails_alike(const char *path, const clipc_options *options) {
  static const size_t sizes[] = {0, 1, 5000};
  clipc_error expected = {CLIPC_OK, ""};
  clipc_model *model;
  clipc_status status = clipc_model_open(&model, path, options, &expected);
  clipc_model_close(model);
  for (size_t i = 0; i < COUNT(sizes); i++) {
    struct steps steps = {.step_bytes = sizes[i]};
    clipc_error error = {CLIPC_OK, ""};
    assert_int_equal(open_in_steps(&model, path, options, &steps, &error), status);
    clipc_model_close(model);
    assert_int_equal(error.status, expected.status);
    assert_string_equal(error.message, expected.message);
  }
  return status;
}

static void test_same_sentences(void **state) {
  (void)state;
  random_start(0);
  static const char *const files[] = {"config.json", "model.safetensors", "vocab.json", "merges.txt"};
  static const struct synthetic_change changes[] = {{.drop = "logit_scale"},
                                                    {.drop = "text_model.final_layer_norm.bias"},
                                                    {.widen = "visual_projection.weight"},
                                                    {.drop = "vision_model.encoder.layers.1.mlp.fc2.weight"}};
  for (size_t i = 0; i < COUNT(changes); i++) {
    char *folder = synthetic_folder("hf-words", &changes[i]);
    assert_int_equal(fails_alike(folder, NULL), CLIPC_E_MODEL);
    test_folder_delete(folder);
  }
  char *folder = synthetic_folder("hf-words", NULL), path[1024];
  size_t n_failed = 0;
  for (size_t f = 0; f < COUNT(files); f++) {
    size_t n;
    snprintf(path, sizeof path, "%s/%s", folder, files[f]);
    uint8_t *bytes = test_read_file(path, &n), *copy = malloc(n);
    for (int i = 0; i < 40; i++) {
      memcpy(copy, bytes, n);
      size_t n_copy = i % 4 == 0 ? random_below((uint32_t)n) : n, most = f == 1 && n > 4000 ? 4000 : n;
      for (int k = 0; k < 1 + i % 3; k++) copy[random_below((uint32_t)most)] = (uint8_t)(32 + random_below(95));
      FILE *file = fopen(path, "wb");
      assert_true(file && fwrite(copy, 1, n_copy, file) == n_copy && fclose(file) == 0);
      n_failed += fails_alike(folder, &(clipc_options){.read_weights = i % 2}) != CLIPC_OK;
    }
    FILE *file = fopen(path, "wb");
    assert_true(file && fwrite(bytes, 1, n, file) == n && fclose(file) == 0);
    free(copy);
    free(bytes);
  }
  assert_true(n_failed > 50);
  test_folder_delete(folder);
}

/* What is damaged fails the opening that makes ready, and is told of at the first use otherwise. */
static void test_damaged_tower(void **state) {
  (void)state;
  static float vectors[N_VECTOR];
  char *path = packed_of("models/tiny", NULL);
  clipc_error lazy = {CLIPC_OK, ""}, error = {CLIPC_OK, ""};
  clipc_model *model = golden_open_model(path, NULL);
  const clipc_packing *packing = clipc_model_packing(model);
  uint64_t at = 0;
  for (size_t i = 0; i < packing->n_sections; i++)
    if (strcmp(packing->sections[i].name, "text tower") == 0)
      at = packing->sections[i].offset + packing->sections[i].n_bytes / 2;
  clipc_model_close(model);
  assert_true(at > 0);
  FILE *file = fopen(path, "r+b");
  assert_non_null(file);
  fseek(file, (long)at, SEEK_SET);
  int byte = fgetc(file);
  fseek(file, (long)at, SEEK_SET);
  fputc(byte ^ 64, file);
  fclose(file);
  model = golden_open_model(path, NULL);
  assert_int_equal(embed_everything(vectors, model, &lazy), 0);
  clipc_model_close(model);
  assert_int_equal(open_in_steps(&model, path, NULL, &(struct steps){.ready = true}, &error), CLIPC_E_FORMAT);
  assert_string_equal(error.message, lazy.message);
  assert_int_equal(open_in_steps(&model, path, NULL, &(struct steps){.ready = false}, &error), CLIPC_OK);
  clipc_model_close(model);
  test_folder_empty();
}

/* An opening that makes ready leaves nothing for the first request: no tokeniser is built, nothing is repacked. */
static void test_ready_is_ready(void **state) {
  (void)state;
  char *path = packed_of("models/tiny", &(clipc_options){.tier = CLIPC_TIER_PLAIN_C});
  size_t n_asked[2];
  for (int ready = 0; ready < 2; ready++) {
    struct test_memory memory = {0};
    clipc_options options = {.allocator = test_allocator(&memory)};
    clipc_error error = {CLIPC_OK, ""};
    clipc_model *model;
    int32_t ids[128];
    size_t n_ids;
    struct steps steps = {.ready = ready == 1};
    if (open_in_steps(&model, path, &options, &steps, &error) != CLIPC_OK) fail_msg("%s", error.message);
    memory.n_asked = 0;
    assert_true(clipc_context_length(model) <= COUNT(ids));
    assert_int_equal(clipc_tokenize(model, "a", 1, ids, &n_ids, &error), CLIPC_OK);
    for (int tower = CLIPC_TOWER_IMAGE; tower <= CLIPC_TOWER_TEXT; tower++)
      assert_int_equal(clipc__model_tower_ready(model, tower, &error), CLIPC_OK);
    n_asked[ready] = memory.n_asked;
    clipc_model_close(model);
  }
  assert_true(n_asked[1] < 10 && n_asked[0] > n_asked[1]);
  test_folder_empty();
}

/* ---- JSON in pieces */

static const clipc_allocator plain;

static void compare_json(const char *text, size_t n_text, size_t step) {
  const char *stop = text;
  cJSON *whole = cJSON_ParseWithLengthOpts(text, n_text, &stop, false);
  struct clipc__json_pieces pieces = {.text = text, .n_text = n_text, .piece.allocator = plain};
  while (!clipc__json_pieces_step(&pieces, step)) continue;
  assert_true((whole == NULL) == (pieces.root == NULL));
  if (whole != NULL) {
    char *a = cJSON_PrintUnformatted(whole), *b = cJSON_PrintUnformatted(pieces.root);
    assert_string_equal(a, b);
    free(a);
    free(b);
    while (stop < text + n_text && strchr(" \t\r\n", *stop)) stop++;
    while (pieces.stop < text + n_text && strchr(" \t\r\n", *pieces.stop)) pieces.stop++;
    /* lists hang together backwards too */
    for (const cJSON *item = pieces.root->child; item; item = item->next)
      assert_ptr_equal(item->next ? item->next->prev : pieces.root->child->prev, item);
  }
  assert_ptr_equal(stop, pieces.stop);
  cJSON_Delete(whole);
  clipc__json_pieces_free(&pieces);
}

static void test_json_pieces(void **state) {
  (void)state;
  random_start(0);
  static const char *const texts[] = {"{}",
                                      " { } ",
                                      "{\"a\":1}",
                                      "{\"a\":1,}",
                                      "{,\"a\":1}",
                                      "{\"a\":[]}",
                                      "{\"a\":[],}",
                                      "{\"a\":[1,[2] 3]}",
                                      "{\"a\":[[1] [2]]}",
                                      "{\"a\":{} \"b\":1}",
                                      "{\"a\":{},\"b\":{\"c\":[1,[2,{\"d\":[[[]]]}],3]}} ",
                                      "{\"a\":[1}",
                                      "{\"a\" {}}",
                                      "{\"a\":1 {}}",
                                      "{\"\\\"[{\":\"\\\\\",\"b\":\"}\"}",
                                      "{\"a\":1}}",
                                      "{\"a\":1} {}",
                                      "[1]",
                                      "[]",
                                      "1",
                                      "",
                                      "   ",
                                      "{",
                                      "{\"a\":",
                                      "{\"a\":\"b\\",
                                      "{\"a\":[{\"b\":[{\"c\":[1,2]},{}]},[]],\"a\":{}}",
                                      "{\"a\":{]}",
                                      "{\"a\":[,]}",
                                      "{\"a\":[[],,[]]}",
                                      "{\"a\":[[],]}",
                                      "{[]}",
                                      "{{}}",
                                      "{\"a\":1:{}}",
                                      "\xef\xbb\xbf{\"a\":[1]}",
                                      "{\"a\":\x01[1]}",
                                      "{\"a\":[1]\x01,\"b\":2}",
                                      "x{\"a\":1}"};
  for (size_t i = 0; i < COUNT(texts); i++)
    for (size_t step = 1; step < 4; step++) compare_json(texts[i], strlen(texts[i]), step);
  static char text[200000];
  static const char marks[] = "{}[],:\"\\ 1a";
  for (int round = 0; round < 300; round++) { /* enough members for several pieces, sometimes broken somewhere */
    size_t n = (size_t)snprintf(text, sizeof text, "{\"added\":[{\"id\":1}],\"model\":{\"type\":\"BPE\",\"vocab\":{");
    uint32_t n_members = round % 10 == 0 ? 4000 : random_below(40);
    for (uint32_t i = 0; i < n_members; i++)
      n += (size_t)snprintf(text + n, sizeof text - n, "%s\"%c\\\"t%u</w>\": %u", i ? ", " : "",
                            marks[random_below(7) % 6], i, i);
    n += (size_t)snprintf(text + n, sizeof text - n, "},\"merges\":[");
    for (uint32_t i = 0; i < n_members; i++)
      n += (size_t)snprintf(text + n, sizeof text - n, i % 2 ? ",[\"a%u\",\"b\"]" : "%c\"a%u b\"",
                            i % 2 ? (int)i
                            : i   ? ','
                                  : ' ',
                            i);
    n += (size_t)snprintf(text + n, sizeof text - n, "]},\"x\":null}");
    for (int k = 0; k < round % 3; k++) text[random_below((uint32_t)n)] = marks[random_below(sizeof marks - 1)];
    compare_json(text, n, round % 2 ? SIZE_MAX : 1 + random_below(3000));
  }
}

/* ---- how long a step takes */

static void test_longest_step(void **state) {
  (void)state;
  if (!test_full_sizes()) return;
  char *folder = synthetic_folder("hf-vit-b-32", NULL);
  for (int threads = 1; threads <= 2; threads++) {
    double longest = 0, total = 0;
    size_t n_steps = 0, n_long = 0;
    clipc_opening *opening;
    clipc_model *model = NULL;
    clipc_error error = {CLIPC_OK, ""};
    assert_int_equal(clipc_model_open_begin(&opening, folder, &(clipc_options){.n_threads = threads}, &error),
                     CLIPC_OK);
    while (model == NULL) {
      struct timespec a, b;
      clock_gettime(CLOCK_MONOTONIC, &a);
      if (clipc_model_open_step(opening, &model, &error) != CLIPC_OK) fail_msg("%s", error.message);
      clock_gettime(CLOCK_MONOTONIC, &b);
      double ms = (double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) * 1e-6;
      if (ms > longest) longest = ms;
      total += ms;
      n_long += ms > 4;
      n_steps++;
    }
    clipc_opening_close(opening);
    clipc_model_close(model);
    print_message("ViT-B/32 on %d threads: %zu steps, %.0f ms, the longest %.2f ms, %zu above 4 ms\n", threads, n_steps,
                  total, longest, n_long);
    assert_true(n_steps > 100);
  }
  test_folder_delete(folder);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_same_model),     cmocka_unit_test(test_same_packed),
      cmocka_unit_test(test_ends),           cmocka_unit_test(test_given_up_and_failing_memory),
      cmocka_unit_test(test_same_sentences), cmocka_unit_test(test_damaged_tower),
      cmocka_unit_test(test_ready_is_ready), cmocka_unit_test(test_json_pieces),
      cmocka_unit_test(test_longest_step),
  };
  return cmocka_run_group_tests_name("opening", tests, test_folder_make, test_folder_remove);
}
