"""The token files that a run recorded at its start; data_dir may hold more of them now.

Reads and writes `tokens.json` in the run folder.
"""

from pathlib import Path

from pipeline.config.run_config import RunConfig
from pipeline.errors import DataError, first_of
from pipeline.sampling.stream import RecordedFile, RecordedTokens
from pipeline.store.artifacts import MOST_NAMED, read_manifest
from pipeline.store.counts import TokenizeCounts
from pipeline.store.files import read_json, write_json
from pipeline.store.layout import data_folder, manifest_path, run_folder
from pipeline.store.manifests.shard_places import file_of, logical_name
from pipeline.store.records import ListedFile, Manifest


def record_tokens(config: RunConfig) -> None:
    """Record the training shards of the run's sources, unless they are recorded already."""
    path = run_folder(config).recorded_tokens
    manifest: Manifest[TokenizeCounts] | None = read_manifest(data_folder(config).tokens_manifest)
    recorded: RecordedTokens | None = read_json(path)
    if manifest is None or (recorded is not None and recorded["output"] == manifest["output"]):
        return
    files = {
        logical_name(name): _content(record)
        for name, record in manifest["files"].items()
        if name.endswith(".bin") and file_of(name).startswith("train_")
    }
    content: RecordedTokens = {
        "output": manifest["output"],
        "counts": {"dtypes": manifest["counts"]["dtypes"]},
        "files": files,
    }
    write_json(path, content)


def _content(record: ListedFile) -> RecordedFile:
    """Return the part of a manifest's record that describes a file's content, not its place."""
    if "checksum" in record:
        return {"bytes": record["bytes"], "checksum": record["checksum"]}
    return {"bytes": record["bytes"], "identity": record["identity"]}


def tokens_of_run(config: RunConfig) -> RecordedTokens | None:
    """Return what a run recorded of its tokens, with the paths that the files have now.

    None where it recorded nothing. Raises DataError, naming the files, where files are missing in
    data_dir or hold other tokens.
    """
    tokens_dir = data_folder(config).tokens
    recorded: RecordedTokens | None = read_json(run_folder(config).recorded_tokens)
    manifest: Manifest[TokenizeCounts] | None = read_manifest(manifest_path(tokens_dir))
    if recorded is None or manifest is None:
        return None
    paths = {logical_name(path): path for path in manifest["files"]}
    changed = [
        name
        for name, record in recorded["files"].items()
        if not _is_unchanged(tokens_dir, paths.get(name, name), record, manifest)
    ]
    if changed:
        raise DataError(
            f"{tokens_dir}: {len(changed)} of the {len(recorded['files'])} token files that the "
            f"run in {config.paths.run_dir} was trained on are missing there, or hold other tokens "
            f"now: {first_of(changed, MOST_NAMED)}. So the run's samples cannot be determined. Set "
            "paths.data_dir=FOLDER to the folder that has these files"
        )
    files = {paths[name]: record for name, record in recorded["files"].items()}
    return {**recorded, "files": files}


def _is_unchanged(
    tokens_dir: Path, name: str, recorded: RecordedFile, manifest: Manifest[TokenizeCounts]
) -> bool:
    now = manifest["files"].get(name)
    if now is None or any(now.get(key) != value for key, value in recorded.items()):
        return False
    return (tokens_dir / name).is_file()
