/* Getting one tower of a model whose weights are in several files. */
#include "pull_room.h"

#include "async/pull.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The bundled model in shards: its files, to be given to the hub. */
struct sharded {
  struct hub_file files[16];
  char names[16][64];
  size_t n, n_shards;
};

static void make_sharded(struct sharded *model) {
  const char *folder = room_in("sharded");
  char path[1200];
  clipc_convert_options options = {.shard_bytes = 700000};
  assert_int_equal(clipc_convert("models/tiny", folder, &options, NULL, NULL), CLIPC_OK);
  memset(model, 0, sizeof *model);
  DIR *names = opendir(folder);
  for (struct dirent *name; (name = readdir(names)) != NULL;) {
    if (name->d_name[0] == '.') continue;
    assert_true(model->n < 16);
    struct hub_file *file = &model->files[model->n];
    snprintf(model->names[model->n], sizeof model->names[0], "%.63s", name->d_name);
    snprintf(path, sizeof path, "%s/%s", folder, name->d_name);
    file->name = model->names[model->n++];
    file->is_large = strstr(file->name, ".safetensors") && !strstr(file->name, ".json");
    file->data = test_read_file(path, &file->n_bytes);
    model->n_shards += file->is_large;
  }
  closedir(names);
  room_serve(model->files, model->n);
}

static void free_sharded(struct sharded *model) {
  room_serve(NULL, 0);
  for (size_t i = 0; i < model->n; i++) free((void *)(uintptr_t)model->files[i].data);
}

static size_t count_shards(const char *folder) {
  size_t n = 0;
  DIR *names = opendir(folder);
  for (struct dirent *name; names && (name = readdir(names)) != NULL;) n += strncmp(name->d_name, "model-", 6) == 0;
  if (names) closedir(names);
  return n;
}

/* The folder has this tower alone, and gives the vectors of the whole model. */
static void assert_tower(const char *folder, int tower) {
  float vectors[2][1024];
  for (int i = 0; i < 2; i++) {
    clipc_model *model;
    clipc_session *session;
    clipc_options asked = {.towers = tower};
    if (clipc_model_open(&model, i ? folder : "models/tiny", &asked, &room.error)) fail_msg("%s", room.error.message);
    assert_true(clipc_embedding_dimension(model) <= COUNT(vectors[0]));
    assert_int_equal(clipc_session_open(&session, model, NULL, NULL), CLIPC_OK);
    if (tower == CLIPC_TOWER_TEXT)
      assert_int_equal(clipc_embed_text(session, "a photo of a red car", vectors[i], NULL), CLIPC_OK);
    else
      assert_int_equal(clipc_embed_image(session, "models/tiny/pictures/red_car.jpg", vectors[i], NULL), CLIPC_OK);
    if (i) assert_memory_equal(vectors[0], vectors[1], clipc_embedding_dimension(model) * sizeof(float));
    clipc_session_close(session);
    clipc_model_close(model);
  }
  clipc_model *model;
  for (int i = 0; i < 3; i++) { /* the other one, both, and whatever there is: what is absent may be so by accident */
    clipc_options other = {.towers = i == 2 ? 0 : (CLIPC_TOWER_IMAGE | CLIPC_TOWER_TEXT) & ~(i ? 0 : tower)};
    assert_int_equal(clipc_model_open(&model, folder, &other, &room.error), CLIPC_E_MODEL);
    assert_non_null(strstr(room.error.message, "tower alone, or get the rest"));
  }
}

/* What is made of a folder of one tower is a folder of that tower. */
static void assert_converts(const char *folder, int tower) {
  clipc_convert_options options = {.type = CLIPC_WEIGHTS_F32};
  assert_int_equal(clipc_convert(folder, room_in("made"), &options, NULL, &room.error), CLIPC_E_MODEL);
  assert_non_null(strstr(room.error.message, "tower alone, or get the rest"));
  options.towers = tower;
  if (clipc_convert(folder, room_in("made"), &options, NULL, &room.error)) fail_msg("%s", room.error.message);
  clipc_model *models[2];
  clipc_options asked = {.towers = tower};
  char prints[2][CLIPC_FINGERPRINT_BYTES];
  for (int i = 0; i < 2; i++) {
    assert_int_equal(clipc_model_open(&models[i], i ? room_in("made") : folder, &asked, NULL), CLIPC_OK);
    assert_int_equal(clipc_model_fingerprint(models[i], prints[i], NULL), CLIPC_OK);
    clipc_model_close(models[i]);
  }
  assert_string_equal(prints[0], prints[1]);
  char command[1200];
  snprintf(command, sizeof command, "rm -r '%s'", room_in("made"));
  assert_int_equal(system(command), 0);
}

static void of_one_tower_only_its_shards_come(void **state) {
  (void)state;
  static const char *const names[] = {"", "image", "text"};
  struct sharded model;
  char found[1024];
  make_sharded(&model);
  assert_true(model.n_shards >= 5);
  const char *cache = room_in("one tower");
  for (int tower = CLIPC_TOWER_IMAGE; tower <= CLIPC_TOWER_TEXT; tower++) {
    const char *folder = room_in(names[tower]);
    assert_pulled("org/model", .folder = folder, .towers = tower);
    size_t n = count_shards(folder);
    assert_true(n > 0 && n < model.n_shards);
    assert_tower(folder, tower);
    assert_converts(folder, tower);
    int asked = hub_server_files(room.server);
    assert_pulled("org/model", .folder = folder, .towers = tower); /* it is there */
    assert_int_equal(hub_server_files(room.server), asked + 1);    /* the index */
  }
  assert_pulled("org/model", .cache = cache, .towers = CLIPC_TOWER_IMAGE);
  assert_tower(room.path, CLIPC_TOWER_IMAGE);
  assert_int_equal(clipc_pull_find(found, sizeof found, "org/model", NULL, cache, NULL), CLIPC_OK);
  assert_string_equal(found, room.path);
  assert_pulled("org/model", .cache = cache, .towers = CLIPC_TOWER_IMAGE, .offline = 1);
  assert_pulled("org/model", .cache = cache, .towers = CLIPC_TOWER_IMAGE, .offline = 1, .folder = room_in("copy"));
  assert_tower(room_in("copy"), CLIPC_TOWER_IMAGE);
  assert_refused(CLIPC_E_IO, "not in the cache", "org/model", .cache = cache, .towers = CLIPC_TOWER_TEXT, .offline = 1);
  assert_pulled("org/model", .cache = cache);
  assert_int_equal(count_shards(room.path), model.n_shards);
  assert_pulled("org/model", .cache = cache, .offline = 1, .folder = room_in("whole"));
  assert_int_equal(count_shards(room_in("whole")), model.n_shards);
  free_sharded(&model);
}

static void an_index_must_fit_its_repository(void **state) {
  (void)state;
  struct sharded model;
  make_sharded(&model);
  struct hub_file *index = NULL;
  for (size_t i = 0; i < model.n; i++)
    if (strstr(model.files[i].name, "index")) index = &model.files[i];
  struct hub_file good = *index;
  struct {
    const char *text, *words;
    clipc_status status;
  } bad[] = {{"{", "model.safetensors.index.json: byte", CLIPC_E_FORMAT},
             {"{\"weight_map\":{\"a\":\"model-00099-of-00099.safetensors\"}}",
              "its model.safetensors.index.json names model-00099-of-00099.safetensors", CLIPC_E_MODEL}};
  for (size_t i = 0; i < COUNT(bad); i++) {
    index->data = (const uint8_t *)bad[i].text, index->n_bytes = strlen(bad[i].text);
    room_serve(model.files, model.n);
    assert_refused(bad[i].status, bad[i].words, "org/model", .folder = room_in("bad"));
  }
  *index = good;
  assert_false(clipc__is_folder(room_in("bad")));
  free_sharded(&model);
}

static void failing_memory_is_told(void **state) {
  (void)state;
  static const char index[] = "{\"weight_map\":{\"visual.a\":\"model-00001-of-00002.safetensors\","
                              "\"text.b\":\"model-00002-of-00002.safetensors\"}}";
  const struct clipc__bytes text = {.data = (uint8_t *)(uintptr_t)index, .n_bytes = sizeof index - 1};
  clipc_status status = CLIPC_E_NO_MEMORY;
  size_t at = 0;
  while (status != CLIPC_OK) {
    struct test_memory memory = {.fail_at = ++at};
    struct clipc__pull_entry entries[] = {{.name = "model-00002-of-00002.safetensors"},
                                          {.name = "config.json"},
                                          {.name = "model-00001-of-00002.safetensors"}};
    struct clipc__pull_list list = {.allocator = test_allocator(&memory), .entries = entries, .n = 3};
    status = clipc__pull_shards(&list, "org/model", &text, CLIPC_TOWER_IMAGE, NULL);
    assert_int_equal(memory.n_live, 0);
    assert_true(status == CLIPC_OK || status == CLIPC_E_NO_MEMORY);
    assert_int_equal(list.n, status == CLIPC_OK ? 2 : 3);
    if (status == CLIPC_OK) assert_string_equal(list.entries[1].name, "model-00001-of-00002.safetensors");
    assert_true(at < 100);
  }
  assert_true(at > 3);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(of_one_tower_only_its_shards_come, room_set_up, room_tear_down),
      cmocka_unit_test_setup_teardown(an_index_must_fit_its_repository, room_set_up, room_tear_down),
      cmocka_unit_test(failing_memory_is_told),
  };
  return cmocka_run_group_tests_name("pull of shards", tests, NULL, NULL);
}
