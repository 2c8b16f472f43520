"""The example of a run file: it loads as it stands, and each of its settings is explained."""

import re
from pathlib import Path

import yaml

from pipeline.config.example import EXAMPLE, commented_example
from pipeline.config.field_descriptions import describe_settings
from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load


def test_it_loads_from_an_empty_folder(tmp_path: Path) -> None:
    run_file = tmp_path / "run.yaml"
    run_file.write_text(commented_example())
    config = load(run_file)
    assert config.paths.data_dir == tmp_path / "data"
    assert config.total_steps == 586  # 600,000 tokens in steps of 1,024, rounded up
    assert yaml.safe_load(commented_example()) == yaml.safe_load(EXAMPLE.read_text())


def test_each_setting_stands_below_its_docstring() -> None:
    words = " ".join(line.strip().lstrip("# ") for line in commented_example().splitlines())
    settings = yaml.safe_load(EXAMPLE.read_text())
    for section, fields in settings.items():
        described = {each.name: each for each in describe_settings(section)}
        used = [section]
        if section != "sources" and isinstance(fields, dict):
            used += [f"{section}.{name}" for name in fields]
        for name in used:
            first_paragraph = " ".join(described[name].meaning.partition("\n\n")[0].split())
            assert first_paragraph in words, name


def test_each_section_says_what_to_fill_in_first_or_is_named_at_the_end() -> None:
    *blocks, last = commented_example().strip().split("\n\n")
    sections = yaml.safe_load(EXAMPLE.read_text())
    assert sum("\n# First: " in block for block in blocks[1:]) == len(sections) == len(blocks) - 1
    named = re.findall(r"^#   (\w+): [A-Z]", last, re.MULTILINE)
    assert {*sections, *named} == set(RunConfig.model_fields)
    assert max(map(len, commented_example().splitlines())) <= 80


def test_what_is_left_at_its_default_is_named() -> None:
    assert "  # More (pipeline config --describe batch): ramp.\n" in commented_example()
