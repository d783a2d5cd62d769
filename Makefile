# The two commands: `make run` and `make test`. Both install what they need and say what they do.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.PHONY: run test bench fuzz ui plugin lint tools-ui tools-test

run: ui ## build and start Binnacle on this machine: http://127.0.0.1:9090
	cargo run --release --bin binnacle

test: ui plugin tools-test ## everything: cargo tests, UI tests, the tests that need Kafka and a browser
	tests/setup/all.sh

bench: ## figures for this machine
	cargo bench --bench path

fuzz: ## every parser and decoder with random input, FUZZ_SECONDS (60) each
	tests/setup/install.sh cc
	fuzz/run.sh

ui: tools-ui ## the web page, embedded in the binary
	cd dashboards/ui && npm ci --no-fund --no-audit --loglevel=error && npm run --silent build

plugin: ui ## the Grafana plugin, in dashboards/grafana-plugin/dist
	cd dashboards/grafana-plugin && npm ci --no-fund --no-audit --loglevel=error && npm run --silent build

tools-ui:
	tests/setup/install.sh cc make node

tools-test:
	tests/setup/install.sh cc make node java maven chromium

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
