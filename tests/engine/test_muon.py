"""Muon against torch's own, against singular values, and its division among ranks against whole
matrices."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from forks import exit_codes, start_call

from pipeline.cluster.ports import free_port
from pipeline.config.groups import group_sizes, groups_of_rank
from pipeline.engine.optimizers.sharded_muon import (
    FlatLayout,
    Muon,
    orthogonalise,
    owners_of,
    update_scale,
)
from pipeline.engine.shards import Slot, even_slots, vector_slots

SHAPES = {
    "a": torch.Size([6, 4]),
    "b": torch.Size([3, 8]),
    "c": torch.Size([6, 4]),
    "d": torch.Size([5, 5]),
}
STEPS = 3


def gradients(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}


def muon_of(matrices: list[torch.nn.Parameter]) -> Muon:
    settings = {"rms": 0.2, "momentum": 0.9, "weight_decay": 0.1, "lr": 0.1}
    return Muon([{"params": matrices, "kind": "muon", **settings}], 0.1)


@pytest.mark.parametrize("shape", [(4, 4), (4, 9), (9, 4), (64, 16)])
def test_singular_values_come_near_one_and_directions_stay(shape: tuple[int, int]) -> None:
    matrices = torch.randn(3, *shape, generator=torch.Generator().manual_seed(1))
    found = orthogonalise(matrices)
    for before, after in zip(matrices, found, strict=True):
        u, values, v = torch.linalg.svd(before, full_matrices=False)
        inner = u.T @ after @ v.T  # diagonal where directions have stayed
        assert (inner - inner.diag().diag()).abs().max() < 1e-4
        is_small = values < 0.02 * values.norm()  # five steps do not bring these up to one
        assert ((inner.diag() > 0.6) & (inner.diag() < 1.25))[~is_small].all()


def test_entries_of_an_update_have_one_root_mean_square() -> None:
    for shape in [(8, 8), (4, 16), (16, 4)]:
        q = torch.linalg.svd(
            torch.randn(shape, generator=torch.Generator().manual_seed(1)), full_matrices=False
        )
        update = q[0] @ q[2] * update_scale(shape, 0.2)
        assert update.square().mean().sqrt().item() == pytest.approx(0.2)


def test_whole_matrices_follow_torchs_muon_in_the_rounding_of_its_bf16() -> None:
    """Torch's computes in bf16, 8 bits, over five multiplications: a few hundredths of an
    update."""
    start = gradients(0)
    mine = [torch.nn.Parameter(value.clone()) for value in start.values()]
    theirs = [torch.nn.Parameter(value.clone()) for value in start.values()]
    own = muon_of(mine)
    other = torch.optim.Muon(
        theirs, lr=0.1, weight_decay=0.1, momentum=0.9, adjust_lr_fn="match_rms_adamw"
    )
    for step in range(STEPS):
        for parameters in (mine, theirs):
            for parameter, gradient in zip(parameters, gradients(step + 1).values(), strict=True):
                parameter.grad = gradient.clone()
        own.step()
        other.step()
    for a, b, before in zip(mine, theirs, start.values(), strict=True):
        assert (a - b).norm() < 0.05 * (a - before).norm()


def test_the_rest_is_torchs_adamw_to_the_bit() -> None:
    settings: dict[str, Any] = {"betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1, "lr": 0.01}
    mine, theirs = (torch.nn.Parameter(gradients(0)["a"]) for _ in range(2))
    own = Muon([{"params": [mine], "kind": "adamw", **settings}], 0.01)
    other = torch.optim.AdamW([theirs], fused=True, **settings)
    for step in range(STEPS):
        mine.grad, theirs.grad = gradients(step + 1)["a"], gradients(step + 1)["a"]
        own.step()
        other.step()
    assert torch.equal(mine, theirs)


def test_the_rank_with_most_of_a_matrix_owns_it_and_equal_ranks_share_the_work() -> None:
    """Matrices of 24, 24, 24 and 25 elements, in parts of 33, and each cut in two."""
    cut = vector_slots([SHAPES], [33], 3)  #: a 0-24, b 24-48, c 48-72, d 72-97
    assert owners_of(FlatLayout(SHAPES, cut)) == {"a": 0, "b": 1, "c": 1, "d": 2}
    even = owners_of(FlatLayout(SHAPES, even_slots([SHAPES], 2)))
    assert sorted(even.values()) == [0, 0, 1, 1]


def whole_steps() -> dict[str, torch.Tensor]:
    """Return the matrices after some steps of one process that holds them whole."""
    parameters = {name: torch.nn.Parameter(value) for name, value in gradients(0).items()}
    group = {
        "params": list(parameters.values()),
        "kind": "muon",
        "rms": 0.2,
        "momentum": 0.9,
        "weight_decay": 0.1,
        "lr": 0.1,
    }
    muon = Muon([group], 0.1)
    for step in range(STEPS):
        for name, gradient in gradients(step + 1).items():
            parameters[name].grad = gradient
        muon.step()
    return {name: parameter.detach() for name, parameter in parameters.items()}


def padded_size(ranks: int) -> int:
    return -(-sum(shape.numel() for shape in SHAPES.values()) // ranks) + 2


def slots_of(ranks: int, even: bool, size: int) -> list[list[Slot]]:
    return even_slots([SHAPES], ranks) if even else vector_slots([SHAPES], [size], ranks)


def flat_steps(rank: int, ranks: int, even: bool, port: int, output: Path) -> None:
    """Step on this rank's flat shard, and write it."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=ranks)
    size = padded_size(ranks)
    slots = slots_of(ranks, even, size)

    def flat(values: dict[str, torch.Tensor]) -> torch.Tensor:
        made = torch.zeros(size)
        for slot in slots[rank]:
            made[slot.offset : slot.offset + slot.length] = values[slot.name].flatten()[
                slot.start :
            ][: slot.length]
        return made

    shard = torch.nn.Parameter(flat(gradients(0)))
    muon = muon_of([shard])
    muon.lay_out([(shard, FlatLayout(SHAPES, slots))], groups_of_rank(group_sizes(ranks), rank))
    for step in range(STEPS):
        shard.grad = flat(gradients(step + 1))
        muon.step()
    np.save(output / f"{rank}.npy", shard.detach().numpy())
    dist.destroy_process_group()


@pytest.mark.ranks
@pytest.mark.parametrize(("ranks", "even"), [(2, False), (3, False), (3, True)])
def test_shards_cut_anywhere_follow_whole_matrices(ranks: int, even: bool, tmp_path: Path) -> None:
    port = free_port()
    log = tmp_path / "log"
    programs = [
        start_call(flat_steps, rank, ranks, even, port, tmp_path, log=log) for rank in range(ranks)
    ]
    assert exit_codes(programs, seconds=1200) == [0] * ranks, log.read_text()
    expected, covered = whole_steps(), 0
    for rank in range(ranks):
        shard = torch.from_numpy(np.load(tmp_path / f"{rank}.npy"))
        for slot in slots_of(ranks, even, padded_size(ranks))[rank]:
            wanted = expected[slot.name].flatten()[slot.start :][: slot.length]
            torch.testing.assert_close(
                shard[slot.offset : slot.offset + slot.length], wanted, rtol=0, atol=2e-5
            )
            covered += slot.length
    assert covered == sum(shape.numel() for shape in SHAPES.values())
