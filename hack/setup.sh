#!/usr/bin/env bash
# Installs what a fresh Debian or Ubuntu machine lacks: `setup.sh build` for
# building images, `setup.sh test` for the tests, `setup.sh e2e` for the clients
# that the end-to-end runs drive. Needs root to install; says what is missing otherwise.
set -euo pipefail

build="ca-certificates"
test="$build nftables iptables e2fsprogs rpm gcc libc6-dev apt dpkg dpkg-dev xz-utils zstd uidmap gpg mmdebstrap debian-archive-keyring libxml2-utils openscap-scanner"
e2e="$test skopeo podman crun runc jq faketime ssg-debderived lynis"

case "${1:-}" in
build) want=$build ;;
test) want=$test ;;
e2e) want=$e2e ;;
*) echo "usage: $0 build|test|e2e" >&2; exit 2 ;;
esac

if ! command -v go >/dev/null; then
	echo "setup: Go 1.26 or newer is needed (go.dev/doc/install, or the package golang-go where it is new enough)" >&2
	exit 1
fi

# Without root, images are built in a user namespace.
[ "$(id -u)" -eq 0 ] || want="$want uidmap"

missing=()
for p in $want; do
	dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null | grep -qx installed || missing+=("$p")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -ne 0 ]; then
	echo "setup: not root; these packages are missing and what needs them is skipped: ${missing[*]}" >&2
	exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q >/dev/null
available=()
for p in "${missing[@]}"; do
	if apt-cache show "$p" >/dev/null 2>&1; then available+=("$p"); else echo "setup: no package $p here; what needs it is skipped" >&2; fi
done
[ ${#available[@]} -eq 0 ] || apt-get install -q -y --no-install-recommends "${available[@]}" >/dev/null
