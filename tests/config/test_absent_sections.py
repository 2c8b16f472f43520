"""A run file may leave out the sections that its stages do not read."""

import copy
from pathlib import Path

import pytest

from pipeline.config.field_descriptions import describe_settings
from pipeline.config.run_config import RUN_SECTIONS, RunConfig
from pipeline.config.run_file import dump, load
from pipeline.errors import ConfigError
from pipeline.store.stages import STAGES

CORPUS = "paths: {data_dir: d, run_dir: r}\nsources: {web: {kind: text, paths: [x]}}\n"


@pytest.fixture
def corpus(tmp_path: Path) -> RunConfig:
    (tmp_path / "c.yaml").write_text(CORPUS)
    return load(tmp_path / "c.yaml", needs=())


def test_every_field_has_a_default_or_is_asked_for_by_those_who_read_it() -> None:
    required = {name for name, field in RunConfig.model_fields.items() if field.is_required()}
    assert required == {"paths", "sources"}
    described = {each.name: each.default for each in describe_settings()}
    assert {name for name, default in described.items() if default.startswith("required by")} == {
        *RUN_SECTIONS
    }


def test_an_absent_section_is_no_attribute_and_reading_it_is_a_mistake_of_the_user(
    corpus: RunConfig,
) -> None:
    assert not corpus.has("model")
    assert corpus.has("paths", "sources", "evaluation")
    assert corpus.absent(RUN_SECTIONS) == [*RUN_SECTIONS]
    with pytest.raises(ConfigError, match=r"model: is required and not set; `pipeline config"):
        _ = corpus.model
    with pytest.raises(AttributeError):
        _ = corpus.no_such_section  # type: ignore[attr-defined]


def test_it_can_be_written_copied_and_sent(corpus: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "again.yaml").write_text(dump(corpus))
    assert load(tmp_path / "again.yaml", needs=()) == corpus
    assert copy.deepcopy(corpus) == corpus
    assert RUN_SECTIONS[0] not in corpus.model_dump()


def test_all_that_is_missing_is_named_with_its_reader_and_other_problems(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(CORPUS + "tokens: {x: 1}\nmodel: null\n")
    with pytest.raises(ConfigError) as refused:
        load(tmp_path / "c.yaml", needs=("tokenizer", "model"), reader="`pipeline train`")
    assert refused.value.problems == [
        "tokenizer, model: are required and not set, and `pipeline train` reads them; `pipeline "
        "config --example` prints a run file with them, `pipeline config --describe tokenizer "
        "model` explains them",
        "tokens.x: unknown key; known keys are encoder, parse_special_tokens",
    ]


def test_rules_hold_for_the_sections_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(CORPUS)
    for setting, message in (
        ("tokenizer.kind=pretrained", "kind pretrained takes `path`"),
        ("data={sequence_length: 64, mixture: {books: 1}}", "no such source"),
    ):
        with pytest.raises(ConfigError, match=message):
            load(tmp_path / "c.yaml", [setting], needs=())


def test_a_stage_states_every_section_whose_settings_decide_its_output() -> None:
    for stage in STAGES:
        decisive = {setting.partition(".")[0] for setting in stage.settings}
        assert decisive & {*RUN_SECTIONS} <= {*stage.sections}, stage.name
