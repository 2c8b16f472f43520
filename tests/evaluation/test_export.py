"""Every kind of checkpoint becomes a transformers folder with the engine's logits."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from ranks import run_ranks
from safetensors import SafetensorError
from training_data import write_run
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from pipeline.checkpoint.files import load_file
from pipeline.checkpoint.folders import read_checkpoint_manifest, write_checkpoint_manifest
from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import dump, load
from pipeline.errors import DataError, UserError
from pipeline.evaluation.export import export
from pipeline.evaluation.model_folder import replacing_folder
from pipeline.evaluation.models import load_checkpoint_model, load_named_model
from pipeline.store.files import file_record, write_json

MakeRun = Callable[..., Path]
REMEDY = "Restore it from a copy; or delete .* and run `pipeline train`"


@pytest.fixture(scope="module")
def finished(
    request: pytest.FixtureRequest, tokenized: Path, tmp_path_factory: pytest.TempPathFactory
) -> RunConfig:
    """Train on 2 ranks at a ZeRO stage and precision, once for all tests, and write the manifest as
    the command would."""
    zero, dtype = request.param
    run_file = write_run(tokenized, tmp_path_factory.mktemp("finished"), zero=zero)
    overrides = [f"precision.dtype={dtype}", "train.train_tokens=2560"]
    outcome = run_ranks(run_file, 2, overrides)
    config = load(run_file, overrides)
    write_json(
        config.paths.run_dir / "checkpoints" / "manifest.json", {"counts": outcome["counts"]}
    )
    return config


# ZeRO 0 takes fp32 alone: DeepSpeed adds gradients up in bf16 there, which is refused.
KINDS = [(zero, dtype) for zero in ("zero1", "zero3", "zero2") for dtype in ("fp32", "bf16")] + [
    ("zero0", "fp32")
]


@pytest.mark.ranks
@pytest.mark.parametrize(
    "finished",
    [*KINDS[:4], *(pytest.param(kind, marks=pytest.mark.full) for kind in KINDS[4:])],
    indirect=True,
    ids="-".join,
)
def test_the_export_has_the_engines_logits(finished: RunConfig) -> None:
    counts = export(finished).counts
    dtype = finished.precision.dtype
    folder = finished.paths.run_dir / "export" / counts["folder"]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    assert model.dtype == {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]
    probe = np.load(finished.paths.run_dir / "checkpoints" / counts["folder"] / "probe.npz")
    with torch.no_grad():
        logits = model(input_ids=torch.from_numpy(probe["input_ids"])).logits.float().numpy()
    assert (
        np.abs(logits - probe["logits"]).max()
        == counts["max_logit_difference"]
        < (1e-4 if dtype == "fp32" else 0.02)
    )
    assert model.num_parameters() == counts["parameters"]

    # The checkpoint's model in memory is the same.
    checkpoint = finished.paths.run_dir / "checkpoints" / counts["folder"]
    loaded = load_checkpoint_model(finished, checkpoint)
    assert (loaded.name, loaded.step, loaded.tokens) == (counts["folder"], 10, 2560)
    here = loaded.model.state_dict()
    assert all(torch.equal(here[name], tensor) for name, tensor in model.state_dict().items())

    # A command names it by the run, with or without the step.
    run_dir = finished.paths.run_dir
    (run_dir / "config.yaml").write_text(dump(finished))
    for name in (f"{run_dir}", f"{run_dir}@10", str(folder)):
        named = load_named_model(name, []).model.state_dict()
        assert all(torch.equal(named[key], tensor) for key, tensor in here.items())
    with pytest.raises(UserError, match="complete checkpoints exist for step 10"):
        load_named_model(f"{run_dir}@9", [])
    with pytest.raises(DataError, match=r"set paths\.data_dir=FOLDER"):
        load_named_model(f"{run_dir}", [f"paths.data_dir={run_dir}"])
    with pytest.raises(DataError, match="neither a run"):
        load_named_model(str(run_dir / "checkpoints"), [])
    assert AutoTokenizer.from_pretrained(folder).eos_token == "<|endoftext|>"
    assert not list((finished.paths.run_dir / "export").glob(".*")), "nothing half-written is left"


def tree(folder: Path) -> dict[str, bytes]:
    """Return the content of all files below a folder by path, hidden ones included."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def renew_manifest(checkpoint: Path) -> None:
    """Have a manifest agree with what lies beside it, as whoever may write there can."""
    manifest = read_checkpoint_manifest(checkpoint)
    manifest["files"] = {name: file_record(checkpoint / name) for name in manifest["files"]}
    write_checkpoint_manifest(checkpoint, manifest)


class Code:
    """What runs when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch made-by-a-checkpoint",)


def put_code_into(path: Path) -> None:
    torch.save({**load_file(path), "gadget": Code()}, path)


def flip_mantissas(path: Path) -> None:
    """Flip one bit in each of 100 places, most of them weights."""
    content = bytearray(path.read_bytes())
    for place in range(len(content) // 2, len(content), len(content) // 200):
        content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.ranks
@pytest.mark.parametrize(
    "finished", [("zero1", "fp32"), ("zero3", "fp32")], indirect=True, ids="-".join
)
def test_a_failing_export_runs_no_code_and_leaves_the_earlier_one(
    finished: RunConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Every reason for which it can fail, after a good one, in one run's folder."""
    monkeypatch.chdir(tmp_path)
    config = finished
    export(config)
    folder = config.paths.run_dir / "export"
    good = tree(folder)
    checkpoint = config.paths.run_dir / "checkpoints" / "step_00000010"
    spare = shutil.copytree(checkpoint, tmp_path / "spare")

    def fails(match: str, error: type[Exception] = DataError) -> None:
        with pytest.raises(error, match=match):
            export(config)
        assert tree(folder) == good
        assert list(folder.iterdir()) == [folder / "step_00000010"], "nothing half-written is left"
        assert not Path("made-by-a-checkpoint").exists()
        shutil.rmtree(checkpoint)
        shutil.copytree(spare, checkpoint)

    for pattern in ("*0_mp_rank_00_optim_states.pt", "*mp_rank_00_model_states.pt"):
        path = min(checkpoint.glob(pattern))
        # damage that checksums tell, which the logits of a few tokens may not
        flip_mantissas(path)
        fails(f"is damaged: {path.name} has content that differs from what was written.*{REMEDY}")
        put_code_into(path)
        fails(f"is damaged: {path.name}")
        # and where the checksums are right
        put_code_into(path)
        renew_manifest(checkpoint)
        fails(
            rf"{path.name}: damaged, or not written by a save \(ValueError: refers to \w+\.system.*{REMEDY}"
        )
        path.write_bytes(b"")
        renew_manifest(checkpoint)
        fails(f"{path.name}: damaged")
        path.unlink()
        fails(f"{path.name} is missing")

    # a rank's file that is opened only when its weights are wanted
    (path,) = checkpoint.glob("*1_mp_rank_00_optim_states.pt")
    put_code_into(path)
    renew_manifest(checkpoint)
    fails(rf"{path.name}: damaged, or not written by a save.*{REMEDY}")

    probe = checkpoint / "probe.npz"
    arrays = dict(np.load(probe))
    np.savez(probe, **(arrays | {"logits": arrays["logits"] + 0.001}))  # pyright: ignore[reportArgumentType]
    renew_manifest(checkpoint)
    fails(r"logits differ from the engine's by 0\.001, more than 0\.0001 for fp32")
    probe.write_bytes(b"PK no archive")
    renew_manifest(checkpoint)
    fails(rf"probe\.npz: damaged.*{REMEDY}")

    def fill_the_disk(*_: object, **__: object) -> None:
        raise SafetensorError(
            "Error while serializing: I/O error: No space left on device (os error 28)"
        )

    with monkeypatch.context() as full:
        full.setattr(PreTrainedModel, "save_pretrained", fill_the_disk)
        fails("No space left on device", OSError)
    with monkeypatch.context() as interrupted:
        interrupted.setattr("pipeline.evaluation.export._continue_prompt", fill_the_disk)
        fails("No space left", SafetensorError)
    export(config)
    assert tree(folder) == good


def test_an_export_killed_while_it_took_the_place_of_another_is_found_again(tmp_path: Path) -> None:
    target = tmp_path / "step_00000010"
    (tmp_path / ".step_00000010.replaced").mkdir()
    (tmp_path / ".step_00000010.replaced" / "config.json").write_text("earlier")
    with pytest.raises(RuntimeError), replacing_folder(target) as partial:
        assert (target / "config.json").read_text() == "earlier"
        partial.mkdir()
        raise RuntimeError
    assert (target / "config.json").read_text() == "earlier"
    with replacing_folder(target) as partial:
        partial.mkdir()
        (partial / "config.json").write_text("later")
    assert [path.name for path in tmp_path.rglob("*")] == ["step_00000010", "config.json"]
    assert (target / "config.json").read_text() == "later"


@pytest.mark.ranks
def test_a_checkpoint_that_is_gone_is_named(make_run: MakeRun) -> None:
    config = load(make_run())
    write_json(
        config.paths.run_dir / "checkpoints" / "manifest.json",
        {"counts": {"checkpoint": "step_00000020"}},
    )
    with pytest.raises(DataError, match="step_00000020: the trained checkpoint is gone"):
        export(config)
