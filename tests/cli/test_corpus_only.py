"""Commands on a run file that describes no training, or a part of it."""

import json
from pathlib import Path

import pytest
from helpers import SHORT_PROOF, without_progress

from pipeline.__main__ import STAGES
from pipeline.cli import commands, plan_view, status_view, submit_view
from pipeline.cli.doctor_needs import needs_of_run
from pipeline.cli.doctor_view import show_examination
from pipeline.cluster.batch_script import BATCH_SCRIPTS
from pipeline.config.run_file import load
from pipeline.errors import ConfigError, UserError
from pipeline.store.artifacts import stage_states
from pipeline.store.jobs.jobs_folder import jobs_folder
from pipeline.tokens import tokenizer_folder
from pipeline.tokens.tokenizer_report import tokenizer_report

DATA_JOB = BATCH_SCRIPTS / "data.sbatch"
NOT_TRAINED = ["train", "export", "evaluate", "report"]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Return a run file of `paths` and `sources` alone."""
    rows = [json.dumps({"text": f"document {i} says that {i} is a number"}) for i in range(30)]
    (tmp_path / "web.jsonl").write_text("\n".join(rows))
    (tmp_path / "corpus.yaml").write_text(
        "paths: {data_dir: data, run_dir: run}\n"
        "sources: {web: {kind: jsonl, paths: [web.jsonl]}}\n"
        "executor: {workers: 1}\n"
    )
    return tmp_path / "corpus.yaml"


def states(run_file: Path, *overrides: str) -> dict[str, str]:
    table = {stage.name: stage for stage in STAGES}
    found = stage_states(table, load(run_file, overrides, needs=()), look_at=table)
    return {
        name: "not described" if state.absent_sections else state.kind
        for name, state in found.items()
    }


def test_each_stage_runs_with_its_own_sections_alone(
    corpus: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """First a corpus, then its tokens, then packed rows; a stage that read more would fail."""
    unasked = ["annotate", "select"]
    for name, value in SHORT_PROOF.items():
        monkeypatch.setattr(tokenizer_folder, name, value)
    tokenizer = "tokenizer={kind: byte-level-bpe, vocab_size: 260}"
    data = "data={sequence_length: 16, packing: best-fit, mixture: {web: 1}}"
    done: list[str] = []
    for overrides, more in (
        ([], ["prepare"]),
        ([tokenizer], ["train-tokenizer", "tokenize"]),
        ([tokenizer, data], ["pack"]),
    ):
        commands.run_all(STAGES, corpus, overrides)
        done += more
        found = states(corpus, *overrides)
        assert {name for name, kind in found.items() if kind == "done"} == {*done, *unasked}
        last = without_progress(capsys.readouterr().err).splitlines()[-1]
        rest = [stage.name for stage in STAGES if stage.name not in (*done, *unasked)]
        assert last.startswith(f"run: not described by this run file: {', '.join(rest)}. They read")
        # Each by itself, and what looks at them.
        for name in done:
            stage = next(stage for stage in STAGES if stage.name == name)
            commands.run_one(STAGES, stage, corpus, overrides)
    assert tokenizer_report(load(corpus, [tokenizer], needs=()))["model"] is None


def test_the_data_do_not_become_stale_when_the_rest_is_added(run_file: Path) -> None:
    """Nor the other way round: the same settings give the same fingerprint."""
    prepare = next(stage for stage in STAGES if stage.name == "prepare")
    left_out = [f"{name}=null" for name in ("model", "train", "tokenizer", "data", "deepspeed")]
    commands.run_one(STAGES, prepare, run_file, ["executor.workers=1", *left_out])
    assert states(run_file)["prepare"] == states(run_file, *left_out)["prepare"] == "done"


def test_a_stage_without_its_sections_names_them(corpus: Path) -> None:
    for name, sections in (
        ("train-tokenizer", "tokenizer: is required"),
        ("pack", "data, tokenizer: are required"),
        ("train", "tokenizer, model, data, optimizer, schedule, batch, train, deepspeed: are"),
    ):
        stage = next(stage for stage in STAGES if stage.name == name)
        with pytest.raises(ConfigError) as refused:
            commands.run_one(STAGES, stage, corpus, [])
        (problem,) = refused.value.problems
        assert sorted(problem.partition(":")[0].split(", ")) == sorted(
            sections.partition(":")[0].split(", ")
        )
        assert f"`pipeline {name}` reads" in problem
        assert "`pipeline config --example`" in problem


def test_a_stage_described_in_part_is_refused_before_the_first_stage(corpus: Path) -> None:
    half = ["tokenizer={kind: byte-level-bpe, vocab_size: 260}", "train={train_tokens: 3000}"]
    for refusing in (
        lambda: commands.run_all(STAGES, corpus, half),
        lambda: plan_view.show_plan(
            STAGES,
            plan_view.PlanQuestion(corpus, half, "h100-sxm", None, 24.0, []),
            as_json=False,
            page=None,
        ),
    ):
        with pytest.raises(
            ConfigError, match=r"model, data, optimizer, schedule, batch, deepspeed"
        ):
            refusing()
    assert not (corpus.parent / "data").exists()


def test_status_and_plan_tell_what_is_not_described(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status_view.show_status(STAGES, corpus, [])
    shown = capsys.readouterr().out
    # All but prepare and the two that nobody asks for, and the line.
    assert shown.count("not described") == len(STAGES) - 2
    question = plan_view.PlanQuestion(corpus, [], "h100-sxm", None, 24.0, [])
    plan_view.show_plan(STAGES, question, as_json=True, page=None)
    plan = json.loads(capsys.readouterr().out)
    assert plan["raw_files"]["web"]["files"] == 1
    assert plan["core_hours"]["prepare"] > 0
    assert plan["not_described"]["tokenize"] == ["tokenizer"]
    plan_view.show_plan(STAGES, question, as_json=False, page=None)
    assert "1 file, " in capsys.readouterr().out


def test_a_job_for_the_data_runs_every_stage_that_makes_some() -> None:
    """Also those of which a run file need not ask anything."""
    lines = [line.strip() for line in DATA_JOB.read_text().splitlines()]
    commands_in_order = [
        (line.split('"$pipeline" ')[1].split()[0], line.startswith("srun "))
        for line in lines
        if line.startswith(('srun "$pipeline"', '"$pipeline"'))
    ]
    assert commands_in_order == [(each.name, each.on_workers) for each in STAGES if each.shared]


def test_a_job_for_the_data_leaves_out_stages_that_are_not_described(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = {stage.name: stage for stage in STAGES}
    for name in ("train-tokenizer", "tokenize", "pack"):
        with pytest.raises(ConfigError, match=f"`pipeline {name}`"):
            commands.run_one(STAGES, table[name], corpus, [])
        commands.run_one(STAGES, table[name], corpus, [], if_described=True)
        assert f"{name}: not described by this run file, which lacks" in capsys.readouterr().err
        # The shipped job asks for exactly that, of every stage but the first.
        assert f'"$pipeline" {name} --if-described "$@"' in DATA_JOB.read_text()
    assert not (corpus.parent / "data").exists()

    # What is described in part is refused; what later stages lack is not asked.
    half = ["data={sequence_length: 16, packing: best-fit}"]
    with pytest.raises(ConfigError, match=r"tokenizer: .*`pipeline pack`"):
        commands.run_one(STAGES, table["pack"], corpus, half, if_described=True)
    commands.run_one(STAGES, table["tokenize"], corpus, half, if_described=True)


def test_a_corpus_is_submitted_as_one_job(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site = corpus.with_name("site.yaml")
    site.write_text(
        "{description: a cluster, hardware: a100-40gb, nodes_have_network: true,\n"
        'gpu_nodes: {gpus: 2, cores: 48, longest_time: "10:00:00"},\n'
        'cpu_nodes: {cores: 16, longest_time: "06:00:00"}}\n'
    )
    options = submit_view.SubmitOptions(str(site), dry_run=True)
    submit_view.submit(STAGES, corpus, [], options)
    printed = capsys.readouterr()
    assert "a cluster: 1 job, scripts in" in printed.out
    assert "submit: not described by this run file: train-tokenizer, tokenize" in printed.err
    settings = jobs_folder(load(corpus, needs=()).paths.run_dir).settings
    assert load(settings, needs=()) == load(corpus, needs=())

    # Done, there is nothing to submit; described in part, it is refused.
    commands.run_all(STAGES, corpus, [])
    with pytest.raises(UserError, match="there is nothing to submit"):
        submit_view.submit(STAGES, corpus, [], options)
    half = ["tokenizer={kind: byte-level-bpe, vocab_size: 260}", "train={train_tokens: 3000}"]
    for refusing in (
        lambda: submit_view.submit(STAGES, corpus, half, options),
        lambda: show_examination(corpus, half, as_json=True),
    ):
        with pytest.raises(ConfigError, match=r"model, data, optimizer, schedule"):
            refusing()


def test_a_corpus_needs_its_folders_alone_of_nodes(corpus: Path) -> None:
    needs = needs_of_run(load(corpus, needs=()))
    assert list(needs.findings) == [] and list(needs.operators) == []
    assert set(needs.folders) == {"paths.data_dir", "paths.run_dir"}
