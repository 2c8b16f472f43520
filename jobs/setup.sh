#!/usr/bin/env bash
# Make .venv in the repository root and install the pinned versions of constraints.txt into it.
#   bash jobs/setup.sh        what the pipeline needs to run
#   bash jobs/setup.sh dev    also the tools of jobs/test.sh, and DeepSpeed's CPU optimizer, compiled for this machine
#   bash jobs/setup.sh full   also the versions of jobs/transformers4.txt, in .venv/transformers4, for `jobs/test.sh --full`
# A second call finds its stamp and returns at once; an interrupted one is repaired by the next call.
# PYTHON=... chooses the interpreter (3.11 or newer). uv is used where it is installed, else pip.
# WHEELS=FOLDER installs from the wheels that jobs/slurm/pack-wheels.sh gathered, without network.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
venv=$root/.venv

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { printf 'setup: error: %s\n' "$*" >&2; exit 2; }

extra=${1:-runtime}
[[ $# -le 1 && $extra =~ ^(runtime|dev|full)$ ]] || fail "unknown argument; usage: bash jobs/setup.sh [dev|full]"

# The scripts in .venv/bin hold the folder's path, so a moved checkout is set up anew.
wanted=$({ printf '%s\n' "$root"; cat pyproject.toml constraints.txt jobs/transformers4.txt jobs/setup.sh; } | sha256sum | cut -d' ' -f1)
stamped() { [[ -x $venv/bin/python && -f $venv/stamp.$1 && $(<"$venv/stamp.$1") == "$wanted" ]]; }
build_operators() {   # on this machine's own disk, which outlives neither a new machine nor every restart: asked each time
    [[ $extra == runtime ]] || "$venv/bin/python" -m pipeline.engine.operators >&2 || say "tests of CPU offload will fail"
}
ready() {
    case $extra in
        runtime) stamped runtime || stamped dev ;;
        dev) stamped dev ;;
        full) stamped dev && stamped full ;;
    esac
}

if ready; then
    build_operators
    exit 0
fi

if command -v flock >/dev/null; then
    exec 9<"$root"
    flock -n 9 || { say "another set-up is at work in this folder; waiting for it"; flock 9; }
    if ready; then
        build_operators
        exit 0
    fi
fi
trap 'say "interrupted; run the same command again to go on"; exit 130' INT TERM

find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            printf '%s' "$candidate"
            return
        fi
        [[ -z ${PYTHON:-} ]] || fail "PYTHON=$PYTHON is not a Python 3.11 or newer"
    done
    fail "found no Python 3.11 or newer; install one (Debian: apt install python3 python3-venv) or set PYTHON=/path/to/python3"
}

check_tools() {
    command -v git >/dev/null || fail "found no git; install it (Debian: apt install git)"
    command -v c++ >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null ||
        fail "found no C++ compiler, with which DeepSpeed builds its CPU optimizer; install one (Debian: apt install g++)"
    "$python" -c 'import venv, ensurepip' 2>/dev/null ||
        fail "$python cannot make virtual environments; install venv and ensurepip (Debian: apt install python3-venv)"
}

has_gpu() { [[ -e /dev/nvidiactl ]] || nvidia-smi -L >/dev/null 2>&1; }

step() {   # step "what" command...: run it, print its seconds; `set -e` does not reach into a command run this way
    local what=$1 started=$SECONDS
    shift
    say "$what ..."
    "$@" >&2 || fail "$what failed; the messages are above. Run the same command again after putting it right."
    say "$what: done in $((SECONDS - started)) s"
}

make_venv() {
    # Kept only where it was finished, for this folder: a half-made or moved one has no working pip or other paths.
    if [[ -f $venv/place && $(<"$venv/place") == "$root" ]] && "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
        return
    fi
    rm -rf "$venv" && "$python" -m venv "$venv" && printf '%s' "$root" >"$venv/place"
}

forget_unfinished() {   # a distribution's RECORD is written last: without it the installer would call it satisfied
    local info
    for info in "$venv"/lib/python3*/site-packages/*.dist-info; do
        [[ ! -d $info || -f $info/RECORD ]] || rm -rf "$info"
    done
}

install() {
    if [[ $uv ]]; then
        # uv knows PyTorch's own indexes: without a GPU it takes the CPU build.
        "$uv" pip install --quiet --python "$venv/bin/python" --torch-backend=auto -c constraints.txt "$@"
    else
        # Compiling every module takes longer than compiling the imported ones at their first import.
        "$venv/bin/python" -m pip install -qq --disable-pip-version-check --no-compile -c constraints.txt "$@"
    fi
}

install_transformers4() {   # without dependencies: all others, torch too, are those of .venv
    local folder=$venv/transformers4
    rm -rf "$folder"
    if [[ $uv ]]; then
        "$uv" pip install --quiet --python "$venv/bin/python" --no-deps --target "$folder" -r jobs/transformers4.txt
    else
        "$venv/bin/python" -m pip install -qq --disable-pip-version-check --no-compile --no-deps --target "$folder" \
            -r jobs/transformers4.txt
    fi
}

install_torch() {
    install torch && return
    [[ $uv ]] || return 1
    say "uv could not install torch (no way to PyTorch's index?); trying pip as it is configured here"
    uv=
    install torch
}

choose_installer() {
    if [[ ${WHEELS:-} ]]; then
        [[ -d $WHEELS ]] || fail "WHEELS=$WHEELS: no such folder; name the one that jobs/slurm/pack-wheels.sh filled"
        uv=
        # pip passes these on to what builds the pipeline, too.
        export PIP_NO_INDEX=1 PIP_FIND_LINKS=$WHEELS
        return
    fi
    # (grep without -q below: it would end the pipe early, which pipefail takes for a failure.)
    # The `torch` of the Python package index is a CUDA build of several GB on Linux. That is right with a GPU. Without
    # one, and where pip has not been pointed at a CPU build, uv fetches the CPU build.
    uv=$(command -v uv || true)
    if [[ $uv ]] && ! "$uv" pip install --help 2>/dev/null | grep -- --torch-backend >/dev/null; then
        uv=
    fi
    [[ $uv ]] || has_gpu || ! offers_cuda || {
        step "no GPU here, and pip would take torch's CUDA build: install uv, which finds the CPU build" install uv
        uv=$venv/bin/uv
    }
}

offers_cuda() {   # whether pip would take a torch that brings CUDA libraries; reads metadata only
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --dry-run --ignore-installed --no-deps \
        --report - -c constraints.txt torch 2>/dev/null | grep -E '"(nvidia-|cuda-)' >/dev/null
}

python=$(find_python)
check_tools
uv=
step "make .venv with $("$python" --version)" make_venv
forget_unfinished
choose_installer
if [[ $extra == runtime ]]; then
    step "install torch" install_torch
    step "install the pinned packages" install -e .
elif ! stamped dev; then
    step "install torch" install_torch
    step "install the pinned packages and the development tools" install -e '.[dev]'
    printf '%s' "$wanted" >"$venv/stamp.dev"
fi
if [[ $extra == full ]]; then
    step "install transformers 4 beside it, which tests of exports read with" install_transformers4
fi
printf '%s' "$wanted" >"$venv/stamp.$extra"
build_operators
say "ready after $SECONDS s"
