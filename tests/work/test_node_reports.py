"""Which nodes measure a link together, and when."""

import pytest

from pipeline.work.node_reports import ports_needed, rounds_of_pairs


@pytest.mark.parametrize(
    ("nodes", "rounds"),
    [
        (1, []),
        (2, [[(0, 1)]]),
        (3, [[(0, 1)], [(1, 2)], [(2, 0)]]),
        (4, [[(0, 1), (2, 3)], [(1, 2), (3, 0)]]),
        (5, [[(0, 1), (2, 3)], [(1, 2), (3, 4)], [(4, 0)]]),
    ],
)
def test_rounds_of_few_nodes(nodes: int, rounds: list[list[tuple[int, int]]]) -> None:
    assert rounds_of_pairs(nodes) == rounds


def test_each_node_has_two_links_and_one_at_a_time() -> None:
    for nodes in range(3, 40):
        rounds = rounds_of_pairs(nodes)
        for pairs in rounds:
            members = [node for pair in pairs for node in pair]
            assert len(members) == len(set(members)), "one link at a time"
        ends = [node for pairs in rounds for pair in pairs for node in pair]
        assert [ends.count(node) for node in range(nodes)] == [2] * nodes
        assert len(rounds) == 2 + nodes % 2
        assert ports_needed(nodes) <= 4
