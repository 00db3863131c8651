/* Memory for arguments: each lies between two unmapped pages, so that a kernel that reads or writes too far crashes,
 * and among guard bytes, so that one that writes a little too far is seen. */
#include "checkasm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define N_PENS 16
#define GUARD_BYTES 192

static struct {
  uint8_t *mapped; /* page, capacity, page */
  size_t capacity;
  uint8_t *data; /* what was handed out */
  size_t n_bytes;
} pens[N_PENS];
static size_t n_pens;

static size_t page_bytes(void) { return (size_t)sysconf(_SC_PAGESIZE); }

static uint8_t guard_byte(const uint8_t *at) { return (uint8_t)((uintptr_t)at * 37 + 11); }

static void map_pen(size_t i, size_t n_bytes) {
  size_t page = page_bytes(), capacity = (n_bytes + 2 * page - 1) / page * page;
  if (pens[i].mapped) munmap(pens[i].mapped, pens[i].capacity + 2 * page);
  uint8_t *mapped = mmap(NULL, capacity + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED || mprotect(mapped + page, capacity, PROT_READ | PROT_WRITE) != 0) {
    fputs("checkasm: there is no memory\n", stderr);
    exit(2);
  }
  pens[i].mapped = mapped;
  pens[i].capacity = capacity;
}

/* Guard bytes before (side 0) or behind (1) a pen: from, to. */
static void guards_of(size_t i, int side, uint8_t **from, uint8_t **to) {
  uint8_t *low = pens[i].mapped + page_bytes(), *high = low + pens[i].capacity;
  if (side == 0) {
    *to = pens[i].data;
    *from = *to - low < GUARD_BYTES ? low : *to - GUARD_BYTES;
  } else {
    *from = pens[i].data + pens[i].n_bytes;
    *to = high - *from < GUARD_BYTES ? high : *from + GUARD_BYTES;
  }
}

void *pen(size_t n_bytes, size_t align) {
  if (n_pens == N_PENS) {
    fputs("checkasm: too many pens at once\n", stderr);
    exit(2);
  }
  size_t i = n_pens++;
  if (pens[i].capacity < n_bytes) map_pen(i, n_bytes);
  uint8_t *low = pens[i].mapped + page_bytes(), *high = low + pens[i].capacity;
  size_t slack = (pens[i].capacity - n_bytes) / align * align, kind = random_below(4);
  uintptr_t last = ((uintptr_t)high - n_bytes) / align * align;
  uint8_t *data = kind == 0   ? low
                  : kind == 1 ? low + random_below(slack / align + 1) * align
                              : high - ((uintptr_t)high - last); /* most often against the page behind */
  pens[i].data = data;
  pens[i].n_bytes = n_bytes;
  memset(data, 0xff, n_bytes);
  for (int side = 0; side < 2; side++) {
    uint8_t *from, *to;
    guards_of(i, side, &from, &to);
    for (; from < to; from++) *from = guard_byte(from);
  }
  return data;
}

void *pen_copy(const void *data, size_t n_bytes, size_t align) { return memcpy(pen(n_bytes, align), data, n_bytes); }

const void *pen_outside(void) {
  if (pens[0].mapped == NULL) map_pen(0, 1);
  return pens[0].mapped;
}

void pens_check(void) {
  bool ok = true;
  for (size_t i = 0; i < n_pens; i++)
    for (int side = 0; side < 2; side++) {
      uint8_t *from, *to;
      guards_of(i, side, &from, &to);
      for (; from < to; from++) ok = ok && *from == guard_byte(from);
    }
  if (n_pens > 0) check(ok, "wrote outside its output");
  n_pens = 0;
}

void check_gaps(const float *y, size_t rows, size_t cols, size_t stride) {
  bool ok = true;
  for (size_t r = 0; r + 1 < rows; r++)
    for (size_t c = cols; c < stride; c++) {
      uint32_t bits;
      memcpy(&bits, &y[r * stride + c], sizeof bits);
      ok = ok && bits == 0xffffffffu;
    }
  check(ok, "wrote between the rows of its output");
}

void *get(size_t n_bytes) {
  void *memory = malloc(n_bytes ? n_bytes : 1);
  if (memory == NULL) {
    fputs("checkasm: there is no memory\n", stderr);
    exit(2);
  }
  return memory;
}
