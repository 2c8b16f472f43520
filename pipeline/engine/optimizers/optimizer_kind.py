"""What a kind of optimizer has to answer. Free of torch, so that a refusal comes at once.

`OPTIMIZERS` in `pipeline/config/kinds.py` is the table. A new kind is one file here with a class,
and a line there.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.config.groups import RankGroups
from pipeline.config.kinds import OPTIMIZERS
from pipeline.config.optimizer_rules import OptimizerRules
from pipeline.config.sections import Optimizer
from pipeline.engine.extensions import Operator

if TYPE_CHECKING:
    import torch

ParameterGroups = list[dict[str, Any]]
"""Groups as torch's optimizers take them; `update` below names each group's `kind`."""


@dataclass(frozen=True)
class ParameterState:
    """What an update keeps of a parameter between steps, by the names in torch's state."""

    moments: tuple[str, ...]
    """fp32 tensors as large as the parameter, which ZeRO shards with it."""
    counts_steps: bool
    """Whether `step` stands beside them, which bias corrections go by."""


@dataclass(frozen=True)
class Execution:
    """How a DeepSpeed template and the run file have an optimizer executed."""

    zero_stage: int
    is_offloaded: bool
    """Whether optimizer states live in host memory or on NVMe."""
    dtype: str
    """`precision.dtype`."""


class OptimizerKind(OptimizerRules, ABC):
    """An optimizer as run file, engine and checkpoints see it; it has no state of its own."""

    states: ClassVar[tuple[ParameterState, ...]]
    """What its updates keep, one form for each."""
    is_on_deepspeeds_list: ClassVar[bool]
    """Whether DeepSpeed 0.19.8 counts what `build` returns among the optimizers that ZeRO supports
    (deepspeed/runtime/zero/utils.py); others it takes when told to."""

    @abstractmethod
    def update(self, is_hidden_matrix: bool) -> str:
        """Return the name of the update that a parameter gets, the `kind` of its group.

        A hidden matrix is the weight of a linear layer between embeddings and head.
        """

    @abstractmethod
    def build(
        self, settings: Optimizer, groups: ParameterGroups, is_offloaded: bool
    ) -> "torch.optim.Optimizer":
        """Return the torch optimizer that DeepSpeed is to shard and step, for groups that have
        `kind` and `weight_decay`."""

    def problems(self, settings: Optimizer, execution: Execution) -> list[str]:
        """Name what it cannot be executed with, and settings that are not for it."""
        return []

    def operators(self, settings: Optimizer, is_offloaded: bool) -> list[Operator]:
        """Return DeepSpeed's operators that it makes every rank load."""
        return []

    def lay_out(self, engine: Any, groups: RankGroups) -> None:
        """Tell the built optimizer what lies where in the shards that DeepSpeed has made of its
        parameters; every rank calls it once."""


def optimizer_kind(settings: Optimizer) -> OptimizerKind:
    """Return the optimizer that the run file names."""
    return OPTIMIZERS[settings.kind]


def known_states() -> list[ParameterState]:
    """Return the forms of states that checkpoints may hold: those of all optimizers."""
    states = [state for name in OPTIMIZERS.paths for state in OPTIMIZERS[name].states]
    return list(dict.fromkeys(states))


def moment_names() -> list[str]:
    """Return the names of all moments that checkpoints may hold."""
    return list(dict.fromkeys(name for state in known_states() for name in state.moments))


def state_with(moments: Iterable[str]) -> ParameterState | None:
    """Return the form of states that has exactly these moments; None where no optimizer has."""
    found = set(moments)
    return next((state for state in known_states() if set(state.moments) == found), None)
