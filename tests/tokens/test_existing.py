"""Pairs that somebody else made: found, checked, linked, trained on as if their documents were
here."""

import os
import re
import shutil
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers import run_stages
from program_here import pipeline_here
from ranks import run_ranks
from training_data import RUN_FILE, TEMPLATES

from pipeline.cli import start_checks, status_view
from pipeline.config.run_file import load
from pipeline.errors import ConfigError, DataError, UserError
from pipeline.sampling.stream import open_streams
from pipeline.store.artifacts import stage_states
from pipeline.store.files import read_json
from pipeline.store.metrics import read_metrics
from pipeline.store.stages import STAGES as TABLE
from pipeline.tokens import existing
from pipeline.tokens.existing_pairs import find_pairs
from pipeline.tokens.inspect import documents, overview
from pipeline.tokens.inspected_data import Question, open_data

pytestmark = pytest.mark.ranks

STAGES = ["prepare", "train-tokenizer", "tokenize"]
END = 0
"""Id of the end of a document in the tokenizer of these tests; the letters of `ab` are 66 and
67."""

RUN = """\
paths: {data_dir: data, run_dir: run}
sources:
  web: {kind: megatron, paths: [pairs/one]}
tokenizer: {kind: pretrained, path: made}
model:
  architecture: llama
  config: {hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1, num_attention_heads: 2}
data: {sequence_length: 2}
optimizer: {peak_learning_rate: 6e-4}
schedule: {warmup_tokens: 4}
batch: {global_batch_tokens: 4, micro_batch_sequences: 2}
train: {train_tokens: 8}
evaluation: {tasks: [patterns]}
deepspeed: zero1.json
"""


def write_pair(
    prefix: Path, texts: Sequence[Sequence[int]], letter: str = "H", per_document: int = 1
) -> None:
    """Write a pair by the format's description; `per_document` sequences make a document."""
    code = {"H": 8, "i": 4, "q": 5, "d": 6}[letter]
    size = struct.calcsize(letter)
    lengths = [len(text) for text in texts]
    offsets = [size * sum(lengths[:place]) for place in range(len(texts))]
    entries = list(range(0, len(texts) + 1, per_document))
    index = b"MMIDIDX\x00\x00" + struct.pack("<QBQQ", 1, code, len(texts), len(entries))
    index += struct.pack(f"<{len(texts)}i", *lengths) + struct.pack(f"<{len(texts)}q", *offsets)
    index += struct.pack(f"<{len(entries)}q", *entries)
    prefix.parent.mkdir(parents=True, exist_ok=True)
    prefix.with_name(f"{prefix.name}.idx").write_bytes(index)
    ids = [number for text in texts for number in text]
    prefix.with_name(f"{prefix.name}.bin").write_bytes(struct.pack(f"<{len(ids)}{letter}", *ids))


@pytest.fixture
def pairs_run(run_file: Path, tokenized: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a run file whose only source is the pair `pairs/one`, with a tokenizer of 300 ids; its
    folder is current."""
    folder = run_file.parent
    monkeypatch.chdir(folder)
    shutil.copytree(tokenized / "data" / "tokenizer", folder / "made")
    write_pair(folder / "pairs" / "one", [[66, 67, END], [67, END]])
    run_file.write_text(RUN)
    return run_file


def tokens_of(run_file: Path, split: str = "train", source: str = "web") -> list[int]:
    stream = open_streams(load(run_file).paths.data_dir / "tokens", [source], split)[source]
    return stream.read(0, len(stream)).tolist()


def refusal(run_file: Path, *overrides: str) -> str:
    """Return what `tokenize` says when it stops."""
    run_stages(run_file, STAGES[:2], list(overrides))
    with pytest.raises(UserError) as stopped:
        run_stages(run_file, ["tokenize"], list(overrides))
    assert stopped.value.exit_code == 2
    assert not (run_file.parent / "data" / "tokens" / "manifest.json").exists()
    return str(stopped.value)


def test_a_pair_is_linked_not_copied_and_never_changed(pairs_run: Path) -> None:
    folder = pairs_run.parent
    write_pair(folder / "pairs" / "held", [[66, END]])
    before = {
        path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (folder / "pairs").iterdir()
    }
    run_stages(pairs_run, STAGES, ["sources.web.validation_paths=[pairs/held]"])
    tokens = folder / "data" / "tokens"
    links = {path.name: path.readlink() for path in (tokens / "web").iterdir() if path.is_symlink()}
    assert links == {
        f"{split}_{name}{suffix}": folder / "pairs" / f"{name}{suffix}"
        for split, name in (("train", "one"), ("validation", "held"))
        for suffix in (".bin", ".idx")
    }
    assert tokens_of(pairs_run) == [66, 67, END, 67, END]
    assert tokens_of(pairs_run, "validation") == [66, END]
    manifest = read_json(tokens / "manifest.json")
    assert manifest["counts"]["sources"]["web"] == {
        "train": {"documents": 2, "tokens": 5, "text_bytes": 0},
        "validation": {"documents": 1, "tokens": 2, "text_bytes": 0},
    }
    assert manifest["counts"]["dtypes"] == {"web": "uint16"}
    headline = manifest["counts"]["headline"]
    assert headline.startswith("7 tokens, 3 documents; 2 tokens held out") and headline.endswith(
        "7 tokens existed"
    )
    record = manifest["files"]["web/train_one.bin"]
    assert (record["bytes"], record["link_to"]) == (10, str(folder / "pairs" / "one.bin"))
    assert record["identity"].startswith("name, size, time: ")
    assert "checksum" not in record
    assert read_json(folder / "data" / "documents" / "manifest.json")["counts"][
        "headline"
    ].startswith("0 documents")
    write_pair(folder / "pairs" / "two", [[66, END]])
    run_stages(pairs_run, STAGES, ["sources.web.paths=[pairs/two]"])
    assert sorted(path.name for path in (tokens / "web").iterdir()) == [
        "train_two.bin",
        "train_two.idx",
    ]
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in before} == before


def test_pairs_are_named_by_prefix_file_glob_and_folder(pairs_run: Path) -> None:
    folder = pairs_run.parent / "pairs"
    for place, name in enumerate(["b.v2", "c_0", "c_1", "deep/d"]):
        write_pair(folder / name, [[70 + place, END]])
    (folder / "c_notes.json").write_text("{}")
    wanted = {
        "pairs/b.v2": ["b.v2"],
        "pairs/b.v2.idx": ["b.v2"],
        "pairs/c_?": ["c_0", "c_1"],
        "pairs/c_*": ["c_0", "c_1"],
        "pairs/*.bin": ["b.v2", "c_0", "c_1", "one"],
        "pairs": ["b.v2", "c_0", "c_1", "d", "one"],
    }
    for path, names in wanted.items():
        config = load(pairs_run, [f"sources.web.paths=['{path}']"])
        assert [pair.prefix.name for pair in find_pairs(config)["web"]] == names, path


def test_documents_of_several_sequences_and_other_types_are_read(
    pairs_run: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = pairs_run.parent / "pairs"
    write_pair(folder / "long", [[66], [67, END], [67], [66, 66, END]], "q", per_document=2)
    overrides = ["sources.more={kind: megatron}", "sources.more.paths=[pairs/long]"]
    run_stages(pairs_run, STAGES, overrides)
    counts = read_json(pairs_run.parent / "data" / "tokens" / "manifest.json")["counts"]
    assert counts["dtypes"] == {"web": "uint16", "more": "int64"}
    assert counts["sources"]["more"]["train"]["documents"] == 2
    assert tokens_of(pairs_run, source="more") == [66, 67, END, 67, 66, 66, END]
    assert "do not end with" not in capsys.readouterr().err
    data = open_data(load(pairs_run, overrides))
    assert overview(data, Question(source="more"))["sources"]["more"]["lengths"]["buckets"] == [
        {"from": 2, "to": 4, "documents": 1},
        {"from": 4, "to": 8, "documents": 1},
    ]


def test_an_index_that_tells_of_no_documents_has_one_for_each_sequence(pairs_run: Path) -> None:
    """As GPT-NeoX's merging leaves it."""
    index = pairs_run.parent / "pairs" / "one.idx"
    good = index.read_bytes()
    index.write_bytes(good[:26] + struct.pack("<Q", 1) + good[34:-16])
    run_stages(pairs_run, STAGES, [])
    counts = read_json(pairs_run.parent / "data" / "tokens" / "manifest.json")["counts"]
    assert counts["sources"]["web"]["train"] == {"documents": 2, "tokens": 5, "text_bytes": 0}


def test_documents_without_an_end_are_counted_and_told(
    pairs_run: Path, capsys: pytest.CaptureFixture
) -> None:
    write_pair(pairs_run.parent / "pairs" / "one", [[66, END], [66], [67, 66], []])
    run_stages(pairs_run, STAGES, [])
    assert (
        "source web: 3 of 4 documents looked at do not end with the tokenizer's end-of-document "
        "id, 0." in (capsys.readouterr().err)
    )


@pytest.mark.parametrize("place", [0, 4, 9])
def test_ids_beyond_the_vocabulary_are_refused(
    pairs_run: Path, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    """Of ten ids, stretches of one are looked at: 0, 3, 6 and 9. The id at 4 is not found, as
    documented."""
    monkeypatch.setattr(existing, "SAMPLED_IDS", 1)
    ids = [66] * 10
    ids[place] = 300
    write_pair(pairs_run.parent / "pairs" / "one", [ids])
    if place == 4:
        run_stages(pairs_run, STAGES, [])
        return
    assert (
        "one.bin: holds the id 300, but the tokenizer has the ids 0 to 299. Set tokenizer.path"
        in refusal(pairs_run)
    )


def test_negative_ids_are_refused(pairs_run: Path) -> None:
    write_pair(pairs_run.parent / "pairs" / "one", [[66, -1]], "i")
    assert "holds the id -1" in refusal(pairs_run)


def test_what_is_no_pair_is_refused_with_a_remedy_that_deletes_nothing(pairs_run: Path) -> None:
    index = pairs_run.parent / "pairs" / "one.idx"
    good = index.read_bytes()
    remedy = "Copy the pair again, or remove it from sources.web.paths."
    for content, expected in (
        (
            b"another format, and long enough for a header",
            "is not a Megatron indexed dataset (version 1)",
        ),
        (
            good[:9] + struct.pack("<Q", 2) + good[17:],
            "is not a Megatron indexed dataset (version 1)",
        ),
        (good[:17] + b"\x06" + good[18:], "its data type, code 6, is not one of token ids"),
        (good[:40], "one.idx: cannot be read"),
        (
            good[:-8] + struct.pack("<q", 3),
            "its document index does not rise from 0 to its number of sequences, 2",
        ),
        (
            good[:-16] + struct.pack("<2q", 3, 2),
            "its document index does not rise from 0 to its number of sequences, 2",
        ),
        (good[:34] + struct.pack("<i", 4) + good[38:], "one.bin: holds 5 tokens, but its index 6"),
    ):
        index.write_bytes(content)
        said = refusal(pairs_run)
        assert expected in said
        assert said.endswith(remedy)
        assert "Delete" not in said


def test_types_may_differ_between_sources_only(pairs_run: Path) -> None:
    folder = pairs_run.parent / "pairs"
    write_pair(folder / "wide", [[66, END]], "i")
    said = refusal(pairs_run, f"sources.web.paths=[{folder}]")
    assert (
        f"its pairs hold ids of different types, int32 ({folder / 'wide'}) and uint16 "
        f"({folder / 'one'})" in said
    )


def test_names_that_clash_are_refused(pairs_run: Path) -> None:
    folder = pairs_run.parent / "pairs"
    write_pair(folder / "again" / "one", [[66, END]])
    with pytest.raises(DataError) as stopped:
        find_pairs(load(pairs_run, [f"sources.web.paths=[{folder}]"]))
    assert (
        f"two pairs have the same name, {folder / 'again' / 'one'} and {folder / 'one'}. Rename one"
        in str(stopped.value)
    )
    with pytest.raises(
        DataError, match=r"one is in both paths and validation_paths\. Held-out data must not"
    ):
        find_pairs(load(pairs_run, [f"sources.web.validation_paths=[{folder}/one.idx]"]))


def test_the_same_pair_named_twice_is_one_pair(pairs_run: Path) -> None:
    folder = pairs_run.parent / "pairs"
    config = load(pairs_run, [f"sources.web.paths=[{folder}, {folder}/one, {folder}/one.bin]"])
    assert [pair.prefix for pair in find_pairs(config)["web"]] == [folder / "one"]


def test_missing_pairs_and_halves_are_all_named_at_once(pairs_run: Path) -> None:
    folder = pairs_run.parent / "pairs"
    (folder / "one.bin").unlink()
    (folder / "empty").mkdir()
    (folder / "empty" / "again").symlink_to(folder / "empty")
    paths = ",".join(str(folder / name) for name in ("one", "none", "no_*", "empty", "n" * 256))
    with pytest.raises(DataError) as stopped:
        find_pairs(load(pairs_run, [f"sources.web.paths=[{paths}]"]))
    lines = str(stopped.value).splitlines()
    assert [line.split(": ", 1)[1].split(". ")[0].removeprefix(str(folder)) for line in lines] == [
        f"/one lacks {folder / 'one.bin'}",
        "/none is no pair: there is no such .bin and .idx",
        "/no_* is no pair: there is no such .bin and .idx",
        "/empty holds no .bin and .idx",
        f"/{'n' * 256}: {folder}/{'n' * 256} cannot be read: File name too long",
    ]


@pytest.mark.parametrize("suffix", [".bin", ".idx"])
@pytest.mark.parametrize(
    "path", ["pairs/one", "pairs/one.idx", "pairs/one.bin", "pairs", "pairs/o*"]
)
def test_half_a_pair_that_is_no_file_is_refused_and_not_waited_for(
    pairs_run: Path, suffix: str, path: str
) -> None:
    half = pairs_run.parent / "pairs" / f"one{suffix}"
    half.unlink()
    os.mkfifo(half)
    with pytest.raises(DataError, match=rf"sources\.web\.paths: .*one{suffix}"):
        find_pairs(load(pairs_run, [f"sources.web.paths=['{pairs_run.parent}/{path}']"]))


def test_pairs_below_a_folder_with_magic_characters_in_its_name_are_found(pairs_run: Path) -> None:
    folder = pairs_run.parent / "d[1]"
    write_pair(folder / "two", [[66, END]])
    for path in (f"{folder}/two", f"{folder}/*.bin", f"{folder}/t*", str(folder)):
        found = find_pairs(load(pairs_run, [f"sources.web.paths=['{path}']"]))
        assert [pair.prefix for pair in found["web"]] == [folder / "two"]


def test_a_missing_pair_stops_the_whole_run_at_once(pairs_run: Path) -> None:
    (pairs_run.parent / "pairs" / "one.idx").unlink()
    ended = pipeline_here("run", pairs_run)
    assert ended.returncode == 2, ended.stderr
    assert "Restore the missing file of the pair" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (pairs_run.parent / "data").exists()


def test_settings_that_do_not_fit_are_told(pairs_run: Path, run_file: Path) -> None:
    pairs_run.write_text(
        RUN.replace("kind: pretrained, path: made", "kind: byte-level-bpe, vocab_size: 270")
    )
    with pytest.raises(
        ConfigError, match=r"tokenizer\.kind = byte-level-bpe: the ids of sources\.web"
    ):
        load(pairs_run)
    text = RUN.replace("kind: megatron, paths: [pairs/one]", "kind: local-machine, slice: code")
    pairs_run.write_text(text.replace("slice: code", "slice: code, validation_paths: [y]"))
    with pytest.raises(ConfigError, match="validation_paths: kind local-machine has no"):
        load(pairs_run)
    pairs_run.write_text(RUN.replace("paths: [pairs/one]", "slice: code"))
    with pytest.raises(ConfigError, match="kind megatron takes `paths"):
        load(pairs_run)


def test_status_says_which_pair_made_tokens_stale(pairs_run: Path) -> None:
    run_stages(pairs_run, STAGES, [])
    folder, table = pairs_run.parent / "pairs", {stage.name: stage for stage in TABLE}

    def state(*overrides: str) -> tuple[str, list[str]]:
        found = stage_states(table, load(pairs_run, overrides))
        assert found["prepare"].kind == found["train-tokenizer"].kind == "done"
        return found["tokenize"].kind, [
            reason.split(" bytes")[0] for reason in found["tokenize"].reasons
        ]

    assert state() == ("done", [])
    os.utime(folder / "one.bin", ns=(1, 1))
    assert state() == ("stale", [f'web, train, {folder / "one.bin"}: "10'])
    run_stages(pairs_run, ["tokenize"], [])
    assert state() == ("done", [])
    write_pair(folder / "two", [[66, END]])
    assert state(f"sources.web.paths=[{folder}]") == (
        "stale",
        [
            f'web, train, {folder / "two"}{suffix}: not set -> "{size}'
            for suffix, size in ((".bin", 4), (".idx", 62))
        ],
    )
    moved = folder.with_name("elsewhere")
    folder.rename(moved)
    assert state()[0] == "stale"
    run_stages(pairs_run, ["tokenize"], [f"sources.web.paths=[{moved}/one]"])
    assert tokens_of(pairs_run) == [66, 67, END, 67, END]


def test_a_source_of_documents_may_become_one_of_ids_and_back(pairs_run: Path) -> None:
    """The link takes the place of the shard, and the shard that of the link, without touching what
    it leads to."""
    folder, unsplit = pairs_run.parent, ["prepare.validation_fraction=0"]
    as_text = RUN.replace("kind: megatron, paths: [pairs/one]", "kind: jsonl, paths: [web.jsonl]")
    pairs_run.write_text(as_text)
    run_stages(pairs_run, STAGES, unsplit)
    (path,) = (folder / "data" / "tokens" / "web").glob("*.bin")
    name = path.stem.removeprefix("train_")
    write_pair(folder / "pairs" / name, [[66, END]])
    original = (folder / "pairs" / f"{name}.bin").read_bytes()
    for content, is_link in ((RUN.replace("pairs/one", f"pairs/{name}"), True), (as_text, False)):
        pairs_run.write_text(content)
        run_stages(pairs_run, STAGES, unsplit)
        assert path.is_symlink() is is_link
        assert (path.read_bytes() == original) is is_link
    assert (folder / "pairs" / f"{name}.bin").read_bytes() == original


def test_documents_are_shown_from_their_ids(pairs_run: Path) -> None:
    run_stages(pairs_run, STAGES, [])
    data = open_data(load(pairs_run))
    pieces = (
        {piece: number for number, piece in enumerate(data.pieces.of_id)} if data.pieces else {}
    )
    a, b = pieces[b"a"], pieces[b"b"]
    write_pair(pairs_run.parent / "pairs" / "one", [[a, b, END], [b, END]])
    run_stages(pairs_run, ["tokenize"], [])
    data = open_data(load(pairs_run))
    whole = overview(data, Question())
    assert whole["sources_without_text"] == ["web"]
    source = whole["sources"]["web"]
    assert (source["documents"], source["tokens"], source["bytes_per_token"]) == (
        {"train": 2, "validation": 0},
        {"train": 5, "validation": 0},
        {"train": None, "validation": None},
    )
    for question in (Question(source="web", document=0), Question(id="web/train_one/0")):
        (shown,) = documents(data, question)
        assert (shown["id"], shown["text"], shown["tokens"]["count"]) == (
            "web/train_one/0",
            "ab",
            3,
        )
        assert shown["origin_file"] == str(pairs_run.parent / "pairs" / "one.idx")
    with pytest.raises(Exception, match="web/train_one has the rows 0 to 1"):
        documents(data, Question(id="web/train_one/2"))
    for more in ([], ["--document", "1"], ["--tokenizer"], ["--json"]):
        ended = pipeline_here("inspect", pairs_run, *more)
        assert ended.returncode == 0, ended.stderr
        assert more == ["--json"] or "—" in ended.stdout or "|" in ended.stdout


def test_the_same_tokens_give_the_same_losses(tokenized: Path, tmp_path: Path) -> None:
    """Trained from documents, and from their token files taken over: same names, same tokens, same
    seed."""
    shutil.copytree(tokenized / "data", tmp_path / "data")
    for source in ("prose", "sums"):
        shutil.copy2(tokenized / f"{source}.jsonl", tmp_path)
    text = RUN_FILE.replace("TEMPLATES", str(TEMPLATES)).replace(
        "train_tokens: 5120", "train_tokens: 1024"
    )
    (tmp_path / "documents.yaml").write_text(text)
    for source in ("prose", "sums"):
        kept = tmp_path / "kept" / source
        shutil.copytree(tokenized / "data" / "tokens" / source, kept)
        lines = f"paths: [{kept}/train_*.bin], validation_paths: [{kept}/validation_*.bin]"
        text = text.replace(f"kind: jsonl, paths: [{source}.jsonl]", f"kind: megatron, {lines}")
    text = text.replace(
        "kind: byte-level-bpe, vocab_size: 300",
        f"kind: pretrained, path: {tmp_path / 'data/tokenizer'}",
    )
    text = text.replace("data_dir: data, run_dir: run", "data_dir: taken, run_dir: taken-run")
    (tmp_path / "ids.yaml").write_text(text)
    run_stages(tmp_path / "ids.yaml", STAGES, [])
    (link,) = (tmp_path / "taken" / "tokens" / "prose").glob("train_train_*.bin")
    assert link.is_symlink()
    losses = []
    for name in ("documents", "ids"):
        assert run_ranks(tmp_path / f"{name}.yaml", 1)["status"] == "done"
        records = read_metrics(load(tmp_path / f"{name}.yaml").paths.run_dir)
        losses.append([(record["loss"], record.get("validation_loss")) for record in records])
    assert losses[0] == losses[1]
    assert len(losses[0]) == 4
    assert np.isfinite(losses[0][-1]).all()


def test_a_run_of_ids_alone_needs_no_prepare(
    pairs_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_stages(pairs_run, ["train-tokenizer", "tokenize"], [])
    assert tokens_of(pairs_run) == [66, 67, END, 67, END]
    assert "Read raw text" not in capsys.readouterr().err
    status_view.show_status(TABLE, pairs_run, [])
    shown = capsys.readouterr().out
    assert next(line for line in shown.splitlines() if line.startswith("prepare")).split()[1:4] == [
        "not",
        "asked",
        "for",
    ]
    found = stage_states({stage.name: stage for stage in TABLE}, load(pairs_run))
    assert [found[name].kind for name in STAGES] == ["done"] * 3


def test_documents_of_an_earlier_run_file_are_not_removed_in_passing(pairs_run: Path) -> None:
    folder = pairs_run.parent
    pairs_run.write_text(
        RUN.replace("kind: megatron, paths: [pairs/one]", "kind: jsonl, paths: [web.jsonl]")
    )
    run_stages(pairs_run, STAGES, ["prepare.validation_fraction=0"])
    before = list((folder / "data" / "documents").rglob("*.parquet"))
    pairs_run.write_text(RUN)
    with pytest.raises(DataError, match="prepare, which is stale"):
        run_stages(pairs_run, ["tokenize"], ["prepare.validation_fraction=0"])
    assert before and all(path.exists() for path in before)


def test_the_readmes_example_of_ids_alone_runs_as_it_stands(
    pairs_run: Path, tmp_path: Path
) -> None:
    """The quickstart's run file, changed as README.md says."""
    root = Path(__file__).parents[2]
    example = re.search(
        r"\n    sources:\n      pile: (.|\n)*?(?=\n\n)", (root / "README.md").read_text()
    )
    assert example is not None
    document = yaml.safe_load((root / "jobs" / "quickstart.yaml").read_text()) | yaml.safe_load(
        example[0]
    )
    document["paths"] = {"data_dir": "../mine/data", "run_dir": "../mine/run"}
    del document["data"]["mixture"]
    document["evaluation"] = {
        k: v for k, v in document["evaluation"].items() if not k.startswith("require_")
    }
    document["deepspeed"] = str(root / "ds_configs" / "zero1.json")
    mine = tmp_path / "jobs" / "mine.yaml"
    mine.parent.mkdir()
    mine.write_text(yaml.safe_dump(document))
    write_pair(tmp_path / "ids" / "pile_00", [[66, 67, END]])
    write_pair(tmp_path / "ids" / "pile_val", [[67, END]])
    shutil.copytree("made", tmp_path / "models" / "neox")
    config = load(mine)
    assert config.evaluation.tasks == ("patterns", "arithmetic")
    run_stages(mine, ["train-tokenizer", "tokenize"], [])
    assert tokens_of(mine, "validation", "pile") == [67, END]
    for stage in TABLE:
        start_checks.refuse_mistakes(
            [check for check in stage.checks if not check.is_heavy], config
        )


def test_evaluation_that_needs_text_is_refused_before_training(pairs_run: Path) -> None:
    pairs_run.write_text(RUN.replace("tasks: [patterns]", "tasks: [heldout_cloze]"))
    ended = pipeline_here("run", pairs_run)
    assert ended.returncode == 2, ended.stderr
    assert (
        "heldout_cloze makes its questions from held-out text, and no source has text"
        in ended.stderr
    )
    assert not (pairs_run.parent / "data").exists()
