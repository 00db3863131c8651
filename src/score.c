/* Scores: from vectors to cosines, logits, probabilities and ranks.
 * In: embeddings f32 [n, dimension], normalised or not. Out: f32 scores.
 * Sums run in double, so a score is the f32 nearest to the exact one but for a rounding; squares of f32
 * neither overflow nor vanish in double. Nothing is allocated. NaN in gives NaN out and ranks last.
 * Matches torch: cosine * exp(logit_scale) + logit_bias, softmax over the last axis. */
#include "base/base.h"

#include <math.h>

enum { SCORE_LANES = 8, SCORE_TEXT_BLOCK = 64 };

/* Sum of a[i] * b[i], in lanes that a compiler can keep in vector registers. */
static double score_dot(const float *a, const float *b, size_t n) {
  double lanes[SCORE_LANES] = {0}, sum = 0;
  size_t i = 0;
  for (; i + SCORE_LANES <= n; i += SCORE_LANES) {
    for (int lane = 0; lane < SCORE_LANES; lane++) lanes[lane] += (double)a[i + lane] * (double)b[i + lane];
  }
  for (; i < n; i++) sum += (double)a[i] * (double)b[i];
  for (int lane = 0; lane < SCORE_LANES; lane++) sum += lanes[lane];
  return sum;
}

/* Both squares are at most about 1e80 and, where not nought, at least about 1e-90: their product is in range,
 * and the root of a square is exact, so that a vector's cosine with itself is 1. */
static double score_cosine(double dot, double a_square, double b_square) {
  return a_square == 0 || b_square == 0 ? 0 : dot / sqrt(a_square * b_square);
}

float clipc_cosine(const float *a, const float *b, size_t dimension) {
  if (a == NULL || b == NULL) return 0;
  return (float)score_cosine(score_dot(a, b, dimension), score_dot(a, a, dimension), score_dot(b, b, dimension));
}

void clipc_logits(const clipc_model *model, float *logits, const float *images, size_t n_images, const float *texts,
                  size_t n_texts) {
  if (model == NULL || logits == NULL || images == NULL || texts == NULL) return;
  const size_t dimension = clipc_embedding_dimension(model);
  const double scale = clipc_logit_scale(model), bias = clipc_logit_bias(model);
  double text_squares[SCORE_TEXT_BLOCK];

  for (size_t first = 0; first < n_texts; first += SCORE_TEXT_BLOCK) { /* a block of texts stays in the cache */
    size_t n = n_texts - first < SCORE_TEXT_BLOCK ? n_texts - first : SCORE_TEXT_BLOCK;
    const float *block = texts + first * dimension;
    for (size_t j = 0; j < n; j++) {
      text_squares[j] = score_dot(block + j * dimension, block + j * dimension, dimension);
    }
    for (size_t i = 0; i < n_images; i++) {
      const float *image = images + i * dimension;
      double image_square = score_dot(image, image, dimension);
      for (size_t j = 0; j < n; j++) {
        double dot = score_dot(image, block + j * dimension, dimension);
        logits[i * n_texts + first + j] = (float)(scale * score_cosine(dot, image_square, text_squares[j]) + bias);
      }
    }
  }
}

void clipc_softmax(float *probabilities, const float *logits, size_t n) {
  if (probabilities == NULL || logits == NULL || n == 0) return;
  double largest = (double)logits[0], sum = 0; /* taken off first, so that exp does not overflow */
  for (size_t i = 1; i < n; i++) {
    if ((double)logits[i] > largest || isnan(logits[i])) largest = (double)logits[i];
  }
  for (size_t i = 0; i < n; i++) sum += exp((double)logits[i] - largest);
  for (size_t i = 0; i < n; i++) probabilities[i] = (float)(exp((double)logits[i] - largest) / sum);
}

void clipc_sigmoid(float *probabilities, const float *logits, size_t n) {
  if (probabilities == NULL || logits == NULL) return;
  for (size_t i = 0; i < n; i++) probabilities[i] = (float)(1 / (1 + exp(-(double)logits[i])));
}

/* Whether index a comes before index b: larger score first, ties in index order, NaN last. */
static bool score_before(const float *scores, size_t a, size_t b) {
  const float x = scores[a], y = scores[b];
  if (isnan(x) || isnan(y)) return isnan(x) == isnan(y) ? a < b : isnan(y) != 0;
  return x == y ? a < b : x > y;
}

/* Restores the heap below position: every index comes after both of its children, so the root comes last. */
static void score_sift(size_t *heap, size_t n, size_t position, const float *scores) {
  const size_t moved = heap[position];
  for (size_t child; (child = 2 * position + 1) < n; position = child) {
    if (child + 1 < n && score_before(scores, heap[child], heap[child + 1])) child++;
    if (!score_before(scores, moved, heap[child])) break;
    heap[position] = heap[child];
  }
  heap[position] = moved;
}

size_t clipc_top_k(size_t *indices, size_t k, const float *scores, size_t n) {
  if (indices == NULL || scores == NULL) return 0;
  if (k > n) k = n;
  if (k == 0) return 0;
  for (size_t i = 0; i < k; i++) indices[i] = i;
  for (size_t i = k / 2; i-- > 0;) score_sift(indices, k, i, scores);
  for (size_t i = k; i < n; i++) {
    if (score_before(scores, i, indices[0])) {
      indices[0] = i;
      score_sift(indices, k, 0, scores);
    }
  }
  for (size_t last = k; last-- > 1;) { /* the root is the last in rank: move it to the end, k - 1 times */
    size_t root = indices[0];
    indices[0] = indices[last];
    indices[last] = root;
    score_sift(indices, last, 0, scores);
  }
  return k;
}
