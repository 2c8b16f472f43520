"""How often the runs of a study will repeat their data. Reads the manifest of the tokens."""

from collections.abc import Mapping, Sequence

from pipeline.planning.study.study_run import StudyRun
from pipeline.store.artifacts import read_manifest
from pipeline.store.counts import TokenizeCounts
from pipeline.store.layout import data_folder
from pipeline.store.records import Manifest


def expected_epochs(runs: Sequence[StudyRun]) -> dict[str, float]:
    """Return name of a run -> epochs of its most repeated source; empty without tokens.

    Takes the proportions at the beginning of the run; the run itself counts exactly.
    """
    if not runs:
        return {}
    manifest: Manifest[TokenizeCounts] | None = read_manifest(
        data_folder(runs[0].config).tokens_manifest
    )
    if manifest is None:
        return {}
    sizes = {
        name: float(splits["train"]["tokens"])
        for name, splits in manifest["counts"]["sources"].items()
    }
    epochs: dict[str, float] = {}
    for run in runs:
        read = _tokens_read(run, sizes)
        weights = run.config.data.weights(read)
        total = sum(weights.values())
        epochs[run.name] = max(
            run.tokens * weight / total / read[name]
            for name, weight in weights.items()
            if weight and read[name]
        )
    return epochs


def _tokens_read(run: StudyRun, sizes: Mapping[str, float]) -> Mapping[str, float]:
    """Return source -> tokens that a run reads of it in an epoch; `sizes`: all that it has."""
    data = run.config.data
    if data.small_sample is None:
        return sizes
    most = float(data.small_sample.train_sequences * data.sequence_length)
    return {name: min(most, tokens) for name, tokens in sizes.items()}
