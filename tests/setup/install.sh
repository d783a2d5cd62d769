#!/usr/bin/env bash
# Installs the named tools with apt where they are missing, and says so. Rust itself is a prerequisite.
set -euo pipefail

packages=()
need() { # command, package…
    command -v "$1" >/dev/null 2>&1 && return
    shift
    packages+=("$@")
}

for tool in "$@"; do
    case $tool in
        cc) need cc gcc libc6-dev; need g++ g++; need pkg-config pkg-config ;;
        make) need make make ;;
        node) need node nodejs npm; need npm npm ;;
        java) need java default-jre-headless ;;
        maven) need mvn maven ;;
        chromium) need chromium chromium ;;
        *) echo "install.sh: unknown tool $tool" >&2; exit 2 ;;
    esac
done

command -v cargo >/dev/null 2>&1 || { echo "Rust is needed: https://rustup.rs" >&2; exit 1; }
[ ${#packages[@]} -eq 0 ] && exit 0
if ! command -v apt-get >/dev/null 2>&1; then
    echo "Please install: ${packages[*]} (there is no apt-get here to do it)" >&2
    exit 1
fi
echo "Installing with apt-get: ${packages[*]}"
as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)
"${as_root[@]}" apt-get update -qq
DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
