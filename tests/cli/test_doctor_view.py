"""`pipeline doctor` as a command: its table, its remedies, its exit code."""

import json
from pathlib import Path

import pytest
from facts_by_hand import made_up_facts

from pipeline.cli import doctor_needs
from pipeline.cli.doctor_needs import disk_findings, needs_of_run, operators_of_run
from pipeline.cli.doctor_view import print_findings, show_examination
from pipeline.cluster.doctor.finding import Finding
from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.errors import ConfigError
from pipeline.model.model_facts import ModelFacts

FINDINGS = [
    Finding("answer", "all", "answers", seconds=1.25),
    Finding("folders", "a", "paths.run_dir = /run: not writable", "stops", "mount it", 0.5),
    Finding("folders", "b", "paths.run_dir = /run: not writable", "stops", "mount it"),
    Finding("matmul", "b", "slow: 50% of the median", "warning", "leave it out", 1.5),
]


def test_the_table_and_the_remedies_below_it(capsys: pytest.CaptureFixture[str]) -> None:
    print_findings(FINDINGS)
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "check node seen verdict seconds",
        "answer all answers ok 1.2",
        "folders a paths.run_dir = /run: not writable stops 0.5",
        "b paths.run_dir = /run: not writable stops",
        "matmul b slow: 50% of the median warning 1.5",
        "",
        "stops: folders on a, b: mount it",
        "",
        "warning: matmul on b: leave it out",
        "",
        "2 findings would stop the run, 1 warning",
    ]
    print_findings(FINDINGS[3:])
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "nothing found that would stop a run, 1 warning"


@pytest.fixture
def facts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of a million parameters, without building it."""
    made = made_up_facts(1_000_000)
    monkeypatch.setattr(doctor_needs, "model_facts", lambda config: made)


@pytest.mark.usefixtures("facts")
def test_the_disk_is_compared_with_the_checkpoints_of_the_run(
    run_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (finding,) = disk_findings(load(run_file))
    assert finding.verdict == "ok"
    assert finding.seen.startswith("up to 1 checkpoints of ")
    much = made_up_facts(10**15)
    monkeypatch.setattr(doctor_needs, "model_facts", lambda config: much)
    (finding,) = disk_findings(load(run_file))
    assert finding.verdict == "stops"
    assert finding.seen.startswith(f"paths.run_dir = {run_file.parent}/run: its disk has ")
    assert finding.remedy.startswith(f"{finding.seen}; set checkpoint.keep_last lower, ")


@pytest.mark.usefixtures("facts")
def test_the_disk_is_compared_with_data_that_are_not_there_yet(run_file: Path) -> None:
    """1e18 tokens: 4 x 0.4 bytes of documents and 2.02 of tokens each."""
    checkpoints, data = disk_findings(load(run_file, ["train.train_tokens=1e18"]))
    assert checkpoints.verdict == "ok"
    assert data.verdict == "warning"
    assert data.seen.startswith(f"paths.data_dir = {run_file.parent}/data: its disk has ")
    assert data.seen.endswith("each read once, would take about 3620000.0 TB")


@pytest.mark.usefixtures("facts")
def test_what_a_run_needs_of_its_nodes(run_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    needs = needs_of_run(load(run_file))
    assert [(finding.check, finding.verdict) for finding in needs.findings] == [
        ("launch", "ok"),
        ("settings", "ok"),
        ("model", "ok"),
        ("disk", "ok"),
    ]
    # Neither folder exists yet: they will be made in the one above.
    above = str(run_file.parent)
    assert needs.folders == {"paths.data_dir": above, "paths.run_dir": above}
    assert needs.operators == []


@pytest.mark.usefixtures("facts")
def test_what_training_would_refuse_of_the_settings_is_found_once(
    run_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    settings = ["launch.ranks=3", "model.config.vocab_size=200"]
    stopping = [
        (finding.check, finding.seen.partition(":")[0])
        for finding in needs_of_run(load(run_file, settings)).findings
        if finding.verdict == "stops"
    ]
    assert stopping == [
        ("launch", "launch.ranks = 3 x batch.micro_batch_sequences = 2"),
        ("settings", "model.config.vocab_size = 200"),
    ]


def test_a_model_that_cannot_be_built_is_no_problem_of_the_disk(
    run_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message that ends with an example is shown whole, not cut at its last semicolon."""
    problem = (
        "model.architecture = nope: no such architecture; use one of transformers; such as llama"
    )

    def refuse(config: RunConfig) -> ModelFacts:
        raise ConfigError([problem])

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(doctor_needs, "model_facts", refuse)
    findings = needs_of_run(load(run_file)).findings
    assert [(finding.check, finding.verdict) for finding in findings] == [
        ("launch", "ok"),
        ("settings", "ok"),
        ("model", "stops"),
    ]
    assert findings[-1].seen == "model.architecture = nope: no such architecture"
    assert findings[-1].remedy == problem


@pytest.mark.usefixtures("facts")
def test_a_template_that_is_missing_is_found_among_the_settings(
    run_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    needs = needs_of_run(load(run_file, ["deepspeed=./nope.json"]))
    (finding,) = (finding for finding in needs.findings if finding.verdict == "stops")
    assert finding.check == "settings"
    assert "nope.json" in finding.remedy
    assert needs.operators == []


def test_operators_that_a_template_asks_for(run_file: Path) -> None:
    config = load(run_file, ["deepspeed=zero3_offload", "optimizer.kind=adamw"])
    assert [operator.name for operator in operators_of_run(config)] == ["cpu_adam"]


def test_nodes_that_are_not_known_are_refused_at_once(
    run_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(ConfigError, match="is in no Slurm job"):
        show_examination(run_file, ["launch.kind=slurm"], as_json=False)
    with pytest.raises(ConfigError, match="needs launch"):
        show_examination(run_file, ["launch.kind=hostfile"], as_json=False)


@pytest.mark.ranks
@pytest.mark.usefixtures("facts")
def test_a_folder_that_cannot_be_used_ends_the_command_with_2(
    run_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(SystemExit) as ended:
        show_examination(run_file, ["paths.run_dir=/proc/run"], as_json=True)
    assert ended.value.code == 2
    printed = json.loads(capsys.readouterr().out)
    assert printed["stops"] is True
    folders = [finding for finding in printed["findings"] if finding["check"] == "folders"]
    assert [finding["verdict"] for finding in folders] == ["ok", "stops"]
    assert folders[1]["seen"].startswith("paths.run_dir = /proc: not writable (")
