"""The pipeline as a program: what it offers, refuses and makes is what the commit in observed.json
offered, refused and made.

Nothing of the pipeline is called, so no redesign of its insides can change what is compared.
`record.py` wrote the file, and observed_quickstart.json, which needs a real corpus: the folder that
PIPELINE_TEST_QUICKSTART_CORPUS names.
"""

import io
import json
import re
import shutil
import signal
import subprocess
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest
from allowed import ADDED_COMMANDS
from forks import start_module
from mistakes import MISTAKES
from record import (
    OBSERVED,
    OBSERVED_QUICKSTART,
    QUICKSTART_CORPUS,
    digests_of_corpus,
    observe,
    observe_quickstart,
)
from reference import (
    files_of_data,
    kind_of_machine,
    offered,
    steps_of,
    tensors,
    without_other_questions,
)
from scenarios import PACKED, ROOT, Program, make_corpus, name_settings_anew, write_run_file

observed = json.loads(OBSERVED.read_text())
observed_quickstart = json.loads(OBSERVED_QUICKSTART.read_text())
MADE_AGAIN = ("evaluate", "report")
"""Stages whose form has changed since the commit that wrote observed.json."""
STAGES = ("prepare", "train-tokenizer", "tokenize", "train", "export", "evaluate", "report")
FOLDERS = ("pipeline", "ds_configs", "tokenizer", "jobs")
"""All of a checkout that a program here needs."""
LONG = ("paths.run_dir=long", "train.train_tokens=102400", "checkpoint.save_every_steps=20")
"""A run of 200 steps, long enough to be killed in its middle."""


@pytest.fixture(scope="module")
def program() -> Program:
    return Program(ROOT)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, program: Program) -> Path:
    """Return a folder with a corpus and a run file."""
    folder = tmp_path_factory.mktemp("black-box")
    make_corpus(folder)
    write_run_file(folder, program)
    return folder


@pytest.mark.ranks
def test_every_command_and_option_is_still_there(program: Program, tmp_path: Path) -> None:
    now = offered(program, tmp_path)
    assert observed["options"].keys() - now.keys() == set()
    assert now.keys() - observed["options"].keys() == ADDED_COMMANDS.keys()
    for command, options in observed["options"].items():
        assert set(options) - set(now[command]) == set(), command


@pytest.mark.ranks
@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_refused_by_name(
    corpus: Path, program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """In forks of one process that has imported this checkout's pipeline: they are many."""
    mistake = MISTAKES[name]
    folder = tmp_path / "typed"
    shutil.copytree(corpus, folder, ignore=shutil.ignore_patterns("data", "stream"))
    if mistake.arrange:
        mistake.arrange(folder)
    command = ["pipeline", mistake.command, "run.yaml"]
    settings = [setting.replace("ROOT", str(ROOT)) for setting in mistake.settings]
    log = tmp_path / "log"
    monkeypatch.chdir(folder)
    ended = start_module([*command, *settings], program.environment, log=log)
    assert ended.wait() == 2, log.read_text()
    message = re.sub(r"\s+", " ", log.read_text())
    assert "Traceback" not in message
    assert [word for word in mistake.named if word not in message] == []
    assert not list(folder.rglob("manifest.json"))


def test_there_are_forty_mistakes() -> None:
    assert len(MISTAKES) >= 40


@pytest.mark.ranks
def test_text_becomes_the_same_documents_and_tokens(corpus: Path, program: Program) -> None:
    for stage in STAGES[:3]:
        program(corpus, stage, "run.yaml")
    made = files_of_data(corpus / "data")
    expected = {
        name: content
        for name, content in observed["data"].items()
        if not name.startswith("packing/")
    }
    assert made == expected


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """Return the pipeline of the commit that wrote observed.json."""
    archive = subprocess.run(
        ["git", "-C", ROOT, "archive", observed["commit"], *FOLDERS],
        capture_output=True,
        check=False,
    )
    if archive.returncode != 0:
        pytest.skip(f"this checkout has no commit {observed['commit']}: a shallow clone")
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    return Program(folder)


@pytest.fixture(scope="module")
def made(program: Program, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Return the folder of all runs, and what can be observed in it."""
    folder = tmp_path_factory.mktemp("made")
    return folder, observe(program, folder)


@pytest.mark.ranks
@pytest.mark.full
def test_every_run_leaves_the_same_files(made: tuple[Path, dict[str, Any]]) -> None:
    assert made[1]["data"] == observed["data"]
    for run, form in observed["forms"].items():
        assert made[1]["forms"][run] == without_other_questions(form), run


@pytest.mark.ranks
@pytest.mark.full
def test_every_run_has_the_same_numbers(
    made: tuple[Path, dict[str, Any]],
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> None:
    """Bit by bit. On a kind of machine for which nothing was recorded, the old commit is asked
    again."""
    expected = observed["numbers"].get(kind_of_machine())
    if expected is None:
        old = request.getfixturevalue("old")
        expected = observe(old, tmp_path_factory.mktemp("expected"))["numbers"]
    for run, numbers in expected.items():
        assert made[1]["numbers"][run] == without_other_questions(numbers), run


@pytest.mark.ranks
@pytest.mark.full
def test_the_quickstart_makes_the_same_of_a_real_corpus(
    program: Program, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if not QUICKSTART_CORPUS:
        pytest.skip("the quickstart was not run: PIPELINE_TEST_QUICKSTART_CORPUS is not set")
    corpus = Path(QUICKSTART_CORPUS).resolve()
    assert digests_of_corpus(corpus) == observed_quickstart["corpus"], "it was recorded on another"
    (tmp_path / "new").mkdir()
    made = observe_quickstart(program, tmp_path / "new", corpus)
    for part in ("data", "form"):
        assert made[part] == without_other_questions(observed_quickstart[part])

    numbers = observed_quickstart["numbers"].get(kind_of_machine())
    if numbers is None:
        old = request.getfixturevalue("old")
        (tmp_path / "old").mkdir()
        numbers = observe_quickstart(old, tmp_path / "old", corpus)["numbers"]
    assert made["numbers"] == without_other_questions(numbers)


@pytest.mark.ranks
@pytest.mark.full
def test_a_run_that_the_old_commit_began_is_finished_as_if_it_were_one(
    old: Program, program: Program, tmp_path: Path
) -> None:
    make_corpus(tmp_path)
    write_run_file(tmp_path, old)
    for stage in STAGES[:3]:
        old(tmp_path, stage, "run.yaml")
    old(tmp_path, "train", "run.yaml", *LONG)
    undisturbed = tmp_path / "undisturbed"
    (tmp_path / "long").rename(undisturbed)

    training = old.start(tmp_path, "train", "run.yaml", *LONG)
    metrics = tmp_path / "long" / "metrics.jsonl"
    while not metrics.exists() or len(metrics.read_bytes().splitlines()) < 50:
        assert training.poll() is None, "it ended by itself"
        time.sleep(0.05)
    training.send_signal(signal.SIGKILL)
    training.wait()
    steps_of_old = len(metrics.read_bytes().splitlines())
    assert 50 <= steps_of_old < 200

    name_settings_anew(tmp_path)
    program(tmp_path, "train", "run.yaml", *LONG)
    finished, expected = (
        [
            [step["step"], step["loss"], step["grad_norm"], step["data_checksum"]]
            for step in steps_of(run)
        ]
        for run in (tmp_path / "long", undisturbed)
    )
    assert finished == expected
    weights = []
    for run in ("long", "undisturbed"):
        program(
            tmp_path,
            "checkpoints",
            "convert",
            run,
            "--step",
            "200",
            "--output",
            str(tmp_path / f"{run}-whole"),
        )
        weights.append(tensors((tmp_path / f"{run}-whole").rglob("*.safetensors")))
    assert weights[0] == weights[1]


def states(program: Program, folder: Path, *settings: str) -> dict[str, str]:
    """Return the first word of each stage's state, by the stage."""
    status = program(folder, "status", "run.yaml", *settings).stdout
    first_words = [line.split()[:2] for line in status.splitlines() if len(line.split()) > 1]
    return {name: word for name, word in first_words if name in (*STAGES, "pack")}


@pytest.mark.ranks
@pytest.mark.full
def test_text_added_to_an_old_folder_is_all_that_is_made(
    old: Program, program: Program, tmp_path: Path
) -> None:
    short = ("train.train_tokens=512", "schedule.warmup_tokens=0", "launch.ranks=1")
    make_corpus(tmp_path)
    write_run_file(tmp_path, old)
    for stage in STAGES[:3]:
        old(tmp_path, stage, "run.yaml")
    old(tmp_path, "train", "run.yaml", *PACKED, *short)
    data = tmp_path / "data"
    before = {
        path: path.stat().st_mtime_ns
        for suffix in ("parquet", "bin", "rows")
        for path in data.rglob(f"*.{suffix}")
    }
    (tmp_path / "more.jsonl").write_text('{"text": "one more document of some words"}\n' * 9)
    name_settings_anew(tmp_path)
    text = (tmp_path / "run.yaml").read_text()
    source = "sources:\n  more: {kind: jsonl, paths: [more.jsonl]}\n"
    (tmp_path / "run.yaml").write_text(text.replace("sources:\n", source))
    for stage in (*STAGES[:3], "pack"):
        program(tmp_path, stage, "run.yaml", *PACKED)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(list(data.glob("packing/*/more/*.rows"))) == 1


@pytest.mark.ranks
@pytest.mark.full
def test_old_folders_are_done_and_new_checkpoints_sound(
    made: tuple[Path, dict[str, Any]], old: Program, program: Program, tmp_path: Path
) -> None:
    folder = tmp_path / "old"
    folder.mkdir()
    make_corpus(folder)
    write_run_file(folder, old)
    old(folder, "run", "run.yaml")
    old(folder, "train", "run.yaml", *PACKED)
    name_settings_anew(folder)
    # Scores are kept in another form since, so that they and the report are made again.
    expected = dict.fromkeys(STAGES, "done") | {"pack": "not"}  # asked for
    assert states(program, folder) == expected | dict.fromkeys(MADE_AGAIN, "stale")
    packed = states(program, folder, *PACKED)
    assert {packed[stage] for stage in ("tokenize", "pack", "train")} == {"done"}
    again = program(folder, "run", "run.yaml").stderr
    assert again.count("done already") >= len(STAGES) - len(MADE_AGAIN)
    for run in ("stream", "packed", "reshard"):
        old(made[0], "checkpoints", "verify", run)
