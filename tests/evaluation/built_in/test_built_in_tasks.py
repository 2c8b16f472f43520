import json
from pathlib import Path

import pytest
import yaml
from heldout import write_heldout
from helpers import list_documents

from pipeline.config.evaluation_section import Evaluation
from pipeline.corpus.documents import ShardWriter
from pipeline.corpus.selecting.kept_documents import all_documents
from pipeline.errors import ConfigError
from pipeline.evaluation.built_in.built_in_tasks import questions_to_ask, write_tasks

BUILT_IN = {"heldout_cloze": (0, 1), "patterns": (0,), "arithmetic": (0, 5)}


def test_same_documents_same_bytes_and_stale_files_go(tmp_path: Path) -> None:
    write_heldout(tmp_path / "documents", {"web": 40})
    settings = Evaluation(limit=20, heldout_bytes=1000)
    names = write_tasks(tmp_path / "a", all_documents(tmp_path), ["web"], BUILT_IN, settings)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "old.yaml").write_text("task: old")
    assert (
        write_tasks(tmp_path / "b", all_documents(tmp_path), ["web"], BUILT_IN, settings) == names
    )
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == names
    assert all(
        (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
        for name in names
    )


def test_only_what_is_asked_for_is_written(tmp_path: Path) -> None:
    names = write_tasks(
        tmp_path,
        all_documents(tmp_path),
        ["web"],
        {"arithmetic": (0,)},
        Evaluation(heldout_bytes=0, limit=3),
    )
    assert names == [
        "arithmetic.examples.jsonl",
        "arithmetic.jsonl",
        "arithmetic.yaml",
        "jsonl_task.py",
    ]


def test_limit_and_shots_do_not_decide_which_questions_and_examples_there_are(
    tmp_path: Path,
) -> None:
    write_heldout(tmp_path / "documents", {"web": 40})
    few = dict.fromkeys(BUILT_IN, (0,))
    more = dict.fromkeys(BUILT_IN, (0, 5))
    settings = Evaluation(heldout_bytes=0)
    for name, asked, limit in (("a", few, 20), ("b", more, None)):
        of_limit = settings.model_copy(update={"limit": limit})
        write_tasks(tmp_path / name, all_documents(tmp_path), ["web"], asked, of_limit)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert "heldout_cloze.examples.jsonl" in names
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_the_first_200_questions_are_asked_and_patterns_share_them() -> None:
    tasks = ("arithmetic", "heldout_cloze", "pattern_copy", "piqa", "heldout_bpb_web")
    assert [questions_to_ask(task, None) for task in tasks] == [200, 200, 67, None, None]
    assert [questions_to_ask(task, 10) for task in tasks] == [10, 10, 4, 10, None]


def test_more_examples_than_there_are_are_refused(tmp_path: Path) -> None:
    asked = {"arithmetic": (0, 128), "pattern_copy": (129,), "piqa": (500,)}
    with pytest.raises(ConfigError) as refused:
        write_tasks(tmp_path, all_documents(tmp_path), [], asked, Evaluation(heldout_bytes=0))
    assert refused.value.problems == [
        "evaluation.shots: 129 is more than the 128 solved examples of pattern_copy; ask for 128 or "
        "fewer"
    ]
    asked = {"arithmetic": (128,), "patterns": (128,)}
    write_tasks(tmp_path, all_documents(tmp_path), [], asked, Evaluation(heldout_bytes=0))
    lines = [path.read_text().splitlines() for path in tmp_path.glob("*.examples.jsonl")]
    assert [len(examples) for examples in lines] == [128] * 4


def test_a_group_lists_its_patterns(tmp_path: Path) -> None:
    write_tasks(
        tmp_path,
        all_documents(tmp_path),
        [],
        {"patterns": (0,)},
        Evaluation(heldout_bytes=0, limit=10),
    )
    assert yaml.safe_load((tmp_path / "patterns.yaml").read_text())["task"] == [
        "pattern_copy",
        "pattern_alternate",
        "pattern_count",
    ]


def test_bits_per_byte_text_is_cut_between_characters(tmp_path: Path) -> None:
    folder = tmp_path / "documents" / "web"
    folder.mkdir(parents=True)
    writer = ShardWriter(folder, "validation", "0a", 1 << 20)
    for row, text in enumerate(("first\u2028line", "äöü" * 10)):
        writer.add(text.encode(), b"{}", b"file", row)
    list_documents(folder.parent, [folder / name for name in writer.close()])
    # 12 bytes (U+2028 has 3), then 7: three letters of 2 bytes and half of one.
    write_tasks(
        tmp_path / "tasks",
        all_documents(tmp_path),
        ["web"],
        {},
        Evaluation(heldout_bytes=12 + 7),
    )
    lines = (tmp_path / "tasks" / "heldout_bpb_web.jsonl").read_text().split("\n")
    assert [json.loads(line)["text"] for line in lines if line] == ["first\u2028line", "äöü"]


def test_a_source_without_held_out_documents_is_said_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    list_documents(tmp_path / "documents", [])
    assert write_tasks(tmp_path, all_documents(tmp_path), ["web"], {}, Evaluation()) == [
        "jsonl_task.py"
    ]
    assert "warning: source web: has no held-out document" in capsys.readouterr().err
