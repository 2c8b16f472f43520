"""`pipeline plan`: what it prints, and what it refuses."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from facts_by_hand import made_up_facts
from law_points import grid_of, selection_of

from pipeline.cli.plan_view import PlanQuestion, show_plan, show_published_runs
from pipeline.config.run_file import load
from pipeline.errors import ConfigError, DataError, UserError
from pipeline.logs import console
from pipeline.planning import planner
from pipeline.planning.laws.fit_summary import summaries_of
from pipeline.planning.laws.fits_file import write_fits
from pipeline.planning.laws.loss_law import LossLaw
from pipeline.store.stages import STAGES

pytestmark = pytest.mark.usefixtures("forked_checks")

MakeRun = Callable[..., Path]
SMALL = (
    "{description: small, device_names: [Small], peak_bf16_tflops: 1, peak_fp16_tflops: 1,"
    " peak_fp32_tflops: 1, memory_gib: 0.0008, devices_per_node: 2, link_gb_per_second: 2,"
    " network_gb_per_second: 1, host_memory_gib: 8, cores_per_node: 2, assumed_mfu: 0.4}"
)


def plan(
    run_file: Path,
    *overrides: str,
    hardware: str = "h100-sxm",
    nodes: int | None = None,
    as_json: bool = False,
    law: Path | None = None,
) -> None:
    settings = ["evaluation.tasks=[]", "evaluation.heldout_bytes=0", *overrides]
    question = PlanQuestion(run_file, settings, hardware, nodes, 24.0, [], law)
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
    assert "peak TFLOP/s in fp32            67         assumed: hardware h100-sxm" in text
    assert "memory of a device, GiB         80         assumed: hardware h100-sxm" in text
    assert "network of a device, GB/s       50         assumed: hardware h100-sxm" in text
    assert re.search(r"\n  sum {22}[\d.]+ MiB of 80.0 GiB, as the run file has it: fits\n", text)
    assert " 0 min" not in text
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
def test_times_that_nothing_predicts_are_not_shown(
    make_run: MakeRun, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "width", 240)
    settings = ["launch.ranks=2", "deepspeed=zero3_offload", "optimizer.kind=adamw"]
    run_file = make_run()
    plan(run_file, *settings)
    text = capsys.readouterr().out
    assert "\n  step                     not predicted: states are in host memory, " in text
    assert "--from RUN takes that of a run that does so\n" in text
    assert "GPU-hours" not in text
    assert "(fastest)" not in text
    plan(run_file, *settings, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert (found["time"], found["step_seconds"], found["efficiency"]) == (None, None, None)
    # ZeRO 3 on the devices is predicted, with what its hooks take.
    plan(run_file, "launch.ranks=2", "deepspeed=zero3")
    assert re.search(r"computing \+ [\d.]+ waiting for the host \+", capsys.readouterr().out)


@pytest.mark.ranks  # a process of its own looks at the model
def test_n_of_the_flops_is_the_line_that_says_so(
    make_run: MakeRun, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a mixture of experts N counts the active parameters."""
    monkeypatch.setattr(console, "width", 120)
    sizes = (
        "num_local_experts=4",
        "num_experts_per_tok=1",
        "num_key_value_heads=4",
        "router_aux_loss_coef=0",
    )
    experts = [f"model.config.{size}" for size in sizes]
    settings = ["model.architecture=mixtral", *experts, "optimizer.kind=adamw", "launch.ranks=2"]
    run_file = make_run()
    plan(run_file, *settings, as_json=True)
    facts = json.loads(capsys.readouterr().out)["model"]["facts"]
    assert facts["active_parameters"] < facts["size"]["parameters"]
    plan(run_file, *settings)
    text = capsys.readouterr().out
    assert f"active for a token (N)   {facts['active_parameters']:,}\n" in text
    assert f"multiplying              {facts['size']['parameters']:,}\n" in text
    plan(run_file, "launch.ranks=2")
    text = capsys.readouterr().out
    assert "multiplying (N)" in text
    assert "active" not in text


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
    own.write_text(SMALL)
    with pytest.raises(ConfigError, match=r"the fastest that fits: a template of ZeRO stage \d"):
        plan(make_run(), hardware=str(own))
    assert "does not fit" in capsys.readouterr().out
    own.write_text(own.read_text().replace("memory_gib: 0.0008", "memory_gib: 0.00001"))
    tiny = tmp_path / "tiny.yaml"
    own.rename(tiny)  # a file is read once
    with pytest.raises(ConfigError, match=r"; nothing that DeepSpeed executes fits: use more or l"):
        plan(make_run(), hardware=str(tiny))
    no_host = tmp_path / "no_host.yaml"
    text = tiny.read_text().replace("memory_gib: 0.00001", "memory_gib: 1", 1)
    no_host.write_text(text.replace("host_memory_gib: 8", "host_memory_gib: 0.00001"))
    with pytest.raises(ConfigError, match=r"of the host's memory; set checkpoint\.asynchronous"):
        plan(make_run(), hardware=str(no_host))


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


@pytest.mark.ranks  # a process of its own looks at the model
def test_a_law_of_ones_own_predicts_the_loss(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At 32,928 parameters, with alpha = beta and A = B: as many tokens as parameters."""
    law = LossLaw("mine", 1.0, 16.0, 0.5, 16.0, 0.5)
    selection = selection_of(grid_of(law))
    path = tmp_path / "fits.json"
    write_fits(path, selection, list(summaries_of(selection, resamples=4)))
    plan(make_run(), "batch.global_batch_tokens=512", law=path, as_json=True)
    model = json.loads(capsys.readouterr().out)["model"]
    assert model["fit"]["name"] == f"points.csv, fitted in {path}"
    assert model["loss"] == pytest.approx(law.loss(32_928, model["train_tokens"]), rel=1e-5)
    assert model["optimal_tokens_per_parameter"] == pytest.approx(1, rel=1e-4)


@pytest.mark.ranks  # the run file's data are made by processes
def test_a_law_that_is_none_is_refused_before_the_checks(make_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"laws\.json: does not exist"):
        plan(make_run(), law=tmp_path / "laws.json")


def test_published_runs_need_no_run_file(capsys: pytest.CaptureFixture[str]) -> None:
    question = PlanQuestion(None, [], "h100-sxm", None, 24.0, [])
    show_published_runs(STAGES, question, as_json=False, page=None)
    text = capsys.readouterr().out
    assert "GPT-3 175B" in text
    assert "planned" not in text
    page = Path("milestones.html")
    with pytest.raises(UserError, match=r"--page goes with --published: it shows published runs"):
        show_plan(STAGES, question, as_json=False, page=page)
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


@pytest.mark.ranks  # a process of its own looks at the model
def test_a_planned_run_that_does_not_fit_has_no_hours_among_published_ones(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = tmp_path / "small.yaml"
    small.write_text(SMALL.replace("memory_gib: 0.0008", "memory_gib: 0.0001", 1))
    settings = ["evaluation.tasks=[]", "launch.ranks=2"]
    run_file = make_run()
    question = PlanQuestion(run_file, settings, str(small), None, 24.0, [])
    with pytest.raises(ConfigError, match=r"memory: the run needs"):
        show_published_runs(STAGES, question, as_json=True, page=None)
    planned = json.loads(capsys.readouterr().out)["planned"]
    assert planned["gpu_hours"] is None
    tokens = load(run_file, settings).step_plan.total_tokens
    assert planned["flops"] == 6 * 32_928 * tokens  # N with embeddings, without attention
