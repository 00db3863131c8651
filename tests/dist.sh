#!/bin/sh
# The one-file delivery does the same as the library: the tests that need clipc.h alone pass on it, and the example
# prints the same.
build=$1
cc=${CC:-cc}
libs="-lcjson -lutf8proc -lm -lpthread"
nm "$build/dist/clipc.o" | grep -q ' U dlopen' && libs="$libs -ldl"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
set -e
$cc -O1 -Idist -o "$folder/one" examples/classify.c "$build/dist/clipc.o" $libs
$cc -O1 -Iinclude -o "$folder/many" examples/classify.c "$build/libclipc.a" $libs
"$folder/one" models/tiny models/tiny/pictures/*.png >"$folder/one.txt"
"$folder/many" models/tiny models/tiny/pictures/*.png >"$folder/many.txt"
test -s "$folder/one.txt"
cmp "$folder/one.txt" "$folder/many.txt"
helpers="tests/testing.c tests/golden.c tests/synthetic.c"
for test in test_api test_score test_model test_session; do
  $cc -std=gnu11 -D_GNU_SOURCE -O1 -Idist -Itests -Isrc -Iinclude -o "$folder/$test" tests/$test.c $helpers "$build/dist/clipc.o" -lcmocka $libs
  CLIPC_SKIP_FULL=1 "$folder/$test"
done
