/* What the files of checkasm share: groups of checks that survive a crash, random numbers that a seed repeats, and
 * memory between unmapped pages. */
#ifndef CLIPC_CHECKASM_H
#define CLIPC_CHECKASM_H

#include "kernels/kernels.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define HALF_ULP 5.9604644775390625e-08 /* 2^-24: most that one f32 rounding adds, relative */

/* ---- groups and checks */

extern bool checkasm_quick; /* fewer and smaller cases, for emulated CPUs */

/* A group: one kernel of one table. */
typedef void check_group(const struct clipc__kernels *kernels, int which);
void run_group(const char *tier, const char *kernel, check_group *group, const struct clipc__kernels *kernels,
               int which);

/* Counts a check; the first that fails in its group is shown, with what about() said last. Returns ok. */
bool check(bool ok, const char *format, ...) __attribute__((format(printf, 2, 3)));
void about(const char *format, ...) __attribute__((format(printf, 1, 2)));
void note(const char *format, ...) __attribute__((format(printf, 1, 2))); /* behind the group's OK */

/* ---- random numbers: the same for a seed, a tier and a kernel, whatever else runs */

uint32_t random_bits(void);
size_t random_below(size_t n); /* 0 .. n - 1 */
size_t random_size(size_t n);  /* 1 .. n */
float random_float(void);      /* -1 .. 1 */
void random_floats(float *x, size_t n, float scale);

/* ---- memory */

/* Memory for one argument, filled with 0xff (as floats NaN). It lies at random right before an unmapped page, right
 * behind one, or between; bytes around it are guarded. Freed by pens_check. */
void *pen(size_t n_bytes, size_t align);
void *pen_copy(const void *data, size_t n_bytes, size_t align);
/* Memory that is unmapped. */
const void *pen_outside(void);
/* Checks the guards of everything that was taken since the last time, and lets go of it. */
void pens_check(void);

/* Checks that what lies between the rows was left alone. */
void check_gaps(const float *y, size_t rows, size_t cols, size_t stride);

void *get(size_t n_bytes); /* plain memory, or the program ends */

/* ---- references in double precision */

double exact_activation(enum clipc__activation activation, double x);
/* What an activation may be off at x. */
double activation_bound(double x);
/* What a sum of k products in f32 may be off, for each unit of the sum of their magnitudes. */
double sum_bound(size_t k);

/* ---- the groups */

check_group check_shape, check_pack, check_prepare, check_product, check_chain; /* which: 0..2 gemm, 3 small */
check_group check_finish, check_layer_norm, check_softmax, check_transpose, check_peak;
check_group check_activation; /* which: enum clipc__activation */
const struct clipc__gemm *gemm_of(const struct clipc__kernels *kernels, int which);

/* ---- the bench */

struct tier_table {
  const char *name;
  struct clipc__kernels kernels;
};
/* Whether no tier before n has the same product: which as above. */
bool is_new_gemm(const struct tier_table *tiers, size_t n, int which);
void bench(const struct tier_table *tiers, size_t n_tiers, const char *only);

#endif
