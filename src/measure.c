/* The facade's part for measuring: what a model is and computes with, how much, and what the CPU can do at most. */
#include "model/model.h"

#include <time.h>

const char *clipc_model_kernels(const clipc_model *model) {
  return model ? model->kernels.gemm[model->options.precision].name : "";
}

int clipc_model_threads(const clipc_model *model) { return model ? model->n_threads : 0; }

clipc_precision clipc_model_precision(const clipc_model *model) {
  return model ? model->options.precision : CLIPC_PRECISION_F32;
}

/* ---- towers */

static uint64_t tower_parameters(const clipc_model *model, int tower) {
  struct clipc__parts parts = {.config = &model->config, .naming = CLIPC__NAMES_HF};
  uint64_t n = model->config.text.projection_bias && tower == CLIPC_TOWER_TEXT ? model->embedding_dimension : 0;
  while (clipc__parts_next(&parts)) {
    uint64_t product = 1;
    for (int i = 0; i < parts.rank; i++) product *= parts.shape[i];
    if (parts.tower == tower) n += product;
  }
  return n;
}

clipc_status clipc_model_tower(const clipc_model *model, int tower, clipc_tower_info *out, clipc_error *error) {
  static const char *const activations[] = {"none", "quick_gelu", "gelu", "gelu_tanh"};
  static const char *const poolings[] = {"class", "mean", "argmax", "first", "last", "eos"};
  bool image = tower == CLIPC_TOWER_IMAGE;
  if (model == NULL || out == NULL || (!image && tower != CLIPC_TOWER_TEXT))
    return clipc__fail(error, CLIPC_E_INVALID, "clipc_model_tower: %s",
                       model == NULL ? "model is NULL"
                       : out == NULL ? "out is NULL"
                                     : "there is no such tower");
  if (!(clipc_towers(model) & tower))
    return clipc__fail(error, CLIPC_E_MODEL, "the model was opened without %s tower", image ? "an image" : "a text");
  const struct clipc__vision_config *vision = &model->config.vision;
  const struct clipc__text_config *text = &model->config.text;
  const struct clipc__transformer_config *config = image ? &vision->transformer : &text->transformer;
  *out = (clipc_tower_info){.width = config->width,
                            .n_layers = config->n_layers,
                            .n_heads = config->n_heads,
                            .mlp_width = config->mlp_width,
                            .layer_norm_eps = config->layer_norm_eps,
                            .activation = activations[config->activation],
                            .pooling = poolings[image ? vision->pooling : text->pooling],
                            .patch = image ? vision->patch : 0,
                            .n_tokens = image ? (int)model->vision.n_tokens : text->context_length,
                            .causal = !image && text->causal,
                            .projection = image ? vision->projection : text->projection,
                            .n_parameters = tower_parameters(model, tower)};
  return CLIPC_OK;
}

/* ---- operations */

/* n rows through a layer. */
static double linear_operations(double n_rows, double n_out, double n_in) { return 2.0 * n_rows * n_out * n_in; }

/* n tokens through all blocks; pool: the last one for one token alone, which stands at the end. Scores and sums of
 * values cost one multiplication for each pair of positions that see one another and each number of a head. */
static double block_operations(const struct clipc__transformer_config *config, double n, bool causal, bool pool) {
  double width = config->width, mlp_width = config->mlp_width, n_layers = config->n_layers;
  double rest = linear_operations(1, width, width) + 2.0 * linear_operations(1, mlp_width, width); /* out, fc1, fc2 */
  double pairs = causal ? n * (n + 1) / 2 : n * n;
  double whole = n * (linear_operations(1, 3 * width, width) + rest) + 4.0 * pairs * width;
  if (!pool) return n_layers * whole;
  double last = linear_operations(n, 2 * width, width) + linear_operations(1, width, width) + rest + 4.0 * n * width;
  return (n_layers - 1) * whole + last;
}

static double vision_operations(const struct clipc__vision *vision, double dimension) {
  const struct clipc__transformer_config *config = &vision->transformer.config;
  double n = (double)vision->n_tokens, width = config->width;
  double operations = linear_operations(n - 1, width, (double)vision->patch_embedding.n_in) +
                      block_operations(config, n, false, clipc__vision_pools_one_token(vision));
  return operations + (vision->config.projection ? linear_operations(1, dimension, width) : 0.0);
}

static double text_operations(const struct clipc__text *text, size_t n_tokens, double dimension) {
  const struct clipc__transformer_config *config = &text->transformer.config;
  size_t context = (size_t)text->config.context_length;
  bool whole = !text->config.causal || text->config.pooling == CLIPC__POOL_LAST || n_tokens > context;
  size_t n = whole ? context : text->config.pooling == CLIPC__POOL_FIRST ? 1 : n_tokens;
  double operations = block_operations(config, (double)n, text->config.causal, true);
  return operations + (text->config.projection ? linear_operations(1, dimension, config->width) : 0.0);
}

double clipc_operations(const clipc_model *model, int tower, size_t n_tokens) {
  if (model == NULL || !(clipc_towers(model) & tower)) return 0.0;
  double dimension = (double)model->embedding_dimension;
  if (tower == CLIPC_TOWER_IMAGE) return vision_operations(&model->vision, dimension);
  if (tower == CLIPC_TOWER_TEXT && n_tokens > 0) return text_operations(&model->text, n_tokens, dimension);
  return 0.0;
}

/* ---- the peak */

#define PEAK_RUNS 12
#define PEAK_RUN_SECONDS 0.004

static double measure_seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double clipc_measure_peak(const clipc_model *model) {
  if (model == NULL) return 0.0;
  double (*run)(size_t n_rounds) = model->kernels.peak[model->options.precision];
  if (run == NULL) return 0.0;
  double best = 0.0, passed = 0.0;
  size_t n_rounds = 256;
  while (passed < PEAK_RUN_SECONDS / 2 && n_rounds < (size_t)1 << 40) { /* which also wakes the CPU's clock */
    double start = measure_seconds();
    run(n_rounds);
    passed = measure_seconds() - start;
    if (passed < PEAK_RUN_SECONDS / 2) n_rounds *= 2;
  }
  for (int i = 0; i < PEAK_RUNS; i++) {
    double start = measure_seconds(), operations = run(n_rounds) * (double)n_rounds;
    passed = measure_seconds() - start;
    if (passed > 0.0 && operations / passed > best) best = operations / passed;
  }
  return best;
}

#undef PEAK_RUNS
#undef PEAK_RUN_SECONDS
