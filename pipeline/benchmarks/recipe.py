"""`pipeline benchmark recipe`: fraction of tokens in which a recipe reaches the loss of tuned AdamW.

The trainings (`recipe_trainings`) are kept in a folder: a finished training is not repeated, an
interrupted one continues from its checkpoint. The baseline's learning rate is tuned with the first
seed. The baseline shares model, data, precision and validation tokens with the run file. Writes
JSON and an SVG figure.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from pipeline.benchmarks.common import met_or_missed, show_table, write_results
from pipeline.benchmarks.recipe_figure import Curve, draw_curves
from pipeline.benchmarks.recipe_trainings import (
    LossCurve,
    baseline_training,
    recipe_training,
    run_trainings,
)
from pipeline.config.run_config import RunConfig
from pipeline.errors import ConfigError
from pipeline.logs import console, note
from pipeline.store.files import write_atomic
from pipeline.store.records import Json

MOST_TOKENS = 0.6
"""Fraction of the baseline's tokens within which the recipe has to reach the baseline's loss."""


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


class Comparison(TypedDict):
    """The final losses of all trainings, in nats per token, and what follows from them."""

    tuning: dict[str, float]
    """Peak learning rate of the baseline -> loss with the first seed."""
    best_rate: float
    """Peak learning rate with the lowest of these losses."""
    best_rate_is_inside: bool
    """Whether lower and higher rates were tried too."""
    baseline: list[float]
    """Loss of each seed at the best rate."""
    baseline_mean: float
    recipe: dict[str, list[float]]
    """Fraction of the baseline's tokens that the recipe trains on -> final loss of each seed."""
    recipe_means: dict[str, float]
    """Fraction of the baseline's tokens -> final loss of the recipe, mean over the seeds."""
    tokens_needed: float | None
    """Fraction at which the recipe's mean loss equals the baseline's; None if it never does."""
    every_seed_reaches: list[float]
    """Fractions at which no seed's loss is above the baseline's mean loss."""
    met: bool
    """Whether the recipe reaches the baseline's mean within MOST_TOKENS."""


class RecordedCurve(TypedDict):
    """A LossCurve, as the JSON file holds it."""

    tokens: list[int]
    losses: list[float]


class RecordedCurves(TypedDict):
    """The curves of all trainings, each list in the order of the seeds."""

    baseline: list[RecordedCurve]
    recipe: dict[str, list[RecordedCurve]]
    """Fraction of the baseline's tokens -> curves."""


class RecipeResults(Comparison):
    """What the JSON file holds."""

    train_tokens: int
    """Tokens of the baseline's trainings."""
    seeds: list[int]
    recipe_settings: dict[str, dict[str, Json]]
    """Section of the run file -> its settings."""
    curves: RecordedCurves


@dataclass(frozen=True)
class _Trained:
    """The curves of all finished trainings."""

    tuning: dict[float, LossCurve]
    """Peak learning rate of the baseline -> curve with the first seed."""
    baseline: list[LossCurve]
    """Curve of each seed at the best rate."""
    recipe: dict[float, list[LossCurve]]
    """Fraction of the baseline's tokens -> curve of each seed."""


def benchmark_recipe(
    config: RunConfig, sizes: ComparisonSizes, folder: Path, output: Path, figure: Path
) -> None:
    """Train, print tables, write JSON and the figure.

    Raises ConfigError for a fraction or rate that cannot be, DataError where there is no held-out
    text.
    """
    _refuse_impossible(sizes)
    seeds = range(config.train.seed, config.train.seed + sizes.seeds)
    trained = _train_all(config, sizes, seeds, folder)

    # The losses at the end of the trainings.
    comparison = compare_losses(
        {rate: curve.final for rate, curve in trained.tuning.items()},
        [curve.final for curve in trained.baseline],
        {
            fraction: [curve.final for curve in curves]
            for fraction, curves in trained.recipe.items()
        },
    )
    results: RecipeResults = {
        **comparison,
        "train_tokens": config.train.train_tokens,
        "seeds": list(seeds),
        "recipe_settings": {
            name: getattr(config, name).model_dump(mode="json")
            for name in ("optimizer", "schedule", "batch")
        },
        "curves": {
            "baseline": [_recorded(curve) for curve in trained.baseline],
            "recipe": {
                str(fraction): [_recorded(curve) for curve in curves]
                for fraction, curves in trained.recipe.items()
            },
        },
    }
    _show(results)
    write_results(output, results)

    # The whole curves.
    label = f"AdamW + cosine, peak {comparison['best_rate']:g}"
    drawn = [Curve(label, curve.tokens, curve.losses) for curve in trained.baseline]
    for fraction, curves in trained.recipe.items():
        label = f"recipe, {fraction:.0%} of the tokens"
        drawn += [Curve(label, curve.tokens, curve.losses) for curve in curves]
    write_atomic(figure, draw_curves(drawn, comparison["baseline_mean"]))
    note(f"benchmark: wrote {figure}")


def _train_all(
    config: RunConfig, sizes: ComparisonSizes, seeds: Sequence[int], folder: Path
) -> _Trained:
    """Run all trainings that are not done; return their curves."""
    # Tune the baseline with the first seed.
    rates = sorted(sizes.learning_rates)
    sequences = sizes.baseline_sequences
    trainings = [baseline_training(config, rate, seeds[0], sequences) for rate in rates]
    curves = run_trainings(trainings, sizes.jobs, folder)
    tuning = dict(zip(rates, curves, strict=True))
    best = min(rates, key=lambda rate: tuning[rate].final)

    # Train the baseline's other seeds together with the recipe, so that no job waits.
    others = [baseline_training(config, best, seed, sequences) for seed in seeds[1:]]
    fractions = sorted(sizes.fractions)
    recipes = [recipe_training(config, fraction, seed) for fraction in fractions for seed in seeds]
    curves = run_trainings([*others, *recipes], sizes.jobs, folder)

    # Sort the curves again.
    baseline_curves = [tuning[best], *curves[: len(others)]]
    recipe_curves: dict[float, list[LossCurve]] = {}
    first = len(others)
    for fraction in fractions:
        recipe_curves[fraction] = curves[first : first + len(seeds)]
        first += len(seeds)
    return _Trained(tuning, baseline_curves, recipe_curves)


def compare_losses(
    tuning: Mapping[float, float],
    baselines: Sequence[float],
    recipes: Mapping[float, Sequence[float]],
) -> Comparison:
    """Compare the final validation losses, all in nats per token.

    `tuning`: baseline's peak learning rate -> loss with the first seed; `baselines`: loss of each
    seed at the baseline's best rate; `recipes`: fraction of the baseline's tokens -> loss of each
    seed.
    """
    best = min(tuning, key=lambda rate: tuning[rate])
    mean = statistics.mean(baselines)
    means = {fraction: statistics.mean(losses) for fraction, losses in recipes.items()}
    needed = tokens_needed(means, mean)
    within = [fraction for fraction in means if fraction <= MOST_TOKENS]
    return {
        "tuning": {f"{rate:g}": loss for rate, loss in sorted(tuning.items())},
        "best_rate": best,
        "best_rate_is_inside": min(tuning) < best < max(tuning),
        "baseline": list(baselines),
        "baseline_mean": mean,
        "recipe": {str(fraction): list(losses) for fraction, losses in recipes.items()},
        "recipe_means": {str(fraction): loss for fraction, loss in means.items()},
        "tokens_needed": needed,
        "every_seed_reaches": [f for f in sorted(recipes) if max(recipes[f]) <= mean],
        "met": bool(within) and means[max(within)] <= mean,
    }


def tokens_needed(means: Mapping[float, float], goal: float) -> float | None:
    """Return the fraction of tokens at which the mean final loss is `goal`, None if at none.

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


def _refuse_impossible(sizes: ComparisonSizes) -> None:
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


def _recorded(curve: LossCurve) -> RecordedCurve:
    return {"tokens": list(curve.tokens), "losses": list(curve.losses)}


def _show(results: RecipeResults) -> None:
    # The baseline's learning rate.
    show_table(
        "AdamW + cosine, first seed",
        ("peak learning rate", "validation loss", ""),
        [_tuning_row(rate, results) for rate in results["tuning"]],
    )
    if not results["best_rate_is_inside"]:
        console.print(
            "The best rate is the smallest or largest one tried: try more beyond it (--rate)\n"
        )

    # The baseline beside the recipe.
    tokens = results["train_tokens"]
    rows = [("AdamW + cosine", f"{tokens:,}", "", *_losses(results["baseline"]))]
    for fraction, losses in results["recipe"].items():
        name = f"recipe, {float(fraction):.0%}"
        rows.append((name, f"{round(float(fraction) * tokens):,}", fraction, *_losses(losses)))
    seeds = [f"seed {seed}" for seed in results["seeds"]]
    show_table("Validation loss at the end", ("", "tokens", "fraction", "mean", *seeds), rows)

    # The verdict.
    needed = results["tokens_needed"]
    where = "none of the fractions measured"
    if needed is not None:
        where = f"{needed:.0%} of its tokens"
    console.print(
        f"The recipe reaches the baseline's mean in {where}; demanded within {MOST_TOKENS:.0%}: "
        f"{met_or_missed(results['met'])}"
    )


def _tuning_row(rate: str, results: RecipeResults) -> tuple[str, str, str]:
    remark = ""
    if float(rate) == results["best_rate"]:
        remark = "best"
    return rate, f"{results['tuning'][rate]:.4f}", remark


def _losses(losses: Sequence[float]) -> list[str]:
    return [f"{loss:.4f}" for loss in (statistics.mean(losses), *losses)]
