/* The command line of every command: options long and short, in any order, until "--".
 * In: argv. Out: one id and value after the other. A wrong argument is named in a sentence. */
#include "cli/options.h"
#include "cli/hub.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct cli_option help_options[] = {
    {CLI_HELP, 'h', "help", NULL, "show this"},
    {0},
};

enum {
  OPTION_MODEL = CLI_SHARED,
  OPTION_REFERENCE,
  OPTION_THREADS,
  OPTION_PRECISION,
  OPTION_TIER,
  OPTION_GEMM,
  OPTION_VERIFY,
  OPTION_REFUSE_REPACK,
  OPTION_ALPHA,
  OPTION_READ_WEIGHTS,
  OPTION_EXIF,
  OPTION_MAX_PIXELS,
  OPTION_MAX_BYTES,
  OPTION_ALLOW,
  OPTION_TIMEOUT
};

static const struct cli_option model_options[] = {
    {OPTION_MODEL, 'm', "model", "MODEL",
     "the model: a folder as Hugging Face or open_clip publish it, a packed file, or what clipc pull was given"},
    {OPTION_REFERENCE, 0, "reference", "NAME", "whose numbers to give: openai, hf or hf-tv [what the folder is]"},
    {OPTION_THREADS, 't', "threads", "N", "threads to compute with [as many as there are cores]"},
    {OPTION_PRECISION, 0, "precision", "NAME", "numbers to compute in: f32, bf16 or int8 [f32, or the packed file's]"},
    {OPTION_TIER, 0, "tier", "NAME", "no better kernels than these: plain-c, avx2 ... neon-bf16 [best]"},
    {OPTION_GEMM, 0, "gemm", "NAME", "whose matrix products: auto, own or openblas [auto]"},
    {OPTION_VERIFY, 0, "verify", "NAME", "checksums of a packed file to compare: used, all or none [used]"},
    {OPTION_REFUSE_REPACK, 0, "refuse-repack", NULL, "refuse a file that was packed for other kernels than this CPU's"},
    {OPTION_READ_WEIGHTS, 0, "read-weights", NULL, "read the weights into memory instead of mapping the files"},
    {0},
};

static const struct cli_option picture_options[] = {
    {OPTION_EXIF, 0, "exif", NULL, "turn pictures upright by their EXIF orientation first"},
    {OPTION_MAX_PIXELS, 0, "max-pixels", "N", "refuse larger pictures [178956970]"},
    {OPTION_MAX_BYTES, 0, "max-bytes", "N", "refuse larger picture files [268435456]"},
    {0},
};

static const struct cli_option url_options[] = {
    {OPTION_ALLOW, 0, "allow", "HOST:PORT", "fetch from there although the address is private; may be repeated"},
    {OPTION_TIMEOUT, 0, "timeout", "SECONDS", "that fetching one picture may take [30]"},
    {0},
};

static const struct cli_option alpha_options[] = {
    {OPTION_ALPHA, 0, "alpha", "NAME", "what hf and hf-tv do with transparency: white or drop [white]"},
    {0},
};

static const char *const reference_names[] = {"auto", "openai", "hf", "hf-tv", NULL};
static const char *const alpha_names[] = {"white", "drop", NULL};
static const char *const precision_names[] = {"f32", "bf16", "int8", NULL};
static const char *const gemm_names[] = {"auto", "own", "openblas", NULL};
static const char *const verify_names[] = {"used", "all", "none", NULL};

static const clipc_tier tiers[] = {CLIPC_TIER_BEST,        CLIPC_TIER_PLAIN_C,  CLIPC_TIER_AVX2,
                                   CLIPC_TIER_AVX_VNNI,    CLIPC_TIER_AVX512,   CLIPC_TIER_AVX512_VNNI,
                                   CLIPC_TIER_AVX512_BF16, CLIPC_TIER_NEON,     CLIPC_TIER_DOTPROD,
                                   CLIPC_TIER_I8MM,        CLIPC_TIER_NEON_BF16};
enum { N_TIERS = sizeof tiers / sizeof *tiers };

/* The tables of a command: its own first, then the shared ones. Returns how many. */
static size_t tables_of(const struct cli_command *command, const struct cli_option *tables[6]) {
  size_t n = 0;
  const int groups = command->groups;
  if (command->options != NULL) tables[n++] = command->options;
  if (groups & CLI_TAKES_MODEL) tables[n++] = model_options;
  if ((groups & CLI_TAKES_MODEL) && (groups & CLI_TAKES_PICTURES)) tables[n++] = alpha_options;
  if (groups & CLI_TAKES_PICTURES) tables[n++] = picture_options;
  if (groups & CLI_TAKES_URLS) tables[n++] = url_options;
  tables[n++] = help_options;
  return n;
}

void cli_each_option(const struct cli_command *command, void (*visit)(const struct cli_option *option, void *context),
                     void *context) {
  const struct cli_option *tables[6];
  size_t n_tables = tables_of(command, tables);
  for (size_t i = 0; i < n_tables; i++) {
    for (const struct cli_option *option = tables[i]; option->name != NULL; option++) visit(option, context);
  }
}

struct search {
  const char *name; /* [n]; NULL to look for the letter */
  size_t n;
  char letter;
  const struct cli_option *found;
};

static void match(const struct cli_option *option, void *context) {
  struct search *search = context;
  bool same = search->name != NULL
                  ? strlen(option->name) == search->n && memcmp(option->name, search->name, search->n) == 0
                  : option->letter == search->letter;
  if (same && search->found == NULL) search->found = option;
}

struct names {
  const char *names[64];
  size_t n;
};

static void collect(const struct cli_option *option, void *context) {
  struct names *names = context;
  if (names->n < sizeof names->names / sizeof *names->names) names->names[names->n++] = option->name;
}

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

/* Insertions, deletions and exchanges of letters between two words of at most 31 bytes. */
static size_t distance(const char *a, const char *b) {
  size_t n_a = strlen(a), n_b = strlen(b), row[32];
  if (n_a > 31 || n_b > 31) return 31;
  for (size_t j = 0; j <= n_b; j++) row[j] = j;
  for (size_t i = 1; i <= n_a; i++) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= n_b; j++) {
      size_t replaced = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = smaller(replaced, smaller(row[j], row[j - 1]) + 1);
    }
  }
  return row[n_b];
}

const char *cli_nearest(const char *word, const char *const *words, size_t n_words) {
  const char *nearest = NULL;
  size_t least = smaller(3, (strlen(word) + 2) / 2); /* up to two letters off, fewer in short words */
  for (size_t i = 0; i < n_words; i++) {
    size_t d = distance(word, words[i]);
    if (d < least) least = d, nearest = words[i];
  }
  return nearest;
}

static int unknown_option(struct cli_parser *parser, const char *name, size_t n) {
  struct names names = {.n = 0};
  cli_each_option(parser->command, collect, &names);
  char *word = cli_copy(name, n);
  const char *nearest = cli_nearest(word, names.names, names.n);
  if (nearest != NULL) {
    cli_usage_error(parser->command, "%s has no option --%s; did you mean --%s?", parser->command->name, word, nearest);
  } else {
    cli_usage_error(parser->command, "%s has no option --%s", parser->command->name, word);
  }
  free(word);
  return CLI_BAD;
}

static int long_option(struct cli_parser *parser, const char *name, const char **value) {
  size_t n = strcspn(name, "=");
  struct search search = {.name = name, .n = n};
  cli_each_option(parser->command, match, &search);
  const struct cli_option *option = search.found;
  if (option == NULL) return unknown_option(parser, name, n);
  *value = name[n] == '=' ? name + n + 1 : NULL;
  if (option->value == NULL && *value != NULL) {
    cli_usage_error(parser->command, "--%s takes no value", option->name);
    return CLI_BAD;
  }
  if (option->value != NULL && *value == NULL) {
    if (parser->next >= parser->argc) {
      cli_usage_error(parser->command, "--%s needs a value: --%s %s", option->name, option->name, option->value);
      return CLI_BAD;
    }
    *value = parser->argv[parser->next++];
  }
  return option->id;
}

/* One letter of "-abc" or "-t4". */
static int short_option(struct cli_parser *parser, const char **value) {
  struct search search = {.letter = *parser->cluster++};
  cli_each_option(parser->command, match, &search);
  const struct cli_option *option = search.found;
  if (option == NULL) {
    cli_usage_error(parser->command, "%s has no option -%c", parser->command->name, search.letter);
    return CLI_BAD;
  }
  *value = NULL;
  if (option->value == NULL) return option->id;
  if (*parser->cluster != '\0') {
    *value = parser->cluster + (*parser->cluster == '=');
    parser->cluster = NULL;
  } else if (parser->next < parser->argc) {
    *value = parser->argv[parser->next++];
  } else {
    cli_usage_error(parser->command, "-%c needs a value: -%c %s", option->letter, option->letter, option->value);
    return CLI_BAD;
  }
  return option->id;
}

int cli_next(struct cli_parser *parser, const char **value) {
  if (parser->cluster != NULL && *parser->cluster != '\0') return short_option(parser, value);
  if (parser->next >= parser->argc) return CLI_END;
  const char *argument = parser->argv[parser->next++];
  if (parser->only_plain || argument[0] != '-' || argument[1] == '\0') {
    *value = argument;
    return CLI_PLAIN;
  }
  if (strcmp(argument, "--") == 0) {
    parser->only_plain = true;
    return cli_next(parser, value);
  }
  if (argument[1] == '-') return long_option(parser, argument + 2, value);
  parser->cluster = argument + 1;
  return short_option(parser, value);
}

bool cli_number(const struct cli_command *command, const char *option, const char *value, uint64_t least, uint64_t most,
                uint64_t *number) {
  char *end = NULL;
  errno = 0;
  unsigned long long read = strtoull(value, &end, 10);
  bool digits = value[0] >= '0' && value[0] <= '9' && *end == '\0';
  if (!digits || errno != 0 || read < least || read > most) {
    cli_usage_error(command, "--%s takes a whole number from %llu to %llu, not \"%s\"", option,
                    (unsigned long long)least, (unsigned long long)most, value);
    return false;
  }
  *number = read;
  return true;
}

int cli_choice(const struct cli_command *command, const char *option, const char *value, const char *const *choices) {
  size_t n_bytes = 1;
  for (int i = 0; choices[i] != NULL; i++) {
    if (strcmp(choices[i], value) == 0) return i;
    n_bytes += strlen(choices[i]) + 2;
  }
  char *list = cli_allocate(n_bytes, 1);
  for (int i = 0; choices[i] != NULL; i++) {
    if (i > 0) strcat(list, ", ");
    strcat(list, choices[i]);
  }
  cli_usage_error(command, "--%s takes one of %s, not \"%s\"", option, list, value);
  free(list);
  return -1;
}

const char *cli_reference_name(clipc_reference reference) { return reference_names[reference]; }

const char *cli_alpha_name(clipc_alpha alpha) { return alpha_names[alpha]; }

const char *cli_precision_name(clipc_precision precision) { return precision_names[precision]; }

static bool tier_option(const struct cli_command *command, clipc_options *options, const char *value) {
  const char *names[N_TIERS + 1] = {NULL};
  for (size_t i = 0; i < N_TIERS; i++) names[i] = clipc_tier_name(tiers[i]);
  int choice = cli_choice(command, "tier", value, names);
  if (choice >= 0) options->tier = tiers[choice];
  return choice >= 0;
}

bool cli_model_option(const struct cli_command *command, struct cli_model_options *model, int id, const char *value) {
  clipc_limits *limits = &model->options.limits;
  uint64_t number = 0;
  int choice;
  switch (id) {
  case OPTION_MODEL: model->folder = cli_hub_model(value); return true;
  case OPTION_REFERENCE:
    choice = cli_choice(command, "reference", value, reference_names);
    if (choice >= 0) model->options.reference = (clipc_reference)choice;
    return choice >= 0;
  case OPTION_PRECISION:
    choice = cli_choice(command, "precision", value, precision_names);
    if (choice >= 0) model->options.precision = (clipc_precision)choice;
    return choice >= 0;
  case OPTION_TIER: return tier_option(command, &model->options, value);
  case OPTION_GEMM:
    choice = cli_choice(command, "gemm", value, gemm_names);
    if (choice >= 0) model->options.gemm = (clipc_gemm)choice;
    return choice >= 0;
  case OPTION_VERIFY:
    choice = cli_choice(command, "verify", value, verify_names);
    if (choice >= 0) model->options.verify = (clipc_verify)choice;
    return choice >= 0;
  case OPTION_ALPHA:
    choice = cli_choice(command, "alpha", value, alpha_names);
    if (choice >= 0) model->options.alpha = (clipc_alpha)choice;
    return choice >= 0;
  case OPTION_REFUSE_REPACK: model->options.refuse_repack = 1; return true;
  case OPTION_THREADS: /* 0 asks the library for its own choice */
    if (!cli_number(command, "threads", value, 0, 1024, &number)) return false;
    model->options.n_threads = (int)number;
    return true;
  case OPTION_MAX_PIXELS: return cli_number(command, "max-pixels", value, 1, INT64_MAX, &limits->max_image_pixels);
  case OPTION_MAX_BYTES: return cli_number(command, "max-bytes", value, 1, INT64_MAX, &limits->max_image_bytes);
  case OPTION_TIMEOUT: return cli_number(command, "timeout", value, 1, 86400, &model->timeout_s);
  case OPTION_ALLOW: cli_list_add(&model->allow, value); return true;
  case OPTION_EXIF: model->options.apply_exif = 1; return true;
  default: model->options.read_weights = 1; return true;
  }
}

void cli_model_options_free(struct cli_model_options *model) { free(model->allow.items); }

int cli_parse(const struct cli_command *command, int argc, char **argv, struct cli_model_options *model, cli_take *take,
              void *job) {
  struct cli_parser parser = {.command = command, .argc = argc, .argv = argv, .next = 1};
  const char *value;
  int id;
  while ((id = cli_next(&parser, &value)) != CLI_END) {
    if (id == CLI_BAD) return CLI_FAILED;
    if (id == CLI_HELP) return cli_help(command);
    bool shared = id >= CLI_SHARED && id < CLI_OWN;
    if (!(shared ? cli_model_option(command, model, id, value) : take(command, job, id, value))) return CLI_FAILED;
  }
  return CLI_PARSED;
}

bool cli_model_open(clipc_model **out, const struct cli_command *command, const struct cli_model_options *model,
                    int towers) {
  *out = NULL;
  if (model->folder == NULL) {
    cli_usage_error(command, "%s needs a model: -m MODEL", command->name);
    return false;
  }
  clipc_options options = model->options;
  options.towers = towers;
  clipc_error error = {0};
  if (clipc_model_open(out, model->folder, &options, &error) == CLIPC_OK) return true;
  cli_hub_complain(model->folder, &error);
  return false;
}
