/* Inputs to embeddings, in pieces that keep memory bounded however long the list is.
 * In: cli_inputs. Out: one row and one clipc_error for each; a vector that is not finite is an error. */
#include "cli/batch.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool cli_batch_open(struct cli_batch *batch, clipc_model *model, size_t most, bool raw) {
  *batch = (struct cli_batch){.most = most, .dimension = clipc_embedding_dimension(model)};
  clipc_session_options options = {.max_batch = (int)most, .raw = raw};
  clipc_error error = {0};
  if (clipc_session_open(&batch->session, model, &options, &error) != CLIPC_OK) {
    cli_complain("%s", error.message);
    return false;
  }
  batch->embeddings = cli_allocate(most, batch->dimension * sizeof *batch->embeddings);
  batch->errors = cli_allocate(most, sizeof *batch->errors);
  batch->images = cli_allocate(most, sizeof *batch->images);
  batch->texts = cli_allocate(most, sizeof *batch->texts);
  return true;
}

void cli_batch_close(struct cli_batch *batch) {
  clipc_session_close(batch->session);
  free(batch->embeddings);
  free(batch->errors);
  free(batch->images);
  free(batch->texts);
}

static bool is_finite(const float *row, size_t n) {
  for (size_t i = 0; i < n; i++) {
    if (!isfinite(row[i])) return false;
  }
  return true;
}

/* No row is handed on that is not whole: the call's own failure and numbers that are none go to the items. */
static void settle(struct cli_batch *batch, size_t n, clipc_status status, const clipc_error *error) {
  bool told = status == CLIPC_OK;
  for (size_t i = 0; i < n; i++) told |= batch->errors[i].status != CLIPC_OK;
  for (size_t i = 0; i < n; i++) {
    if (!told) {
      batch->errors[i] = *error;
      batch->errors[i].status = status;
    } else if (batch->errors[i].status == CLIPC_OK &&
               !is_finite(batch->embeddings + i * batch->dimension, batch->dimension)) {
      batch->errors[i].status = CLIPC_E_FORMAT;
      snprintf(batch->errors[i].message, sizeof batch->errors[i].message, "the embedding is not finite");
    }
  }
}

size_t cli_batch_run(struct cli_batch *batch, const struct cli_inputs *inputs, size_t first) {
  const struct cli_input *items = inputs->items + first;
  const bool is_text = items[0].is_text;
  if (items[0].trouble != NULL) {
    batch->errors[0].status = CLIPC_E_IO;
    snprintf(batch->errors[0].message, sizeof batch->errors[0].message, "%s: %s", items[0].text, items[0].trouble);
    return 1;
  }
  size_t n = 0;
  for (; n < batch->most && first + n < inputs->n; n++) {
    if (items[n].is_text != is_text || items[n].trouble != NULL) break;
    batch->images[n] = clipc_image_path(items[n].text);
    batch->texts[n] = clipc_text_utf8(items[n].text, items[n].n_bytes);
    batch->errors[n] = (clipc_error){.status = CLIPC_OK};
  }
  clipc_error error = {0};
  clipc_status status =
      is_text ? clipc_embed_texts(batch->session, batch->texts, n, batch->embeddings, batch->errors, &error)
              : clipc_embed_images(batch->session, batch->images, n, batch->embeddings, batch->errors, &error);
  settle(batch, n, status, &error);
  return n;
}

void cli_complain_of_image(const char *path, const clipc_error *error) {
  if (strncmp(error->message, path, strlen(path)) == 0) { /* most sentences of the library start with the file */
    cli_complain("%s", error->message);
  } else {
    cli_complain("%s: %s", path, error->message);
  }
}

void cli_complain_of(const struct cli_input *input, const clipc_error *error) {
  enum { MOST_COLUMNS = 60 };
  if (!input->is_text) {
    cli_complain_of_image(input->text, error);
    return;
  }
  char *clean = cli_clean(input->text, input->n_bytes);
  size_t n = cli_fit(clean, MOST_COLUMNS);
  cli_complain("text \"%.*s%s\": %s", (int)n, clean, clean[n] != '\0' ? "..." : "", error->message);
  free(clean);
}

int cli_code_after(int code, const clipc_error *error) {
  return code == CLI_FAILED || error->status == CLIPC_E_MODEL ? CLI_FAILED : CLI_ITEM_FAILED;
}
