"""What a run costs: model, memory, time, jobs, disk and batch, from its run file and hardware.

Pure arithmetic over the run file, the model's facts, the hardware and the plan's rates: free of
torch; reads and writes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.checkpoint.retention import kept_at_the_end, most_kept_at_once, saves_of_run
from pipeline.config.hardware import Hardware
from pipeline.config.run_config import RunConfig
from pipeline.engine.memory import (
    RESERVE,
    WIDTH,
    FreeMemory,
    MemoryPart,
    MemorySetting,
    checkpoint_bytes,
    logits_at_once,
    memory_parts,
)
from pipeline.model.model_facts import ModelFacts
from pipeline.planning.data_stages import DataPlan, data_core_hours
from pipeline.planning.disk_use import DataSize, DiskUse
from pipeline.planning.job_chain import JobChain, JobTimes, lost_margin_seconds
from pipeline.planning.laws.loss_law import LossLaw, critical_batch_tokens
from pipeline.planning.memory_grid import MemoryCase, memory_grid
from pipeline.planning.model_cost import ModelCost, flops_per_token, model_cost
from pipeline.planning.rates import PlanRates, Rate
from pipeline.planning.step_time import StepTime, communication, micro_batches, step_time

GIB = 2**30
BACKWARD_AND_FORWARD = 3
"""FLOPs of both passes / those of the forward pass."""


@dataclass(frozen=True)
class Allocation:
    """What a plan is made for."""

    hardware_name: str
    hardware: Hardware
    nodes: int
    devices: int
    hours_per_job: float
    devices_left_out: int = 0
    """Devices of the node that are not planned for, because with them the batch does not divide."""


@dataclass(frozen=True)
class MemoryPlan:
    """Memory of one device."""

    own: MemoryCase
    """The run file's own settings."""
    cases: Sequence[MemoryCase]
    free: FreeMemory
    dtype: str
    """Number format of weights and matrix products."""

    def needed(self, case: MemoryCase) -> float:
        """Return the bytes that are compared with a device's: with the host's, where it is one."""
        if self.free.is_shared:
            return case.device_bytes + case.host_bytes
        return case.device_bytes

    @property
    def lacks_host_memory(self) -> bool:
        """Whether the run does not fit although the device alone has room."""
        has_room = self.needed(self.own) <= self.free.device * (1 - RESERVE)
        return has_room and not self.own.fits


@dataclass(frozen=True)
class JobsPlan:
    """The jobs that a training takes."""

    job: JobTimes
    """Time limit of a job, with its start-up, margin and save."""
    wall_seconds: float
    """Steps, validations and saves, with time lost to failures; without start-ups."""
    devices: int

    @property
    def chain(self) -> JobChain | None:
        """The jobs; None where a job is over before its first step."""
        return self.job.chain(self.wall_seconds)

    @property
    def device_hours(self) -> float:
        """All devices in all jobs, start-ups and lost time included."""
        return self.job.held_seconds(self.wall_seconds) * self.devices / 3600


@dataclass(frozen=True)
class TimePlan:
    """Time of the training, and of the jobs that it takes."""

    step: StepTime
    """A step of the batch after its ramp."""
    steps: int
    tokens_per_second: float
    """All devices together, in steps."""
    steps_seconds: float
    validation_seconds: float
    saves_seconds: float
    """Time for which training waits for saves."""
    jobs: JobsPlan

    @property
    def wall_seconds(self) -> float:
        """Steps, validations and saves, with time lost to failures."""
        return self.jobs.wall_seconds

    @property
    def chain(self) -> JobChain | None:
        """The jobs; None where a job is over before its first step."""
        return self.jobs.chain

    @property
    def device_hours(self) -> float:
        """All devices in all jobs, start-ups and lost time included."""
        return self.jobs.device_hours

    @property
    def save_seconds(self) -> float:
        """The time of one save."""
        return self.jobs.job.save_seconds


@dataclass(frozen=True)
class BatchPlan:
    """The batch against the critical batch, in tokens."""

    tokens: int
    critical: float | None
    """None where neither a loss is predicted nor a noise scale measured."""
    basis: str


@dataclass(frozen=True)
class Plan:
    """What a run costs."""

    allocation: Allocation
    rates: PlanRates
    model: ModelCost
    memory: MemoryPlan
    predicted_time: TimePlan | None
    """None where no rate tells the time of a step: states in host memory, and no run with them."""
    disk: DiskUse
    data: DataPlan
    """Core-hours of the data stages."""
    batch: BatchPlan

    @property
    def time(self) -> TimePlan:
        """The predicted time, for callers that have refused a plan without one."""
        assert self.predicted_time is not None, "a plan without time is refused before"
        return self.predicted_time


def make_plan(
    config: RunConfig,
    facts: ModelFacts,
    setting: MemorySetting,
    allocation: Allocation,
    rates: PlanRates,
    *,
    data: DataSize,
    fit: LossLaw,
    noise_scale: Rate | None = None,
) -> Plan:
    """Return the plan of a run.

    `setting`: what the run's memory depends on, on all devices of the allocation. `noise_scale`: a
    measured critical batch in tokens. Raises ValueError where the hardware does not compute in the
    run's number format.
    """
    model = model_cost(config, facts, fit)
    memory = _memory(model, setting, allocation, rates)
    disk = _disk(config, setting, facts, data, rates)
    time = None
    if is_step_predicted(setting, allocation.hardware, rates):
        time = _time(config, model, setting, allocation, rates, disk)
    stages = data_core_hours(config, data, rates)
    batch = _batch(config, model, noise_scale)
    return Plan(allocation, rates, model, memory, time, disk, stages, batch)


def _batch(config: RunConfig, model: ModelCost, noise_scale: Rate | None) -> BatchPlan:
    tokens = config.batch.global_batch_tokens
    if noise_scale is not None:
        basis = f"gradient noise scale of {noise_scale.source}"
        return BatchPlan(tokens, noise_scale.value, basis)
    if model.loss is None:
        return BatchPlan(tokens, None, "no loss is predicted; a run given by --from measures it")
    basis = f"Kaplan et al. 2020 at the predicted loss of {model.loss:.2f}"
    return BatchPlan(tokens, critical_batch_tokens(model.loss), basis)


def validation_tokens(config: RunConfig) -> int:
    """Return the tokens of one validation: at most, where little is held out."""
    sequences = config.data.validation_sequences * max(1, len(config.sources))
    return sequences * config.data.sequence_length


def validation_seconds(flops: float, rate: float) -> float:
    """Return the time of a validation, which goes forward only.

    `flops`: those of forward and backward pass on a device; `rate`: FLOP/s that it reaches.
    """
    return flops / rate / BACKWARD_AND_FORWARD


def is_step_predicted(setting: MemorySetting, hardware: Hardware, rates: PlanRates) -> bool:
    """Tell whether the rates hold for a run's step.

    Where a GPU's states are in host memory, only a run of the same kind tells how long they take to
    move and how long the host's optimizer takes.
    """
    is_offloaded = any(setting.offloads) and not hardware.is_cpu
    return not is_offloaded or rates.mfu.kind == "calibrated"


def _step(
    facts: ModelFacts,
    tokens: float,
    setting: MemorySetting,
    allocation: Allocation,
    rates: PlanRates,
) -> StepTime:
    """Return the time of a step of this many tokens over all devices."""
    hardware = allocation.hardware
    peak = hardware.peak_flops(setting.dtype)
    if peak is None:
        raise ValueError(f"{hardware.description} does not compute in {setting.dtype}")
    per_token = flops_per_token(facts, setting.sequence_length)
    compute = per_token * tokens / allocation.devices / (peak * rates.mfu.value)
    # Recomputing adds a forward pass to the two passes, which are three times as much.
    if setting.activation_checkpointing:
        compute *= 1 + 1 / BACKWARD_AND_FORWARD
    sent = communication(
        facts.parameters, setting, tokens, hardware, allocation.nodes, rates.overlap.value
    )
    # The hooks of ZeRO 3 run on the host, once for each layer of a micro-batch.
    host = 0.0
    if setting.zero_stage == 3:
        layers = facts.size.layers * micro_batches(setting, tokens)
        host = layers * rates.zero_3_host_seconds.value
    return step_time(
        compute,
        sent.wire_bytes,
        sent.bandwidth,
        sent.overlap,
        rates.per_device_share.value * compute,
        allocation.devices,
        host_seconds=host,
    )


def _memory(
    model: ModelCost, setting: MemorySetting, allocation: Allocation, rates: PlanRates
) -> MemoryPlan:
    # What a device and its share of the host have.
    facts = model.facts
    hardware = allocation.hardware
    host = hardware.host_memory_gib * GIB / hardware.devices_per_node
    device = hardware.memory_gib * GIB
    if hardware.is_cpu:
        device = host
    free = FreeMemory(device, host, is_shared=hardware.is_cpu)
    tokens_of_step = setting.global_batch_sequences * setting.sequence_length

    def parts_of(changed: MemorySetting) -> list[MemoryPart]:
        parts = memory_parts(facts.shape, changed, logits_at_once(facts.shape, changed))
        predicted = sum(part.device for part in parts)
        beside = predicted * (rates.memory_factor.value - 1) + rates.memory_offset_bytes.value
        if beside:
            parts.append(MemoryPart("beside what is predicted", beside))
        return parts

    def seconds_of(changed: MemorySetting) -> float | None:
        if not is_step_predicted(changed, hardware, rates):
            return None
        return _step(facts, tokens_of_step, changed, allocation, rates).total

    # The run's own setting, and all others.
    own = MemoryCase.of(setting, parts_of(setting), free, seconds_of(setting))
    return MemoryPlan(own, memory_grid(setting, free, parts_of, seconds_of), free, setting.dtype)


def _disk(
    config: RunConfig,
    setting: MemorySetting,
    facts: ModelFacts,
    data: DataSize,
    rates: PlanRates,
) -> DiskUse:
    checkpoint = checkpoint_bytes(
        facts.parameters, setting.dtype, setting.zero_stage, facts.moment_bytes
    )
    steps = config.total_steps
    kept = kept_at_the_end(steps, config.checkpoint)
    return DiskUse(
        data=data,
        checkpoint=checkpoint + rates.checkpoint_extra_bytes.value,
        kept_checkpoints=kept,
        most_checkpoints=min(
            most_kept_at_once(steps, config.checkpoint), saves_of_run(steps, config.checkpoint)
        ),
        export=facts.parameters * WIDTH[setting.dtype] + rates.export_extra_bytes.value,
    )


def _time(
    config: RunConfig,
    model: ModelCost,
    setting: MemorySetting,
    allocation: Allocation,
    rates: PlanRates,
    disk: DiskUse,
) -> TimePlan:

    def step_of(tokens: float) -> StepTime:
        return _step(model.facts, tokens, setting, allocation, rates)

    # Steps, with the batch's ramp.
    steps_seconds = sum(count * step_of(tokens).total for count, tokens in config.step_plan.sizes())
    last = step_of(config.batch.global_batch_tokens)

    # Validations.
    validations = -(-config.total_steps // config.train.validate_every_steps)
    per_device = model.flops_per_token * validation_tokens(config) / allocation.devices
    peak = allocation.hardware.peak_flops(setting.dtype)
    assert peak is not None, "a step was planned in this format"
    validation = validation_seconds(per_device, peak * rates.mfu.value)
    validation *= rates.validation_factor.value

    # Saves: training waits for the whole of it, or for a copy that is too short to count.
    save = disk.checkpoint / (rates.save_bytes_per_second.value * allocation.nodes)
    saves = config.total_steps // config.checkpoint.save_every_steps
    waited = 0.0
    if not config.checkpoint.asynchronous:
        waited = saves * save

    # Jobs.
    useful = steps_seconds + validations * validation + waited
    wall = useful * rates.lost_time.value
    limit = allocation.hours_per_job * 3600
    job = JobTimes(
        limit_seconds=limit,
        start_up_seconds=rates.start_up_seconds.value,
        margin_seconds=lost_margin_seconds(limit, last.total, validation, save),
        save_seconds=save,
    )
    return TimePlan(
        step=last,
        steps=config.total_steps,
        tokens_per_second=config.batch.global_batch_tokens / last.total,
        steps_seconds=steps_seconds,
        validation_seconds=validations * validation,
        saves_seconds=waited,
        jobs=JobsPlan(job, wall, allocation.devices),
    )
