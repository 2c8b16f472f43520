"""The interface of a source kind, and what is asked of all sources of a run file together.

Each kind is one class in a file of its own, listed in `pipeline.config.kinds`. Searches folders;
`read_rows` reads one raw file. Writes nothing.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from pipeline.config.kinds import SOURCE_KINDS
from pipeline.config.run_config import RunConfig
from pipeline.config.source_section import Source
from pipeline.config.urls import RawPath
from pipeline.corpus.file_search import InputFile, SourceFiles, Trees, has_files, search_files
from pipeline.corpus.held_out.listed_ids import describe_ids
from pipeline.corpus.held_out.validation_files import join_validation_files
from pipeline.corpus.raw_files import FileBroken
from pipeline.corpus.recognised import why_not_fetched
from pipeline.corpus.remote.connection import Unreachable
from pipeline.corpus.remote.listing import ServerFile
from pipeline.corpus.row_settings import UTF_8, RowSettings, row_settings
from pipeline.corpus.rows import Reject, Row
from pipeline.corpus.trees.find_trees import held_out_trees, trees_in_paths, wrong_choices
from pipeline.errors import DataError, UserError
from pipeline.logs import warn
from pipeline.store.contamination_files import SearchFolder
from pipeline.store.files import fingerprint
from pipeline.store.layout import data_folder
from pipeline.store.manifests.recorded_settings import PROBLEM, SettingValue
from pipeline.store.stages import STAGES


class SourceKind(ABC):
    """One kind of source; an object without state."""

    has_documents = True
    """Whether the source holds text to prepare; false where token ids exist already."""
    has_text_field = False
    """Whether the text is in named fields of a row, so that `text_field` may be wrong."""
    takes_encoding = False
    """Whether `encoding` is a setting of this kind: whether its files are text."""
    takes_line_ends = False
    """Whether `line_ends` is a setting of this kind."""
    takes_document_bytes = False
    """Whether `document_bytes` is a setting of this kind."""
    takes_delimiter = False
    """Whether `delimiter` is a setting of this kind."""
    takes_validation_paths = False
    """Whether `validation_paths` is a setting of this kind."""
    takes_layout = False
    """Whether `layout` is a setting of this kind: whether published corpora have its files."""
    makes_its_files = False
    """Whether `find_files` writes the files first, which takes minutes. Then only the stage calls
    it, after the files of the other kinds were found."""
    packages: tuple[str, ...] = ()
    """Packages that reading a file imports and that come with `extra` only."""
    extra = ""
    """Name of the optional dependencies that bring the packages."""
    row_kind: str | None = None
    """Name of the kind that reads the rows of the files; None where this kind reads them itself."""

    def wrong_settings(self, config: RunConfig, name: str) -> list[str]:
        """Return a line with a remedy for each wrong setting of a source of this kind."""
        source = config.sources[name]
        problems = self.wrong_places(name, source)
        if source.line_ends is not None and not self.takes_line_ends:
            problems.append(
                f"sources.{name}.line_ends = {source.line_ends}: only kind text has this setting; "
                f"the text of kind {source.kind} is never changed; leave the setting out"
            )
        problems += self._unusable_settings(name, source)
        problems += wrong_choices(name, source, self.takes_layout)
        if source.validation_paths and not self.takes_validation_paths:
            problems.append(
                f"sources.{name}.validation_paths: kind {source.kind} has no such setting; "
                "prepare.validation_fraction decides what is held out; leave it out"
            )
        if source.validation_fraction is not None and not self.has_documents:
            problems.append(
                f"sources.{name}.validation_fraction = {source.validation_fraction}: kind "
                f"{source.kind} holds out its validation_paths; leave it out"
            )
        return problems

    def _unusable_settings(self, name: str, source: Source) -> list[str]:
        """Return a line for each setting of how files become rows that this kind does not have."""
        problems: list[str] = []
        if source.encoding != UTF_8 and not self.takes_encoding:
            problems.append(
                f"sources.{name}.encoding = {source.encoding}: kind {source.kind} has no such "
                f"setting; only {_kinds_with('takes_encoding')} have it; leave it out"
            )
        if source.document_bytes is not None and not self.takes_document_bytes:
            problems.append(
                f"sources.{name}.document_bytes = {source.document_bytes}: only "
                f"{_kinds_with('takes_document_bytes')} is cut into documents; leave it out"
            )
        if source.delimiter is not None and not self.takes_delimiter:
            problems.append(
                f"sources.{name}.delimiter = {source.delimiter!r}: only "
                f"{_kinds_with('takes_delimiter')} has fields between delimiters; leave it out"
            )
        names = row_settings(source).text_fields
        repeated = sorted({text_field for text_field in names if names.count(text_field) > 1})
        if repeated:
            problems.append(
                f"sources.{name}.text_field: names {', '.join(repeated)} twice; name each field once"
            )
        return problems

    def wrong_places(self, name: str, source: Source) -> list[str]:
        """Return a line for each wrong setting among those that say where the source is."""
        if source.slice is None and source.paths:
            return []
        return [f"sources.{name}: kind {source.kind} takes `paths: [...]` and no slice"]

    def missing_packages(self, name: str) -> list[str]:
        """Return the problem of a source whose kind needs packages that are not installed."""
        missing = [package for package in self.packages if find_spec(package) is None]
        if not missing:
            return []
        return [
            f"sources.{name}: its kind needs packages that are not installed: {', '.join(missing)}; "
            f"`pip install -c constraints.txt -e '.[{self.extra}]'`, or remove the source"
        ]

    @abstractmethod
    def find_files(self, config: RunConfig, name: str) -> SourceFiles:
        """Return the raw files of a source. Raises DataError with every problem of its paths."""

    @abstractmethod
    def identify(self, config: RunConfig, name: str) -> Mapping[str, SettingValue]:
        """Return what identifies the raw files of a source, for the fingerprint of `prepare`.

        No file's content is read.
        """

    @abstractmethod
    def rows(
        self, file: RawPath, settings: RowSettings, advance: Callable[[int], None]
    ) -> Iterator[Row | Reject]:
        """Yield the rows of a file in order. Raises FileBroken where reading cannot continue.

        `advance` is called with the number of raw bytes read since its last call.
        """

    def read_rows(
        self,
        file: RawPath,
        settings: RowSettings,
        advance: Callable[[int], None] = lambda count: None,
    ) -> Generator[Row | Reject]:
        """Yield the rows of a file in order. Raises FileBroken for any error of the file.

        While a row is parsed, it takes up to six times its size in memory: the line, the parser's
        copy, and a `str`, which takes four bytes a character if one character is outside the BMP.
        """
        try:
            yield from self.rows(file, settings, advance)
        except OSError as error:
            # An error of this file: what the caller does between two rows is not raised in here.
            raise FileBroken(file, f"cannot be read: {error.strerror or error}") from None
        except (MemoryError, UserError):
            raise
        except Exception as error:
            # One file that is broken in an unforeseen way must not end the stage with a bug.
            raise FileBroken(file, f"cannot be read: {type(error).__name__}: {error}") from None


class RawFiles(SourceKind):
    """A kind whose sources are raw files, given by `paths`."""

    suffixes: Sequence[str]
    """Suffixes of file names, in lower case, that a search of a folder takes. A file that `paths`
    names, or that a glob matches, is taken whatever its suffix."""
    takes_validation_paths = True
    names_splits = True
    """Whether the name of a file may mark it as a held-out split (`test`, `validation`, ...)."""

    def why_unreadable(self, head: bytes) -> str | None:
        """Return why a file that begins with `head` holds no rows, and a remedy; None if it may.

        `head`: the decompressed content, or at least the first kilobytes of a longer file.
        """
        return why_not_fetched(head)

    def search(
        self,
        name: str,
        paths: Sequence[RawPath],
        own: Sequence[Path] = (),
        published: Trees | None = None,
    ) -> SourceFiles:
        """Return the files that `paths` give to source `name`, none from below the folders `own`."""
        setting = f"{name}.paths"
        return search_files(setting, self.suffixes, paths, own, self.names_splits, published)

    def _search_validation(self, config: RunConfig, name: str) -> SourceFiles:
        source = config.sources[name]
        setting = f"{name}.validation_paths"
        own = own_folders(config)
        published = Trees(source, {tree.root: tree for tree in held_out_trees(source)})
        paths = source.validation_paths
        return search_files(setting, self.suffixes, paths, own, False, published)

    def find_files(self, config: RunConfig, name: str) -> SourceFiles:
        """Return the files that the source's `paths` and `validation_paths` give."""
        source = config.sources[name]
        published = Trees(source, trees_in_paths(name, source))
        training = self.search(name, source.paths, own_folders(config), published)
        if source.validation_paths:
            validation = self._search_validation(config, name)
        elif training.validation_files:
            validation = SourceFiles(training.validation_files, [], [])
        else:
            return training
        return join_validation_files(name, training, validation)

    def identify(self, config: RunConfig, name: str) -> Mapping[str, SettingValue]:
        """Return a hash of the files' names, sizes and modification times.

        Where some files are on a server, size and version of each file by its name, so that the
        message of a stale stage can name those that changed. None for a source whose paths are all
        missing, or whose server cannot be asked. Where only some paths are missing, or files
        clash, the text of the error (after PROBLEM): so a mistyped path beside a good one makes the stage stale,
        and running the stage reports the error.
        """
        source = config.sources[name]
        subjects = [f"files of {name}"]
        if source.validation_paths:
            subjects.append(f"validation files of {name}")
        try:
            files = self.find_files(config, name)
        except Unreachable as error:
            warn(f"source {name}: its files are not compared with those of the last run: {error}")
            return dict.fromkeys(subjects)
        except DataError as error:
            own = own_folders(config)
            paths = [*source.paths, *source.validation_paths]
            if any(has_files(path, self.suffixes, own) for path in paths):
                problem = f"{PROBLEM}{error}"
                return {**dict.fromkeys(subjects), subjects[0]: problem}
            return dict.fromkeys(subjects)
        identities = {subjects[0]: _identities(files.files)}
        if source.validation_paths or files.validation_files:
            identities[f"validation files of {name}"] = _identities(files.validation_files)
        return identities


def _identities(files: Sequence[InputFile]) -> SettingValue:
    """Return what identifies files: a hash, or of files on a server each one's version and size."""
    if any(isinstance(file.path, ServerFile) for file in files):
        return {file.name: f"{file.version}, {file.size} bytes" for file in files}
    return fingerprint([file.identity for file in files])


def _kinds_with(attribute: str) -> str:
    """Return the names of the kinds that have a setting, for messages."""
    return " and ".join(
        name for name in SOURCE_KINDS.paths if getattr(SOURCE_KINDS[name], attribute)
    )


def source_kind(source: Source) -> SourceKind:
    """Return the object of the source's kind."""
    return SOURCE_KINDS[source.kind]


def input_files(config: RunConfig) -> dict[str, SourceFiles]:
    """Return the files of each source, but for those of kinds that write their files themselves.

    Raises one DataError with the problems of all sources.
    """
    files: dict[str, SourceFiles] = {}
    problems = []
    for name, source in config.sources.items():
        kind = source_kind(source)
        if kind.makes_its_files:
            continue
        problems += kind.missing_packages(name)
        try:
            files[name] = kind.find_files(config, name)
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError("\n".join(problems))
    return files


def describe_sources(config: RunConfig) -> dict[str, SettingValue]:
    """Return what identifies the raw files of all sources, for the fingerprint of `prepare`."""
    described: dict[str, SettingValue] = dict(describe_ids(config))
    for name, source in config.sources.items():
        described |= source_kind(source).identify(config, name)
    return described


def own_folders(config: RunConfig) -> list[Path]:
    """Return the folders that the pipeline writes, whose files no search may take as raw text."""
    data = data_folder(config)
    shared = [
        stage.folder(config) for stage in STAGES if stage.shared and config.has(*stage.sections)
    ]
    searches = SearchFolder(config.paths.data_dir).path
    return [config.paths.run_dir, *shared, data.packings, data.raw_local_machine, searches]
