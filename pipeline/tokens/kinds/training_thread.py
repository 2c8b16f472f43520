"""Train a vocabulary in a thread of its own, and show its progress.

The trainers, in C++ or Rust, report nothing while they work: the terminal shows how much text they
have read, then the time.
"""

import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

from pipeline.logs import elapsed, human_bytes, progress
from pipeline.tokens.sample import Sample

TrainedT = TypeVar("TrainedT")
POLL_SECONDS = 0.2


def train_in_thread(
    train: Callable[[Iterator[str]], TrainedT], sample: Sample, vocab_size: int | None
) -> TrainedT:
    """Return what `train` makes of the sample's texts, while Ctrl-C and the display work.

    They work since the trainers release Python's lock. An error while the sample is read is raised
    here, even where a trainer has ignored it.
    """
    # The trainer gets a thread of its own.
    assert vocab_size is not None, "the run file is checked for it"
    results: list[TrainedT] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(train(sample.texts()))
        except BaseException as error:  # raised again below, in the main thread
            errors.append(error)

    thread = threading.Thread(target=run, name="learn", daemon=True)
    thread.start()

    # Show how much of the sample is read, then the time that learning takes.
    with progress("train-tokenizer: sample", sample.wanted_bytes, "bytes") as update:
        while thread.is_alive() and not sample.finished:
            thread.join(POLL_SECONDS)
            update(sample.progress, human_bytes(sample.bytes))
    label = f"train-tokenizer: learning {vocab_size:,} ids from {human_bytes(sample.bytes)}"
    with elapsed(label) as tick:
        while thread.is_alive():
            thread.join(POLL_SECONDS)
            tick()

    # A trainer that stops reading early closes the iterator, which is no error.
    if sample.error is not None and not isinstance(sample.error, GeneratorExit):
        raise sample.error
    if errors:
        raise errors[0]
    return results[0]
