#!/bin/sh
# The sources build without the Makefile, by one line and whatever flags, and the pixels stay the same: with -march=native
# a compiler may fuse products with sums where it is not told otherwise.
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cc=${CC:-cc}
sources="src/*.c src/base/*.c src/kernels/*.c src/image/*.c src/text/*.c src/weights/*.c src/model/*.c src/async/*.c"
libs="-lcjson -lutf8proc -lm -lpthread"
set -e
objects="$folder/objects"
mkdir "$objects"
root=$PWD
(cd "$objects" && $cc -O2 -march=native -I"$root/include" -I"$root/src" -c $(cd "$root" && ls $sources | sed "s|^|$root/|"))
$cc -O1 -Iinclude -o "$folder/example" examples/classify.c "$objects"/*.o $libs
"$folder/example" models/tiny models/tiny/pictures/*.png | grep -q '%'
helpers=$(ls tests/*.c | grep -v '/test_')
for test in test_resize test_preprocess; do
  $cc -std=gnu11 -D_GNU_SOURCE -O1 -Itests -Iinclude -Isrc -o "$folder/$test" tests/$test.c $helpers "$objects"/*.o -lcmocka $libs
  "$folder/$test"
done
