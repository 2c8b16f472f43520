"""Drives the stage on a random tiny model and compares it with lm-eval's own way to the same
tasks."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from heldout import write_heldout
from own_tasks import GENERATION, QUESTIONS, write_task

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.errors import ConfigError, DataError
from pipeline.evaluation.cells import read_cell
from pipeline.evaluation.evaluate import evaluate, evaluation_inputs
from pipeline.evaluation.known_tasks import find_tasks
from pipeline.evaluation.published import publish_tokenizer
from pipeline.evaluation.results import CellResult
from pipeline.evaluation.score_table import metrics_of
from pipeline.store.artifacts import Result
from pipeline.store.environment import environment
from pipeline.store.layout import run_folder
from pipeline.store.scores_folder import FIRST_SEED, CellPlace, ScoresFolder
from pipeline.tokens.tokenizer_folder import write

END = "<|endoftext|>"


def write_model(folder: Path, max_tokens: int = 512, seed: int = 0) -> None:
    """Save a random llama over single bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(
        models.BPE(vocab={c: i for i, c in enumerate([END, *alphabet])}, merges=[])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    write(tokenizer, folder / "tokenizer", END, None)
    publish_tokenizer(folder / "tokenizer", folder, parse_special_tokens=False)
    torch.manual_seed(seed)
    sizes = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    config = LlamaConfig(
        **sizes, vocab_size=257, max_position_embeddings=max_tokens, bos_token_id=0, eos_token_id=0
    )
    LlamaForCausalLM(config).save_pretrained(folder)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with held-out documents and an exported model."""
    root = tmp_path_factory.mktemp("evaluation")
    write_heldout(
        root / "data" / "documents", {"web": 30, "code": 30}, also=(END,)
    )  # in a document: text
    write_model(root / "run" / "export" / "step_00000010")
    (root / "run" / "export" / "manifest.json").write_text(
        json.dumps({"counts": {"folder": "step_00000010"}})
    )
    return root


def run_config(run_file: Path, made: Path, *overrides: str) -> RunConfig:
    paths = [f"paths.data_dir={made / 'data'}", f"paths.run_dir={made / 'run'}"]
    sources = ["sources.code={kind: jsonl, paths: [web.jsonl]}"]
    small = ["evaluation.limit=24", "evaluation.shots=[0, 2]", "evaluation.heldout_bytes=3000"]
    reference = "evaluation.scorer=harness"
    return load(run_file, [*paths, *sources, *small, reference, *overrides])


@pytest.fixture(scope="module")
def scored(made: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunConfig, Result]:
    from conftest import RUN_FILE

    run_file = tmp_path_factory.mktemp("file") / "run.yaml"
    run_file.write_text(RUN_FILE)
    config = run_config(run_file, made)
    return config, evaluate(config)


def row(result: Result, task: str, metric: str, shots: int) -> dict[str, Any]:
    (found,) = [
        r
        for r in result.counts["scores"]
        if (r["task"], r["metric"], r["shots"]) == (task, metric, shots)
    ]
    return found


def cell_place(config: RunConfig, task: str, shots: int, model: str = "step_00000010") -> CellPlace:
    return ScoresFolder(run_folder(config).evaluation).cell(model, task, shots, FIRST_SEED)


def cell_result(config: RunConfig, task: str, shots: int) -> CellResult:
    return read_cell(cell_place(config, task, shots)).result


def test_every_task_has_both_metrics_with_standard_errors(scored: tuple[RunConfig, Result]) -> None:
    for task, items in {
        "heldout_cloze": 24,
        "patterns": 24,
        "pattern_copy": 8,
        "arithmetic": 24,
    }.items():
        for metric in ("acc", "acc_mutual_info"):
            for shots in (0, 2):
                found = row(scored[1], task, metric, shots)
                assert (found["items"], found["chance"]) == (items, 0.25)
                assert 0 <= found["value"] <= 1
                assert found["standard_error"] > 0 or found["value"] in (0, 1)


@pytest.mark.ranks
def test_lm_eval_itself_gives_the_same_numbers_from_the_task_folder(
    scored: tuple[RunConfig, Result], tmp_path: Path
) -> None:
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    run_dir = scored[0].paths.run_dir
    moved = tmp_path / "elsewhere"  # the folder holds no absolute path
    shutil.copytree(run_dir / "evaluation" / "tasks", moved)
    results = simple_evaluate(
        model="hf",
        model_args={"pretrained": str(run_dir / "export" / "step_00000010")},
        tasks=["heldout_cloze", "patterns", "arithmetic", "heldout_bpb_web"],
        num_fewshot=2,
        samples={
            "heldout_cloze": list(range(24)),
            "arithmetic": list(range(24)),
            **{f"pattern_{kind}": list(range(8)) for kind in ("copy", "alternate", "count")},
        },
        batch_size=4,
        device="cpu",
        task_manager=TaskManager(include_path=str(moved), include_defaults=False),
        bootstrap_iters=10,
        log_samples=False,
    )
    assert results is not None
    theirs = {
        (task, metric): (value, error)
        for task, values in results["results"].items()
        for metric, value, error in metrics_of(values)
        if metric != "bits_per_byte"
    }
    ours = {
        (r["task"], r["metric"]): (r["value"], r["standard_error"])
        for r in scored[1].counts["scores"]
        if r["shots"] == 2
    }
    assert theirs == ours
    bits = results["results"]["heldout_bpb_web"]["bits_per_byte,none"]
    assert scored[1].counts["bits_per_byte"]["web"]["value"] == pytest.approx(bits, abs=1e-6)


def test_sharing_contexts_changes_scores_by_rounding_only(
    scored: tuple[RunConfig, Result], made: Path, tmp_path: Path
) -> None:
    shutil.copytree(made / "run" / "export", tmp_path / "run" / "export")
    paths = scored[0].paths.model_copy(update={"run_dir": tmp_path / "run"})
    settings = scored[0].evaluation.model_copy(update={"scorer": "sharing"})
    config = scored[0].model_copy(update={"paths": paths, "evaluation": settings})
    result = evaluate(config)
    assert result.counts["scores"] == scored[1].counts["scores"]
    for task, shots in (("heldout_cloze", 2), ("pattern_count", 0), ("heldout_bpb_web", 0)):
        shared = read_cell(cell_place(config, task, shots))
        assert shared.result["provenance"]["scorer"] == "sharing"
        reference = read_cell(cell_place(scored[0], task, shots))
        assert reference.result["provenance"]["scorer"] == "harness"
        for one, other in zip(shared.items, reference.items, strict=True):
            for answer, expected in zip(one["answers"], other["answers"], strict=True):
                nats = expected["log_likelihood"]
                assert abs(answer["log_likelihood"] - nats) < 1e-4 * max(1, -nats / 100)
                assert answer | {"log_likelihood": 0, "unconditional": 0} == expected | {
                    "log_likelihood": 0,
                    "unconditional": 0,
                }


def test_bits_per_byte_is_the_models_loss_on_these_bytes(scored: tuple[RunConfig, Result]) -> None:
    run_dir = scored[0].paths.run_dir
    lines = (run_dir / "evaluation" / "tasks" / "heldout_bpb_code.jsonl").read_text().splitlines()
    model = LlamaForCausalLM.from_pretrained(run_dir / "export" / "step_00000010")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(run_dir / "export" / "step_00000010")
    nats, size = 0.0, 0
    for text in (json.loads(line)["text"] for line in lines):
        ids = [0, *tokenizer(text)["input_ids"]]
        for start in range(
            0, len(ids) - 1, 512
        ):  # windows of 512 predicted tokens, each after the token before it
            window = torch.tensor([ids[start : start + 513]])
            with torch.no_grad():
                logs = model(window[:, :-1]).logits.log_softmax(-1)
            nats -= logs.gather(2, window[:, 1:, None]).sum().item()
        size += len(text.encode())
    entry = scored[1].counts["bits_per_byte"]["code"]
    assert entry["bytes"] == size == 3000
    # The harness lets the last, shorter window look back further; the random model gains nothing
    # from that.
    assert entry["value"] == pytest.approx(nats / size / 0.6931472, abs=0.01)


def test_cells_carry_provenance_and_are_kept(scored: tuple[RunConfig, Result]) -> None:
    config, first = scored
    asked = [("arithmetic", 0), ("arithmetic", 2), ("pattern_copy", 2), ("heldout_bpb_web", 0)]
    places = [cell_place(config, task, shots) for task, shots in asked]
    for place, (task, shots) in zip(places, asked, strict=True):
        provenance = read_cell(place).result["provenance"]
        assert (provenance["model"], provenance["shots"]) == ("step_00000010", shots)
        assert provenance["batch_sequences"] == config.evaluation.batch_sequences
        assert f"cells/step_00000010/{task}/k{shots}.parquet" in first.files
    before = [place.rows.stat().st_mtime_ns for place in places]
    places[1].result.unlink()  # as if interrupted
    places[3].rows.write_bytes(places[3].rows.read_bytes()[:-100])  # as if the disk had been full
    again = evaluate(config)
    assert again.counts == first.counts
    after = [place.rows.stat().st_mtime_ns for place in places]
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, False, True, False]


def test_a_smaller_limit_costs_no_scores_and_a_larger_one_adds_questions(
    made: Path, run_file: Path, tmp_path: Path
) -> None:
    shutil.copytree(made / "run" / "export", tmp_path / "run" / "export")
    write_task(tmp_path / "own", "parity")
    asked = (
        "evaluation.tasks=[parity]",
        f"evaluation.task_paths=[{tmp_path / 'own'}]",
        "evaluation.shots=[0]",
        "evaluation.heldout_bytes=0",
        f"paths.run_dir={tmp_path / 'run'}",
    )
    items: list[int] = []
    for limit in (3, 5, 2, None):
        config = run_config(run_file, made, *asked, f"evaluation.limit={limit or 'null'}")
        evaluate(config)
        items.append(cell_result(config, "parity", 0)["provenance"]["items"])
    assert items == [3, 5, 5, 6]


def test_a_smaller_limit_or_other_shots_score_no_built_in_task_again(
    made: Path, run_file: Path, tmp_path: Path
) -> None:
    shutil.copytree(made / "run" / "export", tmp_path / "run" / "export")
    small = (
        "evaluation.tasks=[arithmetic, pattern_copy]",
        "evaluation.heldout_bytes=0",
        f"paths.run_dir={tmp_path / 'run'}",
    )
    items: list[tuple[int, int]] = []
    times: list[int] = []
    for limit, shots in ((12, "[0]"), (6, "[0, 1]"), (15, "[0]")):
        config = run_config(
            run_file, made, *small, f"evaluation.limit={limit}", f"evaluation.shots={shots}"
        )
        evaluate(config)
        results = [cell_result(config, task, 0) for task in ("arithmetic", "pattern_copy")]
        items.append(tuple(result["provenance"]["items"] for result in results))
        times.append(cell_place(config, "arithmetic", 0).rows.stat().st_mtime_ns)
    assert items == [(12, 4), (12, 4), (15, 5)]
    assert times[0] == times[1] != times[2]
    assert cell_result(config, "arithmetic", 1)["provenance"]["items"] == 6


def test_cells_of_the_other_scorer_are_kept_and_named(
    made: Path, run_file: Path, tmp_path: Path
) -> None:
    shutil.copytree(made / "run" / "export", tmp_path / "run" / "export")
    small = ("evaluation.heldout_bytes=0", f"paths.run_dir={tmp_path / 'run'}")
    one = "evaluation.tasks=[arithmetic]"
    two = "evaluation.tasks=[arithmetic, pattern_copy]"
    shared = evaluate(run_config(run_file, made, *small, one, "evaluation.scorer=sharing"))
    assert shared.closing == []
    config = run_config(run_file, made, *small, two)
    name = run_folder(config).name
    for _ in range(2):
        (line,) = evaluate(config).closing
        assert line == (
            f"scorer: kept 2 cells of {name}@10 that sharing has made, not harness as evaluation.scorer "
            "asks for now; the scores differ by rounding only. To score them again, delete them "
            f"below {tmp_path / 'run' / 'evaluation' / 'cells'}"
        )
    scorers = [
        cell_result(config, task, 0)["provenance"]["scorer"]
        for task in ("arithmetic", "pattern_copy")
    ]
    assert scorers == ["sharing", "harness"]


def test_one_more_task_costs_only_itself_and_removes_none(
    made: Path, run_file: Path, tmp_path: Path
) -> None:
    shutil.copytree(made / "run" / "export", tmp_path / "run" / "export")
    small = ("evaluation.heldout_bytes=0", f"paths.run_dir={tmp_path / 'run'}")
    first = run_config(run_file, made, "evaluation.tasks=[arithmetic]", *small)
    evaluate(first)
    before = cell_place(first, "arithmetic", 2).rows.stat().st_mtime_ns
    more = run_config(run_file, made, "evaluation.tasks=[arithmetic, pattern_copy]", *small)
    evaluate(more)
    assert cell_place(first, "arithmetic", 2).rows.stat().st_mtime_ns == before
    fewer = evaluate(run_config(run_file, made, "evaluation.tasks=[pattern_copy]", *small))
    assert {row["task"] for row in fewer.counts["scores"]} == {"pattern_copy"}
    assert cell_place(first, "arithmetic", 2).result.exists()
    table = (tmp_path / "run" / "evaluation" / "scores.jsonl").read_text().splitlines()
    assert {json.loads(line)["task"] for line in table} == {"arithmetic", "pattern_copy"}


def test_other_weights_are_scored_anew(made: Path, run_file: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "run" / "export", tmp_path / "run" / "export")
    small = (
        "evaluation.tasks=[arithmetic]",
        "evaluation.shots=[0]",
        "evaluation.heldout_bytes=0",
        f"paths.run_dir={tmp_path / 'run'}",
    )
    config = run_config(run_file, made, *small)
    evaluate(config)
    first = cell_result(config, "arithmetic", 0)
    write_model(tmp_path / "run" / "export" / "step_00000010", seed=7)
    evaluate(config)
    second = cell_result(config, "arithmetic", 0)
    assert first["provenance"]["key"] != second["provenance"]["key"]
    assert first["results"] != second["results"]


def test_a_task_of_the_users_own(made: Path, run_file: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "run" / "export", tmp_path / "run" / "export")
    (tmp_path / "own").mkdir()
    source = made / "run" / "evaluation" / "tasks"
    for name in ("arithmetic.jsonl", "arithmetic.examples.jsonl", "jsonl_task.py"):
        shutil.copy(source / name, tmp_path / "own")
    text = (source / "arithmetic.yaml").read_text().replace("task: arithmetic", "task: sums")
    (tmp_path / "own" / "sums.yaml").write_text(text)
    overrides = (
        "evaluation.tasks=[sums]",
        f"evaluation.task_paths=[{tmp_path / 'own'}]",
        f"paths.run_dir={tmp_path / 'run'}",
    )
    result = evaluate(
        run_config(run_file, made, *overrides, "evaluation.shots=[0]", "evaluation.heldout_bytes=0")
    )
    found = row(result, "sums", "acc", 0)
    assert (found["items"], found["chance"]) == (24, 0.25)
    assert set(result.files) == {
        "cells/step_00000010/sums/k0.parquet",
        "cells/step_00000010/sums/k0.json",
        "scores.jsonl",
        "tasks/jsonl_task.py",
    }


def test_a_model_from_elsewhere_makes_the_scores_stale_when_it_changes(
    made: Path, run_file: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "somebodys"
    shutil.copytree(made / "run" / "export" / "step_00000010", folder)
    config = run_config(run_file, made, f"evaluation.models=[{folder}]")
    before = evaluation_inputs(config)
    assert evaluation_inputs(config) == before
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content + b" ")
        assert evaluation_inputs(config) != before, name
        (folder / name).write_bytes(content)
    assert evaluation_inputs(config) == before


def test_without_an_export_the_remedy_is_named(made: Path, run_file: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no exported model\. Run `pipeline export` first"):
        evaluate(run_config(run_file, made, f"paths.run_dir={tmp_path}"))


def test_an_answer_longer_than_the_model_sees_is_refused(
    made: Path, run_file: Path, tmp_path: Path
) -> None:
    write_model(tmp_path / "run" / "export" / "step_00000010", max_tokens=32)
    shutil.copy(made / "run" / "export" / "manifest.json", tmp_path / "run" / "export")
    config = run_config(
        run_file, made, f"paths.run_dir={tmp_path / 'run'}", "evaluation.tasks=[heldout_cloze]"
    )
    with pytest.raises(
        DataError,
        match=r"context has 32 tokens and an answer has 73: task heldout_cloze, question \d+",
    ):
        evaluate(config)


def test_unknown_tasks_are_named(scored: tuple[RunConfig, Result], made: Path) -> None:
    folder = made / "run" / "evaluation" / "tasks"
    with pytest.raises(ConfigError, match="'no_such_task' is not a built-in task") as told:
        find_tasks(["arithmetic", "no_such_task", "arithmetik"], [folder], collections=(False,))
    assert [("did you mean arithmetic?" in problem) for problem in told.value.problems] == [
        False,
        True,
    ]


def test_a_source_without_text_is_left_out_and_said(
    run_file: Path, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("data", "run/export"):
        shutil.copytree(made / name, tmp_path / name)
    ids = [
        "sources.code={kind: megatron, paths: [pairs]}",
        "tokenizer.kind=pretrained",
        "tokenizer.path=somewhere",
    ]
    settings = [
        *ids,
        "tokenizer.vocab_size=null",
        "evaluation.shots=[0]",
        "evaluation.tasks=[heldout_cloze]",
    ]
    result = evaluate(run_config(run_file, tmp_path, *settings))
    assert (
        "no held-out text and no bits per byte of code, whose ids were made elsewhere"
        in capsys.readouterr().err
    )
    assert list(result.counts["bits_per_byte"]) == ["web"]
    questions = (
        (tmp_path / "run" / "evaluation" / "tasks" / "heldout_cloze.jsonl").read_text().splitlines()
    )
    assert {json.loads(line)["origin"].split("/")[0] for line in questions} == {"web"}
    with pytest.raises(
        ConfigError,
        match="heldout_cloze makes its questions from held-out text, and no source has text",
    ):
        evaluate(
            run_config(
                run_file, tmp_path, *settings, "sources.web={kind: megatron, paths: [pairs]}"
            )
        )


@pytest.fixture
def own(made: Path, run_file: Path, tmp_path: Path) -> RunConfig:
    """Return a run with an export of 48 tokens' context and two tasks of its own, one of them fixed
    at no examples."""
    write_model(tmp_path / "run" / "export" / "step_00000010", max_tokens=48)
    shutil.copy(made / "run" / "export" / "manifest.json", tmp_path / "run" / "export")
    write_task(tmp_path / "own", "parity", num_fewshot=0)
    questions = {"questions": str(tmp_path / "own" / "questions.jsonl")}
    read_by_datasets = {"data_files": questions, "cache_dir": str(tmp_path / "cache")}
    write_task(
        tmp_path / "own", "parity_shown", dataset_path="json", dataset_kwargs=read_by_datasets
    )
    write_task(tmp_path / "own", "parity_written", **GENERATION)
    settings = (
        "evaluation.tasks=[parity, parity_shown, parity_written, arithmetic]",
        "evaluation.shots=[2, 0]",
        "evaluation.limit=6",
        "evaluation.heldout_bytes=0",
    )
    folders = (f"evaluation.task_paths=[{tmp_path / 'own'}]", f"paths.run_dir={tmp_path / 'run'}")
    return run_config(run_file, made, *folders, *settings)


def test_tasks_are_reported_as_they_were_asked(
    own: RunConfig, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(own.paths.run_dir)  # no git repository
    capfd.readouterr()
    result = evaluate(own)
    rows = {(r["task"], r["metric"], r["shots"]): r for r in result.counts["scores"]}
    assert len(rows) == len(result.counts["scores"]), (
        "a task that is always asked without examples has one row"
    )
    assert {shots for task, _, shots in rows if task == "parity"} == {0}
    assert {shots for task, _, shots in rows if task == "parity_shown"} == {0, 2}
    # Three questions of two choices, three of three: (3 / 2 + 3 / 3) / 6.
    assert (
        rows["parity", "acc", 0]["chance"]
        == rows["parity_shown", "acc", 2]["chance"]
        == pytest.approx(5 / 12)
    )
    assert rows["parity_written", "exact_match", 0]["chance"] is None
    assert rows["arithmetic", "acc_mutual_info", 2]["chance"] == 0.25

    # A byte is a token. `Is 1 odd?` fits into 48 of them alone, and does not after two of its like;
    # of the sums, which are longer, the context and the answer are 12 to 14 tokens without
    # examples.
    cut = {k: cell_result(own, "arithmetic", k)["provenance"]["cut_requests"] for k in (0, 2)}
    assert cut[0] == 0
    assert cut[2] > 0
    printed = capfd.readouterr()
    assert "k = 2: " in printed.err
    assert "sequences of arithmetic were longer than the model's 48 tokens" in printed.err
    assert "git repository" not in printed.out + printed.err
    assert "examples/s" not in printed.out + printed.err, "the bar of datasets that reads a file"
    provenance = cell_result(own, "arithmetic", 0)["provenance"]
    assert provenance["environment"]["git"] == environment()["git"]


@pytest.mark.parametrize("max_tokens", [10, 11])
def test_questions_that_are_cut_without_examples_are_counted(
    own: RunConfig, max_tokens: int, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = own.paths.run_dir / "export" / "step_00000010"
    # `Is 1 odd?` and ` yes`: 13 tokens, of which 12 are read; with ` no` 11 are read.
    write_model(folder, max_tokens=max_tokens)
    settings = own.evaluation.model_copy(update={"tasks": ("parity",), "shots": (0,)})
    evaluate(own.model_copy(update={"evaluation": settings}))
    provenance = cell_result(own, "parity", 0)["provenance"]
    choices = [choice for question in QUESTIONS for choice in question["choices"]]
    too_long = sum(len("Is 1 odd?") + len(f" {choice}") > max_tokens + 1 for choice in choices)
    assert provenance["cut_requests"] == too_long
    assert (
        f"k = 0: {too_long} of {len(choices)} sequences of parity were longer"
        in capsys.readouterr().err
    )


def test_no_room_for_the_question_is_no_traceback(own: RunConfig) -> None:
    write_model(own.paths.run_dir / "export" / "step_00000010", max_tokens=8)
    settings = own.evaluation.model_copy(update={"tasks": ("parity_written",), "shots": (0,)})
    with pytest.raises(
        DataError,
        match="the model's context has 8 tokens, and parity_written allows an answer of as many",
    ):
        evaluate(own.model_copy(update={"evaluation": settings}))


def test_a_task_whose_data_have_gone_since_is_no_traceback(own: RunConfig) -> None:
    (own.evaluation.task_paths[0] / "questions.jsonl").unlink()
    with pytest.raises(
        ConfigError, match=r"evaluation\.tasks: 'parity' cannot be built here \(FileNotFoundError"
    ):
        evaluate(own)
