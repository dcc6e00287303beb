#!/usr/bin/env bash
# Comparisons with rivals in one run; ratios and medians, no verdicts.
set -euo pipefail
cd "$(dirname "$0")/.."
kiln=$1
for part in sandbox rootfs; do
	echo "== $part"
	go run "./bench/$part"
done
echo "== audit"
go run ./bench/audit "$kiln"
echo "== line"
go run ./bench/line "$kiln" examples/nginx
