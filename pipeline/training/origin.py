"""What a run begins from: another run's checkpoint (`train.init_from`) or a transformers folder
(`model.pretrained`).

Reads manifests, and of weights a sample; free of torch. The other run is never written to.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from pipeline.checkpoint.folders import complete_checkpoints, read_checkpoint_manifest
from pipeline.config.run_config import RunConfig
from pipeline.errors import ConfigError, DataError
from pipeline.store.counts import LineageEntry
from pipeline.store.files import file_record
from pipeline.store.layout import RunFolder, manifest_path
from pipeline.store.pretrained_folders import content_of_model_folder
from pipeline.store.records import CheckpointManifest


@dataclass(frozen=True)
class Origin:
    """The checkpoint that a run begins from."""

    checkpoint: Path
    manifest: CheckpointManifest

    @property
    def run(self) -> Path:
        return self.checkpoint.parents[1]

    def lineage(self) -> list[LineageEntry]:
        """Return the checkpoints that led here, the oldest first."""
        last: LineageEntry = {
            "run": str(self.run),
            "step": self.manifest["state"]["step"],
            "checkpoint": file_record(manifest_path(self.checkpoint))["checksum"],
        }
        return [*self.manifest.get("lineage", []), last]


def find_origin(config: RunConfig) -> Origin | None:
    """Return what `train.init_from` names, None where it is not set. Raises ConfigError naming the
    steps that there are."""
    if config.train.init_from is None:
        return None
    run, step = _run_and_step(config.train.init_from)
    setting = f"train.init_from = {config.train.init_from}"
    if run == config.paths.run_dir:
        raise ConfigError(
            [f"{setting}: is this run's own folder; choose another paths.run_dir for the branch"]
        )
    checkpoints = complete_checkpoints(RunFolder(run).checkpoints)
    if not checkpoints:
        raise ConfigError(
            [
                f"{setting}: {RunFolder(run).checkpoints} holds no complete checkpoint; name the folder "
                "of a run"
            ]
        )
    chosen = checkpoints[-1] if step is None else RunFolder(run).checkpoint(step)
    if chosen not in checkpoints:
        raise ConfigError(
            [f"{setting}: no such checkpoint; there are those of step {_steps(checkpoints)}"]
        )
    return Origin(chosen, read_checkpoint_manifest(chosen))


def refuse_damaged(origin: Origin, damage: list[str]) -> None:
    """Raise DataError where a checkpoint is not what was written."""
    if damage:
        others = [
            path
            for path in complete_checkpoints(origin.checkpoint.parent)
            if path != origin.checkpoint
        ]
        remedy = (
            f"name another step with train.init_from: {_steps(others)}"
            if others
            else "it is the only one there"
        )
        raise DataError(f"{origin.checkpoint}: is damaged: {', '.join(damage)}; {remedy}")


def inventory(config: RunConfig) -> dict[str, str | None]:
    """Describe what a run begins from by content, for the stage's fingerprint; None for what has
    been moved away.

    `RUN` without a step is `newest`: a run that has begun stays what it is when that run goes on.
    """
    described: dict[str, str | None] = {}
    if config.train.init_from is not None:
        run, step = _run_and_step(config.train.init_from)
        manifest = manifest_path(RunFolder(run).checkpoint(step or 0))
        described["train.init_from"] = (
            "newest"
            if step is None
            else file_record(manifest)["checksum"]
            if manifest.is_file()
            else None
        )
    folder = config.model.pretrained
    if folder is not None:
        described["model.pretrained"] = content_of_model_folder(folder)
    return described


def _run_and_step(location: Path) -> tuple[Path, int | None]:
    named = re.fullmatch(r"(.+)@(\d+)", str(location))
    return (Path(named[1]), int(named[2])) if named else (location, None)


def _steps(checkpoints: list[Path]) -> str:
    return ", ".join(str(int(path.name.partition("_")[2])) for path in checkpoints)
