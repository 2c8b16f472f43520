"""Make the DeepSpeed engine from the resolved config, and verify that it runs as configured."""

import importlib
from typing import Any, TypeVar

import deepspeed
import torch
from deepspeed.runtime import compiler

from pipeline.config.groups import RankGroups
from pipeline.config.run_config import RunConfig
from pipeline.engine.deepspeed_config import DeepSpeedConfig, offloads_optimizer
from pipeline.engine.deepspeed_engine import Engine, flat_tensors
from pipeline.engine.gradient_norm import sum_norms_by_pieces
from pipeline.engine.optimizers.optimizer_kind import optimizer_kind
from pipeline.engine.optimizers.parameter_groups import parameter_groups
from pipeline.model.language_model import LanguageModel
from pipeline.model.objective import refuse_objective

T = TypeVar("T")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""torch's number format, by `precision.dtype`."""
UNWRAPPED = "none"
WRAPPERS = {
    ("fp32", 0): UNWRAPPED,
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
"""Class that DeepSpeed 0.19.8 wraps around the optimizer, by `precision.dtype` and ZeRO stage.

With offload DeepSpeed never uses `BF16_Optimizer`, but `DeepSpeedZeroOptimizer`.
"""


def make_engine(
    config: RunConfig, groups: RankGroups, resolved: DeepSpeedConfig, model: LanguageModel
) -> Engine:
    """Initialise DeepSpeed for a model; the process groups must already exist.

    Raises AssertionError if the engine differs from its configuration, and ConfigError if training
    would minimise a different objective from the model's own.
    """
    # DeepSpeed casts buffers together with the weights. Rotary frequencies in bf16 would become
    # wrong positions, so the fp32 values are put back below.
    buffers = {
        name: buffer.clone() for name, buffer in model.named_buffers() if buffer.is_floating_point()
    }

    # Build the optimizer and the engine around the model.
    kind = optimizer_kind(config.optimizer)
    optimizer = kind.build(
        config.optimizer, parameter_groups(config, model), offloads_optimizer(resolved)
    )
    _import_muon_uncompiled()
    initialised: Any = deepspeed.initialize(model=model, optimizer=optimizer, config=dict(resolved))
    engine: Engine = initialised[0]
    if engine.zero_optimization_stage() == 0 and groups.sizes.world == 1:
        # On one rank the reduction would only copy all gradients to a buffer and back.
        engine.enable_backward_allreduce = False
    for name, buffer in engine.module.named_buffers():
        if name in buffers:
            buffer.data = buffers[name].to(engine.device)

    sum_norms_by_pieces(engine.optimizer)

    # Verify what DeepSpeed made before anything is trained with it.
    _verify(config, resolved, engine)
    kind.lay_out(engine, groups)
    refuse_objective(config, engine.module.examine())
    if config.train.compile:
        engine.module.compile_model()
    return engine


def _as_it_is(function: T) -> T:
    return function


def _import_muon_uncompiled() -> None:
    """Import DeepSpeed's Muon without PyTorch's compiler, whose import would take seconds a rank.

    DeepSpeed imports its Muon whatever the optimizer is, and marks the kernels for compilation.
    They are never called: `optimizers/sharded_muon.py` has our own.
    """
    compile_of_deepspeed = compiler.compile
    compiler.compile = lambda: _as_it_is
    try:
        importlib.import_module("deepspeed.runtime.zero.muon.original_muon")
    finally:
        compiler.compile = compile_of_deepspeed


def _verify(config: RunConfig, resolved: DeepSpeedConfig, engine: Engine) -> None:
    """Raise AssertionError if the engine's settings differ from the resolved config.

    DeepSpeed replaces some settings silently; the run would then be recorded with wrong settings.
    """
    # What the engine runs with.
    wrapper = UNWRAPPED
    if engine.optimizer is not engine.basic_optimizer:
        wrapper = type(engine.optimizer).__name__
    found = {
        "train_batch_size": engine.train_batch_size(),
        "train_micro_batch_size_per_gpu": engine.train_micro_batch_size_per_gpu(),
        "gradient_accumulation_steps": engine.gradient_accumulation_steps(),
        "gradient_clipping": engine.gradient_clipping(),
        "stage": engine.zero_optimization_stage(),
        "weights": next(engine.module.parameters()).dtype,
        "gradients": engine.get_data_types()[1],
        "master weights": {p.dtype for p in _stepped_on(engine)},
        "wrapper": wrapper,
    }

    # What it should run with: the resolved config, and what the README's table of precisions says.
    precision = config.precision.dtype
    stage = resolved["zero_optimization"]["stage"]
    expected_wrapper = WRAPPERS[precision, stage]
    if offloads_optimizer(resolved) and expected_wrapper == "BF16_Optimizer":
        expected_wrapper = "DeepSpeedZeroOptimizer"
    wanted = {
        "train_batch_size": resolved["train_batch_size"],
        "train_micro_batch_size_per_gpu": resolved["train_micro_batch_size_per_gpu"],
        "gradient_accumulation_steps": resolved["gradient_accumulation_steps"],
        "gradient_clipping": resolved["gradient_clipping"],
        "stage": stage,
        "weights": DTYPES[precision],
        "gradients": torch.float32,
        "master weights": {torch.float32},
        "wrapper": expected_wrapper,
    }
    assert found == wanted, f"DeepSpeed runs with {found}, asked for {wanted}"


def _stepped_on(engine: Engine) -> list[torch.Tensor]:
    """Return the tensors that the inner optimizer updates."""
    if engine.zero_optimization_stage() == 0:
        return list(engine.module.parameters())
    return flat_tensors(engine)


def clip_gradients(engine: Engine, largest: float) -> torch.Tensor:
    """Scale the reduced gradients in `.grad` (ZeRO 0) to a norm of at most `largest`.

    Returns the global norm before clipping, `()`.
    """
    return torch.nn.utils.clip_grad_norm_(engine.module.parameters(), largest)


def gradient_norm(engine: Engine) -> float:
    """Return the global gradient norm before clipping, measured at the last step (ZeRO 1 to 3).

    The norm is infinite where a gradient was not finite: DeepSpeed has then left the weights
    unchanged on all ranks.
    """
    return float(engine.get_global_grad_norm())


def loss_scale(engine: Engine) -> float | None:
    """Return the factor on fp16 losses after the last step; None in other formats."""
    if not engine.fp16_enabled():
        return None
    return float(engine.optimizer.loss_scale)
