/* What html.c, ftfy.c and ftfy_encoding.c share among themselves. */
#ifndef CLIPC_FTFY_H
#define CLIPC_FTFY_H

#include "text/text.h"

/* Reads the rest of an entity behind its '&' as ftfy does: up to 24 letters and digits, a '#' before them perhaps,
 * and a ';'. Returns the bytes taken, 0 when it is none; the character goes to value (0 bytes: it is dropped). */
CLIPC_PRIVATE size_t clipc__html_entity(uint8_t value[8], size_t *n_value, const uint8_t *text, size_t n_bytes);

/* What windows-1252 has for U+0080..U+009F; the five it leaves open stay. */
CLIPC_PRIVATE uint32_t clipc__windows_1252(uint32_t code_point);

/* The workspace of mojibake repair. Zero it but for allocator. */
struct clipc__ftfy_frame;
struct clipc__ftfy_stack {
  clipc_allocator allocator;
  struct clipc__ftfy_frame *frames;
  size_t n_frames;
  struct clipc__bytes encoded, restored; /* bytes of a single-byte encoding, as read and as repaired */
};

/* ftfy.fix_encoding of text, which is replaced; *changed is set when it was touched, else left. */
CLIPC_PRIVATE bool clipc__ftfy_fix_encoding(struct clipc__ftfy_stack *stack, struct clipc__bytes *text, bool *changed);
CLIPC_PRIVATE void clipc__ftfy_stack_free(struct clipc__ftfy_stack *stack);

#endif
