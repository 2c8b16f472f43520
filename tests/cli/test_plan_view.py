"""`pipeline plan`: what it prints, and what it refuses."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.cli.plan_view import PlanQuestion, show_plan, show_published_runs
from pipeline.errors import ConfigError, UserError
from pipeline.logs import console
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


def test_published_runs_need_no_run_file(capsys: pytest.CaptureFixture[str]) -> None:
    question = PlanQuestion(None, [], "h100-sxm", None, 24.0, [])
    show_published_runs(STAGES, question, as_json=False, page=None)
    text = capsys.readouterr().out
    assert "GPT-3 175B" in text
    assert "planned" not in text
    with pytest.raises(UserError, match=r"name a run file, as in `pipeline plan run\.yaml`"):
        show_plan(STAGES, question, as_json=False, page=None)


@pytest.mark.ranks  # a process of its own looks at the model
def test_the_planned_run_stands_among_published_ones(
    make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["evaluation.tasks=[]", "launch.ranks=2"]
    question = PlanQuestion(make_run(), settings, "h100-sxm", None, 24.0, [])
    show_published_runs(STAGES, question, as_json=False, page=None)
    assert "★ run " in capsys.readouterr().out
