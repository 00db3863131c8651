/* What bf16 and int8 cost, in every tier that this CPU has: the worst cosine to f32 over random inputs, on models with
 * and without outlier channels. And that an item's bits hang neither on the batch around it nor on the threads.
 * CLIPC_SKIP_FULL=1 leaves ViT-B/32 out, as sanitizer builds do. */
#include "testing.h"

#include "synthetic.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define N_INPUTS 64

static const clipc_tier tiers[] = {
    CLIPC_TIER_PLAIN_C,     CLIPC_TIER_AVX2, CLIPC_TIER_AVX_VNNI, CLIPC_TIER_AVX512, CLIPC_TIER_AVX512_VNNI,
    CLIPC_TIER_AVX512_BF16, CLIPC_TIER_NEON, CLIPC_TIER_DOTPROD,  CLIPC_TIER_I8MM,   CLIPC_TIER_NEON_BF16};
static const char *const precision_names[] = {"f32", "bf16", "int8"};
static const double floors[] = {0.9999999, 0.9999, 0.999};

/* The tiers that are something of their own here: not one that falls back to the one below. */
static bool is_tier_here(clipc_tier tier) {
  clipc_tier best = clipc_cpu_tier();
  bool same_family = (tier < CLIPC_TIER_NEON) == (best < CLIPC_TIER_NEON);
  return tier == CLIPC_TIER_PLAIN_C || (same_family && tier <= best);
}

static double cosine(const float *a, const float *b, size_t n) {
  double ab = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < n; i++) ab += (double)a[i] * b[i], aa += (double)a[i] * a[i], bb += (double)b[i] * b[i];
  return ab / sqrt(aa * bb);
}

struct inputs {
  float *pixels; /* [N_INPUTS, 3, height, width] */
  int32_t *ids;  /* [N_INPUTS, context] */
  clipc_image images[N_INPUTS];
  clipc_text texts[N_INPUTS];
};

static void inputs_make(struct inputs *inputs, const clipc_model *model) {
  int height = clipc_image_height(model), width = clipc_image_width(model);
  size_t floats = 3 * (size_t)height * (size_t)width, context = clipc_context_length(model);
  inputs->pixels = malloc(N_INPUTS * floats * sizeof(float) + 1);
  inputs->ids = malloc(N_INPUTS * context * sizeof(int32_t) + 1);
  assert_true(inputs->pixels && inputs->ids);
  for (int i = 0; i < N_INPUTS; i++) {
    synthetic_pixels(inputs->pixels + (size_t)i * floats, i, height, width);
    inputs->images[i] = clipc_image_pixels(inputs->pixels + (size_t)i * floats);
    int32_t *ids = inputs->ids + (size_t)i * context;
    size_t n = context ? 3 + random_below((uint32_t)context - 2) : 0, vocabulary = clipc_vocabulary_size(model);
    for (size_t t = 0; t < n; t++) ids[t] = (int32_t)random_below((uint32_t)vocabulary - 2);
    if (n) ids[n - 1] = (int32_t)vocabulary - 1;
    inputs->texts[i] = clipc_text_ids(ids, n);
  }
}

static void inputs_free(struct inputs *inputs) {
  free(inputs->pixels);
  free(inputs->ids);
}

/* [N_INPUTS, dimension] of a tower; empty where the model lacks it. */
static float *embed(clipc_model *model, const struct inputs *inputs, int tower, int max_batch) {
  clipc_error error = {CLIPC_OK, ""};
  clipc_session *session;
  float *vectors = calloc(N_INPUTS, clipc_embedding_dimension(model) * sizeof(float));
  assert_non_null(vectors);
  assert_int_equal(
      clipc_session_open(&session, model, &(clipc_session_options){.max_batch = max_batch, .raw = 1}, &error),
      CLIPC_OK);
  clipc_status status = tower == CLIPC_TOWER_IMAGE
                            ? clipc_embed_images(session, inputs->images, N_INPUTS, vectors, NULL, &error)
                            : clipc_embed_texts(session, inputs->texts, N_INPUTS, vectors, NULL, &error);
  if (status != CLIPC_OK) fail_msg("%s", error.message);
  clipc_session_close(session);
  return vectors;
}

static clipc_model *open_model(const char *folder, clipc_precision precision, clipc_tier tier, int n_threads) {
  clipc_error error = {CLIPC_OK, ""};
  clipc_model *model;
  clipc_options options = {.precision = precision, .tier = tier, .n_threads = n_threads};
  if (clipc_model_open(&model, folder, &options, &error) != CLIPC_OK) fail_msg("%s", error.message);
  return model;
}

static void compare(const char *name, bool outliers, clipc_model *exact, clipc_model *model, clipc_precision precision,
                    clipc_tier tier, const struct inputs *inputs, int tower) {
  size_t dimension = clipc_embedding_dimension(model);
  float *wanted = embed(exact, inputs, tower, 8), *got = embed(model, inputs, tower, 8);
  double worst = 1;
  for (size_t i = 0; i < N_INPUTS; i++)
    worst = fmin(worst, cosine(wanted + i * dimension, got + i * dimension, dimension));
  print_message("note: %s%s %s: worst cosine of %s in %s %.6f\n", name, outliers ? " with outliers" : "",
                tower == CLIPC_TOWER_IMAGE ? "image" : "text", precision_names[precision], clipc_tier_name(tier),
                worst);
  if (!(worst >= floors[precision])) fail_msg("below %g", floors[precision]);
  free(wanted);
  free(got);
}

/* The reference of a model is its f32 in the best tier, which test_model holds to the real libraries. */
static void check_model(const char *name, bool outliers, bool every_tier) {
  char *folder =
      synthetic_folder(name, &(struct synthetic_change){.outliers = outliers, .dtype = outliers ? "F32" : NULL});
  clipc_model *exact = open_model(folder, CLIPC_PRECISION_F32, CLIPC_TIER_BEST, 0);
  struct inputs inputs;
  random_start(7);
  inputs_make(&inputs, exact);
  for (size_t t = 0; t < COUNT(tiers); t++) {
    if (every_tier ? !is_tier_here(tiers[t]) : tiers[t] != clipc_cpu_tier()) continue;
    for (int precision = CLIPC_PRECISION_F32; precision <= CLIPC_PRECISION_INT8; precision++) {
      clipc_model *model = open_model(folder, (clipc_precision)precision, tiers[t], 0);
      for (int tower = CLIPC_TOWER_IMAGE; tower <= CLIPC_TOWER_TEXT; tower++)
        if (clipc_towers(model) & tower)
          compare(name, outliers, exact, model, (clipc_precision)precision, tiers[t], &inputs, tower);
      clipc_model_close(model);
    }
  }
  clipc_model_close(exact);
  inputs_free(&inputs);
  test_folder_delete(folder);
}

/* Of width 64 and more: rounding averages out over the width, and no CLIP is narrower. */
static void small_models_keep_their_direction(void **state) {
  (void)state;
  check_model("hf-quick", false, true);
  check_model("hf-quick", true, true);
  check_model("hf-erf", true, true);
  check_model("hf-tanh", false, false);
}

static void a_full_model_keeps_its_direction(void **state) {
  (void)state;
  if (!test_full_sizes()) {
    print_message("note: ViT-B/32 at full size is left out\n");
    skip();
  }
  check_model("hf-vit-b-32", false, false);
  check_model("hf-vit-b-32", true, false);
}

static void bits_do_not_depend_on_company(void **state) {
  (void)state;
  char *folder = synthetic_folder("hf-quick", NULL);
  random_start(11);
  for (size_t t = 0; t < COUNT(tiers); t++)
    for (int precision = 0; is_tier_here(tiers[t]) && precision <= CLIPC_PRECISION_INT8; precision++) {
      clipc_model *one = open_model(folder, (clipc_precision)precision, tiers[t], 1);
      clipc_model *many = open_model(folder, (clipc_precision)precision, tiers[t], 3);
      struct inputs inputs;
      inputs_make(&inputs, one);
      size_t n_bytes = N_INPUTS * clipc_embedding_dimension(one) * sizeof(float);
      for (int tower = CLIPC_TOWER_IMAGE; tower <= CLIPC_TOWER_TEXT; tower++) {
        float *alone = embed(one, &inputs, tower, 1);
        static const int batches[] = {2, 7, 64};
        for (size_t b = 0; b < COUNT(batches); b++) {
          float *together = embed(b % 2 ? one : many, &inputs, tower, batches[b]);
          if (memcmp(alone, together, n_bytes) != 0)
            fail_msg("%s of %s in %s: a batch of %d gives other bits", tower == CLIPC_TOWER_IMAGE ? "images" : "texts",
                     precision_names[precision], clipc_tier_name(tiers[t]), batches[b]);
          free(together);
        }
        free(alone);
      }
      inputs_free(&inputs);
      clipc_model_close(one);
      clipc_model_close(many);
    }
  test_folder_delete(folder);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(small_models_keep_their_direction),
      cmocka_unit_test(a_full_model_keeps_its_direction),
      cmocka_unit_test(bits_do_not_depend_on_company),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
