/* Byte-pair encoding of one word.
 * In: the bytes of a word. Out: token ids. O(n log n) in the length of the word.
 * Both references merge the pair of the lowest rank, leftmost first, until no pair has a rank. They differ only
 * where a merge makes a pair of a lower rank than its own, which OpenAI's vocabulary never does: tokenizers takes
 * that pair next and judges a waiting pair by what it would become; open_clip first finishes the rank it is at. */
#include "text/tokenizer.h"

struct clipc__bpe_symbol {
  int32_t id;             /* -1: swallowed by the one before */
  int32_t previous, next; /* -1: none */
};

static size_t bpe_slot(const struct clipc__bpe *bpe, uint64_t pair) {
  uint64_t hash = pair;
  hash = (hash ^ hash >> 29) * 0xBF58476D1CE4E5B9u;
  hash = (hash ^ hash >> 32) * 0x94D049BB133111EBu;
  size_t slot = (size_t)(hash >> 24) & bpe->mask;
  while (bpe->pairs[slot] != pair && bpe->pairs[slot] != UINT64_MAX) slot = (slot + 1) & bpe->mask;
  return slot;
}

bool clipc__bpe_init(struct clipc__bpe *bpe, size_t n_merges, struct clipc__arena *arena) {
  size_t n_slots = 16;
  while (n_slots < n_merges * 2) n_slots *= 2; /* n_merges is at most CLIPC__MAX_TOKENS */
  bpe->mask = n_slots - 1;
  bpe->pairs = clipc__arena_take(arena, n_slots, sizeof *bpe->pairs);
  bpe->ranks = clipc__arena_take(arena, n_slots, sizeof *bpe->ranks);
  bpe->merged = clipc__arena_take(arena, n_merges, sizeof *bpe->merged);
  if (bpe->pairs == NULL || bpe->ranks == NULL || bpe->merged == NULL) return false;
  for (size_t i = 0; i < n_slots; i++) bpe->pairs[i] = UINT64_MAX;
  return true;
}

void clipc__bpe_add(struct clipc__bpe *bpe, uint32_t rank, int32_t left, int32_t right, int32_t merged) {
  uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
  size_t slot = bpe_slot(bpe, pair);
  bpe->pairs[slot] = pair;
  bpe->ranks[slot] = rank; /* said twice, the later rank holds */
  bpe->merged[rank] = merged;
}

/* The rank of the pair that begins at a symbol; UINT32_MAX: none. */
static uint32_t bpe_rank(const struct clipc__bpe *bpe, const struct clipc__bpe_symbol *symbols, int32_t at) {
  int32_t next = symbols[at].next;
  if (symbols[at].id < 0 || next < 0) return UINT32_MAX;
  uint64_t pair = (uint64_t)(uint32_t)symbols[at].id << 32 | (uint32_t)symbols[next].id;
  size_t slot = bpe_slot(bpe, pair);
  return bpe->pairs[slot] == pair ? bpe->ranks[slot] : UINT32_MAX;
}

/* A heap of rank << 32 | position, smallest first. */
static void bpe_push(uint64_t *heap, size_t *n, uint64_t entry) {
  size_t i = (*n)++;
  for (; i > 0 && heap[(i - 1) / 2] > entry; i = (i - 1) / 2) heap[i] = heap[(i - 1) / 2];
  heap[i] = entry;
}

static uint64_t bpe_pop(uint64_t *heap, size_t *n) {
  uint64_t top = heap[0], last = heap[--*n];
  size_t i = 0;
  for (size_t child = 1; child < *n; child = 2 * i + 1) {
    if (child + 1 < *n && heap[child + 1] < heap[child]) child++;
    if (heap[child] >= last) break;
    heap[i] = heap[child];
    i = child;
  }
  if (*n > 0) heap[i] = last;
  return top;
}

static bool bpe_reserve(struct clipc__bpe_work *work, size_t n) {
  if (n <= work->capacity) return true;
  clipc__bpe_work_free(work);
  size_t capacity = n < 64 ? 64 : n;
  work->symbols = clipc__alloc(&work->allocator, capacity, sizeof *work->symbols);
  work->queue = clipc__alloc(&work->allocator, capacity, 3 * sizeof *work->queue); /* n pairs, two more per merge */
  work->later = clipc__alloc(&work->allocator, capacity, 2 * sizeof *work->later);
  if (work->symbols == NULL || work->queue == NULL || work->later == NULL) {
    clipc__bpe_work_free(work);
    return false;
  }
  work->capacity = capacity;
  return true;
}

void clipc__bpe_work_free(struct clipc__bpe_work *work) {
  clipc__free(&work->allocator, work->symbols);
  clipc__free(&work->allocator, work->queue);
  clipc__free(&work->allocator, work->later);
  work->symbols = NULL;
  work->queue = work->later = NULL;
  work->capacity = 0;
}

/* Merges until no pair has a rank. */
static void bpe_merge(const struct clipc__bpe *bpe, struct clipc__bpe_work *work, int32_t n_symbols) {
  struct clipc__bpe_symbol *symbols = work->symbols;
  size_t n_queue = 0, n_later = 0;
  for (int32_t i = 0; i + 1 < n_symbols; i++) {
    uint32_t rank = bpe_rank(bpe, symbols, i);
    if (rank != UINT32_MAX) bpe_push(work->queue, &n_queue, (uint64_t)rank << 32 | (uint32_t)i);
  }
  uint32_t current = UINT32_MAX;
  while (n_queue + n_later > 0) {
    if (n_later > 0 && (bpe->hf || n_queue == 0 || work->queue[0] >> 32 != current)) {
      while (n_later > 0) bpe_push(work->queue, &n_queue, work->later[--n_later]);
    }
    uint64_t entry = bpe_pop(work->queue, &n_queue);
    current = (uint32_t)(entry >> 32);
    int32_t at = (int32_t)(uint32_t)entry;
    uint32_t rank = bpe_rank(bpe, symbols, at);
    if (rank == UINT32_MAX) continue;
    if (bpe->hf ? bpe->merged[rank] != bpe->merged[current] : rank != current) continue; /* changed since */
    int32_t right = symbols[at].next, next = symbols[right].next;
    symbols[at].id = bpe->merged[rank];
    symbols[at].next = next;
    symbols[right].id = -1;
    if (next >= 0) symbols[next].previous = at;
    int32_t previous = symbols[at].previous;
    uint32_t left_rank = previous >= 0 ? bpe_rank(bpe, symbols, previous) : UINT32_MAX;
    uint32_t right_rank = bpe_rank(bpe, symbols, at);
    if (left_rank != UINT32_MAX) work->later[n_later++] = (uint64_t)left_rank << 32 | (uint32_t)previous;
    if (right_rank != UINT32_MAX) work->later[n_later++] = (uint64_t)right_rank << 32 | (uint32_t)at;
  }
}

bool clipc__bpe_encode(const struct clipc__bpe *bpe, struct clipc__bpe_work *work, struct clipc__bytes *ids,
                       const uint8_t *word, size_t n_bytes) {
  if (n_bytes > INT32_MAX || !bpe_reserve(work, n_bytes)) return false;
  int32_t n = (int32_t)n_bytes;
  for (int32_t i = 0; i < n; i++) {
    int32_t id = i + 1 < n ? bpe->initial[word[i]] : bpe->final[word[i]];
    work->symbols[i] = (struct clipc__bpe_symbol){id, i - 1, i + 1 < n ? i + 1 : -1};
  }
  bpe_merge(bpe, work, n);
  for (int32_t i = 0; i >= 0; i = work->symbols[i].next)
    if (!clipc__bytes_append(ids, &work->symbols[i].id, sizeof work->symbols[i].id)) return false;
  return true;
}
