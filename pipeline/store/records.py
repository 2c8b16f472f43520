"""Types of the JSON that stages write for each other: manifests of stages and of checkpoints.

The counts of each stage are in `counts.py`, a step of training in `metrics.py`, an event in
`events.py`. Reads and writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Generic, NotRequired, TypeAlias, TypedDict, TypeVar

from pipeline.store.counts import Counts, LineageEntry

Json: TypeAlias = "Mapping[str, Json] | Sequence[Json] | str | int | float | bool | None"
"""Any JSON value."""


class SizedFile(TypedDict):
    """A file whose size is known."""

    bytes: int
    """Size in bytes."""


class FileRecord(SizedFile):
    """A file that a stage has written."""

    checksum: str
    """xxh3 of 128 bits over all bytes, in hexadecimal."""
    samples: NotRequired[str]
    """Checksum of 16 blocks spread over a file of token ids, in hexadecimal."""


class LinkedFileRecord(SizedFile):
    """A link to a file from outside data_dir, which is too large to be read as a whole."""

    identity: str
    """Text that changes when the file is replaced or written to."""
    samples: str
    """Checksum of 16 blocks spread over the file, in hexadecimal."""
    link_to: str
    """Absolute path of the file."""


ListedFile: TypeAlias = FileRecord | LinkedFileRecord
"""The record of one file in a manifest."""


def content_of(record: ListedFile) -> str:
    """Return the text that identifies a file's content: a checksum, or a linked file's identity."""
    if "checksum" in record:
        return record["checksum"]
    return record["identity"]


class GitState(TypedDict):
    """Version of the code that made a result."""

    commit: str
    """Hash of the commit."""
    dirty: bool
    """Whether the work tree differed from the commit."""


class Environment(TypedDict):
    """Command, versions and machine on which a result depends, besides the settings."""

    command: str
    """Command line."""
    python: str
    """Version of Python."""
    platform: str
    """Operating system, its version and the processor."""
    versions: dict[str, str]
    """Library -> version, for the installed ones."""
    git: GitState | None
    """None outside a repository."""


CountsT = TypeVar("CountsT", bound=Counts)


class Manifest(TypedDict, Generic[CountsT]):
    """The output of a finished stage and the inputs that it was made from."""

    stage: str
    """Name of the stage."""
    fingerprint: str
    """Hash of `inputs`."""
    output: str
    """Hash of the content of `files`."""
    seconds: float
    """Sum over all jobs whose work is in the output."""
    finished: str
    """Local time with its zone, `2000-01-31T23:59:59+0000`."""
    counts: CountsT
    closing: list[str]
    """Notes for the user, printed below the headline."""
    inputs: dict[str, Json]
    """Setting or input -> value: everything that decides the output."""
    made_from: dict[str, str | None]
    """Stage -> `output` of its manifest when this stage read it."""
    environment: Environment
    files: dict[str, ListedFile]
    """Path below the stage's folder -> size and checksum of the file."""


class ManifestMadeBefore(TypedDict):
    """Stands for the manifest of output that was made before its stage wrote one."""

    seconds: None
    """Unknown."""
    counts: Counts
    closing: list[str]
    """Empty."""
    inputs: dict[str, Json]
    """Empty."""
    files: Mapping[str, SizedFile]


AnyManifest: TypeAlias = Manifest[Counts] | ManifestMadeBefore
"""The manifest of a finished stage, or a value in its place."""


class NoiseScaleRecord(TypedDict):
    """Running averages of the two parts of the gradient noise scale."""

    signal: float
    """Squared norm of the true gradient."""
    noise: float
    """Trace of the covariance of one token's gradient."""


class GuardRecord(TypedDict):
    """State of the guards against diverging losses."""

    losses: Sequence[float]
    """Nats per token of the last steps whose update was made, oldest first."""
    not_made: int
    """Number of steps in a row, up to the last one, whose update was skipped."""


class StateRecord(TypedDict):
    """Progress of a run when it saved."""

    step: int
    """Completed optimizer steps."""
    tokens: int
    """Tokens trained on."""
    skipped: Sequence[Sequence[int]]
    """Ranges `[first, end)` of samples that the run skips."""
    noise_scale: NoiseScaleRecord
    guard: GuardRecord


class RunFacts(TypedDict):
    """Facts about a run that are the same in all of its checkpoints."""

    model: dict[str, Json]
    """The transformers config, all entries."""
    tokenizer: str
    """Hash of the tokenizer's ids."""
    lineage: list[LineageEntry]
    """The checkpoints and models that this run descends from, oldest first; empty for a run that
    began with random weights."""


class CheckpointManifest(RunFacts):
    """Content of a checkpoint. On disk, a checksum of this JSON follows it."""

    state: StateRecord
    ranks: int
    """Number of ranks that wrote the checkpoint."""
    zero_stage: int
    """ZeRO stage of these ranks."""
    files: dict[str, FileRecord]
    """Name of a file in the checkpoint's folder -> its size and checksum."""
