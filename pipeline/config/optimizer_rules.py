"""What an optimizer alone decides about a model, before there is an engine. Free of torch.

`OPTIMIZERS` in `kinds.py` is the table of optimizers; each is a class in `pipeline/engine/optimizers`.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

from pipeline.config.kinds import OPTIMIZERS
from pipeline.config.sections import Optimizer


class OptimizerRules(ABC):
    """What the model's sizes and scales take from its optimizer."""

    trains_experts: ClassVar[bool]
    """Whether it has a rule for the routers and stacked matrices of a mixture of experts."""

    @abstractmethod
    def hidden_matrix_rate(self, width: float) -> float:
        """Return muP's factor of the learning rate for a matrix from width to width.

        `width` is that of the model over that of the one on which the rate was tuned.
        """

    @abstractmethod
    def moment_bytes(self, non_embedding_share: float) -> float:
        """Return the bytes of its states a parameter, in the mean over the model.

        `non_embedding_share`, from 0 to 1, are the parameters between embedding and head.
        """


def optimizer_rules(settings: Optimizer) -> OptimizerRules:
    """Return the rules of the optimizer that the run file names."""
    return OPTIMIZERS[settings.kind]
