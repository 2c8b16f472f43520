"""The report of a throughput study over run folders that no training made, and the plan from it."""

import json
from pathlib import Path

import pytest
from training_data import RUN_FILE, TEMPLATES

from pipeline.cli.study.opened_study import OpenedStudy, open_study
from pipeline.cli.study.report_view import write_report
from pipeline.config.run_file import dump, load
from pipeline.errors import RequirementError
from pipeline.planning.planner import allocation_of, on_allocation, plan_run
from pipeline.planning.step_time import StepTime, ring_bytes
from pipeline.planning.study.study_run import StudyRun
from pipeline.planning.study.throughput import SCALING
from pipeline.planning.throughput.scaling_fit import ScalingLaw
from pipeline.planning.throughput.throughput_file import read_throughput
from pipeline.store.events import COMMUNICATION, write_event
from pipeline.store.layout import RunFolder

STUDY = """\
kind: throughput
base: run.yaml
folder: made
budgets: {tokens: [61440]}
axes: {ranks: [1, 2, 4], variants: {template: {zero1: {}, zero2: {deepspeed: zero2}}}}
question: {batch_tokens: 256, predict: [8, 64]}
"""

pytestmark = [pytest.mark.ranks, pytest.mark.usefixtures("forked_checks")]
"""A process of its own looks at the model."""


@pytest.fixture
def opened(tmp_path: Path) -> OpenedStudy:
    """Return a study of which nothing is done."""
    (tmp_path / "run.yaml").write_text(RUN_FILE.replace("TEMPLATES", str(TEMPLATES)))
    path = tmp_path / "study.yaml"
    path.write_text(STUDY)
    return open_study(path, [])


def end_run(run: StudyRun, step: StepTime, cores: int = 8) -> None:
    """Leave a run as it is after its last step; each step takes as long."""
    seconds = step.total
    folder = RunFolder(run.config.paths.run_dir)
    ranks = run.place.ranks
    assert ranks is not None
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.config.write_text(dump(run.config))
    write_event(folder.path, "start", step=0, ranks=ranks, device="CPU")
    lines = [
        {
            "step": step,
            "loss": 3.0,
            "validation_loss": 3.0,
            "step_seconds": seconds,
            "data_wait_seconds": 0.1 * seconds,
            "tokens_per_second": run.config.batch.global_batch_tokens / seconds,
            "peak_memory_bytes": 10**9,
            "gradient_noise_scale_tokens": None,
        }
        for step in range(1, run.steps + 1)
    ]
    folder.metrics.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    if ranks > 1:
        write_event(
            folder.path,
            COMMUNICATION,
            ranks=ranks,
            nodes=1,
            cores=cores,
            backend="gloo",
            network="Ethernet eth0 10 Gbit/s",
            seconds_with=[seconds] * 3,
            seconds_without=[seconds - step.communication] * 3,
            bytes_per_second=5e8,
        )


def test_the_page_says_what_was_measured_and_what_that_cannot_show(opened: OpenedStudy) -> None:
    for run in opened.runs:
        is_weak = run.place.values[SCALING] == "weak"
        total = 1.0 + 0.25 * is_weak * (run.place.number("ranks") - 1)
        end_run(run, StepTime(0.8 * total, 0.0, 0.2 * total, 0.0), cores=2)
    write_report(opened)
    page = opened.folder.page.read_text()

    # What was measured: 4 x 256 tokens in 1.75 s against 256 in 1 s; a fifth is communication.
    assert "57%" in page
    assert "20.0%" in page
    assert "gloo" in page
    assert "Ethernet eth0 10 Gbit/s" in page
    assert "by no more than runs of one variant differ" in page
    # What it cannot show.
    assert "From 4 ranks on, a machine has more ranks than cores" in page
    assert "64 devices are 32 times the largest measured number" in page
    # What a plan reads: the fit to the ranks that had cores of their own.
    measured = read_throughput(opened.folder.throughput)
    assert measured.largest == 2
    assert measured.reference_run == opened.runs[0].config.paths.run_dir
    assert (opened.folder.figures / "steps.csv").read_text().count("\n") == 1 + len(opened.runs)


def test_a_plan_from_the_study_gives_its_own_step(opened: OpenedStudy) -> None:
    """Weak scaling with ring bytes over 400 kB/s: 2 ranks of 256 tokens each."""
    law = ScalingLaw(1.0, 256, 4e5, None, 0.0, 0.05)
    for run in opened.runs:
        ranks = run.place.number("ranks")
        wire = ring_bytes(run.facts.parameters, 4, 1, int(ranks))
        work = run.config.batch.global_batch_tokens / ranks
        end_run(run, law.step(ranks, 1, work, wire))
    write_report(opened)
    config = load(opened.study.base, ["batch.global_batch_tokens=512", "launch.ranks=2"])
    allocation = allocation_of(config, "cpu", None, 24.0)
    plan = plan_run(on_allocation(config, allocation), allocation, [opened.folder.path])
    assert plan.rates.link_gb_per_second.kind == "calibrated"
    assert plan.rates.link_gb_per_second.value == pytest.approx(4e-4)
    assert plan.rates.per_device_share.value == pytest.approx(0.05)
    expected = law.step(2, 1, 256, ring_bytes(opened.runs[0].facts.parameters, 4, 1, 2))
    assert plan.time.step.total == pytest.approx(expected.total)
    assert plan.time.step.communication == pytest.approx(expected.communication)

    # Not far beyond what was measured.
    many = load(opened.study.base, ["batch.global_batch_tokens=8192", "launch.ranks=32"])
    allocation = allocation_of(many, "cpu", None, 24.0)
    with pytest.raises(RequirementError, match="32 devices are 8 times"):
        plan_run(on_allocation(many, allocation), allocation, [opened.folder.throughput])


def test_runs_of_too_few_steps_leave_no_fit_behind(opened: OpenedStudy) -> None:
    for run in opened.runs:
        end_run(run, StepTime(1.0, 0.0, 0.0, 0.0))
    write_report(opened)
    assert opened.folder.throughput.is_file()
    for run in opened.runs[1:]:
        folder = RunFolder(run.config.paths.run_dir)
        folder.metrics.write_text("".join(folder.metrics.read_text().splitlines(True)[:15]))
    write_report(opened)
    assert not opened.folder.throughput.exists()
    assert "1 device only" in opened.folder.page.read_text()
