#!/bin/sh
# run.sh FOLDER SOURCE...: compiles a freestanding program with CC and CFLAGS, boots it in FOLDER under Bochs on a CPU
# with AVX-512 and VNNI, and prints what it wrote up to END. Status 77: Bochs is not here.
here=$(dirname "$0") folder=$1
shift
for tool in bochs script objcopy; do
  command -v $tool >/dev/null 2>&1 || { echo "skipped: no $tool here (bochs, bochs-term, bochsbios, vgabios)"; exit 77; }
done
bios=/usr/share/bochs/BIOS-bochs-latest vgabios=/usr/share/vgabios/vgabios.bin
[ -r $bios ] && [ -r $vgabios ] || { echo "skipped: no BIOS for Bochs here (bochsbios, vgabios)"; exit 77; }

number=0
for source in "$here/boot.S" "$here/bare.c" "$@"; do
  number=$((number + 1))
  ${CC:-cc} -std=c11 -ffreestanding -fno-pic -fno-pie -mno-red-zone -fno-stack-protector -fcf-protection=none \
    -ffunction-sections -fno-asynchronous-unwind-tables $CFLAGS -c "$source" -o "$folder/$number.o" || exit 1
done
ld -T "$here/bare.ld" -z max-page-size=512 -z noexecstack "$folder"/[0-9]*.o -o "$folder/program" || exit 1
objcopy -O binary -j .boot -j .text "$folder/program" "$folder/disk" && truncate -s 10321920 "$folder/disk" || exit 1

cat >"$folder/config" <<END
plugin_ctrl: unmapped=1, biosdev=1, speaker=0, parallel=0, serial=1
config_interface: textconfig
display_library: term
memory: guest=64, host=64
romimage: file=$bios
vgaromimage: file=$vgabios
boot: disk
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=disk, path=$folder/disk, mode=flat, cylinders=20, heads=16, spt=63
cpu: model=corei7_icelake_u, count=1, ips=50000000, reset_on_triple_fault=0
clock: sync=none
com1: enabled=1, mode=file, dev=$folder/serial
log: $folder/log
panic: action=fatal
error: action=ignore
info: action=ignore
END
echo c >"$folder/commands" # Debian's Bochs is built with its debugger, and wants a terminal
TERM=xterm timeout 120 script -qec "bochs -q -f $folder/config -rc $folder/commands" /dev/null </dev/null >"$folder/out" 2>&1
sed '/^END$/q' "$folder/serial"
grep -q '^END$' "$folder/serial" || { tail -n 5 "$folder/log"; exit 1; }
