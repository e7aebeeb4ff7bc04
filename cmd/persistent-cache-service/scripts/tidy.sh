#!/usr/bin/env bash
# Runs go mod tidy for this module, with the SDK of this clone in the place of
# the version that go.mod requires, which may not be released yet. Arguments
# are passed on: -diff only checks.
set -euo pipefail
cd "$(dirname "$0")/.."

sdk=github.com/stiggio/server-sdk-go
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cp go.mod "$dir/go.mod"
cp go.sum "$dir/go.sum"
export GOWORK=off
replaced=$(cd ../.. && pwd)
go mod edit -replace "$sdk=$replaced" "$dir/go.mod"
go mod tidy -modfile="$dir/go.mod" "$@"
if [ $# = 0 ]; then
	go mod edit -dropreplace "$sdk" "$dir/go.mod"
	cp "$dir/go.mod" go.mod
	cp "$dir/go.sum" go.sum
fi
