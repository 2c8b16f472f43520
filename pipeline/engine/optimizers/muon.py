"""Muon for hidden matrices, AdamW for embeddings, head and vectors.

The optimizer itself is in `sharded_muon.py`.
"""

from typing import TYPE_CHECKING

from pipeline.config.groups import RankGroups
from pipeline.config.sections import Optimizer
from pipeline.engine.deepspeed_engine import Engine, flat_tensors, group_shapes
from pipeline.engine.optimizers.adamw import ADAMW_STATE, adamw_arguments, kernel_problems
from pipeline.engine.optimizers.optimizer_kind import (
    Execution,
    OptimizerKind,
    ParameterGroups,
    ParameterState,
)

if TYPE_CHECKING:
    import torch

MUON_STATE = ParameterState(("momentum_buffer",), counts_steps=False)


class MuonKind(OptimizerKind):
    """Muon: one moment a hidden matrix, orthogonalised (Jordan et al. 2024); AdamW for the rest."""

    trains_experts = False
    states = (ADAMW_STATE, MUON_STATE)
    is_on_deepspeeds_list = False

    def hidden_matrix_rate(self, width: float) -> float:
        """Return 1 / sqrt(width) (Yang, Simon and Bernstein 2023, arXiv:2310.17813)."""
        return width**-0.5

    def moment_bytes(self, non_embedding_share: float) -> float:
        """Return the bytes of one fp32 number for hidden parameters, and of two for the others."""
        return 8.0 - 4.0 * non_embedding_share

    def update(self, is_hidden_matrix: bool) -> str:
        """Return Muon's update for hidden matrices, AdamW's for the rest."""
        return "muon" if is_hidden_matrix else "adamw"

    def problems(self, settings: Optimizer, execution: Execution) -> list[str]:
        """Refuse states off the device, where Muon orthogonalises, and DeepSpeed's AdamW."""
        problems: list[str] = []
        if execution.is_offloaded:
            problems.append(
                "optimizer.kind = muon: orthogonalises on the device, and the DeepSpeed template "
                "puts optimizer states elsewhere (zero_optimization.offload_optimizer); set "
                "optimizer.kind to adamw, or use a template without offload_optimizer"
            )
        problems += kernel_problems(settings, execution)
        if settings.adamw_kernel == "deepspeed":
            problems.append(
                "optimizer.adamw_kernel = deepspeed: optimizer.kind = muon brings its own AdamW; "
                "leave out optimizer.adamw_kernel"
            )
        return problems

    def build(
        self, settings: Optimizer, groups: ParameterGroups, is_offloaded: bool
    ) -> "torch.optim.Optimizer":
        """Return one optimizer that updates each group by its `kind`, Muon or AdamW.

        `is_offloaded` has to be False: `problems` refuses offloaded states before training.
        """
        from pipeline.engine.optimizers.sharded_muon import Muon

        assert not is_offloaded, "refused before training"
        arguments = {
            "muon": {"momentum": settings.muon_momentum, "rms": settings.muon_update_rms},
            "adamw": adamw_arguments(settings),
        }
        for group in groups:
            group |= arguments[group["kind"]]
        return Muon(groups, settings.peak_learning_rate)

    def lay_out(self, engine: Engine, groups: RankGroups) -> None:
        """Give the optimizer each rank's parts of matrices; at ZeRO 0 matrices are whole."""
        from pipeline.engine.optimizers.sharded_muon import FlatLayout, Muon
        from pipeline.engine.shards import slots_of_ranks

        stage = engine.zero_optimization_stage()
        if stage == 0:
            return
        shapes = group_shapes(engine)
        flat = flat_tensors(engine)
        elements = [tensor.numel() for tensor in flat]
        slots = slots_of_ranks(stage, shapes, elements, groups.sizes.world)
        layouts: list[tuple[torch.Tensor, FlatLayout]] = []
        for group, tensor in enumerate(flat):
            slots_of_group = [
                [slot for slot in slots_of_rank if slot.group == group] for slots_of_rank in slots
            ]
            layouts.append((tensor, FlatLayout(shapes[group], slots_of_group)))
        optimizer = engine.basic_optimizer
        assert isinstance(optimizer, Muon)
        optimizer.lay_out(layouts, groups)
