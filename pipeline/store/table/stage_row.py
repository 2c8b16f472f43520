"""What a row of the table of stages holds, in `stages.py`: what a stage reads, writes and checks.

Imported by every command, also by `--help`: free of all that reads and writes manifests, which is
in `artifacts.py`. Reads and writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.store.layout import MANIFEST

if TYPE_CHECKING:  # so that `--help` need not import pydantic
    from pipeline.config.run_config import RunConfig


@dataclass(frozen=True)
class Check:
    """A check that finds a mistake of the user before any work is done."""

    function: str
    """`module:function`, called with the run's settings; raises UserError."""
    is_ahead: bool = False
    """Whether the check also runs before an earlier stage that is called by itself."""
    is_heavy: bool = False
    """Whether the check may take seconds; heavy checks run after the others."""


@dataclass(frozen=True)
class Stage:
    """One row of the table in `stages.py`: what a stage reads and writes, and when it is done."""

    name: str
    help: str
    reads: str
    writes: str
    function: str
    """`module:function`, imported when the stage runs. It removes the older manifest before it
    replaces the first file, and after all that it can refuse: a refusal leaves what was made."""
    folder: Callable[[RunConfig], Path]
    """Returns the folder that holds the manifest of the stage."""
    settings: tuple[str, ...]
    """Fields, or whole sections, that change the output."""
    sections: tuple[str, ...] = ()
    """The RUN_SECTIONS that the stage reads itself; its inputs may read more."""
    inputs: tuple[str, ...] = ()
    """Names of the stages whose output this stage reads."""
    needs: tuple[str, ...] = ()
    """Names of other stages that must be done before this one runs. Their output follows from
    `inputs` and `settings`, so it enters no fingerprint and makes nothing stale."""
    made_before: str | None = None
    """`module:function` that returns the manifest of complete output without one, or None. Such
    output was made before the stage existed."""
    outside: str | None = None
    """`module:function` that describes what the stage reads from outside, as `{name: value}`."""
    checks: tuple[Check, ...] = ()
    """Checks that must pass before the stage starts. `pipeline run` runs those of all stages that
    are not done before the first stage starts."""
    resume_check: str | None = None
    """`module:function` that raises ConfigError where the stage would refuse to resume the output
    that exists; `status` calls it."""
    version: int = 1
    """Format version, one of `versions`, which say when to raise it."""
    manifest: str = MANIFEST
    """Name of the manifest in the folder."""
    shared: bool = False
    """Whether the output lies in data_dir, which many runs share."""
    grows: bool = False
    """Whether output is only added, or replaced as a whole, so that an older manifest remains true
    while the stage runs."""
    keeps_output: bool = False
    """Whether the output is kept when the inputs change: then only the stage's own settings make it
    stale."""
    is_asked: Callable[[RunConfig], bool] = lambda config: True
    """Returns whether the run file asks for this stage; if not, there is nothing to do."""
    is_made_unasked: bool = False
    """Whether a stage that the run file does not ask for still writes an empty manifest, for the
    stages that read it."""
    compares_content: bool = False
    """Whether the content of the listed files is compared with their checksums too, where their sizes
    are: for small files, of which a damaged one can be made again."""
    reads_files: bool = True
    """Whether the stage reads the files of its inputs, and not their manifests alone."""
    rebuilds: bool = True
    """Whether missing files of the output are made again, with the same bytes."""
    on_workers: bool = False
    """Whether the stage is a list of tasks that `executor` may run on workers elsewhere."""

    @property
    def command(self) -> str:
        """The command that runs the stage, which is also the purpose in the lease that it holds."""
        return f"pipeline {self.name}"

    def root(self, config: RunConfig) -> Path:
        """Return data_dir or run_dir, the folder whose lease a running stage holds."""
        if self.shared:
            return config.paths.data_dir
        return config.paths.run_dir

    def manifest_path(self, config: RunConfig) -> Path:
        return self.folder(config) / self.manifest

    def sections_read(self, stages: Mapping[str, Stage]) -> list[str]:
        """Return the RUN_SECTIONS that decide the output: the stage's own and those of its inputs."""
        read = dict.fromkeys(self.sections)
        for name in self.inputs:
            if name in stages:
                read |= dict.fromkeys(stages[name].sections_read(stages))
        return list(read)

    def absent_sections(self, config: RunConfig, stages: Mapping[str, Stage]) -> list[str]:
        """Return the sections that the stage would read and the run file does not have."""
        return config.absent(self.sections_read(stages))

    def inputs_made(self, config: RunConfig, stages: Mapping[str, Stage]) -> list[str]:
        """Return the names of those inputs that exist: the run file asks for them."""
        return [
            name for name in self.inputs if name in stages and not stages[name].is_left_out(config)
        ]

    def is_left_out(self, config: RunConfig) -> bool:
        """Tell whether the run file does not ask for the stage and nobody reads its manifest."""
        return not self.is_asked(config) and not self.is_made_unasked
