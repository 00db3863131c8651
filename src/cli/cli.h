/* What every file of the program stands on: exit codes, the commands, complaints, memory, the terminal.
 * The program uses the library through clipc.h alone. */
#ifndef CLIPC_CLI_H
#define CLIPC_CLI_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "clipc.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What the program exits with. */
enum { CLI_OK = 0, CLI_ITEM_FAILED = 1, CLI_FAILED = 2, CLI_STOPPED = 130 /* by Ctrl-C, as shells say it */ };

/* ---- commands (main.c) */

struct cli_option;

/* Groups of options that several commands share (options.h). */
enum { CLI_TAKES_MODEL = 1, CLI_TAKES_PICTURES = 2, CLI_TAKES_URLS = 4 };

struct cli_command {
  const char *name, *summary;
  const char *usage;    /* what follows "clipc NAME " */
  const char *details;  /* paragraphs under the options, may be NULL */
  const char *examples; /* lines without indentation, each with its newline */
  const struct cli_option *options;
  int groups;
  int (*run)(const struct cli_command *command, int argc, char **argv); /* argv[0] is the command's name */
};

extern const struct cli_command cli_embed, cli_classify, cli_tokenize, cli_preprocess, cli_decode, cli_inspect,
    cli_layers, cli_pack, cli_convert, cli_search, cli_quality, cli_zeroshot_eval, cli_bench, cli_pull, cli_version;

/* Prints a command's help on stdout; returns the exit code. */
int cli_help(const struct cli_command *command);

/* ---- text (terminal.c) */

/* Reads one code point of s [n], n >= 1, and returns the bytes it took. A malformed sequence gives U+FFFD
 * for each maximal ill-formed part; *valid says. */
size_t cli_utf8_read(uint32_t *code_point, const char *s, size_t n, bool *valid);

/* ---- terminal (terminal.c) */

/* One line on stderr, "clipc: ..."; control characters and malformed UTF-8 in it are replaced. */
void cli_complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A complaint and the way to the help; returns CLI_FAILED. */
int cli_usage_error(const struct cli_command *command, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A copy of text [n] fit for one line of a terminal: valid UTF-8, no control characters. To be freed. */
char *cli_clean(const char *text, size_t n);

/* Columns that a clean text takes on a terminal, roughly: wide letters two, combining marks none. */
size_t cli_columns(const char *text);

/* Bytes of the longest beginning of a clean text that fits into so many columns. */
size_t cli_fit(const char *text, size_t columns);

/* Width of the terminal behind a file descriptor; 80 where there is none. */
size_t cli_terminal_width(int descriptor);

/* Whether the descriptor is a terminal that understands control sequences. */
bool cli_is_terminal(int descriptor);

/* Whether to colour: a terminal, unless the environment has NO_COLOR. */
bool cli_colours(int descriptor);

/* Whether block characters may be drawn: not where the environment names an encoding other than UTF-8. */
bool cli_draws_blocks(void);

/* A bar of n_columns for a fraction of 1, in eighths of a column where block characters may be drawn.
 * Writes a string of at most 3 * n_columns bytes and its NUL; returns the columns filled. */
size_t cli_bar(char *out, size_t n_columns, double fraction, bool blocks);

/* ---- memory (terminal.c). Without memory these say so, remove a temporary file and exit with CLI_FAILED. */

void *cli_allocate(size_t n, size_t size);                             /* zeroed; n * size = 0 gives a valid pointer */
void *cli_grow(void *memory, size_t *capacity, size_t n, size_t size); /* room for n items, by doubling */
char *cli_copy(const char *text, size_t n);

/* Texts that are not its own, such as the values of an option that may be repeated. Zero it to start with. */
struct cli_list {
  const char **items;
  size_t n, capacity;
};
void cli_list_add(struct cli_list *list, const char *item);

/* ---- time and interruption (terminal.c) */

double cli_now_ms(void); /* of a clock that only runs forward */

/* From now on a signal, such as SIGINT of Ctrl-C, does no more than be told of by cli_was_stopped; a second one ends
 * the program at once. SIGHUP that is ignored, as under nohup, stays so. */
void cli_catch_stop(int signal_number);
bool cli_was_stopped(void);

#endif
