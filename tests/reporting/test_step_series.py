"""The columns of a run's steps: what they hold, what is drawn of long lines, and their memory."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import DataError
from pipeline.reporting.step_series import BUCKETS, DRAWN_STEPS, drawn_places, step_series
from pipeline.store.layout import RunFolder
from pipeline.store.metrics import iterate_metrics, read_metrics


def step(number: int, **more: Any) -> Any:
    record = {"step": number, "tokens": 10 * number, "loss": 1.0, "learning_rate": 0.5}
    return record | {"tokens_per_second": 2.0, "grad_norm": 3.0, "mfu": None} | more


def test_numbers_are_columns_and_validations_stay_records() -> None:
    records = [step(1, loss=None), step(2, validation_loss=None), step(3, grad_norm=None)]
    series = step_series(iter(records))
    assert len(series) == 3 and series.validated == [records[1]]
    loss = series.line("loss", with_gaps=True)
    assert loss.tokens.tolist() == [10, 20, 30]
    assert np.isnan(loss.values).tolist() == [True, False, False]
    norm = series.line("grad_norm", with_gaps=False)
    assert (norm.tokens.tolist(), norm.values.tolist()) == ([10, 20], [3.0, 3.0])
    assert len(series.line("mfu", with_gaps=False).tokens) == 0


def test_a_short_line_is_drawn_whole_and_of_a_long_one_peaks_and_gaps() -> None:
    assert drawn_places(np.zeros(DRAWN_STEPS)).tolist() == list(range(DRAWN_STEPS))
    values = np.zeros(10 * DRAWN_STEPS)
    values[77_777] = 9.0
    values[77_778] = -9.0
    values[123_456] = np.nan
    places = drawn_places(values)
    assert {0, 77_777, 77_778, 123_456, len(values) - 1} <= set(places.tolist())
    assert (np.diff(places) > 0).all() and len(places) <= 3 * BUCKETS + 2
    assert np.isnan(drawn_places(np.full(DRAWN_STEPS + 1, np.nan))).sum() == 0


def test_records_come_one_by_one_as_they_are_read_together(tmp_path: Path) -> None:
    path = RunFolder(tmp_path).metrics
    assert list(iterate_metrics(tmp_path)) == []
    whole = [step(1), step(2)]
    path.write_text("".join(json.dumps(record) + "\n" for record in whole) + '{"step": 3, "to')
    assert list(iterate_metrics(tmp_path)) == read_metrics(tmp_path) == whole
    path.write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(DataError, match=r"metrics\.jsonl, line 2: not valid JSON"):
        list(iterate_metrics(tmp_path))


PEAK = """
import sys
from pathlib import Path
from fake_run import write_fake_run
from pipeline.config.run_file import load
from pipeline.reporting.report import report
from pipeline.store.events import LAUNCH, write_event
config = load(Path(sys.argv[1]), [])
write_fake_run(config)
run = config.paths.run_dir
write_event(run, LAUNCH, ranks=2, command_began=0.0)
write_event(run, "start", step=0, ranks=2, abandoned_steps=0)
record = (run / "metrics.jsonl").read_text().splitlines()[0][1:].partition(",")[2]
record = record.replace('"tokens"', '"loss_by_source": {"web": 2.5}, "targets_by_source": {"web": 9}, "tokens"')

def lines(count):
    with (run / "metrics.jsonl").open("w") as file:
        for step in range(1, count + 1):
            file.write(f'{{"step": {step}, "unix_time": {step}.25, {record}\\n')

def peak():
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))

lines(1000)
report(config)
before = peak()
lines(int(sys.argv[2]))
report(config)
print(1024 * (peak() - before))
"""


@pytest.mark.ranks
def test_memory_of_a_report_grows_by_few_bytes_a_step(run_file: Path) -> None:
    """A million steps in 400 MB: 160 MB of imports, 20 of figures, and at most 220 bytes a step."""
    steps = 60_000
    folders = [str(Path(__file__).parent), str(Path(__file__).parents[1]), *sys.path]
    command = [sys.executable, "-c", PEAK, str(run_file), str(steps)]
    done = subprocess.run(
        command, capture_output=True, text=True, env={"PYTHONPATH": ":".join(folders)}
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 220 * steps
