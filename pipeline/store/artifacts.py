"""The manifests that stages write last, and the decision whether a stage is done.

The fingerprint of a stage covers the settings that change its output, the digests of the outputs
that it reads, whatever it reads from outside (raw files), and its format version. Settings that
only say how or where a stage runs are left out. An input that was rebuilt with the same bytes makes
nothing stale.
"""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal

from pipeline.errors import DataError, first_items
from pipeline.store.counts import Counts
from pipeline.store.environment import environment
from pipeline.store.files import (
    MOST_NAMED,
    changed_files,
    fingerprint,
    missing_files,
    output_digest,
    write_json,
)
from pipeline.store.manifests.file_lists import read_with_lists, write_with_lists
from pipeline.store.manifests.recorded_settings import (
    SettingValue,
    differences,
    flatten,
    setting_named,
)
from pipeline.store.records import (
    AnyManifest,
    CountsT,
    Json,
    ListedFile,
    Manifest,
    ManifestMadeBefore,
)
from pipeline.store.table.stage_row import Stage

if TYPE_CHECKING:  # so that `--help` need not import pydantic
    from pipeline.config.run_config import RunConfig

NOT_AVAILABLE = "not available here"
"""Stands for what lies outside, is not to be had, and was not read before."""


@dataclass
class Result(Generic[CountsT]):
    """Return value of a stage function; the caller writes it into the manifest."""

    counts: CountsT
    """Numbers for `status`, the summary and the report."""
    files: Mapping[str, ListedFile] = field(default_factory=dict[str, ListedFile])
    """Path below the stage's folder -> size and checksum of the file."""
    closing: list[str] = field(default_factory=list[str])
    """Notes for the user, printed below the headline; empty where all is well.

    They are printed when the stage ends and again whenever it is found done."""


@dataclass(frozen=True)
class StageState:
    """Whether a stage has to run, and why."""

    kind: Literal["done", "stale", "missing"]
    """A stage that the run file does not ask for is also `done`; it has no manifest."""
    reasons: tuple[str, ...] = ()
    """Why the stage is stale."""
    manifest: AnyManifest | None = None
    missing_files: tuple[str, ...] = ()
    """Listed files that are missing, have another size or were found to be damaged. They make a stage
    stale that can make the same files again."""
    absent_sections: tuple[str, ...] = ()
    """Sections without which the stage cannot run; it is then `missing`, whatever is on disk."""


def import_function(reference: str) -> Callable[..., Any]:
    """Import `module:function`."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)


def expected_inputs(
    stage: Stage,
    config: RunConfig,
    stages: Mapping[str, Stage],
    before: Mapping[str, Json] | None = None,
) -> dict[str, Json]:
    """Return everything that decides the stage's output, flat: `{"setting or input": value}`.

    An outside input described as None is not to be had. If it was read before, that is no reason to
    read it again, so its value is taken from `before`, the inputs of an earlier manifest.
    """
    inputs: dict[str, SettingValue] = {"format version": stage.version}
    # The settings that change the output.
    settings = config.model_dump()
    for dotted in stage.settings:
        # A section that is not set is not in a dump, and decides nothing.
        section = dotted.partition(".")[0]
        if section in config.fields_left_out_unused and section not in settings:
            continue
        inputs |= flatten(setting_named(settings, dotted), dotted)
    # The output of earlier stages, unless a change of it is to be ignored.
    if not stage.keeps_output:
        made = stage.inputs_made(config, stages)
        for name, output in outputs_of(made, config, stages).items():
            inputs[f"output of {name}"] = output
    # What lies outside of data_dir and run_dir.
    if stage.outside:
        for name, value in import_function(stage.outside)(config).items():
            if value is None and before is not None:
                value = before.get(name, NOT_AVAILABLE)
            inputs[name] = value
    # A manifest that was read back holds lists where the settings have tuples.
    return json.loads(json.dumps(inputs))


def outputs_of(
    names: Sequence[str], config: RunConfig, stages: Mapping[str, Stage]
) -> dict[str, str | None]:
    """Return the output digests of some stages, None for a stage that has not finished."""
    outputs: dict[str, str | None] = {}
    for name in names:
        manifest: Manifest[Counts] | None = read_manifest(stages[name].manifest_path(config))
        outputs[name] = None
        if manifest is not None:
            outputs[name] = manifest["output"]
    return outputs


def stage_states(
    stages: Mapping[str, Stage], config: RunConfig, look_at: Container[str] = ()
) -> dict[str, StageState]:
    """Compare every stage's manifest with what the config asks for now; stages come in their order.

    For the stages in `look_at`, also compare the sizes of the listed files with those on disk, and
    their checksums where the stage `compares_content`.
    Files that are missing there do not make later stages stale.
    """
    states: dict[str, StageState] = {}
    up_to_date: set[str] = set()
    for stage in stages.values():
        # What a stage makes is unknown without the sections that it reads.
        absent = stage.absent_sections(config, stages)
        if absent:
            states[stage.name] = StageState("missing", absent_sections=tuple(absent))
            continue

        # A stage that nobody asks for is done.
        if stage.is_left_out(config):
            up_to_date.add(stage.name)
            states[stage.name] = StageState("done")
            continue

        # What was made, and what would be made now.
        written: Manifest[Counts] | None = read_manifest(stage.manifest_path(config))
        if written is not None:
            manifest = written
            expected = _expected_now(stage, config, stages, written)
        else:
            manifest = _manifest_of_output_made_before(stage, config)
            expected: dict[str, Json] = {}
        if manifest is None:
            states[stage.name] = StageState("missing")
            continue

        # Every difference is a reason; only these make later stages stale.
        reasons: list[str] = []
        if not stage.keeps_output:
            made = stage.inputs_made(config, stages)
            unfinished = [name for name in made if name not in up_to_date]
            reasons += [f"its input {name} is {states[name].kind}" for name in unfinished]
        reasons += differences(manifest["inputs"], expected)
        if not reasons:
            up_to_date.add(stage.name)

        # Missing files are a further reason where the stage can make them again.
        lacking: list[str] = []
        if stage.name in look_at:
            folder = stage.folder(config)
            lacking = missing_files(folder, manifest["files"])
            if stage.compares_content and not lacking:
                changed = changed_files(folder, manifest["files"])
                lacking = first_items(changed, MOST_NAMED, "files")
        if stage.rebuilds:
            reasons += lacking
        kind = "stale" if reasons else "done"
        states[stage.name] = StageState(kind, tuple(reasons), manifest, tuple(lacking))
    return states


def _expected_now(
    stage: Stage, config: RunConfig, stages: Mapping[str, Stage], manifest: Manifest[Counts]
) -> dict[str, Json]:
    """Return the `expected_inputs` to compare a manifest with.

    Outside inputs that were moved away are ignored: they are no reason to make the output again.
    """
    try:
        return expected_inputs(stage, config, stages, before=manifest["inputs"])
    except DataError:
        return manifest["inputs"] | expected_inputs(replace(stage, outside=None), config, stages)


def _manifest_of_output_made_before(stage: Stage, config: RunConfig) -> ManifestMadeBefore | None:
    """Return the manifest of complete output that has none; None where there is no such output."""
    if stage.made_before is None:
        return None
    return import_function(stage.made_before)(config)


def read_manifest(path: Path) -> Manifest[Any] | None:
    """Return a stage's manifest, or None where the stage has not finished.

    The caller declares the type of the counts: `manifest: Manifest[TokenizeCounts] | None = ...`.
    """
    return read_with_lists(path)


def write_manifest(
    stage: Stage,
    config: RunConfig,
    inputs: dict[str, Json],
    made_from: dict[str, str | None],
    result: Result[CountsT],
    seconds: float,
) -> Manifest[CountsT]:
    """Write the manifest of a stage that has finished, and return it.

    `inputs` are the `expected_inputs` from before the stage ran: a setting that changed meanwhile
    makes it stale. `made_from` are the output digests of the stages that it read.
    """
    files = dict(result.files)
    manifest: Manifest[CountsT] = {
        "stage": stage.name,
        "fingerprint": fingerprint(inputs),
        "output": output_digest(files),
        "seconds": round(seconds, 3),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "counts": result.counts,
        "closing": result.closing,
        "inputs": inputs,
        "made_from": made_from,
        "environment": environment(),
        "files": files,
    }
    if stage.shared:
        write_with_lists(stage.manifest_path(config), manifest)
    else:
        write_json(stage.manifest_path(config), manifest)
    return manifest
