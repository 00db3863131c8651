/* How much of its matrix products' speed a whole tower keeps:
 *
 *   tower     the library's own call, pixels or ids to vectors
 *   gemm      the tower's linear layers alone: the same packed weights in the same order, so that they stream from
 * memory as there, on inputs that are ready, each tile's sums finished (scales, bias) and stored; all layers are one
 *             job without a join in between
 *   product   the same without finishing: the kernel's sums stay where they are
 *
 * in turn, minima of each; rates in operations really done per second. One line of JSON for each precision and batch.
 */
#include "base/threads.h"
#include "setup.h"

#include <stdio.h>
#include <stdlib.h>

#define MOST_LAYERS 4096
#define MOST_INPUTS 8
#define CHUNK_OPERATIONS 3e6
#define BLOCK_BYTES ((size_t)384 << 10)

/* Input rows of one size, in the numbers that a gemm takes; many layers share them. */
struct inputs {
  const struct clipc__gemm *gemm;
  size_t n_in, stride;
  char *rows;
  struct clipc__row_scale *scales;
};

struct layer {
  const struct clipc__linear *linear;
  const struct inputs *x;
  size_t rows, block_rows, n_blocks, n_panels, chunk_panels, first_chunk;
};

struct layers {
  const struct clipc__kernels *kernels;
  struct layer layers[MOST_LAYERS];
  size_t n, n_chunks, most_rows, most_out;
  struct inputs inputs[MOST_INPUTS];
  size_t n_inputs;
  double operations;
  float *y[CLIPC__MAX_THREADS]; /* [most_rows, most_out], of each thread */
  char *sums[CLIPC__MAX_THREADS];
  bool finish;
};

static size_t divide_up(size_t a, size_t b) { return (a + b - 1) / b; }

static const struct inputs *inputs_for(struct layers *all, const struct clipc__linear *linear) {
  const struct clipc__gemm *gemm = linear->gemm;
  for (size_t i = 0; i < all->n_inputs; i++)
    if (all->inputs[i].gemm == gemm && all->inputs[i].n_in == linear->n_in) return &all->inputs[i];
  if (all->n_inputs == MOST_INPUTS) abort();
  struct inputs *inputs = &all->inputs[all->n_inputs++];
  size_t n_in = linear->n_in, stride = clipc__input_stride(n_in);
  float *row = setup_memory(n_in * sizeof *row);
  *inputs = (struct inputs){gemm, n_in, stride, setup_memory(all->most_rows * stride),
                            setup_memory(all->most_rows * sizeof *inputs->scales)};
  for (size_t r = 0; r < all->most_rows; r++) {
    float *out = (float *)(void *)(inputs->rows + r * stride);
    for (size_t i = 0; i < n_in; i++) row[i] = (float)setup_random();
    if (gemm->prepare != NULL)
      gemm->prepare(out, &inputs->scales[r], row, n_in, clipc__k_padded(gemm, n_in), gemm->n_levels);
    else
      for (size_t i = 0; i < n_in; i++) out[i] = row[i];
  }
  free(row);
  return inputs;
}

static void add_layer(struct layers *all, const struct clipc__linear *linear, size_t rows) {
  if (all->n == MOST_LAYERS) abort();
  const struct clipc__gemm *gemm = linear->gemm;
  struct layer *layer = &all->layers[all->n++];
  size_t row_bytes = clipc__k_padded(gemm, linear->n_in) * clipc__number_bytes(gemm->input);
  size_t most = BLOCK_BYTES / row_bytes / gemm->tile_rows * gemm->tile_rows;
  if (most < gemm->tile_rows) most = gemm->tile_rows;
  layer->linear = linear;
  layer->x = inputs_for(all, linear);
  layer->rows = rows;
  layer->block_rows = divide_up(divide_up(rows, divide_up(rows, most)), gemm->tile_rows) * gemm->tile_rows;
  layer->n_blocks = divide_up(rows, layer->block_rows);
  layer->n_panels = clipc__n_panels(gemm, linear->n_out);
  size_t block = layer->block_rows < rows ? layer->block_rows : rows;
  double cost = 2.0 * (double)(block + 16) * (double)linear->n_in * gemm->panel_cols;
  layer->chunk_panels = 1 + (size_t)(CHUNK_OPERATIONS / cost);
  layer->first_chunk = all->n_chunks;
  all->n_chunks += divide_up(layer->n_panels, layer->chunk_panels) * layer->n_blocks;
  all->operations += 2.0 * (double)rows * (double)linear->n_out * (double)linear->n_in;
  if (linear->n_out > all->most_out) all->most_out = linear->n_out;
}

/* The layers with the rows that they have in the tower: the last block sees the pooled tokens alone. */
static void add_blocks(struct layers *all, const struct clipc__transformer *transformer, size_t rows, size_t pooled) {
  for (int i = 0; i < transformer->config.n_layers; i++) {
    const struct clipc__block_weights *block = &transformer->blocks[i];
    size_t few = i == transformer->config.n_layers - 1 ? pooled : rows;
    add_layer(all, &block->qkv[0], few);
    add_layer(all, &block->qkv[1], rows);
    add_layer(all, &block->qkv[2], rows);
    add_layer(all, &block->out, few);
    add_layer(all, &block->fc1, few);
    add_layer(all, &block->fc2, few);
  }
}

static struct layers *collect_layers(const struct setup *setup) {
  const struct clipc_model *model = setup->model;
  struct layers *all = setup_memory(sizeof *all);
  size_t n = setup->batch;
  all->kernels = &model->kernels;
  if (setup->text) {
    all->most_rows = n * setup->tokens;
    add_blocks(all, &model->text.transformer, n * setup->tokens, n);
    if (model->text.config.projection) add_layer(all, &model->text.projection, n);
  } else {
    const struct clipc__vision *vision = &model->vision;
    size_t rows = all->most_rows = n * vision->n_tokens;
    add_layer(all, &vision->patch_embedding, rows - n);
    add_blocks(all, &vision->transformer, rows, clipc__vision_pools_one_token(vision) ? n : rows);
    if (vision->config.projection) add_layer(all, &vision->projection, n);
  }
  for (int slot = 0; slot < model->n_threads; slot++) {
    all->y[slot] = setup_memory(all->most_rows * all->most_out * sizeof(float));
    all->sums[slot] = setup_memory((size_t)1 << 20); /* a tile's, of any gemm */
  }
  return all;
}

static void free_layers(struct layers *all) {
  for (size_t i = 0; i < all->n_inputs; i++) free(all->inputs[i].rows), free(all->inputs[i].scales);
  for (int slot = 0; slot < CLIPC__MAX_THREADS; slot++) free(all->y[slot]), free(all->sums[slot]);
  free(all);
}

/* One panel by the rows of a block, as the driver of the library walks it. */
static void multiply(const struct layers *all, const struct layer *layer, size_t panel, size_t first_row, int slot) {
  const struct clipc__linear *linear = layer->linear;
  const struct clipc__gemm *gemm = linear->gemm;
  size_t bytes = clipc__panel_bytes(gemm, linear->n_in), cols = gemm->panel_cols, col = panel * cols;
  size_t rows = layer->rows - first_row < layer->block_rows ? layer->rows - first_row : layer->block_rows;
  size_t n_tiles = divide_up(rows, gemm->tile_rows), part = bytes / n_tiles;
  const char *weights = (const char *)linear->panels + panel * bytes;
  struct clipc__finish how = {.bias = linear->bias ? linear->bias + col : NULL,
                              .scale = linear->scale ? linear->scale + col : NULL,
                              .sum = linear->sum ? linear->sum + col : NULL};
  if (cols > linear->n_out - col) cols = linear->n_out - col;
  for (size_t tile = 0, row = first_row, end = first_row + rows; tile < n_tiles; tile++) {
    size_t n = divide_up(end - row, n_tiles - tile);
    const char *ahead = n_tiles == 1 ? weights + 4096 : weights + bytes + tile * part;
    gemm->product(all->sums[slot], layer->x->rows + row * layer->x->stride, layer->x->stride, n, weights,
                  clipc__k_padded(gemm, linear->n_in), ahead, part);
    how.rows = linear->scale ? layer->x->scales + row : NULL;
    if (all->finish)
      all->kernels->finish(all->y[slot] + row * linear->n_out + col, linear->n_out, all->sums[slot], gemm->panel_cols,
                           n, cols, &how);
    row += n;
  }
}

static void chunk(void *context, size_t index, int slot) {
  const struct layers *all = context;
  size_t low = 0, high = all->n;
  while (high - low > 1) {
    size_t middle = low + (high - low) / 2;
    *(all->layers[middle].first_chunk <= index ? &low : &high) = middle;
  }
  const struct layer *layer = &all->layers[low];
  size_t block = (index - layer->first_chunk) % layer->n_blocks;
  size_t first = (index - layer->first_chunk) / layer->n_blocks * layer->chunk_panels;
  size_t end = first + layer->chunk_panels < layer->n_panels ? first + layer->chunk_panels : layer->n_panels;
  unsigned mode = clipc__denormals_off();
  for (size_t panel = first; panel < end; panel++) multiply(all, layer, panel, block * layer->block_rows, slot);
  clipc__denormals_restore(mode);
}

static double time_layers(struct layers *all, int n_threads, bool finish) {
  all->finish = finish;
  double start = setup_ms();
  clipc__parallel(n_threads, all->n_chunks, chunk, all);
  return setup_ms() - start;
}

static double time_tower(struct setup *setup) {
  double start = setup_ms();
  setup_run(setup);
  return setup_ms() - start;
}

static void keep_least(double *least, double value) {
  if (*least == 0 || value < *least) *least = value;
}

static void compare(struct setup *setup) {
  struct layers *all = collect_layers(setup);
  double tower = 0, gemm = 0, product = 0, peak = 0, passed = 0;
  int n_threads = setup->model->n_threads, n_runs = 0, n_peaks = 0;
  time_tower(setup), time_layers(all, n_threads, true);
  for (double begun = setup_ms(); n_runs < 5 || passed < setup->seconds * 1e3; n_runs++) {
    if (passed >= setup->seconds * 250 * n_peaks) {
      double now = clipc_measure_peak(setup->model);
      if (now > peak) peak = now;
      n_peaks++;
    }
    keep_least(&tower, time_tower(setup));
    keep_least(&gemm, time_layers(all, n_threads, true));
    keep_least(&product, time_layers(all, n_threads, false));
    passed = setup_ms() - begun;
  }
  double batch = (double)setup->batch, most = peak * n_threads;
  double whole =
      batch * clipc_operations(setup->model, setup->text ? CLIPC_TOWER_TEXT : CLIPC_TOWER_IMAGE, setup->tokens);
  double tower_rate = whole / tower * 1e3, gemm_rate = all->operations / gemm * 1e3;
  double product_rate = all->operations / product * 1e3;
  printf("{\"%s\":\"%s\",\"tower\":\"%s\",\"precision\":\"%s\",\"kernels\":\"%s\",", setup->shape ? "shape" : "model",
         setup->shape ? setup->shape : setup->folder, setup->text ? "text" : "image",
         setup_precisions[clipc_model_precision(setup->model)], clipc_model_kernels(setup->model));
  printf("\"batch\":%zu,\"threads\":%d,\"runs\":%d,", setup->batch, n_threads, n_runs);
  printf("\"tower_ms\":%.4f,\"gemm_ms\":%.4f,\"product_ms\":%.4f,", tower / batch, gemm / batch, product / batch);
  printf("\"tower_gops\":%.1f,\"gemm_gops\":%.1f,\"product_gops\":%.1f,\"peak_gops\":%.1f,", tower_rate / 1e9,
         gemm_rate / 1e9, product_rate / 1e9, most / 1e9);
  printf("\"tower_share\":%.4f,\"gemm_share\":%.4f,\"product_share\":%.4f,", tower_rate / most, gemm_rate / most,
         product_rate / most);
  printf("\"tower_to_gemm\":%.4f,\"tower_to_product\":%.4f}\n", tower_rate / gemm_rate, tower_rate / product_rate);
  fflush(stdout);
  free_layers(all);
}

int main(int argc, char **argv) {
  struct setup setup;
  setup_parse(
      &setup, argc, argv,
      "The rate of a whole tower by the rate of its matrix products alone, measured in turn: a line of JSON for\n"
      "each precision and batch. Times are of an item, rates and peak_gops of all threads together, in 10^9\n"
      "operations per second; gemm finishes and stores what it multiplies, product does not.\n");
  for (int p = 0; p < setup.n_precisions; p++)
    for (int b = 0; b < setup.n_batches; b++) {
      setup_open(&setup, setup.precisions[p], setup.batches[b]);
      compare(&setup);
      setup_close(&setup);
    }
  clipc_shutdown();
  return 0;
}
