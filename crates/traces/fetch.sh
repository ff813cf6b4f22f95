#!/bin/sh
# Fetches a real log to try the import on: UniLu-Gaia-2014-2.swf, 51 987 jobs of the University of Luxembourg's cluster
# Gaia, out of the source package of evalys 4.0.7. Idempotent: a log with the right hash is left alone.
set -eu

package=evalys
version=4.0.7
log=UniLu-Gaia-2014-2.swf
log_sha256=56fce4136ef8eec4e8403fb07e194e96bd5d6a519fef87ca7b6111d169e62646
archive=$package-$version.tar.gz

fail() {
    printf 'fetch.sh: %s\n' "$*" >&2
    exit 1
}

[ $# -eq 1 ] || fail "usage: crates/traces/fetch.sh FOLDER"
mkdir -p "$1" || fail "cannot create $1; choose a folder you may write to"
folder=$(cd "$1" && pwd)

is_right() {
    [ -f "$1" ] && [ "$(sha256sum "$1" | cut -d ' ' -f 1)" = "$log_sha256" ]
}

# the tools' Python where `make tools` has been run, else one of its own
find_python() {
    python=${TWINSCALER_TOOLS:-}/cloud/bin/python
    if [ ! -x "$python" ]; then
        python=$folder/venv/bin/python
        [ -x "$python" ] || python3 -m venv "$folder/venv" >"$folder/fetch.log" 2>&1 ||
            fail "python3 cannot make a virtual environment; see $folder/fetch.log (Debian: apt-get install python3-venv)"
    fi
    printf '%s\n' "$python"
}

if ! is_right "$folder/$log"; then
    python=$(find_python)
    # only the package itself from source: what it is built with may come as it is
    "$python" -m pip download --disable-pip-version-check --no-deps --no-binary "$package" --dest "$folder" \
        "$package==$version" >"$folder/fetch.log" 2>&1 || {
        tail -n 15 "$folder/fetch.log" >&2
        fail "pip could not download $package $version (see above, or $folder/fetch.log);" \
            "check the network or the package index that pip is configured for, and run this again"
    }
    tar -xzOf "$folder/$archive" "$package-$version/examples/$log" >"$folder/$log.part" ||
        fail "$archive has no examples/$log; delete $folder/$archive and run this again"
    is_right "$folder/$log.part" ||
        fail "$log is not the one that is known (SHA-256 $log_sha256); delete $folder/$archive and run this again"
    mv "$folder/$log.part" "$folder/$log"
fi
printf '%s\n' "$folder/$log"
