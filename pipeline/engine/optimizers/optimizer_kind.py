"""The interface of a kind of optimizer, and the optimizer states that checkpoints may hold.

`OPTIMIZERS` in `pipeline/config/kinds.py` is the table of kinds. A new kind is one file in this
folder with a class, and one line in the table. Free of torch, so that refusals come at once.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.config.groups import RankGroups
from pipeline.config.kinds import OPTIMIZERS
from pipeline.config.optimizer_rules import OptimizerRules
from pipeline.config.sections import Optimizer
from pipeline.engine.deepspeed_engine import Engine
from pipeline.engine.extensions import Operator

if TYPE_CHECKING:
    import torch

ParameterGroup = dict[str, Any]
"""A group of parameters as torch's optimizers take it: `params`, `weight_decay`, and ours beside.

`kind` is the update as `OptimizerKind.update` names it, `lr_scale` a factor on the learning rate.
"""
ParameterGroups = list[ParameterGroup]


@dataclass(frozen=True)
class ParameterState:
    """State that an update keeps for a parameter between steps, by its names in torch's state."""

    moments: tuple[str, ...]
    """fp32 tensors as large as the parameter, which ZeRO shards together with the parameter."""
    counts_steps: bool
    """Whether the state also holds `step`, which bias corrections need."""


@dataclass(frozen=True)
class Execution:
    """Settings of template and run file that decide where and in which format an optimizer runs."""

    zero_stage: int
    is_offloaded: bool
    """Whether optimizer states live in host memory or on NVMe."""
    dtype: str
    """Number format, as `precision.dtype` names it."""


class OptimizerKind(OptimizerRules, ABC):
    """An optimizer as run file, engine and checkpoints see it, without state of its own."""

    states: ClassVar[tuple[ParameterState, ...]]
    """The forms of state that the updates keep, one for each update."""
    is_on_deepspeeds_list: ClassVar[bool]
    """Whether the built optimizer is on DeepSpeed's list of those that ZeRO supports.

    DeepSpeed takes others where its config says so.
    Source: DeepSpeed 0.19.8, deepspeed/runtime/zero/utils.py.
    """

    @abstractmethod
    def update(self, is_hidden_matrix: bool) -> str:
        """Return the name of a parameter's update, which becomes the `kind` of the group.

        A hidden matrix is the weight of a linear layer between embeddings and head.
        """

    @abstractmethod
    def build(
        self, settings: Optimizer, groups: ParameterGroups, is_offloaded: bool
    ) -> "torch.optim.Optimizer":
        """Return the torch optimizer that DeepSpeed shards and steps."""

    def problems(self, settings: Optimizer, execution: Execution) -> list[str]:
        """Name settings of another kind, and executions that this kind does not support."""
        return []

    def operators(self, settings: Optimizer, is_offloaded: bool) -> list[Operator]:
        """Return DeepSpeed's operators that this kind makes every rank load."""
        return []

    def lay_out(self, engine: Engine, groups: RankGroups) -> None:
        """Tell the optimizer where its parameters lie in ZeRO's shards; every rank calls it once.

        Only an update that needs whole matrices has to know.
        """


def optimizer_kind(settings: Optimizer) -> OptimizerKind:
    """Return the kind of optimizer that the run file names."""
    return OPTIMIZERS[settings.kind]


def known_states() -> list[ParameterState]:
    """Return the forms of optimizer state that checkpoints may hold: those of all kinds."""
    states = [state for name in OPTIMIZERS.paths for state in OPTIMIZERS[name].states]
    return list(dict.fromkeys(states))


def moment_names() -> list[str]:
    """Return the names of all moments that checkpoints may hold."""
    return list(dict.fromkeys(name for state in known_states() for name in state.moments))


def state_with(moments: Iterable[str]) -> ParameterState | None:
    """Return the form of optimizer state with exactly these moments; None where no kind has it."""
    names = set(moments)
    return next((state for state in known_states() if set(state.moments) == names), None)
