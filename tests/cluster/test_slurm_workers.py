"""Text to tokens, with annotations and verdicts, by workers that Slurm started, in an allocation and
as jobs: the same bytes as in one process."""

import json
import os
import random
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from helpers import digests, run_stages
from one_host_slurm import job_state, one_host_slurm, wait_for
from training_data import write_run

from pipeline.config.run_file import load
from pipeline.store.files import read_json
from pipeline.store.scores_folder import ScoresFolder

pytestmark = [pytest.mark.cluster, pytest.mark.ranks]

TWO_LISTS = Path(__file__).with_name("two_lists.py")
SBATCH = Path(__file__).parents[2] / "jobs" / "slurm" / "data.sbatch"
STAGES = ["prepare", "annotate", "select", "train-tokenizer", "tokenize"]
CORPUS = """\
paths: {data_dir: data, run_dir: run}
sources:
  web: {kind: jsonl, paths: [web.jsonl]}
  books: {kind: jsonl, paths: [books.jsonl]}
prepare: {shard_text_bytes: 2500, validation_fraction: 0.2}
tokenizer: {kind: byte-level-bpe, vocab_size: 270}
annotate: {signals: [redpajama-v2, gopher], language: false}
select:
  rules: ["rps_doc_word_count >= 10"]
  exact_duplicates: [text_hash]
  near_duplicates: {threshold: 0.8}
  paragraph_duplicates: {fewest_characters: 20}
  pii: replace
  max_removed: {default: 0.5}
"""
REMOVED = {"exact-duplicate", "near-duplicate", "rule-rps_doc_word_count-10"}
"""Lists of removed documents: each kind of verdict takes part."""
JOBS = [
    "executor.kind=slurm",
    "executor.workers=2",
    "executor.memory_per_worker=1000000000",
    "executor.partition=main",
    "executor.time_limit=00:10:00",
    "executor.job_options=[--comment=text]",
]
"""Workers that a login node asks Slurm for: two jobs of one worker."""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    # No node fails here, however busy the machine is: its jobs would be sent again, and counted.
    folder = tmp_path_factory.mktemp("slurm")
    with one_host_slurm(folder, nodes=2, node_seconds=300) as environment:
        yield {**environment, "PIPELINE": str(Path(sys.executable).with_name("pipeline"))}


def document(seed: int, changed: int = 0) -> str:
    """Return 50 words, of which some at the end differ from those of the same seed."""
    words = [f"word{number}" for number in random.Random(seed).choices(range(300), k=50)]
    return " ".join([*words[: 50 - changed], *(f"other{seed}x{n}" for n in range(changed))])


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run file of two sources, whose second one has copies of documents of the first."""
    folder = tmp_path_factory.mktemp("corpus")
    repeated = "A paragraph that stands in documents of both sources, word for word."
    web = [*map(document, range(40)), f"{document(40)}\n{repeated}", "Too short."]
    books = [
        *map(document, range(100, 130)),
        *map(document, range(4)),
        *(document(seed, changed=1 + seed % 3) for seed in range(10, 18)),
        f"{repeated}\n{document(140)} write to jane@example.org",
    ]
    for name, texts in (("web", web), ("books", books)):
        rows = [json.dumps({"text": text}) + "\n" for text in texts]
        (folder / f"{name}.jsonl").write_text("".join(rows))
    run_file = folder / "run.yaml"
    run_file.write_text(CORPUS)
    return run_file


@pytest.fixture(scope="module")
def expected(corpus: Path) -> dict[str, str]:
    """Return the digests of what one process makes of the corpus."""
    alone = corpus.parent / "alone"
    run_stages(corpus, STAGES, [f"paths.data_dir={alone}"], whole_proof=True)
    assert {path.stem for path in (alone / "selection" / "removed").iterdir()} == REMOVED
    return digests(alone)


def output_of_job(slurm: dict[str, str], folder: Path, arguments: list[str]) -> str:
    """Submit a job, check that it completes without a word of errors, return what it printed."""
    output = folder / "slurm.out"
    submitted = subprocess.run(
        ["sbatch", "--parsable", f"--output={output}", *arguments],
        capture_output=True,
        text=True,
        env=slurm,
        cwd=folder,
    )
    assert submitted.returncode == 0, submitted.stderr
    job = submitted.stdout.strip()
    wait_for(lambda: job_state(slurm, job) not in ("PENDING", "RUNNING"), 600, output)
    printed = output.read_text()
    assert job_state(slurm, job) == "COMPLETED", printed
    assert "Traceback" not in printed and "Error" not in printed, printed
    return printed


def test_the_tasks_of_a_step_share_the_work(
    slurm: dict[str, str], corpus: Path, expected: dict[str, str], tmp_path: Path
) -> None:
    options = ["--nodes=2", "--ntasks-per-node=2", "--mem-per-cpu=1G"]
    data = tmp_path / "data"
    settings = [f"paths.data_dir={data}"]
    printed = output_of_job(slurm, tmp_path, [*options, str(SBATCH), str(corpus), *settings])
    assert digests(data) == expected
    assert list(data.glob("*/.dask-scheduler-*")) == []
    for stage in STAGES:
        assert printed.count(f"{stage}: done in") == 1


def test_jobs_are_sent_once_for_all_rounds_also_after_a_kill(
    slurm: dict[str, str], corpus: Path, expected: dict[str, str], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    settings = [*JOBS, f"paths.data_dir={data}"]
    command = [sys.executable, "-m", "pipeline", "run", str(corpus), *settings]

    # The client is killed in the middle of the rounds of `select`; its jobs end.
    jobs_before = count_jobs(slurm)
    with (tmp_path / "killed.txt").open("w") as output:
        killed = subprocess.Popen(command, stdout=output, stderr=output, env=slurm)
        deadline = time.monotonic() + 240
        while not list(data.glob("selection/.comparison/*/*")):
            assert killed.poll() is None and time.monotonic() < deadline, output.name
            time.sleep(0.01)
        killed.kill()
        killed.wait()
    assert not (data / "selection" / "manifest.json").exists()
    wait_for(lambda: not jobs(slurm), 120, tmp_path / "killed.txt")
    assert count_jobs(slurm) - jobs_before == 2

    # The next start goes on, with two jobs for all rounds of all stages.
    ended = subprocess.run(command, capture_output=True, text=True, env=slurm, timeout=240)
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr and "Error" not in ended.stderr, ended.stderr
    assert digests(data) == expected
    assert ended.stderr.count("waiting for Slurm to start 2 workers") == 1
    assert count_jobs(slurm) - jobs_before == 4
    assert list(data.glob("*/.slurm-logs/*.err")), "the workers were jobs"
    wait_for(lambda: not jobs(slurm), 30, tmp_path)
    assert read_json(data / "tokens" / "manifest.json")["counts"]["encoders"] == {
        "gigatoken": len(list((data / "documents").glob("*/*.parquet")))
    }


def test_the_tasks_of_a_step_score_what_one_process_scores(
    slurm: dict[str, str], tokenized: Path, tmp_path: Path
) -> None:
    run_file = write_run(tokenized, tmp_path)
    steps = ["train.train_tokens=1536", "schedule.warmup_tokens=0", "checkpoint.save_every_steps=3"]
    asked = [
        *steps,
        "evaluation.limit=40",
        "evaluation.models=[all]",
        "evaluation.tasks=[arithmetic, patterns]",
    ]
    for stage in ("train", "export", "evaluate"):
        ended = subprocess.run(
            [sys.executable, "-m", "pipeline", stage, run_file, *asked],
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert ended.returncode == 0, ended.stderr
    folder = ScoresFolder(load(run_file).paths.run_dir / "evaluation")
    places = folder.stored_cells()
    expected = [place.rows.read_bytes() for place in places]
    table = folder.table.read_bytes()
    assert len(places) > 10
    for place in places[1:]:
        place.result.unlink()
        place.rows.unlink()

    script = str(SBATCH.with_name("evaluate.sbatch"))
    options = ["--nodes=2", "--ntasks-per-node=2", "--gpus-per-node=0", "--cpus-per-task=1"]
    output_of_job(slurm, tmp_path, [*options, script, str(run_file), *asked])
    assert folder.stored_cells() == places
    assert [place.rows.read_bytes() for place in places] == expected
    assert folder.table.read_bytes() == table


def jobs(slurm: dict[str, str], *options: str) -> str:
    return subprocess.run(
        ["squeue", "-h", *options], capture_output=True, text=True, env=slurm, check=True
    ).stdout


def count_jobs(slurm: dict[str, str]) -> int:
    """Return the number of jobs that Slurm has seen, ended ones included."""
    return len(jobs(slurm, "--states=all").splitlines())


STEP = ["--nodes=2", "--ntasks=4", "--mem-per-cpu=1G"]
"""A scheduler, a client and two workers."""


@pytest.mark.parametrize("form", ["step of a job", "step", "sent jobs"])
def test_two_lists_share_one_set_of_workers(
    slurm: dict[str, str], tmp_path: Path, form: str
) -> None:
    settings = {"kind": "slurm", "workers": 2, "memory_per_worker": 10**9, "partition": "main"}
    program = [sys.executable, str(TWO_LISTS), str(tmp_path), json.dumps(settings)]
    command = {
        "step of a job": ["sbatch", "--wait", *STEP, f"--output={tmp_path}/slurm-1.out"],
        "step": ["srun", *STEP, *program],
        "sent jobs": program,
    }[form]
    if form == "step of a job":
        command += ["--wrap", f"srun {shlex.join(program)}"]
    jobs_before = count_jobs(slurm)
    environment = {**slurm, "PYTHONPATH": str(Path(__file__).parents[2])}
    ended = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=120
    )
    printed = ended.stderr + "".join(path.read_text() for path in tmp_path.glob("*.out"))
    assert ended.returncode == 0, printed
    assert "Traceback" not in printed, printed

    # Both workers took part in both lists, and no job came after the first list.
    first, second = read_json(tmp_path / "lists.json")
    processes = {task["process"] for task in first}
    assert len(first) == len(second) == 40
    assert len(processes) == 2
    assert {task["process"] for task in second} == processes
    new_jobs = count_jobs(slurm) - jobs_before
    assert new_jobs == (2 if form == "sent jobs" else 1)
    assert len({task["job"] for task in [*first, *second]}) == new_jobs
    wait_for(lambda: not jobs(slurm), 30, tmp_path)


def test_a_job_that_slurm_would_not_take_is_said(slurm: dict[str, str], run_file: Path) -> None:
    settings = ["executor.kind=slurm", "executor.workers=1", "executor.partition=nosuch"]
    ended = subprocess.run(
        [sys.executable, "-m", "pipeline", "prepare", run_file, *settings],
        capture_output=True,
        text=True,
        env=slurm,
        timeout=60,
    )
    assert ended.returncode == 2, ended.stderr
    assert "sbatch rejects the workers' jobs" in ended.stderr
    assert (
        "Invalid partition name specified" in ended.stderr
        or "invalid partition" in ended.stderr.lower()
    )
    assert "broken file" not in ended.stderr and "Traceback" not in ended.stderr


def test_a_step_that_loses_a_worker_goes_on(
    slurm: dict[str, str], corpus: Path, expected: dict[str, str], tmp_path: Path
) -> None:
    command = ["srun", "--nodes=2", "--ntasks=4", slurm["PIPELINE"], "prepare", str(corpus)]
    step = subprocess.Popen(
        [*command, "executor.kind=slurm", f"paths.data_dir={tmp_path / 'data'}"],
        env={**os.environ, **slurm},
        stderr=subprocess.PIPE,
        text=True,
    )
    killed = False
    while step.poll() is None and not killed:
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                is_worker = any("spawn_main" in part for part in process.cmdline())
                if is_worker and process.environ().get("SLURM_CONF") == slurm["SLURM_CONF"]:
                    process.kill()
                    killed = True
                    break
    _, errors = step.communicate(timeout=120)
    assert killed
    assert step.returncode == 0, errors
    documents = {name: digest for name, digest in expected.items() if name.startswith("documents/")}
    assert digests(tmp_path / "data") == documents


def test_too_small_a_step_is_refused(slurm: dict[str, str], run_file: Path) -> None:
    command = [
        "srun",
        "--nodes=1",
        "--ntasks=2",
        slurm["PIPELINE"],
        "prepare",
        str(run_file),
        "executor.kind=slurm",
    ]
    ended = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **slurm}, timeout=60
    )
    assert ended.returncode == 2
    assert (
        "srun --ntasks=2: one task schedules, one directs, the others work; use 3 or more"
        in ended.stderr
    )
