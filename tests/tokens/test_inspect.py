"""`pipeline inspect`: what is shown equals what is on disk, nothing in a text acts on the
terminal."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from helpers import list_documents, run_stages, without_progress
from tokenizers import Tokenizer

from pipeline.cli.inspect_view import boundaries, histogram, show_inspection
from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.errors import DataError, UserError
from pipeline.tokens.inspect import documents, overview
from pipeline.tokens.inspected_data import Question, measure_lengths, open_data

ROOT = Path(__file__).parents[2]
STAGES = ["prepare", "train-tokenizer", "tokenize"]
TEXTS = [
    "a",
    "bb",
    "ccc",
    "dddd",
    "eeeeeee",
    "x" * 100,
    "\x1b[31mred\x1b[0m [bold]é[/bold]\n日本",
    "naïve 🙂 text",
]
SETTINGS = ["prepare.validation_fraction=0", "tokenizer.vocab_size=258"]


@pytest.fixture
def corpus(run_file: Path) -> Path:
    """Return a run file whose one source has TEXTS, in their order, all to train on."""
    rows = [
        json.dumps({"text": text, "meta": {"place": place, "url": f"http://x/{place % 7}"}}) + "\n"
        for place, text in enumerate(TEXTS)
    ]
    (run_file.parent / "web.jsonl").write_text("".join(rows))
    return run_file


def made(corpus: Path, stages: list[str]) -> RunConfig:
    run_stages(corpus, stages, SETTINGS)
    return load(corpus, SETTINGS)


def show(config: RunConfig, capsys: pytest.CaptureFixture[str], **question: Any) -> str:
    options = {
        name: question.pop(name, False) for name in ("tokenizer", "verify", "with_ids", "as_json")
    }
    capsys.readouterr()
    show_inspection(config, Question(**question), **options)
    return capsys.readouterr().out


def test_documents_before_tokenization(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = made(corpus, ["prepare"])
    data = open_data(config)
    found = measure_lengths(data, "web", "train")
    assert found is not None
    sizes = sorted(len(text.encode()) for text in TEXTS)
    assert sizes == [1, 2, 3, 4, 7, 16, 35, 100]
    buckets = [(b["from"], b["to"], b["documents"]) for b in found.pop("buckets")]
    assert buckets == [
        (1, 2, 1),
        (2, 4, 2),
        (4, 8, 2),
        (8, 16, 0),
        (16, 32, 1),
        (32, 64, 1),
        (64, 128, 1),
    ]
    summary = {"median": 4, "mean": sum(sizes) / 8, "p99": 100, "max": 100}
    assert found == {"unit": "bytes", "documents": 8, "of_documents": 8, **summary}
    (document,) = documents(data, Question(source="web", document=3))
    assert (document["text"], document["meta"], document["origin_row"]) == (
        "dddd",
        '{"place":3,"url":"http://x/3"}',
        3,
    )
    assert document["tokens"] is None
    assert "4 bytes, 4 characters, no tokens yet\ndddd\n" in show(config, capsys, document=3)


def test_documents_are_found_in_any_shard_and_row_group(corpus: Path) -> None:
    def texts(config: RunConfig) -> list[str]:
        data = open_data(config)
        return [
            documents(data, Question(document=number))[0]["text"] for number in range(len(TEXTS))
        ]

    config = made(corpus, ["prepare"])
    (shard,) = open_data(config).shards("web", "train")
    pq.write_table(pq.read_table(shard), shard, row_group_size=3)
    list_documents(corpus.parent / "data" / "documents", [shard])
    assert pq.ParquetFile(shard).num_row_groups == 3
    assert texts(config) == TEXTS
    run_stages(corpus, ["prepare"], [*SETTINGS, "prepare.shard_text_bytes=5"])
    assert len(open_data(config).shards("web", "train")) > 2
    assert texts(config) == TEXTS


def test_an_original_url_shows_every_document_that_has_it(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = made(corpus, STAGES)
    data = open_data(config)
    stem = data.shards("web", "train")[0].stem
    assert documents(data, Question(id="http://x/3")) == documents(
        data, Question(id=f"web/{stem}/3")
    )
    shared = documents(data, Question(id="http://x/0"))
    assert [document["id"] for document in shared] == [f"web/{stem}/0", f"web/{stem}/7"]
    monkeypatch.setattr("pipeline.tokens.inspect.MOST_FOUND", 1)
    assert documents(data, Question(id="http://x/0")) == shared[:1]
    assert (
        "2 documents have the original id or url http://x/0; these are the first 1"
        in capsys.readouterr().err
    )


def test_tokens_are_those_that_training_reads(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = made(corpus, STAGES)
    encoder = Tokenizer.from_file(str(config.paths.data_dir / "tokenizer" / "tokenizer.json"))
    data = open_data(config)
    shard = data.shards("web", "train")[0].stem
    for row, text in enumerate(TEXTS):
        (document,) = documents(data, Question(id=f"web/{shard}/{row}"))
        tokens = document["tokens"]
        expected = [
            *encoder.encode(text, add_special_tokens=False).ids,
            encoder.token_to_id("<|endoftext|>"),
        ]
        assert [token["id"] for token in tokens["shown"]] == expected
        assert (tokens["count"], tokens["from"]) == (len(expected), "data_dir/tokens")
        assert [token["special"] for token in tokens["shown"]] == [False] * (len(expected) - 1) + [
            True
        ]
    found = measure_lengths(data, "web", "train")
    assert found is not None and found["unit"] == "tokens" and found["documents"] == 8
    trained_on = data.tokens["web"]["train"]["tokens"]
    assert overview(data, Question())["sources"]["web"]["tokens"] == {
        "train": trained_on,
        "validation": 0,
    }
    shown = show(config, capsys, document=1, with_ids=True)
    assert shown.endswith(
        f"b|b|<|endoftext|>\nids {' '.join(map(str, encoder.encode('bb').ids))} 0\n"
    )


def test_each_split_has_its_own_documents_text_and_tokens(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held_out = ["prepare.validation_fraction=0.49", SETTINGS[1]]
    run_stages(corpus, STAGES, held_out)
    config = load(corpus, held_out)
    data = open_data(config)
    source = overview(data, Question())["sources"]["web"]
    for split in ("train", "validation"):
        texts = [
            text
            for path in data.shards("web", split)
            for text in pq.read_table(path)["text"].to_pylist()
        ]
        size = sum(len(text.encode()) for text in texts)
        assert 0 < len(texts) < len(TEXTS)
        assert source["documents"][split] == len(texts)
        assert source["text_bytes"][split] == size
        ids = (
            sum(
                path.stat().st_size
                for path in (data.folder / "tokens" / "web").glob(f"{split}_*.bin")
            )
            // 2
        )
        assert source["tokens"][split] == ids
        assert source["bytes_per_token"][split] == size / ids
    lines = [line.split() for line in show(config, capsys).splitlines()]
    for name, split in (("train on", "train"), ("held out", "validation")):
        (line,) = (line for line in lines if name in " ".join(line))
        assert str(source["documents"][split]) in line
        assert f"{source['tokens'][split]:,}" in line


def test_before_the_tokens_a_document_is_encoded_to_look_at_it(corpus: Path) -> None:
    config = made(corpus, ["prepare", "train-tokenizer"])
    (document,) = documents(open_data(config), Question(document=7))
    tokens = document["tokens"]
    assert tokens["from"] == "encoded now"
    pieces = [
        bytes.fromhex(t["bytes"]) if t["bytes"] else t["text"].encode() for t in tokens["shown"]
    ]
    assert b"".join(pieces) == TEXTS[7].encode()
    assert [t["text"] for t in tokens["shown"]][2:4] == [
        "<C3>",
        "<AF>",
    ]  # ï, in a vocabulary of single bytes


def test_long_documents_are_cut_and_say_so(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = made(corpus, STAGES)
    (document,) = documents(open_data(config), Question(document=5, characters=10))
    assert (document["text"], document["characters"], document["characters_shown"]) == (
        "x" * 10,
        100,
        10,
    )
    assert 10 <= sum(len(token["text"]) for token in document["tokens"]["shown"]) < 100
    left = document["tokens"]["count"] - len(document["tokens"]["shown"])
    assert show(config, capsys, document=5, characters=10).endswith(
        f"… {left} more tokens; all: --characters 100\n"
    )
    (whole,) = documents(open_data(config), Question(document=5, characters=100))
    assert whole["tokens"]["shown"][-1]["special"]


def test_no_text_acts_on_the_terminal(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for stages in (["prepare"], ["train-tokenizer"], ["tokenize"]):
        config = made(corpus, stages)
        for question in ({"split": "train"}, {"samples": 8}, {"samples": 8, "as_json": True}):
            assert "\x1b" not in show(config, capsys, **question)
        shown = show(config, capsys, document=6).replace("|", "")
        assert "<1B>[31mred<1B>[0m [bold]" in shown  # and rich's markup is not read


def test_samples_are_the_same_for_a_seed_and_in_order(corpus: Path) -> None:
    data = open_data(made(corpus, ["prepare"]))

    def rows(**question: Any) -> list[int]:
        return [document["origin_row"] for document in documents(data, Question(**question))]

    assert rows(samples=3) == sorted(rows(samples=3)) == rows(samples=3)
    assert len(set(rows(samples=3))) == 3
    assert len({tuple(rows(samples=3, seed=seed)) for seed in range(20)}) > 10
    assert rows(samples=99) == list(range(8))


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ({"source": "wob"}, r"--source wob: .*has no such source; there are web"),
        (
            {"document": 8},
            r"--document 8: source web has no such document in train .*there: 0 to 7; in validation: 0",
        ),
        ({"document": -1}, r"--document -1: source web has no such document"),
        (
            {"document": 0, "split": "validation"},
            r"in validation .*there: none; in train: 8 documents",
        ),
        ({"split": "test"}, r"--split test: there are train and validation"),
        (
            {"id": "web"},
            r"--id web: an id is source/shard/row; sources are web, for example web/train_\w+/0",
        ),
        (
            {"id": "http://x/9"},
            r"--id http://x/9: an id is .*Nor is it the original id or url of a document: in no meta",
        ),
        ({"id": "../../x/0"}, r"--id \.\./\.\./x/0: an id is source/shard/row"),
        ({"id": "web/nope/0"}, r"--id web/nope/0: source web has no shard nope; it has 1, train_"),
        ({"id": "web/SHARD/8"}, r"has the rows 0 to 7"),
        ({"id": "web/SHARD/x"}, r"has the rows 0 to 7"),
        ({"id": "web/SHARD/0", "samples": 2}, r"--id and --samples do not go together"),
        ({"source": "web", "tokenizer": True}, r"--tokenizer and --source do not go together"),
    ],
)
def test_what_does_not_exist_is_answered_by_what_does(
    corpus: Path, capsys: pytest.CaptureFixture[str], question: dict[str, Any], message: str
) -> None:
    config = made(corpus, ["prepare"])
    stem = open_data(config).shards("web", "train")[0].stem
    if "id" in question:
        question = question | {"id": question["id"].replace("SHARD", stem)}
    with pytest.raises(UserError, match=message) as raised:
        show(config, capsys, **question)
    assert raised.value.exit_code == 2


def test_nothing_prepared_names_the_stage(corpus: Path) -> None:
    with pytest.raises(DataError, match="Run `pipeline prepare` first"):
        open_data(load(corpus))


def test_tokens_of_another_tokenizer_are_not_decoded(corpus: Path) -> None:
    made(corpus, STAGES)
    changed = ["prepare.validation_fraction=0", "tokenizer.vocab_size=259"]
    run_stages(corpus, ["train-tokenizer"], changed)
    data = open_data(load(corpus, changed))
    assert data.tokens is None
    assert data.notes == (
        "the token files were made from other documents or another tokenizer: run `pipeline "
        "tokenize`",
    )
    (document,) = documents(data, Question(document=0))
    assert document["tokens"]["from"] == "encoded now"


def token(text: str, is_bytes: bool = False, special: bool = False) -> dict[str, Any]:
    return {"id": 1, "text": text, "bytes": "e4" if is_bytes else None, "special": special}


def test_boundaries_without_and_with_colour() -> None:
    tokens = [token("a\n"), token(" b"), token("<E4>", is_bytes=True), token("<end>", special=True)]
    assert boundaries(tokens, has_colour=False).plain == "a↵\n| b|<E4>|<end>"
    coloured = boundaries(tokens, has_colour=True)
    assert coloured.plain == "a↵\n b<E4><end>"
    spans = [(coloured.plain[span.start : span.end], str(span.style)) for span in coloured.spans]
    assert [text for text, _ in spans] == ["a↵", " b", "<E4>", "<end>"]
    styles = [style for _, style in spans]
    assert styles[2] == f"{styles[0]} underline"
    assert len(set(styles)) == 4


def test_histogram_by_hand() -> None:
    buckets = [
        {"from": 0, "to": 1, "documents": 1},
        {"from": 1, "to": 2, "documents": 0},
        {"from": 512, "to": 1024, "documents": 1000},
    ]
    assert histogram(buckets, 4) == [
        "        0 - 0      1  ▏",
        "        1 - 1      0",
        "  512 - 1,023  1,000  ████",
    ]
    assert histogram(
        [{"from": 1, "to": 2, "documents": 16}, {"from": 2, "to": 4, "documents": 3}], 2
    ) == [
        "  1 - 1  16  ██",
        "  2 - 3   3  ▍",
    ]


@pytest.mark.ranks
def test_the_command_line_is_light_and_its_mistakes_exit_2(corpus: Path) -> None:
    made(corpus, STAGES)
    script = (
        "import sys\n"
        f"sys.argv = ['pipeline', 'inspect', {str(corpus)!r}, *{SETTINGS!r}, *sys.argv[1:]]\n"
        "from pipeline.__main__ import main\n"
        "try:\n    main()\n"
        "finally:\n    sys.stderr.write(str({'torch', 'transformers', 'datasets', 'matplotlib'} & "
        "set(sys.modules)))\n"
    )

    def run(*options: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-c", script, *options]
        environment = {**os.environ, "NO_COLOR": "1"}
        ended = subprocess.run(
            command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=600
        )
        ended.stderr = without_progress(ended.stderr)
        return ended

    shown = run()
    assert (shown.returncode, shown.stderr) == (0, "set()")
    assert "tokens per document: median" in shown.stdout
    whole = run("--json", "--document", "1", "--source", "web")
    assert (whole.returncode, whole.stderr) == (0, "set()")
    assert json.loads(whole.stdout)["documents"][0]["text"] == "bb"
    measured = run("--tokenizer", "--json")
    assert measured.stderr == "set()"
    assert set(json.loads(measured.stdout)) == {"sample", "tokenizer", "compared", "model"}
    wrong = run("--source", "wob")
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("error: --source wob: ") and "Traceback" not in wrong.stderr
