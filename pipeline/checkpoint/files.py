"""Reads the files of a checkpoint, which PyTorch pickled, without running code that they may hold.

No other module reads pickles.

A file is a zip archive: `data.pkl`, which can name any function, and one record of bytes for each
storage. It may name only what is listed here; PyTorch's restricted unpickler makes tensors,
numbers, text and containers of it. A storage has to be a whole record, no record is compressed
(PyTorch compresses none), and together they fit into their file.
"""

import copyreg
import errno
import io
import struct
import sys
import zipfile
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias, cast

import torch
from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
from deepspeed.runtime.zero.config import ZeroStageEnum
from deepspeed.utils.tensor_fragment import fragment_address
from torch import _weights_only_unpickler as restricted

from pipeline.errors import DataError, is_missing

CLASSES: tuple[type, ...] = (DynamicLossScaler, LossScaler, ZeroStageEnum, fragment_address)
"""Plain classes of DeepSpeed that its shards hold; their attributes are numbers."""
STORAGES = (
    "Bool",
    "Byte",
    "Char",
    "Short",
    "Int",
    "Long",
    "Half",
    "BFloat16",
    "Float",
    "Double",
    "Untyped",
)
NAMES = frozenset(
    [
        "collections.OrderedDict",
        "torch.Size",
        "torch.Tensor",
        "torch._tensor._rebuild_from_type_v2",
        "torch._utils._rebuild_parameter",
        "torch._utils._rebuild_tensor_v2",
        *(f"torch.{kind}Storage" for kind in STORAGES),
        *(str(dtype) for dtype in (torch.float16, torch.bfloat16, torch.float32)),
        *(f"{one.__module__}.{one.__qualname__}" for one in CLASSES),
    ]
)
"""All that a file may name. PyTorch's own list has more: some of it takes as much memory as a
number in the file says."""
LOCAL_HEADER = struct.Struct("<4s22xHH")
"""Before each record: a signature, and the lengths of its name and of what pads it. Source:
APPNOTE.TXT 6.3.10, 4.3.7."""
Content: TypeAlias = (
    Mapping[str | int, "Content"]
    | Sequence["Content"]
    | torch.Tensor
    | torch.Size
    | LossScaler
    | DynamicLossScaler
    | ZeroStageEnum
    | str
    | bytes
    | int
    | float
    | None
)
"""Types of values that a file of a checkpoint, or a part of one, may hold."""
CAUSE_CHARACTERS = 200
"""Characters of a cause that a message prints."""
# Python 3.11.2 would write a call of `getattr`, which no restricted reader makes.
copyreg.pickle(ZeroStageEnum, lambda stage: (ZeroStageEnum, (stage.value,)))


class ArchiveRecord(NamedTuple):
    """The place of a record in the file of its archive, in bytes."""

    begin: int
    size: int


Fetch = Callable[[ArchiveRecord], torch.UntypedStorage]


def load_file(path: Path, *, mmap: bool = False) -> Any:
    """Return the content of a file, with its tensors in host memory; the caller declares its type.

    With `mmap` the tensors are mapped from the file, and not yet read. Raises DataError where the
    file is missing or is not what a save writes; MemoryError or OSError where memory, permissions
    or the file system are at fault.
    """
    with decoding_file(path), path.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        records = _records(file, size)
        content = _bytes_of(file, records["data.pkl"])
        if _bytes_of(file, records["byteorder"]).decode() != sys.byteorder:
            raise ValueError("was written by a machine with another order of bytes")
        unknown = restricted.get_globals_in_pkl(io.BytesIO(content)) - NAMES
        if unknown:
            raise ValueError(
                f"refers to {', '.join(sorted(unknown))} of Python, which this program never saves"
            )
        fetch = _copied(file)
        if mmap:
            fetch = _mapped(path, size)
        with torch.serialization.safe_globals([*CLASSES]):
            return _Decoder(content, records, fetch).load()


@contextmanager
def decoding_file(path: Path) -> Generator[None]:
    """Turn every failure to decode a file into a DataError that names the file.

    Errors of memory and of the file system are passed on: the file may be good.
    """
    try:
        yield
    except (MemoryError, DataError):
        raise
    except Exception as error:
        # EINVAL: an offset read from a damaged file may lie before the file's beginning.
        if isinstance(error, OSError) and not is_missing(error) and error.errno != errno.EINVAL:
            raise
        cause = ascii(str(error).partition("\n")[0])[1:-1][:CAUSE_CHARACTERS]
        raise DataError(
            f"{path}: damaged, or not written by a save ({type(error).__name__}: {cause})"
        ) from None


def _records(file: io.BufferedReader, size: int) -> dict[str, ArchiveRecord]:
    """Return the records of an archive by their names below its one folder.

    Raises ValueError where a record is compressed, repeated, or lies outside the file.
    """
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
    records: dict[str, ArchiveRecord] = {}
    total = 0
    for entry in entries:
        total += entry.file_size
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            raise ValueError("has compressed records")
        if total > size:
            raise ValueError(f"its records are larger than its {size:,} bytes")
        file.seek(entry.header_offset)
        signature, name_length, padding = LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))
        begin = entry.header_offset + LOCAL_HEADER.size + name_length + padding
        if signature != b"PK\3\4" or begin + entry.file_size > size:
            raise ValueError("has a record that is missing or extends beyond the end of the file")
        _, _, name = entry.filename.partition("/")
        if name in records:
            raise ValueError("has two records of the same name")
        records[name] = ArchiveRecord(begin, entry.file_size)
    return records


def _bytes_of(file: io.BufferedReader, record: ArchiveRecord) -> bytes:
    file.seek(record.begin)
    return file.read(record.size)


def _mapped(path: Path, size: int) -> Fetch:
    """Return a function that maps records of a file privately: changes never reach the file."""
    try:
        whole = torch.UntypedStorage.from_file(str(path), False, size)
    except RuntimeError as error:
        # The file was opened a moment ago, so memory or open files have run out.
        raise MemoryError(str(error)) from None

    def fetch(record: ArchiveRecord) -> torch.UntypedStorage:
        part = cast("torch.UntypedStorage | int", whole[record.begin : record.begin + record.size])
        assert isinstance(part, torch.UntypedStorage)
        return part

    return fetch


def _copied(file: io.BufferedReader) -> Fetch:
    """Return a function that reads records of a file."""

    def fetch(record: ArchiveRecord) -> torch.UntypedStorage:
        try:
            storage = torch.UntypedStorage(record.size)
        except RuntimeError as error:  # what an allocator that has no memory raises
            raise MemoryError(str(error)) from None
        file.seek(record.begin)
        target = torch.empty(0, dtype=torch.uint8).set_(storage).numpy().data
        if record.size and file.readinto(target) != record.size:
            raise EOFError("ends within a record")
        return storage

    return fetch


class _StorageKind(Protocol):
    """A class that torch names for the storage of a tensor, such as `torch.FloatStorage`."""

    dtype: torch.dtype


class _Decoder(restricted.Unpickler):
    """PyTorch's restricted unpickler over the records of one file."""

    def __init__(self, content: bytes, records: Mapping[str, ArchiveRecord], fetch: Fetch) -> None:
        super().__init__(io.BytesIO(content), encoding="utf-8")
        self._records = records
        self._fetch = fetch
        self._storages: dict[str, torch.UntypedStorage] = {}

    def persistent_load(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, pid: tuple[str, _StorageKind, str, str, int]
    ) -> torch.TypedStorage:
        """Return a storage in host memory, on whatever device its tensors were saved.

        `pid`: "storage", kind, name of the record, device, number of elements.
        """
        _, kind, key, _, elements = pid
        dtype: torch.dtype = getattr(kind, "dtype", torch.uint8)
        record = self._records[f"data/{key}"]
        if elements * dtype.itemsize != record.size:
            raise ValueError(
                f"a storage has {record.size:,} bytes instead of {elements * dtype.itemsize:,}"
            )
        if key not in self._storages:
            self._storages[key] = self._fetch(record)
        return torch.TypedStorage(wrap_storage=self._storages[key], dtype=dtype, _internal=True)
