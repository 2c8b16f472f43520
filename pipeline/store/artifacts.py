"""What stages leave on disk: manifests written last, fingerprints that decide whether a stage is
done.

A stage's fingerprint covers the settings that change its output, the digests of the outputs it
reads, whatever it reads from outside (raw files), and its format version. Settings that only say
how or where it runs are left out, and a rebuilt input whose bytes are the same makes nothing stale.
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
from pipeline.store.files import fingerprint, read_json, write_json
from pipeline.store.layout import MANIFEST
from pipeline.store.records import (
    AnyManifest,
    CountsT,
    Json,
    ListedFile,
    Manifest,
    ManifestMadeBefore,
    SizedFile,
    content_of,
)

if TYPE_CHECKING:  # so that `--help` need not import pydantic
    from pipeline.config.run_config import RunConfig

MOST_NAMED = 5
"""Files that are named where some are missing."""


@dataclass(frozen=True)
class Check:
    """What refuses a mistake of the user before it has cost anything."""

    function: str
    """`module:function`, called with the run's settings; raises UserError."""
    is_ahead: bool = False
    """It holds for settings wherever they are used, so also before an earlier stage that is called
    by itself."""
    is_heavy: bool = False
    """It may take seconds, so what can be said at once is said first."""


@dataclass(frozen=True)
class Stage:
    """One row of the table in `__main__`: what a stage reads and writes, and what decides that it
    is done."""

    name: str
    help: str
    reads: str
    writes: str
    function: str
    """`module:function`, imported when the stage runs."""
    folder: Callable[[RunConfig], Path]
    """Where its manifest stands."""
    settings: tuple[str, ...]
    """Fields, or whole sections, that change its output."""
    inputs: tuple[str, ...] = ()
    """Names of the stages whose output it reads."""
    needs: tuple[str, ...] = ()
    """Names of other stages that must be done when it runs. What they make follows from `inputs`
    and `settings`, so it is in no fingerprint, and makes nothing stale."""
    made_before: str | None = None
    """`module:function` that returns the Result of complete output without a manifest, or None:
    output that was made before it had a stage."""
    outside: str | None = None
    """`module:function` that describes what it reads from outside, as `{name: value}`."""
    checks: tuple[Check, ...] = ()
    """What refuses to let it start; `pipeline run` asks all stages that have to run before the
    first one starts."""
    goes_on: str | None = None
    """`module:function` that raises ConfigError where it will not go on with what there is:
    `status` asks it."""
    version: int = 1
    """One of `versions`, which say when it is raised."""
    manifest: str = MANIFEST
    """Name of its manifest in the folder."""
    shared: bool = False
    """Its output lies in data_dir, shared by many runs."""
    grows: bool = False
    """Its output is only ever added to, or exchanged as a whole, so that an older manifest stays
    true while it runs."""
    keeps: bool = False
    """Once made, it stays as it is when its inputs change: only its own settings make it stale."""
    is_asked: Callable[[RunConfig], bool] = lambda config: True
    """Whether the run file asks anything of it; if not, there is nothing to do."""
    is_made_unasked: bool = False
    """Where the run file asks nothing of it, it is made in passing all the same, without content,
    for the stages that read its manifest."""
    reads_files: bool = True
    """It reads the files of its inputs, and not their manifests alone."""
    rebuilds: bool = True
    """Files of its output that are missing are made again, as they were."""
    on_workers: bool = False
    """It is a list of tasks, which `executor` may give to workers elsewhere."""

    def manifest_path(self, config: RunConfig) -> Path:
        return self.folder(config) / self.manifest

    def is_left_out(self, config: RunConfig) -> bool:
        """Tell whether the run file leaves it nothing to do, and nobody reads its manifest."""
        return not self.is_asked(config) and not self.is_made_unasked


@dataclass
class Result(Generic[CountsT]):
    """What a stage function returns; the caller writes it into the manifest."""

    counts: CountsT
    """What was made, for `status`, the summary and the report."""
    files: Mapping[str, ListedFile] = field(default_factory=dict[str, ListedFile])
    """Path below the stage's folder -> what the file holds."""
    closing: list[str] = field(default_factory=list[str])
    """Lines that follow the headline, each about something that the user may want to look into;
    empty where all is well.

    They are shown when the stage ends and again whenever it is found done."""


@dataclass(frozen=True)
class State:
    """Whether a stage has to run."""

    kind: Literal["done", "stale", "missing"]
    """`done` is also a stage that the run file leaves nothing to do: it has no manifest."""
    reasons: tuple[str, ...] = ()
    manifest: AnyManifest | None = None
    missing_files: tuple[str, ...] = ()
    """What is wrong with files that the manifest lists. It makes stale what can be made again as it
    was."""


def resolve(reference: str) -> Callable[..., Any]:
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

    What is described as None has been moved away since it was read, which is no reason to read it
    again: `before`, the inputs of an earlier manifest, stands in for it.
    """
    inputs: dict[str, Json] = {"format version": stage.version}
    for dotted in stage.settings:
        value: Any = config.model_dump()
        for part in dotted.split("."):
            value = value[part]
        inputs |= flatten(value, dotted)
    if not stage.keeps:
        inputs |= {
            f"output of {name}": output
            for name, output in outputs_of(stage.inputs, config, stages).items()
        }
    if stage.outside:
        for name, value in resolve(stage.outside)(config).items():
            inputs[name] = (before or {}).get(name) if value is None else value
    return json.loads(json.dumps(inputs))  # as it will be read back: tuples are lists


def outputs_of(
    names: Sequence[str], config: RunConfig, stages: Mapping[str, Stage]
) -> dict[str, str | None]:
    """Return the digests of what some stages have made, None for one that has not finished."""
    outputs: dict[str, str | None] = {}
    for name in names:
        manifest = read_manifest(stages[name].manifest_path(config))
        outputs[name] = manifest["output"] if manifest else None
    return outputs


def states(
    stages: Mapping[str, Stage], config: RunConfig, look_at: Container[str] = ()
) -> dict[str, State]:
    """Compare every stage's manifest with what the config asks for now; stages come in their order.

    Of the stages in `look_at` the files themselves are looked at, too: whether they are there in
    their size. Where some are not, what was made from them stays as it is.
    """
    known: dict[str, State] = {}
    made: set[str] = set()
    for stage in stages.values():
        if stage.is_left_out(config):
            made.add(stage.name)
            known[stage.name] = State("done")
            continue
        written: Manifest[Counts] | None = read_manifest(stage.manifest_path(config))
        if written is not None:
            manifest = written
            expected = _expected_now(stage, config, stages, written)
        else:
            manifest = _manifest_of_output_made_before(stage, config)
            expected: dict[str, Json] = {}
        if manifest is None:
            known[stage.name] = State("missing")
            continue
        unfinished = [] if stage.keeps else [name for name in stage.inputs if name not in made]
        reasons = [f"its input {name} is {known[name].kind}" for name in unfinished]
        reasons += differences(manifest["inputs"], expected)
        if not reasons:
            made.add(stage.name)
        lacking = (
            missing_files(stage.folder(config), manifest["files"]) if stage.name in look_at else []
        )
        if stage.rebuilds:
            reasons += lacking
        known[stage.name] = State(
            "stale" if reasons else "done", tuple(reasons), manifest, tuple(lacking)
        )
    return known


def _expected_now(
    stage: Stage, config: RunConfig, stages: Mapping[str, Stage], manifest: Manifest[Counts]
) -> dict[str, Json]:
    """Return `expected_inputs` to compare a manifest with. What it was made from may have been
    moved away since, which is no reason to make it again."""
    try:
        return expected_inputs(stage, config, stages, before=manifest["inputs"])
    except DataError:
        return manifest["inputs"] | expected_inputs(replace(stage, outside=None), config, stages)


def _manifest_of_output_made_before(stage: Stage, config: RunConfig) -> ManifestMadeBefore | None:
    """Return what a manifest would say of output that has none, None where there is no such
    output."""
    if stage.made_before is None:
        return None
    return resolve(stage.made_before)(config)


def missing_files(folder: Path, files: Mapping[str, SizedFile]) -> list[str]:
    """Describe the files of a manifest that are not there in their size, the first `MOST_NAMED` by
    name; reads none."""
    wrong: list[str] = []
    for name, record in files.items():
        try:
            size = (folder / name).stat().st_size
        except OSError:
            wrong.append(f"missing file: {name}")
            continue
        if size != record["bytes"]:
            wrong.append(f"{name} has {size:,} bytes and not {record['bytes']:,}")
    return first_items(wrong, MOST_NAMED, "files")


def differences(before: Mapping[str, Json], after: Mapping[str, Json]) -> list[str]:
    """Name each entry that differs, with both values shortened."""
    changed: list[str] = []
    for name in sorted({*before, *after}):
        is_in_both = name in before and name in after
        if not is_in_both or before[name] != after[name]:
            changed.append(f"{name}: {_shortened(before, name)} -> {_shortened(after, name)}")
    return changed


def _shortened(settings: Mapping[str, Json], name: str) -> str:
    text = json.dumps(settings[name]) if name in settings else "not set"
    return text if len(text) <= 40 else text[:37] + "..."


def flatten(value: Any, prefix: str) -> dict[str, Json]:
    """Return nested mappings as dotted names; file locations are left out, so that folders can be
    moved.

    An empty sequence is left out too: it may be one of locations, and naming the first must change
    nothing.
    """
    if isinstance(value, dict):
        flat: dict[str, Json] = {}
        for key, inner in value.items():
            flat |= flatten(inner, f"{prefix}.{key}")
        return flat
    return {} if _is_location(value) else {prefix: value}


def _is_location(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(isinstance(part, Path) for part in value)
    return isinstance(value, Path)


def read_manifest(path: Path) -> Manifest[Any] | None:
    """Return a stage's manifest, or None where the stage has not finished.

    The caller names the type of its counts: `manifest: Manifest[TokenizeCounts] | None = ...`.
    """
    return read_json(path)


def write_manifest(
    stage: Stage,
    config: RunConfig,
    inputs: dict[str, Json],
    made_from: dict[str, str | None],
    result: Result[CountsT],
    seconds: float,
) -> Manifest[CountsT]:
    """Write what the stage made and what it was made from; the last act of a stage.

    `inputs` are its `expected_inputs` from before it ran: what changed meanwhile makes it stale.
    `made_from` are the digests of the stages that it read.
    """
    files = dict(result.files)
    manifest: Manifest[CountsT] = {
        "stage": stage.name,
        "fingerprint": fingerprint(inputs),
        "output": fingerprint({name: content_of(record) for name, record in files.items()}),
        "seconds": round(seconds, 3),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "counts": result.counts,
        "closing": result.closing,
        "inputs": inputs,
        "made_from": made_from,
        "environment": environment(),
        "files": files,
    }
    write_json(stage.manifest_path(config), manifest)
    return manifest
