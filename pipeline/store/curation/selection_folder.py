"""Names the folders and files of the stage `select`, below data_dir.

No other module spells these names. Reads and writes nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import DELETE_FIRST
from pipeline.store.layout import manifest_path
from pipeline.store.manifests.replaced_output import unfinished_output

if TYPE_CHECKING:  # so that `--help` need not import pydantic
    from pipeline.config.run_config import RunConfig

SELECT_AGAIN = (
    f"{DELETE_FIRST}`pipeline select` with the same run file makes it again; `pipeline inspect RUN.YAML "
    "--verify` names every damaged file."
)
"""Remedy for a damaged file of the stage; `read_parquet` tells of a missing one without its beginning."""


@dataclass(frozen=True)
class SelectionFolder:
    """`data_dir/selection`: a verdict for each document."""

    data_dir: Path

    @property
    def path(self) -> Path:
        """The folder itself."""
        return self.data_dir / "selection"

    @property
    def manifest(self) -> Path:
        """Manifest of `select`, JSON."""
        return manifest_path(self.path)

    def verdicts(self, shard: str) -> Path:
        """Return the Parquet file of verdicts on a shard, named by its path below the documents."""
        return self.path / shard

    @property
    def digests(self) -> Path:
        """Parquet file with a hash of what readers take of each shard."""
        return self.path / "digests.parquet"

    def samples(self, reason: str) -> Path:
        """Return the JSON lines with samples of the documents that were removed for a reason."""
        name = re.sub(r"[^A-Za-z0-9_.]+", "-", reason).strip("-.")
        return self.path / "removed" / f"{name}.jsonl"

    def contamination(self, source: str) -> Path:
        """Return the JSON lines with the passages of a source that hold questions of tasks."""
        return self.path / "contamination" / f"{source}.jsonl"

    def common_grams(self, source: str) -> Path:
        """Return the JSON lines with the n-grams of questions that many documents of a source hold."""
        return self.contamination(source).with_suffix(".common.jsonl")

    @property
    def unfinished(self) -> Path:
        """Folder of intermediate files, removed when the stage is done."""
        return unfinished_output(self.path)

    @property
    def beside(self) -> SelectionFolder:
        """The same files, before they take the place of those that are there."""
        return SelectionFolder(self.unfinished / "next")

    @property
    def comparison(self) -> Path:
        """Folder of the comparison of near-duplicates: what another threshold needs stays there."""
        return self.path / ".comparison"

    def round(self, name: str) -> Path:
        """Return the folder of the intermediate files of one round of work items."""
        return self.unfinished / name


def selection_folder(config: RunConfig) -> SelectionFolder:
    """Return the folder of verdicts below `paths.data_dir`."""
    return SelectionFolder(config.paths.data_dir)
