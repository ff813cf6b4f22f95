#!/bin/sh
# Sets up the local cloud's tools: Python virtual environments under TOOLS_DIR, those named or all: `cloud`, `graphite`
# and `onnx` (onnxruntime, for one test).
# Idempotent: an environment whose stamp holds the hash of its requirements is left alone.
set -eu

fail() {
    printf 'setup.sh: %s\n' "$*" >&2
    exit 1
}

[ $# -ge 1 ] || fail "usage: tests/localcloud/setup.sh TOOLS_DIR [ENVIRONMENT...]"

here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1" || fail "cannot create $1; choose a directory you may write to"
tools=$(cd "$1" && pwd)
shift
[ $# -gt 0 ] || set -- cloud graphite onnx

# Graphite 1.1.10 does not install on Python 3.12 or newer; ministack does not on 3.9 or older.
usable() {
    command -v "$1" >/dev/null 2>&1 &&
        "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 11))' 2>/dev/null
}

find_python() {
    for candidate in ${TWINSCALER_PYTHON:-python3 python3.11 python3.10}; do
        if usable "$candidate"; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    fail "no Python 3.10 or 3.11 found (tried: ${TWINSCALER_PYTHON:-python3 python3.11 python3.10});" \
        "install one (Debian 12: apt-get install python3 python3-venv) or name it in TWINSCALER_PYTHON"
}

install_environment() {
    name=$1
    requirements=$here/requirements/$name.txt
    [ -f "$requirements" ] || fail "there is no environment $name; there are cloud, graphite and onnx"
    environment=$tools/$name
    hash=$(sha256sum "$requirements" | cut -d ' ' -f 1)
    if [ "$(cat "$environment/.requirements" 2>/dev/null)" = "$hash" ]; then
        return
    fi

    python=$(find_python)
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "$python cannot make virtual environments; install its venv module (Debian: apt-get install python3-venv)"
    printf 'setting up %s (log: %s)\n' "$environment" "$tools/$name.log"
    rm -rf "$environment"
    "$python" -m venv "$environment" >"$tools/$name.log" 2>&1 ||
        fail "cannot create $environment; see $tools/$name.log"
    "$environment/bin/pip" install --disable-pip-version-check -r "$requirements" >>"$tools/$name.log" 2>&1 || {
        tail -n 15 "$tools/$name.log" >&2
        fail "pip could not install $requirements (see above, or $tools/$name.log);" \
            "check the network or the package index that pip is configured for, and run this again"
    }
    printf '%s\n' "$hash" >"$environment/.requirements"
}

for wanted in "$@"; do
    install_environment "$wanted"
done
