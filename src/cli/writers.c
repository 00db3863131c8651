/* Results as JSON values and NumPy arrays. Nothing depends on the locale, which stays "C". */
#include "cli/writers.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void cli_json_string(struct cli_output *output, const char *text, size_t n) {
  cli_write(output, "\"", 1);
  for (size_t i = 0; i < n;) {
    uint32_t code_point;
    bool valid;
    size_t taken = cli_utf8_read(&code_point, text + i, n - i, &valid);
    if (!valid) {
      cli_write(output, "\xEF\xBF\xBD", 3);
    } else if (code_point == '"' || code_point == '\\') {
      cli_print(output, "\\%c", (char)code_point);
    } else if (code_point == '\n') {
      cli_write(output, "\\n", 2);
    } else if (code_point == '\t') {
      cli_write(output, "\\t", 2);
    } else if (code_point < 0x20 || code_point == 0x7F || code_point == 0x2028 || code_point == 0x2029) {
      cli_print(output, "\\u%04x", (unsigned)code_point); /* the last two end lines in some readers */
    } else {
      cli_write(output, text + i, taken);
    }
    i += taken;
  }
  cli_write(output, "\"", 1);
}

void cli_json_float(struct cli_output *output, float value) {
  char text[32];
  if (!isfinite(value)) {
    strcpy(text, "null");
  } else if (value == 0) {
    strcpy(text, signbit(value) ? "-0.0" : "0"); /* "-0" is a whole number to many readers, without its sign */
  } else {
    for (int digits = 7; digits <= 9; digits++) {
      snprintf(text, sizeof text, "%.*g", digits, (double)value);
      if (digits == 9 || strtof(text, NULL) == value) break;
    }
  }
  cli_write(output, text, strlen(text));
}

void cli_json_floats(struct cli_output *output, const float *values, size_t n) {
  cli_write(output, "[", 1);
  for (size_t i = 0; i < n; i++) {
    if (i > 0) cli_write(output, ",", 1);
    cli_json_float(output, values[i]);
  }
  cli_write(output, "]", 1);
}

void cli_json_error(struct cli_output *output, const clipc_error *error) {
  cli_print(output, "{\"status\":\"%s\",\"message\":", clipc_status_name(error->status));
  cli_json_string(output, error->message, strlen(error->message));
  cli_print(output, "}");
}

void cli_npy_header(struct cli_output *output, const size_t *shape, size_t n_axes) {
  char text[256]; /* four axes of twenty digits fit */
  size_t n = (size_t)snprintf(text, sizeof text, "{'descr': '<f4', 'fortran_order': False, 'shape': (");
  for (size_t i = 0; i < n_axes; i++) {
    n += (size_t)snprintf(text + n, sizeof text - n, i == 0 ? "%zu," : i == 1 ? " %zu" : ", %zu", shape[i]);
  }
  n += (size_t)snprintf(text + n, sizeof text - n, "), }");
  const size_t n_start = 10; /* magic, version, length */
  while ((n_start + n + 1) % 64 != 0) text[n++] = ' ';
  text[n++] = '\n';
  const unsigned char start[10] = {
      0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, (unsigned char)(n & 0xFF), (unsigned char)(n >> 8)};
  cli_write(output, start, n_start);
  cli_write(output, text, n);
}

void cli_floats(struct cli_output *output, const float *values, size_t n) {
  unsigned char bytes[1024];
  for (size_t first = 0; first < n; first += sizeof bytes / 4) {
    size_t n_piece = n - first < sizeof bytes / 4 ? n - first : sizeof bytes / 4;
    for (size_t i = 0; i < n_piece; i++) {
      uint32_t bits;
      memcpy(&bits, values + first + i, sizeof bits);
      for (int byte = 0; byte < 4; byte++) bytes[4 * i + (size_t)byte] = (unsigned char)(bits >> (8 * byte));
    }
    cli_write(output, bytes, 4 * n_piece);
  }
}
