"""What identifies the held-out text that a run's validation loss is of.

Reads the manifests of the data folder, and what the run has recorded of them. The content counts, not
where it lies: a copy is the same text.
"""

from collections.abc import Mapping
from pathlib import Path

from pipeline.config.run_config import RunConfig
from pipeline.store.artifacts import read_manifest
from pipeline.store.files import fingerprint, read_json
from pipeline.store.layout import data_folder, run_folder
from pipeline.store.manifests.shard_places import file_of, logical_name, source_of
from pipeline.store.records import Json, ListedFile

HELD_OUT_SHARD = "validation_"
"""Beginning of the names of held-out shards."""
TOKENS_RECORD = "output of tokens"
"""Key of what a run records of its tokens when it begins: the digest of their content."""


def held_out_tokens(config: RunConfig) -> str:
    """Return what identifies the tokens that are validated; empty where none are known.

    Losses a token can be compared where it is the same. Where the data folder is gone, or has been
    rebuilt with other content since the run began, it is what the run has recorded.
    """
    recorded = recorded_tokens(config)
    if recorded and not data_are_as_read(config):
        data = config.data
        return f"{recorded}, {data.sequence_length}, {data.validation_sequences}"
    return _fingerprint(config, data_folder(config).tokens_manifest, ".bin")


def held_out_text(config: RunConfig) -> str:
    """Return the fingerprint of the documents that the validated tokens are of; empty without any.

    It is the same under two tokenizers. Bits per byte can be compared where it is the same. It is empty,
    too, where the data folder no longer holds what the run has read: a run records no documents.
    """
    if not data_are_as_read(config):
        return ""
    return _fingerprint(config, data_folder(config).documents_manifest, ".parquet")


def recorded_tokens(config: RunConfig) -> str:
    """Return the digest of the tokens that the run recorded when it began; empty without one."""
    recorded: Mapping[str, Json] = read_json(run_folder(config).settings) or {}
    return str(recorded.get(TOKENS_RECORD) or "")


def data_are_as_read(config: RunConfig) -> bool:
    """Return whether the data folder holds the tokens that the run began with.

    A run that has not begun reads what is there.
    """
    recorded = recorded_tokens(config)
    if not recorded:
        return True
    manifest = read_manifest(data_folder(config).tokens_manifest)
    return manifest is not None and manifest["output"] == recorded


def _fingerprint(config: RunConfig, manifest_file: Path, suffix: str) -> str:
    """Return the fingerprint of the held-out shards and of the settings that choose rows of them."""
    manifest = read_manifest(manifest_file)
    if manifest is None:
        return ""
    # A source's shards make one stream, in the order of their names.
    shards: dict[str, list[str]] = {}
    for name in sorted(manifest["files"], key=logical_name):
        source = source_of(name)
        shard = file_of(name)
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
