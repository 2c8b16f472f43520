"""The source kind `megatron`: token ids that exist already, as pairs of `.bin` and `.idx` files.

Finds the pairs where they lie, and describes them for the stage's fingerprint. Reads names, sizes
and times of files, but not their content.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from pipeline.config.run_config import RunConfig
from pipeline.config.urls import RawPath, Url
from pipeline.corpus.file_search import SourceFiles
from pipeline.corpus.folders import expand_pattern, walk_files
from pipeline.corpus.row_settings import RowSettings
from pipeline.corpus.rows import Reject, Row
from pipeline.corpus.source_kind import SourceKind
from pipeline.errors import DataError
from pipeline.tokens.indexed_dataset import PAIR, with_suffix
from pipeline.tokens.kinds.tokenizer_kind import tokenizer_kind

FIELDS = {"train": "paths", "validation": "validation_paths"}
"""Split -> the setting that names its pairs."""


@dataclass(frozen=True)
class Pair:
    """One indexed dataset that was made elsewhere."""

    source: str
    split: str
    prefix: Path
    """Absolute path without `.bin` and `.idx`."""

    @property
    def name(self) -> str:
        """Name in data_dir/tokens/<source>."""
        return f"{self.split}_{self.prefix.name}"

    @property
    def files(self) -> dict[str, Path]:
        """Suffix -> file."""
        return {suffix: with_suffix(self.prefix, suffix) for suffix in PAIR}

    @property
    def remedy(self) -> str:
        """What to do about a pair that cannot be used, for messages."""
        setting = f"sources.{self.source}.{FIELDS[self.split]}"
        return f"Copy the pair again, or remove it from {setting}."


class ExistingPairs(SourceKind):
    """Token ids instead of text: `prepare` has nothing to do, `tokenize` links the pairs."""

    has_documents = False
    takes_validation_paths = True

    def wrong_settings(self, config: RunConfig, name: str) -> list[str]:
        """Describe what any kind refuses, and a tokenizer that is yet to be learned.

        Such a tokenizer cannot have made the ids.
        """
        problems = super().wrong_settings(config, name)
        source = config.sources[name]
        for path in (*source.paths, *source.validation_paths):
            if isinstance(path, Url):
                problems.append(
                    f"sources.{name}: {path}: pairs of token ids are read at random places by every "
                    "rank, which a URL is too slow for; copy the pair to a disk and name the copy"
                )
        if config.has("tokenizer") and tokenizer_kind(config).is_learned:
            problems.append(
                f"tokenizer.kind = {config.tokenizer.kind}: the ids of sources.{name} (kind "
                "megatron) were made by a tokenizer that exists; set tokenizer.kind to pretrained "
                "and tokenizer.path to its folder"
            )
        return problems

    def find_files(self, config: RunConfig, name: str) -> SourceFiles:
        """Return no files: there is no text."""
        return SourceFiles([], [], [])

    def identify(self, config: RunConfig, name: str) -> dict[str, str | None]:
        """Return nothing: `prepare` does not depend on the pairs."""
        return {}

    def rows(
        self, file: RawPath, settings: RowSettings, advance: Callable[[int], None]
    ) -> Iterator[Row | Reject]:
        """Yield nothing: there are no files."""
        return iter(())


def pair_inventory(config: RunConfig) -> dict[str, str]:
    """Describe every existing pair for the stage's fingerprint.

    What is wrong with a source's pairs is described instead of them: its message differs from any
    description, so the stage is stale.
    """
    described: dict[str, str] = {}
    for name, source in config.sources.items():
        if source.has_documents:
            continue
        try:
            for pair in _pairs_of(config, name):
                for file in pair.files.values():
                    described[f"{name}, {pair.split}, {file}"] = _size_and_time(file)
        except DataError as error:
            described[f"pairs of {name}"] = str(error)
    return described


def find_pairs(config: RunConfig) -> dict[str, list[Pair]]:
    """Return the pairs of each source that has no documents.

    Raises one DataError with every path that gives no pair, every half of a pair, and pairs that
    share a name or are both trained on and held out.
    """
    found: dict[str, list[Pair]] = {}
    problems: list[str] = []
    for name, source in config.sources.items():
        if source.has_documents:
            continue
        try:
            found[name] = list(_pairs_of(config, name))
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError("\n".join(problems))
    return found


def _pairs_of(config: RunConfig, source: str) -> Iterator[Pair]:
    """Yield a source's pairs, sorted by name within a split.

    Raises DataError with everything that is wrong with them.
    """
    settings = config.sources[source]
    problems: list[str] = []
    pairs: list[Pair] = []
    for split, paths in (("train", settings.paths), ("validation", settings.validation_paths)):
        prefixes: set[Path] = set()
        for path in paths:
            assert isinstance(path, Path), "URLs are refused when the run file is loaded"
            setting = f"sources.{source}.{FIELDS[split]}: {path}"
            try:
                prefixes |= set(_prefixes(path, setting))
            except DataError as error:
                problems.append(str(error))
            except OSError as error:
                problems.append(
                    f"{setting}: {error.filename} cannot be read: {error.strerror}. Correct the "
                    "path in the run file, or the file's permissions."
                )
        pairs += [
            Pair(source, split, prefix) for prefix in sorted(prefixes, key=lambda p: (p.name, p))
        ]
    problems += _clashes(pairs)
    if problems:
        raise DataError("\n".join(problems))
    yield from pairs


def _prefixes(path: Path, setting: str) -> Iterator[Path]:
    """Yield the prefixes that a prefix, a file of a pair, a glob or a folder stands for."""
    # A path that names nothing is a mistake.
    files = _files_named_by(path)
    if not files:
        problem = "is no pair: there is no such .bin and .idx"
        if path.is_dir():
            problem = "holds no .bin and .idx"
        raise DataError(
            f"{setting} {problem}. Correct the path in the run file, or put the pair there."
        )

    # Each file needs the other half of its pair.
    prefixes = {file.with_name(file.name.removesuffix(file.suffix)) for file in files}
    halves = [with_suffix(prefix, suffix) for prefix in sorted(prefixes) for suffix in PAIR]
    lost = [
        half for half in halves if not half.is_file()
    ]  # nor a FIFO, which nobody may ever write to
    if lost:
        names = ", ".join(map(str, lost))
        raise DataError(
            f"{setting} lacks {names}. Restore the missing file of the pair, or remove the pair."
        )
    yield from prefixes


def _files_named_by(path: Path) -> list[Path]:
    """Return the `.bin` and `.idx` files that a path of the run file stands for."""
    if path.is_dir():
        return list(_pair_files(path))
    if path.suffix in PAIR and path.exists():
        return [path]

    # A prefix, or a glob: of prefixes, files or folders.
    forms = [path, *(Path(f"{path}{suffix}") for suffix in PAIR)]
    matches = forms
    if not any(form.exists() for form in forms):
        matches = [match for form in forms for match in expand_pattern(form)[1]]
    files = [match for match in matches if match.suffix in PAIR and match.is_file()]
    for match in matches:
        if match.is_dir():
            files += _pair_files(match)
    return files


def _pair_files(folder: Path) -> Iterator[Path]:
    return (file for file in walk_files(folder, PAIR) if file.suffix in PAIR)


def _clashes(pairs: Sequence[Pair]) -> list[str]:
    """Name pairs that would get the same link, and pairs that are both trained on and held out.

    `pairs`: sorted by name within a split.
    """
    problems: list[str] = []
    for pair, next_pair in pairwise(pairs):
        if pair.name == next_pair.name:
            problems.append(
                f"sources.{pair.source}.{FIELDS[pair.split]}: two pairs have the same name, "
                f"{pair.prefix} and {next_pair.prefix}. Rename one, or make a source of each "
                "folder (data.mixture weighs them)."
            )
    held_out = {pair.prefix.resolve(): pair for pair in pairs if pair.split == "validation"}
    problems += [
        f"sources.{pair.source}: {pair.prefix} is in both paths and validation_paths. Held-out "
        "data must not be trained on: remove it from one of them."
        for pair in pairs
        if pair.split == "train" and pair.prefix.resolve() in held_out
    ]
    return problems


def _size_and_time(file: Path) -> str:
    status = file.stat()
    changed = datetime.fromtimestamp(status.st_mtime_ns // 10**9, UTC)
    return f"{status.st_size} bytes, {changed:%Y-%m-%d %H:%M:%S}.{status.st_mtime_ns % 10**9:09d}"
