"""What a vocabulary's size costs the model: parameters of the embedding, and their share.

Reads the manifests of `train-tokenizer` and `train`.
"""

from pipeline.config.run_config import RunConfig, round_up_vocabulary
from pipeline.store.artifacts import flatten, read_manifest
from pipeline.store.counts import TokenizerCounts, TrainCounts
from pipeline.store.layout import data_folder, run_folder
from pipeline.store.records import Manifest
from pipeline.tokens.tokenizer_figures import EmbeddingSize, VocabularyEffect

VOCABULARY_SIZES = (8_000, 16_000, 32_000, 50_000, 64_000, 100_000, 128_000)
"""Sizes for which the embedding is worked out, beside the tokenizer's own."""
WIDTH_SETTINGS = ("hidden_size", "n_embd", "d_model")
"""How architectures of transformers name the embedding's width."""


def vocabulary_effect(config: RunConfig) -> VocabularyEffect | None:
    """Return what the embedding takes at several vocabulary sizes; None where the model's width is
    not known.

    Embedding parameters = rows x width, twice that where the output has a matrix of its own. Its
    share needs the other parameters, known once a run of these model settings has finished
    training; null before.
    """
    # Width and vocabulary have to be known.
    settings = config.model.config
    width = next((settings[name] for name in WIDTH_SETTINGS if name in settings), None)
    manifest: Manifest[TokenizerCounts] | None = read_manifest(
        data_folder(config).tokenizer_manifest
    )
    if not isinstance(width, int) or manifest is None:
        return None

    # What is not the embedding is known only of a trained model.
    own = manifest["counts"]["vocab_size"]
    tied = settings.get("tie_word_embeddings")
    matrices = 2 if tied is False else 1
    others = (
        None
        if tied is None
        else _other_parameters(config, matrices * config.model_vocab_size(own) * width)
    )

    # One row a size; the run's own is padded as the run pads it.
    rows: list[EmbeddingSize] = []
    for size in sorted({*VOCABULARY_SIZES, own}):
        padded = config.model_vocab_size(size) if size == own else round_up_vocabulary(size)
        embedding = matrices * padded * width
        share = None if others is None else embedding / (embedding + others)
        rows.append(
            {"vocab_size": size, "rows": padded, "embedding_parameters": embedding, "share": share}
        )
    return {
        "width": width,
        "tied": tied,
        "own_vocab_size": own,
        "other_parameters": others,
        "sizes": rows,
    }


def _other_parameters(config: RunConfig, embedding: int) -> int | None:
    """Return the model's parameters but the embedding's, of the run folder's model if it has these
    settings."""
    manifest: Manifest[TrainCounts] | None = read_manifest(run_folder(config).train_manifest)
    model = flatten(config.model.model_dump(mode="json"), "model")
    if manifest is None or any(
        manifest["inputs"].get(name) != value for name, value in model.items()
    ):
        return None
    return manifest["counts"]["parameters"] - embedding
