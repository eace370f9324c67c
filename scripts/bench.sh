#!/usr/bin/env bash
# Measures on the builds that are shipped, prints a table, writes bench/results/latest.json, and fails when an enforced bar is missed.
# Arguments go to the bench: --quick for a check that it works, --out FILE, --temporal-database file.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
cd "$root"

# One selection is measured without anything beside it.
if [ "${1:-}" = select ]; then
    cargo build --locked --profile dist --bin tokenhub-bench -p tokenhub-bench
    exec "$target/dist/tokenhub-bench" select
fi
if [ -z "${TOKENHUB_TEMPORAL_BIN:-}" ]; then need_temporal; fi

cargo build --locked --profile dist --bins -p tokenhub-bench -p tokenhub-api -p tokenhub-worker -p tokenhub-demo
command -v nginx > /dev/null || say "nginx is not on PATH: what the fast path adds has nothing to be compared with"
exec "$target/dist/tokenhub-bench" "$@"
