"""Checkpoints as they are read: verified, then loaded, whatever ZeRO stage and number of ranks wrote them.

One holds DeepSpeed's shards, every rank's random state, and `probe.npz`, the engine's logits for a few tokens, with which
the export is compared. `saver.py` writes them.
"""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from deepspeed.ops.adam import DeepSpeedCPUAdam
from deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine import TorchCheckpointEngine

from pipeline.artifacts import file_record
from pipeline.sampling.order import Ranges
from pipeline.training import reshard
from pipeline.training.agreement import on_any_rank
from pipeline.training.checkpoint_files import load_file
from pipeline.training.checkpoint_folders import read_checkpoint_manifest
from pipeline.training.engine import Engine
from pipeline.training.guard import GuardState
from pipeline.training.noise_scale import NoiseScale

PROBE = "probe.npz"


@dataclass(frozen=True)
class TrainState:
    """How far the run is; together with the config it decides everything that follows."""

    step: int = 0
    """Completed optimizer steps."""
    tokens: int = 0
    """Tokens trained on."""
    skipped: Ranges = ()
    """Samples that the run does not consume."""
    noise_scale: NoiseScale = field(default_factory=NoiseScale)
    """Running averages; they decide nothing."""
    guard: GuardState = field(default_factory=GuardState)

    def after_step(self, tokens: int, noise_scale: NoiseScale, guard: GuardState) -> "TrainState":
        """Return the state after one more step of so many tokens."""
        return replace(self, step=self.step + 1, tokens=self.tokens + tokens, noise_scale=noise_scale, guard=guard)

    @staticmethod
    def read(record: dict[str, Any]) -> "TrainState":
        """Return the state that a checkpoint's manifest holds."""
        skipped = tuple((first, end) for first, end in record["skipped"])
        guard = GuardState(tuple(record["guard"]["losses"]), record["guard"]["not_made"])
        noise_scale = NoiseScale(**record["noise_scale"])
        return TrainState(**{**record, "skipped": skipped, "noise_scale": noise_scale, "guard": guard})


def load(engine: Engine, checkpoint: Path, seed: int) -> TrainState:
    """Load weights, optimizer and random state; every rank calls it. The checkpoint has been verified.

    Ranks and ZeRO stage may be others than wrote it; with other ranks the random state begins anew, from (seed, step, rank).
    Raises DataError where optimizer states on NVMe would have to be divided anew.
    """
    manifest, rank = read_checkpoint_manifest(checkpoint), dist.get_rank()
    state, same_ranks = TrainState.read(manifest["state"]), manifest["ranks"] == dist.get_world_size()
    if reshard.is_divided_alike(engine, checkpoint, manifest["zero_stage"], manifest["ranks"]):
        with _loading_safely(engine):
            path, _ = engine.load_checkpoint(str(checkpoint.parent), tag=checkpoint.name)
        assert path is not None, f"DeepSpeed did not load {checkpoint}"
    else:
        reshard.load(engine, checkpoint, manifest["zero_stage"], manifest["ranks"])
    _repeat_bias_corrections(engine)
    if same_ranks:
        _restore_random_state(load_file(checkpoint / random_state_file(rank)))
    else:
        begin_random_state(seed, state.step, rank)
    return state


class _SafeLoading(TorchCheckpointEngine):
    """In the place of DeepSpeed's reader, which would run whatever code a file holds."""

    def __init__(self) -> None: ...

    def load(self, path: str, map_location: Any = None) -> Any:
        return load_file(Path(path), map_location)


@contextmanager
def _loading_safely(engine: Engine) -> Iterator[None]:
    real, engine.checkpoint_engine = engine.checkpoint_engine, _SafeLoading()
    try:
        yield
    finally:
        engine.checkpoint_engine = real


def written_by(checkpoint: Path) -> tuple[int, int]:
    """Return the ZeRO stage and the number of ranks that wrote a checkpoint."""
    manifest = read_checkpoint_manifest(checkpoint)
    return manifest["zero_stage"], manifest["ranks"]


def parameter_names(engine: Engine) -> list[str]:
    """Return the names of the parameters in the order of the optimizer's states at ZeRO 0; above, shards say it themselves."""
    if engine.zero_optimization_stage() > 0:
        return []
    names = {id(parameter): name for name, parameter in engine.module.named_parameters()}
    return [names[id(parameter)] for group in engine.optimizer.param_groups for parameter in group["params"]]


def random_state_file(rank: int) -> str:
    """Return the name of the file with a rank's random state."""
    return f"random_state_{rank:05d}.pt"


def _repeat_bias_corrections(engine: Engine) -> None:
    """Bring DeepSpeed's CPU optimizer to the bias corrections that it had: products, in float, of one factor a step.

    After a jump in the steps it takes a power, which rounds otherwise; the steps after a resume would have other bits.
    Source: deepspeed 0.19.8, csrc/includes/cpu_adam.h (IncrementStep).
    """
    adam = getattr(engine.optimizer, "optimizer", None)
    if not isinstance(adam, DeepSpeedCPUAdam):
        return
    group, number = adam.param_groups[0], [torch.zeros(1) for _ in range(4)]
    for step in range(1, max((state.get("step", 0) for state in adam.state.values()), default=0) + 1):
        adam.ds_opt_adam.adam_update(adam.opt_id, step, 0.0, *group["betas"], group["eps"], 0.0, True, *number)


def damage(checkpoint: Path, by_checksum: bool = True) -> list[str]:
    """Return what differs from the checkpoint's manifest; every rank calls it and gets the same answer.

    A file that cannot be read is as good as none. Each rank reads its part of the files for their checksums.
    """
    expected: dict[str, Any] = read_checkpoint_manifest(checkpoint)["files"]
    wrong = [flaw for name, record in expected.items() if (flaw := _wrong_size(checkpoint / name, record))]
    found = on_any_rank(wrong)  # network file systems may show ranks different things for a while
    if found or not by_checksum:
        return found
    mine = sorted(expected)[dist.get_rank() :: dist.get_world_size()]
    return on_any_rank([flaw for name in mine if (flaw := _wrong_content(checkpoint / name, expected[name]))])


def _wrong_size(file: Path, record: Mapping[str, Any]) -> str | None:
    try:
        size = file.stat().st_size
    except FileNotFoundError:
        return f"{file.name} is missing"
    except OSError as error:
        return f"{file.name} cannot be read ({error.strerror})"
    return None if size == record["bytes"] else f"{file.name} has {size:,} bytes instead of {record['bytes']:,}"


def _wrong_content(file: Path, record: Mapping[str, Any]) -> str | None:
    try:
        is_as_written = file_record(file) == record
    except OSError as error:
        return f"{file.name} cannot be read ({error.strerror})"
    return None if is_as_written else f"{file.name} has other bytes than were written"


def random_state() -> dict[str, Any]:
    """Return the state of all generators of this process, in types that can be loaded without running code."""
    kind, keys, *rest = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        "numpy": (kind, torch.from_numpy(np.asarray(keys, np.int64)), *rest),
        "python": random.getstate(),
    }


def _restore_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    random.setstate(state["python"])


def begin_random_state(*key: int) -> None:
    """Begin all generators of this process from some numbers."""
    words = [int(word) for word in np.random.SeedSequence(key).generate_state(3)]  # 32 bits each
    torch.manual_seed(words[0])  # on GPUs too
    np.random.seed(words[1])
    random.seed(words[2])
