#!/bin/sh
# Checks the models of engine/models with spin, in BUILD/models. Each model must hold as it is, and with
# DEATHS, and must be found to be wrong with each step left out that its head names.
set -u
here=$(pwd)
out=${BUILD:-build}/models
failed=0 passed=0
mkdir -p "$out" && cd "$out" || exit 1

# holds MODEL DEFINITION...: status 0 when no order breaks it
holds() {
    spin -a $2 "$here/engine/models/$1.pml" >log 2>&1 &&
        ${CC:-cc} -w -O2 -DSAFETY -DMEMLIM=2000 -o pan pan.c >>log 2>&1 || { cat log; exit 1; }
    timeout "${LIMIT:-300}" ./pan -m1000000 >found 2>&1
    grep -q 'errors: 0$' found
}

expect() { # yes|no MODEL DEFINITIONS
    if holds "$2" "$3"; then is=yes; else is=no; fi
    if [ $is = no ] && ! grep -q 'assertion violated' found; then is="not decided"; fi
    if [ "$is" = "$1" ]; then
        passed=$((passed + 1))
        echo "ok    $2 $3: holds: $is"
    else
        failed=$((failed + 1))
        echo "FAIL  $2 $3: holds: $is, expected $1"
    fi
}

expect yes queue_wake ""
expect yes queue_wake "-DDEATHS -DROUNDS=1"
for step in NO_CLEAR_AWAKE NO_CLEAR_LEAVING NO_CLEAR_FAILED; do
    expect no queue_wake "-D$step"
done
expect no queue_wake "-DDEATHS -DNO_REAPER"
for pair in LOOK FOLLOW; do
    expect yes orders "-D$pair -DORDER1 -DORDER2"
    expect no orders "-D$pair -DORDER1"
    expect no orders "-D$pair -DORDER2"
done
echo "$passed passed, $failed failed"
[ $failed = 0 ]
