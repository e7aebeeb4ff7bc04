#!/usr/bin/env bash
# Installs what the tests need beside Go: redis-server, a C compiler for the
# race detector, and Node.js with npm for the emulator of the queue. Says what it
# installs, and nothing if all is there.
set -euo pipefail

missing=()
command -v redis-server >/dev/null || missing+=(redis-server)
command -v node >/dev/null && command -v npm >/dev/null || missing+=(nodejs npm)
if [ "$(uname -s)" = Darwin ]; then
	if [ ${#missing[@]} -gt 0 ]; then
		echo "missing: ${missing[*]}: brew install redis node" >&2
		exit 1
	fi
	exit 0
fi
command -v "$(go env CC)" >/dev/null || missing+=(gcc libc6-dev)
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" != 0 ]; then
	as_root=(sudo -n)
fi
if ! command -v apt-get >/dev/null || ! "${as_root[@]}" true 2>/dev/null; then
	echo "missing: ${missing[*]}; install them, on Debian and Ubuntu with: sudo apt-get install ${missing[*]}" >&2
	exit 1
fi
echo "installing with apt-get: ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! {
	"${as_root[@]}" apt-get update &&
		"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"
} >"$log" 2>&1 </dev/null; then
	cat "$log" >&2
	exit 1
fi
