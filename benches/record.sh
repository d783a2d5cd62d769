#!/bin/bash
# Records scrapes of a node_exporter for `cargo bench --bench ingest`: record.sh URL DIRECTORY SCRAPES SECONDS
set -eu
url=$1 dir=$2 scrapes=$3 seconds=$4
mkdir -p "$dir"
for i in $(seq 1 "$scrapes"); do
    next=$(($(date +%s%N) + seconds * 1000000000))
    curl -sSf "$url" -o "$dir/$(printf %05d "$i").prom"
    left=$((next - $(date +%s%N)))
    [ "$left" -le 0 ] || sleep "$(printf '%d.%09d' $((left / 1000000000)) $((left % 1000000000)))"
done
