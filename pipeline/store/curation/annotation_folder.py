"""Names the folder and files of the stage `annotate`, below data_dir.

No other module spells these names. Reads and writes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.store.layout import manifest_path

if TYPE_CHECKING:  # so that `--help` need not import pydantic
    from pipeline.config.run_config import RunConfig


@dataclass(frozen=True)
class AnnotationFolder:
    """`data_dir/annotations`: signals, hashes and spans of each document."""

    data_dir: Path

    @property
    def path(self) -> Path:
        """The folder itself."""
        return self.data_dir / "annotations"

    @property
    def manifest(self) -> Path:
        """Manifest of `annotate`, JSON."""
        return manifest_path(self.path)

    def file(self, shard: str) -> Path:
        """Return the Parquet file for a shard, which is named by its path below the documents."""
        return self.path / shard


def annotation_folder(config: RunConfig) -> AnnotationFolder:
    """Return the folder of annotations below `paths.data_dir`."""
    return AnnotationFolder(config.paths.data_dir)
