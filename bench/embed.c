/* Times one tower on prepared inputs: embed MODEL image|text [BATCH [THREADS [SECONDS [TOKENS]]]]
 * Prints one CSV line: tower,batch,threads,min_ms,median_ms,runs (milliseconds per item).
 * Pixels and ids are random from a fixed seed, so what is measured is the tower alone. */
#include <clipc.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_RUNS 2000

static double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static void *checked(void *memory) {
  if (memory == NULL) {
    fprintf(stderr, "bench: no memory\n");
    exit(2);
  }
  return memory;
}

struct inputs {
  clipc_image *images;
  clipc_text *texts;
  float *pixels;
  int32_t *ids;
};

static void make_inputs(struct inputs *inputs, const clipc_model *model, size_t batch, size_t n_tokens) {
  size_t floats = 3 * (size_t)clipc_image_height(model) * (size_t)clipc_image_width(model);
  uint32_t random = 1;
  inputs->images = checked(calloc(batch, sizeof *inputs->images));
  inputs->texts = checked(calloc(batch, sizeof *inputs->texts));
  inputs->pixels = checked(calloc(batch * floats + 1, sizeof *inputs->pixels));
  inputs->ids = checked(calloc(batch * n_tokens, sizeof *inputs->ids));
  for (size_t i = 0; i < batch * floats; i++, random = random * 1664525u + 1013904223u)
    inputs->pixels[i] = (float)random / 2147483648.0f - 1.0f;
  for (size_t s = 0; s < batch; s++) {
    int32_t *ids = inputs->ids + s * n_tokens;
    for (size_t t = 0; t < n_tokens; t++, random = random * 1664525u + 1013904223u)
      ids[t] = (int32_t)(300 + random % 40000);
    ids[0] = 49406;
    ids[n_tokens - 1] = 49407;
    inputs->images[s] = clipc_image_pixels(inputs->pixels + s * floats);
    inputs->texts[s] = clipc_text_ids(ids, n_tokens);
  }
}

int main(int argc, char **argv) {
  if (argc < 3 || (strcmp(argv[2], "image") && strcmp(argv[2], "text"))) {
    fprintf(stderr, "usage: embed MODEL image|text [BATCH [THREADS [SECONDS [TOKENS]]]]\n");
    return 2;
  }
  int is_image = strcmp(argv[2], "image") == 0;
  size_t batch = argc > 3 ? (size_t)atoi(argv[3]) : 1, n_tokens = argc > 6 ? (size_t)atoi(argv[6]) : 77;
  double seconds = argc > 5 ? atof(argv[5]) : 4;
  clipc_options options;
  clipc_session_options session_options;
  clipc_model *model = NULL;
  clipc_session *session = NULL;
  clipc_error error = {CLIPC_OK, ""};
  memset(&options, 0, sizeof options);
  memset(&session_options, 0, sizeof session_options);
  options.n_threads = argc > 4 ? atoi(argv[4]) : 0;
  options.towers = is_image ? CLIPC_TOWER_IMAGE : CLIPC_TOWER_TEXT;
  session_options.max_batch = (int)batch;
  if (clipc_model_open(&model, argv[1], &options, &error) != CLIPC_OK ||
      clipc_session_open(&session, model, &session_options, &error) != CLIPC_OK) {
    fprintf(stderr, "bench: %s\n", error.message);
    return 2;
  }
  struct inputs inputs;
  make_inputs(&inputs, model, batch, n_tokens);
  float *embeddings = checked(malloc(batch * clipc_embedding_dimension(model) * sizeof *embeddings));
  static double times[MAX_RUNS];
  size_t n = 0;
  for (double end = now_ms() + seconds * 1e3; n < 7 || (now_ms() < end && n < MAX_RUNS); n++) {
    double start = now_ms();
    clipc_status status = is_image ? clipc_embed_images(session, inputs.images, batch, embeddings, NULL, &error)
                                   : clipc_embed_texts(session, inputs.texts, batch, embeddings, NULL, &error);
    times[n] = (now_ms() - start) / (double)batch;
    if (status != CLIPC_OK) {
      fprintf(stderr, "bench: %s\n", error.message);
      return 2;
    }
  }
  qsort(times, n, sizeof *times, by_value);
  printf("%s,%zu,%d,%.3f,%.3f,%zu\n", argv[2], batch, options.n_threads, times[0], times[n / 2], n);
  free(inputs.images), free(inputs.texts), free(inputs.pixels), free(inputs.ids), free(embeddings);
  clipc_session_close(session);
  clipc_model_close(model);
  return 0;
}
