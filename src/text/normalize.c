/* Unicode's normal form NFC, from utf8proc's decompositions, combining classes and compositions.
 * In: valid UTF-8. Out: valid UTF-8 appended to a byte string.
 * Marks are put in order here, in linear time: utf8proc's own sorting is quadratic in the length of a run of
 * marks. An ASCII character never combines with what stands before it, so text is taken in stretches that begin
 * with one. For transformers the form is that of Unicode 9.0, which tokenizers still has, otherwise that of 14.0: what
 * came later is neither moved nor taken apart nor put together. */
#include "text/tokenizer.h"

#include <utf8proc.h>

#include <string.h>

struct normal_form {
  utf8proc_option_t options;
  bool hf;
  clipc_allocator allocator;
  utf8proc_int32_t *points, *sorted; /* two halves of one allocation */
  size_t n, capacity;
};

/* The marks that came with Unicode 15.0: unknown to Python 3.11, whose normal forms (14.0) ftfy uses. */
static bool normal_is_later(utf8proc_int32_t point) {
  return (point >= 0x10EFD && point <= 0x10EFF) || point == 0x11F41 || point == 0x11F42 || point == 0x1E08F ||
         (point >= 0x1E4EC && point <= 0x1E4EF);
}

static unsigned normal_class(const struct normal_form *form, utf8proc_int32_t point) {
  if (point < 0x300 || normal_is_later(point)) return 0;
  if (form->hf && !(clipc__char_properties((uint32_t)point) & CLIPC__CHAR_MARK_HF)) return 0;
  return (unsigned)utf8proc_get_property(point)->combining_class;
}

/* Whether a composed character is one to this form. */
static bool normal_knows(const struct normal_form *form, uint32_t composed) {
  return !form->hf || composed - 0xAC00 < 11172 || clipc__char_properties(composed) & CLIPC__CHAR_COMPOSED_HF;
}

static bool normal_reserve(struct normal_form *form, size_t n_more) {
  if (form->capacity - form->n >= n_more) return true;
  size_t capacity = (form->n + n_more) * 2;
  utf8proc_int32_t *points = clipc__alloc(&form->allocator, capacity, 2 * sizeof *points);
  if (points == NULL) return false;
  if (form->n > 0) memcpy(points, form->points, form->n * sizeof *points);
  clipc__free(&form->allocator, form->points);
  form->points = points;
  form->sorted = points + capacity;
  form->capacity = capacity;
  return true;
}

static bool normal_decompose(struct normal_form *form, const uint8_t *text, size_t n_bytes) {
  form->n = 0;
  for (size_t i = 0; i < n_bytes;) {
    uint32_t code_point;
    int last_boundary_class = 0;
    i += clipc__utf8_read(&code_point, text + i, n_bytes - i, NULL);
    if (!normal_reserve(form, 32)) return false; /* the longest decomposition has 18 */
    size_t room = form->capacity - form->n;
    utf8proc_ssize_t n = 0;
    if (normal_knows(form, code_point))
      n = utf8proc_decompose_char((utf8proc_int32_t)code_point, form->points + form->n, (utf8proc_ssize_t)room,
                                  form->options, &last_boundary_class);
    if (n <= 0 || (size_t)n > room) { /* the character stands for itself */
      form->points[form->n] = (utf8proc_int32_t)code_point;
      n = 1;
    }
    form->n += (size_t)n;
  }
  return true;
}

/* Orders each run of marks by combining class, stable. */
static void normal_order(struct normal_form *form) {
  utf8proc_int32_t *points = form->points;
  for (size_t begin = 0; begin < form->n; begin++) {
    if (normal_class(form, points[begin]) == 0) continue;
    size_t end = begin + 1;
    bool ordered = true;
    for (; end < form->n && normal_class(form, points[end]) != 0; end++)
      ordered &= normal_class(form, points[end - 1]) <= normal_class(form, points[end]);
    if (!ordered) { /* by counting */
      size_t places[257] = {0};
      for (size_t i = begin; i < end; i++) places[normal_class(form, points[i]) + 1]++;
      for (size_t i = 1; i < 257; i++) places[i] += places[i - 1];
      for (size_t i = begin; i < end; i++) form->sorted[places[normal_class(form, points[i])]++] = points[i];
      memcpy(points + begin, form->sorted, (end - begin) * sizeof *points);
    }
    begin = end;
  }
}

/* The character that two make together; -1: none. */
static utf8proc_int32_t normal_pair(const struct normal_form *form, utf8proc_int32_t first, utf8proc_int32_t second) {
  utf8proc_int32_t pair[2] = {first, second};
  if (utf8proc_normalize_utf32(pair, 2, form->options) != 1) return -1;
  return normal_knows(form, (uint32_t)pair[0]) ? pair[0] : -1;
}

/* Puts each character to the last starter where the two make one and nothing stands in the way. */
static void normal_compose(struct normal_form *form) {
  utf8proc_int32_t *points = form->points;
  size_t n = 0, starter = SIZE_MAX;
  unsigned before = 0; /* class of the character before, if it stands behind the starter */
  for (size_t i = 0; i < form->n; i++) {
    unsigned now = normal_class(form, points[i]);
    if (starter != SIZE_MAX && (n == starter + 1 || before < now)) {
      utf8proc_int32_t composed = normal_pair(form, points[starter], points[i]);
      if (composed >= 0) {
        points[starter] = composed;
        continue;
      }
    }
    if (now == 0) starter = n;
    before = now;
    points[n++] = points[i];
  }
  form->n = n;
}

static bool normal_stretch(struct clipc__bytes *out, struct normal_form *form, const uint8_t *text, size_t n_bytes) {
  if (!normal_decompose(form, text, n_bytes)) return false;
  normal_order(form);
  normal_compose(form);
  if (!clipc__bytes_reserve(out, form->n * 4)) return false;
  for (size_t i = 0; i < form->n; i++)
    out->n_bytes += clipc__utf8_write(out->data + out->n_bytes, (uint32_t)form->points[i]);
  return true;
}

static bool normal_text(struct clipc__bytes *out, const uint8_t *text, size_t n_bytes, bool hf) {
  struct normal_form form = {.options = UTF8PROC_STABLE | UTF8PROC_COMPOSE, .hf = hf, .allocator = out->allocator};
  bool done = clipc__bytes_reserve(out, n_bytes);
  for (size_t i = 0; done && i < n_bytes;) {
    size_t begin = i;
    while (i < n_bytes && text[i] < 0x80) i++;
    if (i < n_bytes && i > begin) i--; /* the last one may take marks */
    done = clipc__bytes_append(out, text + begin, i - begin);
    begin = i;
    if (i < n_bytes) i++;
    while (i < n_bytes && text[i] >= 0x80) i++;
    if (done && i > begin) done = normal_stretch(out, &form, text + begin, i - begin);
  }
  clipc__free(&form.allocator, form.points);
  return done;
}

bool clipc__nfc(struct clipc__bytes *out, const uint8_t *text, size_t n_bytes) {
  return normal_text(out, text, n_bytes, false);
}

bool clipc__nfc_hf(struct clipc__bytes *out, const uint8_t *text, size_t n_bytes) {
  return normal_text(out, text, n_bytes, true);
}
