/* Pictures that come as base64 text. */
#ifndef CLIPC_BASE64_H
#define CLIPC_BASE64_H

#include "base/base.h"

/* Decodes base64 of RFC 4648 and appends the bytes to out.
 *   text       [n] either alphabet, or both mixed; white space anywhere; padding may be left out, but must be right
 * where it is. "data:[mediatype][;parameters];base64," may stand in front, and then %XX stands for a character
 *   max_bytes  of what is decoded
 * Returns CLIPC_OK; _FORMAT (another character, a group of one, padding that does not fit, bits left over);
 * _UNSUPPORTED (a data: URI that is not base64); _LIMIT; _NO_MEMORY. On failure out is as it was. */
CLIPC_PRIVATE clipc_status clipc__base64_decode(struct clipc__bytes *out, const char *text, size_t n,
                                                uint64_t max_bytes, clipc_error *error);

#endif
