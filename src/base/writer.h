/* A file that appears under its name only when all of it is there. */
#ifndef CLIPC_WRITER_H
#define CLIPC_WRITER_H

#include "base/base.h"

struct clipc__writer {
  clipc_allocator allocator;
  const char *path; /* as given, for sentences; borrowed */
  char *target;     /* what path stands for, links followed */
  char *temporary;  /* the name beside it */
  bool named;       /* temporary is on the disk */
  int descriptor;
  int error;        /* errno of the first write that failed */
  uint64_t n_bytes; /* written so far */
};

/* Makes a file beside path, without a name where the system can do that: then not even an end by force leaves
 * anything behind. A regular file that is there is replaced in the end; anything else is refused. */
CLIPC_PRIVATE clipc_status clipc__writer_open(struct clipc__writer *writer, const char *path,
                                              const clipc_allocator *allocator, clipc_error *error);
/* A failure stays, and is told at the end. */
CLIPC_PRIVATE void clipc__writer_put(struct clipc__writer *writer, const void *data, size_t n_bytes);
CLIPC_PRIVATE void clipc__writer_fill(struct clipc__writer *writer, uint64_t n_bytes); /* noughts up to that length */
/* Brings all of it to the disk and gives it its name, if it is to be kept and nothing failed; else it is gone.
 * Returns what was given (with its sentence in *error already), or the failure to write. */
CLIPC_PRIVATE clipc_status clipc__writer_close(struct clipc__writer *writer, clipc_status status, clipc_error *error);

/* Brings the names in a folder to the disk; those of a file system that cannot do that count as there. */
CLIPC_PRIVATE bool clipc__sync_folder(const char *path);

#endif
