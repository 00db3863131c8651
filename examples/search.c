/* Which pictures fit a sentence best?   search MODEL SENTENCE PICTURE...
 *   cc -Iinclude examples/search.c -Lbuild -lclipc -Wl,-rpath,build -o build/search
 *   build/search models/tiny "a drawing of a yellow fish" PICTURE...
 * All pictures go in one batch; one that cannot be read is reported and left out. */
#include <clipc.h>

#include <stdio.h>
#include <stdlib.h>

struct search {
  clipc_image *images; /* [n] */
  clipc_error *errors; /* [n] */
  float *embeddings;   /* [n, dimension] */
  float *sentence;     /* [dimension] */
  float *scores;       /* [n] */
  size_t *order;       /* [n] */
};

static int search_pictures(struct search *s, clipc_session *session, size_t dimension, const char *sentence,
                           char **paths, size_t n) {
  clipc_error error = {CLIPC_OK, ""};
  if (clipc_embed_text(session, sentence, s->sentence, &error) != CLIPC_OK) {
    fprintf(stderr, "%s\n", error.message);
    return 2;
  }
  for (size_t i = 0; i < n; i++) s->images[i] = clipc_image_path(paths[i]);
  int failed = clipc_embed_images(session, s->images, n, s->embeddings, s->errors, NULL) != CLIPC_OK;
  for (size_t i = 0; i < n; i++) {
    if (s->errors[i].status != CLIPC_OK) fprintf(stderr, "%s\n", s->errors[i].message);
    s->scores[i] =
        s->errors[i].status == CLIPC_OK ? clipc_cosine(s->sentence, s->embeddings + i * dimension, dimension) : -2;
  }
  clipc_top_k(s->order, n, s->scores, n);
  for (size_t i = 0; i < n && s->scores[s->order[i]] > -2; i++)
    printf("%.4f  %s\n", (double)s->scores[s->order[i]], paths[s->order[i]]);
  return failed;
}

int main(int argc, char **argv) {
  clipc_model *model = NULL;
  clipc_session *session = NULL;
  clipc_error error = {CLIPC_OK, ""};
  clipc_session_options options = {0};
  options.max_batch = 16;
  if (argc < 4) {
    fprintf(stderr, "usage: search MODEL SENTENCE PICTURE...\n");
    return 2;
  }
  if (clipc_model_open(&model, argv[1], NULL, &error) != CLIPC_OK ||
      clipc_session_open(&session, model, &options, &error) != CLIPC_OK) {
    fprintf(stderr, "%s\n", error.message);
    clipc_model_close(model);
    return 2;
  }
  size_t n = (size_t)argc - 3, dimension = clipc_embedding_dimension(model);
  struct search s = {
      malloc(n * sizeof *s.images),      calloc(n, sizeof *s.errors), malloc(n * dimension * sizeof(float)),
      malloc(dimension * sizeof(float)), malloc(n * sizeof(float)),   malloc(n * sizeof *s.order)};
  int status = 2;
  if (s.images && s.errors && s.embeddings && s.sentence && s.scores && s.order)
    status = search_pictures(&s, session, dimension, argv[2], argv + 3, n);
  free(s.images), free(s.errors), free(s.embeddings), free(s.sentence), free(s.scores), free(s.order);
  clipc_session_close(session);
  clipc_model_close(model);
  return status;
}
