"""Figures of a validation, from the sums over all ranks."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from pipeline.sampling.batches import IGNORED, Batch
from pipeline.training.validation import HeldOut, targets_by_source, validation_figures

NOTHING = np.zeros((0, 4), np.int32)
HELD_OUT = HeldOut(
    sources=("web", "books"),
    source=np.zeros(0, np.int64),
    batch=Batch(NOTHING, NOTHING, None, np.zeros(0, np.uint64), np.zeros(0, np.int64)),
    text_bytes=(100, 50),
)


def test_losses_are_means_over_targets_and_over_bytes() -> None:
    figures = validation_figures(
        HELD_OUT, nats=[60 * math.log(2), 90 * math.log(2)], targets=[20, 30]
    )
    assert figures["validation_loss_by_source"] == pytest.approx(
        {"web": 3 * math.log(2), "books": 3 * math.log(2)}
    )
    assert figures["validation_loss"] == pytest.approx(3 * math.log(2))
    assert figures["validation_bits_per_byte_by_source"] == pytest.approx(
        {"web": 0.6, "books": 1.8}
    )
    assert figures["validation_bits_per_byte"] == pytest.approx(1.0)


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_left_out(broken: float) -> None:
    figures = validation_figures(HELD_OUT, nats=[broken, 90.0], targets=[20, 30])
    assert figures["validation_loss"] is None
    assert figures["validation_loss_by_source"] == {"books": 3.0}
    assert figures["validation_bits_per_byte"] is None
    assert figures["validation_bits_per_byte_by_source"].keys() == {"books"}
    json.dumps(figures, allow_nan=False)


def test_targets_of_a_source_are_those_that_are_predicted() -> None:
    """Two rows of `web` with 4 and 3 targets, one of `books` with 1."""
    targets = np.array([[1, 2, 3, 4], [1, 1, 1, IGNORED], [5, IGNORED, IGNORED, IGNORED]], np.int32)
    batch = replace(HELD_OUT.batch, inputs=targets, targets=targets)
    held_out = replace(HELD_OUT, source=np.array([0, 0, 1]), batch=batch)
    assert targets_by_source(held_out) == {"web": 7, "books": 1}
