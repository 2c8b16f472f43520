"""`pipeline checkpoints`: list, verify, prune, convert, on runs made here."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint
from program_here import pipeline_here
from ranks import run_ranks
from safetensors.torch import load_file
from training_data import write_run

from pipeline.config.run_file import load
from pipeline.store.files import read_json

MakeRun = Callable[..., Path]


def checkpoints(*arguments: object) -> "subprocess.CompletedProcess[str]":
    return pipeline_here("checkpoints", *arguments)


def run_dir_of(run_file: Path) -> Path:
    return load(run_file).paths.run_dir


@pytest.fixture(scope="module")
def saved(tokenized: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run with checkpoints at 5, 10, 15 and 20."""
    run_file = write_run(tokenized, tmp_path_factory.mktemp("saved"))
    run_ranks(run_file, 2, ["checkpoint.save_every_steps=5", "checkpoint.keep_last=9"])
    return run_dir_of(run_file)


@pytest.fixture
def run_dir(saved: Path, tmp_path: Path) -> Path:
    """Return a copy of that folder."""
    return shutil.copytree(saved, tmp_path / "run", symlinks=True)


def damage(checkpoint: Path) -> None:
    shard = next(checkpoint.glob("*optim_states.pt"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)


@pytest.mark.ranks
def test_list_verify_and_prune(run_dir: Path) -> None:
    listed = checkpoints("list", run_dir)
    assert [line.split()[:4] for line in listed.stdout.splitlines()[1:]] == [
        [f"step_{step:08d}", f"{step * 256:,}", "1", "2"] for step in (5, 10, 15, 20)
    ]
    told = json.loads(checkpoints("list", run_dir, "--json").stdout)
    assert told["latest"] == "step_00000020"
    assert told["checkpoints"][0]["bytes"] == sum(
        path.stat().st_size
        for path in (run_dir / "checkpoints" / "step_00000005").iterdir()
        if path.suffix != ".json"
    )
    verified = checkpoints("verify", run_dir)
    assert (verified.returncode, verified.stderr.count("every byte is as it was written")) == (0, 4)

    would = checkpoints("prune", run_dir, "--keep-last", 2, "--keep-every-steps", 10, "--dry-run")
    assert would.stdout.startswith("would delete step_00000005, ")
    damage(run_dir / "checkpoints" / "step_00000020")
    refused = checkpoints("prune", run_dir, "--keep-last", 1)
    assert refused.returncode == 2
    assert "Nothing was deleted: an older one may be the last good one" in refused.stderr
    (run_dir / "checkpoints" / "step_00000015" / "manifest.json").unlink()
    verified = checkpoints("verify", run_dir)
    assert verified.returncode == 2
    assert "step_00000015: has no manifest.json" in verified.stderr
    assert "step_00000020: zero_pp_rank" in verified.stderr
    assert checkpoints("verify", run_dir, "--step", 10).returncode == 0
    assert (
        "complete checkpoints exist for step 5, 10, 20"
        in checkpoints("verify", run_dir, "--step", 7).stderr
    )


@pytest.mark.ranks
def test_prune_keeps_what_it_is_told(run_dir: Path) -> None:
    done = checkpoints("prune", run_dir, "--keep-last", 1, "--keep-every-steps", 10)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (run_dir / "checkpoints").glob("step_*")) == [
        "step_00000010",
        "step_00000020",
    ]
    assert "nothing to delete" in checkpoints("prune", run_dir, "--keep-last", 2).stderr


def test_what_is_no_run_is_named(tmp_path: Path) -> None:
    for command in ("list", "verify"):
        refused = checkpoints(command, tmp_path)
        assert refused.returncode == 2
        assert "no such folder; give a run's folder, or its run file" in refused.stderr


@pytest.mark.ranks
def test_converted_files_hold_the_same_whoever_wrote_them(
    make_run: MakeRun, tmp_path: Path
) -> None:
    """Weights against DeepSpeed's own merging; moments of ZeRO 3 on 2 ranks against ZeRO 0 on
    one."""
    made = {}
    for zero, ranks in (("zero3", 2), ("zero0", 1)):
        run_file = make_run(name=zero, zero=zero)
        run_ranks(run_file, ranks, ["optimizer.kind=muon"])
        output = tmp_path / f"plain-{zero}"
        done = checkpoints("convert", run_file, "--output", output)
        assert done.returncode == 0, done.stderr
        made[zero] = {path.stem: load_file(path) for path in output.glob("*.safetensors")}
        assert read_json(output / "state.json")["adam_step"] == 20
    merged = get_fp32_state_dict_from_zero_checkpoint(
        str(run_dir_of(tmp_path / "zero3.yaml") / "checkpoints"), "step_00000020"
    )
    for name, weight in made["zero3"]["weights"].items():
        assert torch.equal(weight, merged[name])
    assert sorted(made["zero3"]) == ["exp_avg", "exp_avg_sq", "momentum_buffer", "weights"]
    for kind, values in made["zero3"].items():
        assert values.keys() == made["zero0"][kind].keys()
        for name, value in values.items():
            torch.testing.assert_close(value, made["zero0"][kind][name], rtol=1e-3, atol=1e-5)
    again = checkpoints("convert", tmp_path / "zero3.yaml", "--output", tmp_path / "plain-zero3")
    assert "exists already; choose a folder that does not exist yet" in again.stderr
