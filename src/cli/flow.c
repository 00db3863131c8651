/* Inputs to embeddings on the scheduler. A window of requests is under way; the oldest is waited for, the next one
 * made. In: cli_inputs. Out: one vector or clipc_error for each. Ctrl-C cancels what is not done. */
#include "cli/flow.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FLOW_AHEAD = 64, FLOW_LOOK_MS = 100 };

struct flow_source {
  clipc_model *model;
  clipc_session_options session;
};

/* The model is open already: it may have been refused, which must come before any output. */
static int lend_model(clipc_task *task, void *frame, const clipc_loader *loader, clipc_engine *engine,
                      clipc_error *error) {
  (void)task, (void)frame;
  const struct flow_source *source = loader->source;
  return clipc_model_engine(engine, source->model, &source->session, error);
}

static bool complain_and_close(struct cli_flow *flow, const clipc_error *error) {
  cli_complain("%s", error->message);
  cli_flow_close(flow);
  return false;
}

bool cli_flow_open(struct cli_flow *flow, clipc_model *model, const struct cli_inputs *inputs, uint64_t most, bool raw,
                   const struct cli_model_options *options) {
  static struct flow_source source; /* one flow at a time; read whenever the engine is loaded */
  if (most > inputs->n) most = inputs->n;
  *flow = (struct cli_flow){.inputs = inputs, .n_window = 2 * (size_t)most + FLOW_AHEAD};
  if (flow->n_window > inputs->n) flow->n_window = inputs->n;
  source = (struct flow_source){.model = model, .session = {.max_batch = (int)most, .raw = raw}};
  clipc_runtime_options runtime = {
      .n_threads = clipc_model_threads(model),
      .fetch = {.allow = options->allow.items,
                .n_allow = options->allow.n,
                .max_bytes = options->options.limits.max_image_bytes,
                .total_timeout_ms = (int)options->timeout_s * 1000},
  };
  clipc_registry_options registry = {.max_batch = (size_t)most, .request_timeout_ms = -1, .max_workers = 2};
  size_t *capacities[] = {&registry.image_embed_queue_capacity, &registry.text_embed_queue_capacity,
                          &registry.url_queue_capacity, &registry.base64_queue_capacity};
  for (size_t i = 0; i < sizeof capacities / sizeof *capacities; i++) *capacities[i] = flow->n_window + 1;
  clipc_loader loader = {.name = "model", .run = lend_model, .source = &source};
  clipc_error error = {0};
  if (clipc_runtime_open(&flow->runtime, &runtime, &error) != CLIPC_OK ||
      clipc_registry_open(&flow->registry, flow->runtime, &registry, &error) != CLIPC_OK ||
      clipc_registry_add(flow->registry, "model", CLIPC_CAN(CLIPC_IMAGE_EMBEDDING) | CLIPC_CAN(CLIPC_TEXT_EMBEDDING),
                         &loader, &error) != CLIPC_OK)
    return complain_and_close(flow, &error);
  flow->window = cli_allocate(flow->n_window, sizeof *flow->window);
  cli_catch_stop(SIGINT);
  return true;
}

static clipc_pending *submit_input(struct cli_flow *flow, const struct cli_input *item) {
  if (item->trouble != NULL) return NULL;
  clipc_input input = {.kind = item->kind, .data = item->text, .n_bytes = item->n_bytes};
  clipc_request request = {.capability = item->kind == CLIPC_INPUT_TEXT ? CLIPC_TEXT_EMBEDDING : CLIPC_IMAGE_EMBEDDING,
                           .inputs = &input,
                           .n_inputs = 1};
  clipc_pending *pending = clipc_registry_submit(flow->registry, "model", &request);
  if (pending == NULL) {
    cli_complain("there is not enough memory");
    exit(CLI_FAILED);
  }
  return pending;
}

static void fill_window(struct cli_flow *flow) {
  for (; flow->submitted < flow->inputs->n && flow->submitted - flow->next < flow->n_window; flow->submitted++)
    flow->window[flow->submitted % flow->n_window] = submit_input(flow, &flow->inputs->items[flow->submitted]);
}

static void stop_window(struct cli_flow *flow) {
  for (size_t i = flow->next; i < flow->submitted; i++) clipc_pending_cancel(flow->window[i % flow->n_window]);
}

bool cli_flow_next(struct cli_flow *flow, size_t *index, const float **embedding, clipc_error *error) {
  clipc_pending_close(flow->current);
  flow->current = NULL;
  for (;;) {
    if (!cli_was_stopped()) fill_window(flow);
    if (flow->next == flow->submitted) return false;
    *index = flow->next;
    *embedding = NULL;
    *error = (clipc_error){.status = CLIPC_OK};
    const struct cli_input *item = &flow->inputs->items[flow->next];
    clipc_pending *pending = flow->current = flow->window[flow->next % flow->n_window];
    if (item->trouble != NULL) {
      error->status = CLIPC_E_IO;
      snprintf(error->message, sizeof error->message, "%s: %s", item->text, item->trouble);
      flow->next++;
      return true;
    }
    while (!clipc_pending_done(pending)) {
      if (cli_was_stopped()) stop_window(flow);
      clipc_pending_wait(pending, FLOW_LOOK_MS, NULL);
    }
    flow->next++;
    clipc_pending_status(pending, error);
    if (error->status == CLIPC_OK) *embedding = clipc_pending_result(pending)->embeddings;
    if (error->status != CLIPC_E_CANCELLED || !cli_was_stopped()) return true;
    clipc_pending_close(pending);
    flow->current = NULL;
  }
}

void cli_flow_close(struct cli_flow *flow) {
  clipc_pending_close(flow->current);
  for (; flow->next < flow->submitted; flow->next++) clipc_pending_close(flow->window[flow->next % flow->n_window]);
  free(flow->window);
  clipc_registry_close(flow->registry);
  clipc_runtime_close(flow->runtime);
  *flow = (struct cli_flow){0};
}
