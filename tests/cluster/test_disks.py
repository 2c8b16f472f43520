"""A disk that fills up or becomes read-only while `pipeline train` writes to it, and folders that
it may not write to."""

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from helpers import memory_disk
from supervised import (
    Job,
    finish,
    processes_of,
    start,
    start_forked,
    steps_seen,
    wait_for_steps,
)
from training_data import write_run

from pipeline.store.metrics import read_metrics

MakeRun = Callable[..., Path]
STEPS = 200
SETTINGS = [
    f"train.train_tokens={STEPS * 256}",
    "batch.micro_batch_sequences=4",
    "checkpoint.save_every_steps=20",
    "train.validate_every_steps=1000",
]
WITHOUT_POWERS = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
"""To root, too, a folder's permissions apply."""

pytestmark = [
    pytest.mark.ranks,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting a disk needs root"),
]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Mount 16 MB of memory as the run's disk."""
    with memory_disk(tmp_path / "run", 16) as folder:
        yield folder


def losses(run_file: Path) -> list[float]:
    return [record["loss"] for record in read_metrics(run_file.parent / "run")]


@pytest.fixture(scope="module")
def undisturbed_losses(tokenized: Path, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """Return the losses of a run whose disk takes everything."""
    run_file = write_run(tokenized, tmp_path_factory.mktemp("undisturbed"))
    code, output = finish(start_forked(run_file, *SETTINGS))
    assert code == 0, output
    return losses(run_file)


def start_without_powers(run_file: Path, *overrides: str) -> Job:
    return start(run_file, *overrides, prefix=WITHOUT_POWERS)


def forbid(disk: Path) -> Callable[[], object]:
    def allow(mode: int) -> None:
        for folder, *_ in os.walk(disk):
            with suppress(FileNotFoundError):  # the run renames and removes some meanwhile
                Path(folder).chmod(mode)

    allow(0o555)
    return lambda: allow(0o755)


def make_read_only(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)


def fill(disk: Path) -> Callable[[], object]:
    with (disk / "filler").open("wb", buffering=0) as file:
        while True:
            try:
                file.write(bytes(1024))
            except OSError:
                return (disk / "filler").unlink


@pytest.mark.fault("disk")
@pytest.mark.parametrize(
    ("spoil", "begin", "said"),
    [
        (fill, start_forked, "No space left on device|MiB more"),
        pytest.param(forbid, start_without_powers, "Permission denied", marks=pytest.mark.full),
    ],
)
def test_a_disk_that_takes_nothing_more_ends_the_run_and_mended_it_goes_on(
    make_run: MakeRun,
    disk: Path,
    undisturbed_losses: list[float],
    spoil: Callable[[Path], Callable[[], object]],
    begin: Callable[..., Job],
    said: str,
) -> None:
    run_file = make_run()
    job = begin(run_file, *SETTINGS)
    wait_for_steps(job, run_file, 30)
    mend = spoil(disk)
    code, output = finish(job)
    assert code in (1, 2), output
    assert re.search(said, output)
    assert processes_of(run_file) == []
    mend()
    code, output = finish(start_forked(run_file, *SETTINGS))
    assert code == 0, output
    assert steps_seen(run_file) == list(range(1, STEPS + 1))
    assert losses(run_file) == undisturbed_losses


@pytest.mark.fault("disk")
@pytest.mark.parametrize(
    ("spoil", "begin", "said"),
    [
        (make_read_only, start_forked, "Read-only file system"),
        (forbid, start_without_powers, "Permission denied"),
    ],
)
def test_a_folder_that_cannot_be_written_is_refused_at_once(
    make_run: MakeRun,
    disk: Path,
    spoil: Callable[[Path], object],
    begin: Callable[..., Job],
    said: str,
) -> None:
    spoil(disk)
    code, output = finish(begin(make_run(), *SETTINGS))
    assert code == 2, output
    assert f"run: cannot be written ({said})" in output
    assert "make this one writable" in output
