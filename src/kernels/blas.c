/* Matrix products by OpenBLAS, one chunk at a time from clipc's own threads. Without CLIPC_BLAS the plain C stays.
 * Only a build of it with POSIX threads may be called from several threads at once (and is told to use one
 * itself). The serial build hands out its buffers without a lock, and the OpenMP build shares one team: two calls at
 * the same time give wrong sums, so these are called by one thread at a time. */
#include "kernels/kernels.h"

#ifndef CLIPC_BLAS
#define CLIPC_BLAS 0
#endif

#if CLIPC_BLAS
#include <cblas.h>
#include <pthread.h>

/* The one lock for what OpenBLAS itself has one of per process. */
static pthread_mutex_t blas_mutex = PTHREAD_MUTEX_INITIALIZER;

static bool blas_is_reentrant(void) { return openblas_get_parallel() == OPENBLAS_THREAD; }

static void blas_sgemm(CBLAS_TRANSPOSE transpose_w, size_t m, size_t n, size_t k, const float *x, size_t x_stride,
                       const float *w, size_t w_stride, float beta, float *y, size_t y_stride) {
  bool lock = !blas_is_reentrant();
  if (lock) pthread_mutex_lock(&blas_mutex);
  cblas_sgemm(CblasRowMajor, CblasNoTrans, transpose_w, (int)m, (int)n, (int)k, 1.0f, x, (int)x_stride, w,
              (int)w_stride, beta, y, (int)y_stride);
  if (lock) pthread_mutex_unlock(&blas_mutex);
}

static void gemm_nt_f32_blas(float *y, size_t y_stride, const float *x, size_t x_stride, const float *w,
                             size_t w_stride, size_t m, size_t n, size_t k, bool accumulate) {
  blas_sgemm(CblasTrans, m, n, k, x, x_stride, w, w_stride, accumulate ? 1.0f : 0.0f, y, y_stride);
}

static void gemm_nn_f32_blas(float *y, size_t y_stride, const float *x, size_t x_stride, const float *w,
                             size_t w_stride, size_t m, size_t n, size_t k) {
  blas_sgemm(CblasNoTrans, m, n, k, x, x_stride, w, w_stride, 0.0f, y, y_stride);
}

void clipc__kernels_blas(struct clipc__kernels *kernels) {
  pthread_mutex_lock(&blas_mutex);
  if (openblas_get_num_threads() != 1) openblas_set_num_threads(1);
  pthread_mutex_unlock(&blas_mutex);
  kernels->gemm_nt_f32 = gemm_nt_f32_blas;
  kernels->gemm_nn_f32 = gemm_nn_f32_blas;
}

const char *clipc__kernels_build(void) { return "f32, products by OpenBLAS"; }

#else

void clipc__kernels_blas(struct clipc__kernels *kernels) { (void)kernels; }

const char *clipc__kernels_build(void) { return "f32, products in plain C"; }

#endif
