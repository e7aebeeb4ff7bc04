# What there is to do in this repository. Go is all that has to be installed;
# `make test` brings the rest, or says how.

.PHONY: test lint bench generate

# Everything that has to hold: lint, the examples, and the tests of all modules.
test:
	bash scripts/test.sh

# Formatting, vet, staticcheck, golangci-lint and tidy go.mod files.
lint:
	bash scripts/lint.sh

# The benchmarks, against a Redis on this machine.
bench:
	cd bench && GOWORK=off go run . -o ../docs

# Generated code, again.
generate:
	go generate ./...
