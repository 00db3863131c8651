/* Five capabilities behind one registry: capabilities MODEL "three green stars" PICTURE.ppm
 *   cc -Iinclude examples/capabilities.c examples/small_engines.c -Lbuild -lclipc -lm -Wl,-rpath,build \
 *      -o build/capabilities
 *   build/capabilities models/tiny "three green stars" stars.ppm
 * A drawer of one's own draws what is said, CLIP says what it sees and how near picture and words are, and a text model
 * of one's own goes on with the words. All of them are tasks on the process's one scheduler. */
#include "small_engines.h"

#include <clipc.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char captions[] =
    "a red circle on white\na blue square on black\nthree green stars in a row\nfive purple circles\n"
    "a yellow heart at the top\na green star next to a red square\nthree yellow circles on black\n";
static const char *const labels[] = {"a red circle", "a blue square", "three green stars", "a yellow heart",
                                     "a purple triangle"};
enum { N_LABELS = sizeof labels / sizeof *labels, PATIENCE_MS = 60000 };

static int complain(const char *what, const clipc_error *error) {
  fprintf(stderr, "%s: %s\n", what, error->message);
  return 1;
}

/* Writes what is drawn as a PPM file. */
static int draw(clipc_registry *registry, const char *prompt, const char *path) {
  clipc_text_to_image drawer;
  clipc_chunk chunk;
  clipc_error error = {CLIPC_OK, ""};
  if (clipc_registry_text_to_image(registry, "drawer", &drawer, &error) != CLIPC_OK) return complain("drawer", &error);
  clipc_pending *drawing = drawer.draw(drawer.self, prompt, NULL);
  clipc_status status = clipc_pending_wait_chunk(drawing, PATIENCE_MS, &chunk, &error);
  if (status == CLIPC_OK && chunk.rgb != NULL) {
    FILE *file = fopen(path, "wb");
    if (file != NULL) {
      fprintf(file, "P6\n%d %d\n255\n", chunk.width, chunk.height);
      fwrite(chunk.rgb, 3, (size_t)chunk.width * (size_t)chunk.height, file);
    }
    if (file == NULL || fclose(file) != 0) {
      status = CLIPC_E_IO;
      snprintf(error.message, sizeof error.message, "%s cannot be written", path);
    }
  }
  clipc_pending_close(drawing);
  return status == CLIPC_OK ? 0 : complain(prompt, &error);
}

/* Both are asked for before either is waited for. */
static int look(clipc_registry *registry, const char *prompt, const char *path) {
  clipc_vision vision;
  clipc_image_embedding images;
  clipc_text_embedding texts;
  clipc_error error = {CLIPC_OK, ""};
  if (clipc_registry_vision(registry, "clip", &vision, &error) != CLIPC_OK ||
      clipc_registry_image_embedding(registry, "clip", &images, &error) != CLIPC_OK ||
      clipc_registry_text_embedding(registry, "clip", &texts, &error) != CLIPC_OK)
    return complain("clip", &error);
  const clipc_input picture = {CLIPC_INPUT_PATH, path, 0};
  clipc_pending *answer =
      vision.classify(vision.self, &picture, labels, N_LABELS, &(clipc_request){.prompt = "a picture of {}"});
  clipc_pending *image = images.embed_image(images.self, path, NULL);
  clipc_pending *text = texts.embed_text(texts.self, prompt, NULL);
  int failed = clipc_pending_wait(answer, PATIENCE_MS, &error) != CLIPC_OK ||
               clipc_pending_wait(image, PATIENCE_MS, &error) != CLIPC_OK ||
               clipc_pending_wait(text, PATIENCE_MS, &error) != CLIPC_OK;
  if (failed) {
    complain(path, &error);
  } else {
    const clipc_result *seen = clipc_pending_result(image), *said = clipc_pending_result(text);
    printf("%s shows %s; cosine to \"%s\": %.3f\n", path, clipc_pending_result(answer)->text, prompt,
           (double)clipc_cosine(seen->embeddings, said->embeddings, seen->dimension));
  }
  clipc_pending_close(answer), clipc_pending_close(image), clipc_pending_close(text);
  return failed;
}

/* Prints words as they come. */
static int go_on(clipc_registry *registry, const char *prompt) {
  clipc_text_to_text writer;
  clipc_chunk chunk;
  clipc_error error = {CLIPC_OK, ""};
  if (clipc_registry_text_to_text(registry, "captions", &writer, &error) != CLIPC_OK)
    return complain("captions", &error);
  clipc_pending *words = writer.generate(writer.self, prompt, &(clipc_request){.seed = 7});
  printf("%s", prompt);
  clipc_status status;
  while ((status = clipc_pending_wait_chunk(words, PATIENCE_MS, &chunk, &error)) == CLIPC_OK && chunk.text != NULL)
    printf("%s", chunk.text), fflush(stdout);
  printf("\n");
  clipc_pending_close(words);
  return status == CLIPC_OK ? 0 : complain("captions", &error);
}

int main(int argc, char **argv) {
  if (argc != 4) return fprintf(stderr, "usage: capabilities MODEL PROMPT PICTURE.ppm\n"), 2;
  const struct small_text text = {captions, sizeof captions - 1, 0};
  const clipc_loader drawer = small_drawer_loader(), writer = small_text_loader(&text);
  clipc_runtime *runtime = NULL;
  clipc_registry *registry = NULL;
  clipc_error error = {CLIPC_OK, ""};
  int failed = 1;
  if (clipc_runtime_shared(&runtime, &error) == CLIPC_OK &&
      clipc_registry_open(&registry, runtime, NULL, &error) == CLIPC_OK &&
      clipc_registry_add_model(registry, "clip", argv[1], NULL, &error) == CLIPC_OK &&
      clipc_registry_add(registry, "drawer", CLIPC_CAN(CLIPC_TEXT_TO_IMAGE), &drawer, &error) == CLIPC_OK &&
      clipc_registry_add(registry, "captions", CLIPC_CAN(CLIPC_TEXT_TO_TEXT), &writer, &error) == CLIPC_OK)
    failed = draw(registry, argv[2], argv[3]) || look(registry, argv[2], argv[3]) || go_on(registry, argv[2]);
  else
    complain("capabilities", &error);
  clipc_registry_close(registry);
  clipc_shutdown();
  return failed;
}
