"""Files of checkpoints that are damaged or hostile: each is refused by name, none runs code, none
takes memory."""

import errno
import os
import pickle
import random
import resource
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
from deepspeed.runtime.zero.config import ZeroStageEnum
from deepspeed.utils.tensor_fragment import fragment_address

from pipeline.checkpoint import files as checkpoint_files
from pipeline.checkpoint.files import load_file
from pipeline.checkpoint.saver import write_files
from pipeline.errors import DataError

FLIPS = 300
WHERE = 1500
"""Bytes at the beginning of a file, where its names stand, and at its end, where its records are
listed."""


def state() -> dict[str, Any]:
    """Return what a shard holds, in small."""
    flat = torch.arange(2000, dtype=torch.float32)
    return {
        "optimizer_state_dict": {
            "loss_scaler": LossScaler(1),
            "zero_stage": ZeroStageEnum.gradients,
            "overflow": False,
            "groups": [flat, flat[:7], torch.zeros(0), torch.ones(3, dtype=torch.bfloat16)],
            "slices": [OrderedDict({"layer.weight": fragment_address(numel=5, start=2)})],
            "shapes": {"layer.weight": torch.Size([4, 5])},
            "betas": (0.9, 0.95, None, 1 << 40),
        },
    }


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shard")
    write_files(folder, {"shard.pt": state()})
    return folder / "shard.pt"


@pytest.mark.parametrize("mmap", [False, True])
def test_a_file_is_read_as_it_was_saved(shard: Path, mmap: bool) -> None:
    before = state()["optimizer_state_dict"]
    found = load_file(shard, mmap=mmap)["optimizer_state_dict"]
    assert list(found) == list(before)
    for name in ("zero_stage", "overflow", "slices", "shapes", "betas"):
        assert found[name] == before[name]
    assert type(found["loss_scaler"]) is LossScaler
    assert vars(found["loss_scaler"]) == vars(before["loss_scaler"])
    for tensor, expected in zip(found["groups"], before["groups"], strict=True):
        assert torch.equal(tensor, expected)
        assert tensor.dtype == expected.dtype
    assert found["groups"][0].data_ptr() == found["groups"][1].data_ptr(), (
        "views of one storage stay views of one"
    )
    found["groups"][0].zero_()
    assert load_file(shard)["optimizer_state_dict"]["groups"][0][5] == 5, "nothing reaches the file"


def refused(path: Path, mmap: bool = False) -> bool:
    """Load a file; True where it is refused as damaged. Anything else that is raised goes on."""
    try:
        load_file(path, mmap=mmap)
    except DataError as error:
        assert str(path) in str(error)
        assert str(error).isprintable(), "nothing of a file acts on the terminal"
        return True
    return False


@pytest.mark.parametrize("at_end", [False, True])
def test_a_flipped_bit_is_damage_or_another_value_and_nothing_else(
    shard: Path, tmp_path: Path, at_end: bool
) -> None:
    content = shard.read_bytes()
    draw = random.Random(20)
    found = 0
    for number in range(FLIPS):
        place = len(content) - 1 - draw.randrange(WHERE) if at_end else draw.randrange(WHERE)
        changed = bytearray(content)
        changed[place] ^= 1 << draw.randrange(8)
        (tmp_path / "flipped.pt").write_bytes(changed)
        found += refused(tmp_path / "flipped.pt", mmap=number % 2 == 0)
    assert found > FLIPS / 5


def test_a_short_file_is_damage_wherever_it_ends(shard: Path, tmp_path: Path) -> None:
    content = shard.read_bytes()
    for size in (0, 1, 4, 30, *range(100, len(content), 499), len(content) - 1):
        (tmp_path / "short.pt").write_bytes(content[:size])
        assert refused(tmp_path / "short.pt")
        assert refused(tmp_path / "short.pt", mmap=True)
    assert refused(tmp_path / "no-such-file.pt")
    (tmp_path / "folder.pt").mkdir()
    assert refused(tmp_path / "folder.pt")


class Code:
    """What runs when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("made-by-a-checkpoint"),)


def test_a_file_that_would_run_code_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"module": Code()}, tmp_path / "mp_rank_00_model_states.pt")
    assert refused(tmp_path / "mp_rank_00_model_states.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Code()))
    assert refused(tmp_path / "plain.pt")
    torch.save({"module": Code()}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert refused(tmp_path / "old.pt")
    assert not Path("made-by-a-checkpoint").exists()
    pickle.loads((tmp_path / "plain.pt").read_bytes())
    assert Path("made-by-a-checkpoint").exists(), "it would have"


class Takes:
    """What takes so many bytes when it is unpickled, though PyTorch's own restricted reader makes
    it."""

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return bytearray, (1 << 40,)


def test_what_would_take_memory_by_a_number_is_refused(tmp_path: Path) -> None:
    torch.save({"module": Takes()}, tmp_path / "large.pt")
    assert refused(tmp_path / "large.pt")


def rewritten(
    shard: Path, target: Path, change: Callable[[zipfile.ZipFile, str, bytes], None]
) -> Path:
    """Write an archive with the records of a shard, each as `change` writes it."""
    content = shard.read_bytes()
    with zipfile.ZipFile(shard) as source, zipfile.ZipFile(target, "w") as archive:
        for entry in source.infolist():
            _, name_length, padding = struct.unpack_from("<4s22xHH", content, entry.header_offset)
            begin = entry.header_offset + 30 + name_length + padding
            change(archive, entry.filename, content[begin : begin + entry.file_size])
    return target


@contextmanager
def at_most(more_bytes: int) -> Iterator[None]:
    """Let this process have so many bytes of memory more than it has."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


@pytest.mark.parametrize("only", ["data/0", "data.pkl"])
def test_compressed_records_are_refused_before_they_take_memory(
    shard: Path, tmp_path: Path, only: str
) -> None:
    """128 MiB of zeros in less than 1 MiB, once as a tensor's bytes and once behind the names."""

    def compress(archive: zipfile.ZipFile, name: str, record: bytes) -> None:
        is_bomb = name.endswith(only)
        entry = zipfile.ZipInfo(name)
        entry.compress_type = zipfile.ZIP_DEFLATED if is_bomb else zipfile.ZIP_STORED
        with archive.open(entry, "w", force_zip64=True) as file:
            file.write(record)
            for _ in range(8 if is_bomb else 0):
                file.write(bytes(16 << 20))

    path = rewritten(shard, tmp_path / "bomb.pt", compress)
    assert path.stat().st_size < 1 << 20
    with at_most(64 << 20):
        assert refused(path)
        assert refused(path, mmap=True)


def test_records_that_are_larger_than_their_file_are_refused(shard: Path, tmp_path: Path) -> None:
    """Forty records that lie on one another: each fits into the file, all of them together do
    not."""
    path = rewritten(
        shard,
        tmp_path / "overlapping.pt",
        lambda archive, name, record: archive.writestr(name, record),
    )
    assert not refused(path)
    with zipfile.ZipFile(path, "a") as archive:
        whole = archive.getinfo("archive/data/0")
        for number in range(40):
            entry = zipfile.ZipInfo(f"archive/data/more-{number}")
            entry.header_offset, entry.CRC = whole.header_offset, whole.CRC
            entry.file_size = entry.compress_size = whole.file_size
            archive.filelist.append(entry)
        archive._didModify = True  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(DataError, match="records are larger than"):
        load_file(path)


def test_two_records_of_one_name_are_refused(shard: Path, tmp_path: Path) -> None:
    """Two readers of an archive may take different ones."""
    path = rewritten(
        shard, tmp_path / "twice.pt", lambda archive, name, record: archive.writestr(name, record)
    )
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("archive/data.pkl", b"\x80\x02N.")
    assert refused(path)


def test_a_storage_is_a_whole_record(shard: Path, tmp_path: Path) -> None:
    """Another number of elements would read bytes of another tensor, or of no tensor."""
    flat = struct.pack("<BH", ord("M"), 2000)  # as the pickle has 2,000 elements
    content = shard.read_bytes()
    assert content.count(flat) > 1
    for elements in (1999, 2001, 65535):
        (tmp_path / "other.pt").write_bytes(
            content.replace(flat, struct.pack("<BH", ord("M"), elements), 1)
        )
        assert refused(tmp_path / "other.pt")
        assert refused(tmp_path / "other.pt", mmap=True)


@pytest.mark.parametrize(
    "number", [errno.EACCES, errno.EMFILE, errno.EIO, errno.ESTALE, errno.ENOMEM]
)
def test_what_the_file_system_says_is_no_damage(
    shard: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", fail)
        with pytest.raises(OSError, match=os.strerror(number)):
            load_file(shard)
    with monkeypatch.context() as patched:
        patched.setattr(checkpoint_files, "_bytes_of", fail)  # while it is read
        with pytest.raises(OSError, match=os.strerror(number)):
            load_file(shard)


def test_missing_memory_is_no_damage(shard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(
        torch, "UntypedStorage", type("None", (), {"__new__": fail, "from_file": fail})
    )
    for mmap in (False, True):
        with pytest.raises(MemoryError, match="can't allocate memory"):
            load_file(shard, mmap=mmap)


def test_what_is_saved_can_be_read_whatever_python_makes_of_enums(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python 3.11.2, which is Debian 12's, makes `getattr(ZeroStageEnum, name)` of one, and none
    may call that."""
    monkeypatch.setattr(
        ZeroStageEnum, "__reduce_ex__", lambda self, _: (getattr, (ZeroStageEnum, self.name))
    )
    write_files(tmp_path, {"shard.pt": {"zero_stage": ZeroStageEnum.gradients}})
    assert load_file(tmp_path / "shard.pt") == {"zero_stage": ZeroStageEnum.gradients}


def test_the_loss_scaler_of_fp16_is_read(tmp_path: Path) -> None:
    write_files(
        tmp_path, {"shard.pt": {"loss_scaler": DynamicLossScaler(2**16, 1000, 1, 2, False)}}
    )
    found = load_file(tmp_path / "shard.pt")["loss_scaler"]
    assert (type(found), found.cur_scale) == (DynamicLossScaler, 2**16)
