/* The text tower:
 *
 *   ids [n] -> token_embedding[ids] + position_embedding[0 .. n) [n, width] -> blocks
 *   one token (argmax of the ids, first end token, first, last) -> ln_final -> projection [embedding]
 *
 * A causal tower is computed up to the token that is pooled: what comes behind cannot change it. Another is
 * computed over its whole context, pads included. Texts of a batch lie packed, without padding between them.
 * Follows transformers' CLIPTextModelWithProjection and open_clip's CLIP.encode_text and TextTransformer. */
#include "model/model.h"

#include <string.h>

/* Position of the token that is pooled, among ids padded with pad_id to the whole context. */
static size_t pooled_position(const struct clipc__text_config *config, const int32_t *ids, size_t n_ids) {
  size_t best = 0;
  switch (config->pooling) {
  case CLIPC__POOL_LAST: return (size_t)config->context_length - 1;
  case CLIPC__POOL_EOS:
    for (size_t i = 0; i < n_ids; i++)
      if (ids[i] == config->eos_id) return i;
    return 0;
  case CLIPC__POOL_ARGMAX:
    for (size_t i = 1; i < n_ids; i++)
      if (ids[i] > ids[best]) best = i;
    return best;
  default: return 0;
  }
}

void clipc__text_begin(struct clipc__workspace *ws, const struct clipc__text *text, size_t n, const size_t *n_ids) {
  size_t width = (size_t)text->transformer.config.width, context = (size_t)text->config.context_length;
  float *hidden = ws->hidden;
  ws->start[0] = 0;
  for (size_t s = 0; s < n; s++) {
    const int32_t *ids = ws->ids + s * context;
    ws->pooled_at[s] = pooled_position(&text->config, ids, n_ids[s]);
    size_t length = text->config.causal ? ws->pooled_at[s] + 1 : context;
    for (size_t t = 0; t < length; t++, hidden += width) {
      size_t id = (size_t)(t < n_ids[s] ? ids[t] : text->config.pad_id);
      const float *token = text->token_embedding + id * width, *position = text->position_embedding + t * width;
      for (size_t i = 0; i < width; i++) hidden[i] = token[i] + position[i];
    }
    ws->start[s + 1] = ws->start[s] + length;
  }
  ws->sequences = (struct clipc__sequences){n, ws->start, text->config.causal};
  ws->next_block = 0;
}

void clipc__text_finish(struct clipc__workspace *ws, const struct clipc__text *text, float *embeddings) {
  const struct clipc__transformer_config *config = &text->transformer.config;
  size_t width = (size_t)config->width, n = ws->sequences.n;
  clipc__layer_norm(&ws->compute, ws->pooled, ws->pooled, text->ln_final.weight, text->ln_final.bias, n, width,
                    config->layer_norm_eps);
  if (text->config.projection)
    clipc__linear_forward(&ws->compute, embeddings, text->projection.n_out,
                          &(struct clipc__rows){.x = ws->pooled, .stride = width, .n = n}, &text->projection, 1,
                          CLIPC__NO_ACTIVATION, CLIPC__STORE);
  else
    memcpy(embeddings, ws->pooled, n * width * sizeof *embeddings);
}
