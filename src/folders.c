/* The facade's part for what lies in folders: fingerprints. */
#include "model/model.h"

#include <string.h>

/* ---- fingerprints */

clipc_status clipc_model_fingerprint(const clipc_model *model, char text[CLIPC_FINGERPRINT_BYTES], clipc_error *error) {
  if (model == NULL || text == NULL)
    return clipc__fail(error, CLIPC_E_INVALID, "clipc_model_fingerprint: %s is NULL", model ? "text" : "model");
  return clipc__space_of_model(text, model, error);
}

/* The hexadecimal digits before the colon; 0: no fingerprint. */
static size_t fingerprint_digits(const char *text) {
  size_t n = text ? strspn(text, "0123456789abcdef") : 0;
  return n == 32 && text[n] == ':' ? n : 0;
}

int clipc_fingerprint_same(const char *a, const char *b) {
  size_t n = fingerprint_digits(a);
  return n > 0 && n == fingerprint_digits(b) && memcmp(a, b, n) == 0;
}
