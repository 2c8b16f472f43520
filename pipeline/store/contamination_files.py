"""Names the files of texts searched for in documents, below data_dir and run_dir.

No other module spells these names. Reads and writes nothing.
"""

from dataclasses import dataclass
from pathlib import Path

CONTAMINATION = "contamination"
"""Name of the folder, below data_dir and below the scores of a run."""
UNFINISHED_PREFIX = ".search-"


@dataclass(frozen=True)
class SearchFolder:
    """`data_dir/contamination`: passages of the documents that hold n-grams of given texts."""

    data_dir: Path

    @property
    def path(self) -> Path:
        """The folder itself."""
        return self.data_dir / CONTAMINATION

    def passages(self, source: str, name: str, key: str) -> Path:
        """Return the Parquet file with the passages of a source that hold texts of one name.

        `key`: hash of the documents and of the texts.
        """
        return self.path / source / f"{name}-{key}.parquet"

    def unfinished(self, key: str) -> Path:
        """Return the folder of a search that is not finished; removed at its end."""
        return self.path / f"{UNFINISHED_PREFIX}{key}"

    def unfinished_searches(self) -> list[Path]:
        """Return the folders of all searches that are not finished."""
        return sorted(self.path.glob(f"{UNFINISHED_PREFIX}*"))

    @staticmethod
    def texts(unfinished: Path, key: str) -> Path:
        """Return the Parquet file with the texts that an unfinished search looks for."""
        return unfinished / f"texts-{key}.parquet"

    @staticmethod
    def shard(unfinished: Path, shard: str) -> Path:
        """Return the Parquet file with what a search found in one shard of documents.

        `shard`: path of the shard below the folder of documents; this file lies likewise.
        """
        return unfinished / shard


def contaminated_items_path(evaluation: Path, task: str) -> Path:
    """Return the Parquet file that says which questions of a task a run has read.

    `evaluation`: the folder of the run's scores.
    """
    return evaluation / CONTAMINATION / f"{task}.parquet"


def clean_scores_path(evaluation: Path) -> Path:
    """Return the JSON lines with scores on questions that the run has read and has not read."""
    return evaluation / CONTAMINATION / "scores.jsonl"
