/* Packs linear layers on all threads, a panel at a time and as many at once as a step may take: natural f32, or panels
 * of another shape, in; panels out. */
#include "base/threads.h"
#include "model/model.h"

static const struct clipc__pack_job *job_of_panel(const struct clipc__packing *packing, size_t panel) {
  size_t low = 0, high = packing->n_jobs; /* jobs[low].first_panel <= panel */
  while (high - low > 1) {
    size_t middle = low + (high - low) / 2;
    *(packing->jobs[middle].first_panel <= panel ? &low : &high) = middle;
  }
  return &packing->jobs[low];
}

/* What is laid out is written once, here; from then on it is const. */
static void pack_chunk(void *context, size_t chunk, int slot) {
  (void)slot;
  const struct clipc__packing *packing = context;
  size_t panel = packing->next_panel + chunk;
  const struct clipc__pack_job *job = job_of_panel(packing, panel);
  const struct clipc__linear *linear = job->linear;
  if (job->packed != NULL) {
    clipc__repack_panel(linear, panel - job->first_panel, job->packed);
    return;
  }
  clipc__pack_panel(linear->gemm, linear->n_out, linear->n_in, panel - job->first_panel,
                    (void *)(uintptr_t)linear->panels, (float *)(uintptr_t)linear->bias,
                    (float *)(uintptr_t)linear->scale, (int32_t *)(uintptr_t)linear->sum, &job->source);
}

void clipc__packing_begin(struct clipc__packing *packing, struct clipc__pack_job *jobs, size_t n_jobs) {
  *packing = (struct clipc__packing){.jobs = jobs, .n_jobs = n_jobs};
  for (size_t i = 0; i < n_jobs; i++) {
    jobs[i].first_panel = packing->n_panels;
    packing->n_panels += clipc__n_panels(jobs[i].linear->gemm, jobs[i].linear->n_out);
  }
}

bool clipc__packing_step(struct clipc__packing *packing, int n_threads, size_t n_bytes) {
  size_t n = 0;
  for (size_t bytes = 0; packing->next_panel + n < packing->n_panels && bytes < n_bytes; n++) {
    const struct clipc__linear *linear = job_of_panel(packing, packing->next_panel + n)->linear;
    bytes += linear->n_in * linear->gemm->panel_cols * sizeof(float);
  }
  clipc__parallel(n_threads, n, pack_chunk, packing);
  packing->next_panel += n;
  return packing->next_panel == packing->n_panels;
}
