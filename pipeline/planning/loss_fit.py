"""Loss as a function of parameters and tokens, and what follows from it. Pure arithmetic."""

from dataclasses import dataclass

CRITICAL_TOKENS = 2e8
CRITICAL_EXPONENT = 1 / 0.21
"""Kaplan's critical batch: 2e8 tokens / L^(1 / 0.21). Source: Kaplan et al. 2020
(arXiv:2001.08361), equation 1.4."""


@dataclass(frozen=True)
class LossFit:
    """L(N, D) = E + A / N^alpha + B / D^beta, in nats a token."""

    name: str
    """Name with source."""
    irreducible: float
    """E."""
    parameter_factor: float
    """A."""
    parameter_exponent: float
    """alpha."""
    token_factor: float
    """B."""
    token_exponent: float
    """beta."""

    def loss(self, parameters: float, tokens: float) -> float:
        """Return the loss in nats a token."""
        return (
            self.irreducible
            + self.parameter_factor / parameters**self.parameter_exponent
            + self.token_factor / tokens**self.token_exponent
        )

    def optimal_parameters(self, flops: float) -> float:
        """Return the N with the lowest loss for a compute of 6 N D FLOPs.

        N = G (C / 6)^(beta / (alpha + beta)), G = (alpha A / (beta B))^(1 / (alpha + beta)).
        Source: Hoffmann et al. 2022 (arXiv:2203.15556), equation 4.
        """
        exponents = self.parameter_exponent + self.token_exponent
        ratio = (self.parameter_exponent * self.parameter_factor) / (
            self.token_exponent * self.token_factor
        )
        return ratio ** (1 / exponents) * (flops / 6) ** (self.token_exponent / exponents)

    def optimal_tokens(self, flops: float) -> float:
        """Return the D with the lowest loss for a compute of 6 N D FLOPs."""
        return flops / 6 / self.optimal_parameters(flops)


CHINCHILLA_REFIT = LossFit(
    name="Chinchilla's runs, fitted again (Besiroglu et al. 2024, arXiv:2404.10102)",
    irreducible=1.8172,
    parameter_factor=482.01,
    parameter_exponent=0.3478,
    token_factor=2085.43,
    token_exponent=0.3658,
)


def critical_batch_tokens(loss: float) -> float:
    """Return the batch above which more tokens teach little, at a loss in nats a token."""
    return CRITICAL_TOKENS / loss**CRITICAL_EXPONENT
