/* What the tests of packed files share: packing a folder into the tests' folder, and embedding by what was packed. */
#ifndef CLIPC_TESTS_PACKS_H
#define CLIPC_TESTS_PACKS_H

#include "golden.h"

char *pack_path(const char *name); /* of the tests' folder; one of sixteen buffers, in turn */

/* Packs a folder; returns the file's path. */
char *pack_folder(const char *folder, const clipc_options *options, const char *name);

/* All cases of the towers that are open, pixels and ids: images first. To be freed. */
float *pack_embed_all(const char *path, const struct golden *golden, const clipc_options *options, size_t *n_floats);

/* The status, in the error too, with these words in its sentence. */
void pack_expect(clipc_status status, clipc_status expected, const clipc_error *error, const char *says);

#endif
