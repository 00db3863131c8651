/* Prompt ensembles: one label said in several ways becomes one vector, as open_clip's zero-shot classifier
 * builds its columns: embed and normalise each prompt, take the mean, normalise. */
#include "model/model.h"

#include <math.h>
#include <string.h>

/* The template with every "{}" replaced by the label, appended to out. */
static bool fill_template(struct clipc__bytes *out, const char *template, const char *label) {
  size_t n_label = strlen(label);
  for (const char *hole; (hole = strstr(template, "{}")) != NULL; template = hole + 2)
    if (!clipc__bytes_append(out, template, (size_t)(hole - template)) || !clipc__bytes_append(out, label, n_label))
      return false;
  return clipc__bytes_append(out, template, strlen(template));
}

static void add_normalized(double *sum, const float *x, size_t n) {
  double squares = 0;
  for (size_t i = 0; i < n; i++) squares += (double)x[i] * (double)x[i];
  double norm = squares > 1e-24 ? sqrt(squares) : 1e-12;
  for (size_t i = 0; i < n; i++) sum[i] += (double)x[i] / norm;
}

/* What an ensemble needs while it is computed. */
struct prompt_buffers {
  struct clipc__bytes bytes; /* the prompts, one behind the other */
  clipc_text *texts;         /* [n_templates] */
  float *embeddings;         /* [n_templates, dimension] */
  double *sum;               /* [dimension] */
};

static clipc_status fill_templates(struct prompt_buffers *buffers, const char *label, const char *const *templates,
                                   size_t n_templates, clipc_error *error) {
  for (size_t t = 0; t < n_templates; t++) {
    if (templates[t] == NULL) return clipc__fail(error, CLIPC_E_INVALID, "template %zu is NULL", t);
    size_t begin = buffers->bytes.n_bytes;
    if (!fill_template(&buffers->bytes, templates[t], label)) return clipc__no_memory(error, "a prompt");
    buffers->texts[t] = (clipc_text){.n_bytes = buffers->bytes.n_bytes - begin};
  }
  size_t offset = 0; /* the bytes have stopped moving: now they can be pointed to */
  for (size_t t = 0; t < n_templates; offset += buffers->texts[t++].n_bytes)
    buffers->texts[t].utf8 = buffers->bytes.data ? (const char *)buffers->bytes.data + offset : "";
  return CLIPC_OK;
}

static clipc_status embed_prompts(clipc_session *session, struct prompt_buffers *buffers, const char *label,
                                  const char *const *templates, size_t n_templates, float *embedding, size_t dimension,
                                  clipc_error *error) {
  if (!buffers->texts || !buffers->embeddings || !buffers->sum) return clipc__no_memory(error, "a prompt ensemble");
  clipc_status status = fill_templates(buffers, label, templates, n_templates, error);
  if (status == CLIPC_OK)
    status = clipc_embed_texts(session, buffers->texts, n_templates, buffers->embeddings, NULL, error);
  if (status != CLIPC_OK) return status;
  for (size_t t = 0; t < n_templates; t++) add_normalized(buffers->sum, buffers->embeddings + t * dimension, dimension);
  double squares = 0;
  for (size_t i = 0; i < dimension; i++) squares += buffers->sum[i] * buffers->sum[i];
  double norm = squares > 0 ? sqrt(squares) : 1;
  for (size_t i = 0; i < dimension; i++) embedding[i] = (float)(buffers->sum[i] / norm);
  return CLIPC_OK;
}

clipc_status clipc_embed_prompts(clipc_session *session, const char *label, const char *const *templates,
                                 size_t n_templates, float *embedding, clipc_error *error) {
  if (session == NULL || label == NULL || templates == NULL || embedding == NULL)
    return clipc__fail(error, CLIPC_E_INVALID, "clipc_embed_prompts: %s is NULL",
                       !session     ? "session"
                       : !label     ? "label"
                       : !templates ? "templates"
                                    : "embedding");
  if (n_templates == 0) return clipc__fail(error, CLIPC_E_INVALID, "clipc_embed_prompts: no template");
  const clipc_model *model = clipc__session_model(session);
  const clipc_allocator *allocator = &model->allocator;
  size_t dimension = clipc_embedding_dimension(model);
  struct prompt_buffers buffers = {
      .bytes = {.allocator = *allocator},
      .texts = clipc__alloc(allocator, n_templates, sizeof *buffers.texts),
      .embeddings = clipc__alloc(allocator, n_templates, dimension * sizeof *buffers.embeddings),
      .sum = clipc__alloc_zeroed(allocator, dimension, sizeof *buffers.sum),
  };
  clipc_status status = embed_prompts(session, &buffers, label, templates, n_templates, embedding, dimension, error);
  clipc__bytes_free(&buffers.bytes);
  clipc__free(allocator, buffers.texts);
  clipc__free(allocator, buffers.embeddings);
  clipc__free(allocator, buffers.sum);
  return status;
}
