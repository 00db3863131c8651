/* The workspace plan: every buffer that a computation needs, sized from the model, allocated once. */
#include "model/model.h"

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

/* What one sequence of a tower needs at most, in elements. */
struct workspace_plan {
  size_t pixels, ids, hidden, wide, pooled, longest;
};

static void plan_transformer(struct workspace_plan *plan, const struct clipc__transformer_config *config,
                             size_t n_tokens) {
  size_t width = (size_t)config->width;
  plan->hidden = larger(plan->hidden, n_tokens * width);
  plan->wide = larger(plan->wide, n_tokens * larger(3 * width, (size_t)config->mlp_width));
  plan->pooled = larger(plan->pooled, 2 * width);
  plan->longest = larger(plan->longest, n_tokens);
}

clipc_status clipc__workspace_make(struct clipc__workspace *ws, const struct clipc_model *model, size_t max_batch,
                                   clipc_error *error) {
  struct workspace_plan plan = {0};
  if (model->config.vision.present) {
    plan.pixels = 3 * (size_t)model->vision.config.image_height * (size_t)model->vision.config.image_width;
    plan_transformer(&plan, &model->vision.transformer.config, model->vision.n_tokens);
  }
  if (model->config.text.present) {
    plan.ids = (size_t)model->text.config.context_length;
    plan_transformer(&plan, &model->text.transformer.config, plan.ids);
  }
  const clipc_allocator *allocator = &model->allocator;
  ws->max_batch = max_batch;
  ws->compute = (struct clipc__compute){&model->kernels, model->n_threads};
  ws->pixels = clipc__alloc(allocator, max_batch, plan.pixels * sizeof *ws->pixels);
  ws->ids = clipc__alloc(allocator, max_batch, plan.ids * sizeof *ws->ids);
  ws->hidden = clipc__alloc(allocator, max_batch, plan.hidden * sizeof *ws->hidden);
  ws->normed = clipc__alloc(allocator, max_batch, plan.hidden * sizeof *ws->normed);
  ws->wide = clipc__alloc(allocator, 1, larger(max_batch * plan.wide, plan.pixels) * sizeof *ws->wide);
  ws->pooled = clipc__alloc(allocator, max_batch, plan.pooled * sizeof *ws->pooled);
  ws->scratch =
      clipc__alloc(allocator, (size_t)model->n_threads, clipc__attention_scratch(plan.longest) * sizeof *ws->scratch);
  ws->start = clipc__alloc(allocator, max_batch + 1, sizeof *ws->start);
  ws->pooled_at = clipc__alloc(allocator, max_batch, sizeof *ws->pooled_at);
  if (ws->pixels && ws->ids && ws->hidden && ws->normed && ws->wide && ws->pooled && ws->scratch && ws->start &&
      ws->pooled_at)
    return CLIPC_OK;
  return clipc__no_memory(error, "a session's workspace");
}

void clipc__workspace_free(struct clipc__workspace *ws, const struct clipc_model *model) {
  void *buffers[] = {ws->pixels, ws->ids,     ws->hidden, ws->normed,   ws->wide,
                     ws->pooled, ws->scratch, ws->start,  ws->pooled_at};
  for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++) clipc__free(&model->allocator, buffers[i]);
}
