"""What `pipeline config --describe` prints."""

import pytest

from pipeline.cli.config_view import show_descriptions
from pipeline.errors import ConfigError
from pipeline.logs import console


def test_a_setting_is_printed_with_its_facts_and_its_docstring(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "width", 60)
    show_descriptions(["precision", "optimizer.beta1"])
    assert capsys.readouterr().out == (
        "precision\n"
        "    section; optional\n"
        "    Number format in which the model computes.\n"
        "\n"
        "precision.dtype\n"
        "    one of bf16, fp16, fp32; default bf16\n"
        "    Number format of the forward and backward pass. Master\n"
        "    weights and moments are always fp32.\n"
        "\n"
        "optimizer.beta1\n"
        "    number, at least 0, below 1; default 0.9\n"
        "    Decay of AdamW's first moment.\n"
    )


@pytest.mark.parametrize(("columns", "widest"), [(80, 80), (200, 100)])
def test_all_settings_fit_a_terminal(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    columns: int,
    widest: int,
) -> None:
    monkeypatch.setattr(console, "width", columns)
    show_descriptions([])
    lines = capsys.readouterr().out.splitlines()
    assert widest - 10 < max(map(len, lines)) <= widest


def test_all_unknown_names_come_at_once() -> None:
    with pytest.raises(ConfigError) as raised:
        show_descriptions(["optimiser", "data", "sedule"])
    assert [problem.partition(":")[0] for problem in raised.value.problems] == [
        "optimiser",
        "sedule",
    ]
