/* Two small models as engines: see small_engines.h. Both show what the library asks of one:
 *   a loader   does a piece of its work per turn and returns CLIPC_YIELDING in between
 *   compute    keeps what it is at in what the worker owns, sends a chunk per turn, and asks again where the reader is
 * behind */
#include "small_engines.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Random numbers from a seed: xorshift. */
static uint64_t next_random(uint64_t *state) {
  *state ^= *state << 13, *state ^= *state >> 7, *state ^= *state << 17;
  return *state;
}

static uint64_t seed_random(uint64_t seed, uint64_t number) {
  uint64_t state = (seed + 0x9E3779B97F4A7C15u) * 0xBF58476D1CE4E5B9u + number * 0x94D049BB133111EBu;
  state ^= state >> 31;
  return state ? state : 1;
}

static double random_between(uint64_t *state, double low, double high) {
  return low + (high - low) * (double)(next_random(state) >> 11) / 9007199254740992.0;
}

/* ---- the text model: all places of the text in the order of what stands before them, read backwards. Those whose last
 * characters are the same lie together, so that a place drawn from among them draws the next character with the text's
 * own frequencies; where nothing fits, fewer characters decide. */

enum { DEFAULT_ORDER = 8, DEFAULT_WORDS = 64, MOST_WORD = 40, PROMPT_TAIL = 64 };

struct text_model {
  const struct small_text *source;
  int order;
  uint32_t *places; /* [n_bytes], sorted */
};

/* Compares what stands before two places, backwards, order characters at most. */
static int compare_before(const struct text_model *model, uint32_t a, uint32_t b) {
  for (int i = 1; i <= model->order; i++) {
    int x = a >= (uint32_t)i ? (unsigned char)model->source->text[a - (uint32_t)i] : -1;
    int y = b >= (uint32_t)i ? (unsigned char)model->source->text[b - (uint32_t)i] : -1;
    if (x != y) return x - y;
  }
  return 0;
}

struct text_loading {
  struct text_model *model;
  uint32_t *spare;
  size_t width; /* of the runs that are sorted already */
};

/* Merges neighbouring runs: one pass of a merge sort. */
static void merge_runs(struct text_loading *loading) {
  struct text_model *model = loading->model;
  const size_t n = model->source->n_bytes, width = loading->width;
  for (size_t begin = 0; begin < n; begin += 2 * width) {
    size_t middle = begin + width < n ? begin + width : n, end = begin + 2 * width < n ? begin + 2 * width : n;
    size_t a = begin, b = middle;
    for (size_t out = begin; out < end; out++)
      loading->spare[out] = b == end || (a < middle && compare_before(model, model->places[a], model->places[b]) <= 0)
                                ? model->places[a++]
                                : model->places[b++];
  }
  uint32_t *sorted = loading->spare;
  loading->spare = model->places;
  model->places = sorted;
  loading->width *= 2;
}

static void release_text(void *self) {
  struct text_model *model = self;
  if (model) free(model->places);
  free(model);
}

static clipc_status begin_text(struct text_loading *loading, const struct small_text *source) {
  loading->model = calloc(1, sizeof *loading->model);
  if (loading->model == NULL) return CLIPC_E_NO_MEMORY;
  loading->model->source = source;
  loading->model->order = source->order > 0 ? source->order : DEFAULT_ORDER;
  loading->model->places = malloc((source->n_bytes + 1) * sizeof *loading->model->places);
  loading->spare = malloc((source->n_bytes + 1) * sizeof *loading->spare);
  if (loading->model->places == NULL || loading->spare == NULL) return CLIPC_E_NO_MEMORY;
  for (size_t i = 0; i < source->n_bytes; i++) loading->model->places[i] = (uint32_t)i;
  loading->width = 1;
  return CLIPC_OK;
}

/* What one worker is in the middle of. */
struct text_writer {
  char last[PROMPT_TAIL]; /* the last characters so far */
  size_t n_last;
  char word[MOST_WORD + 1];
  size_t n_word;
  uint64_t random, n_words, most_words;
  int ended; /* the text's line has */
};

static clipc_status open_writer(void *self, void **worker, clipc_error *error) {
  (void)self, (void)error;
  *worker = calloc(1, sizeof(struct text_writer));
  return *worker ? CLIPC_OK : CLIPC_E_NO_MEMORY;
}

static void close_writer(void *self, void *worker) {
  (void)self;
  free(worker);
}

/* How the n characters before a place compare with the writer's last n. */
static int compare_last(const struct text_model *model, uint32_t place, const struct text_writer *writer, size_t n) {
  for (size_t i = 1; i <= n; i++) {
    int x = place >= i ? (unsigned char)model->source->text[place - i] : -1;
    int y = (unsigned char)writer->last[writer->n_last - i];
    if (x != y) return x - y;
  }
  return 0;
}

/* The first place that does not come before (or, after = 1, comes behind) the writer's last n characters. */
static size_t find_bound(const struct text_model *model, const struct text_writer *writer, size_t n, int after) {
  size_t low = 0, high = model->source->n_bytes;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (compare_last(model, model->places[middle], writer, n) < after)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

static char draw_character(const struct text_model *model, struct text_writer *writer) {
  size_t n = writer->n_last < (size_t)model->order ? writer->n_last : (size_t)model->order;
  for (;; n--) {
    size_t begin = find_bound(model, writer, n, 0), end = find_bound(model, writer, n, 1);
    if (end > begin) return model->source->text[model->places[begin + next_random(&writer->random) % (end - begin)]];
  }
}

static void remember(struct text_writer *writer, char c) {
  if (writer->n_last == PROMPT_TAIL) {
    memmove(writer->last, writer->last + PROMPT_TAIL / 2, PROMPT_TAIL / 2);
    writer->n_last = PROMPT_TAIL / 2;
  }
  writer->last[writer->n_last++] = c;
}

static void write_word(const struct text_model *model, struct text_writer *writer) {
  writer->n_word = 0;
  while (writer->n_word < MOST_WORD && !writer->ended) {
    char c = draw_character(model, writer);
    if (c == '\n') {
      writer->ended = 1;
      break;
    }
    remember(writer, c);
    writer->word[writer->n_word++] = c;
    if (c == ' ' && writer->n_word > 1) break;
  }
  writer->word[writer->n_word] = '\0';
}

enum { TEXT_START, TEXT_WRITE, TEXT_SEND };

static int generate(clipc_task *task, void *self, void *worker, clipc_call *const *calls, size_t n_calls, int *at,
                    clipc_error *error) {
  const struct text_model *model = self;
  struct text_writer *writer = worker;
  const clipc_request *request = clipc_call_request(calls[0]);
  (void)n_calls; /* max_batch is 1 */
  if (*at == TEXT_START) {
    memset(writer, 0, sizeof *writer);
    for (const char *c = request->prompt; *c; c++) remember(writer, *c);
    writer->random = seed_random(request->seed, 0);
    writer->most_words = request->max_chunks ? request->max_chunks : DEFAULT_WORDS;
    *at = TEXT_WRITE;
  }
  if (*at == TEXT_WRITE) {
    if (writer->ended || writer->n_words == writer->most_words) return CLIPC_OK;
    write_word(model, writer);
    if (writer->n_word == 0) return CLIPC_OK;
    *at = TEXT_SEND;
  }
  const clipc_chunk chunk = {.text = writer->word, .text_bytes = writer->n_word};
  int status = clipc_call_send(task, calls[0], &chunk);
  if (status == CLIPC_WAITING) return status; /* the reader is behind */
  if (status != CLIPC_OK) {
    snprintf(error->message, sizeof error->message, "a word could not be sent");
    error->status = (clipc_status)status;
    return status;
  }
  writer->n_words++;
  *at = TEXT_WRITE;
  return CLIPC_YIELDING;
}

static int load_text(clipc_task *task, void *frame, const clipc_loader *loader, clipc_engine *engine,
                     clipc_error *error) {
  struct text_loading *loading = frame;
  const struct small_text *source = loader->source;
  (void)task, (void)error;
  if (loading->model == NULL) {
    if (source == NULL || source->n_bytes == 0 || source->n_bytes > UINT32_MAX) return CLIPC_E_INVALID;
    clipc_status status = begin_text(loading, source);
    return status == CLIPC_OK ? CLIPC_YIELDING : (int)status;
  }
  if (loading->width < source->n_bytes) {
    merge_runs(loading);
    return CLIPC_YIELDING;
  }
  *engine = (clipc_engine){.self = loading->model,
                           .shared_bytes = sizeof *loading->model + source->n_bytes * sizeof *loading->model->places,
                           .worker_bytes = sizeof(struct text_writer),
                           .open_worker = open_writer,
                           .close_worker = close_writer,
                           .compute = generate,
                           .release = release_text};
  loading->model = NULL;
  return CLIPC_OK;
}

static void drop_text_loading(void *frame) {
  struct text_loading *loading = frame;
  free(loading->spare);
  release_text(loading->model);
}

clipc_loader small_text_loader(const struct small_text *text) {
  return (clipc_loader){.name = "text model",
                        .run = load_text,
                        .drop = drop_text_loading,
                        .frame_bytes = sizeof(struct text_loading),
                        .source = text};
}

/* ---- the drawer */

enum { SIDE = 120, SAMPLES = 3, MOST_SHAPES = 5 };

static const struct {
  const char *name;
  int rgb[3];
} colours[] = {{"red", {215, 30, 35}},    {"orange", {245, 135, 20}}, {"yellow", {245, 215, 35}},
               {"green", {40, 160, 60}},  {"blue", {35, 80, 215}},    {"purple", {125, 45, 165}},
               {"pink", {250, 135, 185}}, {"brown", {120, 72, 35}},   {"black", {18, 18, 20}},
               {"gray", {130, 130, 132}}};
static const char *const shapes[] = {"circle", "square", "triangle", "star", "cross", "ring", "heart", "diamond"};
static const char *const numbers[] = {"two", "three", "four", "five"};

struct drawing {
  int shape, colour, count; /* -1 = not said */
  double x, y, size;        /* of one alone, in the unit square */
};

static int in_triangle(double x, double y) { return y < .85 && fabs(x) < (y + .95) / 1.8; }

static int in_star(double x, double y) { /* ten corners, at radii 1.08 and 0.44 in turn */
  const double step = acos(-1) / 5;
  double angle = fmod(atan2(x, -y) + 20 * step, 2 * step);
  if (angle > step) angle = 2 * step - angle; /* between an outer corner, at 0, and an inner one, at step */
  double u = hypot(x, y) * cos(angle), v = hypot(x, y) * sin(angle);
  double inner_u = .44 * cos(step), inner_v = .44 * sin(step);
  return (inner_u - 1.08) * v - inner_v * (u - 1.08) > 0;
}

static int in_heart(double x, double y) {
  double a = x * 1.15, b = -y * 1.15 + .15, c = a * a + b * b - 1;
  return c * c * c - a * a * b * b * b < 0;
}

static int in_shape(int shape, double x, double y) {
  const double r = hypot(x, y), t = .36;
  switch (shape) {
  case 0: return r < 1;
  case 1: return fabs(x) < .88 && fabs(y) < .88;
  case 2: return in_triangle(x, y);
  case 3: return in_star(x, y);
  case 4: return (fabs(x) < t && fabs(y) < 1) || (fabs(y) < t && fabs(x) < 1);
  case 5: return r < 1 && r > .56;
  case 6: return in_heart(x, y);
  default: return fabs(x) / .72 + fabs(y) / 1.1 < 1;
  }
}

static const char *find_word(const char *caption, const char *word) { return strstr(caption, word); }

static struct drawing understand(const char *caption) {
  struct drawing drawing = {.shape = -1, .colour = -1, .count = 1, .x = .5, .y = .5, .size = .68};
  for (int i = 0; i < (int)(sizeof shapes / sizeof *shapes); i++)
    if (find_word(caption, shapes[i])) drawing.shape = i;
  for (int i = 0; i < (int)(sizeof colours / sizeof *colours); i++)
    if (find_word(caption, colours[i].name)) drawing.colour = i;
  for (int i = 0; i < (int)(sizeof numbers / sizeof *numbers); i++)
    if (find_word(caption, numbers[i])) drawing.count = i + 2;
  if (find_word(caption, "left")) drawing.x = .2, drawing.size = .28;
  if (find_word(caption, "right")) drawing.x = .8, drawing.size = .28;
  if (find_word(caption, "top")) drawing.y = .2, drawing.size = .28;
  if (find_word(caption, "bottom")) drawing.y = .8, drawing.size = .28;
  return drawing;
}

struct placed {
  double x, y, size;
};

/* Where each of the shapes goes; several keep a distance. */
static void place_shapes(struct placed placed[MOST_SHAPES], const struct drawing *drawing, uint64_t *random) {
  if (drawing->count == 1) {
    placed[0] =
        (struct placed){drawing->x + random_between(random, -.04, .04), drawing->y + random_between(random, -.04, .04),
                        drawing->size * random_between(random, .92, 1.06)};
    return;
  }
  const double size = .235;
  for (int n = 0, tries = 0; n < drawing->count; tries++) {
    if (tries % 64 == 63) n = 0; /* there is no room: once more */
    placed[n] = (struct placed){random_between(random, .14, .86), random_between(random, .14, .86), size};
    int free = 1;
    for (int i = 0; i < n; i++)
      free = free && hypot(placed[n].x - placed[i].x, placed[n].y - placed[i].y) > size * 1.15;
    n += free;
  }
}

static int covers(const struct placed *placed, const struct drawing *drawing, double x, double y) {
  for (int i = 0; i < drawing->count; i++) {
    double scale = 2 / placed[i].size;
    if (in_shape(drawing->shape, (x - placed[i].x) * scale, (y - placed[i].y) * scale)) return 1;
  }
  return 0;
}

static void paint(uint8_t *rgb, const struct drawing *drawing, uint64_t random) {
  struct placed placed[MOST_SHAPES];
  place_shapes(placed, drawing, &random);
  const int paper = (int)random_between(&random, 222, 248);
  const int *ink = colours[drawing->colour < 0 ? 4 : drawing->colour].rgb;
  for (int i = 0; i < SIDE * SIDE; i++) {
    int n_inside = 0;
    for (int s = 0; s < SAMPLES * SAMPLES; s++)
      n_inside += covers(placed, drawing, (i % SIDE + (s % SAMPLES + .5) / SAMPLES) / SIDE,
                         (i / SIDE + (s / SAMPLES + .5) / SAMPLES) / SIDE);
    for (int c = 0; c < 3; c++) rgb[3 * i + c] = (uint8_t)(paper + (ink[c] - paper) * n_inside / (SAMPLES * SAMPLES));
  }
}

struct drawer {
  uint64_t n_done;
  uint8_t rgb[3 * SIDE * SIDE];
};

static clipc_status open_drawer(void *self, void **worker, clipc_error *error) {
  (void)self, (void)error;
  *worker = malloc(sizeof(struct drawer));
  return *worker ? CLIPC_OK : CLIPC_E_NO_MEMORY;
}

static int draw(clipc_task *task, void *self, void *worker, clipc_call *const *calls, size_t n_calls, int *at,
                clipc_error *error) {
  struct drawer *drawer = worker;
  const clipc_request *request = clipc_call_request(calls[0]);
  const uint64_t n_wanted = request->max_chunks ? request->max_chunks : 1;
  (void)self, (void)n_calls;
  const struct drawing drawing = understand(request->prompt);
  if (drawing.shape < 0) {
    snprintf(error->message, sizeof error->message, "the caption names no shape that can be drawn");
    return error->status = CLIPC_E_UNSUPPORTED;
  }
  if (*at == 0) drawer->n_done = 0;
  if (*at != 2) {
    if (drawer->n_done == n_wanted) return CLIPC_OK;
    paint(drawer->rgb, &drawing, seed_random(request->seed, drawer->n_done));
    *at = 2;
  }
  const clipc_chunk chunk = {.rgb = drawer->rgb, .height = SIDE, .width = SIDE};
  int status = clipc_call_send(task, calls[0], &chunk);
  if (status != CLIPC_OK) return status;
  drawer->n_done++;
  *at = 1;
  return CLIPC_YIELDING;
}

static int load_drawer(clipc_task *task, void *frame, const clipc_loader *loader, clipc_engine *engine,
                       clipc_error *error) {
  (void)task, (void)frame, (void)loader, (void)error;
  *engine = (clipc_engine){
      .worker_bytes = sizeof(struct drawer), .open_worker = open_drawer, .close_worker = close_writer, .compute = draw};
  return CLIPC_OK;
}

clipc_loader small_drawer_loader(void) { return (clipc_loader){.name = "drawer", .run = load_drawer}; }
