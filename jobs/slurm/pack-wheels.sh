#!/usr/bin/env bash
# Gather the wheels of the pipeline and of all that it needs, on a machine with network, for machines without.
#   bash jobs/slurm/pack-wheels.sh FOLDER                       for this machine's processor and Python
#   bash jobs/slurm/pack-wheels.sh FOLDER aarch64 3.12 2.34     for another processor, Python, and C library (`ldd --version` there)
# Then copy FOLDER to the site and set up there: WHEELS=FOLDER bash jobs/setup.sh
# A second call downloads only what is missing. PYTHON=... chooses the interpreter, whose pip is used as it is configured.
set -euo pipefail

say() { printf 'pack-wheels: %s\n' "$*" >&2; }
fail() { printf 'pack-wheels: error: %s\n' "$*" >&2; exit 2; }

[[ $# -ge 1 && $# -le 4 ]] || fail "usage: bash jobs/slurm/pack-wheels.sh FOLDER [x86_64|aarch64] [PYTHON VERSION] [GLIBC VERSION]"
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
python=${PYTHON:-python3}
"$python" -m pip --version >/dev/null 2>&1 || fail "$python has no pip; set PYTHON=/path/to/python3"
mkdir -p "$1"
folder=$(cd "$1" && pwd)
processor=${2:-$(uname -m)}
version=${3:-$("$python" -c 'import sys; print("{}.{}".format(*sys.version_info))')}
glibc=${4:-2.28}
[[ $processor =~ ^(x86_64|aarch64)$ ]] || fail "unknown processor $processor; there are x86_64 and aarch64"
[[ $version =~ ^3\.(1[1-9])$ ]] || fail "Python $version: must be 3.11 or newer"
[[ $glibc =~ ^2\.([0-9]+)$ && ${BASH_REMATCH[1]} -ge 17 ]] || fail "C library $glibc: must be 2.17 or newer, for example 2.34"
newest=${BASH_REMATCH[1]}
cd "$root"
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT

# pip takes a wheel of an older C library only where each one is named.
platforms=(--platform "manylinux2014_$processor" --platform "linux_$processor")
for ((minor = newest; minor >= 17; minor--)); do
    platforms+=(--platform "manylinux_2_${minor}_$processor")
done

# The pipeline itself, from a copy without what earlier builds left.
say "build the pipeline's own wheel"
git ls-files -z | grep -zE '^(pipeline|ds_configs|tokenizer|jobs)/|^(pyproject.toml|README.md|LICENSE)$' |
    xargs -0 cp -P --parents -t "$temporary"
"$python" -m pip wheel --quiet --no-deps --wheel-dir "$folder" "$temporary"
own=("$folder"/pipeline-*-none-any.whl)

# Packages without wheels are built here: pip would not build them for another machine.
say "find packages that are published as source only"
"$python" -m pip install --quiet --dry-run --ignore-installed --report "$temporary/report.json" -c constraints.txt "${own[-1]}"
mapfile -t sources < <("$python" - "$temporary/report.json" <<'END'
import json
import sys

for package in json.load(open(sys.argv[1]))["install"]:
    if not package["download_info"]["url"].endswith(".whl"):
        print(f"{package['metadata']['name']}=={package['metadata']['version']}")
END
)
if ((${#sources[@]})); then
    say "build ${sources[*]}"
    "$python" -m pip wheel --quiet --no-deps --wheel-dir "$temporary/built" "${sources[@]}"
    for wheel in "$temporary"/built/*.whl; do
        [[ $wheel == *-none-any.whl || $processor == "$(uname -m)" ]] ||
            fail "$(basename "$wheel") holds code of this machine's processor; run this script on a machine with $processor"
    done
    cp "$temporary"/built/*.whl "$folder"
fi

say "download the other packages for Python $version on $processor"
"$python" -m pip download --quiet --only-binary=:all: --implementation cp --python-version "$version" "${platforms[@]}" \
    --find-links "$folder" --dest "$folder" -c constraints.txt "${own[-1]}" pip setuptools wheel
say "$(find "$folder" -name '*.whl' | wc -l) wheels in $folder; copy it to the site, then run there: WHEELS=FOLDER bash jobs/setup.sh"
