"""Every byte-level damage to the newest checkpoint: the run goes on from the right place or says exactly what is wrong."""

import pickle
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from deepspeed.runtime.zero.config import ZeroStageEnum
from ranks import run_ranks

from pipeline.errors import DataError
from pipeline.events import all_events
from pipeline.run_file import load
from pipeline.training import checkpoint
from pipeline.training.checkpoint_files import load_file
from pipeline.training.metrics import read_metrics
from pipeline.training.saver import _serialise

OLDER, NEWEST = "step_00000010", "step_00000020"
CONSTANT = "schedule.kind=constant"
"""A longer run has the same learning rates."""


@dataclass
class Made:
    """A run of 20 steps with checkpoints at 10 and 20."""

    run_file: Path
    losses: list[float]

    @property
    def checkpoints(self) -> Path:
        return load(self.run_file).paths.run_dir / "checkpoints"

    def shard(self) -> Path:
        return next((self.checkpoints / NEWEST).glob("*optim_states.pt"))

    def events(self) -> list[dict[str, object]]:
        return all_events(self.checkpoints.parent)


def losses(run_file: Path) -> list[float]:
    return [record["loss"] for record in read_metrics(load(run_file).paths.run_dir)]


@pytest.fixture
def made(make_run: Callable[..., Path]) -> Iterator[Made]:
    run_file = make_run()
    run_ranks(run_file, 1, [CONSTANT])
    yield Made(run_file, losses(run_file))


def truncate(made: Made) -> None:
    content = made.shard().read_bytes()
    made.shard().write_bytes(content[: len(content) // 2])


def empty(made: Made) -> None:
    made.shard().write_bytes(b"")


def flip(made: Made) -> None:
    content = bytearray(made.shard().read_bytes())
    content[len(content) // 2] ^= 1
    made.shard().write_bytes(content)


def delete(made: Made) -> None:
    made.shard().unlink()


def delete_manifest(made: Made) -> None:
    (made.checkpoints / NEWEST / "manifest.json").unlink()


def truncate_manifest(made: Made) -> None:
    path = made.checkpoints / NEWEST / "manifest.json"
    path.write_text(path.read_text()[:100])


def change_manifest(made: Made) -> None:
    path = made.checkpoints / NEWEST / "manifest.json"
    path.write_text(path.read_text().replace('"step": 20', '"step": 10'))


def empty_pointer(made: Made) -> None:
    (made.checkpoints / "latest").write_text("")


def wrong_pointer(made: Made) -> None:
    (made.checkpoints / "latest").write_text("step_00000999\n")


def older_pointer(made: Made) -> None:
    (made.checkpoints / "latest").write_text(f"{OLDER}\n")


def leftover(made: Made) -> None:
    shutil.copytree(made.checkpoints / NEWEST, made.checkpoints / ".partial" / "abcd" / "step_00000030")


@pytest.mark.parametrize(
    ("do", "said", "goes_on_from"),
    [
        (truncate, "bytes instead of", OLDER),
        (empty, "0 bytes instead of", OLDER),
        (flip, "has other bytes than were written", OLDER),
        (delete, "is missing", OLDER),
        (delete_manifest, "has no manifest.json", OLDER),
        (truncate_manifest, "its manifest.json is damaged", OLDER),
        (change_manifest, "its manifest.json is damaged", OLDER),
        (empty_pointer, "`latest` names nothing", NEWEST),
        (wrong_pointer, "`latest` names step_00000999", NEWEST),
        (older_pointer, "`latest` names step_00000010", NEWEST),
        (leftover, "", NEWEST),
    ],
)
@pytest.mark.fault("damage to checkpoints")
def test_the_run_goes_on_from_the_newest_good_checkpoint(
    made: Made, do: Callable[[Made], None], said: str, goes_on_from: str
) -> None:
    do(made)
    longer = [CONSTANT, "train.train_tokens=5632"]  # two steps more
    assert run_ranks(made.run_file, 1, longer)["status"] == "done"
    (resumed,) = [event for event in made.events() if event["event"] == "resume"]
    assert resumed["checkpoint"] == goes_on_from
    assert losses(made.run_file)[:20] == made.losses
    assert len(losses(made.run_file)) == 22
    assert any(said in str(event.get("message", "")) for event in made.events())
    assert sorted(path.name for path in made.checkpoints.iterdir()) == ["latest", OLDER, NEWEST, "step_00000022"]
    assert (made.checkpoints / "latest").read_text() == "step_00000022\n"


@pytest.mark.fault("damage to checkpoints")
def test_a_run_that_lost_all_its_checkpoints_does_not_begin_from_nothing(made: Made) -> None:
    (made.checkpoints / OLDER / "manifest.json").unlink()
    truncate_manifest(made)
    outcome = run_ranks(made.run_file, 1, [CONSTANT])
    assert outcome["status"] == "refused"
    for part in (
        f"{OLDER}: has no manifest.json",
        f"{NEWEST}: its manifest.json is damaged",
        "choose another paths.run_dir",
    ):
        assert part in outcome["message"]
    shutil.rmtree(made.checkpoints)
    outcome = run_ranks(made.run_file, 1, [CONSTANT])
    assert "events.jsonl tells of a save at step 20" in outcome["message"]
    assert losses(made.run_file) == made.losses


@pytest.mark.fault("damage to checkpoints")
def test_all_damaged_is_said_with_the_way_out(made: Made) -> None:
    for name in (OLDER, NEWEST):
        next((made.checkpoints / name).glob("*optim_states.pt")).write_bytes(b"")
    outcome = run_ranks(made.run_file, 1, [CONSTANT, "train.train_tokens=5632"])
    assert outcome["status"] == "refused"
    assert "all 2 checkpoints are damaged (events.jsonl names how)" in outcome["message"]
    assert losses(made.run_file) == made.losses


class Code:
    """What runs when a pickle of it is loaded."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("made-by-a-checkpoint"),)


def test_a_file_that_would_run_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"module": Code()}, tmp_path / "mp_rank_00_model_states.pt")
    with pytest.raises(DataError, match="cannot be read as a checkpoint's file"):
        load_file(tmp_path / "mp_rank_00_model_states.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Code()))
    with pytest.raises(DataError, match="cannot be read as a checkpoint's file"):
        load_file(tmp_path / "plain.pt")
    assert not Path("made-by-a-checkpoint").exists()
    pickle.loads((tmp_path / "plain.pt").read_bytes())
    assert Path("made-by-a-checkpoint").exists(), "it would have"


def test_what_is_saved_can_be_read_whatever_python_makes_of_enums(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python 3.11.2, which is Debian 12's, makes `getattr(ZeroStageEnum, name)` of one, and none may call that."""
    monkeypatch.setattr(ZeroStageEnum, "__reduce_ex__", lambda self, _: (getattr, (ZeroStageEnum, self.name)))
    with (tmp_path / "shard.pt").open("wb") as file:
        _serialise({"zero_stage": ZeroStageEnum.gradients}, file)
    assert load_file(tmp_path / "shard.pt") == {"zero_stage": ZeroStageEnum.gradients}


def test_sizes_alone_can_be_asked_for(made: Made) -> None:
    """A flipped byte in the record of what the run was is not seen then; it is by checksum."""
    path = made.checkpoints / NEWEST / "probe.npz"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    run_ranks(made.run_file, 1, [CONSTANT, "train.train_tokens=5632", "checkpoint.verify=sizes"])
    (resumed,) = [event for event in made.events() if event["event"] == "resume"]
    assert resumed["checkpoint"] == NEWEST


def test_what_cannot_be_read_is_damage_and_no_crash(tmp_path: Path) -> None:
    file = tmp_path / "folder"
    file.mkdir()
    record = {"bytes": file.stat().st_size, "checksum": ""}
    assert checkpoint._wrong_content(file, record) == "folder cannot be read (Is a directory)"
    (tmp_path / "file").touch()
    assert checkpoint._wrong_size(tmp_path / "file" / "x", record) == "x cannot be read (Not a directory)"
    assert checkpoint._wrong_size(tmp_path / "x", record) == "x is missing"
