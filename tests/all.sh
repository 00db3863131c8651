#!/bin/sh
# Every test there is: all.sh BUILD BUILD_SAN (both built). Called by make test from the top folder.
build=$1 san=$2
export ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1

set -- layers 'sh tests/layers.sh' headers 'sh tests/headers.sh' readme "! grep -n '@@' README.md"
set -- "$@" exports "sh tests/exports.sh $build/libclipc.so.0 $build/dist/clipc.o"
set -- "$@" deps "sh -n tools/deps.sh && tools/deps.sh --check --tests"
set -- "$@" bare-cc "sh tests/bare.sh"
tests=$(ls tests/test_*.c | sed 's|^tests/||; s|\.c$||')
for test in $tests; do set -- "$@" "$test" "$build/tests/$test"; done
set -- "$@" checkasm "$build/checkasm" "checkasm (sanitizers)" "$san/checkasm"
for part in no-avx aarch64 avx512 bochs; do set -- "$@" "checkasm $part" "sh tests/checkasm.sh $part $build"; done
set -- "$@" cli "sh tests/cli.sh $build/clipc models/tiny"
set -- "$@" dist "sh tests/dist.sh $build"
set -- "$@" install "sh tests/install.sh $build"
set -- "$@" examples "make --no-print-directory BUILD=$build examples bench && sh tests/examples.sh $build"
set -- "$@" no-curl "make --no-print-directory -j2 CURL=0 BUILD=$build-nocurl $build-nocurl/tests/test_fetch >/dev/null && $build-nocurl/tests/test_fetch"
set -- "$@" no-blas "make --no-print-directory -j2 BLAS=0 BUILD=$build-noblas $build-noblas/tests/test_model $build-noblas/tests/test_kernels >/dev/null && $build-noblas/tests/test_kernels && CLIPC_SKIP_FULL=1 $build-noblas/tests/test_model"
set -- "$@" warnings "sh tests/compilers.sh ${CC:-cc} -O3"
set -- "$@" clang "sh tests/compilers.sh clang -O1"
set -- "$@" aarch64 "sh tests/compilers.sh aarch64-linux-gnu-gcc -O1"
for test in $tests; do set -- "$@" "$test (sanitizers)" "$san/tests/$test"; done
set -- "$@" "cli (sanitizers)" "sh tests/cli.sh $san/clipc models/tiny"
set -- "$@" threads "sh tests/tsan.sh $build"
set -- "$@" weights_tools "sh tests/python.sh $build"
sh tests/run.sh "$@"
