"""The DeepSpeed engine: made from the resolved config, then asked whether it does what was asked for."""

from typing import Any

import deepspeed
import torch
from transformers import PreTrainedModel

from pipeline.config import RunConfig
from pipeline.training.deepspeed_config import offloads_optimizer

Engine = Any
"""A `deepspeed.DeepSpeedEngine`; its own annotations are too incomplete for a type checker."""
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def make_engine(config: RunConfig, resolved: dict[str, Any], model: PreTrainedModel) -> Engine:
    """Initialise DeepSpeed with AdamW; process groups must exist. Raises AssertionError if the engine differs."""
    # DeepSpeed casts buffers with the weights; rotary frequencies in bf16 would turn into wrong positions.
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers() if buffer.is_floating_point()}
    engine: Engine = deepspeed.initialize(
        model=model, optimizer=_make_optimizer(config, model, offloads_optimizer(resolved)), config=resolved
    )[0]
    for name, buffer in engine.module.named_buffers():
        if name in buffers:
            buffer.data = buffers[name].to(engine.device)
    _verify(config, resolved, engine)
    return engine


def _make_optimizer(config: RunConfig, model: PreTrainedModel, on_host: bool) -> torch.optim.Optimizer:
    """AdamW; weight decay on matrices only (Brown et al. 2020, appendix B)."""
    matrices, vectors = [], []
    for parameter in model.parameters():
        shape = getattr(parameter, "ds_shape", parameter.shape)  # a parameter sharded by ZeRO 3 shows shape (0,)
        (matrices if len(shape) >= 2 else vectors).append(parameter)
    settings = config.optimizer
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    common = {"lr": settings.peak_learning_rate, "betas": (settings.beta1, settings.beta2), "eps": settings.epsilon}
    if on_host:
        from deepspeed.ops.adam import DeepSpeedCPUAdam

        return DeepSpeedCPUAdam(groups, adamw_mode=True, **common)
    return torch.optim.AdamW(groups, fused=torch.cuda.is_available(), **common)


def _verify(config: RunConfig, resolved: dict[str, Any], engine: Engine) -> None:
    """DeepSpeed replaces some settings in silence; training must not begin with others than those recorded."""
    found = {
        "train_batch_size": engine.train_batch_size(),
        "train_micro_batch_size_per_gpu": engine.train_micro_batch_size_per_gpu(),
        "gradient_accumulation_steps": engine.gradient_accumulation_steps(),
        "gradient_clipping": engine.gradient_clipping(),
        "stage": engine.zero_optimization_stage(),
        "dtype": next(engine.module.parameters()).dtype,
    }
    wanted = {key: resolved[key] for key in found if key in resolved}
    wanted |= {"stage": resolved["zero_optimization"]["stage"], "dtype": DTYPES[config.precision.dtype]}
    assert found == wanted, f"DeepSpeed runs with {found}, asked for {wanted}"


def set_learning_rate(engine: Engine, value: float) -> None:
    """Set the learning rate of the next optimizer step."""
    for group in engine.optimizer.param_groups:
        group["lr"] = value


def gradient_norm(engine: Engine) -> float | None:
    """Return the global gradient norm that DeepSpeed measured at its last step, before clipping.

    None at ZeRO stage 0 in fp32, where it keeps none: call `plain_gradient_norm` before the step.
    """
    norm = engine.get_global_grad_norm()
    return None if norm is None else float(norm)


def loss_scale(engine: Engine) -> float | None:
    """Return the factor by which fp16 losses are scaled after the last step; None in other formats."""
    return float(engine.optimizer.loss_scale) if engine.fp16_enabled() else None


def plain_gradient_norm(engine: Engine) -> float:
    """Return the norm of the reduced gradients that lie in `.grad` (ZeRO stage 0)."""
    gradients = [p.grad for p in engine.module.parameters() if p.grad is not None]
    return float(torch.nn.utils.get_total_norm(gradients))
