"""What the guards on learning decide, by hand and in runs with garbage among their samples."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ranks import in_ranks

from pipeline.checkpoint.folders import complete_checkpoints
from pipeline.checkpoint.state import GuardState
from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.config.run_sections import Guard
from pipeline.errors import UserError
from pipeline.sampling.order import Order
from pipeline.sampling.skipped import merge_ranges
from pipeline.store.events import ROLLBACK, read_events
from pipeline.store.metrics import read_metrics
from pipeline.training.guard import apply_guards, deviations_above, suspected_samples

MakeRun = Callable[..., Path]
BATCH = 8
"""Samples of a step in `make_run`."""
SPIKED_STEP = 24
GARBAGE = range((SPIKED_STEP - 1) * BATCH, SPIKED_STEP * BATCH)
SETTINGS = [
    "train.train_tokens=10240",
    "checkpoint.save_every_steps=10",
    "guard.spike_window_steps=8",
    "guard.spike_deviations=6",
]
"""40 steps."""


def test_deviations_are_by_the_median_which_outliers_do_not_move() -> None:
    losses = [1.0, 2.0, 3.0, 4.0, 100.0]
    median, deviations = deviations_above(losses, 6.0)
    assert median == 3
    assert deviations == pytest.approx(3 / 1.4826)  # the median of 2, 1, 0, 1, 97 is 1
    assert deviations_above([2.0] * 9, 2.0) == (2, 0)
    assert deviations_above([2.0] * 9, 2.1) == (2, math.inf)


def test_a_spike_is_one_only_beside_a_full_window() -> None:
    settings = Guard(spike_window_steps=8, spike_deviations=5, spike_skipped_steps=3)
    state = GuardState(tuple(3 + 0.01 * (i % 3) for i in range(7)))
    state, trouble = apply_guards(state, 9.0, True, settings)
    assert trouble is None
    assert len(state.losses) == 8
    after, trouble = apply_guards(state, 2.9, True, settings)
    assert trouble is None, "a fall is no spike"
    assert after.losses == (*state.losses[1:], 2.9)
    _, trouble = apply_guards(state, 9.0, True, settings)
    assert trouble is not None
    assert trouble.steps == 3
    assert "deviations above 3.01, the median of 8 steps" in trouble.reason
    assert (
        apply_guards(state, 9.0, True, Guard(spike_window_steps=8, spike_deviations=None))[1]
        is None
    )


def test_updates_may_be_skipped_a_few_times_in_a_row() -> None:
    settings, state = Guard(max_skipped_updates=2), GuardState((3.0,))
    for _ in range(2):
        state, trouble = apply_guards(state, None, False, settings)
        assert trouble is None
    assert apply_guards(state, 3.0, True, settings)[0] == GuardState((3.0, 3.0), 0)
    assert state.losses == (3.0,)
    _, trouble = apply_guards(state, 3.0, False, settings)
    assert trouble is not None
    assert trouble.steps == 3


def test_suspected_samples_by_hand(run_file: Path) -> None:
    """Ten steps of four samples each."""
    config = load(run_file)
    order = Order(0, ("web",), np.array([40]), (), ())
    assert suspected_samples(config, order, step=6, steps=2, checkpoint_step=0) == (16, 24)
    assert suspected_samples(config, order, step=6, steps=2, checkpoint_step=3) == (16, 24)
    assert suspected_samples(config, order, step=6, steps=2, checkpoint_step=5) == (20, 24)
    assert suspected_samples(config, order, step=2, steps=5, checkpoint_step=0) == (0, 8)
    skipping = order.skipping(((10, 14), (22, 24)))
    assert suspected_samples(config, skipping, step=6, steps=2, checkpoint_step=3) == (20, 30)


def test_ranges_are_united() -> None:
    assert merge_ranges([(5, 7)], [(0, 2), (6, 9)], [(2, 3)]) == ((0, 3), (5, 9))
    assert merge_ranges() == ()


def train_on_garbage(config: RunConfig) -> dict[str, Any]:
    """Train with some samples' targets replaced by one rare token; says how it ended, and the final
    weights."""
    import torch

    from pipeline.sampling import loader
    from pipeline.training import job
    from pipeline.training.stop import StopSignal

    read, kept = loader.read_batch, {}

    def read_with_garbage(sources: Any, places: Any, shape: Any) -> Any:
        batch = read(sources, places, shape)
        bad = np.isin(places.sample, np.array(GARBAGE))
        batch.targets[bad] = 299
        return batch

    make = job.make_engine

    def keep_engine(*arguments: Any) -> Any:
        kept["engine"] = make(*arguments)
        return kept["engine"]

    loader.read_batch, job.make_engine = read_with_garbage, keep_engine
    outcome = job.run_job(config, StopSignal())
    weights = torch.cat([p.detach().flatten() for p in kept["engine"].module.parameters()])
    return {
        "status": outcome["status"],
        "weights": weights.double().sum().item(),
        "norm": weights.norm().item(),
    }


def refuse_garbage(config: RunConfig) -> Any:
    try:
        return str(train_on_garbage(config))
    except UserError as error:
        return str(error)


def losses_of(run_file: Path) -> list[float]:
    records = read_metrics(load(run_file).paths.run_dir)
    assert [record["step"] for record in records] == list(range(1, len(records) + 1))
    return [record["loss"] for record in records]


@pytest.mark.ranks
@pytest.mark.fault("bad numbers and bad data")
def test_a_run_goes_back_behind_garbage_and_can_be_repeated(make_run: MakeRun) -> None:
    run_file = make_run()
    run_dir = load(run_file).paths.run_dir
    assert in_ranks(run_file, 2, train_on_garbage, SETTINGS)["status"] == "rolled back"
    (event,) = read_events(run_dir, ROLLBACK)
    assert (event["step"], event["to_step"]) == (SPIKED_STEP, 20)
    assert event["samples"] == [GARBAGE.start - BATCH, GARBAGE.stop]
    told = json.loads((run_dir / event["file"]).read_text())
    samples = [row["sample"] for step in told["steps"] for row in step["rows"]]
    assert samples == list(range(*event["samples"]))
    documents = {
        part["id"] for step in told["steps"] for row in step["rows"] for part in row["documents"]
    }
    assert len(event["documents"]) == min(len(documents), 50)
    assert documents.issuperset(event["documents"])

    ended = in_ranks(run_file, 2, train_on_garbage, SETTINGS)
    assert ended["status"] == "done"
    assert len(read_events(run_dir, ROLLBACK)) == 1
    assert len(losses_of(run_file)) == 40
    manifest = json.loads((run_dir / "checkpoints" / "step_00000040" / "manifest.json").read_text())
    assert manifest["state"]["skipped"] == [event["samples"]]

    again = make_run(name="again")
    repeated = in_ranks(
        again, 2, train_on_garbage, [*SETTINGS, f"data.skipped_samples=[{event['samples']}]"]
    )
    assert repeated == ended
    assert losses_of(again) == losses_of(run_file)


@pytest.mark.ranks
@pytest.mark.fault("bad numbers and bad data")
def test_weights_that_the_garbage_has_made_are_not_gone_back_to(make_run: MakeRun) -> None:
    """The step before the spike, whose update is suspected, is saved, too."""
    run_file = make_run()
    often = [*SETTINGS, "checkpoint.save_every_steps=1", "checkpoint.keep_last=5"]
    assert in_ranks(run_file, 2, train_on_garbage, often)["status"] == "rolled back"
    run_dir = load(run_file).paths.run_dir
    (event,) = read_events(run_dir, ROLLBACK)
    assert (event["step"], event["to_step"]) == (SPIKED_STEP, SPIKED_STEP - 2)
    assert event["samples"] == [GARBAGE.start - BATCH, GARBAGE.stop]
    assert complete_checkpoints(run_dir / "checkpoints")[-1].name == f"step_{SPIKED_STEP - 2:08d}"
    assert (run_dir / "checkpoints" / "latest").read_text().strip() == f"step_{SPIKED_STEP - 2:08d}"
    assert in_ranks(run_file, 2, train_on_garbage, often)["status"] == "done"
    assert len(losses_of(run_file)) == 40


@pytest.mark.ranks
@pytest.mark.fault("bad numbers and bad data")
def test_documents_that_cannot_be_read_keep_no_run_from_going_back(make_run: MakeRun) -> None:
    run_file = make_run()
    paths = load(run_file).paths
    spoiled = [
        path.write_bytes(b"no parquet")
        for path in (paths.data_dir / "documents").rglob("*.parquet")
    ]
    assert spoiled
    paths.run_dir.mkdir()
    (paths.run_dir / "events.jsonl").write_text('{"time": "2026-01-01", "ev\n')  # torn
    assert in_ranks(run_file, 1, train_on_garbage, SETTINGS)["status"] == "rolled back"
    (event,) = read_events(paths.run_dir, ROLLBACK)
    assert event["samples"] == [GARBAGE.start - BATCH, GARBAGE.stop]
    assert "not all documents could be named" in event["message"]


@pytest.mark.ranks
@pytest.mark.fault("bad numbers and bad data")
def test_it_goes_back_so_often_and_no_more(make_run: MakeRun) -> None:
    refused = in_ranks(make_run(), 1, refuse_garbage, [*SETTINGS, "guard.max_rollbacks=0"])
    assert (
        "the run has already rolled back 0 times (guard.max_rollbacks), the newest checkpoint is "
        "from step 20" in refused
    )
