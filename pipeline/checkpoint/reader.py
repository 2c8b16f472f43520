"""Verifies checkpoints and loads them into an engine, whatever ZeRO stage and ranks wrote them.

A checkpoint holds DeepSpeed's shards, every rank's random state, and `probe.npz`: the engine's
logits for a few tokens, with which the export is compared. `saver.py` writes them.
"""

import random
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, TypedDict

import numpy as np
import torch
from deepspeed.ops.adam import DeepSpeedCPUAdam
from deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine import TorchCheckpointEngine
from torch import Tensor

from pipeline.checkpoint.files import Content, decoding_file, load_file
from pipeline.checkpoint.folders import read_checkpoint_manifest
from pipeline.checkpoint.integrity import content_flaw, size_flaw
from pipeline.checkpoint.reshard import load_stored_weights
from pipeline.checkpoint.state import TrainState
from pipeline.checkpoint.stored_weights import StoredWeights, open_stored_weights, parameter_groups
from pipeline.config.groups import RankGroups
from pipeline.engine.agreement import problems_on_any_rank
from pipeline.engine.deepspeed_engine import Engine, group_shapes
from pipeline.errors import DataError
from pipeline.store.layout import manifest_path
from pipeline.store.records import CheckpointManifest

PROBE = "probe.npz"
"""Logits of the engine for a few tokens, with the tokens."""
PythonState: TypeAlias = tuple[int, tuple[int, ...], float | None]
"""Return value of `random.getstate`: version, words of 32 bits, and the next Gaussian number."""


class SavedRandomState(TypedDict):
    """The state of all random generators of one rank, in types that `load_file` reads."""

    torch: Tensor
    cuda: Tensor | None
    """None without a GPU."""
    numpy: tuple[str, Tensor, int, int, float]
    """Return value of `np.random.get_state`, with the words in int64."""
    python: PythonState


def load_checkpoint(engine: Engine, groups: RankGroups, checkpoint: Path, seed: int) -> TrainState:
    """Load weights, optimizer and random state of a verified checkpoint; every rank calls it.

    Another number of ranks or ZeRO stage may have written it; with another number of ranks the
    random state begins anew, from (seed, step, rank). Raises DataError where the checkpoint is of
    another model, or optimizer states on NVMe would have to be resharded.
    """
    manifest = read_checkpoint_manifest(checkpoint)
    state = TrainState.read(manifest["state"])
    if engine.zero_nvme_offload_optimizer() or _lies_on_nvme(checkpoint):
        _load_as_it_lies(engine, groups, checkpoint, manifest)
    else:
        stored = open_stored_weights(checkpoint)
        flaw = model_flaw(engine, stored)
        if flaw:
            raise DataError(f"{checkpoint}: {flaw}")
        load_stored_weights(engine, groups, stored)
    _repeat_bias_corrections(engine)
    if manifest["ranks"] == groups.sizes.world:
        read_random_state(checkpoint / random_state_file(groups.world_rank)).restore()
    else:
        begin_random_state(seed, state.step, groups.world_rank)
    return state


def model_flaw(engine: Engine, stored: StoredWeights) -> str | None:
    """Return how a checkpoint's parameters differ from an engine's; None where they agree."""
    if engine.zero_optimization_stage() == 0:
        own = {name: parameter.shape for name, parameter in engine.module.named_parameters()}
    else:
        own = {name: shape for named in group_shapes(engine) for name, shape in named.items()}
    different = sorted(
        name for name in {*own, *stored.shapes} if own.get(name) != stored.shapes.get(name)
    )
    if different:
        return f"has different parameters from the model: {ascii(different[0])[:100]}"
    return None


def _lies_on_nvme(checkpoint: Path) -> bool:
    return (checkpoint / "offloaded_tensors").exists()


def _load_as_it_lies(
    engine: Engine, groups: RankGroups, checkpoint: Path, manifest: CheckpointManifest
) -> None:
    """Have DeepSpeed load a checkpoint whose optimizer states lie on NVMe, outside the shards.

    Raises DataError where the states would have to be resharded.
    """
    stage = manifest["zero_stage"]
    ranks = manifest["ranks"]
    now = engine.zero_optimization_stage()
    world = groups.sizes.world
    own: list[list[tuple[str, torch.Size]]] = []
    if now > 0:
        own = [list(named.items()) for named in group_shapes(engine)]
    if (stage, ranks) != (now, world) or [
        list(named.items()) for named in parameter_groups(checkpoint)
    ] != own:
        raise DataError(
            f"{checkpoint}: was written with ranks = {ranks} at ZeRO stage {stage}, this job has "
            f"{world} at {now}, and optimizer states on NVMe cannot be resharded. Start {ranks} "
            "ranks, and use the deepspeed template of the earlier start."
        )
    with _loading_safely(engine):
        path, _ = engine.load_checkpoint(str(checkpoint.parent), tag=checkpoint.name)
    assert path is not None, f"DeepSpeed did not load {checkpoint}"


class _SafeLoading(TorchCheckpointEngine):
    """Replaces DeepSpeed's reader, which would run code that a file holds."""

    def __init__(self) -> None: ...

    def load(self, path: str, map_location: str | None = None) -> Content:
        return load_file(Path(path))


@contextmanager
def _loading_safely(engine: Engine) -> Generator[None]:
    real = engine.checkpoint_engine
    engine.checkpoint_engine = _SafeLoading()
    try:
        yield
    finally:
        engine.checkpoint_engine = real


def stage_and_ranks_of(checkpoint: Path) -> tuple[int, int]:
    """Return the ZeRO stage and the number of ranks that wrote a checkpoint."""
    manifest = read_checkpoint_manifest(checkpoint)
    return manifest["zero_stage"], manifest["ranks"]


def parameter_names(engine: Engine) -> list[str]:
    """Return the names of the parameters in the order of the optimizer's states at ZeRO 0.

    Empty at ZeRO 1 to 3, where the shards hold the order.
    """
    if engine.zero_optimization_stage() > 0:
        return []
    names = {id(parameter): name for name, parameter in engine.module.named_parameters()}
    return [
        names[id(parameter)]
        for group in engine.optimizer.param_groups
        for parameter in group["params"]
    ]


def random_state_file(rank: int) -> str:
    """Return the name of the file with a rank's random state."""
    return f"random_state_{rank:05d}.pt"


def _repeat_bias_corrections(engine: Engine) -> None:
    """Restore the bias corrections of DeepSpeed's CPU Adam by repeating its products, one per step.

    DeepSpeed multiplies one float factor a step. After a jump in the steps it computes a power
    instead, which rounds differently, so the steps after a resume would have other bits.

    Source: deepspeed 0.19.8, csrc/includes/cpu_adam.h (IncrementStep).
    """
    adam = getattr(engine.optimizer, "optimizer", None)
    if not isinstance(adam, DeepSpeedCPUAdam):
        return
    group = adam.param_groups[0]
    number = [torch.zeros(1) for _ in range(4)]
    for step in range(
        1, max((state.get("step", 0) for state in adam.state.values()), default=0) + 1
    ):
        adam.ds_opt_adam.adam_update(
            adam.opt_id, step, 0.0, *group["betas"], group["eps"], 0.0, True, *number
        )


def damage_of_checkpoint(
    checkpoint: Path, groups: RankGroups, by_checksum: bool = True, engine: Engine | None = None
) -> list[str]:
    """Return what is damaged in a checkpoint; every rank calls it and gets the same answer.

    Each rank reads its part of the files to compare checksums, and then decodes every file of its
    part. Where an engine is given, the parameters must be those of its model. Raises OSError where
    the disk fails, on that rank alone: the file may be good.
    """
    expected = read_checkpoint_manifest(checkpoint)["files"]
    # Network file systems may show ranks different things for a while: each looks at every size.
    sizes = [size_flaw(checkpoint / name, record) for name, record in expected.items()]
    found = problems_on_any_rank(groups, [flaw for flaw in sizes if flaw])
    if by_checksum and not found:
        own_files = groups.own_part(sorted(expected))
        contents = [content_flaw(checkpoint / name, expected[name]) for name in own_files]
        found = problems_on_any_rank(groups, [flaw for flaw in contents if flaw])
    return found or problems_on_any_rank(groups, _unreadable(checkpoint, groups, engine))


def _unreadable(checkpoint: Path, groups: RankGroups, engine: Engine | None) -> list[str]:
    """Return what in this rank's part of a checkpoint is not what a save writes.

    Checksums do not protect from it: whoever writes such a file also writes its checksum.
    """
    manifest = read_checkpoint_manifest(checkpoint)
    try:
        with decoding_file(manifest_path(checkpoint)):
            TrainState.read(manifest["state"])
        stored = None
        if not _lies_on_nvme(checkpoint):
            stored = open_stored_weights(checkpoint)
        for rank in groups.own_part(range(manifest["ranks"])):
            read_random_state(checkpoint / random_state_file(rank))
            if stored:
                stored.shard(rank)
        if stored and engine:
            flaw = model_flaw(engine, stored)
            if flaw:
                return [flaw]
    except DataError as error:
        return [str(error).removeprefix(f"{checkpoint}/")]
    return []


def random_state() -> SavedRandomState:
    """Return the state of all random generators of this process."""
    of_numpy = np.random.get_state(legacy=True)
    assert not isinstance(of_numpy, dict)
    generator, words, position, has_gauss, gauss = of_numpy
    gpu = None
    if torch.cuda.is_available():
        gpu = torch.cuda.get_rng_state()
    words_in_tensor = torch.from_numpy(np.asarray(words, np.int64))
    return {
        "torch": torch.get_rng_state(),
        "cuda": gpu,
        "numpy": (generator, words_in_tensor, position, has_gauss, gauss),
        "python": random.getstate(),
    }


@dataclass(frozen=True)
class RandomState:
    """A saved state of all random generators, in the types that generators take."""

    cpu: torch.Tensor
    gpu: torch.Tensor | None
    numpy: tuple[str, np.ndarray, int, int, float]
    python: PythonState

    def restore(self) -> None:
        """Set all random generators of this process to this state."""
        torch.set_rng_state(self.cpu)
        if self.gpu is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(self.gpu)
        np.random.set_state(self.numpy)
        random.setstate(self.python)


def read_random_state(path: Path) -> RandomState:
    """Return a rank's random state. Raises DataError where the generators would not take it."""
    content: SavedRandomState = load_file(path)
    with decoding_file(path):
        generator, words, position, has_gauss, gauss = content["numpy"]
        numpy = (generator, words.numpy().astype(np.uint32), position, has_gauss, gauss)
        state = RandomState(content["torch"], content["cuda"], numpy, content["python"])
        # Tried on generators that nothing else uses.
        torch.Generator().set_state(state.cpu)
        np.random.RandomState().set_state(numpy)
        random.Random().setstate(state.python)
        if state.gpu is not None and state.gpu.dtype != torch.uint8:
            raise ValueError(f"has a {state.gpu.dtype} state of a GPU")
    return state


def begin_random_state(*key: int) -> None:
    """Seed all random generators of this process from numbers."""
    words = [int(word) for word in np.random.SeedSequence(key).generate_state(3)]  # 32 bits each
    torch.manual_seed(words[0])  # on GPUs too
    np.random.seed(words[1])
    random.seed(words[2])
