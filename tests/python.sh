#!/bin/sh
# The Python tools' own tests, with the first Python that has what they need: python.sh [BUILD], whose program they run.
#   --find: only print that Python
for python in ${PYTHON:-} python3 /usr/bin/python3; do
  "$python" -c 'import numpy, PIL, pytest' 2>/dev/null && found=$python && break
done
[ -n "${found:-}" ] || { echo "skipped: no Python with numpy, Pillow and pytest"; exit 77; }
if [ "${1:-}" = --find ]; then echo "$found"; exit 0; fi
if [ -n "${1:-}" ]; then CLIPC_PROGRAM=$(cd "$1" && pwd)/clipc; export CLIPC_PROGRAM; fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
"$found" -m pytest -q -rs -p no:cacheprovider weights_tools/tests >"$log" 2>&1
status=$?
cat "$log"
sed -n 's/^SKIPPED/note: skipped/p' "$log"
count() { grep -oE "[0-9]+ $1" "$log" | tail -n 1 | grep -oE '[0-9]+' || echo 0; }
echo "$(count passed) passed, $(count 'failed|[0-9]+ error') failed"
exit $status
