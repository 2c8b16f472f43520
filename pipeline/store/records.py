"""The types of the JSON that stages leave on disk for each other: manifests, and the files and the
machine that they name.

What each stage counts stands in `counts.py`, a step of training in `metrics.py`, an event in
`events.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Generic, NotRequired, TypeAlias, TypedDict, TypeVar

from pipeline.store.counts import Counts, LineageEntry

Json: TypeAlias = "Mapping[str, Json] | Sequence[Json] | str | int | float | bool | None"
"""A JSON value of which nothing more is known."""


class SizedFile(TypedDict):
    """A file of which the size is known."""

    bytes: int
    """Size in bytes."""


class FileRecord(SizedFile):
    """A file that a stage has written."""

    checksum: str
    """xxh3 of 128 bits over all bytes, in hexadecimal."""
    samples: NotRequired[str]
    """Checksum of 16 blocks spread over a file of token ids, in hexadecimal."""


class LinkedFileRecord(SizedFile):
    """A link to a file that somebody else has made, which is not read as a whole."""

    identity: str
    """Changes when the file is replaced or written to."""
    samples: str
    """Checksum of 16 blocks spread over the file, in hexadecimal."""
    link_to: str
    """Absolute path of the file."""


ListedFile: TypeAlias = FileRecord | LinkedFileRecord
"""What a manifest says of one file."""


def content_of(record: ListedFile) -> str:
    """Return what stands for a file's content: its checksum, or the identity of a linked file."""
    if "checksum" in record:
        return record["checksum"]
    return record["identity"]


class GitState(TypedDict):
    """The version of the code that made a result."""

    commit: str
    dirty: bool
    """Whether the work tree differed from the commit."""


class Environment(TypedDict):
    """What a result depends on besides the settings."""

    command: str
    python: str
    """Version of Python."""
    platform: str
    versions: dict[str, str]
    """Library -> version, of those that are installed."""
    git: GitState | None
    """None outside a repository."""


CountsT = TypeVar("CountsT", bound=Counts)


class Manifest(TypedDict, Generic[CountsT]):
    """What a finished stage has made and what it was made from."""

    stage: str
    """Name of the stage."""
    fingerprint: str
    """Hash of `inputs`."""
    output: str
    """Hash of the content of `files`."""
    seconds: float
    """Time of all jobs whose work is in the output."""
    finished: str
    """Local time with its zone, `2000-01-31T23:59:59+0000`."""
    counts: CountsT
    closing: list[str]
    """Lines that follow the headline, each about something that the user may want to look into."""
    inputs: dict[str, Json]
    """Setting or input -> its value: everything that decides the output."""
    made_from: dict[str, str | None]
    """Stage -> `output` of its manifest when this stage read it."""
    environment: Environment
    files: dict[str, ListedFile]
    """Path below the stage's folder -> what the file holds."""


class ManifestMadeBefore(TypedDict):
    """What a manifest would say of output that was made before its stage had one."""

    seconds: None
    counts: Counts
    closing: list[str]
    """Empty."""
    inputs: dict[str, Json]
    """Empty."""
    files: Mapping[str, SizedFile]


AnyManifest: TypeAlias = Manifest[Counts] | ManifestMadeBefore
"""What is known of a finished stage's output."""


class NoiseScaleRecord(TypedDict):
    """Running averages of both parts of the gradient noise scale."""

    signal: float
    """Squared norm of the true gradient."""
    noise: float
    """Trace of the covariance of one token's gradient."""


class GuardRecord(TypedDict):
    """What the guards on learning know of the steps before."""

    losses: Sequence[float]
    """Nats per token of the last steps whose update was made, oldest first."""
    not_made: int
    """The last steps in a row whose update was not made."""


class StateRecord(TypedDict):
    """How far a run was when it saved."""

    step: int
    """Completed optimizer steps."""
    tokens: int
    """Tokens trained on."""
    skipped: Sequence[Sequence[int]]
    """Ranges `[first, end)` of samples that the run does not consume."""
    noise_scale: NoiseScaleRecord
    guard: GuardRecord


class RunFacts(TypedDict):
    """What every checkpoint says of its run."""

    model: dict[str, Json]
    """The transformers config, all entries."""
    tokenizer: str
    """Hash of the tokenizer's ids."""
    lineage: list[LineageEntry]
    """What led to this run, oldest first; empty where it began from nothing."""


class CheckpointManifest(RunFacts):
    """What a checkpoint holds. On disk it is followed by a checksum of itself."""

    state: StateRecord
    ranks: int
    """Ranks that wrote it."""
    zero_stage: int
    files: dict[str, FileRecord]
    """Name -> what the file holds."""
