"""Write observed.json: what the pipeline of one checkout offers and makes, for `test_black_box.py`
to compare with. With PIPELINE_TEST_QUICKSTART_CORPUS write observed_quickstart.json, too.

    python tests/black_box/record.py [CHECKOUT]     default: the one that this file lies in

Forms are written anew; numbers are added for this kind of machine and kept for the others. Written
once, before a redesign, by the commit that it is to be compared with: recording again from changed
code would prove nothing.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from reference import digest, files_of_data, kind_of_machine, observe_run, offered
from scenarios import ROOT, RUNS, SLICES, Program, make_corpus, run_quickstart, write_run_file

OBSERVED = Path(__file__).with_name("observed.json")
OBSERVED_QUICKSTART = Path(__file__).with_name("observed_quickstart.json")
QUICKSTART_CORPUS = os.environ.get("PIPELINE_TEST_QUICKSTART_CORPUS")
"""Folder of the corpus for the quickstart: five `.jsonl.zst` files of 138 MB of text together."""


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


def observe_quickstart(program: Program, folder: Path, corpus: Path) -> dict[str, Any]:
    """Return all that can be observed of the quickstart on a real corpus, made in an empty
    folder."""
    run_quickstart(folder, program, corpus)
    run = observe_run(program, folder, "quickstart")
    return {
        "corpus": digests_of_corpus(corpus),
        "data": files_of_data(folder / "data"),
        "form": run["form"],
        "numbers": run["numbers"],
    }


def digests_of_corpus(corpus: Path) -> dict[str, str]:
    """Return the digest of each file of the real corpus."""
    return {name: digest((corpus / f"{name}.jsonl.zst").read_bytes()) for name in SLICES}


def write_record(path: Path, commit: str, observed: dict[str, Any]) -> None:
    """Write what was observed; keep the numbers of other kinds of machines."""
    numbers = json.loads(path.read_text())["numbers"] if path.exists() else {}
    numbers[kind_of_machine()] = observed.pop("numbers")
    record = {"commit": commit, **observed, "numbers": numbers}
    path.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")


def main() -> None:
    """Record a checkout."""
    checkout = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else ROOT
    program = Program(checkout)
    head = ["git", "-C", checkout, "rev-parse", "HEAD"]
    commit = subprocess.run(head, capture_output=True, text=True, check=True).stdout.strip()
    with tempfile.TemporaryDirectory() as folder:
        write_record(OBSERVED, commit, observe(program, Path(folder)))
    if QUICKSTART_CORPUS:
        with tempfile.TemporaryDirectory() as folder:
            corpus = Path(QUICKSTART_CORPUS).resolve()
            observed = observe_quickstart(program, Path(folder), corpus)
            write_record(OBSERVED_QUICKSTART, commit, observed)


if __name__ == "__main__":
    main()
