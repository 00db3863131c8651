/* What a freestanding program under Bochs needs: text out of the serial port, functions of the C library, the end. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

int main(void);
void bare_main(void);
void put(const char *text);
float sqrtf(float x);

#define SERIAL 0x3f8
#define BOCHS_SHUTDOWN 0x8900 /* ends Bochs when it has read "Shutdown" */

static void port_out(uint16_t port, uint8_t value) { __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }

void put(const char *text) {
  for (uint8_t status; *text; text++) {
    do __asm__ volatile("inb %1, %0" : "=a"(status) : "Nd"((uint16_t)(SERIAL + 5)));
    while (!(status & 0x40));
    port_out(SERIAL, (uint8_t)*text);
  }
}

void *memcpy(void *restrict to, const void *restrict from, size_t n) {
  void *at = to;
  __asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(n) : : "memory");
  return to;
}

void *memset(void *to, int byte, size_t n) {
  void *at = to;
  __asm__ volatile("rep stosb" : "+D"(at), "+c"(n) : "a"(byte) : "memory");
  return to;
}

float sqrtf(float x) {
  __asm__("sqrtss %0, %0" : "+x"(x));
  return x;
}

void bare_main(void) {
  port_out(SERIAL + 3, 3); /* eight bits a byte */
  main();
  put("\n"); /* the last byte may get lost */
  for (const char *c = "Shutdown"; *c; c++) port_out(BOCHS_SHUTDOWN, (uint8_t)*c);
  for (;;) __asm__ volatile("hlt");
}
