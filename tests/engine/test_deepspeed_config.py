"""Templates: what belongs there, every refusal with its remedy, and DeepSpeed's own list of
keys."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from training_data import TEMPLATES

from pipeline.config.groups import group_sizes
from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.engine.deepspeed_config import (
    offloads_optimizer,
    read_template,
    refuse_execution,
    resolve_template,
)
from pipeline.engine.template_keys import OFFLOAD_KEYS, QUANTISING_ZERO_KEYS, ZERO_KEYS
from pipeline.errors import ConfigError


@pytest.fixture
def config(run_file: Path) -> RunConfig:
    return load(run_file)  # 4 sequences a global batch, micro-batches of 2


def problems(template: dict[str, Any], config: RunConfig, ranks: int = 1) -> list[str]:
    """Return what is refused where `launch.ranks` is this number."""
    launch = config.launch.model_copy(update={"ranks": ranks})
    config = config.model_copy(update={"launch": launch})
    with pytest.raises(ConfigError) as caught:
        resolve_template(template, config, group_sizes(ranks))
    return caught.value.problems


@pytest.mark.parametrize("path", sorted(TEMPLATES.glob("*.json")), ids=lambda path: path.stem)
@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32"])
@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_every_shipped_template_resolves_completely(
    path: Path, dtype: str, kind: str, run_file: Path
) -> None:
    config = load(run_file, [f"precision.dtype={dtype}", f"optimizer.kind={kind}"])
    refused = [
        f"precision.dtype = {dtype}: at ZeRO stage 0"
        if path.stem == "zero0" and dtype != "fp32"
        else "",
        "optimizer.kind = muon: orthogonalises on the device"
        if "offload" in path.stem and kind == "muon"
        else "",
    ]
    if any(refused):
        (found,) = problems(read_template(path), config, 2)
        assert found.startswith("".join(refused))
        return
    resolved = resolve_template(read_template(path), config, group_sizes(2))
    assert "auto" not in json.dumps(resolved)
    assert (resolved["train_batch_size"], resolved["train_micro_batch_size_per_gpu"]) == (4, 2)
    assert resolved["gradient_accumulation_steps"] == 1
    assert resolved["gradient_clipping"] == (
        0.0 if path.stem == "zero0" else 1.0
    )  # at stage 0 the loop clips
    assert [key for key in ("bf16", "fp16") if key in resolved] == (
        [] if dtype == "fp32" else [dtype]
    )
    assert offloads_optimizer(resolved) == ("offload" in path.stem)


def test_kernels_that_exclude_each_other_are_refused(run_file: Path) -> None:
    config = load(run_file, ["optimizer.adamw_kernel=deepspeed"])
    assert problems({"zero_optimization": {"stage": 1}}, config) == [
        "optimizer.adamw_kernel = deepspeed: optimizer.kind = muon brings its own AdamW; leave "
        "out optimizer.adamw_kernel"
    ]
    config = load(run_file, ["optimizer.kind=adamw", "optimizer.adamw_kernel=deepspeed"])
    (found,) = problems(
        {"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}}}, config
    )
    assert found.startswith(
        "optimizer.adamw_kernel = deepspeed: is for optimizer states on the device"
    )


def test_auto_is_the_same_as_absent(config: RunConfig) -> None:
    autos = {
        "train_batch_size": "auto",
        "bf16": {"enabled": "auto"},
        "optimizer": {"type": "auto", "params": {"lr": "auto"}},
    }
    assert resolve_template(
        {**autos, "zero_optimization": {"stage": 2}}, config, group_sizes(1)
    ) == resolve_template({"zero_optimization": {"stage": 2}}, config, group_sizes(1))


def test_all_problems_are_told_at_once_each_with_its_remedy(config: RunConfig) -> None:
    template = {
        "train_batch_size": 32,
        "gradient_cliping": 1.0,
        "communication_data_type": "fp16",
        "wall_clock_breakdown": "auto",
        "flops_profiler": {"enabeld": True},
        "zero_optimization": {
            "stage": 4,
            "reduce_bucket_sise": 5,
            "zero_quantized_gradients": True,
            "allgather_bucket_size": "auto",
            "offload_param": {"devise": "cpu"},
        },
    }
    found = "\n".join(problems(template, config, ranks=3))
    for expected in (
        'train_batch_size = 32: set batch.global_batch_tokens in the run YAML; here absent or "auto"',
        "gradient_cliping: unknown key (DeepSpeed would ignore it); did you mean "
        "gradient_clipping?",
        "communication_data_type: is not allowed in a template: it changes the result",
        'wall_clock_breakdown = "auto": give a value, or leave it out',
        "flops_profiler.enabeld: unknown key (DeepSpeed would ignore it); did you mean enabled?",
        "zero_optimization.stage = 4: must be 0, 1, 2 or 3",
        "zero_optimization.reduce_bucket_sise: unknown key (DeepSpeed would ignore it); did you "
        "mean reduce_bucket_size?",
        "zero_optimization.zero_quantized_gradients: is not allowed in a template: it changes the result",
        'zero_optimization.allgather_bucket_size = "auto": give a value',
        "zero_optimization.offload_param.devise: unknown key (DeepSpeed would ignore it); did you "
        "mean device?",
        "launch.ranks = 3 x batch.micro_batch_sequences = 2: must divide the 4 sequences of a "
        "global batch "
        "(batch.global_batch_tokens / data.sequence_length); set launch.ranks to 2, or "
        "batch.global_batch_tokens to 48 or 96",
    ):
        assert expected in found


def test_every_step_of_a_ramp_must_divide_among_the_ranks(run_file: Path) -> None:
    config = load(run_file, ["batch.ramp=[{until_tokens: 64, global_batch_tokens: 16}]"])
    assert problems({}, config, ranks=2) == [
        "batch.ramp.0.global_batch_tokens = 16: its 2 sequences must be a multiple of launch.ranks "
        "= 2 x "
        "batch.micro_batch_sequences = 2; set 32 or 64"
    ]
    assert (
        resolve_template({"zero_optimization": {"stage": 1}}, config, group_sizes(1))[
            "gradient_accumulation_steps"
        ]
        == 2
    )  # 4 sequences after the ramp = 1 x 2 x 2


@pytest.mark.parametrize(
    ("ranks", "micro", "remedy"),
    [
        # 4 sequences of 8 tokens. 3 ranks x 1: 2 or 4 ranks; 3 does not divide 4, so no
        # micro-batch; 24 = 3 x 1 x 8.
        (3, 1, "set launch.ranks to 2 or 4, or batch.global_batch_tokens to 24 or 48"),
        # 4 ranks x 2: 2 ranks of 2, or 4 of 1; 64 = 4 x 2 x 8.
        (
            4,
            2,
            "set launch.ranks to 2, or batch.micro_batch_sequences to 1, or "
            "batch.global_batch_tokens to 64 or 128",
        ),
    ],
)
def test_a_batch_that_does_not_divide_names_what_would(
    run_file: Path, ranks: int, micro: int, remedy: str
) -> None:
    (found,) = problems({}, load(run_file, [f"batch.micro_batch_sequences={micro}"]), ranks)
    assert found.endswith(remedy)


def test_resolving_changes_neither_template_nor_config(config: RunConfig) -> None:
    template = {"zero_optimization": {"stage": 1}}
    before = json.dumps(template)
    assert resolve_template(template, config, group_sizes(1)) == resolve_template(
        template, config, group_sizes(1)
    )
    assert json.dumps(template) == before


def test_the_lists_of_keys_are_deepspeeds_own() -> None:
    from deepspeed.runtime.zero import config as zero
    from deepspeed.runtime.zero import offload_config as offload

    def names(model: Any) -> set[str]:
        return {field.alias or name for name, field in model.model_fields.items()}

    known = names(zero.DeepSpeedZeroConfig)
    assert known >= ZERO_KEYS
    assert known >= QUANTISING_ZERO_KEYS
    deprecated_or_special = {
        "cpu_offload", "cpu_offload_param", "cpu_offload_use_pin_memory", "legacy_stage1", "leaf_module",
        "parameter_alignment", "save_muon_momentum_buffer_in_memory", "stage3_gather_fp16_weights_on_model_save",
    }  # fmt: skip
    assert known - ZERO_KEYS - QUANTISING_ZERO_KEYS == deprecated_or_special
    assert OFFLOAD_KEYS["offload_param"] <= set(
        offload.DeepSpeedZeroOffloadParamConfig.model_fields
    )
    assert OFFLOAD_KEYS["offload_optimizer"] <= set(
        offload.DeepSpeedZeroOffloadOptimizerConfig.model_fields
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            None,
            r"deepspeed = .*template\.json: cannot read .* shipped templates are zero0, zero1, ",
        ),
        ("{not json", "not valid JSON"),
        ("[1]", "must be a JSON object"),
    ],
)
def test_an_unreadable_template_is_named(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "template.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=message):
        read_template(path)


@pytest.mark.ranks
def test_a_model_smaller_than_the_tokenizer_is_refused_before_anything_starts(
    make_run: Callable[..., Path],
) -> None:
    with pytest.raises(
        ConfigError, match=r"model\.config\.vocab_size = 256: the tokenizer has 300 ids"
    ):
        refuse_execution(load(make_run(), ["model.config.vocab_size=256"]))
