#!/bin/sh
# Everything that threads share, under ThreadSanitizer: the set of threads, and sessions on one model, packed files.
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
printf 'int main(void) { return 0; }\n' >"$folder/try.c"
${CC:-cc} -fsanitize=thread -o "$folder/try" "$folder/try.c" 2>/dev/null && "$folder/try" 2>/dev/null ||
  { echo "skipped: ThreadSanitizer does not run here"; exit 77; }
make --no-print-directory SAN=thread BLAS=0 BUILD="$1-tsan" "$1-tsan/tests/test_threads" "$1-tsan/tests/test_session" "$1-tsan/tests/test_pack" "$1-tsan/tests/test_repack" >/dev/null &&
  "$1-tsan/tests/test_threads" && CLIPC_SKIP_FULL=1 "$1-tsan/tests/test_session" && "$1-tsan/tests/test_pack" && "$1-tsan/tests/test_repack"
