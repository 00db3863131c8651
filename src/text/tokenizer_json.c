/* Whether a tokenizer.json describes CLIP's tokeniser.
 * In: the file as cJSON. Out: CLIPC_OK, or the field that asks for another one.
 * transformers 5 rebuilds CLIP's steps whatever the file says and takes over only its vocabulary, merges and added
 * tokens; the file is looked at so that another kind of tokeniser is refused and not misread. */
#include "text/tokenizer.h"

#include <cjson/cJSON.h>

#include <string.h>

#define TOKENIZER_SPLIT "'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+"

struct tokenizer_json_context {
  const char *path;
  clipc_error *error;
};

const cJSON *clipc__json_field(const cJSON *object, const char *name) {
  const cJSON *found = NULL, *item;
  cJSON_ArrayForEach(item, object) if (item->string && strcmp(item->string, name) == 0) found = item;
  return found;
}

static const char *tokenizer_string(const cJSON *item) { return cJSON_IsString(item) ? item->valuestring : ""; }

static clipc_status tokenizer_refuse(const struct tokenizer_json_context *c, const char *field, const cJSON *value) {
  const char *what = cJSON_IsString(value) ? value->valuestring : tokenizer_string(clipc__json_field(value, "type"));
  return clipc__fail(c->error, CLIPC_E_UNSUPPORTED, "%s: %s is not what CLIP uses%s%.60s", c->path, field,
                     what[0] ? ": " : "", what);
}

static bool tokenizer_is_regex(const cJSON *step, const char *regex) {
  const char *pattern = tokenizer_string(clipc__json_field(clipc__json_field(step, "pattern"), "Regex"));
  return strcmp(pattern, regex) == 0;
}

/* The steps of a Sequence under key, or the one step itself. */
static const cJSON *tokenizer_steps(const cJSON *value, const char *key, bool *many) {
  *many = strcmp(tokenizer_string(clipc__json_field(value, "type")), "Sequence") == 0;
  const cJSON *list = clipc__json_field(value, key);
  return *many ? (cJSON_IsArray(list) ? list->child : NULL) : value;
}

/* NFC, white space to one space, lower case. */
static clipc_status tokenizer_check_normalizer(const struct tokenizer_json_context *c, const cJSON *value) {
  unsigned seen = 0;
  bool many;
  for (const cJSON *step = tokenizer_steps(value, "normalizers", &many); step; step = many ? step->next : NULL) {
    const char *type = tokenizer_string(clipc__json_field(step, "type"));
    if (strcmp(type, "NFC") == 0)
      seen |= 1;
    else if (strcmp(type, "Replace") == 0 && tokenizer_is_regex(step, "\\s+") &&
             strcmp(tokenizer_string(clipc__json_field(step, "content")), " ") == 0)
      seen |= 2;
    else if (strcmp(type, "Lowercase") == 0)
      seen |= 4;
    else
      return tokenizer_refuse(c, "normalizer", step);
  }
  return seen == 7 ? CLIPC_OK : tokenizer_refuse(c, "normalizer", value);
}

/* Split by CLIP's pattern (which may begin with the special strings), then ByteLevel. */
static clipc_status tokenizer_check_pre_tokenizer(const struct tokenizer_json_context *c, const cJSON *value) {
  unsigned seen = 0;
  bool many;
  for (const cJSON *step = tokenizer_steps(value, "pretokenizers", &many); step; step = many ? step->next : NULL) {
    const char *type = tokenizer_string(clipc__json_field(step, "type"));
    if (strcmp(type, "Split") == 0) {
      const cJSON *pattern = clipc__json_field(clipc__json_field(step, "pattern"), "Regex");
      size_t n = strlen(tokenizer_string(pattern)), n_wanted = strlen(TOKENIZER_SPLIT);
      if (n < n_wanted || strcmp(pattern->valuestring + n - n_wanted, TOKENIZER_SPLIT) != 0)
        return tokenizer_refuse(c, "pre_tokenizer.pattern", pattern);
      if (strcmp(tokenizer_string(clipc__json_field(step, "behavior")), "Removed") != 0 ||
          !cJSON_IsTrue(clipc__json_field(step, "invert")))
        return tokenizer_refuse(c, "pre_tokenizer.behavior", clipc__json_field(step, "behavior"));
      seen |= 1;
    } else if (strcmp(type, "ByteLevel") == 0) {
      if (cJSON_IsTrue(clipc__json_field(step, "add_prefix_space")))
        return tokenizer_refuse(c, "pre_tokenizer.add_prefix_space", step);
      seen |= 2;
    } else {
      return tokenizer_refuse(c, "pre_tokenizer", step);
    }
  }
  return seen == 3 ? CLIPC_OK : tokenizer_refuse(c, "pre_tokenizer", value);
}

static clipc_status tokenizer_check_model(const struct tokenizer_json_context *c, const cJSON *model) {
  const cJSON *type = clipc__json_field(model, "type"), *prefix = clipc__json_field(model, "continuing_subword_prefix");
  if (!cJSON_IsObject(model)) return clipc__fail(c->error, CLIPC_E_FORMAT, "%s: has no model", c->path);
  if (type ? strcmp(tokenizer_string(type), "BPE") != 0 : !clipc__json_field(model, "merges"))
    return tokenizer_refuse(c, "model.type", type);
  if (strcmp(tokenizer_string(clipc__json_field(model, "end_of_word_suffix")), "</w>") != 0)
    return tokenizer_refuse(c, "model.end_of_word_suffix", clipc__json_field(model, "end_of_word_suffix"));
  if (tokenizer_string(prefix)[0] != '\0') return tokenizer_refuse(c, "model.continuing_subword_prefix", prefix);
  if (cJSON_IsTrue(clipc__json_field(model, "byte_fallback"))) return tokenizer_refuse(c, "model.byte_fallback", NULL);
  if (cJSON_IsTrue(clipc__json_field(model, "ignore_merges"))) return tokenizer_refuse(c, "model.ignore_merges", NULL);
  const cJSON *dropout = clipc__json_field(model, "dropout");
  if (cJSON_IsNumber(dropout) && dropout->valuedouble != 0) return tokenizer_refuse(c, "model.dropout", NULL);
  return CLIPC_OK;
}

clipc_status clipc__tokenizer_json_check(const cJSON *json, const char *path, bool hf, clipc_error *error) {
  struct tokenizer_json_context c = {path, error};
  clipc_status status = tokenizer_check_model(&c, clipc__json_field(json, "model"));
  if (!hf || status != CLIPC_OK) return status; /* open_clip has steps of its own */
  status = tokenizer_check_normalizer(&c, clipc__json_field(json, "normalizer"));
  if (status == CLIPC_OK) status = tokenizer_check_pre_tokenizer(&c, clipc__json_field(json, "pre_tokenizer"));
  if (status != CLIPC_OK) return status;
  /* Framing is always start, text, end: the file's post_processor may be missing but not of another kind. */
  const cJSON *post = clipc__json_field(json, "post_processor");
  const char *type = tokenizer_string(clipc__json_field(post, "type"));
  if (cJSON_IsObject(post) && strcmp(type, "RobertaProcessing") != 0 && strcmp(type, "TemplateProcessing") != 0 &&
      strcmp(type, "ByteLevel") != 0 && strcmp(type, "Sequence") != 0)
    return tokenizer_refuse(&c, "post_processor", post);
  const cJSON *direction = clipc__json_field(clipc__json_field(json, "truncation"), "direction");
  if (strcmp(tokenizer_string(direction), "Left") == 0) return tokenizer_refuse(&c, "truncation.direction", direction);
  return CLIPC_OK;
}
