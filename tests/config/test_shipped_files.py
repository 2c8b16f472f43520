"""Templates and recipes by name: which file a name or a path stands for."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.config.run_file import dump, load
from pipeline.config.shipped_files import RECIPES, TEMPLATES, resolve_template, shipped_files
from pipeline.config.yaml_files import read_yaml
from pipeline.errors import ConfigError
from pipeline.store.artifacts import expected_inputs
from pipeline.store.stages import STAGES

ROOT = Path(__file__).parents[2]


def test_a_name_stands_for_the_shipped_file_from_any_folder(
    run_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run_file.parent / "zero1.json").unlink()
    run_file.write_text(
        run_file.read_text()
        .replace("{kind: byte-level-bpe, vocab_size: 270}", "{recipe: byte-level-bpe-50k}")
        .replace("deepspeed: zero1.json", "deepspeed: zero2")
    )
    monkeypatch.chdir("/")
    config = load(run_file)
    assert config.deepspeed.samefile(ROOT / "ds_configs" / "zero2.json")
    assert config.tokenizer.vocab_size == 50257
    assert load(run_file, ["deepspeed=zero3_offload"]).deepspeed.name == "zero3_offload.json"
    copy = run_file.with_name("copy.yaml")
    copy.write_text(dump(config))
    assert load(copy) == config


def test_no_stage_becomes_stale_where_a_name_takes_the_place_of_a_path(run_file: Path) -> None:
    """What decides that a stage is done holds the settings of a recipe, not where it lies."""
    (run_file.parent / "zero1.json").unlink()
    (run_file.parent / "web.jsonl").write_text("")
    without = run_file.read_text().replace("{kind: byte-level-bpe, vocab_size: 270}", "{}")
    run_file.write_text(without)
    recipe = ROOT / "tokenizer" / "byte-level-bpe-32k.yaml"
    template = ROOT / "ds_configs" / "zero1.json"
    named = load(run_file, ["tokenizer.recipe=byte-level-bpe-32k", "deepspeed=zero1"])
    by_path = load(run_file, [f"tokenizer.recipe={recipe}", f"deepspeed={template}"])
    table = {stage.name: replace(stage, outside=None) for stage in STAGES}
    for stage in table.values():
        assert expected_inputs(stage, named, table) == expected_inputs(stage, by_path, table)
    inputs = expected_inputs(table["train-tokenizer"], named, table)
    assert inputs["tokenizer.vocab_size"] == 32000


def test_the_names_are_those_of_the_folders_at_the_top() -> None:
    for folder, top, suffix in ((TEMPLATES, "ds_configs", "json"), (RECIPES, "tokenizer", "yaml")):
        assert set(shipped_files(folder)) == {
            path.stem for path in (ROOT / top).glob(f"*.{suffix}")
        }
    assert list(shipped_files(TEMPLATES))[:2] == ["zero0", "zero1"]
    assert all(read_yaml(path) for path in shipped_files(RECIPES).values())


def test_an_unknown_name_lists_the_names(run_file: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        load(run_file, ["deepspeed=zero4"])
    assert raised.value.problems == [
        "deepspeed = 'zero4': no such template; there are zero0, zero1, zero2, zero3, "
        "zero3_offload; for a file of your own, write a path with a slash or a suffix"
    ]
    with pytest.raises(ConfigError, match=r"tokenizer\.recipe = 'bpe': no such recipe; there are "):
        load(run_file, ["tokenizer.recipe=bpe"])


@pytest.mark.parametrize("own_name", ["zero1", "zero1.json"])
def test_a_name_that_a_file_here_also_has_is_refused(tmp_path: Path, own_name: str) -> None:
    own = tmp_path / own_name
    own.write_text("{}")
    with pytest.raises(ValueError, match=f"{own} has that name, too; write \\./{own_name} to use"):
        resolve_template("zero1", tmp_path)
    assert resolve_template(f"./{own_name}", tmp_path) == own
    assert resolve_template("zero2", tmp_path) == TEMPLATES / "zero2.json"


def test_a_name_beside_the_shipped_file_itself_or_a_folder_is_that_file(tmp_path: Path) -> None:
    assert resolve_template("zero1", ROOT / "ds_configs") == TEMPLATES / "zero1.json"
    (tmp_path / "zero1").mkdir()
    assert resolve_template("zero1", tmp_path) == TEMPLATES / "zero1.json"
