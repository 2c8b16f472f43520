"""What is asked of a kind of source, and of the sources of a run file together.

Each kind is one class in a file of its own, listed in `pipeline.config.kinds`. Reads folders;
`read_rows` reads a file.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path

from pipeline.config.kinds import SOURCE_KINDS
from pipeline.config.run_config import RunConfig
from pipeline.config.sections import Source
from pipeline.corpus.file_search import SourceFiles, has_files, search_files
from pipeline.corpus.raw_files import FileBroken
from pipeline.corpus.recognised import why_not_fetched
from pipeline.corpus.rows import Reject, Row
from pipeline.errors import DataError, UserError
from pipeline.store.files import fingerprint
from pipeline.store.layout import data_folder


class SourceKind(ABC):
    """One kind of source. It has no state of its own."""

    has_documents = True
    """Whether there is text to prepare; not where token ids exist already."""
    has_text_field = False
    """Whether a row names its text, so that `text_field` may be wrong."""
    takes_line_ends = False
    """Whether `line_ends` is a setting of this kind."""
    takes_validation_paths = False
    """Whether `validation_paths` is a setting of this kind."""
    makes_its_files = False
    """Whether `find_files` first writes the files, for minutes. It is then called by the stage
    alone, after the other kinds' files were found."""
    row_kind: str | None = None
    """Name of the kind whose rows its files hold; None: its own."""

    def wrong_settings(self, config: RunConfig, name: str) -> list[str]:
        """Describe what is wrong with the settings of a source of this kind, each a line with its
        remedy."""
        source = config.sources[name]
        problems = self.wrong_places(name, source)
        if source.line_ends is not None and not self.takes_line_ends:
            problems.append(
                f"sources.{name}.line_ends = {source.line_ends}: only for kind text; of "
                f"{source.kind}, text is never changed; leave it out"
            )
        if source.validation_paths and not self.takes_validation_paths:
            problems.append(
                f"sources.{name}.validation_paths: only for kind megatron; of {source.kind}, "
                "prepare.validation_fraction holds a share out"
            )
        return problems

    def wrong_places(self, name: str, source: Source) -> list[str]:
        """Describe what is wrong with the settings that say where the source is."""
        if source.slice is None and source.paths:
            return []
        return [f"sources.{name}: kind {source.kind} takes `paths: [...]` and no slice"]

    @abstractmethod
    def find_files(self, config: RunConfig, name: str) -> SourceFiles:
        """Return the raw files of a source. Raises DataError with all that is wrong with them."""

    @abstractmethod
    def identify(self, config: RunConfig, name: str) -> dict[str, str | None]:
        """Describe what `prepare` reads of a source, for the stage's fingerprint, without reading a
        file's content."""

    @abstractmethod
    def rows(
        self, file: Path, text_field: str, advance: Callable[[int], None]
    ) -> Iterator[Row | Reject]:
        """Yield a file's rows in order; raises FileBroken where it cannot be read on.

        `advance` is called with the number of raw bytes read since its last call.
        """

    def read_rows(
        self, file: Path, text_field: str, advance: Callable[[int], None] = lambda count: None
    ) -> Generator[Row | Reject]:
        """Yield a file's rows in order; raises FileBroken, whatever went wrong, at the point where
        it cannot be read on.

        While a row is parsed it takes up to six times its size: the line, the parser's copy, and a
        `str`, of four bytes a character where one is rare.
        """
        try:
            yield from self.rows(file, text_field, advance)
        except OSError as error:  # the file's: what is done between rows is not raised in here
            raise FileBroken(file, f"cannot be read: {error.strerror or error}") from None
        except (MemoryError, UserError):
            raise
        except Exception as error:  # one file that nobody has thought of ends no stage
            raise FileBroken(file, f"cannot be read: {type(error).__name__}: {error}") from None


class RawFiles(SourceKind):
    """A kind whose sources are raw files that `paths` names."""

    suffixes: Sequence[str]
    """Ends of the names of files, in lower case, that are taken from a folder that is searched; a
    file that is named, or matched by a glob, is taken anyway."""
    names_splits = True
    """Whether a file's name may say that others hold it out."""

    def why_unreadable(self, head: bytes) -> str | None:
        """Return why no row of a file that begins so can be read, and what to do about it; None
        where nothing is wrong.

        `head`: its content, decompressed; of a longer file at least the first kilobytes.
        """
        return why_not_fetched(head)

    def search(self, name: str, paths: Sequence[Path], own: Sequence[Path] = ()) -> SourceFiles:
        """Return what paths give to a source of this name, nothing of it below the folders
        `own`."""
        return search_files(name, self.suffixes, paths, own, self.names_splits)

    def find_files(self, config: RunConfig, name: str) -> SourceFiles:
        """Search the source's paths."""
        return self.search(name, config.sources[name].paths, own_folders(config))

    def identify(self, config: RunConfig, name: str) -> dict[str, str | None]:
        """Return a hash of the files' names, sizes and times of change.

        None for a source whose paths are all gone; where only some are, or files clash, what is
        wrong: so a mistyped path beside a good one makes the stage stale, and running it tells.
        """
        subject = f"files of {name}"
        try:
            files = self.find_files(config, name).files
        except DataError as error:
            own = own_folders(config)
            paths = config.sources[name].paths
            is_there = any(has_files(path, self.suffixes, own) for path in paths)
            return {subject: str(error) if is_there else None}
        return {subject: fingerprint([file.identity for file in files])}


def source_kind(source: Source) -> SourceKind:
    """Return the object that knows the kind of a source."""
    return SOURCE_KINDS[source.kind]


def input_files(config: RunConfig) -> dict[str, SourceFiles]:
    """Return the files of each source that does not make them itself; raises one DataError with all
    that is missing."""
    files: dict[str, SourceFiles] = {}
    problems = []
    for name, source in config.sources.items():
        kind = source_kind(source)
        if kind.makes_its_files:
            continue
        try:
            files[name] = kind.find_files(config, name)
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError("\n".join(problems))
    return files


def describe_sources(config: RunConfig) -> dict[str, str | None]:
    """Describe what `prepare` reads from outside, for its fingerprint."""
    described: dict[str, str | None] = {}
    for name, source in config.sources.items():
        described |= source_kind(source).identify(config, name)
    return described


def own_folders(config: RunConfig) -> list[Path]:
    """Return the folders of text that the pipeline itself writes: searched, they would give every
    text again."""
    data = data_folder(config)
    texts = [data.documents, data.tokenizer, data.tokens, data.raw_local_machine]
    return [config.paths.run_dir, *texts]
