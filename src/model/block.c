/* One transformer block, shared by both towers (pre-LN, as in the CLIP paper's code):
 *
 *   x = x + out(attention(q(ln_1 x), k(ln_1 x), v(ln_1 x)))
 *   x = x + fc2(activation(fc1(ln_2 x)))
 *
 * hidden x [rows, width], all sequences packed. The last block of a tower that pools one token computes keys and
 * values for every row, and all else for the pooled rows alone: the same result, less work. */
#include "model/model.h"

#include <string.h>

/* rows[s] = x[start[s] + at[s]] */
static void gather_rows(float *rows, const float *x, const struct clipc__sequences *sequences, const size_t *at,
                        size_t width) {
  for (size_t s = 0; s < sequences->n; s++)
    memcpy(rows + s * width, x + (sequences->start[s] + at[s]) * width, width * sizeof *rows);
}

static size_t longest_sequence(const struct clipc__sequences *sequences) {
  size_t longest = 0;
  for (size_t s = 0; s < sequences->n; s++) {
    size_t length = sequences->start[s + 1] - sequences->start[s];
    if (length > longest) longest = length;
  }
  return longest;
}

/* normed [rows, width] -> attended [rows, width] (or [n, width] when pooling), before the output projection. */
static void self_attention(struct clipc__workspace *ws, const struct clipc__transformer_config *config,
                           const struct clipc__linear *qkv, float *attended, bool pool) {
  size_t width = (size_t)config->width, n_heads = (size_t)config->n_heads, rows = ws->sequences.start[ws->sequences.n];
  size_t head_dim = width / n_heads, longest = longest_sequence(&ws->sequences);
  float *q = ws->wide, *k = ws->wide + width, *v = ws->wide + 2 * width;
  if (!pool) {
    clipc__linear_forward(&ws->compute, q, 3 * width, ws->normed, width, rows, qkv, 3, CLIPC__NO_ACTIVATION,
                          CLIPC__STORE);
    clipc__attention(&ws->compute, attended, width, q, 3 * width, k, v, 3 * width, n_heads, head_dim, &ws->sequences,
                     NULL, ws->scratch, longest);
    return;
  }
  float *pooled_normed = ws->pooled, *pooled_q = ws->pooled + ws->max_batch * width;
  gather_rows(pooled_normed, ws->normed, &ws->sequences, ws->pooled_at, width);
  clipc__linear_forward(&ws->compute, pooled_q, width, pooled_normed, width, ws->sequences.n, qkv, 1,
                        CLIPC__NO_ACTIVATION, CLIPC__STORE);
  clipc__linear_forward(&ws->compute, k, 3 * width, ws->normed, width, rows, qkv + 1, 2, CLIPC__NO_ACTIVATION,
                        CLIPC__STORE);
  clipc__attention(&ws->compute, attended, width, pooled_q, width, k, v, 3 * width, n_heads, head_dim, &ws->sequences,
                   ws->pooled_at, ws->scratch, longest);
}

void clipc__block_step(struct clipc__workspace *ws, const struct clipc__transformer *transformer, bool pool) {
  const struct clipc__transformer_config *config = &transformer->config;
  const struct clipc__block_weights *block = &transformer->blocks[ws->next_block++];
  size_t width = (size_t)config->width, mlp_width = (size_t)config->mlp_width;
  size_t rows = ws->sequences.start[ws->sequences.n];
  bool last = ws->next_block == config->n_layers;
  pool = pool && last;

  clipc__layer_norm(&ws->compute, ws->normed, ws->hidden, block->ln_1.weight, block->ln_1.bias, rows, width,
                    config->layer_norm_eps);
  self_attention(ws, config, block->qkv, ws->normed, pool);
  if (pool) { /* rows only move up: sequence s has at least one row before s + 1 begins */
    for (size_t s = 0; s < ws->sequences.n; s++)
      memmove(ws->hidden + s * width, ws->hidden + (ws->sequences.start[s] + ws->pooled_at[s]) * width,
              width * sizeof *ws->hidden);
    rows = ws->sequences.n;
  }
  clipc__linear_forward(&ws->compute, ws->hidden, width, ws->normed, width, rows, &block->out, 1, CLIPC__NO_ACTIVATION,
                        CLIPC__ADD);

  clipc__layer_norm(&ws->compute, ws->normed, ws->hidden, block->ln_2.weight, block->ln_2.bias, rows, width,
                    config->layer_norm_eps);
  clipc__linear_forward(&ws->compute, ws->wide, mlp_width, ws->normed, width, rows, &block->fc1, 1, config->activation,
                        CLIPC__STORE);
  clipc__linear_forward(&ws->compute, ws->hidden, width, ws->wide, mlp_width, rows, &block->fc2, 1,
                        CLIPC__NO_ACTIVATION, CLIPC__ADD);
}
