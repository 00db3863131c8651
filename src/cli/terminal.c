/* What the program shows to people: complaints, widths, bars; and memory, whose lack is one more complaint.
 * In: bytes of any origin. Out: valid UTF-8 without control characters, so that a file's name cannot
 * move the cursor or colour the screen. */
#include "cli/cli.h"

#include "cli/output.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

size_t cli_utf8_read(uint32_t *code_point, const char *s, size_t n, bool *valid) {
  const unsigned char *u = (const unsigned char *)s;
  unsigned low = 0x80, high = 0xBF, n_more = 0;
  uint32_t value = u[0];
  if (u[0] >= 0xC2 && u[0] <= 0xDF) {
    n_more = 1, value = u[0] & 0x1F;
  } else if ((u[0] & 0xF0) == 0xE0) {
    n_more = 2, value = u[0] & 0x0F;
    if (u[0] == 0xE0) low = 0xA0;  /* not longer than need be */
    if (u[0] == 0xED) high = 0x9F; /* no surrogates */
  } else if (u[0] >= 0xF0 && u[0] <= 0xF4) {
    n_more = 3, value = u[0] & 0x07;
    if (u[0] == 0xF0) low = 0x90;
    if (u[0] == 0xF4) high = 0x8F; /* nothing above U+10FFFF */
  }
  *valid = u[0] < 0x80 || n_more > 0;
  size_t i = 1;
  for (; *valid && i <= n_more; i++) {
    if (i >= n || u[i] < low || u[i] > high) {
      *valid = false;
      break;
    }
    value = value << 6 | (u[i] & 0x3F);
    low = 0x80, high = 0xBF;
  }
  *code_point = *valid ? value : 0xFFFD;
  return i;
}

char *cli_clean(const char *text, size_t n) {
  char *clean = cli_allocate(n + 1, 3); /* one bad byte may become the three of U+FFFD */
  size_t written = 0;
  for (size_t i = 0; i < n;) {
    uint32_t code_point;
    bool valid;
    size_t taken = cli_utf8_read(&code_point, text + i, n - i, &valid);
    if (!valid) {
      memcpy(clean + written, "\xEF\xBF\xBD", 3);
      written += 3;
    } else if (code_point < 0x20 || (code_point >= 0x7F && code_point < 0xA0)) {
      clean[written++] = '?';
    } else {
      memcpy(clean + written, text + i, taken);
      written += taken;
    }
    i += taken;
  }
  clean[written] = '\0';
  return clean;
}

static void complain(const char *format, va_list arguments) {
  va_list again;
  va_copy(again, arguments);
  int n = vsnprintf(NULL, 0, format, again);
  va_end(again);
  if (n < 0) return;
  char *text = malloc((size_t)n + 1);
  if (text == NULL) {
    fputs("clipc: out of memory\n", stderr);
    return;
  }
  vsnprintf(text, (size_t)n + 1, format, arguments);
  char *clean = cli_clean(text, (size_t)n);
  fprintf(stderr, "clipc: %s\n", clean);
  free(clean);
  free(text);
}

void cli_complain(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  complain(format, arguments);
  va_end(arguments);
}

int cli_usage_error(const struct cli_command *command, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  complain(format, arguments);
  va_end(arguments);
  if (command == NULL) {
    fputs("See: clipc --help\n", stderr);
  } else {
    fprintf(stderr, "See: clipc %s --help\n", command->name);
  }
  return CLI_FAILED;
}

static size_t code_point_columns(uint32_t c) {
  static const uint32_t none[][2] = {{0x300, 0x36F}, {0x200B, 0x200F}, {0x20D0, 0x20FF}, {0xFE00, 0xFE0F}};
  static const uint32_t two[][2] = {{0x1100, 0x115F},   {0x2E80, 0xA4CF},   {0xAC00, 0xD7A3},  {0xF900, 0xFAFF},
                                    {0xFE30, 0xFE6F},   {0xFF00, 0xFF60},   {0xFFE0, 0xFFE6},  {0x1F300, 0x1F64F},
                                    {0x1F680, 0x1F6FF}, {0x1F900, 0x1F9FF}, {0x20000, 0x3FFFD}};
  for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
    if (c >= none[i][0] && c <= none[i][1]) return 0;
  }
  for (size_t i = 0; i < sizeof two / sizeof *two; i++) {
    if (c >= two[i][0] && c <= two[i][1]) return 2;
  }
  return 1;
}

size_t cli_fit(const char *text, size_t columns) {
  size_t n = strlen(text), i = 0, used = 0;
  while (i < n) {
    uint32_t code_point;
    bool valid;
    size_t taken = cli_utf8_read(&code_point, text + i, n - i, &valid);
    used += code_point_columns(code_point);
    if (used > columns) break;
    i += taken;
  }
  return i;
}

size_t cli_columns(const char *text) {
  size_t n = strlen(text), columns = 0;
  for (size_t i = 0; i < n;) {
    uint32_t code_point;
    bool valid;
    i += cli_utf8_read(&code_point, text + i, n - i, &valid);
    columns += code_point_columns(code_point);
  }
  return columns;
}

size_t cli_terminal_width(int descriptor) {
  struct winsize size;
  if (ioctl(descriptor, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 80;
}

bool cli_is_terminal(int descriptor) {
  const char *kind = getenv("TERM");
  return isatty(descriptor) && kind != NULL && strcmp(kind, "dumb") != 0;
}

bool cli_colours(int descriptor) {
  const char *no_colour = getenv("NO_COLOR");
  return cli_is_terminal(descriptor) && (no_colour == NULL || *no_colour == '\0');
}

bool cli_draws_blocks(void) {
  static const char *const names[] = {"LC_ALL", "LC_CTYPE", "LANG"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    const char *locale = getenv(names[i]);
    if (locale == NULL || *locale == '\0') continue;
    const char *encoding = strchr(locale, '.'); /* "C" and "de_DE" name none: terminals are UTF-8 today */
    return encoding == NULL || strncasecmp(encoding, ".utf-8", 6) == 0 || strncasecmp(encoding, ".utf8", 5) == 0;
  }
  return true;
}

size_t cli_bar(char *out, size_t n_columns, double fraction, bool blocks) {
  static const char eighths[8][4] = {"",
                                     "\xE2\x96\x8F",
                                     "\xE2\x96\x8E",
                                     "\xE2\x96\x8D",
                                     "\xE2\x96\x8C",
                                     "\xE2\x96\x8B",
                                     "\xE2\x96\x8A",
                                     "\xE2\x96\x89"};
  double length = fraction > 0 ? (fraction < 1 ? fraction : 1) * (double)n_columns : 0;
  size_t steps = blocks ? (size_t)(length * 8 + 0.5) : (size_t)(length + 0.5) * 8;
  size_t full = steps / 8, part = steps % 8;
  for (size_t i = 0; i < full; i++) {
    size_t n = blocks ? 3 : 1;
    memcpy(out, blocks ? "\xE2\x96\x88" : "#", n);
    out += n;
  }
  strcpy(out, eighths[part]);
  return full + (part > 0);
}

_Noreturn static void exit_without_memory(void) {
  fputs("clipc: out of memory\n", stderr);
  cli_output_abandon();
  exit(CLI_FAILED);
}

void *cli_allocate(size_t n, size_t size) {
  void *memory = calloc(n > 0 ? n : 1, size > 0 ? size : 1);
  if (memory == NULL) exit_without_memory();
  return memory;
}

void *cli_grow(void *memory, size_t *capacity, size_t n, size_t size) {
  if (n <= *capacity) return memory;
  size_t wanted = *capacity > 0 ? *capacity : 16;
  while (wanted < n) {
    if (wanted > SIZE_MAX / 2) exit_without_memory();
    wanted *= 2;
  }
  memory = wanted > SIZE_MAX / size ? NULL : realloc(memory, wanted * size);
  if (memory == NULL) exit_without_memory();
  *capacity = wanted;
  return memory;
}

char *cli_copy(const char *text, size_t n) {
  char *copy = cli_allocate(n + 1, 1);
  if (n > 0) memcpy(copy, text, n);
  return copy;
}

void cli_list_add(struct cli_list *list, const char *item) {
  list->items = cli_grow(list->items, &list->capacity, list->n + 1, sizeof *list->items);
  list->items[list->n++] = item;
}

double cli_now_ms(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return 1e3 * (double)time.tv_sec + 1e-6 * (double)time.tv_nsec;
}

static volatile sig_atomic_t stopped;

static void stop(int signal_number) {
  (void)signal_number;
  stopped = 1;
}

void cli_catch_stop(int signal_number) {
  struct sigaction before, action = {.sa_handler = stop, .sa_flags = (int)SA_RESETHAND};
  bool ignored = sigaction(signal_number, NULL, &before) == 0 && before.sa_handler == SIG_IGN;
  if (!ignored || signal_number != SIGHUP) sigaction(signal_number, &action, NULL);
}

bool cli_was_stopped(void) { return stopped != 0; }
