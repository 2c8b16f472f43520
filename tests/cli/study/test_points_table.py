"""The table of a study's points, with a column for each axis."""

from dataclasses import replace
from pathlib import Path

from made_up_study import study_point

from pipeline.planning.laws.points_file import read_points
from pipeline.planning.study.points import write_points
from pipeline.store.studies.study_folder import StudyFolder


def test_axes_are_columns(tmp_path: Path) -> None:
    first = study_point("a", 1000, 20_000, 3.0)
    second = study_point("b", 1000, 40_000, 2.5)
    folder = StudyFolder(tmp_path)
    write_points(
        folder,
        [
            replace(first, place={"batch_tokens": 256, "warmup": 0.1, "optimizer": "adamw"}),
            replace(second, place={"batch_tokens": 512, "optimizer": "muon"}),
        ],
    )
    head, one, two = (line.split(",") for line in folder.points.read_text().splitlines())
    assert head[-3:] == ["left_out", "warmup", "optimizer"], "the batch has a column already"
    assert (one[-2:], two[-2:]) == (["0.1", "adamw"], ["", "muon"])
    # Fits read the table all the same.
    assert [point.loss for point in read_points(folder.points, "nats").points] == [3.0, 2.5]
