"""Runs that begin from another run's checkpoint, on real DeepSpeed engines and gloo ranks."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from helpers import digests, pretend_checkpoint
from ranks import NEEDS_FP16, run_ranks
from transformers import AutoModelForCausalLM

from pipeline.checkpoint.files import load_file
from pipeline.checkpoint.stored_weights import read_verified
from pipeline.config.run_file import load
from pipeline.errors import ConfigError
from pipeline.model.architecture import model_config
from pipeline.model.config_differences import model_differences
from pipeline.model.language_model import PREFIX
from pipeline.sampling.dataset import open_data
from pipeline.store.events import read_events
from pipeline.store.files import file_record, read_json
from pipeline.store.manifests.recorded_settings import flatten
from pipeline.store.metrics import read_metrics
from pipeline.training import branch, resume
from pipeline.training.origin import find_origin, origin_content
from pipeline.training.rollback import step_before_first_checkpoint

MakeRun = Callable[..., Path]
README = Path(branch.__file__).with_name("README.md")
CONSTANT, DROPOUT = "schedule.kind=constant", "model.config.attention_dropout=0.1"
COOL_DOWN = {
    "paths": {"run_dir": "cooldown"},
    "schedule": {
        "kind": "wsd",
        "warmup_tokens": 1024,
        "decay_tokens": 1280,
        "final_learning_rate_fraction": 0,
    },
    "train": {"init_from": "run@10", "init_take": "everything", "train_tokens": 3840},
}
"""From step 10 of 256 tokens over 5 steps to nothing."""


def records(run_file: Path, overrides: list[str] | None = None) -> list[dict[str, Any]]:
    return read_metrics(load(run_file, overrides or []).paths.run_dir)


def write_cool_down(base: Path) -> Path:
    """Write the run file of the base with the sections of COOL_DOWN changed."""
    document = yaml.safe_load(base.read_text())
    for section, values in COOL_DOWN.items():
        document[section] |= values
    path = base.with_name("cooldown.yaml")
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


def test_the_readmes_cool_down_has_the_settings_that_are_tested() -> None:
    (block,) = re.findall(r"```yaml\n(# A cool-down.*?)```", README.read_text(), re.DOTALL)
    shown = {
        name
        for section, values in yaml.safe_load(block).items()
        for name in flatten(values, section)
    }
    tested = {name for section, values in COOL_DOWN.items() for name in flatten(values, section)}
    assert shown == tested


@pytest.mark.ranks
@pytest.mark.parametrize("zero", ["zero1", pytest.param("zero3", marks=pytest.mark.full)])
def test_a_cool_down_goes_on_as_the_run_would_have(make_run: MakeRun, zero: str) -> None:
    """To the bit: weights, moments, data and dropout are those of the base; then the rate falls by
    1 - sqrt(n / 5)."""
    base = make_run(zero=zero)
    run_ranks(base, 2, [CONSTANT, DROPOUT])
    base_dir = load(base).paths.run_dir
    before, whole = digests(base_dir), records(base)
    run_file = write_cool_down(base)
    settings = [DROPOUT, "checkpoint.save_every_steps=3"]
    assert run_ranks(run_file, 2, settings)["status"] == "done"
    run_dir, found = load(run_file).paths.run_dir, records(run_file)
    assert [r["step"] for r in found] == [11, 12, 13, 14, 15]
    for key in ("tokens", "data_checksum"):
        assert [r[key] for r in found] == [r[key] for r in whole[10:15]]
    assert found[0]["loss"] == whole[10]["loss"]
    assert found[0]["grad_norm"] == whole[10]["grad_norm"]
    assert found[1]["loss"] != whole[11]["loss"]  # after a step of another rate
    assert [r["learning_rate"] / 1e-2 for r in found] == pytest.approx(
        [1 - (n / 5) ** 0.5 for n in range(1, 6)]
    )
    assert digests(base_dir) == before, "nothing is written to the base"

    origin = base_dir / "checkpoints" / "step_00000010" / "manifest.json"
    lineage = [{"run": str(base_dir), "step": 10, "checkpoint": file_record(origin)["checksum"]}]
    (event,) = read_events(run_dir, "branch")
    assert (event["lineage"], event["take"]) == (lineage, "everything")
    assert 'schedule.kind: "constant" -> "wsd"' in event["changed"]
    assert not any(change.startswith("data.") for change in event["changed"])
    assert step_before_first_checkpoint(run_dir) == 10, (
        "where a rollback before the first own checkpoint goes to"
    )
    assert step_before_first_checkpoint(base_dir) == 0

    shutil.rmtree(run_dir / "checkpoints" / "step_00000015")
    shutil.move(
        base_dir, base_dir.with_name("moved")
    )  # a branch that has begun needs its base no more
    outcome = run_ranks(run_file, 2, settings)
    assert records(run_file) == [*found[:2], *records(run_file)[2:]]
    assert [r["loss"] for r in records(run_file)] == [r["loss"] for r in found]
    assert outcome["counts"]["lineage"] == lineage
    assert (
        read_json(run_dir / "checkpoints" / "step_00000015" / "manifest.json")["lineage"] == lineage
    )
    assert len(read_events(run_dir, "branch")) == 1


@pytest.mark.ranks
def test_a_cool_down_at_another_zero_stage_goes_on_with_the_optimizer(make_run: MakeRun) -> None:
    """The second loss is after a step with the base's moments, but for the order of additions; the
    rate is still its."""
    base = make_run(zero="zero1")
    run_ranks(base, 2, [CONSTANT])
    settings = [
        f"train.init_from={load(base).paths.run_dir}@10",
        "train.init_take=everything",
        CONSTANT,
    ]
    branched = make_run(name="branch", zero="zero3")
    run_ranks(branched, 2, settings)
    differences = [
        abs(a["loss"] - b["loss"])
        for a, b in zip(records(branched), records(base)[10:], strict=True)
    ]
    assert max(differences) < 1e-5


@pytest.mark.ranks
@pytest.mark.parametrize(
    ("source", "ranks", "dtype", "target"),
    [
        ("zero1", 2, "bf16", "zero3"),
        ("zero3", 2, "fp32", "zero1"),
        pytest.param("zero0", 1, "fp32", "zero2", marks=pytest.mark.full),
        pytest.param("zero2", 4, "fp16", "zero0", marks=[pytest.mark.full, NEEDS_FP16]),
    ],
)
def test_weights_are_the_fp32_ones_whatever_wrote_them(
    make_run: MakeRun, source: str, ranks: int, dtype: str, target: str
) -> None:
    """Against DeepSpeed's own merging of shards, or the rounded weights beside them, and a plain
    model's loss for the first batch of the order."""
    base = make_run(zero=source)
    run_ranks(base, ranks, [f"precision.dtype={dtype}", "train.train_tokens=2560"])
    checkpoint = load(base).paths.run_dir / "checkpoints" / "step_00000010"
    stored = read_verified(checkpoint, "")
    plain = AutoModelForCausalLM.from_config(model_config(load(base)), dtype=torch.float32)
    merged = {
        name.removeprefix(PREFIX): weight
        for name, weight in merge(checkpoint, source, dtype).items()
    }
    found = {name.removeprefix(PREFIX): stored.weight(name) for name in stored.shapes}
    assert found.keys() == merged.keys() - ({"lm_head.weight"} if source != "zero0" else set())
    for name, weight in found.items():
        assert torch.equal(weight.to(merged[name].dtype), merged[name]), name
        assert weight.dtype == torch.float32
        assert dtype == "fp32" or not torch.equal(weight, merged[name].float()), (
            f"{name} is rounded"
        )
    plain.load_state_dict(found, strict=False)
    plain.tie_weights()

    run_file, overrides = (
        make_run(name="branch", zero=target),
        ["train.init_from=" + str(load(base).paths.run_dir)],
    )
    overrides += ["train.train_tokens=256", "schedule.warmup_tokens=0"]
    assert run_ranks(run_file, 2, overrides)["status"] == "done"
    config = load(run_file, overrides)
    batch = open_data(config).read(np.arange(8))
    inputs, targets = (torch.from_numpy(part).long() for part in (batch.inputs, batch.targets))
    with torch.no_grad():
        logits = plain(input_ids=inputs).logits
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten()).item()
    (record,) = records(run_file)
    assert (record["step"], record["tokens"]) == (1, 256)
    assert record["loss"] == pytest.approx(expected, abs=1e-5)


def merge(checkpoint: Path, zero: str, dtype: str) -> dict[str, torch.Tensor]:
    """Return fp32 weights at ZeRO 1 to 3 as DeepSpeed merges them, else those of the forward
    pass."""
    from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

    if (
        zero == "zero0" or dtype != "fp32"
    ):  # DeepSpeed cannot merge what it writes at stage 1 in bf16
        states = load_file(checkpoint / "mp_rank_00_model_states.pt")
        names = states["parameter_names"] or states["module"]  # at ZeRO 0 tied ones are named once
        return {name: states["module"][name] for name in names}
    return dict(
        get_fp32_state_dict_from_zero_checkpoint(str(checkpoint.parent), tag=checkpoint.name)
    )


@pytest.mark.ranks
def test_a_branch_trains_by_its_own_settings(make_run: MakeRun) -> None:
    """Stronger weight decay than the optimizer state was saved with acts from the first step on;
    another seed, another order of the data."""
    base = make_run()
    run_ranks(base, 1, [CONSTANT])
    whole = records(base)
    origin = f"train.init_from={load(base).paths.run_dir}@10"
    take = [CONSTANT, origin, "train.init_take=everything", "train.train_tokens=3072"]
    losses = {}
    for name, settings in {
        "same": [],
        "decay": ["optimizer.weight_decay=5"],
        "seed": ["train.seed=2"],
    }.items():
        run_file = make_run(name=name)
        run_ranks(run_file, 1, [*take, *settings])
        losses[name] = [r["loss"] for r in records(run_file)]
    assert losses["same"] == [r["loss"] for r in whole[10:12]]
    assert losses["decay"][0] == losses["same"][0]
    assert losses["decay"][1] != losses["same"][1]
    assert losses["seed"][0] != losses["same"][0]
    (event,) = read_events(load(run_file).paths.run_dir, "branch")
    assert "train.seed: 1 -> 2" in event["changed"]


@pytest.mark.ranks
def test_what_is_no_longer_as_it_was_written_is_refused(make_run: MakeRun) -> None:
    base = make_run()
    run_ranks(base, 1, ["checkpoint.save_every_steps=5"])
    base_dir = load(base).paths.run_dir
    shard = next((base_dir / "checkpoints" / "step_00000015").glob("*optim_states.pt"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    run_file = make_run(name="branch")
    outcome = run_ranks(run_file, 2, [f"train.init_from={base_dir}@15"])
    assert outcome["status"] == "refused"
    assert (
        f"step_00000015: is damaged: {shard.name} has content that differs from what was written; "
        in outcome["message"]
    )
    assert "name another step with train.init_from: 10, 20" in outcome["message"]
    outcome = run_ranks(
        run_file, 1, [f"train.init_from={base_dir}@10", "model.config.num_attention_heads=2"]
    )
    assert "model: num_attention_heads: 4 -> 2; " in outcome["message"]
    assert "set it back" in outcome["message"]


def pretend(make_run: MakeRun, **state: int) -> Path:
    """Write what is looked at, before any rank is started, of a run with a checkpoint at step
    10."""
    config = load(make_run())
    pretend_checkpoint(config.paths.run_dir, 10, 2560, **state)
    resume.record_run(config)
    return config.paths.run_dir


@pytest.mark.ranks
@pytest.mark.parametrize(
    ("origin", "message"),
    [
        (
            "run@11",
            r"train\.init_from = .*run@11: no such checkpoint; there are checkpoints of step 10$",
        ),
        (
            "nowhere@10",
            r"train\.init_from = .*nowhere@10: .*nowhere/checkpoints holds no complete checkpoint",
        ),
        (
            "branch@10",
            r"train\.init_from = .*branch@10: is this run's own folder; choose another paths\.run_dir",
        ),
    ],
)
def test_an_origin_that_is_not_there_is_named(make_run: MakeRun, origin: str, message: str) -> None:
    folder = pretend(make_run).parent
    with pytest.raises(ConfigError, match=message):
        branch.check_branch(load(make_run(name="branch"), [f"train.init_from={folder / origin}"]))


@pytest.mark.ranks
@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "batch.global_batch_tokens=512",
            r"step 10 ends after 5120 tokens, but in .*step_00000010 after 2560; set them to",
        ),
        (
            "train.train_tokens=2560",
            r"train\.train_tokens = 2560: must be above the 2560 tokens that .* has seen",
        ),
        (
            "precision.dtype=bf16",
            r"precision\.dtype = bf16: .*run has fp32; set it back, or set train\.init_take to weights",
        ),
    ],
)
def test_everything_asks_for_more_agreement_than_weights(
    make_run: MakeRun, override: str, message: str
) -> None:
    origin = f"train.init_from={pretend(make_run)}@10"
    run_file, settings = make_run(name="branch"), [origin, override]
    branch.check_branch(load(run_file, settings))
    with pytest.raises(ConfigError, match=message):
        branch.check_branch(load(run_file, [*settings, "train.init_take=everything"]))


@pytest.mark.ranks
def test_another_origin_is_refused_once_the_run_has_begun(make_run: MakeRun) -> None:
    """By its content: the same checkpoint may lie elsewhere, or be gone."""
    folder = pretend(make_run)
    other = shutil.copytree(folder, folder.with_name("other"))
    pretend_checkpoint(other, 10, 2561)
    same = shutil.copytree(folder, folder.with_name("same"))
    run_file = make_run(name="branch")
    config = load(run_file, [f"train.init_from={folder}@10"])
    resume.record_run(config)
    pretend_checkpoint(config.paths.run_dir, 5, 1280)
    resume.check_resume(load(run_file, [f"train.init_from={same}@10"]))
    with pytest.raises(ConfigError, match=r"train\.init_from: .*began with the first value"):
        resume.check_resume(load(run_file, [f"train.init_from={other}@10"]))
    with pytest.raises(ConfigError, match=r"train\.init_take: \"weights\" -> \"everything\""):
        resume.check_resume(
            load(run_file, [f"train.init_from={folder}@10", "train.init_take=everything"])
        )
    shutil.rmtree(folder)
    assert origin_content(config) == {"train.init_from": None}
    for _ in range(2):  # nor is what was recorded forgotten
        resume.record_run(config)
        branch.check_branch(config)
    with pytest.raises(ConfigError, match=r"train\.init_from: .*began with the first value"):
        resume.check_resume(load(run_file, [f"train.init_from={other}@10"]))


@pytest.mark.ranks
def test_the_newest_checkpoint_is_the_default(make_run: MakeRun) -> None:
    folder = pretend(make_run)
    pretend_checkpoint(folder, 20, 5120)
    origin = find_origin(load(make_run(name="branch"), [f"train.init_from={folder}"]))
    assert origin is not None
    assert origin.checkpoint.name == "step_00000020"


def test_models_are_compared_by_what_makes_another_function() -> None:
    one = {
        "hidden_size": 32,
        "num_attention_heads": 4,
        "attention_dropout": 0.0,
        "rope_theta": 1e4,
        "dtype": "float32",
    }
    same = one | {
        "attention_dropout": 0.1,
        "rope_theta": 5e5,
        "max_position_embeddings": 99,
        "dtype": "bfloat16",
    }
    assert model_differences(one, same) == []
    assert model_differences(one, one | {"num_attention_heads": 2}) == [
        "num_attention_heads: 4 -> 2"
    ]
