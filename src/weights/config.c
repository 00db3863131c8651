/* A folder -> the network it holds and how its inputs are prepared (out: clipc__config).
 * In: config.json, else open_clip_config.json, else OpenAI's tensors; processor_config.json, preprocessor_config.json.
 * Which files of a folder that has both (most LAION repositories): Hugging Face's, if config.json says clip and
 * model.safetensors or its index is there; but reference openai takes open_clip's when open_clip's own weights are
 * there too, and where only its config is, at least its preprocess_cfg and text cleaning. Other kinds of config.json
 * (timm's) leave the folder to open_clip.
 * A reference on a folder of the other family: openai over Hugging Face's pools at the largest id and cleans as
 * SimpleTokenizer; hf over open_clip's keeps the pooling and takes preprocessor_config.json if there is one. */
#include "weights/weights.h"

#include <cjson/cJSON.h>

#include <string.h>

/* One folder being read; the JSON trees live until the end. */
struct config_reader {
  const struct clipc__store *store;
  const clipc_options *options;
  clipc_error *error;
  clipc_status status;
  struct {
    char *path;
    cJSON *json; /* NULL when the folder has no such file */
  } hf, open_clip, processor, preprocessor, inferred;
};

static void config_load(struct config_reader *reader, char **path, cJSON **json, const char *name) {
  if (reader->status != CLIPC_OK) return;
  *path = clipc__store_path(reader->store, name, &reader->options->allocator);
  if (*path == NULL)
    reader->status = clipc__no_memory(reader->error, name);
  else if (clipc__store_has(reader->store, *path))
    reader->status = clipc__fields_load(json, reader->store, *path, reader->options, reader->error);
}

static void config_release(struct config_reader *reader) {
  char *paths[] = {reader->hf.path, reader->open_clip.path, reader->processor.path, reader->preprocessor.path,
                   reader->inferred.path};
  cJSON *trees[] = {reader->hf.json, reader->open_clip.json, reader->processor.json, reader->preprocessor.json,
                    reader->inferred.json};
  for (size_t i = 0; i < sizeof trees / sizeof *trees; i++) {
    clipc__free(&reader->options->allocator, paths[i]);
    cJSON_Delete(trees[i]);
  }
}

static struct clipc__fields config_fields(struct config_reader *reader, const char *path, const cJSON *json,
                                          bool nulls) {
  return (struct clipc__fields){.object = json,
                                .file = path,
                                .path = "",
                                .null_is_absent = nulls,
                                .status = &reader->status,
                                .error = reader->error};
}

/* Whether the folder has one of the files. */
static bool config_has(struct config_reader *reader, const char *a, const char *b) {
  const char *names[] = {a, b};
  bool found = false;
  for (size_t i = 0; i < 2 && !found && reader->status == CLIPC_OK; i++) {
    char *path = clipc__store_path(reader->store, names[i], &reader->options->allocator);
    if (path == NULL) reader->status = clipc__no_memory(reader->error, names[i]);
    found = path && clipc__store_has(reader->store, path);
    clipc__free(&reader->options->allocator, path);
  }
  return found;
}

static bool config_choose_open_clip(struct config_reader *reader) {
  if (reader->hf.json == NULL || reader->open_clip.json == NULL) return reader->hf.json == NULL;
  struct clipc__fields fields = config_fields(reader, reader->hf.path, reader->hf.json, false);
  const cJSON *type = clipc__field(&fields, "model_type");
  if (!cJSON_IsString(type) || strncmp(type->valuestring, "clip", 4) != 0) return true;
  if (!config_has(reader, "model.safetensors", "model.safetensors.index.json")) return true;
  return reader->options->reference == CLIPC_REFERENCE_OPENAI &&
         config_has(reader, "open_clip_model.safetensors", "open_clip_pytorch_model.safetensors");
}

/* The image processor's fields: of 5.x's processor_config.json before preprocessor_config.json's, as transformers. */
static struct clipc__fields config_processor(struct config_reader *reader) {
  struct clipc__fields outer = config_fields(reader, reader->processor.path, reader->processor.json, false);
  if (clipc__field_set(&outer, "image_processor"))
    return clipc__field_object(&outer, "image_processor", "image_processor.");
  return config_fields(reader, reader->preprocessor.path, reader->preprocessor.json, false);
}

static void config_preprocessing(struct clipc__config *config, struct config_reader *reader) {
  if (!config->vision.present) return;
  config_load(reader, &reader->processor.path, &reader->processor.json, "processor_config.json");
  config_load(reader, &reader->preprocessor.path, &reader->preprocessor.json, "preprocessor_config.json");
  if (reader->status != CLIPC_OK) return;
  config->preprocessing.reference = config->reference;
  config->preprocessing.alpha = reader->options->alpha;
  config->preprocessing.apply_exif = reader->options->apply_exif;
  bool openai = config->reference == CLIPC_REFERENCE_OPENAI;
  struct clipc__fields processor = config_processor(reader);
  if (reader->open_clip.json && (openai || (config->open_clip && processor.object == NULL))) {
    struct clipc__fields top = config_fields(reader, reader->open_clip.path, reader->open_clip.json, true);
    struct clipc__fields cfg = clipc__field_object(&top, "preprocess_cfg", "preprocess_cfg.");
    clipc__preprocess_open_clip(config, &cfg);
  } else if (processor.object) {
    clipc__preprocess_hf(config, &processor);
  } else { /* CLIP's defaults at the tower's size are open_clip's too */
    struct clipc__fields empty = config_fields(reader, reader->preprocessor.path, NULL, true);
    clipc__preprocess_open_clip(config, &empty);
  }
}

static void config_text_rules(struct clipc__config *config, struct config_reader *reader) {
  bool openai = config->reference == CLIPC_REFERENCE_OPENAI;
  config->text_cleaning = openai ? CLIPC__TEXT_LOWER : CLIPC__TEXT_HF;
  if (!config->text.present || !openai) return;
  if (!config->open_clip) config->text.pooling = CLIPC__POOL_ARGMAX;
  if (reader->open_clip.json == NULL) return;
  struct clipc__fields top = config_fields(reader, reader->open_clip.path, reader->open_clip.json, true);
  struct clipc__fields model = clipc__field_object(&top, "model_cfg", "model_cfg.");
  struct clipc__fields text = clipc__field_object(&model, "text_cfg", "model_cfg.text_cfg.");
  config->text_cleaning = clipc__config_cleaning(&text);
}

/* OpenAI's checkpoints, saved as safetensors, come without a config. A packed file keeps what was inferred. */
static void config_without_file(struct clipc__config *config, struct config_reader *reader, int towers) {
  const char *folder = reader->store->path;
  if (reader->store->packed) config_load(reader, &reader->inferred.path, &reader->inferred.json, CLIPC__INFERRED_FILE);
  if (reader->inferred.json != NULL) {
    struct clipc__fields model = config_fields(reader, reader->inferred.path, reader->inferred.json, false);
    clipc__config_open_clip(config, &model, towers);
    return;
  }
  if (reader->store->packed || !config_has(reader, "model.safetensors", "open_clip_model.safetensors")) {
    if (reader->status == CLIPC_OK)
      reader->status =
          clipc__fail(reader->error, CLIPC_E_IO, "%s: has no config.json and no open_clip_config.json", folder);
    return;
  }
  struct clipc__tensors tensors;
  reader->status = clipc__tensors_open(&tensors, folder, true, reader->options, reader->error);
  if (reader->status != CLIPC_OK) return;
  reader->status = clipc__config_infer(config, &tensors, folder, towers, reader->error);
  clipc__tensors_close(&tensors);
}

static void config_network(struct clipc__config *config, struct config_reader *reader) {
  int towers = reader->options->towers & (CLIPC_TOWER_IMAGE | CLIPC_TOWER_TEXT);
  if (reader->hf.json == NULL && reader->open_clip.json == NULL) {
    config_without_file(config, reader, towers);
    return;
  }
  if (!config->open_clip) {
    struct clipc__fields top = config_fields(reader, reader->hf.path, reader->hf.json, false);
    clipc__config_hf(config, &top, towers);
    return;
  }
  struct clipc__fields top = config_fields(reader, reader->open_clip.path, reader->open_clip.json, true);
  if (!clipc__field_set(&top, "model_cfg")) clipc__field_refuse(&top, CLIPC_E_FORMAT, "model_cfg", "it is needed");
  struct clipc__fields model = clipc__field_object(&top, "model_cfg", "model_cfg.");
  clipc__config_open_clip(config, &model, towers);
}

clipc_status clipc__config_read(struct clipc__config *config, const struct clipc__store *store,
                                const clipc_options *options, clipc_error *error) {
  struct config_reader reader = {.store = store, .options = options, .error = error};
  struct clipc__config read = {0};
  config_load(&reader, &reader.hf.path, &reader.hf.json, "config.json");
  config_load(&reader, &reader.open_clip.path, &reader.open_clip.json, "open_clip_config.json");
  if (reader.status == CLIPC_OK) read.open_clip = config_choose_open_clip(&reader);
  read.reference = options->reference != CLIPC_REFERENCE_AUTO ? options->reference
                   : read.open_clip                           ? CLIPC_REFERENCE_OPENAI
                                                              : CLIPC_REFERENCE_HF;
  if (reader.status == CLIPC_OK) config_network(&read, &reader);
  if (reader.status == CLIPC_OK) config_text_rules(&read, &reader);
  if (reader.status == CLIPC_OK) config_preprocessing(&read, &reader);
  config_release(&reader);
  if (reader.status == CLIPC_OK) *config = read;
  return reader.status;
}
