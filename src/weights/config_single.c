/* The config.json of one tower out of that of both.
 * In: a Hugging Face folder's config.json. Out: the text of one for CLIPVisionModelWithProjection or
 * CLIPTextModelWithProjection: the members of the tower's sub-config, with projection_dim from above. Members are
 * copied as they are written: "1.0" must not become "1", which transformers refuses. Must match: transformers, which
 * resolves text_config_dict and vision_config_dict before text_config and vision_config (config_hf.c). */
#include "weights/weights.h"

#include "base/json.h"

#include <string.h>

struct single_value {
  const uint8_t *text; /* NULL: not there, or null */
  size_t n_bytes;
};

struct single_member {
  char key[32]; /* "" where it is longer: none that is looked for */
  struct single_value whole, value;
};

/* The next member of an object whose bracket is taken. False at the end or in trouble. */
static bool single_next(struct clipc__json *json, size_t *n, struct single_member *member) {
  if (!clipc__json_more(json, '}', n)) return false;
  uint8_t first = clipc__json_peek(json); /* which passes over white space */
  size_t begin = json->at;
  if (first == 0 || !clipc__json_key(json)) return false;
  *member = (struct single_member){.key = ""};
  if (json->text.n_bytes > 0 && json->text.n_bytes < sizeof member->key)
    memcpy(member->key, json->text.data, json->text.n_bytes);
  first = clipc__json_peek(json);
  size_t value_begin = json->at;
  if (!clipc__json_skip(json, 1)) return false;
  member->whole = (struct single_value){json->data + begin, json->at - begin};
  member->value = (struct single_value){first == 'n' ? NULL : json->data + value_begin, json->at - value_begin};
  return true;
}

static bool single_copy(struct clipc__bytes *out, const char *before, const struct single_value *value) {
  return clipc__bytes_append(out, before, strlen(before)) && clipc__bytes_append(out, value->text, value->n_bytes);
}

/* The sub-config's members but for those that are written anew. */
static bool single_members(struct clipc__bytes *out, struct clipc__json *json) {
  struct single_member member;
  size_t n = 0;
  if (!clipc__json_open(json, '{')) return false;
  while (single_next(json, &n, &member)) {
    bool anew = strcmp(member.key, "architectures") == 0 || strcmp(member.key, "model_type") == 0 ||
                strcmp(member.key, "projection_dim") == 0;
    if (!anew && !single_copy(out, ",\n  ", &member.whole)) json->no_memory = true;
  }
  return json->trouble == NULL && !json->no_memory;
}

/* The values that count of the top level; of a key that comes twice the last. */
static bool single_look(struct clipc__json *json, bool image, struct single_value *config,
                        struct single_value *dimension) {
  struct single_member member;
  struct single_value old = {NULL, 0};
  size_t n = 0;
  if (!clipc__json_open(json, '{')) return false;
  while (single_next(json, &n, &member)) {
    if (strcmp(member.key, image ? "vision_config" : "text_config") == 0) *config = member.value;
    if (strcmp(member.key, image ? "vision_config_dict" : "text_config_dict") == 0) old = member.value;
    if (strcmp(member.key, "projection_dim") == 0) *dimension = member.value;
  }
  if (old.text != NULL) *config = old;
  return json->trouble == NULL;
}

static bool single_write(struct clipc__bytes *out, struct clipc__json *json, bool image) {
  static const struct single_value usual = {(const uint8_t *)"512", 3};
  struct single_value config = {NULL, 0}, dimension = {NULL, 0};
  if (!single_look(json, image, &config, &dimension)) return false;
  if (dimension.text == NULL) dimension = usual;
  const char *head = image ? "{\n  \"architectures\": [\"CLIPVisionModelWithProjection\"],\n"
                             "  \"model_type\": \"clip_vision_model\",\n  \"projection_dim\": "
                           : "{\n  \"architectures\": [\"CLIPTextModelWithProjection\"],\n"
                             "  \"model_type\": \"clip_text_model\",\n  \"projection_dim\": ";
  bool done = single_copy(out, head, &dimension);
  struct clipc__json inner = {.data = config.text, .n_bytes = config.n_bytes, .text.allocator = json->text.allocator};
  if (done && config.text != NULL) done = single_members(out, &inner);
  clipc__bytes_free(&inner.text);
  if (inner.trouble != NULL) return clipc__json_fail(json, inner.trouble);
  if (done && clipc__bytes_append(out, "\n}\n", 3)) return true;
  json->no_memory = true;
  return false;
}

clipc_status clipc__config_single(struct clipc__bytes *out, const struct clipc__store *store, int tower,
                                  const clipc_options *options, clipc_error *error) {
  const clipc_allocator *allocator = &options->allocator;
  struct clipc__file file = {.allocator = *allocator};
  char *path = clipc__store_path(store, "config.json", allocator);
  if (path == NULL) return clipc__no_memory(error, "config.json");
  clipc_status status = clipc__store_open(&file, store, path, options->limits.max_config_bytes, allocator, error);
  if (status == CLIPC_OK) {
    struct clipc__json json = {.data = file.data, .n_bytes = file.n_bytes, .text.allocator = *allocator};
    bool utf8 = clipc__utf8_valid(file.data, file.n_bytes);
    if (!utf8 || !single_write(out, &json, tower == CLIPC_TOWER_IMAGE)) {
      if (json.no_memory)
        status = clipc__no_memory(error, path);
      else
        status =
            clipc__fail(error, CLIPC_E_FORMAT, "%s: byte %zu: %s", path, json.at, utf8 ? json.trouble : "not UTF-8");
    }
    clipc__bytes_free(&json.text);
    clipc__file_close(&file);
  }
  clipc__free(allocator, path);
  return status;
}
