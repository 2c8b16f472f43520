"""Wrong targets: how many, which ones, and that they stay the same."""

import numpy as np

from pipeline.sampling.batches import IGNORED
from pipeline.sampling.label_noise import LabelNoise

STARTS = np.arange(0, 40_000, 8)
TARGETS = (STARTS[:, np.newaxis] + np.arange(1, 9)) % 7
"""40,000 targets of 7 ids, in rows of 8."""


def changed(noise: LabelNoise, source: str = "web") -> np.ndarray:
    return noise.noisy_targets(source, STARTS, TARGETS) != TARGETS


def test_the_share_of_wrong_targets() -> None:
    """20 % of 40,000: 8,000, with a standard deviation of 80."""
    number = int(changed(LabelNoise(0.2, 7, seed=1)).sum())
    assert abs(number - 8000) < 4 * 80


def test_no_noise_changes_nothing() -> None:
    assert not changed(LabelNoise(0.0, 7, seed=1)).any()


def test_a_wrong_target_is_each_other_id_equally_often() -> None:
    """Of some 6,700 wrong targets a right id, 1,100 each of 6 others: standard deviation 30."""
    noise = LabelNoise(1 - 1e-9, 7, seed=1)
    wrong = noise.noisy_targets("web", STARTS, np.zeros_like(TARGETS))
    counts = np.bincount(wrong.ravel(), minlength=7)
    assert counts[0] == 0
    assert counts.sum() == 40_000
    assert np.abs(counts[1:] - 40_000 / 6).max() < 5 * np.sqrt(40_000 * 5 / 36)


def test_a_target_is_wrong_in_any_row_that_holds_it() -> None:
    """A function of seed, source and place, whichever rows are read together."""
    noise = LabelNoise(0.2, 7, seed=1)
    whole = noise.noisy_targets("web", STARTS, TARGETS)
    halves = noise.noisy_targets("web", STARTS[::-1][:3], TARGETS[::-1][:3])
    assert halves.tolist() == whole[::-1][:3].tolist()
    shifted = noise.noisy_targets("web", STARTS[:1] + 4, TARGETS[:1, 4:])
    assert shifted.tolist() == whole[:1, 4:].tolist()


def test_seeds_and_sources_have_other_wrong_targets() -> None:
    first = changed(LabelNoise(0.2, 7, seed=1))
    assert (first & changed(LabelNoise(0.2, 7, seed=2))).mean() < 0.06
    assert (first & changed(LabelNoise(0.2, 7, seed=1), "books")).mean() < 0.06


def test_nothing_to_predict_stays_so() -> None:
    noise = LabelNoise(1 - 1e-9, 7, seed=1)
    targets = np.array([[3, IGNORED, 5]], np.int32)
    noisy = noise.noisy_targets("web", np.array([0]), targets)
    assert noisy[0, 1] == IGNORED
    assert noisy[0, 0] != 3
    assert noisy.dtype == np.int32
