#!/bin/sh
# The include law: a file includes its own folder, lower ranks and clipc.h; the program only clipc.h.
# Prints each breach; exit 1 when there is one.
cd "$(dirname "$0")/.." || exit 2
grep -n '^#include "' src/*.c src/*/*.c src/*/*.h | awk -F: '
  function rank(room) {
    return room == "base" ? 1 : room == "kernels" ? 2 : room ~ /^(image|text|weights)$/ ? 3 : room == "model" ? 4 : \
           room == "" ? 5 : room == "async" ? 6 : room == "cli" ? 7 : 0
  }
  {
    room = $1; sub(/^src\//, "", room); if (!sub(/\/.*/, "", room)) room = ""
    split($3, part, "\""); target = part[2]; n++
    if (target == "clipc.h") next
    to = target; if (!sub(/\/.*/, "", to)) to = room
    if (rank(to) == 0) bad = "no such room"
    else if (room == "cli" && to != "cli") bad = "the program stands on clipc.h alone"
    else if (to != room && rank(to) >= rank(room)) bad = "rank " rank(room) " includes rank " rank(to)
    else next
    print $1 ":" $2 ": " target ": " bad; failed = 1
  }
  END { if (n < 20) { print "layers: only " n " includes seen"; failed = 1 } exit failed }'
