"""Which jobs a run needs, how large they are, and the scripts that are written."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from pipeline.cluster.batch_script import BATCH_SCRIPTS, JobPaths, batch_script, sbatch_options
from pipeline.cluster.submission import JobSizes, default_train_nodes, plan_jobs, send_jobs
from pipeline.config.run_file import load
from pipeline.config.sites import Site, read_site
from pipeline.errors import ConfigError, UserError
from pipeline.store.jobs.submitted_jobs import JobKind, SubmittedJob, submitted_jobs

ALL: tuple[JobKind, ...] = ("data", "train", "evaluate")
SITE = """\
description: a cluster of my own
hardware: a100-40gb
gpu_nodes: {partition: gpu, gpus: 4, cores: 48, longest_time: "10:00:00", most_nodes: 8}
cpu_nodes: {cores: 16, longest_time: "06:00:00", most_nodes: 2}
nodes_have_network: false
"""
# The run file's global batch: 4 sequences of 8 tokens, 2 of them a micro-batch.
BATCH_OF_64 = ["batch.global_batch_tokens=512"]
PATHS = JobPaths(Path("/run/run.yaml"), Path("/run/x-%j.out"), Path("/home/me"), Path("/bin/pipe"))


def site_with(folder: Path, *overrides: str) -> Site:
    path = folder / "site.yaml"
    path.write_text(SITE)
    return read_site(str(path), overrides)


def problems_of(
    run_file: Path, sizes: JobSizes, settings: Sequence[str] = (), site: Sequence[str] = ()
) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        config = load(run_file, settings)
        plan_jobs(ALL, config, site_with(run_file.parent, *site), "mine", sizes)
    return refused.value.problems


def test_the_site_decides_the_sizes(run_file: Path) -> None:
    config = load(run_file, BATCH_OF_64)
    site = site_with(run_file.parent)
    data, train, evaluate = plan_jobs(ALL, config, site, "mine", JobSizes(8, data_nodes=2))
    # 16 tasks of a core, and the nodes' 6 hours rather than the script's 12.
    assert [data.nodes, data.tasks_per_node, data.cores_per_task] == [2, 16, 1]
    assert [data.time_limit, data.core_hours, data.gpu_hours] == ["06:00:00", 2 * 16 * 6, 0]
    # A rank for each of 4 GPUs, which share 48 cores.
    assert [train.nodes, train.tasks_per_node, train.cores_per_task] == [8, 4, 12]
    assert [train.gpus_per_node, train.gpu_hours, train.most_jobs] == [4, 320, None]
    # Two tasks more than GPUs.
    assert [evaluate.nodes, evaluate.tasks_per_node, evaluate.cores_per_task] == [1, 6, 8]
    assert [data.after, train.after, evaluate.after] == [(), ("data",), ("train",)]


def test_only_what_is_asked_for_is_planned(run_file: Path) -> None:
    config = load(run_file)
    site = site_with(run_file.parent, "gpu_nodes.gpus=2")
    (evaluate,) = plan_jobs(["evaluate"], config, site, "mine", JobSizes(1))
    assert [evaluate.name, evaluate.after] == ["evaluate", ()]
    train, evaluate = plan_jobs(["train", "evaluate"], config, site, "mine", JobSizes(1))
    assert [train.after, evaluate.after] == [(), ("train",)]


def test_a_long_training_is_one_job_that_is_requeued(run_file: Path) -> None:
    config = load(run_file, BATCH_OF_64)
    sizes = JobSizes(2, time_limit="1:00:00", train_jobs=3)
    (train,) = plan_jobs(["train"], config, site_with(run_file.parent), "mine", sizes)
    assert [train.name, train.most_jobs, train.gpu_hours] == ["train", 3, 8]


def test_it_is_a_chain_where_the_site_does_not_requeue(run_file: Path) -> None:
    config = load(run_file, BATCH_OF_64)
    site = site_with(run_file.parent, "may_requeue=false")
    sizes = JobSizes(2, train_jobs=3)
    *chain, evaluate = plan_jobs(["train", "evaluate"], config, site, "mine", sizes)
    assert [job.name for job in chain] == ["train-1", "train-2", "train-3"]
    assert [job.after for job in chain] == [(), ("train-1",), ("train-2",)]
    assert [job.next_job for job in chain] == ["train-2", "train-3", None]
    assert {job.most_jobs for job in (*chain, evaluate)} == {1}
    assert evaluate.after == ("train-3",)
    script = batch_script(chain[0], site, "title", PATHS)
    assert "#SBATCH --no-requeue\n" in script
    assert "#SBATCH --requeue" not in script
    assert "export PIPELINE_NEXT_JOB=train-2\n" in script


def test_ranks_that_do_not_divide_the_batch_are_refused(run_file: Path) -> None:
    # 32 tokens = 4 sequences; a pass of 2 nodes x 4 ranks x 2 sequences has 16.
    settings = ["batch.micro_batch_sequences=1"]
    (problem,) = problems_of(run_file, JobSizes(2), settings)
    assert problem == (
        "batch.global_batch_tokens = 32: must be a multiple of 2 nodes x 4 ranks x "
        "batch.micro_batch_sequences = 1 x data.sequence_length = 8; set 64 or 128, or give --nodes 1"
    )
    (problem,) = problems_of(run_file, JobSizes(1))
    assert problem.endswith("set 64 or 128")


def test_ranks_must_fill_the_nodes(run_file: Path) -> None:
    site = site_with(run_file.parent)
    assert default_train_nodes(load(run_file), site) == 1
    eight = load(run_file, [*BATCH_OF_64, "launch.ranks=8"])
    assert default_train_nodes(eight, site) == 2
    with pytest.raises(ConfigError, match=r"launch\.ranks = 2: .* 4 ranks on a node; set 4 or 8"):
        default_train_nodes(load(run_file, ["launch.ranks=2"]), site)
    (problem,) = problems_of(run_file, JobSizes(1), [*BATCH_OF_64, "launch.ranks=8"])
    assert problem == ("launch.ranks = 8: must equal 1 nodes x 4 ranks; set launch.ranks to auto")


def test_sizes_beyond_the_site_are_refused_together(run_file: Path) -> None:
    sizes = JobSizes(16, data_nodes=3, time_limit="10:00:01")
    problems = problems_of(run_file, sizes, ["batch.global_batch_tokens=1024"])
    assert problems == [
        "--data-nodes = 3: the partition takes at most 2 nodes in a job; give fewer, or correct "
        "site.cpu_nodes.most_nodes",
        "--nodes = 16: gpu takes at most 8 nodes in a job; give fewer, or correct "
        "site.gpu_nodes.most_nodes",
        "--time = 10:00:01: a job may take 10:00:00 at most; give 10:00:00 or less, or correct "
        "site.gpu_nodes.longest_time",
    ]


def test_too_few_cores_are_refused(run_file: Path) -> None:
    cores = ["cpu_nodes.cores=2", "gpu_nodes.cores=5"]
    problems = problems_of(run_file, JobSizes(1), BATCH_OF_64, cores)
    assert [problem.partition(":")[0] for problem in problems] == [
        "site.cpu_nodes.cores = 2",
        "site.gpu_nodes.cores = 5",
    ]
    assert problems[0].endswith("give 3 cores or more")
    assert problems[1].endswith(
        "an evaluation has 6 tasks on a node of 4 ranks; give 6 cores or more"
    )


def test_the_script_is_the_shipped_one_with_the_sites_options(run_file: Path) -> None:
    site = site_with(
        run_file.parent,
        "account=me",
        "modules=[GCC/13]",
        "network_interfaces=[ib0, ib1]",
        "environment={A: it's, B: 2}",
        "options=[--exclusive]",
        "gpu_nodes.options=[--constraint=big]",
    )
    sizes = JobSizes(2, train_jobs=3)
    (train,) = plan_jobs(["train"], load(run_file, BATCH_OF_64), site, "mine", sizes)
    assert batch_script(train, site, "train-run", PATHS).splitlines() == [
        "#!/bin/bash",
        "# Written by `pipeline submit`. What the job does: the last line.",
        "#SBATCH --job-name=train-run",
        "#SBATCH --nodes=2",
        "#SBATCH --ntasks-per-node=4",
        "#SBATCH --cpus-per-task=12",
        "#SBATCH --time=10:00:00",
        "#SBATCH --signal=B:USR1@300",
        "#SBATCH --open-mode=append",
        "#SBATCH --output=/run/x-%j.out",
        "#SBATCH --chdir=/home/me",
        "#SBATCH --gpus-per-node=4",
        "#SBATCH --partition=gpu",
        "#SBATCH --account=me",
        "#SBATCH --requeue",
        "#SBATCH --exclusive",
        "#SBATCH --constraint=big",
        "module load GCC/13 || exit 1",
        "export PIPELINE=/bin/pipe",
        "export NCCL_SOCKET_IFNAME=ib0,ib1",
        "export WANDB_MODE=offline",
        "export A='it'\"'\"'s'",
        "export B=2",
        "export PIPELINE_MOST_REQUEUES=2",
        f"exec bash {(BATCH_SCRIPTS / 'train.sbatch').resolve()} /run/run.yaml",
    ]


@pytest.mark.parametrize("kind", ALL)
def test_a_shipped_script_signals_before_its_end_and_asks_for_no_network(kind: str) -> None:
    script = (BATCH_SCRIPTS / f"{kind}.sbatch").read_text()
    options = sbatch_options(script)
    assert options["requeue"] is None
    assert str(options["signal"]).startswith("B:USR1@")
    for variable in ("HF_HUB_OFFLINE=1", "HF_DATASETS_OFFLINE=1", "TRANSFORMERS_OFFLINE=1"):
        assert variable in script


@pytest.fixture
def sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in PATH, for a program that stands for Slurm's."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder / "sbatch"


def send(run_file: Path) -> list[SubmittedJob]:
    """Send a data job, a training and an evaluation."""
    config = load(run_file, BATCH_OF_64)
    jobs = plan_jobs(ALL, config, site_with(run_file.parent), "mine", JobSizes(1))
    scripts = {job.name: Path(f"/run/{job.name}.sbatch") for job in jobs}
    return send_jobs(jobs, scripts, config.paths.run_dir, "mine")


def answers(sbatch: Path, data: str, train: str) -> None:
    """Let sbatch run these lines of shell for the two jobs, and accept all others as job 43."""
    sbatch.write_text(
        f'#!/bin/sh\ncase "$*" in\n*data.sbatch) {data};;\n*train.sbatch) {train};;\n'
        "*) echo 43;;\nesac\n"
    )
    sbatch.chmod(0o755)


@pytest.mark.ranks
def test_jobs_are_sent_one_after_another(run_file: Path, sbatch: Path) -> None:
    answers(sbatch, "echo '41;cluster'", "echo 42")
    sent = send(run_file)
    assert [(job["name"], job["id"], job["after"]) for job in sent] == [
        ("data", "41", []),
        ("train", "42", ["41"]),
        ("evaluate", "43", ["42"]),
    ]
    assert submitted_jobs(load(run_file).paths.run_dir) == sent


@pytest.mark.ranks
def test_a_refusal_of_the_first_job_leaves_nothing_queued(run_file: Path, sbatch: Path) -> None:
    answers(sbatch, "printf 'invalid\\n account\\n' >&2; exit 1", "echo 42")
    with pytest.raises(UserError) as refused:
        send(run_file)
    assert str(refused.value) == (
        "sbatch refuses /run/data.sbatch: invalid account. Correct the site, then submit again."
    )
    assert submitted_jobs(load(run_file).paths.run_dir) == []


@pytest.mark.ranks
def test_a_refusal_of_a_later_job_names_those_that_are_queued(run_file: Path, sbatch: Path) -> None:
    answers(sbatch, "echo 41", "echo 'too many nodes' >&2; exit 1")
    with pytest.raises(UserError) as refused:
        send(run_file)
    assert str(refused.value) == (
        "sbatch refuses /run/train.sbatch: too many nodes. Correct the site. The jobs before it are "
        "queued: end them with `scancel 41`, then submit again; or let them run, and submit train "
        "after them."
    )
    assert [job["id"] for job in submitted_jobs(load(run_file).paths.run_dir)] == ["41"]


@pytest.mark.ranks
@pytest.mark.parametrize(("answer", "shown"), [("true", "nothing"), ("echo queued", "queued")])
def test_a_job_without_an_id_is_not_recorded(
    run_file: Path, sbatch: Path, answer: str, shown: str
) -> None:
    answers(sbatch, "echo 41", answer)
    with pytest.raises(UserError) as refused:
        send(run_file)
    assert str(refused.value) == (
        f"sbatch accepted /run/train.sbatch, but printed no job id ({shown}): the job may be queued, "
        "and is not recorded. Look for it with `squeue --me`, end it with `scancel ID`, then submit "
        "again. The jobs before it are queued: end them, too (`scancel 41`)."
    )
    assert [job["id"] for job in submitted_jobs(load(run_file).paths.run_dir)] == ["41"]
    answers(sbatch, answer, "echo 42")
    with pytest.raises(UserError, match=r"submit again\.$"):
        send(run_file)
