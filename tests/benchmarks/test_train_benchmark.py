"""The benchmark of training runs through at small sizes; its arithmetic by hand."""

import json
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from transformers import LlamaConfig

from pipeline.benchmarks.training import side_rounds
from pipeline.benchmarks.training.gpu_rates import gpu_models, measure_on_gpu
from pipeline.benchmarks.training.gpu_results import MatrixProduct, gpu_speed, show_gpu_speeds
from pipeline.benchmarks.training.nanogpt import VARIABLE
from pipeline.benchmarks.training.peers import PeerInputs, check_stage, functions_of_engines
from pipeline.benchmarks.training.side_names import ACCELERATE, DEEPSPEED, OURS, PLAIN, TRAINER
from pipeline.benchmarks.training.side_results import (
    CpuFigures,
    Estimate,
    TurnFigures,
    all_limits,
    estimate,
    rate_ratio,
    scaling_efficiencies,
    show_cpu_figures,
    verdict_of,
)
from pipeline.benchmarks.training.side_rounds import ONE_THREAD
from pipeline.benchmarks.training.sizes import SIZES, CpuPlan, MeasuredSize
from pipeline.benchmarks.training.step_parts import (
    REST,
    THREADS,
    PartTimer,
    TimedFunction,
    functions_of_our_loop,
    timed,
)
from pipeline.benchmarks.training.step_settings import (
    MEASURING_MODULE,
    StepSettings,
    llama_section,
    settings_of_preset,
    settings_of_run_file,
)
from pipeline.benchmarks.training.train import (
    GPU_PRESETS,
    Choice,
    benchmark_train,
    cpu_plan,
    measure_and_show,
)
from pipeline.benchmarks.training.turn_clock import NEXT, TurnClock
from pipeline.benchmarks.training.turns import MeasuredProcess
from pipeline.config.groups import group_sizes
from pipeline.config.run_file import load
from pipeline.errors import ConfigError, Interrupted, UserError
from pipeline.model.sizes import count_parameters

SMALL = StepSettings(llama_section(64, 1, 384, 32), 32, 2, 128)


def figures(cpu: float, wall: float = 1.0) -> TurnFigures:
    return {"cpu_seconds": cpu, "wall_seconds": wall, "peak_bytes": 5 * 10**8}


def test_a_run_file_gives_its_model_and_batch(run_file: Path) -> None:
    settings = settings_of_run_file(load(run_file, ["precision.dtype=fp32"]))
    assert settings.model["config"]["vocab_size"] == 384  # 270 ids, rounded up to 128
    assert (
        settings.sequence_length,
        settings.micro_batch_sequences,
        settings.global_batch_tokens,
    ) == (
        8,
        2,
        32,
    )


@pytest.mark.parametrize(
    ("name", "width", "layers"), list(zip(GPU_PRESETS, (768, 2048), (12, 24), strict=True))
)
def test_presets_come_with_what_their_base_says(
    name: str, width: int, layers: int, tmp_path: Path
) -> None:
    settings = settings_of_preset(name)
    assert settings.model["architecture"] == "llama"
    assert (
        settings.model["config"]["hidden_size"],
        settings.model["config"]["num_hidden_layers"],
    ) == (
        width,
        layers,
    )
    assert settings.config(tmp_path, "zero1").precision.dtype == "bf16"


def test_sizes_have_the_parameters_that_their_names_say(tmp_path: Path) -> None:
    counted = {
        name: count_parameters(LlamaConfig(**size.settings.model["config"])).total / 1e6
        for name, size in SIZES.items()
    }
    assert counted == pytest.approx(
        {"1m-2k": 1.02, "1m-50k": 7.19, "10m-2k": 9.64, "10m-50k": 28.17}, abs=0.01
    )
    for size in SIZES.values():
        assert size.settings.config(tmp_path, "zero1").accumulation(group_sizes(1)) == 2


def test_a_median_comes_with_the_interval_of_its_resamples() -> None:
    assert estimate([2.0, 2.0, 2.0]) == (2.0, 2.0, 2.0)
    assert estimate([1.0]) == (1.0, 1.0, 1.0)
    # Three of three resampled values are the lowest in 1 of 27 samples, 3.7 %: more than 2.5 %.
    assert estimate([3.0, 1.0, 2.0]) == (2.0, 1.0, 3.0)
    wide = estimate([float(37 * value % 101) for value in range(101)])
    assert wide.median == 50
    assert 30 < wide.low < 50 < wide.high < 70


def test_rates_are_compared_within_a_round() -> None:
    ours = [figures(1.0), figures(2.0), figures(3.0)]
    other = [figures(2.0), figures(4.0)]  # the third round was interrupted
    assert rate_ratio(ours, other, "cpu_seconds") == (2.0, 2.0, 2.0)
    assert rate_ratio(ours, other, "wall_seconds") == (1.0, 1.0, 1.0)
    assert rate_ratio(ours, [], "cpu_seconds") is None


def test_rounds_of_one_process_are_not_taken_for_independent_ones() -> None:
    # One process of four was slow. Three of four slow ones are drawn in 5 % of the resamples; of
    # rounds that were drawn alone, half would be slow in 1.4 %.
    assert estimate([0.0] * 5 + [1.0] * 15) == (1.0, 0.0, 1.0)


def test_a_limit_is_met_by_the_whole_interval_or_undecided() -> None:
    assert verdict_of(Estimate(1.1, 1.0, 1.2), 1.0) == "met"
    assert verdict_of(Estimate(1.1, 0.9, 1.2), 1.0) == "undecided"
    assert verdict_of(Estimate(0.9, 0.8, 0.95), 1.0) == "MISSED"


def test_results_name_what_is_reached_of_each_side(capsys: pytest.CaptureFixture[str]) -> None:
    measured: CpuFigures = {
        "sides": {
            "1m-2k": {
                "zero1": {
                    PLAIN: [figures(0.9)],
                    DEEPSPEED: [figures(0.97)],
                    ACCELERATE: [figures(1.0)],
                    TRAINER: [figures(1.2, wall=2.0)],
                    OURS: [figures(1.0)],
                },
            }
        },
        "losses": {},
        "parts": {},
        "scaling": {
            "1 rank": [100.0, 100.0],
            "2 runs at once": [196.0, 194.0],
            "2 ranks": [190.0, 192.0],
        },
    }
    limits = all_limits(measured)["1m-2k"]["zero1"]
    assert {side: (limit["cpu"].median, limit["verdict"]) for side, limit in limits.items()} == {
        DEEPSPEED: (0.97, "MISSED"),
        ACCELERATE: (1.0, "met"),
        TRAINER: (1.2, "met"),
    }
    assert limits[TRAINER]["wall"].median == 2
    efficiencies = scaling_efficiencies(measured["scaling"])
    assert {name: each.median for name, each in efficiencies.items()} == pytest.approx(
        {"2 runs at once": 0.975, "2 ranks": 0.955}
    )
    show_cpu_figures(measured)
    printed = capsys.readouterr().out
    assert "1m-2k, zero1" in printed
    assert "0.970 (0.970-0.970)" in printed
    assert "Ranks, each on a core of its own" in printed


def answers(clock: TurnClock, connection: socket.socket, steps: int) -> list[Any]:
    """Mark steps; return what was told after them."""
    for _ in range(steps):
        clock.mark()
    connection.setblocking(False)
    told = b""
    with suppress(BlockingIOError):
        told = connection.recv(10_000)
    return [json.loads(line) for line in told.splitlines()]


def test_turns_are_measured_from_when_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        clock = TurnClock(theirs, warm_up=2, steps=2, turns=2)
        walls = iter([10.0, 20.0, 24.0, 30.0, 31.0, 31.0])
        cpus = iter([1.0, 2.0, 4.0])
        monkeypatch.setattr("time.perf_counter", lambda: next(walls))
        monkeypatch.setattr("time.process_time", lambda: next(cpus))
        ours.sendall(NEXT * 2)
        assert answers(clock, ours, 1) == []
        assert answers(clock, ours, 1) == ["warm"]
        # From 20 to 24 on the clock, and all CPU time since the end of warming up.
        (first,) = answers(clock, ours, 2)
        assert (first["wall_seconds"], first["cpu_seconds"]) == (2.0, 0.5)
        assert first["peak_bytes"] > 1e6
        # Nobody is waited for after the last turn.
        (second,) = answers(clock, ours, 2)
        assert (second["wall_seconds"], second["cpu_seconds"]) == (0.5, 1.0)
        assert answers(clock, ours, 5) == []


def test_a_process_that_nobody_asks_any_more_ends() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        clock = TurnClock(theirs, warm_up=1, steps=1, turns=1)
        ours.shutdown(socket.SHUT_WR)
        with pytest.raises(SystemExit):
            clock.mark()
        ours.close()


@pytest.mark.ranks
def test_a_side_that_fails_is_told_with_its_output(tmp_path: Path) -> None:
    missing = {"config": str(tmp_path / "none.json")}
    with (
        MeasuredProcess(MEASURING_MODULE, "measure_side", missing, ONE_THREAD) as process,
        pytest.raises(UserError, match=r"ended with exit code 1:[\s\S]*No such file"),
    ):
        process.wait_until_warm()


def test_unknown_names_are_refused_together(tmp_path: Path) -> None:
    choice = Choice(templates=["zero9"], sizes=["2m"], sides=["lightning"])
    with pytest.raises(ConfigError) as refused:
        benchmark_train(None, choice, 1, tmp_path / "found.json", gpus=0)
    assert [problem.split(":")[0] for problem in refused.value.problems] == [
        "--template zero9",
        "--size 2m",
        "--side lightning",
    ]


def test_what_is_not_chosen_is_left_out(run_file: Path) -> None:
    choice = Choice(["zero1"], (), ["10m-2k", "1m-2k"], [OURS, PLAIN], False, False)
    plan = cpu_plan(None, choice)
    assert (list(plan.sizes), plan.templates) == (["1m-2k", "10m-2k"], ["zero1"])
    assert (plan.sides, plan.with_parts, plan.scaling) == ([PLAIN, OURS], False, None)
    of_file = cpu_plan(
        load(run_file, ["precision.dtype=bf16", "train.compile=true"]), Choice()
    ).sizes
    assert list(of_file) == ["the run file"]
    settings = of_file["the run file"].settings
    assert (settings.dtype, settings.compile) == ("fp32", False), "as the peers train"


def test_nanogpt_is_left_out_or_refused_without_its_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = CpuPlan({}, sides=["nanogpt", OURS], with_parts=False, scaling=None)
    monkeypatch.delenv(VARIABLE, raising=False)
    measure_and_show(plan, 1, tmp_path / "found.json")
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(UserError, match=r"has no model\.py"):
        measure_and_show(plan, 1, tmp_path / "found.json")


def test_a_template_that_no_model_fits_is_refused_before_anything_is_measured(
    tmp_path: Path,
) -> None:
    models = gpu_models(None, ["gpt3-125m"])
    with pytest.raises(ConfigError, match="zero0: is for fp32, and gpt3-125m is trained in bf16"):
        measure_on_gpu(models, ["zero0"], tmp_path, 1, tmp_path / "found.json")


class FakeProcess:
    """A side whose fourth turn, over all sides, fails or is interrupted."""

    turns: ClassVar[list[str]] = []
    end: ClassVar[BaseException]

    def __init__(
        self, module: str, function: str, arguments: Mapping[str, Any], variables: object
    ) -> None:
        self.side = arguments["side"]

    def __enter__(self) -> "FakeProcess":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def wait_until_warm(self) -> None:
        pass

    def turn(self) -> TurnFigures:
        self.turns.append(self.side)
        if len(self.turns) == 4:
            raise self.end
        return figures(1.0)


@pytest.mark.parametrize(
    ("end", "shown"),
    [(KeyboardInterrupt(), Interrupted), (UserError("killed"), UserError)],
    ids=["interrupted", "failed"],
)
def test_what_was_measured_is_shown_and_written_in_any_case(
    end: BaseException,
    shown: type[BaseException],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(FakeProcess, "turns", [])
    monkeypatch.setattr(FakeProcess, "end", end, raising=False)
    monkeypatch.setattr(side_rounds, "MeasuredProcess", FakeProcess)
    plan = CpuPlan({"1m": MeasuredSize(SMALL)}, ["zero1"], [PLAIN, OURS])
    with pytest.raises(shown):
        measure_and_show(plan, 2, tmp_path / "found.json")
    assert FakeProcess.turns == [PLAIN, OURS, OURS, PLAIN]
    found = json.loads((tmp_path / "found.json").read_text())
    rounds = {name: len(turns) for name, turns in found["sides"]["1m"]["zero1"].items()}
    assert rounds == {PLAIN: 1, OURS: 2}
    assert "1m, zero1" in capsys.readouterr().out


def test_sides_get_new_processes_after_some_rounds() -> None:
    assert list(side_rounds.blocks(12)) == [range(1, 6), range(6, 11), range(11, 13)]
    assert list(side_rounds.blocks(3)) == [range(1, 4)]


def measured_at_small_size(
    folder: Path, monkeypatch: pytest.MonkeyPatch, **choice: Any
) -> tuple[Any, dict[str, Any]]:
    """Measure one round of a small model at ZeRO 1; return what was written, and the losses."""
    monkeypatch.delenv(VARIABLE, raising=False)
    size = MeasuredSize(SMALL, steps=4, warm_up=1)
    plan = CpuPlan({"small": size}, ["zero1"], scaling_steps=1, **choice)
    measure_and_show(plan, 1, folder / "found.json")
    found = json.loads((folder / "found.json").read_text())
    for (turn,) in found["sides"]["small"]["zero1"].values():
        assert turn["cpu_seconds"] > 0
    return found, found["losses"]["small"]["zero1"]


def check_losses(sides: Mapping[str, Sequence[float]]) -> None:
    """Check that every side has trained, and that DeepSpeed's peers made the same steps."""
    for (loss,) in sides.values():
        # An untrained model is about as good as guessing one of 384 ids: log 384 = 5.95.
        assert 5.5 < loss < 6.5
    # They train the same model on the same rows.
    losses = [sides[name][0] for name in (DEEPSPEED, ACCELERATE, TRAINER) if name in sides]
    assert losses == pytest.approx([losses[0]] * len(losses), abs=2e-4)


@pytest.mark.ranks
def test_our_side_is_compared_with_a_peer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found, losses = measured_at_small_size(
        tmp_path, monkeypatch, sides=[OURS, TRAINER], with_parts=False, scaling=None
    )
    assert set(losses) == {OURS, TRAINER}
    check_losses(losses)
    assert set(found["limits"]["small"]["zero1"]) == {TRAINER}
    assert "small, zero1: a step, medians" in capsys.readouterr().out


@pytest.mark.full
@pytest.mark.ranks
def test_every_side_trains_and_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, losses = measured_at_small_size(tmp_path, monkeypatch, scaling=SMALL)
    assert set(losses) == {PLAIN, DEEPSPEED, ACCELERATE, TRAINER, OURS}
    check_losses(losses)
    assert set(found["limits"]["small"]["zero1"]) == {DEEPSPEED, ACCELERATE, TRAINER}
    assert all(seconds > 0 for seconds in found["parts"]["small"]["zero1"]["ours"].values())
    assert set(found["scaling_efficiencies"]) == {"2 runs at once", "2 ranks"}


def test_a_gpus_speed_is_compared_with_its_peak_and_its_product(
    capsys: pytest.CaptureFixture[str],
) -> None:
    figures = {
        "tokens_per_second": 100_000.0,
        "flops_per_token": 3e9,
        "parameters": 5e8,
        "build_seconds": 1.0,
        "first_step_seconds": 12.0,
        "peak_gib": 30.0,
    }
    product: MatrixProduct = {"size": 8192, "flops": 600e12, "peak_flops": 1000e12}
    ours = gpu_speed(figures, product)
    assert (ours["flops"], ours["mfu"]) == (3e14, 0.3)
    unknown = gpu_speed(figures | {"tokens_per_second": 50_000.0}, product | {"peak_flops": None})
    assert unknown["mfu"] is None
    show_gpu_speeds("a model", {"zero1": ours, "plain": unknown}, product)
    printed = capsys.readouterr().out
    ours_line, plain_line = printed.strip().splitlines()[-2:]
    assert ours_line.split() == ["zero1", "100,000", "30.0%", "50.0%", "2.000", "30.0", "12"]
    assert plain_line.split() == [
        *("plain", "50,000", "unknown", "peak", "25.0%", "1.000", "30.0", "12")
    ]


def test_a_peer_that_trains_without_deepspeed_is_refused() -> None:
    zero1 = {"zero_optimization": {"stage": 1}}
    inputs = PeerInputs(None, torch.zeros(1, 8), 1, 1, 1e-4, zero1)
    with pytest.raises(UserError, match="at ZeRO stage 1, but its model is a Linear"):
        check_stage(torch.nn.Linear(1, 1), inputs)


def test_what_is_timed_is_there() -> None:
    for function in [*functions_of_engines(), *functions_of_our_loop()]:
        assert callable(getattr(function.owner, function.name)), function


def test_parts_of_a_step_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """A forward pass of 5 s, of which the loss takes 3, in a step of 17; other threads take 2."""
    thread = iter([10.0, 20.0, 21.0, 24.0, 25.0, 27.0])
    process = iter([100.0, 119.0])
    monkeypatch.setattr("time.thread_time", lambda: next(thread))
    monkeypatch.setattr("time.process_time", lambda: next(process))
    timer = PartTimer(warm_up=1, steps=1)
    owner = SimpleNamespace(loss=lambda: "a loss")
    with timed(timer, [TimedFunction("loss", owner, "loss")]):
        timer.mark()
        with timer.time("forward"):
            assert owner.loss() == "a loss"
        timer.mark()
    assert timer.seconds == {"loss": 3.0, "forward": 2.0, REST: 12.0, THREADS: 2.0}
