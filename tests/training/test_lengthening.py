"""A run that is made longer after its learning rate has fallen: what it jumps to, and where to
branch instead.

Runs of 20 steps of 256 tokens, on folders that look like a run's; no rank is started.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import pretend_checkpoint

from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.config.schedules import learning_rate
from pipeline.store.events import read_events
from pipeline.training import resume
from pipeline.training.lengthening import LENGTHENED

pytestmark = pytest.mark.ranks

MakeRun = Callable[..., Path]
BATCH = 256
WSD = ["schedule.kind=wsd", f"schedule.decay_tokens={5 * BATCH}"]
"""Of 20 steps the last five decay: the rate of step 15 is the peak."""


def begin(run_file: Path, steps: list[int], *overrides: str) -> None:
    """Begin a run of 20 steps, and let it have some checkpoints."""
    config = load(run_file, overrides)
    resume.record_run(config)
    for step in steps:
        pretend_checkpoint(config.paths.run_dir, step, step * BATCH)


def go_on(run_file: Path, *overrides: str) -> tuple[RunConfig, list[dict[str, object]]]:
    """Go on with other settings; returns them and the events of a jump."""
    config = load(run_file, overrides)
    resume.record_run(config)
    return config, read_events(config.paths.run_dir, LENGTHENED)


@pytest.mark.parametrize("kind", ["linear", "cosine"])
@pytest.mark.parametrize("step", [10, 20], ids=["halfway", "finished"])
def test_a_schedule_that_ends_later_names_both_rates(
    make_run: MakeRun, kind: str, step: int
) -> None:
    run_file, schedule = make_run(), f"schedule.kind={kind}"
    begin(run_file, [10, step], schedule)
    config, (event,) = go_on(run_file, schedule, f"train.train_tokens={40 * BATCH}")
    before = load(run_file, [schedule])
    assert (event["train_tokens_before"], event["train_tokens"]) == (20 * BATCH, 40 * BATCH)
    assert (event["step"], event["step_before_decay"]) == (step, None)
    assert event["rate_before"] == learning_rate(before, step)
    assert event["rate_after"] == learning_rate(config, step + 1)
    assert float(str(event["rate_after"])) > float(str(event["rate_before"]))
    for named in ("5,120", "10,240", f"step {step}", f"train.init_from = {config.paths.run_dir}"):
        assert named in str(event["message"])


def test_after_a_decay_of_wsd_the_checkpoint_before_it_is_named(make_run: MakeRun) -> None:
    run_file = make_run()
    begin(run_file, [5, 10, 15, 16, 20], *WSD)
    config, (event,) = go_on(run_file, *WSD, f"train.train_tokens={40 * BATCH}")
    assert (event["rate_before"], event["rate_after"], event["step_before_decay"]) == (0, 1e-2, 15)
    assert f"train.init_from = {config.paths.run_dir}@15" in str(event["message"])
    assert "train.init_take = everything" in str(event["message"])


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        ([], True),
        (["checkpoint.keep_every_steps=4"], True),
        (["checkpoint.keep_every_steps=5"], False),
    ],
    ids=["the last ones", "others", "this one"],
)
def test_that_the_checkpoint_named_will_be_deleted_is_said(
    make_run: MakeRun, kept: list[str], said: bool
) -> None:
    run_file = make_run()
    begin(run_file, [15, 20], *WSD, *kept)
    _, (event,) = go_on(run_file, *WSD, *kept, f"train.train_tokens={40 * BATCH}")
    assert event["step_before_decay"] == 15
    assert ("checkpoint.keep_last" in str(event["message"])) == said


def test_where_no_checkpoint_before_the_decay_was_kept_none_is_named(make_run: MakeRun) -> None:
    run_file = make_run()
    begin(run_file, [18, 20], *WSD)
    config, (event,) = go_on(run_file, *WSD, f"train.train_tokens={40 * BATCH}")
    assert event["step_before_decay"] is None
    assert "checkpoint.keep_every_steps" in str(event["message"])
    assert f"train.init_from = {config.paths.run_dir}" in str(event["message"])


@pytest.mark.parametrize(
    ("settings", "step"),
    [
        (WSD, 15),
        (["schedule.kind=constant"], 20),
        (["schedule.kind=inverse-square-root"], 20),
        (["schedule.kind=linear", "schedule.final_learning_rate_fraction=1"], 20),
        (["schedule.kind=linear", f"schedule.warmup_tokens={12 * BATCH}"], 10),
    ],
    ids=[
        "wsd before its decay",
        "constant",
        "inverse square root",
        "linear that does not fall",
        "within the warm-up",
    ],
)
def test_where_the_rate_stays_what_it_was_nothing_is_said(
    make_run: MakeRun, settings: list[str], step: int
) -> None:
    run_file = make_run()
    begin(run_file, [step], *settings)
    assert go_on(run_file, *settings, f"train.train_tokens={40 * BATCH}")[1] == []


def test_it_is_said_once(make_run: MakeRun) -> None:
    run_file, longer = make_run(), f"train.train_tokens={40 * BATCH}"
    begin(run_file, [20])
    assert go_on(run_file)[1] == []
    assert len(go_on(run_file, longer)[1]) == 1
    assert len(go_on(run_file, longer)[1]) == 1
