"""Laws of the loss: of parameters and tokens together, and of one quantity alone. Pure arithmetic.

Also the published laws, and Kaplan's critical batch, which is a function of the loss.
"""

import math
from dataclasses import dataclass
from typing import Literal

from pipeline.errors import ConfigError

FLOPS_PER_PARAMETER_AND_TOKEN = 6
"""C = 6 N D. Source: Kaplan et al. 2020 (arXiv:2001.08361), section 2.1."""
NATS_PER_BIT = math.log(2)
CRITICAL_TOKENS = 2e8
CRITICAL_EXPONENT = 4.76
"""Kaplan's critical batch: 2e8 tokens / L^4.76, of 1 / 0.21. Source: Kaplan et al. 2020
(arXiv:2001.08361), equation 1.4."""
MOST_LOG = 200.0
"""Largest logarithm of an N_opt, and of its inverse. Laws of a handful of points can have any; their
powers must stay numbers."""

Unit = Literal["nats", "bits", "bits-per-byte"]
"""What a loss counts: nats or bits of a token, or bits of a byte of text."""


@dataclass(frozen=True)
class PowerLaw:
    """L(x) = E + k / x^exponent, of parameters, tokens or FLOPs."""

    name: str
    """Name with source."""
    irreducible: float
    """E."""
    factor: float
    """k."""
    exponent: float

    def loss(self, amount: float) -> float:
        """Return the loss at an amount of what the law is about."""
        return self.irreducible + self.factor / amount**self.exponent


def kaplan_law(name: str, scale: float, exponent: float) -> PowerLaw:
    """Return L(x) = (scale / x)^exponent, the form in which Kaplan et al. write their laws."""
    return PowerLaw(name, 0.0, scale**exponent, exponent)


KAPLAN_PARAMETERS = kaplan_law("Kaplan et al. 2020, non-embedding parameters", 8.8e13, 0.076)
KAPLAN_TOKENS = kaplan_law("Kaplan et al. 2020, tokens", 5.4e13, 0.095)
"""Loss in nats a token where only N, or only D, is the limit.
Source: Kaplan et al. 2020 (arXiv:2001.08361), equations 1.1 and 1.2."""


@dataclass(frozen=True)
class LossLaw:
    """L(N, D) = E + A / N^alpha + B / D^beta."""

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
    unit: Unit = "nats"
    """Unit of L, and so of E, A and B."""

    def loss(self, parameters: float, tokens: float) -> float:
        """Return the loss in the law's unit."""
        return (
            self.irreducible
            + self.parameter_factor / parameters**self.parameter_exponent
            + self.token_factor / tokens**self.token_exponent
        )

    @property
    def optimal_exponent(self) -> float:
        """The exponent a of N_opt = G (C / 6)^a: beta / (alpha + beta)."""
        return self.token_exponent / (self.parameter_exponent + self.token_exponent)

    def optimal_parameters(self, flops: float) -> float:
        """Return the N with the lowest loss for a compute of 6 N D FLOPs.

        N = G (C / 6)^(beta / (alpha + beta)), G = (alpha A / (beta B))^(1 / (alpha + beta)).
        Source: Hoffmann et al. 2022 (arXiv:2203.15556), equation 4.
        """
        exponents = self.parameter_exponent + self.token_exponent
        ratio = (self.parameter_exponent * self.parameter_factor) / (
            self.token_exponent * self.token_factor
        )
        product = flops / FLOPS_PER_PARAMETER_AND_TOKEN
        log_parameters = math.log(ratio) / exponents + self.optimal_exponent * math.log(product)
        return math.exp(min(max(log_parameters, -MOST_LOG), MOST_LOG))

    def optimal_tokens(self, flops: float) -> float:
        """Return the D with the lowest loss for a compute of 6 N D FLOPs."""
        return flops / FLOPS_PER_PARAMETER_AND_TOKEN / self.optimal_parameters(flops)

    def optimal_loss(self, flops: float) -> float:
        """Return the lowest loss for a compute of 6 N D FLOPs."""
        return self.loss(self.optimal_parameters(flops), self.optimal_tokens(flops))

    def in_nats(self) -> "LossLaw":
        """Return the same law in nats a token.

        Raises ConfigError for a law in bits per byte: how many bytes a token has is not known.
        """
        if self.unit == "nats":
            return self
        if self.unit == "bits-per-byte":
            raise ConfigError(
                [
                    f"{self.name}: the law is in bits per byte, and nats a token are needed. Fit the "
                    "losses again with --unit nats"
                ],
                "the law",
            )
        return LossLaw(
            name=self.name,
            irreducible=self.irreducible * NATS_PER_BIT,
            parameter_factor=self.parameter_factor * NATS_PER_BIT,
            parameter_exponent=self.parameter_exponent,
            token_factor=self.token_factor * NATS_PER_BIT,
            token_exponent=self.token_exponent,
        )


CHINCHILLA_REFIT = LossLaw(
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
