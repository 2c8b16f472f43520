"""`throughput.json`: what is written is read; other files are refused by their message."""

import json
import math
from pathlib import Path

import pytest

from pipeline.errors import DataError
from pipeline.planning.throughput.scaling_fit import FittedScaling, ScalingLaw
from pipeline.planning.throughput.step_points import StepPoint
from pipeline.planning.throughput.throughput_file import (
    read_throughput,
    throughput_file,
    write_throughput,
)

LAW = ScalingLaw(0.5, 4096, 4e8, None, 0.5, 0.01)
FITTED = FittedScaling(LAW, [], [StepPoint("two", "weak", 2, 1, 2000, 0.6, 4.0)], 0.02, True)


def written(folder: Path) -> Path:
    path = folder / "throughput.json"
    write_throughput(path, FITTED, "runs/one/run")
    return path


def test_a_fit_is_read_as_it_was_written(tmp_path: Path) -> None:
    found = read_throughput(written(tmp_path))
    assert found.law == LAW
    assert found.largest == 2
    assert found.is_overlap_fitted
    assert found.reference_run == tmp_path / "runs" / "one" / "run"


def test_a_study_folder_stands_for_its_file(tmp_path: Path) -> None:
    assert throughput_file(tmp_path) is None
    path = written(tmp_path)
    assert throughput_file(tmp_path) == path
    assert throughput_file(path) == path


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "throughput.json"
    with pytest.raises(DataError, match="does not exist"):
        read_throughput(path)
    path.write_text("{}")
    with pytest.raises(DataError, match="no fit of throughput"):
        read_throughput(path)
    content = json.loads(written(tmp_path).read_text())
    path.write_text(json.dumps({**content, "version": 7}))
    with pytest.raises(DataError, match="version 7"):
        read_throughput(path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("compute_seconds", -1),
        ("tokens_per_device", 0),
        ("link_bytes_per_second", 0),
        ("link_bytes_per_second", True),
        ("network_bytes_per_second", "fast"),
        ("overlap", 5),
        ("largest", 0),
        ("largest", -3),
        ("largest", math.inf),
    ],
)
def test_numbers_that_no_fit_has_are_refused(
    tmp_path: Path, field: str, value: float | str
) -> None:
    path = written(tmp_path)
    content = json.loads(path.read_text())
    part = content if field in content else content["law"]
    assert field in part
    part[field] = value
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="damaged"):
        read_throughput(path)
