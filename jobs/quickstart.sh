#!/usr/bin/env bash
# From nothing to few-shot scores: sets .venv up, then text -> tokens -> trained model -> scores -> report.
#   bash jobs/quickstart.sh [section.field=value ...]
# Started again it skips what is done; interrupted with Ctrl-C and started again it goes on.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash jobs/setup.sh
# The launcher and every rank import torch: without kept bytecode each would compile its source anew.
unset PYTHONDONTWRITEBYTECODE
exec .venv/bin/pipeline run jobs/quickstart.yaml "$@"
