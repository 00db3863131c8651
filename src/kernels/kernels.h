/* The kernels: what each computes, on one thread, without allocating; and the drivers that share the
 * work of a layer out to threads. ref.c is the normative plain C; blas.c overrides the products.
 * Matrices are row-major; strides are in floats from row to row; outputs must not overlap inputs unless
 * it says so; exactly the stated elements are read and written; no alignment is needed. */
#ifndef CLIPC_KERNELS_H
#define CLIPC_KERNELS_H

#include "base/base.h"

enum clipc__activation {
  CLIPC__NO_ACTIVATION,
  CLIPC__QUICK_GELU,
  CLIPC__GELU_ERF,
  CLIPC__GELU_TANH,
  CLIPC__N_ACTIVATIONS
};

struct clipc__kernels {
  /* y[i,j] = sum over p of x[i,p] * w[j,p], or with accumulate added to y.
   * y [m,n], x [m,k], w [n,k]; m, n, k >= 1 */
  void (*gemm_nt_f32)(float *y, size_t y_stride, const float *x, size_t x_stride, const float *w, size_t w_stride,
                      size_t m, size_t n, size_t k, bool accumulate);
  /* y[i,j] = sum over p of x[i,p] * w[p,j].  y [m,n], x [m,k], w [k,n] */
  void (*gemm_nn_f32)(float *y, size_t y_stride, const float *x, size_t x_stride, const float *w, size_t w_stride,
                      size_t m, size_t n, size_t k);
  /* y[r,i] = weight[i] * (x[r,i] - mean(x[r])) / sqrt(variance(x[r]) + eps) + bias[i], the variance biased.
   * x, y [rows, cols] without gaps; y may be x */
  void (*layer_norm_f32)(float *y, const float *x, const float *weight, const float *bias, size_t rows, size_t cols,
                         float eps);
  /* x[i] = exp(scale * x[i] - max) / sum for i < n; 0 for n <= i < n_all (masked) */
  void (*softmax_f32)(float *x, size_t n, size_t n_all, float scale);
  /* x[i] = activation(x[i]); entry CLIPC__NO_ACTIVATION is NULL */
  void (*activation_f32[CLIPC__N_ACTIVATIONS])(float *x, size_t n);
};

/* Fills the table with the plain C, then with what is better and within the limit. */
CLIPC_PRIVATE void clipc__kernels_init(struct clipc__kernels *kernels, clipc_tier limit);
CLIPC_PRIVATE void clipc__kernels_ref(struct clipc__kernels *kernels);
CLIPC_PRIVATE void clipc__kernels_blas(struct clipc__kernels *kernels);
CLIPC_PRIVATE const char *clipc__kernels_build(void); /* for clipc_build_info */

/* ---- layers on many threads */

struct clipc__linear {
  const float *weight; /* [n_out, n_in] */
  const float *bias;   /* [n_out] or NULL */
  size_t n_out, n_in;
};

struct clipc__compute { /* what a layer runs on */
  const struct clipc__kernels *kernels;
  int n_threads;
};

enum clipc__linear_output { CLIPC__STORE, CLIPC__ADD };

/* y = activation(x weight' + bias), or with CLIPC__ADD (no activation then) added to y.
 * n_linears layers of the same shape side by side: layer l writes columns l * n_out ...
 *   y [rows, n_linears * n_out] of stride y_stride, x [rows, n_in] of stride x_stride */
CLIPC_PRIVATE void clipc__linear_forward(const struct clipc__compute *compute, float *y, size_t y_stride,
                                         const float *x, size_t x_stride, size_t rows,
                                         const struct clipc__linear *linears, size_t n_linears,
                                         enum clipc__activation activation, enum clipc__linear_output output);

/* Layer norm of [rows, cols] on many threads; y may be x. */
CLIPC_PRIVATE void clipc__layer_norm(const struct clipc__compute *compute, float *y, const float *x,
                                     const float *weight, const float *bias, size_t rows, size_t cols, float eps);

/* Sequences lie packed, one behind the other, in one matrix of rows. */
struct clipc__sequences {
  size_t n;            /* sequences */
  const size_t *start; /* [n + 1] first row of each; start[n] = all rows */
  bool causal;         /* position i sees positions 0 .. i */
};

/* out = softmax(q k' / sqrt(head_dim)) v for every sequence and head.
 *   out, q  [n_queries, width]: with pooled NULL a query for every row; else sequence s has one query, row s,
 *           which stands at position pooled[s] of its sequence
 *   k, v    [rows, width], of stride kv_stride
 *   scratch [n_threads, clipc__attention_scratch(longest sequence)]; out may not be q */
CLIPC_PRIVATE void clipc__attention(const struct clipc__compute *compute, float *out, size_t out_stride, const float *q,
                                    size_t q_stride, const float *k, const float *v, size_t kv_stride, size_t n_heads,
                                    size_t head_dim, const struct clipc__sequences *sequences, const size_t *pooled,
                                    float *scratch, size_t longest);
CLIPC_PRIVATE size_t clipc__attention_scratch(size_t longest); /* floats per thread */

#endif
