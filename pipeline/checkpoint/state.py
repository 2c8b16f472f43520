"""The state of a run beside weights and moments: what a checkpoint's manifest holds of it."""

from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.engine.noise_scale import NoiseScale
from pipeline.sampling.order import Ranges


@dataclass(frozen=True)
class GuardState:
    """What the guards know of the steps before; part of every checkpoint."""

    losses: tuple[float, ...] = ()
    """Of the last steps whose update was made, oldest first, no more than
    `guard.spike_window_steps`."""
    not_made: int = 0
    """The last steps in a row whose update was not made."""


@dataclass(frozen=True)
class TrainState:
    """How far the run is; together with the config it decides everything that follows."""

    step: int = 0
    """Completed optimizer steps."""
    tokens: int = 0
    """Tokens trained on."""
    skipped: Ranges = ()
    """Samples that the run does not consume."""
    noise_scale: NoiseScale = field(default_factory=NoiseScale)
    """Running averages; they decide nothing."""
    guard: GuardState = field(default_factory=GuardState)

    def after_step(self, tokens: int, noise_scale: NoiseScale, guard: GuardState) -> "TrainState":
        """Return the state after one more step of so many tokens."""
        return replace(
            self,
            step=self.step + 1,
            tokens=self.tokens + tokens,
            noise_scale=noise_scale,
            guard=guard,
        )

    @staticmethod
    def read(record: dict[str, Any]) -> "TrainState":
        """Return the state that a checkpoint's manifest holds."""
        skipped = tuple((first, end) for first, end in record["skipped"])
        guard = GuardState(tuple(record["guard"]["losses"]), record["guard"]["not_made"])
        noise_scale = NoiseScale(**record["noise_scale"])
        return TrainState(
            **{**record, "skipped": skipped, "noise_scale": noise_scale, "guard": guard}
        )
