#!/bin/sh
# make install into a folder, then build a program against it by pkg-config's file.
build=$1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
set -e
make --no-print-directory BUILD="$build" DESTDIR="$folder" PREFIX=/usr install >/dev/null
for file in bin/clipc include/clipc.h lib/libclipc.a lib/libclipc.so lib/libclipc.so.0 lib/pkgconfig/clipc.pc; do
  test -e "$folder/usr/$file" || { echo "install: no $file"; exit 1; }
done
grep -q "^Version: $(sed -n 's/^.define CLIPC_VERSION "\(.*\)"/\1/p' include/clipc.h)\$" "$folder/usr/lib/pkgconfig/clipc.pc"
${CC:-cc} -I"$folder/usr/include" -o "$folder/program" examples/classify.c -L"$folder/usr/lib" -lclipc -lm
LD_LIBRARY_PATH="$folder/usr/lib" "$folder/program" models/tiny models/tiny/pictures/*.png | grep -q '%'
