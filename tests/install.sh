#!/bin/sh
# make install into a folder (with a space in its name), then build a program against it as pkg-config says.
build=$1
folder="$(mktemp -d)/a b"
trap 'rm -rf "$(dirname "$folder")"' EXIT
set -e
make --no-print-directory BUILD="$build" DESTDIR="$folder" PREFIX=/usr install >/dev/null
for file in bin/clipc include/clipc.h lib/libclipc.a lib/libclipc.so lib/libclipc.so.0 lib/pkgconfig/clipc.pc; do
  test -e "$folder/usr/$file" || { echo "install: no $file"; exit 1; }
done
if command -v pkg-config >/dev/null 2>&1; then
  export PKG_CONFIG_PATH="$folder/usr/lib/pkgconfig" PKG_CONFIG_ALLOW_SYSTEM_CFLAGS=1 PKG_CONFIG_ALLOW_SYSTEM_LIBS=1
  test "$(pkg-config --modversion clipc)" = "$(sed -n 's/^.define CLIPC_VERSION "\(.*\)"/\1/p' include/clipc.h)"
  test "$(echo $(pkg-config --cflags --libs clipc))" = "-I/usr/include -L/usr/lib -lclipc"
else
  echo "note: no pkg-config here, its file was not tried"
fi
${CC:-cc} -I"$folder/usr/include" -o "$folder/program" examples/classify.c -L"$folder/usr/lib" -lclipc -lm
LD_LIBRARY_PATH="$folder/usr/lib" "$folder/program" models/tiny models/tiny/pictures/*.png | grep -q '%'
make --no-print-directory BUILD="$build" DESTDIR="$folder" PREFIX=/usr uninstall >/dev/null
test -z "$(find "$folder/usr" -type f)"
