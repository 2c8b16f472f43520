"""Which token files a run reads, as it has recorded them at its start: data_dir may have more of
them now.

Writes `tokens.json` in the run folder.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.config.run_config import RunConfig
from pipeline.errors import DataError, first_of
from pipeline.store.artifacts import MOST_NAMED, read_manifest
from pipeline.store.files import read_json, write_json
from pipeline.store.layout import data_folder, manifest_path, run_folder

CONTENT = ("bytes", "checksum", "identity")
"""What the tokens' manifest says of a file's content, and not of where it was linked from."""


def record_tokens(config: RunConfig) -> None:
    """Write down the training shards of the run's sources, unless they are recorded already."""
    path = run_folder(config).recorded_tokens
    manifest = read_manifest(data_folder(config).tokens_manifest)
    recorded = read_json(path)
    if manifest is None or (recorded is not None and recorded["output"] == manifest["output"]):
        return
    files = {
        name: {key: record[key] for key in CONTENT if key in record}
        for name, record in manifest["files"].items()
        if name.endswith(".bin") and name.partition("/")[2].startswith("train_")
    }
    write_json(
        path,
        {
            "output": manifest["output"],
            "counts": {"dtypes": manifest["counts"]["dtypes"]},
            "files": files,
        },
    )


def tokens_of_run(config: RunConfig) -> Mapping[str, Any] | None:
    """Return what a run has recorded of its tokens, where they are still as they were; None where
    it recorded nothing.

    Raises DataError naming the files that are missing in data_dir, or others now.
    """
    tokens_dir = data_folder(config).tokens
    recorded = read_json(run_folder(config).recorded_tokens)
    manifest = read_manifest(manifest_path(tokens_dir))
    if recorded is None or manifest is None:
        return None
    changed = [
        name
        for name, record in recorded["files"].items()
        if not _is_the_same(tokens_dir, name, record, manifest)
    ]
    if changed:
        raise DataError(
            f"{tokens_dir}: {len(changed)} of the {len(recorded['files'])} token files that the "
            "run in "
            f"{config.paths.run_dir} was trained on are missing there, or hold other tokens now: "
            f"{first_of(changed, MOST_NAMED)}. So its samples cannot be told. Name the folder that "
            "has them: "
            "paths.data_dir=FOLDER"
        )
    return recorded


def _is_the_same(
    tokens_dir: Path, name: str, recorded: Mapping[str, Any], manifest: Mapping[str, Any]
) -> bool:
    now = manifest["files"].get(name)
    if now is None or any(now.get(key) != value for key, value in recorded.items()):
        return False
    return (tokens_dir / name).is_file()
