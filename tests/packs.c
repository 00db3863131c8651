/* See packs.h. */
#include "packs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *pack_path(const char *name) {
  static char paths[16][512];
  static int next;
  char *path = paths[next++ % 16];
  snprintf(path, sizeof paths[0], "%s/%s", test_folder, name);
  return path;
}

char *pack_folder(const char *folder, const clipc_options *options, const char *name) {
  clipc_error error = {CLIPC_OK, ""};
  clipc_model *model = golden_open_model(folder, options);
  char *path = pack_path(name);
  if (clipc_model_pack(model, path, &error) != CLIPC_OK) fail_msg("%s", error.message);
  clipc_model_close(model);
  return path;
}

float *pack_embed_all(const char *path, const struct golden *golden, const clipc_options *options, size_t *n_floats) {
  clipc_model *model = golden_open_model(path, options);
  clipc_session *session = golden_open_session(model, 4, 0);
  float *vectors = calloc(2 * GOLDEN_MOST_CASES * golden->dimension, sizeof *vectors);
  assert_non_null(vectors);
  *n_floats = 0;
  for (int tower = CLIPC_TOWER_IMAGE; tower <= CLIPC_TOWER_TEXT; tower++) {
    if (!(clipc_towers(model) & tower)) continue;
    struct golden_inputs *in = golden_gather(golden, tower, CLIPC_REFERENCE_AUTO);
    float *part = golden_embed(session, in, tower, golden->dimension);
    memcpy(vectors + *n_floats, part, in->n * golden->dimension * sizeof *part);
    *n_floats += in->n * golden->dimension;
    free(part);
    golden_inputs_free(in);
  }
  clipc_session_close(session);
  clipc_model_close(model);
  return vectors;
}

void pack_expect(clipc_status status, clipc_status expected, const clipc_error *error, const char *says) {
  if (status != expected || error->status != expected || !strstr(error->message, says))
    fail_msg("%s (%s) where %s was expected to say \"%s\"", clipc_status_name(status), error->message,
             clipc_status_name(expected), says);
}
