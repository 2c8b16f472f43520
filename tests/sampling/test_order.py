"""The order of a run: pure, exact over epochs, sources of very unequal size, stages and skipped
ranges; and backwards."""

import numpy as np
import pytest

from pipeline.sampling.order import Order, make_order
from pipeline.sampling.shuffle import BlockShuffle, FullShuffle


def order_of(
    counts: dict[str, int], weights: list[tuple[int, list[float]]], seed: int = 1, block: int = 0
) -> Order:
    shuffles = {
        name: BlockShuffle(n, block) if block else FullShuffle(n) for name, n in counts.items()
    }
    return make_order(seed, shuffles, counts, weights)


UNEQUAL = {"huge": 1000, "small": 7, "one": 1}
ORDERS = {
    "one source": order_of({"a": 25}, [(0, [1.0])]),
    "unequal": order_of(UNEQUAL, [(0, [1000.0, 7.0, 1.0])]),
    "block": order_of(UNEQUAL, [(0, [0.5, 0.3, 0.2])], block=8),
    "one of weight 0": order_of(UNEQUAL, [(0, [1.0, 0.0, 1.0])]),
    "stages": order_of(
        UNEQUAL, [(0, [1.0, 1.0, 0.0]), (700, [0.0, 1.0, 1.0]), (1500, [1.0, 1.0, 1.0])]
    ),
    "skipping": order_of(UNEQUAL, [(0, [1.0, 1.0, 1.0])]).skipping(
        ((0, 3), (50, 60), (60, 61), (900, 1200))
    ),
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS.keys())
def test_any_positions_are_located_as_all_are(order: Order) -> None:
    whole = order.locate(np.arange(3000))
    generator = np.random.default_rng(1)
    chosen = generator.integers(0, 3000, 200)
    part = order.locate(chosen)
    for name in ("sample", "source", "epoch", "row"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[chosen])


@pytest.mark.parametrize("name", [name for name in ORDERS if name != "skipping"])
def test_every_epoch_of_a_source_has_each_row_once(name: str) -> None:
    order = ORDERS[name]
    places = order.locate(np.arange(3000))
    for source, count in enumerate(order.counts.tolist()):
        of_source = places.source == source
        epochs = places.epoch[of_source]
        assert np.all(np.diff(epochs) >= 0)
        for epoch in range(int(epochs.max(initial=-1))):  # all but the last, which is not complete
            assert sorted(places.row[of_source][epochs == epoch].tolist()) == list(range(count))
        last = places.row[of_source][epochs == epochs.max(initial=-1)].tolist()
        assert len(set(last)) == len(last)


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS.keys())
def test_where_a_row_comes_is_where_it_is_found(order: Order) -> None:
    end = 2500
    places = order.locate(np.arange(end))
    for source, name in enumerate(order.names):
        rows = np.arange(min(int(order.counts[source]), 40))
        found = order.find(name, rows, end)
        for row in rows.tolist():
            expected = np.flatnonzero((places.source == source) & (places.row == row))
            positions = [int(at[row]) for at in found.values()]
            assert sorted(p for p in positions if p >= 0) == expected.tolist()


def test_epochs_and_counts_before_a_sample_are_those_counted() -> None:
    for order in (ORDERS["unequal"], ORDERS["stages"]):
        places = order.locate(np.arange(2000))
        for sample in (0, 1, 699, 700, 701, 1999):
            counted = np.bincount(places.source[:sample], minlength=3)
            assert order.samples_before(sample).tolist() == counted.tolist()
        assert order.epochs(2000)["huge"] == np.bincount(places.source)[0] / 1000


@pytest.mark.parametrize("first", [0, 1_234_567], ids=["the whole run", "a stage"])
@pytest.mark.parametrize("epochs", [[1, 1, 1], [1, 2.5, 3], [0.1, 20, 0]], ids=str)
def test_sources_of_any_size_are_read_as_often_as_asked_for(
    epochs: list[float], first: int
) -> None:
    """Neither a row more of the smallest beside millions, nor of any in a stage of its own
    proportions."""
    counts = {"huge": 9_000_000, "small": 100, "one": 10}
    wanted = [round(often * rows) for often, rows in zip(epochs, counts.values(), strict=True)]
    before = [(0, [1, 0, 0])] if first else []
    order = order_of(counts, [*before, (first, wanted)])
    seen = order.samples_before(first + sum(wanted)) - order.samples_before(first)
    assert seen.tolist() == wanted


def test_a_stage_goes_on_in_the_epoch_where_the_one_before_it_ended() -> None:
    order = order_of({"a": 100, "b": 100}, [(0, [1.0, 1.0]), (60, [0.0, 1.0])])
    places = order.locate(np.arange(130))
    assert set(places.source[60:].tolist()) == {1}
    assert sorted(places.row[places.source == 1].tolist()) == list(
        range(100)
    )  # 30 of them before the change


def test_stages_of_another_mixture_leave_what_was_before_them_as_it_was() -> None:
    plain, staged = order_of(UNEQUAL, [(0, [1.0, 1.0, 0.0])]), ORDERS["stages"]
    for name in ("source", "epoch", "row"):
        before = (getattr(order.locate(np.arange(700)), name) for order in (plain, staged))
        np.testing.assert_array_equal(*before)


def test_skipped_samples_are_never_consumed_and_all_others_once_in_order() -> None:
    samples = ORDERS["skipping"].samples(np.arange(2000))
    expected = [s for s in range(3000) if not (s < 3 or 50 <= s < 61 or 900 <= s < 1200)][:2000]
    assert samples.tolist() == expected


def test_another_seed_gives_another_order() -> None:
    first, other = (
        order_of({"a": 100}, [(0, [1.0])], seed=seed).locate(np.arange(100)).row for seed in (1, 2)
    )
    assert sorted(first) == sorted(other)
    assert first.tolist() != other.tolist()
