# mpengine: the engine, its Lua bindings, the command and all that is checked about them.
#
#   make              build into build/; installs nothing, says what is missing
#   make run          install what is missing, build, run scripts/pool.lua   (SCRIPT=, ARGS=)
#   make test         install what is missing, build, run every test; `N passed, N failed` comes last
#   make unit hosts spec                 one stage of the tests             (FILTER=, SPEC=, V=1)
#   make unit FILTER=grows               builds and runs the programs with such a case or name
#   make check        lint and test
#   make lint         what tools/checks.mk lists; `make format` mends, `make tidy` runs clang-tidy
#   make spec-api     specs of what is sent, in a build that reads no private memory of Lua (PLAIN=0)
#   make spec-lua     the specs and the hosts with the Lua of a source tree (LUA_DIR=); where it is given,
#                     `make test` does so as well
#   make aarch64      cross-compiled, and tested under qemu-user   (SYSROOT=, or packages of Debian are unpacked)
#   make asan tsan valgrind              the tests under a checker, each in a tree of its own
#   make chaos fuzz   kill storms; damaged messages                   (SECONDS=, TASKS=, KILLS=, WAITS=)
#   make chaos-redis  kill storms beyond one machine                    (SECONDS=)
#   make soak         many connections to a server, and flat memory    (CONNECTIONS=, WORKERS=)
#   make model        protocols of shared memory, every order of their steps (spin)
#   make bench        numbers beside Python's and the raw limits            (ROW=)
#   make docs         the manual as HTML, with search, in build/docs (pandoc)
#   make install uninstall               PREFIX=/usr/local LIBDIR=PREFIX/lib DESTDIR=
#   make install-engine                  the libraries alone: needs no Lua
#   make engine       the libraries alone: needs no Lua
#   make dist         the sources of this commit as BUILD/mpengine-VERSION.tar.gz, the same bytes each time
#   make clean compile_commands.json
#
# Sources are found by name: a new file needs no line here.

ifeq ($(origin CC),default)
CC := gcc
endif
BUILD   ?= build
PREFIX  ?= /usr/local
LIBDIR  ?= $(PREFIX)/lib
SCRIPT  ?= scripts/pool.lua
OPT     ?= -O2
WERROR  ?= -Werror
# What deps.sh must find before anything is compiled.
DEPS    ?= build
# Whether plain tables are read in Lua's own memory: auto, with the releases it is tested with; 0 never;
# 1 with any release of 5.4.
PLAIN   ?= auto
# Sanitizer flags, set by the targets asan and tsan.
SAN     ?=

# The layers of the engine, lowest first; each may include only itself and those before it.
LAYERS := base os core objects loop proc

# The rooms of the bindings, the same way; the files beside them come last.
ROOMS  := base codec task shared pool io process

ENGINE_SRC  := $(filter-out %_test.c,$(foreach l,$(LAYERS),$(wildcard engine/$(l)/*.c)))
TESTING_SRC := $(filter-out %_test.c,$(wildcard engine/testing/*.c))
TEST_SRC    := $(wildcard engine/*/*_test.c)
BINDING_SRC := $(filter-out bindings/host.c,$(wildcard bindings/*.c)) \
	$(foreach r,$(ROOMS),$(wildcard bindings/$(r)/*.c))
HOST_SRC    := $(filter-out %_module.c,$(wildcard engine/examples/*.c engine/hosts/*.c \
	bindings/examples/*.c bindings/hosts/*.c))
# Tests that look behind the public headers are built once.
HOST_TEST   := $(wildcard bindings/testing/*_host.c)
LUA_SRC     := $(sort $(shell find bindings/mpengine -name '*.lua' 2>/dev/null))
# What the interactive mode answers `help` from.
ANNOTATIONS := bindings/library/mpengine.lua
C_SRC       := $(ENGINE_SRC) $(TESTING_SRC) $(TEST_SRC) $(BINDING_SRC) bindings/host.c $(HOST_SRC) $(HOST_TEST) \
	$(wildcard bindings/examples/*_module.c) $(wildcard bindings/fuzz/*.c) $(wildcard tools/*.c)

objects = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
ENGINE_OBJ  := $(call objects,$(ENGINE_SRC))
BINDING_OBJ := $(call objects,$(BINDING_SRC))
tests = $(patsubst engine/%.c,$(BUILD)/tests/%,$(1))
# Hosts are built four times: with the static and the shared library, as C99 and as C++17.
HOST_BUILDS := a-c99 a-c++17 so-c99 so-c++17
HOSTS := $(foreach b,$(HOST_BUILDS),$(patsubst %.c,$(BUILD)/hosts/%-$(b),$(HOST_SRC))) \
	$(patsubst %.c,$(BUILD)/hosts/%,$(HOST_TEST)) $(BUILD)/hosts/fuzz/replay
LUA   := $(patsubst bindings/%,$(BUILD)/lua/%,$(LUA_SRC))
# The Lua modules are also compiled into whatever has the bindings.
MODULES_OBJ := $(BUILD)/obj/modules.o
BINDING_OBJ += $(MODULES_OBJ)

# The version is written once, in the header.
VERSION := $(shell sed -n 's/^.define MPE_VERSION "\([^"]*\)".*/\1/p' engine/include/mpengine.h)
MAJOR   := $(firstword $(subst ., ,$(VERSION)))

# LUA_DIR is a source tree of Lua 5.4 or 5.5, to build with instead of the system's. Each tree has its own
# BUILD, for what is compiled against one release does not fit another.
# LUA_PC names the Lua of the build in the pkg-config files that are installed; empty: it has none.
LUA_DIR    ?=
ifeq ($(LUA_DIR),)
LUA_CFLAGS := $(shell pkg-config --cflags lua5.4 2>/dev/null)
LUA_LIBS   := $(shell pkg-config --libs lua5.4 2>/dev/null)
LUA_V      := 5.4
# The command has Lua inside, whole, as stock lua has: fewer mappings to set up and to fork. Where there
# is only the shared library, that. libuv stays shared: luv must find the one that the engine uses, and
# the static one hides its names.
LUA_A      := $(wildcard $(shell pkg-config --variable=libdir lua5.4 2>/dev/null)/liblua5.4.a)
else
LUA_HOME   := $(patsubst %/lua.h,%,$(firstword $(wildcard $(LUA_DIR)/src/lua.h $(LUA_DIR)/lua.h)))
$(if $(LUA_HOME),,$(error LUA_DIR is a source tree of Lua: there is no lua.h in $(LUA_DIR) or its src))
LUA_CFLAGS := -I$(LUA_HOME)
LUA_A      := $(BUILD)/liblua.a
LUA_LIBS   := $(LUA_A) -ldl -lm
LUA_RELEASE := $(shell printf '\043include "lua.h"\nLUA_RELEASE\n' | \
	$(CC) -I$(LUA_HOME) -E -P - | sed -n '$$s/[^0-9.]//gp')
LUA_V      := $(basename $(LUA_RELEASE))
LUA_C      := $(filter-out lua.c luac.c ltests.c onelua.c,$(notdir $(wildcard $(LUA_HOME)/*.c)))
LUA_OBJ    := $(patsubst %.c,$(BUILD)/lua-obj/%.o,$(LUA_C))
endif
LUA_PC     ?= lua$(LUA_V)
LUA_STATIC  = $(if $(LUA_A),-Wl$(comma)--whole-archive $(LUA_A) -Wl$(comma)--no-whole-archive,$(LUA_LIBS))
UV_CFLAGS  := $(shell pkg-config --cflags libuv 2>/dev/null)
UV_LIBS    := $(shell pkg-config --libs libuv 2>/dev/null)
# Headers only: libcurl is opened when the first request is made, so nothing else pays for it.
CURL_CFLAGS := $(shell pkg-config --cflags libcurl 2>/dev/null)
# Optional, headers only too: what these serve is missing without them, and says so.
has = $(if $(shell printf '\043include <$(1)>' | $(CC) -E - >/dev/null 2>&1 && echo 1),-D$(2))
OPTIONAL_CFLAGS := $(call has,microhttpd.h,LMPE_MHD) $(call has,wslay/wslay.h,LMPE_WSLAY) \
	$(call has,histedit.h,LMPE_EDIT)
SYS_LIBS   := -ldl -lpthread -lm

WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes $(WERROR)
# Only what is marked MPE_API leaves a library. Calls inside it, and to others, need no PLT stub.
# initial-exec: "who am I" is one load instead of a call in a shared object; the few bytes of
# thread-local state fit the room glibc keeps for objects that are opened late.
CODEGEN := -fPIC -fvisibility=hidden -fno-semantic-interposition -fno-plt -ftls-model=initial-exec
# The arena gives out the same bytes as one type after another, with no call to malloc in between
# to tell the compiler so, and a typed array is read as any of twelve C types.
CODEGEN += -fno-strict-aliasing
FLAGS = -std=gnu11 -D_GNU_SOURCE $(OPT) -g $(WARNINGS) $(CODEGEN) $(SAN) $(CPPFLAGS) $(CFLAGS)

# Bindings and hosts see the public headers and nothing else of the engine.
ENGINE_INC  := -Iengine/include -Iengine $(UV_CFLAGS)
PLAIN_FLAG  := $(if $(filter auto,$(PLAIN)),,-DLMPE_PLAIN=$(PLAIN))
ifeq ($(filter auto 0 1,$(PLAIN)),)
$(error PLAIN is auto, 0 or 1, not "$(PLAIN)")
endif
BINDING_INC := -Iengine/include -Ibindings $(PLAIN_FLAG) $(LUA_CFLAGS) $(UV_CFLAGS) $(CURL_CFLAGS) \
	$(OPTIONAL_CFLAGS)
PUBLIC_INC  := -Iengine/include $(UV_CFLAGS)
includes = $(if $(filter bindings/% tools/% $(BUILD)/%,$(1)),$(BINDING_INC),$(if \
	$(filter engine/examples/% engine/hosts/%,$(1)),$(PUBLIC_INC),$(ENGINE_INC)))
compile = $(CC) $(FLAGS) $(call includes,$(1)) -c $(1)
link = $(CC) $(SAN) $(OPT) -g $(CFLAGS) $(LDFLAGS)

comma := ,

# V=1 shows each command, otherwise one short line says what is made.
Q := $(if $(V),,@)
say = @$(if $(V),:,printf '  %-5s %s\n' $(1) $@)
# A make inside make uses all processors, unless this one was told how many. (The + of its lines
# says that they are such; as the command is in a variable, make cannot see it.)
JOBS = $(if $(filter -j% --jobserver%,$(MAKEFLAGS)),,-j$(shell nproc))
SUBMAKE = $(MAKE) --no-print-directory $(JOBS)

.PHONY: all engine deps run test test-all unit hosts spec spec-api spec-lua check clean FORCE
.SECONDARY:
.DELETE_ON_ERROR:

LIBS := $(BUILD)/libmpengine.a $(BUILD)/libmpengine.so
all: $(LIBS) $(BUILD)/libmpengine_lua.a $(BUILD)/lua/mpengine/core.so $(LUA) $(BUILD)/mpengine

engine:
	+@$(SUBMAKE) DEPS=engine $(LIBS)

deps:
	@CC='$(CC)' tools/deps.sh check-$(DEPS)

# A stamp changes when its text does: other flags compile again, a deleted source links again.
STAMP_flags   = $(CC) $(FLAGS) $(ENGINE_INC) $(BINDING_INC)
STAMP_sources = $(ENGINE_SRC) $(BINDING_SRC) $(LUA_SRC)
$(BUILD)/%.stamp: FORCE
	@mkdir -p $(@D)
	@echo '$(STAMP_$*)' | cmp -s - $@ || echo '$(STAMP_$*)' > $@

# Loops that a compiler turns into vector instructions.
KERNELS := objects/array_kernels.o
$(BUILD)/obj/engine/$(KERNELS) $(BUILD)/points/$(KERNELS): private FLAGS += -O3 -ffp-contract=off -fno-trapping-math
# It compares them with loops of its own, where the processor multiplies and adds in one step too.
$(BUILD)/obj/engine/objects/array_math_test.o: private FLAGS += -ffp-contract=off

$(BUILD)/obj/%.o: %.c $(BUILD)/flags.stamp | deps
	$(call say,CC)
	@mkdir -p $(@D)
	$(Q)$(call compile,$<) -MMD -MP -o $@

# Lua itself, from LUA_DIR, as its own makefile builds it for Linux. What the system has for its Lua serves
# any release of the same version: one that is tested looks for it there.
LUA_DEFS = $(if $(LUA_TESTED),$(if $(filter 5.4,$(LUA_V)),-DLUA_PATH_DEFAULT='"$(call default,path)"' \
	-DLUA_CPATH_DEFAULT='"$(call default,cpath)"'))
default = $(shell env -u LUA_PATH -u LUA_CPATH -u LUA_PATH_5_4 -u LUA_CPATH_5_4 lua5.4 -e 'print(package.$(1))')
$(BUILD)/lua-obj/%.o: $(LUA_HOME)/%.c $(BUILD)/flags.stamp
	$(call say,CC)
	@mkdir -p $(@D)
	$(Q)$(CC) -std=gnu99 $(OPT) -g $(SAN) -fPIC -DLUA_USE_LINUX -DLUA_COMPAT_5_3 $(LUA_DEFS) -c $< -o $@

$(BUILD)/liblua.a: $(LUA_OBJ)
	$(call say,AR)
	@rm -f $@
	$(Q)$(AR) rcs $@ $^

# Its interpreter, for the specs.
$(BUILD)/lua-stock: $(BUILD)/lua-obj/lua.o $(BUILD)/liblua.a
	$(call say,LINK)
	$(Q)$(link) -Wl,-E -o $@ $< -Wl,--whole-archive $(LUA_A) -Wl,--no-whole-archive -ldl -lm

$(BUILD)/libmpengine.a: $(ENGINE_OBJ) $(BUILD)/sources.stamp
	$(call say,AR)
	@rm -f $@
	$(Q)$(AR) rcs $@ $(ENGINE_OBJ)

# Only mpe_ names leave it, each with the version of the library that they appeared in.
MAP := engine/libmpengine.map
$(BUILD)/libmpengine.so.$(MAJOR): $(ENGINE_OBJ) $(MAP) $(BUILD)/sources.stamp
	$(call say,LINK)
	$(Q)$(link) -shared -Wl,-soname,$(@F) -Wl,-Bsymbolic-functions -Wl,--version-script,$(MAP) -o $@ $(ENGINE_OBJ) \
		$(UV_LIBS) $(SYS_LIBS)

$(BUILD)/libmpengine.so: $(BUILD)/libmpengine.so.$(MAJOR)
	$(Q)ln -sf $(<F) $@

# What a host that runs Lua links beside libmpengine: the whole API for its own lua_State.
$(BUILD)/libmpengine_lua.a: $(BINDING_OBJ) $(BUILD)/sources.stamp
	$(call say,AR)
	@rm -f $@
	$(Q)$(AR) rcs $@ $(BINDING_OBJ)

# The same, for a Lua that is there already, so liblua is not linked. It has the engine inside, so that
# its calls are direct, and all that it exports: a host or a C module of Lua that is linked with it
# uses the same engine as the script. nodelete: lua_close would unmap code that threads and fork
# handlers still return to.
LUA_MAP := bindings/libmpengine_lua.map
$(BUILD)/libmpengine_lua.so.$(MAJOR): $(BINDING_OBJ) $(ENGINE_OBJ) $(LUA_MAP) $(BUILD)/sources.stamp
	$(call say,LINK)
	$(Q)$(link) -shared -Wl,-soname,$(@F) -Wl,-Bsymbolic-functions -Wl,--version-script,$(LUA_MAP) \
		-Wl,-z,nodelete -o $@ $(BINDING_OBJ) $(ENGINE_OBJ) $(UV_LIBS) $(SYS_LIBS)

$(BUILD)/libmpengine_lua.so: $(BUILD)/libmpengine_lua.so.$(MAJOR)
	$(Q)ln -sf $(<F) $@

# require finds that library by this name; the loader knows that it is the same one.
$(BUILD)/lua/mpengine/core.so: $(BUILD)/libmpengine_lua.so
	@mkdir -p $(@D)
	$(Q)ln -sf ../../libmpengine_lua.so.$(MAJOR) $@

# The examples of C modules of Lua, as others would link them; the specs load them.
MODULES_SO  := $(patsubst bindings/examples/%_module.c,$(BUILD)/modules/%.so,$(wildcard bindings/examples/*_module.c))
$(BUILD)/modules/%.so: $(BUILD)/obj/bindings/examples/%_module.o $(BUILD)/libmpengine_lua.so $(BUILD)/libmpengine.so
	$(call say,LINK)
	@mkdir -p $(@D)
	$(Q)$(link) -shared -o $@ $< -L$(BUILD) -lmpengine_lua -lmpengine -Wl,-rpath,$(abspath $(BUILD))

$(BUILD)/lua/%.lua: bindings/%.lua
	$(call say,COPY)
	@mkdir -p $(@D)
	$(Q)cp $< $@

$(BUILD)/tools/embed: $(BUILD)/obj/tools/embed.o $(if $(LUA_DIR),$(LUA_A))
	$(call say,LINK)
	@mkdir -p $(@D)
	$(Q)$(link) -o $@ $< $(LUA_LIBS)

# It runs here: what is built for another processor uses that of a tree which is for this one.
EMBED ?= $(BUILD)/tools/embed
$(BUILD)/modules.c: $(EMBED) $(LUA_SRC) $(ANNOTATIONS) $(BUILD)/sources.stamp
	$(call say,EMBED)
	$(Q)$< bindings $(patsubst bindings/%,%,$(LUA_SRC) $(ANNOTATIONS)) > $@

$(MODULES_OBJ): $(BUILD)/modules.c $(BUILD)/flags.stamp
	$(call say,CC)
	$(Q)$(call compile,$<) -MMD -MP -o $@

# -E: C modules of Lua find the whole C API in the command.
$(BUILD)/mpengine: $(BUILD)/obj/bindings/host.o $(BINDING_OBJ) $(ENGINE_OBJ) $(BUILD)/sources.stamp
	$(call say,LINK)
	$(Q)$(link) -Wl,-E -o $@ $(filter %.o,$^) $(LUA_STATIC) $(UV_LIBS) $(SYS_LIBS)

# ---- running and testing -------------------------------------------------------------------------

run:
	@CC='$(CC)' tools/deps.sh install-run
	+@$(SUBMAKE) all
	@$(BUILD)/mpengine $(SCRIPT) $(ARGS)

test:
	@CC='$(CC)' tools/deps.sh install-test
	+@$(SUBMAKE) test-all

# The sources of unit tests whose name, or in which the name of a case, has one of the words of FILTER.
named = $(foreach f,$(FILTER),$(foreach s,$(TEST_SRC),$(if $(findstring $(f),$(s)),$(s))))
with_case = $(shell grep -lE $(foreach f,$(FILTER),-e '^TEST.*$(f)') $(TEST_SRC) 2>/dev/null)
UNIT_SRC = $(if $(FILTER),$(sort $(named) $(with_case)),$(TEST_SRC))

PROGRAMS := $(BUILD)/lua-$(LUA_RELEASE)
RUN_TESTS = @CC='$(CC)' BUILD='$(BUILD)' PROGRAMS='$(if $(LUA_DIR),$(PROGRAMS))' UNIT='$(UNIT_SRC)' FILTER='$(FILTER)' SPEC='$(SPEC)' V='$(V)' tools/test.sh
.PHONY: tested lua-tested
tested: all $(MODULES_SO) $(call tests,$(TEST_SRC)) $(HOSTS)

# Where LUA_DIR is given, with it as well: BUILD stays the tree of the system's Lua, which busted has.
ifeq ($(LUA_DIR),)
test-all: tested
	$(RUN_TESTS) unit hosts spec
else
test-all:
	+@$(SUBMAKE) LUA_DIR= tested
	+@$(SUBMAKE) BUILD=$(PROGRAMS) LUA_TESTED=1 lua-tested
	$(RUN_TESTS) unit hosts spec lua
endif

unit: $(call tests,$(UNIT_SRC))
	$(if $(UNIT_SRC),$(RUN_TESTS) unit,@echo "unit: no case and no file has $(FILTER) in its name"; false)

hosts: all $(HOSTS)
	$(RUN_TESTS) hosts

spec: all $(MODULES_SO)
	$(RUN_TESTS) spec

# In a tree of its own, since everything must pass without lcodec_plain.c, too.
spec-api:
	+@$(SUBMAKE) BUILD=$(BUILD)/api PLAIN=0 spec \
		SPEC='$(or $(SPEC),$(wildcard $(foreach s,codec* queue values dict list pool process metatables,spec/$(s)_spec.lua)))'

# The scenarios of the specs, and the hosts that run Lua, with another Lua: `make spec-lua LUA_DIR=tree`.
# tools/luas.sh does so with several.
spec-lua:
	$(if $(LUA_DIR),,$(error LUA_DIR is missing: a source tree of Lua))
	+@$(SUBMAKE) LUA_DIR= all $(MODULES_SO)
	+@$(SUBMAKE) BUILD=$(PROGRAMS) LUA_TESTED=1 lua-tested
	$(RUN_TESTS) lua

lua-tested: all $(BUILD)/lua-stock $(filter-out %-c++17,$(filter $(BUILD)/hosts/bindings/%,$(HOSTS)))

# The short one first; the counts of the tests come last.
check:
	+@$(SUBMAKE) lint
	+@$(SUBMAKE) test

# Those named *_deaths_test.c link an engine of their own, with kill points in it.
POINTS     := engine/testing/kill_points.h
POINTS_OBJ := $(patsubst engine/%.c,$(BUILD)/points/%.o,$(ENGINE_SRC))
$(BUILD)/points/%.o: engine/%.c $(POINTS) $(BUILD)/flags.stamp | deps
	$(call say,CC)
	@mkdir -p $(@D)
	$(Q)$(call compile,$<) $(if $(filter engine/base/% engine/os/%,$<),,-include $(POINTS)) \
		-MMD -MP -o $@

$(BUILD)/points/libmpengine.a: $(POINTS_OBJ) $(BUILD)/sources.stamp
	$(call say,AR)
	@rm -f $@
	$(Q)$(AR) rcs $@ $(POINTS_OBJ)

$(BUILD)/tests/%_deaths_test: $(BUILD)/obj/engine/%_deaths_test.o \
		$(call objects,$(TESTING_SRC)) $(BUILD)/points/libmpengine.a
	$(call say,LINK)
	@mkdir -p $(@D)
	$(Q)$(link) -o $@ $^ $(UV_LIBS) $(SYS_LIBS)

# Each *_test.c is a program of its own, so that one crash costs one file.
$(BUILD)/tests/%: $(BUILD)/obj/engine/%.o $(call objects,$(TESTING_SRC)) $(BUILD)/libmpengine.a
	$(call say,LINK)
	@mkdir -p $(@D)
	$(Q)$(link) -o $@ $^ $(UV_LIBS) $(SYS_LIBS)

# It runs those.
$(BUILD)/tests/testing/mutants_test: | $(call tests,$(filter %_deaths_test.c,$(TEST_SRC)))

# As a host would: without what the project itself is compiled with.
HOST_c99   := $(CC) -std=c99
HOST_c++17 := $(CXX) -std=c++17 -x c++
HOST_a     := $(BUILD)/libmpengine.a
HOST_so    := -L$(BUILD) -lmpengine -Wl,-rpath,$(abspath $(BUILD))
define host
$(BUILD)/hosts/%-$(1)-$(2): %.c $(LIBS) $(BUILD)/libmpengine_lua.a $(BUILD)/flags.stamp
	$$(call say,HOST)
	@mkdir -p $$(@D)
	$$(Q)$(HOST_$(2)) -D_GNU_SOURCE $(OPT) -g -Wall -Wextra -Werror -pedantic $(SAN) \
		$$(call includes,$$<) $$< -x none -Wl,-E -MMD -MP -MF $$@.d -o $$@ \
		$$(if $$(filter bindings/%,$$<),$(BUILD)/libmpengine_lua.a) $(HOST_$(1)) \
		$$(if $$(filter bindings/%,$$<),$(LUA_LIBS)) $(UV_LIBS) $(SYS_LIBS)
endef
$(foreach l,a so,$(foreach c,c99 c++17,$(eval $(call host,$(l),$(c)))))
-include $(wildcard $(BUILD)/hosts/*/*/*.d)

$(BUILD)/hosts/bindings/testing/%: $(BUILD)/obj/bindings/testing/%.o $(BUILD)/libmpengine_lua.a \
		$(BUILD)/libmpengine.a
	$(call say,LINK)
	@mkdir -p $(@D)
	$(Q)$(link) -Wl,-E -o $@ $^ $(LUA_LIBS) $(UV_LIBS) $(SYS_LIBS)

# What `make fuzz` has found, or been given, once each.
$(BUILD)/hosts/fuzz/replay: $(call objects,$(wildcard bindings/fuzz/*.c)) $(BUILD)/libmpengine_lua.a \
		$(BUILD)/libmpengine.a
	$(call say,LINK)
	@mkdir -p $(@D)
	$(Q)$(link) -Wl,--wrap=lua_load -o $@ $^ $(LUA_LIBS) $(UV_LIBS) $(SYS_LIBS)

include tools/checks.mk

include packaging/packaging.mk

clean:
	rm -rf $(BUILD) compile_commands.json

-include $(patsubst %.o,%.d,$(call objects,$(C_SRC)) $(MODULES_OBJ) $(POINTS_OBJ))
