"""`pipeline plan`: what it prints, and what it refuses."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from facts_by_hand import made_up_facts

from pipeline.cli.plan_view import PlanQuestion, show_plan, show_published_runs
from pipeline.errors import ConfigError, UserError
from pipeline.logs import console
from pipeline.planning import planner
from pipeline.store.stages import STAGES

MakeRun = Callable[..., Path]


def plan(
    run_file: Path,
    *overrides: str,
    hardware: str = "h100-sxm",
    nodes: int | None = None,
    as_json: bool = False,
) -> None:
    settings = ["evaluation.tasks=[]", "evaluation.heldout_bytes=0", *overrides]
    question = PlanQuestion(run_file, settings, hardware, nodes, 24.0, [])
    show_plan(STAGES, question, as_json=as_json, page=None)


@pytest.mark.ranks  # a process of its own looks at the model
def test_every_number_says_what_it_rests_on(
    make_run: MakeRun, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "width", 120)
    plan(make_run(), "batch.global_batch_tokens=512")
    text = capsys.readouterr().out
    assert text.startswith("8 x NVIDIA H100 SXM, 80 GB, 1 node, ZeRO 1, fp32\n")
    for part in ("model", "memory of a device", "time", "disk", "batch"):
        assert f"\n{part}\n" in text
    assert "32,928 = 12,288 embedding + 20,640 others" in text
    assert "mfu                             0.42       assumed: hardware h100-sxm" in text
    assert "tokens on disk" in text
    assert "measured" in text  # the tokens are there


@pytest.mark.ranks  # a process of its own looks at the model
def test_json_has_what_follows_too(make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    plan(make_run(), "batch.global_batch_tokens=512", as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["model"]["facts"]["parameters"] == 32_928
    assert found["allocation"]["devices"] == 8
    assert found["rates"]["mfu"]["kind"] == "assumed"
    assert found["total_flops"] == pytest.approx(
        found["model"]["flops_per_token"] * found["model"]["train_tokens"]
    )
    assert found["step_seconds"] > 0


@pytest.mark.ranks  # a process of its own looks at the model
def test_devices_are_those_of_launch_ranks_or_those_that_divide_the_batch(
    make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    run_file = make_run()
    plan(run_file, "launch.ranks=2", as_json=True)
    found = json.loads(capsys.readouterr().out)["allocation"]
    assert [found["nodes"], found["devices"], found["devices_left_out"]] == [1, 2, 0]
    # 4 sequences of a batch, one at a time: 4 of 8 devices.
    plan(run_file, "batch.global_batch_tokens=128", "batch.micro_batch_sequences=1")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("4 x NVIDIA H100 SXM, 80 GB, 1 node")
    assert lines[1].startswith("4 of the node's 8 devices: more do not divide the batch")


@pytest.mark.ranks
@pytest.mark.parametrize(
    ("overrides", "hardware", "message"),
    [
        ((), "h100", r"--hardware = h100: no such hardware; there are a10, "),
        (("precision.dtype=bf16",), "v100-32gb", r"V100 SXM2, 32 GB does not compute in it"),
        (
            ("batch.global_batch_tokens=256", "launch.ranks=8"),
            "h100-sxm",
            r"launch\.ranks = 8 x .* must divide the 8 sequences",
        ),
        (
            ("batch.global_batch_tokens=512", "evaluation.suite=pythia"),
            "h100-sxm",
            r"pipeline tasks fetch pythia --to",
        ),
        (
            ("batch.global_batch_tokens=512", "model.config.num_attention_heads=3"),
            "h100-sxm",
            r"num_attention_heads = 3",
        ),
    ],
)
def test_refusals_that_need_no_data(
    make_run: MakeRun, overrides: tuple[str, ...], hardware: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        plan(make_run(), *overrides, hardware=hardware)


@pytest.mark.ranks  # a process of its own looks at the model
def test_a_run_that_does_not_fit_is_refused_after_its_plan(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "small.yaml"
    own.write_text(
        "{description: small, device_names: [Small], peak_bf16_tflops: 1, peak_fp16_tflops: 1,"
        " peak_fp32_tflops: 1, memory_gib: 0.0008, devices_per_node: 2, link_gb_per_second: 2,"
        " network_gb_per_second: 1, host_memory_gib: 8, cores_per_node: 2, assumed_mfu: 0.4}"
    )
    with pytest.raises(ConfigError, match=r"the fastest that fits: a template of ZeRO stage \d"):
        plan(make_run(), hardware=str(own))
    assert "does not fit" in capsys.readouterr().out


def test_a_job_that_ends_before_its_first_step_is_refused_after_its_plan(
    run_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planner, "model_facts", lambda _: made_up_facts(10**6))
    question = PlanQuestion(run_file, [], "a10", None, 0.01, [])
    with pytest.raises(ConfigError) as refused:
        show_plan([], question, as_json=False, page=None)
    assert refused.value.problems == [
        "--hours-per-job = 0.01: a job of 36.0 s is over before its first step: start-up 5 min 00 s "
        "(assumed: start of a large job; a small one takes 30 s), margin and save 30.0 s; make it "
        "longer, or take the start-up of a run by --from RUN"
    ]
    printed = capsys.readouterr().out
    assert "a job of 0.01 h ends before its first step" in printed
    assert " without start-ups\n" in printed


def test_the_formula_of_a_mixture_counts_active_parameters(
    run_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """6 N + 12 L d T = 6 x 1e6 + 12 x 1 x 1 x 8."""
    facts = replace(made_up_facts(10**8), is_mixture=True, active_parameters=10**6)
    monkeypatch.setattr(planner, "model_facts", lambda _: facts)
    question = PlanQuestion(run_file, [], "a10", None, 24.0, [])
    show_plan([], question, as_json=False, page=None)
    words = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "multiplying 100,000,000" in words
    assert "active for a token (N) 1,000,000" in words
    assert "FLOPs a token 6e+06 = 6 N + 12 L d T" in words


def test_a_page_shows_published_runs_only(tmp_path: Path) -> None:
    question = PlanQuestion(None, [], "h100-sxm", None, 24.0, [])
    with pytest.raises(UserError, match=r"^--page goes with --published: it shows published runs"):
        show_plan(STAGES, question, as_json=False, page=tmp_path / "page.html")


def test_published_runs_need_no_run_file(capsys: pytest.CaptureFixture[str]) -> None:
    question = PlanQuestion(None, [], "h100-sxm", None, 24.0, [])
    show_published_runs(STAGES, question, as_json=False, page=None)
    text = capsys.readouterr().out
    assert "GPT-3 175B" in text
    assert "planned" not in text
    with pytest.raises(UserError, match=r"name a run file, as in `pipeline plan run\.yaml`"):
        show_plan(STAGES, question, as_json=False, page=None)


@pytest.mark.parametrize(("nodes", "runs"), [(3, []), (None, [Path("run")])])
def test_options_of_a_plan_need_a_run_file(nodes: int | None, runs: list[Path]) -> None:
    question = PlanQuestion(None, [], "h100-sxm", nodes, 24.0, runs)
    with pytest.raises(
        UserError, match=r"--nodes and --from are about a planned run; name its run"
    ):
        show_published_runs(STAGES, question, as_json=False, page=None)


@pytest.mark.ranks  # a process of its own looks at the model
def test_the_planned_run_stands_among_published_ones(
    make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["evaluation.tasks=[]", "launch.ranks=2"]
    question = PlanQuestion(make_run(), settings, "h100-sxm", None, 24.0, [])
    show_published_runs(STAGES, question, as_json=False, page=None)
    assert "★ run " in capsys.readouterr().out
