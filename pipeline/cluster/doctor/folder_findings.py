"""Findings about the folders that all nodes must see: writable, the same, with equal content.

Pure: works on the reports of the nodes that answered.
"""

from collections.abc import Mapping

from pipeline.cluster.doctor.finding import Finding, Verdict
from pipeline.cluster.doctor.node_findings import Reports, most_common
from pipeline.errors import first_of
from pipeline.work.node_reports import RateReport

CHECK = "folders"
SHARED_REMEDY = (
    "mount the same shared file system at this path on all nodes (`df PATH` on both shows what is "
    "mounted), or set the path to a folder on one"
)


def folder_findings(
    reports: Reports,
    rates: Mapping[str, RateReport],
    folders: Mapping[str, str],
    may_be_read_only: frozenset[str],
) -> list[Finding]:
    """Judge each folder that the run writes to, `folders` by setting.

    `may_be_read_only` names the settings of folders that already hold what the run reads.
    """
    findings: list[Finding] = []
    for setting, folder in folders.items():
        for node, report in reports.items():
            problem = report["folders"].get(setting, "")
            if problem and f"write {setting}" not in report["problems"]:
                findings.append(_not_writable(node, setting, folder, problem, may_be_read_only))

        # Where a node cannot write, the others cannot see its probe file.
        writers = nodes_that_wrote(reports, setting)
        for node, rate in rates.items():
            if f"see {setting}" in rate["problems"] or setting not in rate["probes"]:
                continue
            unseen = [name for name in writers if name not in rate["probes"][setting]]
            if unseen:
                text = f"{setting} = {folder}: does not show what {first_of(unseen, 4)} wrote there"
                findings.append(Finding(CHECK, node, text, "stops", SHARED_REMEDY))
            elif node in writers:
                seen = f"{setting}: writable"
                if len(writers) > 1:
                    seen += f", shows what {len(writers)} nodes wrote"
                findings.append(Finding(CHECK, node, seen))
    return findings


def nodes_that_wrote(reports: Reports, setting: str) -> list[str]:
    """Return the nodes that have written their probe file into a folder."""
    return [node for node, report in reports.items() if not report["folders"].get(setting, "")]


def _not_writable(
    node: str, setting: str, folder: str, problem: str, may_be_read_only: frozenset[str]
) -> Finding:
    verdict: Verdict = "stops"
    remedy = "make the folder writable for this user on the node, or name another one"
    if setting in may_be_read_only:
        verdict = "warning"
        remedy = "nothing, if no data stage has to run again: what training reads is there"
    return Finding(CHECK, node, f"{setting} = {folder}: not writable ({problem})", verdict, remedy)


def listing_findings(reports: Reports, compared: Mapping[str, str]) -> list[Finding]:
    """Compare names and sizes of the files that the nodes see in each compared folder."""
    findings: list[Finding] = []
    for setting, folder in compared.items():
        listings = {
            node: report["listings"].get(setting, "")
            for node, report in reports.items()
            if f"list {setting}" not in report["problems"]
        }
        common = most_common(listings.values())
        for node, listing in listings.items():
            if listing == common:
                if len(listings) > 1:
                    findings.append(Finding(CHECK, node, f"{setting}: the same files"))
                continue
            findings.append(
                Finding(
                    CHECK,
                    node,
                    f"{setting} = {folder}: other files, or other sizes, than elsewhere",
                    "stops",
                    SHARED_REMEDY + "; if a stage is writing there now, wait for its end",
                )
            )
    return findings
