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

line() { grep -m 1 "^$1" "$out/verify.txt"; }
cat <<END

Read it   $out/report.html in a browser: what was done and why
Run it    $(line 'podman run')
          curl http://127.0.0.1:8080/
Check it  $(line 'cosign verify ')
          (--insecure-ignore-tlog: keys sign without a transparency log; $out/verify.txt has the other checks)
Next      $kiln init my-image      docs/howto/write-a-recipe.md
END
