#!/usr/bin/env bash
# The demo: a hardened nginx image from the machine's own signed archives.
# Leaves everything under OUT and nothing else anywhere.
set -euo pipefail
kiln=$1 out=$2 state=$3 pass=$4

mkdir -p "$out"
if [ ! -s "$pass" ]; then
	(umask 077; od -An -N24 -tx1 /dev/urandom | tr -d ' \n' >"$pass")
fi
"$kiln" --state "$state" --passphrase-file "$pass" --quiet key new >/dev/null
"$kiln" --state "$state" --passphrase-file "$pass" build examples/nginx --out "$out"

cat "$out/verify.txt"
