#!/bin/sh
# Runs tests and adds them up: run.sh NAME 'COMMAND' [NAME 'COMMAND' ...].  A cmocka program counts as its tests, a
# script that ends in "N passed, N failed" as that, anything else as one. A command that prints a line
# beginning with "skipped:" and exits 77 is a skip. Logs of failures are shown. Last line: the sum.
passed=0 failed=0 skipped=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
while [ $# -ge 2 ]; do
  name=$1 command=$2
  shift 2
  start=$(date +%s)
  sh -c "$command" >"$log" 2>&1 </dev/null
  status=$?
  seconds=$(($(date +%s) - start))
  ok=$(grep -c '^\[       OK \]' "$log") bad=$(grep -c '^\[  FAILED  \] [a-zA-Z_]*$' "$log")
  sum=$(grep -E '(^|: )[0-9]+ passed, [0-9]+ failed' "$log" | tail -n 1)
  if [ "$status" = 77 ]; then
    skipped=$((skipped + 1)); echo "skip  $name: $(grep '^skipped:' "$log" | head -n 1)"; continue
  fi
  if [ -n "$sum" ]; then
    ok=$(echo "$sum" | sed -E 's/.*[^0-9]*([0-9]+) passed, ([0-9]+) failed.*/\1/; s/.*: //')
    ok=$(echo "$sum" | grep -oE '[0-9]+ passed' | grep -oE '[0-9]+'); bad=$(echo "$sum" | grep -oE '[0-9]+ failed' | grep -oE '[0-9]+')
  elif [ "$ok" = 0 ] && [ "$bad" = 0 ]; then
    if [ "$status" = 0 ]; then ok=1; else bad=1; fi
  fi
  if [ "$status" != 0 ] && [ "$bad" = 0 ]; then bad=1; fi
  passed=$((passed + ok)) failed=$((failed + bad))
  if [ "$bad" = 0 ]; then
    echo "ok    $name: $ok ($seconds s)"
    grep '^note:' "$log"
  else
    echo "FAIL  $name: $bad of $((ok + bad)), exit $status"
    grep -v '^\[       OK \]\|^\[ RUN' "$log" | tail -n 60 | sed 's/^/      /'
  fi
done
if [ $skipped -gt 0 ]; then echo "$passed passed, $failed failed, $skipped skipped"; else echo "$passed passed, $failed failed"; fi
[ $failed = 0 ]
