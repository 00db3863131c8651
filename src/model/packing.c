/* Packs the linear layers of a tower on all threads, a panel at a time: natural f32, or panels of another shape, in;
 * panels out. */
#include "base/threads.h"
#include "model/model.h"

struct packing {
  const struct clipc__pack_job *jobs;
  size_t n_jobs;
};

static const struct clipc__pack_job *job_of_panel(const struct packing *packing, size_t panel) {
  size_t low = 0, high = packing->n_jobs; /* jobs[low].first_panel <= panel */
  while (high - low > 1) {
    size_t middle = low + (high - low) / 2;
    *(packing->jobs[middle].first_panel <= panel ? &low : &high) = middle;
  }
  return &packing->jobs[low];
}

/* What is laid out is written once, here; from then on it is const. */
static void pack_chunk(void *context, size_t panel, int slot) {
  (void)slot;
  const struct clipc__pack_job *job = job_of_panel(context, panel);
  const struct clipc__linear *linear = job->linear;
  if (job->packed != NULL) {
    clipc__repack_panel(linear, panel - job->first_panel, job->packed);
    return;
  }
  clipc__pack_panel(linear->gemm, linear->n_out, linear->n_in, panel - job->first_panel,
                    (void *)(uintptr_t)linear->panels, (float *)(uintptr_t)linear->bias,
                    (float *)(uintptr_t)linear->scale, (int32_t *)(uintptr_t)linear->sum, &job->source);
}

void clipc__pack_linears(struct clipc__pack_job *jobs, size_t n_jobs, int n_threads) {
  size_t n_panels = 0;
  for (size_t i = 0; i < n_jobs; i++) {
    jobs[i].first_panel = n_panels;
    n_panels += clipc__n_panels(jobs[i].linear->gemm, jobs[i].linear->n_out);
  }
  struct packing packing = {jobs, n_jobs};
  clipc__parallel(n_threads, n_panels, pack_chunk, &packing);
}
