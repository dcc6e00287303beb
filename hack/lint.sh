#!/usr/bin/env bash
# Formatting, vet and static analysis. gofumpt and staticcheck are pinned as
# tools of a module of their own, so that they never weigh on the program's.
set -euo pipefail
cd "$(dirname "$0")/.."

tool() { go run -modfile hack/tools/go.mod "$@"; }

unformatted=$(tool mvdan.cc/gofumpt -l $(git ls-files '*.go'))
if [ -n "$unformatted" ]; then
	echo "lint: not formatted (run gofumpt -w):" >&2
	echo "$unformatted" >&2
	exit 1
fi
go vet ./...
go vet -tags e2e ./e2e/... 2>&1
tool honnef.co/go/tools/cmd/staticcheck ./...
