"""AdamW for all parameters, with torch's fused kernel, DeepSpeed's, or DeepSpeed's for CPUs."""

from typing import TYPE_CHECKING, TypedDict

from pipeline.config.sections import Optimizer
from pipeline.engine.extensions import Operator, compile_program, load_operator
from pipeline.engine.optimizers.optimizer_kind import (
    Execution,
    OptimizerKind,
    ParameterGroups,
    ParameterState,
)

if TYPE_CHECKING:
    import torch

ADAMW_STATE = ParameterState(("exp_avg", "exp_avg_sq"), counts_steps=True)

CPU_ADAM = Operator(
    "cpu_adam",
    "DeepSpeed's CPU optimizer",
    compile_program("CPUAdamBuilder"),
    usual="2 minutes",
    remedy=(
        "install a C++ compiler (Debian: apt install g++), or use a template without "
        "offload_optimizer"
    ),
)
FUSED_ADAM = Operator(
    "fused_adam",
    "DeepSpeed's fused AdamW",
    compile_program("FusedAdamBuilder"),
    usual="2 minutes",
    remedy=(
        "install the compiler that torch was made with (nvcc, on GPUs), or leave "
        "optimizer.adamw_kernel out"
    ),
)


class AdamWArguments(TypedDict):
    """Arguments of every AdamW, by torch's names."""

    lr: float
    betas: tuple[float, float]
    eps: float


class AdamWKind(OptimizerKind):
    """AdamW: decoupled weight decay, two moments a parameter (Loshchilov and Hutter 2019)."""

    trains_experts = True
    states = (ADAMW_STATE,)
    is_on_deepspeeds_list = True

    def hidden_matrix_rate(self, width: float) -> float:
        """Return 1 / width (Yang et al. 2022, arXiv:2203.03466, tables 3 and 8)."""
        return 1 / width

    def moment_bytes(self, non_embedding_share: float) -> float:
        """Return the bytes of two fp32 numbers a parameter."""
        return 8.0

    def update(self, is_hidden_matrix: bool) -> str:
        """Return AdamW's update for every parameter."""
        return "adamw"

    def problems(self, settings: Optimizer, execution: Execution) -> list[str]:
        """Refuse DeepSpeed's kernel for the device where the states are not on the device."""
        return kernel_problems(settings, execution)

    def operators(self, settings: Optimizer, is_offloaded: bool) -> list[Operator]:
        """Return the operator of the kernel that is used; torch's kernel needs none."""
        if is_offloaded:
            return [CPU_ADAM]
        if settings.adamw_kernel == "deepspeed":
            return [FUSED_ADAM]
        return []

    def build(
        self, settings: Optimizer, groups: ParameterGroups, is_offloaded: bool
    ) -> "torch.optim.Optimizer":
        """Return an AdamW whose kernel fits the settings and the place of the states."""
        common = adamw_arguments(settings)
        if is_offloaded:
            load_operator(CPU_ADAM)
            from deepspeed.ops.adam import DeepSpeedCPUAdam

            return DeepSpeedCPUAdam(groups, adamw_mode=True, **common)
        if settings.adamw_kernel == "deepspeed":
            load_operator(FUSED_ADAM)
            from deepspeed.ops.adam import FusedAdam

            return FusedAdam(groups, adam_w_mode=True, **common)
        import torch

        return torch.optim.AdamW(groups, fused=True, **common)


def adamw_arguments(settings: Optimizer) -> AdamWArguments:
    """Return the arguments of every AdamW from the run file's settings."""
    return {
        "lr": settings.peak_learning_rate,
        "betas": (settings.beta1, settings.beta2),
        "eps": settings.epsilon,
    }


def kernel_problems(settings: Optimizer, execution: Execution) -> list[str]:
    """Refuse DeepSpeed's kernel for the device where the template puts the states elsewhere."""
    if settings.adamw_kernel != "deepspeed" or not execution.is_offloaded:
        return []
    return [
        "optimizer.adamw_kernel = deepspeed: is for optimizer states on the device, and the "
        "DeepSpeed template puts them elsewhere (zero_optimization.offload_optimizer); leave it out"
    ]
