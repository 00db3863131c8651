/* JPEG: markers, tables, scans; jpeg_huffman.c decodes blocks, jpeg_render.c makes pixels of them.
 * In: an untrusted file. Out: mode L, RGB or CMYK as Pillow 13 with libjpeg-turbo 3.2 opens it.
 * Where one scan holds everything, its blocks become pixels row by row of MCUs, a few MCUs at a time; else all
 * coefficients are kept until the last scan is read. It follows libjpeg: tables may come late or not at all, rubbish
 * between segments is skipped, a lost restart marker is looked for, an interval that ends early leaves grey. Unlike
 * there, a code that is in no table is a refusal, and so is a file without a marker behind its coded data. */
#include "image/jpeg.h"

#include <string.h>

/* The tables of the JPEG standard, annex K.3, which a file may leave out (motion JPEG does). */
static const uint8_t jpeg_dc_counts[2][16] = {{0, 1, 5, 1, 1, 1, 1, 1, 1}, {0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1}};
static const uint8_t jpeg_dc_values[12] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
static const uint8_t jpeg_ac_counts[2][16] = {{0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 0x7D},
                                              {0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 0x77}};
static const uint8_t jpeg_ac_values[2][162] = {
    {0x01, 0x02, 0x03, 0x00, 0x04, 0x11, 0x05, 0x12, 0x21, 0x31, 0x41, 0x06, 0x13, 0x51, 0x61, 0x07, 0x22, 0x71,
     0x14, 0x32, 0x81, 0x91, 0xA1, 0x08, 0x23, 0x42, 0xB1, 0xC1, 0x15, 0x52, 0xD1, 0xF0, 0x24, 0x33, 0x62, 0x72,
     0x82, 0x09, 0x0A, 0x16, 0x17, 0x18, 0x19, 0x1A, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2A, 0x34, 0x35, 0x36, 0x37,
     0x38, 0x39, 0x3A, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4A, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59,
     0x5A, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6A, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7A, 0x83,
     0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9A, 0xA2, 0xA3,
     0xA4, 0xA5, 0xA6, 0xA7, 0xA8, 0xA9, 0xAA, 0xB2, 0xB3, 0xB4, 0xB5, 0xB6, 0xB7, 0xB8, 0xB9, 0xBA, 0xC2, 0xC3,
     0xC4, 0xC5, 0xC6, 0xC7, 0xC8, 0xC9, 0xCA, 0xD2, 0xD3, 0xD4, 0xD5, 0xD6, 0xD7, 0xD8, 0xD9, 0xDA, 0xE1, 0xE2,
     0xE3, 0xE4, 0xE5, 0xE6, 0xE7, 0xE8, 0xE9, 0xEA, 0xF1, 0xF2, 0xF3, 0xF4, 0xF5, 0xF6, 0xF7, 0xF8, 0xF9, 0xFA},
    {0x00, 0x01, 0x02, 0x03, 0x11, 0x04, 0x05, 0x21, 0x31, 0x06, 0x12, 0x41, 0x51, 0x07, 0x61, 0x71, 0x13, 0x22,
     0x32, 0x81, 0x08, 0x14, 0x42, 0x91, 0xA1, 0xB1, 0xC1, 0x09, 0x23, 0x33, 0x52, 0xF0, 0x15, 0x62, 0x72, 0xD1,
     0x0A, 0x16, 0x24, 0x34, 0xE1, 0x25, 0xF1, 0x17, 0x18, 0x19, 0x1A, 0x26, 0x27, 0x28, 0x29, 0x2A, 0x35, 0x36,
     0x37, 0x38, 0x39, 0x3A, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4A, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58,
     0x59, 0x5A, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6A, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7A,
     0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9A,
     0xA2, 0xA3, 0xA4, 0xA5, 0xA6, 0xA7, 0xA8, 0xA9, 0xAA, 0xB2, 0xB3, 0xB4, 0xB5, 0xB6, 0xB7, 0xB8, 0xB9, 0xBA,
     0xC2, 0xC3, 0xC4, 0xC5, 0xC6, 0xC7, 0xC8, 0xC9, 0xCA, 0xD2, 0xD3, 0xD4, 0xD5, 0xD6, 0xD7, 0xD8, 0xD9, 0xDA,
     0xE2, 0xE3, 0xE4, 0xE5, 0xE6, 0xE7, 0xE8, 0xE9, 0xEA, 0xF2, 0xF3, 0xF4, 0xF5, 0xF6, 0xF7, 0xF8, 0xF9, 0xFA}};

enum {
  MARKER_SOF0 = 0xC0,
  MARKER_DHT = 0xC4,
  MARKER_RST0 = 0xD0,
  MARKER_SOI = 0xD8,
  MARKER_EOI = 0xD9,
  MARKER_SOS = 0xDA,
  MARKER_DQT = 0xDB,
  MARKER_DRI = 0xDD,
  MARKER_APP0 = 0xE0,
  MARKER_APP1 = 0xE1,
  MARKER_APP14 = 0xEE
};

#define JPEG_PIECE 8        /* MCUs that are decoded before they become samples */
#define JPEG_MAX_SCANS 1000 /* every scan walks the whole picture: a small file must not ask for hours */

struct jpeg_file {
  const struct clipc__source *source;
  size_t at; /* next byte */
  struct clipc__jpeg_reader *reader;
  struct clipc__jpeg_frame frame;
  uint16_t quantisers[4][64];
  bool has_quantisers[4];
  uint32_t restart_interval;
  int n_scans;
  bool complete;
  int8_t precision_left[4][64]; /* progressive: bits still to come of each coefficient; -1: all */
  uint8_t *coded;               /* an interval, unstuffed */
  size_t coded_capacity;
  int exif_orientation, xmp_orientation;
  bool flows; /* blocks go to render at once */
  struct clipc__jpeg_render render;
  int16_t piece[JPEG_PIECE * 10 * 64]; /* of each component [v, JPEG_PIECE * h, 64], of zeros where nothing came */
};

struct jpeg_scan {
  int n, component[4], dc[4], ac[4];
  struct clipc__jpeg_band band;
};

/* Finds the next marker at or behind file->at as libjpeg does: 0xFF, any more of them, then neither 0 nor
 * 0xFF. Returns it with file->at behind it and *start at its first 0xFF, or -1 at the end of the file. */
static int jpeg_next_marker(struct jpeg_file *file, size_t *start) {
  const uint8_t *bytes = file->source->bytes;
  size_t n = file->source->n_bytes, at = file->at;
  while (at < n) {
    const uint8_t *found = memchr(bytes + at, 0xFF, n - at);
    if (found == NULL) break;
    *start = at = (size_t)(found - bytes);
    while (at < n && bytes[at] == 0xFF) at++;
    if (at < n && bytes[at] != 0) {
      file->at = at + 1;
      return bytes[at];
    }
  }
  *start = n;
  while (*start > file->at && bytes[*start - 1] == 0xFF) --*start; /* half a marker is no data */
  file->at = n;
  return -1;
}

static clipc_status jpeg_fail(const struct jpeg_file *file, const char *sentence) {
  return clipc__source_fail(file->source, CLIPC_E_FORMAT, "%s", sentence);
}

/* ---- segments */

static clipc_status jpeg_read_dqt(struct jpeg_file *file, const uint8_t *p, size_t n) {
  while (n > 0) {
    int wide = p[0] >> 4, slot = p[0] & 15;
    size_t size = 1 + 64 * (size_t)(wide ? 2 : 1);
    if (slot > 3 || n < size) return jpeg_fail(file, "JPEG quantisation table is damaged");
    for (int k = 0; k < 64; k++) file->quantisers[slot][k] = (uint16_t)(wide ? clipc__be16(p + 1 + 2 * k) : p[1 + k]);
    file->has_quantisers[slot] = true;
    p += size;
    n -= size;
  }
  return CLIPC_OK;
}

static clipc_status jpeg_read_dht(struct jpeg_file *file, const uint8_t *p, size_t n) {
  while (n > 16) {
    size_t n_values = 0;
    for (int i = 1; i <= 16; i++) n_values += p[i];
    int slot = p[0] & 15;
    if (p[0] >> 4 > 1 || slot > 3 || n_values > 256 || n_values > n - 17 ||
        !clipc__jpeg_reader_table(file->reader, p[0] >> 4, slot, p + 1, p + 17))
      return jpeg_fail(file, "JPEG Huffman table is damaged");
    p += 17 + n_values;
    n -= 17 + n_values;
  }
  return n == 0 ? CLIPC_OK : jpeg_fail(file, "JPEG Huffman table is damaged");
}

static clipc_status jpeg_read_app(struct jpeg_file *file, int marker, const uint8_t *p, size_t n) {
  if (marker == MARKER_APP0 && n >= 14 && memcmp(p, "JFIF", 5) == 0) file->frame.jfif = true;
  if (marker == MARKER_APP14 && n >= 12 && memcmp(p, "Adobe", 5) == 0) file->frame.adobe = p[11];
  if (marker == MARKER_APP1 && n >= 6 && memcmp(p, "Exif\0\0", 6) == 0 && file->exif_orientation == 0)
    file->exif_orientation = clipc__exif_orientation(p + 6, n - 6);
  static const char xmp[] = "http://ns.adobe.com/xap/1.0/";
  if (marker == MARKER_APP1 && n >= sizeof xmp && memcmp(p, xmp, sizeof xmp) == 0)
    file->xmp_orientation = clipc__xmp_orientation(p + sizeof xmp, n - sizeof xmp);
  return CLIPC_OK;
}

/* What the segments so far say. */
static int jpeg_orientation(const struct jpeg_file *file) {
  if (file->exif_orientation > 0) return file->exif_orientation;
  return file->xmp_orientation > 0 ? file->xmp_orientation : 1;
}

static clipc_status jpeg_read_sof(struct jpeg_file *file, int marker, const uint8_t *p, size_t n) {
  struct clipc__jpeg_frame *frame = &file->frame;
  if (marker > MARKER_SOF0 + 2)
    return clipc__source_fail(file->source, CLIPC_E_UNSUPPORTED, "is a JPEG of kind SOF%d, which is not read%s",
                              marker - MARKER_SOF0, marker > MARKER_SOF0 + 8 ? " (arithmetic coding)" : "");
  if (frame->n_components > 0) return jpeg_fail(file, "JPEG has two frames");
  if (n < 6 || n != 6 + 3 * (size_t)p[5]) return jpeg_fail(file, "JPEG frame header is damaged");
  if (p[0] != 8)
    return clipc__source_fail(file->source, CLIPC_E_UNSUPPORTED, "is a JPEG of %d bits, only 8 are read", p[0]);
  int n_components = p[5];
  if (n_components != 1 && n_components != 3 && n_components != 4)
    return clipc__source_fail(file->source, CLIPC_E_UNSUPPORTED, "is a JPEG of %d components, only 1, 3 and 4 are read",
                              n_components);
  clipc_status status = clipc__source_size(file->source, clipc__be16(p + 3), clipc__be16(p + 1));
  if (status != CLIPC_OK) return status;
  frame->progressive = marker == MARKER_SOF0 + 2;
  frame->height = (int)clipc__be16(p + 1);
  frame->width = (int)clipc__be16(p + 3);
  for (int c = 0; c < n_components; c++) {
    const uint8_t *q = p + 6 + 3 * c;
    struct clipc__jpeg_component *component = &frame->components[c];
    *component = (struct clipc__jpeg_component){.id = q[0], .h = q[1] >> 4, .v = q[1] & 15, .slot = q[2]};
    if (component->h < 1 || component->h > 4 || component->v < 1 || component->v > 4)
      return jpeg_fail(file, "JPEG sampling factors are damaged");
  }
  frame->n_components = n_components;
  return clipc__jpeg_frame_make(frame, file->source);
}

/* ---- scans */

static clipc_status jpeg_read_sos(struct jpeg_file *file, struct jpeg_scan *scan, const uint8_t *p, size_t n) {
  const struct clipc__jpeg_frame *frame = &file->frame;
  *scan = (struct jpeg_scan){.n = n > 0 ? p[0] : 0};
  if (frame->n_components == 0) return jpeg_fail(file, "JPEG has no frame header before its data");
  if (scan->n < 1 || scan->n > 4 || n != 4 + 2 * (size_t)scan->n) return jpeg_fail(file, "JPEG scan header is damaged");
  int n_blocks = 0;
  for (int i = 0; i < scan->n; i++) {
    int c = 0;
    while (c < frame->n_components && frame->components[c].id != p[1 + 2 * i]) c++;
    for (int j = 0; j < i; j++)
      if (scan->component[j] == c) c = frame->n_components;
    scan->component[i] = c;
    scan->dc[i] = p[2 + 2 * i] >> 4;
    scan->ac[i] = p[2 + 2 * i] & 15;
    if (c == frame->n_components || scan->dc[i] > 3 || scan->ac[i] > 3)
      return jpeg_fail(file, "JPEG scan header is damaged");
    n_blocks += frame->components[c].h * frame->components[c].v;
  }
  if (scan->n > 1 && n_blocks > 10) return jpeg_fail(file, "JPEG scan has more than 10 blocks at once");
  p += 1 + 2 * scan->n;
  scan->band = (struct clipc__jpeg_band){p[0], p[1], p[2] >> 4, p[2] & 15};
  const struct clipc__jpeg_band *band = &scan->band;
  if (!frame->progressive) return CLIPC_OK;
  bool good = band->first == 0 ? band->last == 0 : band->first <= band->last && band->last < 64 && scan->n == 1;
  if (!good || (band->high != 0 && band->low != band->high - 1) || band->low > 13)
    return jpeg_fail(file, "JPEG scan header is damaged");
  for (int i = 0; i < scan->n; i++)
    for (int k = band->first; k <= band->last; k++) file->precision_left[scan->component[i]][k] = (int8_t)band->low;
  return CLIPC_OK;
}

/* Blocks that come in more than one scan are kept; of a single one they need not be. */
static clipc_status jpeg_prepare_blocks(struct jpeg_file *file, const struct jpeg_scan *scan,
                                        struct clipc__picture *out) {
  struct clipc__jpeg_frame *frame = &file->frame;
  if (frame->components[0].coefficients != NULL) return CLIPC_OK;
  if (frame->progressive || scan->n < frame->n_components) return clipc__jpeg_frame_keep(frame, file->source);
  file->flows = true;
  return clipc__jpeg_render_begin(&file->render, frame, out, jpeg_orientation(file), file->source);
}

/* Latches the quantisers of components that appear first, and sees to it that each has its Huffman tables. */
static clipc_status jpeg_prepare_scan(struct jpeg_file *file, const struct jpeg_scan *scan) {
  for (int i = 0; i < scan->n; i++) {
    struct clipc__jpeg_component *component = &file->frame.components[scan->component[i]];
    if (!component->has_quantisers) {
      if (component->slot > 3 || !file->has_quantisers[component->slot])
        return jpeg_fail(file, "JPEG lacks a quantisation table");
      const uint16_t *quantisers = file->quantisers[component->slot];
      for (int k = 0; k < CLIPC__JPEG_ORDER; k++) component->quantisers[k] = quantisers[k < 64 ? k : 63];
      component->has_quantisers = true;
    }
    const struct clipc__jpeg_band *band = &scan->band;
    bool dc = !file->frame.progressive || (band->first == 0 && band->high == 0);
    bool ac = !file->frame.progressive || band->first > 0;
    for (int is_ac = 0; is_ac < 2; is_ac++) {
      int slot = is_ac ? scan->ac[i] : scan->dc[i];
      if (!(is_ac ? ac : dc) || clipc__jpeg_reader_has_table(file->reader, is_ac, slot)) continue;
      if (slot > 1) return jpeg_fail(file, "JPEG lacks a Huffman table");
      clipc__jpeg_reader_table(file->reader, is_ac, slot, is_ac ? jpeg_ac_counts[slot] : jpeg_dc_counts[slot],
                               is_ac ? jpeg_ac_values[slot] : jpeg_dc_values);
    }
  }
  return CLIPC_OK;
}

/* Copies coded bytes without the zero that is stuffed behind each 0xFF; returns how many are left. */
static size_t jpeg_unstuff(uint8_t *out, const uint8_t *in, size_t n) {
  uint8_t *to = out;
  while (n > 0) {
    const uint8_t *found = memchr(in, 0xFF, n);
    size_t run = found ? (size_t)(found - in) + 1 : n;
    memcpy(to, in, run);
    to += run;
    in += run;
    n -= run;
    while (found && n > 0 && *in == 0xFF) in++, n--; /* more of them are one */
    if (found && n > 0) in++, n--;
  }
  return (size_t)(to - out);
}

/* Starts the reader on the coded bytes up to the next marker. *marker is the marker, behind which file->at stands, or
 * -1 at the end of the file. */
static clipc_status jpeg_start_interval(struct jpeg_file *file, int *marker) {
  size_t from = file->at, end = from;
  *marker = jpeg_next_marker(file, &end);
  if (end - from > file->coded_capacity) {
    clipc__free(file->source->allocator, file->coded);
    file->coded_capacity = 0;
    file->coded = clipc__alloc(file->source->allocator, end - from, 1);
    if (file->coded == NULL) return clipc__source_no_memory(file->source);
    file->coded_capacity = end - from;
  }
  size_t n = jpeg_unstuff(file->coded, file->source->bytes + from, end - from);
  clipc__jpeg_reader_start(file->reader, file->coded, n);
  return CLIPC_OK;
}

/* What to do at a restart when the marker there is not the wanted one: libjpeg's jpeg_resync_to_restart.
 * True: go on behind the marker. False: the interval is lost, the marker waits for a later one. */
static bool jpeg_resync(struct jpeg_file *file, int *marker, int wanted) {
  for (;;) {
    int n = *marker - MARKER_RST0;
    if (*marker < 0) return false;
    if (n >= 0 && n < 8) {
      if (n == ((wanted + 1) & 7) || n == ((wanted + 2) & 7)) return false;
      if (n != ((wanted - 1) & 7) && n != ((wanted - 2) & 7)) return true;
    } else if (*marker >= MARKER_SOF0) {
      return false;
    }
    size_t start;
    *marker = jpeg_next_marker(file, &start);
  }
}

/* Where the piece holds the blocks of component c. */
static int16_t *jpeg_piece(struct jpeg_file *file, int c) {
  int n_blocks = 0;
  for (int i = 0; i < c; i++) n_blocks += file->frame.components[i].h * file->frame.components[i].v;
  return file->piece + n_blocks * JPEG_PIECE * 64;
}

/* An MCU of which nothing is kept. */
static bool jpeg_read_flowing(struct jpeg_file *file, const struct jpeg_scan *scan, int mx) {
  for (int i = 0; i < scan->n; i++) {
    int c = scan->component[i];
    const struct clipc__jpeg_component *component = &file->frame.components[c];
    int16_t *row = jpeg_piece(file, c) + mx % JPEG_PIECE * component->h * 64;
    for (int y = 0; y < component->v; y++, row += JPEG_PIECE * component->h * 64)
      for (int x = 0; x < component->h; x++)
        if (!clipc__jpeg_read_block(file->reader, row + 64 * x, c, scan->dc[i], scan->ac[i], component->quantisers))
          return false;
  }
  return true;
}

/* Block bx, by of component i of the scan. */
static bool jpeg_read_kept(struct jpeg_file *file, const struct jpeg_scan *scan, int i, int bx, int by) {
  int c = scan->component[i];
  struct clipc__jpeg_component *component = &file->frame.components[c];
  int16_t *block = component->coefficients + ((size_t)by * (size_t)component->blocks_x + (size_t)bx) * 64;
  if (!file->frame.progressive) {
    memset(block, 0, 64 * sizeof *block);
    return clipc__jpeg_read_block(file->reader, block, c, scan->dc[i], scan->ac[i], component->quantisers);
  }
  if (scan->band.first == 0) return clipc__jpeg_read_dc(file->reader, block, c, scan->dc[i], &scan->band);
  return clipc__jpeg_read_ac(file->reader, block, scan->ac[i], &scan->band);
}

/* The MCU at mx, my: one block of the only component, or h x v blocks of each. */
static bool jpeg_read_mcu(struct jpeg_file *file, const struct jpeg_scan *scan, int mx, int my) {
  if (file->flows) return jpeg_read_flowing(file, scan, mx);
  if (scan->n == 1) return jpeg_read_kept(file, scan, 0, mx, my);
  for (int i = 0; i < scan->n; i++) {
    const struct clipc__jpeg_component *component = &file->frame.components[scan->component[i]];
    for (int y = 0; y < component->v; y++)
      for (int x = 0; x < component->h; x++)
        if (!jpeg_read_kept(file, scan, i, mx * component->h + x, my * component->v + y)) return false;
  }
  return true;
}

/* Behind the MCU at mx, my: what flows, and is complete, becomes samples and pixels. */
static void jpeg_pass_on(struct jpeg_file *file, int mx, int my) {
  const struct clipc__jpeg_frame *frame = &file->frame;
  bool last = mx + 1 == frame->mcus_x;
  if (!file->flows || ((mx + 1) % JPEG_PIECE != 0 && !last)) return;
  int from = mx / JPEG_PIECE * JPEG_PIECE, n = mx + 1 - from;
  bool wanted = clipc__jpeg_render_wants(&file->render, my, from, mx + 1);
  for (int c = 0; c < frame->n_components; c++) {
    const struct clipc__jpeg_component *component = &frame->components[c];
    int row = JPEG_PIECE * component->h;
    int16_t *piece = jpeg_piece(file, c);
    for (int y = 0; wanted && y < component->v; y++)
      clipc__jpeg_render_blocks(&file->render, c, from * component->h, my * component->v + y, n * component->h,
                                piece + y * row * 64);
    memset(piece, 0, (size_t)(component->v * row) * 64 * sizeof *piece);
  }
  if (last) clipc__jpeg_render_row(&file->render, my);
}

/* At the end of a restart interval. */
static clipc_status jpeg_restart(struct jpeg_file *file, int *marker, int wanted, bool *dry) {
  if (*marker == MARKER_RST0 + wanted || jpeg_resync(file, marker, wanted)) {
    *dry = false;
    return jpeg_start_interval(file, marker);
  }
  /* libjpeg decodes one MCU of zeros, unless the interval before was dry already */
  clipc__jpeg_reader_start(file->reader, file->coded, 0);
  return CLIPC_OK;
}

/* Decodes a scan. *marker is the marker behind it, or -1 at the end of the file. */
static clipc_status jpeg_read_scan(struct jpeg_file *file, const struct jpeg_scan *scan, int *marker) {
  const struct clipc__jpeg_frame *frame = &file->frame;
  const struct clipc__jpeg_component *first = &frame->components[scan->component[0]];
  int across = scan->n > 1 ? frame->mcus_x : (first->width + 7) / 8;
  int down = scan->n > 1 ? frame->mcus_y : (first->height + 7) / 8;
  clipc_status status = jpeg_start_interval(file, marker);
  uint32_t left = file->restart_interval;
  int wanted = 0;
  bool dry = false;
  for (int my = 0; my < down; my++) {
    for (int mx = 0; mx < across; mx++) {
      if (file->restart_interval > 0 && left == 0) {
        status = jpeg_restart(file, marker, wanted, &dry);
        wanted = (wanted + 1) & 7;
        left = file->restart_interval;
      }
      if (status != CLIPC_OK) return status;
      left--;
      if (!dry) {
        if (!jpeg_read_mcu(file, scan, mx, my)) return jpeg_fail(file, "JPEG data is damaged");
        dry = clipc__jpeg_reader_dry(file->reader);
        if (dry && *marker < 0) return jpeg_fail(file, "JPEG is truncated");
      }
      jpeg_pass_on(file, mx, my);
    }
  }
  return *marker < 0 ? jpeg_fail(file, "JPEG is truncated") : CLIPC_OK;
}

/* ---- the file */

/* Reads the payload of the segment at file->at. */
static clipc_status jpeg_take_segment(struct jpeg_file *file, const uint8_t **payload, size_t *n) {
  const struct clipc__source *source = file->source;
  if (source->n_bytes - file->at < 2) return jpeg_fail(file, "JPEG is truncated");
  size_t size = clipc__be16(source->bytes + file->at);
  if (size < 2) return jpeg_fail(file, "JPEG segment is damaged");
  if (size > source->n_bytes - file->at) return jpeg_fail(file, "JPEG is truncated");
  *payload = source->bytes + file->at + 2;
  *n = size - 2;
  file->at += size;
  return CLIPC_OK;
}

static clipc_status jpeg_read_segment(struct jpeg_file *file, int *marker, struct clipc__picture *out) {
  size_t start;
  bool stands_alone = *marker == 1 || (*marker >= MARKER_RST0 && *marker <= MARKER_SOI);
  int kind = *marker;
  if (kind == MARKER_SOI || (kind > 1 && kind < MARKER_SOF0)) return jpeg_fail(file, "JPEG has a marker out of place");
  const uint8_t *p = NULL;
  size_t n = 0;
  clipc_status status = stands_alone ? CLIPC_OK : jpeg_take_segment(file, &p, &n);
  if (status == CLIPC_OK && kind == MARKER_SOS) {
    struct jpeg_scan scan;
    if (++file->n_scans > JPEG_MAX_SCANS)
      return clipc__fail(file->source->error, CLIPC_E_LIMIT, "%s: JPEG has more than %d scans", file->source->name,
                         JPEG_MAX_SCANS);
    if ((status = jpeg_read_sos(file, &scan, p, n)) == CLIPC_OK &&
        (status = jpeg_prepare_scan(file, &scan)) == CLIPC_OK &&
        (status = jpeg_prepare_blocks(file, &scan, out)) == CLIPC_OK)
      status = jpeg_read_scan(file, &scan, marker);
    /* Where one scan holds everything, nobody looks at what follows. */
    file->complete = scan.n == file->frame.n_components && !file->frame.progressive;
    return status;
  }
  if (status == CLIPC_OK && kind >= MARKER_SOF0 && kind < MARKER_RST0 && kind != MARKER_DHT && kind != 0xC8 &&
      kind != 0xCC)
    status = jpeg_read_sof(file, kind, p, n);
  if (status == CLIPC_OK && kind == MARKER_DQT) status = jpeg_read_dqt(file, p, n);
  if (status == CLIPC_OK && kind == MARKER_DHT) status = jpeg_read_dht(file, p, n);
  if (status == CLIPC_OK && kind >= MARKER_APP0 && kind <= MARKER_APP14) status = jpeg_read_app(file, kind, p, n);
  if (status == CLIPC_OK && kind == MARKER_DRI) {
    if (n != 2) return jpeg_fail(file, "JPEG restart interval is damaged");
    file->restart_interval = clipc__be16(p);
  }
  if (status == CLIPC_OK) *marker = jpeg_next_marker(file, &start);
  return status;
}

/* libjpeg smooths blocks whose first coefficients are not all there; that is not imitated. */
static bool jpeg_is_incomplete(const struct jpeg_file *file) {
  if (!file->frame.progressive) return false;
  for (int c = 0; c < file->frame.n_components; c++)
    for (int k = 1; k < 10; k++)
      if (file->precision_left[c][k] != 0) return true;
  return false;
}

static clipc_status jpeg_read_file(struct jpeg_file *file, struct clipc__picture *out) {
  size_t start;
  file->at = 2;
  clipc_status status = CLIPC_OK;
  int marker = jpeg_next_marker(file, &start);
  while (status == CLIPC_OK && !file->complete && marker >= 0 && marker != MARKER_EOI)
    status = jpeg_read_segment(file, &marker, out);
  if (status != CLIPC_OK) return status;
  if (file->n_scans == 0) return jpeg_fail(file, marker < 0 ? "JPEG is truncated" : "JPEG has no picture data");
  if (marker < 0) return jpeg_fail(file, "JPEG is truncated");
  if (jpeg_is_incomplete(file))
    return clipc__source_fail(file->source, CLIPC_E_UNSUPPORTED, "is a progressive JPEG of which scans are missing");
  if (file->flows) return CLIPC_OK;
  status = clipc__jpeg_render_begin(&file->render, &file->frame, out, jpeg_orientation(file), file->source);
  if (status == CLIPC_OK) clipc__jpeg_render_kept(&file->render);
  return status;
}

clipc_status clipc__jpeg_decode(struct clipc__picture *out, const struct clipc__source *source) {
  const clipc_allocator *allocator = source->allocator;
  struct jpeg_file *file = clipc__alloc_zeroed(allocator, 1, sizeof *file);
  if (file == NULL) return clipc__source_no_memory(source);
  file->source = source;
  file->frame.adobe = -1;
  memset(file->precision_left, -1, sizeof file->precision_left);
  file->reader = clipc__jpeg_reader_make(allocator);
  clipc_status status = file->reader ? jpeg_read_file(file, out) : clipc__source_no_memory(source);
  clipc__jpeg_render_end(&file->render);
  clipc__jpeg_frame_free(&file->frame, allocator);
  clipc__free(allocator, file->coded);
  clipc__free(allocator, file->reader);
  clipc__free(allocator, file);
  return status;
}
