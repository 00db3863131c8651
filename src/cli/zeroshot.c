/* clipc zeroshot-eval: how often a model finds the class of a picture by the classes' names.
 * In: a tree with a folder of pictures for each class; a file of class names; a file of templates. Out: top-1 and top-5
 * accuracy, the mean over classes, and which classes are taken for which. A class's vector is the normalised mean of
 * its normalised prompts, as clipc_embed_prompts makes it; the class of the greatest cosine wins, the first of equals.
 */
#include "cli/flow.h"
#include "cli/progress.h"
#include "cli/writers.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { IMAGES = CLI_OWN, CLASSES, TEMPLATES, TOP, FORMAT, BATCH };

enum { LINES, JSON };
static const char *const formats[] = {"lines", "json", NULL};

static const struct cli_option own_options[] = {
    {IMAGES, 'i', "images", "TREE", "a folder with one folder of pictures for each class"},
    {CLASSES, 0, "classes", "FILE", "the classes' names, see below [the folders' names, _ as a space]"},
    {TEMPLATES, 0, "templates", "FILE", "a sentence around {} on each line; several are averaged [a photo of a {}]"},
    {TOP, 'k', "top", "N", "confusions to show [10]"},
    {FORMAT, 'f', "format", "NAME", "lines or json [lines]"},
    {BATCH, 0, "batch", "N", "pictures computed at once [8]"},
    {0},
};

struct class {
  char *folder, *name;
  size_t n, n_top_1; /* pictures that could be read; those that were right */
};

/* One picture that was taken for another class. */
struct confusion {
  size_t is, taken_for, n;
};

struct job {
  struct cli_inputs images, names, templates;
  struct cli_model_options model;
  const char *tree, *classes_file;
  int format;
  uint64_t top, most;
  struct class *classes; /* [n_classes] */
  size_t n_classes, class_capacity;
  size_t *class_of; /* [images.n] */
  float *vectors;   /* [n_classes, dimension] */
  struct confusion *confusions;
  size_t n_confusions, confusion_capacity;
  size_t n, n_failed, n_top_1, n_top_5;
};

/* ---- classes */

static int by_text(const void *left, const void *right) { return strcmp(*(char *const *)left, *(char *const *)right); }

/* The folders of the tree, sorted; hidden ones are left out. */
static char **list_folders(const char *tree, size_t *n) {
  size_t capacity = 0;
  char **folders = NULL;
  DIR *open_folder = opendir(tree);
  *n = 0;
  if (open_folder == NULL) {
    cli_complain("%s: %s", tree, strerror(errno));
    return NULL;
  }
  for (struct dirent *entry; (entry = readdir(open_folder)) != NULL;) {
    struct stat status;
    if (entry->d_name[0] == '.' || fstatat(dirfd(open_folder), entry->d_name, &status, 0) != 0) continue;
    if (!S_ISDIR(status.st_mode)) continue;
    folders = cli_grow(folders, &capacity, *n + 1, sizeof *folders);
    folders[(*n)++] = cli_copy(entry->d_name, strlen(entry->d_name));
  }
  closedir(open_folder);
  if (*n > 0) {
    qsort(folders, *n, sizeof *folders, by_text);
  } else {
    cli_complain("%s: has no folders of pictures in it", tree);
  }
  return folders;
}

static void add_class(struct job *job, const char *folder, size_t n_folder, const char *name, size_t n_name) {
  job->classes = cli_grow(job->classes, &job->class_capacity, job->n_classes + 1, sizeof *job->classes);
  job->classes[job->n_classes++] = (struct class){.folder = cli_copy(folder, n_folder), .name = cli_copy(name, n_name)};
}

static size_t class_of_folder(const struct job *job, const char *folder) {
  size_t i = 0;
  while (i < job->n_classes && strcmp(job->classes[i].folder, folder) != 0) i++;
  return i;
}

/* Lines "folder<TAB>name", or names alone in the order of the sorted folders. */
static bool read_classes(struct job *job, char **folders, size_t n_folders) {
  const struct cli_inputs *names = &job->names;
  size_t n_tabs = 0;
  for (size_t i = 0; i < names->n; i++) n_tabs += strchr(names->items[i].text, '\t') != NULL;
  if (n_tabs > 0 && n_tabs < names->n) {
    cli_complain("%s: %zu of %zu lines have a tab; all must (folder, tab, name), or none", job->classes_file, n_tabs,
                 names->n);
    return false;
  }
  if (n_tabs == 0 && names->n != n_folders) {
    cli_complain("%s: has %zu names for the %zu folders of %s", job->classes_file, names->n, n_folders, job->tree);
    return false;
  }
  for (size_t i = 0; i < names->n; i++) {
    const char *line = names->items[i].text, *tab = strchr(line, '\t');
    const char *name = tab != NULL ? tab + 1 : line;
    char *folder = tab != NULL ? cli_copy(line, (size_t)(tab - line)) : cli_copy(folders[i], strlen(folders[i]));
    bool twice = class_of_folder(job, folder) < job->n_classes;
    if (twice) cli_complain("%s: folder \"%s\" comes twice", job->classes_file, folder);
    if (!twice) add_class(job, folder, strlen(folder), name, strlen(name));
    free(folder);
    if (twice) return false;
  }
  return true;
}

/* The folders' own names. */
static void name_classes(struct job *job, char **folders, size_t n_folders) {
  for (size_t i = 0; i < n_folders; i++) {
    add_class(job, folders[i], strlen(folders[i]), folders[i], strlen(folders[i]));
    for (char *at = job->classes[i].name; *at != '\0'; at++) {
      if (*at == '_') *at = ' ';
    }
  }
}

static bool add_pictures(struct job *job, char **folders, size_t n_folders) {
  size_t capacity = 0;
  for (size_t i = 0; i < n_folders; i++) {
    size_t which = class_of_folder(job, folders[i]), n_path = strlen(job->tree) + strlen(folders[i]) + 2;
    size_t first = job->images.n;
    if (which == job->n_classes) {
      cli_complain("%s: has no line for the folder \"%s\"", job->classes_file, folders[i]);
      return false;
    }
    char *path = cli_allocate(n_path, 1);
    snprintf(path, n_path, "%s/%s", job->tree, folders[i]);
    bool added = cli_add_image(&job->images, path);
    free(path);
    if (!added) return false;
    job->class_of = cli_grow(job->class_of, &capacity, job->images.n, sizeof *job->class_of);
    for (size_t picture = first; picture < job->images.n; picture++) job->class_of[picture] = which;
  }
  return true;
}

static bool read_tree(struct job *job) {
  size_t n_folders;
  char **folders = list_folders(job->tree, &n_folders);
  bool fine = n_folders > 0;
  if (fine && job->classes_file == NULL) name_classes(job, folders, n_folders);
  if (fine && job->classes_file != NULL) fine = read_classes(job, folders, n_folders);
  fine = fine && add_pictures(job, folders, n_folders);
  for (size_t i = 0; i < n_folders; i++) free(folders[i]);
  free(folders);
  return fine;
}

/* ---- vectors */

static bool embed_classes(struct job *job, clipc_model *model) {
  static const char *const usual[] = {"a photo of a {}"};
  const size_t dimension = clipc_embedding_dimension(model);
  size_t n_templates = job->templates.n > 0 ? job->templates.n : 1;
  const char **templates = cli_allocate(n_templates, sizeof *templates);
  templates[0] = usual[0];
  for (size_t i = 0; i < job->templates.n; i++) templates[i] = job->templates.items[i].text;
  clipc_session_options options = {.max_batch = (int)(n_templates < 32 ? n_templates : 32)};
  clipc_session *session = NULL;
  clipc_error error = {0};
  struct cli_progress progress;
  job->vectors = cli_allocate(job->n_classes, dimension * sizeof *job->vectors);
  clipc_session_open(&session, model, &options, &error);
  cli_progress_start(&progress, "classes", job->n_classes);
  for (size_t i = 0; i < job->n_classes && error.status == CLIPC_OK; i++) {
    clipc_embed_prompts(session, job->classes[i].name, templates, n_templates, job->vectors + i * dimension, &error);
    cli_progress_step(&progress, i + 1, 0);
  }
  cli_progress_clear(&progress);
  if (error.status != CLIPC_OK) cli_complain("%s", error.message);
  clipc_session_close(session);
  free(templates);
  return error.status == CLIPC_OK;
}

static void count_picture(struct job *job, size_t picture, const float *scores) {
  size_t is = job->class_of[picture], best[5];
  size_t n_best = clipc_top_k(best, 5, scores, job->n_classes);
  struct class *class = &job->classes[is];
  job->n++;
  class->n++;
  for (size_t i = 0; i < n_best; i++) job->n_top_5 += best[i] == is;
  if (best[0] == is) {
    job->n_top_1++;
    class->n_top_1++;
    return;
  }
  job->confusions = cli_grow(job->confusions, &job->confusion_capacity, job->n_confusions + 1, sizeof *job->confusions);
  job->confusions[job->n_confusions++] = (struct confusion){.is = is, .taken_for = best[0], .n = 1};
}

/* Returns the exit code. */
static int embed_pictures(struct job *job, clipc_model *model) {
  struct cli_flow flow;
  struct cli_progress progress;
  size_t index;
  const float *vector;
  clipc_error error;
  int code = CLI_OK;
  if (!cli_flow_open(&flow, model, &job->images, job->most, false, &job->model)) return CLI_FAILED;
  float *scores = cli_allocate(job->n_classes, sizeof *scores);
  cli_progress_start(&progress, "pictures", job->images.n);
  while (cli_flow_next(&flow, &index, &vector, &error)) {
    if (vector != NULL) {
      clipc_logits(model, scores, vector, 1, job->vectors, job->n_classes);
      count_picture(job, index, scores);
    } else {
      job->n_failed++;
      code = cli_code_after(code, &error);
      cli_progress_clear(&progress);
      cli_complain_of(&job->images.items[index], &error);
    }
    cli_progress_step(&progress, index + 1, job->n_failed);
  }
  cli_progress_clear(&progress);
  free(scores);
  cli_flow_close(&flow);
  return cli_was_stopped() ? CLI_STOPPED : code;
}

/* ---- the report */

static int by_pair(const void *left, const void *right) {
  const struct confusion *a = left, *b = right;
  if (a->is != b->is) return a->is < b->is ? -1 : 1;
  return a->taken_for < b->taken_for ? -1 : a->taken_for > b->taken_for;
}

static int by_count(const void *left, const void *right) {
  const struct confusion *a = left, *b = right;
  if (a->n != b->n) return a->n > b->n ? -1 : 1;
  return by_pair(left, right);
}

/* Equal pairs become one with their number, the most frequent first. */
static void add_up(struct job *job) {
  size_t n = 0;
  if (job->n_confusions > 0) qsort(job->confusions, job->n_confusions, sizeof *job->confusions, by_pair);
  for (size_t i = 0; i < job->n_confusions; i++) {
    if (n > 0 && by_pair(&job->confusions[n - 1], &job->confusions[i]) == 0) {
      job->confusions[n - 1].n++;
    } else {
      job->confusions[n++] = job->confusions[i];
    }
  }
  job->n_confusions = n;
  if (n > 0) qsort(job->confusions, n, sizeof *job->confusions, by_count);
  if (job->n_confusions > job->top) job->n_confusions = (size_t)job->top;
}

static double share(size_t part, size_t whole) { return whole > 0 ? (double)part / (double)whole : 0; }

/* Over the classes that have pictures. */
static double mean_per_class(const struct job *job) {
  double sum = 0;
  size_t n = 0;
  for (size_t i = 0; i < job->n_classes; i++) {
    if (job->classes[i].n == 0) continue;
    sum += share(job->classes[i].n_top_1, job->classes[i].n);
    n++;
  }
  return n > 0 ? sum / (double)n : 0;
}

static void print_lines(const struct job *job, struct cli_output *output) {
  cli_print(output, "pictures         %zu, of %zu classes\ntop-1            %.2f %%\ntop-5            %.2f %%\n",
            job->n, job->n_classes, 100 * share(job->n_top_1, job->n), 100 * share(job->n_top_5, job->n));
  cli_print(output, "mean per class   %.2f %%\n", 100 * mean_per_class(job));
  if (job->n_confusions > 0) cli_print(output, "taken for another\n");
  for (size_t i = 0; i < job->n_confusions; i++) {
    const struct confusion *pair = &job->confusions[i];
    const struct class *is = &job->classes[pair->is], *taken_for = &job->classes[pair->taken_for];
    char *left = cli_clean(is->name, strlen(is->name)), *right = cli_clean(taken_for->name, strlen(taken_for->name));
    cli_print(output, "  %6zu of %-6zu %s -> %s\n", pair->n, is->n, left, right);
    free(left);
    free(right);
  }
}

static void json_name(struct cli_output *output, const char *name) { cli_json_string(output, name, strlen(name)); }

static void print_json(const struct job *job, struct cli_output *output) {
  cli_print(output, "{\"model\":");
  json_name(output, job->model.folder);
  cli_print(output, ",\"n_images\":%zu,\"n_failed\":%zu,\"n_classes\":%zu,\"top_1\":%.9g,\"top_5\":%.9g,", job->n,
            job->n_failed, job->n_classes, share(job->n_top_1, job->n), share(job->n_top_5, job->n));
  cli_print(output, "\"mean_per_class\":%.9g,\"classes\":[", mean_per_class(job));
  for (size_t i = 0; i < job->n_classes; i++) {
    cli_print(output, "%s{\"folder\":", i > 0 ? "," : "");
    json_name(output, job->classes[i].folder);
    cli_print(output, ",\"name\":");
    json_name(output, job->classes[i].name);
    cli_print(output, ",\"n_images\":%zu,\"n_top_1\":%zu}", job->classes[i].n, job->classes[i].n_top_1);
  }
  cli_print(output, "],\"confusions\":[");
  for (size_t i = 0; i < job->n_confusions; i++) {
    cli_print(output, "%s{\"class\":", i > 0 ? "," : "");
    json_name(output, job->classes[job->confusions[i].is].folder);
    cli_print(output, ",\"taken_for\":");
    json_name(output, job->classes[job->confusions[i].taken_for].folder);
    cli_print(output, ",\"n\":%zu}", job->confusions[i].n);
  }
  cli_print(output, "]}\n");
}

/* ---- the command */

static int evaluate(const struct cli_command *command, struct job *job) {
  if (job->tree == NULL) return cli_usage_error(command, "zeroshot-eval needs pictures: --images TREE");
  if (job->model.folder == NULL) return cli_usage_error(command, "zeroshot-eval needs a model: -m MODEL");
  clipc_model *model;
  struct cli_output output;
  if (!read_tree(job)) return CLI_FAILED;
  if (!cli_model_open(&model, command, &job->model, CLIPC_TOWER_IMAGE | CLIPC_TOWER_TEXT)) return CLI_FAILED;
  int code = embed_classes(job, model) ? embed_pictures(job, model) : CLI_FAILED;
  clipc_model_close(model);
  if (code > CLI_ITEM_FAILED) return code;
  add_up(job);
  cli_output_open(&output, NULL);
  (job->format == JSON ? print_json : print_lines)(job, &output);
  return cli_output_close(&output, true) ? code : CLI_FAILED;
}

static bool own_option(const struct cli_command *command, void *context, int id, const char *value) {
  struct job *job = context;
  switch (id) {
  case IMAGES: job->tree = value; break;
  case CLASSES: job->classes_file = value; return cli_add_lines(&job->names, value, true);
  case TEMPLATES:
    if (!cli_add_lines(&job->templates, value, true)) return false;
    for (size_t i = 0; i < job->templates.n; i++) {
      if (strstr(job->templates.items[i].text, "{}") != NULL) continue;
      cli_complain("%s: \"%s\" has no {} where the class goes", value, job->templates.items[i].text);
      return false;
    }
    if (job->templates.n == 0) cli_complain("%s: has no templates", value);
    return job->templates.n > 0;
  case TOP: return cli_number(command, "top", value, 0, INT64_MAX, &job->top);
  case FORMAT: return (job->format = cli_choice(command, "format", value, formats)) >= 0;
  case BATCH: return cli_number(command, "batch", value, 1, 4096, &job->most);
  default: cli_usage_error(command, "what is \"%s\"? Pictures are given as --images TREE", value); return false;
  }
  return true;
}

static int run(const struct cli_command *command, int argc, char **argv) {
  struct job job = {.most = 8, .top = 10};
  int code = cli_parse(command, argc, argv, &job.model, own_option, &job);
  if (code == CLI_PARSED) code = evaluate(command, &job);
  for (size_t i = 0; i < job.n_classes; i++) {
    free(job.classes[i].folder);
    free(job.classes[i].name);
  }
  free(job.classes);
  free(job.class_of);
  free(job.vectors);
  free(job.confusions);
  cli_inputs_free(&job.images);
  cli_inputs_free(&job.names);
  cli_inputs_free(&job.templates);
  cli_model_options_free(&job.model);
  return code;
}

const struct cli_command cli_zeroshot_eval = {
    .name = "zeroshot-eval",
    .summary = "accuracy on a tree of pictures, by the classes' names",
    .usage = "-m MODEL --images TREE [--classes FILE] [--templates FILE] [-f lines|json]",
    .details =
        "TREE/FOLDER/PICTURE: each folder holds the pictures of one class. Lines of the file of classes, UTF-8:\n"
        "  folder<TAB>name   for each class, in any order; classes without a folder are choices too\n"
        "  name              or names alone, one for each folder, in the order of the folders' sorted names\n"
        "Lines of the file of templates: a sentence with {} where the name goes. Empty lines are left out in\n"
        "both. Pictures that cannot be read are told of and do not count.\n",
    .examples = "clipc zeroshot-eval -m models/tiny --images pictures/\n"
                "clipc zeroshot-eval -m ViT-B-32 --images imagenet/val --classes names.tsv --templates openai.txt\n",
    .options = own_options,
    .groups = CLI_TAKES_MODEL | CLI_TAKES_PICTURES,
    .run = run,
};
