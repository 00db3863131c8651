/* A large JSON file, parsed a piece at a time, so that a vocabulary of megabytes does not hold anybody up.
 * In: text without NUL, in UTF-8. Out: the tree that cJSON makes of the whole.
 * Containers down to PIECES_DEPTH are opened here, member by member; their members go to cJSON some thousand bytes at
 * a time, wrapped in brackets of their own, and are linked together. Only what a valid file can look like is taken
 * apart: at the first doubt the file is parsed as a whole, and that is what counts. */
#include "text/tokenizer.h"

#include <cjson/cJSON.h>

#include <string.h>

#define PIECE_BYTES 16384u

/* Takes the members of a piece over, behind those of the container. */
static void pieces_link(struct clipc__json_pieces *p, cJSON *from) {
  struct clipc__json_level *level = &p->levels[p->depth - 1];
  cJSON *first = from->child;
  if (level->last != NULL) {
    level->last->next = first;
    first->prev = level->last;
  } else {
    level->container->child = first;
  }
  level->last = first;
  while (level->last->next != NULL) level->last = level->last->next;
  level->container->child->prev = level->last; /* as cJSON keeps it */
  from->child = NULL;
}

/* Parses the members from p->begin up to end, and value behind them; at least one. */
static bool pieces_parse(struct clipc__json_pieces *p, size_t end, const char *value) {
  bool object = p->levels[p->depth - 1].close == '}';
  const char *stop;
  p->piece.n_bytes = 0;
  if (!clipc__bytes_append(&p->piece, object ? "{" : "[", 1) ||
      !clipc__bytes_append(&p->piece, p->text + p->begin, end - p->begin) ||
      !clipc__bytes_append(&p->piece, value, strlen(value)) || !clipc__bytes_append(&p->piece, object ? "}" : "]", 2)) {
    p->no_memory = true;
    return false;
  }
  const char *text = (const char *)p->piece.data;
  size_t n_bytes = p->piece.n_bytes - 1;
  cJSON *parsed = cJSON_ParseWithLengthOpts(text, n_bytes, &stop, false);
  bool fits = parsed != NULL && parsed->child != NULL && stop == text + n_bytes;
  if (fits) pieces_link(p, parsed);
  cJSON_Delete(parsed);
  return fits;
}

/* At an opening bracket: the members before it, then a container that stands for it. */
static bool pieces_open(struct clipc__json_pieces *p, char bracket) {
  cJSON *container;
  if (p->depth == 0) {
    if (p->root != NULL || bracket != '{') return false;
    container = p->root = cJSON_CreateObject();
  } else {
    if (p->closed || !pieces_parse(p, p->at, "null")) return false;
    container = p->levels[p->depth - 1].last;
    container->type = bracket == '{' ? cJSON_Object : cJSON_Array;
  }
  p->levels[p->depth++] = (struct clipc__json_level){container, NULL, bracket == '{' ? '}' : ']'};
  p->begin = p->at + 1;
  return container != NULL;
}

static bool pieces_is_space(const char *text, size_t n_bytes) {
  for (size_t i = 0; i < n_bytes; i++)
    if (strchr(" \t\r\n", text[i]) == NULL) return false;
  return true;
}

/* At a comma, or at the container's closing bracket. */
static bool pieces_end_member(struct clipc__json_pieces *p, bool close) {
  bool space = pieces_is_space(p->text + p->begin, p->at - p->begin);
  bool empty = p->levels[p->depth - 1].last == NULL;
  if (p->closed || space) { /* a member must come before a comma, and a comma before a member */
    if (!space || (!p->closed && !(close && empty))) return false;
  } else {
    if (!close && p->at - p->begin < PIECE_BYTES) return true; /* more in one piece */
    if (!pieces_parse(p, p->at, "")) return false;
  }
  p->begin = p->at + 1;
  p->closed = close;
  if (close) p->depth--;
  return true;
}

/* One byte outside of strings; false: this is nothing to take apart. */
static bool pieces_byte(struct clipc__json_pieces *p, char c) {
  bool inside = p->nested > 0;
  switch (c) {
  case '"': p->in_string = true; return p->depth > 0;
  case '{':
  case '[':
    if (!inside && p->depth < CLIPC__JSON_LEVELS) return pieces_open(p, c);
    p->nested++;
    return true;
  case '}':
  case ']':
    if (inside) {
      p->nested--;
      return true;
    }
    return p->depth > 0 && p->levels[p->depth - 1].close == c && pieces_end_member(p, true);
  case ',': return inside || (p->depth > 0 && pieces_end_member(p, false));
  default: return p->depth > 0 || strchr(" \t\r\n", c) != NULL;
  }
}

bool clipc__json_pieces_step(struct clipc__json_pieces *p, size_t n_bytes) {
  size_t end = p->n_text - p->at < n_bytes ? p->n_text : p->at + n_bytes;
  bool fits = true;
  for (; fits && p->at < end; p->at++) {
    char c = p->text[p->at];
    if (!p->in_string) {
      fits = pieces_byte(p, c);
    } else if (c == '\\') {
      p->at++; /* what it hides, within the text or not */
    } else if (c == '"') {
      p->in_string = false;
    }
  }
  if (fits && p->at < p->n_text) return false;
  if (p->no_memory) return true;
  if (!fits || p->depth > 0 || p->root == NULL) {
    cJSON_Delete(p->root);
    p->root = cJSON_ParseWithLengthOpts(p->text, p->n_text, &p->stop, false);
  } else {
    p->stop = p->text + p->n_text;
  }
  return true;
}

void clipc__json_pieces_free(struct clipc__json_pieces *p) {
  cJSON_Delete(p->root);
  p->root = NULL;
  clipc__bytes_free(&p->piece);
}

#undef PIECE_BYTES
