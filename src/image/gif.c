/* GIF: the first frame. In: an untrusted file. Out: mode P, or L where the palette is the grey ramp or lacks.
 * Follows Pillow 13: the picture is the screen, enlarged where the frame goes beyond it, filled with the
 * transparent index (else 0) outside the frame; a picture whose data ends early is refused. */
#include "image/decode.h"

#include <string.h>

#define GIF_N_CODES 4096

struct gif_file {
  const struct clipc__source *source;
  size_t at;
  uint32_t width, height; /* of the picture */
  uint32_t x, y, frame_width, frame_height;
  const uint8_t *palette;
  size_t n_palette;
  bool interlaced;
  int transparent; /* index, or -1 */
};

struct gif_lzw {
  const uint8_t *bytes;
  size_t at, n_bytes, n_block; /* bytes left of a sub-block */
  uint32_t bits;
  int n_bits;
  uint16_t link[GIF_N_CODES];
  uint8_t data[GIF_N_CODES], string[GIF_N_CODES];
};

static clipc_status gif_fail(const struct gif_file *gif, const char *sentence) {
  return clipc__source_fail(gif->source, CLIPC_E_FORMAT, "%s", sentence);
}

/* Takes n bytes; NULL at the end of the file. */
static const uint8_t *gif_take(struct gif_file *gif, size_t n) {
  if (gif->source->n_bytes - gif->at < n) return NULL;
  gif->at += n;
  return gif->source->bytes + gif->at - n;
}

/* Takes a colour table; one that is the ramp 0, 1, 2... is none, as the indices are the colours (a local one
 * then leaves the global one in force, by an oddity of Pillow). */
static bool gif_take_palette(struct gif_file *gif, uint8_t flags) {
  size_t n = (size_t)2 << (flags & 7);
  const uint8_t *palette = gif_take(gif, 3 * n);
  if (palette == NULL) return false;
  for (size_t i = 0; i < 3 * n; i++) {
    if (palette[i] == i / 3) continue;
    gif->palette = palette;
    gif->n_palette = n;
    break;
  }
  return true;
}

/* Skips an extension, taking the transparent index of a graphic control. */
static bool gif_skip_extension(struct gif_file *gif) {
  const uint8_t *kind = gif_take(gif, 1), *size;
  bool first = true;
  while (kind != NULL && (size = gif_take(gif, 1)) != NULL) {
    if (*size == 0) return true;
    const uint8_t *block = gif_take(gif, *size);
    if (block == NULL) return false;
    if (*kind == 0xF9 && first && *size >= 4 && (block[0] & 1)) gif->transparent = block[3];
    first = false;
  }
  return false;
}

/* Reads up to the image descriptor, which is taken. */
static clipc_status gif_read_front(struct gif_file *gif) {
  const uint8_t *screen = gif_take(gif, 13), *p;
  if (screen == NULL || ((screen[10] & 0x80) && !gif_take_palette(gif, screen[10])))
    return gif_fail(gif, "GIF is truncated");
  gif->width = clipc__le16(screen + 6);
  gif->height = clipc__le16(screen + 8);
  while ((p = gif_take(gif, 1)) != NULL && *p != ',') {
    if (*p == ';') return gif_fail(gif, "GIF has no picture");
    if (*p == '!' && !gif_skip_extension(gif)) break;
  }
  const uint8_t *image = gif_take(gif, 9);
  if (p == NULL || *p != ',' || image == NULL) return gif_fail(gif, "GIF is truncated");
  gif->x = clipc__le16(image);
  gif->y = clipc__le16(image + 2);
  gif->frame_width = clipc__le16(image + 4);
  gif->frame_height = clipc__le16(image + 6);
  gif->interlaced = image[8] & 0x40;
  if ((image[8] & 0x80) && !gif_take_palette(gif, image[8])) return gif_fail(gif, "GIF is truncated");
  if (gif->x + gif->frame_width > gif->width) gif->width = gif->x + gif->frame_width;
  if (gif->y + gif->frame_height > gif->height) gif->height = gif->y + gif->frame_height;
  if (gif->frame_width == 0 || gif->frame_height == 0) return gif_fail(gif, "GIF has a frame without pixels");
  return CLIPC_OK;
}

/* The next code of n bits; -1 where no whole sub-block follows. */
static int gif_code(struct gif_lzw *lzw, int n) {
  while (lzw->n_bits < n) {
    if (lzw->n_block == 0) {
      if (lzw->at == lzw->n_bytes || lzw->n_bytes - lzw->at - 1 < lzw->bytes[lzw->at]) return -1;
      lzw->n_block = lzw->bytes[lzw->at++];
      continue;
    }
    lzw->bits |= (uint32_t)lzw->bytes[lzw->at++] << lzw->n_bits;
    lzw->n_bits += 8;
    lzw->n_block--;
  }
  int code = (int)(lzw->bits & ((1u << n) - 1));
  lzw->bits >>= n;
  lzw->n_bits -= n;
  return code;
}

struct gif_canvas { /* where the next pixel of the frame goes */
  struct clipc__picture *picture;
  const struct gif_file *gif;
  uint32_t x, y, step;
  int pass; /* interlaced: 1..4; 0: the last or only one */
  bool full;
};

static void gif_next_row(struct gif_canvas *canvas) {
  canvas->x = 0;
  canvas->y += canvas->step;
  while (canvas->y >= canvas->gif->frame_height) {
    switch (canvas->pass) {
    case 1: canvas->y = 4; break;
    case 2:
      canvas->y = 2;
      canvas->step = 4;
      break;
    case 3:
      canvas->y = 1;
      canvas->step = 2;
      break;
    default: canvas->full = true; return;
    }
    canvas->pass++;
  }
}

static void gif_put(struct gif_canvas *canvas, const uint8_t *pixels, size_t n) {
  while (n > 0 && !canvas->full) {
    const struct gif_file *gif = canvas->gif;
    size_t room = gif->frame_width - canvas->x, run = n < room ? n : room;
    uint8_t *row = canvas->picture->data + (size_t)(gif->y + canvas->y) * canvas->picture->stride_bytes;
    memcpy(row + gif->x + canvas->x, pixels, run);
    canvas->x += (uint32_t)run;
    pixels += run;
    n -= run;
    if (canvas->x == gif->frame_width) gif_next_row(canvas);
  }
}

/* Decodes codes until the frame is full. */
static clipc_status gif_read_pixels(struct gif_canvas *canvas, struct gif_lzw *lzw, int min_bits) {
  const struct gif_file *gif = canvas->gif;
  const int clear = 1 << min_bits;
  int next = clear + 2, n_bits = min_bits + 1, last = -1; /* last: code before, -1 behind a clear */
  uint8_t first = 0;                                      /* pixel of the string before */
  while (!canvas->full) {
    int code = gif_code(lzw, n_bits), c = code;
    size_t n = 0;
    if (code < 0 || code == clear + 1) return gif_fail(gif, "GIF data is truncated");
    if (code == clear) {
      next = clear + 2;
      n_bits = min_bits + 1;
      last = -1;
      continue;
    }
    if (code > (last < 0 ? clear : next)) return gif_fail(gif, "GIF data is damaged");
    if (last >= 0 && c == next) { /* the string before, and its first pixel again */
      lzw->string[GIF_N_CODES - ++n] = first;
      c = last;
    }
    for (; c >= clear; c = lzw->link[c]) {
      if (n == GIF_N_CODES || c >= GIF_N_CODES) return gif_fail(gif, "GIF data is damaged");
      lzw->string[GIF_N_CODES - ++n] = lzw->data[c];
    }
    if (n == GIF_N_CODES) return gif_fail(gif, "GIF data is damaged");
    lzw->string[GIF_N_CODES - ++n] = first = (uint8_t)c;
    if (last >= 0 && next < GIF_N_CODES) {
      lzw->data[next] = first;
      lzw->link[next] = (uint16_t)last;
      if (next == (1 << n_bits) - 1 && n_bits < 12) n_bits++;
      next++;
    }
    last = code;
    gif_put(canvas, lzw->string + GIF_N_CODES - n, n);
  }
  return CLIPC_OK;
}

static void gif_describe(const struct gif_file *gif, struct clipc__picture *out) {
  out->n_palette = (int)gif->n_palette;
  for (size_t i = 0; i < gif->n_palette; i++) memcpy(out->palette[i], gif->palette + 3 * i, 3);
  if (gif->transparent < 0) return;
  out->transparency = gif->palette ? CLIPC__PALETTE_ALPHA : CLIPC__COLOR_KEY;
  out->key[0] = (uint16_t)gif->transparent;
  if (gif->palette) out->palette[gif->transparent][3] = 0;
}

clipc_status clipc__gif_decode(struct clipc__picture *out, const struct clipc__source *source) {
  struct gif_file gif = {.source = source, .transparent = -1};
  clipc_status status = gif_read_front(&gif);
  const uint8_t *min_bits = gif_take(&gif, 1);
  if (status != CLIPC_OK || (status = clipc__source_size(source, gif.width, gif.height)) != CLIPC_OK) return status;
  if (min_bits == NULL) return gif_fail(&gif, "GIF is truncated");
  if (*min_bits > 12) return gif_fail(&gif, "GIF data is damaged");
  status = clipc__source_picture(source, out, gif.palette ? CLIPC__MODE_P : CLIPC__MODE_L, gif.width, gif.height);
  if (status != CLIPC_OK) return status;
  memset(out->data, gif.transparent < 0 ? 0 : gif.transparent, (size_t)out->height * out->stride_bytes);
  struct gif_lzw *lzw = clipc__alloc_zeroed(source->allocator, 1, sizeof *lzw);
  if (lzw == NULL) return clipc__source_no_memory(source);
  lzw->bytes = source->bytes;
  lzw->at = gif.at;
  lzw->n_bytes = source->n_bytes;
  struct gif_canvas canvas = {.picture = out, .gif = &gif, .step = gif.interlaced ? 8 : 1, .pass = gif.interlaced};
  status = gif_read_pixels(&canvas, lzw, *min_bits);
  clipc__free(source->allocator, lzw);
  if (status == CLIPC_OK) gif_describe(&gif, out);
  return status;
}
