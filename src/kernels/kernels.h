/* The kernels: what each computes, on one thread, without allocating; and the drivers that share the work of a layer
 * out to threads. ref.c is the normative plain C; a file per tier overrides what it does better.
 *
 *   x [rows, k] f32 --prepare--> input rows --product with packed weights--> sums --finish--> y [rows, n] f32
 *
 * Matrices are row-major, strides are in elements unless they say bytes; outputs must not overlap inputs unless it
 * says so; exactly the stated elements are read and written; no alignment is needed unless it is stated. The value of
 * an output hangs on its row of x and its weights alone: never on how many rows or columns are computed with it. */
#ifndef CLIPC_KERNELS_H
#define CLIPC_KERNELS_H

#include "base/base.h"
#include "base/cpu.h"

enum clipc__activation {
  CLIPC__NO_ACTIVATION,
  CLIPC__QUICK_GELU,
  CLIPC__GELU_ERF,
  CLIPC__GELU_TANH,
  CLIPC__N_ACTIVATIONS
};

/* ---- products by packed weights */

/* In which numbers weights or inputs lie. */
enum clipc__number { CLIPC__F32, CLIPC__BF16, CLIPC__S8, CLIPC__U8, CLIPC__S16 };
CLIPC_PRIVATE size_t clipc__number_bytes(enum clipc__number number);

/* How an integer row stands for floats: x = scale * (q - zero). */
struct clipc__row_scale {
  float scale;
  int32_t zero;
};

/* Most k that a product of bytes may have: its i32 sums cannot overflow, with 2047 levels of inputs either. */
#define CLIPC__INT8_MAX_K 8256u

/* One way to multiply, with the shapes that it wants. Weights lie in panels of panel_cols columns, panel after panel;
 * in a panel, k is cut into groups: [k_padded / group, panel_cols, group]. What fills up columns and k is zero.
 * group 0 stands for the whole of k: a panel is then [panel_cols, k]. */
struct clipc__gemm {
  const char *name;           /* "avx512-vnni" */
  enum clipc__number weights; /* F32, BF16 or S8 */
  enum clipc__number input;   /* F32; or BF16; or U8, S8 or S16 */
  int n_levels;               /* integer inputs take so many steps: 255, or 2047 for S16; else 0 */
  unsigned tile_rows;         /* most rows of one product */
  unsigned panel_cols, group; /* panel_cols: a multiple of 8 */
  /* S8 weights: in a column, two neighbours in k (the first one's number even) come together to at most so much in
   * size if they have the same sign, so that the i16 that vpmaddubsw makes of them cannot overflow; 0: no limit */
  int pair_limit;
  /* sums[i,j] = sum over p of x[i,p] * panel[p,j], p rising, one f32 (or i32) sum for each i, j.
   *   sums     [rows, panel_cols] f32, or i32 for integer inputs; aligned to 64
   *   x        [rows, k] of x_stride bytes from row to row; 1 <= rows <= tile_rows
   *   panel    aligned to 64; k a multiple of group
   *   ahead    memory that will be wanted next: ahead_bytes of it are prefetched, spread evenly over the loop (never a
   *            fault, wherever it lies) */
  void (*product)(void *sums, const void *x, size_t x_stride, size_t rows, const void *panel, size_t k,
                  const void *ahead, size_t ahead_bytes);
  /* Turns one row of floats into an input row of k_padded numbers, zeros behind k (the number zero stands for, where
   * inputs are integers). NULL where input is F32. Integers: the range that the row needs, nought included, is cut
   * into n_levels steps; NaN and infinity anywhere in x give a scale that is NaN.  x, out may be unaligned. */
  void (*prepare)(void *out, struct clipc__row_scale *scale, const float *x, size_t k, size_t k_padded, int n_levels);
};

/* What becomes of the sums of a tile. */
struct clipc__finish {
  const float *bias;                   /* [panel_cols] or NULL */
  const float *scale;                  /* [panel_cols] of the columns; integer sums only, else NULL */
  const int32_t *sum;                  /* [panel_cols] of the column's weights; integer sums only */
  const struct clipc__row_scale *rows; /* [rows]; integer sums only */
  enum clipc__activation activation;
  bool add; /* to what y holds; no activation then */
};

struct clipc__kernels {
  unsigned cpu;               /* the mask that chose */
  struct clipc__gemm gemm[3]; /* by clipc_precision, for layers */
  struct clipc__gemm small;   /* f32, for attention; never OpenBLAS */
  /* y[i,j] = activation(value + bias[j]), or y[i,j] + value + bias[j], where value is sums[i,j], or for integers
   * rows[i].scale * scale[j] * (sums[i,j] - rows[i].zero * sum[j]).
   *   y [rows, cols], sums [rows, sums_stride], cols <= what bias, scale and sum have */
  void (*finish)(float *y, size_t y_stride, const void *sums, size_t sums_stride, size_t rows, size_t cols,
                 const struct clipc__finish *how);
  /* y[r,i] = weight[i] * (x[r,i] - mean(x[r])) / sqrt(variance(x[r]) + eps) + bias[i], the variance biased; with
   * weight and bias NULL, without them.  x, y [rows, cols] of their strides; y may be x */
  void (*layer_norm_f32)(float *y, size_t y_stride, const float *x, size_t x_stride, const float *weight,
                         const float *bias, size_t rows, size_t cols, float eps);
  /* x[i] = exp(x[i] - max) / sum for i < n; 0 for n <= i < n_all (masked) */
  void (*softmax_f32)(float *x, size_t n, size_t n_all);
  /* y[j,i] = x[i,j].  x [rows, cols], y [cols, rows] of their strides */
  void (*transpose_f32)(float *y, size_t y_stride, const float *x, size_t x_stride, size_t rows, size_t cols);
  /* x[i] = activation(x[i]); entry CLIPC__NO_ACTIVATION is NULL */
  void (*activation_f32[CLIPC__N_ACTIVATIONS])(float *x, size_t n);
  /* Multiplies and adds in registers as the product of the precision does, n_rounds times over; returns the
   * operations of one round (a multiplication and an addition are two). NULL without one. */
  double (*peak[3])(size_t n_rounds);
};

/* Fills the table: the plain C, then what is better and in the mask. */
CLIPC_PRIVATE void clipc__kernels_init(struct clipc__kernels *kernels, unsigned cpu, bool blas);

/* One per file; each overrides what it does better, and looks at the mask itself. */
CLIPC_PRIVATE void clipc__kernels_ref(struct clipc__kernels *kernels);
CLIPC_PRIVATE void clipc__kernels_avx2(struct clipc__kernels *kernels, unsigned cpu);
CLIPC_PRIVATE void clipc__kernels_avx512(struct clipc__kernels *kernels, unsigned cpu);
CLIPC_PRIVATE void clipc__kernels_neon(struct clipc__kernels *kernels, unsigned cpu);
#if defined(__x86_64__)
CLIPC_PRIVATE void clipc__kernels_avx2_rows(struct clipc__kernels *kernels);   /* x86-64; of clipc__kernels_avx2 */
CLIPC_PRIVATE void clipc__kernels_avx512_rows(struct clipc__kernels *kernels); /* of clipc__kernels_avx512 */
#endif
CLIPC_PRIVATE void clipc__kernels_blas(struct clipc__kernels *kernels); /* if it is built in */
CLIPC_PRIVATE bool clipc__has_blas(void);

/* ---- layers on many threads */

/* A linear layer, packed for one gemm. Side arrays are filled up with zeros to whole panels. */
struct clipc__linear {
  const struct clipc__gemm *gemm;
  size_t n_out, n_in;
  const void *panels; /* aligned to 64; clipc__linear_bytes; NULL = there is no such layer */
  const float *bias;  /* or NULL */
  const float *scale; /* integer weights only: of each column */
  const int32_t *sum; /* integer weights only: of each column */
};
CLIPC_PRIVATE size_t clipc__n_panels(const struct clipc__gemm *gemm, size_t n_out);
CLIPC_PRIVATE size_t clipc__k_padded(const struct clipc__gemm *gemm, size_t n_in);
CLIPC_PRIVATE size_t clipc__panel_bytes(const struct clipc__gemm *gemm, size_t n_in);

/* Where weights come from: row j of the layer is w[j, :] * gain, in f32. Folding a layer norm's affine into the layer
 * behind it: gain is its weight, shift its bias, and w shift is added to the layer's bias. */
struct clipc__linear_source {
  const float *w; /* [n_out, n_in] of w_stride, or with transposed [n_in, n_out] */
  size_t w_stride;
  bool transposed;
  const float *bias;                  /* [n_out] or NULL */
  const float *gain;                  /* [n_in] or NULL */
  const float *shift;                 /* [n_in] or NULL */
  float factor;                       /* on weights and bias; 1/sqrt(head_dim) for queries, else 1 */
  const struct clipc__linear *packed; /* where w is NULL: S8 weights of a layer, times their scales */
};
/* Packs panel number panel of a layer; the outputs are the linear's own arrays, written at that panel's place. bias may
 * be NULL where the source has neither bias nor shift. */
CLIPC_PRIVATE void clipc__pack_panel(const struct clipc__gemm *gemm, size_t n_out, size_t n_in, size_t panel,
                                     void *panels, float *bias, float *scale, int32_t *sum,
                                     const struct clipc__linear_source *source);

/* Whether weights that are packed for one gemm lie as the other wants them. */
CLIPC_PRIVATE bool clipc__packing_serves(const struct clipc__gemm *wanted, const struct clipc__gemm *packed);
/* Packs panel number panel of a layer from the same layer as it is packed for another gemm of the same numbers (of
 * which only the shapes are looked at). S8 weights stay what they are, but where pairs would be above a limit that was
 * not kept. */
CLIPC_PRIVATE void clipc__repack_panel(const struct clipc__linear *to, size_t panel, const struct clipc__linear *from);

struct clipc__compute { /* what a layer runs on */
  const struct clipc__kernels *kernels;
  int n_threads;
  char *prepared;                     /* input rows, [max_rows] of clipc__input_stride(largest n_in) bytes */
  struct clipc__row_scale *row_scale; /* [max_rows] */
  char *scratch;                      /* [n_threads, scratch_bytes], aligned to 64 */
  size_t scratch_bytes;
};
/* Bytes from row to row of prepared inputs of n_in numbers, for any gemm. */
CLIPC_PRIVATE size_t clipc__input_stride(size_t n_in);
/* Bytes of scratch that one thread needs for layers of n_in, and for attention over so long sequences. */
CLIPC_PRIVATE size_t clipc__linear_scratch(const struct clipc__gemm *gemm, size_t n_in);
CLIPC_PRIVATE size_t clipc__attention_scratch(const struct clipc__gemm *small, size_t head_dim, size_t longest);

/* The rows that go into a layer: x [rows, n_in] of stride, on request normalised first (mean 0, variance 1). */
struct clipc__rows {
  const float *x;
  size_t stride, n;
  bool normalize;
  float eps;
  /* Rows of levels, whole numbers from -128 to 127, are likely: where inputs are integers, these are the levels
   * themselves. Half a thousandth of a level is nothing; other rows are as any. Not with normalize. */
  bool levels;
};

enum clipc__linear_output { CLIPC__STORE, CLIPC__ADD };

/* y = activation(x weight' + bias), or with CLIPC__ADD (no activation then) added to y.
 * n_linears layers of the same shape and gemm side by side: layer l writes columns l * n_out ...
 *   y [rows, n_linears * n_out] of stride y_stride */
CLIPC_PRIVATE void clipc__linear_forward(const struct clipc__compute *compute, float *y, size_t y_stride,
                                         const struct clipc__rows *x, const struct clipc__linear *linears,
                                         size_t n_linears, enum clipc__activation activation,
                                         enum clipc__linear_output output);

/* Layer norm of [rows, cols] on many threads; y may be x. */
CLIPC_PRIVATE void clipc__layer_norm(const struct clipc__compute *compute, float *y, const float *x,
                                     const float *weight, const float *bias, size_t rows, size_t cols, float eps);

/* Sequences lie packed, one behind the other, in one matrix of rows. */
struct clipc__sequences {
  size_t n;            /* sequences */
  const size_t *start; /* [n + 1] first row of each; start[n] = all rows */
  bool causal;         /* position i sees positions 0 .. i */
};

/* out = softmax(q k') v for every sequence and head; q carries the factor 1/sqrt(head_dim) already.
 *   out, q  [n_queries, width]: with pooled NULL a query for every row; else sequence s has one query, row s,
 *           which stands at position pooled[s] of its sequence
 *   k, v    [rows, width], of stride kv_stride;  out may not be q */
CLIPC_PRIVATE void clipc__attention(const struct clipc__compute *compute, float *out, size_t out_stride, const float *q,
                                    size_t q_stride, const float *k, const float *v, size_t kv_stride, size_t n_heads,
                                    size_t head_dim, const struct clipc__sequences *sequences, const size_t *pooled);

#endif
