"""Rules of an optimizer about a model, which are needed before an engine exists. Free of torch.

`OPTIMIZERS` in `kinds.py` is the table of optimizers; each is a class in
`pipeline/engine/optimizers`.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

from pipeline.config.kinds import OPTIMIZERS
from pipeline.config.sections import Optimizer


class OptimizerRules(ABC):
    """Rules of one optimizer: its learning rates under muP, and its memory."""

    trains_experts: ClassVar[bool]
    """Whether the optimizer can train the routers and stacked matrices of a mixture of experts."""

    @abstractmethod
    def hidden_matrix_rate(self, width: float) -> float:
        """Return muP's factor of the learning rate for hidden matrices.

        `width` is the width of this model divided by the width of the model on which the learning
        rate was tuned.
        """

    @abstractmethod
    def moment_bytes(self, non_embedding_share: float) -> float:
        """Return the bytes of optimizer state per parameter, as a mean over the model.

        `non_embedding_share`, from 0 to 1, is the fraction of the parameters that are neither
        embedding nor head.
        """


def optimizer_rules(settings: Optimizer) -> OptimizerRules:
    """Return the rules of the optimizer `optimizer.kind`."""
    return OPTIMIZERS[settings.kind]
