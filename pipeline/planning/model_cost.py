"""The model of a plan, its compute, and the loss that a fit predicts. Pure arithmetic."""

import math
from dataclasses import dataclass

from pipeline.config.run_config import RunConfig
from pipeline.model.model_facts import ModelFacts
from pipeline.planning.laws.loss_law import LossLaw

FLOPS_FORMULA = "6 N + 12 L d T"
"""FLOPs a token: N multiplying parameters (of a mixture of experts the active ones), L layers, d
attention heads x their width, T tokens of a sequence. Counts the masked half of attention, too, as
published figures do."""


@dataclass(frozen=True)
class ModelCost:
    """The model and its compute."""

    facts: ModelFacts
    train_tokens: int
    flops_per_token: float
    """By FLOPS_FORMULA."""
    loss: float | None
    """Loss that the fit predicts, in nats a token; None where it is above that of equal
    probabilities, as for models far smaller than the fit's."""
    optimal_tokens_per_parameter: float
    """Tokens a parameter of the fit's optimum for the same compute."""
    fit: LossLaw

    @property
    def total_flops(self) -> float:
        """FLOPs of the whole training."""
        return self.flops_per_token * self.train_tokens

    @property
    def comparable_flops(self) -> float:
        """6 N D, as published runs are counted: N with embeddings, without experts at rest."""
        at_rest = self.facts.size.parameters - self.facts.active_parameters
        return 6.0 * (self.facts.parameters - at_rest) * self.train_tokens

    @property
    def tokens_per_parameter(self) -> float:
        """Tokens trained on / all parameters."""
        return self.train_tokens / self.facts.parameters


def flops_per_token(facts: ModelFacts, sequence_length: int) -> float:
    """Return the FLOPs of a token by FLOPS_FORMULA."""
    attention = 12.0 * facts.size.layers * facts.size.attention_width * sequence_length
    return 6.0 * facts.active_parameters + attention


def model_cost(config: RunConfig, facts: ModelFacts, fit: LossLaw) -> ModelCost:
    """Return the cost of a run's model over all its tokens."""
    tokens = config.step_plan.total_tokens
    per_token = flops_per_token(facts, config.data.sequence_length)
    compute = 6.0 * facts.parameters * tokens
    loss = fit.loss(facts.parameters, tokens)
    is_plausible = loss < math.log(facts.shape.vocabulary)
    return ModelCost(
        facts=facts,
        train_tokens=tokens,
        flops_per_token=per_token,
        loss=loss if is_plausible else None,
        optimal_tokens_per_parameter=fit.optimal_tokens(compute) / fit.optimal_parameters(compute),
        fit=fit,
    )
