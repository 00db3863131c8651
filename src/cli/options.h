/* The command line: one parser for all commands, and the options that they share. */
#ifndef CLIPC_CLI_OPTIONS_H
#define CLIPC_CLI_OPTIONS_H

#include "cli/cli.h"

/* An option; a table of them ends with one without a name. */
struct cli_option {
  int id;
  char letter;       /* of the short form, 0 for none */
  const char *name;  /* of the long form, without the dashes */
  const char *value; /* what its value is called in the help; NULL when it takes none */
  const char *help;
};

enum {
  CLI_END = -1,  /* no more arguments */
  CLI_BAD = -2,  /* a wrong one; the complaint has been printed */
  CLI_PLAIN = 0, /* an argument that is no option */
  CLI_HELP = 1,
  CLI_SHARED = 2, /* the shared options' ids lie between this and CLI_OWN */
  CLI_OWN = 100   /* the commands' own ids start here */
};

struct cli_parser {
  const struct cli_command *command;
  int argc, next;
  char **argv;
  const char *cluster; /* the rest of "-ab" after -a */
  bool only_plain;     /* after "--" */
};

/* Steps to the next argument and returns its id; *value is the option's value or the plain argument. */
int cli_next(struct cli_parser *parser, const char **value);

/* Reads a whole number between two bounds; complains and returns false when it is none. */
bool cli_number(const struct cli_command *command, const char *option, const char *value, uint64_t least, uint64_t most,
                uint64_t *number);

/* The position of value in a list that ends with NULL; complains and returns -1 when it is not there. */
int cli_choice(const struct cli_command *command, const char *option, const char *value, const char *const *choices);

/* The word of a list nearest to a mistyped one, or NULL when none is near. */
const char *cli_nearest(const char *word, const char *const *words, size_t n_words);

/* Calls visit for every option that a command takes, its own first. */
void cli_each_option(const struct cli_command *command, void (*visit)(const struct cli_option *option, void *context),
                     void *context);

/* Where the model is and how it is to be opened. */
struct cli_model_options {
  const char *folder;
  clipc_options options;
  struct cli_list allow; /* "host:port" that may be fetched from although they are private */
  uint64_t timeout_s;    /* of a fetch; 0 = the library's */
};
void cli_model_options_free(struct cli_model_options *model);

/* Takes an option of the shared groups; complains and returns false when its value is wrong. */
bool cli_model_option(const struct cli_command *command, struct cli_model_options *model, int id, const char *value);

/* Takes an option of the command's own or, as CLI_PLAIN, an argument that is none, into the command's job; complains
 * and returns false when it is wrong. */
typedef bool cli_take(const struct cli_command *command, void *job, int id, const char *value);

/* Reads a whole command line: shared options into model, the rest by take into job. Returns CLI_PARSED, or the exit
 * code where there is no more to do. */
enum { CLI_PARSED = -1 };
int cli_parse(const struct cli_command *command, int argc, char **argv, struct cli_model_options *model, cli_take *take,
              void *job);

/* Opens the model with these towers; complains and returns false when it cannot. */
bool cli_model_open(clipc_model **out, const struct cli_command *command, const struct cli_model_options *model,
                    int towers);

/* The names of values, as the options spell them. */
const char *cli_reference_name(clipc_reference reference);
const char *cli_alpha_name(clipc_alpha alpha);
const char *cli_precision_name(clipc_precision precision);

#endif
