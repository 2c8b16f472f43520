"""The paper's figures: 7.5e9 parameters on 64 devices (ZeRO, figure 1)."""

import pytest

from pipeline.planning.paper_memory import paper_bytes


@pytest.mark.parametrize(("zero_stage", "gigabytes"), [(0, 120), (1, 31.4), (2, 16.6), (3, 1.9)])
def test_the_figure_of_the_paper(zero_stage: int, gigabytes: float) -> None:
    assert paper_bytes(7.5e9, zero_stage, 64) / 1e9 == pytest.approx(gigabytes, abs=0.05)
