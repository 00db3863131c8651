#!/bin/sh
# Only clipc_* is visible, and all that clipc.h declares is there: in the shared library and in the one-file
# delivery.  usage: exports.sh LIBRARY.so OBJECT.o
cd "$(dirname "$0")/.." || exit 2
grep -v '^typedef' include/clipc.h | grep -o 'clipc_[a-z0-9_]*(' | tr -d '(' | sort -u >"${TMPDIR:-/tmp}/clipc-declared.$$"
trap 'rm -f "${TMPDIR:-/tmp}"/clipc-*.$$' EXIT
failed=0
compare() { # what, list of symbols on stdin
  sort -u >"${TMPDIR:-/tmp}/clipc-exported.$$"
  if ! diff "${TMPDIR:-/tmp}/clipc-declared.$$" "${TMPDIR:-/tmp}/clipc-exported.$$"; then
    echo "exports: $1 differs from clipc.h (< declared, > exported)"; failed=1
  fi
}
nm -D --defined-only "$1" | awk '{print $3}' | compare "$1"
nm -g --defined-only "$2" | awk 'NF == 3 {print $3}' | grep -v '^__\|^_' | compare "$2"
exit $failed
