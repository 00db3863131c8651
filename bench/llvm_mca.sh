#!/bin/sh
# Estimates of the ARM tiers' inner loops by llvm-mca, as Markdown.
usage='bench/llvm_mca.sh [--cc COMPILER] [--mca LLVM_MCA] > bench/neon-estimates.md
Compiles src/kernels/neon_*.c for AArch64, cuts out the inner loops and asks llvm-mca how many cycles they take.
  --cc COMPILER   [aarch64-linux-gnu-gcc]; Debian: gcc-aarch64-linux-gnu
  --mca LLVM_MCA  [the newest llvm-mca-N]; 17 or newer; Debian: llvm-N
Exit status: 0, 2 for wrong arguments, 77 when the compiler or llvm-mca is missing.'
cc=aarch64-linux-gnu-gcc mca=
while [ $# -gt 0 ]; do
  case $1 in
  --help) echo "$usage"; exit 0 ;;
  --cc) cc=${2:?} && shift 2 ;;
  --mca) mca=${2:?} && shift 2 ;;
  *) echo "$0: $1 is no option; see --help" >&2; exit 2 ;;
  esac
done
cd "$(dirname "$0")/.." || exit 2
version_of() { "$1" --version 2>/dev/null | sed -n 's/.*LLVM version \([0-9]*\).*/\1/p'; }
if [ -z "$mca" ]; then
  mca=llvm-mca n=40
  while [ $n -ge 17 ]; do
    command -v llvm-mca-$n >/dev/null && mca=llvm-mca-$n && break
    n=$((n - 1))
  done
fi
command -v "$cc" >/dev/null || { echo "$0: there is no $cc (Debian: gcc-aarch64-linux-gnu)" >&2; exit 77; }
version=$(version_of "$mca")
[ "${version:-0}" -ge 17 ] || { echo "$0: $mca is missing or older than 17 (Debian: llvm-N)" >&2; exit 77; }

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for file in lanes mmla s8 rows; do
  "$cc" -std=c11 -O3 -ffp-contract=off -Iinclude -Isrc -S src/kernels/neon_$file.c -o "$folder/$file.s" || exit 1
done

# The innermost loop of a function that has most of some instruction: cut FILE FUNCTION INSTRUCTION > loop
cut_loop() {
  awk -v name="$2" -v op="^$3" '
    $0 ~ "^" name ":" { inside = 1; next }
    inside && $1 == ".size" { exit }
    !inside || /^[ \t]*([#.\/]|$)/ && !/^\.L[A-Za-z0-9_]*:/ { next }
    { sub(/^[ \t]+/, ""); line[++n] = $0 }
    /^\.L.*:/ { sub(/:.*/, ""); place[$0] = n }
    END {
      for (i = 1; i <= n; i++)
        if (line[i] ~ /^(b[a-z.]*|cbn?z|tbn?z)[ \t]/) {
          parts = split(line[i], word, /[ \t,]+/)
          start = place[word[parts]]
          if (!start || start > i) continue
          m++; first[m] = start; last[m] = i; count[m] = 0
          for (j = start; j <= i; j++) if (line[j] ~ op) count[m]++
        }
      for (a = 1; a <= m; a++) {
        for (b = 1; b <= m; b++) if (b != a && count[b] && first[b] >= first[a] && last[b] <= last[a]) break
        if (b > m && count[a] > count[best]) best = a
      }
      for (j = first[best]; best && j <= last[best]; j++) print line[j]
    }' "$folder/$1.s"
}

# Cycles of one round of a loop: cycles CPU FILE
cycles() {
  "$mca" -mtriple=aarch64-linux-gnu -mcpu="$1" -iterations=500 "$2" 2>/dev/null |
    awk '/^Total Cycles:/ { printf "%.2f", $3 / 500 }'
}

cat <<END
# Estimates for ARM

Nothing here was measured. These are what llvm-mca $version says of the inner loops that $("$cc" --version | sed -n '1s/ .*(.*) / /p') makes of
\`src/kernels/neon_*.c\` at -O3; it takes every load as a hit in the first cache and every branch as foreseen. The peak is
its word on a loop of that instruction alone. Made by \`bench/llvm_mca.sh > bench/neon-estimates.md\`.

LLVM has no model of its own for Cortex-A76 and older 64-bit cores of that line but takes Cortex-A57's, which starts one
\`fmla\` in a cycle; Cortex-A76 is the core of Neoverse N1, whose row is the one to read. Its model of N1 takes in three
instructions a cycle (the CPU four), and shares out ports of Neoverse V2 less well than a CPU might.

## Products

A multiplication and an addition are two operations.

| product | model | tile | cycles a round | operations a cycle | peak | share |
|---|---|---|---|---|---|---|
END
while IFS='|' read -r what file function peak op unit tile cpus; do
  cut_loop "$file" "$function" "$op" >"$folder/loop.s"
  cut_loop "${peak%%:*}" "${peak##*:}" "$op" >"$folder/peak.s"
  for cpu in $cpus; do
    loop=$(cycles "$cpu" "$folder/loop.s")
    alone=$(cycles "$cpu" "$folder/peak.s")
    [ -n "$loop" ] && [ -n "$alone" ] || { echo "$0: $mca does not take the loop of $function for $cpu" >&2; exit 1; }
    awk -v what="$what" -v cpu="$cpu" -v tile="$tile" -v loop="$loop" -v alone="$alone" -v unit="$unit" \
      -v n="$(grep -c "^$op" "$folder/loop.s")" -v n_alone="$(grep -c "^$op" "$folder/peak.s")" 'BEGIN {
        rate = n * unit / loop; most = n_alone * unit / alone
        printf "| %s | %s | %s | %.1f | %.1f | %.1f | %.0f %% |\n", what, cpu, tile, loop, rate, most, 100 * rate / most
      }'
  done
done <<END
f32, fmla|lanes|lanes_f32_6_neon|lanes:peak_f32_neon|fmla|8|6 x 16|cortex-a76 neoverse-n1 neoverse-n2 neoverse-v1 neoverse-v2
bf16 widened, fmla|lanes|lanes_bf16_10_neon|lanes:peak_f32_neon|fmla|8|10 x 8|cortex-a76 neoverse-n1 neoverse-n2 neoverse-v1 neoverse-v2
int8, smull and smlal|s8|s8_4_neon|s8:peak_s8_neon|sadalp|32|4 x 8|cortex-a72 cortex-a76 neoverse-n1
int8, sdot|lanes|lanes_s8_6_dotprod|lanes:peak_s8_dotprod|sdot|32|6 x 16|cortex-a76 neoverse-n1 neoverse-n2 neoverse-v1 neoverse-v2
int8, smmla|mmla|mmla_s8_6_i8mm|mmla:peak_s8_i8mm|smmla|64|6 x 16|neoverse-n2 neoverse-v1 neoverse-v2
bf16, bfmmla|mmla|mmla_bf16_6_bf16|mmla:peak_bf16_bf16|bfmmla|32|6 x 16|neoverse-n2 neoverse-v1 neoverse-v2
END

cat <<END

## Around the products

Cycles for four outputs, with bias.

| what | neoverse-n1 | neoverse-n2 | neoverse-v1 | neoverse-v2 |
|---|---|---|---|---|
END
while IFS='|' read -r what function op; do
  cut_loop rows "$function" "$op" >"$folder/loop.s"
  row="| $what |"
  for cpu in neoverse-n1 neoverse-n2 neoverse-v1 neoverse-v2; do
    row="$row $(printf '%.1f' "$(cycles $cpu "$folder/loop.s")") |"
  done
  echo "$row"
done <<END
f32 sums|finish_f32_neon|[a-z]
f32 sums, QuickGELU|finish_f32_quick_neon|[a-z]
f32 sums, GELU by erf|finish_f32_erf_neon|[a-z]
f32 sums, GELU by tanh|finish_f32_tanh_neon|[a-z]
int8 sums|finish_s32_neon|[a-z]
int8 sums, QuickGELU|finish_s32_quick_neon|[a-z]
int8 sums, GELU by erf|finish_s32_erf_neon|[a-z]
int8 sums, GELU by tanh|finish_s32_tanh_neon|[a-z]
END
