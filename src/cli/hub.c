/* HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_TOKEN, HF_TOKEN_PATH, HF_HUB_OFFLINE and XDG_CACHE_HOME, and models found in
 * the cache that they name. In: the environment. Out: paths and words, none of which is printed.
 * Must match: constants.py and utils/_auth.py of huggingface_hub 2.4, older names included. */
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

/* "$NAME" and "${NAME}" in a path stand for the variable, where there is one, also when no shell has looked at it. */
static char *hub_expand(const char *path) {
  size_t n = 0, capacity = 0;
  char *out = cli_grow(NULL, &capacity, strlen(path) + 1, 1);
  while (*path != '\0') {
    bool braces = path[0] == '$' && path[1] == '{';
    const char *name = path + 1 + braces, *value = NULL;
    size_t n_name = *path == '$' ? strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") : 0;
    if (n_name > 0 && (!braces || name[n_name] == '}')) {
      char *variable = cli_copy(name, n_name);
      value = getenv(variable);
      free(variable);
    }
    size_t n_value = value != NULL ? strlen(value) : 1;
    out = cli_grow(out, &capacity, n + n_value + strlen(path) + 1, 1);
    memcpy(out + n, value != NULL ? value : path, n_value);
    n += n_value;
    path = value != NULL ? name + n_name + braces : path + 1;
  }
  out[n] = '\0';
  return out;
}

/* folder/name; "~/" in front is the home. */
static char *hub_join(const char *given, const char *name) {
  const char *home = hub_variable("HOME");
  char *folder = hub_expand(given);
  bool tilde = home != NULL && folder[0] == '~' && (folder[1] == '/' || folder[1] == '\0');
  size_t n = (tilde ? strlen(home) : 0) + strlen(folder) + strlen(name) + 2;
  char *path = cli_allocate(n, 1);
  snprintf(path, n, "%s%s%s%s", tilde ? home : "", folder + tilde, *name ? "/" : "", name);
  free(folder);
  return path;
}

static char *hub_home(void) {
  if (hub_variable("HF_HOME") != NULL) return hub_join(hub_variable("HF_HOME"), "");
  if (hub_variable("XDG_CACHE_HOME") != NULL) return hub_join(hub_variable("XDG_CACHE_HOME"), "huggingface");
  return hub_variable("HOME") != NULL ? hub_join(hub_variable("HOME"), ".cache/huggingface") : NULL;
}

/* Without the white space around it; NULL where nothing is left. */
static char *hub_copy_token(const char *text) {
  text += strspn(text, " \t\r\n");
  size_t n = strcspn(text, " \t\r\n");
  return n > 0 ? cli_copy(text, n) : NULL;
}

static char *hub_read_token(const char *path) {
  char text[1024];
  FILE *file = fopen(path, "re");
  if (file == NULL) return NULL;
  text[fread(text, 1, sizeof text - 1, file)] = '\0';
  fclose(file);
  char *token = hub_copy_token(text);
  explicit_bzero(text, sizeof text);
  return token;
}

static bool hub_is_on(const char *name) {
  const char *value = hub_variable(name);
  return value != NULL && (strcmp(value, "1") == 0 || strcasecmp(value, "true") == 0 || strcasecmp(value, "yes") == 0 ||
                           strcasecmp(value, "on") == 0);
}

void cli_hub_read(struct cli_hub *hub) {
  const char *offline = hub_variable("HF_HUB_OFFLINE") != NULL ? "HF_HUB_OFFLINE" : "TRANSFORMERS_OFFLINE";
  *hub = (struct cli_hub){.offline = hub_is_on(offline)};
  char *home = hub_home();
  const char *cache = hub_variable("HF_HUB_CACHE"), *token = hub_variable("HF_TOKEN");
  if (cache == NULL) cache = hub_variable("HUGGINGFACE_HUB_CACHE");
  hub->cache = cache != NULL ? hub_join(cache, "") : home != NULL ? hub_join(home, "hub") : NULL;
  if (hub_variable("HF_ENDPOINT") != NULL)
    hub->endpoint = cli_copy(getenv("HF_ENDPOINT"), strlen(getenv("HF_ENDPOINT")));
  if (token == NULL) token = hub_variable("HUGGING_FACE_HUB_TOKEN");
  if (!hub_is_on("HF_HUB_DISABLE_IMPLICIT_TOKEN")) { /* there are no others here */
    char *path = hub_variable("HF_TOKEN_PATH") != NULL ? hub_join(hub_variable("HF_TOKEN_PATH"), "")
                 : home != NULL                        ? hub_join(home, "token")
                                                       : NULL;
    if (token != NULL) hub->token = hub_copy_token(token);
    if (hub->token == NULL && path != NULL) hub->token = hub_read_token(path);
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

/* CLIPC_E_IO: a name that can be pulled, and is not in the cache. */
static clipc_status hub_find(char *found, size_t n_bytes, const char *given) {
  struct cli_hub hub;
  clipc_status status = CLIPC_E_INVALID;
  cli_hub_read(&hub);
  if (hub.cache != NULL) status = clipc_pull_find(found, n_bytes, given, NULL, hub.cache, NULL);
  cli_hub_free(&hub);
  return status;
}

const char *cli_hub_model(const char *given) {
  static char found[4096];
  return access(given, F_OK) != 0 && hub_find(found, sizeof found, given) == CLIPC_OK ? found : given;
}

void cli_hub_complain(const char *given, const clipc_error *error) {
  char found[1024];
  if (error->status == CLIPC_E_IO && access(given, F_OK) != 0 && hub_find(found, sizeof found, given) == CLIPC_E_IO)
    cli_complain("%s: there is no such folder or file, nor a model of that name in the hub's cache; clipc pull gets "
                 "models by name",
                 given);
  else
    cli_complain("%s", error->message);
}
