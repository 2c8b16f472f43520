#!/usr/bin/env bash
# Set .venv up, then format, lint, types and tests; stops at the first tool that fails.
#   bash jobs/test.sh [--full] [--cluster] [pytest arguments]
# --full adds the expensive grids and long fault runs, --cluster the tests that need a cluster; without them pytest's
# summary says how many were left out. No network is used after the set-up.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash jobs/setup.sh dev

export HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 TRANSFORMERS_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1
export TOKENIZERS_PARALLELISM=false
# Tests run two ranks at most; with one thread each they do not wait for each other on a small machine.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
export PATH=$PWD/.venv/bin:$PATH

check() {   # check "what" command...: run it; its output is shown only when it fails
    local what=$1 output
    shift
    output=$("$@" 2>&1) || {
        printf '%s\ntest: %s failed: %s\n' "$output" "$what" "$*" >&2
        exit 1
    }
    printf 'test: %s passed\n' "$what"
}

check format ruff format --check --quiet .
check lint ruff check --quiet .
check types basedpyright --level error pipeline
exec pytest "$@"
