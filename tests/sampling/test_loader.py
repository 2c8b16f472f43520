"""Streams over several files, the order, and each rank's share of it."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import ConfigError, DataError
from pipeline.sampling.loader import Loader, Share, read_batch
from pipeline.sampling.order import make_order, read_sequence, sequence_count
from pipeline.sampling.stream import TokenStream


def stream(folder: Path, lengths: list[int], start: int = 0) -> TokenStream:
    """Write consecutive numbers over files of these lengths."""
    folder.mkdir(exist_ok=True)
    shards = []
    for i, length in enumerate(lengths):
        path = folder / f"{i}.bin"
        np.arange(start, start + length, dtype=np.uint16).tofile(path)
        shards.append((path, length))
        start += length
    return TokenStream(shards, np.dtype(np.uint16))


def test_reading_crosses_files(tmp_path: Path) -> None:
    tokens = stream(tmp_path, [3, 0, 1, 4])
    assert len(tokens) == 8
    for start in range(8):
        for count in range(9 - start):
            assert tokens.read(start, count).tolist() == list(range(start, start + count))


def test_a_file_of_another_length_than_recorded_is_refused(tmp_path: Path) -> None:
    tokens = stream(tmp_path, [4])
    np.arange(3, dtype=np.uint16).tofile(tmp_path / "0.bin")
    with pytest.raises(DataError, match=r"0\.bin: holds 3 tokens instead of 4"):
        tokens.read(0, 1)


def test_a_sequence_needs_its_last_target() -> None:
    assert [sequence_count(tokens, 4) for tokens in (0, 1, 4, 5, 8, 9)] == [0, 0, 0, 1, 1, 2]


def test_sequences_hold_inputs_and_the_next_target(tmp_path: Path) -> None:
    streams = {"a": stream(tmp_path, [9])}
    assert read_sequence(streams, "a", 1, 4).tolist() == [4, 5, 6, 7, 8]


def test_an_epoch_reads_every_sequence_once_and_the_next_in_another_order(tmp_path: Path) -> None:
    streams = {"a": stream(tmp_path, [101])}
    order = make_order(streams, None, 4, seed=1)
    epochs = [[order.locate(i).sequence for i in range(e * 25, e * 25 + 25)] for e in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(25))
    assert epochs[0] != epochs[1] != epochs[2]
    assert order.locate(30).epoch == 1
    other = make_order(streams, None, 4, seed=2)
    assert [other.locate(i).sequence for i in range(25)] != epochs[0]
    assert order.epochs(50) == {"a": 2.0}


def test_without_weights_sources_count_by_their_tokens(tmp_path: Path) -> None:
    streams = {"a": stream(tmp_path / "a", [401]), "b": stream(tmp_path / "b", [101])}
    order = make_order(streams, None, 4, seed=1)
    sources = [order.locate(i).source for i in range(125)]
    assert abs(sources.count("b") - 25) <= 1


def test_a_source_without_one_sequence_is_named(tmp_path: Path) -> None:
    streams = {"a": stream(tmp_path / "a", [100]), "b": stream(tmp_path / "b", [4])}
    with pytest.raises(ConfigError, match=r"data\.mixture\.b: its training text has 4 tokens, fewer than one sequence"):
        make_order(streams, {"a": 1, "b": 1}, 4, seed=1)


@pytest.mark.parametrize(("ranks", "micro"), [(1, 8), (1, 2), (2, 4), (2, 1), (4, 2), (8, 1)])
def test_any_number_of_ranks_reads_the_same_samples_in_the_same_global_order(ranks: int, micro: int) -> None:
    shares = [Share(rank, ranks, micro, 8) for rank in range(ranks)]
    for step in (1, 5):
        rows = [
            list(share.samples(step, a)) for a in range(shares[0].accumulation) for share in shares
        ]  # micro-batch by micro-batch, rank by rank
        assert [i for row in rows for i in row] == list(range((step - 1) * 8, step * 8))


def test_the_loader_gives_what_the_order_says_from_any_step(tmp_path: Path) -> None:
    streams = {"a": stream(tmp_path, [101])}
    order, share = make_order(streams, None, 4, seed=1), Share(1, 2, 2, 8)
    with Loader(order, streams, share, range(3, 6), lambda ids: ids) as loader:
        steps = list(loader)
    assert [len(step) for step in steps] == [2, 2, 2]
    for step, batches in zip(range(3, 6), steps, strict=True):
        for micro, batch in enumerate(batches):
            np.testing.assert_array_equal(batch, read_batch(order, streams, share.samples(step, micro)))
    assert steps[0][0].shape == (2, 5)


def test_an_error_while_reading_ahead_reaches_the_iteration(tmp_path: Path) -> None:
    streams = {"a": stream(tmp_path, [101])}
    order = make_order(streams, None, 4, seed=1)
    (tmp_path / "0.bin").unlink()
    with (
        Loader(order, streams, Share(0, 1, 2, 2), range(1, 3), lambda ids: ids) as loader,
        pytest.raises(DataError, match="cannot be read"),
    ):
        next(iter(loader))


def test_leaving_early_ends_the_thread(tmp_path: Path) -> None:
    streams = {"a": stream(tmp_path, [101])}
    order = make_order(streams, None, 4, seed=1)
    with Loader(order, streams, Share(0, 1, 2, 2), range(1, 1000), lambda ids: ids) as loader:
        next(iter(loader))
    assert not loader._thread.is_alive()
