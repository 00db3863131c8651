/* Layers on many threads: a linear layer with its epilogue, and layer norm, cut into chunks.
 * A chunk of a product is a tile of the output: wide enough that reading x again for each costs little, small
 * enough (about a millisecond) that threads finish together and a scheduler can slip between two. */
#include "base/threads.h"
#include "kernels/kernels.h"

#define TILE_COLS 32u  /* a tile's columns are a multiple of this */
#define TILE_ROWS 512u /* most rows of a tile */
#define TILE_WEIGHT_ROWS                                                                                               \
  32                        /* fetching and packing a weight costs about as much as multiplying it with so many rows   \
                             */
#define TILE_FLOP 32000000u /* about what a tile is worth */

struct linear_job {
  const struct clipc__kernels *kernels;
  float *y;
  const float *x;
  size_t y_stride, x_stride, rows;
  const struct clipc__linear *linears;
  size_t tile_rows, tile_cols, tiles_down, tiles_across; /* across: of one layer */
  enum clipc__activation activation;
  enum clipc__linear_output output;
};

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

static void linear_chunk(void *context, size_t chunk, int slot) {
  (void)slot;
  const struct linear_job *job = context;
  size_t row = chunk % job->tiles_down * job->tile_rows, tile = chunk / job->tiles_down;
  const struct clipc__linear *linear = &job->linears[tile / job->tiles_across];
  size_t col = tile % job->tiles_across * job->tile_cols;
  size_t rows = smaller(job->rows - row, job->tile_rows), cols = smaller(linear->n_out - col, job->tile_cols);
  float *y = job->y + row * job->y_stride + tile / job->tiles_across * linear->n_out + col;
  job->kernels->gemm_nt_f32(y, job->y_stride, job->x + row * job->x_stride, job->x_stride,
                            linear->weight + col * linear->n_in, linear->n_in, rows, cols, linear->n_in,
                            job->output == CLIPC__ADD);
  for (size_t r = 0; r < rows; r++, y += job->y_stride) {
    if (linear->bias != NULL)
      for (size_t i = 0; i < cols; i++) y[i] += linear->bias[col + i];
    if (job->activation != CLIPC__NO_ACTIVATION) job->kernels->activation_f32[job->activation](y, cols);
  }
}

void clipc__linear_forward(const struct clipc__compute *compute, float *y, size_t y_stride, const float *x,
                           size_t x_stride, size_t rows, const struct clipc__linear *linears, size_t n_linears,
                           enum clipc__activation activation, enum clipc__linear_output output) {
  struct linear_job job = {.kernels = compute->kernels,
                           .y = y,
                           .x = x,
                           .y_stride = y_stride,
                           .x_stride = x_stride,
                           .rows = rows,
                           .linears = linears,
                           .activation = activation,
                           .output = output};
  size_t n_out = linears->n_out, n_threads = (size_t)compute->n_threads;
  job.tile_rows = smaller(rows, TILE_ROWS);
  job.tiles_down = (rows + job.tile_rows - 1) / job.tile_rows;
  size_t cols = TILE_FLOP / (2 * (job.tile_rows + TILE_WEIGHT_ROWS) * linears->n_in);
  size_t n_tiles = 1 + n_out / (cols < TILE_COLS ? TILE_COLS : cols);
  if (n_tiles * job.tiles_down * n_linears < n_threads) n_tiles = n_threads; /* something for everybody */
  size_t even = (n_out + n_tiles - 1) / n_tiles;
  job.tile_cols = (even + TILE_COLS - 1) / TILE_COLS * TILE_COLS;
  job.tiles_across = (n_out + job.tile_cols - 1) / job.tile_cols;
  clipc__parallel(compute->n_threads, job.tiles_down * job.tiles_across * n_linears, linear_chunk, &job);
}

#define NORM_CHUNK_FLOATS 16384u

struct norm_job {
  const struct clipc__kernels *kernels;
  float *y;
  const float *x, *weight, *bias;
  size_t rows, cols, chunk_rows;
  float eps;
};

static void norm_chunk(void *context, size_t chunk, int slot) {
  (void)slot;
  const struct norm_job *job = context;
  size_t row = chunk * job->chunk_rows, rows = smaller(job->rows - row, job->chunk_rows);
  job->kernels->layer_norm_f32(job->y + row * job->cols, job->x + row * job->cols, job->weight, job->bias, rows,
                               job->cols, job->eps);
}

void clipc__layer_norm(const struct clipc__compute *compute, float *y, const float *x, const float *weight,
                       const float *bias, size_t rows, size_t cols, float eps) {
  struct norm_job job = {compute->kernels, y, x, weight, bias, rows, cols, 1 + NORM_CHUNK_FLOATS / cols, eps};
  clipc__parallel(compute->n_threads, (rows + job.chunk_rows - 1) / job.chunk_rows, norm_chunk, &job);
}

#undef TILE_COLS
#undef TILE_ROWS
#undef TILE_WEIGHT_ROWS
#undef TILE_FLOP
#undef NORM_CHUNK_FLOATS
