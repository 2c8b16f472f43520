"""What identifies the held-out text that a run's validation loss is of.

Reads the manifests of the data folder. The content counts, not where it lies: a copy is the same text.
"""

from pathlib import Path

from pipeline.config.run_config import RunConfig
from pipeline.store.artifacts import read_manifest
from pipeline.store.files import fingerprint
from pipeline.store.layout import data_folder
from pipeline.store.records import ListedFile

HELD_OUT_SHARD = "validation_"
"""Beginning of the names of held-out shards."""


def held_out_tokens(config: RunConfig) -> str:
    """Return the fingerprint of the tokens that are validated; empty where none are there.

    Losses a token can be compared where it is the same.
    """
    return _fingerprint(config, data_folder(config).tokens_manifest, ".bin")


def held_out_text(config: RunConfig) -> str:
    """Return the fingerprint of the documents that the validated tokens are of; empty without any.

    It is the same under two tokenizers. Bits per byte can be compared where it is the same.
    """
    return _fingerprint(config, data_folder(config).documents_manifest, ".parquet")


def _fingerprint(config: RunConfig, manifest_file: Path, suffix: str) -> str:
    """Return the fingerprint of the held-out shards and of the settings that choose rows of them."""
    manifest = read_manifest(manifest_file)
    if manifest is None:
        return ""
    # A source's shards make one stream, in the order of their names.
    shards: dict[str, list[str]] = {}
    for name in sorted(manifest["files"]):
        source, _, shard = name.partition("/")
        is_held_out = shard.startswith(HELD_OUT_SHARD) and shard.endswith(suffix)
        if is_held_out and source in config.sources:
            shards.setdefault(source, []).append(_content(manifest["files"][name]))
    if not shards:
        return ""
    return fingerprint(
        {
            "shards": shards,
            "sequence_length": config.data.sequence_length,
            "validation_sequences": config.data.validation_sequences,
        }
    )


def _content(record: ListedFile) -> str:
    """Return the checksum of a file; of a linked one that of its samples, which a copy has too."""
    if "checksum" in record:
        return record["checksum"]
    return record["samples"]
