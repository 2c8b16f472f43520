"""The settings of a source that decide how its files become rows. Reads no file."""

from dataclasses import asdict, dataclass, fields

from pipeline.config.source_section import Source
from pipeline.store.records import Json

UTF_8 = "utf-8"
"""Encoding of files whose source names none."""


@dataclass(frozen=True)
class RowSettings:
    """The settings that a kind of source needs to read the rows of a file.

    The meaning of each is in the field of the same name of `sources`.
    """

    text_field: str | tuple[str, ...] = "text"
    text_separator: str = "\n\n"
    encoding: str = UTF_8
    document_bytes: int | None = None
    delimiter: str | None = None

    @property
    def text_fields(self) -> tuple[str, ...]:
        """Names of the fields that are joined to the text."""
        if isinstance(self.text_field, str):
            return (self.text_field,)
        return self.text_field

    @property
    def text_field_in_words(self) -> str:
        """The names in quotes, for messages: `'text'`, or `'title' and 'text'`."""
        return " and ".join(map(repr, self.text_fields))

    @property
    def inputs(self) -> dict[str, Json]:
        """What enters the fingerprint of a task: the text field, and what differs from its default.

        A setting that is added here changes no fingerprint where it is not used.
        """
        values: dict[str, Json] = asdict(self)
        unused = {
            field.name
            for field in fields(self)
            if field.name != "text_field" and values[field.name] == field.default
        }
        return {name: value for name, value in values.items() if name not in unused}


def row_settings(source: Source) -> RowSettings:
    """Return the settings of a source that its kind needs to read rows."""
    return RowSettings(
        text_field=source.text_field,
        text_separator=source.text_separator,
        encoding=source.encoding,
        document_bytes=source.document_bytes,
        delimiter=source.delimiter,
    )
