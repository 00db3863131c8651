#!/bin/sh
# Every test there is: all.sh BUILD BUILD_SAN (both built). Called by make test from the top folder.
build=$1 san=$2
cc=${CC:-cc}
export ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1
lib_sources=$(ls src/base/*.c src/kernels/*.c src/image/*.c src/text/*.c src/weights/*.c src/model/*.c src/*.c)
libs="-lcjson -lutf8proc -lm -lpthread"

set -- layers 'sh tests/layers.sh' headers 'sh tests/headers.sh'
set -- "$@" exports "sh tests/exports.sh $build/libclipc.so.0 $build/dist/clipc.o"
set -- "$@" deps "sh -n tools/deps.sh && tools/deps.sh --check --tests"
set -- "$@" bare-cc "$cc -O1 -Iinclude -Isrc -o $build/bare examples/classify.c $(echo $lib_sources) $libs && $build/bare models/tiny models/tiny/pictures/*.png >/dev/null"
for program in "$build"/tests/test_*; do
  case $program in *.o | *.d) continue ;; esac
  set -- "$@" "$(basename "$program")" "$program"
done
set -- "$@" cli "sh tests/cli.sh $build/clipc models/tiny"
set -- "$@" dist "sh tests/dist.sh $build"
set -- "$@" install "sh tests/install.sh $build"
set -- "$@" no-blas "make --no-print-directory BLAS=0 BUILD=$build-noblas $build-noblas/tests/test_model $build-noblas/tests/test_kernels >/dev/null && $build-noblas/tests/test_kernels && CLIPC_SKIP_FULL=1 $build-noblas/tests/test_model"
set -- "$@" clang "sh tests/compilers.sh clang"
set -- "$@" aarch64 "sh tests/compilers.sh aarch64-linux-gnu-gcc"
for program in "$san"/tests/test_*; do
  case $program in *.o | *.d) continue ;; esac
  set -- "$@" "$(basename "$program") (sanitizers)" "$program"
done
set -- "$@" "cli (sanitizers)" "sh tests/cli.sh $san/clipc models/tiny"
set -- "$@" threads "sh tests/tsan.sh"
set -- "$@" weights_tools "sh tests/python.sh"
sh tests/run.sh "$@"
