#!/bin/sh
# The Python tools' own tests, where Python and what they need are there.
python=${PYTHON:-python3}
"$python" -c 'import numpy, PIL, pytest' 2>/dev/null || { echo "skipped: no Python with numpy, Pillow and pytest"; exit 77; }
"$python" -m pytest -q -p no:cacheprovider weights_tools/tests | tee /dev/stderr | tail -n 1 |
  sed -E 's/.* ([0-9]+) passed.*/\1 passed, 0 failed/; s/^([0-9]+) passed.*/\1 passed, 0 failed/'
