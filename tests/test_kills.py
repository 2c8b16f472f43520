"""kill -9 at random moments: whatever dies, the next run finishes, keeps what was done, and writes
the same bytes."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from helpers import digests, run_stages

from pipeline.config.run_file import load
from pipeline.store.files import read_json
from pipeline.store.layout import task_records

pytestmark = pytest.mark.ranks

SOURCES = ("a", "b", "c", "d")
SETTINGS = ["executor.workers=2", "prepare.shard_text_bytes=100000", "tokenizer.vocab_size=300"]
VICTIMS = ("worker", "parent", "everything")
END_SECONDS = 600
STOP_BEFORE_THE_FIRST_SHARD = """
import os, signal, sys

left = [signal.SIGSTOP]

def stop(event, arguments):
    if event == "os.rename" and str(arguments[1]).endswith(".parquet") and left:
        os.kill(os.getpid(), left.pop())

sys.addaudithook(stop)
"""
"""As `sitecustomize.py`: a worker stops itself where it has written its first shard and is about to
name it."""


@pytest.fixture
def many_tasks(run_file: Path) -> Path:
    """Return a run file of four sources that make 28 shards, without a model: its check, of seconds,
    would be what is killed."""
    generator = random.Random(0)
    words = [
        "".join(generator.choices("abcdefghij", k=generator.randrange(2, 9))) for _ in range(2000)
    ]
    for source in SOURCES:
        rows = [f'{{"text": "{" ".join(generator.choices(words, k=300))}"}}\n' for _ in range(350)]
        (run_file.parent / f"{source}.jsonl").write_text("".join(rows))
    listed = "".join(
        f"  {source}: {{kind: jsonl, paths: [{source}.jsonl]}}\n" for source in SOURCES
    )
    text, _, _ = run_file.read_text().partition("model:\n")
    run_file.write_text(text.replace("  web: {kind: jsonl, paths: [web.jsonl]}\n", listed))
    return run_file


def start(run_file: Path, stage: str, **environment: str) -> subprocess.Popen[bytes]:
    # Into a file: waiting for the end of a pipe would wait for every worker that holds it.
    with (run_file.parent / "output.txt").open("w") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline", stage, str(run_file), *SETTINGS],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # A killed parent leaves Dask's folder there.
            env={**os.environ, "TMPDIR": str(run_file.parent), **environment},
        )


def workers_of(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    try:
        children = psutil.Process(process.pid).children(recursive=True)
        return [
            child for child in children if any("spawn_main" in part for part in child.cmdline())
        ]
    except psutil.Error:
        return []


def kill(process: subprocess.Popen[bytes], victim: str) -> bool:
    """Kill it and tell whether it is dead, or was there at all."""
    if process.poll() is not None:
        return False
    if victim == "worker":
        if not (workers := workers_of(process)):
            return False
        try:
            random.choice(workers).send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:  # it has ended meanwhile
            return False
    elif victim == "parent":
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)
    return True


def printed(run_file: Path) -> str:
    return (run_file.parent / "output.txt").read_text()


def records(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in task_records(folder).glob("*.json")}


def wait_for_end_of(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=120)
    assert alive == [], "workers outlived the process that started them"


@pytest.mark.parametrize("kills", [6, pytest.param(50, marks=pytest.mark.full)])
def test_killed_at_any_moment_it_finishes_with_the_same_bytes(many_tasks: Path, kills: int) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    generator = random.Random(seed)
    random.seed(seed)
    undisturbed = many_tasks.parent / "undisturbed"
    run_stages(
        many_tasks,
        ["prepare", "train-tokenizer", "tokenize"],
        [*SETTINGS[1:], f"paths.data_dir={undisturbed}"],
    )
    expected = digests(undisturbed)
    assert len([name for name in expected if name.endswith(".bin")]) >= 28
    data = load(many_tasks, needs=()).paths.data_dir
    shutil.copytree(undisturbed / "tokenizer", data / "tokenizer")
    done = 0
    while done < kills:
        for stage, folder in (("prepare", data / "documents"), ("tokenize", data / "tokens")):
            while read_json(folder / "manifest.json") is None:
                before = records(folder)
                process = start(many_tasks, stage)
                time.sleep(generator.uniform(0, 4))
                victim = generator.choice(VICTIMS)
                workers = workers_of(process)
                killed = done < kills and kill(process, victim)
                process.wait(timeout=END_SECONDS)
                killed = killed and (
                    victim == "worker" or process.returncode != 0
                )  # else it was ending already
                done += killed
                if not killed or victim == "worker":
                    assert process.returncode == 0, f"seed {seed}: {printed(many_tasks)}"
                    after = records(folder)
                    assert {name: after[name] for name in before} == before, (
                        "what was done was done again"
                    )
                else:
                    assert process.returncode == -signal.SIGKILL
                    if (
                        generator.random() < 0.5
                    ):  # else the next run starts while they may still write
                        wait_for_end_of(workers)
        assert digests(data) == expected, f"seed {seed}"
        assert list(data.glob("*/*/.*.partial")) == []
        shutil.rmtree(data / "documents")
        shutil.rmtree(data / "tokens")


def test_a_second_run_starts_while_orphans_of_the_first_still_write(many_tasks: Path) -> None:
    """Both workers of the first run are stopped in a task, and go on once the second run has done
    one."""
    data = load(many_tasks, needs=()).paths.data_dir
    (many_tasks.parent / "sitecustomize.py").write_text(STOP_BEFORE_THE_FIRST_SHARD)
    first = start(many_tasks, "prepare", PYTHONPATH=str(many_tasks.parent))
    workers: list[psutil.Process] = []
    deadline = time.monotonic() + END_SECONDS
    while [worker.status() for worker in workers] != [psutil.STATUS_STOPPED] * 2:
        assert first.poll() is None and time.monotonic() < deadline, printed(many_tasks)
        time.sleep(0.05)
        workers = workers_of(first)
    first.kill()
    first.wait()
    second = start(many_tasks, "prepare")
    try:
        while not records(data / "documents"):
            assert second.poll() in (None, 0), printed(many_tasks)
            time.sleep(0.01)
    finally:
        for worker in workers:
            worker.resume()
    assert second.wait(timeout=END_SECONDS) == 0, printed(many_tasks)
    wait_for_end_of(workers)
    alone = many_tasks.parent / "alone"
    run_stages(many_tasks, ["prepare"], [*SETTINGS[1:], f"paths.data_dir={alone}"])
    assert digests(data) == digests(alone)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_is_said_and_nothing_is_marked_done(many_tasks: Path, small_disk: Path) -> None:
    settings = [*SETTINGS, f"paths.data_dir={small_disk}"]
    command = [sys.executable, "-m", "pipeline", "prepare", str(many_tasks), *settings]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=END_SECONDS)
    assert ended.returncode == 2, ended.stderr
    assert "No space left on device. Free some space" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert read_json(small_disk / "documents" / "manifest.json") is None
    for record in (task_records(small_disk / "documents")).glob("*.json"):
        for name, made in read_json(record)["result"]["files"].items():
            assert (small_disk / "documents" / name).stat().st_size == made["bytes"]
    (small_disk / "filler").unlink()
    ended = subprocess.run(command, capture_output=True, text=True, timeout=END_SECONDS)
    assert ended.returncode == 0, ended.stderr
    assert list(small_disk.glob("documents/*/.*.partial")) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> object:
    """Mount 4 MB of memory as a disk of which all but 300 kB is taken."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], check=True)
    (folder / "filler").write_bytes(bytes(3_700_000))
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)
