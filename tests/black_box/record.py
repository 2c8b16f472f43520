"""Write observed.json: what the pipeline of one checkout offers and makes, for `test_black_box.py`
to compare with.

    python tests/black_box/record.py [CHECKOUT]     default: the one that this file lies in

Forms are written anew; numbers are added for this kind of machine and kept for the others. Written
once, before a redesign, by the commit that it is to be compared with: recording again from changed
code would prove nothing.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from reference import files_of_data, kind_of_machine, observe_run, offered
from scenarios import ROOT, RUNS, Program, make_corpus, write_run_file

OBSERVED = Path(__file__).with_name("observed.json")


def observe(program: Program, folder: Path) -> dict[str, Any]:
    """Return all that can be observed, made in an empty folder."""
    make_corpus(folder)
    write_run_file(folder, program)
    runs = {}
    for name, run in RUNS.items():
        run(folder, program)
        runs[name] = observe_run(program, folder, name)
    return {
        "options": offered(program, folder),
        "data": files_of_data(folder / "data"),
        "forms": {name: run["form"] for name, run in runs.items()},
        "numbers": {name: run["numbers"] for name, run in runs.items()},
    }


def main() -> None:
    """Record a checkout."""
    checkout = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else ROOT
    commit = subprocess.run(
        ["git", "-C", checkout, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    )
    with tempfile.TemporaryDirectory() as folder:
        observed = observe(Program(checkout), Path(folder))
    numbers = json.loads(OBSERVED.read_text())["numbers"] if OBSERVED.exists() else {}
    numbers[kind_of_machine()] = observed.pop("numbers")
    record = {"commit": commit.stdout.strip(), **observed, "numbers": numbers}
    OBSERVED.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
