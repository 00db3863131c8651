/* JPEG: blocks of coefficients to rows of pixels. In: rows of MCUs, in order. Out: L, RGB or CMYK.
 * Two rows of MCUs are held as samples: upsampling looks one row up and down. The three stages that decide the last
 * bit (kernels/pixels.h) are written after what libjpeg-turbo computes with its default settings (and its SIMD code,
 * which agrees): the "islow" inverse DCT, "fancy" upsampling and colour conversion in fixed point. Where rows go to a
 * sink, what it does not need is left out. */
#include "image/jpeg.h"

#include <string.h>

/* ---- the frame */

clipc_status clipc__jpeg_frame_make(struct clipc__jpeg_frame *frame, const struct clipc__source *source) {
  if (frame->n_components == 1) frame->components[0].h = frame->components[0].v = 1; /* its blocks stand alone */
  frame->h_max = frame->v_max = 1;
  for (int c = 0; c < frame->n_components; c++) {
    if (frame->components[c].h > frame->h_max) frame->h_max = frame->components[c].h;
    if (frame->components[c].v > frame->v_max) frame->v_max = frame->components[c].v;
  }
  frame->mcus_x = (frame->width + 8 * frame->h_max - 1) / (8 * frame->h_max);
  frame->mcus_y = (frame->height + 8 * frame->v_max - 1) / (8 * frame->v_max);
  for (int c = 0; c < frame->n_components; c++) {
    struct clipc__jpeg_component *component = &frame->components[c];
    if (frame->h_max % component->h != 0 || frame->v_max % component->v != 0)
      return clipc__source_fail(source, CLIPC_E_UNSUPPORTED,
                                "is a JPEG with sampling factors %dx%d of %dx%d, no whole ratio", component->h,
                                component->v, frame->h_max, frame->v_max);
    component->width = (frame->width * component->h + frame->h_max - 1) / frame->h_max;
    component->height = (frame->height * component->v + frame->v_max - 1) / frame->v_max;
    component->blocks_x = frame->mcus_x * component->h;
    component->blocks_y = frame->mcus_y * component->v;
  }
  return CLIPC_OK;
}

clipc_status clipc__jpeg_frame_keep(struct clipc__jpeg_frame *frame, const struct clipc__source *source) {
  for (int c = 0; c < frame->n_components; c++) {
    struct clipc__jpeg_component *component = &frame->components[c];
    component->coefficients = clipc__alloc_zeroed(source->allocator, (size_t)component->blocks_x * 64,
                                                  (size_t)component->blocks_y * sizeof(int16_t));
    if (component->coefficients == NULL) return clipc__source_no_memory(source);
  }
  return CLIPC_OK;
}

void clipc__jpeg_frame_free(struct clipc__jpeg_frame *frame, const clipc_allocator *allocator) {
  for (int c = 0; c < 4; c++) clipc__free(allocator, frame->components[c].coefficients);
}

/* Whether the first three components are luma and chroma, by libjpeg's rules. */
static bool jpeg_is_ycc(const struct clipc__jpeg_frame *frame) {
  const struct clipc__jpeg_component *c = frame->components;
  if (frame->n_components == 1) return false;
  if (frame->n_components == 4) return frame->adobe > 0;
  if (frame->jfif) return true;
  if (frame->adobe >= 0) return frame->adobe != 0;
  return !(c[0].id == 'R' && c[1].id == 'G' && c[2].id == 'B');
}

/* ---- begin and end */

static size_t jpeg_plane_stride(const struct clipc__jpeg_component *component) {
  return (size_t)component->blocks_x * 8;
}

static size_t jpeg_plane_height(const struct clipc__jpeg_component *component) { return (size_t)component->v * 16; }

static bool jpeg_render_allocate(struct clipc__jpeg_render *render) {
  const clipc_allocator *allocator = render->source->allocator;
  struct clipc__jpeg_frame *frame = render->frame;
  bool enough = true;
  for (int c = 0; c < frame->n_components; c++) {
    struct clipc__jpeg_component *component = &frame->components[c];
    component->plane = clipc__alloc(allocator, jpeg_plane_height(component), jpeg_plane_stride(component));
    /* Upsampling gives some samples on both sides of those that are needed. */
    render->samples[c] = clipc__alloc(allocator, ((size_t)frame->mcus_x + 2) * (size_t)frame->h_max, 8);
    enough = enough && component->plane && render->samples[c];
  }
  if (render->out->data == NULL) {
    size_t n_rows = 8 * (size_t)frame->v_max + 1; /* of MCUs, and the one that waited */
    render->rows = clipc__alloc(allocator, n_rows, (size_t)render->needed.width * render->pixel_bytes);
    enough = enough && render->rows;
  }
  return enough;
}

clipc_status clipc__jpeg_render_begin(struct clipc__jpeg_render *render, struct clipc__jpeg_frame *frame,
                                      struct clipc__picture *out, int orientation, const struct clipc__source *source) {
  static const enum clipc__mode modes[5] = {[1] = CLIPC__MODE_L, [3] = CLIPC__MODE_RGB, [4] = CLIPC__MODE_CMYK};
  enum clipc__mode mode = modes[frame->n_components];
  *render = (struct clipc__jpeg_render){.frame = frame,
                                        .source = source,
                                        .out = out,
                                        .ycc = jpeg_is_ycc(frame),
                                        .needed = {0, 0, frame->width, frame->height},
                                        .pixel_bytes = clipc__mode_bytes(mode)};
  clipc__pixel_kernels_init(&render->kernels, source->cpu);
  clipc__picture_describe(out, mode, frame->width, frame->height, source->allocator);
  out->orientation = orientation;
  if (source->sink == NULL || !source->sink->open(source->sink, out, &render->needed)) {
    clipc_status status = clipc__source_picture(source, out, mode, (uint64_t)frame->width, (uint64_t)frame->height);
    if (status != CLIPC_OK) return status;
    out->orientation = orientation;
  }
  render->next_row = render->needed.y;
  return jpeg_render_allocate(render) ? CLIPC_OK : clipc__source_no_memory(source);
}

void clipc__jpeg_render_end(struct clipc__jpeg_render *render) {
  if (render->frame == NULL) return;
  const clipc_allocator *allocator = render->source->allocator;
  for (int c = 0; c < render->frame->n_components; c++) {
    clipc__free(allocator, render->frame->components[c].plane);
    clipc__free(allocator, render->samples[c]);
  }
  clipc__free(allocator, render->rows);
}

/* ---- blocks to samples */

bool clipc__jpeg_render_wants(const struct clipc__jpeg_render *render, int my, int from, int to) {
  const struct clipc__window *needed = &render->needed;
  int width = 8 * render->frame->h_max, height = 8 * render->frame->v_max;
  const int margin = 8; /* more than the neighbours that upsampling looks at */
  return from * width < needed->x + needed->width + margin && to * width > needed->x - margin &&
         my * height < needed->y + needed->height + margin && (my + 1) * height > needed->y - margin;
}

void clipc__jpeg_render_blocks(struct clipc__jpeg_render *render, int component, int bx, int by, int n,
                               const int16_t *blocks) {
  const struct clipc__jpeg_component *c = &render->frame->components[component];
  size_t stride = jpeg_plane_stride(c), y = (size_t)by * 8 % jpeg_plane_height(c);
  render->kernels.idct(c->plane + y * stride + (size_t)bx * 8, stride, blocks, (size_t)n);
}

/* ---- samples to rows of samples */

static void jpeg_row_v2(uint8_t *out, const uint8_t *near, const uint8_t *far, size_t n, int bias) {
  for (size_t i = 0; i < n; i++) out[i] = (uint8_t)((3 * near[i] + far[i] + bias) >> 2);
}

static void jpeg_row_repeat(uint8_t *out, const uint8_t *in, size_t n, int times) {
  for (size_t i = 0; i < n; i++)
    for (int j = 0; j < times; j++) *out++ = in[i];
}

/* Samples of picture row y, the first that of column needed.x: in the plane itself where that has the full size. */
static const uint8_t *jpeg_row(struct clipc__jpeg_render *render, int c, int y) {
  const struct clipc__jpeg_frame *frame = render->frame;
  const struct clipc__jpeg_component *component = &frame->components[c];
  const struct clipc__pixel_kernels *kernels = &render->kernels;
  size_t stride = jpeg_plane_stride(component), height = jpeg_plane_height(component);
  int h = frame->h_max / component->h, v = frame->v_max / component->v;
  int row = y / v, other = y % v == 0 ? row - 1 : row + 1;
  if (other < 0) other = 0;
  if (other >= component->height) other = component->height - 1;
  /* The samples [from, to): those of the columns that are needed, and a neighbour on each side. */
  int from = render->needed.x / h - 1, to = (render->needed.x + render->needed.width - 1) / h + 2;
  if (from < 0) from = 0;
  if (to > component->width) to = component->width;
  size_t n = (size_t)(to - from);
  const uint8_t *near = component->plane + (size_t)row % height * stride + from;
  const uint8_t *far = component->plane + (size_t)other % height * stride + from;
  uint8_t *out = render->samples[c];
  if (h == 1 && v == 1) return near + (render->needed.x - from);
  if (h == 2 && v == 1 && component->width > 2)
    kernels->upsample_h2(out, near, n);
  else if (h == 2 && v == 2 && component->width > 2)
    kernels->upsample_h2v2(out, near, far, n);
  else if (h == 1 && v == 2)
    jpeg_row_v2(out, near, far, n, y % 2 == 0 ? 1 : 2);
  else
    jpeg_row_repeat(out, near, n, h);
  return out + (render->needed.x - from * h);
}

/* ---- rows of samples to pixels */

static void jpeg_row_interleave(uint8_t *out, const uint8_t *const *in, int n_bands, size_t step, size_t n,
                                uint8_t flip) {
  for (int c = 0; c < n_bands; c++)
    for (size_t i = 0; i < n; i++) out[i * step + (size_t)c] = in[c][i] ^ flip;
}

/* YCCK gives inverted CMY by itself. Pieces of it go by way of RGB. */
static void jpeg_row_ycck(uint8_t *out, const struct clipc__pixel_kernels *kernels, const uint8_t *const in[4],
                          size_t n) {
  enum { PIECE = 256 };
  uint8_t rgb[3 * PIECE];
  for (size_t from = 0; from < n; from += PIECE) {
    size_t n_piece = n - from < PIECE ? n - from : PIECE;
    kernels->ycc_to_rgb(rgb, in[0] + from, in[1] + from, in[2] + from, n_piece);
    for (size_t i = 0; i < n_piece; i++, out += 4) {
      memcpy(out, rgb + 3 * i, 3);
      out[3] = in[3][from + i] ^ 255;
    }
  }
}

static void jpeg_row_pixels(uint8_t *out, const struct clipc__jpeg_render *render, const uint8_t *const in[4]) {
  size_t n = (size_t)render->needed.width;
  switch (render->frame->n_components) {
  case 1: memcpy(out, in[0], n); break;
  case 3:
    if (render->ycc)
      render->kernels.ycc_to_rgb(out, in[0], in[1], in[2], n);
    else
      jpeg_row_interleave(out, in, 3, 3, n, 0);
    break;
  default: /* Pillow takes every CMYK for Adobe's, which is stored inverted */
    if (render->ycc)
      jpeg_row_ycck(out, &render->kernels, in, n);
    else
      jpeg_row_interleave(out, in, 4, 4, n, 255);
  }
}

void clipc__jpeg_render_row(struct clipc__jpeg_render *render, int my) {
  const struct clipc__jpeg_frame *frame = render->frame;
  const struct clipc__window *needed = &render->needed;
  /* The last row waits for the one below it, where upsampling may look at that. */
  int end = my + 1 == frame->mcus_y ? frame->height : (my + 1) * 8 * frame->v_max - (frame->v_max > 1);
  if (end > needed->y + needed->height) end = needed->y + needed->height;
  int first = render->next_row;
  if (end <= first) return;
  size_t stride = render->rows ? (size_t)needed->width * render->pixel_bytes : render->out->stride_bytes;
  uint8_t *rows = render->rows ? render->rows : render->out->data + (size_t)first * stride;
  for (int y = first; y < end; y++) {
    const uint8_t *in[4] = {0};
    for (int c = 0; c < frame->n_components; c++) in[c] = jpeg_row(render, c, y);
    jpeg_row_pixels(rows + (size_t)(y - first) * stride, render, in);
  }
  if (render->rows) render->source->sink->take(render->source->sink, first, end - first, rows, stride);
  render->next_row = end;
}

/* ---- coefficients that were kept */

/* One row of blocks; those of a progressive file are still to be dequantised. */
static void jpeg_render_kept_row(struct clipc__jpeg_render *render, int c, int by) {
  enum { PIECE = 8 };
  int16_t piece[PIECE * 64];
  const struct clipc__jpeg_component *component = &render->frame->components[c];
  const int16_t *blocks = component->coefficients + (size_t)by * (size_t)component->blocks_x * 64;
  for (int bx = 0; bx < component->blocks_x; bx += PIECE, blocks += PIECE * 64) {
    int n = component->blocks_x - bx < PIECE ? component->blocks_x - bx : PIECE;
    if (!clipc__jpeg_render_wants(render, by / component->v, bx / component->h, (bx + n - 1) / component->h + 1))
      continue;
    memcpy(piece, blocks, (size_t)n * 64 * sizeof *piece);
    for (int i = 0; render->frame->progressive && i < n; i++)
      clipc__jpeg_dequantise(piece + i * 64, component->quantisers);
    clipc__jpeg_render_blocks(render, c, bx, by, n, piece);
  }
}

void clipc__jpeg_render_kept(struct clipc__jpeg_render *render) {
  const struct clipc__jpeg_frame *frame = render->frame;
  for (int my = 0; my < frame->mcus_y; my++) {
    for (int c = 0; c < frame->n_components; c++)
      for (int y = 0; y < frame->components[c].v; y++) jpeg_render_kept_row(render, c, my * frame->components[c].v + y);
    clipc__jpeg_render_row(render, my);
  }
}
