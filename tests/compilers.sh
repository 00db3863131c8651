#!/bin/sh
# The library and the program compile without a warning with a compiler: compilers.sh COMPILER FLAG
cc=$1 flag=$2
command -v "$cc" >/dev/null 2>&1 || { echo "skipped: no $cc here (tools/deps.sh --all installs it)"; exit 77; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# A cross compiler does not look into /usr/include: show it the dependencies' headers, which fit every machine.
mkdir "$folder/deps"
for name in stb cjson; do [ -e /usr/include/$name ] && ln -s /usr/include/$name "$folder/deps/$name"; done
[ -e /usr/include/utf8proc.h ] && ln -s /usr/include/utf8proc.h "$folder/deps/utf8proc.h"
export cc flag folder
printf '%s\n' src/*.c src/*/*.c | xargs -P 2 -n 12 sh -c 'for source; do
  "$cc" -std=c11 "$flag" -Wall -Wextra -Wshadow -Wstrict-prototypes -Werror -Iinclude -Isrc -isystem "$folder/deps" \
    -c "$source" -o "$folder/$$.o" || exit 1
done' sh || exit 1
