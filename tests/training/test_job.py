"""The training job on real DeepSpeed engines and gloo ranks: the sentence that the run file decides
the losses."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from plain_training import train_plainly
from ranks import run_ranks
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.model.architecture import model_config
from pipeline.model.construction import initialise
from pipeline.sampling.dataset import open_data
from pipeline.sampling.loader import TrainingData
from pipeline.sampling.stream import open_streams
from pipeline.store.events import all_events
from pipeline.store.metrics import read_metrics

pytestmark = pytest.mark.ranks

MakeRun = Callable[..., Path]
STEPS = 20


def losses(run_file: Path) -> list[float]:
    return [record["loss"] for record in read_metrics(load(run_file).paths.run_dir)]


def reference_losses(config: RunConfig, steps: int = STEPS) -> tuple[list[float], list[float]]:
    """Train plainly on windows read here: the losses and gradient norms that every engine must
    give."""
    data, batch = open_data(config), config.global_batch_sequences
    return train_plainly(
        config,
        ((*windows(data, range((s - 1) * batch, s * batch)), None) for s in range(1, steps + 1)),
    )


def windows(data: TrainingData, positions: range) -> tuple[torch.Tensor, torch.Tensor]:
    """Read inputs and targets straight from the streams: window by window, a short last one
    padded."""
    length = data.shape.sequence_length
    inputs = torch.full((len(positions), length), data.shape.end_of_document)
    targets = torch.full((len(positions), length), -100)
    places = data.order.locate(np.arange(positions.start, positions.stop))
    for i, (source, row) in enumerate(
        zip(places.source.tolist(), places.row.tolist(), strict=True)
    ):
        stream = data.sources[source].stream
        count = min(length, len(stream) - 1 - row * length)
        ids = torch.from_numpy(stream.read(row * length, count + 1))
        inputs[i, :count], targets[i, :count] = ids[:-1], ids[1:]
    return inputs, targets


@pytest.mark.parametrize("zero", ["zero1", "zero3"])
def test_bf16_follows_fp32_within_a_band(make_run: MakeRun, zero: str) -> None:
    """bf16 keeps 8 bits: a relative error of 2^-9 in every activation, a few hundredths in a loss
    around 5. Stage 0 is left out: there DeepSpeed also accumulates gradients in bf16."""
    run_file = make_run(zero=zero)
    run_ranks(run_file, 2, ["precision.dtype=bf16"])
    found, expected = losses(run_file), reference_losses(load(run_file))[0]
    assert max(abs(a - b) for a, b in zip(found, expected, strict=True)) < 0.1
    assert found != expected


@pytest.mark.parametrize(
    ("zero", "kind"),
    [
        ("zero1", "adamw"),
        ("zero1", "muon"),
        ("zero3", "muon"),
        *(
            pytest.param(f"zero{z}", k, marks=pytest.mark.full)
            for z in range(4)
            for k in ("adamw", "muon")
        ),
    ],
)
def test_resuming_equals_not_stopping(make_run: MakeRun, zero: str, kind: str) -> None:
    """Lose everything after step 10 of 20, as a crash would, and go on: every later loss and the
    final logits are the same to the last bit. With dropout, so that the random state counts too."""
    run_file, dropout = (
        make_run(zero=zero),
        ["model.config.attention_dropout=0.1", f"optimizer.kind={kind}"],
    )
    run_ranks(run_file, 2, dropout)
    run_dir = load(run_file).paths.run_dir
    whole, final = (
        losses(run_file),
        np.load(run_dir / "checkpoints" / "step_00000020" / "probe.npz")["logits"],
    )
    shutil.rmtree(run_dir / "checkpoints" / "step_00000020")
    run_ranks(run_file, 2, dropout)
    assert losses(run_file) == whole
    again = np.load(run_dir / "checkpoints" / "step_00000020" / "probe.npz")["logits"]
    np.testing.assert_array_equal(again, final)
    abandoned = (run_dir / "metrics.abandoned.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in abandoned] == list(range(11, 21))
    events = [
        event["event"] for event in all_events(run_dir) if event["event"] != "slow save"
    ]  # as the disk pleases
    first = ["start", "first step", "save", "save", "end"]
    assert events == [*first, "pointer mended", "resume", "start", "first step", "save", "end"]


def test_only_the_newest_checkpoints_are_kept(make_run: MakeRun) -> None:
    run_file = make_run()
    run_ranks(run_file, 1, ["checkpoint.save_every_steps=5", "checkpoint.keep_last=2"])
    folder = load(run_file).paths.run_dir / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == [
        "latest",
        "step_00000015",
        "step_00000020",
    ]
    assert (folder / "latest").read_text() == "step_00000020\n"


def test_weights_that_no_guard_can_save_are_given_up_with_what_to_do(make_run: MakeRun) -> None:
    run_file = make_run()
    hopeless = [
        "optimizer.peak_learning_rate=1e30",
        "schedule.warmup_tokens=0",
        "guard.max_rollbacks=0",
    ]
    outcome = run_ranks(run_file, 2, hopeless)
    assert outcome["status"] == "refused"
    assert "loss or gradient was not finite in 4 steps in a row" in outcome["message"]
    assert "with a lower optimizer.peak_learning_rate" in outcome["message"]
    assert not list((load(run_file).paths.run_dir / "checkpoints").glob("step_*"))


def test_validation_is_the_mean_loss_of_the_held_out_sequences(make_run: MakeRun) -> None:
    """Recomputed here, sequence by sequence, with the weights of a run whose learning rate is next
    to nothing.

    The text of the targets is what the tokenizer decodes; bits are theirs over its bytes. 1, 2 and
    4 ranks agree.
    """
    run_file = make_run()
    overrides = [
        "optimizer.peak_learning_rate=1e-30",
        "train.train_tokens=256",
        "schedule.warmup_tokens=0",
    ]
    counts = run_ranks(run_file, 2, overrides)["counts"]
    measured = ("validation_loss", "validation_bits_per_byte")
    for ranks in (1, 4):
        others = run_ranks(make_run(f"ranks{ranks}"), ranks, overrides)["counts"]
        for name in measured:
            assert others[name] == pytest.approx(counts[name], abs=1e-6)
            assert others[f"{name}_by_source"] == pytest.approx(
                counts[f"{name}_by_source"], abs=1e-6
            )
    config, bits, text_bytes = load(run_file), 0.0, 0
    tokenizer = Tokenizer.from_file(str(config.paths.data_dir / "tokenizer" / "tokenizer.json"))
    model = AutoModelForCausalLM.from_config(model_config(config), dtype=torch.float32)
    initialise(model, config, is_sharded=False)
    streams = open_streams(config.paths.data_dir / "tokens", ["prose", "sums"], "validation")
    for name, stream in streams.items():
        sequences = -(-(len(stream) - 1) // 32)
        starts = [i * sequences // 5 * 32 for i in range(5)]
        ids = torch.from_numpy(np.stack([stream.read(start, 33) for start in starts]))
        with torch.no_grad():
            logits = model(input_ids=ids[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        assert counts["validation_loss_by_source"][name] == pytest.approx(loss.item(), abs=1e-5)
        text = "".join(tokenizer.decode(row[1:].tolist()) for row in ids).encode()
        source_bits = loss.item() / math.log(2) * 160
        assert counts["validation_bits_per_byte_by_source"][name] == pytest.approx(
            source_bits / len(text), rel=1e-6
        )
        bits, text_bytes = bits + source_bits, text_bytes + len(text)
        frequencies = torch.bincount(ids[:, 1:].flatten()) / 160
        entropy = -sum(p * math.log(p) for p in frequencies.tolist() if p)
        assert counts["unigram_entropy_by_source"][name] == pytest.approx(entropy)
        assert counts["validation_targets_by_source"][name] == 160
    assert counts["validation_loss"] == pytest.approx(
        np.mean(list(counts["validation_loss_by_source"].values()))
    )
    assert counts["validation_bits_per_byte"] == pytest.approx(bits / text_bytes, rel=1e-6)
