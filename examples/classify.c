/* Which label fits each picture?   classify MODEL PICTURE...
 *   cc -Iinclude examples/classify.c -Lbuild -lclipc -Wl,-rpath,build -o build/classify && build/classify models/tiny
 * PICTURE... The labels are embedded once, the pictures one by one; one session serves for both. */
#include <clipc.h>

#include <stdio.h>
#include <stdlib.h>

static const char *const labels[] = {"red circle",         "blue square", "three green stars", "five purple circles",
                                     "green checkerboard", "red car",     "yellow fish",       "black letter A"};
static const char *const template = "a photo of a {}";
enum { N_LABELS = sizeof labels / sizeof *labels };

/* Prints the best label of one picture; text [N_LABELS, dimension]. */
static int classify(clipc_session *session, const clipc_model *model, const char *path, const float *text) {
  clipc_error error = {CLIPC_OK, ""};
  float scores[N_LABELS], *image = malloc(clipc_embedding_dimension(model) * sizeof *image);
  size_t best = 0;
  if (image == NULL) return 1;
  if (clipc_embed_image(session, path, image, &error) == CLIPC_OK) {
    clipc_logits(model, scores, image, 1, text, N_LABELS);
    clipc_softmax(scores, scores, N_LABELS);
    clipc_top_k(&best, 1, scores, N_LABELS);
    printf("%5.1f %%  %-20s %s\n", 100.0 * (double)scores[best], labels[best], path);
  } else {
    fprintf(stderr, "%s\n", error.message);
  }
  free(image);
  return error.status != CLIPC_OK;
}

int main(int argc, char **argv) {
  clipc_model *model = NULL;
  clipc_session *session = NULL;
  clipc_error error = {CLIPC_OK, ""};
  float *text = NULL;
  int failed = 0;
  if (argc < 3) {
    fprintf(stderr, "usage: classify MODEL PICTURE...\n");
    return 2;
  }
  if (clipc_model_open(&model, argv[1], NULL, &error) != CLIPC_OK) goto done;
  if (clipc_session_open(&session, model, NULL, &error) != CLIPC_OK) goto done;
  text = malloc(N_LABELS * clipc_embedding_dimension(model) * sizeof *text);
  failed = text == NULL;
  for (size_t i = 0; text != NULL && i < N_LABELS; i++)
    if (clipc_embed_prompts(session, labels[i], &template, 1, text + i * clipc_embedding_dimension(model), &error) !=
        CLIPC_OK)
      goto done;
  for (int i = 2; text != NULL && i < argc; i++) failed |= classify(session, model, argv[i], text);
done:
  if (error.status != CLIPC_OK) fprintf(stderr, "%s\n", error.message);
  free(text);
  clipc_session_close(session);
  clipc_model_close(model);
  return error.status != CLIPC_OK ? 2 : failed;
}
