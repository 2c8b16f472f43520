"""The text of a Python installation: library sources, READMEs, docstrings and help topics.

Reads the files of the installation; writes none. Only compiled modules of the standard library are
imported, by another process: no code of other projects is executed. Files are read in sorted
order, so that the same installation gives the same texts.
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
"""Files taken from a distribution before the next one has its turn, so that the largest
distributions do not fill the slice."""
COPIES = frozenset(
    {"_vendor", "vendor", "vendored", "_distutils", "third_party", "extern", "externals"}
)
"""Folders in which distributions keep copies of other projects: their text would be in two groups."""
GENERATED = re.compile(r"topics\.py|_sysconfigdata.*\.py")
"""Library files that are not source code: the help topics, which have a slice of their own, and this
machine's build settings."""
README = re.compile(r"(^|/)readme[^/]*?(\.md|\.rst|\.txt|(?<=readme))$", re.IGNORECASE)
PYTHON_SOURCE = re.compile(r"\.py$")
UNSAFE_MODULE = re.compile(r"_?xx.*|_?test.*|.*_test|readline")
"""Compiled modules for the interpreter's own tests, and one that writes to the terminal on import."""


Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
"""Parts of a source that may have a docstring."""


@dataclass(frozen=True)
class Text:
    """One document. All texts of a group are in the same split, train or validation."""

    text: str
    group: str
    origin: dict[str, str]
    """`path`, or `distribution` and `path`, for the document's meta; paths are relative."""


@dataclass(frozen=True)
class Installation:
    """The places where a Python installation keeps its text."""

    library: Path
    """Folder of the standard library."""
    sites: tuple[Path, ...]
    """Folders with installed distributions."""
    compiled_modules: tuple[str, ...]
    """Standard-library modules without Python source that this interpreter can import."""


def this_installation() -> Installation:
    """Return the installation that runs this process.

    A virtual environment uses the library of its base installation.
    """
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
    """Return a pseudo-random place for a group in the order of groups.

    The hash has a seed of its own: with the hash of the split, all held-out groups would be first.
    """
    return xxhash.xxh3_64_intdigest(group.encode(), seed=1)


def library_group(path: PurePath) -> str:
    """Return the group of a library file: its top-level module, or the module below `test`.

    `_json`, `_pydecimal` and the like are implementations of `json` and `decimal` with the same
    docstrings, so they belong to the groups of these.
    """
    parts = [part.removesuffix(".py") for part in path.parts]
    if parts[0] == "test" and len(parts) > 1:
        return f"test.{parts[1]}"
    if parts[0].startswith("_py") and parts[0][3:] in sys.stdlib_module_names:
        return parts[0][3:]
    return parts[0].strip("_").lower() or parts[0]


def library_sources(installation: Installation) -> Iterator[Text]:
    """Yield the `.py` files of the library that are UTF-8 text, its tests included."""
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
    """Yield the description of each distribution, and the README files that it installs."""
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
    """Yield help topics, and one document with the docstrings of each module; no docstring twice.

    Parses sources of distributions up to `parsed_bytes` in all.
    """
    # Help topics are one group: they contain each other (`specialnames` is all of chapter 3.3).
    seen: set[int] = set()
    for topic, text in sorted(_topics(installation.library).items()):
        yield Text(text.strip(), "pydoc", {"path": f"pydoc_data/topics.py:{topic}"})

    # Compiled modules of the library: their docstrings are in no source file.
    for name, docstrings in _compiled_docstrings(installation.compiled_modules).items():
        text = _joined(name, docstrings, seen)
        if text:
            yield Text(text, library_group(PurePath(name)), {"path": name})

    # Sources of distributions.
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
    """Return the Python sources of all distributions in rounds: some of each, then some more of each.

    Each is a distribution's name, the distribution, and the path of a file.
    """
    rounds: dict[int, list[tuple[str, Distribution, str]]] = {}
    for name, distribution in distributions:
        paths = sorted(distribution_files(distribution, PYTHON_SOURCE), key=group_order)
        for number, path in enumerate(paths):
            rounds.setdefault(number // FILES_IN_A_ROUND, []).append((name, distribution, path))
    return [file for number in sorted(rounds) for file in rounds[number]]


def distributions_in(sites: Iterable[Path]) -> list[tuple[str, Distribution]]:
    """Return the installed distributions with their normalised names, in pseudo-random order.

    A distribution that several sites hold is returned once. Source of the normalised name: PEP 503.
    """
    by_name: dict[str, Distribution] = {}
    for distribution in importlib.metadata.distributions(path=[str(site) for site in sites]):
        name = distribution.metadata["Name"]
        if name:
            by_name.setdefault(re.sub(r"[-_.]+", "-", name).lower(), distribution)
    return sorted(by_name.items(), key=lambda item: group_order(item[0]))


def distribution_files(distribution: Distribution, name: re.Pattern[str]) -> list[str]:
    """Return the paths, relative to site-packages, of installed files whose names match.

    Copies of other projects inside a package are left out.
    """
    try:
        rows = csv.reader((distribution.read_text("RECORD") or "").splitlines())
        paths = [row[0] for row in rows if row and name.search(row[0])]
    except (UnicodeDecodeError, csv.Error):
        return []
    left_out = COPIES | {".."}
    return sorted(path for path in paths if left_out.isdisjoint(path.split("/")))


def source_docstrings(source: str) -> Iterator[tuple[str, str]]:
    """Yield `(dotted name, docstring)` of the module, classes and functions in a source.

    Yields nothing where the source cannot be parsed.
    """
    waiting: list[tuple[str, Documented]] = []
    try:
        with warnings.catch_warnings():
            # Other projects' sources may hold invalid escapes.
            warnings.simplefilter("ignore")
            waiting.append(("", ast.parse(source)))
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
    """Return `(dotted name, docstring)` pairs by compiled module, from a process of their own."""
    if not modules:
        return {}
    script = Path(__file__).with_name("compiled_docstrings.py")
    # -I -S: only the standard library is imported, and no start-up code of site packages runs.
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
    """Return one document with the docstrings of a module whose hashes are not in `seen` yet."""
    parts = []
    for name, docstring in docstrings:
        key = xxhash.xxh3_64_intdigest(" ".join(docstring.split()).encode(errors="surrogatepass"))
        if docstring and key not in seen:
            seen.add(key)
            parts.append(f"{module}.{name}".rstrip(".") + f"\n\n{docstring}\n")
    return "\n".join(parts)


def _topics(library: Path) -> dict[str, str]:
    """Return the help topics of the library: the dictionary that a module of it defines."""
    source = _read(library / "pydoc_data" / "topics.py")
    for node in ast.parse(source or "").body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Dict):
            return ast.literal_eval(node.value)
    return {}


def _description(distribution: Distribution) -> str | None:
    try:
        # An email.message.Message, although its type does not say so.
        metadata: Any = distribution.metadata
    except UnicodeDecodeError:
        return None
    return metadata.get_payload().strip() or metadata.get("Description") or None


def _read(file: Path) -> str | None:
    """Return the text of a file; None where it is not UTF-8 text or cannot be read."""
    try:
        text = file.read_bytes().decode()
    except (OSError, UnicodeDecodeError):
        return None
    if "\0" in text:
        return None
    return text.removeprefix("\ufeff")
