/* Linear layers on many threads, in two stages that share their work out in chunks:
 *
 *   rows of x -> (layer norm) -> (bf16 or integers)   input rows      a chunk: some rows
 *   input rows x panels -> sums -> y                                  a chunk: some rows by some panels
 *
 * A chunk walks panel by panel, and through each tile by tile of rows: rows stay in the second cache, the panel comes
 * from memory once, fetched ahead while the one before it is multiplied. Where the first stage has nothing to do, x
 * itself is read. */
#include "base/threads.h"
#include "kernels/kernels.h"

#include <math.h>
#include <string.h>

#define BLOCK_BYTES ((size_t)384 << 10) /* of input rows in a chunk */
#define CHUNK_MIN_COST 3e6              /* in operations: about 30 us, a join or two */
#define CHUNK_MAX_COST 2e7              /* about 2 ms in plain C */
#define CHUNKS_PER_THREAD 16.0          /* so that all finish together */
#define PANEL_COST_ROWS 16              /* fetching a panel costs about as much as multiplying it with so many rows */
#define AHEAD_BYTES 8192                /* within a panel that is read once */
#define PREPARE_CHUNK_FLOATS 8192u
#define LEVEL_TOLERANCE 0.0005f /* what scaling a level in f32, to and fro, may add to it at the very most */

static size_t at_most(size_t a, size_t b) { return a < b ? a : b; }

static size_t round_up(size_t n, size_t unit) { return (n + unit - 1) / unit * unit; }

size_t clipc__input_stride(size_t n_in) { return round_up((n_in + 8) * sizeof(float), 64) + 64; }

size_t clipc__linear_scratch(const struct clipc__gemm *gemm, size_t n_in) {
  size_t sums = (size_t)gemm->tile_rows * gemm->panel_cols * sizeof(float), row = n_in * sizeof(float);
  return round_up(sums > row ? sums : row, 64);
}

/* ---- input rows */

/* Levels to integers as they are; false where the row is not made of levels. Nothing here branches. */
static bool prepare_levels(void *out, struct clipc__row_scale *scale, const float *x, size_t k, size_t k_padded,
                           enum clipc__number number) {
  const float shift = 12582912.0f; /* 1.5 * 2^23: added to it a number becomes whole, and its lower bits are that */
  int32_t zero = number == CLIPC__U8 ? 128 : 0, others = 0;
  uint8_t *bytes = number == CLIPC__S16 ? NULL : out;
  int16_t *words = number == CLIPC__S16 ? out : NULL;
  for (size_t p = 0; p < k; p++) {
    float nearest = x[p] + shift;
    uint32_t bits;
    memcpy(&bits, &nearest, sizeof bits);
    uint32_t level = bits - 0x4B400000u; /* of two's complement */
    others |= (level + 128 > 255) | !(fabsf(x[p] - (nearest - shift)) <= LEVEL_TOLERANCE);
    if (bytes)
      bytes[p] = (uint8_t)(level + (uint32_t)zero);
    else
      words[p] = (int16_t)level;
  }
  if (others) return false;
  memset((char *)out + k * clipc__number_bytes(number), 0, (k_padded - k) * clipc__number_bytes(number));
  *scale = (struct clipc__row_scale){1.0f, zero};
  return true;
}

struct prepare_job {
  const struct clipc__compute *compute;
  const struct clipc__gemm *gemm;
  const struct clipc__rows *x;
  size_t n_in, k_padded, chunk_rows;
};

static void prepare_chunk(void *context, size_t chunk, int slot) {
  const struct prepare_job *job = context;
  const struct clipc__compute *compute = job->compute;
  const struct clipc__rows *x = job->x;
  size_t stride = clipc__input_stride(job->n_in), end = at_most((chunk + 1) * job->chunk_rows, x->n);
  float *normal = (float *)(void *)(compute->scratch + (size_t)slot * compute->scratch_bytes);
  unsigned mode = clipc__denormals_off();
  for (size_t r = chunk * job->chunk_rows; r < end; r++) {
    const float *row = x->x + r * x->stride;
    char *out = compute->prepared + r * stride;
    if (job->gemm->prepare == NULL) normal = (float *)(void *)out;
    if (x->normalize)
      compute->kernels->layer_norm_f32(normal, job->n_in, row, job->n_in, NULL, NULL, 1, job->n_in, x->eps);
    if (x->levels && job->gemm->weights == CLIPC__S8 &&
        prepare_levels(out, &compute->row_scale[r], row, job->n_in, job->k_padded, job->gemm->input))
      continue;
    if (job->gemm->prepare != NULL) {
      job->gemm->prepare(out, &compute->row_scale[r], x->normalize ? normal : row, job->n_in, job->k_padded,
                         job->gemm->n_levels);
      continue;
    }
    if (!x->normalize) memcpy(normal, row, job->n_in * sizeof *normal);
    memset(normal + job->n_in, 0, (job->k_padded - job->n_in) * sizeof *normal);
  }
  clipc__denormals_restore(mode);
}

/* ---- products */

struct linear_job {
  const struct clipc__compute *compute;
  const struct clipc__linear *linears;
  const char *x; /* input rows of x_stride bytes */
  const struct clipc__row_scale *row_scale;
  float *y;
  size_t y_stride, x_stride, rows, k, n_panels, panel_bytes;
  size_t block_rows, n_blocks, chunk_panels, chunks_across; /* across: of one layer */
  enum clipc__activation activation;
  bool add;
};

/* All rows of a block by one panel. */
static void multiply_panel(const struct linear_job *job, const struct clipc__linear *linear, size_t panel,
                           size_t first_row, size_t rows, float *y, const char *next, float *sums) {
  const struct clipc__gemm *gemm = linear->gemm;
  const char *weights = (const char *)linear->panels + panel * job->panel_bytes;
  size_t col = panel * gemm->panel_cols, cols = at_most(linear->n_out - col, gemm->panel_cols);
  size_t n_tiles = (rows + gemm->tile_rows - 1) / gemm->tile_rows;
  struct clipc__finish how = {.bias = linear->bias ? linear->bias + col : NULL,
                              .scale = linear->scale ? linear->scale + col : NULL,
                              .sum = linear->sum ? linear->sum + col : NULL,
                              .activation = job->activation,
                              .add = job->add};
  for (size_t tile = 0, row = 0; tile < n_tiles; tile++) {
    size_t n = (rows - row + n_tiles - tile - 1) / (n_tiles - tile); /* tiles of nearly equal height */
    size_t part = job->panel_bytes / n_tiles;
    const char *ahead = n_tiles == 1 ? weights + AHEAD_BYTES : next + tile * part;
    gemm->product(sums, job->x + (first_row + row) * job->x_stride, job->x_stride, n, weights, job->k, ahead, part);
    how.rows = job->row_scale ? job->row_scale + first_row + row : NULL;
    job->compute->kernels->finish(y + row * job->y_stride + col, job->y_stride, sums, gemm->panel_cols, n, cols, &how);
    row += n;
  }
}

static void linear_chunk(void *context, size_t chunk, int slot) {
  const struct linear_job *job = context;
  size_t first_row = chunk % job->n_blocks * job->block_rows, across = chunk / job->n_blocks;
  size_t layer = across / job->chunks_across, first = across % job->chunks_across * job->chunk_panels;
  const struct clipc__linear *linear = &job->linears[layer];
  size_t end = at_most(first + job->chunk_panels, job->n_panels),
         rows = at_most(job->rows - first_row, job->block_rows);
  /* another thread is likely to take the chunk behind this one, and this thread the one behind that */
  size_t skip = job->n_blocks > 1 ? 0 : (size_t)(job->compute->n_threads - 1) * job->chunk_panels;
  float *sums = (float *)(void *)(job->compute->scratch + (size_t)slot * job->compute->scratch_bytes);
  float *y = job->y + first_row * job->y_stride + layer * linear->n_out;
  unsigned mode = clipc__denormals_off();
  for (size_t panel = first; panel < end; panel++) {
    size_t next = panel + 1 < end ? panel + 1 : panel + 1 + skip;
    multiply_panel(job, linear, panel, first_row, rows, y, (const char *)linear->panels + next * job->panel_bytes,
                   sums);
  }
  clipc__denormals_restore(mode);
}

/* Chunks that cost enough to be worth a thread's while, and are enough for all threads to finish together. */
static void cut_into_chunks(struct linear_job *job, size_t n_linears, size_t input_bytes) {
  const struct clipc__gemm *gemm = job->linears->gemm;
  size_t most_rows = BLOCK_BYTES / input_bytes / gemm->tile_rows * gemm->tile_rows;
  if (most_rows < gemm->tile_rows) most_rows = gemm->tile_rows;
  job->n_blocks = (job->rows + most_rows - 1) / most_rows;
  job->block_rows = round_up((job->rows + job->n_blocks - 1) / job->n_blocks, gemm->tile_rows);
  job->n_blocks = (job->rows + job->block_rows - 1) / job->block_rows;
  double cost = 2.0 * (double)(at_most(job->block_rows, job->rows) + PANEL_COST_ROWS) * (double)job->k *
                (double)gemm->panel_cols; /* of a panel */
  double all = cost * (double)job->n_blocks * (double)job->n_panels * (double)n_linears;
  double target = all / (CHUNKS_PER_THREAD * job->compute->n_threads);
  if (target < CHUNK_MIN_COST) target = CHUNK_MIN_COST;
  if (target > CHUNK_MAX_COST) target = CHUNK_MAX_COST;
  size_t panels = 1 + (size_t)(target / cost);
  size_t n_chunks = (job->n_panels + panels - 1) / panels, n_threads = (size_t)job->compute->n_threads;
  if (n_chunks * job->n_blocks * n_linears < n_threads) n_chunks = at_most(n_threads, job->n_panels);
  job->chunk_panels = (job->n_panels + n_chunks - 1) / n_chunks;
  job->chunks_across = (job->n_panels + job->chunk_panels - 1) / job->chunk_panels;
}

void clipc__linear_forward(const struct clipc__compute *compute, float *y, size_t y_stride, const struct clipc__rows *x,
                           const struct clipc__linear *linears, size_t n_linears, enum clipc__activation activation,
                           enum clipc__linear_output output) {
  const struct clipc__gemm *gemm = linears->gemm;
  size_t n_in = linears->n_in;
  struct linear_job job = {.compute = compute,
                           .linears = linears,
                           .x = (const char *)x->x,
                           .y = y,
                           .y_stride = y_stride,
                           .x_stride = x->stride * sizeof(float),
                           .rows = x->n,
                           .k = clipc__k_padded(gemm, n_in),
                           .n_panels = clipc__n_panels(gemm, linears->n_out),
                           .panel_bytes = clipc__panel_bytes(gemm, n_in),
                           .activation = activation,
                           .add = output == CLIPC__ADD};
  if (gemm->prepare != NULL || x->normalize || job.k != n_in) {
    struct prepare_job prepare = {compute, gemm, x, n_in, job.k, 1 + PREPARE_CHUNK_FLOATS / n_in};
    clipc__parallel(compute->n_threads, (x->n + prepare.chunk_rows - 1) / prepare.chunk_rows, prepare_chunk, &prepare);
    job.x = compute->prepared;
    job.x_stride = clipc__input_stride(n_in);
    job.row_scale = gemm->weights == CLIPC__S8 ? compute->row_scale : NULL;
  }
  cut_into_chunks(&job, n_linears, job.k * clipc__number_bytes(gemm->input));
  clipc__parallel(compute->n_threads, job.n_blocks * job.chunks_across * n_linears, linear_chunk, &job);
}

/* ---- layer norm that nothing folds into */

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
  size_t row = chunk * job->chunk_rows, rows = at_most(job->rows - row, job->chunk_rows);
  job->kernels->layer_norm_f32(job->y + row * job->cols, job->cols, job->x + row * job->cols, job->cols, job->weight,
                               job->bias, rows, job->cols, job->eps);
}

void clipc__layer_norm(const struct clipc__compute *compute, float *y, const float *x, const float *weight,
                       const float *bias, size_t rows, size_t cols, float eps) {
  struct norm_job job = {compute->kernels, y, x, weight, bias, rows, cols, 1 + PREPARE_CHUNK_FLOATS / cols, eps};
  clipc__parallel(compute->n_threads, (rows + job.chunk_rows - 1) / job.chunk_rows, norm_chunk, &job);
}

#undef BLOCK_BYTES
#undef CHUNK_MIN_COST
#undef CHUNK_MAX_COST
#undef CHUNKS_PER_THREAD
#undef PANEL_COST_ROWS
#undef AHEAD_BYTES
#undef PREPARE_CHUNK_FLOATS
#undef LEVEL_TOLERANCE
