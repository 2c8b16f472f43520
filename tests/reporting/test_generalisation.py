"""Training against held-out loss by source: means of intervals, the gap, unseen and repeated text."""

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
from fake_run import write_fake_run
from html_outline import Outline

from pipeline.config.run_file import load
from pipeline.reporting.generalisation import LossPoint, curves_by_source
from pipeline.reporting.generalisation_section import generalisation_section, losses_of_source
from pipeline.reporting.report import report
from pipeline.reporting.step_series import step_series


def step(number: int, loss: float, targets: int, **more: Any) -> Any:
    return {
        "step": number,
        "tokens": 10 * number,
        "loss": loss,
        "loss_by_source": {"a": loss},
        "targets_by_source": {"a": targets},
        **more,
    }


def validated(loss: float) -> dict[str, Any]:
    return {"validation_loss": loss, "validation_loss_by_source": {"a": loss}}


def test_means_of_intervals_and_the_gap_at_their_middles() -> None:
    """Steps 1 and 2, 3 and 4, 5 and 6 are intervals; in the third all text is repeated."""
    repeated = {"repeated_loss_by_source": {"a": 1.0}, "repeated_targets_by_source": {"a": 4}}
    records = [
        *(step(1, 6, 1), step(2, 4, 3, **validated(5))),
        *(step(3, 3, 2), step(4, 2, 4, **validated(4), **repeated)),
        *(step(5, 1, 4, **repeated), step(6, 1, 4, **validated(2), **repeated)),
    ]
    (source,) = curves_by_source(records)
    # (6 + 12) / 4; (6 + 8) / 6; 8 / 8
    assert source.training == [LossPoint(10, 4.5), LossPoint(30, 14 / 6), LossPoint(50, 1)]
    assert source.held_out == [LossPoint(20, 5), LossPoint(40, 4), LossPoint(60, 2)]
    # Half-way between 5 and 4, and between 4 and 2; before the first validation nothing is known.
    assert source.gaps == [LossPoint(30, 4.5 - 14 / 6), LossPoint(50, 3 - 1)]
    # In step 4 all four targets are repeated, with another mean than the whole for the test's sake.
    assert source.unseen == [LossPoint(10, 4.5), LossPoint(30, (14 - 4) / 2)]
    assert source.repeated == [LossPoint(30, 1), LossPoint(50, 1)]
    assert losses_of_source(source).startswith("<svg")


def test_without_repeated_text_unseen_is_all_and_has_no_curve() -> None:
    (source,) = curves_by_source([step(1, 2, 1, **validated(3))])
    assert (source.unseen, source.repeated, source.gaps) == ([], [], [])


def test_a_short_rest_is_a_part_of_the_interval_before_it() -> None:
    """Three steps to the first validation, three to the second, one more to the last."""
    losses = (9, 9, 9, 4, 4, 4, 2)
    records = [
        step(number, loss, 1, **(validated(5) if number in (3, 6, 7) else {}))
        for number, loss in enumerate(losses, start=1)
    ]
    (source,) = curves_by_source(records)
    assert source.training == [LossPoint(15, 9), LossPoint((30 + 70) / 2, 14 / 4)]


def test_steps_without_a_finite_loss_are_left_out() -> None:
    broken = {"step": 1, "tokens": 10, "loss": None, "loss_by_source": {}}
    records: list[Any] = [{**broken, "targets_by_source": {"a": 5}}, step(2, 3, 1, **validated(4))]
    (source,) = curves_by_source(records)
    assert source.training == [LossPoint(10, 3)]


def test_the_section_is_in_the_report_of_a_run_that_recorded_it(run_file: Path) -> None:
    config = load(run_file)
    write_fake_run(config)
    metrics = config.paths.run_dir / "metrics.jsonl"
    records = [json.loads(line) for line in metrics.read_text().splitlines()]
    for record in records:
        record["loss_by_source"] = {"web": record["loss"]}
        record["targets_by_source"] = {"web": 8192}
    metrics.write_text("".join(json.dumps(record) + "\n" for record in records))
    report(config)
    page = (config.paths.run_dir / "report.html").read_text()
    outline = Outline(page)
    assert outline.open == []
    assert "Generalisation" in outline.headings
    assert outline.pictures == 9
    assert "web: training loss, means between validations" in page


def test_a_run_of_an_older_version_has_no_section(run_file: Path) -> None:
    config = load(run_file)
    write_fake_run(config)
    report(config)
    assert "Generalisation" not in (config.paths.run_dir / "report.html").read_text()


@pytest.mark.parametrize("number", [1, 13])
def test_any_number_of_sources(number: int) -> None:
    names = [f"s{i}" for i in range(number)]
    records: list[Any] = [
        {
            "step": i,
            "tokens": 10 * i,
            "loss": 5 - i,
            "validation_loss": 5.0 - i,
            "loss_by_source": dict.fromkeys(names, 5.0 - i),
            "targets_by_source": dict.fromkeys(names, 8),
            "validation_loss_by_source": dict.fromkeys(names, 5.5 - i),
        }
        for i in (1, 2, 3)
    ]

    class Run:
        steps = step_series(records)
        counts: ClassVar[Any] = {"train": {"validation_targets_by_source": {"s0": 1310}}}

    page = generalisation_section(Run())  # pyright: ignore[reportArgumentType]
    assert page.count("<svg") == min(number, 12)
    assert page.count("<tr>") == number + 1
    # Where few targets are held out, a gap may be chance; other sources have none recorded.
    assert page.count("1,310") == 1
    assert "differs from training text, or is chance, where few targets are held out" in page
    assert ("Drawn are the first 12 sources" in page) == (number > 12)
