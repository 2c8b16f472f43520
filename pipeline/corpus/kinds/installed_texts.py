"""The text that a Python installation holds: its library's sources, READMEs of distributions,
docstrings, help topics.

Reads the installation's files. Of modules only the standard library's own compiled ones are
imported, by another process; no code of others is executed. Everything is walked in sorted order,
so that the same installation gives the same texts.
"""

import ast
import csv
import importlib.machinery
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import sysconfig
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution
from pathlib import Path, PurePath
from typing import Any

import xxhash

from pipeline.logs import warn

FILES_IN_A_ROUND = 25
"""Files of a distribution whose turn it is; so the largest ones do not fill the slice."""
COPIES = frozenset(
    {"_vendor", "vendor", "vendored", "_distutils", "third_party", "extern", "externals"}
)
"""Folders in which distributions keep copies of other projects, whose text would then stand in two
groups."""
GENERATED = re.compile(r"topics\.py|_sysconfigdata.*\.py")
"""Library files that are no source: the help topics (their own slice has them) and this machine's
build settings."""
README = re.compile(r"(^|/)readme[^/]*?(\.md|\.rst|\.txt|(?<=readme))$", re.IGNORECASE)
PYTHON_SOURCE = re.compile(r"\.py$")
UNSAFE_MODULE = re.compile(r"_?xx.*|_?test.*|.*_test|readline")
"""Compiled modules for the interpreter's own tests, and one that writes to the terminal when
imported."""


@dataclass(frozen=True)
class Text:
    """One document. Texts of one group stay on one side of the train / validation split, in every
    slice."""

    text: str
    group: str
    origin: dict[str, str]
    """`path`, or `distribution` and `path`: relative, for the document's meta."""


@dataclass(frozen=True)
class Installation:
    """Where a Python installation keeps its text."""

    library: Path
    """The standard library's folder."""
    sites: tuple[Path, ...]
    """Folders with installed distributions."""
    compiled_modules: tuple[str, ...]
    """Standard-library modules without Python source, importable here."""


def this_installation() -> Installation:
    """Return the installation that runs this process; in a virtual environment the library is its
    base's."""
    library = Path(sysconfig.get_path("stdlib"))
    sites = tuple(dict.fromkeys(Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")))
    suffixes = tuple(importlib.machinery.EXTENSION_SUFFIXES)
    compiled = {
        file.name.partition(".")[0]
        for file in library.glob("lib-dynload/*")
        if file.name.endswith(suffixes)
    }
    names = sorted(
        name
        for name in compiled | set(sys.builtin_module_names)
        if not UNSAFE_MODULE.fullmatch(name)
    )
    return Installation(library, sites, tuple(names))


def group_order(group: str) -> int:
    """Return a pseudo-random rank; seeded, as the split's own hash would put all held-out groups
    first."""
    return xxhash.xxh3_64_intdigest(group.encode(), seed=1)


def library_group(path: PurePath) -> str:
    """Name the group of a library file: its top-level module, or below `test` the test module or
    package.

    `_json`, `_pydecimal` and the like are the inner halves of `json` and `decimal`, and hold the
    same docstrings.
    """
    parts = [part.removesuffix(".py") for part in path.parts]
    if parts[0] == "test" and len(parts) > 1:
        return f"test.{parts[1]}"
    if parts[0].startswith("_py") and parts[0][3:] in sys.stdlib_module_names:
        return parts[0][3:]
    return parts[0].strip("_").lower() or parts[0]


def library_sources(installation: Installation) -> Iterator[Text]:
    """Yield the library's `.py` files, its tests included, that are UTF-8 text."""
    for root, folders, names in os.walk(installation.library):
        folders[:] = sorted(set(folders) - {"site-packages", "dist-packages"})
        for name in sorted(names):
            if not name.endswith(".py") or GENERATED.fullmatch(name):
                continue
            path = (Path(root) / name).relative_to(installation.library)
            text = _read(installation.library / path)
            if text is not None:
                yield Text(text, library_group(path), {"path": path.as_posix()})


def readme_texts(distributions: Iterable[tuple[str, Distribution]]) -> Iterator[Text]:
    """Yield each distribution's description, and the README files that it installs."""
    for name, distribution in distributions:
        description = _description(distribution)
        if description:
            yield Text(description, name, {"distribution": name, "path": "METADATA"})
        for path in distribution_files(distribution, README):
            text = _read(Path(str(distribution.locate_file(path))))
            if text is not None:
                yield Text(text, name, {"distribution": name, "path": path})


def reference_texts(
    installation: Installation, distributions: Iterable[tuple[str, Distribution]], parsed_bytes: int
) -> Iterator[Text]:
    """Yield help topics, and docstrings joined to one document a module; no docstring twice.

    Sources of distributions are parsed up to `parsed_bytes`.
    """
    seen: set[int] = set()
    for topic, text in sorted(_topics(installation.library).items()):
        # One group: topics contain each other (`specialnames` is all of chapter 3.3).
        yield Text(text.strip(), "pydoc", {"path": f"pydoc_data/topics.py:{topic}"})
    for name, docstrings in _compiled_docstrings(installation.compiled_modules).items():
        text = _joined(name, docstrings, seen)
        if text:
            yield Text(text, library_group(PurePath(name)), {"path": name})
    parsed = 0
    for name, distribution, path in _in_rounds(distributions):
        source = _read(Path(str(distribution.locate_file(path))))
        if source is None or ('"""' not in source and "'''" not in source):
            continue
        parsed += len(source)
        if parsed > parsed_bytes:
            return
        module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        text = _joined(module, source_docstrings(source), seen)
        if text:
            yield Text(text, name, {"distribution": name, "path": path})


def _in_rounds(
    distributions: Iterable[tuple[str, Distribution]],
) -> list[tuple[str, Distribution, str]]:
    """Return all Python sources, some of every distribution before more of any."""
    rounds: dict[int, list[tuple[str, Distribution, str]]] = {}
    for name, distribution in distributions:
        paths = sorted(distribution_files(distribution, PYTHON_SOURCE), key=group_order)
        for number, path in enumerate(paths):
            rounds.setdefault(number // FILES_IN_A_ROUND, []).append((name, distribution, path))
    return [file for number in sorted(rounds) for file in rounds[number]]


def distributions_in(sites: Iterable[Path]) -> list[tuple[str, Distribution]]:
    """Return installed distributions by normalised name (PEP 503), each once, in their
    pseudo-random order."""
    found: dict[str, Distribution] = {}
    for distribution in importlib.metadata.distributions(path=[str(site) for site in sites]):
        name = distribution.metadata["Name"]
        if name:
            found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), distribution)
    return sorted(found.items(), key=lambda item: group_order(item[0]))


def distribution_files(distribution: Distribution, name: re.Pattern[str]) -> list[str]:
    """Return the paths, in the site, of installed files with such a name; copies of other projects
    are left out."""
    try:
        rows = csv.reader((distribution.read_text("RECORD") or "").splitlines())
        paths = [row[0] for row in rows if row and name.search(row[0])]
    except (UnicodeDecodeError, csv.Error):
        return []
    return sorted(
        path for path in paths if COPIES.isdisjoint(parts := path.split("/")) and ".." not in parts
    )


def source_docstrings(source: str) -> Iterator[tuple[str, str]]:
    """Yield `(dotted name, docstring)` of a source's module, classes and functions; none if it does
    not parse."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's sources
            waiting: list[tuple[str, Any]] = [("", ast.parse(source))]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    while waiting:
        name, node = waiting.pop()
        docstring = ast.get_docstring(node)
        if docstring:
            yield name, docstring
        inner = [
            child
            for child in node.body
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        ]
        waiting += [(f"{name}.{child.name}".lstrip("."), child) for child in reversed(inner)]


def _compiled_docstrings(modules: Sequence[str]) -> dict[str, list[tuple[str, str]]]:
    if not modules:
        return {}
    script = Path(__file__).with_name("compiled_docstrings.py")
    # -I -S: nothing but the standard library, not even what site packages run at start-up.
    done = subprocess.run(
        [sys.executable, "-I", "-S", script, *modules],
        capture_output=True,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode != 0:
        warn(
            "the docstrings of compiled modules are left out: "
            f"{done.stderr.decode(errors='replace')[-200:]}"
        )
        return {}
    return json.loads(done.stdout)


def _joined(module: str, docstrings: Iterable[tuple[str, str]], seen: set[int]) -> str:
    parts = []
    for name, docstring in docstrings:
        key = xxhash.xxh3_64_intdigest(" ".join(docstring.split()).encode(errors="surrogatepass"))
        if docstring and key not in seen:
            seen.add(key)
            parts.append(f"{module}.{name}".rstrip(".") + f"\n\n{docstring}\n")
    return "\n".join(parts)


def _topics(library: Path) -> dict[str, str]:
    source = _read(library / "pydoc_data" / "topics.py")
    for node in ast.parse(source or "").body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Dict):
            return ast.literal_eval(node.value)
    return {}


def _description(distribution: Distribution) -> str | None:
    try:
        metadata: Any = distribution.metadata  # an email.message.Message
    except UnicodeDecodeError:
        return None
    return metadata.get_payload().strip() or metadata.get("Description") or None


def _read(file: Path) -> str | None:
    """Return a file's text; None if it is no UTF-8 text or cannot be read."""
    try:
        text = file.read_bytes().decode()
    except (OSError, UnicodeDecodeError):
        return None
    return None if "\0" in text else text.removeprefix("\ufeff")
