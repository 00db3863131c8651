/* PNM: P1 to P6 with any maxval. In: an untrusted file. Out: mode 1, L, RGB, or I (grey above 255), as
 * Pillow 13 opens it: values are stretched to 255, or 65535 in mode I, rounding halves to even; numbers are
 * what Python's int() reads; a comment vanishes with the end of its line, even inside a number. */
#include "image/decode.h"

#include <string.h>

#define PNM_TOKEN_MOST 10

struct pnm_file {
  const struct clipc__source *source;
  size_t at;
  int kind;                    /* 1..6 */
  uint32_t width, height, top; /* top: maxval */
};

struct pnm_token {
  char text[PNM_TOKEN_MOST + 1];
  size_t n;
};

static clipc_status pnm_fail(const struct pnm_file *pnm, const char *sentence) {
  return clipc__source_fail(pnm->source, CLIPC_E_FORMAT, "%s", sentence);
}

static bool pnm_is_space(uint8_t c) { return c == ' ' || (c >= 9 && c <= 13); }

/* The next token from *at on, without comments; at most PNM_TOKEN_MOST characters of it, and one more to
 * show that it is too long. Stops behind the blank that ends it. */
static void pnm_take_token(struct pnm_file *pnm, struct pnm_token *token) {
  const uint8_t *bytes = pnm->source->bytes;
  size_t n = pnm->source->n_bytes;
  token->n = 0;
  while (pnm->at < n && token->n <= PNM_TOKEN_MOST) {
    uint8_t c = bytes[pnm->at++];
    if (c == '#') {
      while (pnm->at < n && bytes[pnm->at] != '\n' && bytes[pnm->at] != '\r') pnm->at++;
      if (pnm->at < n) pnm->at++;
    } else if (!pnm_is_space(c)) {
      token->text[token->n++] = (char)c;
    } else if (token->n > 0) {
      return;
    }
  }
}

/* Python's int(): a sign, digits, single underscores between digits. */
static bool pnm_number(const struct pnm_token *token, int64_t *value) {
  const char *p = token->text, *end = p + token->n;
  bool negative = p < end && *p == '-', digit = false;
  if (p < end && (*p == '-' || *p == '+')) p++;
  if (token->n > PNM_TOKEN_MOST) return false;
  for (*value = 0; p < end; p++) {
    bool underscore = *p == '_' && digit;
    digit = *p >= '0' && *p <= '9';
    if (digit)
      *value = *value * 10 + (*p - '0');
    else if (!underscore)
      return false;
  }
  if (negative) *value = -*value;
  return digit;
}

static clipc_status pnm_read_header(struct pnm_file *pnm) {
  const struct clipc__source *source = pnm->source;
  int64_t values[3] = {0, 0, 1};
  int n_values = pnm->kind == 1 || pnm->kind == 4 ? 2 : 3;
  pnm->at = 3;
  if (source->n_bytes < 3 || !pnm_is_space(source->bytes[2])) return pnm_fail(pnm, "is no picture in a known format");
  for (int i = 0; i < n_values; i++) {
    struct pnm_token token;
    pnm_take_token(pnm, &token);
    if (!pnm_number(&token, &values[i]) || values[i] < 0) return pnm_fail(pnm, "PNM header is damaged");
  }
  if (values[2] < 1 || values[2] > 65535) return pnm_fail(pnm, "PNM maxval is not within 1 and 65535");
  clipc_status status = clipc__source_size(source, (uint64_t)values[0], (uint64_t)values[1]);
  pnm->width = (uint32_t)values[0];
  pnm->height = (uint32_t)values[1];
  pnm->top = (uint32_t)values[2];
  return status;
}

/* round(value / top * most) as Python computes it, at most most. */
static uint32_t pnm_scale(uint32_t value, uint32_t top, uint32_t most) {
  double scaled = (double)value / top * most;
  uint32_t below = (uint32_t)scaled;
  double rest = scaled - below;
  if (rest > 0.5 || (rest == 0.5 && below % 2 == 1)) below++;
  return below < most ? below : most;
}

static void pnm_put(const struct pnm_file *pnm, struct clipc__picture *out, size_t i, uint32_t value) {
  if (out->mode == CLIPC__MODE_I) {
    int32_t wide = (int32_t)pnm_scale(value, pnm->top, 65535);
    memcpy(out->data + 4 * i, &wide, sizeof wide);
  } else {
    out->data[i] = (uint8_t)pnm_scale(value, pnm->top, 255);
  }
}

static clipc_status pnm_read_text_bits(struct pnm_file *pnm, struct clipc__picture *out, size_t n) {
  const uint8_t *bytes = pnm->source->bytes;
  size_t done = 0;
  for (bool comment = false; pnm->at < pnm->source->n_bytes; pnm->at++) {
    uint8_t c = bytes[pnm->at];
    if (comment)
      comment = c != '\n' && c != '\r';
    else if (c == '#')
      comment = true;
    else if (pnm_is_space(c))
      continue;
    else if (c != '0' && c != '1')
      return pnm_fail(pnm, "PNM has a bit that is neither 0 nor 1");
    else if (done < n)
      out->data[done++] = c == '0' ? 255 : 0;
  }
  return done == n ? CLIPC_OK : pnm_fail(pnm, "PNM is truncated");
}

static clipc_status pnm_read_text(struct pnm_file *pnm, struct clipc__picture *out, size_t n) {
  for (size_t i = 0; i < n; i++) {
    struct pnm_token token;
    int64_t value;
    pnm_take_token(pnm, &token);
    if (token.n == 0) return pnm_fail(pnm, "PNM is truncated");
    if (!pnm_number(&token, &value)) return pnm_fail(pnm, "PNM has a sample that is no number");
    if (value < 0 || value > pnm->top) return pnm_fail(pnm, "PNM has a sample beyond its maxval");
    pnm_put(pnm, out, i, (uint32_t)value);
  }
  return CLIPC_OK;
}

static clipc_status pnm_read_binary(struct pnm_file *pnm, struct clipc__picture *out, size_t n) {
  const uint8_t *in = pnm->source->bytes + pnm->at;
  size_t left = pnm->source->n_bytes - pnm->at, row = ((size_t)pnm->width + 7) / 8, wide = pnm->top > 255 ? 2 : 1;
  if (pnm->kind == 4 ? left / row < pnm->height : left / wide < n) return pnm_fail(pnm, "PNM is truncated");
  if (pnm->kind == 4) {
    for (size_t y = 0; y < pnm->height; y++)
      for (size_t x = 0; x < pnm->width; x++)
        out->data[y * out->stride_bytes + x] = in[y * row + x / 8] >> (7 - x % 8) & 1 ? 0 : 255;
  } else if (pnm->top == 255) {
    memcpy(out->data, in, n);
  } else {
    for (size_t i = 0; i < n; i++) pnm_put(pnm, out, i, wide == 2 ? clipc__be16(in + 2 * i) : in[i]);
  }
  return CLIPC_OK;
}

clipc_status clipc__pnm_decode(struct clipc__picture *out, const struct clipc__source *source) {
  struct pnm_file pnm = {.source = source, .kind = source->bytes[1] - '0'};
  clipc_status status = pnm_read_header(&pnm);
  if (status != CLIPC_OK) return status;
  enum clipc__mode mode = pnm.kind % 3 == 0   ? CLIPC__MODE_RGB
                          : pnm.kind % 3 == 1 ? CLIPC__MODE_1
                          : pnm.top > 255     ? CLIPC__MODE_I
                                              : CLIPC__MODE_L;
  status = clipc__source_picture(source, out, mode, pnm.width, pnm.height);
  if (status != CLIPC_OK) return status;
  size_t n = (size_t)out->height * (size_t)out->width * (mode == CLIPC__MODE_RGB ? 3 : 1); /* samples */
  if (pnm.kind == 1) return pnm_read_text_bits(&pnm, out, n);
  return pnm.kind < 4 ? pnm_read_text(&pnm, out, n) : pnm_read_binary(&pnm, out, n);
}
