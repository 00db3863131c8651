#!/bin/sh
# The examples do what their first lines say: examples.sh BUILD (built by make examples).
build=$1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
set -e
"$build/examples/classify" models/tiny models/tiny/pictures/*.png | grep -q 'red circle .*red_circle.png'
"$build/examples/capabilities" models/tiny "three green stars" "$folder/stars.ppm" >"$folder/said"
grep -q 'shows three green stars; cosine' "$folder/said"
[ "$(wc -c <"$folder/stars.ppm")" -gt 43200 ]
for loop in poll_loop libuv_loop; do
  [ -x "$build/examples/$loop" ] || { echo "$loop: not built here"; continue; }
  timeout 60 "$build/examples/$loop" models/tiny models/tiny/pictures/red_car.jpg models/tiny/pictures/red_circle.png >"$folder/$loop"
  [ "$(grep -c 'red_c' "$folder/$loop")" -ge 2 ]
done
