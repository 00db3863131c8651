/* What the environment says about the Hugging Face hub, as Python's programs read it. */
#ifndef CLIPC_CLI_HUB_H
#define CLIPC_CLI_HUB_H

#include "cli/cli.h"

/* NULL where the environment says nothing of it. To be freed by cli_hub_free. */
struct cli_hub {
  char *cache, *endpoint, *token;
  bool offline;
};
void cli_hub_read(struct cli_hub *hub);
void cli_hub_free(struct cli_hub *hub);

/* A model as it was given with -m: a path that is there, or else the folder in the hub's cache of the model of this
 * name; given itself when it is neither. Until the next call. */
const char *cli_hub_model(const char *given);

/* Complains that it could not be opened; of a name that is nowhere, how to get it. */
void cli_hub_complain(const char *given, const clipc_error *error);

#endif
