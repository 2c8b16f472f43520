"""`pipeline benchmark recipe`: fraction of tokens in which a recipe reaches the loss of tuned AdamW.

Each training is a `pipeline train` in a folder that is kept: a finished training is not repeated,
an interrupted one continues from its checkpoint. The baseline is AdamW with a cosine schedule at
nanoGPT's settings; its learning rate is tuned with the first seed. It shares model, data, precision
and validation tokens with the run file. The recipe is the run file itself, trained on fractions of
its tokens, with warm-up and decay shortened in proportion. Writes JSON and an SVG figure.
"""

import statistics
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipeline.benchmarks.common import met_or_missed, run_python, show_table, write_results
from pipeline.benchmarks.recipe_figure import Curve, draw_curves
from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import dump
from pipeline.config.sections import Batch
from pipeline.config.yaml_files import to_yaml
from pipeline.errors import ConfigError, DataError
from pipeline.logs import console, note
from pipeline.store.files import fingerprint, write_atomic
from pipeline.store.metrics import read_metrics
from pipeline.work.cores import core_count

BASELINE_OPTIMIZER = {
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
MOST_TOKENS = 0.6
"""Fraction of the baseline's tokens within which the recipe has to reach the baseline's loss."""
VALIDATIONS = 16
"""Points of each curve."""


@dataclass(frozen=True)
class ComparisonSizes:
    """Which trainings a comparison consists of."""

    learning_rates: Sequence[float]
    """Peak learning rates that the baseline is tuned over."""
    fractions: Sequence[float]
    """Fractions of the baseline's tokens that the recipe is trained on."""
    seeds: int
    """Number of seeds."""
    jobs: int
    """Trainings that run at the same time; above 1 each has one rank."""
    baseline_sequences: int | None = None
    """Sequences in the baseline's batch; None: the run file's batch."""


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


def benchmark_recipe(
    config: RunConfig, sizes: ComparisonSizes, folder: Path, output: Path, figure: Path
) -> None:
    """Train, print tables, write JSON and the figure.

    Raises ConfigError for a fraction or rate that cannot be, DataError where there is no held-out
    text.
    """
    _check(sizes)
    first = config.train.seed
    seeds = range(first, first + sizes.seeds)
    rates = sorted(sizes.learning_rates)
    batch = sizes.baseline_sequences
    tuned = _train([baseline(config, rate, first, batch) for rate in rates], sizes.jobs, folder)
    finals = {rate: learned.final for rate, learned in zip(rates, tuned, strict=True)}
    best = min(finals, key=lambda rate: finals[rate])
    fractions = sorted(sizes.fractions)
    plan = [recipe(config, fraction, seed) for fraction in fractions for seed in seeds]
    others = [baseline(config, best, seed, batch) for seed in seeds[1:]]
    learned = _train([*others, *plan], sizes.jobs, folder)
    base = [tuned[rates.index(best)], *learned[: len(others)]]
    rest = learned[len(others) :]
    recipes = {
        fraction: rest[i * sizes.seeds : (i + 1) * sizes.seeds]
        for i, fraction in enumerate(fractions)
    }
    results = summarise(
        finals, [run.final for run in base], {f: [r.final for r in rs] for f, rs in recipes.items()}
    )
    results |= {
        "train_tokens": config.train.train_tokens,
        "seeds": list(seeds),
        "recipe_settings": {
            name: getattr(config, name).model_dump(mode="json")
            for name in ("optimizer", "schedule", "batch")
        },
        "curves": {
            "baseline": [_curve(run) for run in base],
            "recipe": {
                str(fraction): [_curve(run) for run in runs] for fraction, runs in recipes.items()
            },
        },
    }
    _show(results)
    write_results(output, results)
    curves = [Curve(f"AdamW + cosine, peak {best:g}", run.tokens, run.losses) for run in base]
    for fraction, runs in recipes.items():
        curves += [
            Curve(f"recipe, {fraction:.0%} of the tokens", run.tokens, run.losses) for run in runs
        ]
    write_atomic(figure, draw_curves(curves, results["baseline_mean"]))
    note(f"benchmark: wrote {figure}")


def baseline(config: RunConfig, rate: float, seed: int, sequences: int | None = None) -> Training:
    """Return a training by AdamW with a cosine schedule at nanoGPT's settings.

    Model and data are the run file's. `rate`: peak learning rate; `sequences`: batch size, None
    for the run file's.
    """
    # Replace the batch, with the largest micro-batch that divides it.
    if sequences is not None:
        micro = max(
            n for n in range(1, config.batch.micro_batch_sequences + 1) if sequences % n == 0
        )
        batch = {
            "global_batch_tokens": sequences * config.data.sequence_length,
            "micro_batch_sequences": micro,
        }
        config = config.model_copy(update={"batch": Batch.model_validate(batch)})

    # Replace optimizer and schedule.
    optimizer = BASELINE_OPTIMIZER | {"peak_learning_rate": rate}
    schedule = {
        "kind": "cosine",
        "warmup_tokens": round(BASELINE_WARMUP * config.train.train_tokens),
        "final_learning_rate_fraction": BASELINE_FINAL_RATE,
    }
    return _training(
        f"adamw-{rate:g}", config, config.train.train_tokens, seed, optimizer, schedule
    )


def recipe(config: RunConfig, fraction: float, seed: int) -> Training:
    """Return a training by the run file's own recipe on a fraction of its tokens.

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
    optimizer: Mapping[str, Any],
    schedule: Mapping[str, Any],
) -> Training:
    """Return a training whose folder is named after its settings.

    So a training with other settings gets another folder.
    """
    document = config.model_dump(mode="json")
    document |= {"preset": None, "optimizer": dict(optimizer), "schedule": dict(schedule)}
    document["train"] |= {"train_tokens": tokens, "seed": seed}
    steps = RunConfig.model_validate(document).total_steps
    document["train"]["validate_every_steps"] = max(1, round(steps / VALIDATIONS))
    document["checkpoint"] = {"save_every_steps": max(1, round(steps / 2)), "keep_last": 1}
    decisive = {section: document[section] for section in ("model", "data", "batch", "precision")}
    digest = fingerprint(
        [decisive, optimizer, schedule, document["train"], str(config.paths.data_dir)]
    )[:8]
    return Training(f"{name}-seed{seed}-{digest}", RunConfig.model_validate(document))


def _train(trainings: Sequence[Training], jobs: int, folder: Path) -> list[LossCurve]:
    """Run the unfinished trainings, `jobs` at a time; return the curves of all, in order."""
    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(_train_one, training, jobs, folder) for training in trainings]
        try:
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(cancel_futures=True)  # started trainings run to their end
            raise


def _train_one(training: Training, jobs: int, folder: Path) -> LossCurve:
    home = (folder / training.name).absolute()
    document = yaml.safe_load(dump(training.config))
    document["paths"]["run_dir"] = str(home / "run")
    if jobs > 1:
        document["launch"]["ranks"] = 1
    home.mkdir(parents=True, exist_ok=True)
    run_file = home / "run.yaml"
    write_atomic(run_file, to_yaml(document, is_ascii=False))
    note(f"benchmark: {training.name}")
    threads = {"OMP_NUM_THREADS": str(max(1, core_count() // jobs))} if jobs > 1 else {}
    run_python("pipeline", "train", str(run_file), variables=threads)
    tokens: list[int] = []
    losses: list[float] = []
    for row in read_metrics(home / "run"):
        loss = row.get("validation_loss")
        if loss is not None:
            tokens.append(row["tokens"])
            losses.append(loss)
    if not losses:
        raise DataError(
            f"{training.config.paths.data_dir}: holds no validation text, which the comparison needs"
        )
    learned = LossCurve(tokens, losses)
    note(
        f"benchmark: {training.name}: {learned.final:.4f} nats per token after "
        f"{learned.tokens[-1]:,} tokens"
    )
    return learned


def summarise(
    tuning: Mapping[float, float], base: Sequence[float], recipes: Mapping[float, Sequence[float]]
) -> dict[str, Any]:
    """Summarise the final validation losses, all in nats per token.

    `tuning`: baseline's peak learning rate -> loss with the first seed; `base`: loss of each seed
    at the baseline's best rate; `recipes`: fraction of the baseline's tokens -> loss of each seed.
    """
    best = min(tuning, key=lambda rate: tuning[rate])
    mean = statistics.mean(base)
    means = {fraction: statistics.mean(losses) for fraction, losses in recipes.items()}
    needed = tokens_needed(means, mean)
    within = [fraction for fraction in means if fraction <= MOST_TOKENS]
    return {
        "tuning": {f"{rate:g}": loss for rate, loss in sorted(tuning.items())},
        "best_rate": best,
        "best_rate_is_inside": min(tuning) < best < max(tuning),
        "baseline": list(base),
        "baseline_mean": mean,
        "recipe": {str(fraction): list(losses) for fraction, losses in recipes.items()},
        "recipe_means": {str(fraction): loss for fraction, loss in means.items()},
        "tokens_needed": needed,
        "every_seed_reaches": [f for f in sorted(recipes) if max(recipes[f]) <= mean],
        "met": bool(within) and means[max(within)] <= mean,
    }


def tokens_needed(means: Mapping[float, float], goal: float) -> float | None:
    """Return the fraction of tokens at which the mean final loss is `goal`; None where no training
    reaches it.

    Each fraction is a training of its own, to the end of its schedule. Between two neighbouring
    fractions the loss is interpolated linearly. Where the smallest fraction already reaches the
    goal, that fraction is returned.
    """
    points = sorted(means.items())
    for number, (fraction, loss) in enumerate(points):
        if loss <= goal:
            if number == 0:
                return fraction
            before, above = points[number - 1]
            return before + (fraction - before) * (above - goal) / (above - loss)
    return None


def _check(sizes: ComparisonSizes) -> None:
    problems = [
        f"--fraction = {fraction:g}: must be above 0 and at most 1, as a share of the baseline's "
        "tokens"
        for fraction in sizes.fractions
        if not 0 < fraction <= 1
    ]
    problems += [
        f"--rate = {rate:g}: a learning rate must be above 0"
        for rate in sizes.learning_rates
        if rate <= 0
    ]
    if problems:
        raise ConfigError(problems)


def _curve(run: LossCurve) -> dict[str, Any]:
    return {"tokens": list(run.tokens), "losses": list(run.losses)}


def _show(results: Mapping[str, Any]) -> None:
    tokens = results["train_tokens"]
    show_table(
        "AdamW + cosine, first seed",
        ("peak learning rate", "validation loss", ""),
        [
            (rate, f"{loss:.4f}", "best" if float(rate) == results["best_rate"] else "")
            for rate, loss in results["tuning"].items()
        ],
    )
    if not results["best_rate_is_inside"]:
        console.print(
            "The best rate is the smallest or largest one tried: try more beyond it (--rate)\n"
        )
    rows = [("AdamW + cosine", f"{tokens:,}", "", *_losses(results["baseline"]))]
    rows += [
        (
            f"recipe, {float(fraction):.0%}",
            f"{round(float(fraction) * tokens):,}",
            fraction,
            *_losses(losses),
        )
        for fraction, losses in results["recipe"].items()
    ]
    seeds = [f"seed {seed}" for seed in results["seeds"]]
    show_table("Validation loss at the end", ("", "tokens", "fraction", "mean", *seeds), rows)
    needed = results["tokens_needed"]
    where = "none of the fractions measured"
    if needed is not None:
        where = f"{needed:.0%} of its tokens"
    console.print(
        f"The recipe reaches the baseline's mean in {where}; demanded within {MOST_TOKENS:.0%}: "
        f"{met_or_missed(results['met'])}"
    )


def _losses(losses: Sequence[float]) -> list[str]:
    return [f"{loss:.4f}" for loss in (statistics.mean(losses), *losses)]
