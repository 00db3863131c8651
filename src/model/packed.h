/* A packed file: everything of a model in one file, its weights as the kernels want them. All numbers little-endian.
 *
 *   header, sections [n_sections], checksums [n_checksums]   the tables
 *   the sections' bytes, each from a multiple of PACKED_ALIGNMENT on
 *   noughts between them and up to a multiple of PACKED_ALIGNMENT at the end
 *
 * The checksum in the header covers the tables behind itself. Each section has one checksum for each chunk of it, in
 * the order of the sections. A tower's section is its piece of memory as layout.c lays it out, for the shapes of gemm;
 * the token embedding is f32 [vocab_size, width]; files lie as they lay in the folder. */
#ifndef CLIPC_PACKED_H
#define CLIPC_PACKED_H

#include "model/model.h"

#include "base/checksum.h"

#include <pthread.h>

#define PACKED_MAGIC                                                                                                   \
  "\x89"                                                                                                               \
  "CLP\r\n\x1a\n" /* shows what a transfer as text does */
#define PACKED_VERSION 3u
#define PACKED_BYTE_ORDER 0x01020304u
#define PACKED_ALIGNMENT 4096u
#define PACKED_CHUNK (1u << 20)      /* bytes under one checksum */
#define PACKED_ROWS_CHUNK (1u << 16) /* of the token embedding, which is looked at row by row */
#define PACKED_MAX_SECTIONS 64u

/* How a precision's weights lie: what of a gemm tells that. */
struct packed_gemm {
  char name[16]; /* of the kernels that it was packed for, NUL-terminated */
  uint32_t weights, panel_cols, group, pair_limit;
};

struct packed_header {
  char magic[8];
  uint32_t version, byte_order;
  struct clipc__checksum checksum; /* of the tables from here on */
  uint64_t n_bytes;                /* of the file */
  uint32_t n_sections, n_checksums;
  uint32_t precision; /* clipc_precision */
  uint32_t towers;    /* CLIPC_TOWER_IMAGE | CLIPC_TOWER_TEXT */
  float logit_scale, logit_bias;
  struct packed_gemm gemm[2]; /* of the blocks, and of the patches unless they are too long for it; of the projection */
  struct clipc__levels levels; /* folded into the patch embedding; noughts without an image tower */
  struct clipc__space space;   /* of the folder, whatever of it was packed */
};

enum packed_kind {
  PACKED_FILE,  /* of the folder */
  PACKED_MARK,  /* the name of a file that the folder had, which is not in here; no bytes */
  PACKED_IMAGE, /* the image tower */
  PACKED_TEXT,  /* the text tower */
  PACKED_TOKENS /* the token embedding */
};

struct packed_section {
  char name[40]; /* NUL-terminated */
  uint32_t kind;
  uint32_t chunk_bytes; /* a power of two */
  uint64_t offset, n_bytes;
};

_Static_assert(sizeof(struct packed_header) == 256 && sizeof(struct packed_section) == 64, "read as they lie");

static inline uint64_t packed_n_chunks(const struct packed_section *section) {
  return section->n_bytes / section->chunk_bytes + (section->n_bytes % section->chunk_bytes != 0);
}

static inline uint64_t packed_align(uint64_t n) {
  return (n + PACKED_ALIGNMENT - 1) / PACKED_ALIGNMENT * PACKED_ALIGNMENT;
}

/* ---- an open packed file: packed.c opens it, packed_use.c does what comes before the first use of its parts */

enum packed_state { PACKED_UNSEEN, PACKED_SOUND, PACKED_DAMAGED };
enum packed_stage { PACKED_AT_TABLES, PACKED_AT_CHECKSUMS, PACKED_AT_CONFIG, PACKED_AT_TOWERS };

struct packed_tower {
  const struct packed_section *section; /* NULL: not in the file */
  enum packed_state checked;            /* under mutex, as what follows but ready */
  size_t next_chunk;                    /* to be compared */
  bool repack, repacking;
  struct clipc__arena arena; /* while it is repacked: the jobs, and the blocks of what is stored */
  struct clipc__packing packing;
  struct clipc__vision stored_vision; /* the tower as it lies in the file */
  struct clipc__text stored_text;
  int ready; /* atomic */
};

struct clipc__packed {
  clipc_allocator allocator;
  struct clipc__file file;
  char *path;
  struct packed_header header;
  struct packed_section sections[PACKED_MAX_SECTIONS];
  const struct clipc__checksum *checksums;      /* in the file */
  uint64_t first_checksum[PACKED_MAX_SECTIONS]; /* of a section */
  struct clipc__member members[PACKED_MAX_SECTIONS];
  struct clipc__store store;
  struct clipc__gemm gemm[2]; /* the shapes of header.gemm */
  clipc_section listed[PACKED_MAX_SECTIONS];
  clipc_packing packing;
  enum packed_stage stage;    /* of opening it */
  size_t section, next_chunk; /* then: to be compared next */
  pthread_mutex_t mutex;      /* over what follows */
  struct packed_tower towers[2];
  struct clipc__tokenizer *tokenizer;
  struct clipc__tokenizer_opening *tokenizer_opening; /* while it is being opened */
  clipc_error tokenizer_error;                        /* why there is none */
  uint8_t *rows; /* [chunks of the token embedding] enum packed_state, atomic; NULL: they need not be compared */
  const struct packed_section *rows_section;
};

/* A tower as it lies in the file: the shapes of the model's, with the file's gemms, laid out at layout->base. */
CLIPC_PRIVATE clipc_status clipc__packed_vision(struct clipc__vision *vision, struct clipc__layout *layout,
                                                const struct clipc_model *model, struct clipc__arena *arena,
                                                clipc_error *error);
CLIPC_PRIVATE clipc_status clipc__packed_text(struct clipc__text *text, struct clipc__layout *layout,
                                              const struct clipc_model *model, struct clipc__arena *arena,
                                              clipc_error *error);
/* Compares chunks from *next on, of about n_bytes; false when one is damaged. *next is the number of chunks at the end.
 */
CLIPC_PRIVATE bool clipc__packed_check_some(const struct clipc__packed *packed, const struct packed_section *section,
                                            size_t *next, int n_threads, size_t n_bytes);
CLIPC_PRIVATE clipc_status clipc__packed_damaged(const struct clipc__packed *packed,
                                                 const struct packed_section *section, clipc_error *error);

#endif
