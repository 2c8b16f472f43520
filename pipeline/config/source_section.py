"""The sections `sources` and `prepare`: where the text is, and how it becomes documents.

The docstring of a field is what `pipeline config --describe` prints.
"""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from pipeline.config.kinds import SOURCE_KINDS, TREE_LAYOUTS, KindName
from pipeline.config.values import ByteCount, Encoding, Location, Section, SourceLocation
from pipeline.config.yaml_files import YamlValue


def _digits_of(value: YamlValue) -> YamlValue:
    """Return an id that is a number as its digits, as it stands in the index of ids."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value


LanguageTag = Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]
"""A language as names of RedPajama-v2's files have it: `en`, `de`, ..."""
SnapshotName = Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}$")]
"""A crawl of Common Crawl, by year and week: `2023-06`."""


def _field_names(value: YamlValue) -> YamlValue:
    """Pass the name of a field, or a list of names; anything else has one problem, not one a type."""
    names = value if isinstance(value, list | tuple) else [value]
    if not names or not all(isinstance(name, str) for name in names):
        message = "must be the name of a field, or a list of names such as [title, text]"
        raise PydanticCustomError("text_field", message)
    return value


class Source(Section):
    fields_left_out_unused = (
        "layout",
        "partitions",
        "languages",
        "snapshots",
        "text_separator",
        "encoding",
        "document_bytes",
        "delimiter",
        "validation_fraction",
    )

    kind: Annotated[str, KindName(SOURCE_KINDS)]
    """`jsonl`, `csv`, `text` and `warc` (web pages; needs the extra `web`), each also .gz, .zst, .xz, .bz2;
    `parquet`; `local-machine` (text that comes with this Python).

    `megatron`: existing token ids in pairs of `.bin` and `.idx` files, made with the tokenizer in
    `tokenizer.path`."""
    paths: tuple[SourceLocation, ...] = ()
    """Files, globs, or folders (searched recursively), also as URLs: `s3://BUCKET/FOLDER` is read
    as a stream and needs the extra `remote`, `gs://` and `az://` packages of their own
    (`pipeline/corpus/remote/README.md`). Not for `local-machine`. `megatron`: also the prefix of a
    pair, its path without `.bin`; no URLs."""
    validation_paths: tuple[SourceLocation, ...] = ()
    """Files that are held out for validation as a whole, written like `paths`; none of them is
    trained on, even if `paths` gives it, too. Of the training files then only `validation_fraction`
    is held out. `megatron`: the pairs held out. Layout `slimpajama`: by default the folder
    `validation` of the tree."""
    layout: Annotated[str, KindName(TREE_LAYOUTS, others=("auto", "plain"))] = "auto"
    """`jsonl` only: how the folders that `paths` names are laid out, where each is the root of a
    published corpus as it was downloaded (`pipeline/corpus/trees/README.md`). It decides which files
    hold documents or are held out, the `text_field`, and which files beside them describe the
    documents. `auto`: looked up in each folder. `plain`: all files in it are documents."""
    partitions: tuple[Literal["head", "middle", "tail"], ...] = ()
    """`redpajama-v2` only: buckets of perplexity that are read. Default: all that the tree has. `tail`
    has no signals, signatures and list of duplicates."""
    languages: tuple[LanguageTag, ...] = ()
    """`redpajama-v2` only: languages that are read. Default: all that the tree has."""
    snapshots: tuple[SnapshotName, ...] = ()
    """`redpajama-v2` only: crawls that are read, such as `2023-06`. Default: all that the tree has."""
    validation_fraction: float | None = Field(default=None, ge=0, lt=0.5)
    """Fraction of the documents in `paths` that are held out, chosen by hash. Default:
    `prepare.validation_fraction`; with `validation_paths` none."""
    text_field: Annotated[str | tuple[str, ...], BeforeValidator(_field_names)] = "text"
    """JSON key or column that holds the text of a document. In layout `redpajama-v2`, `text` stands
    for `raw_content`. `metadata.text`: the field `text` in the
    object or struct `metadata`; a key that has the dot in it comes first. `[title, text]`: several
    fields, joined with `text_separator`."""
    text_separator: str = "\n\n"
    """What stands between the fields of a joined `text_field`. A field that is missing or blank is
    left out with its separator."""
    encoding: Encoding = "utf-8"
    """Encoding of the files of kinds `jsonl`, `text` and `csv`, by the name that Python has for it:
    `latin-1`, `cp1252`, `utf-16`, `gb18030`, ..."""
    document_bytes: ByteCount | None = Field(default=None, ge=1)
    """`text` only: cut each file into documents, at the first blank line after this many bytes.
    Default: a file is a document."""
    delimiter: Annotated[str, Field(pattern=r'^[^"\r\n]$')] | None = None
    """`csv` only: the character between two fields. Default: a tab in files named `.tsv`, else a
    comma."""
    split_by: str = "text"
    """What is hashed to assign a document to training or validation: `text`, or a key of `meta`.
    Documents with the same value of that key go to the same side."""
    line_ends: Literal["lf", "as-they-are"] | None = None
    """`text` only: `lf`, the default, turns CRLF into LF and leaves a lone CR. Text from JSON or
    Parquet is never changed."""
    slice: Literal["code", "readmes", "reference"] | None = None
    """`local-machine` only. `code`: sources of the standard library. `readmes`: READMEs of the
    installed distributions. `reference`: docstrings and help topics."""

    def held_out_fraction(self, default: float) -> float:
        """Return the fraction of the documents in `paths` that are held out by hash.

        `default`: `prepare.validation_fraction`.
        """
        if self.validation_fraction is not None:
            return self.validation_fraction
        if self.validation_paths:
            return 0.0
        return default

    @property
    def has_documents(self) -> bool:
        """Whether the source holds text; one of existing token ids does not."""
        return SOURCE_KINDS[self.kind].has_documents


class ValidationIds(Section):
    ids: tuple[Annotated[str, BeforeValidator(_digits_of)], ...] = ()
    """Ids: what documents have in their meta as `id`, `url` or `*_id`."""
    file: Location | None = None
    """File of ids, one a line."""

    @model_validator(mode="after")
    def _has_ids(self) -> Self:
        if not self.ids and self.file is None:
            raise PydanticCustomError("ids", "needs `ids: [...]` or `file: PATH`; or leave it out")
        return self


class Prepare(Section):
    fields_left_out_unused = ("validation",)

    validation_fraction: float = Field(default=0.005, ge=0, lt=0.5)
    """Fraction of the documents held out for validation, chosen by hash."""
    validation: ValidationIds | None = None
    """Documents that are held out because they are listed, besides `validation_fraction`, in all
    sources. A text that is held out in one source is held out in every other."""
    max_bad_rows: float = Field(default=0.01, ge=0, le=1)
    """Maximum fraction of a source's rows that may be rejected; above it the stage fails."""
    on_broken_file: Literal["stop", "keep-readable-rows"] = "stop"
    """For a truncated or unreadable file. `stop`: read the other files, then stop the stage.
    `keep-readable-rows`: keep the rows before the break."""
    shard_text_bytes: ByteCount = Field(default=128 * 2**20, ge=1)
    """Bytes of text after which a new Parquet shard is started."""
