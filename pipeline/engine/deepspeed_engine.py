"""The type of DeepSpeed's engine, and what is read from an engine's private parts.

DeepSpeed 0.19.8 has too few annotations for a type checker. `Engine` lists the attributes and
methods that this package uses; add another one here before you call it. Free of torch.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, overload

if TYPE_CHECKING:
    import torch
    from deepspeed.runtime.checkpoint_engine.checkpoint_engine import CheckpointEngine

    from pipeline.model.language_model import LanguageModel


class Engine(Protocol):
    """A `deepspeed.DeepSpeedEngine`, as `make_engine` returns it."""

    module: "LanguageModel"
    device: "torch.device"
    optimizer: Any
    """DeepSpeed's wrapper around the optimizer; its class depends on precision and ZeRO stage."""
    basic_optimizer: "torch.optim.Optimizer"
    """The torch optimizer inside the wrapper, built by `OptimizerKind.build`."""
    checkpoint_engine: "CheckpointEngine"
    """DeepSpeed's reader and writer of checkpoint files."""
    enable_backward_allreduce: bool

    @overload
    def __call__(
        self, inputs: "torch.Tensor", *, positions: "torch.Tensor | None" = None
    ) -> "torch.Tensor": ...
    @overload
    def __call__(
        self,
        inputs: "torch.Tensor",
        targets: "torch.Tensor",
        positions: "torch.Tensor | None" = None,
    ) -> "tuple[torch.Tensor, torch.Tensor]":
        """Call the language model, see `LanguageModel.forward`."""
        ...

    def train(self) -> None: ...
    def eval(self) -> None: ...

    def backward(self, loss: "torch.Tensor") -> None: ...
    def step(self) -> None: ...
    def set_gradient_accumulation_boundary(self, is_boundary: bool) -> None: ...
    def set_train_batch_size(self, train_batch_size: int) -> None: ...

    def train_batch_size(self) -> int: ...
    def train_micro_batch_size_per_gpu(self) -> int: ...
    def gradient_accumulation_steps(self) -> int: ...
    def gradient_clipping(self) -> float: ...
    def zero_optimization_stage(self) -> int: ...
    def zero_nvme_offload_optimizer(self) -> bool: ...
    def fp16_enabled(self) -> bool: ...
    def get_global_grad_norm(self) -> float: ...

    def get_data_types(self) -> "tuple[torch.dtype, torch.dtype]":
        """Return the formats of the weights and of the accumulated gradients."""
        ...

    def save_checkpoint(
        self,
        save_dir: str,
        tag: str,
        client_state: Mapping[str, list[str]] = ...,
        save_latest: bool = True,
    ) -> None: ...
    def load_checkpoint(
        self, load_dir: str, tag: str
    ) -> "tuple[str | None, Mapping[str, list[str]]]":
        """Return the checkpoint's folder, or None where nothing was loaded, and the client state."""
        ...

    def _get_zero_param_shapes(self) -> "Sequence[Mapping[str, torch.Size]]": ...

    _copy_recovery_script: Callable[[str], None]
    """Copies DeepSpeed's own script for merging shards into a folder."""


def group_shapes(engine: Engine) -> "Sequence[Mapping[str, torch.Size]]":
    """Return `[{name: shape}]` by group, in the order of the parameters in ZeRO's flat tensors."""
    return engine._get_zero_param_shapes()  # pyright: ignore[reportPrivateUsage]


def flat_tensors(engine: Engine) -> "list[torch.Tensor]":
    """Return by group this rank's flat fp32 weights, which the optimizer updates (ZeRO 1 to 3)."""
    if engine.zero_optimization_stage() == 3:
        return list(engine.optimizer.fp32_partitioned_groups_flat)
    return [group["params"][0] for group in engine.optimizer.param_groups]


def write_no_recovery_script(engine: Engine) -> None:
    """Stop DeepSpeed from copying a script into every checkpoint folder; `export` replaces it."""
    engine._copy_recovery_script = _copy_nothing  # pyright: ignore[reportPrivateUsage]


def _copy_nothing(save_path: str) -> None:
    pass
