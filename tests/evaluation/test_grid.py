"""All checkpoints of a run, their mean and a transformers folder, each scored once."""

import json
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import run_ranks
from training_data import write_run
from transformers import AutoModelForCausalLM

from pipeline.config.evaluation_section import Merge
from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import dump, load
from pipeline.errors import ConfigError, DataError, LeaseError, UserError
from pipeline.evaluation.cells import read_cell
from pipeline.evaluation.evaluate import evaluate, score_models
from pipeline.evaluation.export import export, export_steps
from pipeline.evaluation.merged import export_merge, merged_checkpoints, merged_weights
from pipeline.evaluation.models import checkpoint_weights
from pipeline.evaluation.models_to_score import models_to_score
from pipeline.evaluation.watch import watch
from pipeline.store.files import write_json
from pipeline.store.layout import run_folder
from pipeline.store.lease import Lease
from pipeline.store.scores_folder import ScoresFolder

pytestmark = pytest.mark.ranks
SMALL = (
    "evaluation.tasks=[arithmetic]",
    "evaluation.shots=[0, 1]",
    "evaluation.limit=6",
    "evaluation.heldout_bytes=0",
)


@pytest.fixture(scope="module")
def trained(tokenized: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run file of a run with checkpoints of steps 2, 4 and 6, the last one exported."""
    run_file = write_run(tokenized, tmp_path_factory.mktemp("grid"))
    overrides = [
        "train.train_tokens=1536",
        "schedule.warmup_tokens=0",
        "checkpoint.save_every_steps=2",
        "checkpoint.keep_last=3",
    ]
    outcome = run_ranks(run_file, 1, overrides)
    text = run_file.read_text().replace("train_tokens: 5120", "train_tokens: 1536")
    run_file.write_text(text.replace("warmup_tokens: 1024", "warmup_tokens: 0"))
    config = load(run_file)
    run_folder(config).config.write_text(dump(config))
    write_json(run_folder(config).train_manifest, {"counts": outcome["counts"]})
    exported = export(config)
    write_json(run_folder(config).export_manifest, {"counts": exported.counts})
    return run_file


def config_with(run_file: Path, models: str, *overrides: str) -> RunConfig:
    return load(run_file, [*SMALL, f"evaluation.models={models}", *overrides])


def table(config: RunConfig) -> list[dict[str, Any]]:
    path = ScoresFolder(run_folder(config).evaluation).table
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_checkpoint_is_scored_and_none_twice(trained: Path) -> None:
    config = config_with(trained, "[all]")
    counts = evaluate(config).counts
    names = [f"step_{step:08d}" for step in (2, 4, 6)]
    assert counts["models"] == names
    assert counts["model"] == names[-1]
    rows = [row for row in table(config) if (row["metric"], row["shots"]) == ("acc", 1)]
    assert [(row["step"], row["tokens"]) for row in rows] == [(2, 512), (4, 1024), (6, 1536)]

    # The exported folder has the weights of the last checkpoint, and so its cells.
    cells = ScoresFolder(run_folder(config).evaluation).stored_cells()
    before = [cell.rows.stat().st_mtime_ns for cell in cells]
    last = evaluate(config_with(trained, "[last, 4, {every: 3}]")).counts
    assert last["models"] == [names[2], names[1]]
    assert [cell.rows.stat().st_mtime_ns for cell in cells] == before
    assert ScoresFolder(run_folder(config).evaluation).stored_cells() == cells


def test_a_table_that_a_kill_has_left_behind_is_brought_up_to_date(trained: Path) -> None:
    config = config_with(trained, "[all]")
    evaluate(config)
    whole = table(config)
    path = ScoresFolder(run_folder(config).evaluation).table
    path.write_text("".join(f"{line}\n" for line in path.read_text().splitlines()[:3]))
    evaluate(config)
    assert table(config) == whole


def test_an_exported_folder_and_its_checkpoint_have_the_same_scores(trained: Path) -> None:
    config = config_with(trained, "[all]")
    evaluate(config)
    folder = run_folder(config).export / "step_00000006"
    elsewhere = config_with(trained, f"[{folder}, '{run_folder(config).path}@6']")
    names = evaluate(elsewhere).counts["models"]
    assert len({*names, "step_00000006"}) == 3
    scores = ScoresFolder(run_folder(config).evaluation)
    for shots in (0, 1):
        items = [
            read_cell(scores.cell(name, "arithmetic", shots, 1234)).items
            for name in ("step_00000006", *names)
        ]
        assert items[0] == items[1] == items[2]


def test_a_merge_is_the_sum_of_the_checkpoints_tensors(trained: Path) -> None:
    config = config_with(trained, "[{merge: {steps: [2, 6], weights: uniform}}]")
    (model,) = models_to_score(config)
    merged = model.load().model.state_dict()
    parts = [checkpoint_weights(run_folder(config).checkpoint(step)) for step in (2, 6)]
    for name in parts[0].shapes:
        first, last = (part.read(name) for part in parts if part.read is not None)
        assert torch.equal(merged[name], first * 0.5 + last * 0.5), name
    counts = evaluate(config).counts
    assert counts["models"] == [model.name]
    assert counts["scores"][0]["items"] == 6

    # Its cells name the parts, and those of other models none.
    evaluate(config_with(trained, "[2]"))
    run = run_folder(config)
    scores = ScoresFolder(run.evaluation)
    merge = read_cell(scores.cell(model.name, "arithmetic", 0, 1234)).result["provenance"]
    assert merge["title"] == f"{run.name}, uniform merge of steps 2 and 6"
    assert merge["merge"] == {"coefficients": {f"{run.name}@2": 0.5, f"{run.name}@6": 0.5}}
    single = read_cell(scores.cell("step_00000002", "arithmetic", 0, 1234)).result["provenance"]
    assert single["merge"] == {"coefficients": {}}


def test_a_merge_and_any_checkpoint_can_be_exported(trained: Path, tmp_path: Path) -> None:
    config = load(trained)
    export_steps(config, [2, 4])
    for step in (2, 4):
        folder = run_folder(config).export / f"step_{step:08d}"
        model = AutoModelForCausalLM.from_pretrained(folder)
        weights = checkpoint_weights(run_folder(config).checkpoint(step))
        assert weights.read is not None
        own = dict(model.named_parameters())
        assert all(torch.equal(own[name], weights.read(name)) for name in own)
        assert f"| steps | {step} |" in (folder / "README.md").read_text()

    output = tmp_path / "merged"
    export_merge(config, Merge(last=2, weights="minus-sqrt"), output)
    record = json.loads((output / "merge.json").read_text())
    coefficients = {name: part["coefficient"] for name, part in record["checkpoints"].items()}
    assert list(coefficients) == ["step_00000004", "step_00000006"]
    assert list(coefficients.values()) == pytest.approx([2 / 3, 1 / 3])
    assert "0.666667 x step 4 + 0.333333 x step 6" in (output / "README.md").read_text()
    (scored,) = models_to_score(config_with(trained, "[{merge: {last: 2, weights: minus-sqrt}}]"))
    here = scored.load().model.state_dict()
    there = AutoModelForCausalLM.from_pretrained(output).state_dict()
    assert all(torch.equal(here[name], tensor) for name, tensor in there.items())
    with pytest.raises(UserError, match="exists already"):
        export_merge(config, Merge(last=2), output)
    with pytest.raises(
        UserError, match="no such checkpoint; complete checkpoints exist for step 2, 4, 6"
    ):
        export_steps(config, [5])


def test_a_merge_of_one_checkpoint_is_that_checkpoint(trained: Path) -> None:
    config = config_with(trained, "[{merge: {last: 1, weights: linear}}]")
    (merged,) = models_to_score(config)
    (alone,) = models_to_score(config_with(trained, "[6]"))
    tensors = alone.load().model.state_dict()
    assert all(
        torch.equal(tensor, tensors[name])
        for name, tensor in merged.load().model.state_dict().items()
    )


def test_a_merge_has_the_same_bits_in_any_order_of_the_steps(trained: Path) -> None:
    run_dir = run_folder(load(trained)).path
    one, other = (
        merged_weights(merged_checkpoints(run_dir, Merge(steps=steps)), [0.2, 0.3, 0.5])
        for steps in ((2, 4, 6), (6, 2, 4))
    )
    assert one.read is not None
    assert other.read is not None
    assert all(torch.equal(one.read(name), other.read(name)) for name in one.shapes)


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ("[5]", "holds no complete checkpoint of step 5; there are 2, 4, 6"),
        ("[{merge: {last: 9}}]", "merge.last = 9: .* holds 3 complete checkpoints"),
        ("[{merge: {steps: [2, 5]}}]", "holds no complete checkpoint of step 5"),
        ("[{merge: {weights: uniform}}]", "needs either `last` or `steps`"),
        ("[nowhere]", "nowhere is no folder; name a transformers folder"),
    ],
)
def test_models_that_are_not_there_are_named(trained: Path, models: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        models_to_score(config_with(trained, models))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_checkpoint_that_is_deleted_while_others_are_scored_costs_only_itself(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    run = tmp_path / "run"
    shutil.copytree(run_folder(load(trained)).checkpoints, run / "checkpoints")
    settings = (f"paths.run_dir={run}", "evaluation.shots=[0]", f"evaluation.workers={workers}")
    config = config_with(trained, "[2, 4, 6]", *settings)
    deleted = run / "checkpoints" / "step_00000004"

    def delete_then_score(*arguments: Any) -> None:
        shutil.rmtree(deleted)
        score_models(*arguments)

    monkeypatch.setattr("pipeline.evaluation.evaluate.score_models", delete_then_score)
    with pytest.raises(DataError) as refused:
        evaluate(config)
    text = str(refused.value)
    assert f"@4: {deleted} was deleted while models were scored" in text
    assert "Leave it out of evaluation.models, or restore it" in text
    assert {row["step"] for row in table(config)} == {2, 6}


def test_a_watch_scores_the_newest_checkpoint_of_a_finished_run_and_ends(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorboard", reason="needs the extra `trackers`")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = tmp_path / "run"
    shutil.copytree(run_folder(load(trained)).checkpoints, run / "checkpoints")
    config = config_with(
        trained,
        "[last]",
        f"paths.run_dir={run}",
        "evaluation.shots=[0]",
        "logging.trackers=[tensorboard]",
    )
    watch(config)
    events = EventAccumulator(str(run / "tensorboard" / "scores"))
    events.Reload()
    (logged,) = events.Scalars("arithmetic/acc/k0")
    (row,) = [row for row in table(config) if row["metric"] == "acc"]
    assert (logged.step, logged.value) == (6, pytest.approx(row["value"]))
    assert [row["step"] for row in table(config) if row["metric"] == "acc"] == [6]
    assert "skipped 2 checkpoints before step_00000006" in capsys.readouterr().err
    with Lease(run / "evaluation", "another"), pytest.raises(LeaseError, match="another"):
        watch(config)


def test_a_checkpoint_that_is_deleted_under_a_watch_is_said(
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Beside the lease, which keeps the run itself from it: by hand, or from another machine."""
    run = tmp_path / "run"
    shutil.copytree(run_folder(load(trained)).checkpoints, run / "checkpoints")
    config = config_with(trained, "[last]", f"paths.run_dir={run}", "evaluation.shots=[0]")

    def delete_then_score(*arguments: Any) -> None:
        shutil.rmtree(run / "checkpoints" / "step_00000006")
        score_models(*arguments)

    monkeypatch.setattr("pipeline.evaluation.watch.score_models", delete_then_score)
    watch(config)
    assert "step_00000006 was removed while it was read" in capsys.readouterr().err
    assert not any(row["step"] == 6 for row in table(config))


def test_a_checkpoint_that_is_pruned_before_its_lease_is_skipped_and_not_made_anew(
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = tmp_path / "run"
    shutil.copytree(run_folder(load(trained)).checkpoints, run / "checkpoints")
    config = config_with(trained, "[last]", f"paths.run_dir={run}", "evaluation.shots=[0]")
    pruned = run / "checkpoints" / "step_00000006"

    def prune_then_lease(folder: Path, purpose: str, **options: bool) -> Lease:
        if folder == pruned:
            shutil.rmtree(pruned)
        return Lease(folder, purpose, **options)

    monkeypatch.setattr("pipeline.evaluation.watch.Lease", prune_then_lease)
    watch(config)
    assert "step_00000006 was removed while it was read" in capsys.readouterr().err
    assert not pruned.exists()


def test_a_watch_waits_for_its_run_and_ends_before_the_later_stages(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    config = config_with(trained, "[last]", f"paths.run_dir={run}", "evaluation.shots=[0]")
    watching = threading.Thread(target=watch, args=(config,))
    watching.start()
    said = ""
    while f"nobody trains {run} yet; waiting for it" not in said:
        time.sleep(0.1)
        said += capsys.readouterr().err

    # `pipeline run` holds the folder for its stages after training.
    with Lease(run, "pipeline evaluate"):
        shutil.copytree(run_folder(load(trained)).checkpoints, run / "checkpoints")
        shutil.copytree(run_folder(load(trained)).export, run / "export")
        counts = evaluate(config).counts
    watching.join()
    assert counts["models"] == ["step_00000006"]
    said += capsys.readouterr().err
    assert "the run has ended; all its newest checkpoints are scored" in said
    # The cells that the watch has made are taken over.
    assert said.count(": 1 cell in ") == 1
