"""Text gathered from a Python installation: a small made-up one, and the one that runs the
tests."""

import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import zstandard

from pipeline.config.run_file import load
from pipeline.corpus.kinds.installed_texts import Installation, library_group, source_docstrings
from pipeline.corpus.kinds.local_machine import gather_once
from pipeline.corpus.prepare import prepare

LONG = "This sentence is here to make the text long enough to be kept. " * 4


def write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    """A library of five modules and a site with three distributions."""
    library, site = tmp_path / "lib", tmp_path / "lib" / "site-packages"
    write(library / "json" / "decoder.py", f"# decoder\n# {LONG}")
    write(library / "copy.py", f"# decoder\n# {LONG}")
    write(library / "test" / "test_json" / "test_a.py", f"# a test\n# {LONG}")
    write(library / "tiny.py", "x = 1\n")
    write(library / "pydoc_data" / "topics.py", f"topics = {{'assert': {('topic ' + LONG)!r}}}\n")
    (library / "latin.py").write_bytes(b"# caf\xe9 " + LONG.encode())
    sources = {
        "Some_Thing": f'"""{LONG} one"""\ndef f():\n    """{LONG} of f"""\n',
        "other": f'class A:\n    """{LONG} of f"""\n    def g(self):\n        """{LONG} of g"""\n',
        "broken": "def (",
    }
    for name, source in sources.items():
        readme = f"# {name}\n\n{LONG}\n"
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n\n{readme}"
        write(site / f"{name}-1.0.dist-info" / "METADATA", metadata)
        write(site / name / "__init__.py", source)
        write(site / name / "README.md", readme)
        write(site / name / "sub" / "readme.txt", f"{name} sub {LONG}")
        write(site / name / "_vendor" / "README.md", f"vendored in {name} {LONG}")
        listed = (
            f"{name}/{path},,"
            for path in ("__init__.py", "README.md", "sub/readme.txt", "_vendor/README.md")
        )
        write(
            site / f"{name}-1.0.dist-info" / "RECORD", "\n".join([*listed, "../../bin/readme.py,,"])
        )
    return Installation(library, (site,), ("_json", "no_such_module"))


def rows(path: Path) -> list[dict]:
    with path.open("rb") as file:
        reader = zstandard.ZstdDecompressor().stream_reader(file)
        return [json.loads(line) for line in io.TextIOWrapper(reader, encoding="utf-8")]


def origins(path: Path) -> set[tuple[str, str]]:
    return {(row["meta"]["group"], row["meta"]["path"]) for row in rows(path)}


@pytest.mark.ranks
def test_each_slice_holds_its_texts_once_with_their_groups(
    tmp_path: Path, installation: Installation
) -> None:
    slices = gather_once(tmp_path / "raw", installation)
    # json/decoder.py is the same text as copy.py, tiny.py too short, latin.py not UTF-8.
    assert origins(slices["code"]) == {
        ("copy", "copy.py"),
        ("test.test_json", "test/test_json/test_a.py"),
    }
    names = {"Some_Thing": "some-thing", "other": "other", "broken": "broken"}
    readmes = {
        (group, path)
        for name, group in names.items()
        for path in ("METADATA", f"{name}/sub/readme.txt")
    }
    assert origins(slices["readmes"]) == readmes
    reference = {row["meta"]["path"]: row for row in rows(slices["reference"])}
    assert set(reference) == {
        "pydoc_data/topics.py:assert",
        "_json",
        "Some_Thing/__init__.py",
        "other/__init__.py",
    }
    assert reference["_json"]["meta"] == {
        "source": "local-machine/reference",
        "group": "json",
        "path": "_json",
    }
    both = [reference[f"{name}/__init__.py"]["text"] for name in ("Some_Thing", "other")]
    assert sum(text.count("of f") for text in both) == 1  # the docstring that both have
    assert "other.A.g\n\nThis sentence" in both[1]


@pytest.mark.ranks
def test_gathering_is_deterministic_and_done_once(
    tmp_path: Path, installation: Installation
) -> None:
    first = gather_once(tmp_path / "one", installation)
    second = gather_once(tmp_path / "two", installation)
    assert [path.read_bytes() for path in first.values()] == [
        path.read_bytes() for path in second.values()
    ]
    before = first["code"].read_bytes()
    write(installation.library / "new.py", f"# new\n# {LONG}")
    assert gather_once(tmp_path / "one", installation)["code"].read_bytes() == before


@pytest.mark.ranks
@pytest.mark.parametrize("damage", ["manifest.json", "code.jsonl.zst"])
def test_an_interrupted_gathering_starts_again(
    tmp_path: Path, installation: Installation, damage: str
) -> None:
    slices = gather_once(tmp_path, installation)
    whole = {name: path.read_bytes() for name, path in slices.items()}
    (tmp_path / damage).unlink()
    slices["readmes"].write_bytes(b"half")
    assert {
        name: path.read_bytes() for name, path in gather_once(tmp_path, installation).items()
    } == whole


@pytest.mark.ranks
def test_a_bound_takes_whole_groups(
    tmp_path: Path, installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "pipeline.corpus.kinds.local_machine.SLICE_BYTES",
        {"code": 300, "readmes": 1100, "reference": 0},
    )
    slices = gather_once(tmp_path, installation)
    assert len(rows(slices["code"])) == 1  # each file has some 265 bytes
    assert (
        len({group for group, _ in origins(slices["readmes"])}) == 2
    )  # each distribution some 530
    assert len(rows(slices["readmes"])) == 4
    assert rows(slices["reference"]) == []


@pytest.mark.parametrize(
    ("path", "group"),
    [
        ("json/decoder.py", "json"),
        ("_json", "json"),
        ("_pydecimal.py", "decimal"),
        ("_pyio.py", "io"),
        ("__future__.py", "future"),
        ("test/test_json/test_dump.py", "test.test_json"),
        ("test/test_os.py", "test.test_os"),
        ("unittest/test/test_case.py", "unittest"),
    ],
)
def test_groups_of_the_library(path: str, group: str) -> None:
    assert library_group(Path(path)) == group


def test_docstrings_of_a_source_in_their_order() -> None:
    source = '"""M."""\nclass A:\n    """A."""\n    def f(self):\n        """F."""\nasync def g():\n    """G."""\n'
    assert list(source_docstrings(source)) == [("", "M."), ("A", "A."), ("A.f", "F."), ("g", "G.")]
    assert list(source_docstrings("print 'Python 2'")) == []


@pytest.mark.ranks
def test_this_installation_gives_a_corpus_without_overlap(
    run_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "pipeline.corpus.kinds.local_machine.PARSED_BYTES", 2_000_000
    )  # the slowest part of it
    overrides = [
        f"sources.{name}={{kind: local-machine, slice: {name}, split_by: group}}"
        for name in ("code", "readmes", "reference")
    ]
    config = load(run_file, [*overrides, "prepare.validation_fraction=0.1", "executor.workers=1"])
    result = prepare(config)
    total = sum(sum(counts["text_bytes"].values()) for counts in result.counts["sources"].values())
    assert 15e6 < total < 60e6
    documents = config.paths.data_dir / "documents"
    groups: dict[str, set[str]] = {"train": set(), "validation": set()}
    texts: set[str] = set()
    count = 0
    for path in sorted(documents.glob("*/*.parquet")):
        if path.parent.name == "web":
            continue
        table = pq.read_table(path, columns=["text", "meta"])
        groups[path.name.partition("_")[0]].update(
            json.loads(meta)["group"] for meta in table["meta"].to_pylist()
        )
        texts.update(table["text"].to_pylist())
        count += table.num_rows
    assert len(texts) == count > 500
    assert groups["train"].isdisjoint(groups["validation"]) and len(groups["validation"]) > 10
