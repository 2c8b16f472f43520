"""The objects that the training loop works with: one rank's engine, data and records of a run."""

from dataclasses import dataclass

from pipeline.checkpoint.saver import Saver
from pipeline.config.groups import RankGroups
from pipeline.config.run_config import RunConfig
from pipeline.engine.deepspeed_engine import Engine
from pipeline.engine.noise_scale import MicroBatchGradients
from pipeline.model.costs import ModelSize, flops_utilisation
from pipeline.model.device_batch import DeviceBatch
from pipeline.sampling.batches import Batch
from pipeline.sampling.loader import Loader
from pipeline.store.heartbeat import Heartbeat, NoHeartbeat
from pipeline.store.metrics import MetricsFile, StepSpeed
from pipeline.training.start_up_times import StartUpTimes
from pipeline.training.stop import StopSignal
from pipeline.training.trackers import Trackers
from pipeline.training.validation import HeldOut


@dataclass(frozen=True)
class Progress:
    """The places where the loop reports its progress."""

    heartbeat: Heartbeat | NoHeartbeat
    metrics: MetricsFile | None
    """metrics.jsonl; None except on rank 0."""
    trackers: Trackers
    times: StartUpTimes


@dataclass(frozen=True, kw_only=True)
class StepCost:
    """The FLOPs that a step needs and the devices' peak, for throughput and utilisation."""

    size: ModelSize
    peak_flops: float | None
    """Peak of one device in FLOP/s; None where unknown or where the model's FLOPs are not counted."""
    devices: int
    """Number of devices, one for each world rank."""
    recomputes: bool
    """Whether the backward pass recomputes activations."""

    def speed(self, tokens: int, seconds: float, sequence_length: int) -> StepSpeed:
        """Return throughput and utilisation of a step of `tokens` tokens that took `seconds`."""
        tokens_per_second = tokens / seconds
        flops_per_token = self.size.flops_per_token(sequence_length)
        hfu = None
        if self.recomputes:
            hfu = self._utilisation(
                tokens_per_second, self.size.recomputing_flops_per_token(sequence_length)
            )
        return {
            "tokens_per_second": tokens_per_second,
            "tflops": tokens_per_second * flops_per_token / self.devices / 1e12,
            "mfu": self._utilisation(tokens_per_second, flops_per_token),
            "hfu": hfu,
        }

    def _utilisation(self, tokens_per_second: float, flops_per_token: float) -> float | None:
        return flops_utilisation(tokens_per_second, flops_per_token, self.devices, self.peak_flops)


@dataclass(frozen=True, kw_only=True)
class Run:
    """The objects that the loop works with. The fields are fixed for the whole run."""

    config: RunConfig
    groups: RankGroups
    engine: Engine
    gradients: MicroBatchGradients
    loader: Loader[DeviceBatch]
    held_out: HeldOut
    sample: Batch | None
    """All training rows, with `data.small_sample`."""
    saver: Saver
    stop: StopSignal
    progress: Progress
    cost: StepCost
