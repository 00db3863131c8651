# clipc: make builds, make demo shows, make test proves; see README.md.
#   BLAS=0  without OpenBLAS (it is loaded at run time, when it is asked for)      CURL=0  without libcurl and c-ares (loaded when the first URL comes)      SAN=address,undefined  a sanitizer build, in build-san/
#   V=1     show the commands     DESTDIR, PREFIX  for make install
.DEFAULT_GOAL := all
BLAS ?= 1
CURL ?= 1
SAN ?=
PREFIX ?= /usr/local
CFLAGS ?= $(if $(SAN),-O1,-O3) -g
BUILD ?= build$(if $(SAN),-san)$(if $(filter 0,$(BLAS)),-noblas)$(if $(filter 0,$(CURL)),-nocurl)
Q := $(if $(V),,@)
say = @printf '  %-5s %s\n' $(1) $(2)

VERSION := $(shell sed -n 's/^.define CLIPC_VERSION "\(.*\)"/\1/p' include/clipc.h)
SONAME  := libclipc.so.0

# The library, bottom-up: each room stands on those above it and on nothing else.
BASE    := $(sort $(wildcard src/base/*.c))    # status, memory, files, threads
KERNELS := $(sort $(wildcard src/kernels/*.c)) # products, attention, layer norm
IMAGE   := $(sort $(wildcard src/image/*.c))   # bytes -> picture -> pixels
TEXT    := $(sort $(wildcard src/text/*.c))    # UTF-8 -> ids
WEIGHTS := $(sort $(wildcard src/weights/*.c)) # folder -> configuration and tensors
MODEL   := $(sort $(wildcard src/model/*.c))   # the two towers
FACADE  := $(sort $(wildcard src/*.c))         # clipc.h
ASYNC   := $(sort $(wildcard src/async/*.c))   # the scheduler, and what runs on it
SRCS    := $(BASE) $(KERNELS) $(IMAGE) $(TEXT) $(WEIGHTS) $(MODEL) $(FACADE) $(ASYNC)
CLI     := $(sort $(wildcard src/cli/*.c))     # the program
TESTS   := $(sort $(wildcard tests/test_*.c))
CHECKASM := $(sort $(wildcard tests/checkasm/*.c)) # one program: every kernel of every tier against plain C
HELPERS := $(filter-out $(TESTS),$(sort $(wildcard tests/*.c)))

WARN := -std=c11 -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wframe-larger-than=4096
SANFLAGS := $(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=all -fno-omit-frame-pointer)
ALL_CPPFLAGS := -Iinclude -Isrc -DCLIPC_BLAS=$(BLAS) -DCLIPC_CURL=$(CURL) $(CPPFLAGS)
ALL_CFLAGS = $(WARN) -ffp-contract=off -fPIC -fvisibility=hidden $(CFLAGS) $(SANFLAGS)
LIBS := -lcjson -lutf8proc -lm -lpthread $(if $(filter 1,$(BLAS) $(CURL)),-ldl)

OBJS     := $(SRCS:%.c=$(BUILD)/%.o)
CLI_OBJS := $(CLI:%.c=$(BUILD)/%.o)
HELPER_OBJS := $(HELPERS:%.c=$(BUILD)/%.o)
PROGRAMS := $(TESTS:%.c=$(BUILD)/%)

all: $(BUILD)/libclipc.a $(BUILD)/$(SONAME) $(BUILD)/clipc

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) -MMD -MP -c $< -o $@

$(BUILD)/libclipc.a: $(OBJS)
	$(call say,AR,$@)
	$(Q)rm -f $@ && $(AR) rcs $@ $^

$(BUILD)/$(SONAME): $(OBJS)
	$(call say,LD,$@)
	$(Q)$(CC) -shared -Wl,-soname,$(SONAME) $(SANFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)
	$(Q)ln -sf $(SONAME) $(BUILD)/libclipc.so

$(BUILD)/clipc: $(CLI_OBJS) $(BUILD)/libclipc.a
	$(call say,LD,$@)
	$(Q)$(CC) $(SANFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)

# A test program may reach the internals: it is linked with the static library.
$(BUILD)/tests/%.o: ALL_CPPFLAGS += -Itests -D_GNU_SOURCE
$(BUILD)/tests/%.o: WARN := $(filter-out -Wframe-larger-than=%,$(WARN))
$(BUILD)/tests/%: $(BUILD)/tests/%.o $(HELPER_OBJS) $(BUILD)/libclipc.a
	$(call say,LD,$@)
	$(Q)$(CC) $(SANFLAGS) $(LDFLAGS) -o $@ $^ -lcmocka $(LIBS)

$(BUILD)/tests/test_engines: $(BUILD)/examples/small_engines.o # two models of a user's own

# ---- set-up and the two commands

deps:
	@BLAS=$(BLAS) CURL=$(CURL) tools/deps.sh

test-deps:
	@BLAS=$(BLAS) CURL=$(CURL) tools/deps.sh --tests

# A make of its own, so that what deps installed is seen by everything after it.
demo: deps
	@$(MAKE) --no-print-directory all
	@$(BUILD)/clipc classify -m models/tiny $(foreach p,$(sort $(wildcard models/tiny/pictures/*)),--image $(p)) \
	  --labels models/tiny/labels.txt --top 3

test: test-deps
	@$(MAKE) --no-print-directory all programs $(DIST_OBJ)
	@$(MAKE) --no-print-directory SAN=address,undefined BUILD=$(BUILD)-san all programs
	@sh tests/all.sh $(BUILD) $(BUILD)-san

programs: $(PROGRAMS) $(BUILD)/checkasm

$(BUILD)/checkasm: $(CHECKASM:%.c=$(BUILD)/%.o) $(BUILD)/libclipc.a
	$(call say,LD,$@)
	$(Q)$(CC) $(SANFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)

checkasm: $(BUILD)/checkasm # make checkasm ARGS=--bench
	@$(BUILD)/checkasm $(ARGS)

bench: all $(BUILD)/bench/products $(BUILD)/bench/stages $(BUILD)/bench/scheduler $(BUILD)/bench/requests $(BUILD)/bench/heartbeat

# The stage table takes its times round the library's own calls.
$(BUILD)/bench/stages: WRAP := -Wl,--wrap=clipc__linear_forward,--wrap=clipc__attention,--wrap=clipc__layer_norm
$(BUILD)/bench/%: bench/%.c bench/setup.c bench/setup.h $(BUILD)/libclipc.a
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CPPFLAGS) -D_GNU_SOURCE -Ibench $(CFLAGS) -std=c11 -Wall -Wextra $(SANFLAGS) $(LDFLAGS) $(WRAP) -o $@ $< bench/setup.c $(BUILD)/libclipc.a $(LIBS)

# Against the rivals, in a virtual environment: bench/README.md.
PYTHON ?= python3
bench-peers: bench
	$(Q)$(PYTHON) bench/peers.py --program $(BUILD)/clipc --out $(BUILD)/bench-peers

# ---- examples, each one file; libuv_loop where libuv is at hand

EXAMPLES := $(filter-out %/small_engines.c $(if $(shell pkg-config --exists libuv 2>/dev/null && echo yes),,%/libuv_loop.c),$(sort $(wildcard examples/*.c)))
examples: $(EXAMPLES:%.c=$(BUILD)/%)

$(BUILD)/examples/%.o: ALL_CPPFLAGS += -D_GNU_SOURCE
$(BUILD)/examples/libuv_loop.o: ALL_CPPFLAGS += $(shell pkg-config --cflags libuv 2>/dev/null)
$(BUILD)/examples/libuv_loop: EXAMPLE_LIBS = $(shell pkg-config --libs libuv 2>/dev/null)
$(BUILD)/examples/capabilities: $(BUILD)/examples/small_engines.o
$(BUILD)/examples/%: $(BUILD)/examples/%.o $(BUILD)/libclipc.a
	$(call say,LD,$@)
	$(Q)$(CC) $(SANFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS) $(EXAMPLE_LIBS)

# ---- vendoring: one file

DIST_OBJ := $(BUILD)/dist/clipc.o
dist: dist/clipc.c dist/clipc.h

dist/clipc.c: $(SRCS) $(wildcard src/*/*.h src/*/*.inc) tools/amalgamate.awk LICENSE NOTICE
	$(call say,AWK,$@)
	@mkdir -p dist
	$(Q)awk -f tools/amalgamate.awk $(SRCS) > $@.tmp && mv $@.tmp $@

dist/clipc.h: include/clipc.h
	@mkdir -p dist
	$(Q)cp $< $@

$(DIST_OBJ): dist/clipc.c dist/clipc.h
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) -Idist -DCLIPC_BLAS=$(BLAS) -DCLIPC_CURL=$(CURL) -std=c11 -Wall -Wextra $(CFLAGS) -fPIC -c $< -o $@

# ---- install

INSTALL_TO := "$(DESTDIR)$(PREFIX)"
install: all
	install -d $(INSTALL_TO)/bin $(INSTALL_TO)/lib/pkgconfig $(INSTALL_TO)/include
	install -m 755 $(BUILD)/clipc $(INSTALL_TO)/bin/
	install -m 644 include/clipc.h $(INSTALL_TO)/include/
	install -m 644 $(BUILD)/libclipc.a $(INSTALL_TO)/lib/
	install -m 755 $(BUILD)/$(SONAME) $(INSTALL_TO)/lib/libclipc.so.$(VERSION)
	ln -sf libclipc.so.$(VERSION) $(INSTALL_TO)/lib/$(SONAME)
	ln -sf $(SONAME) $(INSTALL_TO)/lib/libclipc.so
	printf 'prefix=%s\nlibdir=$${prefix}/lib\nincludedir=$${prefix}/include\n\nName: clipc\nDescription: CLIP in C\nVersion: %s\nLibs: -L$${libdir} -lclipc\nLibs.private: %s\nCflags: -I$${includedir}\n' \
	  '$(PREFIX)' '$(VERSION)' '$(LIBS)' > $(INSTALL_TO)/lib/pkgconfig/clipc.pc
	@if [ -z "$(DESTDIR)" ]; then ldconfig 2>/dev/null || true; fi

uninstall:
	rm -f $(INSTALL_TO)/bin/clipc $(INSTALL_TO)/include/clipc.h $(INSTALL_TO)/lib/libclipc.a $(INSTALL_TO)/lib/libclipc.so \
	  $(INSTALL_TO)/lib/$(SONAME) $(INSTALL_TO)/lib/libclipc.so.$(VERSION) $(INSTALL_TO)/lib/pkgconfig/clipc.pc

clean:
	rm -rf build build-* dist

.PHONY: all deps test-deps demo test programs checkasm bench bench-peers examples dist install uninstall clean
.SECONDARY:
-include $(OBJS:.o=.d) $(CLI_OBJS:.o=.d) $(HELPER_OBJS:.o=.d) $(TESTS:%.c=$(BUILD)/%.d) $(CHECKASM:%.c=$(BUILD)/%.d)
