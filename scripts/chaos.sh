#!/usr/bin/env bash
# Kills processes at drawn moments for half an hour, and asserts that no plan is lost, stuck, wrong or paid twice untold.
#
# CHAOS_SEED repeats a run, CHAOS_SECONDS and CHAOS_KILLS shorten the storm. Arguments are parts of names of tests; without
# any, all of them run. They run one after the other: one of them stops the database of all.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
cd "$root"

need_temporal
need_postgres

features="tokenhub-worker/fault-points,tokenhub-activities/fault-points"
cargo build --locked --workspace --bins --features "$features"
if [ $# = 0 ]; then set -- chaos:: strategies:: tenants::; fi
exec cargo test --locked --workspace --features "$features" --test e2e -- --ignored --nocapture --test-threads=1 "$@"
