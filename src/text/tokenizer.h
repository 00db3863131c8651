/* The inside of the text room: what its files share and nobody else needs. */
#ifndef CLIPC_TOKENIZER_H
#define CLIPC_TOKENIZER_H

#include "text/text.h"

struct cJSON;

/* ---- characters (unicode.c) */

enum {
  CLIPC__CHAR_LETTER_HF = 1, /* as tokenizers sees them */
  CLIPC__CHAR_NUMBER_HF = 2,
  CLIPC__CHAR_LETTER = 4, /* as regex sees them: a newer Unicode */
  CLIPC__CHAR_NUMBER = 8,
  CLIPC__CHAR_WORD_HF = 16,
  CLIPC__CHAR_CASED = 32,
  CLIPC__CHAR_CASE_IGNORABLE = 64, /* and not cased */
  CLIPC__CHAR_MARK_HF = 128,       /* tokenizers' NFC moves it */
  CLIPC__CHAR_COMPOSED_HF = 256    /* tokenizers' NFC takes it apart and puts it together */
};
CLIPC_PRIVATE unsigned clipc__char_properties(uint32_t code_point);
CLIPC_PRIVATE bool clipc__char_is_space(uint32_t code_point); /* White_Space; str.split adds 1C..1F */
/* One to one; U+0130 is the caller's: it becomes "i" and U+0307. */
CLIPC_PRIVATE uint32_t clipc__char_lower(uint32_t code_point, bool hf);

/* NFC as tokenizers has it: of Unicode 9.0 (normalize.c). As clipc__nfc otherwise. */
CLIPC_PRIVATE bool clipc__nfc_hf(struct clipc__bytes *out, const uint8_t *text, size_t n_bytes);

/* ---- cleaning (clean.c): append to out; in is valid UTF-8; false when memory ran out */

CLIPC_PRIVATE bool clipc__clean_hf(struct clipc__bytes *out, const uint8_t *text, size_t n_bytes);
CLIPC_PRIVATE bool clipc__clean_open_clip(struct clipc__bytes *out, const uint8_t *text, size_t n_bytes,
                                          enum clipc__cleaning cleaning);

/* ---- pieces (pretokenize.c) */

enum clipc__piece_kind { CLIPC__PIECE_WORD, CLIPC__PIECE_START, CLIPC__PIECE_END };

/* Walks over the pieces of cleaned text. Zero it but for text, n_bytes and hf. */
struct clipc__pieces {
  const uint8_t *text;
  size_t n_bytes;
  bool hf;
  size_t position, special_end;
  const uint8_t *piece; /* [out] */
  size_t n_piece;
  enum clipc__piece_kind kind;
};
CLIPC_PRIVATE bool clipc__pieces_next(struct clipc__pieces *pieces); /* false at the end */

/* ---- byte-pair encoding (bpe.c) */

struct clipc__bpe {
  int32_t initial[256], final[256]; /* ids of a byte inside a word and at its end ("</w>") */
  bool hf;                          /* the order of merges in doubtful vocabularies: see bpe.c */
  size_t mask;                      /* of the table of pairs, open addressing */
  uint64_t *pairs;                  /* left id << 32 | right id; UINT64_MAX is empty */
  uint32_t *ranks;                  /* of the pairs */
  int32_t *merged;                  /* [n_merges], by rank */
};
CLIPC_PRIVATE bool clipc__bpe_init(struct clipc__bpe *bpe, size_t n_merges, struct clipc__arena *arena);
CLIPC_PRIVATE void clipc__bpe_add(struct clipc__bpe *bpe, uint32_t rank, int32_t left, int32_t right, int32_t merged);

/* The workspace of words; its memory grows and is kept from word to word. */
struct clipc__bpe_work {
  clipc_allocator allocator;
  struct clipc__bpe_symbol *symbols;
  uint64_t *queue, *later;
  size_t capacity;
};
/* Appends the ids of a word (n_bytes >= 1) to ids, as int32. False when memory ran out. */
CLIPC_PRIVATE bool clipc__bpe_encode(const struct clipc__bpe *bpe, struct clipc__bpe_work *work,
                                     struct clipc__bytes *ids, const uint8_t *word, size_t n_bytes);
CLIPC_PRIVATE void clipc__bpe_work_free(struct clipc__bpe_work *work);

/* ---- large JSON (json_pieces.c) */

#define CLIPC__JSON_LEVELS 3

struct clipc__json_level {
  struct cJSON *container, *last; /* last: of its members */
  char close;                     /* its closing bracket */
};

/* Zero it but for text, n_text and piece.allocator. */
struct clipc__json_pieces {
  const char *text; /* without NUL */
  size_t n_text;
  size_t at, begin; /* the next byte; the first one that is not parsed */
  struct clipc__json_level levels[CLIPC__JSON_LEVELS];
  int depth;
  size_t nested; /* brackets within a member */
  bool in_string;
  bool closed; /* a container has just ended */
  bool no_memory;
  struct clipc__bytes piece;
  struct cJSON *root; /* [out] as cJSON_ParseWithLengthOpts */
  const char *stop;   /* [out] what it was stopped by */
};
/* Parses about n_bytes more of text; true when it is over, also when no_memory is set. */
CLIPC_PRIVATE bool clipc__json_pieces_step(struct clipc__json_pieces *pieces, size_t n_bytes);
CLIPC_PRIVATE void clipc__json_pieces_free(struct clipc__json_pieces *pieces);

/* ---- the files of a folder (vocabulary.c) */

#define CLIPC__MAX_TOKENS ((size_t)1 << 22)

/* A list of merges as text: its lines, one at a time. */
struct clipc__merge_lines {
  const char *text;
  size_t n_bytes, position, line, n_given, max_lines;
  bool skip_first;
};

enum clipc__vocabulary_stage {
  CLIPC__VOCABULARY_FIND,
  CLIPC__VOCABULARY_PARSE,
  CLIPC__VOCABULARY_LOOK,
  CLIPC__VOCABULARY_NAMES,
  CLIPC__VOCABULARY_LIST,
  CLIPC__VOCABULARY_LAYOUT,
  CLIPC__VOCABULARY_MERGES,
  CLIPC__VOCABULARY_DONE
};

/* Names and ids while a folder is being opened; lives in arena, keys may lie in json. */
struct clipc__vocabulary {
  const struct clipc__store *store; /* of the files; set before it is opened */
  struct clipc__arena arena;
  struct cJSON *json; /* tokenizer.json or vocab.json; NULL where ids follow from the merges */
  bool whole;         /* json is a tokenizer.json */
  bool openai;        /* the merges are OpenAI's list */
  char *path;         /* of the file the names are from, for sentences */
  char *merges_path;  /* of the file the merges are from */
  struct clipc__token *tokens;
  uint32_t *slots; /* index of a token + 1; 0 is empty */
  size_t n_tokens, mask;
  /* how far it is */
  enum clipc__vocabulary_stage stage;
  struct clipc__file file; /* that is being read */
  struct clipc__json_pieces pieces;
  const struct cJSON *item;        /* the next name or merge */
  struct clipc__merge_lines lines; /* or the next one here */
  uint8_t *taken;                  /* [ids] */
  char *room;                      /* for names that are made of merges */
  size_t n_merges, rank;
  struct clipc__bytes joined;
};

/* Reads the names, the ids and the merges, a part in each step until stage is DONE; bpe's tables go to the other arena.
 * n_bytes as in clipc__tokenizer_step. */
CLIPC_PRIVATE clipc_status clipc__vocabulary_step(struct clipc__vocabulary *vocabulary, struct clipc__bpe *bpe,
                                                  struct clipc__arena *arena,
                                                  const struct clipc__tokenizer_options *options, size_t n_bytes,
                                                  clipc_error *error);
CLIPC_PRIVATE void clipc__vocabulary_close(struct clipc__vocabulary *vocabulary);
/* Frees some thousand names or merges; false when there are no more, and closing is quick. */
CLIPC_PRIVATE bool clipc__vocabulary_close_some(struct clipc__vocabulary *vocabulary, size_t n_bytes);
CLIPC_PRIVATE int32_t clipc__vocabulary_find(const struct clipc__vocabulary *vocabulary, const char *name,
                                             size_t n_bytes); /* -1: not there */
/* folder/name, kept in the vocabulary's arena; NULL when there is no memory. */
CLIPC_PRIVATE char *clipc__vocabulary_path(struct clipc__vocabulary *vocabulary, const char *name);
/* A JSON file in which no string hides a NUL; cJSON_Delete it. *out is NULL when optional and not there. */
CLIPC_PRIVATE clipc_status clipc__tokenizer_json(struct cJSON **out, const struct clipc__store *store, const char *path,
                                                 uint64_t max_bytes, bool optional, const clipc_allocator *allocator,
                                                 clipc_error *error);
/* The value of a key of an object, the last one where it is there twice (as Python reads it); NULL: none. */
CLIPC_PRIVATE const struct cJSON *clipc__json_field(const struct cJSON *object, const char *name);
/* Refuses a tokenizer.json whose steps are not CLIP's, by the name of the field (tokenizer_json.c). */
CLIPC_PRIVATE clipc_status clipc__tokenizer_json_check(const struct cJSON *json, const char *path, bool hf,
                                                       clipc_error *error);

/* ---- added tokens (added.c, specials.c) */

struct clipc__added_token {
  const uint8_t *content;
  size_t n_bytes;
  int32_t id;
  bool single_word, lstrip, rstrip;
};
/* Tokens that are cut out of a text: sorted by their first byte, then longest first; first[b] .. first[b + 1]. */
struct clipc__added {
  struct clipc__added_token *tokens;
  size_t n_tokens;
  uint32_t first[257];
};
CLIPC_PRIVATE void clipc__added_sort(struct clipc__added *added);

/* Walks over a text: each step gives a stretch of text (id -1) or a token. Zero it but for the first three. */
struct clipc__added_walk {
  const struct clipc__added *added;
  const uint8_t *text;
  size_t n_bytes;
  size_t position, start;
  bool waiting; /* a token whose stretch of text was given first */
  int32_t waiting_id;
  size_t waiting_end;
  const uint8_t *stretch; /* [out] */
  size_t n_stretch;
  int32_t id;
};
CLIPC_PRIVATE bool clipc__added_next(struct clipc__added_walk *walk); /* false at the end */

/* What transformers makes of a folder: its framing tokens and its added tokens, those matched in the raw text and
 * those matched in the cleaned text. */
struct clipc__specials {
  struct clipc__added raw, cleaned;
  int32_t start, end, unknown; /* unknown may be -1 */
};
CLIPC_PRIVATE clipc_status clipc__specials_open(struct clipc__specials *specials, struct clipc__arena *arena,
                                                struct clipc__vocabulary *vocabulary,
                                                const struct clipc__tokenizer_options *options, clipc_error *error);

#endif
