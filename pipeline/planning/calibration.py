"""Rates of a plan, from what runs tell of their hardware. Pure arithmetic."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace

from pipeline.config.hardware import Hardware
from pipeline.engine.memory import WIDTH, checkpoint_bytes, logits_at_once, memory_parts
from pipeline.errors import ConfigError
from pipeline.planning.disk_use import DataSize
from pipeline.planning.model_cost import flops_per_token
from pipeline.planning.plan import (
    BACKWARD_AND_FORWARD,
    validation_seconds,
    validation_tokens,
)
from pipeline.planning.rates import PlanRates, Rate
from pipeline.planning.run_figures import RunFigures
from pipeline.planning.step_time import communication, micro_batches
from pipeline.tokens.indexed_dataset import token_dtype

MOST_SHARE = 1.0
"""Largest share of a step's computing that a further device may add."""


def calibrated_rates(
    assumed: PlanRates, runs: Sequence[RunFigures], hardware: Hardware
) -> PlanRates:
    """Return the rates with all that the runs tell, the last run's where several tell one."""
    last = runs[-1]

    def calibrated(value: float) -> Rate:
        return Rate(value, "calibrated", str(last.path))

    # How steps take longer with more devices, where several numbers of devices were run.
    share = assumed.per_device_share
    fitted = fitted_share(runs, assumed.overlap.value, hardware)
    if fitted is not None:
        share = calibrated(fitted)
    rates = replace(assumed, per_device_share=share)
    rates = replace(rates, mfu=calibrated(_mfu(last, rates, hardware)))

    # A step at ZeRO stage 3 shows the longest time that its hooks can take.
    if last.setting.zero_stage == 3:
        computing = _computing(last, share.value, rates.overlap.value, hardware)
        tokens = last.config.batch.global_batch_tokens
        longest = computing / (last.facts.size.layers * micro_batches(last.setting, tokens))
        if longest < rates.zero_3_host_seconds.value:
            rates = replace(rates, zero_3_host_seconds=calibrated(longest))

    # Validations.
    if last.validation_seconds is not None:
        peak = hardware.peak_flops(last.setting.dtype)
        assert peak is not None, "training in this format was possible"
        tokens = validation_tokens(last.config) / last.setting.ranks
        flops = flops_per_token(last.facts, last.setting.sequence_length) * tokens
        expected = validation_seconds(flops, peak * rates.mfu.value)
        factor = last.validation_seconds / expected
        rates = replace(rates, validation_factor=calibrated(factor))

    rates = _with_memory(rates, last, hardware, calibrated)
    if last.start_up_seconds is not None:
        rates = replace(rates, start_up_seconds=calibrated(last.start_up_seconds))
    if last.save_seconds and last.save_bytes:
        nodes = -(-last.setting.ranks // hardware.devices_per_node)
        rate = last.save_bytes / last.save_seconds / nodes
        rates = replace(rates, save_bytes_per_second=calibrated(rate))
    if last.save_bytes is not None:
        tensors = checkpoint_bytes(
            last.facts.parameters,
            last.setting.dtype,
            last.setting.zero_stage,
            last.setting.moment_bytes,
        )
        rates = replace(rates, checkpoint_extra_bytes=calibrated(last.save_bytes - tensors))
    if last.export_bytes is not None:
        weights = last.facts.parameters * WIDTH[last.setting.dtype]
        rates = replace(rates, export_extra_bytes=calibrated(last.export_bytes - weights))
    if last.data is not None and last.data.text_bytes:
        rates = _with_data(rates, last.data, last.facts.shape.vocabulary, calibrated)
    return rates


def _with_memory(
    rates: PlanRates, run: RunFigures, hardware: Hardware, calibrated: Callable[[float], Rate]
) -> PlanRates:
    """Return the rates with what the peak memory of a run is beside its predicted memory.

    On a GPU the peak is that of the device alone, and grows with what is predicted for it. On CPUs
    it is that of a process, which holds the host's part, too, and libraries of a constant size.
    """
    parts = memory_parts(run.facts.shape, run.setting, logits_at_once(run.facts.shape, run.setting))
    device = sum(part.device for part in parts)
    if not hardware.is_cpu:
        return replace(rates, memory_factor=calibrated(run.peak_bytes / device))
    host = sum(part.host for part in parts)
    return replace(rates, memory_offset_bytes=calibrated(run.peak_bytes - device - host))


def fitted_share(runs: Sequence[RunFigures], overlap: float, hardware: Hardware) -> float | None:
    """Return what each further device adds to a step, as a share of its computing.

    The share with which computing takes, for each FLOP of a device, as long on many devices as on
    few: the slope of its least-squares line over K - 1 is 0. At least 0; None where all runs have
    as many devices. The runs must differ in the number of devices only. Raises ConfigError where
    steps become longer in proportion to the devices or faster.
    """
    from scipy.optimize import root_scalar

    further = [run.setting.ranks - 1.0 for run in runs]
    if len(set(further)) < 2:
        return None

    def slope(share: float) -> float:
        seconds = [_computing(run, share, overlap, hardware) / _device_flops(run) for run in runs]
        return statistics.linear_regression(further, seconds).slope

    if slope(0.0) <= 0:
        return 0.0
    if slope(MOST_SHARE) > 0:
        names = ", ".join(f"{run.path} ({run.setting.ranks})" for run in runs)
        raise ConfigError(
            [
                f"--from {names}: for the same work, every further device makes a step longer by "
                "more than the time of its computing; something else slowed the larger run, so "
                "plan from one run"
            ]
        )
    return float(root_scalar(slope, bracket=(0.0, MOST_SHARE), xtol=1e-12).root)


def _mfu(run: RunFigures, rates: PlanRates, hardware: Hardware) -> float:
    """Return the share of the peak in the computing part of the run's steps."""
    peak = hardware.peak_flops(run.setting.dtype)
    assert peak is not None, "training in this format was possible"
    computing = _computing(run, rates.per_device_share.value, rates.overlap.value, hardware)
    return _device_flops(run) / computing / peak


def _device_flops(run: RunFigures) -> float:
    """Return the FLOPs of a device in a step, those of recomputing included."""
    per_token = flops_per_token(run.facts, run.setting.sequence_length)
    if run.setting.activation_checkpointing:
        per_token *= 1 + 1 / BACKWARD_AND_FORWARD
    return per_token * run.config.batch.global_batch_tokens / run.setting.ranks


def _computing(run: RunFigures, share: float, overlap: float, hardware: Hardware) -> float:
    """Return the seconds of a run's step in which a device computes.

    `share`: what each further device adds to a step, as a share of its computing. `overlap`: share
    of computing during which a device can send.
    """
    devices = run.setting.ranks
    nodes = -(-devices // hardware.devices_per_node)
    tokens = run.config.batch.global_batch_tokens
    sent = communication(run.facts.parameters, run.setting, tokens, hardware, nodes, overlap)
    growth = 1 + share * (devices - 1)
    return computing_seconds(
        run.step_seconds, sent.wire_bytes / sent.bandwidth, sent.overlap, growth
    )


def computing_seconds(step: float, wire: float, overlap: float, growth: float) -> float:
    """Return t_c of step = t_c growth + max(0, wire - overlap t_c), all in seconds."""
    hidden = step / growth
    if wire <= overlap * hidden:
        return hidden
    return (step - wire) / (growth - overlap)


def _with_data(
    rates: PlanRates, data: DataSize, vocabulary: int, calibrated: Callable[[float], Rate]
) -> PlanRates:
    """Return the rates with the sizes of a corpus that was made."""
    ids = data.text_tokens * token_dtype(vocabulary).itemsize
    return replace(
        rates,
        text_bytes_per_token=calibrated(data.kept_text_bytes / data.text_tokens),
        document_bytes_per_text_byte=calibrated(data.document_bytes / data.text_bytes),
        token_extra_share=calibrated(data.token_bytes / ids - 1),
    )
