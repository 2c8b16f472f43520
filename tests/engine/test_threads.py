"""The number of threads that a rank computes with."""

from collections.abc import Iterator

import pytest
import torch

from pipeline.engine.threads import adopt_thread_count


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("text", "count"), [("3", 3), ("1", 1), ("", 2), ("0", 2), ("2,4", 2)])
def test_the_variable_counts_also_after_the_import_of_torch(
    monkeypatch: pytest.MonkeyPatch, text: str, count: int
) -> None:
    torch.set_num_threads(2)
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    adopt_thread_count()
    assert torch.get_num_threads() == count
