/* Products by OpenBLAS in place of clipc's own, one tile at a time from clipc's own threads. Weights lie as they come,
 * [n_out, n_in], in panels of a hundred rows or so: OpenBLAS packs them itself, at every call.
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

#define BLAS_COLS 128
#define BLAS_ROWS 512

static void product_f32_blas(void *sums, const void *x, size_t x_stride, size_t rows, const void *panel, size_t k,
                             const void *ahead, size_t ahead_bytes) {
  (void)ahead, (void)ahead_bytes;
  bool lock = openblas_get_parallel() != OPENBLAS_THREAD;
  if (lock) pthread_mutex_lock(&blas_mutex);
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)rows, BLAS_COLS, (int)k, 1.0f, x,
              (int)(x_stride / sizeof(float)), panel, (int)k, 0.0f, sums, BLAS_COLS);
  if (lock) pthread_mutex_unlock(&blas_mutex);
}

void clipc__kernels_blas(struct clipc__kernels *kernels) {
  pthread_mutex_lock(&blas_mutex);
  if (openblas_get_num_threads() != 1) openblas_set_num_threads(1);
  pthread_mutex_unlock(&blas_mutex);
  kernels->gemm[CLIPC_PRECISION_F32] = (struct clipc__gemm){.name = "openblas",
                                                            .weights = CLIPC__F32,
                                                            .input = CLIPC__F32,
                                                            .tile_rows = BLAS_ROWS,
                                                            .panel_cols = BLAS_COLS,
                                                            .group = 0,
                                                            .product = product_f32_blas};
}

bool clipc__has_blas(void) { return true; }

#undef BLAS_COLS
#undef BLAS_ROWS

#else

void clipc__kernels_blas(struct clipc__kernels *kernels) { (void)kernels; }

bool clipc__has_blas(void) { return false; }

#endif
