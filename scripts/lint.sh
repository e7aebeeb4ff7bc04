#!/usr/bin/env bash
# Checks formatting, go vet, staticcheck, golangci-lint and go.mod files of
# every module. The linters' versions are those of tools/lint.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/modules.sh

root=$PWD
failed=0
check() {
	"$@" || failed=1
}

step "lint: gofmt"
unformatted=$(gofmt -l .)
if [ -n "$unformatted" ]; then
	printf 'not formatted with gofmt:\n%s\n' "$unformatted"
	failed=1
fi

step "lint: building the linters (a minute or two the first time)"
(cd tools/lint && GOWORK=off GOBIN="$root/bin" go install tool)

for module in $(modules all); do
	step "lint: $module: go mod tidy"
	if [ -f "$module/scripts/tidy.sh" ]; then
		check bash "$module/scripts/tidy.sh" -diff
	else
		check go -C "$module" mod tidy -diff
	fi
done
for module in $(modules); do
	step "lint: $module: vet, staticcheck, golangci-lint"
	cd "$root/$module"
	check in_module . go vet ./...
	check in_module . "$root/bin/staticcheck" ./...
	check in_module . "$root/bin/golangci-lint" run --config "$root/.golangci.yml" ./...
	cd "$root"
done
exit "$failed"
