"""`pipeline submit` without Slurm, and `status` beside it: the dry run, and each refusal."""

import io
from pathlib import Path

import pytest
from facts_by_hand import made_up_facts

from pipeline.cli import submit_view
from pipeline.cli.job_table import print_jobs
from pipeline.cli.submit_view import SubmitOptions
from pipeline.config.run_file import load
from pipeline.errors import ConfigError, DataError, UserError
from pipeline.planning import planner
from pipeline.store.jobs.jobs_folder import jobs_folder
from pipeline.store.jobs.submitted_jobs import SubmittedJob, record_job, submitted_jobs
from pipeline.store.stages import STAGES
from pipeline.store.table.stage_row import Stage

SITE = """\
description: a cluster of my own
hardware: a100-40gb
gpu_nodes: {partition: gpu, gpus: 2, cores: 48, longest_time: "10:00:00"}
cpu_nodes: {cores: 16, longest_time: "06:00:00"}
nodes_have_network: true
"""
DATA_STAGES = [stage for stage in STAGES if stage.shared]
"""Without those whose checks build a model."""
TRAINING = [
    Stage(**{**vars(stage), "checks": (), "resume_check": None})
    for stage in STAGES
    if stage.name == "train"
]
"""The training, without its checks."""
LARGE = ["train.train_tokens=1e11", "batch.global_batch_tokens=1048576"]
"""With 1e8 parameters: 6 x 1e8 FLOPs a token on 2 x 312 TFLOP/s at 45 % are 59.4 h of steps, and a
tenth more is lost: 65.3 h."""


@pytest.fixture
def without_slurm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


@pytest.fixture
def large_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model of every plan has 1e8 parameters; nobody builds it."""
    monkeypatch.setattr(planner, "model_facts", lambda _: made_up_facts(10**8))


@pytest.fixture
def site(tmp_path: Path) -> str:
    path = tmp_path / "site.yaml"
    path.write_text(SITE)
    return str(path)


def dry_run(
    run_file: Path,
    site: str | None,
    *overrides: str,
    stages: list[Stage] = DATA_STAGES,
    **more: object,
) -> None:
    options = SubmitOptions(site, dry_run=True, **more)  # pyright: ignore[reportArgumentType]
    submit_view.submit(stages, run_file, overrides, options)


@pytest.mark.usefixtures("without_slurm")
def test_a_dry_run_writes_and_shows_the_scripts(
    run_file: Path, site: str, capsys: pytest.CaptureFixture[str]
) -> None:
    dry_run(run_file, site, "site.account=me", "train.seed=5")
    folder = jobs_folder(load(run_file).paths.run_dir)
    assert "#SBATCH --account=me\n" in folder.script("data").read_text()
    # The jobs read the settings of now, whatever becomes of the run file.
    assert load(folder.settings) == load(run_file, ["train.seed=5"])
    assert submitted_jobs(load(run_file).paths.run_dir) == []
    printed = capsys.readouterr()
    assert f"a cluster of my own: 1 job, scripts in {folder.path}" in printed.out
    assert "data: 96.0 core-hours, again each time that its time limit is reached" in printed.out
    assert "assumed: every node sees these at the same paths: " in printed.out
    assert "nothing was sent (--dry-run)" in printed.err


@pytest.mark.usefixtures("without_slurm")
def test_a_machine_without_slurm_sends_nothing(run_file: Path, site: str) -> None:
    with pytest.raises(UserError, match=r"has no Slurm .* add --dry-run to see the jobs"):
        submit_view.submit(DATA_STAGES, run_file, [], SubmitOptions(site, yes=True))
    assert not load(run_file).paths.run_dir.exists()


def test_a_site_must_be_named(run_file: Path) -> None:
    with pytest.raises(ConfigError, match=r"--site: is required; .*: jupiter, juwels-booster, "):
        dry_run(run_file, None)
    with pytest.raises(ConfigError, match=r"--site = mare: no such site; there are jupiter"):
        dry_run(run_file, "mare")


def test_what_a_site_leaves_to_the_user_is_asked_for_at_once(run_file: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        dry_run(run_file, "lumi")
    account, nodes = refused.value.problems
    assert account.startswith("site.account: the site leaves it to you; add site.account=VALUE")
    assert nodes.startswith("site.cpu_nodes: the site leaves the nodes of the data job to you; add")
    with pytest.raises(ConfigError, match=r"1 problem in site lumi:\n.*site\.cpu_nodes: the site"):
        dry_run(run_file, "lumi", "site.account=me")


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"time_limit": "11:00:00"}, r"--time = 11:00:00: a job may take 10:00:00 at most"),
        ({"time_limit": "long"}, r"--time = long: write it as Slurm does: 30, HH:MM:SS"),
        ({"nodes": 2}, r"batch\.global_batch_tokens = 32: must be a multiple of 2 nodes x 2"),
    ],
)
def test_sizes_that_cannot_work_are_refused(
    run_file: Path, site: str, more: dict[str, object], problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        dry_run(run_file, site, stages=list(STAGES), **more)
    assert not load(run_file).paths.run_dir.exists()


def test_missing_text_is_found_before_the_queue(run_file: Path, site: str) -> None:
    (run_file.parent / "web.jsonl").unlink()
    with pytest.raises(DataError, match=r"web\.jsonl"):
        dry_run(run_file, site)


def test_a_run_that_is_done_is_refused(run_file: Path, site: str) -> None:
    with pytest.raises(UserError, match=r"every stage of this run is done, there is nothing to s"):
        dry_run(run_file, site, stages=[])


@pytest.mark.usefixtures("large_model")
def test_the_hours_of_a_training_give_the_number_of_jobs(
    run_file: Path, site: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of each job of 10 h 5 min are start-up, and Slurm's signal comes up to 6 min before the end:
    four jobs train for 39.27 h, which 39.5 h exceed."""
    for hours, jobs in ((39.0, 4), (39.5, 5)):
        dry_run(run_file, site, stages=TRAINING, training_hours=hours)
        printed = capsys.readouterr().out
        assert f"train: 20.0 GPU-hours, {jobs} times at most: it is requeued at its" in printed
        assert f"-hours of training in {jobs} jobs, --hours {hours:g};" in printed


@pytest.mark.usefixtures("large_model")
def test_a_site_that_does_not_requeue_gets_the_jobs_of_the_plan(
    run_file: Path, site: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """65.3 h in jobs of 10 h, 9.82 h of which are training: 6.65. The given hours fill as many: one
    way to count them."""
    dry_run(run_file, site, "site.may_requeue=false", *LARGE, stages=TRAINING)
    printed = capsys.readouterr().out
    assert "planned: 131.8 GPU-hours of training in 7 jobs, 45 % MFU assumed" in printed
    assert "together: 131.8 GPU-hours planned, 140.0 at most" in printed
    scripts = jobs_folder(load(run_file).paths.run_dir)
    assert scripts.script("train-7").exists()
    assert not scripts.script("train-8").exists()
    # The first script stands for all of the chain.
    assert "\ntrain-1.sbatch\n#!/bin/bash\n" in printed
    assert "export PIPELINE_NEXT_JOB=train-2\n" in printed
    assert printed.count("#!/bin/bash") == 1
    # A shorter chain leaves no script of the longer one.
    dry_run(run_file, site, "site.may_requeue=false", stages=TRAINING, training_hours=19.0)
    assert [path.name for path in scripts.scripts()] == ["train-1.sbatch", "train-2.sbatch"]


@pytest.mark.usefixtures("large_model")
def test_what_is_planned_stands_beside_what_may_be_requeued(
    run_file: Path, site: str, capsys: pytest.CaptureFixture[str]
) -> None:
    dry_run(run_file, site, *LARGE, stages=TRAINING)
    printed = capsys.readouterr().out
    assert "train: 20.0 GPU-hours, again each time that its time limit is reached" in printed
    expected = "together: 131.8 GPU-hours planned, more where train is requeued more often"
    assert expected in printed


@pytest.mark.usefixtures("large_model")
@pytest.mark.parametrize(
    ("settings", "more", "problem"),
    [
        (
            ["site.may_requeue=false"],
            {"time_limit": "5"},
            r"--time = 5: a job of 5 min 00 s is over before its first step: start-up 5 min 00 s "
            r"\(assumed: .*\), margin and save 37\.3 s; make it longer, or take the start-up of a run",
        ),
        (
            [],
            {"time_limit": "5", "training_hours": 1.0},
            r"--time = 5: a job of 5 min 00 s is over before its first step",
        ),
        (
            # 510 s of 870 s: 65.3 h are 461 of them, and twice the tokens 922.
            ["site.may_requeue=false", "train.train_tokens=2e11"],
            {"time_limit": "14:30"},
            r"--time = 14:30: the training takes \d{3} jobs of this length, and at most 500 are sent",
        ),
        (["site.hardware=v100-32gb", "precision.dtype=bf16"], {}, "does not compute in it; set an"),
        (["site.hardware=nope"], {}, r"site\.hardware = nope: no such hardware; there are a10, "),
    ],
)
def test_plans_that_cannot_work_are_refused(
    run_file: Path, site: str, settings: list[str], more: dict[str, object], problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        dry_run(run_file, site, *LARGE, *settings, stages=TRAINING, **more)
    assert not load(run_file).paths.run_dir.exists()


@pytest.mark.usefixtures("large_model")
def test_an_assumed_start_up_keeps_no_short_job_from_being_requeued(
    run_file: Path, site: str, capsys: pytest.CaptureFixture[str]
) -> None:
    dry_run(run_file, site, stages=TRAINING, time_limit="5")
    printed = capsys.readouterr()
    assert "warning: --time = 5: a job of 5 min 00 s is over before its first step" in printed.err
    assert "train: 0.2 GPU-hours, again each time that its time limit is reached" in printed.out
    assert "planned:" not in printed.out


def test_a_question_that_nobody_answers_sends_nothing(
    run_file: Path, site: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for program in ("sbatch", "scontrol"):
        (tmp_path / program).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    with pytest.raises(UserError) as refused:
        submit_view.submit(DATA_STAGES, run_file, [], SubmitOptions(site))
    assert str(refused.value) == (
        "nothing was sent: nobody answered; add --yes to send without a question"
    )
    assert submitted_jobs(load(run_file).paths.run_dir) == []


@pytest.mark.usefixtures("large_model")
def test_the_question_names_what_is_planned(
    run_file: Path, site: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[str] = []

    def no(prompt: str) -> str:
        asked.append(prompt)
        return "no"

    for program in ("sbatch", "scontrol"):
        (tmp_path / program).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("builtins.input", no)
    submit_view.submit(TRAINING, run_file, LARGE, SubmitOptions(site))
    assert asked == ["send 1 job, 131.8 GPU-hours planned? [y/N] "]
    assert submitted_jobs(load(run_file).paths.run_dir) == []


def test_folders_that_not_all_nodes_see_are_warned_of(
    run_file: Path, site: str, capsys: pytest.CaptureFixture[str]
) -> None:
    dry_run(run_file, site, "site.shared_folders=[/scratch]")
    warnings = capsys.readouterr().err
    for folder in (load(run_file).paths.data_dir, load(run_file).paths.run_dir):
        assert f"warning: {folder} is below none of the site's shared folders: /scratch" in warnings


@pytest.mark.usefixtures("without_slurm")
def test_status_shows_the_ids_that_it_knows_without_slurm(
    run_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = load(run_file).paths.run_dir
    print_jobs(run_dir)
    assert capsys.readouterr().out == ""
    job: SubmittedJob = {
        "id": "41",
        "kind": "data",
        "name": "data",
        "after": [],
        "site": "mine",
        "nodes": 1,
        "time_limit": "06:00:00",
        "most_jobs": None,
        "submitted": "2000-01-31T23:59:59+0000",
    }
    record_job(run_dir, job)
    record_job(run_dir, {**job, "id": "42", "kind": "train", "name": "train", "after": ["41"]})
    print_jobs(run_dir)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[2] == ["data", "41", "not", "known", "to", "Slurm", "here"]
    assert lines[3] == ["train", "42", "not", "known", "to", "Slurm", "here", "41"]
    assert " ".join(lines[4]).startswith("this machine has no Slurm: the ids are those of")
