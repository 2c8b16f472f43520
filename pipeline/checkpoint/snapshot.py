"""Copies of a state in host memory: training goes on while the copies are written to disk."""

import copy

import torch

from pipeline.checkpoint.files import Content


class HostMemory:
    """Holds the copies of one state.

    The next copies reuse the same memory, which by then is mapped and, for GPUs, pinned.
    """

    def __init__(self) -> None:
        self._storages: list[torch.UntypedStorage] = []
        self._used = 0

    @property
    def held_bytes(self) -> int:
        """Bytes of all copies."""
        return sum(storage.nbytes() for storage in self._storages)

    def begin(self) -> None:
        """Release the copies made so far: the next copies overwrite them."""
        self._used = 0

    def copy(self, state: Content) -> Content:
        """Copy nested dicts, lists and tuples with all their tensors.

        Call `wait` before the copies are read. Tensors that share a storage share its copy. Any
        other value is deep-copied.
        """
        return self._copied(state, {})

    def wait(self) -> None:
        """Wait until copies from a GPU have arrived."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    def _copied(
        self, value: Content, seen: dict[tuple[torch.device, int], torch.UntypedStorage]
    ) -> Content:
        if isinstance(value, torch.Tensor):
            return self._tensor(value.detach(), seen)
        if isinstance(value, list):
            return [self._copied(item, seen) for item in value]
        if isinstance(value, tuple) and not isinstance(value, torch.Size):
            return tuple(self._copied(item, seen) for item in value)
        if isinstance(value, dict):
            return {key: self._copied(item, seen) for key, item in value.items()}
        return copy.deepcopy(value)

    def _tensor(
        self, value: torch.Tensor, seen: dict[tuple[torch.device, int], torch.UntypedStorage]
    ) -> torch.Tensor:
        storage = value.untyped_storage()
        key = value.device, storage.data_ptr()
        if storage.nbytes() == 0 or key not in seen:
            seen[key] = self._storage(storage, value.device)
        copied = torch.empty(0, dtype=value.dtype)
        return copied.set_(seen[key], value.storage_offset(), value.size(), value.stride())

    def _storage(self, source: torch.UntypedStorage, device: torch.device) -> torch.UntypedStorage:
        size = source.nbytes()
        if self._used == len(self._storages):
            self._storages.append(_new_storage(size, device))
        elif self._storages[self._used].nbytes() != size:
            self._storages[self._used] = _new_storage(size, device)
        target = self._storages[self._used]
        self._used += 1
        if size:
            _bytes_of(target, torch.device("cpu")).copy_(
                _bytes_of(source, device), non_blocking=True
            )
        return target


def _new_storage(size: int, device: torch.device) -> torch.UntypedStorage:
    return torch.empty(size, dtype=torch.uint8, pin_memory=device.type == "cuda").untyped_storage()


def _bytes_of(storage: torch.UntypedStorage, device: torch.device) -> torch.Tensor:
    return torch.empty(0, dtype=torch.uint8, device=device).set_(storage)


def as_it_is(state: Content) -> Content:
    """Return a state that is written before training goes on, and needs no copy."""
    return state
