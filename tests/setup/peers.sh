#!/usr/bin/env bash
# Unpacks Debian's prometheus, with which answers are compared, into the user's cache; nothing is installed, no service
# starts. Prints BINNACLE_TEST_PROMETHEUS=PATH. Where that is set already, it is kept.
set -euo pipefail

if [ -n "${BINNACLE_TEST_PROMETHEUS:-}" ]; then
    echo "BINNACLE_TEST_PROMETHEUS=$BINNACLE_TEST_PROMETHEUS"
    exit 0
fi
dir=${XDG_CACHE_HOME:-$HOME/.cache}/binnacle/peers
if [ ! -x "$dir/usr/bin/prometheus" ]; then
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "Please set BINNACLE_TEST_PROMETHEUS to a prometheus binary (there is no apt-get here to fetch one)" >&2
        exit 1
    fi
    mkdir -p "$dir"
    cd "$dir"
    apt-get download -qq prometheus >&2 || { apt-get update -qq >&2 && apt-get download -qq prometheus >&2; }
    dpkg -x prometheus_*.deb .
    rm prometheus_*.deb
fi
echo "BINNACLE_TEST_PROMETHEUS=$dir/usr/bin/prometheus"
