#!/bin/bash
# Runs what `make` has built for testing and counts it. The last line is `N passed, N failed`: the
# sum of what truly ran. Before it, what was skipped is counted and named. Status 0 only when something ran and
# nothing failed.
#
#   tools/test.sh unit     the C unit tests, engine/*/*_test.c: one program each
#   tools/test.sh hosts    the C hosts, {engine,bindings}/{examples,hosts}/*.c, in four builds each:
#                          static and shared, C99 and C++17. They must end with status 0 and print what the file NAME.expected beside it says, when there is one;
#                          and the fuzz target, with each input of bindings/fuzz/corpus
#   tools/test.sh spec     the busted specs, spec/**/*_spec.lua: one busted for each file
#   tools/test.sh lua      with the tree PROGRAMS, which is built with another Lua (LUA_DIR): the specs, whose
#                          scenarios run its programs while busted has the tree BUILD, and the hosts that run Lua
#   ... several stages in one call run in the order given
#
# Every program has a time limit, and every stage has one: past it the rest counts as failed. A
# program that crashes, hangs or ends without its count is one failure, beside what it did report; so
# is a file of which no case ran, unless FILTER chooses.
#
# Environment: BUILD (build) the tree to test; UNIT the sources of the unit tests; FILTER parts of the
# names of C cases or of their files, or a Lua pattern for names of specs; SPEC the spec files; V=1 prints passing output too; RUNNER a command
# put before each C test; PRELOAD a library for the lua5.4 of the specs; MPE_TEST_SLOW=n makes limits n times
# longer; MAY_SKIP=1: all cases of a file may be skipped, as by an emulator, or without a library in the stage lua.
set -u
cd "$(dirname "$0")/.." || exit 1

build=$(realpath -m "${BUILD:-build}")
runner=${RUNNER:-}
slow=${MPE_TEST_SLOW:-1}
may_skip=${MAY_SKIP:-0}
program_limit=$((180 * slow))
declare -A stage_limit=([unit]=$((400 * slow)) [hosts]=$((100 * slow)) [spec]=$((3000 * slow)) [lua]=$((1000 * slow)))

export MPENGINE=$build/mpengine BUILD=$build MPENGINE_PROGRAMS=
export LUA_PATH="$build/lua/?.lua;$build/lua/?/init.lua;;" LUA_CPATH="$build/lua/?.so;;"
unset LUA_INIT LUA_PATH_5_4 LUA_CPATH_5_4 LUA_INIT_5_4
unset LUA_DIR MAKEFLAGS MFLAGS # a make that a spec runs is one of its own

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
log=$work/log
total_passed=0 total_failed=0 total_skipped=0
skips=$work/skips # one line for each case that was skipped
: >"$skips"

# limited COMMAND...: runs it within the limits, its output to $log. The output goes to a file, not a
# pipe, so that a process left behind cannot keep this script waiting.
limited() {
    local left=$((stage_end - SECONDS))
    if [ "$left" -le 0 ]; then
        echo "not run: the time limit of the stage has passed" >"$log"
        return 124
    fi
    # bash itself would say that a program was killed, on the outer standard error.
    { timeout -k 5 "$((left < program_limit ? left : program_limit))" "$@" >"$log" 2>&1 </dev/null; } 2>/dev/null
    local status=$?
    [ "$status" -ne 124 ] || echo "stopped: the time limit has passed" >>"$log"
    return "$status"
}

# report STAGE NAME PASSED FAILED: one line, and the whole output when something failed. What was
# skipped says so in the output: `skip  NAME`.
report() {
    local failed=$4 skipped
    skipped=$(grep -c '^skip  ' "$log")
    if [ "$1" != hosts ] && [ "$(($3 + failed + (may_skip ? skipped : 0)))" -eq 0 ] && [ -z "${FILTER:-}" ]; then
        echo "no case of this file has run" >>"$log"
        failed=1
    fi
    printf '%-5s %-44s %d passed, %d failed' "$1" "$2" "$3" "$failed"
    [ "$skipped" -eq 0 ] || printf ', %d skipped' "$skipped"
    echo
    if [ "$failed" -gt 0 ] || [ -n "${V:-}" ]; then
        sed 's/^/    /' "$log"
    fi
    sed -n "s|^skip  |$2: |p" "$log" >>"$skips"
    total_passed=$((total_passed + $3))
    total_failed=$((total_failed + failed))
    total_skipped=$((total_skipped + skipped))
}

# The words of FILTER that choose cases of a source; none when one of them names the source itself.
cases_of() {
    local word
    for word in ${FILTER:-}; do
        case $1 in *"$word"*) return ;; esac
    done
    echo "${FILTER:-}"
}

# A program that crashed has failed once more than it could say.
run_unit() {
    local source program status passed failed
    for source in ${UNIT:-engine/*/*_test.c}; do
        program=${source#engine/}
        program=${program%.c}
        # RUNNER is a command with its arguments, FILTER a list of names.
        # shellcheck disable=SC2046,SC2086
        limited $runner "$build/tests/$program" $(cases_of "$source")
        status=$?
        read -r passed failed < <(sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p' "$log" | tail -n 1)
        if [ -z "${failed:-}" ]; then
            echo "ended with status $status and without its count" >>"$log"
            passed=$(grep -c '^ok    ' "$log")
            failed=$(($(grep -c '^FAIL  ' "$log") + 1))
        elif [ "$status" -ne 0 ] && [ "$failed" -eq 0 ]; then
            echo "ended with status $status" >>"$log"
            failed=1
        fi
        report unit "$program" "$passed" "$failed"
    done
}

# run_host SOURCE BUILD [TREE]: one program, with its own output compared
run_host() {
    local program=${1%.c}${2:+-$2} status expected=${1%.c}.expected
    # shellcheck disable=SC2086
    limited $runner env ${PRELOAD:+LD_PRELOAD="$PRELOAD"} "${3:-$build}/hosts/$program"
    status=$?
    if [ "$status" -ne 0 ]; then
        echo "ended with status $status, expected 0" >>"$log"
    elif [ -e "$expected" ]; then
        diff -u --label expected "$expected" --label printed "$log" >"$work/diff"
        status=$?
        [ "$status" -eq 0 ] || mv "$work/diff" "$log"
    fi
    report "$stage" "$program" "$((status == 0))" "$((status != 0))"
}

# run_hosts_of TREE BUILDS SOURCE...: in each of these builds
run_hosts_of() {
    local tree=$1 kinds=$2 source kind
    shift 2
    for source in "$@"; do
        case $source in *_module.c) continue ;; esac # a spec loads them
        for kind in $kinds; do
            run_host "$source" "$kind" "$tree"
        done
    done
    for source in bindings/testing/*_host.c; do
        run_host "$source" '' "$tree"
    done
}

run_hosts() {
    local status
    run_hosts_of "$build" 'a-c99 a-c++17 so-c99 so-c++17' {engine,bindings}/{examples,hosts}/*.c
    limited env ${PRELOAD:+LD_PRELOAD="$PRELOAD"} "$build/hosts/fuzz/replay" bindings/fuzz/corpus
    status=$?
    [ "$status" -eq 0 ] || echo "ended with status $status, expected 0" >>"$log"
    report hosts fuzz/replay "$((status == 0))" "$((status != 0))"
}

run_spec() {
    local file status passed failed files=()
    if [ -n "${SPEC:-}" ]; then
        read -ra files <<<"$SPEC"
    else
        readarray -t files < <(find spec -name '*_spec.lua' 2>/dev/null | sort)
    fi
    for file in "${files[@]}"; do
        : >"$work/tally"
        limited env ${PRELOAD:+LD_PRELOAD="$PRELOAD"} MPE_TALLY="$work/tally" lua5.4 /usr/bin/busted \
            -o tools/busted_tally.lua ${FILTER:+--filter="$FILTER"} "$file"
        status=$?
        passed=$(grep -c '^success$' "$work/tally")
        failed=$(grep -Ec '^(failure|error)$' "$work/tally")
        if ! grep -q '^end$' "$work/tally" || { [ "$status" -ne 0 ] && [ "$failed" -eq 0 ]; }; then
            echo "busted ended with status $status before its end, or for no failure of a test" >>"$log"
            failed=$((failed + 1))
        fi
        report "$stage" "$file" "$passed" "$failed"
    done
}

# The headers of Lua's sources are for C.
run_lua() {
    local programs
    programs=$(realpath -m "${PROGRAMS:?names no tree}")
    [ -n "${SPEC:-}${FILTER:-}" ] ||
        MPENGINE_EXECUTABLE=$programs/mpengine run_hosts_of "$programs" 'a-c99 so-c99' bindings/{examples,hosts}/*.c
    may_skip=1 MPENGINE=$programs/mpengine MPENGINE_PROGRAMS=$programs run_spec
}

shopt -s nullglob
for stage in "$@"; do
    [ -n "${stage_limit[$stage]:-}" ] || { echo "test.sh: no stage named $stage" >&2; exit 2; }
    stage_end=$((SECONDS + stage_limit[$stage]))
    # The leak checker finds what the Lua and the Python of a spec leave to the system.
    [ "$stage" = unit ] || [ "$stage" = hosts ] || export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=0}
    "run_$stage"
done

if [ "$total_skipped" -gt 0 ]; then
    echo "$total_skipped skipped:"
    sed 's/^/    /' "$skips"
fi
echo "$total_passed passed, $total_failed failed"
[ "$total_failed" -eq 0 ] && [ "$total_passed" -gt 0 ]
