"""What may change when a run goes on, on folders that look like a run's; no rank is started."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from helpers import pretend_checkpoint

from pipeline.cli import status_view
from pipeline.config.run_file import dump, load
from pipeline.errors import ConfigError, DataError
from pipeline.sampling import order
from pipeline.sampling.dataset import open_data
from pipeline.sampling.traced_run import open_run, read_run
from pipeline.store.artifacts import Result, expected_inputs, write_manifest
from pipeline.store.files import read_json, write_json
from pipeline.store.layout import MANIFEST, run_folder
from pipeline.store.stages import STAGES
from pipeline.training import resume

pytestmark = pytest.mark.ranks

MakeRun = Callable[..., Path]
HALFWAY = "data.stages=[{from_progress: 0.5, mixture: {prose: 0, sums: 1}}]"


def begin(run_file: Path, *overrides: str) -> None:
    """Begin a run, and let it have a checkpoint."""
    config = load(run_file, overrides)
    resume.record_run(config)
    pretend_checkpoint(config.paths.run_dir, 10, 10 * config.batch.global_batch_tokens)


@pytest.mark.parametrize(
    "setting",
    [
        "data.sequence_length=16",
        "data.mixture={prose: 1, sums: 1}",
        "data.epochs={prose: 1, sums: 1}",
        HALFWAY,
        "data.packing=best-fit",
        "data.shuffle=block",
        "data.document_mask=true",
        "data.loss_after_end_of_document=false",
        "data.validation_sequences=6",
        "data.small_sample={train_sequences: 3}",
        "train.seed=2",
    ],
)
def test_another_value_of_what_decides_the_data_is_refused(make_run: MakeRun, setting: str) -> None:
    run_file, replaced = make_run(), ["data.mixture=null"] if "epochs" in setting else []
    begin(run_file)
    with pytest.raises(
        ConfigError, match=rf"{setting.partition('=')[0]}.*began with the first value: set it back"
    ):
        resume.check_resume(load(run_file, [*replaced, setting]))


@pytest.mark.parametrize(
    "settings",
    [
        [],
        [HALFWAY],
        ["data.mixture=null", "data.epochs={prose: 1, sums: 0.5}"],
        ["data.packing=best-fit", "data.shuffle=block", "data.document_mask=true"],
        ["data.small_sample={train_sequences: 3, label_noise: 0.2}"],
        ["model.config.rope_parameters={rope_type: default, rope_theta: 5000.0}"],
    ],
)
def test_the_same_settings_go_on(make_run: MakeRun, settings: list[str]) -> None:
    run_file = make_run()
    begin(run_file, *settings)
    resume.check_resume(load(run_file, settings))
    assert [path.name for path in resume.record_run(load(run_file, settings))] == ["step_00000010"]


def test_a_run_with_stages_keeps_its_length(make_run: MakeRun) -> None:
    """20 steps of 8 sequences, the second mixture from sample 80 on; 22 steps would have it begin
    at 88."""
    run_file = make_run()
    begin(run_file, HALFWAY)
    with pytest.raises(
        ConfigError,
        match=r"train\.train_tokens = 5632: data\.stages begin at fractions.*"
        r"set it back to 5120, or choose another paths",
    ):
        resume.check_resume(load(run_file, [HALFWAY, "train.train_tokens=5632"]))
    with pytest.raises(
        ConfigError, match=r"train\.train_tokens = 4864: may only grow on resume; the run has 5120"
    ):
        resume.check_resume(load(run_file, [HALFWAY, "train.train_tokens=4864"]))


@pytest.mark.parametrize(
    ("stages", "before", "after"),
    [
        ("[]", 5120, 10240),
        ("[{from_progress: 0, mixture: {prose: 0, sums: 1}}]", 5120, 10240),
        ("[{from_progress: 0.5, mixture: {prose: 0, sums: 1}}]", 5000, 5120),
    ],
    ids=["no stages", "one that begins with the run", "no step more"],
)
def test_a_run_whose_data_stays_what_it_was_may_grow(
    make_run: MakeRun, stages: str, before: int, after: int
) -> None:
    run_file = make_run()
    config = [f"data.stages={stages}", *(["data.mixture=null"] if "progress: 0," in stages else [])]
    begin(run_file, *config, f"train.train_tokens={before}")
    longer = load(run_file, [*config, f"train.train_tokens={after}"])
    resume.check_resume(longer)
    assert [path.name for path in resume.record_run(longer)] == ["step_00000010"]


@pytest.mark.parametrize("recorded", [None, 1, order.VERSION + 1])
def test_a_run_that_began_with_another_order_of_samples_is_refused(
    make_run: MakeRun, recorded: int | None
) -> None:
    run_file = make_run()
    begin(run_file)
    config = load(run_file)
    record = run_folder(config).settings
    before = read_json(record)
    assert before[order.VERSION_RECORD] == order.VERSION
    del before[order.VERSION_RECORD]
    write_json(record, before if recorded is None else before | {order.VERSION_RECORD: recorded})
    with pytest.raises(ConfigError) as error:
        resume.check_resume(config)
    (problem,) = error.value.problems  # set back it cannot be
    assert f"version {recorded or 1} " in problem
    assert f"train.init_from = {config.paths.run_dir}" in problem
    (config.paths.run_dir / "config.yaml").write_text(dump(config))
    with pytest.raises(DataError, match="order of samples"):
        read_run(open_run(config.paths.run_dir, []))


@pytest.mark.parametrize(
    ("setting", "can_branch"),
    [
        ("data.mixture={prose: 1, sums: 1}", True),
        ("schedule.warmup_tokens=512", True),
        ("train.seed=2", True),
        ("batch.global_batch_tokens=512", True),
        ("model.config.num_hidden_layers=3", False),
    ],
)
def test_a_refusal_names_the_branch_that_would_do(
    make_run: MakeRun, setting: str, can_branch: bool
) -> None:
    run_file = make_run()
    begin(run_file)
    config = load(run_file, [setting])
    with pytest.raises(ConfigError) as error:
        resume.check_resume(config)
    assert (f"train.init_from = {config.paths.run_dir}" in str(error.value)) == can_branch


@pytest.mark.parametrize(
    ("setting", "is_finished", "state"),
    [
        ("train.seed=2", True, "refused"),
        ("train.seed=2", False, "refused"),
        ("train.resume=never", True, "done"),
        ("train.resume=never", False, "refused"),
        ("train.train_tokens=10240", True, "stale"),
        ("train.train_tokens=10240", False, "missing"),
    ],
)
def test_status_says_refused_where_train_will_refuse(
    make_run: MakeRun,
    setting: str,
    is_finished: bool,
    state: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_file = make_run()
    begin(run_file)
    config = load(run_file)
    table = {stage.name: stage for stage in STAGES}
    if is_finished:
        inputs = expected_inputs(table["train"], config, table)
        write_manifest(table["train"], config, inputs, {}, Result({"headline": "10 steps"}), 1.0)
    capsys.readouterr()
    status_view.show_status(STAGES, run_file, [setting])
    shown = capsys.readouterr().out
    assert (
        next(line for line in shown.splitlines() if line.startswith("train ")).split()[1] == state
    )
    assert (setting.partition("=")[0] in shown) == (state in ("refused", "stale"))


def test_text_that_was_added_is_refused_and_the_branch_is_named(make_run: MakeRun) -> None:
    run_file = make_run()
    begin(run_file)
    config = load(run_file)
    manifest = config.paths.data_dir / "tokens" / MANIFEST
    write_json(manifest, read_json(manifest) | {"output": "with another source"})
    with pytest.raises(ConfigError) as error:
        resume.check_resume(config)
    (problem,) = error.value.problems
    assert problem.startswith("output of tokens")
    assert f"train.init_from = {config.paths.run_dir}" in problem


def test_another_order_of_sources_is_refused(make_run: MakeRun) -> None:
    """With the same weights it would be another order of samples."""
    run_file = make_run()
    content = yaml.safe_load(run_file.read_text())
    turned = run_file.with_name("turned.yaml")
    turned.write_text(
        yaml.safe_dump(
            content | {"sources": dict(reversed(content["sources"].items()))}, sort_keys=False
        )
    )
    equal = "data.mixture={prose: 1, sums: 1}"
    first = [open_data(load(path, [equal])).read(range(8)).checksum for path in (run_file, turned)]
    assert first[0] != first[1]
    begin(run_file, equal)
    with pytest.raises(
        ConfigError, match=r'sources: \["prose", "sums"\] -> \["sums", "prose"\]; .*set it back'
    ):
        resume.check_resume(load(turned, [equal]))
