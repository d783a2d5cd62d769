#!/usr/bin/env bash
# Unpacks Debian's prometheus, prometheus-node-exporter and prometheus-alertmanager, with which answers, metrics and
# notifications are compared, and libfaketime, into the user's cache; nothing is installed, no service starts. Prints
# BINNACLE_TEST_PROMETHEUS=PATH, BINNACLE_TEST_NODE_EXPORTER=PATH, BINNACLE_TEST_FAKETIME=PATH and
# BINNACLE_TEST_ALERTMANAGER=PATH. What is set already is kept.
set -euo pipefail

dir=${XDG_CACHE_HOME:-$HOME/.cache}/binnacle/peers

# fetch VARIABLE PACKAGE PATH: the variable gets the package's file
fetch() {
    if [ -n "${!1:-}" ]; then
        echo "$1=${!1}"
        return
    fi
    if [ ! -e "$dir/$3" ]; then
        if ! command -v apt-get >/dev/null 2>&1; then
            echo "Please set $1 to where $3 is (there is no apt-get here to fetch it)" >&2
            exit 1
        fi
        mkdir -p "$dir"
        (
            cd "$dir"
            apt-get download -qq "$2" >&2 || { apt-get update -qq >&2 && apt-get download -qq "$2" >&2; }
            dpkg -x "$2"_*.deb .
            rm "$2"_*.deb
        )
    fi
    echo "$1=$dir/$3"
}

fetch BINNACLE_TEST_PROMETHEUS prometheus usr/bin/prometheus
fetch BINNACLE_TEST_NODE_EXPORTER prometheus-node-exporter usr/bin/prometheus-node-exporter
fetch BINNACLE_TEST_FAKETIME libfaketime "usr/lib/$(uname -m)-linux-gnu/faketime/libfaketimeMT.so.1"
if [ -n "${BINNACLE_TEST_ALERTMANAGER:-}" ]; then
    echo "BINNACLE_TEST_ALERTMANAGER=$BINNACLE_TEST_ALERTMANAGER"
    exit 0
fi
fetch BINNACLE_TEST_ALERTMANAGER prometheus-alertmanager usr/bin/prometheus-alertmanager >/dev/null
# Debian's wants its templates below /usr/share: in a mount namespace of its own it finds the unpacked ones there.
cat >"$dir/alertmanager" <<'EOS'
#!/bin/sh
dir=$(dirname "$0")
exec unshare -rm sh -c 'mount --bind "$0/usr/share" /usr/share && exec "$0/usr/bin/prometheus-alertmanager" "$@"' "$dir" "$@"
EOS
chmod +x "$dir/alertmanager"
echo "BINNACLE_TEST_ALERTMANAGER=$dir/alertmanager"
