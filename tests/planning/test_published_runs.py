"""Published runs: exact values by hand, and what every row of the table must hold."""

import math
from dataclasses import replace
from fractions import Fraction

import pytest

from pipeline.planning.published import (
    COUNT_6ND,
    COUNT_MULTIPLY_ADDS,
    TABLE,
    PublishedRun,
    end_to_end_days,
    implied_mfu,
    peak_of_run,
    pf_days,
    published_runs,
)

RUNS = published_runs()
BY_NAME = {run.name: run for run in RUNS}


def test_gpt3_has_the_flops_of_its_table() -> None:
    """Source: arXiv:2005.14165 table D.1: 3.14E+23 FLOPs, 3.64E+03 PF-days."""
    run = BY_NAME["GPT-3 175B"]
    assert run.flops == pytest.approx(3.1428e23, rel=1e-12)
    assert run.flops_count == COUNT_6ND
    assert pf_days(run.flops or 0) == pytest.approx(3637.5, rel=1e-12)
    assert run.printed_flops == 3.14e23


@pytest.mark.parametrize(
    ("name", "devices", "hours", "gpu_hours"),
    [("BiT-M R152x4", 256, 81, 20_736), ("openCLIP, 88 h", 400, 88, 35_200)],
)
def test_hours_of_vision_models_are_devices_times_hours(
    name: str, devices: int, hours: int, gpu_hours: int
) -> None:
    run = BY_NAME[name]
    assert (run.devices, run.hours, run.gpu_hours) == (devices, hours, gpu_hours)
    assert devices * hours == gpu_hours
    assert run.gpu_hours_from == "devices x hours"


def test_the_two_trainings_of_openclip_are_kept_apart() -> None:
    """Source: mlfoundations/open_clip docs/PRETRAINED.md prints 50,800 for 400 GPUs and 127 h."""
    other = BY_NAME["openCLIP ViT-L/14"]
    assert (other.devices, other.hours, other.gpu_hours) == (400, 127, 50_800)
    assert "openCLIP, 88 h" in other.note
    assert "openCLIP ViT-L/14" in BY_NAME["openCLIP, 88 h"].note


def test_a_vision_model_is_counted_from_its_multiply_adds() -> None:
    run = BY_NAME["openCLIP ViT-L/14"]
    assert run.flops_count == COUNT_MULTIPLY_ADDS
    assert run.flops == pytest.approx(6 * 87.73e9 * 13_034_626_688)
    # 6.86e21 / (50,800 h x 3,600 s x 312e12)
    assert implied_mfu(run, 312e12) == pytest.approx(0.1202, abs=1e-4)


def test_an_mfu_is_implied_by_hand() -> None:
    """LLaMA 1 65B: 6 x 65.2e9 x 1.4e12 = 5.4768e23; 1,022,362 h x 3,600 s x 312e12 = 1.14832e24."""
    run = BY_NAME["LLaMA 1 65B"]
    assert peak_of_run(run) == 312e12
    assert implied_mfu(run, peak_of_run(run)) == pytest.approx(0.47694, abs=1e-5)


def test_no_mfu_follows_from_estimates_or_from_what_is_unknown() -> None:
    run = BY_NAME["LLaMA 1 65B"]
    assert implied_mfu(run, None) is None
    assert implied_mfu(replace(run, gpu_hours=None), 312e12) is None
    assert implied_mfu(replace(run, tokens=None), 312e12) is None
    estimated = replace(run, tokens=None, printed_flops=5.5e23, printed_flops_from="an estimate")
    assert estimated.flops == 5.5e23
    assert implied_mfu(estimated, 312e12) is None
    # An estimate from the hours at an assumed 40 % would return the assumption.
    neox = BY_NAME["GPT-NeoX 20B"]
    assert neox.gpu_hours is not None
    assert implied_mfu(neox, peak_of_run(neox)) is None


def test_a_v100_is_measured_by_its_fp16_peak() -> None:
    assert peak_of_run(BY_NAME["GPT-3 175B"]) == 125e12
    assert peak_of_run(BY_NAME["PaLM 540B"]) is None


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_every_row_says_where_it_is_from(run: PublishedRun) -> None:
    assert run.source
    assert run.seen in ("opened", "excerpt", "quoted")
    assert run.kind in ("language", "vision", "games")
    assert run.flops is not None or run.gpu_hours is not None
    assert (run.gpu_hours is None) == (run.gpu_hours_from == "")
    assert run.gpu_hours is None or run.hours_contain
    assert (run.printed_flops is None) == (run.printed_flops_from == "")
    assert run.flops is None or run.flops_count
    has_rate = run.tflops_per_device is not None or run.mfu_percent is not None
    assert has_rate == bool(run.rate_count)


@pytest.mark.parametrize(
    "run",
    [run for run in RUNS if run.devices and run.hours and run.gpu_hours],
    ids=lambda run: run.name,
)
def test_hours_are_their_product_or_the_row_says_the_difference(run: PublishedRun) -> None:
    """Printed hours are rounded: a difference below 0.05 % needs no word."""
    assert run.devices is not None
    product = float(Fraction(str(run.hours)) * run.devices)
    if not math.isclose(product, run.gpu_hours or 0, rel_tol=5e-4):
        assert f"= {product:,.0f}" in run.note
        assert f"{run.gpu_hours:,.0f} are printed" in run.note


def test_the_product_differs_in_rows_that_say_so() -> None:
    differing = [run.name for run in RUNS if "are printed" in run.note]
    assert {"BLOOM 176B", "LLaMA 1 65B", "openCLIP ViT-B/32"} <= set(differing)


def test_implied_mfus_are_shares() -> None:
    shares = {run.name: implied_mfu(run, peak_of_run(run)) for run in RUNS}
    known = {name: share for name, share in shares.items() if share is not None}
    assert len(known) > 40
    assert {name: share for name, share in known.items() if not 0.05 < share < 0.6} == {}


def test_the_families_are_complete_by_size() -> None:
    sizes = {
        "Pythia": ("70M", "160M", "410M", "1B", "1.4B", "2.8B", "6.9B", "12B"),
        "LLaMA 1": ("7B", "13B", "33B", "65B"),
        "Llama 2": ("7B", "13B", "34B", "70B"),
        "Llama 3": ("8B", "70B"),
        "Llama 3.1": ("8B", "70B", "405B"),
    }
    for family, expected in sizes.items():
        for size in expected:
            assert BY_NAME[f"{family} {size}"].gpu_hours, f"{family} {size}"
    assert {"OPT 175B", "BLOOM 176B", "TinyLlama 1.1B", "OLMo 1 7B"} <= set(BY_NAME)


def test_runs_are_sorted_and_named_once() -> None:
    keys = [(run.year, run.flops or math.inf) for run in RUNS]
    assert keys == sorted(keys)
    assert len(BY_NAME) == len(RUNS)


def test_the_time_of_a_run_is_the_middle_of_its_month() -> None:
    run = BY_NAME["GPT-3 175B"]
    assert (run.published, run.year) == ("2020-05", 2020)
    assert run.time == pytest.approx(2020 + 4.5 / 12)
    assert replace(run, published="2022").time == 2022.5


def test_the_table_is_small() -> None:
    assert TABLE.stat().st_size < 100_000


@pytest.mark.parametrize(
    ("parameters", "tokens", "devices", "rate", "days", "printed"),
    [
        # 8 x 300e9 x 175e9 / (1,024 x 140e12) = 2,929,687.5 s
        (175e9, 300e9, 1024, 140e12, 2_929_687.5 / 86_400, 34),
        # 8 x 450e9 x 1e12 / (3,072 x 163e12) = 7,189,417.18 s
        (1e12, 450e9, 3072, 163e12, 7_189_417.178 / 86_400, 84),
    ],
)
def test_days_of_narayanan(
    parameters: float, tokens: float, devices: int, rate: float, days: float, printed: int
) -> None:
    """Source: Narayanan et al. 2021, which prints 34 and 84 days: 33.9 and 83.2 before rounding up."""
    found = end_to_end_days(parameters, tokens, devices, rate)
    assert found == pytest.approx(days, rel=1e-9)
    assert math.ceil(found) == printed
    assert round(found, 1) == {34: 33.9, 84: 83.2}[printed]
