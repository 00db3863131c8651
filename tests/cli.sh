#!/bin/sh
# The program from the outside: cli.sh PROGRAM MODEL. Orders, formats, exit codes, sentences, files left and not left.
# Prints a line per failure and at the end "cli: N passed, N failed".
case $1 in /*) clipc=$1 ;; *) clipc=$PWD/$1 ;; esac
case $2 in /*) model=$2 ;; *) model=$PWD/$2 ;; esac
header=$PWD/include/clipc.h
[ -x "$clipc" ] && [ -d "$model/pictures" ] || { echo "usage: cli.sh PROGRAM MODEL" >&2; exit 2; }
folder=$(mktemp -d) || exit 2
trap 'chmod -R u+w "$folder"; rm -rf "$folder"' EXIT
trap 'exit 2' INT TERM
cd "$folder" || exit 2
unset COLUMNS NO_COLOR LC_ALL LC_CTYPE LANG
passed=0 failed=0

# run ARGUMENTS...: the program, with stdout, stderr and exit code in out, err, $code
run() { "$clipc" "$@" >out 2>err </dev/null; code=$?; }
# fed FILE ARGUMENTS...: the same with a file on stdin
fed() { input=$1; shift; "$clipc" "$@" >out 2>err <"$input"; code=$?; }

# that NAME COMMAND...: the test passes when the command does
that() {
  name=$1
  shift
  if "$@" >/dev/null 2>that.log; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    echo "cli: FAILED: $name: $*"
    sed 's/^/     stderr: /' err | head -n 5
    sed 's/^/     /' that.log | head -n 3
  fi
}
exits() { [ "$code" = "$1" ]; }
empty() { [ ! -s "$1" ]; }
lines() { [ "$(wc -l <"$1")" -eq "$2" ]; }
bytes() { [ "$(wc -c <"$1")" -eq "$2" ]; }
has() { grep -qF -e "$2" "$1"; }
hex() { od -An -v -tx1 "$1" | tr -d ' \n'; }
absent() { [ ! -e "$1" ]; }
clean_folder() { ! ls -A "${1:-.}" | grep -q '^\..*clipc-.*tmp$'; }
# refused NAME SENTENCE: exit 2, nothing on stdout, the sentence on stderr
refused() {
  that "$1: exit code" exits 2
  that "$1: nothing on stdout" empty out
  that "$1: sentence" has err "$2"
}
# fine NAME: exit 0, nothing on stderr
fine() {
  that "$1: exit code" exits 0
  that "$1: nothing on stderr" empty err
}
# The inputs of jsonl lines, in order.
inputs() { sed -E 's/^\{"kind":"([a-z]+)","input":"([^"]*)".*/\1 \2/' "$1" | sed 's|/.*/||'; }

pictures=$model/pictures
one=$pictures/red_circle.png
two=$pictures/blue_square.png

# ---- help
run
that "no arguments: exit code" exits 2
that "no arguments: nothing on stdout" empty out
that "no arguments: usage on stderr" has err "Usage: clipc COMMAND"
for way in --help -h help; do
  run $way
  fine "$way"
  that "$way: usage on stdout" has out "Usage: clipc COMMAND"
done
for command in embed classify tokenize preprocess decode inspect layers pack convert search quality zeroshot-eval bench pull version; do
  run $command --help
  fine "$command --help"
  that "$command --help: usage" has out "Usage: clipc $command"
  that "$command --help: example" grep -q "^  .*clipc $command" out
  mv out help
  run help $command
  that "help $command is $command --help" cmp -s out help
  if grep -q -e ' --model DIR' help; then that "$command --help: reference" has help "--reference NAME"; fi
done
run version
fine version
number=$(sed -n 's/^#define CLIPC_VERSION "\(.*\)"/\1/p' "$header")
that "version: first line" [ "$(head -n 1 out)" = "clipc $number" ]
that "version: a line on the build" lines out 2
run --version
that "--version" [ "$(head -n 1 out)" = "clipc $number" ]

# ---- the command line
run emebd
refused "unknown command" 'there is no command "emebd"; did you mean embed?'
run --nonsense
refused "option for a command" '"--nonsense"'
run help nonsense
refused "help of nothing" '"nonsense"'
run embed -m "$model" --imag x
refused "unknown option" "embed has no option --imag; did you mean --image?"
run embed -m "$model" -q
refused "unknown letter" "no option -q"
run embed -m "$model" --text
refused "missing value" "--text needs a value"
run embed -m
refused "missing value of a letter" "-m needs a value"
run embed -m "$model" --exif=1 --text a
refused "value too many" "--exif takes no value"
for bad in x -1 1x 99999999999999999999 ""; do
  run embed -m "$model" --text a -t "$bad"
  refused "threads \"$bad\"" "--threads takes a whole number"
done
for option in reference precision tier gemm verify alpha format; do
  run embed -m "$model" --text a --$option nonsense
  refused "--$option nonsense" "--$option takes one of"
done
run embed -m "$model"
refused "nothing to embed" "nothing to embed"
run embed --text a
refused "no model" "needs a model: -m MODEL"
run embed -m "$model" cat.jpg
refused "bare path" '"cat.jpg" needs to be told what it is'
for precision in bf16 int8; do
  run embed -m "$model" --text a --precision $precision
  fine "--precision $precision"
  run embed -m "$model" --text a --precision $precision --gemm openblas
  refused "$precision by OpenBLAS" "option gemm: OpenBLAS"
done
for tier in plain-c avx2 avx512-bf16 neon-bf16; do
  run embed -m "$model" --text a --tier $tier --gemm own --verify all
  fine "--tier $tier"
done
run embed --text=a --model="$model" --threads=1
fine "--option=value"
mv out spelt
run embed --text a -m"$model" -t1
that "-mDIR and -tN" cmp -s out spelt
run embed -m "$model" -t 1 --text a --tier best --reference auto --
that "end of options" cmp -s out spelt

# ---- models that are none
run embed -m nowhere --text a
refused "no such model" nowhere
mkdir hollow
run embed -m hollow --text a
refused "hollow model" hollow
run tokenize -m hollow a
refused "tokenize with a hollow model" hollow
run inspect -m hollow
refused "inspect a hollow model" hollow

# ---- pack
run pack -m "$model" --precision int8 -o tiny.clipc
fine pack
run pack -m "$model" -o no/such/folder/tiny.clipc
refused "pack to nowhere" no/such/folder
that "pack to nowhere: no file" absent no
run pack -m tiny.clipc -o again.clipc
refused "pack of a packed file" "packed"
that "pack of a packed file: no file" absent again.clipc
run embed -m "$model" --precision int8 --image "$one" --text "a red circle"
mv out from_folder
run embed -m tiny.clipc --image "$one" --text "a red circle"
fine "embed from a packed file"
that "a packed file gives the folder's vectors" cmp out from_folder
run embed -m tiny.clipc --precision f32 --text a
fine "f32 takes a packed file as it is"
run embed -m tiny.clipc --precision bf16 --text a
refused "another precision than the file's" precision
run inspect -m tiny.clipc
fine "inspect a packed file"
that "inspect a packed file: precision" has out int8
head -c 100000 tiny.clipc >cut.clipc
run embed -m cut.clipc --text a
refused "a packed file that is cut short" cut.clipc
run embed -m "$one" --text a
refused "a model that is a picture" "packed model"
rm -f tiny.clipc cut.clipc from_folder

# ---- fingerprints
run inspect -m "$model"
fingerprint=$(sed -n 's/^fingerprint *//p' out)
that "inspect: fingerprint" [ "${#fingerprint}" = 36 ]
run embed -m "$model" --fingerprint --text a --image "$one"
fine "embed with a fingerprint"
that "fingerprint in every line" [ "$(grep -c "\"fingerprint\":\"$fingerprint\"" out)" = 2 ]
run embed -m "$model" --text a
that "no fingerprint unasked" [ "$(grep -c fingerprint out)" = 0 ]
run embed -m "$model" --fingerprint --text a -f npy -o vectors.npy
fine "an array with a fingerprint"
that "fingerprint beside the array" has vectors.npy.json "{\"fingerprint\":\"$fingerprint\",\"shape\":[1,"
run embed -m "$model" --fingerprint --text a -f raw
refused "fingerprint of an array on stdout" "-o FILE"
run pack -m "$model" --precision int8 --tower image -o packed.clipc
that "pack says the fingerprint" has out "fingerprint ${fingerprint%f32}int8"
run inspect -m packed.clipc
that "a packed file has the folder's" has out "${fingerprint%f32}int8"
run inspect -m packed.clipc --tensors -f json
refused "the tensors of a packed file" "packed.clipc: is a packed file, and only folders have tensors to list"
run inspect -m "$model" --reference openai
that "other pixels, another space" [ "$(grep -c "${fingerprint%:f32}" out)" = 0 ]
rm -f packed.clipc vectors.npy vectors.npy.json

# ---- search
run embed -m "$model" --fingerprint --image "$one" --image "$two" --text "stra\"\\/ ü 😀"
mv out vectors.jsonl
run search -m "$model" --vectors vectors.jsonl --text "a red circle" -k 2
fine search
that "search: two matches" lines out 2
that "search: the best first" [ "$(head -n 1 out | sed 's|.*/||')" = red_circle.png ]
run search -m "$model" --precision int8 --vectors vectors.jsonl --image "$two" --text "stra\"\\/ ü 😀" -f jsonl -k 1
fine "search in another precision"
that "search jsonl: a line each" lines out 2
that "search jsonl: the picture finds itself" [ "$(sed -n '1s/.*"input":"[^"]*\/\([^"\/]*\)".*/\1/p' out)" = blue_square.png ]
that "search jsonl: escapes come through" [ "$(sed -n '2s/{"query":\(.*\),"matches":.*/\1/p' out)" = "$(sed -n '2s/.*"input":\(.*\),"cosine":.*/\1/p' out)" ]
run search -m "$model" --reference openai --vectors vectors.jsonl --text a
refused "search another space" "is of another embedding space than the model"
sed 's/"fingerprint":"[^"]*",//' vectors.jsonl >unsaid.jsonl
run search -m "$model" --vectors unsaid.jsonl --text a
refused "search an unsaid space" "does not say of which embedding space"
run search -m "$model" --vectors unsaid.jsonl --text a --any-space
fine "search an unsaid space all the same"
sed 's/"embedding":\[[^,]*,/"embedding":[/' vectors.jsonl >short.jsonl
run search -m "$model" --vectors short.jsonl --text a
refused "search vectors of another length" "vectors of 127 numbers"
for broken in '{"embedding":[1,2}' '{"input":"a' '[1]' '{"input":"\u12"}' '{"a":[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]}' 'x'; do
  printf '%s\n' "$broken" >broken.jsonl
  run search -m "$model" --vectors broken.jsonl --text a
  refused "search $broken" "line 1 is not a line of clipc embed"
done
run embed -m "$model" --fingerprint --image "$one" --image no_such.png --image "$two" -f npy -o vectors.npy
run search -m "$model" --vectors vectors.npy --text "blue square"
fine "search an array"
that "search an array: failed rows are left out" lines out 2
that "search an array: rows are named" [ "$(head -n 1 out | sed 's/^[^ ]* *[0-9.]*  //;s/^ *[0-9.-]*  //')" = "row 2" ]
head -c 700 vectors.npy >cut.npy
run search -m "$model" --vectors cut.npy --text a --any-space
refused "search a cut array" "cut.npy: is cut short"
run search -m "$model" --text a
refused "search nothing" "--vectors FILE"
run search -m "$model" --vectors vectors.npy
refused "search for nothing" "--text or --image"
run search -m "$model" --vectors no_such_file --text a
refused "search no file" no_such_file
rm -f vectors.jsonl unsaid.jsonl short.jsonl broken.jsonl vectors.npy vectors.npy.json cut.npy

# ---- convert
run convert -m "$model" -o half --precision f16
fine convert
that "convert: says what it made" has out "half: "
fingerprint=$(sed -n 's/^fingerprint *//p' out)
run inspect -m half
that "convert: its fingerprint is inspect's" has out "fingerprint      $fingerprint"
run inspect -m half --tensors
fine "inspect --tensors"
that "inspect --tensors: half" has out "F16 "
run inspect -m half --tensors -f json
fine "inspect --tensors in JSON"
that "inspect --tensors in JSON: norms" has out '"norm":'
run convert -m half -o "in shards ü" --precision f32 --shard-bytes 1000000
fine "convert to shards"
run embed -m "in shards ü" --image "$one" --text "a red circle"
mv out from_shards
run embed -m half --image "$one" --text "a red circle"
that "shards give the same vectors" cmp out from_shards
run convert -m "$model" -o eyes --tower image
fine "convert one tower"
run embed -m eyes --image "$one"
mv out from_tower
run embed -m "$model" --image "$one"
that "one tower gives the same vectors" cmp out from_tower
run embed -m eyes --text a
refused "the tower that was left out" "text tower"
run convert -m "$model" -o half
refused "convert onto a folder" "half: is there already"
run convert -m half -o no/such/folder
refused "convert to nowhere" no/such/folder
run convert -m no_such_folder -o other
refused "convert of nothing" no_such_folder
that "convert of nothing: nothing made" absent other
run convert -m "$model"
refused "convert without a place" "-o DIR"
run convert -o other
refused "convert without a model" "-m DIR"
run convert -m "$model" -o other --precision int8
refused "convert to int8" "--precision takes one of"
run convert -m "$model" -o other --shard-bytes 0
refused "shards of nothing" "--shard-bytes takes a whole number"
that "convert leaves nothing hidden" clean_folder
rm -rf half "in shards ü" eyes from_shards from_tower

# ---- what is no model, or a damaged one: a sentence with the file and the field, and nothing made
# odd: a copy of the model's files to spoil
odd() {
  rm -rf "odd ü"
  mkdir "odd ü"
  cp "$model"/*.json "$model"/*.txt "$model"/*.safetensors "odd ü"
}
# spoilt SENTENCE: every command that reads weights refuses the copy with it
spoilt() {
  for command in inspect "convert -o made" "pack -o made"; do
    run $command -m "odd ü"
    refused "${command%% *}: $1" "odd ü/$1"
    that "${command%% *}: $1: nothing made" absent made
    that "${command%% *}: $1: nothing left" clean_folder
  done
}
for type in siglip bert resnet; do
  odd
  sed 's/"model_type": "clip"/"model_type": "'$type'"/' "$model/config.json" >"odd ü/config.json"
  spoilt "config.json: model_type is \"$type\""
done
odd
rm "odd ü/config.json"
mv "odd ü/model.safetensors" "odd ü/open_clip_model.safetensors"
echo '{"model_cfg": {"embed_dim": 1024, "vision_cfg": {"image_size": 224, "layers": [3, 4, 6, 3], "width": 64}, "text_cfg":
  {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12}}}' >"odd ü/open_clip_config.json"
spoilt "open_clip_config.json: model_cfg.vision_cfg.layers is a list: ResNet towers are not supported"
odd
head -c 100000 "$model/model.safetensors" >"odd ü/model.safetensors"
spoilt "model.safetensors: the tensors take "
head -c 1000 "$model/model.safetensors" >"odd ü/model.safetensors"
spoilt "model.safetensors: not safetensors, or cut short"
odd
run convert -m "$model" -o shards --shard-bytes 3000000
mv "odd ü/model.safetensors" aside
cp shards/model* "odd ü"
run embed -m "odd ü" --text a
fine "a folder of shards"
first=$(cd shards && ls model-*.safetensors | head -n 1) # of both towers
rm "odd ü/$first"
spoilt "$first: "
cp aside "odd ü/$first"
run inspect -m "odd ü"
fine "shards with more in one than the index says"
cp "shards/$(ls shards | grep '^model-.*safetensors$' | tail -n 1)" "odd ü/$first"
spoilt "$first: the index lists tensor "
rm -rf shards aside
odd
for target in model.safetensors config.json; do
  run pack -m "odd ü" -o "odd ü/$target"
  refused "pack onto $target" "odd ü/$target: is a file of the model"
  that "pack onto $target: it stays" cmp "odd ü/$target" "$model/$target"
  (cd "odd ü" && "$clipc" pack -m . -o $target) >out 2>err
  code=$?
  refused "pack onto $target in its folder" "$target: is a file of the model"
done
for time in first second; do
  run pack -m "odd ü" -o "odd ü/packed.clipc"
  fine "pack into the model's folder, the $time time"
done
for target in "odd ü" "odd ü/" "./odd ü" "odd ü/config.json" ""; do
  run convert -m "odd ü" -o "$target"
  refused "convert onto \"$target\"" "$target: "
done
run convert -m "odd ü" -o made --precision F16
refused "convert to an unknown precision" '--precision takes one of same, f32, f16, bf16, not "F16"'
run pack -m "odd ü" -o made --precision f16
refused "pack in an unknown precision" '--precision takes one of f32, bf16, int8, not "f16"'
that "unknown precisions: nothing made" absent made
that "unknown precisions: nothing left" clean_folder
rm -rf "odd ü"

# ---- quality
run quality -m "$model" --images "$pictures"
fine quality
that "quality: a recommendation" grep -q '^use [a-z0-9]*: ' out
run quality -m "$model" --images "$pictures" -f json
fine "quality json"
that "quality json: recall" has out '"recall_at_5":'
head -c 100 "$one" >broken.png
run quality -m "$model" --images "$one" --images "$two" --images broken.png
that "quality with a broken picture: exit code" exits 1
that "quality with a broken picture: the others" has out "2 pictures"
that "quality with a broken picture: sentence" has err broken.png
run quality -m "$model" --images broken.png
that "quality of nothing: exit code" exits 2
run quality -m "$model"
refused "quality without pictures" "--images DIR"
run quality -m "$model" --images "$one" --precision int8
refused "quality of one precision" "--precision"
run pack -m "$model" -o packed.clipc
run quality -m packed.clipc --images "$one"
refused "quality of a packed file" "packed file"
rm -f packed.clipc broken.png

# ---- zeroshot-eval
mkdir -p tree/red_circle tree/blue_square
cp "$one" tree/red_circle/a.png
cp "$two" tree/blue_square/a.png
cp "$one" tree/blue_square/wrong.png
run zeroshot-eval -m "$model" --images tree
fine zeroshot-eval
that "zeroshot-eval: top-1" grep -q '^top-1  *66.67 %' out
that "zeroshot-eval: top-5" grep -q '^top-5  *100.00 %' out
that "zeroshot-eval: mean" grep -q '^mean per class  *75.00 %' out
that "zeroshot-eval: confusion" has out "1 of 2      blue square -> red circle"
printf 'red_circle\ta round red circle\nblue_square\tblue square\ncar\tred car\n\n' >classes.tsv
printf 'a photo of a {}\n{}\n' >templates.txt
run zeroshot-eval -m "$model" --images tree --classes classes.tsv --templates templates.txt -f json
fine "zeroshot-eval by files"
that "zeroshot-eval by files: classes" has out '"n_classes":3,'
that "zeroshot-eval by files: name" has out '{"folder":"red_circle","name":"a round red circle","n_images":1,"n_top_1":1}'
printf 'blue square\nred circle\n' >names.txt
run zeroshot-eval -m "$model" --images tree --classes names.txt
that "zeroshot-eval by names in order" grep -q '^top-1  *66.67 %' out
printf 'blue square\n' >names.txt
run zeroshot-eval -m "$model" --images tree --classes names.txt
refused "too few names" "has 1 names for the 2 folders"
printf 'blue square\nred_circle\tred circle\n' >names.txt
run zeroshot-eval -m "$model" --images tree --classes names.txt
refused "names of two kinds" "1 of 2 lines have a tab"
printf 'red_circle\tx\nred_circle\ty\n' >names.txt
run zeroshot-eval -m "$model" --images tree --classes names.txt
refused "a folder twice" "comes twice"
printf 'red_circle\tred circle\n' >names.txt
run zeroshot-eval -m "$model" --images tree --classes names.txt
refused "a folder without a line" 'no line for the folder "blue_square"'
printf 'a photo\n' >templates.txt
run zeroshot-eval -m "$model" --images tree --templates templates.txt
refused "a template without a place" "has no {}"
run zeroshot-eval -m "$model" --images tree/red_circle
refused "a tree without folders" "no folders of pictures"
run zeroshot-eval -m "$model"
refused "zeroshot-eval without pictures" "--images TREE"
head -c 100 "$one" >tree/red_circle/broken.png
run zeroshot-eval -m "$model" --images tree
that "zeroshot-eval with a broken picture: exit code" exits 1
that "zeroshot-eval with a broken picture: sentence" has err broken.png
that "zeroshot-eval with a broken picture: the others" has out "3, of 2 classes"
rm -rf tree classes.tsv names.txt templates.txt

# ---- inspect
run inspect -m "$model"
fine inspect
that "inspect: resize" grep -q '^  resize' out
run inspect -m "$model" -f json
fine "inspect json"
that "inspect json: a line" lines out 1
dimension=$(sed -E 's/.*"embedding_dimension":([0-9]+).*/\1/' out)
size=$(sed -E 's/.*"image_height":([0-9]+).*/\1/' out)
context=$(sed -E 's/.*"context_length":([0-9]+).*/\1/' out)
that "inspect json: numbers" [ "$dimension" -gt 0 -a "$size" -gt 0 -a "$context" -gt 0 ]
for reference in openai hf hf-tv; do
  run inspect -m "$model" --reference $reference -f json
  that "inspect --reference $reference" has out "\"reference\":\"$reference\""
done

# ---- embed: order, formats
run embed -m "$model" --image "$one" --text "a red circle" --image "$two" --text "a red circle"
fine embed
that "embed: results in order" [ "$(inputs out | tr '\n' ';')" = \
  "image red_circle.png;text a red circle;image blue_square.png;text a red circle;" ]
that "embed: every line is a result" [ "$(grep -c '^{"kind":"[a-z]*","input":".*","embedding":\[.*\]}$' out)" = 4 ]
that "embed: as many numbers as dimensions" [ "$(head -n 1 out | sed 's/.*\[//; s/\].*//' | tr ',' '\n' | wc -l)" = \
  $((dimension - 0)) ]
that "embed: length 1" awk -F'[][]' '{ n = split($2, x, ","); s = 0; for (i = 1; i <= n; i++) s += x[i] * x[i]
  if (s < 0.99999 || s > 1.00001) exit 1 }' out
that "embed: the same text twice" [ "$(sed -n 2p out)" = "$(sed -n 4p out)" ]
mv out all.jsonl
run embed -m "$model" --format=jsonl -o - --image "$one" --text "a red circle" --image "$two" --text "a red circle"
that "embed -o -" cmp -s out all.jsonl
run embed -m "$model" --format json --image "$one" --text "a red circle" --image "$two" --text "a red circle"
fine "embed json"
that "embed json: an array of the same objects" [ "$(sed '1d; $d; s/,$//' out)" = "$(cat all.jsonl)" ]
that "embed json: brackets" [ "$(sed -n '1p; $p' out | tr -d '\n')" = "[]" ]
run embed -m "$model" --format raw --image "$one" --text "a red circle" --image "$two" --text "a red circle"
fine "embed raw"
that "embed raw: size" bytes out $((4 * 4 * dimension))
mv out all.raw
run embed -m "$model" --format npy -o all.npy --image "$one" --text "a red circle" --image "$two" --text "a red circle"
fine "embed npy"
that "embed -o: nothing on stdout" empty out
that "embed npy: size" bytes all.npy $((128 + 4 * 4 * dimension))
head -c 10 all.npy >start
that "embed npy: magic, version, length" [ "$(hex start)" = 934e554d505901007600 ]
that "embed npy: header" [ "$(head -c 128 all.npy | tail -c +11 | sed 's/ *$//')" = \
  "{'descr': '<f4', 'fortran_order': False, 'shape': (4, $dimension), }" ]
tail -c +129 all.npy >rows
that "embed npy: rows are those of raw" cmp -s rows all.raw
run embed -m "$model" --no-normalize --image "$one" --text "a red circle"
fine "embed --no-normalize"
that "embed --no-normalize: another length" awk -F'[][]' '{ n = split($2, x, ","); s = 0
  for (i = 1; i <= n; i++) s += x[i] * x[i]; if (s > 0.999 && s < 1.001) exit 1 }' out
run embed -m "$model" --batch 1 --image "$one" --text "a red circle" --image "$two" --text "a red circle"
that "embed --batch 1: the same inputs" [ "$(inputs out)" = "$(inputs all.jsonl)" ]
for reference in openai hf hf-tv; do
  run embed -m "$model" --reference $reference --image "$one" --text a
  fine "embed --reference $reference"
done

# ---- embed: items that fail
echo "this is no picture" >damaged.png
: >nothing.jpg
run embed -m "$model" --image "$one" --image missing.png --text "a red circle" --image damaged.png --image nothing.jpg \
  --image "$two" --text "a red circle"
that "bad items: exit code" exits 1
that "bad items: a line each" lines out 7
grep '"embedding"' out >good
that "bad items: neighbours unharmed" [ "$(inputs good)" = "$(inputs all.jsonl)" ]
that "bad items: missing" has out '{"kind":"image","input":"missing.png","error":{"status":"CLIPC_E_IO","message":"'
that "bad items: damaged" has out '{"kind":"image","input":"damaged.png","error":{"status":"CLIPC_E_FORMAT","message":"'
that "bad items: empty" has out '{"kind":"image","input":"nothing.jpg","error":{"status":"CLIPC_E_FORMAT","message":"'
that "bad items: lines on stderr" lines err 3
that "bad items: named on stderr" has err missing.png
run embed -m "$model" --format raw --image missing.png --text "a red circle"
that "NaN row: exit code" exits 1
that "NaN row: size" bytes out $((8 * dimension))
that "NaN row: a line on stderr" lines err 1
head -c $((4 * dimension)) out >row
that "NaN row: every number" [ -z "$(hex row | sed 's/0000c07f//g')" ]
run embed -m "$model" --format npy -o nan.npy --image missing.png
that "NaN npy: exit code" exits 1
that "NaN npy: is written" bytes nan.npy $((128 + 4 * dimension))
run embed -m "$model" --max-pixels 10 --image "$one" --text a
that "limit: exit code" exits 1
that "limit: status" has out CLIPC_E_LIMIT

# ---- embed: folders and lists
mkdir -p some/inner some/folder.png none
cp "$one" some/b.PNG
cp "$two" some/a.png
cp "$one" some/.hidden.png
cp "$one" some/inner/c.png
echo text >some/notes.txt
run embed -m "$model" --text first --image some --text last
fine "folder"
that "folder: its pictures by name" [ "$(inputs out | tr '\n' ';')" = "text first;image some/a.png;image some/b.PNG;text last;" ]
run embed -m "$model" --image some/
that "folder/: no double slash" has out '"some/a.png"'
run embed -m "$model" --image none --text a
refused "empty folder" "none: no pictures in this folder"
printf 'some/a.png\r\n\nmissing.png\nnone\nsome/b.PNG' >list
fed list embed -m "$model" --text before --image - --text after
that "list: exit code" exits 1
that "list: in its place" [ "$(inputs out | tr '\n' ';')" = \
  "text before;image some/a.png;image missing.png;image none;image some/b.PNG;text after;" ]
that "list: an empty folder spoils itself alone" has out '"input":"none","error":{"status":"CLIPC_E_IO"'
fed list embed -m "$model" -
that "bare -: the same list" lines out 4
printf 'some/a.png\0some/b.PNG\0' >list0
fed list0 embed -m "$model" -
fine "list of find -print0"
that "list of find -print0" lines out 2
fed list embed -m "$model" --image - --image -
refused "stdin twice" "only once"
: >blank
fed blank embed -m "$model" -
refused "nothing on stdin" "nothing to embed"
printf 'one\r\n\ntwo' >texts
run embed -m "$model" --texts texts
fine "--texts"
that "--texts: every line" [ "$(inputs out | tr '\n' ';')" = "text one;text ;text two;" ]
run embed -m "$model" --texts missing.txt
refused "--texts of a missing file" missing.txt

# ---- any bytes
run embed -m "$model" --text "$(printf 'q"\\\t\001\377\342\202')"
fine "odd bytes"
that "odd bytes: JSON" has out "$(printf '"input":"q\\"\\\\\\t\\u0001\357\277\275\357\277\275","embedding"')"
run embed -m "$model" --image "$(printf 'no\033[31m\377.png')"
that "odd name: exit code" exits 1
that "odd name: no control characters on stderr" [ "$(tr -d '\n' <err | tr -dc '\000-\037' | wc -c)" = 0 ]
run embed -m "$model" --text=--image --text ""
fine "a text like an option, an empty text"
that "a text like an option" [ "$(inputs out | tr '\n' ';')" = "text --image;text ;" ]

# ---- outputs
run embed -m "$model" --text a -o nowhere/out.jsonl
refused "no folder for the output" "nowhere/out.jsonl: cannot be written: No such file or directory"
run embed -m "$model" --text a -o some
refused "output is a folder" "some: cannot be written: Is a directory"
run embed -m "$model" --text a -o ""
refused "output without a name" "cannot be written"
if [ -w /dev/full ]; then
  "$clipc" embed -m "$model" --text a >/dev/full 2>err
  code=$? && : >out
  refused "full stdout" "standard output: cannot be written: No space left on device"
  run embed -m "$model" --text a -o /dev/full
  refused "full device" "/dev/full: cannot be written: No space left on device"
  "$clipc" --help >/dev/full 2>err
  code=$?
  refused "full stdout for the help" "No space left on device"
  run decode --image "$one" -o /dev/full
  refused "full device for decode" "No space left on device"
fi
"$clipc" embed -m "$model" --text a >&- 2>err
code=$? && : >out
refused "closed stdout" "standard output: cannot be written"
"$clipc" embed -m "$model" --image missing.png --text a -o alone 2>&-
that "closed stderr: results alone in the file" lines alone 2
echo old >kept
(ulimit -f 1; exec "$clipc" embed -m "$model" --image "$pictures" -o kept >out 2>err)
code=$?
refused "no room in the middle" "kept: cannot be written: File too large"
that "no room in the middle: the old file stays" [ "$(cat kept)" = old ]
that "no room in the middle: nothing is left" clean_folder
for command in convert pack; do
  (ulimit -f 1; exec "$clipc" $command -m "$model" -o bounded >out 2>err)
  code=$?
  refused "$command, no room in the middle" "cannot be written: File too large"
  that "$command, no room in the middle: no target" absent bounded
  that "$command, no room in the middle: nothing is left" clean_folder
done
mkdir locked
chmod a-w locked
if ! (: >locked/probe) 2>/dev/null; then
  run embed -m "$model" --text a -o locked/out
  refused "locked folder" "locked/out: cannot be written: Permission denied"
  echo old >readonly && chmod a-w readonly
  run embed -m "$model" --text a -o readonly
  refused "locked file" "readonly: cannot be written: Permission denied"
fi
chmod 640 kept
ln -s kept link
run embed -m "$model" --text a -o link
fine "output through a link"
that "output through a link: the link stays" [ -h link ]
that "output through a link: its file is written" has kept '"kind":"text"'
that "output through a link: its permissions stay" [ "$(ls -l kept | cut -c 1-10)" = "-rw-r-----" ]
(umask 027; exec "$clipc" embed -m "$model" --text a -o fresh)
that "a new file's permissions" [ "$(ls -l fresh | cut -c 1-10)" = "-rw-r-----" ]
run embed -m "$model" --text a -o /dev/null
fine "output to a device"
that "the device stays" [ -c /dev/null ]
run embed -m nowhere --text a -o untouched
that "no output for a model that is none" absent untouched
that "no temporary files" clean_folder
"$clipc" embed -m "$model" --image "$pictures" --image "$pictures" 2>err | head -n 1 >out
that "a reader that leaves: its line" lines out 1
that "a reader that leaves: nothing on stderr" empty err

# ---- tokenize
run tokenize -m "$model" "a red circle" "" "a blue square"
fine tokenize
that "tokenize: an array per line" [ "$(grep -c '^\[[0-9]*\(,[0-9]*\)*\]$' out)" = 3 ]
that "tokenize: start and end alone for an empty text" [ "$(sed -n 2p out | tr ',' '\n' | wc -l)" = 2 ]
start=$(sed -n 2p out | sed -E 's/\[([0-9]+),.*/\1/') end=$(sed -n 2p out | sed -E 's/.*,([0-9]+)\]/\1/')
that "tokenize: start and end everywhere" [ "$(grep -c "^\[$start,.*,$end\]$" out)" -ge 2 ]
mv out ids
printf 'a red circle\n\na blue square\n' >texts
fed texts tokenize -m "$model" -
that "tokenize -: lines of stdin" cmp -s out ids
run tokenize -m "$model" -- - --text
fine "tokenize -- -"
that "tokenize -- -: texts" lines out 2
run tokenize -m "$model" "$(printf 'a red circle %.0s' $(seq 200))"
that "tokenize: cut to the context" [ "$(tr ',' '\n' <out | wc -l)" = "$context" ]
that "tokenize: cut, and the end token stays" grep -q ",$end\]$" out
run tokenize -m "$model"
refused "tokenize nothing" "nothing to tokenize"
head -c 1100000 /dev/zero | tr '\0' 'a' >long
(cat long && echo && echo fine) >longer
fed longer tokenize -m "$model" -
that "tokenize a huge text: exit code" exits 1
that "tokenize a huge text: null takes its line" [ "$(head -n 1 out)" = null ]
that "tokenize a huge text: the next one is there" [ "$(sed -n 2p out | cut -c 1)" = "[" ]
that "tokenize a huge text: stderr" lines err 1
for reference in openai hf hf-tv; do
  run tokenize -m "$model" --reference $reference "a red circle"
  that "tokenize --reference $reference" [ "$(cat out)" = "$(head -n 1 ids)" ]
done

# ---- preprocess and decode
run preprocess -m "$model" --image "$one" -o pixels.npy
fine preprocess
that "preprocess: nothing on stdout" empty out
that "preprocess: size" bytes pixels.npy $((128 + 4 * 3 * size * size))
that "preprocess: header" has pixels.npy "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3, $size, $size), }"
"$clipc" preprocess -m "$model" --image "$one" -o - >piped.npy
that "preprocess -o -" cmp -s piped.npy pixels.npy
for reference in openai hf hf-tv; do
  run preprocess -m "$model" --reference $reference --image "$one" -o pixels.npy
  fine "preprocess --reference $reference"
done
run preprocess -m "$model" --image damaged.png -o not.npy
that "preprocess: a damaged picture" exits 1
that "preprocess: a damaged picture: named" has err damaged.png
that "preprocess: a damaged picture: no file" absent not.npy
run preprocess -m "$model" --image "$one"
refused "preprocess without -o" "-o FILE"
run preprocess -m "$model" --image "$one" --image "$two" -o x.npy
refused "preprocess of two" "takes one picture"
run decode --image "$one" -o picture.ppm
fine decode
set -- $(head -n 2 picture.ppm | tail -n 1)
that "decode: PPM" [ "$(sed -n '1p; 3p' picture.ppm | head -c 7 | tr '\n' ' ')" = "P6 255 " ]
that "decode: size" bytes picture.ppm $((3 * $1 * $2 + 9 + ${#1} + ${#2}))
run decode --image picture.ppm -o again.ppm
that "decode: its own PPM again" cmp -s again.ppm picture.ppm
run decode --image missing.png -o not.ppm
that "decode: a missing picture" exits 1
that "decode: a missing picture: no file" absent not.ppm
run decode -o not.ppm
refused "decode nothing" "--image FILE"

# ---- layers
run layers -m "$model" --text "a red circle" --image "$one"
fine layers
that "layers: the text first" [ "$(sed -n 1p out | cut -d: -f1)" = 'text "a red circle"' ]
that "layers: then the picture" grep -qF "image $one: " out
that "layers: layer 0 of both" [ "$(grep -c '^ *0 ' out)" -eq 2 ]
n_layers=$(grep -c '^ *[0-9]' out)
run layers -m "$model" --image "$one" --text "a red circle" -f jsonl
fine "layers -f jsonl"
that "layers: a line per input" lines out 2
that "layers: inputs" [ "$(inputs out | tr '\n' ' ')" = "image red_circle.png text a red circle " ]
that "layers: as many as the table" [ "$(grep -o '"norm":' out | wc -l)" -eq "$n_layers" ]
run layers -m "$model" --image "$one" -f npy -o one.npy
fine "layers -f npy"
that "layers: shape" grep -qaE "'shape': \([0-9]+, [0-9]+, [0-9]+\)" one.npy
run layers -m "$model" --text "a red circle" -f npy -o text.npy
run layers -m "$model" --image "$one" --text "a red circle" -f npy -o -
that "layers: arrays one behind the other" [ "$(cat one.npy text.npy | cksum)" = "$(cksum <out)" ]
run layers -m "$model" --precision int8 --text "a red circle" -f npy -o eight.npy
fine "layers --precision int8"
that "layers --precision int8: others" [ "$(cksum <eight.npy)" != "$(cksum <text.npy)" ]
run pack -m "$model" --precision int8 -o layers.clipc
run layers -m layers.clipc --text "a red circle" -f npy -o packed.npy
that "layers of a packed file" cmp -s packed.npy eight.npy
run layers -m "$model" --image damaged.png --image missing.png --text a -f jsonl
that "layers: damaged pictures" exits 1
that "layers: damaged pictures: named" has err damaged.png
that "layers: damaged pictures: a line each" lines out 3
that "layers: damaged pictures: the reason" has out '"error":{"status":"CLIPC_E_IO"'
run layers -m "$model" --image damaged.png --text "a red circle" -f npy -o failed.npy
that "layers: an empty array" grep -qaF "'shape': (0, 0, 0)" failed.npy
that "layers: then the other" [ "$(tail -c +129 failed.npy | cksum)" = "$(cksum <text.npy)" ]
cp -R "$model" nan && chmod -R u+w nan
n_bytes=$(wc -c <nan/model.safetensors)
printf '\377\377\377\177' | dd of=nan/model.safetensors bs=1 seek=$((n_bytes - 4)) conv=notrunc 2>/dev/null
run layers -m nan --image "$one" -f npy -o nan.npy
that "layers: no finite vector" exits 1
that "layers: no finite vector: the sentence" has err "not finite"
that "layers: no finite vector: layers all the same" bytes nan.npy "$(wc -c <one.npy)"
run layers -m "$model"
refused "layers of nothing" "give --image or --text"
run layers -m "$model" "a red circle"
refused "layers of a word" "needs to be told what it is"
run layers -m "$model" --text a -f npz
refused "layers: format" npz
run layers -m "$model" --text a --image damaged.png -o no/such/folder
refused "layers: nowhere to write" no/such/folder

# ---- classify
run classify -m "$model" --image "$one" --image "$two" --label "red circle" --label "blue square" --label "green star"
fine classify
that "classify: a table" [ "$(grep -c ' %$' out)" = 6 ]
that "classify: the right label of each" [ "$(grep -A 1 '^[^ ]' out | grep -o '^  [a-z]* [a-z]*' | tr '\n' ';')" = \
  "  red circle;  blue square;" ]
that "classify: no colours in a file" [ "$(tr -dc '\033' <out | wc -c)" = 0 ]
printf 'red circle\r\n\nblue square\ngreen star\n' >labels
run classify -m "$model" --image "$one" --image missing.png --image "$two" --labels labels --format jsonl
that "classify jsonl: exit code" exits 1
that "classify jsonl: lines" lines out 3
that "classify jsonl: error" has out '{"input":"missing.png","error":{"status":"CLIPC_E_IO","message":"'
that "classify jsonl: first" grep -q '"input":"[^"]*red_circle.png","labels":\[{"label":"red circle","score":' out
grep '"labels"' out >lists
that "classify jsonl: sorted, and the sum is 1" awk -F'"score":' '{ sum = 0; last = 2
  for (i = 2; i <= NF; i++) { p = $i + 0; if (p > last) exit 1; last = p; sum += p }
  if (NF != 4 || sum < 0.99999 || sum > 1.00001) exit 1 }' lists
run classify -m "$model" --image "$one" --labels labels -k 1 -f jsonl
that "classify -k 1" [ "$(grep -o '"label":' out | wc -l)" = 1 ]
run classify -m "$model" --image "$one" --labels labels --format jsonl
mv out plain
run classify -m "$model" --image "$one" --labels labels --format jsonl --template "a photo of a {}"
that "classify: the usual template" cmp -s out plain
run classify -m "$model" --image "$one" --labels labels --format jsonl --template "{}" --template "a drawing of a {}"
fine "classify with templates"
that "classify: templates matter" sh -c '! cmp -s out plain'
for reference in openai hf hf-tv; do
  run classify -m "$model" --reference $reference --image "$one" --labels labels
  fine "classify --reference $reference"
done
run classify -m "$model" --image "$one"
refused "classify without labels" "give --label"
run classify -m "$model" --label a
refused "classify without pictures" "give --image"
run classify -m "$model" --image "$one" --labels missing.txt
refused "classify with missing labels" "missing.txt: cannot be read: No such file"
run classify -m "$model" --image "$one" --label a --template "a photo"
refused "classify with a template without a hole" "has no {}"
fed list classify -m "$model" - --labels -
refused "classify with stdin twice" "only once"
that "no temporary files at the end" clean_folder

# ---- bench
run bench
refused "bench of nothing" "bench needs a model or a shape: -m MODEL or --shape NAME"
run bench -m "$model" --shape ViT-B-32
refused "bench of two" "bench takes a model or a shape, not both"
run bench --shape ViT-B-33
refused "bench of an unknown shape" 'there is no shape "ViT-B-33"; there are ViT-B-32, ViT-B-16, ViT-L-14'
run bench -m nowhere
refused "bench of no model" nowhere
run bench -m "$model" x
refused "bench with an argument too many" '"x"'
run bench -m "$model" --tokens 8
refused "bench: tokens of an image" "--tokens is for --tower text"
run bench -m "$model" --tower text --tokens 4096
refused "bench: too many tokens" "a text of this model has at most $context"
run bench -m "$model" --tower both
refused "bench: no such tower" "--tower takes one of image, text"
run bench -m "$model" --gemm openblas --precision int8
refused "bench: int8 by OpenBLAS" "option gemm: OpenBLAS"
for bad in 0 -1 x 1x nan inf 0x1 3601 ""; do
  run bench -m "$model" --seconds "$bad"
  refused "bench --seconds \"$bad\"" "--seconds takes a number above 0 and up to 3600"
done
for bad in 0 4097 x; do
  run bench -m "$model" --batch $bad
  refused "bench --batch $bad" "--batch takes a whole number from 1 to 4096"
done
# A number, in the way of JSON.
number='(0|[1-9][0-9]*)(\.[0-9]+)?'
# reported WHAT PRECISION TOWER BATCH TOKENS THREADS: out is one line with these, and every number
reported() {
  lines out 1 && grep -qE "^\{$1,\"tower\":\"$3\",\"precision\":\"$2\",\"tier\":\"[a-z0-9-]+\",\"gemm\":\"(own|openblas)\",\
\"batch\":$4,\"tokens\":$5,\"threads\":$6,\"runs\":[1-9][0-9]*,\"ms_per_item_min\":$number,\"ms_per_item_median\":$number,\
\"ms_per_item_p95\":$number,\"items_per_second\":$number,\"open_ms\":$number,\"first_ms\":$number,\"peak_rss_mb\":$number,\
\"gop_per_item\":$number,\"peak_gops\":$number,\"peak_share\":$number\}\$" out
}
what="\"model\":\"$model\""
run bench -m "$model" --seconds 0.05 -t 1
fine bench
that "bench: the defaults" reported "$what" f32 image 1 null 1
that "bench: the times in their order" awk -F'[:,]' '{ for (i = 1; i < NF; i++) x[$i] = $(i + 1)
  if (x["\"ms_per_item_min\""] > x["\"ms_per_item_median\""] || x["\"ms_per_item_median\""] > x["\"ms_per_item_p95\""] ||
      x["\"open_ms\""] > x["\"first_ms\""] || x["\"ms_per_item_min\""] <= 0) exit 1 }' out
run bench -m "$model" --seconds 0.05 -t 2 --precision int8 --tower text --tokens 8 --batch 3 --tier plain-c --gemm own
fine "bench of texts"
that "bench of texts" reported "$what" int8 text 3 8 2
that "bench of texts: the tier" has out '"tier":"plain-c","gemm":"own"'
gop() { sed -E 's/.*"gop_per_item":([0-9.]*).*/\1/' out; }
few=$(gop)
run bench -m "$model" --seconds 0.01 -t 1 --tower text --tokens 16 --precision bf16
that "bench of longer texts: more work" awk -v few="$few" -v more="$(gop)" 'BEGIN { exit !(more > 1.9 * few && more < 2.2 * few) }'

# ---- base64 and URLs
car=$pictures/red_car.jpg
base64 -w0 "$car" >car.b64
run embed -m "$model" --image "$car" --base64 "$(cat car.b64)" --base64 "data:image/jpeg;base64,$(cat car.b64)"
fine "base64"
that "base64: the vectors of the file" [ "$(sed 's/.*"embedding"//' out | sort -u | wc -l)" = 1 ]
that "base64: the input is cut" has out '"input":"/9j/'
that "base64: the input is short" awk '{ sub(/,"embedding.*/, ""); if (length > 120) exit 1 }' out
{ cat car.b64; echo; echo; tr -- +/ -_ <car.b64; echo; } >list.b64
fed list.b64 embed -m "$model" --base64 -
fine "base64 on stdin"
that "base64 on stdin: a result each" lines out 2
run embed -m "$model" --base64 "/9j/4*" --text ok --base64 "data:image/png,x"
that "bad base64: exit code" exits 1
that "bad base64: the others are there" [ "$(grep -c embedding out)" = 1 ]
that "bad base64: its sentence" has err 'base64 "/9j/4*"'
that "bad base64: a status" has out '"status":"CLIPC_E_FORMAT"'
run embed -m "$model" --url http://127.0.0.1:1/cat.jpg --url ftp://example.org/cat.jpg --url http://me:secret@example.org/ --text ok
if grep -q CLIPC_E_UNSUPPORTED out; then # built with CURL=0, or libcurl is not there
  that "no URLs in this build: exit code" exits 1
else
  that "URLs: exit code" exits 1
  that "URLs: refused by address, scheme and credentials" [ "$(grep -c '"status":"CLIPC_E_DENIED"' out)" = 3 ]
  that "URLs: the text is there" [ "$(grep -c embedding out)" = 1 ]
  run embed -m "$model" --url http://127.0.0.1:1/cat.jpg --allow 127.0.0.1:1
  that "URLs: allowed, and nobody there" has out '"status":"CLIPC_E_NETWORK"'
fi
run classify -m "$model" --base64 "$(cat car.b64)" --label "a photo of a red car" --label "a blue circle" -f jsonl
fine "classify base64"

# ---- Ctrl-C keeps what is done
yes "$car" | head -n 200000 >many
interrupt() { # SIGNAL: starts, waits for results in the file that becomes kept.out, interrupts
  "$clipc" embed -m "$model" --image - -o kept.out <many 2>err &
  child=$!
  n=0
  while [ -z "$(find . -name '.clipc-*' -size +0)" ] && [ $n -lt 600 ]; do sleep 0.1; n=$((n + 1)); done
  kill -$1 $child
  wait $child 2>/dev/null
  code=$?
}
interrupt INT
that "Ctrl-C: exit code" exits 130
that "Ctrl-C: says how many are done" grep -q 'stopped: [1-9][0-9]* of 200000 inputs are done' err
that "Ctrl-C: they are there" [ "$(wc -l <kept.out)" = "$(sed 's/.*stopped: \([0-9]*\) of.*/\1/' err)" ]
that "Ctrl-C: each of them whole" [ "$(grep -c '\]}$' kept.out)" = "$(wc -l <kept.out)" ]
rm -f kept.out
that "Ctrl-C: nothing else is left" clean_folder
echo old >kept.out
interrupt TERM
that "told to end in the middle: exit code" exits 143
that "told to end in the middle: the old file stays" [ "$(cat kept.out)" = old ]
that "told to end in the middle: nothing is left" clean_folder

# ---- a terminal on stderr
if [ "$(script -qec 'echo yes' /dev/null 2>/dev/null </dev/null | tr -d '\r')" = yes ]; then
  TERM=xterm script -qec "stty cols 100; '$clipc' embed -m '$model' --image '$pictures' >out" typescript >/dev/null </dev/null
  that "progress: counts on a terminal" grep -q 'embedding.* %  *[0-9]*/[0-9]*.*/s.*left' typescript
  that "progress: results alone on stdout" [ "$(grep -c -v '^{"kind"' out)" = 0 ]
  TERM=dumb script -qec "'$clipc' embed -m '$model' --image '$pictures' >out" typescript >/dev/null </dev/null
  that "progress: none on a dumb terminal" sh -c '! grep -q embedding typescript'
  TERM=xterm script -qec "'$clipc' embed -m '$model' --text a -f npy" typescript >/dev/null </dev/null
  that "no binary on a terminal" has typescript "not for a terminal"
  TERM=xterm script -qec "'$clipc' bench -m '$model' --seconds 0.5 >out" typescript >/dev/null </dev/null
  that "bench: progress on a terminal" grep -q 'images  [0-9]* runs, [0-9.]* ms an item, [0-9]* s left' typescript
  that "bench: the result alone on stdout" lines out 1
fi

echo "cli: $passed passed, $failed failed"
[ $failed = 0 ]
