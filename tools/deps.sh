#!/bin/sh
# Installs what clipc is built with, and only what is missing.
#   tools/deps.sh            the library's dependencies
#   tools/deps.sh --tests    and what the tests need
#   tools/deps.sh --all      and what only the project's own CI needs (second compiler, cross compiler, qemu, Python's test tools)
#   tools/deps.sh --check    installs nothing; says what is missing, exit 1 when something is
# BLAS=0 and CURL=0 in the environment leave those two out. Only Debian and Ubuntu are tested.
set -u
cd "$(dirname "$0")/.." || exit 2
want_tests=0 want_all=0 check=0
for argument; do
  case $argument in
  --tests) want_tests=1 ;;
  --all) want_tests=1 want_all=1 ;;
  --check) check=1 ;;
  -h | --help) sed -n '2,7s/^# \{0,1\}//p' tools/deps.sh; exit 0 ;;
  *) echo "deps.sh: unknown option $argument (see --help)" >&2; exit 2 ;;
  esac
done

if command -v apt-get >/dev/null 2>&1; then manager=apt
elif command -v dnf >/dev/null 2>&1; then manager=dnf
elif command -v apk >/dev/null 2>&1; then manager=apk
elif command -v pacman >/dev/null 2>&1; then manager=pacman
elif command -v brew >/dev/null 2>&1; then manager=brew
else manager=none
fi

# package THING: its name with this manager; empty where the manager has none.
package() {
  case $manager:$1 in
  apt:stb) echo libstb-dev ;; apt:cjson) echo libcjson-dev ;; apt:utf8proc) echo libutf8proc-dev ;;
  apt:openblas) echo libopenblas0-pthread ;; apt:curl) echo libcurl4-openssl-dev ;; apt:cares) echo libc-ares-dev ;; apt:cmocka) echo libcmocka-dev ;;
  apt:cc) echo gcc libc6-dev ;; apt:clang) echo clang ;; apt:aarch64) echo gcc-aarch64-linux-gnu libc6-dev-arm64-cross ;;
  apt:qemu) echo qemu-user ;; apt:bochs) echo bochs bochs-term bochsbios vgabios ;; apt:python) echo python3-numpy python3-pil python3-pytest ;;
  dnf:stb) echo stb-devel ;; dnf:cjson) echo cjson-devel ;; dnf:utf8proc) echo utf8proc-devel ;;
  dnf:openblas) echo openblas-devel ;; dnf:curl) echo libcurl-devel ;; dnf:cares) echo c-ares-devel ;; dnf:cmocka) echo libcmocka-devel ;;
  dnf:cc) echo gcc ;; dnf:clang) echo clang ;; dnf:aarch64) echo gcc-aarch64-linux-gnu ;; dnf:qemu) echo qemu-user ;;
  apk:stb) echo stb ;; apk:cjson) echo cjson-dev ;; apk:utf8proc) echo utf8proc-dev ;;
  apk:openblas) echo openblas-dev ;; apk:curl) echo curl-dev ;; apk:cares) echo c-ares-dev ;; apk:cmocka) echo cmocka-dev ;;
  apk:cc) echo build-base ;; apk:clang) echo clang ;; apk:qemu) echo qemu-x86_64 ;;
  pacman:stb) echo stb ;; pacman:cjson) echo cjson ;; pacman:utf8proc) echo libutf8proc ;;
  pacman:openblas) echo openblas ;; pacman:curl) echo curl ;; pacman:cares) echo c-ares ;; pacman:cmocka) echo cmocka ;;
  pacman:cc) echo gcc ;; pacman:clang) echo clang ;; pacman:aarch64) echo aarch64-linux-gnu-gcc ;; pacman:qemu) echo qemu-user ;;
  brew:stb) echo stb ;; brew:cjson) echo cjson ;; brew:utf8proc) echo utf8proc ;;
  brew:openblas) echo openblas ;; brew:curl) echo curl ;; brew:cares) echo c-ares ;; brew:cmocka) echo cmocka ;;
  brew:clang) echo llvm ;; brew:qemu) echo qemu ;;
  esac
}

cc=${CC:-cc}
command -v "$cc" >/dev/null 2>&1 || cc=gcc
header() { for name; do echo "#include <stddef.h>
#include <stdarg.h>
#include <stdint.h>
#include <setjmp.h>
#include <$name>" | "$cc" -E - >/dev/null 2>&1 && return 0; done; return 1; }

missing=""
need() { thing=$1; shift; "$@" || missing="$missing $thing"; }
need cc command -v "$cc" >/dev/null
need stb header stb/stb_image.h stb_image.h
need cjson header cjson/cJSON.h
need utf8proc header utf8proc.h
# Loaded at run time, where it is asked for, and by itself on a CPU that has no kernels here. Of Debian's three builds only
# the one with POSIX threads may be called by several threads at once (src/kernels/blas.c).
openblas() {
  case $manager in
  apt) ls /usr/lib/*/openblas-pthread/libopenblas.so.0 >/dev/null 2>&1 ;;
  *) header cblas.h ;;
  esac
}
case $(uname -m) in x86_64 | aarch64 | arm64) want_blas=$want_tests ;; *) want_blas=1 ;; esac
[ "${BLAS:-1}" = 0 ] || [ $want_blas = 0 ] || need openblas openblas
if [ "${CURL:-1}" != 0 ]; then need curl header curl/curl.h; need cares header ares.h; fi
if [ $want_tests = 1 ]; then need cmocka header cmocka.h; fi
if [ $want_all = 1 ]; then
  need clang command -v clang >/dev/null
  need aarch64 command -v aarch64-linux-gnu-gcc >/dev/null
  need qemu command -v qemu-aarch64 >/dev/null
  [ $manager != apt ] || need bochs command -v bochs >/dev/null
  [ $manager != apt ] || need python sh tests/python.sh --find >/dev/null
fi
[ -n "$missing" ] || exit 0

packages=""
for thing in $missing; do packages="$packages $(package "$thing")"; done
packages=$(echo $packages)
if [ $check = 1 ]; then echo "missing:$missing (packages: $packages)"; exit 1; fi
if [ $manager = none ] || [ -z "$packages" ]; then
  echo "deps.sh: missing:$missing; no package manager that I know has them: please install them by hand" >&2
  exit 1
fi

as_root=""
if [ "$(id -u)" != 0 ] && [ $manager != brew ]; then as_root=sudo; fi
case $manager in
apt) update="apt-get update"; install="env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $packages" ;;
dnf) update=true; install="dnf install -y $packages" ;;
apk) update=true; install="apk add $packages" ;;
pacman) update=true; install="pacman -S --needed --noconfirm $packages" ;;
brew) update=true; install="brew install $packages" ;;
esac
if [ -n "$as_root" ] && ! command -v sudo >/dev/null 2>&1; then
  echo "deps.sh: missing packages and no rights to install them; as root, run:" >&2
  echo "  $install" >&2
  exit 1
fi
echo "deps.sh: installing with $manager: $packages" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if { $as_root $update && $as_root $install; } >"$log" 2>&1 || $as_root $install >>"$log" 2>&1; then exit 0; fi
tail -n 15 "$log" >&2
echo "deps.sh: that did not work; with the rights to install, run:" >&2
echo "  $install" >&2
exit 1
