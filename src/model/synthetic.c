/* Models without files, for measuring: well-known shapes with random weights at the scales at which CLIP starts
 * training, so that activations stay in a trained network's range.
 * In: a shape by its open_clip name; a tensor's part, layer and dimensions. Out: a configuration; numbers that hang on
 * tower, part and place alone, the same on every machine.
 * The layers of a tower take theirs from one random sequence for each part, a little further on each time: making and
 * keeping the numbers costs one layer, not the whole tower. */
#include "base/threads.h"
#include "model/model.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define LAYER_SHIFT 61u /* numbers from a layer's first to the next one's */
#define SYNTHETIC_CHUNK ((size_t)1 << 15)

static const struct synthetic_shape {
  const char *name;
  int embedding, image, patch;
  struct {
    int width, layers, heads, mlp;
  } vision, text;
  enum clipc__activation activation; /* of the best-known checkpoints */
} synthetic_shapes[] = {
    {"ViT-B-32", 512, 224, 32, {768, 12, 12, 3072}, {512, 12, 8, 2048}, CLIPC__QUICK_GELU},
    {"ViT-B-16", 512, 224, 16, {768, 12, 12, 3072}, {512, 12, 8, 2048}, CLIPC__QUICK_GELU},
    {"ViT-L-14", 768, 224, 14, {1024, 24, 16, 4096}, {768, 12, 12, 3072}, CLIPC__QUICK_GELU},
    {"ViT-L-14-336", 768, 336, 14, {1024, 24, 16, 4096}, {768, 12, 12, 3072}, CLIPC__QUICK_GELU},
    {"ViT-H-14", 1024, 224, 14, {1280, 32, 16, 5120}, {1024, 24, 16, 4096}, CLIPC__GELU_ERF},
    {"ViT-g-14", 1024, 224, 14, {1408, 40, 16, 6144}, {1024, 24, 16, 4096}, CLIPC__GELU_ERF},
    {"ViT-bigG-14", 1280, 224, 14, {1664, 48, 16, 8192}, {1280, 32, 20, 5120}, CLIPC__GELU_ERF},
};
#define N_SHAPES (sizeof synthetic_shapes / sizeof *synthetic_shapes)

/* ---- configuration */

static clipc_status unknown_shape(const char *shape, clipc_error *error) {
  char list[160] = "";
  size_t n = 0;
  for (size_t i = 0; i < N_SHAPES && n < sizeof list; i++)
    n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", i > 0 ? ", " : "", synthetic_shapes[i].name);
  return clipc__fail(error, CLIPC_E_INVALID, "there is no shape \"%.40s\"; there are %s", shape, list);
}

static struct clipc__transformer_config synthetic_transformer(int width, int n_layers, int n_heads, int mlp_width,
                                                              enum clipc__activation activation) {
  return (struct clipc__transformer_config){.width = width,
                                            .n_layers = n_layers,
                                            .n_heads = n_heads,
                                            .mlp_width = mlp_width,
                                            .layer_norm_eps = 1e-5f,
                                            .activation = activation};
}

static void synthetic_vision(struct clipc__vision_config *vision, const struct synthetic_shape *shape) {
  *vision = (struct clipc__vision_config){
      .present = true,
      .transformer = synthetic_transformer(shape->vision.width, shape->vision.layers, shape->vision.heads,
                                           shape->vision.mlp, shape->activation),
      .image_height = shape->image,
      .image_width = shape->image,
      .patch = shape->patch,
      .ln_pre = true,
      .pooling = CLIPC__POOL_CLASS,
      .projection = true};
}

static void synthetic_text(struct clipc__text_config *text, const struct synthetic_shape *shape) {
  *text = (struct clipc__text_config){.present = true,
                                      .transformer =
                                          synthetic_transformer(shape->text.width, shape->text.layers,
                                                                shape->text.heads, shape->text.mlp, shape->activation),
                                      .vocab_size = 49408,
                                      .context_length = 77,
                                      .causal = true,
                                      .pooling = CLIPC__POOL_ARGMAX,
                                      .eos_id = 49407,
                                      .projection = true};
}

clipc_status clipc__synthetic_config(struct clipc__config *config, const char *name, const clipc_options *options,
                                     clipc_error *error) {
  const struct synthetic_shape *shape = NULL;
  for (size_t i = 0; i < N_SHAPES; i++)
    if (strcmp(synthetic_shapes[i].name, name) == 0) shape = &synthetic_shapes[i];
  if (shape == NULL) return unknown_shape(name, error);
  *config = (struct clipc__config){.open_clip = true,
                                   .embedding_dimension = shape->embedding,
                                   .reference = options->reference ? options->reference : CLIPC_REFERENCE_OPENAI,
                                   .text_cleaning = CLIPC__TEXT_LOWER};
  if (options->towers != CLIPC_TOWER_TEXT) synthetic_vision(&config->vision, shape);
  if (options->towers != CLIPC_TOWER_IMAGE) synthetic_text(&config->text, shape);
  if (!config->vision.present) return CLIPC_OK;
  config->preprocessing.reference = config->reference;
  config->preprocessing.alpha = options->alpha;
  config->preprocessing.apply_exif = options->apply_exif;
  clipc_status status = CLIPC_OK;
  struct clipc__fields defaults = {.file = name, .path = "", .status = &status, .error = error};
  clipc__preprocess_open_clip(config, &defaults);
  return status;
}

/* ---- numbers */

/* mean + deviation * (something close to a normal distribution, cut at 3.5) */
struct synthetic_numbers {
  float *out;
  size_t n;
  uint64_t seed;
  float mean, deviation;
};

static uint64_t synthetic_hash(uint64_t x) { /* the finish of splitmix64 */
  x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
  x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
  return x ^ x >> 31;
}

static void synthetic_chunk(void *context, size_t chunk, int slot) {
  (void)slot;
  const struct synthetic_numbers *numbers = context;
  size_t first = chunk * SYNTHETIC_CHUNK, end = first + SYNTHETIC_CHUNK;
  const float unit = numbers->deviation / 37837.23f; /* the deviation of four sixteenths of a word together */
  if (end > numbers->n) end = numbers->n;
  for (size_t i = first; i < end; i++) {
    uint64_t bits = synthetic_hash(numbers->seed + i * UINT64_C(0x9e3779b97f4a7c15));
    int32_t sum = (int32_t)((bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48));
    numbers->out[i] = numbers->mean + unit * (float)(sum - 131070);
  }
}

/* What OpenAI's code initialises with; norms and biases, which start at 1 and 0 there, as training moves them. */
static void set_distribution(struct synthetic_numbers *numbers, const struct clipc_model *model, bool image,
                             enum clipc__part part) {
  const struct clipc__transformer_config *config =
      image ? &model->config.vision.transformer : &model->config.text.transformer;
  float width = 1.0f / sqrtf((float)config->width), depth = 1.0f / sqrtf(2.0f * (float)config->n_layers);
  float patch = (float)model->config.vision.patch;
  numbers->mean = 0.0f;
  switch (part) {
  case CLIPC__LOGIT_SCALE: numbers->mean = 4.6051702f, numbers->deviation = 0.0f; return; /* ln 100 */
  case CLIPC__PATCH_EMBEDDING: numbers->deviation = 1.0f / (patch * sqrtf(3.0f)); return;
  case CLIPC__TOKEN_EMBEDDING: numbers->deviation = 0.02f; return;
  case CLIPC__POSITION_EMBEDDING: numbers->deviation = image ? width : 0.01f; return;
  case CLIPC__CLASS_EMBEDDING:
  case CLIPC__Q_WEIGHT:
  case CLIPC__K_WEIGHT:
  case CLIPC__V_WEIGHT:
  case CLIPC__PROJECTION_WEIGHT: numbers->deviation = width; return;
  case CLIPC__OUT_WEIGHT:
  case CLIPC__FC2_WEIGHT: numbers->deviation = width * depth; return;
  case CLIPC__FC1_WEIGHT: numbers->deviation = width * 0.70710678f; return;
  case CLIPC__LN_PRE_WEIGHT:
  case CLIPC__LN_1_WEIGHT:
  case CLIPC__LN_2_WEIGHT:
  case CLIPC__LN_FINAL_WEIGHT: numbers->mean = 1.0f, numbers->deviation = 0.1f; return;
  default: numbers->deviation = 0.02f; /* a bias */
  }
}

static bool part_of_a_layer(enum clipc__part part) { return part >= CLIPC__LN_1_WEIGHT && part <= CLIPC__FC2_BIAS; }

const float *clipc__synthetic_tensor(struct clipc__synthetic *synthetic, int tower, enum clipc__part part, int layer,
                                     int rank, const uint64_t *shape, struct clipc__arena *arena) {
  const struct clipc_model *model = synthetic->model;
  if (synthetic->tower != tower) *synthetic = (struct clipc__synthetic){.model = model, .tower = tower};
  size_t at = part_of_a_layer(part) ? (size_t)layer * LAYER_SHIFT : 0;
  if (at > 0 && synthetic->parts[part] != NULL) return synthetic->parts[part] + at;
  struct synthetic_numbers numbers = {.n = 1, .seed = synthetic_hash((uint64_t)part << 8 | (uint64_t)tower)};
  for (int i = 0; i < rank; i++) numbers.n *= (size_t)shape[i];
  if (part_of_a_layer(part)) numbers.n += CLIPC__MAX_LAYERS * LAYER_SHIFT;
  set_distribution(&numbers, model, tower == CLIPC_TOWER_IMAGE, part);
  numbers.out = clipc__arena_take_unset(arena, numbers.n, sizeof *numbers.out);
  if (numbers.out == NULL) return NULL;
  clipc__parallel(model->n_threads, (numbers.n + SYNTHETIC_CHUNK - 1) / SYNTHETIC_CHUNK, synthetic_chunk, &numbers);
  synthetic->parts[part] = numbers.out;
  return numbers.out + at;
}

#undef LAYER_SHIFT
#undef SYNTHETIC_CHUNK
#undef N_SHAPES
