"""What tests of several folders call."""

from pathlib import Path

from pipeline.artifacts import file_record


def run_stages(run_file: Path, names: list[str], overrides: list[str]) -> None:
    """Run stages in this process as the command line would, with one worker."""
    from pipeline import commands
    from pipeline.__main__ import STAGES

    table = {stage.name: stage for stage in STAGES}
    for name in names:
        commands.run_one(STAGES, table[name], run_file, ["executor.workers=1", *overrides])


def digests(folder: Path) -> dict[str, str]:
    """Return the checksum of every finished file below a folder, by its path; no manifests, no hidden files."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    names = {path.relative_to(folder): path for path in files}
    return {
        name.as_posix(): file_record(path)["checksum"]
        for name, path in sorted(names.items())
        if path.name != "manifest.json" and not any(part.startswith(".") for part in name.parts)
    }
