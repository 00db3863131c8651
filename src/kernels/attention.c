/* Scaled dot-product attention of packed sequences, a chunk per sequence and head.
 * Keys and values of a head are packed as weights are, k' [head_dim, keys] and v [keys, head_dim], and multiplied by
 * the kernel of the layers; the scores of a tile of queries stay in the first cache: scores = q k', softmax, out =
 * scores v. */
#include "base/threads.h"
#include "kernels/kernels.h"

#include <string.h>

struct attention_job {
  const struct clipc__compute *compute;
  float *out;
  const float *q, *k, *v;
  size_t out_stride, q_stride, kv_stride, n_heads, head_dim;
  const struct clipc__sequences *sequences;
  const size_t *pooled;
};

/* One thread's scratch: panels of keys, panels of values, the scores of a tile, its sums. */
struct attention_plan {
  size_t key_panels, value_panels, keys, values, scores, sums; /* floats, but for the first two */
};

static struct attention_plan plan_attention(const struct clipc__gemm *small, size_t head_dim, size_t n_keys) {
  struct attention_plan plan = {.key_panels = clipc__n_panels(small, n_keys),
                                .value_panels = clipc__n_panels(small, head_dim)};
  plan.keys = plan.key_panels * small->panel_cols * head_dim;
  plan.values = plan.value_panels * small->panel_cols * n_keys;
  plan.scores = plan.key_panels * small->panel_cols * small->tile_rows;
  plan.sums = (size_t)small->tile_rows * small->panel_cols;
  return plan;
}

static size_t round_to_line(size_t floats) { return (floats + 15) & ~(size_t)15; }

size_t clipc__attention_scratch(const struct clipc__gemm *small, size_t head_dim, size_t longest) {
  struct attention_plan plan = plan_attention(small, head_dim, longest);
  return (round_to_line(plan.keys) + round_to_line(plan.values) + round_to_line(plan.scores) + plan.sums) *
         sizeof(float);
}

/* panels[key / cols][d][key % cols] = k[key, d], zeros behind the last key */
static void pack_keys(float *panels, const struct attention_job *job, const float *k, size_t n_keys) {
  size_t cols = job->compute->kernels->small.panel_cols, dim = job->head_dim;
  for (size_t first = 0; first < n_keys; first += cols, panels += cols * dim) {
    size_t n = n_keys - first < cols ? n_keys - first : cols;
    if (n < cols) memset(panels, 0, cols * dim * sizeof *panels);
    job->compute->kernels->transpose_f32(panels, cols, k + first * job->kv_stride, job->kv_stride, n, dim);
  }
}

/* panels[d / cols][key][d % cols] = v[key, d], zeros behind the last d */
static void pack_values(float *panels, const struct attention_job *job, const float *v, size_t n_keys) {
  size_t cols = job->compute->kernels->small.panel_cols, dim = job->head_dim;
  for (size_t first = 0; first < dim; first += cols) {
    size_t n = dim - first < cols ? dim - first : cols;
    for (size_t key = 0; key < n_keys; key++, panels += cols) {
      memcpy(panels, v + key * job->kv_stride + first, n * sizeof *panels);
      if (n < cols) memset(panels + n, 0, (cols - n) * sizeof *panels);
    }
  }
}

/* Queries [rows, head_dim] against the first n_keys keys; the first of them stands at position. */
static void attend(const struct attention_job *job, const struct attention_plan *plan, float *scratch, float *out,
                   const float *q, size_t rows, size_t position, size_t n_keys) {
  const struct clipc__kernels *kernels = job->compute->kernels;
  const struct clipc__gemm *small = &kernels->small;
  const struct clipc__finish plain = {.bias = NULL};
  float *keys = scratch, *values = keys + round_to_line(plan->keys), *scores = values + round_to_line(plan->values);
  float *sums = scores + round_to_line(plan->scores);
  size_t cols = small->panel_cols, stride = plan->key_panels * cols,
         all_keys = plan->values / (plan->value_panels * cols);
  for (size_t first = 0; first < n_keys; first += cols) {
    size_t n = n_keys - first < cols ? n_keys - first : cols;
    small->product(sums, q, job->q_stride * sizeof *q, rows, keys + first * job->head_dim, job->head_dim, keys, 0);
    kernels->finish(scores + first, stride, sums, cols, rows, n, &plain);
  }
  for (size_t r = 0; r < rows; r++)
    kernels->softmax_f32(scores + r * stride, job->sequences->causal ? position + r + 1 : n_keys, n_keys);
  for (size_t first = 0; first < job->head_dim; first += cols) {
    size_t n = job->head_dim - first < cols ? job->head_dim - first : cols;
    small->product(sums, scores, stride * sizeof *scores, rows, values + first * all_keys, n_keys, values, 0);
    kernels->finish(out + first, job->out_stride, sums, cols, rows, n, &plain);
  }
}

static void attention_chunk(void *context, size_t chunk, int slot) {
  const struct attention_job *job = context;
  const struct clipc__gemm *small = &job->compute->kernels->small;
  size_t s = chunk / job->n_heads, first = job->sequences->start[s], length = job->sequences->start[s + 1] - first;
  size_t n_queries = job->pooled ? 1 : length, query_row = job->pooled ? s : first;
  size_t head_col = chunk % job->n_heads * job->head_dim;
  const float *q = job->q + query_row * job->q_stride + head_col;
  float *out = job->out + query_row * job->out_stride + head_col;
  float *scratch = (float *)(void *)(job->compute->scratch + (size_t)slot * job->compute->scratch_bytes);
  struct attention_plan plan = plan_attention(small, job->head_dim, length);
  unsigned mode = clipc__denormals_off();
  pack_keys(scratch, job, job->k + first * job->kv_stride + head_col, length);
  pack_values(scratch + round_to_line(plan.keys), job, job->v + first * job->kv_stride + head_col, length);
  for (size_t i = 0; i < n_queries; i += small->tile_rows) {
    size_t rows = n_queries - i < small->tile_rows ? n_queries - i : small->tile_rows;
    size_t position = job->pooled ? job->pooled[s] : i;
    attend(job, &plan, scratch, out + i * job->out_stride, q + i * job->q_stride, rows, position,
           job->sequences->causal ? position + rows : length);
  }
  clipc__denormals_restore(mode);
}

void clipc__attention(const struct clipc__compute *compute, float *out, size_t out_stride, const float *q,
                      size_t q_stride, const float *k, const float *v, size_t kv_stride, size_t n_heads,
                      size_t head_dim, const struct clipc__sequences *sequences, const size_t *pooled) {
  struct attention_job job = {.compute = compute,
                              .out = out,
                              .q = q,
                              .k = k,
                              .v = v,
                              .out_stride = out_stride,
                              .q_stride = q_stride,
                              .kv_stride = kv_stride,
                              .n_heads = n_heads,
                              .head_dim = head_dim,
                              .sequences = sequences,
                              .pooled = pooled};
  clipc__parallel(compute->n_threads, sequences->n * n_heads, attention_chunk, &job);
}
