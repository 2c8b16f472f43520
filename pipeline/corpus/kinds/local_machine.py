"""The source kind `local-machine`: the text of this Python installation as JSON lines.

Reads the installation; writes `data_dir/raw/local-machine/<slice>.jsonl.zst` in the layout of
RedPajama v1, rows `{"text", "meta": {"source", "path", "group", ...}}`, and last a manifest. The
text is gathered once and then kept, so that installing a package does not change a corpus.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import orjson
import xxhash
import zstandard

from pipeline.config.run_config import RunConfig
from pipeline.config.source_section import Source
from pipeline.corpus.file_search import SourceFiles
from pipeline.corpus.kinds import installed_texts
from pipeline.corpus.kinds.installed_texts import Installation, Text
from pipeline.corpus.kinds.json_lines import JsonLines
from pipeline.logs import human_bytes, note, progress
from pipeline.store.checksummed_file import ChecksummedFile
from pipeline.store.files import read_json, write_json
from pipeline.store.layout import data_folder, manifest_path
from pipeline.store.records import FileRecord

GATHERER_VERSION = 1
"""Increased when another kind of text is gathered."""
SLICE_BYTES = {"code": 30_000_000, "readmes": 5_000_000, "reference": 15_000_000}
"""Slice -> most bytes of text in UTF-8. Whole groups are taken in pseudo-random order, so that the
bound favours none."""
PARSED_BYTES = 12_000_000
"""Bytes of Python sources parsed for docstrings, at 2-3 MB/s on one core, which is most of the time
that gathering takes. Where the library is installed without its tests, as in containers, the code
slice stays short, and that many bytes more are parsed."""
SHORTEST_BYTES = 200
"""Minimum size of a text: shorter ones are empty modules and one-line descriptions."""
COMPRESSION_LEVEL = 3
"""Level of zstd."""


class SliceRecord(FileRecord):
    """The file of one slice."""

    documents: int
    text_bytes: int
    """Bytes of text in UTF-8."""


class LocalMachine(JsonLines):
    """Source kind of gathered JSON lines: a document is a module, a README, or docstrings."""

    has_text_field = False
    takes_encoding = False
    takes_validation_paths = False
    makes_its_files = True
    row_kind = "jsonl"

    def wrong_places(self, name: str, source: Source) -> list[str]:
        """Return a problem for a source without a slice, or with paths."""
        if source.slice is not None and not source.paths:
            return []
        return [
            f"sources.{name}: kind local-machine takes `slice: code | readmes | reference` and "
            "no paths"
        ]

    def find_files(self, config: RunConfig, name: str) -> SourceFiles:
        """Return the file of the source's slice; gathers the text first if that is not done yet."""
        slices = gather_once(data_folder(config).raw_local_machine)
        slice_name = config.sources[name].slice
        assert slice_name is not None, "wrong_places refuses a source without a slice"
        return self.search(name, [slices[slice_name]])

    def identify(self, config: RunConfig, name: str) -> dict[str, str | None]:
        """Return the version of the gatherer.

        Text once gathered is kept, so only another version of the gatherer can change it."""
        return {f"files of {name}": f"gathered by version {GATHERER_VERSION}"}


def gather_once(folder: Path, installation: Installation | None = None) -> dict[str, Path]:
    """Return the file of each slice; gathers the text unless complete files are there already."""
    manifest = read_json(manifest_path(folder))
    paths = {name: folder / f"{name}.jsonl.zst" for name in SLICE_BYTES}
    if manifest and manifest["version"] == GATHERER_VERSION:
        sizes = {name: path.stat().st_size for name, path in paths.items() if path.is_file()}
        if sizes == {name: record["bytes"] for name, record in manifest["slices"].items()}:
            return paths

    # The manifest goes first and comes back last: without one, the files are not complete.
    manifest_path(folder).unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    slices = _gather(paths, installation or installed_texts.this_installation())
    write_json(manifest_path(folder), {"version": GATHERER_VERSION, "slices": slices})
    total = sum(record["text_bytes"] for record in slices.values())
    note(f"gathered {human_bytes(total)} of text from this Python installation into {folder}")
    return paths


def _gather(paths: dict[str, Path], installation: Installation) -> dict[str, SliceRecord]:
    """Write the files of all slices; no text is in two of them."""
    distributions = installed_texts.distributions_in(installation.sites)
    seen: set[int] = set()
    slices: dict[str, SliceRecord] = {}
    with progress("gather", sum(SLICE_BYTES.values()), "bytes") as update:

        def gather(name: str, texts: Iterable[Text]) -> None:
            before = sum(SLICE_BYTES[finished] for finished in slices)
            chosen = _choose(
                texts, SLICE_BYTES[name], seen, lambda size: update(before + size, name)
            )
            slices[name] = _write_slice(paths[name], name, chosen)

        gather("code", installed_texts.library_sources(installation))
        gather("readmes", installed_texts.readme_texts(distributions))
        parsed_bytes = PARSED_BYTES + SLICE_BYTES["code"] - slices["code"]["text_bytes"]
        gather(
            "reference", installed_texts.reference_texts(installation, distributions, parsed_bytes)
        )
    return slices


def _choose(
    texts: Iterable[Text], most_bytes: int, seen: set[int], update: Callable[[int], None]
) -> list[Text]:
    """Return texts that are not in `seen` and not tiny, whole groups up to `most_bytes` in all."""
    groups: dict[str, list[Text]] = {}
    sizes: dict[str, int] = {}
    for text in texts:
        content = text.text.encode(errors="replace")
        key = xxhash.xxh3_64_intdigest(b" ".join(content.split()))
        if len(content) < SHORTEST_BYTES or key in seen:
            continue
        seen.add(key)
        groups.setdefault(text.group, []).append(text)
        sizes[text.group] = sizes.get(text.group, 0) + len(content)
        update(min(most_bytes, sum(sizes.values())))
    chosen: list[Text] = []
    left = most_bytes
    for group in sorted(groups, key=installed_texts.group_order):
        if sizes[group] <= left:
            left -= sizes[group]
            chosen += groups[group]
    return chosen


def _write_slice(path: Path, name: str, texts: Iterable[Text]) -> SliceRecord:
    """Write the texts of a slice as compressed JSON lines."""
    temporary = path.with_name(f".{path.name}.partial")
    documents = 0
    text_bytes = 0
    file = ChecksummedFile(temporary)
    compressor = zstandard.ZstdCompressor(level=COMPRESSION_LEVEL)
    # The writer calls no method of the file but `write`.
    with compressor.stream_writer(file, closefd=False) as compressed:  # pyright: ignore[reportArgumentType]
        for text in texts:
            # A docstring may hold half a surrogate pair, which UTF-8 cannot hold.
            content = text.text.encode(errors="replace")
            meta = {"source": f"local-machine/{name}", "group": text.group, **text.origin}
            compressed.write(orjson.dumps({"text": content.decode(), "meta": meta}) + b"\n")
            documents += 1
            text_bytes += len(content)
    file.fsync()
    file.close()
    temporary.replace(path)
    return {**file.record(), "documents": documents, "text_bytes": text_bytes}
