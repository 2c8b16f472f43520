"""How many documents and how much text a run reads of each source.

Reads the manifests of `prepare` and, where the run file has the section `select`, of `select`.
"""

from dataclasses import dataclass, field

from pipeline.config.run_config import RunConfig
from pipeline.corpus.documents import SPLITS
from pipeline.errors import DataError
from pipeline.store.artifacts import read_manifest
from pipeline.store.counts import PrepareCounts
from pipeline.store.curation.selection_folder import selection_folder
from pipeline.store.curation.verdict_counts import SelectCounts
from pipeline.store.layout import data_folder
from pipeline.store.records import Manifest


@dataclass(frozen=True)
class KeptCounts:
    """Documents of one source that are read, by split."""

    documents: dict[str, int] = field(default_factory=dict[str, int])
    text_bytes: dict[str, int] = field(default_factory=dict[str, int])
    """Bytes of text, before parts of it are replaced."""


def prepared_counts(config: RunConfig) -> dict[str, KeptCounts]:
    """Return the documents of each source, whatever was selected.

    Raises DataError where `prepare` has not finished.
    """
    folder = data_folder(config)
    manifest: Manifest[PrepareCounts] | None = read_manifest(folder.documents_manifest)
    if manifest is None:
        raise DataError(
            f"{folder.documents}: holds no finished documents. Run `pipeline prepare` first."
        )
    return {
        name: KeptCounts(counts["documents"], counts["text_bytes"])
        for name, counts in manifest["counts"]["sources"].items()
    }


def kept_counts(config: RunConfig) -> dict[str, KeptCounts]:
    """Return the documents of each source that are read.

    Raises DataError where `prepare`, or a `select` that is asked for, has not finished.
    """
    kept = prepared_counts(config)
    if config.select is None:
        return kept
    folder = selection_folder(config)
    manifest: Manifest[SelectCounts] | None = read_manifest(folder.manifest)
    if manifest is None:
        raise DataError(f"{folder.path}: holds no finished verdicts. Run `pipeline select` first.")
    for name, splits in manifest["counts"]["sources"].items():
        none = dict.fromkeys(SPLITS, 0)
        kept[name] = KeptCounts(
            none | {split: counts["kept"] for split, counts in splits.items()},
            none | {split: counts["kept_bytes"] for split, counts in splits.items()},
        )
    return kept
