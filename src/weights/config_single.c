/* The config.json of one tower out of that of both.
 * In: a Hugging Face folder's config.json. Out: the text of one for CLIPVisionModelWithProjection or
 * CLIPTextModelWithProjection: the tower's sub-config at the top level, with projection_dim from above.
 * Must match: transformers, which resolves text_config_dict and vision_config_dict before text_config and vision_config
 * (config_hf.c). */
#include "weights/weights.h"

#include <cjson/cJSON.h>

#include <string.h>

static bool single_put(cJSON *object, const char *name, cJSON *item) {
  cJSON_DeleteItemFromObjectCaseSensitive(object, name);
  if (item != NULL && cJSON_AddItemToObject(object, name, item)) return true;
  cJSON_Delete(item);
  return false;
}

/* The sub-config with what it needs to stand alone; NULL when there is no memory. */
static char *single_text(const struct clipc__fields *top, int tower) {
  bool image = tower == CLIPC_TOWER_IMAGE;
  const char *class_name = image ? "CLIPVisionModelWithProjection" : "CLIPTextModelWithProjection";
  const char *old = image ? "vision_config_dict" : "text_config_dict", *plain = image ? "vision_config" : "text_config";
  const cJSON *inner = clipc__field(top, clipc__field_set(top, old) ? old : plain);
  const cJSON *dimension = clipc__field(top, "projection_dim");
  cJSON *config = cJSON_IsObject(inner) ? cJSON_Duplicate(inner, 1) : cJSON_CreateObject();
  cJSON *classes = cJSON_CreateStringArray(&class_name, 1);
  bool done = config && single_put(config, "architectures", classes);
  if (config == NULL) cJSON_Delete(classes);
  done = done && single_put(config, "model_type", cJSON_CreateString(image ? "clip_vision_model" : "clip_text_model"));
  done = done && single_put(config, "projection_dim",
                            cJSON_IsNumber(dimension) ? cJSON_Duplicate(dimension, 1) : cJSON_CreateNumber(512));
  char *text = done ? cJSON_Print(config) : NULL;
  cJSON_Delete(config);
  return text;
}

clipc_status clipc__config_single(struct clipc__bytes *out, const struct clipc__store *store, int tower,
                                  const clipc_options *options, clipc_error *error) {
  cJSON *json = NULL;
  clipc_status status = CLIPC_OK;
  char *path = clipc__store_path(store, "config.json", &options->allocator);
  if (path == NULL) return clipc__no_memory(error, "config.json");
  status = clipc__fields_load(&json, store, path, options, error);
  struct clipc__fields top = {.object = json, .file = path, .path = "", .status = &status, .error = error};
  char *text = status == CLIPC_OK ? single_text(&top, tower) : NULL;
  if (status == CLIPC_OK && (text == NULL || !clipc__bytes_append(out, text, strlen(text))))
    status = clipc__no_memory(error, path);
  cJSON_free(text);
  cJSON_Delete(json);
  clipc__free(&options->allocator, path);
  return status;
}
