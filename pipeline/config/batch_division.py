"""Whether ranks divide every global batch of a run, and what to change where they do not.

Training, plan, doctor and submit all ask here. Pure functions of the config.
"""

import math

from pipeline.config.groups import GroupSizes, group_sizes
from pipeline.config.run_config import RunConfig
from pipeline.errors import nearest_divisors, nearest_multiples


def batches_that_ranks_do_not_divide(config: RunConfig, sizes: GroupSizes) -> list[str]:
    """Return a message for each global batch that the data ranks do not divide.

    Where `launch.ranks` is a number it is one of the settings to change.
    """
    # Ranks that a launcher counts: only the batch can change, or what is launched.
    if config.launch.ranks == "auto":
        return [
            f"{setting} = {tokens}: must be a multiple of {sizes.data} ranks x "
            f"{_pass_of_a_rank(config)}; set "
            f"{nearest_multiples(tokens, config.tokens_per_pass(sizes))}, or start a different "
            "number of ranks"
            for setting, tokens in config.indivisible_batches(sizes)
        ]
    # Ranks of the run file.
    micro = config.batch.micro_batch_sequences
    sequence = config.data.sequence_length
    per_pass = f"launch.ranks = {sizes.data} x batch.micro_batch_sequences = {micro}"
    problems: list[str] = []
    for setting, tokens in config.indivisible_batches(sizes):
        sequences = tokens // sequence
        if setting == "batch.global_batch_tokens":
            problems.append(
                f"{per_pass}: must divide the {sequences} sequences of a global batch "
                f"({setting} / data.sequence_length); set "
                f"{_batches_that_work(tokens, sequence, sizes.data, micro)}"
            )
        else:
            problems.append(
                f"{setting} = {tokens}: its {sequences} sequences must be a multiple of "
                f"{per_pass}; set {nearest_multiples(tokens, config.tokens_per_pass(sizes))}"
            )
    return problems


def batches_that_nodes_do_not_divide(config: RunConfig, nodes: int, per_node: int) -> list[str]:
    """Return a message for each global batch that all ranks of whole nodes do not divide.

    `per_node`: ranks of a node. The number of nodes is that of the option `--nodes`.
    """
    sizes = group_sizes(nodes * per_node)
    fitting = _largest_fitting_nodes(config, per_node, nodes)
    problems: list[str] = []
    for setting, tokens in config.indivisible_batches(sizes):
        remedy = f"set {nearest_multiples(tokens, config.tokens_per_pass(sizes))}"
        if fitting is not None:
            remedy += f", or give --nodes {fitting}"
        problems.append(
            f"{setting} = {tokens}: must be a multiple of {nodes} nodes x {per_node} ranks x "
            f"{_pass_of_a_rank(config)}; {remedy}"
        )
    return problems


def largest_divisor(number: int, most: int) -> int:
    """Return the largest divisor of a number that is at most `most`."""
    return next(divisor for divisor in range(min(number, most), 0, -1) if number % divisor == 0)


def dividing_ranks(config: RunConfig, available: int) -> int:
    """Return the largest number of ranks that divides every global batch, at most `available`."""
    micro_batches = _common_micro_batches(config)
    return next(
        ranks
        for ranks in range(min(available, micro_batches), 0, -1)
        if micro_batches % group_sizes(ranks).data == 0
    )


def _largest_fitting_nodes(config: RunConfig, per_node: int, nodes: int) -> int | None:
    """Return the largest smaller number of nodes whose ranks divide every global batch."""
    micro_batches = _common_micro_batches(config)
    for fewer in range(min(nodes - 1, micro_batches // per_node), 0, -1):
        if micro_batches % group_sizes(fewer * per_node).data == 0:
            return fewer
    return None


def _common_micro_batches(config: RunConfig) -> int:
    """Return the largest number that divides the micro-batches of every global batch."""
    pass_tokens = config.tokens_per_pass(group_sizes(1))
    return math.gcd(*(tokens // pass_tokens for _, tokens in config.batch_sizes))


def _pass_of_a_rank(config: RunConfig) -> str:
    """Return the tokens of one micro-batch on one rank as the settings that make them."""
    return (
        f"batch.micro_batch_sequences = {config.batch.micro_batch_sequences} x "
        f"data.sequence_length = {config.data.sequence_length}"
    )


def _batches_that_work(tokens: int, sequence: int, data_ranks: int, micro: int) -> str:
    """Name the nearest value of each setting that works while the other settings stay."""
    samples = tokens // sequence
    changes: list[str] = []
    if samples % micro == 0:
        changes.append(f"launch.ranks to {nearest_divisors(data_ranks, samples // micro)}")
    if samples % data_ranks == 0:
        divisors = nearest_divisors(micro, samples // data_ranks)
        changes.append(f"batch.micro_batch_sequences to {divisors}")
    multiples = nearest_multiples(tokens, data_ranks * micro * sequence)
    changes.append(f"batch.global_batch_tokens to {multiples}")
    return ", or ".join(changes)
