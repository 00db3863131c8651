/* Reading a JSON object field by field, with every refusal naming file, field and value.
 * In: a JSON file. Out: ints, numbers, flags and strings within the bounds that the caller states.
 * The first trouble stays: a reader asks for all its fields in a straight line and looks at the status once. */
#include "weights/weights.h"

#include <cjson/cJSON.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

clipc_status clipc__fields_load(struct cJSON **out, const struct clipc__store *store, const char *path,
                                const clipc_options *options, clipc_error *error) {
  struct clipc__file file;
  clipc_status status =
      clipc__store_open(&file, store, path, options->limits.max_config_bytes, &options->allocator, error);
  if (status != CLIPC_OK) return status;
  const char *end = NULL;
  cJSON *json = NULL;
  if (clipc__utf8_valid(file.data,
                        file.n_bytes)) /* the NUL behind the text is parsed too: nothing may follow the value */
    json = cJSON_ParseWithLengthOpts((const char *)file.data, file.n_bytes + 1, &end, true);
  size_t at = end ? (size_t)(end - (const char *)file.data) : 0;
  if (json == NULL)
    status = clipc__fail(error, CLIPC_E_FORMAT, "%s: not JSON (byte %zu)", path, at);
  else if (!cJSON_IsObject(json))
    status = clipc__fail(error, CLIPC_E_FORMAT, "%s: not a JSON object", path);
  clipc__file_close(&file);
  if (status != CLIPC_OK) {
    cJSON_Delete(json);
    return status;
  }
  *out = json;
  return CLIPC_OK;
}

const struct cJSON *clipc__field(const struct clipc__fields *fields, const char *name) {
  const cJSON *found = NULL, *item;
  cJSON_ArrayForEach(item, fields->object) if (item->string && strcmp(item->string, name) == 0) found = item;
  return found;
}

bool clipc__field_set(const struct clipc__fields *fields, const char *name) {
  const cJSON *item = clipc__field(fields, name);
  return item && !cJSON_IsNull(item);
}

/* A short text of the value, for sentences. */
static void field_value_text(char *text, size_t n_text, const cJSON *item) {
  if (cJSON_IsString(item))
    snprintf(text, n_text, "\"%.60s\"", item->valuestring);
  else if (cJSON_IsNumber(item))
    snprintf(text, n_text, "%.15g", item->valuedouble);
  else
    snprintf(text, n_text, "%s",
             item == NULL          ? "missing"
             : cJSON_IsNull(item)  ? "null"
             : cJSON_IsTrue(item)  ? "true"
             : cJSON_IsFalse(item) ? "false"
             : cJSON_IsArray(item) ? "a list"
                                   : "an object");
}

void clipc__field_refuse(struct clipc__fields *fields, clipc_status status, const char *name, const char *why) {
  if (*fields->status != CLIPC_OK) return;
  char value[80];
  field_value_text(value, sizeof value, clipc__field(fields, name));
  *fields->status =
      clipc__fail(fields->error, status, "%s: %s%s is %s: %s", fields->file, fields->path, name, value, why);
}

/* The item when it is there to be read; NULL for the default. */
static const cJSON *field_item(struct clipc__fields *fields, const char *name) {
  const cJSON *item = *fields->status == CLIPC_OK ? clipc__field(fields, name) : NULL;
  return item && cJSON_IsNull(item) && fields->null_is_absent ? NULL : item;
}

static bool field_int_ok(const cJSON *item, int min, int max) {
  return cJSON_IsNumber(item) && item->valuedouble >= min && item->valuedouble <= max &&
         floor(item->valuedouble) == item->valuedouble;
}

static void field_refuse_int(struct clipc__fields *fields, const char *name, int min, int max) {
  char why[80];
  snprintf(why, sizeof why, "a whole number from %d to %d is needed", min, max);
  clipc__field_refuse(fields, CLIPC_E_FORMAT, name, why);
}

int clipc__field_int(struct clipc__fields *fields, const char *name, int absent, int min, int max) {
  const cJSON *item = field_item(fields, name);
  if (item == NULL) return absent;
  if (field_int_ok(item, min, max)) return (int)item->valuedouble;
  field_refuse_int(fields, name, min, max);
  return absent;
}

double clipc__field_number(struct clipc__fields *fields, const char *name, double absent, double min, double max) {
  const cJSON *item = field_item(fields, name);
  if (item == NULL) return absent;
  if (cJSON_IsNumber(item) && item->valuedouble >= min && item->valuedouble <= max) return item->valuedouble;
  char why[80];
  snprintf(why, sizeof why, "a number from %g to %g is needed", min, max);
  clipc__field_refuse(fields, CLIPC_E_FORMAT, name, why);
  return absent;
}

bool clipc__field_flag(struct clipc__fields *fields, const char *name, bool absent) {
  const cJSON *item = *fields->status == CLIPC_OK ? clipc__field(fields, name) : NULL;
  if (item == NULL) return absent;
  if (cJSON_IsBool(item) || cJSON_IsNull(item)) return cJSON_IsTrue(item);
  clipc__field_refuse(fields, CLIPC_E_FORMAT, name, "true or false is needed");
  return absent;
}

const char *clipc__field_string(struct clipc__fields *fields, const char *name, const char *absent) {
  const cJSON *item = field_item(fields, name);
  if (item == NULL) return absent;
  if (cJSON_IsString(item)) return item->valuestring;
  clipc__field_refuse(fields, CLIPC_E_FORMAT, name, "a string is needed");
  return absent;
}

struct clipc__fields clipc__field_object(struct clipc__fields *fields, const char *name, const char *path) {
  struct clipc__fields inner = *fields;
  inner.object = *fields->status == CLIPC_OK ? clipc__field(fields, name) : NULL;
  inner.path = path;
  if (inner.object && !cJSON_IsObject(inner.object)) {
    if (!cJSON_IsNull(inner.object)) clipc__field_refuse(fields, CLIPC_E_FORMAT, name, "an object is needed");
    inner.object = NULL;
  }
  return inner;
}

void clipc__field_rgb(struct clipc__fields *fields, const char *name, float rgb[3], double min, double max) {
  const cJSON *item = field_item(fields, name);
  if (item == NULL) return;
  float values[3];
  bool list = cJSON_IsArray(item) && cJSON_GetArraySize(item) == 3, ok = list || cJSON_IsNumber(item);
  for (int i = 0; ok && i < 3; i++) {
    const cJSON *one = list ? cJSON_GetArrayItem(item, i) : item;
    ok = cJSON_IsNumber(one) && one->valuedouble >= min && one->valuedouble <= max;
    if (ok) values[i] = (float)one->valuedouble;
  }
  if (ok) {
    memcpy(rgb, values, sizeof values);
    return;
  }
  char why[80];
  snprintf(why, sizeof why, "one or three numbers from %g to %g are needed", min, max);
  clipc__field_refuse(fields, CLIPC_E_FORMAT, name, why);
}

void clipc__field_pair(struct clipc__fields *fields, const char *name, int absent, int max, int *height, int *width) {
  const cJSON *item = field_item(fields, name);
  *height = *width = absent;
  if (item == NULL) return;
  bool list = cJSON_IsArray(item) && cJSON_GetArraySize(item) == 2;
  const cJSON *first = list ? cJSON_GetArrayItem(item, 0) : item, *second = list ? cJSON_GetArrayItem(item, 1) : item;
  if (!field_int_ok(first, 1, max) || !field_int_ok(second, 1, max)) {
    field_refuse_int(fields, name, 1, max);
    return;
  }
  *height = (int)first->valuedouble;
  *width = (int)second->valuedouble;
}

bool clipc__field_lists(const struct clipc__fields *fields, const char *name, const char *string) {
  const cJSON *list = clipc__field(fields, name), *item;
  if (!cJSON_IsArray(list)) return false;
  cJSON_ArrayForEach(item, list) if (cJSON_IsString(item) && strcmp(item->valuestring, string) == 0) return true;
  return false;
}

bool clipc__item_is_off(const struct cJSON *item) {
  if (item == NULL || cJSON_IsNull(item) || cJSON_IsFalse(item)) return true;
  if (cJSON_IsNumber(item)) return item->valuedouble == 0;
  if (cJSON_IsString(item)) return item->valuestring[0] == '\0';
  return (cJSON_IsArray(item) || cJSON_IsObject(item)) && item->child == NULL;
}

bool clipc__field_is_off(const struct clipc__fields *fields, const char *name) {
  return clipc__item_is_off(clipc__field(fields, name));
}
