/* The workspace plan: every buffer that a computation needs, sized from the model, allocated once. */
#include "model/model.h"

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

/* Pictures go in pieces of about so many tokens: more do not make a product faster, and what lies between products
 * falls out of the cache. */
#define PIECE_TOKENS 512u

/* The largest of what the towers need, in elements. */
struct workspace_plan {
  size_t pixels, ids, hidden, wide, pooled, tokens, inputs;
  size_t scratch_bytes; /* of a thread */
};

static void plan_layer(struct workspace_plan *plan, const struct clipc__linear *linear) {
  plan->inputs = larger(plan->inputs, linear->n_in);
  plan->scratch_bytes = larger(plan->scratch_bytes, clipc__linear_scratch(linear->gemm, linear->n_in));
}

/* n sequences of so many tokens. The largest layer of a tower is its first or its last, or in a block. */
static void plan_transformer(struct workspace_plan *plan, const struct clipc_model *model,
                             const struct clipc__transformer *transformer, size_t n, size_t n_tokens) {
  const struct clipc__transformer_config *config = &transformer->config;
  size_t width = (size_t)config->width, head_dim = width / (size_t)config->n_heads;
  plan->hidden = larger(plan->hidden, n * n_tokens * width);
  plan->wide = larger(plan->wide, n * n_tokens * larger(3 * width, (size_t)config->mlp_width));
  plan->pooled = larger(plan->pooled, 2 * n * width);
  plan->tokens = larger(plan->tokens, n * n_tokens);
  plan->scratch_bytes =
      larger(plan->scratch_bytes, clipc__attention_scratch(&model->kernels.small, head_dim, n_tokens));
  plan_layer(plan, &transformer->blocks[0].fc1);
  plan_layer(plan, &transformer->blocks[0].fc2);
}

clipc_status clipc__workspace_make(struct clipc__workspace *ws, const struct clipc_model *model, size_t max_batch,
                                   clipc_error *error) {
  struct workspace_plan plan = {0};
  ws->max_batch = max_batch;
  if (model->config.vision.present) {
    size_t n_tokens = model->vision.n_tokens, fitting = (PIECE_TOKENS + n_tokens / 2) / n_tokens;
    ws->max_images = fitting < 1 ? 1 : fitting < max_batch ? fitting : max_batch;
    plan.pixels =
        ws->max_images * 3 * (size_t)model->vision.config.image_height * (size_t)model->vision.config.image_width;
    plan_transformer(&plan, model, &model->vision.transformer, ws->max_images, n_tokens);
    plan_layer(&plan, &model->vision.patch_embedding);
    plan_layer(&plan, &model->vision.projection);
  }
  if (model->config.text.present) {
    size_t context = (size_t)model->text.config.context_length;
    plan.ids = max_batch * context;
    plan_transformer(&plan, model, &model->text.transformer, max_batch, context);
    plan_layer(&plan, &model->text.projection);
  }
  const clipc_allocator *allocator = &model->allocator;
  size_t scratch_bytes = (plan.scratch_bytes + 63) & ~(size_t)63;
  ws->compute = (struct clipc__compute){
      .kernels = &model->kernels,
      .n_threads = model->n_threads,
      .prepared = clipc__alloc(allocator, plan.tokens, clipc__input_stride(plan.inputs)),
      .row_scale = clipc__alloc(allocator, plan.tokens, sizeof(struct clipc__row_scale)),
      .scratch = clipc__alloc(allocator, (size_t)model->n_threads, scratch_bytes),
      .scratch_bytes = scratch_bytes,
  };
  ws->pixels = clipc__alloc(allocator, plan.pixels, sizeof *ws->pixels);
  ws->ids = clipc__alloc(allocator, plan.ids, sizeof *ws->ids);
  ws->hidden = clipc__alloc(allocator, plan.hidden, sizeof *ws->hidden);
  ws->attended = clipc__alloc(allocator, plan.hidden, sizeof *ws->attended);
  ws->wide = clipc__alloc(allocator, larger(plan.wide, plan.pixels), sizeof *ws->wide);
  ws->pooled = clipc__alloc(allocator, plan.pooled, sizeof *ws->pooled);
  ws->start = clipc__alloc(allocator, max_batch + 1, sizeof *ws->start);
  ws->pooled_at = clipc__alloc(allocator, max_batch, sizeof *ws->pooled_at);
  if (ws->pixels && ws->ids && ws->hidden && ws->attended && ws->wide && ws->pooled && ws->start && ws->pooled_at &&
      ws->compute.prepared && ws->compute.row_scale && ws->compute.scratch)
    return CLIPC_OK;
  return clipc__no_memory(error, "a session's workspace");
}

void clipc__workspace_free(struct clipc__workspace *ws, const struct clipc_model *model) {
  void *buffers[] = {ws->pixels,         ws->ids,   ws->hidden,    ws->attended,         ws->wide,
                     ws->pooled,         ws->start, ws->pooled_at, ws->compute.prepared, ws->compute.row_scale,
                     ws->compute.scratch};
  for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++) clipc__free(&model->allocator, buffers[i]);
}

#undef PIECE_TOKENS
