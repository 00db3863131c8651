#!/bin/sh
# checkasm for CPUs that this machine is not: checkasm.sh PART BUILD (with BUILD/checkasm there)
#   no-avx    the plain C on an x86-64 CPU without AVX (qemu-x86_64)
#   aarch64   every NEON tier, each also on a CPU that has nothing above it (cross compiler, qemu-aarch64)
#   avx512    AVX-512 and AVX-VNNI: their intrinsics replaced by plain C (an x86-64 machine with AVX2)
#   bochs     what AVX-512 makes so, against its machine code: under Bochs (no BF16 there), and here if this CPU has it
part=$1 build=$2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
skip() { echo "skipped: $1"; exit 77; }
need() { command -v "$1" >/dev/null 2>&1 || skip "no $1 here (tools/deps.sh --all installs it)"; }
warnings="-Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Werror"
flags="-std=c11 -O2 -g $warnings -ffp-contract=off -DCLIPC_BLAS=0 -D_GNU_SOURCE -Iinclude -Isrc"
base="src/base/cpu.c src/base/error.c src/base/memory.c src/base/threads.c src/base/utf8.c"

case $part in
no-avx)
  [ "$(uname -m)" = x86_64 ] || skip "not an x86-64 machine"
  need qemu-x86_64
  tiers=$(qemu-x86_64 -cpu Nehalem "$build/checkasm" --list | grep -v openblas)
  [ "$tiers" = plain-c ] || { echo "Nehalem has $tiers?"; exit 1; }
  qemu-x86_64 -cpu Nehalem "$build/checkasm" --quick --tier plain-c
  ;;
aarch64)
  need aarch64-linux-gnu-gcc
  need qemu-aarch64
  aarch64-linux-gnu-gcc $flags -static -o "$folder/checkasm" tests/checkasm/*.c src/kernels/*.c $base -lm -lpthread ||
    exit 1
  for tier in neon:cortex-a57 dotprod:cortex-a76 neon-bf16:max; do
    cpu=${tier#*:} tier=${tier%:*}
    qemu-aarch64 -cpu "$cpu" "$folder/checkasm" --list >"$folder/tiers" || skip "this qemu-aarch64 does not know $cpu"
    [ "$(tail -n 1 "$folder/tiers")" = "$tier" ] || { echo "$cpu: $(tail -n 1 "$folder/tiers"), not $tier"; exit 1; }
    qemu-aarch64 -cpu "$cpu" "$folder/checkasm" --quick || exit 1
  done
  ;;
avx512)
  [ "$(uname -m)" = x86_64 ] || skip "not an x86-64 machine"
  grep -qw avx2 /proc/cpuinfo 2>/dev/null || skip "no AVX2 here, which the emulation of AVX-512 stands on"
  rest=$(ls src/kernels/*.c | grep -v '/avx2\.c\|/avx512')
  emulated="${CC:-cc} $flags -O1 -g0 -Wno-psabi"
  $emulated -Dclipc__cpu_mask=emulated_cpu_mask -c tests/checkasm/checkasm.c -o "$folder/checkasm.o" || exit 1
  $emulated -o "$folder/checkasm" "$folder/checkasm.o" $(ls tests/checkasm/*.c | grep -v '/checkasm\.c') \
    tests/emulated/tables.c $rest $base -lm -lpthread || exit 1
  "$folder/checkasm"
  ;;
bochs)
  [ "$(uname -m)" = x86_64 ] || skip "not an x86-64 machine"
  grep -qw avx2 /proc/cpuinfo 2>/dev/null || skip "no AVX2 here, which the emulation of AVX-512 stands on"
  digest="${CC:-cc} $flags -g0 -Wno-psabi" kernels="src/kernels/avx512.c src/kernels/avx512_rows.c"
  $digest -O1 -c -o "$folder/tables.o" tests/emulated/tables.c || exit 1
  for tiers in 2 3; do
    $digest -DDIGEST_TIERS=$tiers -o "$folder/digest" tests/emulated/digest.c "$folder/tables.o" \
      src/kernels/avx2_rows.c $base -lm -lpthread && "$folder/digest" >"$folder/emulated-$tiers" || exit 1
  done
  if grep -qw avx512_bf16 /proc/cpuinfo; then
    $digest -O3 -o "$folder/digest" tests/emulated/digest.c $kernels -lm && "$folder/digest" >"$folder/here" || exit 1
    diff "$folder/emulated-3" "$folder/here" || { echo "this CPU's digests are others than the emulation's"; exit 1; }
  fi
  CFLAGS="$flags -O3 -g0 -DDIGEST_TIERS=2" sh tests/emulated/bochs/run.sh "$folder" tests/emulated/digest.c $kernels >"$folder/bochs"
  status=$?
  [ $status = 0 ] || { cat "$folder/bochs"; exit $status; }
  diff "$folder/emulated-2" "$folder/bochs" || { echo "digests under Bochs are others than the emulation's"; exit 1; }
  echo "the same digests: $(grep -c . "$folder/bochs") lines"
  ;;
*)
  echo "checkasm.sh: no part '$part'"
  exit 2
  ;;
esac
