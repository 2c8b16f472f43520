"""Plans by hand: every part of one small run."""

from dataclasses import replace
from pathlib import Path

import pytest
from plans import HARDWARE, allocation, facts_of

from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.engine.memory import FreeMemory, MemoryPart, MemorySetting, memory_parts, state_parts
from pipeline.model.shape import rows_at_once
from pipeline.planning.disk_use import data_size
from pipeline.planning.laws.loss_law import LossLaw
from pipeline.planning.memory_grid import MemoryCase, fastest_that_fits
from pipeline.planning.plan import MemoryPlan, Plan, is_step_predicted, make_plan
from pipeline.planning.rates import PlanRates, Rate, assumed_rates
from pipeline.planning.run_setting import setting_on_devices

FIT = LossLaw("simple", 1.0, 1000.0, 0.5, 1000.0, 0.5)
SETTINGS = [
    "precision.dtype=bf16",
    "batch.global_batch_tokens=1024",  # 128 sequences of 8 tokens, 32 on each of 4 devices
    "batch.micro_batch_sequences=8",
    "train.train_tokens=1024000",
    "train.validate_every_steps=100",
    "checkpoint.save_every_steps=100",
    "checkpoint.keep_last=3",
]


@pytest.fixture
def config(run_file: Path) -> RunConfig:
    return load(run_file, SETTINGS)


def rates(**changed: float) -> PlanRates:
    """Return rates without overlap and linear term, and others as they are changed."""
    plain = {"overlap": 0.0, "per_device_share": 0.0, "lost_time": 1.0, **changed}
    assumed = assumed_rates(HARDWARE, "round", overlaps=False)
    return replace(assumed, **{name: Rate(v, "assumed", "test") for name, v in plain.items()})


def plan_of(config: RunConfig, nodes: int = 1, **changed: float) -> Plan:
    where = allocation(nodes)
    facts = facts_of()
    setting = setting_on_devices(config, facts, where.devices, on_gpu=True)
    data = data_size(config.train.train_tokens, 1000, rates(**changed))
    return make_plan(config, facts, setting, where, rates(**changed), data=data, fit=FIT)


def test_the_model(config: RunConfig) -> None:
    model = plan_of(config).model
    assert model.flops_per_token == 6e6 + 12 * 2 * 100 * 8
    assert model.total_flops == model.flops_per_token * 1_024_000
    assert model.comparable_flops == 6e6 * 1_024_000
    experts = replace(model, facts=replace(model.facts, active_parameters=400_000))
    assert experts.comparable_flops == pytest.approx(6 * 400_000 * 1_024_000)
    assert model.tokens_per_parameter == 1.024
    assert model.loss == pytest.approx(1 + 1 + 1000 / 1_024_000**0.5)
    assert model.optimal_tokens_per_parameter == pytest.approx(1)  # equal factors and exponents


def test_the_time_of_a_step(config: RunConfig) -> None:
    """256 tokens a device at half of 2 TFLOP/s, and 2 x 3/4 of two bytes a parameter at 10 GB/s."""
    step = plan_of(config).time.step
    assert step.compute == pytest.approx(256 * (6e6 + 19_200) / 1e12)
    assert step.communication == pytest.approx(2 * 0.75 * 2e6 / 10e9)
    # On two nodes 128 tokens a device; four devices share 4 GB/s to the other node.
    two = plan_of(config, nodes=2, per_device_share=0.01).time.step
    assert two.compute == pytest.approx(step.compute / 2)
    assert two.communication == pytest.approx(2 * 7 / 8 * 2e6 / 4e9)
    assert two.per_device == pytest.approx(7 * 0.01 * two.compute)


def test_recomputing_adds_a_forward_pass(config: RunConfig, run_file: Path) -> None:
    recomputing = load(run_file, [*SETTINGS, "train.activation_checkpointing=true"])
    step = plan_of(recomputing).time.step
    assert step.compute == pytest.approx(4 / 3 * plan_of(config).time.step.compute)


def test_hooks_of_zero_3_run_on_the_host(run_file: Path) -> None:
    """32 sequences a device are 4 micro-batches of 2 layers: 8 times what the host needs."""
    config = load(run_file, [*SETTINGS, "deepspeed=zero3"])
    plan = plan_of(config, zero_3_host_seconds=1.0)
    step = plan.time.step
    assert step.compute + step.host == 8
    # The largest micro-batch needs the host least, and stages below 3 do not need it.
    seconds = {
        (case.zero_stage, case.micro_batch_sequences): case.step_seconds
        for case in plan.memory.cases
        if not case.recomputes
    }
    assert seconds[3, 32] == pytest.approx(2 + 3 * 0.75 * 2e6 / 10e9)
    assert seconds[1, 32] == pytest.approx(256 * (6e6 + 19_200) / 1e12 + 2 * 0.75 * 2e6 / 10e9)


def test_zero_3_is_assumed_as_slow_as_it_was_measured() -> None:
    """262,144 tokens in 8 micro-batches of 12 layers: 108,239 tokens a second."""
    host = assumed_rates(HARDWARE, "round", overlaps=True).zero_3_host_seconds
    assert 262_144 / (8 * 12 * host.value) == pytest.approx(108_239)
    assert "H200" in host.source
    cpu = HARDWARE.model_copy(update={"device_names": ()})
    assert assumed_rates(cpu, "cpu", overlaps=True).zero_3_host_seconds.value == 0


def test_steps_with_states_in_host_memory_are_not_predicted(run_file: Path) -> None:
    config = load(run_file, [*SETTINGS, "deepspeed=zero3_offload", "optimizer.kind=adamw"])
    plan = plan_of(config)
    assert plan.predicted_time is None
    assert {case.step_seconds for case in plan.memory.cases} == {None}
    best = fastest_that_fits(plan.memory.cases)
    assert best is not None
    assert (best.zero_stage, best.micro_batch_sequences, best.recomputes) == (1, 32, False)
    # A run of the same kind tells.
    setting = setting_on_devices(config, facts_of(), 4, on_gpu=True)
    reached = Rate(0.1, "calibrated", "/runs/a")
    assert not is_step_predicted(setting, HARDWARE, rates())
    assert is_step_predicted(setting, HARDWARE, replace(rates(), mfu=reached))
    # On CPUs device and host are one memory.
    cpu = HARDWARE.model_copy(update={"device_names": ()})
    assert is_step_predicted(setting, cpu, rates())


def test_hours_and_jobs(config: RunConfig) -> None:
    """1,000 steps; ten validations of 64 sequences of each source, forward only."""
    time = plan_of(config, lost_time=2.0, start_up_seconds=60.0).time
    assert time.steps == 1000
    assert time.steps_seconds == pytest.approx(1000 * time.step.total)
    tokens = 64 * len(config.sources) * 8
    forward = tokens * (6e6 + 19_200) / 4 / 1e12 / 3
    assert time.validation_seconds == pytest.approx(10 * forward)
    assert time.saves_seconds == 0
    assert time.wall_seconds == pytest.approx(2 * (time.steps_seconds + time.validation_seconds))
    assert time.chain is not None
    assert time.chain.jobs == 1
    held = time.wall_seconds + 60 + time.save_seconds
    assert time.device_hours == pytest.approx(4 * held / 3600)


def test_training_waits_for_saves_that_are_not_asynchronous(run_file: Path) -> None:
    config = load(run_file, [*SETTINGS, "checkpoint.asynchronous=false"])
    plan = plan_of(config, save_bytes_per_second=1e6)
    assert plan.time.save_seconds == pytest.approx(plan.disk.checkpoint / 1e6)
    assert plan.time.saves_seconds == pytest.approx(10 * plan.time.save_seconds)


def test_a_job_that_is_too_short_is_shown_as_such(config: RunConfig) -> None:
    facts = facts_of()
    where = allocation(hours_per_job=0.01)
    setting = setting_on_devices(config, facts, where.devices, on_gpu=True)
    data = data_size(1.0, 1000, rates())
    plan = make_plan(config, facts, setting, where, rates(), data=data, fit=FIT)
    assert plan.time.chain is None


def test_memory_is_the_sum_by_which_training_refuses(config: RunConfig) -> None:
    facts = facts_of()
    setting = setting_on_devices(config, facts, 4, on_gpu=True)
    logits = rows_at_once(8 * 8, 100, 2, 1000)
    expected = memory_parts(facts.shape, setting, logits)
    own = plan_of(config).memory.own
    assert list(own.parts) == expected
    assert own.device_bytes == sum(part.device for part in expected)


def test_fp16_at_stage_2_is_2_p_and_18_p_over_k() -> None:
    setting = MemorySetting("fp16", 2, 8, 1, 8, 8, moment_bytes=8.0)
    total = sum(part.device for part in state_parts(1_000_000, setting))
    assert total == 2e6 + 18e6 / 8


def test_memory_is_compared_with_what_it_shares() -> None:
    """A device of 100 bytes and a host of 50, or one memory of 100; 5 % are reserved."""
    parts = [MemoryPart("a", 60.0), MemoryPart("b", 20.0, 40.0)]
    apart = FreeMemory(100.0, 50.0, is_shared=False)
    case = MemoryCase(1, 1, False, parts, apart.fits(parts), 1.0)
    memory = MemoryPlan(case, [case], apart, "fp32")
    assert (memory.needed(case), case.fits, memory.lacks_host_memory) == (80, True, False)

    small = FreeMemory(100.0, 41.0, is_shared=False)
    lacking = MemoryPlan(replace(case, fits=small.fits(parts)), [], small, "fp32")
    assert lacking.lacks_host_memory
    shared = FreeMemory(100.0, 100.0, is_shared=True)
    together = MemoryPlan(replace(case, fits=shared.fits(parts)), [], shared, "fp32")
    assert together.needed(case) == 120
    assert (together.own.fits, together.lacks_host_memory) == (False, False)


def test_memory_beside_what_is_predicted(config: RunConfig) -> None:
    plain = plan_of(config).memory.own.device_bytes
    more = plan_of(config, memory_factor=1.5, memory_offset_bytes=1000.0).memory.own.device_bytes
    assert more == pytest.approx(1.5 * plain + 1000)


def test_the_fastest_that_fits(config: RunConfig) -> None:
    """All fit at first; with memory for little more than ZeRO 3 without activations, recomputing
    does."""
    cases = plan_of(config).memory.cases
    assert {case.zero_stage for case in cases} == {1, 2, 3}  # stage 0 is refused in bf16
    assert {case.micro_batch_sequences for case in cases} == {1, 2, 4, 8, 16, 32}
    best = fastest_that_fits(cases)
    assert best is not None
    assert (best.zero_stage, best.micro_batch_sequences, best.recomputes) == (1, 32, False)
    tight = [replace(case, fits=case.zero_stage == 3 and case.recomputes) for case in cases]
    best = fastest_that_fits(tight)
    assert best is not None
    assert (best.zero_stage, best.recomputes) == (3, True)
    assert fastest_that_fits([replace(case, fits=False) for case in cases]) is None


def test_disk(config: RunConfig) -> None:
    """bf16 at stage 1: 2 bytes of weights, 4 of fp32 weights and 8 of moments a parameter."""
    plan = plan_of(config, checkpoint_extra_bytes=1e6)
    assert plan.disk.checkpoint == 14e6 + 1e6
    assert (plan.disk.kept_checkpoints, plan.disk.most_checkpoints) == (3, 4)
    assert plan.disk.export == 2e6 + 2e6
    assert plan.disk.run_at_the_end == 3 * 15e6 + 4e6
    data = plan.disk.data
    assert data.text_bytes == 4 * 1_024_000
    assert data.document_bytes == pytest.approx(0.4 * data.text_bytes)
    assert data.token_bytes == pytest.approx(2 * 1.01 * 1_024_000)
    wide = data_size(10, 65_500, rates())
    assert wide.token_bytes == pytest.approx(4 * 1.01 * 10)


def test_the_batch_against_the_critical_one(config: RunConfig) -> None:
    plan = plan_of(config)
    assert plan.batch.tokens == 1024
    assert plan.model.loss is not None
    assert plan.batch.critical == pytest.approx(2e8 / plan.model.loss**4.76)


def test_a_loss_above_equal_probabilities_is_not_predicted(config: RunConfig) -> None:
    facts = facts_of()
    where = allocation()
    setting = setting_on_devices(config, facts, where.devices, on_gpu=True)
    far = replace(FIT, irreducible=7.0)  # ln 1000 is 6.9
    data = data_size(1.0, 1000, rates())
    plan = make_plan(config, facts, setting, where, rates(), data=data, fit=far)
    assert plan.model.loss is None
    assert plan.batch.critical is None
    measured = Rate(2048.0, "measured", "/runs/a")
    plan = make_plan(
        config, facts, setting, where, rates(), data=data, fit=far, noise_scale=measured
    )
    assert plan.batch.critical == 2048
