"""The one reader of weights, on checkpoints of two parameters and two ranks that are written here,
sound and damaged."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler
from deepspeed.runtime.zero.config import ZeroStageEnum

from pipeline.checkpoint.folders import write_checkpoint_manifest
from pipeline.checkpoint.saver import write_files
from pipeline.checkpoint.stored_weights import open_stored_weights, read_verified
from pipeline.errors import DataError

States = dict[str, Any]
MODEL = "mp_rank_00_model_states.pt"
OWN, OTHER = (f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt" for rank in (0, 1))


def states() -> States:
    """Return the files of ZeRO 1: a has 5 elements and b 2 x 2, cut into 5 and 4 with one of
    padding: aaaaa | bbbb0."""
    groups = {OWN: torch.arange(5.0), OTHER: torch.tensor([5.0, 6, 7, 8, 0])}
    made: States = {
        MODEL: {
            "module": {"a": torch.zeros(5), "b": torch.zeros(2, 2), "table": torch.tensor([1, 2])},
            "buffer_names": ["table"],
            "param_shapes": [{"a": torch.Size([5]), "b": torch.Size([2, 2])}],
            "global_steps": 7,
            "global_samples": 56,
            "skipped_steps": 0,
        }
    }
    for name, flat in groups.items():
        moments = {"step": torch.tensor(7.0), "exp_avg": flat + 100, "exp_avg_sq": flat + 200}
        made[name] = {
            "optimizer_state_dict": {
                "zero_stage": ZeroStageEnum.optimizer_states,
                "loss_scaler": DynamicLossScaler(2**16, 1000, 1, 2, False),
                "dynamic_loss_scale": True,
                "overflow": False,
                "single_partition_of_fp32_groups": [flat],
                "base_optimizer_state": {"state": {0: moments}, "param_groups": [{"lr": 0.1}]},
            }
        }
    return made


def write(folder: Path, files: States, stage: int = 1, ranks: int = 2) -> Path:
    folder.mkdir()
    state = {"step": 7, "tokens": 1792}
    manifest = {
        "state": state,
        "ranks": ranks,
        "zero_stage": stage,
        "files": write_files(folder, files),
    }
    write_checkpoint_manifest(folder, manifest)
    return folder


def test_parameters_and_moments_are_put_together_from_all_ranks(tmp_path: Path) -> None:
    stored = read_verified(write(tmp_path / "step_00000007", states()), "")
    assert stored.shapes == {"a": (5,), "b": (2, 2)}
    assert stored.weight("a").tolist() == [0, 1, 2, 3, 4]
    assert stored.weight("b").tolist() == [[5, 6], [7, 8]]
    assert stored.moment_reader("exp_avg_sq")("b").tolist() == [[205, 206], [207, 208]]
    assert (stored.names_with("exp_avg"), stored.names_with("momentum_buffer")) == (["a", "b"], [])
    assert (stored.adam_step, stored.counters["global_samples"]) == (7, 56)
    assert stored.buffers["table"].tolist() == [1, 2]
    assert stored.shard(1).scaler["loss_scaler"].cur_scale == 2**16


def test_the_bytes_are_compared_first(tmp_path: Path) -> None:
    """A weight with another last bit decodes as well as before."""
    checkpoint = write(tmp_path / "step_00000007", states())
    path = checkpoint / OTHER
    content = path.read_bytes()
    sevens = torch.tensor([6.0, 7, 8]).numpy().tobytes()
    path.write_bytes(content.replace(sevens, torch.tensor([6.0, 7.000001, 8]).numpy().tobytes()))
    assert open_stored_weights(checkpoint).weight("b")[1, 0] > 7
    with pytest.raises(
        DataError,
        match=f"is damaged: {OTHER} has content that differs from what was written. Do this",
    ):
        read_verified(checkpoint, "Do this")


def optimizer(files: States, name: str) -> dict[str, Any]:
    return files[name]["optimizer_state_dict"]


def moments(files: States, name: str) -> dict[Any, Any]:
    return optimizer(files, name)["base_optimizer_state"]["state"]


def rename(content: dict[Any, Any], old: Any, new: Any) -> None:
    content[new] = content.pop(old)


DAMAGE: dict[str, tuple[str, Callable[[States], object]]] = {
    "no shapes": (MODEL, lambda f: rename(f[MODEL], "param_shapes", "param_shaper")),
    "shapes of none": (MODEL, lambda f: f[MODEL].update(param_shapes=None)),
    "shape of a list": (MODEL, lambda f: f[MODEL]["param_shapes"][0].update(a=[5])),
    "empty parameter": (MODEL, lambda f: f[MODEL]["param_shapes"][0].update(a=torch.Size([0]))),
    "parameter larger than the shards": (
        MODEL,
        lambda f: f[MODEL]["param_shapes"][0].update(a=torch.Size([1 << 40])),
    ),
    "a little too large": (MODEL, lambda f: f[MODEL]["param_shapes"][0].update(a=torch.Size([7]))),
    "buffer that is not there": (MODEL, lambda f: f[MODEL].update(buffer_names=["tables"])),
    "buffer larger than the file": (
        MODEL,
        lambda f: f[MODEL]["module"].update(table=torch.zeros(1).expand(1 << 40)),
    ),
    "counter of text": (MODEL, lambda f: f[MODEL].update(global_steps="7")),
    "another number of groups": (
        OWN,
        lambda f: f[MODEL]["param_shapes"].append({"c": torch.Size([1])}),
    ),
    "a model file that is a list": (MODEL, lambda f: f.update({MODEL: [7]})),
    "a shard that is a tensor": (OTHER, lambda f: f.update({OTHER: torch.ones(3)})),
    "no weights": (
        OWN,
        lambda f: rename(
            optimizer(f, OWN), "single_partition_of_fp32_groups", "single_partitioo_of_fp32_groups"
        ),
    ),
    "weights of half the precision": (
        OTHER,
        lambda f: optimizer(f, OTHER).update(
            single_partition_of_fp32_groups=[torch.ones(5, dtype=torch.bfloat16)]
        ),
    ),
    "weights of another length": (
        OTHER,
        lambda f: optimizer(f, OTHER).update(single_partition_of_fp32_groups=[torch.ones(4)]),
    ),
    "weights larger than the file": (
        OWN,
        lambda f: optimizer(f, OWN).update(
            single_partition_of_fp32_groups=[torch.ones(1).expand(1 << 40)]
        ),
    ),
    "moments of another group": (OTHER, lambda f: rename(moments(f, OTHER), 0, 4)),
    "moments of another length": (
        OTHER,
        lambda f: moments(f, OTHER)[0].update(exp_avg=torch.ones(6)),
    ),
    "one of Adam's moments": (OTHER, lambda f: moments(f, OTHER)[0].pop("exp_avg_sq")),
    "Adam's step before the first": (
        OTHER,
        lambda f: moments(f, OTHER)[0].update(step=torch.tensor(-7.0)),
    ),
    "no step": (OTHER, lambda f: rename(moments(f, OTHER)[0], "step", "stap")),
    "a scale of text": (
        OWN,
        lambda f: vars(optimizer(f, OWN)["loss_scaler"]).update(cur_scale="65536"),
    ),
    "no scale": (
        OWN,
        lambda f: rename(vars(optimizer(f, OWN)["loss_scaler"]), "cur_scale", "cur_scald"),
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_what_decodes_and_is_no_checkpoint_is_damage(tmp_path: Path, kind: str) -> None:
    """As one bit in a name or in a length makes it, where only sizes are compared. Nothing takes
    the memory it claims."""
    name, change = DAMAGE[kind]
    files = states()
    change(files)
    checkpoint = write(tmp_path / "step_00000007", files)
    with pytest.raises(DataError, match=rf"{name}: damaged"):
        open_stored_weights(checkpoint).shard(1)


def test_a_manifest_of_more_ranks_than_there_are_is_damage(tmp_path: Path) -> None:
    checkpoint = write(tmp_path / "step_00000007", states(), ranks=3)
    with pytest.raises(DataError, match=r"zero_pp_rank_2_mp_rank_00_optim_states\.pt: is missing"):
        open_stored_weights(checkpoint).shard(2)
    with pytest.raises(DataError, match=r"manifest\.json: has 1,000,000,000,000 ranks and 3 files"):
        open_stored_weights(write(tmp_path / "step_00000009", states(), ranks=10**12))
    with pytest.raises(DataError, match="is missing"):
        open_stored_weights(write(tmp_path / "step_00000008", states(), stage=3))
