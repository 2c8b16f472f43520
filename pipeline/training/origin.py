"""The origin of a run: another run's checkpoint (`train.init_from`) or `model.pretrained`.

Reads manifests of checkpoints, and hashes a transformers folder. Never writes to the other run.
Free of torch.
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
    """Another run's checkpoint that this run begins from."""

    checkpoint: Path
    manifest: CheckpointManifest

    @property
    def run(self) -> Path:
        """Folder of the other run."""
        return self.checkpoint.parents[1]

    def lineage(self) -> list[LineageEntry]:
        """Return the checkpoints that led to this run, the oldest first."""
        last: LineageEntry = {
            "run": str(self.run),
            "step": self.manifest["state"]["step"],
            "checkpoint": file_record(manifest_path(self.checkpoint))["checksum"],
        }
        return [*self.manifest.get("lineage", []), last]


def find_origin(config: RunConfig) -> Origin | None:
    """Return the checkpoint that `train.init_from` names; None where it is not set.

    Raises ConfigError where it is this run's own folder, or where there is no such complete
    checkpoint.
    """
    location = config.train.init_from
    if location is None:
        return None
    run, _ = _run_and_step(location)
    if run == config.paths.run_dir:
        raise ConfigError(
            [
                f"train.init_from = {location}: is this run's own folder; choose another "
                "paths.run_dir for the branch"
            ]
        )
    return origin_at(location)


def origin_at(location: Path) -> Origin:
    """Return the checkpoint that a value of `train.init_from` names.

    Raises ConfigError where there is no such complete checkpoint.
    """
    # The folder has to hold a complete checkpoint.
    run, step = _run_and_step(location)
    setting = f"train.init_from = {location}"
    checkpoints = complete_checkpoints(RunFolder(run).checkpoints)
    if not checkpoints:
        raise ConfigError(
            [
                f"{setting}: {RunFolder(run).checkpoints} holds no complete checkpoint; set it to "
                "the folder of a run that has one"
            ]
        )

    # Without a step: the newest one.
    chosen = checkpoints[-1]
    if step is not None:
        chosen = RunFolder(run).checkpoint(step)
    if chosen not in checkpoints:
        steps = _list_steps(checkpoints)
        raise ConfigError([f"{setting}: no such checkpoint; there are checkpoints of step {steps}"])
    return Origin(chosen, read_checkpoint_manifest(chosen))


def refuse_damaged_origin(origin: Origin, damage: list[str]) -> None:
    """Raise DataError if `damage` is not empty; its message lists the steps of the other checkpoints."""
    if not damage:
        return
    checkpoints = complete_checkpoints(origin.checkpoint.parent)
    others = [path for path in checkpoints if path != origin.checkpoint]
    remedy = "the run has no other checkpoint"
    if others:
        remedy = f"name another step with train.init_from: {_list_steps(others)}"
    raise DataError(f"{origin.checkpoint}: is damaged: {', '.join(damage)}; {remedy}")


def origin_content(config: RunConfig) -> dict[str, str | None]:
    """Describe the content of a run's origin, for the stage's fingerprint.

    Returns setting -> checksum; None for a checkpoint or folder that has been moved away. `RUN`
    without a step is `newest`, so that new checkpoints of that run do not make this run stale.
    """
    content: dict[str, str | None] = {}
    if config.train.init_from is not None:
        content["train.init_from"] = _content_of_checkpoint(config.train.init_from)
    folder = config.model.pretrained
    if folder is not None:
        content["model.pretrained"] = content_of_model_folder(folder)
    return content


def _content_of_checkpoint(location: Path) -> str | None:
    run, step = _run_and_step(location)
    if step is None:
        return "newest"
    manifest = manifest_path(RunFolder(run).checkpoint(step))
    if not manifest.is_file():
        return None
    return file_record(manifest)["checksum"]


def _run_and_step(location: Path) -> tuple[Path, int | None]:
    """Split `RUN@STEP` into its parts; without `@STEP` the step is None."""
    match = re.fullmatch(r"(.+)@(\d+)", str(location))
    if match is None:
        return location, None
    return Path(match[1]), int(match[2])


def _list_steps(checkpoints: list[Path]) -> str:
    return ", ".join(str(int(path.name.partition("_")[2])) for path in checkpoints)
