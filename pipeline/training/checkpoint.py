"""Checkpoints: complete or absent, verified before they are used.

A checkpoint is written into `checkpoints/.partial/step_N`, checksummed, given its manifest, and only then renamed to
`checkpoints/step_N`: whatever has that name is complete. It holds DeepSpeed's shards, every rank's random state, and
`probe.npz`, the engine's logits for a few tokens, with which the export is compared.
DeepSpeed's own `latest` file is not used: it is written before all ranks have finished.
"""

import random
import shutil
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from deepspeed.ops.adam import DeepSpeedCPUAdam

from pipeline.artifacts import MANIFEST, file_record, read_json, write_json
from pipeline.errors import DataError
from pipeline.sampling.order import Ranges
from pipeline.training import reshard
from pipeline.training.checkpoint_names import complete_checkpoints, name_of
from pipeline.training.engine import Engine
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

    def after_step(self, tokens: int, noise_scale: NoiseScale) -> "TrainState":
        """Return the state after one more step of so many tokens."""
        return replace(self, step=self.step + 1, tokens=self.tokens + tokens, noise_scale=noise_scale)

    @staticmethod
    def read(record: dict[str, Any]) -> "TrainState":
        """Return the state that a checkpoint's manifest holds."""
        skipped = tuple((first, end) for first, end in record["skipped"])
        return TrainState(**{**record, "skipped": skipped, "noise_scale": NoiseScale(**record["noise_scale"])})


def save(
    engine: Engine,
    state: TrainState,
    folder: Path,
    keep_last: int,
    probe: dict[str, np.ndarray],
    about: dict[str, Any],
) -> Path:
    """Write a checkpoint; every rank calls it. Older ones beyond `keep_last` are deleted afterwards.

    `about` goes into its manifest: the model, its tokenizer, and the checkpoints before the run's first step.
    """
    rank = dist.get_rank()
    target, partial = folder / name_of(state.step), folder / ".partial"
    if rank == 0:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(target, ignore_errors=True)  # of an abandoned line of the run, after a rollback
        (partial / target.name).mkdir(parents=True)
    dist.barrier()
    engine.save_checkpoint(str(partial), tag=target.name, save_latest=False)
    torch.save(_random_state(), partial / target.name / f"random_state_{rank:05d}.pt")
    if rank == 0:
        np.savez(partial / target.name / PROBE, **probe)  # pyright: ignore[reportArgumentType]
    dist.barrier()
    records = _checksums(partial / target.name)
    if rank == 0:
        manifest = {
            "state": asdict(state),
            "ranks": dist.get_world_size(),
            "zero_stage": engine.zero_optimization_stage(),
            **about,
        }
        write_json(partial / target.name / MANIFEST, {**manifest, "files": records})
        (partial / target.name).rename(target)
        shutil.rmtree(partial)
        for old in surplus(complete_checkpoints(folder), target, keep_last):
            (old / MANIFEST).unlink()  # first, so that a half-deleted folder is no checkpoint
            shutil.rmtree(old)
    dist.barrier()
    return target


def surplus(checkpoints: list[Path], saved: Path, keep_last: int) -> list[Path]:
    """Return which checkpoints to delete now that `saved` is complete: all but the `keep_last` newest up to it.

    Later ones were damaged, so that the run went back behind them; they must not push out good ones.
    """
    older = checkpoints[: checkpoints.index(saved)]
    return [*older[: max(0, len(older) + 1 - keep_last)], *checkpoints[len(older) + 1 :]]


def load(engine: Engine, checkpoint: Path, seed: int) -> TrainState:
    """Load weights, optimizer and random state; every rank calls it. The checkpoint has been verified.

    The ranks may be fewer or more than wrote it; the random state then begins anew, from (seed, step, rank).
    Raises DataError where it was written at another ZeRO stage.
    """
    manifest, stage, rank = read_json(checkpoint / MANIFEST), engine.zero_optimization_stage(), dist.get_rank()
    if manifest["zero_stage"] != stage:
        raise DataError(
            f"{checkpoint}: was written with zero_stage = {manifest['zero_stage']}, this job has {stage}. "
            "Set deepspeed (its zero_optimization.stage) to match."
        )
    state, same_ranks = TrainState.read(manifest["state"]), manifest["ranks"] == dist.get_world_size()
    if reshard.is_divided_alike(engine, checkpoint, manifest["ranks"]):
        path, _ = engine.load_checkpoint(str(checkpoint.parent), tag=checkpoint.name)
        assert path is not None, f"DeepSpeed did not load {checkpoint}"
    else:
        reshard.load(engine, checkpoint, manifest["ranks"])
    _repeat_bias_corrections(engine)
    if same_ranks:
        _restore_random_state(torch.load(checkpoint / f"random_state_{rank:05d}.pt", weights_only=False))
    else:
        _begin_random_state(seed, state.step, rank)
    return state


def ranks_of(checkpoint: Path) -> int:
    """Return how many ranks wrote a checkpoint."""
    return read_json(checkpoint / MANIFEST)["ranks"]


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


def damage(checkpoint: Path) -> list[str]:
    """Return what differs from the checkpoint's manifest; every rank calls it and gets the same answer."""
    expected = read_json(checkpoint / MANIFEST)["files"]
    missing = [f"{name} is missing" for name in expected if not (checkpoint / name).is_file()]
    if missing:
        return missing
    found = _checksums(checkpoint)
    return [f"{name} has other bytes than were written" for name, record in expected.items() if found[name] != record]


def _checksums(folder: Path) -> dict[str, Any]:
    """Checksum all files, each rank its part of them."""
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and path.name != MANIFEST)
    mine = {name: file_record(folder / name) for name in names[dist.get_rank() :: dist.get_world_size()]}
    parts: list[dict[str, Any] | None] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, mine)
    merged = {name: record for part in parts if part for name, record in part.items()}
    return dict(sorted(merged.items()))


def _random_state() -> dict[str, Any]:
    cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
    return {"torch": torch.get_rng_state(), "cuda": cuda, "numpy": np.random.get_state(), "python": random.getstate()}


def _restore_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
    np.random.set_state(state["numpy"])
    random.setstate(state["python"])


def _begin_random_state(*key: int) -> None:
    words = [int(word) for word in np.random.SeedSequence(key).generate_state(3)]  # 32 bits each
    torch.manual_seed(words[0])  # on GPUs too
    np.random.seed(words[1])
    random.seed(words[2])
