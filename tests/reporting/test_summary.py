import json
from pathlib import Path

import pytest
from fake_run import write_fake_run

from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.errors import DataError, RequirementError
from pipeline.logs import console
from pipeline.reporting.report import report
from pipeline.reporting.summary import print_summary, requirements
from pipeline.store.layout import run_folder

REQUIRED = (
    "evaluation.require_gain_over_unigram=0.15",
    "evaluation.require_cloze_standard_errors=3",
)


@pytest.mark.parametrize("columns", [40, 200])
def test_figures_are_printed_whole(
    columns: int,
    run_file: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(console, "width", columns)
    config = load(run_file, REQUIRED)
    write_fake_run(config)
    print_summary(config)
    shown = capsys.readouterr().out
    for figure in (
        "96 to train on, 4 held out (100.0 kB)",
        "3,443,136",
        "28,800 to train on, 1,200 held out",
        "4.000, 20.0% below the unigram entropy 5.000",
        "0.510 ± 0.035",
        "181.0",
        "The function returns a <script>list</script> & more",
        str(config.paths.run_dir / "report.html"),
        # (0.51 - 0.25) / 0.035 = 7.4
        "reached: held-out cloze at k = 0 (acc_mutual_info) 0.510 ± 0.035 is 7.4 standard errors "
        "above chance",
    ):
        assert "".join(figure.split()) in "".join(shown.split())
    assert "…" not in shown


def test_both_missed_requirements_are_named_with_their_figures(run_file: Path) -> None:
    config = load(run_file, REQUIRED)
    write_fake_run(config, cloze=0.32, loss=4.5)
    with pytest.raises(RequirementError) as raised:
        print_summary(config)
    message = str(raised.value)
    assert (
        "not reached: validation loss 4.500, 10.0% below the unigram entropy 5.000; at least 15.0% "
        "required" in message
    )
    assert (
        "0.320 ± 0.035 is 2.0 standard errors above chance, 0.25; more than 3 required" in message
    )
    assert raised.value.exit_code == 3


def test_one_missed_requirement_is_enough_and_none_set_asks_nothing(run_file: Path) -> None:
    write_fake_run(load(run_file), cloze=0.32)
    with pytest.raises(
        RequirementError, match=r"(?s)  - reached: validation loss.*  - not reached: held-out cloze"
    ):
        print_summary(load(run_file, REQUIRED))
    print_summary(load(run_file))


def test_the_limit_itself_is_enough_for_the_gain_and_not_for_the_cloze(run_file: Path) -> None:
    from pipeline.reporting.run_data import read_finished_run

    config = load(
        run_file,
        ["evaluation.require_gain_over_unigram=0.25", "evaluation.require_cloze_standard_errors=4"],
    )
    write_fake_run(
        config, cloze=0.25 + 4 * 0.035 - 1e-12, loss=3.75
    )  # 1 - 3.75 / 5 = 0.25, exactly
    checked = requirements(config, read_finished_run(config))
    assert [requirement.is_reached for requirement in checked] == [True, False]


def test_unfinished_stages_are_named(run_file: Path) -> None:
    config = load(run_file)
    write_fake_run(config)
    (config.paths.run_dir / "export" / "manifest.json").unlink()
    with pytest.raises(DataError, match="not finished: export"):
        print_summary(config)


def change_counts(config: RunConfig, **counts: object) -> None:
    """Replace counts in the manifest of `train`."""
    path = run_folder(config).train_manifest
    manifest = json.loads(path.read_text())
    manifest["counts"] |= counts
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("loss", "entropy", "words"),
    [(None, 2.5, "validation loss not finite"), (0.25, 0.0, "validation loss 0.250")],
    ids=["not finite", "one token only"],
)
def test_a_validation_without_a_gain_is_still_shown(
    run_file: Path,
    capsys: pytest.CaptureFixture[str],
    loss: float | None,
    entropy: float,
    words: str,
) -> None:
    config = load(run_file)
    write_fake_run(config)
    change_counts(config, validation_loss=loss, unigram_entropy=entropy)
    report(config)
    print_summary(config)
    assert words in " ".join(capsys.readouterr().out.split())


def test_a_run_without_held_out_text_is_still_shown(
    run_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = load(run_file)
    write_fake_run(config)
    change_counts(
        config,
        validation_loss=None,
        unigram_entropy=None,
        validation_loss_by_source={},
        unigram_entropy_by_source={},
    )
    report(config)
    print_summary(config)
    shown = " ".join(capsys.readouterr().out.split())  # a narrow terminal breaks the line
    assert (
        "not measured: nothing is held out (prepare.validation_fraction, validation_paths)" in shown
    )
    with pytest.raises(RequirementError, match="not measured"):
        print_summary(load(run_file, REQUIRED))


def test_a_last_step_without_a_finite_loss_is_still_shown(
    run_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = load(run_file)
    write_fake_run(config)
    change_counts(config, loss=None, validation_loss=None, unigram_entropy=None)
    metrics = config.paths.run_dir / "metrics.jsonl"
    *lines, last = metrics.read_text().splitlines()
    lines.append(json.dumps(json.loads(last) | {"loss": None}))
    metrics.write_text("".join(line + "\n" for line in lines))
    print_summary(config)
    assert "not finite at the last step" in capsys.readouterr().out
    report(config)
    page = (config.paths.run_dir / "report.html").read_text()
    assert "<b>not finite</b><span>training loss</span>" in page


def test_of_ids_that_existed_no_text_is_counted(
    run_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The fake token files tell of 96 and 4 documents and 30,000 tokens of every source."""
    config = load(run_file)
    write_fake_run(config)
    path = config.paths.data_dir / "documents" / "manifest.json"
    manifest = json.loads(path.read_text())
    nothing = {"train": 0, "validation": 0}
    manifest["counts"]["sources"]["web"] |= {
        "documents": nothing,
        "text_bytes": nothing,
        "rejected": {},
    }
    path.write_text(json.dumps(manifest))
    print_summary(config)
    assert "96 to train on, 4 held out (no text: existing token ids)" in capsys.readouterr().out
    report(config)
    page = (config.paths.run_dir / "report.html").read_text()
    cells = "".join(
        f'<td class="figure">{figure}</td>'
        for figure in ("96", "4", "\u2014", "28,800", "1,200", "\u2014", "0")
    )
    assert f'<td class="text">web</td>{cells}' in page
