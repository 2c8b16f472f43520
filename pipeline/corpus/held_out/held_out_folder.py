"""Names the files with the texts that are held out by name, below `data_dir/documents`.

No other module spells these names. Reads and writes nothing.
"""

from dataclasses import dataclass
from pathlib import Path

from pipeline.store.manifests.shard_places import part_of


@dataclass(frozen=True)
class HeldOutFolder:
    """`documents/.held-out`: hashes of texts, and records of the tasks that found them."""

    documents: Path

    @property
    def path(self) -> Path:
        """The folder itself."""
        return self.documents / ".held-out"

    @property
    def ids(self) -> Path:
        """The ids that the run file lists, one a line."""
        return self.path / "ids.txt"

    def hashes(self, key: str, in_parts: bool) -> Path:
        """Return the file with the hashes of the texts that one task found.

        `in_parts`: whether it lies in a part of the folder, as very many tasks write one each.
        """
        name = f"{key}.hashes"
        if in_parts:
            name = f"{part_of(name)}/{name}"
        return self.path / name

    def texts(self, digest: str) -> Path:
        """Return the file with the hashes of all held-out texts, which have that digest."""
        return self.path / f"texts-{digest}"
