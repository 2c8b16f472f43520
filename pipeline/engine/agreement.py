"""What ranks tell each other before they train, so that all of them go on or all refuse, with one
message."""

from collections.abc import Callable
from typing import Any

from pipeline.config.groups import RankGroups
from pipeline.engine.groups import broadcast_from_rank_0, gather_from_world_ranks
from pipeline.errors import UserError


def from_rank_0(groups: RankGroups, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function on rank 0 only and give every rank its result, or raise its UserError
    everywhere."""
    answer: tuple[Any, str | None] = (None, None)
    if groups.is_rank_0:
        try:
            answer = (function(*arguments), None)
        except UserError as error:
            answer = (None, str(error))
    result, refusal = broadcast_from_rank_0(answer)
    if refusal is not None:
        raise UserError(refusal)
    return result


def on_any_rank(groups: RankGroups, problems: list[str]) -> list[str]:
    """Return the problems of all ranks, each once, on every rank."""
    everywhere = gather_from_world_ranks(problems, groups)
    return list(dict.fromkeys(problem for of_rank in everywhere for problem in of_rank))
