/* What a session shows of its layers: transformers' and open_clip's hidden states (tests/goldens/layers), in every
 * precision and from packed files; which rows, which item, in which order; and that looking changes no result. */
#include "golden.h"
#include "packs.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LAYERS_TOLERANCE 5e-6 /* of a row, relative to its length */

/* [n_layers, n_tokens, width] */
struct states {
  size_t n_layers, n_tokens, width;
  float *values;
};

static struct states load_states(const char *name) {
  char path[256];
  struct states states;
  size_t n_bytes;
  snprintf(path, sizeof path, "tests/goldens/layers/%s.npy", name);
  unsigned char *file = test_read_file(path, &n_bytes);
  size_t start = 10 + (file[8] | (size_t)file[9] << 8);
  char *header = malloc(start - 9);
  assert_non_null(header);
  memcpy(header, file + 10, start - 10);
  header[start - 10] = 0;
  char *shape = strstr(header, "'shape': (");
  assert_non_null(shape);
  assert_int_equal(sscanf(shape, "'shape': (%zu, %zu, %zu)", &states.n_layers, &states.n_tokens, &states.width), 3);
  size_t n = states.n_layers * states.n_tokens * states.width;
  assert_int_equal(n_bytes, start + n * sizeof(float));
  states.values = malloc(n * sizeof(float));
  assert_non_null(states.values);
  memcpy(states.values, file + start, n * sizeof(float));
  free(header);
  free(file);
  return states;
}

/* ---- an observer that keeps what it sees */

#define MOST_SEEN 256

struct seen {
  size_t n;
  clipc_layer layers[MOST_SEEN];
  float *values[MOST_SEEN];
};

static void see(void *context, const clipc_layer *layer) {
  struct seen *seen = context;
  assert_true(seen->n < MOST_SEEN);
  size_t n = layer->n_tokens * layer->width;
  seen->layers[seen->n] = *layer;
  seen->layers[seen->n].hidden = seen->values[seen->n] = malloc(n * sizeof(float));
  assert_non_null(seen->values[seen->n]);
  memcpy(seen->values[seen->n++], layer->hidden, n * sizeof(float));
}

static void seen_free(struct seen *seen) {
  for (size_t i = 0; i < seen->n; i++) free(seen->values[i]);
  seen->n = 0;
}

/* ---- the goldens */

static const struct {
  const char *states, *model;
  int which; /* PIXELS, or */
  int32_t n_ids, ids[20];
} cases[] = {
    {"hf-quick-pixels-0", "hf-quick", 0, 0, {0}},
    {"hf-quick-ids-0", "hf-quick", -1, 7, {118, 17, 45, 9, 88, 23, 119}},
    {"hf-quick-ids-4", "hf-quick", -1, 11, {118, 33, 2, 34, 7, 35, 119, 36, 7, 119, 5}},
    {"oc-clipa-pixels-1", "oc-clipa", 1, 0, {0}},
    {"oc-clipa-ids-0", "oc-clipa", -1, 7, {118, 17, 45, 9, 88, 23, 119}},
    {"oc-eos-pixels-0", "oc-eos", 0, 0, {0}},
    {"oc-eos-ids-4", "oc-eos", -1, 11, {118, 33, 2, 34, 7, 35, 119, 36, 7, 119, 5}},
};

/* The layers of one case by a model that is open, and its embedding. */
static void look(clipc_model *model, size_t which, struct seen *seen, float *embedding) {
  clipc_session *session = golden_open_session(model, 1, 0);
  clipc_error error = {CLIPC_OK, ""};
  if (seen) clipc_session_observe(session, see, seen);
  if (cases[which].n_ids > 0) {
    clipc_embed_ids(session, cases[which].ids, (size_t)cases[which].n_ids, embedding, &error);
  } else {
    int height = clipc_image_height(model), width = clipc_image_width(model);
    float *pixels = malloc(3 * (size_t)height * (size_t)width * sizeof *pixels);
    assert_non_null(pixels);
    synthetic_pixels(pixels, cases[which].which, height, width);
    clipc_embed_image_pixels(session, pixels, embedding, &error);
    free(pixels);
  }
  if (error.status != CLIPC_OK) fail_msg("%s", error.message);
  clipc_session_close(session);
}

/* Greatest distance of a row from the reference's, by its length, in all layers. */
static double farthest_row(const struct seen *seen, const struct states *states) {
  double most = 0;
  assert_int_equal(seen->n, states->n_layers);
  for (size_t l = 0; l < seen->n; l++) {
    const clipc_layer *layer = &seen->layers[l];
    assert_int_equal(layer->layer, (int)l);
    assert_int_equal(layer->n_layers + 1, (int)states->n_layers);
    assert_int_equal(layer->width, states->width);
    assert_int_equal(layer->item, 0);
    assert_true(layer->n_tokens <= states->n_tokens);
    for (size_t t = 0; t < layer->n_tokens; t++) {
      const float *ours = layer->hidden + t * states->width;
      const float *theirs = states->values + (l * states->n_tokens + t) * states->width;
      double apart = 0, length = 0;
      for (size_t i = 0; i < states->width; i++) {
        apart += ((double)ours[i] - (double)theirs[i]) * ((double)ours[i] - (double)theirs[i]);
        length += (double)theirs[i] * (double)theirs[i];
      }
      if (!(sqrt(apart / length) <= most)) most = sqrt(apart / length);
    }
  }
  return most;
}

static void test_hidden_states_of_the_references(void **state) {
  static const double limits[] = {LAYERS_TOLERANCE, 0.02, 0.05};
  (void)state;
  for (size_t c = 0; c < COUNT(cases); c++) {
    struct states states = load_states(cases[c].states);
    char *folder = synthetic_folder(cases[c].model, NULL);
    double most[3];
    for (int p = CLIPC_PRECISION_F32; p <= CLIPC_PRECISION_INT8; p++) {
      struct seen seen = {0};
      float embedding[64];
      clipc_model *model = golden_open_model(folder, &(clipc_options){.precision = (clipc_precision)p});
      look(model, c, &seen, embedding);
      most[p] = farthest_row(&seen, &states);
      if (!(most[p] <= limits[p])) fail_msg("%s: precision %d: rows %.1e apart", cases[c].states, p, most[p]);
      seen_free(&seen);
      clipc_model_close(model);
    }
    printf("%-18s rows at most %.1e apart by their length in f32, %.1e in bf16, %.1e in int8\n", cases[c].states,
           most[0], most[1], most[2]);
    free(states.values);
    test_folder_delete(folder);
  }
}

static size_t tokens_of(const char *model_name, const int32_t *ids, size_t n_ids) {
  char *folder = synthetic_folder(model_name, NULL);
  clipc_model *model = golden_open_model(folder, NULL);
  clipc_session *session = golden_open_session(model, 1, 0);
  struct seen seen = {0};
  float embedding[64];
  clipc_session_observe(session, see, &seen);
  assert_int_equal(clipc_embed_ids(session, ids, n_ids, embedding, NULL), CLIPC_OK);
  size_t n = seen.layers[0].n_tokens;
  for (size_t i = 0; i < seen.n; i++) {
    assert_int_equal(seen.layers[i].n_tokens, n);
    assert_int_equal(seen.layers[i].tower, CLIPC_TOWER_TEXT);
  }
  seen_free(&seen);
  clipc_session_close(session);
  clipc_model_close(model);
  test_folder_delete(folder);
  return n;
}

static void test_the_tokens_that_a_text_tower_looks_at(void **state) {
  static const int32_t ids[] = {118, 33, 2, 34, 7, 35, 119, 36, 7, 119, 5};
  (void)state;
  assert_int_equal(tokens_of("hf-quick", ids, COUNT(ids)), 7);  /* causal: up to the first of the greatest ids */
  assert_int_equal(tokens_of("oc-eos", ids, COUNT(ids)), 5);    /* up to the first 7 */
  assert_int_equal(tokens_of("oc-clipa", ids, COUNT(ids)), 20); /* both ways: pads too */
}

/* ---- what looking must not change */

static void test_a_packed_file_shows_the_same(void **state) {
  (void)state;
  char *folder = synthetic_folder("hf-quick", NULL);
  for (int p = CLIPC_PRECISION_F32; p <= CLIPC_PRECISION_INT8; p++) {
    clipc_options options = {.precision = (clipc_precision)p};
    clipc_model *plain = golden_open_model(folder, &options);
    clipc_model *packed = golden_open_model(pack_folder(folder, &options, "layers.clipc"), NULL);
    for (size_t c = 0; c < 3; c++) {
      struct seen a = {0}, b = {0};
      float embedding[64];
      look(plain, c, &a, embedding);
      look(packed, c, &b, embedding);
      assert_int_equal(a.n, b.n);
      for (size_t l = 0; l < a.n; l++) {
        assert_int_equal(a.layers[l].n_tokens, b.layers[l].n_tokens);
        assert_memory_equal(a.values[l], b.values[l], a.layers[l].n_tokens * a.layers[l].width * sizeof(float));
      }
      seen_free(&a);
      seen_free(&b);
    }
    clipc_model_close(plain);
    clipc_model_close(packed);
  }
  test_folder_delete(folder);
}

static void test_embeddings_stay(void **state) {
  (void)state;
  for (size_t c = 0; c < COUNT(cases); c++) {
    char *folder = synthetic_folder(cases[c].model, NULL);
    for (int p = CLIPC_PRECISION_F32; p <= CLIPC_PRECISION_INT8; p++) {
      clipc_model *model = golden_open_model(folder, &(clipc_options){.precision = (clipc_precision)p});
      struct seen seen = {0};
      float looked[64], unseen[64];
      look(model, c, &seen, looked);
      look(model, c, NULL, unseen);
      /* The few pooled rows may be taken in finer numbers where that is as fast. */
      assert_true(vector_difference(looked, unseen, clipc_embedding_dimension(model)) <= (p == 0 ? 2e-6 : 3e-2));
      seen_free(&seen);
      clipc_model_close(model);
    }
    test_folder_delete(folder);
  }
}

/* ---- many items */

/* Five items in pieces of two, one of which fails. */
static void test_every_item_is_named(void **state) {
  static const int32_t ids[][4] = {{118, 5, 119}, {118, 6, 7, 119}, {118, 500, 119}, {118, 119}, {118, 9, 119}};
  static const size_t n_ids[] = {3, 4, 3, 2, 3};
  static const size_t expected[][2] = {{0, 3}, {1, 4}, {3, 2}, {4, 3}}; /* item, tokens */
  (void)state;
  char *folder = synthetic_folder("hf-quick", NULL);
  clipc_model *model = golden_open_model(folder, NULL);
  clipc_session *session = golden_open_session(model, 2, 0), *other = golden_open_session(model, 1, 0);
  struct seen seen = {0}, single = {0};
  clipc_text texts[5];
  float *embeddings = calloc(5 * clipc_embedding_dimension(model), sizeof(float));
  assert_non_null(embeddings);
  for (size_t i = 0; i < 5; i++) texts[i] = clipc_text_ids(ids[i], n_ids[i]);
  clipc_session_observe(session, see, &seen);
  assert_int_equal(clipc_embed_texts(session, texts, 5, embeddings, NULL, NULL), CLIPC_E_INVALID);
  assert_int_equal(seen.n, 4 * 4);
  size_t n_of[5] = {0};
  for (size_t i = 0; i < seen.n; i++) {
    const clipc_layer *layer = &seen.layers[i];
    assert_true(layer->item < 5);
    assert_int_equal(layer->layer, (int)n_of[layer->item]++);
    if (i > 0 && layer->layer > 0) assert_true(layer->layer >= seen.layers[i - 1].layer);
  }
  for (size_t e = 0; e < COUNT(expected); e++) {
    size_t item = expected[e][0];
    clipc_session_observe(other, see, &single);
    assert_int_equal(clipc_embed_ids(other, ids[item], n_ids[item], embeddings, NULL), CLIPC_OK);
    for (size_t i = 0; i < seen.n; i++) {
      const clipc_layer *layer = &seen.layers[i];
      if (layer->item != item) continue;
      assert_int_equal(layer->n_tokens, expected[e][1]);
      const float *alone = single.values[layer->layer];
      for (size_t k = 0; k < layer->n_tokens * layer->width; k++)
        assert_true(fabsf(alone[k] - layer->hidden[k]) <= 2e-5f);
    }
    seen_free(&single);
  }
  seen_free(&seen);
  free(embeddings);
  clipc_session_close(session);
  clipc_session_close(other);
  clipc_model_close(model);
  test_folder_delete(folder);
}

static void test_step_by_step(void **state) {
  (void)state;
  char *folder = synthetic_folder("hf-quick", NULL);
  clipc_model *model = golden_open_model(folder, NULL);
  clipc_session *session = golden_open_session(model, 1, 0);
  const int32_t ids[] = {118, 5, 119};
  clipc_text text = clipc_text_ids(ids, 3);
  float embedding[64];
  struct seen seen = {0};
  int done = 0;
  clipc_session_observe(NULL, see, &seen);
  assert_int_equal(clipc_begin_texts(session, &text, 1, embedding, NULL, NULL), CLIPC_OK);
  assert_int_equal(clipc_step(session, &done, NULL), CLIPC_OK);
  assert_int_equal(seen.n, 0);
  clipc_session_observe(session, see, &seen); /* from the next step on */
  for (size_t n = 1; n <= 3; n++) {
    assert_int_equal(clipc_step(session, &done, NULL), CLIPC_OK);
    assert_int_equal(seen.n, n);
    assert_int_equal(seen.layers[n - 1].layer, (int)n);
  }
  clipc_session_observe(session, NULL, NULL);
  while (!done) assert_int_equal(clipc_step(session, &done, NULL), CLIPC_OK);
  assert_int_equal(seen.n, 3);
  float again[64];
  assert_int_equal(clipc_embed_ids(session, ids, 3, again, NULL), CLIPC_OK);
  assert_int_equal(seen.n, 3);
  assert_true(vector_difference(embedding, again, clipc_embedding_dimension(model)) <= 2e-6);
  seen_free(&seen);
  clipc_session_close(session);
  clipc_model_close(model);
  test_folder_delete(folder);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_hidden_states_of_the_references),
      cmocka_unit_test(test_the_tokens_that_a_text_tower_looks_at),
      cmocka_unit_test(test_a_packed_file_shows_the_same),
      cmocka_unit_test(test_embeddings_stay),
      cmocka_unit_test(test_every_item_is_named),
      cmocka_unit_test(test_step_by_step),
  };
  return cmocka_run_group_tests(tests, test_folder_make, test_folder_remove);
}
