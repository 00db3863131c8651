/* Weights that were packed for other kernels: repacked they are what packing them from the folder gives, model by model
 * and panel by panel; pairs of bytes keep to their limit. */
#include "packs.h"

#include "kernels/kernels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- models */

static double worst_cosine(const float *a, const float *b, size_t n, size_t dimension) {
  double worst = 1;
  for (size_t i = 0; i < n; i += dimension) worst = fmin(worst, (double)clipc_cosine(a + i, b + i, dimension));
  return worst;
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
      float *expected = pack_embed_all(folder, &golden, &direct, &n), *packed = pack_embed_all(path, &golden, &use, &n);
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
      if (repacked) pack_expect(status, CLIPC_E_UNSUPPORTED, &error, "packed for");
      clipc_model_close(refused);
      clipc_model_close(model);
      free(expected);
      free(packed);
    }
    test_folder_delete(folder);
    golden_free(&golden);
  }
}

/* ---- panels */

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

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_repacked_for_other_kernels),
      cmocka_unit_test(test_repacking_of_panels),
      cmocka_unit_test(test_limited_pairs),
  };
  return cmocka_run_group_tests_name("repack", tests, test_folder_make, test_folder_remove);
}
