/* The five capabilities of a registry as tables of functions: each makes a request and hands it to its pool. */
#include "async/pool.h"

/* The request that `more` asks for, of one capability and these inputs. */
static clipc_request table_request(clipc_capability capability, const clipc_input *inputs, size_t n,
                                   const clipc_request *more) {
  clipc_request request = more ? *more : (clipc_request){0};
  request.capability = capability;
  request.inputs = inputs;
  request.n_inputs = n;
  request.labels = NULL;
  request.n_labels = 0;
  request.is_batch = 0;
  if (capability != CLIPC_VISION) request.prompt = NULL;
  return request;
}

static clipc_pending *submit_one(void *self, clipc_capability capability, clipc_input input,
                                 const clipc_request *more) {
  clipc_request request = table_request(capability, &input, 1, more);
  return clipc_pool_submit(self, &request);
}

static size_t table_dimension(void *self) { return atomic_load(&((clipc_pool *)self)->entry->dimension); }

/* Written once, before the dimension is: the number itself never changes. */
static const size_t *table_dimensions(void *self, size_t *n) {
  const struct clipc__entry *entry = ((clipc_pool *)self)->entry;
  bool known = atomic_load(&entry->dimension) != 0;
  if (n) *n = known ? 1 : 0;
  return known ? &entry->dimensions : NULL;
}

/* ---- pictures to vectors */

static clipc_pending *table_image(void *self, const char *path, const clipc_request *more) {
  return submit_one(self, CLIPC_IMAGE_EMBEDDING, (clipc_input){CLIPC_INPUT_PATH, path, 0}, more);
}

static clipc_pending *table_image_url(void *self, const char *url, const clipc_request *more) {
  return submit_one(self, CLIPC_IMAGE_EMBEDDING, (clipc_input){CLIPC_INPUT_URL, url, 0}, more);
}

static clipc_pending *table_image_base64(void *self, const char *base64, size_t n_bytes, const clipc_request *more) {
  if (base64 && n_bytes == 0) base64 = ""; /* no bytes, rather than a string of unknown length */
  return submit_one(self, CLIPC_IMAGE_EMBEDDING, (clipc_input){CLIPC_INPUT_BASE64, base64, n_bytes}, more);
}

static clipc_pending *table_images(void *self, const clipc_input *inputs, size_t n, const clipc_request *more) {
  clipc_request request = table_request(CLIPC_IMAGE_EMBEDDING, inputs, n, more);
  request.is_batch = 1;
  return clipc_pool_submit(self, &request);
}

/* ---- texts to vectors */

static clipc_pending *table_text(void *self, const char *text, const clipc_request *more) {
  return submit_one(self, CLIPC_TEXT_EMBEDDING, (clipc_input){CLIPC_INPUT_TEXT, text, 0}, more);
}

static clipc_pending *table_texts(void *self, const char *const *texts, size_t n, const clipc_request *more) {
  clipc_pool *pool = self;
  clipc_input *inputs = texts ? clipc__alloc(&pool->registry->allocator, n, sizeof *inputs) : NULL;
  for (size_t i = 0; inputs && i < n; i++) inputs[i] = (clipc_input){CLIPC_INPUT_TEXT, texts[i], 0};
  if (texts && inputs == NULL) return NULL;
  clipc_request request = table_request(CLIPC_TEXT_EMBEDDING, inputs, n, more);
  request.is_batch = 1;
  clipc_pending *pending = clipc_pool_submit(pool, &request);
  clipc__free(&pool->registry->allocator, inputs);
  return pending;
}

/* ---- pictures to text, text to text, text to pictures */

static clipc_pending *table_describe(void *self, const clipc_input *image, const char *prompt,
                                     const clipc_request *more) {
  clipc_request request = table_request(CLIPC_VISION, image, 1, more);
  request.prompt = prompt;
  return clipc_pool_submit(self, &request);
}

static clipc_pending *table_classify(void *self, const clipc_input *image, const char *const *labels, size_t n_labels,
                                     const clipc_request *more) {
  clipc_request request = table_request(CLIPC_VISION, image, 1, more);
  request.labels = labels;
  request.n_labels = n_labels;
  return clipc_pool_submit(self, &request);
}

static clipc_pending *table_generate(void *self, const char *prompt, const clipc_request *more) {
  clipc_request request = table_request(CLIPC_TEXT_TO_TEXT, NULL, 0, more);
  request.prompt = prompt;
  return clipc_pool_submit(self, &request);
}

static clipc_pending *table_draw(void *self, const char *prompt, const clipc_request *more) {
  clipc_request request = table_request(CLIPC_TEXT_TO_IMAGE, NULL, 0, more);
  request.prompt = prompt;
  return clipc_pool_submit(self, &request);
}

/* ---- the tables */

static clipc_status table_pool(clipc_pool **pool, clipc_registry *registry, const char *key,
                               clipc_capability capability, const void *table, clipc_error *error) {
  if (registry == NULL || key == NULL || table == NULL)
    return clipc__fail(error, CLIPC_E_INVALID, "the %s is NULL",
                       registry == NULL ? "registry"
                       : key == NULL    ? "key"
                                        : "table");
  *pool = clipc_registry_pool(registry, key, capability);
  if (*pool) return CLIPC_OK;
  return clipc__fail(error, CLIPC_E_NO_WORKERS, "%s: no model of this name is for %s", key,
                     clipc_capability_name(capability));
}

clipc_status clipc_registry_image_embedding(clipc_registry *registry, const char *key, clipc_image_embedding *table,
                                            clipc_error *error) {
  clipc_pool *pool;
  clipc_status status = table_pool(&pool, registry, key, CLIPC_IMAGE_EMBEDDING, table, error);
  if (status == CLIPC_OK)
    *table = (clipc_image_embedding){pool,         table_image,     table_image_url, table_image_base64,
                                     table_images, table_dimension, table_dimensions};
  return status;
}

clipc_status clipc_registry_text_embedding(clipc_registry *registry, const char *key, clipc_text_embedding *table,
                                           clipc_error *error) {
  clipc_pool *pool;
  clipc_status status = table_pool(&pool, registry, key, CLIPC_TEXT_EMBEDDING, table, error);
  if (status == CLIPC_OK)
    *table = (clipc_text_embedding){pool, table_text, table_texts, table_dimension, table_dimensions};
  return status;
}

clipc_status clipc_registry_vision(clipc_registry *registry, const char *key, clipc_vision *table, clipc_error *error) {
  clipc_pool *pool;
  clipc_status status = table_pool(&pool, registry, key, CLIPC_VISION, table, error);
  if (status == CLIPC_OK) *table = (clipc_vision){pool, table_describe, table_classify};
  return status;
}

clipc_status clipc_registry_text_to_text(clipc_registry *registry, const char *key, clipc_text_to_text *table,
                                         clipc_error *error) {
  clipc_pool *pool;
  clipc_status status = table_pool(&pool, registry, key, CLIPC_TEXT_TO_TEXT, table, error);
  if (status == CLIPC_OK) *table = (clipc_text_to_text){pool, table_generate};
  return status;
}

clipc_status clipc_registry_text_to_image(clipc_registry *registry, const char *key, clipc_text_to_image *table,
                                          clipc_error *error) {
  clipc_pool *pool;
  clipc_status status = table_pool(&pool, registry, key, CLIPC_TEXT_TO_IMAGE, table, error);
  if (status == CLIPC_OK) *table = (clipc_text_to_image){pool, table_draw};
  return status;
}
