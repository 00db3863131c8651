/* Folders made anew: the same tensors in shards, in other types, of one tower; refusals that leave nothing behind. And
 * the listing of a folder's tensors. */
#include "configs.h"
#include "packs.h"

#include <dirent.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- 16 bits */

static uint16_t half_of(float number, enum clipc__dtype dtype) {
  uint16_t half = 0xDEAD;
  assert_int_equal(clipc__narrow((uint8_t *)&half, dtype, &number, 1), 1);
  return half;
}

static float wide_of(uint16_t half, enum clipc__dtype dtype) {
  struct clipc__tensor tensor = {.dtype = dtype, .data = (const uint8_t *)&half, .n_bytes = 2};
  float number;
  clipc__tensor_widen(&number, &tensor, 0, 1);
  return number;
}

static void test_narrowing(void **state) {
  static const enum clipc__dtype types[] = {CLIPC__DTYPE_F16, CLIPC__DTYPE_BF16};
  (void)state;
  for (int t = 0; t < 2; t++) {
    uint16_t infinite = t ? 0x7F80 : 0x7C00;
    for (unsigned i = 0; i < 65536; i++) {
      float number = wide_of((uint16_t)i, types[t]);
      uint16_t half = half_of(number, types[t]);
      if (isnan(number))
        assert_true(isnan(wide_of(half, types[t])) && (half & 0x8000) == (i & 0x8000));
      else
        assert_int_equal(half, i);
      if ((i & 0x7FFF) >= infinite - 1u) continue;
      float next = wide_of((uint16_t)(i + 1), types[t]), middle = number / 2 + next / 2; /* exact */
      assert_int_equal(half_of(middle, types[t]), i % 2 ? i + 1 : i);                    /* a tie: the even one */
      assert_int_equal(half_of(nextafterf(middle, number), types[t]), i);
      assert_int_equal(half_of(nextafterf(middle, next), types[t]), i + 1);
    }
    float largest = wide_of((uint16_t)(infinite - 1), types[t]), numbers[] = {1, -2, largest, INFINITY, 0, 0};
    numbers[4] = t ? 3.4e38f : 65520.0f; /* nearer to what would be the next power of two */
    uint8_t out[12];
    assert_int_equal(clipc__narrow(out, types[t], numbers, 6), 4);
    numbers[4] = nextafterf(t ? 0x1.FFp127f : 65520.0f, 0);
    assert_int_equal(clipc__narrow(out, types[t], numbers, 6), 6);
  }
}

/* ---- making folders */

static char *convert_path(const char *name) { return pack_path(name); }

/* Converts a folder into the tests' folder; returns the path. */
static char *convert_to(const char *folder, const char *name, const clipc_convert_options *options,
                        clipc_conversion *made) {
  clipc_error error = {CLIPC_OK, ""};
  char *path = convert_path(name);
  if (clipc_convert(folder, path, options, made, &error) != CLIPC_OK) fail_msg("%s", error.message);
  return path;
}

/* A folder in the tests' folder, files and all; a missing one is fine. */
static void convert_remove(const char *path) {
  char command[700];
  snprintf(command, sizeof command, "rm -rf '%s'", path);
  assert_int_equal(system(command), 0);
}

static size_t things_in(const char *path) {
  size_t n = 0;
  DIR *folder = opendir(path);
  assert_non_null(folder);
  while (readdir(folder) != NULL) n++;
  closedir(folder);
  return n - 2;
}

static struct clipc__tensors tensors_of(const char *folder) {
  struct clipc__tensors tensors = {.n_files = 0};
  struct clipc__config config;
  clipc_error error = {CLIPC_OK, ""};
  if (clipc__config_read(&config, &(struct clipc__store){.path = folder}, &default_options, &error) != CLIPC_OK ||
      clipc__tensors_open(&tensors, folder, config.open_clip, &default_options, &error) != CLIPC_OK)
    fail_msg("%s", error.message);
  return tensors;
}

static void same_tensors(const char *a, const char *b) {
  struct clipc__tensors x = tensors_of(a), y = tensors_of(b);
  assert_int_equal(x.n_tensors, y.n_tensors);
  for (size_t i = 0; i < x.n_tensors; i++) {
    const struct clipc__tensor *p = &x.tensors[i], *q = &y.tensors[i];
    assert_string_equal(p->name, q->name);
    assert_string_equal(p->dtype_name, q->dtype_name);
    assert_int_equal(p->rank, q->rank);
    assert_memory_equal(p->shape, q->shape, sizeof p->shape);
    assert_int_equal(p->n_bytes, q->n_bytes);
    if (p->n_bytes > 0) assert_memory_equal(p->data, q->data, p->n_bytes);
  }
  clipc__tensors_close(&x);
  clipc__tensors_close(&y);
}

static void test_as_they_are(void **state) {
  static const char *const models[] = {"hf-quick",  "hf-sharded", "hf-override", "hf-text",  "hf-vision-projection",
                                       "hf-vision", "hf-words",   "oc-clipa",    "oc-words", "oc-old-names"};
  (void)state;
  for (size_t m = 0; m < COUNT(models); m++) {
    struct golden golden = golden_load(models[m]);
    char *folder = synthetic_folder(models[m], NULL), fingerprint[CLIPC_FINGERPRINT_BYTES];
    clipc_model *model = golden_open_model(folder, NULL);
    assert_int_equal(clipc_model_fingerprint(model, fingerprint, NULL), CLIPC_OK);
    clipc_model_close(model);
    clipc_conversion made, sharded, again;
    char *one = convert_to(folder, "one", NULL, &made);
    same_tensors(folder, one);
    assert_int_equal(made.n_files, 1);
    assert_string_equal(made.fingerprint, fingerprint);
    assert_true(golden_compare(&golden, one, NULL, 4, NULL) <= GOLDEN_TOLERANCE);
    char *shards = convert_to(folder, "in shards", &(clipc_convert_options){.shard_bytes = made.n_bytes / 3}, &sharded);
    same_tensors(folder, shards);
    assert_true(sharded.n_files >= 3 && sharded.n_files <= sharded.n_tensors);
    assert_string_equal(sharded.fingerprint, fingerprint);
    char *back = convert_to(shards,
                            "z\xC3\xBCr\xC3\xBC"
                            "ck/",
                            NULL, &again);
    same_tensors(folder, back);
    assert_int_equal(again.n_bytes, made.n_bytes);
    char *smallest = convert_to(folder, "smallest", &(clipc_convert_options){.shard_bytes = 1}, &sharded);
    same_tensors(folder, smallest);
    assert_true(sharded.n_files + 1 >= sharded.n_tensors); /* one may be of a byte */
    convert_remove(one), convert_remove(shards), convert_remove(back), convert_remove(smallest);
    assert_int_equal(things_in(test_folder), 0);
    test_folder_delete(folder);
    golden_free(&golden);
  }
}

static void test_types(void **state) {
  static const char *const models[] = {"hf-words", "oc-words"};
  static const char *const names[] = {"", "F32", "F16", "BF16"};
  (void)state;
  for (size_t m = 0; m < COUNT(models); m++)
    for (int from = 1; from <= 3; from++)
      for (int to = 1; to <= 3; to++) {
        char *folder = synthetic_folder(models[m], &(struct synthetic_change){.dtype = names[from]});
        char *out = convert_to(folder, "typed", &(clipc_convert_options){.type = (clipc_weights_type)to}, NULL);
        struct clipc__tensors x = tensors_of(folder), y = tensors_of(out);
        assert_int_equal(x.n_tensors, y.n_tensors);
        for (size_t i = 0; i < x.n_tensors; i++) {
          const struct clipc__tensor *p = &x.tensors[i], *q = &y.tensors[i];
          assert_string_equal(p->name, q->name);
          if (strcmp(p->dtype_name, q->dtype_name) == 0) { /* not used, or of that type */
            assert_int_equal(p->n_bytes, q->n_bytes);
            assert_memory_equal(p->data, q->data, p->n_bytes);
            continue;
          }
          assert_string_equal(q->dtype_name, names[to]);
          size_t n = clipc__tensor_numbers(p);
          assert_int_equal(n, clipc__tensor_numbers(q));
          for (size_t j = 0; j < n; j++) {
            float a, b;
            clipc__tensor_widen(&a, p, j, 1);
            clipc__tensor_widen(&b, q, j, 1);
            assert_true(b == (to == 1 ? a : wide_of(half_of(a, q->dtype), q->dtype)));
          }
        }
        clipc__tensors_close(&x);
        clipc__tensors_close(&y);
        clipc_model_close(golden_open_model(out, NULL));
        convert_remove(out);
        test_folder_delete(folder);
      }
}

/* ---- one tower */

static void test_one_tower(void **state) {
  static const char *const models[] = {"hf-words", "hf-override", "hf-sharded", "hf-defaults"};
  (void)state;
  for (size_t m = 0; m < COUNT(models); m++) {
    struct golden golden = golden_load(models[m]);
    char *folder = synthetic_folder(models[m], NULL);
    for (int tower = CLIPC_TOWER_IMAGE; tower <= CLIPC_TOWER_TEXT; tower++) {
      clipc_options only = {.towers = tower};
      size_t n = 0, n_alone = 0;
      float *expected = pack_embed_all(folder, &golden, &only, &n);
      char *out = convert_to(folder, "tower", &(clipc_convert_options){.towers = tower}, NULL);
      float *alone = pack_embed_all(out, &golden, NULL, &n_alone); /* which has that one tower only */
      assert_int_equal(n, n_alone);
      assert_memory_equal(alone, expected, n * sizeof *alone);
      clipc_options hf = {.reference = CLIPC_REFERENCE_HF}; /* whose texts and pictures some goldens have */
      size_t n_compared = 0;
      assert_true(golden_compare(&golden, out, &hf, 4, &n_compared) <= GOLDEN_TOLERANCE);
      assert_true(n_compared > 0);
      clipc_model *both[] = {golden_open_model(folder, NULL), golden_open_model(out, NULL)};
      assert_int_equal(clipc_towers(both[1]), tower);
      assert_true(clipc_logit_scale(both[0]) == clipc_logit_scale(both[1]));
      clipc_model_close(both[0]), clipc_model_close(both[1]);
      convert_remove(convert_path("tower again")); /* of a folder of one tower it is a copy */
      same_tensors(out, convert_to(out, "tower again", &(clipc_convert_options){.towers = tower}, NULL));
      convert_remove(out), convert_remove(convert_path("tower again"));
      free(alone);
      free(expected);
    }
    test_folder_delete(folder);
    golden_free(&golden);
  }
}

/* ---- refusals */

static void refuse(const char *folder, const char *out, const clipc_convert_options *options, clipc_status status,
                   const char *says) {
  clipc_error error = {CLIPC_OK, ""};
  clipc_conversion made = {.n_tensors = 12345};
  size_t n_before = things_in(test_folder);
  pack_expect(clipc_convert(folder, out, options, &made, &error), status, &error, says);
  assert_int_equal(made.n_tensors, 12345);
  assert_int_equal(things_in(test_folder), n_before);
}

static void test_refusals(void **state) {
  (void)state;
  char *out = convert_path("refused");
  clipc_convert_options image = {.towers = CLIPC_TOWER_IMAGE}, text = {.towers = CLIPC_TOWER_TEXT};
  char *folder = synthetic_folder("oc-words", NULL);
  refuse(folder, out, &image, CLIPC_E_UNSUPPORTED, "open_clip has no folders of one tower");
  test_folder_delete(folder);
  folder = synthetic_folder("hf-vision-projection", NULL);
  refuse(folder, out, &text, CLIPC_E_MODEL, "has no text tower");
  test_folder_delete(folder);
  folder = synthetic_folder("hf-words", &(struct synthetic_change){.drop = "vision_model.post_layernorm.bias"});
  refuse(folder, out, NULL, CLIPC_E_MODEL, "vision_model.post_layernorm.bias is missing");
  clipc_conversion made;
  convert_remove(convert_to(folder, "half", &text, &made)); /* the other tower is whole */
  test_folder_delete(folder);
  folder = synthetic_folder("hf-words", &(struct synthetic_change){.widen = "visual_projection.weight"});
  refuse(folder, out, NULL, CLIPC_E_MODEL, "visual_projection.weight has shape");
  test_folder_delete(folder);
  folder = synthetic_folder("hf-words", NULL);
  refuse("no such folder", out, NULL, CLIPC_E_IO, "no such folder");
  refuse(folder, folder, NULL, CLIPC_E_IO, "is there already");
  refuse(folder, "", NULL, CLIPC_E_IO, "cannot be written");
  refuse(folder, convert_path("no/such/folder"), NULL, CLIPC_E_IO, "no/such/folder: cannot be written");
  refuse(folder, "/proc/refused", NULL, CLIPC_E_IO, "cannot be written");
  test_folder_put_text("file", "");
  refuse(folder, convert_path("file"), NULL, CLIPC_E_IO, "is there already");
  refuse(pack_folder(folder, NULL, "packed.clipc"), out, NULL, CLIPC_E_IO, "packed");
  refuse(folder, out, &(clipc_convert_options){.type = (clipc_weights_type)4}, CLIPC_E_INVALID, "type");
  refuse(folder, out, &(clipc_convert_options){.towers = 4}, CLIPC_E_INVALID, "towers");
  refuse(NULL, out, NULL, CLIPC_E_INVALID, "folder is NULL");
  refuse(folder, NULL, NULL, CLIPC_E_INVALID, "out is NULL");
  assert_int_equal(mkdir(convert_path("empty"), 0777), 0);
  convert_remove(convert_to(folder, "empty", NULL, NULL));
  test_folder_delete(folder);
  test_folder_empty();
}

/* A number that F16 has no room for, in the middle of a folder. */
static void test_too_large(void **state) {
  (void)state;
  char *folder = synthetic_folder("hf-words", &(struct synthetic_change){.dtype = "F32"}), path[600];
  struct clipc__tensors tensors = tensors_of(folder);
  const struct clipc__tensor *tensor = clipc__tensors_find(&tensors, "vision_model.encoder.layers.0.mlp.fc1.weight");
  assert_non_null(tensor);
  snprintf(path, sizeof path, "%s/model.safetensors", folder);
  FILE *file = fopen(path, "r+b");
  fseek(file, (long)(tensor->data - tensors.files[0].data) + 40, SEEK_SET);
  fwrite(&(float){70000}, sizeof(float), 1, file);
  fclose(file);
  clipc__tensors_close(&tensors);
  refuse(folder, convert_path("large"), &(clipc_convert_options){.type = CLIPC_WEIGHTS_F16}, CLIPC_E_UNSUPPORTED,
         "layers.0.mlp.fc1.weight holds 70000, which F16 cannot hold");
  convert_remove(convert_to(folder, "large", &(clipc_convert_options){.type = CLIPC_WEIGHTS_BF16}, NULL));
  test_folder_delete(folder);
}

static int count_down(void *context, uint64_t n_done, uint64_t n_bytes) {
  int *left = context;
  assert_true(n_done <= n_bytes);
  return --*left == 0;
}

static int end_by_force(void *context, uint64_t n_done, uint64_t n_bytes) {
  (void)context;
  if (n_done > n_bytes / 2) raise(SIGKILL);
  return 0;
}

static int stop_midway(void *context, uint64_t n_done, uint64_t n_bytes) {
  (void)context;
  static bool stopped;
  if (n_done > n_bytes / 2 && !stopped) stopped = raise(SIGSTOP) == 0;
  return 0;
}

static void test_interrupted(void **state) {
  (void)state;
  char *folder = synthetic_folder("hf-words", NULL), *out = convert_path("interrupted");
  int left = 1;
  clipc_convert_options options = {.progress = count_down, .context = &left, .shard_bytes = 20000};
  size_t n = 0;
  for (clipc_status status = CLIPC_E_CANCELLED; status != CLIPC_OK; n += 7) { /* cancelled at every seventh call */
    left = (int)n + 1;
    status = clipc_convert(folder, out, &options, NULL, NULL);
    assert_true(status == CLIPC_OK || status == CLIPC_E_CANCELLED);
    assert_int_equal(things_in(test_folder), status == CLIPC_OK);
  }
  assert_true(n > 14);
  convert_remove(out);
  struct rlimit before, small = {50000, 0};
  signal(SIGXFSZ, SIG_IGN);
  getrlimit(RLIMIT_FSIZE, &before);
  small.rlim_max = before.rlim_max;
  setrlimit(RLIMIT_FSIZE, &small);
  clipc_error error = {CLIPC_OK, ""};
  clipc_status status = clipc_convert(folder, out, NULL, NULL, &error);
  setrlimit(RLIMIT_FSIZE, &before);
  pack_expect(status, CLIPC_E_IO, &error, "interrupted/model.safetensors: cannot be written");
  assert_int_equal(things_in(test_folder), 0);
  test_folder_delete(folder);
}

/* Ends conversions by force: their hidden folders are used by the next one to the same place, but never while their
 * owner lives. */
static void test_ended_by_force(void **state) {
  (void)state;
  char *folder = synthetic_folder("hf-words", NULL), *out = convert_path("ended by \xC3\xBC");
  clipc_convert_options options = {.progress = end_by_force, .shard_bytes = 20000};
  for (int i = 0; i < 3; i++) {
    pid_t child = fork();
    if (child == 0) {
      clipc_convert(folder, out, &options, NULL, NULL);
      _exit(0);
    }
    int how;
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFSIGNALED(how));
    assert_int_not_equal(access(out, F_OK), 0);
    assert_int_equal(things_in(test_folder), 1); /* one hidden folder, however often */
  }
  pid_t child = fork();
  if (child == 0) {
    options.progress = stop_midway;
    _exit(clipc_convert(folder, out, &options, NULL, NULL) == CLIPC_OK ? 0 : 1);
  }
  int how;
  assert_int_equal(waitpid(child, &how, WUNTRACED), child);
  assert_true(WIFSTOPPED(how));
  assert_int_equal(things_in(test_folder), 1);
  assert_int_equal(clipc_convert(folder, out, NULL, NULL, NULL), CLIPC_OK); /* does not touch the one that lives */
  assert_int_equal(things_in(test_folder), 2);
  convert_remove(out);
  kill(child, SIGCONT);
  assert_int_equal(waitpid(child, &how, 0), child);
  assert_true(WIFEXITED(how) && WEXITSTATUS(how) == 0);
  clipc_model *model;
  assert_int_equal(clipc_model_open(&model, out, NULL, NULL), CLIPC_OK);
  clipc_model_close(model);
  convert_remove(out);
  assert_int_equal(things_in(test_folder), 0);
  test_folder_delete(folder);
}

static void test_failing_memory(void **state) {
  static const clipc_convert_options kinds[] = {{.type = CLIPC_WEIGHTS_F16, .shard_bytes = 30000},
                                                {.towers = CLIPC_TOWER_IMAGE}};
  (void)state;
  char *folder = synthetic_folder("hf-words", NULL);
  for (size_t k = 0; k < COUNT(kinds); k++) {
    clipc_status status = CLIPC_E_NO_MEMORY;
    for (size_t n = 1; status != CLIPC_OK; n++) {
      struct test_memory memory = {.fail_at = n};
      clipc_convert_options options = kinds[k];
      clipc_error error = {CLIPC_OK, ""};
      options.allocator = test_allocator(&memory);
      status = clipc_convert(folder, convert_path("memory"), &options, NULL, &error);
      if (status != CLIPC_OK && status != CLIPC_E_NO_MEMORY) fail_msg("%s", error.message);
      assert_int_equal(memory.n_live, 0);
      assert_int_equal(things_in(test_folder), status == CLIPC_OK);
      assert_true(n < 3000);
    }
    convert_remove(convert_path("memory"));
  }
  test_folder_delete(folder);
}

/* ---- listing */

struct listing {
  size_t n, n_used, n_nan, n_infinite, stop_at;
  clipc_tensor_info seen; /* of the tensor that was changed */
};

static int list_tensor(void *context, const clipc_tensor_info *info) {
  struct listing *listing = context;
  listing->n++;
  listing->n_used += info->used != 0;
  listing->n_nan += info->n_nan;
  listing->n_infinite += info->n_infinite;
  if (strcmp(info->name, "vision_model.post_layernorm.bias") == 0) listing->seen = *info;
  return listing->n == listing->stop_at;
}

static void test_listing(void **state) {
  (void)state;
  char *folder = synthetic_folder("hf-words", &(struct synthetic_change){.dtype = "F32"}), path[600];
  struct clipc__tensors tensors = tensors_of(folder);
  const struct clipc__tensor *tensor = clipc__tensors_find(&tensors, "vision_model.post_layernorm.bias");
  assert_non_null(tensor);
  size_t n = clipc__tensor_numbers(tensor);
  float *numbers = malloc(n * sizeof *numbers);
  for (size_t i = 0; i < n; i++) numbers[i] = 0.5f;
  numbers[0] = -3, numbers[1] = NAN, numbers[2] = INFINITY, numbers[3] = 4, numbers[n - 1] = -INFINITY;
  snprintf(path, sizeof path, "%s/model.safetensors", folder);
  FILE *file = fopen(path, "r+b");
  fseek(file, (long)(tensor->data - tensors.files[0].data), SEEK_SET);
  fwrite(numbers, sizeof *numbers, n, file);
  fclose(file);
  free(numbers);
  for (int n_threads = 1; n_threads <= 3; n_threads++) {
    struct listing listing = {.n = 0};
    clipc_error error = {CLIPC_OK, ""};
    clipc_options options = {.n_threads = n_threads};
    assert_int_equal(clipc_inspect_tensors(folder, &options, list_tensor, &listing, &error), CLIPC_OK);
    assert_int_equal(listing.n, tensors.n_tensors);
    assert_true(listing.n_used > 20 && listing.n_used <= listing.n);
    assert_int_equal(listing.n_nan, 1);
    assert_int_equal(listing.n_infinite, 2);
    assert_true(listing.seen.least == -3 && listing.seen.most == 4 && listing.seen.used && listing.seen.measured);
    assert_true(fabs(listing.seen.norm - sqrt(25 + 0.25 * (double)(n - 5))) < 1e-12);
    struct listing image = {.n = 0};
    options.towers = CLIPC_TOWER_IMAGE;
    assert_int_equal(clipc_inspect_tensors(folder, &options, list_tensor, &image, &error), CLIPC_OK);
    assert_true(image.n == listing.n && image.n_used < listing.n_used);
  }
  clipc__tensors_close(&tensors);
  struct listing stopped = {.stop_at = 3};
  clipc_error error = {CLIPC_OK, ""};
  pack_expect(clipc_inspect_tensors(folder, NULL, list_tensor, &stopped, &error), CLIPC_E_CANCELLED, &error, "ended");
  assert_int_equal(stopped.n, 3);
  pack_expect(clipc_inspect_tensors(path, NULL, list_tensor, &stopped, &error), CLIPC_E_IO, &error, "no folder");
  pack_expect(clipc_inspect_tensors(NULL, NULL, list_tensor, NULL, &error), CLIPC_E_INVALID, &error, "NULL");
  pack_expect(clipc_inspect_tensors(folder, NULL, NULL, NULL, &error), CLIPC_E_INVALID, &error, "NULL");
  clipc_status status = CLIPC_E_NO_MEMORY;
  for (size_t fail_at = 1; status != CLIPC_OK; fail_at++) {
    struct test_memory memory = {.fail_at = fail_at};
    struct listing listing = {.n = 0};
    clipc_options options = {.allocator = test_allocator(&memory), .n_threads = 1};
    status = clipc_inspect_tensors(folder, &options, list_tensor, &listing, &error);
    assert_true(status == CLIPC_OK || status == CLIPC_E_NO_MEMORY);
    assert_int_equal(memory.n_live, 0);
    assert_true(fail_at < 2000);
  }
  test_folder_delete(folder);
}

/* ---- towers */

static void test_towers(void **state) {
  (void)state;
  char *folder = synthetic_folder("hf-words", NULL);
  clipc_model *model = golden_open_model(folder, NULL);
  struct listing listing = {.n = 0};
  clipc_tower_info image, text, untouched = {.width = 7};
  assert_int_equal(clipc_model_tower(model, CLIPC_TOWER_IMAGE, &image, NULL), CLIPC_OK);
  assert_int_equal(clipc_model_tower(model, CLIPC_TOWER_TEXT, &text, NULL), CLIPC_OK);
  assert_int_equal(clipc_inspect_tensors(folder, NULL, list_tensor, &listing, NULL), CLIPC_OK);
  uint64_t n = 1; /* logit_scale */
  struct clipc__tensors tensors = tensors_of(folder);
  for (size_t i = 0; i < tensors.n_tensors; i++)
    if (strcmp(tensors.tensors[i].name, "logit_scale") != 0 && tensors.tensors[i].dtype != CLIPC__DTYPE_OTHER)
      n += clipc__tensor_numbers(&tensors.tensors[i]);
  clipc__tensors_close(&tensors);
  assert_int_equal(image.n_parameters + text.n_parameters + 1, n);
  assert_int_equal(text.n_tokens, clipc_context_length(model));
  assert_string_equal(image.pooling, "class");
  assert_true(image.patch > 0 && image.n_tokens > 1 && text.causal && image.projection);
  assert_int_equal(clipc_model_tower(model, 3, &untouched, NULL), CLIPC_E_INVALID);
  assert_int_equal(clipc_model_tower(NULL, 1, &untouched, NULL), CLIPC_E_INVALID);
  assert_int_equal(clipc_model_tower(model, 1, NULL, NULL), CLIPC_E_INVALID);
  clipc_model_close(model);
  model = golden_open_model(folder, &(clipc_options){.towers = CLIPC_TOWER_TEXT});
  assert_int_equal(clipc_model_tower(model, CLIPC_TOWER_IMAGE, &untouched, NULL), CLIPC_E_MODEL);
  assert_int_equal(untouched.width, 7);
  clipc_model_close(model);
  test_folder_delete(folder);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_narrowing),   cmocka_unit_test(test_as_they_are),    cmocka_unit_test(test_types),
      cmocka_unit_test(test_one_tower),   cmocka_unit_test(test_refusals),       cmocka_unit_test(test_too_large),
      cmocka_unit_test(test_interrupted), cmocka_unit_test(test_ended_by_force), cmocka_unit_test(test_failing_memory),
      cmocka_unit_test(test_listing),     cmocka_unit_test(test_towers),
  };
  return cmocka_run_group_tests_name("convert", tests, test_folder_make, test_folder_remove);
}
