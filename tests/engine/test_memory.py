"""Memory arithmetic: by hand, against the tensors of real engines, against what autograd keeps;
refusals and remedies."""

import gc
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import in_ranks
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from pipeline.config.run_config import RunConfig
from pipeline.engine.memory import (
    FreeMemory,
    MemorySetting,
    activation_bytes,
    logits_bytes,
    memory_parts,
    memory_remedies,
    refuse_if_too_big,
    state_parts,
)
from pipeline.errors import ConfigError
from pipeline.model.shape import ModelShape, model_shape

GIB = 2**30
SETTING = MemorySetting(
    "bf16",
    zero_stage=1,
    ranks=4,
    micro_batch_sequences=4,
    global_batch_sequences=64,
    sequence_length=8,
)
SHAPE = ModelShape(
    parameters=1000,
    layers=10,
    hidden=4,
    heads=2,
    attention=4,
    key_value=2,
    feed_forward=8,
    is_gated=True,
    vocabulary=16,
)


@pytest.mark.parametrize(
    ("dtype", "by_stage"),
    [
        # On 4 ranks; the arithmetic is in the docstring's table.
        ("fp32", [16, 11, 9, 6]),  # 16; 8 + 12/4 (4 + 20/4 is less); 4 + 20/4; 24/4
        ("bf16", [20, 11, 6, 5.5]),  # 20; 8 + 12/4; 2 + 16/4; 22/4
        ("fp16", [20, 7, 6.5, 5]),  # 20; 4 + 12/4 (2 + 18/4 is less); 2 + 18/4; 20/4
    ],
)
def test_bytes_per_parameter(dtype: str, by_stage: list[float]) -> None:
    for stage, expected in enumerate(by_stage):
        found = state_parts(1000, replace(SETTING, dtype=dtype, zero_stage=stage))
        assert sum(part.device for part in found) == pytest.approx(1000 * expected)
        assert sum(part.host for part in found) == 0


def test_muon_keeps_half_the_states_of_matrices() -> None:
    """3/4 of the parameters with one moment, 1/4 with two: 5 bytes instead of 8."""
    adamw, muon = (state_parts(1000, replace(SETTING, moment_bytes=m)) for m in (8, 5))
    assert sum(p.device for p in adamw) - sum(p.device for p in muon) == pytest.approx(3 * 1000 / 4)


def test_offloading_moves_lines_to_the_host() -> None:
    everything = replace(SETTING, zero_stage=3, offloads_optimizer=True, offloads_parameters=True)
    found = state_parts(1000, everything)
    assert sum(part.device for part in found) == 0
    assert sum(part.host for part in found) == pytest.approx(1000 * 22 / 4)
    on_nvme = state_parts(1000, replace(everything, to_nvme=True))
    assert sum(part.host for part in on_nvme) == pytest.approx(
        1000 * (4 + 4) / 4
    )  # gradients and their copy


def held() -> int:
    """Return the bytes of all tensors of this process, each storage once."""
    gc.collect()
    tensors = [o for o in gc.get_objects() if issubclass(type(o), torch.Tensor)]
    tensors += [t.grad for t in tensors if t.is_leaf and t.grad is not None]
    tensors += [
        extra
        for t in tensors
        for name in ("ds_tensor", "grad_accum")
        if torch.is_tensor(extra := getattr(t, name, None))
    ]
    storages = {
        t.untyped_storage().data_ptr(): t.untyped_storage().nbytes()
        for t in tensors
        if t.device.type != "meta"
    }
    return sum(storages.values())


def hold_most(config: RunConfig) -> dict[str, Any]:
    """Train, and return what was held at most when the optimizer stepped, beyond what was
    before."""
    from torch.optim.optimizer import (
        register_optimizer_step_post_hook,
        register_optimizer_step_pre_hook,
    )

    from pipeline.training.job import run_job
    from pipeline.training.stop import StopSignal

    before, seen = held(), []
    register_optimizer_step_pre_hook(lambda *_: seen.append(held() - before))
    register_optimizer_step_post_hook(lambda *_: seen.append(held() - before))
    outcome = run_job(config, StopSignal())
    return {"held": max(seen), "parameters": outcome["counts"].get("parameters")}


def engines() -> Iterator[Any]:
    for ranks, dtype, stage in itertools.product((1, 2), ("fp32", "bf16"), range(4)):
        if (dtype, stage) != ("bf16", 0):
            in_default = (ranks, dtype, stage) in [(2, "bf16", 1), (2, "fp32", 3)]
            yield pytest.param(ranks, dtype, stage, marks=() if in_default else pytest.mark.full)


@pytest.mark.ranks
@pytest.mark.parametrize(("ranks", "dtype", "stage"), list(engines()))
def test_real_engines_hold_the_sum(
    make_run: Callable[..., Path], tmp_path: Path, ranks: int, dtype: str, stage: int
) -> None:
    template = {"stage": stage, "reduce_bucket_size": 1000, "stage3_param_persistence_threshold": 0}
    (tmp_path / "template.json").write_text(json.dumps({"zero_optimization": template}))
    overrides = [
        f"deepspeed={tmp_path / 'template.json'}",
        f"precision.dtype={dtype}",
        "train.train_tokens=512",
        "schedule.warmup_tokens=0",
        "model.config={hidden_size: 256, intermediate_size: 768, num_hidden_layers: 4, "
        "num_attention_heads: 4}",
    ]
    found = in_ranks(make_run(), ranks, hold_most, overrides)
    setting = replace(SETTING, dtype=dtype, zero_stage=stage, ranks=ranks)
    expected = sum(part.device for part in state_parts(found["parameters"], setting))
    assert found["held"] == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("architecture", ["llama", "gpt_neox", "qwen3"])
def test_activations_are_those_that_autograd_keeps(architecture: str, dtype: str) -> None:
    sizes = {
        "hidden_size": 128,
        "intermediate_size": 384,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
    }
    grouped = {} if architecture == "gpt_neox" else {"num_key_value_heads": 2, "head_dim": 32}
    config = CONFIG_MAPPING[architecture](**sizes, **grouped, vocab_size=64, use_cache=False)
    model = AutoModelForCausalLM.from_config(
        config, dtype={"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]
    )
    weights = {p.untyped_storage().data_ptr() for p in [*model.parameters(), *model.buffers()]}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.base_model(input_ids=torch.zeros(2, 64, dtype=torch.long))
    found = sum(
        t.untyped_storage().nbytes() for pointer, t in kept.items() if pointer not in weights
    )
    shape = model_shape(config, 0)
    expected = activation_bytes(
        shape, replace(SETTING, dtype=dtype, micro_batch_sequences=2, sequence_length=64)
    )
    assert found == pytest.approx(expected, rel=0.1)


def test_activations_by_hand() -> None:
    """4 x 8 = 32 tokens. A layer, in bf16: norms 2 x 4 x (4 + 2 x 2) = 64; attention (2 x 4 + 2 x
    2) x 2 = 24; feed-forward 4 x 8 x 2 = 64: 152 a token. Normalised heads: (4 + 2) x (4 + 2) = 36
    more."""
    assert activation_bytes(SHAPE, SETTING) == 32 * 10 * 152
    assert activation_bytes(SHAPE, replace(SETTING, activation_checkpointing=True)) == 32 * (
        10 * 4 * 2 + 152
    )
    assert activation_bytes(SHAPE, replace(SETTING, stores_scores=True)) == 32 * 10 * (
        152 + 2 * 8 * (4 + 2)
    )
    assert activation_bytes(replace(SHAPE, normalises_heads=True), SETTING) == 32 * 10 * (152 + 36)
    assert logits_bytes(SHAPE, SETTING, tokens=5) == 5 * 16 * (2 + 8)


def test_the_sum_has_every_part() -> None:
    """At stage 3 two of ten layers' weights are gathered at once: 200 of 1,000, in bf16."""
    found = {
        part.name: part.device
        for part in memory_parts(SHAPE, replace(SETTING, zero_stage=3, bucket_bytes=7), 5)
    }
    assert found == {
        "parameters": 500.0,
        "gradients": 1000.0,
        "optimizer": 3000.0,
        "gradients for the step": 1000.0,
        "activations": 32 * 10 * 152.0,
        "logits": 800.0,
        "gathered weights": 400.0,
        "communication buffers": 7.0,
    }


def test_room_is_one_memory_on_cpus_and_two_on_gpus() -> None:
    needed = state_parts(
        1000, replace(SETTING, zero_stage=2, offloads_optimizer=True)
    )  # 2 + 4/4 there, 12/4 on the host
    assert [sum(p.device for p in needed), sum(p.host for p in needed)] == [3000, 3000]
    assert FreeMemory(3200, 3200, is_shared=False).fits(needed)
    assert not FreeMemory(3200, 3200, is_shared=True).fits(needed)
    assert FreeMemory(6400, 0, is_shared=True).fits(needed)


BILLION = ModelShape(10**9, 24, 2048, 16, 2048, 2048, 5504, True, 32000)
USUAL = MemorySetting("bf16", 1, 8, 4, 512, 2048)


def test_remedies_are_tried_and_those_named_fit() -> None:
    """In GiB: states 8.85, activations 17.06, logits 2.44. At stage 2 the states are 2 + 16/8 = 4
    bytes a parameter, 3.73; 16 ranks save 12/16 bytes, 0.70. A micro-batch of 2 halves activations
    and logits: 18.6."""
    found = {
        size: memory_remedies(BILLION, USUAL, FreeMemory(size * GIB, 0, is_shared=False))
        for size in (29.5, 28, 20, 15)
    }
    smaller, recomputed = "batch.micro_batch_sequences = 2", "train.activation_checkpointing = true"
    higher, wider = "deepspeed = a template of ZeRO stage 2", "16 ranks, each with as much memory"
    assert found == {
        29.5: [smaller, recomputed, higher, wider],  # 28.0 after the reserve
        28: [smaller, recomputed, higher],  # 26.6
        20: [smaller, recomputed],  # 19.0
        15: ["batch.micro_batch_sequences = 1", recomputed],  # 14.3
    }


def test_where_no_single_change_is_enough_they_are_joined() -> None:
    joined = (
        "batch.micro_batch_sequences = 1, train.activation_checkpointing = true and a template of "
        "ZeRO stage 3"
    )
    assert memory_remedies(BILLION, USUAL, FreeMemory(5 * GIB, 0, is_shared=False)) == [joined]
    with_ranks = f"{joined}, and 16 ranks, each with as much memory"
    assert memory_remedies(BILLION, USUAL, FreeMemory(3 * GIB, 0, is_shared=False)) == [with_ranks]
    assert memory_remedies(BILLION, USUAL, FreeMemory(1 * GIB, 0, is_shared=False)) == []


def test_a_refusal_shows_the_sum() -> None:
    with pytest.raises(ConfigError) as caught:
        refuse_if_too_big(BILLION, USUAL, FreeMemory(20 * GIB, 0, is_shared=False), "on a GPU")
    (problem,) = caught.value.problems
    lines = problem.splitlines()
    assert lines[0] == (
        "model: 1,000,000,000 parameters in bf16 at ZeRO stage 1 on 8 ranks, micro-batches of 4 x "
        "2048 tokens, do not fit "
        "on a GPU:"
    )
    assert [line.split()[0] for line in lines[1:6]] == [
        "parameters",
        "gradients",
        "optimizer",
        "activations",
        "logits",
    ]
    assert lines[1].endswith("1.86 GiB")  # 2e9 / 2^30
    assert lines[7].split()[-2:] == ["19.00", "GiB"]  # 95 % of 20
    assert (
        lines[8].strip()
        == "would fit: batch.micro_batch_sequences = 2; or train.activation_checkpointing = true"
    )
    assert refuse_if_too_big(BILLION, USUAL, FreeMemory(80 * GIB, 0, is_shared=False), "on a GPU")


def test_the_copy_of_a_checkpoint_counts_on_the_host_and_can_be_done_without() -> None:
    """10 parameters in bf16 at stage 2 on 2 ranks: (2 + 4 + 8) x 10 / 2 bytes each."""
    shape = replace(SHAPE, parameters=10)
    setting = replace(SETTING, dtype="bf16", zero_stage=2, ranks=2, copies_saves=True)
    (copy,) = [part for part in memory_parts(shape, setting) if part.name == "copy of a checkpoint"]
    assert (copy.device, copy.host) == (0, 70)
    without = memory_parts(shape, replace(setting, copies_saves=False))
    device = sum(part.device for part in without)
    room = FreeMemory(device / 0.95 + 1, host=10, is_shared=False)
    assert not room.fits(memory_parts(shape, setting))
    assert memory_remedies(shape, setting, room)[0] == "checkpoint.asynchronous = false"
