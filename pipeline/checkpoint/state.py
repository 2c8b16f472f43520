"""The state of a run besides weights and moments, as a checkpoint's manifest holds it."""

from dataclasses import dataclass, field, fields, replace

from pipeline.engine.noise_average import NoiseScale
from pipeline.sampling.order import Ranges
from pipeline.store.records import StateRecord


@dataclass(frozen=True)
class GuardState:
    """Earlier losses and counts that the guards use; part of every checkpoint."""

    losses: tuple[float, ...] = ()
    """Losses of the last steps whose update was made, nats per token, oldest first.

    At most `guard.spike_window_steps` of them.
    """
    not_made: int = 0
    """Number of consecutive steps, up to the last one, whose update was not made."""


@dataclass(frozen=True)
class TrainState:
    """How far a run has come; this and the config decide everything that follows."""

    step: int = 0
    """Completed optimizer steps."""
    tokens: int = 0
    """Tokens trained on."""
    skipped: Ranges = ()
    """Samples that the run does not consume."""
    noise_scale: NoiseScale = field(default_factory=NoiseScale)
    """Running averages for the gradient noise scale, which is only reported."""
    guard: GuardState = field(default_factory=GuardState)

    def after_step(self, tokens: int, noise_scale: NoiseScale, guard: GuardState) -> "TrainState":
        """Return the state after one more step, which trained on `tokens` tokens."""
        return replace(
            self,
            step=self.step + 1,
            tokens=self.tokens + tokens,
            noise_scale=noise_scale,
            guard=guard,
        )

    def record(self) -> StateRecord:
        """Return the state as a checkpoint's manifest holds it."""
        return {
            "step": self.step,
            "tokens": self.tokens,
            "skipped": self.skipped,
            "noise_scale": {"signal": self.noise_scale.signal, "noise": self.noise_scale.noise},
            "guard": {"losses": self.guard.losses, "not_made": self.guard.not_made},
        }

    @staticmethod
    def read(record: StateRecord) -> "TrainState":
        """Return the state that a checkpoint's manifest holds.

        Raises KeyError, TypeError or ValueError for anything that the method `record` did not make.
        """
        unknown = set(record) - {field.name for field in fields(TrainState)}
        if unknown:
            raise ValueError(f"state has {', '.join(sorted(unknown))}, which no save writes")
        return TrainState(
            step=record["step"],
            tokens=record["tokens"],
            skipped=tuple((first, end) for first, end in record["skipped"]),
            noise_scale=NoiseScale(**record["noise_scale"]),
            guard=GuardState(tuple(record["guard"]["losses"]), record["guard"]["not_made"]),
        )
