"""An optimizer that only this file knows is checked, trained, saved and resumed like the others."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import in_ranks

from pipeline.config.kinds import OPTIMIZERS, quoted_choices
from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.config.sections import Optimizer
from pipeline.engine.deepspeed_config import refuse_execution
from pipeline.engine.optimizers.optimizer_kind import (
    Execution,
    OptimizerKind,
    ParameterGroups,
    ParameterState,
)
from pipeline.errors import ConfigError
from pipeline.model.model_check import check_model_settings
from pipeline.store.events import read_events
from pipeline.store.metrics import read_metrics

MakeRun = Callable[..., Path]
NAME = "heavy-ball"
PATH = f"{__name__}:HeavyBall"


class HeavyBall(OptimizerKind):
    """Plain gradient descent with momentum."""

    trains_experts = False
    states = (ParameterState(("momentum_buffer",), counts_steps=False),)
    is_on_deepspeeds_list = False

    def hidden_matrix_rate(self, width: float) -> float:
        return 1.0

    def moment_bytes(self, non_embedding_share: float) -> float:
        return 4.0

    def update(self, is_hidden_matrix: bool) -> str:
        return NAME

    def problems(self, settings: Optimizer, execution: Execution) -> list[str]:
        is_refused = execution.is_offloaded or execution.zero_stage == 2
        return [f"{NAME}: not at stage {execution.zero_stage}"] if is_refused else []

    def build(
        self, settings: Optimizer, groups: ParameterGroups, is_offloaded: bool
    ) -> torch.optim.Optimizer:
        return torch.optim.SGD(groups, settings.peak_learning_rate, momentum=settings.beta1)


@pytest.fixture
def _in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPTIMIZERS.paths, NAME, PATH)


def train_with_it(config: RunConfig) -> dict[str, Any]:
    """Add the line to the table of this rank's process, and train as every rank does."""
    from pipeline.training.job import run_job
    from pipeline.training.stop import StopSignal

    OPTIMIZERS.paths[NAME] = PATH
    optimizer = config.optimizer.model_copy(update={"kind": NAME})
    return run_job(config.model_copy(update={"optimizer": optimizer}), StopSignal())


RATE = "optimizer.peak_learning_rate=0.3"


@pytest.mark.ranks
@pytest.mark.parametrize("zero", ["zero0", "zero1", "zero3"])
def test_it_trains_and_goes_on_at_other_stages_and_ranks(make_run: MakeRun, zero: str) -> None:
    """20 steps of ZeRO 1 on one rank, against 10 of them and 10 more at another stage on two."""
    whole = make_run("whole")
    outcome = in_ranks(whole, 1, train_with_it, [RATE])
    assert outcome["status"] == "done", outcome
    losses = [record["loss"] for record in read_metrics(load(whole).paths.run_dir)]
    assert losses[0] - losses[-1] > 0.3, losses
    parted = make_run("parted")
    constant = [RATE, "schedule.kind=constant"]
    first = in_ranks(parted, 1, train_with_it, [*constant, "train.train_tokens=2560"])
    assert first["step"] == 10, first
    template = f"deepspeed={zero}"
    assert in_ranks(parted, 2, train_with_it, [*constant, template])["step"] == 20
    steady = make_run("steady")
    in_ranks(steady, 1, train_with_it, constant)
    found, expected = (
        [record["loss"] for record in read_metrics(load(run).paths.run_dir)]
        for run in (parted, steady)
    )
    assert found == pytest.approx(expected, abs=1e-4)
    (started,) = read_events(load(whole).paths.run_dir, "start")
    assert ", SGD, " in started["message"]


@pytest.mark.ranks
@pytest.mark.usefixtures("_in_the_table")
def test_it_is_asked_before_training(make_run: MakeRun) -> None:
    config = load(make_run(), [f"optimizer.kind={NAME}"])
    assert check_model_settings(config)["moment_bytes"] == 4.0
    refuse_execution(config)
    with pytest.raises(ConfigError, match=f"{NAME}: not at stage 2"):
        refuse_execution(load(make_run(zero="zero2"), [f"optimizer.kind={NAME}"]))


@pytest.mark.ranks
def test_without_its_line_it_is_unknown(make_run: MakeRun) -> None:
    with pytest.raises(ConfigError) as refused:
        load(make_run(), [f"optimizer.kind={NAME}"])
    assert refused.value.problems == [
        f"optimizer.kind = '{NAME}': input should be {quoted_choices(OPTIMIZERS.paths)}"
    ]


@pytest.mark.parametrize("name", OPTIMIZERS.paths)
def test_every_line_of_the_table_names_a_kind(name: str) -> None:
    assert isinstance(OPTIMIZERS[name], OptimizerKind)
