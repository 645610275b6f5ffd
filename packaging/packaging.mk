# Installing and packaging, included by the Makefile. Every path is below DESTDIR, which is for the
# makers of packages; PREFIX and LIBDIR are what the installed files say of themselves.

.PHONY: install install-engine install-command uninstall dist rock install-rock

BIN := $(DESTDIR)$(PREFIX)/bin
LIB := $(DESTDIR)$(LIBDIR)
INC := $(DESTDIR)$(PREFIX)/include
LUA_SHARE := $(DESTDIR)$(PREFIX)/share/lua/$(LUA_V)
LUA_LIB   := $(LIB)/lua/$(LUA_V)
SHARE     := $(DESTDIR)$(PREFIX)/share
HEADERS   := $(wildcard engine/include/*.h bindings/mpengine_lua.h)

# Beside the command: each file of the sources, and where it goes.
MAN         := $(wildcard packaging/man/*.1)
COMPLETIONS := mpengine.bash:bash-completion/completions/mpengine _mpengine:zsh/site-functions/_mpengine \
	mpengine.fish:fish/vendor_completions.d/mpengine.fish
UNITS       := $(patsubst packaging/systemd/%.in,%,$(wildcard packaging/systemd/*.in))
SYSTEMD     := $(DESTDIR)$(PREFIX)/lib/systemd/system
source = $(firstword $(subst :, ,$(1)))
target = $(lastword $(subst :, ,$(1)))

fill = sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' -e 's|@VERSION@|$(VERSION)|' \
	-e 's|@LUA_V@|$(LUA_V)|' -e 's|@LUA_PC@|$(if $(LUA_PC),$(comma) $(LUA_PC))|' $(1) > $(2)
luarc = sed -e 's|@LIBRARY@|$(1)|' -e 's|@LUA_V@|$(LUA_V)|' packaging/luarc.json.in > $(2)
pc = $(call fill,$(1).in,$(LIB)/pkgconfig/$(1))

install-engine: engine
	install -d $(LIB)/pkgconfig $(INC)
	install -m 644 $(BUILD)/libmpengine.a $(BUILD)/libmpengine.so.$(MAJOR) $(LIB)/
	ln -sf libmpengine.so.$(MAJOR) $(LIB)/libmpengine.so
	install -m 644 $(wildcard engine/include/*.h) $(INC)/
	$(call pc,mpengine.pc)
	@$(if $(DESTDIR),,tools/ldconfig_hint.sh '$(LIBDIR)')

# The command, its manual, completions and units of systemd, the annotations for the Lua language
# server, and the script for gdb.
install-command: all
	install -d $(BIN) $(SHARE)/man/man1 $(SHARE)/mpengine/library $(SHARE)/mpengine/gdb $(SYSTEMD)
	install $(BUILD)/mpengine $(BIN)/
	install -m 644 $(MAN) $(SHARE)/man/man1/
	@set -e; $(foreach c,$(COMPLETIONS),\
		install -m 644 -D packaging/completions/$(call source,$(c)) $(SHARE)/$(call target,$(c));)
	@set -e; $(foreach u,$(UNITS),$(call fill,packaging/systemd/$(u).in,$(SYSTEMD)/$(u));)
	install -m 644 bindings/library/mpengine.lua $(SHARE)/mpengine/library/
	install -m 644 packaging/gdb/mpengine.py $(SHARE)/mpengine/gdb/
	$(call luarc,$(PREFIX)/share/mpengine/library,$(SHARE)/mpengine/luarc.json)

install: all
	+@$(SUBMAKE) install-engine install-command
	install -d $(LUA_LIB)/mpengine
	install -m 644 $(BUILD)/libmpengine_lua.a $(BUILD)/libmpengine_lua.so.$(MAJOR) $(LIB)/
	ln -sf libmpengine_lua.so.$(MAJOR) $(LIB)/libmpengine_lua.so
	ln -sf ../../../libmpengine_lua.so.$(MAJOR) $(LUA_LIB)/mpengine/core.so
	install -m 644 bindings/mpengine_lua.h $(INC)/
	cd bindings && find mpengine -name '*.lua' -exec install -m 644 -D {} '$(abspath $(LUA_SHARE))'/{} \;
	$(call pc,mpengine-lua.pc)

uninstall:
	rm -f $(BIN)/mpengine $(LIB)/libmpengine.a $(LIB)/libmpengine_lua.a $(LIB)/libmpengine.so
	rm -f $(LIB)/libmpengine_lua.so $(LIB)/libmpengine_lua.so.$(MAJOR)
	rm -f $(LIB)/libmpengine.so.$(MAJOR) $(LIB)/pkgconfig/mpengine.pc $(LIB)/pkgconfig/mpengine-lua.pc
	rm -f $(patsubst %,$(INC)/%,$(notdir $(HEADERS)))
	rm -f $(patsubst packaging/man/%,$(SHARE)/man/man1/%,$(MAN))
	rm -f $(patsubst %,$(SYSTEMD)/%,$(UNITS))
	rm -f $(foreach c,$(COMPLETIONS),$(SHARE)/$(call target,$(c)))
	rm -rf $(LUA_LIB)/mpengine $(LUA_SHARE)/mpengine $(SHARE)/mpengine

# ---- sources -------------------------------------------------------------------------------------

# What is committed, and nothing else: owner, modes, times and order are those of the commit, and gzip
# writes no name and no time.
DIST := mpengine-$(VERSION)
dist:
	@git rev-parse -q --verify HEAD >/dev/null || { echo "dist: needs the git repository"; exit 1; }
	@git diff --quiet HEAD || echo "dist: what is not committed is left out" >&2
	@mkdir -p $(BUILD)
	git -c tar.umask=0022 archive --format=tar --prefix=$(DIST)/ HEAD | gzip -n -9 > $(BUILD)/$(DIST).tar.gz

# ---- LuaRocks ------------------------------------------------------------------------------------

# What the rockspec calls, with the directories of the rock. The module is a file, not a link: what packs
# a rock follows none. Nothing in it names these directories: a packed rock is installed elsewhere.
# tools/rock.sh builds and uses rocks.
rock:
	+@$(SUBMAKE) all

install-rock:
	install -m 755 -D $(BUILD)/libmpengine_lua.so.$(MAJOR) $(ROCK_LIB)/mpengine/core.so
	install -m 755 -D $(BUILD)/mpengine $(ROCK_BIN)/mpengine
	cd bindings && find mpengine -name '*.lua' -exec install -m 644 -D {} '$(abspath $(ROCK_LUA))'/{} \;
	install -m 644 -D bindings/library/mpengine.lua $(ROCK_PREFIX)/library/mpengine.lua
	$(call luarc,library,$(ROCK_PREFIX)/luarc.json)
