"""Text from files, folders and models, shown so that nothing in it acts on a terminal or on the page of a report."""

import unicodedata
from functools import lru_cache

INVISIBLE = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
"""Unicode categories shown as codes: controls, formats (direction marks, joiners), surrogates, line separators."""


def visible(text: str, newline: str = "↵", tab: str = "⇥") -> str:
    """Return text with every character that a terminal would act on, or would not show, made visible.

    A control character becomes `<1B>` or `<U+202E>`, a tab `tab`, a line feed `newline`.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_visible(character, newline, tab) for character in text)


def harmless(text: str) -> str:
    """Return text of several lines with all but its line feeds and tabs made visible."""
    return visible(text, newline="\n", tab="\t")


@lru_cache(maxsize=4096)
def _visible(character: str, newline: str, tab: str) -> str:
    if character == "\n":
        return newline
    if character == "\t":
        return tab
    if unicodedata.category(character) not in INVISIBLE:
        return character
    code = ord(character)
    return f"<{code:02X}>" if code < 0x80 else f"<U+{code:04X}>"
