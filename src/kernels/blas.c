/* Matrix products by OpenBLAS, one chunk at a time: clipc's own threads call it, so a threaded build of
 * it is told to use one. Without CLIPC_BLAS the plain C stays. */
#include "kernels/kernels.h"

#ifndef CLIPC_BLAS
#define CLIPC_BLAS 0
#endif

#if CLIPC_BLAS
#include <cblas.h>

static void gemm_nt_f32_blas(float *y, size_t y_stride, const float *x, size_t x_stride, const float *w,
                             size_t w_stride, size_t m, size_t n, size_t k, bool accumulate) {
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)m, (int)n, (int)k, 1.0f, x, (int)x_stride, w, (int)w_stride,
              accumulate ? 1.0f : 0.0f, y, (int)y_stride);
}

static void gemm_nn_f32_blas(float *y, size_t y_stride, const float *x, size_t x_stride, const float *w,
                             size_t w_stride, size_t m, size_t n, size_t k) {
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)m, (int)n, (int)k, 1.0f, x, (int)x_stride, w,
              (int)w_stride, 0.0f, y, (int)y_stride);
}

void clipc__kernels_blas(struct clipc__kernels *kernels) {
  if (openblas_get_num_threads() != 1) openblas_set_num_threads(1);
  kernels->gemm_nt_f32 = gemm_nt_f32_blas;
  kernels->gemm_nn_f32 = gemm_nn_f32_blas;
}

const char *clipc__kernels_back_end(void) {
  return "OpenBLAS";
}

#else

void clipc__kernels_blas(struct clipc__kernels *kernels) {
  (void)kernels;
}

const char *clipc__kernels_back_end(void) {
  return "plain C";
}

#endif
