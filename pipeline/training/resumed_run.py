"""Resume a run from its newest intact checkpoint, on its ranks.

Reads checkpoints; repairs `latest`; writes events on damage, conversion and resume.
"""

import time
from pathlib import Path

from pipeline.checkpoint.folders import broken_checkpoints, read_latest, write_latest
from pipeline.checkpoint.reader import damage_of_checkpoint, load_checkpoint, stage_and_ranks_of
from pipeline.checkpoint.state import TrainState
from pipeline.config.groups import RankGroups
from pipeline.config.run_config import RunConfig
from pipeline.engine.deepspeed_engine import Engine
from pipeline.errors import UserError
from pipeline.store.events import write_event
from pipeline.store.layout import run_folder


def load_newest_intact(
    config: RunConfig, groups: RankGroups, engine: Engine, checkpoints: list[Path]
) -> TrainState:
    """Load the newest intact checkpoint; skip damaged ones and name them in events.jsonl.

    `checkpoints` are complete ones, newest first. Raises UserError where all are damaged.
    """
    run_dir = config.paths.run_dir
    by_checksum = config.checkpoint.verify == "checksums"
    if groups.is_rank_0:
        _repair_pointer(run_dir, checkpoints[0])
    for path in checkpoints:
        damage = damage_of_checkpoint(path, groups, by_checksum, engine)
        if not damage:
            return _load(config, groups, engine, path)
        if groups.is_rank_0:
            message = f"{path.name} is damaged and skipped: {', '.join(damage)}"
            _write_damage(run_dir, path, damage, message)
    raise UserError(
        f"{run_folder(config).checkpoints}: all {len(checkpoints)} checkpoints are damaged "
        "(events.jsonl names the damage). Restore one from a copy, or choose another paths.run_dir."
    )


def _load(config: RunConfig, groups: RankGroups, engine: Engine, path: Path) -> TrainState:
    """Load a checkpoint, and write a `resume` event.

    Also writes a `convert` event where another ZeRO stage or number of ranks wrote the checkpoint.
    """
    # Load it on every rank.
    started = time.perf_counter()
    stage_before, ranks_before = stage_and_ranks_of(path)
    stage = engine.zero_optimization_stage()
    ranks = groups.sizes.world
    state = load_checkpoint(engine, groups, path, config.train.seed)

    # Rank 0 records it.
    if not groups.is_rank_0:
        return state
    if (stage_before, ranks_before) != (stage, ranks):
        write_event(
            config.paths.run_dir,
            "convert",
            checkpoint=path.name,
            from_zero_stage=stage_before,
            to_zero_stage=stage,
            from_ranks=ranks_before,
            to_ranks=ranks,
            seconds=round(time.perf_counter() - started, 3),
        )
    write_event(config.paths.run_dir, "resume", step=state.step, checkpoint=path.name)
    return state


def _repair_pointer(run_dir: Path, newest: Path) -> None:
    """Report broken checkpoint folders, and point `latest` at the newest complete checkpoint."""
    for path, flaw in broken_checkpoints(newest.parent).items():
        _write_damage(run_dir, path, [flaw], f"{path.name} is skipped: {flaw}")
    named = read_latest(newest.parent)
    if named != newest.name:
        message = (
            f"`latest` names {named or 'nothing'}, but the newest complete checkpoint is "
            f"{newest.name}: repaired"
        )
        write_event(run_dir, "pointer mended", named=named, checkpoint=newest.name, message=message)
        write_latest(newest)


def _write_damage(run_dir: Path, path: Path, damage: list[str], message: str) -> None:
    write_event(run_dir, "damaged checkpoint", checkpoint=path.name, damage=damage, message=message)
