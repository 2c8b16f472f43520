"""The DeepSpeed engine: made from the resolved config, then asked whether it does what was asked
for."""

import importlib
from typing import Any

import deepspeed
import torch
from deepspeed.runtime import compiler

from pipeline.config.groups import RankGroups
from pipeline.config.run_config import RunConfig
from pipeline.engine.deepspeed_config import offloads_optimizer
from pipeline.engine.optimizers.optimizer_kind import optimizer_kind
from pipeline.engine.optimizers.parameter_groups import parameter_groups
from pipeline.engine.shards import flat_tensors
from pipeline.model.language_model import LanguageModel
from pipeline.model.objective import refuse_objective

Engine = Any
"""A `deepspeed.DeepSpeedEngine`; its own annotations are too incomplete for a type checker."""
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


WRAPPERS = {
    ("fp32", 0): "fp32",
    ("fp32", 1): "DeepSpeedZeroOptimizer",
    ("fp32", 2): "DeepSpeedZeroOptimizer",
    ("fp32", 3): "DeepSpeedZeroOptimizer_Stage3",
    ("bf16", 1): "BF16_Optimizer",
    ("bf16", 2): "DeepSpeedZeroOptimizer",
    ("bf16", 3): "DeepSpeedZeroOptimizer_Stage3",
    ("fp16", 1): "DeepSpeedZeroOptimizer",
    ("fp16", 2): "DeepSpeedZeroOptimizer",
    ("fp16", 3): "DeepSpeedZeroOptimizer_Stage3",
}
"""What DeepSpeed 0.19.8 puts around the optimizer. In fp32 at stage 0 nothing; with offload
BF16_Optimizer never."""


def make_engine(
    config: RunConfig, groups: RankGroups, resolved: dict[str, Any], model: LanguageModel
) -> Engine:
    """Initialise DeepSpeed; process groups must exist.

    Raises AssertionError if the engine is not what was asked for, and ConfigError if the model
    would be trained for another objective than its own.
    """
    # DeepSpeed casts buffers with the weights; rotary frequencies in bf16 would turn into wrong
    # positions.
    buffers = {
        name: buffer.clone() for name, buffer in model.named_buffers() if buffer.is_floating_point()
    }
    kind = optimizer_kind(config.optimizer)
    optimizer = kind.build(
        config.optimizer, parameter_groups(config, model), offloads_optimizer(resolved)
    )
    _import_muon_uncompiled()
    engine: Engine = deepspeed.initialize(model=model, optimizer=optimizer, config=resolved)[0]
    if engine.zero_optimization_stage() == 0 and groups.sizes.world == 1:
        engine.enable_backward_allreduce = False  # it would copy all gradients to a buffer and back
    for name, buffer in engine.module.named_buffers():
        if name in buffers:
            buffer.data = buffers[name].to(engine.device)
    _verify(config, resolved, engine)
    kind.lay_out(engine, groups)
    refuse_objective(config, engine.module.examine())
    if config.train.compile:
        engine.module.compile_model()
    return engine


def _import_muon_uncompiled() -> None:
    """Import DeepSpeed's Muon without PyTorch's compiler, whose import would cost every rank
    seconds at its start.

    DeepSpeed imports it whatever the optimizer is, and marks its kernels to be compiled. They are
    never called: `optimizers/sharded_muon.py` has our own.
    """
    compile_of_deepspeed = compiler.compile
    compiler.compile = lambda: compiler.dummy_decorator
    try:
        importlib.import_module("deepspeed.runtime.zero.muon.original_muon")
    finally:
        compiler.compile = compile_of_deepspeed


def _verify(config: RunConfig, resolved: dict[str, Any], engine: Engine) -> None:
    """DeepSpeed replaces some settings in silence; training must not begin with others than those
    recorded."""
    precision = config.precision.dtype
    stage = resolved["zero_optimization"]["stage"]
    found = {
        "train_batch_size": engine.train_batch_size(),
        "train_micro_batch_size_per_gpu": engine.train_micro_batch_size_per_gpu(),
        "gradient_accumulation_steps": engine.gradient_accumulation_steps(),
        "gradient_clipping": engine.gradient_clipping(),
        "stage": engine.zero_optimization_stage(),
        "weights": next(engine.module.parameters()).dtype,
        "gradients": engine.get_data_types()[1],
        "master weights": {p.dtype for p in _stepped_on(engine)},
        "wrapper": type(engine.optimizer).__name__
        if engine.optimizer is not engine.basic_optimizer
        else "fp32",
    }
    wanted = {key: resolved[key] for key in found if key in resolved}
    wanted |= {"stage": stage, "weights": DTYPES[precision], "gradients": torch.float32}
    wanted |= {"master weights": {torch.float32}, "wrapper": WRAPPERS[precision, stage]}
    if offloads_optimizer(resolved) and wanted["wrapper"] == "BF16_Optimizer":
        wanted["wrapper"] = "DeepSpeedZeroOptimizer"
    assert found == wanted, f"DeepSpeed runs with {found}, asked for {wanted}"


def _stepped_on(engine: Engine) -> list[torch.Tensor]:
    """Return the tensors that the inner optimizer updates."""
    return (
        list(engine.module.parameters())
        if engine.zero_optimization_stage() == 0
        else flat_tensors(engine)
    )


def clip_gradients(engine: Engine, largest: float) -> torch.Tensor:
    """Scale the reduced gradients that lie in `.grad` (ZeRO 0) down to a norm; returns their norm
    before, `()`."""
    return torch.nn.utils.clip_grad_norm_(engine.module.parameters(), largest)


def gradient_norm(engine: Engine) -> float:
    """Return the global gradient norm, before clipping, that DeepSpeed measured at its last step
    (ZeRO 1 to 3).

    Infinite where a gradient was not finite: DeepSpeed has then left the weights as they were, on
    all ranks.
    """
    return float(engine.get_global_grad_norm())


def loss_scale(engine: Engine) -> float | None:
    """Return the factor by which fp16 losses are scaled after the last step; None in other
    formats."""
    return float(engine.optimizer.loss_scale) if engine.fp16_enabled() else None
