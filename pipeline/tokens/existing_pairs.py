"""The source kind `megatron`: token ids that exist already, as pairs of `.bin` and `.idx` files.

Finds the pairs where they lie, and describes them; reads no file's content.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from pipeline.config.run_config import RunConfig
from pipeline.corpus.file_search import SourceFiles
from pipeline.corpus.folders import expand_pattern, walk_files
from pipeline.corpus.rows import Reject, Row
from pipeline.corpus.source_kind import SourceKind
from pipeline.errors import DataError
from pipeline.tokens.indexed_dataset import PAIR, with_suffix
from pipeline.tokens.kinds.tokenizer_kind import tokenizer_kind

FIELDS = {"train": "paths", "validation": "validation_paths"}
"""Split -> the setting that names its pairs."""
REMEDY = "Copy the pair again, or take it out of sources.{source}.{field}."


@dataclass(frozen=True)
class Pair:
    """One indexed dataset that somebody else made."""

    source: str
    split: str
    prefix: Path
    """Absolute, without `.bin` and `.idx`."""

    @property
    def name(self) -> str:
        """How it is called in data_dir/tokens/<source>."""
        return f"{self.split}_{self.prefix.name}"

    @property
    def files(self) -> dict[str, Path]:
        return {suffix: with_suffix(self.prefix, suffix) for suffix in PAIR}

    @property
    def remedy(self) -> str:
        return REMEDY.format(source=self.source, field=FIELDS[self.split])


class ExistingPairs(SourceKind):
    """Token ids instead of text: `prepare` has nothing to do for them, `tokenize` links them."""

    has_documents = False
    takes_validation_paths = True

    def wrong_settings(self, config: RunConfig, name: str) -> list[str]:
        """Describe also a tokenizer that is still to be made: it cannot have made the ids."""
        problems = super().wrong_settings(config, name)
        if tokenizer_kind(config).is_learned:
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
        self, file: Path, text_field: str, advance: Callable[[int], None]
    ) -> Iterator[Row | Reject]:
        """Yield nothing: there are no files."""
        return iter(())


def inventory(config: RunConfig) -> dict[str, Any]:
    """Describe every existing pair for the stage's fingerprint; what is missing is described too,
    and so is stale."""
    described = {}
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

    Raises one DataError with all paths that give no pair, halves of pairs, and pairs that are named
    twice.
    """
    found, problems = {}, []
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
    """Yield a source's pairs, sorted by name within a split. Raises DataError with all that is
    wrong with them."""
    settings = config.sources[source]
    problems: list[str] = []
    pairs: list[Pair] = []
    for split, paths in (("train", settings.paths), ("validation", settings.validation_paths)):
        prefixes = set()
        for path in paths:
            setting = f"sources.{source}.{FIELDS[split]}: {path}"
            try:
                prefixes |= set(_prefixes(path, setting))
            except DataError as error:
                problems.append(str(error))
            except OSError as error:
                why = f"{error.filename} cannot be read: {error.strerror}"
                problems.append(
                    f"{setting}: {why}. Correct the path in the run file, or the file's "
                    "permissions."
                )
        pairs += [
            Pair(source, split, prefix) for prefix in sorted(prefixes, key=lambda p: (p.name, p))
        ]
    problems += _clashes(pairs)
    if problems:
        raise DataError("\n".join(problems))
    yield from pairs


def _prefixes(path: Path, setting: str) -> Iterator[Path]:
    """Expand a prefix, a file of a pair, a glob or a folder."""
    # Find the files that the path names.
    if path.is_dir():
        files = list(_pair_files(path))
    elif path.suffix in PAIR and path.exists():
        files = [path]
    else:  # a prefix, or a glob
        forms = [path, *(Path(f"{path}{suffix}") for suffix in PAIR)]
        is_plain = any(form.exists() for form in forms)
        matches = (
            forms if is_plain else [match for form in forms for match in expand_pattern(form)[1]]
        )
        files = [match for match in matches if match.suffix in PAIR and match.is_file()]
        files += [file for match in matches if match.is_dir() for file in _pair_files(match)]

    # A path that names nothing is a mistake.
    if not files:
        what = (
            "holds no .bin and .idx"
            if path.is_dir()
            else "is no pair: there is no such .bin and .idx"
        )
        raise DataError(
            f"{setting} {what}. Correct the path in the run file, or put the pair there."
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
            f"{setting} lacks {names}. Restore the other half of the pair, or take the pair out."
        )
    yield from prefixes


def _pair_files(folder: Path) -> Iterator[Path]:
    return (file for file in walk_files(folder, PAIR) if file.suffix in PAIR)


def _clashes(pairs: Sequence[Pair]) -> list[str]:
    """Name pairs that would get one link, and pairs that are both trained on and held out."""
    problems = []
    for one, other in pairwise(pairs):  # sorted by name
        if one.name == other.name:
            problems.append(
                f"sources.{one.source}.{FIELDS[one.split]}: two pairs have one name, {one.prefix} "
                f"and {other.prefix}. "
                f"Rename one, or make a source of each folder (data.mixture weighs them)."
            )
    held_out = {pair.prefix.resolve(): pair for pair in pairs if pair.split == "validation"}
    problems += [
        f"sources.{pair.source}: {pair.prefix} stands in paths and in validation_paths. What is "
        "held out must not be "
        f"trained on: take it out of one of them."
        for pair in pairs
        if pair.split == "train" and pair.prefix.resolve() in held_out
    ]
    return problems


def _size_and_time(file: Path) -> str:
    status = file.stat()
    changed = datetime.fromtimestamp(status.st_mtime_ns // 10**9, UTC)
    return f"{status.st_size} bytes, {changed:%Y-%m-%d %H:%M:%S}.{status.st_mtime_ns % 10**9:09d}"
