#!/bin/sh
# The threads under ThreadSanitizer: only what touches them, with the plain C products (OpenBLAS is not
# instrumented).
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
printf 'int main(void) { return 0; }\n' >"$folder/try.c"
${CC:-cc} -fsanitize=thread -o "$folder/try" "$folder/try.c" 2>/dev/null && "$folder/try" 2>/dev/null ||
  { echo "skipped: ThreadSanitizer does not run here"; exit 77; }
${CC:-cc} -std=c11 -O1 -g -fsanitize=thread -DCLIPC_BLAS=0 -Iinclude -Isrc -Itests -o "$folder/threads" \
  tests/test_threads.c src/base/*.c -lcmocka -lcjson -lpthread && "$folder/threads"
