#!/bin/sh
# clipc pack against a plain copy of the same weights on the same disk, both ending with fsync, one after the other.
# In: a model folder whose weights are one model.safetensors. Out: seconds of every round, and the medians' ratios.
usage='usage: bench/pack.sh CLIPC FOLDER [SCRATCH [ROUNDS]]
example: bench/pack.sh build/clipc ViT-L-14 /tmp 3'
case "$1" in -h | --help) echo "$usage"; exit 0 ;; esac
[ -x "$1" ] && [ -f "$2/model.safetensors" ] || { echo "$usage" >&2; exit 2; }
clipc=$1 folder=$2 rounds=${4:-3}
scratch=$(mktemp -d "${3:-.}/pack-bench.XXXXXX") || exit 1
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM

now() { date +%s.%N; }
timed() { # name, command...: appends the seconds to a file of that name; the weights are in memory, nothing waits for the disk
  name=$1; shift
  cat "$folder/model.safetensors" >/dev/null
  rm -f "$scratch"/out.*
  sync; sleep 3
  begin=$(now)
  "$@" >/dev/null 2>"$scratch/error" || { cat "$scratch/error" >&2; exit 1; }
  end=$(now)
  echo "$begin $end" | awk '{ printf "%.2f\n", $2 - $1 }' >>"$scratch/$name"
  printf '%-6s %6.2f s\n' "$name" "$(tail -n 1 "$scratch/$name")"
}
for round in $(seq "$rounds"); do
  timed copy dd if="$folder/model.safetensors" of="$scratch/out.copy" bs=4M conv=fsync
  for precision in f32 bf16 int8; do
    timed $precision "$clipc" pack -m "$folder" --precision $precision -o "$scratch/out.clipc"
  done
done
median() { sort -n "$scratch/$1" | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }
for precision in f32 bf16 int8; do
  echo "$(median $precision) $(median copy)" | awk -v name=$precision '{ printf "pack in %s: %.2f times the copy\n", name, $1 / $2 }'
done
