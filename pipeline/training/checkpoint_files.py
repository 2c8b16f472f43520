"""Reading a checkpoint's files without running code that they may hold.

They are pickles, which can name any function. PyTorch's restricted unpickler makes tensors, numbers, text and containers of
them, and beside those only the classes named here; a file with anything else is refused.
"""

import copyreg
import pickle
from pathlib import Path
from typing import Any

import torch
from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
from deepspeed.runtime.zero.config import ZeroStageEnum
from deepspeed.utils.tensor_fragment import fragment_address

from pipeline.errors import DataError

ALLOWED: list[Any] = [DynamicLossScaler, LossScaler, ZeroStageEnum, fragment_address]
"""Plain classes of DeepSpeed that its shards hold: numbers with names."""
# Python 3.11.2 would write a call of `getattr`, which no restricted reader makes.
copyreg.pickle(ZeroStageEnum, lambda stage: (ZeroStageEnum, (stage.value,)))


def load_file(path: Path, map_location: Any = "cpu", *, mmap: bool = False) -> Any:
    """Return what a file holds; raises DataError where it cannot be read, or names something that is not allowed."""
    try:
        with torch.serialization.safe_globals(ALLOWED):
            return torch.load(path, map_location=map_location, mmap=mmap, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError) as error:
        raise DataError(f"{path}: cannot be read as a checkpoint's file: {str(error).splitlines()[0]}") from None
