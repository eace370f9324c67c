#!/usr/bin/env bash
# Installs what is missing, builds, and becomes `tokenhub up`; arguments are its flags.
#
# PROFILE chooses the cargo profile, CARGO_PROGRAMS and CARGO_FLAGS what is built and how.
set -euo pipefail
source "$(dirname "$0")/setup.sh"

profile="${PROFILE:-release}"
# Two words on purpose: these are lists of arguments.
# shellcheck disable=SC2086
cargo build --locked --profile "$profile" \
    ${CARGO_PROGRAMS:--p tokenhub-hub -p tokenhub-worker -p tokenhub-api} ${CARGO_FLAGS:-}

if [[ -z "${TOKENHUB_LOCAL_MODEL_PYTHON:-}" ]] && wants_local_model && [[ -x "$python" ]]; then
    export TOKENHUB_LOCAL_MODEL_PYTHON="$python"
fi
[[ "$profile" == dev ]] && folder=debug || folder="$profile"
exec "$target/$folder/tokenhub" up "$@"
