/* HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_TOKEN, HF_TOKEN_PATH, HF_HUB_OFFLINE and XDG_CACHE_HOME, and models found in
 * the cache that they name. In: the environment. Out: paths and words, none of which is printed. */
#include "cli/hub.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

static const char *hub_variable(const char *name) {
  const char *value = getenv(name);
  return value != NULL && *value != '\0' ? value : NULL;
}

/* folder/name; "~/" in front is the home. */
static char *hub_join(const char *folder, const char *name) {
  const char *home = hub_variable("HOME");
  bool tilde = home != NULL && folder[0] == '~' && (folder[1] == '/' || folder[1] == '\0');
  size_t n = (tilde ? strlen(home) : 0) + strlen(folder) + strlen(name) + 2;
  char *path = cli_allocate(n, 1);
  snprintf(path, n, "%s%s%s%s", tilde ? home : "", folder + tilde, *name ? "/" : "", name);
  return path;
}

static char *hub_home(void) {
  if (hub_variable("HF_HOME") != NULL) return hub_join(hub_variable("HF_HOME"), "");
  if (hub_variable("XDG_CACHE_HOME") != NULL) return hub_join(hub_variable("XDG_CACHE_HOME"), "huggingface");
  return hub_variable("HOME") != NULL ? hub_join(hub_variable("HOME"), ".cache/huggingface") : NULL;
}

/* The first line of a file. */
static char *hub_read_token(const char *path) {
  char line[512] = "";
  FILE *file = fopen(path, "re");
  if (file == NULL) return NULL;
  char *read = fgets(line, sizeof line, file);
  fclose(file);
  size_t n = read != NULL ? strcspn(line, " \t\r\n") : 0;
  char *token = n > 0 ? cli_copy(line, n) : NULL;
  explicit_bzero(line, sizeof line);
  return token;
}

static bool hub_is_on(const char *name) {
  const char *value = hub_variable(name);
  return value != NULL && (strcmp(value, "1") == 0 || strcasecmp(value, "true") == 0 || strcasecmp(value, "yes") == 0 ||
                           strcasecmp(value, "on") == 0);
}

void cli_hub_read(struct cli_hub *hub) {
  *hub = (struct cli_hub){.offline = hub_is_on("HF_HUB_OFFLINE")};
  char *home = hub_home();
  const char *cache = hub_variable("HF_HUB_CACHE"), *token = hub_variable("HF_TOKEN");
  if (cache == NULL) cache = hub_variable("HUGGINGFACE_HUB_CACHE");
  hub->cache = cache != NULL ? hub_join(cache, "") : home != NULL ? hub_join(home, "hub") : NULL;
  if (hub_variable("HF_ENDPOINT") != NULL)
    hub->endpoint = cli_copy(getenv("HF_ENDPOINT"), strlen(getenv("HF_ENDPOINT")));
  if (token == NULL) token = hub_variable("HUGGING_FACE_HUB_TOKEN");
  if (token != NULL) {
    while (*token == ' ' || *token == '\n') token++;
    hub->token = cli_copy(token, strcspn(token, " \t\r\n"));
  } else if (!hub_is_on("HF_HUB_DISABLE_IMPLICIT_TOKEN")) {
    char *path = hub_variable("HF_TOKEN_PATH") != NULL ? hub_join(hub_variable("HF_TOKEN_PATH"), "")
                 : home != NULL                        ? hub_join(home, "token")
                                                       : NULL;
    if (path != NULL) hub->token = hub_read_token(path);
    free(path);
  }
  free(home);
}

void cli_hub_free(struct cli_hub *hub) {
  if (hub->token != NULL) explicit_bzero(hub->token, strlen(hub->token));
  free(hub->cache);
  free(hub->endpoint);
  free(hub->token);
}

const char *cli_hub_model(const char *given) {
  static char found[4096];
  if (access(given, F_OK) == 0) return given;
  struct cli_hub hub;
  cli_hub_read(&hub);
  bool is_there = hub.cache != NULL && clipc_pull_find(found, sizeof found, given, NULL, hub.cache, NULL) == CLIPC_OK;
  cli_hub_free(&hub);
  return is_there ? found : given;
}
