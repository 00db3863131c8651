#!/bin/sh
# Everything that threads share, under ThreadSanitizer: the set of threads, sessions on one model, packed files, the scheduler.
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
printf 'int main(void) { return 0; }\n' >"$folder/try.c"
${CC:-cc} -fsanitize=thread -o "$folder/try" "$folder/try.c" 2>/dev/null && "$folder/try" 2>/dev/null ||
  { echo "skipped: ThreadSanitizer does not run here"; exit 77; }
programs=
for test in threads session pack repack tasks channels runtime liveness stress pending registry registry_stress memory fetch pull \
  pull_shards engines; do programs="$programs $1-tsan/tests/test_$test"; done
make --no-print-directory -j2 SAN=thread BLAS=0 BUILD="$1-tsan" $programs >/dev/null || exit 1
export CLIPC_SKIP_FULL=1
printf '%s\n' $programs | xargs -P 2 -I '{}' sh -c '"{}" >"{}.out" 2>&1' # two at a time; 123 when one failed
code=$?
for program in $programs; do cat "$program.out"; done
exit $code
