"""`pipeline benchmark recipe`: its arithmetic by hand, the run files that it writes, and a tiny
comparison in full."""

from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from pipeline.benchmarks.recipe import (
    ComparisonSizes,
    benchmark_recipe,
    compare_losses,
    tokens_needed,
)
from pipeline.benchmarks.recipe_figure import Curve, draw_curves
from pipeline.benchmarks.recipe_trainings import baseline_training, recipe_training
from pipeline.config.run_file import load
from pipeline.errors import ConfigError
from pipeline.store.files import read_json
from pipeline.store.metrics import read_metrics

MakeRun = Callable[..., Path]
WSD = ["schedule.kind=wsd", "schedule.decay_tokens=2048", "optimizer.beta2=0.97", "train.seed=7"]


def test_between_two_fractions_the_loss_is_taken_to_be_linear() -> None:
    means = {0.4: 3.2, 0.5: 3.1, 0.6: 2.9}
    assert tokens_needed(means, 3.0) == pytest.approx(0.55)  # halfway from 3.1 to 2.9
    assert tokens_needed(means, 3.1) == pytest.approx(0.5)
    assert tokens_needed(means, 3.5) == 0.4
    assert tokens_needed(means, 2.8) is None


def test_what_final_losses_amount_to() -> None:
    found = compare_losses(
        {1e-3: 4.0, 2e-3: 3.0, 4e-3: 5.0}, [3.0, 3.2], {0.5: [3.3, 3.1], 0.6: [3.0, 3.12]}
    )
    assert (found["best_rate"], found["best_rate_is_inside"]) == (2e-3, True)
    assert found["baseline_mean"] == pytest.approx(3.1)
    assert found["recipe_means"] == pytest.approx({"0.5": 3.2, "0.6": 3.06})
    assert found["tokens_needed"] == pytest.approx(0.5 + 0.1 * 0.1 / 0.14)
    assert found["met"] and found["every_seed_reaches"] == []


def test_only_fractions_up_to_the_demanded_one_can_meet_it() -> None:
    assert not compare_losses({1e-3: 3.0, 2e-3: 3.1}, [3.0], {0.6: [3.1], 0.7: [2.9]})["met"]
    assert not compare_losses({1e-3: 3.0, 2e-3: 3.1}, [3.0], {0.7: [2.9]})["met"]
    assert not compare_losses({1e-3: 3.0, 2e-3: 3.1}, [3.0], {0.6: [2.9]})["best_rate_is_inside"]


@pytest.mark.ranks
def test_the_baseline_takes_nothing_of_the_run_files_recipe(make_run: MakeRun) -> None:
    config = load(make_run(), WSD)
    made = baseline_training(config, 2e-3, 8)
    optimizer, schedule = made.config.optimizer, made.config.schedule
    assert (optimizer.kind, optimizer.peak_learning_rate, optimizer.beta2) == ("adamw", 2e-3, 0.99)
    assert (schedule.kind, schedule.warmup_tokens, schedule.decay_tokens) == (
        "cosine",
        256,
        None,
    )  # 5 % of 5,120
    assert made.config.train.train_tokens == 5120
    assert made.config.train.seed == 8
    assert (made.config.model, made.config.data, made.config.batch) == (
        config.model,
        config.data,
        config.batch,
    )


@pytest.mark.ranks
def test_the_baseline_may_have_a_batch_of_its_own(make_run: MakeRun) -> None:
    config = load(make_run(), ["batch.micro_batch_sequences=4"])  # of 32 tokens
    batch = baseline_training(config, 2e-3, 8, 6).config.batch
    assert (batch.global_batch_tokens, batch.micro_batch_sequences) == (192, 3)


@pytest.mark.ranks
def test_the_recipe_is_the_run_file_in_proportion(make_run: MakeRun) -> None:
    config = load(make_run(), WSD)
    made = recipe_training(config, 0.5, 7)
    assert made.config.optimizer == config.optimizer
    assert made.config.train.train_tokens == 2560
    assert (made.config.schedule.warmup_tokens, made.config.schedule.decay_tokens) == (512, 1024)


@pytest.mark.ranks
def test_a_folder_belongs_to_its_settings(make_run: MakeRun) -> None:
    config, other = load(make_run(), WSD), load(make_run(), [*WSD, "batch.global_batch_tokens=128"])
    names = {
        baseline_training(c, rate, seed).name
        for c in (config, other)
        for rate in (1e-3, 2e-3)
        for seed in (1, 2)
    }
    assert len(names) == 8
    assert (
        baseline_training(config, 1e-3, 1).name
        == baseline_training(load(make_run(), WSD), 1e-3, 1).name
    )


@pytest.mark.ranks
def test_wrong_sizes_are_all_named(make_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        benchmark_recipe(
            load(make_run()),
            ComparisonSizes([0, 1e-3], [1.5], 1, 1),
            tmp_path,
            tmp_path / "o",
            tmp_path / "f",
        )
    assert "--rate = 0" in str(error.value) and "--fraction = 1.5" in str(error.value)


def test_the_figure_is_an_svg_of_the_same_bytes() -> None:
    curves = [
        Curve(name, [10, 20], [3.0 + i, 2.0 + i / 8])
        for i, name in enumerate(("baseline", "baseline", "recipe"))
    ]
    picture = draw_curves(curves, 2.1)
    assert picture == draw_curves(curves, 2.1)
    assert picture.count(">baseline<") == 1 and len(picture) < 60_000
    assert ElementTree.fromstring(picture).tag.endswith("svg")


@pytest.mark.ranks
@pytest.mark.full
def test_a_tiny_comparison_and_that_it_is_not_done_twice(make_run: MakeRun, tmp_path: Path) -> None:
    config = load(make_run(), WSD)
    folder, output, figure = tmp_path / "kept", tmp_path / "result.json", tmp_path / "result.svg"

    def compare() -> None:
        benchmark_recipe(config, ComparisonSizes([1e-3, 1e-2], [0.5], 1, 2), folder, output, figure)

    compare()
    found = read_json(output)
    runs = sorted(path / "run" for path in (folder / "runs").iterdir())
    assert [read_metrics(run)[-1]["tokens"] for run in runs] == [5120, 5120, 2560]
    finals = [read_metrics(run)[-1]["validation_loss"] for run in runs]
    assert found["tuning"] == {"0.001": finals[0], "0.01": finals[1]}
    assert found["recipe"] == {"0.5": [finals[2]]}
    assert found["curves"]["recipe"]["0.5"][0]["losses"][-1] == finals[2]
    made = [(run / "checkpoints" / "manifest.json").stat().st_mtime_ns for run in runs]
    compare()
    assert read_json(output)["tuning"] == found["tuning"]
    assert [(run / "checkpoints" / "manifest.json").stat().st_mtime_ns for run in runs] == made
