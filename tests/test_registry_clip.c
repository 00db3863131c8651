/* Our CLIP behind a registry: bit for bit what the synchronous calls give, whoever it is computed with. */
#include "fake_engine.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct picture {
  char path[512];
  float row[128];
};

static size_t list_pictures(struct picture *pictures, size_t most) {
  size_t n = 0;
  DIR *folder = opendir("models/tiny/pictures");
  assert_non_null(folder);
  for (struct dirent *file; (file = readdir(folder)) != NULL && n < most;)
    if (file->d_name[0] != '.')
      snprintf(pictures[n++].path, sizeof pictures->path, "models/tiny/pictures/%s", file->d_name);
  closedir(folder);
  return n;
}

static char *to_base64(const uint8_t *bytes, size_t n, const char *before) {
  static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  char *text = malloc(strlen(before) + n / 3 * 4 + 8), *out = text + strlen(before);
  strcpy(text, before);
  for (size_t i = 0; i < n; i += 3) {
    uint32_t bits = (uint32_t)bytes[i] << 16 | (i + 1 < n ? bytes[i + 1] << 8 : 0) | (i + 2 < n ? bytes[i + 2] : 0);
    for (int d = 0; d < 4; d++)
      if (d < 2 || i + (size_t)d - 1 < n) *out++ = digits[bits >> (18 - 6 * d) & 63];
  }
  *out = '\0';
  return text;
}

static void check_row(clipc_pending *pending, const float *row) {
  clipc_error error;
  if (clipc_pending_wait(pending, 20000, &error) != CLIPC_OK) fail_msg("%s", error.message);
  assert_memory_equal(clipc_pending_result(pending)->embeddings, row, 128 * sizeof *row);
  clipc_pending_close(pending);
}

static void test_clip_images(void **state) {
  (void)state;
  static struct picture pictures[16];
  size_t n = list_pictures(pictures, COUNT(pictures));
  clipc_model *model;
  clipc_session *session;
  assert_int_equal(clipc_model_open(&model, "models/tiny", NULL, NULL), CLIPC_OK);
  assert_int_equal(clipc_session_open(&session, model, NULL, NULL), CLIPC_OK);
  for (size_t i = 0; i < n; i++)
    assert_int_equal(clipc_embed_image(session, pictures[i].path, pictures[i].row, NULL), CLIPC_OK);
  clipc_runtime *runtime = fake_runtime(NULL);
  clipc_registry *registry = fake_registry(runtime, &(clipc_registry_options){.max_batch = 5});
  assert_int_equal(clipc_registry_add_model(registry, "tiny", "models/tiny", NULL, NULL), CLIPC_OK);
  clipc_image_embedding table;
  assert_int_equal(clipc_registry_image_embedding(registry, "tiny", &table, NULL), CLIPC_OK);
  clipc_pending *paths[16], *texts[16], *poisoned[2];
  for (size_t i = 0; i < n; i++) { /* together, in whatever company */
    size_t n_bytes;
    uint8_t *bytes = test_read_file(pictures[i].path, &n_bytes);
    char *base64 = to_base64(bytes, n_bytes, i % 2 ? "data:image/png;base64," : " \n");
    paths[i] = table.embed_image(table.self, pictures[i].path, NULL);
    texts[i] = table.embed_image_base64(table.self, base64, strlen(base64), NULL);
    if (i < 2)
      poisoned[i] =
          i ? table.embed_image_base64(table.self, "!", 1, NULL) : table.embed_image(table.self, "no/such", NULL);
    free(base64);
    free(bytes);
  }
  for (size_t i = 0; i < n; i++) check_row(paths[i], pictures[i].row), check_row(texts[i], pictures[i].row);
  assert_int_equal(wait_and_close(poisoned[0]), CLIPC_E_IO);
  assert_int_equal(wait_and_close(poisoned[1]), CLIPC_E_FORMAT);
  assert_int_equal(wait_and_close(table.embed_image_base64(table.self, "", 0, NULL)), CLIPC_E_FORMAT);
  assert_int_equal(wait_and_close(table.embed_image_base64(table.self, "aGVsbG8=", 8, NULL)), CLIPC_E_FORMAT);
  clipc_input inputs[18];
  for (size_t i = 0; i < n; i++) inputs[i] = (clipc_input){CLIPC_INPUT_PATH, pictures[i].path, 0};
  inputs[n] = (clipc_input){CLIPC_INPUT_BYTES, "nothing", 7};
  inputs[n + 1] = (clipc_input){CLIPC_INPUT_PATH, pictures[0].path, 0};
  clipc_pending *batch = table.batch_embed_images(table.self, inputs, n + 2, NULL); /* more than max_batch */
  assert_int_equal(clipc_pending_wait(batch, 20000, NULL), CLIPC_OK);
  const clipc_result *result = clipc_pending_result(batch);
  for (size_t i = 0; i < n; i++)
    assert_memory_equal(result->embeddings + i * 128, pictures[i].row, sizeof pictures[i].row);
  assert_int_not_equal(result->item_errors[n].status, CLIPC_OK);
  assert_true(result->embeddings[n * 128] == 0.0f);
  assert_memory_equal(result->embeddings + (n + 1) * 128, pictures[0].row, sizeof pictures[0].row);
  clipc_pending_close(batch);
  assert_int_equal(table.embedding_dimension(table.self), 128);
  clipc_registry_close(registry);
  clipc_runtime_close(runtime);
  clipc_session_close(session);
  clipc_model_close(model);
}

static void test_clip_texts_and_labels(void **state) {
  (void)state;
  static const char *const labels[] = {"red circle", "blue square", "red car", "yellow fish"};
  clipc_model *model;
  clipc_session *session;
  float row[128], rows[4 * 128], image[128], scores[4];
  assert_int_equal(clipc_model_open(&model, "models/tiny", NULL, NULL), CLIPC_OK);
  assert_int_equal(clipc_session_open(&session, model, NULL, NULL), CLIPC_OK);
  assert_int_equal(clipc_embed_text(session, "a red car", row, NULL), CLIPC_OK);
  for (int i = 0; i < 4; i++) {
    char said[64];
    snprintf(said, sizeof said, "a photo of a %s", labels[i]);
    assert_int_equal(clipc_embed_text(session, said, rows + i * 128, NULL), CLIPC_OK);
  }
  assert_int_equal(clipc_embed_image(session, "models/tiny/pictures/yellow_fish.jpg", image, NULL), CLIPC_OK);
  clipc_logits(model, scores, image, 1, rows, 4);
  clipc_softmax(scores, scores, 4);
  clipc_runtime *runtime = fake_runtime(NULL);
  clipc_registry *registry = fake_registry(runtime, NULL);
  clipc_engine engine;
  assert_int_equal(clipc_model_engine(&engine, NULL, NULL, NULL), CLIPC_E_INVALID);
  assert_int_equal(clipc_registry_add_model(registry, "tiny", "models/tiny", NULL, NULL), CLIPC_OK);
  clipc_text_embedding text;
  clipc_vision vision;
  assert_int_equal(clipc_registry_text_embedding(registry, "tiny", &text, NULL), CLIPC_OK);
  assert_int_equal(clipc_registry_vision(registry, "tiny", &vision, NULL), CLIPC_OK);
  clipc_pending *pending = text.embed_text(text.self, "a red car", NULL);
  assert_int_equal(clipc_pending_wait(pending, 20000, NULL), CLIPC_OK);
  assert_memory_equal(clipc_pending_result(pending)->embeddings, row, sizeof row);
  clipc_pending_close(pending);
  const clipc_input fish = {CLIPC_INPUT_PATH, "models/tiny/pictures/yellow_fish.jpg", 0};
  const clipc_request more = {.prompt = "a photo of a {}"};
  for (int round = 0; round < 3; round++) {
    pending = vision.classify(vision.self, &fish, labels, 4, &more);
    assert_int_equal(clipc_pending_wait(pending, 20000, NULL), CLIPC_OK);
    const clipc_result *result = clipc_pending_result(pending);
    assert_string_equal(result->text, "yellow fish");
    assert_int_equal(result->n_labels, 4);
    assert_memory_equal(result->probabilities, scores, sizeof scores);
    clipc_pending_close(pending);
    pending = vision.classify(vision.self, &fish, labels, 2, NULL); /* other labels in between */
    assert_int_equal(clipc_pending_wait(pending, 20000, NULL), CLIPC_OK);
    assert_int_equal(clipc_pending_result(pending)->n_labels, 2);
    clipc_pending_close(pending);
  }
  assert_int_equal(wait_and_close(vision.describe(vision.self, &fish, "what is it?", NULL)), CLIPC_E_UNSUPPORTED);
  assert_int_equal(wait_and_close(vision.describe(vision.self, NULL, NULL, NULL)), CLIPC_E_INVALID);
  for (int c = 0; c < 3; c++)
    assert_int_equal(
        wait_and_close(clipc_pool_ping(clipc_registry_pool(registry, "tiny", (clipc_capability)c), 0, NULL)),
        c == CLIPC_IMAGE_EMBEDDING ? CLIPC_E_NO_WORKERS : CLIPC_OK);
  clipc_registry_close(registry);
  clipc_runtime_close(runtime);
  clipc_session_close(session);
  clipc_model_close(model);
}

static int load_opened(clipc_task *task, void *frame, const clipc_loader *loader, clipc_engine *engine,
                       clipc_error *error) {
  (void)task, (void)frame;
  return clipc_model_engine(engine, (clipc_model *)(uintptr_t)loader->source, NULL, error);
}

static void test_clip_opened_before(void **state) {
  (void)state;
  clipc_model *model;
  assert_int_equal(clipc_model_open(&model, "models/tiny", NULL, NULL), CLIPC_OK);
  clipc_runtime *runtime = fake_runtime(NULL);
  clipc_registry *registry = fake_registry(runtime, NULL);
  const clipc_loader loader = {.name = "opened", .run = load_opened, .source = model};
  assert_int_equal(clipc_registry_add(registry, "tiny", CLIPC_CAN(CLIPC_TEXT_EMBEDDING), &loader, NULL), CLIPC_OK);
  assert_int_equal(wait_and_close(ask(registry, "tiny", "a red car")), CLIPC_OK);
  clipc_registry_close(registry);
  clipc_runtime_close(runtime);
  clipc_model_close(model);
}

static void test_clip_missing(void **state) {
  (void)state;
  clipc_runtime *runtime = fake_runtime(NULL);
  clipc_registry *registry = fake_registry(runtime, NULL);
  assert_int_equal(clipc_registry_add_model(registry, "none", "no/such/folder", NULL, NULL), CLIPC_OK);
  clipc_pending *pending = ask(registry, "none", "x");
  clipc_error error;
  assert_int_equal(clipc_pending_wait(pending, 20000, &error), CLIPC_E_SPAWN_FAILED);
  assert_non_null(strstr(error.message, "no/such/folder"));
  clipc_pending_close(pending);
  const clipc_options options = {.towers = CLIPC_TOWER_IMAGE};
  assert_int_equal(clipc_registry_add_model(registry, "blind", "models/tiny", &options, NULL), CLIPC_OK);
  assert_int_equal(wait_and_close(ask(registry, "blind", "x")), CLIPC_E_MODEL);
  clipc_registry_close(registry);
  clipc_runtime_close(runtime);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_clip_images),
      cmocka_unit_test(test_clip_texts_and_labels),
      cmocka_unit_test(test_clip_opened_before),
      cmocka_unit_test(test_clip_missing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
