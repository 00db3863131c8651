# The boot sector: loads the program behind it to 0x10000, enters long mode with the first GB mapped to itself, turns on
# all of SSE, AVX and AVX-512 that the CPU has, and calls bare_main there.
  .code16
  .section .boot, "ax"
  .globl _start
_start:
  cli
  xorw %ax, %ax
  movw %ax, %ds
  movw %ax, %es
  movw %ax, %ss
  movw $0x7c00, %sp
  ljmp $0, $start
start:
  movw $chunks, %cx      # of 64 sectors
  movl $1, from_sector
load:
  pushw %cx
  movb $0x42, %ah
  movb $0x80, %dl
  movw $packet, %si
  int $0x13
  jc stop
  addw $0x800, to_segment
  addl $64, from_sector
  popw %cx
  loop load
  inb $0x92, %al         # the line A20
  orb $2, %al
  outb %al, $0x92
  movw $0x1000, %di      # page tables: 0x1000, 0x2000, and 512 pages of 2 MB in 0x3000
  xorl %eax, %eax
  movw $0xc00, %cx
  cld
  rep stosl
  movl $0x2003, 0x1000
  movl $0x3003, 0x2000
  movw $0x3000, %di
  movl $0x83, %eax
  movw $512, %cx
page:
  movl %eax, (%di)
  addl $0x200000, %eax
  addw $8, %di
  loop page
  movl $0x1000, %eax
  movl %eax, %cr3
  movl $0x40620, %eax    # PAE, OSFXSR, OSXMMEXCPT, OSXSAVE
  movl %eax, %cr4
  movl $0xc0000080, %ecx # EFER: long mode
  rdmsr
  orl $0x100, %eax
  wrmsr
  lgdt gdt_place
  movl $0x80000013, %eax # paging, ET, MP, protection
  movl %eax, %cr0
  ljmp $8, $long_mode
stop:
  hlt
  jmp stop
  .code64
long_mode:
  movl $16, %eax
  movl %eax, %ds
  movl %eax, %es
  movl %eax, %ss
  movl $0x3000000, %esp
  movl $0xd, %eax        # what XCR0 may hold
  xorl %ecx, %ecx
  cpuid
  andl $0xe7, %eax
  xorl %ecx, %ecx
  xorl %edx, %edx
  xsetbv
  movl $0x10000, %eax
  call *%rax
  .align 4
gdt:
  .quad 0
  .quad 0x00209a0000000000
  .quad 0x0000920000000000
gdt_place:
  .word 23
  .long gdt
packet:
  .byte 16, 0
  .word 64
  .word 0
to_segment:
  .word 0x1000
from_sector:
  .long 1, 0
  .org 510
  .word 0xaa55
