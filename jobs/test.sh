#!/usr/bin/env bash
# Set .venv up, then format, lint, types and tests; stops at the first tool that fails.
#   bash jobs/test.sh [--full] [--faults] [--cluster] [pytest arguments]
# --full adds the expensive grids, for which it brings transformers 4 as well; --faults a hundred kills of one run, about half an
# hour; --cluster the tests on a Slurm and on nodes of this machine's own, whose packages it installs (Debian, as root). Without
# them pytest's summary says how many were left out. No network is used after these set-ups.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [[ " $* " == *" --full "* ]]; then
    bash jobs/setup.sh full
else
    bash jobs/setup.sh dev
fi

# Hundreds of processes import torch and transformers: without kept bytecode each would compile their source anew.
unset PYTHONDONTWRITEBYTECODE
export HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 TRANSFORMERS_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1
export TOKENIZERS_PARALLELISM=false
# Tests run two ranks, seldom four; with one thread each they do not wait for each other on a small machine.
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

needs_cluster() {
    local program
    for program in munged slurmctld slurmd sbatch srun pdsh sshd ip; do
        command -v "$program" >/dev/null || return 0
    done
    return 1
}

if [[ " $* " == *" --cluster "* ]] && needs_cluster; then
    packages=(slurmctld slurmd slurm-client munge pdsh openssh-server iproute2)
    if [[ $EUID -ne 0 ]] || ! command -v apt-get >/dev/null; then
        printf 'test: --cluster needs root and the Debian packages %s\n' "${packages[*]}" >&2
        exit 2
    fi
    printf 'test: installing %s\n' "${packages[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
fi

# The first import of a library compiles its source: once beside the type checker, and not in each
# process that runs tests.
pytest --collect-only --quiet >/dev/null 2>&1 &
compiling=$!
trap 'kill "$compiling" 2>/dev/null || true' EXIT
check format ruff format --check --quiet .
check lint ruff check --quiet .
check types basedpyright --level error pipeline
wait "$compiling" || true    # the tests report what it cannot collect
trap - EXIT
# Three at a time keep two cores busy: those that start ranks wait for them half of the time.
exec pytest --numprocesses 3 --durations=20 --durations-min=1 --dearest-files=20 "$@"
