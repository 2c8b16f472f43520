"""What ranks tell each other before they train, so that all of them go on or all refuse, with one
message."""

from collections.abc import Callable
from typing import Any

import torch.distributed as dist

from pipeline.errors import UserError


def from_rank_0(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function on rank 0 only and give every rank its result, or raise its UserError
    everywhere."""
    box: list[Any] = [None]
    if dist.get_rank() == 0:
        try:
            box = [(function(*arguments), None)]
        except UserError as error:
            box = [(None, str(error))]
    dist.broadcast_object_list(box)
    result, refusal = box[0]
    if refusal is not None:
        raise UserError(refusal)
    return result


def on_any_rank(problems: list[str]) -> list[str]:
    """Return the problems of all ranks, each once, on every rank."""
    everywhere: list[list[str]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(everywhere, problems)
    return list(dict.fromkeys(problem for of_rank in everywhere for problem in of_rank))
