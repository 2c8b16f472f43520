"""What `pipeline doctor` prints: a table of checks, and remedies for what was found wrong."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from pipeline.cli.doctor_needs import needs_of_run
from pipeline.cli.start_checks import note_undescribed, stages_described
from pipeline.cluster.doctor.examination import Needs, examine, kind_to_look_at
from pipeline.cluster.doctor.finding import Finding, Verdict, would_stop
from pipeline.config.run_file import load
from pipeline.errors import UserError
from pipeline.logs import (
    console,
    counted_noun,
    elapsed,
    print_json,
    print_wide,
    styled,
)
from pipeline.store.stages import STAGES

LEAST_WIDTH = 80
"""Columns of the table."""
STYLES: dict[Verdict, str] = {"ok": "green", "warning": "yellow", "stops": "bold red"}


def show_examination(run_file: Path | None, overrides: Sequence[str], as_json: bool) -> None:
    """Print what was found on each node, as a table or as JSON.

    Ends the command with exit code 2 where something would stop the run. Raises UserError for a
    wrong run file, and where it is not known which nodes there are.
    """
    needs = Needs()
    with elapsed("doctor: looking at the nodes") as tick:
        if run_file is not None:
            config = load(run_file, overrides, needs=())
            # Whether a stage is described in part, which no command would run.
            stages_described(STAGES, config)
            note_undescribed("doctor", STAGES, config)
            # Whether the nodes are known, before anything that takes time.
            kind_to_look_at(config).nodes(config)
            needs = needs_of_run(config)
        findings = examine(needs, tick)
    if as_json:
        stops = would_stop(findings)
        print_json({"stops": stops, "findings": [asdict(finding) for finding in findings]})
    else:
        print_findings(findings)
    if would_stop(findings):
        sys.exit(UserError.exit_code)


def print_findings(findings: Sequence[Finding]) -> None:
    """Print a table of findings, and below it what to do about each."""
    _print_table(findings)
    _print_remedies(findings)


def _print_table(findings: Sequence[Finding]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("check", no_wrap=True)
    table.add_column("node", max_width=24)
    table.add_column("seen", ratio=1)
    table.add_column("verdict", no_wrap=True)
    table.add_column("seconds", justify="right", no_wrap=True)
    last = ""
    for finding in findings:
        # Name and seconds of a check stand in its first row.
        check = finding.check
        seconds = f"{finding.seconds:.1f}"
        if check == last:
            check = ""
            seconds = ""
        last = finding.check
        verdict = styled(finding.verdict, STYLES[finding.verdict])
        table.add_row(check, finding.node, finding.seen, verdict, seconds)
    print_wide(table, LEAST_WIDTH)


def _print_remedies(findings: Sequence[Finding]) -> None:
    """Print what to do, most serious first, each remedy once; then whether the run could start."""
    wrong = [finding for finding in findings if finding.verdict != "ok"]
    wrong.sort(key=lambda finding: finding.verdict != "stops")
    remedies: dict[tuple[str, str, Verdict], list[str]] = {}
    for finding in wrong:
        remedies.setdefault((finding.check, finding.remedy, finding.verdict), []).append(
            finding.node
        )
    for (check, remedy, verdict), nodes in remedies.items():
        console.print()
        console.print(f"{verdict}: {check} on {', '.join(dict.fromkeys(nodes))}: {remedy}")

    stopping = sum(finding.verdict == "stops" for finding in findings)
    warnings = len(wrong) - stopping
    console.print()
    if stopping:
        console.print(
            f"{counted_noun(stopping, 'finding')} would stop the run, "
            f"{counted_noun(warnings, 'warning')}"
        )
    else:
        console.print(f"nothing found that would stop a run, {counted_noun(warnings, 'warning')}")
