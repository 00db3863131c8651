# clipc: make builds, make demo shows, make test proves. See README.md.
#   BLAS=0 CURL=0   without OpenBLAS, without libcurl      SAN=address,undefined   sanitizer build in build-san/
.DEFAULT_GOAL := all
BLAS ?= 1
CURL ?= 1
SAN ?=
PREFIX ?= /usr/local
DESTDIR ?=
CFLAGS ?= -O2 -g
BUILD ?= build$(if $(SAN),-san)$(if $(filter 0,$(BLAS)),-noblas)

VERSION := $(shell sed -n 's/^\#define CLIPC_VERSION "\(.*\)"/\1/p' include/clipc.h)
SONAME  := libclipc.so.0

WARN := -std=c11 -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wframe-larger-than=4096
OPT  := -O3 -ffp-contract=off -fPIC -fvisibility=hidden
CPPFLAGS_ALL := -Iinclude -Isrc -DCLIPC_BLAS=$(BLAS) -DCLIPC_CURL=$(CURL) $(CPPFLAGS)
SANFLAGS := $(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=all -fno-omit-frame-pointer)
CFLAGS_ALL := $(WARN) $(CFLAGS) $(OPT) $(SANFLAGS) -MMD -MP
LIBS := $(if $(filter 1,$(BLAS)),-lopenblas) -lcjson -lutf8proc -lm -lpthread

# The library, bottom-up: each line stands on the ones above it and on nothing else.
BASE    := $(sort $(wildcard src/base/*.c))
KERNELS := $(sort $(wildcard src/kernels/*.c))
IMAGE   := $(sort $(wildcard src/image/*.c))
TEXT    := $(sort $(wildcard src/text/*.c))
WEIGHTS := $(sort $(wildcard src/weights/*.c))
MODEL   := $(sort $(wildcard src/model/*.c))
FACADE  := $(sort $(wildcard src/*.c))
SRCS    := $(BASE) $(KERNELS) $(IMAGE) $(TEXT) $(WEIGHTS) $(MODEL) $(FACADE)
CLI     := $(sort $(wildcard src/cli/*.c))
TESTS   := $(sort $(wildcard tests/test_*.c))

OBJS     := $(SRCS:%.c=$(BUILD)/%.o)
CLI_OBJS := $(CLI:%.c=$(BUILD)/%.o)

all: $(BUILD)/libclipc.a $(BUILD)/$(SONAME) $(BUILD)/clipc

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) -c $< -o $@

$(BUILD)/libclipc.a: $(OBJS)
	@rm -f $@
	$(AR) rcs $@ $^

$(BUILD)/$(SONAME): $(OBJS)
	$(CC) -shared -Wl,-soname,$(SONAME) $(SANFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)

$(BUILD)/clipc: $(CLI_OBJS) $(BUILD)/libclipc.a
	$(CC) $(SANFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)

# A test file is a program: it may reach the internals, which are linked statically.
$(BUILD)/tests/%: tests/%.c $(BUILD)/libclipc.a
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS_ALL) -Itests $(CFLAGS_ALL) $< -o $@ $(BUILD)/libclipc.a $(LDFLAGS) -lcmocka $(LIBS)

clean:
	rm -rf build build-* dist

.PHONY: all clean
-include $(OBJS:.o=.d) $(CLI_OBJS:.o=.d)
