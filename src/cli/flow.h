/* Inputs through the scheduler: some are fetched, some decoded, some computed at the same time, and the results come
 * out in the order of the command line. */
#ifndef CLIPC_CLI_FLOW_H
#define CLIPC_CLI_FLOW_H

#include "cli/inputs.h"
#include "cli/options.h"

struct cli_flow {
  clipc_runtime *runtime;
  clipc_registry *registry;
  const struct cli_inputs *inputs;
  size_t next, submitted; /* inputs handed out, and under way */
  clipc_pending **window; /* [n_window], of input i at i % n_window; NULL for one that was no request */
  size_t n_window;
  clipc_pending *current; /* whose result the caller looks at */
};

/* Takes a model and inputs, both the caller's, and catches Ctrl-C; complains and returns false when it cannot.
 *   most  inputs computed at once
 *   raw   vectors as they leave the projection */
bool cli_flow_open(struct cli_flow *flow, clipc_model *model, const struct cli_inputs *inputs, uint64_t most, bool raw,
                   const struct cli_model_options *options);

/* Waits for the next result in the inputs' order.
 *   index      [out] of the input
 *   embedding  [out] float [dimension], until the next call; NULL when it failed
 *   error      [out] why; CLIPC_OK when it did not
 * False at the end. After Ctrl-C, which cli_was_stopped tells of, only what is done by then still comes. */
bool cli_flow_next(struct cli_flow *flow, size_t *index, const float **embedding, clipc_error *error);

void cli_flow_close(struct cli_flow *flow);

#endif
