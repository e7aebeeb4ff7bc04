#!/usr/bin/env bash
# Everything that has to hold, the tests last: their count is the last line.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/modules.sh

bash scripts/setup.sh
bash scripts/install-fauxqs.sh

failed=0
bash scripts/lint.sh || {
	echo "lint failed, see above" >&2
	failed=1
}

if [ -f examples/quickstart/main.go ]; then
	step "example: quickstart"
	go run ./examples/quickstart </dev/null || {
		echo "the quickstart failed, see above" >&2
		failed=1
	}
fi

step "tests"
GOWORK=off go -C tools/testsum build -o "$PWD/bin/testsum" .
# shellcheck disable=SC2046 # the folders are words of their own
bin/testsum -race -timeout=20m -- $(modules) || failed=1
exit "$failed"
