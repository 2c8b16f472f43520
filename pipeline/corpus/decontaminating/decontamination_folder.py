"""Names the files of a decontamination, below a folder of its own.

No other module spells these names. Reads and writes nothing.
"""

from dataclasses import dataclass
from pathlib import Path

from pipeline.corpus.near_duplicates.comparison_folder import StepFolder


@dataclass(frozen=True)
class DecontaminationFolder:
    """The folder of one decontamination."""

    path: Path

    @property
    def grams(self) -> StepFolder:
        """Parquet file of a shard: the n-grams of questions that its documents hold."""
        return StepFolder(self.path / "grams", ".parquet")

    @property
    def common(self) -> Path:
        """Folder of the records of the sources' common n-grams."""
        return self.path / "common-grams"

    def common_of_source(self, source: str) -> Path:
        """Return the Parquet file of the n-grams that many texts of a source hold."""
        return self.common / f"{source}.parquet"

    @property
    def evidence(self) -> StepFolder:
        """Parquet file of a shard: the passages that count."""
        return StepFolder(self.path / "evidence", ".parquet")

    @property
    def contaminated(self) -> StepFolder:
        """Parquet file of a shard: the documents that are removed or cut."""
        return StepFolder(self.path / "evidence", ".rows.parquet")

    @property
    def left_out(self) -> StepFolder:
        """Parquet file of a shard: the questions that do not count in a document."""
        return StepFolder(self.path / "evidence", ".left-out.parquet")
