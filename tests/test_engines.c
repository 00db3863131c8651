/* Models of a user's own behind a registry: one that goes on from a prompt, one that draws what a caption says. That
 * the drawings show it is for the bundled CLIP to say. */
#include "../examples/small_engines.h"
#include "fake_engine.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char story[] = "the red car stood before the house under the moon and nobody came to fetch it.\n"
                            "the yellow fish swam under the blue boat and the boat went to the house by the river.\n"
                            "a green star fell into the river and the fish took it for a flower.\n"
                            "the moon saw the red car and the red car saw the moon until the sun came.\n"
                            "when the sun came the red car went home and the blue boat slept by the river.\n";
static const struct small_text text = {.text = story, .n_bytes = sizeof story - 1};

struct models {
  clipc_runtime *runtime;
  clipc_registry *registry;
  clipc_text_to_text words;
  clipc_text_to_image pictures;
  clipc_vision clip;
};

static int open_models(void **state) {
  struct models *m = calloc(1, sizeof *m);
  m->runtime = fake_runtime(NULL);
  m->registry = fake_registry(m->runtime, NULL);
  const clipc_loader writer = small_text_loader(&text), drawer = small_drawer_loader();
  assert_int_equal(clipc_registry_add(m->registry, "story", CLIPC_CAN(CLIPC_TEXT_TO_TEXT), &writer, NULL), CLIPC_OK);
  assert_int_equal(clipc_registry_add(m->registry, "drawer", CLIPC_CAN(CLIPC_TEXT_TO_IMAGE), &drawer, NULL), CLIPC_OK);
  assert_int_equal(clipc_registry_add_model(m->registry, "tiny", "models/tiny", NULL, NULL), CLIPC_OK);
  assert_int_equal(clipc_registry_text_to_text(m->registry, "story", &m->words, NULL), CLIPC_OK);
  assert_int_equal(clipc_registry_text_to_image(m->registry, "drawer", &m->pictures, NULL), CLIPC_OK);
  assert_int_equal(clipc_registry_vision(m->registry, "tiny", &m->clip, NULL), CLIPC_OK);
  *state = m;
  return 0;
}

static int close_models(void **state) {
  struct models *m = *state;
  clipc_registry_close(m->registry);
  clipc_runtime_close(m->runtime);
  free(m);
  return 0;
}

/* ---- text to text */

static char *generate(const struct models *m, const char *prompt, uint64_t seed, uint64_t max_chunks) {
  const clipc_request more = {.seed = seed, .max_chunks = max_chunks};
  clipc_pending *pending = m->words.generate(m->words.self, prompt, &more);
  clipc_error error;
  if (clipc_pending_wait(pending, 20000, &error) != CLIPC_OK) fail_msg("%s", error.message);
  const clipc_result *result = clipc_pending_result(pending);
  char *copy = strdup(result->text ? result->text : "");
  assert_int_equal(result->text_bytes, strlen(copy));
  clipc_pending_close(pending);
  return copy;
}

/* Every word is the story's, and so is every run of `order` characters: it has learnt, and invents nothing. */
static void test_goes_on(void **state) {
  const struct models *m = *state;
  int n_different = 0;
  char *first = generate(m, "the red car ", 1, 0);
  for (uint64_t seed = 1; seed <= 20; seed++) {
    char *said = generate(m, "the red car ", seed, 0), *again = generate(m, "the red car ", seed, 0);
    assert_string_equal(said, again);
    assert_true(strlen(said) > 3);
    for (size_t i = 0; i + 9 <= strlen(said); i++) {
      char run[10];
      snprintf(run, sizeof run, "%s", said + i);
      if (!strstr(story, run)) fail_msg("\"%s\" is not in the story: \"%s\"", run, said);
    }
    n_different += strcmp(said, first) != 0;
    free(said);
    free(again);
  }
  assert_true(n_different > 5);
  free(first);
  char *foreign = generate(m, "Xylophones!", 3, 4); /* a prompt that it has never seen */
  assert_true(strlen(foreign) > 0);
  free(foreign);
}

static void test_stream_of_words(void **state) {
  const struct models *m = *state;
  const clipc_request more = {.seed = 5, .stream_capacity = 1};
  clipc_pending *pending = m->words.generate(m->words.self, "the moon ", &more);
  clipc_chunk chunk;
  char all[4096] = "";
  int n = 0;
  for (;; n++) {
    assert_int_equal(clipc_pending_wait_chunk(pending, 20000, &chunk, NULL), CLIPC_OK);
    if (chunk.text == NULL) break;
    assert_int_equal(strlen(chunk.text), chunk.text_bytes);
    strncat(all, chunk.text, sizeof all - strlen(all) - 1);
  }
  assert_true(n > 2);
  assert_int_equal(clipc_pending_wait(pending, 20000, NULL), CLIPC_OK);
  assert_string_equal(clipc_pending_result(pending)->text, all);
  clipc_pending_close(pending);
  char *five = generate(m, "the moon ", 5, 5);
  int n_words = 0;
  for (const char *c = five; *c; c++) n_words += *c == ' ';
  assert_true(n_words <= 5);
  assert_int_equal(strncmp(all, five, strlen(five)), 0);
  free(five);
}

static void test_many_at_once(void **state) {
  const struct models *m = *state;
  clipc_pending *pending[60];
  for (int i = 0; i < 60; i++) {
    const clipc_request more = {.seed = (uint64_t)i % 6, .max_chunks = 20};
    pending[i] = m->words.generate(m->words.self, "the ", &more);
  }
  for (int i = 0; i < 60; i++) assert_int_equal(clipc_pending_wait(pending[i], 20000, NULL), CLIPC_OK);
  for (int i = 6; i < 60; i++)
    assert_string_equal(clipc_pending_result(pending[i])->text, clipc_pending_result(pending[i % 6])->text);
  for (int i = 0; i < 60; i++) clipc_pending_close(pending[i]);
}

/* ---- text to image */

/* The picture as a file that any program reads. */
static uint8_t *as_pnm(const clipc_chunk *picture, size_t *n_bytes) {
  char head[32];
  size_t n_head = (size_t)snprintf(head, sizeof head, "P6\n%d %d\n255\n", picture->width, picture->height);
  size_t n_pixels = 3 * (size_t)picture->width * (size_t)picture->height;
  uint8_t *file = malloc(n_head + n_pixels);
  memcpy(file, head, n_head);
  memcpy(file + n_head, picture->rgb, n_pixels);
  *n_bytes = n_head + n_pixels;
  return file;
}

static void test_draws_what_it_says(void **state) {
  static const char *const labels[] = {
      "red circle",   "blue square",       "green star",          "yellow heart at the top",
      "purple cross", "three green stars", "five purple circles", "blue diamond"};
  const struct models *m = *state;
  int n_right = 0, n = 0;
  for (size_t l = 0; l < COUNT(labels); l++) {
    const clipc_request more = {.seed = l, .max_chunks = 3};
    clipc_pending *drawn = m->pictures.draw(m->pictures.self, labels[l], &more);
    assert_int_equal(clipc_pending_wait(drawn, 20000, NULL), CLIPC_OK);
    const clipc_result *result = clipc_pending_result(drawn);
    assert_int_equal(result->n_pictures, 3);
    assert_memory_not_equal(result->pictures[0].rgb, result->pictures[1].rgb, 3 * 120 * 120);
    for (size_t i = 0; i < 3; i++) {
      clipc_input input = {.kind = CLIPC_INPUT_BYTES};
      uint8_t *file = as_pnm(&result->pictures[i], &input.n_bytes);
      input.data = file;
      clipc_pending *seen = m->clip.classify(m->clip.self, &input, labels, COUNT(labels), NULL);
      assert_int_equal(clipc_pending_wait(seen, 20000, NULL), CLIPC_OK);
      n_right += strcmp(clipc_pending_result(seen)->text, labels[l]) == 0;
      n++;
      clipc_pending_close(seen);
      free(file);
    }
    clipc_pending_close(drawn);
  }
  if (n_right < n - 2) fail_msg("the CLIP sees %d of %d drawings as what they are", n_right, n);
}

static void test_drawing_fails(void **state) {
  const struct models *m = *state;
  clipc_pending *pending = m->pictures.draw(m->pictures.self, "an elephant", NULL);
  clipc_error error;
  assert_int_equal(clipc_pending_wait(pending, 20000, &error), CLIPC_E_UNSUPPORTED);
  assert_string_equal(error.message, "the caption names no shape that can be drawn");
  clipc_pending_close(pending);
  const clipc_request more = {.max_chunks = 4, .stream_capacity = 1};
  pending = m->pictures.draw(m->pictures.self, "a red ring", &more); /* taken one by one */
  clipc_chunk chunk;
  for (int i = 0; i < 4; i++) {
    assert_int_equal(clipc_pending_wait_chunk(pending, 20000, &chunk, NULL), CLIPC_OK);
    assert_true(chunk.rgb != NULL && chunk.width == 120 && chunk.height == 120);
  }
  assert_int_equal(clipc_pending_wait_chunk(pending, 20000, &chunk, NULL), CLIPC_OK);
  assert_null(chunk.rgb);
  assert_true(clipc_pending_result(pending)->n_pictures <=
              1); /* the last one, where the end came before it was taken */
  clipc_pending_close(pending);
  assert_int_equal(
      wait_and_close(clipc_pool_ping(clipc_registry_pool(m->registry, "drawer", CLIPC_TEXT_TO_IMAGE), 0, NULL)),
      CLIPC_OK);
}

/* ---- a table that a user fills: code that takes one does not know whose it is */

static clipc_pending *shout(void *self, const char *prompt, const clipc_request *more) {
  const struct models *m = self;
  char loud[64];
  snprintf(loud, sizeof loud, "%s", prompt);
  for (char *c = loud; *c; c++) *c = (char)tolower((unsigned char)*c);
  return m->words.generate(m->words.self, loud, more);
}

static void test_a_table_of_ones_own(void **state) {
  struct models *m = *state;
  const clipc_text_to_text own = {m, shout}, *table = &own;
  clipc_pending *pending = table->generate(table->self, "THE RED CAR ", &(clipc_request){.seed = 1});
  assert_int_equal(clipc_pending_wait(pending, 20000, NULL), CLIPC_OK);
  char *said = generate(m, "the red car ", 1, 0);
  assert_string_equal(clipc_pending_result(pending)->text, said);
  free(said);
  clipc_pending_close(pending);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_goes_on),       cmocka_unit_test(test_stream_of_words),
      cmocka_unit_test(test_many_at_once),  cmocka_unit_test(test_draws_what_it_says),
      cmocka_unit_test(test_drawing_fails), cmocka_unit_test(test_a_table_of_ones_own),
  };
  return cmocka_run_group_tests(tests, open_models, close_models);
}
