"""Names below data_dir, run_dir and tasks_dir: what earlier versions wrote is found again."""

from pathlib import Path

import pytest

from pipeline.config.run_file import load
from pipeline.store import layout
from pipeline.store.contamination_files import (
    SearchFolder,
    clean_scores_path,
    contaminated_items_path,
)
from pipeline.store.curation.annotation_folder import AnnotationFolder
from pipeline.store.layout import DataFolder, RunFolder
from pipeline.store.tasks_folder import VALIDATION, TasksFolder

DATA = {
    "raw_local_machine": "raw/local-machine",
    "documents": "documents",
    "documents_manifest": "documents/manifest.json",
    "tokenizer": "tokenizer",
    "tokenizer_manifest": "tokenizer/manifest.json",
    "tokenizer_statistics": "tokenizer/statistics.json",
    "tokens": "tokens",
    "tokens_manifest": "tokens/manifest.json",
    "packings": "packing",
    "readers": ".readers",
}
RUN = {
    "config": "config.yaml",
    "settings": "run.json",
    "recorded_tokens": "tokens.json",
    "data_outlook": "data.json",
    "deepspeed": "deepspeed.json",
    "launch_environment": "launch_environment",
    "start": ".start.json",
    "outcome": "outcome.json",
    "metrics": "metrics.jsonl",
    "abandoned_metrics": "metrics.abandoned.jsonl",
    "events": "events.jsonl",
    "heartbeats": "heartbeat",
    "stacks": "stacks",
    "stacks_request": "stacks/wanted",
    "logs": "logs",
    "launcher_log": "logs/launcher.log",
    "checkpoints": "checkpoints",
    "train_manifest": "checkpoints/manifest.json",
    "tensorboard": "tensorboard",
    "wandb_run_id": "wandb/run_id",
    "export": "export",
    "export_manifest": "export/manifest.json",
    "evaluation": "evaluation",
    "evaluation_manifest": "evaluation/manifest.json",
    "tasks": "evaluation/tasks",
    "report": "report.html",
    "report_manifest": "report.manifest.json",
    "tensorboard_of_scores": "tensorboard/scores",
    "wandb_id_of_scores": "wandb/scores_id",
}
ANNOTATIONS = {"path": "annotations", "manifest": "annotations/manifest.json"}
TASKS = {"downloads": ".downloads", "hub_revisions": "hub_revisions.json"}
"""On-disk format: other names would hide what is there."""


@pytest.mark.parametrize(
    ("folder", "names"),
    [(DataFolder, DATA), (RunFolder, RUN), (TasksFolder, TASKS), (AnnotationFolder, ANNOTATIONS)],
)
def test_names_stay_as_they_are(
    folder: type[DataFolder] | type[RunFolder] | type[TasksFolder] | type[AnnotationFolder],
    names: dict[str, str],
) -> None:
    root = folder(Path("/root"))
    properties = {name for name, value in vars(folder).items() if isinstance(value, property)} - {
        "name"
    }
    assert {name: str(getattr(root, name).relative_to("/root")) for name in properties} == names


def test_names_that_depend_on_numbers_stay_as_they_are() -> None:
    data = DataFolder(Path("/data"))
    run = RunFolder(Path("/run"))
    tasks = TasksFolder(Path("/tasks"))
    searches = SearchFolder(Path("/data"))
    assert [
        str(path)
        for path in (
            data.packings,
            data.packing(2048),
            data.pack_manifest(2048),
            data.reader_mark("ab"),
            data.passed_check("cd"),
            run.rollback(12, 3),
            run.heartbeat(7),
            run.stacks_of_rank(7),
            run.rank_log(12),
            run.checkpoint(1000),
            tasks.split("copa", "train"),
            tasks.source("copa"),
            tasks.items("copa"),
            searches.path,
            searches.passages("web", "copa", "ab"),
            searches.unfinished("cd"),
            searches.texts(searches.unfinished("cd"), "ef"),
            searches.shard(searches.unfinished("cd"), "web/train_0_000.parquet"),
            contaminated_items_path(run.evaluation, "copa"),
            clean_scores_path(run.evaluation),
            layout.manifest_path(Path("/x")),
            layout.lease_path(Path("/x")),
            layout.stage_seconds_path(Path("/x"), "train"),
            layout.task_records(Path("/x")),
            layout.scheduler_file(Path("/x"), "1-0"),
            layout.worker_logs(Path("/x")),
            layout.latest_path(Path("/x")),
            layout.unfinished_checkpoints(Path("/x")),
        )
    ] == [
        "/data/packing",
        "/data/packing/best-fit-2048",
        "/data/packing/best-fit-2048/pack.manifest.json",
        "/data/.readers/ab.json",
        "/data/.checked/cd.json",
        "/run/rollbacks/step_00000012_3.json",
        "/run/heartbeat/rank_00007",
        "/run/stacks/rank_00007.txt",
        "/run/logs/rank_00012.log",
        "/run/checkpoints/step_00001000",
        "/tasks/copa/train.parquet",
        "/tasks/copa/source.json",
        "/tasks/copa/items.parquet",
        "/data/contamination",
        "/data/contamination/web/copa-ab.parquet",
        "/data/contamination/.search-cd",
        "/data/contamination/.search-cd/texts-ef.parquet",
        "/data/contamination/.search-cd/web/train_0_000.parquet",
        "/run/evaluation/contamination/copa.parquet",
        "/run/evaluation/contamination/scores.jsonl",
        "/x/manifest.json",
        "/x/.lease.json",
        "/x/.train.seconds.json",
        "/x/.tasks",
        "/x/.dask-scheduler-1-0.json",
        "/x/.slurm-logs",
        "/x/latest",
        "/x/.partial",
    ]


def test_checkpoints_are_listed_by_step(tmp_path: Path) -> None:
    for name in ("step_00000010", "step_00000002", "step_00000002.old", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "step_00000003").write_text("a file")
    found = layout.checkpoint_folders(tmp_path)
    assert [layout.checkpoint_step(path) for path in found] == [2, 10]
    assert layout.checkpoint_folders(tmp_path / "none") == []


def test_only_complete_tasks_are_listed(tmp_path: Path) -> None:
    tasks = TasksFolder(tmp_path)
    for name in ("sciq", "copa"):
        tasks.task(name).mkdir()
        tasks.split(name, VALIDATION).touch()
    tasks.source("copa").touch()
    assert tasks.names() == ["copa"]
    assert tasks.splits("sciq") == {VALIDATION: tasks.split("sciq", "validation")}
    assert TasksFolder(tmp_path / "none").names() == []


def test_ranks_files_are_listed_in_their_order(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.rank_logs() == []
    for rank in (11, 2):
        for path in (run.rank_log(rank), run.stacks_of_rank(rank)):
            path.parent.mkdir(exist_ok=True)
            path.touch()
    run.launcher_log.touch()
    assert run.rank_logs() == [run.rank_log(2), run.rank_log(11)]
    assert run.written_stacks() == {2: run.stacks_of_rank(2), 11: run.stacks_of_rank(11)}


@pytest.mark.parametrize(("path", "name"), [("/runs/small/run", "small"), ("/runs/small", "small")])
def test_a_run_is_called_by_its_folder(path: str, name: str) -> None:
    assert RunFolder(Path(path)).name == name


def test_a_config_leads_to_both_roots(run_file: Path) -> None:
    config = load(run_file)
    assert layout.data_folder(config).path == config.paths.data_dir
    assert layout.run_folder(config).path == config.paths.run_dir
