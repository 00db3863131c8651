/* Products by OpenBLAS in place of clipc's own, one tile at a time from clipc's own threads. Weights lie as they come,
 * [n_out, n_in], in panels of a hundred rows or so: OpenBLAS packs them itself, at every call.
 * The library is loaded when it is first asked for: linking it would cost every program its start (it makes threads
 * as it is loaded), and most never call it.
 * Only a build of it with POSIX threads may be called from several threads at once (and is told to use one
 * itself). The serial build hands out its buffers without a lock, and the OpenMP build shares one team: two calls at
 * the same time give wrong sums, so these are called by one thread at a time. */
#include "kernels/kernels.h"

#ifndef CLIPC_BLAS
#define CLIPC_BLAS 0
#endif

#if CLIPC_BLAS
#include <dlfcn.h>
#include <pthread.h>

#define BLAS_COLS 128
#define BLAS_ROWS 512
#define BLAS_ROW_MAJOR 101 /* of CBLAS's C interface */
#define BLAS_NO_TRANS 111
#define BLAS_TRANS 112
#define BLAS_POSIX_THREADS 1 /* what openblas_get_parallel says */

/* What of OpenBLAS there is one per process: the library itself, and the lock it may need. */
static struct {
  pthread_once_t once;
  pthread_mutex_t mutex;
  void (*sgemm)(int order, int trans_a, int trans_b, int m, int n, int k, float alpha, const float *a, int lda,
                const float *b, int ldb, float beta, float *c, int ldc);
  bool reentrant;
} blas = {.once = PTHREAD_ONCE_INIT, .mutex = PTHREAD_MUTEX_INITIALIZER};

static void blas_load(void) {
  static const char *const names[] = {"libopenblas.so.0", "libopenblas.so", "libopenblas.dylib"};
  void *library = NULL;
  for (size_t i = 0; library == NULL && i < sizeof names / sizeof *names; i++)
    library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) return;
  int (*get_parallel)(void);
  void (*set_num_threads)(int);
  *(void **)&get_parallel = dlsym(library, "openblas_get_parallel");
  *(void **)&set_num_threads = dlsym(library, "openblas_set_num_threads");
  if (get_parallel == NULL || set_num_threads == NULL) return;
  set_num_threads(1);
  blas.reentrant = get_parallel() == BLAS_POSIX_THREADS;
  *(void **)&blas.sgemm = dlsym(library, "cblas_sgemm");
}

static void product_f32_blas(void *sums, const void *x, size_t x_stride, size_t rows, const void *panel, size_t k,
                             const void *ahead, size_t ahead_bytes) {
  (void)ahead, (void)ahead_bytes;
  if (!blas.reentrant) pthread_mutex_lock(&blas.mutex);
  blas.sgemm(BLAS_ROW_MAJOR, BLAS_NO_TRANS, BLAS_TRANS, (int)rows, BLAS_COLS, (int)k, 1.0f, x,
             (int)(x_stride / sizeof(float)), panel, (int)k, 0.0f, sums, BLAS_COLS);
  if (!blas.reentrant) pthread_mutex_unlock(&blas.mutex);
}

bool clipc__has_blas(void) {
  pthread_once(&blas.once, blas_load);
  return blas.sgemm != NULL;
}

void clipc__kernels_blas(struct clipc__kernels *kernels) {
  if (!clipc__has_blas()) return;
  kernels->gemm[CLIPC_PRECISION_F32] = (struct clipc__gemm){.name = "openblas",
                                                            .weights = CLIPC__F32,
                                                            .input = CLIPC__F32,
                                                            .tile_rows = BLAS_ROWS,
                                                            .panel_cols = BLAS_COLS,
                                                            .group = 0,
                                                            .product = product_f32_blas};
}

#undef BLAS_COLS
#undef BLAS_ROWS
#undef BLAS_ROW_MAJOR
#undef BLAS_NO_TRANS
#undef BLAS_TRANS
#undef BLAS_POSIX_THREADS

#else

void clipc__kernels_blas(struct clipc__kernels *kernels) { (void)kernels; }

bool clipc__has_blas(void) { return false; }

#endif
