#!/bin/sh
# curl. usage: http_curl.sh URL   ns for 100 MB that are thrown away
set -eu
curl -sS -o /dev/null -w '%{time_total}\n' "$1/big" | awk '{ printf "%.6g ns\n", $1 * 1e9 }'
