"""A run file to the data it reads: proportions, stages, empty sources, packings; and what is said
of it beforehand."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers import write_byte_level_tokenizer

from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.errors import ConfigError, DataError
from pipeline.sampling.dataset import open_data, phase_weights
from pipeline.sampling.outlook import look_ahead
from pipeline.sampling.pack import pack
from pipeline.store.files import write_json
from pipeline.tokens.indexed_dataset import ShardWriter

RUN_FILE = """\
paths: {data_dir: data, run_dir: run}
sources:
  web: {kind: jsonl, paths: [x.jsonl]}
  wiki: {kind: jsonl, paths: [x.jsonl]}
  none: {kind: jsonl, paths: [x.jsonl]}
tokenizer: {kind: byte-level-bpe, vocab_size: 300}
model: {architecture: llama, config: {hidden_size: 32}}
data: {sequence_length: 8, mixture: {web: 3, wiki: 1, none: 0}}
optimizer: {peak_learning_rate: 1e-2}
schedule: {warmup_tokens: 0}
batch: {global_batch_tokens: 64, micro_batch_sequences: 2}
train: {train_tokens: 6400}
deepspeed: TEMPLATES/zero1.json
"""

Make = Callable[..., RunConfig]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Return a function that loads the run file, over tokens of two sources, with overrides."""
    documents = {"web": [[20, 5, 3], [40, 2]], "wiki": [[9, 4, 30]], "none": []}
    files = {}
    for source, shards in documents.items():
        for number, lengths in enumerate(shards):
            prefix = tmp_path / "data" / "tokens" / source / f"train_{number}"
            with ShardWriter(prefix, np.dtype(np.uint16)) as writer:
                ids = np.concatenate([np.r_[np.arange(1, n), 0] for n in lengths])
                writer.add(ids, np.array(lengths), np.arange(len(lengths)))
                files |= {
                    f"{source}/{prefix.name}{suffix}": record
                    for suffix, record in writer.finish().items()
                }
    counts = {"dtypes": dict.fromkeys(documents, "uint16"), "vocab_size": 259}
    write_json(
        tmp_path / "data" / "tokens" / "manifest.json",
        {"files": files, "counts": counts, "output": "x"},
    )
    write_byte_level_tokenizer(tmp_path / "data" / "tokenizer")
    write_json(
        tmp_path / "data" / "tokenizer" / "report.json",
        {"vocab_size": 259, "end_of_document_id": 0},
    )
    run_file = tmp_path / "run.yaml"
    run_file.write_text(
        RUN_FILE.replace("TEMPLATES", str(Path(__file__).parents[2] / "ds_configs"))
    )
    return lambda *overrides: load(run_file, overrides)


ROWS = {"web": 9, "wiki": 6, "none": 0}


def test_weights_are_those_of_the_mixture_or_the_rows_or_epochs_times_rows(make: Make) -> None:
    assert phase_weights(make(), ROWS) == [(0, [3, 1, 0])]
    assert phase_weights(make("data.mixture=null"), ROWS) == [(0, [9, 6, 0])]
    epochs = make("data.mixture=null", "data.epochs={web: 1, wiki: 2.5, none: 0}")
    assert phase_weights(epochs, ROWS) == [(0, [9, 15, 0])]


def test_epochs_asked_for_are_the_epochs_seen_when_the_run_is_as_long(make: Make) -> None:
    config = make(
        "data.mixture=null",
        "data.epochs={web: 10, wiki: 20, none: 0}",
        f"train.train_tokens={(90 + 120) * 8}",
    )
    epochs = open_data(config).order.epochs(90 + 120)
    assert epochs["web"] == pytest.approx(10, abs=1.1 / 9)
    assert epochs["wiki"] == pytest.approx(20, abs=1.1 / 6)


def test_a_run_as_long_as_its_text_reads_every_row_once(make: Make) -> None:
    order = open_data(make("data.mixture=null", f"train.train_tokens={(9 + 6) * 8}")).order
    places = order.locate(np.arange(9 + 6))
    assert set(places.epoch.tolist()) == {0}
    assert sorted(zip(places.source.tolist(), places.row.tolist(), strict=True)) == [
        (source, row) for source, rows in enumerate((9, 6)) for row in range(rows)
    ]


def test_stages_begin_at_their_progress_rounded_up(make: Make) -> None:
    """The run has 800 samples."""
    stage = "{from_progress: 0.9, mixture: {web: 0, wiki: 1, none: 0}}"
    assert phase_weights(make(f"data.stages=[{stage}]"), ROWS) == [(0, [3, 1, 0]), (720, [0, 1, 0])]
    third = "{from_progress: 0.3333, epochs: {web: 1, wiki: 1, none: 0}}"
    assert phase_weights(make(f"data.stages=[{third}]"), ROWS)[1] == (267, [9, 6, 0])
    only = make("data.mixture=null", f"data.stages=[{stage.replace('0.9', '0')}]")
    assert phase_weights(only, ROWS) == [(0, [0, 1, 0])]
    places = open_data(make(f"data.stages=[{stage}]")).order.locate(np.arange(800))
    assert set(places.source[720:].tolist()) == {1}
    assert set(places.source[:720].tolist()) == {0, 1}


@pytest.mark.parametrize(
    "override",
    [
        "data.mixture={web: 1, wiki: 1, none: 1}",
        "data.stages=[{from_progress: 0.5, mixture: {web: 0, wiki: 0, none: 2}}]",
    ],
)
def test_a_source_of_weight_without_tokens_is_named(make: Make, override: str) -> None:
    with pytest.raises(
        ConfigError, match=r"mixture\.none: its training text has no token to predict; add text, or"
    ):
        open_data(make(override))


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (
            ["data.epochs={web: 1, wiki: 1, none: 0}"],
            "data: `mixture` and `epochs` exclude each other; keep one",
        ),
        (
            ["data.mixture={web: 1, wiki: 1}"],
            "data.mixture: has no weight for the source none; give it one, 0 to",
        ),
        (
            ["data.mixture={web: 1, wiki: 1, none: 0, wikl: 1}"],
            "data.mixture.wikl: no such source; sources are web, wiki",
        ),
        (['data.mixture={web: "inf", wiki: 1, none: 0}'], "data.mixture.web"),
        (['data.mixture={web: 1, wiki: "nan", none: 0}'], "data.mixture.wiki"),
        (
            ["data.mixture=llama3"],
            "data.mixture = 'llama3': no such preset; there are gpt3, llama, redpajama-v1",
        ),
        (["data.stages=[{from_progress: 0.5}]"], "data.stages.0: needs `mixture` or `epochs`"),
        (
            ["data.stages=[{from_progress: 0, mixture: {web: 1, wiki: 1, none: 0}}]"],
            "data.stages.0.from_progress = 0: replaces data.mixture and data.epochs; remove "
            "data.mixture and data.epochs",
        ),
        (
            [
                "data.stages=["
                + ", ".join(["{from_progress: 0.5, mixture: {web: 1, wiki: 1, none: 0}}"] * 2)
                + "]"
            ],
            "data.stages: from_progress must rise from stage to stage",
        ),
    ],
)
def test_mistakes_in_proportions_are_named(make: Make, overrides: list[str], problem: str) -> None:
    with pytest.raises(ConfigError) as error:
        make(*overrides)
    assert problem in str(error.value)


def test_presets_are_those_of_the_papers() -> None:
    jobs = Path(__file__).parents[2] / "jobs"
    mixture = load(jobs / "gpt-125m.yaml").data.mixture
    assert mixture is not None
    assert sum(mixture.values()) == 100
    assert mixture["common_crawl"] == 67
    tokens = load(jobs / "gpt-125m.yaml", ["data.mixture=redpajama-v1"]).data.mixture
    assert tokens is not None
    assert sum(tokens.values()) == 1210  # billions


def test_the_outlook_counts_tokens_epochs_cut_documents_and_padding(
    make: Make, capsys: pytest.CaptureFixture
) -> None:
    seen = look_ahead(make())["sources"]
    # web: 70 tokens, 69 targets in rows of 8: 9 rows, 3 places empty. Its documents span 0-19,
    # 20-24, 25-27, 28-67, 68-69: a multiple of 8 lies inside the first, the second, and the fourth.
    assert (seen["web"]["tokens"], seen["web"]["rows"], seen["web"]["samples"]) == (70, 9, 600)
    assert seen["web"]["padding"] == 3 / 72
    assert seen["web"]["cut_documents"] == 3 / 5
    assert seen["web"]["epochs"] == pytest.approx(600 / 9)
    assert seen["none"] == {
        "tokens": 0,
        "rows": 0,
        "samples": 0,
        "epochs": 0,
        "share": 0,
        "cut_documents": None,
        "padding": 0,
    }
    printed = capsys.readouterr().err
    assert "800 sequences of 8 tokens (concatenate, full shuffle)" in printed
    assert "source web will be seen 66.7 times; beyond 4 epochs repeated text teaches" in printed


def test_best_fit_is_prepared_before_it_is_opened(make: Make) -> None:
    config = make("data.packing=best-fit")
    with pytest.raises(DataError, match="the text is not packed for these sources"):
        open_data(config)
    pack(config)
    seen = look_ahead(config)["sources"]
    # Longer than 9 tokens are 20 and 40 of web's five documents, and 30 of wiki's three (9 tokens
    # are 8 positions).
    assert (seen["web"]["cut_documents"], seen["wiki"]["cut_documents"]) == (2 / 5, 1 / 3)
    data = open_data(config)
    for name, positions in (("web", 19 + 4 + 2 + 39 + 1), ("wiki", 8 + 3 + 29)):
        source = next(source for source in data.sources if source.name == name)
        targets = source.rows.pieces(np.arange(source.rows.count)).length.sum()
        assert targets == positions
        assert seen[name]["padding"] == pytest.approx(1 - positions / (8 * source.rows.count))
    assert (data.read(np.arange(100)).targets != -100).any(axis=1).all()


def test_block_shuffle_gives_the_same_rows_in_another_order(make: Make) -> None:
    full, block = open_data(make()), open_data(make("data.shuffle=block"))
    for data in (full, block):
        places = data.order.locate(np.arange(800))
        first = places.row[(places.source == 0) & (places.epoch == 0)]
        assert sorted(first.tolist()) == list(range(9))
    assert block.read(np.arange(50)).inputs.shape == (50, 8)
