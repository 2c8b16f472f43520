"""Compute what a vocabulary's size costs the model: parameters of the embedding, and their share.

Reads the manifests of `train-tokenizer` and `train`.
"""

from pipeline.config.run_config import RunConfig, round_up_vocabulary
from pipeline.store.artifacts import read_manifest
from pipeline.store.counts import TokenizerCounts, TrainCounts
from pipeline.store.layout import data_folder, run_folder
from pipeline.store.manifests.recorded_settings import flatten
from pipeline.store.records import Manifest
from pipeline.tokens.tokenizer_figures import EmbeddingSize, VocabularyEffect

VOCABULARY_SIZES = (8_000, 16_000, 32_000, 50_000, 64_000, 100_000, 128_000)
"""Sizes for which the embedding is computed, besides the tokenizer's own."""
WIDTH_SETTINGS = ("hidden_size", "n_embd", "d_model")
"""Names of the embedding's width in the configs of transformers."""


def vocabulary_effect(config: RunConfig) -> VocabularyEffect | None:
    """Return the embedding's size at several vocabulary sizes; None where the width is not known.

    Embedding parameters = rows x width, twice that where the output has a matrix of its own. The
    share needs the number of other parameters, which is known once a run with these model settings
    has been trained; None before.
    """
    # Width and vocabulary have to be known.
    if not config.has("model"):
        return None
    settings = config.model.config
    width = next((settings[name] for name in WIDTH_SETTINGS if name in settings), None)
    manifest: Manifest[TokenizerCounts] | None = read_manifest(
        data_folder(config).tokenizer_manifest
    )
    if not isinstance(width, int) or manifest is None:
        return None

    # All other parameters are known only of a trained model.
    own = manifest["counts"]["vocab_size"]
    tied = settings.get("tie_word_embeddings")
    matrices = 1
    if tied is False:
        matrices = 2
    others = None
    if tied is not None:
        others = _other_parameters(config, matrices * config.model_vocab_size(own) * width)

    # One row for each size; the run's own is padded as the run file says.
    sizes: list[EmbeddingSize] = []
    for vocab_size in sorted({*VOCABULARY_SIZES, own}):
        rows = round_up_vocabulary(vocab_size)
        if vocab_size == own:
            rows = config.model_vocab_size(vocab_size)
        embedding = matrices * rows * width
        share = None
        if others is not None:
            share = embedding / (embedding + others)
        sizes.append(
            {
                "vocab_size": vocab_size,
                "rows": rows,
                "embedding_parameters": embedding,
                "share": share,
            }
        )
    return {
        "width": width,
        "tied": tied,
        "own_vocab_size": own,
        "other_parameters": others,
        "sizes": sizes,
    }


def _other_parameters(config: RunConfig, embedding: int) -> int | None:
    """Return the number of parameters besides the embedding.

    None where the model in the run folder is not trained, or has other settings.
    """
    manifest: Manifest[TrainCounts] | None = read_manifest(run_folder(config).train_manifest)
    model = flatten(config.model.model_dump(mode="json"), "model")
    if manifest is None or any(
        manifest["inputs"].get(name) != value for name, value in model.items()
    ):
        return None
    return manifest["counts"]["parameters"] - embedding
