#!/usr/bin/env bash
# What `make test` runs: the page's tests, then every cargo test with a real Kafka broker and a real browser.
set -euo pipefail
cd "$(dirname "$0")/../.."

echo "== UI tests"
(cd dashboards/ui && npm test --silent)
(cd dashboards/grafana-plugin && npm test --silent)
node dashboards/grafana/build.mjs --check

echo "== Kafka"
kafka_dir=$(mktemp -d)
trap 'tests/kafka.sh stop "$kafka_dir"; rm -rf "$kafka_dir"' EXIT
started=$(tests/kafka.sh start "$kafka_dir")
export "${started?}"
echo "$started"

echo "== Prometheus and Alertmanager, for comparison"
peers=$(tests/setup/peers.sh)
while read -r peer; do
    export "${peer?}"
    echo "$peer"
done <<<"$peers"

echo "== cargo tests"
# BINNACLE_TEST_FULL turns on the suites that need Kafka, a browser, or minutes; without it they run in a small form.
BINNACLE_TEST_FULL=1 cargo test --workspace
