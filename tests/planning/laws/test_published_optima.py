"""The published rules at computes where they are round numbers."""

import pytest

from pipeline.planning.laws.published_optima import PUBLISHED_OPTIMA


def test_twenty_tokens_a_parameter() -> None:
    hoffmann = PUBLISHED_OPTIMA[0]
    # 6 x 100 x 2,000 = 1.2e6
    assert hoffmann.parameters(1.2e6) == pytest.approx(100, rel=1e-12)
    assert hoffmann.tokens(1.2e6) == pytest.approx(2000, rel=1e-12)


def test_kaplan_at_one_petaflop_day_and_at_ten() -> None:
    kaplan = PUBLISHED_OPTIMA[1]
    assert kaplan.parameters(8.64e19) == pytest.approx(1.3e9, rel=1e-12)
    assert kaplan.tokens(8.64e19) == pytest.approx(2e10, rel=1e-12)
    assert kaplan.parameters(8.64e20) == pytest.approx(1.3e9 * 10**0.73, rel=1e-12)
    assert kaplan.tokens(8.64e20) == pytest.approx(2e10 * 10**0.27, rel=1e-12)
