#!/bin/sh
# The public header compiles alone, as C99 and as C++; every internal header compiles alone.
cd "$(dirname "$0")/.." || exit 2
set -e
trap 'rm -f "$file" "$file.c" "$file.cc"' EXIT
file=$(mktemp)
printf '#include "clipc.h"\nint main(void) { clipc_error e; e.status = CLIPC_OK; return e.status; }\n' >"$file.c"
cp "$file.c" "$file.cc"
${CC:-cc} -std=c99 -pedantic-errors -Wall -Wextra -Werror -Iinclude -fsyntax-only "$file.c"
if command -v "${CXX:-c++}" >/dev/null 2>&1; then
  ${CXX:-c++} -std=c++98 -pedantic-errors -Wall -Wextra -Werror -Iinclude -fsyntax-only "$file.cc"
else
  echo "note: no C++ compiler here, the header was not tried as C++"
fi
for header in src/*/*.h; do
  printf '#include "%s"\nextern int nothing;\n' "${header#src/}" >"$file.c"
  ${CC:-cc} -std=c11 -Wall -Wextra -Werror -Wno-unused-function -Iinclude -Isrc -fsyntax-only "$file.c"
done
# The program at the top of clipc.h must compile as it stands.
sed -n 's/^ \*   //p' include/clipc.h | sed '/return error.status/q' >"$file.c"
grep -q 'int main' "$file.c"
${CC:-cc} -std=c99 -Wall -Wextra -Werror -Iinclude -fsyntax-only "$file.c"
