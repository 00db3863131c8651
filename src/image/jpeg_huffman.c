/* JPEG: coded bytes to blocks of coefficients. In: an untrusted interval between markers. Out: blocks.
 * Bits stand at the top of a 64-bit word; behind the end of the interval come zeros without end. The first bits of a
 * code look up the code together with the number behind it, where both fit. What damaged files do is what libjpeg
 * and stb_image make of them: a run beyond the block ends in its last coefficient, sums wrap to 16 bits. */
#include "image/jpeg.h"

#include <string.h>

/* Where coefficient k of the file belongs in a block. */
static const uint8_t huffman_order[CLIPC__JPEG_ORDER] = {
    0,  1,  8,  16, 9,  2,  3,  10, 17, 24, 32, 25, 18, 11, 4,  5,  12, 19, 26, 33, 40, 48,
    41, 34, 27, 20, 13, 6,  7,  14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23,
    30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63, /* and on */
    63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63,
    63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63,
    63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63};

#define HUFFMAN_BITS 10 /* looked up at once */

struct huffman_table {
  bool defined;
  /* For the next HUFFMAN_BITS bits: symbol << 8 | bits of the code; 0 where it is longer. */
  uint16_t codes[1 << HUFFMAN_BITS];
  /* The code with the number behind it: number << 16 | zeros before it << 8 | bits of both; 0 where they are longer.
   * The end of a block is 64 zeros, and sixteen zeros are fifteen before the number 0: it goes where a zero is. */
  int32_t numbers[1 << HUFFMAN_BITS];
  int32_t beyond[18]; /* the first 16 bits that are no code of this length or shorter ones; [17]: all are */
  int32_t delta[17];  /* from a code of this length to the place of its symbol */
  uint8_t symbols[256];
};

struct huffman_bits {
  const uint8_t *coded;
  size_t at, n_bytes; /* at: the next byte, beyond the last too */
  uint64_t word;      /* the next bits at the top */
  int n;              /* of them are counted; behind them are true bits or zeros */
};

struct clipc__jpeg_reader {
  struct huffman_bits bits;
  int16_t predictions[4]; /* they wrap, so they cannot overflow however long the picture */
  int eob_run;
  struct huffman_table tables[2][4];
};

struct clipc__jpeg_reader *clipc__jpeg_reader_make(const clipc_allocator *allocator) {
  return clipc__alloc_zeroed(allocator, 1, sizeof(struct clipc__jpeg_reader));
}

bool clipc__jpeg_reader_has_table(const struct clipc__jpeg_reader *reader, bool ac, int slot) {
  return reader->tables[ac][slot].defined;
}

void clipc__jpeg_reader_start(struct clipc__jpeg_reader *reader, const uint8_t *coded, size_t n_bytes) {
  reader->bits = (struct huffman_bits){.coded = coded, .n_bytes = n_bytes};
  memset(reader->predictions, 0, sizeof reader->predictions);
  reader->eob_run = 0;
}

bool clipc__jpeg_reader_dry(const struct clipc__jpeg_reader *reader) {
  return reader->bits.at * 8 - (size_t)reader->bits.n > reader->bits.n_bytes * 8;
}

/* ---- tables */

/* The number that its size and bits stand for: the upper half is positive. */
static inline int huffman_extend(int bits, int size) { return bits >> (size - 1) ? bits : bits - (1 << size) + 1; }

/* Enters a code of length bits for all that may follow it. */
static void huffman_enter(struct huffman_table *table, int code, int length, int symbol) {
  int n_spare = HUFFMAN_BITS - length, size = symbol & 15;
  for (int rest = 0; rest < 1 << n_spare; rest++) {
    int at = code << n_spare | rest;
    table->codes[at] = (uint16_t)(symbol << 8 | length);
    if (size == 0 && (symbol == 0 || symbol == 0xF0))
      table->numbers[at] = (symbol == 0 ? 64 : 15) << 8 | length;
    else if (size > 0 && size <= n_spare)
      table->numbers[at] =
          huffman_extend(rest >> (n_spare - size), size) * 65536 + ((symbol >> 4) << 8 | (length + size));
  }
}

bool clipc__jpeg_reader_table(struct clipc__jpeg_reader *reader, bool ac, int slot, const uint8_t *counts,
                              const uint8_t *values) {
  struct huffman_table *table = &reader->tables[ac][slot];
  memset(table, 0, sizeof *table);
  int code = 0, n_values = 0;
  for (int length = 1; length <= 16; length++) {
    table->delta[length] = n_values - code;
    for (int i = 0; i < counts[length - 1]; i++, code++, n_values++) {
      if (n_values == 256 || code >= 1 << length) return false;
      table->symbols[n_values] = values[n_values];
      if (length <= HUFFMAN_BITS) huffman_enter(table, code, length, values[n_values]);
    }
    table->beyond[length] = code << (16 - length);
    code <<= 1;
  }
  table->beyond[17] = INT32_MAX;
  table->defined = true;
  return true;
}

/* ---- bits */

/* Sees to it that at least 56 bits are counted. */
static inline void huffman_fill(struct huffman_bits *bits) {
  if (bits->at + 8 <= bits->n_bytes) {
    uint64_t next;
    memcpy(&next, bits->coded + bits->at, sizeof next);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    next = __builtin_bswap64(next);
#endif
    bits->word |= next >> bits->n;
    bits->at += (size_t)(63 - bits->n) >> 3;
    bits->n |= 56;
    return;
  }
  for (; bits->n <= 56; bits->n += 8, bits->at++)
    if (bits->at < bits->n_bytes) bits->word |= (uint64_t)bits->coded[bits->at] << (56 - bits->n);
}

static inline void huffman_skip(struct huffman_bits *bits, int n) {
  bits->word <<= n;
  bits->n -= n;
}

/* Takes n bits, 1 to 16, which are counted. */
static inline int huffman_take(struct huffman_bits *bits, int n) {
  int taken = (int)(bits->word >> (64 - n));
  huffman_skip(bits, n);
  return taken;
}

static inline int huffman_take_bit(struct huffman_bits *bits) {
  if (bits->n == 0) huffman_fill(bits);
  return huffman_take(bits, 1);
}

/* Takes a code, of which at least 16 bits are counted; -1 when it is in no table. */
static inline int huffman_symbol(struct huffman_bits *bits, const struct huffman_table *table) {
  unsigned code = table->codes[bits->word >> (64 - HUFFMAN_BITS)];
  if (code != 0) {
    huffman_skip(bits, code & 255);
    return (int)(code >> 8);
  }
  int first = (int)(bits->word >> 48), length = HUFFMAN_BITS + 1;
  while (first >= table->beyond[length]) length++;
  if (length > 16) return -1;
  return table->symbols[huffman_take(bits, length) + table->delta[length]];
}

/* ---- sequential blocks */

/* The difference of a DC coefficient; false when there is none. */
static inline bool huffman_difference(struct huffman_bits *bits, const struct huffman_table *table, int *difference) {
  huffman_fill(bits);
  int size = huffman_symbol(bits, table);
  if (size < 0 || size > 15) return false;
  *difference = size > 0 ? huffman_extend(huffman_take(bits, size), size) : 0;
  return true;
}

bool clipc__jpeg_read_block(struct clipc__jpeg_reader *reader, int16_t block[64], int component, int dc, int ac,
                            const uint16_t quantisers[CLIPC__JPEG_ORDER]) {
  struct huffman_bits bits = reader->bits;
  const struct huffman_table *table = &reader->tables[1][ac];
  int difference;
  if (!huffman_difference(&bits, &reader->tables[0][dc], &difference)) return false;
  reader->predictions[component] = (int16_t)(reader->predictions[component] + difference);
  block[0] = (int16_t)(reader->predictions[component] * quantisers[0]);
  for (int k = 1; k < 64;) {
    huffman_fill(&bits);
    int32_t entry = 0;
    for (int i = 0; i < 4 && k < 64; i++) { /* four numbers that are looked up leave the bits of a code */
      entry = table->numbers[bits.word >> (64 - HUFFMAN_BITS)];
      if (entry == 0) break;
      huffman_skip(&bits, entry & 255);
      k += entry >> 8 & 255;
      block[huffman_order[k]] = (int16_t)((entry >> 16) * quantisers[k]);
      k++;
    }
    if (entry != 0) continue;
    int symbol = huffman_symbol(&bits, table), size = symbol & 15;
    if (symbol < 0) return false;
    if (size == 0) {
      if (symbol != 0xF0) break; /* the rest is zeros */
      k += 16;
      continue;
    }
    huffman_fill(&bits);
    k += symbol >> 4;
    block[huffman_order[k]] = (int16_t)(huffman_extend(huffman_take(&bits, size), size) * quantisers[k]);
    k++;
  }
  reader->bits = bits;
  return true;
}

/* ---- progressive blocks */

bool clipc__jpeg_read_dc(struct clipc__jpeg_reader *reader, int16_t block[64], int component, int dc,
                         const struct clipc__jpeg_band *band) {
  if (band->high != 0) {
    if (huffman_take_bit(&reader->bits)) block[0] = (int16_t)(block[0] + (1 << band->low));
    return true;
  }
  int difference;
  if (!huffman_difference(&reader->bits, &reader->tables[0][dc], &difference)) return false;
  reader->predictions[component] = (int16_t)(reader->predictions[component] + difference);
  memset(block, 0, 64 * sizeof *block);
  block[0] = (int16_t)(reader->predictions[component] * (1 << band->low));
  return true;
}

/* A symbol without a number: the block ends here, and so do as many blocks behind it as eob_run is set to. */
static int huffman_take_run(struct huffman_bits *bits, int symbol) {
  int size = symbol >> 4;
  return (1 << size) - 1 + (size > 0 ? huffman_take(bits, size) : 0);
}

static bool huffman_first_ac(struct clipc__jpeg_reader *reader, struct huffman_bits *bits, int16_t block[64],
                             const struct huffman_table *table, const struct clipc__jpeg_band *band) {
  if (reader->eob_run > 0) {
    reader->eob_run--;
    return true;
  }
  for (int k = band->first; k <= band->last;) {
    huffman_fill(bits);
    int32_t entry = table->numbers[bits->word >> (64 - HUFFMAN_BITS)];
    if (entry >> 16 != 0) {
      huffman_skip(bits, entry & 255);
      k += entry >> 8 & 255;
      block[huffman_order[k++]] = (int16_t)((entry >> 16) * (1 << band->low));
      continue;
    }
    int symbol = huffman_symbol(bits, table), size = symbol & 15;
    if (symbol < 0) return false;
    if (size == 0 && symbol != 0xF0) {
      reader->eob_run = huffman_take_run(bits, symbol);
      return true;
    }
    k += symbol >> 4;
    if (size > 0)
      block[huffman_order[k]] = (int16_t)(huffman_extend(huffman_take(bits, size), size) * (1 << band->low));
    k++;
  }
  return true;
}

/* One more bit of a coefficient that is not zero. */
static inline void huffman_refine(struct huffman_bits *bits, int16_t *coefficient, int bit) {
  if (huffman_take_bit(bits) && (*coefficient & bit) == 0)
    *coefficient = (int16_t)(*coefficient > 0 ? *coefficient + bit : *coefficient - bit);
}

static bool huffman_refine_ac(struct clipc__jpeg_reader *reader, struct huffman_bits *bits, int16_t block[64],
                              const struct huffman_table *table, const struct clipc__jpeg_band *band) {
  const int bit = 1 << band->low;
  int k = band->first;
  while (reader->eob_run == 0 && k <= band->last) {
    huffman_fill(bits);
    int symbol = huffman_symbol(bits, table), run = symbol >> 4, size = symbol & 15;
    if (symbol < 0 || size > 1) return false;
    if (size == 0 && run < 15) {
      reader->eob_run = huffman_take_run(bits, symbol) + 1; /* this block counts */
      break;
    }
    int number = size == 0 ? 0 : huffman_take(bits, 1) ? bit : -bit;
    for (; k <= band->last; k++) { /* passes as many zeros as the run says, and takes the one behind them */
      int16_t *coefficient = &block[huffman_order[k]];
      if (*coefficient != 0) {
        huffman_refine(bits, coefficient, bit);
      } else if (run-- == 0) {
        *coefficient = (int16_t)number;
        k++;
        break;
      }
    }
  }
  if (reader->eob_run == 0) return true;
  reader->eob_run--;
  for (; k <= band->last; k++) {
    int16_t *coefficient = &block[huffman_order[k]];
    if (*coefficient != 0) huffman_refine(bits, coefficient, bit);
  }
  return true;
}

bool clipc__jpeg_read_ac(struct clipc__jpeg_reader *reader, int16_t block[64], int ac,
                         const struct clipc__jpeg_band *band) {
  struct huffman_bits bits = reader->bits;
  const struct huffman_table *table = &reader->tables[1][ac];
  bool done = band->high == 0 ? huffman_first_ac(reader, &bits, block, table, band)
                              : huffman_refine_ac(reader, &bits, block, table, band);
  reader->bits = bits;
  return done;
}

void clipc__jpeg_dequantise(int16_t block[64], const uint16_t quantisers[CLIPC__JPEG_ORDER]) {
  for (int k = 0; k < 64; k++) block[huffman_order[k]] = (int16_t)(block[huffman_order[k]] * quantisers[k]);
}
