"""The trainings that `pipeline benchmark recipe` compares: what they are, and how they run.

The baseline is AdamW with a cosine schedule at nanoGPT's settings. The recipe is the run file
itself, trained on fractions of its tokens, with warm-up and decay shortened in proportion. Each
training is a `pipeline train` in a folder that is kept; reads its metrics.jsonl.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from pipeline.cluster.launch import launch_kind
from pipeline.cluster.stop_request import stop_signals
from pipeline.cluster.study.local_runs import LocalRuns, command_starter
from pipeline.cluster.study.queue import QueuedRun, StudyProgress, progress_of
from pipeline.config.batch_division import largest_divisor
from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import dump
from pipeline.config.sections import Batch
from pipeline.config.yaml_files import to_yaml
from pipeline.errors import DataError, Interrupted, UserError
from pipeline.logs import note, progress
from pipeline.store.files import fingerprint, write_atomic
from pipeline.store.metrics import read_metrics
from pipeline.store.records import Json
from pipeline.store.studies.study_folder import StudyFolder

BASELINE_OPTIMIZER: dict[str, Json] = {
    "kind": "adamw",
    "beta1": 0.9,
    "beta2": 0.99,
    "weight_decay": 0.1,
    "max_gradient_norm": 1.0,
}
"""Source: karpathy/nanoGPT, config/train_shakespeare_char.py (beta2; weight decay and clipping:
train.py)."""
BASELINE_WARMUP = 0.05
"""Warm-up as a fraction of the tokens: 100 of 2,000 steps (nanoGPT's README, small model on a CPU)."""
BASELINE_FINAL_RATE = 0.1
"""Final learning rate as a fraction of the peak (nanoGPT: "min_lr = learning_rate / 10 usually")."""
VALIDATIONS = 16
"""Points of each curve."""


@dataclass(frozen=True)
class Training:
    """One run of the comparison."""

    name: str
    """Name of its folder, unique in a comparison."""
    config: RunConfig


@dataclass(frozen=True)
class LossCurve:
    """The validation losses of one training."""

    tokens: Sequence[int]
    """Tokens trained on at each validation."""
    losses: Sequence[float]
    """Validation loss in nats per token, at each validation."""

    @property
    def final(self) -> float:
        """Loss at the last validation."""
        return self.losses[-1]


def baseline_training(
    config: RunConfig, rate: float, seed: int, sequences: int | None = None
) -> Training:
    """Return a training by AdamW with a cosine schedule at nanoGPT's settings.

    Model and data are the run file's. `rate`: peak learning rate; `sequences`: batch size, None
    for the run file's.
    """
    # Replace the batch, with the largest micro-batch that divides it.
    if sequences is not None:
        micro = largest_divisor(sequences, config.batch.micro_batch_sequences)
        batch = {
            "global_batch_tokens": sequences * config.data.sequence_length,
            "micro_batch_sequences": micro,
        }
        config = config.model_copy(update={"batch": Batch.model_validate(batch)})

    # Replace optimizer and schedule.
    optimizer = BASELINE_OPTIMIZER | {"peak_learning_rate": rate}
    schedule: dict[str, Json] = {
        "kind": "cosine",
        "warmup_tokens": round(BASELINE_WARMUP * config.train.train_tokens),
        "final_learning_rate_fraction": BASELINE_FINAL_RATE,
    }
    return _training(
        f"adamw-{rate:g}", config, config.train.train_tokens, seed, optimizer, schedule
    )


def recipe_training(config: RunConfig, fraction: float, seed: int) -> Training:
    """Describe a training by the run file's own recipe on a fraction of its tokens.

    Warm-up and decay are shortened in proportion.
    """
    schedule = config.schedule.model_dump(mode="json")
    for name in ("warmup_tokens", "decay_tokens"):
        if schedule[name] is not None:
            schedule[name] = round(fraction * schedule[name])
    tokens = round(fraction * config.train.train_tokens)
    optimizer = config.optimizer.model_dump(mode="json")
    return _training(f"recipe-{fraction:g}", config, tokens, seed, optimizer, schedule)


def _training(
    name: str,
    config: RunConfig,
    tokens: int,
    seed: int,
    optimizer: Mapping[str, Json],
    schedule: Mapping[str, Json],
) -> Training:
    """Return a training whose folder is named after its settings.

    So a training with other settings gets another folder.
    """
    # The whole run: 16 validations, a checkpoint halfway and at the end.
    document = config.model_dump(mode="json")
    document |= {"preset": None, "optimizer": dict(optimizer), "schedule": dict(schedule)}
    document["train"] |= {"train_tokens": tokens, "seed": seed}
    steps = RunConfig.model_validate(document).total_steps
    document["train"]["validate_every_steps"] = max(1, round(steps / VALIDATIONS))
    document["checkpoint"] = {"save_every_steps": max(1, round(steps / 2)), "keep_last": 1}

    # The name, from all settings that decide the loss.
    decisive = {section: document[section] for section in ("model", "data", "batch", "precision")}
    digest = fingerprint(
        [decisive, optimizer, schedule, document["train"], str(config.paths.data_dir)]
    )[:8]
    return Training(f"{name}-seed{seed}-{digest}", RunConfig.model_validate(document))


def run_trainings(trainings: Sequence[Training], jobs: int, folder: Path) -> list[LossCurve]:
    """Run the unfinished trainings, `jobs` at a time; return the curves of all, in order.

    Raises UserError where one fails, DataError where there is no held-out text, Interrupted after a
    request to stop.
    """
    homes = StudyFolder(folder.absolute())
    queued = [_queued(training, homes) for training in trainings]
    # A single training has its ranks as the run file says; of several each has one.
    ranks = 1
    if jobs == 1:
        ranks = max(
            launch_kind(training.config).rank_count(training.config) for training in trainings
        )
    begun = progress_of(queued)
    with (
        stop_signals() as stop,
        command_starter("local") as start,
        progress("benchmark", begun.work, "tokens") as update,
    ):
        local = LocalRuns(queued, jobs, ranks, start)

        def show(now: StudyProgress) -> None:
            update(now.work - now.work_left, f"{now.done} of {len(queued)} trainings done")

        local.train_all(stop, show)
    if stop.count:
        raise Interrupted("benchmark: stopped; the same command goes on")
    if local.failed:
        raise UserError(f"benchmark: failed: {', '.join(local.failed)}; see what is printed above")
    return [_curve_of(training, homes) for training in trainings]


def _queued(training: Training, homes: StudyFolder) -> QueuedRun:
    """Write the run file of a training; return it as a run to be trained."""
    home = homes.home(training.name)
    document = yaml.safe_load(dump(training.config))
    document["paths"]["run_dir"] = str(homes.run_dir(training.name))
    home.mkdir(parents=True, exist_ok=True)
    write_atomic(homes.run_file(training.name), to_yaml(document, is_ascii=False))
    return QueuedRun(
        name=training.name,
        home=home,
        run_file=homes.run_file(training.name),
        run_dir=homes.run_dir(training.name),
        output=homes.output(training.name),
        steps=training.config.total_steps,
        first_step=1,
        work=float(training.config.step_plan.total_tokens),
        sequences=training.config.global_batch_sequences,
        micro_batch=training.config.batch.micro_batch_sequences,
    )


def _curve_of(training: Training, homes: StudyFolder) -> LossCurve:
    curve = _read_curve(homes.run_dir(training.name))
    if curve is None:
        raise DataError(
            f"{training.config.paths.data_dir}: holds no validation text, which the comparison needs"
        )
    note(
        f"benchmark: {training.name}: {curve.final:.4f} nats per token after "
        f"{curve.tokens[-1]:,} tokens"
    )
    return curve


def _read_curve(run_dir: Path) -> LossCurve | None:
    """Return the validation losses of a run, None where it has none."""
    tokens: list[int] = []
    losses: list[float] = []
    for record in read_metrics(run_dir):
        loss = record.get("validation_loss")
        if loss is not None:
            tokens.append(record["tokens"])
            losses.append(loss)
    if not losses:
        return None
    return LossCurve(tokens, losses)
