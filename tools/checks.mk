# The checks beside the tests, included by the Makefile: checkers of memory and threads, storms, models,
# benchmarks, style. docs/testing.md says what each one finds.

.PHONY: aarch64 asan tsan valgrind chaos chaos-redis soak fuzz model bench lint format tidy docs

# Sanitizers change what is compiled, so they have trees of their own. The Lua that loads core.so is
# not instrumented: the run-time library must then come before it. All that runs takes several times as long.
asan:
	+@PRELOAD=$$($(CC) -print-file-name=libasan.so) MPE_TEST_SLOW=4 $(SUBMAKE) BUILD=$(BUILD)/asan OPT=-O1 \
		SAN='-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer' \
		test-all

# setarch -R, where it is allowed: with randomness of addresses the run-time library may not start. Its
# finder of deadlocks knows at most 64 locks of a thread, and a test holds more slots. The tests of
# deaths are about processes, which it does not see. Stock lua cannot load what is built so: what hosts
# start is the command.
tsan:
	+@RUNNER="$$(setarch -R echo setarch -R 2>/dev/null)" MPE_TEST_SLOW=5 \
		MPENGINE_EXECUTABLE='$(abspath $(BUILD))/tsan/mpengine' \
		TSAN_OPTIONS="die_after_fork=0 detect_deadlocks=0 $$TSAN_OPTIONS" $(SUBMAKE) \
		BUILD=$(BUILD)/tsan OPT=-O1 SAN='-fsanitize=thread -fno-omit-frame-pointer' \
		TEST_SRC='$(filter-out %_deaths_test.c %/mutants_test.c,$(TEST_SRC))' unit hosts

valgrind:
	@CC='$(CC)' tools/deps.sh check-valgrind
	+@MPENGINE_SHM_LIMIT=64M RUNNER="valgrind -q --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite --suppressions=tools/valgrind.supp" \
		MPE_TEST_SLOW=20 $(SUBMAKE) DEPS=engine unit

# For another processor: compiled, and tested under an emulator as far as that goes.
aarch64:
	@CC='$(CC)' tools/deps.sh check-aarch64
	+@$(SUBMAKE) all
	+@BUILD='$(BUILD)' MAKE='$(SUBMAKE)' tools/aarch64.sh

# A storm of kill -9 over objects and pools, for SECONDS, and as many pool tasks and kills as asked for; and
# so many WAITS of all kinds at once.
chaos: all
	timeout 600 $(BUILD)/mpengine spec/chaos/objects.lua $(or $(SECONDS),60) $(KILLS)
	timeout 1200 $(BUILD)/mpengine spec/chaos/pool.lua $(or $(TASKS),100000) $(or $(KILLS),1000)
	timeout 1200 $(BUILD)/mpengine spec/chaos/waits.lua $(or $(WAITS),1000000)

# A storm of kill -9 over workers, submitters, owners and a Redis server, over a bad line, for SECONDS each.
chaos-redis: all
	for mode in always everysec cut; do \
		timeout $$(($(or $(SECONDS),60) + 300)) $(BUILD)/mpengine spec/chaos/redis.lua $(or $(SECONDS),60) '' $$mode \
			|| exit 1; \
	done

# So many CONNECTIONS, one after another, to a server with WORKERS, and nothing grows.
soak: all
	timeout 3600 $(BUILD)/mpengine tools/soak.lua $(or $(CONNECTIONS),200000) $(or $(WORKERS),2)

# Damaged messages, for SECONDS; a finding is left in build/fuzz. What decodes is instrumented, the rest is as ever.
fuzz: all
	@mkdir -p $(BUILD)/fuzz/corpus
	clang -g -O1 -fsanitize=fuzzer,address,undefined -D_GNU_SOURCE $(BINDING_INC) -Iengine \
		bindings/fuzz/fuzz_decode.c $(wildcard bindings/codec/*.c) \
		engine/base/buf.c engine/base/wire.c engine/base/err.c \
		$(BUILD)/libmpengine_lua.a $(BUILD)/libmpengine.a \
		-Wl,--wrap=lua_load $(LUA_LIBS) $(UV_LIBS) $(SYS_LIBS) -o $(BUILD)/fuzz/fuzz_decode
	cd $(BUILD)/fuzz && ./fuzz_decode -max_len=4096 -max_total_time=$(or $(SECONDS),300) \
		corpus $(CURDIR)/bindings/fuzz/corpus

# Every order of the steps of a protocol, and that each step is needed.
model:
	@CC='$(CC)' tools/deps.sh check-model
	@CC='$(CC)' BUILD='$(BUILD)' tools/model.sh

# A peer that is not installed costs its rows and no more.
bench: all
	@CC='$(CC)' tools/deps.sh install-bench || echo "bench: going on without these"
	@CC='$(CC)' bench/build.sh $(BUILD)/bench
	@MPENGINE=$(BUILD)/mpengine RAW=$(BUILD)/bench lua5.4 bench/run.lua $(ROW)

# The manual as HTML, with search and an index of all functions.
docs:
	@tools/deps.sh check-docs
	lua5.4 tools/book.lua $(BUILD)/docs

# ---- style ---------------------------------------------------------------------------------------

FORMATTED := $(shell find engine bindings tools -name '*.[ch]' 2>/dev/null)
LUA_DIRS  := $(wildcard bindings/mpengine scripts spec bench tools)

lint:
	@tools/deps.sh check-lint
	lua5.4 tools/layers.lua $(LAYERS) : $(ROOMS)
	BUILD=$(BUILD) lua5.4 tools/rooms.lua $(LAYERS) : $(ROOMS)
	BUILD=$(BUILD) lua5.4 tools/api.lua
	lua5.4 tools/memory.lua
	lua5.4 tools/words.lua
	lua5.4 tools/commits.lua
	@echo clang-format --dry-run -Werror ...
	@$(if $(FORMATTED),clang-format --dry-run -Werror $(FORMATTED))
	luacheck -q --no-color $(LUA_DIRS)

format:
	clang-format -i $(FORMATTED)

tidy: compile_commands.json
	clang-tidy -p . --quiet $(C_SRC)

define newline


endef
entry = {"directory": "$(CURDIR)", "file": "$(1)", "command": "$(call compile,$(1))"}
compile_commands.json: FORCE
	$(file >$@,[$(subst } {,}$(comma)$(newline){,$(foreach f,$(C_SRC),$(call entry,$(f))))])
