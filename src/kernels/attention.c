/* Scaled dot-product attention of packed sequences, a chunk per sequence and head.
 * The scores of a few queries at a time stay in the cache: scores = q k', softmax, out = scores v. */
#include "base/threads.h"
#include "kernels/kernels.h"

#include <math.h>

#define QUERY_TILE 64u /* queries whose scores are held at once */

struct attention_job {
  const struct clipc__kernels *kernels;
  float *out, *scratch;
  const float *q, *k, *v;
  size_t out_stride, q_stride, kv_stride, n_heads, head_dim, scratch_floats;
  const struct clipc__sequences *sequences;
  const size_t *pooled;
};

size_t clipc__attention_scratch(size_t longest) { return QUERY_TILE * longest; }

static void attention_chunk(void *context, size_t chunk, int slot) {
  const struct attention_job *job = context;
  size_t s = chunk / job->n_heads, first = job->sequences->start[s], length = job->sequences->start[s + 1] - first;
  size_t n_queries = job->pooled ? 1 : length, query_row = job->pooled ? s : first;
  size_t head_col = chunk % job->n_heads * job->head_dim;
  const float *q = job->q + query_row * job->q_stride + head_col;
  float *out = job->out + query_row * job->out_stride + head_col;
  const float *k = job->k + first * job->kv_stride + head_col, *v = job->v + first * job->kv_stride + head_col;
  float *scores = job->scratch + (size_t)slot * job->scratch_floats;
  const float scale = 1.0f / sqrtf((float)job->head_dim);
  for (size_t i = 0; i < n_queries; i += QUERY_TILE) {
    size_t rows = n_queries - i < QUERY_TILE ? n_queries - i : QUERY_TILE;
    size_t position = job->pooled ? job->pooled[s] : i; /* of the tile's first query */
    size_t n_keys = job->sequences->causal ? position + rows : length;
    job->kernels->gemm_nt_f32(scores, n_keys, q + i * job->q_stride, job->q_stride, k, job->kv_stride, rows, n_keys,
                              job->head_dim, false);
    for (size_t r = 0; r < rows; r++)
      job->kernels->softmax_f32(scores + r * n_keys, job->sequences->causal ? position + r + 1 : n_keys, n_keys, scale);
    job->kernels->gemm_nn_f32(out + i * job->out_stride, job->out_stride, scores, n_keys, v, job->kv_stride, rows,
                              job->head_dim, n_keys);
  }
}

void clipc__attention(const struct clipc__compute *compute, float *out, size_t out_stride, const float *q,
                      size_t q_stride, const float *k, const float *v, size_t kv_stride, size_t n_heads,
                      size_t head_dim, const struct clipc__sequences *sequences, const size_t *pooled, float *scratch,
                      size_t longest) {
  struct attention_job job = {.kernels = compute->kernels,
                              .out = out,
                              .scratch = scratch,
                              .q = q,
                              .k = k,
                              .v = v,
                              .out_stride = out_stride,
                              .q_stride = q_stride,
                              .kv_stride = kv_stride,
                              .n_heads = n_heads,
                              .head_dim = head_dim,
                              .scratch_floats = clipc__attention_scratch(longest),
                              .sequences = sequences,
                              .pooled = pooled};
  clipc__parallel(compute->n_threads, sequences->n * n_heads, attention_chunk, &job);
}

#undef QUERY_TILE
