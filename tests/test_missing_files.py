"""Files that a manifest lists and that are gone or too short: readers and `status` name them, their
stage makes them again."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import write_run_file
from helpers import DATA_STAGES, digests, iterate_texts, run_stages

from pipeline.cli import status_view
from pipeline.cli.stage_notes import missing_file_lines
from pipeline.config.evaluation_section import Evaluation
from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.corpus.documents import listed_shards
from pipeline.corpus.keys import find_documents
from pipeline.corpus.selecting.kept_documents import KeptDocuments
from pipeline.errors import DataError, UserError
from pipeline.evaluation.built_in.built_in_tasks import write_tasks
from pipeline.store import artifacts
from pipeline.store.stages import STAGES
from pipeline.tokens.inspect import overview
from pipeline.tokens.inspected_data import Question, open_data
from pipeline.tokens.sample import Sample
from pipeline.tokens.tokenize import tokenize
from pipeline.tokens.tokenizer_report import measured_texts

SETTINGS = ["prepare.validation_fraction=0.3", "prepare.shard_text_bytes=300"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a run file whose data stages are finished, with several shards of each
    split."""
    folder = tmp_path_factory.mktemp("finished")
    run_file = write_run_file(folder)
    run_stages(run_file, DATA_STAGES, SETTINGS)
    return folder


@pytest.fixture
def run_file(finished: Path, tmp_path: Path) -> Path:
    """Return the run file of a copy that a test may harm."""
    return Path(shutil.copytree(finished, tmp_path / "copy")) / "run.yaml"


@pytest.fixture
def config(run_file: Path) -> RunConfig:
    return load(run_file, ["executor.workers=1", *SETTINGS])


def harm_shards(config: RunConfig, harm: Callable[[Path], None]) -> list[Path]:
    """Harm one shard of each split."""
    documents = config.paths.data_dir / "documents"
    shards = [
        next(name for name in listed_shards(documents) if f"/{split}_" in name)
        for split in ("train", "validation")
    ]
    for name in shards:
        harm(documents / name)
    return [documents / name for name in shards]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def status_of(run_file: Path, capsys: pytest.CaptureFixture[str]) -> str:
    status_view.show_status(STAGES, run_file, SETTINGS)
    return capsys.readouterr().out


READERS: dict[str, Callable[[RunConfig, Path], object]] = {
    "train-tokenizer": lambda config, documents: list(Sample(config).texts()),
    "proof": lambda config, documents: list(iterate_texts(documents, "web", "train")),
    "tokenize": lambda config, documents: tokenize(config),
    "evaluate": lambda config, documents: write_tasks(
        documents.parent / "tasks",
        KeptDocuments(documents),
        ["web"],
        {},
        Evaluation(heldout_bytes=10_000),
    ),
    "inspect": lambda config, documents: overview(open_data(config), Question()),
    "inspect --id, trace --document": lambda config, documents: find_documents(
        documents, "u", ["web"]
    ),
    "report": lambda config, documents: measured_texts(KeptDocuments(documents), "web"),
}


@pytest.mark.parametrize("harm", [Path.unlink, truncate])
def test_every_reader_names_the_shard_and_prepare_makes_it_again(
    config: RunConfig,
    run_file: Path,
    capsys: pytest.CaptureFixture[str],
    harm: Callable[[Path], None],
) -> None:
    documents = config.paths.data_dir / "documents"
    before = digests(documents)
    train, validation = harm_shards(config, harm)
    for reader, read in READERS.items():
        with pytest.raises(DataError) as stopped:
            read(config, documents)
        assert stopped.value.exit_code == 2, reader
        assert train.name in str(stopped.value) or validation.name in str(stopped.value), reader
        assert "pipeline prepare" in str(stopped.value), reader
    shown = status_of(run_file, capsys)
    assert train.name in shown and validation.name in shown
    assert shown.count(" done ") == 2  # what was made from the documents is still what it was
    with pytest.raises(UserError, match=train.name):
        run_stages(run_file, ["tokenize"], [*SETTINGS, "tokens.encoder=reference"])
    run_stages(run_file, DATA_STAGES, SETTINGS)
    assert capsys.readouterr().err.count("done already") == 2
    assert digests(documents) == before
    assert "missing file" not in status_of(run_file, capsys)


def test_a_document_of_a_missing_shard_is_not_unknown(config: RunConfig) -> None:
    documents = config.paths.data_dir / "documents"
    train, _ = harm_shards(config, Path.unlink)
    with pytest.raises(DataError, match=train.name):
        find_documents(documents, f"web/{train.stem}/0", ["web"])


def test_a_shard_that_is_no_parquet_any_more_is_named(config: RunConfig, run_file: Path) -> None:
    documents = config.paths.data_dir / "documents"
    harm_shards(config, lambda path: path.write_bytes(b"\0" * path.stat().st_size) and None)
    anew = load(run_file, ["executor.workers=1", *SETTINGS, "tokens.encoder=reference"])
    for reader in ("train-tokenizer", "tokenize", "evaluate", "report"):
        with pytest.raises(UserError, match=r"web/(train|validation)_\w+\.parquet: is damaged"):
            READERS[reader](anew, documents)


@pytest.mark.parametrize("suffix", [".bin", ".idx", ".doc"])
def test_a_missing_token_file_is_named_and_made_again(
    config: RunConfig, run_file: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    tokens = config.paths.data_dir / "tokens"
    before = digests(tokens)
    lost = next(tokens.glob(f"web/*{suffix}"))
    lost.unlink()
    assert f"missing file: web/{lost.name}" in status_of(run_file, capsys)
    run_stages(run_file, ["tokenize"], SETTINGS)
    assert digests(tokens) == before


def test_a_tokenizer_is_not_learned_again_for_a_missing_file(
    config: RunConfig, run_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It might be another one. What does not need it goes on."""
    folder = config.paths.data_dir / "tokenizer"
    (folder / "tokenizer_config.json").unlink()
    assert "missing file: tokenizer_config.json" in status_of(run_file, capsys)
    run_stages(run_file, DATA_STAGES, SETTINGS)
    printed = capsys.readouterr().err
    assert printed.count("done already") == 3 and "missing file: tokenizer_config.json" in printed
    with pytest.raises(
        DataError, match=f"missing file: tokenizer_config.json.*{folder / 'manifest.json'}"
    ):
        run_stages(run_file, ["tokenize"], [*SETTINGS, "tokens.encoder=reference"])


def test_a_checkpoint_that_was_moved_away_is_no_reason_to_train_again(config: RunConfig) -> None:
    """Only stages in `look_at` are asked of the disk: a corpus may have a hundred thousand
    files."""
    table = {stage.name: stage for stage in STAGES if stage.name in DATA_STAGES}
    for path in config.paths.data_dir.glob("tokens/web/*.bin"):
        path.unlink()
    kept = table | {"tokenize": dataclasses.replace(table["tokenize"], rebuilds=False)}
    states = {
        "looked at": artifacts.stage_states(table, config, table)["tokenize"],
        "not rebuilt": artifacts.stage_states(kept, config, table)["tokenize"],
        "not looked at": artifacts.stage_states(table, config, {"prepare"})["tokenize"],
    }
    assert {name: state.kind for name, state in states.items()} == {
        "looked at": "stale",
        "not rebuilt": "done",
        "not looked at": "done",
    }
    assert len(states["not rebuilt"].missing_files) == len(states["looked at"].reasons) > 1
    assert states["not looked at"].missing_files == ()


def test_a_stage_that_compares_content_is_stale_where_a_byte_has_changed(
    config: RunConfig,
) -> None:
    table = {stage.name: stage for stage in STAGES if stage.name in DATA_STAGES}
    careful = table | {"tokenize": dataclasses.replace(table["tokenize"], compares_content=True)}
    assert artifacts.stage_states(careful, config, careful)["tokenize"].kind == "done"
    path = sorted(config.paths.data_dir.glob("tokens/web/*.bin"))[0]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert artifacts.stage_states(table, config, table)["tokenize"].kind == "done"
    state = artifacts.stage_states(careful, config, careful)["tokenize"]
    assert (state.kind, state.reasons) == ("stale", (f"web/{path.name} has another checksum",))
    assert artifacts.stage_states(careful, config, {"prepare"})["tokenize"].kind == "done"
    assert next(stage for stage in STAGES if stage.name == "evaluate").compares_content


@pytest.mark.parametrize("name", [stage.name for stage in STAGES if not stage.rebuilds])
def test_files_that_are_not_made_again_unasked_can_be_made_again_by_the_command_that_is_named(
    name: str, config: RunConfig
) -> None:
    stage = next(stage for stage in STAGES if stage.name == name)
    (line,) = missing_file_lines(
        stage, config, artifacts.StageState("done", missing_files=("missing file: x",))
    )
    assert f"delete {stage.manifest_path(config)} and run `pipeline {name}`" in line
