#!/bin/sh
# tools/ldconfig_hint.sh DIRECTORY: after libraries were installed there, says what the loader needs
# to find them: ldconfig, when the directory is on its list, or else a run path.
listed=$(ldconfig -N -v 2>/dev/null || /sbin/ldconfig -N -v 2>/dev/null)
if printf '%s\n' "$listed" | grep -q "^$1:"; then
    echo "the loader finds the library after this, as root: ldconfig"
else
    echo "the loader does not look in $1: link with -Wl,-rpath,$1, or add it to /etc/ld.so.conf.d"
fi
