/* One transformer block, shared by both towers (pre-LN, as in the CLIP paper's code):
 *
 *   x = x + out(attention(q(ln_1 x), k(ln_1 x), v(ln_1 x)))
 *   x = x + fc2(activation(fc1(ln_2 x)))
 *
 * hidden x [rows, width], all sequences packed. The last block of a tower that pools one token computes keys and
 * values for every row, and all else for the pooled rows alone: the same result, less work. The norms' affines and the
 * scale of q are in the weights. */
#include "model/model.h"

#include <string.h>

static struct clipc__rows normalized_rows(const float *x, size_t n, const struct clipc__transformer_config *config) {
  return (struct clipc__rows){
      .x = x, .stride = (size_t)config->width, .n = n, .normalize = true, .eps = config->layer_norm_eps};
}

/* hidden [rows, width] -> attended [rows, width] (or [n, width] of the pooled rows), before the output projection. */
static void self_attention(struct clipc__workspace *ws, const struct clipc__transformer_config *config,
                           const struct clipc__linear *qkv, const float *pooled) {
  size_t width = (size_t)config->width, n_heads = (size_t)config->n_heads, n = ws->sequences.n;
  struct clipc__rows all = normalized_rows(ws->hidden, ws->sequences.start[n], config);
  float *q = ws->wide, *k = ws->wide + width, *v = ws->wide + 2 * width;
  size_t q_stride = 3 * width;
  if (pooled == NULL) {
    clipc__linear_forward(&ws->compute, q, 3 * width, &all, qkv, 3, CLIPC__NO_ACTIVATION, CLIPC__STORE);
  } else {
    struct clipc__rows ones = normalized_rows(pooled, n, config);
    q = ws->pooled + n * width;
    q_stride = width;
    clipc__linear_forward(&ws->compute, q, width, &ones, qkv, 1, CLIPC__NO_ACTIVATION, CLIPC__STORE);
    clipc__linear_forward(&ws->compute, k, 3 * width, &all, qkv + 1, 2, CLIPC__NO_ACTIVATION, CLIPC__STORE);
  }
  clipc__attention(&ws->compute, ws->attended, width, q, q_stride, k, v, 3 * width, n_heads, width / n_heads,
                   &ws->sequences, pooled ? ws->pooled_at : NULL);
}

void clipc__take_pooled(struct clipc__workspace *ws, size_t width) {
  for (size_t s = 0; s < ws->sequences.n; s++)
    memcpy(ws->pooled + s * width, ws->hidden + (ws->sequences.start[s] + ws->pooled_at[s]) * width,
           width * sizeof *ws->pooled);
}

void clipc__block_step(struct clipc__workspace *ws, const struct clipc__transformer *transformer, bool pool) {
  const struct clipc__transformer_config *config = &transformer->config;
  const struct clipc__block_weights *block = &transformer->blocks[ws->next_block++];
  size_t width = (size_t)config->width, mlp_width = (size_t)config->mlp_width,
         rows = ws->sequences.start[ws->sequences.n];
  float *x = ws->hidden;
  if (pool && ws->next_block == config->n_layers) {
    x = ws->pooled;
    clipc__take_pooled(ws, width);
    rows = ws->sequences.n;
  }
  self_attention(ws, config, block->qkv, x == ws->pooled ? x : NULL);
  clipc__linear_forward(&ws->compute, x, width, &(struct clipc__rows){.x = ws->attended, .stride = width, .n = rows},
                        &block->out, 1, CLIPC__NO_ACTIVATION, CLIPC__ADD);

  struct clipc__rows normalized = normalized_rows(x, rows, config);
  clipc__linear_forward(&ws->compute, ws->wide, mlp_width, &normalized, &block->fc1, 1, config->activation,
                        CLIPC__STORE);
  clipc__linear_forward(&ws->compute, x, width, &(struct clipc__rows){.x = ws->wide, .stride = mlp_width, .n = rows},
                        &block->fc2, 1, CLIPC__NO_ACTIVATION, CLIPC__ADD);
}
