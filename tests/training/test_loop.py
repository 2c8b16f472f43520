"""What the loop reads and weighs, on real DeepSpeed engines and gloo ranks: documents apart,
targets ignored, padding.

The reference puts each document through a plain PyTorch model alone; checksums are recomputed from
single reads.
"""

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import xxhash
from ranks import run_ranks
from training_data import TEMPLATES, tokenize_texts
from transformers import AutoModelForCausalLM

from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.config.schedules import learning_rate
from pipeline.model.architecture import model_config
from pipeline.model.construction import initialise
from pipeline.sampling.dataset import open_data
from pipeline.sampling.loader import TrainingData
from pipeline.sampling.pack import pack
from pipeline.store.metrics import read_metrics

pytestmark = pytest.mark.ranks

MakeRun = Callable[..., Path]
FULL = pytest.mark.full
STEPS = 20
APART = ["data.document_mask=true", "data.loss_after_end_of_document=false"]


@pytest.fixture(scope="module")
def short_documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run file whose documents are a little longer than half a row, or much shorter."""
    folder = tmp_path_factory.mktemp("short")
    draw = random.Random(1)
    words = [
        f"{start}{end}" for start in ("ba", "ke", "mi", "so") for end in ("n", "rat", "lo", "tum")
    ]
    prose = [" ".join(draw.choices(words, k=draw.randint(18, 24))) for _ in range(250)]
    sums = [f"{i % 10} and {i % 7} make {i % 10 + i % 7}." for i in range(250)]
    return tokenize_texts(folder, prose, sums)


def read_documents(
    data: TrainingData, position: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield ids and targets of every document in the sample at a position, straight from its
    stream."""
    places, end = data.order.locate(np.array([position])), data.shape.end_of_document
    source = data.sources[int(places.source[0])]
    pieces = source.rows.pieces(places.row)
    for start, length in zip(pieces.start.tolist(), pieces.length.tolist(), strict=True):
        ids = source.stream.read(start, length + 1)
        inputs, targets = ids[:-1], np.where(ids[:-1] == end, -100, ids[1:])
        cuts = np.flatnonzero(inputs == end) + 1
        for part in zip(np.split(inputs, cuts), np.split(targets, cuts), strict=True):
            if len(part[0]):
                yield torch.from_numpy(part[0]), torch.from_numpy(part[1])


def train_each_document_alone(config: RunConfig) -> tuple[list[float], list[float], float]:
    """Train in plain PyTorch; returns losses, gradient norms, and the share of places without a
    target."""
    data, batch, length = (
        open_data(config),
        config.global_batch_sequences,
        config.data.sequence_length,
    )
    model = AutoModelForCausalLM.from_config(model_config(config), dtype=torch.float32)
    initialise(model, config, is_sharded=False)
    groups = [
        {
            "params": [p for p in model.parameters() if (p.dim() >= 2) is matrix],
            "weight_decay": 0.1 * matrix,
        }
        for matrix in (True, False)
    ]
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.95), eps=1e-8)
    losses, norms, predicted = [], [], 0
    for step in range(1, STEPS + 1):
        total, count = torch.zeros(()), 0
        for position in range((step - 1) * batch, step * batch):
            for ids, targets in read_documents(data, position):
                logits = model(input_ids=ids[None]).logits[0]
                total = total + torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
                count += int((targets != -100).sum())
        (total / (batch * length)).backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, step)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(total.item() / count)
        predicted += count
    return losses, norms, 1 - predicted / (STEPS * batch * length)


Division = tuple[int, int, str]
"""Ranks, rows of a micro-batch, template."""


@pytest.mark.parametrize(
    ("packing", "ignored", "divisions"),
    [
        ("best-fit", 0.2, [(1, 8, "zero0"), (2, 1, "zero2")]),
        ("concatenate", 0.06, [(2, 4, "zero2"), (2, 1, "zero3")]),
        *(
            pytest.param(
                packing, ignored, [(*division, f"zero{stage}") for stage in range(4)], marks=FULL
            )
            for packing, ignored in (("best-fit", 0.2), ("concatenate", 0.06))
            for division in ((1, 8), (2, 4), (2, 1), (4, 2))
        ),
    ],
)
def test_any_division_of_padded_batches_trains_like_each_document_alone(
    short_documents: Path, tmp_path: Path, packing: str, ignored: float, divisions: list[Division]
) -> None:
    """The last division of each list with activation checkpointing, which must change nothing."""
    settings = [f"data.packing={packing}", *APART]
    config = load(short_documents, settings)
    if packing == "best-fit":
        pack(config)
    losses, norms, without_target = train_each_document_alone(config)
    assert without_target > ignored
    assert losses[0] - losses[-1] > 1, "the reference itself must learn, or equality says little"
    for i, (ranks, micro, zero) in enumerate(divisions):
        run = [f"paths.run_dir={tmp_path / str(i)}", f"deepspeed={TEMPLATES / zero}.json"]
        run += [f"batch.micro_batch_sequences={micro}"]
        run += [f"train.activation_checkpointing={str(i == len(divisions) - 1).lower()}"]
        assert run_ranks(short_documents, ranks, [*settings, *run])["status"] == "done"
        records = read_metrics(tmp_path / str(i))
        np.testing.assert_allclose([r["loss"] for r in records], losses, rtol=0, atol=1e-4)
        np.testing.assert_allclose([r["grad_norm"] for r in records], norms, rtol=0, atol=1e-4)


def checksums(config: RunConfig) -> list[str]:
    """Return each step's checksum, from every row read on its own."""
    data, batch, totals = open_data(config), config.global_batch_sequences, []
    for step in range(STEPS):
        places, total = data.order.locate(np.arange(step * batch, (step + 1) * batch)), 0
        for sample, source, row in zip(places.sample, places.source, places.row, strict=True):
            pieces = data.sources[source].rows.pieces(np.array([row]))
            ids = data.sources[source].stream.read_pieces(pieces.start, pieces.length + 1)
            total += xxhash.xxh3_64_intdigest(ids.tobytes(), int(sample))
        assert data.read(range(step * batch, (step + 1) * batch)).checksum == total % 2**64
        totals.append(f"{total % 2**64:016x}")
    assert len(set(totals)) == STEPS
    return totals


def logged(run_dir: Path) -> tuple[list[str], list[float]]:
    records = read_metrics(run_dir)
    assert [record["step"] for record in records] == list(range(1, STEPS + 1))
    return [record["data_checksum"] for record in records], [record["loss"] for record in records]


STAGES = "data.stages=[{from_progress: 0.5, mixture: {prose: 0, sums: 1}}]"
FEATURES = {
    "stages": [STAGES],
    "epochs": ["data.mixture=null", "data.epochs={prose: 0.5, sums: 2}"],
    "block": ["data.shuffle=block"],
    "best-fit": ["data.packing=best-fit"],
}


@pytest.mark.parametrize(
    ("ranks", "feature"), [(1, "stages"), (2, "epochs"), (2, "block"), (4, "best-fit")]
)
def test_every_rank_count_reads_what_the_run_file_says(
    short_documents: Path, tmp_path: Path, ranks: int, feature: str
) -> None:
    settings = [*FEATURES[feature], f"paths.run_dir={tmp_path}"]
    config = load(short_documents, settings)
    if feature == "best-fit":
        pack(config)
    run_ranks(short_documents, ranks, settings)
    assert logged(tmp_path)[0] == checksums(config)


def test_a_run_reads_on_after_a_change_of_ranks_as_if_never_stopped(
    short_documents: Path, tmp_path: Path
) -> None:
    """Two ranks lose everything after step 10 of 20; one rank goes on, then, from the same step,
    four. With every setting at once: text packed, in blocks, documents apart, other proportions
    from step 11 on."""
    settings = [
        *APART,
        STAGES,
        "data.packing=best-fit",
        "data.shuffle=block",
        f"paths.run_dir={tmp_path}",
    ]
    config = load(short_documents, settings)
    pack(config)
    data = open_data(config)
    of_step_10, of_step_11 = (
        data.order.locate(np.arange(first, first + 8)).source for first in (72, 80)
    )
    assert set(of_step_10.tolist()) == {0, 1}
    assert set(of_step_11.tolist()) == {1}
    run_ranks(short_documents, 2, settings)
    read, losses = logged(tmp_path)
    assert read == checksums(config)
    for ranks in (1, 4):
        shutil.rmtree(tmp_path / "checkpoints" / "step_00000020")
        run_ranks(short_documents, ranks, settings)
        again, resumed = logged(tmp_path)
        assert again == read
        assert resumed[:10] == losses[:10]
        np.testing.assert_allclose(resumed[10:], losses[10:], rtol=0, atol=1e-5)
