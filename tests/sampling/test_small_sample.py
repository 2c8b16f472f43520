"""`data.small_sample`: few rows, the same in every epoch, with wrong targets; and nothing without it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import write_byte_level_tokenizer

from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import dump, load
from pipeline.errors import ConfigError
from pipeline.sampling.dataset import open_data
from pipeline.sampling.outlook import look_ahead
from pipeline.sampling.rows import Concatenated, EvenlySpread
from pipeline.store.artifacts import expected_inputs
from pipeline.store.files import write_json
from pipeline.store.manifests.recorded_settings import differences
from pipeline.store.records import Json
from pipeline.store.stages import STAGES
from pipeline.tokens.indexed_dataset import ShardWriter

RUN_FILE = """\
paths: {data_dir: data, run_dir: run}
sources:
  web: {kind: jsonl, paths: [x.jsonl]}
  wiki: {kind: jsonl, paths: [x.jsonl]}
tokenizer: {kind: byte-level-bpe, vocab_size: 300}
model: {architecture: llama, config: {hidden_size: 32}}
data: {sequence_length: 8}
optimizer: {peak_learning_rate: 1e-2}
schedule: {warmup_tokens: 0}
batch: {global_batch_tokens: 64, micro_batch_sequences: 2}
train: {train_tokens: 6400}
deepspeed: TEMPLATES/zero1.json
"""
TOKENS = {"web": 801, "wiki": 241}

Make = Callable[..., RunConfig]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Return a function that loads the run file, over tokens of two sources, with overrides."""
    files = {}
    for source, number in TOKENS.items():
        prefix = tmp_path / "data" / "tokens" / source / "train_0"
        with ShardWriter(prefix, np.dtype(np.uint16)) as writer:
            writer.add(
                (np.arange(number) + 3 * len(source)) % 250 + 1, np.array([number]), np.arange(1)
            )
            files |= {f"{source}/train_0{end}": file for end, file in writer.finish().items()}
    counts = {"dtypes": dict.fromkeys(TOKENS, "uint16"), "vocab_size": 259}
    manifest = {"files": files, "counts": counts, "output": "x"}
    write_json(tmp_path / "data" / "tokens" / "manifest.json", manifest)
    write_byte_level_tokenizer(tmp_path / "data" / "tokenizer")
    report = {"vocab_size": 259, "end_of_document_id": 0}
    write_json(tmp_path / "data" / "tokenizer" / "report.json", report)
    templates = Path(__file__).parents[2] / "ds_configs"
    run_file = tmp_path / "run.yaml"
    run_file.write_text(RUN_FILE.replace("TEMPLATES", str(templates)))

    def make_config(*overrides: str) -> RunConfig:
        return load(run_file, overrides)

    return make_config


def expected_inputs_of(config: RunConfig) -> dict[str, Json]:
    """Return what decides the training's output."""
    stages = {stage.name: stage for stage in STAGES}
    return expected_inputs(stages["train"], config, stages)


SAMPLE = "data.small_sample.train_sequences=10"
NOISE = "data.small_sample.label_noise=0.25"


def test_rows_are_evenly_spread_over_the_source() -> None:
    """Of 25 windows of 4 tokens, 5: the windows 0, 5, 10, 15 and 20."""
    rows = EvenlySpread(Concatenated(101, 4, 2), 5)
    assert rows.count == 5
    assert rows.pieces(np.arange(5)).start.tolist() == [0, 20, 40, 60, 80]
    assert rows.tokens == 20


def test_a_source_with_fewer_rows_is_read_whole() -> None:
    rows = EvenlySpread(Concatenated(10, 4, 2), 5)
    assert rows.count == 3
    assert rows.pieces(np.arange(3)).length.tolist() == [4, 4, 1]
    assert rows.tokens == 9


def test_a_source_without_rows_has_none() -> None:
    rows = EvenlySpread(Concatenated(1, 4, 2), 5)
    assert (rows.count, rows.tokens) == (0, 0)


def test_the_rows_that_overlap_some_tokens_are_those_that_read_one_of_them() -> None:
    rows = EvenlySpread(Concatenated(101, 4, 2), 5)
    assert rows.overlapping(20, 21).tolist() == [1]
    assert rows.overlapping(24, 25).tolist() == [1], "the last target of window 5"
    assert rows.overlapping(25, 40).tolist() == []
    assert rows.overlapping(0, 101).tolist() == [0, 1, 2, 3, 4]


def test_every_epoch_reads_the_same_rows_with_the_same_targets(make: Make) -> None:
    data = open_data(make(SAMPLE, NOISE))
    assert data.order.counts.tolist() == [10, 10]
    epochs = [data.read(np.arange(20 * epoch, 20 * (epoch + 1))) for epoch in range(3)]
    rows = [
        sorted(zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True)) for batch in epochs
    ]
    assert rows[0] == rows[1] == rows[2]
    assert len({tuple(inputs) for inputs, _ in rows[0]}) == 20
    assert epochs[0].inputs.tolist() != epochs[1].inputs.tolist(), "in another order"


def test_noise_changes_targets_and_neither_inputs_nor_checksums(make: Make) -> None:
    noisy = open_data(make(SAMPLE, NOISE))
    right = replace(noisy, shape=replace(noisy.shape, label_noise=None))
    with_noise = noisy.read(np.arange(20))
    without = right.read(np.arange(20))
    assert with_noise.inputs.tolist() == without.inputs.tolist()
    assert with_noise.checksum == without.checksum
    assert 0.1 < (with_noise.targets != without.targets).mean() < 0.4


def test_the_seed_decides_the_noise_and_not_the_rows(make: Make) -> None:
    def first_epoch(seed: int) -> dict[tuple[int, ...], tuple[int, ...]]:
        batch = open_data(make(SAMPLE, NOISE, f"train.seed={seed}")).read(np.arange(20))
        pairs = zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True)
        return {tuple(inputs): tuple(targets) for inputs, targets in pairs}

    one = first_epoch(1)
    two = first_epoch(2)
    assert one.keys() == two.keys()
    assert one != two


def test_the_outlook_counts_the_sample(make: Make) -> None:
    outlook = look_ahead(make(SAMPLE))
    web = outlook["sources"]["web"]
    assert (web["rows"], web["tokens"], web["padding"]) == (10, 81, 0.0)
    assert web["epochs"] == 40


def test_a_run_without_it_has_the_fingerprint_that_it_had(make: Make) -> None:
    config = make()
    assert "small_sample" not in dump(config)
    assert not [name for name in expected_inputs_of(config) if "small_sample" in name]


def test_a_small_sample_is_part_of_what_makes_a_run(make: Make) -> None:
    before = expected_inputs_of(make(SAMPLE))
    after = expected_inputs_of(make(SAMPLE, NOISE))
    assert differences(before, after) == ["data.small_sample.label_noise: 0.0 -> 0.25"]
    from_all = differences(expected_inputs_of(make()), before)
    assert "data.small_sample.train_sequences: not set -> 10" in from_all


def test_a_run_file_that_was_written_reads_back(make: Make, tmp_path: Path) -> None:
    config = make(SAMPLE, NOISE)
    path = tmp_path / "again.yaml"
    path.write_text(dump(config))
    assert load(path).data == config.data


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("data.packing=best-fit", "data.packing = best-fit: data.small_sample needs concatenate"),
        ("data.shuffle=block", "data.shuffle = block: data.small_sample needs full"),
    ],
)
def test_what_a_small_sample_does_not_go_with(make: Make, override: str, problem: str) -> None:
    with pytest.raises(ConfigError) as refused:
        make(SAMPLE, override)
    assert problem in str(refused.value)
