#!/bin/sh
# Makes .venv with everything that `make up` (or the groups named) needs: finds Python, gets uv, installs from uv.lock.
#
#   scripts/bootstrap.sh [test] [lint]
#
# Does nothing, and asks no network, when .venv already holds what uv.lock says. PYTHON names another Python.
set -eu
cd "$(dirname "$0")/.."

say() { printf '%s\n' "$*" >&2; }
fail() { # cause, mend
    say "error: $1; $2"
    exit 1
}

network_fault() { # what a package tool said; ends here if it speaks of the network
    why=$(printf '%s\n' "$1" | grep -oiE 'connection refused|name or service not known|name resolution|network is unreachable|no route to host|timed out|dns error|failed to lookup address|certificate verify failed|invalid peer certificate|proxyerror|tunnel error|error trying to connect|no matching distribution found for [^ ]*' | tail -n 1)
    [ -z "$why" ] && return 0
    fail "the Python package registry cannot be reached: $why" \
        "check network, proxy and certificates (pip's own settings are used), then run the same again: what was fetched is kept"
}

groups="$*"
venv=.venv
tools=.tools

# Two at once would build the same folders under each other's feet.
if command -v flock >/dev/null 2>&1; then
    exec 9<scripts/bootstrap.sh
    flock 9
fi

# ---- what is asked for, against what is there ------------------------------------------------------------------
stamp_of() { # a line that changes whenever the group would be installed differently
    cat uv.lock pyproject.toml gpu-server/pyproject.toml litellm/embedded/pyproject.toml scripts/bootstrap.sh | cksum
    pwd
}
current=$(stamp_of)
missing=""
for group in base $groups; do
    if [ ! -x "$venv/bin/python" ] || [ "$(cat "$venv/.installed-$group" 2>/dev/null)" != "$current" ]; then
        missing="$missing $group"
    fi
done
[ -z "$missing" ] && exit 0

# ---- Python ---------------------------------------------------------------------------------------------------
is_new_enough() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }

python=""
for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
    if command -v "$candidate" >/dev/null 2>&1 && is_new_enough "$candidate"; then
        python=$(command -v "$candidate")
        break
    fi
done
if [ -z "$python" ]; then
    found=$("${PYTHON:-python3}" --version 2>&1 || true)
    fail "Corral needs Python 3.11 to 3.13, found: ${found:-none}" \
        "install python3.11 or later (Debian 12, Ubuntu 24.04: apt-get install python3), or name one: make up PYTHON=/path/to/python3"
fi

# A link or a shim would not be known again as the interpreter of .venv, and uv would make .venv anew each time, under
# the feet of a running farm.
if [ -z "${PYTHON:-}" ] && [ -x "$venv/bin/python" ] && is_new_enough "$venv/bin/python"; then
    interpreter="$venv/bin/python"
else
    interpreter=$("$python" -c 'import os, sys; print(os.path.realpath(sys._base_executable))')
fi

# ---- room -----------------------------------------------------------------------------------------------------
need_mib=3000
free_mib=$(($(df -Pk . | awk 'NR == 2 { print $4 }') / 1024))
if [ ! -x "$venv/bin/python" ] && [ "$free_mib" -lt "$need_mib" ]; then
    fail "no room on disk: the installation takes about $need_mib MiB, $free_mib MiB are free in $(pwd)" \
        "free some, or clone onto a larger file system"
fi

# ---- uv -------------------------------------------------------------------------------------------------------
has_venv() { "$python" -c 'import ensurepip, venv' 2>/dev/null; }

if [ ! -x "$tools/bin/uv" ] || [ "$(cat "$tools/.installed" 2>/dev/null)" != "$(cksum <scripts/uv.txt)" ]; then
    if ! has_venv; then
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
            say "This Python has no ensurepip: installing python$version-venv."
            said=$({ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "python$version-venv"; } 2>&1) ||
                fail "python$version-venv could not be installed: $(printf '%s\n' "$said" | tail -n 1)" \
                    "install it by hand: apt-get install python$version-venv"
        fi
        has_venv || fail "$python has no ensurepip" "install it: sudo apt-get install python$version-venv"
    fi
    say "Getting uv ..."
    rm -rf "$tools"
    "$python" -m venv "$tools" || fail "$python cannot make a virtual environment here" "see the lines above"
    if ! said=$("$tools/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
        -r scripts/uv.txt 2>&1); then
        network_fault "$said"
        fail "uv could not be installed: $(printf '%s\n' "$said" | tail -n 1)" "run it by hand: $tools/bin/pip install -r scripts/uv.txt"
    fi
    cksum <scripts/uv.txt >"$tools/.installed"
fi

# ---- Node: the machine's own, else the packaged one --------------------------------------------------------------
set -- --extra models
if ! { command -v npm && node -e 'process.exit(Number(process.versions.node.split(".")[0]) < 18 ? 1 : 0)'; } >/dev/null 2>&1; then
    set -- "$@" --extra node
fi
for group in $groups; do set -- "$@" --group "$group"; done

# ---- .venv ----------------------------------------------------------------------------------------------------
# pip's settings are the ones people have: let uv have them too.
pip_setting() { "$tools/bin/python" -m pip config get "global.$1" 2>/dev/null || true; }
if [ -z "${UV_DEFAULT_INDEX:-}${UV_INDEX_URL:-}" ]; then
    index=${PIP_INDEX_URL:-$(pip_setting index-url)}
    [ -n "$index" ] && export UV_DEFAULT_INDEX="$index"
fi
certificate=${PIP_CERT:-$(pip_setting cert)}
[ -n "$certificate" ] && [ -z "${SSL_CERT_FILE:-}" ] && export SSL_CERT_FILE="$certificate"

say "Installing Python packages from uv.lock ..."
rm -f "$venv"/.installed-*
if ! said=$(UV_PYTHON_DOWNLOADS=never "$tools/bin/uv" sync --frozen --inexact --quiet --python "$interpreter" "$@" 2>&1); then
    network_fault "$said"
    say "$said"
    fail "the Python packages could not be installed; uv's words are above" "mend that, then run the same again"
fi
for group in base $groups; do printf '%s\n' "$current" >"$venv/.installed-$group"; done
