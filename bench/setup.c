/* Options, model and inputs of the programs of this folder. */
#include "setup.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

const char *const setup_precisions[3] = {"f32", "bf16", "int8"};

static const char *program;

static _Noreturn void give_up(const char *why, const char *what) {
  fprintf(stderr, "%s: %s%s%s\n", program, why, *what ? " " : "", what);
  exit(2);
}

double setup_ms(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return 1e3 * (double)time.tv_sec + 1e-6 * (double)time.tv_nsec;
}

void *setup_memory(size_t n_bytes) {
  void *memory = aligned_alloc(64, (n_bytes + 127) & ~(size_t)63);
  if (memory == NULL) give_up("no memory", "");
  memset(memory, 0, n_bytes);
  return memory;
}

static uint32_t random_word(void) {
  static uint32_t state = 1;
  state = state * 1664525u + 1013904223u;
  return state >> 8;
}

double setup_random(void) {
  double sum = 0;
  for (int i = 0; i < 4; i++) sum += (double)random_word() / 16777216.0 - 0.5;
  return sum * 1.7320508;
}

/* ---- options */

static const struct option long_options[] = {
    {"shape", required_argument, NULL, 'S'},   {"model", required_argument, NULL, 'm'},
    {"tower", required_argument, NULL, 'w'},   {"precision", required_argument, NULL, 'p'},
    {"batch", required_argument, NULL, 'b'},   {"tokens", required_argument, NULL, 'n'},
    {"threads", required_argument, NULL, 't'}, {"seconds", required_argument, NULL, 's'},
    {"tier", required_argument, NULL, 'T'},    {"gemm", required_argument, NULL, 'g'},
    {"help", no_argument, NULL, 'h'},          {0}};

static _Noreturn void print_help(const char *about) {
  printf("%s\n"
         "  --shape NAME        random weights in this shape [ViT-B-32]\n"
         "  -m, --model DIR     a model in its place\n"
         "  --tower NAME        image or text [image]\n"
         "  --precision LIST    of f32, bf16, int8, with commas [all]\n"
         "  --batch LIST        of numbers, with commas [1,32]\n"
         "  --tokens N          ids of a text [77]\n"
         "  -t, --threads N     [all that this process may use]\n"
         "  --seconds S         for each precision and batch [4]\n"
         "  --tier NAME         no better kernels than these [best]\n"
         "  --gemm NAME         auto, own or openblas [auto]\n"
         "  -h, --help          show this\n\n"
         "Example:\n  %s --precision f32 --batch 1,32 --threads 2\n",
         about, program);
  exit(0);
}

static int choice(const char *name, const char *const *names, int n) {
  for (int i = 0; i < n; i++)
    if (strcmp(names[i], name) == 0) return i;
  give_up("unknown value", name);
}

static double number(const char *text, double least, double most) {
  char *end;
  double value = strtod(text, &end);
  if (end == text || *end != '\0' || !(value >= least && value <= most)) give_up("out of range:", text);
  return value;
}

static clipc_tier tier_of_name(const char *name) {
  for (int tier = 0; tier < 32; tier++)
    if (strcmp(clipc_tier_name((clipc_tier)tier), name) == 0) return (clipc_tier)tier;
  give_up("unknown tier", name);
}

static void take_option(struct setup *setup, int option, char *value) {
  static const char *const towers[] = {"image", "text"}, *const gemms[] = {"auto", "own", "openblas"};
  switch (option) {
  case 'S': setup->shape = value; return;
  case 'm': setup->folder = value; return;
  case 'w': setup->text = choice(value, towers, 2) == 1; return;
  case 'p':
    setup->n_precisions = 0;
    for (char *item = strtok(value, ","); item && setup->n_precisions < 3; item = strtok(NULL, ","))
      setup->precisions[setup->n_precisions++] = choice(item, setup_precisions, 3);
    return;
  case 'b':
    setup->n_batches = 0;
    for (char *item = strtok(value, ","); item && setup->n_batches < 8; item = strtok(NULL, ","))
      setup->batches[setup->n_batches++] = (size_t)number(item, 1, 4096);
    return;
  case 'n': setup->tokens = (size_t)number(value, 2, 4096); return;
  case 't': setup->options.n_threads = (int)number(value, 1, 256); return;
  case 's': setup->seconds = number(value, 0.001, 3600); return;
  case 'T': setup->options.tier = tier_of_name(value); return;
  case 'g': setup->options.gemm = (clipc_gemm)choice(value, gemms, 3); return;
  default: exit(2);
  }
}

void setup_parse(struct setup *setup, int argc, char **argv, const char *about) {
  program = argv[0];
  *setup = (struct setup){
      .tokens = 77, .seconds = 4, .precisions = {0, 1, 2}, .n_precisions = 3, .batches = {1, 32}, .n_batches = 2};
  int option;
  while ((option = getopt_long(argc, argv, "m:t:h", long_options, NULL)) != -1) {
    if (option == 'h') print_help(about);
    take_option(setup, option, optarg);
  }
  if (optind < argc) give_up("does not take", argv[optind]);
  if (setup->shape == NULL && setup->folder == NULL) setup->shape = "ViT-B-32";
  if (setup->shape != NULL && setup->folder != NULL) give_up("takes a shape or a model, not both", "");
}

/* ---- model and inputs */

static void make_images(struct setup *setup) {
  size_t n = 3 * (size_t)clipc_image_height(setup->model) * (size_t)clipc_image_width(setup->model);
  setup->images = setup_memory(setup->batch * sizeof *setup->images);
  setup->pixels = setup_memory(setup->batch * n * sizeof *setup->pixels);
  for (size_t i = 0; i < setup->batch * n; i++) setup->pixels[i] = (float)setup_random();
  for (size_t i = 0; i < setup->batch; i++) setup->images[i] = clipc_image_pixels(setup->pixels + i * n);
}

static void make_texts(struct setup *setup) {
  size_t n = setup->tokens;
  uint32_t end = (uint32_t)clipc_vocabulary_size(setup->model) - 1;
  if (n > clipc_context_length(setup->model)) give_up("more tokens than the model's texts have", "");
  setup->texts = setup_memory(setup->batch * sizeof *setup->texts);
  setup->ids = setup_memory(setup->batch * n * sizeof *setup->ids);
  for (size_t i = 0; i < setup->batch * n; i++)
    setup->ids[i] = (int32_t)(i % n == n - 1 ? end : random_word() % (end > 0 ? end : 1));
  for (size_t i = 0; i < setup->batch; i++) setup->texts[i] = clipc_text_ids(setup->ids + i * n, n);
}

void setup_open(struct setup *setup, int precision, size_t batch) {
  clipc_error error = {CLIPC_OK, ""};
  clipc_options options = setup->options;
  options.precision = (clipc_precision)precision;
  options.towers = setup->text ? CLIPC_TOWER_TEXT : CLIPC_TOWER_IMAGE;
  setup->batch = batch;
  if (setup->shape != NULL)
    clipc_model_synthetic(&setup->model, setup->shape, &options, &error);
  else
    clipc_model_open(&setup->model, setup->folder, &options, &error);
  if (error.status == CLIPC_OK)
    clipc_session_open(&setup->session, setup->model, &(clipc_session_options){.max_batch = (int)batch}, &error);
  if (error.status != CLIPC_OK) give_up(error.message, "");
  setup->embeddings = setup_memory(batch * clipc_embedding_dimension(setup->model) * sizeof(float));
  setup->text ? make_texts(setup) : make_images(setup);
  setup_run(setup); /* a packed file's weights are there from now on */
}

void setup_close(struct setup *setup) {
  clipc_session_close(setup->session);
  clipc_model_close(setup->model);
  void *memory[] = {setup->images, setup->texts, setup->pixels, setup->ids, setup->embeddings};
  for (size_t i = 0; i < sizeof memory / sizeof *memory; i++) free(memory[i]);
  setup->images = NULL, setup->texts = NULL, setup->pixels = NULL, setup->ids = NULL, setup->embeddings = NULL;
}

void setup_run(struct setup *setup) {
  clipc_error error = {CLIPC_OK, ""};
  if (setup->text)
    clipc_embed_texts(setup->session, setup->texts, setup->batch, setup->embeddings, NULL, &error);
  else
    clipc_embed_images(setup->session, setup->images, setup->batch, setup->embeddings, NULL, &error);
  if (error.status != CLIPC_OK) give_up(error.message, "");
}
