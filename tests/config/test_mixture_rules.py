"""Rules of the mixture: a new one is a class, a line in the table, and a field."""

from collections.abc import Mapping

import pytest

from pipeline.config.kinds import MIXTURE_RULES
from pipeline.config.mixture_rules import MixtureRule
from pipeline.config.sections import Proportions, Weights

SIZES = {"web": 900.0, "books": 100.0}


class RootsOfSizes(MixtureRule):
    """The numbers multiply the square root of a source's size."""

    def weights(self, stated: Mapping[str, float], sizes: Mapping[str, float]) -> dict[str, float]:
        return {name: stated[name] * size**0.5 for name, size in sizes.items()}


class WithRoots(Proportions):
    roots: Weights | None = None
    """Numbers that multiply the square root of a source's size."""


@pytest.mark.parametrize(
    ("proportions", "weights"),
    [
        (Proportions(), {"web": 900, "books": 100}),
        (Proportions(mixture={"web": 1, "books": 3}), {"web": 1, "books": 3}),
        (Proportions(epochs={"web": 0.5, "books": 2}), {"web": 450, "books": 200}),
    ],
    ids=["by size", "mixture", "epochs"],
)
def test_weights_of_the_sources(proportions: Proportions, weights: dict[str, float]) -> None:
    assert proportions.weights(SIZES) == weights


def test_a_new_rule_is_a_class_a_line_and_a_field(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MIXTURE_RULES.paths, "roots", f"{__name__}:{RootsOfSizes.__name__}")
    proportions = WithRoots(roots={"web": 1, "books": 2})
    assert proportions.weights(SIZES) == {"web": 30, "books": 20}
    assert proportions.stated == {"roots": {"web": 1, "books": 2}}


def test_every_rule_has_a_field_and_a_class() -> None:
    assert MIXTURE_RULES.paths.keys() == Proportions.model_fields.keys()
    assert all(isinstance(MIXTURE_RULES[name], MixtureRule) for name in MIXTURE_RULES.paths)
