"""Every byte-level damage to the newest checkpoint: the run goes on from the right place or says
exactly what is wrong."""

import errno
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ranks import in_ranks, run_ranks
from training_data import write_run

from pipeline.checkpoint.integrity import content_flaw, size_flaw
from pipeline.checkpoint.reader import damage_of_checkpoint
from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.store.events import all_events
from pipeline.store.metrics import read_metrics

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


@pytest.fixture(scope="module")
def sound(tokenized: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run file of a run that nobody damages."""
    run_file = write_run(tokenized, tmp_path_factory.mktemp("sound"))
    assert run_ranks(run_file, 1, [CONSTANT])["status"] == "done"
    return run_file


@pytest.fixture
def made(sound: Path, tmp_path: Path) -> Made:
    """Return a copy of the sound run."""
    shutil.copytree(sound.parent, tmp_path, dirs_exist_ok=True)
    run_file = tmp_path / sound.name
    return Made(run_file, losses(run_file))


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
    shutil.copytree(
        made.checkpoints / NEWEST, made.checkpoints / ".partial" / "abcd" / "step_00000030"
    )


@pytest.mark.ranks
@pytest.mark.parametrize(
    ("do", "said", "goes_on_from"),
    [
        (truncate, "bytes instead of", OLDER),
        (empty, "0 bytes instead of", OLDER),
        (flip, "has content that differs from what was written", OLDER),
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
    assert sorted(path.name for path in made.checkpoints.iterdir()) == [
        "latest",
        OLDER,
        NEWEST,
        "step_00000022",
    ]
    assert (made.checkpoints / "latest").read_text() == "step_00000022\n"


@pytest.mark.ranks
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
    assert "events.jsonl records a save at step 20" in outcome["message"]
    assert losses(made.run_file) == made.losses


@pytest.mark.ranks
@pytest.mark.fault("damage to checkpoints")
def test_all_damaged_is_said_with_the_way_out(made: Made) -> None:
    for name in (OLDER, NEWEST):
        next((made.checkpoints / name).glob("*optim_states.pt")).write_bytes(b"")
    outcome = run_ranks(made.run_file, 1, [CONSTANT, "train.train_tokens=5632"])
    assert outcome["status"] == "refused"
    assert "all 2 checkpoints are damaged (events.jsonl names the damage)" in outcome["message"]
    assert losses(made.run_file) == made.losses


@pytest.mark.ranks
@pytest.mark.fault("damage to checkpoints")
def test_sizes_alone_can_be_asked_for(made: Made) -> None:
    """A flipped byte of the older one's probe is not seen then. What cannot be decoded is damage
    all the same."""
    probe = made.checkpoints / OLDER / "probe.npz"
    content = bytearray(probe.read_bytes())
    content[-1] ^= 1
    probe.write_bytes(content)
    shard = made.shard().read_bytes()
    made.shard().write_bytes(
        shard.replace(b"base_optimizer_state", b"bare_optimizer_state")
    )  # one bit of a name
    run_ranks(made.run_file, 1, [CONSTANT, "train.train_tokens=5632", "checkpoint.verify=sizes"])
    (resumed,) = [event for event in made.events() if event["event"] == "resume"]
    assert resumed["checkpoint"] == OLDER
    (passed_over,) = [event for event in made.events() if event["event"] == "damaged checkpoint"]
    assert passed_over["checkpoint"] == NEWEST
    assert made.shard().name in str(passed_over["damage"])
    assert losses(made.run_file)[:20] == made.losses


def undecodable(config: RunConfig) -> dict[str, Any]:
    """Flip one bit at a time in what says what a checkpoint's tensors are; count what is found, as
    a rank would find it."""
    from pipeline.engine.groups import join_process_groups
    from pipeline.store.rank_environment import groups_of_this_process

    groups = groups_of_this_process()
    join_process_groups(groups)
    source = config.paths.run_dir / "checkpoints" / NEWEST
    copy = Path(shutil.copytree(source, config.paths.run_dir / "copies" / NEWEST))
    draw = random.Random(1)
    tried = found = 0
    assert damage_of_checkpoint(copy, groups, by_checksum=False) == []
    for path in sorted(copy.glob("*.pt")):
        content = path.read_bytes()
        for place in [
            *draw.sample(range(1500), 25),
            *draw.sample(range(len(content) - 1500, len(content)), 15),
        ]:
            changed = bytearray(content)
            changed[place] ^= 1 << draw.randrange(8)
            path.write_bytes(changed)
            tried += 1
            found += bool(damage_of_checkpoint(copy, groups, by_checksum=False))
        path.write_bytes(content)
    return {"tried": tried, "found": found}


@pytest.mark.ranks
def test_whatever_a_flipped_bit_makes_of_a_file_no_rank_dies_of_it(made: Made) -> None:
    """Bits of numbers, of padding and of names that nobody reads stay unseen where only sizes are
    compared."""
    counts = in_ranks(made.run_file, 1, undecodable, [CONSTANT])
    assert counts["tried"] == 120
    assert counts["found"] > 40


def test_what_is_no_file_is_damage_and_what_the_disk_says_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = {"bytes": 0, "checksum": ""}
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")  # which would be waited for without end
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").touch()
    for name in ("folder", "pipe", "loop", "file/x", "x"):
        assert content_flaw(tmp_path / name, record), name
    for number in (errno.EIO, errno.EACCES, errno.ESTALE, errno.EMFILE):

        def fail(*_: object, number: int = number, **__: object) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(Path, "stat", fail)
        with pytest.raises(OSError, match=os.strerror(number)):
            size_flaw(tmp_path / "file", record)
