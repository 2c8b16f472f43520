"""Collective decisions of all ranks before they train: all continue, or all raise one message."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from pipeline.config.groups import RankGroups
from pipeline.engine.groups import broadcast_from_rank_0, gather_from_world_ranks
from pipeline.errors import UserError

T = TypeVar("T")
P = ParamSpec("P")


def call_on_rank_0(
    groups: RankGroups, function: Callable[P, T], *arguments: P.args, **named: P.kwargs
) -> T:
    """Call a function on rank 0 alone and return its result on every rank.

    Raises UserError, on every rank, where the function raises one.
    """
    results: list[T] = []
    refusal: str | None = None
    if groups.is_rank_0:
        try:
            results.append(function(*arguments, **named))
        except UserError as error:
            refusal = str(error)
    results, refusal = broadcast_from_rank_0((results, refusal))
    if refusal is not None:
        raise UserError(refusal)
    return results[0]


def problems_on_any_rank(groups: RankGroups, problems: list[str]) -> list[str]:
    """Return the problems that any rank reports, without repetitions, on every rank."""
    reports = gather_from_world_ranks(problems, groups)
    return list(dict.fromkeys(problem for report in reports for problem in report))
