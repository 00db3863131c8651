/* Reads the goldens of whole models and embeds their inputs. What goes wrong here fails the test that asked. */
#include "golden.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static clipc_reference golden_reference(const char *word) {
  return !strcmp(word, "openai")  ? CLIPC_REFERENCE_OPENAI
         : !strcmp(word, "hf-tv") ? CLIPC_REFERENCE_HF_TV
                                  : CLIPC_REFERENCE_HF;
}

/* "text hf a\u0020line" with JSON-like \xHH escapes for bytes outside the printable ones. */
static char *golden_unescape(const char *text) {
  char *out = malloc(strlen(text) + 1), *at = out;
  unsigned byte;
  for (; out && *text; text++) {
    if (text[0] == '\\' && sscanf(text, "\\x%2x", &byte) == 1) {
      *at++ = (char)byte;
      text += 3;
    } else {
      *at++ = *text;
    }
  }
  if (out) *at = 0;
  return out;
}

static bool golden_start(struct golden_case *c, const char *line) {
  char word[16] = "";
  int used = 0;
  if (sscanf(line, "pixels %d", &c->which) == 1) {
    c->kind = GOLDEN_PIXELS;
  } else if (sscanf(line, "rgb %d %d %15s", &c->width, &c->height, word) == 3) {
    c->kind = GOLDEN_RGB;
    c->reference = golden_reference(word);
  } else if (!strncmp(line, "ids ", 4)) {
    c->kind = GOLDEN_IDS;
    c->ids = calloc(strlen(line), sizeof *c->ids);
    const char *at = line + 4;
    for (char *end; c->ids; at = end) {
      long id = strtol(at, &end, 10);
      if (end == at) break;
      c->ids[c->n_ids++] = (int32_t)id;
    }
  } else if (sscanf(line, "text %15s %n", word, &used) == 1) {
    c->kind = GOLDEN_TEXT;
    c->reference = golden_reference(word);
    c->text = golden_unescape(line + used);
  } else {
    return false;
  }
  return true;
}

static bool golden_read(struct golden *golden, const char *model) {
  char path[512];
  memset(golden, 0, sizeof *golden);
  snprintf(path, sizeof path, "tests/goldens/models/%s/golden.txt", model);
  char *text = test_read_file(path, NULL), *rest = text;
  bool ok = true;
  for (char *line; ok && (line = strsep(&rest, "\n"));) {
    if (!*line || *line == '#' || sscanf(line, "dimension %zu", &golden->dimension) == 1 ||
        sscanf(line, "size %d %d", &golden->height, &golden->width) == 2 ||
        sscanf(line, "logit_scale %f", &golden->logit_scale) == 1 ||
        sscanf(line, "logit_bias %f", &golden->logit_bias) == 1)
      continue;
    if (*line == '=') {
      struct golden_case *c = golden->n_cases ? &golden->cases[golden->n_cases - 1] : NULL;
      ok = c && (c->expected = calloc(golden->dimension, sizeof(float)));
      char *at = line + 1;
      for (size_t i = 0; ok && i < golden->dimension; i++) {
        uint32_t bits = (uint32_t)strtoul(at, &at, 16);
        memcpy(&c->expected[i], &bits, 4);
      }
      continue;
    }
    struct golden_case *grown = realloc(golden->cases, (golden->n_cases + 1) * sizeof *grown);
    if (grown) {
      golden->cases = grown;
      memset(&grown[golden->n_cases], 0, sizeof *grown);
    }
    ok = grown && golden_start(&grown[golden->n_cases++], line);
  }
  free(text);
  if (!ok) fprintf(stderr, "%s: cannot be read\n", path);
  return ok;
}

void golden_free(struct golden *golden) {
  for (size_t i = 0; i < golden->n_cases; i++) {
    free(golden->cases[i].ids);
    free(golden->cases[i].text);
    free(golden->cases[i].expected);
  }
  free(golden->cases);
  memset(golden, 0, sizeof *golden);
}

/* ---- what tests do with them */

clipc_model *golden_open_model(const char *folder, const clipc_options *options) {
  clipc_model *model;
  clipc_error error = {CLIPC_OK, ""};
  if (clipc_model_open(&model, folder, options, &error) != CLIPC_OK) fail_msg("%s", error.message);
  return model;
}

clipc_session *golden_open_session(clipc_model *model, int max_batch, int raw) {
  clipc_session *session;
  clipc_session_options options = {.max_batch = max_batch, .raw = raw};
  assert_int_equal(clipc_session_open(&session, model, &options, NULL), CLIPC_OK);
  return session;
}

struct golden golden_load(const char *name) {
  struct golden golden;
  assert_true(golden_read(&golden, name));
  assert_true(golden.n_cases <= GOLDEN_MOST_CASES);
  return golden;
}

/* Largest difference of normalised vectors; expected need not be normalised. */
double vector_difference(const float *vector, const float *expected, size_t n) {
  double norm = 0, norm_expected = 0, most = 0;
  for (size_t i = 0; i < n; i++) {
    norm += (double)vector[i] * (double)vector[i];
    norm_expected += (double)expected[i] * (double)expected[i];
  }
  for (size_t i = 0; i < n; i++) {
    double d = fabs((double)vector[i] / sqrt(norm) - (double)expected[i] / sqrt(norm_expected));
    if (!(d <= most)) most = d;
  }
  return most;
}

static bool is_image(const struct golden_case *c) { return c->kind == GOLDEN_PIXELS || c->kind == GOLDEN_RGB; }

/* The cases that this model's reference is asked for: pixels and ids always. */
static bool is_asked(const struct golden_case *c, clipc_reference reference) {
  return c->kind == GOLDEN_PIXELS || c->kind == GOLDEN_IDS || c->reference == reference;
}

struct golden_inputs *golden_gather(const struct golden *golden, int tower, clipc_reference reference) {
  struct golden_inputs *in = calloc(1, sizeof *in);
  assert_non_null(in);
  for (size_t i = 0; i < golden->n_cases; i++) {
    const struct golden_case *c = &golden->cases[i];
    if (is_image(c) != (tower == CLIPC_TOWER_IMAGE) || !is_asked(c, reference)) continue;
    if (c->kind == GOLDEN_PIXELS) {
      float *pixels = malloc(3 * (size_t)golden->height * (size_t)golden->width * sizeof *pixels);
      assert_non_null(pixels);
      synthetic_pixels(pixels, c->which, golden->height, golden->width);
      in->images[in->n] = clipc_image_pixels(in->memory[in->n] = pixels);
    } else if (c->kind == GOLDEN_RGB) {
      uint8_t *rgb = malloc(3 * (size_t)c->height * (size_t)c->width);
      assert_non_null(rgb);
      synthetic_rgb(rgb, c->width, c->height);
      in->images[in->n] = clipc_image_rgb(in->memory[in->n] = rgb, c->height, c->width, 3 * (size_t)c->width);
    } else {
      in->texts[in->n] = c->kind == GOLDEN_IDS ? clipc_text_ids(c->ids, c->n_ids) : clipc_text_string(c->text);
    }
    in->cases[in->n++] = i;
  }
  return in;
}

void golden_inputs_free(struct golden_inputs *in) {
  for (size_t i = 0; i < in->n; i++) free(in->memory[i]);
  free(in);
}

/* The vectors of one tower's cases, [n, dimension]; to be freed. */
float *golden_embed(clipc_session *session, const struct golden_inputs *in, int tower, size_t dimension) {
  float *vectors = calloc(in->n * dimension + 1, sizeof *vectors);
  clipc_error error = {CLIPC_OK, ""};
  assert_non_null(vectors);
  clipc_status status = tower == CLIPC_TOWER_IMAGE
                            ? clipc_embed_images(session, in->images, in->n, vectors, NULL, &error)
                            : clipc_embed_texts(session, in->texts, in->n, vectors, NULL, &error);
  if (status != CLIPC_OK) fail_msg("%s", error.message);
  return vectors;
}

double golden_compare(const struct golden *golden, const char *folder, const clipc_options *options, int max_batch,
                      size_t *n_compared) {
  clipc_model *model = golden_open_model(folder, options);
  assert_int_equal(clipc_embedding_dimension(model), golden->dimension);
  clipc_session *session = golden_open_session(model, max_batch, 0);
  double most = 0;
  const int towers[] = {CLIPC_TOWER_IMAGE, CLIPC_TOWER_TEXT};
  for (size_t t = 0; t < 2; t++) {
    struct golden_inputs *in = golden_gather(golden, towers[t], options ? options->reference : CLIPC_REFERENCE_AUTO);
    if (in->n && (clipc_towers(model) & towers[t])) {
      float *vectors = golden_embed(session, in, towers[t], golden->dimension);
      for (size_t i = 0; i < in->n; i++) {
        double d =
            vector_difference(vectors + i * golden->dimension, golden->cases[in->cases[i]].expected, golden->dimension);
        if (!(d <= most)) most = d;
      }
      if (n_compared) *n_compared += in->n;
      free(vectors);
    }
    golden_inputs_free(in);
  }
  clipc_session_close(session);
  clipc_model_close(model);
  return most;
}
