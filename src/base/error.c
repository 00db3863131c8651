/* Statuses and the sentences that go with them.
 * In: a format and its arguments, which may hold names from untrusted files. Out: clipc_error. */
#include "base/base.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *clipc_status_name(clipc_status status) {
  switch (status) {
#define NAME(status)                                                                                                   \
  case status: return #status;
    NAME(CLIPC_OK)
    NAME(CLIPC_E_INVALID)
    NAME(CLIPC_E_IO)
    NAME(CLIPC_E_FORMAT)
    NAME(CLIPC_E_UNSUPPORTED)
    NAME(CLIPC_E_LIMIT) NAME(CLIPC_E_NO_MEMORY) NAME(CLIPC_E_MODEL) NAME(CLIPC_E_NETWORK) NAME(CLIPC_E_DENIED)
        NAME(CLIPC_E_CANCELLED) NAME(CLIPC_E_TIMED_OUT) NAME(CLIPC_E_QUEUE_FULL) NAME(CLIPC_E_NO_WORKERS)
            NAME(CLIPC_E_SPAWN_FAILED) NAME(CLIPC_E_MEMORY_BUDGET) NAME(CLIPC_E_RUNTIME_UNAVAILABLE)
                NAME(CLIPC_E_WOULD_DEADLOCK) NAME(CLIPC_E_SHUTTING_DOWN)
#undef NAME
  }
  return "CLIPC_E_UNKNOWN";
}

/* Copies text to out as valid UTF-8 without control characters; returns the bytes written. */
static size_t copy_clean(char *out, const char *text, size_t n) {
  size_t written = 0;
  for (size_t i = 0; i < n;) {
    uint32_t code_point;
    bool valid;
    size_t taken = clipc__utf8_read(&code_point, (const uint8_t *)text + i, n - i, &valid);
    if (!valid || code_point < 0x20 || (code_point >= 0x7F && code_point < 0xA0)) {
      out[written++] = '?';
    } else {
      memcpy(out + written, text + i, taken);
      written += taken;
    }
    i += taken;
  }
  return written;
}

clipc_status clipc__fail(clipc_error *error, clipc_status status, const char *format, ...) {
  if (error == NULL) return status;
  char usual[1024], *text = usual, *longer = NULL;
  va_list arguments;
  va_start(arguments, format);
  int n = vsnprintf(usual, sizeof usual, format, arguments);
  va_end(arguments);
  if (n < 0) usual[0] = '\0';
  if (n >= (int)sizeof usual && (longer = malloc((size_t)n + 1)) != NULL) { /* a path may be long: its end is wanted */
    va_start(arguments, format);
    vsnprintf(text = longer, (size_t)n + 1, format, arguments);
    va_end(arguments);
  }
  size_t n_text = strlen(text);
  error->status = status;
  char *out = error->message;
  const size_t room = sizeof error->message - 1, head = 96;
  size_t written;
  if (n_text <= room) {
    written = copy_clean(out, text, n_text);
  } else { /* the file is named at the front, the trouble at the end: the middle can go */
    written = copy_clean(out, text, head);
    memcpy(out + written, "...", 3);
    written += 3;
    size_t tail = room - head - 3;
    written += copy_clean(out + written, text + n_text - tail, tail);
  }
  out[written] = '\0';
  free(longer);
  return status;
}

clipc_status clipc__no_memory(clipc_error *error, const char *what) {
  return clipc__fail(error, CLIPC_E_NO_MEMORY, "no memory for %s", what);
}
