/* What users call models, to repositories of the hub: "org/name" as it is or behind "hf-hub:" and the like, and the
 * short names of OpenAI's and open_clip's programs by the table pull_names.inc, in the spellings of programs around
 * them. */
#include "async/pull.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

static const struct pull_row {
  const char *architecture, *tag, *repository;
} pull_rows[] = {
#define PULL_NAME(architecture, tag, repository) {architecture, tag, repository},
#include "async/pull_names.inc"
#undef PULL_NAME
};
enum { PULL_ROWS = sizeof pull_rows / sizeof *pull_rows };

/* Repositories whose weights others have in safetensors too. */
static const char *const pull_equals[][2] = {
    {"openai/clip-vit-base-patch32", "timm/vit_base_patch32_clip_224.openai"},
    {"openai/clip-vit-base-patch16", "timm/vit_base_patch16_clip_224.openai"},
    {"openai/clip-vit-large-patch14", "timm/vit_large_patch14_clip_224.openai"},
    {"openai/clip-vit-large-patch14-336", "timm/vit_large_patch14_clip_336.openai"},
};
enum { PULL_EQUALS = sizeof pull_equals / sizeof *pull_equals };

/* One spelling of an architecture: ViT-L/14@336px is ViT-L-14-336. */
static void pull_architecture(char *out, size_t n_out, const char *name, size_t n) {
  if (n > 2 && strncmp(name + n - 2, "px", 2) == 0) n -= 2;
  if (n >= n_out) n = n_out - 1;
  for (size_t i = 0; i < n; i++) out[i] = name[i] == '/' || name[i] == '@' ? '-' : name[i];
  out[n] = '\0';
}

/* Whatever their case, and "-" is "_" in tags. */
static bool pull_is_tag(const char *text, const char *tag) {
  for (; *text && *tag; text++, tag++)
    if (strncasecmp(text, tag, 1) != 0 && !(*text == '-' && *tag == '_')) return false;
  return *text == *tag;
}

/* tag: NULL = the first. */
static const struct pull_row *pull_find_pair(const char *name, size_t n, const char *tag) {
  char architecture[64];
  pull_architecture(architecture, sizeof architecture, name, n);
  for (size_t i = 0; i < PULL_ROWS; i++)
    if (strcasecmp(architecture, pull_rows[i].architecture) == 0 && (tag == NULL || pull_is_tag(tag, pull_rows[i].tag)))
      return &pull_rows[i];
  return NULL;
}

static const struct pull_row *pull_find_row(const char *name) {
  static const char *const between[] = {"::", "__", "/"};
  const struct pull_row *row = pull_find_pair(name, strlen(name), NULL);
  for (size_t i = 0; i < sizeof between / sizeof *between && row == NULL; i++)
    for (const char *at = strstr(name, between[i]); at && row == NULL; at = strstr(at + 1, between[i]))
      row = pull_find_pair(name, (size_t)(at - name), at + strlen(between[i]));
  return row;
}

static bool pull_is_repository(const char *name) {
  const char *slash = strchr(name, '/');
  if (slash == NULL || slash == name || slash[1] == '\0' || strchr(slash + 1, '/') || strlen(name) > 192) return false;
  for (const char *at = name; *at; at++) {
    bool word = (*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z') || (*at >= '0' && *at <= '9') || *at == '_';
    bool first = at == name || at == slash + 1;
    if (at != slash && !word && (first || (*at != '-' && *at != '.'))) return false;
  }
  return strstr(name, "..") == NULL && strstr(name, "--") == NULL;
}

clipc_status clipc__pull_resolve(struct clipc__pull_name *out, const char *name, clipc_error *error) {
  static const char *const heads[] = {"hf-hub:", "hf://", "https://huggingface.co/"};
  const struct pull_row *row = pull_find_row(name);
  const char *repository = row ? row->repository : name;
  bool hf_hub = strncmp(name, heads[0], strlen(heads[0])) == 0;
  for (size_t i = 0; i < sizeof heads / sizeof *heads; i++)
    if (strncmp(name, heads[i], strlen(heads[i])) == 0) repository = name + strlen(heads[i]);
  if (!pull_is_repository(repository)) {
    char nearest[160];
    clipc__pull_nearest(nearest, sizeof nearest, name);
    if (*nearest == '\0') strcpy(nearest, "; known are org/name and short ones such as ViT-B-32::openai");
    return clipc__fail(error, CLIPC_E_INVALID, "%.60s: no model is known by this name%s", name, nearest);
  }
  out->open_clip = hf_hub || row;
  snprintf(out->repository, sizeof out->repository, "%s", repository);
  return CLIPC_OK;
}

const char *clipc__pull_equal(const char *repository) {
  for (size_t i = 0; i < PULL_EQUALS; i++)
    if (strcasecmp(pull_equals[i][0], repository) == 0) return pull_equals[i][1];
  return NULL;
}

/* ---- nearest names */

/* Insertions, deletions and exchanges of letters, whatever their case. */
static unsigned pull_distance(const char *a, const char *b) {
  uint8_t row[97];
  size_t n_a = strlen(a), n_b = strlen(b);
  if (n_a > 96 || n_b > 96) return 97;
  for (size_t j = 0; j <= n_b; j++) row[j] = (uint8_t)j;
  for (size_t i = 1; i <= n_a; i++) {
    uint8_t diagonal = row[0];
    row[0] = (uint8_t)i;
    for (size_t j = 1; j <= n_b; j++) {
      uint8_t least = (uint8_t)(diagonal + (strncasecmp(a + i - 1, b + j - 1, 1) != 0));
      diagonal = row[j];
      if (row[j] + 1 < least) least = (uint8_t)(row[j] + 1);
      if (row[j - 1] + 1 < least) least = (uint8_t)(row[j - 1] + 1);
      row[j] = least;
    }
  }
  return row[n_b];
}

struct pull_candidate {
  unsigned distance;
  char name[97];
};

static void pull_consider(struct pull_candidate best[3], const char *name, const char *candidate) {
  unsigned distance = pull_distance(name, candidate);
  size_t at = 3;
  while (at > 0 && distance < best[at - 1].distance) at--;
  for (size_t i = 0; i < 3; i++)
    if (strcmp(best[i].name, candidate) == 0) return;
  if (at == 3) return;
  memmove(best + at + 1, best + at, (2 - at) * sizeof *best);
  best[at].distance = distance;
  snprintf(best[at].name, sizeof best[at].name, "%s", candidate);
}

void clipc__pull_nearest(char *out, size_t n_bytes, const char *name) {
  struct pull_candidate best[3] = {{97, ""}, {97, ""}, {97, ""}};
  char plain[97], text[97];
  pull_architecture(plain, sizeof plain, name, strlen(name));
  for (size_t i = 0; i < PULL_ROWS; i++) {
    if (i == 0 || strcmp(pull_rows[i].architecture, pull_rows[i - 1].architecture) != 0)
      pull_consider(best, plain, pull_rows[i].architecture);
    snprintf(text, sizeof text, "%s::%s", pull_rows[i].architecture, pull_rows[i].tag);
    pull_consider(best, name, text);
    pull_consider(best, name, pull_rows[i].repository);
  }
  for (size_t i = 0; i < PULL_EQUALS; i++) pull_consider(best, name, pull_equals[i][0]);
  size_t n = 0, at = 0; /* what differs in half of its letters is not near */
  while (n < 3 && best[n].distance <= strlen(name) / 2) n++;
  for (size_t i = 0; i < n && at < n_bytes; i++)
    at += (size_t)snprintf(out + at, n_bytes - at, "%s%.48s", i == 0 ? "; near it: " : ", ", best[i].name);
  if (n == 0) out[0] = '\0';
}
